//! The batch engine's own logic, on a backend that does what each operation says.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use millpond::batch::{Batch, Flush, WhenFull, read_json_lines, wait_all};
use millpond::{ErrorKind, Operation, Outcome, Priority, RetryPolicy};

use work::{Act, Work, held, pool, quiet_panics, until, work};

mod work;

#[test]
fn every_operation_gets_its_own_reply() {
    let (pool, _) = pool(2);
    let batch = Batch::builder(pool).workers(2).build().expect("starts");
    thread::scope(|scope| {
        for thread in 0..4 {
            let batch = &batch;
            scope.spawn(move || {
                let numbers = thread * 1000..(thread + 1) * 1000;
                let submitted = batch.submit_all(numbers.clone().map(work));
                let tickets = submitted
                    .into_iter()
                    .map(|ticket| ticket.expect("room in time"));
                let mut last = None;
                let outcomes = wait_all(tickets, |progress| last = Some(progress));
                for (number, outcome) in numbers.zip(outcomes) {
                    assert_eq!(outcome.into_result().expect("done"), number * 2);
                }
                let last = last.expect("told at the end");
                assert_eq!((last.settled, last.done, last.total), (1000, 1000, 1000));
            });
        }
    });
    let metrics = batch.close(Duration::from_secs(1));
    assert_eq!(
        (metrics.submitted, metrics.done, metrics.queued),
        (4000, 4000, 0)
    );
    assert!(metrics.groups < 4000, "{metrics}");
}

#[test]
fn a_lone_operation_waits_for_nothing() {
    let (pool, _) = pool(1);
    let batch = Batch::builder(pool)
        .timeout(Duration::from_secs(60))
        .build()
        .expect("starts");
    let start = Instant::now();
    assert!(batch.submit(work(1)).expect("room").wait().is_done());
    assert!(start.elapsed() < Duration::from_secs(1));
    assert_eq!(batch.metrics().flushed.free, 1);
}

#[test]
fn groups_that_wait_for_company_go_when_full_due_asked_or_urgent() {
    let (pool, script) = pool(1);
    let patient = Batch::builder(pool)
        .flush(Flush::WhenDue)
        .timeout(Duration::from_millis(150))
        .size(5);
    let batch = patient.build().expect("starts");
    let submit = |numbers: std::ops::Range<u64>| {
        let tickets = batch.submit_all(numbers.map(work));
        tickets
            .into_iter()
            .map(|ticket| ticket.expect("room"))
            .collect::<Vec<_>>()
    };
    let start = Instant::now();
    wait_all(submit(0..5), |_| ());
    assert!(start.elapsed() < Duration::from_millis(100), "full");

    let start = Instant::now();
    wait_all(submit(5..8), |_| ());
    assert!(start.elapsed() >= Duration::from_millis(140), "due");

    let start = Instant::now();
    let tickets = submit(8..10);
    batch.flush();
    wait_all(tickets, |_| ());
    assert!(start.elapsed() < Duration::from_millis(100), "asked");

    let start = Instant::now();
    let urgent = work(10).deadline(Duration::from_millis(60));
    assert!(batch.submit(urgent).expect("room").wait().is_done());
    assert!(start.elapsed() < Duration::from_millis(100), "urgent");

    let flushed = batch.metrics().flushed;
    assert_eq!(
        (flushed.full, flushed.due, flushed.asked, flushed.deadline),
        (1, 1, 1, 1)
    );
    assert_eq!(
        script.groups().iter().map(Vec::len).collect::<Vec<_>>(),
        [5, 3, 2, 1]
    );
}

