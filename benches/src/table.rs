//! What a lookup costs: the director's connection table, DPDK's `rte_hash` and concurrent maps of Rust,
//! in the same run; and, as the floor under all of them, two random lines of memory with nothing looked up.
//!
//! Lookups come in bursts of 32, as packets do, of connections drawn at random with each; the record is
//! looked at, since no packet can be forwarded without. All tables are filled at the same time and
//! measured in turn. The cost is that of the middle one of slices of 4096 lookups, so that an interrupt now
//! and then costs nothing; making up the keys is part of it, and shown.

use std::fmt;
use std::hint::black_box;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;
use director_flow::Options as TableOptions;
use dpdk::Eal;
use serde::Serialize;

use crate::common::{Circumstances, Common, Judge, pin, rendered};
use crate::contenders::{self, BURST, Contender, Reader, end};
use crate::interrupt::Interrupt;
use crate::memory::{self, Memory, TablePages};
use crate::spread::Spread;

/// Bursts in a slice.
const SLICE: u64 = 128;

/// Bytes an entry is reckoned at on huge pages: in the director's table, and in `rte_hash`, the keys of which
/// have an array and a ring of free places, the buckets being a power of two of at least so many.
const OWN_BYTES: u64 = 96;
const RTE_BYTES: u64 = 96;
/// Bytes an entry is reckoned at in one of the maps, and in the array of records beside `rte_hash`.
const MAP_BYTES: u64 = 200;
/// What tables take besides.
const OVERHEAD: u64 = 128 << 20;

/// What is asked for.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Connections in each table
    #[arg(long, default_value_t = 10_000_000, value_parser = clap::value_parser!(u32).range(10_000..=200_000_000))]
    entries: u32,
    /// How often each table is measured
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pairs: u32,
    /// How long each measurement takes
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Measure also while another core makes and ends connections
    #[arg(long)]
    churn: bool,
    /// The tables to compare with; floor is none, but two random lines of as much memory for each connection
    #[arg(long, value_delimiter = ',', value_name = "TABLE", default_values = ["floor", "rte_hash", "papaya", "dashmap", "scc"])]
    rivals: Vec<String>,
    /// Which reserved pages the director's table is on
    #[arg(long, value_enum, default_value_t, conflicts_with = "no_huge")]
    pages: TablePages,
    #[command(flatten)]
    common: Common,
}

/// Has glibc ask for transparent huge pages, which it reads only when a program starts: the maps of Rust get
/// their memory from it, and are to have no smaller pages than the others.
///
/// # Errors
/// The program cannot be started again.
pub fn with_huge_malloc(common: &Common) -> Result<()> {
    const VARIABLE: &str = "GLIBC_TUNABLES";
    if common.no_huge || std::env::var_os(VARIABLE).is_some() {
        return Ok(());
    }
    let mut command = Command::new(std::env::current_exe()?);
    command.args(std::env::args_os().skip(1)).env(VARIABLE, "glibc.malloc.hugetlb=1");
    Err(command.exec()).context("cannot start again")
}

/// EAL for the memory of `rte_hash` alone, on the calling thread and CPU.
///
/// # Errors
/// It does not start.
pub fn eal(judge: &Judge<'_>, memory: &Memory) -> Result<Eal> {
    let mut arguments =
        vec!["--no-telemetry".to_owned(), "--lcores".to_owned(), format!("0@{}", judge.cpus.worker)];
    arguments.push("--log-level=lib.eal:error".to_owned());
    arguments.push(format!("--file-prefix=bench-{}", std::process::id()));
    arguments.extend(memory.eal_arguments());
    Ok(Eal::start(&arguments)?)
}

/// The table of a name, of so many bytes where it can be of any.
fn contender(name: &str, eal: &Eal, entries: u32, room: u32, bytes: u64) -> Result<Contender> {
    Ok(match name {
        "floor" => contenders::floor(bytes),
        "rte_hash" => contenders::rte_hash(eal, "rival", entries, room)?,
        "papaya" => contenders::papaya(room),
        "dashmap" => contenders::dashmap(room),
        "scc" => contenders::scc(room),
        other => bail!("no table {other}: there are floor, rte_hash, papaya, dashmap and scc"),
    })
}

