//! What is asked for, and what another thread sees of it meanwhile.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Duration;

use wireway_core::frame::Framing;
use wireway_core::tls::ClientTls;

use crate::message::Message;

/// Where the server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// An address and a port.
    Tcp(SocketAddr),
    /// A socket file.
    Unix(PathBuf),
}

/// What must come back.
#[derive(Debug, Clone)]
pub enum Answers {
    /// What was sent, byte for byte.
    Same,
    /// As many bytes as were sent.
    Bytes,
    /// A frame for each message.
    Frames {
        /// How they are told apart.
        framing: Framing,
        /// Bytes that the message in each must have; `None`: any.
        size: Option<usize>,
    },
    /// A response of HTTP/1.1 for each request.
    Http {
        /// The requests are HEAD: responses have no body, whatever their heads say.
        head: bool,
    },
}

/// One run.
#[derive(Clone)]
pub struct Options {
    /// The server's addresses: the first at which a connection can be made is taken. At least one.
    pub addresses: Vec<Address>,
    /// TLS, and the name that the certificate must be for.
    pub tls: Option<(ClientTls, String)>,
    /// Addresses of this machine that the connections come from, in turn; empty: the kernel chooses.
    pub sources: Vec<IpAddr>,
    /// Threads that share the connections.
    pub threads: usize,
    /// Connections open at once.
    pub connections: usize,
    /// Connections made a second; `None`: as fast as it goes, 128 under way at once.
    pub connect_rate: Option<f64>,
    /// How long a connection may take to be made, TLS included.
    pub connect_timeout: Duration,
    /// Closed: messages in flight on each connection.
    pub in_flight: usize,
    /// Open: messages a second over all connections; `None`: closed.
    pub rate: Option<f64>,
    /// What is sent.
    pub message: Message,
    /// What must come back.
    pub answers: Answers,
    /// How long is measured; `None`: until `count`.
    pub duration: Option<Duration>,
    /// Messages that are measured at most.
    pub count: Option<u64>,
    /// What comes before, and is not measured.
    pub warm_up: Duration,
    /// A connection on which nothing came for so long, while answers were due, is given up.
    pub timeout: Duration,
}

/// What another thread sees of a run, and how it ends it.
#[derive(Debug, Default)]
pub struct Shared {
    /// Connections that are made.
    pub connected: AtomicU64,
    /// Messages that came back, since the start.
    pub messages: AtomicU64,
    /// The run shall end.
    pub stop: AtomicBool,
}

/// The part of a run that one thread has.
#[derive(Debug, Clone, Copy)]
pub struct Share {
    /// Which part, from 0.
    pub number: usize,
    /// Of how many.
    pub of: usize,
    /// Its connections.
    pub connections: usize,
    /// Messages that it measures at most.
    pub count: Option<u64>,
}

impl Share {
    /// Part `number` of `of`: what does not come out even goes to the first.
    pub fn new(options: &Options, number: usize, of: usize) -> Self {
        let connections = options.connections / of + usize::from(number < options.connections % of);
        let (number_, of_) = (number as u64, of as u64);
        let count = options.count.map(|all| all / of_ + u64::from(number_ < all % of_));
        Self { number, of, connections, count }
    }

    /// A rate of all, for this part.
    pub fn part(&self, rate: Option<f64>) -> Option<f64> {
        rate.map(|all| all / self.of as f64)
    }
}
