//! `LoopCore`: the native half of the event loop. `wireway.EventLoop` inherits it before the standard
//! library's selector loop, so what is defined here replaces, and everything else is inherited.
//!
//! Owns the reactor, the queue of ready handles and the table of who is behind each token. A turn is
//! drawn in `wireway_core::reactor`; what the turn calls back is in `host`.
//!
//! # Threads
//!
//! While the loop runs, its state belongs to the thread that runs it; every entry checks that and
//! raises `RuntimeError` elsewhere. Only `call_soon_threadsafe` may come from anywhere: it appends to
//! the ready queue, which is safe because the GIL is held and no borrow of it outlives a statement.
//!
//! # Borrows
//!
//! Dropping a Python object can run any code, also code that calls back into the loop. So nothing is
//! dropped while a cell is borrowed: things are moved out first.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::os::fd::RawFd;
use std::sync::Arc;

use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use pyo3::{PyTraverseError, PyVisit, intern};
use wireway_core::driver::{Backend, Waker};
use wireway_core::reactor::Reactor;
use wireway_core::sys;

use crate::errors::{loop_closed, os_error};
use crate::handle::Handle;
use crate::histogram::Histogram;
use crate::host::Host;
use crate::interp;
use crate::listener::Listener;
use crate::stall::Beat;
use crate::step::{self, StandIn};
use crate::transport::StreamTransport;
use crate::watch::{ReaderAndWriter, Watches};

mod duties;
mod parties;
mod scheduling;

pub use parties::{Endpoint, Ready};
pub use scheduling::register;

/// The native half of the event loop.
#[pyclass(subclass, frozen, weakref, module = "wireway._native")]
pub struct LoopCore {
    pub(crate) reactor: Reactor<Ready>,
    backend: Backend,
    pub(crate) ready: RefCell<VecDeque<Ready>>,
    pub(crate) endpoints: RefCell<Vec<Endpoint>>,
    pub(crate) watches: Watches,
    /// The slot of the transport or connection of each descriptor number, plus one.
    streams: RefCell<Vec<u32>>,
    /// Listeners that met the descriptor limit and wait for a descriptor to be free.
    pub(crate) starved: RefCell<Vec<Py<Listener>>>,
    /// How many descriptors of the loop's connections, or of peers that were not let in, were closed so far.
    pub(crate) freed: Cell<u64>,
    pub(crate) stand_in: RefCell<Option<Box<StandIn>>>,
    pub(crate) debug: Cell<bool>,
    pub(crate) stopping: Cell<bool>,
    closed: Cell<bool>,
    /// Identity of the thread that runs the loop, 0 while nobody does.
    runner: Cell<usize>,
    waker: Waker,
    /// A test's clock, seconds; not a number while time flows.
    clock: Cell<f64>,
    /// When the driver last came back from a wait, seconds: near enough for deadlines of connections.
    pub(crate) moment: Cell<f64>,
    /// How long turns take, from the end of a sleep to the next one.
    pub(crate) turns: Histogram,
    /// What the stall watch sees of it.
    pub(crate) beat: Arc<Beat>,
}

// SAFETY: PyO3 wants classes to be usable from any thread. Every method is called with the GIL held,
// so no two threads are inside at once; the GIL is released only in `Host::park`, during which the
// driver is borrowed, and every entry that would touch the driver first checks that it is on the
// running thread (`check_thread`). What remains is plain data.
unsafe impl Sync for LoopCore {}
// SAFETY: as above. Nothing in it is bound to the thread that made it: drivers bind themselves to the
// thread that waits.
unsafe impl Send for LoopCore {}

/// The interpreter's state of the calling thread: no other living thread has it, and reading it is
/// cheaper than a thread-local of ours.
#[inline]
fn this_thread() -> usize {
    // SAFETY: called with the GIL held, so there is one.
    unsafe { ffi::PyThreadState_Get() }.addr()
}

#[pymethods]
impl LoopCore {
    /// `backend` is one of BACKENDS. Further arguments belong to the other base class.
    #[new]
    #[pyo3(signature = (backend = "epoll"))]
    fn new(backend: &str) -> PyResult<Self> {
        let backend = Backend::from_name(backend)
            .ok_or_else(|| PyValueError::new_err(format!("unknown back end {backend:?}")))?;
        let driver = backend.open().map_err(|error| os_error(&error))?;
        let waker = driver.waker();
        Ok(Self {
            reactor: Reactor::new(driver),
            backend,
            ready: RefCell::default(),
            endpoints: RefCell::default(),
            watches: Watches::default(),
            streams: RefCell::default(),
            starved: RefCell::default(),
            freed: Cell::new(0),
            stand_in: RefCell::default(),
            debug: Cell::new(false),
            stopping: Cell::new(false),
            closed: Cell::new(false),
            runner: Cell::new(0),
            waker,
            clock: Cell::new(f64::NAN),
            moment: Cell::new(sys::monotonic()),
            turns: Histogram::default(),
            beat: Arc::default(),
        })
    }

