//! Broadcasts: one connection speaks, and every other must hear it.
//!
//! The trigger sends messages; the server sends each of them to all the others. `depth` broadcasts are
//! under way at once: when one has reached its last receiver, the next message leaves. What arrives is
//! the trigger's own stream, so it is compared byte for byte.
//!
//! A message is one delivery. The times are spreads: from the first receipt of a broadcast to its last,
//! as seen here. Receivers are read one after the other, so a spread holds the generator's own work too.

use std::collections::VecDeque;
use std::io;

use serde_json::{Value, json};

use crate::options::Options;
use crate::pattern::Pattern;
use crate::sys::{self, EMPTY, Epoll, Socket};
use crate::window::{Phase, Window};

/// Nothing arrives for so long: stuck.
const STUCK: u64 = 5_000_000_000;

struct Receiver {
    socket: Socket,
    /// Where in the pattern its next byte is.
    at: usize,
    /// Bytes of a message that is not whole yet.
    partial: usize,
    /// Broadcasts that it has heard.
    heard: u64,
}

/// One broadcast under way.
struct Spread {
    first: u64,
    receivers: usize,
}

struct Run<'a> {
    options: &'a Options,
    pattern: Pattern,
    window: Window,
    trigger: Socket,
    /// Where in the pattern the trigger's next message is.
    trigger_at: usize,
    /// The broadcasts under way, the oldest first.
    under_way: VecDeque<Spread>,
    /// Broadcasts that reached everybody.
    done: u64,
    buffer: Vec<u8>,
}

/// Run it: `connections` that receive, and one more that speaks.
pub fn run(options: &Options) -> io::Result<Value> {
    let frame = options.size + 4;
    let longest = frame * options.depth;
    let mut sockets = Vec::with_capacity(options.connections + 1);
    crate::connect::open_more(options, &mut sockets, options.connections + 1)?;
    let trigger = sockets.remove(options.connections);
    let epoll = Epoll::new()?;
    epoll.add(&trigger, sys::READ | sys::EDGE, sockets.len())?;
    let mut receivers = Vec::with_capacity(sockets.len());
    for (index, socket) in sockets.into_iter().enumerate() {
        socket.reset_on_close()?;
        epoll.add(&socket, sys::READ | sys::EDGE, index)?;
        receivers.push(Receiver { socket, at: 0, partial: 0, heard: 0 });
    }
    let mut run = Run {
        options,
        pattern: Pattern::new(options.size, true, longest),
        window: Window::new(options),
        trigger,
        trigger_at: 0,
        under_way: VecDeque::with_capacity(options.depth),
        done: 0,
        buffer: vec![0; longest],
    };
    run.drive(&epoll, &mut receivers)?;
    let mut report = run.window.report(options);
    report["broadcasts"] = json!(run.done);
    Ok(report)
}

impl Run<'_> {
    fn drive(&mut self, epoll: &Epoll, receivers: &mut [Receiver]) -> io::Result<()> {
        let mut events = vec![EMPTY; 1024];
        let mut last_receipt = sys::now();
        self.speak(self.options.depth)?;
        loop {
            let ready = epoll.wait(&mut events, 100)?;
            let now = sys::now();
            if self.window.tick(now) == Phase::End {
                return Ok(());
            }
            let before = (self.window.all_messages, self.done);
            for event in &events[..ready] {
                match receivers.get_mut(event.u64 as usize) {
                    Some(receiver) => self.receive(receiver)?,
                    None => return Err(io::Error::other("the server answered the one who spoke")),
                }
            }
            if self.window.all_messages > before.0 {
                last_receipt = now;
            } else if now - last_receipt > STUCK {
                return Err(io::Error::other("a broadcast did not reach everybody within 5 s"));
            }
            self.speak((self.done - before.1) as usize)?;
        }
    }

    /// Begin so many broadcasts.
    fn speak(&mut self, messages: usize) -> io::Result<()> {
        let length = messages * self.pattern.frame();
        if length == 0 {
            return Ok(());
        }
        if self.trigger.send(self.pattern.piece(self.trigger_at, length))? < length {
            return Err(io::Error::other("the messages do not fit the socket's buffer"));
        }
        self.trigger_at = self.pattern.advance(self.trigger_at, length);
        self.under_way.extend((0..messages).map(|_| Spread { first: 0, receivers: 0 }));
        Ok(())
    }

    fn receive(&mut self, receiver: &mut Receiver) -> io::Result<()> {
        // No more than `depth` messages can be on their way: one call empties the socket.
        let got = match receiver.socket.receive(&mut self.buffer) {
            Ok(0) => return Err(io::Error::other("the server closed a connection")),
            Err(error) if sys::would_block(&error) => return Ok(()),
            other => other?,
        };
        if self.buffer[..got] != *self.pattern.piece(receiver.at, got) {
            return Err(io::Error::other("other bytes came than were sent"));
        }
        receiver.at = self.pattern.advance(receiver.at, got);
        receiver.partial += got;
        let whole = receiver.partial / self.pattern.frame();
        receiver.partial %= self.pattern.frame();
        let now = sys::now();
        for _ in 0..whole {
            let place = (receiver.heard - self.done) as usize;
            let Some(spread) = self.under_way.get_mut(place) else {
                return Err(io::Error::other("more came than was sent"));
            };
            receiver.heard += 1;
            if spread.receivers == 0 {
                spread.first = now;
            }
            spread.receivers += 1;
            if spread.receivers == self.options.connections {
                self.window.time(now - spread.first);
                self.under_way.pop_front();
                self.done += 1;
            }
        }
        self.window.arrived(whole as u64);
        Ok(())
    }
}
