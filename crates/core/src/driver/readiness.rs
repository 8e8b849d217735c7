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
//! One connection gets at most [`READS`] reads or [`ACCEPTS`] accepts a turn. What is left is noted in
//! `again` and is first in the next turn, which then does not sleep.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use super::{
    Capabilities, Driver, Fate, HOT, READS, Sent, Sink, Waker, closed, is_transient_accept,
    read_into, send_front,
};
use crate::buffer::SendQueue;
use crate::op::{Cancel, Completion, Interest, Op, Role, Token};
use crate::sys;

/// Accepts of one listener in one turn.
const ACCEPTS: usize = 64;

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

/// What a slot was asked to do.
mod want {
    pub const ACCEPT: u8 = 1;
    pub const RECEIVE: u8 = 2;
    pub const CONNECT: u8 = 4;
}

struct Slot {
    generation: u32,
    fd: RawFd,
    role: Role,
    /// Registered once, for everything: the poller is not told of changes.
    edge: bool,
    /// `want::*`, what is in progress.
    wanted: u8,
    /// What `Watch` asked for.
    watching: Interest,
    /// What the poller was told, level-triggered only.
    registered: Interest,
    /// Directions that may be tried: set by a report, cleared by EAGAIN or a short read.
    ready: Interest,
    /// A short read may be taken for "drained".
    conclusive: bool,
    /// What the last receive brought, bytes.
    last: u32,
    /// The errno of a connect that failed within its call, or 0.
    refused: i32,
    /// Stands in `again`.
    listed: bool,
    attached: bool,
    /// A send that met a full socket buffer.
    pending: Option<Box<SendQueue>>,
}

impl Slot {
    fn interest(&self) -> Interest {
        let mut interest = self.watching;
        if self.wanted & (want::ACCEPT | want::RECEIVE) != 0 {
            interest = interest.with(Interest::READ);
        }
        if self.wanted & want::CONNECT != 0 || self.pending.is_some() {
            interest = interest.with(Interest::WRITE);
        }
        interest
    }
}

struct Inner<P> {
    /// None once closed; then there are no slots either.
    poller: Option<P>,
    event: Option<Arc<sys::Event>>,
    slots: Vec<Slot>,
    free: Vec<u32>,
    again: VecDeque<Token>,
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

impl<P: Poller> Inner<P> {
    #[inline]
    fn slot(&mut self, token: Token) -> Option<&mut Slot> {
        let slot = self.slots.get_mut(token.index())?;
        (slot.attached && slot.generation == token.generation()).then_some(slot)
    }

