//! The engine in a simulated director: packets in, packets out, by what IPVS was seen to do.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod balancing;
mod lab;
mod limits;
mod network;
mod packet;
mod packets;
mod passes;
mod properties;
mod related;
mod states;
mod statistics;
mod threads;
