//! The poll poller: one array of descriptors, kept from turn to turn and walked by the kernel in each.
//!
//! # Only who waits is in the array
//!
//! `POLLHUP` and `POLLERR` are reported whether asked for or not (poll(2)). A paused stream whose peer
//! left would end every wait at once, so an entry without interest is taken out, not blanked.
//!
//! # Closed behind our back
//!
//! A descriptor that was closed while attached is `POLLNVAL` at every call. Its entry is dropped and
//! reported ready once: whoever reads from it meets EBADF and knows.
//!
//! # Not asked for
//!
//! `POLLPRI`: all is level-triggered here, what lies behind an urgent mark is reported as readable in the
//! next turn. (Asked for, it would have to count as readable, also to a watcher who can not read it
//! and would then spin.)

use std::io;
use std::os::fd::RawFd;
use std::time::Duration;

use super::Capabilities;
use super::readiness::{Event, Poller, Trigger};
use crate::op::{Interest, Token};
use crate::sys;

/// `places` of a slot that has no entry.
const NOWHERE: u32 = u32::MAX;

/// A poll array.
#[derive(Default)]
pub struct Poll {
    /// What the kernel sees. Dense: a removed entry is replaced by the last.
    fds: Vec<libc::pollfd>,
    /// Whose entry stands at the same place in `fds`.
    tokens: Vec<Token>,
    /// By slot: the place of its entry.
    places: Vec<u32>,
}

impl Poll {
    /// An empty array.
    ///
    /// # Errors
    ///
    /// None today; the other pollers have some.
    pub fn new() -> io::Result<Self> {
        Ok(Self::default())
    }

    /// The place of the entry of `token`.
    fn place(&self, token: Token) -> Option<usize> {
        let place = *self.places.get(token.index())? as usize;
        (self.tokens.get(place) == Some(&token)).then_some(place)
    }

    fn drop_entry(&mut self, place: usize) {
        self.fds.swap_remove(place);
        let token = self.tokens.swap_remove(place);
        self.places[token.index()] = NOWHERE;
        if let Some(moved) = self.tokens.get(place) {
            self.places[moved.index()] = place as u32;
        }
    }
}

/// What to ask of `poll(2)` for `interest`.
pub(super) fn bits(interest: Interest) -> libc::c_short {
    let mut bits = 0;
    if interest.contains(Interest::READ) {
        bits |= libc::POLLIN | libc::POLLRDHUP;
    }
    if interest.contains(Interest::WRITE) {
        bits |= libc::POLLOUT;
    }
    bits
}

/// What the answer of `poll(2)` means.
pub(super) fn event(token: Token, bits: libc::c_short) -> Event {
    let failed = bits & (libc::POLLERR | libc::POLLHUP | libc::POLLNVAL) != 0;
    let mut ready = Interest::NONE;
    if failed || bits & (libc::POLLIN | libc::POLLRDHUP | libc::POLLPRI) != 0 {
        ready = ready.with(Interest::READ);
    }
    if failed || bits & libc::POLLOUT != 0 {
        ready = ready.with(Interest::WRITE);
    }
    let conclusive = !failed && bits & (libc::POLLRDHUP | libc::POLLPRI) == 0;
    Event { token, ready, conclusive }
}

impl Poller for Poll {
    const EDGE: bool = false;

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            native_completions: false,
            scales: false,
            descriptor_limit: None,
            sends_at_once: true,
        }
    }

    fn add(
        &mut self,
        fd: RawFd,
        token: Token,
        interest: Interest,
        _trigger: Trigger,
    ) -> io::Result<()> {
        if self.places.len() <= token.index() {
            self.places.resize(token.index() + 1, NOWHERE);
        }
        self.places[token.index()] = self.fds.len() as u32;
        self.fds.push(libc::pollfd { fd, events: bits(interest), revents: 0 });
        self.tokens.push(token);
        Ok(())
    }

    fn modify(&mut self, fd: RawFd, token: Token, interest: Interest) -> io::Result<()> {
        match self.place(token) {
            Some(place) => self.fds[place].events = bits(interest),
            // Dropped when it was found closed; its owner has opened it again.
            None => self.add(fd, token, interest, Trigger::Level)?,
        }
        Ok(())
    }

    fn remove(&mut self, _fd: RawFd, token: Token) {
        if let Some(place) = self.place(token) {
            self.drop_entry(place);
        }
    }

    fn wait(&mut self, timeout: Option<Duration>, events: &mut Vec<Event>) -> io::Result<()> {
        let mut left = sys::poll(&mut self.fds, timeout)?;
        // From the back, for dropping an entry moves the last into its place.
        for place in (0..self.fds.len()).rev() {
            if left == 0 {
                break;
            }
            let bits = self.fds[place].revents;
            if bits == 0 {
                continue;
            }
            left -= 1;
            events.push(event(self.tokens[place], bits));
            if bits & libc::POLLNVAL != 0 {
                self.drop_entry(place);
            }
        }
        Ok(())
    }
}
