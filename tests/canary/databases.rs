//! PostgreSQL, Redis and MongoDB.

use std::time::Duration;

use millpond::{
    ErrorKind, Hub, MongoDb, MongoDbConfig, MongoOperation, Operation, Pool, Postgres,
    PostgresConfig, Redis, RedisCommand, RedisConfig, Sql,
};
use mongodb::bson::doc;

use super::{MARK, fails, marked, run, run_batch, show, show_error, show_pool, show_refusal};

pub(super) struct Servers {
    pub(super) postgres: testbed::Postgres,
    pub(super) redis: testbed::Redis,
    pub(super) mongodb: testbed::Mongo,
}

impl Servers {
    /// Servers that want marked passwords.
    pub(super) fn start() -> Self {
        let postgres = testbed::Postgres::builder()
            .hba("host all app 127.0.0.1/32 scram-sha-256\nhost all all 127.0.0.1/32 trust")
            .start()
            .expect("PostgreSQL");
        let role = format!(
            "CREATE ROLE app SUPERUSER LOGIN PASSWORD '{}'",
            marked("pg")
        );
        postgres.psql(&role).expect("a role");
        let redis = testbed::Redis::builder()
            .password(&marked("redis"))
            .start()
            .expect("Redis");
        let mongodb = testbed::Mongo::builder().auth().start().expect("mongod");
        let admin = MongoDbConfig::new()
            .host(format!("127.0.0.1:{}", mongodb.port()))
            .database("admin")
            .user("test")
            .password(testbed::Mongo::PASSWORD);
        let admin = Pool::new(MongoDb::new(admin).expect("settings")).expect("opens");
        let user = doc! { "createUser": "app", "pwd": marked("mongodb"), "roles": ["root"] };
        run(&admin, MongoOperation::command(user)).expect("a user");
        Self {
            postgres,
            redis,
            mongodb,
        }
    }
}

pub(super) fn postgres(hub: &Hub, servers: &Servers) {
    let pool = hub.pool::<Postgres>("pg").expect("there");
    show_pool(&pool);
    show("lease", &pool.get().expect("a lease"));
    for sql in [
        "CREATE TABLE t (id int PRIMARY KEY, mail text UNIQUE, n int CHECK (n > 0))",
        "CREATE FUNCTION raise(what text) RETURNS int LANGUAGE plpgsql AS \
         $$ BEGIN RAISE EXCEPTION 'not %', what USING HINT = what, DETAIL = what; END $$",
        "CREATE FUNCTION notice(what text) RETURNS int LANGUAGE plpgsql AS \
         $$ BEGIN RAISE NOTICE 'seen %', what; RETURN 1; END $$",
    ] {
        run(&pool, Sql::new(sql)).expect("made");
    }
    let insert = |id: i32, n: i32| {
        Sql::new("INSERT INTO t (id, mail, n) VALUES ($1, $2, $3)")
            .bind(id)
            .bind(marked("bind"))
            .bind(n)
    };
    run(&pool, insert(1, 1)).expect("inserted");
    assert!(fails(&pool, insert(2, 1)).contains("t_mail_key"));
    assert!(fails(&pool, insert(3, -1)).contains("t_n_check"));
    let back = run(&pool, Sql::new("SELECT * FROM t")).expect("rows");
    assert_eq!(back.rows()[0].text(1), Some(&*marked("bind")));
    show("rows", &back.rows());

    let one = |sql: &'static str| Sql::new(sql).bind(marked("bind"));
    let cast = fails(&pool, one("SELECT $1::text::int"));
    assert!(cast.contains("for type integer"), "{cast}");
    fails(&pool, Sql::new("SELECT $1::int").bind(marked("bind")));
    fails(
        &pool,
        Sql::new("SELECT $1::text::int").bind(format!("a\"{MARK}\"b")),
    );
    fails(&pool, one("SELECT ($1::text)::json"));
    fails(&pool, one("SELECT ($1::text)::timestamptz"));
    let raised = fails(&pool, one("SELECT raise($1)"));
    assert!(raised.contains("P0001"), "{raised}");
    run(&pool, one("SELECT notice($1)")).expect("noticed");
    fails(&pool, one("SELECT nothing, $1::text"));
    fails(&pool, Sql::new(format!("SELECT 1 '{MARK}' FORM")));
    fails(&pool, Sql::new(format!("SELECT '{MARK}")));
    fails(&pool, Sql::new("SELECT $1").bind(format!("{MARK}\0")));
    fails(&pool, one("SELECT 1"));
    let array = vec![marked("array"), marked("array")];
    fails(&pool, Sql::new("SELECT $1::int[]").bind(array));
    let json = serde_json::json!({ "mail": marked("json") });
    fails(
        &pool,
        Sql::new("SELECT ($1::jsonb ->> 'mail')::int").bind(json),
    );

    postgres_faults(&pool, servers);
}

