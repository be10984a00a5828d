//! The settings that environment variables give.

use mongodb::options::{Acknowledgment, ReadPreference, WriteConcern};

use super::config::{Encryption, MongoDbConfig};
use crate::config::Vars;
use crate::security::{Secret, TLS_VERSIONS, Tls};

/// Options of a connection string that overrule variables of earlier layers.
const OPTIONS: [(&str, &str); 11] = [
    ("appname", "MONGODB_APP_NAME"),
    ("connecttimeoutms", "MONGODB_CONNECT_TIMEOUT"),
    ("maxpoolsize", "MONGODB_MAX_SOCKETS"),
    ("readpreference", "MONGODB_READ_PREFERENCE"),
    ("replicaset", "MONGODB_REPLICA_SET"),
    ("retryreads", "MONGODB_RETRY_READS"),
    ("retrywrites", "MONGODB_RETRY_WRITES"),
    (
        "serverselectiontimeoutms",
        "MONGODB_SERVER_SELECTION_TIMEOUT",
    ),
    ("tlscafile", "MONGODB_SSL_CA_FILE"),
    ("tlscertificatekeyfile", "MONGODB_SSL_CERT_FILE"),
    ("w", "MONGODB_WRITE_CONCERN"),
];

/// See [`MongoDbConfig::from_env`].
pub(super) fn read(vars: &mut Vars<'_>) -> Option<MongoDbConfig> {
    let enabled = vars.flag("MONGODB_ENABLED");
    let uri = vars.url("MONGODB_URI");
    if !enabled.unwrap_or(uri.is_some()) {
        return None;
    }
    let mut config = match uri
        .as_ref()
        .map(|uri| MongoDbConfig::from_url(uri.expose()))
    {
        None => MongoDbConfig::new(),
        Some(Ok(mut config)) => {
            if config.password.is_some()
                && let Some(password) = vars.url_password("MONGODB_URI", password_in)
            {
                config.password = Some(password);
            }
            config
        }
        Some(Err(error)) => {
            let what = error.message();
            let what = what.strip_prefix("MONGODB_URI: ").unwrap_or(what);
            let form = "mongodb://[user:password@]host[:port][/database][?options]";
            vars.mistake("MONGODB_URI", "***", &format!("{form} ({what})"));
            MongoDbConfig::new()
        }
    };
    let options = uri.as_ref().and_then(|uri| uri.expose().split_once('?'));
    let options = options.map_or("", |(_, options)| options).split('&');
    for option in options.filter_map(|option| option.split_once('=')) {
        let said = |(name, _): &&(&str, &str)| option.0.eq_ignore_ascii_case(name);
        if let Some((_, variable)) = OPTIONS.iter().find(said) {
            vars.said_by_url(variable);
        }
    }
    config = address(vars, config);
    config = login(vars, config);
    config = encryption(vars, config);
    config = behaviour(vars, config);
    config = limits(vars, config);
    Some(config)
}

/// The password in this connection string.
fn password_in(uri: &str) -> Option<Secret> {
    let config = MongoDbConfig::from_url(uri).ok()?;
    config.password?.current().ok()
}

fn address(vars: &mut Vars<'_>, mut config: MongoDbConfig) -> MongoDbConfig {
    if let Some(hosts) = vars.text("MONGODB_HOST") {
        config.hosts = hosts
            .split(',')
            .map(|host| host.trim().to_owned())
            .collect();
    }
    match vars.parse::<u16>("MONGODB_PORT", "a port, 1 to 65535") {
        Some(0) => vars.mistake("MONGODB_PORT", "0", "a port, 1 to 65535"),
        Some(port) => config = config.port(port),
        None => {}
    }
    for host in &config.hosts {
        if super::driver::address(host, config.port).is_none() {
            vars.mistake("MONGODB_HOST", host, "host names or addresses, with commas");
        }
    }
    if let Some(name) = vars.text("MONGODB_DB") {
        // What the server refuses, at the first operation; and a URL, which errors would repeat.
        if name.contains(['/', '\\', '.', '"', '$', ' ']) {
            let accepted = "a name without any of / \\ . \" $ and spaces";
            vars.mistake("MONGODB_DB", &name, accepted);
        }
        config = config.database(name);
    }
    if let Some(name) = vars.text("MONGODB_REPLICA_SET") {
        config = config.replica_set(name);
    }
    config
}

fn login(vars: &mut Vars<'_>, mut config: MongoDbConfig) -> MongoDbConfig {
    if let Some(user) = vars.text("MONGODB_USER") {
        config = config.user(user);
    }
    if let Some(password) = vars.credential("MONGODB_PASSWORD") {
        if config.options.credential.is_none() {
            vars.mistake(
                "MONGODB_USER",
                "",
                "the user whose MONGODB_PASSWORD is given",
            );
        }
        config.password = Some(password);
    }
    // Without a user there is nobody to look for in that database.
    if let Some(source) = vars.text("MONGODB_AUTH_SOURCE")
        && config.options.credential.is_some()
    {
        config = config.auth_source(source);
    }
    config
}

