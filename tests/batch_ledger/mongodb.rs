//! MongoDB: half of the keys are documents inserted, without an `_id` of their own, so that a
//! second one would show; half are counters.

use std::collections::HashMap;

use millpond::{ManageConnection as _, MongoDb, MongoDbConfig, MongoOperation};
use mongodb::bson::{Document, doc};
use mongodb::options::WriteConcern;
use testbed::{Mongo, Proxy};

use super::{Ledger, hold};

const INSERTED: &str = "inserted";
const COUNTED: &str = "counted";

/// The server, and what its clients connect through.
struct Proxied {
    proxy: Proxy,
    server: Mongo,
}

fn manager(port: u16) -> MongoDb {
    // What is answered is in the journal.
    let journaled = WriteConcern::builder().journal(true).build();
    let config = MongoDbConfig::new()
        .host(format!("127.0.0.1:{port}"))
        .database("ledger")
        .write_concern(journaled);
    MongoDb::new(config).expect("good settings")
}

impl Ledger for Proxied {
    type Backend = MongoDb;

    const OPERATIONS: usize = 100_000;

    fn start() -> Self {
        let server = Mongo::start().expect("mongod");
        let proxy = Proxy::start(server.port()).expect("a proxy");
        let conn = manager(server.port()).connect().expect("connects");
        let database = conn.db().expect("a database");
        for name in [INSERTED, COUNTED] {
            let create = database.create_collection(name);
            let create = create.validator(doc! { "poison": { "$exists": false } });
            create.run().expect("creates");
        }
        Self { proxy, server }
    }

    fn manager(&self) -> MongoDb {
        manager(self.proxy.port())
    }

    fn entry(key: usize, poison: bool) -> MongoOperation {
        let name = testbed::value(key);
        if key % 8 < 4 {
            let mut document = doc! { "key": name };
            if poison {
                document.insert("poison", true);
            }
            return MongoOperation::insert_one(INSERTED, document);
        }
        let mut update = doc! { "$inc": { "times": 1_i64 } };
        if poison {
            update.insert("$set", doc! { "poison": true });
        }
        MongoOperation::update_one(COUNTED, doc! { "_id": name }, update).upsert(true)
    }

    fn cut(&self) {
        self.proxy.cut();
    }

    fn kill_and_restart(&self) {
        self.server.kill();
        self.server.restart().expect("restarts");
    }

    fn read(&self) -> HashMap<usize, u64> {
        let conn = manager(self.server.port()).connect().expect("connects");
        let database = conn.db().expect("a database");
        let mut times = HashMap::new();
        for (collection, name) in [(INSERTED, "key"), (COUNTED, "_id")] {
            let collection = database.collection::<Document>(collection);
            for document in collection.find(doc! {}).run().expect("finds") {
                let document = document.expect("reads");
                let key = document.get_str(name).expect("a text");
                let more = document.get_i64("times").unwrap_or(1);
                let key = testbed::what(key).parse().expect("ours");
                *times.entry(key).or_default() += u64::try_from(more).expect("positive");
            }
        }
        times
    }
}

#[test]
fn mongodb_agrees_with_the_tickets() {
    hold::<Proxied>();
}
