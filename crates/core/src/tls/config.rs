//! Owns what many connections share: the configurations of servers and clients, from options. Does not know a
//! connection, nor where the bytes of a PEM file come from; only the system's bundle is read here.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::server::{NoClientAuth, WebPkiClientVerifier};
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion};

use super::identity::{Identities, certificates, load};
use super::verify::{Anyone, Trusting};
use super::{ClientAuth, IdentityPem, TlsError, Version};

/// What a server is made of.
#[derive(Clone, Debug, Default)]
pub struct ServerTlsOptions {
    /// At least one. A client gets the one whose certificate has the name it asks for (SNI), else the first.
    pub identities: Vec<IdentityPem>,
    /// PEM: who may have issued the certificates of clients. Needed unless `client_auth` is `None`.
    pub client_ca: Option<Vec<u8>>,
    /// Whether clients must show a certificate.
    pub client_auth: ClientAuth,
    /// Application protocols, the most wanted first (RFC 7301). A client that offers only others is refused.
    pub alpn: Vec<Vec<u8>>,
    /// The oldest version accepted.
    pub min_version: Version,
}

/// What a client is made of.
#[derive(Clone, Debug)]
pub struct ClientTlsOptions {
    /// PEM: who may have issued the server's certificate; a server's own certificate may stand here too.
    /// `None`: the system's bundle, from `SSL_CERT_FILE` or one of its usual places.
    pub ca: Option<Vec<u8>>,
    /// For servers that ask.
    pub identity: Option<IdentityPem>,
    /// Application protocols, the most wanted first (RFC 7301).
    pub alpn: Vec<Vec<u8>>,
    /// The oldest version accepted.
    pub min_version: Version,
    /// Whether the server's certificate is checked. Without it anyone on the way may read and change everything.
    pub verify: bool,
}

impl Default for ClientTlsOptions {
    fn default() -> Self {
        let (alpn, min_version) = (Vec::new(), Version::default());
        ClientTlsOptions { ca: None, identity: None, alpn, min_version, verify: true }
    }
}

/// A server's side, shared by its connections. Cheap to clone. It holds the keys of its session tickets (which
/// change every six hours), so connections of one `ServerTls` resume those of the same one only.
#[derive(Clone, Debug)]
pub struct ServerTls {
    pub(super) config: Arc<ServerConfig>,
}

/// A client's side, shared by its connections. Cheap to clone. It holds the sessions that may be resumed, by
/// the server's name, for at most 256 names.
#[derive(Clone, Debug)]
pub struct ClientTls {
    pub(super) config: Arc<ClientConfig>,
}

const BOTH: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13, &rustls::version::TLS12];
const NEW: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13];

fn versions(min: Version) -> &'static [&'static SupportedProtocolVersion] {
    match min {
        Version::Tls12 => BOTH,
        Version::Tls13 => NEW,
    }
}

fn protocols(alpn: &[Vec<u8>]) -> Result<Vec<Vec<u8>>, TlsError> {
    match alpn.iter().find(|name| name.is_empty() || name.len() > 255) {
        Some(name) => Err(TlsError::options(format!(
            "alpn: a protocol's name has 1 to 255 bytes, this one {}",
            name.len()
        ))),
        None => Ok(alpn.to_vec()),
    }
}

