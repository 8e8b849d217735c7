//! ISO transport on top of TCP, RFC 1006 section 6: the packets below S7, RDP, MMS and H.323.
//!
//! ```text
//!   | version: 3 | reserved | length: 16 bits, big-endian, of the whole packet | TPDU |
//! ```
//!
//! The length is 7 to 65535, so a TPDU has 3 to 65531 bytes. The reserved byte is written as 0 and not
//! looked at. A message is the TPDU; what it means is not known here.

use super::{FrameError, Head, Headed, Header, bytes};

/// Bytes of the header.
const HEADER: usize = 4;

/// The shortest packet (RFC 1006, section 6, "packet length").
const SHORTEST: usize = 7;

/// The framing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tpkt {
    limit: usize,
}

impl Tpkt {
    /// The largest TPDU that the length can say, bytes.
    pub const LARGEST: usize = 0xffff - HEADER;

    /// TPDUs of at most `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self { limit: limit.min(Self::LARGEST) }
    }

    #[inline]
    pub(super) fn encode(&self, content: &[u8], header: &mut Header) -> Result<usize, FrameError> {
        let length = content.len();
        if length > self.limit {
            let limit = self.limit as u64;
            return Err(FrameError::TooLarge { length: length as u64, limit });
        }
        if length + HEADER < SHORTEST {
            return Err(FrameError::bad(format!(
                "the message has {}, a TPDU has at least 3 (RFC 1006)",
                bytes(length as i128)
            )));
        }
        let [high, low] = ((length + HEADER) as u16).to_be_bytes();
        header[..HEADER].copy_from_slice(&[3, 0, high, low]);
        Ok(HEADER)
    }
}

impl Headed for Tpkt {
    #[inline]
    fn head(&self, data: &[u8]) -> Result<Head, FrameError> {
        if let Some(&version) = data.first()
            && version != 3
        {
            return Err(FrameError::bad(format!(
                "TPKT version {version}, only version 3 exists (RFC 1006)"
            )));
        }
        let Some(&[_, _, high, low]) = data.first_chunk() else {
            return Ok(Head::Need(HEADER));
        };
        let total = usize::from(u16::from_be_bytes([high, low]));
        if total < SHORTEST {
            return Err(FrameError::bad(format!(
                "a TPKT of {}, at least {SHORTEST} are needed (RFC 1006)",
                bytes(total as i128)
            )));
        }
        let body = total - HEADER;
        if body > self.limit {
            return Err(FrameError::TooLarge { length: body as u64, limit: self.limit as u64 });
        }
        Ok(Head::Frame { skip: HEADER, body, tail: 0 })
    }
}

#[cfg(test)]
mod tests {
    use super::super::Framing;
    use super::super::trial::{cut_everywhere, decode, refused_everywhere};
    use super::*;

    #[test]
    fn every_cut_gives_the_same_messages() {
        let framing = Framing::Tpkt(Tpkt::new(usize::MAX));
        cut_everywhere(&framing, &[b"\x02\xf0\x80", b"\x11\xe0\0\0\0\x01\0", &[9; 300]]);
        let most = vec![1; Tpkt::LARGEST];
        let mut out = Vec::new();
        framing.encode(&most, &mut out).unwrap();
        assert_eq!(out[..4], [3, 0, 0xff, 0xff]);
        assert_eq!(decode(&framing, [out.as_slice()]).0, [most]);
    }

    #[test]
    fn the_reserved_byte_may_be_anything() {
        let framing = Framing::Tpkt(Tpkt::new(100));
        assert_eq!(decode(&framing, [&b"\x03\xff\0\x07abc"[..]]).0, [b"abc"]);
    }

    #[test]
    fn packets_that_can_not_be() {
        let framing = Framing::Tpkt(Tpkt::new(100));
        let version = FrameError::bad("TPKT version 71, only version 3 exists (RFC 1006)");
        refused_everywhere(&framing, b"G", &version);
        let short = FrameError::bad("a TPKT of 6 bytes, at least 7 are needed (RFC 1006)");
        refused_everywhere(&framing, b"\x03\0\0\x06", &short);
        let large = FrameError::TooLarge { length: 101, limit: 100 };
        refused_everywhere(&framing, b"\x03\0\0\x69", &large);
        assert_eq!(framing.encode(&[0; 101], &mut Vec::new()), Err(large));
        let error = framing.encode(b"ab", &mut Vec::new()).unwrap_err();
        let text = "the message has 2 bytes, a TPDU has at least 3 (RFC 1006)";
        assert_eq!(error, FrameError::bad(text));
    }
}
