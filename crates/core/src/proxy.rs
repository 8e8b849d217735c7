//! The PROXY protocol, versions 1 and 2, sans I/O: who is really at the other end of a proxy.
//!
//! A proxy that forwards a connection puts one header before its first byte. Source of every fact here:
//! "The PROXY protocol, Versions 1 & 2" by Willy Tarreau (haproxy.org/download/3.0/doc/proxy-protocol.txt),
//! sections 2.1 (version 1, a line of text), 2.2 (version 2, binary) and 2.2.3 (its checksum).
//!
//! ```text
//!   1:  PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n        at most 107 bytes
//!   2:  \r\n\r\n\0\r\nQUIT\n  version|command  family|transport  length(2)  addresses  TLVs
//!       12                    1                1                 2          length
//! ```
//!
//! [`parse`] looks at what came so far and keeps nothing. What it says of some bytes it also says of those
//! bytes with more behind them, except [`Parsed::Need`]. Who may send a header at all is not its business:
//! **a header of a peer that is no proxy of yours is a forged address** (section 2: "the receiver MUST be
//! configured to only receive the protocol").

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The longest header accepted, bytes. Version 2 could announce 65,551; addresses and every TLV that is in
/// use need a tenth of this.
pub const MAX_HEADER: usize = 4096;

/// The longest line of version 1 with its end, bytes.
const MAX_LINE: usize = 107;

const TEXT: &[u8] = b"PROXY";
const BINARY: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, command, family, length.
const FIXED: usize = 16;

/// `PP2_TYPE_CRC32C`.
const CHECKSUM: u8 = 3;

/// What stands at the front of a stream.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Parsed {
    /// Perhaps a header: more bytes will tell.
    Need,
    /// No header.
    Absent,
    /// A header of `length` bytes. The addresses are those of the connection that the proxy accepted, or
    /// `None` when it does not say (`UNKNOWN`, `LOCAL`, a Unix socket, another transport than a stream):
    /// the connection's own hold then.
    Header {
        /// Bytes to skip.
        length: usize,
        /// The client.
        source: Option<SocketAddr>,
        /// Where the client connected to.
        destination: Option<SocketAddr>,
    },
    /// A header that lies or is broken, and what is wrong with it. Section 2: abort the connection.
    Bad(String),
}

type Endpoints = Option<(SocketAddr, SocketAddr)>;

/// Reads the header at the front of `data`, of either version.
pub fn parse(data: &[u8]) -> Parsed {
    let parsed = if data.starts_with(TEXT) {
        line(data)
    } else if data.starts_with(BINARY) {
        binary(data)
    } else if TEXT.starts_with(data) || BINARY.starts_with(data) {
        return Parsed::Need;
    } else {
        return Parsed::Absent;
    };
    match parsed {
        Ok(Some((length, endpoints))) => Parsed::Header {
            length,
            source: endpoints.map(|(source, _)| source),
            destination: endpoints.map(|(_, destination)| destination),
        },
        Ok(None) => Parsed::Need,
        Err(what) => Parsed::Bad(what),
    }
}

/// The length and what it says; `None` for more bytes.
type Outcome = Result<Option<(usize, Endpoints)>, String>;

/// Version 1. "The receiver must wait for the CRLF sequence before starting to decode the addresses."
fn line(data: &[u8]) -> Outcome {
    let seen = &data[..data.len().min(MAX_LINE)];
    let end = match seen.iter().position(|byte| matches!(byte, b'\r' | b'\n')) {
        Some(end) if seen[end] == b'\r' && seen.get(end + 1) == Some(&b'\n') => end,
        Some(end) if seen[end] == b'\r' && seen.len() == end + 1 && seen.len() < MAX_LINE => {
            return Ok(None);
        }
        None if seen.len() < MAX_LINE => return Ok(None),
        Some(_) => return Err("PROXY v1 header: its line does not end with CR LF".to_owned()),
        None => return Err(format!("PROXY v1 header: no end of line in {MAX_LINE} bytes")),
    };
    let Ok(text) = std::str::from_utf8(&seen[TEXT.len()..end]) else {
        return Err("PROXY v1 header: its line is not ASCII".to_owned());
    };
    let endpoints = fields(text).map_err(|what| format!("PROXY v1 header: {what} in {text:?}"))?;
    Ok(Some((end + 2, endpoints)))
}

