//! Cluster: the driver's client with its retries off, and a connect that ends in
//! time.

use std::time::Duration;

use redis::ProtocolVersion::{RESP2, RESP3};
use redis::RedisResult;
use redis::cluster::{ClusterClient, ClusterConnection};

use super::config::RedisConfig;
use super::connection::{Inner, RedisConnection};
use super::errors;
use super::manager::Redis;
use super::wire::timed_out;
use crate::error::{Error, ErrorKind, Phase};
use crate::security::Secret;

impl Redis {
    /// A connection to every node, by the connect timeout.
    pub(super) fn connect_cluster(&self, client: &ClusterClient) -> Result<RedisConnection, Error> {
        // The driver gives each node a time of its own, one after the other. The
        // whole is bounded by leaving it to a thread that ends with it.
        let (sender, receiver) = std::sync::mpsc::sync_channel(1);
        let task = client.clone();
        let write_timeout = self.config.write_timeout;
        let spawned = std::thread::Builder::new()
            .name("millpond-redis-cluster".into())
            .spawn(move || {
                let opened = task.get_connection().and_then(|connection| {
                    connection.set_write_timeout(write_timeout)?;
                    Ok(connection)
                });
                // Nobody waits any more if the time is over.
                let _ = sender.send(opened);
            });
        if let Err(error) = spawned {
            return Err(errors::connecting(error.into(), self.endpoint_text()));
        }
        let opened: RedisResult<ClusterConnection> = receiver
            .recv_timeout(self.config.connect_timeout)
            .unwrap_or_else(|_| Err(timed_out()));
        let connection =
            opened.map_err(|error| errors::connecting_cluster(error, self.endpoint_text()))?;
        let inner = Inner::Cluster(Box::new(connection));
        Ok(RedisConnection::new(inner, &self.config))
    }
}

/// The driver's client for these settings.
pub(super) fn client(
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
