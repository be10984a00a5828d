//! Redis URLs.

use percent_encoding::percent_decode_str;
use url::Url;

use super::{Address, DEFAULT_PORT, RedisConfig, Topology};
use crate::config::{ESCAPED, Login, is_host, login};
use crate::error::{Error, ErrorKind, Phase};
use crate::security::{Secret, Tls};

impl RedisConfig {
    /// Reads `redis://[user[:password]@]host[:port][/db]`, `rediss://` for TLS, or
    /// `unix:///path/to/socket?db=1`. `?protocol=resp3` selects RESP3, the fragment
    /// `#insecure` trusts any certificate.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`], without the URL's user information.
    pub fn from_url(url: &str) -> Result<Self, Error> {
        Self::new().with_url(url).map_err(|mistake| {
            Error::new(
                ErrorKind::Configuration,
                Phase::Configure,
                format!("Redis URL: {mistake}"),
            )
        })
    }

    /// What is wrong is said without the value: where something is missing in the URL, a part of
    /// the password can be anywhere.
    pub(super) fn with_url(self, text: &str) -> Result<Self, String> {
        match (login(text), self.with_parts(text)) {
            (Login::Astray, _) | (Login::Doubtful, Err(_)) => Err(ESCAPED.to_owned()),
            (_, read) => read,
        }
    }

    fn with_parts(mut self, text: &str) -> Result<Self, String> {
        let url = Url::parse(text).map_err(|error| error.to_string())?;
        let encrypted = match url.scheme() {
            "redis" | "valkey" => false,
            "rediss" | "valkeys" => true,
            "unix" | "redis+unix" | "valkey+unix" => {
                self.topology = Topology::Single(Address::Unix(decoded(url.path())?.into()));
                return self.with_query(&url);
            }
            _ => return Err("another scheme, accepted: redis, rediss, unix".to_owned()),
        };
        let host = match url.host() {
            // `redis` is no scheme that the URL standard knows, so the host comes
            // percent-encoded and an IPv4 address as a domain.
            Some(url::Host::Domain(name)) => decoded(name)?,
            Some(url::Host::Ipv4(ip)) => ip.to_string(),
            Some(url::Host::Ipv6(ip)) => ip.to_string(),
            None => "localhost".into(),
        };
        if !is_host(&host) {
            return Err("what should be the host is none".to_owned());
        }
        let port = url.port().unwrap_or(DEFAULT_PORT);
        self.topology = Topology::Single(Address::Tcp(host, port));
        if !url.username().is_empty() {
            self.user = Some(decoded(url.username())?);
        }
        if let Some(password) = url.password() {
            self.password = Some(Secret::from(decoded(password)?).into());
        }
        if encrypted {
            self.tls = Some(match url.fragment() {
                None => Tls::new(),
                Some("insecure") => Tls::new().danger_trust_any_certificate(),
                Some(_) => return Err("another fragment, accepted: insecure".to_owned()),
            });
        }
        let path = url.path().trim_matches('/');
        if !path.is_empty() {
            self.db = database(path)?;
        }
        self.with_query(&url)
    }

    fn with_query(mut self, url: &Url) -> Result<Self, String> {
        for (name, value) in url.query_pairs() {
            match (&*name, &*value) {
                ("db", number) => self.db = database(number)?,
                ("user", name) => self.user = Some(name.into()),
                ("pass" | "password", password) => {
                    self.password = Some(Secret::from(password).into());
                }
                ("protocol", "resp3" | "3") => self.resp3 = true,
                ("protocol", "resp2" | "2") => self.resp3 = false,
                ("protocol", _) => {
                    return Err("another protocol, accepted: resp2, resp3".to_owned());
                }
                ("client_name", name) => self.client_name = name.into(),
                _ => {
                    let accepted = "db, user, password, protocol and client_name";
                    return Err(format!("another parameter, accepted: {accepted}"));
                }
            }
        }
        Ok(self)
    }
}

/// Whether this URL has this parameter.
pub(super) fn asks(url: &str, parameter: &str) -> bool {
    let url = Url::parse(url).ok();
    url.is_some_and(|url| url.query_pairs().any(|(name, _)| name == parameter))
}

fn decoded(text: &str) -> Result<String, String> {
    let text = percent_decode_str(text).decode_utf8();
    text.map(Into::into)
        .map_err(|_| "percent-encoded text that is not UTF-8".into())
}

fn database(text: &str) -> Result<i64, String> {
    text.parse()
        .map_err(|_| "another database, accepted: a number".to_owned())
}
