//! TLS: two sessions and a wire of bytes between them, and what can go wrong, made for real.

#[path = "tls/certificates.rs"]
mod certificates;
#[path = "tls/cost.rs"]
mod cost;
#[path = "tls/failures.rs"]
mod failures;
#[path = "tls/handshakes.rs"]
mod handshakes;
#[path = "tls/keys.rs"]
mod keys;
#[path = "tls/support.rs"]
mod support;
#[path = "tls/traffic.rs"]
mod traffic;
