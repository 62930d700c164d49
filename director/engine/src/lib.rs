//! What happens to a packet: services, schedulers, states, translation.
//!
//! Everything here takes bytes, a clock and a snapshot of the configuration, and knows no device and no
//! socket. A [`worker::Worker`] decides what happens to bursts of frames. The [`control::Control`] owns the
//! configuration, hands snapshots of it to the workers, and ends connections whose time is up.
#![deny(unsafe_code)]

pub mod adjacency;
pub mod catalog;
pub mod control;
mod directory;
mod entry;
pub mod estimator;
pub mod fib;
mod fragments;
mod ftp;
pub mod limiter;
mod lock;
pub mod mark;
mod pressure;
pub mod reason;
pub mod scheduler;
pub mod servers;
pub mod service;
mod shards;
pub mod sip;
pub mod snapshot;
pub mod sources;
pub mod state;
mod tables;
pub mod templates;
pub mod worker;

pub use control::Control;
pub use director_flow::{Options, PageSize, Pages, Tick};
pub use reason::Reason;
pub use worker::{BURST, Batch, Frames, HAIRPIN_PORTS, Part, Reply, Verdict, Worker};