fn encryption(vars: &mut Vars<'_>, mut config: MongoDbConfig) -> MongoDbConfig {
    let ca_file = vars.text("MONGODB_SSL_CA_FILE");
    let certificate = vars.text("MONGODB_SSL_CERT_FILE");
    let mut tls = if ca_file.is_some() || certificate.is_some() {
        Tls::new()
    } else {
        config.tls.clone()
    };
    if let Some(path) = ca_file {
        tls = tls.ca_file(path);
    }
    if let Some(path) = certificate {
        tls = tls.client_certificate(&path, &path);
    }
    if let Some(version) = vars.parse("MONGODB_SSL_MIN_VERSION", TLS_VERSIONS) {
        tls = tls.min_version(version);
        if !tls.allows_tls12() {
            vars.mistake("MONGODB_SSL_MIN_VERSION", "1.3", super::driver::ONLY_TLS12);
        }
    }
    if vars.flag("SECURITY_CERTIFICATE_VALIDATION") == Some(false) {
        tls = tls.danger_trust_any_certificate();
    }
    config.tls = tls;
    match vars.flag("MONGODB_SSL") {
        Some(true) => config.encryption = Encryption::Required,
        Some(false) => config.encryption = Encryption::Plaintext("MONGODB_SSL=false"),
        None => {}
    }
    if let Some(required) = vars.flag("SECURITY_CONNECTION_ENCRYPTION") {
        config = config.allow_plaintext(!required);
    }
    if let Err((setting, problem)) = super::driver::encrypts(&config) {
        vars.mistake("MONGODB_SSL", setting, &problem);
    }
    config
}

fn behaviour(vars: &mut Vars<'_>, mut config: MongoDbConfig) -> MongoDbConfig {
    if let Some(name) = vars.text("MONGODB_APP_NAME") {
        config = config.app_name(name);
    }
    if let Some(text) = vars.text("MONGODB_READ_PREFERENCE") {
        match read_preference(&text) {
            Some(preference) => config = config.read_preference(preference),
            None => vars.mistake(
                "MONGODB_READ_PREFERENCE",
                &text,
                "primary, primaryPreferred, secondary, secondaryPreferred or nearest",
            ),
        }
    }
    if let Some(text) = vars.text("MONGODB_WRITE_CONCERN") {
        let acknowledgment = match text.trim().parse() {
            Ok(nodes) => Acknowledgment::Nodes(nodes),
            Err(_) if text == "majority" => Acknowledgment::Majority,
            Err(_) => Acknowledgment::Custom(text),
        };
        if acknowledgment == Acknowledgment::Nodes(0) {
            vars.mistake(
                "MONGODB_WRITE_CONCERN",
                "0",
                "1 or more, majority, or a tag",
            );
        }
        config = config.write_concern(WriteConcern::builder().w(acknowledgment).build());
    }
    if let Some(retry) = vars.flag("MONGODB_RETRY_READS") {
        config = config.retry_reads(retry);
    }
    if let Some(retry) = vars.flag("MONGODB_RETRY_WRITES") {
        config = config.retry_writes(retry);
    }
    config
}

fn limits(vars: &mut Vars<'_>, mut config: MongoDbConfig) -> MongoDbConfig {
    match vars.parse::<u32>("MONGODB_MAX_SOCKETS", "a number, 1 or more") {
        Some(0) => vars.mistake("MONGODB_MAX_SOCKETS", "0", "a number, 1 or more"),
        Some(sockets) => config = config.max_sockets(sockets),
        None => {}
    }
    if let Some(limit) = vars.seconds("MONGODB_CONNECT_TIMEOUT") {
        config = config.connect_timeout(limit);
    }
    if let Some(limit) = vars.seconds("MONGODB_CHECK_TIMEOUT") {
        config = config.check_timeout(limit);
    }
    if let Some(limit) = vars.seconds("MONGODB_SERVER_SELECTION_TIMEOUT") {
        config = config.server_selection_timeout(limit);
    }
    config
}

fn read_preference(text: &str) -> Option<ReadPreference> {
    let options = None;
    Some(match text.trim().to_ascii_lowercase().as_str() {
        "primary" => ReadPreference::Primary,
        "primarypreferred" => ReadPreference::PrimaryPreferred { options },
        "secondary" => ReadPreference::Secondary { options },
        "secondarypreferred" => ReadPreference::SecondaryPreferred { options },
        "nearest" => ReadPreference::Nearest { options },
        _ => return None,
    })
}
