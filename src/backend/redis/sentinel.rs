//! Finding the primary, or a replica, through Sentinel.
//!
//! At every connect the Sentinels are asked in turn, each with its share of the
//! time left, and the server found must say itself that it has the role: right
//! after a fail-over some Sentinels still name the old primary. The driver's own
//! Sentinel client is not used, as it connects without any timeout.

use std::time::{Duration, Instant};

use redis::{RedisResult, Value, cmd};

use super::config::{Address, SentinelRole, Sentinels, Topology};
use super::errors;
use super::manager::{Redis, next_turn};
use super::wire::{Login, remaining, set_name};
use crate::error::{ConnectFailure, Error, ErrorKind, Phase};
use crate::security::Credential;

/// How long a server may be silent before the Sentinels are asked again, in the first half of
/// the time for connecting. In the second one it is given all that is left, in case it is only
/// slow.
const PATIENCE: Duration = Duration::from_millis(500);

impl Redis {
    /// A connection to the server that the Sentinels name.
    pub(super) fn discover(
        &self,
        sentinels: &Sentinels,
        deadline: Instant,
    ) -> Result<redis::Connection, Error> {
        let mut last = None;
        let total = sentinels.addresses.len();
        let half = Instant::now() + remaining(deadline).map_err(|e| self.failed(e))? / 2;
        loop {
            for (index, (host, port)) in sentinels.addresses.iter().enumerate() {
                let sentinel = Address::Tcp(host.clone(), *port);
                let left = u32::try_from(total - index + 1).unwrap_or(2);
                let share = match remaining(deadline) {
                    Ok(time) => Instant::now() + time / left,
                    Err(error) => return Err(last.unwrap_or_else(|| self.failed(error))),
                };
                let attempt = self
                    .ask_sentinel(&sentinel, sentinels, share)
                    .and_then(|servers| {
                        let now = Instant::now();
                        let patience = if now < half { now + PATIENCE } else { deadline };
                        self.first_of(&servers, sentinels.role, patience.min(deadline))
                    });
                match attempt {
                    Ok(connection) => return Ok(connection),
                    // Another Sentinel does not make a password right.
                    Err(error) if error.kind() == ErrorKind::Authentication => return Err(error),
                    Err(error) => last = Some(error),
                }
            }
            // A server that is silent is about to be replaced: another one may be named by now.
            let silent = ErrorKind::Connect(ConnectFailure::Timeout);
            match last {
                Some(error) if error.kind() == silent => last = Some(error),
                Some(error) => return Err(error),
                None => {
                    let message = "REDIS_SENTINELS is empty";
                    let (kind, phase) = (ErrorKind::Configuration, Phase::Connect);
                    return Err(Error::new(kind, phase, message));
                }
            }
        }
    }

    fn failed(&self, error: redis::RedisError) -> Error {
        errors::connecting(error, self.endpoint_text())
    }

    /// The addresses of the servers with the role, in the order to try them.
    fn ask_sentinel(
        &self,
        sentinel: &Address,
        sentinels: &Sentinels,
        deadline: Instant,
    ) -> Result<Vec<Address>, Error> {
        let password = sentinels.password.as_ref();
        let password = password.map(Credential::current).transpose()?;
        let login = Login {
            user: sentinels.user.as_deref(),
            password: password.as_ref(),
        };
        let mut setup = Vec::new();
        if let Some(password) = login.password {
            let mut auth = cmd("AUTH");
            if let Some(user) = login.user {
                auth.arg(user);
            }
            auth.arg(password.expose());
            setup.push(auth);
        }
        setup.push(set_name(&self.config.client_name));
        let mut connection = self.dial_as(sentinel, &setup, login, false, deadline)?;
        let endpoint = sentinel.to_string();
        let failed = |error| errors::connecting(error, &endpoint);
        let time = remaining(deadline).map_err(failed)?;
        connection.set_read_timeout(Some(time)).map_err(failed)?;
        let found = match sentinels.role {
            SentinelRole::Primary => primary(&mut connection, &sentinels.primary),
            SentinelRole::Replica => replicas(&mut connection, &sentinels.primary),
        };
        let mut found = found.map_err(|error| {
            if error.to_string().contains("No such master") {
                unknown(&sentinels.primary, &endpoint)
            } else {
                failed(error)
            }
        })?;
        if found.is_empty() {
            return Err(match sentinels.role {
                SentinelRole::Primary => unknown(&sentinels.primary, &endpoint),
                SentinelRole::Replica => Error::new(
                    ErrorKind::WrongRole,
                    Phase::Connect,
                    format!(
                        "Sentinel knows no healthy replica of `{}`",
                        sentinels.primary
                    ),
                )
                .with_endpoint(endpoint),
            });
        }
        let start = next_turn(&self.turn) % found.len();
        found.rotate_left(start);
        Ok(found)
    }

