//! How long handlers take: of each connection to the kernel's tick, always; exactly, with two looks at the clock for what
//! was received at once, if somebody watches; and each handler for itself, if somebody wants to know.

use std::time::Instant;

use wireway_core::sys;

use super::{Connection, Flag};

/// When handling began.
pub(super) enum Timing {
    /// To the tick, seconds.
    Tick(f64),
    /// Exactly, and how many messages had come before.
    Exact(Instant, u64),
}

impl Connection {
    /// Handling begins.
    #[inline]
    pub(super) fn begin_timing(&self) -> Timing {
        match self.server.get().timing() {
            None => Timing::Tick(sys::last_tick()),
            Some(began) => Timing::Exact(began, self.account.messages_in.get()),
        }
    }

    /// Notes how long handlers took. What came at once shares the time equally; one that is suspended has all of its
    /// own, from the moment when it was its turn, when it is done.
    #[inline]
    pub(super) fn end_timing(&self, timing: Timing) {
        let passed = match timing {
            Timing::Tick(began) => sys::last_tick() - began,
            Timing::Exact(began, before) => {
                if self.server.get().times_handlers() {
                    self.note_time(began, self.account.messages_in.get() - before);
                }
                began.elapsed().as_secs_f64()
            }
        };
        let handlers = &self.account.handlers;
        handlers.set(handlers.get() + passed);
    }

    fn note_time(&self, began: Instant, mut messages: u64) {
        if messages == 0 {
            return;
        }
        let passed = began.elapsed();
        let mut seconds = passed.as_secs_f64();
        if self.flags.any(Flag::BUSY) {
            let own = passed.div_f64(messages as f64);
            messages -= 1;
            seconds -= own.as_secs_f64();
            self.extra(|extra| extra.handling_since = Instant::now().checked_sub(own));
        }
        self.server.get().handled(seconds, messages);
    }
}
