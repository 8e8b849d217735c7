//! Whether the next message may be handled now: handlers that the server still has room for,
//! heartbeats that are nobody's message.

use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::event_loop::LoopCore;

use super::{Connection, Flag};

impl Connection {
    /// Whether the server's bounds let the next message be handled; else it waits for its turn.
    pub(super) fn may_handle(&self, slf: &Bound<'_, Self>, _core: &Bound<'_, LoopCore>) -> bool {
        let server = self.server.get();
        if server.has_room_for_handler() {
            return true;
        }
        self.flags.set(Flag::HELD);
        server.hold(slf.clone().unbind());
        false
    }

    /// A handler of the server is done: it is this connection's turn.
    pub fn released(&self, slf: &Bound<'_, Self>, core: &Bound<'_, LoopCore>) -> PyResult<()> {
        if self.flags.clear(Flag::HELD) {
            self.attend(core.get());
            self.go_on(slf, core)?;
        }
        Ok(())
    }

    /// Whether a message is an answer to our heartbeat, or the peer's heartbeat, which is answered.
    pub(super) fn is_heartbeat(
        &self,
        slf: &Bound<'_, Self>,
        core: &Bound<'_, LoopCore>,
        message: &Bound<'_, PyBytes>,
    ) -> PyResult<bool> {
        let Some(beat) = &self.server.get().options.heartbeat else {
            return Ok(false);
        };
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
        None
    }

    /// Goes on after a rate was exceeded.
    pub(super) fn resume_rate(
        &self,
        slf: &Bound<'_, Self>,
        core: &Bound<'_, LoopCore>,
    ) -> PyResult<()> {
        self.flags.clear(Flag::THROTTLED);
        self.go_on(slf, core)
    }
}
