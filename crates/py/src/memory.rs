//! Bytes objects for what was received, and an allocator that keeps the memory of large ones.

use std::hint::black_box;
use std::os::raw::c_int;
use std::rc::Rc;
use std::sync::Once;

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::type_object::PyTypeInfo;
use pyo3::types::PyBytes;
use wireway_core::buffer::Payload;
use wireway_core::frame::Memory;

use crate::interp;

unsafe extern "C" {
    // Of the stable API (c-api/bytes), but PyO3 keeps it to itself.
    fn _PyBytes_Resize(bytes: *mut *mut ffi::PyObject, size: ffi::Py_ssize_t) -> c_int;
}

/// From this length on a message counts as large, bytes: half of glibc's first trim threshold.
const LARGE: usize = 64 * 1024;

/// glibc's `DEFAULT_MMAP_THRESHOLD_MAX` on 64 bits, less what a block's header and a page need.
const LARGEST_MAPPED: usize = (32 << 20) - (64 << 10);

/// A copy of `data`.
#[inline]
pub fn bytes<'py>(py: Python<'py>, data: &[u8]) -> Bound<'py, PyBytes> {
    expect_large(data.len());
    PyBytes::new(py, data)
}

/// Tells the allocator, once, that large blocks come and go.
///
/// glibc gives a large block back to the kernel when it is freed, and asks anew for the next: echoing
/// 1 MiB cost 257 page faults and two thirds of the system time of a message. Its thresholds adapt
/// when a block that was mapped is freed (mallopt(3), `M_MMAP_THRESHOLD`), so one is mapped and freed
/// here, never touched: blocks up to 32 MiB then come from the heap, and up to 64 MiB of free heap are
/// kept. Who has set these thresholds himself has switched the adapting off, and this does nothing.
#[inline]
pub fn expect_large(length: usize) {
    static ONCE: Once = Once::new();
    if length >= LARGE {
        ONCE.call_once(|| drop(black_box(Vec::<u8>::with_capacity(LARGEST_MAPPED))));
    }
}

/// A `bytes` object that nobody else has seen yet, to be filled. Made and used with the GIL held.
pub struct NewBytes(Py<PyBytes>);

impl NewBytes {
    /// All of it, as an object like any other.
    pub fn finish(self, py: Python<'_>) -> Bound<'_, PyBytes> {
        self.0.into_bound(py)
    }

    /// The first `length` bytes of it.
    ///
    /// # Errors
    ///
    /// `MemoryError`: the interpreter has moved it, and had no memory for that.
    pub fn finish_short(self, py: Python<'_>, length: usize) -> PyResult<Bound<'_, PyBytes>> {
        let mut object = self.0.into_ptr();
        // SAFETY: the object is a bytes object with one reference, ours, and no longer than before.
        // On failure the reference is gone, and null is in its place.
        unsafe {
            if _PyBytes_Resize(&raw mut object, length as ffi::Py_ssize_t) < 0 {
                return Err(PyErr::fetch(py));
            }
            Ok(Bound::from_owned_ptr(py, object).cast_into_unchecked())
        }
    }
}

impl Memory for NewBytes {
    fn allocate(length: usize) -> Option<Self> {
        expect_large(length);
        // SAFETY: made with the GIL held; the object is new, and nobody else sees it before it is
        // filled.
        unsafe {
            let py = Python::assume_attached();
            let size = ffi::Py_ssize_t::try_from(length).ok()?;
            let object = ffi::PyBytes_FromStringAndSize(std::ptr::null(), size);
            if object.is_null() {
                ffi::PyErr_Clear();
                return None;
            }
            Some(Self(Bound::from_owned_ptr(py, object).cast_into_unchecked().unbind()))
        }
    }

    fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: the object is not shared until it is finished, so writing to it is allowed
        // (PyBytes_FromStringAndSize, "must be filled in"); the size is its own.
        unsafe {
            let object = self.0.as_ptr();
            let start = ffi::PyBytes_AsString(object).cast::<u8>();
            std::slice::from_raw_parts_mut(start, ffi::PyBytes_Size(object) as usize)
        }
    }
}

/// `bytes` objects from this size on are kept by reference; smaller ones are copied, once.
pub const KEEP_FROM: usize = 16 * 1024;

/// A `bytes` object that waits to be sent.
pub struct KeptBytes(Py<PyBytes>);

// SAFETY: a bytes object never changes and never moves; the reference keeps it alive.
unsafe impl Payload for KeptBytes {
    fn bytes(&self) -> &[u8] {
        // SAFETY: payloads are read with the GIL held or, by the kernel, through the pointer taken
        // then; reading a bytes object needs no interpreter state.
        self.0.as_bytes(unsafe { Python::assume_attached() })
    }
}

impl KeptBytes {
    /// Keeps `data` alive until it is sent.
    pub fn boxed(data: &Bound<'_, PyBytes>) -> Box<Self> {
        Box::new(Self(data.clone().unbind()))
    }
}

/// Lends the content of any bytes-like object.
pub fn with_bytes<R>(data: &Bound<'_, PyAny>, body: impl FnOnce(&[u8]) -> R) -> PyResult<R> {
    let py = data.py();
    // SAFETY: all-zero is a valid empty Py_buffer; it is filled by the call and released below. The
    // exporter keeps the memory in place until then.
    unsafe {
        let mut view: ffi::Py_buffer = std::mem::zeroed();
        if ffi::PyObject_GetBuffer(data.as_ptr(), &raw mut view, ffi::PyBUF_SIMPLE) < 0 {
            let error = interp::fetch(py);
            if error.is_instance_of::<pyo3::exceptions::PyBufferError>(py) {
                // Not contiguous: a copy is.
                let copy = PyBytes::type_object(py).call1((data,))?.cast_into::<PyBytes>()?;
                return Ok(body(copy.as_bytes()));
            }
            return Err(error);
        }
        let content = if view.len == 0 {
            &[]
        } else {
            std::slice::from_raw_parts(view.buf.cast::<u8>(), view.len as usize)
        };
        let result = body(content);
        ffi::PyBuffer_Release(&raw mut view);
        Ok(result)
    }
}

/// A framed message that many connections send: one piece of memory for all.
#[derive(Clone)]
pub struct Shared(Rc<[u8]>);

// SAFETY: what an `Rc` holds does not move, nobody changes it, and the reference keeps it alive.
unsafe impl Payload for Shared {
    fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl Shared {
    /// A framed message.
    pub fn new(frame: Vec<u8>) -> Self {
        Self(frame.into())
    }

    /// Its bytes on the wire.
    pub fn len(&self) -> usize {
        self.0.len()
    }
}
