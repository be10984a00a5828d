use super::*;
use crate::error::ConnectFailure;

const MS: Ticks = 1_000_000;
const SECOND: Ticks = 1000 * MS;

fn error(kind: ErrorKind) -> Error {
    Error::new(kind, Phase::Operation, "test")
}

fn lost() -> Error {
    error(ErrorKind::ConnectionLost)
}

/// A circuit, and the time and the calls so far.
struct Bench {
    circuit: Arc<Circuit>,
    now: Ticks,
    calls: u64,
}

impl Bench {
    fn new(rules: Breaker) -> Self {
        Self {
            circuit: Arc::new(Circuit::new(Some(rules))),
            now: SECOND,
            calls: 0,
        }
    }

    fn pass(&self) -> Option<Pass> {
        self.circuit.admit(|| self.now).ok()
    }

    fn settle(&mut self, pass: Pass, result: Result<(), &Error>) -> Option<Change> {
        self.calls += 1;
        let (now, calls) = (self.now, self.calls);
        self.circuit.settle(pass, result, 0, || now, || calls)
    }

    /// A call from beginning to end; whether it was let through.
    fn call(&mut self, result: Result<(), &Error>) -> bool {
        let Some(pass) = self.pass() else {
            return false;
        };
        self.settle(pass, result);
        true
    }

    fn fail(&mut self, times: u32) {
        for _ in 0..times {
            self.call(Err(&lost()));
        }
    }

    fn state(&self) -> BreakerState {
        self.circuit.state()
    }
}

fn at_once() -> Breaker {
    Breaker::new().lasting(Duration::ZERO)
}

/// One that has just opened.
fn opened() -> Bench {
    let mut bench = Bench::new(at_once().failures(3));
    bench.fail(3);
    assert_eq!(bench.state(), BreakerState::Open);
    bench
}

#[test]
fn opens_after_failures_in_a_row() {
    let mut bench = Bench::new(at_once().failures(3));
    bench.fail(2);
    bench.call(Ok(()));
    bench.fail(2);
    // A refused operation shows that the server works.
    bench.call(Err(&error(ErrorKind::Constraint)));
    bench.fail(2);
    assert_eq!(bench.state(), BreakerState::Closed);
    bench.call(Err(&error(ErrorKind::Exhausted)));
    assert_eq!(bench.state(), BreakerState::Closed);
    bench.fail(1);
    assert_eq!(bench.state(), BreakerState::Open);
    assert!(!bench.call(Ok(())));
    assert_eq!(bench.circuit.opened(), 1);
}

#[test]
fn only_after_a_time() {
    let mut bench = Bench::new(Breaker::new());
    bench.fail(100);
    assert_eq!(bench.state(), BreakerState::Closed);
    bench.now += SECOND;
    bench.fail(1);
    assert_eq!(bench.state(), BreakerState::Open);
}

#[test]
fn opens_on_a_share_of_failures() {
    let mut bench = Bench::new(at_once().failures(0).rate(0.3, 100));
    let mut calls = 0;
    while bench.state() == BreakerState::Closed {
        bench.now += MS;
        calls += 1;
        let failed = lost();
        bench.call(if calls % 3 == 0 { Err(&failed) } else { Ok(()) });
        assert!(calls < 1000);
    }
    assert!((100..110).contains(&calls), "{calls}");
}

#[test]
fn a_lower_share_does_not() {
    let mut bench = Bench::new(at_once().failures(0).rate(0.3, 100));
    for call in 0..10_000 {
        bench.now += MS;
        let failed = lost();
        bench.call(if call % 4 == 0 { Err(&failed) } else { Ok(()) });
    }
    assert_eq!(bench.state(), BreakerState::Closed);
}

#[test]
fn opens_on_a_share_of_slow_calls() {
    let rules = at_once()
        .rate(0.5, 20)
        .slow(Duration::from_millis(100), 0.5);
    let mut bench = Bench::new(rules);
    for call in 0..40 {
        let took = if call % 2 == 0 { 200 * MS } else { 10 * MS };
        if let Some(pass) = bench.pass() {
            bench.calls += 1;
            let (now, calls) = (bench.now, bench.calls);
            bench.circuit.settle(pass, Ok(()), took, || now, || calls);
        }
    }
    assert_eq!(bench.state(), BreakerState::Open);
}

#[test]
fn a_few_probes_decide() {
    let mut bench = opened();
    bench.now += SECOND;
    let probes: Vec<_> = (0..10).filter_map(|_| bench.pass()).collect();
    assert_eq!(probes.len(), 3);
    assert_eq!(bench.state(), BreakerState::HalfOpen);
    let mut probes = probes.into_iter();
    assert!(bench.settle(probes.next().unwrap(), Ok(())).is_none());
    let change = bench.settle(probes.next().unwrap(), Ok(()));
    assert!(matches!(change, Some(Change::Closed { after }) if after == Duration::from_secs(1)));
    // The third was begun before it closed.
    bench.settle(probes.next().unwrap(), Err(&lost()));
    assert_eq!(bench.state(), BreakerState::Closed);
    // What was before it opened does not count any more.
    bench.fail(2);
    assert_eq!(bench.state(), BreakerState::Closed);
}

