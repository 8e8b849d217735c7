//! `FrameSplitter`: the framings without a socket, for tests and for people who look at bytes.

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyTuple};
use wireway_core::frame::{Decoder, FrameError, Framing, Head, Message};

use super::{encoded, exception, frame_error, lend, parse};
use crate::errors::leaves_the_loop;
use crate::memory::{self, NewBytes};

/// Cuts bytes into messages, and makes frames of messages, without any socket.
///
/// May be used from any thread, by one at a time.
#[pyclass(weakref, module = "wireway._native")]
pub struct FrameSplitter {
    framing: Framing,
    decoder: Decoder<NewBytes>,
    /// Bytes that the decoder has not seen.
    rest: Vec<u8>,
    failed: Option<FrameError>,
}

#[pymethods]
impl FrameSplitter {
    /// `framing` is what `_native()` of a framing returns.
    #[new]
    fn new(framing: &Bound<'_, PyAny>) -> PyResult<Self> {
        let framing = parse(framing)?;
        Ok(Self { framing, decoder: Decoder::default(), rest: Vec::new(), failed: None })
    }

    /// Takes `data` and returns the messages that are whole now, at most `most` of them.
    ///
    /// Raises `FrameError` for bytes that are no frame, with the messages before them in `messages`; from then
    /// on always.
    #[pyo3(signature = (data, most = None))]
    fn feed<'py>(
        &mut self,
        data: &Bound<'py, PyAny>,
        most: Option<usize>,
    ) -> PyResult<Bound<'py, PyList>> {
        let most = most.unwrap_or(usize::MAX);
        let list = PyList::empty(data.py());
        let result = lend(data, |content| {
            if self.rest.is_empty() {
                let mut left = content;
                let result = self.cut(&mut left, most, &list);
                self.rest.extend_from_slice(left);
                return result;
            }
            let mut whole = std::mem::take(&mut self.rest);
            whole.extend_from_slice(content);
            let mut left = whole.as_slice();
            let result = self.cut(&mut left, most, &list);
            let gone = whole.len() - left.len();
            whole.drain(..gone);
            self.rest = whole;
            result
        })?;
        result.map(|()| list)
    }

    /// The frame of one message. Raises `FrameError` for one that the framing refuses.
    fn encode<'py>(&self, message: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
        Ok(PyBytes::new(message.py(), &encoded(&self.framing, message)?))
    }

    /// Bytes that are kept: a begun frame, and whatever was not looked at yet.
    #[getter]
    fn pending(&self) -> usize {
        self.decoder.pending() + self.rest.len()
    }

    /// From here on another framing holds, also for all bytes that are kept: the next `feed` cuts them anew.
    fn switch(&mut self, framing: &Bound<'_, PyAny>) -> PyResult<()> {
        let framing = parse(framing)?;
        let mut kept = self.decoder.switch();
        kept.append(&mut self.rest);
        (self.framing, self.rest) = (framing, kept);
        Ok(())
    }

    /// What stands at the front of `data`: the bytes needed in all to tell, or a frame as the bytes before its
    /// message, of the message, and after it. Raises `FrameError` for what is no frame.
    #[staticmethod]
    fn look<'py>(
        framing: &Bound<'py, PyAny>,
        data: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = data.py();
        let framing = parse(framing)?;
        match lend(data, |content| framing.look(content))? {
            Ok(Head::Need(total)) => Ok(total.into_pyobject(py)?.into_any()),
            Ok(Head::Frame { skip, body, tail }) => {
                Ok(PyTuple::new(py, [skip, body, tail])?.into_any())
            }
            Err(error) => Err(failed(py, &framing, &error, None)),
        }
    }
}

/// The error of bytes that are no frame, unless what the cut function raised is none of ours to keep.
fn failed(
    py: Python<'_>,
    framing: &Framing,
    error: &FrameError,
    messages: Option<&Bound<'_, PyList>>,
) -> PyErr {
    match exception(framing) {
        Some(raised) if leaves_the_loop(py, &raised) => raised,
        cause => frame_error(py, error.code(), error.to_string(), messages, cause),
    }
}

impl FrameSplitter {
    fn cut(&mut self, left: &mut &[u8], most: usize, list: &Bound<'_, PyList>) -> PyResult<()> {
        let py = list.py();
        while self.failed.is_none() && list.len() < most {
            match self.decoder.next(&self.framing, left) {
                Ok(Some(Message::Lent(bytes))) => list.append(memory::bytes(py, bytes))?,
                Ok(Some(Message::Whole(message))) => list.append(message.finish(py))?,
                Ok(None) => return Ok(()),
                Err(error) => self.failed = Some(error),
            }
        }
        match &self.failed {
            None => Ok(()),
            Some(error) => Err(failed(py, &self.framing, error, Some(list))),
        }
    }
}
