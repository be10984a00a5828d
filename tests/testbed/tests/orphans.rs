//! No server and no folder outlives its test process, however that ends.
//!
//! Each test runs this very program again as a child, which starts servers, prints
//! where they are, and comes to its end; then everything it printed must go.

use std::io::{BufRead, BufReader, Lines, Read};
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use testbed::{Mongo, Nginx, PgBouncer, Postgres, Redis};

const END: &str = "TESTBED_CHILD_END";

/// What a child started: its process, and all that must not outlive it.
struct Started {
    child: Child,
    pids: Vec<u32>,
    ports: Vec<u16>,
    folder: PathBuf,
    /// What it says after its report must find a reader.
    stdout: Lines<BufReader<ChildStdout>>,
}

/// The child's part; does nothing unless started by [`start`].
#[test]
fn child() {
    let Ok(end) = std::env::var(END) else {
        return;
    };
    // Started by a thread that ends long before the servers should.
    let postgres = thread::spawn(Postgres::shared).join().expect("PostgreSQL");
    let redis = thread::spawn(Redis::shared).join().expect("Redis");
    let pooler = PgBouncer::start(postgres).expect("PgBouncer");
    let mongo = Mongo::start().expect("MongoDB");
    let nginx = Nginx::start().expect("nginx");
    // A backend that is busy when its postmaster goes.
    thread::spawn(|| postgres.psql("SELECT pg_sleep(600)"));
    let backends = "SELECT pid FROM pg_stat_activity";
    let busy = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%sleep(600)'";
    while postgres.psql(busy).expect("a number") != "1" {}
    let mut pids = vec![
        postgres.pid(),
        redis.pid(),
        pooler.pid(),
        mongo.pid(),
        nginx.pid(),
    ];
    let backends = postgres.psql(backends).expect("pids");
    pids.extend(backends.lines().map(|pid| pid.parse().ok()));
    for pid in pids.into_iter().flatten() {
        println!("pid {pid}");
    }
    for port in [
        postgres.port(),
        redis.port(),
        pooler.port(),
        mongo.port(),
        nginx.port(),
    ] {
        println!("port {port}");
    }
    if end == "frozen" {
        postgres.freeze();
        redis.freeze();
    }
    println!("folder {}", postgres.socket_dir().display());
    match end.as_str() {
        "panic" => panic!("as told"),
        "exit" => std::process::exit(0),
        "return" => {}
        _ => thread::sleep(Duration::from_secs(600)),
    }
}

fn start(end: &str) -> Started {
    let program = std::env::current_exe().expect("this program");
    // A shell's background jobs ignore interrupts, and so would what they start.
    let mut child = Command::new("env")
        .arg("--default-signal=INT")
        .arg(program)
        .args(["--exact", "child", "--nocapture", "--test-threads=1"])
        .env(END, end)
        .stdout(Stdio::piped())
        .process_group(0)
        .spawn()
        .expect("a child");
    let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let mut started = Started {
        pids: Vec::new(),
        ports: Vec::new(),
        folder: PathBuf::new(),
        child,
        stdout: lines,
    };
    while started.folder.as_os_str().is_empty() {
        let line = started
            .stdout
            .next()
            .expect("the child's report")
            .expect("text");
        match line.rsplit_once(' ') {
            Some((word, pid)) if word.ends_with("pid") => {
                started.pids.push(pid.parse().expect("a pid"));
            }
            Some((word, port)) if word.ends_with("port") => {
                started.ports.push(port.parse().expect("a port"));
            }
            Some((word, folder)) if word.ends_with("folder") => started.folder = folder.into(),
            _ => {}
        }
    }
    started
}

/// Whether the process exists and is not merely waiting to be buried.
fn is_alive(pid: u32) -> bool {
    let mut text = String::new();
    std::fs::File::open(format!("/proc/{pid}/stat"))
        .and_then(|mut file| file.read_to_string(&mut text))
        .is_ok_and(|_| !text.contains(") Z "))
}

fn send(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(pid.cast_signed()).expect("a pid");
    kill_process(pid, signal).expect("a signal sent");
}

/// A test that fails leaves no child that waits for its signal.
impl Drop for Started {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Started {
    fn signal(&self, signal: Signal) {
        send(self.child.id(), signal);
    }

    /// Waits for the child's end, and then for the end of all it started.
    fn assert_nothing_left(mut self) {
        self.child.wait().expect("the child's end");
        let run: &Path = self.folder.parent().expect("the run's folder");
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let pids: Vec<_> = self.pids.iter().filter(|&&pid| is_alive(pid)).collect();
            let connect = |port: &&u16| TcpStream::connect(("127.0.0.1", **port)).is_ok();
            let ports: Vec<_> = self.ports.iter().filter(connect).collect();
            if pids.is_empty() && ports.is_empty() && !run.exists() {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "left over: processes {pids:?}, ports {ports:?}, {}",
                run.display()
            );
            thread::sleep(Duration::from_millis(20));
        }
    }
}

#[test]
fn sigkill_leaves_nothing() {
    let started = start("wait");
    started.signal(Signal::KILL);
    started.assert_nothing_left();
}

#[test]
fn sigkill_while_frozen_leaves_nothing() {
    let started = start("frozen");
    started.signal(Signal::KILL);
    started.assert_nothing_left();
}

#[test]
fn an_interrupt_leaves_nothing() {
    let started = start("wait");
    started.signal(Signal::INT);
    started.assert_nothing_left();
}

#[test]
fn a_panic_leaves_nothing() {
    start("panic").assert_nothing_left();
}

#[test]
fn exit_leaves_nothing() {
    start("exit").assert_nothing_left();
}

#[test]
fn the_end_of_main_leaves_nothing() {
    start("return").assert_nothing_left();
}

/// The shell that cleans up behind a process.
fn reaper_of(process: u32) -> u32 {
    let is_reaper = |pid: &u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.contains("(sh)") && stat.split_whitespace().nth(3) == Some(&process.to_string())
    };
    std::fs::read_dir("/proc")
        .expect("/proc")
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .find(is_reaper)
        .expect("a reaper")
}

#[test]
fn the_next_process_sweeps_up_when_the_reaper_was_killed_too() {
    let started = start("frozen");
    send(reaper_of(started.child.id()), Signal::KILL);
    started.signal(Signal::KILL);
    // While it is a zombie, its lock may still be held.
    thread::sleep(Duration::from_millis(200));
    start("exit").assert_nothing_left();
    started.assert_nothing_left();
}
