//! `call_soon`, `call_later`, `call_at` and `time`, without a layer between the interpreter and them.

use std::ffi::CStr;
use std::ptr;

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::ffi;
use pyo3::ffi::c_str;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::handle::Handle;
use crate::interp::{self, Methods, fast, give, nullary};

use super::{LoopCore, Ready};

const CALLBACK: &CStr = c_str!("callback");

/// The arguments of a scheduling method: `N` leading ones, then `*args, context=None`.
struct Call<'a, const N: usize> {
    leading: [*mut ffi::PyObject; N],
    rest: &'a [*mut ffi::PyObject],
    context: *mut ffi::PyObject,
}

/// Reads the arguments of a scheduling method. `parameters` names the leading ones, as asyncio does.
#[inline]
unsafe fn arguments<'a, const N: usize>(
    name: &str,
    parameters: [&CStr; N],
    args: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    names: *mut ffi::PyObject,
) -> PyResult<Call<'a, N>> {
    let count = count as usize;
    // SAFETY: the interpreter passes `count` positional arguments and then one value for each name,
    // all alive during the call.
    unsafe {
        let all = std::slice::from_raw_parts(args, count);
        let (given, rest) = all.split_at(count.min(N));
        let mut call = Call { leading: [ptr::null_mut(); N], rest, context: ptr::null_mut() };
        call.leading[..given.len()].copy_from_slice(given);
        if !names.is_null() {
            named(name, parameters, &mut call, args.add(count), names)?;
        }
        if let Some(missing) = call.leading.iter().position(|argument| argument.is_null()) {
            return Err(PyTypeError::new_err(format!(
                "{name}() missing required argument: '{}'",
                parameters[missing].to_string_lossy()
            )));
        }
        Ok(call)
    }
}

/// Reads the arguments that were given by name. Futures give `context` with each callback: it is looked for first.
#[inline]
unsafe fn named<const N: usize>(
    name: &str,
    parameters: [&CStr; N],
    call: &mut Call<'_, N>,
    values: *const *mut ffi::PyObject,
    names: *mut ffi::PyObject,
) -> PyResult<()> {
    // SAFETY: `names` is a tuple of strings and `values` has as many; all alive during the call.
    unsafe {
        for index in 0..ffi::PyTuple_GET_SIZE(names) {
            let key = ffi::PyTuple_GET_ITEM(names, index);
            let value = *values.add(index as usize);
            let is = |word: &CStr| ffi::PyUnicode_CompareWithASCIIString(key, word.as_ptr()) == 0;
            if is(c_str!("context")) {
                call.context = value;
                continue;
            }
            let place = parameters.iter().position(|parameter| is(parameter));
            let wrong = match place {
                Some(place) if call.leading[place].is_null() => {
                    call.leading[place] = value;
                    continue;
                }
                Some(_) => "multiple values for argument",
                None => "an unexpected keyword argument",
            };
            let key: Bound<'_, PyAny> = Bound::from_borrowed_ptr(Python::assume_attached(), key);
            return Err(PyTypeError::new_err(format!("{name}() got {wrong} '{key}'")));
        }
    }
    Ok(())
}

#[inline]
unsafe fn core_of<'a>(object: *mut ffi::PyObject) -> &'a LoopCore {
    // SAFETY: method descriptors are only called with an instance of their class (or a subclass),
    // which the caller keeps alive during the call.
    unsafe {
        let any = std::mem::ManuallyDrop::new(Py::<LoopCore>::from_owned_ptr_unchecked(object));
        &*ptr::from_ref(any.get())
    }
}

/// Reads a Python reference without checking its type.
trait Unchecked {
    /// # Safety
    ///
    /// `object` is a live instance of `T`; the reference is taken.
    unsafe fn from_owned_ptr_unchecked(object: *mut ffi::PyObject) -> Self;
}

impl<T> Unchecked for Py<T> {
    #[inline]
    unsafe fn from_owned_ptr_unchecked(object: *mut ffi::PyObject) -> Self {
        // SAFETY: `Py<T>` is a non-null pointer to a Python object, by its documentation
        // (`repr(transparent)` around one), and the caller gives one of the right type.
        unsafe { std::mem::transmute::<*mut ffi::PyObject, Self>(object) }
    }
}

#[inline]
unsafe fn context_of(py: Python<'_>, context: *mut ffi::PyObject) -> PyResult<Py<PyAny>> {
    // SAFETY: null, None or a live object, borrowed from the caller.
    unsafe {
        if context.is_null() || context == ffi::Py_None() {
            interp::copy_context(py)
        } else {
            Ok(Bound::from_borrowed_ptr(py, context).unbind())
        }
    }
}

/// Debug mode: the Python half makes the standard library's handle, with its checks and traceback.
#[cold]
unsafe fn debug_handle<'py, const N: usize>(
    py: Python<'py>,
    object: *mut ffi::PyObject,
    call: &Call<'_, N>,
    callback: *mut ffi::PyObject,
    name: &str,
    when: Option<f64>,
) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: all are live objects, borrowed from the caller.
    unsafe {
        let slf = Bound::from_borrowed_ptr(py, object);
        let args = PyTuple::new(
            py,
            call.rest.iter().map(|argument| Bound::from_borrowed_ptr(py, *argument)),
        )?;
        let callback = Bound::from_borrowed_ptr(py, callback);
        let context = Bound::from_borrowed_ptr_or_opt(py, call.context);
        match when {
            None => slf.call_method1(intern!(py, "_debug_handle"), (callback, args, context, name)),
            Some(when) => {
                slf.call_method1(intern!(py, "_debug_timer"), (when, callback, args, context, name))
            }
        }
    }
}

