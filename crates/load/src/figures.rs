//! What came of a run.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use hdrhistogram::Histogram;

/// The grain of what is told over time.
pub const SLOT: Duration = Duration::from_millis(100);

/// The longest latency that is told, nanoseconds: an hour.
const LONGEST: u64 = 3_600_000_000_000;

/// Figures of the measured time.
#[derive(Debug)]
pub struct Figures {
    /// Seconds that were measured.
    pub seconds: f64,
    /// Seconds until all connections were there.
    pub connecting: f64,
    /// Connections that were made, before anything was sent.
    pub connected: u64,
    /// Connections that were made again after the server had ended them.
    pub reconnected: u64,
    /// Messages that came back in the measured time.
    pub messages: u64,
    /// Messages that were meant to leave in it: with a rate that the server does not hold it is more.
    pub intended: u64,
    /// Messages that had not come back when the run had waited for them long enough. Their latency is what they had
    /// waited by then.
    pub unanswered: u64,
    /// Messages that did not leave, since two million were under way.
    pub not_sent: u64,
    /// Bytes of a message with what frames it.
    pub frame: usize,
    /// Bytes that were sent and received in the measured time, those of TLS not counted.
    pub sent: u64,
    /// See `sent`.
    pub received: u64,
    /// Latencies, nanoseconds, of what left, or was meant to, in the measured time.
    pub latency: Histogram<u64>,
    /// How much later than meant messages left, nanoseconds: the generator's own fault.
    pub lateness: Histogram<u64>,
    /// What went wrong, and how often.
    pub errors: BTreeMap<String, u64>,
    /// HTTP: responses of each status in the measured time.
    pub statuses: BTreeMap<u16, u64>,
    /// Whether that time is now.
    pub(crate) measuring: bool,
    /// The share of the time that the generator's thread worked; of several the highest.
    pub busy: f64,
    /// The share of the time that it could have worked and had no processor; of several the highest.
    pub waited: f64,
    /// Messages that came back in each [`SLOT`].
    pub timeline: Vec<u64>,
    /// The longest latency among them, nanoseconds.
    pub worst: Vec<u64>,
    /// Why the run ended before its time.
    pub ended: Option<String>,
}

impl Figures {
    /// Nothing yet.
    pub fn new(frame: usize) -> Self {
        Self {
            seconds: 0.0,
            connecting: 0.0,
            connected: 0,
            reconnected: 0,
            messages: 0,
            intended: 0,
            unanswered: 0,
            not_sent: 0,
            frame,
            sent: 0,
            received: 0,
            latency: histogram(),
            lateness: histogram(),
            errors: BTreeMap::new(),
            statuses: BTreeMap::new(),
            measuring: false,
            busy: 0.0,
            waited: 0.0,
            timeline: Vec::new(),
            worst: Vec::new(),
            ended: None,
        }
    }

    /// Something went wrong.
    pub fn went_wrong(&mut self, what: &str, times: u64) {
        match self.errors.get_mut(what) {
            Some(count) => *count += times,
            None if times > 0 => drop(self.errors.insert(what.to_owned(), times)),
            None => {}
        }
    }

    /// So many messages came back `since` the begin of the measured time, the slowest after `longest` nanoseconds.
    pub fn came_back(&mut self, messages: u64, since: Duration, longest: u64) {
        self.messages += messages;
        let slot = (since.as_nanos() / SLOT.as_nanos()) as usize;
        if self.timeline.len() <= slot {
            self.timeline.resize(slot + 1, 0);
            self.worst.resize(slot + 1, 0);
        }
        self.timeline[slot] += messages;
        self.worst[slot] = self.worst[slot].max(longest);
    }

    /// Those of another thread of the same run.
    pub fn add(&mut self, other: &Self) {
        self.seconds = self.seconds.max(other.seconds);
        self.connecting = self.connecting.max(other.connecting);
        self.connected += other.connected;
        self.reconnected += other.reconnected;
        self.messages += other.messages;
        self.intended += other.intended;
        self.unanswered += other.unanswered;
        self.not_sent += other.not_sent;
        self.sent += other.sent;
        self.received += other.received;
        // They have the same bounds.
        self.latency.add(&other.latency).unwrap_or_default();
        self.lateness.add(&other.lateness).unwrap_or_default();
        for (what, times) in &other.errors {
            self.went_wrong(what, *times);
        }
        for (status, times) in &other.statuses {
            *self.statuses.entry(*status).or_default() += times;
        }
        self.busy = self.busy.max(other.busy);
        self.waited = self.waited.max(other.waited);
        let slots = self.timeline.len().max(other.timeline.len());
        self.timeline.resize(slots, 0);
        self.worst.resize(slots, 0);
        for (slot, count) in other.timeline.iter().enumerate() {
            self.timeline[slot] += count;
            self.worst[slot] = self.worst[slot].max(other.worst[slot]);
        }
        if self.ended.is_none() {
            self.ended.clone_from(&other.ended);
        }
    }
}

/// A histogram of nanoseconds up to an hour, exact to three digits.
fn histogram() -> Histogram<u64> {
    let made = Histogram::new_with_bounds(1, LONGEST, 3);
    made.unwrap_or_else(|_| unreachable!("the bounds are right"))
}

/// Nanoseconds that this thread has run, and that it could have run and had no processor: proc(5), `schedstat`. 0 where
/// the kernel does not say.
pub fn thread_times() -> (u64, u64) {
    let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let mut numbers = text.split_whitespace().map(|word| word.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_of_threads_add_up() {
        let (mut one, mut other) = (Figures::new(10), Figures::new(10));
        one.latency.saturating_record_n(1_000_000, 99);
        one.came_back(99, Duration::from_millis(50), 1_000_000);
        one.went_wrong("closed by the server", 1);
        one.busy = 0.2;
        other.latency.saturating_record(3_000_000);
        other.came_back(1, Duration::from_millis(250), 3_000_000);
        other.went_wrong("closed by the server", 2);
        other.statuses.insert(200, 1);
        other.busy = 0.7;
        one.add(&other);
        assert_eq!((one.messages, one.latency.len()), (100, 100));
        assert_eq!(one.timeline, [99, 0, 1]);
        assert_eq!(one.worst, [1_000_000, 0, 3_000_000]);
        assert_eq!(one.errors["closed by the server"], 3);
        assert_eq!(one.statuses[&200], 1);
        assert!((one.busy - 0.7).abs() < 1e-9);
        assert_eq!(one.latency.value_at_quantile(1.0) / 1000, 3_000);
    }

    #[test]
    fn a_latency_beyond_the_bounds_is_the_longest() {
        let mut figures = Figures::new(1);
        figures.latency.saturating_record(u64::MAX);
        assert!(figures.latency.max() >= LONGEST);
    }
}
