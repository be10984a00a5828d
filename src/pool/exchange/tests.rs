use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::{Exchange, Gate, Slotted, Waited};
use crate::clock::{Clock, NEVER, after};

struct Token(u32);

impl Slotted for Token {
    fn slot(&self) -> u32 {
        self.0
    }
}

type Tokens = Exchange<Token, (), &'static str>;

fn exchange(tokens: u32, overtaking: Duration) -> Tokens {
    let exchange = Exchange::new(tokens, crate::clock::ticks(overtaking));
    for number in 0..tokens {
        exchange.put(Box::new(Token(number)), &Clock::System);
    }
    exchange
}

fn wait(exchange: &Tokens, clock: &Clock, limit: Duration) -> Waited<Token, &'static str> {
    let now = clock.now();
    let admit = |gate, _| {
        if gate == Gate::Closed {
            Err("closed")
        } else {
            Ok(())
        }
    };
    exchange.wait(
        clock,
        (1, now, after(now, limit)),
        admit,
        || (),
        Some,
        |_| Ok(NEVER),
    )
}

fn count(exchange: &Tokens) -> usize {
    let mut found = Vec::new();
    while let Some(token) = exchange.take(&Clock::System) {
        found.push(token.0);
    }
    found.sort_unstable();
    let total = found.len();
    found.dedup();
    assert_eq!(total, found.len(), "a token was doubled");
    total
}

/// Threads that take, wait, give up and put at random end with every token in
/// exactly one place, and nobody waits for ever.
#[test]
fn tokens_are_neither_lost_nor_doubled() {
    for overtaking in [
        Duration::ZERO,
        Duration::from_micros(50),
        Duration::from_millis(3),
    ] {
        let exchange = exchange(3, overtaking);
        let clock = Clock::System;
        let served = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for seed in 0..12_u64 {
                let (exchange, clock, served) = (&exchange, &clock, &served);
                scope.spawn(move || {
                    let mut random = fastrand::Rng::with_seed(seed);
                    for _ in 0..2000 {
                        let limit = Duration::from_micros(random.u64(0..400));
                        let token =
                            exchange
                                .take(clock)
                                .or_else(|| match wait(exchange, clock, limit) {
                                    Waited::Given(token) | Waited::Taken(token) => Some(token),
                                    Waited::TimedOut => None,
                                    Waited::Refused(error) => panic!("{error}"),
                                });
                        let Some(token) = token else { continue };
                        served.fetch_add(1, Ordering::Relaxed);
                        if random.u8(0..4) == 0 {
                            std::thread::yield_now();
                        }
                        exchange.put(token, clock);
                    }
                });
            }
        });
        assert_eq!(exchange.waiting(), 0);
        assert!(served.load(Ordering::Relaxed) > 1000);
        assert_eq!(count(&exchange), 3);
    }
}

/// Two threads that only ever wait for each other's token make progress: a lost
/// wake-up would show as a time-out.
#[test]
fn no_wake_up_is_lost() {
    for overtaking in [Duration::ZERO, Duration::from_secs(1)] {
        let exchange = exchange(1, overtaking);
        let clock = Clock::System;
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..5000 {
                        match wait(&exchange, &clock, Duration::from_secs(20)) {
                            Waited::Given(token) | Waited::Taken(token) => {
                                exchange.put(token, &clock);
                            }
                            _ => panic!("a wake-up was lost"),
                        }
                    }
                });
            }
        });
        assert_eq!(count(&exchange), 1);
    }
}

#[test]
fn a_paused_gate_keeps_boxes_in_and_a_closed_one_refuses() {
    let exchange = exchange(1, Duration::ZERO);
    let clock = Clock::System;
    exchange.set_gate(Gate::Paused);
    assert!(exchange.take(&Clock::System).is_none());
    assert!(matches!(
        wait(&exchange, &clock, Duration::from_millis(5)),
        Waited::TimedOut
    ));
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| wait(&exchange, &clock, Duration::from_secs(20)));
        while exchange.waiting() == 0 {
            std::thread::yield_now();
        }
        exchange.set_gate(Gate::Open);
        let waited = waiter.join().expect("the waiter does not panic");
        assert!(matches!(waited, Waited::Taken(_)));
    });
    exchange.set_gate(Gate::Closed);
    assert!(matches!(
        wait(&exchange, &clock, Duration::from_secs(20)),
        Waited::Refused("closed")
    ));
}

#[test]
fn slots_beyond_the_first_block_are_found() {
    let exchange = exchange(3, Duration::ZERO);
    exchange.grow_to(20);
    assert!(exchange.slots() >= 20);
    for number in 3..20 {
        exchange.put(Box::new(Token(number)), &Clock::System);
    }
    assert_eq!(count(&exchange), 20);
}
