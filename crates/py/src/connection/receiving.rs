//! What came: cut into messages, and each handed to its handler.

use pyo3::exceptions::PyTypeError;
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};
use wireway_core::frame::{FrameError, Framing};
use wireway_core::op::Completion;

use crate::errors::{is_ours, leaves_the_loop, os_error, type_name};
use crate::event_loop::LoopCore;
use crate::framing;
use crate::interp;
use crate::step::{self, Stepped};

use super::ending::code_of;
use super::{Connection, Flag};

impl Connection {
    /// An operation completed.
    #[inline]
    pub fn completed(
        &self,
        slf: &Bound<'_, Self>,
        core: &Bound<'_, LoopCore>,
        completion: Completion<'_>,
    ) -> PyResult<()> {
        match completion {
            Completion::Received(data) => self.received(slf, core, data),
            Completion::ReceiveEnded(Ok(())) => {
                self.flags.set(Flag::ENDED);
                if self.flags.any(Flag::LINGERS) {
                    return self.over(slf, core);
                }
                if self.flags.any(Flag::SECURE) && self.is_cut_off(slf, core)? {
                    return Ok(());
                }
                self.feed(slf, core)?;
                if self.flags.any(Flag::ANSWERED) {
                    self.fail_requests(slf.py())?;
                }
                self.finish_if_ended(slf, core)
            }
            Completion::ReceiveEnded(Err(error)) => {
                let code = code_of(&error);
                let error = os_error(&error);
                self.end(slf, core, code, error.value(slf.py()).to_string(), Some(error))
            }
            Completion::Sent(queue, result) => {
                let reactor = &core.get().reactor;
                let outcome = self.moved(core.get(), |conn| {
                    conn.sent(&*reactor.driver, &reactor.pool, queue, result)
                });
                self.flushed(slf, core, outcome)
            }
            _ => Ok(()),
        }
    }

    /// Notes that bytes came.
    #[inline]
    pub(super) fn note_received(&self, core: &LoopCore, bytes: usize) {
        let account = &self.account;
        account.last_in.set(core.moment.get());
        account.bytes_in.set(account.bytes_in.get() + bytes as u64);
        self.server.get().count_received(bytes);
    }

    /// Notes that so many messages were taken out of what came.
    #[inline]
    pub(super) fn count(&self, messages: u64) {
        if messages > 0 {
            let account = &self.account;
            account.messages_in.set(account.messages_in.get() + messages);
            self.server.get().count(messages);
            self.flags.set(Flag::SPOKEN);
        }
    }

    #[inline]
    pub(super) fn received(
        &self,
        slf: &Bound<'_, Self>,
        core: &Bound<'_, LoopCore>,
        data: &[u8],
    ) -> PyResult<()> {
        self.note_received(core.get(), data.len());
        if self.flags.any(Flag::METERED | Flag::SECURE | Flag::TAPPED) {
            if self.flags.those(Flag::TAPPED | Flag::SECURE) == Flag::TAPPED {
                self.tap_received(slf.py(), data);
            }
            if self.flags.any(Flag::METERED) {
                self.meter(core.get(), data.len());
            }
            if self.flags.any(Flag::SECURE) && !self.flags.any(Flag::HEADER) {
                return self.unseal(slf, core, data);
            }
        }
        self.take_in(slf, core, data)
    }

    /// Takes bytes of messages.
    #[inline]
    pub(super) fn take_in(
        &self,
        slf: &Bound<'_, Self>,
        core: &Bound<'_, LoopCore>,
        data: &[u8],
    ) -> PyResult<()> {
        if self.flags.any(Flag::BLOCKED | Flag::PINGED) {
            if self.flags.any(Flag::CLOSING)
                || (self.flags.any(Flag::STOPPING) && !self.flags.any(Flag::ANSWERED))
            {
                return Ok(());
            }
            if self.flags.clear(Flag::PINGED) {
                // The wheel is set to the end of its patience: the next heartbeat is before that.
                self.arm(core.get());
            }
            if self.flags.any(Flag::BLOCKED) {
                return self.put_by(slf, core, data);
            }
        }
        let mut rest = data;
        self.work(slf, core, |this| this.take_messages(slf, core, &mut rest))?;
        if !rest.is_empty() && !self.flags.any(Flag::CLOSING) {
            self.extra(|extra| extra.backlog.push(rest));
            // The handler may have asked for what was still to come.
            return self.feed(slf, core);
        }
        Ok(())
    }

