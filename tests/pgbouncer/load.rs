//! Executes, leases and batches at the same time, each result looked at.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use millpond::{Batch, Error, Operation as _, Pool, Postgres, Sql};

use crate::book::Book;

/// What an operation may take: longer than any pause.
const LIMIT: Duration = Duration::from_secs(10);

/// Ends the load, also when a test fails.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

/// Works on the pool while `test` runs; the book says what came of it.
pub(crate) fn while_working(pool: &Pool<Postgres>, book: &Arc<Book>, test: impl FnOnce()) {
    let batch = Batch::builder(pool.clone()).size(50).build();
    let batch = batch.expect("starts");
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let over = &over;
        for work in [executes, executes, leases, leases] {
            scope.spawn(move || {
                while !over.load(SeqCst) {
                    work(pool, book);
                }
            });
        }
        for _ in 0..2 {
            let batch = &batch;
            scope.spawn(move || {
                while !over.load(SeqCst) {
                    batches(batch, book);
                }
            });
        }
        let _end = End(over);
        test();
    });
    let metrics = batch.close(LIMIT);
    assert_eq!((metrics.queued, metrics.running), (0, 0), "{metrics}");
    assert_eq!(metrics.rejected, 0, "nothing is to be refused: {metrics}");
}

/// Inserts of several texts, so that many statements would be prepared.
fn insert(key: i32, text: i32) -> Sql {
    let sql = match text {
        0 => "INSERT INTO ledger VALUES ($1) RETURNING key".to_owned(),
        text => format!("INSERT INTO ledger SELECT $1::bigint + {text} - {text} RETURNING key"),
    };
    Sql::new(sql).bind(testbed::number(key)).deadline(LIMIT)
}

fn executes(pool: &Pool<Postgres>, book: &Arc<Book>) {
    let key = book.open();
    let result = pool.execute(insert(key, key % 4));
    if let Ok(reply) = &result {
        let answer: i64 = reply.rows()[0].get(0).expect("a number");
        assert_eq!(answer, testbed::number(key), "a wrong result");
    }
    book.enter(key, result.as_ref().err());
    select(pool, book, key);
}

fn select(pool: &Pool<Postgres>, book: &Arc<Book>, key: i32) {
    let number = testbed::number(key);
    let select = Sql::new(format!("SELECT $1::bigint + {}", key % 5)).bind(number);
    match pool.execute(select.deadline(LIMIT)) {
        Ok(reply) => {
            let answer: i64 = reply.rows()[0].get(0).expect("a number");
            assert_eq!(answer, number + i64::from(key % 5), "a wrong result");
        }
        Err(error) => book.failure(&error),
    }
}

fn leases(pool: &Pool<Postgres>, book: &Arc<Book>) {
    let key = book.open();
    let mut lease = match pool.get_timeout(LIMIT) {
        Ok(lease) => lease,
        Err(error) => return book.enter(key, Some(&error)),
    };
    let number = testbed::number(key);
    for text in 0..3_i64 {
        let sql = format!("SELECT $1::bigint + {text}");
        match lease.query_one(sql.as_str(), &[&number]) {
            Ok(row) => assert_eq!(row.get::<_, i64>(0), number + text, "a wrong result"),
            Err(error) => book.failure(&Error::from(error)),
        }
    }
    let result = lease.query_one("INSERT INTO ledger VALUES ($1) RETURNING key", &[&number]);
    if let Ok(row) = &result {
        assert_eq!(row.get::<_, i64>(0), number, "a wrong result");
    }
    book.enter(key, result.err().map(Error::from).as_ref());
}

/// A hundred tickets, for merged statements and for groups.
fn batches(batch: &Batch<Postgres>, book: &Arc<Book>) {
    let tickets: Vec<_> = (0..100)
        .map(|n| {
            let key = book.open();
            let insert = match n % 4 {
                0 | 1 => {
                    Sql::new("INSERT INTO ledger (key) VALUES ($1)").bind(testbed::number(key))
                }
                n => insert(key, n),
            };
            let ticket = batch.submit(insert.deadline(LIMIT));
            (key, ticket.expect("there is room"))
        })
        .collect();
    for (key, ticket) in tickets {
        let outcome = ticket.wait();
        book.enter(key, outcome.error());
    }
}
