//! `HttpExchange`: one request and its answer, with the `receive` and `send` that the application is called with.
//!
//! ```text
//!   Waiting ── http.response.start ──> Begun ── first http.response.body ──> Sending ── the last one ──> Over
//!                                                                               └──> Trailing ── the last ──┘
//! ```
//!
//! The head leaves with the first piece of the body, as ASGI wants it: until then the server can still answer 500.
//! What comes after the end is passed over. A body that is not as long as was said ends the connection: whatever came
//! after it would be read as part of it.
//!
//! Long because: PyO3 takes one block of methods for each class, and the states are one thing.

use std::cell::{Cell, RefCell};
use std::ptr;

use pyo3::exceptions::{PyRuntimeError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyDict, PyList, PyString};
use pyo3::{PyTraverseError, PyVisit, intern};

use super::response::{Head, Way, append_fields};
use super::scope::Seen;
use super::{HttpParser, request_event};
use crate::connection::Connection;
use crate::interp;
use crate::step;

/// A piece up to this size is copied behind what goes before it; a larger one is sent by itself.
const SMALL: usize = 16 * 1024;

enum State {
    Waiting,
    Begun(Box<Head>),
    Sending(Way),
    /// The body is out; trailers are collected, if the client takes them.
    Trailing(Option<Vec<u8>>),
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
    /// The program announced trailers.
    trailers: Cell<bool>,
    takes_trailers: bool,
    status: Cell<u16>,
    sent: Cell<u64>,
    /// Called once when the answer is complete.
    on_over: RefCell<Option<Py<PyAny>>>,
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
            trailers: Cell::new(false),
            takes_trailers: head.trailers,
            status: Cell::new(0),
            sent: Cell::new(0),
            on_over: RefCell::new(None),
        }
    }

    /// ASGI 2.4: a `send` on a closed connection raises an OSError.
    fn refuse_if_closed(&self, py: Python<'_>) -> PyResult<()> {
        match self.connection.bind(py).cast::<Connection>() {
            Ok(connection) => connection.get().refuse_if_closing(py),
            Err(_) => Ok(()),
        }
    }

    /// The answer is complete: who waits for the client meanwhile need not any more.
    fn finish(&self, py: Python<'_>) -> PyResult<()> {
        self.parser.bind(py).get().answering.set(false);
        let callback = self.on_over.borrow_mut().take();
        match callback {
            Some(callback) => callback.call0(py).map(drop),
            None => Ok(()),
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
        match *state {
            State::Waiting => {}
            State::Over => return Ok(()),
            _ => return Err(PyRuntimeError::new_err("http.response.start was sent already")),
        }
        self.refuse_if_closed(py)?;
        let status: u16 = message.get_item(intern!(py, "status"))?.extract()?;
        let headers = get(message, intern!(py, "headers"))?;
        let signature = self.parser.bind(py).get().signature;
        let mut head = Head::write(status, headers.as_ref(), signature)?;
        if let Some(trailers) = get(message, intern!(py, "trailers"))? {
            head.trailers = trailers.is_truthy()?;
            self.trailers.set(head.trailers);
        }
        *state = State::Begun(Box::new(head));
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
            State::Over => return Ok(nothing_to_wait_for(py)),
            State::Trailing(trailers) => {
                *state = State::Trailing(trailers);
                return Ok(nothing_to_wait_for(py));
            }
            State::Sending(way) => way,
            State::Begun(mut head) => {
                let size = piece.len() as u64;
                let wrong = |length| size > length || (!more && size < length);
                if !(self.is_head || head.bodiless) && head.length.is_some_and(wrong) {
                    // Nothing has left: the server can still say that it failed.
                    *state = State::Waiting;
                    return Err(PyRuntimeError::new_err(
                        "the body is not as long as its Content-Length",
                    ));
                }
                let last = self.parser.bind(py).get().last.get();
                let mut keep_alive = self.keep_alive.get() && !self.expects_continue.get() && !last;
                let whole = (!more && !head.trailers).then_some(size);
                let way = head.conclude(self.minor, self.is_head, &mut keep_alive, whole);
                self.keep_alive.set(keep_alive);
                out = head.bytes;
                way
            }
        };
        let ends = !more && !self.trailers.get();
        // A large piece is not copied: what must stand before and after it is.
        let alone = piece.len() > SMALL && !matches!(way, Way::None | Way::Chunked);
        let framed = if alone { way.count(piece) } else { way.frame(piece, ends, &mut out) };
        let short = !more && matches!(way, Way::Length(left) if left > 0);
        if framed.is_err() || short {
            // The client would read what comes next as the rest: only the end of the connection tells it.
            self.keep_alive.set(false);
            drop(state);
            self.finish(py)?;
            framed?;
            return Err(PyRuntimeError::new_err("the body is shorter than its Content-Length"));
        }
        if !matches!(way, Way::None) {
            self.sent.set(self.sent.get() + piece.len() as u64);
        }
        if more {
            *state = State::Sending(way);
        } else if !ends {
            let taken = self.takes_trailers && way == Way::Chunked;
            if way == Way::Chunked && !taken {
                out.extend_from_slice(b"0\r\n\r\n");
            }
            *state = State::Trailing(taken.then(|| b"0\r\n".to_vec()));
        }
        drop(state);
        let result = if out.is_empty() && !alone {
            self.refuse_if_closed(py)?;
            nothing_to_wait_for(py)
        } else if !alone {
            self.transmit(py, &crate::memory::bytes(py, &out))?
        } else {
            if !out.is_empty() {
                self.transmit(py, &crate::memory::bytes(py, &out))?;
            }
            let content = content.as_ref().map_or(ptr::null_mut(), |content| content.as_ptr());
            interp::call_method_1(py, self.connection.as_ptr(), intern!(py, "send"), content)?
        };
        if ends {
            self.finish(py)?;
        }
        Ok(result)
    }

    fn end_with<'py>(&self, message: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let py = message.py();
        let more = get(message, intern!(py, "more_trailers"))?
            .map_or(Ok(false), |more| more.is_truthy())?;
        let headers = get(message, intern!(py, "headers"))?;
        let mut state = self.state.borrow_mut();
        let out = match &mut *state {
            State::Over => return Ok(nothing_to_wait_for(py)),
            State::Trailing(trailers) => {
                if let (Some(bytes), Some(headers)) = (trailers.as_mut(), &headers) {
                    append_fields(bytes, headers)?;
                }
                if more {
                    return Ok(nothing_to_wait_for(py));
                }
                trailers.take()
            }
            _ => {
                return Err(PyRuntimeError::new_err(
                    "http.response.trailers needs `trailers` in http.response.start, and comes after the body",
                ));
            }
        };
        *state = State::Over;
        drop(state);
        let result = match out {
            Some(mut bytes) => {
                bytes.extend_from_slice(b"\r\n");
                self.transmit(py, &crate::memory::bytes(py, &bytes))?
            }
            None => nothing_to_wait_for(py),
        };
        self.finish(py)?;
        Ok(result)
    }

    /// `103 Early Hints`, RFC 8297; nothing for who speaks HTTP/1.0, or once the answer is under way.
    fn hint<'py>(&self, message: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let py = message.py();
        let early = matches!(*self.state.borrow(), State::Waiting | State::Begun(_));
        let links = message.get_item(intern!(py, "links"))?;
        let fields = PyList::empty(py);
        for link in links.try_iter()? {
            fields.append((PyBytes::new(py, b"link"), link?))?;
        }
        if !early || self.minor == 0 || fields.is_empty() {
            return Ok(nothing_to_wait_for(py));
        }
        let mut bytes = b"HTTP/1.1 103 Early Hints\r\n".to_vec();
        append_fields(&mut bytes, &fields)?;
        bytes.extend_from_slice(b"\r\n");
        self.transmit(py, &crate::memory::bytes(py, &bytes))
    }
}

