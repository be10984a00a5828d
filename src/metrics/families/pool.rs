//! What is told of a pool.

use std::time::SystemTime;

use super::{Family, FamilyKind, Row, counter, gauge, histogram, level};
use crate::pool::PoolMetrics;
use crate::recovery::BreakerState;

const STATE: &str = "db_client_connection_state";
const ERROR: &str = "error_type";

pub(super) static POOL: &[Row<PoolMetrics>] = &[
    (
        Family {
            name: "db_client_connection_count",
            help: "Connections, by what they do.",
            kind: FamilyKind::Untyped,
        },
        |pool, emit| {
            let state = &pool.state;
            emit(Some((STATE, "idle")), state.idle_connections.into());
            emit(Some((STATE, "used")), state.leased.into());
            emit(Some((STATE, "in_care")), state.in_care.into());
        },
    ),
    (
        gauge(
            "db_client_connection_max",
            "The most connections that may exist.",
        ),
        |pool, emit| emit(None, pool.state.max_size.into()),
    ),
    (
        gauge(
            "millpond_pool_connection_limit",
            "The most that may exist now: fewer while the server is overloaded.",
        ),
        |pool, emit| emit(None, pool.state.limit.into()),
    ),
    (
        gauge(
            "db_client_connection_idle_min",
            "Idle connections kept ready.",
        ),
        |pool, emit| emit(None, pool.min_idle.into()),
    ),
    (
        gauge(
            "db_client_connection_pending_requests",
            "Callers that wait for a connection.",
        ),
        |pool, emit| emit(None, pool.state.waiters.into()),
    ),
    (
        counter(
            "db_client_connection_timeouts_total",
            "Callers that got no connection in time.",
        ),
        |pool, emit| emit(None, pool.timeouts.into()),
    ),
    (
        histogram(
            "db_client_connection_create_time_seconds",
            "Time to establish a connection.",
        ),
        |pool, emit| emit(None, (&pool.create_time).into()),
    ),
    (
        histogram(
            "db_client_connection_wait_time_seconds",
            "Time to obtain a connection.",
        ),
        |pool, emit| emit(None, (&pool.wait_time).into()),
    ),
    (
        histogram(
            "db_client_connection_use_time_seconds",
            "Time that a connection was held.",
        ),
        |pool, emit| emit(None, (&pool.use_time).into()),
    ),
    (
        histogram(
            "db_client_operation_duration_seconds",
            "Time that an operation took, waiting and repeating included.",
        ),
        |pool, emit| {
            emit(
                Some(("outcome", "ok")),
                (&pool.operations.response_time).into(),
            );
            emit(
                Some(("outcome", "error")),
                (&pool.operations.failed_time).into(),
            );
        },
    ),
    (
        counter(
            "millpond_pool_operation_errors_total",
            "Operations that failed, by kind.",
        ),
        |pool, emit| {
            for (kind, count) in &pool.operations.failed {
                emit(Some((ERROR, kind.as_str())), (*count).into());
            }
        },
    ),
    (
        counter(
            "millpond_pool_operation_retries_total",
            "Attempts beyond the first.",
        ),
        |pool, emit| emit(None, pool.operations.retries.into()),
    ),
    (
        gauge(
            "millpond_pool_recent_response_time_seconds",
            "Mean of the last requests.",
        ),
        |pool, emit| {
            emit(
                None,
                pool.operations.recent.response_time.as_secs_f64().into(),
            );
        },
    ),
    (
        gauge(
            "millpond_pool_recent_error_ratio",
            "Share of the last requests that failed.",
        ),
        |pool, emit| emit(None, pool.operations.recent.error_rate.into()),
    ),
    (
        counter("millpond_pool_leases_total", "Leases that ended."),
        |pool, emit| emit(None, pool.leases.into()),
    ),
    (
        counter(
            "millpond_pool_held_seconds_total",
            "Time that these were held.",
        ),
        |pool, emit| emit(None, pool.held.as_secs_f64().into()),
    ),
    (
        counter(
            "millpond_pool_connections_created_total",
            "Connections established.",
        ),
        |pool, emit| emit(None, pool.created.into()),
    ),
    (
        counter(
            "millpond_pool_connect_failures_total",
            "Attempts to connect that failed, by kind.",
        ),
        |pool, emit| {
            for (kind, count) in &pool.connect_failures {
                emit(Some((ERROR, kind.as_str())), (*count).into());
            }
        },
    ),
    (
        counter(
            "millpond_pool_connections_closed_total",
            "Connections closed, by reason.",
        ),
        |pool, emit| {
            for (reason, count) in &pool.closed {
                emit(Some(("reason", reason.as_str())), (*count).into());
            }
        },
    ),
    (
        gauge("millpond_pool_connecting", "Connections being established."),
        |pool, emit| emit(None, pool.state.connecting.into()),
    ),
    (
        gauge(
            "millpond_pool_utilization_ratio",
            "Share of the connections that is leased.",
        ),
        |pool, emit| emit(None, pool.utilization().into()),
    ),
    (
        counter("millpond_pool_leaks_total", "Leases reported as leaked."),
        |pool, emit| emit(None, pool.leaks.into()),
    ),
    (
        counter(
            "millpond_pool_deadlocks_total",
            "Deadlocks of threads that hold and want connections.",
        ),
        |pool, emit| emit(None, pool.deadlocks.into()),
    ),
    (
        gauge(
            "millpond_pool_breaker_open",
            "The circuit breaker: 1 open, 0.5 half-open, 0 closed.",
        ),
        |pool, emit| {
            let open = match pool.breaker {
                BreakerState::Closed => 0.0,
                BreakerState::HalfOpen => 0.5,
                BreakerState::Open => 1.0,
            };
            emit(None, open.into());
        },
    ),
    (
        counter(
            "millpond_pool_breaker_opened_total",
            "Times that the circuit breaker opened.",
        ),
        |pool, emit| emit(None, pool.breaker_opened.into()),
    ),
    (
        gauge("millpond_pool_health", "1 up, 0.5 degraded, 0 down."),
        |pool, emit| emit(None, level(pool.health).into()),
    ),
    (
        gauge(
            "millpond_certificate_expiry_timestamp_seconds",
            "When a certificate expires, by whose it is, in seconds since 1970.",
        ),
        |pool, emit| {
            for certificate in &pool.certificates {
                let of = certificate.of.as_str();
                let since = certificate
                    .expires_at
                    .duration_since(SystemTime::UNIX_EPOCH);
                let seconds = since.unwrap_or_default().as_secs_f64();
                emit(Some(("certificate", of)), seconds.into());
            }
        },
    ),
];
