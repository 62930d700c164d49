//! What a connection takes in memory, all in: index, record, timeout wheel; by what the process grows when a
//! table is filled to its capacity. Then every connection is looked up once, in random order.

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::Args;
use serde::Serialize;

use crate::common::{Circumstances, Common, Judge, rendered};
use crate::contenders::{self, BURST, Reader, end};
use crate::interrupt::Interrupt;
use crate::memory::{self, Memory, TablePages};
use crate::table::{Sample, look_up};

/// Bytes a connection is reckoned at when memory is reserved, and what is reserved besides.
const BYTES_PER_CONNECTION: u64 = 85;
const OVERHEAD: u64 = 64 << 20;

/// Records that two workers may have in hand when the table is full.
const IN_HAND: u32 = 64;

/// How long lookups are timed.
const TIME: Duration = Duration::from_secs(3);

/// What is asked for.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// The capacity of the table, which is filled
    #[arg(long, default_value_t = 10_000_000, value_parser = clap::value_parser!(u32).range(100_000..=500_000_000))]
    entries: u32,
    /// Which reserved pages the table is on
    #[arg(long, value_enum, default_value_t, conflicts_with = "no_huge")]
    pages: TablePages,
    #[command(flatten)]
    common: Common,
}

/// The outcome.
#[derive(Debug, Serialize)]
struct Report {
    bench: &'static str,
    capacity: u32,
    connections: u64,
    /// What the process grew by, for each connection.
    bytes_per_connection: f64,
    /// What the table says of itself.
    bytes_reckoned: f64,
    page_size: String,
    /// Connections a second while the table was filled, the control core's part on the same CPU.
    filled_per_second: f64,
    /// Connections found, each of which was looked up once.
    found: u64,
    cycles_per_lookup: f64,
    nanoseconds_per_lookup: f64,
    #[serde(flatten)]
    circumstances: Circumstances,
}

/// Runs the benchmark.
///
/// # Errors
/// There is not enough memory, a connection was not found, or the CPUs were used by others.
pub fn run(options: &Options, interrupt: &Interrupt) -> Result<String> {
    let Options { entries, pages, common } = options;
    let mut judge = Judge::new(common, interrupt)?;
    let (gigantic, huge) = pages.split(u64::from(*entries) * BYTES_PER_CONNECTION);
    let needed = gigantic + huge + OVERHEAD;
    memory::need(needed)?;
    eprintln!("{} MiB are needed for {entries} connections, and can be had", needed >> 20);
    let _gigantic = pages.reserve(u64::from(*entries) * BYTES_PER_CONNECTION)?;
    let memory = Memory::get(0, huge + OVERHEAD, common.no_huge)?;
    let made = director_flow::Options { pages: pages.of_table(), ..director_flow::Options::new(*entries, 2) };
    let before = memory::resident()?;
    let (table, mut contender) = contenders::own_table(&made)?;
    let connections = u64::from(entries - IN_HAND);
    let start = Instant::now();
    for from in (0..connections).step_by(1 << 20) {
        interrupt.check()?;
        contender.writer.insert(from..(from + (1 << 20)).min(connections))?;
    }
    let filled = start.elapsed();
    contender.writer.rest();
    let grown = memory::resident()?.saturating_sub(before);
    eprintln!("filled in {:.1} s", filled.as_secs_f64());
    let found = visit(&mut *contender.reader, connections, interrupt)?;
    if found != connections {
        bail!("of {connections} connections only {found} were found");
    }
    let Sample { cycles, nanoseconds } =
        judge.hear(|| look_up(&mut *contender.reader, connections as u32, TIME, 1))?;
    let tenth = |value: f64| (value * 10.0).round() / 10.0;
    let report = Report {
        bench: "memory",
        capacity: *entries,
        connections,
        bytes_per_connection: tenth(grown as f64 / connections as f64),
        bytes_reckoned: tenth(table.bytes_per_entry()),
        page_size: table.page_size().to_string(),
        filled_per_second: (connections as f64 / filled.as_secs_f64()).round(),
        found,
        cycles_per_lookup: tenth(cycles),
        nanoseconds_per_lookup: tenth(nanoseconds),
        circumstances: judge.circumstances(pages.describe(&memory)),
    };
    rendered(&report, common.json)
}

/// Looks up each connection once, in an order that has nothing to do with that of their making; how many
/// there were.
fn visit(reader: &mut dyn Reader, connections: u64, interrupt: &Interrupt) -> Result<u64> {
    // An odd factor permutes the numbers below a power of two.
    let mask = connections.next_power_of_two() - 1;
    let mut order = (0..=mask).map(|at| at.wrapping_mul(0x9e37_79b9_7f4a_7c15) & mask);
    let mut next = || order.find(|number| *number < connections);
    let mut found = 0;
    let mut left = connections;
    while left > 0 {
        if left.is_multiple_of(1 << 20) {
            interrupt.check()?;
        }
        // The last burst is filled up with connections that are not there.
        let ends = std::array::from_fn(|_| end(next().unwrap_or(u64::MAX >> 20)));
        found += reader.lookup(&ends) as u64;
        left = left.saturating_sub(BURST as u64);
    }
    reader.rest();
    Ok(found)
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.circumstances.warn(f)?;
        writeln!(
            f,
            "memory: {} connections in a table of {}, on {}",
            self.connections, self.capacity, self.page_size
        )?;
        writeln!(
            f,
            "{:.1} bytes a connection in memory, of which the table knows {:.1}",
            self.bytes_per_connection, self.bytes_reckoned
        )?;
        writeln!(f, "filled at {:.2} M connections/s", self.filled_per_second / 1e6)?;
        writeln!(
            f,
            "each looked up once in random order: all {} found; {:.1} cycles, {:.1} ns a lookup",
            self.found, self.cycles_per_lookup, self.nanoseconds_per_lookup
        )?;
        self.circumstances.tell(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_connection_is_visited_once() {
        struct Seen(std::collections::HashSet<u64>);
        impl Reader for Seen {
            fn lookup(&mut self, ends: &[u64; BURST]) -> usize {
                ends.iter().filter(|end| self.0.remove(end)).count()
            }
        }
        let mut seen = Seen((0..10_007).map(end).collect());
        assert_eq!(visit(&mut seen, 10_007, &Interrupt::default()).unwrap(), 10_007);
        assert!(seen.0.is_empty());
    }
}
