//! TLS: framed echo in a sliding window, and full handshakes over and over.
//!
//! The client's side is the core's own session (rustls). Certificates are not checked, which saves the generator one
//! verification for each handshake, and no session is resumed: each connection asks for a name of its own. What comes
//! back is compared byte for byte, as in `echo`.

use std::collections::VecDeque;
use std::io;

use serde_json::Value;
use wireway_core::tls::{ClientTls, ClientTlsOptions, Session};

use crate::connect::source;
use crate::options::{Options, Workload};
use crate::pattern::Pattern;
use crate::sys::{self, EMPTY, Epoll, Socket};
use crate::window::{Phase, Window};

const BUFFER: usize = 128 * 1024;
/// A server that says nothing for so long is stuck.
const STUCK: u64 = 5_000_000_000;
/// Source addresses of short connections, so that ports do not run out.
const SOURCES: usize = 250;

struct Connection {
    socket: Socket,
    session: Session,
    /// Records that the kernel has not taken, from `taken` on.
    records: Vec<u8>,
    taken: usize,
    /// Where in the pattern the next byte to send is, and the next to come back.
    send_at: usize,
    receive_at: usize,
    /// Bytes back of a message that is not whole yet.
    partial: usize,
    /// When messages left, and how many at that time.
    sent: VecDeque<(u64, u64)>,
    in_flight: u64,
    began: u64,
    shaken: bool,
}

struct Run<'a> {
    epoll: Epoll,
    pattern: Pattern,
    window: Window,
    options: &'a Options,
    tls: ClientTls,
    buffer: Vec<u8>,
    opened: usize,
}

/// Run it.
pub fn run(options: &Options) -> io::Result<Value> {
    let longest = options.depth * (options.size + 4);
    let options_of_tls = ClientTlsOptions { verify: false, ..ClientTlsOptions::default() };
    let mut run = Run {
        epoll: Epoll::new()?,
        pattern: Pattern::new(options.size, true, longest),
        window: Window::new(options),
        options,
        tls: ClientTls::new(&options_of_tls).map_err(io::Error::other)?,
        buffer: vec![0; BUFFER],
        opened: 0,
    };
    let mut connections = Vec::with_capacity(options.connections);
    for index in 0..options.connections {
        connections.push(Some(run.begin(index)?));
    }
    run.drive(&mut connections)?;
    Ok(run.window.report(options))
}

