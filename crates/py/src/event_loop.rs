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
use std::ffi::CStr;
use std::os::fd::RawFd;
use std::ptr;

use pyo3::exceptions::{PyRuntimeError, PyTypeError, PyValueError};
use pyo3::ffi;
use pyo3::ffi::c_str;
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use pyo3::{PyTraverseError, PyVisit, intern};
use wireway_core::driver::{Backend, Waker};
use wireway_core::op::Token;
use wireway_core::reactor::Reactor;
use wireway_core::sys;

use crate::connection::Connection;
use crate::errors::{loop_closed, os_error, wrong_thread};
use crate::handle::Handle;
use crate::host::Host;
use crate::interp::{self, Methods, fast, give, nullary};
use crate::listener::Listener;
use crate::step::{self, StandIn};
use crate::transport::StreamTransport;
use crate::watch::{ReaderAndWriter, Watches};

/// Something that waits for its turn.
pub enum Ready {
    /// One of our handles.
    Ours(Handle),
    /// A handle of the standard library's (debug mode, subclasses): run by its own `_run`.
    Stock(Py<PyAny>),
}

/// Who is behind a token.
#[derive(Default)]
pub enum Endpoint {
    /// Nobody.
    #[default]
    None,
    /// A descriptor given to `add_reader` or `add_writer`.
    Watch(RawFd),
    /// A listening socket.
    Listener(Py<Listener>),
    /// A stream of a protocol.
    Transport(Py<StreamTransport>),
    /// A connection of a server.
    Connection(Py<Connection>),
}

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
    pub(crate) stand_in: RefCell<Option<Box<StandIn>>>,
    pub(crate) debug: Cell<bool>,
    pub(crate) stopping: Cell<bool>,
    closed: Cell<bool>,
    /// Identity of the thread that runs the loop, 0 while nobody does.
    runner: Cell<usize>,
    waker: Waker,
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
            stand_in: RefCell::default(),
            debug: Cell::new(false),
            stopping: Cell::new(false),
            closed: Cell::new(false),
            runner: Cell::new(0),
            waker,
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
                Endpoint::Transport(transport) => transport.get().loop_closed(this),
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

impl Ready {
    fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self {
            Self::Ours(handle) => handle.traverse(visit),
            Self::Stock(handle) => visit.call(handle),
        }
    }

    /// It will never run. A handle of the standard library's is the collector's to see through.
    fn forget(self) {
        if let Self::Ours(handle) = self {
            handle.forget();
        }
    }

    /// Whether it was cancelled.
    pub fn cancelled(&self, py: Python<'_>) -> bool {
        match self {
            Self::Ours(handle) => handle.cancelled(),
            Self::Stock(handle) => handle
                .bind(py)
                .getattr(intern!(py, "_cancelled"))
                .and_then(|flag| flag.is_truthy())
                .unwrap_or(false),
        }
    }
}

impl LoopCore {
    /// Appends to the ready queue.
    pub(crate) fn push(&self, handle: Py<PyAny>) {
        let item = match Handle::from_object(handle) {
            Ok(ours) => Ready::Ours(ours),
            Err(stock) => Ready::Stock(stock),
        };
        self.ready.borrow_mut().push_back(item);
    }

    /// Drops everything that was to run.
    fn forget_callbacks(&self) {
        self.ready.take().into_iter().for_each(Ready::forget);
        let timers = self.reactor.timers.borrow_mut().drain();
        timers.into_iter().for_each(Ready::forget);
    }

    /// Refuses a closed loop and a thread that is not the loop's while it runs.
    #[inline]
    pub(crate) fn check(&self) -> PyResult<()> {
        if self.closed.get() {
            return Err(loop_closed());
        }
        self.check_thread()
    }

    /// Refuses a thread that is not the loop's while it runs.
    #[inline]
    pub(crate) fn check_thread(&self) -> PyResult<()> {
        let runner = self.runner.get();
        if runner != 0 && runner != this_thread() { Err(wrong_thread()) } else { Ok(()) }
    }

