//! Millpond: a blocking connection pool.