/// What follows `PROXY` in a line.
fn fields(text: &str) -> Result<Endpoints, &'static str> {
    // Exactly one space between two fields: splitting at each leaves an empty field where there are more.
    let mut fields = text.split(' ');
    if fields.next() != Some("") {
        return Err("no space after PROXY");
    }
    let read: fn(&str) -> Option<IpAddr> = match fields.next() {
        Some("UNKNOWN") => return Ok(None),
        // Both are strict: no zeros in front, nothing but the address.
        Some("TCP4") => |text| text.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
        Some("TCP6") => |text| text.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        _ => return Err("neither TCP4 nor TCP6 nor UNKNOWN"),
    };
    let source = fields.next().and_then(read).ok_or("no source address of that family")?;
    let destination =
        fields.next().and_then(read).ok_or("no destination address of that family")?;
    let source = SocketAddr::new(source, port(fields.next()).ok_or("no source port")?);
    let destination =
        SocketAddr::new(destination, port(fields.next()).ok_or("no destination port")?);
    match fields.next() {
        None => Ok(Some((source, destination))),
        Some(_) => Err("more than six fields"),
    }
}

/// 0 to 65535, "heading zeroes are not permitted".
fn port(text: Option<&str>) -> Option<u16> {
    let text = text?;
    let strict =
        text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    strict.then(|| text.parse().ok())?
}

/// Version 2. Each byte is judged as soon as it is there; addresses when all are.
fn binary(data: &[u8]) -> Outcome {
    let local = match data.get(12) {
        None => return Ok(None),
        Some(0x20) => true,
        Some(0x21) => false,
        Some(byte) if byte >> 4 != 2 => {
            return Err(format!("PROXY v2 header: version {}, only 2 is known", byte >> 4));
        }
        Some(byte) => return Err(format!("PROXY v2 header: command {} is unknown", byte & 15)),
    };
    let Some(&kind) = data.get(13) else { return Ok(None) };
    let (family, transport) = (kind >> 4, kind & 15);
    // "The receiver must … discard the protocol block including the family which is ignored."
    if !local && (family > 3 || transport > 2) {
        return Err(format!(
            "PROXY v2 header: family {family} with transport {transport} is unknown"
        ));
    }
    let Some(length) = data.get(14..FIXED) else { return Ok(None) };
    let block = usize::from(u16::from_be_bytes([length[0], length[1]]));
    let length = FIXED + block;
    if length > MAX_HEADER {
        return Err(format!(
            "PROXY v2 header: {length} bytes announced, the limit is {MAX_HEADER}"
        ));
    }
    let addresses = match family {
        _ if local => 0,
        1 => 2 * (4 + 2),
        2 => 2 * (16 + 2),
        3 => 2 * 108,
        _ => 0,
    };
    if block < addresses {
        return Err(format!(
            "PROXY v2 header: {block} bytes announced, the addresses of family {family} need {addresses}"
        ));
    }
    let Some(header) = data.get(..length) else { return Ok(None) };
    // Of an unspecified family nobody knows where addresses end and TLVs begin.
    if local || family == 0 {
        return Ok(Some((length, None)));
    }
    extras(header, FIXED + addresses).map_err(|what| format!("PROXY v2 header: {what}"))?;
    let endpoints = match (&header[FIXED..FIXED + addresses], transport) {
        (&[a, b, c, d, e, f, g, h, ref ports @ ..], 1) if family == 1 => {
            Some((IpAddr::from([a, b, c, d]), IpAddr::from([e, f, g, h]), ports))
        }
        (both, 1) if family == 2 => both.split_first_chunk::<16>().and_then(|(source, rest)| {
            let (destination, ports) = rest.split_first_chunk::<16>()?;
            Some((IpAddr::from(*source), IpAddr::from(*destination), ports))
        }),
        _ => None,
    };
    let endpoints = endpoints.map(|(source, destination, ports)| {
        let port = |at: usize| u16::from_be_bytes([ports[at], ports[at + 1]]);
        (SocketAddr::new(source, port(0)), SocketAddr::new(destination, port(2)))
    });
    Ok(Some((length, endpoints)))
}