    /// Whether the loop was closed.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.get()
    }

    /// Puts an endpoint behind a token.
    pub(crate) fn place(&self, token: Token, endpoint: Endpoint) {
        let mut endpoints = self.endpoints.borrow_mut();
        if endpoints.len() <= token.index() {
            endpoints.resize_with(token.index() + 1, Endpoint::default);
        }
        let former = std::mem::replace(&mut endpoints[token.index()], endpoint);
        drop(endpoints);
        drop(former);
    }

    /// Puts a transport or connection behind a token and its descriptor number.
    pub(crate) fn place_stream(&self, token: Token, fd: RawFd, endpoint: Endpoint) {
        self.place(token, endpoint);
        let mut streams = self.streams.borrow_mut();
        if streams.len() <= fd as usize {
            streams.resize(fd as usize + 1, 0);
        }
        streams[fd as usize] = token.index() as u32 + 1;
    }

    /// Takes a transport or connection from behind its token and descriptor number.
    pub(crate) fn displace_stream(&self, token: Token, fd: RawFd) -> Endpoint {
        if let Ok(number) = usize::try_from(fd)
            && let Some(slot) = self.streams.borrow_mut().get_mut(number)
            && *slot == token.index() as u32 + 1
        {
            *slot = 0;
        }
        self.displace(token)
    }

    /// The slot of the transport or connection that has a descriptor number.
    pub(crate) fn stream_slot(&self, fd: RawFd) -> Option<usize> {
        let streams = self.streams.borrow();
        let slot = *streams.get(usize::try_from(fd).ok()?)?;
        (slot != 0).then(|| slot as usize - 1)
    }

    /// Takes the endpoint from behind a token.
    pub(crate) fn displace(&self, token: Token) -> Endpoint {
        let mut endpoints = self.endpoints.borrow_mut();
        endpoints.get_mut(token.index()).map(std::mem::take).unwrap_or_default()
    }

    /// A descriptor was closed: listeners that wait for one try again.
    #[inline]
    pub(crate) fn descriptor_freed(&self) {
        if !self.starved.borrow().is_empty() {
            for listener in self.starved.take() {
                listener.get().resume(self);
            }
        }
    }

    /// A timer in the heap was cancelled: sweep when too many are.
    pub(crate) fn timer_cancelled(&self) {
        let mut timers = self.reactor.timers.borrow_mut();
        timers.note_cancelled();
        if timers.sweep_due() {
            // SAFETY: handles are cancelled with the GIL held.
            let py = unsafe { Python::assume_attached() };
            let gone = timers.sweep(|item| item.cancelled(py));
            drop(timers);
            drop(gone);
        }
    }

    /// Reports to `loop.call_exception_handler`, with these keys.
    pub(crate) fn report(
        slf: &Bound<'_, Self>,
        message: &str,
        error: &PyErr,
        more: &[(&str, &Bound<'_, PyAny>)],
    ) -> PyResult<()> {
        let context = pyo3::types::PyDict::new(slf.py());
        context.set_item("message", message)?;
        context.set_item("exception", error.value(slf.py()))?;
        for (key, value) in more {
            context.set_item(key, value)?;
        }
        slf.call_method1(intern!(slf.py(), "call_exception_handler"), (context,)).map(drop)
    }
}

/// The context given, or a copy of the current one.
pub fn own_context(py: Python<'_>, context: Option<Bound<'_, PyAny>>) -> PyResult<Py<PyAny>> {
    match context {
        Some(context) if !context.is_none() => Ok(context.unbind()),
        _ => interp::copy_context(py),
    }
}

// --- the hot methods -----------------------------------------------------------------------------

const CALLBACK: &CStr = c_str!("callback");

/// The arguments of a scheduling method: `N` leading ones, then `*args, context=None`.
struct Call<'a, const N: usize> {
    leading: [*mut ffi::PyObject; N],
    rest: &'a [*mut ffi::PyObject],
    context: *mut ffi::PyObject,
}

/// Reads the arguments of a scheduling method. `parameters` names the leading ones, as asyncio does.
#[inline]
unsafe fn arguments<'a, const N: usize>(
    name: &str,
    parameters: [&CStr; N],
    args: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    names: *mut ffi::PyObject,
) -> PyResult<Call<'a, N>> {
    let count = count as usize;
    // SAFETY: the interpreter passes `count` positional arguments and then one value for each name,
    // all alive during the call.
    unsafe {
        let all = std::slice::from_raw_parts(args, count);
        let (given, rest) = all.split_at(count.min(N));
        let mut call = Call { leading: [ptr::null_mut(); N], rest, context: ptr::null_mut() };
        call.leading[..given.len()].copy_from_slice(given);
        if !names.is_null() {
            named(name, parameters, &mut call, args.add(count), names)?;
        }
        if let Some(missing) = call.leading.iter().position(|argument| argument.is_null()) {
            return Err(PyTypeError::new_err(format!(
                "{name}() missing required argument: '{}'",
                parameters[missing].to_string_lossy()
            )));
        }
        Ok(call)
    }
}

