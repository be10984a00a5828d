//! Random sequences of what callers and servers do to a batch, on one thread and on several at
//! once, against what must always hold: each operation has one outcome, and the right one; the
//! figures add up; operations of a key run in their order; the bounds hold; nothing is left.

use std::collections::HashMap;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use millpond::batch::{Batch, Flush, WhenFull};
use millpond::{Operation, Outcome, Priority, RetryPolicy};
use proptest::prelude::*;

use work::{Act, Scripted, pool, quiet_panics, until, work};

mod work;

const MS: Duration = Duration::from_millis(1);

#[derive(Clone, Debug)]
enum Step {
    Submit {
        act: Act,
        priority: usize,
        key: Option<u8>,
        deadline: Option<u64>,
        idempotent: bool,
        /// Bytes beside its usual ones.
        more: usize,
    },
    /// Cancels the operation that this thread submitted so many before.
    Cancel(usize),
    Flush,
    /// Looks at the figures.
    Look,
    Close(u64),
    Freeze,
    Thaw,
    /// The server is away.
    Down,
    Up,
    Sleep,
}

#[derive(Clone, Debug)]
struct Setting {
    workers: usize,
    size: usize,
    room: usize,
    bytes: usize,
    when_full: WhenFull,
    flush: Flush,
    /// How long closing may take.
    close: u64,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        10 => Just(Act::Answer),
        3 => Just(Act::Refuse),
        2 => (1..4_u32).prop_map(Act::FailFirst),
        2 => (1..4_u32).prop_map(Act::DoubtFirst),
        1 => Just(Act::DoubtUnsaid),
        1 => Just(Act::DoubtThen(Box::new(Act::Refuse))),
        1 => (1..4_u32).prop_map(|times| Act::DoubtThen(Box::new(Act::FailFirst(times)))),
        1 => Just(Act::Panic),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let submit = (
        act(),
        0..4_usize,
        prop::option::weighted(0.4, 0..3_u8),
        prop::option::weighted(0.2, 0..30_u64),
        any::<bool>(),
        prop_oneof![4 => Just(0), 1 => 0..4000_usize],
    );
    prop_oneof![
        60 => submit.prop_map(|(act, priority, key, deadline, idempotent, more)| Step::Submit {
            act, priority, key, deadline, idempotent, more
        }),
        9 => (0..5_usize).prop_map(Step::Cancel),
        3 => Just(Step::Flush),
        6 => Just(Step::Look),
        1 => (0..20_u64).prop_map(Step::Close),
        3 => Just(Step::Freeze),
        6 => Just(Step::Thaw),
        3 => Just(Step::Down),
        6 => Just(Step::Up),
        9 => Just(Step::Sleep),
    ]
}

fn setting() -> impl Strategy<Value = Setting> {
    let when_full = prop_oneof![
        Just(WhenFull::Refuse),
        Just(WhenFull::Shed),
        Just(WhenFull::Block(5 * MS)),
    ];
    let flush = prop_oneof![3 => Just(Flush::WhenFree), 1 => Just(Flush::WhenDue)];
    let close = prop_oneof![3 => Just(5_000_u64), 1 => 0..40_u64];
    let bytes = prop_oneof![Just(1 << 20), 3000..20_000_usize];
    (
        1..4_usize,
        1..9_usize,
        1..30_usize,
        bytes,
        when_full,
        flush,
        close,
    )
        .prop_map(
            |(workers, size, room, bytes, when_full, flush, close)| Setting {
                workers,
                size,
                room,
                bytes,
                when_full,
                flush,
                close,
            },
        )
}

/// An operation that was accepted: what it was to do, its key, and what became of it.
struct Accepted {
    number: u64,
    act: Act,
    idempotent: bool,
    key: Option<String>,
    outcomes: Arc<Mutex<Vec<Outcome<u64>>>>,
}

