//! The driver's own Cluster connection, for what only it can do. Its retries are off, as
//! they would send a write again that may have been done.

use std::time::Duration;

use redis::ProtocolVersion::{RESP2, RESP3};
use redis::cluster::{ClusterClient, ClusterConnection};
use redis::{Connection, RedisError, RedisResult, cmd};

use super::refused::{NOT_TRIED, Refused};
use crate::backend::redis::config::RedisConfig;
use crate::backend::redis::errors;
use crate::backend::redis::wire::timed_out;
use crate::error::{Error, ErrorKind, Phase};
use crate::security::Secret;

/// The driver's connection, opened when it is first needed.
pub(in crate::backend::redis) struct Driver {
    client: ClusterClient,
    opened: Option<ClusterConnection>,
    refused: Refused,
    connect_timeout: Duration,
    read_timeout: Option<Duration>,
    write_timeout: Option<Duration>,
}

impl Driver {
    pub(super) fn new(client: ClusterClient, refused: Refused, config: &RedisConfig) -> Self {
        Self {
            client,
            opened: None,
            refused,
            connect_timeout: config.connect_timeout,
            read_timeout: config.read_timeout,
            write_timeout: config.write_timeout,
        }
    }

    /// Whether it was opened.
    pub(super) fn is_opened(&self) -> bool {
        self.opened.is_some()
    }

    pub(super) fn connect_timeout(&self) -> Duration {
        self.connect_timeout
    }

    /// Whether somebody answers on this connection, which is another one, within this time.
    pub(super) fn ping(&self, other: &mut Connection, limit: Duration) -> RedisResult<()> {
        let limit = Some(limit.max(Duration::from_millis(1)));
        other.set_read_timeout(limit)?;
        other.set_write_timeout(limit)?;
        cmd("PING").exec(other)?;
        other.set_read_timeout(self.read_timeout)?;
        other.set_write_timeout(self.write_timeout)
    }

    /// The connection; opened within this time where it is not.
    pub(super) fn get(&mut self, limit: Duration) -> RedisResult<&mut ClusterConnection> {
        let opened = match self.opened.take() {
            Some(opened) => opened,
            None => self.open(limit)?,
        };
        Ok(self.opened.insert(opened))
    }

    fn open(&self, limit: Duration) -> RedisResult<ClusterConnection> {
        if self.refused.is_fresh() {
            return Err((redis::ErrorKind::AuthenticationFailed, NOT_TRIED).into());
        }
        // The driver gives each node a time of its own, one after the other. The
        // whole is bounded by leaving it to a thread that ends with it.
        let (sender, receiver) = std::sync::mpsc::sync_channel(1);
        let (client, write_timeout) = (self.client.clone(), self.write_timeout);
        std::thread::Builder::new()
            .name("millpond-redis-cluster".into())
            .spawn(move || {
                let opened = client.get_connection().and_then(|connection| {
                    connection.set_write_timeout(write_timeout)?;
                    Ok(connection)
                });
                // Nobody waits any more if the time is over.
                let _ = sender.send(opened);
            })?;
        let opened = receiver.recv_timeout(limit);
        let opened = opened.unwrap_or_else(|_| Err(timed_out()));
        if opened.as_ref().is_err_and(is_refusal) {
            self.refused.note();
        }
        opened
    }

    pub(super) fn is_open(&self) -> bool {
        let opened = self.opened.as_ref();
        opened.is_none_or(redis::ConnectionLike::is_open)
    }

    /// Pings all nodes, where it is open.
    pub(super) fn verify(&mut self, limit: Duration) -> RedisResult<()> {
        let Some(connection) = &mut self.opened else {
            return Ok(());
        };
        connection.set_read_timeout(Some(limit))?;
        connection.set_write_timeout(Some(limit))?;
        if !connection.check_connection() {
            return Err(timed_out());
        }
        connection.set_read_timeout(self.read_timeout)?;
        connection.set_write_timeout(self.write_timeout)
    }
}

/// Whether it is about a login. The driver puts what each node said in one text.
fn is_refusal(error: &RedisError) -> bool {
    error.kind() == redis::ErrorKind::AuthenticationFailed
        || error.to_string().contains("AuthenticationFailed")
}

/// The driver's client for these settings.
pub(in crate::backend::redis) fn client(
    config: &RedisConfig,
    nodes: &[(String, u16)],
    password: Option<&Secret>,
    certificates: Option<redis::TlsCertificates>,
) -> Result<ClusterClient, Error> {
    let nodes = nodes.iter().cloned();
    // Half of the time, so that one silent node leaves time for the others.
    let mut builder = ClusterClient::builder(nodes)
        .connection_timeout((config.connect_timeout / 2).max(Duration::from_millis(1)))
        .use_protocol(if config.resp3 { RESP3 } else { RESP2 })
        .retries(0);
    if let Some(timeout) = config.read_timeout {
        builder = builder.response_timeout(timeout);
    }
    if let Some(user) = &config.user {
        builder = builder.username(user);
    }
    if let Some(password) = password {
        builder = builder.password(password.expose());
    }
    if let Some((tls, certificates)) = config.tls.as_ref().zip(certificates) {
        builder = builder
            .certs(certificates)
            .tls(if tls.trusts_any_certificate() {
                redis::TlsMode::Insecure
            } else {
                redis::TlsMode::Secure
            });
        if tls.skips_host_name() {
            builder = builder.danger_accept_invalid_hostnames(true);
        }
    }
    builder.build().map_err(|error| {
        Error::new(
            ErrorKind::Configuration,
            Phase::Configure,
            errors::text(&error),
        )
        .with_driver_error(error)
    })
}