/// Trusted certificates, and how many were not usable.
fn roots(
    given: &[CertificateDer<'static>],
    what: &str,
    strict: bool,
) -> Result<RootCertStore, TlsError> {
    let mut store = RootCertStore::empty();
    for (at, der) in given.iter().enumerate() {
        match store.add(der.clone()) {
            Err(error) if strict => {
                return Err(TlsError::options(format!(
                    "{what}: certificate number {} in it can't be used: {error}",
                    at + 1
                )));
            }
            _ => {}
        }
    }
    if store.is_empty() {
        return Err(TlsError::options(format!("{what}: no certificate in it can be used")));
    }
    Ok(store)
}

impl ServerTls {
    /// Reads keys and certificates and checks that they fit.
    ///
    /// # Errors
    ///
    /// `tls-options` with what is wrong and in which option: no certificate in the file, no key, a password
    /// missing or wrong, a key of another certificate, client authentication without `client_ca`.
    pub fn new(options: &ServerTlsOptions) -> Result<Self, TlsError> {
        if options.identities.is_empty() {
            return Err(TlsError::options("certificate: a server needs one, with its key".into()));
        }
        let several = options.identities.len() > 1;
        let identities = options.identities.iter().enumerate().map(|(at, identity)| {
            load(identity, &if several { format!("identity {}: ", at + 1) } else { String::new() })
        });
        let identities = Identities::new(identities.collect::<Result<_, _>>()?);

        let provider = Arc::new(ring::default_provider());
        let verifier = match (options.client_auth, &options.client_ca) {
            (ClientAuth::None, None) => Arc::new(NoClientAuth),
            (ClientAuth::None, Some(_)) => {
                return Err(TlsError::options(
                    "client_ca: it has no effect while clients are not asked (client_auth is none)"
                        .into(),
                ));
            }
            (_, None) => {
                return Err(TlsError::options(
                    "client_ca: needed to check the certificates that client_auth asks for".into(),
                ));
            }
            (auth, Some(file)) => {
                let given = certificates(file)
                    .map_err(|why| TlsError::options(format!("client_ca: {why}")))?;
                let roots = Arc::new(roots(&given, "client_ca", true)?);
                let builder = WebPkiClientVerifier::builder_with_provider(roots, provider.clone());
                let builder = match auth {
                    ClientAuth::Optional => builder.allow_unauthenticated(),
                    _ => builder,
                };
                builder.build().map_err(|error| TlsError::options(format!("client_ca: {error}")))?
            }
        };
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(versions(options.min_version))
            .map_err(|error| TlsError::options(format!("min_version: {error}")))?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(Arc::new(identities));
        config.alpn_protocols = protocols(&options.alpn)?;
        config.ticketer = ring::Ticketer::new().map_err(|error| {
            TlsError::options(format!("no random bytes for session tickets: {error}"))
        })?;
        Ok(ServerTls { config: Arc::new(config) })
    }
}

impl ClientTls {
    /// Reads keys and certificates and checks that they fit.
    ///
    /// # Errors
    ///
    /// `tls-options` with what is wrong and in which option.
    pub fn new(options: &ClientTlsOptions) -> Result<Self, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(versions(options.min_version))
            .map_err(|error| TlsError::options(format!("min_version: {error}")))?
            .dangerous();
        let builder = if options.verify {
            let (given, store) = match &options.ca {
                Some(file) => {
                    let given = certificates(file)
                        .map_err(|why| TlsError::options(format!("ca: {why}")))?;
                    let store = roots(&given, "ca", true)?;
                    (given, store)
                }
                None => (Vec::new(), system()?),
            };
            let webpki = WebPkiServerVerifier::builder_with_provider(Arc::new(store), provider)
                .build()
                .map_err(|error| TlsError::options(format!("ca: {error}")))?;
            builder.with_custom_certificate_verifier(Arc::new(Trusting { webpki, given }))
        } else {
            builder.with_custom_certificate_verifier(Arc::new(Anyone(provider)))
        };
        let mut config = match &options.identity {
            Some(identity) => builder.with_client_cert_resolver(Arc::new(
                rustls::sign::SingleCertAndKey::from(load(identity, "")?),
            )),
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = protocols(&options.alpn)?;
        Ok(ClientTls { config: Arc::new(config) })
    }
}

/// Where distributions keep what they trust: Debian and Alpine, Fedora, openSUSE, RHEL, BSD and macOS.
const BUNDLES: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Whom the system trusts. What is unusable in its bundle is passed over, as every program does.
fn system() -> Result<RootCertStore, TlsError> {
    let named =
        std::env::var_os("SSL_CERT_FILE").filter(|path| !path.is_empty()).map(PathBuf::from);
    let path = named.or_else(|| BUNDLES.iter().map(PathBuf::from).find(|path| path.exists()));
    let Some(path) = path else {
        return Err(TlsError::options(format!(
            "ca: the system has no bundle of trusted certificates (looked at {}): install the package \
             \"ca-certificates\", set SSL_CERT_FILE, or give ca",
            BUNDLES.join(", ")
        )));
    };
    let what = format!("ca: the system's bundle {}", path.display());
    let file =
        std::fs::read(&path).map_err(|error| TlsError::options(format!("{what}: {error}")))?;
    let given = certificates(&file).map_err(|why| TlsError::options(format!("{what}: {why}")))?;
    roots(&given, &what, false)
}
