//! Messages pulled one at a time, with `receive` and `async for`, instead of a handler being called.
//!
//! The same backlog, decoder and bounds as for handlers: what is not pulled waits in the backlog, and
//! beyond its bound reading pauses.

use pyo3::exceptions::{PyRuntimeError, PyStopAsyncIteration};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::event_loop::LoopCore;
use crate::step;

use super::extra::Receiver;
use super::{Connection, Flag};

impl Connection {
    /// What `receive` returns: the next message, or something that waits for it.
    pub(super) fn pull<'py>(
        &self,
        slf: &Bound<'py, Self>,
        iterating: bool,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let core = self.server.get().core(py);
        core.get().check_thread()?;
        if self.has_receiver(py)? {
            return Err(PyRuntimeError::new_err(
                "another receive() waits for the next message of this connection",
            ));
        }
        if let Some(message) = self.pull_now(slf, core)? {
            return step::arrived(py, message.into_any());
        }
        let future = core.call_method0(intern!(py, "create_future"))?;
        if self.is_over() {
            self.end_receiver(py, &Receiver { future: future.clone().unbind(), iterating })?;
        } else {
            if !self.flags.any(Flag::AWAITED) {
                self.flags.set(Flag::AWAITED);
                self.attend(core.get());
            }
            let receiver = Receiver { future: future.clone().unbind(), iterating };
            let former = self.extra(|extra| extra.receiver.replace(receiver));
            drop(former);
            self.finish_if_ended(slf, core)?;
        }
        Ok(future)
    }

    /// Whether no further message can come.
    fn is_over(&self) -> bool {
        self.flags.any(Flag::CLOSING | Flag::STOPPING)
            || (self.flags.any(Flag::ENDED) && !self.flags.any(Flag::PAUSED))
    }

    fn has_receiver(&self, py: Python<'_>) -> PyResult<bool> {
        let future =
            self.if_extra(|e| e.receiver.as_ref().map(|r| r.future.clone_ref(py))).flatten();
        match future {
            None => Ok(false),
            Some(future) => Ok(!future.call_method0(py, intern!(py, "done"))?.is_truthy(py)?),
        }
    }

    /// The next message out of the backlog, if a whole one is there.
    fn pull_now<'py>(
        &self,
        slf: &Bound<'py, Self>,
        core: &Bound<'py, LoopCore>,
    ) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let bounded = self.server.get().options.bounds_messages;
        loop {
            if self.flags.any(Flag::CLOSING | Flag::STOPPING | Flag::HUSHED | Flag::THROTTLED) {
                return Ok(None);
            }
            let mut rest =
                self.if_extra(|extra| std::mem::take(&mut extra.backlog)).unwrap_or_default();
            let mut left = &rest.bytes[rest.start..];
            let next = if bounded && !left.is_empty() && !self.is_within_rate(core.get()) {
                Ok(None)
            } else {
                self.decode(slf.py(), &mut left)
            };
            rest.start = rest.bytes.len() - left.len();
            let empty = self.put_back(rest);
            let message = match next {
                Err(error) => {
                    self.refuse(slf, core, &error)?;
                    return Ok(None);
                }
                Ok(message) => message,
            };
            if message.is_some() {
                self.count(1);
            }
            if empty {
                self.resume_reading(core.get());
            }
            if let Some(message) = &message
                && bounded
                && self.is_heartbeat(slf, core, message)?
            {
                if !self.flags.any(Flag::PRESSED) {
                    continue;
                }
                // No more answers for who does not read them; it goes on when the pressure falls.
                self.pause_reading(core.get());
                return Ok(None);
            }
            return Ok(message);
        }
    }

    /// Something came, or came to an end, while somebody may wait in `receive`.
    pub(super) fn feed(&self, slf: &Bound<'_, Self>, core: &Bound<'_, LoopCore>) -> PyResult<()> {
        let py = slf.py();
        if !self.flags.any(Flag::AWAITED) {
            return Ok(());
        }
        if !self.has_receiver(py)? {
            // It was cancelled: the message waits for the next.
            self.forget_receiver();
            return self.go_on(slf, core);
        }
        let message = self.pull_now(slf, core)?;
        if message.is_none() && !self.is_over() {
            return Ok(());
        }
        let Some(receiver) = self.forget_receiver() else { return Ok(()) };
        match message {
            Some(message) => {
                receiver.future.call_method1(py, intern!(py, "set_result"), (message,))?;
            }
            None => self.end_receiver(py, &receiver)?,
        }
        self.go_on(slf, core)
    }

    fn forget_receiver(&self) -> Option<Receiver> {
        self.flags.clear(Flag::AWAITED);
        self.if_extra(|extra| extra.receiver.take()).flatten()
    }

    /// Tells whoever waits in `receive` that nothing more comes.
    pub(super) fn release_receiver(&self, py: Python<'_>) -> PyResult<()> {
        if let Some(receiver) = self.forget_receiver()
            && !receiver.future.call_method0(py, intern!(py, "done"))?.is_truthy(py)?
        {
            self.end_receiver(py, &receiver)?;
        }
        Ok(())
    }

    fn end_receiver(&self, py: Python<'_>, receiver: &Receiver) -> PyResult<()> {
        let error = if receiver.iterating && self.ends_well() {
            PyStopAsyncIteration::new_err(())
        } else {
            self.closed_error(py)
        };
        receiver.future.call_method1(py, intern!(py, "set_exception"), (error.value(py),))?;
        if !receiver.iterating {
            // Who asked may be gone by now; then nobody need hear of it.
            receiver.future.call_method0(py, intern!(py, "exception"))?;
        }
        Ok(())
    }
}
