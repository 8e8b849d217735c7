//! What became of a message: `wireway.SendResult`.

use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

use pyo3::ffi;
use pyo3::prelude::*;

/// What became of a message that was given to `send_nowait`.
#[derive(Clone, Copy)]
pub enum Outcome {
    /// It is queued.
    Queued,
    /// It is queued, and more waits than the high watermark.
    Over,
    /// It was dropped.
    Dropped,
}

static MEMBERS: [AtomicPtr<ffi::PyObject>; 3] = [const { AtomicPtr::new(ptr::null_mut()) }; 3];

/// The member of the enumeration, as a new reference.
#[inline]
pub fn give(outcome: Outcome) -> *mut ffi::PyObject {
    let object = MEMBERS[outcome as usize].load(Ordering::Relaxed);
    // SAFETY: made in `learn` and never released; the GIL is held by every caller.
    unsafe { ffi::Py_INCREF(object) };
    object
}

/// Looks the members up: before the first connection, as `wireway.net.sending` imports nothing of ours.
pub fn learn(py: Python<'_>) -> PyResult<()> {
    if !MEMBERS[2].load(Ordering::Relaxed).is_null() {
        return Ok(());
    }
    let class = py.import("wireway.net.sending")?.getattr("SendResult")?;
    for (place, name) in MEMBERS.iter().zip(["QUEUED", "OVER", "DROPPED"]) {
        place.store(class.getattr(name)?.into_ptr(), Ordering::Relaxed);
    }
    Ok(())
}
