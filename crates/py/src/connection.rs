//! `Connection`: one connection of a framed server, native from socket to handler.
//!
//! One Python object for each connection and nothing else: no Task, no reader, no transport, no
//! buffer at rest.
//!
//! # Order and pressure
//!
//! Messages are handled one at a time, in order. While a handler is suspended (`busy`) or the peer
//! does not read what we send (`pressed`), nothing more is handled: what was already received waits
//! in `backlog`, and beyond [`BACKLOG`] bytes reading pauses, so that TCP pushes back on the peer.
//!
//! ```text
//!   received --> [backlog] --> decoder --> handler --> queue --> socket
//!                   ^             |           |           |
//!                   +-- blocked --+--- busy --+- pressed -+
//! ```

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::ffi;
use pyo3::ffi::c_str;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};
use pyo3::{PyTraverseError, PyVisit};
use wireway_core::conn::{Conn, Flushed, Pressure};
use wireway_core::frame::{Decoder, Framing, MAX_HEADER, Message};
use wireway_core::op::{Completion, Token};
use wireway_core::sys;

use crate::errors::{leaves_the_loop, os_error, ours, type_name};
use crate::event_loop::{Endpoint, LoopCore};
use crate::interp::{self, Methods, give, none, unary};
use crate::memory::{self, NewBytes};
use crate::server::ServerCore;
use crate::step::{self, Stepped};
use crate::transport::{KEEP_FROM, KeptBytes, with_bytes};

