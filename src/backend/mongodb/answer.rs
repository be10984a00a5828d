//! What a server answers to an `update` or `delete` command of many statements.
//!
//! It names each statement that it refused and each that inserted, but counts what the
//! others found and changed only together. Each of ours concerns one document at most, so
//! the sums prove the parts where they are as large as they can be, or zero. Otherwise nobody
//! knows, and the reply says so.

use std::collections::HashMap;

use mongodb::bson::{Bson, Document};
use mongodb::error::Error as DriverError;

use super::errors;
use super::reply::Content;

pub(super) struct Answer {
    /// Which statements were refused, and why.
    pub(super) refused: Vec<(usize, DriverError)>,
    /// The write concern was not met.
    pub(super) concern: Option<DriverError>,
    upserted: HashMap<usize, Bson>,
    /// For each statement that was neither refused nor inserted, where it is certain.
    found: Option<u64>,
    changed: Option<u64>,
}

impl Answer {
    /// The answer to so many statements.
    pub(super) fn read(answer: &Document, statements: usize) -> Self {
        let entries = |name| {
            let entries = answer.get_array(name).map_or(&[][..], Vec::as_slice);
            entries.iter().filter_map(Bson::as_document)
        };
        let position = |entry: &Document| {
            let position = entry.get("index").and_then(number)?;
            usize::try_from(position).ok()
        };
        let refused: Vec<_> = entries("writeErrors")
            .filter_map(|entry| Some((position(entry)?, errors::write_error(entry.clone()))))
            .collect();
        let upserted: HashMap<_, _> = entries("upserted")
            .filter_map(|entry| Some((position(entry)?, entry.get("_id")?.clone())))
            .collect();
        let concern = answer.get_document("writeConcernError").ok();
        let concern = concern.map(|concern| errors::concern_error(concern.clone()));
        let others = statements.saturating_sub(refused.len() + upserted.len()) as u64;
        let total = answer.get("n").and_then(number);
        // An upsert counts as found there.
        let found = total.and_then(|total| total.checked_sub(upserted.len() as u64));
        Self {
            found: found.and_then(|found| each(found, others)),
            changed: answer
                .get("nModified")
                .and_then(number)
                .and_then(|changed| each(changed, others)),
            refused,
            concern,
            upserted,
        }
    }

    /// What the update at this position did.
    pub(super) fn updated(&mut self, position: usize) -> Content {
        let upserted = self.upserted.remove(&position);
        let of_upsert = upserted.as_ref().map(|_| 0);
        Content::Updated {
            matched: of_upsert.or(self.found),
            modified: of_upsert.or(self.changed),
            upserted,
        }
    }

    /// What each delete did.
    pub(super) fn deleted(&self) -> Content {
        Content::Deleted(self.found)
    }
}

/// Each one's part of a sum of zeros and ones, where there is only one way.
fn each(sum: u64, terms: u64) -> Option<u64> {
    match sum {
        0 => Some(0),
        sum if sum == terms => Some(1),
        _ => None,
    }
}

fn number(value: &Bson) -> Option<u64> {
    match *value {
        Bson::Int32(number) => u64::try_from(number).ok(),
        Bson::Int64(number) => u64::try_from(number).ok(),
        Bson::Double(number) => u64::try_from(number as i64).ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use mongodb::bson::doc;

    use super::*;

    fn updated(matched: Option<u64>, modified: Option<u64>, upserted: Option<Bson>) -> Content {
        Content::Updated {
            matched,
            modified,
            upserted,
        }
    }

    #[test]
    fn a_sum_proves_its_parts_only_at_its_bounds() {
        let all = doc! { "n": 3, "nModified": 0 };
        let mut answer = Answer::read(&all, 3);
        assert_eq!(answer.updated(2), updated(Some(1), Some(0), None));
        let some = doc! { "n": 2, "nModified": 2 };
        assert_eq!(Answer::read(&some, 3).updated(0), updated(None, None, None));
        assert_eq!(Answer::read(&some, 3).deleted(), Content::Deleted(None));
        assert_eq!(Answer::read(&some, 2).deleted(), Content::Deleted(Some(1)));
    }

    #[test]
    fn upserts_and_refusals_are_taken_out_first() {
        let answer = doc! {
            "n": 2, "nModified": 1_i64,
            "upserted": [ { "index": 1, "_id": 7 } ],
            "writeErrors": [ { "index": 0, "code": 11000, "errmsg": "E11000" } ],
        };
        let mut answer = Answer::read(&answer, 3);
        assert_eq!(answer.refused.len(), 1);
        assert_eq!(answer.refused[0].0, 0);
        assert_eq!(
            answer.updated(1),
            updated(Some(0), Some(0), Some(Bson::Int32(7)))
        );
        assert_eq!(answer.updated(2), updated(Some(1), Some(1), None));
    }
}
