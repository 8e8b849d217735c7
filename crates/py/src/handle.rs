//! `Handle` and `TimerHandle`: a callback that is to run.
//!
//! Made for each `call_soon`, so they are plain C objects: no garbage-collector header (one that has
//! run or was cancelled holds nothing, and one that waits is held by its loop, which traverses it),
//! one allocation, the single argument kept without a tuple.
//!
//! In debug mode the loop uses the standard library's own handles instead: they record where they
//! were made.

use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::errors::leaves_the_loop;
use crate::interp::{self, fetch};

mod class;

pub use class::register;

const CANCELLED: u8 = 1;
/// `arguments` is the one argument itself, not a tuple.
const SINGLE: u8 = 2;
/// Runs again and again (a reader): running does not use it up.
const REPEATS: u8 = 4;
const TIMER: u8 = 8;
/// Stands in the loop's heap of deadlines.
const SCHEDULED: u8 = 16;

/// The C layout of both classes.
#[repr(C)]
pub struct Object {
    base: ffi::PyObject,
    weak: *mut ffi::PyObject,
    callback: *mut ffi::PyObject,
    arguments: *mut ffi::PyObject,
    context: *mut ffi::PyObject,
    owner: *mut ffi::PyObject,
    when: f64,
    flags: u8,
}

static HANDLE: AtomicPtr<ffi::PyTypeObject> = AtomicPtr::new(ptr::null_mut());
static TIMER_HANDLE: AtomicPtr<ffi::PyTypeObject> = AtomicPtr::new(ptr::null_mut());

/// A handle of ours, as a reference that its holder owns.
pub struct Handle(*mut Object);

impl Handle {
    /// A handle that runs once. `callback` and `arguments` are borrowed, `context` is taken.
    ///
    /// # Safety
    ///
    /// All pointers are to live objects, `owner` to an instance of `LoopCore`; the GIL is held.
    #[inline]
    pub unsafe fn new(
        py: Python<'_>,
        owner: *mut ffi::PyObject,
        callback: *mut ffi::PyObject,
        arguments: &[*mut ffi::PyObject],
        context: Py<PyAny>,
    ) -> PyResult<Self> {
        // SAFETY: passed on.
        unsafe { Self::make(py, &HANDLE, owner, callback, arguments, context, 0.0, 0) }
    }

