//! The head of an answer, and how its body is told apart from what follows (RFC 9112, 6).

use pyo3::exceptions::{PyRuntimeError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyTuple};

use super::date;

/// What the program said in `http.response.start`, written out, without what depends on the body.
pub struct Head {
    pub bytes: Vec<u8>,
    pub status: u16,
    /// The `Content-Length` of the program.
    pub length: Option<u64>,
    /// The program wants the connection closed.
    pub closes: bool,
    /// Trailers follow the body.
    pub trailers: bool,
    /// A body is not allowed, whatever the method was.
    pub bodiless: bool,
}

/// What the server says by itself in each head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signature {
    pub server: bool,
    pub date: bool,
}

/// How the body goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// There is none: HEAD, 204, 304.
    None,
    /// So many bytes are still to come.
    Length(u64),
    Chunked,
    /// Until the connection ends: HTTP/1.0.
    ToTheEnd,
}

fn is_token(name: &[u8]) -> bool {
    !name.is_empty()
        && name
            .iter()
            .all(|&byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

/// The words after the number; a client reads the number only (RFC 9112, 4).
fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        203 => "Non-Authoritative Information",
        204 => "No Content",
        205 => "Reset Content",
        206 => "Partial Content",
        207 => "Multi-Status",
        208 => "Already Reported",
        226 => "IM Used",
        300 => "Multiple Choices",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        305 => "Use Proxy",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        402 => "Payment Required",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        407 => "Proxy Authentication Required",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        411 => "Length Required",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        416 => "Range Not Satisfiable",
        417 => "Expectation Failed",
        418 => "I'm a teapot",
        421 => "Misdirected Request",
        422 => "Unprocessable Content",
        423 => "Locked",
        424 => "Failed Dependency",
        425 => "Too Early",
        426 => "Upgrade Required",
        428 => "Precondition Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        451 => "Unavailable For Legal Reasons",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        507 => "Insufficient Storage",
        508 => "Loop Detected",
        511 => "Network Authentication Required",
        _ => "",
    }
}

/// Calls `see` with name and value of each field that the program gave: pairs of bytes in any iterable.
fn each_field(
    headers: &Bound<'_, PyAny>,
    mut see: impl FnMut(&[u8], &[u8]) -> PyResult<()>,
) -> PyResult<()> {
    let mut one = |pair: &Bound<'_, PyAny>| -> PyResult<()> {
        let (name, value) = match pair.cast::<PyTuple>() {
            Ok(tuple) if tuple.len() == 2 => (tuple.get_item(0)?, tuple.get_item(1)?),
            _ => (pair.get_item(0)?, pair.get_item(1)?),
        };
        match (name.cast::<PyBytes>(), value.cast::<PyBytes>()) {
            (Ok(name), Ok(value)) => see(name.as_bytes(), value.as_bytes()),
            _ => Err(PyTypeError::new_err("a header is a pair of bytes: its name and its value")),
        }
    };
    if let Ok(list) = headers.cast::<PyList>() {
        for pair in list.iter() {
            one(&pair)?;
        }
        return Ok(());
    }
    for pair in headers.try_iter()? {
        one(&pair?)?;
    }
    Ok(())
}

/// Refuses what would let the program's data become fields of its own.
fn check_field(name: &[u8], value: &[u8]) -> PyResult<()> {
    if !is_token(name) {
        return Err(PyValueError::new_err(format!(
            "{:?} is not a header's name",
            String::from_utf8_lossy(name)
        )));
    }
    if value.iter().any(|&byte| matches!(byte, 0..=8 | 10..=31 | 127)) {
        return Err(PyValueError::new_err(format!(
            "the value of the header {:?} has a control character: a line end could begin a header of its own",
            String::from_utf8_lossy(name)
        )));
    }
    Ok(())
}

fn append_field(bytes: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    bytes.extend_from_slice(name);
    bytes.extend_from_slice(b": ");
    bytes.extend_from_slice(value);
    bytes.extend_from_slice(b"\r\n");
}

/// Appends trailers, or the fields of an interim answer. What would frame the message is refused (RFC 9110, 6.5.1).
pub fn append_fields(bytes: &mut Vec<u8>, headers: &Bound<'_, PyAny>) -> PyResult<()> {
    each_field(headers, |name, value| {
        check_field(name, value)?;
        let framing: [&[u8]; 4] = [b"content-length", b"transfer-encoding", b"connection", b"host"];
        if framing.iter().any(|word| name.eq_ignore_ascii_case(word)) {
            return Err(PyValueError::new_err("a field that frames the message is no trailer"));
        }
        append_field(bytes, name, value);
        Ok(())
    })
}

