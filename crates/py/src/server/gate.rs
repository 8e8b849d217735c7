//! Who comes in: the gate of a server, and what a PROXY header says before the first message.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use pyo3::prelude::*;
use wireway_core::limit::{Reason, Refusal};
use wireway_core::proxy::{self, Parsed};

use crate::connection::Connection;
use crate::event_loop::LoopCore;

use super::options::Proxy;
use super::record::{Death, Record};
use super::{ServerCore, peer_of};

impl ServerCore {
    /// A socket was accepted. `secured`: TLS comes first.
    pub fn accepted(
        slf: &Bound<'_, Self>,
        core: &Bound<'_, LoopCore>,
        fd: OwnedFd,
        secured: bool,
    ) -> PyResult<()> {
        let this = slf.get();
        let now = core.get().now();
        let peer = peer_of(&fd);
        let options = &this.options;
        let listed = options.proxies.is_empty()
            || peer.is_some_and(|peer| options.proxies.contains(peer.ip()));
        let proxied = options.proxy != Proxy::Off && listed;
        if options.proxy == Proxy::Required && !listed {
            let who = peer.map_or_else(|| "a peer".to_owned(), |peer| peer.ip().to_string());
            let why = format!("{who} is none of the proxies");
            let told = this.refused(core, "denied", why, peer, now);
            drop(fd);
            core.get().descriptor_freed();
            return told;
        }
        let ip = if proxied { None } else { peer.map(|peer| peer.ip()) };
        if let Err(refusal) = this.admit(|gate| gate.admit(ip, now)) {
            let told = this.refused(core, refusal.reason().code(), refusal.to_string(), peer, now);
            drop(fd);
            core.get().descriptor_freed();
            return told;
        }
        let connection = match Connection::open(core, slf.clone().unbind(), fd, peer) {
            Ok(connection) => connection,
            Err(error) => {
                this.gate.borrow_mut().left(ip);
                return Err(error);
            }
        };
        connection.get().gated(ip.is_some());
        if secured {
            connection.get().secure();
        }
        if proxied {
            connection.get().await_header(core.get());
            return Ok(());
        }
        connection.get().begin(&connection, core)
    }

    /// Asks the gate, and counts what a limit that is only tried would have refused.
    pub fn admit(
        &self,
        ask: impl FnOnce(&mut wireway_core::limit::Gate) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        ask(&mut self.gate.borrow_mut())
    }

    /// What limits of the gate that are only tried would have refused, by option.
    pub(super) fn would_refuse(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let gate = self.gate.borrow();
        let counts = Reason::ALL.map(|reason| (reason.option(), gate.would_refuse(reason)));
        counts.into_iter().filter(|&(_, count)| count > 0)
    }

    /// A connection was not let in: it is counted, told to who wants to know, and closed with its descriptor.
    fn refused(
        &self,
        core: &Bound<'_, LoopCore>,
        code: &'static str,
        why: String,
        peer: Option<SocketAddr>,
        now: f64,
    ) -> PyResult<()> {
        let py = core.py();
        let id = self.counts.refused(code);
        let record = Record {
            id,
            code,
            why,
            errno: None,
            peer,
            phase: "first-message",
            death: Death::default(),
            queued: 0,
            backlog: 0,
            partial: 0,
            at: now,
            age: 0.0,
            idle_in: 0.0,
            idle_out: 0.0,
            messages: (0, 0),
            bytes: (0, 0),
        };
        let tell = self.with_handlers(|handlers| {
            handlers.refused.as_ref().map(|refused| refused.clone_ref(py))
        });
        let told = match tell.flatten() {
            Some(tell) => {
                record.evidence(py, None).and_then(|evidence| tell.call1(py, (evidence,))).map(drop)
            }
            None => Ok(()),
        };
        self.keep(record);
        told
    }
}

/// What the bytes before the first message say.
pub enum Header {
    /// More will tell.
    Need,
    /// So many bytes are the header; the client's address and the one it connected to, if it says.
    Whole(usize, Option<(SocketAddr, SocketAddr)>),
    /// It is missing or wrong.
    Bad(String),
}

/// Reads the PROXY header at the front of what came.
pub fn read_header(mode: Proxy, data: &[u8]) -> Header {
    match proxy::parse(data) {
        Parsed::Need => Header::Need,
        Parsed::Absent if mode == Proxy::Optional => Header::Whole(0, None),
        Parsed::Absent => Header::Bad("a PROXY header must come first, and none came".to_owned()),
        Parsed::Header { length, source, destination } => {
            Header::Whole(length, source.zip(destination))
        }
        Parsed::Bad(text) => Header::Bad(text),
    }
}
