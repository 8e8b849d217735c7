//! Short connections: connect, one message, its reply, close, and again.
//!
//! `connections` of them are under way at once. The client closes first, with FIN, as clients do, so
//! the waiting (TIME_WAIT) is on its side; its connections come from 250 loopback addresses, so that
//! no port is needed twice within a run.

use std::io;

use serde_json::Value;

use crate::connect::source;
use crate::options::Options;
use crate::pattern::Pattern;
use crate::sys::{self, EMPTY, Epoll, Socket};
use crate::window::{Phase, Window};

const SOURCES: usize = 250;

enum State {
    Connecting,
    Receiving { got: usize },
}

struct Attempt {
    socket: Socket,
    state: State,
    began: u64,
    start: usize,
}

struct Run<'a> {
    epoll: Epoll,
    pattern: Pattern,
    window: Window,
    options: &'a Options,
    buffer: Vec<u8>,
    opened: usize,
}

/// Run it. A message is one whole life of a connection.
pub fn run(options: &Options) -> io::Result<Value> {
    let frame = options.size + if options.framed { 4 } else { 0 };
    let mut run = Run {
        epoll: Epoll::new()?,
        pattern: Pattern::new(options.size, options.framed, frame),
        window: Window::new(options),
        options,
        buffer: vec![0; frame],
        opened: 0,
    };
    let mut attempts = Vec::with_capacity(options.connections);
    for index in 0..options.connections {
        attempts.push(Some(run.begin(index)?));
    }
    run.drive(&mut attempts)?;
    Ok(run.window.report(options))
}

impl Run<'_> {
    fn begin(&mut self, index: usize) -> io::Result<Attempt> {
        let start = self.pattern.start(self.opened);
        let socket = Socket::connect(self.options.address, Some(source(self.opened, SOURCES)))?;
        self.opened += 1;
        self.epoll.add(&socket, sys::WRITE, index)?;
        Ok(Attempt { socket, state: State::Connecting, began: sys::now(), start })
    }

    fn drive(&mut self, attempts: &mut [Option<Attempt>]) -> io::Result<()> {
        let mut events = vec![EMPTY; 512];
        let mut last_reply = sys::now();
        loop {
            let ready = self.epoll.wait(&mut events, 100)?;
            let now = sys::now();
            let ending = self.window.tick(now) == Phase::End;
            let before = self.window.all_messages;
            for event in &events[..ready] {
                let index = event.u64 as usize;
                let Some(attempt) = &mut attempts[index] else {
                    continue;
                };
                let done = match step(attempt, &self.epoll, &self.pattern, &mut self.buffer, index)
                {
                    Ok(false) => continue,
                    Ok(true) => Ok(()),
                    Err(error) => Err(error),
                };
                match done {
                    Ok(()) => self.window.count(sys::now() - attempt.began, 1),
                    Err(error) => self.window.error(|| error.to_string()),
                }
                if self.options.reset {
                    attempt.socket.reset_on_close()?;
                }
                attempts[index] = None;
                if !ending {
                    attempts[index] = Some(self.begin(index)?);
                }
            }
            if self.window.all_messages > before {
                last_reply = now;
            } else if now - last_reply > 5_000_000_000 {
                let error = self.window.first_error.clone().unwrap_or_default();
                return Err(io::Error::other(format!(
                    "no connection came to its end for 5 s. {error}"
                )));
            }
            if ending && attempts.iter().all(Option::is_none) {
                return Ok(());
            }
        }
    }
}

/// Go on with one connection; whether it has its reply.
fn step(
    attempt: &mut Attempt,
    epoll: &Epoll,
    pattern: &Pattern,
    buffer: &mut [u8],
    index: usize,
) -> io::Result<bool> {
    let frame = pattern.frame();
    match &mut attempt.state {
        State::Connecting => {
            // A failed connect fails the send as well, with its own error.
            if attempt.socket.send(pattern.piece(attempt.start, frame))? < frame {
                return Err(io::Error::other(
                    "the message does not fit the socket's buffer; use a smaller --size",
                ));
            }
            epoll.change(&attempt.socket, sys::READ, index)?;
            attempt.state = State::Receiving { got: 0 };
            Ok(false)
        }
        State::Receiving { got } => {
            let received = match attempt.socket.receive(&mut buffer[..frame - *got]) {
                Ok(0) => {
                    return Err(io::Error::other("the server closed before its reply was whole"));
                }
                Err(error) if sys::would_block(&error) => return Ok(false),
                other => other?,
            };
            if buffer[..received] != *pattern.piece(pattern.advance(attempt.start, *got), received)
            {
                return Err(io::Error::other("other bytes came back than were sent"));
            }
            *got += received;
            Ok(*got == frame)
        }
    }
}
