//! When the certificates that a manager depends on expire.
//!
//! A [`Watch`] belongs to one manager. It learns of the files when they are read, and of the
//! server's certificate with each full handshake that our own verifier sees. The drivers of
//! Redis and MongoDB do their handshakes by themselves and show no certificate, so that of
//! their servers nothing is known here.

use std::time::SystemTime;

use crossbeam_utils::atomic::AtomicCell;
use parking_lot::Mutex;
use rustls::pki_types::CertificateDer;
use x509_cert::Certificate as X509;
use x509_cert::der::Decode as _;

use super::TlsVersion;
#[cfg(any(feature = "postgres", feature = "http"))]
use crate::backend::Encryption;
use crate::health::{Certificate, CertificateOf};

/// What is known of the certificates of one manager, and of the version that its server speaks.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    certificates: Mutex<Vec<Certificate>>,
    version: AtomicCell<Option<TlsVersion>>,
}

impl Watch {
    /// The certificate of this expires then, whatever was known of it before.
    pub(super) fn note(&self, of: CertificateOf, expires_at: SystemTime) {
        let mut known = self.certificates.lock();
        known.retain(|certificate| certificate.of != of);
        known.push(Certificate::new(of, expires_at));
        known.sort_unstable_by_key(|certificate| certificate.of);
    }

    /// Those that are known, at most one of each.
    pub(crate) fn certificates(&self) -> Vec<Certificate> {
        self.certificates.lock().clone()
    }

    /// The last full handshake was of this version.
    pub(super) fn note_version(&self, version: TlsVersion) {
        self.version.store(Some(version));
    }

    /// How a connection is encrypted that is encrypted at all.
    #[cfg(any(feature = "postgres", feature = "http"))]
    pub(crate) fn encryption(&self) -> Encryption {
        match self.version.load() {
            None => Encryption::Tls,
            Some(TlsVersion::Tls12) => Encryption::Tls12,
            Some(TlsVersion::Tls13) => Encryption::Tls13,
        }
    }
}

/// When this certificate expires, if it can be read.
pub(super) fn expiry(certificate: &CertificateDer<'_>) -> Option<SystemTime> {
    let certificate = X509::from_der(certificate).ok()?;
    let validity = certificate.tbs_certificate.validity;
    Some(validity.not_after.to_system_time())
}
