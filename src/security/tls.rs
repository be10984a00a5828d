//! TLS settings, and the rustls configuration made from them.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
};

use crate::config::printable;
use crate::error::{Error, ErrorKind, Phase};
use crate::security::read_regular;

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
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct Tls {
    ca_file: Option<PathBuf>,
    client_cert_file: Option<PathBuf>,
    client_key_file: Option<PathBuf>,
    trust_any_certificate: bool,
    skip_host_name: bool,
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

    #[cfg(feature = "redis")]
    /// The PEM text of the trusted authorities, where a file was named.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`] when it cannot be read.
    #[cfg(feature = "redis")]
    pub(crate) fn ca_pem(&self) -> Result<Option<Pem>, Error> {
        self.ca_file.as_deref().map(read).transpose()
    }

    #[cfg(feature = "redis")]
    /// The PEM texts of the client's certificate and key, where named.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`] when one cannot be read.
    #[cfg(feature = "redis")]
    pub(crate) fn client_pem(&self) -> Result<Option<(Pem, Pem)>, Error> {
        let Some((certificate, key)) = self.client_paths() else {
            return Ok(None);
        };
        Ok(Some((read(certificate)?, read(key)?)))
    }

    /// The rustls configuration for these settings.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`] when a file cannot be read or holds no usable
    /// certificate or key, or when the system has no authorities.
    pub(crate) fn client_config(&self) -> Result<ClientConfig, Error> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| wrong(format!("TLS versions: {error}")))?;
        let builder = if self.trust_any_certificate {
            let verifier = Arc::new(Lenient {
                provider,
                chain: None,
            });
            builder
                .dangerous()
                .with_custom_certificate_verifier(verifier)
        } else {
            let roots = Arc::new(self.roots()?);
            let chain = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider))
                .build()
                .map_err(|error| wrong(format!("certificate authorities: {error}")))?;
            if self.skip_host_name {
                let verifier = Arc::new(Lenient {
                    provider,
                    chain: Some(chain),
                });
                builder
                    .dangerous()
                    .with_custom_certificate_verifier(verifier)
            } else {
                builder.with_webpki_verifier(chain)
            }
        };
        let Some((certificate, key)) = self.client_paths() else {
            return Ok(builder.with_no_client_auth());
        };
        let chain = certificates(&read(certificate)?, certificate)?;
        let key = PrivateKeyDer::from_pem_slice(&read(key)?)
            .map_err(|error| wrong(format!("client key {}: {error}", printed(key))))?;
        builder.with_client_auth_cert(chain, key).map_err(|error| {
            wrong(format!(
                "client certificate {}: {error}",
                printed(certificate)
            ))
        })
    }

    fn roots(&self) -> Result<RootCertStore, Error> {
        let mut roots = RootCertStore::empty();
        if let Some(path) = self.ca_path() {
            for certificate in certificates(&read(path)?, path)? {
                roots
                    .add(certificate)
                    .map_err(|error| wrong(format!("CA file {}: {error}", printed(path))))?;
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

/// Certificates and keys are not longer than this.
const LONGEST: u64 = 16 << 20;

/// The bytes of a PEM file.
#[cfg(feature = "redis")]
type Pem = Vec<u8>;

fn wrong(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Configuration, Phase::Configure, message)
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    read_regular(path, LONGEST).map_err(|error| {
        wrong(format!("{} cannot be read: {error}", printed(path))).with_source(Arc::new(error))
    })
}

/// A path as it is named in errors.
fn printed(path: &Path) -> String {
    printable(&path.to_string_lossy())
}

fn certificates(pem: &[u8], path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let found = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| wrong(format!("{}: {error}", printed(path))))?;
    if found.is_empty() {
        return Err(wrong(format!("{} holds no PEM certificate", printed(path))));
    }
    Ok(found)
}

/// A verifier that checks the chain but not the host name, or nothing at all.
#[derive(Debug)]
struct Lenient {
    provider: Arc<CryptoProvider>,
    chain: Option<Arc<WebPkiServerVerifier>>,
}

impl ServerCertVerifier for Lenient {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Some(chain) = &self.chain else {
            return Ok(ServerCertVerified::assertion());
        };
        match chain.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            verdict => verdict,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
