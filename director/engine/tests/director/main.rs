//! The engine in a simulated director: packets in, packets out, by what IPVS was seen to do.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod at_once;
mod balancing;
mod everything;
mod fragments;
mod ftp;
mod fuzz;
mod hairpin;
mod ipv6;
mod lab;
mod limits;
mod locks;
mod marks;
mod network;
mod one_packet;
mod packet;
mod packets;
mod passes;
mod persistence;
mod properties;
mod related;
mod scenarios;
mod states;
mod statistics;
mod threads;
