//! PROXY headers: no input panics, a prefix never says what the whole denies, and what is read can be written.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wireway_core::proxy::{MAX_HEADER, Parsed, encode_v1, encode_v2, parse};

fuzz_target!(|input: (u8, u16, &[u8])| {
    let (kind, cut, body) = input;
    // Past the signature most of the time, else nearly nothing would be a header.
    let front: &[u8] = match kind % 5 {
        0 => b"",
        1 => b"PROXY TCP4 192.0.2.1 ",
        2 => b"PROXY TCP6 ::1 ",
        3 => b"\r\n\r\n\0\r\nQUIT\n",
        _ => b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x1F\x7F\0\0\x01\x7F\0\0\x01\0\x01\0\x02",
    };
    let data = [front, body].concat();
    let whole = parse(&data);
    let cut = usize::from(cut) % (data.len() + 1);
    match parse(&data[..cut]) {
        Parsed::Need => assert!(cut <= MAX_HEADER),
        said => assert_eq!(said, whole),
    }

    let Parsed::Header { length, source, destination } = whole else { return };
    assert!(length <= data.len() && length <= MAX_HEADER);
    assert_eq!(parse(&data[..length - 1]), Parsed::Need);
    let (Some(source), Some(destination)) = (source, destination) else {
        assert_eq!((source, destination), (None, None));
        return;
    };
    let ends = Some((source, destination));
    let read = |data: &[u8]| {
        let length = data.len();
        assert_eq!(
            parse(data),
            Parsed::Header { length, source: Some(source), destination: Some(destination) }
        );
    };
    read(&encode_v1(ends));
    for checksum in [false, true] {
        if let Some(header) = encode_v2(ends, &[(4, &body[..body.len().min(64)])], checksum) {
            read(&header);
        }
    }
});
