//! What goes: queueing, flushing, and the two watermarks.

use std::io;

use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::ffi;
use pyo3::ffi::c_str;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use wireway_core::conn::{Flushed, Pressure};
use wireway_core::op::Token;

use crate::errors::{leaves_the_loop, os_error, type_name};
use crate::event_loop::LoopCore;
use crate::interp::{self, Methods, give, none, unary};
use crate::memory::{KEEP_FROM, KeptBytes, with_bytes};

use super::StreamTransport;

/// Writes to a lost connection before asyncio warns.
const LOST_WRITES_BEFORE_WARNING: u32 = 5;

impl StreamTransport {
    /// Whether `write` may queue: raises what asyncio raises, and counts writes to a lost connection.
    #[inline]
    pub(super) fn admit(&self, py: Python<'_>) -> PyResult<bool> {
        let flags = self.flags.get();
        if flags.eof {
            return Err(PyRuntimeError::new_err("Cannot call write() after write_eof()"));
        }
        if self.empty_waiter.borrow().is_some() {
            return Err(PyRuntimeError::new_err("unable to write; sendfile is in progress"));
        }
        if flags.lost {
            let count = self.lost_writes.get();
            if count >= LOST_WRITES_BEFORE_WARNING {
                let text = "socket.send() raised exception.";
                interp::logger(py)?.call_method1("warning", (text,))?;
            }
            self.lost_writes.set(count + 1);
            return Ok(false);
        }
        Ok(true)
    }

    #[inline]
    pub(super) fn queue(&self, core: &LoopCore, data: &Bound<'_, PyAny>) -> PyResult<()> {
        let mut conn = self.conn.borrow_mut();
        if let Ok(bytes) = data.cast::<PyBytes>() {
            let content = bytes.as_bytes();
            if content.len() < KEEP_FROM {
                conn.write(&core.reactor.pool, content);
            } else {
                conn.keep(&core.reactor.pool, KeptBytes::boxed(bytes));
            }
            return Ok(());
        }
        drop(conn);
        with_bytes(data, |content| self.conn.borrow_mut().write(&core.reactor.pool, content))
    }

    /// After queueing: note it for the flush, or flush at once when too much waits.
    #[inline]
    pub(super) fn queued(&self, slf: &Bound<'_, Self>, core: &LoopCore) -> PyResult<()> {
        self.mark_dirty(core);
        if self.conn.borrow().over() {
            return self.press(slf);
        }
        Ok(())
    }

    #[inline]
    pub(super) fn mark_dirty(&self, core: &LoopCore) {
        if !self.flags.get().dirty {
            self.change(|flags| flags.dirty = true);
            core.reactor.mark_dirty(self.token);
        }
    }

    #[cold]
    pub(super) fn press(&self, slf: &Bound<'_, Self>) -> PyResult<()> {
        let core = self.core.bind(slf.py());
        let reactor = &core.get().reactor;
        let outcome = self.conn.borrow_mut().flush(&*reactor.driver, &reactor.pool);
        self.flushed_inside(slf, core, outcome)
    }

    /// [`Self::flushed`] where the protocol is on the stack: it called `write`, `write_eof` or `close`.
    ///
    /// It may be told to pause, in the context it runs in. To resume it in the midst of its own call would
    /// surprise it (asyncio never does): what it must learn of a queue that ran empty waits for the turn's flush.
    pub(super) fn flushed_inside(
        &self,
        slf: &Bound<'_, Self>,
        core: &Bound<'_, LoopCore>,
        outcome: io::Result<Flushed>,
    ) -> PyResult<()> {
        if self.flags.get().protocol_paused {
            if let Ok(Flushed::Again) = outcome {
                core.get().reactor.mark_later(self.token);
            }
            if outcome.is_ok() {
                self.mark_dirty(core.get());
                return Ok(());
            }
        }
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
        let flags = self.flags.get();
        match outcome {
            Ok(Flushed::Empty) => {
                if flags.protocol_paused {
                    self.relieve(slf)?;
                }
                if self.empty_waiter.borrow().is_some() {
                    self.settle_waiter(slf.py())?;
                }
                // Who was told to go on may have written more: TLS does, also when it is about to close.
                if flags.closing && !self.flags.get().lost && self.conn.borrow().queued() == 0 {
                    return self.lose(slf, None);
                }
                return Ok(());
            }
            Ok(Flushed::Again) => core.get().reactor.mark_later(self.token),
            Ok(Flushed::Waiting) => {}
            Err(error) => {
                let error = os_error(&error);
                return self.fatal(slf, &error, "Fatal write error on socket transport");
            }
        }
        self.relieve(slf)
    }

