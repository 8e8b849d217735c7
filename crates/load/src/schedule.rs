//! When messages are meant to leave. Time is passed in.

use std::time::{Duration, Instant};

/// A message every so often, whatever comes back.
pub struct Schedule {
    start: Instant,
    rate: Option<f64>,
    next: u64,
}

impl Schedule {
    /// From `start` on, `rate` a second; without a rate nothing is ever due.
    pub fn new(start: Instant, rate: Option<f64>) -> Self {
        Self { start, rate, next: 0 }
    }

    /// The next message that should have left by `now`, and when.
    pub fn due(&mut self, now: Instant) -> Option<(u64, Instant)> {
        let meant = self.start + Duration::from_secs_f64(self.next as f64 / self.rate?);
        if meant > now {
            return None;
        }
        self.next += 1;
        Some((self.next - 1, meant))
    }

    /// How long a poller may sleep. It sleeps for whole milliseconds: below two it looks again and again.
    pub fn patience(&self, now: Instant, longest: Duration) -> Duration {
        let Some(rate) = self.rate else { return longest };
        let meant = self.start + Duration::from_secs_f64(self.next as f64 / rate);
        let left = meant.saturating_duration_since(now).min(longest);
        if left < Duration::from_millis(2) {
            Duration::ZERO
        } else {
            left - Duration::from_millis(1)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_due_at_their_time() {
        let start = Instant::now();
        let mut clock = Schedule::new(start, Some(1000.0));
        let later = start + Duration::from_micros(2500);
        let due: Vec<_> = std::iter::from_fn(|| clock.due(later)).collect();
        let at = |number: u64| (number, start + Duration::from_millis(number));
        assert_eq!(due, [at(0), at(1), at(2)]);
        assert_eq!(Schedule::new(start, None).due(later), None);
    }

    #[test]
    fn who_was_late_is_told_when_each_was_meant() {
        // Nobody looked for a second: a thousand messages are due, each at its own time.
        let start = Instant::now();
        let mut clock = Schedule::new(start, Some(1000.0));
        let late = start + Duration::from_secs(1);
        let waited: Vec<_> =
            std::iter::from_fn(|| clock.due(late)).map(|(_, at)| late - at).collect();
        assert_eq!(waited.len(), 1001);
        assert_eq!(waited[0], Duration::from_secs(1));
        assert!(waited[500] > Duration::from_millis(499));
    }

    #[test]
    fn a_poller_wakes_before_the_next_is_due() {
        let start = Instant::now();
        let longest = Duration::from_millis(50);
        let clock = Schedule::new(start, Some(100.0));
        assert_eq!(clock.patience(start, longest), Duration::ZERO);
        let mut clock = clock;
        assert!(clock.due(start).is_some());
        assert_eq!(clock.patience(start, longest), Duration::from_millis(9));
        assert_eq!(Schedule::new(start, None).patience(start, longest), longest);
    }
}
