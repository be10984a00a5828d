//! Threads and memory do not grow with the number of idle pools, and end with the
//! last pool.
//!
//! One test in this file: it looks at the whole process.
#![cfg(target_os = "linux")]

mod scripted;

use std::time::Duration;

use millpond::{ManageConnection, Pool};
use scripted::{threads_named, until};

const POOLS: u64 = 1_000;
const SIZE: u32 = 2;

/// Does nothing, takes no room.
#[derive(Debug)]
struct Idle;

impl ManageConnection for Idle {
    type Connection = ();
    type Error = std::io::Error;

    fn connect(&self) -> std::io::Result<()> {
        Ok(())
    }

    fn is_valid(&self, (): &mut ()) -> std::io::Result<()> {
        Ok(())
    }

    fn has_broken(&self, (): &mut ()) -> bool {
        false
    }
}

fn open() -> Pool<Idle> {
    Pool::builder()
        .max_size(SIZE)
        // All of them have something to do now and then.
        .keepalive_interval(Some(Duration::from_millis(500)))
        .build(Idle)
        .expect("opens")
}

/// What the process has in memory, in bytes.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux has it");
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let size = line.and_then(|line| line.split_whitespace().nth(1));
    let size = size.and_then(|size| size.parse::<u64>().ok());
    size.expect("a number of kibibytes") * 1024
}

#[test]
fn a_thousand_idle_pools_share_a_few_threads() {
    let first = open();
    drop(first.get().expect("a connection"));
    until("its threads are there", || threads_named("millpond-") >= 1);
    let (threads, memory) = (threads_named("millpond-"), resident());

    let pools: Vec<_> = (1..POOLS).map(|_| open()).collect();
    let connections: u64 = pools
        .iter()
        .map(|pool| u64::from(pool.state().connections))
        .sum();
    assert_eq!(connections, (POOLS - 1) * u64::from(SIZE));
    // More than two rounds of keepalive.
    let mut most = 0;
    for _ in 0..30 {
        most = most.max(threads_named("millpond-"));
        std::thread::sleep(Duration::from_millis(50));
    }
    let per_pool = resident().saturating_sub(memory) / (POOLS - 1);
    println!("{threads} threads with one pool, {most} with {POOLS}; {per_pool} bytes per pool");
    assert!(most <= threads + 4, "{threads} threads, then {most}");
    assert!(per_pool < 64 * 1024, "{per_pool} bytes per pool");

    drop(pools);
    assert_eq!(threads_named("millpond-keeper"), 1, "one pool is left");
    drop(first.get().expect("a connection"));
    drop(first);
    until("all threads end", || threads_named("millpond-") == 0);

    // And the next pool starts them again.
    let next = open();
    drop(next.get().expect("a connection"));
    until("a keeper", || threads_named("millpond-keeper") == 1);
    drop(next);
    until("all threads end again", || threads_named("millpond-") == 0);
}
