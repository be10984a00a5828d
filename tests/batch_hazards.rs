//! What a batch's threads, its tickets and its figures must stand: ends at awkward moments,
//! attempts of which nobody knows, callbacks that come back to the batch, settings at their
//! limits.

use std::sync::atomic::Ordering::SeqCst;
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use millpond::batch::{Batch, Flush, WhenFull, wait_all};
use millpond::{Error, ErrorKind, Operation, Outcome, Priority, RetryPolicy};

use work::{Act, held, pool, quiet_panics, until, work};

mod work;

const MS: Duration = Duration::from_millis(1);

/// The dispatcher that was about to fall asleep heard neither of a `close` nor of a
/// `flush`, and slept for an hour.
#[test]
fn closing_reaches_a_dispatcher_that_is_about_to_sleep() {
    let (pool, _) = pool(1);
    for number in 0..3000 {
        let batch = Batch::builder(pool.clone())
            .workers(1)
            .build()
            .expect("starts");
        let _ = batch.submit(work(number)).expect("room").wait();
        let start = Instant::now();
        batch.close(Duration::from_secs(5));
        assert!(
            start.elapsed() < Duration::from_secs(4),
            "closed by its limit, try {number}"
        );
    }
}

#[test]
fn a_flush_reaches_a_dispatcher_that_is_about_to_sleep() {
    let (pool, _) = pool(1);
    let patient = Batch::builder(pool).workers(1).flush(Flush::WhenDue);
    let batch = patient
        .timeout(Duration::from_secs(5))
        .build()
        .expect("starts");
    for number in 0..3000 {
        let ticket = batch.submit(work(number)).expect("room");
        batch.flush();
        let outcome = ticket.wait_timeout(Duration::from_secs(4));
        assert!(
            outcome.is_ok_and(|outcome| outcome.is_done()),
            "not flushed, try {number}"
        );
    }
}

/// After an attempt that may have had an effect, a later one that certainly had none, or was
/// refused, does not make it certain that the operation had none.
#[test]
fn doubt_outlives_later_attempts() {
    quiet_panics();
    let (pool, script) = pool(1);
    let policy = RetryPolicy::new(2).first_pause(MS);
    let batch = Batch::builder(pool.clone())
        .retry(policy.clone())
        .build()
        .expect("starts");
    for (number, then) in (1..).zip([Act::FailFirst(9), Act::Refuse, Act::Busy(0)]) {
        let doubtful = work(number)
            .act(Act::DoubtThen(Box::new(then.clone())))
            .idempotent(true);
        let outcome = batch.submit(doubtful).expect("room").wait();
        let Outcome::Unknown(error) = outcome else {
            panic!("{then:?}: {outcome:?}");
        };
        assert!(error.outcome_unknown(), "{error}");
    }
    let doubtful = work(10)
        .act(Act::DoubtThen(Box::new(Act::Answer)))
        .idempotent(true);
    assert!(batch.submit(doubtful).expect("room").wait().is_done());

    // The same by `execute`.
    let doubtful = work(11)
        .act(Act::DoubtThen(Box::new(Act::FailFirst(9))))
        .idempotent(true);
    let error = pool
        .execute(doubtful.retry(policy.clone()))
        .expect_err("lost twice");
    assert!(error.outcome_unknown(), "{error}");

    // No connection for the second attempt.
    script.freeze();
    let doubtful = work(12).act(Act::DoubtFirst(1)).idempotent(true);
    let ticket = batch.submit(doubtful.deadline(500 * MS)).expect("room");
    until("it is tried", || script.order().contains(&12));
    script.down.store(true, SeqCst);
    script.thaw();
    let outcome = ticket.wait();
    assert!(matches!(outcome, Outcome::Unknown(_)), "{outcome:?}");
    script.down.store(false, SeqCst);

    // It is not called off between later attempts either.
    let slow = RetryPolicy::new(9)
        .first_pause(20 * MS)
        .longest_pause(20 * MS);
    let doubtful = work(13).act(Act::DoubtThen(Box::new(Act::FailFirst(9))));
    let ticket = batch
        .submit(doubtful.idempotent(true).retry(slow))
        .expect("room");
    until("it was tried thrice", || {
        script.attempts.lock().expect("no poison").get(&13) >= Some(&3)
    });
    assert!(!ticket.cancel());
    let outcome = ticket.wait();
    assert!(matches!(outcome, Outcome::Unknown(_)), "{outcome:?}");
}

