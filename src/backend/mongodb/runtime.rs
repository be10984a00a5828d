//! Where the driver's background work runs, and how a blocking caller waits for it
//! with a deadline.
//!
//! The driver's monitors and socket pools are tasks on a tokio runtime. All
//! clients of this process share this one, with two worker threads that are
//! started by the first connect and live as long as the process: clients that
//! users cloned out of a lease may outlive every manager. (The driver's synchronous
//! API keeps another runtime of its own, which only lends its timer to the calling
//! threads.)
//!
//! [`block_on`] polls a future on the *calling* thread, parked between polls.
//! Unlike tokio's own `block_on` it never panics when called inside another
//! runtime, needs no `Send`, and a deadline costs nothing extra.

use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use crossbeam_utils::sync::{Parker, Unparker};
use tokio::runtime::{Builder, EnterGuard, Runtime};

use crate::error::{Error, ErrorKind, Phase};

const WORKERS: usize = 2;

/// Name look-ups block a thread each; so many may hang at once.
const MAX_LOOK_UPS: usize = 8;

static RUNTIME: OnceLock<std::io::Result<Runtime>> = OnceLock::new();

/// Makes the shared runtime the current one on this thread, until dropped.
///
/// # Errors
/// [`ErrorKind::ResourceLimit`] when the process may not start another thread.
pub(super) fn enter() -> Result<EnterGuard<'static>, Error> {
    let runtime = RUNTIME.get_or_init(|| {
        Builder::new_multi_thread()
            .worker_threads(WORKERS)
            .max_blocking_threads(MAX_LOOK_UPS)
            .thread_name("millpond-mongodb")
            .enable_all()
            .build()
    });
    match runtime {
        Ok(runtime) => Ok(runtime.enter()),
        Err(error) => Err(Error::new(
            ErrorKind::ResourceLimit,
            Phase::Connect,
            format!("the MongoDB driver's background thread cannot start: {error}"),
        )),
    }
}

/// Runs the future on this thread. `None` when it was not ready within `limit`; it
/// is dropped then, which ends what it was waiting for.
pub(super) fn block_on<T>(
    limit: Duration,
    future: impl Future<Output = T>,
) -> Result<Option<T>, Error> {
    let deadline = Instant::now().checked_add(limit);
    // Declared before the future, so that the future is dropped inside the runtime.
    let _runtime = enter()?;
    let parker = Parker::new();
    let waker = Waker::from(Arc::new(Wakeup(parker.unparker().clone())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return Ok(Some(output));
        }
        match deadline {
            Some(deadline) if Instant::now() >= deadline => return Ok(None),
            Some(deadline) => parker.park_deadline(deadline),
            None => parker.park(),
        }
    }
}

struct Wakeup(Unparker);

impl Wake for Wakeup {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.unpark();
    }
}
