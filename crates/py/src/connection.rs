//! `Connection`: one connection of a framed server, native from socket to handler.
//!
//! One Python object for each connection and nothing else: no Task, no reader, no transport, no
//! buffer at rest.
//!
//! # Order and pressure
//!
//! Messages are handled one at a time, in order. While a handler is suspended (`BUSY`), the peer does
//! not read what we send (`PRESSED`), or another of [`Flag::BLOCKED`] holds, nothing more is handled:
//! what was already received waits in `backlog`, and beyond 64 KiB reading pauses, so that TCP pushes
//! back on the peer. Without a handler for messages they wait there until `receive` pulls them.
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

use pyo3::prelude::*;
use pyo3::types::PyBytes;
use wireway_core::conn::Conn;
use wireway_core::frame::Decoder;
use wireway_core::op::Token;
use wireway_core::sys;

use crate::errors::os_error;
use crate::event_loop::{Endpoint, LoopCore};
use crate::memory::NewBytes;
use crate::server::ServerCore;

mod admission;
mod asking;
mod deadlines;
mod decoding;
mod ending;
mod extra;
mod figures;
mod flags;
mod flow;
mod methods;
mod moving;
mod pacing;
mod pulling;
mod receiving;
mod securing;
mod sending;
mod slow;
mod tapping;
mod timing;
mod weighing;

use extra::{Extra, Farewell};
pub use figures::Figures;
use flags::{Flag, Flags};
pub use sending::register;

/// What a connection has done so far.
#[derive(Default)]
pub struct Account {
    /// When it was taken over, on the loop's clock, seconds.
    pub opened: Cell<f64>,
    /// When bytes last came.
    pub last_in: Cell<f64>,
    /// Since when the peer's silence is the peer's: before, we did not look.
    pub attended: Cell<f64>,
    /// When the kernel last took bytes.
    pub last_out: Cell<f64>,
    pub bytes_in: Cell<u64>,
    /// Bytes queued so far: what of them still waits has not gone out.
    pub written: Cell<u64>,
    pub messages_in: Cell<u64>,
    pub messages_out: Cell<u64>,
    /// Seconds that handlers took, without the present one; what did not suspend is taken to the tick.
    pub handlers: Cell<f64>,
}

/// A connection: one that a server accepted, or one that a client made.
///
/// Every method belongs to the loop's thread.
#[pyclass(frozen, weakref, module = "wireway._native")]
pub struct Connection {
    server: Py<ServerCore>,
    conn: RefCell<Conn>,
    decoder: RefCell<Decoder<NewBytes>>,
    extra: RefCell<Option<Box<Extra>>>,
    state: RefCell<Option<Py<PyAny>>>,
    flags: Flags,
    token: Token,
    number: u64,
    /// The peer's IP address, read at the beginning: the kernel forgets it when the peer resets the connection.
    peer: Cell<Option<SocketAddr>>,
    account: Account,
}

// SAFETY: as `LoopCore`.
unsafe impl Sync for Connection {}
// SAFETY: as `LoopCore`.
unsafe impl Send for Connection {}