#[test]
fn what_a_backend_calls_unknown_is_not_tried_again() {
    let (batch, script, _first) = held(|batch| batch);
    // In one group, so that the outcomes are what the backend says.
    let unsaid = |number| {
        batch
            .submit(work(number).act(Act::DoubtUnsaid))
            .expect("room")
    };
    let tickets = [1, 2, 3].map(unsaid);
    script.thaw();
    for outcome in wait_all(tickets, |_| ()) {
        assert!(
            outcome.error().is_some_and(Error::outcome_unknown),
            "{outcome:?}"
        );
        assert!(matches!(outcome, Outcome::Unknown(_)));
    }
    let attempts = script.attempts.lock().expect("no poison");
    assert!(
        attempts.values().all(|attempts| *attempts == 1),
        "{attempts:?}"
    );
}

/// Groups that wait for company went whenever the deadline of an operation was near that
/// was done long since, and until then the dispatcher spun.
#[test]
fn deadlines_of_what_is_over_hurry_nobody() {
    let (pool, _) = pool(2);
    let patient = Batch::builder(pool)
        .workers(2)
        .flush(Flush::WhenDue)
        .size(2);
    let batch = patient.timeout(400 * MS).build().expect("starts");
    let two = [1, 2].map(|number| work(number).deadline(100 * MS));
    let start = Instant::now();
    let tickets = batch
        .submit_all(two)
        .into_iter()
        .map(|ticket| ticket.expect("room"));
    assert!(wait_all(tickets, |_| ()).iter().all(Outcome::is_done));
    let third = batch.submit(work(3)).expect("room");
    assert!(third.wait().is_done());
    let took = start.elapsed();
    assert!(took >= 390 * MS, "it waited for company for {took:?}");
    assert_eq!(batch.metrics().flushed.deadline, 0);
}

/// A callback on the only worker submits to a full queue, for which only that worker
/// could make room.
#[test]
fn a_callback_does_not_wait_for_room() {
    let (batch, script, first) = held(|batch| batch.max_operations(1));
    let second = batch.submit(work(1)).expect("room");
    let (tell, told) = channel();
    let again = batch.clone();
    first.on_outcome(move |_| {
        let start = Instant::now();
        let refused = again
            .submit(work(2))
            .map_err(|refused| refused.error().kind());
        tell.send((refused.map(drop), start.elapsed()))
            .expect("somebody listens");
    });
    script.thaw();
    let (refused, took) = told.recv_timeout(Duration::from_secs(10)).expect("told");
    assert_eq!(refused, Err(ErrorKind::Overloaded));
    assert!(took < Duration::from_secs(1), "{took:?}");
    assert!(second.wait().is_done());
}

/// The same with a ticket: it is told so by a panic, not by waiting for ever.
#[test]
fn a_callback_does_not_wait_for_a_ticket() {
    quiet_panics();
    let (batch, script, first) = held(|batch| batch.size(1));
    let second = batch.submit(work(1)).expect("room");
    let (tell, told) = channel();
    first.on_outcome(move |_| {
        let waited = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| second.wait()));
        tell.send(waited.is_err()).expect("somebody listens");
    });
    script.thaw();
    assert_eq!(told.recv_timeout(Duration::from_secs(10)), Ok(true));
    assert!(
        batch.submit(work(2)).expect("room").wait().is_done(),
        "it goes on"
    );
}

/// Whoever has its outcome finds figures that fit.
#[test]
fn figures_add_up_when_a_ticket_resolves() {
    let (pool, _) = pool(1);
    let batch = Batch::builder(pool).workers(1).build().expect("starts");
    for number in 0..500 {
        let (tell, told) = channel();
        let seen = batch.clone();
        let act = if number % 3 == 0 {
            Act::Refuse
        } else {
            Act::Answer
        };
        let ticket = batch.submit(work(number).act(act)).expect("room");
        ticket.on_outcome(move |_| tell.send(seen.metrics()).expect("somebody listens"));
        let metrics = told.recv().expect("told");
        let over = metrics.done + metrics.rejected;
        assert_eq!((metrics.submitted, over), (number + 1, number + 1));
        assert_eq!(
            (metrics.running, metrics.queued, metrics.queued_by_priority),
            (0, 0, [0; 4])
        );
    }
    // Cancelled before the dispatcher saw it.
    let (batch, script, _first) = held(|batch| batch);
    for number in 1..100 {
        let ticket = batch.submit(work(number)).expect("room");
        assert!(ticket.cancel());
        let metrics = batch.metrics();
        assert_eq!(
            (metrics.submitted, metrics.not_executed),
            (number + 1, number)
        );
        assert_eq!((metrics.queued, metrics.queued_bytes), (0, 0));
    }
    script.thaw();
}

