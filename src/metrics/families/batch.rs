//! What is told of a batch.

use super::{Row, counter, gauge, histogram};
use crate::batch::BatchMetrics;

/// The names of the priorities, as a queue lists them.
const PRIORITIES: [&str; 4] = ["critical", "high", "normal", "low"];

pub(super) static BATCH: &[Row<BatchMetrics>] = &[
    (
        counter("millpond_batch_submitted_total", "Operations accepted."),
        |batch, emit| emit(None, batch.submitted.into()),
    ),
    (
        counter(
            "millpond_batch_refused_total",
            "Operations that submit handed back.",
        ),
        |batch, emit| emit(None, batch.refused.into()),
    ),
    (
        counter(
            "millpond_batch_operations_total",
            "Operations that have their outcome.",
        ),
        |batch, emit| {
            emit(Some(("outcome", "done")), batch.done.into());
            emit(Some(("outcome", "rejected")), batch.rejected.into());
            emit(Some(("outcome", "not_executed")), batch.not_executed.into());
            emit(Some(("outcome", "unknown")), batch.unknown.into());
        },
    ),
    (
        gauge(
            "millpond_batch_queued",
            "Operations in the queue, by priority.",
        ),
        |batch, emit| {
            for (priority, count) in PRIORITIES.iter().zip(batch.queued_by_priority) {
                emit(Some(("priority", priority)), (count as u64).into());
            }
        },
    ),
    (
        gauge(
            "millpond_batch_queued_bytes",
            "Bytes of the operations in the queue.",
        ),
        |batch, emit| emit(None, (batch.queued_bytes as u64).into()),
    ),
    (
        gauge("millpond_batch_running_groups", "Groups being executed."),
        |batch, emit| emit(None, (batch.running as u64).into()),
    ),
    (
        gauge(
            "millpond_batch_quarantined",
            "Operations in the quarantine.",
        ),
        |batch, emit| emit(None, (batch.quarantined as u64).into()),
    ),
    (
        counter(
            "millpond_batch_retries_total",
            "Attempts that were repeated.",
        ),
        |batch, emit| emit(None, batch.retries.into()),
    ),
    (
        counter(
            "millpond_batch_splits_total",
            "Times that a group was split to find what is bad in it.",
        ),
        |batch, emit| emit(None, batch.splits.into()),
    ),
    (
        counter("millpond_batch_flushes_total", "Groups sent off, by cause."),
        |batch, emit| {
            let flushed = &batch.flushed;
            emit(Some(("cause", "free")), flushed.free.into());
            emit(Some(("cause", "full")), flushed.full.into());
            emit(Some(("cause", "due")), flushed.due.into());
            emit(Some(("cause", "deadline")), flushed.deadline.into());
            emit(Some(("cause", "asked")), flushed.asked.into());
            emit(Some(("cause", "closing")), flushed.closing.into());
        },
    ),
    (
        histogram(
            "millpond_batch_queue_time_seconds",
            "Time in the queue before the first attempt.",
        ),
        |batch, emit| emit(None, (&batch.queue_time).into()),
    ),
    (
        histogram("millpond_batch_group_size", "Operations in a group."),
        |batch, emit| emit(None, (&batch.group_size).into()),
    ),
    (
        histogram(
            "millpond_batch_group_time_seconds",
            "Time that a group took.",
        ),
        |batch, emit| emit(None, (&batch.group_time).into()),
    ),
];