    /// A handle for a deadline. The rest as in [`Handle::new`].
    ///
    /// # Safety
    ///
    /// As [`Handle::new`].
    pub unsafe fn timer(
        py: Python<'_>,
        owner: *mut ffi::PyObject,
        callback: *mut ffi::PyObject,
        arguments: &[*mut ffi::PyObject],
        context: Py<PyAny>,
        when: f64,
    ) -> PyResult<Self> {
        let flags = TIMER | SCHEDULED;
        // SAFETY: passed on.
        unsafe { Self::make(py, &TIMER_HANDLE, owner, callback, arguments, context, when, flags) }
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of the object, in order")]
    #[inline]
    unsafe fn make(
        py: Python<'_>,
        class: &AtomicPtr<ffi::PyTypeObject>,
        owner: *mut ffi::PyObject,
        callback: *mut ffi::PyObject,
        arguments: &[*mut ffi::PyObject],
        context: Py<PyAny>,
        when: f64,
        mut flags: u8,
    ) -> PyResult<Self> {
        let packed = match arguments {
            [] => ptr::null_mut(),
            // SAFETY: a live object, by the caller's promise.
            [one] => unsafe {
                flags |= SINGLE;
                ffi::Py_INCREF(*one);
                *one
            },
            // SAFETY: live objects; each reference put into the tuple is a new one.
            many => unsafe {
                let tuple = ffi::PyTuple_New(many.len() as ffi::Py_ssize_t);
                if tuple.is_null() {
                    return Err(fetch(py));
                }
                for (index, argument) in many.iter().enumerate() {
                    ffi::Py_INCREF(*argument);
                    ffi::PyTuple_SET_ITEM(tuple, index as ffi::Py_ssize_t, *argument);
                }
                tuple
            },
        };
        // SAFETY: the class was made in `register`; `PyObject_New` allocates its basic size, sets the
        // head and takes a reference to the class; every other field is written below.
        unsafe {
            let object = ffi::PyObject_New::<Object>(class.load(Ordering::Relaxed));
            if object.is_null() {
                ffi::Py_XDECREF(packed);
                return Err(fetch(py));
            }
            ffi::Py_INCREF(callback);
            ffi::Py_INCREF(owner);
            (*object).weak = ptr::null_mut();
            (*object).callback = callback;
            (*object).arguments = packed;
            (*object).context = context.into_ptr();
            (*object).owner = owner;
            (*object).when = when;
            (*object).flags = flags;
            Ok(Self(object))
        }
    }

    /// The handle in `object`, if it is one of ours. Takes the reference either way.
    #[inline]
    pub fn from_object(object: Py<PyAny>) -> Result<Self, Py<PyAny>> {
        // SAFETY: a live object has a type; only the two classes here have this layout.
        let class = unsafe { ffi::Py_TYPE(object.as_ptr()) };
        if class == HANDLE.load(Ordering::Relaxed) || class == TIMER_HANDLE.load(Ordering::Relaxed)
        {
            Ok(Self(object.into_ptr().cast()))
        } else {
            Err(object)
        }
    }

    /// As a Python object, with the reference.
    #[inline]
    pub fn into_ptr(self) -> *mut ffi::PyObject {
        let object = self.0;
        std::mem::forget(self);
        object.cast()
    }

    /// Another reference to the same handle.
    #[inline]
    pub fn share(&self) -> Self {
        // SAFETY: alive while `self` is.
        unsafe { ffi::Py_INCREF(self.0.cast()) };
        Self(self.0)
    }

    /// Marks it as one that runs again and again.
    pub fn repeats(self) -> Self {
        // SAFETY: alive, and the GIL is held.
        unsafe { (*self.0).flags |= REPEATS };
        self
    }

    /// Whether it was cancelled.
    #[inline]
    pub fn cancelled(&self) -> bool {
        // SAFETY: alive, and the GIL is held.
        unsafe { (*self.0).flags & CANCELLED != 0 }
    }

    /// Forgets callback and arguments. Whatever they held may run code of its own.
    pub fn cancel(&self) {
        // SAFETY: alive, and the GIL is held; the fields are emptied before anything is released.
        unsafe { cancel_object(self.0) };
    }

    /// Forgets callback and arguments, for it will never run. Somebody may keep the handle, and the callback
    /// that somebody: a cycle that the collector, which knows no handles, could not see.
    pub fn forget(&self) {
        // SAFETY: alive, and the GIL is held.
        unsafe { release_object(self.0) };
    }

    /// The deadline has left the heap.
    pub fn left_heap(&self) {
        // SAFETY: alive, and the GIL is held.
        unsafe { (*self.0).flags &= !SCHEDULED };
    }

    /// Calls the callback in its context. An exception is reported to the loop.
    ///
    /// # Errors
    ///
    /// `SystemExit` and `KeyboardInterrupt`, which must leave the loop.
    #[inline]
    pub fn run(&self, py: Python<'_>) -> PyResult<()> {
        // SAFETY: the object is alive while `self` is. The callback may cancel this very handle, so
        // its references are held here, by moving them out or, for one that repeats, by sharing.
        unsafe {
            let object = self.0;
            if (*object).flags & CANCELLED != 0 || (*object).callback.is_null() {
                return Ok(());
            }
            let (callback, arguments) = ((*object).callback, (*object).arguments);
            if (*object).flags & REPEATS == 0 {
                (*object).callback = ptr::null_mut();
                (*object).arguments = ptr::null_mut();
            } else {
                ffi::Py_INCREF(callback);
                ffi::Py_XINCREF(arguments);
            }
            let context = (*object).context;
            let entered = ffi::PyContext_Enter(context) == 0;
            let result = if !entered {
                ptr::null_mut()
            } else if arguments.is_null() {
                ffi::PyObject_CallNoArgs(callback)
            } else if (*object).flags & SINGLE != 0 {
                ffi::PyObject_CallOneArg(callback, arguments)
            } else {
                ffi::PyObject_Call(callback, arguments, ptr::null_mut())
            };
            if result.is_null() {
                let error = fetch(py);
                if entered {
                    ffi::PyContext_Exit(context);
                }
                let outcome = self.failed(py, callback, arguments, error);
                ffi::Py_DECREF(callback);
                ffi::Py_XDECREF(arguments);
                return outcome;
            }
            ffi::Py_DECREF(result);
            ffi::PyContext_Exit(context);
            ffi::Py_DECREF(callback);
            ffi::Py_XDECREF(arguments);
            Ok(())
        }
    }

    #[cold]
    fn failed(
        &self,
        py: Python<'_>,
        callback: *mut ffi::PyObject,
        arguments: *mut ffi::PyObject,
        error: PyErr,
    ) -> PyResult<()> {
        if leaves_the_loop(py, &error) {
            return Err(error);
        }
        // SAFETY: held by the caller, which released the handle's own.
        unsafe {
            if (*self.0).callback.is_null() && (*self.0).flags & CANCELLED == 0 {
                // For the report: the handle is shown with its callback.
                ffi::Py_INCREF(callback);
                ffi::Py_XINCREF(arguments);
                (*self.0).callback = callback;
                (*self.0).arguments = arguments;
            }
            let callback = Bound::from_borrowed_ptr(py, callback);
            let text = interp::format_callback(py)?
                .call1((callback, argument_tuple(py, (*self.0).flags, arguments)?))?;
            let context = pyo3::types::PyDict::new(py);
            context.set_item("message", format!("Exception in callback {text}"))?;
            context.set_item("exception", error.value(py))?;
            context.set_item("handle", Bound::from_borrowed_ptr(py, self.0.cast()))?;
            let owner = Bound::from_borrowed_ptr(py, (*self.0).owner);
            owner.call_method1("call_exception_handler", (context,))?;
        }
        Ok(())
    }

    /// Shows the garbage collector what a handle that only the loop holds refers to.
    pub fn traverse(&self, visit: &pyo3::PyVisit<'_>) -> Result<(), pyo3::PyTraverseError> {
        // SAFETY: alive; the fields are live objects or null. Only for a handle with one owner: what
        // another owner also keeps alive must not be counted as ours.
        unsafe {
            if ffi::Py_REFCNT(self.0.cast()) == 1 {
                let object = &*self.0;
                for field in [&object.callback, &object.arguments, &object.context, &object.owner] {
                    if !field.is_null() {
                        visit.call(&*ptr::from_ref(field).cast::<Py<PyAny>>())?;
                    }
                }
            }
        }
        Ok(())
    }
}

impl Drop for Handle {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: the reference that this value owns; the GIL is held wherever handles live.
        unsafe { ffi::Py_DECREF(self.0.cast()) };
    }
}

