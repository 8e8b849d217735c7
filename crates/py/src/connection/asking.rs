//! Requests of ours to the peer: `request`, and finding the answers among what comes.
//!
//! The book-keeping is Python's, `wireway.net.requests`. What is native is that an answer is seen at once,
//! also while a handler of this very connection is suspended and waits for it: messages that come in
//! front of the answer are set aside, in order, and bounded like the backlog.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use wireway_core::frame::FrameError;

use crate::event_loop::LoopCore;

use super::flow::BACKLOG;
use super::{Connection, Flag};

impl Connection {
    /// What `request` returns.
    pub(super) fn ask<'py>(
        &self,
        slf: &Bound<'py, Self>,
        message: &Bound<'py, PyAny>,
        deadline: Option<f64>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        self.server.get().core(py).get().check_thread()?;
        if self.flags.any(Flag::CLOSING | Flag::HALF) {
            return Err(self.closed_error(py));
        }
        let replies = match self.replies(py) {
            Some(replies) => replies,
            None => {
                let class = py.import(intern!(py, "wireway.net.requests"))?.getattr("Requests")?;
                let correlate = self.server.get().correlate.as_ref().map(|object| object.bind(py));
                let replies = class.call1((slf, correlate))?;
                self.extra(|extra| extra.replies = Some(replies.clone().unbind()));
                replies
            }
        };
        self.flags.set(Flag::ANSWERED);
        let keywords = PyDict::new(py);
        keywords.set_item(intern!(py, "deadline"), deadline)?;
        replies.call_method(intern!(py, "request"), (message,), Some(&keywords))
    }

    fn replies<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        self.if_extra(|extra| extra.replies.as_ref().map(|object| object.bind(py).clone()))
            .flatten()
    }

    /// Whether a message answers a request of ours; whoever waits for it has it then.
    ///
    /// # Errors
    ///
    /// The user's function could not read the id in it.
    fn is_answer(&self, message: &Bound<'_, PyBytes>) -> Result<bool, FrameError> {
        let py = message.py();
        let Some(replies) = self.replies(py) else { return Ok(false) };
        match replies.call_method1(intern!(py, "received"), (message,)) {
            Ok(waiting) => Ok(!waiting.is_none()),
            Err(error) => Err(FrameError::Custom(format!("answer_id failed: {error}").into())),
        }
    }

    /// The next message that is for the program: what was set aside first, no answers.
    pub(super) fn decode_between_answers<'py>(
        &self,
        py: Python<'py>,
        rest: &mut &[u8],
    ) -> Result<Option<Bound<'py, PyBytes>>, FrameError> {
        let aside = self.if_extra(|extra| {
            let message = extra.aside.pop_front()?;
            extra.aside_bytes -= message.as_bytes(py).len();
            Some(message)
        });
        if let Some(Some(message)) = aside {
            return Ok(Some(message.into_bound(py)));
        }
        loop {
            match self.decode_plain(py, rest)? {
                Some(message) if self.is_answer(&message)? => self.count(1),
                other => return Ok(other),
            }
        }
    }

    /// Looks for answers in what can not be handled now.
    pub(super) fn sift(&self, slf: &Bound<'_, Self>, core: &Bound<'_, LoopCore>) -> PyResult<()> {
        loop {
            if self.if_extra(|extra| extra.aside_bytes > BACKLOG).unwrap_or(false) {
                return Ok(());
            }
            let rest = self.if_extra(|extra| std::mem::take(&mut extra.backlog));
            let mut rest = rest.unwrap_or_default();
            let mut left = &rest.bytes[rest.start..];
            let next = self.decode_plain(slf.py(), &mut left);
            rest.start = rest.bytes.len() - left.len();
            self.put_back(rest);
            match next {
                Err(error) => return self.refuse(slf, core, &error),
                Ok(None) => return Ok(()),
                Ok(Some(message)) => {
                    let answer = match self.is_answer(&message) {
                        Ok(answer) => answer,
                        Err(error) => return self.refuse(slf, core, &error),
                    };
                    if answer {
                        self.count(1);
                        continue;
                    }
                    self.extra(|extra| {
                        extra.aside_bytes += message.as_bytes().len();
                        extra.aside.push_back(message.unbind());
                    });
                }
            }
        }
    }

    /// No answer can come any more: the requests under way fail.
    pub(super) fn fail_requests(&self, py: Python<'_>) -> PyResult<()> {
        let Some(replies) = self.replies(py) else { return Ok(()) };
        let partial = py.import(intern!(py, "functools"))?.getattr("partial")?;
        let error = self.closed_error(py).into_value(py);
        let make = partial.call1((error.bind(py).get_type(), error.bind(py).str()?))?;
        replies.call_method1(intern!(py, "closed"), (make,)).map(drop)
    }
}
