//! `LoadRun`: a run of `wireway-load`, for `wireway bench`. It runs without the GIL.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::Duration;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use wireway_core::frame::Framing;
use wireway_load::{Address, Answers, Figures, Histogram, Message, Options, SLOT, Shared, run};

use crate::framing;
use crate::server::tls::TlsClient;

/// One run. `run` blocks without the GIL; the other methods may be called from any thread meanwhile.
#[pyclass(module = "wireway._native", frozen)]
pub struct LoadRun {
    options: Options,
    shared: Shared,
}

fn wrong(text: String) -> PyErr {
    PyValueError::new_err(text)
}

fn needed<'py>(options: &Bound<'py, PyDict>, name: &str) -> PyResult<Bound<'py, PyAny>> {
    options.get_item(name)?.ok_or_else(|| wrong(format!("{name} is missing")))
}

fn given<'py, T>(options: &Bound<'py, PyDict>, name: &str) -> PyResult<Option<T>>
where
    T: for<'a> FromPyObject<'a, 'py>,
{
    let Some(value) = options.get_item(name)?.filter(|value| !value.is_none()) else {
        return Ok(None);
    };
    value.extract().map(Some).map_err(|_| wrong(format!("{name} is of another type")))
}

fn duration(name: &str, seconds: f64) -> PyResult<Duration> {
    Duration::try_from_secs_f64(seconds).map_err(|error| wrong(format!("{name}: {error}")))
}

fn seconds(options: &Bound<'_, PyDict>, name: &str) -> PyResult<Duration> {
    duration(name, needed(options, name)?.extract()?)
}

fn numeric(text: &str) -> PyResult<IpAddr> {
    text.parse().map_err(|_| wrong(format!("{text:?} is no numeric address")))
}

/// `(host, port)`, or a path.
fn address(given: &Bound<'_, PyAny>) -> PyResult<Address> {
    if let Ok(path) = given.extract::<PathBuf>() {
        return Ok(Address::Unix(path));
    }
    let (host, port): (String, u16) = given.extract()?;
    Ok(Address::Tcp(SocketAddr::new(numeric(&host)?, port)))
}

fn answers(kind: &str, framing: Framing, size: usize) -> PyResult<Answers> {
    let raw = matches!(framing, Framing::Raw);
    match kind {
        "content" => Ok(Answers::Same),
        "size" | "none" if raw => Ok(Answers::Bytes),
        "size" => Ok(Answers::Frames { framing, size: Some(size) }),
        "none" => Ok(Answers::Frames { framing, size: None }),
        "http" => Ok(Answers::Http { head: false }),
        "http-head" => Ok(Answers::Http { head: true }),
        other => Err(wrong(format!("answers can not be checked for {other:?}"))),
    }
}

