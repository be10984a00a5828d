//! The queue that processes share: what is submitted is executed, settled, given up or taken over,
//! on a real Redis.

mod work;

use std::sync::Arc;
use std::time::Duration;

use millpond::shared_queue::{Delivery, SharedQueue, SharedQueueBuilder};
use millpond::{Batch, ErrorKind, Operation, Outcome, Pool, Redis, RedisConfig, RetryPolicy};

use self::work::{Act, Script, Scripted, Work, until, work};

const PATIENCE: Duration = Duration::from_secs(10);

fn redis_pool(server: &testbed::Redis) -> Pool<Redis> {
    let config = RedisConfig::from_url(&server.url()).expect("a good URL");
    let manager = Redis::new(config).expect("good settings");
    let pool = Pool::builder().max_size(8).min_idle(Some(0)).build(manager);
    pool.expect("opens")
}

fn builder(name: &str) -> SharedQueueBuilder<Scripted> {
    SharedQueue::builder(redis_pool(testbed::Redis::shared()), name)
        .claim_after(Duration::from_millis(300))
}

fn queue(name: &str) -> SharedQueue<Scripted> {
    builder(name).build().expect("a stream")
}

fn batch() -> (Batch<Scripted>, Arc<Script>) {
    let (pool, script) = work::pool(4);
    let batch = Batch::builder(pool).retry(RetryPolicy::never()).build();
    (batch.expect("starts"), script)
}

fn submit(queue: &SharedQueue<Scripted>, work: Work) -> String {
    let ticket = queue.submit(work).expect("valid");
    let reply = ticket.wait().into_result().expect("Redis takes it");
    reply.as_text().expect("an id").to_owned()
}

fn effects(script: &Script, number: u64) -> u32 {
    let effects = script.effects.lock().expect("no poison");
    effects.get(&number).copied().unwrap_or_default()
}

/// Another process takes what there is, and dies.
fn take_and_die(name: &str) {
    let key = format!("millpond:{{{name}}}");
    let taken = testbed::Redis::shared().cli(&[
        "XREADGROUP",
        "GROUP",
        "workers",
        "the-dead",
        "STREAMS",
        &key,
        ">",
    ]);
    assert!(taken.expect("there is a group").contains("op"));
}

#[test]
fn what_is_submitted_anywhere_is_executed_somewhere() {
    let (here, there) = (queue("spread"), queue("spread"));
    let (first, second) = (batch(), batch());
    let workers = [&first, &second].map(|(batch, _)| there.work(batch).expect("starts"));
    let tickets: Vec<_> = (0..2000)
        .map(|number| here.submit(work(number)).expect("valid"))
        .collect();
    for ticket in tickets {
        assert!(ticket.wait().is_done());
    }
    until("nothing is left", || {
        here.depth().expect("answers").entries == 0
    });
    let metrics = workers.map(|worker| worker.stop(PATIENCE));
    assert_eq!(metrics.iter().map(|one| one.done).sum::<u64>(), 2000);
    for number in 0..2000 {
        let times = effects(&first.1, number) + effects(&second.1, number);
        assert_eq!(times, 1, "of {number}");
    }
    let depth = here.depth().expect("answers");
    assert_eq!((depth.taken, depth.dead, depth.perhaps_twice), (0, 0, 0));
    // Whoever leaves with nothing leaves nothing behind.
    let key = "millpond:{spread}";
    let consumers = testbed::Redis::shared().cli(&["XINFO", "CONSUMERS", key, "workers"]);
    assert_eq!(consumers.expect("answers").trim(), "");
}

#[test]
fn one_with_an_id_is_queued_once() {
    let queue = queue("once");
    let first = submit(&queue, work(1).id("order 1"));
    let again = submit(&queue, work(1).id("order 1"));
    assert_eq!(first, again);
    let other = submit(&queue, work(1).id("order 2"));
    assert_ne!(first, other);
    assert_eq!(queue.depth().expect("answers").entries, 2);
    // Also once it is done.
    let (batch, script) = batch();
    let worker = queue.work(&batch).expect("starts");
    until("nothing is left", || {
        queue.depth().expect("answers").entries == 0
    });
    assert_eq!(submit(&queue, work(1).id("order 1")), first);
    assert_eq!(queue.depth().expect("answers").entries, 0);
    worker.stop(PATIENCE);
    assert_eq!(effects(&script, 1), 2);
}

#[test]
fn a_full_queue_takes_no_more_until_there_is_room() {
    let queue = builder("full").max_length(3).build().expect("a stream");
    for number in 0..3 {
        submit(&queue, work(number));
    }
    let outcome = queue.submit(work(3)).expect("valid").wait();
    let Outcome::NotExecuted(error) = outcome else {
        panic!("{outcome:?}");
    };
    assert_eq!(error.kind(), ErrorKind::Overloaded);
    assert!(error.to_string().contains("max_length"), "{error}");
    let (batch, _) = batch();
    let worker = queue.work(&batch).expect("starts");
    until("there is room", || {
        queue.depth().expect("answers").entries == 0
    });
    submit(&queue, work(3));
    worker.stop(PATIENCE);
}

