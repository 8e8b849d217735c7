//! What we need of the interpreter beyond PyO3: raw methods, contexts, cached imports.
//!
//! PyO3's own methods cost 20 to 40 ns a call in checks that the hottest calls (`call_soon`, `write`,
//! `send`) do not need. Those are plain C functions here, put on the class as method descriptors,
//! which the interpreter then calls without any adapter.

use std::ffi::{CStr, c_void};
use std::ptr;

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

/// A method table that the interpreter keeps a pointer to for ever.
#[repr(transparent)]
pub struct Methods<const N: usize>(pub [ffi::PyMethodDef; N]);

// SAFETY: never written after it was built; the pointers in it are to static data and functions.
unsafe impl<const N: usize> Sync for Methods<N> {}

/// `METH_O`: one positional argument.
pub const fn unary(
    name: &'static CStr,
    function: unsafe extern "C" fn(*mut ffi::PyObject, *mut ffi::PyObject) -> *mut ffi::PyObject,
    doc: &'static CStr,
) -> ffi::PyMethodDef {
    ffi::PyMethodDef {
        ml_name: name.as_ptr(),
        ml_meth: ffi::PyMethodDefPointer { PyCFunction: function },
        ml_flags: ffi::METH_O,
        ml_doc: doc.as_ptr(),
    }
}

/// `METH_NOARGS`: no argument.
pub const fn nullary(
    name: &'static CStr,
    function: unsafe extern "C" fn(*mut ffi::PyObject, *mut ffi::PyObject) -> *mut ffi::PyObject,
    doc: &'static CStr,
) -> ffi::PyMethodDef {
    ffi::PyMethodDef {
        ml_name: name.as_ptr(),
        ml_meth: ffi::PyMethodDefPointer { PyCFunction: function },
        ml_flags: ffi::METH_NOARGS,
        ml_doc: doc.as_ptr(),
    }
}

/// The C signature of a vectorcall method with keywords.
pub type Fast = unsafe extern "C" fn(
    *mut ffi::PyObject,
    *const *mut ffi::PyObject,
    ffi::Py_ssize_t,
    *mut ffi::PyObject,
) -> *mut ffi::PyObject;

/// `METH_FASTCALL | METH_KEYWORDS`: any arguments, in an array.
pub const fn fast(name: &'static CStr, function: Fast, doc: &'static CStr) -> ffi::PyMethodDef {
    ffi::PyMethodDef {
        ml_name: name.as_ptr(),
        ml_meth: ffi::PyMethodDefPointer { PyCFunctionFastWithKeywords: function },
        ml_flags: ffi::METH_FASTCALL | ffi::METH_KEYWORDS,
        ml_doc: doc.as_ptr(),
    }
}

/// Puts raw methods on a class.
pub fn add_methods<const N: usize>(
    class: &Bound<'_, pyo3::types::PyType>,
    methods: &'static Methods<N>,
) -> PyResult<()> {
    let py = class.py();
    for method in &methods.0 {
        // SAFETY: the table is static; the class is a live type object; a new reference or an error
        // comes back.
        let descriptor = unsafe {
            let descriptor =
                ffi::PyDescr_NewMethod(class.as_ptr().cast(), ptr::from_ref(method).cast_mut());
            Bound::from_owned_ptr_or_err(py, descriptor)?
        };
        // SAFETY: `ml_name` points to a static C string.
        let name = unsafe { CStr::from_ptr(method.ml_name) };
        class.setattr(name.to_string_lossy().as_ref(), descriptor)?;
    }
    Ok(())
}

/// The error that is set in the interpreter.
#[inline]
pub fn fetch(py: Python<'_>) -> PyErr {
    PyErr::fetch(py)
}

/// Ends a raw function: an error is set in the interpreter and becomes NULL.
#[inline]
pub fn give(py: Python<'_>, result: PyResult<*mut ffi::PyObject>) -> *mut ffi::PyObject {
    match result {
        Ok(object) => object,
        Err(error) => {
            error.restore(py);
            ptr::null_mut()
        }
    }
}

