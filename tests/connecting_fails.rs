//! What callers see when connecting fails: an error that cannot heal at once, one
//! that can heal at the deadline, traffic within a second of the server's return;
//! and a pool whose server is down or frozen neither floods that server with
//! attempts nor disturbs another pool.

mod scripted;

use std::error::Error as _;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use millpond::{Builder, ConnectFailure, ErrorKind, HandleError, Phase, Pool};
use scripted::{Act, Failure, Manager, Script, until};

const REFUSED: ErrorKind = ErrorKind::Connect(ConnectFailure::Refused);

fn builder() -> Builder<Manager> {
    Pool::builder()
        .max_size(4)
        .connection_timeout(Duration::from_secs(20))
}

fn always(act: Act) -> (Manager, Arc<Script>) {
    let manager = Manager::new();
    let script = manager.script();
    script.set(|script| &script.always_at_connect, act);
    (manager, script)
}

#[test]
fn a_wrong_password_fails_the_building_at_once() {
    let (manager, script) = always(Act::WrongPassword);
    let start = Instant::now();
    let error = builder()
        .name("orders")
        .max_connecting(1)
        .build(manager)
        .expect_err("it is wrong");
    assert!(start.elapsed() < Duration::from_secs(5));
    assert_eq!(error.kind(), ErrorKind::Authentication);
    assert_eq!(error.phase(), Phase::Connect);
    assert_eq!(error.pool(), Some("orders"));
    assert_eq!(error.endpoint(), Some("nowhere:0"));
    let source = error.source().expect("the manager's error");
    assert!(source.to_string().contains("WrongPassword"), "{source}");
    assert_eq!(script.attempts(), 1);
}

#[test]
fn a_wrong_password_reaches_every_waiter_at_once() {
    let (manager, script) = always(Act::WrongPassword);
    // All callers wait before the first attempt is over.
    script.connect_takes(Duration::from_millis(300));
    let pool = builder()
        .min_idle(Some(0))
        .max_connecting(1)
        .build_unchecked(manager);
    let start = Instant::now();
    thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                let error = pool.get().expect_err("it is wrong");
                assert_eq!(error.kind(), ErrorKind::Authentication);
                assert!(!error.is_retryable());
                let source = error.source().expect("the manager's error");
                assert!(source.to_string().contains("WrongPassword"), "{source}");
            });
        }
    });
    assert!(start.elapsed() < Duration::from_secs(5));
    assert_eq!(
        script.attempts(),
        1,
        "whoever came later got the same answer"
    );
    // And once it has been corrected, whoever corrected it says so.
    script.set(|script| &script.always_at_connect, None);
    pool.clear();
    pool.get().expect("the password was corrected");
}

/// A service that asks again and again must not lock the account.
#[test]
fn a_refused_login_is_tried_seldom_however_often_callers_ask() {
    let (manager, script) = always(Act::WrongPassword);
    let pool = builder().min_idle(Some(0)).build_unchecked(manager);
    let start = Instant::now();
    let mut asked = 0;
    while start.elapsed() < Duration::from_secs(4) {
        let error = pool.get().expect_err("it is wrong");
        assert_eq!(error.kind(), ErrorKind::Authentication);
        asked += 1;
        thread::sleep(Duration::from_millis(1));
    }
    // Pauses of 0.5 to 1, 1 to 2, 2 to 4 seconds.
    let attempts = script.attempts();
    assert!((2..=4).contains(&attempts), "{attempts} for {asked}");
    script.set(|script| &script.always_at_connect, None);
    until("it is found out without help", || pool.get().is_ok());
}

/// While a connection is left, callers wait for it; when it goes too, they are told.
#[test]
fn who_waits_for_the_last_connection_is_told_when_it_goes() {
    let manager = Manager::new();
    let script = manager.script();
    let pool = builder().max_size(2).min_idle(Some(1));
    let pool = pool.build(manager).expect("opens");
    let last = pool.get().expect("a connection");
    script.set(|script| &script.always_at_connect, Act::WrongPassword);
    thread::scope(|scope| {
        let waiter = scope.spawn(|| {
            let error = pool.get().expect_err("none is left");
            (error.kind(), Instant::now())
        });
        until("an attempt", || script.attempts() >= 2);
        until("it waits on", || pool.state().connecting == 0);
        assert_eq!(pool.state().waiters, 1);
        let gone = Instant::now();
        last.discard();
        let (kind, told) = waiter.join().expect("no panic");
        assert_eq!(kind, ErrorKind::Authentication);
        assert!(told - gone < Duration::from_secs(2), "{:?}", told - gone);
    });
}

#[test]
fn an_error_that_the_backend_panics_over_is_one_like_others() {
    scripted::quiet_panics();
    let (manager, script) = always(Act::Inexplicable);
    let pool = builder().min_idle(Some(0)).build_unchecked(manager);
    let error = pool.get_timeout(Duration::from_millis(300));
    let text = error.expect_err("it fails").to_string();
    assert!(text.contains("panicked"), "{text}");
    assert!(script.attempts() > 1, "it was retried");
    script.set(|script| &script.always_at_connect, None);
    pool.get().expect("nothing is left of it");
}

