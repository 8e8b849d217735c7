//! One connection: what waits to be sent, how far that is too much, and how it ends.
//!
//! Owns the descriptor (unless somebody else does, see [`Conn::disown`]) and its attachment to a
//! driver. Does not know framing, protocols or handlers; never calls upward: each method returns what
//! its caller has to act on.
//!
//! # The sending half
//!
//! ```text
//!            finish()              last byte sent
//!   Open  ------------> Finishing ---------------> Finished      (FIN is out)
//!     \                     |                          |
//!      +--------------------+---- detach() ------------+-------> Detached
//! ```
//!
//! `write` only queues. `flush` hands the queue to the driver; what is written while the driver holds
//! a send waits its turn, so bytes can not overtake each other (overlapping io_uring sends would).
//!
//! # Watermarks
//!
//! `queued` counts every byte not yet taken by the kernel. Above `high` the connection is *pressed*,
//! and stays so until it is at or under `low`: [`Conn::pressure`] reports each change once.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use crate::buffer::{Payload, Pool, SendQueue};
use crate::driver::{Driver, Fate, Sent, Withdrawn};
use crate::op::{Cancel, Op, Role, Token};
use crate::sys;

mod secured;
mod watched;

use secured::Secured;
use watched::leaves;

/// Default high watermark, bytes: asyncio's.
pub const HIGH: usize = 64 * 1024;

/// Sends of one connection in one flush: a fast reader with a long queue must not hold the loop.
const SENDS: usize = 16;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Sending {
    Open,
    Finishing,
    Finished,
    Detached,
}

/// What a flush left behind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flushed {
    /// Nothing waits.
    Empty,
    /// The driver holds a send; its completion goes to [`Conn::sent`].
    Waiting,
    /// The connection had its share of this turn: flush again in the next.
    Again,
}

/// A crossing of the watermarks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pressure {
    /// More than `high` bytes wait: the writer should stop.
    Rose,
    /// At most `low` bytes wait: it may go on.
    Fell,
}

/// What came and nobody was told of, and the end or the error behind it.
pub type Came = (Vec<u8>, Option<io::Result<()>>);

/// A connected stream socket under a driver.
pub struct Conn {
    token: Token,
    raw: RawFd,
    fd: Option<OwnedFd>,
    queue: SendQueue,
    queued: usize,
    high: usize,
    low: usize,
    sending: Sending,
    in_flight: bool,
    pressed: bool,
    watched: bool,
    /// TLS. The queue above is plaintext then.
    secured: Option<Box<Secured>>,
}

impl Conn {
    /// Takes over a connected, non-blocking socket.
    ///
    /// # Errors
    ///
    /// What the driver says to attaching it; the socket is closed then.
    pub fn new(driver: &dyn Driver, fd: OwnedFd) -> io::Result<Self> {
        let mut conn = Self::borrowed(driver, fd.as_raw_fd())?;
        conn.fd = Some(fd);
        Ok(conn)
    }

    /// The same for a socket that somebody else owns and closes after [`Conn::detach`].
    ///
    /// # Errors
    ///
    /// What the driver says to attaching it.
    pub fn borrowed(driver: &dyn Driver, raw: RawFd) -> io::Result<Self> {
        Ok(Self {
            token: driver.attach(raw, Role::Stream)?,
            raw,
            fd: None,
            queue: SendQueue::default(),
            queued: 0,
            high: HIGH,
            low: HIGH / 4,
            sending: Sending::Open,
            in_flight: false,
            pressed: false,
            watched: false,
            secured: None,
        })
    }

    /// Its name at the driver.
    pub fn token(&self) -> Token {
        self.token
    }

    /// The descriptor, or -1 once detached.
    pub fn fd(&self) -> RawFd {
        if self.sending == Sending::Detached { -1 } else { self.raw }
    }

    /// Gives the ownership of the descriptor away: from now on the caller closes it, after `detach`.
    /// `None` if it was not ours.
    pub fn disown(&mut self) -> Option<OwnedFd> {
        self.fd.take()
    }

