//! A length before each message: 1, 2, 3, 4 or 8 bytes, big- or little-endian.

use super::{FrameError, Head, MAX_HEADER};

/// The order of the bytes of a length.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ByteOrder {
    /// Network order, the most significant byte first.
    Big,
    /// The least significant byte first.
    Little,
}

/// The framing. The length counts the message only, not itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LengthPrefix {
    width: u8,
    order: ByteOrder,
    limit: usize,
}

impl LengthPrefix {
    /// A prefix of `width` bytes for messages of at most `limit` bytes. `None` for another width
    /// than 1, 2, 3, 4 or 8.
    pub fn new(width: usize, order: ByteOrder, limit: usize) -> Option<Self> {
        matches!(width, 1 | 2 | 3 | 4 | 8).then_some(Self { width: width as u8, order, limit })
    }

    /// The largest message, bytes.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// What stands at the front of `data`.
    #[inline]
    pub(crate) fn head(&self, data: &[u8]) -> Result<Head, FrameError> {
        let width = usize::from(self.width);
        let Some(prefix) = data.get(..width) else {
            return Ok(Head::Need(width));
        };
        let length = if let (4, ByteOrder::Big, &[a, b, c, d]) = (width, self.order, prefix) {
            u64::from(u32::from_be_bytes([a, b, c, d]))
        } else {
            let digits = |value: u64, byte: &u8| value << 8 | u64::from(*byte);
            match self.order {
                ByteOrder::Big => prefix.iter().fold(0, digits),
                ByteOrder::Little => prefix.iter().rev().fold(0, digits),
            }
        };
        match usize::try_from(length) {
            Ok(body) if body <= self.limit => Ok(Head::Frame { skip: width, body }),
            _ => Err(FrameError { length, limit: self.limit as u64 }),
        }
    }

    #[inline]
    pub(crate) fn encode(
        &self,
        length: usize,
        header: &mut [u8; MAX_HEADER],
    ) -> Result<usize, FrameError> {
        let width = usize::from(self.width);
        let fits = width == 8 || (length as u64) < 1 << (8 * width);
        if length > self.limit || !fits {
            let widest = if fits { self.limit } else { self.limit.min((1 << (8 * width)) - 1) };
            return Err(FrameError { length: length as u64, limit: widest as u64 });
        }
        match self.order {
            ByteOrder::Big => {
                // Left-aligned: the digits that matter come first.
                *header = ((length as u64) << (64 - 8 * width)).to_be_bytes();
            }
            ByteOrder::Little => *header = (length as u64).to_le_bytes(),
        }
        Ok(width)
    }
}
