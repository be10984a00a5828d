//! One server of each kind at once, and one of a kind for the whole process.

use std::thread;

use testbed::{Postgres, Redis, Servers};

#[test]
fn servers_of_each_kind_start_together() {
    let servers = Servers::start().expect("servers");
    for (url, scheme) in [
        (&servers.postgres_url, "postgres://"),
        (&servers.redis_url, "redis://"),
        (&servers.mongodb_uri, "mongodb://"),
        (&servers.http_url, "http://"),
    ] {
        assert!(url.starts_with(scheme), "{url}");
    }
}

#[test]
fn a_shared_server_is_started_once() {
    let ports = |port: fn() -> u16| {
        let threads: Vec<_> = (0..8).map(|_| thread::spawn(port)).collect();
        let mut ports: Vec<u16> = threads
            .into_iter()
            .map(|thread| thread.join().expect("a port"))
            .collect();
        ports.dedup();
        ports.len()
    };
    assert_eq!(ports(|| Redis::shared().port()), 1);
    assert_eq!(ports(|| Postgres::shared().port()), 1);
    // The thread that started it is gone; the server is not.
    assert_eq!(Postgres::shared().psql("SELECT 1").expect("an answer"), "1");
}
