//! The server, or a firewall, closes connections that lie idle: the next callers get
//! living ones, without an error where the connections are old enough to be checked,
//! and with one per dead connection at most where they are not.

mod scripted;

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use millpond::{Builder, CloseReason, Pool};
use scripted::{Manager, Script, until};

const SIZE: u32 = 8;

fn open(builder: Builder<Manager>) -> (Pool<Manager>, Arc<Script>) {
    let manager = Manager::new();
    let script = manager.script();
    let pool = builder.max_size(SIZE).build(manager).expect("opens");
    (pool, script)
}

/// Does what a program does with a connection; a dead one is found to be broken.
fn use_it(pool: &Pool<Manager>, killed: u64) -> Result<(), ()> {
    let mut lease = pool.get().expect("a connection");
    lease.broken = lease.number < killed;
    if lease.broken { Err(()) } else { Ok(()) }
}

#[test]
fn past_the_bypass_nobody_gets_a_dead_connection() {
    const BYPASS: Duration = Duration::from_millis(50);
    let (pool, script) = open(Pool::builder().validation_bypass(BYPASS));
    for round in 1..=3 {
        // That they are older than this is the hazard.
        thread::sleep(2 * BYPASS);
        script.kill_all();
        let killed = script.connects();
        for lease in 0..100 {
            let used = use_it(&pool, killed);
            assert!(used.is_ok(), "round {round}, lease {lease}");
        }
        until("refilled", || pool.state().idle_connections == SIZE);
    }
    assert_eq!(pool.metrics().closed_by(CloseReason::Broken), 0);
    assert_eq!(pool.metrics().timeouts, 0);
}

/// Many callers at once do not get one either.
#[test]
fn past_the_bypass_nobody_of_many_gets_a_dead_connection() {
    const BYPASS: Duration = Duration::from_millis(50);
    let (pool, script) = open(Pool::builder().validation_bypass(BYPASS));
    thread::sleep(2 * BYPASS);
    script.kill_all();
    let killed = script.connects();
    thread::scope(|scope| {
        for _ in 0..20 {
            scope.spawn(|| {
                for _ in 0..5 {
                    use_it(&pool, killed).expect("a living one");
                }
            });
        }
    });
    assert_eq!(pool.metrics().closed_by(CloseReason::Broken), 0);
}

/// Within it, the first one that turns out dead makes all others suspect.
#[test]
fn within_the_bypass_one_error_makes_all_idle_ones_suspect() {
    let (pool, script) = open(Pool::builder().validation_bypass(Duration::from_secs(60)));
    for _ in 0..3 {
        script.kill_all();
        let killed = script.connects();
        let errors = (0..100).filter(|_| use_it(&pool, killed).is_err()).count();
        println!("{errors} errors from {SIZE} dead connections");
        assert_eq!(errors, 1);
        until("refilled", || pool.state().idle_connections == SIZE);
    }
}

/// Those that were leased when it happened cost an error each, and nobody else one.
#[test]
fn within_the_bypass_each_dead_connection_costs_one_error_at_most() {
    let (pool, script) = open(Pool::builder().validation_bypass(Duration::from_secs(60)));
    script.kill_all();
    let killed = script.connects();
    let errors: usize = thread::scope(|scope| {
        let users: Vec<_> = (0..16)
            .map(|_| scope.spawn(|| (0..25).filter(|_| use_it(&pool, killed).is_err()).count()))
            .collect();
        let errors = users.into_iter().map(|user| user.join().expect("no panic"));
        errors.sum()
    });
    assert!((1..=SIZE as usize).contains(&errors), "{errors} errors");
    until("refilled", || pool.state().idle_connections == SIZE);
    assert!((0..100).all(|_| use_it(&pool, killed).is_ok()));
}
