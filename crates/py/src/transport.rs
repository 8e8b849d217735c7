//! `StreamTransport`: asyncio's transport for TCP and Unix stream sockets.
//!
//! The duties and texts are those of `asyncio.selector_events._SelectorSocketTransport`, which the
//! rest of the standard library (TLS, `sendfile`, `Server`, streams) relies on, underscored names
//! included. What differs is the write policy: `write` queues, and all that one callback wrote leaves
//! in one send when the callback returns; a writer that passes the high watermark is flushed at once.
//!
//! Makes no socket object unless somebody asks for one.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd, RawFd};

use pyo3::exceptions::{PyRuntimeError, PyTypeError, PyValueError};
use pyo3::ffi;
use pyo3::ffi::c_str;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::type_object::PyTypeInfo;
use pyo3::types::{PyBytes, PyDict};
use pyo3::{PyTraverseError, PyVisit};
use wireway_core::buffer::Payload;
use wireway_core::conn::{Conn, Flushed, HIGH, Pressure};
use wireway_core::op::{Completion, Token};

use crate::errors::{is_os_error, leaves_the_loop, os_error, type_name};
use crate::event_loop::{Endpoint, LoopCore};
use crate::interp::{self, Methods, give, none, unary};
use crate::memory;

/// `bytes` objects from this size on are kept by reference; smaller ones are copied, once.
pub const KEEP_FROM: usize = 16 * 1024;
/// Writes to a lost connection before asyncio warns.
const LOST_WRITES_BEFORE_WARNING: u32 = 5;

/// A `bytes` object that waits to be sent.
pub struct KeptBytes(Py<PyBytes>);

// SAFETY: a bytes object never changes and never moves; the reference keeps it alive.
unsafe impl Payload for KeptBytes {
    fn bytes(&self) -> &[u8] {
        // SAFETY: payloads are read with the GIL held or, by the kernel, through the pointer taken
        // then; reading a bytes object needs no interpreter state.
        self.0.as_bytes(unsafe { Python::assume_attached() })
    }
}

impl KeptBytes {
    /// Keeps `data` alive until it is sent.
    pub fn boxed(data: &Bound<'_, PyBytes>) -> Box<Self> {
        Box::new(Self(data.clone().unbind()))
    }
}

#[derive(Clone, Copy, Default)]
struct Flags {
    /// `write_eof` was called.
    eof: bool,
    /// `close` or `abort` was called, or the connection failed.
    closing: bool,
    /// `pause_reading` was called.
    paused: bool,
    /// Reading has begun.
    reading: bool,
    /// The protocol's `pause_writing` was called.
    protocol_paused: bool,
    /// The protocol receives into its own buffer.
    buffered: bool,
    /// Named in the reactor's list of unflushed connections.
    dirty: bool,
    /// `connection_lost` is on its way.
    lost: bool,
}

struct Names {
    peer: Option<Py<PyAny>>,
    local: Option<Py<PyAny>>,
}

/// asyncio's transport for TCP and Unix stream sockets, native.
///
/// Every method belongs to the loop's thread.
#[pyclass(frozen, weakref, module = "wireway._native")]
pub struct StreamTransport {
    core: Py<LoopCore>,
    conn: RefCell<Conn>,
    flags: Cell<Flags>,
    lost_writes: Cell<u32>,
    token: Token,
    context: Py<PyAny>,
    protocol: RefCell<Option<Py<PyAny>>>,
    server: RefCell<Option<Py<PyAny>>>,
    socket: RefCell<Option<Py<PyAny>>>,
    /// What `get_extra_info` knows beyond the socket.
    extra: Option<Py<PyDict>>,
    empty_waiter: RefCell<Option<Py<PyAny>>>,
    /// Bytes that arrived for a buffered protocol which paused in the middle of them.
    stash: RefCell<Vec<u8>>,
    names: RefCell<Option<Box<Names>>>,
}

// SAFETY: as `LoopCore`.
unsafe impl Sync for StreamTransport {}
// SAFETY: as `LoopCore`.
unsafe impl Send for StreamTransport {}

impl StreamTransport {
    /// The transport of an accepted connection: the protocol hears of it at once.
    pub fn accept(
        core: &Bound<'_, LoopCore>,
        fd: OwnedFd,
        protocol: Bound<'_, PyAny>,
        server: Option<Py<PyAny>>,
        context: Py<PyAny>,
    ) -> PyResult<()> {
        let conn = Conn::new(&*core.get().reactor.driver, fd).map_err(|e| os_error(&e))?;
        let transport = Self::make(core, conn, context, protocol, server, None, None)?;
        let told = transport.get().introduce(&transport);
        transport.get().start_reading();
        told
    }

