//! Whatever end an operation comes to, it is in the log once, with that outcome.

use std::collections::BTreeMap;
use std::time::Duration;

use millpond::audit::Audit;
use millpond::batch::WhenFull;
use millpond::{Batch, Operation as _, PooledConnection, Priority, RetryPolicy};

use super::work::{Act, Work, held, pool, quiet_panics, work};
use super::{Folder, alone, operations, right};

const MS: Duration = Duration::from_millis(1);

fn named(id: &str) -> Work {
    work(1).id(id)
}

fn told(path: &std::path::Path) -> BTreeMap<String, (String, String, u64)> {
    let mut told = BTreeMap::new();
    for line in operations(path) {
        let text = |key: &str| line[key].as_str().unwrap_or_default().to_owned();
        let attempts = line["attempts"].as_u64().expect("a number");
        let entry = (text("outcome"), text("error"), attempts);
        let before = told.insert(text("id"), entry);
        assert_eq!(before, None, "told twice: {line}");
    }
    told
}

fn expect(told: &mut BTreeMap<String, (String, String, u64)>, all: &[(&str, &str, &str, u64)]) {
    for (id, outcome, error, attempts) in all {
        let expected = ((*outcome).into(), (*error).into(), *attempts);
        assert_eq!(told.remove(*id), Some(expected), "{id}");
    }
    assert_eq!(told.len(), 0, "{told:?}");
}

#[test]
fn single_operations() {
    let _alone = alone();
    quiet_panics();
    let folder = Folder::new();
    let audit = Audit::builder(folder.log()).install().expect("installs");
    let (pool, _) = pool(1);
    let quick = RetryPolicy::new(3).longest_pause(MS);
    let run = |work: Work| pool.execute(work.retry(quick.clone()));

    run(named("done").comment("a remark")).expect("answers");
    run(work(2).id("second try").act(Act::FailFirst(1))).expect("answers");
    run(named("refused").act(Act::Refuse)).expect_err("refused");
    run(named("in doubt").act(Act::DoubtUnsaid)).expect_err("in doubt");
    run(work(u64::MAX).id("invalid")).expect_err("invalid");
    run(named("mute").act(Act::Mute)).expect("answers");
    let mut lease = pool.get().expect("one");
    run(named("no lease").deadline(5 * MS)).expect_err("the lease is taken");
    PooledConnection::execute(&mut lease, named("on a lease")).expect("answers");
    let invalid = work(u64::MAX).id("invalid on a lease");
    PooledConnection::execute(&mut lease, invalid).expect_err("invalid");
    drop(lease);
    let panics = std::panic::AssertUnwindSafe(|| run(named("panic").act(Act::Panic)));
    std::panic::catch_unwind(panics).expect_err("scripted");
    drop(audit);
    pool.execute(named("after")).expect("answers");

    let first = &operations(&folder.log())[0];
    assert_eq!(first["kind"], "WORK");
    assert_eq!(first["backend"], "scripted");
    assert_eq!(first["statement"], "WORK ?");
    assert_eq!(first["endpoint"], "nowhere:0");
    assert_eq!(first["comment"], "a remark");
    assert!(first["seconds"].as_f64() > Some(0.0));
    let mut told = told(&folder.log());
    // Its description panicked, and with it its id was lost.
    assert_eq!(told.remove(""), Some(("done".into(), String::new(), 1)));
    expect(
        &mut told,
        &[
            ("done", "done", "", 1),
            ("second try", "done", "", 2),
            ("refused", "rejected", "constraint", 1),
            ("in doubt", "unknown", "connection_lost", 1),
            ("invalid", "rejected", "invalid_operation", 0),
            ("no lease", "not_executed", "deadline_exceeded", 0),
            ("on a lease", "done", "", 1),
            ("panic", "unknown", "other", 1),
            ("invalid on a lease", "rejected", "invalid_operation", 0),
        ],
    );
    right(&folder.log());
}

