//! One pool over several servers.

mod all_are_broken;
mod batches;
mod batches_follow;
#[path = "../book/mod.rs"]
mod book;
mod callers;
mod distribution;
mod failover;
mod load;
mod looked_up;
mod members_come_and_go;
mod one_is_broken;
mod one_is_overloaded;
mod one_is_slow;
mod one_of_three_fails;
mod pair;
mod replica_lags;
mod station;
mod strategy_panics;
#[path = "../subjects/mod.rs"]
mod subjects;
mod two_primaries;
