//! Requests as they come: what is right, what is refused and with which status, and every place to cut.

use wireway_core::http::{Body, HttpError, HttpLimits, Piece, parse};

/// Method, target, number of fields, body.
type Request = (String, String, usize, Vec<u8>);

/// Each request in `data`, fed in pieces of `step` bytes.
fn requests(data: &[u8], step: usize) -> Result<Vec<Request>, HttpError> {
    let limits = HttpLimits { body: 1 << 20, ..HttpLimits::default() };
    let mut seen = Vec::new();
    let mut buffer: Vec<u8> = Vec::new();
    let mut body: Option<Body> = None;
    for piece in data.chunks(step) {
        buffer.extend_from_slice(piece);
        loop {
            match &mut body {
                None => {
                    let found = parse(&buffer, &limits, |method, target, fields, _| {
                        (method.to_owned(), target.to_owned(), fields.len(), Vec::new())
                    })?;
                    let Some((head, request)) = found else { break };
                    buffer.drain(..head.length);
                    seen.push(request);
                    body = Some(head.body);
                }
                Some(reading) => {
                    let mut rest = &buffer[..];
                    let piece = reading.next(&mut rest)?;
                    let ended = piece == Piece::End;
                    let more = piece == Piece::More;
                    if let (Piece::Data(bytes), Some(last)) = (piece, seen.last_mut()) {
                        last.3.extend_from_slice(bytes);
                    }
                    let used = buffer.len() - rest.len();
                    buffer.drain(..used);
                    if ended {
                        body = None;
                    } else if more {
                        break;
                    }
                }
            }
        }
    }
    Ok(seen)
}

fn status(data: &[u8]) -> u16 {
    // What is refused is refused however it is cut.
    let whole = requests(data, data.len()).map_or_else(|error| error.status, |_| 0);
    let cut = requests(data, if data.len() < 3000 { 1 } else { 1999 })
        .map_or_else(|error| error.status, |_| 0);
    assert_eq!(whole, cut, "{:?}", String::from_utf8_lossy(data));
    whole
}

const PIPELINED: &[u8] = b"POST /a?b=c HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello\
    GET /%C3%A9 HTTP/1.1\r\nhost: x\r\nAccept: */*\r\n\r\n\
    PUT /c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nA;ext=1\r\n0123456789\r\n0\r\nSum: 1\r\n\r\n\
    GET / HTTP/1.0\r\n\r\n";

#[test]
fn every_cut_gives_the_same_requests() {
    let whole = requests(PIPELINED, PIPELINED.len()).unwrap();
    let bodies: Vec<&[u8]> = whole.iter().map(|request| &request.3[..]).collect();
    assert_eq!(bodies, [&b"hello"[..], b"", b"abc0123456789", b""]);
    assert_eq!(whole[0].1, "/a?b=c");
    for step in 1..60 {
        assert_eq!(requests(PIPELINED, step).unwrap(), whole, "step {step}");
    }
}

#[test]
fn the_connection_after_a_request() {
    let limits = HttpLimits::default();
    let head = |text: &str| parse(text.as_bytes(), &limits, |_, _, _, _| ()).unwrap().unwrap().0;
    assert!(head("GET / HTTP/1.1\r\nHost: x\r\n\r\n").keep_alive);
    assert!(!head("GET / HTTP/1.1\r\nHost: x\r\nConnection: foo, Close\r\n\r\n").keep_alive);
    assert!(!head("GET / HTTP/1.0\r\n\r\n").keep_alive);
    assert!(head("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").keep_alive);
    assert!(head("GET / HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\r\n").upgrade);
    assert!(!head("GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n\r\n").upgrade);
    assert!(
        head("POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-Continue\r\nContent-Length: 1\r\n\r\n")
            .expects_continue
    );
    assert!(
        !head("POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n")
            .expects_continue
    );
    assert_eq!(head("\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n").length, 29);
}

