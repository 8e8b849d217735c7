//! How long handlers take: of each connection to the kernel's tick, always; exactly, with two looks at the clock for what
//! was received at once, if somebody wants to know.

use std::time::Instant;

use wireway_core::sys;

use super::{Connection, Flag};

/// When handling began: to the tick; exactly, and how many messages had come before, if somebody wants to know.
pub(super) type Timing = (f64, Option<(Instant, u64)>);

impl Connection {
    /// Handling begins.
    #[inline]
    pub(super) fn begin_timing(&self) -> Timing {
        let exact = self.server.get().timing().map(|began| (began, self.account.messages_in.get()));
        (sys::last_tick(), exact)
    }

    /// Notes how long handlers took. What came at once shares the time equally; one that is suspended has all of its
    /// own, from the moment when it was its turn, when it is done.
    #[inline]
    pub(super) fn end_timing(&self, timing: Timing) {
        let (tick, exact) = timing;
        let handlers = &self.account.handlers;
        handlers.set(handlers.get() + (sys::last_tick() - tick));
        if let Some((began, before)) = exact {
            self.note_time(began, self.account.messages_in.get() - before);
        }
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
