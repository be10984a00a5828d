//! What a Redis server says of itself.

use std::time::{Duration, Instant};

use redis::{RedisResult, cmd};

use super::connection::{Inner, RedisConnection};
use super::manager::Redis;
use crate::backend::{Role, Service};

impl Redis {
    /// Asks for version, role and lag, within the check timeout.
    pub(super) fn ask(&self, conn: &mut RedisConnection) -> RedisResult<Service> {
        let timeout = Some(self.config.check_timeout);
        match &mut conn.inner {
            Inner::Single(connection) => {
                connection.set_read_timeout(timeout)?;
                let start = Instant::now();
                let (server, replication): (String, String) = redis::pipe()
                    .cmd("INFO")
                    .arg("server")
                    .cmd("INFO")
                    .arg("replication")
                    .query(connection)?;
                let latency = start.elapsed();
                connection.set_read_timeout(self.config.read_timeout)?;
                Ok(described(&server, &replication, latency))
            }
            Inner::Cluster(cluster) => {
                let connection = cluster.any()?;
                connection.set_read_timeout(timeout)?;
                let start = Instant::now();
                let state: String = cmd("CLUSTER").arg("INFO").query(connection)?;
                let latency = start.elapsed();
                let server: String = cmd("INFO").arg("server").query(connection)?;
                connection.set_read_timeout(self.config.read_timeout)?;
                let mut service = Service::new(Role::Primary, latency);
                service.version = field(&server, "redis_version").map(str::to_owned);
                service.writable = field(&state, "cluster_state").map(|state| state == "ok");
                Ok(service)
            }
        }
    }
}

fn described(server: &str, replication: &str, latency: Duration) -> Service {
    let role = match field(replication, "role") {
        Some("master") => Role::Primary,
        Some("slave") => Role::Replica,
        _ => Role::Unknown,
    };
    let mut service = Service::new(role, latency);
    service.version = field(server, "redis_version").map(str::to_owned);
    service.writable = match role {
        Role::Primary => Some(true),
        Role::Replica => field(replication, "slave_read_only").map(|answer| answer == "0"),
        _ => None,
    };
    if role == Role::Replica {
        let seconds = |name| field(replication, name).and_then(|text| text.parse().ok());
        let lag = match field(replication, "master_link_status") {
            Some("up") => seconds("master_last_io_seconds_ago"),
            _ => seconds("master_link_down_since_seconds"),
        };
        service.lag = lag.map(Duration::from_secs);
    }
    service
}

/// The value of `name:value` in an answer to `INFO`.
fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = info.lines().filter_map(|line| line.split_once(':'));
    lines
        .find(|(key, _)| *key == name)
        .map(|(_, value)| value.trim())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::described;
    use crate::backend::Role;

    #[test]
    fn a_replica_tells_how_far_it_is_behind() {
        let replication = "# Replication\r\nrole:slave\r\nmaster_link_status:up\r\n\
                           master_last_io_seconds_ago:4\r\nslave_read_only:1\r\n";
        let service = described("redis_version:7.0.15\r\n", replication, Duration::ZERO);
        assert_eq!(service.role, Role::Replica);
        assert_eq!(service.writable, Some(false));
        assert_eq!(service.lag, Some(Duration::from_secs(4)));
        assert_eq!(service.version.as_deref(), Some("7.0.15"));
    }
}
