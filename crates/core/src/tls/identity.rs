//! Owns identities: a certificate chain with its key, and which of several a client gets. Does not know when.

use std::cell::Cell;
use std::collections::HashMap;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::certificate::Certificate;
use super::{IdentityPem, TlsError, key, pem};

/// The certificates in a PEM file, in their order.
pub(super) fn certificates(file: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let all = pem::sections(file)?;
    let labels: Vec<String> = all.iter().map(|section| section.label.clone()).collect();
    let found: Vec<CertificateDer<'static>> = all
        .into_iter()
        .filter(|section| matches!(section.label.as_str(), "CERTIFICATE" | "X509 CERTIFICATE"))
        .map(|section| section.body.into())
        .collect();
    match (found.is_empty(), labels.is_empty()) {
        (false, _) => Ok(found),
        (true, true) => Err("there is no PEM section in it".into()),
        (true, false) => Err(format!("there is no certificate in it, only: {}", labels.join(", "))),
    }
}

/// Reads one, and looks whether the key is that of the certificate. `which` begins every error.
pub(super) fn load(identity: &IdentityPem, which: &str) -> Result<CertifiedKey, TlsError> {
    let wrong = |what: &str, why: String| TlsError::options(format!("{which}{what}: {why}"));
    let chain = certificates(&identity.cert).map_err(|why| wrong("certificate", why))?;
    for (at, der) in chain.iter().enumerate() {
        Certificate::parse(der)
            .map_err(|why| wrong("certificate", format!("number {} in it {why}", at + 1)))?;
    }
    let key =
        key::read(&identity.key, identity.password.as_deref()).map_err(|why| wrong("key", why))?;
    let encrypted = key.encrypted;
    let provider = rustls::crypto::ring::default_provider();
    CertifiedKey::from_der(chain, key.der, &provider).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => {
            wrong("key", "it does not belong to the certificate (their public keys differ)".into())
        }
        _ if encrypted => wrong("key", format!("the password is wrong, or the key is not supported ({error})")),
        _ => wrong(
            "key",
            format!("it can't be read or is not supported ({error}): RSA from 2048 bits, EC and Ed25519 are"),
        ),
    })
}

thread_local! {
    /// The name that the ClientHello being read right now asked for.
    static ASKED: Cell<Option<Box<str>>> = const { Cell::new(None) };
}

/// Takes what the last ClientHello on this thread asked for. rustls tells it to nobody but the resolver when it
/// does no buffering of its own.
pub(super) fn take_asked() -> Option<Box<str>> {
    ASKED.take()
}

/// Certificates by name: exact names, then `*.` names (one label, RFC 6125 section 6.4.3), then the first.
#[derive(Debug)]
pub(super) struct Identities {
    all: Vec<Arc<CertifiedKey>>,
    exact: HashMap<String, Vec<usize>>,
    /// By what follows `*.`.
    wildcard: HashMap<String, Vec<usize>>,
}

impl Identities {
    pub(super) fn new(all: Vec<CertifiedKey>) -> Self {
        let mut this =
            Identities { all: Vec::new(), exact: HashMap::new(), wildcard: HashMap::new() };
        for (at, identity) in all.into_iter().enumerate() {
            let names = identity.cert.first().and_then(|der| Certificate::parse(der).ok());
            for name in names.iter().flat_map(Certificate::dns_names) {
                let name = name.to_ascii_lowercase();
                match name.strip_prefix("*.") {
                    Some(rest) => this.wildcard.entry(rest.to_string()).or_default().push(at),
                    None => this.exact.entry(name).or_default().push(at),
                }
            }
            this.all.push(Arc::new(identity));
        }
        this
    }

    /// Which of them are for a name, the better first.
    fn named(&self, name: &str) -> impl Iterator<Item = usize> {
        let name = name.to_ascii_lowercase();
        let wildcard = name.split_once('.').and_then(|(_, rest)| self.wildcard.get(rest));
        self.exact.get(&name).into_iter().chain(wildcard).flatten().copied()
    }
}

impl ResolvesServerCert for Identities {
    /// The first of that name whose key the client can check; else the first of all.
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        ASKED.set(hello.server_name().map(Into::into));
        let usable =
            |at: &usize| self.all[*at].key.choose_scheme(hello.signature_schemes()).is_some();
        let named = hello.server_name().and_then(|name| self.named(name).find(usable));
        let at = named.or_else(|| (0..self.all.len()).find(usable)).unwrap_or(0);
        self.all.get(at).cloned()
    }
}