/// One measurement.
#[derive(Clone, Copy)]
pub struct Sample {
    /// Ticks of the time-stamp counter a lookup, of the middle slice.
    pub cycles: f64,
    /// Nanoseconds a lookup, of the middle slice.
    pub nanoseconds: f64,
}

/// Looks up connections drawn from the first `entries`, for so long.
///
/// # Errors
/// One was not found.
pub fn look_up(reader: &mut dyn Reader, entries: u32, time: Duration, seed: u64) -> Result<Sample> {
    let mut random = seed;
    let mut ends = [0; BURST];
    let mut slices = Vec::with_capacity(1 << 16);
    let (start, first) = (Instant::now(), dpdk::clock::now());
    let mut before = first;
    let mut lookups = 0;
    let mut found = 0;
    while start.elapsed() < time {
        for _ in 0..SLICE {
            draw(&mut random, entries, &mut ends);
            found += reader.lookup(&ends);
        }
        lookups += SLICE as usize * BURST;
        let now = dpdk::clock::now();
        slices.push((now - before) as f64 / (SLICE as usize * BURST) as f64);
        before = now;
    }
    let (ticks, elapsed) = (before - first, start.elapsed());
    reader.rest();
    if found != lookups {
        bail!("of {lookups} connections looked up only {found} were found");
    }
    let cycles = Spread::of(slices).context("nothing was measured")?.median;
    Ok(Sample { cycles, nanoseconds: cycles * elapsed.as_nanos() as f64 / ticks as f64 })
}

/// The keys of a burst (Knuth's generator, TAOCP 3.3.4; its upper half).
#[inline]
fn draw(random: &mut u64, entries: u32, ends: &mut [u64; BURST]) {
    for place in ends {
        *random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        *place = end(((*random >> 32) * u64::from(entries)) >> 32);
    }
}

/// Finds everything: what making up the keys costs.
struct Nothing;

impl Reader for Nothing {
    fn lookup(&mut self, ends: &[u64; BURST]) -> usize {
        black_box(ends).len()
    }
}

/// What is measured of a table.
#[derive(Default)]
struct Samples {
    quiet: Vec<Sample>,
    churned: Vec<Sample>,
    /// Connections made and ended meanwhile, a second.
    changes: Vec<f64>,
}

/// How many connections are there before the oldest of those made meanwhile is ended.
const WINDOW: u64 = 1 << 16;

/// Looks up while another core makes and ends connections beyond the first `entries`; and how many a second it does.
fn look_up_churned(
    judge: &mut Judge<'_>,
    contender: &mut Contender,
    entries: u32,
    time: Duration,
    seed: u64,
    made: &mut u64,
) -> Result<(Sample, f64)> {
    let Contender { reader, writer, .. } = contender;
    let stop = AtomicBool::new(false);
    let ready = Barrier::new(2);
    let first = u64::from(entries);
    let cpu = judge.cpus.control;
    let measured = std::thread::scope(|scope| {
        let changing = scope.spawn(|| {
            let pinned = pin(cpu);
            ready.wait();
            pinned?;
            let (start, mut changes) = (Instant::now(), 0_u64);
            // Relaxed: the flag carries nothing but itself.
            while !stop.load(Ordering::Relaxed) {
                writer.insert(first + *made..first + *made + BURST as u64)?;
                *made += BURST as u64;
                changes += BURST as u64;
                if *made > WINDOW {
                    let oldest = first + *made - WINDOW - BURST as u64;
                    writer.remove(oldest..oldest + BURST as u64)?;
                    changes += BURST as u64;
                }
            }
            anyhow::Ok(changes as f64 / start.elapsed().as_secs_f64())
        });
        ready.wait();
        // The judge hears the lookups alone: who waits below for the other thread does not run.
        let sample = judge.hear(|| look_up(&mut **reader, entries, time, seed));
        stop.store(true, Ordering::Relaxed);
        match changing.join() {
            Ok(rate) => Ok((sample?, rate?)),
            Err(_) => bail!("the thread that changes the table panicked"),
        }
    });
    writer.rest();
    measured
}

