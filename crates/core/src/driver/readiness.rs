//! Completions made from readiness, once, for every back end that only says "you may try now".
//!
//! A [`Poller`] is about a hundred lines; everything else about non-blocking I/O is here: trying until
//! EAGAIN, when a short read means "drained", how much one connection may take in a turn, what a
//! paused direction remembers.
//!
//! # When is a socket drained?
//!
//! An edge-triggered poller tells of a change once. Who stops reading early never hears again. epoll(7)
//! allows two ends: EAGAIN, or, on a stream, a read shorter than its buffer. The second saves a system
//! call for each message and is what we use, with two exceptions in which a short read proves nothing:
//!
//! - a hang-up or error was reported with the data: the end of stream is behind it, read on;
//! - urgent data: `recv` stops at the mark, short, with more behind it (tcp(7), SO_OOBINLINE).
//!
//! # Nobody starves
//!
//! One connection gets at most a few reads or accepts a turn. What is left is noted in
//! `again` and is first in the next turn, which then does not sleep.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use super::{Capabilities, Driver, Fate, Sent, Sink, Waker, Withdrawn, closed, send_front};
use crate::buffer::SendQueue;
use crate::op::{Cancel, Interest, Op, Role, Token};
use crate::sys;

mod pump;
mod slots;

use slots::{Inner, want};

/// How a descriptor is to be watched.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Trigger {
    /// Report changes; the reader goes on until EAGAIN. A poller may report more often.
    Edge,
    /// Report for as long as it is ready.
    Level,
}

/// One report of a poller.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Event {
    /// Who is ready. May be out of date: the reader checks the generation.
    pub token: Token,
    /// In which directions. Errors and hang-ups count as both.
    pub ready: Interest,
    /// A short read proves nothing this time: hang-up, error or urgent data was reported too.
    pub conclusive: bool,
}

/// A thin poller: tells which descriptors are ready.
pub trait Poller {
    /// Changes of interest cost nothing, for streams are registered once, for everything.
    const EDGE: bool;

    /// See [`Driver::capabilities`].
    fn capabilities(&self) -> Capabilities;

    /// Whether the back end can watch this descriptor at all.
    fn admits(&self, _fd: RawFd) -> io::Result<()> {
        Ok(())
    }

    /// Begins to watch. `interest` is not empty. One descriptor number is added once at a time.
    ///
    /// `EOPNOTSUPP` says that this one can only be watched level-triggered, and so it then is.
    fn add(
        &mut self,
        fd: RawFd,
        token: Token,
        interest: Interest,
        trigger: Trigger,
    ) -> io::Result<()>;

    /// Changes what a level-triggered registration reports. `interest` is not empty. A descriptor that was
    /// closed and opened again meanwhile is begun with anew.
    fn modify(&mut self, fd: RawFd, token: Token, interest: Interest) -> io::Result<()>;

    /// Ends watching. The descriptor may already be closed.
    fn remove(&mut self, fd: RawFd, token: Token);

    /// Sleeps until something is ready and appends it to `events`. EINTR is an empty success.
    fn wait(&mut self, timeout: Option<Duration>, events: &mut Vec<Event>) -> io::Result<()>;
}

/// A driver over a poller.
pub struct Readiness<P> {
    inner: RefCell<Inner<P>>,
    hot: Cell<Option<Box<[u8]>>>,
    events: Cell<Vec<Event>>,
    capabilities: Capabilities,
    wake: Token,
    forks: u32,
}

impl<P: Poller> Readiness<P> {
    /// A driver over `poller`.
    ///
    /// # Errors
    ///
    /// No descriptor for the waker, or the poller does not take it.
    pub fn new(poller: P) -> io::Result<Self> {
        let event = Arc::new(sys::Event::new()?);
        let fd = event.as_raw_fd();
        poller.admits(fd)?;
        let capabilities = poller.capabilities();
        let mut inner = Inner {
            poller: Some(poller),
            event: Some(event),
            slots: Vec::new(),
            free: Vec::new(),
            again: VecDeque::new(),
        };
        let wake = inner.insert(fd, Role::Watched);
        inner.slots[wake.index()].watching = Interest::READ;
        inner.sync(wake)?;
        Ok(Self {
            inner: RefCell::new(inner),
            hot: Cell::new(None),
            events: Cell::new(Vec::new()),
            capabilities,
            wake,
            forks: sys::fork_generation(),
        })
    }
}

