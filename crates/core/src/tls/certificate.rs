//! Owns what a certificate says, for people and programs: X.509 version 3 (RFC 5280) from DER. Does not judge it.

use rustls::crypto::hash::HashAlgorithm;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::x509::{AttributeTypeAndValue, X509Name};

/// A certificate, read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Certificate {
    /// Whom it names, as RFC 4514 writes it: the last part of the encoded name first, `CN=a,O=b`.
    pub subject: String,
    /// The parts of that name in the order of the certificate: (type, value), the type as a short name
    /// (`CN`, `O`, `OU`, `C`, `ST`, `L`, `DC`, `UID`, `STREET`, `serialNumber`, `emailAddress`, ...) or an OID.
    pub subject_parts: Vec<(String, String)>,
    /// Who issued it, as RFC 4514 writes it.
    pub issuer: String,
    /// The parts of that name.
    pub issuer_parts: Vec<(String, String)>,
    /// Hexadecimal, lower case, without leading zero bytes.
    pub serial: String,
    /// Valid from, seconds since 1970.
    pub not_before: i64,
    /// Valid until, seconds since 1970.
    pub not_after: i64,
    /// Its other names: `DNS:example.com`, `IP:192.0.2.1`, `URI:spiffe://...`, `email:a@example.com`,
    /// `DirName:CN=...`, `RID:1.2.3`, `other:OID`.
    pub san: Vec<String>,
    /// Every extension as it stands.
    pub extensions: Vec<Extension>,
    /// SHA-256 of the DER, 32 bytes as lower case hexadecimal.
    pub sha256: String,
}

/// An extension as it stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Extension {
    /// Dotted, `2.5.29.17`.
    pub oid: String,
    /// Whether who does not understand it must refuse the certificate.
    pub critical: bool,
    /// DER, what stands in the OCTET STRING.
    pub value: Vec<u8>,
}

impl Certificate {
    /// Reads DER.
    ///
    /// # Errors
    ///
    /// What is wrong, in words that follow a subject: "is not a certificate (...)".
    pub fn parse(der: &[u8]) -> Result<Self, String> {
        let (rest, read) = X509Certificate::from_der(der)
            .map_err(|error| format!("is not a certificate ({error})"))?;
        if !rest.is_empty() {
            return Err(format!("is not a certificate: {} bytes too many follow it", rest.len()));
        }
        let mut san = Vec::new();
        for extension in read.extensions() {
            if let ParsedExtension::SubjectAlternativeName(names) = extension.parsed_extension() {
                san.extend(names.general_names.iter().map(general_name));
            }
        }
        let extensions = read.extensions().iter().map(|extension| Extension {
            oid: extension.oid.to_id_string(),
            critical: extension.critical,
            value: extension.value.to_vec(),
        });
        let serial = hex(read.raw_serial());
        let trimmed = serial.trim_start_matches("00");
        Ok(Certificate {
            subject: rfc4514(read.subject()),
            subject_parts: parts(read.subject()),
            issuer: rfc4514(read.issuer()),
            issuer_parts: parts(read.issuer()),
            serial: if trimmed.is_empty() { "00".into() } else { trimmed.into() },
            not_before: read.validity().not_before.timestamp(),
            not_after: read.validity().not_after.timestamp(),
            san,
            extensions: extensions.collect(),
            sha256: hex(&sha256(der)),
        })
    }

    /// The names of hosts that it is for, `*.` names among them.
    pub fn dns_names(&self) -> impl Iterator<Item = &str> {
        self.san.iter().filter_map(|name| name.strip_prefix("DNS:"))
    }
}

fn sha256(data: &[u8]) -> Vec<u8> {
    let suite = rustls::crypto::ring::cipher_suite::TLS13_AES_128_GCM_SHA256;
    let hash = suite.tls13().expect("a suite of TLS 1.3").common.hash_provider;
    debug_assert_eq!(hash.algorithm(), HashAlgorithm::SHA256);
    hash.hash(data).as_ref().to_vec()
}

