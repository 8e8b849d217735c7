//! What came back: how many whole answers, and what is wrong with them.
//!
//! Owns what a connection remembers between two pieces, and what the connections of a thread share. Knows no socket.

use wireway_core::frame::{Decoder, Framing, Message};

use crate::figures::Figures;
use crate::http;
use crate::message::Stream;
use crate::options::Answers;

/// What must come back, for all connections of a thread.
pub enum Expected {
    /// What was sent.
    Same,
    /// As many bytes.
    Bytes,
    /// A frame each.
    Frames(Framing, Option<usize>),
    /// A response each; the one that was seen last.
    Http(bool, http::Known),
}

impl Expected {
    /// As asked for.
    pub fn new(answers: &Answers) -> Self {
        match answers {
            Answers::Same => Self::Same,
            Answers::Bytes => Self::Bytes,
            Answers::Frames { framing, size } => Self::Frames(framing.clone(), *size),
            Answers::Http { head } => Self::Http(*head, http::Known::default()),
        }
    }
}

/// What one connection remembers between two pieces.
pub enum Reader {
    /// Where in a message the next byte is.
    Counted(usize),
    /// Half a frame.
    Frames(Decoder<Vec<u8>>),
    /// Half an answer.
    Http(Box<http::Reader>),
}

/// What a piece held.
#[derive(Default, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Whole answers.
    pub whole: u64,
    /// None follows on this connection: the server said so.
    pub last: bool,
}

struct Counting<'a> {
    whole: u64,
    figures: &'a mut Figures,
}

impl http::Sink for Counting<'_> {
    fn answer(&mut self, status: u16) {
        self.whole += 1;
        if self.figures.measuring {
            *self.figures.statuses.entry(status).or_default() += 1;
        }
        if status >= 400 {
            self.figures.went_wrong(&format!("HTTP status {status}"), 1);
        }
    }
}

impl Reader {
    /// That of a new connection.
    pub fn new(expected: &Expected) -> Self {
        match expected {
            Expected::Same | Expected::Bytes => Self::Counted(0),
            Expected::Frames(..) => Self::Frames(Decoder::default()),
            Expected::Http(..) => Self::Http(Box::default()),
        }
    }

    /// Takes a piece of what came. What is wrong with a single answer is counted in `figures`.
    ///
    /// # Errors
    /// What came is nothing that answers could follow.
    pub fn take(
        &mut self,
        mut data: &[u8],
        expected: &mut Expected,
        stream: &Stream,
        figures: &mut Figures,
    ) -> Result<Taken, String> {
        match (self, expected) {
            (Self::Frames(decoder), Expected::Frames(framing, size)) => {
                let mut whole = 0;
                loop {
                    let length = match decoder.next(framing, &mut data) {
                        Ok(None) => return Ok(Taken { whole, last: false }),
                        Ok(Some(Message::Lent(message))) => message.len(),
                        Ok(Some(Message::Whole(message))) => message.len(),
                        Err(error) => return Err(format!("what came is no frame: {error}")),
                    };
                    whole += 1;
                    if size.is_some_and(|size| size != length) {
                        figures.went_wrong("an answer of another size came back", 1);
                    }
                }
            }
            (Self::Http(reader), Expected::Http(head, known)) => {
                let mut counting = Counting { whole: 0, figures };
                reader.take(data, *head, known, &mut counting)?;
                Ok(Taken { whole: counting.whole, last: reader.is_last() })
            }
            (Self::Counted(at), expected) => {
                if matches!(expected, Expected::Same) && *data != *stream.piece(*at, data.len()) {
                    return Err(stream.complaint(*at, data).to_owned());
                }
                let there = *at + data.len();
                *at = there % stream.frame();
                Ok(Taken { whole: (there / stream.frame()) as u64, last: false })
            }
            _ => Ok(Taken::default()),
        }
    }

    /// The server closed: answers that ended with that.
    pub fn end(&mut self, figures: &mut Figures) -> Taken {
        let Self::Http(reader) = self else { return Taken::default() };
        let mut counting = Counting { whole: 0, figures };
        let last = reader.end(&mut counting);
        Taken { whole: counting.whole, last }
    }
}

#[cfg(test)]
mod tests {
    use wireway_core::frame::{ByteOrder, LengthPrefix};

    use super::*;
    use crate::message::Message as Sent;

    fn framing() -> Framing {
        Framing::LengthPrefix(LengthPrefix::new(1, ByteOrder::Big, 9).unwrap())
    }

    fn take(answers: &Answers, pieces: &[&[u8]]) -> (u64, Figures, Result<(), String>) {
        let mut expected = Expected::new(answers);
        let stream = Stream::new(Sent::new(&framing(), b"abc").unwrap(), 100);
        let (mut reader, mut figures) = (Reader::new(&expected), Figures::new(4));
        figures.measuring = true;
        let (mut whole, mut outcome) = (0, Ok(()));
        for piece in pieces {
            match reader.take(piece, &mut expected, &stream, &mut figures) {
                Ok(taken) => whole += taken.whole,
                Err(error) => outcome = Err(error),
            }
        }
        (whole, figures, outcome)
    }

    #[test]
    fn the_same_bytes() {
        let (whole, _, outcome) = take(&Answers::Same, &[b"\x03a", b"bc\x03ab", b"c\x03"]);
        assert_eq!((whole, outcome), (2, Ok(())));
        let (_, _, outcome) = take(&Answers::Same, &[b"\x03a", b"xc"]);
        assert_eq!(outcome, Err("other bytes came back than were sent".to_owned()));
        let (_, _, outcome) = take(&Answers::Same, &[b"\x02ab"]);
        assert_eq!(outcome, Err("an answer of another size came back".to_owned()));
        assert_eq!(take(&Answers::Bytes, &[b"12345", b"678"]).0, 2);
    }

    #[test]
    fn frames_of_any_content() {
        let of = |size| Answers::Frames { framing: framing(), size };
        let pieces: [&[u8]; 3] = [b"\x03x", b"yz\x01x", b"\x00\x03abc"];
        let (whole, figures, outcome) = take(&of(None), &pieces);
        assert_eq!((whole, outcome), (4, Ok(())));
        assert!(figures.errors.is_empty());
        let (whole, figures, outcome) = take(&of(Some(3)), &pieces);
        assert_eq!((whole, outcome), (4, Ok(())));
        assert_eq!(figures.errors["an answer of another size came back"], 2);
        let (_, _, outcome) = take(&of(None), &[b"\x0a"]);
        assert!(outcome.unwrap_err().starts_with("what came is no frame"));
    }

    #[test]
    fn statuses() {
        let one = b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n";
        let (whole, figures, _) = take(&Answers::Http { head: false }, &[one, one]);
        assert_eq!((whole, figures.statuses[&503], figures.errors["HTTP status 503"]), (2, 2, 2));
    }
}
