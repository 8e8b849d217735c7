//! The two classes as the interpreter sees them: slots, methods, members.

use std::ffi::c_int;
use std::ptr;
use std::sync::atomic::Ordering;

use pyo3::ffi;
use pyo3::ffi::c_str;
use pyo3::prelude::*;
use pyo3::types::{PyFloat, PyString};

use crate::event_loop::LoopCore;
use crate::interp::{self, Methods, give, none, nullary, slot};

use super::{
    CANCELLED, HANDLE, Handle, Object, SCHEDULED, TIMER, TIMER_HANDLE, argument_tuple,
    cancel_object,
};

unsafe extern "C" fn dealloc(object: *mut ffi::PyObject) {
    // SAFETY: called once by the interpreter, for an object of our layout whose last reference is
    // gone, with the GIL held.
    unsafe {
        let handle = object.cast::<Object>();
        if !(*handle).weak.is_null() {
            ffi::PyObject_ClearWeakRefs(object);
        }
        ffi::Py_XDECREF((*handle).callback);
        ffi::Py_XDECREF((*handle).arguments);
        ffi::Py_XDECREF((*handle).context);
        ffi::Py_XDECREF((*handle).owner);
        let class = ffi::Py_TYPE(object);
        ffi::PyObject_Free(object.cast());
        // A heap type is kept alive by its instances.
        ffi::Py_DECREF(class.cast());
    }
}

unsafe extern "C" fn cancel(
    object: *mut ffi::PyObject,
    _: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: the descriptor checked the type; the GIL is held by the caller.
    unsafe {
        let handle = object.cast::<Object>();
        let flags = (*handle).flags;
        if flags & CANCELLED == 0 && flags & SCHEDULED != 0 {
            let py = Python::assume_attached();
            if let Ok(core) = Bound::from_borrowed_ptr(py, (*handle).owner).cast::<LoopCore>() {
                core.get().timer_cancelled();
            }
        }
        cancel_object(handle);
    }
    none()
}

unsafe extern "C" fn cancelled(
    object: *mut ffi::PyObject,
    _: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: the descriptor checked the type; the GIL is held by the caller.
    unsafe { ffi::PyBool_FromLong(((*object.cast::<Object>()).flags & CANCELLED).into()) }
}

unsafe extern "C" fn when(object: *mut ffi::PyObject, _: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: the descriptor checked the type; the GIL is held by the caller.
    unsafe { ffi::PyFloat_FromDouble((*object.cast::<Object>()).when) }
}

unsafe extern "C" fn get_context(
    object: *mut ffi::PyObject,
    _: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: the descriptor checked the type; the context lives as long as the handle.
    unsafe {
        let context = (*object.cast::<Object>()).context;
        ffi::Py_INCREF(context);
        context
    }
}

unsafe extern "C" fn run_once(
    object: *mut ffi::PyObject,
    _: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: the descriptor checked the type; the GIL is held by the caller, which also keeps the
    // object alive.
    let (py, handle) = unsafe {
        let handle = std::mem::ManuallyDrop::new(Handle(object.cast()));
        (Python::assume_attached(), handle)
    };
    give(py, handle.run(py).map(|()| none()))
}

unsafe extern "C" fn repr(object: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: the slot is only called for our types, with the GIL held.
    let (py, handle) = unsafe { (Python::assume_attached(), &*object.cast::<Object>()) };
    let describe = || -> PyResult<String> {
        let name = if handle.flags & TIMER != 0 { "TimerHandle" } else { "Handle" };
        let mut words = vec![name.to_owned()];
        if handle.flags & CANCELLED != 0 {
            words.push("cancelled".to_owned());
        }
        if handle.flags & TIMER != 0 {
            words.push(format!("when={}", PyFloat::new(py, handle.when).repr()?));
        }
        if !handle.callback.is_null() {
            // SAFETY: live objects for as long as the handle holds them.
            let text = unsafe {
                let callback = Bound::from_borrowed_ptr(py, handle.callback);
                let arguments = argument_tuple(py, handle.flags, handle.arguments)?;
                interp::format_callback(py)?.call1((callback, arguments))?
            };
            words.push(text.to_string());
        }
        Ok(format!("<{}>", words.join(" ")))
    };
    give(py, describe().map(|text| PyString::new(py, &text).into_ptr()))
}

