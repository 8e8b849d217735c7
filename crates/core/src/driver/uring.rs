//! io_uring: the one back end whose kernel interface has the shape of our contract.
//!
//! # The life of a request
//!
//! ```text
//!   submit() notes what is wanted        wait(): entry made     kernel
//!   wanted ----------- todo list ------------> armed ---------------------> completion
//!      ^                                         |                              |
//!      |   multishot ended (no F_MORE:           |  no longer wanted            |  token's generation
//!      +-- out of buffers, overflow) <-----------+--> cancel, in order          |  is over: drop it
//!                                                                               v
//!                                                                             sink
//! ```
//!
//! Nothing is written into the submission queue outside of `wait`. So between turns no entry names a
//! descriptor number, and a number may be closed and reused at any moment: requests that the kernel
//! already has hold the *file*, not the number (io_uring_enter(2)).
//!
//! # Facts this file rests on
//!
//! - One issuer and deferred task work (`SINGLE_ISSUER | DEFER_TASKRUN`, io_uring_setup(2)): completions
//!   are made only while we are inside `io_uring_enter`, on our thread, so a turn costs one call that
//!   submits everything queued, runs what became ready, and sleeps.
//! - A multishot receive ends, without losing data, whenever a completion lacks `IORING_CQE_F_MORE`:
//!   the buffers ran out (ENOBUFS), the completion queue was full. It is simply armed again.
//! - Two sends in flight on one stream may overtake each other when the first meets a full socket. So
//!   there is one; the queue under it is moved into the request and comes back with the completion.
//! - A request that waits keeps its file open: closing the descriptor sends no FIN while a receive is
//!   armed. `detach` therefore cancels first, and the cancel is submitted in the same turn.
//! - A request that was cancelled can complete with data all the same; nothing is delivered for a
//!   receive that is not wanted, it is stashed and comes first when it is wanted again.
//!
//! # Threads and forks
//!
//! The ring belongs to the thread that waits. If another thread waits later (a loop that is run again
//! elsewhere), a new ring is made and everything wanted is armed on it; a send that was waiting for
//! room is submitted again. A forked child never enters its parent's ring.

use std::cell::{Cell, RefCell, RefMut};
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use io_uring::{cqueue, opcode, squeue, types};

use super::{Capabilities, Driver, Fate, Sent, Sink, Waker, closed};
use crate::buffer::{MAX_SLICES, SendQueue};
use crate::op::{Cancel, Completion, Interest, Op, Role, SocketAddress, Token};
use crate::sys;
use buffers::Buffers;
use ring::{Entry, Ring};

mod buffers;
mod ring;

/// What a request is, in the top byte of its user data.
mod kind {
    pub const ACCEPT: u8 = 1;
    pub const RECEIVE: u8 = 2;
    pub const CONNECT: u8 = 4;
    pub const WATCH: u8 = 8;
    pub const SEND: u8 = 16;
    /// Cancels: their own results say nothing that the cancelled request does not say.
    pub const CANCEL: u8 = 128;
}

/// The generation as it fits into user data.
const GENERATION: u32 = 0x00ff_ffff;

fn user_data(kind: u8, token: Token) -> u64 {
    u64::from(kind) << 56 | u64::from(token.generation() & GENERATION) << 32 | token.index() as u64
}

/// A send that the kernel has. Boxed: the kernel keeps pointers into it.
struct InFlight {
    queue: SendQueue,
    message: libc::msghdr,
    slices: Vec<libc::iovec>,
}

/// What came for an operation that was not wanted just then.
#[derive(Default)]
struct Stash {
    bytes: Vec<u8>,
    end: Option<io::Result<()>>,
    accepted: VecDeque<OwnedFd>,
}

struct Slot {
    generation: u32,
    fd: RawFd,
    attached: bool,
    /// `kind::*` that are asked for.
    wanted: u8,
    /// `kind::*` that the kernel has.
    armed: u8,
    /// `kind::*` of `armed` that were told to end.
    ending: u8,
    /// Stands in `todo`.
    listed: bool,
    /// Has received something since its receive was armed.
    fed: bool,
    watching: Interest,
    /// What the armed poll asks for.
    polled: Interest,
    stash: Option<Box<Stash>>,
    send: Option<Box<InFlight>>,
    address: Option<Box<SocketAddress>>,
}

