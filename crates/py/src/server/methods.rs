//! What the Python half calls on a server.

use std::cell::{Cell, RefCell};
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};
use pyo3::{PyTraverseError, PyVisit};
use wireway_core::limit::Gate;
use wireway_core::timer::wheel::Wheel;

use crate::connection::Connection;
use crate::event_loop::{Endpoint, LoopCore};
use crate::interp;
use crate::outcome;

use super::options::{self, Options, WhenSlow};
use super::record::Record;
use super::tls::Role;
use super::{Handlers, RECORDS, ServerCore, fanout, peer_of, stats};

#[pymethods]
impl ServerCore {
    /// `framing` is what `_native()` of a framing gives, `handlers` has the keys `message`, `batch`, `connect`, `closed`,
    /// `wants_close` and `refused`, `options` is what `wireway.config.native_options` gives.
    #[new]
    fn new(
        py: Python<'_>,
        core: Py<LoopCore>,
        framing: &Bound<'_, PyAny>,
        handlers: &Bound<'_, PyDict>,
        options: &Bound<'_, PyDict>,
    ) -> PyResult<Self> {
        outcome::learn(py)?;
        let handlers = Handlers::read(handlers)?;
        Ok(Self {
            core,
            framing: crate::framing::parse(framing)?,
            options: Options::read(options)?,
            correlate: options
                .get_item("correlate")?
                .filter(|correlate| !correlate.is_none())
                .map(Bound::unbind),
            pulled: handlers.messages.is_none(),
            handlers: RefCell::new(Some(handlers)),
            context: interp::copy_context(py)?,
            counts: stats::Counts::default(),
            gate: RefCell::new(Gate::new(options::gate(options)?)),
            groups: RefCell::default(),
            users: RefCell::default(),
            records: RefCell::default(),
            held: RefCell::default(),
            drained: RefCell::new(None),
            spending: Cell::new(false),
            tls: RefCell::new(None),
            handshake: Cell::new(f64::INFINITY),
            noticing: RefCell::default(),
        })
    }