    /// Bytes accepted by `write` and not yet taken by the kernel.
    #[inline]
    pub fn queued(&self) -> usize {
        self.queued
    }

    /// Memory of what waits to be sent, bytes. What the driver holds meanwhile counts by its length.
    pub fn heap_size(&self) -> usize {
        let (wire, secured) =
            self.secured.as_ref().map_or((0, 0), |it| (it.wire.len(), it.heap_size()));
        self.queue.heap_size() + secured + (self.queued - self.queue.len() - wire)
    }

    /// The watermarks, `(low, high)`, bytes.
    pub fn limits(&self) -> (usize, usize) {
        (self.low, self.high)
    }

    /// Sets the watermarks, bytes. `low` is at most `high`.
    pub fn set_limits(&mut self, low: usize, high: usize) {
        debug_assert!(low <= high);
        (self.low, self.high) = (low, high);
    }

    /// Whether `write` is still allowed: neither finished nor detached.
    pub fn writable(&self) -> bool {
        self.sending == Sending::Open
    }

    /// Queues a copy of `data`.
    #[inline]
    pub fn write(&mut self, pool: &Pool, data: &[u8]) {
        self.grow(pool, data.len());
        self.queue.copy(pool, data);
    }

    /// Queues a copy of a header and its data.
    #[inline]
    pub fn write_pair(&mut self, pool: &Pool, header: &[u8], data: &[u8]) {
        self.grow(pool, header.len() + data.len());
        self.queue.copy_pair(pool, header, data);
    }

    /// Queues `payload` without copying it.
    pub fn keep(&mut self, pool: &Pool, payload: Box<dyn Payload>) {
        self.grow(pool, payload.bytes().len());
        self.queue.keep(payload);
    }

    #[inline]
    fn grow(&mut self, pool: &Pool, bytes: usize) {
        self.queued += bytes;
        pool.more_queued(bytes);
    }

    #[inline]
    fn shrink(&mut self, pool: &Pool, bytes: usize) {
        self.queued -= bytes;
        pool.less_queued(bytes);
    }

    /// Whether more than the high watermark waits.
    #[inline]
    pub fn over(&self) -> bool {
        self.queued > self.high
    }

    /// A crossing of the watermarks since the last call, if there was one.
    #[inline]
    pub fn pressure(&mut self) -> Option<Pressure> {
        if self.pressed && self.queued <= self.low {
            self.pressed = false;
            Some(Pressure::Fell)
        } else if !self.pressed && self.queued > self.high {
            self.pressed = true;
            Some(Pressure::Rose)
        } else {
            None
        }
    }

    /// Whether the connection is between a rise and a fall of its pressure.
    pub fn pressed(&self) -> bool {
        self.pressed
    }

    /// Hands what is queued to the driver, and the FIN after it once [`Conn::finish`] was called.
    ///
    /// # Errors
    ///
    /// The socket's error; the queue is emptied, for nothing of it can be sent any more.
    pub fn flush(&mut self, driver: &dyn Driver, pool: &Pool) -> io::Result<Flushed> {
        if self.in_flight {
            return Ok(Flushed::Waiting);
        }
        for _ in 0..SENDS {
            let plain = self.secured.is_none();
            if !plain {
                self.seal(pool);
            }
            let queue = match &mut self.secured {
                None => &mut self.queue,
                Some(secured) => &mut secured.wire,
            };
            if queue.is_empty() {
                if self.sending == Sending::Finishing {
                    self.sending = Sending::Finished;
                    // ENOTCONN: the peer reset it; whoever reads learns that.
                    let _ = sys::shutdown_write(self.raw);
                }
                return Ok(Flushed::Empty);
            }
            match driver.send(self.token, queue) {
                Sent::Done(count) => {
                    if self.watched && plain {
                        leaves(queue, count);
                    }
                    queue.advance(pool, count);
                    self.shrink(pool, count);
                }
                Sent::Pending => {
                    self.in_flight = true;
                    return Ok(Flushed::Waiting);
                }
                Sent::Failed(error) => {
                    self.discard(pool);
                    return Err(error);
                }
            }
        }
        Ok(Flushed::Again)
    }

