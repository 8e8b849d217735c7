//! One connection of a run: where it is in its life, and what is under way on it.
//!
//! ```text
//!   waiting ──> connecting ──> open ──> lost
//!      ^                        │
//!      └────────────────────────┘  the server ended one that had answered: it is made again, once each time
//! ```

use std::collections::VecDeque;
use std::time::Instant;

use crate::answers::{Expected, Reader};
use crate::wire::Wire;

/// Where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It is not begun.
    Waiting,
    /// It is being made, since then.
    Connecting(Instant),
    /// It carries messages.
    Open,
    /// It is no more.
    Lost,
}

/// A connection.
pub struct Conn {
    pub state: State,
    pub wire: Option<Wire>,
    pub reader: Reader,
    /// Bytes that should have left, and where in a message the first of them is.
    pub unsent: usize,
    pub send_at: usize,
    /// When messages left, or were meant to, and how many at that time.
    pub under_way: VecDeque<(Instant, u64)>,
    pub in_flight: u64,
    /// When something came last, or was asked for when nothing was under way.
    pub heard: Instant,
    /// Whether the kernel takes more, and whether it is in the list of those that have something to send.
    pub writable: bool,
    pub dirty: bool,
    /// Whether an answer came since it was made.
    pub answered: bool,
    /// When it was asked to be made.
    pub wanted: Instant,
}

impl Conn {
    /// One that is not begun.
    pub fn new(expected: &Expected, now: Instant) -> Self {
        Self {
            state: State::Waiting,
            wire: None,
            reader: Reader::new(expected),
            unsent: 0,
            send_at: 0,
            under_way: VecDeque::new(),
            in_flight: 0,
            heard: now,
            writable: false,
            dirty: false,
            answered: false,
            wanted: now,
        }
    }

    /// So many messages should leave, or have left, at that time.
    pub fn ask(&mut self, messages: u64, frame: usize, meant: Instant, now: Instant) {
        if self.in_flight == 0 {
            self.heard = now;
        }
        self.unsent += messages as usize * frame;
        self.in_flight += messages;
        match self.under_way.back_mut() {
            Some((at, count)) if *at == meant => *count += messages,
            _ => self.under_way.push_back((meant, messages)),
        }
    }
}
