//! Two workers against one, on the connection table alone: each on a core of its own, looking up connections
//! drawn at random in bursts of 32, records touched, as [`crate::table`] does.
//!
//! Two cores give one equation. [`Model`] fits, by least squares over all runs, what two limits would each
//! explain alone: work that only one worker can do at a time (Amdahl's law, linear), or what each pair of
//! workers costs one another in cache lines that move between them (the quadratic term of Gunther's universal
//! scalability law). What more workers reach lies between both, as long as memory's bandwidth holds; the
//! lines of memory that a lookup takes are counted for that.

use std::fmt;
use std::sync::Barrier;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use director_flow::Options as TableOptions;
use serde::Serialize;

use crate::common::{Circumstances, Common, Judge, pin, rendered};
use crate::contenders::{self, Reader};
use crate::interrupt::Interrupt;
use crate::memory::Memory;
use crate::spread::Spread;
use crate::table::look_up;

/// Bytes an entry is reckoned at, and what the table takes besides.
const BYTES: u64 = 88;
const OVERHEAD: u64 = 64 << 20;

/// Cache lines that a lookup reads: the bucket's and the record's.
const LINES: f64 = 2.0;

/// Workers the model is asked about.
const WORKERS: [u32; 6] = [1, 2, 4, 8, 16, 64];

/// What is asked for.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Connections in the table
    #[arg(long, default_value_t = 10_000_000, value_parser = clap::value_parser!(u32).range(1000..=200_000_000))]
    entries: u32,
    /// How often one and two workers are measured
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(2..=1000))]
    pairs: u32,
    /// How long each measurement takes
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    #[command(flatten)]
    common: Common,
}

/// What would explain how two workers compare with one, and what it means for more.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Model {
    /// Part of the work that one worker does at a time: Amdahl's law, `N / (1 + sigma (N - 1))`.
    sigma: f64,
    /// What each pair of workers costs: `N / (1 + kappa N (N - 1))`.
    kappa: f64,
    /// The deviation of the runs' speed-ups from what is fitted: the root of the mean square.
    deviation: f64,
    /// What both say of more workers.
    predicted: Vec<Predicted>,
}

/// So many workers to one.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Predicted {
    workers: u32,
    /// If all that is lost is waiting for one another.
    linear: f64,
    /// If all that is lost are lines that move between cores.
    quadratic: f64,
}

impl Model {
    /// The least squares of the speed-ups of two workers, run by run.
    ///
    /// `N / speed-up - 1` is `sigma (N - 1)` or `kappa N (N - 1)`: linear in what is sought, so that with all
    /// runs at N = 2 the least squares are the mean. A gain beyond two is noise, and no loss.
    fn fit(speed_ups: &[f64]) -> Self {
        let count = speed_ups.len().max(1) as f64;
        let loss = speed_ups.iter().map(|speed_up| 2.0 / speed_up - 1.0).sum::<f64>() / count;
        let sigma = loss.max(0.0);
        let kappa = sigma / 2.0;
        let fitted = 2.0 / (1.0 + sigma);
        let squares: f64 = speed_ups.iter().map(|speed_up| (speed_up - fitted).powi(2)).sum();
        let predicted = WORKERS.map(|workers| {
            let n = f64::from(workers);
            let hundredth = |value: f64| (value * 100.0).round() / 100.0;
            Predicted {
                workers,
                linear: hundredth(n / (1.0 + sigma * (n - 1.0))),
                quadratic: hundredth(n / (1.0 + kappa * n * (n - 1.0))),
            }
        });
        let round = |value: f64| (value * 1e6).round() / 1e6;
        Self {
            sigma: round(sigma),
            kappa: round(kappa),
            deviation: round((squares / count).sqrt()),
            predicted: predicted.into(),
        }
    }
}

/// The outcome.
#[derive(Debug, Serialize)]
struct Report {
    bench: &'static str,
    entries: u32,
    pairs: u32,
    seconds: u64,
    /// Lookups a second of one worker, the mean of both cores.
    one: Spread,
    two: Spread,
    /// Two workers to one, run by run.
    speed_up: Spread,
    model: Model,
    /// Bytes a second that one worker's lookups fetch from memory, if no line of them is in a cache.
    bytes_per_worker: f64,
    #[serde(flatten)]
    circumstances: Circumstances,
}

