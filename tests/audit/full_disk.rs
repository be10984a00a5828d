//! A disk that is full stops no operation; what was dropped is counted, and told once there is
//! room again.

use std::process::Command;
use std::time::{Duration, Instant};

use millpond::alerts::{Rule, Signal};
use millpond::audit::{Audit, Ending};
use millpond::{Hub, Operation as _};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::work::{pool, work};
use super::{Folder, alone, events, lines, operations, right};

const MANY: u64 = 12_000;

#[test]
fn on_dev_full_all_goes_on_and_all_is_counted() {
    let _alone = alone();
    let audit = Audit::builder("/dev/full")
        .install()
        .expect("nothing is written yet");
    let (pool, _) = pool(1);
    let start = Instant::now();
    for number in 0..MANY {
        pool.execute(work(number)).expect("answers");
    }
    let each = start.elapsed() / MANY as u32;
    assert!(each < Duration::from_millis(1), "{each:?} for each");
    assert!(!audit.flush());
    let metrics = audit.metrics();
    assert_eq!(metrics.written, 0);
    assert!(
        metrics.dropped > 1000 && metrics.dropped < MANY,
        "{metrics:?}"
    );
}

#[test]
fn an_alert_tells_of_it_until_nothing_is_dropped_any_more() {
    let _alone = alone();
    let audit = Audit::builder("/dev/full")
        .install()
        .expect("nothing is written yet");
    let hub = Hub::builder()
        .sample_interval(Duration::from_millis(20))
        .alerts([Rule::new("audit", Signal::AuditDropped).clear_after(Duration::from_millis(100))])
        .build();
    let (pool, _) = pool(1);
    hub.watch(&pool);
    let until = |what: &str, is_so: &dyn Fn() -> bool| {
        let start = Instant::now();
        while !is_so() {
            assert!(start.elapsed() < Duration::from_secs(10), "{what}");
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    pool.execute(work(0)).expect("answers");
    std::thread::sleep(Duration::from_millis(100));
    assert!(
        hub.alerts().firing.is_empty(),
        "there is still room in the queue"
    );
    for number in 0..MANY {
        pool.execute(work(number)).expect("answers");
    }
    assert!(audit.dropped() > 0);
    until("fires", &|| !hub.alerts().firing.is_empty());
    let message = &hub.alerts().firing[0].message;
    assert!(message.contains("missing from the audit log"), "{message}");
    until("resolves", &|| hub.alerts().firing.is_empty());
    assert_eq!(hub.alerts().past.len(), 1);
}

const CHILD: &str = "AUDIT_CHILD_FILE";

/// A limit on the size of files is a disk that is full, and has room again.
#[test]
fn the_log_says_what_is_missing_once_it_can() {
    if let Ok(path) = std::env::var(CHILD) {
        return child(&path);
    }
    let folder = Folder::new();
    let program = std::env::current_exe().expect("this program");
    // The signal that comes with the limit is one that such a program has to ignore.
    let mut child = Command::new("sh");
    child
        .args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""])
        .arg(program);
    child.args([
        "--exact",
        "full_disk::the_log_says_what_is_missing_once_it_can",
    ]);
    // Its own log would have no room either.
    child.env(CHILD, folder.log()).env_remove("TESTBED_TRACE");
    let output = child.output().expect("runs");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("1 passed"), "{said}");

    let found = right(&folder.log());
    let told = operations(&folder.log()).len() as u64;
    assert!(found.dropped > 0, "{found}");
    assert_eq!(told + found.dropped, MANY + 1);
    assert_eq!(found.end, Ending::Closed);
    assert_eq!(events(&folder.log()), ["started", "dropped", "closed"]);
    let all = lines(&folder.log());
    let dropped = all.iter().position(|line| line["event"] == "dropped");
    assert_eq!(
        all[dropped.expect("one") - 1]["id"],
        "kept",
        "the last that had room"
    );
    let last = &all[all.len() - 2];
    assert_eq!(last["id"], "there is room again");
}

fn limit(bytes: Option<u64>) {
    let maximum = getrlimit(Resource::Fsize).maximum;
    let current = bytes.or(maximum);
    setrlimit(Resource::Fsize, Rlimit { current, maximum }).expect("lowered or raised");
}

fn child(path: &str) {
    let audit = Audit::builder(path).install().expect("installs");
    let (pool, _) = pool(1);
    assert!(audit.flush());
    limit(Some(10_000));
    for number in 0..MANY {
        pool.execute(work(number).id("kept")).expect("answers");
    }
    assert!(!audit.flush());
    let dropped = audit.dropped();
    assert!(dropped > 0);
    limit(None);
    assert!(audit.flush());
    assert_eq!(audit.dropped(), dropped);
    pool.execute(work(1).id("there is room again"))
        .expect("answers");
    drop(audit);
}
