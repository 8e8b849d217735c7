//! `HttpExchange`: one request and its answer, with the `receive` and `send` that the application is called with.
//!
//! ```text
//!   Waiting ── http.response.start ──> Begun ── first http.response.body ──> Sending ── the last one ──> Over
//! ```
//!
//! The head leaves with the first piece of the body, as ASGI wants it: until then the server can still answer 500.

use std::cell::{Cell, RefCell};

use pyo3::exceptions::{PyRuntimeError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyDict, PyString};
use pyo3::{PyTraverseError, PyVisit, intern};

use super::response::{Head, Way};
use super::scope::Seen;
use super::{HttpParser, request_event};
use crate::interp;
use crate::step;

/// A piece up to this size is copied behind what goes before it; a larger one is sent by itself.
const SMALL: usize = 16 * 1024;

enum State {
    Waiting,
    Begun(Box<Head>),
    Sending(Way),
    Over,
}

/// One request and its answer. Belongs to the thread of its loop.
#[pyclass(module = "wireway._native", frozen)]
pub struct HttpExchange {
    parser: Py<HttpParser>,
    connection: Py<PyAny>,
    scope: Py<PyDict>,
    state: RefCell<State>,
    minor: u8,
    is_head: bool,
    upgrade: bool,
    keep_alive: Cell<bool>,
    /// The client waits for `100 Continue`, and it was not sent.
    expects_continue: Cell<bool>,
    /// The last `http.request` was given out.
    read: Cell<bool>,
    status: Cell<u16>,
    sent: Cell<u64>,
}

// SAFETY: used on the thread of its loop only, with the GIL held, like everything that belongs to a loop; see lib.rs.
unsafe impl Sync for HttpExchange {}
// SAFETY: as above.
unsafe impl Send for HttpExchange {}

impl HttpExchange {
    pub fn new(
        parser: Py<HttpParser>,
        connection: Py<PyAny>,
        seen: Seen,
        head: &wireway_core::http::Head,
    ) -> Self {
        Self {
            parser,
            connection,
            scope: seen.scope,
            state: RefCell::new(State::Waiting),
            minor: head.minor,
            is_head: seen.is_head,
            upgrade: head.upgrade,
            keep_alive: Cell::new(head.keep_alive),
            expects_continue: Cell::new(head.expects_continue),
            read: Cell::new(false),
            status: Cell::new(0),
            sent: Cell::new(0),
        }
    }

    fn transmit<'py>(
        &self,
        py: Python<'py>,
        data: &Bound<'py, PyBytes>,
    ) -> PyResult<Bound<'py, PyAny>> {
        interp::call_method_1(py, self.connection.as_ptr(), intern!(py, "send"), data.as_ptr())
    }

    fn begin(&self, message: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = message.py();
        let mut state = self.state.borrow_mut();
        if !matches!(*state, State::Waiting) {
            return Err(PyRuntimeError::new_err("http.response.start was sent already"));
        }
        let status: u16 = message.get_item(intern!(py, "status"))?.extract()?;
        let headers = get(message, intern!(py, "headers"))?;
        *state = State::Begun(Box::new(Head::write(status, headers.as_ref())?));
        self.status.set(status);
        Ok(())
    }

    fn body<'py>(&self, message: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let py = message.py();
        let more = match get(message, intern!(py, "more_body"))? {
            None => false,
            Some(more) => more
                .cast::<PyBool>()
                .map_or_else(|_| more.is_truthy(), |more| Ok(more.is_true()))?,
        };
        let content = get(message, intern!(py, "body"))?;
        let piece = match &content {
            None => &[][..],
            Some(content) => match content.cast::<PyBytes>() {
                Ok(bytes) => bytes.as_bytes(),
                // memoryview and bytearray: not in the specification, but programs send them.
                Err(_) => return self.body(&as_bytes(message, content, more)?),
            },
        };
        let mut state = self.state.borrow_mut();
        let mut out = Vec::new();
        let mut way = match std::mem::replace(&mut *state, State::Over) {
            State::Waiting => {
                *state = State::Waiting;
                return Err(PyRuntimeError::new_err(
                    "http.response.body came before http.response.start",
                ));
            }
            State::Over => {
                return Err(PyRuntimeError::new_err(
                    "the answer is complete: nothing can be sent after it",
                ));
            }
            State::Sending(way) => way,
            State::Begun(mut head) => {
                let size = piece.len() as u64;
                let bodiless = self.is_head || matches!(head.status, 204 | 304);
                let wrong = |length| size > length || (!more && size < length);
                if !bodiless && head.length.is_some_and(wrong) {
                    // Nothing has left: the server can still say that it failed.
                    *state = State::Waiting;
                    return Err(PyRuntimeError::new_err(
                        "the body is not as long as its Content-Length",
                    ));
                }
                let mut keep_alive = self.keep_alive.get() && !self.expects_continue.get();
                let whole = (!more).then_some(piece.len() as u64);
                let way = head.conclude(self.minor, self.is_head, &mut keep_alive, whole);
                self.keep_alive.set(keep_alive);
                out = head.bytes;
                way
            }
        };
        let before = out.len();
        // A large piece is not copied: what must stand before and after it is.
        let alone = piece.len() > SMALL && !matches!(way, Way::None | Way::Chunked);
        if alone {
            way.frame(&[], false, &mut out)?;
            if let Way::Length(left) = &mut way {
                *left = left.checked_sub(piece.len() as u64).ok_or_else(|| {
                    PyRuntimeError::new_err("the body is longer than its Content-Length")
                })?;
            }
        } else {
            way.frame(piece, !more, &mut out)?;
        }
        if !matches!(way, Way::None) {
            self.sent.set(self.sent.get() + piece.len() as u64);
        }
        let short = matches!(way, Way::Length(left) if left > 0);
        if more {
            *state = State::Sending(way);
        }
        drop(state);
        if !more && short {
            // The client waits for bytes that never come: only the end of the connection tells it.
            self.keep_alive.set(false);
            return Err(PyRuntimeError::new_err("the body is shorter than its Content-Length"));
        }
        let mut result = None;
        if !out.is_empty() || before > 0 {
            result = Some(self.transmit(py, &crate::memory::bytes(py, &out))?);
        }
        if let (true, Some(content)) = (alone, &content) {
            result = Some(interp::call_method_1(
                py,
                self.connection.as_ptr(),
                intern!(py, "send"),
                content.as_ptr(),
            )?);
        }
        match result {
            Some(result) => Ok(result),
            // SAFETY: `done` returns a new reference to an object that lives for ever.
            None => Ok(unsafe { Bound::from_owned_ptr(py, step::done()) }),
        }
    }
}

