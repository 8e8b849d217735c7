//! A length somewhere in front of each message: 1, 2, 3, 4 or 8 bytes, big- or little-endian.
//!
//! ```text
//!   frame:   | offset | length: width | ...... what the length counts, and adjustment ...... |
//!   message:     from `strip` on ----->
//! ```
//!
//! Says all that Netty's `LengthFieldBasedFrameDecoder` says (`lengthFieldOffset`,
//! `lengthFieldLength`, `lengthAdjustment`, `initialBytesToStrip`) and Swoole's
//! `package_length_type`, `package_length_offset` and `package_body_offset`.
//!
//! # Encoding
//!
//! A message is what remains of the frame after `strip`. What was stripped must be known to be sent
//! again: it is when nothing is stripped (the message then brings its own length field, which has to
//! be right), or when the length field comes first and no more than it is stripped (it is written).
//! Any other layout can be read only, and encoding says so.

use super::{FrameError, Head, Headed, Header, LARGEST, bytes};

/// The order of the bytes of a length.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ByteOrder {
    /// Network order, the most significant byte first.
    Big,
    /// The least significant byte first.
    Little,
}

/// Where the length stands and what it counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Layout {
    /// Bytes before the length field.
    pub offset: usize,
    /// The length counts all of the frame from its first byte, not only what follows the field.
    pub includes_header: bool,
    /// Added to the length that was read.
    pub adjustment: i64,
    /// Bytes at the front of the frame that are not part of the message.
    pub strip: usize,
}

/// The framing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LengthPrefix {
    width: u8,
    order: ByteOrder,
    /// Four bytes, big-endian, counting the message only: what most protocols use.
    usual: bool,
    offset: usize,
    strip: usize,
    limit: usize,
    /// Bytes of the frame that the length does not count; negative if it counts more than there is.
    uncounted: i64,
}

impl LengthPrefix {
    /// A prefix of `width` bytes that counts the message only, for messages of at most `limit`
    /// bytes. `None` for another width than 1, 2, 3, 4 or 8.
    pub fn new(width: usize, order: ByteOrder, limit: usize) -> Option<Self> {
        Self::laid_out(width, order, limit, Layout { strip: width, ..Layout::default() })
    }

    /// The same for any layout. `None` also for an offset, an adjustment or a strip of 2 GiB or more.
    pub fn laid_out(width: usize, order: ByteOrder, limit: usize, layout: Layout) -> Option<Self> {
        let Layout { offset, includes_header, adjustment, strip } = layout;
        let sane = |value: usize| i32::try_from(value).is_ok();
        let adjusted = i32::try_from(adjustment).is_ok();
        if !matches!(width, 1 | 2 | 3 | 4 | 8) || !sane(offset) || !sane(strip) || !adjusted {
            return None;
        }
        let header = if includes_header { 0 } else { (offset + width) as i64 };
        let uncounted = adjustment + header;
        let plain = offset == 0 && strip == width && uncounted == width as i64;
        Some(Self {
            width: width as u8,
            order,
            usual: plain && width == 4 && order == ByteOrder::Big,
            offset,
            strip,
            limit: limit.min(LARGEST),
            uncounted,
        })
    }

    /// The largest message, bytes.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Where the length field ends.
    fn end(&self) -> usize {
        self.offset + usize::from(self.width)
    }

    fn read(&self, field: &[u8]) -> u64 {
        let digits = |value: u64, byte: &u8| value << 8 | u64::from(*byte);
        match self.order {
            ByteOrder::Big => field.iter().fold(0, digits),
            ByteOrder::Little => field.iter().rev().fold(0, digits),
        }
    }

    /// The length field of a frame of `total` bytes.
    fn field(&self, total: usize) -> Result<[u8; 8], FrameError> {
        let width = usize::from(self.width);
        let value = total as i128 - i128::from(self.uncounted);
        if value < 0 {
            return Err(FrameError::bad(format!(
                "a frame of {} can not be announced: its length would be {value}",
                bytes(total as i128)
            )));
        }
        let most = (1_i128 << (8 * width)) - 1;
        if value > most {
            let content = total - self.strip;
            let limit = (content as i128 - (value - most)).max(0);
            return Err(FrameError::TooLarge { length: content as u64, limit: limit as u64 });
        }
        let value = value as u64;
        Ok(match self.order {
            // Left-aligned: the digits that matter come first.
            ByteOrder::Big => (value << (64 - 8 * width)).to_be_bytes(),
            ByteOrder::Little => value.to_le_bytes(),
        })
    }

