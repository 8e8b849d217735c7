//! TLS 1.2 and 1.3, sans I/O: bytes from the wire in, plaintext out, and the other way round.
//!
//! ```text
//!   PEM ──> pem ──> key, identity ──> config (ServerTls, ClientTls: made once, shared)
//!                                        │
//!   wire ──> Session::receive ──> plain  v           Session::send ──> outgoing ──> wire
//!            session: one connection, rustls inside; failure: what went wrong, as a close code
//! ```
//!
//! The protocol is rustls', its cryptography ring's (see `docs/decisions/0012-rustls.md`). What is ours: files
//! to configurations with errors in words, names to certificates, failures to codes, and buffers that a
//! connection at rest does not hold. Sockets, deadlines and Python are not known here.

pub mod certificate;
mod config;
mod failure;
mod identity;
mod key;
mod pem;
mod rounds;
mod session;
mod verify;

pub use config::{ClientTls, ClientTlsOptions, ServerTls, ServerTlsOptions};
pub use failure::{TlsError, code};
pub use session::{Facts, Session};

/// A certificate chain and its key, as the bytes of PEM files.
#[derive(Clone, Default)]
pub struct IdentityPem {
    /// The certificate, and behind it those of its issuers up to one that the peer knows.
    pub cert: Vec<u8>,
    /// The key: PKCS#8, PKCS#1 (RSA) or SEC1 (EC), plain or encrypted. May be the same file as `cert`.
    pub key: Vec<u8>,
    /// What an encrypted key was encrypted with. Not looked at when the key is not encrypted.
    pub password: Option<Vec<u8>>,
}

impl std::fmt::Debug for IdentityPem {
    /// Says nothing of the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IdentityPem").finish_non_exhaustive()
    }
}

/// Whether a server asks its clients for a certificate.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ClientAuth {
    /// No.
    #[default]
    None,
    /// Yes, and a client that has none is served all the same. One that is bad is refused.
    Optional,
    /// Yes, and no client without one.
    Required,
}

/// A version of the protocol. Older ones than these do not exist here (RFC 8996).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum Version {
    /// RFC 5246.
    #[default]
    Tls12,
    /// RFC 8446.
    Tls13,
}

impl Version {
    /// "TLSv1.2" or "TLSv1.3", as OpenSSL and Python's `ssl` write it.
    pub fn name(self) -> &'static str {
        match self {
            Version::Tls12 => "TLSv1.2",
            Version::Tls13 => "TLSv1.3",
        }
    }
}
