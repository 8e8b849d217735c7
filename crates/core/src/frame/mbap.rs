//! Modbus TCP: the MBAP header ("MODBUS Messaging on TCP/IP Implementation Guide" V1.0b, section 3.1.3).
//!
//! ```text
//!   | transaction: 2 | protocol: 2, is 0 | length: 2, of what follows | unit: 1 | function: 1 | data |
//! ```
//!
//! All big-endian. A message is the whole ADU, header included: who answers needs the transaction and
//! the unit. So a message brings its own length, which has to be right. An ADU has at most 260 bytes.

use super::{FrameError, Head, Headed, bytes};

/// What the length does not count.
const BEFORE: usize = 6;

/// Unit and function: the least that follows the length.
const LEAST: usize = 2;

/// The framing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mbap {
    limit: usize,
}

impl Mbap {
    /// The largest ADU that the standard allows, bytes: 253 of a PDU and the header.
    pub const LARGEST: usize = 260;

    /// ADUs of at most `limit` bytes; some devices send more than the standard allows.
    pub fn new(limit: usize) -> Self {
        Self { limit: limit.min(0xffff + BEFORE) }
    }

    #[inline]
    pub(super) fn encode(&self, content: &[u8]) -> Result<usize, FrameError> {
        if content.len() > self.limit {
            let limit = self.limit as u64;
            return Err(FrameError::TooLarge { length: content.len() as u64, limit });
        }
        if content.len() < BEFORE + LEAST {
            return Err(FrameError::bad(format!(
                "the message has {}, a Modbus ADU has at least {}: header, unit, function",
                bytes(content.len() as i128),
                BEFORE + LEAST
            )));
        }
        let Head::Frame { body, .. } = self.head(content)? else {
            return Ok(0);
        };
        if body != content.len() {
            return Err(FrameError::bad(format!(
                "the length in the header of the message says {}, for its {} it must say {}",
                body - BEFORE,
                bytes(content.len() as i128),
                content.len() - BEFORE
            )));
        }
        Ok(0)
    }
}

impl Headed for Mbap {
    #[inline]
    fn head(&self, data: &[u8]) -> Result<Head, FrameError> {
        if let Some(&[_, _, high, low]) = data.first_chunk()
            && (high, low) != (0, 0)
        {
            let protocol = u16::from_be_bytes([high, low]);
            return Err(FrameError::bad(format!("Modbus protocol {protocol}, only 0 exists")));
        }
        let Some(&[_, _, _, _, high, low]) = data.first_chunk() else {
            return Ok(Head::Need(BEFORE));
        };
        let length = usize::from(u16::from_be_bytes([high, low]));
        if length < LEAST {
            return Err(FrameError::bad(format!(
                "a Modbus length of {length}, at least {LEAST} are needed: unit and function"
            )));
        }
        let body = BEFORE + length;
        if body > self.limit {
            return Err(FrameError::TooLarge { length: body as u64, limit: self.limit as u64 });
        }
        Ok(Head::Frame { skip: 0, body, tail: 0 })
    }
}

#[cfg(test)]
mod tests {
    use super::super::Framing;
    use super::super::trial::{cut_everywhere, refused_everywhere};
    use super::*;

    const READ: &[u8] = b"\0\x01\0\0\0\x06\x11\x03\0\x6b\0\x03";

    #[test]
    fn every_cut_gives_the_same_messages() {
        let framing = Framing::Mbap(Mbap::new(Mbap::LARGEST));
        let mut most = vec![0, 9, 0, 0, 0, 254];
        most.resize(Mbap::LARGEST, 5);
        cut_everywhere(&framing, &[READ, b"\xff\xff\0\0\0\x02\x01\x07", &most]);
    }

    #[test]
    fn headers_that_can_not_be() {
        let framing = Framing::Mbap(Mbap::new(Mbap::LARGEST));
        let http = FrameError::bad("Modbus protocol 21536, only 0 exists");
        refused_everywhere(&framing, b"GET ", &http);
        let other = FrameError::bad("Modbus protocol 1, only 0 exists");
        refused_everywhere(&framing, b"\0\x01\0\x01", &other);
        let short = "a Modbus length of 1, at least 2 are needed: unit and function";
        refused_everywhere(&framing, b"\0\x01\0\0\0\x01", &FrameError::bad(short));
        let large = FrameError::TooLarge { length: 261, limit: 260 };
        refused_everywhere(&framing, b"\0\x01\0\0\0\xff", &large);
        assert_eq!(framing.encode(&[0; 261], &mut Vec::new()), Err(large));
    }

    #[test]
    fn only_a_whole_adu_is_sent() {
        let framing = Framing::Mbap(Mbap::new(Mbap::LARGEST));
        let refuse = |content: &[u8], text: &str| {
            assert_eq!(framing.encode(content, &mut Vec::new()), Err(FrameError::bad(text)));
        };
        refuse(
            b"\x11\x03",
            "the message has 2 bytes, a Modbus ADU has at least 8: header, unit, function",
        );
        refuse(
            &READ[..11],
            "the length in the header of the message says 6, for its 11 bytes it must say 5",
        );
        refuse(b"\0\x01\0\x02\0\x02\x11\x03", "Modbus protocol 2, only 0 exists");
    }
}
