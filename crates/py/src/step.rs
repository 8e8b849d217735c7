//! Async handlers that cost what they use.
//!
//! A handler's coroutine is stepped at once, on the stack of the receive. Most handlers finish there:
//! no Task is made for them. One that suspends becomes a Task, which goes on where the step ended.
//!
//! # The stand-in
//!
//! During that first step `asyncio.current_task()` must be the handler's Task, for `asyncio.timeout()`
//! and cancellation need one. So the loop keeps one Task ready, the *stand-in*, whose coroutine is a
//! [`Shell`] with nothing in it, and makes it the current task while handlers are stepped:
//!
//! ```text
//!                  step                 finished, untouched
//!   stand-in  ------------->  current  ------------------------->  stand-in again
//!                                |  |
//!                                |  |   finished, but somebody kept, cancelled or observed it,
//!                                |  |   or set a context variable
//!                                |  +------------------------->  completed as a Task; a new one is made
//!                                |
//!                                |   suspended on a future
//!                                +---------------------------->  the Shell takes the coroutine and its
//!                                                                future: it *is* the handler's Task now
//! ```
//!
//! "Kept" is seen from the reference count, "cancelled or observed" from the methods that
//! `wireway.net.handler.HandlerTask` overrides, the context from [`ContextProbe`]. Each stand-in has a
//! context of its own, a copy of the one the server was started in.
//!
//! The one visible difference: `asyncio.all_tasks()` does not list a handler before it suspends.

use pyo3::exceptions::PyRuntimeError;
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use pyo3::{PyTraverseError, PyVisit};
use std::ptr;

use crate::event_loop::{LoopCore, Ready};
use crate::interp::{self, ContextProbe};

mod done;
mod shell;

pub use done::{arrived, done, register};
use shell::Shell;

/// What became of a handler's first step.
pub enum Stepped {
    /// It is done.
    Finished(PyResult<()>),
    /// It waits for something: this Task drives it now.
    Suspended(Py<PyAny>),
}

/// A Task without a coroutine of its own.
pub struct StandIn {
    task: Py<PyAny>,
    shell: Py<Shell>,
    /// The Task's own first step, as the loop would have run it.
    first: Option<Ready>,
    context: Py<PyAny>,
    /// The context it was copied from.
    base: Py<PyAny>,
    entered: bool,
    /// References to the task while nobody but us and asyncio holds it.
    holders: isize,
}

impl StandIn {
    fn make(core: &Bound<'_, LoopCore>, base: &Py<PyAny>) -> PyResult<Box<Self>> {
        let py = core.py();
        let shell = Py::new(py, Shell::default())?;
        let context = interp::copy_of(py, base)?;
        let keywords = PyDict::new(py);
        keywords.set_item("loop", core)?;
        keywords.set_item("context", &context)?;
        let task = handler_task(py)?.call((&shell,), Some(&keywords))?;
        // The Task has just scheduled its first step: that is ours to run, or never to run.
        let first = core.get().ready.borrow_mut().pop_back();
        if first.is_none() {
            return Err(PyRuntimeError::new_err("a Task did not schedule its first step"));
        }
        interp::unregister_task(py)?.call1((&task,))?;
        Ok(Box::new(Self {
            task: task.unbind(),
            shell,
            first,
            context,
            base: base.clone_ref(py),
            entered: false,
            holders: 0,
        }))
    }

    /// Makes it the current task, in its context, for a whole batch of messages: once for each
    /// message costs as much as the rest of the step.
    #[inline]
    fn enter(&mut self, core: &Bound<'_, LoopCore>) -> PyResult<()> {
        if self.entered { Ok(()) } else { self.enter_now(core) }
    }

    fn enter_now(&mut self, core: &Bound<'_, LoopCore>) -> PyResult<()> {
        let py = core.py();
        interp::enter_task(py)?.call1((core, &self.task))?;
        if let Err(error) = interp::enter_context(py, &self.context) {
            interp::leave_task(py)?.call1((core, &self.task))?;
            return Err(error);
        }
        self.entered = true;
        self.holders = interp::references(&self.task);
        Ok(())
    }

    fn leave(&mut self, core: &Bound<'_, LoopCore>) -> PyResult<()> {
        if std::mem::take(&mut self.entered) {
            let left = interp::exit_context(core.py(), &self.context);
            interp::leave_task(core.py())?.call1((core, &self.task))?;
            return left;
        }
        Ok(())
    }

    /// Whether it can serve again as if nothing had happened.
    #[inline]
    fn untouched(&self, py: Python<'_>) -> bool {
        !self.shell.get().touched.get()
            && interp::references(&self.task) == self.holders
            && ContextProbe::get(py).same(&self.context, &self.base)
    }

