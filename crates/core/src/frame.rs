//! Bytes to messages and back, sans I/O.
//!
//! A [`Framing`] knows where one frame ends. A [`Decoder`] keeps what is left over between two pieces
//! of a stream. Neither reads, allocates for a frame it has not admitted, or knows where the bytes
//! come from; "need more" is a value ([`Decoder::next`] returns `Ok(None)`), not an error.
//!
//! # Both ways
//!
//! A message is what decoding hands out. Encoding takes a message and makes the frame that gives it
//! back, or refuses: what is sent is never something else than what the peer will understand.
//!
//! # Memory
//!
//! A frame that lies whole in the piece at hand is lent from it: nothing is copied. One that does not
//! is gathered in memory of the caller's kind ([`Memory`]: a `Vec`, a Python `bytes`), taken once, at
//! its full size, after the size was checked against the limit. Where the size shows only at the end
//! (delimiters, custom framings), the bytes wait in a vector that never outgrows the limit. Between
//! messages a decoder owns none.

use std::fmt;
use std::sync::Arc;

mod custom;
mod decoder;
mod delimiter;
mod error;
mod fixed;
mod length;
mod mbap;
mod tpkt;
#[cfg(test)]
mod trial;
mod varint;

pub use custom::{Cut, Cutting};
pub use decoder::Decoder;
pub use delimiter::Delimiter;
pub use error::FrameError;
pub use fixed::FixedLength;
pub use length::{ByteOrder, Layout, LengthPrefix};
pub use mbap::Mbap;
pub use tpkt::Tpkt;
pub use varint::Varint;

/// The longest header that any framing writes, bytes: a varint of 64 bits.
pub const MAX_HEADER: usize = 10;

/// Room for what goes before a message.
pub type Header = [u8; MAX_HEADER];

/// The largest limit, bytes: sums of it and a few headers stay in a `usize`.
const LARGEST: usize = isize::MAX as usize / 2;

/// How a stream is cut into messages.
#[derive(Clone, Debug)]
pub enum Framing {
    /// Not at all: each piece received is a message.
    Raw,
    /// A length before each message.
    LengthPrefix(LengthPrefix),
    /// Bytes that end each message.
    Delimiter(Delimiter),
    /// Messages of one size.
    FixedLength(FixedLength),
    /// A length as protocol buffers write it.
    Varint(Varint),
    /// ISO transport on TCP.
    Tpkt(Tpkt),
    /// Modbus TCP.
    Mbap(Mbap),
    /// A function of the user's.
    Custom(Arc<dyn Cut>),
}

/// What a framing sees at the front of some bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Head {
    /// At least this many bytes, those at hand included, are needed to see more.
    Need(usize),
    /// A frame, of which all may not have come yet.
    Frame {
        /// Bytes before the message.
        skip: usize,
        /// Bytes of the message.
        body: usize,
        /// Bytes after it.
        tail: usize,
    },
}

/// A framing whose frames say at their front how long they are.
trait Headed {
    /// What stands at the front of `data`. Never a frame with a tail.
    fn head(&self, data: &[u8]) -> Result<Head, FrameError>;
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

/// What a message becomes on its way out.
#[derive(Debug, PartialEq, Eq)]
pub enum Wrapped<'a> {
    /// It goes as it is, between the first `header` bytes of the [`Header`] and `trailer`.
    Around {
        /// Bytes of the header.
        header: usize,
        /// What follows the message.
        trailer: &'a [u8],
    },
    /// These bytes go in its place.
    Instead(Vec<u8>),
}

impl Framing {
    /// What stands at the front of `data`: for people who look at bytes. [`Decoder`] does the work.
    ///
    /// # Errors
    ///
    /// [`FrameError`] for bytes that no decoder accepts.
    pub fn look(&self, data: &[u8]) -> Result<Head, FrameError> {
        match self {
            Self::Raw if data.is_empty() => Ok(Head::Need(1)),
            Self::Raw => Ok(Head::Frame { skip: 0, body: data.len(), tail: 0 }),
            Self::LengthPrefix(framing) => framing.head(data),
            Self::Delimiter(framing) => framing.look(data),
            Self::FixedLength(framing) => framing.head(data),
            Self::Varint(framing) => framing.head(data),
            Self::Tpkt(framing) => framing.head(data),
            Self::Mbap(framing) => framing.head(data),
            Self::Custom(cut) => custom::look(&**cut, data),
        }
    }