impl Slot {
    fn new(generation: u32, fd: RawFd) -> Self {
        Self {
            generation,
            fd,
            attached: true,
            wanted: 0,
            armed: 0,
            ending: 0,
            listed: false,
            fed: false,
            watching: Interest::NONE,
            polled: Interest::NONE,
            stash: None,
            send: None,
            address: None,
        }
    }
}

struct Inner {
    ring: Ring,
    buffers: Buffers,
    event: Arc<sys::Event>,
    forks: u32,
    /// The thread that the ring is bound to, 0 before the first wait.
    thread: libc::pid_t,
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// Tokens whose wanted and armed operations differ, or that have something stashed to deliver.
    todo: Vec<Token>,
    /// Tokens whose receive ended for want of buffers before it got any: armed before all others, or
    /// a flood on one connection would take every buffer again.
    hungry: Vec<Token>,
    /// User data of requests of detached tokens, to be cancelled.
    cancels: Vec<u64>,
    /// Sends of detached tokens that the kernel still reads from.
    orphans: Vec<(u64, Box<InFlight>)>,
    /// Rings left behind in another thread: the kernel winds them up when it likes.
    retired: Vec<(Ring, Buffers)>,
}

/// A driver over io_uring.
pub struct Uring {
    /// None once closed.
    inner: RefCell<Option<Box<Inner>>>,
    entries: Cell<Vec<Entry>>,
    wake: Token,
}

impl Uring {
    /// A driver with a ring of its own.
    ///
    /// # Errors
    ///
    /// What the kernel says when it does not allow one: EPERM under seccomp, ENOSYS where it has none.
    pub fn new() -> io::Result<Self> {
        let ring = Ring::new()?;
        let buffers = Buffers::register(&ring.raw)?;
        let event = Arc::new(sys::Event::new()?);
        let fd = event.as_raw_fd();
        let mut inner = Inner {
            ring,
            buffers,
            event,
            forks: sys::fork_generation(),
            thread: 0,
            slots: Vec::new(),
            free: Vec::new(),
            todo: Vec::new(),
            hungry: Vec::new(),
            cancels: Vec::new(),
            orphans: Vec::new(),
            retired: Vec::new(),
        };
        let wake = inner.insert(fd);
        inner.watch(wake, Interest::READ);
        Ok(Self {
            inner: RefCell::new(Some(Box::new(inner))),
            entries: Cell::new(Vec::new()),
            wake,
        })
    }

