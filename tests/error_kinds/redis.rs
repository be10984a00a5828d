//! Redis'.

use std::thread;
use std::time::Duration;

use millpond::backend::Backend as _;
use millpond::{
    Deadline, Error, ErrorKind as Kind, ManageConnection as _, Redis, RedisCommand, RedisConfig,
    RedisConnection,
};
use redis::{Cmd, ErrorKind as Driver, cmd};
use testbed::{
    BlackHole, Proxy, Redis as Server, RedisCluster, RedisSentinel, Silent, refused_port, secret,
};

use super::Then::{Final, FinalInDoubt, InDoubt, Later};
use super::{DNS, LIMIT, REFUSED, Row, TIMEOUT, check, connect, operation, until};

const ENDLESS: &str = "while true do end";

struct Servers {
    server: Server,
    cluster: RedisCluster,
    sentinel: RedisSentinel,
}

impl Servers {
    fn start() -> Self {
        let server = server(&["--busy-reply-threshold", "20"]);
        server.cli(&["SET", "text", "x"]).expect("works");
        server
            .cli(&["XADD", "stream", "*", "a", "1"])
            .expect("works");
        let user = [
            "ACL",
            "SETUSER",
            "app",
            "on",
            concat!(">", secret!("right")),
            "+ping",
            "+client",
            "+get",
            "~*",
        ];
        server.cli(&user).expect("works");
        let sentinel = thread::spawn(|| RedisSentinel::start().expect("starts"));
        Self {
            server,
            cluster: RedisCluster::start().expect("starts"),
            sentinel: sentinel.join().expect("no panic"),
        }
    }

    fn port(&self) -> u16 {
        self.server.port()
    }

    /// What a command comes to.
    fn run(&self, words: &[&str]) -> Error {
        run(at(self.port()), words)
    }

    /// The same by the driver's own call on a lease, for commands that are no operations.
    fn raw(&self, words: &[&str]) -> Error {
        let mut conn = open(at(self.port()));
        command(words).exec(&mut conn).expect_err("refused").into()
    }
}

fn server(args: &[&str]) -> Server {
    let builder = args
        .iter()
        .fold(Server::builder(), |builder, arg| builder.arg(*arg));
    let builder = builder.arg("--enable-debug-command").arg("yes");
    builder.start().expect("starts")
}

fn at(port: u16) -> RedisConfig {
    RedisConfig::new().host("127.0.0.1").port(port)
}

fn manager(config: RedisConfig) -> Redis {
    Redis::new(config).expect("good settings")
}

fn open(config: RedisConfig) -> RedisConnection {
    manager(config).connect().expect("connects")
}

fn refused(config: RedisConfig) -> Error {
    match manager(config).connect() {
        Ok(_) => panic!("must not connect"),
        Err(error) => error,
    }
}

fn run(config: RedisConfig, words: &[&str]) -> Error {
    run_by(config, words, Deadline::NEVER)
}

fn run_by(config: RedisConfig, words: &[&str], deadline: Deadline) -> Error {
    let manager = manager(config);
    let mut conn = manager.connect().expect("connects");
    let (name, arguments) = words.split_first().expect("a command");
    let command = arguments
        .iter()
        .fold(RedisCommand::new(name), |command, word| command.arg(*word));
    let result = manager.execute(&mut conn, &command, deadline);
    result.expect_err("refused")
}

fn command(words: &[&str]) -> Cmd {
    let (name, arguments) = words.split_first().expect("a command");
    let mut command = cmd(name);
    for word in arguments {
        command.arg(*word);
    }
    command
}

/// While a script runs that never ends.
fn busy(servers: &Servers, what: impl FnOnce() -> Error) -> Error {
    thread::scope(|scope| {
        let mut conn = open(at(servers.port()));
        let running = scope.spawn(move || cmd("EVAL").arg(ENDLESS).arg(0).exec(&mut conn));
        until("the script", || servers.server.cli(&["PING"]).is_err());
        let error = what();
        servers.server.cli(&["SCRIPT", "KILL"]).expect("ends");
        let ended = running.join().expect("no panic").expect_err("killed");
        assert!(ended.kind() != Driver::Io, "{ended}");
        error
    })
}

