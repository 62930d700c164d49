//! What is measured, and against whom.
//!
//! `bench`, the program, runs one benchmark a subcommand. A benchmark runs the director and its rivals in
//! turn, on the same frames and the same CPUs, and prints them side by side; [`forward`] is one.
//!
//! What it is made of: the frames ([`network`], [`flows`], [`frame`], [`pcap`]), the programs that forward
//! them ([`director`], [`testpmd`], on [`memory`], run by [`program`]), and whether the figures can be
//! believed ([`cpus`], [`spread`], [`machine`]).

#![forbid(unsafe_code)]

pub mod cpus;
pub mod director;
pub mod flows;
pub mod forward;
pub mod frame;
pub mod interrupt;
pub mod machine;
pub mod memory;
pub mod network;
pub mod pcap;
pub mod program;
pub mod spread;
pub mod testpmd;