    /// Whether what comes next could be handled as it is: then it is received into its own object.
    pub fn wants_room(&self) -> bool {
        let server = self.server.get();
        const OTHERWISE: u32 =
            Flag::BLOCKED | Flag::REFRAMED | Flag::METERED | Flag::SECURE | Flag::TAPPED;
        !self.flags.any(OTHERWISE)
            && !server.options.bounds_messages
            && matches!(server.framing, Framing::Raw)
            && server.with_handlers(|handlers| !handlers.batch).unwrap_or(false)
    }

    /// A message that came in room of its own.
    pub fn received_whole(
        &self,
        slf: &Bound<'_, Self>,
        core: &Bound<'_, LoopCore>,
        message: &Bound<'_, PyBytes>,
    ) -> PyResult<()> {
        let py = slf.py();
        let handler = self.server.get().with_handlers(|handlers| handlers.clone_messages(py));
        let Some(Some(handler)) = handler else { return Ok(()) };
        let content = message.as_bytes();
        self.note_received(core.get(), content.len());
        if self.flags.any(Flag::TAPPED) {
            // Somebody began to watch while it came.
            self.tap_received(py, content);
            self.tap_decoded(content.len(), 0, Some(message));
        }
        self.count(1);
        let arguments = [slf.as_ptr(), message.as_ptr()];
        self.work(slf, core, |this| this.handle(slf, core, handler.as_ptr(), &arguments))
    }

    /// Runs handlers: everything between the first message of a batch and the last.
    #[inline]
    pub(super) fn work(
        &self,
        slf: &Bound<'_, Self>,
        core: &Bound<'_, LoopCore>,
        body: impl FnOnce(&Self) -> PyResult<()>,
    ) -> PyResult<()> {
        self.flags.set(Flag::WORKING);
        let py = slf.py();
        let timing = self.begin_timing();
        let result = interp::inside(py, &self.server.get().context, || {
            let result = body(self);
            // The stand-in's context was entered inside ours, and is left before it.
            result.and(step::leave(core))
        });
        self.flags.clear(Flag::WORKING);
        self.end_timing(timing);
        result
    }

    /// Takes messages from the front of `rest` until none is whole or handling has to stop.
    pub(super) fn take_messages(
        &self,
        slf: &Bound<'_, Self>,
        core: &Bound<'_, LoopCore>,
        rest: &mut &[u8],
    ) -> PyResult<()> {
        let py = slf.py();
        let server = self.server.get();
        let handlers =
            server.with_handlers(|handlers| (handlers.clone_messages(py), handlers.batch));
        let Some((Some(handler), batch)) = handlers else { return Ok(()) };
        if batch {
            return self.take_batch(slf, core, &handler, rest);
        }
        let bounded = server.options.bounds_messages;
        loop {
            if bounded && !rest.is_empty() && !self.may_handle(slf, core) {
                return Ok(());
            }
            let message = match self.decode(py, rest) {
                Ok(Some(message)) => message,
                Ok(None) => return Ok(()),
                Err(error) => return self.refuse(slf, core, &error),
            };
            // Before it is handled: what the handler ends, ends after its message.
            self.count(1);
            if bounded && self.is_heartbeat(slf, core, &message)? {
                // Answers to who does not read them would fill the memory.
                if self.flags.any(Flag::BLOCKED & !Flag::WORKING) {
                    return Ok(());
                }
                continue;
            }
            let arguments = [slf.as_ptr(), message.as_ptr()];
            self.handle(slf, core, handler.as_ptr(), &arguments)?;
            if self.flags.any(Flag::BLOCKED & !Flag::WORKING) {
                return Ok(());
            }
        }
    }

    fn take_batch(
        &self,
        slf: &Bound<'_, Self>,
        core: &Bound<'_, LoopCore>,
        handler: &Py<PyAny>,
        rest: &mut &[u8],
    ) -> PyResult<()> {
        let py = slf.py();
        let bounded = self.server.get().options.bounds_messages;
        let messages = PyList::empty(py);
        let mut count = 0;
        let refused = loop {
            if bounded && !rest.is_empty() && !self.may_handle(slf, core) {
                break None;
            }
            match self.decode(py, rest) {
                Ok(Some(message)) => {
                    count += 1;
                    if bounded && self.is_heartbeat(slf, core, &message)? {
                        if self.flags.any(Flag::BLOCKED & !Flag::WORKING) {
                            break None;
                        }
                        continue;
                    }
                    messages.append(message)?;
                }
                Ok(None) => break None,
                Err(error) => break Some(error),
            }
        };
        self.count(count);
        if !messages.is_empty() {
            let arguments = [slf.as_ptr(), messages.as_ptr()];
            self.handle(slf, core, handler.as_ptr(), &arguments)?;
        }
        match refused {
            // While the handler is suspended it still answers what came before: `go_on` asks again.
            Some(error) if !self.flags.any(Flag::BUSY) => self.refuse(slf, core, &error),
            _ => Ok(()),
        }
    }