    fn insert(&mut self, fd: RawFd, role: Role) -> Token {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot {
                generation: 0,
                fd: -1,
                role,
                edge: false,
                wanted: 0,
                watching: Interest::NONE,
                registered: Interest::NONE,
                ready: Interest::NONE,
                conclusive: true,
                last: 0,
                refused: 0,
                listed: false,
                attached: false,
                pending: None,
            });
            (self.slots.len() - 1) as u32
        });
        let slot = &mut self.slots[index as usize];
        let generation = slot.generation;
        *slot = Slot {
            generation,
            fd,
            role,
            edge: false,
            wanted: 0,
            watching: Interest::NONE,
            registered: Interest::NONE,
            ready: Interest::NONE,
            conclusive: true,
            last: 0,
            refused: 0,
            listed: false,
            attached: true,
            pending: None,
        };
        Token::new(index, generation)
    }

    fn release(&mut self, token: Token) {
        let slot = &mut self.slots[token.index()];
        slot.attached = false;
        slot.pending = None;
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(token.index() as u32);
    }

    /// Tells a level-triggered poller what the slot now waits for.
    fn sync(&mut self, token: Token) -> io::Result<()> {
        let Some(slot) = self.slot(token) else {
            return Ok(());
        };
        if P::EDGE && slot.edge {
            return Ok(());
        }
        let (fd, before, after) = (slot.fd, slot.registered, slot.interest());
        if before == after {
            return Ok(());
        }
        slot.registered = after;
        let Some(poller) = &mut self.poller else {
            return Err(closed());
        };
        let result = if after.is_empty() {
            poller.remove(fd, token);
            Ok(())
        } else if before.is_empty() {
            poller.add(fd, token, after, Trigger::Level)
        } else {
            poller.modify(fd, token, after)
        };
        if result.is_err()
            && let Some(slot) = self.slot(token)
        {
            slot.registered = before;
        }
        result
    }

    /// Asked for once more, nothing changed. But the owner of a watched descriptor may have closed it without a
    /// word, and the number be in use again: the poller is told again, too.
    fn renew(&mut self, token: Token) -> io::Result<()> {
        let Some(slot) = self.slot(token) else {
            return Ok(());
        };
        let (fd, registered) = (slot.fd, slot.registered);
        match &mut self.poller {
            Some(poller) if !registered.is_empty() => poller.modify(fd, token, registered),
            _ => Ok(()),
        }
    }

    /// Notes that `token` can make progress without a new report.
    fn list(&mut self, token: Token) {
        if let Some(slot) = self.slot(token)
            && !slot.listed
        {
            slot.listed = true;
            self.again.push_back(token);
        }
    }
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

    /// Does what `token` may do now. Called after a report and for those in `again`.
    fn pump(&self, token: Token, sink: &mut dyn Sink) {
        let (role, watched) = {
            let mut inner = self.inner.borrow_mut();
            let Some(slot) = inner.slot(token) else {
                return;
            };
            (slot.role, slot.ready.and(slot.watching))
        };
        match role {
            Role::Stream => {
                self.pump_connect(token, sink);
                self.pump_send(token, sink);
                self.pump_receive(token, sink);
            }
            Role::Listener => self.pump_accept(token, sink),
            Role::Watched if token == self.wake => {
                if let Some(event) = &self.inner.borrow().event {
                    event.lower();
                }
            }
            Role::Watched => {
                if !watched.is_empty() {
                    sink.complete(token, Completion::Ready(watched));
                }
                // Level-triggered: the poller says it again while it is so.
                if let Some(slot) = self.inner.borrow_mut().slot(token) {
                    slot.ready = Interest::NONE;
                }
            }
        }
    }

    fn pump_receive(&self, token: Token, sink: &mut dyn Sink) {
        let mut hot = self.hot.take().unwrap_or_else(|| vec![0; HOT].into_boxed_slice());
        for _ in 0..READS {
            let (fd, conclusive, last) = {
                let mut inner = self.inner.borrow_mut();
                match inner.slot(token) {
                    Some(slot)
                        if slot.wanted & want::RECEIVE != 0
                            && slot.ready.intersects(Interest::READ) =>
                    {
                        (slot.fd, slot.conclusive, slot.last as usize)
                    }
                    _ => {
                        drop(inner);
                        self.hot.set(Some(hot));
                        return;
                    }
                }
            };
            let read = read_into(fd, (token, last), &mut hot, sink);
            let drained = match &read.result {
                Ok(0) => true,
                Ok(count) => conclusive && *count < read.size,
                Err(_) => true,
            };
            let ended = match &read.result {
                Ok(count) => *count == 0,
                Err(error) => !sys::would_block(error),
            };
            {
                let mut inner = self.inner.borrow_mut();
                if let Some(slot) = inner.slot(token) {
                    if let Ok(count) = read.result {
                        slot.last = count as u32;
                    }
                    if ended {
                        slot.wanted &= !want::RECEIVE;
                    } else if drained {
                        slot.ready = slot.ready.without(Interest::READ);
                        slot.conclusive = true;
                    }
                }
                if ended {
                    // The interest only shrinks; no poller refuses that.
                    let _ = inner.sync(token);
                }
            }
            match read.result {
                Ok(0) => sink.complete(token, Completion::ReceiveEnded(Ok(()))),
                Ok(count) => sink.complete(token, read.completion(count, &hot)),
                Err(error) if sys::would_block(&error) => {}
                Err(error) => sink.complete(token, Completion::ReceiveEnded(Err(error))),
            }
            if drained || ended {
                self.hot.set(Some(hot));
                return;
            }
        }
        self.hot.set(Some(hot));
        self.inner.borrow_mut().list(token);
    }

    fn pump_accept(&self, token: Token, sink: &mut dyn Sink) {
        for _ in 0..ACCEPTS {
            let fd = {
                let mut inner = self.inner.borrow_mut();
                match inner.slot(token) {
                    Some(slot)
                        if slot.wanted & want::ACCEPT != 0
                            && slot.ready.intersects(Interest::READ) =>
                    {
                        slot.fd
                    }
                    _ => return,
                }
            };
            match sys::accept(fd) {
                Ok(new) => sink.complete(token, Completion::Accepted(Ok(new))),
                Err(error) => match error.raw_os_error() {
                    Some(libc::EAGAIN) => {
                        if let Some(slot) = self.inner.borrow_mut().slot(token) {
                            slot.ready = slot.ready.without(Interest::READ);
                        }
                        return;
                    }
                    _ if is_transient_accept(&error) => {}
                    // No descriptors, no memory, or not a listener. The listener stays ready: the
                    // next `Accept` tries at once.
                    _ => {
                        let mut inner = self.inner.borrow_mut();
                        if let Some(slot) = inner.slot(token) {
                            slot.wanted &= !want::ACCEPT;
                        }
                        let _ = inner.sync(token);
                        drop(inner);
                        sink.complete(token, Completion::Accepted(Err(error)));
                        return;
                    }
                },
            }
        }
        self.inner.borrow_mut().list(token);
    }

    fn pump_connect(&self, token: Token, sink: &mut dyn Sink) {
        let (fd, refused) = {
            let mut inner = self.inner.borrow_mut();
            match inner.slot(token) {
                Some(slot)
                    if slot.wanted & want::CONNECT != 0
                        && slot.ready.intersects(Interest::WRITE) =>
                {
                    (slot.fd, slot.refused)
                }
                _ => return,
            }
        };
        // epoll reports a socket that has not begun to connect as hung up, so readiness alone does
        // not mean that it ended: connect(2) says to ask SO_ERROR, and a name proves success.
        let result = match sys::take_error(fd) {
            _ if refused != 0 => Err(io::Error::from_raw_os_error(refused)),
            Ok(()) => match sys::peer_name(fd) {
                Ok(_) => Ok(()),
                Err(_) => {
                    if let Some(slot) = self.inner.borrow_mut().slot(token) {
                        slot.ready = slot.ready.without(Interest::WRITE);
                    }
                    return;
                }
            },
            Err(error) => Err(error),
        };
        {
            let mut inner = self.inner.borrow_mut();
            if let Some(slot) = inner.slot(token) {
                slot.wanted &= !want::CONNECT;
            }
            let _ = inner.sync(token);
        }
        sink.complete(token, Completion::Connected(result));
    }

    fn pump_send(&self, token: Token, sink: &mut dyn Sink) {
        let (fd, queue) = {
            let mut inner = self.inner.borrow_mut();
            match inner.slot(token) {
                Some(slot) if slot.ready.intersects(Interest::WRITE) => {
                    let Some(queue) = slot.pending.take() else {
                        return;
                    };
                    (slot.fd, queue)
                }
                _ => return,
            }
        };
        let result = send_front(fd, &queue);
        let mut inner = self.inner.borrow_mut();
        let Some(slot) = inner.slot(token) else {
            return;
        };
        match result {
            Err(error) if sys::would_block(&error) => {
                slot.ready = slot.ready.without(Interest::WRITE);
                slot.pending = Some(queue);
            }
            result => {
                let _ = inner.sync(token);
                drop(inner);
                sink.complete(token, Completion::Sent(*queue, result));
            }
        }
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
