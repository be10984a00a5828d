//! Redis commands as operations, one by one and in pipelines, on real servers that freeze
//! and cut connections.
#![allow(clippy::unwrap_used, missing_docs)]

mod scripted;

use std::thread;
use std::time::{Duration, Instant};

use millpond::backend::Backend;
use millpond::backend::redis::Reply;
use millpond::{
    Deadline, ErrorKind, ManageConnection, Operation, Outcome, Pool, PooledConnection, Redis,
    RedisCommand, RedisConfig, RedisConnection, RetryPolicy,
};
use scripted::{threads_named, until};
use testbed::{Proxy, Redis as Server, RedisCluster};

const LIMIT: Duration = Duration::from_millis(300);

fn at(port: u16) -> RedisConfig {
    RedisConfig::new().host("127.0.0.1").port(port)
}

fn manager(port: u16) -> Redis {
    Redis::new(at(port)).unwrap()
}

fn pool(port: u16) -> Pool<Redis> {
    Pool::builder().max_size(4).build(manager(port)).unwrap()
}

fn set(key: &str, value: impl redis::ToRedisArgs) -> RedisCommand {
    RedisCommand::new("SET").arg(testbed::value(key)).arg(value)
}

fn get(key: &str) -> RedisCommand {
    RedisCommand::new("GET").arg(testbed::value(key))
}

fn text(text: &str) -> Reply {
    Reply::Text(text.into())
}

fn run(redis: &Redis, conn: &mut RedisConnection, all: &[RedisCommand]) -> Vec<Outcome<Reply>> {
    run_by(redis, conn, all, Deadline::NEVER)
}

fn run_by(
    redis: &Redis,
    conn: &mut RedisConnection,
    all: &[RedisCommand],
    deadline: Deadline,
) -> Vec<Outcome<Reply>> {
    let outcomes = redis.execute_batch(conn, &all.iter().collect::<Vec<_>>(), deadline);
    assert_eq!(outcomes.len(), all.len(), "one outcome each");
    testbed::keep("outcomes", format!("{outcomes:?}"));
    outcomes
}

fn done(outcome: &Outcome<Reply>) -> &Reply {
    match outcome {
        Outcome::Done(reply) => reply,
        other => panic!("{other:?}"),
    }
}

/// How many are done, rejected, not executed, unknown.
fn count(outcomes: &[Outcome<Reply>]) -> [usize; 4] {
    let mut counts = [0; 4];
    for outcome in outcomes {
        counts[match outcome {
            Outcome::Done(_) => 0,
            Outcome::Rejected(_) => 1,
            Outcome::NotExecuted(_) => 2,
            Outcome::Unknown(_) => 3,
        }] += 1;
    }
    counts
}

/// Runs it and checks that it ended by the limit, give or take what is allowed.
fn by_limit<T>(work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = work();
    let took = start.elapsed();
    assert!(took < LIMIT + Duration::from_millis(100), "took {took:?}");
    assert!(took > LIMIT / 3, "took only {took:?}");
    result
}

#[test]
fn one_by_one() {
    let server = Server::start().unwrap();
    let pool = pool(server.port());
    assert_eq!(pool.execute(set("k", 7)).unwrap(), text("OK"));
    let limited = get("k").deadline(LIMIT);
    assert_eq!(pool.execute(&limited).unwrap(), text("7"));
    assert_eq!(
        pool.execute(RedisCommand::from(redis::Cmd::incr(testbed::value("k"), 2)))
            .unwrap(),
        Reply::Int(9)
    );
    let mut lease = pool.get().unwrap();
    let reply = PooledConnection::execute(&mut lease, get("k").deadline(LIMIT)).unwrap();
    assert_eq!(reply, text("9"));
    redis::cmd("MULTI").exec(&mut *lease).unwrap();
    let error = PooledConnection::execute(&mut lease, get("k")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidOperation);
    redis::cmd("DISCARD").exec(&mut *lease).unwrap();
    PooledConnection::execute(&mut lease, get("k")).unwrap();
    // More than fits into the socket's buffers, both ways.
    let large = "x".repeat(20 << 20);
    let wide = Duration::from_secs(20);
    pool.execute(set("large", &large).deadline(wide)).unwrap();
    assert_eq!(
        pool.execute(get("large").deadline(wide)).unwrap(),
        text(&large)
    );
}

