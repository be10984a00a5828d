//! Servers that do what a test says, for the fleet's own logic.

use std::borrow::Cow;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use millpond::backend::{self, Backend};
use millpond::endpoints::{Balance, FleetBuilder};
use millpond::{
    ConnectFailure, Deadline, Envelope, Error, ErrorKind, Fleet, ManageConnection, Operation,
    Outcome, Phase,
};
use serde::{Deserialize, Serialize};

use crate::subjects::traced::traced;

/// A server, as seen from outside.
#[derive(Debug, Default)]
pub(crate) struct Station {
    pub(crate) name: String,
    /// How long an operation takes, in microseconds.
    pub(crate) takes: AtomicU64,
    /// Nobody can connect, and connections are lost.
    pub(crate) down: AtomicBool,
    /// Operations fail without effect.
    pub(crate) failing: AtomicBool,
    /// Operations are refused, since there are too many.
    pub(crate) overloaded: AtomicBool,
    pub(crate) served: AtomicU64,
    /// The ids of the operations that were served, and when.
    pub(crate) diary: Mutex<Vec<(Instant, String)>>,
    /// How many operations the groups had that came here, of operations with ids.
    pub(crate) groups: Mutex<Vec<usize>>,
}

/// Its manager. A connection tells which server it is of.
pub(crate) struct Way(pub(crate) Arc<Station>);

/// Something to do.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Errand {
    #[serde(flatten)]
    envelope: Envelope,
    /// What a server repeats in each error, and nobody is to be shown.
    value: String,
}

impl Default for Errand {
    fn default() -> Self {
        Self {
            envelope: Envelope::default(),
            value: testbed::value("errand"),
        }
    }
}

impl Operation for Errand {
    fn envelope(&self) -> &Envelope {
        &self.envelope
    }

    fn envelope_mut(&mut self) -> &mut Envelope {
        &mut self.envelope
    }

    fn statement(&self) -> Cow<'_, str> {
        "ERRAND".into()
    }

    fn each_value(&self, see: &mut dyn FnMut(&str)) {
        see(&self.value);
    }
}

impl ManageConnection for Way {
    type Connection = Arc<Station>;
    type Error = io::Error;

    fn connect(&self) -> io::Result<Arc<Station>> {
        if self.0.down.load(SeqCst) {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        Ok(Arc::clone(&self.0))
    }

    fn is_valid(&self, station: &mut Arc<Station>) -> io::Result<()> {
        if station.down.load(SeqCst) {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        Ok(())
    }

    fn has_broken(&self, station: &mut Arc<Station>) -> bool {
        station.down.load(SeqCst)
    }
}

impl Backend for Way {
    const NAME: &'static str = "station";

    const NATIVE_BATCH: bool = true;

    type Operation = Errand;

    /// Which server it was.
    type Reply = String;

    fn endpoint(&self) -> String {
        self.0.name.clone()
    }

    fn classify(_: &io::Error) -> ErrorKind {
        ErrorKind::Connect(ConnectFailure::Refused)
    }

    fn execute(
        &self,
        station: &mut Arc<Station>,
        errand: &Errand,
        deadline: Deadline,
    ) -> Result<String, Error> {
        station.note_group(&[errand]);
        station.run(errand, deadline)
    }

    fn execute_batch(
        &self,
        station: &mut Arc<Station>,
        errands: &[&Errand],
        deadline: Deadline,
    ) -> Vec<Outcome<String>> {
        station.note_group(errands);
        let run = |errand: &&Errand| station.run(errand, deadline).into();
        errands.iter().map(run).collect()
    }
}

impl Station {
    fn note_group(&self, errands: &[&Errand]) {
        if errands.iter().any(|errand| errand.envelope.id().is_some()) {
            let mut groups = self.groups.lock().expect("no poison");
            groups.push(errands.len());
        }
    }

    fn run(&self, errand: &Errand, deadline: Deadline) -> Result<String, Error> {
        let fail = |kind, what: &str| {
            let said = format!("{what} for {}", errand.value);
            Err(Error::new(kind, Phase::Operation, said))
        };
        if self.down.load(SeqCst) || self.failing.load(SeqCst) {
            return fail(ErrorKind::ConnectionLost, "no connection");
        }
        if self.overloaded.load(SeqCst) {
            return fail(ErrorKind::Overloaded, "too much to do");
        }
        let takes = Duration::from_micros(self.takes.load(SeqCst));
        let sleep = deadline.remaining_within(takes);
        if !takes.is_zero() {
            std::thread::sleep(sleep);
        }
        if sleep < takes {
            return fail(ErrorKind::DeadlineExceeded, "no time");
        }
        self.served.fetch_add(1, SeqCst);
        if let Some(id) = errand.envelope.id() {
            let page = (Instant::now(), id.to_owned());
            self.diary.lock().expect("no poison").push(page);
        }
        Ok(self.name.clone())
    }

    pub(crate) fn new(name: &str) -> Arc<Self> {
        backend::adopt::<Way>();
        traced();
        Arc::new(Self {
            name: name.into(),
            ..Self::default()
        })
    }

    pub(crate) fn takes(&self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).expect("short");
        self.takes.store(micros, SeqCst);
    }

    pub(crate) fn served(&self) -> u64 {
        self.served.load(SeqCst)
    }
}

/// So many of them, called `a`, `b`, `c`, ...
pub(crate) fn stations(count: u8) -> Vec<Arc<Station>> {
    let name = |number| char::from(b'a' + number).to_string();
    (0..count)
        .map(|number| Station::new(&name(number)))
        .collect()
}

/// A builder with these endpoints, each with a pool of eight connections.
pub(crate) fn builder(stations: &[Arc<Station>]) -> FleetBuilder<Way> {
    let builder = Fleet::builder().pool(|pool| {
        pool.max_size(8)
            .connection_timeout(Duration::from_secs(5))
            .retry_delay(Duration::from_millis(50))
    });
    let ways = stations.iter().map(|station| Way(Arc::clone(station)));
    ways.fold(builder, FleetBuilder::endpoint)
}

/// A fleet of these in which every connection is open.
pub(crate) fn fleet(stations: &[Arc<Station>], balance: impl Balance) -> Fleet<Way> {
    let fleet = builder(stations)
        .balance(balance)
        .build()
        .expect("connects");
    warm(&fleet);
    fleet
}

/// Waits until every connection is open.
pub(crate) fn warm<B: Backend>(fleet: &Fleet<B>) {
    until("all are open", || {
        let pools = fleet.pools();
        let mut open = pools
            .iter()
            .map(|pool| pool.state().idle_connections == pool.max_size());
        open.all(|open| open)
    });
}

#[track_caller]
pub(crate) fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(20), "in vain: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}
