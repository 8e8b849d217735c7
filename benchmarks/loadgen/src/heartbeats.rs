//! Connections that say nothing but the answer to a heartbeat.
//!
//! They open evenly over one interval, as connections that came over a day are spread, and each sends
//! one message and has its echo. From then on the server sends `ping` every so often, and `pong` goes
//! back. The window begins when all are open: what the server uses in it is the price of heartbeats.
//!
//! A message is one ping. The times are the intervals between two pings of a connection. A connection
//! that had none in the window is an error.

use std::io;

use serde_json::Value;

use crate::options::Options;
use crate::pattern::Pattern;
use crate::sys::{self, EMPTY, Epoll, Socket};
use crate::window::{Phase, Window};

const PING: &[u8] = b"\0\0\0\x04ping";
const PONG: &[u8] = b"\0\0\0\x04pong";

struct Connection {
    /// Bytes of the echo of its first message that came.
    greeted: usize,
    /// Bytes of a ping that is not whole yet.
    partial: usize,
    /// When the last ping came, and how many in the window.
    pinged: u64,
    pings: u64,
}

struct Run<'a> {
    options: &'a Options,
    pattern: Pattern,
    window: Window,
    sockets: Vec<Socket>,
    connections: Vec<Connection>,
    buffer: Vec<u8>,
}

/// Run it. `warmup` must be longer than `every`, the time that opening takes.
pub fn run(options: &Options) -> io::Result<Value> {
    let frame = options.size + 4;
    let mut run = Run {
        options,
        pattern: Pattern::new(options.size, true, frame),
        window: Window::new(options),
        sockets: Vec::with_capacity(options.connections),
        connections: Vec::with_capacity(options.connections),
        buffer: vec![0; frame.max(512)],
    };
    run.drive()?;
    let silent = run.connections.iter().filter(|connection| connection.pings == 0).count();
    if silent > 0 {
        run.window.error(|| format!("{silent} connections had no ping in the window"));
    }
    for socket in &run.sockets {
        socket.reset_on_close()?;
    }
    Ok(run.window.report(options))
}

impl Run<'_> {
    fn drive(&mut self) -> io::Result<()> {
        let epoll = Epoll::new()?;
        let mut events = vec![EMPTY; 512];
        let (start, every) = (sys::now(), self.options.every.as_nanos() as u64);
        let wanted = self.options.connections;
        loop {
            let now = sys::now();
            if self.sockets.len() < wanted {
                let due = (now - start) as u128 * wanted as u128 / every as u128;
                self.open(&epoll, wanted.min(due as usize))?;
            }
            let phase = self.window.tick(now);
            if phase == Phase::End {
                return Ok(());
            }
            if phase == Phase::Window && self.sockets.len() < wanted {
                return Err(io::Error::other("opening took longer than the warm-up"));
            }
            let patience = if self.sockets.len() < wanted { 5 } else { 100 };
            let ready = epoll.wait(&mut events, patience)?;
            for event in &events[..ready] {
                self.receive(event.u64 as usize, phase == Phase::Window)?;
            }
        }
    }

    /// Open connections until there are `due`, and let them say their message.
    fn open(&mut self, epoll: &Epoll, due: usize) -> io::Result<()> {
        let first = self.sockets.len();
        if due <= first {
            return Ok(());
        }
        crate::connect::open_more(self.options, &mut self.sockets, due)?;
        for index in first..due {
            let socket = &self.sockets[index];
            epoll.add(socket, sys::READ, index)?;
            if socket.send(self.pattern.piece(0, self.pattern.frame()))? < self.pattern.frame() {
                return Err(io::Error::other(
                    "the first message does not fit; use a smaller --size",
                ));
            }
            self.connections.push(Connection { greeted: 0, partial: 0, pinged: 0, pings: 0 });
        }
        Ok(())
    }

    fn receive(&mut self, index: usize, counts: bool) -> io::Result<()> {
        let (socket, connection) = (&self.sockets[index], &mut self.connections[index]);
        let got = match socket.receive(&mut self.buffer) {
            Ok(0) => return Err(io::Error::other("the server closed a connection")),
            Err(error) if sys::would_block(&error) => return Ok(()),
            other => other?,
        };
        let greeting = got.min(self.pattern.frame() - connection.greeted);
        let (echo, pings) = self.buffer[..got].split_at(greeting);
        if *echo != *self.pattern.piece(connection.greeted, greeting) {
            let text = format!("connection {index}: other bytes came back than were sent");
            return Err(io::Error::other(text));
        }
        connection.greeted += greeting;
        for byte in pings {
            if *byte != PING[connection.partial] {
                return Err(io::Error::other("something came that is no ping"));
            }
            connection.partial = (connection.partial + 1) % PING.len();
            if connection.partial > 0 {
                continue;
            }
            let now = sys::now();
            if connection.pinged > 0 {
                self.window.time(now - connection.pinged);
            }
            connection.pinged = now;
            connection.pings += u64::from(counts);
            self.window.arrived(1);
            if socket.send(PONG)? < PONG.len() {
                return Err(io::Error::other("a pong does not fit the socket's buffer"));
            }
        }
        Ok(())
    }
}
