//! What one PostgreSQL lease leaves behind does not reach the next one.

use millpond::{Pool, PooledConnection, Postgres, PostgresConfig, Reset};
use testbed::Postgres as Server;

/// A pool of one connection, so that the next lease gets the very same one.
fn pool(reset: Reset) -> Pool<Postgres> {
    let config = PostgresConfig::from_url(&Server::shared().url()).expect("a good URL");
    let manager = Postgres::new(config.application_name("kept")).expect("good settings");
    Pool::builder()
        .max_size(1)
        .reset(reset)
        .build(manager)
        .expect("opens")
}

fn text(lease: &mut PooledConnection<Postgres>, sql: &str) -> String {
    lease
        .query_one(sql, &[])
        .expect("works")
        .get::<_, String>(0)
}

/// What a lease can see of those before it.
fn traces(lease: &mut PooledConnection<Postgres>) -> String {
    text(
        lease,
        "SELECT concat_ws(' ', current_setting('work_mem'), current_setting('application_name'), \
         (SELECT count(*) FROM pg_listening_channels()), \
         (SELECT count(*) FROM pg_class WHERE relpersistence = 't'), \
         (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()), \
         (SELECT count(*) FROM pg_cursors), session_user)",
    )
}

#[test]
fn everything_noticed_is_undone() {
    let pool = pool(Reset::Fast);
    let before = traces(&mut pool.get().expect("a connection"));
    let pid = "SELECT pg_backend_pid()::text";
    let own = text(&mut pool.get().expect("a connection"), pid);
    for dirt in [
        "SET work_mem = '7MB'",
        "LISTEN news",
        "CREATE TEMP TABLE dirt (a int)",
        "SELECT pg_advisory_lock(42)::text",
        "BEGIN",
        "DECLARE c CURSOR WITH HOLD FOR SELECT 1",
        "SET SESSION AUTHORIZATION pg_monitor",
        "SET application_name = 'dirt'",
    ] {
        let mut lease = pool.get().expect("a connection");
        lease.execute(dirt, &[]).expect("works");
        drop(lease);
        let mut next = pool.get().expect("a connection");
        assert_eq!(traces(&mut next), before, "after {dirt}");
        assert_eq!(text(&mut next, pid), own, "{dirt} needs no new connection");
    }
}

#[test]
fn an_open_or_failed_transaction_is_rolled_back() {
    let pool = pool(Reset::Fast);
    for end in ["SELECT 1", "SELECT nonsense"] {
        let mut lease = pool.get().expect("a connection");
        // The driver's own interface is noticed too.
        lease
            .batch_execute("BEGIN; SET LOCAL work_mem = '9MB'")
            .expect("begins");
        let _ = lease.batch_execute(end);
        drop(lease);
        let mut lease = pool.get().expect("a connection");
        assert_ne!(
            text(&mut lease, "SHOW work_mem"),
            "9MB",
            "a transaction is open after {end}"
        );
    }
}

#[test]
fn kept_statements_survive_a_fast_reset_but_not_a_full_one() {
    let prepared = "SELECT count(*)::text FROM pg_prepared_statements";
    for (policy, kept) in [(Reset::Fast, "2"), (Reset::Full, "1")] {
        let pool = pool(policy);
        let mut lease = pool.get().expect("a connection");
        lease.execute("SET work_mem = '5MB'", &[]).expect("works");
        drop(lease);
        let mut lease = pool.get().expect("a connection");
        assert_eq!(text(&mut lease, prepared), kept, "{policy:?}");
    }
}

#[test]
fn without_reset_everything_stays() {
    let pool = pool(Reset::None);
    let mut lease = pool.get().expect("a connection");
    lease.execute("SET work_mem = '7MB'", &[]).expect("works");
    drop(lease);
    assert_eq!(
        text(&mut pool.get().expect("a connection"), "SHOW work_mem"),
        "7MB"
    );
}

#[test]
fn clean_work_is_not_reset() {
    let pool = pool(Reset::Fast);
    for _ in 0..50 {
        let mut lease = pool.get().expect("a connection");
        lease.query_one("SELECT 1", &[]).expect("works");
        drop(lease);
        // A reset would happen in the background: then nothing is idle at once.
        assert!(
            pool.try_get().is_some(),
            "a clean connection is back at once"
        );
    }
}
