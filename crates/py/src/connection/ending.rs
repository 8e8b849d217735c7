//! Every way to the end, and the reason that is given for it.

use pyo3::intern;
use pyo3::prelude::*;

use crate::errors::{leaves_the_loop, ours};
use crate::event_loop::LoopCore;

use super::{Connection, Farewell};

impl Connection {
    pub(super) fn closed_error(&self, py: Python<'_>) -> PyErr {
        let why = self.farewell.borrow().as_ref().map_or_else(
            || "the connection is closed".to_owned(),
            |farewell| format!("the connection is closed: {}", farewell.why),
        );
        ours(py, "ConnectionClosedError", &why)
    }

    /// Ends the connection at once; what is queued is lost.
    pub(super) fn end(
        &self,
        slf: &Bound<'_, Self>,
        core: &Bound<'_, LoopCore>,
        code: &'static str,
        why: String,
        error: Option<PyErr>,
    ) -> PyResult<()> {
        if self.flags.get().closed {
            return Ok(());
        }
        self.change(|flags| flags.closing = true);
        self.keep_farewell(code, why, error);
        self.over(slf, core)
    }

    /// Ends the connection when what is queued was sent: what was answered before still goes out.
    pub(super) fn begin_close(
        &self,
        slf: &Bound<'_, Self>,
        core: &Bound<'_, LoopCore>,
        code: &'static str,
        why: String,
        error: Option<PyErr>,
    ) -> PyResult<()> {
        if self.flags.get().closing {
            return Ok(());
        }
        self.change(|flags| flags.closing = true);
        self.keep_farewell(code, why, error);
        let reactor = &core.get().reactor;
        let outcome = {
            let mut conn = self.conn.borrow_mut();
            conn.pause(&*reactor.driver);
            if self.flags.get().ended {
                // The peer has said all: closing sends the FIN.
                conn.flush(&*reactor.driver, &reactor.pool)
            } else {
                conn.finish(&*reactor.driver, &reactor.pool)
            }
        };
        self.flushed(slf, core, outcome)
    }

    /// Ends the connection because the server stops.
    pub(super) fn server_stopped(
        &self,
        slf: &Bound<'_, Self>,
        core: &Bound<'_, LoopCore>,
    ) -> PyResult<()> {
        self.begin_close(slf, core, "server-stopped", "the server stops".to_owned(), None)
    }

    /// The same once the running handler and what is queued are done.
    pub(super) fn drain_and_close(
        &self,
        slf: &Bound<'_, Self>,
        core: &Bound<'_, LoopCore>,
    ) -> PyResult<()> {
        let flags = self.flags.get();
        if flags.busy || flags.pressed {
            // Not one message more; what waits is dropped.
            self.conn.borrow().pause(&*core.get().reactor.driver);
            drop(self.backlog.take());
            self.change(|flags| {
                flags.stopping = true;
                flags.paused = false;
            });
            return Ok(());
        }
        self.server_stopped(slf, core)
    }

    /// The same at once, without waiting for the handler.
    pub(super) fn abort_and_cancel(
        &self,
        slf: &Bound<'_, Self>,
        core: &Bound<'_, LoopCore>,
    ) -> PyResult<()> {
        let py = slf.py();
        let task = self.task.borrow().as_ref().map(|task| task.clone_ref(py));
        self.end(slf, core, "aborted", "the server stopped".to_owned(), None)?;
        match task {
            Some(task) => task.call_method0(py, intern!(py, "cancel")).map(drop),
            None => Ok(()),
        }
    }

    pub(super) fn keep_farewell(&self, code: &'static str, why: String, error: Option<PyErr>) {
        let mut farewell = self.farewell.borrow_mut();
        if farewell.is_none() {
            *farewell = Some(Box::new(Farewell { code, why, error }));
        }
    }

    /// The end: the descriptor goes, waits end, the server is told.
    pub(super) fn over(&self, slf: &Bound<'_, Self>, core: &Bound<'_, LoopCore>) -> PyResult<()> {
        let py = slf.py();
        if self.flags.get().closed {
            return Ok(());
        }
        self.change(|flags| flags.closed = true);
        let server = self.server.get();
        let (closed, wants) = server
            .with_handlers(|handlers| (Some(handlers.closed.clone_ref(py)), handlers.wants_close))
            .unwrap_or((None, false));
        let ordinary = self.farewell.borrow().as_ref().is_none_or(|farewell| {
            matches!(farewell.code, "peer-closed" | "closed" | "server-stopped" | "aborted")
        });
        let mut result = Ok(());
        if let Some(closed) = closed
            && (wants || !ordinary)
        {
            let told = {
                let farewell = self.farewell.borrow();
                farewell.as_ref().map(|farewell| {
                    let error = farewell.error.as_ref().map(|error| error.value(py).clone());
                    (farewell.code, farewell.why.clone(), error)
                })
            };
            if let Some((code, why, error)) = told {
                // The descriptor is still open: `peer` and `local` answer in `on_close`.
                result = closed.call1(py, (slf, code, why, error)).map(drop);
            }
        }
        self.release(core.get());
        self.settle(py, Some(self.closed_error(py)))?;
        server.closed(py)?;
        match result {
            Err(error) if !leaves_the_loop(py, &error) => {
                LoopCore::report(core, "on_close failed", &error, &[("connection", slf.as_any())])
            }
            other => other,
        }
    }

    pub(super) fn release(&self, core: &LoopCore) {
        let fd = self.conn.borrow().fd();
        self.conn.borrow_mut().detach(&*core.reactor.driver, &core.reactor.pool);
        let endpoint = core.displace_stream(self.token, fd);
        let backlog = self.backlog.take();
        core.descriptor_freed();
        drop((endpoint, backlog));
    }

    /// The loop is closed: the descriptor goes, nobody is told.
    pub fn loop_closed(&self, _py: Python<'_>, core: &LoopCore) {
        if !self.flags.get().closed {
            self.change(|flags| {
                flags.closing = true;
                flags.closed = true;
            });
            self.release(core);
        }
    }
}
