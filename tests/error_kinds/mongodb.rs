//! MongoDB's.

use std::thread;
use std::time::Duration;

use millpond::backend::Backend as _;
use millpond::{
    Deadline, Error, ErrorKind as Kind, ManageConnection as _, MongoDb, MongoDbConfig,
    MongoDbConnection, MongoOperation,
};
use mongodb::bson::{Document, doc};
use mongodb::options::WriteConcern;
use testbed::{BlackHole, Mongo, Silent, refused_port, secret};

use super::Then::{Final, FinalInDoubt, InDoubt, Later};
use super::{DNS, LIMIT, REFUSED, Row, TIMEOUT, check, connect, operation, until};

struct Servers {
    /// A set of one, so that it has transactions and write concerns.
    set: Mongo,
    manager: MongoDb,
    guarded: Mongo,
}

impl Servers {
    fn start() -> Self {
        let guarded = thread::spawn(|| Mongo::builder().auth().start().expect("starts"));
        let set = Mongo::builder().replica_set(1).start().expect("starts");
        let manager = manager(config(set.port()));
        let servers = Self {
            set,
            manager,
            guarded: guarded.join().expect("no panic"),
        };
        let rule = doc! { "create": "strict", "validator": { "n": { "$gt": 0 } } };
        let index = doc! {
            "createIndexes": "t", "indexes": [ { "key": { "a": 1 }, "name": "a_1" } ],
        };
        for command in [
            rule,
            doc! { "insert": "t", "documents": [ { "_id": 1, "a": "x" }, { "_id": 2 } ] },
            index,
        ] {
            servers
                .execute(&MongoOperation::command(command))
                .expect("works");
        }
        servers
    }

    fn conn(&self) -> MongoDbConnection {
        self.manager.connect().expect("connects")
    }

    fn execute(&self, operation: &MongoOperation) -> Result<(), Error> {
        let result = self
            .manager
            .execute(&mut self.conn(), operation, Deadline::NEVER);
        result.map(drop)
    }

    fn run(&self, operation: &MongoOperation) -> Error {
        self.execute(operation).expect_err("refused")
    }

    fn command(&self, command: Document) -> Error {
        self.run(&MongoOperation::command(command))
    }

    /// What an insert comes to that the server fails like this.
    fn failing(&self, data: Document) -> Error {
        let mut data = data;
        data.insert("failCommands", ["insert"]);
        let times =
            doc! { "configureFailPoint": "failCommand", "mode": { "times": 1 }, "data": data };
        let conn = self.conn();
        conn.database("admin")
            .run_command(times)
            .run()
            .expect("test commands");
        let error = self.run(&insert(doc! { "n": 1 }));
        let off = doc! { "configureFailPoint": "failCommand", "mode": "off" };
        conn.database("admin")
            .run_command(off)
            .run()
            .expect("test commands");
        error
    }
}

fn config(port: u16) -> MongoDbConfig {
    let config = MongoDbConfig::new()
        .host(format!("127.0.0.1:{port}"))
        .database("test");
    config
        .heartbeat(Duration::from_millis(500))
        .connect_timeout(Duration::from_secs(5))
        .retry_writes(false)
        .direct(true)
}

fn manager(config: MongoDbConfig) -> MongoDb {
    MongoDb::new(config).expect("good settings")
}

fn refused(config: MongoDbConfig) -> Error {
    match manager(config).connect() {
        Ok(_) => panic!("must not connect"),
        Err(error) => error,
    }
}

fn insert(mut document: Document) -> MongoOperation {
    document.insert("text", testbed::value("text"));
    MongoOperation::insert_one("t", document)
}

fn guarded(servers: &Servers) -> MongoDbConfig {
    config(servers.guarded.port())
        .user("test")
        .auth_source("admin")
}

/// A user who may read one database, in another.
fn unauthorized(servers: &Servers) -> Error {
    let admin = manager(guarded(servers).password(Mongo::PASSWORD))
        .connect()
        .expect("connects");
    let roles = doc! { "createUser": "app", "pwd": secret!("right"), "roles": [ { "role": "read", "db": "test" } ] };
    admin
        .database("admin")
        .run_command(roles)
        .run()
        .expect("made");
    let manager = manager(guarded(servers).user("app").password(secret!("right")));
    let mut conn = manager.connect().expect("connects");
    let result = manager.execute(&mut conn, &insert(doc! {}), Deadline::NEVER);
    result.expect_err("not allowed")
}

