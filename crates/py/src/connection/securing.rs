//! TLS under a connection: the handshake before `on_connect`, records to messages, and how a stream may end.
//!
//! The session is the core's (`Conn::secure`); the configuration is the server's, taken when the handshake begins, so
//! that a renewed certificate is for those who come after it.

use std::cell::Cell;

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};
use wireway_core::tls::{TlsError, code};

use crate::event_loop::LoopCore;

use super::{Connection, Flag};

/// What the thread's buffer may keep between calls.
const SCRATCH: usize = 256 * 1024;

thread_local! {
    static PLAIN: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// What `wireway.net.tls.TlsInfo.of` takes: version, cipher, ALPN, server name, resumed, certificates (DER).
pub type Facts<'py> =
    (&'static str, String, Option<Bound<'py, PyBytes>>, Option<String>, bool, Bound<'py, PyList>);

impl Connection {
    /// It is to be secured: nothing is served before the handshake is done.
    pub fn secure(&self) {
        self.flags.set(Flag::SECURE | Flag::SHAKING);
    }

    /// The same on a client's side. `shaken()` is called when the handshake is done.
    pub fn secure_with(&self, shaken: Py<PyAny>) {
        self.secure();
        self.extra(|extra| extra.shaken = Some(shaken));
    }

    /// Begins the handshake.
    pub(super) fn shake(&self, slf: &Bound<'_, Self>, core: &Bound<'_, LoopCore>) -> PyResult<()> {
        let session = match self.server.get().session() {
            Ok(session) => session,
            // What a name is wrong for is no code of an end.
            Err(error) => return self.end(slf, core, code::ERROR, error.text, None),
        };
        self.conn.borrow_mut().secure(session);
        self.account.attended.set(core.get().now());
        self.arm(core.get());
        // ENOENT once detached: there is nothing to read from.
        let _ = self.conn.borrow().receive(&*core.get().reactor.driver);
        let came = self.if_extra(|extra| std::mem::take(&mut extra.backlog)).unwrap_or_default();
        if came.len() > 0 {
            return self.unseal(slf, core, &came.bytes[came.start..]);
        }
        self.flush_now(slf, core)
    }

    /// Records came.
    pub(super) fn unseal(
        &self,
        slf: &Bound<'_, Self>,
        core: &Bound<'_, LoopCore>,
        data: &[u8],
    ) -> PyResult<()> {
        if self.flags.any(Flag::CLOSING) {
            return Ok(());
        }
        let mut plain = PLAIN.take();
        plain.clear();
        let (result, speaks, shaking, ended) = {
            let mut conn = self.conn.borrow_mut();
            let result = conn.open(&core.get().reactor.pool, data, &mut plain);
            let Some(session) = conn.session() else { return Ok(()) };
            (result, session.wants_write(), session.is_handshaking(), session.peer_closed())
        };
        if speaks && !self.flags.any(Flag::DIRTY) {
            self.flags.set(Flag::DIRTY);
            core.get().reactor.mark_dirty(self.token);
        }
        let outcome = self.opened(slf, core, &plain, !shaking);
        if plain.capacity() <= SCRATCH {
            PLAIN.set(plain);
        }
        outcome?;
        if let Err(error) = result {
            return self.insecure(slf, core, error);
        }
        if ended && !self.flags.any(Flag::ENDED | Flag::CLOSED) {
            // close_notify: the peer has said all, whenever its FIN comes (RFC 8446, section 6.1).
            self.flags.set(Flag::ENDED);
            self.feed(slf, core)?;
            if self.flags.any(Flag::ANSWERED) {
                self.fail_requests(slf.py())?;
            }
            return self.finish_if_ended(slf, core);
        }
        Ok(())
    }

    /// What was in the records.
    fn opened(
        &self,
        slf: &Bound<'_, Self>,
        core: &Bound<'_, LoopCore>,
        plain: &[u8],
        shaken: bool,
    ) -> PyResult<()> {
        if shaken && self.flags.clear(Flag::SHAKING) {
            self.account.attended.set(core.get().moment.get());
            let call = self.if_extra(|extra| extra.shaken.take()).flatten();
            if let Some(call) = call {
                call.call0(slf.py())?;
            }
            if !self.flags.any(Flag::CLOSING) {
                self.begin(slf, core)?;
            }
        }
        if plain.is_empty() || self.flags.any(Flag::CLOSED) {
            return Ok(());
        }
        if self.flags.any(Flag::TAPPED) {
            self.tap_received(slf.py(), plain);
        }
        self.take_in(slf, core, plain)
    }

    /// What came is not what TLS allows, or not whom we trust. The peer is told by an alert.
    fn insecure(
        &self,
        slf: &Bound<'_, Self>,
        core: &Bound<'_, LoopCore>,
        error: TlsError,
    ) -> PyResult<()> {
        self.begin_close(slf, core, error.code, error.text, None)
    }

    /// The peer's FIN came: true if there is nothing more to do for it.
    pub(super) fn is_cut_off(
        &self,
        slf: &Bound<'_, Self>,
        core: &Bound<'_, LoopCore>,
    ) -> PyResult<bool> {
        if self.flags.any(Flag::CLOSING) {
            return Ok(false);
        }
        let result = self.conn.borrow_mut().ended();
        let (true, Err(error)) = (self.flags.any(Flag::SHAKING), result) else {
            return Ok(false); // what came before is handled first
        };
        if self.flags.any(Flag::HEADER) {
            return Ok(false);
        }
        if self.account.bytes_in.get() == 0 {
            let why = "the peer closed before it sent a byte".to_owned();
            self.begin_close(slf, core, "peer-closed", why, None)?;
        } else {
            self.insecure(slf, core, error)?;
        }
        Ok(true)
    }

    /// Whether the peer ended its stream without saying goodbye as TLS wants it.
    pub(super) fn was_cut_off(&self) -> bool {
        self.flags.any(Flag::SECURE)
            && self.conn.borrow().session().is_some_and(|session| session.fault().is_some())
    }

    /// The code and the text of an end that the peer announced.
    pub(super) fn how_peer_ended(&self) -> (&'static str, String) {
        let conn = self.conn.borrow();
        match conn.session().and_then(|session| session.fault()) {
            Some(error) => (error.code, error.text.clone()),
            None => ("peer-closed", "the peer closed".to_owned()),
        }
    }

    /// What was agreed.
    pub(super) fn tls_facts<'py>(&self, py: Python<'py>) -> Option<Facts<'py>> {
        if !self.flags.any(Flag::SECURE) || self.flags.any(Flag::SHAKING) {
            return None;
        }
        let facts = self.conn.borrow().session()?.facts();
        let certificates = facts.peer_certificates.iter().map(|der| PyBytes::new(py, der));
        Some((
            facts.version,
            facts.cipher,
            facts.alpn.map(|name| PyBytes::new(py, &name)),
            facts.server_name,
            facts.resumed,
            PyList::new(py, certificates).ok()?,
        ))
    }
}
