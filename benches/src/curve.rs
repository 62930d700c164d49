//! What a lookup costs as the table grows, from a thousand connections to a hundred million: the director's
//! table, and `rte_hash` up to where both fit into memory.
//!
//! Each table is made for little more connections than it holds, and filled; then, as in [`crate::table`],
//! connections drawn at random are looked up in bursts of 32, the record included. Where the last caches end,
//! and where the page tables do, is seen as steps.

use std::fmt;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use director_flow::Options as TableOptions;
use dpdk::Eal;
use serde::Serialize;

use crate::common::{Circumstances, Common, Judge, rendered};
use crate::contenders::{self, Contender};
use crate::interrupt::Interrupt;
use crate::memory::{self, Memory, TablePages};
use crate::spread::Spread;
use crate::table::{Sample, eal, look_up, with_huge_malloc};

/// Bytes an entry is reckoned at: in the director's table, and in `rte_hash`, the buckets of which are a power
/// of two; then in the array of records beside it, which is not on reserved pages.
const OWN_BYTES: u64 = 88;
const RTE_BYTES: u64 = 96;
const RECORD_BYTES: u64 = 64;
/// What tables take besides.
const OVERHEAD: u64 = 128 << 20;

/// What is asked for.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// The largest table
    #[arg(long, default_value_t = 100_000_000, value_parser = clap::value_parser!(u32).range(1000..=500_000_000))]
    entries: u32,
    /// The largest table of `rte_hash`; 0 for none [default: as far as memory goes]
    #[arg(long, value_name = "ENTRIES")]
    rival_entries: Option<u32>,
    /// How often each table is measured
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pairs: u32,
    /// How long each measurement takes
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Which reserved pages the director's table is on
    #[arg(long, value_enum, default_value_t, conflicts_with = "no_huge")]
    pages: TablePages,
    #[command(flatten)]
    common: Common,
}

/// A table of one size.
#[derive(Debug, Serialize)]
struct Point {
    entries: u32,
    /// Bytes of the table that lookups may touch, as the table says.
    bytes: u64,
    director: Figures,
    #[serde(skip_serializing_if = "Option::is_none")]
    rte_hash: Option<Figures>,
}

#[derive(Debug, Serialize)]
struct Figures {
    cycles: Spread,
    nanoseconds: Spread,
}

impl Figures {
    fn of(samples: &[Sample]) -> Result<Self> {
        let spread = |value: fn(&Sample) -> f64| {
            Spread::of(samples.iter().map(value))
                .context("nothing was measured")
                .map(|spread| spread.rounded(1))
        };
        Ok(Self {
            cycles: spread(|sample| sample.cycles)?,
            nanoseconds: spread(|sample| sample.nanoseconds)?,
        })
    }
}

/// The outcome.
#[derive(Debug, Serialize)]
struct Report {
    bench: &'static str,
    pairs: u32,
    seconds: u64,
    pages: TablePages,
    points: Vec<Point>,
    /// The director's cycles with the largest table to those with a million connections, where both were
    /// measured.
    growth: Option<f64>,
    #[serde(flatten)]
    circumstances: Circumstances,
}

/// From a thousand on, at 1, 2 and 5 of each power of ten, and the largest.
fn sizes(largest: u32) -> Vec<u32> {
    let decades = (3..9).flat_map(|power| [1, 2, 5].map(|digit| digit * 10_u32.pow(power)));
    decades.take_while(|size| *size < largest).chain([largest]).collect()
}

/// Room for so many, and for what two workers have in hand.
fn room(entries: u32) -> u32 {
    entries + entries / 64 + 128
}

/// Bytes of an entry of the director's table on pages that other tables could have.
fn own_bytes(options: &Options) -> u64 {
    options.pages.split(OWN_BYTES).1
}

/// Whether a table of `rte_hash` is measured beside the director's.
fn has_rival(options: &Options, size: u32, available: u64) -> bool {
    let both = u64::from(room(size)) * (own_bytes(options) + RTE_BYTES + RECORD_BYTES) + OVERHEAD;
    match options.rival_entries {
        Some(most) => size <= most,
        // Half a gigabyte stays free, and something for the last doubling of the buckets.
        None => both + both / 8 + (512 << 20) <= available,
    }
}

