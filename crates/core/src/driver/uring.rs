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
//! # Bulk
//!
//! Completions pay where messages are small. A large one is better read when its turn has come: in one
//! enter the kernel would copy what came for *all* connections into as many buffers, and by the time
//! one is handed on it has left the cache again (100 KiB echo: 60 µs of system time a message against
//! 29 µs with epoll, the difference in `_copy_to_iter`). So a stream that receives 16 KiB at once is a
//! bulk stream: its receive is a poll, and the read and, whatever the stream, the first try of a large
//! send are plain calls. It turns back when its reads are small again.
//!
//! # Threads and forks
//!
//! The ring belongs to the thread that waits. If another thread waits later (a loop that is run again
//! elsewhere), a new ring is made and everything wanted is armed on it; a send that was waiting for
//! room is submitted again. A forked child never enters its parent's ring.

use std::cell::{Cell, RefCell, RefMut};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use super::{Capabilities, Driver, Fate, Sent, Sink, Waker, Withdrawn, closed, send_front};
use crate::buffer::SendQueue;
use crate::op::{Cancel, Interest, Op, Role, Token};
use crate::sys;
use buffers::Buffers;
use requests::Inner;
use ring::{Entry, Ring};
use slot::{InFlight, kind, user_data};

mod buffers;
mod completions;
mod requests;
mod ring;
mod slot;
mod stopping;

/// A send of this many bytes is tried at once: see "Bulk".
const BULK_SEND: usize = 16 * 1024;

/// Whether the kernel gives a ring, and one with all that makes it fast: deferred task work (6.1) and
/// incremental buffers (6.12). A small ring is made for that and dropped.
///
/// # Errors
///
/// As [`Uring::new`].
pub fn probe() -> io::Result<bool> {
    let ring = Ring::small()?;
    Ok(ring.is_deferred() && Buffers::are_incremental(&ring.raw))
}

/// A driver over io_uring.
pub struct Uring {
    /// None once closed.
    inner: RefCell<Option<Box<Inner>>>,
    entries: Cell<Vec<Entry>>,
    /// What bulk streams are read into.
    hot: Cell<Option<Box<[u8]>>>,
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
            left: Vec::new(),
        };
        let wake = inner.insert(fd);
        inner.watch(wake, Interest::READ)?;
        Ok(Self {
            inner: RefCell::new(Some(Box::new(inner))),
            entries: Cell::new(Vec::new()),
            hot: Cell::new(None),
            wake,
        })
    }

    /// What is inside, unless closed.
    #[inline]
    fn inner(&self) -> Option<RefMut<'_, Inner>> {
        RefMut::filter_map(self.inner.borrow_mut(), Option::as_deref_mut).ok()
    }
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

    fn attach(&self, fd: RawFd, _role: Role) -> io::Result<Token> {
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
                return inner.watch(token, interest);
            }
        }
        if slot.wanted != slot.armed & !kind::SEND || slot.stash.is_some() {
            inner.list(token);
        }
        Ok(())
    }

    fn stop_accepting(&self, token: Token) -> io::Result<Vec<OwnedFd>> {
        self.inner().ok_or_else(closed)?.stop_accepting(token)
    }

    fn withdraw(&self, token: Token) -> io::Result<Withdrawn> {
        self.inner().ok_or_else(closed)?.withdraw(token)
    }

    fn send(&self, token: Token, queue: &mut SendQueue) -> Sent {
        let Some(mut inner) = self.inner() else {
            return Sent::Failed(closed());
        };
        let Some(slot) = inner.slot(token) else {
            return Sent::Failed(io::Error::from_raw_os_error(libc::ENOENT));
        };
        if queue.len() >= BULK_SEND {
            match send_front(slot.fd, queue) {
                Ok(count) => return Sent::Done(count),
                Err(error) if sys::would_block(&error) => {}
                Err(error) => return Sent::Failed(error),
            }
        }
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
            entries.append(&mut inner.left);
            stashed
        };
        {
            let mut inner = self.inner().ok_or_else(closed)?;
            let sleepless =
                !stashed.is_empty() || !entries.is_empty() || inner.ring.has_completions();
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

    fn slot_size(&self) -> usize {
        size_of::<slot::Slot>() + size_of::<u32>()
    }

    fn shared_size(&self) -> usize {
        let slot = self.slot_size();
        let shared = self.inner().as_ref().map_or(0, |inner| {
            let used = inner.slots.iter().filter(|slot| slot.attached).count();
            (inner.slots.len() - used) * slot + inner.buffers.size()
        });
        let hot = self.hot.take();
        let room = hot.as_ref().map_or(0, |hot| hot.len());
        self.hot.set(hot);
        shared + room
    }

    fn waker(&self) -> Waker {
        Waker::of(self.inner().as_ref().map(|inner| &inner.event))
    }

    fn close(&self) {
        let former = self.inner.borrow_mut().take();
        drop(former);
    }
}