unsafe fn cancel_object(object: *mut Object) {
    // SAFETY: the caller gives a live handle and holds the GIL.
    unsafe {
        if (*object).flags & CANCELLED != 0 {
            return;
        }
        (*object).flags |= CANCELLED;
        release_object(object);
    }
}

unsafe fn release_object(object: *mut Object) {
    // SAFETY: the caller gives a live handle and holds the GIL; what is released may run any code, and
    // finds the fields empty.
    unsafe {
        let (callback, arguments) = ((*object).callback, (*object).arguments);
        (*object).callback = ptr::null_mut();
        (*object).arguments = ptr::null_mut();
        ffi::Py_XDECREF(callback);
        ffi::Py_XDECREF(arguments);
    }
}

unsafe fn argument_tuple<'py>(
    py: Python<'py>,
    flags: u8,
    arguments: *mut ffi::PyObject,
) -> PyResult<Bound<'py, PyTuple>> {
    if arguments.is_null() {
        return Ok(PyTuple::empty(py));
    }
    // SAFETY: a live object, by the caller's promise.
    let object = unsafe { Bound::from_borrowed_ptr(py, arguments) };
    if flags & SINGLE != 0 {
        PyTuple::new(py, [object])
    } else {
        Ok(object.cast_into::<PyTuple>()?)
    }
}
