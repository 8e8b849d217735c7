//! The framings of `wireway.framing` as the core's: parsing them, encoding what is sent, their errors.
//!
//! Knows no connection: it is lent its decoder and its queue.

use std::cell::RefCell;
use std::sync::{Arc, Mutex};

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};
use wireway_core::buffer::Pool;
use wireway_core::conn::Conn;
use wireway_core::frame::{
    ByteOrder, Decoder, Delimiter, FixedLength, FrameError, Framing, Layout, LengthPrefix,
    MAX_HEADER, Mbap, Message, Tpkt, Varint, Wrapped,
};

use crate::errors::type_name;
use crate::memory::{KEEP_FROM, KeptBytes, NewBytes, with_bytes};

mod function;
mod splitter;

use function::Function;
pub use splitter::FrameSplitter;

/// Reads what `_native()` of a framing returns: a name, and what belongs to it.
pub fn parse(framing: &Bound<'_, PyAny>) -> PyResult<Framing> {
    let wrong = |text: String| PyValueError::new_err(text);
    let kind: String = framing.get_item(0)?.extract()?;
    match kind.as_str() {
        "raw" => Ok(Framing::Raw),
        "length" => {
            type Parts = (String, usize, String, usize, usize, bool, i64, usize);
            let (_, width, order, limit, offset, includes_header, adjustment, strip) =
                framing.extract::<Parts>()?;
            let order = match order.as_str() {
                "big" => ByteOrder::Big,
                "little" => ByteOrder::Little,
                other => return Err(wrong(format!("unknown byte order {other:?}"))),
            };
            let layout = Layout { offset, includes_header, adjustment, strip };
            LengthPrefix::laid_out(width, order, limit, layout)
                .map(Framing::LengthPrefix)
                .ok_or_else(|| wrong(format!("no length prefix of {width} bytes, {layout:?}")))
        }
        "delimiter" => {
            let (_, bytes, limit, keep): (String, Vec<u8>, usize, bool) = framing.extract()?;
            Delimiter::new(&bytes, limit, keep)
                .map(Framing::Delimiter)
                .ok_or_else(|| wrong(format!("no delimiter of {} bytes", bytes.len())))
        }
        "lines" => {
            let (_, limit, keep): (String, usize, bool) = framing.extract()?;
            Ok(Framing::Delimiter(Delimiter::lines(limit, keep)))
        }
        "fixed" => {
            let (_, size): (String, usize) = framing.extract()?;
            FixedLength::new(size)
                .map(Framing::FixedLength)
                .ok_or_else(|| wrong(format!("no messages of {size} bytes")))
        }
        "varint" => {
            let (_, most, limit): (String, usize, usize) = framing.extract()?;
            Varint::new(most, limit)
                .map(Framing::Varint)
                .ok_or_else(|| wrong(format!("no varint of {most} bytes")))
        }
        "tpkt" => Ok(Framing::Tpkt(Tpkt::new(framing.extract::<(String, usize)>()?.1))),
        "mbap" => Ok(Framing::Mbap(Mbap::new(framing.extract::<(String, usize)>()?.1))),
        "custom" => {
            type Parts = (String, Py<PyAny>, Option<Py<PyAny>>, usize, Py<PyAny>, Py<PyAny>);
            let (_, cut, wrap, limit, need, frame) = framing.extract::<Parts>()?;
            let raised = Mutex::new(None);
            Ok(Framing::Custom(Arc::new(Function { cut, wrap, limit, need, frame, raised })))
        }
        other => Err(wrong(format!("unknown framing {other:?}"))),
    }
}

/// The next message of a connection, as [`Decoder::next`]. A function of the user's runs while no cell is borrowed.
#[inline]
pub fn next<'a>(
    decoder: &RefCell<Decoder<NewBytes>>,
    framing: &Framing,
    data: &mut &'a [u8],
) -> Result<Option<Message<'a, NewBytes>>, FrameError> {
    if matches!(framing, Framing::Custom(_)) {
        let mut taken = decoder.take();
        let result = taken.next(framing, data);
        drop(decoder.replace(taken));
        return result;
    }
    decoder.borrow_mut().next(framing, data)
}

