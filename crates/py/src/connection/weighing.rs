//! What a connection weighs: bytes by owner. What the figures are for is told by Python's `wireway.net.memory`.
//!
//! Owns the sums; each structure knows its own size (`heap_size`).

use pyo3::prelude::*;
use wireway_core::sys::info::{SocketMemory, socket_memory};
use wireway_core::timer::wheel::Wheel;

use crate::event_loop::{Endpoint, LoopCore};

use super::extra::{Extra, Farewell, Rates};
use super::{Connection, Flag};

/// Bytes by owner, in the order of `wireway.net.memory.ConnectionMemory`, without what only Python can weigh.
pub type Weights = (usize, usize, usize, usize, usize, usize);

impl Connection {
    /// What it weighs. All is zero once it is closed but for the rare parts that are still in use.
    pub fn weights(&self, core: &LoopCore) -> Weights {
        let conn = self.conn.borrow();
        let kernel = match conn.fd() {
            fd @ 0.. => socket_memory(fd).unwrap_or_default(),
            _ => SocketMemory::default(),
        };
        let (outbox, kept, rare) = self
            .if_extra(|extra| (extra.outbox_size(), extra.kept_size(), extra.own_size()))
            .unwrap_or_default();
        let places = if self.flags.any(Flag::CLOSED) {
            0
        } else {
            // The driver's slot, who is behind it, its place in the wheel, and the way from its descriptor.
            core.reactor.driver.slot_size()
                + size_of::<Endpoint>()
                + Wheel::PLACE
                + size_of::<u32>()
        };
        (
            kernel.received as usize,
            kernel.sent as usize,
            kernel.other as usize,
            conn.heap_size() + outbox,
            self.decoder.borrow().heap_size() + kept,
            places + rare + conn.session_size(),
        )
    }

    /// The Python objects that only it needs: a suspended handler's Task, and futures that wait.
    pub fn companions(&self, py: Python<'_>) -> Vec<Py<PyAny>> {
        self.if_extra(|extra| {
            let receiver = extra.receiver.as_ref().map(|receiver| &receiver.future);
            let all = extra.task.iter().chain(&extra.replies).chain(&extra.waiters).chain(receiver);
            all.map(|object| object.clone_ref(py)).collect()
        })
        .unwrap_or_default()
    }
}

impl Extra {
    fn outbox_size(&self) -> usize {
        self.outbox.as_ref().map_or(0, |outbox| size_of_val(&**outbox) + outbox.heap_size())
    }

    /// Of what came and was not handled.
    fn kept_size(&self) -> usize {
        let objects = self.aside.capacity() * size_of::<Py<PyAny>>();
        self.backlog.bytes.capacity() + self.aside_bytes + objects
    }

    fn own_size(&self) -> usize {
        let names: usize = self.groups.iter().map(|name| name.len()).sum();
        size_of::<Self>()
            + self.waiters.capacity() * size_of::<Py<PyAny>>()
            + self.groups.capacity() * size_of::<Box<str>>()
            + names
            + self.user.as_ref().map_or(0, |user| user.len())
            + self.rates.as_ref().map_or(0, |_| size_of::<Rates>())
            + self
                .farewell
                .as_ref()
                .map_or(0, |farewell| size_of::<Farewell>() + farewell.why.len())
    }
}
