//! What is kept for one token.

use std::collections::VecDeque;
use std::io::{self};
use std::os::fd::{OwnedFd, RawFd};

use crate::buffer::SendQueue;
use crate::op::{Interest, SocketAddress, Token};

/// What a request is, in the top byte of its user data.
pub mod kind {
    pub const ACCEPT: u8 = 1;
    pub const RECEIVE: u8 = 2;
    pub const CONNECT: u8 = 4;
    pub const WATCH: u8 = 8;
    pub const SEND: u8 = 16;
    /// Cancels: their own results say nothing that the cancelled request does not say.
    pub const CANCEL: u8 = 128;
}

/// The generation as it fits into user data.
pub const GENERATION: u32 = 0x00ff_ffff;

pub fn user_data(kind: u8, token: Token) -> u64 {
    u64::from(kind) << 56 | u64::from(token.generation() & GENERATION) << 32 | token.index() as u64
}

/// A send that the kernel has. Boxed: the kernel keeps pointers into it.
pub struct InFlight {
    pub queue: SendQueue,
    pub message: libc::msghdr,
    pub slices: Vec<libc::iovec>,
}

/// What came for an operation that was not wanted just then.
#[derive(Default)]
pub struct Stash {
    pub bytes: Vec<u8>,
    pub end: Option<io::Result<()>>,
    pub accepted: VecDeque<OwnedFd>,
}

pub struct Slot {
    pub generation: u32,
    pub fd: RawFd,
    pub attached: bool,
    /// `kind::*` that are asked for.
    pub wanted: u8,
    /// `kind::*` that the kernel has.
    pub armed: u8,
    /// `kind::*` of `armed` that were told to end.
    pub ending: u8,
    /// Stands in `todo`.
    pub listed: bool,
    /// Has received something since its receive was armed.
    pub fed: bool,
    /// Receives by readiness, see "Bulk" at the head of the driver.
    pub bulk: bool,
    /// The armed receive is a poll.
    pub polls: bool,
    /// Short reads in a row, while in bulk.
    pub lean: u8,
    /// What the last read in bulk brought, bytes.
    pub last: u32,
    pub watching: Interest,
    /// What the armed poll asks for.
    pub polled: Interest,
    pub stash: Option<Box<Stash>>,
    pub send: Option<Box<InFlight>>,
    pub address: Option<Box<SocketAddress>>,
}

impl Slot {
    pub fn new(generation: u32, fd: RawFd) -> Self {
        Self {
            generation,
            fd,
            attached: true,
            wanted: 0,
            armed: 0,
            ending: 0,
            listed: false,
            fed: false,
            bulk: false,
            polls: false,
            lean: 0,
            last: 0,
            watching: Interest::NONE,
            polled: Interest::NONE,
            stash: None,
            send: None,
            address: None,
        }
    }
}