/// Bytes received and not handled at which reading pauses.
const BACKLOG: usize = 64 * 1024;

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
    state: RefCell<Option<Py<PyAny>>>,
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
                state: RefCell::new(None),
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
            Completion::Received(data) => self.received(slf, core, data),
            Completion::ReceiveEnded(Ok(())) => {
                self.change(|flags| flags.ended = true);
                self.finish_if_ended(slf, core)
            }
            Completion::ReceiveEnded(Err(error)) => {
                let code = match error.raw_os_error() {
                    Some(libc::ECONNRESET) => "peer-reset",
                    Some(libc::ETIMEDOUT) => "timed-out",
                    _ => "io-error",
                };
                let error = os_error(&error);
                self.end(slf, core, code, error.value(slf.py()).to_string(), Some(error))
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
    fn received(
        &self,
        slf: &Bound<'_, Self>,
        core: &Bound<'_, LoopCore>,
        data: &[u8],
    ) -> PyResult<()> {
        let flags = self.flags.get();
        if flags.closing {
            return Ok(());
        }
        if flags.busy || flags.pressed || flags.working {
            let mut backlog = self.backlog.borrow_mut();
            backlog.bytes.extend_from_slice(data);
            let full = backlog.bytes.len() - backlog.start > BACKLOG;
            drop(backlog);
            if full && !flags.paused {
                self.change(|flags| flags.paused = true);
                self.conn.borrow().pause(&*core.get().reactor.driver);
            }
            return Ok(());
        }
        let mut rest = data;
        self.work(slf, core, |this| this.take_messages(slf, core, &mut rest))?;
        if !rest.is_empty() && !self.flags.get().closing {
            self.backlog.borrow_mut().bytes.extend_from_slice(rest);
        }
        Ok(())
    }

    /// Whether what comes next could be handled as it is: then it is received into its own object.
    pub fn wants_room(&self) -> bool {
        let server = self.server.get();
        let flags = self.flags.get();
        let free = !(flags.busy || flags.pressed || flags.working || flags.closing);
        free && matches!(server.framing, Framing::Raw)
            && server.with_handlers(|handlers| !handlers.batch).unwrap_or(false)
    }

    /// A message that came in room of its own.
    pub fn received_whole(
        &self,
        slf: &Bound<'_, Self>,
        core: &Bound<'_, LoopCore>,
        message: &Bound<'_, PyBytes>,
    ) -> PyResult<()> {
        let py = slf.py();
        let server = self.server.get();
        let handler = server.with_handlers(|handlers| handlers.messages.clone_ref(py));
        let Some(handler) = handler else { return Ok(()) };
        server.count(1);
        let arguments = [slf.as_ptr(), message.as_ptr()];
        self.work(slf, core, |this| this.handle(slf, core, handler.as_ptr(), &arguments))
    }

    /// Runs handlers: everything between the first message of a batch and the last.
    #[inline]
    fn work(
        &self,
        slf: &Bound<'_, Self>,
        core: &Bound<'_, LoopCore>,
        body: impl FnOnce(&Self) -> PyResult<()>,
    ) -> PyResult<()> {
        self.change(|flags| flags.working = true);
        let py = slf.py();
        let result = interp::inside(py, &self.server.get().context, || {
            let result = body(self);
            // The stand-in's context was entered inside ours, and is left before it.
            result.and(step::leave(core))
        });
        self.change(|flags| flags.working = false);
        result
    }

    /// Takes messages from the front of `rest` until none is whole or handling has to stop.
    fn take_messages(
        &self,
        slf: &Bound<'_, Self>,
        core: &Bound<'_, LoopCore>,
        rest: &mut &[u8],
    ) -> PyResult<()> {
        let py = slf.py();
        let server = self.server.get();
        let Some((handler, batch)) =
            server.with_handlers(|handlers| (handlers.messages.clone_ref(py), handlers.batch))
        else {
            return Ok(());
        };
        if batch {
            return self.take_batch(slf, core, &handler, rest);
        }
        let mut count = 0;
        let result = loop {
            let next = self.decoder.borrow_mut().next(&server.framing, rest);
            let message = match next {
                Ok(Some(Message::Lent(bytes))) => memory::bytes(py, bytes),
                Ok(Some(Message::Whole(message))) => message.finish(py),
                Ok(None) => break Ok(()),
                Err(error) => break self.refuse(slf, core, &error),
            };
            count += 1;
            let arguments = [slf.as_ptr(), message.as_ptr()];
            if let Err(error) = self.handle(slf, core, handler.as_ptr(), &arguments) {
                break Err(error);
            }
            let flags = self.flags.get();
            if flags.busy || flags.pressed || flags.closing {
                break Ok(());
            }
        };
        server.count(count);
        result
    }

    fn take_batch(
        &self,
        slf: &Bound<'_, Self>,
        core: &Bound<'_, LoopCore>,
        handler: &Py<PyAny>,
        rest: &mut &[u8],
    ) -> PyResult<()> {
        let py = slf.py();
        let server = self.server.get();
        let messages = PyList::empty(py);
        let refused = loop {
            match self.decoder.borrow_mut().next(&server.framing, rest) {
                Ok(Some(Message::Lent(bytes))) => messages.append(memory::bytes(py, bytes))?,
                Ok(Some(Message::Whole(message))) => messages.append(message.finish(py))?,
                Ok(None) => break None,
                Err(error) => break Some(error),
            }
        };
        if !messages.is_empty() {
            server.count(messages.len() as u64);
            let arguments = [slf.as_ptr(), messages.as_ptr()];
            self.handle(slf, core, handler.as_ptr(), &arguments)?;
        }
        match refused {
            Some(error) if !self.flags.get().closing => self.refuse(slf, core, &error),
            _ => Ok(()),
        }
    }

    fn refuse(
        &self,
        slf: &Bound<'_, Self>,
        core: &Bound<'_, LoopCore>,
        error: &wireway_core::frame::FrameError,
    ) -> PyResult<()> {
        self.end(slf, core, "frame-too-large", error.to_string(), None)
    }

    /// Calls a handler and, if it is asynchronous, steps it.
    #[inline]
    fn handle(
        &self,
        slf: &Bound<'_, Self>,
        core: &Bound<'_, LoopCore>,
        handler: *mut ffi::PyObject,
        arguments: &[*mut ffi::PyObject],
    ) -> PyResult<()> {
        let py = slf.py();
        let failed = match interp::call(py, handler, arguments) {
            Ok(value) if value.is_none() => return Ok(()),
            Ok(value) => match self.step(slf, core, &value) {
                Ok(()) => return Ok(()),
                Err(error) => error,
            },
            Err(error) => error,
        };
        self.handler_failed(slf, core, failed)
    }

    fn step(
        &self,
        slf: &Bound<'_, Self>,
        core: &Bound<'_, LoopCore>,
        value: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        // SAFETY: a live object; the check reads its type.
        if unsafe { ffi::PyCoro_CheckExact(value.as_ptr()) } == 0 {
            // A plain function may return anything; only what can be awaited means something.
            return match value.hasattr(intern!(slf.py(), "__await__"))? {
                true => Err(PyTypeError::new_err(format!(
                    "the handler returned an awaitable of type {:?}: make the handler `async def`",
                    type_name(value)
                ))),
                false => Ok(()),
            };
        }
        match step::step(core, &self.server.get().context, value)? {
            Stepped::Finished(result) => result,
            Stepped::Suspended(task) => {
                self.change(|flags| flags.busy = true);
                let done = slf.getattr(intern!(slf.py(), "_handler_done"))?;
                task.call_method1(slf.py(), intern!(slf.py(), "add_done_callback"), (done,))?;
                Ok(())
            }
        }
    }

    fn handler_failed(
        &self,
        slf: &Bound<'_, Self>,
        core: &Bound<'_, LoopCore>,
        error: PyErr,
    ) -> PyResult<()> {
        let py = slf.py();
        if leaves_the_loop(py, &error) {
            return Err(error);
        }
        let cancelled = error.is_instance(py, interp::cancelled_error(py)?);
        let code = if cancelled { "handler-cancelled" } else { "handler-error" };
        let name = type_name(error.value(py).as_any());
        self.end(slf, core, code, format!("{name}: {}", error.value(py)), Some(error))
    }

    /// Goes on with what waited, once nothing blocks any more.
    fn go_on(&self, slf: &Bound<'_, Self>, core: &Bound<'_, LoopCore>) -> PyResult<()> {
        let flags = self.flags.get();
        if flags.busy || flags.pressed || flags.working || flags.closing {
            return Ok(());
        }
        let mut rest = self.backlog.take();
        if rest.start < rest.bytes.len() {
            let mut left = &rest.bytes[rest.start..];
            let result = self.work(slf, core, |this| this.take_messages(slf, core, &mut left));
            rest.start = rest.bytes.len() - left.len();
            result?;
        }
        let flags = self.flags.get();
        if rest.start < rest.bytes.len() && !flags.closing {
            if rest.start >= BACKLOG {
                rest.bytes.drain(..rest.start);
                rest.start = 0;
            }
            *self.backlog.borrow_mut() = rest;
        }
        if flags.busy || flags.pressed || flags.closing {
            return Ok(());
        }
        if flags.paused {
            self.change(|flags| flags.paused = false);
            // ENOENT once detached: there is nothing to read from.
            let _ = self.conn.borrow().receive(&*core.get().reactor.driver);
        }
        self.finish_if_ended(slf, core)
    }

    /// The peer has said all, and all of it was handled.
    fn finish_if_ended(&self, slf: &Bound<'_, Self>, core: &Bound<'_, LoopCore>) -> PyResult<()> {
        let flags = self.flags.get();
        if !flags.ended || flags.busy || flags.pressed || flags.working || flags.closing {
            return Ok(());
        }
        if self.decoder.borrow().is_partial() {
            let why = "the peer closed in the middle of a frame".to_owned();
            return self.end(slf, core, "truncated-frame", why, None);
        }
        self.begin_close(slf, core, "peer-closed", "the peer closed".to_owned(), None)
    }

    // --- sending -------------------------------------------------------------------------------

    /// Queues one message and flushes if too much waits.
    #[inline]
    fn queue(&self, slf: &Bound<'_, Self>, data: &Bound<'_, PyAny>) -> PyResult<()> {
        let flags = self.flags.get();
        if flags.closing {
            return Err(self.closed_error(slf.py()));
        }
        let server = self.server.get();
        let core = server.core(slf.py());
        core.get().check_thread()?;
        let pool = &core.get().reactor.pool;
        let mut header = [0; MAX_HEADER];
        let refused = |error: wireway_core::frame::FrameError| {
            PyValueError::new_err(format!(
                "message of {} bytes, the framing's limit is {} bytes",
                error.length, error.limit
            ))
        };
        if let Ok(bytes) = data.cast::<PyBytes>() {
            let content = bytes.as_bytes();
            let size = server.framing.header(content.len(), &mut header).map_err(refused)?;
            let mut conn = self.conn.borrow_mut();
            if content.len() < KEEP_FROM {
                conn.write_pair(pool, &header[..size], content);
            } else {
                conn.write(pool, &header[..size]);
                conn.keep(KeptBytes::boxed(bytes));
            }
        } else {
            // SAFETY: a live object; the check reads its type.
            if unsafe { ffi::PyObject_CheckBuffer(data.as_ptr()) } == 0 {
                return Err(PyTypeError::new_err(format!(
                    "a message is a bytes-like object, not {:?}",
                    type_name(data)
                )));
            }
            with_bytes(data, |content| {
                let size = server.framing.header(content.len(), &mut header).map_err(refused)?;
                self.conn.borrow_mut().write_pair(pool, &header[..size], content);
                Ok::<_, PyErr>(())
            })??;
        }
        if !flags.dirty {
            self.change(|flags| flags.dirty = true);
            core.get().reactor.mark_dirty(self.token);
        }
        if self.conn.borrow().over() { self.press(slf, core) } else { Ok(()) }
    }

    #[cold]
    fn press(&self, slf: &Bound<'_, Self>, core: &Bound<'_, LoopCore>) -> PyResult<()> {
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
    fn flushed(
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
    fn settle(&self, py: Python<'_>, error: Option<PyErr>) -> PyResult<()> {
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
    fn wait<'py>(&self, core: &Bound<'py, LoopCore>) -> PyResult<Bound<'py, PyAny>> {
        let waiter = core.call_method0(intern!(core.py(), "create_future"))?;
        self.waiters.borrow_mut().push(waiter.clone().unbind());
        Ok(waiter)
    }

    // --- ending --------------------------------------------------------------------------------

    fn closed_error(&self, py: Python<'_>) -> PyErr {
        let why = self.farewell.borrow().as_ref().map_or_else(
            || "the connection is closed".to_owned(),
            |farewell| format!("the connection is closed: {}", farewell.why),
        );
        ours(py, "ConnectionClosedError", &why)
    }

    /// Ends the connection at once.
    fn end(
        &self,
        slf: &Bound<'_, Self>,
        core: &Bound<'_, LoopCore>,
        code: &'static str,
        why: String,
        error: Option<PyErr>,
    ) -> PyResult<()> {
        if self.flags.get().closed {
            return Ok(());
        }
        self.change(|flags| flags.closing = true);
        self.keep_farewell(code, why, error);
        if code == "frame-too-large" || code.starts_with("handler") {
            // What was answered before still goes out, as far as the socket takes it at once.
            let reactor = &core.get().reactor;
            let _ = self.conn.borrow_mut().flush(&*reactor.driver, &reactor.pool);
        }
        self.over(slf, core)
    }

    /// Ends the connection when what is queued was sent.
    fn begin_close(
        &self,
        slf: &Bound<'_, Self>,
        core: &Bound<'_, LoopCore>,
        code: &'static str,
        why: String,
        error: Option<PyErr>,
    ) -> PyResult<()> {
        if self.flags.get().closing {
            return Ok(());
        }
        self.change(|flags| flags.closing = true);
        self.keep_farewell(code, why, error);
        let reactor = &core.get().reactor;
        let outcome = {
            let mut conn = self.conn.borrow_mut();
            conn.pause(&*reactor.driver);
            conn.finish(&*reactor.driver, &reactor.pool)
        };
        self.flushed(slf, core, outcome)
    }

    fn keep_farewell(&self, code: &'static str, why: String, error: Option<PyErr>) {
        let mut farewell = self.farewell.borrow_mut();
        if farewell.is_none() {
            *farewell = Some(Box::new(Farewell { code, why, error }));
        }
    }

    /// The end: the descriptor goes, waits end, the server is told.
    fn over(&self, slf: &Bound<'_, Self>, core: &Bound<'_, LoopCore>) -> PyResult<()> {
        let py = slf.py();
        if self.flags.get().closed {
            return Ok(());
        }
        self.change(|flags| flags.closed = true);
        let server = self.server.get();
        let (closed, wants) = server
            .with_handlers(|handlers| (Some(handlers.closed.clone_ref(py)), handlers.wants_close))
            .unwrap_or((None, false));
        let ordinary = self.farewell.borrow().as_ref().is_none_or(|farewell| {
            matches!(farewell.code, "peer-closed" | "closed" | "server-stopped" | "aborted")
        });
        let mut result = Ok(());
        if let Some(closed) = closed
            && (wants || !ordinary)
        {
            let told = {
                let farewell = self.farewell.borrow();
                farewell.as_ref().map(|farewell| {
                    let error = farewell.error.as_ref().map(|error| error.value(py).clone());
                    (farewell.code, farewell.why.clone(), error)
                })
            };
            if let Some((code, why, error)) = told {
                // The descriptor is still open: `peer` and `local` answer in `on_close`.
                result = closed.call1(py, (slf, code, why, error)).map(drop);
            }
        }
        self.release(core.get());
        self.settle(py, Some(self.closed_error(py)))?;
        server.closed(py)?;
        match result {
            Err(error) if !leaves_the_loop(py, &error) => {
                LoopCore::report(core, "on_close failed", &error, &[("connection", slf.as_any())])
            }
            other => other,
        }
    }

    fn release(&self, core: &LoopCore) {
        let fd = self.conn.borrow().fd();
        self.conn.borrow_mut().detach(&*core.reactor.driver, &core.reactor.pool);
        let endpoint = core.displace_stream(self.token, fd);
        let backlog = self.backlog.take();
        core.descriptor_freed();
        drop((endpoint, backlog));
    }

    /// The loop is closed: the descriptor goes, nobody is told.
    pub fn loop_closed(&self, _py: Python<'_>, core: &LoopCore) {
        if !self.flags.get().closed {
            self.change(|flags| {
                flags.closing = true;
                flags.closed = true;
            });
            self.release(core);
        }
    }
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
        let ip = address.ip().to_string();
        return Ok(Some(match address {
            std::net::SocketAddr::V4(v4) => (ip, v4.port()).into_pyobject(py)?.into_any(),
            std::net::SocketAddr::V6(v6) => {
                let scope = v6.scope_id();
                (ip, v6.port(), v6.flowinfo(), scope).into_pyobject(py)?.into_any()
            }
        }));
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
        socket_name(py, self.conn.borrow().fd(), true)
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
        let this = slf.get();
        let core = this.server.get().core(slf.py());
        let flags = this.flags.get();
        if flags.busy || flags.pressed {
            // Not one message more; what waits is dropped, and the end comes as if the peer's.
            this.conn.borrow().pause(&*core.get().reactor.driver);
            drop(this.backlog.take());
            this.change(|flags| {
                flags.ended = true;
                flags.paused = false;
            });
            return Ok(());
        }
        this.begin_close(slf, core, "server-stopped", "the server stops".to_owned(), None)
    }

    /// A handler's Task ended.
    fn _handler_done(slf: &Bound<'_, Self>, task: &Bound<'_, PyAny>) -> PyResult<()> {
        let (this, py) = (slf.get(), slf.py());
        let core = this.server.get().core(py);
        this.change(|flags| flags.busy = false);
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
        if let Ok(waiters) = self.waiters.try_borrow() {
            for waiter in waiters.iter() {
                visit.call(waiter)?;
            }
        }
        Ok(())
    }

    fn __clear__(&self) {
        drop(self.state.take());
        drop(self.waiters.take());
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
