//! The files of certificates and keys, and what is in them. No error repeats any of it.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use zeroize::Zeroizing;

use super::read_regular;
use crate::config::shown_path;
use crate::error::{Error, ErrorKind, Phase};

/// Certificates and keys are not longer than this.
const LONGEST: u64 = 16 << 20;

/// The bytes of a PEM file with a key.
pub(crate) type Pem = Zeroizing<Vec<u8>>;

/// What the files of a [`Tls`](super::Tls) say at one moment.
#[derive(Default, PartialEq, Eq)]
pub(crate) struct Files {
    /// Of the trusted authorities, where a file is named.
    pub(crate) authorities: Option<Vec<u8>>,
    /// Of the client's certificate and its key, which may be in one, where files are named.
    pub(crate) client: Option<(Pem, Pem)>,
}

pub(super) fn wrong(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Configuration, Phase::Configure, message)
}

pub(super) fn read(path: &Path) -> Result<Vec<u8>, Error> {
    read_regular(path, LONGEST).map_err(|error| {
        wrong(format!("{} cannot be read: {error}", shown_path(path))).with_source(Arc::new(error))
    })
}

/// What is wrong with a PEM text, without what the error repeats of it: a torn line may be a
/// piece of a key.
fn told(error: &pem::Error) -> &'static str {
    match error {
        pem::Error::MissingSectionEnd { .. } => "it ends within a section; is it half written?",
        pem::Error::IllegalSectionStart { .. } => "a line that begins a section is torn",
        pem::Error::Base64Decode(_) => "what is in a section is no base64",
        pem::Error::NoItemsFound => "it holds none in PEM",
        _ => "it is no PEM text",
    }
}

pub(super) fn private_key(pem: &[u8], path: &Path) -> Result<PrivateKeyDer<'static>, Error> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|error| {
        let path = shown_path(path);
        wrong(format!("client key {path}: {}", told(&error)))
    })
}

pub(super) fn certificates(pem: &[u8], path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let found = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| wrong(format!("{}: {}", shown_path(path), told(&error))))?;
    if found.is_empty() {
        return Err(wrong(format!(
            "{} holds no PEM certificate",
            shown_path(path)
        )));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Tls;

    #[test]
    fn a_torn_key_is_not_repeated() {
        let path = std::env::temp_dir().join(format!("millpond-tls-{}", fastrand::u64(..)));
        let tls = Tls::new()
            .danger_trust_any_certificate()
            .client_certificate(&path, &path);
        for text in [
            "-----BEGIN PRIVATE KEY-----hunter2",
            "-----BEGIN PRIVATE KEY-----\nhunter2",
            "-----BEGIN CERTIFICATE-----\nhunter2!\n-----END CERTIFICATE-----",
            "hunter2",
        ] {
            std::fs::write(&path, text).unwrap();
            let files = tls.read().unwrap();
            let error = tls.client_config(&files, &Arc::default()).unwrap_err();
            let said = format!("{error} {error:?}");
            assert!(said.contains("millpond-tls-"), "{said}");
            for secret in ["hunter", "104, 117"] {
                assert!(!said.contains(secret), "{said}");
            }
        }
        std::fs::remove_file(&path).unwrap();
    }
}
