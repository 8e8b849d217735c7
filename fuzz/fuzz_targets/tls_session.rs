//! A session of TLS: no bytes panic, and where they are cut changes nothing.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use wireway_core::tls::{IdentityPem, ServerTls, ServerTlsOptions, Session};

static SERVER: LazyLock<ServerTls> = LazyLock::new(|| {
    let identity = IdentityPem {
        cert: include_bytes!("../../crates/core/tests/tls/data/cert.pem").to_vec(),
        key: include_bytes!("../../crates/core/tests/tls/data/p8.pem").to_vec(),
        password: None,
    };
    ServerTls::new(&ServerTlsOptions { identities: vec![identity], ..ServerTlsOptions::default() }).unwrap()
});

fuzz_target!(|input: (u8, u8, &[u8])| {
    let (front, piece, body) = input;
    // A record header most of the time, else nearly nothing would be read.
    let length = (body.len() as u16).to_be_bytes();
    let header = [22, 3, 1, length[0], length[1]];
    let front = if front % 4 == 0 { &[][..] } else { &header[..] };
    let data = [front, body].concat();

    let said = |piece: usize| {
        let mut session = Session::server(&SERVER).unwrap();
        session.send(b"early");
        let mut said = Ok(());
        for cut in data.chunks(piece) {
            let now = session.receive(cut, &mut |_| panic!("plaintext without a handshake"));
            if said.is_err() {
                assert_eq!(now, said);
            }
            said = now;
        }
        let mut wire = Vec::new();
        assert_eq!(session.outgoing(&mut wire), wire.len());
        assert!(session.is_handshaking() && session.end().is_err());
        session.facts();
        said.map_err(|error| error.code)
    };
    assert_eq!(said(usize::from(piece) + 1), said(usize::MAX));
});
