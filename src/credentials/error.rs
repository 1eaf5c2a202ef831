//! Why a credential cannot be used. Messages finish the sentence "failed to ..", name the file, and say what
//! it should hold; they never hold any of its contents.

use std::io;
use std::path::{Path, PathBuf};

use rustls::pki_types::pem;

use super::files::FILE_BYTES_MAX;

/// Failed to make a credential from its files.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// A file cannot be read.
    #[error("read {path}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// A file is far too large.
    #[error("use {path}: larger than {FILE_BYTES_MAX} bytes, these are no credentials")]
    TooLarge {
        /// Which.
        path: PathBuf,
    },
    /// A file is no PEM.
    #[error("read {what} from {path}")]
    Pem {
        /// What should be there.
        what: &'static str,
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        cause: pem::Error,
    },
    /// A PEM file without the part that is needed.
    #[error("find {what} in {path}: there is no PEM block of that kind")]
    Missing {
        /// What should be there.
        what: &'static str,
        /// Which file.
        path: PathBuf,
    },
    /// A certificate and a key that do not work together.
    #[error("use the certificate in {certificate} with the key in {key}")]
    Pair {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// Why.
        #[source]
        cause: rustls::Error,
    },
    /// Certificates that cannot be trusted.
    #[error("trust the certificates in {path}: {why}")]
    Authority {
        /// Which file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// Versions of TLS that exclude each other.
    #[error("speak TLS: {0}")]
    Versions(rustls::Error),
    /// A text that can be no token, user name or password.
    #[error("use {what} of {place}: {why}")]
    Text {
        /// What it should be.
        what: &'static str,
        /// A file, or a key of the configuration.
        place: String,
        /// What is wrong.
        why: &'static str,
    },
    /// A line of an htpasswd file.
    #[error("use line {line} of {place}: {why}")]
    Htpasswd {
        /// Counted from 1.
        line: usize,
        /// A file, or `htpasswd.inline`.
        place: String,
        /// What is wrong.
        why: &'static str,
    },
    /// A file and a text in its place.
    #[error("choose between {} and {}: both are set; take one out", .0[0], .0[1])]
    Both([&'static str; 2]),
    /// Nothing configured to compare with or to send.
    #[error("find {what}: {way_out}")]
    Nothing {
        /// What is missing.
        what: &'static str,
        /// What to set.
        way_out: &'static str,
    },
}

impl CredentialError {
    /// The file that is at fault, where one is.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Read { path, .. }
            | Self::TooLarge { path }
            | Self::Pem { path, .. }
            | Self::Missing { path, .. }
            | Self::Authority { path, .. } => Some(path),
            Self::Pair { certificate, .. } => Some(certificate),
            Self::Versions(_) | Self::Both(_) | Self::Nothing { .. } => None,
            Self::Text { place, .. } | Self::Htpasswd { place, .. } => Some(Path::new(place)),
        }
    }
}

/// The error with its causes in one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}
