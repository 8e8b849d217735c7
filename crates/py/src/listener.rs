//! Accepting: for `create_server` (a protocol each) and for `wireway.Server` (a connection each).
//!
//! No Task, no waiter and no socket object for each accept.
//!
//! # No descriptors
//!
//! When accept(2) says EMFILE, ENFILE, ENOBUFS or ENOMEM the connection stays in the backlog, and the
//! socket stays readable: a loop that goes on asking spins. So the listener pauses, says so once, and
//! tries again when this process closes one of the loop's connections, or after [`RETRY`] seconds in
//! case somebody else freed what was short.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::{IntoRawFd, OwnedFd, RawFd};

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use pyo3::{PyTraverseError, PyVisit};
use wireway_core::driver::Fate;
use wireway_core::op::{Op, Role, Token};

use crate::errors::{is_os_error, is_ours, leaves_the_loop, os_error};
use crate::event_loop::{Endpoint, LoopCore};
use crate::interp;
use crate::server::ServerCore;
use crate::transport::StreamTransport;

/// Seconds until a listener without descriptors tries again by itself: asyncio's ACCEPT_RETRY_DELAY.
const RETRY: f64 = 1.0;

/// Who gets the accepted connections.
enum Taker {
    /// `factory()` makes a protocol, with a transport for `server` (or None).
    Protocol { factory: Py<PyAny>, server: Option<Py<PyAny>> },
    /// `callback(fd)` takes the descriptor: TLS, whose handshake is Python's.
    Callback(Py<PyAny>),
    /// A framed server, and whether TLS comes first.
    Server(Py<ServerCore>, bool),
}

/// A listening socket under a loop. Its socket object stays the owner of the descriptor.
#[pyclass(frozen, weakref, module = "wireway._native")]
pub struct Listener {
    core: Py<LoopCore>,
    taker: RefCell<Option<Taker>>,
    /// Each protocol is made, and called, in a copy of the context in which the listener was made.
    context: Py<PyAny>,
    socket: RefCell<Option<Py<PyAny>>>,
    token: Cell<Option<Token>>,
    /// What `LoopCore::freed` was when it last asked. Completions wait in a queue: what they say of the limit may be over.
    asked: Cell<u64>,
    /// Has met the descriptor limit and said so.
    starved: Cell<bool>,
}

// SAFETY: as `LoopCore`.
unsafe impl Sync for Listener {}
// SAFETY: as `LoopCore`.
unsafe impl Send for Listener {}

#[pymethods]
impl Listener {
    /// Begins to accept on a bound, listening, non-blocking socket. Exactly one of `factory` (with
    /// `server`), `callback` and `framed` (with `secured`: under TLS) says who takes the connections.
    #[new]
    #[allow(clippy::too_many_arguments)] // keywords of Python's
    #[pyo3(signature = (core, socket, *, factory = None, server = None, callback = None, framed = None, secured = false))]
    fn new(
        py: Python<'_>,
        core: Py<LoopCore>,
        socket: Bound<'_, PyAny>,
        factory: Option<Py<PyAny>>,
        server: Option<Py<PyAny>>,
        callback: Option<Py<PyAny>>,
        framed: Option<Py<ServerCore>>,
        secured: bool,
    ) -> PyResult<Py<Self>> {
        let taker = match (factory, callback, framed) {
            (Some(factory), None, None) => Taker::Protocol { factory, server },
            (None, Some(callback), None) => Taker::Callback(callback),
            (None, None, Some(framed)) => Taker::Server(framed, secured),
            _ => {
                return Err(pyo3::exceptions::PyTypeError::new_err(
                    "exactly one of factory, callback and framed is needed",
                ));
            }
        };
        let fd: RawFd = socket.call_method0(intern!(py, "fileno"))?.extract()?;
        let this = core.clone_ref(py);
        let this = this.get();
        this.check()?;
        let driver = &this.reactor.driver;
        let token = driver.attach(fd, Role::Listener).map_err(|error| os_error(&error))?;
        let listener = Py::new(
            py,
            Self {
                core,
                taker: RefCell::new(Some(taker)),
                context: interp::copy_context(py)?,
                socket: RefCell::new(Some(socket.unbind())),
                token: Cell::new(Some(token)),
                asked: Cell::new(this.freed.get()),
                starved: Cell::new(false),
            },
        )?;
        this.place(token, Endpoint::Listener(listener.clone_ref(py)));
        if let Err(error) = driver.submit(token, Op::Accept) {
            listener.get().close(py, this);
            return Err(os_error(&error));
        }
        Ok(listener)
    }

