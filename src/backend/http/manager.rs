//! The r2d2 manager: connects and checks.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use rustls::ClientConfig;
use ureq::config::Config;
use ureq::http::{Method, Uri};

use super::config::{Base, HttpConfig};
use super::connection::HttpConnection;
use super::connector::{Lender, Line, NoResolver};
use super::errors;
use super::operation::HttpRequest;
use super::request::Defaults;
use super::response::HttpResponse;
use crate::backend::{self, Backend, Encryption, Role, Service, Traffic};
use crate::deadline::Deadline;
use crate::error::{Error, ErrorKind, Phase};
use crate::operation::Outcome;
use crate::security::{Renewed, Watch, warn_unchecked};

/// Makes connections to an HTTP service.
///
/// ```
/// # fn main() -> Result<(), millpond::Error> {
/// use millpond::{Http, HttpConfig};
/// let http = Http::new(HttpConfig::new("http://localhost:8080/api"))?;
/// # Ok(())
/// # }
/// ```
pub struct Http {
    config: HttpConfig,
    base: Base,
    uri: Uri,
    tls: Arc<Renewed<Arc<ClientConfig>>>,
    certificates: Arc<Watch>,
    driver: Config,
    defaults: Arc<Defaults>,
    endpoint: String,
}

impl Http {
    /// Checks the settings and reads the TLS files; connects to nothing yet.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`] with every mistake at once.
    pub fn new(config: HttpConfig) -> Result<Self, Error> {
        config.validate()?;
        let wrong = |message: String| {
            let message = format!("HTTP_BASE_URL: {message}");
            Error::new(ErrorKind::Configuration, Phase::Configure, message)
        };
        let base = config.base().map_err(wrong)?;
        let uri = Uri::try_from(format!("{}/", base.origin)).map_err(|e| wrong(e.to_string()))?;
        if base.encrypted && config.tls.trusts_any_certificate() {
            warn_unchecked("HTTP");
        }
        let driver = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .proxy(None)
            .user_agent(&config.user_agent)
            .timeout_global(Some(config.timeout))
            .timeout_connect(Some(config.connect_timeout))
            .timeout_per_read(config.read_timeout)
            .max_idle_connections(0)
            .max_idle_connections_per_host(0)
            .build();
        backend::adopt::<Self>();
        // A redirect may lead to `https`, too, so the files are read in any case.
        let certificates = Arc::<Watch>::default();
        let watch = Arc::clone(&certificates);
        let tls = Renewed::new("HTTP", &config.tls, move |tls, files| {
            tls.client_config(files, &watch).map(Arc::new)
        })?;
        Ok(Self {
            tls: Arc::new(tls),
            certificates,
            defaults: Arc::new(Defaults::new(&config, &base)?),
            endpoint: format!("{}{}", base.origin, base.prefix),
            uri,
            driver,
            base,
            config,
        })
    }

    /// The settings.
    pub fn config(&self) -> &HttpConfig {
        &self.config
    }

    /// Whether requests say who sends them.
    fn logs_in(&self) -> bool {
        self.config.login.is_some() || self.base.login.is_some()
    }

    /// Asks for the health path, if there is one.
    fn probe_health(&self, conn: &mut HttpConnection) -> Result<(), Error> {
        let Some(path) = &self.config.health_path else {
            return Ok(());
        };
        conn.probe(Method::GET, path, self.config.check_timeout)
            .and_then(HttpResponse::error_for_status)
            .map(drop)
            .map_err(|error| self.unwell(error))
    }

    fn unwell(&self, error: Error) -> Error {
        let kind = error.kind();
        let message = match kind {
            ErrorKind::DeadlineExceeded => {
                let limit = self.config.check_timeout;
                format!(
                    "no answer to a health check within {limit:?} (HTTP_CHECK_TIMEOUT); check \
                     HTTP_BASE_URL, or whether the service hangs"
                )
            }
            ErrorKind::ConnectionLost => format!(
                "{}; is it an HTTP service, and not one for https? check HTTP_BASE_URL",
                error.message()
            ),
            _ => error.message().to_owned(),
        };
        Error::new(kind, Phase::Validate, message)
            .with_endpoint(&*self.endpoint)
            .with_source(Arc::new(error))
    }
}