    pub(super) fn refuse(
        &self,
        slf: &Bound<'_, Self>,
        core: &Bound<'_, LoopCore>,
        error: &FrameError,
    ) -> PyResult<()> {
        let raised = self.with_framing(framing::exception);
        if let Some(raised) = raised.as_ref().filter(|raised| leaves_the_loop(slf.py(), raised)) {
            return Err(raised.clone_ref(slf.py()));
        }
        self.begin_close(slf, core, error.code(), error.to_string(), raised)
    }

    /// Calls a handler and, if it is asynchronous, steps it.
    #[inline]
    pub(super) fn handle(
        &self,
        slf: &Bound<'_, Self>,
        core: &Bound<'_, LoopCore>,
        handler: *mut ffi::PyObject,
        arguments: &[*mut ffi::PyObject],
    ) -> PyResult<()> {
        let py = slf.py();
        let failed = match interp::call(py, handler, arguments) {
            Ok(value) if value.is_none() => return Ok(()),
            Ok(value) => match self.step(slf, core, &value) {
                Ok(()) => return Ok(()),
                Err(error) => error,
            },
            Err(error) => error,
        };
        self.handler_failed(slf, core, failed)
    }

    pub(super) fn step(
        &self,
        slf: &Bound<'_, Self>,
        core: &Bound<'_, LoopCore>,
        value: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        // SAFETY: a live object; the check reads its type.
        if unsafe { ffi::PyCoro_CheckExact(value.as_ptr()) } == 0 {
            // A plain function may return anything; only what can be awaited means something.
            return match value.hasattr(intern!(slf.py(), "__await__"))? {
                true => Err(PyTypeError::new_err(format!(
                    "the handler returned an awaitable of type {:?}: make the handler `async def`",
                    type_name(value)
                ))),
                false => Ok(()),
            };
        }
        match step::step(core, &self.server.get().context, value)? {
            Stepped::Finished(result) => result,
            Stepped::Suspended(task) => {
                self.flags.set(Flag::BUSY);
                self.server.get().suspended(1);
                let done = slf.getattr(intern!(slf.py(), "_handler_done"))?;
                task.call_method1(slf.py(), intern!(slf.py(), "add_done_callback"), (done,))?;
                let now = core.get().now();
                let former = self.extra(|extra| {
                    extra.busy_since = now;
                    extra.task.replace(task)
                });
                drop(former);
                Ok(())
            }
        }
    }

    pub(super) fn handler_failed(
        &self,
        slf: &Bound<'_, Self>,
        core: &Bound<'_, LoopCore>,
        error: PyErr,
    ) -> PyResult<()> {
        let py = slf.py();
        if leaves_the_loop(py, &error) {
            return Err(error);
        }
        let cancelled = error.is_instance(py, interp::cancelled_error(py)?);
        if self.flags.any(Flag::CLOSING) {
            // The reason is given: nobody else would hear of it. That sending fails now is no news.
            return if cancelled || is_ours(py, &error, "ConnectionClosedError") {
                Ok(())
            } else {
                let text = "a handler failed after its connection was closed";
                LoopCore::report(core, text, &error, &[("connection", slf.as_any())])
            };
        }
        if self.flags.any(Flag::ENDED) && is_ours(py, &error, "ConnectionClosedError") {
            // It waited for more, and the peer has said all: that is the end, and no failure.
            return self.go_on(slf, core);
        }
        if is_ours(py, &error, "Refused") {
            let why = error.value(py).to_string();
            return self.begin_close(slf, core, "refused", why, Some(error));
        }
        let code = if cancelled { "handler-cancelled" } else { "handler-error" };
        let name = type_name(error.value(py).as_any());
        let why = format!("{name}: {}", error.value(py));
        self.begin_close(slf, core, code, why, Some(error))
    }
}