/// `isinstance(handle, asyncio.Handle)` holds, as for any object that stands in for another class.
unsafe extern "C" fn class(
    object: *mut ffi::PyObject,
    _: *mut std::ffi::c_void,
) -> *mut ffi::PyObject {
    // SAFETY: the descriptor checked the type; the GIL is held by the caller.
    let (py, flags) = unsafe { (Python::assume_attached(), (*object.cast::<Object>()).flags) };
    let class = if flags & TIMER != 0 { interp::stock_timer(py) } else { interp::stock_handle(py) };
    give(py, class.map(|class| class.clone().into_ptr()))
}

unsafe extern "C" fn compare(
    one: *mut ffi::PyObject,
    other: *mut ffi::PyObject,
    operation: c_int,
) -> *mut ffi::PyObject {
    let timer = TIMER_HANDLE.load(Ordering::Relaxed);
    // SAFETY: both are live objects; the layout is read only after the type was checked.
    unsafe {
        if ffi::Py_TYPE(one) != timer || ffi::Py_TYPE(other) != timer {
            ffi::Py_INCREF(ffi::Py_NotImplemented());
            return ffi::Py_NotImplemented();
        }
        let (left, right) = (&*one.cast::<Object>(), &*other.cast::<Object>());
        let equal = left.when == right.when
            && left.callback == right.callback
            && left.arguments == right.arguments
            && (left.flags ^ right.flags) & CANCELLED == 0;
        let answer = match operation {
            ffi::Py_LT => left.when < right.when,
            ffi::Py_LE => left.when < right.when || equal,
            ffi::Py_EQ => equal,
            ffi::Py_NE => !equal,
            ffi::Py_GT => left.when > right.when,
            _ => left.when > right.when || equal,
        };
        ffi::PyBool_FromLong(answer.into())
    }
}

unsafe extern "C" fn hash(object: *mut ffi::PyObject) -> ffi::Py_hash_t {
    // SAFETY: the slot is only called for our types.
    let handle = unsafe { &*object.cast::<Object>() };
    // Equal timers have equal deadlines; plain handles are equal only to themselves.
    let hash = if handle.flags & TIMER != 0 {
        handle.when.to_bits() as ffi::Py_hash_t
    } else {
        object.addr().rotate_right(4) as ffi::Py_hash_t
    };
    if hash == -1 { -2 } else { hash }
}

static METHODS: Methods<6> = Methods([
    nullary(
        c_str!("cancel"),
        cancel,
        c_str!("cancel($self, /)\n--\n\nThe callback will not run. No effect once it has."),
    ),
    nullary(
        c_str!("cancelled"),
        cancelled,
        c_str!("cancelled($self, /)\n--\n\nWhether it was cancelled."),
    ),
    nullary(
        c_str!("get_context"),
        get_context,
        c_str!("get_context($self, /)\n--\n\nThe context that the callback runs in."),
    ),
    nullary(c_str!("_run"), run_once, c_str!("_run($self, /)\n--\n\nRun the callback now.")),
    nullary(
        c_str!("when"),
        when,
        c_str!("when($self, /)\n--\n\nThe deadline: seconds on the clock of `loop.time()`."),
    ),
    zeroed(),
]);

static PLAIN_METHODS: Methods<5> = Methods([
    nullary(
        c_str!("cancel"),
        cancel,
        c_str!("cancel($self, /)\n--\n\nThe callback will not run. No effect once it has."),
    ),
    nullary(
        c_str!("cancelled"),
        cancelled,
        c_str!("cancelled($self, /)\n--\n\nWhether it was cancelled."),
    ),
    nullary(
        c_str!("get_context"),
        get_context,
        c_str!("get_context($self, /)\n--\n\nThe context that the callback runs in."),
    ),
    nullary(c_str!("_run"), run_once, c_str!("_run($self, /)\n--\n\nRun the callback now.")),
    zeroed(),
]);

