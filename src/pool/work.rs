//! What the crew does for a pool: everything that may block.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use r2d2::{Extensions, ManageConnection};

use super::care::Captured;
use super::counters::CloseReason;
use super::desk::{Desk, Status};
use super::entry::{Entry, Place};
use super::lease::PooledConnection;
use super::ledger::Care;
use super::sampling::Sampling;
use super::settings::Hook;
use super::shared::Shared;
use crate::clock::{NEVER, Ticks, between, ticks};
use crate::error::{Error, ErrorKind, Phase, Source};
use crate::event::{AcquireEvent, ReleaseEvent};
use crate::keeper::crew;
use crate::logging;

/// How many connections of one pool are cared for at the same time; what bounds
/// the threads that a frozen server can hold.
const LANES: u32 = 8;

static CONNECTIONS: AtomicU64 = AtomicU64::new(1);

/// Establishes a connection in a reserved place, for the pool as it was in this
/// generation.
pub(super) fn connect<M: ManageConnection>(place: Place<M>, generation: u64) {
    let shared = Arc::clone(place.shared());
    let attempt = Attempt(&shared);
    let started = shared.clock.now();
    // With what the manager says of its error, which is its code too.
    let establish =
        || establish(&shared).map_err(|(phase, error)| shared.connect_failed(phase, error));
    let result = catch_unwind(AssertUnwindSafe(establish)).unwrap_or_else(|panic| {
        let said = text_of(&*panic);
        let message = format!("the manager panicked while connecting: {said}");
        let error = Error::new(ErrorKind::Other, Phase::Connect, message);
        Err(shared.at_home(error))
    });
    let now = shared.clock.now();
    match result {
        Ok(conn) => {
            let took = now.saturating_sub(started);
            shared.counters.create_time.record(took);
            let entry = shared.enrol(conn, place, generation, now);
            if let Some(handler) = &shared.settings.event_handler {
                let event = AcquireEvent { id: entry.id };
                shared.guarded("acquire handler", || handler.handle_acquire(event));
            }
            logging::established(&shared.name, &shared.endpoint, entry.id, took);
            shared.hand_over(entry, now);
            let mut ledger = shared.ledger.lock();
            ledger.note_success(between(started, now));
            shared.rules.one_first.store(false, Ordering::SeqCst);
            shared.rules.hopeless.store(false, Ordering::SeqCst);
            drop(ledger);
            if shared.pulse.is_in_doubt() {
                shared.wake_keeper(now);
            }
        }
        Err(error) => {
            let (kind, why) = (error.kind(), error.message().to_owned());
            let asks_for_less = error.asks_for_less();
            shared.counters.count_connect_failure(kind);
            shared.connect_failed_for_circuit(&error, now);
            let watched = kind == ErrorKind::Authentication && shared.watches_credentials();
            let mut ledger = shared.ledger.lock();
            ledger.note_failure(error, now, shared.settings.retry_delay, watched);
            let hopeless = ledger.hopeless;
            shared.rules.hopeless.store(hopeless, Ordering::SeqCst);
            drop(ledger);
            shared.put_in_doubt(kind, &why);
            drop(place);
            if asks_for_less {
                shared.heed_connect(&why, now);
            }
            shared.refuse_waiters_if_hopeless(now);
            if hopeless {
                // It looks whether the credentials change.
                shared.wake_keeper(now);
            }
        }
    }
    drop(attempt);
    shared.changed.notify_all();
    shared.stir(shared.clock.now());
}

/// Counts as one that is connecting, until dropped.
struct Attempt<'a, M: ManageConnection>(&'a Shared<M>);

impl<M: ManageConnection> Drop for Attempt<'_, M> {
    fn drop(&mut self) {
        self.0.ledger.lock().connecting -= 1;
    }
}

/// What went wrong while establishing a connection, and in which phase.
type Failed<M> = (Phase, <M as ManageConnection>::Error);

fn establish<M: ManageConnection>(shared: &Shared<M>) -> Result<M::Connection, Failed<M>> {
    let mut conn = shared
        .manager
        .connect()
        .map_err(|error| (Phase::Connect, error))?;
    let settings = &shared.settings;
    settings
        .customizer
        .on_acquire(&mut conn)
        .map_err(|error| (Phase::Hook, error))?;
    if let Some(hook) = &settings.after_connect {
        hook(&mut conn).map_err(|error| (Phase::Hook, error))?;
    }
    Ok(conn)
}

