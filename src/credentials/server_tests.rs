//! Certificates made for the occasion.

use std::path::Path;

use super::*;

fn config(folder: &Path) -> ServerTlsConfig {
    let json = serde_json::json!({ "cert_file": folder.join("crt"), "key_file": folder.join("key") });
    serde_json::from_value(json).unwrap()
}

/// Writes a new certificate with its key.
fn write(folder: &Path) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(folder.join("crt"), made.cert.pem()).unwrap();
    std::fs::write(folder.join("key"), made.signing_key.serialize_pem()).unwrap();
}

#[test]
fn a_pair_is_replaced_only_as_a_pair() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path());
    let tls = ServerTls::load(&config(folder.path())).unwrap();
    let first = tls.current();
    assert_eq!(first.alpn_protocols, [b"h2".to_vec(), b"http/1.1".to_vec()]);
    assert!(!tls.refresh().unwrap());
    let key = std::fs::read(folder.path().join("key")).unwrap();
    write(folder.path());
    let new_key = std::fs::read(folder.path().join("key")).unwrap();
    std::fs::write(folder.path().join("key"), key).unwrap();
    let error = tls.refresh().unwrap_err();
    assert!(matches!(error, CredentialError::Pair { .. }), "{error}");
    assert!(Arc::ptr_eq(&tls.current(), &first), "the old pair stays");
    std::fs::write(folder.path().join("key"), new_key).unwrap();
    assert!(tls.refresh().unwrap());
    assert!(!Arc::ptr_eq(&tls.current(), &first));
}

#[test]
fn files_that_do_not_hold_what_they_should_are_named() {
    let rows = [
        ("crt", "", "find a certificate in", "crt"),
        ("crt", "-----BEGIN CERTIFICATE-----\n??\n", "read a certificate from", "crt"),
        ("key", "", "find a private key in", "key"),
        ("ca", "nothing", "find a certificate in", "ca"),
        (
            "ca",
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            "trust the certificates in",
            "ca",
        ),
    ];
    for (file, text, expected, path) in rows {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path());
        let ca = folder.path().join("ca");
        std::fs::copy(folder.path().join("crt"), &ca).unwrap();
        std::fs::write(folder.path().join(file), text).unwrap();
        let config = ServerTlsConfig { client_ca_file: Some(ca), ..config(folder.path()) };
        let error = ServerTls::load(&config).unwrap_err();
        assert!(error.to_string().contains(expected), "{file} {text:?}: {error}");
        assert_eq!(error.path(), Some(folder.path().join(path).as_path()));
    }
    let missing = ServerTls::load(&config(Path::new("/does/not/exist"))).unwrap_err();
    assert!(matches!(missing, CredentialError::Read { .. }));
}

/// Texts in place of files, and what is missing or there twice.
#[test]
fn texts_stand_in_for_files() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path());
    let [crt, key] = ["crt", "key"].map(|name| std::fs::read_to_string(folder.path().join(name)).unwrap());
    let (crt_file, key_file) = (folder.path().join("crt"), folder.path().join("key"));
    let rows = [
        (serde_json::json!({ "cert_pem": crt, "key_pem": key }), ""),
        (serde_json::json!({ "cert_file": crt_file, "key_pem": key }), ""),
        (serde_json::json!({ "cert_pem": crt, "key_file": key_file, "client_ca_file": crt_file }), ""),
        (
            serde_json::json!({ "cert_pem": crt, "cert_file": crt_file, "key_pem": key }),
            "choose between cert_file",
        ),
        (serde_json::json!({ "cert_pem": crt }), "set key_file, or key_pem"),
        (serde_json::json!({ "key_pem": key }), "set cert_file, or cert_pem"),
        (serde_json::json!({ "cert_pem": crt, "key_pem": crt }), "find a private key in key_pem"),
        (serde_json::json!({ "cert_pem": "", "key_pem": key }), "find a certificate in cert_pem"),
    ];
    for (json, expected) in rows {
        let config: ServerTlsConfig = serde_json::from_value(json).unwrap();
        let message = ServerTls::load(&config).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(
            message.contains(expected) && message.is_empty() == expected.is_empty(),
            "{expected}: {message}"
        );
        assert!(!format!("{config:?}{message}").contains("PRIVATE KEY"), "secrets are not shown");
    }
}

#[test]
fn versions_are_a_range() {
    use TlsVersion::{V1_2, V1_3};
    for (oldest, newest, expected) in [(V1_2, V1_3, 2), (V1_2, V1_2, 1), (V1_3, V1_3, 1), (V1_3, V1_2, 0)] {
        assert_eq!(versions(oldest, newest).len(), expected, "{oldest:?} {newest:?}");
    }
}