/// Runs the benchmark.
///
/// # Errors
/// There is no memory, a connection was not found, or the CPUs were used by others.
pub fn run(options: &Options, interrupt: &Interrupt) -> Result<String> {
    let Options { entries, pairs, seconds, common } = options;
    let mut judge = Judge::new(common, interrupt)?;
    let room = entries + entries / 64 + 256;
    let memory = Memory::get(0, u64::from(room) * BYTES + OVERHEAD, common.no_huge)?;
    let (mut readers, mut writer) = contenders::own_readers(&TableOptions::new(room, 3))?;
    for from in (0..u64::from(*entries)).step_by(1 << 18) {
        interrupt.check()?;
        writer.insert(from..(from + (1 << 18)).min((*entries).into()))?;
    }
    writer.rest();
    let [first, second] = readers.as_mut_slice() else { bail!("not two readers") };
    let time = Duration::from_secs(*seconds);
    let other = judge.cpus.control;
    let (mut one, mut two) = (Vec::new(), Vec::new());
    for pair in 0..*pairs {
        let seed = u64::from(pair) << 8;
        let (mut alone_here, mut alone_there, mut both) = (0.0, 0.0, 0.0);
        // Every second time the other way round. The two cores need not be alike: each is measured alone.
        let turns = if pair % 2 == 0 { [0, 1, 2] } else { [2, 1, 0] };
        for turn in turns {
            match turn {
                0 => alone_here = judge.hear(|| alone(&mut **first, *entries, time, seed))?,
                1 => {
                    pin(other)?;
                    let measured = judge.hear(|| alone(&mut **second, *entries, time, seed + 1));
                    pin(judge.cpus.worker)?;
                    alone_there = measured?;
                }
                _ => {
                    both = judge
                        .hear(|| together((&mut **first, &mut **second), *entries, time, seed, other))?;
                }
            }
        }
        one.push(f64::midpoint(alone_here, alone_there));
        two.push(both);
        let speed_up = both / f64::midpoint(alone_here, alone_there);
        let [here, there, both] = [alone_here, alone_there, both].map(|rate| rate / 1e6);
        eprintln!(
            "{}: alone {here:6.2} and {there:6.2} M lookups/s, together {both:6.2} M/s, {speed_up:.3} times",
            pair + 1
        );
    }
    let ratios: Vec<f64> = two.iter().zip(&one).map(|(two, one)| two / one).collect();
    let nothing = "nothing was measured";
    let alone = Spread::of(one.iter().copied()).context(nothing)?;
    let report = Report {
        bench: "scaling",
        entries: *entries,
        pairs: *pairs,
        seconds: *seconds,
        two: Spread::of(two.iter().copied()).context(nothing)?.rounded(0),
        speed_up: Spread::of_ratios(&two, &one).context(nothing)?.rounded(4),
        model: Model::fit(&ratios),
        bytes_per_worker: (alone.median * LINES * 64.0).round(),
        one: alone.rounded(0),
        circumstances: judge.circumstances(memory.describe()),
    };
    rendered(&report, common.json)
}

/// Lookups a second of one worker, on the core it runs on.
fn alone(reader: &mut dyn Reader, entries: u32, time: Duration, seed: u64) -> Result<f64> {
    Ok(1e9 / look_up(reader, entries, time, seed)?.nanoseconds)
}

/// Lookups a second of two workers at the same time, together.
fn together(
    (first, second): (&mut (dyn Reader + Send), &mut (dyn Reader + Send)),
    entries: u32,
    time: Duration,
    seed: u64,
    cpu: u32,
) -> Result<f64> {
    let ready = Barrier::new(2);
    std::thread::scope(|scope| {
        let looking = scope.spawn(|| {
            let pinned = pin(cpu);
            ready.wait();
            pinned?;
            alone(second, entries, time, seed + 1)
        });
        ready.wait();
        let here = alone(first, entries, time, seed)?;
        let there = looking.join().unwrap_or_else(|_| bail!("a thread that looks up panicked"))?;
        Ok(here + there)
    })
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { entries, pairs, seconds, one, two, speed_up, model, .. } = self;
        let millions = |spread: &Spread| spread.map(|rate| rate / 1e6).text(2);
        self.circumstances.warn(f)?;
        writeln!(f, "scaling: lookups in a table of {entries} connections, record included")?;
        writeln!(f, "each {pairs} times in turn, {seconds} s long; median (min to max)\n")?;
        writeln!(f, "one worker   {:>28} M lookups/s", millions(one))?;
        writeln!(f, "two workers  {:>28} M lookups/s", millions(two))?;
        writeln!(f, "two to one   {:>28}\n", speed_up.text(3))?;
        writeln!(
            f,
            "fitted: sigma {:.5} (one at a time), or kappa {:.6} (each pair); deviation {:.4}",
            model.sigma, model.kappa, model.deviation
        )?;
        writeln!(
            f,
            "{:>8}{:>12}{:>12}   times one, if sigma or kappa explains all",
            "workers", "sigma", "kappa"
        )?;
        for Predicted { workers, linear, quadratic } in &model.predicted {
            writeln!(f, "{workers:>8}{linear:>12.2}{quadratic:>12.2}")?;
        }
        writeln!(
            f,
            "a worker's lookups take at most {:.1} GB/s of memory: two lines each",
            self.bytes_per_worker / 1e9
        )?;
        self.circumstances.tell(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_gives_back_what_it_was_made_of() {
        let sigma = 0.04;
        let model = Model::fit(&[2.0 / (1.0 + sigma); 5]);
        assert!((model.sigma - sigma).abs() < 1e-6 && (model.kappa - sigma / 2.0).abs() < 1e-6, "{model:?}");
        assert!(model.deviation < 1e-6);
        let sixteen = model.predicted.iter().find(|predicted| predicted.workers == 16).unwrap();
        assert_eq!((sixteen.linear, sixteen.quadratic), (10.0, 2.76));
    }

    #[test]
    fn more_than_twice_is_no_loss() {
        let model = Model::fit(&[2.01, 2.03]);
        assert_eq!((model.sigma, model.kappa), (0.0, 0.0));
        assert!(model.predicted.iter().all(|predicted| predicted.linear == f64::from(predicted.workers)));
    }

    #[test]
    fn two_workers_look_up_at_once() {
        let (mut readers, mut writer) = contenders::own_readers(&TableOptions::new(5000, 3)).unwrap();
        writer.insert(0..4000).unwrap();
        writer.rest();
        let [first, second] = readers.as_mut_slice() else { panic!("not two") };
        let time = Duration::from_millis(20);
        assert!(together((&mut **first, &mut **second), 4000, time, 1, 0).unwrap() > 0.0);
        assert!(together((&mut **first, &mut **second), 4500, time, 1, 0).is_err(), "some are not there");
    }
}
