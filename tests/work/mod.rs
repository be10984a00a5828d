//! A backend that does what each operation says, for the batch engine's own logic.

// Each test file uses a part of it.
#![allow(dead_code, unreachable_pub)]

#[path = "../traced/mod.rs"]
mod traced;

use std::borrow::Cow;
use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use millpond::backend::{self, Backend};
use millpond::batch::{Batch, BatchBuilder};
use millpond::{
    Breaker, Deadline, Envelope, Error, ErrorKind, ManageConnection, Operation, Outcome, Phase,
    Pool, Ticket,
};
use serde::{Deserialize, Serialize};

/// What the backend does with an operation.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub enum Act {
    #[default]
    Answer,
    Refuse,
    /// Fails so many times without effect, then answers.
    FailFirst(u32),
    /// Fails so many times, perhaps with an effect, then answers.
    DoubtFirst(u32),
    /// Fails once, perhaps with an effect, then does this.
    DoubtThen(Box<Act>),
    /// Fails, perhaps with an effect, and the error does not say so.
    DoubtUnsaid,
    /// Fails without effect, and asks to be left alone for so many seconds.
    Busy(u64),
    Panic,
    /// Panics when it is asked what it is, then answers.
    Mute,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Work {
    pub number: u64,
    pub act: Act,
    #[serde(flatten)]
    pub envelope: Envelope,
}

pub fn work(number: u64) -> Work {
    Work {
        number,
        act: Act::Answer,
        envelope: Envelope::default(),
    }
}

impl Work {
    pub fn act(mut self, act: Act) -> Self {
        self.act = act;
        self
    }

    /// What each error repeats, and nobody is to be shown.
    fn value(&self) -> String {
        testbed::value(self.number)
    }

    fn fail(&self, kind: ErrorKind) -> Error {
        let message = format!("scripted: {}", self.value());
        Error::new(kind, Phase::Operation, message)
    }

    /// What comes of this act at this attempt, counted from 1.
    fn come_of(&self, act: &Act, attempt: u32) -> Outcome<()> {
        let doubt = || self.fail(ErrorKind::ConnectionLost).with_outcome_unknown();
        match act {
            Act::Refuse => Outcome::Rejected(self.fail(ErrorKind::Constraint)),
            Act::FailFirst(times) if attempt <= *times => {
                Outcome::NotExecuted(self.fail(ErrorKind::ConnectionLost))
            }
            Act::DoubtFirst(times) if attempt <= *times => Outcome::Unknown(doubt()),
            Act::DoubtThen(_) if attempt == 1 => Outcome::Unknown(doubt()),
            Act::DoubtThen(then) => self.come_of(then, attempt - 1),
            Act::DoubtUnsaid => Outcome::Unknown(self.fail(ErrorKind::ConnectionLost)),
            Act::Busy(seconds) => {
                let error = self.fail(ErrorKind::Overloaded);
                Outcome::NotExecuted(error.with_retry_after(Duration::from_secs(*seconds)))
            }
            Act::Panic => panic!("scripted"),
            Act::Answer | Act::Mute | Act::FailFirst(_) | Act::DoubtFirst(_) => Outcome::Done(()),
        }
    }
}

impl Operation for Work {
    fn envelope(&self) -> &Envelope {
        &self.envelope
    }

    fn envelope_mut(&mut self) -> &mut Envelope {
        &mut self.envelope
    }

    fn validate(&self) -> Result<(), Error> {
        if self.number == u64::MAX {
            let message = "not a number that is served";
            return Err(Error::new(
                ErrorKind::InvalidOperation,
                Phase::Operation,
                message,
            ));
        }
        Ok(())
    }

    fn size(&self) -> usize {
        size_of::<Self>() + self.envelope.size()
    }

    fn statement(&self) -> Cow<'_, str> {
        assert!(self.act != Act::Mute, "scripted");
        "WORK ?".into()
    }

    fn each_value(&self, see: &mut dyn FnMut(&str)) {
        see(&self.value());
    }
}

/// What all connections share.
#[derive(Default)]
pub struct Script {
    /// While set, nothing is answered: a frozen server.
    frozen: Mutex<bool>,
    thawed: Condvar,
    /// Sizes of the groups, and what they held.
    groups: Mutex<Vec<Vec<u64>>>,
    pub attempts: Mutex<HashMap<u64, u32>>,
    /// How many attempts took effect, or may have.
    pub effects: Mutex<HashMap<u64, u32>>,
    pub pause: Mutex<Duration>,
    pub down: AtomicBool,
}