/// Reads the arguments that were given by name. Futures give `context` with each callback: it is looked for first.
#[inline]
unsafe fn named<const N: usize>(
    name: &str,
    parameters: [&CStr; N],
    call: &mut Call<'_, N>,
    values: *const *mut ffi::PyObject,
    names: *mut ffi::PyObject,
) -> PyResult<()> {
    // SAFETY: `names` is a tuple of strings and `values` has as many; all alive during the call.
    unsafe {
        for index in 0..ffi::PyTuple_GET_SIZE(names) {
            let key = ffi::PyTuple_GET_ITEM(names, index);
            let value = *values.add(index as usize);
            let is = |word: &CStr| ffi::PyUnicode_CompareWithASCIIString(key, word.as_ptr()) == 0;
            if is(c_str!("context")) {
                call.context = value;
                continue;
            }
            let place = parameters.iter().position(|parameter| is(parameter));
            let wrong = match place {
                Some(place) if call.leading[place].is_null() => {
                    call.leading[place] = value;
                    continue;
                }
                Some(_) => "multiple values for argument",
                None => "an unexpected keyword argument",
            };
            let key: Bound<'_, PyAny> = Bound::from_borrowed_ptr(Python::assume_attached(), key);
            return Err(PyTypeError::new_err(format!("{name}() got {wrong} '{key}'")));
        }
    }
    Ok(())
}

#[inline]
unsafe fn core_of<'a>(object: *mut ffi::PyObject) -> &'a LoopCore {
    // SAFETY: method descriptors are only called with an instance of their class (or a subclass),
    // which the caller keeps alive during the call.
    unsafe {
        let any = std::mem::ManuallyDrop::new(Py::<LoopCore>::from_owned_ptr_unchecked(object));
        &*ptr::from_ref(any.get())
    }
}

/// Reads a Python reference without checking its type.
trait Unchecked {
    /// # Safety
    ///
    /// `object` is a live instance of `T`; the reference is taken.
    unsafe fn from_owned_ptr_unchecked(object: *mut ffi::PyObject) -> Self;
}

impl<T> Unchecked for Py<T> {
    #[inline]
    unsafe fn from_owned_ptr_unchecked(object: *mut ffi::PyObject) -> Self {
        // SAFETY: `Py<T>` is a non-null pointer to a Python object, by its documentation
        // (`repr(transparent)` around one), and the caller gives one of the right type.
        unsafe { std::mem::transmute::<*mut ffi::PyObject, Self>(object) }
    }
}

#[inline]
unsafe fn context_of(py: Python<'_>, context: *mut ffi::PyObject) -> PyResult<Py<PyAny>> {
    // SAFETY: null, None or a live object, borrowed from the caller.
    unsafe {
        if context.is_null() || context == ffi::Py_None() {
            interp::copy_context(py)
        } else {
            Ok(Bound::from_borrowed_ptr(py, context).unbind())
        }
    }
}

/// Debug mode: the Python half makes the standard library's handle, with its checks and traceback.
#[cold]
unsafe fn debug_handle<'py, const N: usize>(
    py: Python<'py>,
    object: *mut ffi::PyObject,
    call: &Call<'_, N>,
    callback: *mut ffi::PyObject,
    name: &str,
    when: Option<f64>,
) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: all are live objects, borrowed from the caller.
    unsafe {
        let slf = Bound::from_borrowed_ptr(py, object);
        let args = PyTuple::new(
            py,
            call.rest.iter().map(|argument| Bound::from_borrowed_ptr(py, *argument)),
        )?;
        let callback = Bound::from_borrowed_ptr(py, callback);
        let context = Bound::from_borrowed_ptr_or_opt(py, call.context);
        match when {
            None => slf.call_method1(intern!(py, "_debug_handle"), (callback, args, context, name)),
            Some(when) => {
                slf.call_method1(intern!(py, "_debug_timer"), (when, callback, args, context, name))
            }
        }
    }
}

