//! Requests of HTTP/1.1: each connection keeps `depth` of them in flight, on a connection that stays.
//!
//! The first answer of each connection is read as HTTP: its head, its Content-Length. Those after it must have the same
//! length and begin alike, so that they are counted and not parsed: the generator must not be the limit. A server whose
//! answers differ in length (of a header that grows, say) can not be measured so, and the run says it.

use std::collections::VecDeque;
use std::io;

use serde_json::Value;

use crate::options::Options;
use crate::sys::{self, EMPTY, Epoll, Socket};
use crate::window::{Phase, Window};

const BUFFER: usize = 256 * 1024;
const STUCK: u64 = 5_000_000_000;
const BEGIN: &[u8] = b"HTTP/1.1 200";

struct Connection {
    socket: Option<Socket>,
    /// Bytes of requests that the kernel has not taken yet.
    unsent: usize,
    /// Bytes of answers that were counted.
    received: usize,
    /// The first answer, until it is whole.
    first: Vec<u8>,
    sent: VecDeque<(u64, u64)>,
    in_flight: u64,
}

struct Run<'a> {
    epoll: Epoll,
    window: Window,
    options: &'a Options,
    /// Requests, one after the other.
    requests: Vec<u8>,
    request: usize,
    /// Bytes of an answer, once one is known.
    answer: Option<usize>,
    buffer: Vec<u8>,
}

/// Run it.
pub fn run(options: &Options) -> io::Result<Value> {
    let one = format!(
        "GET {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: wireway-loadgen\r\nAccept: */*\r\n\r\n",
        options.path, options.address
    );
    let epoll = Epoll::new()?;
    let mut connections = Vec::with_capacity(options.connections);
    for (index, socket) in crate::connect::open(options)?.into_iter().enumerate() {
        epoll.add(&socket, sys::READ | sys::WRITE | sys::EDGE, index)?;
        connections.push(Connection {
            socket: Some(socket),
            unsent: 0,
            received: 0,
            first: Vec::new(),
            sent: VecDeque::with_capacity(options.depth),
            in_flight: 0,
        });
    }
    let mut run = Run {
        epoll,
        window: Window::new(options),
        options,
        requests: one.as_bytes().repeat(options.depth + 1),
        request: one.len(),
        answer: None,
        buffer: vec![0; BUFFER],
    };
    run.drive(&mut connections)?;
    Ok(run.window.report(options))
}

