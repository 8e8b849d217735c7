//! How fast something may happen: a token bucket that may go into debt.
//!
//! A bucket holds at most `burst` tokens and gains `per_second` of them each second. What happened is
//! taken even if it is more than there is, because it did happen: the peer has sent those bytes. The
//! effect of a debt is a pause, until one whole token is there again. (ATM Forum TM 4.0 calls the same
//! thing a leaky bucket; tc-tbf(8) is the well-known one in Linux.)
//!
//! # Why it counts what was spent
//!
//! The usual bucket adds `elapsed * rate` to its level at each call. With many tiny calls each sum is
//! rounded, and a gain too small for the level's last digit is lost for ever. This one keeps what was
//! spent since the moment it was last full, a whole number, and that moment: the gain is computed once
//! from the whole distance, and nothing is ever summed up but whole numbers. Exact up to 2^52.

/// What is nearer than a clock can tell when a loop has run for months, seconds.
const SOON: f64 = 1e-8;

/// Whole numbers are exact in an `f64` up to here, with one bit to spare.
const EXACT: f64 = 4_503_599_627_370_496.0;

/// How fast, and how much at once. Shared by all buckets of one kind.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Rate {
    per_second: f64,
    burst: f64,
}

impl Rate {
    /// `per_second` tokens each second, at most `burst` of them kept; without one, a second's worth,
    /// at least one. `None` unless the rate is finite and over zero and the burst finite and at least 1.
    pub fn new(per_second: f64, burst: Option<f64>) -> Option<Self> {
        let burst = burst.unwrap_or(per_second.max(1.0));
        let fits = per_second > 0.0 && per_second.is_finite() && (1.0..EXACT).contains(&burst);
        fits.then_some(Self { per_second, burst })
    }

    /// Tokens gained each second.
    pub fn per_second(&self) -> f64 {
        self.per_second
    }

    /// The most tokens kept.
    pub fn burst(&self) -> f64 {
        self.burst
    }
}

/// What a bucket says after something was taken from it.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Verdict {
    /// There is at least one token left.
    Go,
    /// There is none: pause for so many seconds.
    Pause(f64),
}

/// The state of one bucket, 16 bytes. A new one is full. Always ask it with the same [`Rate`].
#[derive(Clone, Copy, Default, Debug)]
pub struct Bucket {
    /// Taken since `full`, tokens. Zero in a full bucket.
    spent: f64,
    /// When it was last full, seconds.
    full: f64,
}

impl Bucket {
    /// Takes `amount` tokens at `now`, whether they are there or not.
    #[inline]
    pub fn take(&mut self, rate: &Rate, now: f64, amount: u64) -> Verdict {
        self.settle(rate, now);
        self.spent += amount as f64;
        match self.missing(rate, now) {
            wait if wait > 0.0 => Verdict::Pause(wait),
            _ => Verdict::Go,
        }
    }

    /// Takes one token at `now` if there is one, and says whether.
    #[inline]
    pub fn try_take(&mut self, rate: &Rate, now: f64) -> bool {
        self.settle(rate, now);
        let there = self.missing(rate, now) <= 0.0;
        if there {
            self.spent += 1.0;
        }
        there
    }

    /// Seconds until there is one whole token; 0 when there is.
    #[inline]
    pub fn wait(&mut self, rate: &Rate, now: f64) -> f64 {
        self.settle(rate, now);
        self.missing(rate, now)
    }

    /// What was gained since it was last full. Without a step of the clock, nothing.
    #[inline]
    fn gained(&self, rate: &Rate, now: f64) -> f64 {
        // `max` of a NaN and 0 is 0.
        (now - self.full).max(0.0) * rate.per_second
    }

    /// Notices that it is full again, and keeps the numbers small enough to be exact.
    #[inline]
    fn settle(&mut self, rate: &Rate, now: f64) {
        if !now.is_finite() {
            return;
        }
        let gained = self.gained(rate, now);
        if gained >= self.spent {
            *self = Self { spent: 0.0, full: now };
        } else if self.spent > EXACT || now < self.full {
            *self = Self { spent: (self.spent - gained).min(EXACT), full: now };
        }
    }

