//! The contract of a driver: one completion-shaped face for five ways to do I/O, and the only place
//! above the drivers themselves that names them.
//!
//! Does not know connections, framing or Python.
//!
//! ```text
//!            attach / submit / send / detach                      Sink::complete
//!   above  ------------------------------------->  Driver  ------------------------->  above
//!            (allowed at any time, also from             (only from inside `wait`)
//!             inside a completion)
//! ```
//!
//! Every method takes `&self` and a driver keeps no borrow over a call into the sink: what a
//! completion sets off may submit, send, attach and detach freely. Only `wait` must not be nested.
//!
//! All of it belongs to one thread at a time; [`Waker`] alone may be used from any thread.

use std::fmt;
use std::io::{self, IoSlice};
use std::os::fd::{OwnedFd, RawFd};
use std::sync::{Arc, Weak};
use std::time::Duration;

use crate::buffer::{MAX_SLICES, SendQueue};
use crate::op::{Cancel, Completion, Op, Role, Token};
use crate::sys;

pub mod epoll;
pub mod poll;
pub mod readiness;
pub mod select;
pub mod sigio;
pub mod uring;

/// Takes completions, and knows how to let others run while the driver blocks.
pub trait Sink {
    /// Runs `block`, the call that sleeps in the kernel. An interpreter lets go of its lock around it.
    /// Nothing else of the driver may be touched until it returns.
    fn park(&mut self, block: &mut dyn FnMut()) {
        block();
    }

    /// Memory to receive the next bytes of `token` into, if its owner wants them in a place of their
    /// own: a large message is then copied once, by the kernel. Asked where the last receive brought
    /// `hint` bytes, 32 KiB or more; what is given is used at once and comes back filled
    /// ([`Completion::Filled`]), or was not needed and is nobody's business any more.
    fn room(&mut self, _token: Token, _hint: usize) -> Option<&mut [u8]> {
        None
    }

    /// One operation of `token` completed. The token is attached, in this generation.
    fn complete(&mut self, token: Token, completion: Completion<'_>);
}

/// What became of a send.
#[derive(Debug)]
pub enum Sent {
    /// The socket took this many bytes, at least one. The queue is still the caller's, not advanced.
    Done(usize),
    /// The driver took the queue, leaving an empty one: [`Completion::Sent`] brings it back.
    Pending,
    /// The socket refused. The queue is still the caller's.
    Failed(io::Error),
}

/// What of a stream was under way when it was taken out of the kernel's hands.
#[derive(Debug, Default)]
pub struct Withdrawn {
    /// What the kernel had handed over and nobody was told of, in order.
    pub received: Vec<u8>,
    /// What comes after it, if that is known already: the end of the stream, or its error.
    pub end: Option<io::Result<()>>,
    /// The queue that the driver held, and how many bytes of it the kernel took or why it refuses.
    pub sending: Option<(SendQueue, io::Result<usize>)>,
}

/// What is to become of a descriptor that is detached.
#[derive(Debug)]
pub enum Fate {
    /// Its owner keeps it and may close it as soon as the call returns.
    Keep,
    /// The driver closes it, in order after the work that it already gave to the kernel.
    Close(OwnedFd),
}

/// What a back end can do, and where it ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Capabilities {
    /// The kernel reports completions; else they are made from readiness.
    pub native_completions: bool,
    /// The cost of a turn does not grow with the number of idle descriptors.
    pub scales: bool,
    /// Descriptors must be below this number.
    pub descriptor_limit: Option<RawFd>,
    /// A send returns `Done` wherever the socket has room; else that may be `Pending` too.
    pub sends_at_once: bool,
}

/// The contract. See the head of this file for threads and re-entrance.
pub trait Driver {
    /// What this back end can do.
    fn capabilities(&self) -> Capabilities;

    /// Puts `fd` (non-blocking) under the driver's eyes. The caller goes on owning it.
    ///
    /// # Errors
    ///
    /// `EINVAL` with a text that names the limit when the descriptor is too large for the back end.
    fn attach(&self, fd: RawFd, role: Role) -> io::Result<Token>;

