//! Trying a configuration out: what would be opened, and whether each server takes it.
//!
//! A check makes one connection to each server, all at the same time, asks the server who it is,
//! and hangs up: no pool, no second attempt. Each runs on a thread of its own, which nobody waits
//! for longer than was asked; what still hangs then ends by the backend's own timeouts.

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use serde::Serialize;

use super::known::BACKENDS;
use super::layers::Config;
use super::plan::Plan;
use super::pools::{Opening, PoolPlan, on_backend};
use super::vars::refusal;
use crate::backend::{Backend, Service};
use crate::error::{ConnectFailure, Error, ErrorKind, Phase};
use crate::health::{Concern, Health, HealthReport, PoolHealth, Reason};

/// A pool that a configuration names, or an endpoint of a fleet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct PlannedPool {
    /// Its name; `FLEET@ENDPOINT` for an endpoint of a fleet.
    pub pool: Arc<str>,
    /// The backend's name.
    pub backend: &'static str,
    /// The server's address, without user and password.
    pub endpoint: Arc<str>,
}

impl Config {
    /// The pools that [`Hub::from_config`](crate::Hub::from_config) would open. Certificates,
    /// keys and password files are read; nothing is connected to.
    ///
    /// ```
    /// # fn main() -> Result<(), millpond::Error> {
    /// # #[cfg(feature = "redis")] {
    /// let config = millpond::Config::new().set("REDIS_URL", "redis://:hunter2@localhost/1");
    /// let pools = config.plan()?;
    /// assert_eq!(&*pools[0].pool, "redis");
    /// assert_eq!(&*pools[0].endpoint, "localhost:6379/1");
    /// # } Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Configuration`](ErrorKind::Configuration) with [all mistakes](Self::mistakes).
    pub fn plan(&self) -> Result<Vec<PlannedPool>, Error> {
        let plan = Plan::of(self).map_err(|mistakes| refusal(&mistakes))?;
        let trials = plan.pools.into_iter().flat_map(PoolPlan::trials);
        Ok(trials.map(|trial| trial.pool).collect())
    }