fn full(_: &Servers) -> Error {
    let server = server(&["--maxmemory", "100kb", "--maxmemory-policy", "noeviction"]);
    run(at(server.port()), &["SET", secret!("k"), secret!("v")])
}

/// A replica of nobody who can be reached.
fn replica(stale: &str, words: &[&str]) -> Error {
    let server = server(&["--replica-serve-stale-data", stale]);
    let config = at(server.port());
    // Connected before, as it would not let anybody in after.
    let manager = manager(config);
    let mut conn = manager.connect().expect("connects");
    let primary = refused_port().to_string();
    server
        .cli(&["REPLICAOF", "127.0.0.1", &primary])
        .expect("works");
    let command = words[1..]
        .iter()
        .fold(RedisCommand::new(words[0]), |c, word| c.arg(*word));
    let result = manager.execute(&mut conn, &command, Deadline::NEVER);
    result.expect_err("refused")
}

/// A server whose disk fails: what a write and what a new connection comes to.
fn disk() -> (Error, Error) {
    let server = server(&[]);
    let before = manager(at(server.port()));
    let mut conn = before.connect().expect("connects");
    server
        .cli(&["CONFIG", "SET", "save", "3600 1"])
        .expect("works");
    let folder = server.cli(&["CONFIG", "GET", "dir"]).expect("works");
    let folder = folder.lines().last().expect("a folder").to_owned();
    // It cannot put its file where a folder is.
    std::fs::create_dir(format!("{folder}/dump.rdb")).expect("made");
    std::fs::write(format!("{folder}/dump.rdb/full"), "").expect("made");
    server
        .cli(&["SET", secret!("k"), secret!("v")])
        .expect("works");
    server.cli(&["BGSAVE"]).expect("works");
    until("the failure", || {
        let told = server.cli(&["INFO", "persistence"]).expect("works");
        told.contains("rdb_last_bgsave_status:err")
    });
    let set = RedisCommand::new("SET").arg(secret!("k")).arg(secret!("v"));
    let write = before.execute(&mut conn, &set, Deadline::NEVER);
    (write.expect_err("refused"), refused(at(server.port())))
}

/// While it reads its data from disk.
fn loading(_: &Servers) -> Error {
    let server = server(&["--loading-process-events-interval-bytes", "1024"]);
    server
        .cli(&["DEBUG", "POPULATE", "2000", "k", "1024"])
        .expect("works");
    let mut before = open(at(server.port()));
    server
        .cli(&["CONFIG", "SET", "key-load-delay", "500"])
        .expect("works");
    thread::scope(|scope| {
        scope.spawn(|| cmd("DEBUG").arg("RELOAD").exec(&mut before));
        until("the loading", || {
            let told = server.cli(&["INFO", "persistence"]);
            told.is_ok_and(|told| told.contains("\nloading:1"))
        });
        let error = refused(at(server.port()));
        let quick = server.cli(&["CONFIG", "SET", "key-load-delay", "0"]);
        quick.expect("CONFIG works while it loads");
        error
    })
}

fn full_of_clients(_: &Servers) -> Error {
    let server = server(&["--maxclients", "2"]);
    let _all = [open(at(server.port())), open(at(server.port()))];
    refused(at(server.port()))
}

fn aborted(servers: &Servers) -> Error {
    let mut conn = open(at(servers.port()));
    cmd("MULTI").exec(&mut conn).expect("works");
    cmd("GET").exec(&mut conn).expect_err("too few arguments");
    cmd("EXEC").exec(&mut conn).expect_err("aborted").into()
}

