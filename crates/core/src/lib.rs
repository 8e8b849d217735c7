//! Asynchronous TCP on Linux, without Python.
//!
//! ```text
//!   reactor   one turn of the loop          frame    bytes to frames, sans I/O
//!   conn      one connection                timer    what is due when
//!   driver    five ways to do I/O           buffer   memory that waits to be sent
//!   op        their vocabulary              sys      every system call
//!   limit     how fast, how many, from where
//!   proxy     who is behind a proxy         outbox   messages that may be lost
//!   tls       records to plaintext and back, sans I/O    tap   what is seen of a connection, bounded
//!   http      requests of HTTP/1.1, sans I/O
//! ```
//!
//! Dependencies point down this picture only.

pub mod buffer;
pub mod conn;
pub mod driver;
pub mod frame;
pub mod http;
pub mod limit;
pub mod op;
pub mod outbox;
pub mod proxy;
pub mod reactor;
pub mod sys;
pub mod tap;
pub mod timer;
pub mod tls;
