//! The select poller: two bit sets, copied for each call since the kernel writes its answer into them.
//!
//! # The limit
//!
//! glibc's `fd_set` has `FD_SETSIZE` (1024) bits and select(2) says that a larger descriptor is undefined
//! behaviour: a write past the end of the set. [`Select::admits`] refuses such a descriptor while it is still
//! its owner's and nothing has been registered.
//!
//! # Closed behind our back
//!
//! One closed descriptor fails the whole call with EBADF. It is looked for, dropped and reported ready
//! once: whoever reads from it meets EBADF and knows, and nobody else is disturbed.
//!
//! # Not asked for
//!
//! The exception set (urgent data): all is level-triggered here, see the head of poll.rs.

use std::io;
use std::os::fd::RawFd;
use std::time::Duration;

use super::Capabilities;
use super::readiness::{Event, Poller, Trigger};
use crate::op::{Interest, Token};
use crate::sys::{self, DescriptorSet};

/// Descriptors must be below this number.
const LIMIT: RawFd = libc::FD_SETSIZE as RawFd;

/// The sets, and whose descriptor is whose.
#[derive(Default)]
pub struct Select {
    read: DescriptorSet,
    write: DescriptorSet,
    /// By descriptor. As long as the largest that is watched, so its length is what select(2) wants.
    tokens: Vec<Option<Token>>,
}

impl Select {
    /// Empty sets.
    ///
    /// # Errors
    ///
    /// None today; the other pollers have some.
    pub fn new() -> io::Result<Self> {
        Ok(Self::default())
    }

    fn set(&mut self, fd: RawFd, token: Option<Token>, interest: Interest) {
        self.read.set(fd, interest.contains(Interest::READ));
        self.write.set(fd, interest.contains(Interest::WRITE));
        let index = fd as usize;
        if self.tokens.len() <= index {
            self.tokens.resize(index + 1, None);
        }
        self.tokens[index] = token;
        while let Some(None) = self.tokens.last() {
            self.tokens.pop();
        }
    }

    /// Drops and reports every descriptor that is no longer open.
    fn drop_closed(&mut self, events: &mut Vec<Event>) {
        for fd in (0..self.tokens.len() as RawFd).rev() {
            // Dropping the largest shortens the table.
            if let Some(Some(token)) = self.tokens.get(fd as usize).copied()
                && !sys::is_open(fd)
            {
                self.set(fd, None, Interest::NONE);
                events.push(Event { token, ready: Interest::BOTH, conclusive: false });
            }
        }
    }
}

impl Poller for Select {
    const EDGE: bool = false;

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            native_completions: false,
            scales: false,
            descriptor_limit: Some(LIMIT),
            sends_at_once: true,
        }
    }

    fn admits(&self, fd: RawFd) -> io::Result<()> {
        if (0..LIMIT).contains(&fd) {
            return Ok(());
        }
        let text = format!(
            "descriptor {fd} is over the limit of select: it takes descriptors below {LIMIT} (FD_SETSIZE); \
             use backend='epoll'"
        );
        Err(io::Error::new(io::ErrorKind::InvalidInput, text))
    }

    fn add(
        &mut self,
        fd: RawFd,
        token: Token,
        interest: Interest,
        _trigger: Trigger,
    ) -> io::Result<()> {
        self.admits(fd)?;
        self.set(fd, Some(token), interest);
        Ok(())
    }

    fn modify(&mut self, fd: RawFd, token: Token, interest: Interest) -> io::Result<()> {
        self.add(fd, token, interest, Trigger::Level)
    }

    fn remove(&mut self, fd: RawFd, token: Token) {
        // Else the number already belongs to somebody else.
        if self.tokens.get(fd as usize) == Some(&Some(token)) {
            self.set(fd, None, Interest::NONE);
        }
    }

    fn wait(&mut self, timeout: Option<Duration>, events: &mut Vec<Event>) -> io::Result<()> {
        let (mut read, mut write) = (self.read, self.write);
        let limit = self.tokens.len() as RawFd;
        let mut left = match sys::select(limit, &mut read, &mut write, timeout) {
            Err(error) if error.raw_os_error() == Some(libc::EBADF) => {
                self.drop_closed(events);
                return Ok(());
            }
            other => other?,
        };
        for (fd, token) in (0..).zip(&self.tokens) {
            if left == 0 {
                break;
            }
            let Some(token) = *token else { continue };
            let mut ready = Interest::NONE;
            if read.contains(fd) {
                ready = ready.with(Interest::READ);
                left -= 1;
            }
            if write.contains(fd) {
                ready = ready.with(Interest::WRITE);
                left -= 1;
            }
            if !ready.is_empty() {
                events.push(Event { token, ready, conclusive: true });
            }
        }
        Ok(())
    }
}