const fn zeroed() -> ffi::PyMethodDef {
    ffi::PyMethodDef::zeroed()
}

/// The `__class__` attribute and the end of the table.
struct Getters([ffi::PyGetSetDef; 2]);
// SAFETY: never written after it was built; only static data is pointed to.
unsafe impl Sync for Getters {}
static GETTERS: Getters = Getters([
    ffi::PyGetSetDef {
        name: c_str!("__class__").as_ptr(),
        get: Some(class),
        set: None,
        doc: ptr::null(),
        closure: ptr::null_mut(),
    },
    ffi::PyGetSetDef {
        name: ptr::null(),
        get: None,
        set: None,
        doc: ptr::null(),
        closure: ptr::null_mut(),
    },
]);

struct Members([ffi::PyMemberDef; 2]);
// SAFETY: as above.
unsafe impl Sync for Members {}
static MEMBERS: Members = Members([
    ffi::PyMemberDef {
        name: c_str!("__weaklistoffset__").as_ptr(),
        type_code: ffi::Py_T_PYSSIZET,
        offset: std::mem::offset_of!(Object, weak) as ffi::Py_ssize_t,
        flags: ffi::Py_READONLY,
        doc: ptr::null(),
    },
    ffi::PyMemberDef { name: ptr::null(), type_code: 0, offset: 0, flags: 0, doc: ptr::null() },
]);

/// Makes the two classes and puts them in the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    let make = |name: &'static std::ffi::CStr,
                methods: *const ffi::PyMethodDef,
                doc: &'static std::ffi::CStr| {
        let mut slots = [
            slot(ffi::Py_tp_dealloc, dealloc as *mut _),
            slot(ffi::Py_tp_repr, repr as *mut _),
            slot(ffi::Py_tp_richcompare, compare as *mut _),
            slot(ffi::Py_tp_hash, hash as *mut _),
            slot(ffi::Py_tp_methods, methods.cast_mut().cast()),
            slot(ffi::Py_tp_getset, ptr::from_ref(&GETTERS.0).cast_mut().cast()),
            slot(ffi::Py_tp_members, ptr::from_ref(&MEMBERS.0).cast_mut().cast()),
            slot(ffi::Py_tp_doc, doc.as_ptr().cast_mut().cast()),
            slot(0, ptr::null_mut()),
        ];
        let mut spec = ffi::PyType_Spec {
            name: name.as_ptr(),
            basicsize: size_of::<Object>() as c_int,
            itemsize: 0,
            flags: (ffi::Py_TPFLAGS_DEFAULT
                | ffi::Py_TPFLAGS_DISALLOW_INSTANTIATION
                | ffi::Py_TPFLAGS_IMMUTABLETYPE) as u32,
            slots: slots.as_mut_ptr(),
        };
        // SAFETY: the tables are static, the slots live through the call, and the layout begins with
        // a PyObject; a new reference or an error comes back.
        unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyType_FromSpec(&raw mut spec)) }
    };
    let handle = make(
        c_str!("wireway._native.Handle"),
        PLAIN_METHODS.0.as_ptr(),
        c_str!("A callback that is to run soon. Made by the loop; see asyncio.Handle."),
    )?;
    let timer = make(
        c_str!("wireway._native.TimerHandle"),
        METHODS.0.as_ptr(),
        c_str!("A callback with a deadline. Made by the loop; see asyncio.TimerHandle."),
    )?;
    module.add("Handle", &handle)?;
    module.add("TimerHandle", &timer)?;
    HANDLE.store(handle.into_ptr().cast(), Ordering::Relaxed);
    TIMER_HANDLE.store(timer.into_ptr().cast(), Ordering::Relaxed);
    Ok(())
}
