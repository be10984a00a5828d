//! What is tried again, when, and when no more.
//!
//! Tried again is only what was certainly not applied, or may run twice; and of that only
//! what can succeed without anybody changing anything
//! ([`Error::is_retryable`]). Pauses grow exponentially with full jitter, so that
//! many callers do not come back at once; where the server said that it is overloaded,
//! half of the pause is certain, since full jitter can draw next to nothing. And a pool makes
//! at most one retry for ten operations in the long run ([`Budget`]). (See "Exponential
//! Backoff And Jitter", AWS Architecture Blog, 2015.)
//!
//! A server that says that it is overloaded also gets fewer operations at once: the pool's limit
//! (`pool/limit.rs`) sees to that.
//!
//! A server that keeps failing is left alone for a while: [`Breaker`] says when, [`circuit`]
//! does it, for each pool.

mod breaker;
mod budget;
pub(crate) mod circuit;
mod retry;
pub(crate) mod seconds;
mod verdict;
mod window;

pub use self::breaker::Breaker;
pub(crate) use self::budget::Budget;
pub use self::circuit::BreakerState;
pub(crate) use self::circuit::{Circuit, Pass};
pub use self::retry::RetryPolicy;
pub(crate) use self::retry::may_retry;
pub(crate) use self::verdict::Verdict;
