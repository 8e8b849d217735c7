//! Authorities and certificates made on the spot, and two sessions with a wire between them.

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};
use wireway_core::tls::{
    ClientAuth, ClientTls, ClientTlsOptions, IdentityPem, ServerTls, ServerTlsOptions, Session,
    TlsError,
};

/// Who issues certificates.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        Authority(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub(crate) fn pem(&self) -> Vec<u8> {
        self.0.pem().into_bytes()
    }

    pub(crate) fn issue(&self, names: &[&str]) -> IdentityPem {
        self.issue_with(names, |_| ())
    }

    /// `change` has the last word about what it says.
    pub(crate) fn issue_with(
        &self,
        names: &[&str],
        change: impl FnOnce(&mut CertificateParams),
    ) -> IdentityPem {
        let mut params = params(names);
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.0).unwrap();
        IdentityPem {
            cert: cert.pem().into_bytes(),
            key: key.serialize_pem().into_bytes(),
            password: None,
        }
    }
}

pub(crate) fn params(names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|name| (*name).to_string()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params
}

pub(crate) fn server_options(identity: IdentityPem) -> ServerTlsOptions {
    ServerTlsOptions { identities: vec![identity], ..ServerTlsOptions::default() }
}

pub(crate) fn asking(identity: IdentityPem, ca: &Authority, auth: ClientAuth) -> ServerTlsOptions {
    ServerTlsOptions { client_ca: Some(ca.pem()), client_auth: auth, ..server_options(identity) }
}

pub(crate) fn client_options(ca: &Authority) -> ClientTlsOptions {
    ClientTlsOptions { ca: Some(ca.pem()), ..ClientTlsOptions::default() }
}

/// A session with what it received and how it went.
pub(crate) struct End {
    pub(crate) session: Session,
    pub(crate) received: Vec<u8>,
    pub(crate) said: Result<(), TlsError>,
    /// How many bytes it put on the wire.
    pub(crate) sent: usize,
}

impl End {
    pub(crate) fn new(session: Session) -> Self {
        End { session, received: Vec::new(), said: Ok(()), sent: 0 }
    }

    pub(crate) fn take(&mut self) -> Vec<u8> {
        let mut wire = Vec::new();
        let length = self.session.outgoing(&mut wire);
        assert_eq!(length, wire.len());
        self.sent += length;
        wire
    }

    pub(crate) fn give(&mut self, wire: &[u8]) {
        let received = &mut self.received;
        let said = self.session.receive(wire, &mut |plain| received.extend_from_slice(plain));
        if self.said.is_ok() {
            self.said = said;
        }
    }

    pub(crate) fn code(&self) -> &'static str {
        self.said.as_ref().map_or_else(|error| error.code, |()| "")
    }

    pub(crate) fn text(&self) -> &str {
        self.said.as_ref().map_or_else(|error| error.text.as_str(), |()| "")
    }
}

pub(crate) struct Pair {
    pub(crate) client: End,
    pub(crate) server: End,
}

impl Pair {
    pub(crate) fn of(server: &ServerTls, client: &ClientTls, name: &str) -> Self {
        Pair {
            client: End::new(Session::client(client, name).unwrap()),
            server: End::new(Session::server(server).unwrap()),
        }
    }

    pub(crate) fn new(server: &ServerTlsOptions, client: &ClientTlsOptions, name: &str) -> Self {
        Pair::of(&ServerTls::new(server).unwrap(), &ClientTls::new(client).unwrap(), name)
    }

    /// Carries bytes, at most `piece` at a time, until nobody has any.
    pub(crate) fn run_in(&mut self, piece: usize) -> &mut Self {
        for _ in 0..100 {
            let (up, down) = (self.client.take(), self.server.take());
            if up.is_empty() && down.is_empty() {
                return self;
            }
            up.chunks(piece).for_each(|wire| self.server.give(wire));
            down.chunks(piece).for_each(|wire| self.client.give(wire));
        }
        panic!("they never stop talking");
    }

    pub(crate) fn run(&mut self) -> &mut Self {
        self.run_in(usize::MAX)
    }

    /// Carries bytes until both sides are through.
    pub(crate) fn connected(mut self) -> Self {
        self.run();
        assert_eq!((&self.client.said, &self.server.said), (&Ok(()), &Ok(())));
        assert!(!self.client.session.is_handshaking() && !self.server.session.is_handshaking());
        self
    }
}
