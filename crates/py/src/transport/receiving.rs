//! What came: to `data_received`, to a `BufferedProtocol`, or the end.

use pyo3::exceptions::PyRuntimeError;
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use wireway_core::op::Completion;

use crate::errors::os_error;
use crate::event_loop::LoopCore;
use crate::interp;
use crate::memory::{self};

use super::StreamTransport;

impl StreamTransport {
    /// An operation completed.
    #[inline]
    pub fn completed(
        &self,
        slf: &Bound<'_, Self>,
        core: &Bound<'_, LoopCore>,
        completion: Completion<'_>,
    ) -> PyResult<()> {
        match completion {
            Completion::Received(data) => self.received(slf, data),
            Completion::ReceiveEnded(Ok(())) => self.ended(slf),
            Completion::ReceiveEnded(Err(error)) => {
                self.fatal(slf, &os_error(&error), "Fatal read error on socket transport")
            }
            Completion::Sent(queue, result) => {
                let reactor = &core.get().reactor;
                let outcome =
                    self.conn.borrow_mut().sent(&*reactor.driver, &reactor.pool, queue, result);
                self.flushed(slf, core, outcome)
            }
            _ => Ok(()),
        }
    }

    #[inline]
    pub(super) fn received(&self, slf: &Bound<'_, Self>, data: &[u8]) -> PyResult<()> {
        let py = slf.py();
        if self.flags.get().buffered {
            return self.received_buffered(slf, data);
        }
        self.received_whole(slf, &memory::bytes(py, data))
    }

    /// Whether what comes next goes to `data_received`: then it is received into its own object.
    pub fn wants_room(&self) -> bool {
        !self.flags.get().buffered
    }

    #[inline]
    pub fn received_whole(&self, slf: &Bound<'_, Self>, data: &Bound<'_, PyBytes>) -> PyResult<()> {
        let py = slf.py();
        let Some(protocol) = self.protocol(py) else {
            return Ok(());
        };
        let result = interp::inside(py, &self.context, || {
            let name = intern!(py, "data_received");
            interp::call_method_1(py, protocol.as_ptr(), name, data.as_ptr()).map(drop)
        });
        match result {
            Ok(()) => Ok(()),
            Err(error) => {
                self.fatal(slf, &error, "Fatal error: protocol.data_received() call failed.")
            }
        }
    }

    pub(super) fn received_buffered(&self, slf: &Bound<'_, Self>, mut data: &[u8]) -> PyResult<()> {
        let py = slf.py();
        while !data.is_empty() {
            let flags = self.flags.get();
            if flags.closing {
                return Ok(());
            }
            if flags.paused {
                self.stash.borrow_mut().extend_from_slice(data);
                return Ok(());
            }
            if !flags.buffered {
                return self.received(slf, data);
            }
            let Some(protocol) = self.protocol(py) else {
                return Ok(());
            };
            let lent = interp::inside(py, &self.context, || {
                let buffer = protocol.call_method1(intern!(py, "get_buffer"), (-1,))?;
                match buffer.len()? {
                    0 => Err(PyRuntimeError::new_err("get_buffer() returned an empty buffer")),
                    _ => Ok(buffer),
                }
            });
            let buffer = match lent {
                Ok(buffer) => buffer,
                Err(error) => {
                    let message = "Fatal error: protocol.get_buffer() call failed.";
                    return self.fatal(slf, &error, message);
                }
            };
            let count = match copy_into(&buffer, data) {
                Ok(count) => count,
                Err(error) => {
                    return self.fatal(slf, &error, "Fatal read error on socket transport");
                }
            };
            data = &data[count..];
            let told = interp::inside(py, &self.context, || {
                protocol.call_method1(intern!(py, "buffer_updated"), (count,)).map(drop)
            });
            if let Err(error) = told {
                let message = "Fatal error: protocol.buffer_updated() call failed.";
                return self.fatal(slf, &error, message);
            }
        }
        Ok(())
    }

    pub(super) fn ended(&self, slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let core = self.core.bind(py);
        if core.get().debug.get() {
            interp::logger(py)?.call_method1("debug", ("%r received EOF", slf))?;
        }
        let Some(protocol) = self.protocol(py) else {
            return Ok(());
        };
        let keep_open = interp::inside(py, &self.context, || {
            protocol.call_method0(intern!(py, "eof_received"))?.is_truthy()
        });
        match keep_open {
            Ok(true) => Ok(()),
            Ok(false) => self.close_gracefully(slf),
            Err(error) => {
                self.fatal(slf, &error, "Fatal error: protocol.eof_received() call failed.")
            }
        }
    }
}

/// Copies as much of `data` as fits into a writable buffer object.
fn copy_into(buffer: &Bound<'_, PyAny>, data: &[u8]) -> PyResult<usize> {
    let py = buffer.py();
    // SAFETY: all-zero is a valid empty Py_buffer; it is filled by the call and released below. The
    // copy stays within both lengths, and nothing runs in between that could resize the exporter.
    unsafe {
        let mut view: ffi::Py_buffer = std::mem::zeroed();
        if ffi::PyObject_GetBuffer(buffer.as_ptr(), &raw mut view, ffi::PyBUF_WRITABLE) < 0 {
            return Err(interp::fetch(py));
        }
        let count = data.len().min(view.len as usize);
        std::ptr::copy_nonoverlapping(data.as_ptr(), view.buf.cast(), count);
        ffi::PyBuffer_Release(&raw mut view);
        if count == 0 {
            // It has a length, but no bytes: an array of empty rows.
            return Err(PyRuntimeError::new_err("get_buffer() returned an empty buffer"));
        }
        Ok(count)
    }
}
