//! What is told of a connection among many: figures without a Python object.

use wireway_core::sys::info::{self, TcpInfo};

use super::{Connection, Flag};

/// A connection in figures.
pub struct Figures {
    /// When they were taken, on the loop's clock, seconds.
    pub at: f64,
    /// Seconds since it was taken over.
    pub age: f64,
    /// Seconds since bytes came or went.
    pub idle: f64,
    /// Bytes in and out, messages in and out.
    pub carried: [u64; 4],
    /// Bytes that wait to be sent.
    pub queued: usize,
    /// Seconds that its handlers took, the present one among them.
    pub handler: f64,
    /// Seconds that the present one has been suspended.
    pub handling: Option<f64>,
}

impl Connection {
    /// Its number at its server.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// What it looks like at `at`.
    pub fn figures(&self, at: f64) -> Figures {
        let account = &self.account;
        let queued = self.conn.borrow().queued();
        let handling = self
            .flags
            .any(Flag::BUSY)
            .then(|| (at - self.if_extra(|extra| extra.busy_since).unwrap_or(at)).max(0.0));
        let out = account.written.get() - queued as u64;
        let messages = (account.messages_in.get(), account.messages_out.get());
        Figures {
            at,
            age: at - account.opened.get(),
            idle: (at - account.last_in.get().max(account.last_out.get())).max(0.0),
            carried: [account.bytes_in.get(), out, messages.0, messages.1],
            queued,
            handler: account.handlers.get() + handling.unwrap_or(0.0),
            handling,
        }
    }

    /// The peer's address as people write it.
    pub fn peer_text(&self) -> String {
        self.peer.get().map_or_else(|| "unix".to_owned(), |peer| peer.to_string())
    }

    /// Whose it is, or nothing.
    pub fn user_text(&self) -> String {
        self.if_extra(|extra| extra.user.as_deref().map(str::to_owned))
            .flatten()
            .unwrap_or_default()
    }

    /// Its groups, sorted.
    pub fn groups_text(&self) -> String {
        self.if_extra(|extra| {
            let mut groups: Vec<&str> = extra.groups.iter().map(|name| &**name).collect();
            groups.sort_unstable();
            groups.join(",")
        })
        .unwrap_or_default()
    }

    /// Whether a text is part of its peer, its user or one of its groups.
    pub fn matches(&self, text: &str) -> bool {
        let named = self.if_extra(|extra| {
            extra.user.iter().chain(&extra.groups).any(|name| name.contains(text))
        });
        named.unwrap_or(false) || self.peer_text().contains(text)
    }

    /// What the kernel knows of it; one system call.
    pub fn kernel(&self) -> Option<TcpInfo> {
        info::tcp_info(self.conn.borrow().fd()).ok()
    }
}
