//! What goes: queueing, flushing, and who waits for room.

use std::io;

use pyo3::ffi;
use pyo3::ffi::c_str;
use pyo3::intern;
use pyo3::prelude::*;
use wireway_core::conn::{Flushed, Pressure};
use wireway_core::op::Token;

use crate::errors::os_error;
use crate::event_loop::LoopCore;
use crate::framing;
use crate::interp::{self, Methods, give, none, unary};
use crate::step;

use super::Connection;

impl Connection {
    /// Queues one message and flushes if too much waits.
    #[inline]
    pub(super) fn queue(&self, slf: &Bound<'_, Self>, data: &Bound<'_, PyAny>) -> PyResult<()> {
        let flags = self.flags.get();
        if flags.closing {
            return Err(self.closed_error(slf.py()));
        }
        let server = self.server.get();
        let core = server.core(slf.py());
        core.get().check_thread()?;
        let pool = &core.get().reactor.pool;
        framing::queue(&self.conn, pool, &server.framing, data)?;
        if !flags.dirty {
            self.change(|flags| flags.dirty = true);
            core.get().reactor.mark_dirty(self.token);
        }
        if self.conn.borrow().over() { self.press(slf, core) } else { Ok(()) }
    }

    #[cold]
    pub(super) fn press(&self, slf: &Bound<'_, Self>, core: &Bound<'_, LoopCore>) -> PyResult<()> {
        if self.flags.get().pressed {
            return Ok(());
        }
        let reactor = &core.get().reactor;
        let outcome = self.conn.borrow_mut().flush(&*reactor.driver, &reactor.pool);
        self.flushed(slf, core, outcome)
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
        self.change(|flags| flags.dirty = false);
        let reactor = &core.get().reactor;
        let outcome = self.conn.borrow_mut().flush(&*reactor.driver, &reactor.pool);
        self.flushed(slf, core, outcome)
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
                if self.flags.get().closing {
                    return self.over(slf, core);
                }
            }
            Ok(Flushed::Again) => core.get().reactor.mark_later(self.token),
            Ok(Flushed::Waiting) => {}
            Err(error) => {
                let error = os_error(&error);
                let code = "peer-reset";
                return self.end(slf, core, code, error.value(slf.py()).to_string(), Some(error));
            }
        }
        let crossing = self.conn.borrow_mut().pressure();
        match crossing {
            None => Ok(()),
            Some(Pressure::Rose) => {
                self.change(|flags| flags.pressed = true);
                Ok(())
            }
            Some(Pressure::Fell) => {
                self.change(|flags| flags.pressed = false);
                self.settle(slf.py(), None)?;
                self.go_on(slf, core)
            }
        }
    }

    /// Ends the waits of `send` and `drain`.
    pub(super) fn settle(&self, py: Python<'_>, error: Option<PyErr>) -> PyResult<()> {
        for waiter in self.waiters.take() {
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
        self.waiters.borrow_mut().push(waiter.clone().unbind());
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
            this.queue(slf, &Bound::from_borrowed_ptr(py, data))?;
            if this.flags.get().pressed {
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
            slf.get().queue(slf, &Bound::from_borrowed_ptr(py, data))?;
            Ok(none())
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
        c_str!("send_nowait($self, message, /)\n--\n\nQueue one message and return."),
    ),
]);

/// Adds the class and its hot methods.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Connection>()?;
    interp::add_methods(&module.py().get_type::<Connection>(), &METHODS)
}
