//! Judges rules at each sample.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::{Alert, AlertLog, Rule};
use crate::health::Reason;
use crate::metrics::Snapshot;

/// Samples that rates and percentiles are of.
const SAMPLES: usize = 10;
/// Alerts that resolved and are remembered.
const PAST: usize = 100;

/// The rules of a hub, and how each stands for each subject.
pub(crate) struct Engine {
    rules: Vec<Rule>,
    /// The last snapshots, the oldest first.
    samples: VecDeque<Arc<Snapshot>>,
    /// By the rule's number and the subject's: pools first, then batches, then the process.
    standings: BTreeMap<(usize, usize), Standing>,
    past: VecDeque<Alert>,
}

/// How a rule stands for a subject.
#[derive(Default)]
struct Standing {
    /// Since when the signal has been above, by the hub's age.
    above_since: Option<Duration>,
    /// Since when it has been back, or missing.
    below_since: Option<Duration>,
    firing: Option<Alert>,
}

/// What a rule may be about.
struct Subject<'a> {
    name: &'a Arc<str>,
    endpoint: Arc<str>,
    reasons: &'a [Reason],
    value: Option<f64>,
}

impl Engine {
    pub(crate) fn new(rules: Vec<Rule>) -> Self {
        Self {
            rules,
            samples: VecDeque::new(),
            standings: BTreeMap::new(),
            past: VecDeque::new(),
        }
    }

    /// Judges every rule by this snapshot; what begins to fire and what resolves.
    pub(crate) fn judge(&mut self, now: &Arc<Snapshot>) -> Vec<Alert> {
        let before = self.samples.front().map(Arc::clone);
        let mut news = Vec::new();
        for (number, rule) in self.rules.iter().enumerate() {
            for (place, subject) in subjects(rule, before.as_deref(), now) {
                if rule
                    .subject
                    .as_ref()
                    .is_some_and(|wanted| wanted != subject.name)
                {
                    continue;
                }
                let standing = self.standings.entry((number, place)).or_default();
                if let Some(alert) = standing.judge(rule, &subject, now) {
                    if !alert.is_firing() {
                        self.past.push_back(alert.clone());
                    }
                    news.push(alert);
                }
            }
        }
        while self.past.len() > PAST {
            self.past.pop_front();
        }
        self.samples.push_back(Arc::clone(now));
        while self.samples.len() > SAMPLES {
            self.samples.pop_front();
        }
        news
    }

    /// Those that fire, and those that did.
    pub(crate) fn log(&self) -> AlertLog {
        let firing = self
            .standings
            .values()
            .filter_map(|standing| standing.firing.clone());
        let mut firing: Vec<_> = firing.collect();
        firing.sort_by_key(|alert| alert.since);
        AlertLog {
            firing,
            past: self.past.iter().cloned().collect(),
        }
    }
}

/// The numbers and figures of all that a rule may be about.
fn subjects<'a>(
    rule: &Rule,
    before: Option<&Snapshot>,
    now: &'a Snapshot,
) -> Vec<(usize, Subject<'a>)> {
    static PROCESS: std::sync::LazyLock<Arc<str>> = std::sync::LazyLock::new(|| "process".into());
    let passed = before.map_or(0.0, |before| {
        now.uptime.saturating_sub(before.uptime).as_secs_f64()
    });
    let pools = now.pools.iter().zip(&now.health.pools).enumerate();
    let mut subjects: Vec<_> = pools
        .map(|(place, (pool, health))| {
            let earlier = before.and_then(|before| before.pools.get(place));
            let subject = Subject {
                name: &pool.name,
                endpoint: Arc::clone(&pool.endpoint),
                reasons: &health.reasons,
                value: rule
                    .signal
                    .of_pool(earlier, passed.max(1e-3), pool, health, now.taken_at),
            };
            (place, subject)
        })
        .collect();
    #[cfg(feature = "batch")]
    subjects.extend(now.batches.iter().enumerate().map(|(place, batch)| {
        let earlier = before.and_then(|before| before.batches.get(place));
        let subject = Subject {
            name: &batch.name,
            endpoint: "".into(),
            reasons: &[],
            value: rule.signal.of_batch(earlier, batch),
        };
        // Far from the numbers of pools, of which there may be more tomorrow.
        (usize::MAX / 2 + place, subject)
    }));
    let process = Subject {
        name: &PROCESS,
        endpoint: "".into(),
        reasons: &now.health.resources,
        value: rule.signal.of_process(before, now),
    };
    subjects.push((usize::MAX, process));
    subjects
}

impl Standing {
    /// Takes in the signal's value; the alert if it begins to fire or resolves.
    fn judge(&mut self, rule: &Rule, subject: &Subject<'_>, now: &Snapshot) -> Option<Alert> {
        let age = now.uptime;
        let Some(alert) = &mut self.firing else {
            let Some(value) = subject.value.filter(|value| *value > rule.threshold) else {
                self.above_since = None;
                return None;
            };
            let since = *self.above_since.get_or_insert(age);
            if age.saturating_sub(since) < rule.lasting {
                return None;
            }
            let alert = fire(rule, subject, value, now.taken_at);
            self.below_since = None;
            self.firing = Some(alert.clone());
            return Some(alert);
        };
        if let Some(value) = subject.value.filter(|value| *value > rule.clear) {
            alert.value = value;
            self.below_since = None;
            return None;
        }
        let since = *self.below_since.get_or_insert(age);
        if age.saturating_sub(since) < rule.clear_after {
            return None;
        }
        self.above_since = None;
        let mut alert = self.firing.take()?;
        alert.until = Some(now.taken_at);
        Some(alert)
    }
}

fn fire(rule: &Rule, subject: &Subject<'_>, value: f64, at: SystemTime) -> Alert {
    let mut message = rule.signal.describe(value);
    for reason in subject.reasons {
        message.push_str("; ");
        message.push_str(&reason.text);
    }
    Alert {
        rule: Arc::clone(&rule.name),
        severity: rule.severity,
        subject: Arc::clone(subject.name),
        endpoint: Arc::clone(&subject.endpoint),
        since: at,
        until: None,
        value,
        threshold: rule.threshold,
        message,
    }
}
