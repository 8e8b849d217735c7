//! How long something takes, counted in buckets. A count costs a few comparisons, and a clock that was read anyway.

use std::cell::Cell;

use pyo3::prelude::*;
use pyo3::types::PyDict;

/// The upper bounds of the buckets, seconds, with their names. The last bucket has none.
const BOUNDS: [(f64, &str); 12] = [
    (0.000_01, "1e-05"),
    (0.000_03, "3e-05"),
    (0.000_1, "0.0001"),
    (0.000_3, "0.0003"),
    (0.001, "0.001"),
    (0.003, "0.003"),
    (0.01, "0.01"),
    (0.03, "0.03"),
    (0.1, "0.1"),
    (0.3, "0.3"),
    (1.0, "1.0"),
    (3.0, "3.0"),
];

/// Counts of times.
#[derive(Default)]
pub struct Histogram {
    counts: [Cell<u64>; BOUNDS.len() + 1],
    sum: Cell<f64>,
}

impl Histogram {
    /// Counts `times` that took `seconds` each.
    #[inline]
    pub fn note(&self, seconds: f64, times: u64) {
        let bucket = BOUNDS.iter().position(|&(bound, _)| seconds <= bound).unwrap_or(BOUNDS.len());
        let count = &self.counts[bucket];
        count.set(count.get() + times);
        self.sum.set(seconds.max(0.0).mul_add(times as f64, self.sum.get()));
    }

    /// How many are in each bucket, by the name of its upper bound, and `sum`, in seconds. Nothing, if nothing was counted.
    pub fn to_dict<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let dict = PyDict::new(py);
        if self.counts.iter().all(|count| count.get() == 0) {
            return Ok(dict);
        }
        for ((_, name), count) in BOUNDS.iter().zip(&self.counts) {
            dict.set_item(name, count.get())?;
        }
        dict.set_item("+Inf", self.counts[BOUNDS.len()].get())?;
        dict.set_item("sum", self.sum.get())?;
        Ok(dict)
    }
}

/// The same for Python: what the HTTP half counts its requests in.
#[pyclass(frozen, unsendable, name = "Histogram", module = "wireway._native")]
#[derive(Default)]
pub struct PyHistogram(Histogram);

#[pymethods]
impl PyHistogram {
    #[new]
    fn new() -> Self {
        Self::default()
    }

    /// Counts one that took so many seconds.
    fn note(&self, seconds: f64) {
        self.0.note(seconds, 1);
    }

    /// See `Histogram::to_dict`.
    fn counts<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        self.0.to_dict(py)
    }
}
