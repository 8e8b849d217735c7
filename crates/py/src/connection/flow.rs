//! When messages may be handled and when they wait: the backlog, pausing and resuming, and the end that
//! the peer announced.

use pyo3::prelude::*;

use crate::event_loop::LoopCore;

use super::extra::Rest;
use super::{Connection, Flag};

/// Bytes received and not handled at which reading pauses.
pub const BACKLOG: usize = 64 * 1024;

impl Connection {
    /// Keeps what can not be handled now.
    pub(super) fn put_by(
        &self,
        slf: &Bound<'_, Self>,
        core: &Bound<'_, LoopCore>,
        data: &[u8],
    ) -> PyResult<()> {
        self.extra(|extra| extra.backlog.push(data));
        if self.flags.any(Flag::ANSWERED) && !self.flags.any(Flag::HUSHED | Flag::HEADER) {
            self.sift(slf, core)?;
        }
        let full = self.extra(|extra| extra.backlog.len() + extra.aside_bytes > BACKLOG);
        if full {
            self.pause_reading(core.get());
        }
        if self.flags.any(Flag::HEADER) {
            return self.take_header(slf, core);
        }
        self.feed(slf, core)
    }

    /// Stops reading: what the peer sends waits in the kernel, and beyond that at the peer.
    pub(super) fn pause_reading(&self, core: &LoopCore) {
        if !self.flags.any(Flag::PAUSED) {
            self.flags.set(Flag::PAUSED);
            self.server.get().paused(1);
            self.conn.borrow().pause(&*core.reactor.driver);
        }
    }

    /// Reads again. The time that we did not look is not the peer's.
    pub(super) fn resume_reading(&self, core: &LoopCore) {
        if self.flags.clear(Flag::PAUSED) {
            self.server.get().paused(-1);
            self.attend(core);
            // ENOENT once detached: there is nothing to read from.
            let _ = self.conn.borrow().receive(&*core.reactor.driver);
        }
    }

    /// From now on the peer's silence counts. Before its first message that moves once: it may not make
    /// itself time.
    pub(super) fn attend(&self, core: &LoopCore) {
        if self.server.get().options.timed {
            let account = &self.account;
            if self.flags.any(Flag::SPOKEN) || account.attended == account.opened {
                account.attended.set(core.moment.get());
            }
            self.arm(core);
        }
    }

    /// Goes on with what waited, once nothing blocks any more.
    pub(super) fn go_on(&self, slf: &Bound<'_, Self>, core: &Bound<'_, LoopCore>) -> PyResult<()> {
        if self.flags.any(Flag::STOPPING)
            && !self.flags.any(Flag::BUSY | Flag::PRESSED | Flag::WORKING | Flag::CLOSING)
        {
            return self.server_stopped(slf, core);
        }
        if self.flags.any(Flag::BLOCKED) {
            return self.finish_if_ended(slf, core);
        }
        let waits = self.if_extra(|extra| extra.has_waiting()).unwrap_or(false);
        if waits || self.decoder.borrow().is_partial() {
            let rest = self.if_extra(|extra| std::mem::take(&mut extra.backlog));
            let mut rest = rest.unwrap_or_default();
            let mut left = &rest.bytes[rest.start..];
            let result = self.work(slf, core, |this| this.take_messages(slf, core, &mut left));
            rest.start = rest.bytes.len() - left.len();
            self.put_back(rest);
            result?;
            // The handler may have asked for what was still to come.
            self.feed(slf, core)?;
        }
        if self.flags.any(Flag::BLOCKED) {
            return self.finish_if_ended(slf, core);
        }
        self.resume_reading(core.get());
        self.finish_if_ended(slf, core)?;
        self.trim();
        Ok(())
    }

    /// Puts back what is left of the backlog, before what came meanwhile; returns whether none is left.
    pub(super) fn put_back(&self, mut rest: Rest) -> bool {
        if rest.len() == 0 || self.flags.any(Flag::CLOSING) {
            return self.if_extra(|extra| extra.backlog.len() == 0).unwrap_or(true);
        }
        if rest.start >= BACKLOG {
            rest.bytes.drain(..rest.start);
            rest.start = 0;
        }
        self.extra(|extra| {
            let came = std::mem::replace(&mut extra.backlog, rest);
            extra.backlog.push(&came.bytes[came.start..]);
        });
        false
    }

    /// The peer has said all, and all of it was handled.
    pub(super) fn finish_if_ended(
        &self,
        slf: &Bound<'_, Self>,
        core: &Bound<'_, LoopCore>,
    ) -> PyResult<()> {
        if !self.flags.any(Flag::ENDED) || self.flags.any(Flag::UNFINISHED) {
            return Ok(());
        }
        if self.if_extra(|extra| extra.has_waiting()).unwrap_or(false) {
            // It is pulled, or goes on when nothing blocks any more.
            return Ok(());
        }
        if self.flags.any(Flag::HEADER) {
            let why = "the peer closed before its PROXY header was whole".to_owned();
            return self.begin_close(slf, core, "bad-proxy-header", why, None);
        }
        if self.decoder.borrow().is_partial() {
            let why = "the peer closed in the middle of a frame".to_owned();
            return self.begin_close(slf, core, "truncated-frame", why, None);
        }
        let (code, why) = self.how_peer_ended();
        self.begin_close(slf, core, code, why, None)
    }
}
