//! The exchange under loom: every interleaving of two or three threads.
//!
//! loom reports a deadlock when a thread is parked for ever, so each model that
//! waits without a deadline is a check against lost wake-ups.

use loom::sync::Arc;
use loom::thread;

use super::{Exchange, Gate, Slotted, Waited};
use crate::clock::{Clock, NEVER};

struct Token(u32);

impl Slotted for Token {
    fn slot(&self) -> u32 {
        self.0
    }
}

type Tokens = Exchange<Token, (), ()>;

fn check(preemptions: usize, body: impl Fn() + Sync + Send + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(preemptions);
    model.check(body);
}

/// An overtaking bound with which whoever waits since 0 is impatient, not overdue.
fn impatient() -> u64 {
    Clock::System.now() / 2 * 3
}

fn exchange(slots: u32, overtaking: u64) -> Arc<Tokens> {
    let exchange = Exchange::new(slots, overtaking);
    for number in 0..slots {
        exchange.put(Box::new(Token(number)), &Clock::System);
    }
    Arc::new(exchange)
}

fn obtain(exchange: &Tokens, deadline: u64) -> Option<Box<Token>> {
    if let Some(token) = exchange.take(&Clock::System) {
        return Some(token);
    }
    let waited = exchange.wait(
        &Clock::System,
        (1, 0, deadline),
        |gate, _| {
            if gate == Gate::Closed {
                Err(())
            } else {
                Ok(())
            }
        },
        || (),
        Some,
        |_| Ok(NEVER),
    );
    match waited {
        Waited::Given(token) | Waited::Taken(token) => Some(token),
        Waited::Refused(()) | Waited::TimedOut => None,
    }
}

fn all_are_back(exchange: &Tokens, slots: u32) {
    assert_eq!(exchange.waiting(), 0);
    for number in 0..slots {
        assert!(
            exchange.take_from(number).is_some(),
            "token {number} is lost"
        );
    }
}

/// Two threads, one token, helping themselves or by hand-off.
fn two_threads_share(overtaking: u64) {
    check(3, move || {
        let exchange = exchange(1, overtaking);
        let other = {
            let exchange = Arc::clone(&exchange);
            thread::spawn(move || {
                let token = obtain(&exchange, NEVER).expect("served");
                exchange.put(token, &Clock::System);
            })
        };
        let token = obtain(&exchange, NEVER).expect("served");
        exchange.put(token, &Clock::System);
        other.join().expect("no panic");
        all_are_back(&exchange, 1);
    });
}

#[test]
fn overtaking_loses_no_wake_up() {
    two_threads_share(NEVER);
}

#[test]
fn handing_to_those_awake_loses_no_wake_up() {
    two_threads_share(impatient());
}

#[test]
fn direct_hand_off_loses_no_wake_up() {
    two_threads_share(0);
}

/// A clock that stands still from now on.
fn stopped() -> Clock {
    Clock::Manual(std::sync::Arc::new(Clock::System.now().into()))
}

/// One waiter gives up at once while the token comes back and another one waits:
/// the other one is served, whoever was nudged or given. The first one's deadline comes
/// right after `giver`'s time, so that it may still be given the token.
fn a_waiter_gives_up(overtaking: u64, giver: fn() -> Clock) {
    check(2, move || {
        let exchange = exchange(1, overtaking);
        let token = exchange.take(&Clock::System).expect("full");
        let giver = giver();
        let deadline = giver.now() + 1;
        let hasty = {
            let exchange = Arc::clone(&exchange);
            thread::spawn(move || {
                if let Some(token) = obtain(&exchange, deadline) {
                    exchange.put(token, &Clock::System);
                }
            })
        };
        let patient = {
            let exchange = Arc::clone(&exchange);
            thread::spawn(move || {
                let token = obtain(&exchange, NEVER).expect("served");
                exchange.put(token, &Clock::System);
            })
        };
        exchange.put(token, &giver);
        hasty.join().expect("no panic");
        patient.join().expect("no panic");
        all_are_back(&exchange, 1);
    });
}

