//! Requests of HTTP/1.1: no input panics, where they are cut changes nothing, and a body never takes what is not its own.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wireway_core::http::{Body, HttpLimits, Piece, parse};

/// What came of the bytes: each request's target and body, and the status of what was refused.
fn read(data: &[u8], cut: usize) -> (Vec<(String, Vec<u8>)>, Option<u16>) {
    let limits = HttpLimits { head: 4096, fields: 40, body: 4096 };
    let (mut seen, mut buffer, mut body) = (Vec::<(String, Vec<u8>)>::new(), Vec::new(), None::<Body>);
    for piece in [&data[..cut], &data[cut..]] {
        buffer.extend_from_slice(piece);
        loop {
            let Some(reading) = &mut body else {
                match parse(&buffer, &limits, |_, target, _, _| target.to_owned()) {
                    Ok(Some((head, target))) => {
                        assert!(head.length <= buffer.len() && head.length <= limits.head);
                        assert!(buffer[..head.length].ends_with(b"\r\n\r\n"));
                        buffer.drain(..head.length);
                        seen.push((target, Vec::new()));
                        body = Some(head.body);
                        continue;
                    }
                    Ok(None) => break,
                    Err(error) => return (seen, Some(error.status)),
                }
            };
            let mut rest = &buffer[..];
            match reading.next(&mut rest) {
                Ok(Piece::Data(bytes)) => {
                    assert!(!bytes.is_empty());
                    seen.last_mut().unwrap().1.extend_from_slice(bytes);
                    assert!(seen.last().unwrap().1.len() as u64 <= limits.body);
                }
                Ok(Piece::End) => body = None,
                Ok(Piece::More) => {
                    let used = buffer.len() - rest.len();
                    buffer.drain(..used);
                    break;
                }
                Err(error) => return (seen, Some(error.status)),
            }
            let used = buffer.len() - rest.len();
            buffer.drain(..used);
        }
    }
    (seen, None)
}

fuzz_target!(|input: (u8, u16, &[u8])| {
    let (kind, cut, rest) = input;
    let front: &[u8] = match kind % 4 {
        0 => b"",
        1 => b"GET / HTTP/1.1\r\nHost: x\r\n",
        2 => b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n",
        _ => b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n",
    };
    let data = [front, rest].concat();
    let (whole, refused) = read(&data, data.len());
    let (cut_seen, cut_refused) = read(&data, usize::from(cut) % (data.len() + 1));
    assert_eq!(cut_seen.iter().map(|(target, _)| target).collect::<Vec<_>>(), whole.iter().map(|(target, _)| target).collect::<Vec<_>>());
    assert_eq!(cut_refused.is_some(), refused.is_some());
    if refused.is_none() {
        assert_eq!(cut_seen, whole);
    }
});