#[test]
fn operations_of_a_batch() {
    let _alone = alone();
    let folder = Folder::new();
    let audit = Audit::builder(folder.log()).install().expect("installs");
    let (batch, script, first) =
        held(|builder| builder.max_operations(3).when_full(WhenFull::Shed));
    let urgent = |id: &str| named(id).priority(Priority::High);
    let cancelled = batch.submit(urgent("cancelled")).expect("room");
    assert!(cancelled.cancel());
    let expired = batch
        .submit(urgent("expired").deadline(10 * MS))
        .expect("room");
    assert!(expired.wait().error().is_some());
    batch
        .submit(work(u64::MAX).id("invalid"))
        .expect_err("invalid");
    let shed = batch
        .submit(named("shed").priority(Priority::Low))
        .expect("room");
    let kept: Vec<_> = ["kept 1", "kept 2", "kept 3"]
        .map(|id| batch.submit(urgent(id)).expect("makes room"))
        .into();
    assert!(shed.wait().error().is_some());
    script.thaw();
    assert!(first.wait().is_done());
    assert!(kept.into_iter().all(|ticket| ticket.wait().is_done()));

    script.freeze();
    let begun = batch.submit(urgent("begun")).expect("room");
    super::work::until("the worker has it", || batch.metrics().running == 1);
    let left = batch.submit(urgent("left")).expect("room");
    let metrics = batch.close(10 * MS);
    assert!(left.wait().error().is_some());
    assert!(begun.wait().error().is_some());
    script.thaw();

    let full = Batch::builder(pool(1).0)
        .max_operations(1)
        .when_full(WhenFull::Refuse);
    let full = full.build().expect("starts");
    full.close(MS);
    full.submit(named("handed back")).expect_err("closed");
    assert!(audit.flush());
    drop(audit);

    let mut told = told(&folder.log());
    let of = |outcome: &str| told.values().filter(|told| told.0 == outcome).count() as u64;
    assert_eq!(of("done"), metrics.done);
    // And the invalid one, which was not accepted.
    assert_eq!(of("rejected"), metrics.rejected + 1);
    assert_eq!(of("not_executed"), metrics.not_executed);
    assert_eq!(of("unknown"), metrics.unknown);
    expect(
        &mut told,
        &[
            ("", "done", "", 1),
            ("cancelled", "not_executed", "cancelled", 0),
            ("expired", "not_executed", "deadline_exceeded", 0),
            ("invalid", "rejected", "invalid_operation", 0),
            ("shed", "not_executed", "overloaded", 0),
            ("kept 1", "done", "", 1),
            ("kept 2", "done", "", 1),
            ("kept 3", "done", "", 1),
            ("begun", "unknown", "closed", 1),
            ("left", "not_executed", "closed", 0),
        ],
    );
    right(&folder.log());
}

/// A batch whose server is down tells of each of its operations, although none had a connection.
#[test]
fn operations_without_a_server() {
    let _alone = alone();
    let folder = Folder::new();
    let audit = Audit::builder(folder.log()).install().expect("installs");
    let (pool, script) = pool(1);
    drop(pool.get().expect("one"));
    script.down.store(true, std::sync::atomic::Ordering::SeqCst);
    drop(
        pool.get()
            .expect("the last one, which is found to be broken"),
    );
    let batch = Batch::builder(pool).workers(1).retry(RetryPolicy::new(1));
    let batch = batch.build().expect("starts");
    let submit = |number: u64| batch.submit(work(number).id(format!("{number}")).deadline(80 * MS));
    let tickets: Vec<_> = (0..20)
        .map(|number| submit(number).expect("room"))
        .collect();
    for ticket in tickets {
        assert!(ticket.wait().error().is_some());
    }
    let metrics = batch.close(Duration::from_secs(1));
    drop(audit);
    assert_eq!(metrics.not_executed, 20);
    let told = told(&folder.log());
    assert_eq!(told.len(), 20);
    assert!(
        told.values()
            .all(|told| told.0 == "not_executed" && told.2 == 0),
        "{told:?}"
    );
}
