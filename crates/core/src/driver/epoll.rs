//! The epoll poller: edge-triggered for our own sockets, level-triggered for watched descriptors.
//!
//! # Registered once
//!
//! A stream is added with every event it can ever need (`IN | OUT | RDHUP | PRI | ET`) and is not
//! touched again until it is removed: pausing, resuming and waiting for room cost no system call.
//! `EPOLLOUT` does not fire for each ACK: the kernel reports room only after a send met a full buffer
//! (`SOCK_NOSPACE`, tcp_output). `EPOLLRDHUP` tells a short read from the end of the stream behind it.
//!
//! # Removed by hand
//!
//! Closing a descriptor removes it from the set only when it was the last one for that open file
//! (epoll(7), questions 6). A child that was just forked may hold another, so we always remove.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::time::Duration;

use super::Capabilities;
use super::readiness::{Event, Poller, Trigger};
use crate::op::{Interest, Token};
use crate::sys;

/// Reports taken by one `epoll_pwait2`; the rest come in the next turn, in order.
const EVENTS: usize = 512;

/// An epoll set.
pub struct Epoll {
    fd: OwnedFd,
    buffer: Box<[libc::epoll_event]>,
}

impl Epoll {
    /// An empty set.
    ///
    /// # Errors
    ///
    /// No descriptor or no memory.
    pub fn new() -> io::Result<Self> {
        let empty = libc::epoll_event { events: 0, u64: 0 };
        Ok(Self { fd: sys::epoll_create()?, buffer: vec![empty; EVENTS].into_boxed_slice() })
    }
}

fn bits(interest: Interest) -> u32 {
    let mut bits = 0;
    if interest.contains(Interest::READ) {
        bits |= libc::EPOLLIN | libc::EPOLLRDHUP | libc::EPOLLPRI;
    }
    if interest.contains(Interest::WRITE) {
        bits |= libc::EPOLLOUT;
    }
    bits as u32
}

fn level(interest: Interest) -> u32 {
    let mut bits = 0;
    if interest.contains(Interest::READ) {
        bits |= libc::EPOLLIN;
    }
    if interest.contains(Interest::WRITE) {
        bits |= libc::EPOLLOUT;
    }
    bits as u32
}

impl Poller for Epoll {
    const EDGE: bool = true;

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            native_completions: false,
            scales: true,
            descriptor_limit: None,
            sends_at_once: true,
        }
    }

    fn add(
        &mut self,
        fd: RawFd,
        token: Token,
        interest: Interest,
        trigger: Trigger,
    ) -> io::Result<()> {
        let events = match trigger {
            Trigger::Edge => bits(interest) | libc::EPOLLET as u32,
            Trigger::Level => level(interest),
        };
        let epoll = self.fd.as_raw_fd();
        match sys::epoll_control(epoll, libc::EPOLL_CTL_ADD, fd, events, token.raw()) {
            // Left behind by somebody who closed and reopened the number under another open file
            // description that is still registered: take it over.
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => {
                sys::epoll_control(epoll, libc::EPOLL_CTL_MOD, fd, events, token.raw())
            }
            other => other,
        }
    }

    fn modify(&mut self, fd: RawFd, token: Token, interest: Interest) -> io::Result<()> {
        let (epoll, events) = (self.fd.as_raw_fd(), level(interest));
        match sys::epoll_control(epoll, libc::EPOLL_CTL_MOD, fd, events, token.raw()) {
            // Its owner closed the descriptor without a word and the number is in use again.
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {
                sys::epoll_control(epoll, libc::EPOLL_CTL_ADD, fd, events, token.raw())
            }
            other => other,
        }
    }

    fn remove(&mut self, fd: RawFd, _token: Token) {
        // EBADF and ENOENT: closed already, and so removed.
        let _ = sys::epoll_control(self.fd.as_raw_fd(), libc::EPOLL_CTL_DEL, fd, 0, 0);
    }

    fn wait(&mut self, timeout: Option<Duration>, events: &mut Vec<Event>) -> io::Result<()> {
        let count = sys::epoll_wait(self.fd.as_raw_fd(), &mut self.buffer, timeout)?;
        for event in &self.buffer[..count] {
            let (bits, token) = (event.events as i32, Token::from_raw(event.u64));
            let failed = bits & (libc::EPOLLERR | libc::EPOLLHUP) != 0;
            let mut ready = Interest::NONE;
            if failed || bits & (libc::EPOLLIN | libc::EPOLLRDHUP | libc::EPOLLPRI) != 0 {
                ready = ready.with(Interest::READ);
            }
            if failed || bits & libc::EPOLLOUT != 0 {
                ready = ready.with(Interest::WRITE);
            }
            let conclusive = !failed && bits & (libc::EPOLLRDHUP | libc::EPOLLPRI) == 0;
            events.push(Event { token, ready, conclusive });
        }
        Ok(())
    }
}
