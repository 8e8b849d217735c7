//! Files of TLS: certificates and keys of any bytes are read or refused in words.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wireway_core::tls::certificate::Certificate;
use wireway_core::tls::{IdentityPem, ServerTls, ServerTlsOptions};

fuzz_target!(|input: (u8, &[u8])| {
    let (kind, body) = input;
    if let Ok(read) = Certificate::parse(body) {
        assert_eq!(read.sha256.len(), 64);
        assert!(!read.serial.is_empty());
    }
    let good = include_bytes!("../../crates/core/tests/tls/data/cert.pem").to_vec();
    let (cert, key) = if kind % 2 == 0 { (body.to_vec(), good) } else { (good, body.to_vec()) };
    let identity = IdentityPem { cert, key, password: Some(b"secret".to_vec()) };
    let options = ServerTlsOptions { identities: vec![identity], ..ServerTlsOptions::default() };
    if let Err(error) = ServerTls::new(&options) {
        assert_eq!(error.code, "tls-options");
        assert!(!error.text.is_empty());
    }
});
