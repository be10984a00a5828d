//! Settings of an HTTP manager: by code, by URL, from the environment.

use std::fmt;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use url::Url;

use crate::config::{ESCAPED, Login as Place, Plain, Vars, login};
use crate::error::Error;
use crate::security::{Credential, Secret, Tls};

mod environment;

/// Where an HTTP service is and how to talk to it.
///
/// ```
/// use std::time::Duration;
/// use millpond::HttpConfig;
///
/// let config = HttpConfig::new("https://api.example.com/v1")
///     .bearer_token("hunter2")
///     .header("Accept", "application/json")
///     .timeout(Duration::from_secs(10))
///     .health_path("/health");
/// assert!(!format!("{config:?}").contains("hunter2"));
/// ```
#[derive(Clone)]
#[must_use]
pub struct HttpConfig {
    pub(super) base_url: Secret,
    pub(super) login: Option<Login>,
    pub(super) headers: Vec<(String, Secret)>,
    pub(super) tls: Tls,
    pub(super) allow_plaintext: bool,
    pub(super) keep_alive: bool,
    pub(super) user_agent: String,
    pub(super) health_path: Option<String>,
    pub(super) max_redirects: u32,
    pub(super) max_body: u64,
    pub(super) connect_timeout: Duration,
    pub(super) read_timeout: Option<Duration>,
    pub(super) timeout: Duration,
    pub(super) check_timeout: Duration,
}

/// How to say who we are.
#[derive(Clone)]
pub(super) enum Login {
    Bearer(Credential),
    Basic(String, Credential),
    ApiKey(String, Credential),
}

/// The parts of a checked base URL.
#[derive(Clone, Debug)]
pub(super) struct Base {
    pub(super) encrypted: bool,
    /// Without brackets, for resolving and certificates.
    pub(super) host: String,
    pub(super) port: u16,
    /// `https://host:port`, without a default port, as the driver sees it.
    pub(super) origin: String,
    /// What precedes every path, without a slash at its end.
    pub(super) prefix: String,
    pub(super) login: Option<(String, Secret)>,
}

impl HttpConfig {
    /// A service at this address, such as `https://api.example.com/v1`. User
    /// information in it is used for basic authentication.
    pub fn new(base_url: impl Into<String>) -> Self {
        Self {
            base_url: base_url.into().into(),
            login: None,
            headers: Vec::new(),
            tls: Tls::new(),
            allow_plaintext: false,
            keep_alive: true,
            user_agent: concat!("millpond/", env!("CARGO_PKG_VERSION")).into(),
            health_path: None,
            max_redirects: 10,
            max_body: 16 * 1024 * 1024,
            connect_timeout: Duration::from_secs(10),
            read_timeout: None,
            timeout: Duration::from_secs(30),
            check_timeout: Duration::from_secs(3),
        }
    }

    /// The same as [`new`](Self::new), with the URL checked at once.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`](crate::ErrorKind::Configuration), without the
    /// URL's user information.
    pub fn from_url(url: &str) -> Result<Self, Error> {
        let config = Self::new(url);
        config.validate().map(|()| config)
    }

    /// Sends `Authorization: Bearer ...`.
    pub fn bearer_token(mut self, token: impl Into<Secret>) -> Self {
        self.login = Some(Login::Bearer(token.into().into()));
        self
    }

    /// The same with the token in the first line of this file (`HTTP_BEARER_TOKEN_FILE`), which
    /// is read again for each connection, and when the service answers 401: then the request is
    /// sent once more if there is another token by now.
    pub fn bearer_token_file(mut self, path: impl AsRef<Path>) -> Self {
        self.login = Some(Login::Bearer(Credential::file(path)));
        self
    }

    /// Sends `Authorization: Basic ...`.
    pub fn basic_auth(mut self, user: impl Into<String>, password: impl Into<Secret>) -> Self {
        self.login = Some(Login::Basic(user.into(), password.into().into()));
        self
    }

    /// The same with the password in the first line of this file (`HTTP_PASSWORD_FILE`); see
    /// [`bearer_token_file`](Self::bearer_token_file).
    pub fn basic_auth_file(mut self, user: impl Into<String>, path: impl AsRef<Path>) -> Self {
        self.login = Some(Login::Basic(user.into(), Credential::file(path)));
        self
    }

    /// Sends a key in a header of this name, such as `X-API-Key`.
    pub fn api_key(mut self, header: impl Into<String>, key: impl Into<Secret>) -> Self {
        self.login = Some(Login::ApiKey(header.into(), key.into().into()));
        self
    }