impl Head {
    /// Writes status and fields. What would let the program's data become fields of its own is refused.
    pub fn write(
        status: u16,
        headers: Option<&Bound<'_, PyAny>>,
        signature: Signature,
    ) -> PyResult<Self> {
        if !(200..=999).contains(&status) {
            return Err(PyValueError::new_err(format!(
                "the status of an answer is 200 to 999, not {status}"
            )));
        }
        let mut bytes = Vec::with_capacity(256);
        bytes.extend_from_slice(b"HTTP/1.1 ");
        let mut digits = [
            b'0' + (status / 100) as u8,
            b'0' + (status / 10 % 10) as u8,
            b'0' + (status % 10) as u8,
        ];
        digits.iter_mut().for_each(|digit| bytes.push(*digit));
        bytes.push(b' ');
        bytes.extend_from_slice(reason(status).as_bytes());
        bytes.extend_from_slice(b"\r\n");
        let bodiless = matches!(status, 204 | 304);
        let mut head =
            Self { bytes, status, length: None, closes: false, trailers: false, bodiless };
        let (mut dated, mut served) = (!signature.date, !signature.server);
        if let Some(headers) = headers {
            each_field(headers, |name, value| {
                match name.len() {
                    4 => dated |= name.eq_ignore_ascii_case(b"date"),
                    6 => served |= name.eq_ignore_ascii_case(b"server"),
                    _ => {}
                }
                head.field(name, value)
            })?;
        }
        if !dated {
            head.bytes.extend_from_slice(b"date: ");
            date::append(&mut head.bytes);
            head.bytes.extend_from_slice(b"\r\n");
        }
        if !served {
            head.bytes.extend_from_slice(b"server: wireway\r\n");
        }
        Ok(head)
    }

    fn field(&mut self, name: &[u8], value: &[u8]) -> PyResult<()> {
        check_field(name, value)?;
        match name.len() {
            10 if name.eq_ignore_ascii_case(b"connection") => return self.connection(value),
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                let value = value.trim_ascii();
                let digits =
                    !value.is_empty() && value.len() < 19 && value.iter().all(u8::is_ascii_digit);
                if !digits || self.length.is_some() {
                    return Err(PyValueError::new_err("Content-Length is one number, given once"));
                }
                self.length =
                    Some(value.iter().fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0')));
                if self.status == 204 {
                    return Ok(()); // RFC 9110, 8.6: never there
                }
            }
            // How a body is sent is the server's: a coding of the program's would be announced and not done.
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => return Ok(()),
            _ => {}
        }
        append_field(&mut self.bytes, name, value);
        Ok(())
    }

    /// Whether the connection goes on is the server's to say, as the program wishes; other options are the program's.
    fn connection(&mut self, value: &[u8]) -> PyResult<()> {
        for token in value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii) {
            if token.eq_ignore_ascii_case(b"close") {
                self.closes = true;
            } else if !token.is_empty() && !token.eq_ignore_ascii_case(b"keep-alive") {
                append_field(&mut self.bytes, b"connection", token);
            }
        }
        Ok(())
    }

    /// Decides how the body goes and ends the head. `whole` is the size of the body, if the first piece is all of it.
    pub fn conclude(
        &mut self,
        minor: u8,
        is_head: bool,
        keep_alive: &mut bool,
        whole: Option<u64>,
    ) -> Way {
        if self.closes {
            *keep_alive = false;
        }
        let way = match (self.length, whole) {
            _ if is_head || self.bodiless => {
                if let (None, Some(size), true) = (self.length, whole, is_head) {
                    self.say_length(size);
                }
                Way::None
            }
            (Some(length), _) => Way::Length(length),
            (None, Some(size)) => {
                self.say_length(size);
                Way::Length(size)
            }
            (None, None) if minor == 1 => {
                self.bytes.extend_from_slice(b"transfer-encoding: chunked\r\n");
                Way::Chunked
            }
            (None, None) => {
                *keep_alive = false;
                Way::ToTheEnd
            }
        };
        if !*keep_alive {
            self.bytes.extend_from_slice(b"connection: close\r\n");
        } else if minor == 0 {
            self.bytes.extend_from_slice(b"connection: keep-alive\r\n");
        }
        self.bytes.extend_from_slice(b"\r\n");
        way
    }

    fn say_length(&mut self, size: u64) {
        self.bytes.extend_from_slice(b"content-length: ");
        self.bytes.extend_from_slice(size.to_string().as_bytes());
        self.bytes.extend_from_slice(b"\r\n");
    }
}

impl Way {
    /// Notes a piece that goes as it is, by itself.
    pub fn count(&mut self, piece: &[u8]) -> PyResult<()> {
        if let Self::Length(left) = self {
            *left = left.checked_sub(piece.len() as u64).ok_or_else(|| {
                PyRuntimeError::new_err("the body is longer than its Content-Length")
            })?;
        }
        Ok(())
    }

    /// Appends a piece of the body, framed as it goes; `last`: nothing follows.
    pub fn frame(&mut self, piece: &[u8], last: bool, into: &mut Vec<u8>) -> PyResult<()> {
        match self {
            Self::None => {}
            Self::ToTheEnd => into.extend_from_slice(piece),
            Self::Length(_) => {
                self.count(piece)?;
                into.extend_from_slice(piece);
            }
            Self::Chunked => {
                if !piece.is_empty() {
                    into.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
                    into.extend_from_slice(piece);
                    into.extend_from_slice(b"\r\n");
                }
                if last {
                    into.extend_from_slice(b"0\r\n\r\n");
                }
            }
        }
        Ok(())
    }
}