    /// Stops accepting. The socket stays open; its owner closes it. Returns how many connections of a framed
    /// server the kernel had accepted already: the server has them in the next turn.
    #[pyo3(name = "close")]
    fn py_close(&self, py: Python<'_>) -> PyResult<usize> {
        let core = self.core.get();
        core.check_thread()?;
        let late = self.late(py, core)?;
        self.close(py, core);
        Ok(late)
    }

    /// Tries again after the descriptor limit was met.
    fn _retry(&self) {
        self.resume(self.core.get());
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.core)?;
        visit.call(&self.context)?;
        if let Ok(socket) = self.socket.try_borrow() {
            visit.call(&*socket)?;
        }
        if let Ok(taker) = self.taker.try_borrow() {
            match taker.as_ref() {
                None => {}
                Some(Taker::Protocol { factory, server }) => {
                    visit.call(factory)?;
                    visit.call(server)?;
                }
                Some(Taker::Callback(callback)) => visit.call(callback)?,
                Some(Taker::Server(server, _)) => visit.call(server)?,
            }
        }
        Ok(())
    }

    fn __clear__(&self) {
        drop(self.taker.take());
        drop(self.socket.take());
    }
}

impl Listener {
    /// Hands over what was accepted and not told yet. In a turn of its own: a Task that runs may not step a handler.
    fn late(&self, py: Python<'_>, core: &LoopCore) -> PyResult<usize> {
        let (server, secured) = match self.taker.borrow().as_ref() {
            Some(Taker::Server(server, secured)) => (server.clone_ref(py), *secured),
            _ => return Ok(0),
        };
        let Some(token) = self.token.get() else { return Ok(0) };
        // ENOENT can not be: the token is attached until `close`.
        let late = core.reactor.driver.stop_accepting(token).unwrap_or_default();
        let count = late.len();
        for fd in late {
            let adopt = server.bind(py).getattr(intern!(py, "_accepted"))?;
            self.core
                .bind(py)
                .call_method1(intern!(py, "call_soon"), (adopt, fd.into_raw_fd(), secured))?;
        }
        Ok(count)
    }

    /// Stops accepting.
    pub fn close(&self, _py: Python<'_>, core: &LoopCore) {
        if let Some(token) = self.token.take() {
            core.reactor.driver.detach(token, Fate::Keep);
            drop(core.displace(token));
            drop(self.taker.take());
            drop(self.socket.take());
        }
    }

    /// Accepts again after a pause.
    pub fn resume(&self, core: &LoopCore) {
        if let Some(token) = self.token.get() {
            self.asked.set(core.freed.get());
            // ENOENT can not be: the token is attached until `close`.
            let _ = core.reactor.driver.submit(token, Op::Accept);
        }
    }

