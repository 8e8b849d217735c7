//! `StreamTransport`: asyncio's transport for TCP and Unix stream sockets.
//!
//! The duties and texts are those of `asyncio.selector_events._SelectorSocketTransport`, which the
//! rest of the standard library (TLS, `sendfile`, `Server`, streams) relies on, underscored names
//! included. What differs is the write policy: `write` queues, and all that one callback wrote leaves
//! in one send when the callback returns; a writer that passes the high watermark is flushed at once.
//!
//! Makes no socket object unless somebody asks for one.
//!
//! ```text
//!   transport.rs   what a transport is, how it is made     transport/receiving.rs   what came
//!   transport/methods.rs   what Python sees                transport/sending.rs     what goes
//!   transport/telling.rs   socket and names                transport/ending.rs      every way to the end
//! ```

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::os::fd::{OwnedFd, RawFd};

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use wireway_core::conn::Conn;
use wireway_core::op::Token;
use wireway_core::sys;

use crate::errors::{leaves_the_loop, os_error};
use crate::event_loop::{Endpoint, LoopCore};
use crate::interp;

mod ending;
mod methods;
mod receiving;
mod sending;
mod telling;

use telling::Told;

pub use sending::register;

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
    /// The peer's IP address, read at the beginning: the kernel forgets it when the peer resets the connection.
    peer: Option<SocketAddr>,
    told: RefCell<Option<Box<Told>>>,
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
        let peer = sys::peer_name(fd).ok().and_then(|name| name.ip());
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
                peer,
                told: RefCell::new(None),
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

    /// Detaches and closes the descriptor, whoever owns it.
    fn release(&self, core: &LoopCore) {
        let fd = self.fd();
        self.conn.borrow_mut().detach(&*core.reactor.driver, &core.reactor.pool);
        let endpoint = core.displace_stream(self.token, fd);
        // SAFETY: transports are released with the GIL held.
        let py = unsafe { Python::assume_attached() };
        // Closed and kept: it still tells its family, as `get_extra_info` of asyncio's transports does.
        let socket = self.socket.borrow().as_ref().map(|socket| socket.clone_ref(py));
        if let Some(socket) = socket {
            if let Err(error) = socket.call_method0(py, intern!(py, "close")) {
                error.write_unraisable(py, Some(socket.bind(py)));
            }
        }
        core.descriptor_freed();
        drop(endpoint);
    }
}
