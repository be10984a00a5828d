//! TLS settings, and the rustls configuration made from them.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use rustls::client::WebPkiServerVerifier;
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};

use super::certificates::{Watch, expiry};
use super::pem::{Files, Pem, certificates, private_key, read, wrong};
use super::verifier::Verifier;
use crate::config::{Plain, shown_path};
use crate::error::Error;
use crate::health::CertificateOf;

/// A version of TLS. Older ones than these are never spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum TlsVersion {
    /// TLS 1.2.
    #[default]
    Tls12,
    /// TLS 1.3.
    Tls13,
}

impl TlsVersion {
    /// As a number: `1.2`, `1.3`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tls12 => "1.2",
            Self::Tls13 => "1.3",
        }
    }
}

impl fmt::Display for TlsVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for TlsVersion {
    type Err = ();

    /// `1.2` or `1.3`, and libpq's `TLSv1.2` or `TLSv1.3`.
    fn from_str(text: &str) -> Result<Self, ()> {
        match text.trim_start_matches("TLSv") {
            "1.2" => Ok(Self::Tls12),
            "1.3" => Ok(Self::Tls13),
            _ => Err(()),
        }
    }
}

static ONLY_TLS13: &[&SupportedProtocolVersion] = &[&TLS13];

/// What settings accept as a version.
pub(crate) const TLS_VERSIONS: &str = "1.2 or 1.3";

/// How a connection is encrypted: which authorities are trusted, which
/// certificate is shown, what is checked.
///
/// By default the system's authorities are trusted, and the server's certificate
/// and host name are both checked.
///
/// ```
/// use millpond::Tls;
/// let tls = Tls::new().ca_file("/etc/ssl/private-ca.pem");
/// ```
///
/// # Files that change
///
/// The files are read again for each new connection, so that certificates can be renewed while
/// the program runs; connections that exist stay as they are. While new files cannot be used (one
/// is half written, or certificate and key do not belong together), new connections use what the
/// files said before, and the log says so, once. A connection that was refused because of a
/// certificate is tried again within a quarter of a second after the files have changed. Write a
/// new file beside the old one and rename it, so that nobody reads half of it. Of MongoDB the
/// driver's client is made anew: see its [module](crate::backend::mongodb). The authorities of
/// the system are read once.
#[derive(Clone, Default)]
#[must_use]
pub struct Tls {
    ca_file: Option<PathBuf>,
    client_cert_file: Option<PathBuf>,
    client_key_file: Option<PathBuf>,
    trust_any_certificate: bool,
    skip_host_name: bool,
    min_version: TlsVersion,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("ca_file", &Plain(&self.ca_file))
            .field("client_cert_file", &Plain(&self.client_cert_file))
            .field("client_key_file", &Plain(&self.client_key_file))
            .field("trust_any_certificate", &self.trust_any_certificate)
            .field("skip_host_name", &self.skip_host_name)
            .field("min_version", &self.min_version)
            .finish()
    }
}

impl Tls {
    /// The system's authorities, everything checked.
    pub fn new() -> Self {
        Self::default()
    }