#[test]
fn urgent_ones_go_first_and_nobody_starves() {
    let aging = Duration::from_millis(100);
    let (batch, script, first) = held(|batch| batch.size(4).aging(aging));
    let mut tickets = vec![first];
    for (number, priority) in (1..).zip([
        Priority::Low,
        Priority::Normal,
        Priority::High,
        Priority::Critical,
    ]) {
        tickets.push(batch.submit(work(number).priority(priority)).expect("room"));
    }
    script.thaw();
    wait_all(tickets, |_| ());
    assert_eq!(script.order(), [0, 4, 3, 2, 1]);

    // Low ones that are due get half of each group of four.
    let (batch, script, first) = held(|batch| batch.size(4).aging(aging));
    let mut tickets = vec![first];
    let mut submit = |numbers: std::ops::Range<u64>, priority| {
        for number in numbers {
            tickets.push(batch.submit(work(number).priority(priority)).expect("room"));
        }
    };
    submit(10..13, Priority::Low);
    submit(20..26, Priority::Critical);
    until("the dispatcher has them", || {
        batch.metrics().queued_by_priority == [6, 0, 0, 3]
    });
    thread::sleep(aging * 2);
    script.thaw();
    wait_all(tickets, |_| ());
    let groups = script.groups();
    assert_eq!(groups[1], [10, 11, 20, 21]);
    assert_eq!(groups[2], [12, 22, 23, 24]);
}

#[test]
fn the_same_ordering_key_means_the_order_of_submission() {
    let (pool, script) = pool(4);
    let batch = Batch::builder(pool)
        .workers(4)
        .size(8)
        .build()
        .expect("starts");
    let mut tickets = Vec::new();
    for number in 0..300 {
        let priority = Priority::ALL[number as usize % 4];
        let act = if number % 50 == 7 {
            Act::FailFirst(1)
        } else {
            Act::Answer
        };
        let policy = RetryPolicy::new(3).first_pause(Duration::from_millis(2));
        let work = work(number).act(act).retry(policy).priority(priority);
        tickets.push(
            batch
                .submit(work.ordering_key(format!("key {}", number % 3)))
                .expect("room"),
        );
    }
    let outcomes = wait_all(tickets, |_| ());
    assert!(outcomes.iter().all(Outcome::is_done));
    let order = script.order();
    for key in 0..3 {
        let mut of_key: Vec<_> = order.iter().filter(|number| *number % 3 == key).collect();
        of_key.dedup(); // one that is tried again comes twice in a row
        assert!(of_key.is_sorted(), "{of_key:?}");
        assert_eq!(of_key.len(), 100);
    }
}

#[test]
fn a_full_queue_refuses_blocks_or_sheds() {
    let (batch, script, first) = held(|batch| batch.max_operations(3).when_full(WhenFull::Refuse));
    let tickets: Vec<_> = (1..4)
        .map(|number| batch.submit(work(number)).expect("room"))
        .collect();
    let refused = batch.submit(work(4)).expect_err("full");
    assert_eq!(refused.error().kind(), ErrorKind::Overloaded);
    assert!(
        refused.to_string().contains("BATCH_MAX_OPERATIONS"),
        "{refused}"
    );
    assert_eq!(refused.into_operation().number, 4);
    script.thaw();
    assert!(first.wait().is_done());
    assert!(wait_all(tickets, |_| ()).iter().all(Outcome::is_done));
    assert_eq!(batch.metrics().refused, 1);

    let block = WhenFull::Block(Duration::from_millis(100));
    let (batch, script, _first) = held(|batch| batch.max_operations(1).when_full(block));
    let second = batch.submit(work(1)).expect("room");
    let start = Instant::now();
    let refused = batch.submit(work(2)).expect_err("still full");
    assert_eq!(refused.error().kind(), ErrorKind::Overloaded);
    assert!(start.elapsed() >= Duration::from_millis(100));
    let thaw = thread::spawn(move || {
        thread::sleep(Duration::from_millis(20));
        script.thaw();
    });
    let third = batch.submit(work(3)).expect("room after the thaw");
    assert!(second.wait().is_done() && third.wait().is_done());
    thaw.join().expect("no panic");

    let (batch, script, _first) = held(|batch| batch.max_operations(3).when_full(WhenFull::Shed));
    let low: Vec<_> = (1..4)
        .map(|number| {
            batch
                .submit(work(number).priority(Priority::Low))
                .expect("let in")
        })
        .collect();
    let high = batch
        .submit(work(10).priority(Priority::High))
        .expect("let in");
    let lowest = batch
        .submit(work(11).priority(Priority::Low))
        .expect("let in");
    let shed = lowest.wait();
    assert_eq!(shed.error().expect("shed").kind(), ErrorKind::Overloaded);
    assert!(matches!(shed, Outcome::NotExecuted(_)));
    script.thaw();
    assert!(high.wait().is_done());
    let outcomes = wait_all(low, |_| ());
    let done: Vec<_> = outcomes.iter().map(Outcome::is_done).collect();
    assert_eq!(
        done,
        [true, true, false],
        "the youngest of the lowest gave way"
    );
}