#[test]
fn what_cannot_be_is_refused_at_once() {
    let queue = queue("refused");
    let refused = queue.submit(work(u64::MAX)).expect_err("not valid");
    assert_eq!(refused.error().kind(), ErrorKind::InvalidOperation);
    assert_eq!(refused.into_operation().number, u64::MAX);
    for name in ["", "a b", "{x}", &"n".repeat(129)] {
        let redis = redis_pool(testbed::Redis::shared());
        let error = SharedQueue::<Scripted>::builder(redis, name).build();
        assert_eq!(
            error.expect_err(name).kind(),
            ErrorKind::Configuration,
            "{name:?}"
        );
    }
}

#[test]
fn what_its_server_refuses_becomes_a_dead_letter() {
    let queue = queue("dead");
    let entry = submit(&queue, work(1).act(Act::Refuse).id("poison"));
    submit(&queue, work(2));
    let (batch, script) = batch();
    let worker = queue.work(&batch).expect("starts");
    until("nothing is left", || {
        queue.depth().expect("answers").entries == 0
    });
    let metrics = worker.stop(PATIENCE);
    assert_eq!((metrics.done, metrics.dead), (1, 1));
    assert_eq!(effects(&script, 2), 1);
    let letters = queue.dead_letters(10).expect("answers");
    let [letter] = &letters[..] else {
        panic!("{letters:?}");
    };
    assert_eq!(letter.entry, entry);
    assert_eq!(letter.kind, "constraint");
    assert!(letter.why.contains("scripted"), "{}", letter.why);
    assert_eq!(letter.deliveries, 1);
    let operation = letter.operation.as_ref().expect("readable");
    assert_eq!(operation.envelope().id(), Some("poison"));
    assert!(queue.forget(&letter.id).expect("answers"));
    assert!(!queue.forget(&letter.id).expect("answers"));
    assert_eq!(queue.depth().expect("answers").dead, 0);
}

#[test]
fn what_the_dead_had_taken_is_taken_over() {
    let queue = queue("heirs");
    submit(&queue, work(1));
    submit(&queue, work(2).idempotent(true));
    take_and_die("heirs");
    let (batch, script) = batch();
    let worker = queue.work(&batch).expect("starts");
    until("nothing is left", || {
        queue.depth().expect("answers").entries == 0
    });
    let metrics = worker.stop(PATIENCE);
    assert_eq!((metrics.taken_over, metrics.done), (2, 2));
    assert_eq!((effects(&script, 1), effects(&script, 2)), (1, 1));
    // The dead may have executed the first.
    assert_eq!(metrics.perhaps_twice, 1);
    assert_eq!(queue.depth().expect("answers").perhaps_twice, 1);
}

#[test]
fn at_most_once_gives_up_what_the_dead_may_have_done() {
    let queue = builder("careful")
        .delivery(Delivery::AtMostOnce)
        .build()
        .expect("a stream");
    submit(&queue, work(1));
    submit(&queue, work(2).idempotent(true));
    take_and_die("careful");
    submit(&queue, work(3).act(Act::DoubtFirst(1)));
    let (batch, script) = batch();
    let worker = queue.work(&batch).expect("starts");
    until("nothing is left", || {
        queue.depth().expect("answers").entries == 0
    });
    let metrics = worker.stop(PATIENCE);
    assert_eq!((metrics.done, metrics.dead), (1, 2));
    assert_eq!((effects(&script, 1), effects(&script, 2)), (0, 1));
    assert_eq!(effects(&script, 3), 1, "not tried again");
    assert_eq!(queue.depth().expect("answers").perhaps_twice, 0);
}

#[test]
fn who_is_slow_but_alive_keeps_what_it_has() {
    let queue = queue("slow");
    let (slow, slow_script) = batch();
    let (quick, quick_script) = batch();
    // Four times as long as the dead are given.
    *slow_script.pause.lock().expect("no poison") = Duration::from_millis(1200);
    submit(&queue, work(1));
    let first = queue.work(&slow).expect("starts");
    until("it has begun", || slow_script.groups().len() == 1);
    let second = queue.work(&quick).expect("starts");
    until("nothing is left", || {
        queue.depth().expect("answers").entries == 0
    });
    assert_eq!(second.stop(PATIENCE).taken_over, 0);
    assert_eq!(first.stop(PATIENCE).done, 1);
    assert_eq!(
        (effects(&slow_script, 1), effects(&quick_script, 1)),
        (1, 0)
    );
}

#[test]
fn what_kills_its_workers_is_given_up() {
    let queue = builder("killer")
        .max_deliveries(2)
        .build()
        .expect("a stream");
    let id = submit(&queue, work(1).idempotent(true));
    take_and_die("killer");
    let server = testbed::Redis::shared();
    let key = "millpond:{killer}";
    let claim = [
        "XCLAIM",
        key,
        "workers",
        "the-dead",
        "0",
        &id,
        "RETRYCOUNT",
        "2",
    ];
    server.cli(&claim).expect("claims");
    let (batch, script) = batch();
    let worker = queue.work(&batch).expect("starts");
    until("it is given up", || {
        queue.depth().expect("answers").dead == 1
    });
    worker.stop(PATIENCE);
    assert_eq!(effects(&script, 1), 0);
    let letters = queue.dead_letters(1).expect("answers");
    assert!(letters[0].why.contains("max_deliveries"), "{letters:?}");
    assert_eq!(letters[0].deliveries, 3);
}