/// A read that somebody ends.
fn interrupted(servers: &Servers) -> Error {
    let conn = servers.conn();
    let admin = conn.database("admin");
    let slow = doc! { "$where": "sleep(20) || true" };
    let many = (10..400).map(|id| doc! { "_id": id });
    conn.database("test")
        .collection::<Document>("many")
        .insert_many(many)
        .run()
        .expect("works");
    thread::scope(|scope| {
        scope.spawn(|| {
            until("the end of the read", || {
                let ops = admin
                    .run_command(doc! { "currentOp": 1, "ns": "test.many" })
                    .run();
                let ops = ops.expect("answers");
                let ops = ops.get_array("inprog").expect("a list");
                let op = ops
                    .iter()
                    .find_map(|op| op.as_document()?.get("opid").cloned());
                op.is_some_and(|op| {
                    admin
                        .run_command(doc! { "killOp": 1, "op": op })
                        .run()
                        .is_ok()
                })
            });
        });
        servers.run(&MongoOperation::find("many", slow))
    })
}

fn slow(servers: &Servers) -> Error {
    let wait = doc! { "find": "t", "filter": { "$where": "sleep(100) || true" }, "maxTimeMS": 20 };
    let conn = servers.conn();
    let found = conn.database("test").run_command(wait).run();
    found.expect_err("slow").into()
}

/// In a transaction that the server does not know.
fn no_transaction(servers: &Servers) -> Error {
    let conn = servers.conn();
    let mut session = conn.start_session().run().expect("works");
    session.start_transaction().run().expect("works");
    let items = conn.database("test").collection::<Document>("t");
    items
        .insert_one(doc! {})
        .session(&mut session)
        .run()
        .expect("works");
    let kill = doc! { "killSessions": [ session.id().clone() ] };
    conn.database("test")
        .run_command(kill)
        .run()
        .expect("works");
    let result = items.insert_one(doc! {}).session(&mut session).run();
    result.expect_err("killed").into()
}

/// Two transactions that write the same document.
fn write_conflict(servers: &Servers) -> Error {
    let conn = servers.conn();
    let items = conn.database("test").collection::<Document>("t");
    let mut sessions = [0, 1].map(|_| conn.start_session().run().expect("works"));
    let [first, second] = &mut sessions;
    let write = |session: &mut mongodb::sync::ClientSession| {
        session.start_transaction().run().expect("works");
        let update = items.update_one(doc! { "_id": 1 }, doc! { "$inc": { "n": 1 } });
        update.session(session).run()
    };
    write(first).expect("works");
    let error = write(second).expect_err("conflict");
    first.abort_transaction().run().expect("works");
    let _ = second.abort_transaction().run();
    error.into()
}

fn memory(servers: &Servers) -> Error {
    let conn = servers.conn();
    let admin = conn.database("admin");
    let limit = |bytes: i32| {
        let set = doc! { "setParameter": 1, "internalDocumentSourceGroupMaxMemoryBytes": bytes };
        admin.run_command(set).run().expect("works");
    };
    limit(1024);
    let ids = doc! { "$push": { "$range": [0, 1000] } };
    let group = doc! { "$group": { "_id": null, "all": ids } };
    let command =
        doc! { "aggregate": "t", "pipeline": [group], "cursor": {}, "allowDiskUse": false };
    let error = conn.database("test").run_command(command).run();
    limit(100 << 20);
    error.expect_err("too much").into()
}

fn frozen(servers: &Servers) -> Error {
    let manager = manager(guarded(servers).password(Mongo::PASSWORD));
    let mut conn = manager.connect().expect("connects");
    servers.guarded.freeze();
    let result = manager.execute(&mut conn, &insert(doc! {}), Deadline::within(LIMIT));
    servers.guarded.thaw();
    result.expect_err("frozen")
}

/// The last thing that the set does.
fn no_primary(servers: &Servers) -> Error {
    let mut conn = servers.conn();
    let step_down = doc! { "replSetStepDown": 60, "force": true };
    let admin = conn.database("admin");
    admin.run_command(step_down).run().expect("steps down");
    let result = servers
        .manager
        .execute(&mut conn, &insert(doc! {}), Deadline::NEVER);
    result.expect_err("a secondary")
}

