//! A lease that is held for too long is reported in the log, once, with the thread
//! and the place that took it; and again when it comes back.
//!
//! One test in this file: the log is the whole process's.

mod scripted;

use std::sync::{Mutex, mpsc};
use std::thread;
use std::time::Duration;

use log::{Level, Log, Metadata, Record};
use millpond::Pool;
use scripted::{Manager, until};

/// Keeps warnings.
struct Capture(Mutex<Vec<String>>);

static CAPTURE: Capture = Capture(Mutex::new(Vec::new()));

impl Log for Capture {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= Level::Warn
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            let mut lines = self.0.lock().expect("no poison");
            lines.push(record.args().to_string());
        }
    }

    fn flush(&self) {}
}

impl Capture {
    fn about(&self, what: &str) -> Vec<String> {
        let lines = self.0.lock().expect("no poison");
        let about = lines.iter().filter(|line| line.contains(what));
        about.cloned().collect()
    }
}

#[test]
fn a_lease_held_for_too_long_is_reported_once_and_when_it_comes_back() {
    const THRESHOLD: Duration = Duration::from_millis(100);
    let capture = &CAPTURE;
    testbed::listen(capture);
    let pool = Pool::builder()
        .name("orders")
        .max_size(3)
        .leak_threshold(Some(THRESHOLD))
        .build(Manager::new())
        .expect("opens");

    // What comes back in time is no leak.
    for _ in 0..20 {
        drop(pool.get().expect("a connection"));
    }
    let (give_back, told) = mpsc::channel::<()>();
    let (holds, holding) = mpsc::channel();
    let holder = {
        let pool = pool.clone();
        let body = move || {
            let lease = pool.get().expect("a connection");
            holds.send(line!() - 1).expect("the test waits");
            // Fails when the test is done with it.
            let _ = told.recv();
            drop(lease);
        };
        thread::Builder::new().name("forgetful".into()).spawn(body)
    };
    let line = holding.recv().expect("it holds one");
    until("it is reported", || {
        !capture.about("possible leak").is_empty()
    });
    assert_eq!(pool.metrics().leaks, 1);
    let report = &capture.about("possible leak")[0];
    let place = format!("{}:{line}:", file!());
    for part in ["orders", "`forgetful`", &*place] {
        assert!(report.contains(part), "no {part} in: {report}");
    }
    // Several rounds later it is still one report.
    thread::sleep(4 * THRESHOLD);
    assert_eq!(capture.about("possible leak").len(), 1);
    assert_eq!(pool.metrics().leaks, 1);

    drop(give_back);
    holder.expect("starts").join().expect("no panic");
    let back = capture.about("came back");
    assert_eq!(back.len(), 1, "{back:?}");
    assert!(back[0].contains(&place), "{}", back[0]);
    assert_eq!(pool.metrics().leaks, 1);

    // The next lease of the same connection is a new story, and a second leak.
    let held: Vec<_> = (0..3).map(|_| pool.get().expect("one")).collect();
    until("each is reported", || pool.metrics().leaks == 4);
    drop(held);
    assert_eq!(capture.about("came back").len(), 4);
}