#[test]
fn errors_of_the_server_have_their_kind_and_no_value() {
    let server = Server::start().unwrap();
    let pool = pool(server.port());
    pool.execute(
        RedisCommand::new("LPUSH")
            .arg(testbed::value("list"))
            .arg(1),
    )
    .unwrap();
    let error = pool.execute(get("list")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidOperation);
    assert!(!error.outcome_unknown() && error.to_string().contains("WRONGTYPE"));
    assert!(error.endpoint().is_some() && error.pool().is_some());

    let unknown = RedisCommand::new("NOSUCH").arg(testbed::value("it"));
    let error = pool.execute(unknown).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidOperation);
    assert!(error.to_string().contains("unknown command"), "{error}");
    assert!(
        !testbed::bears_mark(&format!("{error} {error:?}")),
        "{error}"
    );

    // Nothing was written, so it is tried again until the memory is there.
    server.cli(&["CONFIG", "SET", "maxmemory", "1"]).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            thread::sleep(Duration::from_millis(50));
            server.cli(&["CONFIG", "SET", "maxmemory", "0"]).unwrap();
        });
        let patient = set("k", 1).retry(RetryPolicy::new(100));
        pool.execute(patient.deadline(Duration::from_secs(10)))
            .unwrap();
    });
}

#[test]
fn what_a_script_did_before_it_failed_is_not_called_undone() {
    let server = Server::start().unwrap();
    let pool = pool(server.port());
    let script = "redis.call('INCR', 'Canary7f3aZ-n'); \
                  return redis.call('LPUSH', 'Canary7f3aZ-n', 1)";
    let eval = RedisCommand::new("EVAL").arg(script).arg(0);
    let error = pool.execute(&eval).unwrap_err();
    assert!(error.outcome_unknown(), "{error}");
    assert_eq!(pool.execute(get("n")).unwrap(), text("1"));
    let refusal = RedisCommand::new("EVAL")
        .arg("return redis.error_reply('NO way')")
        .arg(0);
    assert!(!pool.execute(&refusal).unwrap_err().outcome_unknown());
    let unparsed = RedisCommand::new("EVAL").arg("retrun 1").arg(0);
    assert!(!pool.execute(&unparsed).unwrap_err().outcome_unknown());
}

#[test]
fn commands_for_no_pooled_connection_are_refused_before_a_lease_is_taken() {
    let pool: Pool<Redis> = Pool::builder()
        .min_idle(Some(0))
        .build_unchecked(manager(1));
    for words in [
        "SUBSCRIBE a",
        "MULTI",
        "WATCH a",
        "SELECT 1",
        "BLPOP a 0",
        "QUIT",
        "XREAD BLOCK 0 STREAMS a $",
        "GET\0",
    ] {
        let (name, rest) = words.split_once(' ').unwrap_or((words, ""));
        let command = RedisCommand::new(name).arg(rest.split(' ').collect::<Vec<_>>());
        let error = pool.execute(command).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidOperation, "{words}");
    }
    assert_eq!(pool.state().connections, 0);
}

#[test]
fn a_pipeline_gives_each_command_its_own_outcome() {
    let server = Server::start().unwrap();
    for resp3 in [false, true] {
        let redis = Redis::new(at(server.port()).resp3(resp3)).unwrap();
        let mut conn = redis.connect().unwrap();
        let mut all: Vec<_> = (0..999).map(|n| set(&format!("k{n}"), n)).collect();
        all.insert(
            500,
            RedisCommand::new("LPUSH")
                .arg(testbed::value("k0"))
                .arg("x"),
        );
        let outcomes = run(&redis, &mut conn, &all);
        assert_eq!(count(&outcomes), [999, 1, 0, 0]);
        let error = outcomes[500].error().unwrap();
        assert!(error.to_string().contains("WRONGTYPE"), "{error}");

        let all: Vec<_> = (0..999).map(|n| get(&format!("k{n}"))).collect();
        for (n, outcome) in run(&redis, &mut conn, &all).iter().enumerate() {
            assert_eq!(done(outcome), &text(&n.to_string()));
        }
        assert!(!redis.has_broken(&mut conn));
        assert!(run(&redis, &mut conn, &[]).is_empty());
    }
}

