//! What goes: queueing, flushing, and who waits for room.

use std::io;

use pyo3::ffi;
use pyo3::ffi::c_str;
use pyo3::intern;
use pyo3::prelude::*;
use wireway_core::conn::{Conn, Flushed, Pressure};
use wireway_core::frame::Framing;
use wireway_core::op::Token;

use crate::errors::os_error;
use crate::event_loop::LoopCore;
use crate::framing;
use crate::interp::{self, Methods, give, unary};
use crate::memory::Shared;
use crate::outcome::{self, Outcome};
use crate::server::ServerCore;
use crate::server::fanout::Manner;
use crate::server::options::WhenSlow;
use crate::step;

use super::ending::code_of;
use super::{Connection, Flag};

impl Connection {
    /// Queues one message and flushes if too much waits.
    #[inline]
    pub(super) fn queue(
        &self,
        slf: &Bound<'_, Self>,
        data: &Bound<'_, PyAny>,
    ) -> PyResult<Outcome> {
        if self.flags.any(Flag::CLOSING | Flag::HALF) {
            return Err(self.closed_error(slf.py()));
        }
        let core = self.server.get().core(slf.py());
        core.get().check_thread()?;
        if self.flags.any(Flag::PRESSED) && self.server.get().options.when_slow != WhenSlow::Pause {
            let frame = self.with_framing(|own| framing::encoded(own, data))?;
            let manner = Manner::default();
            return self
                .post_slow(slf, core, &Shared::new(frame), &manner)
                .map(|outcome| outcome.unwrap_or(Outcome::Dropped));
        }
        let pool = &core.get().reactor.pool;
        let before = self.conn.borrow().queued();
        self.with_framing(|own| framing::queue(&self.conn, pool, own, data))?;
        let queued = self.conn.borrow().queued();
        self.queued_more(slf, core, queued - before)?;
        Ok(self.outcome().unwrap_or(Outcome::Dropped))
    }

    /// What became of a message that was queued just now. `None`: it was one too many, and ended the
    /// connection.
    #[inline]
    pub(super) fn outcome(&self) -> Option<Outcome> {
        if self.flags.any(Flag::PRESSED | Flag::CLOSED) {
            return if self.flags.any(Flag::CLOSED) { None } else { Some(Outcome::Over) };
        }
        Some(Outcome::Queued)
    }

    /// Queues a copy of one message.
    pub(super) fn queue_content(
        &self,
        slf: &Bound<'_, Self>,
        core: &Bound<'_, LoopCore>,
        content: &[u8],
    ) -> PyResult<()> {
        let pool = &core.get().reactor.pool;
        let before = self.conn.borrow().queued();
        self.with_framing(|own| framing::queue_copy(&self.conn, pool, own, content))?;
        let queued = self.conn.borrow().queued();
        self.queued_more(slf, core, queued - before)
    }

    /// The framing in force.
    #[inline]
    pub fn with_framing<R>(&self, body: impl FnOnce(&Framing) -> R) -> R {
        let server = self.server.get();
        if self.flags.any(Flag::REFRAMED)
            && let Some(own) = self.if_extra(|extra| extra.framing.clone()).flatten()
        {
            return body(&own);
        }
        body(&server.framing)
    }

    /// A message more waits: it leaves with the turn's flush, or at once when too much waits.
    #[inline]
    pub(super) fn queued_more(
        &self,
        slf: &Bound<'_, Self>,
        core: &Bound<'_, LoopCore>,
        bytes: usize,
    ) -> PyResult<()> {
        let account = &self.account;
        account.written.set(account.written.get() + bytes as u64);
        account.messages_out.set(account.messages_out.get() + 1);
        self.server.get().count_queued();
        let bits = self.flags.those(Flag::DIRTY | Flag::TAPPED);
        if bits != Flag::DIRTY {
            if bits & Flag::DIRTY == 0 {
                self.flags.set(Flag::DIRTY);
                core.get().reactor.mark_dirty(self.token);
            }
            if bits & Flag::TAPPED != 0 {
                self.tap_queued(slf.py(), bytes);
            }
        }
        if self.conn.borrow().over() {
            self.press(slf, core, bytes)?;
        }
        if core.get().reactor.pool.queued() > self.server.get().options.queued_bytes {
            ServerCore::spend_less(self.server.bind(slf.py()), core, bytes)?;
        }
        Ok(())
    }

    #[cold]
    fn press(
        &self,
        slf: &Bound<'_, Self>,
        core: &Bound<'_, LoopCore>,
        bytes: usize,
    ) -> PyResult<()> {
        let before = self.conn.borrow().queued() - bytes;
        if !self.flags.any(Flag::PRESSED) {
            self.flush_now(slf, core)?;
        }
        self.check_hard(slf, core, before)
    }

    /// The turn's flush.
    #[inline]
    pub fn flush(
        &self,
        slf: &Bound<'_, Self>,
        core: &Bound<'_, LoopCore>,
        token: Token,
    ) -> PyResult<()> {
        if token != self.token {
            return Ok(());
        }
        self.flags.clear(Flag::DIRTY);
        self.flush_now(slf, core)
    }

    #[inline]
    pub(super) fn flush_now(
        &self,
        slf: &Bound<'_, Self>,
        core: &Bound<'_, LoopCore>,
    ) -> PyResult<()> {
        let reactor = &core.get().reactor;
        let outcome = self.moved(core.get(), |conn| conn.flush(&*reactor.driver, &reactor.pool));
        self.flushed(slf, core, outcome)
    }

