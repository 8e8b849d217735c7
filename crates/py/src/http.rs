//! HTTP/1.1 as ASGI has it: `HttpParser` turns the bytes of a connection into requests, `HttpExchange` is one request
//! and its answer.
//!
//! Owns what is done for each request, since that is what a web server spends its time on: the scope, the messages that
//! are there already, the head of the answer. What has to wait (for a body that is still to come) is Python's,
//! `wireway/http/asgi.py`; it also owns the order of things on a connection.

use std::cell::{Cell, RefCell};

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyTuple};
use pyo3::{IntoPyObjectExt, PyTraverseError, PyVisit, intern};
use wireway_core::http::{Body, HttpError, HttpLimits, Piece, parse};

mod date;
mod exchange;
mod response;
mod scope;

use exchange::HttpExchange;
use response::Signature;
use scope::Origin;

/// A head shorter than this is looked at whenever a byte comes; a longer one with each line, or else a byte at a time
/// would cost the square of its length.
const SHORT: usize = 1024;

/// The requests of one connection, from its bytes. Belongs to the thread of its loop.
#[pyclass(module = "wireway._native", frozen)]
pub struct HttpParser {
    inner: RefCell<Inner>,
    connection: Py<PyAny>,
    origin: Origin,
    /// A function of Python that takes an exchange and returns a coroutine: `receive` where it must wait.
    waiting: Py<PyAny>,
    /// The same for what is sent from a file: it takes an exchange and the event.
    sending: Py<PyAny>,
    limits: HttpLimits,
    signature: Signature,
    /// The next answer is the last.
    last: Cell<bool>,
    /// A request was handed out, and its answer is not complete.
    answering: Cell<bool>,
}

// SAFETY: used on the thread of its loop only, with the GIL held, like everything that belongs to a loop; see lib.rs.
unsafe impl Sync for HttpParser {}
// SAFETY: as above.
unsafe impl Send for HttpParser {}

struct Inner {
    buffer: Vec<u8>,
    /// Bytes at the front of the buffer that were used.
    used: usize,
    body: Body,
    /// Something was refused: what comes after it means nothing.
    failed: Option<HttpError>,
}

impl Inner {
    fn unread(&self) -> &[u8] {
        &self.buffer[self.used..]
    }

    fn consume(&mut self, bytes: usize) {
        self.used += bytes;
        if self.used == self.buffer.len() {
            self.used = 0;
            self.buffer.clear();
            if self.buffer.capacity() > 64 * 1024 {
                self.buffer = Vec::new();
            }
        }
    }
}

#[pymethods]
impl HttpParser {
    /// `connection` has `send`; `template` is the part of a scope that all requests share, with `root_path`; `waiting`
    /// takes an exchange and returns an awaitable of the next event; `sending` takes an exchange and an event that
    /// names a file; `forwarded` takes a scope with fields of a proxy; `limits` are bytes of a head, its fields, bytes
    /// of a body; `signature` whether `Server` and `Date` are said.
    #[new]
    fn new(
        connection: Py<PyAny>,
        template: &Bound<'_, PyDict>,
        waiting: Py<PyAny>,
        sending: Py<PyAny>,
        forwarded: Option<Py<PyAny>>,
        limits: (usize, usize, u64),
        signature: (bool, bool),
    ) -> PyResult<Self> {
        let root =
            template.get_item("root_path")?.map_or(Ok(String::new()), |root| root.extract())?;
        Ok(Self {
            inner: RefCell::new(Inner {
                buffer: Vec::new(),
                used: 0,
                body: Body::of_length(0),
                failed: None,
            }),
            connection,
            origin: Origin { template: template.clone().unbind(), root, forwarded },
            waiting,
            sending,
            limits: HttpLimits { head: limits.0, fields: limits.1, body: limits.2 },
            signature: Signature { server: signature.0, date: signature.1 },
            last: Cell::new(false),
            answering: Cell::new(false),
        })
    }