    /// The same with the key in the first line of this file (`HTTP_API_KEY_FILE`); see
    /// [`bearer_token_file`](Self::bearer_token_file).
    pub fn api_key_file(mut self, header: impl Into<String>, path: impl AsRef<Path>) -> Self {
        self.login = Some(Login::ApiKey(header.into(), Credential::file(path)));
        self
    }

    /// Sends this header with every request that does not set it itself.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<Secret>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// How `https` is done: authorities, client certificate.
    pub fn tls(mut self, tls: Tls) -> Self {
        self.tls = tls;
        self
    }

    /// Allows `http` to a host other than this one. Off by default.
    pub fn allow_plaintext(mut self, allowed: bool) -> Self {
        self.allow_plaintext = allowed;
        self
    }

    /// Whether a connection is kept open between requests (default). Without it
    /// each request opens one, and a lease is a mere permit.
    pub fn keep_alive(mut self, wanted: bool) -> Self {
        self.keep_alive = wanted;
        self
    }

    /// The `User-Agent`; `millpond/` and the version by default.
    pub fn user_agent(mut self, text: impl Into<String>) -> Self {
        self.user_agent = text.into();
        self
    }

    /// A path that answers with 2xx while the service is well. With one, connecting
    /// and each liveness check `GET` it; without one, they only look whether the
    /// server accepts and has not closed the connection, which a frozen server does
    /// and has not.
    pub fn health_path(mut self, path: impl Into<String>) -> Self {
        self.health_path = Some(path.into());
        self
    }

    /// How many redirects are followed; 10 by default, 0 for none.
    pub fn max_redirects(mut self, count: u32) -> Self {
        self.max_redirects = count;
        self
    }

    /// The largest response body that is read, in bytes; 16 MiB by default.
    pub fn max_body(mut self, bytes: u64) -> Self {
        self.max_body = bytes;
        self
    }

    /// The longest time to establish a connection, name look-up and TLS included;
    /// 10 s by default.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// The longest silence while a response is read; by default only the overall
    /// [`timeout`](Self::timeout) counts.
    pub fn read_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.read_timeout = timeout.into();
        self
    }

    /// The longest time of a request, from connecting to the last byte of the
    /// body; 30 s by default. Each redirect is a request of its own.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// The longest time of a liveness check; 3 s by default.
    pub fn check_timeout(mut self, timeout: Duration) -> Self {
        self.check_timeout = timeout;
        self
    }

    /// # Errors
    /// Every mistake at once.
    pub(super) fn validate(&self) -> Result<(), Error> {
        let mut mistakes = Vars::from_lookup(|_| None);
        self.check(&mut mistakes);
        mistakes.finish()
    }

    /// Notes every mistake in these settings.
    fn check(&self, vars: &mut Vars) {
        match self.base() {
            Err(mistake) => vars.mistake("HTTP_BASE_URL", "***", &mistake),
            Ok(base) if !base.encrypted && !self.allow_plaintext && !is_this_host(&base.host) => {
                vars.mistake(
                    "HTTP_BASE_URL",
                    &base.origin,
                    "https for any other host than this one, \
                     or allow plaintext with SECURITY_CONNECTION_ENCRYPTION=false",
                );
            }
            Ok(_) => {}
        }
        for (number, (name, value)) in self.headers.iter().enumerate() {
            if !is_header(name, value.expose()) {
                // Behind a comma in a value, a part of the value looks like a name.
                vars.mistake(
                    &format!("HTTP_HEADERS, header {}", number + 1),
                    "***",
                    "Name:value,Name:value without control characters, and without commas in \
                     values",
                );
            }
        }
        let login = match &self.login {
            None => true,
            Some(Login::Bearer(token)) => is_secret_header("authorization", token),
            Some(Login::Basic(user, _)) => !user.contains(':'),
            Some(Login::ApiKey(name, key)) => is_secret_header(name, key),
        };
        if !login {
            vars.mistake(
                "HTTP_BEARER_TOKEN, HTTP_USER or HTTP_API_KEY",
                "***",
                "text without control characters, and no colon in the user",
            );
        }
        if !is_header("user-agent", &self.user_agent) {
            vars.mistake(
                "HTTP_USER_AGENT",
                &self.user_agent,
                "text without control characters",
            );
        }
        if let Some(path) = &self.health_path
            && !path.starts_with('/')
        {
            vars.mistake("HTTP_HEALTH_PATH", path, "a path that begins with /");
        }
        for (name, timeout) in [
            ("HTTP_CONNECT_TIMEOUT", Some(self.connect_timeout)),
            ("HTTP_READ_TIMEOUT", self.read_timeout),
            ("HTTP_TIMEOUT", Some(self.timeout)),
            ("HTTP_CHECK_TIMEOUT", Some(self.check_timeout)),
        ] {
            if timeout.is_some_and(|timeout| timeout.is_zero()) {
                vars.mistake(name, "0", "seconds, more than 0, such as 2.5");
            }
        }
    }

    /// The base URL taken apart.
    pub(super) fn base(&self) -> Result<Base, String> {
        let accepted = "http:// or https://, a host, and perhaps a port and path";
        if login(self.base_url.expose()) != Place::InPlace {
            return Err(format!("{accepted}: {ESCAPED}"));
        }
        let url =
            Url::parse(self.base_url.expose()).map_err(|error| format!("{accepted} ({error})"))?;
        // The parser passes over slashes before the host, behind which a login is in place.
        if url.path().contains('@') {
            return Err(format!("{accepted}: {ESCAPED}"));
        }
        let encrypted = match url.scheme() {
            "http" => false,
            "https" => true,
            _ => return Err(accepted.into()),
        };
        if url.query().is_some() || url.fragment().is_some() {
            return Err(format!("{accepted}, but no query or fragment"));
        }
        let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else {
            return Err(accepted.into());
        };
        let origin = url.origin().ascii_serialization();
        let decoded = |text: &str| {
            let text = percent_decode_str(text).decode_utf8();
            text.map(String::from)
                .map_err(|_| format!("{accepted}, in UTF-8"))
        };
        let (user, password) = (decoded(url.username())?, url.password());
        if user.contains(':') {
            return Err(format!("{accepted}, and no colon in the user"));
        }
        // A token is given as a user without a password.
        let login = match password {
            Some(password) => Some((user, Secret::from(decoded(password)?))),
            None if !user.is_empty() => Some((user, Secret::from(""))),
            None => None,
        };
        Ok(Base {
            encrypted,
            host: host
                .trim_start_matches('[')
                .trim_end_matches(']')
                .to_owned(),
            port,
            origin,
            prefix: url.path().trim_end_matches('/').to_owned(),
            login,
        })
    }
}