    /// What is inside, unless closed.
    #[inline]
    fn inner(&self) -> Option<RefMut<'_, Inner>> {
        RefMut::filter_map(self.inner.borrow_mut(), Option::as_deref_mut).ok()
    }

    /// Delivers what was stashed for a token whose operation is wanted again.
    fn deliver(&self, token: Token, sink: &mut dyn Sink) {
        loop {
            let Some(mut inner) = self.inner() else {
                return;
            };
            let Some(slot) = inner.slot(token) else {
                return;
            };
            let Some(stash) = &mut slot.stash else { return };
            if slot.wanted & kind::ACCEPT != 0
                && let Some(fd) = stash.accepted.pop_front()
            {
                drop(inner);
                sink.complete(token, Completion::Accepted(Ok(fd)));
                continue;
            }
            if slot.wanted & kind::RECEIVE == 0 {
                return;
            }
            if !stash.bytes.is_empty() {
                let bytes = std::mem::take(&mut stash.bytes);
                drop(inner);
                sink.complete(token, Completion::Received(&bytes));
            } else if let Some(end) = stash.end.take() {
                slot.wanted &= !kind::RECEIVE;
                slot.stash = None;
                drop(inner);
                sink.complete(token, Completion::ReceiveEnded(end));
            } else {
                if stash.accepted.is_empty() {
                    slot.stash = None;
                }
                return;
            }
        }
    }

    /// One completion of the kernel's.
    fn completed(&self, entry: Entry, sink: &mut dyn Sink) {
        let kind = (entry.data >> 56) as u8;
        let (index, generation) = (entry.data as u32, (entry.data >> 32) as u32 & GENERATION);
        let Some(mut inner) = self.inner() else {
            return;
        };
        let found = inner.slots.get(index as usize).and_then(|slot| {
            let ours = slot.attached && slot.generation & GENERATION == generation;
            ours.then(|| Token::new(index, slot.generation))
        });
        match (kind, found) {
            (kind::CANCEL, _) => {}
            (_, None) => inner.bury(entry),
            (kind::RECEIVE, Some(token)) => self.received(inner, token, entry, sink),
            (kind::SEND, Some(token)) => {
                let Some(slot) = inner.slot(token) else {
                    return;
                };
                slot.armed &= !kind::SEND;
                let Some(sent) = slot.send.take() else { return };
                drop(inner);
                let result = match usize::try_from(entry.result) {
                    Ok(count) => Ok(count),
                    Err(_) => Err(io::Error::from_raw_os_error(-entry.result)),
                };
                sink.complete(token, Completion::Sent(sent.queue, result));
            }
            (kind::ACCEPT, Some(token)) => self.accepted(inner, token, entry, sink),
            (kind::CONNECT, Some(token)) => {
                inner.disarm(token, kind::CONNECT, entry.flags);
                let Some(slot) = inner.slot(token) else {
                    return;
                };
                slot.address = None;
                if slot.wanted & kind::CONNECT == 0 {
                    return;
                }
                slot.wanted &= !kind::CONNECT;
                drop(inner);
                let result = match entry.result {
                    0 => Ok(()),
                    failed => Err(io::Error::from_raw_os_error(-failed)),
                };
                sink.complete(token, Completion::Connected(result));
            }
            (kind::WATCH, Some(token)) => self.watched(inner, token, entry, sink),
            _ => {}
        }
    }

    fn received<'a>(
        &'a self,
        mut inner: RefMut<'a, Inner>,
        token: Token,
        entry: Entry,
        sink: &mut dyn Sink,
    ) {
        inner.disarm(token, kind::RECEIVE, entry.flags);
        if entry.result > 0 {
            let Some(id) = cqueue::buffer_select(entry.flags) else {
                return;
            };
            let (bytes, spent) = inner.buffers.take(id, entry.result as usize, entry.flags);
            // SAFETY: the kernel wrote these bytes and will not touch them again before the buffer is
            // given back, below; the mapping lives as long as the driver.
            let bytes = unsafe { bytes.as_ref() };
            let Some(slot) = inner.slot(token) else {
                return;
            };
            slot.fed = true;
            if slot.wanted & kind::RECEIVE != 0 && slot.stash.is_none() {
                drop(inner);
                sink.complete(token, Completion::Received(bytes));
                let Some(again) = self.inner() else { return };
                inner = again;
            } else {
                slot.stash.get_or_insert_default().bytes.extend_from_slice(bytes);
                inner.list(token);
            }
            if let Some(id) = spent {
                inner.buffers.give_back(id);
            }
            return;
        }
        let end = match -entry.result {
            0 => Ok(()),
            libc::ENOBUFS => {
                if inner.slot(token).is_some_and(|slot| !slot.fed) {
                    inner.hungry.push(token);
                }
                return;
            }
            // Told to end: `disarm` has listed it to be armed again if it is wanted.
            libc::ECANCELED | libc::EINTR | libc::EAGAIN => return,
            errno => Err(io::Error::from_raw_os_error(errno)),
        };
        let Some(slot) = inner.slot(token) else {
            return;
        };
        if slot.wanted & kind::RECEIVE != 0 && slot.stash.is_none() {
            slot.wanted &= !kind::RECEIVE;
            drop(inner);
            sink.complete(token, Completion::ReceiveEnded(end));
        } else {
            slot.stash.get_or_insert_default().end = Some(end);
            inner.list(token);
        }
    }

    fn accepted(
        &self,
        mut inner: RefMut<'_, Inner>,
        token: Token,
        entry: Entry,
        sink: &mut dyn Sink,
    ) {
        inner.disarm(token, kind::ACCEPT, entry.flags);
        let Some(slot) = inner.slot(token) else {
            return;
        };
        if entry.result >= 0 {
            // SAFETY: the kernel just made this descriptor for us and nobody else knows it.
            let fd = unsafe { OwnedFd::from_raw_fd(entry.result) };
            if slot.wanted & kind::ACCEPT != 0 {
                drop(inner);
                sink.complete(token, Completion::Accepted(Ok(fd)));
            } else {
                slot.stash.get_or_insert_default().accepted.push_back(fd);
            }
            return;
        }
        let error = io::Error::from_raw_os_error(-entry.result);
        let again = super::is_transient_accept(&error)
            || matches!(-entry.result, libc::ECANCELED | libc::EINTR | libc::EAGAIN);
        if !again && slot.wanted & kind::ACCEPT != 0 {
            slot.wanted &= !kind::ACCEPT;
            drop(inner);
            sink.complete(token, Completion::Accepted(Err(error)));
        }
    }

    fn watched(
        &self,
        mut inner: RefMut<'_, Inner>,
        token: Token,
        entry: Entry,
        sink: &mut dyn Sink,
    ) {
        inner.disarm(token, kind::WATCH, entry.flags);
        if token == self.wake {
            inner.event.lower();
            inner.list(token);
            return;
        }
        let Some(slot) = inner.slot(token) else {
            return;
        };
        let ready = match entry.result {
            bits if bits >= 0 => from_poll(bits as u32),
            cancelled if cancelled == -libc::ECANCELED => Interest::NONE,
            // Its owner closed it: said once, and no more of it.
            _ => {
                let asked = std::mem::replace(&mut slot.watching, Interest::NONE);
                slot.wanted &= !kind::WATCH;
                drop(inner);
                return sink.complete(token, Completion::Ready(asked));
            }
        };
        let ready = ready.and(slot.watching);
        // Level-triggered: it is asked again before the next sleep.
        inner.list(token);
        drop(inner);
        if !ready.is_empty() {
            sink.complete(token, Completion::Ready(ready));
        }
    }
}

