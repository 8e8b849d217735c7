//! HTTP/1.1 requests, sans I/O: bytes to heads and bodies. The grammar of a head is the `httparse` crate's.
//!
//! Owns what a server may believe of a request: where its body ends above all. Two programs that read the same
//! bytes and do not agree on that point are how requests are smuggled (RFC 9112, 11.2), so nothing here is lenient:
//! what the specification lets a server repair is refused with a status, and the connection is closed. Knows no
//! sockets, no Python and no responses.
//!
//! ```text
//!    head ──────────────> body of Content-Length bytes ──┐
//!      │ └──────────────> chunked: size, data, CRLF … ───┤ ──> the next head
//!      │                              └─> trailers ──────┤
//!      └─ no body ───────────────────────────────────────┘
//! ```

mod body;
mod head;

pub use body::{Body, Piece};
pub use head::{Head, parse};
pub use httparse::Header;

/// What is refused, with the status that says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HttpError {
    /// 400, 413, 414, 417, 431, 501 or 505.
    pub status: u16,
    /// What is wrong, for people.
    pub text: &'static str,
}

impl HttpError {
    const fn new(status: u16, text: &'static str) -> Self {
        Self { status, text }
    }

    const fn bad(text: &'static str) -> Self {
        Self::new(400, text)
    }
}

impl std::fmt::Display for HttpError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.text)
    }
}

impl std::error::Error for HttpError {}

/// How much of a request is taken before it is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HttpLimits {
    /// Bytes of a head, its request line and its last empty line included; also of trailers.
    pub head: usize,
    /// Fields of a head.
    pub fields: usize,
    /// Bytes of a body.
    pub body: u64,
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self { head: 64 * 1024, fields: 100, body: u64::MAX }
    }
}
