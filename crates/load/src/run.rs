//! The run itself: one thread, one epoll, edge-triggered.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Poll};

use crate::connect::connect;
use crate::figures::{Figures, histogram, run_time};
use crate::message::Stream;
use crate::options::Options;

const BUFFER: usize = 256 * 1024;
/// A server that says nothing for so long is not measured on.
const STUCK: Duration = Duration::from_secs(5);
/// Open: messages that may be under way at once, over all.
const MOST_OPEN: u64 = 2_000_000;

/// What another thread sees of a run, and how it ends it.
#[derive(Debug, Default)]
pub struct Shared {
    /// Connections that are made.
    pub connected: AtomicU64,
    /// Messages that came back, since the start.
    pub messages: AtomicU64,
    /// The run shall end.
    pub stop: AtomicBool,
}

/// A connection, and what is under way on it.
pub struct Conn {
    socket: Option<TcpStream>,
    /// Bytes that should have left.
    unsent: usize,
    /// Where in a frame the next byte to send is, and the next to come.
    send_at: usize,
    receive_at: usize,
    /// When messages left, or were meant to, and how many at that time.
    under_way: VecDeque<(Instant, u64)>,
    in_flight: u64,
    writable: bool,
}

impl Conn {
    /// One that was just made.
    pub fn new(socket: TcpStream) -> Self {
        Self {
            socket: Some(socket),
            unsent: 0,
            send_at: 0,
            receive_at: 0,
            under_way: VecDeque::new(),
            in_flight: 0,
            writable: true,
        }
    }
}

/// When something is measured.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    WarmUp,
    Measured,
    Draining,
}

struct Run<'a> {
    options: &'a Options,
    shared: &'a Shared,
    stream: Stream,
    buffer: Vec<u8>,
    phase: Phase,
    begin: Instant,
    figures: Figures,
    alive: usize,
    total_in_flight: u64,
}

/// Makes the connections, and the load.
///
/// # Errors
/// No connection could be made, all were lost, or the server said nothing for five seconds.
pub fn run(options: &Options, shared: &Shared) -> io::Result<Figures> {
    let mut poll = Poll::new()?;
    let began = Instant::now();
    let mut errors = std::collections::BTreeMap::new();
    let mut conns = connect(options, shared, &mut poll, &mut errors)?;
    let stream = Stream::new(options.framing, options.size, BUFFER);
    let mut run = Run {
        options,
        shared,
        buffer: vec![0; BUFFER],
        phase: Phase::WarmUp,
        begin: Instant::now(),
        alive: conns.len(),
        total_in_flight: 0,
        figures: Figures {
            seconds: 0.0,
            connecting: began.elapsed().as_secs_f64(),
            connected: conns.len() as u64,
            messages: 0,
            intended: 0,
            frame: stream.frame(),
            latency: histogram(),
            lateness: histogram(),
            errors,
            busy: 0.0,
            each_second: Vec::new(),
        },
        stream,
    };
    run.drive(&mut poll, &mut conns)?;
    Ok(run.figures)
}

