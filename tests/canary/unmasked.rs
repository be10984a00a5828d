//! With masking off values are shown, and secrets still are not.

use std::error::Error as _;
use std::fmt::Debug;

use millpond::logging::Switches;
use millpond::security::mask_values;
use millpond::{
    Error, Http, HttpRequest, Hub, MongoDb, MongoOperation, Postgres, Redis, RedisCommand, Sql,
};
use mongodb::bson::doc;

use super::{MARK, marked};

pub(super) fn values(hub: &Hub) {
    // They are shown, and must not get into the log.
    Switches::new().operations(false).apply();
    mask_values(false);
    let pg = hub.pool::<Postgres>("pg").expect("there");
    let sql = Sql::new("INSERT INTO t (id, mail) VALUES (77, $1)").bind(marked("bind"));
    is_shown(&sql);
    is_hidden(&Sql::new(format!("ALTER ROLE app PASSWORD '{MARK}'")));
    let refused = pg.execute(sql).expect_err("a duplicate");
    is_told(&refused, "detail: Key (mail)=(");
    assert!(refused.source().expect("a cause").is::<postgres::Error>());
    is_shown(
        &pg.execute(Sql::new("SELECT $1::int").bind(marked("x")))
            .expect_err("no number"),
    );

    let cache = hub.pool::<Redis>("cache").expect("there");
    let command = RedisCommand::new("NOSUCH").arg(marked("value"));
    is_shown(&command);
    is_hidden(&RedisCommand::new("CONFIG").arg(&["SET", "requirepass", MARK]));
    is_told(
        &cache.execute(command).expect_err("unknown"),
        "with args beginning with",
    );
    is_shown(
        &cache
            .execute(RedisCommand::new("GET").arg(marked("key")))
            .expect("a value"),
    );

    let documents = hub.pool::<MongoDb>("documents").expect("there");
    let again = MongoOperation::insert_one("people", doc! { "_id": marked("id") });
    is_shown(&again);
    is_hidden(&MongoOperation::insert_one(
        "people",
        doc! { "password": marked("id") },
    ));
    is_told(
        &documents.execute(again).expect_err("a duplicate"),
        "dup key: {",
    );
    is_shown(
        &documents
            .execute(MongoOperation::find("people", doc! {}))
            .expect("documents"),
    );

    let token = hub.pool::<Http>("token").expect("there");
    let request = HttpRequest::get("/conflict").header("X-Value", MARK);
    is_shown(&request);
    is_hidden(
        &HttpRequest::get("/?api_key=Canary7f3aZ")
            .header("Authorization", MARK)
            .body(MARK),
    );
    is_told(
        &token.execute(request).expect_err("refused"),
        "409 Conflict: not",
    );
    is_shown(&token.execute(HttpRequest::get("/text")).expect("a text"));

    for it in [
        &pg.manager() as &dyn Debug,
        &cache.manager(),
        &documents.manager(),
        &token.manager(),
        &hub,
        &pg.get().expect("a lease"),
        &documents.get().expect("a lease"),
        &token.get().expect("a lease"),
    ] {
        is_hidden(it);
    }
    mask_values(true);
}

fn is_told(error: &Error, part: &str) {
    let text = error.to_string();
    assert!(text.contains(MARK) && text.contains(part), "{text}");
}

fn is_shown(it: &dyn Debug) {
    assert!(format!("{it:?}").contains(MARK), "it hides its values");
}

fn is_hidden(it: &dyn Debug) {
    assert!(!format!("{it:?}").contains(MARK), "it shows a secret");
}
