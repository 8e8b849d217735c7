//! The bytes of a message: what is sent, and what must come back.

/// How messages are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// Not at all: so many bytes are a message.
    Raw,
    /// A length before each, of so many bytes (1 to 8).
    Length {
        /// Bytes of the length.
        width: usize,
        /// The least significant byte first.
        little: bool,
    },
    /// A line feed after each.
    Lines,
}

/// One frame over and over.
pub struct Stream {
    bytes: Vec<u8>,
    frame: usize,
}

impl Stream {
    /// Frames of messages of `size` bytes; any `longest` bytes of them can be had at once.
    pub fn new(framing: Framing, size: usize, longest: usize) -> Self {
        let mut frame = Vec::with_capacity(size + 8);
        if let Framing::Length { width, little } = framing {
            let length = (size as u64).to_be_bytes();
            let mut prefix = length[8 - width..].to_vec();
            if little {
                prefix.reverse();
            }
            frame.extend_from_slice(&prefix);
        }
        // Letters: they are lines too, and a byte that was lost or moved is seen.
        frame.extend((0..size).map(|index| b'a' + (index % 26) as u8));
        if framing == Framing::Lines {
            frame.push(b'\n');
        }
        let length = frame.len();
        let bytes = frame.iter().copied().cycle().take(longest + length).collect();
        Self { bytes, frame: length }
    }

    /// Bytes of a frame.
    pub fn frame(&self) -> usize {
        self.frame
    }

    /// `length` bytes from `offset` in a frame.
    pub fn piece(&self, offset: usize, length: usize) -> &[u8] {
        &self.bytes[offset..offset + length]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames() {
        let of = |framing, size| {
            let stream = Stream::new(framing, size, 10);
            stream.piece(0, stream.frame()).to_vec()
        };
        assert_eq!(of(Framing::Raw, 3), b"abc");
        assert_eq!(of(Framing::Length { width: 2, little: false }, 3), b"\x00\x03abc");
        assert_eq!(of(Framing::Length { width: 4, little: true }, 3), b"\x03\x00\x00\x00abc");
        assert_eq!(of(Framing::Lines, 3), b"abc\n");
        let stream = Stream::new(Framing::Lines, 3, 10);
        assert_eq!(stream.piece(2, 7), b"c\nabc\na");
    }
}