#[test]
fn a_pipeline_larger_than_all_buffers_ends() {
    let server = Server::start().unwrap();
    let redis = manager(server.port());
    let mut conn = redis.connect().unwrap();
    let value = "x".repeat(100_000);
    let mut all: Vec<_> = (0..200).map(|n| set(&format!("k{n}"), &value)).collect();
    all.push(set("large", "y".repeat(2 << 20)));
    all.extend((0..200).map(|n| get(&format!("k{n}"))));
    all.extend((0..100).map(|_| get("k0")));
    let deadline = Deadline::within(Duration::from_secs(30));
    let outcomes = run_by(&redis, &mut conn, &all, deadline);
    assert_eq!(count(&outcomes), [all.len(), 0, 0, 0]);
    assert_eq!(done(&outcomes[300]).as_bytes().unwrap().len(), 100_000);
    // Afterwards the configured timeouts are back: one of 30 seconds, not of the deadline.
    let slow = RedisCommand::new("EVAL").arg(SLOW).arg(0);
    let quick = Deadline::within(Duration::from_millis(200));
    redis.execute(&mut conn, &get("k0"), quick).unwrap();
    redis.execute(&mut conn, &slow, Deadline::NEVER).unwrap();
}

/// Takes 400 milliseconds of the server's time.
const SLOW: &str = "local function now() local t = redis.call('TIME') \
                    return t[1] * 1000 + t[2] / 1000 end \
                    local start = now() while now() - start < 400 do end return 1";

#[test]
fn a_frozen_server_holds_nobody_beyond_the_deadline() {
    let server = Server::start().unwrap();
    let redis = manager(server.port());
    let mut conn = redis.connect().unwrap();
    let all: Vec<_> = (0..100).map(|n| set(&format!("k{n}"), n)).collect();
    server.freeze();
    let outcomes = by_limit(|| run_by(&redis, &mut conn, &all, Deadline::within(LIMIT)));
    assert_eq!(count(&outcomes), [0, 0, 0, 100]);
    let error = outcomes[99].error().unwrap();
    assert_eq!(error.kind(), ErrorKind::DeadlineExceeded);
    assert!(error.outcome_unknown() && error.to_string().contains("deadline"));
    assert!(redis.has_broken(&mut conn));
    // A broken connection is not used again.
    let outcomes = run(&redis, &mut conn, &all);
    assert_eq!(count(&outcomes), [0, 0, 100, 0]);
    server.thaw();
}

#[test]
fn what_a_frozen_server_did_not_read_is_at_most_one_window() {
    let server = Server::start().unwrap();
    let redis = manager(server.port());
    let mut conn = redis.connect().unwrap();
    let value = "x".repeat(60_000);
    let all: Vec<_> = (0..400).map(|n| set(&format!("k{n}"), &value)).collect();
    server.freeze();
    let outcomes = by_limit(|| run_by(&redis, &mut conn, &all, Deadline::within(LIMIT)));
    let [done, rejected, not_executed, unknown] = count(&outcomes);
    assert_eq!((done, rejected), (0, 0));
    assert!(
        (1..=9).contains(&unknown),
        "{unknown} unknown, {not_executed} not executed"
    );
    assert!(
        outcomes[unknown..].iter().all(
            |outcome| matches!(outcome, Outcome::NotExecuted(error) if !error.outcome_unknown())
        )
    );
    server.thaw();
    // One command of more than any buffer takes.
    let mut conn = redis.connect().unwrap();
    let large = set("large", vec![b'x'; 50 << 20]);
    server.freeze();
    let error = by_limit(|| redis.execute(&mut conn, &large, Deadline::within(LIMIT))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DeadlineExceeded);
    assert!(error.outcome_unknown());
    server.thaw();
}

