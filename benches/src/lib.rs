//! What is measured, and against whom.
//!
//! `bench`, the program, runs one benchmark a subcommand. A benchmark runs the director and its rivals in
//! turn, on the same frames and the same CPUs, and prints them side by side. [`forward`] runs the director
//! itself; [`hot`], [`connect`], [`table`] and [`footprint`] run its parts in this process.
//!
//! What it is made of: the frames ([`network`], [`kind`], [`flows`], [`template`], [`pcap`]), the programs
//! that forward them ([`director`], [`testpmd`], on [`memory`], run by [`program`]), or the [`engine`] and
//! the [`contenders`] in this process, and whether the figures can be believed ([`cpus`], [`spread`],
//! [`machine`], [`common`]).

#![forbid(unsafe_code)]

pub mod bare;
pub mod common;
pub mod connect;
pub mod contenders;
pub mod contest;
pub mod cpus;
pub mod curve;
pub mod director;
pub mod engine;
pub mod flows;
pub mod footprint;
pub mod forward;
pub mod hot;
pub mod instructions;
pub mod interrupt;
pub mod kind;
pub mod latency;
pub mod listing;
pub mod machine;
pub mod memif;
pub mod memory;
pub mod network;
pub mod pcap;
pub mod plot;
pub mod program;
pub mod report;
pub mod ring;
pub mod scaling;
pub mod spread;
pub mod table;
pub mod template;
pub mod testpmd;
