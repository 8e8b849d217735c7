//! Peers that do not take what is sent to them: what then becomes of messages, and of the connection.

use std::rc::Rc;

use pyo3::prelude::*;
use wireway_core::outbox::{Outbox, Policy, Pushed};

use crate::event_loop::LoopCore;
use crate::memory::Shared;
use crate::outcome::Outcome;
use crate::server::fanout::Manner;
use crate::server::options::WhenSlow;

use super::{Connection, Flag};

impl Connection {
    /// Queues a message that is framed already and shared with other connections. `None`: a connection
    /// that is closing takes none, nor one whose `on_connect` is still to come.
    pub fn post(
        &self,
        slf: &Bound<'_, Self>,
        core: &Bound<'_, LoopCore>,
        message: &Shared,
        manner: &Manner,
    ) -> PyResult<Option<Outcome>> {
        if self.flags.any(Flag::CLOSING | Flag::HALF | Flag::HEADER | Flag::SHAKING) {
            return Ok(None);
        }
        if self.flags.any(Flag::PRESSED) {
            return self.post_slow(slf, core, message, manner);
        }
        self.post_now(slf, core, message)?;
        Ok(self.outcome())
    }

    fn post_now(
        &self,
        slf: &Bound<'_, Self>,
        core: &Bound<'_, LoopCore>,
        message: &Shared,
    ) -> PyResult<()> {
        let pool = &core.get().reactor.pool;
        self.conn.borrow_mut().keep(pool, Box::new(message.clone()));
        self.queued_more(slf, core, message.len())
    }

    /// The same where more than the high watermark waits already.
    #[cold]
    pub(super) fn post_slow(
        &self,
        slf: &Bound<'_, Self>,
        core: &Bound<'_, LoopCore>,
        message: &Shared,
        manner: &Manner,
    ) -> PyResult<Option<Outcome>> {
        let options = &self.server.get().options;
        let key: Option<Rc<[u8]>> = match manner.when_slow.unwrap_or(options.when_slow) {
            WhenSlow::Pause => {
                self.post_now(slf, core, message)?;
                return Ok(self.outcome());
            }
            WhenSlow::Close => {
                let queued = self.conn.borrow().queued();
                let high = options.high;
                let why = format!("{queued} bytes wait to be sent, the high mark is {high} bytes");
                self.end(slf, core, "slow-consumer", why, None)?;
                return Ok(None);
            }
            WhenSlow::DropOldest => None,
            WhenSlow::Latest => manner.key.clone(),
        };
        let pushed = self.extra(|extra| {
            let fresh = || Box::new(Outbox::new(Policy::Latest, options.droppable));
            extra.outbox.get_or_insert_with(fresh).push(key, message.clone(), message.len())
        });
        Ok(Some(match pushed {
            Pushed::Queued => Outcome::Over,
            Pushed::Replaced(_) | Pushed::Dropped(_) => {
                self.server.get().count_dropped();
                Outcome::Dropped
            }
        }))
    }

    /// Sends what waited in the outbox, until too much waits again.
    pub(super) fn send_waiting(
        &self,
        slf: &Bound<'_, Self>,
        core: &Bound<'_, LoopCore>,
    ) -> PyResult<()> {
        while !self.flags.any(Flag::PRESSED | Flag::CLOSING) {
            let next = self
                .if_extra(|extra| {
                    let next = extra.outbox.as_mut()?.pop();
                    if next.is_none() {
                        extra.outbox = None;
                    }
                    next
                })
                .flatten();
            let Some(message) = next else { break };
            self.post_now(slf, core, &message)?;
        }
        Ok(())
    }

    /// Nothing is dropped any more: what waited in the outbox is sent like the rest.
    pub(super) fn queue_outbox(&self, core: &LoopCore) {
        let Some(mut outbox) = self.if_extra(|extra| extra.outbox.take()).flatten() else { return };
        while let Some(message) = outbox.pop() {
            let account = &self.account;
            account.written.set(account.written.get() + message.len() as u64);
            account.messages_out.set(account.messages_out.get() + 1);
            self.server.get().count_queued();
            let bytes = message.len();
            self.conn.borrow_mut().keep(&core.reactor.pool, Box::new(message));
            if self.flags.any(Flag::TAPPED) {
                // SAFETY: what closes a connection runs with the GIL held.
                self.tap_queued(unsafe { Python::assume_attached() }, bytes);
            }
        }
    }

    /// The connections of the loop hold more than they may together: this one, the greediest, ends.
    pub fn end_greedy(
        &self,
        slf: &Bound<'_, Self>,
        core: &Bound<'_, LoopCore>,
        budget: usize,
    ) -> PyResult<()> {
        let (queued, all) = (self.conn.borrow().queued(), core.get().reactor.pool.queued());
        let why = format!(
            "{all} bytes wait to be sent in all connections, allowed are {budget}; {queued} of them here, the most"
        );
        self.end(slf, core, "memory-budget", why, None)
    }

    /// Bytes that wait to be sent.
    pub fn waiting(&self) -> usize {
        self.conn.borrow().queued()
    }

    /// Whether more waits than the high mark though it was flushed.
    pub fn is_pressed(&self) -> bool {
        self.flags.any(Flag::PRESSED) && self.conn.borrow().over()
    }

    /// Ends a connection that has more waiting than the hard mark. `before` was waiting before the last message.
    pub(super) fn check_hard(
        &self,
        slf: &Bound<'_, Self>,
        core: &Bound<'_, LoopCore>,
        before: usize,
    ) -> PyResult<()> {
        let (queued, hard) = (self.conn.borrow().queued(), self.server.get().options.hard);
        if queued <= hard || self.flags.any(Flag::CLOSED) {
            return Ok(());
        }
        let server = self.server.get();
        // On trial it would have ended when it crossed the mark, once.
        if (before > hard && server.options.dry_run.contains("hard")) || server.would_close("hard")
        {
            return Ok(());
        }
        let why = format!("{queued} bytes wait to be sent, the hard mark is {hard} bytes");
        self.end(slf, core, "slow-consumer", why, None)
    }
}
