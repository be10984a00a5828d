use std::time::Duration;

use super::*;
use crate::hub::Hub;
use crate::metrics::Snapshot;
use r2d2_sqlite::SqliteConnectionManager;

/// Snapshots of a pool whose operations fail at a rate, each a second after the one before.
struct Scene {
    snapshot: Snapshot,
    engine: Engine,
}

impl Scene {
    fn new(rule: Rule) -> Self {
        let pool = crate::Pool::builder().max_size(4).name("orders");
        let pool = pool.build(SqliteConnectionManager::memory());
        let hub = Hub::new();
        hub.watch(&pool.expect("a pool"));
        Self {
            snapshot: hub.metrics(),
            engine: Engine::new(vec![rule]),
        }
    }

    /// A second passes; callers wait at its end. What is told.
    fn second(&mut self, waiters: u32) -> Vec<bool> {
        self.snapshot.uptime += Duration::from_secs(1);
        self.snapshot.pools[0].state.waiters = waiters;
        let news = self.engine.judge(&Arc::new(self.snapshot.clone()));
        news.iter().map(Alert::is_firing).collect()
    }

    fn seconds(&mut self, waiters: impl IntoIterator<Item = u32>) -> Vec<bool> {
        waiters
            .into_iter()
            .flat_map(|waiters| self.second(waiters))
            .collect()
    }
}

fn rule() -> Rule {
    Rule::new("queue", Signal::Waiters)
        .above(10.0)
        .clear_below(5.0)
        .lasting(Duration::from_secs(3))
        .clear_after(Duration::from_secs(2))
}

#[test]
fn fires_once_and_resolves_once() {
    let mut scene = Scene::new(rule());
    assert!(scene.seconds([20, 20, 20]).is_empty());
    assert_eq!(scene.second(20), [true]);
    assert!(scene.seconds([20, 20, 30, 20]).is_empty());
    assert!((scene.engine.log().firing[0].value - 20.0).abs() < 1e-9);
    // About the threshold it neither flaps nor resolves.
    assert!(scene.seconds([9, 11, 9, 6, 12]).is_empty());
    assert!(scene.seconds([5, 5]).is_empty());
    assert_eq!(scene.second(5), [false]);
    assert!(scene.seconds([0, 0, 9, 0, 0]).is_empty());
    let log = scene.engine.log();
    assert!(log.firing.is_empty());
    assert_eq!(log.past.len(), 1);
    assert!(
        log.past[0]
            .to_string()
            .starts_with("resolved: queue (warning) of orders: ")
    );
}

#[test]
fn a_peak_that_does_not_last_is_none() {
    let mut scene = Scene::new(rule());
    for _ in 0..10 {
        assert!(scene.seconds([50, 50, 0]).is_empty());
    }
}

#[test]
fn a_clock_that_is_set_harms_nobody() {
    let mut scene = Scene::new(rule());
    scene.seconds([20, 20]);
    scene.snapshot.taken_at -= Duration::from_secs(86_400);
    assert!(scene.second(20).is_empty());
    assert_eq!(scene.second(20), [true]);
    scene.snapshot.taken_at += Duration::from_secs(10 * 86_400);
    assert!(scene.seconds([20, 20, 20]).is_empty());
    assert_eq!(scene.seconds([0, 0, 0]), [false]);
}

#[test]
fn rates_are_of_the_last_samples_and_missing_ones_resolve() {
    let rule = Rule::new("errors", Signal::ErrorRate)
        .above(0.2)
        .clear_after(Duration::from_secs(2));
    let mut scene = Scene::new(rule);
    scene.second(0);
    scene.snapshot.pools[0].operations.succeeded += 10;
    assert!(scene.second(0).is_empty());
    let failed = &mut scene.snapshot.pools[0].operations.failed;
    failed.push((crate::ErrorKind::Constraint, 10));
    assert_eq!(scene.second(0), [true]);
    // Nothing happens any more: after ten samples there is nothing left to judge by.
    assert!(scene.seconds(std::iter::repeat_n(0, 9)).is_empty());
    assert_eq!(scene.seconds([0, 0, 0, 0]), [false]);
}

#[test]
fn a_rule_for_one_pool_is_for_that_one() {
    let mut scene = Scene::new(rule().pool("invoices"));
    assert!(scene.seconds([20; 10]).is_empty());
    let mut scene = Scene::new(rule().pool("orders"));
    assert_eq!(scene.seconds([20; 10]), [true]);
}

#[test]
fn the_usual_rules_are_quiet_when_nothing_is_wrong() {
    let mut scene = Scene::new(rule());
    scene.engine = Engine::new(Rule::defaults());
    for _ in 0..200 {
        let pool = &mut scene.snapshot.pools[0];
        pool.operations.succeeded += 1000;
        pool.state.leased = 4;
        assert!(scene.second(0).is_empty());
    }
}

#[cfg(feature = "audit")]
#[test]
fn what_the_audit_log_drops_is_told_by_the_usual_rules() {
    let mut scene = Scene::new(rule());
    scene.engine = Engine::new(Rule::defaults());
    assert!(scene.seconds([0; 3]).is_empty(), "there is no audit log");
    scene.snapshot.audit = Some(crate::audit::AuditMetrics::default());
    assert!(scene.seconds([0; 3]).is_empty());
    scene.snapshot.audit.as_mut().expect("one").dropped = 3;
    assert_eq!(scene.second(0), [true]);
    let alert = &scene.engine.log().firing[0];
    assert_eq!(
        (&*alert.rule, alert.severity),
        ("audit_incomplete", Severity::Warning)
    );
    assert_eq!(&*alert.subject, "process");
    assert!(
        alert.message.starts_with("3 operations are missing"),
        "{alert}"
    );
    // A minute after the last sample that knew less.
    assert!(scene.seconds([0; 69]).is_empty());
    assert_eq!(scene.second(0), [false]);
}
