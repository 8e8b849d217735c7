//! Every code, made for real: two sessions that do not get on, or one against bytes that are no TLS.

use rcgen::{ExtendedKeyUsagePurpose, date_time_ymd};
use wireway_core::tls::{ClientAuth, ClientTls, ServerTls, Session, Version};

use super::support::{Authority, End, Pair, asking, client_options, server_options};

/// Runs it, and gives (client, server) as codes.
fn codes(pair: &mut Pair) -> (&'static str, &'static str) {
    pair.run();
    (pair.client.code(), pair.server.code())
}

fn server_that_gets(bytes: &[u8]) -> End {
    let ca = Authority::new("ca");
    let server = ServerTls::new(&server_options(ca.issue(&["localhost"]))).unwrap();
    let mut end = End::new(Session::server(&server).unwrap());
    end.give(bytes);
    end
}

#[test]
fn garbage() {
    for (bytes, word) in [
        (&b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..], "plain HTTP"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "SSH"),
        (b"\0\0\0\x05hello", "begins with"),
        (b"\x16\x09\x01\x00\x10aaaaaaaaaaaaaaaa", "begins with"),
    ] {
        let mut end = server_that_gets(bytes);
        assert_eq!(end.code(), "tls-garbage", "{bytes:?}: {}", end.text());
        assert!(end.text().contains(word), "{}", end.text());
        assert_eq!(end.take(), [21, 3, 3, 0, 2, 2, 50], "the peer hears decode_error");
        assert_eq!(end.session.receive(b"more", &mut |_| ()).unwrap_err().code, "tls-garbage");
        end.session.send(b"nothing goes any more");
        assert_eq!(end.take(), b"");
    }

    let ca = Authority::new("ca");
    let client = ClientTls::new(&client_options(&ca)).unwrap();
    let mut end = End::new(Session::client(&client, "localhost").unwrap());
    "HTTP/1.1 400 Bad Request\r\n".bytes().for_each(|byte| end.give(&[byte]));
    assert_eq!(end.code(), "tls-garbage");
    assert!(end.text().contains("plain HTTP"), "{}", end.text());
}

#[test]
fn garbage_inside_a_record_header_that_looks_right() {
    let mut end = server_that_gets(&[&[22, 3, 1, 0, 64][..], &[0xAA; 64]].concat());
    assert_eq!(end.code(), "tls-garbage", "{}", end.text());
    assert_eq!(end.take()[0], 21, "an alert");
}

#[test]
fn wrong_host_unknown_authority_and_dates() {
    let (ca, other) = (Authority::new("ca"), Authority::new("other"));
    let cases = [
        (
            ca.issue(&["a.example"]),
            "b.example",
            "tls-wrong-host",
            "is not for \"b.example\" but for a.example",
        ),
        (ca.issue(&[]), "b.example", "tls-wrong-host", "no name at all"),
        (ca.issue(&["*.example"]), "a.b.example", "tls-wrong-host", "*.example"),
        (other.issue(&["b.example"]), "b.example", "tls-unknown-ca", "nobody that is trusted"),
        (
            ca.issue_with(&["b.example"], |params| params.not_after = date_time_ymd(2020, 1, 1)),
            "b.example",
            "tls-expired",
            "has expired",
        ),
        (
            ca.issue_with(&["b.example"], |params| params.not_before = date_time_ymd(4000, 1, 1)),
            "b.example",
            "tls-expired",
            "not valid yet",
        ),
        (
            ca.issue_with(&["b.example"], |params| {
                params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
            }),
            "b.example",
            "tls-bad-certificate",
            "not for a server",
        ),
        (
            ca.issue_with(&["b.example"], |params| {
                params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
            }),
            "b.example",
            "tls-bad-certificate",
            "an authority",
        ),
    ];
    for (identity, name, code, words) in cases {
        let mut pair = Pair::new(&server_options(identity), &client_options(&ca), name);
        assert_eq!(codes(&mut pair), (code, "tls-rejected"), "{}", pair.client.text());
        assert!(pair.client.text().contains(words), "{}", pair.client.text());
        assert!(pair.server.text().contains("alert "), "{}", pair.server.text());
    }

    // And without verification each of them is good enough.
    let mut blind = client_options(&other);
    blind.verify = false;
    let expired =
        ca.issue_with(&["a.example"], |params| params.not_after = date_time_ymd(2020, 1, 1));
    Pair::new(&server_options(expired), &blind, "b.example").connected();
}

#[test]
fn clients_that_show_nothing_or_the_wrong_thing() {
    let (ca, other) = (Authority::new("ca"), Authority::new("other"));
    let server = asking(ca.issue(&["localhost"]), &ca, ClientAuth::Required);
    let mut pair = Pair::new(&server, &client_options(&ca), "localhost");
    assert_eq!(codes(&mut pair), ("tls-rejected", "tls-no-certificate"));
    assert!(pair.client.text().contains("certificate_required"), "{}", pair.client.text());
    assert!(pair.client.text().contains("wants a certificate of us"), "{}", pair.client.text());

    let expired =
        ca.issue_with(&["c.example"], |params| params.not_after = date_time_ymd(2020, 1, 1));
    for (identity, code, alert) in [
        (other.issue(&["c.example"]), "tls-unknown-ca", "unknown_ca"),
        (expired, "tls-expired", "certificate_expired"),
    ] {
        for auth in [ClientAuth::Required, ClientAuth::Optional] {
            let server = asking(ca.issue(&["localhost"]), &ca, auth);
            let mut client = client_options(&ca);
            client.identity = Some(identity.clone());
            let mut pair = Pair::new(&server, &client, "localhost");
            assert_eq!(codes(&mut pair), ("tls-rejected", code), "{}", pair.client.text());
            assert!(pair.client.text().contains(alert), "{}", pair.client.text());
            assert!(
                pair.server.text().contains("the client's certificate"),
                "{}",
                pair.server.text()
            );
        }
    }
}

