//! The TLS of a port: a certificate with its key, and for mTLS the authorities whose clients may connect. A
//! new connection gets what is in the files now; one that is there stays as it is.

use std::sync::Arc;

use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};

use super::files::{Contents, FromFiles, Origin, Refresh};
use super::{CredentialError, ServerTlsConfig, TlsVersion};

/// Both ports speak both, told apart during the handshake (RFC 7301).
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// The TLS of a port, kept up to date with its files.
#[derive(Debug)]
pub struct ServerTls(FromFiles<Arc<ServerConfig>>);

impl ServerTls {
    /// Reads the files.
    ///
    /// # Errors
    /// When one cannot be read, does not hold what it should, or the key is not the certificate's.
    pub fn load(config: &ServerTlsConfig) -> Result<Self, CredentialError> {
        let ServerTlsConfig { cert_file, cert_pem, key_file, key_pem, client_ca_file, .. } = config;
        let certificate = Origin::one_of(["cert_file", "cert_pem"], cert_file.as_ref(), cert_pem.as_ref())?;
        let key = Origin::one_of(["key_file", "key_pem"], key_file.as_ref(), key_pem.as_ref())?;
        let mut files = vec![
            certificate
                .ok_or_else(|| missing("a certificate", "set cert_file, or cert_pem with its text"))?,
            key.ok_or_else(|| {
                missing("the certificate's private key", "set key_file, or key_pem with its text")
            })?,
        ];
        files.extend(match client_ca_file {
            Some(path) if !config.client_ca_file_reload => Some(Origin::kept(path)?),
            path => path.clone().map(Origin::File),
        });
        let versions = versions(config.min_version, config.max_version);
        FromFiles::load(files, move |contents| make(contents, &versions)).map(Self)
    }

    /// For the next connection.
    pub fn current(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.0.get())
    }
}

impl Refresh for ServerTls {
    fn refresh(&self) -> Result<bool, CredentialError> {
        self.0.refresh()
    }
}

fn make(
    contents: &[Contents<'_>],
    versions: &[&'static SupportedProtocolVersion],
) -> Result<Arc<ServerConfig>, CredentialError> {
    let [certificate, key, authorities @ ..] = contents else {
        return Err(missing("a certificate", "set cert_file and key_file"));
    };
    let builder = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(versions)
        .map_err(CredentialError::Versions)?;
    let builder = match authorities.first() {
        None => builder.with_no_client_auth(),
        Some(file) => {
            let roots = Arc::new(roots(file)?);
            let verifier =
                WebPkiClientVerifier::builder_with_provider(roots, provider()).build().map_err(|error| {
                    CredentialError::Authority { path: file.path.to_owned(), why: error.to_string() }
                })?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config =
        builder.with_single_cert(certificates(certificate)?, private_key(key)?).map_err(|cause| {
            CredentialError::Pair {
                certificate: certificate.path.to_owned(),
                key: key.path.to_owned(),
                cause,
            }
        })?;
    config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).into();
    Ok(Arc::new(config))
}

const fn missing(what: &'static str, way_out: &'static str) -> CredentialError {
    CredentialError::Nothing { what, way_out }
}

/// The one implementation of TLS's mathematics in the program.
pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// Both ends included; an empty list where they exclude each other, which rustls refuses.
pub(super) fn versions(oldest: TlsVersion, newest: TlsVersion) -> Vec<&'static SupportedProtocolVersion> {
    let all = [(TlsVersion::V1_3, &rustls::version::TLS13), (TlsVersion::V1_2, &rustls::version::TLS12)];
    all.into_iter().filter(|(v, _)| (oldest..=newest).contains(v)).map(|(_, version)| version).collect()
}

/// The chain in a file, at least one certificate.
pub(super) fn certificates(file: &Contents<'_>) -> Result<Vec<CertificateDer<'static>>, CredentialError> {
    let what = "a certificate";
    let all = CertificateDer::pem_slice_iter(&file.bytes).collect::<Result<Vec<_>, _>>();
    let all = all.map_err(|cause| not_pem(what, file, cause))?;
    if all.is_empty() {
        return Err(CredentialError::Missing { what, path: file.path.to_owned() });
    }
    Ok(all)
}

/// The first private key in a file.
pub(super) fn private_key(file: &Contents<'_>) -> Result<PrivateKeyDer<'static>, CredentialError> {
    PrivateKeyDer::from_pem_slice(&file.bytes).map_err(|cause| not_pem("a private key", file, cause))
}

/// The authorities in a file.
pub(super) fn roots(file: &Contents<'_>) -> Result<RootCertStore, CredentialError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(file)? {
        roots.add(certificate).map_err(|error| CredentialError::Authority {
            path: file.path.to_owned(),
            why: error.to_string(),
        })?;
    }
    Ok(roots)
}

fn not_pem(what: &'static str, file: &Contents<'_>, cause: pem::Error) -> CredentialError {
    let path = file.path.to_owned();
    match cause {
        pem::Error::NoItemsFound => CredentialError::Missing { what, path },
        cause => CredentialError::Pem { what, path, cause },
    }
}

#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;