    /// Connects to the first of these servers that has the role.
    fn first_of(
        &self,
        servers: &[Address],
        role: SentinelRole,
        deadline: Instant,
    ) -> Result<redis::Connection, Error> {
        let mut last = None;
        for (index, server) in servers.iter().enumerate() {
            let left = u32::try_from(servers.len() - index).unwrap_or(1);
            let share = Instant::now() + remaining(deadline).map_err(|e| self.failed(e))? / left;
            let attempt = self.dial(server, share).and_then(|mut connection| {
                let has_role = has_role(&mut connection, role, share)
                    .and_then(|answer| {
                        connection.set_read_timeout(self.config.read_timeout)?;
                        Ok(answer)
                    })
                    .map_err(|error| errors::connecting(error, &server.to_string()))?;
                if has_role {
                    return Ok(connection);
                }
                let message = "Sentinel named it, but it has another role by now";
                Err(Error::new(ErrorKind::WrongRole, Phase::Connect, message)
                    .with_endpoint(server.to_string()))
            });
            match attempt {
                Ok(connection) => return Ok(connection),
                Err(error) => last = Some(error),
            }
        }
        // `ask_sentinel` gives at least one.
        Err(last.unwrap_or_else(|| Error::new(ErrorKind::Other, Phase::Connect, "no server")))
    }

    /// The liveness check of one server: behind Sentinel it must still have its
    /// role, elsewhere an answer is enough.
    pub(super) fn verify(&self, connection: &mut redis::Connection) -> RedisResult<()> {
        let Topology::Sentinel(sentinels) = &self.config.topology else {
            return cmd("PING").exec(connection);
        };
        let answer: Value = cmd("ROLE").query(connection)?;
        if is_role(&answer, sentinels.role) {
            return Ok(());
        }
        let code = "READONLY".to_owned();
        let detail = "the server has another role by now".to_owned();
        Err(redis::make_extension_error(code, Some(detail)))
    }
}

fn unknown(primary: &str, endpoint: &str) -> Error {
    Error::new(
        ErrorKind::Configuration,
        Phase::Connect,
        format!("Sentinel does not know `{primary}`; check REDIS_SENTINEL_MASTER"),
    )
    .with_endpoint(endpoint)
}

fn primary(connection: &mut redis::Connection, name: &str) -> RedisResult<Vec<Address>> {
    let answer: Option<(String, u16)> = cmd("SENTINEL")
        .arg("GET-MASTER-ADDR-BY-NAME")
        .arg(name)
        .query(connection)?;
    Ok(answer
        .map(|(host, port)| Address::Tcp(host, port))
        .into_iter()
        .collect())
}

fn replicas(connection: &mut redis::Connection, name: &str) -> RedisResult<Vec<Address>> {
    let known: Vec<std::collections::HashMap<String, String>> = cmd("SENTINEL")
        .arg("REPLICAS")
        .arg(name)
        .query(connection)?;
    let healthy = known.into_iter().filter(|replica| {
        let flags = replica.get("flags").map_or("", String::as_str);
        let linked = replica
            .get("master-link-status")
            .is_none_or(|status| status == "ok");
        linked && !flags.contains("down") && !flags.contains("disconnected")
    });
    let addresses = healthy.filter_map(|mut replica| {
        let port = replica.get("port")?.parse().ok()?;
        Some(Address::Tcp(replica.remove("ip")?, port))
    });
    Ok(addresses.collect())
}

fn has_role(
    connection: &mut redis::Connection,
    role: SentinelRole,
    deadline: Instant,
) -> RedisResult<bool> {
    connection.set_read_timeout(Some(remaining(deadline)?))?;
    let answer: Value = cmd("ROLE").query(connection)?;
    Ok(is_role(&answer, role))
}

/// Whether an answer to `ROLE` names this role.
fn is_role(answer: &Value, role: SentinelRole) -> bool {
    let name: &[u8] = match role {
        SentinelRole::Primary => b"master",
        SentinelRole::Replica => b"slave",
    };
    match answer {
        Value::Array(items) => {
            matches!(items.first(), Some(Value::BulkString(text)) if text == name)
        }
        _ => false,
    }
}
