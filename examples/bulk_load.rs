//! Loads a CSV file into PostgreSQL row by row, each row with an outcome of its own, and
//! writes the rejected ones to a file.
//!
//! `cargo run --release --example bulk_load [FILE.csv]` makes a file of 100,000 rows, some
//! of them wrong, if none is named. It uses the server that `DATABASE_URL` names, or a
//! throw-away one.
//!
//! Nothing here knows about groups: every row is submitted by itself, and the batch makes
//! large INSERTs of what is there. A row that the server refuses takes no other with it.

use std::error::Error;
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use millpond::batch::wait_all;
use millpond::{Batch, Operation as _, Outcome, Pool, Postgres, PostgresConfig, Sql};

const ROWS: usize = 100_000;
const TABLE: &str = "millpond_bulk_load";
const INSERT: &str = "INSERT INTO millpond_bulk_load (id, name, born, score) \
     VALUES ($1, $2, $3, $4)";

fn main() -> Result<(), Box<dyn Error>> {
    let file = match std::env::args_os().nth(1) {
        Some(file) => PathBuf::from(file),
        None => make_file()?,
    };
    let rejects = file.with_extension("rejected.jsonl");

    let server; // lives as long as the program
    let url = match std::env::var("DATABASE_URL") {
        Ok(url) => url,
        Err(_) => {
            println!("Starting a throw-away PostgreSQL ...");
            server = testbed::Postgres::builder().fsync(true).start()?;
            server.url()
        }
    };
    let pool = Pool::builder()
        .max_size(2)
        .build(Postgres::new(PostgresConfig::from_url(&url)?)?)?;
    pool.get()?.batch_execute(&format!(
        "DROP TABLE IF EXISTS {TABLE}; \
         CREATE TABLE {TABLE} (id int PRIMARY KEY, name text NOT NULL, born date, score numeric)"
    ))?;

    let start = Instant::now();
    let batch = Batch::builder(pool.clone())
        .size(1_000)
        .workers(2)
        .max_operations(10_000) // `submit` waits when the queue is full
        .quarantine(10_000)
        .build()?;
    let mut tickets = Vec::new();
    for record in csv::Reader::from_path(&file)?.into_records() {
        let record = record?;
        // An empty field is a NULL; the server reads the others as what the columns are.
        let fields = record
            .iter()
            .map(|field| (!field.is_empty()).then(|| field.to_owned()));
        let row = Sql::new(INSERT).bind_all(fields);
        let line = record.position().map_or(0, csv::Position::line);
        tickets.push(batch.submit(row.id(format!("line {line}")))?);
    }

    let bar = ProgressBar::new(tickets.len() as u64);
    bar.set_style(ProgressStyle::with_template(
        "{bar:40} {pos} of {len} rows, {per_sec}",
    )?);
    let outcomes = wait_all(tickets, |progress| {
        bar.set_position(progress.settled as u64);
    });
    bar.finish();
    let elapsed = start.elapsed();

    let unsure = outcomes
        .iter()
        .filter(|o| matches!(o, Outcome::Unknown(_)))
        .count();
    let written = batch
        .quarantine()
        .write_json_lines(BufWriter::new(File::create(&rejects)?))?;
    println!("{}", batch.close(Duration::from_secs(10)));
    println!(
        "{:.0} rows per second; {written} rejected rows are in {}; {unsure} unknown",
        outcomes.len() as f64 / elapsed.as_secs_f64(),
        rejects.display(),
    );
    if let Some(error) = outcomes.iter().find_map(Outcome::error) {
        println!("the first error: {error}");
    }
    let count = pool.execute(Sql::new(format!("SELECT count(*) FROM {TABLE}")))?;
    let count: i64 = count.rows().first().ok_or("a row")?.get(0)?;
    println!("{count} rows are in the table");
    pool.execute(Sql::new(format!("DROP TABLE {TABLE}")))?;
    Ok(())
}

/// A file of which every thousandth row has a date that there is not, and some a key that
/// was there before.
fn make_file() -> std::io::Result<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/bulk_load.csv");
    std::fs::create_dir_all(path.parent().unwrap_or(Path::new(".")))?;
    let mut file = BufWriter::new(File::create(&path)?);
    writeln!(file, "id,name,born,score")?;
    for id in 1..=ROWS {
        let born = match id % 1000 {
            500 => "1990-02-31",
            n if n % 2 == 0 => "1990-02-28",
            _ => "",
        };
        let id = if id % 10_000 == 0 { 1 } else { id };
        writeln!(file, "{id},\"Person, number {id}\",{born},{}.25", id % 100)?;
    }
    file.flush()?;
    Ok(path)
}
