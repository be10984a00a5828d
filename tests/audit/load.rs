//! Many threads, many files, several runs of the program: one chain.

use std::collections::HashMap;
use std::path::Path;
use std::thread;

use millpond::audit::{Audit, Ending, FaultKind};
use millpond::{ErrorKind, Operation as _};
use rustix::fs::{FlockOperation, flock};

use super::work::{pool, work};
use super::{Folder, alone, events, operations, right};

const THREADS: u64 = 4;
const EACH: u64 = 500;
const RUNS: u64 = 3;

fn run(path: &Path, run: u64) {
    let log = Audit::builder(path).max_bytes(32 << 10).keep(1000);
    let audit = log.install().expect("installs");
    let (pool, _) = pool(THREADS as u32);
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let (pool, audit) = (&pool, &audit);
            scope.spawn(move || {
                for number in 0..EACH {
                    let id = format!("{run}-{thread}-{number}");
                    pool.execute(work(number).id(id)).expect("answers");
                    // Nothing is to be dropped here, however slow the machine.
                    if number % 200 == 199 {
                        assert!(audit.flush());
                    }
                }
            });
        }
    });
    assert!(audit.flush());
    let metrics = audit.metrics();
    assert_eq!((metrics.written, metrics.dropped), (THREADS * EACH, 0));
}

#[test]
fn one_chain_over_threads_files_and_runs() {
    let _alone = alone();
    let folder = Folder::new();
    for number in 0..RUNS {
        run(&folder.log(), number);
    }
    let found = right(&folder.log());
    assert_eq!(found.lines, RUNS * (THREADS * EACH + 2));
    assert_eq!(found.first, Some(1));
    assert_eq!(found.last.as_ref().map(|last| last.0), Some(found.lines));
    assert_eq!(
        (found.end, found.interruptions, found.dropped),
        (Ending::Closed, 0, 0)
    );
    assert!(found.files.len() > 40, "{}", found.files.len());
    for file in &found.files {
        let size = file.metadata().expect("there").len();
        assert!(size <= 32 << 10, "{} has {size} bytes", file.display());
    }
    let mut ids: HashMap<String, u32> = HashMap::new();
    for line in operations(&folder.log()) {
        *ids.entry(line["id"].as_str().expect("an id").to_owned())
            .or_default() += 1;
    }
    assert_eq!(ids.len() as u64, RUNS * THREADS * EACH);
    assert!(ids.values().all(|count| *count == 1));
}

#[test]
fn only_so_many_files_are_kept() {
    let _alone = alone();
    let folder = Folder::new();
    let log = Audit::builder(folder.log()).max_bytes(4096).keep(3);
    let audit = log.install().expect("installs");
    let (pool, _) = pool(1);
    for number in 0..200 {
        pool.execute(work(number)).expect("answers");
    }
    drop(audit);
    let found = right(&folder.log());
    assert_eq!(found.files.len(), 4, "{:?}", found.files);
    let first = found.first.expect("a line");
    assert_eq!(first + found.lines, 203, "numbers go on over what is gone");
}

/// The program was killed in the middle of a line.
#[test]
fn an_unfinished_line_is_cut_off_at_the_next_start() {
    let _alone = alone();
    let folder = Folder::new();
    let (pool, _) = pool(1);
    let start = || Audit::builder(folder.log()).install().expect("installs");
    let audit = start();
    pool.execute(work(1)).expect("answers");
    drop(audit);
    let text = std::fs::read_to_string(folder.log()).expect("text");
    // Without its last line, and half of the one before.
    let end = text.trim_end().rfind('\n').expect("lines") - 20;
    std::fs::write(folder.log(), &text[..end]).expect("written");
    let found = millpond::audit::verify(folder.log()).expect("a log");
    let fault = found.fault.expect("one");
    assert_eq!((fault.kind, fault.line), (FaultKind::Truncated, 2));

    drop(start());
    let found = right(&folder.log());
    assert_eq!((found.lines, found.interruptions), (3, 1), "{found}");
    assert_eq!(events(&folder.log()), ["started", "started", "closed"]);
    let cut = super::lines(&folder.log())[1]["cut"].as_u64();
    assert!(cut > Some(100), "{cut:?}");

    // The very first line, even.
    std::fs::write(folder.log(), "{\"seq\":1,\"ti").expect("written");
    drop(start());
    assert_eq!(right(&folder.log()).lines, 2);
}

#[test]
fn what_is_no_audit_log_is_left_alone() {
    let _alone = alone();
    let folder = Folder::new();
    for text in [
        "a letter",
        "a letter\n",
        "{}\nand more\n",
        "a letter\n{\"seq\":1,",
    ] {
        std::fs::write(folder.log(), text).expect("written");
        let error = Audit::builder(folder.log()).install().expect_err("foreign");
        assert_eq!(error.kind(), ErrorKind::Configuration);
        assert!(error.to_string().contains("is no audit log"), "{error}");
        assert!(error.to_string().contains("AUDIT_FILE"), "{error}");
        assert_eq!(std::fs::read_to_string(folder.log()).expect("text"), text);
    }
    let error = Audit::builder("/nowhere/audit")
        .install()
        .expect_err("no folder");
    assert!(error.to_string().contains("/nowhere/audit"), "{error}");
}

#[test]
fn a_process_has_one_log_and_a_log_one_process() {
    let _alone = alone();
    let folder = Folder::new();
    let build = || Audit::builder(folder.log());
    let audit = build().install().expect("installs");
    let again = build().install().expect("the same");
    let other = Audit::builder(folder.0.join("other")).install();
    assert!(
        other
            .expect_err("another")
            .to_string()
            .contains("is installed")
    );
    build().keep(7).install().expect_err("other settings");
    drop(audit);
    let (pool, _) = pool(1);
    pool.execute(work(1)).expect("answers");
    drop(again);
    assert_eq!(operations(&folder.log()).len(), 1);

    let other_program = std::fs::File::open(folder.log()).expect("there");
    flock(&other_program, FlockOperation::LockExclusive).expect("locked");
    let error = build().install().expect_err("locked");
    assert!(
        error
            .to_string()
            .contains("another audit log is being written"),
        "{error}"
    );
}