    /// Ends every operation of `token` and forgets it. No completion of it is delivered afterwards;
    /// a queue in flight is dropped once the kernel has let go of it. Unknown tokens are ignored.
    fn detach(&self, token: Token, fate: Fate);

    /// Queues work. See [`Op`] for what each completes with. A second submission of an operation
    /// that is in progress changes nothing; a `Watch` begins anew if the descriptor was closed and its number
    /// is in use again.
    ///
    /// # Errors
    ///
    /// `ENOENT` for a token that is not attached. To a `Watch`: `EBADF`, or `EPERM` for files and directories,
    /// which no back end watches. The immediate failure of a `Connect` comes as a completion.
    fn submit(&self, token: Token, op: Op) -> io::Result<()>;

    /// Ends an `Accept` at once, and hands over the connections that the kernel had accepted already: nobody else would
    /// close them properly. Those that still wait in the backlog stay there, for whoever else accepts.
    ///
    /// # Errors
    ///
    /// `ENOENT` for a token that is not attached.
    fn stop_accepting(&self, token: Token) -> io::Result<Vec<OwnedFd>> {
        self.submit(token, Op::Cancel(Cancel::Accept))?;
        Ok(Vec::new())
    }

    /// Ends the receive and the send of a stream at once: afterwards nothing of it is in flight, every byte is in the
    /// socket or in what is returned, and no completion comes. It stays attached, and may receive and send again, in
    /// which case what was returned comes first. Not to be called by a sink.
    ///
    /// # Errors
    ///
    /// `ENOENT` for a token that is not attached. `EAGAIN` if the kernel does not let go of it: nothing is lost, and it
    /// receives no more until it is asked to.
    fn withdraw(&self, token: Token) -> io::Result<Withdrawn>;

    /// Sends from the front of `queue`, which must not be empty. One send may be pending for each
    /// token: with one pending the caller waits for its completion before it sends again.
    fn send(&self, token: Token, queue: &mut SendQueue) -> Sent;

    /// Submits what is queued, waits at most `timeout` (`None`: until something happens) and hands
    /// every completion to `sink`. Returns after a signal or a wake-up without any.
    ///
    /// # Errors
    ///
    /// Only what leaves the driver unusable.
    fn wait(&self, timeout: Option<Duration>, sink: &mut dyn Sink) -> io::Result<()>;

    /// Gives the kernel what is queued, without waiting: the loop stops, and nobody knows whether it
    /// will run again.
    ///
    /// # Errors
    ///
    /// As [`Driver::wait`].
    fn settle(&self) -> io::Result<()> {
        Ok(())
    }

    /// Memory of one attached descriptor, bytes.
    fn slot_size(&self) -> usize;

    /// Memory that belongs to no descriptor, bytes: buffers to receive into, and free slots.
    fn shared_size(&self) -> usize;

    /// A handle that ends a `wait` from any thread.
    fn waker(&self) -> Waker;

    /// Forgets every token and closes the descriptors of the driver's own. Later calls find nothing:
    /// `ENOENT`. Not to be called by a sink. Dropping a driver closes it; a loop that was closed may be
    /// referred to for long, and must hold nothing open.
    fn close(&self);
}

/// The hot buffer: the largest read, and so the largest piece a sink is lent.
const HOT: usize = 256 * 1024;
/// Reads of one connection in one turn.
const READS: usize = 4;

/// One non-blocking send of what is at the front.
#[inline]
fn send_front(fd: RawFd, queue: &SendQueue) -> io::Result<usize> {
    if let Some(bytes) = queue.single() {
        return sys::send(fd, bytes);
    }
    let mut slices = [IoSlice::new(&[]); MAX_SLICES];
    let count = queue.slices(&mut slices);
    sys::send_slices(fd, &slices[..count])
}

/// A receive from which on the next is offered room of the sink's own, bytes.
const ROOMY: usize = 32 * 1024;