#[rustfmt::skip]
fn commands() -> Vec<Row<Servers>> {
    vec![
        operation("duplicate key", Kind::Constraint, Final, &["11000", "_id_"], |s: &Servers| s.run(&insert(doc! { "_id": 1 }))),
        operation("document validation", Kind::Constraint, Final, &["121"], |s: &Servers| s.run(&MongoOperation::insert_one("strict", doc! { "n": 0 }))),
        operation("collection exists", Kind::Constraint, FinalInDoubt, &["NamespaceExists"], |s: &Servers| s.command(doc! { "create": "strict" })),
        operation("unknown operator", Kind::InvalidOperation, Final, &["BadValue", "$nonesuch"], |s: &Servers| s.run(&MongoOperation::find("t", doc! { "n": { "$nonesuch": 1 } }))),
        operation("unknown update operator", Kind::InvalidOperation, Final, &["9"], |s: &Servers| s.run(&MongoOperation::update_one("t", doc! {}, doc! { "$nonesuch": { "n": 1 } }))),
        operation("unknown stage", Kind::InvalidOperation, Final, &["40324"], |s: &Servers| s.run(&MongoOperation::aggregate("t", [doc! { "$nonesuch": {} }]))),
        operation("unknown command", Kind::InvalidOperation, Final, &["CommandNotFound"], |s: &Servers| s.command(doc! { "nonesuch": 1 })),
        operation("unknown field of a command", Kind::InvalidOperation, Final, &["40415"], |s: &Servers| s.command(doc! { "find": "t", "nonesuch": 1 })),
        operation("field of a command missing", Kind::InvalidOperation, Final, &["40414"], |s: &Servers| s.command(doc! { "aggregate": "t" })),
        operation("conflicting updates", Kind::InvalidOperation, Final, &["40"], |s: &Servers| s.run(&MongoOperation::update_one("t", doc! {}, doc! { "$set": { "n": 1 }, "$inc": { "n": 1 } }))),
        operation("immutable field", Kind::InvalidOperation, Final, &["66"], |s: &Servers| s.run(&MongoOperation::update_one("t", doc! { "_id": 1 }, doc! { "$set": { "_id": 7 } }))),
        operation("wrong type", Kind::InvalidOperation, Final, &["14"], |s: &Servers| s.run(&MongoOperation::update_one("t", doc! { "_id": 1 }, doc! { "$inc": { "a": 1 } }))),
        operation("division by zero", Kind::InvalidOperation, Final, &["zero"], |s: &Servers| s.run(&MongoOperation::aggregate("t", [doc! { "$project": { "n": { "$divide": [1, 0] } } }]))),
        operation("conversion", Kind::InvalidOperation, Final, &["241"], |s: &Servers| s.run(&MongoOperation::aggregate("t", [doc! { "$project": { "n": { "$toInt": "x" } } }]))),
        operation("conversion in the middle of $merge", Kind::InvalidOperation, FinalInDoubt, &["241"], |s: &Servers| s.run(&MongoOperation::aggregate("t", [doc! { "$project": { "n": { "$toInt": "$a" } } }, doc! { "$merge": "copy" }]))),
        operation("index of another kind", Kind::InvalidOperation, FinalInDoubt, &["86"], |s: &Servers| s.command(doc! { "createIndexes": "t", "indexes": [ { "key": { "b": 1 }, "name": "a_1" } ] })),
        operation("bad name of a collection", Kind::InvalidOperation, Final, &["InvalidNamespace"], |s: &Servers| s.command(doc! { "create": "a$b" })),
        operation("source of a rename missing", Kind::NotFound, Final, &["NamespaceNotFound"], |s: &Servers| { let conn = s.conn(); conn.database("admin").run_command(doc! { "renameCollection": "test.nonesuch", "to": "test.other" }).run().expect_err("missing").into() }),
        operation("index missing", Kind::NotFound, Final, &["IndexNotFound"], |s: &Servers| s.command(doc! { "dropIndexes": "t", "index": "nonesuch" })),
        operation("cursor missing", Kind::NotFound, FinalInDoubt, &["CursorNotFound"], |s: &Servers| s.command(doc! { "getMore": 7_i64, "collection": "t" })),
        operation("transaction gone", Kind::Conflict, Later, &["NoSuchTransaction", "run again"], no_transaction),
        operation("write conflict", Kind::Conflict, Later, &["112"], write_conflict),
        operation("limit of time", Kind::DeadlineExceeded, InDoubt, &["MaxTimeMSExpired"], slow),
        operation("ended by somebody", Kind::Cancelled, Final, &["Interrupted"], interrupted),
        operation("limit of memory", Kind::ResourceLimit, Later, &["memory"], memory),
        operation("not permitted", Kind::Permission, Final, &["Unauthorized", "MONGODB_USER"], unauthorized),
        operation("write concern not met", Kind::Configuration, FinalInDoubt, &["write concern", "MONGODB_WRITE_CONCERN"], |s: &Servers| { let manager = manager(config(s.set.port()).write_concern(WriteConcern::builder().w(mongodb::options::Acknowledgment::Nodes(3)).build())); let mut conn = manager.connect().expect("connects"); manager.execute(&mut conn, &insert(doc! {}), Deadline::NEVER).expect_err("not met") }),
        operation("write concern late", Kind::DeadlineExceeded, InDoubt, &["write concern", "64"], |s: &Servers| s.failing(doc! { "writeConcernError": { "code": 64, "codeName": "WriteConcernFailed", "errmsg": "waiting for replication timed out" } })),
        operation("stepped down", Kind::WrongRole, Later, &["189"], |s: &Servers| s.failing(doc! { "errorCode": 189 })),
        operation("not the primary", Kind::WrongRole, Later, &["10107"], |s: &Servers| s.failing(doc! { "errorCode": 10107 })),
        operation("interrupted by an election", Kind::WrongRole, Later, &["11602"], |s: &Servers| s.failing(doc! { "errorCode": 11602 })),
        operation("shutting down", Kind::ConnectionLost, InDoubt, &["91"], |s: &Servers| s.failing(doc! { "errorCode": 91 })),
        operation("interrupted by shutdown", Kind::ConnectionLost, InDoubt, &["11600"], |s: &Servers| s.failing(doc! { "errorCode": 11600 })),
        operation("lock timeout", Kind::Conflict, Later, &["24"], |s: &Servers| s.failing(doc! { "errorCode": 24 })),
        operation("disk full", Kind::ResourceLimit, Later, &["14031"], |s: &Servers| s.failing(doc! { "errorCode": 14031 })),
        operation("rate limit", Kind::Overloaded, Later, &["462", "tried again"], |s: &Servers| s.failing(doc! { "errorCode": 462 })),
        operation("label of overload", Kind::Overloaded, Later, &["code 1 "], |s: &Servers| s.failing(doc! { "errorCode": 1, "errorLabels": ["SystemOverloadedError"] })),
        operation("label of a transaction", Kind::Conflict, Later, &["code 1 "], |s: &Servers| s.failing(doc! { "errorCode": 1, "errorLabels": ["TransientTransactionError"] })),
        operation("label that nothing was written", Kind::ConnectionLost, Later, &["91"], |s: &Servers| s.failing(doc! { "errorCode": 91, "errorLabels": ["NoWritesPerformed"] })),
        operation("internal error", Kind::Other, Final, &["InternalError"], |s: &Servers| s.failing(doc! { "errorCode": 1 })),
    ]
}