fn nothing_to_wait_for(py: Python<'_>) -> Bound<'_, PyAny> {
    // SAFETY: `done` returns a new reference to an object that lives for ever.
    unsafe { Bound::from_owned_ptr(py, step::done()) }
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
    fn send<'py>(
        slf: &Bound<'py, Self>,
        message: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let (py, this) = (message.py(), slf.get());
        let kind = message.get_item(intern!(py, "type"))?;
        let kind = kind.cast::<PyString>()?.to_str()?;
        match kind {
            "http.response.start" => {
                this.begin(message)?;
                Ok(nothing_to_wait_for(py))
            }
            "http.response.body" => this.body(message),
            "http.response.trailers" => this.end_with(message),
            "http.response.early_hint" => this.hint(message),
            "http.response.pathsend" if matches!(*this.state.borrow(), State::Over) => {
                Ok(nothing_to_wait_for(py))
            }
            "http.response.pathsend" => {
                this.parser.bind(py).get().sending.bind(py).call1((slf, message))
            }
            other => Err(PyValueError::new_err(format!(
                "{other:?} can not be sent in answer to a request"
            ))),
        }
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
        matches!(*self.state.borrow(), State::Sending(_) | State::Trailing(_) | State::Over)
    }

    /// Whether the answer is complete.
    #[getter]
    fn over(&self) -> bool {
        matches!(*self.state.borrow(), State::Over)
    }

    /// Has something called, once, when the answer is complete; it replaces what was to be called. None: nothing is.
    fn on_over(&self, callback: Option<Py<PyAny>>) {
        let former = std::mem::replace(&mut *self.on_over.borrow_mut(), callback);
        drop(former);
    }

    /// The connection ends after this answer.
    fn make_last(&self) {
        self.keep_alive.set(false);
    }

    /// Forgets a head that has not left: the server answers in the application's place.
    fn reset(&self) {
        let mut state = self.state.borrow_mut();
        if matches!(*state, State::Begun(_)) {
            *state = State::Waiting;
            self.trailers.set(false);
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
        if let Ok(callback) = self.on_over.try_borrow() {
            visit.call(&*callback)?;
        }
        visit.call(&self.scope)
    }
}