impl<P: Poller> Driver for Readiness<P> {
    fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    fn attach(&self, fd: RawFd, role: Role) -> io::Result<Token> {
        let mut inner = self.inner.borrow_mut();
        inner.poller.as_ref().ok_or_else(closed)?.admits(fd)?;
        let token = inner.insert(fd, role);
        if P::EDGE && role != Role::Watched {
            let interest = if role == Role::Stream { Interest::BOTH } else { Interest::READ };
            let Some(poller) = &mut inner.poller else {
                return Err(closed());
            };
            match poller.add(fd, token, interest, Trigger::Edge) {
                Ok(()) => inner.slots[token.index()].edge = true,
                Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {}
                Err(error) => {
                    inner.release(token);
                    return Err(error);
                }
            }
        }
        Ok(token)
    }

    fn detach(&self, token: Token, fate: Fate) {
        let mut inner = self.inner.borrow_mut();
        if let Some(slot) = inner.slot(token) {
            let (fd, edge, registered) = (slot.fd, slot.edge, slot.registered);
            // In a forked child the poller's kernel object is the parent's: leave it alone.
            if (edge || !registered.is_empty())
                && sys::fork_generation() == self.forks
                && let Some(poller) = &mut inner.poller
            {
                poller.remove(fd, token);
            }
            inner.release(token);
        }
        drop(inner);
        drop(fate);
    }

    fn submit(&self, token: Token, op: Op) -> io::Result<()> {
        let mut inner = self.inner.borrow_mut();
        let Some(slot) = inner.slot(token) else {
            return Err(io::Error::from_raw_os_error(libc::ENOENT));
        };
        match op {
            Op::Accept => slot.wanted |= want::ACCEPT,
            Op::Receive => slot.wanted |= want::RECEIVE,
            Op::Cancel(Cancel::Accept) => slot.wanted &= !want::ACCEPT,
            Op::Cancel(Cancel::Receive) => slot.wanted &= !want::RECEIVE,
            Op::Cancel(Cancel::Connect) => slot.wanted &= !want::CONNECT,
            Op::Watch(interest) => {
                if !P::EDGE && !interest.is_empty() {
                    // What epoll(7) says by itself: EBADF, or EPERM for files and directories.
                    sys::check_pollable(slot.fd)?;
                }
                let before = std::mem::replace(&mut slot.watching, interest);
                let result =
                    if before == interest { inner.renew(token) } else { inner.sync(token) };
                if result.is_err()
                    && let Some(slot) = inner.slot(token)
                {
                    slot.watching = before;
                }
                return result;
            }
            Op::Connect(address) => {
                slot.wanted |= want::CONNECT;
                slot.refused = 0;
                // What was reported before the connect began says nothing about its end.
                slot.ready = slot.ready.without(Interest::WRITE);
                match sys::connect(slot.fd, &address) {
                    Ok(()) => slot.ready = slot.ready.with(Interest::WRITE),
                    Err(error)
                        if matches!(
                            error.raw_os_error(),
                            Some(libc::EINPROGRESS | libc::EINTR | libc::EALREADY)
                        ) => {}
                    // No route, no such path; and a Unix socket whose listener's backlog is full, where
                    // EAGAIN is final.
                    Err(error) => {
                        slot.refused = error.raw_os_error().unwrap_or(libc::EINVAL);
                        slot.ready = slot.ready.with(Interest::WRITE);
                    }
                }
            }
        }
        let now = slot.wanted != 0 && !slot.ready.and(slot.interest()).is_empty();
        inner.sync(token)?;
        if now {
            inner.list(token);
        }
        Ok(())
    }

