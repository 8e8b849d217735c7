//! Load for servers that answer each message with one of the same size: what `wireway bench` drives.
//!
//! ```text
//!   options  what is asked for            message  the bytes, and how they are told apart
//!   connect  making many connections      figures  what came of it
//!   run      one thread, one epoll
//! ```
//!
//! *Closed*: each connection keeps so many messages in flight; the next leaves when one came back. *Open*: messages leave
//! at a fixed rate whatever comes back, and a latency begins at the moment at which its message was *meant* to leave: a
//! server that stands still for a second is seen by every message of that second (coordinated omission, as Gil Tene calls
//! the mistake of not doing so).
//!
//! Knows no Python. No `unsafe`: sockets and poller are mio's.

#![forbid(unsafe_code)]

mod connect;
mod figures;
mod message;
mod options;
mod run;

pub use figures::Figures;
pub use message::Framing;
pub use options::Options;
pub use run::{Shared, run};
