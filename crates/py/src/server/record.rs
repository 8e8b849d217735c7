//! What is known of an ended connection. Kept as it is, and told to Python only when somebody asks: a
//! server that closes 20,000 connections a second makes no objects for them.

use std::net::SocketAddr;

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
pub use wireway_core::sys::info::Death;

use crate::connection::ip_name;

/// The end of one connection.
pub struct Record {
    pub id: u64,
    pub code: &'static str,
    pub why: String,
    pub errno: Option<i32>,
    pub peer: Option<SocketAddr>,
    pub phase: &'static str,
    /// What the kernel knew.
    pub death: Death,
    /// Bytes that waited to be sent.
    pub queued: usize,
    /// Bytes that were received and not handled.
    pub backlog: usize,
    /// Bytes of a frame that had begun.
    pub partial: usize,
    /// On the loop's clock, seconds.
    pub at: f64,
    pub age: f64,
    pub idle_in: f64,
    pub idle_out: f64,
    pub messages: (u64, u64),
    pub bytes: (u64, u64),
}

/// What the kernel knows of a socket that is about to be closed.
pub fn autopsy(fd: i32) -> Death {
    wireway_core::sys::info::autopsy(fd, true)
}

impl Record {
    /// As a dict for `wireway.net.closing.CloseReason`.
    pub fn evidence<'py>(
        &self,
        py: Python<'py>,
        error: Option<Bound<'py, pyo3::exceptions::PyBaseException>>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let dict = PyDict::new(py);
        macro_rules! put {
            ($($name:literal: $value:expr),* $(,)?) => {
                $(dict.set_item(intern!(py, $name), $value)?;)*
            };
        }
        let death = &self.death;
        let info = death.tcp_info.as_ref().map(|info| PyBytes::new(py, info.bytes()));
        put! {
            "id": self.id,
            "code": self.code,
            "why": &self.why,
            "error": error,
            "errno": self.errno,
            "peer": self.peer.map(|peer| ip_name(py, peer)).transpose()?,
            "phase": self.phase,
            "so_error": death.so_error,
            "poll_flags": death.poll_flags,
            "tcp_info": info,
            "unread": death.unread,
            "unsent": death.unsent,
            "queued": self.queued,
            "backlog": self.backlog,
            "partial": self.partial,
            "at": self.at,
            "age": self.age,
            "idle_in": self.idle_in,
            "idle_out": self.idle_out,
            "messages_in": self.messages.0,
            "messages_out": self.messages.1,
            "bytes_in": self.bytes.0,
            "bytes_out": self.bytes.1,
        }
        Ok(dict)
    }
}
