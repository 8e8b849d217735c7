//! TLS configurations as Python makes them, which side of TLS a server or client takes, and certificates read.

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use wireway_core::tls::certificate::Certificate;
use wireway_core::tls::{
    ClientAuth, ClientTls, ClientTlsOptions, IdentityPem, ServerTls, ServerTlsOptions, Session,
    TlsError, Version, code,
};

use crate::errors::ours;

use super::ServerCore;

/// Certificate, key and password, the first two as PEM.
type Identity = (Vec<u8>, Vec<u8>, Option<Vec<u8>>);

/// What a server's handshakes are made with: keys and certificates, read and checked. Any thread.
#[pyclass(frozen, module = "wireway._native")]
pub struct TlsServer(ServerTls);

/// What a client's handshakes are made with. Any thread.
#[pyclass(frozen, module = "wireway._native")]
pub struct TlsClient(ClientTls);

/// Which side.
pub enum Role {
    Server(ServerTls),
    Client(ClientTls, String),
}

impl Role {
    /// What Python gave: a `TlsServer`, or a `TlsClient` with the name of the server.
    pub fn read(tls: &Bound<'_, PyAny>, name: Option<String>) -> PyResult<Self> {
        if let Ok(server) = tls.cast::<TlsServer>() {
            return Ok(Self::Server(server.get().0.clone()));
        }
        Ok(Self::Client(tls.cast::<TlsClient>()?.get().0.clone(), name.unwrap_or_default()))
    }
}

impl ServerCore {
    /// The session of a connection that begins.
    pub fn session(&self) -> Result<Session, TlsError> {
        match &*self.tls.borrow() {
            Some(Role::Server(tls)) => Session::server(tls),
            Some(Role::Client(tls, name)) => Session::client(tls, name),
            None => Err(TlsError { code: code::ERROR, text: "TLS is not configured".to_owned() }),
        }
    }

    /// Seconds that a handshake may take.
    pub fn handshake_seconds(&self) -> f64 {
        self.handshake.get()
    }
}

impl TlsClient {
    /// The configuration, for who makes connections without a server.
    pub fn config(&self) -> &ClientTls {
        &self.0
    }
}

#[pymethods]
impl TlsServer {
    /// `identities`: certificate, key (PEM) and password of each. `client_auth`: "none", "optional" or "required".
    /// Fails with `ConfigError`, which names what is wrong.
    #[new]
    fn new(
        py: Python<'_>,
        identities: Vec<Identity>,
        client_ca: Option<Vec<u8>>,
        client_auth: &str,
        alpn: Vec<Vec<u8>>,
        min_version: &str,
    ) -> PyResult<Self> {
        let options = ServerTlsOptions {
            identities: identities.into_iter().map(identity).collect(),
            client_ca,
            client_auth: match client_auth {
                "optional" => ClientAuth::Optional,
                "required" => ClientAuth::Required,
                _ => ClientAuth::None,
            },
            alpn,
            min_version: version(min_version),
        };
        // Keys that are encrypted well take a while to open.
        py.detach(|| ServerTls::new(&options)).map(Self).map_err(|error| refused(py, &error))
    }
}

#[pymethods]
impl TlsClient {
    /// `ca`: PEM, None for whom the system trusts. `own`: certificate, key and password.
    /// Fails with `ConfigError`, which names what is wrong.
    #[new]
    fn new(
        py: Python<'_>,
        ca: Option<Vec<u8>>,
        own: Option<Identity>,
        alpn: Vec<Vec<u8>>,
        min_version: &str,
        verify: bool,
    ) -> PyResult<Self> {
        let min_version = version(min_version);
        let options =
            ClientTlsOptions { ca, identity: own.map(identity), alpn, min_version, verify };
        py.detach(|| ClientTls::new(&options)).map(Self).map_err(|error| refused(py, &error))
    }
}

fn identity((cert, key, password): Identity) -> IdentityPem {
    IdentityPem { cert, key, password }
}

fn version(name: &str) -> Version {
    if name == "1.3" { Version::Tls13 } else { Version::Tls12 }
}

fn refused(py: Python<'_>, error: &TlsError) -> PyErr {
    ours(py, "ConfigError", &format!("Tls: {}", error.text))
}

/// What a certificate (DER) says, as the fields of `wireway.net.tls.Certificate`. ValueError for what is none.
#[pyfunction]
pub fn read_certificate<'py>(py: Python<'py>, der: &[u8]) -> PyResult<Bound<'py, PyDict>> {
    let read = Certificate::parse(der)
        .map_err(|why| pyo3::exceptions::PyValueError::new_err(format!("what was given {why}")))?;
    let dict = PyDict::new(py);
    dict.set_item("subject", read.subject)?;
    dict.set_item("subject_parts", read.subject_parts)?;
    dict.set_item("issuer", read.issuer)?;
    dict.set_item("issuer_parts", read.issuer_parts)?;
    dict.set_item("serial", read.serial)?;
    dict.set_item("not_before", read.not_before)?;
    dict.set_item("not_after", read.not_after)?;
    dict.set_item("san", read.san)?;
    let extensions = read.extensions.iter().map(|extension| {
        (extension.oid.as_str(), extension.critical, PyBytes::new(py, &extension.value))
    });
    dict.set_item("extensions", extensions.collect::<Vec<_>>())?;
    dict.set_item("fingerprint_sha256", read.sha256)?;
    Ok(dict)
}

/// Adds the classes.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<TlsServer>()?;
    module.add_class::<TlsClient>()?;
    module.add_function(wrap_pyfunction!(read_certificate, module)?)
}