#[test]
fn a_shorter_read_timeout_still_applies_and_an_expired_deadline_sends_nothing() {
    let server = Server::start().unwrap();
    let redis = Redis::new(at(server.port()).read_timeout(Some(LIMIT))).unwrap();
    let mut conn = redis.connect().unwrap();
    let over = Deadline::within(Duration::ZERO);
    let error = redis.execute(&mut conn, &set("k", 1), over).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DeadlineExceeded);
    assert!(!error.outcome_unknown() && !redis.has_broken(&mut conn));
    assert_eq!(conn.commands(), 0);

    server.freeze();
    let far = Deadline::within(Duration::from_secs(60));
    let error = by_limit(|| redis.execute(&mut conn, &get("k"), far)).unwrap_err();
    assert!(error.to_string().contains("REDIS_READ_TIMEOUT"), "{error}");
    server.thaw();
}

#[test]
fn a_pool_on_a_frozen_server_answers_by_the_deadline_and_recovers() {
    let server = Server::start().unwrap();
    let pool = pool(server.port());
    pool.execute(set("k", 0)).unwrap();
    until("the pool is at rest", || pool.state().idle_connections > 0);
    let threads = threads_named("millpond-");
    server.freeze();
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let write = RedisCommand::new("INCR")
                    .arg(testbed::value("k"))
                    .deadline(LIMIT);
                let error = by_limit(|| pool.execute(write)).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::DeadlineExceeded, "{error}");
            });
        }
    });
    server.thaw();
    let write = set("k", 7).deadline(Duration::from_secs(10));
    pool.execute(write.idempotent(true)).unwrap();
    assert_eq!(pool.execute(get("k")).unwrap(), text("7"));
    until("the threads are gone", || {
        threads_named("millpond-") <= threads
    });
}

#[test]
fn after_a_kill_a_read_succeeds_and_a_write_is_unknown() {
    let server = Server::start().unwrap();
    let pool = pool(server.port());
    pool.execute(set("n", 5)).unwrap();
    let kill = || server.cli(&["CLIENT", "KILL", "TYPE", "normal"]).unwrap();
    kill();
    assert_eq!(pool.execute(get("n")).unwrap(), text("5"));
    kill();
    let error = pool
        .execute(RedisCommand::new("INCR").arg(testbed::value("n")))
        .unwrap_err();
    assert!(error.outcome_unknown(), "{error}");
    assert_eq!(error.kind(), ErrorKind::ConnectionLost);
    kill();
    let again = set("n", 6).idempotent(true);
    assert_eq!(pool.execute(again).unwrap(), text("OK"));
}

#[test]
fn a_connection_killed_in_the_middle_leaves_one_outcome_each() {
    let server = Server::start().unwrap();
    let redis = manager(server.port());
    let mut conn = redis.connect().unwrap();
    let id = redis
        .execute(
            &mut conn,
            &RedisCommand::new("CLIENT").arg("ID"),
            Deadline::NEVER,
        )
        .unwrap();
    // The server closes it once it has answered: what comes after is not done.
    let mut all: Vec<_> = (0..100).map(|n| set(&format!("k{n}"), n)).collect();
    let kill = RedisCommand::new("CLIENT").arg(&["KILL", "ID"]);
    let kill = kill.arg(id.as_int().unwrap()).arg(&["SKIPME", "no"]);
    all.insert(40, kill);
    let outcomes = run(&redis, &mut conn, &all);
    assert_eq!(count(&outcomes), [41, 0, 0, 60]);
    assert!(outcomes[..41].iter().all(Outcome::is_done));
    let error = outcomes[41].error().unwrap();
    assert_eq!(error.kind(), ErrorKind::ConnectionLost);
    assert!(error.outcome_unknown() && redis.has_broken(&mut conn));
    assert_eq!(
        server
            .cli(&["EXISTS", &testbed::value("k39"), &testbed::value("k40")])
            .unwrap()
            .trim(),
        "1"
    );
}

