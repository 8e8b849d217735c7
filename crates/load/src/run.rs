//! The run itself, on one thread: one epoll, edge-triggered.
//!
//! ```text
//!   connect ──> warm-up ──> measured ──> draining ──> figures
//! ```

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::sync::Barrier;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use mio::{Events, Poll};

use crate::answers::Expected;
use crate::conn::Conn;
use crate::figures::{Figures, thread_times};
use crate::message::Stream;
use crate::options::{Address, Options, Share, Shared};
use crate::schedule::Schedule;

/// Bytes that are sent or read at once.
pub const BUFFER: usize = 256 * 1024;
/// Between two looks for connections that take too long.
const LOOK: Duration = Duration::from_millis(100);
/// The longest sleep: another thread may have said stop.
const SLEEP: Duration = Duration::from_millis(50);

/// What is done with what comes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    WarmUp,
    Measured,
    Draining,
}

/// A run, or the part of one that a thread has.
pub struct Run<'a> {
    pub(crate) options: &'a Options,
    pub(crate) address: &'a Address,
    pub(crate) share: Share,
    pub(crate) shared: &'a Shared,
    pub(crate) poll: Poll,
    events: Events,
    /// What the poller said: which connection, whether there is something to read, whether the server ended.
    pub(crate) happened: Vec<(usize, bool, bool)>,
    pub(crate) conns: Vec<Conn>,
    pub(crate) expected: Expected,
    pub(crate) figures: Figures,
    pub(crate) buffer: Vec<u8>,
    pub(crate) stream: Stream,
    pub(crate) phase: Phase,
    /// Whether messages flow: what is connected from then on is made again.
    pub(crate) loading: bool,
    pub(crate) begin: Instant,
    /// Messages of the measured time that may still be sent; `None`: any number.
    pub(crate) budget: Option<u64>,
    /// Connections to be begun, begun so far, being made now, not there yet, open.
    pub(crate) to_begin: VecDeque<usize>,
    pub(crate) begun: u64,
    pub(crate) connecting: usize,
    pub(crate) pending: usize,
    pub(crate) open: usize,
    pub(crate) connect_since: Instant,
    pub(crate) looked: Instant,
    pub(crate) total_in_flight: u64,
    /// Those that have something to send, and those that were not emptied.
    pub(crate) dirty: Vec<usize>,
    pub(crate) again: Vec<usize>,
    /// Why a connection could not be made.
    pub(crate) refused: Option<io::Error>,
}

impl<'a> Run<'a> {
    /// One that has not begun.
    pub fn new(
        options: &'a Options,
        address: &'a Address,
        share: Share,
        shared: &'a Shared,
    ) -> io::Result<Self> {
        let now = Instant::now();
        let expected = Expected::new(&options.answers);
        let stream = Stream::new(options.message.clone(), BUFFER);
        Ok(Self {
            options,
            address,
            share,
            shared,
            poll: Poll::new()?,
            events: Events::with_capacity(1024),
            happened: Vec::new(),
            conns: (0..share.connections).map(|_| Conn::new(&expected, now)).collect(),
            expected,
            figures: Figures::new(stream.frame()),
            buffer: vec![0; BUFFER],
            stream,
            phase: Phase::WarmUp,
            loading: false,
            begin: now,
            budget: None,
            to_begin: VecDeque::new(),
            begun: 0,
            connecting: 0,
            pending: share.connections,
            open: 0,
            connect_since: now,
            looked: now,
            total_in_flight: 0,
            dirty: Vec::new(),
            again: Vec::new(),
            refused: None,
        })
    }

    /// All of it; `together`: where the threads of a run wait for each other before they send.
    pub fn drive(mut self, together: &Barrier) -> io::Result<(Figures, Option<io::Error>)> {
        let connected = self.connect_all();
        together.wait();
        connected?;
        if self.open > 0 && !self.stopped() {
            self.load()?;
        }
        for wire in self.conns.iter_mut().filter_map(|conn| conn.wire.as_mut()) {
            wire.say_goodbye();
        }
        Ok((self.figures, self.refused))
    }

    fn stopped(&self) -> bool {
        self.shared.stop.load(Ordering::Relaxed)
    }

