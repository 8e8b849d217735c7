//! The head of a request: its line, its fields, and what they say of the body and of the connection.

use super::{Body, HttpError, HttpLimits};

/// Places for fields on the stack; a head with more is parsed with places on the heap.
const USUAL: usize = 32;
/// Bytes of the line of a request, RFC 9112, 3: at least 8,000 must be supported.
const LINE: usize = 16 * 1024;

/// What the head of a request says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// Bytes of the head.
    pub length: usize,
    /// 0 or 1: HTTP/1.0 or HTTP/1.1.
    pub minor: u8,
    /// What comes after the head.
    pub body: Body,
    /// Whether the connection may serve another request.
    pub keep_alive: bool,
    /// The client waits for `100 Continue` before it sends its body.
    pub expects_continue: bool,
    /// `Connection: upgrade` is there, with an `Upgrade` field.
    pub upgrade: bool,
    /// The client takes trailers: `TE: trailers`.
    pub trailers: bool,
}

/// Reads the head at the front of `data`; `None`: it is not whole yet.
///
/// `see` gets method, target and fields of a head that is right. Its own answer is handed through.
///
/// # Errors
/// What must be refused: nothing is guessed.
pub fn parse<R>(
    data: &[u8],
    limits: &HttpLimits,
    see: impl FnOnce(&str, &str, &[httparse::Header<'_>], &Head) -> R,
) -> Result<Option<(Head, R)>, HttpError> {
    let mut places = [httparse::EMPTY_HEADER; USUAL];
    let mut request = httparse::Request::new(&mut places);
    match request.parse(data) {
        Ok(status) => judge(data, limits, &request, status, see),
        Err(httparse::Error::TooManyHeaders) if limits.fields > USUAL => {
            let mut places = vec![httparse::EMPTY_HEADER; limits.fields];
            let mut request = httparse::Request::new(&mut places);
            let status = request.parse(data).map_err(|error| refusal(error, data))?;
            judge(data, limits, &request, status, see)
        }
        // What is wrong with a version shows when all of it is there.
        Err(httparse::Error::Version) if data.len() <= LINE && !has_line(data) => {
            wait_for_more(data, limits, true).map(|()| None)
        }
        Err(error) => Err(refusal(error, data)),
    }
}

/// Whether the line of a request is whole; empty ones may stand before it.
fn has_line(data: &[u8]) -> bool {
    let start = data.iter().position(|byte| !matches!(byte, b'\r' | b'\n')).unwrap_or(0);
    memchr::memchr2(b'\r', b'\n', &data[start..]).is_some()
}

fn refusal(error: httparse::Error, data: &[u8]) -> HttpError {
    match error {
        httparse::Error::TooManyHeaders => HttpError::new(431, "the head has too many fields"),
        httparse::Error::Version if is_of_another_version(data) => {
            HttpError::new(505, "the version is neither HTTP/1.0 nor HTTP/1.1")
        }
        httparse::Error::Version => HttpError::bad("the request line has no version"),
        httparse::Error::Token => {
            HttpError::bad("the method is not a token, or its line is not a request's")
        }
        httparse::Error::HeaderName => {
            HttpError::bad("the name of a field is not a token followed by a colon")
        }
        httparse::Error::HeaderValue => {
            HttpError::bad("the value of a field has a control character")
        }
        httparse::Error::NewLine => HttpError::bad("a line does not end with CRLF"),
        httparse::Error::Status => HttpError::bad("the request line is not one"),
    }
}

/// Whether the request line ends with a version that is one, `HTTP/DIGIT.DIGIT`, and only not ours.
fn is_of_another_version(data: &[u8]) -> bool {
    let start = data.iter().position(|byte| !matches!(byte, b'\r' | b'\n')).unwrap_or(0);
    let line = data[start..].split(|&byte| byte == b'\r').next().unwrap_or(&[]);
    match line.rsplit(|&byte| byte == b' ').next() {
        _ if has_bare_newline(&data[..start]) => false,
        Some([b'H', b'T', b'T', b'P', b'/', major, b'.', minor]) => {
            let ours = *major == b'1' && matches!(minor, b'0' | b'1');
            major.is_ascii_digit() && minor.is_ascii_digit() && !ours
        }
        _ => false,
    }
}

/// Whether more may come of a head that is right so far.
fn wait_for_more(data: &[u8], limits: &HttpLimits, has_target: bool) -> Result<(), HttpError> {
    match () {
        () if has_bare_newline(data) => Err(HttpError::bad("a line does not end with CRLF")),
        () if !has_target && data.len() > LINE => {
            Err(HttpError::new(414, "the target of the request is too long"))
        }
        () if data.len() > limits.head => Err(HttpError::new(431, "the head is too long")),
        () => Ok(()),
    }
}

fn judge<R>(
    data: &[u8],
    limits: &HttpLimits,
    request: &httparse::Request<'_, '_>,
    status: httparse::Status<usize>,
    see: impl FnOnce(&str, &str, &[httparse::Header<'_>], &Head) -> R,
) -> Result<Option<(Head, R)>, HttpError> {
    let httparse::Status::Complete(length) = status else {
        return wait_for_more(data, limits, request.path.is_some()).map(|()| None);
    };
    if length > limits.head {
        return Err(HttpError::new(431, "the head is too long"));
    }
    if has_bare_newline(&data[..length]) {
        return Err(HttpError::bad("a line does not end with CRLF"));
    }
    if request.headers.len() > limits.fields {
        return Err(HttpError::new(431, "the head has too many fields"));
    }
    let (method, target) = (request.method.unwrap_or(""), request.path.unwrap_or(""));
    let authority = check_target(method, target)?;
    let mut fields = Fields::default();
    for header in request.headers.iter() {
        fields.note(header.name, header.value, authority)?;
    }
    let head = fields.conclude(length, request.version.unwrap_or(1), limits)?;
    let seen = see(method, target, request.headers, &head);
    Ok(Some((head, seen)))
}

/// Whether a line ends without CR. A client that does that may be read otherwise by a proxy before us.
fn has_bare_newline(data: &[u8]) -> bool {
    memchr::memchr_iter(b'\n', data).any(|at| at == 0 || data[at - 1] != b'\r')
}

/// The four forms of a target, RFC 9112, 3.2. A fragment is never sent. Returns the authority, if the target has one.
fn check_target<'a>(method: &str, target: &'a str) -> Result<Option<&'a str>, HttpError> {
    if target.bytes().any(|byte| !(0x21..0x7f).contains(&byte) || byte == b'#') {
        return Err(HttpError::bad("the target has a character that must be percent-encoded"));
    }
    if target.len() > LINE {
        return Err(HttpError::new(414, "the target of the request is too long"));
    }
    if method.bytes().any(|byte| byte.is_ascii_lowercase()) {
        // Methods are told apart by case (RFC 9110, 9.1): `get` is not GET, and ASGI hands on capitals only.
        return Err(HttpError::bad("the method is not in capitals"));
    }
    if method == "CONNECT" {
        return Err(HttpError::new(501, "CONNECT is a proxy's, and this is none"));
    }
    if target.starts_with('/') || (method == "OPTIONS" && target == "*") {
        return Ok(None);
    }
    let (scheme, rest) = target.split_once("://").unwrap_or(("", ""));
    if !(scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https")) {
        return Err(HttpError::bad("the target is neither a path nor a URL"));
    }
    let authority = rest.find(['/', '?']).map_or(rest, |end| &rest[..end]);
    if authority.is_empty() || !is_host(authority.as_bytes()) {
        return Err(HttpError::bad("the target is a URL without the name of a host"));
    }
    Ok(Some(authority))
}

/// `uri-host [ ":" port ]`, RFC 9110, 7.2; empty where the target has no authority. A comma, which a name might have,
/// is refused: it is how some join two fields to one.
fn is_host(value: &[u8]) -> bool {
    let (name, port) = match value {
        [b'[', rest @ ..] => {
            let Some(end) = memchr::memchr(b']', rest) else { return false };
            let literal = |byte: &u8| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.');
            if end == 0 || !rest[..end].iter().all(literal) {
                return false;
            }
            (&[][..], &rest[end + 1..])
        }
        _ => value.split_at(memchr::memchr(b':', value).unwrap_or(value.len())),
    };
    let usual = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+;=".contains(byte);
    let port = match port {
        [] => true,
        [b':', digits @ ..] => digits.len() <= 5 && digits.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    port && name.iter().all(usual)
}

/// What the fields say that matter for the message itself.
#[derive(Default)]
struct Fields {
    hosts: u32,
    length: Option<u64>,
    chunked: bool,
    close: bool,
    keep_alive: bool,
    says_upgrade: bool,
    upgrades: bool,
    expects_continue: bool,
    trailers: bool,
}

impl Fields {
    fn note(&mut self, name: &str, value: &[u8], authority: Option<&str>) -> Result<(), HttpError> {
        // By length first: most fields are none of these.
        match name.len() {
            2 if name.eq_ignore_ascii_case("te") => {
                self.trailers |= value
                    .split(|&byte| byte == b',')
                    .any(|token| token.trim_ascii().eq_ignore_ascii_case(b"trailers"));
            }
            4 if name.eq_ignore_ascii_case("host") => {
                self.hosts += 1;
                if !is_host(value) {
                    return Err(HttpError::bad("Host is not the name of a host"));
                }
                // They must be the same (RFC 9112, 3.2). Who picks one of two is led by the other.
                if authority.is_some_and(|name| !name.as_bytes().eq_ignore_ascii_case(value)) {
                    return Err(HttpError::bad("Host is another one than that of the target"));
                }
            }
            6 if name.eq_ignore_ascii_case("expect") => {
                if !value.eq_ignore_ascii_case(b"100-continue") {
                    return Err(HttpError::new(417, "Expect is something else than 100-continue"));
                }
                self.expects_continue = true;
            }
            7 if name.eq_ignore_ascii_case("upgrade") => self.upgrades = true,
            10 if name.eq_ignore_ascii_case("connection") => {
                for token in value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii) {
                    self.close |= token.eq_ignore_ascii_case(b"close");
                    self.keep_alive |= token.eq_ignore_ascii_case(b"keep-alive");
                    self.says_upgrade |= token.eq_ignore_ascii_case(b"upgrade");
                }
            }
            14 if name.eq_ignore_ascii_case("content-length") => {
                if self.length.is_some() {
                    return Err(HttpError::bad("Content-Length stands there twice"));
                }
                self.length =
                    Some(number(value).ok_or(HttpError::bad("Content-Length is not a number"))?);
            }
            17 if name.eq_ignore_ascii_case("transfer-encoding") => {
                if self.chunked {
                    return Err(HttpError::bad("Transfer-Encoding stands there twice"));
                }
                if !value.eq_ignore_ascii_case(b"chunked") {
                    let known = value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii);
                    let coded = known.clone().all(|coding| !coding.is_empty())
                        && known
                            .clone()
                            .next_back()
                            .is_some_and(|last| last.eq_ignore_ascii_case(b"chunked"))
                        && known.filter(|coding| coding.eq_ignore_ascii_case(b"chunked")).count()
                            == 1;
                    return Err(if coded {
                        HttpError::new(501, "a Transfer-Encoding beside chunked is not supported")
                    } else {
                        HttpError::bad(
                            "Transfer-Encoding is not chunked: where the body ends can not be told",
                        )
                    });
                }
                self.chunked = true;
            }
            _ => {}
        }
        Ok(())
    }

    fn conclude(self, length: usize, minor: u8, limits: &HttpLimits) -> Result<Head, HttpError> {
        if self.hosts > 1 || (self.hosts == 0 && minor == 1) {
            return Err(HttpError::bad("a request of HTTP/1.1 has one Host, and only one"));
        }
        if self.chunked && minor == 0 {
            return Err(HttpError::bad("Transfer-Encoding does not exist in HTTP/1.0"));
        }
        if self.chunked && self.length.is_some() {
            return Err(HttpError::bad(
                "Content-Length and Transfer-Encoding contradict each other",
            ));
        }
        let body = match (self.chunked, self.length) {
            (true, _) => Body::chunked(limits),
            (false, Some(bytes)) if bytes > limits.body => {
                return Err(HttpError::new(413, "the body is larger than this server takes"));
            }
            (false, Some(bytes)) => Body::of_length(bytes),
            (false, None) => Body::of_length(0),
        };
        Ok(Head {
            length,
            minor,
            body,
            keep_alive: !self.close && (minor == 1 || self.keep_alive),
            expects_continue: self.expects_continue && minor == 1,
            upgrade: self.upgrades && self.says_upgrade && minor == 1,
            trailers: self.trailers && minor == 1,
        })
    }
}

/// `1*DIGIT`, RFC 9110, 8.6: no sign, no space, no list, and it must fit.
fn number(value: &[u8]) -> Option<u64> {
    if value.is_empty() || value.len() > 19 || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(value.iter().fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0')))
}
