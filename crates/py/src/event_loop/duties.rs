//! What the loop does for the rest of this crate: queueing, checking threads, reporting.

use pyo3::intern;
use pyo3::prelude::*;
use wireway_core::sys;

use crate::errors::{loop_closed, wrong_thread};
use crate::handle::Handle;

use super::{LoopCore, Ready, this_thread};

impl LoopCore {
    /// Appends to the ready queue.
    pub(crate) fn push(&self, handle: Py<PyAny>) {
        let item = match Handle::from_object(handle) {
            Ok(ours) => Ready::Ours(ours),
            Err(stock) => Ready::Stock(stock),
        };
        self.ready.borrow_mut().push_back(item);
    }

    /// The loop's clock, seconds.
    #[inline]
    pub(crate) fn now(&self) -> f64 {
        let fake = self.clock.get();
        if fake.is_nan() { sys::monotonic() } else { fake }
    }

    /// Whether time goes by itself.
    #[inline]
    pub(crate) fn time_flows(&self) -> bool {
        self.clock.get().is_nan()
    }

    /// Drops everything that was to run.
    pub(super) fn forget_callbacks(&self) {
        self.ready.take().into_iter().for_each(Ready::forget);
        let timers = self.reactor.timers.borrow_mut().drain();
        timers.into_iter().for_each(Ready::forget);
    }

    /// Refuses a closed loop and a thread that is not the loop's while it runs.
    #[inline]
    pub(crate) fn check(&self) -> PyResult<()> {
        if self.closed.get() {
            return Err(loop_closed());
        }
        self.check_thread()
    }

    /// Refuses a thread that is not the loop's while it runs.
    #[inline]
    pub(crate) fn check_thread(&self) -> PyResult<()> {
        let runner = self.runner.get();
        if runner != 0 && runner != this_thread() { Err(wrong_thread()) } else { Ok(()) }
    }

    /// Whether the loop was closed.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.get()
    }

    /// A descriptor was closed: listeners that wait for one try again.
    #[inline]
    pub(crate) fn descriptor_freed(&self) {
        self.freed.set(self.freed.get().wrapping_add(1));
        if !self.starved.borrow().is_empty() {
            for listener in self.starved.take() {
                listener.get().resume(self);
            }
        }
    }

    /// A timer in the heap was cancelled: sweep when too many are.
    pub(crate) fn timer_cancelled(&self) {
        let mut timers = self.reactor.timers.borrow_mut();
        timers.note_cancelled();
        if timers.sweep_due() {
            // SAFETY: handles are cancelled with the GIL held.
            let py = unsafe { Python::assume_attached() };
            let gone = timers.sweep(|item| item.cancelled(py));
            drop(timers);
            drop(gone);
        }
    }

    /// Reports to `loop.call_exception_handler`, with these keys.
    pub(crate) fn report(
        slf: &Bound<'_, Self>,
        message: &str,
        error: &PyErr,
        more: &[(&str, &Bound<'_, PyAny>)],
    ) -> PyResult<()> {
        let context = pyo3::types::PyDict::new(slf.py());
        context.set_item("message", message)?;
        context.set_item("exception", error.value(slf.py()))?;
        for (key, value) in more {
            context.set_item(key, value)?;
        }
        slf.call_method1(intern!(slf.py(), "call_exception_handler"), (context,)).map(drop)
    }
}
