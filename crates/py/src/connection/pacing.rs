//! Whether the next message may be handled now: rates, handlers that the server still has room for, and
//! heartbeats, which are nobody's message.

use pyo3::prelude::*;
use pyo3::types::PyBytes;
use wireway_core::limit::Verdict;

use crate::event_loop::LoopCore;

use super::{Connection, Flag};

impl Connection {
    /// Whether the server's bounds let the next message be handled; else it waits for its turn.
    pub(super) fn may_handle(&self, slf: &Bound<'_, Self>, core: &Bound<'_, LoopCore>) -> bool {
        let server = self.server.get();
        if !server.has_room_for_handler() && !server.would_close("handlers") {
            self.flags.set(Flag::HELD);
            server.hold(slf.clone().unbind());
            return false;
        }
        self.is_within_rate(core.get())
    }

    /// Whether the rate has room for one message more; else it pauses until there is.
    pub(super) fn is_within_rate(&self, core: &LoopCore) -> bool {
        let Some(rate) = &self.server.get().options.message_rate else { return true };
        let now = core.moment.get();
        let wait = self.extra(|extra| extra.rates.get_or_insert_default().messages.wait(rate, now));
        if wait <= 0.0 || self.server.get().would_close("message_rate") {
            return true;
        }
        self.throttle(core, now + wait);
        false
    }

    /// Counts received bytes against their rate.
    pub(super) fn meter(&self, core: &LoopCore, bytes: usize) {
        let Some(rate) = &self.server.get().options.byte_rate else { return };
        let now = core.moment.get();
        let verdict = self
            .extra(|extra| extra.rates.get_or_insert_default().bytes.take(rate, now, bytes as u64));
        if let Verdict::Pause(seconds) = verdict
            && !self.server.get().would_close("byte_rate")
        {
            self.throttle(core, now + seconds);
        }
    }

    /// Reads and handles nothing until `resume`, seconds.
    fn throttle(&self, core: &LoopCore, resume: f64) {
        self.flags.set(Flag::THROTTLED);
        self.pause_reading(core);
        let resume = self.extra(|extra| {
            let rates = extra.rates.get_or_insert_default();
            rates.resume = rates.resume.max(resume);
            rates.resume
        });
        self.arm_by(core, resume);
    }

    /// A handler of the server is done: it is this connection's turn.
    pub fn released(&self, slf: &Bound<'_, Self>, core: &Bound<'_, LoopCore>) -> PyResult<()> {
        if self.flags.clear(Flag::HELD) {
            self.attend(core.get());
            self.go_on(slf, core)?;
        }
        Ok(())
    }

    /// Counts a message against its rate, and says whether it is nobody's: an answer to our heartbeat, or the
    /// peer's heartbeat, which is answered.
    pub(super) fn is_heartbeat(
        &self,
        slf: &Bound<'_, Self>,
        core: &Bound<'_, LoopCore>,
        message: &Bound<'_, PyBytes>,
    ) -> PyResult<bool> {
        let options = &self.server.get().options;
        if let Some(rate) = &options.message_rate {
            let now = core.get().moment.get();
            self.extra(|extra| extra.rates.get_or_insert_default().messages.take(rate, now, 1));
        }
        let Some(beat) = &options.heartbeat else { return Ok(false) };
        let content = message.as_bytes();
        if beat.pong.as_deref() == Some(content) {
            return Ok(true);
        }
        let Some((_, answer)) = beat.answers.iter().find(|(ask, _)| &**ask == content) else {
            return Ok(false);
        };
        self.queue_content(slf, core, answer)?;
        Ok(true)
    }

    /// Sends a heartbeat.
    pub(super) fn ping(&self, slf: &Bound<'_, Self>, core: &Bound<'_, LoopCore>) -> PyResult<()> {
        match &self.server.get().options.heartbeat {
            // Behind what the peer does not take anyway it would only add to the queue.
            Some(beat) if !self.flags.any(Flag::PRESSED | Flag::CLOSING | Flag::HALF) => {
                self.queue_content(slf, core, &beat.ping)
            }
            _ => Ok(()),
        }
    }

    /// When reading goes on after a rate was exceeded, seconds.
    pub(super) fn resumes_at(&self) -> Option<f64> {
        self.if_extra(|extra| extra.rates.as_ref().map(|rates| rates.resume)).flatten()
    }

    /// Goes on after a rate was exceeded.
    pub(super) fn resume_rate(
        &self,
        slf: &Bound<'_, Self>,
        core: &Bound<'_, LoopCore>,
    ) -> PyResult<()> {
        self.flags.clear(Flag::THROTTLED);
        self.feed(slf, core)?;
        self.go_on(slf, core)?;
        let empty = self.if_extra(|extra| extra.backlog.len() == 0).unwrap_or(true);
        if self.flags.any(Flag::PULLED) && empty && !self.flags.any(Flag::HUSHED | Flag::CLOSING) {
            self.resume_reading(core.get());
        }
        Ok(())
    }
}
