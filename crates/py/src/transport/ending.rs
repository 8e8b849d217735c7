//! Every way to the end, and what is told of it.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::errors::{is_os_error, leaves_the_loop};
use crate::event_loop::LoopCore;
use crate::interp;

use super::StreamTransport;

impl StreamTransport {
    pub(super) fn close_gracefully(&self, slf: &Bound<'_, Self>) -> PyResult<()> {
        if self.flags.get().closing {
            return Ok(());
        }
        self.change(|flags| flags.closing = true);
        // What was written before is sent now, as if `write` had sent it: what is written after is not.
        let reactor = &self.core.get().reactor;
        let outcome = {
            let mut conn = self.conn.borrow_mut();
            conn.pause(&*reactor.driver);
            conn.flush(&*reactor.driver, &reactor.pool)
        };
        self.flushed_inside(slf, self.core.bind(slf.py()), outcome)
    }

    /// An error that ends the connection. asyncio logs `OSError` only in debug mode.
    pub(super) fn fatal(
        &self,
        slf: &Bound<'_, Self>,
        error: &PyErr,
        message: &str,
    ) -> PyResult<()> {
        let py = slf.py();
        if leaves_the_loop(py, error) {
            return Err(error.clone_ref(py));
        }
        let core = self.core.bind(py);
        if is_os_error(py, error) {
            if core.get().debug.get() {
                let keywords = PyDict::new(py);
                keywords.set_item("exc_info", error.value(py))?;
                interp::logger(py)?.call_method(
                    "debug",
                    ("%r: %s", slf, message),
                    Some(&keywords),
                )?;
            }
        } else {
            let protocol = self.protocol(py).unwrap_or_else(|| py.None().into_bound(py));
            LoopCore::report(
                core,
                message,
                error,
                &[("transport", slf.as_any()), ("protocol", &protocol)],
            )?;
        }
        self.force_close(slf, Some(error))
    }

    pub(super) fn force_close(&self, slf: &Bound<'_, Self>, error: Option<&PyErr>) -> PyResult<()> {
        if self.flags.get().lost {
            return Ok(());
        }
        self.change(|flags| flags.closing = true);
        {
            let reactor = &self.core.get().reactor;
            let mut conn = self.conn.borrow_mut();
            conn.pause(&*reactor.driver);
            conn.discard(&reactor.pool);
        }
        self.lose(slf, error)
    }

    /// Schedules `connection_lost`, once.
    pub(super) fn lose(&self, slf: &Bound<'_, Self>, error: Option<&PyErr>) -> PyResult<()> {
        let py = slf.py();
        if self.flags.get().lost {
            return Ok(());
        }
        self.change(|flags| flags.lost = true);
        self.lost_writes.set(self.lost_writes.get() + 1);
        let error = match error {
            Some(error) => error.value(py).clone().into_any(),
            None => py.None().into_bound(py),
        };
        let core = self.core.bind(py);
        if core.get().is_closed() {
            // Nobody will run it any more: at least the descriptor goes.
            self.release(core.get());
            return Ok(());
        }
        let keywords = PyDict::new(py);
        keywords.set_item(intern!(py, "context"), &self.context)?;
        let callback = slf.getattr(intern!(py, "_call_connection_lost"))?;
        core.call_method(intern!(py, "call_soon"), (callback, error), Some(&keywords)).map(drop)
    }

    /// The loop is closed: the descriptor goes, and the protocol is not told. As asyncio does, warn.
    pub fn loop_closed(slf: &Bound<'_, Self>, core: &LoopCore) {
        let (this, py) = (slf.get(), slf.py());
        let text = format!("unclosed transport {}", Self::__repr__(slf));
        if let Err(error) = interp::warn_resource(py, &text, slf) {
            error.write_unraisable(py, Some(slf));
        }
        this.change(|flags| {
            flags.closing = true;
            flags.lost = true;
        });
        this.release(core);
    }
}