    /// Says what goes before and after the message `content`; what goes before is written to `header`.
    ///
    /// # Errors
    ///
    /// [`FrameError`] for a message over the limit, or for one that would not come back as it is.
    #[inline]
    pub fn wrap<'a>(
        &'a self,
        content: &[u8],
        header: &mut Header,
    ) -> Result<Wrapped<'a>, FrameError> {
        let header = match self {
            Self::Raw => 0,
            Self::LengthPrefix(framing) => framing.encode(content, header)?,
            Self::Delimiter(framing) => {
                return Ok(Wrapped::Around { header: 0, trailer: framing.encode(content)? });
            }
            Self::FixedLength(framing) => framing.encode(content)?,
            Self::Varint(framing) => framing.encode(content, header)?,
            Self::Tpkt(framing) => framing.encode(content, header)?,
            Self::Mbap(framing) => framing.encode(content)?,
            Self::Custom(cut) => return cut.wrap(content).map(Wrapped::Instead),
        };
        Ok(Wrapped::Around { header, trailer: &[] })
    }

    /// Appends the frame of the message `content` to `out`.
    ///
    /// # Errors
    ///
    /// As [`Framing::wrap`]; nothing is appended then.
    pub fn encode(&self, content: &[u8], out: &mut Vec<u8>) -> Result<(), FrameError> {
        let mut before = [0; MAX_HEADER];
        match self.wrap(content, &mut before)? {
            Wrapped::Around { header, trailer } => {
                out.reserve(header + content.len() + trailer.len());
                out.extend_from_slice(&before[..header]);
                out.extend_from_slice(content);
                out.extend_from_slice(trailer);
            }
            Wrapped::Instead(frame) => out.extend_from_slice(&frame),
        }
        Ok(())
    }
}

/// `count` and a noun, in the plural where it belongs.
fn bytes(count: impl Into<i128>) -> impl fmt::Display {
    let count = count.into();
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} byte{plural}")
}

#[cfg(test)]
mod tests {
    use super::trial::{cut_everywhere, decode};
    use super::*;

    #[test]
    fn raw_gives_each_piece_and_never_an_empty_one() {
        let pieces: [&[u8]; 3] = [b"ab", b"", b"c"];
        let (messages, end, pending) = decode(&Framing::Raw, pieces);
        assert_eq!(messages, [&b"ab"[..], b"c"]);
        assert_eq!((end, pending), (Ok(()), 0));
    }

    #[test]
    fn raw_goes_out_as_it_is() {
        let mut header = [0; MAX_HEADER];
        let bare = Wrapped::Around { header: 0, trailer: &[] };
        assert_eq!(Framing::Raw.wrap(b"abc", &mut header), Ok(bare));
        assert_eq!(Framing::Raw.look(b""), Ok(Head::Need(1)));
        assert_eq!(Framing::Raw.look(b"abc"), Ok(Head::Frame { skip: 0, body: 3, tail: 0 }));
    }

    #[test]
    fn a_framing_shared_by_many_connections_is_small() {
        assert!(size_of::<Framing>() <= 64);
        assert!(size_of::<Decoder<Vec<u8>>>() <= 32);
    }

    /// Memory of which there is none.
    #[derive(Debug, PartialEq)]
    struct Nothing;

    impl Memory for Nothing {
        fn allocate(_: usize) -> Option<Self> {
            None
        }
        fn bytes(&mut self) -> &mut [u8] {
            &mut []
        }
    }

    #[test]
    fn without_memory_a_frame_is_refused_and_stays_refused() {
        let prefix = LengthPrefix::new(1, ByteOrder::Big, 9).unwrap();
        let table: [(Framing, &[u8], &[u8]); 3] = [
            (Framing::LengthPrefix(prefix), b"", b"\x05ab"),
            (Framing::Delimiter(Delimiter::lines(9, false)), b"hel", b"lo\n"),
            (Framing::FixedLength(FixedLength::new(5).unwrap()), b"", b"a"),
        ];
        for (framing, first, second) in table {
            let mut decoder = Decoder::<Nothing>::default();
            assert_eq!(decoder.next(&framing, &mut { first }), Ok(None));
            let mut rest = second;
            for _ in 0..2 {
                let refused = Err(FrameError::NoMemory { length: 5 });
                assert_eq!(decoder.next(&framing, &mut rest), refused);
            }
        }
    }

    #[test]
    fn encoding_appends_a_whole_frame() {
        let framing = Framing::Tpkt(Tpkt::new(100));
        let mut out = b"before".to_vec();
        framing.encode(b"abc", &mut out).unwrap();
        assert_eq!(out, b"before\x03\0\0\x07abc");
        assert!(framing.encode(&[0; 101], &mut out).is_err());
        assert_eq!(out.len(), 13);
        cut_everywhere(&framing, &[b"abc", b"defg"]);
    }
}
