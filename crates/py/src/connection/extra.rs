//! What only few connections have at any moment: kept in a box that a connection at rest is without.

use std::collections::VecDeque;
use std::time::Instant;

use pyo3::prelude::*;
use pyo3::types::PyBytes;
use pyo3::{PyTraverseError, PyVisit};
use wireway_core::frame::Framing;
use wireway_core::limit::Bucket;
use wireway_core::outbox::Outbox;

use crate::memory::Shared;

use super::tapping::Tapped;

/// Why a connection is about to end.
pub struct Farewell {
    pub code: &'static str,
    pub why: String,
    pub error: Option<PyErr>,
}

/// Bytes received and not handled.
#[derive(Default)]
pub struct Rest {
    pub bytes: Vec<u8>,
    pub start: usize,
}

impl Rest {
    /// How many.
    pub fn len(&self) -> usize {
        self.bytes.len() - self.start
    }

    /// Puts bytes behind what is there, and returns how many there are now.
    pub fn push(&mut self, data: &[u8]) -> usize {
        self.bytes.extend_from_slice(data);
        self.len()
    }

    /// Puts bytes before what is there.
    pub fn unshift(&mut self, data: &[u8]) {
        if !data.is_empty() {
            self.bytes.splice(..self.start, data.iter().copied());
            self.start = 0;
        }
    }
}

/// Who waits in `receive`.
pub struct Receiver {
    pub future: Py<PyAny>,
    /// It is an `async for`, which a clean end just ends.
    pub iterating: bool,
}

/// What it has received of what it may in a second.
#[derive(Default)]
pub struct Rates {
    pub messages: Bucket,
    pub bytes: Bucket,
    /// When reading goes on, seconds.
    pub resume: f64,
}

/// The rare parts of a connection.
#[derive(Default)]
pub struct Extra {
    pub backlog: Rest,
    /// The Task of a suspended handler.
    pub task: Option<Py<PyAny>>,
    /// Futures of `send` and `drain` that wait for the low watermark.
    pub waiters: Vec<Py<PyAny>>,
    pub farewell: Option<Box<Farewell>>,
    pub receiver: Option<Receiver>,
    pub framing: Option<Framing>,
    pub groups: Vec<Box<str>>,
    pub user: Option<Box<str>>,
    pub rates: Option<Box<Rates>>,
    /// Messages that wait for a slow peer and may be dropped.
    pub outbox: Option<Box<Outbox<Shared>>>,
    /// Our own name as the PROXY header gave it.
    pub local: Option<std::net::SocketAddr>,
    /// What correlates answers with requests: `wireway.net.requests`.
    pub replies: Option<Py<PyAny>>,
    /// Messages that came before an answer that a handler waits for.
    pub aside: VecDeque<Py<PyBytes>>,
    pub aside_bytes: usize,
    /// Called when the TLS handshake of a client is done.
    pub shaken: Option<Py<PyAny>>,
    /// Who watches.
    pub tapped: Option<Box<Tapped>>,
    /// Since when the handler is suspended, seconds.
    pub busy_since: f64,
    /// Since when not everything left, seconds.
    pub stalled_since: f64,
    /// Bytes that the peer had acknowledged then.
    pub acknowledged: u64,
    /// Since when more waits than the soft mark, seconds; 0 while it does not.
    pub soft_since: f64,
    /// Since when it is closing, seconds.
    pub closing_since: f64,
    /// Since when its handler, which is suspended, has its message. Only if handlers are timed.
    pub handling_since: Option<Instant>,
}

impl Extra {
    /// Whether something came that was not handled.
    pub fn has_waiting(&self) -> bool {
        self.backlog.len() > 0 || !self.aside.is_empty()
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.backlog.len() == 0
            && self.task.is_none()
            && self.waiters.is_empty()
            && self.farewell.is_none()
            && self.receiver.is_none()
            && self.framing.is_none()
            && self.groups.is_empty()
            && self.user.is_none()
            && self.rates.is_none()
            && self.outbox.is_none()
            && self.local.is_none()
            && self.replies.is_none()
            && self.aside.is_empty()
            && self.shaken.is_none()
            && self.tapped.is_none()
    }

    /// Shows the collector what it holds.
    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.task)?;
        visit.call(&self.replies)?;
        visit.call(&self.shaken)?;
        if let Some(tapped) = &self.tapped {
            tapped.traverse(visit)?;
        }
        if let Some(receiver) = &self.receiver {
            visit.call(&receiver.future)?;
        }
        for waiter in &self.waiters {
            visit.call(waiter)?;
        }
        Ok(())
    }
}
