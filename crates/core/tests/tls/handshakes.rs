//! What both sides know after a handshake: versions, names, certificates, protocols, resumption.

use wireway_core::tls::certificate::Certificate;
use wireway_core::tls::{ClientAuth, ClientTls, ServerTls, ServerTlsOptions, Version};

use super::support::{Authority, Pair, asking, client_options, server_options};

#[test]
fn both_versions_tell_what_was_agreed() {
    let ca = Authority::new("ca");
    let identity = ca.issue(&["localhost"]);
    for (min, expected, cipher) in [
        (Version::Tls13, "TLSv1.3", "TLS_AES_256_GCM_SHA384"),
        (Version::Tls12, "TLSv1.3", "TLS_AES_256_GCM_SHA384"),
    ] {
        let server = ServerTlsOptions { min_version: min, ..server_options(identity.clone()) };
        let pair = Pair::new(&server, &client_options(&ca), "localhost").connected();
        for end in [&pair.client, &pair.server] {
            let facts = end.session.facts();
            assert_eq!((facts.version, facts.cipher.as_str()), (expected, cipher));
            assert_eq!(facts.server_name.as_deref(), Some("localhost"));
            assert_eq!((facts.alpn, facts.resumed), (None, false));
        }
        let certificates = pair.client.session.facts().peer_certificates;
        assert_eq!(Certificate::parse(&certificates[0]).unwrap().san, ["DNS:localhost"]);
        assert!(pair.server.session.facts().peer_certificates.is_empty());
    }
}

#[test]
fn names_and_addresses_and_absolute_names() {
    let ca = Authority::new("ca");
    let server = server_options(ca.issue(&["a.example", "*.b.example", "127.0.0.1", "::1"]));
    for name in ["a.example", "A.Example", "a.example.", "x.b.example", "127.0.0.1", "::1", "[::1]"]
    {
        let pair = Pair::new(&server, &client_options(&ca), name).connected();
        let asked = pair.server.session.facts().server_name;
        let address = name.contains("::") || name.starts_with("127");
        assert_eq!(asked.is_none(), address, "{name}: no SNI for an address (RFC 6066, section 3)");
    }
}

#[test]
fn sni_chooses_the_certificate() {
    let ca = Authority::new("ca");
    let names: [&[&str]; 3] =
        [&["first.example"], &["exact.example", "*.wild.example"], &["b.wild.example"]];
    let identities = names.iter().map(|names| ca.issue(names)).collect();
    let server =
        ServerTls::new(&ServerTlsOptions { identities, ..ServerTlsOptions::default() }).unwrap();
    let mut blind = client_options(&ca);
    blind.verify = false;
    let client = ClientTls::new(&blind).unwrap();
    for (asked, got) in [
        ("first.example", "first.example"),
        ("exact.example", "exact.example"),
        ("EXACT.example", "exact.example"),
        ("a.wild.example", "exact.example"),
        ("b.wild.example", "b.wild.example"),
        ("a.b.wild.example", "first.example"),
        ("wild.example", "first.example"),
        ("127.0.0.1", "first.example"),
    ] {
        let pair = Pair::of(&server, &client, asked).connected();
        let seen = Certificate::parse(&pair.client.session.facts().peer_certificates[0]).unwrap();
        assert_eq!(seen.dns_names().next(), Some(got), "asked for {asked}");
    }
}

#[test]
fn application_protocols() {
    let ca = Authority::new("ca");
    let mut server = server_options(ca.issue(&["localhost"]));
    server.alpn = vec![b"h2".to_vec(), b"mine/1".to_vec()];
    let mut client = client_options(&ca);
    client.alpn = vec![b"mine/1".to_vec(), b"h2".to_vec()];
    let pair = Pair::new(&server, &client, "localhost").connected();
    for end in [&pair.client, &pair.server] {
        assert_eq!(end.session.facts().alpn.as_deref(), Some(&b"h2"[..]), "the server chooses");
    }
    client.alpn = Vec::new();
    assert_eq!(
        Pair::new(&server, &client, "localhost").connected().client.session.facts().alpn,
        None
    );
}

#[test]
fn client_certificates() {
    let ca = Authority::new("ca");
    let identity = ca.issue(&["localhost"]);
    for auth in [ClientAuth::Optional, ClientAuth::Required] {
        let server = asking(identity.clone(), &ca, auth);
        let mut client = client_options(&ca);
        client.identity = Some(ca.issue(&["client.example"]));
        let pair = Pair::new(&server, &client, "localhost").connected();
        let seen = pair.server.session.facts().peer_certificates;
        assert_eq!(Certificate::parse(&seen[0]).unwrap().san, ["DNS:client.example"]);
    }
    let server = asking(identity, &ca, ClientAuth::Optional);
    let pair = Pair::new(&server, &client_options(&ca), "localhost").connected();
    assert!(pair.server.session.facts().peer_certificates.is_empty());
}