#[test]
fn what_began_before_it_opened_decides_nothing() {
    let mut bench = Bench::new(at_once().failures(3));
    let old: Vec<_> = (0..5).filter_map(|_| bench.pass()).collect();
    bench.fail(3);
    bench.now += SECOND;
    assert!(bench.call(Ok(())) && bench.call(Ok(())));
    // Such as those that a server that froze was asked, and that now end by their deadlines.
    for pass in old {
        assert!(bench.settle(pass, Err(&lost())).is_none());
    }
    assert_eq!(bench.state(), BreakerState::Closed);
    bench.fail(3);
    assert_eq!(bench.state(), BreakerState::Open);
}

#[test]
fn a_probe_that_fails_opens_it_for_longer() {
    let mut bench = opened();
    let mut longest = 0;
    for _ in 0..12 {
        let opened_at = bench.now;
        while bench.pass().is_none() {
            bench.now += 10 * MS;
        }
        bench.fail(1);
        assert_eq!(bench.state(), BreakerState::Open);
        longest = longest.max(bench.now - opened_at);
    }
    assert!(
        (5 * SECOND..=10 * SECOND + 10 * MS).contains(&longest),
        "{longest}"
    );
    // That was one long trouble.
    assert_eq!(bench.circuit.opened(), 1);
}

#[test]
fn a_probe_that_is_dropped_gives_its_place_to_another() {
    let mut bench = opened();
    bench.now += SECOND;
    for _ in 0..10 {
        let probes: Vec<_> = (0..3).map(|_| bench.pass().unwrap()).collect();
        assert!(bench.pass().is_none());
        drop(probes);
    }
    // Those that hang do not keep it half-open for ever.
    let hanging: Vec<_> = (0..3).map(|_| bench.pass().unwrap()).collect();
    bench.now += 10 * SECOND;
    assert!(bench.call(Ok(())) && bench.call(Ok(())));
    assert_eq!(bench.state(), BreakerState::Closed);
    drop(hanging);
    assert_eq!(bench.state(), BreakerState::Closed);
}

#[test]
fn a_check_ends_the_pause_if_the_server_could_not_be_reached() {
    let mut bench = opened();
    bench.circuit.server_is_well(bench.now);
    assert_eq!(
        bench.state(),
        BreakerState::Open,
        "it never seemed to be away"
    );
    let refused = ErrorKind::Connect(ConnectFailure::Refused);
    let refused = Error::new(refused, Phase::Connect, "test");
    bench.circuit.connect_failed(&refused, bench.now, || 0);
    bench.circuit.server_is_well(bench.now);
    assert_eq!(bench.state(), BreakerState::HalfOpen);
    // Away again before anybody could try.
    bench.circuit.connect_failed(&refused, bench.now, || 0);
    assert_eq!(bench.state(), BreakerState::Open);
    bench.circuit.server_is_well(bench.now);
    assert!(bench.call(Ok(())) && bench.call(Ok(())));
    assert_eq!(bench.state(), BreakerState::Closed);
}

#[test]
fn attempts_to_connect_count() {
    let mut bench = Bench::new(Breaker::new());
    let refused = ErrorKind::Connect(ConnectFailure::Refused);
    let refused = Error::new(refused, Phase::Connect, "test");
    let wrong_password = Error::new(ErrorKind::Authentication, Phase::Connect, "test");
    for attempt in 0..40 {
        bench.now += 200 * MS;
        let change = bench
            .circuit
            .connect_failed(&wrong_password, bench.now, || 0);
        assert!(change.is_none());
        let change = bench.circuit.connect_failed(&refused, bench.now, || 0);
        assert_eq!(change.is_some(), attempt == 9, "at attempt {attempt}");
    }
}

#[test]
fn a_server_gets_the_pause_that_it_asks_for() {
    let mut bench = Bench::new(at_once().failures(1));
    let busy = error(ErrorKind::Overloaded).with_retry_after(Duration::from_secs(3));
    bench.call(Err(&busy));
    bench.now += 2900 * MS;
    let refusal = bench.circuit.refusal(bench.now).unwrap();
    assert_eq!(refusal.cause.kind(), ErrorKind::Overloaded);
    assert_eq!(refusal.next_in, Some(Duration::from_millis(100)));
    bench.now += 100 * MS;
    assert!(bench.call(Ok(())));
}

#[test]
fn one_that_is_off_never_opens() {
    let mut bench = opened();
    bench.circuit = Arc::new(Circuit::new(None));
    bench.fail(1000);
    assert_eq!(bench.state(), BreakerState::Closed);
}
