//! Owns failures: what went wrong, as a code that a close reason has and a sentence for people. Does not know
//! how a connection ends.

use rustls::{AlertDescription, CertificateError, Error, PeerIncompatible, PeerMisbehaved};

/// The codes of [`TlsError`], which are codes of close reasons, except [`OPTIONS`](code::OPTIONS).
pub mod code {
    /// What came is not TLS.
    pub const GARBAGE: &str = "tls-garbage";
    /// There is no version that both sides accept.
    pub const VERSION: &str = "tls-version";
    /// The client showed no certificate and must.
    pub const NO_CERTIFICATE: &str = "tls-no-certificate";
    /// The peer's certificate is not valid any more, or not yet.
    pub const EXPIRED: &str = "tls-expired";
    /// The server's certificate is for other names.
    pub const WRONG_HOST: &str = "tls-wrong-host";
    /// The peer's certificate was issued by nobody we trust.
    pub const UNKNOWN_CA: &str = "tls-unknown-ca";
    /// The peer's certificate is broken, or not for this use.
    pub const BAD_CERTIFICATE: &str = "tls-bad-certificate";
    /// The peer refused us.
    pub const REJECTED: &str = "tls-rejected";
    /// The stream ended without the peer's saying so: what came last may be missing.
    pub const TRUNCATED: &str = "tls-truncated";
    /// The rest: a record that was changed on its way, a peer that breaks the protocol, no cipher in common.
    pub const ERROR: &str = "tls-error";
    /// Not of a connection: an option of `ServerTls` or `ClientTls` is wrong.
    pub const OPTIONS: &str = "tls-options";
}

/// What went wrong.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TlsError {
    /// One of [`code`].
    pub code: &'static str,
    /// For people: what happened, and what to do where that is known.
    pub text: String,
}

impl std::fmt::Display for TlsError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for TlsError {}

impl TlsError {
    pub(super) fn new(code: &'static str, text: impl Into<String>) -> Self {
        TlsError { code, text: text.into() }
    }

    pub(super) fn options(text: String) -> Self {
        TlsError::new(code::OPTIONS, text)
    }

    /// From rustls' error. `server`: whether we are the server.
    pub(super) fn of(error: &Error, server: bool) -> Self {
        let peer = if server { "client" } else { "server" };
        match error {
            Error::InvalidCertificate(why) => certificate(why, peer),
            Error::NoCertificatesPresented => TlsError::new(
                code::NO_CERTIFICATE,
                format!("the {peer} showed no certificate, and must"),
            ),
            Error::AlertReceived(AlertDescription::ProtocolVersion) => TlsError::new(
                code::VERSION,
                format!(
                    "no version of TLS in common: the {peer} refused every one of ours (alert protocol_version)"
                ),
            ),
            Error::AlertReceived(alert) => TlsError::new(code::REJECTED, rejected(*alert, peer)),
            Error::PeerIncompatible(why) => incompatible(why, peer),
            Error::PeerMisbehaved(
                PeerMisbehaved::AttemptedDowngradeToTls12WhenTls13IsSupported,
            ) => TlsError::new(
                code::VERSION,
                "a downgrade: both sides speak TLS 1.3, and somebody on the way made it 1.2",
            ),
            Error::InvalidMessage(why) => TlsError::new(
                code::ERROR,
                format!("the {peer} sent a TLS message that can't be read: {why:?}"),
            ),
            Error::DecryptError => TlsError::new(
                code::ERROR,
                format!(
                    "a record of the {peer} does not decrypt: it was changed or cut on its way"
                ),
            ),
            Error::NoApplicationProtocol => TlsError::new(
                code::ERROR,
                format!("no application protocol in common (ALPN): the {peer} offers only others"),
            ),
            Error::PeerMisbehaved(why) => {
                TlsError::new(code::ERROR, format!("the {peer} breaks the protocol: {why:?}"))
            }
            Error::PeerSentOversizedRecord => {
                TlsError::new(code::ERROR, format!("the {peer} sent a record of more than 16 KiB"))
            }
            other => TlsError::new(code::ERROR, format!("TLS failed: {other}")),
        }
    }
}

