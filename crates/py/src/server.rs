//! `ServerCore`: what all connections of one framed server share, natively: framing, handlers, limits
//! and counts. The Python half is `wireway.net.server`.

use std::cell::{Cell, RefCell};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};
use wireway_core::frame::Framing;

use crate::connection::Connection;
use crate::event_loop::{Endpoint, LoopCore};
use crate::interp;

/// What the handlers of a server are.
pub struct Handlers {
    /// `on_message(conn, message)` or `on_batch(conn, [messages])`.
    pub messages: Py<PyAny>,
    /// `messages` takes a list.
    pub batch: bool,
    /// `on_connect(conn)`.
    pub connect: Option<Py<PyAny>>,
    /// `closed(conn, code, why, error)`: builds the reason, logs it, calls the user's `on_close`.
    pub closed: Py<PyAny>,
    /// The user has an `on_close`: also ordinary ends are told.
    pub wants_close: bool,
}

/// What the connections of one server share.
#[pyclass(frozen, weakref, module = "wireway._native")]
pub struct ServerCore {
    core: Py<LoopCore>,
    /// How the stream is cut.
    pub framing: Framing,
    handlers: RefCell<Option<Handlers>>,
    /// The context that handlers run in, or in copies of.
    pub context: Py<PyAny>,
    /// Watermarks of each connection, bytes: low, high.
    pub watermarks: (usize, usize),
    accepted: Cell<u64>,
    open: Cell<usize>,
    messages: Cell<u64>,
    drained: RefCell<Option<Py<PyAny>>>,
}

// SAFETY: as `LoopCore`.
unsafe impl Sync for ServerCore {}
// SAFETY: as `LoopCore`.
unsafe impl Send for ServerCore {}

#[pymethods]
impl ServerCore {
    /// `framing` is what `_native()` of a framing returns.
    #[new]
    #[pyo3(signature = (core, framing, messages, closed, *, batch = false, connect = None,
                        wants_close = false, low = 16384, high = 65536))]
    #[expect(clippy::too_many_arguments, reason = "keyword-only, called from one place")]
    fn new(
        py: Python<'_>,
        core: Py<LoopCore>,
        framing: &Bound<'_, PyAny>,
        messages: Py<PyAny>,
        closed: Py<PyAny>,
        batch: bool,
        connect: Option<Py<PyAny>>,
        wants_close: bool,
        low: usize,
        high: usize,
    ) -> PyResult<Self> {
        if low > high {
            return Err(PyValueError::new_err("low must be at most high"));
        }
        Ok(Self {
            core,
            framing: crate::framing::parse(framing)?,
            handlers: RefCell::new(Some(Handlers {
                messages,
                batch,
                connect,
                closed,
                wants_close,
            })),
            context: interp::copy_context(py)?,
            watermarks: (low, high),
            accepted: Cell::new(0),
            open: Cell::new(0),
            messages: Cell::new(0),
            drained: RefCell::new(None),
        })
    }

    /// Connections accepted so far.
    #[getter]
    fn accepted(&self) -> u64 {
        self.accepted.get()
    }

    /// Connections open now.
    #[getter]
    fn open(&self) -> usize {
        self.open.get()
    }

    /// Messages received so far.
    #[getter]
    fn messages(&self) -> u64 {
        self.messages.get()
    }

    /// The open connections.
    fn connections(slf: &Bound<'_, Self>) -> Vec<Py<Connection>> {
        let py = slf.py();
        let endpoints = slf.get().core.get().endpoints.borrow();
        endpoints
            .iter()
            .filter_map(|endpoint| match endpoint {
                Endpoint::Connection(connection) if connection.get().belongs_to(slf) => {
                    Some(connection.clone_ref(py))
                }
                _ => None,
            })
            .collect()
    }

    /// `callback()` runs once when no connection is open, at once if none is.
    fn when_drained(&self, callback: Py<PyAny>) -> PyResult<()> {
        if self.open.get() == 0 {
            // SAFETY: a method of a Python class runs with the GIL held.
            let py = unsafe { Python::assume_attached() };
            return callback.call0(py).map(drop);
        }
        let former = self.drained.borrow_mut().replace(callback);
        drop(former);
        Ok(())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.core)?;
        visit.call(&self.context)?;
        if let Ok(handlers) = self.handlers.try_borrow()
            && let Some(handlers) = handlers.as_ref()
        {
            visit.call(&handlers.messages)?;
            visit.call(&handlers.connect)?;
            visit.call(&handlers.closed)?;
        }
        if let Ok(drained) = self.drained.try_borrow() {
            visit.call(&*drained)?;
        }
        Ok(())
    }

    fn __clear__(&self) {
        drop(self.handlers.take());
        drop(self.drained.take());
    }
}

impl ServerCore {
    /// The loop.
    #[inline]
    pub fn core<'py>(&self, py: Python<'py>) -> &Bound<'py, LoopCore> {
        self.core.bind(py)
    }

    /// A connection begins: its number, from 1.
    pub fn opened(&self) -> u64 {
        self.open.set(self.open.get() + 1);
        self.accepted.set(self.accepted.get() + 1);
        self.accepted.get()
    }

    /// A connection ended.
    pub fn closed(&self, py: Python<'_>) -> PyResult<()> {
        self.open.set(self.open.get() - 1);
        if self.open.get() == 0 {
            let callback = self.drained.borrow_mut().take();
            if let Some(callback) = callback {
                callback.call0(py)?;
            }
        }
        Ok(())
    }

    /// Counts messages.
    #[inline]
    pub fn count(&self, messages: u64) {
        self.messages.set(self.messages.get() + messages);
    }

    /// A part of the handlers, as an owned reference; None after the collector cleared them.
    #[inline]
    pub fn with_handlers<R>(&self, read: impl FnOnce(&Handlers) -> R) -> Option<R> {
        self.handlers.borrow().as_ref().map(read)
    }
}
