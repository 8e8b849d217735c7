//! The end of requests whose outcome somebody wants to have: an accept that stops, a stream that moves.
//!
//! A request that is cancelled may have done its work all the same: a multishot accept takes connections off the backlog
//! by itself, a receive copies bytes out of the socket. Detaching drops what comes then, and nobody would close those
//! connections properly or have those bytes. So the outcome is waited for, which takes no time: a cancelled request
//! completes within the call that submits the cancel.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::time::Duration;

use io_uring::{cqueue, opcode};

use super::requests::{Inner, quiet};
use super::ring::Entry;
use super::slot::{kind, user_data};
use crate::driver::Withdrawn;
use crate::op::Token;

/// Calls within which the kernel must have ended it. One is enough, as far as was seen.
const CALLS: usize = 16;

impl Inner {
    /// Ends an accept now: what it has brought, and what was set aside while it was not wanted.
    pub fn stop_accepting(&mut self, token: Token) -> io::Result<Vec<OwnedFd>> {
        let Some(slot) = self.slot(token) else {
            return Err(io::Error::from_raw_os_error(libc::ENOENT));
        };
        slot.wanted &= !kind::ACCEPT;
        let stash = slot.stash.as_mut().map(|stash| std::mem::take(&mut stash.accepted));
        let mut taken: Vec<OwnedFd> = stash.unwrap_or_default().into();
        if self.forked() {
            return Ok(taken);
        }
        self.bind()?;
        self.list(token);
        self.outcomes(token, kind::ACCEPT, |inner, entry| {
            inner.disarm(token, kind::ACCEPT, entry.flags);
            if entry.result >= 0 {
                // SAFETY: the kernel just made this descriptor for us and nobody else knows it.
                taken.push(unsafe { OwnedFd::from_raw_fd(entry.result) });
            }
        })?;
        Ok(taken)
    }

    /// Ends the receive and the send of a stream now.
    pub fn withdraw(&mut self, token: Token) -> io::Result<Withdrawn> {
        let forked = self.forked();
        if !forked {
            self.bind()?;
        }
        let Some(slot) = self.slot(token) else {
            return Err(io::Error::from_raw_os_error(libc::ENOENT));
        };
        slot.wanted &= !kind::RECEIVE;
        let mut found = Withdrawn::default();
        if let Some(stash) = slot.stash.take() {
            (found.received, found.end) = (stash.bytes, stash.end);
        }
        if slot.armed & kind::SEND == 0 {
            // The kernel has not heard of it.
            found.sending = slot.send.take().map(|sent| (sent.queue, Ok(0)));
        }
        if forked {
            return Ok(found);
        }
        if slot.armed & kind::SEND != 0 {
            let cancel = opcode::AsyncCancel::new(user_data(kind::SEND, token)).build();
            // SAFETY: the entry names no memory.
            unsafe { self.ring.push(&quiet(cancel))? };
        }
        self.list(token);
        let ended = self.outcomes(token, kind::RECEIVE | kind::SEND, |inner, entry| {
            if (entry.data >> 56) as u8 == kind::SEND {
                inner.take_back(token, &entry, &mut found);
            } else {
                inner.take_received(token, &entry, &mut found);
            }
        })?;
        if !ended {
            // Told later, as if it had come while it was not wanted. The send's completion comes by itself.
            if let Some(slot) = self.slot(token) {
                let stash = slot.stash.get_or_insert_default();
                (stash.bytes, stash.end) = (found.received, found.end);
            }
            return Err(io::Error::from_raw_os_error(libc::EAGAIN));
        }
        Ok(found)
    }

    /// A send has ended: its queue comes back.
    fn take_back(&mut self, token: Token, entry: &Entry, found: &mut Withdrawn) {
        let Some(slot) = self.slot(token) else { return };
        slot.armed &= !kind::SEND;
        let Some(sent) = slot.send.take() else { return };
        let result = match usize::try_from(entry.result) {
            Ok(count) => Ok(count),
            Err(_) if -entry.result == libc::ECANCELED => Ok(0),
            Err(_) => Err(io::Error::from_raw_os_error(-entry.result)),
        };
        found.sending = Some((sent.queue, result));
    }

    /// A receive has brought something, or has ended.
    fn take_received(&mut self, token: Token, entry: &Entry, found: &mut Withdrawn) {
        self.disarm(token, kind::RECEIVE, entry.flags);
        if self.slot(token).is_none_or(|slot| slot.polls) {
            return; // It was a poll: what it told of is in the socket.
        }
        if entry.result > 0 {
            let Some(id) = cqueue::buffer_select(entry.flags) else { return };
            let (bytes, spent) = self.buffers.take(id, entry.result as usize, entry.flags);
            // SAFETY: the kernel wrote these bytes and will not touch them again before the buffer is given back.
            found.received.extend_from_slice(unsafe { bytes.as_ref() });
            if let Some(id) = spent {
                self.buffers.give_back(id);
            }
            return;
        }
        found.end = match -entry.result {
            0 => Some(Ok(())),
            libc::ENOBUFS | libc::ECANCELED | libc::EINTR | libc::EAGAIN => return,
            errno => Some(Err(io::Error::from_raw_os_error(errno))),
        };
    }

    /// A completion of somebody else, for the next wait. Received bytes are copied out now: buffers are filled one after
    /// the other, across connections, and must be read in that order.
    fn set_aside(&mut self, entry: Entry) {
        let is_data = (entry.data >> 56) as u8 == kind::RECEIVE && entry.result > 0;
        let Some(id) = cqueue::buffer_select(entry.flags).filter(|_| is_data) else {
            self.left.push(entry);
            return;
        };
        let Some(token) = self.token(entry.data) else {
            self.bury(entry);
            return;
        };
        self.disarm(token, kind::RECEIVE, entry.flags);
        let (bytes, spent) = self.buffers.take(id, entry.result as usize, entry.flags);
        if let Some(slot) = self.slot(token) {
            slot.fed = true;
            // SAFETY: the kernel wrote these bytes and will not touch them again before the buffer is given back.
            let bytes = unsafe { bytes.as_ref() };
            slot.stash.get_or_insert_default().bytes.extend_from_slice(bytes);
        }
        if let Some(id) = spent {
            self.buffers.give_back(id);
        }
        self.list(token);
    }

    /// Submits what is queued, and hands on the completions of `token` of these kinds until none of them is armed.
    /// Whether that came to be. The completions of others are for the next wait.
    fn outcomes(
        &mut self,
        token: Token,
        kinds: u8,
        mut take: impl FnMut(&mut Self, Entry),
    ) -> io::Result<bool> {
        self.arm()?;
        // Those of a ring that was left behind are older than all others.
        let mut entries = std::mem::take(&mut self.left);
        for call in 0..=CALLS {
            for entry in entries.drain(..) {
                let ours = (entry.data >> 56) as u8 & kinds != 0
                    && (entry.data >> 56) as u8 & !kinds == 0
                    && self.token(entry.data) == Some(token);
                if ours {
                    take(self, entry);
                } else {
                    self.set_aside(entry);
                }
            }
            if self.slot(token).is_none_or(|slot| slot.armed & kinds == 0) {
                return Ok(true);
            }
            if call < CALLS {
                self.ring.enter(0, Some(Duration::ZERO))?;
                self.ring.reap(&mut entries);
            }
        }
        Ok(false)
    }
}
