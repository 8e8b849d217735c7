//! Load for servers that answer each message with one: what `wireway bench` drives.
//!
//! ```text
//!   options   what is asked for             message   the bytes that leave, over and over
//!   wire      sockets, TLS above them       answers   what came: whole answers, and what is wrong with them
//!   connect   making many connections       http      answers of HTTP/1.1
//!   schedule  when messages are due         figures   what came of it
//!   run       one thread, one epoll         traffic   its messages
//!   threads   several of them, and their figures together
//! ```
//!
//! *Closed*: each connection keeps so many messages in flight; the next leaves when one came back. *Open*: messages leave
//! at a fixed rate whatever comes back, and a latency begins at the moment at which its message was *meant* to leave: a
//! server that stands still for a second is seen by every message of that second (coordinated omission, as Gil Tene calls
//! the mistake of not doing so).
//!
//! Knows no Python. No `unsafe`: sockets and poller are mio's, framings and TLS the core's.

#![forbid(unsafe_code)]

mod answers;
mod conn;
mod connect;
mod figures;
mod http;
mod message;
mod options;
mod run;
mod schedule;
mod threads;
mod traffic;
mod wire;

pub use figures::{Figures, SLOT};
pub use hdrhistogram::Histogram;
pub use message::Message;
pub use options::{Address, Answers, Options, Shared};
pub use threads::run;
