//! One connection to one server: its addresses tried in turn, TLS, the login.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use redis::{Cmd, ConnectionAddr, RedisError, RedisResult};

use super::config::Address;
use super::manager::Redis;
use super::wire::{Login, converse, open, remaining, resolve, timed_out};
use super::{errors, tls};
use crate::config::host_of;
use crate::error::{ConnectFailure, Error, ErrorKind, Phase};
use crate::security::Renewed;

impl Redis {
    /// One connection to one server, logged in and ready, by the deadline.
    pub(super) fn dial(
        &self,
        address: &Address,
        deadline: Instant,
    ) -> Result<redis::Connection, Error> {
        let password = self.password()?;
        let login = self.login(password.as_ref());
        let wanted = self.setup(login, false);
        self.dial_as(address, &wanted, login, self.config.resp3, deadline)
    }

    pub(super) fn dial_as(
        &self,
        address: &Address,
        setup: &[Cmd],
        login: Login,
        resp3: bool,
        deadline: Instant,
    ) -> Result<redis::Connection, Error> {
        let endpoint = address.to_string();
        let failed = |error: RedisError| errors::connecting(error, &endpoint);
        let ready = |opened: RedisResult<redis::Connection>, deadline| {
            let mut connection = opened?;
            converse(&mut connection, setup, deadline)?;
            connection.set_read_timeout(self.config.read_timeout)?;
            connection.set_write_timeout(self.config.write_timeout)?;
            Ok(connection)
        };
        match address {
            Address::Unix(path) => {
                let address = ConnectionAddr::Unix(path.clone());
                ready(open(address, login, resp3, deadline), deadline).map_err(failed)
            }
            Address::Tcp(host, port) => {
                if self.config.forbids(host) {
                    return Err(plaintext(host));
                }
                let found = resolve(host, *port, deadline).map_err(|error| {
                    let kind = errors::classify_connect(&error);
                    Error::new(kind, Phase::Connect, format!("{error}; check REDIS_HOST"))
                        .with_endpoint(&*endpoint)
                        .with_source(Arc::new(error))
                })?;
                let attempt = |deadline| {
                    let opened = self.open_tcp(host, *port, &found, login, resp3, deadline);
                    ready(opened, deadline).map_err(failed)
                };
                if self.tls.is_none() || self.encrypted.load(Ordering::Relaxed) {
                    return attempt(deadline);
                }
                let left = deadline.saturating_duration_since(Instant::now());
                let mut outcome = attempt(Instant::now() + (left / 3).min(tls::SILENCE));
                let silent = ErrorKind::Connect(ConnectFailure::Timeout);
                if outcome.as_ref().is_err_and(|error| error.kind() == silent) {
                    if found.iter().any(|to| tls::speaks_plaintext(to, deadline)) {
                        return Err(errors::without_tls(&endpoint));
                    }
                    outcome = attempt(deadline);
                }
                if outcome.is_ok() {
                    self.encrypted.store(true, Ordering::Relaxed);
                }
                outcome
            }
        }
    }

    /// Tries each address of the host, each with its share of the time left.
    fn open_tcp(
        &self,
        host: &str,
        port: u16,
        found: &[SocketAddr],
        login: Login,
        resp3: bool,
        deadline: Instant,
    ) -> RedisResult<redis::Connection> {
        let parameters = self.tls.as_ref().map(Renewed::current);
        if let Some(ConnectionAddr::TcpTls {
            insecure,
            tls_params,
            ..
        }) = parameters.as_ref().map(|parameters| &parameters.address)
        {
            // The driver looks the name up again, as it needs it for the certificate,
            // and gives each address all the time that it is given.
            let address = ConnectionAddr::TcpTls {
                host: host.to_owned(),
                port,
                insecure: *insecure,
                tls_params: tls_params.clone(),
            };
            let share = remaining(deadline)? / u32::try_from(found.len().max(1)).unwrap_or(1);
            return open(address, login, resp3, Instant::now() + share);
        }
        let mut last = None;
        for (index, address) in found.iter().enumerate() {
            let left = u32::try_from(found.len() - index).unwrap_or(1);
            let share = Instant::now() + remaining(deadline)? / left;
            let to = ConnectionAddr::Tcp(host_of(address), address.port());
            match open(to, login, resp3, share) {
                Ok(connection) => return Ok(connection),
                Err(error) => last = Some(error),
            }
        }
        // An empty list was turned into an error when the name was resolved.
        Err(last.unwrap_or_else(timed_out))
    }
}

fn plaintext(host: &str) -> Error {
    let message = format!(
        "{host} is another host, and the connection would not be encrypted; \
         set REDIS_SSL=true, or SECURITY_CONNECTION_ENCRYPTION=false"
    );
    Error::new(ErrorKind::Configuration, Phase::Connect, message)
}
