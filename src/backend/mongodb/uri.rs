//! Connection strings, parsed by the driver, without letting a secret out.

use std::future::{Future, IntoFuture};
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use mongodb::options::{ClientOptions, ServerAddress, Tls as DriverTls};

use super::config::{Encryption, MongoDbConfig};
use crate::config::{Login, login, shown};
use crate::error::{Error, ErrorKind, Phase};
use crate::security::{Secret, Tls};

/// The settings of a connection string, over the defaults of [`MongoDbConfig::new`].
pub(super) fn parse(url: &str) -> Result<MongoDbConfig, Error> {
    let user_info = user_info(url)?;
    let password = user_info.and_then(|info| info.split_once(':'));
    let parsed = parse_now(url).map_err(|error| match login(url) {
        Login::InPlace => wrong(&told(&error, password.map(|(_, password)| password))),
        Login::Doubtful | Login::Astray => unescaped(),
    })?;
    Ok(adopt(parsed))
}

/// What the driver says, without what it quotes: where something is missing in the string, a part
/// of the password can be anywhere.
fn told(error: &str, password: Option<&str>) -> String {
    if error.contains("invalid server address") {
        return "a server is none of host, host:port, [address]:port".to_owned();
    }
    if let Some((_, hint)) = error.split_once("is an invalid option") {
        return format!("an option that MongoDB does not have{}", shown(hint));
    }
    let end = error.find("pair: ").map_or(error.len(), |at| at + 4);
    let text = &error[..end];
    match password.filter(|password| !password.is_empty()) {
        Some(password) => shown(&text.replace(password, "***")),
        None => shown(text),
    }
}

/// The raw `user:password` of the string, after checking that a special character
/// in it cannot make the driver take a part of the password for a host.
fn user_info(url: &str) -> Result<Option<&str>, Error> {
    let Some(rest) = url.strip_prefix("mongodb://") else {
        return Err(wrong(if url.starts_with("mongodb+srv://") {
            "mongodb+srv needs DNS look-ups that this build does not have; name the hosts: \
             mongodb://host1,host2/?replicaSet=NAME&tls=true"
        } else {
            "it must begin with mongodb://"
        }));
    };
    let before_options = rest.split('?').next().unwrap_or(rest);
    let Some((info, after)) = before_options.rsplit_once('@') else {
        if rest.contains('@') && !before_options.contains('/') {
            return Err(unescaped());
        }
        return Ok(None);
    };
    let legal = |part: &str| !part.contains(['@', '/', ':', '?', '#', '[', ']']);
    let (user, password) = info.split_once(':').unwrap_or((info, ""));
    if legal(user) && legal(password) && !after.is_empty() {
        Ok(Some(info))
    } else {
        Err(unescaped())
    }
}

fn unescaped() -> Error {
    wrong("user and password must be percent-encoded (`@` as %40, `:` as %3A, `/` as %2F)")
}

fn wrong(problem: &str) -> Error {
    Error::new(
        ErrorKind::Configuration,
        Phase::Configure,
        format!("MONGODB_URI: {problem}"),
    )
}

/// The driver's parser is asynchronous for the sake of `mongodb+srv` alone; for
/// everything else it is ready at once, so that no runtime is needed.
fn parse_now(url: &str) -> Result<ClientOptions, String> {
    let future = pin!(ClientOptions::parse(url).into_future());
    match future.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Ok(options)) => Ok(options),
        Poll::Ready(Err(error)) => Err(super::errors::describe(&error)),
        Poll::Pending => Err("it needs a look-up, which is not supported".to_owned()),
    }
}

/// Splits what the driver parsed into the parts that are kept apart here.
fn adopt(mut parsed: ClientOptions) -> MongoDbConfig {
    let mut config = MongoDbConfig::new();
    let defaults = &config.options;
    if parsed.app_name.is_none() {
        parsed.app_name.clone_from(&defaults.app_name);
    }
    parsed.heartbeat_freq = parsed.heartbeat_freq.or(defaults.heartbeat_freq);
    parsed.max_idle_time = parsed.max_idle_time.or(defaults.max_idle_time);
    parsed.server_selection_timeout = parsed
        .server_selection_timeout
        .or(defaults.server_selection_timeout);
    config.hosts = parsed.hosts.drain(..).map(host_text).collect();
    config.password = parsed
        .credential
        .as_mut()
        .and_then(|credential| credential.password.take())
        .map(|password| Secret::from(password).into());
    config.connect_timeout = parsed.connect_timeout.unwrap_or(config.connect_timeout);
    config.max_sockets = parsed.max_pool_size.unwrap_or(config.max_sockets);
    match parsed.tls.take() {
        None => {}
        Some(DriverTls::Disabled) => config.encryption = Encryption::Plaintext("tls=false"),
        Some(DriverTls::Enabled(options)) => {
            let mut tls = Tls::new();
            if let Some(path) = options.ca_file_path {
                tls = tls.ca_file(path);
            }
            if let Some(path) = options.cert_key_file_path {
                tls = tls.client_certificate(&path, &path);
            }
            if options.allow_invalid_certificates == Some(true) {
                tls = tls.danger_trust_any_certificate();
            }
            config = config.tls(tls);
        }
    }
    config.options = parsed;
    config
}

/// An address as [`MongoDbConfig::host`] takes it.
fn host_text(address: ServerAddress) -> String {
    match address {
        ServerAddress::Tcp { host, port } => {
            let host = if host.contains(':') {
                format!("[{host}]")
            } else {
                host
            };
            match port {
                Some(port) => format!("{host}:{port}"),
                None => host,
            }
        }
        unix => unix.to_string(),
    }
}
