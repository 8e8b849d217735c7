//! PROXY headers of both versions: at every cut point, and every way to lie.

use std::net::SocketAddr;

use wireway_core::proxy::{MAX_HEADER, Parsed, encode_v1, encode_v2, parse};

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn header(length: usize, endpoints: Option<(&str, &str)>) -> Parsed {
    Parsed::Header {
        length,
        source: endpoints.map(|(source, _)| address(source)),
        destination: endpoints.map(|(_, destination)| address(destination)),
    }
}

fn bad(data: &[u8]) -> String {
    match parse(data) {
        Parsed::Bad(what) => what,
        other => panic!("{data:?} is {other:?}"),
    }
}

/// A header of version 2 from its parts.
fn binary(command: u8, kind: u8, block: &[u8]) -> Vec<u8> {
    let mut data = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
    data.extend_from_slice(&[command, kind]);
    data.extend_from_slice(&(block.len() as u16).to_be_bytes());
    data.extend_from_slice(block);
    data
}

const IPV4: [u8; 12] = [192, 0, 2, 1, 198, 51, 100, 7, 0xDC, 0x04, 0x01, 0xBB];
const ENDS: Option<(&str, &str)> = Some(("192.0.2.1:56324", "198.51.100.7:443"));

/// Every prefix asks for more, and the whole, with anything behind it, is `expected`.
fn at_every_cut(data: &[u8], expected: &Parsed) {
    for cut in 0..data.len() {
        assert_eq!(parse(&data[..cut]), Parsed::Need, "cut at {cut} of {data:?}");
    }
    assert_eq!(parse(data), *expected);
    for more in [&b"\0"[..], b"\r\n", b"PROXY ", &[0xFF; 200]] {
        assert_eq!(parse(&[data, more].concat()), *expected);
    }
}

#[test]
fn good_lines_at_every_cut() {
    for (line, endpoints) in [
        ("PROXY TCP4 192.0.2.1 198.51.100.7 56324 443\r\n", ENDS),
        (
            "PROXY TCP4 0.0.0.0 255.255.255.255 0 65535\r\n",
            Some(("0.0.0.0:0", "255.255.255.255:65535")),
        ),
        ("PROXY TCP6 2001:db8::1 ::1 1 2\r\n", Some(("[2001:db8::1]:1", "[::1]:2"))),
        (
            "PROXY TCP6 ::ffff:192.0.2.1 2001:DB8::A 1 2\r\n",
            Some(("[::ffff:192.0.2.1]:1", "[2001:db8::a]:2")),
        ),
        ("PROXY UNKNOWN\r\n", None),
        ("PROXY UNKNOWN anything at all\r\n", None),
    ] {
        at_every_cut(line.as_bytes(), &header(line.len(), endpoints));
    }
    let ones = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
    let longest = format!("PROXY UNKNOWN {ones} {ones} 65535 65535\r\n");
    assert_eq!(longest.len(), 107);
    at_every_cut(longest.as_bytes(), &header(107, None));
}

#[test]
fn bad_lines() {
    for (line, what) in [
        ("PROXY TCP4 192.0.2.1 198.51.100.7 56324 443\n", "CR LF"),
        ("PROXY TCP4 192.0.2.1 198.51.100.7 56324 443\r\r\n", "CR LF"),
        ("PROXY UNKNOWN\r.", "CR LF"),
        ("PROXYTCP4 192.0.2.1 198.51.100.7 1 2\r\n", "no space"),
        ("PROXY\r\n", "neither"),
        ("PROXY \r\n", "neither"),
        ("PROXY  TCP4 192.0.2.1 198.51.100.7 1 2\r\n", "neither"),
        ("PROXY tcp4 192.0.2.1 198.51.100.7 1 2\r\n", "neither"),
        ("PROXY UDP4 192.0.2.1 198.51.100.7 1 2\r\n", "neither"),
        ("PROXY UNKNOWNS\r\n", "neither"),
        ("PROXY TCP4\r\n", "source address"),
        ("PROXY TCP4 \r\n", "source address"),
        ("PROXY TCP4 192.0.2.01 198.51.100.7 1 2\r\n", "source address"),
        ("PROXY TCP4 192.0.2.256 198.51.100.7 1 2\r\n", "source address"),
        ("PROXY TCP4 192.0.2 198.51.100.7 1 2\r\n", "source address"),
        ("PROXY TCP4 ::1 ::1 1 2\r\n", "source address"),
        ("PROXY TCP6 192.0.2.1 ::1 1 2\r\n", "source address"),
        ("PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n", "source address"),
        ("PROXY TCP6 1:2:3:4:5:6:7:8:9 ::1 1 2\r\n", "source address"),
        ("PROXY TCP6 00001::1 ::1 1 2\r\n", "source address"),
        ("PROXY TCP6 [::1] ::1 1 2\r\n", "source address"),
        ("PROXY TCP4 192.0.2.1  198.51.100.7 1 2\r\n", "destination address"),
        ("PROXY TCP4 192.0.2.1 localhost 1 2\r\n", "destination address"),
        ("PROXY TCP4 192.0.2.1 198.51.100.7\r\n", "source port"),
        ("PROXY TCP4 192.0.2.1 198.51.100.7 65536 2\r\n", "source port"),
        ("PROXY TCP4 192.0.2.1 198.51.100.7 01 2\r\n", "source port"),
        ("PROXY TCP4 192.0.2.1 198.51.100.7 +1 2\r\n", "source port"),
        ("PROXY TCP4 192.0.2.1 198.51.100.7 1 -2\r\n", "destination port"),
        ("PROXY TCP4 192.0.2.1 198.51.100.7 1 \r\n", "destination port"),
        ("PROXY TCP4 192.0.2.1 198.51.100.7 1 2 \r\n", "more than six"),
        ("PROXY TCP4 192.0.2.1 198.51.100.7 1 2 3\r\n", "more than six"),
    ] {
        let said = bad(line.as_bytes());
        assert!(said.contains(what) && said.starts_with("PROXY v1"), "{line:?}: {said}");
        assert_eq!(bad(&[line.as_bytes(), b"GET /\r\n"].concat()), said);
    }
    assert!(bad(b"PROXY UNKNOWN \xFF\xFF\r\n").contains("ASCII"));
}

