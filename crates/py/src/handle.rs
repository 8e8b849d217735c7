//! `Handle` and `TimerHandle`: a callback that is to run.
//!
//! Made for each `call_soon`, so they are plain C objects: no garbage-collector header (one that has
//! run or was cancelled holds nothing, and one that waits is held by its loop, which traverses it),
//! one allocation, the single argument kept without a tuple.
//!
//! In debug mode the loop uses the standard library's own handles instead: they record where they
//! were made.

use std::ffi::c_int;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

use pyo3::ffi;
use pyo3::ffi::c_str;
use pyo3::prelude::*;
use pyo3::types::{PyFloat, PyString, PyTuple};

use crate::errors::leaves_the_loop;
use crate::event_loop::LoopCore;
use crate::interp::{self, Methods, fetch, give, none, nullary, slot};

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

// --- the class ---------------------------------------------------------------------------------

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