    /// Tells the protocol of a crossed watermark.
    pub(super) fn relieve(&self, slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let crossing = self.conn.borrow_mut().pressure();
        let (method, message) = match crossing {
            None => return Ok(()),
            Some(Pressure::Rose) => {
                (intern!(py, "pause_writing"), "protocol.pause_writing() failed")
            }
            Some(Pressure::Fell) => {
                (intern!(py, "resume_writing"), "protocol.resume_writing() failed")
            }
        };
        self.change(|flags| flags.protocol_paused = crossing == Some(Pressure::Rose));
        let Some(protocol) = self.protocol(py) else {
            return Ok(());
        };
        // A rise comes of the protocol's own call, a fall of the loop's: see `flushed_inside`.
        let result = if crossing == Some(Pressure::Rose) {
            protocol.call_method0(method).map(drop)
        } else {
            interp::inside(py, &self.context, || protocol.call_method0(method).map(drop))
        };
        match result {
            Err(error) if leaves_the_loop(py, &error) => Err(error),
            Err(error) => LoopCore::report(
                self.core.bind(py),
                message,
                &error,
                &[("transport", slf.as_any()), ("protocol", &protocol)],
            ),
            Ok(()) => Ok(()),
        }
    }

    pub(super) fn settle_waiter(&self, py: Python<'_>) -> PyResult<()> {
        let waiter = self.empty_waiter.borrow().as_ref().map(|waiter| waiter.clone_ref(py));
        match waiter {
            Some(waiter) if !waiter.call_method0(py, intern!(py, "done"))?.is_truthy(py)? => {
                waiter.call_method1(py, intern!(py, "set_result"), (py.None(),)).map(drop)
            }
            _ => Ok(()),
        }
    }
}

/// asyncio's complaint about an argument that is not bytes-like.
pub(super) fn not_bytes(data: &Bound<'_, PyAny>) -> PyErr {
    PyTypeError::new_err(format!(
        "data argument must be a bytes-like object, not '{}'",
        type_name(data)
    ))
}

pub(super) unsafe extern "C" fn write(
    object: *mut ffi::PyObject,
    data: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: the descriptor checked the type of `object`; both are alive during the call and the GIL
    // is held.
    unsafe {
        let py = Python::assume_attached();
        let slf = Bound::from_borrowed_ptr(py, object);
        let body = || {
            let slf = slf.cast_unchecked::<StreamTransport>();
            let this = slf.get();
            let core = this.core.get();
            let data = Bound::from_borrowed_ptr(py, data);
            if ffi::PyObject_CheckBuffer(data.as_ptr()) == 0 {
                return Err(not_bytes(&data));
            }
            core.check_thread()?;
            if !this.admit(py)? {
                return Ok(none());
            }
            this.queue(core, &data)?;
            this.queued(slf, core)?;
            Ok(none())
        };
        give(py, body())
    }
}

pub(super) static METHODS: Methods<1> = Methods([unary(
    c_str!("write"),
    write,
    c_str!(
        "write($self, data, /)\n--\n\nQueue bytes; they leave when the running callback returns."
    ),
)]);

/// Adds the class and its hot method.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<StreamTransport>()?;
    interp::add_methods(&module.py().get_type::<StreamTransport>(), &METHODS)
}