/// The TLVs of a header, from `at` on: their lengths, and the checksum if there is one.
fn extras(header: &[u8], mut at: usize) -> Result<(), String> {
    let mut checksum = None;
    while at < header.len() {
        let Some(&[kind, high, low]) = header.get(at..at + 3) else {
            return Err(format!("{} bytes at its end are no TLV", header.len() - at));
        };
        let length = usize::from(u16::from_be_bytes([high, low]));
        let start = at + 3;
        let Some(value) = header.get(start..start + length) else {
            return Err(format!(
                "TLV {kind:#04x} of {length} bytes where only {} are left",
                header.len() - start
            ));
        };
        if kind == CHECKSUM {
            let Ok(value) = <[u8; 4]>::try_from(value) else {
                return Err(format!("a checksum of {length} bytes, it has 4"));
            };
            if checksum.replace((start, u32::from_be_bytes(value))).is_some() {
                return Err("two checksums".to_owned());
            }
        }
        at = start + length;
    }
    match checksum {
        Some((start, said)) if said != crc32c_without(header, start) => {
            Err("its checksum is not that of its bytes".to_owned())
        }
        _ => Ok(()),
    }
}

/// The checksum of a header as if its checksum, at `start`, were zero.
fn crc32c_without(header: &[u8], start: usize) -> u32 {
    let state = crc32c(u32::MAX, &header[..start]);
    !crc32c(crc32c(state, &[0; 4]), &header[start + 4..])
}

/// CRC32c (RFC 4960 appendix B, polynomial 0x1EDC6F41), bits reflected, without the last inversion.
fn crc32c(state: u32, data: &[u8]) -> u32 {
    data.iter().fold(state, |state, byte| TABLE[usize::from((state as u8) ^ byte)] ^ (state >> 8))
}

const TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        let mut value = index as u32;
        let mut bit = 0;
        while bit < 8 {
            value = if value & 1 == 1 { value >> 1 ^ 0x82F6_3B78 } else { value >> 1 };
            bit += 1;
        }
        table[index] = value;
        index += 1;
    }
    table
};

/// Two addresses of one family: if they differ, both as IPv6.
fn alike(source: SocketAddr, destination: SocketAddr) -> (IpAddr, IpAddr) {
    let wide = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => IpAddr::V6(ip.to_ipv6_mapped()),
        IpAddr::V6(_) => ip,
    };
    match (source.ip(), destination.ip()) {
        (source @ IpAddr::V4(_), destination @ IpAddr::V4(_)) => (source, destination),
        (source, destination) => (wide(source), wide(destination)),
    }
}

/// A header of version 1 for a connection from the first address to the second; `UNKNOWN` without.
pub fn encode_v1(endpoints: Option<(SocketAddr, SocketAddr)>) -> Vec<u8> {
    let Some((source, destination)) = endpoints else { return b"PROXY UNKNOWN\r\n".to_vec() };
    let (from, to) = alike(source, destination);
    let family = if from.is_ipv4() { 4 } else { 6 };
    let (from_port, to_port) = (source.port(), destination.port());
    format!("PROXY TCP{family} {from} {to} {from_port} {to_port}\r\n").into_bytes()
}

/// A header of version 2; `LOCAL` without endpoints. `extras` are TLVs: types and values. With `checksum`
/// the last TLV is the CRC32c of all. `None` when it would be longer than [`MAX_HEADER`].
pub fn encode_v2(
    endpoints: Option<(SocketAddr, SocketAddr)>,
    extras: &[(u8, &[u8])],
    checksum: bool,
) -> Option<Vec<u8>> {
    let mut header = BINARY.to_vec();
    header.extend_from_slice(if endpoints.is_some() { &[0x21, 0, 0, 0] } else { &[0x20, 0, 0, 0] });
    if let Some((source, destination)) = endpoints {
        let (from, to) = alike(source, destination);
        for ip in [from, to] {
            match ip {
                IpAddr::V4(ip) => header.extend_from_slice(&ip.octets()),
                IpAddr::V6(ip) => header.extend_from_slice(&ip.octets()),
            }
        }
        header[13] = if from.is_ipv4() { 0x11 } else { 0x21 };
        header.extend_from_slice(&source.port().to_be_bytes());
        header.extend_from_slice(&destination.port().to_be_bytes());
    }
    let seal: &[(u8, &[u8])] = if checksum { &[(CHECKSUM, &[0; 4])] } else { &[] };
    for (kind, value) in extras.iter().chain(seal) {
        header.push(*kind);
        header.extend_from_slice(&u16::try_from(value.len()).ok()?.to_be_bytes());
        header.extend_from_slice(value);
    }
    if header.len() > MAX_HEADER {
        return None;
    }
    let block = (header.len() - FIXED) as u16;
    header[14..FIXED].copy_from_slice(&block.to_be_bytes());
    if checksum {
        let start = header.len() - 4;
        let sum = crc32c_without(&header, start);
        header[start..].copy_from_slice(&sum.to_be_bytes());
    }
    Some(header)
}
