//! A program written for r2d2, migrated by changing one line: it was `use r2d2;`.
//!
//! `cargo run --example from_r2d2` (`SQLite`: no server is needed)

// Was: the crate `r2d2` itself. Everything below is as it was.
use millpond as r2d2;

use std::error::Error;
use std::time::Duration;

use r2d2::event::{CheckoutEvent, HandleEvent};
use r2d2_sqlite::{SqliteConnectionManager, rusqlite};

#[derive(Debug)]
struct ForeignKeys;

impl r2d2::CustomizeConnection<rusqlite::Connection, rusqlite::Error> for ForeignKeys {
    fn on_acquire(&self, conn: &mut rusqlite::Connection) -> Result<(), rusqlite::Error> {
        conn.execute_batch("PRAGMA foreign_keys = ON; PRAGMA busy_timeout = 5000")
    }
}

#[derive(Debug)]
struct Slow;

impl HandleEvent for Slow {
    fn handle_checkout(&self, event: CheckoutEvent) {
        if event.duration() > Duration::from_millis(5) {
            println!(
                "connection {} after {:?}",
                event.connection_id(),
                event.duration()
            );
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let file = std::env::temp_dir().join(format!("from_r2d2-{}.db", std::process::id()));
    let manager = SqliteConnectionManager::file(&file);
    let pool: r2d2::Pool<SqliteConnectionManager> = r2d2::Pool::builder()
        .max_size(3)
        .min_idle(Some(1))
        .connection_timeout(Duration::from_secs(10))
        .connection_customizer(Box::new(ForeignKeys))
        .event_handler(Box::new(Slow))
        .build(manager)?;

    pool.get()?
        .execute_batch("CREATE TABLE visits (worker INTEGER, at TEXT)")?;
    let workers: Vec<_> = (0..6)
        .map(|worker| {
            let pool = pool.clone();
            std::thread::spawn(move || {
                for _ in 0..20 {
                    let conn = pool.get().expect("a connection");
                    conn.execute("INSERT INTO visits VALUES (?1, datetime())", [worker])
                        .expect("inserted");
                }
            })
        })
        .collect();
    for worker in workers {
        worker.join().expect("no worker panics");
    }
    let visits: i64 = pool
        .get()?
        .query_row("SELECT count(*) FROM visits", [], |row| row.get(0))?;
    let state = pool.state();
    println!(
        "{visits} visits; {} connections, {} idle",
        state.connections, state.idle_connections
    );

    // And what r2d2 does not have:
    println!("{state}");
    println!("{:?}", pool.metrics());
    pool.close(Duration::from_secs(5))?;
    std::fs::remove_file(file)?;
    Ok(())
}
