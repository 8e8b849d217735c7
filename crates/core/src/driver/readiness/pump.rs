//! From "you may try" to "it is done": receives, accepts, connects and sends that are tried now.

use std::io;

use crate::driver::{HOT, READS, Sink, is_transient_accept, read_into, send_front};
use crate::op::{Completion, Interest, Role, Token};
use crate::sys;

use super::slots::want;
use super::{Poller, Readiness};

/// Accepts of one listener in one turn.
const ACCEPTS: usize = 64;

impl<P: Poller> Readiness<P> {
    /// Does what `token` may do now. Called after a report and for those in `again`.
    pub(super) fn pump(&self, token: Token, sink: &mut dyn Sink) {
        let (role, watched) = {
            let mut inner = self.inner.borrow_mut();
            let Some(slot) = inner.slot(token) else {
                return;
            };
            (slot.role, slot.ready.and(slot.watching))
        };
        match role {
            Role::Stream => {
                self.pump_connect(token, sink);
                self.pump_send(token, sink);
                self.pump_receive(token, sink);
            }
            Role::Listener => self.pump_accept(token, sink),
            Role::Watched if token == self.wake => {
                if let Some(event) = &self.inner.borrow().event {
                    event.lower();
                }
            }
            Role::Watched => {
                if !watched.is_empty() {
                    sink.complete(token, Completion::Ready(watched));
                }
                // Level-triggered: the poller says it again while it is so.
                if let Some(slot) = self.inner.borrow_mut().slot(token) {
                    slot.ready = Interest::NONE;
                }
            }
        }
    }

    fn pump_receive(&self, token: Token, sink: &mut dyn Sink) {
        let mut hot = self.hot.take().unwrap_or_else(|| vec![0; HOT].into_boxed_slice());
        for _ in 0..READS {
            let (fd, conclusive, last) = {
                let mut inner = self.inner.borrow_mut();
                match inner.slot(token) {
                    Some(slot)
                        if slot.wanted & want::RECEIVE != 0
                            && slot.ready.intersects(Interest::READ) =>
                    {
                        (slot.fd, slot.conclusive, slot.last as usize)
                    }
                    _ => {
                        drop(inner);
                        self.hot.set(Some(hot));
                        return;
                    }
                }
            };
            let read = read_into(fd, (token, last), &mut hot, sink);
            let drained = match &read.result {
                Ok(0) => true,
                Ok(count) => conclusive && *count < read.size,
                Err(_) => true,
            };
            let ended = match &read.result {
                Ok(count) => *count == 0,
                Err(error) => !sys::would_block(error),
            };
            {
                let mut inner = self.inner.borrow_mut();
                if let Some(slot) = inner.slot(token) {
                    if let Ok(count) = read.result {
                        slot.last = count as u32;
                    }
                    if ended {
                        slot.wanted &= !want::RECEIVE;
                    } else if drained {
                        slot.ready = slot.ready.without(Interest::READ);
                        slot.conclusive = true;
                    }
                }
                if ended {
                    // The interest only shrinks; no poller refuses that.
                    let _ = inner.sync(token);
                }
            }
            match read.result {
                Ok(0) => sink.complete(token, Completion::ReceiveEnded(Ok(()))),
                Ok(count) => sink.complete(token, read.completion(count, &hot)),
                Err(error) if sys::would_block(&error) => {}
                Err(error) => sink.complete(token, Completion::ReceiveEnded(Err(error))),
            }
            if drained || ended {
                self.hot.set(Some(hot));
                return;
            }
        }
        self.hot.set(Some(hot));
        self.inner.borrow_mut().list(token);
    }

    fn pump_accept(&self, token: Token, sink: &mut dyn Sink) {
        for _ in 0..ACCEPTS {
            let fd = {
                let mut inner = self.inner.borrow_mut();
                match inner.slot(token) {
                    Some(slot)
                        if slot.wanted & want::ACCEPT != 0
                            && slot.ready.intersects(Interest::READ) =>
                    {
                        slot.fd
                    }
                    _ => return,
                }
            };
            match sys::accept(fd) {
                Ok(new) => sink.complete(token, Completion::Accepted(Ok(new))),
                Err(error) => match error.raw_os_error() {
                    Some(libc::EAGAIN) => {
                        if let Some(slot) = self.inner.borrow_mut().slot(token) {
                            slot.ready = slot.ready.without(Interest::READ);
                        }
                        return;
                    }
                    _ if is_transient_accept(&error) => {}
                    // No descriptors, no memory, or not a listener. The listener stays ready: the
                    // next `Accept` tries at once.
                    _ => {
                        let mut inner = self.inner.borrow_mut();
                        if let Some(slot) = inner.slot(token) {
                            slot.wanted &= !want::ACCEPT;
                        }
                        let _ = inner.sync(token);
                        drop(inner);
                        sink.complete(token, Completion::Accepted(Err(error)));
                        return;
                    }
                },
            }
        }
        self.inner.borrow_mut().list(token);
    }

    fn pump_connect(&self, token: Token, sink: &mut dyn Sink) {
        let (fd, refused) = {
            let mut inner = self.inner.borrow_mut();
            match inner.slot(token) {
                Some(slot)
                    if slot.wanted & want::CONNECT != 0
                        && slot.ready.intersects(Interest::WRITE) =>
                {
                    (slot.fd, slot.refused)
                }
                _ => return,
            }
        };
        // epoll reports a socket that has not begun to connect as hung up, so readiness alone does
        // not mean that it ended: connect(2) says to ask SO_ERROR, and a name proves success.
        let result = match sys::take_error(fd) {
            _ if refused != 0 => Err(io::Error::from_raw_os_error(refused)),
            Ok(()) => match sys::peer_name(fd) {
                Ok(_) => Ok(()),
                Err(_) => {
                    if let Some(slot) = self.inner.borrow_mut().slot(token) {
                        slot.ready = slot.ready.without(Interest::WRITE);
                    }
                    return;
                }
            },
            Err(error) => Err(error),
        };
        {
            let mut inner = self.inner.borrow_mut();
            if let Some(slot) = inner.slot(token) {
                slot.wanted &= !want::CONNECT;
            }
            let _ = inner.sync(token);
        }
        sink.complete(token, Completion::Connected(result));
    }

    fn pump_send(&self, token: Token, sink: &mut dyn Sink) {
        let (fd, queue) = {
            let mut inner = self.inner.borrow_mut();
            match inner.slot(token) {
                Some(slot) if slot.ready.intersects(Interest::WRITE) => {
                    let Some(queue) = slot.pending.take() else {
                        return;
                    };
                    (slot.fd, queue)
                }
                _ => return,
            }
        };
        let result = send_front(fd, &queue);
        let mut inner = self.inner.borrow_mut();
        let Some(slot) = inner.slot(token) else {
            return;
        };
        match result {
            Err(error) if sys::would_block(&error) => {
                slot.ready = slot.ready.without(Interest::WRITE);
                slot.pending = Some(queue);
            }
            result => {
                let _ = inner.sync(token);
                drop(inner);
                sink.complete(token, Completion::Sent(*queue, result));
            }
        }
    }
}