impl Run<'_> {
    fn drive(&mut self, poll: &mut Poll, conns: &mut [Conn]) -> io::Result<()> {
        let mut events = Events::with_capacity(1024);
        let start = Instant::now();
        self.begin = start + self.options.warm_up;
        let mut ends = self.begin + self.options.duration;
        let mut spent = run_time();
        let (mut last_reply, mut answered) = (start, 0);
        let mut clock = Schedule::new(start, self.options.rate);
        let mut idle = Duration::ZERO;
        if self.options.rate.is_none() {
            for conn in conns.iter_mut() {
                self.ask(conn, self.options.in_flight as u64, start);
            }
        }
        loop {
            let before = Instant::now();
            poll.poll(&mut events, Some(clock.patience(before, self.phase == Phase::Draining)))?;
            let now = Instant::now();
            if events.is_empty() {
                idle += now - before;
            }
            if self.phase == Phase::WarmUp && now >= self.begin {
                self.phase = Phase::Measured;
                ends += now - self.begin;
                self.begin = now;
                (spent, idle) = (run_time(), Duration::ZERO);
            }
            let enough = self.options.count.is_some_and(|count| self.figures.messages >= count);
            let stopped = self.shared.stop.load(Ordering::Relaxed);
            if self.phase == Phase::Measured && (now >= ends || enough || stopped) {
                let seconds = (now - self.begin).as_secs_f64();
                self.figures.seconds = seconds;
                // With a rate it looks without sleeping: what found nothing to do was no work.
                let worked = (run_time() - spent) as f64 / 1e9 - idle.as_secs_f64().min(seconds);
                let ran = (run_time() - spent) as f64 / 1e9;
                self.figures.busy =
                    if self.options.rate.is_some() { worked.max(0.0) } else { ran } / seconds;
                self.phase = Phase::Draining;
                ends = now + Duration::from_secs(1);
            } else if (self.phase == Phase::WarmUp && stopped)
                || (self.phase == Phase::Draining && (self.total_in_flight == 0 || now >= ends))
            {
                return Ok(());
            }
            for event in &events {
                let conn = &mut conns[event.token().0];
                if event.is_writable() {
                    conn.writable = true;
                    self.flush(conn);
                }
                if event.is_readable() || event.is_read_closed() || event.is_error() {
                    self.receive(conn);
                }
            }
            if self.phase != Phase::Draining {
                self.send_what_is_due(conns, &mut clock);
            }
            let messages = self.shared.messages.load(Ordering::Relaxed);
            if messages > answered || self.total_in_flight == 0 {
                (last_reply, answered) = (now, messages);
            } else if now - last_reply > STUCK {
                return Err(io::Error::new(
                    ErrorKind::TimedOut,
                    "the server answers nothing for 5 s",
                ));
            }
            if self.alive == 0 {
                let why = self.figures.errors.keys().next().cloned().unwrap_or_default();
                return Err(io::Error::new(
                    ErrorKind::ConnectionReset,
                    format!("every connection was lost: {why}"),
                ));
            }
        }
    }

    /// Open: what was meant to leave by now, to each connection in turn.
    fn send_what_is_due(&mut self, conns: &mut [Conn], clock: &mut Schedule) {
        while let Some((number, meant)) = clock.due(Instant::now()) {
            if self.phase == Phase::Measured && meant >= self.begin {
                self.figures.intended += 1;
                let late = Instant::now().saturating_duration_since(meant).as_nanos() as u64;
                self.figures.lateness.saturating_record(late.max(1));
            }
            if self.total_in_flight >= MOST_OPEN {
                *self
                    .figures
                    .errors
                    .entry("too many under way: not sent".to_owned())
                    .or_default() += 1;
                continue;
            }
            let all = conns.len();
            let Some(index) = (0..all)
                .map(|more| (number as usize + more) % all)
                .find(|&at| conns[at].socket.is_some())
            else {
                return;
            };
            self.ask(&mut conns[index], 1, meant);
        }
    }

    fn ask(&mut self, conn: &mut Conn, messages: u64, at: Instant) {
        conn.unsent += messages as usize * self.stream.frame();
        conn.in_flight += messages;
        self.total_in_flight += messages;
        conn.under_way.push_back((at, messages));
        if conn.writable {
            self.flush(conn);
        }
    }

    fn flush(&mut self, conn: &mut Conn) {
        while conn.unsent > 0 {
            let Some(socket) = &mut conn.socket else { return };
            let length = conn.unsent.min(BUFFER);
            match socket.write(self.stream.piece(conn.send_at, length)) {
                Ok(sent) => {
                    conn.unsent -= sent;
                    conn.send_at = (conn.send_at + sent) % self.stream.frame();
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    conn.writable = false;
                    return;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return self.lose(conn, &error.to_string()),
            }
        }
    }

    fn receive(&mut self, conn: &mut Conn) {
        loop {
            let Some(socket) = &mut conn.socket else { return };
            let got = match socket.read(&mut self.buffer) {
                Ok(0) => return self.lose(conn, "closed by the server"),
                Ok(got) => got,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return self.lose(conn, &error.to_string()),
            };
            if self.buffer[..got] != *self.stream.piece(conn.receive_at, got) {
                return self.lose(
                    conn,
                    "other bytes came back than were sent: is it an echo with this framing?",
                );
            }
            let there = conn.receive_at + got;
            let whole = (there / self.stream.frame()) as u64;
            conn.receive_at = there % self.stream.frame();
            if whole > conn.in_flight {
                return self.lose(conn, "more came back than was sent");
            }
            if whole > 0 {
                let now = Instant::now();
                self.take(conn, whole, now);
                if self.options.rate.is_none() && self.phase != Phase::Draining {
                    self.ask(conn, whole, now);
                }
            }
            if got < BUFFER {
                return; // it was emptied: what comes is a new edge
            }
        }
    }

    fn take(&mut self, conn: &mut Conn, whole: u64, now: Instant) {
        conn.in_flight -= whole;
        self.total_in_flight -= whole;
        self.shared.messages.fetch_add(whole, Ordering::Relaxed);
        let measured = self.phase == Phase::Measured;
        if measured {
            self.figures.messages += whole;
            let second = (now - self.begin).as_secs() as usize;
            if self.figures.each_second.len() <= second {
                self.figures.each_second.resize(second + 1, 0);
            }
            self.figures.each_second[second] += whole;
        }
        let mut left = whole;
        while left > 0 {
            let Some((at, count)) = conn.under_way.front_mut() else { return };
            let taken = left.min(*count);
            // What was meant to leave in the measured time counts, also if it comes back after it: the slowest do.
            let counts = match self.options.rate {
                None => measured,
                Some(_) => self.phase != Phase::WarmUp && *at >= self.begin,
            };
            if counts {
                let passed = now.saturating_duration_since(*at).as_nanos() as u64;
                self.figures.latency.saturating_record_n(passed.max(1), taken);
            }
            *count -= taken;
            left -= taken;
            if *count == 0 {
                conn.under_way.pop_front();
            }
        }
    }

    fn lose(&mut self, conn: &mut Conn, why: &str) {
        conn.socket = None;
        self.alive -= 1;
        self.total_in_flight -= conn.in_flight;
        conn.in_flight = 0;
        conn.unsent = 0;
        *self.figures.errors.entry(why.to_owned()).or_default() += 1;
    }
}

