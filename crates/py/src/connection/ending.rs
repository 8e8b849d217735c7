//! Every way to the end, and the reason that is given for it.

use std::io;

use pyo3::intern;
use pyo3::prelude::*;

use wireway_core::sys;

use crate::errors::{leaves_the_loop, ours};
use crate::event_loop::LoopCore;
use crate::server::record::{Death, Record, autopsy};

use super::{Connection, Farewell, Flag};

/// Ends that are nobody's fault: not logged, and told only to those who asked.
const ORDINARY: [&str; 4] = ["peer-closed", "closed", "server-stopped", "aborted"];

impl Connection {
    pub(super) fn closed_error(&self, py: Python<'_>) -> PyErr {
        let why = self
            .if_extra(|extra| extra.farewell.as_ref().map(|farewell| farewell.why.clone()))
            .flatten();
        let half = self.flags.any(Flag::HALF) && !self.flags.any(Flag::CLOSING);
        let text = match why {
            Some(why) => format!("the connection is closed: {why}"),
            None if half => "the connection's sending half is closed".to_owned(),
            None if self.flags.any(Flag::ENDED) => {
                "the connection is closed: the peer closed".to_owned()
            }
            None => "the connection is closed".to_owned(),
        };
        ours(py, "ConnectionClosedError", &text)
    }

    /// Whether it came, or comes, to a clean end.
    pub(super) fn ends_well(&self) -> bool {
        let code =
            self.if_extra(|extra| extra.farewell.as_ref().map(|farewell| farewell.code)).flatten();
        match code {
            Some(code) => matches!(code, "peer-closed" | "closed" | "server-stopped"),
            None => !self.decoder.borrow().is_partial() && !self.was_cut_off(),
        }
    }

    /// Ends the connection at once; what is queued is lost.
    pub(super) fn end(
        &self,
        slf: &Bound<'_, Self>,
        core: &Bound<'_, LoopCore>,
        code: &'static str,
        why: String,
        error: Option<PyErr>,
    ) -> PyResult<()> {
        if self.flags.any(Flag::CLOSED) {
            return Ok(());
        }
        self.keep_farewell(core.get(), code, why, error);
        self.flags.set(Flag::CLOSING);
        self.over(slf, core)
    }

    /// Ends the connection when what is queued was sent: what was answered before still goes out.
    pub(super) fn begin_close(
        &self,
        slf: &Bound<'_, Self>,
        core: &Bound<'_, LoopCore>,
        code: &'static str,
        why: String,
        error: Option<PyErr>,
    ) -> PyResult<()> {
        if self.flags.any(Flag::CLOSING) {
            return Ok(());
        }
        self.keep_farewell(core.get(), code, why, error);
        self.flags.set(Flag::CLOSING);
        self.queue_outbox(core.get());
        let reactor = &core.get().reactor;
        let outcome = self.moved(core.get(), |conn| {
            conn.pause(&*reactor.driver);
            if self.flags.any(Flag::ENDED) && !self.flags.any(Flag::SECURE) {
                // The peer has said all: closing sends the FIN.
                conn.flush(&*reactor.driver, &reactor.pool)
            } else {
                conn.finish(&*reactor.driver, &reactor.pool)
            }
        });
        self.flushed(slf, core, outcome)?;
        // What is left: not for ever.
        self.arm(core.get());
        Ok(())
    }

    /// Everything that was queued has left a connection that closes.
    pub(super) fn sent_all(
        &self,
        slf: &Bound<'_, Self>,
        core: &Bound<'_, LoopCore>,
    ) -> PyResult<()> {
        let code =
            self.if_extra(|extra| extra.farewell.as_ref().map(|farewell| farewell.code)).flatten();
        if code != Some("aborted") && self.peer_goes_on() {
            // Closing now would answer what still comes with RST, and the peer might never read our last
            // words (RFC 1122, 4.2.2.13). Read it away until the peer ends too, for a bounded time.
            if !self.flags.any(Flag::LINGERS) {
                self.flags.set(Flag::LINGERS);
                let _ = self.conn.borrow().receive(&*core.get().reactor.driver);
            }
            return Ok(());
        }
        self.over(slf, core)
    }

    /// Whether the peer was sending when we ended.
    fn peer_goes_on(&self) -> bool {
        if self.flags.any(Flag::ENDED)
            || self.server.get().options.deadlines.close_linger == f64::INFINITY
        {
            return false;
        }
        self.flags.any(Flag::LINGERS) || sys::info::unread(self.conn.borrow().fd()) > 0
    }