    /// Trusts the authorities in this PEM file, and no others.
    pub fn ca_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.ca_file = Some(path.into());
        self
    }

    /// Shows this certificate (PEM, with its chain) to the server.
    pub fn client_certificate(
        mut self,
        certificate: impl Into<PathBuf>,
        key: impl Into<PathBuf>,
    ) -> Self {
        self.client_cert_file = Some(certificate.into());
        self.client_key_file = Some(key.into());
        self
    }

    /// Accepts any certificate: encryption without authentication. An attacker in
    /// between is not noticed.
    pub fn danger_trust_any_certificate(mut self) -> Self {
        self.trust_any_certificate = true;
        self
    }

    /// Checks the certificate's chain and dates, but not that it was issued for
    /// this host (libpq's `verify-ca`).
    pub fn skip_host_name(mut self) -> Self {
        self.skip_host_name = true;
        self
    }

    /// The oldest version that is spoken; [`TlsVersion::Tls12`] by default.
    ///
    /// PostgreSQL and HTTP keep to it. The drivers of Redis and MongoDB speak 1.2 and 1.3 and
    /// can be told nothing else, so their managers refuse [`TlsVersion::Tls13`]: there, limit
    /// the server.
    ///
    /// ```
    /// use millpond::{Tls, TlsVersion};
    /// let tls = Tls::new().min_version(TlsVersion::Tls13);
    /// ```
    pub fn min_version(mut self, version: TlsVersion) -> Self {
        self.min_version = version;
        self
    }

    /// Whether a driver that speaks 1.2 and 1.3, and can be told nothing else, keeps to this.
    #[cfg(any(feature = "redis", feature = "mongodb"))]
    pub(crate) fn allows_tls12(&self) -> bool {
        self.min_version <= TlsVersion::Tls12
    }

    pub(crate) fn ca_path(&self) -> Option<&Path> {
        self.ca_file.as_deref()
    }

    pub(crate) fn client_paths(&self) -> Option<(&Path, &Path)> {
        self.client_cert_file
            .as_deref()
            .zip(self.client_key_file.as_deref())
    }

    #[cfg(any(feature = "redis", feature = "mongodb", feature = "http"))]
    pub(crate) fn trusts_any_certificate(&self) -> bool {
        self.trust_any_certificate
    }

    #[cfg(any(feature = "redis", feature = "mongodb"))]
    pub(crate) fn skips_host_name(&self) -> bool {
        self.skip_host_name
    }

    /// Whether there is a file that could change.
    pub(super) fn names_files(&self) -> bool {
        self.ca_file.is_some() || self.client_paths().is_some()
    }

    /// The same, whatever becomes of the working directory.
    pub(super) fn anchored(mut self) -> Self {
        let paths = [
            &mut self.ca_file,
            &mut self.client_cert_file,
            &mut self.client_key_file,
        ];
        for path in paths.into_iter().flatten() {
            if let Ok(absolute) = std::path::absolute(&*path) {
                *path = absolute;
            }
        }
        self
    }

    /// What the files say now. That of the authorities is left alone where any certificate will
    /// do.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`] when one cannot be read.
    pub(super) fn read(&self) -> Result<Files, Error> {
        let authorities = self.ca_path().filter(|_| !self.trust_any_certificate);
        let client = match self.client_paths() {
            None => None,
            Some((certificate, key)) if certificate == key => {
                let both = Pem::new(read(certificate)?);
                Some((both.clone(), both))
            }
            Some((certificate, key)) => Some((Pem::new(read(certificate)?), Pem::new(read(key)?))),
        };
        Ok(Files {
            authorities: authorities.map(read).transpose()?,
            client,
        })
    }

    /// The rustls configuration for these settings and this content of the files. The watch
    /// learns when the certificates in it expire, and with each handshake when the server's does.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`] when a file holds no usable certificate or key, or when the
    /// system has no authorities. Then the watch learns nothing.
    pub(crate) fn client_config(
        &self,
        files: &Files,
        watch: &Arc<Watch>,
    ) -> Result<ClientConfig, Error> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut expiries = Vec::new();
        let chain = if self.trust_any_certificate {
            None
        } else {
            let roots = Arc::new(self.roots(files, &mut expiries)?);
            let chain = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider));
            let chain = chain
                .build()
                .map_err(|error| wrong(format!("certificate authorities: {error}")))?;
            Some(chain)
        };
        let verifier = Verifier {
            provider: Arc::clone(&provider),
            chain,
            skip_host_name: self.skip_host_name,
            watch: Arc::clone(watch),
        };
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(self.versions())
            .map_err(|error| wrong(format!("TLS versions: {error}")))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let config = match self.client_paths().zip(files.client.as_ref()) {
            None => builder.with_no_client_auth(),
            Some(((certificate, key), (certificate_pem, key_pem))) => {
                let chain = certificates(certificate_pem, certificate)?;
                if let Some(moment) = chain.first().and_then(expiry) {
                    expiries.push((CertificateOf::Client, moment));
                }
                let key = private_key(key_pem, key)?;
                builder.with_client_auth_cert(chain, key).map_err(|error| {
                    wrong(format!(
                        "client certificate {}: {error}",
                        shown_path(certificate)
                    ))
                })?
            }
        };
        for (of, moment) in expiries {
            watch.note(of, moment);
        }
        Ok(config)
    }

    fn versions(&self) -> &'static [&'static SupportedProtocolVersion] {
        match self.min_version {
            TlsVersion::Tls12 => rustls::ALL_VERSIONS,
            TlsVersion::Tls13 => ONLY_TLS13,
        }
    }

    fn roots(
        &self,
        files: &Files,
        expiries: &mut Vec<(CertificateOf, SystemTime)>,
    ) -> Result<RootCertStore, Error> {
        let mut roots = RootCertStore::empty();
        if let Some((path, pem)) = self.ca_path().zip(files.authorities.as_ref()) {
            let authorities = certificates(pem, path)?;
            // While an authority is replaced, the file holds the old and the new one.
            if let Some(last) = authorities.iter().filter_map(expiry).max() {
                expiries.push((CertificateOf::Authority, last));
            }
            for certificate in authorities {
                roots
                    .add(certificate)
                    .map_err(|error| wrong(format!("CA file {}: {error}", shown_path(path))))?;
            }
        } else {
            static SYSTEM: OnceLock<RootCertStore> = OnceLock::new();
            // Reading and parsing them takes milliseconds.
            let system = SYSTEM.get_or_init(|| {
                let mut roots = RootCertStore::empty();
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
                roots
            });
            roots.extend(system.roots.iter().cloned());
            if roots.is_empty() {
                return Err(wrong(
                    "the system has no certificate authorities; name a CA file",
                ));
            }
        }
        Ok(roots)
    }
}
