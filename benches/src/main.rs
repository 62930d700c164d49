//! `bench`: the benchmarks, one a subcommand.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use director_benches::bare::replay::Replay;
use director_benches::interrupt::Interrupt;
use director_benches::{
    connect, curve, footprint, forward, hot, instructions, latency, listing, memif, report, scaling, table,
};

/// Measures the director beside its rivals: on the same frames and the same CPUs, in turn.
#[derive(Parser)]
#[command(name = "bench", version)]
struct Arguments {
    #[command(subcommand)]
    benchmark: Benchmark,
}

#[derive(Subcommand)]
enum Benchmark {
    /// Packets a second of established connections, one worker, against dpdk-testpmd
    Forward(forward::Options),
    /// New connections a second, and whole ones from SYN to expiry, one worker, in this process
    Connect(connect::Options),
    /// A lookup in connection tables from a thousand entries to a hundred million
    Curve(curve::Options),
    /// The director's own work on packets in the cache, against swapping addresses and ports
    Hot(hot::Options),
    /// The least that any NAT must do, as a program of its own for `forward`
    #[command(hide = true)]
    Bare(Replay),
    /// Instructions of the hot functions by callgrind, against recorded bounds
    Instructions(instructions::Options),
    /// Does one case's work, for callgrind to count
    #[command(hide = true)]
    Count(instructions::Count),
    /// Time through the worker, at loads below and above its own maximum
    Latency(latency::Options),
    /// As forward, between two processes over net_memif, each frame that comes back checked
    Memif(memif::Options),
    /// What a worker loses while ipvsadm lists many services and connections
    Listing(listing::Options),
    /// What a connection takes in memory, all in
    Memory(footprint::Options),
    /// Writes docs/performance.md and its plots, of the results of the others
    Report(report::Options),
    /// Two workers against one, on the connection table
    Scaling(scaling::Options),
    /// A lookup in the connection table, against rte_hash and concurrent maps of Rust
    Table(table::Options),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let ended = Interrupt::install().and_then(|interrupt| match arguments.benchmark {
        Benchmark::Forward(options) => forward::run(&options, &interrupt).map(|report| report.to_string()),
        Benchmark::Connect(options) => connect::run(&options, &interrupt),
        Benchmark::Curve(options) => curve::run(&options, &interrupt),
        Benchmark::Hot(options) => hot::run(&options, &interrupt),
        Benchmark::Bare(replay) => replay.run().map(|()| String::new()),
        Benchmark::Instructions(options) => instructions::run(&options, &interrupt),
        Benchmark::Count(count) => instructions::count(&count).map(|times| times.to_string()),
        Benchmark::Latency(options) => latency::run(&options, &interrupt),
        Benchmark::Memif(options) => memif::run(&options, &interrupt).map(|report| report.to_string()),
        Benchmark::Listing(options) => listing::run(&options, &interrupt),
        Benchmark::Memory(options) => footprint::run(&options, &interrupt),
        Benchmark::Report(options) => report::run(&options, &interrupt),
        Benchmark::Scaling(options) => scaling::run(&options, &interrupt),
        Benchmark::Table(options) => table::run(&options, &interrupt),
    });
    match ended {
        Ok(report) => {
            println!("{report}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}
