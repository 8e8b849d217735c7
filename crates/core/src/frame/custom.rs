//! Framings that somebody else cuts: a function of the user's, behind [`Cut`].
//!
//! The function is shown bytes from the start of a frame and says what they are. It is not trusted:
//! what it says is held against the rules and the limit here, before anybody acts on it.

use std::any::Any;
use std::fmt;

use super::{FrameError, Head, bytes};

/// What stands at the front of the bytes that were shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cutting {
    /// It takes this many bytes more to tell, at least 1.
    Need(usize),
    /// A frame, of which all may not have come yet.
    Frame {
        /// All of its bytes, at least 1.
        length: usize,
        /// Bytes at its front that are not part of the message.
        strip: usize,
    },
}

/// A framing of the user's.
pub trait Cut: fmt::Debug + Send + Sync {
    /// Says what stands at the front of `data`: the first bytes of a frame, at least one, and not
    /// always all that have come. Asked about the same bytes again, it answers the same.
    ///
    /// # Errors
    ///
    /// The text for the bytes that are no frame.
    fn cut(&self, data: &[u8]) -> Result<Cutting, Box<str>>;

    /// The largest frame, bytes, all of it counted.
    fn limit(&self) -> usize;

    /// The frame of the message `content`.
    ///
    /// # Errors
    ///
    /// [`FrameError`] for a message that has none.
    fn wrap(&self, content: &[u8]) -> Result<Vec<u8>, FrameError>;

    /// Itself, for who knows what it is.
    fn as_any(&self) -> &dyn Any;
}

/// Asks `cut`, and believes only what can be.
pub(super) fn ask(cut: &dyn Cut, data: &[u8]) -> Result<Cutting, FrameError> {
    let limit = cut.limit();
    let broken = |text: String| Err(FrameError::Custom(text.into()));
    let cutting = cut.cut(data).map_err(FrameError::Custom)?;
    let length = match cutting {
        Cutting::Need(0) => {
            let shown = bytes(data.len() as i128);
            return broken(format!(
                "the cut function was shown {shown} and needs 0 more: say what they are"
            ));
        }
        Cutting::Need(more) => data.len().saturating_add(more),
        Cutting::Frame { length: 0, .. } => {
            return broken("the cut function named a frame of 0 bytes".to_owned());
        }
        Cutting::Frame { length, strip } if strip > length => {
            let length = bytes(length as i128);
            return broken(format!(
                "the cut function named a frame of {length}, of which {strip} are to be stripped"
            ));
        }
        Cutting::Frame { length, .. } => length,
    };
    if length > limit {
        return Err(FrameError::TooLarge { length: length as u64, limit: limit as u64 });
    }
    Ok(cutting)
}

/// The text for a function that asked for `need` bytes in all, and then names a frame of fewer.
pub(super) fn hindsight(length: usize, need: usize) -> String {
    format!(
        "the cut function asked for {} in all, and then named a frame of {length}: it could have \
         been said before",
        bytes(need as i128)
    )
}