const PRIORITIES: [Priority; 4] = [
    Priority::Low,
    Priority::Normal,
    Priority::High,
    Priority::Critical,
];

/// Does what the steps say, as thread number `thread`; gives what was accepted, and how many
/// were not.
fn play(
    setting: &Setting,
    batch: &Batch<Scripted>,
    script: &work::Script,
    thread: u64,
    steps: &[Step],
) -> (Vec<Accepted>, u64) {
    let (mut accepted, mut tickets, mut refused) = (Vec::new(), Vec::new(), 0);
    for (number, step) in (1..).zip(steps) {
        match step {
            Step::Submit {
                act,
                priority,
                key,
                deadline,
                idempotent,
                more,
            } => {
                let number = thread * 1_000_000 + number;
                let mut operation = work(number)
                    .act(act.clone())
                    .priority(PRIORITIES[*priority])
                    .idempotent(*idempotent)
                    .comment("x".repeat(*more));
                // Each thread has keys of its own, so that the order is known.
                let key = key.map(|key| format!("{thread}-{key}"));
                if let Some(key) = &key {
                    operation = operation.ordering_key(key.as_str());
                }
                if let Some(deadline) = deadline {
                    operation = operation.deadline(Duration::from_millis(*deadline));
                }
                let Ok(ticket) = batch.submit(operation) else {
                    refused += 1;
                    continue;
                };
                tickets.push(ticket);
                accepted.push(Accepted {
                    number,
                    act: act.clone(),
                    idempotent: *idempotent,
                    key,
                    outcomes: Arc::default(),
                });
            }
            Step::Cancel(back) => {
                if let Some(ticket) = tickets.iter().rev().nth(*back) {
                    ticket.cancel();
                }
            }
            Step::Flush => batch.flush(),
            Step::Look => check_bounds(batch, setting),
            Step::Close(limit) => drop(batch.close(Duration::from_millis(*limit))),
            Step::Freeze => script.freeze(),
            Step::Thaw => script.thaw(),
            Step::Down => script.down.store(true, SeqCst),
            Step::Up => script.down.store(false, SeqCst),
            Step::Sleep => std::thread::sleep(MS),
        }
    }
    for (ticket, accepted) in tickets.into_iter().zip(&accepted) {
        let outcomes = Arc::clone(&accepted.outcomes);
        ticket.on_outcome(move |outcome| outcomes.lock().expect("no poison").push(outcome));
    }
    (accepted, refused)
}

