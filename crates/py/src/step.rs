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

use std::cell::{Cell, RefCell};

use pyo3::exceptions::{PyRuntimeError, PyStopIteration};
use pyo3::ffi;
use pyo3::ffi::c_str;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use pyo3::{PyTraverseError, PyVisit};
use std::ffi::c_int;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

use crate::event_loop::{LoopCore, Ready};
use crate::interp::{self, ContextProbe, slot};

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

/// The coroutine of a handler's Task: nothing at first, then the handler's own coroutine.
#[pyclass(frozen, weakref, module = "wireway._native", name = "HandlerCoroutine")]
#[derive(Default)]
pub struct Shell {
    inner: RefCell<Option<Py<PyAny>>>,
    /// What the handler yielded in its first step and the Task has not seen.
    yielded: RefCell<Option<Py<PyAny>>>,
    /// How a handler ended that never suspended.
    outcome: RefCell<Option<PyResult<Py<PyAny>>>>,
    touched: Cell<bool>,
}

// SAFETY: as `LoopCore`.
unsafe impl Sync for Shell {}
// SAFETY: as `LoopCore`.
unsafe impl Send for Shell {}

impl Shell {
    fn inner<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.inner.borrow().as_ref().map(|inner| inner.bind(py).clone()).ok_or_else(|| {
            PyRuntimeError::new_err("this coroutine is driven by its server, not by the caller")
        })
    }
}

#[pymethods]
impl Shell {
    /// The Task was cancelled or observed during the first step.
    fn touch(&self) {
        self.touched.set(true);
    }

    /// As for any coroutine.
    fn send<'py>(&self, py: Python<'py>, value: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let outcome = self.outcome.borrow_mut().take();
        if let Some(outcome) = outcome {
            return Err(match outcome {
                Ok(value) => PyStopIteration::new_err((value,)),
                Err(error) => error,
            });
        }
        let yielded = self.yielded.borrow_mut().take();
        if let Some(yielded) = yielded {
            return Ok(yielded.into_bound(py));
        }
        self.inner(py)?.call_method1(intern!(py, "send"), (value,))
    }

    /// As for any coroutine.
    #[pyo3(signature = (*args))]
    fn throw<'py>(
        &self,
        py: Python<'py>,
        args: &Bound<'py, PyTuple>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let yielded = self.yielded.borrow_mut().take();
        if let Some(yielded) = yielded {
            // Cancelled in its first step: cancel what it waits for, as a Task does when it sees the
            // future; the handler is told when that future is done.
            let yielded = yielded.into_bound(py);
            yielded.call_method0(intern!(py, "cancel"))?;
            return Ok(yielded);
        }
        let outcome = self.outcome.borrow_mut().take();
        if outcome.is_some() {
            let error = args.get_item(0)?;
            let error = if error.is_callable() { error.call0()? } else { error };
            return Err(PyErr::from_value(error));
        }
        self.inner(py)?.call_method1(intern!(py, "throw"), args)
    }

    /// As for any coroutine.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        let inner = self.inner.borrow().as_ref().map(|inner| inner.clone_ref(py));
        match inner {
            Some(inner) => inner.call_method0(py, intern!(py, "close")).map(drop),
            None => Ok(()),
        }
    }

    fn __await__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.send(py, py.None().into_bound(py))
    }

    fn __getattr__<'py>(&self, py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
        // cr_frame, cr_code, __qualname__, ...: what tools ask a coroutine for.
        match self.inner(py) {
            Ok(inner) => inner.getattr(name),
            Err(_) => Err(pyo3::exceptions::PyAttributeError::new_err(name.to_owned())),
        }
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        for cell in [&self.inner, &self.yielded] {
            if let Ok(object) = cell.try_borrow() {
                visit.call(&*object)?;
            }
        }
        Ok(())
    }

    fn __clear__(&self) {
        for cell in [&self.inner, &self.yielded] {
            let object = cell.take();
            drop(object);
        }
    }
}

// --- an awaitable that is done -------------------------------------------------------------------

static DONE: AtomicPtr<ffi::PyObject> = AtomicPtr::new(ptr::null_mut());

/// What `send` returns when there is nothing to wait for: one object, made once; awaiting it ends at
/// once without a coroutine, a future or an exception.
#[inline]
pub fn done() -> *mut ffi::PyObject {
    let object = DONE.load(Ordering::Relaxed);
    // SAFETY: made in `register` and never released; the GIL is held by every caller.
    unsafe { ffi::Py_INCREF(object) };
    object
}

unsafe extern "C" fn itself(object: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: a live object, borrowed from the interpreter.
    unsafe { ffi::Py_INCREF(object) };
    object
}

unsafe extern "C" fn exhausted(_: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // NULL without an exception is the end of an iterator, with the value None.
    ptr::null_mut()
}

/// Adds the classes.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    module.add_class::<Shell>()?;
    let mut slots = [
        slot(ffi::Py_am_await, itself as *mut _),
        slot(ffi::Py_tp_iter, itself as *mut _),
        slot(ffi::Py_tp_iternext, exhausted as *mut _),
        slot(
            ffi::Py_tp_doc,
            c_str!("An awaitable that is done: nothing had to be waited for.")
                .as_ptr()
                .cast_mut()
                .cast(),
        ),
        slot(0, ptr::null_mut()),
    ];
    let mut spec = ffi::PyType_Spec {
        name: c_str!("wireway._native.Done").as_ptr(),
        basicsize: size_of::<ffi::PyObject>() as c_int,
        itemsize: 0,
        flags: (ffi::Py_TPFLAGS_DEFAULT
            | ffi::Py_TPFLAGS_DISALLOW_INSTANTIATION
            | ffi::Py_TPFLAGS_IMMUTABLETYPE) as u32,
        slots: slots.as_mut_ptr(),
    };
    // SAFETY: the slots live through the call; the one instance has no fields beyond the head, and
    // holds the reference to its class that `PyObject_New` takes. It is kept for ever.
    unsafe {
        let class = Bound::from_owned_ptr_or_err(py, ffi::PyType_FromSpec(&raw mut spec))?;
        let object = ffi::PyObject_New::<ffi::PyObject>(class.as_ptr().cast());
        if object.is_null() {
            return Err(interp::fetch(py));
        }
        DONE.store(object, Ordering::Relaxed);
        module.add("Done", class)
    }
}