impl<M: ManageConnection> Shared<M> {
    fn enrol(
        &self,
        conn: M::Connection,
        place: Place<M>,
        generation: u64,
        now: Ticks,
    ) -> Box<Entry<M>> {
        let id = CONNECTIONS.fetch_add(1, Ordering::Relaxed);
        // Up to a tenth earlier, so that connections born together do not die together.
        let lifetime = self.settings.max_lifetime;
        let expires_at = lifetime.map_or(NEVER, |lifetime| {
            let lifetime = ticks(lifetime);
            now.saturating_add(lifetime - fastrand::u64(0..=lifetime / 10))
        });
        place.desk().seat(id, expires_at, now);
        let requests = self.requests.as_ref();
        let meter = requests.map(|requests| place.desk().meter_for(&requests.window));
        let ledger = self.ledger.lock();
        place.desk().set(Status::InCare, now);
        self.counters.created.fetch_add(1, Ordering::Relaxed);
        drop(ledger);
        Box::new(Entry {
            conn,
            extensions: Extensions::new(),
            place,
            id,
            born: now,
            expires_at,
            generation,
            // Looked at closely once: the pool may have changed while it connected.
            epoch: u64::MAX,
            uses: 0,
            leased_at: now,
            sampling: Sampling::new(meter.is_some()),
            meter,
            fresh_at: now,
            used_at: now,
            user: AtomicU64::new(0),
            discard: None,
        })
    }

    /// Whether the password comes from where it can change.
    fn watches_credentials(&self) -> bool {
        let Some(changed) = self.knowledge.credentials_changed else {
            return false;
        };
        // The manager's code.
        let ask = || changed(&self.manager).is_some();
        catch_unwind(AssertUnwindSafe(ask)).unwrap_or(false)
    }

    fn connect_failed(&self, phase: Phase, error: M::Error) -> Error {
        let kind = (self.knowledge.classify)(&error);
        let message = error.to_string();
        let source = self.capture(error);
        // A manager of this crate reports our own error already.
        let error = match source.downcast_ref::<Error>() {
            Some(ours) => ours.clone(),
            None => Error::new(kind, phase, message).with_source(source),
        };
        self.at_home(error)
    }

    /// Has the crew care for a connection, when a lane is free.
    pub(super) fn care_for(self: &Arc<Self>, care: Care<M>) {
        let (Care::Validate(entry)
        | Care::Ping(entry)
        | Care::Examine(entry)
        | Care::Reset(entry)
        | Care::Close(entry, _)) = &care;
        let now = self.clock.now();
        let mut ledger = self.ledger.lock();
        match &care {
            Care::Close(entry, reason) => self.begin_closing(entry.place.desk(), *reason, now),
            _ => entry.place.desk().set(Status::InCare, now),
        }
        if ledger.lanes_in_use >= LANES {
            ledger.backlog.push_back(care);
            return;
        }
        ledger.lanes_in_use += 1;
        drop(ledger);
        let shared = Arc::clone(self);
        crew::submit(Box::new(move || shared.run_lane(care)));
    }

    fn run_lane(self: Arc<Self>, mut care: Care<M>) {
        loop {
            if catch_unwind(AssertUnwindSafe(|| self.run(care))).is_err() {
                log::error!(
                    "millpond: pool {}: a panic while caring for a connection",
                    self.name
                );
            }
            // A slot may be free now, and what waits in the backlog may block for long.
            let now = self.clock.now();
            self.stir(now);
            self.refuse_waiters_if_hopeless(now);
            let mut ledger = self.ledger.lock();
            let Some(next) = ledger.backlog.pop_front() else {
                ledger.lanes_in_use -= 1;
                break;
            };
            care = next;
        }
    }

    fn run(self: &Arc<Self>, care: Care<M>) {
        match care {
            Care::Validate(entry) | Care::Ping(entry) => {
                if let Some(entry) = self.check(entry) {
                    self.hand_over(entry, self.clock.now());
                }
            }
            Care::Examine(entry) => {
                if let Some(entry) = self.examine(entry) {
                    self.hand_over(entry, self.clock.now());
                }
            }
            Care::Reset(mut entry) => {
                let policy = self.settings.reset;
                let reset = AssertUnwindSafe(|| {
                    (self.knowledge.reset)(&self.manager, &mut entry.conn, policy)
                });
                match catch_unwind(reset) {
                    Ok(Ok(())) => {
                        let now = self.clock.now();
                        self.hand_over(entry, now);
                    }
                    Ok(Err(error)) => {
                        self.report(error);
                        self.suspect_all(self.clock.now());
                        self.close(*entry, CloseReason::ResetFailed);
                    }
                    Err(_) => self.close(*entry, CloseReason::ResetFailed),
                }
            }
            Care::Close(entry, reason) => self.close(*entry, reason),
        }
    }

