//! Owns PEM: text with base64 between two lines (RFC 7468), with the headers that OpenSSL's old keys have
//! (RFC 1421, section 4.4). Does not know what a section means.

/// One `-----BEGIN label-----` with what stands before its end.
pub(super) struct Section {
    pub(super) label: String,
    /// `Name: value` lines at its front.
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

impl Section {
    /// The value of a header.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }
}

/// The sections of a file in their order; what stands around them is a comment.
///
/// An error is what is wrong, in words: a section without its end (a file half written), what is not base64.
pub(super) fn sections(file: &[u8]) -> Result<Vec<Section>, String> {
    let mut found = Vec::new();
    let mut lines = file.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii);
    while let Some(line) = lines.next() {
        let Some(label) = label(line, b"-----BEGIN ") else { continue };
        let mut section = Section { label, headers: Vec::new(), body: Vec::new() };
        let mut text = Vec::new();
        loop {
            let Some(line) = lines.next() else {
                return Err(format!(
                    "the section {:?} has no end: is the file half written?",
                    section.label
                ));
            };
            if self::label(line, b"-----END ").is_some() {
                break;
            }
            match line.iter().position(|&byte| byte == b':') {
                Some(colon) => {
                    let part =
                        |bytes: &[u8]| String::from_utf8_lossy(bytes.trim_ascii()).into_owned();
                    section.headers.push((part(&line[..colon]), part(&line[colon + 1..])));
                }
                None => text.extend_from_slice(line),
            }
        }
        section.body = base64(&text)
            .ok_or_else(|| format!("the section {:?} is not base64", section.label))?;
        found.push(section);
    }
    Ok(found)
}

fn label(line: &[u8], front: &[u8]) -> Option<String> {
    let label = line.strip_prefix(front)?.strip_suffix(b"-----")?;
    Some(String::from_utf8_lossy(label).into_owned())
}

/// RFC 4648, section 4, with its padding.
fn base64(text: &[u8]) -> Option<Vec<u8>> {
    let unpadded = text.strip_suffix(b"==").or(text.strip_suffix(b"=")).unwrap_or(text);
    if text.len() % 4 != 0 || unpadded.len() % 4 == 1 {
        return None;
    }
    let mut out = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut count) = (0u32, 0);
    for &byte in unpadded {
        let six = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(six);
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push((bits >> count) as u8);
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_as_in_the_rfc() {
        for (text, plain) in [
            ("", ""),
            ("Zg==", "f"),
            ("Zm8=", "fo"),
            ("Zm9v", "foo"),
            ("Zm9vYmFy", "foobar"),
            ("+/+/", "\0"),
        ] {
            let expected =
                if plain == "\0" { vec![0xFB, 0xFF, 0xBF] } else { plain.as_bytes().to_vec() };
            assert_eq!(base64(text.as_bytes()), Some(expected), "{text}");
        }
        for text in ["Z", "Zg", "Zg=", "Zg===", "Z===", "Zm9v!m9v", "Zm=v"] {
            assert_eq!(base64(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn sections_with_headers_comments_and_crlf() {
        let file = b"a comment\r\n-----BEGIN A B-----\r\nProc-Type: 4,ENCRYPTED\r\nDEK-Info: X,00\r\n\r\nZm9v\r\nYmFy\r\n-----END A B-----\r\n-----BEGIN C-----\nZg==\n-----END C-----";
        let found = sections(file).unwrap();
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].label.as_str(), found[0].body.as_slice()), ("A B", &b"foobar"[..]));
        assert_eq!(found[0].header("dek-info"), Some("X,00"));
        assert_eq!((found[1].label.as_str(), found[1].body.as_slice()), ("C", &b"f"[..]));
        assert!(sections(&file[..file.len() - 10]).err().unwrap().contains("half written"));
        assert!(sections(b"").unwrap().is_empty());
    }
}