    /// Waits, and keeps what happened.
    pub(crate) fn poll_events(&mut self, longest: Duration) -> io::Result<()> {
        match self.poll.poll(&mut self.events, Some(longest)) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            other => other?,
        }
        self.happened.clear();
        for event in &self.events {
            let ended = event.is_read_closed() || event.is_error();
            let index = event.token().0;
            if event.is_writable() {
                self.conns[index].writable = true;
            }
            self.happened.push((index, event.is_readable() || ended, ended));
        }
        Ok(())
    }

    fn load(&mut self) -> io::Result<()> {
        let start = Instant::now();
        self.loading = true;
        // Threads take turns: the messages of one are meant to leave between those of the others.
        let rate = self.share.part(self.options.rate);
        let shift = rate.map_or(0.0, |rate| self.share.number as f64 / self.share.of as f64 / rate);
        let mut clock = Schedule::new(start + Duration::from_secs_f64(shift), rate);
        let (mut ends, mut spent, mut idle) = (None, thread_times(), Duration::ZERO);
        self.begin = start + self.options.warm_up;
        if self.options.warm_up.is_zero() {
            self.phase = Phase::Measured;
            self.figures.measuring = true;
            self.budget = self.share.count;
            ends = self.options.duration.map(|duration| start + duration);
        }
        if rate.is_none() {
            for index in 0..self.conns.len() {
                self.ask_all(index, start);
            }
        }
        loop {
            let before = Instant::now();
            let patience = match self.phase {
                _ if !self.again.is_empty() => Duration::ZERO,
                _ if self.pending > 0 => Duration::from_millis(1),
                Phase::Draining => SLEEP,
                _ => clock.patience(before, SLEEP),
            };
            self.poll_events(patience)?;
            let now = Instant::now();
            if self.happened.is_empty() && patience.is_zero() {
                idle += now - before; // it looked without sleeping, and found nothing to do: that was no work
            }
            if self.phase == Phase::WarmUp && now >= self.begin {
                (self.phase, self.begin) = (Phase::Measured, now);
                self.figures.measuring = true;
                (spent, idle) = (thread_times(), Duration::ZERO);
                ends = self.options.duration.map(|duration| now + duration);
                // In a closed loop what is under way will be measured.
                let under_way = if rate.is_none() { self.total_in_flight } else { 0 };
                self.budget = self.share.count.map(|count| count.saturating_sub(under_way));
            }
            let lost = self.open == 0 && self.pending == 0;
            if self.phase == Phase::Draining {
                if self.total_in_flight == 0 || lost || ends.is_some_and(|ends| now >= ends) {
                    for index in 0..self.conns.len() {
                        self.count_unanswered(index, now);
                    }
                    return Ok(());
                }
                if self.stopped() {
                    return Ok(());
                }
            } else if self.stopped() || lost || self.is_enough() || ends.is_some_and(|at| now >= at)
            {
                if lost {
                    self.figures.ended = Some(self.why_all_were_lost());
                }
                if self.phase == Phase::Measured {
                    // What was meant to leave since it looked last belongs to the measured time as well.
                    let until = ends.map_or(now, |ends| ends.min(now));
                    while !self.stopped() && self.send_what_is_due(&mut clock, until, now) {}
                    self.flush_dirty();
                    self.measured(now, spent, idle);
                }
                if self.stopped() || lost {
                    return Ok(());
                }
                self.phase = Phase::Draining;
                ends = Some(now + self.options.timeout);
            }
            self.turn(&mut clock, now);
        }
    }

    /// What there is to do now.
    fn turn(&mut self, clock: &mut Schedule, now: Instant) {
        let mut happened = std::mem::take(&mut self.happened);
        for (index, readable, ended) in happened.drain(..) {
            self.happen(index, readable, ended);
        }
        self.happened = happened;
        for index in std::mem::take(&mut self.again) {
            self.receive(index, true);
        }
        if !self.to_begin.is_empty() {
            self.begin_some();
        }
        self.give_up_what_takes_too_long(LOOK);
        if self.phase != Phase::Draining {
            self.send_what_is_due(clock, now, now);
        }
        self.flush_dirty();
    }

    fn flush_dirty(&mut self) {
        let mut dirty = std::mem::take(&mut self.dirty);
        for index in dirty.drain(..) {
            self.conns[index].dirty = false;
            self.flush(index);
        }
        self.dirty = dirty;
    }

    fn is_enough(&self) -> bool {
        let Some(count) = self.share.count.filter(|_| self.phase == Phase::Measured) else {
            return false;
        };
        let closed = self.options.rate.is_none();
        (closed && self.figures.messages >= count)
            || (self.budget == Some(0) && self.total_in_flight == 0)
    }

    fn measured(&mut self, now: Instant, spent: (u64, u64), idle: Duration) {
        let seconds = (now - self.begin).as_secs_f64();
        let (ran, waited) = thread_times();
        let worked = (ran - spent.0) as f64 / 1e9 - idle.as_secs_f64();
        self.figures.seconds = seconds;
        self.figures.measuring = false;
        self.figures.busy = (worked / seconds).clamp(0.0, 1.0);
        self.figures.waited = ((waited - spent.1) as f64 / 1e9 / seconds).clamp(0.0, 1.0);
    }

    fn why_all_were_lost(&self) -> String {
        let most = self.figures.errors.iter().max_by_key(|(_, times)| **times);
        let why = most.map_or("", |(text, _)| text.as_str());
        format!("every connection was lost: {why}")
    }
}