    /// A connection was accepted, or accepting failed.
    pub fn accepted(
        &self,
        slf: &Bound<'_, Self>,
        core: &Bound<'_, LoopCore>,
        result: io::Result<OwnedFd>,
    ) -> PyResult<()> {
        let py = slf.py();
        match result {
            Ok(fd) => {
                let starved = self.starved.replace(false);
                let outcome = self.take(py, core, fd);
                match outcome {
                    Err(error) if leaves_the_loop(py, &error) => Err(error),
                    // The back end can not watch it, and it is closed: said once until one was taken.
                    Err(error) if is_ours(py, &error, "DescriptorLimitError") => {
                        self.starved.set(true);
                        let message = "An accepted connection was closed";
                        if starved { Ok(()) } else { LoopCore::report(core, message, &error, &[]) }
                    }
                    // A peer that was gone before we looked at it is no news, except in debug mode.
                    Err(error) if is_os_error(py, &error) && !core.get().debug.get() => Ok(()),
                    Err(error) => LoopCore::report(
                        core,
                        "Error on transport creation for incoming connection",
                        &error,
                        &[],
                    ),
                    Ok(()) => Ok(()),
                }
            }
            Err(error) => self.failed(slf, core, &error),
        }
    }

    fn failed(
        &self,
        slf: &Bound<'_, Self>,
        core: &Bound<'_, LoopCore>,
        error: &io::Error,
    ) -> PyResult<()> {
        let (py, this) = (slf.py(), core.get());
        let exhausted = matches!(
            error.raw_os_error(),
            Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM)
        );
        let socket = self.socket.borrow().as_ref().map(|socket| socket.clone_ref(py));
        let Some(socket) = socket else { return Ok(()) };
        let wrapped = interp::transport_socket(py)?.call1((socket,))?;
        if !exhausted {
            return LoopCore::report(
                core,
                "Accepting failed; the listener is closed for new connections",
                &os_error(error),
                &[("socket", &wrapped)],
            );
        }
        if self.asked.get() != this.freed.get() {
            // A back end that accepts ahead of us ran out before we closed those that were too many. Bounded: each
            // time one at least was closed since the last.
            self.resume(this);
            return Ok(());
        }
        this.starved.borrow_mut().push(slf.clone().unbind());
        core.call_method1(intern!(py, "call_later"), (RETRY, slf.getattr("_retry")?))?;
        if self.starved.replace(true) {
            return Ok(());
        }
        LoopCore::report(
            core,
            "socket.accept() out of system resource",
            &os_error(error),
            &[("socket", &wrapped)],
        )
    }

    fn take(&self, py: Python<'_>, core: &Bound<'_, LoopCore>, fd: OwnedFd) -> PyResult<()> {
        // A short borrow: what is called below may close this listener.
        let taker = match self.taker.borrow().as_ref() {
            None => return Ok(()),
            Some(Taker::Protocol { factory, server }) => Taker::Protocol {
                factory: factory.clone_ref(py),
                server: server.as_ref().map(|server| server.clone_ref(py)),
            },
            Some(Taker::Callback(callback)) => Taker::Callback(callback.clone_ref(py)),
            Some(Taker::Server(server, secured)) => Taker::Server(server.clone_ref(py), *secured),
        };
        match taker {
            Taker::Server(server, secured) => {
                ServerCore::accepted(server.bind(py), core, fd, secured)
            }
            Taker::Callback(callback) => {
                let raw = fd.into_raw_fd();
                let socket = match interp::python_socket(py).and_then(|class| {
                    let arguments = PyDict::new(py);
                    arguments.set_item(intern!(py, "fileno"), raw)?;
                    class.call((), Some(&arguments))
                }) {
                    Ok(socket) => socket,
                    Err(error) => {
                        // SAFETY: no socket object took the descriptor; it is still ours alone.
                        unsafe { libc::close(raw) };
                        return Err(error);
                    }
                };
                let context = interp::copy_of(py, &self.context)?;
                interp::inside(py, &context, || callback.call1(py, (socket,)).map(drop))
            }
            Taker::Protocol { factory, server } => {
                let context = interp::copy_of(py, &self.context)?;
                let make = || interp::call(py, factory.as_ptr(), &[]);
                let protocol = interp::inside(py, &context, make)?;
                StreamTransport::accept(core, fd, protocol, server, context)
            }
        }
    }
}