#[test]
fn the_queue_is_bounded_by_bytes_too() {
    let (batch, script, first) = held(|batch| batch.max_bytes(2000).when_full(WhenFull::Refuse));
    let mut tickets = vec![first];
    let refused = loop {
        match batch.submit(work(tickets.len() as u64)) {
            Ok(ticket) => tickets.push(ticket),
            Err(refused) => break refused,
        }
    };
    assert!((2..20).contains(&tickets.len()), "{}", tickets.len());
    assert!(refused.to_string().contains("BATCH_MAX_BYTES"), "{refused}");
    let monster = work(99).comment("x".repeat(3000));
    let refused = batch.submit(monster).expect_err("larger than the queue");
    assert_eq!(refused.error().kind(), ErrorKind::InvalidOperation);
    script.thaw();
    assert!(wait_all(tickets, |_| ()).iter().all(Outcome::is_done));
    assert_eq!(batch.metrics().queued_bytes, 0);
}

#[test]
fn what_was_not_begun_can_be_cancelled_and_leaves_room() {
    let (batch, script, first) = held(|batch| batch.max_operations(2).when_full(WhenFull::Refuse));
    let second = batch.submit(work(1)).expect("room");
    let third = batch.submit(work(2)).expect("room");
    assert!(batch.submit(work(3)).is_err());
    assert!(!first.cancel(), "it is being executed");
    assert!(second.cancel());
    assert!(!second.cancel(), "only once");
    let outcome = second.wait();
    assert!(
        matches!(&outcome, Outcome::NotExecuted(error) if error.kind() == ErrorKind::Cancelled)
    );
    let fourth = batch.submit(work(4)).expect("room again");
    script.thaw();
    assert!(first.wait().is_done() && third.wait().is_done() && fourth.wait().is_done());
    assert!(!script.order().contains(&1));
    let metrics = batch.metrics();
    assert_eq!(
        (metrics.done, metrics.not_executed, metrics.queued),
        (3, 1, 0)
    );
}

#[test]
fn deadlines_hold_in_the_queue_and_at_a_frozen_server() {
    let (batch, script, first) = held(|batch| batch.size(2));
    let limit = Duration::from_millis(150);
    let start = Instant::now();
    let queued = batch.submit(work(1).deadline(limit)).expect("room");
    let outcome = queued.wait();
    let took = start.elapsed();
    assert!(
        matches!(&outcome, Outcome::NotExecuted(error) if error.kind() == ErrorKind::DeadlineExceeded)
    );
    assert!(
        took >= limit && took < limit + Duration::from_millis(100),
        "{took:?}"
    );

    // In one group with one that has a minute: known by its own deadline all the same.
    script.thaw();
    assert!(first.wait().is_done());
    script.freeze();
    let patient = batch.submit(work(2)).expect("room");
    until("it is being executed", || script.order().contains(&2));
    let two = [work(3), work(4).deadline(limit)];
    script.thaw();
    assert!(patient.wait().is_done());
    *script.pause.lock().expect("no poison") = Duration::from_millis(20);
    script.freeze();
    let start = Instant::now();
    let mut tickets = batch
        .submit_all(two)
        .into_iter()
        .map(|ticket| ticket.expect("room"));
    let (patient, urgent) = (tickets.next().expect("two"), tickets.next().expect("two"));
    let outcome = urgent.wait();
    let took = start.elapsed();
    assert!(
        outcome
            .error()
            .is_some_and(|error| error.kind() == ErrorKind::DeadlineExceeded)
    );
    assert!(
        took >= limit && took < limit + Duration::from_millis(100),
        "{took:?}"
    );
    script.thaw();
    assert!(patient.wait().is_done());
}

