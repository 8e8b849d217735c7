//! Bytes to messages, sans I/O.
//!
//! A [`Framing`] knows where one frame ends. A [`Decoder`] keeps what is left over between two pieces
//! of a stream. Neither reads, allocates for a frame it has not admitted, or knows where the bytes
//! come from; "need more" is a value ([`Decoder::next`] returns `Ok(None)`), not an error.
//!
//! # Memory
//!
//! A frame that lies whole in the piece at hand is lent from it: nothing is copied. One that does not
//! is gathered in memory of the caller's kind ([`Memory`]: a `Vec`, a Python `bytes`), taken once, at
//! its full size, after the size was checked against the limit. Between messages a decoder owns none.

use std::fmt;

mod length;

pub use length::{ByteOrder, LengthPrefix};

/// The longest header that any framing writes or needs to see, bytes.
pub const MAX_HEADER: usize = 8;

/// How a stream is cut into messages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Framing {
    /// Not at all: each piece received is a message.
    Raw,
    /// A length before each message.
    LengthPrefix(LengthPrefix),
}

/// A frame that can not be accepted. The connection has lost its footing: nothing after it is meant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FrameError {
    /// The length that the peer announced, bytes.
    pub length: u64,
    /// The limit that it broke, bytes.
    pub limit: u64,
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "frame of {} bytes announced, the limit is {} bytes", self.length, self.limit)
    }
}

impl std::error::Error for FrameError {}

/// What a framing sees at the front of some bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Head {
    /// The header is not complete: at least this many bytes are needed to see more.
    Need(usize),
    /// A message of `body` bytes follows `skip` bytes of header.
    Frame { skip: usize, body: usize },
}

/// Memory that a message is gathered in.
pub trait Memory: Sized {
    /// `length` bytes, of any content. `None` when there is no memory.
    fn allocate(length: usize) -> Option<Self>;
    /// All of it.
    fn bytes(&mut self) -> &mut [u8];
}

impl Memory for Vec<u8> {
    fn allocate(length: usize) -> Option<Self> {
        let mut memory = Self::new();
        memory.try_reserve_exact(length).ok()?;
        memory.resize(length, 0);
        Some(memory)
    }

    fn bytes(&mut self) -> &mut [u8] {
        self
    }
}

/// One message.
#[derive(Debug, PartialEq, Eq)]
pub enum Message<'a, M> {
    /// Lent from the piece at hand.
    Lent(&'a [u8]),
    /// Gathered from several pieces.
    Whole(M),
}

struct Partial<M> {
    memory: M,
    length: usize,
    filled: usize,
}

/// The state of one stream between two pieces. 32 bytes, and no heap memory between messages.
pub struct Decoder<M> {
    header: [u8; MAX_HEADER],
    filled: u8,
    body: Option<Box<Partial<M>>>,
}

impl<M> Default for Decoder<M> {
    fn default() -> Self {
        Self { header: [0; MAX_HEADER], filled: 0, body: None }
    }
}

impl<M: Memory> Decoder<M> {
    /// Takes the next message from the front of `data`, or, when it holds no whole message, all of
    /// `data`, and returns `None`.
    ///
    /// # Errors
    ///
    /// [`FrameError`] for a frame over the limit, or for which there is no memory. That is the end
    /// of the stream: asked again with what is left of `data`, the decoder says the same.
    #[inline]
    pub fn next<'a>(
        &mut self,
        framing: &Framing,
        data: &mut &'a [u8],
    ) -> Result<Option<Message<'a, M>>, FrameError> {
        let prefix = match framing {
            Framing::Raw => {
                let piece = std::mem::take(data);
                return Ok((!piece.is_empty()).then_some(Message::Lent(piece)));
            }
            Framing::LengthPrefix(prefix) => prefix,
        };
        if self.filled == 0 && self.body.is_none() {
            // The usual case: we stand at the start of a frame.
            if let Head::Frame { skip, body } = prefix.head(data)?
                && let Some(message) = data.get(skip..skip + body)
            {
                *data = &data[skip + body..];
                return Ok(Some(Message::Lent(message)));
            }
            if data.is_empty() {
                return Ok(None);
            }
        }
        self.gather(prefix, data)
    }

    /// Whether a frame has begun and not ended.
    pub fn is_partial(&self) -> bool {
        self.filled > 0 || self.body.is_some()
    }

    #[cold]
    fn gather<'a>(
        &mut self,
        prefix: &LengthPrefix,
        data: &mut &'a [u8],
    ) -> Result<Option<Message<'a, M>>, FrameError> {
        while self.body.is_none() {
            let have = &self.header[..usize::from(self.filled)];
            match prefix.head(have)? {
                Head::Need(total) => {
                    let take = (total - have.len()).min(data.len());
                    if take == 0 {
                        return Ok(None);
                    }
                    let start = usize::from(self.filled);
                    self.header[start..start + take].copy_from_slice(&data[..take]);
                    self.filled += take as u8;
                    *data = &data[take..];
                }
                Head::Frame { body, .. } => {
                    let memory = M::allocate(body)
                        .ok_or(FrameError { length: body as u64, limit: prefix.limit() as u64 })?;
                    self.filled = 0;
                    self.body = Some(Box::new(Partial { memory, length: body, filled: 0 }));
                }
            }
        }
        let Some(partial) = &mut self.body else {
            return Ok(None);
        };
        let take = (partial.length - partial.filled).min(data.len());
        partial.memory.bytes()[partial.filled..partial.filled + take]
            .copy_from_slice(&data[..take]);
        partial.filled += take;
        *data = &data[take..];
        if partial.filled < partial.length {
            return Ok(None);
        }
        Ok(self.body.take().map(|partial| Message::Whole(partial.memory)))
    }
}

