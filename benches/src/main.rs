//! `bench`: the benchmarks, one a subcommand.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use director_benches::forward;
use director_benches::interrupt::Interrupt;

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
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let ended = Interrupt::install().and_then(|interrupt| match arguments.benchmark {
        Benchmark::Forward(options) => forward::run(&options, &interrupt),
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