impl r2d2::ManageConnection for Http {
    type Connection = HttpConnection;
    type Error = Error;

    fn connect(&self) -> Result<HttpConnection, Error> {
        let keep_alive = self.config.keep_alive;
        self.defaults.renew_login();
        self.tls.attempt();
        let (base, uri) = (self.base.clone(), self.uri.clone());
        let line = Arc::new(Line::new(base, uri, Arc::clone(&self.tls), keep_alive));
        if keep_alive {
            line.open_ahead(&self.driver, self.config.connect_timeout)
                .map_err(|error| errors::connecting(error, &self.endpoint))?;
        }
        let lender = Lender(Arc::clone(&line));
        let agent = ureq::Agent::with_parts(self.driver.clone(), lender, NoResolver);
        let defaults = Arc::clone(&self.defaults);
        let max_body = self.config.max_body;
        let mut conn = HttpConnection::new(agent, line, defaults, max_body, keep_alive);
        // The kernel accepts for a server that is frozen.
        self.probe_health(&mut conn)?;
        Ok(conn)
    }

    fn is_valid(&self, conn: &mut HttpConnection) -> Result<(), Error> {
        if !conn.is_alive() {
            let message = "the server has closed the connection";
            return Err(
                Error::new(ErrorKind::ConnectionLost, Phase::Validate, message)
                    .with_endpoint(&*self.endpoint),
            );
        }
        self.probe_health(conn)
    }

    fn has_broken(&self, conn: &mut HttpConnection) -> bool {
        conn.is_broken()
    }
}

impl Backend for Http {
    const NAME: &'static str = "http";

    type Operation = HttpRequest;

    type Reply = HttpResponse;

    fn execute(
        &self,
        conn: &mut HttpConnection,
        operation: &HttpRequest,
        deadline: Deadline,
    ) -> Result<HttpResponse, Error> {
        self.run(conn, operation, deadline)
    }

    fn execute_batch(
        &self,
        conn: &mut HttpConnection,
        operations: &[&HttpRequest],
        deadline: Deadline,
    ) -> Vec<Outcome<HttpResponse>> {
        self.run_each(conn, operations, deadline)
    }

    fn endpoint(&self) -> String {
        self.endpoint.clone()
    }

    fn classify(error: &Error) -> ErrorKind {
        error.kind()
    }

    fn check(&self, conn: &mut HttpConnection) -> Result<Service, Error> {
        let start = Instant::now();
        let (method, path) = match &self.config.health_path {
            Some(path) => (Method::GET, path.as_str()),
            None => (Method::HEAD, "/"),
        };
        let response = conn
            .probe(method, path, self.config.check_timeout)
            // Without a health path any answer but a failure means that it is there, unless it
            // refuses the login.
            .and_then(
                |response| match (&self.config.health_path, response.status()) {
                    (None, 401) if self.logs_in() => response.error_for_status(),
                    (None, ..500) => Ok(response),
                    _ => response.error_for_status(),
                },
            )
            .map_err(|error| self.unwell(error))?;
        let mut service = Service::new(Role::Unknown, start.elapsed());
        service.version = response.header("server").map(str::to_owned);
        let encryption = if self.base.encrypted {
            self.certificates.encryption()
        } else {
            Encryption::None
        };
        self.tls.look();
        let certificates = self.certificates.certificates();
        Ok(service
            .with_encryption(encryption)
            .with_certificates(certificates))
    }

    fn traffic(conn: &HttpConnection) -> Traffic {
        conn.traffic()
    }

    fn credentials_changed(&self) -> Option<bool> {
        self.defaults
            .login_has_changed()
            .max(self.tls.has_changed())
    }
}

impl fmt::Debug for Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Http").field(&self.config).finish()
    }
}