    #[inline]
    fn missing(&self, rate: &Rate, now: f64) -> f64 {
        let wait = (1.0 - rate.burst + self.spent - self.gained(rate, now)) / rate.per_second;
        if wait > SOON { wait } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(per_second: f64, burst: f64) -> Rate {
        Rate::new(per_second, Some(burst)).unwrap()
    }

    #[test]
    fn it_is_small() {
        assert_eq!(size_of::<Bucket>(), 16);
    }

    #[test]
    fn wrong_rates_are_refused() {
        for (per_second, burst) in [
            (0.0, Some(5.0)),
            (-1.0, Some(5.0)),
            (f64::NAN, Some(5.0)),
            (f64::INFINITY, Some(5.0)),
            (1.0, Some(0.5)),
            (1.0, Some(f64::NAN)),
            (1.0, Some(f64::INFINITY)),
            (f64::INFINITY, None),
        ] {
            assert_eq!(Rate::new(per_second, burst), None, "{per_second} {burst:?}");
        }
        assert_eq!(Rate::new(0.1, None), Some(rate(0.1, 1.0)));
        assert_eq!(Rate::new(50.0, None), Some(rate(50.0, 50.0)));
    }

    #[test]
    fn the_burst_is_exact() {
        let (rate, mut bucket) = (rate(10.0, 3.0), Bucket::default());
        assert_eq!(bucket.take(&rate, 100.0, 1), Verdict::Go);
        assert_eq!(bucket.take(&rate, 100.0, 1), Verdict::Go);
        // The last token: the next message has to wait for a new one.
        assert_eq!(bucket.take(&rate, 100.0, 1), Verdict::Pause(0.1));
        assert!((bucket.wait(&rate, 100.05) - 0.05).abs() < 1e-9);
        assert_eq!(bucket.wait(&rate, 100.1), 0.0);
    }

    #[test]
    fn a_debt_is_paid_in_full() {
        let (rate, mut bucket) = (rate(1000.0, 500.0), Bucket::default());
        // 4,500 over the burst, and one to go on with.
        assert_eq!(bucket.take(&rate, 7.0, 5000), Verdict::Pause(4.501));
        assert_eq!(bucket.wait(&rate, 11.5), 0.001);
        assert_eq!(bucket.wait(&rate, 11.501), 0.0);
        // Full again: never more than the burst, however long it rested.
        assert_eq!(bucket.take(&rate, 1e6, 500), Verdict::Pause(0.001));
    }

    #[test]
    fn a_clock_that_stands_still_or_is_mad_gives_no_token() {
        let (rate, mut bucket) = (rate(1e6, 10.0), Bucket::default());
        for _ in 0..10 {
            assert!(bucket.try_take(&rate, 5.0));
        }
        for now in [5.0, 4.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 4.0] {
            let wait = bucket.wait(&rate, now);
            assert!(!wait.is_nan() && wait >= 0.0, "{wait} at {now}");
        }
        // The clock went back to 4: it counts from there.
        assert!(!bucket.try_take(&rate, 4.0));
        assert!(bucket.try_take(&rate, 4.000_002));
    }

    #[test]
    fn many_tiny_takes_lose_nothing() {
        // Ten million takes of a byte, at a time of the clock where a byte lasts less than its last digit.
        let (rate, mut bucket) = (rate(2e9, 1000.0), Bucket::default());
        let start = 5e6;
        for _ in 0..10_000_000 {
            bucket.take(&rate, start, 1);
        }
        let wait = bucket.wait(&rate, start);
        assert!((wait - (1e7 - 1000.0 + 1.0) / 2e9).abs() < 1e-15, "{wait}");
    }

    #[test]
    fn many_tiny_looks_lose_nothing() {
        // A slow rate, looked at very often: each gain is far below the last digit of the level.
        let (rate, mut bucket) = (rate(1e-3, 1e12), Bucket::default());
        bucket.take(&rate, 1000.0, 1_000_000_000_002);
        let before = bucket.wait(&rate, 1000.0);
        for step in 0..1_000_000 {
            bucket.wait(&rate, 1000.0 + f64::from(step) * 1e-6);
        }
        let after = bucket.wait(&rate, 1001.0);
        assert!((before - after - 1.0).abs() < 1e-9, "{before} {after}");
    }

    #[test]
    fn a_bucket_that_is_never_full_keeps_its_rate() {
        // Always in debt, for what would be years: pauses are honoured, and the rate holds.
        let (rate, mut bucket) = (rate(1e9, 1e6), Bucket::default());
        let (mut now, mut taken) = (1000.0, 0_u64);
        while taken < 20_000_000_000_000_000 {
            taken += 1 << 40;
            if let Verdict::Pause(wait) = bucket.take(&rate, now, 1 << 40) {
                now += wait;
            }
        }
        let achieved = taken as f64 / (now - 1000.0);
        assert!((achieved / 1e9 - 1.0).abs() < 1e-6, "{achieved}");
    }
}