fn certificate(why: &CertificateError, peer: &str) -> TlsError {
    use CertificateError as E;
    let says = |code, text: String| TlsError::new(code, format!("the {peer}'s certificate {text}"));
    let bad = |text: String| says(code::BAD_CERTIFICATE, text);
    match why {
        E::Expired => says(code::EXPIRED, "has expired".into()),
        E::ExpiredContext { time, not_after } => {
            let ago = time.as_secs().saturating_sub(not_after.as_secs());
            says(code::EXPIRED, format!("has expired, {} ago", span(ago)))
        }
        E::NotValidYet => says(code::EXPIRED, "is not valid yet".into()),
        E::NotValidYetContext { time, not_before } => {
            let ahead = not_before.as_secs().saturating_sub(time.as_secs());
            says(code::EXPIRED, format!("is not valid yet, only in {}: is this machine's clock right?", span(ahead)))
        }
        E::NotValidForName => says(code::WRONG_HOST, "is for other names".into()),
        E::NotValidForNameContext { expected, presented } => {
            let names = match presented.as_slice() {
                [] => "no name at all (a subject alternative name is needed, a common name does not count)".into(),
                names => names.iter().map(|name| readable(name)).collect::<Vec<_>>().join(", "),
            };
            says(code::WRONG_HOST, format!("is not for {:?} but for {names}", expected.to_str()))
        }
        E::UnknownIssuer => {
            says(code::UNKNOWN_CA, "was issued by nobody that is trusted here (or an intermediate is missing)".into())
        }
        E::BadSignature => says(code::UNKNOWN_CA, "has a signature that its issuer did not make".into()),
        E::BadEncoding => bad("is broken: it can't be read".into()),
        E::Revoked => bad("was revoked".into()),
        E::UnhandledCriticalExtension => bad("has a critical extension that is not understood".into()),
        E::InvalidPurpose | E::InvalidPurposeContext { .. } => {
            bad(format!("is not for a {peer} (its extended key usage says so)"))
        }
        E::Other(other) if format!("{other:?}").contains("CaUsedAsEndEntity") => {
            bad("is that of an authority (CA:TRUE): issue one for the host, or give this very one as ca".into())
        }
        other => bad(format!("is refused: {other}")),
    }
}

/// webpki writes names as Rust writes them.
fn readable(name: &str) -> String {
    let inner =
        name.split_once("(\"").and_then(|(_, rest)| rest.split_once("\")")).map(|(inner, _)| inner);
    inner.unwrap_or(name).to_string()
}

fn incompatible(why: &PeerIncompatible, peer: &str) -> TlsError {
    use PeerIncompatible as P;
    match why {
        P::Tls12NotOffered
        | P::Tls12NotOfferedOrEnabled
        | P::SupportedVersionsExtensionRequired
        | P::ServerDoesNotSupportTls12Or13
        | P::ServerTlsVersionIsDisabledByOurConfig => TlsError::new(
            code::VERSION,
            format!(
                "no version of TLS in common: the {peer} speaks older ones only than min_version allows"
            ),
        ),
        P::NoCipherSuitesInCommon => {
            TlsError::new(code::ERROR, format!("no cipher in common with the {peer}"))
        }
        P::NoKxGroupsInCommon => TlsError::new(
            code::ERROR,
            format!("no group for the key exchange in common with the {peer}"),
        ),
        P::NoSignatureSchemesInCommon | P::NoCertificateRequestSignatureSchemesInCommon => {
            TlsError::new(
                code::ERROR,
                format!(
                    "no signature in common with the {peer}: it can't check a key of our certificate's kind"
                ),
            )
        }
        other => {
            TlsError::new(code::ERROR, format!("nothing in common with the {peer}: {other:?}"))
        }
    }
}

/// The name of an alert as the RFC writes it.
fn alert_name(alert: AlertDescription) -> String {
    let mut name = String::new();
    for char in format!("{alert:?}").chars() {
        if char.is_ascii_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(char.to_ascii_lowercase());
    }
    name.replace("unknown_c_a", "unknown_ca")
        .replace("unknown_p_s_k_identity", "unknown_psk_identity")
}

fn rejected(alert: AlertDescription, peer: &str) -> String {
    use AlertDescription as A;
    let meaning = match alert {
        A::UnknownCA => "it does not trust who issued our certificate",
        A::BadCertificate => "our certificate is broken, or for other names",
        A::CertificateExpired => "our certificate has expired, or is not valid yet",
        A::CertificateRevoked => "our certificate was revoked",
        A::CertificateUnknown | A::UnsupportedCertificate => "it does not accept our certificate",
        A::CertificateRequired => "it wants a certificate of us, and we showed none",
        A::AccessDenied => "our certificate is good, but not allowed in",
        A::HandshakeFailure => {
            "nothing acceptable in common (ciphers, or it wants a certificate of us)"
        }
        A::NoApplicationProtocol => "no application protocol in common (ALPN)",
        A::UnrecognisedName => "it does not know the name we asked for",
        A::DecodeError | A::UnexpectedMessage => "it could not read what we sent",
        A::BadRecordMac | A::DecryptError => "what we sent did not decrypt there",
        A::InternalError => "it failed inside",
        A::CloseNotify => "it closed during the handshake",
        A::UserCanceled => "it gave the handshake up",
        _ => "it gave no other reason",
    };
    format!("the {peer} refused: alert {}, {meaning}", alert_name(alert))
}

