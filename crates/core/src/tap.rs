//! What is seen of connections that somebody watches: a bounded queue of events, sans I/O.
//!
//! Owns the bound and what becomes of events beyond it. Knows no connection: who puts events in says which one they are
//! of, by a key of its own.
//!
//! ```text
//!   wire       Received, Cut, Queued, Left, Ended    the stream as it was; beyond the bound newer ones are lost
//!   messages   Message, Ended                        the last ones; beyond the bound older ones go
//! ```
//!
//! Who watches the wire and was too slow finds a [`What::Gap`] where events are missing. It says how many bytes had come
//! and were not cut, or were queued and had not left, when the events go on: so frames are told apart again at once.

use std::collections::VecDeque;

/// What an event costs besides its bytes.
const EACH: usize = size_of::<Event>();

/// A direction, as seen from here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    /// From the peer.
    In,
    /// To the peer.
    Out,
}

/// What happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum What {
    /// A piece of the stream, as it came or as the kernel took it.
    Piece(Way, Vec<u8>),
    /// The next `frame` bytes of what came, seen or not, are a frame: of `message` bytes for the program.
    Cut {
        /// Bytes of the frame.
        frame: usize,
        /// Bytes of its message.
        message: usize,
    },
    /// The next bytes of what came, so many, are a PROXY header.
    Header(usize),
    /// A frame of so many bytes was put behind what is to be sent.
    Queued(usize),
    /// A message: as the handler got it, or as the frame that was queued. `length`: all its bytes, of which there may
    /// be fewer here.
    Message {
        /// Whose.
        way: Way,
        /// Its first bytes.
        bytes: Vec<u8>,
        /// How many it has.
        length: usize,
    },
    /// Here the events of one direction begin, or begin again.
    Gap {
        /// Which.
        way: Way,
        /// Events that were lost.
        events: u64,
        /// Bytes of pieces among them.
        bytes: u64,
        /// Bytes that had come and were not cut, or were queued and had not left.
        waiting: usize,
    },
    /// The connection is over.
    Ended {
        /// The code of its close reason.
        code: &'static str,
        /// In words.
        why: String,
    },
}

/// Something that happened to the connection `key` at `at` nanoseconds since 1970.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Event {
    /// When.
    pub at: u64,
    /// To which.
    pub key: u64,
    /// What.
    pub what: What,
}

impl Event {
    fn size(&self) -> usize {
        EACH + match &self.what {
            What::Piece(_, bytes) | What::Message { bytes, .. } => bytes.len(),
            What::Ended { why, .. } => why.len(),
            _ => 0,
        }
    }
}

/// Which events are kept, and which go when there are too many.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Keep {
    /// The stream; what does not fit is lost, and the loser is told.
    Wire,
    /// Messages, at most so many: the oldest go.
    Messages(usize),
}

/// Events that wait to be taken.
pub struct Tap {
    keep: Keep,
    room: usize,
    events: VecDeque<Event>,
    size: usize,
    gone: u64,
}

impl Tap {
    /// A tap for at most `room` bytes of events, of which each costs its bytes and a little more.
    pub fn new(keep: Keep, room: usize) -> Self {
        Self { keep, room, events: VecDeque::new(), size: 0, gone: 0 }
    }

    /// What it keeps.
    pub fn keep(&self) -> Keep {
        self.keep
    }

    /// Bytes of what waits.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Events that did not stay: lost, or older than what is kept.
    pub fn gone(&self) -> u64 {
        self.gone
    }

    /// Puts an event behind the others. False: it is lost, since there is no room.
    pub fn push(&mut self, event: Event) -> bool {
        let size = event.size();
        match self.keep {
            Keep::Wire => {
                // The end is told in any case: it comes once.
                let last = matches!(event.what, What::Ended { .. });
                if self.size + size > self.room && !last {
                    self.gone += 1;
                    return false;
                }
            }
            Keep::Messages(most) => {
                while self.events.len() >= most || self.size + size > self.room {
                    let Some(former) = self.events.pop_front() else { break };
                    self.size -= former.size();
                    self.gone += 1;
                }
            }
        }
        self.size += size;
        self.events.push_back(event);
        true
    }

    /// The first events, of about `bytes` bytes together, at least one if there is one.
    pub fn take(&mut self, bytes: usize) -> Vec<Event> {
        let mut taken = Vec::new();
        let mut size = 0;
        while let Some(event) = self.events.pop_front() {
            size += event.size();
            taken.push(event);
            if size >= bytes {
                break;
            }
        }
        self.size -= size;
        if self.events.is_empty() {
            self.events = VecDeque::new();
        }
        taken
    }

    /// All events, which stay.
    pub fn events(&self) -> impl Iterator<Item = &Event> {
        self.events.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(key: u64, length: usize) -> Event {
        Event { at: 0, key, what: What::Piece(Way::In, vec![7; length]) }
    }

    fn message(key: u64, length: usize) -> Event {
        let what = What::Message { way: Way::Out, bytes: vec![7; length], length };
        Event { at: 0, key, what }
    }

    #[test]
    fn what_does_not_fit_is_lost_and_what_is_there_stays() {
        let mut tap = Tap::new(Keep::Wire, 2 * (EACH + 100));
        assert!(tap.push(piece(1, 100)));
        assert!(tap.push(piece(2, 100)));
        assert!(!tap.push(piece(3, 0)));
        let ended = What::Ended { code: "closed", why: String::new() };
        assert!(tap.push(Event { at: 0, key: 4, what: ended }));
        assert_eq!(tap.gone(), 1);
        assert_eq!(tap.take(1).iter().map(|event| event.key).collect::<Vec<_>>(), [1]);
        assert!(tap.push(piece(5, 10)));
        assert_eq!(
            tap.take(usize::MAX).iter().map(|event| event.key).collect::<Vec<_>>(),
            [2, 4, 5]
        );
        assert_eq!((tap.size(), tap.events().count()), (0, 0));
    }

    #[test]
    fn the_last_messages_stay() {
        let mut tap = Tap::new(Keep::Messages(3), 10 * (EACH + 100));
        for key in 0..5 {
            assert!(tap.push(message(key, 100)));
        }
        assert_eq!(tap.events().map(|event| event.key).collect::<Vec<_>>(), [2, 3, 4]);
        // One large one takes the room of all others, and is kept even when it is larger than that.
        assert!(tap.push(message(9, 20 * (EACH + 100))));
        assert_eq!(tap.events().map(|event| event.key).collect::<Vec<_>>(), [9]);
        assert!(tap.push(message(10, 1)));
        assert_eq!(tap.events().map(|event| event.key).collect::<Vec<_>>(), [10]);
        assert_eq!(tap.gone(), 6);
    }
}