/// As [`super::Framing::look`].
pub(super) fn look(cut: &dyn Cut, data: &[u8]) -> Result<Head, FrameError> {
    if data.is_empty() {
        return Ok(Head::Need(1));
    }
    Ok(match ask(cut, data)? {
        Cutting::Need(more) => Head::Need(data.len() + more),
        Cutting::Frame { length, strip } => {
            Head::Frame { skip: strip, body: length - strip, tail: 0 }
        }
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::super::trial::{cut_everywhere, decode, refused_everywhere};
    use super::super::{Decoder, Framing, Message};
    use super::*;

    type Rule = fn(&[u8]) -> Result<Cutting, Box<str>>;

    #[derive(Debug, Default)]
    struct Trial {
        asked: AtomicUsize,
        shown: AtomicUsize,
        limit: usize,
        rule: Option<Rule>,
    }

    impl Cut for Trial {
        fn cut(&self, data: &[u8]) -> Result<Cutting, Box<str>> {
            assert!(!data.is_empty());
            self.asked.fetch_add(1, Ordering::Relaxed);
            self.shown.fetch_add(data.len(), Ordering::Relaxed);
            self.rule.unwrap()(data)
        }
        fn limit(&self) -> usize {
            self.limit
        }
        fn wrap(&self, content: &[u8]) -> Result<Vec<u8>, FrameError> {
            Ok([&[content.len() as u8 + 1], content].concat())
        }
        fn as_any(&self) -> &dyn Any {
            self
        }
    }

    fn custom(limit: usize, rule: Rule) -> (Arc<Trial>, Framing) {
        let trial = Arc::new(Trial { limit, rule: Some(rule), ..Trial::default() });
        (trial.clone(), Framing::Custom(trial))
    }

    /// A byte that counts itself and the message.
    fn counted(data: &[u8]) -> Result<Cutting, Box<str>> {
        match data[0] {
            0xff => Err("no such length".into()),
            length => Ok(Cutting::Frame { length: usize::from(length), strip: 1 }),
        }
    }

    /// Ends at a `;`, asks for one byte more each time.
    fn until_semicolon(data: &[u8]) -> Result<Cutting, Box<str>> {
        Ok(match data.iter().position(|&byte| byte == b';') {
            Some(end) => Cutting::Frame { length: end + 1, strip: 0 },
            None => Cutting::Need(1),
        })
    }

    #[test]
    fn every_cut_gives_the_same_messages() {
        let (_, framing) = custom(100, counted);
        cut_everywhere(&framing, &[b"", b"a", b"", b"hello world", &[1; 40]]);
        let (_, framing) = custom(100, until_semicolon);
        let stream = b"a;;bc;0123456789012345678901234567890123456789;d;";
        let (whole, ..) = decode(&framing, [&stream[..]]);
        assert_eq!(whole.len(), 5);
        for first in 0..=stream.len() {
            for second in first..=stream.len() {
                let pieces = [&stream[..first], &stream[first..second], &stream[second..]];
                assert_eq!(decode(&framing, pieces), (whole.clone(), Ok(()), 0));
            }
        }
    }

    #[test]
    fn a_header_that_comes_in_pieces() {
        /// Three bytes to see the length, and more stripped than was ever seen of it.
        fn far(data: &[u8]) -> Result<Cutting, Box<str>> {
            Ok(match data.get(2) {
                None => Cutting::Need(3 - data.len()),
                Some(&length) => Cutting::Frame { length: usize::from(length), strip: 30 },
            })
        }
        let (_, framing) = custom(100, far);
        let mut frame = vec![0, 0, 35];
        frame.resize(35, 7);
        let stream = frame.repeat(3);
        for cut in 0..=stream.len() {
            let (messages, end, pending) = decode(&framing, [&stream[..cut], &stream[cut..]]);
            assert_eq!((messages, end, pending), (vec![vec![7; 5]; 3], Ok(()), 0));
        }
        let (messages, end, pending) = decode(&framing, stream.chunks(1));
        assert_eq!((messages, end, pending), (vec![vec![7; 5]; 3], Ok(()), 0));
    }

    #[test]
    fn a_function_that_asks_byte_by_byte_is_asked_a_few_times() {
        let (trial, framing) = custom(1 << 20, until_semicolon);
        let mut stream = vec![b'x'; 1 << 17];
        stream.push(b';');
        assert_eq!(decode(&framing, [stream.as_slice()]).0.len(), 1);
        assert!(trial.asked.load(Ordering::Relaxed) < 10);
        let (trial, framing) = custom(1 << 20, until_semicolon);
        assert_eq!(decode(&framing, stream.chunks(1000)).0.len(), 1);
        assert!(trial.asked.load(Ordering::Relaxed) < 200);
    }

    #[test]
    fn small_frames_in_a_large_piece_are_shown_little() {
        let (trial, framing) = custom(100, counted);
        let stream = b"\x04abc".repeat(50_000);
        assert_eq!(decode(&framing, [stream.as_slice()]).0.len(), 50_000);
        assert!(trial.shown.load(Ordering::Relaxed) <= 50_000 * 4096);
    }

    #[test]
    fn what_can_not_be_is_refused() {
        let refuse = |rule: Rule, stream: &[u8], error: FrameError| {
            let (_, framing) = custom(100, rule);
            refused_everywhere(&framing, stream, &error);
        };
        let text = |text: &str| FrameError::Custom(text.into());
        refuse(counted, b"\xff", text("no such length"));
        refuse(
            |_| Ok(Cutting::Need(0)),
            b"a",
            text("the cut function was shown 1 byte and needs 0 more: say what they are"),
        );
        refuse(counted, b"\0", text("the cut function named a frame of 0 bytes"));
        refuse(
            |_| Ok(Cutting::Frame { length: 2, strip: 3 }),
            b"a",
            text("the cut function named a frame of 2 bytes, of which 3 are to be stripped"),
        );
        refuse(counted, b"\x65", FrameError::TooLarge { length: 101, limit: 100 });
        refuse(
            |_| Ok(Cutting::Need(usize::MAX)),
            b"a",
            FrameError::TooLarge { length: u64::MAX, limit: 100 },
        );
    }

    #[test]
    fn a_function_that_changes_its_mind_is_refused() {
        fn fickle(data: &[u8]) -> Result<Cutting, Box<str>> {
            Ok(match data.len() {
                1..4 => Cutting::Need(4 - data.len()),
                _ => Cutting::Frame { length: 1, strip: 0 },
            })
        }
        let (_, framing) = custom(100, fickle);
        let mut decoder = Decoder::<Vec<u8>>::default();
        assert_eq!(decoder.next(&framing, &mut &b"abc"[..]), Ok(None));
        let text = "the cut function asked for 4 bytes in all, and then named a frame of 1: it could have \
                    been said before";
        let mut rest = &b"d"[..];
        let error = decoder.next(&framing, &mut rest).unwrap_err();
        assert_eq!(error, FrameError::Custom(text.into()));
        // Shown enough at once, it is believed.
        let message = Decoder::<Vec<u8>>::default().next(&framing, &mut &b"abcd"[..]).unwrap();
        assert_eq!(message, Some(Message::Lent(b"a")));
    }
}
