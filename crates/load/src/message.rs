//! The bytes that leave: one message over and over.

use wireway_core::frame::{FrameError, Framing};

/// A message as it goes over the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    frame: Vec<u8>,
    before: usize,
    after: usize,
}

impl Message {
    /// `content` in its frame.
    ///
    /// # Errors
    /// The framing can not carry it, or there is nothing to send.
    pub fn new(framing: &Framing, content: &[u8]) -> Result<Self, FrameError> {
        let mut frame = Vec::with_capacity(content.len() + 16);
        framing.encode(content, &mut frame)?;
        let around = frame.len() - content.len();
        // What goes around a message is before it or behind it, never both.
        let before = if frame.ends_with(content) { around } else { 0 };
        Ok(Self { frame, before, after: around - before })
    }

    /// Bytes of the frame.
    pub fn length(&self) -> usize {
        self.frame.len()
    }
}

/// The stream of such messages.
pub struct Stream {
    bytes: Vec<u8>,
    message: Message,
}

impl Stream {
    /// Any `longest` bytes of it can be had at once.
    pub fn new(message: Message, longest: usize) -> Self {
        let wanted = longest + message.length();
        let bytes = message.frame.iter().copied().cycle().take(wanted).collect();
        Self { bytes, message }
    }

    /// Bytes of a frame.
    pub fn frame(&self) -> usize {
        self.message.length()
    }

    /// `length` bytes from `offset` in a frame.
    pub fn piece(&self, offset: usize, length: usize) -> &[u8] {
        &self.bytes[offset..offset + length]
    }

    /// What is wrong with `data`, which is not what should have come from `offset` on.
    pub fn complaint(&self, offset: usize, data: &[u8]) -> &'static str {
        let expected = self.piece(offset, data.len());
        let first = expected.iter().zip(data).position(|(a, b)| a != b).unwrap_or(0);
        let at = (offset + first) % self.frame();
        let end = self.frame() - self.message.after;
        let ends_early = self.message.after > 0 && data[first] == self.message.frame[end];
        if at < self.message.before || at >= end || ends_early {
            "an answer of another size came back"
        } else {
            "other bytes came back than were sent"
        }
    }
}

#[cfg(test)]
mod tests {
    use wireway_core::frame::{ByteOrder, Delimiter, LengthPrefix, Tpkt};

    use super::*;

    fn stream(framing: &Framing, content: &[u8]) -> Stream {
        Stream::new(Message::new(framing, content).unwrap(), 20)
    }

    fn length() -> Framing {
        Framing::LengthPrefix(LengthPrefix::new(2, ByteOrder::Big, 100).unwrap())
    }

    #[test]
    fn frames() {
        let of = |framing: Framing| {
            let stream = stream(&framing, b"abc");
            stream.piece(0, stream.frame()).to_vec()
        };
        assert_eq!(of(Framing::Raw), b"abc");
        assert_eq!(of(length()), b"\x00\x03abc");
        assert_eq!(of(Framing::Tpkt(Tpkt::new(10))), b"\x03\x00\x00\x07abc");
        let lines = Framing::Delimiter(Delimiter::lines(100, false));
        assert_eq!(of(lines.clone()), b"abc\n");
        assert_eq!(stream(&lines, b"abc").piece(2, 7), b"c\nabc\na");
        assert!(Message::new(&lines, b"a\nb").is_err());
    }

    #[test]
    fn what_is_wrong_with_an_answer() {
        let size = "an answer of another size came back";
        let other = "other bytes came back than were sent";
        let lines = stream(&Framing::Delimiter(Delimiter::lines(100, false)), b"abc");
        let prefixed = stream(&length(), b"abc");
        for (stream, offset, data, expected) in [
            (&prefixed, 0, &b"\x00\x02ab"[..], size),
            (&prefixed, 3, b"bc\x00\x04", size),
            (&prefixed, 0, b"\x00\x03abd", other),
            (&lines, 0, b"ab\n", size),
            (&lines, 1, b"bcd\n", size),
            (&lines, 0, b"axc\n", other),
            (&stream(&Framing::Raw, b"abc"), 0, b"abx", other),
        ] {
            assert_eq!(stream.complaint(offset, data), expected, "{data:?}");
        }
    }
}