    /// A close took too long: what is left of it is lost.
    pub(super) fn end_lingering(
        &self,
        slf: &Bound<'_, Self>,
        core: &Bound<'_, LoopCore>,
    ) -> PyResult<()> {
        let queued = self.conn.borrow().queued();
        if queued > 0 {
            let seconds = self.server.get().options.deadlines.close_linger;
            self.extra(|extra| {
                if let Some(farewell) = extra.farewell.as_mut() {
                    farewell.why = format!(
                        "{}; the peer did not take the last {queued} bytes within {seconds} s",
                        farewell.why
                    );
                    farewell.code = "linger-timeout";
                }
            });
        }
        self.over(slf, core)
    }

    /// Ends the connection because the server stops.
    pub(super) fn server_stopped(
        &self,
        slf: &Bound<'_, Self>,
        core: &Bound<'_, LoopCore>,
    ) -> PyResult<()> {
        self.begin_close(slf, core, "server-stopped", "the server stops".to_owned(), None)
    }

    /// The same once the running handler and what is queued are done.
    pub(super) fn drain_and_close(
        &self,
        slf: &Bound<'_, Self>,
        core: &Bound<'_, LoopCore>,
    ) -> PyResult<()> {
        if self.flags.any(Flag::BUSY | Flag::PRESSED) {
            // Not one message more, unless the handler waits for an answer; what waits is dropped.
            if !self.flags.any(Flag::ANSWERED) {
                self.conn.borrow().pause(&*core.get().reactor.driver);
            }
            let backlog = self.if_extra(|extra| std::mem::take(&mut extra.backlog));
            drop(backlog);
            self.flags.set(Flag::STOPPING);
            if self.flags.clear(Flag::PAUSED) {
                self.server.get().paused(-1);
            }
            return self.feed(slf, core);
        }
        self.server_stopped(slf, core)
    }

    /// The same at once, without waiting for the handler.
    pub(super) fn abort_and_cancel(
        &self,
        slf: &Bound<'_, Self>,
        core: &Bound<'_, LoopCore>,
    ) -> PyResult<()> {
        let py = slf.py();
        let task = self.if_extra(|e| e.task.as_ref().map(|task| task.clone_ref(py))).flatten();
        self.end(slf, core, "aborted", "the server stopped".to_owned(), None)?;
        match task {
            Some(task) => task.call_method0(py, intern!(py, "cancel")).map(drop),
            None => Ok(()),
        }
    }

    /// The error of a `send`, if the connection is closed or about to be.
    pub fn refuse_if_closing(&self, py: Python<'_>) -> PyResult<()> {
        if self.flags.any(Flag::CLOSING) { Err(self.closed_error(py)) } else { Ok(()) }
    }

    pub(super) fn keep_farewell(
        &self,
        core: &LoopCore,
        code: &'static str,
        why: String,
        error: Option<PyErr>,
    ) {
        let now = core.moment.get();
        self.extra(|extra| {
            if extra.farewell.is_none() {
                extra.farewell = Some(Box::new(Farewell { code, why, error }));
                extra.closing_since = now;
            }
        });
    }