#[rustfmt::skip]
fn connections() -> Vec<Row<Servers>> {
    vec![
        operation("connection closed", Kind::ConnectionLost, InDoubt, &[], |s: &Servers| s.failing(doc! { "closeConnection": true })),
        operation("server frozen", Kind::DeadlineExceeded, InDoubt, &["deadline"], frozen),
        connect("wrong password", Kind::Authentication, Final, &["MONGODB_PASSWORD"], |s: &Servers| refused(guarded(s).password(secret!("wrong")))),
        connect("unknown user", Kind::Authentication, Final, &["MONGODB_USER"], |s: &Servers| refused(guarded(s).user("nobody").password(Mongo::PASSWORD))),
        connect("nothing listens", REFUSED, Later, &["MONGODB_HOST"], |_| refused(config(refused_port()))),
        connect("no such host", DNS, Final, &["MONGODB_HOST"], |_| refused(MongoDbConfig::new().host("no-such-host.invalid").allow_plaintext(true))),
        connect("no answer to the handshake", TIMEOUT, Later, &["MONGODB_CONNECT_TIMEOUT"], |_| { let hole = BlackHole::start().expect("starts"); refused(config(hole.port()).connect_timeout(LIMIT)) }),
        connect("no answer to the login", TIMEOUT, Later, &["MONGODB_CONNECT_TIMEOUT"], |_| { let silent = Silent::start().expect("starts"); refused(config(silent.port()).connect_timeout(LIMIT)) }),
        connect("not a member of this set", Kind::Configuration, Final, &["MONGODB_REPLICA_SET"], |s: &Servers| refused(config(s.set.port()).direct(false).replica_set("other"))),
        operation("no primary any more", Kind::WrongRole, Later, &["MONGODB_REPLICA_SET"], no_primary),
    ]
}

#[test]
fn each_condition_has_its_kind() {
    let servers = Servers::start();
    check("mongodb", 30, &servers, &commands());
    check("mongodb", 9, &servers, &connections());
}