fn to_poll(interest: Interest) -> u32 {
    let mut bits = 0;
    if interest.contains(Interest::READ) {
        bits |= libc::POLLIN;
    }
    if interest.contains(Interest::WRITE) {
        bits |= libc::POLLOUT;
    }
    bits as u32
}

fn from_poll(bits: u32) -> Interest {
    let bits = bits as i16;
    if bits & (libc::POLLERR | libc::POLLHUP) != 0 {
        return Interest::BOTH;
    }
    let mut ready = Interest::NONE;
    if bits & (libc::POLLIN | libc::POLLRDHUP | libc::POLLPRI) != 0 {
        ready = ready.with(Interest::READ);
    }
    if bits & libc::POLLOUT != 0 {
        ready = ready.with(Interest::WRITE);
    }
    ready
}

impl Inner {
    fn forked(&self) -> bool {
        sys::fork_generation() != self.forks
    }

    #[inline]
    fn slot(&mut self, token: Token) -> Option<&mut Slot> {
        let slot = self.slots.get_mut(token.index())?;
        (slot.attached && slot.generation == token.generation()).then_some(slot)
    }

    fn insert(&mut self, fd: RawFd) -> Token {
        match self.free.pop() {
            Some(index) => {
                let slot = &mut self.slots[index as usize];
                *slot = Slot::new(slot.generation, fd);
                Token::new(index, slot.generation)
            }
            None => {
                self.slots.push(Slot::new(0, fd));
                Token::new((self.slots.len() - 1) as u32, 0)
            }
        }
    }

    /// Notes that `token` has something to be done before the next sleep.
    #[inline]
    fn list(&mut self, token: Token) {
        if let Some(slot) = self.slot(token)
            && !slot.listed
        {
            slot.listed = true;
            self.todo.push(token);
        }
    }

    fn watch(&mut self, token: Token, interest: Interest) {
        if let Some(slot) = self.slot(token) {
            slot.watching = interest;
            if interest.is_empty() {
                slot.wanted &= !kind::WATCH;
            } else {
                slot.wanted |= kind::WATCH;
            }
            self.list(token);
        }
    }

    /// A completion without F_MORE: the request is over, and is made again if it is still wanted.
    #[inline]
    fn disarm(&mut self, token: Token, kind: u8, flags: u32) {
        if !cqueue::more(flags)
            && let Some(slot) = self.slot(token)
        {
            slot.armed &= !kind;
            slot.ending &= !kind;
            if slot.wanted & kind != 0 {
                self.list(token);
            }
        }
    }

    /// A completion of a life that is over: what it brought is released.
    fn bury(&mut self, entry: Entry) {
        match (entry.data >> 56) as u8 {
            kind::RECEIVE if entry.result > 0 => {
                if let Some(id) = cqueue::buffer_select(entry.flags)
                    && let (_, Some(id)) = self.buffers.take(id, entry.result as usize, entry.flags)
                {
                    self.buffers.give_back(id);
                }
            }
            kind::ACCEPT if entry.result >= 0 => {
                // SAFETY: the kernel just made this descriptor for us and nobody else knows it.
                drop(unsafe { OwnedFd::from_raw_fd(entry.result) });
            }
            kind::SEND => self.orphans.retain(|(data, _)| *data != entry.data),
            _ => {}
        }
    }