#[test]
fn a_refused_connect_is_retried_until_the_deadline() {
    const TIMEOUT: Duration = Duration::from_millis(600);
    let (manager, script) = always(Act::Refuse);
    let pool = builder().min_idle(Some(0)).build_unchecked(manager);
    let start = Instant::now();
    let error = pool.get_timeout(TIMEOUT).expect_err("it is down");
    let waited = start.elapsed();
    assert!(waited >= TIMEOUT);
    assert!(waited < TIMEOUT + Duration::from_millis(50), "{waited:?}");
    assert_eq!(error.kind(), REFUSED);
    assert_eq!(error.phase(), Phase::Connect);
    assert!(error.is_retryable());
    let text = error.to_string();
    assert!(text.contains("timed out waiting for connection"), "{text}");
    let source = error.source().expect("the manager's error");
    assert_eq!(source.to_string(), "scripted: Refuse");
    let attempts = script.attempts();
    assert!((2..=40).contains(&attempts), "{attempts} attempts");
    assert_eq!(pool.metrics().create_failed, attempts);
    assert_eq!(pool.metrics().timeouts, 1);
}

#[derive(Debug)]
struct Errors(Arc<Mutex<Vec<String>>>);

impl HandleError<Failure> for Errors {
    fn handle_error(&self, error: Failure) {
        self.0.lock().expect("no poison").push(error.to_string());
    }
}

/// The handler takes the error; the caller's error keeps a copy of what it said.
#[test]
fn an_error_handler_does_not_take_the_cause_from_the_caller() {
    let (manager, script) = always(Act::Refuse);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let pool = builder()
        .min_idle(Some(0))
        .error_handler(Box::new(Errors(Arc::clone(&seen))))
        .build_unchecked(manager);
    let error = pool
        .get_timeout(Duration::from_millis(100))
        .expect_err("it is down");
    assert_eq!(error.kind(), REFUSED);
    let source = error.source().expect("a copy");
    assert_eq!(source.to_string(), "scripted: Refuse");
    until("every failure is told", || {
        seen.lock().expect("no poison").len() as u64 == script.attempts()
    });
}

/// Twelve threads use a pool while its server goes away and comes back.
#[test]
fn an_outage_costs_few_attempts_and_a_second_of_recovery() {
    const OUTAGE: Duration = Duration::from_secs(3);
    let manager = Manager::new();
    let script = manager.script();
    let pool = builder().min_idle(Some(2)).build(manager).expect("opens");
    let mut recoveries = Vec::new();
    for round in 1..=2 {
        script.set(|script| &script.always_at_connect, Act::Refuse);
        pool.clear();
        until("all are closed", || script.live() == 0);
        let before = script.attempts();
        let back = Mutex::new(None);
        thread::scope(|scope| {
            let callers: Vec<_> = (0..12)
                .map(|_| {
                    scope.spawn(|| {
                        pool.get().expect("the server comes back in time");
                        let back = back.lock().expect("no poison");
                        back.map(|back: Instant| back.elapsed())
                    })
                })
                .collect();
            // The length of the outage is what the test is about.
            thread::sleep(OUTAGE);
            let attempts = script.attempts() - before;
            println!("{attempts} attempts in an outage of {OUTAGE:?}");
            // Pauses grow to half a second, with full jitter: about one in 250 ms.
            assert!((4..=60).contains(&attempts), "{attempts} attempts");
            *back.lock().expect("no poison") = Some(Instant::now());
            script.set(|script| &script.always_at_connect, None);
            for caller in callers {
                let after = caller.join().expect("no panic").expect("not before");
                recoveries.push(after);
            }
        });
        assert_eq!(pool.metrics().timeouts, 0, "round {round}");
    }
    let slowest = recoveries.iter().max().expect("there were callers");
    println!("traffic was back after {slowest:?} at the latest");
    assert!(*slowest < Duration::from_secs(1), "{recoveries:?}");
    assert!(script.peak_connecting.load(SeqCst) <= 4);
}

/// Nobody waits: the pool tries now and then to have its idle connections again.
#[test]
fn without_callers_an_outage_costs_few_attempts_too() {
    let (manager, script) = always(Act::Refuse);
    let pool = builder().build_unchecked(manager);
    thread::sleep(Duration::from_secs(2));
    let attempts = script.attempts();
    assert!((2..=40).contains(&attempts), "{attempts} attempts");
    script.set(|script| &script.always_at_connect, None);
    let start = Instant::now();
    until("refilled", || pool.state().idle_connections == 4);
    assert!(start.elapsed() < Duration::from_secs(3));
}

/// A server that hangs holds threads of the crew, but delays only its own pool.
#[test]
fn a_frozen_server_delays_no_other_pool() {
    let frozen = Manager::new();
    let frozen_script = frozen.script();
    frozen_script.frozen.store(true, SeqCst);
    let stuck = builder()
        .max_size(16)
        .max_connecting(16)
        .build_unchecked(frozen);
    until("it hangs in many places", || frozen_script.attempts() == 16);

    let manager = Manager::new();
    let script = manager.script();
    let start = Instant::now();
    let healthy = builder()
        .keepalive_interval(Some(Duration::from_millis(50)))
        .validation_bypass(Duration::from_millis(20))
        .build(manager)
        .expect("opens");
    let opened = start.elapsed();
    let start = Instant::now();
    until("keepalive", || script.checks() >= 8);
    let pinged = start.elapsed();
    let mut leases = Vec::new();
    for _ in 0..50 {
        let start = Instant::now();
        drop(healthy.get().expect("a connection"));
        leases.push(start.elapsed());
        thread::sleep(Duration::from_millis(5));
    }
    let slowest = leases.iter().max().expect("there were leases");
    println!("opened in {opened:?}, pinged in {pinged:?}, leased in {slowest:?} at most");
    assert!(opened < Duration::from_millis(500), "{opened:?}");
    assert!(pinged < Duration::from_secs(2), "{pinged:?}");
    assert!(*slowest < Duration::from_millis(200), "{slowest:?}");
    assert_eq!(stuck.state().connections, 0);
    frozen_script.frozen.store(false, SeqCst);
    stuck.get().expect("the server is back");
}