fn run(setting: &Setting, threads: &[Vec<Step>]) {
    let (pool, script) = pool(2);
    let batch = Batch::builder(pool.clone())
        .workers(setting.workers)
        .size(setting.size)
        .max_operations(setting.room)
        .max_bytes(setting.bytes)
        .when_full(setting.when_full)
        .flush(setting.flush)
        .timeout(3 * MS)
        .retry(RetryPolicy::new(3).longest_pause(2 * MS))
        .build()
        .expect("starts");
    let played: Vec<_> = std::thread::scope(|scope| {
        let (batch, script) = (&batch, &*script);
        let players: Vec<_> = (1..)
            .zip(threads)
            .map(|(number, steps)| scope.spawn(move || play(setting, batch, script, number, steps)))
            .collect();
        let players = players.into_iter();
        players
            .map(|player| player.join().expect("no panic"))
            .collect()
    });
    if setting.close > 1000 {
        script.thaw();
        script.down.store(false, SeqCst);
    }
    let metrics = batch.close(Duration::from_millis(setting.close));
    // For a worker that is still at a frozen server.
    script.thaw();
    let accepted: Vec<_> = played.iter().flat_map(|(accepted, _)| accepted).collect();
    let refused: u64 = played.iter().map(|(_, refused)| refused).sum();

    assert_eq!(
        (metrics.submitted, metrics.refused),
        (accepted.len() as u64, refused)
    );
    let mut counts = [0; 4];
    for operation in &accepted {
        // Callbacks may still be on their way.
        until("the outcome", || {
            !operation.outcomes.lock().expect("no poison").is_empty()
        });
        let outcomes = operation.outcomes.lock().expect("no poison");
        let effects = script.effects.lock().expect("no poison");
        let [outcome] = &outcomes[..] else {
            panic!("{} has {} outcomes", operation.number, outcomes.len());
        };
        let number = operation.number;
        let kind = match (outcome, &operation.act) {
            (Outcome::Done(reply), act) => {
                assert_eq!(*reply, number * 2);
                assert!(
                    !matches!(act, Act::Refuse | Act::Panic),
                    "{number}: {act:?}"
                );
                0
            }
            (Outcome::Rejected(error), act) => {
                assert_eq!(*act, Act::Refuse, "{number}: {error}");
                1
            }
            (Outcome::NotExecuted(error), act) => {
                assert!(!effects.contains_key(&number), "{number}: {act:?}, {error}");
                2
            }
            (Outcome::Unknown(_), _) => 3,
        };
        counts[kind] += 1;
        let effects = effects.get(&number).copied().unwrap_or(0);
        assert!(
            effects <= 1 || operation.idempotent,
            "{number}, {:?}, was repeated",
            operation.act
        );
    }
    let told = [
        metrics.done,
        metrics.rejected,
        metrics.not_executed,
        metrics.unknown,
    ];
    assert_eq!(told, counts);
    assert_eq!(
        (metrics.queued, metrics.queued_bytes),
        (0, 0),
        "{metrics:?}"
    );
    assert_eq!(metrics.queued_by_priority, [0; 4]);
    check_order(&script.order(), &accepted);
    assert!(batch.submit(work(1)).is_err(), "it is closed");
    drop(batch);
    until("the leases are back", || pool.state().leased == 0);
}

/// The queue is within its bounds, and no outcome is counted without its operation.
fn check_bounds(batch: &Batch<Scripted>, setting: &Setting) {
    let metrics = batch.metrics();
    let over = metrics.done + metrics.rejected + metrics.not_executed + metrics.unknown;
    assert!(over <= metrics.submitted, "{metrics}");
    // Those that are tried again come back in any case, and what is to be shed is let in first.
    if metrics.retries == 0 && setting.when_full != WhenFull::Shed {
        assert!(metrics.queued <= setting.room, "{metrics}");
        assert!(metrics.queued_bytes <= setting.bytes, "{metrics}");
    }
}

/// Operations of one key ran in the order of their submission.
fn check_order(order: &[u64], accepted: &[&Accepted]) {
    let key_of: HashMap<u64, &str> = accepted
        .iter()
        .filter_map(|operation| Some((operation.number, operation.key.as_deref()?)))
        .collect();
    let mut last: HashMap<&str, u64> = HashMap::new();
    for number in order {
        if let Some(key) = key_of.get(number) {
            let before = last.insert(key, *number).unwrap_or(0);
            assert!(
                before <= *number,
                "{number} ran after {before}, both of key {key}"
            );
        }
    }
}

/// Threads of this process whose name says that they are a batch's.
fn batch_threads() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").expect("Linux");
    let name = |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("comm")).ok();
    tasks
        .filter_map(|task| name(task.ok()?))
        .filter(|name| name.starts_with("millpond-batch"))
        .count()
}

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

#[test]
fn one_thread() {
    quiet_panics();
    let steps = prop::collection::vec(step(), 1..60);
    proptest!(config(250), |(setting in setting(), steps in steps)| {
        run(&setting, &[steps]);
    });
    until("the threads end", || batch_threads() == 0);
}

#[test]
fn three_threads() {
    quiet_panics();
    let steps = prop::collection::vec(prop::collection::vec(step(), 1..40), 3);
    proptest!(config(150), |(setting in setting(), threads in steps)| {
        run(&setting, &threads);
    });
}