#[test]
fn who_gives_up_passes_the_nudge_on() {
    a_waiter_gives_up(NEVER, stopped);
}

#[test]
fn who_gives_up_awake_is_not_missed() {
    a_waiter_gives_up(impatient(), stopped);
}

#[test]
fn who_gives_up_is_not_served_and_nothing_is_lost() {
    a_waiter_gives_up(0, stopped);
}

#[test]
fn who_should_have_given_up_is_passed_over() {
    a_waiter_gives_up(0, || Clock::System);
}

/// Closing refuses whoever waits or comes.
#[test]
fn closing_leaves_nobody_behind() {
    check(3, || {
        let exchange = exchange(1, NEVER);
        let token = exchange.take(&Clock::System).expect("full");
        let waiter = {
            let exchange = Arc::clone(&exchange);
            thread::spawn(move || {
                if let Some(token) = obtain(&exchange, NEVER) {
                    exchange.put(token, &Clock::System);
                }
            })
        };
        exchange.set_gate(Gate::Closed);
        exchange.refuse_all(|| ());
        exchange.put(token, &Clock::System);
        waiter.join().expect("no panic");
        all_are_back(&exchange, 1);
    });
}

/// Two boxes come back while two wait and nobody puts again: the first to leave tells
/// the second, if whoever put the second box took the first waiter's call for enough.
fn two_boxes_for_two_waiters(overtaking: u64) {
    check(2, move || {
        let exchange = exchange(2, overtaking);
        let tokens = [(); 2].map(|()| exchange.take(&Clock::System).expect("full"));
        let waiters = [(); 2].map(|()| {
            let exchange = Arc::clone(&exchange);
            thread::spawn(move || obtain(&exchange, NEVER).expect("served"))
        });
        for token in tokens {
            exchange.put(token, &Clock::System);
        }
        for waiter in waiters {
            let token = waiter.join().expect("no panic");
            exchange.put(token, &Clock::System);
        }
        all_are_back(&exchange, 2);
    });
}

#[test]
fn who_leaves_tells_the_next() {
    two_boxes_for_two_waiters(NEVER);
}

#[test]
fn two_boxes_for_two_impatient_waiters() {
    two_boxes_for_two_waiters(impatient());
}

#[test]
fn two_hand_offs_reach_two_waiters() {
    two_boxes_for_two_waiters(0);
}

/// Whoever holds the line's queue for another reason answers for those who come by.
#[test]
fn who_looks_at_the_line_answers_the_bell() {
    check(3, || {
        let exchange = exchange(1, NEVER);
        let token = exchange.take(&Clock::System).expect("full");
        let waiter = {
            let exchange = Arc::clone(&exchange);
            thread::spawn(move || obtain(&exchange, NEVER).expect("served"))
        };
        let onlooker = {
            let exchange = Arc::clone(&exchange);
            thread::spawn(move || exchange.waiting_threads().len())
        };
        exchange.put(token, &Clock::System);
        assert!(onlooker.join().expect("no panic") <= 1);
        let token = waiter.join().expect("no panic");
        exchange.put(token, &Clock::System);
        all_are_back(&exchange, 1);
    });
}

/// Two threads give at once: who finds the queue taken leaves it to the other.
#[test]
fn two_givers_serve_two_waiters() {
    check(1, || {
        let exchange = exchange(2, 0);
        let [one, two] = [(); 2].map(|()| exchange.take(&Clock::System).expect("full"));
        let waiters = [(); 2].map(|()| {
            let exchange = Arc::clone(&exchange);
            thread::spawn(move || obtain(&exchange, NEVER).expect("served"))
        });
        let giver = {
            let exchange = Arc::clone(&exchange);
            thread::spawn(move || {
                exchange.put(one, &Clock::System);
            })
        };
        exchange.put(two, &Clock::System);
        giver.join().expect("no panic");
        for waiter in waiters {
            let token = waiter.join().expect("no panic");
            exchange.put(token, &Clock::System);
        }
        all_are_back(&exchange, 2);
    });
}
