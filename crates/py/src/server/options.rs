//! What a server or client was told, read once from the flat dict of `wireway.config.native_options`,
//! which checked it.

use std::collections::HashSet;

use pyo3::exceptions::{PyKeyError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use wireway_core::limit::Ban;
use wireway_core::limit::GateOptions;
use wireway_core::limit::Nets;
use wireway_core::limit::Rate;
use wireway_core::limit::{DryRun, Reason};

/// Durations in seconds; infinity is off.
pub struct Deadlines {
    pub first_message: f64,
    pub idle: f64,
    pub idle_read: f64,
    pub idle_write: f64,
    pub write_stall: f64,
    pub close_linger: f64,
    pub lifetime: f64,
}

/// A message, and its answer.
type Answer = (Box<[u8]>, Box<[u8]>);

/// Framed messages that show that a peer is there.
pub struct Heartbeat {
    /// Seconds without anything from the peer.
    pub every: f64,
    /// Seconds more until it is given up.
    pub timeout: f64,
    /// The part of `every` that is left to chance.
    pub jitter: f64,
    pub ping: Box<[u8]>,
    pub pong: Option<Box<[u8]>>,
    /// Each message of the peer's that is a heartbeat, and what it is answered with.
    pub answers: Vec<Answer>,
}

impl Heartbeat {
    /// The share of `every` to wait: between `1 - jitter` and 1, spread over connections and beats so that
    /// they do not all fall into one turn.
    pub fn share(&self, number: u64, beat: u64) -> f64 {
        // The finalizer of SplitMix64 (Steele, Lea and Flood, 2014): well spread, nothing secret.
        let mut mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(beat);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let part = (mixed >> 11) as f64 / (1_u64 << 53) as f64;
        1.0 - self.jitter * part
    }
}

/// What becomes of a message for a peer that takes nothing.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum WhenSlow {
    /// It is queued; who sends waits.
    Pause,
    /// It waits in a bounded place; the oldest there is dropped for it.
    DropOldest,
    /// The same, but a message takes the place of the one with its key.
    Latest,
    /// The connection ends.
    Close,
}

impl WhenSlow {
    /// By its name.
    pub fn parse(name: &str) -> PyResult<Self> {
        match name {
            "pause" => Ok(Self::Pause),
            "drop-oldest" => Ok(Self::DropOldest),
            "latest" => Ok(Self::Latest),
            "close" => Ok(Self::Close),
            other => Err(PyValueError::new_err(format!(
                "when_slow is {other:?}, allowed are 'pause', 'drop-oldest', 'latest' and 'close'"
            ))),
        }
    }
}

/// Whether a PROXY header comes first.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Proxy {
    Off,
    Optional,
    Required,
}

/// All of it.
pub struct Options {
    pub deadlines: Deadlines,
    pub heartbeat: Option<Heartbeat>,
    /// Watermarks of each connection, bytes.
    pub low: usize,
    pub high: usize,
    pub soft: usize,
    pub soft_seconds: f64,
    pub hard: usize,
    /// Suspended handlers at a time.
    pub handlers: usize,
    pub message_rate: Option<Rate>,
    pub byte_rate: Option<Rate>,
    /// Bytes that may wait in all connections of the loop together.
    pub queued_bytes: usize,
    pub when_slow: WhenSlow,
    /// Messages that wait at most where they may be dropped.
    pub droppable: u32,
    pub proxy: Proxy,
    /// Who sends PROXY headers; if empty, everybody.
    pub proxies: Nets,
    /// Limits that only count what they would have closed.
    pub dry_run: HashSet<String>,
    /// Some deadline counts from what comes.
    pub timed: bool,
    /// Some deadline counts from what does not leave.
    pub watches_writes: bool,
    /// Each message has to be looked at before it is handled.
    pub bounds_messages: bool,
}

