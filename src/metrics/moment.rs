//! Moments as seconds since 1970, UTC, as JSON has them.

use std::time::SystemTime;

use serde::{Serialize, Serializer};

fn seconds(moment: &SystemTime) -> f64 {
    let since = moment.duration_since(SystemTime::UNIX_EPOCH);
    since.unwrap_or_default().as_secs_f64()
}

pub(crate) fn serialize<S: Serializer>(moment: &SystemTime, to: S) -> Result<S::Ok, S::Error> {
    seconds(moment).serialize(to)
}

/// The same where there may be none.
pub(crate) mod optional {
    use super::{Serialize, Serializer, SystemTime, seconds};

    #[allow(clippy::ref_option, reason = "serde calls it like this")]
    pub(crate) fn serialize<S: Serializer>(
        moment: &Option<SystemTime>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        moment.as_ref().map(seconds).serialize(to)
    }
}
