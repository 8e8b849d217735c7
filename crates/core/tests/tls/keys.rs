//! Keys and certificates from files, in every form that they have, and each wrong thing told in words.

use wireway_core::tls::{
    ClientAuth, ClientTls, ClientTlsOptions, IdentityPem, ServerTls, ServerTlsOptions,
};

use super::support::{Authority, asking, server_options};

const CERT: &[u8] = include_bytes!("data/cert.pem");
const RSA_CERT: &[u8] = include_bytes!("data/rsa-cert.pem");

fn load(cert: &[u8], key: &[u8], password: Option<&str>) -> Result<(), String> {
    let password = password.map(|text| text.as_bytes().to_vec());
    let identity = IdentityPem { cert: cert.to_vec(), key: key.to_vec(), password };
    ServerTls::new(&server_options(identity)).map(|_| ()).map_err(|error| {
        assert_eq!(error.code, "tls-options");
        error.text
    })
}

fn error(cert: &[u8], key: &[u8], password: Option<&str>) -> String {
    load(cert, key, password).unwrap_err()
}

const PLAIN: [&[u8]; 2] = [include_bytes!("data/p8.pem"), include_bytes!("data/sec1.pem")];

const SEALED: [(&str, &[u8]); 7] = [
    ("old-aes128", include_bytes!("data/old-aes128.pem")),
    ("old-aes256", include_bytes!("data/old-aes256.pem")),
    ("old-des3", include_bytes!("data/old-des3.pem")),
    ("pbkdf2", include_bytes!("data/pbkdf2.pem")),
    ("pbkdf2-sha1", include_bytes!("data/pbkdf2-sha1.pem")),
    ("pbkdf2-des3", include_bytes!("data/pbkdf2-des3.pem")),
    ("scrypt", include_bytes!("data/scrypt.pem")),
];

#[test]
fn plain_keys_in_both_forms_with_or_without_a_password() {
    for key in PLAIN {
        for password in [None, Some("not looked at")] {
            assert_eq!(load(CERT, key, password), Ok(()));
        }
        assert_eq!(
            load(&[key, CERT].concat(), &[CERT, key].concat(), None),
            Ok(()),
            "one file for both"
        );
    }
}

#[test]
fn encrypted_keys_open_with_their_password_only() {
    for (name, key) in SEALED {
        assert_eq!(load(CERT, key, Some("secret")), Ok(()), "{name}");
        for wrong in ["Secret", "", "secret "] {
            let error = error(CERT, key, Some(wrong));
            assert!(error.contains("password is wrong"), "{name}: {error}");
        }
        let error = error(CERT, key, None);
        assert!(error.contains("no password was given"), "{name}: {error}");
    }
    assert_eq!(load(RSA_CERT, include_bytes!("data/rsa-old.pem"), Some("secret")), Ok(()));
    let error = error(CERT, include_bytes!("data/pbes1.pem"), Some("secret"));
    assert!(error.contains("not supported") && error.contains("openssl pkcs8"), "{error}");
}

#[test]
fn wrong_files_are_told_apart() {
    let key = PLAIN[0];
    for (cert, given, words) in [
        (&b""[..], key, "certificate: there is no PEM section"),
        (b"nonsense", key, "certificate: there is no PEM section"),
        (key, key, "certificate: there is no certificate in it, only: PRIVATE KEY"),
        (CERT, CERT, "key: there is no private key in it, only: CERTIFICATE"),
        (CERT, b"", "key: there is no PEM section"),
        (&CERT[..CERT.len() - 30], key, "half written"),
        (CERT, &key[..key.len() - 30], "half written"),
        (RSA_CERT, key, "does not belong to the certificate"),
        (b"-----BEGIN CERTIFICATE-----\n####\n-----END CERTIFICATE-----\n", key, "not base64"),
        (
            b"-----BEGIN CERTIFICATE-----\nZm9v\n-----END CERTIFICATE-----\n",
            key,
            "number 1 in it is not a certificate",
        ),
        (CERT, b"-----BEGIN DSA PRIVATE KEY-----\nZm9v\n-----END DSA PRIVATE KEY-----\n", "DSA"),
        (CERT, b"-----BEGIN PRIVATE KEY-----\nZm9v\n-----END PRIVATE KEY-----\n", "can't be read"),
    ] {
        let error = error(cert, given, None);
        assert!(error.contains(words), "{words:?}: {error}");
    }
}

#[test]
fn options_that_do_not_fit() {
    let told = |options: &ServerTlsOptions| ServerTls::new(options).unwrap_err().text;
    assert!(told(&ServerTlsOptions::default()).contains("a server needs one"));

    let ca = Authority::new("ca");
    let mut options = asking(ca.issue(&["localhost"]), &ca, ClientAuth::None);
    assert!(told(&options).contains("no effect"));
    options.client_auth = ClientAuth::Required;
    options.client_ca = Some(b"x".to_vec());
    assert!(told(&options).contains("client_ca: there is no PEM section"));
    options.client_ca = None;
    assert!(told(&options).contains("client_ca: needed"));

    let mut options = server_options(ca.issue(&["localhost"]));
    options.alpn = vec![vec![b'x'; 256]];
    assert!(told(&options).contains("alpn"));
    options.alpn = Vec::new();
    options.identities.push(IdentityPem::default());
    assert!(told(&options).contains("identity 2: certificate"));

    let client = ClientTlsOptions { ca: Some(PLAIN[0].to_vec()), ..ClientTlsOptions::default() };
    assert!(ClientTls::new(&client).unwrap_err().text.contains("ca: there is no certificate"));
    let client = ClientTlsOptions { ca: Some(ca.pem()), ..ClientTlsOptions::default() };
    let client = ClientTls::new(&client).unwrap();
    let error = wireway_core::tls::Session::client(&client, "not a name").err().unwrap();
    assert!(error.text.contains("neither a host name nor an IP address"), "{error}");
}

#[test]
fn nothing_of_a_key_is_printed() {
    let identity = IdentityPem {
        cert: CERT.to_vec(),
        key: PLAIN[0].to_vec(),
        password: Some(b"secret".to_vec()),
    };
    assert_eq!(format!("{identity:?}"), "IdentityPem { .. }");
}
