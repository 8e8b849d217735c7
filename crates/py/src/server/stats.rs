//! Counts of a server. At every moment: accepted = open + the sum of those closed, by reason.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::histogram::Histogram;

/// Adds to a count.
#[inline]
pub fn add(count: &Cell<u64>, more: u64) {
    count.set(count.get() + more);
}

/// The counts.
#[derive(Default)]
pub struct Counts {
    accepted: Cell<u64>,
    pub open: Cell<usize>,
    closed: RefCell<BTreeMap<&'static str, u64>>,
    would_close: RefCell<BTreeMap<&'static str, u64>>,
    pub messages_in: Cell<u64>,
    pub messages_out: Cell<u64>,
    pub bytes_in: Cell<u64>,
    /// Bytes that the kernel took.
    pub bytes_out: Cell<u64>,
    /// Connections whose reading is paused.
    pub paused: Cell<i64>,
    /// Handlers that are suspended.
    pub handlers: Cell<i64>,
    pub dropped: Cell<u64>,
    /// Of those accepted, the ones that another process had.
    pub adopted: Cell<u64>,
    /// Handlers are timed: two more looks at the clock for what a connection received at once.
    pub timed: Cell<bool>,
    /// Somebody watches connections: what their handlers take is exact meanwhile.
    pub watched: Cell<bool>,
    /// How long they take.
    pub handling: Histogram,
}

impl Counts {
    /// A connection begins: its number, from 1.
    pub fn opened(&self) -> u64 {
        self.open.set(self.open.get() + 1);
        add(&self.accepted, 1);
        self.accepted.get()
    }

    /// A connection was accepted and not let in: its number.
    pub fn refused(&self, code: &'static str) -> u64 {
        add(&self.accepted, 1);
        *self.closed.borrow_mut().entry(code).or_default() += 1;
        self.accepted.get()
    }

    /// An open connection ended.
    pub fn closed(&self, code: &'static str) {
        self.open.set(self.open.get() - 1);
        *self.closed.borrow_mut().entry(code).or_default() += 1;
    }

    /// A limit that is only tried out would have closed a connection.
    pub fn would_close(&self, limit: &'static str) {
        *self.would_close.borrow_mut().entry(limit).or_default() += 1;
    }

    /// All of them, with what the gate would have refused.
    pub fn to_dict<'py>(
        &self,
        py: Python<'py>,
        refused: impl Iterator<Item = (&'static str, u64)>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let dict = PyDict::new(py);
        dict.set_item("accepted", self.accepted.get())?;
        dict.set_item("open", self.open.get())?;
        dict.set_item("closed", &*self.closed.borrow())?;
        let mut would_close = self.would_close.borrow().clone();
        would_close.extend(refused);
        dict.set_item("would_close", would_close)?;
        dict.set_item("messages_in", self.messages_in.get())?;
        dict.set_item("messages_out", self.messages_out.get())?;
        dict.set_item("bytes_in", self.bytes_in.get())?;
        dict.set_item("bytes_out", self.bytes_out.get())?;
        dict.set_item("adopted", self.adopted.get())?;
        dict.set_item("dropped", self.dropped.get())?;
        dict.set_item("paused", self.paused.get())?;
        dict.set_item("handlers", self.handlers.get())?;
        dict.set_item("handler_seconds", self.handling.to_dict(py)?)?;
        Ok(dict)
    }
}
