//! Secrets and TLS, the same for every backend.
//!
//! Invariants: a [`Secret`] is wiped when dropped and never printed; every TLS
//! configuration of this crate comes from [`Tls`] and uses one crypto provider
//! (ring), handed over explicitly, so that no process-wide default is needed.

#[cfg(any(feature = "redis", feature = "http"))]
mod base64;
mod secret;
mod tls;

#[cfg(any(feature = "redis", feature = "http"))]
pub(crate) use base64::base64;
pub use secret::Secret;
pub use tls::Tls;
