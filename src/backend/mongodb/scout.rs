//! One at a time finds out whether the servers answer again.
//!
//! The driver opens sockets by itself, two at a time, and logs in on each. So while a password is
//! refused, each question beside another one costs a refused login, and too many of them lock an
//! account. Therefore, where nothing is known of the servers — at first, and after the driver has
//! given up its sockets — one question goes ahead, and who comes meanwhile waits for its answer. If
//! they answered, all others ask; if not, that is the answer of all.
//!
//! Invariants:
//! 1. The lock is not held while anybody asks, nor while anybody is woken.
//! 2. Who waits does so within its own limit, and gets an answer or asks.

use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::error::Error;

/// Of one client of the driver.
#[derive(Default)]
pub(super) struct Scout {
    state: Mutex<State>,
    returned: Condvar,
}

#[derive(Default)]
struct State {
    /// The driver had given up its sockets so often when the servers answered last.
    answered: Option<u64>,
    /// Somebody asks.
    away: bool,
    /// How often somebody has asked, and what came of it the last time.
    journeys: u64,
    failure: Option<Error>,
}

/// Somebody asks, until dropped.
struct Journey<'a> {
    scout: &'a Scout,
    /// What came of it.
    answer: Result<u64, Option<Error>>,
}

impl Drop for Journey<'_> {
    fn drop(&mut self) {
        let mut state = self.scout.state.lock();
        state.away = false;
        state.journeys += 1;
        state.failure = None;
        match &mut self.answer {
            Ok(clears) => state.answered = Some(*clears),
            Err(error) => state.failure = error.take(),
        }
        drop(state);
        self.scout.returned.notify_all();
    }
}

impl Scout {
    /// Asks within this limit, if nobody does already; with how often the driver has given up its
    /// sockets. The question is told how much time it has.
    pub(super) fn ask<T>(
        &self,
        clears: u64,
        limit: Duration,
        question: impl FnOnce(Duration) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let start = Instant::now();
        let left = || limit.saturating_sub(start.elapsed());
        let mut state = self.state.lock();
        while state.answered != Some(clears) && state.away {
            let journeys = state.journeys;
            if self.returned.wait_for(&mut state, left()).timed_out() {
                break;
            }
            if state.journeys != journeys
                && let Some(error) = &state.failure
            {
                return Err(error.clone());
            }
        }
        if state.answered == Some(clears) || state.away {
            drop(state);
            return question(left());
        }
        state.away = true;
        drop(state);
        let mut journey = Journey {
            scout: self,
            answer: Err(None),
        };
        let result = question(left());
        journey.answer = match &result {
            Ok(_) => Ok(clears),
            Err(error) => Err(Some(error.clone())),
        };
        result
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
    use std::thread;

    use super::*;
    use crate::error::{ErrorKind, Phase};

    const LIMIT: Duration = Duration::from_secs(10);

    fn refusal() -> Error {
        Error::new(ErrorKind::Authentication, Phase::Connect, "refused")
    }

    /// Eight ask at once; how many really did, and how many were refused.
    fn eight(
        scout: &Scout,
        clears: u64,
        answer: impl Fn() -> Result<(), Error> + Sync,
    ) -> (u32, u32) {
        let (asked, refused) = (AtomicU32::new(0), AtomicU32::new(0));
        let start = Barrier::new(8);
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    start.wait();
                    let question = |_| {
                        asked.fetch_add(1, SeqCst);
                        thread::sleep(Duration::from_millis(500));
                        answer()
                    };
                    if scout.ask(clears, LIMIT, question).is_err() {
                        refused.fetch_add(1, SeqCst);
                    }
                });
            }
        });
        (asked.into_inner(), refused.into_inner())
    }

    #[test]
    fn one_is_refused_for_all_and_after_an_answer_everybody_asks() {
        let scout = Scout::default();
        assert_eq!(eight(&scout, 0, || Err(refusal())), (1, 8));
        assert_eq!(eight(&scout, 1, || Err(refusal())), (1, 8));
        assert_eq!(eight(&scout, 2, || Ok(())), (8, 0));
        assert_eq!(eight(&scout, 2, || Err(refusal())), (8, 8));
        assert_eq!(eight(&scout, 3, || Err(refusal())), (1, 8));
    }

    #[test]
    fn who_has_no_time_left_does_not_wait_and_a_panic_lets_the_next_go() {
        let scout = Scout::default();
        let (away, over) = (Barrier::new(2), Barrier::new(2));
        thread::scope(|scope| {
            let slow = scope.spawn(|| {
                scout.ask(0, LIMIT, |_| -> Result<(), Error> {
                    away.wait();
                    over.wait();
                    panic!("scripted");
                })
            });
            away.wait();
            let short = Duration::from_millis(20);
            let left = scout.ask(0, short, Ok).expect("it asks by itself");
            assert_eq!(left, Duration::ZERO);
            over.wait();
            assert!(slow.join().is_err());
        });
        let left = scout.ask(0, LIMIT, Ok).expect("nobody is away");
        assert!(left > LIMIT / 2);
    }
}
