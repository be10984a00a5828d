//! One socket: opened, set up and talked to, by a deadline.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use redis::ProtocolVersion::RESP3;
use redis::{
    Cmd, ConnectionAddr, IntoConnectionInfo, RedisConnectionInfo, RedisError, RedisResult,
    ServerError, Value, cmd,
};

use crate::security::Secret;

/// How many values of a forgotten subscription are read over before a connection
/// is given up.
const MOST_LEFT_OVER: usize = 10_000;

/// A login: user and password.
#[derive(Clone, Copy)]
pub(super) struct Login<'a> {
    pub(super) user: Option<&'a str>,
    pub(super) password: Option<&'a Secret>,
}

/// The addresses of a host, by the deadline. The operating system's look-up of a
/// name knows no deadline, so a thread of its own waits for it and ends with it.
pub(super) fn resolve(host: &str, port: u16, deadline: Instant) -> io::Result<Vec<SocketAddr>> {
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, port)]);
    }
    let (sender, receiver) = mpsc::sync_channel(1);
    let name = host.to_owned();
    std::thread::Builder::new()
        .name("millpond-resolve".into())
        .spawn(move || {
            let found = (name, port).to_socket_addrs().map(Vec::from_iter);
            // Nobody waits any more if the time is over.
            let _ = sender.send(found);
        })?;
    let left = deadline.saturating_duration_since(Instant::now());
    let found = receiver
        .recv_timeout(left)
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    if found.is_empty() {
        return Err(io::Error::other("failed to lookup address information"));
    }
    Ok(found)
}

pub(super) fn timed_out() -> RedisError {
    io::Error::new(io::ErrorKind::TimedOut, "the time for it is over").into()
}

/// The time left until the deadline; an error when it has passed.
pub(super) fn remaining(deadline: Instant) -> RedisResult<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        Err(timed_out())
    } else {
        Ok(left)
    }
}

/// Opens one connection. With RESP2 the driver only opens the socket here: it is
/// left without password and database, so that our own commands do the login and
/// keep the server's words, of which the driver's login tells none.
pub(super) fn open(
    address: ConnectionAddr,
    login: Login,
    resp3: bool,
    deadline: Instant,
) -> RedisResult<redis::Connection> {
    let mut settings = RedisConnectionInfo::default().set_skip_set_lib_name();
    if resp3 {
        settings = settings.set_protocol(RESP3);
        if let Some(user) = login.user {
            settings = settings.set_username(user);
        }
        if let Some(password) = login.password {
            settings = settings.set_password(password.expose());
        }
    }
    let info = address.into_connection_info()?.set_redis_settings(settings);
    redis::Client::open(info)?.get_connection_with_timeout(remaining(deadline)?)
}

pub(super) fn hello(login: Login) -> Cmd {
    let mut hello = cmd("HELLO");
    hello.arg(3);
    if let Some(password) = login.password {
        let user = login.user.unwrap_or("default");
        hello.arg("AUTH").arg(user).arg(password.expose());
    }
    hello
}

pub(super) fn set_name(name: &str) -> Cmd {
    let mut set_name = cmd("CLIENT");
    set_name.arg("SETNAME").arg(name);
    set_name
}

/// Sends the commands in one go and reads their replies by the deadline. What an
/// earlier subscription still sends is read over until `RESET` is answered.
pub(super) fn converse(
    connection: &mut redis::Connection,
    commands: &[Cmd],
    deadline: Instant,
) -> RedisResult<()> {
    let mut packed = Vec::with_capacity(128);
    for command in commands {
        command.write_packed_command(&mut packed);
    }
    let left = remaining(deadline)?;
    connection.set_write_timeout(Some(left))?;
    // Sending reads too: the driver does the TLS handshake with the first command.
    connection.set_read_timeout(Some(left))?;
    connection.send_packed_command(&packed)?;
    for command in commands {
        let name = match command.args_iter().next() {
            Some(redis::Arg::Simple(name)) => name,
            _ => b"",
        };
        let mut left_over = 0;
        loop {
            connection.set_read_timeout(Some(remaining(deadline)?))?;
            match connection.recv_response()? {
                Value::Push { .. } => left_over += 1,
                Value::SimpleString(text) if name == b"RESET" && text == "RESET" => break,
                // A server that does not know RESET, or a proxy.
                Value::ServerError(error) if name == b"RESET" => return Err(error.into()),
                _ if name == b"RESET" => left_over += 1,
                // The name is a courtesy, and not every user may ping: servers and proxies may
                // refuse both.
                Value::ServerError(error)
                    if (name == b"CLIENT" || name == b"PING") && is_refusal(&error) =>
                {
                    break;
                }
                Value::ServerError(error) => return Err(error.into()),
                _ => break,
            }
            if left_over > MOST_LEFT_OVER {
                return Err(timed_out());
            }
        }
    }
    Ok(())
}

/// Whether the server means the command, and not the client.
fn is_refusal(error: &ServerError) -> bool {
    let text = error.details().unwrap_or_default();
    error.code() == "NOPERM" || text.to_ascii_lowercase().starts_with("unknown ")
}
