//! The scope of a request, as the ASGI specification (HTTP and WebSocket, version 2.5) wants it.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyString, PyTuple};
use wireway_core::http::Header;

/// What is known of a request once its head is.
pub struct Seen {
    /// The scope.
    pub scope: Py<PyDict>,
    /// Whether the method is HEAD.
    pub is_head: bool,
}

/// What is the same for all requests of a connection.
pub struct Origin {
    /// What every scope has.
    pub template: Py<PyDict>,
    /// Where the application is mounted.
    pub root: String,
    /// A function of Python that believes what a proxy says: it takes a scope. None: nobody is believed.
    pub forwarded: Option<Py<PyAny>>,
}

/// What a proxy says of the client: fields that are believed from those who are trusted.
fn is_of_a_proxy(name: &[u8]) -> bool {
    match name.len() {
        15 => name.eq_ignore_ascii_case(b"x-forwarded-for"),
        17 => name.eq_ignore_ascii_case(b"x-forwarded-proto"),
        _ => false,
    }
}

/// The scope: what all requests of the connection share, and what this one says.
pub fn build(
    py: Python<'_>,
    origin: &Origin,
    method: &str,
    target: &str,
    fields: &[Header<'_>],
    minor: u8,
) -> PyResult<Seen> {
    let (template, forwarded) = (origin.template.bind(py), origin.forwarded.as_ref());
    let scope = template.copy()?;
    let (raw, query) = split(target);
    scope.set_item(
        intern!(py, "http_version"),
        if minor == 1 { intern!(py, "1.1") } else { intern!(py, "1.0") },
    )?;
    scope.set_item(intern!(py, "method"), PyString::intern(py, method))?;
    scope.set_item(intern!(py, "path"), path(py, &origin.root, raw))?;
    scope.set_item(intern!(py, "raw_path"), PyBytes::new(py, raw.as_bytes()))?;
    scope.set_item(intern!(py, "query_string"), PyBytes::new(py, query.as_bytes()))?;
    let headers = PyList::empty(py);
    let mut proxied = false;
    for field in fields {
        proxied |= forwarded.is_some() && is_of_a_proxy(field.name.as_bytes());
        let length = field.name.len();
        let name = PyBytes::new_with(py, length, |room| {
            room.copy_from_slice(field.name.as_bytes());
            room.make_ascii_lowercase();
            Ok(())
        })?;
        headers.append(PyTuple::new(py, [name, PyBytes::new(py, field.value)])?)?;
    }
    scope.set_item(intern!(py, "headers"), headers)?;
    // Each request gets copies of its own: of the extensions, and a shallow one of what the lifespan left.
    for key in [intern!(py, "extensions"), intern!(py, "state")] {
        if let Some(shared) = template.get_item(key)? {
            scope.set_item(key, shared.cast::<PyDict>()?.copy()?)?;
        }
    }
    if let (Some(forwarded), true) = (forwarded, proxied) {
        forwarded.bind(py).call1((&scope,))?;
    }
    Ok(Seen { scope: scope.unbind(), is_head: method == "HEAD" })
}

/// Path and query of a target. Of a URL the scheme and the host are left out: `Host` says the same.
fn split(target: &str) -> (&str, &str) {
    let from = if target.starts_with('/') || target == "*" {
        target
    } else {
        let after = target.find("://").map_or(0, |at| at + 3);
        target[after..].find(['/', '?']).map_or("/", |at| &target[after + at..])
    };
    let (path, query) = from.split_once('?').unwrap_or((from, ""));
    (if path.is_empty() { "/" } else { path }, query)
}

/// The path with its escapes undone; what is not UTF-8 then becomes U+FFFD, what is no escape stays.
fn path<'py>(py: Python<'py>, root: &str, raw: &str) -> Bound<'py, PyString> {
    if root.is_empty() && !raw.contains('%') {
        return PyString::new(py, raw);
    }
    let bytes = raw.as_bytes();
    let mut plain = Vec::with_capacity(root.len() + raw.len());
    plain.extend_from_slice(root.as_bytes());
    let mut at = 0;
    while at < bytes.len() {
        let digit = |index: usize| bytes.get(index).and_then(|&byte| char::from(byte).to_digit(16));
        match (bytes[at], digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                plain.push((high << 4 | low) as u8);
                at += 3;
            }
            (byte, _, _) => {
                plain.push(byte);
                at += 1;
            }
        }
    }
    PyString::new(py, &String::from_utf8_lossy(&plain))
}
