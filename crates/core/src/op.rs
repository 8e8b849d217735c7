//! The vocabulary between a connection and a driver: what can be asked for ([`Op`]), of whom
//! ([`Token`]), and what comes back ([`Completion`]).
//!
//! Owns no descriptor and makes no system call. Does not know which back end is underneath.

use std::io;
use std::os::fd::OwnedFd;

use crate::buffer::SendQueue;

/// Names one attachment of a descriptor to a driver.
///
/// A slot index (low half) tagged with the generation of that slot (high half). A descriptor number
/// is reused by the kernel at once, and so is a slot; the generation is what keeps a completion that
/// comes late from reaching whoever lives there now.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Token(u64);

impl Token {
    /// The token of slot `index` in its life number `generation`.
    #[inline]
    pub const fn new(index: u32, generation: u32) -> Self {
        Self((generation as u64) << 32 | index as u64)
    }

    /// The token that [`Token::raw`] was taken from.
    #[inline]
    pub const fn from_raw(raw: u64) -> Self {
        Self(raw)
    }

    /// Both halves as one number, for the kernel to carry.
    #[inline]
    pub const fn raw(self) -> u64 {
        self.0
    }

    /// The slot, dense from zero: a key for tables kept beside the driver's.
    #[inline]
    pub const fn index(self) -> usize {
        self.0 as u32 as usize
    }

    /// Which life of the slot this is.
    #[inline]
    pub const fn generation(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

/// A set of directions: what a watcher wants to hear of, or what is ready.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Interest(u8);

impl Interest {
    /// Neither direction.
    pub const NONE: Self = Self(0);
    /// Readable: data, end of stream, a pending connection, or an error to be collected.
    pub const READ: Self = Self(1);
    /// Writable: room in the send buffer, a connect that ended, or an error to be collected.
    pub const WRITE: Self = Self(2);
    /// Both directions.
    pub const BOTH: Self = Self(3);

    /// Whether every direction of `other` is in this set.
    #[inline]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether the two sets share a direction.
    #[inline]
    pub const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// This set and `other`.
    #[inline]
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// This set less `other`.
    #[inline]
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// The directions in both sets.
    #[inline]
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Whether the set is empty.
    #[inline]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// What a descriptor is attached for. It decides how a driver registers it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// A connected, or connecting, stream socket: takes `Receive`, `Connect` and sends.
    Stream,
    /// A listening stream socket: takes `Accept`.
    Listener,
    /// Somebody else's descriptor of any pollable kind: takes `Watch`, level-triggered.
    Watched,
}

/// A piece of work for a driver. Sends are not here: they move memory, see [`crate::driver::Driver::send`].
#[derive(Debug)]
pub enum Op {
    /// Accept connections until cancelled or until it fails: [`Completion::Accepted`] for each.
    Accept,
    /// Receive until cancelled, end of stream or error: [`Completion::Received`] for each piece.
    Receive,
    /// Begin to connect: one [`Completion::Connected`].
    Connect(SocketAddress),
    /// Report readiness, level-triggered, until changed: [`Completion::Ready`]. Replaces the interest
    /// asked for before; [`Interest::NONE`] ends it.
    Watch(Interest),
    /// End an operation of this token. Once the call returns no completion of it is delivered; bytes
    /// that the kernel had already handed over are kept and come first when receiving is resumed.
    Cancel(Cancel),
}

/// Which operation to end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cancel {
    /// The accept of a listener.
    Accept,
    /// The receive of a stream.
    Receive,
    /// The connect of a stream.
    Connect,
}

/// What became of an operation. Handed to a [`crate::driver::Sink`].
#[derive(Debug)]
pub enum Completion<'a> {
    /// A new connection, non-blocking and close-on-exec; or the error that ended the accept. After
    /// EMFILE, ENFILE, ENOBUFS or ENOMEM the connection is still in the backlog: submit `Accept`
    /// again when a descriptor may be free.
    Accepted(io::Result<OwnedFd>),
    /// Bytes, lent for the length of the call. Never empty.
    Received(&'a [u8]),
    /// So many bytes, at least one, lie at the front of the memory that the sink gave for them.
    Filled(usize),
    /// The receive ended: `Ok` at the peer's FIN, else the socket's error, already taken from it.
    ReceiveEnded(io::Result<()>),
    /// A send that was pending made progress or failed. The queue comes back as it went in: the
    /// caller advances it by the number of bytes sent.
    Sent(SendQueue, io::Result<usize>),
    /// The connect ended.
    Connected(io::Result<()>),
    /// A watched descriptor is ready in these directions (errors and hang-ups count as both that
    /// were asked for).
    Ready(Interest),
}

/// A socket address in the kernel's own form, at most `sizeof(struct sockaddr_storage)` bytes.
#[derive(Clone)]
pub struct SocketAddress {
    pub(crate) storage: libc::sockaddr_storage,
    pub(crate) length: libc::socklen_t,
}

impl std::fmt::Debug for SocketAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.ip() {
            Some(address) => write!(f, "{address}"),
            None => write!(f, "family {} ({} bytes)", self.storage.ss_family, self.length),
        }
    }
}