fn postgres_faults(pool: &Pool<Postgres>, servers: &Servers) {
    let one = |sql: &'static str| Sql::new(sql).bind(marked("bind"));
    let mut lease = pool.get().expect("a lease");
    let refused = lease.query(
        "INSERT INTO t (id, mail) VALUES (9, $1)",
        &[&marked("bind")],
    );
    let refused = millpond::Error::from(refused.expect_err("a duplicate"));
    show_error("of the driver", &refused);
    let driver = refused.driver_error::<postgres::Error>().expect("kept");
    let detail = driver
        .as_db_error()
        .and_then(postgres::error::DbError::detail);
    assert!(detail.expect("a detail").contains(MARK));
    drop(lease);

    let kill = "SELECT pg_terminate_backend(pg_backend_pid()), $1::text";
    fails(pool, one(kill).idempotent(false));
    servers.postgres.freeze();
    let late = fails(
        pool,
        one("SELECT $1::text").deadline(Duration::from_millis(300)),
    );
    servers.postgres.thaw();
    assert!(late.contains("deadline"), "{late}");

    let rows = (100..140).map(|id| {
        let mail = if id % 10 == 3 {
            marked("bind")
        } else {
            format!("{MARK}-{id}")
        };
        let sql = Sql::new("INSERT INTO t (id, mail, n) VALUES ($1, $2, $3)");
        sql.bind(id)
            .bind(mail)
            .bind(if id % 10 == 7 { -1 } else { 1 })
    });
    assert_eq!(run_batch(pool, rows.collect()), 8);
    let others = (0..6).map(|n| {
        let sql = Sql::new("UPDATE t SET n = $1::text::int WHERE mail = $2");
        let n = if n % 3 == 1 {
            marked("n")
        } else {
            n.to_string()
        };
        sql.bind(n).bind(marked("bind"))
    });
    assert!(run_batch(pool, others.collect()) >= 2);

    let config = PostgresConfig::new()
        .host("127.0.0.1")
        .port(servers.postgres.port())
        .user("app");
    show("config", &config.clone().password(marked("wrong")));
    show_refusal("wrong-pg", Postgres::new(config.password(marked("wrong"))));
    let gone = format!(
        "postgres://app:{MARK}@127.0.0.1:{}/d",
        testbed::refused_port()
    );
    show_refusal(
        "no-pg",
        PostgresConfig::from_url(&gone).and_then(Postgres::new),
    );
}

pub(super) fn redis(hub: &Hub, servers: &Servers) {
    let pool = hub.pool::<Redis>("cache").expect("there");
    show_pool(&pool);
    let command = |name: &str| RedisCommand::new(name).arg(marked("key"));
    run(&pool, command("SET").arg(marked("value"))).expect("set");
    run(&pool, command("GET")).expect("a value");
    run(&pool, RedisCommand::new("KEYS").arg("*")).expect("keys");
    fails(&pool, command("LPUSH").arg(marked("value")));
    fails(&pool, command("INCR"));
    let unknown = fails(&pool, command("NOSUCH").arg(marked("value")));
    assert!(unknown.contains("unknown command 'NOSUCH'"), "{unknown}");
    fails(&pool, RedisCommand::new("OBJECT").arg(marked("word")));
    fails(
        &pool,
        RedisCommand::new("XREADGROUP")
            .arg(&["GROUP", "g", "c", "STREAMS"])
            .arg(marked("key"))
            .arg(">"),
    );
    fails(&pool, RedisCommand::new(format!("{MARK} {MARK}")));
    let script = "return redis.error_reply('ERR not ' .. ARGV[1])";
    let scripted = |script: &str| {
        RedisCommand::new("EVAL")
            .arg(script)
            .arg(0)
            .arg(marked("argv"))
    };
    fails(&pool, scripted(script));
    fails(&pool, scripted("return redis.call('SET', ARGV[1])"));
    fails(&pool, scripted("error(ARGV[1])"));
    fails(&pool, scripted("this is no Lua"));

    let mut lease = pool.get().expect("a lease");
    let refused = redis::cmd("NOSUCH")
        .arg(marked("value"))
        .query::<()>(&mut *lease);
    let refused = millpond::Error::from(refused.expect_err("no such command"));
    show_error("of the driver", &refused);
    assert!(refused.driver_error::<redis::RedisError>().is_some());
    drop(lease);

    servers.redis.freeze();
    fails(&pool, command("GET").deadline(Duration::from_millis(300)));
    servers.redis.thaw();
    let commands = (0..20).map(|n| match n % 5 {
        3 => command("LPUSH").arg(marked("value")),
        4 => command("NOSUCH").arg(n),
        _ => command("SET").arg(marked("value")),
    });
    assert!(run_batch(&pool, commands.collect()) >= 8);

    let config = RedisConfig::new()
        .host("127.0.0.1")
        .port(servers.redis.port());
    for resp3 in [false, true] {
        let config = config.clone().resp3(resp3).user("app");
        show("config", &config.clone().password(marked("wrong")));
        show_refusal("wrong-redis", Redis::new(config.password(marked("wrong"))));
    }
    show_refusal("no-password", Redis::new(config));
    let gone = format!("redis://app:{MARK}@127.0.0.1:{}/", testbed::refused_port());
    show_refusal(
        "no-redis",
        RedisConfig::from_url(&gone).and_then(Redis::new),
    );
}