/// One read of a stream whose last read brought `last` bytes.
#[inline]
fn read_into(
    fd: RawFd,
    (token, last): (Token, usize),
    hot: &mut [u8],
    sink: &mut dyn Sink,
) -> Read {
    if last >= ROOMY
        && let Some(room) = sink.room(token, last)
    {
        return Read { result: sys::recv(fd, room), size: room.len(), roomy: true };
    }
    Read { result: sys::recv(fd, hot), size: hot.len(), roomy: false }
}

/// What a read brought.
struct Read {
    result: io::Result<usize>,
    /// The most that it could have brought.
    size: usize,
    /// It lies in the sink's room.
    roomy: bool,
}

impl Read {
    fn completion<'a>(&self, count: usize, hot: &'a [u8]) -> Completion<'a> {
        if self.roomy { Completion::Filled(count) } else { Completion::Received(&hot[..count]) }
    }
}

/// What a closed driver says.
fn closed() -> io::Error {
    io::Error::from_raw_os_error(libc::ENOENT)
}

/// Ends a `wait` from any thread, at most one system call for any number of wakes in a turn.
#[derive(Clone)]
pub struct Waker {
    event: Weak<sys::Event>,
}

impl Waker {
    fn of(event: Option<&Arc<sys::Event>>) -> Self {
        Self { event: event.map_or_else(Weak::new, Arc::downgrade) }
    }

    /// Makes the current or next `wait` return. Nothing once the driver is closed.
    pub fn wake(&self) {
        if let Some(event) = self.event.upgrade() {
            event.raise();
        }
    }
}

/// Whether an accept failed because that one connection died in the backlog: the next may be well
/// (accept(2), "Error handling").
fn is_transient_accept(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(
            libc::ECONNABORTED
                | libc::EPROTO
                | libc::ENETDOWN
                | libc::ENOPROTOOPT
                | libc::EHOSTDOWN
                | libc::ENONET
                | libc::EHOSTUNREACH
                | libc::ENETUNREACH
                | libc::EPERM
        )
    )
}

/// The five back ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Backend {
    /// Native completions.
    IoUring,
    /// Readiness, edge-triggered.
    Epoll,
    /// Readiness, level-triggered, any descriptor number.
    Poll,
    /// Readiness, level-triggered, descriptors below `FD_SETSIZE`.
    Select,
    /// Readiness announced by real-time signals.
    Sigio,
}

impl Backend {
    /// All of them, in order of preference.
    pub const ALL: [Self; 5] = [Self::IoUring, Self::Epoll, Self::Poll, Self::Select, Self::Sigio];

    /// The name that users write.
    pub const fn name(self) -> &'static str {
        match self {
            Self::IoUring => "io_uring",
            Self::Epoll => "epoll",
            Self::Poll => "poll",
            Self::Select => "select",
            Self::Sigio => "sigio",
        }
    }

    /// The back end of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|backend| backend.name() == name)
    }

    /// Makes a driver of this kind.
    ///
    /// # Errors
    ///
    /// What the kernel says when it does not allow it, for example `EPERM` for io_uring under seccomp.
    pub fn open(self) -> io::Result<Box<dyn Driver>> {
        Ok(match self {
            Self::IoUring => Box::new(uring::Uring::new()?),
            Self::Epoll => Box::new(readiness::Readiness::new(epoll::Epoll::new()?)?),
            Self::Poll => Box::new(readiness::Readiness::new(poll::Poll::new()?)?),
            Self::Select => Box::new(readiness::Readiness::new(select::Select::new()?)?),
            Self::Sigio => Box::new(readiness::Readiness::new(sigio::Sigio::new()?)?),
        })
    }
}

impl Backend {
    /// Whether [`Backend::open`] would succeed, found out cheaply.
    ///
    /// # Errors
    ///
    /// As [`Backend::open`].
    pub fn probe(self) -> io::Result<()> {
        match self {
            Self::IoUring => uring::probe().map(drop),
            other => other.open().map(drop),
        }
    }

    /// Whether the kernel is new enough for all that the back end can use.
    pub fn is_up_to_date(self) -> bool {
        self != Self::IoUring || uring::probe().unwrap_or(false)
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
