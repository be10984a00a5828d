//! The queue that processes share, from the first append to the last entry settled, with
//! operations that do nothing.
//!
//! The peer is a bare loop on the same Redis: one thread appends in pipelines of a thousand
//! `XADD`s, another reads a thousand with `XREADGROUP` and takes them out with `XACK` and `XDEL`.
//! It reads no operation, knows no bound, no outcome of each, and nothing of dead workers.

use std::error::Error;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use millpond::shared_queue::{SharedQueue, Worker};
use millpond::{Batch, Envelope, Pool, Redis, RedisConfig};
use redis::streams::StreamReadReply;
use redis::{Client, Commands as _, Connection, cmd, pipe};

use super::engine::{Nothing, Nowhere};
use super::options::Options;
use super::rounds::{Turn, take_turns};
use super::table::{Goal, Row, Table, Unit};

/// In one turn.
const OPERATIONS: u64 = 10_000;
const GROUP: usize = 1_000;
const STREAM: &str = "bare";

pub(crate) fn measure(options: &Options, table: &mut Table) -> Result<(), Box<dyn Error>> {
    let what = "shared queue: operations per second, submitted and settled, do-nothing backend";
    if !options.wants(what) {
        return Ok(());
    }
    let server = testbed::Redis::shared();
    let pool = Pool::builder()
        .max_size(6)
        .build(Redis::new(RedisConfig::from_url(&server.url())?)?)?;
    millpond::backend::adopt::<Nowhere>();
    let queue = SharedQueue::<Nowhere>::builder(pool, "scoreboard")
        .prefetch(10_000)
        .build()?;
    let batch = Batch::builder(Pool::builder().max_size(2).build(Nowhere)?)
        .size(GROUP)
        .workers(2)
        .max_operations(20_000)
        .build()?;
    let worker = queue.work(&batch)?;
    let client = Client::open(server.url())?;
    let _: () = cmd("XGROUP")
        .arg(&["CREATE", STREAM, "g", "0", "MKSTREAM"])
        .query(&mut client.get_connection()?)?;
    let mut producer = client.get_connection()?;
    let mut consumer = client.get_connection()?;
    let payload: Arc<str> = serde_json::to_string(&nothing(1_000))?.into();
    let (rounds, _) = options.rounds(15, 0);
    let mut sides: [Turn<'_, f64>; 2] = [
        Box::new(|| through(&queue, &worker)),
        Box::new(|| by_hand(&mut producer, &mut consumer, &payload)),
    ];
    let results = take_turns(rounds, &mut sides);
    drop(sides);
    drop(worker);
    table.add(Row::compared(
        what,
        Unit::PerSecond,
        &results[0],
        "a bare loop of XADD and XREADGROUP, pipelines of 1,000",
        &results[1],
        Some(Goal::AtLeast(0.5)),
    ));
    Ok(())
}

fn nothing(number: u64) -> Nothing {
    Nothing {
        number,
        envelope: Envelope::default(),
    }
}

fn through(queue: &SharedQueue<Nowhere>, worker: &Worker) -> f64 {
    let before = worker.metrics().done;
    let start = Instant::now();
    let tickets: Vec<_> = (0..OPERATIONS)
        .map(|number| queue.submit(nothing(number)).expect("room in time"))
        .collect();
    for ticket in tickets {
        ticket.wait().into_result().expect("Redis takes it");
    }
    while worker.metrics().done < before + OPERATIONS {
        thread::sleep(Duration::from_micros(200));
    }
    OPERATIONS as f64 / start.elapsed().as_secs_f64()
}

fn by_hand(producer: &mut Connection, consumer: &mut Connection, payload: &str) -> f64 {
    let start = Instant::now();
    thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..OPERATIONS as usize / GROUP {
                let mut appends = pipe();
                for _ in 0..GROUP {
                    appends.cmd("XADD").arg(&[STREAM, "*", "op", payload]);
                }
                let ids: Vec<String> = appends.query(producer).expect("appends");
                assert_eq!(ids.len(), GROUP);
            }
        });
        let mut settled = 0;
        while settled < OPERATIONS as usize {
            let reply: Option<StreamReadReply> = cmd("XREADGROUP")
                .arg(&["GROUP", "g", "c", "COUNT", "1000", "BLOCK", "200"])
                .arg(&["STREAMS", STREAM, ">"])
                .query(consumer)
                .expect("reads");
            let keys = reply.map(|reply| reply.keys).unwrap_or_default();
            let ids: Vec<String> = keys
                .into_iter()
                .flat_map(|key| key.ids)
                .map(|entry| entry.id)
                .collect();
            if ids.is_empty() {
                continue;
            }
            let (acked, deleted): (usize, usize) = pipe()
                .xack(STREAM, "g", &ids)
                .xdel(STREAM, &ids)
                .query(consumer)
                .expect("settles");
            assert_eq!((acked, deleted), (ids.len(), ids.len()));
            settled += ids.len();
        }
        let left: usize = consumer.xlen(STREAM).expect("answers");
        assert_eq!(left, 0);
    });
    OPERATIONS as f64 / start.elapsed().as_secs_f64()
}