/// References to an object.
#[inline]
pub fn references<T>(object: &Py<T>) -> ffi::Py_ssize_t {
    // SAFETY: a live object; the GIL is held by every caller.
    unsafe { ffi::Py_REFCNT(object.as_ptr()) }
}

/// `None`, as a new reference.
#[inline]
pub fn none() -> *mut ffi::PyObject {
    // SAFETY: the GIL is held by every caller; None is always alive.
    unsafe {
        ffi::Py_INCREF(ffi::Py_None());
        ffi::Py_None()
    }
}

/// Calls `callable(*arguments)`.
#[inline]
pub fn call<'py>(
    py: Python<'py>,
    callable: *mut ffi::PyObject,
    arguments: &[*mut ffi::PyObject],
) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: callable and arguments are live objects; a new reference or an error comes back. No
    // room is offered before the first argument.
    unsafe {
        let result = ffi::PyObject_Vectorcall(
            callable,
            arguments.as_ptr(),
            arguments.len(),
            ptr::null_mut(),
        );
        Bound::from_owned_ptr_or_err(py, result)
    }
}

/// Calls `object.name(argument)`.
#[inline]
pub fn call_method_1<'py>(
    py: Python<'py>,
    object: *mut ffi::PyObject,
    name: &Bound<'py, pyo3::types::PyString>,
    argument: *mut ffi::PyObject,
) -> PyResult<Bound<'py, PyAny>> {
    let arguments = [object, argument];
    // SAFETY: all are live objects; a new reference or an error comes back.
    unsafe {
        let result =
            ffi::PyObject_VectorcallMethod(name.as_ptr(), arguments.as_ptr(), 2, ptr::null_mut());
        Bound::from_owned_ptr_or_err(py, result)
    }
}

/// A copy of the current context.
#[inline]
pub fn copy_context(py: Python<'_>) -> PyResult<Py<PyAny>> {
    // SAFETY: a new reference or an error comes back.
    unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyContext_CopyCurrent()).map(Bound::unbind) }
}

/// A copy of a context.
#[inline]
pub fn copy_of(py: Python<'_>, context: &Py<PyAny>) -> PyResult<Py<PyAny>> {
    // SAFETY: `context` is a live Context object; a new reference or an error comes back.
    unsafe {
        Bound::from_owned_ptr_or_err(py, ffi::PyContext_Copy(context.as_ptr())).map(Bound::unbind)
    }
}

/// Enters a context; it must be left with [`exit_context`], on this thread, last in first out.
#[inline]
pub fn enter_context(py: Python<'_>, context: &Py<PyAny>) -> PyResult<()> {
    // SAFETY: `context` is a live Context object. It fails if it is entered already.
    if unsafe { ffi::PyContext_Enter(context.as_ptr()) } < 0 { Err(fetch(py)) } else { Ok(()) }
}

/// Leaves the context entered last.
#[inline]
pub fn exit_context(py: Python<'_>, context: &Py<PyAny>) -> PyResult<()> {
    // SAFETY: `context` is a live Context object. It fails if it is not the one entered last.
    if unsafe { ffi::PyContext_Exit(context.as_ptr()) } < 0 { Err(fetch(py)) } else { Ok(()) }
}

/// Runs `body` inside `context`.
#[inline]
pub fn inside<R>(
    py: Python<'_>,
    context: &Py<PyAny>,
    body: impl FnOnce() -> PyResult<R>,
) -> PyResult<R> {
    enter_context(py, context)?;
    let result = body();
    match exit_context(py, context) {
        Err(error) if result.is_ok() => Err(error),
        _ => result,
    }
}

/// Looks at the place where a Context keeps its variables, to see whether two share them.
///
/// A Context is a small object around a pointer to an immutable map: a copy shares the map, and
/// setting a variable replaces it. The interpreter has no call that compares the two pointers
/// (`==` compares values), so the place of the pointer is found once, by experiment: the one word of
/// the object that changes when a variable is set. If the experiment does not give one word, nothing
/// is ever taken for shared, which costs time but is right.
pub struct ContextProbe(Option<usize>);

