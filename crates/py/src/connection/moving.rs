//! A connection goes on in another process: its picture, what becomes of it here, and how it is made from a picture.
//!
//! Owns the words of the picture. Knows neither processes nor how a picture gets from one to another.
//!
//! ```text
//!            hush              export                      moved
//!   serves -------> finishes ---------> stands still, whole -------> gone, without a word to the peer
//!      ^               |                      |
//!      +---------------+----------------------+   unhush: as if nothing had been
//! ```
//!
//! Between `export` and `moved` nothing else may run on the loop: what the program sends meanwhile would be on both sides.

use std::net::SocketAddr;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use wireway_core::op::Completion;

use crate::errors::os_error;
use crate::event_loop::LoopCore;
use crate::server::ServerCore;
use crate::server::record::Death;

use super::extra::Rest;
use super::{Connection, Flag};

/// Which words a picture has. A program that does not know them refuses it.
const VERSION: u32 = 1;

/// The code of a connection that another process serves.
const CODE: &str = "handed-over";

impl Connection {
    /// No handler begins any more; what comes waits.
    pub fn hush(&self) {
        self.flags.set(Flag::MOVING);
    }

    /// Goes on.
    pub fn unhush(&self, slf: &Bound<'_, Self>, core: &Bound<'_, LoopCore>) -> PyResult<()> {
        if !self.flags.clear(Flag::MOVING) || self.flags.any(Flag::CLOSED) {
            return Ok(());
        }
        if self.conn.borrow().queued() > 0 && !self.flags.any(Flag::DIRTY) {
            self.flags.set(Flag::DIRTY);
            core.get().reactor.mark_dirty(self.token);
        }
        if !self.flags.any(Flag::PAUSED | Flag::CLOSING | Flag::ENDED) {
            // ENOENT once detached: there is nothing to read from.
            let _ = self.conn.borrow().receive(&*core.get().reactor.driver);
        }
        self.attend(core.get());
        self.go_on(slf, core)
    }

    /// Why it can not move now, in words.
    pub fn stays(&self) -> Option<&'static str> {
        let flags = &self.flags;
        if !flags.any(Flag::MOVING) || flags.any(Flag::CLOSING | Flag::CLOSED | Flag::STOPPING) {
            return Some("it is closing");
        }
        if flags.any(Flag::SECURE) {
            return Some("it is under TLS, whose keys do not move");
        }
        if flags.any(Flag::PULLED | Flag::AWAITED) {
            return Some("its messages are pulled by a conversation");
        }
        if flags.any(Flag::BUSY | Flag::WORKING) {
            return Some("a handler runs");
        }
        if flags.any(Flag::ENDED | Flag::HALF | Flag::LINGERS) {
            return Some("one side has ended it");
        }
        if flags.any(Flag::HEADER) {
            return Some("its PROXY header has not come");
        }
        if flags.any(Flag::REFRAMED) {
            return Some("it has a framing of its own");
        }
        if flags.any(Flag::ANSWERED) {
            return Some("answers of its peer are awaited");
        }
        let waited = self.if_extra(|extra| !extra.waiters.is_empty() || !extra.aside.is_empty());
        waited.unwrap_or(false).then_some("somebody waits for it")
    }

    /// Stops it and tells all that another process must know, and its descriptor, which stays its own.
    pub fn export<'py>(
        &self,
        slf: &Bound<'py, Self>,
        core: &Bound<'py, LoopCore>,
    ) -> PyResult<(RawFd, Bound<'py, PyDict>)> {
        let py = slf.py();
        if let Some(why) = self.stays() {
            return Err(PyRuntimeError::new_err(why));
        }
        self.queue_outbox(core.get());
        let reactor = &core.get().reactor;
        let before = self.conn.borrow().queued();
        let withdrawn = self.conn.borrow_mut().withdraw(&*reactor.driver, &reactor.pool);
        let (came, end) = withdrawn.map_err(|error| os_error(&error))?;
        self.server.get().count_sent(before - self.conn.borrow().queued());
        if !came.is_empty() {
            self.note_received(core.get(), came.len());
        }
        // From here on all that was not handled is in the backlog, as it was on the wire.
        let mut bytes = self.decoder.borrow_mut().switch();
        self.extra(|extra| {
            let backlog = std::mem::take(&mut extra.backlog);
            bytes.extend_from_slice(&backlog.bytes[backlog.start..]);
            bytes.extend_from_slice(&came);
            extra.backlog = Rest { bytes, start: 0 };
        });
        if let Some(end) = end {
            self.completed(slf, core, Completion::ReceiveEnded(end))?;
            return Err(PyRuntimeError::new_err("its peer has ended it"));
        }
        Ok((self.conn.borrow().fd(), self.picture(py, core.get())?))
    }

    fn picture<'py>(&self, py: Python<'py>, core: &LoopCore) -> PyResult<Bound<'py, PyDict>> {
        let dict = PyDict::new(py);
        macro_rules! put {
            ($($name:literal: $value:expr),* $(,)?) => {
                $(dict.set_item(intern!(py, $name), $value)?;)*
            };
        }
        let (account, now) = (&self.account, core.now());
        let unsent = self.conn.borrow().unsent();
        let name = |address: SocketAddr| address.to_string();
        let (received, groups, user, local) = self.extra(|extra| {
            let received = PyBytes::new(py, &extra.backlog.bytes[extra.backlog.start..]);
            let groups: Vec<String> = extra.groups.iter().map(ToString::to_string).collect();
            (received, groups, extra.user.as_ref().map(ToString::to_string), extra.local)
        });
        put! {
            "version": VERSION,
            "received": received,
            "queued": PyBytes::new(py, &unsent),
            "groups": groups,
            "user": user,
            "peer": self.peer.get().map(name),
            "local": local.map(name),
            "proxied": self.flags.any(Flag::PROXIED),
            "paused": self.flags.any(Flag::HUSHED),
            "spoken": self.flags.any(Flag::SPOKEN),
            "age": now - account.opened.get(),
            "silent": now - account.last_in.get(),
            "messages": (account.messages_in.get(), account.messages_out.get()),
            "bytes": (account.bytes_in.get(), account.written.get()),
        }
        Ok(dict)
    }

    /// Another process serves it: it ends here, and the TCP connection goes on there.
    pub fn moved_away(&self, slf: &Bound<'_, Self>, core: &Bound<'_, LoopCore>) -> PyResult<()> {
        let py = slf.py();
        if self.flags.any(Flag::CLOSED) {
            return Ok(());
        }
        self.keep_farewell(core.get(), CODE, "another process serves it".to_owned(), None);
        self.flags.set(Flag::CLOSING | Flag::CLOSED);
        // No autopsy: reading SO_ERROR would take an error from who serves it now.
        let record = self.record_with(py, core.get(), Death::default());
        self.tap_ended(py, record.code, &record.why);
        self.release(core.get());
        let server = self.server.get();
        self.leave_all(server);
        self.leave_gate(core.get(), CODE);
        server.closed(py, record)
    }

    /// Makes a connection from its picture. It stands still until `unhush`.
    pub fn adopt<'py>(
        server: &Bound<'py, ServerCore>,
        core: &Bound<'py, LoopCore>,
        fd: RawFd,
        picture: &Bound<'py, PyDict>,
    ) -> PyResult<Bound<'py, Self>> {
        let picture = Picture::read(picture)?;
        // SAFETY: the caller gives the descriptor away, and nothing below refuses without owning it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        let ip = if picture.proxied { None } else { picture.peer.map(|peer| peer.ip()) };
        let this = core.get();
        let now = this.now();
        // It was let in before: a limit that it is over only does not count it.
        let gated = server.get().admit(|gate| gate.admit(ip, now)).is_ok();
        let bound = Self::open(core, server.clone().unbind(), fd, picture.peer)?;
        let connection = bound.get();
        if gated {
            connection.gated(ip.is_some());
        }
        server.get().adopted();
        let bits = [
            (true, Flag::MOVING),
            (picture.proxied, Flag::PROXIED),
            (picture.paused, Flag::HUSHED),
            (picture.spoken, Flag::SPOKEN),
        ];
        bits.iter().filter(|(set, _)| *set).for_each(|(_, bit)| connection.flags.set(*bit));
        let account = &connection.account;
        account.opened.set(now - picture.age);
        account.last_in.set(now - picture.silent);
        account.messages_in.set(picture.messages.0);
        account.messages_out.set(picture.messages.1);
        account.bytes_in.set(picture.bytes.0);
        account.written.set(picture.bytes.1);
        connection.conn.borrow_mut().write(&this.reactor.pool, &picture.queued);
        for group in picture.groups {
            if server.get().join(&group, connection.token) {
                connection.extra(|extra| extra.groups.push(group.into()));
            }
        }
        if let Some(user) = picture.user {
            server.get().bind_user(None, Some(&user), connection.token);
            connection.extra(|extra| extra.user = Some(user.into()));
        }
        if picture.local.is_some() {
            connection.extra(|extra| extra.local = picture.local);
        }
        if !picture.received.is_empty() {
            connection.extra(|extra| extra.backlog = Rest { bytes: picture.received, start: 0 });
        }
        connection.arm(this);
        Ok(bound)
    }
}