#[test]
fn a_server_that_is_away_costs_no_operation_its_deliveries() {
    let queue = builder("away").max_deliveries(2).build().expect("a stream");
    for number in 0..20 {
        submit(&queue, work(number).act(Act::FailFirst(4)));
    }
    let (batch, _) = batch();
    let worker = queue.work(&batch).expect("starts");
    until("nothing is left", || {
        queue.depth().expect("answers").entries == 0
    });
    let metrics = worker.stop(PATIENCE);
    assert_eq!((metrics.done, metrics.dead), (20, 0), "{metrics}");
    assert_eq!(
        (metrics.put_back, metrics.perhaps_twice),
        (80, 0),
        "{metrics}"
    );
}

#[test]
fn what_comes_too_late_is_not_executed() {
    let queue = queue("late");
    submit(&queue, work(1).deadline(Duration::from_millis(100)));
    submit(&queue, work(2).deadline(Duration::from_secs(60)));
    std::thread::sleep(Duration::from_millis(150));
    let (batch, script) = batch();
    let worker = queue.work(&batch).expect("starts");
    until("nothing is left", || {
        queue.depth().expect("answers").entries == 0
    });
    worker.stop(PATIENCE);
    assert_eq!((effects(&script, 1), effects(&script, 2)), (0, 1));
    let letters = queue.dead_letters(10).expect("answers");
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0].kind, "deadline_exceeded");
}

#[test]
fn what_is_no_operation_is_put_aside() {
    let queue = queue("noise");
    let server = testbed::Redis::shared();
    let key = "millpond:{noise}";
    server
        .cli(&["XADD", key, "*", "op", "{\"secret\":"])
        .expect("appends");
    server.cli(&["XADD", key, "*", "x", "y"]).expect("appends");
    submit(&queue, work(1));
    let (batch, script) = batch();
    let worker = queue.work(&batch).expect("starts");
    until("nothing is left", || {
        queue.depth().expect("answers").entries == 0
    });
    assert_eq!(worker.stop(PATIENCE).dead, 2);
    assert_eq!(effects(&script, 1), 1);
    for letter in queue.dead_letters(10).expect("answers") {
        assert!(letter.operation.is_none());
        assert_eq!(letter.kind, "invalid_operation");
        assert!(!letter.why.contains("secret"), "{}", letter.why);
    }
}

#[test]
fn stopping_leaves_the_rest_to_others() {
    let queue = builder("handover").prefetch(5).build().expect("a stream");
    let (slow, script) = batch();
    script.freeze();
    for number in 0..50 {
        submit(&queue, work(number));
    }
    let worker = queue.work(&slow).expect("starts");
    until("it has taken what it may", || worker.metrics().taken == 5);
    let start = std::time::Instant::now();
    let metrics = worker.stop(Duration::from_millis(300));
    assert!(start.elapsed() < Duration::from_secs(2));
    assert_eq!((metrics.taken, metrics.done), (5, 0));
    let (other, others) = batch();
    let heir = queue.work(&other).expect("starts");
    until("nothing is left", || {
        queue.depth().expect("answers").entries == 0
    });
    heir.stop(PATIENCE);
    for number in 0..50 {
        assert_eq!(effects(&others, number), 1, "of {number}");
    }
    script.thaw();
}

#[test]
fn a_server_that_forgot_everything_is_set_up_again() {
    let server = testbed::Redis::start().expect("starts");
    let queue = SharedQueue::<Scripted>::builder(redis_pool(&server), "reborn")
        .claim_after(Duration::from_millis(300))
        .build()
        .expect("a stream");
    let (batch, script) = batch();
    let worker = queue.work(&batch).expect("starts");
    submit(&queue, work(1));
    until("it is done", || effects(&script, 1) == 1);
    server.kill();
    server.restart().expect("starts again");
    until("it can be submitted to again", || {
        queue
            .submit(work(2).id("2"))
            .expect("valid")
            .wait()
            .is_done()
    });
    until("it is done", || effects(&script, 2) == 1);
    worker.stop(PATIENCE);
}

#[test]
fn a_closed_batch_ends_its_worker_and_loses_nothing() {
    let queue = queue("closed");
    let (closed, _) = batch();
    closed.close(PATIENCE);
    let worker = queue.work(&closed).expect("starts");
    for number in 0..10 {
        submit(&queue, work(number));
    }
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(worker.stop(PATIENCE).done, 0);
    assert_eq!(queue.depth().expect("answers").entries, 10);
    let (open, script) = batch();
    let heir = queue.work(&open).expect("starts");
    until("nothing is left", || {
        queue.depth().expect("answers").entries == 0
    });
    heir.stop(PATIENCE);
    assert_eq!(
        (0..10).map(|number| effects(&script, number)).sum::<u32>(),
        10
    );
}
