//! The director and its rivals in turn: what the benchmarks that run whole programs have in common.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;
use director_api::Status;

use crate::common::{Common, TRIES};
use crate::cpus::{Cpus, FORWARDING, Moment};
use crate::director::{self, Director};
use crate::flows;
use crate::interrupt::Interrupt;
use crate::kind::Kind;

mod report;

pub use report::{Report, Subject};

/// The seed of everything random.
pub const SEED: u64 = 0x1dea;

/// Descriptors of each queue, of the director and of its rivals.
pub const DESCRIPTORS: u16 = 1024;

/// The connections that the director has room for, at least. Much more room than connections spreads them over more
/// pages, which costs time on a machine whose pages are small; `--capacity` shows it.
const LEAST_CAPACITY: u32 = 65_536;

/// What the tables take besides the connections.
const TABLE_OVERHEAD: u64 = 64 << 20;

/// How long everything runs before it is measured.
const WARM_UP: Duration = Duration::from_secs(1);

/// What is asked for.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Connections, visited in random order
    #[arg(long, default_value_t = 4096, value_parser = clap::value_parser!(u32).range(1..=i64::from(flows::MOST)))]
    pub flows: u32,
    /// How often each program is measured
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub pairs: u32,
    /// How long each measurement takes
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=600))]
    pub seconds: u64,
    /// Connections that the director has room for [default: an eighth more than the flows, at least 65,536]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=i64::from(flows::MOST)))]
    pub capacity: Option<u32>,
    /// Where `director` and `directorctl` are [default: where this program is]
    #[arg(long, value_name = "DIRECTORY")]
    pub binaries: Option<PathBuf>,
    /// What all benchmarks have
    #[command(flatten)]
    pub common: Common,
}

/// One measurement.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Packets a second.
    pub rate: f64,
    /// How much of the time the thread that forwards had its CPU.
    pub share: f64,
    /// Why it cannot be trusted, where it was to be reported all the same.
    pub disturbance: Option<String>,
}

/// The measurements of all programs, pair by pair.
#[derive(Clone, Debug)]
pub struct Samples {
    /// The director's.
    pub director: Vec<Sample>,
    /// Each rival's, by its name.
    pub rivals: Vec<(String, Vec<Sample>)>,
}

/// What the director said of itself at the end of its measurements.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    active: u64,
    capacity: u64,
    bytes_per_connection: Option<f64>,
    page_size: Option<u64>,
    /// Frames dropped while it was measured.
    drops: Vec<(String, u64)>,
}

/// A run of such a benchmark.
pub struct Contest<'a> {
    /// What was asked for.
    pub options: &'a Options,
    /// The signals that end it.
    pub interrupt: &'a Interrupt,
    /// Where everything runs.
    pub cpus: Cpus,
    /// Where the director's programs are.
    pub binaries: PathBuf,
    /// The connections the director has room for.
    pub capacity: u32,
}

impl<'a> Contest<'a> {
    /// Finds CPUs and programs.
    ///
    /// # Errors
    /// They are not there.
    pub fn new(options: &'a Options, interrupt: &'a Interrupt) -> Result<Self> {
        let cpus = options.common.cpus.map_or_else(Cpus::choose, Ok)?;
        cpus.confine()?;
        let binaries = match &options.binaries {
            Some(directory) => directory.clone(),
            None => std::env::current_exe()?.parent().map(Path::to_owned).unwrap_or_default(),
        };
        for name in ["director", "directorctl", "libdirector_preload.so"] {
            if !binaries.join(name).exists() {
                bail!("there is no {}; build it with cargo build --release", binaries.join(name).display());
            }
        }
        let flows = options.flows;
        let capacity = options.capacity.unwrap_or(LEAST_CAPACITY.max(flows + flows / 8));
        Ok(Self { options, interrupt, cpus, binaries, capacity })
    }

    /// Bytes of the director's tables, for connections of a kind.
    #[must_use]
    pub fn tables(&self, kind: Kind) -> u64 {
        u64::from(self.capacity) * kind.bytes_per_connection() + TABLE_OVERHEAD
    }