    /// Takes bytes, and returns what `next` does.
    fn feed<'py>(
        slf: &Bound<'py, Self>,
        data: &Bound<'py, PyBytes>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let data = data.as_bytes();
        {
            let mut inner = slf.get().inner.borrow_mut();
            let waits = inner.buffer.len() - inner.used;
            let most = slf.get().limits.head;
            if inner.failed.is_none() {
                inner.buffer.extend_from_slice(data);
            }
            if waits > SHORT
                && inner.body.is_done()
                && !data.contains(&b'\n')
                && waits + data.len() <= most
            {
                return slf.py().None().into_bound_py_any(slf.py());
            }
        }
        Self::next(slf)
    }

    /// Takes bytes that are part of a body, or of a request after it.
    fn push(&self, data: &Bound<'_, PyBytes>) {
        let mut inner = self.inner.borrow_mut();
        if inner.failed.is_none() {
            inner.buffer.extend_from_slice(data.as_bytes());
        }
    }

    /// The next request: an `HttpExchange`; None if its head is not whole; or, if it must be refused, the status and
    /// what is wrong with it.
    fn next<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let this = slf.get();
        let mut inner = this.inner.borrow_mut();
        if inner.failed.is_some() || inner.used == inner.buffer.len() {
            return py.None().into_bound_py_any(py);
        }
        let found = parse(inner.unread(), &this.limits, |method, target, fields, head| {
            scope::build(py, &this.origin, method, target, fields, head.minor)
        });
        match found {
            Ok(None) => py.None().into_bound_py_any(py),
            Ok(Some((head, seen))) => {
                inner.consume(head.length);
                inner.body = head.body.clone();
                drop(inner);
                let seen = seen?;
                this.answering.set(true);
                let connection = this.connection.clone_ref(py);
                Ok(Bound::new(
                    py,
                    HttpExchange::new(slf.clone().unbind(), connection, seen, &head),
                )?
                .into_any())
            }
            Err(error) => {
                inner.failed = Some(error);
                refusal(py, error)
            }
        }
    }

    /// What is there of the body that is being read: its bytes, and whether more comes. None if nothing is there yet;
    /// or status and reason, if it must be refused.
    fn take_body<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        match self.body(py) {
            Ok(None) => py.None().into_bound_py_any(py),
            Ok(Some((data, more))) => (data, more).into_bound_py_any(py),
            Err(error) => refusal(py, error),
        }
    }

    /// Bytes that were not looked at.
    #[getter]
    fn pending(&self) -> usize {
        self.inner.borrow().unread().len()
    }

    /// Takes all that was not looked at: what comes after an upgrade.
    fn rest<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        let mut inner = self.inner.borrow_mut();
        let rest = PyBytes::new(py, inner.unread());
        let length = inner.unread().len();
        inner.consume(length);
        rest
    }

    /// Whether a request was handed out whose answer is not complete.
    #[getter]
    fn answering(&self) -> bool {
        self.answering.get()
    }

    /// Of answers that have not begun the next is the last of the connection.
    fn make_last(&self) {
        self.last.set(true);
    }

    /// Whether the body that is being read is whole.
    #[getter]
    fn body_done(&self) -> bool {
        self.inner.borrow().body.is_done()
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.connection)?;
        visit.call(&self.origin.template)?;
        visit.call(&self.origin.forwarded)?;
        visit.call(&self.sending)?;
        visit.call(&self.waiting)
    }
}

impl HttpParser {
    /// See `take_body`. The pieces of several chunks are joined.
    fn body<'py>(&self, py: Python<'py>) -> Result<Option<(Bound<'py, PyBytes>, bool)>, HttpError> {
        let mut inner = self.inner.borrow_mut();
        if let Some(error) = inner.failed {
            return Err(error);
        }
        let mut body = inner.body.clone();
        let mut rest = inner.unread();
        let before = rest.len();
        let mut first: &[u8] = &[];
        let mut joined: Vec<u8> = Vec::new();
        let mut pieces = 0;
        let ended = loop {
            match body.next(&mut rest) {
                Ok(Piece::Data(data)) => {
                    match pieces {
                        0 => first = data,
                        1 => joined = [first, data].concat(),
                        _ => joined.extend_from_slice(data),
                    }
                    pieces += 1;
                }
                Ok(Piece::End) => break true,
                Ok(Piece::More) => break false,
                Err(error) => {
                    inner.failed = Some(error);
                    return Err(error);
                }
            }
        };
        let data = (pieces > 0 || ended)
            .then(|| crate::memory::bytes(py, if pieces < 2 { first } else { &joined }));
        let used = before - rest.len();
        inner.consume(used);
        inner.body = body;
        Ok(data.map(|data| (data, !ended)))
    }
}

fn refusal(py: Python<'_>, error: HttpError) -> PyResult<Bound<'_, PyAny>> {
    Ok(PyTuple::new(py, [error.status.into_bound_py_any(py)?, error.text.into_bound_py_any(py)?])?
        .into_any())
}

/// `{"type": "http.request", "body": data, "more_body": more}`.
fn request_event<'py>(
    py: Python<'py>,
    data: &Bound<'py, PyBytes>,
    more: bool,
) -> PyResult<Bound<'py, PyDict>> {
    let event = PyDict::new(py);
    event.set_item(intern!(py, "type"), intern!(py, "http.request"))?;
    event.set_item(intern!(py, "body"), data)?;
    event.set_item(intern!(py, "more_body"), more)?;
    Ok(event)
}

/// Adds the classes.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<HttpParser>()?;
    module.add_class::<HttpExchange>()
}