    /// Pings the connection; closes it when it does not answer in time.
    pub(super) fn check(self: &Arc<Self>, entry: Box<Entry<M>>) -> Option<Box<Entry<M>>> {
        self.check_by(entry, M::is_valid)
    }

    /// The same by another way to ask.
    pub(super) fn check_by(
        self: &Arc<Self>,
        mut entry: Box<Entry<M>>,
        ask: impl FnOnce(&M, &mut M::Connection) -> Result<(), M::Error>,
    ) -> Option<Box<Entry<M>>> {
        let started = self.clock.now();
        let verdict = AssertUnwindSafe(|| ask(&self.manager, &mut entry.conn));
        let verdict = catch_unwind(verdict);
        let now = self.clock.now();
        let error = match verdict {
            Ok(Ok(())) if between(started, now) <= self.settings.validation_timeout => {
                self.note_check_passed(now);
                return Some(entry);
            }
            Ok(Ok(())) => {
                let message = format!(
                    "connection {} took longer than validation_timeout to answer",
                    entry.id
                );
                log::warn!("millpond: pool {}: {message}", self.name);
                Error::new(ErrorKind::DeadlineExceeded, Phase::Validate, message)
            }
            Ok(Err(error)) => self.check_failed(error),
            Err(_) => {
                log::error!("millpond: pool {}: a panic in a check", self.name);
                Error::new(ErrorKind::Other, Phase::Validate, "the check panicked")
            }
        };
        self.suspect_all(started);
        self.close(*entry, CloseReason::Invalid);
        self.note_check_failed(error, now);
        None
    }

    /// What the manager says of its error, which is then reported.
    fn check_failed(&self, error: M::Error) -> Error {
        let kind = (self.knowledge.classify)(&error);
        let message = error.to_string();
        self.report(error);
        Error::new(kind, Phase::Validate, message)
    }

    /// A connection is closed from here on, once. Under the ledger's lock.
    pub(super) fn begin_closing(&self, desk: &Desk, reason: CloseReason, now: Ticks) {
        if desk.status() != Status::Closing {
            desk.set(Status::Closing, now);
            self.counters.count_closed(reason);
        }
    }

    fn close(&self, entry: Entry<M>, reason: CloseReason) {
        let now = self.clock.now();
        let Entry {
            conn,
            place,
            id,
            born,
            extensions,
            ..
        } = entry;
        let ledger = self.ledger.lock();
        self.begin_closing(place.desk(), reason, now);
        drop(ledger);
        let age = between(born, now);
        logging::closed(&self.name, &self.endpoint, id, reason, age);
        if let Some(handler) = &self.settings.event_handler {
            let event = ReleaseEvent { id, age, reason };
            self.guarded("release handler", || handler.handle_release(event));
        }
        self.guarded("connection's closing", move || {
            drop(extensions);
            self.settings.customizer.on_release(conn);
        });
        drop(place);
    }

    /// Hands the error to the error handler, and keeps what can be kept of it.
    fn capture(&self, error: M::Error) -> Source {
        if self.settings.error_handler.is_none() {
            log::error!("millpond: pool {}: {error}", self.name);
            return (self.knowledge.capture)(error);
        }
        let copy = Captured::of(&error);
        self.report(error);
        Arc::new(copy)
    }

    /// Hands an error that no caller gets to the error handler.
    fn report(&self, error: M::Error) {
        match &self.settings.error_handler {
            Some(handler) => self.guarded("error handler", || handler.handle_error(error)),
            // What the error prints is the manager's code.
            None => self.guarded("error's text", || {
                log::error!("millpond: pool {}: {error}", self.name);
            }),
        }
    }

    /// Runs the hook on the caller's thread; a refused connection is not given back.
    #[cold]
    pub(super) fn run_before_lease(
        &self,
        hook: &Hook<M>,
        lease: &mut PooledConnection<M>,
    ) -> Result<(), Error> {
        let run = || {
            hook(&mut *lease).map_err(|error| {
                let kind = (self.knowledge.classify)(&error);
                let message = format!("the before_lease hook failed: {error}");
                let source = (self.knowledge.capture)(error);
                Error::new(kind, Phase::Hook, message).with_source(source)
            })
        };
        let error = match catch_unwind(AssertUnwindSafe(run)) {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => error,
            Err(panic) => {
                let message = format!("the before_lease hook panicked: {}", text_of(&*panic));
                Error::new(ErrorKind::Other, Phase::Hook, message)
            }
        };
        lease.refuse();
        Err(self.at_home(error))
    }
}

/// What a panic said.
fn text_of(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&'static str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}
