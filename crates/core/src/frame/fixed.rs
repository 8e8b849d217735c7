//! Messages of one size, with nothing between them.

use super::{FrameError, Head, Headed, LARGEST, bytes};

/// The framing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FixedLength {
    size: usize,
}

impl FixedLength {
    /// Messages of `size` bytes each. `None` for 0.
    pub fn new(size: usize) -> Option<Self> {
        (1..=LARGEST).contains(&size).then_some(Self { size })
    }

    #[inline]
    pub(super) fn encode(&self, content: &[u8]) -> Result<usize, FrameError> {
        let length = content.len();
        if length == self.size {
            return Ok(0);
        }
        if length > self.size {
            let limit = self.size as u64;
            return Err(FrameError::TooLarge { length: length as u64, limit });
        }
        Err(FrameError::bad(format!(
            "the message has {}, each message of this framing has {}",
            bytes(length as i128),
            bytes(self.size as i128)
        )))
    }
}

impl Headed for FixedLength {
    #[inline]
    fn head(&self, data: &[u8]) -> Result<Head, FrameError> {
        // Nothing is taken for a message of which nothing has come.
        if data.is_empty() {
            return Ok(Head::Need(1));
        }
        Ok(Head::Frame { skip: 0, body: self.size, tail: 0 })
    }
}

#[cfg(test)]
mod tests {
    use super::super::Framing;
    use super::super::trial::cut_everywhere;
    use super::*;

    #[test]
    fn every_cut_gives_the_same_messages() {
        let messages: [&[u8]; 3] = [b"abcd", b"\0\0\0\0", b"1234"];
        cut_everywhere(&Framing::FixedLength(FixedLength::new(4).unwrap()), &messages);
        cut_everywhere(&Framing::FixedLength(FixedLength::new(1).unwrap()), &[b"a", b"b"]);
    }

    #[test]
    fn only_that_size_is_sent() {
        let framing = Framing::FixedLength(FixedLength::new(4).unwrap());
        let error = framing.encode(b"abc", &mut Vec::new()).unwrap_err();
        let text = "the message has 3 bytes, each message of this framing has 4 bytes";
        assert_eq!(error, FrameError::bad(text));
        let error = framing.encode(b"abcde", &mut Vec::new()).unwrap_err();
        assert_eq!(error, FrameError::TooLarge { length: 5, limit: 4 });
        assert_eq!(FixedLength::new(0), None);
        assert_eq!(FixedLength::new(usize::MAX), None);
    }
}
