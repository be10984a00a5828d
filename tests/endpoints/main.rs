//! One pool over several servers.

mod distribution;
mod failover;
mod load;
mod looked_up;
mod members_come_and_go;
mod one_is_slow;
mod one_of_three_fails;
mod station;