    /// Takes over a connected, non-blocking stream socket: from now on the connection owns the descriptor.
    ///
    /// With `shaken` TLS comes first, and `shaken()` is called when its handshake is done.
    #[pyo3(signature = (fd, shaken = None))]
    fn adopt<'py>(
        slf: &Bound<'py, Self>,
        fd: RawFd,
        shaken: Option<Py<PyAny>>,
    ) -> PyResult<Bound<'py, Connection>> {
        let core = slf.get().core(slf.py());
        core.get().check()?;
        // SAFETY: the caller gives the descriptor away.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        let peer = peer_of(&fd);
        let connection = Connection::open(core, slf.clone().unbind(), fd, peer)?;
        if let Some(shaken) = shaken {
            connection.get().secure_with(shaken);
        }
        connection.get().begin(&connection, core)?;
        Ok(connection)
    }

    /// A descriptor that a listener had accepted when it was closed. Passes the gate as any other.
    fn _accepted(slf: &Bound<'_, Self>, fd: RawFd, secured: bool) -> PyResult<()> {
        let core = slf.get().core(slf.py());
        // SAFETY: the listener gives the descriptor away.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        core.get().check()?;
        Self::accepted(slf, core, fd, secured)
    }

    /// What the handshakes of those who come from now on are made with: a `TlsServer`, or a `TlsClient` and the name
    /// of its server. A handshake may take so many seconds.
    fn _secure(&self, tls: &Bound<'_, PyAny>, name: Option<String>, seconds: f64) -> PyResult<()> {
        let role = Role::read(tls, name)?;
        self.handshake.set(seconds);
        let former = self.tls.borrow_mut().replace(role);
        drop(former);
        Ok(())
    }

    /// Serves a connection from its picture: see `connection/moving.rs`. It stands still until `_unhush`. A picture
    /// that is not understood is a `ValueError`, and the descriptor the caller's.
    fn _adopt<'py>(
        slf: &Bound<'py, Self>,
        fd: RawFd,
        picture: &Bound<'py, PyDict>,
    ) -> PyResult<Bound<'py, Connection>> {
        let core = slf.get().core(slf.py());
        core.get().check()?;
        Connection::adopt(slf, core, fd, picture)
    }

    /// `call(connection)` hears of each connection that is new or has got another name.
    fn _notice(&self, call: Py<PyAny>) {
        self.noticing.borrow_mut().push(call);
    }

    /// It hears no more.
    fn _ignore(&self, py: Python<'_>, call: &Bound<'_, PyAny>) -> PyResult<()> {
        let mut kept = Vec::new();
        let former = self.noticing.take();
        for each in former {
            if !each.bind(py).eq(call)? {
                kept.push(each);
            }
        }
        drop(self.noticing.replace(kept));
        Ok(())
    }

    /// The open connections.
    fn connections(slf: &Bound<'_, Self>) -> Vec<Py<Connection>> {
        let py = slf.py();
        let endpoints = slf.get().core.get().endpoints.borrow();
        endpoints
            .iter()
            .filter_map(|endpoint| match endpoint {
                Endpoint::Connection(connection) if connection.get().belongs_to(slf) => {
                    Some(connection.clone_ref(py))
                }
                _ => None,
            })
            .collect()
    }

    /// Whether somebody watches the connections, now and again.
    fn _watch(&self, watched: bool) {
        self.counts.watched.set(watched);
    }

    /// The open connection of that number.
    fn _find(slf: &Bound<'_, Self>, number: u64) -> Option<Py<Connection>> {
        let endpoints = slf.get().core.get().endpoints.borrow();
        endpoints.iter().find_map(|endpoint| match endpoint {
            Endpoint::Connection(connection)
                if connection.get().number() == number && connection.get().belongs_to(slf) =>
            {
                Some(connection.clone_ref(slf.py()))
            }
            _ => None,
        })
    }

    /// What is known of the connections that ended, oldest first: the last `most` of the last 10,000. `code`: only of
    /// those that ended so; `after`: only of those that ended later on the loop's clock, seconds; `skip`: without so many
    /// of the newest.
    #[pyo3(signature = (most = RECORDS, code = None, after = f64::NEG_INFINITY, skip = 0))]
    fn records<'py>(
        &self,
        py: Python<'py>,
        most: usize,
        code: Option<&str>,
        after: f64,
        skip: usize,
    ) -> PyResult<Bound<'py, PyList>> {
        let list = PyList::empty(py);
        let records = self.records.borrow();
        let wanted =
            |record: &&Record| record.at > after && code.is_none_or(|code| record.code == code);
        let newest = records.iter().rev().map(|record| &**record);
        let found: Vec<_> = newest.filter(wanted).skip(skip).take(most).collect();
        for record in found.into_iter().rev() {
            list.append(record.evidence(py, None)?)?;
        }
        Ok(list)
    }

    /// `callback()` runs once when no connection is open, at once if none is.
    fn when_drained(&self, callback: Py<PyAny>) -> PyResult<()> {
        if self.counts.open.get() == 0 {
            // SAFETY: a method of a Python class runs with the GIL held.
            let py = unsafe { Python::assume_attached() };
            return callback.call0(py).map(drop);
        }
        let former = self.drained.borrow_mut().replace(callback);
        drop(former);
        Ok(())
    }

    /// The counts so far, see `wireway.net.server.ServerStats`.
    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let dict = self.counts.to_dict(py, self.would_refuse())?;
        dict.set_item("queued", self.core.get().reactor.pool.queued())?;
        dict.set_item("turn_seconds", self.core.get().turns.to_dict(py)?)?;
        Ok(dict)
    }

    /// Times handlers from now on.
    fn time_handlers(&self) {
        self.counts.timed.set(true);
    }

    /// Open connections that were open for `age` seconds, idle for `idle` seconds, and that nothing but the loop
    /// holds: no variable, no handler, no group.
    fn leaks(slf: &Bound<'_, Self>, age: f64, idle: f64) -> Vec<Py<Connection>> {
        let (py, core) = (slf.py(), slf.get().core.get());
        let now = core.now();
        let endpoints = core.endpoints.borrow();
        let unheld = |endpoint: &Endpoint| match endpoint {
            Endpoint::Connection(connection)
                if connection.get().belongs_to(slf)
                    && interp::references(connection) == 1
                    && connection.get().is_forgotten(now, age, idle) =>
            {
                Some(connection.clone_ref(py))
            }
            _ => None,
        };
        endpoints.iter().filter_map(unheld).collect()
    }

    /// Memory that no single connection owns, bytes: `(blocks, driver and wheel, groups and users)`.
    fn _weigh_shared(&self) -> (usize, usize, usize) {
        let reactor = &self.core.get().reactor;
        (
            reactor.pool.heap_size(),
            reactor.driver.shared_size() + Wheel::HEADS,
            self.groups.borrow().heap_size() + self.users.borrow().heap_size(),
        )
    }

    /// Addresses that are banned, and for how many seconds more.
    fn bans<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let dict = PyDict::new(py);
        for (ip, left) in self.gate.borrow_mut().bans(self.core.get().now()) {
            dict.set_item(ip.to_string(), left)?;
        }
        Ok(dict)
    }

    /// Ends the ban of an address; false if it was not banned.
    fn unban(&self, ip: &str) -> PyResult<bool> {
        let ip =
            ip.parse().map_err(|_| PyValueError::new_err(format!("{ip:?} is no IP address")))?;
        Ok(self.gate.borrow_mut().unban(ip))
    }

    /// Sends a message to each connection of a group, or to all, except those in `exclude`: framed once,
    /// shared by all. Returns how many it was queued for.
    #[pyo3(signature = (message, group = None, exclude = Vec::new(), *, key = None, when_slow = None))]
    fn broadcast(
        slf: &Bound<'_, Self>,
        message: &Bound<'_, PyAny>,
        group: Option<&str>,
        exclude: Vec<Py<Connection>>,
        key: Option<&[u8]>,
        when_slow: Option<&str>,
    ) -> PyResult<usize> {
        let when_slow = when_slow.map(WhenSlow::parse).transpose()?;
        let manner = fanout::Manner { key: key.map(Into::into), when_slow };
        slf.get().fan_out(slf, message, fanout::To::group(group), &exclude, &manner)
    }

    /// The same to each connection of a user.
    fn send_to_user(
        slf: &Bound<'_, Self>,
        user: &str,
        message: &Bound<'_, PyAny>,
    ) -> PyResult<usize> {
        let manner = fanout::Manner::default();
        slf.get().fan_out(slf, message, fanout::To::User(user), &[], &manner)
    }

    /// The turn in which too much was queued is over.
    fn _spend_less(slf: &Bound<'_, Self>) -> PyResult<()> {
        slf.get().judge_spending(slf.get().core(slf.py()))
    }

    /// The connections of a group.
    fn members(slf: &Bound<'_, Self>, group: &str) -> Vec<Py<Connection>> {
        slf.get().living(slf.py(), &slf.get().groups.borrow().members(group))
    }

    /// The connections of a user.
    fn connections_of(slf: &Bound<'_, Self>, user: &str) -> Vec<Py<Connection>> {
        slf.get().living(slf.py(), &slf.get().users.borrow().members(user))
    }

    /// Each group and how many connections it has.
    fn group_counts<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let dict = PyDict::new(py);
        for (name, count) in self.groups.borrow().counts() {
            dict.set_item(name, count)?;
        }
        Ok(dict)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.core)?;
        visit.call(&self.correlate)?;
        visit.call(&self.context)?;
        if let Ok(handlers) = self.handlers.try_borrow()
            && let Some(handlers) = handlers.as_ref()
        {
            visit.call(&handlers.messages)?;
            visit.call(&handlers.connect)?;
            visit.call(&handlers.closed)?;
            visit.call(&handlers.refused)?;
        }
        if let Ok(held) = self.held.try_borrow() {
            for connection in held.iter() {
                visit.call(connection)?;
            }
        }
        if let Ok(noticing) = self.noticing.try_borrow() {
            for call in noticing.iter() {
                visit.call(call)?;
            }
        }
        if let Ok(drained) = self.drained.try_borrow() {
            visit.call(&*drained)?;
        }
        Ok(())
    }

    fn __clear__(&self) {
        drop(self.handlers.take());
        drop(self.held.take());
        drop(self.drained.take());
        drop(self.noticing.take());
    }
}
