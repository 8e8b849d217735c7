//! How long the garbage collector has run: marks of `gc.callbacks`, for a thread that holds no GIL.

use std::sync::atomic::{AtomicU64, Ordering};

use pyo3::prelude::*;
use pyo3::types::PyDict;
use wireway_core::sys;

/// When the collection that runs now began, seconds as bits; 0 while none does.
static SINCE: AtomicU64 = AtomicU64::new(0);
/// What all of them took, nanoseconds.
static TOTAL: AtomicU64 = AtomicU64::new(0);
/// The generation of the one that runs, or of the last that took long.
static GENERATION: AtomicU64 = AtomicU64::new(0);
/// A collection that took so long is remembered, seconds.
const LONG: f64 = 0.005;

/// For `gc.callbacks`. The GIL orders the writers.
#[pyfunction]
pub fn stall_mark(phase: &str, info: &Bound<'_, PyDict>) {
    let now = sys::monotonic();
    if phase == "start" {
        SINCE.store(now.to_bits(), Ordering::Relaxed);
        return;
    }
    let since = f64::from_bits(SINCE.swap(0, Ordering::Relaxed));
    if since > 0.0 {
        let took = (now - since).max(0.0);
        TOTAL.fetch_add((took * 1e9) as u64, Ordering::Relaxed);
        if took > LONG {
            GENERATION.store(super::generation(info), Ordering::Relaxed);
        }
    }
}

/// Seconds of collection so far, up to `now`.
pub fn seconds(now: f64) -> f64 {
    let total = TOTAL.load(Ordering::Relaxed) as f64 * 1e-9;
    let since = f64::from_bits(SINCE.load(Ordering::Relaxed));
    total + if since > 0.0 { (now - since).max(0.0) } else { 0.0 }
}

/// Whether one runs.
pub fn runs() -> bool {
    SINCE.load(Ordering::Relaxed) != 0
}

/// The generation of the last one that took long.
pub fn last_generation() -> u64 {
    GENERATION.load(Ordering::Relaxed)
}
