//! The one place where errors of the core become Python exceptions.

use std::io;

use pyo3::exceptions::{PyOSError, PyRuntimeError};
use pyo3::prelude::*;
use pyo3::types::PyString;

/// An `OSError` with errno and text; Python picks the subclass (`ConnectionResetError`, ...).
///
/// An error without an errno (a limit of a back end) becomes `DescriptorLimitError`.
pub fn os_error(error: &io::Error) -> PyErr {
    match error.raw_os_error() {
        Some(errno) => PyOSError::new_err((errno, errno_text(errno))),
        None => {
            // SAFETY: errors are mapped with the GIL held.
            let py = unsafe { Python::assume_attached() };
            ours(py, "DescriptorLimitError", &error.to_string())
        }
    }
}

/// An error of the tree in `wireway.errors`.
pub fn ours(py: Python<'_>, class: &str, text: &str) -> PyErr {
    let make = || py.import("wireway.errors")?.getattr(class)?.call1((text,));
    make().map_or_else(|error| error, PyErr::from_value)
}

/// Whether it is that error of the tree in `wireway.errors`.
pub fn is_ours(py: Python<'_>, error: &PyErr, class: &str) -> bool {
    let class = py.import("wireway.errors").and_then(|module| module.getattr(class));
    class.is_ok_and(|class| error.is_instance(py, &class))
}

/// What `os.strerror` says.
fn errno_text(errno: i32) -> String {
    let text = io::Error::from_raw_os_error(errno).to_string();
    // The standard library of Rust appends " (os error N)".
    text.rsplit_once(" (os error").map_or(text.clone(), |(text, _)| text.to_owned())
}

/// The error of a loop that was closed, in asyncio's words.
pub fn loop_closed() -> PyErr {
    PyRuntimeError::new_err("Event loop is closed")
}

/// The error of a call from a thread that does not run the loop, in asyncio's words and with advice.
pub fn wrong_thread() -> PyErr {
    PyRuntimeError::new_err(
        "Non-thread-safe operation invoked on an event loop other than the current one: \
         the loop runs in another thread, use loop.call_soon_threadsafe() or \
         asyncio.run_coroutine_threadsafe()",
    )
}

/// Whether an exception must leave the loop instead of being reported: `SystemExit`,
/// `KeyboardInterrupt`.
pub fn leaves_the_loop(py: Python<'_>, error: &PyErr) -> bool {
    error.is_instance_of::<pyo3::exceptions::PySystemExit>(py)
        || error.is_instance_of::<pyo3::exceptions::PyKeyboardInterrupt>(py)
}

/// Whether an error is an `OSError`: asyncio reports those of a connection only in debug mode.
pub fn is_os_error(py: Python<'_>, error: &PyErr) -> bool {
    error.is_instance_of::<PyOSError>(py)
}

/// `type(object).__name__`, for messages.
pub fn type_name(object: &Bound<'_, PyAny>) -> String {
    object.get_type().name().map_or_else(
        |_| "?".to_owned(),
        |name: Bound<'_, PyString>| name.to_string_lossy().into_owned(),
    )
}
