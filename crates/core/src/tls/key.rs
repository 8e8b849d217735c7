//! Owns private keys from PEM: which section is the key, and what it was encrypted with. Does not know whose
//! certificate it belongs to.
//!
//! Three plain forms (PKCS#8, PKCS#1, SEC1) and two encrypted ones: `ENCRYPTED PRIVATE KEY` (PKCS#8 with PBES2,
//! RFC 8018, what `openssl genpkey -aes256` writes) and OpenSSL's older `Proc-Type: 4,ENCRYPTED`, whose key is
//! made by `EVP_BytesToKey` with MD5 and one round (PEM_read_bio_PrivateKey(3), "PEM ENCRYPTION FORMAT").

use cbc::Decryptor;
use cbc::cipher::block_padding::Pkcs7;
use cbc::cipher::{BlockCipherDecrypt, BlockModeDecrypt, KeyInit, KeyIvInit};
use md5::{Digest, Md5};
use pkcs8::EncryptedPrivateKeyInfoRef;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs1KeyDer, PrivatePkcs8KeyDer, PrivateSec1KeyDer};

use super::pem::{Section, sections};

/// A key, and whether a password was what opened it.
pub(super) struct Key {
    pub(super) der: PrivateKeyDer<'static>,
    pub(super) encrypted: bool,
}

const WRONG: &str = "the password is wrong (or the key is broken)";

/// The first key in a PEM file.
pub(super) fn read(file: &[u8], password: Option<&[u8]>) -> Result<Key, String> {
    let all = sections(file)?;
    let Some(section) = all.iter().find(|section| section.label.ends_with("PRIVATE KEY")) else {
        let labels: Vec<&str> = all.iter().map(|section| section.label.as_str()).collect();
        return Err(match labels.as_slice() {
            [] => "there is no PEM section in it".into(),
            labels => format!("there is no private key in it, only: {}", labels.join(", ")),
        });
    };
    let old = section.header("Proc-Type").is_some_and(|value| value.contains("ENCRYPTED"));
    let encrypted = old || section.label == "ENCRYPTED PRIVATE KEY";
    let body = match (encrypted, password) {
        (false, _) => section.body.clone(),
        (true, None) => return Err("the key is encrypted and no password was given".into()),
        (true, Some(password)) if old => open_old(section, password)?,
        (true, Some(password)) => open(&section.body, password)?,
    };
    let der = match section.label.as_str() {
        "RSA PRIVATE KEY" => PrivatePkcs1KeyDer::from(body).into(),
        "EC PRIVATE KEY" => PrivateSec1KeyDer::from(body).into(),
        "PRIVATE KEY" | "ENCRYPTED PRIVATE KEY" => PrivatePkcs8KeyDer::from(body).into(),
        other => {
            return Err(format!(
                "a key of the kind {other:?} is not supported: RSA, EC (P-256, P-384, P-521) and Ed25519 are"
            ));
        }
    };
    Ok(Key { der, encrypted })
}

/// Opens a PKCS#8 key.
fn open(body: &[u8], password: &[u8]) -> Result<Vec<u8>, String> {
    let unsupported = |error: pkcs8::Error| {
        format!(
            "the key is encrypted in a way that is not supported ({error}): write it anew with \
             \"openssl pkcs8 -topk8 -v2 aes-256-cbc\""
        )
    };
    let sealed = EncryptedPrivateKeyInfoRef::try_from(body).map_err(unsupported)?;
    match sealed.decrypt(password) {
        Ok(document) => Ok(document.as_bytes().to_vec()),
        Err(
            pkcs8::Error::EncryptedPrivateKey(pkcs8::pkcs5::Error::DecryptFailed)
            | pkcs8::Error::Asn1(_),
        ) => Err(WRONG.into()),
        Err(error) => Err(unsupported(error)),
    }
}

/// Opens OpenSSL's older form.
fn open_old(section: &Section, password: &[u8]) -> Result<Vec<u8>, String> {
    let info = section.header("DEK-Info").unwrap_or_default();
    let (cipher, iv) = info.split_once(',').unwrap_or((info, ""));
    let iv = hex(iv.trim())
        .ok_or_else(|| format!("the DEK-Info of the key is not readable: {info:?}"))?;
    let plain = match cipher.trim().to_ascii_uppercase().as_str() {
        "AES-128-CBC" => cbc::<aes::Aes128>(section, password, &iv, 16),
        "AES-192-CBC" => cbc::<aes::Aes192>(section, password, &iv, 24),
        "AES-256-CBC" => cbc::<aes::Aes256>(section, password, &iv, 32),
        "DES-EDE3-CBC" => cbc::<des::TdesEde3>(section, password, &iv, 24),
        other => {
            return Err(format!(
                "the key is encrypted with {other}, which is not supported: write it anew with \
                 \"openssl pkcs8 -topk8 -v2 aes-256-cbc\""
            ));
        }
    };
    plain.ok_or_else(|| WRONG.to_string())
}

fn cbc<C: BlockCipherDecrypt + KeyInit>(
    section: &Section,
    password: &[u8],
    iv: &[u8],
    length: usize,
) -> Option<Vec<u8>> {
    let key = bytes_to_key(password, iv.get(..8)?, length);
    let cipher = Decryptor::<C>::new_from_slices(&key, iv).ok()?;
    let mut body = section.body.clone();
    let plain = cipher.decrypt_padded::<Pkcs7>(&mut body).ok()?.len();
    body.truncate(plain);
    // One wrong password in 256 leaves a padding that looks right. A key is a SEQUENCE.
    (body.first() == Some(&0x30)).then_some(body)
}

/// `EVP_BytesToKey` with MD5 and one round: D1 = MD5(password salt), Dn = MD5(Dn-1 password salt).
fn bytes_to_key(password: &[u8], salt: &[u8], length: usize) -> Vec<u8> {
    let mut key: Vec<u8> = Vec::new();
    let mut last: Vec<u8> = Vec::new();
    while key.len() < length {
        let mut digest = Md5::new();
        digest.update(&last);
        digest.update(password);
        digest.update(salt);
        last = digest.finalize().to_vec();
        key.extend_from_slice(&last);
    }
    key.truncate(length);
    key
}

fn hex(text: &str) -> Option<Vec<u8>> {
    if text.len() % 2 != 0 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok()).collect()
}
