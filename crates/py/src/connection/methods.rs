//! What a program calls on a connection.
//!
//! Long because: PyO3 takes one block of methods for each class.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString};
use pyo3::{PyTraverseError, PyVisit};
use wireway_core::sys;

use crate::errors::{os_error, ours};
use crate::interp;
use crate::memory::Shared;
use crate::outcome;
use crate::server::fanout::Manner;
use crate::server::options::WhenSlow;
use crate::step;
use crate::tap::Tap;

use super::{Connection, Flag, ip_name, socket_name};

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
        match (self.conn.borrow().fd(), self.peer.get()) {
            (0.., Some(address)) => ip_name(py, address).map(Some),
            (fd, _) => socket_name(py, fd, true),
        }
    }

    /// Our own address, in the same form.
    #[getter]
    fn local<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let told = self.if_extra(|extra| extra.local).flatten();
        match (self.conn.borrow().fd(), told) {
            (0.., Some(address)) => ip_name(py, address).map(Some),
            (fd, _) => socket_name(py, fd, false),
        }
    }

    /// What TLS agreed on, and who the peer is: `wireway.net.tls.TlsInfo`. None without TLS, and before `on_connect`.
    #[getter]
    fn tls<'py>(slf: &Bound<'py, Self>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let Some(facts) = slf.get().tls_facts(slf.py()) else { return Ok(None) };
        let module = slf.py().import(intern!(slf.py(), "wireway.net.tls"))?;
        module.getattr("TlsInfo")?.call_method1("of", facts).map(Some)
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
        self.flags.any(Flag::CLOSING)
    }

    /// Whether less than the high watermark waits to be sent, so that `send` would not wait.
    #[getter]
    fn writable(&self) -> bool {
        !self.flags.any(Flag::CLOSING | Flag::HALF | Flag::PRESSED)
    }

    /// Bytes that wait to be sent.
    #[getter]
    fn queued(&self) -> usize {
        self.conn.borrow().queued()
    }

    /// Waits until at most the low watermark waits to be sent. Cancelling it changes nothing.
    fn drain<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let (this, py) = (slf.get(), slf.py());
        if this.flags.any(Flag::CLOSED) {
            return Err(this.closed_error(py));
        }
        if this.flags.any(Flag::PRESSED) {
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

    /// The next message. Ends with `ConnectionClosedError` when none can come any more. Cancelling it
    /// loses nothing.
    fn receive<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        slf.get().pull(slf, false)
    }

    /// Sends a message and waits for its answer, at most `deadline` seconds: see `wireway.net.requests.Requests.request`.
    #[pyo3(signature = (message, *, deadline = None))]
    fn request<'py>(
        slf: &Bound<'py, Self>,
        message: &Bound<'py, PyAny>,
        deadline: Option<f64>,
    ) -> PyResult<Bound<'py, PyAny>> {
        slf.get().ask(slf, message, deadline)
    }

    fn __aiter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __anext__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        slf.get().pull(slf, true)
    }

    /// Sends what is queued, then FIN, and goes on receiving.
    fn half_close(slf: &Bound<'_, Self>) -> PyResult<()> {
        let (this, core) = (slf.get(), slf.get().server.get().core(slf.py()));
        core.get().check_thread()?;
        if this.flags.any(Flag::CLOSING | Flag::HALF) {
            return Ok(());
        }
        this.flags.set(Flag::HALF);
        this.queue_outbox(core.get());
        let reactor = &core.get().reactor;
        let outcome = this.moved(core.get(), |conn| conn.finish(&*reactor.driver, &reactor.pool));
        this.flushed(slf, core, outcome)
    }

    /// Queues a message that the next with the same key makes worthless: where the peer is slow, the newer takes the
    /// place of the older, whatever the server's `when_slow` says. Returns a SendResult.
    fn send_latest<'py>(
        slf: &Bound<'py, Self>,
        message: &Bound<'py, PyAny>,
        key: &[u8],
    ) -> PyResult<Bound<'py, PyAny>> {
        let (this, py) = (slf.get(), slf.py());
        let core = this.server.get().core(py);
        core.get().check_thread()?;
        let frame = this.with_framing(|own| crate::framing::encoded(own, message))?;
        let manner = Manner { key: Some(key.into()), when_slow: Some(WhenSlow::Latest) };
        match this.post(slf, core, &Shared::new(frame), &manner)? {
            // SAFETY: a new reference.
            Some(outcome) => Ok(unsafe { Bound::from_owned_ptr(py, outcome::give(outcome)) }),
            None => Err(this.closed_error(py)),
        }
    }

    /// Takes no message until `resume`: beyond what is buffered, TCP pushes back on the peer.
    fn pause(slf: &Bound<'_, Self>) -> PyResult<()> {
        let (this, core) = (slf.get(), slf.get().server.get().core(slf.py()));
        core.get().check_thread()?;
        if !this.flags.any(Flag::CLOSING) {
            this.flags.set(Flag::HUSHED);
            this.pause_reading(core.get());
        }
        Ok(())
    }

    /// Takes messages again.
    fn resume(slf: &Bound<'_, Self>) -> PyResult<()> {
        let (this, core) = (slf.get(), slf.get().server.get().core(slf.py()));
        core.get().check_thread()?;
        if this.flags.clear(Flag::HUSHED) {
            this.resume_reading(core.get());
            this.feed(slf, core)?;
            this.go_on(slf, core)?;
        }
        Ok(())
    }

    /// Cuts what comes from here on in another way, also what has come and was not handled; what is sent
    /// is framed in that way too.
    fn set_framing(slf: &Bound<'_, Self>, framing: &Bound<'_, PyAny>) -> PyResult<()> {
        let (this, core) = (slf.get(), slf.get().server.get().core(slf.py()));
        core.get().check_thread()?;
        if !framing.hasattr(intern!(slf.py(), "_native"))? {
            let text = format!(
                "framing is {}, it must be one of wireway's framings, made",
                framing.repr()?
            );
            return Err(ours(slf.py(), "ConfigError", &text));
        }
        let native = framing.call_method0(intern!(slf.py(), "_native"))?;
        let framing = crate::framing::parse(&native)?;
        this.flags.set(Flag::REFRAMED);
        let begun = this.decoder.borrow_mut().switch();
        this.tap_reframed();
        let former = this.extra(|extra| {
            extra.backlog.unshift(&begun);
            extra.framing.replace(framing)
        });
        drop(former);
        this.feed(slf, core)?;
        this.go_on(slf, core)
    }

    /// Joins a group; false if it was in it already.
    fn join(&self, py: Python<'_>, group: &str) -> PyResult<bool> {
        self.server.get().core(py).get().check_thread()?;
        if self.flags.any(Flag::CLOSING) {
            return Ok(false);
        }
        let joined = self.server.get().join(group, self.token);
        if joined {
            self.extra(|extra| extra.groups.push(group.into()));
        }
        Ok(joined)
    }

    /// Leaves a group; false if it was not in it.
    fn leave(&self, py: Python<'_>, group: &str) -> PyResult<bool> {
        self.server.get().core(py).get().check_thread()?;
        let was = self
            .if_extra(|extra| {
                let place = extra.groups.iter().position(|name| &**name == group)?;
                Some(extra.groups.swap_remove(place))
            })
            .flatten();
        if was.is_some() {
            self.server.get().leave(group, self.token);
            self.trim();
        }
        Ok(was.is_some())
    }

    /// The groups that it is in.
    #[getter]
    fn groups(&self) -> Vec<String> {
        self.if_extra(|extra| extra.groups.iter().map(ToString::to_string).collect())
            .unwrap_or_default()
    }

    /// Whose connection it is: a text, or None. `server.send_to_user` reaches all connections of a user.
    #[getter]
    fn get_user<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyString>> {
        self.if_extra(|extra| extra.user.as_ref().map(|user| PyString::new(py, user))).flatten()
    }

    #[setter]
    fn set_user(slf: &Bound<'_, Self>, user: Option<&str>) -> PyResult<()> {
        let (this, server) = (slf.get(), slf.get().server.get());
        server.core(slf.py()).get().check_thread()?;
        if this.flags.any(Flag::CLOSING) {
            return Ok(());
        }
        let former = this.extra(|extra| std::mem::replace(&mut extra.user, user.map(Into::into)));
        server.bind_user(former.as_deref(), user, this.token);
        server.notice(slf);
        Ok(())
    }

    /// Counts and times: `opened`, `last_received`, `last_sent` on the loop's clock, what came and went, the seconds that
    /// its handlers took (`handlers`), and those since the present one was suspended (`handling`; None if none is).
    #[getter]
    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let dict = PyDict::new(py);
        let account = &self.account;
        dict.set_item("opened", account.opened.get())?;
        dict.set_item("last_received", account.last_in.get())?;
        dict.set_item("last_sent", account.last_out.get())?;
        dict.set_item("messages_in", account.messages_in.get())?;
        dict.set_item("messages_out", account.messages_out.get())?;
        dict.set_item("bytes_in", account.bytes_in.get())?;
        let figures = self.figures(self.server.get().core(py).get().now());
        dict.set_item("bytes_out", figures.carried[1])?;
        dict.set_item("handlers", figures.handler)?;
        dict.set_item("handling", figures.handling)?;
        Ok(dict)
    }

    /// The descriptor, or -1 once closed.
    fn fileno(&self) -> i32 {
        self.conn.borrow().fd()
    }

    /// `struct tcp_info` as the kernel gives it.
    fn _tcp_info<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let info =
            sys::info::tcp_info(self.conn.borrow().fd()).map_err(|error| os_error(&error))?;
        Ok(PyBytes::new(py, info.bytes()))
    }

    /// `TCP_INFO` of the socket now: `wireway.net.tcp_info.TcpInfo`.
    fn tcp_info<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let module = slf.py().import(intern!(slf.py(), "wireway.net.tcp_info"))?;
        module.getattr("TcpInfo")?.call_method1("parse", (slf.get()._tcp_info(slf.py())?,))
    }

    /// Bytes by owner, and the Python objects that only it needs: see `wireway.net.memory`. One system call.
    fn _weigh(&self, py: Python<'_>) -> PyResult<(super::weighing::Weights, Vec<Py<PyAny>>)> {
        let core = self.server.get().core(py).get();
        core.check_thread()?;
        Ok((self.weights(core), self.companions(py)))
    }

    /// Its memory by owner, now: `wireway.net.memory.ConnectionMemory`.
    fn memory<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let module = slf.py().import(intern!(slf.py(), "wireway.net.memory"))?;
        module.getattr("ConnectionMemory")?.call_method1("of", (slf,))
    }

    /// What holds this connection up just now, in words: `wireway.net.diagnosis.bottleneck`.
    fn explain<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let info = self._tcp_info(py).ok();
        let queued = self.conn.borrow().queued();
        let backlog = self.if_extra(|extra| extra.backlog.len()).unwrap_or(0);
        // One that waits in `receive` waits for the peer.
        let busy = self.flags.any(Flag::BUSY) && !self.flags.any(Flag::AWAITED);
        let module = py.import(intern!(py, "wireway.net.diagnosis"))?;
        module.getattr("bottleneck")?.call1((info, queued, backlog, busy))
    }

    /// From now on `tap` sees what comes and goes, as of the connection `key`, until it is over or `_untap`.
    fn _tap(slf: &Bound<'_, Self>, tap: Py<Tap>, key: u64) -> PyResult<()> {
        slf.get().server.get().core(slf.py()).get().check_thread()?;
        slf.get().tap(slf.py(), tap, key);
        Ok(())
    }

    /// `tap` sees nothing more of it.
    fn _untap(slf: &Bound<'_, Self>, tap: &Bound<'_, Tap>) -> PyResult<()> {
        slf.get().server.get().core(slf.py()).get().check_thread()?;
        slf.get().untap(tap);
        Ok(())
    }

    /// No handler begins any more; what comes waits.
    fn _hush(&self, py: Python<'_>) -> PyResult<()> {
        self.server.get().core(py).get().check_thread()?;
        self.hush();
        Ok(())
    }

    /// It serves again. Not to be called by a Task: a handler is stepped.
    fn _unhush(slf: &Bound<'_, Self>) -> PyResult<()> {
        slf.get().unhush(slf, slf.get().server.get().core(slf.py()))
    }

    /// Why it can not move to another process now; None if it can.
    fn _stays(&self) -> Option<&'static str> {
        self.stays()
    }

    /// Its descriptor, which stays its own, and its picture. `RuntimeError` says why it can not move.
    fn _export<'py>(slf: &Bound<'py, Self>) -> PyResult<(i32, Bound<'py, PyDict>)> {
        slf.get().export(slf, slf.get().server.get().core(slf.py()))
    }

    /// Another process serves it.
    fn _moved(slf: &Bound<'_, Self>) -> PyResult<()> {
        slf.get().moved_away(slf, slf.get().server.get().core(slf.py()))
    }

    /// The server stops: ends when the running handler and what is queued are done.
    /// Whether the peer's silence counts for nothing, though `receive` waits: it waits for us, for an answer that
    /// takes long. From the end of that its silence counts anew.
    fn _be_patient(slf: &Bound<'_, Self>, patient: bool) -> PyResult<()> {
        let this = slf.get();
        let core = this.server.get().core(slf.py()).get();
        core.check_thread()?;
        if patient {
            this.flags.set(Flag::PATIENT);
        } else if this.flags.clear(Flag::PATIENT) {
            this.attend(core);
        }
        Ok(())
    }

    fn _drain_and_close(slf: &Bound<'_, Self>) -> PyResult<()> {
        slf.get().drain_and_close(slf, slf.get().server.get().core(slf.py()))
    }

    /// The server stopped: ends at once, and a handler that still runs is cancelled.
    fn _abort_and_cancel(slf: &Bound<'_, Self>) -> PyResult<()> {
        slf.get().abort_and_cancel(slf, slf.get().server.get().core(slf.py()))
    }

    /// A handler's Task ended.
    fn _handler_done(slf: &Bound<'_, Self>, task: &Bound<'_, PyAny>) -> PyResult<()> {
        let (this, py) = (slf.get(), slf.py());
        let core = this.server.get().core(py);
        this.flags.clear(Flag::BUSY);
        this.server.get().suspended(-1);
        let now = core.get().now();
        let task_ref = this.if_extra(|extra| {
            if let Some(since) = extra.handling_since.take() {
                this.server.get().handled(since.elapsed().as_secs_f64(), 1);
            }
            (extra.task.take(), extra.busy_since)
        });
        let handlers = &this.account.handlers;
        let took = task_ref.as_ref().map_or(0.0, |(_, since)| now - since);
        handlers.set(handlers.get() + took.max(0.0));
        drop(task_ref);
        this.attend(core.get());
        this.server.get().release_held(core)?;
        let error = if task.call_method0(intern!(py, "cancelled"))?.is_truthy()? {
            Some(interp::cancelled_error(py)?.call0()?)
        } else {
            Some(task.call_method0(intern!(py, "exception"))?).filter(|error| !error.is_none())
        };
        if let Some(error) = error {
            return this.handler_failed(slf, core, PyErr::from_value(error));
        }
        this.conversation_over(slf, core)
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let this = slf.get();
        if this.flags.any(Flag::CLOSED) {
            return Ok(format!("<Connection {} closed>", this.number));
        }
        let peer = this.peer(slf.py())?.map_or_else(|| "?".to_owned(), |peer| peer.to_string());
        let state = if this.flags.any(Flag::CLOSING) { " closing" } else { "" };
        Ok(format!("<Connection {} peer={peer}{state}>", this.number))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.server)?;
        if let Ok(state) = self.state.try_borrow() {
            visit.call(&*state)?;
        }
        if let Ok(extra) = self.extra.try_borrow()
            && let Some(extra) = extra.as_ref()
        {
            extra.traverse(&visit)?;
        }
        Ok(())
    }

    fn __clear__(&self) {
        drop(self.state.take());
        drop(self.extra.take());
    }
}