    /// Binds the ring to the calling thread; makes a new one if it is bound to another.
    fn bind(&mut self) -> io::Result<()> {
        let thread = sys::thread_id();
        if self.thread == thread {
            return Ok(());
        }
        if self.thread != 0 {
            let ring = Ring::new()?;
            let buffers = Buffers::register(&ring.raw)?;
            let old = std::mem::replace(&mut self.ring, ring);
            self.retired.push((old, std::mem::replace(&mut self.buffers, buffers)));
            self.cancels.clear();
            for index in 0..self.slots.len() {
                let slot = &mut self.slots[index];
                if slot.attached {
                    (slot.armed, slot.ending) = (0, 0);
                    let token = Token::new(index as u32, slot.generation);
                    self.list(token);
                }
            }
        }
        self.ring.enable()?;
        self.thread = thread;
        Ok(())
    }

    /// Cancels the requests of detached tokens.
    fn cancel(&mut self) -> io::Result<()> {
        let mut accepts = false;
        for index in 0..self.cancels.len() {
            let data = self.cancels[index];
            accepts |= (data >> 56) as u8 == kind::ACCEPT;
            // SAFETY: the entry names no memory.
            unsafe { self.ring.push(&quiet(opcode::AsyncCancel::new(data).build()))? };
        }
        self.cancels.clear();
        if accepts {
            // Accepts wait exclusively: until a cancelled one is taken off the listener it swallows
            // the wake-ups of the one that follows it. So it goes before anything else is armed.
            self.ring.enter(0, Some(Duration::ZERO))?;
        }
        Ok(())
    }

    /// Makes entries of everything that is to be done.
    fn arm(&mut self) -> io::Result<()> {
        self.cancel()?;
        for index in 0..self.hungry.len() {
            let token = self.hungry[index];
            if self.slot(token).is_some() {
                self.arm_one(token)?;
            }
        }
        self.hungry.clear();
        let mut todo = std::mem::take(&mut self.todo);
        for token in todo.drain(..) {
            if let Some(slot) = self.slot(token) {
                slot.listed = false;
                self.arm_one(token)?;
            }
        }
        // What was listed meanwhile (nothing, as a rule) stays listed.
        todo.append(&mut self.todo);
        self.todo = todo;
        Ok(())
    }

    fn arm_one(&mut self, token: Token) -> io::Result<()> {
        let slot = &mut self.slots[token.index()];
        let fd = types::Fd(slot.fd);
        // What runs and is not wanted, or is wanted otherwise, is told to end.
        let mut unwanted = slot.armed & !slot.wanted & !kind::SEND;
        if slot.armed & kind::WATCH != 0 && slot.polled != slot.watching {
            unwanted |= kind::WATCH;
        }
        unwanted &= !slot.ending;
        slot.ending |= unwanted;
        let missing = slot.wanted & !slot.armed;
        slot.armed |= missing;
        let mut entries: [Option<squeue::Entry>; 4] = [const { None }; 4];
        if missing & kind::RECEIVE != 0 {
            slot.fed = false;
            let entry = opcode::RecvMulti::new(fd, buffers::GROUP).build();
            entries[0] = Some(entry.user_data(user_data(kind::RECEIVE, token)));
        }
        if missing & kind::ACCEPT != 0 {
            let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
            let entry = opcode::AcceptMulti::new(fd).flags(flags).build();
            entries[1] = Some(entry.user_data(user_data(kind::ACCEPT, token)));
        }
        if missing & kind::CONNECT != 0
            && let Some(address) = &slot.address
        {
            let name = (&raw const address.storage).cast();
            let entry = opcode::Connect::new(fd, name, address.length).build();
            entries[2] = Some(entry.user_data(user_data(kind::CONNECT, token)));
        }
        if missing & kind::WATCH != 0 {
            slot.polled = slot.watching;
            let entry = opcode::PollAdd::new(fd, to_poll(slot.watching)).build();
            entries[3] = Some(entry.user_data(user_data(kind::WATCH, token)));
        }
        let send = match &mut slot.send {
            Some(sent) if slot.armed & kind::SEND == 0 => {
                slot.armed |= kind::SEND;
                Some(send_entry(fd, sent).user_data(user_data(kind::SEND, token)))
            }
            _ => None,
        };
        for bit in [kind::ACCEPT, kind::RECEIVE, kind::CONNECT, kind::WATCH] {
            if unwanted & bit != 0 {
                let cancel = opcode::AsyncCancel::new(user_data(bit, token)).build();
                // SAFETY: the entry names no memory.
                unsafe { self.ring.push(&quiet(cancel))? };
            }
        }
        for entry in entries.iter().flatten().chain(&send) {
            // SAFETY: the address and the queue that entries name are boxed in the slot; they stay
            // there, or go to the orphans, until the completion was reaped.
            unsafe { self.ring.push(entry)? };
        }
        Ok(())
    }
}

