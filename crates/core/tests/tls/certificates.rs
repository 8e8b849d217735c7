//! What a certificate says, against what `openssl x509` said of the same one.

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use wireway_core::tls::certificate::Certificate;

/// `openssl x509 -subject -nameopt RFC2253 -serial -fingerprint -sha256 -startdate`.
const SUBJECT: &str = "emailAddress=x@y.z,CN=localhost,OU=b+OU=a,O=Acme\\, Inc.,C=DE";
const SERIAL: &str = "16D0B7F1C315F04A2A6301F018A991144364217F";
const FINGERPRINT: &str = "4C:DA:3A:48:04:36:18:88:B9:7E:19:AA:F2:6F:AE:B1:FE:13:32:38:7F:EF:01:27:88:9B:CB:79:50:B9:88:56";
const NOT_BEFORE: i64 = 1_795_505_515;

#[test]
fn every_field_as_openssl_reads_it() {
    let der = CertificateDer::from_pem_slice(include_bytes!("data/cert.pem")).unwrap();
    let read = Certificate::parse(&der).unwrap();
    assert_eq!(read.subject, SUBJECT);
    assert_eq!((&read.issuer, &read.issuer_parts), (&read.subject, &read.subject_parts));
    let parts: Vec<(&str, &str)> =
        read.subject_parts.iter().map(|(kind, value)| (kind.as_str(), value.as_str())).collect();
    assert_eq!(parts[..2], [("C", "DE"), ("O", "Acme, Inc.")]);
    assert_eq!(parts.last(), Some(&("emailAddress", "x@y.z")));
    assert_eq!(read.serial, SERIAL.to_lowercase());
    assert_eq!(read.sha256, FINGERPRINT.replace(':', "").to_lowercase());
    assert_eq!(read.not_after - read.not_before, 36_500 * 86_400);
    assert_eq!(read.not_before, NOT_BEFORE);
    assert_eq!(
        read.san,
        ["DNS:localhost", "IP:127.0.0.1", "IP:::1", "URI:spiffe://a/b", "email:a@b.c"]
    );
    assert_eq!(read.dns_names().collect::<Vec<_>>(), ["localhost"]);
    let constraints =
        read.extensions.iter().find(|extension| extension.oid == "2.5.29.19").unwrap();
    assert!(constraints.critical);
    assert_eq!(constraints.value, [0x30, 3, 1, 1, 0xFF], "CA:TRUE");
}

#[test]
fn every_prefix_is_refused() {
    let der = CertificateDer::from_pem_slice(include_bytes!("data/cert.pem")).unwrap();
    for cut in 0..der.len() {
        assert!(Certificate::parse(&der[..cut]).is_err(), "cut at {cut}");
    }
    assert!(
        Certificate::parse(&[&der[..], b"x"].concat()).unwrap_err().contains("1 bytes too many")
    );
}
