//! One turn of the loop.
//!
//! ```text
//!        +--------------------------------------------------------------------+
//!        |  ready?  stopping?  next deadline  ->  how long may we sleep        |
//!        |      |                                                              |
//!        |      v                                                              |
//!        |  driver.wait:  submit what is queued, sleep, hand each completion   |
//!        |      |         to the host; after each one, flush what it wrote     |
//!        |      v                                                              |
//!        |  deadlines that are due go to the host, earliest first; then the    |
//!        |      |         connections whose deadline in the wheel is due       |
//!        |      |                                                              |
//!        |      v                                                              |
//!        |  host.run: what was ready when it began, in order; after each       |
//!        |      |     callback, flush what it wrote                            |
//!        |      v                                                              |
//!        |  flush what had its share before and has more to send               |
//!        +--------------------------------------------------------------------+
//! ```
//!
//! So all that one callback writes to a connection leaves in one send, when the callback returns; and
//! a callback that is made ready in this turn by another runs in the next, after I/O had its chance.
//!
//! Owns the driver, the free blocks, the deadlines and the list of connections with unflushed writes.
//! Does not know what a connection is, nor Python: the [`Host`] does.

use std::cell::{Cell, RefCell};
use std::io;
use std::time::Duration;

use crate::buffer::Pool;
use crate::driver::{Driver, Sink};
use crate::op::Token;
use crate::timer::Timers;
use crate::timer::wheel::Wheel;

/// The longest sleep. A deadline further away is looked at again then.
const LONGEST: f64 = 24.0 * 3600.0;

/// What a turn calls.
pub trait Host: Sink {
    /// What a deadline is for.
    type Timer;

    /// Whether something is ready to run, or the loop is to stop: the turn must not sleep.
    fn hurried(&self) -> bool;

    /// The clock, in seconds.
    fn now(&self) -> f64;

    /// Whether time goes by itself. A test's clock stands still: a deadline then ends no sleep.
    fn time_flows(&self) -> bool {
        true
    }

    /// Whether the wait that comes may sleep. Called before each one.
    fn sleeps(&mut self, _sleeps: bool) {}

    /// The sleep is over and every completion was handed on. Signals are looked at here.
    fn woken(&mut self);

    /// A deadline is due.
    fn due(&mut self, timer: Self::Timer);

    /// The deadline in the wheel of the connection in this slot is due.
    fn expired(&mut self, _slot: usize) {}

    /// Runs what is ready now.
    fn run(&mut self);

    /// Flushes one connection named by [`Reactor::mark_dirty`].
    fn flush(&mut self, token: Token);
}

/// The parts of a loop. Every method takes `&self`: callbacks come back in.
pub struct Reactor<T> {
    /// The back end.
    pub driver: Box<dyn Driver>,
    /// Blocks for outgoing bytes.
    pub pool: Pool,
    /// Deadlines of callbacks.
    pub timers: RefCell<Timers<T>>,
    /// Deadlines of connections, by the index of their token.
    pub wheel: RefCell<Wheel>,
    dirty: RefCell<Vec<Token>>,
    spare: Cell<Vec<Token>>,
    later: RefCell<Vec<Token>>,
}

impl<T> Reactor<T> {
    /// The parts around `driver`.
    pub fn new(driver: Box<dyn Driver>) -> Self {
        Self {
            driver,
            pool: Pool::new(),
            timers: RefCell::new(Timers::default()),
            wheel: RefCell::default(),
            dirty: RefCell::new(Vec::new()),
            spare: Cell::new(Vec::new()),
            later: RefCell::new(Vec::new()),
        }
    }

    /// Notes that `token` has unflushed writes. The caller sees to it that it is noted once.
    #[inline]
    pub fn mark_dirty(&self, token: Token) {
        self.dirty.borrow_mut().push(token);
    }

    /// Notes that `token` had its share of this turn and has more to send.
    pub fn mark_later(&self, token: Token) {
        self.later.borrow_mut().push(token);
    }

    /// Flushes every connection written to since the last call. Cheap when there is none.
    #[inline]
    pub fn flush_dirty<H: Host<Timer = T> + ?Sized>(&self, host: &mut H) {
        if !self.dirty.borrow().is_empty() {
            self.flush_all(host);
        }
    }

    fn flush_all<H: Host<Timer = T> + ?Sized>(&self, host: &mut H) {
        // A flush can run a callback (resume_writing) that writes again: go on until none is left.
        let mut batch = self.spare.take();
        while !self.dirty.borrow().is_empty() {
            std::mem::swap(&mut batch, &mut self.dirty.borrow_mut());
            for token in batch.drain(..) {
                host.flush(token);
            }
        }
        self.spare.set(batch);
    }

    /// One turn. See the picture at the head of this file.
    ///
    /// # Errors
    ///
    /// Only what leaves the driver unusable.
    pub fn turn<H: Host<Timer = T>>(&self, host: &mut H) -> io::Result<()> {
        self.flush_dirty(host);
        let timeout = self.timeout(host);
        host.sleeps(timeout != Some(Duration::ZERO));
        self.driver.wait(timeout, host)?;
        host.woken();
        if self.timers.borrow().next().is_some() {
            let now = host.now();
            loop {
                // The borrow ends before the host is called: it may set new deadlines.
                let due = self.timers.borrow_mut().pop_due(now);
                match due {
                    Some(timer) => host.due(timer),
                    None => break,
                }
            }
        }
        if !self.wheel.borrow().is_empty() {
            let now = host.now();
            loop {
                let slot = self.wheel.borrow_mut().pop_due(now);
                match slot {
                    Some(slot) => host.expired(slot),
                    None => break,
                }
            }
            self.flush_dirty(host);
        }
        host.run();
        self.flush_dirty(host);
        if !self.later.borrow().is_empty() {
            for token in self.later.take() {
                host.flush(token);
            }
            self.flush_dirty(host);
        }
        Ok(())
    }

    fn timeout<H: Host<Timer = T>>(&self, host: &H) -> Option<Duration> {
        if host.hurried() || !self.later.borrow().is_empty() {
            return Some(Duration::ZERO);
        }
        let next = match (self.timers.borrow().next(), self.wheel.borrow().next()) {
            (Some(one), Some(other)) => one.min(other),
            (one, other) => one.or(other)?,
        };
        // A deadline that is not a number would never be due and never let anything behind it pass.
        let left = next - host.now();
        if left > 0.0 {
            host.time_flows().then(|| Duration::from_secs_f64(left.min(LONGEST)))
        } else {
            Some(Duration::ZERO)
        }
    }
}
