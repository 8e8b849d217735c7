//! What is kept for one token, and what the poller was told of it.

use std::collections::VecDeque;
use std::io;
use std::os::fd::RawFd;
use std::sync::Arc;

use crate::buffer::SendQueue;
use crate::driver::closed;
use crate::op::{Interest, Role, Token};
use crate::sys;

use super::{Poller, Trigger};

/// What a slot was asked to do.
pub mod want {
    pub const ACCEPT: u8 = 1;
    pub const RECEIVE: u8 = 2;
    pub const CONNECT: u8 = 4;
}

pub struct Slot {
    pub generation: u32,
    pub fd: RawFd,
    pub role: Role,
    /// Registered once, for everything: the poller is not told of changes.
    pub edge: bool,
    /// `want::*`, what is in progress.
    pub wanted: u8,
    /// What `Watch` asked for.
    pub watching: Interest,
    /// What the poller was told, level-triggered only.
    pub registered: Interest,
    /// Directions that may be tried: set by a report, cleared by EAGAIN or a short read.
    pub ready: Interest,
    /// A short read may be taken for "drained".
    pub conclusive: bool,
    /// What the last receive brought, bytes.
    pub last: u32,
    /// The errno of a connect that failed within its call, or 0.
    pub refused: i32,
    /// Stands in `again`.
    pub listed: bool,
    pub attached: bool,
    /// A send that met a full socket buffer.
    pub pending: Option<Box<SendQueue>>,
}

impl Slot {
    pub fn interest(&self) -> Interest {
        let mut interest = self.watching;
        if self.wanted & (want::ACCEPT | want::RECEIVE) != 0 {
            interest = interest.with(Interest::READ);
        }
        if self.wanted & want::CONNECT != 0 || self.pending.is_some() {
            interest = interest.with(Interest::WRITE);
        }
        interest
    }
}

pub struct Inner<P> {
    /// None once closed; then there are no slots either.
    pub poller: Option<P>,
    pub event: Option<Arc<sys::Event>>,
    pub slots: Vec<Slot>,
    pub free: Vec<u32>,
    pub again: VecDeque<Token>,
}

impl<P: Poller> Inner<P> {
    #[inline]
    pub fn slot(&mut self, token: Token) -> Option<&mut Slot> {
        let slot = self.slots.get_mut(token.index())?;
        (slot.attached && slot.generation == token.generation()).then_some(slot)
    }

    pub fn insert(&mut self, fd: RawFd, role: Role) -> Token {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot {
                generation: 0,
                fd: -1,
                role,
                edge: false,
                wanted: 0,
                watching: Interest::NONE,
                registered: Interest::NONE,
                ready: Interest::NONE,
                conclusive: true,
                last: 0,
                refused: 0,
                listed: false,
                attached: false,
                pending: None,
            });
            (self.slots.len() - 1) as u32
        });
        let slot = &mut self.slots[index as usize];
        let generation = slot.generation;
        *slot = Slot {
            generation,
            fd,
            role,
            edge: false,
            wanted: 0,
            watching: Interest::NONE,
            registered: Interest::NONE,
            ready: Interest::NONE,
            conclusive: true,
            last: 0,
            refused: 0,
            listed: false,
            attached: true,
            pending: None,
        };
        Token::new(index, generation)
    }

    pub fn release(&mut self, token: Token) {
        let slot = &mut self.slots[token.index()];
        slot.attached = false;
        slot.pending = None;
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(token.index() as u32);
    }

    /// Tells a level-triggered poller what the slot now waits for.
    pub fn sync(&mut self, token: Token) -> io::Result<()> {
        let Some(slot) = self.slot(token) else {
            return Ok(());
        };
        if P::EDGE && slot.edge {
            return Ok(());
        }
        let (fd, before, after) = (slot.fd, slot.registered, slot.interest());
        if before == after {
            return Ok(());
        }
        slot.registered = after;
        let Some(poller) = &mut self.poller else {
            return Err(closed());
        };
        let result = if after.is_empty() {
            poller.remove(fd, token);
            Ok(())
        } else if before.is_empty() {
            poller.add(fd, token, after, Trigger::Level)
        } else {
            poller.modify(fd, token, after)
        };
        if result.is_err()
            && let Some(slot) = self.slot(token)
        {
            slot.registered = before;
        }
        result
    }

    /// Asked for once more, nothing changed. But the owner of a watched descriptor may have closed it without a
    /// word, and the number be in use again: the poller is told again, too.
    pub fn renew(&mut self, token: Token) -> io::Result<()> {
        let Some(slot) = self.slot(token) else {
            return Ok(());
        };
        let (fd, registered) = (slot.fd, slot.registered);
        match &mut self.poller {
            Some(poller) if !registered.is_empty() => poller.modify(fd, token, registered),
            _ => Ok(()),
        }
    }

    /// Notes that `token` can make progress without a new report.
    pub fn list(&mut self, token: Token) {
        if let Some(slot) = self.slot(token)
            && !slot.listed
        {
            slot.listed = true;
            self.again.push_back(token);
        }
    }
}
