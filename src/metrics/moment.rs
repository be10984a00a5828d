//! Moments as seconds since 1970, UTC, as JSON has them, and as dates for people.

use std::time::SystemTime;

use serde::{Serialize, Serializer};

fn seconds(moment: &SystemTime) -> f64 {
    let since = moment.duration_since(SystemTime::UNIX_EPOCH);
    since.unwrap_or_default().as_secs_f64()
}

pub(crate) fn serialize<S: Serializer>(moment: &SystemTime, to: S) -> Result<S::Ok, S::Error> {
    seconds(moment).serialize(to)
}

/// The day, UTC, such as `2026-11-30`.
pub(crate) fn date(moment: SystemTime) -> String {
    let since = moment.duration_since(SystemTime::UNIX_EPOCH);
    // Counted from 1 March of the year 0, so that a leap day is the last of its year; after
    // Howard Hinnant's `civil_from_days`.
    let days = since.unwrap_or_default().as_secs() / 86_400 + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
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

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    #[test]
    fn days_have_dates() {
        for (seconds, date) in [
            (0, "1970-01-01"),
            (951_782_399, "2000-02-28"),
            (951_782_400, "2000-02-29"),
            (951_868_800, "2000-03-01"),
            (1_009_756_800, "2001-12-31"),
            (4_107_542_400, "2100-03-01"),
            (253_402_300_799, "9999-12-31"),
        ] {
            let moment = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
            assert_eq!(super::date(moment), date);
        }
    }
}