    /// The name of the back end that runs: one of BACKENDS.
    #[getter]
    fn backend(&self) -> &'static str {
        self.backend.name()
    }

    #[getter(_stopping)]
    fn get_stopping(&self) -> bool {
        self.stopping.get()
    }

    #[setter(_stopping)]
    fn set_stopping(&self, value: bool) {
        self.stopping.set(value);
    }

    #[getter(_debug)]
    fn get_debug_flag(&self) -> bool {
        self.debug.get()
    }

    #[setter(_debug)]
    fn set_debug_flag(&self, value: &Bound<'_, PyAny>) -> PyResult<()> {
        self.debug.set(value.is_truthy()?);
        Ok(())
    }

    /// The callback runs in the loop's next turn. Any thread may call it.
    #[pyo3(signature = (callback, *args, context = None))]
    fn call_soon_threadsafe<'py>(
        slf: &Bound<'py, Self>,
        callback: &Bound<'py, PyAny>,
        args: &Bound<'py, PyTuple>,
        context: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let this = slf.get();
        if this.closed.get() {
            return Err(loop_closed());
        }
        let handle = if this.debug.get() {
            slf.call_method1(
                intern!(slf.py(), "_debug_handle"),
                (callback, args, context, "call_soon_threadsafe"),
            )?
        } else {
            let arguments: Vec<*mut ffi::PyObject> = args.iter().map(|a| a.as_ptr()).collect();
            let context = own_context(slf.py(), context)?;
            let object = slf.as_ptr();
            // SAFETY: all are live objects held by the caller.
            let handle =
                unsafe { Handle::new(slf.py(), object, callback.as_ptr(), &arguments, context)? };
            // SAFETY: a new reference to a live object.
            unsafe { Bound::from_owned_ptr(slf.py(), handle.into_ptr()) }
        };
        this.push(handle.clone().unbind());
        this.waker.wake();
        Ok(handle)
    }

    /// Puts a clock that stands still in the place of CLOCK_MONOTONIC, for tests; None takes it away.
    /// While it is there no deadline ends a sleep: it is looked at when something else ends it.
    fn _set_clock(&self, seconds: Option<f64>) -> PyResult<()> {
        self.check_thread()?;
        self.clock.set(seconds.unwrap_or(f64::NAN));
        self.moment.set(self.now());
        Ok(())
    }

    /// Appends a handle of any kind to the ready queue.
    fn _add_callback(&self, handle: Py<PyAny>) {
        self.push(handle);
    }

    /// Appends a handle and wakes the loop, from any thread.
    fn _add_callback_signalsafe(&self, handle: Py<PyAny>) {
        self.push(handle);
        self.waker.wake();
    }

    /// Ends the present or next sleep, from any thread.
    fn _write_to_self(&self) {
        self.waker.wake();
    }

    /// Adds a standard library timer handle (debug mode).
    fn _push_timer(&self, when: f64, handle: Py<PyAny>) {
        self.reactor.timers.borrow_mut().push(when, Ready::Stock(handle));
    }

    /// A standard library timer handle says that it was cancelled.
    fn _timer_handle_cancelled(&self, _handle: &Bound<'_, PyAny>) {
        self.timer_cancelled();
    }

    /// Runs turns until the loop is told to stop. The name is the standard library's.
    fn _run_once(slf: &Bound<'_, Self>) -> PyResult<()> {
        let this = slf.get();
        if this.closed.get() {
            return Err(loop_closed());
        }
        if this.runner.get() != 0 {
            return Err(PyRuntimeError::new_err("This event loop is already running"));
        }
        this.runner.set(this_thread());
        this.beat.awake(this.now());
        let mut host = Host::new(slf);
        let result = loop {
            if let Err(error) = this.reactor.turn(&mut host) {
                break Err(os_error(&error));
            }
            if let Some(error) = host.error.take() {
                break Err(error);
            }
            if this.stopping.get() {
                break Ok(());
            }
        };
        this.reactor.flush_dirty(&mut host);
        let settled = this.reactor.driver.settle().map_err(|error| os_error(&error));
        this.runner.set(0);
        this.beat.asleep();
        result.and(settled)
    }

    /// Begins to watch a descriptor for reading: the callback runs in each turn while it is readable.
    #[pyo3(signature = (fd, callback, *args))]
    fn _add_reader<'py>(
        slf: &Bound<'py, Self>,
        fd: &Bound<'py, PyAny>,
        callback: &Bound<'py, PyAny>,
        args: &Bound<'py, PyTuple>,
    ) -> PyResult<Bound<'py, PyAny>> {
        Watches::add(slf, fd, callback, args, false)
    }

    /// Ends it. Returns whether there was a reader.
    fn _remove_reader(slf: &Bound<'_, Self>, fd: &Bound<'_, PyAny>) -> PyResult<bool> {
        Watches::remove(slf, fd, false)
    }

    /// Begins to watch a descriptor for writing.
    #[pyo3(signature = (fd, callback, *args))]
    fn _add_writer<'py>(
        slf: &Bound<'py, Self>,
        fd: &Bound<'py, PyAny>,
        callback: &Bound<'py, PyAny>,
        args: &Bound<'py, PyTuple>,
    ) -> PyResult<Bound<'py, PyAny>> {
        Watches::add(slf, fd, callback, args, true)
    }

    /// Ends it. Returns whether there was a writer.
    fn _remove_writer(slf: &Bound<'_, Self>, fd: &Bound<'_, PyAny>) -> PyResult<bool> {
        Watches::remove(slf, fd, true)
    }

    /// `(reader, writer)` of a watched descriptor, or None if it has neither.
    fn _watched(slf: &Bound<'_, Self>, fd: RawFd) -> Option<ReaderAndWriter> {
        slf.get().watches.handles(slf.py(), fd)
    }

    /// The native transport of a descriptor, or None.
    fn _native_transport(&self, py: Python<'_>, fd: RawFd) -> Option<Py<StreamTransport>> {
        let slot = self.stream_slot(fd)?;
        match self.endpoints.borrow().get(slot) {
            Some(Endpoint::Transport(transport)) => Some(transport.clone_ref(py)),
            _ => None,
        }
    }

    /// Closes listeners, transports and connections at once, and drops what was to run.
    fn _close_native(slf: &Bound<'_, Self>) -> PyResult<()> {
        let (this, py) = (slf.get(), slf.py());
        if this.closed.get() {
            return Ok(());
        }
        step::retire(slf)?;
        this.closed.set(true);
        let endpoints = this.endpoints.take();
        for endpoint in endpoints {
            match endpoint {
                Endpoint::None | Endpoint::Watch(_) => {}
                Endpoint::Listener(listener) => listener.get().close(py, this),
                Endpoint::Transport(transport) => {
                    StreamTransport::loop_closed(transport.bind(py), this);
                }
                Endpoint::Connection(connection) => connection.get().loop_closed(py, this),
            }
        }
        this.watches.clear(this);
        drop(this.starved.take());
        this.forget_callbacks();
        this.reactor.driver.close();
        Ok(())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // The collector may run at any point of our own code; what is borrowed is left out this time.
        if let Ok(ready) = self.ready.try_borrow() {
            for item in ready.iter() {
                item.traverse(&visit)?;
            }
        }
        if let Ok(timers) = self.reactor.timers.try_borrow() {
            for item in timers.iter() {
                item.traverse(&visit)?;
            }
        }
        if let Ok(endpoints) = self.endpoints.try_borrow() {
            for endpoint in endpoints.iter() {
                match endpoint {
                    Endpoint::None | Endpoint::Watch(_) => {}
                    Endpoint::Listener(listener) => visit.call(listener)?,
                    Endpoint::Transport(transport) => visit.call(transport)?,
                    Endpoint::Connection(connection) => visit.call(connection)?,
                }
            }
        }
        if let Ok(stand_in) = self.stand_in.try_borrow()
            && let Some(stand_in) = stand_in.as_ref()
        {
            stand_in.traverse(&visit)?;
        }
        self.watches.traverse(&visit)
    }

    fn __clear__(&self) {
        self.watches.clear(self);
        self.forget_callbacks();
        drop(self.endpoints.take());
        drop(self.stand_in.take());
    }
}

/// The context given, or a copy of the current one.
pub fn own_context(py: Python<'_>, context: Option<Bound<'_, PyAny>>) -> PyResult<Py<PyAny>> {
    match context {
        Some(context) if !context.is_none() => Ok(context.unbind()),
        _ => interp::copy_context(py),
    }
}

/// The names of the back ends, in order of preference.
pub fn backend_names(py: Python<'_>) -> PyResult<Bound<'_, PyTuple>> {
    PyTuple::new(py, Backend::ALL.map(Backend::name))
}

/// Whether a back end can be had here: None, or the `OSError` that the kernel gives.
#[pyfunction]
pub fn probe(backend: &str) -> PyResult<Option<PyErr>> {
    let backend = Backend::from_name(backend)
        .ok_or_else(|| PyValueError::new_err(format!("unknown back end {backend:?}")))?;
    Ok(backend.probe().err().map(|error| os_error(&error)))
}

/// Whether the kernel is new enough for all that a back end can use. False for one that it refuses.
#[pyfunction]
pub fn is_up_to_date(backend: &str) -> PyResult<bool> {
    Backend::from_name(backend)
        .map(Backend::is_up_to_date)
        .ok_or_else(|| PyValueError::new_err(format!("unknown back end {backend:?}")))
}