/// The same message, with its body as bytes.
fn as_bytes<'py>(
    message: &Bound<'py, PyAny>,
    content: &Bound<'py, PyAny>,
    more: bool,
) -> PyResult<Bound<'py, PyAny>> {
    let py = message.py();
    if content.is_instance_of::<PyString>() || content.hasattr("__index__")? {
        return Err(PyTypeError::new_err("the body is bytes"));
    }
    let copy = PyDict::new(py);
    copy.set_item(intern!(py, "type"), message.get_item(intern!(py, "type"))?)?;
    copy.set_item(intern!(py, "body"), py.get_type::<PyBytes>().call1((content,))?)?;
    copy.set_item(intern!(py, "more_body"), more)?;
    Ok(copy.into_any())
}

fn get<'py>(
    message: &Bound<'py, PyAny>,
    key: &Bound<'py, PyString>,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    match message.cast::<PyDict>() {
        Ok(message) => message.get_item(key),
        Err(_) => {
            let found = message.call_method1(intern!(message.py(), "get"), (key,))?;
            Ok((!found.is_none()).then_some(found))
        }
    }
}

#[pymethods]
impl HttpExchange {
    /// The scope that the application is called with.
    #[getter]
    fn scope(&self, py: Python<'_>) -> Py<PyDict> {
        self.scope.clone_ref(py)
    }

    /// The connection's parser.
    #[getter]
    fn parser(&self, py: Python<'_>) -> Py<HttpParser> {
        self.parser.clone_ref(py)
    }

    /// The connection.
    #[getter]
    fn connection(&self, py: Python<'_>) -> Py<PyAny> {
        self.connection.clone_ref(py)
    }

    /// ASGI's `receive`: an awaitable of the next event.
    fn receive<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let this = slf.get();
        let parser = this.parser.bind(py).get();
        if !this.read.get() {
            let there = parser.body(py).ok().flatten();
            if let Some((data, more)) = there {
                this.read.set(!more);
                // Who has sent its body without waiting does not wait.
                this.expects_continue
                    .set(this.expects_continue.get() && more && data.as_bytes().is_empty());
                return step::arrived(py, request_event(py, &data, more)?.into_any());
            }
        }
        parser.waiting.bind(py).call1((slf,))
    }

    /// ASGI's `send`: takes an event, returns an awaitable that ends when more can be sent.
    fn send<'py>(&self, message: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let py = message.py();
        let kind = message.get_item(intern!(py, "type"))?;
        let kind = kind.cast::<PyString>()?.to_str()?;
        match kind {
            "http.response.start" => self.begin(message)?,
            "http.response.body" => return self.body(message),
            other => {
                return Err(PyValueError::new_err(format!(
                    "{other:?} can not be sent in answer to a request"
                )));
            }
        }
        // SAFETY: `done` returns a new reference to an object that lives for ever.
        Ok(unsafe { Bound::from_owned_ptr(py, step::done()) })
    }

    /// `Connection: upgrade` came, with an `Upgrade` field.
    #[getter]
    fn upgrade(&self) -> bool {
        self.upgrade
    }

    /// Whether another request may follow on the connection.
    #[getter]
    fn keep_alive(&self) -> bool {
        self.keep_alive.get()
    }

    /// The client waits for `100 Continue`.
    #[getter]
    fn expects_continue(&self) -> bool {
        self.expects_continue.get()
    }

    /// `100 Continue` was sent, or is not needed any more.
    fn continued(&self) {
        self.expects_continue.set(false);
    }

    /// The whole body was given out.
    #[getter]
    fn read(&self) -> bool {
        self.read.get()
    }

    /// Notes that the whole body was given out.
    fn note_read(&self) {
        self.read.set(true);
    }

    /// Whether bytes of the answer have left.
    #[getter]
    fn begun(&self) -> bool {
        matches!(*self.state.borrow(), State::Sending(_) | State::Over)
    }

    /// Whether the answer is complete.
    #[getter]
    fn over(&self) -> bool {
        matches!(*self.state.borrow(), State::Over)
    }

    /// Forgets a head that has not left: the server answers in the application's place.
    fn reset(&self) {
        let mut state = self.state.borrow_mut();
        if matches!(*state, State::Begun(_)) {
            *state = State::Waiting;
        }
    }

    /// The status of the answer; 0: none yet.
    #[getter]
    fn status(&self) -> u16 {
        self.status.get()
    }

    /// Bytes of the answer's body.
    #[getter]
    fn sent(&self) -> u64 {
        self.sent.get()
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.parser)?;
        visit.call(&self.connection)?;
        visit.call(&self.scope)
    }
}