/// What a table came to.
#[derive(Debug, Serialize)]
struct Figures {
    name: String,
    cycles: Spread,
    nanoseconds: Spread,
    /// This table's cycles to the director's, run by run: how much longer it takes.
    ratio: Spread,
    #[serde(skip_serializing_if = "Option::is_none")]
    churned: Option<Churned>,
}

#[derive(Debug, Serialize)]
struct Churned {
    cycles: Spread,
    /// Cycles while the table changed to those while it did not, run by run.
    slowdown: Spread,
    /// Connections made and ended a second, together.
    changes: Spread,
}

/// The outcome.
#[derive(Debug, Serialize)]
struct Report {
    bench: &'static str,
    entries: u32,
    room: u32,
    pairs: u32,
    seconds: u64,
    pages: TablePages,
    /// The director first.
    tables: Vec<Figures>,
    /// Making up the keys, which is part of all figures.
    keys_cycles: f64,
    /// Memory of the process that is on transparent huge pages: the maps of Rust.
    transparent_bytes: u64,
    #[serde(flatten)]
    circumstances: Circumstances,
}

/// Room for so many connections and those that come and go.
#[must_use]
pub fn room(entries: u32) -> u32 {
    entries + entries / 16 + 4 * WINDOW as u32
}

/// Runs the benchmark.
///
/// # Errors
/// There is no memory, a connection was not found, or the CPUs were used by others.
pub fn run(options: &Options, interrupt: &Interrupt) -> Result<String> {
    let Options { entries, pairs, seconds, churn, rivals, pages, common } = options;
    with_huge_malloc(common)?;
    let mut judge = Judge::new(common, interrupt)?;
    let room = room(*entries);
    let table = u64::from(room) * OWN_BYTES;
    let _gigantic = pages.reserve(table)?;
    // Of the rivals, only `rte_hash` has its memory from DPDK.
    let rte = if rivals.iter().any(|rival| rival == "rte_hash") { u64::from(room) * RTE_BYTES } else { 0 };
    let needed = pages.split(table).1 + rte + OVERHEAD;
    let beside: u64 = rivals.iter().map(|rival| if rival == "floor" { OWN_BYTES } else { MAP_BYTES }).sum();
    memory::need(needed + u64::from(room) * beside)?;
    let memory = Memory::get(0, needed, common.no_huge)?;
    let eal = eal(&judge, &memory)?;
    let (table, own) =
        contenders::own_table(&TableOptions { pages: pages.of_table(), ..TableOptions::new(room, 2) })?;
    let bytes = (table.bytes_per_entry() * f64::from(table.capacity())) as u64;
    let mut tables = vec![own];
    for name in rivals {
        tables.push(contender(name, &eal, *entries, room, bytes)?);
    }
    for table in &mut tables {
        let start = Instant::now();
        for from in (0..u64::from(*entries)).step_by(1 << 20) {
            interrupt.check()?;
            table.writer.insert(from..(from + (1 << 20)).min((*entries).into()))?;
        }
        table.writer.rest();
        eprintln!("{:<10} filled in {:.1} s", table.name, start.elapsed().as_secs_f64());
    }
    let time = Duration::from_secs(*seconds);
    let mut samples: Vec<(Samples, u64)> = tables.iter().map(|_| (Samples::default(), 0)).collect();
    for pair in 0..*pairs {
        let mut order: Vec<usize> = (0..tables.len()).collect();
        if pair % 2 == 1 {
            order.reverse();
        }
        for at in order {
            let (table, (samples, made)) = (&mut tables[at], &mut samples[at]);
            let seed = u64::from(pair) << 32 | at as u64;
            let quiet = judge.hear(|| look_up(&mut *table.reader, *entries, time, seed))?;
            eprint!("run {} of {pairs}: {:<10} {:6.1} cycles a lookup", pair + 1, table.name, quiet.cycles);
            samples.quiet.push(quiet);
            if *churn && table.name != "floor" {
                let (churned, changes) = look_up_churned(&mut judge, table, *entries, time, seed, made)?;
                eprint!(", {:6.1} with {:.2} M changes/s", churned.cycles, changes / 1e6);
                samples.churned.push(churned);
                samples.changes.push(changes);
            }
            eprintln!();
        }
    }
    let keys_cycles = look_up(&mut Nothing, *entries, time, 1)?.cycles;
    let own: Vec<f64> = samples[0].0.quiet.iter().map(|sample| sample.cycles).collect();
    let figures =
        tables.iter().zip(&samples).map(|(table, (samples, _))| Figures::of(table.name, samples, &own));
    let report = Report {
        bench: "table",
        entries: *entries,
        room,
        pairs: *pairs,
        seconds: *seconds,
        pages: *pages,
        tables: figures.collect::<Result<_>>()?,
        keys_cycles: (keys_cycles * 10.0).round() / 10.0,
        transparent_bytes: memory::transparent(),
        circumstances: judge.circumstances(pages.describe(&memory)),
    };
    drop(tables);
    eal.stop()?;
    rendered(&report, common.json)
}