impl Run<'_> {
    fn drive(&mut self, connections: &mut [Connection]) -> io::Result<()> {
        let mut events = vec![EMPTY; 512];
        let start = sys::now();
        for connection in connections.iter_mut() {
            // One by itself first: its answer is parsed.
            self.ask(connection, 1, start);
        }
        let mut last_reply = start;
        let mut drain_until = u64::MAX;
        loop {
            let ready = self.epoll.wait(&mut events, 100)?;
            let now = sys::now();
            if self.window.tick(now) == Phase::End && drain_until == u64::MAX {
                drain_until = now + 2_000_000_000;
            }
            let before = self.window.all_messages;
            for event in &events[..ready] {
                let connection = &mut connections[event.u64 as usize];
                if event.events & (sys::READ | sys::GONE) != 0 {
                    self.receive(connection);
                }
                if event.events & sys::WRITE != 0 && connection.unsent > 0 {
                    self.flush(connection);
                }
            }
            if self.window.all_messages > before {
                last_reply = now;
            } else if now - last_reply > STUCK {
                return Err(io::Error::other("the server says nothing for 5 s"));
            }
            if connections.iter().all(|connection| connection.socket.is_none()) {
                let text = self.window.first_error.take().unwrap_or_default();
                return Err(io::Error::other(format!(
                    "the server closed every connection: {text}"
                )));
            }
            if drain_until < u64::MAX {
                if connections.iter().all(|connection| connection.in_flight == 0) {
                    return Ok(());
                }
                if now > drain_until {
                    self.window.error(|| "answers did not come within 2 s of the end".to_owned());
                    return Ok(());
                }
            }
        }
    }

    fn ask(&mut self, connection: &mut Connection, requests: u64, now: u64) {
        connection.unsent += requests as usize * self.request;
        connection.in_flight += requests;
        connection.sent.push_back((now, requests));
        self.flush(connection);
    }

    fn flush(&mut self, connection: &mut Connection) {
        while let (Some(socket), true) = (&connection.socket, connection.unsent > 0) {
            // The stream is one request over and over: where it goes on follows from what is still to be sent.
            let from = (self.request - connection.unsent % self.request) % self.request;
            let length = connection.unsent.min(self.requests.len() - from);
            match socket.send(&self.requests[from..from + length]) {
                Ok(sent) => connection.unsent -= sent,
                Err(error) if sys::would_block(&error) => return,
                Err(error) => return self.fail(connection, &error.to_string()),
            }
        }
    }

    fn receive(&mut self, connection: &mut Connection) {
        while let Some(socket) = &connection.socket {
            let got = match socket.receive(&mut self.buffer) {
                Ok(0) => return self.fail(connection, "closed by the server"),
                Ok(got) => got,
                Err(error) if sys::would_block(&error) => return,
                Err(error) => return self.fail(connection, &error.to_string()),
            };
            match self.count(connection, got) {
                Ok(0) => {}
                Ok(whole) => {
                    let now = sys::now();
                    self.take_times(connection, whole, now);
                    if self.window.tick(now) != Phase::End {
                        let wanted = self.options.depth as u64 - connection.in_flight;
                        self.ask(connection, wanted, now);
                    }
                }
                Err(text) => return self.fail(connection, &text),
            }
            if got < BUFFER {
                return;
            }
        }
    }

    /// Counts whole answers in what came.
    fn count(&mut self, connection: &mut Connection, got: usize) -> Result<u64, String> {
        let data = &self.buffer[..got];
        let Some(answer) = self.answer else {
            connection.first.extend_from_slice(data);
            let Some(length) = length_of(&connection.first)? else { return Ok(0) };
            if connection.first.len() < length {
                return Ok(0);
            }
            if connection.first.len() > length {
                return Err("more came than was asked for".to_owned());
            }
            self.answer = Some(length);
            connection.first = Vec::new();
            return Ok(1);
        };
        let had = connection.first.len() + connection.received;
        connection.first = Vec::new();
        connection.received = had + got;
        // Where an answer begins in what came, it must begin like one.
        let begins = (answer - had % answer) % answer;
        if begins < got && !data[begins..].starts_with(&BEGIN[..BEGIN.len().min(got - begins)]) {
            return Err("an answer is no 200, or has another length than the first".to_owned());
        }
        let whole = connection.received / answer;
        connection.received %= answer;
        if whole as u64 > connection.in_flight {
            return Err("more came than was asked for".to_owned());
        }
        Ok(whole as u64)
    }

    fn take_times(&mut self, connection: &mut Connection, mut whole: u64, now: u64) {
        connection.in_flight -= whole;
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

    fn fail(&mut self, connection: &mut Connection, text: &str) {
        connection.socket = None;
        connection.in_flight = 0;
        self.window.error(|| text.to_owned());
    }
}

/// Bytes of the answer at the front, head and body; `None`: the head is not whole.
fn length_of(data: &[u8]) -> Result<Option<usize>, String> {
    let Some(end) = data.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(None) };
    let head = String::from_utf8_lossy(&data[..end]).to_ascii_lowercase();
    if !data.starts_with(BEGIN) {
        return Err(head.lines().next().unwrap_or_default().to_owned());
    }
    let length =
        head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
    length.map_or_else(
        || Err("the answer has no Content-Length".to_owned()),
        |body: usize| Ok(Some(end + 4 + body)),
    )
}

#[cfg(test)]
mod tests {
    use super::length_of;

    #[test]
    fn the_length_of_an_answer() {
        let answer = b"HTTP/1.1 200 OK\r\nServer: x\r\nContent-Length: 5\r\n\r\nhello";
        assert_eq!(length_of(answer), Ok(Some(answer.len())));
        assert_eq!(length_of(&answer[..20]), Ok(None));
        assert!(length_of(b"HTTP/1.1 500 Oops\r\n\r\n").is_err());
        assert!(length_of(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
    }
}