/// Queues the frame of the message `data`: any bytes-like object.
///
/// # Errors
///
/// `FrameError` for a message that the framing refuses, `TypeError` for no bytes, and what the user's function
/// raises.
#[inline]
pub fn queue(
    conn: &RefCell<Conn>,
    pool: &Pool,
    framing: &Framing,
    data: &Bound<'_, PyAny>,
) -> PyResult<()> {
    let mut before = [0; MAX_HEADER];
    if let Ok(bytes) = data.cast::<PyBytes>() {
        let content = bytes.as_bytes();
        if content.len() < KEEP_FROM {
            return queue_copy(conn, pool, framing, content);
        }
        let wrapped = framing.wrap(content, &mut before).map_err(|e| refused(framing, &e))?;
        let mut conn = conn.borrow_mut();
        match wrapped {
            Wrapped::Around { header, trailer } => {
                if header > 0 {
                    conn.write(pool, &before[..header]);
                }
                conn.keep(pool, KeptBytes::boxed(bytes));
                if !trailer.is_empty() {
                    conn.write(pool, trailer);
                }
            }
            Wrapped::Instead(frame) => conn.write(pool, &frame),
        }
        return Ok(());
    }
    lend(data, |content| queue_copy(conn, pool, framing, content))?
}

/// Queues the frame of a copy of `content`.
///
/// # Errors
///
/// As [`queue`].
#[inline]
pub fn queue_copy(
    conn: &RefCell<Conn>,
    pool: &Pool,
    framing: &Framing,
    content: &[u8],
) -> PyResult<()> {
    let mut before = [0; MAX_HEADER];
    let wrapped = framing.wrap(content, &mut before).map_err(|e| refused(framing, &e))?;
    let mut conn = conn.borrow_mut();
    match wrapped {
        Wrapped::Around { header, trailer } => {
            conn.write_pair(pool, &before[..header], content);
            if !trailer.is_empty() {
                conn.write(pool, trailer);
            }
        }
        Wrapped::Instead(frame) => conn.write(pool, &frame),
    }
    Ok(())
}

/// The frame of the message `data`, for who sends it more than once.
///
/// # Errors
///
/// As [`queue`].
pub fn encoded(framing: &Framing, data: &Bound<'_, PyAny>) -> PyResult<Vec<u8>> {
    let mut frame = Vec::new();
    lend(data, |content| framing.encode(content, &mut frame))?.map_err(|e| refused(framing, &e))?;
    Ok(frame)
}

fn lend<R>(data: &Bound<'_, PyAny>, body: impl FnOnce(&[u8]) -> R) -> PyResult<R> {
    // SAFETY: a live object; the check reads its type.
    if unsafe { ffi::PyObject_CheckBuffer(data.as_ptr()) } == 0 {
        return Err(PyTypeError::new_err(format!(
            "a message is a bytes-like object, not {:?}",
            type_name(data)
        )));
    }
    with_bytes(data, body)
}

/// The exception that the user's function raised last, once: it is behind a [`FrameError::Custom`].
pub fn exception(framing: &Framing) -> Option<PyErr> {
    let Framing::Custom(cut) = framing else { return None };
    cut.as_any().downcast_ref::<Function>()?.take_raised()
}

/// The error of who sends a message that the framing refuses.
#[cold]
fn refused(framing: &Framing, error: &FrameError) -> PyErr {
    // SAFETY: messages are sent with the GIL held.
    let py = unsafe { Python::assume_attached() };
    if let Some(raised) = exception(framing) {
        return raised;
    }
    let text = match error {
        FrameError::TooLarge { length, limit } => {
            format!("message of {length} bytes, the framing's limit is {limit} bytes")
        }
        other => other.to_string(),
    };
    frame_error(py, error.code(), text, None, None)
}

/// A `wireway.framing.FrameError`.
fn frame_error(
    py: Python<'_>,
    code: &str,
    text: String,
    messages: Option<&Bound<'_, PyList>>,
    cause: Option<PyErr>,
) -> PyErr {
    let class = || py.import("wireway.framing")?.getattr("FrameError");
    let error = match class().and_then(|class| class.call1((text, code, messages))) {
        Ok(error) => PyErr::from_value(error),
        Err(error) => error,
    };
    if cause.is_some() {
        error.set_cause(py, cause);
    }
    error
}