/// A picture, read and checked.
struct Picture {
    received: Vec<u8>,
    queued: Vec<u8>,
    groups: Vec<String>,
    user: Option<String>,
    peer: Option<SocketAddr>,
    local: Option<SocketAddr>,
    proxied: bool,
    paused: bool,
    spoken: bool,
    age: f64,
    silent: f64,
    messages: (u64, u64),
    bytes: (u64, u64),
}

impl Picture {
    fn read(dict: &Bound<'_, PyDict>) -> PyResult<Self> {
        let version: u32 = item(dict, "version")?;
        if version != VERSION {
            return Err(PyValueError::new_err(format!(
                "the picture of a connection is of version {version}, this program knows {VERSION}"
            )));
        }
        let address = |name| {
            let text: Option<String> = item(dict, name)?;
            let wrong = |_| PyValueError::new_err(format!("{name} of a picture is no address"));
            text.map(|text| text.parse().map_err(wrong)).transpose()
        };
        Ok(Self {
            received: item(dict, "received")?,
            queued: item(dict, "queued")?,
            groups: item(dict, "groups")?,
            user: item(dict, "user")?,
            peer: address("peer")?,
            local: address("local")?,
            proxied: item(dict, "proxied")?,
            paused: item(dict, "paused")?,
            spoken: item(dict, "spoken")?,
            age: item(dict, "age")?,
            silent: item(dict, "silent")?,
            messages: item(dict, "messages")?,
            bytes: item(dict, "bytes")?,
        })
    }
}

fn item<'py, T: for<'a> FromPyObject<'a, 'py>>(
    dict: &Bound<'py, PyDict>,
    name: &str,
) -> PyResult<T> {
    let missing = || PyValueError::new_err(format!("the picture of a connection has no {name:?}"));
    let value = dict.get_item(name)?.ok_or_else(missing)?;
    let wrong = |_| PyValueError::new_err(format!("{name} of a picture is wrong"));
    value.extract::<T>().map_err(wrong)
}