pub(super) fn hex(data: &[u8]) -> String {
    use std::fmt::Write;
    data.iter().fold(String::with_capacity(data.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn general_name(name: &GeneralName<'_>) -> String {
    match name {
        GeneralName::DNSName(name) => format!("DNS:{name}"),
        GeneralName::RFC822Name(name) => format!("email:{name}"),
        GeneralName::URI(name) => format!("URI:{name}"),
        GeneralName::IPAddress(bytes) => {
            if let Ok(four) = <[u8; 4]>::try_from(*bytes) {
                format!("IP:{}", std::net::Ipv4Addr::from(four))
            } else if let Ok(sixteen) = <[u8; 16]>::try_from(*bytes) {
                format!("IP:{}", std::net::Ipv6Addr::from(sixteen))
            } else {
                format!("IP:#{}", hex(bytes))
            }
        }
        GeneralName::DirectoryName(name) => format!("DirName:{}", rfc4514(name)),
        GeneralName::RegisteredID(oid) => format!("RID:{}", oid.to_id_string()),
        GeneralName::OtherName(oid, _) => format!("other:{}", oid.to_id_string()),
        GeneralName::X400Address(_) => "other:x400Address".into(),
        GeneralName::EDIPartyName(_) => "other:ediPartyName".into(),
        GeneralName::Invalid(tag, bytes) => format!("invalid:{}#{}", tag.0, hex(bytes)),
    }
}

/// RFC 4514, section 3, and a few that OpenSSL writes.
fn short_name(oid: &str) -> Option<&'static str> {
    Some(match oid {
        "2.5.4.3" => "CN",
        "2.5.4.4" => "SN",
        "2.5.4.5" => "serialNumber",
        "2.5.4.6" => "C",
        "2.5.4.7" => "L",
        "2.5.4.8" => "ST",
        "2.5.4.9" => "STREET",
        "2.5.4.10" => "O",
        "2.5.4.11" => "OU",
        "2.5.4.12" => "title",
        "2.5.4.42" => "GN",
        "0.9.2342.19200300.100.1.1" => "UID",
        "0.9.2342.19200300.100.1.25" => "DC",
        "1.2.840.113549.1.9.1" => "emailAddress",
        _ => return None,
    })
}

fn kind(part: &AttributeTypeAndValue<'_>) -> String {
    let oid = part.attr_type().to_id_string();
    short_name(&oid).map(String::from).unwrap_or(oid)
}

/// The value as text; `#` and its bytes in hexadecimal when it is none.
fn value(part: &AttributeTypeAndValue<'_>) -> Result<String, String> {
    use x509_parser::asn1_rs::Tag;
    let data = part.as_slice();
    let wide = |unit: usize, decode: fn(&[u8]) -> u32| {
        data.chunks(unit).map(|bytes| char::from_u32(decode(bytes))).collect::<Option<String>>()
    };
    let text = match part.attr_value().tag() {
        Tag::BmpString if data.len() % 2 == 0 => {
            wide(2, |bytes| u32::from(u16::from_be_bytes([bytes[0], bytes[1]])))
        }
        Tag::UniversalString if data.len() % 4 == 0 => {
            wide(4, |bytes| u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
        }
        // Latin-1 in practice.
        Tag::T61String => Some(data.iter().map(|&byte| char::from(byte)).collect()),
        _ => part.as_str().ok().map(String::from),
    };
    text.ok_or_else(|| format!("#{}", hex(data)))
}

fn parts(name: &X509Name<'_>) -> Vec<(String, String)> {
    name.iter_attributes().map(|part| (kind(part), value(part).unwrap_or_else(|raw| raw))).collect()
}

/// RFC 4514, section 2.1: the parts from the last to the first, several values of one part with `+`.
fn rfc4514(name: &X509Name<'_>) -> String {
    let mut all: Vec<String> = name
        .iter_rdn()
        .map(|rdn| {
            let mut each: Vec<String> = rdn
                .iter()
                .map(|part| match value(part) {
                    Ok(text) => format!("{}={}", kind(part), escape(&text)),
                    Err(raw) => format!("{}={raw}", kind(part)),
                })
                .collect();
            each.reverse(); // as OpenSSL writes them; their order means nothing
            each.join("+")
        })
        .collect();
    all.reverse();
    all.join(",")
}

/// RFC 4514, section 2.4.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let last = text.chars().count().saturating_sub(1);
    for (at, char) in text.chars().enumerate() {
        match char {
            '"' | '+' | ',' | ';' | '<' | '>' | '\\' => out.extend(['\\', char]),
            '#' | ' ' if at == 0 => out.extend(['\\', char]),
            ' ' if at == last => out.push_str("\\ "),
            '\0' => out.push_str("\\00"),
            _ => out.push(char),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_of_rfc_4514() {
        for (text, expected) in [
            ("plain", "plain"),
            ("Sue, Grabbit and Runn", "Sue\\, Grabbit and Runn"),
            ("# a ", "\\# a\\ "),
            (" a#b", "\\ a#b"),
            ("a\0b\"", "a\\00b\\\""),
            ("Lučić", "Lučić"),
            (" ", "\\ "),
        ] {
            assert_eq!(escape(text), expected);
        }
    }

    #[test]
    fn what_is_no_certificate() {
        for der in [&b""[..], b"GET / HTTP/1.1", &[0x30, 0x80], &[0x30, 0x03, 2, 1, 1]] {
            assert!(Certificate::parse(der).unwrap_err().starts_with("is not a certificate"));
        }
    }
}