pub(super) fn mongodb(hub: &Hub, servers: &Servers) {
    let pool = hub.pool::<MongoDb>("documents").expect("there");
    show_pool(&pool);
    show("lease", &pool.get().expect("a lease"));
    let insert = |id: &str| {
        let document = doc! { "_id": id, "mail": format!("}} {{ \" {MARK}"), "sub": { "n": MARK } };
        MongoOperation::insert_one("people", document)
    };
    run(&pool, insert(&marked("id"))).expect("inserted");
    let twice = fails(&pool, insert(&marked("id")));
    assert!(twice.contains("E11000"), "{twice}");
    let index = doc! { "createIndexes": "people", "indexes": [
    { "key": { "mail": 1 }, "name": "mail_1", "unique": true } ] };
    run(&pool, MongoOperation::command(index)).expect("an index");
    fails(&pool, insert(&marked("other")));
    let all = run(&pool, MongoOperation::find("people", doc! {})).expect("documents");
    assert_eq!(all.documents().len(), 1);
    let me = || doc! { "_id": marked("id") };
    run(&pool, MongoOperation::find_one("people", me())).expect("a document");
    fails(
        &pool,
        MongoOperation::update_one("people", me(), doc! { "$inc": { "mail": 1 } }),
    );
    let convert = doc! { "$project": { "n": { "$toInt": marked("literal") } } };
    let converted = fails(&pool, MongoOperation::aggregate("people", [convert]));
    assert!(converted.contains("Failed to parse number"), "{converted}");
    fails(
        &pool,
        MongoOperation::find("people", doc! { "$where": marked("where") }),
    );
    let unknown = doc! { "mail": { "$noSuch": marked("x") } };
    fails(&pool, MongoOperation::find("people", unknown));
    fails(
        &pool,
        MongoOperation::command(doc! { "noSuch": marked("x") }),
    );
    let pwd = doc! { "createUser": "app", "pwd": marked("pwd"), "roles": ["nobody"] };
    fails(&pool, MongoOperation::command(pwd));

    let lease = pool.get().expect("a lease");
    let people = lease.db().expect("a database").collection("people");
    let refused = people
        .insert_many([me(), me()])
        .run()
        .expect_err("duplicates");
    let refused = millpond::Error::from(refused);
    assert_eq!(refused.kind(), ErrorKind::Constraint);
    show_error("of the driver", &refused);
    assert!(refused.driver_error::<mongodb::error::Error>().is_some());
    drop(lease);

    servers.mongodb.freeze();
    fails(
        &pool,
        MongoOperation::find("people", me()).deadline(Duration::from_millis(300)),
    );
    servers.mongodb.thaw();
    let documents = (0..20).map(|n| match n % 5 {
        3 => insert(&marked("id")),
        _ => MongoOperation::insert_one("others", doc! { "mail": marked("mail") }),
    });
    assert_eq!(run_batch(&pool, documents.collect()), 4);

    let config = MongoDbConfig::new()
        .host(format!("127.0.0.1:{}", servers.mongodb.port()))
        .user("app")
        .password(marked("wrong"));
    show("config", &config);
    show_refusal("wrong-mongodb", MongoDb::new(config));
    let gone = format!(
        "mongodb://app:{MARK}@127.0.0.1:{}/d",
        testbed::refused_port()
    );
    show_refusal(
        "no-mongodb",
        MongoDbConfig::from_url(&gone).and_then(MongoDb::new),
    );
}