#[test]
fn a_cut_during_a_stream_of_windows_loses_nothing_silently() {
    let server = Server::start().unwrap();
    let proxy = Proxy::start(server.port()).unwrap();
    let redis = manager(proxy.port());
    let mut conn = redis.connect().unwrap();
    let value = "x".repeat(20_000);
    let all: Vec<_> = (0..5_000).map(|n| set(&format!("k{n}"), &value)).collect();
    let outcomes = thread::scope(|scope| {
        scope.spawn(|| {
            until("the first ones are there", || {
                server
                    .cli(&["EXISTS", &testbed::value("k100")])
                    .unwrap()
                    .trim()
                    == "1"
            });
            proxy.cut();
        });
        run(&redis, &mut conn, &all)
    });
    let [done, rejected, not_executed, unknown] = count(&outcomes);
    assert_eq!(rejected, 0);
    assert!(done > 0 && not_executed > 0, "{done} {not_executed}");
    // No more than one window of 512 KiB.
    assert!((1..=26).contains(&unknown), "{unknown} unknown");
    for (n, outcome) in outcomes.iter().enumerate() {
        let there = server
            .cli(&["EXISTS", &testbed::value(format!("k{n}"))])
            .unwrap();
        match outcome {
            Outcome::Done(_) => assert_eq!(there.trim(), "1", "k{n}"),
            Outcome::NotExecuted(_) => assert_eq!(there.trim(), "0", "k{n}"),
            _ => {}
        }
    }
}

#[test]
fn serialised_and_read_again() {
    let command = RedisCommand::new("XADD")
        .arg("stream")
        .arg("*")
        .arg("f\r\n\u{e4}")
        .arg(&[0_u8, 255, 10][..])
        .id("a")
        .deadline(LIMIT)
        .ordering_key("stream");
    let text = serde_json::to_string(&command).unwrap();
    let read: RedisCommand = serde_json::from_str(&text).unwrap();
    assert_eq!(read, command);
    let server = Server::start().unwrap();
    pool(server.port()).execute(read).unwrap();
}

#[test]
fn in_a_cluster_commands_find_their_nodes() {
    let cluster = RedisCluster::start().unwrap();
    let nodes = cluster
        .nodes()
        .iter()
        .map(|node| ("127.0.0.1", node.port()));
    let redis = Redis::new(RedisConfig::new().cluster(nodes)).unwrap();
    let mut conn = redis.connect().unwrap();
    let mut all: Vec<_> = (0..60).map(|n| set(&format!("k{n}"), n)).collect();
    all.push(
        RedisCommand::new("LPUSH")
            .arg(testbed::value("k0"))
            .arg("x"),
    );
    all.push(RedisCommand::new("MGET").arg(["k0", "k1", "k2"].map(testbed::value).as_slice()));
    let deadline = Deadline::within(Duration::from_secs(10));
    let outcomes = run_by(&redis, &mut conn, &all, deadline);
    assert_eq!(count(&outcomes), [61, 1, 0, 0]);
    let three = ["0", "1", "2"].map(text).to_vec();
    assert_eq!(done(&outcomes[61]), &Reply::List(three));

    cluster.freeze();
    let all: Vec<_> = (0..10).map(|n| set(&format!("k{n}"), n)).collect();
    let outcomes = by_limit(|| run_by(&redis, &mut conn, &all, Deadline::within(LIMIT)));
    // All were sent: each node has its share at once.
    assert_eq!(count(&outcomes), [0, 0, 0, 10]);
    let mut conn = {
        cluster.thaw();
        redis.connect().unwrap()
    };
    cluster.freeze();
    let mget = RedisCommand::new("MGET").arg(["k0", "k1", "k2"].map(testbed::value).as_slice());
    let error = by_limit(|| redis.execute(&mut conn, &mget, Deadline::within(LIMIT))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DeadlineExceeded);
    cluster.thaw();
}
