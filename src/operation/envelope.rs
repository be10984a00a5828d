//! What all operations have in common.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize};

use crate::recovery::RetryPolicy;

/// How urgent an operation is. Higher ones are served first, but none starves.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Priority {
    /// Whenever there is room.
    Low,
    /// The usual.
    #[default]
    Normal,
    /// Before the usual.
    High,
    /// Before all others.
    Critical,
}

impl Priority {
    /// All of them, the most urgent first.
    pub const ALL: [Self; 4] = [Self::Critical, Self::High, Self::Normal, Self::Low];

    #[allow(
        clippy::trivially_copy_pass_by_ref,
        reason = "serde calls it like this"
    )]
    fn is_normal(&self) -> bool {
        *self == Self::Normal
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Low => "low",
            Self::Normal => "normal",
            Self::High => "high",
            Self::Critical => "critical",
        })
    }
}

/// What all operations have in common; set by the chained methods of
/// [`Operation`](super::Operation). Serialised as fields beside the operation's own, each
/// only where it was set.
///
/// ```
/// use millpond::{Envelope, Priority};
/// let envelope = Envelope::default();
/// assert_eq!(envelope.priority(), Priority::Normal);
/// assert!(envelope.deadline().is_none());
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Envelope {
    #[serde(default, skip_serializing_if = "Priority::is_normal")]
    priority: Priority,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    idempotent: Option<bool>,
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "crate::recovery::seconds::optional"
    )]
    deadline: Option<Duration>,
    /// What few operations have, out of the way of the many.
    #[serde(flatten, deserialize_with = "Rare::read")]
    rare: Option<Box<Rare>>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Rare {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    id: Option<Box<str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ordering_key: Option<Box<str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    comment: Option<Box<str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    retry: Option<RetryPolicy>,
}

impl Rare {
    /// Nothing rare read is nothing kept.
    fn read<'de, D: Deserializer<'de>>(source: D) -> Result<Option<Box<Self>>, D::Error> {
        let rare = Self::deserialize(source)?;
        Ok((rare != Self::default()).then(|| Box::new(rare)))
    }
}

impl Envelope {
    /// How urgent it is.
    pub fn priority(&self) -> Priority {
        self.priority
    }

    /// How long it may take in all, from submission on.
    pub fn deadline(&self) -> Option<Duration> {
        self.deadline
    }

    /// Whether it may run twice, if that was said.
    pub fn is_idempotent(&self) -> Option<bool> {
        self.idempotent
    }

    /// Its name.
    pub fn id(&self) -> Option<&str> {
        self.rare()?.id.as_deref()
    }

    /// Those with the same key run in the order of their submission.
    pub fn ordering_key(&self) -> Option<&str> {
        self.rare()?.ordering_key.as_deref()
    }

    /// A remark for the audit log.
    pub fn comment(&self) -> Option<&str> {
        self.rare()?.comment.as_deref()
    }

    /// How often and when it is tried again, other than usual.
    pub fn retry(&self) -> Option<&RetryPolicy> {
        self.rare()?.retry.as_ref()
    }

    /// About how many bytes it takes beyond its own size.
    pub fn size(&self) -> usize {
        self.rare().map_or(0, |rare| {
            let texts = [&rare.id, &rare.ordering_key, &rare.comment];
            let texts = texts.into_iter().flatten().map(|text| text.len());
            size_of::<Rare>() + texts.sum::<usize>()
        })
    }

    fn rare(&self) -> Option<&Rare> {
        self.rare.as_deref()
    }

    fn rare_mut(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }

    pub(super) fn set_priority(&mut self, priority: Priority) {
        self.priority = priority;
    }

    pub(super) fn set_deadline(&mut self, limit: Duration) {
        self.deadline = Some(limit);
    }

    pub(super) fn set_idempotent(&mut self, idempotent: bool) {
        self.idempotent = Some(idempotent);
    }

    pub(super) fn set_id(&mut self, id: String) {
        self.rare_mut().id = Some(id.into());
    }

    pub(super) fn set_ordering_key(&mut self, key: String) {
        self.rare_mut().ordering_key = Some(key.into());
    }

    pub(super) fn set_comment(&mut self, comment: String) {
        self.rare_mut().comment = Some(comment.into());
    }

    pub(super) fn set_retry(&mut self, policy: RetryPolicy) {
        self.rare_mut().retry = Some(policy);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_set_is_written() {
        let mut envelope = Envelope::default();
        let read = |text: &str| serde_json::from_str::<Envelope>(text).expect("as written");
        assert_eq!(serde_json::to_string(&envelope).expect("writes"), "{}");
        assert_eq!(read("{}"), envelope);
        assert!(read("{}").rare.is_none(), "costs no allocation");

        envelope.set_id("7".into());
        envelope.set_deadline(Duration::from_millis(1500));
        envelope.set_priority(Priority::Critical);
        envelope.set_idempotent(true);
        envelope.set_retry(RetryPolicy::new(2));
        let text = serde_json::to_string(&envelope).expect("writes");
        assert!(
            text.starts_with(r#"{"priority":"critical","idempotent":true,"deadline":1.5,"id":"7""#),
            "{text}"
        );
        assert_eq!(read(&text), envelope);
    }

    #[test]
    fn a_deadline_that_is_no_duration_is_an_error() {
        for text in [r#"{"deadline":-1.0}"#, r#"{"deadline":1e300}"#] {
            assert!(serde_json::from_str::<Envelope>(text).is_err(), "{text}");
        }
    }
}
