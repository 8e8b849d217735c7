//! What the kernel says, and what becomes of it.

use std::cell::RefMut;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

use io_uring::cqueue;

use super::Uring;
use super::requests::Inner;
use super::ring::Entry;
use super::slot::kind;
use crate::driver::{HOT, READS, Sink, is_transient_accept, read_into};
use crate::op::{Completion, Interest, Token};
use crate::sys;

/// A receive of this many bytes makes a stream a bulk stream.
const BULK: usize = 16 * 1024;
/// So many reads below so many bytes make it an ordinary one again.
const LEAN: usize = 4 * 1024;
const LEAN_READS: u8 = 16;

impl Uring {
    /// Delivers what was stashed for a token whose operation is wanted again.
    pub fn deliver(&self, token: Token, sink: &mut dyn Sink) {
        loop {
            let Some(mut inner) = self.inner() else {
                return;
            };
            let Some(slot) = inner.slot(token) else {
                return;
            };
            let Some(stash) = &mut slot.stash else { return };
            if slot.wanted & kind::ACCEPT != 0
                && let Some(fd) = stash.accepted.pop_front()
            {
                drop(inner);
                sink.complete(token, Completion::Accepted(Ok(fd)));
                continue;
            }
            if slot.wanted & kind::RECEIVE == 0 {
                return;
            }
            if !stash.bytes.is_empty() {
                let bytes = std::mem::take(&mut stash.bytes);
                drop(inner);
                sink.complete(token, Completion::Received(&bytes));
            } else if let Some(end) = stash.end.take() {
                slot.wanted &= !kind::RECEIVE;
                slot.stash = None;
                drop(inner);
                sink.complete(token, Completion::ReceiveEnded(end));
            } else {
                if stash.accepted.is_empty() {
                    slot.stash = None;
                }
                return;
            }
        }
    }

    /// One completion of the kernel's.
    pub fn completed(&self, entry: Entry, sink: &mut dyn Sink) {
        let kind = (entry.data >> 56) as u8;
        let Some(mut inner) = self.inner() else {
            return;
        };
        let found = inner.token(entry.data);
        match (kind, found) {
            (kind::CANCEL, _) => {}
            (_, None) => inner.bury(entry),
            (kind::RECEIVE, Some(token)) if inner.slots[token.index()].polls => {
                inner.disarm(token, kind::RECEIVE, entry.flags);
                drop(inner);
                if entry.result >= 0 {
                    self.read(token, sink);
                }
            }
            (kind::RECEIVE, Some(token)) => self.received(inner, token, entry, sink),
            (kind::SEND, Some(token)) => {
                let Some(slot) = inner.slot(token) else {
                    return;
                };
                slot.armed &= !kind::SEND;
                let Some(sent) = slot.send.take() else { return };
                drop(inner);
                let result = match usize::try_from(entry.result) {
                    Ok(count) => Ok(count),
                    Err(_) => Err(io::Error::from_raw_os_error(-entry.result)),
                };
                sink.complete(token, Completion::Sent(sent.queue, result));
            }
            (kind::ACCEPT, Some(token)) => self.accepted(inner, token, entry, sink),
            (kind::CONNECT, Some(token)) => {
                inner.disarm(token, kind::CONNECT, entry.flags);
                let Some(slot) = inner.slot(token) else {
                    return;
                };
                slot.address = None;
                if slot.wanted & kind::CONNECT == 0 {
                    return;
                }
                slot.wanted &= !kind::CONNECT;
                drop(inner);
                let result = match entry.result {
                    0 => Ok(()),
                    failed => Err(io::Error::from_raw_os_error(-failed)),
                };
                sink.complete(token, Completion::Connected(result));
            }
            (kind::WATCH, Some(token)) => self.watched(inner, token, entry, sink),
            _ => {}
        }
    }