    /// Measures the director (none) and its rivals (by their names) in turn; every second time the other way round.
    ///
    /// # Errors
    /// A measurement fails.
    pub fn in_turn(
        &self,
        rivals: &[String],
        mut measure: impl FnMut(Option<&str>) -> Result<Sample>,
    ) -> Result<Samples> {
        let mut director = Vec::new();
        let mut of_rivals: Vec<_> = rivals.iter().map(|name| (name.clone(), Vec::new())).collect();
        for pair in 0..self.options.pairs {
            let mut order: Vec<Option<usize>> =
                std::iter::once(None).chain((0..rivals.len()).map(Some)).collect();
            if pair % 2 == 1 {
                order.reverse();
            }
            for turn in order {
                let name = turn.map(|at| rivals[at].as_str());
                let sample = measure(name)?;
                let (rate, running) = (sample.rate / 1e6, sample.rate / sample.share / 1e6);
                let (pair, pairs, name) = (pair + 1, self.options.pairs, name.unwrap_or("director"));
                eprintln!(
                    "pair {pair} of {pairs}: {name:<10} {rate:6.2} M packets/s, {running:6.2} M a second of CPU time"
                );
                match turn {
                    None => director.push(sample),
                    Some(at) => of_rivals[at].1.push(sample),
                }
            }
        }
        Ok(Samples { director, rivals: of_rivals })
    }

    /// The rate at which a counter grows; after a time to warm up, over the time that was asked for, and again where
    /// that was disturbed. `own` are the programs' processes, and `given` is how much of its CPU the thread that
    /// forwards was left.
    ///
    /// # Errors
    /// The counter cannot be read, a signal came, or it was disturbed each time and that is not to be overlooked.
    pub fn sample(
        &self,
        own: &[u32],
        given: f64,
        mut counter: impl FnMut() -> Result<(u64, Instant)>,
    ) -> Result<Sample> {
        self.interrupt.sleep(WARM_UP)?;
        let mut disturbance = None;
        for _ in 0..TRIES {
            let (before, from) = counter()?;
            let start = Moment::now(self.cpus, own)?;
            self.interrupt.sleep(Duration::from_secs(self.options.seconds))?;
            let end = Moment::now(self.cpus, own)?;
            let (after, to) = counter()?;
            let rate = after.saturating_sub(before) as f64 / to.duration_since(from).as_secs_f64();
            let window = start.until(&end);
            let share = window.forwarding;
            disturbance = window.disturbance(FORWARDING * given);
            match &disturbance {
                Some(reason) if !self.options.common.noisy => eprintln!("measured again: {reason}"),
                _ => return Ok(Sample { rate, share, disturbance }),
            }
        }
        bail!(
            "no report, for the CPUs {} and {} were not the benchmark's alone, {TRIES} times in a row: {}. \
             Stop what else runs, or have it reported all the same with --noisy",
            self.cpus.control,
            self.cpus.worker,
            disturbance.unwrap_or_default()
        )
    }

    /// Whether the director did what it was measured at: it forwards, with all connections open, and sent
    /// what it received.
    ///
    /// # Errors
    /// It did not.
    pub fn check(&self, director: &Director, before: &Status, after: &Status) -> Result<Seen> {
        let flows = u64::from(self.options.flows);
        if !after.forwarding {
            bail!(director.failed(&format!("does not forward: {}", after.problems.join("; "))));
        }
        let held = active(after);
        if held != flows {
            bail!(director.failed(&format!("holds {held} connections, not {flows}, after it was measured")));
        }
        let drops: Vec<_> = after
            .drops
            .iter()
            .map(|(reason, count)| {
                (reason.clone(), count.saturating_sub(before.drops.get(reason).copied().unwrap_or(0)))
            })
            .filter(|(_, count)| *count > 0)
            .collect();
        let received = port(after)?.rx_packets - port(before)?.rx_packets;
        let sent = port(after)?.tx_packets - port(before)?.tx_packets;
        let dropped: u64 = drops.iter().map(|(_, count)| count).sum();
        // Two counters are read one after the other, while a worker goes on.
        let missing = received.saturating_sub(sent + dropped);
        if missing > received / 100 {
            bail!(director.failed(&format!(
                "received {received} frames while it was measured, sent {sent} and dropped {dropped}"
            )));
        }
        let connections = &after.connections;
        let is_v6 = connections.active_ipv6 > 0;
        Ok(Seen {
            active: held,
            capacity: if is_v6 { connections.capacity_ipv6 } else { connections.capacity },
            // It says so of the table of IPv4 alone.
            bytes_per_connection: (!is_v6).then_some(connections.bytes_per_connection),
            page_size: (!is_v6).then_some(connections.page_size),
            drops,
        })
    }
}

/// The connections that the director holds, over either version of IP.
#[must_use]
pub fn active(status: &Status) -> u64 {
    status.connections.active + status.connections.active_ipv6
}

/// The port that is measured.
///
/// # Errors
/// The director shows none.
pub fn port(status: &Status) -> Result<&director_api::Port> {
    let port = status.ports.iter().find(|port| port.name == director::PORT);
    port.with_context(|| format!("directorctl status shows no port {}", director::PORT))
}
