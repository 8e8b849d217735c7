//! `Done`: an awaitable that is done, one for all; `Arrived`: one that has a value.

use pyo3::exceptions::PyStopIteration;
use pyo3::ffi;
use pyo3::ffi::c_str;
use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};
use std::ffi::c_int;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

use super::Shell;
use crate::interp::{self, slot};

/// An awaitable that is done and has a value: what `receive` returns when a message is there.
#[pyclass(frozen, module = "wireway._native")]
pub struct Arrived(Py<PyAny>);

#[pymethods]
impl Arrived {
    fn __await__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        Err(PyStopIteration::new_err((self.0.clone_ref(py),)))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.0)
    }
}

/// An awaitable whose result is `value`.
pub fn arrived<'py>(py: Python<'py>, value: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    Bound::new(py, Arrived(value.unbind())).map(Bound::into_any)
}

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
    module.add_class::<Arrived>()?;
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
