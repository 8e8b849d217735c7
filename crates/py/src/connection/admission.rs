//! From the accept to the first message: the gate's count, the PROXY header, `on_connect`, the strikes.

use pyo3::prelude::*;
use pyo3::types::PyBool;
use wireway_core::limit::FLAPPING;

use crate::event_loop::LoopCore;
use crate::interp;
use crate::server::gate::{Header, read_header};

use super::{Connection, Flag};

/// Seconds that a PROXY header may take when no `first_message` says otherwise.
pub const HEADER_SECONDS: f64 = 10.0;

impl Connection {
    /// The gate counts it, by its address or without.
    pub fn gated(&self, by_address: bool) {
        self.flags.set(Flag::GATED | if by_address { Flag::NAMED } else { 0 });
    }

    /// Reads, but serves nothing before its PROXY header came.
    pub fn await_header(&self, core: &LoopCore) {
        self.flags.set(Flag::HEADER | Flag::PROXIED);
        self.arm(core);
        // ENOENT can not be: it was attached just now.
        let _ = self.conn.borrow().receive(&*core.reactor.driver);
    }

    /// Something of the PROXY header came.
    pub(super) fn take_header(
        &self,
        slf: &Bound<'_, Self>,
        core: &Bound<'_, LoopCore>,
    ) -> PyResult<()> {
        let mode = self.server.get().options.proxy;
        let header =
            self.extra(|extra| read_header(mode, &extra.backlog.bytes[extra.backlog.start..]));
        let (length, names) = match header {
            Header::Need => return Ok(()),
            Header::Bad(why) => return self.end(slf, core, "bad-proxy-header", why, None),
            Header::Whole(length, names) => (length, names),
        };
        if let Some((source, destination)) = names {
            self.peer.set(Some(source));
            self.extra(|extra| extra.local = Some(destination));
        }
        if self.flags.any(Flag::TAPPED) && length > 0 {
            self.tap_header(slf.py(), length);
        }
        self.extra(|extra| extra.backlog.start += length);
        self.server.get().notice(slf);
        if let Some(peer) = self.peer.get() {
            let now = core.get().now();
            if let Err(refusal) = self.server.get().admit(|gate| gate.identify(peer.ip(), now)) {
                let why = refusal.to_string();
                return self.end(slf, core, refusal.reason().code(), why, None);
            }
            self.flags.set(Flag::NAMED);
        }
        self.flags.clear(Flag::HEADER);
        self.begin(slf, core)?;
        if self.flags.any(Flag::SECURE) {
            return Ok(()); // what came behind the header was no message
        }
        self.feed(slf, core)?;
        self.go_on(slf, core)
    }

    /// The gate forgets it, or remembers what it did.
    pub(super) fn leave_gate(&self, core: &LoopCore, code: &str) {
        if !self.flags.clear(Flag::GATED) {
            return;
        }
        let ip = self.peer.get().map(|peer| peer.ip());
        let now = core.now();
        let named = self.flags.any(Flag::NAMED);
        let spoiled =
            matches!(code, "bad-frame" | "frame-too-large" | "bad-proxy-header" | "tls-garbage");
        // A proxy that looks whether we are there hangs up at once, in its own name.
        let client = !self.flags.any(Flag::PROXIED)
            || self.if_extra(|extra| extra.local.is_some()).unwrap_or(false);
        let flapped = client
            && !self.flags.any(Flag::SPOKEN)
            && now - self.account.opened.get() < FLAPPING
            && matches!(code, "peer-closed" | "peer-reset" | "truncated-frame" | "tls-truncated");
        self.server
            .get()
            .admit(|gate| {
                gate.left(ip.filter(|_| named));
                if let Some(ip) = ip
                    && (spoiled || flapped)
                {
                    gate.strike(ip, now);
                }
                Ok(())
            })
            .ok();
    }

    /// Calls `on_connect`, which may say no: with False, or by raising `Refused`.
    pub(super) fn greet(
        &self,
        slf: &Bound<'_, Self>,
        core: &Bound<'_, LoopCore>,
        connect: &Py<PyAny>,
    ) -> PyResult<()> {
        let failed = match interp::call(slf.py(), connect.as_ptr(), &[slf.as_ptr()]) {
            Ok(value) if value.is_none() => return Ok(()),
            Ok(value) if value.is(PyBool::new(slf.py(), false)) => {
                let why = "on_connect refused it".to_owned();
                return self.begin_close(slf, core, "refused", why, None);
            }
            Ok(value) => match self.step(slf, core, &value) {
                Ok(()) if self.flags.any(Flag::BUSY) => return Ok(()),
                Ok(()) => return self.conversation_over(slf, core),
                Err(error) => error,
            },
            Err(error) => error,
        };
        self.handler_failed(slf, core, failed)
    }

    /// An asynchronous `on_connect` returned: without a handler for messages that was all.
    pub(super) fn conversation_over(
        &self,
        slf: &Bound<'_, Self>,
        core: &Bound<'_, LoopCore>,
    ) -> PyResult<()> {
        if !self.flags.any(Flag::PULLED) || self.flags.any(Flag::STOPPING) {
            return self.go_on(slf, core);
        }
        let (code, why) = if self.flags.any(Flag::ENDED) {
            self.how_peer_ended()
        } else {
            ("closed", "on_connect returned".to_owned())
        };
        self.begin_close(slf, core, code, why, None)
    }
}