    /// Connects to the server of each pool once, all at the same time, and asks it who it is:
    /// what to do before a program starts, or after a setting was changed. Ends within `timeout`,
    /// whatever the servers do; one that has not answered by then is
    /// [`Down`](Health::Down). Opens no pool and tries nothing twice.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), millpond::Error> {
    /// use std::time::Duration;
    /// use millpond::Config;
    ///
    /// let report = Config::from_env()?.check(Duration::from_secs(10))?;
    /// if !report.is_ready() {
    ///     eprintln!("{report}");
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Configuration`](ErrorKind::Configuration) with [all mistakes](Self::mistakes); then
    /// nothing was connected to.
    pub fn check(&self, timeout: Duration) -> Result<HealthReport, Error> {
        let plan = Plan::of(self).map_err(|mistakes| refusal(&mistakes))?;
        let start = Instant::now();
        let (to, answers) = channel();
        let mut pools: Vec<_> = plan
            .pools
            .into_iter()
            .flat_map(PoolPlan::trials)
            .enumerate()
            .map(|(number, trial)| (Asked::begin(trial, number, to.clone()), None))
            .collect();
        drop(to);
        // Over when all have answered, as then there is no sender left.
        while let Ok((number, answer)) =
            answers.recv_timeout(timeout.saturating_sub(start.elapsed()))
        {
            let (_, slot): &mut (Asked, Option<_>) = &mut pools[number];
            // A panic while hanging up is no second answer.
            slot.get_or_insert(answer);
        }
        let pools = pools.into_iter().map(|(asked, answer)| {
            let answer = answer.unwrap_or_else(|| Err(asked.silent(timeout)));
            (asked.fleet.clone(), asked.health(answer))
        });
        let mut pools: Vec<_> = pools.collect();
        see_fleets(&mut pools);
        let pools = pools.into_iter().map(|(_, health)| health);
        Ok(HealthReport::new(pools.collect(), Vec::new()))
    }
}

type Answer = (usize, Result<Service, Error>);

/// A server that is asked.
struct Asked {
    pool: PlannedPool,
    fleet: Option<Arc<str>>,
    read_only: bool,
    /// Whether it was connected to.
    reached: Arc<AtomicBool>,
}

impl Asked {
    /// Asks on a thread of its own.
    fn begin(trial: Trial, number: usize, to: Sender<Answer>) -> Self {
        let reached = Arc::<AtomicBool>::default();
        let asked = Self {
            pool: trial.pool,
            fleet: trial.fleet,
            read_only: trial.read_only,
            reached: Arc::clone(&reached),
        };
        let ask = trial.ask;
        let at_once = to.clone();
        let ask = move || {
            // Whoever asked may have left.
            let answer = |answer| drop(to.send((number, answer)));
            let tried = catch_unwind(AssertUnwindSafe(|| ask(&reached, &answer)));
            if tried.is_err() {
                let message = "the driver panicked; its message is on standard error";
                answer(Err(Error::new(ErrorKind::Other, Phase::Connect, message)));
            }
        };
        let spawned = thread::Builder::new().name("millpond-check".to_owned());
        if let Err(error) = spawned.spawn(ask) {
            let message = format!("no thread to check on: {error}");
            let error = Error::new(ErrorKind::ResourceLimit, Phase::Connect, message);
            drop(at_once.send((number, Err(error))));
        }
        asked
    }

    /// The time was over.
    fn silent(&self, timeout: Duration) -> Error {
        let seconds = timeout.as_secs_f64();
        let known = BACKENDS
            .iter()
            .find(|(name, ..)| *name == self.pool.backend);
        let settings = known.map_or(String::new(), |(_, prefix, url)| match *url {
            "HTTP_BASE_URL" => url.to_string(),
            url => format!("{prefix}HOST and {prefix}PORT, or {url}"),
        });
        if self.reached.load(Relaxed) {
            let message = format!(
                "connected, but no answer to the check within {seconds} s: the server hangs, or \
                 is overloaded; look there, or check whether it is the right one ({settings})"
            );
            return Error::new(ErrorKind::DeadlineExceeded, Phase::Validate, message);
        }
        let message = format!(
            "no answer within {seconds} s: the server hangs, or a firewall drops what is sent; \
             check host and port ({settings}), then the server"
        );
        let kind = ErrorKind::Connect(ConnectFailure::Timeout);
        Error::new(kind, Phase::Connect, message)
    }

    fn health(self, answer: Result<Service, Error>) -> PoolHealth {
        let (service, reasons) = match answer {
            Ok(service) => {
                let now = SystemTime::now();
                let refuses = !self.read_only && service.writable == Some(false);
                let certificates = service.certificates.iter();
                let expiring = certificates.filter_map(|certificate| certificate.reason(now));
                let reasons = refuses.then(Reason::read_only).into_iter().chain(expiring);
                let reasons = reasons.collect();
                (Some(service), reasons)
            }
            Err(error) => {
                let concern = match error.phase() {
                    Phase::Validate => Concern::Check,
                    _ => Concern::Connecting,
                };
                let text = format!("{}: {}", error.kind(), error.message());
                let reason = Reason::new(Health::Down, concern, text).with_error(error.kind());
                (None, vec![reason])
            }
        };
        PoolHealth {
            pool: self.pool.pool,
            backend: self.pool.backend,
            endpoint: self.pool.endpoint,
            health: reasons
                .iter()
                .map(|reason: &Reason| reason.health)
                .max()
                .unwrap_or_default(),
            reasons,
            service,
            checked: Some(Duration::ZERO),
        }
    }
}

/// A fleet does without a server that is down, as long as there is another one, and its replicas
/// take no writes on purpose, beside a primary.
fn see_fleets(pools: &mut [(Option<Arc<str>>, PoolHealth)]) {
    let fleets_with = |fits: fn(&PoolHealth) -> bool| -> HashSet<Arc<str>> {
        let fit = pools.iter().filter(|(_, pool)| fits(pool));
        fit.filter_map(|(fleet, _)| fleet.clone()).collect()
    };
    let working = fleets_with(|pool| pool.health != Health::Down);
    let writable = fleets_with(|pool| {
        let service = pool.service.as_ref();
        service.is_some_and(|service| service.writable == Some(true))
    });
    for (fleet, pool) in pools {
        let Some(fleet) = fleet else { continue };
        if working.contains(fleet) {
            pool.soften();
        }
        if writable.contains(fleet) {
            pool.forgive(Concern::ReadOnly);
        }
    }
}

/// Reports to this how the server is. It is told of as soon as it is connected to.
type Ask = Box<dyn FnOnce(&AtomicBool, &dyn Fn(Result<Service, Error>)) + Send>;

/// A server that is to be asked.
struct Trial {
    pool: PlannedPool,
    /// The fleet that it is an endpoint of, if it is.
    fleet: Option<Arc<str>>,
    read_only: bool,
    ask: Ask,
}

impl PoolPlan {
    /// One for each server.
    fn trials(self) -> Vec<Trial> {
        on_backend!(self, |opening| trials(opening))
    }
}

fn trials<B: Backend<Error = Error>>(opening: Opening<B>) -> Vec<Trial> {
    match opening {
        Opening::Pool(builder, manager) => {
            let name = builder.given_name().unwrap_or_else(|| B::NAME.into());
            vec![trial(manager, name, None, builder.is_read_only())]
        }
        Opening::Fleet(plan) => {
            let fleet = Arc::clone(&plan.name);
            let read_only = plan.is_read_only();
            let managers = plan.managers();
            managers
                .map(|manager| {
                    let name = format!("{fleet}@{}", manager.endpoint());
                    let fleet = Some(Arc::clone(&fleet));
                    trial(manager, name.into(), fleet, read_only)
                })
                .collect()
        }
    }
}

fn trial<B: Backend<Error = Error>>(
    manager: B,
    name: Arc<str>,
    fleet: Option<Arc<str>>,
    read_only: bool,
) -> Trial {
    Trial {
        pool: PlannedPool {
            pool: name,
            backend: B::NAME,
            endpoint: manager.endpoint().into(),
        },
        fleet,
        read_only,
        ask: Box::new(move |reached, answer| match manager.connect() {
            Err(error) => answer(Err(error)),
            Ok(mut connection) => {
                reached.store(true, Relaxed);
                // Before it hangs up, which may take its time.
                answer(manager.check(&mut connection));
            }
        }),
    }
}
