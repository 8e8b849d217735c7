//! Bytes that end each message: lines, and any other delimiter of 1 to 16 bytes.
//!
//! The first delimiter ends the message; nothing escapes it. Each byte of a stream is searched once,
//! however the stream is cut: what was searched is remembered by being kept ([`super::Decoder`]), and
//! only a delimiter's length less one byte of it is looked at again.

use std::fmt;
use std::sync::Arc;

use memchr::{memchr, memmem};

use super::{FrameError, Head, LARGEST};

/// The longest delimiter, bytes.
const LONGEST: usize = 16;

/// The framing.
#[derive(Clone)]
pub struct Delimiter {
    finder: Arc<memmem::Finder<'static>>,
    limit: usize,
    keep: bool,
    lines: bool,
}

/// Where the first frame ends: bytes of its message, which stands at its front, and of all of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Found {
    pub message: usize,
    pub frame: usize,
}

impl Delimiter {
    /// Messages of at most `limit` bytes, the delimiter not counted, that end at `delimiter`; `keep`
    /// leaves it at their end. `None` unless it has 1 to 16 bytes.
    pub fn new(delimiter: &[u8], limit: usize, keep: bool) -> Option<Self> {
        let limit = limit.min(LARGEST);
        let finder = Arc::new(memmem::Finder::new(delimiter).into_owned());
        let allowed = (1..=LONGEST).contains(&delimiter.len());
        allowed.then_some(Self { finder, limit, keep, lines: false })
    }

    /// Lines, which end at `\n` or `\r\n`: both are stripped unless they are kept.
    pub fn lines(limit: usize, keep: bool) -> Self {
        let limit = limit.min(LARGEST);
        let finder = Arc::new(memmem::Finder::new(b"\n").into_owned());
        Self { finder, limit, keep, lines: true }
    }

    fn bytes(&self) -> &[u8] {
        self.finder.needle()
    }

    /// Bytes in which the first delimiter stands, or the message is too large.
    pub(super) fn reach(&self) -> usize {
        self.limit + usize::from(self.lines) + self.bytes().len()
    }

    #[inline]
    fn search(&self, data: &[u8]) -> Option<usize> {
        match *self.bytes() {
            [byte] => memchr(byte, data),
            _ => self.finder.find(data),
        }
    }

    /// The frame whose delimiter stands at `position`, after a byte `\r` or not.
    fn found(&self, position: usize, after_return: bool) -> Result<Found, FrameError> {
        let bare = position - usize::from(self.lines && after_return);
        if bare > self.limit {
            return Err(self.endless());
        }
        let frame = position + self.bytes().len();
        Ok(Found { message: if self.keep { frame } else { bare }, frame })
    }

    fn endless(&self) -> FrameError {
        FrameError::Endless { limit: self.limit as u64 }
    }

    /// The first frame of `data`, if its end is there.
    #[inline]
    pub(super) fn find(&self, data: &[u8]) -> Result<Option<Found>, FrameError> {
        let window = &data[..data.len().min(self.reach())];
        match self.search(window) {
            Some(position) => {
                self.found(position, window[..position].last() == Some(&b'\r')).map(Some)
            }
            None if window.len() == self.reach() => Err(self.endless()),
            None => Ok(None),
        }
    }

    /// The first frame of `have`, which holds no delimiter, and `data` after it.
    pub(super) fn find_across(
        &self,
        have: &[u8],
        data: &[u8],
    ) -> Result<Option<Found>, FrameError> {
        let data = &data[..data.len().min(self.reach() - have.len())];
        let position = match self.seam(have, data) {
            Some(position) => Some(position),
            None => self.search(data).map(|position| have.len() + position),
        };
        let Some(position) = position else {
            let full = have.len() + data.len() == self.reach();
            return if full { Err(self.endless()) } else { Ok(None) };
        };
        let before = match position.checked_sub(1) {
            Some(index) if index < have.len() => have.get(index),
            Some(index) => data.get(index - have.len()),
            None => None,
        };
        self.found(position, before == Some(&b'\r')).map(Some)
    }

