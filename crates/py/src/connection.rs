//! `Connection`: one connection of a framed server, native from socket to handler.
//!
//! One Python object for each connection and nothing else: no Task, no reader, no transport, no
//! buffer at rest.
//!
//! # Order and pressure
//!
//! Messages are handled one at a time, in order. While a handler is suspended (`busy`) or the peer
//! does not read what we send (`pressed`), nothing more is handled: what was already received waits
//! in `backlog`, and beyond 64 KiB reading pauses, so that TCP pushes back on the peer.
//!
//! ```text
//!   received --> [backlog] --> decoder --> handler --> queue --> socket
//!                   ^             |           |           |
//!                   +-- blocked --+--- busy --+- pressed -+
//! ```

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::os::fd::{OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use pyo3::{PyTraverseError, PyVisit};
use wireway_core::conn::Conn;
use wireway_core::frame::Decoder;
use wireway_core::op::Token;
use wireway_core::sys;

use crate::errors::os_error;
use crate::event_loop::{Endpoint, LoopCore};
use crate::interp::{self};
use crate::memory::NewBytes;
use crate::server::ServerCore;
use crate::step;

mod ending;
mod receiving;
mod sending;

pub use sending::register;

#[derive(Clone, Copy, Default)]
struct Flags {
    /// Named in the reactor's list of unflushed connections.
    dirty: bool,
    /// A handler is suspended.
    busy: bool,
    /// More waits to be sent than the high watermark.
    pressed: bool,
    /// Reading is paused.
    paused: bool,
    /// The peer sent FIN.
    ended: bool,
    /// The server stops: the running handler was the last.
    stopping: bool,
    /// No more messages are handled; what is queued is still sent.
    closing: bool,
    /// Over.
    closed: bool,
    /// Messages are being handled further up the stack.
    working: bool,
}

/// Why a connection is about to end.
struct Farewell {
    code: &'static str,
    why: String,
    error: Option<PyErr>,
}

#[derive(Default)]
struct Rest {
    bytes: Vec<u8>,
    start: usize,
}

/// A connection of a server.
///
/// Every method belongs to the loop's thread.
#[pyclass(frozen, weakref, module = "wireway._native")]
pub struct Connection {
    server: Py<ServerCore>,
    conn: RefCell<Conn>,
    decoder: RefCell<Decoder<NewBytes>>,
    backlog: RefCell<Rest>,
    flags: Cell<Flags>,
    token: Token,
    number: u64,
    /// The peer's IP address, read at the beginning: the kernel forgets it when the peer resets the connection.
    peer: Option<SocketAddr>,
    state: RefCell<Option<Py<PyAny>>>,
    /// The Task of a suspended handler.
    task: RefCell<Option<Py<PyAny>>>,
    /// Futures of `send` and `drain` that wait for the low watermark.
    waiters: RefCell<Vec<Py<PyAny>>>,
    farewell: RefCell<Option<Box<Farewell>>>,
}

// SAFETY: as `LoopCore`.
unsafe impl Sync for Connection {}
// SAFETY: as `LoopCore`.
unsafe impl Send for Connection {}

impl Connection {
    /// Takes over an accepted socket.
    pub fn open(
        py: Python<'_>,
        core: &Bound<'_, LoopCore>,
        server: Py<ServerCore>,
        fd: OwnedFd,
    ) -> PyResult<()> {
        let mut conn = Conn::new(&*core.get().reactor.driver, fd).map_err(|e| os_error(&e))?;
        let (low, high) = server.get().watermarks;
        conn.set_limits(low, high);
        let (token, raw) = (conn.token(), conn.fd());
        let peer = sys::peer_name(raw).ok().and_then(|name| name.ip());
        let number = server.get().opened();
        let connect = server
            .get()
            .with_handlers(|handlers| handlers.connect.as_ref().map(|call| call.clone_ref(py)))
            .flatten();
        let connection = Bound::new(
            py,
            Self {
                server,
                conn: RefCell::new(conn),
                decoder: RefCell::default(),
                backlog: RefCell::default(),
                flags: Cell::default(),
                token,
                number,
                peer,
                state: RefCell::new(None),
                task: RefCell::default(),
                waiters: RefCell::default(),
                farewell: RefCell::default(),
            },
        )?;
        core.get().place_stream(token, raw, Endpoint::Connection(connection.clone().unbind()));
        let this = connection.get();
        if let Some(connect) = connect {
            this.work(&connection, core, |this| {
                this.handle(&connection, core, connect.as_ptr(), &[connection.as_ptr()])
            })?;
        }
        let flags = this.flags.get();
        if !flags.closing && !flags.paused {
            // ENOENT once detached: there is nothing to read from.
            let _ = this.conn.borrow().receive(&*core.get().reactor.driver);
        }
        Ok(())
    }

    /// Whether it is one of `server`'s.
    pub fn belongs_to(&self, server: &Bound<'_, ServerCore>) -> bool {
        self.server.is(server)
    }

    #[inline]
    fn change(&self, edit: impl FnOnce(&mut Flags)) {
        let mut flags = self.flags.get();
        edit(&mut flags);
        self.flags.set(flags);
    }
}

/// An IP address as Python's `socket` module gives it.
pub fn ip_name(py: Python<'_>, address: SocketAddr) -> PyResult<Bound<'_, PyAny>> {
    let ip = address.ip().to_string();
    Ok(match address {
        SocketAddr::V4(v4) => (ip, v4.port()).into_pyobject(py)?.into_any(),
        SocketAddr::V6(v6) => {
            (ip, v6.port(), v6.flowinfo(), v6.scope_id()).into_pyobject(py)?.into_any()
        }
    })
}

/// The name of one end of a socket, as Python's `socket` module gives it.
pub fn socket_name<'py>(
    py: Python<'py>,
    fd: RawFd,
    peer: bool,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    let Ok(name) = (if peer { sys::peer_name(fd) } else { sys::local_name(fd) }) else {
        return Ok(None);
    };
    if let Some(address) = name.ip() {
        return ip_name(py, address).map(Some);
    }
    // AF_UNIX: a path, an abstract name (bytes that begin with NUL), or nothing.
    let path = name.bytes().get(2..).unwrap_or_default();
    if path.first() == Some(&0) {
        return Ok(Some(PyBytes::new(py, path).into_any()));
    }
    let end = path.iter().position(|&byte| byte == 0).unwrap_or(path.len());
    let path = std::ffi::OsStr::from_bytes(&path[..end]);
    Ok(Some(path.into_pyobject(py)?.into_any()))
}

#[pymethods]
impl Connection {
    /// Its number at its server, from 1.
    #[getter]
    fn id(&self) -> u64 {
        self.number
    }

    /// The peer's address: `(host, port)`, `(host, port, flow, scope)`, or a path. None once closed.
    #[getter]
    fn peer<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        match (self.conn.borrow().fd(), self.peer) {
            (0.., Some(address)) => ip_name(py, address).map(Some),
            (fd, _) => socket_name(py, fd, true),
        }
    }

    /// Our own address, in the same form.
    #[getter]
    fn local<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        socket_name(py, self.conn.borrow().fd(), false)
    }

    /// Yours: whatever you keep for this connection. None at first.
    #[getter]
    fn get_state(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.state.borrow().as_ref().map(|state| state.clone_ref(py))
    }

    #[setter]
    fn set_state(&self, value: Option<Py<PyAny>>) {
        let former = std::mem::replace(&mut *self.state.borrow_mut(), value);
        drop(former);
    }

    /// Whether it is closed or about to be.
    #[getter]
    fn is_closing(&self) -> bool {
        self.flags.get().closing
    }

    /// Whether less than the high watermark waits to be sent, so that `send` would not wait.
    #[getter]
    fn writable(&self) -> bool {
        let flags = self.flags.get();
        !flags.closing && !flags.pressed
    }

    /// Bytes that wait to be sent.
    #[getter]
    fn queued(&self) -> usize {
        self.conn.borrow().queued()
    }

    /// Waits until at most the low watermark waits to be sent. Cancelling it changes nothing.
    fn drain<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let (this, py) = (slf.get(), slf.py());
        if this.flags.get().closed {
            return Err(this.closed_error(py));
        }
        if this.flags.get().pressed {
            return this.wait(this.server.get().core(py));
        }
        // SAFETY: a new reference.
        Ok(unsafe { Bound::from_owned_ptr(py, step::done()) })
    }

    /// Sends what is queued, then FIN, and ends. No more messages are handled.
    #[pyo3(signature = (why = "closed by the server"))]
    fn close(slf: &Bound<'_, Self>, why: &str) -> PyResult<()> {
        let this = slf.get();
        let core = this.server.get().core(slf.py());
        core.get().check_thread()?;
        this.begin_close(slf, core, "closed", why.to_owned(), None)
    }

    /// Ends at once; what is queued is lost.
    #[pyo3(signature = (why = "aborted by the server"))]
    fn abort(slf: &Bound<'_, Self>, why: &str) -> PyResult<()> {
        let this = slf.get();
        let core = this.server.get().core(slf.py());
        core.get().check_thread()?;
        this.end(slf, core, "aborted", why.to_owned(), None)
    }

    /// The server stops: ends when the running handler and what is queued are done.
    fn _drain_and_close(slf: &Bound<'_, Self>) -> PyResult<()> {
        slf.get().drain_and_close(slf, slf.get().server.get().core(slf.py()))
    }

    /// The server stopped: ends at once, and a handler that still runs is cancelled.
    fn _abort_and_cancel(slf: &Bound<'_, Self>) -> PyResult<()> {
        slf.get().abort_and_cancel(slf, slf.get().server.get().core(slf.py()))
    }

    /// A handler's Task ended.
    fn _handler_done(slf: &Bound<'_, Self>, task: &Bound<'_, PyAny>) -> PyResult<()> {
        let (this, py) = (slf.get(), slf.py());
        let core = this.server.get().core(py);
        this.change(|flags| flags.busy = false);
        drop(this.task.take());
        let error = if task.call_method0(intern!(py, "cancelled"))?.is_truthy()? {
            Some(interp::cancelled_error(py)?.call0()?)
        } else {
            Some(task.call_method0(intern!(py, "exception"))?).filter(|error| !error.is_none())
        };
        if let Some(error) = error {
            return this.handler_failed(slf, core, PyErr::from_value(error));
        }
        this.go_on(slf, core)
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let this = slf.get();
        let flags = this.flags.get();
        if flags.closed {
            return Ok(format!("<Connection {} closed>", this.number));
        }
        let peer = this.peer(slf.py())?.map_or_else(|| "?".to_owned(), |peer| peer.to_string());
        let state = if flags.closing { " closing" } else { "" };
        Ok(format!("<Connection {} peer={peer}{state}>", this.number))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.server)?;
        if let Ok(state) = self.state.try_borrow() {
            visit.call(&*state)?;
        }
        if let Ok(task) = self.task.try_borrow() {
            visit.call(&*task)?;
        }
        if let Ok(waiters) = self.waiters.try_borrow() {
            for waiter in waiters.iter() {
                visit.call(waiter)?;
            }
        }
        Ok(())
    }

    fn __clear__(&self) {
        drop(self.state.take());
        drop(self.task.take());
        drop(self.waiters.take());
    }
}