    fn make<'py>(
        core: &Bound<'py, LoopCore>,
        conn: Conn,
        context: Py<PyAny>,
        protocol: Bound<'py, PyAny>,
        server: Option<Py<PyAny>>,
        socket: Option<Py<PyAny>>,
        extra: Option<Py<PyDict>>,
    ) -> PyResult<Bound<'py, Self>> {
        let (py, token, fd) = (core.py(), conn.token(), conn.fd());
        let transport = Bound::new(
            py,
            Self {
                core: core.clone().unbind(),
                conn: RefCell::new(conn),
                flags: Cell::default(),
                lost_writes: Cell::new(0),
                token,
                context,
                protocol: RefCell::new(None),
                server: RefCell::new(None),
                socket: RefCell::new(socket),
                extra,
                empty_waiter: RefCell::new(None),
                stash: RefCell::new(Vec::new()),
                names: RefCell::new(None),
            },
        )?;
        let this = transport.get();
        this.adopt(py, protocol)?;
        core.get().place_stream(token, fd, Endpoint::Transport(transport.clone().unbind()));
        if let Some(server) = server {
            let bound = server.bind(py);
            // Since 3.13 a server knows its transports, so that it can close them.
            if py.version_info() >= (3, 13) {
                bound.call_method1(intern!(py, "_attach"), (&transport,))?;
            } else {
                bound.call_method0(intern!(py, "_attach"))?;
            }
            *this.server.borrow_mut() = Some(server);
        }
        Ok(transport)
    }

    fn adopt(&self, py: Python<'_>, protocol: Bound<'_, PyAny>) -> PyResult<()> {
        let buffered = protocol.is_instance(interp::buffered_protocol(py)?)?;
        self.change(|flags| flags.buffered = buffered);
        // Taken out first: dropping the former protocol may run code.
        let former = self.protocol.borrow_mut().replace(protocol.unbind());
        drop(former);
        Ok(())
    }

    /// Tells the protocol of its transport. As with asyncio, one that fails is reported and the connection goes on.
    fn introduce(&self, slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let Some(protocol) = self.protocol(py) else {
            return Ok(());
        };
        let name = intern!(py, "connection_made");
        let told = interp::inside(py, &self.context, || {
            interp::call_method_1(py, protocol.as_ptr(), name, slf.as_ptr()).map(drop)
        });
        let Err(error) = told else { return Ok(()) };
        if leaves_the_loop(py, &error) {
            return Err(error);
        }
        let callback = (protocol.getattr(name)?, (slf,));
        let text = interp::format_callback(py)?.call1(callback)?;
        let message = format!("Exception in callback {text}");
        let more = [("transport", slf.as_any()), ("protocol", &protocol)];
        LoopCore::report(self.core.bind(py), &message, &error, &more)
    }

    fn start_reading(&self) {
        let flags = self.flags.get();
        if flags.closing {
            return;
        }
        self.change(|flags| flags.reading = true);
        if !flags.paused {
            // ENOENT after a detach: there is nothing to read from.
            let _ = self.conn.borrow().receive(&*self.core.get().reactor.driver);
        }
    }

    #[inline]
    fn change(&self, edit: impl FnOnce(&mut Flags)) {
        let mut flags = self.flags.get();
        edit(&mut flags);
        self.flags.set(flags);
    }

    #[inline]
    fn protocol<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        self.protocol.borrow().as_ref().map(|protocol| protocol.bind(py).clone())
    }

    /// The descriptor, -1 once closed.
    pub fn fd(&self) -> RawFd {
        self.conn.borrow().fd()
    }

    /// The loop is closed: the descriptor goes, nobody is told.
    pub fn loop_closed(&self, core: &LoopCore) {
        self.change(|flags| {
            flags.closing = true;
            flags.lost = true;
        });
        self.release(core);
    }

    /// Detaches and closes the descriptor, whoever owns it.
    fn release(&self, core: &LoopCore) {
        let fd = self.fd();
        self.conn.borrow_mut().detach(&*core.reactor.driver, &core.reactor.pool);
        let endpoint = core.displace_stream(self.token, fd);
        let socket = self.socket.borrow_mut().take();
        if let Some(socket) = socket {
            // SAFETY: transports are released with the GIL held.
            let py = unsafe { Python::assume_attached() };
            if let Err(error) = socket.call_method0(py, intern!(py, "close")) {
                error.write_unraisable(py, Some(socket.bind(py)));
            }
        }
        core.descriptor_freed();
        drop(endpoint);
    }

    // --- receiving -----------------------------------------------------------------------------

    /// An operation completed.
    #[inline]
    pub fn completed(
        &self,
        slf: &Bound<'_, Self>,
        core: &Bound<'_, LoopCore>,
        completion: Completion<'_>,
    ) -> PyResult<()> {
        match completion {
            Completion::Received(data) => self.received(slf, data),
            Completion::ReceiveEnded(Ok(())) => self.ended(slf),
            Completion::ReceiveEnded(Err(error)) => {
                self.fatal(slf, &os_error(&error), "Fatal read error on socket transport")
            }
            Completion::Sent(queue, result) => {
                let reactor = &core.get().reactor;
                let outcome =
                    self.conn.borrow_mut().sent(&*reactor.driver, &reactor.pool, queue, result);
                self.flushed(slf, core, outcome)
            }
            _ => Ok(()),
        }
    }

    #[inline]
    fn received(&self, slf: &Bound<'_, Self>, data: &[u8]) -> PyResult<()> {
        let py = slf.py();
        if self.flags.get().buffered {
            return self.received_buffered(slf, data);
        }
        self.received_whole(slf, &memory::bytes(py, data))
    }

    /// Whether what comes next goes to `data_received`: then it is received into its own object.
    pub fn wants_room(&self) -> bool {
        !self.flags.get().buffered
    }

    #[inline]
    pub fn received_whole(&self, slf: &Bound<'_, Self>, data: &Bound<'_, PyBytes>) -> PyResult<()> {
        let py = slf.py();
        let Some(protocol) = self.protocol(py) else {
            return Ok(());
        };
        let result = interp::inside(py, &self.context, || {
            let name = intern!(py, "data_received");
            interp::call_method_1(py, protocol.as_ptr(), name, data.as_ptr()).map(drop)
        });
        match result {
            Ok(()) => Ok(()),
            Err(error) => {
                self.fatal(slf, &error, "Fatal error: protocol.data_received() call failed.")
            }
        }
    }

    fn received_buffered(&self, slf: &Bound<'_, Self>, mut data: &[u8]) -> PyResult<()> {
        let py = slf.py();
        while !data.is_empty() {
            let flags = self.flags.get();
            if flags.closing {
                return Ok(());
            }
            if flags.paused {
                self.stash.borrow_mut().extend_from_slice(data);
                return Ok(());
            }
            if !flags.buffered {
                return self.received(slf, data);
            }
            let Some(protocol) = self.protocol(py) else {
                return Ok(());
            };
            let lent = interp::inside(py, &self.context, || {
                let buffer = protocol.call_method1(intern!(py, "get_buffer"), (-1,))?;
                match buffer.len()? {
                    0 => Err(PyRuntimeError::new_err("get_buffer() returned an empty buffer")),
                    _ => Ok(buffer),
                }
            });
            let buffer = match lent {
                Ok(buffer) => buffer,
                Err(error) => {
                    let message = "Fatal error: protocol.get_buffer() call failed.";
                    return self.fatal(slf, &error, message);
                }
            };
            let count = match copy_into(&buffer, data) {
                Ok(count) => count,
                Err(error) => {
                    return self.fatal(slf, &error, "Fatal read error on socket transport");
                }
            };
            data = &data[count..];
            let told = interp::inside(py, &self.context, || {
                protocol.call_method1(intern!(py, "buffer_updated"), (count,)).map(drop)
            });
            if let Err(error) = told {
                let message = "Fatal error: protocol.buffer_updated() call failed.";
                return self.fatal(slf, &error, message);
            }
        }
        Ok(())
    }

    fn ended(&self, slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let core = self.core.bind(py);
        if core.get().debug.get() {
            interp::logger(py)?.call_method1("debug", ("%r received EOF", slf))?;
        }
        let Some(protocol) = self.protocol(py) else {
            return Ok(());
        };
        let keep_open = interp::inside(py, &self.context, || {
            protocol.call_method0(intern!(py, "eof_received"))?.is_truthy()
        });
        match keep_open {
            Ok(true) => Ok(()),
            Ok(false) => self.close_gracefully(slf),
            Err(error) => {
                self.fatal(slf, &error, "Fatal error: protocol.eof_received() call failed.")
            }
        }
    }

    // --- sending -------------------------------------------------------------------------------

    /// Whether `write` may queue: raises what asyncio raises, and counts writes to a lost connection.
    #[inline]
    fn admit(&self, py: Python<'_>) -> PyResult<bool> {
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
    fn queue(&self, core: &LoopCore, data: &Bound<'_, PyAny>) -> PyResult<()> {
        let mut conn = self.conn.borrow_mut();
        if let Ok(bytes) = data.cast::<PyBytes>() {
            let content = bytes.as_bytes();
            if content.len() < KEEP_FROM {
                conn.write(&core.reactor.pool, content);
            } else {
                conn.keep(KeptBytes::boxed(bytes));
            }
            return Ok(());
        }
        drop(conn);
        with_bytes(data, |content| self.conn.borrow_mut().write(&core.reactor.pool, content))
    }

    /// After queueing: note it for the flush, or flush at once when too much waits.
    #[inline]
    fn queued(&self, slf: &Bound<'_, Self>, core: &LoopCore) -> PyResult<()> {
        self.mark_dirty(core);
        if self.conn.borrow().over() {
            return self.press(slf);
        }
        Ok(())
    }

    #[inline]
    fn mark_dirty(&self, core: &LoopCore) {
        if !self.flags.get().dirty {
            self.change(|flags| flags.dirty = true);
            core.reactor.mark_dirty(self.token);
        }
    }

    #[cold]
    fn press(&self, slf: &Bound<'_, Self>) -> PyResult<()> {
        let core = self.core.bind(slf.py());
        let reactor = &core.get().reactor;
        let outcome = self.conn.borrow_mut().flush(&*reactor.driver, &reactor.pool);
        self.flushed_inside(slf, core, outcome)
    }

    /// [`Self::flushed`] where the protocol is on the stack: it called `write`, `write_eof` or `close`.
    ///
    /// It may be told to pause, in the context it runs in. To resume it in the midst of its own call would
    /// surprise it (asyncio never does): what it must learn of a queue that ran empty waits for the turn's flush.
    fn flushed_inside(
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
    fn flushed(
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
    fn relieve(&self, slf: &Bound<'_, Self>) -> PyResult<()> {
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

    fn settle_waiter(&self, py: Python<'_>) -> PyResult<()> {
        let waiter = self.empty_waiter.borrow().as_ref().map(|waiter| waiter.clone_ref(py));
        match waiter {
            Some(waiter) if !waiter.call_method0(py, intern!(py, "done"))?.is_truthy(py)? => {
                waiter.call_method1(py, intern!(py, "set_result"), (py.None(),)).map(drop)
            }
            _ => Ok(()),
        }
    }

    // --- ending --------------------------------------------------------------------------------

    fn close_gracefully(&self, slf: &Bound<'_, Self>) -> PyResult<()> {
        if self.flags.get().closing {
            return Ok(());
        }
        self.change(|flags| flags.closing = true);
        // What was written before is sent now, as if `write` had sent it: what is written after is not.
        let reactor = &self.core.get().reactor;
        let outcome = {
            let mut conn = self.conn.borrow_mut();
            conn.pause(&*reactor.driver);
            conn.flush(&*reactor.driver, &reactor.pool)
        };
        self.flushed_inside(slf, self.core.bind(slf.py()), outcome)
    }

    /// An error that ends the connection. asyncio logs `OSError` only in debug mode.
    fn fatal(&self, slf: &Bound<'_, Self>, error: &PyErr, message: &str) -> PyResult<()> {
        let py = slf.py();
        if leaves_the_loop(py, error) {
            return Err(error.clone_ref(py));
        }
        let core = self.core.bind(py);
        if is_os_error(py, error) {
            if core.get().debug.get() {
                let keywords = PyDict::new(py);
                keywords.set_item("exc_info", error.value(py))?;
                interp::logger(py)?.call_method(
                    "debug",
                    ("%r: %s", slf, message),
                    Some(&keywords),
                )?;
            }
        } else {
            let protocol = self.protocol(py).map_or_else(|| py.None().into_bound(py), |p| p);
            LoopCore::report(
                core,
                message,
                error,
                &[("transport", slf.as_any()), ("protocol", &protocol)],
            )?;
        }
        self.force_close(slf, Some(error))
    }

    fn force_close(&self, slf: &Bound<'_, Self>, error: Option<&PyErr>) -> PyResult<()> {
        if self.flags.get().lost {
            return Ok(());
        }
        self.change(|flags| flags.closing = true);
        {
            let reactor = &self.core.get().reactor;
            let mut conn = self.conn.borrow_mut();
            conn.pause(&*reactor.driver);
            conn.discard(&reactor.pool);
        }
        self.lose(slf, error)
    }

    /// Schedules `connection_lost`, once.
    fn lose(&self, slf: &Bound<'_, Self>, error: Option<&PyErr>) -> PyResult<()> {
        let py = slf.py();
        if self.flags.get().lost {
            return Ok(());
        }
        self.change(|flags| flags.lost = true);
        self.lost_writes.set(self.lost_writes.get() + 1);
        let error = match error {
            Some(error) => error.value(py).clone().into_any(),
            None => py.None().into_bound(py),
        };
        let core = self.core.bind(py);
        if core.get().is_closed() {
            // Nobody will run it any more: at least the descriptor goes.
            self.release(core.get());
            return Ok(());
        }
        let keywords = PyDict::new(py);
        keywords.set_item(intern!(py, "context"), &self.context)?;
        let callback = slf.getattr(intern!(py, "_call_connection_lost"))?;
        core.call_method(intern!(py, "call_soon"), (callback, error), Some(&keywords)).map(drop)
    }

    // --- names ---------------------------------------------------------------------------------

    fn python_socket<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        if let Some(socket) = self.socket.borrow().as_ref() {
            return Ok(Some(socket.bind(py).clone()));
        }
        // From here on the socket object owns the descriptor.
        let Some(fd) = self.conn.borrow_mut().disown() else {
            return Ok(None);
        };
        let raw = fd.into_raw_fd();
        let arguments = PyDict::new(py);
        arguments.set_item(intern!(py, "fileno"), raw)?;
        match interp::python_socket(py)?.call((), Some(&arguments)) {
            Ok(socket) => {
                *self.socket.borrow_mut() = Some(socket.clone().unbind());
                Ok(Some(socket))
            }
            Err(error) => {
                // SAFETY: no socket object took the descriptor: it goes back to the connection's end.
                drop(unsafe { OwnedFd::from_raw_fd(raw) });
                Err(error)
            }
        }
    }

    fn names<'py>(&self, py: Python<'py>, peer: bool) -> PyResult<Option<Bound<'py, PyAny>>> {
        let cached = self.names.borrow().as_ref().and_then(|names| {
            let place = if peer { &names.peer } else { &names.local };
            place.as_ref().map(|name| name.bind(py).clone())
        });
        if cached.is_some() {
            return Ok(cached);
        }
        let fd = self.fd();
        if fd < 0 {
            return Ok(None);
        }
        let Some(name) = crate::connection::socket_name(py, fd, peer)? else {
            return Ok(None);
        };
        let mut names = self.names.borrow_mut();
        let names = names.get_or_insert_with(|| Box::new(Names { peer: None, local: None }));
        let place = if peer { &mut names.peer } else { &mut names.local };
        *place = Some(name.clone().unbind());
        Ok(Some(name))
    }
}

