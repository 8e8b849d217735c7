//! A length as protocol buffers write it, before each message: `writeDelimitedTo` of Java,
//! `SerializeDelimitedToOstream` of C++.
//!
//! Seven bits of the length in each byte, the least significant first; the high bit says that more
//! follow (<https://protobuf.dev/programming-guides/encoding/#varints>). A length with needless zeros
//! at its end is accepted, as all readers do; it is never written.

use super::{FrameError, Head, Headed, Header, LARGEST};

/// The framing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Varint {
    most: u8,
    limit: usize,
}

impl Varint {
    /// Lengths of at most `most` bytes, for messages of at most `limit` bytes. `most` is 5 (lengths
    /// of 32 bits) or 10 (64 bits), or else this is `None`.
    pub fn new(most: usize, limit: usize) -> Option<Self> {
        let limit = limit.min(LARGEST);
        matches!(most, 5 | 10).then_some(Self { most: most as u8, limit })
    }

    fn bits(&self) -> u32 {
        if self.most == 5 { 32 } else { 64 }
    }

    #[inline]
    pub(super) fn encode(&self, content: &[u8], header: &mut Header) -> Result<usize, FrameError> {
        let mut rest = content.len() as u64;
        let widest = u64::MAX >> (64 - self.bits());
        if content.len() > self.limit || rest > widest {
            let limit = widest.min(self.limit as u64);
            return Err(FrameError::TooLarge { length: rest, limit });
        }
        let mut size = 0;
        while rest > 0x7f {
            header[size] = rest as u8 | 0x80;
            rest >>= 7;
            size += 1;
        }
        header[size] = rest as u8;
        Ok(size + 1)
    }
}

impl Headed for Varint {
    #[inline]
    fn head(&self, data: &[u8]) -> Result<Head, FrameError> {
        let mut length = 0_u64;
        for (index, byte) in data.iter().take(usize::from(self.most)).enumerate() {
            let (digit, shift) = (u64::from(byte & 0x7f), 7 * index as u32);
            if shift + 7 > self.bits() && digit >> (self.bits() - shift) != 0 {
                return Err(FrameError::bad(format!(
                    "the varint of the length has more than {} bits",
                    self.bits()
                )));
            }
            length |= digit << shift;
            if byte & 0x80 != 0 {
                continue;
            }
            if length > self.limit as u64 {
                return Err(FrameError::TooLarge { length, limit: self.limit as u64 });
            }
            return Ok(Head::Frame { skip: index + 1, body: length as usize, tail: 0 });
        }
        if data.len() >= usize::from(self.most) {
            return Err(FrameError::bad(format!(
                "the varint of the length has not ended after {} bytes",
                self.most
            )));
        }
        Ok(Head::Need(data.len() + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::super::Framing;
    use super::super::trial::{cut_everywhere, decode, refused_everywhere};
    use super::*;

    fn varint(most: usize, limit: usize) -> Framing {
        Framing::Varint(Varint::new(most, limit).unwrap())
    }

    #[test]
    fn every_cut_gives_the_same_messages() {
        let (short, long) = ([1; 127], [2; 128]);
        for most in [5, 10] {
            cut_everywhere(&varint(most, 300), &[b"", b"a", &short, &long, b"end"]);
        }
    }

    #[test]
    fn lengths_as_protocol_buffers_write_them() {
        let framing = varint(10, 1 << 20);
        for (length, header) in [
            (0, &b"\0"[..]),
            (1, b"\x01"),
            (127, b"\x7f"),
            (128, b"\x80\x01"),
            (150, b"\x96\x01"),
            (16384, b"\x80\x80\x01"),
        ] {
            let mut out = Vec::new();
            framing.encode(&vec![7; length], &mut out).unwrap();
            assert_eq!(out[..header.len()], *header);
            assert_eq!(out.len(), header.len() + length);
        }
    }

    #[test]
    fn needless_zeros_are_read() {
        let (messages, end, _) = decode(&varint(5, 10), [&b"\x82\x80\x80\x80\0ab"[..]]);
        assert_eq!((messages, end), (vec![b"ab".to_vec()], Ok(())));
    }

    #[test]
    fn lengths_that_can_not_be() {
        let endless = FrameError::bad("the varint of the length has not ended after 5 bytes");
        refused_everywhere(&varint(5, 10), b"\x80\x80\x80\x80\x80", &endless);
        let wide = FrameError::bad("the varint of the length has more than 32 bits");
        refused_everywhere(&varint(5, 10), b"\xff\xff\xff\xff\x1f", &wide);
        let large = FrameError::TooLarge { length: u64::from(u32::MAX), limit: 10 };
        refused_everywhere(&varint(5, 10), b"\xff\xff\xff\xff\x0f", &large);
        let wide = FrameError::bad("the varint of the length has more than 64 bits");
        let stream = [&[0xff; 9][..], &[2]].concat();
        refused_everywhere(&varint(10, 10), &stream, &wide);
        let stream = [&[0xff; 9][..], &[1]].concat();
        let large = FrameError::TooLarge { length: u64::MAX, limit: 10 };
        refused_everywhere(&varint(10, 10), &stream, &large);
        let error = varint(5, 10).encode(&[0; 11], &mut Vec::new()).unwrap_err();
        assert_eq!(error, FrameError::TooLarge { length: 11, limit: 10 });
        assert_eq!(Varint::new(4, 10), None);
    }
}
