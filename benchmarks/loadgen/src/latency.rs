//! A histogram of durations: 32 steps for each doubling, so a quantile is right to about 3 %.
//!
//! Owns counts only; knows no clock.

const STEPS_BITS: u32 = 5;
const STEPS: usize = 1 << STEPS_BITS;

/// Counts of durations in nanoseconds.
pub struct Histogram {
    counts: Vec<u64>,
    total: u64,
}

impl Histogram {
    /// An empty one.
    pub fn new() -> Self {
        Self { counts: vec![0; STEPS * 64], total: 0 }
    }

    /// Count `times` durations of `nanoseconds`.
    pub fn add(&mut self, nanoseconds: u64, times: u64) {
        self.counts[slot_of(nanoseconds)] += times;
        self.total += times;
    }

    /// The duration in microseconds that `share` (0 to 1) of all stay within; 0 when empty.
    pub fn quantile(&self, share: f64) -> f64 {
        let rank = (self.total as f64 * share).ceil() as u64;
        let mut seen = 0;
        for (slot, counted) in self.counts.iter().enumerate() {
            seen += counted;
            if *counted > 0 && seen >= rank {
                return middle_of(slot) / 1000.0;
            }
        }
        0.0
    }
}

fn slot_of(value: u64) -> usize {
    if value < STEPS as u64 {
        return value as usize;
    }
    let exponent = 63 - value.leading_zeros();
    let step = (value >> (exponent - STEPS_BITS)) as usize & (STEPS - 1);
    (exponent - STEPS_BITS + 1) as usize * STEPS + step
}

fn middle_of(slot: usize) -> f64 {
    if slot < STEPS {
        return slot as f64;
    }
    let shift = (slot / STEPS - 1) as i32;
    ((STEPS + slot % STEPS) as f64 + 0.5) * 2f64.powi(shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_within_a_step() {
        let mut histogram = Histogram::new();
        for value in 1..=100_000u64 {
            histogram.add(value * 10, 1);
        }
        for share in [0.5, 0.99, 0.999] {
            let exact = share * 1000.0;
            let got = histogram.quantile(share);
            assert!((got - exact).abs() / exact < 0.03, "{share}: {got} instead of {exact}");
        }
    }

    #[test]
    fn slots_never_go_back() {
        let mut last = 0;
        for value in 0..1_000_000u64 {
            let slot = slot_of(value);
            assert!(slot == last || slot == last + 1, "{value}");
            last = slot;
        }
        assert!(slot_of(u64::MAX) < STEPS * 64);
    }

    #[test]
    fn empty_is_zero() {
        assert_eq!(Histogram::new().quantile(0.5), 0.0);
    }
}
