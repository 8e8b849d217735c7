//! What came of a run.

use std::collections::BTreeMap;
use std::fs;

use hdrhistogram::Histogram;

/// Figures of the measured time.
#[derive(Debug)]
pub struct Figures {
    /// Seconds that were measured.
    pub seconds: f64,
    /// Seconds until all connections were there.
    pub connecting: f64,
    /// Connections that were made.
    pub connected: u64,
    /// Messages that came back.
    pub messages: u64,
    /// Messages that were meant to leave: with a rate that the server does not hold it is more.
    pub intended: u64,
    /// Bytes of a frame, each way.
    pub frame: usize,
    /// Latencies, nanoseconds.
    pub latency: Histogram<u64>,
    /// How much later than meant messages left, nanoseconds: the generator's own fault.
    pub lateness: Histogram<u64>,
    /// What went wrong, and how often.
    pub errors: BTreeMap<String, u64>,
    /// The share of the time that the generator's thread worked.
    pub busy: f64,
    /// Messages that came back in each second.
    pub each_second: Vec<u64>,
}

/// A histogram of nanoseconds up to a minute, exact to three digits.
pub fn histogram() -> Histogram<u64> {
    let made = Histogram::new_with_bounds(1, 60_000_000_000, 3);
    made.unwrap_or_else(|_| unreachable!("the bounds are right"))
}

/// Nanoseconds that this thread has run: proc(5), `schedstat`. 0 where the kernel does not say.
pub fn run_time() -> u64 {
    let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split(' ').next().and_then(|first| first.parse().ok()).unwrap_or(0)
}
