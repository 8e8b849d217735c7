//! Messages of a run: what leaves, what comes, and what becomes of a connection that ends.

use std::io::{self, ErrorKind};
use std::sync::atomic::Ordering;
use std::time::Instant;

use crate::answers::Taken;
use crate::conn::State;
use crate::run::{BUFFER, Phase, Run};
use crate::schedule::Schedule;

/// Reads of one connection in one turn; what is left waits for the next, so that no connection starves the others.
const READS: usize = 8;
/// Open: messages that leave in one turn; what comes is not forgotten over it.
const DUE: usize = 4096;
/// Open: messages that may be under way at once, over all.
const MOST_OPEN: u64 = 2_000_000;

impl Run<'_> {
    /// Something happened to a connection.
    pub(crate) fn happen(&mut self, index: usize, readable: bool, ended: bool) {
        match self.conns[index].state {
            State::Connecting(_) => {
                if !self.go_on_connecting(index) {
                    return;
                }
                self.conns[index].dirty = false;
                if self.loading && self.options.rate.is_none() && self.phase != Phase::Draining {
                    self.ask_all(index, Instant::now());
                }
                self.flush(index);
            }
            State::Open => {
                if self.conns[index].writable {
                    self.flush(index);
                }
            }
            State::Waiting | State::Lost => return,
        }
        if readable && self.conns[index].state == State::Open {
            self.receive(index, ended);
        }
    }

    /// Open: what was meant to leave by `until`, to each connection in turn; whether more of it is left.
    pub(crate) fn send_what_is_due(
        &mut self,
        clock: &mut Schedule,
        until: Instant,
        now: Instant,
    ) -> bool {
        let frame = self.stream.frame();
        let all = self.conns.len();
        for _ in 0..DUE {
            if self.budget == Some(0) && self.phase == Phase::Measured {
                return false;
            }
            let Some((number, meant)) = clock.due(until) else { return false };
            if self.phase == Phase::Measured && meant >= self.begin {
                self.figures.intended += 1;
                let late = now.saturating_duration_since(meant).as_nanos() as u64;
                self.figures.lateness.saturating_record(late.max(1));
                self.budget = self.budget.map(|left| left - 1);
            }
            if self.total_in_flight >= MOST_OPEN {
                self.figures.not_sent += 1;
                continue;
            }
            let place = number as usize % all;
            let found =
                (place..all).chain(0..place).find(|&at| self.conns[at].state != State::Lost);
            let Some(index) = found else { return false };
            let conn = &mut self.conns[index];
            conn.ask(1, frame, meant, now);
            self.total_in_flight += 1;
            if !conn.dirty {
                conn.dirty = true;
                self.dirty.push(index);
            }
        }
        true
    }

    /// Closed: as many as belong on a connection that has none.
    pub(crate) fn ask_all(&mut self, index: usize, now: Instant) {
        if self.conns[index].state == State::Open {
            self.ask(index, self.options.in_flight as u64, now);
            self.flush(index);
        }
    }

    /// Closed: so many leave now.
    pub(crate) fn ask(&mut self, index: usize, messages: u64, now: Instant) {
        let messages = self.budget.map_or(messages, |left| left.min(messages));
        if messages > 0 {
            self.budget = self.budget.map(|left| left - messages);
            self.total_in_flight += messages;
            self.conns[index].ask(messages, self.stream.frame(), now, now);
        }
    }

    pub(crate) fn flush(&mut self, index: usize) {
        let conn = &mut self.conns[index];
        let Some(wire) = conn.wire.as_mut().filter(|_| conn.state == State::Open) else { return };
        let outcome = loop {
            if !conn.writable || conn.unsent == 0 {
                break wire.flush().map(drop);
            }
            let length = conn.unsent.min(BUFFER);
            match wire.write(self.stream.piece(conn.send_at, length)) {
                Ok(sent) => {
                    conn.unsent -= sent;
                    if self.stream.frame() > BUFFER {
                        conn.heard = Instant::now(); // a part of a long message
                    }
                    conn.send_at = (conn.send_at + sent) % self.stream.frame();
                    if self.phase == Phase::Measured {
                        self.figures.sent += sent as u64;
                    }
                }
                Err(error) => break Err(error),
            }
        };
        match outcome {
            Err(error) if error.kind() == ErrorKind::WouldBlock => conn.writable = false,
            Err(error) => self.lose_by(index, &error),
            Ok(()) => {}
        }
    }

    /// Reads what there is; `to_the_end`: until there is no more, since the end of the stream makes no new edge.
    pub(crate) fn receive(&mut self, index: usize, to_the_end: bool) {
        for _ in 0..READS {
            let Self { conns, expected, stream, figures, buffer, .. } = self;
            let conn = &mut conns[index];
            let Some(wire) = conn.wire.as_mut().filter(|_| conn.state == State::Open) else {
                return;
            };
            let (mut taken, mut bytes, mut wrong) = (Taken::default(), 0, None);
            let got = wire.read(buffer, &mut |plain| {
                bytes += plain.len();
                if wrong.is_none() {
                    match conn.reader.take(plain, expected, stream, figures) {
                        Ok(more) => {
                            taken.whole += more.whole;
                            taken.last |= more.last;
                        }
                        Err(text) => wrong = Some(text),
                    }
                }
            });
            if matches!(got, Ok(0)) {
                let more = conn.reader.end(figures);
                taken.whole += more.whole;
                taken.last |= more.last;
            }
            if self.phase == Phase::Measured {
                self.figures.received += bytes as u64;
            }
            if bytes > 0 && taken.whole == 0 {
                self.conns[index].heard = Instant::now(); // a part of a long answer
            }
            if taken.whole > self.conns[index].in_flight {
                return self.lose(index, "more came back than was sent", false);
            }
            if taken.whole > 0 {
                self.take(index, &taken);
                if self.conns[index].state != State::Open {
                    return; // what it was asked then could not be sent
                }
            }
            if let Some(text) = wrong {
                return self.lose(index, &text, false);
            }
            match got {
                _ if taken.last => return self.renew(index),
                Ok(0) => return self.lose(index, "closed by the server", true),
                Ok(got) if got < BUFFER && !to_the_end => return, // it was emptied: what comes is a new edge
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) => return self.lose_by(index, &error),
            }
        }
        self.again.push(index);
    }

    fn take(&mut self, index: usize, taken: &Taken) {
        let (now, whole) = (Instant::now(), taken.whole);
        let conn = &mut self.conns[index];
        conn.in_flight -= whole;
        (conn.heard, conn.answered) = (now, true);
        self.total_in_flight -= whole;
        self.shared.messages.fetch_add(whole, Ordering::Relaxed);
        let (mut left, mut longest) = (whole, 0);
        while left > 0 {
            let Some((at, count)) = conn.under_way.front_mut() else { break };
            let these = left.min(*count);
            let passed = now.saturating_duration_since(*at).as_nanos() as u64;
            longest = longest.max(passed);
            // What was asked for in the measured time counts, also if it comes back after it: the slowest do.
            if self.phase != Phase::WarmUp && *at >= self.begin {
                self.figures.latency.saturating_record_n(passed.max(1), these);
            }
            *count -= these;
            left -= these;
            if *count == 0 {
                conn.under_way.pop_front();
            }
        }
        if self.phase == Phase::Measured {
            let most = self.share.count.map_or(u64::MAX, |count| count - self.figures.messages);
            self.figures.came_back(whole.min(most), now - self.begin, longest);
        }
        if self.options.rate.is_none() && self.phase != Phase::Draining && !taken.last {
            self.ask(index, whole, now);
            self.flush(index);
        }
    }

    /// The server said that nothing more comes on this connection, and what was due came: another takes its place.
    fn renew(&mut self, index: usize) {
        if self.phase == Phase::Draining {
            self.count_unanswered(index, Instant::now());
        }
        let conn = &mut self.conns[index];
        let (unanswered, closed) =
            (std::mem::take(&mut conn.in_flight), self.options.rate.is_none());
        self.total_in_flight -= unanswered;
        let under_way = std::mem::take(&mut conn.under_way);
        if self.phase == Phase::Draining {
            (conn.state, conn.wire) = (State::Lost, None);
            self.open -= 1;
            return;
        }
        self.make_again(index);
        if closed {
            // The new one is asked for all that belongs on a connection.
            self.budget = self.budget.map(|left| left + unanswered);
        } else {
            // What was under way leaves again; it was meant to leave when it was.
            let (frame, now) = (self.stream.frame(), Instant::now());
            for (at, count) in under_way {
                self.conns[index].ask(count, frame, at, now);
            }
            self.total_in_flight += unanswered;
        }
    }

    fn lose_by(&mut self, index: usize, error: &io::Error) {
        let text = match error.kind() {
            ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => "reset by the server".to_owned(),
            _ => error.to_string().split(" (os error").next().unwrap_or_default().to_owned(),
        };
        self.lose(index, &text, true);
    }

    /// A connection is gone; `again`: another takes its place, if it had answered.
    pub(crate) fn lose(&mut self, index: usize, why: &str, again: bool) {
        let conn = &mut self.conns[index];
        self.figures.went_wrong(why, 1);
        self.total_in_flight -= conn.in_flight;
        if again && conn.answered && self.phase != Phase::Draining {
            return self.make_again(index);
        }
        self.open -= 1;
        (conn.state, conn.wire) = (State::Lost, None);
        (conn.in_flight, conn.unsent) = (0, 0);
        conn.under_way.clear();
    }

    /// What was asked for in the measured time and did not come back counts with what it has waited.
    pub(crate) fn count_unanswered(&mut self, index: usize, now: Instant) {
        if self.phase == Phase::WarmUp {
            return;
        }
        for (at, count) in self.conns[index].under_way.drain(..) {
            if at >= self.begin {
                let waited = now.saturating_duration_since(at).as_nanos() as u64;
                self.figures.latency.saturating_record_n(waited.max(1), count);
                self.figures.unanswered += count;
            }
        }
    }
}