#[test]
fn what_certainly_failed_is_tried_again_and_what_is_in_doubt_only_if_it_may() {
    let (pool, script) = pool(2);
    let policy = RetryPolicy::new(3).first_pause(Duration::from_millis(5));
    let batch = Batch::builder(pool).retry(policy).build().expect("starts");
    let run = |work| batch.submit(work).expect("room").wait();
    assert!(run(work(1).act(Act::FailFirst(2))).is_done());
    assert!(matches!(
        run(work(2).act(Act::FailFirst(3))),
        Outcome::NotExecuted(_)
    ));
    assert!(matches!(
        run(work(3).act(Act::DoubtFirst(1))),
        Outcome::Unknown(_)
    ));
    assert!(run(work(4).act(Act::DoubtFirst(2)).idempotent(true)).is_done());
    assert!(matches!(
        run(work(5).act(Act::Refuse)),
        Outcome::Rejected(_)
    ));
    let attempts = script.attempts.lock().expect("no poison").clone();
    let attempts: Vec<_> = (1..6).map(|number| attempts[&number]).collect();
    assert_eq!(attempts, [3, 3, 1, 3, 1]);
    assert_eq!(batch.metrics().retries, 6);
}

#[test]
fn one_in_doubt_is_not_cancelled_nor_called_not_executed() {
    let (pool, script) = pool(1);
    let policy = RetryPolicy::new(9)
        .first_pause(Duration::from_secs(5))
        .longest_pause(Duration::from_secs(5));
    let batch = Batch::builder(pool).build().expect("starts");
    let doubtful = work(1)
        .act(Act::DoubtFirst(9))
        .idempotent(true)
        .retry(policy);
    let ticket = batch
        .submit(doubtful.deadline(Duration::from_secs(30)))
        .expect("room");
    until("it was tried", || batch.metrics().retries == 1);
    assert!(!ticket.cancel());
    drop(script);
    batch.close(Duration::ZERO);
    assert!(matches!(ticket.wait(), Outcome::Unknown(_)));
}

#[test]
fn a_connection_that_never_comes_means_not_executed() {
    let (pool, script) = pool(1);
    let batch = Batch::builder(pool.clone())
        .retry(RetryPolicy::never())
        .build()
        .expect("starts");
    script.down.store(true, SeqCst);
    drop(pool.get());
    let start = Instant::now();
    let urgent = work(1).deadline(Duration::from_millis(100));
    let outcome = batch.submit(urgent).expect("room").wait();
    assert!(matches!(outcome, Outcome::NotExecuted(_)), "{outcome:?}");
    assert!(
        start.elapsed() < Duration::from_millis(250),
        "{:?}",
        start.elapsed()
    );
    let outcome = batch.submit(work(2)).expect("room").wait();
    assert!(matches!(outcome, Outcome::NotExecuted(_)), "{outcome:?}");
}

#[test]
fn panics_in_the_backend_or_a_callback_leave_everything_working() {
    quiet_panics();
    let (pool, _) = pool(1);
    let batch = Batch::builder(pool.clone())
        .workers(1)
        .build()
        .expect("starts");
    for number in 0..3 {
        let outcome = batch
            .submit(work(number).act(Act::Panic))
            .expect("room")
            .wait();
        assert!(matches!(outcome, Outcome::Unknown(_)), "{outcome:?}");
        let ticket = batch.submit(work(10 + number)).expect("room");
        ticket.on_outcome(|_| panic!("scripted"));
    }
    let (tell, told) = channel();
    let ticket = batch.submit(work(20)).expect("room");
    ticket.on_outcome(move |outcome| tell.send(outcome.is_done()).expect("somebody listens"));
    assert_eq!(told.recv_timeout(Duration::from_secs(5)), Ok(true));
    until("the lease is back", || pool.state().idle_connections == 1);
    until("no group is running", || batch.metrics().running == 0);
}