impl Framing {
    /// Writes what goes before a message of `length` bytes into `header` and returns its size.
    ///
    /// # Errors
    ///
    /// [`FrameError`] for a message over the limit.
    #[inline]
    pub fn header(
        &self,
        length: usize,
        header: &mut [u8; MAX_HEADER],
    ) -> Result<usize, FrameError> {
        match self {
            Self::Raw => Ok(0),
            Self::LengthPrefix(prefix) => prefix.encode(length, header),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(framing: &Framing, pieces: &[&[u8]]) -> Result<Vec<Vec<u8>>, FrameError> {
        let mut decoder = Decoder::<Vec<u8>>::default();
        let mut messages = Vec::new();
        for piece in pieces {
            let mut data = *piece;
            while let Some(message) = decoder.next(framing, &mut data)? {
                messages.push(match message {
                    Message::Lent(bytes) => bytes.to_vec(),
                    Message::Whole(bytes) => bytes,
                });
            }
            assert!(data.is_empty());
        }
        Ok(messages)
    }

    fn stream(framing: &Framing, messages: &[&[u8]]) -> Vec<u8> {
        let mut out = Vec::new();
        for message in messages {
            let mut header = [0; MAX_HEADER];
            let size = framing.header(message.len(), &mut header).unwrap();
            out.extend_from_slice(&header[..size]);
            out.extend_from_slice(message);
        }
        out
    }

    #[test]
    fn every_cut_gives_the_same_messages() {
        let messages: [&[u8]; 5] = [b"", b"a", b"", b"hello world", b"\0\0\0\x04"];
        for width in [1, 2, 3, 4, 8] {
            for order in [ByteOrder::Big, ByteOrder::Little] {
                let framing = Framing::LengthPrefix(LengthPrefix::new(width, order, 100).unwrap());
                let bytes = stream(&framing, &messages);
                for first in 0..=bytes.len() {
                    for second in first..=bytes.len() {
                        let pieces = [&bytes[..first], &bytes[first..second], &bytes[second..]];
                        assert_eq!(decode(&framing, &pieces).unwrap(), messages);
                    }
                }
                let single: Vec<&[u8]> = bytes.chunks(1).collect();
                assert_eq!(decode(&framing, &single).unwrap(), messages);
            }
        }
    }

    #[test]
    fn raw_gives_each_piece_and_never_an_empty_one() {
        let pieces: [&[u8]; 3] = [b"ab", b"", b"c"];
        assert_eq!(decode(&Framing::Raw, &pieces).unwrap(), [&b"ab"[..], b"c"]);
    }

    #[test]
    fn a_frame_over_the_limit_is_refused_from_its_header_alone() {
        let prefix = LengthPrefix::new(4, ByteOrder::Big, 1000).unwrap();
        let framing = Framing::LengthPrefix(prefix);
        let error = FrameError { length: 1001, limit: 1000 };
        assert_eq!(decode(&framing, &[&[0, 0, 3, 0xe9]]), Err(error));
        assert_eq!(decode(&framing, &[&[0, 0], &[3], &[0xe9]]), Err(error));
        assert_eq!(error.to_string(), "frame of 1001 bytes announced, the limit is 1000 bytes");
        let huge = Framing::LengthPrefix(LengthPrefix::new(8, ByteOrder::Big, 1000).unwrap());
        assert!(decode(&huge, &[&[0xff; 8]]).is_err());
        assert!(framing.header(1001, &mut [0; MAX_HEADER]).is_err());
    }
}