    /// The end: the descriptor goes, waits end, the server is told.
    pub(super) fn over(&self, slf: &Bound<'_, Self>, core: &Bound<'_, LoopCore>) -> PyResult<()> {
        let py = slf.py();
        if self.flags.any(Flag::CLOSED) {
            return Ok(());
        }
        self.flags.set(Flag::CLOSED);
        let server = self.server.get();
        let (fd, goodbye) = (self.conn.borrow().fd(), self.conn.borrow().goodbye());
        let mut death = autopsy(fd);
        // Nobody misses a goodbye: it is no data of ours.
        death.unsent = death.unsent.saturating_sub(goodbye as u32);
        let record = self.record_with(py, core.get(), death);
        self.tap_ended(py, record.code, &record.why);
        let (closed, wants) = server
            .with_handlers(|handlers| (Some(handlers.closed.clone_ref(py)), handlers.wants_close))
            .unwrap_or((None, false));
        let ordinary = ORDINARY.contains(&record.code);
        let mut result = Ok(());
        if let Some(closed) = closed
            && (wants || !ordinary)
        {
            let error = self
                .if_extra(|extra| {
                    let farewell = extra.farewell.as_ref()?;
                    // Not `value`: before Python 3.12 that is without its traceback.
                    farewell
                        .error
                        .as_ref()
                        .map(|error| error.clone_ref(py).into_value(py).into_bound(py))
                })
                .flatten();
            // The descriptor is still open: `peer` and `local` answer in `on_close`.
            result = record
                .evidence(py, error)
                .and_then(|evidence| closed.call1(py, (slf, evidence)).map(drop));
        }
        self.release(core.get());
        self.settle(py, Some(self.closed_error(py)))?;
        self.release_receiver(py)?;
        if self.flags.any(Flag::ANSWERED) {
            self.fail_requests(py)?;
        }
        self.leave_all(server);
        self.leave_gate(core.get(), record.code);
        server.closed(py, record)?;
        match result {
            Err(error) if !leaves_the_loop(py, &error) => {
                LoopCore::report(core, "on_close failed", &error, &[("connection", slf.as_any())])
            }
            other => other,
        }
    }

    /// What is known of the end, taken while the descriptor is still open.
    pub(super) fn record_with(&self, py: Python<'_>, core: &LoopCore, death: Death) -> Record {
        let account = &self.account;
        let now = core.now();
        let queued = self.conn.borrow().queued();
        let (code, why, errno) = self
            .if_extra(|extra| {
                extra.farewell.as_ref().map(|farewell| {
                    let errno = farewell.error.as_ref().and_then(|error| errno_of(py, error));
                    (farewell.code, farewell.why.clone(), errno)
                })
            })
            .flatten()
            .unwrap_or(("aborted", String::new(), None));
        let backlog = self.if_extra(|extra| extra.backlog.len()).unwrap_or(0);
        Record {
            id: self.number,
            code,
            why,
            errno,
            peer: self.peer.get(),
            phase: self.phase(),
            death,
            queued,
            backlog,
            partial: self.decoder.borrow().pending(),
            at: now,
            age: now - account.opened.get(),
            idle_in: now - account.last_in.get(),
            idle_out: now - account.last_out.get(),
            messages: (account.messages_in.get(), account.messages_out.get()),
            bytes: (account.bytes_in.get(), account.written.get() - queued as u64),
        }
    }

    /// Where in its life it is.
    fn phase(&self) -> &'static str {
        let lingered = self.if_extra(|extra| extra.closing_since).unwrap_or(0.0);
        if self.flags.any(Flag::HEADER) {
            "proxy-header"
        } else if self.flags.any(Flag::SHAKING) {
            "tls-handshake"
        } else if lingered > 0.0 && self.conn.borrow().queued() > 0 {
            "closing"
        } else if self.flags.any(Flag::SPOKEN) {
            "open"
        } else {
            "first-message"
        }
    }

    pub(super) fn release(&self, core: &LoopCore) {
        let fd = self.conn.borrow().fd();
        core.reactor.wheel.borrow_mut().cancel(self.token.index());
        self.conn.borrow_mut().detach(&*core.reactor.driver, &core.reactor.pool);
        let endpoint = core.displace_stream(self.token, fd);
        let backlog = self.if_extra(|extra| std::mem::take(&mut extra.backlog));
        if self.flags.clear(Flag::PAUSED) {
            self.server.get().paused(-1);
        }
        core.descriptor_freed();
        // Whoever keeps the object of a closed connection keeps no half frame with it.
        let begun = self.decoder.take();
        drop((endpoint, backlog, begun));
    }

    /// The loop is closed: the descriptor goes, nobody is told.
    pub fn loop_closed(&self, _py: Python<'_>, core: &LoopCore) {
        if !self.flags.any(Flag::CLOSED) {
            self.flags.set(Flag::CLOSING | Flag::CLOSED);
            self.release(core);
        }
    }
}

/// The errno of an `OSError`.
fn errno_of(py: Python<'_>, error: &PyErr) -> Option<i32> {
    error.value(py).getattr(intern!(py, "errno")).ok()?.extract().ok()
}

/// The close code of an error of the socket. EPIPE: the reset came before, and was read by somebody else.
pub fn code_of(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::ECONNRESET | libc::EPIPE) => "peer-reset",
        Some(libc::ETIMEDOUT) => "timed-out",
        _ => "io-error",
    }
}