#[test]
fn a_line_without_end_is_refused_at_its_107th_byte() {
    let mut line = b"PROXY UNKNOWN ".to_vec();
    line.resize(106, b'x');
    assert_eq!(parse(&line), Parsed::Need);
    line.push(b'x');
    assert!(bad(&line).contains("107 bytes"));
    // An end that would only be complete beyond it.
    line[106] = b'\r';
    let said = bad(&line);
    line.push(b'\n');
    assert_eq!(bad(&line), said);
}

#[test]
fn what_is_no_header_is_absent_at_once() {
    for data in [
        &b"GET / HTTP/1.1\r\n"[..],
        b"PRI * HTTP/2.0",
        b"PROXx",
        b"proxy ",
        b"\r\n\r\nx",
        b"\0",
        b"\r\r",
    ] {
        let first = (0..=data.len()).find(|cut| parse(&data[..*cut]) != Parsed::Need).unwrap();
        for cut in first..=data.len() {
            assert_eq!(parse(&data[..cut]), Parsed::Absent, "{data:?} cut at {cut}");
        }
    }
    assert_eq!(parse(b""), Parsed::Need);
    assert_eq!(parse(b"G"), Parsed::Absent);
    assert_eq!(parse(b"\r\n\r\n\0\r\nQUIT\r"), Parsed::Absent);
}

#[test]
fn good_binary_headers_at_every_cut() {
    let ipv6: Vec<u8> =
        [&address_bytes("2001:db8::1")[..], &address_bytes("::1"), &[0, 1, 0, 2]].concat();
    let noop = [4, 0, 2, 0xAA, 0xBB];
    let empty = [0xE0, 0, 0];
    for (data, endpoints) in [
        (binary(0x21, 0x11, &IPV4), ENDS),
        (binary(0x21, 0x21, &ipv6), Some(("[2001:db8::1]:1", "[::1]:2"))),
        (binary(0x21, 0x11, &[&IPV4[..], &noop, &empty].concat()), ENDS),
        // Nothing is said: other transports, Unix sockets, no family.
        (binary(0x21, 0x12, &IPV4), None),
        (binary(0x21, 0x10, &IPV4), None),
        (binary(0x21, 0x22, &ipv6), None),
        (binary(0x21, 0x31, &[b'/'; 216]), None),
        (binary(0x21, 0x32, &[b'/'; 216]), None),
        (binary(0x21, 0x00, &[]), None),
        (binary(0x21, 0x00, b"whatever"), None),
        // LOCAL: the block is skipped, whatever it says.
        (binary(0x20, 0x00, &[]), None),
        (binary(0x20, 0x11, &IPV4), None),
        (binary(0x20, 0xFF, &[3, 0, 4]), None),
    ] {
        at_every_cut(&data, &header(data.len(), endpoints));
    }
}

fn address_bytes(text: &str) -> [u8; 16] {
    text.parse::<std::net::Ipv6Addr>().unwrap().octets()
}

#[test]
fn bad_binary_headers_are_refused_before_their_block() {
    for (command, kind, length, what) in [
        (0x11, 0x11, 12, "version 1"),
        (0x00, 0x11, 12, "version 0"),
        (0x31, 0x11, 12, "version 3"),
        (0x22, 0x11, 12, "command 2"),
        (0x2F, 0x11, 12, "command 15"),
        (0x21, 0x41, 12, "family 4"),
        (0x21, 0xF0, 12, "family 15"),
        (0x21, 0x13, 12, "transport 3"),
        (0x21, 0x03, 0, "transport 3"),
        (0x21, 0x11, 11, "11 bytes announced, the addresses of family 1 need 12"),
        (0x21, 0x21, 12, "12 bytes announced, the addresses of family 2 need 36"),
        (0x21, 0x22, 35, "need 36"),
        (0x21, 0x31, 215, "need 216"),
        (0x21, 0x11, 0, "need 12"),
        (0x21, 0x11, 4081, "4097 bytes announced, the limit is 4096"),
        (0x20, 0x00, 65535, "65551 bytes announced"),
    ] {
        let mut data = binary(command, kind, &[]);
        data[14..].copy_from_slice(&u16::to_be_bytes(length));
        let said = bad(&data);
        assert!(said.contains(what) && said.starts_with("PROXY v2"), "{said}");
        data.resize(MAX_HEADER * 20, 0);
        assert_eq!(bad(&data), said);
    }
}

