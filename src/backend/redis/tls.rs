//! The driver's TLS parameters, made once per manager, and when its files change.
//!
//! The driver takes PEM texts, not a rustls configuration, and looks for its
//! crypto provider in the process's default.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use redis::{ClientTlsConfig, ConnectionAddr, TlsCertificates};
use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;

use crate::error::{Error, ErrorKind, Phase};
use crate::security::{Files, Renewed, Tls, Watch};

/// What the driver takes, as the files are now.
pub(super) struct Parameters {
    pub(super) certificates: TlsCertificates,
    /// An address with these parameters, into which host and port are put later.
    pub(super) address: ConnectionAddr,
}

/// The parameters for these settings. The watch learns when the certificates in files expire.
pub(super) fn parameters(tls: &Tls, watch: &Arc<Watch>) -> Result<Renewed<Arc<Parameters>>, Error> {
    let watch = Arc::clone(watch);
    Renewed::new("Redis", tls, move |tls, files| {
        // Fails on files that rustls cannot use, with the file's name in the message.
        tls.client_config(files, &watch)?;
        let certificates = certificates(tls, files);
        let address = address(tls, &certificates)?;
        Ok(Arc::new(Parameters {
            certificates,
            address,
        }))
    })
}

/// The certificates for the driver. Names the system's authorities explicitly
/// where no file is named, as the driver would take those compiled into it.
fn certificates(tls: &Tls, files: &Files) -> TlsCertificates {
    let root_cert = match &files.authorities {
        Some(pem) => Some(pem.clone()),
        None if tls.trusts_any_certificate() => None,
        None => Some(system_authorities()),
    };
    let client = files.client.as_ref();
    let client_tls = client.map(|(certificate, key)| ClientTlsConfig {
        client_cert: certificate.to_vec(),
        client_key: key.to_vec(),
    });
    TlsCertificates {
        client_tls,
        root_cert,
    }
}

/// Installs ring as the process's crypto provider if there is none yet.
pub(super) fn ensure_provider() {
    if CryptoProvider::get_default().is_none() {
        // Fails only if another thread was faster, and then there is one.
        let _ = rustls::crypto::ring::default_provider().install_default();
    }
}

fn address(tls: &Tls, certificates: &TlsCertificates) -> Result<ConnectionAddr, Error> {
    let blank = ConnectionAddr::TcpTls {
        host: "localhost".into(),
        port: super::config::DEFAULT_PORT,
        insecure: tls.trusts_any_certificate(),
        tls_params: None,
    };
    let client = redis::Client::build_with_tls(blank, certificates.clone()).map_err(|error| {
        Error::new(
            ErrorKind::Configuration,
            Phase::Configure,
            error.to_string(),
        )
    })?;
    let mut address = client.get_connection_info().addr().clone();
    if tls.skips_host_name() {
        address.set_danger_accept_invalid_hostnames(true);
    }
    Ok(address)
}

/// For how long a server may be silent in its first handshake before it is asked whether it
/// speaks plaintext.
pub(super) const SILENCE: Duration = Duration::from_secs(1);

/// Whether this server answers in plaintext. One that does takes a TLS handshake for the
/// beginning of a command and waits for the rest, for ever. `PING` is all that is said.
pub(super) fn speaks_plaintext(address: &SocketAddr, deadline: Instant) -> bool {
    let answer = || {
        let left = deadline.saturating_duration_since(Instant::now()) / 3;
        let left = left.clamp(Duration::from_millis(1), SILENCE);
        let mut stream = TcpStream::connect_timeout(address, left)?;
        stream.set_write_timeout(Some(left))?;
        stream.set_read_timeout(Some(left))?;
        stream.write_all(b"PING\r\n")?;
        let mut first = [0];
        stream.read_exact(&mut first)?;
        Ok::<_, std::io::Error>(first[0])
    };
    // PONG, or that a login is wanted first.
    answer().is_ok_and(|first| matches!(first, b'+' | b'-'))
}

/// The system's authorities as PEM, without those that rustls cannot use.
fn system_authorities() -> Vec<u8> {
    let mut pem = String::new();
    let mut usable = RootCertStore::empty();
    for certificate in rustls_native_certs::load_native_certs().certs {
        if usable.add(certificate.clone()).is_ok() {
            // Writing to a String cannot fail.
            let _ = write!(
                pem,
                "-----BEGIN CERTIFICATE-----\n{}-----END CERTIFICATE-----\n",
                base64_lines(&certificate)
            );
        }
    }
    pem.into_bytes()
}

/// Base64 in lines of 64 characters.
fn base64_lines(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() / 3 * 4 + bytes.len() / 48 + 8);
    for line in bytes.chunks(48) {
        BASE64_STANDARD.encode_string(line, &mut text);
        text.push('\n');
    }
    text
}