    /// Nothing is ever in flight: what was not tried is still in the socket, or in the queue.
    fn withdraw(&self, token: Token) -> io::Result<Withdrawn> {
        let mut inner = self.inner.borrow_mut();
        let Some(slot) = inner.slot(token) else {
            return Err(io::Error::from_raw_os_error(libc::ENOENT));
        };
        slot.wanted &= !want::RECEIVE;
        let sending = slot.pending.take().map(|queue| (*queue, Ok(0)));
        // The interest only shrinks; no poller refuses that.
        let _ = inner.sync(token);
        Ok(Withdrawn { sending, ..Withdrawn::default() })
    }

    #[inline]
    fn send(&self, token: Token, queue: &mut SendQueue) -> Sent {
        let fd = {
            let mut inner = self.inner.borrow_mut();
            match inner.slot(token) {
                Some(slot) => slot.fd,
                None => return Sent::Failed(io::Error::from_raw_os_error(libc::ENOENT)),
            }
        };
        match send_front(fd, queue) {
            Ok(count) => Sent::Done(count),
            Err(error) if sys::would_block(&error) => {
                let mut inner = self.inner.borrow_mut();
                if let Some(slot) = inner.slot(token) {
                    slot.ready = slot.ready.without(Interest::WRITE);
                    slot.pending = Some(Box::new(std::mem::take(queue)));
                }
                match inner.sync(token) {
                    Ok(()) => Sent::Pending,
                    Err(error) => {
                        if let Some(slot) = inner.slot(token)
                            && let Some(back) = slot.pending.take()
                        {
                            *queue = *back;
                        }
                        Sent::Failed(error)
                    }
                }
            }
            Err(error) => Sent::Failed(error),
        }
    }

    fn wait(&self, timeout: Option<Duration>, sink: &mut dyn Sink) -> io::Result<()> {
        let mut events = self.events.take();
        // Those that were not finished last turn; what joins the list from here on is for the next.
        let mut unfinished = self.inner.borrow().again.len();
        let timeout = if unfinished > 0 { Some(Duration::ZERO) } else { timeout };
        let mut result = Ok(());
        {
            let mut inner = self.inner.borrow_mut();
            let poller = inner.poller.as_mut().ok_or_else(closed)?;
            sink.park(&mut || result = poller.wait(timeout, &mut events));
        }
        for event in &events {
            if let Some(slot) = self.inner.borrow_mut().slot(event.token) {
                slot.ready = slot.ready.with(event.ready);
                slot.conclusive &= event.conclusive;
            }
        }
        while unfinished > 0 {
            unfinished -= 1;
            let mut inner = self.inner.borrow_mut();
            let Some(token) = inner.again.pop_front() else {
                break;
            };
            if let Some(slot) = inner.slot(token) {
                slot.listed = false;
                drop(inner);
                self.pump(token, sink);
            }
        }
        for event in &events {
            self.pump(event.token, sink);
        }
        events.clear();
        self.events.set(events);
        result
    }

    fn slot_size(&self) -> usize {
        size_of::<slots::Slot>() + size_of::<u32>()
    }

    fn shared_size(&self) -> usize {
        let inner = self.inner.borrow();
        let slot = self.slot_size();
        let used = inner.slots.iter().filter(|slot| slot.attached).count();
        let free = (inner.slots.len() - used) * slot;
        let hot = self.hot.take();
        let room = hot.as_ref().map_or(0, |hot| hot.len());
        self.hot.set(hot);
        free + room
    }

    fn waker(&self) -> Waker {
        Waker::of(self.inner.borrow().event.as_ref())
    }

    fn close(&self) {
        let mut inner = self.inner.borrow_mut();
        let former = (inner.poller.take(), inner.event.take());
        let slots = std::mem::take(&mut inner.slots);
        inner.free = Vec::new();
        inner.again = VecDeque::new();
        drop(inner);
        drop((former, slots, self.hot.take(), self.events.take()));
    }
}
