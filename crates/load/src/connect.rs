//! Making the connections: many under way at once, or so many a second. The part of a run that comes first.

use std::io::{self, ErrorKind};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::conn::{Conn, State};
use crate::run::{Phase, Run};
use crate::wire::{Progress, Wire};

/// Connections that are being made at once, without a rate.
const AT_ONCE: usize = 128;
/// Between two looks for what takes too long.
const LOOK: Duration = Duration::from_millis(20);

impl Run<'_> {
    /// Makes them all, or finds out that it can not.
    pub fn connect_all(&mut self) -> io::Result<()> {
        self.connect_since = Instant::now();
        self.to_begin.extend(0..self.conns.len());
        while self.pending > 0 && !self.shared.stop.load(Ordering::Relaxed) {
            self.begin_some();
            self.poll_events(Duration::from_millis(1))?;
            for (index, readable, ended) in std::mem::take(&mut self.happened) {
                self.happen(index, readable, ended);
            }
            self.give_up_what_takes_too_long(LOOK);
        }
        self.figures.connecting = self.connect_since.elapsed().as_secs_f64();
        self.figures.connected = self.open as u64;
        Ok(())
    }

    /// Begins as many as may be begun now.
    pub fn begin_some(&mut self) {
        let rate = self.share.part(self.options.connect_rate);
        let at_once = (AT_ONCE / self.share.of).max(1);
        while let Some(&index) = self.to_begin.front() {
            let may = match rate {
                Some(rate) => {
                    self.begun as f64 <= self.connect_since.elapsed().as_secs_f64() * rate
                }
                None => self.connecting < at_once,
            };
            if !may {
                return;
            }
            let sources = &self.options.sources;
            let place = self.share.number + index * self.share.of;
            let source = sources.get(place % sources.len().max(1)).copied();
            let made = Wire::begin(self.address, source, self.options.tls.as_ref())
                .and_then(|mut wire| wire.watch(self.poll.registry(), index).map(|()| wire));
            let conn = &mut self.conns[index];
            match made {
                // A Unix socket whose listen queue is full: later, as long as it may take.
                Err(error)
                    if error.kind() == ErrorKind::WouldBlock
                        && conn.wanted.elapsed() < self.options.connect_timeout =>
                {
                    return;
                }
                Err(error) => {
                    self.to_begin.pop_front();
                    self.begun += 1;
                    self.connecting += 1;
                    self.not_made(index, error);
                }
                Ok(wire) => {
                    self.to_begin.pop_front();
                    self.begun += 1;
                    self.connecting += 1;
                    conn.wire = Some(wire);
                    conn.state = State::Connecting(Instant::now());
                }
            }
        }
    }

    /// Goes on with one that is being made; whether it is open now.
    pub fn go_on_connecting(&mut self, index: usize) -> bool {
        let Some(wire) = &mut self.conns[index].wire else { return false };
        match wire.make(&mut self.buffer) {
            Ok(Progress::UnderWay) => false,
            Ok(Progress::Made) => {
                self.connecting -= 1;
                self.pending -= 1;
                self.open += 1;
                self.figures.reconnected += u64::from(self.loading);
                let conn = &mut self.conns[index];
                conn.state = State::Open;
                conn.writable = true;
                conn.heard = Instant::now();
                self.shared.connected.fetch_add(1, Ordering::Relaxed);
                true
            }
            Err(error) => {
                self.not_made(index, error);
                false
            }
        }
    }

    fn not_made(&mut self, index: usize, error: io::Error) {
        let text = error.to_string();
        let plain = text.split(" (os error").next().unwrap_or_default();
        self.figures.went_wrong(&format!("connect: {plain}"), 1);
        self.refused = Some(error);
        self.connecting -= 1;
        self.pending -= 1;
        self.count_unanswered(index, Instant::now());
        let conn = &mut self.conns[index];
        self.total_in_flight -= conn.in_flight;
        (conn.state, conn.wire) = (State::Lost, None);
        (conn.in_flight, conn.unsent) = (0, 0);
        conn.under_way.clear();
    }

    /// The server ended it: it is made again.
    pub fn make_again(&mut self, index: usize) {
        let (now, expected) = (Instant::now(), &self.expected);
        let conn = &mut self.conns[index];
        let dirty = conn.dirty;
        *conn = Conn { dirty, ..Conn::new(expected, now) };
        self.open -= 1;
        self.pending += 1;
        self.to_begin.push_back(index);
    }

    /// Looks, every so often, for connections that take too long: to be made, or to answer.
    pub fn give_up_what_takes_too_long(&mut self, every: Duration) {
        let now = Instant::now();
        if now - self.looked < every {
            return;
        }
        self.looked = now;
        for index in 0..self.conns.len() {
            let conn = &self.conns[index];
            match conn.state {
                State::Connecting(since) if now - since > self.options.connect_timeout => {
                    self.not_made(index, io::Error::new(ErrorKind::TimedOut, "timed out"));
                }
                // After the end there is one patience for all, and what is missing then counts as unanswered.
                State::Open
                    if self.phase != Phase::Draining
                        && conn.in_flight > 0
                        && now.saturating_duration_since(conn.heard) > self.options.timeout =>
                {
                    let text = format!("no answer within {:?}", self.options.timeout);
                    self.count_unanswered(index, now);
                    self.lose(index, &text, false);
                }
                _ => {}
            }
        }
    }
}