/// A cancel of which only the failure is told; and that is ignored.
fn quiet(entry: squeue::Entry) -> squeue::Entry {
    entry.flags(squeue::Flags::SKIP_SUCCESS).user_data(u64::from(kind::CANCEL) << 56)
}

/// The entry of a send: plain for one piece, with a header for several.
fn send_entry(fd: types::Fd, sent: &mut InFlight) -> squeue::Entry {
    if let Some(bytes) = sent.queue.single() {
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        return opcode::Send::new(fd, bytes.as_ptr(), length).flags(libc::MSG_NOSIGNAL).build();
    }
    let mut slices = [IoSlice::new(&[]); MAX_SLICES];
    let count = sent.queue.slices(&mut slices);
    sent.slices.clear();
    sent.slices.extend(slices[..count].iter().map(|slice| libc::iovec {
        iov_base: slice.as_ptr().cast_mut().cast(),
        iov_len: slice.len(),
    }));
    sent.message.msg_iov = sent.slices.as_mut_ptr();
    sent.message.msg_iovlen = sent.slices.len() as _;
    opcode::SendMsg::new(fd, &raw const sent.message).flags(libc::MSG_NOSIGNAL as u32).build()
}

impl Driver for Uring {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            native_completions: true,
            scales: true,
            descriptor_limit: None,
            sends_at_once: false,
        }
    }

    fn attach(&self, fd: RawFd, role: Role) -> io::Result<Token> {
        if role == Role::Watched {
            // A poll says that files and directories are always ready; like epoll, we refuse them.
            sys::check_pollable(fd)?;
        }
        Ok(self.inner().ok_or_else(closed)?.insert(fd))
    }

    fn detach(&self, token: Token, fate: Fate) {
        let mut inner = self.inner();
        if let Some(inner) = &mut inner
            && let Some(slot) = inner.slot(token)
        {
            let armed = slot.armed;
            slot.attached = false;
            slot.generation = slot.generation.wrapping_add(1);
            let (send, stash) = (slot.send.take(), slot.stash.take());
            slot.address = None;
            inner.free.push(token.index() as u32);
            if !inner.forked() {
                let kinds = [kind::ACCEPT, kind::RECEIVE, kind::CONNECT, kind::WATCH, kind::SEND];
                for bit in kinds {
                    if armed & bit != 0 {
                        inner.cancels.push(user_data(bit, token));
                    }
                }
            }
            if let Some(send) = send
                && armed & kind::SEND != 0
            {
                inner.orphans.push((user_data(kind::SEND, token), send));
            }
            if armed & kind::ACCEPT != 0 && inner.thread == sys::thread_id() {
                // Who closes a listener expects that nobody can connect from then on, also while the
                // loop stands still; an armed accept would keep the socket open. A failure leaves the
                // cancel queued for the next wait.
                let _ = inner.cancel();
            }
            drop(stash);
        }
        drop(inner);
        // Requests hold the file, not the number: it may be closed at once.
        drop(fate);
    }

    fn settle(&self) -> io::Result<()> {
        let mut inner = self.inner().ok_or_else(closed)?;
        if inner.forked() {
            return Ok(());
        }
        inner.bind()?;
        inner.arm()?;
        if inner.ring.needs_enter() { inner.ring.enter(0, Some(Duration::ZERO)) } else { Ok(()) }
    }

    fn submit(&self, token: Token, op: Op) -> io::Result<()> {
        let mut inner = self.inner().ok_or_else(closed)?;
        let Some(slot) = inner.slot(token) else {
            return Err(io::Error::from_raw_os_error(libc::ENOENT));
        };
        match op {
            Op::Accept => slot.wanted |= kind::ACCEPT,
            Op::Receive => slot.wanted |= kind::RECEIVE,
            Op::Cancel(Cancel::Accept) => slot.wanted &= !kind::ACCEPT,
            Op::Cancel(Cancel::Receive) => slot.wanted &= !kind::RECEIVE,
            Op::Cancel(Cancel::Connect) => slot.wanted &= !kind::CONNECT,
            Op::Connect(address) => {
                if slot.armed & kind::CONNECT == 0 {
                    slot.address = Some(Box::new(address));
                }
                slot.wanted |= kind::CONNECT;
            }
            Op::Watch(interest) => {
                inner.watch(token, interest);
                return Ok(());
            }
        }
        if slot.wanted != slot.armed & !kind::SEND || slot.stash.is_some() {
            inner.list(token);
        }
        Ok(())
    }

    fn send(&self, token: Token, queue: &mut SendQueue) -> Sent {
        let Some(mut inner) = self.inner() else {
            return Sent::Failed(closed());
        };
        let Some(slot) = inner.slot(token) else {
            return Sent::Failed(io::Error::from_raw_os_error(libc::ENOENT));
        };
        slot.send = Some(Box::new(InFlight {
            queue: std::mem::take(queue),
            message: sys::empty_message(),
            slices: Vec::new(),
        }));
        inner.list(token);
        Sent::Pending
    }

    fn wait(&self, timeout: Option<Duration>, sink: &mut dyn Sink) -> io::Result<()> {
        let mut entries = self.entries.take();
        let mut result = Ok(());
        let stashed: Vec<Token> = {
            let mut inner = self.inner().ok_or_else(closed)?;
            if inner.forked() {
                let text = "this loop belongs to the parent process; make a new one";
                return Err(io::Error::other(text));
            }
            inner.bind()?;
            let inner = &mut *inner;
            let stashed = inner
                .todo
                .iter()
                .copied()
                .filter(|token| inner.slots[token.index()].stash.is_some())
                .collect();
            inner.arm()?;
            stashed
        };
        {
            let mut inner = self.inner().ok_or_else(closed)?;
            let sleepless = !stashed.is_empty() || inner.ring.has_completions();
            let timeout = if sleepless { Some(Duration::ZERO) } else { timeout };
            // A turn that may not sleep enters only if that would do something.
            if timeout != Some(Duration::ZERO) || inner.ring.needs_enter() {
                sink.park(&mut || result = inner.ring.enter(1, timeout));
            }
            inner.ring.reap(&mut entries);
        }
        for token in stashed {
            self.deliver(token, sink);
        }
        for entry in entries.drain(..) {
            self.completed(entry, sink);
        }
        self.entries.set(entries);
        result
    }

    fn waker(&self) -> Waker {
        Waker::of(self.inner().as_ref().map(|inner| &inner.event))
    }

    fn close(&self) {
        let former = self.inner.borrow_mut().take();
        drop(former);
    }
}

