//! What came: cut into messages, and each handed to its handler.

use pyo3::exceptions::PyTypeError;
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};
use wireway_core::frame::{Framing, Message};
use wireway_core::op::Completion;

use crate::errors::{is_ours, leaves_the_loop, os_error, type_name};
use crate::event_loop::LoopCore;
use crate::framing;
use crate::interp;
use crate::memory::{self};
use crate::step::{self, Stepped};

use super::Connection;

/// Bytes received and not handled at which reading pauses.
const BACKLOG: usize = 64 * 1024;

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
                self.change(|flags| flags.ended = true);
                self.finish_if_ended(slf, core)
            }
            Completion::ReceiveEnded(Err(error)) => {
                let code = match error.raw_os_error() {
                    Some(libc::ECONNRESET) => "peer-reset",
                    Some(libc::ETIMEDOUT) => "timed-out",
                    _ => "io-error",
                };
                let error = os_error(&error);
                self.end(slf, core, code, error.value(slf.py()).to_string(), Some(error))
            }
            Completion::Sent(queue, result) => {
                let reactor = &core.get().reactor;
                let outcome =
                    self.conn.borrow_mut().sent(&*reactor.driver, &reactor.pool, queue, result);
                self.flushed(slf, core, outcome)
            }
            _ => Ok(()),
        }
    }

    #[inline]
    pub(super) fn received(
        &self,
        slf: &Bound<'_, Self>,
        core: &Bound<'_, LoopCore>,
        data: &[u8],
    ) -> PyResult<()> {
        let flags = self.flags.get();
        if flags.closing || flags.stopping {
            return Ok(());
        }
        if flags.busy || flags.pressed || flags.working {
            let mut backlog = self.backlog.borrow_mut();
            backlog.bytes.extend_from_slice(data);
            let full = backlog.bytes.len() - backlog.start > BACKLOG;
            drop(backlog);
            if full && !flags.paused {
                self.change(|flags| flags.paused = true);
                self.conn.borrow().pause(&*core.get().reactor.driver);
            }
            return Ok(());
        }
        let mut rest = data;
        self.work(slf, core, |this| this.take_messages(slf, core, &mut rest))?;
        if !rest.is_empty() && !self.flags.get().closing {
            self.backlog.borrow_mut().bytes.extend_from_slice(rest);
        }
        Ok(())
    }

    /// Whether what comes next could be handled as it is: then it is received into its own object.
    pub fn wants_room(&self) -> bool {
        let server = self.server.get();
        let flags = self.flags.get();
        let free = !(flags.busy || flags.pressed || flags.working || flags.closing);
        free && matches!(server.framing, Framing::Raw)
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
        let server = self.server.get();
        let handler = server.with_handlers(|handlers| handlers.messages.clone_ref(py));
        let Some(handler) = handler else { return Ok(()) };
        server.count(1);
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
        self.change(|flags| flags.working = true);
        let py = slf.py();
        let result = interp::inside(py, &self.server.get().context, || {
            let result = body(self);
            // The stand-in's context was entered inside ours, and is left before it.
            result.and(step::leave(core))
        });
        self.change(|flags| flags.working = false);
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
        let Some((handler, batch)) =
            server.with_handlers(|handlers| (handlers.messages.clone_ref(py), handlers.batch))
        else {
            return Ok(());
        };
        if batch {
            return self.take_batch(slf, core, &handler, rest);
        }
        let mut count = 0;
        let result = loop {
            let next = framing::next(&self.decoder, &server.framing, rest);
            let message = match next {
                Ok(Some(Message::Lent(bytes))) => memory::bytes(py, bytes),
                Ok(Some(Message::Whole(message))) => message.finish(py),
                Ok(None) => break Ok(()),
                Err(error) => break self.refuse(slf, core, &error),
            };
            count += 1;
            let arguments = [slf.as_ptr(), message.as_ptr()];
            if let Err(error) = self.handle(slf, core, handler.as_ptr(), &arguments) {
                break Err(error);
            }
            let flags = self.flags.get();
            if flags.busy || flags.pressed || flags.closing {
                break Ok(());
            }
        };
        server.count(count);
        result
    }

    pub(super) fn take_batch(
        &self,
        slf: &Bound<'_, Self>,
        core: &Bound<'_, LoopCore>,
        handler: &Py<PyAny>,
        rest: &mut &[u8],
    ) -> PyResult<()> {
        let py = slf.py();
        let server = self.server.get();
        let messages = PyList::empty(py);
        let refused = loop {
            match framing::next(&self.decoder, &server.framing, rest) {
                Ok(Some(Message::Lent(bytes))) => messages.append(memory::bytes(py, bytes))?,
                Ok(Some(Message::Whole(message))) => messages.append(message.finish(py))?,
                Ok(None) => break None,
                Err(error) => break Some(error),
            }
        };
        if !messages.is_empty() {
            server.count(messages.len() as u64);
            let arguments = [slf.as_ptr(), messages.as_ptr()];
            self.handle(slf, core, handler.as_ptr(), &arguments)?;
        }
        match refused {
            // While the handler is suspended it still answers what came before: `go_on` asks again.
            Some(error) if !self.flags.get().busy => self.refuse(slf, core, &error),
            _ => Ok(()),
        }
    }

    pub(super) fn refuse(
        &self,
        slf: &Bound<'_, Self>,
        core: &Bound<'_, LoopCore>,
        error: &wireway_core::frame::FrameError,
    ) -> PyResult<()> {
        let raised = framing::exception(&self.server.get().framing);
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
                self.change(|flags| flags.busy = true);
                let done = slf.getattr(intern!(slf.py(), "_handler_done"))?;
                task.call_method1(slf.py(), intern!(slf.py(), "add_done_callback"), (done,))?;
                *self.task.borrow_mut() = Some(task);
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
        if self.flags.get().closing {
            // The reason is given: nobody else would hear of it. That sending fails now is no news.
            return if cancelled || is_ours(py, &error, "ConnectionClosedError") {
                Ok(())
            } else {
                let text = "a handler failed after its connection was closed";
                LoopCore::report(core, text, &error, &[("connection", slf.as_any())])
            };
        }
        let code = if cancelled { "handler-cancelled" } else { "handler-error" };
        let name = type_name(error.value(py).as_any());
        let why = format!("{name}: {}", error.value(py));
        self.begin_close(slf, core, code, why, Some(error))
    }

    /// Goes on with what waited, once nothing blocks any more.
    pub(super) fn go_on(&self, slf: &Bound<'_, Self>, core: &Bound<'_, LoopCore>) -> PyResult<()> {
        let flags = self.flags.get();
        if flags.busy || flags.pressed || flags.working || flags.closing {
            return Ok(());
        }
        if flags.stopping {
            return self.server_stopped(slf, core);
        }
        let mut rest = self.backlog.take();
        if rest.start < rest.bytes.len() || self.decoder.borrow().is_partial() {
            let mut left = &rest.bytes[rest.start..];
            let result = self.work(slf, core, |this| this.take_messages(slf, core, &mut left));
            rest.start = rest.bytes.len() - left.len();
            result?;
        }
        let flags = self.flags.get();
        if rest.start < rest.bytes.len() && !flags.closing {
            if rest.start >= BACKLOG {
                rest.bytes.drain(..rest.start);
                rest.start = 0;
            }
            *self.backlog.borrow_mut() = rest;
        }
        if flags.busy || flags.pressed || flags.closing {
            return Ok(());
        }
        if flags.paused {
            self.change(|flags| flags.paused = false);
            // ENOENT once detached: there is nothing to read from.
            let _ = self.conn.borrow().receive(&*core.get().reactor.driver);
        }
        self.finish_if_ended(slf, core)
    }

    /// The peer has said all, and all of it was handled.
    pub(super) fn finish_if_ended(
        &self,
        slf: &Bound<'_, Self>,
        core: &Bound<'_, LoopCore>,
    ) -> PyResult<()> {
        let flags = self.flags.get();
        if !flags.ended || flags.busy || flags.pressed || flags.working || flags.closing {
            return Ok(());
        }
        if self.decoder.borrow().is_partial() {
            let why = "the peer closed in the middle of a frame".to_owned();
            return self.begin_close(slf, core, "truncated-frame", why, None);
        }
        self.begin_close(slf, core, "peer-closed", "the peer closed".to_owned(), None)
    }
}
