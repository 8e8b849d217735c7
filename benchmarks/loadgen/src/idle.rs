//! Connections that have said one thing and then wait, for measuring what they cost in memory.
//!
//! They come a few at a time and each few have their reply before the next come: memory should be that
//! of waiting, not that of a burst.
//!
//! Prints a line once all have their reply, and holds them until standard input ends.

use std::io::{self, Read, Write};

use serde_json::{Value, json};

use crate::options::Options;
use crate::pattern::Pattern;
use crate::sys::{self, EMPTY, Epoll};

/// Connections that come and talk at once.
const AT_ONCE: usize = 32;

/// Run it.
pub fn run(options: &Options) -> io::Result<Value> {
    let frame = options.size + if options.framed { 4 } else { 0 };
    let pattern = Pattern::new(options.size, options.framed, frame);
    let mut sockets = Vec::with_capacity(options.connections);
    let mut got = vec![0usize; options.connections];
    let mut buffer = vec![0; frame];
    let mut events = vec![EMPTY; AT_ONCE];
    while sockets.len() < options.connections {
        let (epoll, first) = (Epoll::new()?, sockets.len());
        crate::connect::open_more(options, &mut sockets, options.connections.min(first + AT_ONCE))?;
        for (index, socket) in sockets.iter().enumerate().skip(first) {
            epoll.add(socket, sys::READ, index)?;
            if socket.send(pattern.piece(pattern.start(index), frame))? < frame {
                return Err(io::Error::other(
                    "the first message does not fit the socket's buffer; use a smaller --size",
                ));
            }
        }
        let mut waiting = sockets.len() - first;
        while waiting > 0 {
            let ready = epoll.wait(&mut events, 5000)?;
            if ready == 0 {
                return Err(io::Error::other(format!(
                    "{waiting} connections have no reply within 5 s"
                )));
            }
            for event in &events[..ready] {
                let index = event.u64 as usize;
                let received = match sockets[index].receive(&mut buffer[..frame - got[index]]) {
                    Ok(0) => return Err(io::Error::other("the server closed a connection")),
                    Err(error) if sys::would_block(&error) => continue,
                    other => other?,
                };
                let expected = pattern.advance(pattern.start(index), got[index]);
                if buffer[..received] != *pattern.piece(expected, received) {
                    return Err(io::Error::other("other bytes came back than were sent"));
                }
                got[index] += received;
                if got[index] == frame {
                    epoll.change(&sockets[index], 0, index)?;
                    waiting -= 1;
                }
            }
        }
    }
    println!("{}", json!({"holding": sockets.len()}));
    io::stdout().flush()?;
    io::stdin().read_to_end(&mut Vec::new())?;
    Ok(json!({"workload": options.name, "connections": sockets.len(), "errors": 0}))
}