impl Drop for Inner {
    /// The kernel may still write into the buffers and read from sends in flight. Everything is
    /// cancelled and waited for; where that can not be done (another thread's ring, a forked child)
    /// the memory is given up instead.
    fn drop(&mut self) {
        let idle = !self.forked()
            && self.retired.is_empty()
            && (self.thread == 0 || self.thread == sys::thread_id())
            && self.wind_up();
        if !idle {
            self.buffers.leak();
            for (_, buffers) in &mut self.retired {
                buffers.leak();
            }
            for (_, orphan) in self.orphans.drain(..) {
                Box::leak(orphan);
            }
            for slot in &mut self.slots {
                if let Some(send) = slot.send.take() {
                    Box::leak(send);
                }
            }
        }
    }
}

impl Inner {
    /// Cancels every request and runs what that sets off. Whether nothing is left.
    fn wind_up(&mut self) -> bool {
        if self.thread == 0 {
            return true;
        }
        let all = types::CancelBuilder::any();
        match self.ring.raw.submitter().register_sync_cancel(None, all) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
            Err(_) => return false,
        }
        let mut entries = Vec::new();
        let entered = self.ring.enter(0, Some(Duration::ZERO)).is_ok();
        self.ring.reap(&mut entries);
        for entry in entries {
            if (entry.data >> 56) as u8 == kind::ACCEPT && entry.result >= 0 {
                // SAFETY: the kernel just made this descriptor for us and nobody else knows it.
                drop(unsafe { OwnedFd::from_raw_fd(entry.result) });
            }
        }
        entered
    }
}