    /// Runs the Task's first step: it takes up what is in the shell.
    fn run_first(&mut self, core: &Bound<'_, LoopCore>) -> PyResult<()> {
        match self.first.take() {
            Some(Ready::Ours(handle)) => handle.run(core.py()),
            Some(Ready::Stock(handle)) => handle.call_method0(core.py(), "_run").map(drop),
            None => Ok(()),
        }
    }

    /// Shows the collector what it holds.
    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.task)?;
        visit.call(&self.shell)?;
        visit.call(&self.context)?;
        visit.call(&self.base)
    }
}

fn handler_task(py: Python<'_>) -> PyResult<&Bound<'_, PyAny>> {
    static CELL: pyo3::sync::PyOnceLock<Py<PyAny>> = pyo3::sync::PyOnceLock::new();
    CELL.get_or_try_init(py, || {
        Ok::<_, PyErr>(py.import("wireway.net.handler")?.getattr("HandlerTask")?.unbind())
    })
    .map(|object| object.bind(py))
}

/// Steps a handler's coroutine. After the last one of a batch, [`leave`] must be called.
#[inline]
pub fn step(
    core: &Bound<'_, LoopCore>,
    base: &Py<PyAny>,
    coroutine: &Bound<'_, PyAny>,
) -> PyResult<Stepped> {
    let py = core.py();
    let kept = core.get().stand_in.borrow_mut().take();
    let mut stand_in = match kept {
        Some(stand_in) if stand_in.base.is(base) => stand_in,
        Some(mut other) => {
            // Another server's, with another context: one of them will do with a new one.
            other.leave(core)?;
            dismiss(core, &mut other)?;
            StandIn::make(core, base)?
        }
        None => StandIn::make(core, base)?,
    };
    stand_in.enter(core)?;
    let mut value: *mut ffi::PyObject = ptr::null_mut();
    // SAFETY: the coroutine is alive; `value` receives a new reference unless an error is set.
    let outcome = unsafe {
        match ffi::PyIter_Send(coroutine.as_ptr(), ffi::Py_None(), &raw mut value) {
            ffi::PySendResult::PYGEN_RETURN => Ok(false),
            ffi::PySendResult::PYGEN_NEXT => Ok(true),
            ffi::PySendResult::PYGEN_ERROR => Err(interp::fetch(py)),
        }
    };
    // SAFETY: null or a new reference, see above.
    let value = unsafe { Bound::from_owned_ptr_or_opt(py, value) };
    match outcome {
        Ok(true) => {
            stand_in.leave(core)?;
            {
                let shell = stand_in.shell.get();
                *shell.inner.borrow_mut() = Some(coroutine.clone().unbind());
                *shell.yielded.borrow_mut() = value.map(Bound::unbind);
            }
            interp::register_task(py)?.call1((&stand_in.task,))?;
            let task = stand_in.task.clone_ref(py);
            stand_in.run_first(core)?;
            Ok(Stepped::Suspended(task))
        }
        outcome => {
            if stand_in.untouched(py) {
                *core.get().stand_in.borrow_mut() = Some(stand_in);
            } else {
                stand_in.leave(core)?;
                *stand_in.shell.get().outcome.borrow_mut() = Some(match &outcome {
                    Ok(_) => Ok(value.map_or_else(|| py.None(), Bound::unbind)),
                    Err(error) => Err(error.clone_ref(py)),
                });
                stand_in.run_first(core)?;
                if outcome.is_err() {
                    // The server reports it; the Task need not complain that nobody looked.
                    let _ = stand_in.task.call_method0(py, intern!(py, "_wireway_retrieve"));
                }
            }
            Ok(Stepped::Finished(outcome.map(drop)))
        }
    }
}

/// The handlers of a batch were stepped: no task is current any more.
#[inline]
pub fn leave(core: &Bound<'_, LoopCore>) -> PyResult<()> {
    let kept = core.get().stand_in.borrow_mut().take();
    if let Some(mut stand_in) = kept {
        let result = stand_in.leave(core);
        let former = core.get().stand_in.borrow_mut().replace(stand_in);
        drop(former);
        return result;
    }
    Ok(())
}

/// Completes a stand-in that is not needed any more, so that no pending Task is destroyed.
fn dismiss(core: &Bound<'_, LoopCore>, stand_in: &mut StandIn) -> PyResult<()> {
    *stand_in.shell.get().outcome.borrow_mut() = Some(Ok(core.py().None()));
    stand_in.run_first(core)
}

/// Completes the loop's stand-in before the loop is closed.
pub fn retire(core: &Bound<'_, LoopCore>) -> PyResult<()> {
    let kept = core.get().stand_in.borrow_mut().take();
    kept.map_or(Ok(()), |mut stand_in| dismiss(core, &mut stand_in))
}
