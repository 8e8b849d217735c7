//! The measured window: when it begins and ends, and what was counted in it.
//!
//! A run goes through warm-up, window and end. At the two borders of the window the processor time of
//! the generator and of the server is read, so that all figures are of the same stretch of time.
//! Knows no socket.

use crate::latency::Histogram;
use crate::options::Options;
use crate::sys;
use crate::usage::Usage;
use serde_json::{Value, json};

/// A process that ran, or waited to run, for more than this share of the time is taken to be the limit.
const SATURATED: f64 = 0.95;

/// Where a run is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// Messages flow, nothing is kept.
    Warmup,
    /// Messages count.
    Window,
    /// Nothing new is sent.
    End,
}

/// Counters of one run.
pub struct Window {
    phase: Phase,
    begins: u64,
    ends: u64,
    server: Option<u32>,
    opened_at: u64,
    closed_at: u64,
    own: (Usage, Usage),
    servers: (Usage, Usage),
    /// Messages back in the window.
    pub messages: u64,
    /// Messages back since the start, with those of warm-up and end.
    pub all_messages: u64,
    /// Times from send to reply in the window.
    pub latency: Histogram,
    /// What went wrong, and the first of it in words.
    pub errors: u64,
    /// The first error.
    pub first_error: Option<String>,
}

impl Window {
    /// A run that starts now.
    pub fn new(options: &Options) -> Self {
        let begins = sys::now() + options.warmup.as_nanos() as u64;
        Self {
            phase: Phase::Warmup,
            begins,
            ends: begins + options.window.as_nanos() as u64,
            server: options.server,
            opened_at: 0,
            closed_at: 0,
            own: Default::default(),
            servers: Default::default(),
            messages: 0,
            all_messages: 0,
            latency: Histogram::new(),
            errors: 0,
            first_error: None,
        }
    }

    /// Tell the time; the phase it is in.
    pub fn tick(&mut self, now: u64) -> Phase {
        match self.phase {
            Phase::Warmup if now >= self.begins => {
                (self.own.0, self.servers.0) = self.usage();
                self.opened_at = sys::now();
                self.ends += self.opened_at - self.begins;
                self.phase = Phase::Window;
            }
            Phase::Window if now >= self.ends => {
                self.closed_at = sys::now();
                (self.own.1, self.servers.1) = self.usage();
                self.phase = Phase::End;
            }
            _ => {}
        }
        self.phase
    }

    /// `times` messages came back after `nanoseconds`.
    pub fn count(&mut self, nanoseconds: u64, times: u64) {
        self.arrived(times);
        if self.phase == Phase::Window {
            self.latency.add(nanoseconds, times);
        }
    }

    /// `times` messages came, of which no time is known.
    pub fn arrived(&mut self, times: u64) {
        self.all_messages += times;
        if self.phase == Phase::Window {
            self.messages += times;
        }
    }

    /// Something took `nanoseconds`.
    pub fn time(&mut self, nanoseconds: u64) {
        if self.phase == Phase::Window {
            self.latency.add(nanoseconds, 1);
        }
    }

    /// Something went wrong.
    pub fn error(&mut self, text: impl FnOnce() -> String) {
        self.errors += 1;
        if self.first_error.is_none() {
            self.first_error = Some(text());
        }
    }

    fn usage(&self) -> (Usage, Usage) {
        (Usage::of(std::process::id()), self.server.map(Usage::of).unwrap_or_default())
    }

    /// The figures of the window.
    pub fn report(&self, options: &Options) -> Value {
        let seconds = (self.closed_at - self.opened_at) as f64 / 1e9;
        let own = self.own.1.since(&self.own.0);
        let own_share = own.cpu / seconds;
        let mut report = json!({
            "workload": options.name, "framed": options.framed, "connections": options.connections,
            "depth": options.depth, "size": options.size,
            "messages": self.messages, "all_messages": self.all_messages, "seconds": seconds,
            "rate": self.messages as f64 / seconds,
            "p50_us": self.latency.quantile(0.5), "p99_us": self.latency.quantile(0.99),
            "p999_us": self.latency.quantile(0.999),
            "errors": self.errors, "first_error": self.first_error,
            "generator_cpu": own_share, "generator_waited": own.waited / seconds,
        });
        let mut server_saturated = false;
        if self.server.is_some() {
            let used = self.servers.1.since(&self.servers.0);
            let each = |value: f64| {
                if self.messages == 0 { 0.0 } else { value / self.messages as f64 }
            };
            server_saturated = (used.cpu + used.waited) / seconds > SATURATED;
            report["server"] = json!({
                "cpu": used.cpu / seconds, "waited": used.waited / seconds,
                "cpu_seconds": used.cpu, "user_ticks": used.user_ticks, "system_ticks": used.system_ticks,
                "user_us": each(used.user() * 1e6), "system_us": each(used.system() * 1e6),
                "voluntary_switches": each(used.voluntary as f64),
                "involuntary_switches": each(used.involuntary as f64),
            });
        }
        report["generator_bound"] =
            json!((own.cpu + own.waited) / seconds > SATURATED && !server_saturated);
        report
    }
}