impl Connection {
    /// Takes over a connected socket.
    pub fn open<'py>(
        core: &Bound<'py, LoopCore>,
        server: Py<ServerCore>,
        fd: OwnedFd,
        peer: Option<SocketAddr>,
    ) -> PyResult<Bound<'py, Self>> {
        let (py, this) = (core.py(), core.get());
        let mut conn = Conn::new(&*this.reactor.driver, fd).map_err(|e| os_error(&e))?;
        let options = &server.get().options;
        conn.set_limits(options.low, options.high);
        let (token, raw) = (conn.token(), conn.fd());
        let number = server.get().opened();
        let flags = Flags::default();
        if server.get().pulled() {
            flags.set(Flag::PULLED);
        }
        let now = this.moment.get();
        if options.message_rate.is_some() || options.byte_rate.is_some() {
            flags.set(Flag::METERED);
        }
        let account = Account {
            opened: Cell::new(now),
            last_in: Cell::new(now),
            attended: Cell::new(now),
            last_out: Cell::new(now),
            ..Account::default()
        };
        let connection = Bound::new(
            py,
            Self {
                server,
                conn: RefCell::new(conn),
                decoder: RefCell::default(),
                extra: RefCell::default(),
                state: RefCell::new(None),
                flags,
                token,
                number,
                peer: Cell::new(peer),
                account,
            },
        )?;
        this.place_stream(token, raw, Endpoint::Connection(connection.clone().unbind()));
        connection.get().server.get().notice(&connection);
        Ok(connection)
    }

    /// Begins to serve it: a handshake if it is to be secured, `on_connect`, then messages.
    pub fn begin(&self, slf: &Bound<'_, Self>, core: &Bound<'_, LoopCore>) -> PyResult<()> {
        if self.flags.any(Flag::SHAKING) {
            return self.shake(slf, core);
        }
        let py = slf.py();
        let connect = self
            .server
            .get()
            .with_handlers(|handlers| handlers.connect.as_ref().map(|call| call.clone_ref(py)))
            .flatten();
        if let Some(connect) = connect {
            self.work(slf, core, |this| this.greet(slf, core, &connect))?;
        }
        self.arm(core.get());
        if !self.flags.any(Flag::CLOSING | Flag::PAUSED) {
            // ENOENT once detached: there is nothing to read from.
            let _ = self.conn.borrow().receive(&*core.get().reactor.driver);
        }
        Ok(())
    }

    /// Whether it is one of `server`'s.
    pub fn belongs_to(&self, server: &Bound<'_, ServerCore>) -> bool {
        self.server.is(server)
    }

    /// Whether it has a framing of its own.
    pub fn is_reframed(&self) -> bool {
        self.flags.any(Flag::REFRAMED)
    }

    /// Its name at the driver.
    pub fn token(&self) -> Token {
        self.token
    }

    /// Whether it is closed or about to be.
    pub fn is_ending(&self) -> bool {
        self.flags.any(Flag::CLOSING)
    }

    /// Whether it has been open and idle for so long, and nothing of it is going on.
    pub fn is_forgotten(&self, now: f64, age: f64, idle: f64) -> bool {
        let account = &self.account;
        let last = account.last_in.get().max(account.last_out.get());
        now - account.opened.get() >= age
            && now - last >= idle
            && !self.flags.any(Flag::BUSY | Flag::AWAITED | Flag::CLOSED)
            && self.if_extra(|extra| extra.groups.is_empty()).unwrap_or(true)
    }

    /// Whether its messages are handled now, or that Task is its handler. Any thread that has the GIL.
    pub fn is_at_work(&self, task: Option<&Bound<'_, PyAny>>) -> bool {
        let extra = self.extra.try_borrow().ok();
        let own = extra.as_deref().and_then(Option::as_ref).and_then(|extra| extra.task.as_ref());
        self.flags.any(Flag::WORKING) || own.zip(task).is_some_and(|(own, task)| own.is(task))
    }

    /// Takes the groups and the user that it belongs to.
    pub fn memberships(&self) -> (Vec<Box<str>>, Option<Box<str>>) {
        self.if_extra(|extra| (std::mem::take(&mut extra.groups), extra.user.take()))
            .unwrap_or_default()
    }

    /// Reads or changes the rare parts, which are made if need be.
    fn extra<R>(&self, edit: impl FnOnce(&mut Extra) -> R) -> R {
        edit(self.extra.borrow_mut().get_or_insert_default())
    }

    /// Reads or changes the rare parts, if there are any.
    fn if_extra<R>(&self, edit: impl FnOnce(&mut Extra) -> R) -> Option<R> {
        self.extra.borrow_mut().as_deref_mut().map(edit)
    }

    /// Gives the box of the rare parts back when nothing is in it.
    fn trim(&self) {
        let mut extra = self.extra.borrow_mut();
        let empty = extra.as_ref().is_some_and(|extra| extra.is_empty());
        let box_ = if empty && !self.flags.any(Flag::STALLED | Flag::CLOSING) {
            extra.take()
        } else {
            None
        };
        drop(extra);
        drop(box_);
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
