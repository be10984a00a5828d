//! The `HTTP_*` variables.

use super::{HttpConfig, Login};
use crate::config::Vars;
use crate::error::Error;
use crate::security::{Secret, TLS_VERSIONS};

/// More than any server takes.
const MOST_HEADERS: usize = 256;

impl HttpConfig {
    /// Reads the process's environment; `None` unless `HTTP_ENABLED` is true.
    ///
    /// | variable | default |
    /// |---|---|
    /// | `HTTP_BASE_URL` | none, required |
    /// | `HTTP_TIMEOUT` `HTTP_CONNECT_TIMEOUT` `HTTP_READ_TIMEOUT` `HTTP_CHECK_TIMEOUT` | 30, 10, none, 3 (seconds) |
    /// | `HTTP_MAX_REDIRECTS` `HTTP_MAX_BODY_BYTES` | 10, 16777216 |
    /// | `HTTP_USER_AGENT` `HTTP_HEADERS` (`Name:value,Name:value`) | millpond/VERSION, none |
    /// | `HTTP_BEARER_TOKEN`, or `HTTP_USER` and `HTTP_PASSWORD`, or `HTTP_API_KEY` and `HTTP_API_KEY_HEADER` | none (X-API-Key) |
    /// | `HTTP_SSL_CA_FILE` `HTTP_SSL_CERT_FILE` `HTTP_SSL_KEY_FILE` | none |
    /// | `HTTP_SSL_MIN_VERSION` | 1.2 |
    /// | `HTTP_KEEP_ALIVE` `HTTP_HEALTH_PATH` | true, none |
    /// | `SECURITY_CONNECTION_ENCRYPTION` `SECURITY_CERTIFICATE_VALIDATION` | true, true |
    ///
    /// Token, password and key also as `NAME_FILE`.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`](crate::ErrorKind::Configuration) with every
    /// mistake at once.
    pub fn from_env() -> Result<Option<Self>, Error> {
        Vars::process().read(Self::from_vars)
    }

    /// What the variables say of one service; `None` unless HTTP is on.
    pub(crate) fn from_vars(vars: &mut Vars<'_>) -> Option<Self> {
        let mut all = Self::each_from_vars(vars)?;
        if all.len() > 1 {
            let accepted = "one URL; for several, a hub's POOL_BALANCE";
            vars.mistake("HTTP_BASE_URL", "***", accepted);
        }
        Some(all.swap_remove(0))
    }

    /// The same of each URL by itself, for a fleet; never none of them.
    pub(crate) fn each_from_vars(vars: &mut Vars<'_>) -> Option<Vec<Self>> {
        if vars.flag("HTTP_ENABLED") != Some(true) {
            return None;
        }
        let mut config = Self::new("");
        let mut urls = vars.secret_urls("HTTP_BASE_URL").unwrap_or_default();
        if urls.is_empty() {
            urls.push(Secret::from(""));
        }
        config.read_manners(vars);
        config.read_login(vars);
        config.read_headers(vars);
        config.read_tls(vars);
        let of = |base_url| Self {
            base_url,
            ..config.clone()
        };
        let all: Vec<_> = urls.into_iter().map(of).collect();
        for config in &all {
            config.check(vars);
        }
        Some(all)
    }

    fn read_manners(&mut self, vars: &mut Vars) {
        if let Some(timeout) = vars.seconds("HTTP_TIMEOUT") {
            self.timeout = timeout;
        }
        if let Some(timeout) = vars.seconds("HTTP_CONNECT_TIMEOUT") {
            self.connect_timeout = timeout;
        }
        if let Some(timeout) = vars.seconds("HTTP_READ_TIMEOUT") {
            self.read_timeout = Some(timeout);
        }
        if let Some(timeout) = vars.seconds("HTTP_CHECK_TIMEOUT") {
            self.check_timeout = timeout;
        }
        if let Some(count) = vars.parse("HTTP_MAX_REDIRECTS", "0 or more") {
            self.max_redirects = count;
        }
        if let Some(bytes) = vars.parse("HTTP_MAX_BODY_BYTES", "0 or more") {
            self.max_body = bytes;
        }
        if let Some(text) = vars.text("HTTP_USER_AGENT") {
            self.user_agent = text;
        }
        if let Some(wanted) = vars.flag("HTTP_KEEP_ALIVE") {
            self.keep_alive = wanted;
        }
        self.health_path = vars.text("HTTP_HEALTH_PATH");
    }

    fn read_login(&mut self, vars: &mut Vars) {
        let token = vars.credential("HTTP_BEARER_TOKEN");
        let user = vars.text("HTTP_USER");
        let password = vars.credential("HTTP_PASSWORD");
        let key = vars.credential("HTTP_API_KEY");
        if [token.is_some(), user.is_some(), key.is_some()]
            .into_iter()
            .filter(|given| *given)
            .count()
            > 1
        {
            vars.mistake(
                "HTTP_BEARER_TOKEN, HTTP_USER and HTTP_API_KEY",
                "more than one of them",
                "one",
            );
        }
        let no_password = || Secret::from("").into();
        if let Some(token) = token {
            self.login = Some(Login::Bearer(token));
        }
        if let Some(user) = user {
            self.login = Some(Login::Basic(user, password.unwrap_or_else(no_password)));
        }
        if let Some(key) = key {
            let header = vars.text("HTTP_API_KEY_HEADER");
            let header = header.unwrap_or_else(|| "X-API-Key".into());
            self.login = Some(Login::ApiKey(header, key));
        }
    }

    fn read_headers(&mut self, vars: &mut Vars) {
        let Some(text) = vars.secret_text("HTTP_HEADERS") else {
            return;
        };
        let items = text.expose().split(',');
        let items: Vec<_> = items.filter(|item| !item.trim().is_empty()).collect();
        if items.len() > MOST_HEADERS {
            let accepted = format!("at most {MOST_HEADERS} headers");
            vars.mistake("HTTP_HEADERS", "***", &accepted);
            return;
        }
        for item in items {
            match item.split_once(':') {
                Some((name, value)) => {
                    let value = vars.open("HTTP_HEADERS", value.trim().into());
                    let header = value.map(|value| (name.trim().to_owned(), value));
                    self.headers.extend(header);
                }
                None => vars.mistake("HTTP_HEADERS", "***", "Name:value,Name:value"),
            }
        }
    }

    fn read_tls(&mut self, vars: &mut Vars) {
        if let Some(required) = vars.flag("SECURITY_CONNECTION_ENCRYPTION") {
            self.allow_plaintext = !required;
        }
        let mut tls = std::mem::take(&mut self.tls);
        if let Some(version) = vars.parse("HTTP_SSL_MIN_VERSION", TLS_VERSIONS) {
            tls = tls.min_version(version);
        }
        if let Some(path) = vars.text("HTTP_SSL_CA_FILE") {
            tls = tls.ca_file(path);
        }
        let certificate = vars.text("HTTP_SSL_CERT_FILE");
        let key = vars.text("HTTP_SSL_KEY_FILE");
        if certificate.is_some() != key.is_some() {
            vars.mistake(
                "HTTP_SSL_CERT_FILE and HTTP_SSL_KEY_FILE",
                "one without the other",
                "both or none",
            );
        }
        if let Some((certificate, key)) = certificate.zip(key) {
            tls = tls.client_certificate(certificate, key);
        }
        if vars.flag("SECURITY_CERTIFICATE_VALIDATION") == Some(false) {
            tls = tls.danger_trust_any_certificate();
        }
        self.tls = tls;
    }
}

#[cfg(test)]
mod tests;