fn span(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} hours", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// Looks at the first bytes of a stream: an error when they can't be TLS, `None` when they can or there are too
/// few. A record is type (20 to 23), 0x03, a minor version (RFC 8446, section 5.1).
pub(super) fn sniff(data: &[u8], server: bool) -> Option<TlsError> {
    let peer = if server { "client" } else { "server" };
    let first = *data.first()?;
    let first_is = |kind: u8| kind == 22 || kind == 21;
    let tls = first_is(first) && data.get(1).is_none_or(|&major| major == 3);
    let tls = tls && data.get(2).is_none_or(|&minor| minor <= 4);
    if tls {
        return None;
    }
    // SSL 2: a length with its high bit set, then CLIENT-HELLO (1).
    if server && first & 0x80 != 0 {
        match data.get(2) {
            None if data.len() < 3 => return None,
            Some(1) => {
                return Some(TlsError::new(
                    code::VERSION,
                    "no version of TLS in common: the client begins with SSL 2",
                ));
            }
            _ => {}
        }
    }
    const KNOWN: &[(&[u8], &str)] = &[
        (b"GET ", "plain HTTP"),
        (b"POST ", "plain HTTP"),
        (b"PUT ", "plain HTTP"),
        (b"HEAD ", "plain HTTP"),
        (b"DELETE ", "plain HTTP"),
        (b"OPTIONS ", "plain HTTP"),
        (b"PATCH ", "plain HTTP"),
        (b"CONNECT ", "plain HTTP"),
        (b"PRI * HTTP/2", "plain HTTP/2"),
        (b"HTTP/", "plain HTTP"),
        (b"SSH-", "SSH"),
        (b"PROXY ", "a PROXY header (does the proxy stand in the server's options?)"),
        (b"\r\n\r\n\0\r\nQUIT\n", "a PROXY header (does the proxy stand in the server's options?)"),
        (b"220 ", "a plain greeting of SMTP or FTP"),
        (b"220-", "a plain greeting of SMTP or FTP"),
        (b"EHLO ", "plain SMTP"),
        (b"HELO ", "plain SMTP"),
        (b"* OK", "a plain greeting of IMAP"),
        (b"+OK", "a plain greeting of POP3 or Redis"),
        (b"*1\r\n", "plain Redis"),
        (b"*2\r\n", "plain Redis"),
        (b"*3\r\n", "plain Redis"),
    ];
    // A little patience, so that the name is known: a word of HTTP is in the first segment anyhow.
    if data.len() < 5 && KNOWN.iter().any(|(word, _)| word.starts_with(data)) {
        return None;
    }
    let looks = KNOWN
        .iter()
        .find(|(word, _)| data.starts_with(word) || (word.starts_with(data) && data.len() >= 5));
    Some(TlsError::new(
        code::GARBAGE,
        match looks {
            Some((_, what)) => format!("what the {peer} sent is not TLS: it looks like {what}"),
            None => {
                let shown = &data[..data.len().min(8)];
                format!(
                    "what the {peer} sent is not TLS: it begins with {:?}",
                    String::from_utf8_lossy(shown)
                )
            }
        },
    ))
}

/// The alert for what is no TLS: a fatal `decode_error`, or `protocol_version` for what is too old.
pub(super) fn plain_alert(error: &TlsError) -> [u8; 7] {
    let alert = if error.code == code::VERSION { 70 } else { 50 };
    [21, 3, 3, 0, 2, 2, alert]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alerts_are_named_as_in_the_rfc() {
        for (alert, name) in [
            (AlertDescription::UnknownCA, "unknown_ca"),
            (AlertDescription::HandshakeFailure, "handshake_failure"),
            (AlertDescription::BadRecordMac, "bad_record_mac"),
            (AlertDescription::UnknownPSKIdentity, "unknown_psk_identity"),
        ] {
            assert_eq!(alert_name(alert), name);
        }
    }

    #[test]
    fn first_bytes() {
        for data in
            [&b""[..], b"\x16", b"\x16\x03", b"\x16\x03\x01\x02", b"\x15\x03\x03", b"G", b"PO"]
        {
            assert_eq!(sniff(data, true), None, "{data:?}");
        }
        for (data, word) in [
            (&b"GET / HTTP/1.1\r\n"[..], "plain HTTP"),
            (b"SSH-2.0-x", "SSH"),
            (b"\0\0\0\x05hello", "begins with"),
            (b"\x16\x02\x01", "begins with"),
            (b"Gx", "begins with"),
            (b"\r\n\r\n\0\r\nQUIT\n\x21", "PROXY"),
        ] {
            let error = sniff(data, true).unwrap();
            assert_eq!(error.code, code::GARBAGE, "{data:?}");
            assert!(error.text.contains(word), "{}", error.text);
        }
        assert_eq!(sniff(b"\x80\x2e\x01\x00\x02", true).unwrap().code, code::VERSION);
    }
}