impl Options {
    /// Reads the dict.
    pub fn read(dict: &Bound<'_, PyDict>) -> PyResult<Self> {
        let item = |key: &str| {
            dict.get_item(key)?.ok_or_else(|| PyKeyError::new_err(format!("no option {key:?}")))
        };
        let number =
            |key| Ok::<f64, PyErr>(item(key)?.extract::<Option<f64>>()?.unwrap_or(f64::INFINITY));
        let size =
            |key| Ok::<usize, PyErr>(item(key)?.extract::<Option<usize>>()?.unwrap_or(usize::MAX));
        let deadlines = Deadlines {
            first_message: number("first_message")?,
            idle: number("idle")?,
            idle_read: number("idle_read")?,
            idle_write: number("idle_write")?,
            write_stall: number("write_stall")?,
            close_linger: number("close_linger")?,
            lifetime: number("lifetime")?,
        };
        let heartbeat = match item("every")?.extract::<Option<f64>>()? {
            None => None,
            Some(every) => Some(Heartbeat {
                every,
                timeout: item("timeout")?.extract()?,
                jitter: item("jitter")?.extract()?,
                ping: boxed(&item("ping")?)?,
                pong: Some(item("pong")?)
                    .filter(|pong| !pong.is_none())
                    .map(|pong| boxed(&pong))
                    .transpose()?,
                answers: item("answers")?
                    .cast::<PyDict>()?
                    .iter()
                    .map(|(ask, answer)| Ok((boxed(&ask)?, boxed(&answer)?)))
                    .collect::<PyResult<_>>()?,
            }),
        };
        let rate = |kind: &str| {
            let Some(rate) = item(&format!("{kind}_rate"))?.extract::<Option<f64>>()? else {
                return Ok(None);
            };
            let burst = item(&format!("{kind}_burst"))?.extract()?;
            Rate::new(rate, burst)
                .map(Some)
                .ok_or_else(|| PyValueError::new_err(format!("{kind}_rate is {rate}")))
        };
        let message_rate = rate("message")?;
        let handlers = size("handlers")?;
        let soft = size("soft")?;
        Ok(Self {
            timed: heartbeat.is_some()
                || deadlines.first_message < f64::INFINITY
                || deadlines.idle < f64::INFINITY
                || deadlines.idle_read < f64::INFINITY,
            watches_writes: soft < usize::MAX || deadlines.write_stall < f64::INFINITY,
            bounds_messages: handlers < usize::MAX || heartbeat.is_some() || message_rate.is_some(),
            deadlines,
            heartbeat,
            low: size("low")?,
            high: size("high")?,
            soft,
            soft_seconds: item("soft_seconds")?.extract()?,
            hard: size("hard")?,
            handlers,
            message_rate,
            byte_rate: rate("byte")?,
            queued_bytes: size("queued_bytes")?,
            when_slow: WhenSlow::parse(item("when_slow")?.extract()?)?,
            droppable: item("droppable")?.extract()?,
            proxy: match item("proxy_protocol")?.extract()? {
                "off" => Proxy::Off,
                "optional" => Proxy::Optional,
                _ => Proxy::Required,
            },
            proxies: nets(&item("proxies")?)?,
            dry_run: item("dry_run")?
                .try_iter()?
                .map(|name| name?.extract())
                .collect::<PyResult<_>>()?,
        })
    }
}

fn boxed(bytes: &Bound<'_, PyAny>) -> PyResult<Box<[u8]>> {
    Ok(bytes.cast::<PyBytes>()?.as_bytes().into())
}

fn nets(list: &Bound<'_, PyAny>) -> PyResult<Nets> {
    let texts = list.try_iter()?.map(|text| text?.extract()).collect::<PyResult<Vec<String>>>()?;
    Nets::parse(texts).map_err(|error| PyValueError::new_err(error.to_string()))
}

/// What the gate of a server lets in.
pub fn gate(dict: &Bound<'_, PyDict>) -> PyResult<GateOptions> {
    let item = |key: &str| {
        dict.get_item(key)?.ok_or_else(|| PyKeyError::new_err(format!("no option {key:?}")))
    };
    let count = |key| item(key)?.extract::<Option<u32>>();
    let accept_rate = match item("accept_rate")?.extract::<Option<f64>>()? {
        None => None,
        Some(rate) => Rate::new(rate, item("accept_burst")?.extract()?),
    };
    let ban = match item("ban_after")?.extract::<Option<u32>>()? {
        None => None,
        Some(after) => Some(Ban {
            after,
            within: item("ban_within")?.extract()?,
            seconds: item("ban_seconds")?.extract()?,
        }),
    };
    let mut dry_run = DryRun::default();
    for name in item("dry_run")?.try_iter()? {
        if let Some(reason) = Reason::of_option(name?.extract()?) {
            dry_run = dry_run.with(reason);
        }
    }
    Ok(GateOptions {
        connections: count("connections")?,
        per_address: count("per_address")?,
        per_subnet: count("per_subnet")?,
        subnet_v4: item("subnet_v4")?.extract()?,
        subnet_v6: item("subnet_v6")?.extract()?,
        accept_rate,
        ban,
        allow: nets(&item("allow")?)?,
        deny: nets(&item("deny")?)?,
        dry_run,
        ..GateOptions::default()
    })
}