/// When messages are meant to leave.
struct Schedule {
    start: Instant,
    rate: Option<f64>,
    next: u64,
}

impl Schedule {
    fn new(start: Instant, rate: Option<f64>) -> Self {
        Self { start, rate, next: 0 }
    }

    /// The next message that should have left by `now`, and when.
    fn due(&mut self, now: Instant) -> Option<(u64, Instant)> {
        let meant = self.start + Duration::from_secs_f64(self.next as f64 / self.rate?);
        if meant > now {
            return None;
        }
        self.next += 1;
        Some((self.next - 1, meant))
    }

    /// How long it may sleep. A poller sleeps for whole milliseconds: below two it looks again and again.
    fn patience(&self, now: Instant, draining: bool) -> Duration {
        let Some(rate) = self.rate.filter(|_| !draining) else { return Duration::from_millis(50) };
        let meant = self.start + Duration::from_secs_f64(self.next as f64 / rate);
        let left = meant.saturating_duration_since(now).min(Duration::from_millis(50));
        if left < Duration::from_millis(2) {
            Duration::ZERO
        } else {
            left - Duration::from_millis(1)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_due_at_their_time() {
        let start = Instant::now();
        let mut clock = Schedule::new(start, Some(1000.0));
        let later = start + Duration::from_micros(2500);
        let due: Vec<_> = std::iter::from_fn(|| clock.due(later)).collect();
        let at = |number: u64| (number, start + Duration::from_millis(number));
        assert_eq!(due, [at(0), at(1), at(2)]);
        assert_eq!(Schedule::new(start, None).due(later), None);
    }
}