impl Run<'_> {
    fn begin(&mut self, index: usize) -> io::Result<Connection> {
        let from =
            (self.options.workload == Workload::Handshakes).then(|| source(self.opened, SOURCES));
        let socket = Socket::connect(self.options.address, from)?;
        let name = format!("c{}.wireway.test", self.opened);
        let session = Session::client(&self.tls, &name).map_err(io::Error::other)?;
        let start = self.pattern.start(self.opened);
        self.opened += 1;
        self.epoll.add(&socket, sys::READ | sys::WRITE | sys::EDGE, index)?;
        Ok(Connection {
            socket,
            session,
            records: Vec::new(),
            taken: 0,
            send_at: start,
            receive_at: start,
            partial: 0,
            sent: VecDeque::new(),
            in_flight: 0,
            began: sys::now(),
            shaken: false,
        })
    }

    fn drive(&mut self, connections: &mut [Option<Connection>]) -> io::Result<()> {
        let mut events = vec![EMPTY; 512];
        let mut last_reply = sys::now();
        let mut drain_until = u64::MAX;
        loop {
            let ready = self.epoll.wait(&mut events, 100)?;
            let now = sys::now();
            let ending = self.window.tick(now) == Phase::End;
            if ending && drain_until == u64::MAX {
                drain_until = now + 2_000_000_000;
            }
            let before = self.window.all_messages;
            for event in &events[..ready] {
                let index = event.u64 as usize;
                let Some(connection) = &mut connections[index] else { continue };
                let over = match self.step(connection, event.events, ending) {
                    Ok(over) => over,
                    Err(error) => {
                        self.window.error(|| format!("connection {index}: {error}"));
                        true
                    }
                };
                if over {
                    connections[index] = None;
                    if !ending && self.options.workload == Workload::Handshakes {
                        connections[index] = Some(self.begin(index)?);
                    }
                }
            }
            if self.window.all_messages > before {
                last_reply = now;
            } else if now - last_reply > STUCK {
                let error = self.window.first_error.clone().unwrap_or_default();
                return Err(io::Error::other(format!("the server says nothing for 5 s. {error}")));
            }
            let under_way =
                connections.iter().flatten().any(|one| one.in_flight > 0 || !one.shaken);
            if connections.iter().all(Option::is_none) && !ending {
                let error = self.window.first_error.clone().unwrap_or_default();
                return Err(io::Error::other(format!("every connection ended: {error}")));
            }
            if ending && (!under_way || now > drain_until) {
                if under_way && self.options.workload == Workload::Tls {
                    self.window.error(|| "messages did not come back within 2 s of the end".into());
                }
                return Ok(());
            }
        }
    }

    /// Goes on with one connection; whether it is over, as it should be.
    fn step(&mut self, connection: &mut Connection, flags: u32, ending: bool) -> io::Result<bool> {
        let mut over = false;
        if flags & (sys::READ | sys::GONE) != 0 {
            over = self.receive(connection, ending)?;
        }
        connection.flush()?;
        Ok(over)
    }

    fn receive(&mut self, connection: &mut Connection, ending: bool) -> io::Result<bool> {
        loop {
            let got = match connection.socket.receive(&mut self.buffer) {
                Ok(0) => return Err(io::Error::other("closed by the server")),
                Ok(got) => got,
                Err(error) if sys::would_block(&error) => return Ok(false),
                Err(error) => return Err(error),
            };
            let (pattern, mut at, mut bytes, mut same) =
                (&self.pattern, connection.receive_at, 0, true);
            let opened = connection.session.receive(&self.buffer[..got], &mut |mut plain| {
                bytes += plain.len();
                while !plain.is_empty() {
                    let length = plain.len().min(pattern.frame());
                    same &= plain[..length] == *pattern.piece(at, length);
                    at = pattern.advance(at, length);
                    plain = &plain[length..];
                }
            });
            opened.map_err(io::Error::other)?;
            if !same {
                return Err(io::Error::other("other bytes came back than were sent"));
            }
            connection.receive_at = at;
            connection.partial += bytes;
            let now = sys::now();
            if !connection.shaken && !connection.session.is_handshaking() {
                connection.shaken = true;
                let depth =
                    if self.options.workload == Workload::Tls { self.options.depth } else { 1 };
                connection.send(pattern, depth as u64, now);
            }
            let whole = (connection.partial / self.pattern.frame()) as u64;
            connection.partial %= self.pattern.frame();
            if whole > connection.in_flight {
                return Err(io::Error::other("more came back than was sent"));
            }
            connection.in_flight -= whole;
            if whole > 0 && self.options.workload == Workload::Handshakes {
                self.window.count(now - connection.began, 1);
                connection.session.close();
                connection.flush()?;
                return Ok(true);
            }
            self.take_times(connection, whole, now);
            if whole > 0 && !ending {
                connection.send(&self.pattern, whole, now);
            }
            if got < BUFFER {
                return Ok(false);
            }
        }
    }

    fn take_times(&mut self, connection: &mut Connection, mut whole: u64, now: u64) {
        while whole > 0 {
            let Some((at, left)) = connection.sent.front_mut() else { return };
            let taken = whole.min(*left);
            self.window.count(now - *at, taken);
            whole -= taken;
            *left -= taken;
            if *left == 0 {
                connection.sent.pop_front();
            }
        }
    }
}

impl Connection {
    fn send(&mut self, pattern: &Pattern, messages: u64, now: u64) {
        let length = messages as usize * pattern.frame();
        self.session.send_into(pattern.piece(self.send_at, length), &mut self.records);
        self.send_at = pattern.advance(self.send_at, length);
        self.in_flight += messages;
        self.sent.push_back((now, messages));
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.session.wants_write() {
            self.session.outgoing(&mut self.records);
        }
        while self.taken < self.records.len() {
            match self.socket.send(&self.records[self.taken..]) {
                Ok(sent) => self.taken += sent,
                Err(error) if sys::would_block(&error) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::NotConnected => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        self.records.clear();
        self.taken = 0;
        Ok(())
    }
}
