//! What Python sees of a transport: asyncio's public methods, and the underscored ones that the rest of the
//! standard library relies on.
//!
//! Long because: it is one class, and PyO3 wants the methods of a class in one block.

use std::os::fd::RawFd;

use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use pyo3::{PyTraverseError, PyVisit};
use wireway_core::conn::{Conn, HIGH};

use crate::errors::os_error;
use crate::event_loop::LoopCore;
use crate::interp;

use super::StreamTransport;
use super::sending::not_bytes;

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
        if self.fd() < 0 { Ok(None) } else { self.python_socket(py) }
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
        let protocol = this.protocol(py);
        // Somebody still holds the transport: what it says of its ends must outlive the descriptor.
        if interp::references(slf.as_unbound()) > 3 {
            let _ = this.peer_name(py);
            let _ = this.local_name(py);
        }
        let result = match &protocol {
            Some(protocol) => {
                protocol.call_method1(intern!(py, "connection_lost"), (error,)).map(drop)
            }
            None => Ok(()),
        };
        this.release(core.get());
        let former = this.protocol.borrow_mut().take();
        drop(former);
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
            Ok("socket") => self.wrapped_socket(py)?,
            Ok("peername") => self.peer_name(py)?,
            Ok("sockname") => self.local_name(py)?,
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
        // What the driver still holds of a lost connection is nobody's any more.
        if self.flags.get().lost { 0 } else { self.conn.borrow().queued() }
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

    pub(super) fn __repr__(slf: &Bound<'_, Self>) -> String {
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
            let size = this.get_write_buffer_size();
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
