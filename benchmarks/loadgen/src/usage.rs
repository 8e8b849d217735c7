//! What a process has used so far: processor time, waiting for a processor, context switches.
//!
//! Reads `/proc`; all threads of the process count, those that io_uring makes included. Knows no
//! workload.
//!
//! `schedstat` has exact nanoseconds but does not tell user from system time. `stat` tells them apart,
//! in ticks of 10 ms. So the sum comes from the first and the proportion from the second.

use std::fs;

/// Sums over the life of a process, or differences of them.
#[derive(Clone, Copy, Default)]
pub struct Usage {
    /// Seconds on a processor.
    pub cpu: f64,
    /// Seconds ready to run while something else had the processor.
    pub waited: f64,
    /// Ticks in user mode.
    pub user_ticks: u64,
    /// Ticks in the kernel.
    pub system_ticks: u64,
    /// Times that it slept of its own accord.
    pub voluntary: u64,
    /// Times that it was put aside.
    pub involuntary: u64,
}

impl Usage {
    /// What process `pid` has used; zeros if it is gone.
    pub fn of(pid: u32) -> Self {
        let mut usage = Self::default();
        let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else {
            return usage;
        };
        for thread in threads.flatten() {
            let read =
                |name: &str| fs::read_to_string(thread.path().join(name)).unwrap_or_default();
            let schedstat = read("schedstat");
            let mut times = numbers(&schedstat);
            usage.cpu += times.next().unwrap_or(0) as f64 / 1e9;
            usage.waited += times.next().unwrap_or(0) as f64 / 1e9;
            // The name in parentheses may hold spaces; the fields are counted after it.
            let stat = read("stat");
            let mut ticks =
                numbers(stat.rsplit_once(')').map_or("", |(_, fields)| fields)).skip(11);
            usage.user_ticks += ticks.next().unwrap_or(0);
            usage.system_ticks += ticks.next().unwrap_or(0);
            for line in read("status").lines() {
                let value = || {
                    numbers(line.split_once(':').map_or("", |(_, value)| value)).next().unwrap_or(0)
                };
                if line.starts_with("voluntary_ctxt") {
                    usage.voluntary += value();
                } else if line.starts_with("nonvoluntary_ctxt") {
                    usage.involuntary += value();
                }
            }
        }
        usage
    }

    /// What was used since `earlier`.
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            cpu: self.cpu - earlier.cpu,
            waited: self.waited - earlier.waited,
            user_ticks: self.user_ticks.saturating_sub(earlier.user_ticks),
            system_ticks: self.system_ticks.saturating_sub(earlier.system_ticks),
            voluntary: self.voluntary.saturating_sub(earlier.voluntary),
            involuntary: self.involuntary.saturating_sub(earlier.involuntary),
        }
    }

    /// Seconds in user mode.
    pub fn user(&self) -> f64 {
        let ticks = self.user_ticks + self.system_ticks;
        if ticks == 0 { self.cpu } else { self.cpu * self.user_ticks as f64 / ticks as f64 }
    }

    /// Seconds in the kernel.
    pub fn system(&self) -> f64 {
        self.cpu - self.user()
    }
}

/// The numbers in a text; words that are none count as 0, so that fields keep their place.
fn numbers(text: &str) -> impl Iterator<Item = u64> {
    text.split_whitespace().map(|word| word.parse().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_time() {
        let before = Usage::of(std::process::id());
        let until = std::time::Instant::now() + std::time::Duration::from_millis(50);
        while std::time::Instant::now() < until {
            std::hint::spin_loop();
        }
        let used = Usage::of(std::process::id()).since(&before);
        assert!(used.cpu > 0.005, "{}", used.cpu);
        assert!((used.user() + used.system() - used.cpu).abs() < 1e-9);
    }

    #[test]
    fn a_process_that_is_gone_is_zero() {
        assert_eq!(Usage::of(u32::MAX).voluntary, 0);
    }
}