impl fmt::Debug for HttpConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let base = self.base();
        let base = base.map_or_else(
            |_| "***".into(),
            // Of a torn URL, the login can be in the path.
            |base| {
                let is_plain = !base.prefix.contains(':');
                base.origin + if is_plain { &base.prefix } else { "/***" }
            },
        );
        f.debug_struct("HttpConfig")
            .field("base_url", &base)
            .field("login", &self.login)
            .field("headers", &self.headers)
            .field("tls", &self.tls)
            .field("allow_plaintext", &self.allow_plaintext)
            .field("keep_alive", &self.keep_alive)
            .field("user_agent", &Plain(&self.user_agent))
            .field("health_path", &Plain(&self.health_path))
            .field("max_redirects", &self.max_redirects)
            .field("max_body", &self.max_body)
            .field("connect_timeout", &self.connect_timeout)
            .field("read_timeout", &self.read_timeout)
            .field("timeout", &self.timeout)
            .field("check_timeout", &self.check_timeout)
            .finish()
    }
}

impl Login {
    /// The name of the header that carries it.
    pub(super) fn header(&self) -> &str {
        match self {
            Self::Bearer(_) | Self::Basic(..) => "authorization",
            Self::ApiKey(name, _) => name,
        }
    }

    pub(super) fn credential(&self) -> &Credential {
        match self {
            Self::Bearer(credential) | Self::Basic(_, credential) | Self::ApiKey(_, credential) => {
                credential
            }
        }
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bearer(_) => "bearer token",
            Self::Basic(..) => "basic",
            Self::ApiKey(..) => "API key",
        })
    }
}

/// Whether the host is this machine itself.
fn is_this_host(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn is_header(name: &str, value: &str) -> bool {
    use ureq::http::{HeaderName, HeaderValue};
    HeaderName::try_from(name).is_ok() && HeaderValue::try_from(value).is_ok()
}

/// The same of what may come from a file; that it can be read is looked at later.
fn is_secret_header(name: &str, value: &Credential) -> bool {
    let fits = |value: Secret| is_header(name, value.expose());
    value.current().map_or(true, fits)
}