    /// Where a delimiter begins at the end of `have` and ends at the beginning of `data`.
    fn seam(&self, have: &[u8], data: &[u8]) -> Option<usize> {
        let most = self.bytes().len() - 1;
        let tail = &have[have.len().saturating_sub(most)..];
        let head = &data[..data.len().min(most)];
        let mut joint = [0; 2 * LONGEST];
        joint[..tail.len()].copy_from_slice(tail);
        joint[tail.len()..tail.len() + head.len()].copy_from_slice(head);
        let position = self.search(&joint[..tail.len() + head.len()])?;
        Some(have.len() - tail.len() + position)
    }

    pub(super) fn look(&self, data: &[u8]) -> Result<Head, FrameError> {
        Ok(match self.find(data)? {
            None => Head::Need(data.len() + 1),
            Some(Found { message, frame }) => {
                Head::Frame { skip: 0, body: message, tail: frame - message }
            }
        })
    }

    /// What follows the message.
    #[inline]
    pub(super) fn encode(&self, content: &[u8]) -> Result<&[u8], FrameError> {
        let delimiter = self.bytes();
        let bare = if !self.keep {
            content
        } else if let Some(bare) = content.strip_suffix(delimiter) {
            bare
        } else {
            return Err(FrameError::bad(format!(
                "the message does not end with its delimiter b\"{}\", which this framing keeps",
                delimiter.escape_ascii()
            )));
        };
        let ends_in_return = self.lines && bare.last() == Some(&b'\r');
        let length = bare.len() - usize::from(ends_in_return);
        if length > self.limit {
            let (length, limit) = (length as u64, self.limit as u64);
            return Err(FrameError::TooLarge { length, limit });
        }
        if self.search(bare).is_some() || self.seam(bare, delimiter).is_some() {
            return Err(FrameError::bad(format!(
                "the message contains the delimiter b\"{}\": it would arrive in pieces",
                delimiter.escape_ascii()
            )));
        }
        if self.keep {
            return Ok(&[]);
        }
        if ends_in_return {
            let text = "the line ends with b\"\\r\", which would be lost: it is taken for a part of its end";
            return Err(FrameError::bad(text));
        }
        Ok(delimiter)
    }
}

impl fmt::Debug for Delimiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { limit, keep, lines, .. } = self;
        let bytes = self.bytes().escape_ascii();
        write!(f, "Delimiter(b\"{bytes}\", limit: {limit}, keep: {keep}, lines: {lines})")
    }
}

#[cfg(test)]
mod tests {
    use super::super::trial::{cut_everywhere, decode, refused_everywhere};
    use super::super::{Framing, Memory, Message};
    use super::*;

    fn delimiter(bytes: &[u8], limit: usize, keep: bool) -> Framing {
        Framing::Delimiter(Delimiter::new(bytes, limit, keep).unwrap())
    }

    fn lines(limit: usize, keep: bool) -> Framing {
        Framing::Delimiter(Delimiter::lines(limit, keep))
    }

    #[test]
    fn every_cut_gives_the_same_messages() {
        let long = [b'x'; 40];
        let messages: [&[u8]; 6] = [b"", b"a", b"\r\r", b"hello world", &long, b"\0"];
        for bytes in [&b"\n"[..], b"\r\n", b"\0\0\0", b"END", b"0123456789abcdef"] {
            if bytes != b"\r\n" {
                cut_everywhere(&delimiter(bytes, 40, false), &messages[..5]);
            }
            let kept: Vec<Vec<u8>> = [&b"a"[..], b"", b"bc"].map(|m| [m, bytes].concat()).into();
            let kept: Vec<&[u8]> = kept.iter().map(Vec::as_slice).collect();
            cut_everywhere(&delimiter(bytes, 40, true), &kept);
        }
    }

    #[test]
    fn lines_end_in_both_ways() {
        for cut in 0..=14 {
            let stream = b"one\r\ntwo\n\r\n\r\r\n";
            let pieces = [&stream[..cut], &stream[cut..]];
            let (messages, end, pending) = decode(&lines(10, false), pieces);
            assert_eq!(messages, [&b"one"[..], b"two", b"", b"\r"]);
            assert_eq!((end, pending), (Ok(()), 0));
            let (messages, ..) = decode(&lines(10, true), pieces);
            assert_eq!(messages, [&b"one\r\n"[..], b"two\n", b"\r\n", b"\r\r\n"]);
        }
        cut_everywhere(&lines(10, false), &[b"one", b"", b"a\rb"]);
        cut_everywhere(&lines(10, true), &[b"one\r\n", b"\n", b"a\rb\n"]);
    }

