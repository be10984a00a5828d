//! Secrets and TLS, the same for every backend.
//!
//! Invariants: a [`Secret`] is wiped when dropped and never printed; every TLS
//! configuration of this crate comes from [`Tls`] and uses one crypto provider
//! (ring), handed over explicitly, so that no process-wide default is needed.

#[cfg(feature = "_net")]
mod certificates;
#[cfg(feature = "_net")]
mod credential;
#[cfg(feature = "_net")]
mod diagnosis;
mod secret;
#[cfg(feature = "_net")]
mod tls;
#[cfg(feature = "_net")]
mod verifier;

#[cfg(feature = "_net")]
pub(crate) use certificates::Watch;
#[cfg(feature = "_net")]
pub(crate) use credential::Credential;
#[cfg(any(feature = "redis", feature = "mongodb"))]
pub(crate) use credential::same;
#[cfg(feature = "_net")]
pub(crate) use diagnosis::{TlsSettings, warn_unchecked};
pub use secret::Secret;
#[cfg(feature = "_net")]
pub(crate) use secret::read_regular;
pub(crate) use secret::read_secret;
#[cfg(feature = "_net")]
pub(crate) use tls::TLS_VERSIONS;
#[cfg(feature = "_net")]
pub use tls::{Tls, TlsVersion};
