//! `Tap`: what somebody sees of connections, as Python takes it. The bound and the order are the core's.

use std::cell::{Cell, RefCell};
use std::time::{SystemTime, UNIX_EPOCH};

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};
use pyo3::{PyTraverseError, PyVisit};
use wireway_core::tap::{self, Event, Keep, Way, What};

/// Events of watched connections, bounded: see `wireway_core::tap`.
///
/// Belongs to the loop's thread. Made for the wire, or, with `messages`, for the last messages: so many of them, and
/// of each at most `snap` bytes.
#[pyclass(frozen, module = "wireway._native")]
pub struct Tap {
    tap: RefCell<tap::Tap>,
    snap: usize,
    /// Called when there is something to take, once until it is taken.
    wake: RefCell<Option<Py<PyAny>>>,
    called: Cell<bool>,
}

// SAFETY: as `LoopCore`.
unsafe impl Sync for Tap {}
// SAFETY: as `LoopCore`.
unsafe impl Send for Tap {}

impl Tap {
    /// Whether it is for the stream, and not for messages.
    pub fn sees_wire(&self) -> bool {
        self.tap.borrow().keep() == Keep::Wire
    }

    /// Bytes that it wants of a message.
    pub fn snap(&self) -> usize {
        self.snap
    }

    /// Something happened to the connection `key`. False: there was no room for it.
    pub fn push(&self, py: Python<'_>, key: u64, what: What) -> bool {
        let kept = self.tap.borrow_mut().push(Event { at: now(), key, what });
        if kept && !self.called.replace(true) {
            let wake = self.wake.borrow().as_ref().map(|wake| wake.clone_ref(py));
            if let Some(wake) = wake
                && let Err(error) = wake.call0(py)
            {
                error.write_unraisable(py, Some(wake.bind(py)));
            }
        }
        kept
    }
}

#[pymethods]
impl Tap {
    #[new]
    #[pyo3(signature = (room, *, messages = None, snap = 0, wake = None))]
    fn new(room: usize, messages: Option<usize>, snap: usize, wake: Option<Py<PyAny>>) -> Self {
        let keep = messages.map_or(Keep::Wire, Keep::Messages);
        Self {
            tap: RefCell::new(tap::Tap::new(keep, room)),
            snap,
            wake: RefCell::new(wake),
            called: Cell::new(false),
        }
    }

    /// Bytes of what waits to be taken.
    #[getter]
    fn size(&self) -> usize {
        self.tap.borrow().size()
    }

    /// Events that were lost, or gave way to newer ones.
    #[getter]
    fn gone(&self) -> u64 {
        self.tap.borrow().gone()
    }

    /// The first events, of about so many bytes together: `(nanoseconds since 1970, key, kind, first, second, third)`.
    fn take<'py>(&self, py: Python<'py>, size: usize) -> PyResult<Bound<'py, PyList>> {
        let events = self.tap.borrow_mut().take(size);
        if self.tap.borrow().size() == 0 {
            self.called.set(false);
        }
        listed(py, events.iter())
    }

    /// All events, which stay.
    fn events<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        listed(py, self.tap.borrow().events())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        if let Ok(wake) = self.wake.try_borrow() {
            visit.call(&*wake)?;
        }
        Ok(())
    }

    fn __clear__(&self) {
        drop(self.wake.take());
    }
}

fn listed<'a, 'py>(
    py: Python<'py>,
    events: impl Iterator<Item = &'a Event>,
) -> PyResult<Bound<'py, PyList>> {
    let list = PyList::empty(py);
    for Event { at, key, what } in events {
        match what {
            What::Piece(way, bytes) => {
                list.append((at, key, name(*way), PyBytes::new(py, bytes), bytes.len(), 0))
            }
            What::Cut { frame, message } => list.append((at, key, "cut", frame, message, 0)),
            What::Header(bytes) => list.append((at, key, "header", bytes, 0, 0)),
            What::Queued(bytes) => list.append((at, key, "queued", bytes, 0, 0)),
            What::Message { way, bytes, length } => {
                list.append((at, key, name(*way), PyBytes::new(py, bytes), length, 0))
            }
            What::Gap { way: Way::In, events, bytes, waiting } => {
                list.append((at, key, "gap-in", waiting, events, bytes))
            }
            What::Gap { way: Way::Out, events, bytes, waiting } => {
                list.append((at, key, "gap-out", waiting, events, bytes))
            }
            What::Ended { code, why } => list.append((at, key, "ended", *code, why, 0)),
        }?;
    }
    Ok(list)
}

fn name(way: Way) -> &'static str {
    match way {
        Way::In => "in",
        Way::Out => "out",
    }
}

fn now() -> u64 {
    // Before 1970 there is no TCP.
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |passed| passed.as_nanos() as u64)
}