    #[test]
    fn the_limit_counts_neither_delimiter_nor_return() {
        for stream in [&b"12345\n"[..], b"12345\r\n"] {
            for cut in 0..=stream.len() {
                let (messages, end, _) = decode(&lines(5, false), [&stream[..cut], &stream[cut..]]);
                assert_eq!((messages, end), (vec![b"12345".to_vec()], Ok(())));
            }
        }
        let endless = FrameError::Endless { limit: 5 };
        for stream in [&b"123456\n"[..], b"123456\r\n", b"1234567", b"12345\rx"] {
            refused_everywhere(&lines(5, false), stream, &endless);
            refused_everywhere(&lines(5, true), stream, &endless);
        }
        for stream in [&b"12345678"[..], b"123456END"] {
            refused_everywhere(&delimiter(b"END", 5, false), stream, &endless);
        }
        let (messages, end, _) = decode(&delimiter(b"END", 5, false), [&b"12345EN"[..], b"D"]);
        assert_eq!((messages, end), (vec![b"12345".to_vec()], Ok(())));
    }

    #[test]
    fn the_first_delimiter_counts() {
        let framing = delimiter(b"aa", 10, false);
        for cut in 0..=5 {
            let (messages, end, pending) = decode(&framing, [&b"xaaay"[..cut], &b"xaaay"[cut..]]);
            assert_eq!((messages, end, pending), (vec![b"x".to_vec()], Ok(()), 2));
        }
    }

    #[test]
    fn what_would_arrive_in_pieces_is_refused() {
        let refuse = |framing: Framing, content: &[u8], text: &str| {
            let error = framing.encode(content, &mut Vec::new()).unwrap_err();
            assert!(error.to_string().contains(text), "{error}");
        };
        refuse(lines(10, false), b"a\nb", "contains the delimiter b\"\\n\"");
        refuse(lines(10, false), b"a\r", "ends with b\"\\r\"");
        refuse(lines(10, true), b"a", "does not end with its delimiter b\"\\n\"");
        refuse(lines(10, true), b"a\n\n", "contains the delimiter");
        refuse(delimiter(b"aa", 10, false), b"xa", "contains the delimiter b\"aa\"");
        refuse(delimiter(b"abab", 10, false), b"xab", "contains the delimiter");
        let error = lines(3, false).encode(b"1234", &mut Vec::new()).unwrap_err();
        assert_eq!(error, FrameError::TooLarge { length: 4, limit: 3 });
    }

    #[test]
    fn delimiters_have_1_to_16_bytes() {
        assert!(Delimiter::new(b"", 1, false).is_none());
        assert!(Delimiter::new(&[1; 17], 1, false).is_none());
        let text = format!("{:?}", Delimiter::new(b"\r\n", 1, true).unwrap());
        assert_eq!(text, "Delimiter(b\"\\r\\n\", limit: 1, keep: true, lines: false)");
    }

    /// Memory that tells how much was ever taken at once.
    struct Counted(Vec<u8>);

    impl Memory for Counted {
        fn allocate(length: usize) -> Option<Self> {
            assert!(length <= 100, "{length} bytes taken for a message of at most 100");
            Vec::allocate(length).map(Self)
        }
        fn bytes(&mut self) -> &mut [u8] {
            &mut self.0
        }
    }

    #[test]
    fn gathering_grows_to_the_limit_at_most() {
        let framing = lines(100, false);
        let mut decoder = super::super::Decoder::<Counted>::default();
        for _ in 0..100 {
            assert!(decoder.next(&framing, &mut &b"x"[..]).unwrap().is_none());
            assert!(decoder.capacity() <= 102);
        }
        let mut rest = &b"\r\nnext"[..];
        let message = decoder.next(&framing, &mut rest).unwrap();
        assert!(matches!(message, Some(Message::Whole(Counted(bytes))) if bytes == [b'x'; 100]));
        assert_eq!(rest, b"next");
    }
}