#[pymethods]
impl LoadRun {
    /// `options`: addresses (each a numeric host and a port, or a path), tls (None, or a TlsClient and a name), sources,
    /// threads, connections, connect_rate, connect_timeout, in_flight, rate, message, framing (as `_native()` of one),
    /// verify ("content", "size", "none", "http", "http-head"), duration, count, warm_up, timeout.
    #[new]
    fn new(options: &Bound<'_, PyDict>) -> PyResult<Self> {
        let mut addresses = Vec::new();
        for each in needed(options, "addresses")?.try_iter()? {
            addresses.push(address(&each?)?);
        }
        let tls = given::<(Py<TlsClient>, String)>(options, "tls")?
            .map(|(client, name)| (client.get().config().clone(), name));
        let sources: Vec<String> = needed(options, "sources")?.extract()?;
        let framing = framing::parse(&needed(options, "framing")?)?;
        let content: Vec<u8> = needed(options, "message")?.extract()?;
        let verify: String = needed(options, "verify")?.extract()?;
        let message = Message::new(&framing, &content).map_err(|error| wrong(error.to_string()))?;
        let options = Options {
            addresses,
            tls,
            sources: sources.iter().map(|text| numeric(text)).collect::<PyResult<_>>()?,
            threads: needed(options, "threads")?.extract()?,
            connections: needed(options, "connections")?.extract()?,
            connect_rate: given(options, "connect_rate")?,
            connect_timeout: seconds(options, "connect_timeout")?,
            in_flight: needed(options, "in_flight")?.extract()?,
            rate: given(options, "rate")?,
            answers: answers(&verify, framing, content.len())?,
            message,
            duration: match given(options, "duration")? {
                Some(seconds) => Some(duration("duration", seconds)?),
                None => None,
            },
            count: given(options, "count")?,
            warm_up: seconds(options, "warm_up")?,
            timeout: seconds(options, "timeout")?,
        };
        if options.connections == 0 || options.in_flight == 0 || options.message.length() == 0 {
            return Err(wrong("connections, in_flight and the message are at least 1".to_owned()));
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

fn time(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e9
}

/// In seconds; `distribution` has a latency, the share that stays within it, and how many do.
fn latency_of<'py>(py: Python<'py>, latency: &Histogram<u64>) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    let least = if latency.is_empty() { 0 } else { latency.min() };
    dict.set_item("count", latency.len())?;
    dict.set_item("min", time(least))?;
    dict.set_item("mean", latency.mean() / 1e9)?;
    dict.set_item("stdev", latency.stdev() / 1e9)?;
    let percentiles = PyDict::new(py);
    for share in [50.0, 75.0, 90.0, 95.0, 99.0, 99.9, 99.99] {
        percentiles.set_item(format!("p{share}"), time(latency.value_at_percentile(share)))?;
    }
    dict.set_item("percentiles", percentiles)?;
    dict.set_item("max", time(latency.max()))?;
    let mut within = 0;
    let mut steps = Vec::new();
    for step in latency.iter_quantiles(5) {
        within += step.count_since_last_iteration();
        steps.push((time(step.value_iterated_to()), step.quantile_iterated_to(), within));
    }
    dict.set_item("distribution", steps)?;
    Ok(dict)
}

/// Times in seconds.
fn as_dict<'py>(py: Python<'py>, figures: &Figures) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("seconds", figures.seconds)?;
    dict.set_item("connecting", figures.connecting)?;
    dict.set_item("connected", figures.connected)?;
    dict.set_item("reconnected", figures.reconnected)?;
    dict.set_item("messages", figures.messages)?;
    dict.set_item("intended", figures.intended)?;
    dict.set_item("unanswered", figures.unanswered)?;
    dict.set_item("not_sent", figures.not_sent)?;
    dict.set_item("frame", figures.frame)?;
    dict.set_item("sent", figures.sent)?;
    dict.set_item("received", figures.received)?;
    dict.set_item("latency", latency_of(py, &figures.latency)?)?;
    let lateness = PyDict::new(py);
    lateness.set_item("p99", time(figures.lateness.value_at_percentile(99.0)))?;
    lateness.set_item("max", time(figures.lateness.max()))?;
    dict.set_item("lateness", lateness)?;
    dict.set_item("busy", figures.busy)?;
    dict.set_item("waited", figures.waited)?;
    let timeline = PyDict::new(py);
    timeline.set_item("slot", SLOT.as_secs_f64())?;
    timeline.set_item("messages", &figures.timeline)?;
    timeline.set_item("worst", figures.worst.iter().map(|each| time(*each)).collect::<Vec<_>>())?;
    dict.set_item("timeline", timeline)?;
    let (errors, statuses) = (PyDict::new(py), PyDict::new(py));
    for (what, times) in &figures.errors {
        errors.set_item(what, times)?;
    }
    for (status, times) in &figures.statuses {
        statuses.set_item(status.to_string(), times)?;
    }
    dict.set_item("errors", errors)?;
    dict.set_item("statuses", statuses)?;
    dict.set_item("ended", &figures.ended)?;
    Ok(dict)
}
