//! The load generator of the benchmarks.

fn main() {}
