//! Who waits for a turn, and who is behind a token.

use std::os::fd::RawFd;

use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit, intern};
use wireway_core::op::Token;

use crate::handle::Handle;
use crate::listener::Listener;
use crate::transport::StreamTransport;

use super::LoopCore;
use crate::connection::Connection;

/// Something that waits for its turn.
pub enum Ready {
    /// One of our handles.
    Ours(Handle),
    /// A handle of the standard library's (debug mode, subclasses): run by its own `_run`.
    Stock(Py<PyAny>),
}

/// Who is behind a token.
#[derive(Default)]
pub enum Endpoint {
    /// Nobody.
    #[default]
    None,
    /// A descriptor given to `add_reader` or `add_writer`.
    Watch(RawFd),
    /// A listening socket.
    Listener(Py<Listener>),
    /// A stream of a protocol.
    Transport(Py<StreamTransport>),
    /// A connection of a server.
    Connection(Py<Connection>),
}

impl Ready {
    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self {
            Self::Ours(handle) => handle.traverse(visit),
            Self::Stock(handle) => visit.call(handle),
        }
    }

    /// It will never run. A handle of the standard library's is the collector's to see through.
    pub fn forget(self) {
        if let Self::Ours(handle) = self {
            handle.forget();
        }
    }

    /// Whether it was cancelled.
    pub fn cancelled(&self, py: Python<'_>) -> bool {
        match self {
            Self::Ours(handle) => handle.cancelled(),
            Self::Stock(handle) => handle
                .bind(py)
                .getattr(intern!(py, "_cancelled"))
                .and_then(|flag| flag.is_truthy())
                .unwrap_or(false),
        }
    }
}

impl LoopCore {
    /// Puts an endpoint behind a token.
    pub(crate) fn place(&self, token: Token, endpoint: Endpoint) {
        let mut endpoints = self.endpoints.borrow_mut();
        if endpoints.len() <= token.index() {
            endpoints.resize_with(token.index() + 1, Endpoint::default);
        }
        let former = std::mem::replace(&mut endpoints[token.index()], endpoint);
        drop(endpoints);
        drop(former);
    }

    /// Puts a transport or connection behind a token and its descriptor number.
    pub(crate) fn place_stream(&self, token: Token, fd: RawFd, endpoint: Endpoint) {
        self.place(token, endpoint);
        let mut streams = self.streams.borrow_mut();
        if streams.len() <= fd as usize {
            streams.resize(fd as usize + 1, 0);
        }
        streams[fd as usize] = token.index() as u32 + 1;
    }

    /// Takes a transport or connection from behind its token and descriptor number.
    pub(crate) fn displace_stream(&self, token: Token, fd: RawFd) -> Endpoint {
        if let Ok(number) = usize::try_from(fd)
            && let Some(slot) = self.streams.borrow_mut().get_mut(number)
            && *slot == token.index() as u32 + 1
        {
            *slot = 0;
        }
        self.displace(token)
    }

    /// The slot of the transport or connection that has a descriptor number.
    pub(crate) fn stream_slot(&self, fd: RawFd) -> Option<usize> {
        let streams = self.streams.borrow();
        let slot = *streams.get(usize::try_from(fd).ok()?)?;
        (slot != 0).then(|| slot as usize - 1)
    }

    /// Takes the endpoint from behind a token.
    pub(crate) fn displace(&self, token: Token) -> Endpoint {
        let mut endpoints = self.endpoints.borrow_mut();
        endpoints.get_mut(token.index()).map(std::mem::take).unwrap_or_default()
    }
}