#[test]
fn a_second_connection_resumes_the_first_with_its_certificates() {
    let ca = Authority::new("ca");
    let server =
        ServerTls::new(&asking(ca.issue(&["localhost"]), &ca, ClientAuth::Required)).unwrap();
    let mut options = client_options(&ca);
    options.identity = Some(ca.issue(&["client.example"]));
    let client = ClientTls::new(&options).unwrap();
    let first = Pair::of(&server, &client, "localhost").connected();
    let second = Pair::of(&server, &client, "localhost").connected();
    for (one, two) in [(&first.client, &second.client), (&first.server, &second.server)] {
        let (one, two) = (one.session.facts(), two.session.facts());
        assert!(!one.resumed && two.resumed);
        assert_eq!(one.peer_certificates, two.peer_certificates);
        assert!(!two.peer_certificates.is_empty());
        assert_eq!(two.server_name.as_deref(), Some("localhost"));
    }
    assert!(second.server.sent < first.server.sent, "no certificate is sent again");

    // Another name, another client, another server: no.
    let other = ClientTls::new(&options).unwrap();
    assert!(!Pair::of(&server, &other, "localhost").connected().client.session.facts().resumed);
    let server =
        ServerTls::new(&asking(ca.issue(&["localhost"]), &ca, ClientAuth::Required)).unwrap();
    assert!(!Pair::of(&server, &client, "localhost").connected().client.session.facts().resumed);
}

#[test]
fn a_servers_own_certificate_as_ca() {
    // What `openssl req -x509` makes: self-signed, CA:TRUE. And one without that.
    for ca in [rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained), rcgen::IsCa::NoCa] {
        let mut params = super::support::params(&["localhost"]);
        params.distinguished_name.push(rcgen::DnType::CommonName, "self");
        params.is_ca = ca;
        let key = rcgen::KeyPair::generate().unwrap();
        let cert = params.self_signed(&key).unwrap().pem().into_bytes();
        let identity = wireway_core::tls::IdentityPem {
            cert: cert.clone(),
            key: key.serialize_pem().into_bytes(),
            password: None,
        };
        let client = wireway_core::tls::ClientTlsOptions { ca: Some(cert), ..Default::default() };
        let server = server_options(identity);
        Pair::new(&server, &client, "localhost").connected();
        let mut pair = Pair::new(&server, &client, "elsewhere.example");
        assert_eq!(pair.run().client.code(), "tls-wrong-host");
    }
}

#[test]
fn tls_1_2_both_ways_with_resumption_and_goodbye() {
    use super::failures::old;
    use super::support::End;
    use std::io::Write;
    use wireway_core::tls::Session;

    let ca = Authority::new("ca");
    let identity = ca.issue(&["localhost"]);
    let server = ServerTls::new(&server_options(identity.clone())).unwrap();
    let config = old::client_config(&ca);
    for resumed in [false, true] {
        let mut ours = End::new(Session::server(&server).unwrap());
        let mut peer = old::client(&config);
        peer.writer().write_all(&[5; 20_000]).unwrap();
        ours.session.send(&[6; 50_000]);
        let (received, said) = old::run(&mut peer, &mut ours);
        assert_eq!((said, &ours.said), (Ok(()), &Ok(())));
        assert_eq!((received.len(), ours.received.len()), (50_000, 20_000));
        let facts = ours.session.facts();
        assert_eq!((facts.version, facts.resumed), ("TLSv1.2", resumed));
        assert!(facts.cipher.starts_with("TLS_ECDHE_ECDSA_WITH_AES_"), "{}", facts.cipher);
        assert_eq!(facts.server_name.as_deref(), Some("localhost"));
        peer.send_close_notify();
        old::run(&mut peer, &mut ours).1.unwrap();
        assert!(ours.session.peer_closed());
    }

    let mut ours =
        Session::client(&ClientTls::new(&client_options(&ca)).unwrap(), "localhost").unwrap();
    ours.send(b"hello");
    let mut ours = End::new(ours);
    let mut peer = old::server(&identity);
    let (received, _) = old::run(&mut peer, &mut ours);
    assert_eq!(received, b"hello");
    assert_eq!(ours.session.facts().version, "TLSv1.2");
    ours.session.close();
    peer.writer().write_all(b"bye").unwrap();
    peer.send_close_notify();
    old::run(&mut peer, &mut ours).1.unwrap();
    assert_eq!(ours.received, b"bye");
    assert_eq!(ours.session.end(), Ok(()));
}