unsafe extern "C" fn call_soon(
    object: *mut ffi::PyObject,
    args: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    names: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: the interpreter calls with the GIL held and live arguments.
    unsafe {
        let py = Python::assume_attached();
        let body = || {
            let core = core_of(object);
            let call = arguments("call_soon", [CALLBACK], args, count, names)?;
            core.check()?;
            if core.debug.get() {
                let handle = debug_handle(py, object, &call, call.leading[0], "call_soon", None)?;
                core.ready.borrow_mut().push_back(Ready::Stock(handle.clone().unbind()));
                return Ok(handle.into_ptr());
            }
            let context = context_of(py, call.context)?;
            let handle = Handle::new(py, object, call.leading[0], call.rest, context)?;
            core.ready.borrow_mut().push_back(Ready::Ours(handle.share()));
            Ok(handle.into_ptr())
        };
        give(py, body())
    }
}

#[inline]
unsafe fn schedule(
    py: Python<'_>,
    object: *mut ffi::PyObject,
    call: &Call<'_, 2>,
    when: f64,
    name: &str,
) -> PyResult<*mut ffi::PyObject> {
    // SAFETY: passed on from the interpreter.
    unsafe {
        let core = core_of(object);
        core.check()?;
        let callback = call.leading[1];
        if core.debug.get() {
            let handle = debug_handle(py, object, call, callback, name, Some(when))?;
            let item = Ready::Stock(handle.clone().unbind());
            core.reactor.timers.borrow_mut().push(when, item);
            return Ok(handle.into_ptr());
        }
        if when.is_nan() {
            return Err(PyValueError::new_err(format!("{name}(): the time is not a number")));
        }
        let context = context_of(py, call.context)?;
        let handle = Handle::timer(py, object, callback, call.rest, context, when)?;
        core.reactor.timers.borrow_mut().push(when, Ready::Ours(handle.share()));
        Ok(handle.into_ptr())
    }
}

#[inline]
unsafe fn seconds(py: Python<'_>, object: *mut ffi::PyObject, missing: &str) -> PyResult<f64> {
    // SAFETY: a live object, borrowed from the caller.
    unsafe {
        if object == ffi::Py_None() {
            return Err(PyTypeError::new_err(missing.to_owned()));
        }
        let value = ffi::PyFloat_AsDouble(object);
        if value == -1.0 && !ffi::PyErr_Occurred().is_null() {
            return Err(interp::fetch(py));
        }
        Ok(value)
    }
}

unsafe extern "C" fn call_later(
    object: *mut ffi::PyObject,
    args: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    names: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: the interpreter calls with the GIL held and live arguments.
    unsafe {
        let py = Python::assume_attached();
        let body = || {
            let call = arguments("call_later", [c_str!("delay"), CALLBACK], args, count, names)?;
            let delay = seconds(py, call.leading[0], "delay must not be None")?;
            schedule(py, object, &call, sys::monotonic() + delay, "call_later")
        };
        give(py, body())
    }
}

unsafe extern "C" fn call_at(
    object: *mut ffi::PyObject,
    args: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    names: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: the interpreter calls with the GIL held and live arguments.
    unsafe {
        let py = Python::assume_attached();
        let body = || {
            let call = arguments("call_at", [c_str!("when"), CALLBACK], args, count, names)?;
            let when = seconds(py, call.leading[0], "when cannot be None")?;
            schedule(py, object, &call, when, "call_at")
        };
        give(py, body())
    }
}

unsafe extern "C" fn time(_: *mut ffi::PyObject, _: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: the interpreter calls with the GIL held.
    unsafe { ffi::PyFloat_FromDouble(sys::monotonic()) }
}

static METHODS: Methods<4> = Methods([
    fast(
        c_str!("call_soon"),
        call_soon,
        c_str!(
            "call_soon($self, /, callback, *args, context=None)\n--\n\nRun the callback in the next turn."
        ),
    ),
    fast(
        c_str!("call_later"),
        call_later,
        c_str!(
            "call_later($self, /, delay, callback, *args, context=None)\n--\n\nRun the callback after `delay` seconds."
        ),
    ),
    fast(
        c_str!("call_at"),
        call_at,
        c_str!(
            "call_at($self, /, when, callback, *args, context=None)\n--\n\nRun the callback at `when`, seconds on the clock of `time()`."
        ),
    ),
    nullary(
        c_str!("time"),
        time,
        c_str!("time($self, /)\n--\n\nSeconds on the loop's clock, CLOCK_MONOTONIC."),
    ),
]);

/// Adds the class and its hot methods.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<LoopCore>()?;
    interp::add_methods(&module.py().get_type::<LoopCore>(), &METHODS)
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