    fn received<'a>(
        &'a self,
        mut inner: RefMut<'a, Inner>,
        token: Token,
        entry: Entry,
        sink: &mut dyn Sink,
    ) {
        inner.disarm(token, kind::RECEIVE, entry.flags);
        if entry.result > 0 {
            let Some(id) = cqueue::buffer_select(entry.flags) else {
                return;
            };
            let (bytes, spent) = inner.buffers.take(id, entry.result as usize, entry.flags);
            // SAFETY: the kernel wrote these bytes and will not touch them again before the buffer is
            // given back, below; the mapping lives as long as the driver.
            let bytes = unsafe { bytes.as_ref() };
            let Some(slot) = inner.slot(token) else {
                return;
            };
            slot.fed = true;
            if bytes.len() >= BULK && !slot.bulk {
                (slot.bulk, slot.lean) = (true, 0);
                inner.list(token);
            }
            let Some(slot) = inner.slot(token) else { return };
            if slot.wanted & kind::RECEIVE != 0 && slot.stash.is_none() {
                drop(inner);
                sink.complete(token, Completion::Received(bytes));
                let Some(again) = self.inner() else { return };
                inner = again;
            } else {
                slot.stash.get_or_insert_default().bytes.extend_from_slice(bytes);
                inner.list(token);
            }
            if let Some(id) = spent {
                inner.buffers.give_back(id);
            }
            return;
        }
        let end = match -entry.result {
            0 => Ok(()),
            libc::ENOBUFS => {
                if inner.slot(token).is_some_and(|slot| !slot.fed) {
                    inner.hungry.push(token);
                }
                return;
            }
            // Told to end: `disarm` has listed it to be armed again if it is wanted.
            libc::ECANCELED | libc::EINTR | libc::EAGAIN => return,
            errno => Err(io::Error::from_raw_os_error(errno)),
        };
        let Some(slot) = inner.slot(token) else {
            return;
        };
        if slot.wanted & kind::RECEIVE != 0 && slot.stash.is_none() {
            slot.wanted &= !kind::RECEIVE;
            drop(inner);
            sink.complete(token, Completion::ReceiveEnded(end));
        } else {
            slot.stash.get_or_insert_default().end = Some(end);
            inner.list(token);
        }
    }

    /// Reads what there is into the one hot buffer, as the readiness back ends do: see "Bulk".
    fn read(&self, token: Token, sink: &mut dyn Sink) {
        let mut hot = self.hot.take().unwrap_or_else(|| vec![0; HOT].into_boxed_slice());
        for _ in 0..READS {
            let Some(mut inner) = self.inner() else { break };
            let Some(slot) = inner.slot(token) else { break };
            // What is stashed comes first; who paused and resumed just now has it in the next turn.
            if slot.wanted & kind::RECEIVE == 0 || slot.stash.is_some() {
                break;
            }
            let (fd, last) = (slot.fd, slot.last as usize);
            drop(inner);
            let read = read_into(fd, (token, last), &mut hot, sink);
            let Some(mut inner) = self.inner() else { break };
            let Some(slot) = inner.slot(token) else { break };
            if let Ok(count) = read.result {
                slot.last = count as u32;
                slot.lean = if count < LEAN { slot.lean + 1 } else { 0 };
                slot.bulk = slot.lean < LEAN_READS;
            }
            let end = match read.result {
                Ok(0) => Ok(()),
                Ok(count) => {
                    drop(inner);
                    sink.complete(token, read.completion(count, &hot));
                    if count < read.size {
                        break;
                    }
                    continue;
                }
                Err(error) if sys::would_block(&error) => break,
                Err(error) => Err(error),
            };
            slot.wanted &= !kind::RECEIVE;
            drop(inner);
            sink.complete(token, Completion::ReceiveEnded(end));
            break;
        }
        self.hot.set(Some(hot));
    }

    fn accepted(
        &self,
        mut inner: RefMut<'_, Inner>,
        token: Token,
        entry: Entry,
        sink: &mut dyn Sink,
    ) {
        inner.disarm(token, kind::ACCEPT, entry.flags);
        let Some(slot) = inner.slot(token) else {
            return;
        };
        if entry.result >= 0 {
            // SAFETY: the kernel just made this descriptor for us and nobody else knows it.
            let fd = unsafe { OwnedFd::from_raw_fd(entry.result) };
            if slot.wanted & kind::ACCEPT != 0 {
                drop(inner);
                sink.complete(token, Completion::Accepted(Ok(fd)));
            } else {
                slot.stash.get_or_insert_default().accepted.push_back(fd);
            }
            return;
        }
        let error = io::Error::from_raw_os_error(-entry.result);
        let again = is_transient_accept(&error)
            || matches!(-entry.result, libc::ECANCELED | libc::EINTR | libc::EAGAIN);
        if !again && slot.wanted & kind::ACCEPT != 0 {
            slot.wanted &= !kind::ACCEPT;
            drop(inner);
            sink.complete(token, Completion::Accepted(Err(error)));
        }
    }

    fn watched(
        &self,
        mut inner: RefMut<'_, Inner>,
        token: Token,
        entry: Entry,
        sink: &mut dyn Sink,
    ) {
        inner.disarm(token, kind::WATCH, entry.flags);
        if token == self.wake {
            inner.event.lower();
            inner.list(token);
            return;
        }
        let Some(slot) = inner.slot(token) else {
            return;
        };
        let ready = match entry.result {
            bits if bits >= 0 => from_poll(bits as u32),
            cancelled if cancelled == -libc::ECANCELED => Interest::NONE,
            // Its owner closed it: said once, and no more of it.
            _ => {
                let asked = std::mem::replace(&mut slot.watching, Interest::NONE);
                slot.wanted &= !kind::WATCH;
                drop(inner);
                return sink.complete(token, Completion::Ready(asked));
            }
        };
        let ready = ready.and(slot.watching);
        // Level-triggered: it is asked again before the next sleep.
        inner.list(token);
        drop(inner);
        if !ready.is_empty() {
            sink.complete(token, Completion::Ready(ready));
        }
    }
}

fn from_poll(bits: u32) -> Interest {
    let bits = bits as i16;
    if bits & (libc::POLLERR | libc::POLLHUP) != 0 {
        return Interest::BOTH;
    }
    let mut ready = Interest::NONE;
    if bits & (libc::POLLIN | libc::POLLRDHUP | libc::POLLPRI) != 0 {
        ready = ready.with(Interest::READ);
    }
    if bits & libc::POLLOUT != 0 {
        ready = ready.with(Interest::WRITE);
    }
    ready
}
