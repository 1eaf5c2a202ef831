//! The TLS of an exporter: whom it trusts, and the certificate that it shows. A new connection is made with what
//! is in the files now.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use super::files::{Contents, FromFiles, Origin, Refresh};
use super::server::{certificates, private_key, provider, roots, versions};
use super::{ClientTlsConfig, CredentialError, Secret};

/// The TLS of an exporter, kept up to date with its files.
#[derive(Debug)]
pub struct ClientTls {
    config: FromFiles<Arc<ClientConfig>>,
    server_name: Option<ServerName<'static>>,
}

/// Which of the files that a client may have are there.
#[derive(Debug, Clone, Copy)]
struct Given {
    authorities: bool,
    certificate: bool,
}

impl ClientTls {
    /// Reads the files. `protocols` are offered by ALPN, the best one first.
    ///
    /// # Errors
    /// When one cannot be read or does not hold what it should, or when there is nobody to trust.
    pub fn load(config: &ClientTlsConfig, protocols: &[&[u8]]) -> Result<Self, CredentialError> {
        let server_name = config.server_name_override.as_deref().map(|name| {
            ServerName::try_from(name.to_owned()).map_err(|_| CredentialError::Text {
                what: "the name",
                place: "server_name_override".into(),
                why: "it is no name of a host and no address",
            })
        });
        let one_of = |keys, file: &Option<PathBuf>, text: &Option<Secret>| {
            Origin::one_of(keys, file.as_ref(), text.as_ref())
        };
        let authorities = one_of(["ca_file", "ca_pem"], &config.ca_file, &config.ca_pem)?;
        let certificate = one_of(["cert_file", "cert_pem"], &config.cert_file, &config.cert_pem)?;
        let key = one_of(["key_file", "key_pem"], &config.key_file, &config.key_pem)?;
        let own = match (certificate, key) {
            (Some(certificate), Some(key)) => vec![certificate, key],
            (None, None) => Vec::new(),
            _ => {
                return Err(CredentialError::Nothing {
                    what: "a certificate with its key",
                    way_out: "set both cert_file and key_file (or cert_pem and key_pem), or neither",
                });
            }
        };
        let given = Given { authorities: authorities.is_some(), certificate: !own.is_empty() };
        let files: Vec<Origin> = authorities.into_iter().chain(own).collect();
        let protocols: Vec<Vec<u8>> = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        let wanted = config.clone();
        let config = FromFiles::load(files, move |contents| make(contents, given, &wanted, &protocols))?;
        Ok(Self { config, server_name: server_name.transpose()? })
    }

    /// For the next connection.
    pub fn current(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.config.get())
    }

    /// The name that the other side's certificate must have, where it is not that of the address.
    pub fn server_name(&self) -> Option<&ServerName<'static>> {
        self.server_name.as_ref()
    }
}

impl Refresh for ClientTls {
    fn refresh(&self) -> Result<bool, CredentialError> {
        self.config.refresh()
    }
}

fn make(
    contents: &[Contents<'_>],
    given: Given,
    wanted: &ClientTlsConfig,
    protocols: &[Vec<u8>],
) -> Result<Arc<ClientConfig>, CredentialError> {
    let (authorities, own) = contents.split_at(usize::from(given.authorities).min(contents.len()));
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&versions(wanted.min_version, wanted.max_version))
        .map_err(CredentialError::Versions)?;
    let builder = if wanted.insecure_skip_verify {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(TrustAnybody(provider())))
    } else {
        builder.with_root_certificates(trusted(authorities.first(), wanted)?)
    };
    let mut config = match own {
        [certificate, key] if given.certificate => builder
            .with_client_auth_cert(certificates(certificate)?, private_key(key)?)
            .map_err(|cause| CredentialError::Pair {
                certificate: certificate.path.to_owned(),
                key: key.path.to_owned(),
                cause,
            })?,
        _ => builder.with_no_client_auth(),
    };
    config.alpn_protocols = protocols.to_vec();
    Ok(Arc::new(config))
}

/// The authorities of `ca_file` or `ca_pem`; without them, or where they are asked for beside it, the system's.
fn trusted(file: Option<&Contents<'_>>, wanted: &ClientTlsConfig) -> Result<RootCertStore, CredentialError> {
    let mut trusted = file.map(roots).transpose()?.unwrap_or_else(RootCertStore::empty);
    if file.is_none() || wanted.include_system_ca_certs_pool {
        trusted.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    }
    if trusted.is_empty() {
        return Err(CredentialError::Nothing {
            what: "an authority to trust",
            way_out: "install the system's ca-certificates, or set tls.ca_file or tls.ca_pem",
        });
    }
    Ok(trusted)
}

/// What `insecure_skip_verify` asks for: the connection is encrypted, and nobody knows with whom.
#[derive(Debug)]
struct TrustAnybody(Arc<CryptoProvider>);

impl ServerCertVerifier for TrustAnybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_work_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        std::fs::write(path("crt"), made.cert.pem()).unwrap();
        std::fs::write(path("key"), made.signing_key.serialize_pem()).unwrap();
        let load = |json: serde_json::Value| {
            let config: ClientTlsConfig = serde_json::from_value(json).unwrap();
            ClientTls::load(&config, &[b"h2"]).err().map(|error| error.to_string()).unwrap_or_default()
        };
        let (crt, key) = (path("crt"), path("key"));
        let (crt_pem, key_pem) = (made.cert.pem(), made.signing_key.serialize_pem());
        let rows = [
            (serde_json::json!({ "ca_file": crt }), ""),
            (serde_json::json!({ "ca_file": crt, "cert_file": crt, "key_file": key }), ""),
            (serde_json::json!({ "insecure_skip_verify": true }), ""),
            (serde_json::json!({ "insecure_skip_verify": true, "cert_file": crt, "key_file": key }), ""),
            (serde_json::json!({ "ca_pem": crt_pem, "cert_pem": crt_pem, "key_pem": key_pem }), ""),
            (serde_json::json!({ "ca_file": crt, "cert_pem": crt_pem, "key_file": key }), ""),
            (serde_json::json!({ "ca_file": crt, "ca_pem": crt_pem }), "choose between ca_file and ca_pem"),
            (serde_json::json!({ "ca_pem": key_pem }), "find a certificate in ca_pem"),
            (serde_json::json!({ "ca_pem": crt_pem, "key_pem": key_pem }), "set both cert_file and key_file"),
            (serde_json::json!({ "ca_file": key }), "find a certificate in"),
            (serde_json::json!({ "ca_file": path("none") }), "read "),
            (serde_json::json!({ "ca_file": crt, "cert_file": crt }), "set both cert_file and key_file"),
            (serde_json::json!({ "ca_file": crt, "server_name_override": "a b" }), "server_name_override"),
            (serde_json::json!({ "ca_file": crt, "min_version": "1.3", "max_version": "1.2" }), "speak TLS"),
        ];
        for (json, expected) in rows {
            let message = load(json.clone());
            assert!(
                message.contains(expected) && message.is_empty() == expected.is_empty(),
                "{json}: {message}"
            );
        }
    }
}