    /// Takes back a queue that the driver held, and flushes what is left.
    ///
    /// # Errors
    ///
    /// As [`Conn::flush`].
    pub fn sent(
        &mut self,
        driver: &dyn Driver,
        pool: &Pool,
        mut queue: SendQueue,
        result: io::Result<usize>,
    ) -> io::Result<Flushed> {
        self.in_flight = false;
        match result {
            Ok(count) => {
                if self.watched && self.secured.is_none() {
                    leaves(&queue, count);
                }
                queue.advance(pool, count);
                self.shrink(pool, count);
                let place = match &mut self.secured {
                    None => &mut self.queue,
                    Some(secured) => &mut secured.wire,
                };
                queue.append(place);
                *place = queue;
                self.flush(driver, pool)
            }
            Err(error) => {
                queue.clear(pool);
                self.discard(pool);
                Err(error)
            }
        }
    }

    /// Takes the connection out of the kernel's hands: nothing is in flight afterwards, and what was queued is here
    /// again. What came and nobody was told of, and the end behind it, are returned.
    ///
    /// # Errors
    ///
    /// As [`Driver::withdraw`]. Nothing is lost then; it receives no more until it is asked to.
    pub fn withdraw(&mut self, driver: &dyn Driver, pool: &Pool) -> io::Result<Came> {
        let Withdrawn { received, mut end, sending } = driver.withdraw(self.token)?;
        if let Some((mut queue, result)) = sending {
            self.in_flight = false;
            match result {
                Ok(count) => {
                    queue.advance(pool, count);
                    self.shrink(pool, count);
                }
                // The socket says it once; whoever goes on must hear it.
                Err(error) => end = end.or(Some(Err(error))),
            }
            queue.append(&mut self.queue);
            self.queue = queue;
        }
        Ok((received, end))
    }

    /// A copy of what is queued, in order. Only what is in flight is not in it: see [`Conn::withdraw`].
    pub fn unsent(&self) -> Vec<u8> {
        self.queue.to_vec()
    }

    /// Sends FIN after what is queued. Writing is over; reading goes on.
    ///
    /// # Errors
    ///
    /// As [`Conn::flush`].
    pub fn finish(&mut self, driver: &dyn Driver, pool: &Pool) -> io::Result<Flushed> {
        if self.sending == Sending::Open {
            self.sending = Sending::Finishing;
        }
        self.flush(driver, pool)
    }

    /// Begins, or goes on, to receive.
    ///
    /// # Errors
    ///
    /// `ENOENT` once detached.
    pub fn receive(&self, driver: &dyn Driver) -> io::Result<()> {
        driver.submit(self.token, Op::Receive)
    }

    /// Stops receiving; the kernel's buffer fills and TCP pushes back.
    pub fn pause(&self, driver: &dyn Driver) {
        // ENOENT once detached: there is nothing to stop.
        let _ = driver.submit(self.token, Op::Cancel(Cancel::Receive));
    }

    /// Throws away what is queued, except what the driver holds.
    pub fn discard(&mut self, pool: &Pool) {
        self.queue.clear(pool);
        if let Some(secured) = &mut self.secured {
            secured.wire.clear(pool);
        }
        if !self.in_flight {
            self.shrink(pool, self.queued);
        }
    }

    /// Ends everything. The descriptor is closed if it is ours. Safe to call again.
    pub fn detach(&mut self, driver: &dyn Driver, pool: &Pool) {
        if self.sending == Sending::Detached {
            return;
        }
        self.sending = Sending::Detached;
        self.in_flight = false;
        self.discard(pool);
        driver.detach(self.token, self.fd.take().map_or(Fate::Keep, Fate::Close));
    }
}
