//! What the operations of a pool come to. Successes are counted by the slot of their
//! connection ([`Meter`](crate::metrics::meter::Meter)), failures, which are rare, here.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;

use crate::error::ErrorKind;
use crate::metrics::histogram::Histogram;
use crate::metrics::meter::Meter;
use crate::metrics::window::Window;
use crate::metrics::{Distribution, OperationMetrics, Recent, Unit};

const KINDS: usize = ErrorKind::ALL.len();

pub(super) struct Requests {
    /// The last ones, of all connections.
    pub(super) window: Arc<Window>,
    response_time_window: u32,
    error_rate_window: u32,
    /// By the place in [`ErrorKind::ALL`].
    failed: [AtomicU64; KINDS],
    failed_time: Histogram,
    retries: AtomicU64,
    /// Where those write into the window that never had a connection.
    without_connection: Mutex<Meter>,
}

impl Requests {
    /// For windows of so many requests and about so many connections.
    pub(super) fn new(response_time_window: u32, error_rate_window: u32, slots: u32) -> Self {
        let requests = response_time_window.max(error_rate_window);
        let window = Arc::new(Window::new(requests, slots + 1));
        Self {
            response_time_window,
            error_rate_window,
            failed: [const { AtomicU64::new(0) }; KINDS],
            failed_time: Histogram::default(),
            retries: AtomicU64::new(0),
            without_connection: Mutex::new(Meter::new(Arc::clone(&window))),
            window,
        }
    }

    /// One failed after so many nanoseconds; whoever had a connection notes it in the window
    /// itself.
    pub(super) fn count_failed(&self, kind: ErrorKind, took: u64) {
        if let Some(place) = ErrorKind::ALL.iter().position(|other| *other == kind) {
            self.failed[place].fetch_add(1, Relaxed);
        }
        self.failed_time.record(took);
    }

    /// One failed that had no connection.
    pub(super) fn failed_without_connection(&self, kind: ErrorKind, took: u64) {
        self.count_failed(kind, took);
        self.without_connection.lock().failed(took);
    }

    /// So many attempts are made again.
    pub(super) fn count_retries(&self, count: u64) {
        self.retries.fetch_add(count, Relaxed);
    }

    /// What the operations came to; `meters` are those of the slots.
    pub(super) fn read(&self, meters: &[&Meter]) -> OperationMetrics {
        let mut response_time = Distribution::default();
        for meter in meters {
            meter.read_response_time(&mut response_time);
        }
        let own = self.without_connection.lock();
        let look = |requests| {
            let writers = meters.iter().copied().chain([&*own]);
            self.window.look(requests, writers)
        };
        let times = look(self.response_time_window);
        let errors = if self.error_rate_window == self.response_time_window {
            times
        } else {
            look(self.error_rate_window)
        };
        let failed = ErrorKind::ALL.into_iter().zip(&self.failed);
        OperationMetrics {
            succeeded: response_time.count(),
            failed: failed
                .map(|(kind, count)| (kind, count.load(Relaxed)))
                .filter(|(_, count)| *count > 0)
                .collect(),
            response_time,
            failed_time: self.failed_time.read(Unit::Seconds),
            retries: self.retries.load(Relaxed),
            recent: Recent {
                response_time: Duration::from_nanos(
                    times.sum.checked_div(times.requests).unwrap_or(0),
                ),
                longest: Duration::from_nanos(times.max),
                error_rate: errors.failed as f64 / errors.requests.max(1) as f64,
                requests: errors.requests,
            },
        }
    }
}