/// What h11, llhttp and the literature of request smuggling list; each by itself.
#[test]
fn what_is_refused() {
    let get = |fields: &str| format!("GET / HTTP/1.1\r\nHost: x\r\n{fields}\r\n").into_bytes();
    let post = |fields: &str, body: &str| {
        format!("POST / HTTP/1.1\r\nHost: x\r\n{fields}\r\n{body}").into_bytes()
    };
    let chunked = |body: &str| post("Transfer-Encoding: chunked\r\n", body);
    let cases: Vec<(u16, Vec<u8>)> = vec![
        // lines and versions
        (400, b"GET / HTTP/1.1\nHost: x\n\n".to_vec()),
        (400, b"GET / HTTP/1.1\r\nHost: x\n\r\n".to_vec()),
        (400, b"GET / HTTP/1.1\r\nHost: x\r\n\n".to_vec()),
        (400, b"GET / HTTP/1.1\rHost: x\r\n\r\n".to_vec()),
        (505, b"GET / HTTP/2.0\r\nHost: x\r\n\r\n".to_vec()),
        (505, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec()),
        (400, b"GET /\r\nHost: x\r\n\r\n".to_vec()),
        (400, b"GET  / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec()),
        (400, b"GET / HTTP/1.1 \r\nHost: x\r\n\r\n".to_vec()),
        (400, b" GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec()),
        (400, b"G@T / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec()),
        (400, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec()),
        // targets
        (400, b"GET nowhere HTTP/1.1\r\nHost: x\r\n\r\n".to_vec()),
        (400, b"GET /a#b HTTP/1.1\r\nHost: x\r\n\r\n".to_vec()),
        (400, "GET /é HTTP/1.1\r\nHost: x\r\n\r\n".as_bytes().to_vec()),
        (400, b"GET * HTTP/1.1\r\nHost: x\r\n\r\n".to_vec()),
        (501, b"CONNECT x:443 HTTP/1.1\r\nHost: x\r\n\r\n".to_vec()),
        (400, b"get / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec()),
        (400, b"GET http:///a HTTP/1.1\r\nHost: x\r\n\r\n".to_vec()),
        (400, b"GET http://u@x/ HTTP/1.1\r\nHost: x\r\n\r\n".to_vec()),
        (400, b"GET http://y/a HTTP/1.1\r\nHost: x\r\n\r\n".to_vec()),
        (400, b"GET ftp://x/a HTTP/1.1\r\nHost: x\r\n\r\n".to_vec()),
        (400, b"GET / HTTP/1.1x\r\nHost: x\r\n\r\n".to_vec()),
        (400, b"GET / http/1.1\r\nHost: x\r\n\r\n".to_vec()),
        (400, b"GET / HTTP/11\r\nHost: x\r\n\r\n".to_vec()),
        (400, b"\nGET / + no version yet".to_vec()),
        // hosts
        (400, b"GET / HTTP/1.1\r\n\r\n".to_vec()),
        (400, get("Host: y\r\n")),
        (400, b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n".to_vec()),
        (400, b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n".to_vec()),
        (400, b"GET / HTTP/1.1\r\nHost: a, b\r\n\r\n".to_vec()),
        (400, b"GET / HTTP/1.1\r\nHost: a:b\r\n\r\n".to_vec()),
        (400, b"GET / HTTP/1.1\r\nHost: a:1:2\r\n\r\n".to_vec()),
        (400, b"GET / HTTP/1.1\r\nHost: [::1\r\n\r\n".to_vec()),
        (400, b"GET / HTTP/1.1\r\nHost: [x]\r\n\r\n".to_vec()),
        (400, b"GET / HTTP/1.1\r\nHost: http://x\r\n\r\n".to_vec()),
        // fields
        (400, get("Name : value\r\n")),
        (400, get(" folded: value\r\n")),
        (400, get("A: b\r\n folded\r\n")),
        (400, get("A: b\0c\r\n")),
        (400, get("A: b\rc\r\n")),
        (400, get("no colon\r\n")),
        (400, get(": no name\r\n")),
        (417, get("Expect: miracles\r\n")),
        // lengths
        (400, post("Content-Length: 5\r\nContent-Length: 5\r\n", "hello")),
        (400, post("Content-Length: 5, 5\r\n", "hello")),
        (400, post("Content-Length: +5\r\n", "hello")),
        (400, post("Content-Length: -1\r\n", "")),
        (400, post("Content-Length: 0x5\r\n", "hello")),
        (400, post("Content-Length:\r\n", "")),
        (400, post("Content-Length: 99999999999999999999\r\n", "")),
        (413, post("Content-Length: 1048577\r\n", "")),
        // both, and codings
        (400, post("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n")),
        (400, post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n")),
        (400, post("Transfer-Encoding: chunked, chunked\r\n", "0\r\n\r\n")),
        (400, post("Transfer-Encoding: chunked, identity\r\n", "0\r\n\r\n")),
        (400, post("Transfer-Encoding: xchunked\r\n", "0\r\n\r\n")),
        (400, post("Transfer-Encoding: \"chunked\"\r\n", "0\r\n\r\n")),
        (400, post("Transfer-Encoding: \x0bchunked\r\n", "0\r\n\r\n")),
        (400, post("Transfer-Encoding: identity\r\n", "")),
        (501, post("Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n")),
        (
            400,
            b"POST / HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_vec(),
        ),
        // chunks
        (400, chunked("x\r\n")),
        (400, chunked("\r\n")),
        (400, chunked("-1\r\n")),
        (400, chunked("+1\r\na\r\n")),
        (400, chunked("0x1\r\na\r\n")),
        (400, chunked(" 1\r\na\r\n")),
        (400, chunked("1 1\r\na\r\n")),
        (400, chunked("10000000000000000\r\n")),
        (413, chunked("ffffffffffffffff\r\n")),
        (
            413,
            chunked("80000\r\n")
                .into_iter()
                .chain(vec![b'a'; 0x80000])
                .chain(*b"\r\n80001\r\n")
                .collect(),
        ),
        (400, chunked("1\na\r\n")),
        (400, chunked("1\r\nab\r\n")),
        (400, chunked("1\r\na\n0\r\n\r\n")),
        (400, chunked("1\r\na\rb")),
        (400, chunked("1;a\x01b\r\na\r\n")),
        (400, chunked("1;a\rb\r\na\r\n")),
        (431, chunked(&format!("1;{}\r\n", "e".repeat(5000)))),
        (400, chunked("0\r\nno trailer\r\n\r\n")),
        (400, chunked("0\r\nA : b\r\n\r\n")),
        (431, chunked(&format!("0\r\n{}\r\n", "A: b\r\n".repeat(20_000)))),
        // sizes
        (431, get(&format!("A: {}\r\n", "b".repeat(70_000)))),
        (431, get(&"A: b\r\n".repeat(100))),
        (414, format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "a".repeat(20_000)).into_bytes()),
    ];
    for (expected, data) in cases {
        assert_eq!(status(&data), expected, "{:.200}", String::from_utf8_lossy(&data));
    }
}

#[test]
fn what_is_at_the_limits_is_taken() {
    let get = |fields: &str| format!("GET / HTTP/1.1\r\nHost: x\r\n{fields}\r\n").into_bytes();
    assert_eq!(status(&get(&"A: b\r\n".repeat(99))), 0);
    assert_eq!(status(&get(&format!("A: {}\r\n", "b".repeat(60_000)))), 0);
    assert_eq!(status(&get("A: \tb \r\nB:\r\nC: \u{e9}\r\n")), 0);
    assert_eq!(status(b"GET http://x/a HTTP/1.1\r\nHost: x\r\n\r\n"), 0);
    assert_eq!(status(b"GET HTTPS://X:80?q HTTP/1.1\r\nHost: x:80\r\n\r\n"), 0);
    assert_eq!(status(b"GET / HTTP/1.1\r\nHost: \r\n\r\n"), 0);
    assert_eq!(status(b"GET / HTTP/1.1\r\nHost: my_host.example:\r\n\r\n"), 0);
    assert_eq!(status(b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n"), 0);
    assert_eq!(status(b"GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n"), 0);
    let mut body = Body::of_length(3);
    let mut data = &b"abcd"[..];
    assert_eq!(body.next(&mut data), Ok(Piece::Data(b"abc")));
    assert_eq!((body.next(&mut data), data), (Ok(Piece::End), &b"d"[..]));
    assert!(body.is_done());
}