unsafe extern "C" fn call_soon(
    object: *mut ffi::PyObject,
    args: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    names: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: the interpreter calls with the GIL held and live arguments.
    unsafe {
        let py = Python::assume_attached();
        let body = || {
            let core = core_of(object);
            let call = arguments("call_soon", [CALLBACK], args, count, names)?;
            core.check()?;
            if core.debug.get() {
                let handle = debug_handle(py, object, &call, call.leading[0], "call_soon", None)?;
                core.ready.borrow_mut().push_back(Ready::Stock(handle.clone().unbind()));
                return Ok(handle.into_ptr());
            }
            let context = context_of(py, call.context)?;
            let handle = Handle::new(py, object, call.leading[0], call.rest, context)?;
            core.ready.borrow_mut().push_back(Ready::Ours(handle.share()));
            Ok(handle.into_ptr())
        };
        give(py, body())
    }
}

#[inline]
unsafe fn schedule(
    py: Python<'_>,
    object: *mut ffi::PyObject,
    call: &Call<'_, 2>,
    when: f64,
    name: &str,
) -> PyResult<*mut ffi::PyObject> {
    // SAFETY: passed on from the interpreter.
    unsafe {
        let core = core_of(object);
        core.check()?;
        let callback = call.leading[1];
        if core.debug.get() {
            let handle = debug_handle(py, object, call, callback, name, Some(when))?;
            let item = Ready::Stock(handle.clone().unbind());
            core.reactor.timers.borrow_mut().push(when, item);
            return Ok(handle.into_ptr());
        }
        if when.is_nan() {
            return Err(PyValueError::new_err(format!("{name}(): the time is not a number")));
        }
        let context = context_of(py, call.context)?;
        let handle = Handle::timer(py, object, callback, call.rest, context, when)?;
        core.reactor.timers.borrow_mut().push(when, Ready::Ours(handle.share()));
        Ok(handle.into_ptr())
    }
}

#[inline]
unsafe fn seconds(py: Python<'_>, object: *mut ffi::PyObject, missing: &str) -> PyResult<f64> {
    // SAFETY: a live object, borrowed from the caller.
    unsafe {
        if object == ffi::Py_None() {
            return Err(PyTypeError::new_err(missing.to_owned()));
        }
        let value = ffi::PyFloat_AsDouble(object);
        if value == -1.0 && !ffi::PyErr_Occurred().is_null() {
            return Err(interp::fetch(py));
        }
        Ok(value)
    }
}

unsafe extern "C" fn call_later(
    object: *mut ffi::PyObject,
    args: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    names: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: the interpreter calls with the GIL held and live arguments.
    unsafe {
        let py = Python::assume_attached();
        let body = || {
            let call = arguments("call_later", [c_str!("delay"), CALLBACK], args, count, names)?;
            let delay = seconds(py, call.leading[0], "delay must not be None")?;
            schedule(py, object, &call, core_of(object).now() + delay, "call_later")
        };
        give(py, body())
    }
}

unsafe extern "C" fn call_at(
    object: *mut ffi::PyObject,
    args: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    names: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: the interpreter calls with the GIL held and live arguments.
    unsafe {
        let py = Python::assume_attached();
        let body = || {
            let call = arguments("call_at", [c_str!("when"), CALLBACK], args, count, names)?;
            let when = seconds(py, call.leading[0], "when cannot be None")?;
            schedule(py, object, &call, when, "call_at")
        };
        give(py, body())
    }
}

unsafe extern "C" fn time(object: *mut ffi::PyObject, _: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: the interpreter calls with the GIL held, and the descriptor checked the type of `object`.
    unsafe { ffi::PyFloat_FromDouble(core_of(object).now()) }
}

static METHODS: Methods<4> = Methods([
    fast(
        c_str!("call_soon"),
        call_soon,
        c_str!(
            "call_soon($self, /, callback, *args, context=None)\n--\n\nRun the callback in the next turn."
        ),
    ),
    fast(
        c_str!("call_later"),
        call_later,
        c_str!(
            "call_later($self, /, delay, callback, *args, context=None)\n--\n\nRun the callback after `delay` seconds."
        ),
    ),
    fast(
        c_str!("call_at"),
        call_at,
        c_str!(
            "call_at($self, /, when, callback, *args, context=None)\n--\n\nRun the callback at `when`, seconds on the clock of `time()`."
        ),
    ),
    nullary(
        c_str!("time"),
        time,
        c_str!("time($self, /)\n--\n\nSeconds on the loop's clock, CLOCK_MONOTONIC."),
    ),
]);

/// Adds the class and its hot methods.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<LoopCore>()?;
    interp::add_methods(&module.py().get_type::<LoopCore>(), &METHODS)
}