/// What a command that blocks comes to.
fn unblocked(servers: &Servers) -> Error {
    let mut conn = open(at(servers.port()));
    let id: i64 = cmd("CLIENT").arg("ID").query(&mut conn).expect("works");
    thread::scope(|scope| {
        let waiting = scope.spawn(move || cmd("BLPOP").arg("empty").arg(9).exec(&mut conn));
        let id = id.to_string();
        until("the wait", || {
            let unblock = servers.server.cli(&["CLIENT", "UNBLOCK", &id, "ERROR"]);
            unblock.is_ok_and(|answer| answer.trim() == "1")
        });
        waiting
            .join()
            .expect("no panic")
            .expect_err("unblocked")
            .into()
    })
}

fn killed(servers: &Servers) -> Error {
    let manager = manager(at(servers.port()));
    let mut conn = manager.connect().expect("connects");
    servers
        .server
        .cli(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"])
        .expect("works");
    let set = RedisCommand::new("SET").arg(secret!("k")).arg(secret!("v"));
    manager
        .execute(&mut conn, &set, Deadline::NEVER)
        .expect_err("killed")
}

fn paused(_: &Servers) -> Error {
    let server = Server::start().expect("starts");
    let manager = manager(at(server.port()));
    let mut conn = manager.connect().expect("connects");
    server.cli(&["CLIENT", "PAUSE", "5000"]).expect("works");
    let set = RedisCommand::new("SET").arg(secret!("k")).arg(secret!("v"));
    let result = manager.execute(&mut conn, &set, Deadline::within(LIMIT));
    result.expect_err("paused")
}

fn frozen(_: &Servers) -> Error {
    let server = Server::start().expect("starts");
    let manager = manager(at(server.port()).read_timeout(LIMIT));
    let mut conn = manager.connect().expect("connects");
    server.freeze();
    let set = RedisCommand::new("SET").arg(secret!("k")).arg(secret!("v"));
    let result = manager.execute(&mut conn, &set, Deadline::NEVER);
    server.thaw();
    result.expect_err("frozen")
}

fn cut(servers: &Servers) -> Error {
    let proxy = Proxy::start(servers.port()).expect("starts");
    let manager = manager(at(proxy.port()));
    let mut conn = manager.connect().expect("connects");
    proxy.black_hole(true);
    thread::scope(|scope| {
        scope.spawn(|| {
            thread::sleep(Duration::from_millis(50));
            proxy.cut();
        });
        let set = RedisCommand::new("SET").arg(secret!("k")).arg(secret!("v"));
        manager
            .execute(&mut conn, &set, Deadline::NEVER)
            .expect_err("cut")
    })
}

/// At one node of a Cluster, asked as if it stood alone.
fn node(servers: &Servers, words: &[&str]) -> Error {
    run(at(servers.cluster.nodes()[0].port()), words)
}

fn cluster_down(servers: &Servers) -> Error {
    let node = &servers.cluster.nodes()[0];
    // Of the first slots, which are the first node's.
    let slot = node.cli(&["CLUSTER", "KEYSLOT", "b"]).expect("works");
    node.cli(&["CLUSTER", "DELSLOTS", slot.trim()])
        .expect("works");
    run(at(node.port()), &["GET", "b"])
}

#[rustfmt::skip]
fn commands() -> Vec<Row<Servers>> {
    vec![
        operation("wrong type", Kind::InvalidOperation, Final, &["WRONGTYPE"], |s: &Servers| s.run(&["LPUSH", "text", "v"])),
        operation("unknown command", Kind::InvalidOperation, Final, &["unknown command"], |s: &Servers| s.run(&["NONESUCH", "v"])),
        operation("number of arguments", Kind::InvalidOperation, Final, &["wrong number of arguments"], |s: &Servers| s.run(&["GET"])),
        operation("syntax", Kind::InvalidOperation, Final, &["syntax error"], |s: &Servers| s.run(&["SET", secret!("k"), secret!("v"), "NONESUCH"])),
        operation("no number", Kind::InvalidOperation, Final, &["not an integer"], |s: &Servers| s.run(&["INCR", "text"])),
        operation("number too large", Kind::InvalidOperation, Final, &["overflow"], |s: &Servers| { s.server.cli(&["SET", "most", "9223372036854775807"]).expect("works"); s.run(&["INCR", "most"]) }),
        operation("refused in MULTI", Kind::InvalidOperation, Final, &["none was executed"], aborted),
        operation("script fails", Kind::InvalidOperation, FinalInDoubt, &["user_script"], |s: &Servers| s.run(&["EVAL", "return redis.call('LPUSH', KEYS[1], 1)", "1", "text"])),
        operation("script that does not compile", Kind::InvalidOperation, Final, &["compiling"], |s: &Servers| s.run(&["EVAL", "retur 1", "0"])),
        operation("script's own error", Kind::InvalidOperation, Final, &["MINE"], |s: &Servers| s.run(&["EVAL", "return redis.error_reply('MINE no')", "0"])),
        operation("cannot be killed", Kind::NotFound, Final, &["NotBusy"], |s: &Servers| s.raw(&["SCRIPT", "KILL"])),
        operation("script missing", Kind::NotFound, Final, &["SCRIPT LOAD"], |s: &Servers| s.run(&["EVALSHA", "0000000000000000000000000000000000000000", "0"])),
        operation("consumer group missing", Kind::NotFound, Final, &["NOGROUP"], |s: &Servers| s.run(&["XREADGROUP", "GROUP", "g", "c", "STREAMS", "stream", ">"])),
        operation("key missing", Kind::NotFound, Final, &["no such key"], |s: &Servers| s.run(&["RENAME", "nonesuch", "k"])),
        operation("consumer group exists", Kind::Constraint, Final, &["BUSYGROUP"], |s: &Servers| { s.server.cli(&["XGROUP", "CREATE", "stream", "there", "$"]).expect("works"); s.run(&["XGROUP", "CREATE", "stream", "there", "$"]) }),
        operation("key exists", Kind::Constraint, Final, &["BUSYKEY"], |s: &Servers| { let mut conn = open(at(s.port())); let dump: Vec<u8> = cmd("DUMP").arg("text").query(&mut conn).expect("works"); cmd("RESTORE").arg("text").arg(0).arg(dump).exec(&mut conn).expect_err("there").into() }),
        operation("no right to the command", Kind::Permission, Final, &["NoPerm", "REDIS_USER"], |s: &Servers| run(at(s.port()).user("app").password(secret!("right")), &["SET", secret!("k"), secret!("v")])),
        operation("login gone", Kind::Authentication, Final, &["REDIS_PASSWORD"], |s: &Servers| { let mut conn = open(at(s.port())); s.server.cli(&["CONFIG", "SET", "requirepass", secret!("new")]).expect("works"); let _ = cmd("RESET").exec(&mut conn); let error = cmd("GET").arg(secret!("k")).exec(&mut conn).expect_err("no login"); let mut admin = open(at(s.port()).password(secret!("new"))); cmd("CONFIG").arg("SET").arg("requirepass").arg("").exec(&mut admin).expect("works"); error.into() }),
        operation("write to a replica", Kind::WrongRole, Later, &["REDIS_HOST", "replica"], |_| replica("yes", &["SET", secret!("k"), secret!("v")])),
        operation("key of another node", Kind::WrongRole, Later, &["REDIS_CLUSTER_NODES"], |s: &Servers| node(s, &["GET", "foo"])),
        operation("keys of several slots", Kind::InvalidOperation, Final, &["{tag}"], |s: &Servers| node(s, &["MGET", "a", "b"])),
        operation("slot of no node", Kind::WrongRole, Later, &["CLUSTER INFO"], cluster_down),
        operation("memory full", Kind::ResourceLimit, Later, &["OOM", "maxmemory"], full),
        operation("disk fails", Kind::ResourceLimit, Later, &["MISCONF", "log"], |_| disk().0),
        operation("too few replicas", Kind::Overloaded, Later, &["NOREPLICAS", "min-replicas-to-write"], |_| { let server = server(&["--min-replicas-to-write", "1"]); run(at(server.port()), &["SET", secret!("k"), secret!("v")]) }),
        operation("replica without its primary", Kind::Overloaded, Later, &["replica-serve-stale-data"], |_| replica("no", &["GET", "k"])),
        operation("script runs", Kind::Overloaded, Later, &["BUSY", "SCRIPT KILL"], |s: &Servers| { let manager = manager(at(s.port())); let mut conn = manager.connect().expect("connects"); busy(s, || manager.execute(&mut conn, &RedisCommand::new("GET").arg(secret!("k")), Deadline::NEVER).expect_err("busy")) }),
        operation("unblocked by somebody", Kind::Cancelled, Final, &["UNBLOCKED"], unblocked),
    ]
}

#[rustfmt::skip]
fn connections() -> Vec<Row<Servers>> {
    vec![
        operation("connection killed", Kind::ConnectionLost, InDoubt, &["connection was lost"], killed),
        operation("connection cut", Kind::ConnectionLost, InDoubt, &["connection was lost"], cut),
        operation("server paused", Kind::DeadlineExceeded, InDoubt, &["deadline"], paused),
        operation("server frozen", Kind::DeadlineExceeded, InDoubt, &["REDIS_READ_TIMEOUT"], frozen),
        connect("wrong password", Kind::Authentication, Final, &["WRONGPASS", "REDIS_PASSWORD"], |s: &Servers| refused(at(s.port()).user("app").password(secret!("wrong")))),
        connect("no password", Kind::Authentication, Final, &["REDIS_PASSWORD"], |_| { let server = Server::builder().password(secret!("right")).start().expect("starts"); refused(at(server.port())) }),
        connect("password, and none required", Kind::Authentication, Final, &["REDIS_PASSWORD"], |s: &Servers| refused(at(s.port()).password(secret!("needless")))),
        connect("no such database", Kind::Configuration, Final, &["REDIS_DB"], |s: &Servers| refused(at(s.port()).db(99))),
        connect("database of a Cluster", Kind::Configuration, Final, &["REDIS_DB"], |s: &Servers| refused(at(s.cluster.nodes()[1].port()).db(1))),
        connect("too many clients", Kind::Overloaded, Later, &["maxclients"], full_of_clients),
        connect("loading", Kind::Overloaded, Later, &["tried again"], loading),
        connect("disk fails", Kind::ResourceLimit, Later, &["MISCONF", "log"], |_| disk().1),
        connect("Sentinel knows no such primary", Kind::Configuration, Final, &["REDIS_SENTINEL_MASTER"], |s: &Servers| refused(RedisConfig::new().sentinel("nonesuch", [("127.0.0.1", s.sentinel.sentinels()[0].port())]))),
        connect("nothing listens", REFUSED, Later, &["REDIS_HOST", "server runs"], |_| refused(at(refused_port()))),
        connect("no such host", DNS, Final, &["REDIS_HOST"], |_| refused(RedisConfig::new().host("no-such-host.invalid").allow_plaintext(true))),
        connect("no answer to the handshake", TIMEOUT, Later, &["REDIS_CONNECT_TIMEOUT"], |_| { let hole = BlackHole::start().expect("starts"); refused(at(hole.port()).connect_timeout(LIMIT)) }),
        connect("no answer to the login", TIMEOUT, Later, &["REDIS_CONNECT_TIMEOUT"], |_| { let silent = Silent::start().expect("starts"); refused(at(silent.port()).connect_timeout(LIMIT)) }),
    ]
}

#[test]
fn each_condition_has_its_kind() {
    let servers = Servers::start();
    check("redis", 15, &servers, &connections());
    check("redis", 25, &servers, &commands());
}
