//! `ServerCore`: what all connections of one framed server share, natively: framing, handlers, options,
//! groups, counts, and the records of those that ended. The Python half is `wireway.net.server`.
//!
//! A client has one too, for its one connection: `adopt`.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::time::Instant;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use wireway_core::frame::Framing;
use wireway_core::limit::Gate;
use wireway_core::sys;

use crate::connection::Connection;
use crate::event_loop::LoopCore;

pub mod fanout;
pub mod gate;
mod groups;
mod methods;
pub mod options;
pub mod record;
mod stats;
pub mod survey;
pub mod tls;

use groups::Groups;
use options::Options;
use record::Record;

/// Records of ended connections that are kept.
const RECORDS: usize = 10_000;

/// What the handlers of a server are.
pub struct Handlers {
    /// `on_message(conn, message)` or `on_batch(conn, [messages])`; without one messages are pulled.
    messages: Option<Py<PyAny>>,
    /// `messages` takes a list.
    pub batch: bool,
    /// `on_connect(conn)`.
    pub connect: Option<Py<PyAny>>,
    /// `closed(conn, evidence)`: builds the reason, logs it, calls the user's `on_close`.
    pub closed: Py<PyAny>,
    /// The user has an `on_close`: also ordinary ends are told.
    pub wants_close: bool,
    /// `refused(evidence)`: tells of a peer that the gate did not let in.
    refused: Option<Py<PyAny>>,
}

impl Handlers {
    /// A reference to the handler of messages.
    #[inline]
    pub fn clone_messages(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.messages.as_ref().map(|call| call.clone_ref(py))
    }

    fn read(dict: &Bound<'_, PyDict>) -> PyResult<Self> {
        let item = |key| Ok::<_, PyErr>(dict.get_item(key)?.filter(|value| !value.is_none()));
        let batch = item("batch")?;
        let messages = batch.clone().or(item("message")?);
        Ok(Self {
            batch: batch.is_some(),
            messages: messages.map(Bound::unbind),
            connect: item("connect")?.map(Bound::unbind),
            closed: item("closed")?
                .ok_or_else(|| PyValueError::new_err("handlers need `closed`"))?
                .unbind(),
            refused: item("refused")?.map(Bound::unbind),
            wants_close: item("wants_close")?.is_some_and(|flag| flag.is_truthy().unwrap_or(true)),
        })
    }
}

/// What the connections of one server share.
#[pyclass(frozen, weakref, module = "wireway._native")]
pub struct ServerCore {
    core: Py<LoopCore>,
    /// How the stream is cut.
    pub framing: Framing,
    /// What it was told.
    pub options: Options,
    /// How answers are told apart, for `Connection.request`: a `wireway.Correlate`; None for in order.
    pub correlate: Option<Py<PyAny>>,
    handlers: RefCell<Option<Handlers>>,
    pulled: bool,
    /// The context that handlers run in, or in copies of.
    pub context: Py<PyAny>,
    counts: stats::Counts,
    gate: RefCell<Gate>,
    groups: RefCell<Groups>,
    users: RefCell<Groups>,
    records: RefCell<VecDeque<Box<Record>>>,
    /// Connections whose next message waits for a handler to be done, first come, first served.
    held: RefCell<VecDeque<Py<Connection>>>,
    drained: RefCell<Option<Py<PyAny>>>,
    /// The bytes that wait are looked at when this turn is over.
    spending: Cell<bool>,
    tls: RefCell<Option<tls::Role>>,
    handshake: Cell<f64>,
    /// Called with each connection that is new, or has got another name: who looks for some of them.
    noticing: RefCell<Vec<Py<PyAny>>>,
}

// SAFETY: as `LoopCore`.
unsafe impl Sync for ServerCore {}
// SAFETY: as `LoopCore`.
unsafe impl Send for ServerCore {}

