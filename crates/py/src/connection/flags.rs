//! What a connection is doing, as one word of bits.

use std::cell::Cell;

/// The bits. Reading several at once is one test.
pub struct Flag;

impl Flag {
    /// Named in the reactor's list of unflushed connections.
    pub const DIRTY: u32 = 1;
    /// A handler is suspended.
    pub const BUSY: u32 = 1 << 1;
    /// More waits to be sent than the high watermark.
    pub const PRESSED: u32 = 1 << 2;
    /// Reading is paused.
    pub const PAUSED: u32 = 1 << 3;
    /// The peer sent FIN.
    pub const ENDED: u32 = 1 << 4;
    /// The server stops: the running handler was the last.
    pub const STOPPING: u32 = 1 << 5;
    /// No more messages are handled; what is queued is still sent.
    pub const CLOSING: u32 = 1 << 6;
    /// Over.
    pub const CLOSED: u32 = 1 << 7;
    /// Messages are being handled further up the stack.
    pub const WORKING: u32 = 1 << 8;
    /// Nobody is called with messages: they are pulled with `receive`.
    pub const PULLED: u32 = 1 << 9;
    /// Somebody waits in `receive`.
    pub const AWAITED: u32 = 1 << 10;
    /// As many handlers are suspended as the server allows: waits until one is done.
    pub const HELD: u32 = 1 << 11;
    /// Over its rate: waits until that is paid for.
    pub const THROTTLED: u32 = 1 << 12;
    /// The program paused it.
    pub const HUSHED: u32 = 1 << 13;
    /// The PROXY header has not come yet.
    pub const HEADER: u32 = 1 << 14;
    /// Has a framing of its own.
    pub const REFRAMED: u32 = 1 << 15;
    /// A heartbeat was sent and nothing has come since.
    pub const PINGED: u32 = 1 << 16;
    /// What was flushed did not all leave, and the time is taken.
    pub const STALLED: u32 = 1 << 17;
    /// We sent FIN and go on reading.
    pub const HALF: u32 = 1 << 18;
    /// A whole message has come.
    pub const SPOKEN: u32 = 1 << 19;

    /// We sent FIN, and read away what the peer still sends.
    pub const LINGERS: u32 = 1 << 20;

    /// Counted by the server's gate.
    pub const GATED: u32 = 1 << 21;
    /// Counted there by its address.
    pub const NAMED: u32 = 1 << 22;
    /// What it may receive in a second is bounded.
    pub const METERED: u32 = 1 << 23;

    /// A PROXY header comes, or came, first.
    pub const PROXIED: u32 = 1 << 24;

    /// Requests of ours may be under way.
    pub const ANSWERED: u32 = 1 << 25;

    /// Moves to another process: no handler begins.
    pub const MOVING: u32 = 1 << 26;
    /// TLS is under it, or comes.
    pub const SECURE: u32 = 1 << 27;
    /// The TLS handshake is not done.
    pub const SHAKING: u32 = 1 << 28;
    /// Somebody watches what comes and goes.
    pub const TAPPED: u32 = 1 << 29;

    /// The peer may be silent as long as it likes: it waits for us, though we listen.
    pub const PATIENT: u32 = 1 << 29;

    /// What keeps the next message from being handled.
    pub const BLOCKED: u32 = Self::BUSY
        | Self::PRESSED
        | Self::WORKING
        | Self::CLOSING
        | Self::STOPPING
        | Self::PULLED
        | Self::AWAITED
        | Self::HELD
        | Self::THROTTLED
        | Self::HUSHED
        | Self::HEADER
        | Self::MOVING;
    /// What keeps the end that the peer announced from being the end.
    pub const UNFINISHED: u32 =
        Self::BLOCKED & !(Self::PULLED | Self::AWAITED | Self::HEADER | Self::STOPPING);
}

/// A set of [`Flag`] bits behind a shared reference.
#[derive(Default)]
pub struct Flags(Cell<u32>);

impl Flags {
    /// Whether any of `bits` is set.
    #[inline]
    pub fn any(&self, bits: u32) -> bool {
        self.0.get() & bits != 0
    }

    /// Those of `bits` that are set.
    #[inline]
    pub fn those(&self, bits: u32) -> u32 {
        self.0.get() & bits
    }

    /// Sets `bits`.
    #[inline]
    pub fn set(&self, bits: u32) {
        self.0.set(self.0.get() | bits);
    }

    /// Takes `bits` away; returns whether any of them was set.
    #[inline]
    pub fn clear(&self, bits: u32) -> bool {
        let before = self.0.get();
        self.0.set(before & !bits);
        before & bits != 0
    }
}