/// What waits behind its key is shed by its priority as well.
#[test]
fn less_urgent_ones_behind_their_key_are_shed_first() {
    let (batch, script, first) = held(|batch| batch.max_operations(4).when_full(WhenFull::Shed));
    let low = |number| work(number).priority(Priority::Low).ordering_key("key");
    let keyed: Vec<_> = (1..4)
        .map(|number| batch.submit(low(number)).expect("let in"))
        .collect();
    batch.flush(); // has the dispatcher take them in
    until("they wait", || {
        batch.metrics().queued_by_priority == [0, 0, 0, 3]
    });
    let urgent = |number| {
        batch
            .submit(work(number).priority(Priority::Critical))
            .expect("let in")
    };
    let urgent: Vec<_> = (10..13).map(urgent).collect();
    let shed = |outcome: &Outcome<u64>| {
        outcome
            .error()
            .is_some_and(|error| error.kind() == ErrorKind::Overloaded)
    };
    until("there is room", || batch.metrics().queued == 4);
    script.thaw();
    assert!(first.wait().is_done());
    assert!(wait_all(urgent, |_| ()).iter().all(Outcome::is_done));
    let keyed: Vec<_> = wait_all(keyed, |_| ()).iter().map(shed).collect();
    assert_eq!(
        keyed,
        [false, true, true],
        "the youngest of the least urgent"
    );
}

/// One without a deadline is not put off for longer than the default one.
#[test]
fn a_server_cannot_put_an_operation_off_for_ever() {
    let (pool, _) = pool(1);
    let batch = Batch::builder(pool)
        .default_deadline(Some(Duration::from_secs(2)))
        .build()
        .expect("starts");
    let start = Instant::now();
    let outcome = batch
        .submit(work(1).act(Act::Busy(3600)))
        .expect("room")
        .wait();
    assert!(matches!(outcome, Outcome::NotExecuted(_)), "{outcome:?}");
    assert!(
        start.elapsed() < Duration::from_secs(3),
        "{:?}",
        start.elapsed()
    );
}

/// Many that find no room wait for it once, not each.
#[test]
fn submitting_many_waits_for_room_once() {
    let block = WhenFull::Block(100 * MS);
    let (batch, script, first) = held(|batch| batch.max_operations(1).when_full(block));
    let start = Instant::now();
    let submitted = batch.submit_all((1..31).map(work));
    assert!(
        start.elapsed() < Duration::from_secs(1),
        "{:?}",
        start.elapsed()
    );
    assert_eq!(
        submitted
            .iter()
            .filter(|submitted| submitted.is_ok())
            .count(),
        1
    );
    script.thaw();
    assert!(first.wait().is_done());
}

#[test]
fn settings_at_their_limits_work() {
    let (pool, _) = pool(1);
    let batch = Batch::builder(pool)
        .workers(1)
        .size(1)
        .max_operations(1)
        .timeout(Duration::MAX)
        .aging(Duration::ZERO)
        .latency_target(Duration::ZERO)
        .default_deadline(Some(Duration::MAX))
        .when_full(WhenFull::Block(Duration::MAX))
        .build()
        .expect("starts");
    thread::scope(|scope| {
        for thread in 0..3 {
            let batch = &batch;
            scope.spawn(move || {
                for number in 0..200 {
                    let work = work(thread * 1000 + number).deadline(Duration::MAX);
                    assert!(batch.submit(work).expect("room").wait().is_done());
                }
            });
        }
    });
    let late = batch
        .submit(work(9999).deadline(Duration::ZERO))
        .map(millpond::Ticket::wait);
    assert!(matches!(late, Ok(Outcome::NotExecuted(_))), "{late:?}");
    let metrics = batch.close(Duration::MAX);
    assert_eq!(
        (metrics.done, metrics.not_executed, metrics.queued),
        (600, 1, 0)
    );
    // Once more, and from several threads at once.
    thread::scope(|scope| {
        for limit in [Duration::ZERO, Duration::MAX] {
            let batch = &batch;
            scope.spawn(move || batch.close(limit));
        }
    });
}

#[test]
fn a_name_that_no_thread_can_have_is_refused() {
    let error = Batch::builder(pool(1).0)
        .name("a\0b")
        .build()
        .expect_err("cannot work");
    assert_eq!(error.kind(), ErrorKind::Configuration);
}
