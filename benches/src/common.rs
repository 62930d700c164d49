//! What the benchmarks that run in this process have in common: their options, their clock, and the judge
//! who says whether a measurement counts.

use std::fmt;
use std::time::Instant;

use anyhow::{Result, bail};
use clap::Args;
use rustix::thread::{CpuSet, sched_setaffinity};
use serde::Serialize;

use crate::cpus::{Cpus, FORWARDING, Moment};
use crate::interrupt::Interrupt;
use crate::machine;

/// How often a measurement is repeated when other processes disturbed it.
pub const TRIES: usize = 5;

/// How many disturbances are shown.
const SHOWN: usize = 3;

/// Options of every benchmark.
#[derive(Args, Clone, Debug)]
pub struct Common {
    /// Print JSON, and nothing else, on standard output
    #[arg(long)]
    pub json: bool,
    /// Report even if other processes used the CPUs meanwhile, marked as noisy
    #[arg(long)]
    pub noisy: bool,
    /// Use no huge pages
    #[arg(long)]
    pub no_huge: bool,
    /// The CPUs to use: the control core's and the worker's
    #[arg(long, value_name = "CONTROL,WORKER", value_parser = Cpus::parse)]
    pub cpus: Option<Cpus>,
}

/// Puts the calling thread on one CPU.
///
/// # Errors
/// The kernel does not allow it.
pub fn pin(cpu: u32) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu as usize);
    Ok(sched_setaffinity(None, &set)?)
}

/// Says whether measurements can be believed, and has them repeated where they cannot.
pub struct Judge<'a> {
    /// The signals that end the benchmark.
    pub interrupt: &'a Interrupt,
    /// Where it runs.
    pub cpus: Cpus,
    noisy: bool,
    disturbances: Vec<String>,
}

impl<'a> Judge<'a> {
    /// A judge of measurements on these CPUs; the calling thread, which measures, goes to the worker's.
    ///
    /// # Errors
    /// There are no such CPUs.
    pub fn new(common: &Common, interrupt: &'a Interrupt) -> Result<Self> {
        let cpus = common.cpus.map_or_else(Cpus::choose, Ok)?;
        cpus.confine()?;
        pin(cpus.worker)?;
        Ok(Self { interrupt, cpus, noisy: common.noisy, disturbances: Vec::new() })
    }

    /// Measures, and measures again while other processes disturb it.
    ///
    /// # Errors
    /// The measurement fails, a signal came, or it was disturbed each time and that is not to be overlooked.
    pub fn hear<T>(&mut self, mut measure: impl FnMut() -> Result<T>) -> Result<T> {
        let mut reason = String::new();
        for _ in 0..TRIES {
            self.interrupt.check()?;
            let start = Moment::now(self.cpus, &[])?;
            let measured = measure()?;
            let end = Moment::now(self.cpus, &[])?;
            match start.until(&end).disturbance(FORWARDING) {
                None => return Ok(measured),
                Some(disturbance) if self.noisy => {
                    self.disturbances.push(disturbance);
                    return Ok(measured);
                }
                Some(disturbance) => {
                    eprintln!("measured again: {disturbance}");
                    reason = disturbance;
                }
            }
        }
        bail!(
            "no report, for the CPUs {} and {} were not the benchmark's alone, {TRIES} times in a row: {reason}. \
             Stop what else runs, or have it reported all the same with --noisy",
            self.cpus.control,
            self.cpus.worker,
        )
    }

    /// What is said of the circumstances.
    #[must_use]
    pub fn circumstances(self, memory: String) -> Circumstances {
        Circumstances {
            noisy: !self.disturbances.is_empty(),
            disturbances: self.disturbances,
            cpu: machine::cpu(),
            cpu_flags: machine::cpu_flags(),
            kernel: machine::kernel(),
            cpus: self.cpus,
            memory,
            build: machine::director_build(),
        }
    }
}

/// How a report's figures were come by.
#[derive(Clone, Debug, Serialize)]
pub struct Circumstances {
    /// Other processes used the CPUs: the figures are worth little.
    pub noisy: bool,
    /// Who, and how much.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub disturbances: Vec<String>,
    /// The name of the CPU.
    pub cpu: String,
    /// What it can, of what matters here.
    pub cpu_flags: String,
    /// The kernel's version.
    pub kernel: String,
    /// The CPUs' numbers.
    pub cpus: Cpus,
    /// The pages it ran on.
    pub memory: String,
    /// How all of it was compiled.
    pub build: String,
}

impl Circumstances {
    /// A warning before the figures, where they are worth little.
    ///
    /// # Errors
    /// Writing fails.
    pub fn warn(&self, f: &mut impl fmt::Write) -> fmt::Result {
        if self.noisy {
            writeln!(f, "NOISY: other processes used the CPUs meanwhile; these figures are worth little")?;
            for disturbance in self.disturbances.iter().take(SHOWN) {
                writeln!(f, "  {disturbance}")?;
            }
            if let Some(more @ 1..) = self.disturbances.len().checked_sub(SHOWN) {
                writeln!(f, "  and {more} more times")?;
            }
            writeln!(f)?;
        }
        Ok(())
    }

    /// What stands under the figures.
    ///
    /// # Errors
    /// Writing fails.
    pub fn tell(&self, f: &mut impl fmt::Write) -> fmt::Result {
        writeln!(f, "\n{}; measured on CPU {}; {}", self.cpu, self.cpus.worker, self.memory)?;
        write!(f, "{}", self.build)
    }
}

/// A report as it was asked for: as JSON, or as text.
///
/// # Errors
/// Writing fails.
pub fn rendered<R: Serialize + fmt::Display>(report: &R, json: bool) -> Result<String> {
    Ok(if json { serde_json::to_string_pretty(report)? } else { report.to_string() })
}

/// The time-stamp counter, and how fast it runs.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: u64,
    per_millisecond: u64,
}

impl Clock {
    /// Looks at the counter for a twentieth of a second.
    #[must_use]
    pub fn calibrate() -> Self {
        let (began, start) = (Instant::now(), dpdk::clock::now());
        while began.elapsed().as_millis() < 50 {
            std::hint::spin_loop();
        }
        let (ticks, time) = (dpdk::clock::now() - start, began.elapsed());
        let per_millisecond = (ticks as f64 / time.as_secs_f64() / 1e3) as u64;
        Self { start, per_millisecond: per_millisecond.max(1) }
    }

    /// A clock that stands still.
    #[must_use]
    pub fn still() -> Self {
        Self { start: 0, per_millisecond: u64::MAX }
    }

    /// Ticks of the counter in a second.
    #[must_use]
    pub fn hertz(&self) -> f64 {
        self.per_millisecond as f64 * 1e3
    }

    /// Milliseconds since it was calibrated.
    #[inline]
    #[must_use]
    pub fn milliseconds(&self) -> u64 {
        dpdk::clock::now().saturating_sub(self.start) / self.per_millisecond
    }
}
