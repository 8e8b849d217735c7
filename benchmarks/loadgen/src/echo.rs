//! Echo in a sliding window: each connection keeps `depth` messages in flight.
//!
//! When k whole messages have come back, k new ones leave in one send. What comes back is compared
//! byte for byte with what must come back (see `pattern`); of long messages one receive in eight is
//! compared and the others are only counted, since copying would make the generator the limit.
//!
//! Edge-triggered epoll for both directions, set once: nothing is polled twice and no interest changes.
//! A receive that fills less than its buffer has emptied the socket, and the next byte is a new edge.

use std::collections::VecDeque;
use std::io;

use serde_json::{Value, json};

use crate::options::Options;
use crate::pattern::Pattern;
use crate::sys::{self, EMPTY, Epoll, Socket};
use crate::window::{Phase, Window};

const MAX_RECEIVE: usize = 1 << 20;
/// From this frame size on, most receives only count.
const LONG: usize = 16 * 1024;
const COMPARED: u32 = 8;
/// A connection that says nothing for so long is stuck.
const STUCK: u64 = 5_000_000_000;

struct Connection {
    socket: Option<Socket>,
    /// Where in the pattern the next byte to send is, and the next to come back.
    send_at: usize,
    receive_at: usize,
    /// Bytes that should be on their way and that the kernel has not taken.
    unsent: usize,
    /// Bytes back of a message that is not whole yet.
    partial: usize,
    /// When messages left, and how many at that time.
    sent: VecDeque<(u64, u64)>,
    in_flight: u64,
    receives: u32,
    messages: u64,
}

struct Run<'a> {
    epoll: Epoll,
    pattern: Pattern,
    window: Window,
    options: &'a Options,
    buffer: Vec<u8>,
    longest_send: usize,
}

/// Run it.
pub fn run(options: &Options) -> io::Result<Value> {
    let prefix = if options.framed { 4 } else { 0 };
    let in_flight = options.depth * (options.size + prefix);
    let longest = in_flight.min(MAX_RECEIVE);
    let epoll = Epoll::new()?;
    let pattern = Pattern::new(options.size, options.framed, longest);
    let mut connections = open(options, &epoll, &pattern)?;
    let mut run = Run {
        epoll,
        pattern,
        window: Window::new(options),
        options,
        buffer: vec![0; longest],
        longest_send: longest,
    };
    run.drive(&mut connections)?;
    let mut report = run.window.report(options);
    let counts = || connections.iter().map(|connection| connection.messages);
    let mean = counts().sum::<u64>() as f64 / options.connections as f64;
    report["slowest_connection"] = json!(counts().min().unwrap_or(0) as f64 / mean.max(1.0));
    Ok(report)
}

/// Connect all of them, some at a time, so that no listen queue overflows.
fn open(options: &Options, epoll: &Epoll, pattern: &Pattern) -> io::Result<Vec<Connection>> {
    let sockets = crate::connect::open(options)?;
    let mut connections = Vec::with_capacity(sockets.len());
    for (index, socket) in sockets.into_iter().enumerate() {
        epoll.add(&socket, sys::READ | sys::WRITE | sys::EDGE, index)?;
        let start = pattern.start(index);
        connections.push(Connection {
            socket: Some(socket),
            send_at: start,
            receive_at: start,
            unsent: 0,
            partial: 0,
            sent: VecDeque::with_capacity(options.depth),
            in_flight: 0,
            receives: 0,
            messages: 0,
        });
    }
    Ok(connections)
}

