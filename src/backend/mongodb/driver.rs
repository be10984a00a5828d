//! From this crate's settings to the driver's options.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mongodb::options::{ClientOptions, ServerAddress, Tls as DriverTls, TlsOptions};

use super::config::{Encryption, MongoDbConfig};
use crate::config::{bare, is_host, shown};
use crate::error::{Error, ErrorKind, Phase};
use crate::security::{Renewed, Secret, Tls, Watch};

/// Where systems keep their certificate authorities in one file. The driver itself
/// knows only a built-in list of public ones.
const SYSTEM_AUTHORITIES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// What is accepted as the oldest version of TLS.
pub(super) const ONLY_TLS12: &str = "1.2, as the driver speaks 1.2 and 1.3 and can be told \
     nothing else; limit the server to 1.3 (tlsDisabledProtocols)";

/// The driver's address of a host as [`MongoDbConfig::host`] takes it.
pub(super) fn address(host: &str, default_port: u16) -> Option<ServerAddress> {
    let mut address = ServerAddress::parse(host).ok()?;
    if let ServerAddress::Tcp { host, port } = &mut address {
        if !is_host(bare(host)) {
            return None;
        }
        port.get_or_insert(default_port);
    }
    Some(address)
}

/// All servers of these settings; `localhost` where none is named.
fn addresses(config: &MongoDbConfig) -> Result<Vec<ServerAddress>, Error> {
    if config.hosts.is_empty() {
        return Ok(address("localhost", config.port).into_iter().collect());
    }
    let parse = |host: &String| {
        address(host, config.port).ok_or_else(|| {
            let host = shown(host);
            wrong(format!("host (MONGODB_HOST): `{host}` is not an address"))
        })
    };
    config.hosts.iter().map(parse).collect()
}

/// Whether nobody else can listen on the way there.
pub(super) fn is_local(address: &ServerAddress) -> bool {
    match address {
        ServerAddress::Tcp { host, .. } => {
            host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
        }
        _ => true,
    }
}

/// Whether these settings encrypt. The setting and the problem where they may not be
/// so.
pub(super) fn encrypts(config: &MongoDbConfig) -> Result<bool, (&'static str, String)> {
    let local = addresses(config).is_ok_and(|all| all.iter().all(is_local));
    let may_be_plain = local || config.allow_plaintext;
    match config.encryption {
        Encryption::Required => Ok(true),
        Encryption::Auto => Ok(!may_be_plain),
        Encryption::Plaintext(_) if may_be_plain => Ok(false),
        Encryption::Plaintext(setting) => Err((
            setting,
            "an encrypted connection to any host but loopback; \
             SECURITY_CONNECTION_ENCRYPTION=false (allow_plaintext) permits this one"
                .to_owned(),
        )),
    }
}

/// How these settings encrypt, if they do. The driver reads the files by itself when a client is
/// made; they are read and checked here all the same, so that a mistake shows here and by name,
/// and to see when they change. The watch learns when the certificates in them expire.
pub(super) fn tls(
    config: &MongoDbConfig,
    certificates: &Arc<Watch>,
) -> Result<Option<Renewed<Arc<TlsOptions>>>, Error> {
    let encrypts = encrypts(config)
        .map_err(|(setting, accepted)| wrong(format!("{setting}: accepted is {accepted}")))?;
    if !encrypts {
        return Ok(None);
    }
    let watch = Arc::clone(certificates);
    let renewed = Renewed::new("MongoDB", &config.tls, move |tls, files| {
        tls.client_config(files, &watch)?;
        tls_options(tls).map(Arc::new)
    });
    renewed.map(Some)
}

/// The driver's options, with this password and encryption in them.
pub(super) fn options(
    config: &MongoDbConfig,
    password: Option<&Secret>,
    tls: Option<&TlsOptions>,
) -> Result<ClientOptions, Error> {
    let mut options = config.options.clone();
    options.hosts = addresses(config)?;
    if config.max_sockets == 0 {
        return Err(wrong(
            "max_sockets (MONGODB_MAX_SOCKETS) must be at least 1",
        ));
    }
    options.tls = Some(match tls {
        Some(tls) => DriverTls::Enabled(tls.clone()),
        None => DriverTls::Disabled,
    });
    if let Some(credential) = &mut options.credential {
        credential.password = password.map(|password| password.expose().to_owned());
    } else if config.password.is_some() {
        return Err(wrong("a password without a user (MONGODB_USER)"));
    }
    options.max_pool_size = Some(config.max_sockets);
    options.min_pool_size = None;
    // The driver's own default, said aloud: when logins are refused, no more than these are on
    // their way, and those behind them are told without one of their own.
    options.max_connecting = options.max_connecting.or(Some(2));
    options.connect_timeout = Some(config.connect_timeout);
    Ok(options)
}

fn tls_options(tls: &Tls) -> Result<TlsOptions, Error> {
    if !tls.allows_tls12() {
        return Err(wrong(format!(
            "min_version (MONGODB_SSL_MIN_VERSION): accepted is {ONLY_TLS12}"
        )));
    }
    if tls.skips_host_name() {
        return Err(wrong(
            "the MongoDB driver always checks the host name: remove skip_host_name",
        ));
    }
    let mut options = TlsOptions::default();
    options.ca_file_path = match tls.ca_path() {
        Some(path) => Some(path.to_owned()),
        None => system_authorities(),
    };
    if let Some((certificate, key)) = tls.client_paths() {
        if certificate != key {
            return Err(wrong(
                "the MongoDB driver takes the client's certificate and key from one PEM file: \
                 put both into one and name it for both (MONGODB_SSL_CERT_FILE)",
            ));
        }
        options.cert_key_file_path = Some(certificate.to_owned());
    }
    options.allow_invalid_certificates = tls.trusts_any_certificate().then_some(true);
    Ok(options)
}

fn system_authorities() -> Option<PathBuf> {
    let named = std::env::var_os("SSL_CERT_FILE").map(PathBuf::from);
    let usual = SYSTEM_AUTHORITIES.iter().map(PathBuf::from);
    named
        .into_iter()
        .chain(usual)
        .find(|path| Path::is_file(path))
}

fn wrong(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Configuration, Phase::Configure, message)
}