impl ServerCore {
    /// The loop.
    #[inline]
    pub fn core<'py>(&self, py: Python<'py>) -> &Bound<'py, LoopCore> {
        self.core.bind(py)
    }

    /// Whether messages are pulled, for there is no handler.
    pub fn pulled(&self) -> bool {
        self.pulled
    }

    /// A connection begins: its number, from 1.
    pub fn opened(&self) -> u64 {
        self.counts.opened()
    }

    /// A connection ended.
    pub fn closed(&self, py: Python<'_>, record: Record) -> PyResult<()> {
        self.counts.closed(record.code);
        self.keep(record);
        if self.counts.open.get() == 0 {
            let callback = self.drained.borrow_mut().take();
            if let Some(callback) = callback {
                callback.call0(py)?;
            }
        }
        Ok(())
    }

    fn keep(&self, record: Record) {
        let mut records = self.records.borrow_mut();
        if records.len() == RECORDS {
            records.pop_front();
        }
        records.push_back(Box::new(record));
    }

    /// Counts messages that came.
    #[inline]
    pub fn count(&self, messages: u64) {
        stats::add(&self.counts.messages_in, messages);
    }

    /// Counts a message that was dropped for a slow peer.
    pub fn count_dropped(&self) {
        stats::add(&self.counts.dropped, 1);
    }

    /// Counts a connection that another process had.
    pub fn adopted(&self) {
        stats::add(&self.counts.adopted, 1);
    }

    /// Counts bytes that came.
    #[inline]
    pub fn count_received(&self, bytes: usize) {
        stats::add(&self.counts.bytes_in, bytes as u64);
    }

    /// Counts a message that was queued.
    #[inline]
    pub fn count_queued(&self) {
        stats::add(&self.counts.messages_out, 1);
    }

    /// Counts bytes that the kernel took.
    #[inline]
    pub fn count_sent(&self, bytes: usize) {
        stats::add(&self.counts.bytes_out, bytes as u64);
    }

    /// When handling begins, if somebody wants to know exactly.
    #[inline]
    pub fn timing(&self) -> Option<Instant> {
        (self.counts.timed.get() || self.counts.watched.get()).then(Instant::now)
    }

    /// Whether each handler is timed.
    pub fn times_handlers(&self) -> bool {
        self.counts.timed.get()
    }

    /// So many messages were handled, and took so long together.
    #[inline]
    pub fn handled(&self, seconds: f64, messages: u64) {
        if messages > 0 {
            self.counts.handling.note(seconds / messages as f64, messages);
        }
    }

    /// Counts connections whose reading is paused.
    pub fn paused(&self, change: i64) {
        let paused = &self.counts.paused;
        paused.set(paused.get() + change);
    }

    /// Counts handlers that are suspended.
    pub fn suspended(&self, change: i64) {
        let suspended = &self.counts.handlers;
        suspended.set(suspended.get() + change);
    }

    /// Whether one handler more may be suspended.
    pub fn has_room_for_handler(&self) -> bool {
        let limit = self.options.handlers;
        limit == usize::MAX || self.counts.handlers.get() < limit as i64
    }

    /// A connection waits for a handler of another to be done.
    pub fn hold(&self, connection: Py<Connection>) {
        self.held.borrow_mut().push_back(connection);
    }

    /// A handler is done: the next in the queue goes on.
    pub fn release_held(&self, core: &Bound<'_, LoopCore>) -> PyResult<()> {
        while self.has_room_for_handler() {
            let next = self.held.borrow_mut().pop_front();
            let Some(next) = next else { break };
            next.get().released(next.bind(core.py()), core)?;
        }
        Ok(())
    }

    /// Whether a limit only counts; then this one is counted.
    pub fn would_close(&self, limit: &'static str) -> bool {
        let dry = self.options.dry_run.contains(limit);
        if dry {
            self.counts.would_close(limit);
        }
        dry
    }

    /// A connection is new, or has got the name of a peer or of a user.
    #[inline]
    pub fn notice(&self, connection: &Bound<'_, Connection>) {
        if !self.noticing.borrow().is_empty() {
            self.tell_noticing(connection);
        }
    }

    #[cold]
    fn tell_noticing(&self, connection: &Bound<'_, Connection>) {
        let py = connection.py();
        let calls: Vec<_> = self.noticing.borrow().iter().map(|call| call.clone_ref(py)).collect();
        for call in calls {
            if let Err(error) = call.call1(py, (connection,)) {
                error.write_unraisable(py, Some(call.bind(py)));
            }
        }
    }

    /// A part of the handlers, as an owned reference; None after the collector cleared them.
    #[inline]
    pub fn with_handlers<R>(&self, read: impl FnOnce(&Handlers) -> R) -> Option<R> {
        self.handlers.borrow().as_ref().map(read)
    }
}

fn peer_of(fd: &OwnedFd) -> Option<std::net::SocketAddr> {
    use std::os::fd::AsRawFd;
    sys::peer_name(fd.as_raw_fd()).ok().and_then(|name| name.ip())
}