#[test]
fn application_protocols_without_one_in_common() {
    let ca = Authority::new("ca");
    let mut server = server_options(ca.issue(&["localhost"]));
    server.alpn = vec![b"mine/2".to_vec()];
    let mut client = client_options(&ca);
    client.alpn = vec![b"mine/1".to_vec()];
    let mut pair = Pair::new(&server, &client, "localhost");
    assert_eq!(codes(&mut pair), ("tls-rejected", "tls-error"));
    assert!(pair.client.text().contains("no_application_protocol"), "{}", pair.client.text());
    assert!(pair.server.text().contains("ALPN"), "{}", pair.server.text());
}

/// A peer of rustls' own that speaks TLS 1.2 only.
pub(crate) mod old {
    use std::sync::Arc;

    use rustls::crypto::ring;
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    use rustls::{
        ClientConfig, ClientConnection, Connection, RootCertStore, ServerConfig, ServerConnection,
    };
    use wireway_core::tls::IdentityPem;

    use super::super::support::{Authority, End};

    const TLS12: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS12];

    pub(crate) fn client_config(ca: &Authority) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(&ca.pem()).unwrap()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let builder = builder.with_protocol_versions(TLS12).unwrap();
        Arc::new(builder.with_root_certificates(roots).with_no_client_auth())
    }

    pub(crate) fn client(config: &Arc<ClientConfig>) -> Connection {
        ClientConnection::new(config.clone(), "localhost".try_into().unwrap()).unwrap().into()
    }

    pub(crate) fn server(identity: &IdentityPem) -> Connection {
        let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let builder = builder.with_protocol_versions(TLS12).unwrap().with_no_client_auth();
        let chain = vec![CertificateDer::from_pem_slice(&identity.cert).unwrap()];
        let key = PrivateKeyDer::from_pem_slice(&identity.key).unwrap();
        let config = builder.with_single_cert(chain, key).unwrap();
        ServerConnection::new(Arc::new(config)).unwrap().into()
    }

    /// Carries bytes between the two until nobody has any. What `peer` receives is returned.
    pub(crate) fn run(
        peer: &mut Connection,
        ours: &mut End,
    ) -> (Vec<u8>, Result<(), rustls::Error>) {
        use std::io::{Cursor, Read};
        let (mut received, mut said) = (Vec::new(), Ok(()));
        loop {
            let mut theirs = Vec::new();
            while peer.wants_write() {
                peer.write_tls(&mut theirs).unwrap();
            }
            let wire = ours.take();
            if theirs.is_empty() && wire.is_empty() {
                return (received, said);
            }
            ours.give(&theirs);
            let mut cursor = Cursor::new(&wire);
            while cursor.position() < wire.len() as u64 && said.is_ok() {
                peer.read_tls(&mut cursor).unwrap();
                said = peer.process_new_packets().map(|_| ());
                let _ = peer.reader().read_to_end(&mut received);
            }
        }
    }
}

#[test]
fn versions_without_one_in_common() {
    let ca = Authority::new("ca");
    let identity = ca.issue(&["localhost"]);

    let mut options = server_options(identity.clone());
    options.min_version = Version::Tls13;
    let mut ours = End::new(Session::server(&ServerTls::new(&options).unwrap()).unwrap());
    let (_, said) = old::run(&mut old::client(&old::client_config(&ca)), &mut ours);
    assert_eq!(ours.code(), "tls-version", "{}", ours.text());
    assert_eq!(said, Err(rustls::Error::AlertReceived(rustls::AlertDescription::ProtocolVersion)));

    let mut options = client_options(&ca);
    options.min_version = Version::Tls13;
    let mut ours =
        End::new(Session::client(&ClientTls::new(&options).unwrap(), "localhost").unwrap());
    let _ = old::run(&mut old::server(&identity), &mut ours);
    assert_eq!(ours.code(), "tls-version", "{}", ours.text());

    // SSL 2, and TLS 1.1 as OpenSSL says hello: a record that has no TLS 1.2 in it.
    assert_eq!(
        server_that_gets(b"\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10").code(),
        "tls-version"
    );
}

#[test]
fn a_record_that_was_changed_on_its_way() {
    let ca = Authority::new("ca");
    let server = server_options(ca.issue(&["localhost"]));
    let mut pair = Pair::new(&server, &client_options(&ca), "localhost").connected();
    pair.client.session.send(b"good");
    pair.client.session.send(b"bad");
    let mut wire = pair.client.take();
    *wire.last_mut().unwrap() ^= 1;
    pair.server.give(&wire);
    assert_eq!((pair.server.code(), pair.server.received.as_slice()), ("tls-error", &b"good"[..]));
    assert!(pair.server.text().contains("changed or cut"), "{}", pair.server.text());
    pair.run();
    assert_eq!(pair.client.code(), "tls-rejected");
    assert!(pair.client.text().contains("bad_record_mac"), "{}", pair.client.text());
}