#[test]
fn invalid_operations_are_handed_back_at_once() {
    let (pool, _) = pool(1);
    let batch = Batch::new(pool).expect("starts");
    let refused = batch.submit(work(u64::MAX)).expect_err("invalid");
    assert_eq!(refused.error().kind(), ErrorKind::InvalidOperation);
    assert_eq!(refused.error().pool(), Some("scripted"));
}

#[test]
fn settings_that_cannot_work_are_refused() {
    let builder = || Batch::builder(pool(1).0);
    for builder in [
        builder().size(0),
        builder().workers(0),
        builder().max_operations(0),
        builder().max_bytes(usize::MAX),
    ] {
        let error = builder.build().expect_err("cannot work");
        assert_eq!(error.kind(), ErrorKind::Configuration);
        assert!(error.to_string().contains("BATCH_"), "{error}");
    }
}

#[test]
fn rejected_ones_are_kept_written_and_replayed() {
    let (pool, _) = pool(1);
    let batch = Batch::builder(pool).quarantine(3).build().expect("starts");
    for number in 0..5 {
        let bad = work(number).act(Act::Refuse).id(format!("no. {number}"));
        let _ = batch.submit(bad).expect("room").wait();
    }
    let quarantine = batch.quarantine();
    assert_eq!((quarantine.len(), quarantine.dropped()), (3, 2));
    let mut file = Vec::new();
    assert_eq!(quarantine.write_json_lines(&mut file).expect("written"), 3);
    let text = String::from_utf8(file).expect("text");
    assert!(text.starts_with(r#"{"at":"#) && text.contains(r#""kind":"constraint violated""#));
    let numbers: Vec<_> = quarantine
        .drain()
        .iter()
        .map(|bad| bad.operation.number)
        .collect();
    assert_eq!(numbers, [2, 3, 4]);
    assert!(quarantine.is_empty());

    let replayed = read_json_lines::<Work>(text.as_bytes());
    for (number, work) in (2..).zip(replayed) {
        let work = work.expect("as written").act(Act::Answer);
        assert_eq!(work.envelope().id(), Some(format!("no. {number}").as_str()));
        assert!(batch.submit(work).expect("room").wait().is_done());
    }
    let mut wrong = read_json_lines::<Work>("\n{}\n".as_bytes());
    let error = wrong.next().expect("one line").expect_err("no operation");
    assert!(error.to_string().starts_with("line 2: "), "{error}");
}

#[test]
fn closing_gives_everything_its_outcome() {
    // In time.
    let (pool, script) = pool(2);
    *script.pause.lock().expect("no poison") = Duration::from_millis(10);
    let batch = Batch::builder(pool).size(10).build().expect("starts");
    let submitted = batch.submit_all((0..500).map(work));
    let tickets: Vec<_> = submitted
        .into_iter()
        .map(|ticket| ticket.expect("room"))
        .collect();
    let metrics = batch.close(Duration::from_secs(10));
    assert_eq!((metrics.submitted, metrics.done), (500, 500));
    assert!(
        tickets
            .into_iter()
            .all(|ticket| ticket.try_outcome().is_ok_and(|o| o.is_done()))
    );
    let refused = batch.submit(work(1)).expect_err("closed");
    assert_eq!(refused.error().kind(), ErrorKind::Closed);

    // Cut off at a frozen server, with submitters at work and one blocked.
    let block = WhenFull::Block(Duration::from_secs(30));
    let (batch, script, first) = held(|batch| batch.max_operations(100).when_full(block));
    let accepted = AtomicUsize::new(0);
    thread::scope(|scope| {
        for thread in 0..3 {
            let (batch, accepted) = (&batch, &accepted);
            scope.spawn(move || {
                for number in 1.. {
                    let Ok(ticket) = batch.submit(work(thread * 1000 + number)) else {
                        break;
                    };
                    accepted.fetch_add(1, SeqCst);
                    drop(ticket);
                }
            });
        }
        until("the queue is full", || batch.metrics().queued == 100);
        let start = Instant::now();
        let metrics = batch.close(Duration::from_millis(50));
        assert!(
            start.elapsed() < Duration::from_millis(500),
            "{:?}",
            start.elapsed()
        );
        assert!(matches!(first.wait(), Outcome::Unknown(_)));
        assert_eq!(metrics.unknown, 1);
        assert_eq!(metrics.not_executed, 100);
    });
    assert_eq!(accepted.load(SeqCst), 100);
    script.thaw();
}

#[test]
fn dropping_the_last_handle_waits_for_what_is_queued() {
    let (pool, script) = pool(1);
    *script.pause.lock().expect("no poison") = Duration::from_millis(20);
    let batch = Batch::builder(pool).size(1).build().expect("starts");
    let done = Arc::new(AtomicUsize::new(0));
    for number in 0..10 {
        let done = Arc::clone(&done);
        let ticket = batch.submit(work(number)).expect("room");
        ticket.on_outcome(move |outcome| {
            done.fetch_add(usize::from(outcome.is_done()), SeqCst);
        });
    }
    drop(batch.clone());
    drop(batch);
    assert_eq!(done.load(SeqCst), 10);
}

#[test]
fn threads_end_with_the_batch() {
    let threads = || {
        let tasks = std::fs::read_dir("/proc/self/task").expect("Linux has it");
        let names =
            tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
        names.filter(|name| name.starts_with("lone-batch")).count()
    };
    // Its own process would be better; a name of its own does as well.
    let (pool, _) = pool(1);
    let batch = Batch::builder(pool)
        .workers(3)
        .name("lone-batch")
        .build()
        .expect("starts");
    until("they have their names", || threads() == 4);
    drop(batch);
    until("they have ended", || threads() == 0);
}

#[test]
fn a_ticket_can_be_waited_for_in_parts() {
    let (batch, script, first) = held(|batch| batch);
    let first = first
        .wait_timeout(Duration::from_millis(20))
        .expect_err("frozen");
    let first = first.try_outcome().expect_err("frozen");
    script.thaw();
    assert!(
        first
            .wait_timeout(Duration::from_secs(5))
            .is_ok_and(|outcome| outcome.is_done())
    );
    drop(batch);
}

#[test]
fn a_callback_may_drop_the_last_handle_or_close() {
    for closes in [false, true] {
        let (pool, _) = pool(1);
        let batch = Batch::builder(pool).workers(1).build().expect("starts");
        let (told, tells) = channel();
        let ticket = batch.submit(work(1)).expect("room");
        let rest = batch.submit(work(2)).expect("room");
        let start = Instant::now();
        ticket.on_outcome(move |outcome| {
            if closes {
                batch.close(Duration::from_secs(20));
            }
            drop(batch);
            told.send(outcome.is_done()).expect("somebody listens");
        });
        assert!(tells.recv().expect("told"));
        assert!(rest.wait().is_done());
        assert!(start.elapsed() < Duration::from_secs(5));
    }
}

#[test]
fn callbacks_of_what_the_dispatcher_settles_may_take_their_time() {
    let (batch, script, first) = held(|batch| batch.max_operations(2));
    let (told, tells) = channel();
    let again = batch.clone();
    let late = work(1).deadline(Duration::from_millis(20));
    let late = batch.submit(late).expect("room");
    late.on_outcome(move |outcome| {
        // The dispatcher goes on meanwhile, and this has given its room back.
        let next = work(2).deadline(Duration::from_millis(20));
        let next = again.submit(next).expect("room").wait();
        told.send((outcome, next)).expect("somebody listens");
        drop(again);
    });
    let (late, next) = tells.recv_timeout(Duration::from_secs(5)).expect("told");
    assert!(matches!(late, Outcome::NotExecuted(_)), "{late:?}");
    assert!(matches!(next, Outcome::NotExecuted(_)), "{next:?}");
    script.thaw();
    assert!(first.wait().is_done());
}
