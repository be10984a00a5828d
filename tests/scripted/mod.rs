//! A manager that does what a test tells it to, for the pool's own logic.

// Each test file uses a part of it.
#![allow(dead_code, unreachable_pub)]

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use millpond::backend::{self, Backend};
use millpond::{ConnectFailure, Deadline, Error, ErrorKind, ManageConnection, NoOperation};

/// What the manager does, and what happened to it.
#[derive(Default)]
pub struct Script {
    pub connect_takes: Mutex<Duration>,
    /// Taken and done at the next connect.
    pub at_connect: Mutex<Option<Act>>,
    /// Done at every connect.
    pub always_at_connect: Mutex<Option<Act>>,
    pub at_check: Mutex<Option<Act>>,
    pub at_has_broken: Mutex<Option<Act>>,
    pub at_drop: Mutex<Option<Act>>,
    /// How long closing a connection takes.
    pub drop_takes: Mutex<Duration>,
    /// Connections made before this number are dead.
    pub dead_below: AtomicU64,
    /// Connects and checks hang while this is set.
    pub frozen: AtomicBool,
    pub connects: AtomicU64,
    pub attempts: AtomicU64,
    pub checks: AtomicU64,
    pub live: AtomicU64,
    /// The most connections that were open at once.
    pub peak: AtomicU64,
    pub connecting: AtomicU64,
    /// The most connects that were under way at once.
    pub peak_connecting: AtomicU64,
}

#[derive(Clone, Copy, Debug)]
pub enum Act {
    Panic,
    /// Fail in a way that can heal.
    Refuse,
    /// Fail in a way that cannot.
    WrongPassword,
    /// Fail, and panic when the backend is asked what that means.
    Inexplicable,
}

#[derive(Debug)]
pub struct Failure(pub Act);

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "scripted: {:?}", self.0)
    }
}

impl std::error::Error for Failure {}

#[derive(Clone, Default)]
pub struct Manager(pub Arc<Script>);

impl fmt::Debug for Manager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Manager")
    }
}

pub struct Conn {
    pub number: u64,
    pub broken: bool,
    script: Arc<Script>,
}

impl fmt::Debug for Conn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Conn({})", self.number)
    }
}

impl Drop for Conn {
    fn drop(&mut self) {
        std::thread::sleep(*self.script.drop_takes.lock().expect("no poison"));
        self.script.live.fetch_sub(1, SeqCst);
        let once = self.script.at_drop.lock().expect("no poison").take();
        if let Some(Act::Panic) = once {
            panic!("scripted: in drop");
        }
    }
}

impl Manager {
    pub fn new() -> Self {
        backend::adopt::<Self>();
        Self::default()
    }

    pub fn script(&self) -> Arc<Script> {
        Arc::clone(&self.0)
    }
}

impl Script {
    pub fn set(&self, place: impl Fn(&Self) -> &Mutex<Option<Act>>, act: impl Into<Option<Act>>) {
        *place(self).lock().expect("no poison") = act.into();
    }

    pub fn connect_takes(&self, time: Duration) {
        *self.connect_takes.lock().expect("no poison") = time;
    }

    pub fn drop_takes(&self, time: Duration) {
        *self.drop_takes.lock().expect("no poison") = time;
    }

    pub fn connects(&self) -> u64 {
        self.connects.load(SeqCst)
    }

    pub fn attempts(&self) -> u64 {
        self.attempts.load(SeqCst)
    }

    pub fn checks(&self) -> u64 {
        self.checks.load(SeqCst)
    }

    pub fn kill_all(&self) {
        self.dead_below.store(self.connects.load(SeqCst), SeqCst);
    }

    pub fn live(&self) -> u64 {
        self.live.load(SeqCst)
    }

    fn thaw(&self) {
        while self.frozen.load(SeqCst) {
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn perform(act: Option<Act>) -> Result<(), Failure> {
        match act {
            None => Ok(()),
            Some(Act::Panic) => panic!("scripted"),
            Some(act) => Err(Failure(act)),
        }
    }
}

impl ManageConnection for Manager {
    type Connection = Conn;
    type Error = Failure;

    fn connect(&self) -> Result<Conn, Failure> {
        let script = &self.0;
        script.attempts.fetch_add(1, SeqCst);
        let connecting = script.connecting.fetch_add(1, SeqCst) + 1;
        script.peak_connecting.fetch_max(connecting, SeqCst);
        script.thaw();
        let takes = *script.connect_takes.lock().expect("no poison");
        std::thread::sleep(takes);
        script.connecting.fetch_sub(1, SeqCst);
        let once = script.at_connect.lock().expect("no poison").take();
        Script::perform(once)?;
        let always = *script.always_at_connect.lock().expect("no poison");
        Script::perform(always)?;
        let live = script.live.fetch_add(1, SeqCst) + 1;
        script.peak.fetch_max(live, SeqCst);
        let number = script.connects.fetch_add(1, SeqCst);
        Ok(Conn {
            number,
            broken: false,
            script: Arc::clone(script),
        })
    }

    fn is_valid(&self, conn: &mut Conn) -> Result<(), Failure> {
        let script = &self.0;
        script.checks.fetch_add(1, SeqCst);
        script.thaw();
        let once = script.at_check.lock().expect("no poison").take();
        Script::perform(once)?;
        if conn.broken || conn.number < script.dead_below.load(SeqCst) {
            return Err(Failure(Act::Refuse));
        }
        Ok(())
    }

    fn has_broken(&self, conn: &mut Conn) -> bool {
        let once = self.0.at_has_broken.lock().expect("no poison").take();
        Script::perform(once).is_err() || conn.broken
    }
}

impl Backend for Manager {
    const NAME: &'static str = "scripted";

    type Operation = NoOperation;

    type Reply = ();

    fn execute(&self, _: &mut Conn, operation: &NoOperation, _: Deadline) -> Result<(), Error> {
        match *operation {}
    }

    fn endpoint(&self) -> String {
        "nowhere:0".into()
    }

    fn classify(error: &Failure) -> ErrorKind {
        match error.0 {
            Act::WrongPassword => ErrorKind::Authentication,
            Act::Refuse | Act::Panic => ErrorKind::Connect(ConnectFailure::Refused),
            Act::Inexplicable => panic!("scripted: in classify"),
        }
    }
}

/// Waits until the condition holds; fails the test after ten seconds.
#[track_caller]
pub fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(10), "in vain: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// The process's threads whose names begin like this.
#[cfg(target_os = "linux")]
pub fn threads_named(prefix: &str) -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").expect("Linux has it");
    let names =
        tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.filter(|name| name.starts_with(prefix)).count()
}

/// Keeps the panics that a script asked for out of the tests' output.
pub fn quiet_panics() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let text = panic.payload().downcast_ref::<&str>();
            if !text.is_some_and(|text| text.starts_with("scripted")) {
                usual(panic);
            }
        }));
    });
}
