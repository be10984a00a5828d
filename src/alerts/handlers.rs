//! Who is told of alerts.
//!
//! Each handler has a queue of its own, and is told one alert after the other on the keeper's
//! crew: a slow one delays nobody else, and a panic in one is logged.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use parking_lot::Mutex;

use super::{Alert, Severity};
use crate::keeper::crew;

/// Alerts that wait for a slow handler; beyond that, the oldest are dropped.
const QUEUE: usize = 1000;

/// Is told when an alert fires and when it resolves. Functions are handlers.
pub trait HandleAlert: Send + Sync + 'static {
    /// Is told of an alert, on a thread in the background. It may take its time.
    fn handle(&self, alert: &Alert);
}

impl<F: Fn(&Alert) + Send + Sync + 'static> HandleAlert for F {
    fn handle(&self, alert: &Alert) {
        self(alert);
    }
}

/// Writes alerts to the log: errors, warnings and infos by their severity, resolved ones as
/// infos.
#[derive(Clone, Copy, Debug, Default)]
pub struct LogAlerts;

impl HandleAlert for LogAlerts {
    fn handle(&self, alert: &Alert) {
        let level = match alert.severity {
            _ if !alert.is_firing() => log::Level::Info,
            Severity::Info => log::Level::Info,
            Severity::Warning => log::Level::Warn,
            Severity::Critical => log::Level::Error,
        };
        log::log!(
            level,
            rule = &*alert.rule, subject = &*alert.subject, severity = alert.severity.as_str(),
            firing = alert.is_firing(), value = alert.value;
            "millpond: alert {alert}"
        );
    }
}

/// A handler with its queue.
pub(crate) struct Outlet {
    handler: Box<dyn HandleAlert>,
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    alerts: VecDeque<Alert>,
    /// A thread of the crew is at it.
    busy: bool,
    dropped: u64,
}

impl Outlet {
    pub(crate) fn new(handler: Box<dyn HandleAlert>) -> Arc<Self> {
        Arc::new(Self {
            handler,
            queue: Mutex::default(),
        })
    }

    /// Has the handler told, in its turn.
    pub(crate) fn tell(self: &Arc<Self>, alert: Alert) {
        let mut queue = self.queue.lock();
        queue.alerts.push_back(alert);
        if queue.alerts.len() > QUEUE {
            queue.alerts.pop_front();
            queue.dropped += 1;
        }
        if std::mem::replace(&mut queue.busy, true) {
            return;
        }
        drop(queue);
        let outlet = Arc::clone(self);
        crew::submit(Box::new(move || outlet.drain()));
    }

    fn drain(&self) {
        loop {
            let mut queue = self.queue.lock();
            let dropped = std::mem::take(&mut queue.dropped);
            let Some(alert) = queue.alerts.pop_front() else {
                queue.busy = false;
                return;
            };
            drop(queue);
            if dropped > 0 {
                log::warn!("millpond: a handler of alerts is too slow: it missed {dropped}");
            }
            let handle = AssertUnwindSafe(|| self.handler.handle(&alert));
            if catch_unwind(handle).is_err() {
                log::error!("millpond: a panic in a handler of alerts");
            }
        }
    }
}

#[cfg(feature = "http")]
pub use self::webhook::Webhook;

#[cfg(feature = "http")]
mod webhook {
    use std::fmt;
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
    use std::time::Duration;

    use super::{Alert, HandleAlert};
    use crate::backend::http::{Http, HttpConfig, HttpRequest};
    use crate::error::Error;
    use crate::operation::Operation as _;
    use crate::pool::Pool;
    use crate::recovery::RetryPolicy;

    /// For how long it tries to deliver an alert.
    const PATIENCE: Duration = Duration::from_secs(60);

    /// Posts alerts as JSON to an HTTP service, one after the other, each for up to a minute
    /// until the service takes it. Then it is given up, logged and counted.
    ///
    /// ```no_run
    /// use millpond::alerts::Webhook;
    /// use millpond::{Hub, HttpConfig};
    ///
    /// # fn main() -> Result<(), millpond::Error> {
    /// let service = HttpConfig::new("https://alerts.internal").bearer_token("secret");
    /// let hub = Hub::builder().on_alert(Webhook::new(service, "/hooks/db")?).build();
    /// # Ok(()) }
    /// ```
    pub struct Webhook {
        pool: Pool<Http>,
        path: String,
        given_up: AtomicU64,
    }

    impl Webhook {
        /// Posts to this path of this service. The service need not be there yet.
        ///
        /// # Errors
        /// [`Configuration`](crate::ErrorKind::Configuration).
        pub fn new(service: HttpConfig, path: impl Into<String>) -> Result<Self, Error> {
            let pool = Pool::builder()
                .name("alerts")
                .max_size(1)
                .min_idle(Some(0))
                .health_check_interval(None)
                .build(Http::new(service)?)?;
            Ok(Self {
                pool,
                path: path.into(),
                given_up: AtomicU64::new(0),
            })
        }

        /// Alerts that could not be delivered.
        pub fn given_up(&self) -> u64 {
            self.given_up.load(Relaxed)
        }

        fn post(&self, alert: &Alert) -> Result<(), Error> {
            let request = HttpRequest::post(&*self.path)
                .json(alert)?
                .deadline(PATIENCE)
                // A service that gets an alert twice knows it by its rule, subject and time.
                .idempotent(true)
                .retry(RetryPolicy::new(100).longest_pause(Duration::from_secs(5)));
            self.pool.execute(request).map(drop)
        }
    }

    impl fmt::Debug for Webhook {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.debug_struct("Webhook")
                .field("service", &self.pool.manager())
                .field("given_up", &self.given_up())
                .finish_non_exhaustive()
        }
    }

    impl HandleAlert for Webhook {
        fn handle(&self, alert: &Alert) {
            if let Err(error) = self.post(alert) {
                self.given_up.fetch_add(1, Relaxed);
                log::error!("millpond: an alert could not be posted: {error}; it was: {alert}");
            }
        }
    }
}
