//! What is asked for.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::message::Framing;

/// One run.
#[derive(Debug, Clone)]
pub struct Options {
    /// The server.
    pub address: SocketAddr,
    /// Addresses of this machine that the connections come from, in turn; empty: the kernel chooses.
    pub sources: Vec<IpAddr>,
    /// Connections open at once.
    pub connections: usize,
    /// Connections made a second; `None`: as fast as it goes, 128 under way at once.
    pub connect_rate: Option<f64>,
    /// How long a connection may take to be made.
    pub connect_timeout: Duration,
    /// Closed: messages in flight on each connection.
    pub in_flight: usize,
    /// Open: messages a second over all connections; `None`: closed.
    pub rate: Option<f64>,
    /// Bytes of a message, what frames it not counted.
    pub size: usize,
    /// How messages are told apart.
    pub framing: Framing,
    /// How long is measured.
    pub duration: Duration,
    /// Messages that are measured at most.
    pub count: Option<u64>,
    /// What comes before, and is not measured.
    pub warm_up: Duration,
}