impl ContextProbe {
    /// The probe of this interpreter.
    pub fn get(py: Python<'_>) -> &'static Self {
        static PROBE: PyOnceLock<ContextProbe> = PyOnceLock::new();
        PROBE.get_or_init(py, || Self(Self::find(py).ok().flatten()))
    }

    fn find(py: Python<'_>) -> PyResult<Option<usize>> {
        let module = py.import("contextvars")?;
        let context = module.getattr("Context")?.call0()?;
        let variable = module.getattr("ContextVar")?.call1(("wireway_probe",))?;
        let size: usize = context.get_type().getattr("__basicsize__")?.extract()?;
        let words = size / size_of::<usize>();
        let head = size_of::<ffi::PyObject>() / size_of::<usize>();
        let read = |object: &Bound<'_, PyAny>| -> Vec<usize> {
            // SAFETY: `object` is alive and at least `__basicsize__` bytes large, word-aligned; the
            // words are only compared.
            (0..words)
                .map(|word| unsafe { object.as_ptr().cast::<usize>().add(word).read() })
                .collect()
        };
        let before = read(&context);
        context.call_method1("run", (variable.getattr("set")?, 1))?;
        let after = read(&context);
        let copy = read(&context.call_method0("copy")?);
        let changed: Vec<usize> = (head..words).filter(|&w| before[w] != after[w]).collect();
        Ok(match changed[..] {
            [word] if copy[word] == after[word] => Some(word),
            _ => None,
        })
    }

    /// Whether the two contexts have the very same variables. False when it can not be told.
    #[inline]
    pub fn same(&self, one: &Py<PyAny>, other: &Py<PyAny>) -> bool {
        self.0.is_some_and(|word| {
            // SAFETY: both are live Context objects, and `word` lies inside such an object (`find`).
            unsafe {
                one.as_ptr().cast::<usize>().add(word).read()
                    == other.as_ptr().cast::<usize>().add(word).read()
            }
        })
    }
}

/// An object that is imported once.
macro_rules! imported {
    ($name:ident, $module:literal, $attribute:literal) => {
        #[doc = concat!("`", $module, ".", $attribute, "`.")]
        pub fn $name(py: Python<'_>) -> PyResult<&Bound<'_, PyAny>> {
            static CELL: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
            CELL.get_or_try_init(py, || {
                Ok::<_, PyErr>(py.import($module)?.getattr($attribute)?.unbind())
            })
            .map(|object| object.bind(py))
        }
    };
}

imported!(format_callback, "asyncio.format_helpers", "_format_callback_source");
imported!(stock_handle, "asyncio.events", "Handle");
imported!(stock_timer, "asyncio.events", "TimerHandle");
imported!(buffered_protocol, "asyncio.protocols", "BufferedProtocol");
imported!(stock_transport, "asyncio.transports", "_FlowControlMixin");
imported!(transport_socket, "asyncio.trsock", "TransportSocket");
imported!(python_socket, "socket", "socket");
imported!(logger, "asyncio.log", "logger");
imported!(set_result, "asyncio.futures", "_set_result_unless_cancelled");
imported!(enter_task, "asyncio.tasks", "_enter_task");
imported!(leave_task, "asyncio.tasks", "_leave_task");
imported!(register_task, "asyncio.tasks", "_register_task");
imported!(unregister_task, "asyncio.tasks", "_unregister_task");
imported!(cancelled_error, "asyncio.exceptions", "CancelledError");

/// `warnings.warn(text, ResourceWarning, source=source)`.
pub fn warn_resource(py: Python<'_>, text: &str, source: &Bound<'_, PyAny>) -> PyResult<()> {
    let keywords = pyo3::types::PyDict::new(py);
    keywords.set_item("source", source)?;
    let class = py.get_type::<pyo3::exceptions::PyResourceWarning>();
    py.import("warnings")?.call_method("warn", (text, class), Some(&keywords)).map(drop)
}

/// A slot of a type specification.
pub fn slot(id: i32, function: *mut c_void) -> ffi::PyType_Slot {
    ffi::PyType_Slot { slot: id, pfunc: function }
}
