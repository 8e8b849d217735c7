//! `HandlerCoroutine`: the coroutine of a handler's Task.

use std::cell::{Cell, RefCell};

use pyo3::exceptions::{PyRuntimeError, PyStopIteration};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use pyo3::{PyTraverseError, PyVisit};

/// The coroutine of a handler's Task: nothing at first, then the handler's own coroutine.
#[pyclass(frozen, weakref, module = "wireway._native", name = "HandlerCoroutine")]
#[derive(Default)]
pub struct Shell {
    pub(super) inner: RefCell<Option<Py<PyAny>>>,
    /// What the handler yielded in its first step and the Task has not seen.
    pub(super) yielded: RefCell<Option<Py<PyAny>>>,
    /// How a handler ended that never suspended.
    pub(super) outcome: RefCell<Option<PyResult<Py<PyAny>>>>,
    pub(super) touched: Cell<bool>,
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
