//! How an operation gets into the queue: it is validated, let in by the gate, and put into the
//! channel of its priority.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use crossbeam_channel::TrySendError;

use super::job::Job;
use super::refused::Refused;
use super::settings::WhenFull;
use super::shield::Shielded;
use super::ticket::{Cell, Ticket};
use super::{Batch, Shared, Submitted, closed, threads};
use crate::backend::Backend;
use crate::clock::{NEVER, after};
use crate::error::{Error, ErrorKind, Phase};
use crate::operation::{Operation as _, OutcomeKind, Priority};
use crate::record::{self, Ended, Note};
use crate::resources;

impl<B: Backend> Batch<B> {
    /// Puts an operation into the queue.
    ///
    /// When the queue is full it waits, as
    /// [`BatchBuilder::when_full`](super::BatchBuilder::when_full) says, but not beyond the
    /// operation's own deadline, and not on the batch's own workers, where callbacks run.
    ///
    /// # Errors
    /// The operation again, with the reason: it is invalid
    /// ([`InvalidOperation`](ErrorKind::InvalidOperation)), the queue is full
    /// ([`Overloaded`](ErrorKind::Overloaded)) or the batch closed
    /// ([`Closed`](ErrorKind::Closed)).
    pub fn submit(&self, operation: B::Operation) -> Submitted<B> {
        self.submit_patiently(operation, true)
    }

    /// The same; waits for room only if it is to be `patient`.
    fn submit_patiently(&self, operation: B::Operation, patient: bool) -> Submitted<B> {
        let shared = &self.0.shared;
        let home = &shared.home;
        // The operation is asked for everything before it is let in: a panic in its code
        // leaves nothing behind.
        let size = operation.size().saturating_add(Shared::<B>::OVERHEAD);
        let may_repeat = operation.may_repeat();
        let validity = operation.validate();
        let note = record::is_wanted().then(|| {
            let note = Note::new(&operation, shared.clock.now());
            Box::new((note, home.place.clone()))
        });
        let envelope = operation.envelope();
        let limit = envelope.deadline();
        let deadline = limit.map_or(NEVER, |limit| after(shared.clock.now(), limit));
        let key = envelope.ordering_key().map(Arc::from);
        let retry = envelope.retry().cloned().map(Box::new);
        let priority = envelope.priority();
        // A worker would wait for room that only itself can make.
        let patient = patient && !threads::is_own(home);
        let entered = validity
            .and_then(|()| resources::refuse(priority).map_or(Ok(()), Err))
            .and_then(|()| self.let_in(size, limit, patient));
        if let Err(error) = entered {
            home.counters.refused.fetch_add(1, Relaxed);
            // One that a full queue hands back is not over: the caller has it again.
            if let Some(note) = note.filter(|_| error.kind() == ErrorKind::InvalidOperation) {
                let (note, place) = *note;
                Ended::now(place, note, OutcomeKind::Rejected, Some(&error), 0).tell(Some(&error));
            }
            return Err(Refused::new(operation, shared.lender.locate(error)));
        }
        home.counters.submitted.fetch_add(1, Relaxed);
        let cell = Arc::new(Cell::new(Arc::clone(home), size, note));
        let ticket = Ticket::new(Arc::clone(&cell));
        // Those with an ordering key all go by one channel, so that the dispatcher gets
        // them in the order of their submission.
        let line = match key {
            Some(_) => 0,
            None => Priority::Critical as usize - priority as usize,
        };
        let job = Job {
            cell,
            operation: Shielded::new(operation),
            priority,
            key,
            retry,
            may_repeat,
            doubtful: false,
            since: shared.clock.now(),
            deadline,
            size,
            failed: 0,
            tried: Vec::new(),
        };
        // The dispatcher outlives everything that the gate let in: it is there to receive.
        if let Err(TrySendError::Full(job)) = shared.arrivals[line].try_send(job) {
            home.bell.ring(0);
            let _ = shared.arrivals[line].send(job);
        }
        let must_shed = shared.settings.when_full == WhenFull::Shed && home.gate.is_overfull();
        home.bell.ring(if must_shed { 0 } else { deadline });
        Ok(ticket)
    }

    /// The same for many; what became of each, in the same order. Where one waited for room in
    /// vain, those after it do not wait until one gets in.
    ///
    /// ```
    /// # fn f<B: millpond::backend::Backend>(
    /// #     batch: &millpond::Batch<B>, operations: Vec<B::Operation>,
    /// # ) -> Result<(), millpond::Error> {
    /// let submitted = batch.submit_all(operations);
    /// let tickets: Vec<_> = submitted.into_iter().collect::<Result<_, _>>()?;
    /// # Ok(()) }
    /// ```
    pub fn submit_all(
        &self,
        operations: impl IntoIterator<Item = B::Operation>,
    ) -> Vec<Submitted<B>> {
        let mut patient = true;
        let submit = |operation| {
            let submitted = self.submit_patiently(operation, patient);
            let refused = submitted.as_ref().err();
            patient = refused.is_none_or(|refused| refused.error().kind() != ErrorKind::Overloaded);
            submitted
        };
        operations.into_iter().map(submit).collect()
    }

    /// Counts an operation of this size as queued, if it may be.
    fn let_in(&self, size: usize, limit: Option<Duration>, patient: bool) -> Result<(), Error> {
        let shared = &self.0.shared;
        if shared.is_closed() {
            return Err(closed("the batch is closed"));
        }
        let gate = &shared.home.gate;
        let (max_operations, max_bytes) = gate.limits();
        if size > max_bytes {
            let message = format!(
                "an operation of {size} bytes is larger than the whole queue of {max_bytes} may \
                 be (BATCH_MAX_BYTES)"
            );
            return Err(Error::new(
                ErrorKind::InvalidOperation,
                Phase::Queue,
                message,
            ));
        }
        let entered = match shared.settings.when_full {
            WhenFull::Shed => {
                gate.force(1, size);
                true
            }
            WhenFull::Block(most) if patient => {
                gate.enter(size) || {
                    let most = limit.map_or(most, |own| own.min(most));
                    let deadline = Instant::now().checked_add(most);
                    gate.enter_until(size, deadline, || shared.is_closed())
                }
            }
            WhenFull::Block(_) | WhenFull::Refuse => gate.enter(size),
        };
        if shared.is_closed() {
            if entered {
                gate.release(1, size);
                shared.home.bell.wake();
            }
            return Err(closed("the batch is closed"));
        }
        if entered {
            return Ok(());
        }
        let message = format!(
            "the queue is full with {max_operations} operations or {max_bytes} bytes \
             (BATCH_MAX_OPERATIONS, BATCH_MAX_BYTES)"
        );
        Err(Error::new(ErrorKind::Overloaded, Phase::Queue, message))
    }
}