impl Figures {
    fn of(name: &str, samples: &Samples, own: &[f64]) -> Result<Self> {
        let nothing = "nothing was measured";
        let cycles = |samples: &[Sample]| samples.iter().map(|sample| sample.cycles).collect::<Vec<_>>();
        let quiet = cycles(&samples.quiet);
        let churned = cycles(&samples.churned);
        let churned = match Spread::of(churned.iter().copied()) {
            None => None,
            Some(spread) => Some(Churned {
                cycles: spread.rounded(1),
                slowdown: Spread::of_ratios(&churned, &quiet).context(nothing)?.rounded(3),
                changes: Spread::of(samples.changes.iter().copied()).context(nothing)?.rounded(0),
            }),
        };
        Ok(Self {
            name: name.to_owned(),
            nanoseconds: Spread::of(samples.quiet.iter().map(|sample| sample.nanoseconds))
                .context(nothing)?
                .rounded(1),
            ratio: Spread::of_ratios(&quiet, own).context(nothing)?.rounded(3),
            cycles: Spread::of(quiet).context(nothing)?.rounded(1),
            churned,
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { entries, room, pairs, seconds, .. } = self;
        self.circumstances.warn(f)?;
        writeln!(
            f,
            "table: {entries} connections in room for {room}, drawn at random, in bursts of {BURST}, record included"
        )?;
        writeln!(f, "each {pairs} times in turn, {seconds} s long; median (min to max)\n")?;
        writeln!(f, "{:<10}{:>26}{:>26}{:>26}", "", "cycles a lookup", "ns a lookup", "to the director's")?;
        for Figures { name, cycles, nanoseconds, ratio, .. } in &self.tables {
            writeln!(f, "{name:<10}{:>26}{:>26}{:>26}", cycles.text(1), nanoseconds.text(1), ratio.text(2))?;
        }
        writeln!(f, "making up the keys is {:.1} cycles of each", self.keys_cycles)?;
        if self.tables.iter().any(|figures| figures.name == "floor") {
            writeln!(
                f,
                "floor: two random lines of as much memory, the first naming the second; nothing looked up"
            )?;
        }
        if self.tables.iter().any(|figures| figures.churned.is_some()) {
            writeln!(f, "\nWhile another core makes and ends connections")?;
            writeln!(
                f,
                "{:<10}{:>26}{:>26}{:>26}",
                "", "cycles a lookup", "to a quiet table's", "M changes/s"
            )?;
            for Figures { name, churned, .. } in &self.tables {
                if let Some(Churned { cycles, slowdown, changes }) = churned {
                    let changes = changes.map(|rate| rate / 1e6);
                    writeln!(
                        f,
                        "{name:<10}{:>26}{:>26}{:>26}",
                        cycles.text(1),
                        slowdown.text(3),
                        changes.text(2)
                    )?;
                }
            }
        }
        write!(f, "\n{} MiB of the maps' memory on transparent huge pages", self.transparent_bytes >> 20)?;
        self.circumstances.tell(f)
    }
}