/// Copies as much of `data` as fits into a writable buffer object.
fn copy_into(buffer: &Bound<'_, PyAny>, data: &[u8]) -> PyResult<usize> {
    let py = buffer.py();
    // SAFETY: all-zero is a valid empty Py_buffer; it is filled by the call and released below. The
    // copy stays within both lengths, and nothing runs in between that could resize the exporter.
    unsafe {
        let mut view: ffi::Py_buffer = std::mem::zeroed();
        if ffi::PyObject_GetBuffer(buffer.as_ptr(), &raw mut view, ffi::PyBUF_WRITABLE) < 0 {
            return Err(interp::fetch(py));
        }
        let count = data.len().min(view.len as usize);
        std::ptr::copy_nonoverlapping(data.as_ptr(), view.buf.cast(), count);
        ffi::PyBuffer_Release(&raw mut view);
        if count == 0 {
            // It has a length, but no bytes: an array of empty rows.
            return Err(PyRuntimeError::new_err("get_buffer() returned an empty buffer"));
        }
        Ok(count)
    }
}

/// Lends the content of any bytes-like object.
pub fn with_bytes<R>(data: &Bound<'_, PyAny>, body: impl FnOnce(&[u8]) -> R) -> PyResult<R> {
    let py = data.py();
    // SAFETY: as in `copy_into`; the exporter keeps the memory in place until the view is released.
    unsafe {
        let mut view: ffi::Py_buffer = std::mem::zeroed();
        if ffi::PyObject_GetBuffer(data.as_ptr(), &raw mut view, ffi::PyBUF_SIMPLE) < 0 {
            let error = interp::fetch(py);
            if error.is_instance_of::<pyo3::exceptions::PyBufferError>(py) {
                // Not contiguous: a copy is.
                let copy = PyBytes::type_object(py).call1((data,))?.cast_into::<PyBytes>()?;
                return Ok(body(copy.as_bytes()));
            }
            return Err(error);
        }
        let content = if view.len == 0 {
            &[]
        } else {
            std::slice::from_raw_parts(view.buf.cast::<u8>(), view.len as usize)
        };
        let result = body(content);
        ffi::PyBuffer_Release(&raw mut view);
        Ok(result)
    }
}