impl Run<'_> {
    fn drive(&mut self, connections: &mut [Connection]) -> io::Result<()> {
        let mut events = vec![EMPTY; 512];
        let start = sys::now();
        for (index, connection) in connections.iter_mut().enumerate() {
            connection.queue(self.options.depth as u64, self.pattern.frame(), start);
            self.flush(connection, index)?;
        }
        let (mut last_reply, mut in_flight) = (start, true);
        let mut drain_until = u64::MAX;
        while in_flight {
            let ready = self.epoll.wait(&mut events, 100)?;
            let now = sys::now();
            if self.window.tick(now) == Phase::End && drain_until == u64::MAX {
                drain_until = now + 2_000_000_000;
            }
            let before = self.window.all_messages;
            for event in &events[..ready] {
                let (flags, index) = (event.events, event.u64 as usize);
                let connection = &mut connections[index];
                if flags & (sys::READ | sys::GONE) != 0 {
                    self.receive(connection, index)?;
                }
                if flags & sys::WRITE != 0 && connection.unsent > 0 {
                    self.flush(connection, index)?;
                }
            }
            if self.window.all_messages > before {
                last_reply = now;
            } else if now - last_reply > STUCK {
                return Err(io::Error::other("the server says nothing for 5 s"));
            }
            if drain_until < u64::MAX {
                in_flight = connections.iter().any(|connection| connection.in_flight > 0);
                if in_flight && now > drain_until {
                    let lost: u64 = connections.iter().map(|connection| connection.in_flight).sum();
                    self.window.error(|| {
                        format!("{lost} messages did not come back within 2 s of the end")
                    });
                    break;
                }
            } else if connections.iter().all(|connection| connection.socket.is_none()) {
                let text = self.window.first_error.take().unwrap_or_default();
                return Err(io::Error::other(format!(
                    "the server closed every connection: {text}"
                )));
            }
        }
        Ok(())
    }

    fn receive(&mut self, connection: &mut Connection, index: usize) -> io::Result<()> {
        while let Some(socket) = &connection.socket {
            let most = self.buffer.len();
            connection.receives = connection.receives.wrapping_add(1);
            let compared = self.pattern.frame() < LONG || connection.receives % COMPARED == 0;
            let received =
                if compared { socket.receive(&mut self.buffer) } else { socket.discard(most) };
            let got = match received {
                Ok(0) => return self.fail(connection, index, "closed by the server"),
                Ok(got) => got,
                Err(error) if sys::would_block(&error) => return Ok(()),
                Err(error) => return self.fail(connection, index, &error.to_string()),
            };
            if compared && self.buffer[..got] != *self.pattern.piece(connection.receive_at, got) {
                return self.fail(connection, index, "other bytes came back than were sent");
            }
            connection.receive_at = self.pattern.advance(connection.receive_at, got);
            connection.partial += got;
            let whole = (connection.partial / self.pattern.frame()) as u64;
            connection.partial %= self.pattern.frame();
            if whole > connection.in_flight {
                return self.fail(connection, index, "more came back than was sent");
            }
            let all_back = whole == connection.in_flight;
            if whole > 0 {
                let now = sys::now();
                self.take_times(connection, whole, now);
                connection.in_flight -= whole;
                if self.window.tick(now) != Phase::End {
                    connection.queue(whole, self.pattern.frame(), now);
                    self.flush(connection, index)?;
                }
            }
            if got < most || all_back {
                return Ok(());
            }
        }
        Ok(())
    }

    fn take_times(&mut self, connection: &mut Connection, mut whole: u64, now: u64) {
        connection.messages += whole;
        while whole > 0 {
            let Some((at, left)) = connection.sent.front_mut() else {
                return;
            };
            let taken = whole.min(*left);
            self.window.count(now - *at, taken);
            whole -= taken;
            *left -= taken;
            if *left == 0 {
                connection.sent.pop_front();
            }
        }
    }

    fn flush(&mut self, connection: &mut Connection, index: usize) -> io::Result<()> {
        let Some(socket) = &connection.socket else {
            return Ok(());
        };
        while connection.unsent > 0 {
            let length = connection.unsent.min(self.longest_send);
            match socket.send(self.pattern.piece(connection.send_at, length)) {
                Ok(sent) => {
                    connection.send_at = self.pattern.advance(connection.send_at, sent);
                    connection.unsent -= sent;
                    if sent < length {
                        break;
                    }
                }
                Err(error) if sys::would_block(&error) => break,
                Err(error) => return self.fail(connection, index, &error.to_string()),
            }
        }
        Ok(())
    }

    /// Give one connection up; the others go on.
    fn fail(&mut self, connection: &mut Connection, index: usize, text: &str) -> io::Result<()> {
        connection.socket = None;
        connection.in_flight = 0;
        self.window.error(|| format!("connection {index}: {text}"));
        Ok(())
    }
}

impl Connection {
    fn queue(&mut self, messages: u64, frame: usize, now: u64) {
        self.unsent += messages as usize * frame;
        self.in_flight += messages;
        self.sent.push_back((now, messages));
    }
}