    #[inline]
    pub(super) fn encode(&self, content: &[u8], header: &mut Header) -> Result<usize, FrameError> {
        let length = content.len();
        if length > self.limit {
            let limit = self.limit as u64;
            return Err(FrameError::TooLarge { length: length as u64, limit });
        }
        if self.usual {
            let most = u64::from(u32::MAX);
            let Ok(value) = u32::try_from(length) else {
                return Err(FrameError::TooLarge { length: length as u64, limit: most });
            };
            header[..4].copy_from_slice(&value.to_be_bytes());
            return Ok(4);
        }
        self.encode_laid_out(content, header)
    }

    fn encode_laid_out(&self, content: &[u8], header: &mut Header) -> Result<usize, FrameError> {
        let width = usize::from(self.width);
        if self.strip > 0 && (self.offset > 0 || self.strip > width) {
            return Err(FrameError::bad(format!(
                "this framing can be read only: the first {} of each frame are stripped when it is \
                 received, and the length field of {} at offset {} is not all of them",
                bytes(self.strip as i128),
                bytes(i128::from(self.width)),
                self.offset
            )));
        }
        let total = self.strip + content.len();
        if total < self.end() {
            return Err(FrameError::bad(format!(
                "the message has {}, its header alone has {}",
                bytes(content.len() as i128),
                bytes((self.end() - self.strip) as i128)
            )));
        }
        let field = self.field(total)?;
        let field = &field[..width];
        // What is not stripped of the field is the message's own.
        let (written, brought) = field.split_at(self.strip.min(width));
        if !brought.is_empty() {
            let at = self.offset + written.len() - self.strip;
            let own = &content[at..at + brought.len()];
            if own != brought {
                return Err(FrameError::bad(format!(
                    "the length field of the message says {}, for its {} it must say {}",
                    self.read(&[written, own].concat()),
                    bytes(content.len() as i128),
                    self.read(field)
                )));
            }
        }
        header[..written.len()].copy_from_slice(written);
        Ok(written.len())
    }

    fn laid_out_head(&self, data: &[u8]) -> Result<Head, FrameError> {
        let end = self.end();
        let Some(field) = data.get(self.offset..end) else {
            return Ok(Head::Need(end));
        };
        let length = self.read(field);
        let total = i128::from(length) + i128::from(self.uncounted);
        if total < end as i128 {
            return Err(FrameError::bad(format!(
                "the length field says {length}: the frame would have {}, its header alone has {}",
                bytes(total),
                bytes(end as i128)
            )));
        }
        let body = total - self.strip as i128;
        if body < 0 {
            return Err(FrameError::bad(format!(
                "the length field says {length}: the frame has {}, of which {} were to be stripped",
                bytes(total),
                bytes(self.strip as i128)
            )));
        }
        if body > self.limit as i128 {
            let length = u64::try_from(body).unwrap_or(u64::MAX);
            return Err(FrameError::TooLarge { length, limit: self.limit as u64 });
        }
        Ok(Head::Frame { skip: self.strip, body: body as usize, tail: 0 })
    }
}

impl Headed for LengthPrefix {
    #[inline]
    fn head(&self, data: &[u8]) -> Result<Head, FrameError> {
        if !self.usual {
            return self.laid_out_head(data);
        }
        let Some(prefix) = data.first_chunk() else {
            return Ok(Head::Need(4));
        };
        let body = u32::from_be_bytes(*prefix) as usize;
        if body > self.limit {
            return Err(FrameError::TooLarge { length: body as u64, limit: self.limit as u64 });
        }
        Ok(Head::Frame { skip: 4, body, tail: 0 })
    }
}

#[cfg(test)]
mod tests;