/// asyncio's complaint about an argument that is not bytes-like.
fn not_bytes(data: &Bound<'_, PyAny>) -> PyErr {
    PyTypeError::new_err(format!(
        "data argument must be a bytes-like object, not '{}'",
        type_name(data)
    ))
}

#[pymethods]
impl StreamTransport {
    /// The transport of a connected, non-blocking socket, which it takes over. The protocol hears of
    /// it in the next turn, then reading begins, then `waiter` is set.
    #[new]
    #[pyo3(signature = (core, socket, protocol, waiter = None, *, extra = None, server = None))]
    fn new<'py>(
        py: Python<'py>,
        core: &Bound<'py, LoopCore>,
        socket: Bound<'py, PyAny>,
        protocol: Bound<'py, PyAny>,
        waiter: Option<Bound<'py, PyAny>>,
        extra: Option<Bound<'py, PyDict>>,
        server: Option<Py<PyAny>>,
    ) -> PyResult<Bound<'py, Self>> {
        core.get().check()?;
        let fd: RawFd = socket.call_method0(intern!(py, "fileno"))?.extract()?;
        let driver = &*core.get().reactor.driver;
        let conn = Conn::borrowed(driver, fd).map_err(|error| os_error(&error))?;
        let extra = extra.map(Bound::unbind);
        let (context, socket) = (interp::copy_context(py)?, Some(socket.unbind()));
        let transport = Self::make(core, conn, context, protocol, server, socket, extra)?;
        let call_soon = core.getattr(intern!(py, "call_soon"))?;
        call_soon.call1((transport.getattr(intern!(py, "_begin"))?,))?;
        if let Some(waiter) = waiter {
            call_soon.call1((interp::set_result(py)?, waiter, py.None()))?;
        }
        Ok(transport)
    }

    /// First turn: `connection_made`, then reading.
    fn _begin(slf: &Bound<'_, Self>) -> PyResult<()> {
        let this = slf.get();
        let told = this.introduce(slf);
        // Not yet reading: whoever awaits the connection is woken first, data comes after.
        let callback = slf.getattr(intern!(slf.py(), "_start_reading"))?;
        this.core.bind(slf.py()).call_method1(intern!(slf.py(), "call_soon"), (callback,))?;
        told
    }

    /// Second turn: reading.
    #[pyo3(name = "_start_reading")]
    fn py_start_reading(&self) {
        self.start_reading();
    }

    #[getter(__class__)]
    fn class<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        // `isinstance(transport, asyncio.Transport)` holds, as for any object that stands in; and the
        // subclass that `loop.sendfile` asks for.
        interp::stock_transport(slf.py()).cloned()
    }

    #[classattr]
    fn _start_tls_compatible() -> bool {
        true
    }

    #[classattr]
    fn _sendfile_compatible(py: Python<'_>) -> PyResult<Py<PyAny>> {
        let mode = py.import("asyncio.constants")?.getattr("_SendfileMode")?;
        Ok(mode.getattr("TRY_NATIVE")?.unbind())
    }

    #[getter]
    fn _loop(&self, py: Python<'_>) -> Py<LoopCore> {
        self.core.clone_ref(py)
    }

    #[getter]
    fn _sock<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.python_socket(py)
    }

    #[getter]
    fn _sock_fd(&self) -> RawFd {
        self.fd()
    }

    #[getter]
    fn _protocol_paused(&self) -> bool {
        self.flags.get().protocol_paused
    }

    #[getter]
    fn _protocol(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.protocol.borrow().as_ref().map(|protocol| protocol.clone_ref(py))
    }

    #[getter]
    fn _conn_lost(&self) -> u32 {
        self.lost_writes.get()
    }

    #[getter]
    fn _closing(&self) -> bool {
        self.flags.get().closing
    }

    #[getter]
    fn _paused(&self) -> bool {
        self.flags.get().paused
    }

    #[getter]
    fn _eof(&self) -> bool {
        self.flags.get().eof
    }

    #[getter]
    fn _server(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.server.borrow().as_ref().map(|server| server.clone_ref(py))
    }

    /// Tells the protocol that the connection is gone, then closes the descriptor.
    fn _call_connection_lost(
        slf: &Bound<'_, Self>,
        error: Option<Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let (this, py) = (slf.get(), slf.py());
        let core = this.core.bind(py);
        if this.fd() < 0 {
            return Ok(());
        }
        let protocol = this.protocol.borrow_mut().take();
        // Somebody still holds the transport: what it says of its ends must outlive the descriptor.
        if interp::references(slf.as_unbound()) > 3 {
            let _ = this.names(py, true);
            let _ = this.names(py, false);
        }
        let result = match &protocol {
            Some(protocol) => {
                protocol.bind(py).call_method1(intern!(py, "connection_lost"), (error,)).map(drop)
            }
            None => Ok(()),
        };
        this.release(core.get());
        let waiter = this.empty_waiter.borrow_mut().take();
        if let Some(waiter) = waiter
            && !waiter.call_method0(py, intern!(py, "done"))?.is_truthy(py)?
        {
            let lost = pyo3::exceptions::PyConnectionError::new_err("Connection is closed by peer");
            waiter.call_method1(py, intern!(py, "set_exception"), (lost,))?;
        }
        let server = this.server.borrow_mut().take();
        if let Some(server) = server {
            if py.version_info() >= (3, 13) {
                server.call_method1(py, intern!(py, "_detach"), (slf,))?;
            } else {
                server.call_method0(py, intern!(py, "_detach"))?;
            }
        }
        result
    }

    /// Closes at once; the protocol's `connection_lost` gets `exc`.
    fn _force_close(slf: &Bound<'_, Self>, exc: Option<Bound<'_, PyAny>>) -> PyResult<()> {
        let error = exc.map(PyErr::from_value);
        slf.get().force_close(slf, error.as_ref())
    }

    /// Reports an error that ends the connection, and ends it.
    #[pyo3(signature = (exc, message = "Fatal error on transport"))]
    fn _fatal_error(slf: &Bound<'_, Self>, exc: Bound<'_, PyAny>, message: &str) -> PyResult<()> {
        slf.get().fatal(slf, &PyErr::from_value(exc), message)
    }

    /// A future that is done when nothing waits to be sent; no write is allowed meanwhile.
    fn _make_empty_waiter<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let (this, py) = (slf.get(), slf.py());
        if this.empty_waiter.borrow().is_some() {
            return Err(PyRuntimeError::new_err("Empty waiter is already set"));
        }
        let waiter = this.core.bind(py).call_method0(intern!(py, "create_future"))?;
        if this.conn.borrow().queued() == 0 {
            waiter.call_method1(intern!(py, "set_result"), (py.None(),))?;
        }
        *this.empty_waiter.borrow_mut() = Some(waiter.clone().unbind());
        Ok(waiter)
    }

    /// Allows writing again.
    fn _reset_empty_waiter(&self) {
        let waiter = self.empty_waiter.borrow_mut().take();
        drop(waiter);
    }

    /// What a transport knows of itself: socket, peername, sockname, and what was given in `extra`.
    #[pyo3(signature = (name, default = None))]
    fn get_extra_info<'py>(
        &self,
        py: Python<'py>,
        name: &Bound<'py, PyAny>,
        default: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        if let Some(extra) = &self.extra
            && let Some(value) = extra.bind(py).get_item(name)?
        {
            return Ok(Some(value));
        }
        let known = match name.extract::<std::borrow::Cow<'_, str>>().as_deref() {
            Ok("socket") => match self.python_socket(py)? {
                Some(socket) => Some(interp::transport_socket(py)?.call1((socket,))?),
                None => None,
            },
            Ok("peername") => self.names(py, true)?,
            Ok("sockname") => self.names(py, false)?,
            _ => None,
        };
        Ok(known.or(default))
    }

    /// Whether `close` or `abort` was called or the connection failed.
    fn is_closing(&self) -> bool {
        self.flags.get().closing
    }

    /// Whether data is being received.
    fn is_reading(&self) -> bool {
        let flags = self.flags.get();
        !flags.closing && !flags.paused
    }

    /// Stops receiving; TCP pushes back on the peer.
    fn pause_reading(&self) -> PyResult<()> {
        self.core.get().check_thread()?;
        let flags = self.flags.get();
        if !flags.closing && !flags.paused {
            self.change(|flags| flags.paused = true);
            self.conn.borrow().pause(&*self.core.get().reactor.driver);
        }
        Ok(())
    }

    /// Receives again.
    fn resume_reading(slf: &Bound<'_, Self>) -> PyResult<()> {
        let (this, py) = (slf.get(), slf.py());
        this.core.get().check_thread()?;
        let flags = this.flags.get();
        if flags.closing || !flags.paused {
            return Ok(());
        }
        this.change(|flags| flags.paused = false);
        if this.stash.borrow().is_empty() {
            if flags.reading {
                this.start_reading();
            }
            return Ok(());
        }
        let callback = slf.getattr(intern!(py, "_deliver_stash"))?;
        this.core.bind(py).call_method1(intern!(py, "call_soon"), (callback,)).map(drop)
    }

    /// Hands over what was left when a buffered protocol paused.
    fn _deliver_stash(slf: &Bound<'_, Self>) -> PyResult<()> {
        let this = slf.get();
        if this.flags.get().paused {
            return Ok(());
        }
        let stash = this.stash.take();
        let result = this.received_buffered(slf, &stash);
        if this.stash.borrow().is_empty() && !this.flags.get().paused {
            this.start_reading();
        }
        result
    }

    /// Replaces the protocol.
    fn set_protocol(&self, py: Python<'_>, protocol: Bound<'_, PyAny>) -> PyResult<()> {
        self.adopt(py, protocol)
    }

    /// The protocol, None once the connection is lost.
    fn get_protocol(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self._protocol(py)
    }

    /// Queues every piece of `list_of_data`.
    fn writelines(slf: &Bound<'_, Self>, list_of_data: &Bound<'_, PyAny>) -> PyResult<()> {
        let (this, py) = (slf.get(), slf.py());
        let core = this.core.get();
        core.check_thread()?;
        if !this.admit(py)? {
            return Ok(());
        }
        // All are looked at before any is queued, so that a wrong one leaves nothing half written.
        let pieces: Vec<Bound<'_, PyAny>> = list_of_data.try_iter()?.collect::<PyResult<_>>()?;
        for piece in &pieces {
            // SAFETY: a live object; the check only reads its type.
            if unsafe { ffi::PyObject_CheckBuffer(piece.as_ptr()) } == 0 {
                return Err(not_bytes(piece));
            }
        }
        for piece in &pieces {
            this.queue(core, piece)?;
        }
        if pieces.is_empty() { Ok(()) } else { this.queued(slf, core) }
    }

    /// Sends FIN after what is queued. Reading goes on.
    fn write_eof(slf: &Bound<'_, Self>) -> PyResult<()> {
        let this = slf.get();
        let core = this.core.bind(slf.py());
        core.get().check_thread()?;
        let flags = this.flags.get();
        if flags.closing || flags.eof {
            return Ok(());
        }
        if this.empty_waiter.borrow().is_some() {
            return Err(PyRuntimeError::new_err("unable to write; sendfile is in progress"));
        }
        this.change(|flags| flags.eof = true);
        let reactor = &core.get().reactor;
        let outcome = this.conn.borrow_mut().finish(&*reactor.driver, &reactor.pool);
        this.flushed_inside(slf, core, outcome)
    }

    /// True: TCP and Unix streams can be half-closed.
    fn can_write_eof(&self) -> bool {
        true
    }

    /// Closes after what is queued was sent.
    fn close(slf: &Bound<'_, Self>) -> PyResult<()> {
        slf.get().core.get().check_thread()?;
        slf.get().close_gracefully(slf)
    }

    /// Closes at once; what is queued is lost.
    fn abort(slf: &Bound<'_, Self>) -> PyResult<()> {
        slf.get().core.get().check_thread()?;
        slf.get().force_close(slf, None)
    }

    /// Bytes that wait to be sent.
    fn get_write_buffer_size(&self) -> usize {
        self.conn.borrow().queued()
    }

    /// `(low, high)`, bytes.
    fn get_write_buffer_limits(&self) -> (usize, usize) {
        self.conn.borrow().limits()
    }

    /// Sets the watermarks, bytes. The default is 64 KiB and a quarter of it.
    #[pyo3(signature = (high = None, low = None))]
    fn set_write_buffer_limits(
        slf: &Bound<'_, Self>,
        high: Option<isize>,
        low: Option<isize>,
    ) -> PyResult<()> {
        let high = high.unwrap_or_else(|| low.map_or(HIGH as isize, |low| 4 * low));
        let low = low.unwrap_or(high / 4);
        if !(high >= low && low >= 0) {
            return Err(PyValueError::new_err(format!(
                "high ({high}) must be >= low ({low}) must be >= 0"
            )));
        }
        let this = slf.get();
        this.conn.borrow_mut().set_limits(low as usize, high as usize);
        if this.conn.borrow().over() { this.relieve(slf) } else { Ok(()) }
    }

    fn __repr__(slf: &Bound<'_, Self>) -> String {
        let this = slf.get();
        let (flags, fd) = (this.flags.get(), this.fd());
        let mut words = vec!["StreamTransport".to_owned()];
        if fd < 0 {
            words.push("closed".to_owned());
        } else {
            if flags.closing {
                words.push("closing".to_owned());
            }
            words.push(format!("fd={fd}"));
            let polling = flags.reading && !flags.paused && !flags.closing;
            words.push(format!("read={}", if polling { "polling" } else { "idle" }));
            let size = this.conn.borrow().queued();
            let state = if size > 0 { "polling" } else { "idle" };
            words.push(format!("write=<{state}, bufsize={size}>"));
        }
        format!("<{}>", words.join(" "))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.core)?;
        visit.call(&self.context)?;
        visit.call(&self.extra)?;
        for cell in [&self.protocol, &self.server, &self.socket, &self.empty_waiter] {
            if let Ok(object) = cell.try_borrow() {
                visit.call(&*object)?;
            }
        }
        Ok(())
    }

    fn __clear__(&self) {
        for cell in [&self.protocol, &self.server, &self.empty_waiter] {
            let object = cell.take();
            drop(object);
        }
    }
}

unsafe extern "C" fn write(
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

static METHODS: Methods<1> = Methods([unary(
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
