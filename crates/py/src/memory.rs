//! Bytes objects for what was received, and an allocator that keeps the memory of large ones.

use std::hint::black_box;
use std::sync::Once;

use pyo3::prelude::*;
use pyo3::types::PyBytes;

/// From this length on a message counts as large, bytes: half of glibc's first trim threshold.
const LARGE: usize = 64 * 1024;

/// glibc's `DEFAULT_MMAP_THRESHOLD_MAX` on 64 bits, less what a block's header and a page need.
const LARGEST_MAPPED: usize = (32 << 20) - (64 << 10);

/// A copy of `data`.
#[inline]
pub fn bytes<'py>(py: Python<'py>, data: &[u8]) -> Bound<'py, PyBytes> {
    expect_large(data.len());
    PyBytes::new(py, data)
}

/// Tells the allocator, once, that large blocks come and go.
///
/// glibc gives a large block back to the kernel when it is freed, and asks anew for the next: echoing
/// 1 MiB cost 257 page faults and two thirds of the system time of a message. Its thresholds adapt
/// when a block that was mapped is freed (mallopt(3), `M_MMAP_THRESHOLD`), so one is mapped and freed
/// here, never touched: blocks up to 32 MiB then come from the heap, and up to 64 MiB of free heap are
/// kept. Who has set these thresholds himself has switched the adapting off, and this does nothing.
#[inline]
pub fn expect_large(length: usize) {
    static ONCE: Once = Once::new();
    if length >= LARGE {
        ONCE.call_once(|| drop(black_box(Vec::<u8>::with_capacity(LARGEST_MAPPED))));
    }
}
