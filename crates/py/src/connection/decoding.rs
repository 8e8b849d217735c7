//! The next message out of what came, in the framing that is in force. Where frames end is the core's business.

use pyo3::prelude::*;
use pyo3::types::PyBytes;
use wireway_core::frame::{FrameError, Message};

use crate::framing;
use crate::memory::{self, NewBytes};

use super::{Connection, Flag};

impl Connection {
    /// The next whole message at the front of `rest`.
    #[inline]
    pub(super) fn decode<'py>(
        &self,
        py: Python<'py>,
        rest: &mut &[u8],
    ) -> Result<Option<Bound<'py, PyBytes>>, FrameError> {
        if self.flags.any(Flag::ANSWERED) {
            return self.decode_between_answers(py, rest);
        }
        self.decode_plain(py, rest)
    }

    /// The same, whatever it is.
    #[inline]
    pub(super) fn decode_plain<'py>(
        &self,
        py: Python<'py>,
        rest: &mut &[u8],
    ) -> Result<Option<Bound<'py, PyBytes>>, FrameError> {
        if self.flags.any(Flag::REFRAMED | Flag::TAPPED) {
            return self.decode_rarely(py, rest);
        }
        let next = framing::next(&self.decoder, &self.server.get().framing, rest)?;
        Ok(next.map(|message| whole(py, message)))
    }

    /// The same with a framing of its own, or while somebody watches.
    #[cold]
    fn decode_rarely<'py>(
        &self,
        py: Python<'py>,
        rest: &mut &[u8],
    ) -> Result<Option<Bound<'py, PyBytes>>, FrameError> {
        let before = rest.len();
        // A function of the user's may cut: no borrow over it.
        let own = self.if_extra(|extra| extra.framing.clone()).flatten();
        let framing = own.as_ref().unwrap_or(&self.server.get().framing);
        let next = framing::next(&self.decoder, framing, rest)?;
        let message = next.map(|message| whole(py, message));
        if self.flags.any(Flag::TAPPED) {
            self.tap_decoded(before - rest.len(), rest.len(), message.as_ref());
        }
        Ok(message)
    }
}

#[inline]
fn whole<'py>(py: Python<'py>, message: Message<'_, NewBytes>) -> Bound<'py, PyBytes> {
    match message {
        Message::Lent(bytes) => memory::bytes(py, bytes),
        Message::Whole(message) => message.finish(py),
    }
}