    /// Does something that may hand bytes to the kernel, and notes how many it took.
    #[inline]
    pub(super) fn moved(
        &self,
        core: &LoopCore,
        act: impl FnOnce(&mut Conn) -> io::Result<Flushed>,
    ) -> io::Result<Flushed> {
        let mut conn = self.conn.borrow_mut();
        let before = conn.queued();
        let outcome = act(&mut conn);
        let added = conn.take_added();
        let taken = before.saturating_add_signed(added) - conn.queued();
        if added != 0 {
            let written = &self.account.written;
            written.set(written.get().saturating_add_signed(added as i64));
        }
        if taken > 0 && outcome.is_ok() {
            self.account.last_out.set(core.moment.get());
            self.server.get().count_sent(taken);
        }
        outcome
    }

    #[inline]
    pub(super) fn flushed(
        &self,
        slf: &Bound<'_, Self>,
        core: &Bound<'_, LoopCore>,
        outcome: io::Result<Flushed>,
    ) -> PyResult<()> {
        match outcome {
            Ok(Flushed::Empty) => {
                if self.flags.any(Flag::CLOSING | Flag::STALLED | Flag::TAPPED) {
                    self.tap_left(slf.py());
                    if self.flags.any(Flag::CLOSING) {
                        return self.sent_all(slf, core);
                    }
                    self.note_stall(core.get(), false);
                }
            }
            Ok(Flushed::Again) => {
                self.tap_left(slf.py());
                core.get().reactor.mark_later(self.token);
            }
            Ok(Flushed::Waiting) => {
                self.tap_left(slf.py());
                if self.server.get().options.watches_writes {
                    self.note_stall(core.get(), true);
                }
            }
            Err(error) => {
                self.tap_left(slf.py());
                let code = code_of(&error);
                let error = os_error(&error);
                return self.end(slf, core, code, error.value(slf.py()).to_string(), Some(error));
            }
        }
        let crossing = self.conn.borrow_mut().pressure();
        match crossing {
            None => Ok(()),
            Some(Pressure::Rose) => {
                self.flags.set(Flag::PRESSED);
                Ok(())
            }
            Some(Pressure::Fell) => {
                self.flags.clear(Flag::PRESSED);
                self.settle(slf.py(), None)?;
                self.send_waiting(slf, core)?;
                self.feed(slf, core)?;
                self.go_on(slf, core)
            }
        }
    }

    /// Ends the waits of `send` and `drain`.
    pub(super) fn settle(&self, py: Python<'_>, error: Option<PyErr>) -> PyResult<()> {
        let waiters = self.if_extra(|extra| std::mem::take(&mut extra.waiters));
        for waiter in waiters.unwrap_or_default() {
            let waiter = waiter.bind(py);
            if waiter.call_method0(intern!(py, "done"))?.is_truthy()? {
                continue;
            }
            match &error {
                None => waiter.call_method1(intern!(py, "set_result"), (py.None(),))?,
                Some(error) => {
                    waiter.call_method1(intern!(py, "set_exception"), (error.value(py),))?
                }
            };
        }
        Ok(())
    }

    /// A future that ends at the low watermark.
    pub(super) fn wait<'py>(&self, core: &Bound<'py, LoopCore>) -> PyResult<Bound<'py, PyAny>> {
        let waiter = core.call_method0(intern!(core.py(), "create_future"))?;
        self.extra(|extra| extra.waiters.push(waiter.clone().unbind()));
        Ok(waiter)
    }
}

unsafe extern "C" fn send(
    object: *mut ffi::PyObject,
    data: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: the descriptor checked the type of `object`; both are alive during the call and the GIL
    // is held.
    unsafe {
        let py = Python::assume_attached();
        let slf = Bound::from_borrowed_ptr(py, object);
        let slf = slf.cast_unchecked::<Connection>();
        let this = slf.get();
        let body = || {
            let outcome = this.queue(slf, &Bound::from_borrowed_ptr(py, data))?;
            if this.flags.any(Flag::CLOSED) {
                return Err(this.closed_error(py));
            }
            if matches!(outcome, Outcome::Over) {
                return Ok(this.wait(this.server.get().core(py))?.into_ptr());
            }
            Ok(step::done())
        };
        give(py, body())
    }
}

unsafe extern "C" fn send_nowait(
    object: *mut ffi::PyObject,
    data: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: as in `send`.
    unsafe {
        let py = Python::assume_attached();
        let slf = Bound::from_borrowed_ptr(py, object);
        let slf = slf.cast_unchecked::<Connection>();
        let body = || {
            let outcome = slf.get().queue(slf, &Bound::from_borrowed_ptr(py, data))?;
            Ok(outcome::give(outcome))
        };
        give(py, body())
    }
}

static METHODS: Methods<2> = Methods([
    unary(
        c_str!("send"),
        send,
        c_str!(
            "send($self, message, /)\n--\n\nQueue one message; awaiting the result waits while too much is queued."
        ),
    ),
    unary(
        c_str!("send_nowait"),
        send_nowait,
        c_str!("send_nowait($self, message, /)\n--\n\nQueue one message and return a SendResult."),
    ),
]);

/// Adds the class and its hot methods.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Connection>()?;
    interp::add_methods(&module.py().get_type::<Connection>(), &METHODS)
}