impl Script {
    pub fn freeze(&self) {
        *self.frozen.lock().expect("no poison") = true;
    }

    pub fn thaw(&self) {
        *self.frozen.lock().expect("no poison") = false;
        self.thawed.notify_all();
    }

    pub fn groups(&self) -> Vec<Vec<u64>> {
        self.groups.lock().expect("no poison").clone()
    }

    pub fn order(&self) -> Vec<u64> {
        self.groups().concat()
    }

    fn answer(&self, work: &Work, deadline: Deadline) -> Outcome<u64> {
        let mut frozen = self.frozen.lock().expect("no poison");
        while *frozen {
            let left = deadline.remaining().unwrap_or(Duration::from_secs(60));
            if left.is_zero() {
                let error = work.fail(ErrorKind::DeadlineExceeded);
                return Outcome::Unknown(error.with_outcome_unknown());
            }
            (frozen, _) = self.thawed.wait_timeout(frozen, left).expect("no poison");
        }
        drop(frozen);
        let mut attempts = self.attempts.lock().expect("no poison");
        let attempt = attempts.entry(work.number).or_default();
        *attempt += 1;
        let attempt = *attempt;
        drop(attempts);
        let outcome = work.come_of(&work.act, attempt);
        if matches!(outcome, Outcome::Done(()) | Outcome::Unknown(_)) {
            let mut effects = self.effects.lock().expect("no poison");
            *effects.entry(work.number).or_default() += 1;
        }
        outcome.map(|()| work.number * 2)
    }
}

#[derive(Default)]
pub struct Scripted(pub Arc<Script>);

impl ManageConnection for Scripted {
    type Connection = ();
    type Error = io::Error;

    fn connect(&self) -> io::Result<()> {
        if self.0.down.load(SeqCst) {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        Ok(())
    }

    fn is_valid(&self, (): &mut ()) -> io::Result<()> {
        Ok(())
    }

    fn has_broken(&self, (): &mut ()) -> bool {
        self.0.down.load(SeqCst)
    }
}

impl Backend for Scripted {
    const NAME: &'static str = "scripted";

    const NATIVE_BATCH: bool = true;

    type Operation = Work;

    type Reply = u64;

    fn endpoint(&self) -> String {
        "nowhere:0".into()
    }

    fn classify(_: &io::Error) -> ErrorKind {
        ErrorKind::Connect(millpond::ConnectFailure::Refused)
    }

    fn execute(&self, (): &mut (), work: &Work, deadline: Deadline) -> Result<u64, Error> {
        let mut outcomes = self.execute_batch(&mut (), &[work], deadline);
        outcomes.remove(0).into_result()
    }

    fn execute_batch(&self, (): &mut (), group: &[&Work], deadline: Deadline) -> Vec<Outcome<u64>> {
        let numbers = group.iter().map(|work| work.number).collect();
        self.0.groups.lock().expect("no poison").push(numbers);
        let pause = *self.0.pause.lock().expect("no poison");
        thread::sleep(pause);
        let answers = group.iter().map(|work| self.0.answer(work, deadline));
        answers.collect()
    }
}

/// A pool without a circuit breaker, so that every attempt is made.
pub fn pool(max_size: u32) -> (Pool<Scripted>, Arc<Script>) {
    pool_with(max_size, None)
}

pub fn pool_with(max_size: u32, breaker: Option<Breaker>) -> (Pool<Scripted>, Arc<Script>) {
    backend::adopt::<Scripted>();
    traced::traced();
    let script = Arc::new(Script::default());
    let pool = Pool::builder()
        .max_size(max_size)
        .breaker(breaker)
        .connection_timeout(Duration::from_secs(2))
        .build(Scripted(Arc::clone(&script)))
        .expect("nothing can fail");
    (pool, script)
}

/// A batch of one worker, whose worker is kept busy by a first operation (number 0) until
/// the script is thawed.
pub fn held(
    set: impl FnOnce(BatchBuilder<Scripted>) -> BatchBuilder<Scripted>,
) -> (Batch<Scripted>, Arc<Script>, Ticket<u64>) {
    let (pool, script) = pool(1);
    let batch = set(Batch::builder(pool).workers(1))
        .build()
        .expect("starts");
    script.freeze();
    let first = batch.submit(work(0)).expect("room");
    until("the worker has it", || script.groups().len() == 1);
    (batch, script, first)
}

#[track_caller]
pub fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(10), "in vain: {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

pub fn quiet_panics() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if panic.payload().downcast_ref::<&str>() != Some(&"scripted") {
            usual(panic);
        }
    }));
}
