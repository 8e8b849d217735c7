//! A framing that functions of the user's cut and wrap: what they answer, and what they raise.
//!
//! Its references are not shown to the garbage collector: a `Framing` is shared natively, by more owners than the
//! collector could count. A cut function that holds its own server keeps it.

use std::any::Any;
use std::sync::{Mutex, PoisonError};

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use wireway_core::frame::{Cut, Cutting, FrameError};

use super::lend;
use crate::errors::type_name;

/// `cut` and `wrap` of a `CustomFraming`.
#[derive(Debug)]
pub(super) struct Function {
    pub(super) cut: Py<PyAny>,
    pub(super) wrap: Option<Py<PyAny>>,
    pub(super) limit: usize,
    /// The classes of the two answers.
    pub(super) need: Py<PyAny>,
    pub(super) frame: Py<PyAny>,
    pub(super) raised: Mutex<Option<PyErr>>,
}

impl Function {
    pub(super) fn take_raised(&self) -> Option<PyErr> {
        self.raised.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Keeps the exception, and says what is to be read in a log.
    fn failed(&self, py: Python<'_>, name: &str, error: PyErr) -> Box<str> {
        let kind = type_name(error.value(py).as_any());
        let said = error.value(py).to_string();
        let text = if error.is_instance_of::<PyValueError>(py) && !said.is_empty() {
            said // the way to say that the bytes are wrong
        } else {
            format!("the {name} function raised {kind}: {said}")
        };
        let former = self.raised.lock().unwrap_or_else(PoisonError::into_inner).replace(error);
        drop(former);
        text.into()
    }

    fn answer(&self, py: Python<'_>, data: &[u8]) -> PyResult<Cutting> {
        let answer = self.cut.bind(py).call1((PyBytes::new(py, data),))?;
        if answer.is_instance(self.need.bind(py))? {
            return Ok(Cutting::Need(answer.getattr(intern!(py, "more"))?.extract()?));
        }
        if answer.is_instance(self.frame.bind(py))? {
            let length = answer.getattr(intern!(py, "length"))?.extract()?;
            let strip = answer.getattr(intern!(py, "strip"))?.extract()?;
            return Ok(Cutting::Frame { length, strip });
        }
        Err(PyTypeError::new_err(format!(
            "it returned {}, a cut function returns wireway.framing.Need or wireway.framing.Frame",
            answer.repr()?
        )))
    }
}

impl Cut for Function {
    fn cut(&self, data: &[u8]) -> Result<Cutting, Box<str>> {
        Python::attach(|py| self.answer(py, data).map_err(|error| self.failed(py, "cut", error)))
    }

    fn limit(&self) -> usize {
        self.limit
    }

    fn wrap(&self, content: &[u8]) -> Result<Vec<u8>, FrameError> {
        let Some(wrap) = &self.wrap else {
            let text = "this CustomFraming can be read only: it was given no wrap function";
            return Err(FrameError::Custom(text.into()));
        };
        Python::attach(|py| {
            let wrapped = || {
                let frame = wrap.bind(py).call1((PyBytes::new(py, content),))?;
                lend(&frame, <[u8]>::to_vec)
            };
            wrapped().map_err(|error| FrameError::Custom(self.failed(py, "wrap", error)))
        })
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