#[test]
fn extras_that_do_not_fit_are_refused() {
    for (extras, what) in [
        (&[4][..], "1 bytes at its end"),
        (&[4, 0], "2 bytes at its end"),
        (&[4, 0, 1], "TLV 0x04 of 1 bytes where only 0"),
        (&[4, 0xFF, 0xFF, 1, 2], "TLV 0x04 of 65535 bytes where only 2"),
        (&[4, 0, 0, 5], "1 bytes at its end"),
        (&[3, 0, 3, 1, 2, 3], "a checksum of 3 bytes"),
        (&[3, 0, 4, 1, 2, 3, 4], "not that of its bytes"),
        (&[3, 0, 4, 1, 2, 3, 4, 3, 0, 4, 1, 2, 3, 4], "two checksums"),
    ] {
        let data = binary(0x21, 0x11, &[&IPV4[..], extras].concat());
        assert!(bad(&data).contains(what), "{extras:?}: {}", bad(&data));
        assert_eq!(parse(&data[..data.len() - 1]), Parsed::Need);
    }
}

#[test]
fn a_checksum_finds_every_flipped_bit() {
    let ends = Some((address("192.0.2.1:56324"), address("198.51.100.7:443")));
    let data = encode_v2(ends, &[(4, b"padding"), (1, b"h2")], true).unwrap();
    at_every_cut(&data, &header(data.len(), ENDS));
    // Not in its own type: what is no checksum proves nothing.
    let own_type = data.len() - 7;
    for byte in (16..data.len()).filter(|byte| *byte != own_type) {
        for bit in 0..8 {
            let mut flipped = data.clone();
            flipped[byte] ^= 1 << bit;
            assert!(matches!(parse(&flipped), Parsed::Bad(_)), "byte {byte}, bit {bit}");
        }
    }
}

#[test]
fn a_header_with_a_checksum_made_elsewhere() {
    // 0x11, 127.0.0.1:1 to 127.0.0.1:2, and CRC32c computed bit by bit, not with the table.
    let mut data =
        binary(0x21, 0x11, &[127, 0, 0, 1, 127, 0, 0, 1, 0, 1, 0, 2, 3, 0, 4, 0, 0, 0, 0]);
    let sum = bitwise_crc32c(&data);
    let at = data.len() - 4;
    data[at..].copy_from_slice(&sum.to_be_bytes());
    assert_eq!(parse(&data), header(data.len(), Some(("127.0.0.1:1", "127.0.0.1:2"))));
    assert_eq!(bitwise_crc32c(&[0; 32]), 0x8A91_36AA, "RFC 3720 appendix B.4");
}

fn bitwise_crc32c(data: &[u8]) -> u32 {
    let mut state = u32::MAX;
    for byte in data {
        state ^= u32::from(*byte);
        for _ in 0..8 {
            state = if state & 1 == 1 { state >> 1 ^ 0x82F6_3B78 } else { state >> 1 };
        }
    }
    !state
}

#[test]
fn what_is_written_is_read() {
    let mut ports = (1..=u16::MAX).step_by(7919);
    let mut port = || ports.next().unwrap_or(0);
    let ips = ["192.0.2.1", "0.0.0.0", "255.255.255.255", "2001:db8::1", "::", "::ffff:192.0.2.1"];
    for from in ips {
        for to in ips {
            let source = SocketAddr::new(from.parse().unwrap(), port());
            let destination = SocketAddr::new(to.parse().unwrap(), port());
            let line = encode_v1(Some((source, destination)));
            let plain = encode_v2(Some((source, destination)), &[], false).unwrap();
            let sealed = encode_v2(Some((source, destination)), &[(5, b"id")], true).unwrap();
            for data in [line, plain, sealed] {
                let Parsed::Header { length, source: Some(from), destination: Some(to) } =
                    parse(&data)
                else {
                    panic!("{data:?} is {:?}", parse(&data));
                };
                assert_eq!(length, data.len());
                assert_eq!((from.port(), to.port()), (source.port(), destination.port()));
                assert_eq!(from.ip().to_canonical(), source.ip().to_canonical());
                assert_eq!(to.ip().to_canonical(), destination.ip().to_canonical());
                assert_eq!(from.is_ipv4(), to.is_ipv4());
            }
        }
    }
    assert_eq!(parse(&encode_v1(None)), header(15, None));
    assert_eq!(parse(&encode_v2(None, &[], false).unwrap()), header(16, None));
    assert_eq!(encode_v2(None, &[(4, &[0; MAX_HEADER])], false), None);
    assert_eq!(encode_v2(None, &[(4, &[0; 70_000])], false), None);
}
