//! The variables of a fleet.

use std::time::Duration;

use super::balance::{
    Balance, LeastConnections, PeakEwma, PowerOfTwo, Random, RoundRobin, WEIGHTS, Weighted,
};
use super::builder::FleetBuilder;
use super::ejection::Ejection;
use crate::backend::Backend;
use crate::config::Vars;

const STRATEGIES: &str = "none, round-robin, random, weighted, least-connections, power-of-two or \
                          peak-ewma";

/// Variables that mean nothing to a single pool. (`POOL_WEIGHTS` is a mistake there.)
pub(crate) const OF_FLEETS: [&str; 7] = [
    "POOL_ATTEMPT_TIMEOUT",
    "POOL_REPLICA_LAG_LIMIT",
    "POOL_EJECTION_FAILURES",
    "POOL_EJECTION_TIME",
    "POOL_EJECTION_MAX_TIME",
    "POOL_SLOW_START",
    "POOL_RESOLVE_INTERVAL",
];

/// What variables say of a fleet, but for its servers and their pools.
pub(crate) struct FleetSettings {
    balance: Box<dyn Balance>,
    /// By position; empty if all are the same.
    weights: Vec<f64>,
    ejection: Ejection,
    attempt_timeout: Option<Duration>,
    max_lag: Option<Duration>,
    /// How often the names of servers are looked up, if that is wanted.
    pub(crate) resolve: Option<Duration>,
}

/// Whether `POOL_BALANCE` asks for a fleet; a strategy that nobody knows does too.
pub(crate) fn is_wanted(vars: &mut Vars<'_>) -> bool {
    let strategy = vars.text("POOL_BALANCE");
    strategy.is_some_and(|strategy| strategy.trim() != "none")
}

impl FleetSettings {
    /// What they say of a fleet of so many servers; `None` if there is to be no fleet. Mistakes
    /// are noted in any case.
    pub(crate) fn from_vars(vars: &mut Vars<'_>, servers: usize) -> Option<Self> {
        let wanted = is_wanted(vars);
        let ejection = ejection(vars);
        let attempt_timeout = vars.seconds("POOL_ATTEMPT_TIMEOUT");
        let max_lag = vars.seconds("POOL_REPLICA_LAG_LIMIT");
        let resolve = vars.seconds("POOL_RESOLVE_INTERVAL");
        let strategy = vars.text("POOL_BALANCE").unwrap_or_default();
        let strategy = strategy.trim();
        let weighted = strategy == "weighted";
        let weights = vars.text("POOL_WEIGHTS").map(|text| {
            let weights = weights(&text, servers).filter(|_| weighted && resolve.is_none());
            if weights.is_none() {
                let accepted = if weighted && resolve.is_some() {
                    "none with POOL_RESOLVE_INTERVAL".to_owned()
                } else if weighted {
                    format!(
                        "{} with commas, one for each of the {servers} servers",
                        weight()
                    )
                } else {
                    "none unless POOL_BALANCE=weighted".to_owned()
                };
                vars.mistake("POOL_WEIGHTS", &text, &accepted);
            }
            weights.unwrap_or_default()
        });
        if weighted && weights.is_none() {
            let accepted = format!(
                "{} for each server with commas, for POOL_BALANCE=weighted",
                weight()
            );
            vars.mistake("POOL_WEIGHTS", "", &accepted);
        }
        if !wanted {
            return None;
        }
        let Some(balance) = balance(strategy) else {
            vars.mistake("POOL_BALANCE", strategy, STRATEGIES);
            return None;
        };
        Some(Self {
            balance,
            weights: weights.unwrap_or_default(),
            ejection,
            attempt_timeout,
            max_lag,
            resolve,
        })
    }

    /// A builder with these settings, and the weight of each server to come.
    pub(crate) fn builder<B: Backend>(self) -> (FleetBuilder<B>, impl Iterator<Item = f64>) {
        let builder = FleetBuilder {
            balance: self.balance,
            ejection: self.ejection,
            attempt_timeout: self.attempt_timeout,
            ..FleetBuilder::default()
        };
        let weights = self.weights.into_iter().chain(std::iter::repeat(1.0));
        (builder.max_lag(self.max_lag), weights)
    }
}

fn balance(strategy: &str) -> Option<Box<dyn Balance>> {
    Some(match strategy {
        "round-robin" => Box::new(RoundRobin::new()),
        "random" => Box::new(Random),
        "weighted" => Box::new(Weighted::new()),
        "least-connections" => Box::new(LeastConnections),
        "power-of-two" => Box::new(PowerOfTwo),
        "peak-ewma" => Box::new(PeakEwma),
        _ => return None,
    })
}

/// What a weight may be.
fn weight() -> String {
    format!("a number from {:e} to {:e}", WEIGHTS.start(), WEIGHTS.end())
}

fn weights(text: &str, servers: usize) -> Option<Vec<f64>> {
    let weights = text.split(',').map(|weight| weight.trim().parse().ok());
    let weights: Option<Vec<f64>> = weights.collect();
    let fit = |weights: &Vec<f64>| weights.iter().all(|weight| WEIGHTS.contains(weight));
    weights.filter(|weights| weights.len() == servers && fit(weights))
}

fn ejection(vars: &mut Vars<'_>) -> Ejection {
    let mut rules = Ejection::default();
    let accepted = "a number from 1";
    match vars.parse("POOL_EJECTION_FAILURES", accepted) {
        Some(0) => vars.mistake("POOL_EJECTION_FAILURES", "0", accepted),
        Some(failures) => rules = rules.failures(failures),
        None => {}
    }
    if let Some(longest) = vars.seconds("POOL_EJECTION_MAX_TIME") {
        rules = rules.longest(longest);
    }
    if let Some(time) = vars.seconds("POOL_EJECTION_TIME") {
        let longest = rules.longest_time();
        if time > longest {
            let accepted = format!(
                "at most POOL_EJECTION_MAX_TIME, which is {}",
                longest.as_secs_f64()
            );
            let time = time.as_secs_f64().to_string();
            vars.mistake("POOL_EJECTION_TIME", &time, &accepted);
        }
        rules = rules.base(time);
    }
    if let Some(time) = vars.seconds_from_zero("POOL_SLOW_START") {
        rules = rules.slow_start(time);
    }
    rules
}