/// Runs the benchmark.
///
/// # Errors
/// There is no memory, a connection was not found, or the CPUs were used by others.
pub fn run(options: &Options, interrupt: &Interrupt) -> Result<String> {
    let Options { entries, common, .. } = options;
    with_huge_malloc(common)?;
    let mut judge = Judge::new(common, interrupt)?;
    let sizes = sizes(*entries);
    let table = u64::from(room(*entries)) * OWN_BYTES;
    let _gigantic = options.pages.reserve(table)?;
    // What is reserved is not available any more.
    let available = memory::available()?;
    let needed = |size: u32| {
        let rival = if has_rival(options, size, available) { RTE_BYTES } else { 0 };
        u64::from(room(size)) * (own_bytes(options) + rival) + OVERHEAD
    };
    let records = |size: u32| {
        if has_rival(options, size, available) { u64::from(room(size)) * RECORD_BYTES } else { 0 }
    };
    let most = sizes.iter().map(|size| needed(*size)).max().unwrap_or_default();
    memory::need(
        most.max(sizes.iter().map(|size| needed(*size) + records(*size)).max().unwrap_or_default()),
    )?;
    // EAL counts its pages when it starts, so they are reserved once for the largest.
    let memory = Memory::get(0, most, common.no_huge)?;
    let eal = eal(&judge, &memory)?;
    let mut points = Vec::new();
    for size in sizes {
        points.push(point(options, &mut judge, &eal, size, has_rival(options, size, available))?);
    }
    let of = |size: u32| {
        points.iter().find(|point| point.entries == size).map(|point| point.director.cycles.median)
    };
    let growth = of(*entries).zip(of(1_000_000)).map(|(last, first)| (last / first * 1e3).round() / 1e3);
    let report = Report {
        bench: "curve",
        pairs: options.pairs,
        seconds: options.seconds,
        pages: options.pages,
        points,
        growth,
        circumstances: judge.circumstances(options.pages.describe(&memory)),
    };
    eal.stop()?;
    rendered(&report, common.json)
}

fn point(options: &Options, judge: &mut Judge<'_>, eal: &Eal, size: u32, rival: bool) -> Result<Point> {
    let made = TableOptions { pages: options.pages.of_table(), ..TableOptions::new(room(size), 2) };
    let (table, own) = contenders::own_table(&made)?;
    let mut tables: Vec<Contender> = vec![own];
    if rival {
        tables.push(contenders::rte_hash(eal, &format!("curve-{size}"), size, room(size))?);
    }
    for table in &mut tables {
        for from in (0..u64::from(size)).step_by(1 << 18) {
            judge.interrupt.check()?;
            table.writer.insert(from..(from + (1 << 18)).min(size.into()))?;
        }
        table.writer.rest();
    }
    let mut samples = vec![Vec::new(); tables.len()];
    let time = Duration::from_secs(options.seconds);
    for pair in 0..options.pairs {
        let mut order: Vec<usize> = (0..tables.len()).collect();
        if pair % 2 == 1 {
            order.reverse();
        }
        for at in order {
            let seed = u64::from(pair) << 32 | at as u64;
            samples[at].push(judge.hear(|| look_up(&mut *tables[at].reader, size, time, seed))?);
        }
    }
    let mut figures = samples.iter().map(|samples| Figures::of(samples));
    let director = figures.next().context("nothing was measured")??;
    let rte_hash = figures.next().transpose()?;
    eprint!("{size:>12} connections: {:6.1} cycles", director.cycles.median);
    match &rte_hash {
        Some(rival) => eprintln!(", rte_hash {:6.1}", rival.cycles.median),
        None => eprintln!(),
    }
    let bytes = (table.bytes_per_entry() * f64::from(table.capacity())) as u64;
    Ok(Point { entries: size, bytes, director, rte_hash })
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pairs, seconds, .. } = self;
        self.circumstances.warn(f)?;
        writeln!(f, "curve: lookups of connections drawn at random, in bursts of 32, record included")?;
        writeln!(f, "each {pairs} times in turn, {seconds} s long; median (min to max), in cycles\n")?;
        writeln!(f, "{:>12}{:>12}{:>26}{:>26}", "connections", "MiB", "director", "rte_hash")?;
        for Point { entries, bytes, director, rte_hash } in &self.points {
            let rival = rte_hash.as_ref().map_or_else(String::new, |rival| rival.cycles.text(1));
            writeln!(f, "{entries:>12}{:>12}{:>26}{rival:>26}", bytes >> 20, director.cycles.text(1))?;
        }
        if let Some(growth) = self.growth {
            writeln!(f, "\nthe largest costs {growth:.2} times what a million costs")?;
        }
        self.circumstances.tell(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_go_up_to_the_largest() {
        assert_eq!(sizes(1000), [1000]);
        assert_eq!(sizes(10_000), [1000, 2000, 5000, 10_000]);
        assert_eq!(sizes(30_000)[3..], [10_000, 20_000, 30_000]);
        assert_eq!(sizes(100_000_000).len(), 16);
    }
}
