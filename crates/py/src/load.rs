//! `LoadRun`: a run of `wireway-load`, for `wireway bench`. It runs without the GIL.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::Ordering;
use std::time::Duration;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use wireway_load::{Figures, Framing, Options, Shared, run};

/// One run. `run` blocks without the GIL; the other methods may be called from any thread meanwhile.
#[pyclass(module = "wireway._native", frozen)]
pub struct LoadRun {
    options: Options,
    shared: Shared,
}

fn seconds(options: &Bound<'_, PyDict>, name: &str) -> PyResult<Duration> {
    let value: f64 = needed(options, name)?.extract()?;
    Duration::try_from_secs_f64(value)
        .map_err(|error| PyValueError::new_err(format!("{name}: {error}")))
}

fn needed<'py>(options: &Bound<'py, PyDict>, name: &str) -> PyResult<Bound<'py, PyAny>> {
    options.get_item(name)?.ok_or_else(|| PyValueError::new_err(format!("{name} is missing")))
}

fn given<'py, T>(options: &Bound<'py, PyDict>, name: &str) -> PyResult<Option<T>>
where
    T: for<'a> FromPyObject<'a, 'py>,
{
    let Some(value) = options.get_item(name)?.filter(|value| !value.is_none()) else {
        return Ok(None);
    };
    value
        .extract()
        .map(Some)
        .map_err(|_| PyValueError::new_err(format!("{name} is of another type")))
}

#[pymethods]
impl LoadRun {
    /// `options`: host (a numeric address), port, sources, connections, connect_rate, connect_timeout, in_flight, rate,
    /// size, framing (`("raw",)`, `("lines",)`, `("length", width, little)`), duration, count, warm_up.
    #[new]
    fn new(options: &Bound<'_, PyDict>) -> PyResult<Self> {
        let address = |text: &str| -> PyResult<IpAddr> {
            text.parse()
                .map_err(|_| PyValueError::new_err(format!("{text:?} is no numeric address")))
        };
        let host: String = needed(options, "host")?.extract()?;
        let sources: Vec<String> = needed(options, "sources")?.extract()?;
        let framing = needed(options, "framing")?;
        let framing = match framing.get_item(0)?.extract::<String>()?.as_str() {
            "raw" => Framing::Raw,
            "lines" => Framing::Lines,
            "length" => {
                let width: usize = framing.get_item(1)?.extract()?;
                if !(1..=8).contains(&width) {
                    return Err(PyValueError::new_err("a length has 1 to 8 bytes"));
                }
                Framing::Length { width, little: framing.get_item(2)?.extract()? }
            }
            other => {
                return Err(PyValueError::new_err(format!(
                    "framing {other:?} can not be measured"
                )));
            }
        };
        let options = Options {
            address: SocketAddr::new(address(&host)?, needed(options, "port")?.extract()?),
            sources: sources.iter().map(|text| address(text)).collect::<PyResult<_>>()?,
            connections: needed(options, "connections")?.extract()?,
            connect_rate: given(options, "connect_rate")?,
            connect_timeout: seconds(options, "connect_timeout")?,
            in_flight: needed(options, "in_flight")?.extract()?,
            rate: given(options, "rate")?,
            size: needed(options, "size")?.extract()?,
            framing,
            duration: seconds(options, "duration")?,
            count: given(options, "count")?,
            warm_up: seconds(options, "warm_up")?,
        };
        if options.connections == 0 || options.in_flight == 0 || options.size == 0 {
            return Err(PyValueError::new_err("connections, in_flight and size are at least 1"));
        }
        Ok(Self { options, shared: Shared::default() })
    }

    /// Makes the load, and returns the figures. Raises OSError.
    fn run<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let figures = py.detach(|| run(&self.options, &self.shared))?;
        as_dict(py, &figures)
    }

    /// Connections made, and messages that came back so far.
    fn progress(&self) -> (u64, u64) {
        (
            self.shared.connected.load(Ordering::Relaxed),
            self.shared.messages.load(Ordering::Relaxed),
        )
    }

    /// Ends the run soon; it returns what it has.
    fn stop(&self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }
}

/// Times in seconds.
fn as_dict<'py>(py: Python<'py>, figures: &Figures) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    let time = |nanoseconds: u64| nanoseconds as f64 / 1e9;
    let latency = &figures.latency;
    let percentiles = PyDict::new(py);
    for share in [50.0, 90.0, 99.0, 99.9, 99.99, 100.0] {
        percentiles.set_item(share, time(latency.value_at_percentile(share)))?;
    }
    let counts: Vec<(f64, u64)> = latency
        .iter_recorded()
        .map(|step| (time(step.value_iterated_to()), step.count_at_value()))
        .collect();
    dict.set_item("seconds", figures.seconds)?;
    dict.set_item("connecting", figures.connecting)?;
    dict.set_item("connected", figures.connected)?;
    dict.set_item("messages", figures.messages)?;
    dict.set_item("intended", figures.intended)?;
    dict.set_item("frame", figures.frame)?;
    dict.set_item("percentiles", percentiles)?;
    dict.set_item("mean", latency.mean() / 1e9)?;
    dict.set_item("histogram", counts)?;
    dict.set_item("late_p99", time(figures.lateness.value_at_percentile(99.0)))?;
    dict.set_item("busy", figures.busy)?;
    dict.set_item("each_second", &figures.each_second)?;
    dict.set_item("errors", figures.errors.iter().collect::<Vec<_>>())?;
    Ok(dict)
}
