//! What is printed: a table for people, JSON for programs.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::{Context, Result};
use serde::Serialize;

use super::{Options, Sample, Seen};
use crate::cpus::Cpus;
use crate::frame;
use crate::machine;
use crate::spread::Spread;

/// The outcome. It displays as it was asked for: as text or as JSON.
#[derive(Debug, Serialize)]
pub struct Report {
    bench: &'static str,
    flows: u32,
    pairs: u32,
    seconds: u64,
    frame_bytes: usize,
    /// Packets a second.
    director: Spread,
    /// Packets a second, by testpmd's mode.
    rivals: BTreeMap<String, Spread>,
    /// The director's packets a second to the rival's, pair by pair.
    ratio: BTreeMap<String, Spread>,
    /// Other processes used the CPUs: the figures are worth little.
    noisy: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    disturbances: Vec<String>,
    connections: Connections,
    /// Frames the director dropped while it was measured, by reason.
    drops: BTreeMap<String, u64>,
    cpu: String,
    cpu_flags: String,
    kernel: String,
    cpus: Used,
    memory: String,
    builds: Builds,
    #[serde(skip)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Connections {
    active: u64,
    capacity: u64,
    bytes_per_connection: f64,
    /// Bytes of a page of the table.
    page_size: u64,
}

/// The CPUs' numbers.
#[derive(Debug, Serialize)]
struct Used {
    control: u32,
    worker: u32,
}

/// How what was measured was compiled.
#[derive(Debug, Serialize)]
struct Builds {
    director: String,
    testpmd: String,
}

impl Report {
    pub(super) fn new(
        options: &Options,
        cpus: Cpus,
        memory: String,
        director: &[Sample],
        rivals: &[Vec<Sample>],
        seen: Seen,
    ) -> Result<Self> {
        let rates = |samples: &[Sample]| samples.iter().map(|sample| sample.rate).collect::<Vec<_>>();
        let whole = |spread: Spread| spread.map(f64::round);
        let fine = |spread: Spread| spread.map(|ratio| (ratio * 1e4).round() / 1e4);
        let own = rates(director);
        let nothing = "nothing was measured";
        let mut of_rivals = BTreeMap::new();
        let mut ratio = BTreeMap::new();
        for (name, samples) in options.rivals.iter().zip(rivals) {
            let rates = rates(samples);
            of_rivals.insert(name.clone(), whole(Spread::of(rates.iter().copied()).context(nothing)?));
            ratio.insert(name.clone(), fine(Spread::of_ratios(&own, &rates).context(nothing)?));
        }
        let disturbances: Vec<_> = director
            .iter()
            .chain(rivals.iter().flatten())
            .filter_map(|sample| sample.disturbance.clone())
            .collect();
        Ok(Self {
            bench: "forward",
            flows: options.flows,
            pairs: options.pairs,
            seconds: options.seconds,
            frame_bytes: frame::LENGTH,
            director: whole(Spread::of(own).context(nothing)?),
            rivals: of_rivals,
            ratio,
            noisy: !disturbances.is_empty(),
            disturbances,
            connections: Connections {
                active: seen.active,
                capacity: seen.capacity,
                bytes_per_connection: seen.bytes_per_connection,
                page_size: seen.page_size,
            },
            drops: seen.drops.into_iter().collect(),
            cpu: machine::cpu(),
            cpu_flags: machine::cpu_flags(),
            kernel: machine::kernel(),
            cpus: Used { control: cpus.control, worker: cpus.worker },
            memory,
            builds: Builds { director: machine::director_build(), testpmd: machine::testpmd_build() },
            json: options.json,
        })
    }

    fn text(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { flows, pairs, seconds, cpu, memory, .. } = self;
        if self.noisy {
            writeln!(f, "NOISY: other processes used the CPUs meanwhile; these figures are worth little")?;
            for disturbance in &self.disturbances {
                writeln!(f, "  {disturbance}")?;
            }
            writeln!(f)?;
        }
        writeln!(
            f,
            "forward: {flows} established connections, met in random order; TCP ACKs of {} bytes ({} with FCS)",
            self.frame_bytes,
            self.frame_bytes + 4,
        )?;
        writeln!(
            f,
            "each {pairs} times in turn, {seconds} s long; one core forwards: CPU {}",
            self.cpus.worker
        )?;
        writeln!(f, "{cpu}; {memory}\n")?;
        writeln!(f, "{:<12}{:>10}{:>10}{:>10}   M packets/s", "", "median", "min", "max")?;
        let millions = |spread: &Spread| spread.map(|rate| rate / 1e6);
        row(f, "director", millions(&self.director), 2)?;
        for (name, spread) in &self.rivals {
            row(f, name, millions(spread), 2)?;
        }
        writeln!(f, "\n{:<12}{:>10}{:>10}{:>10}", "director to", "median", "min", "max")?;
        for (name, spread) in &self.ratio {
            row(f, name, *spread, 3)?;
        }
        let Connections { active, capacity, bytes_per_connection, page_size } = &self.connections;
        writeln!(
            f,
            "\nThe director held {active} of {capacity} connections, {bytes_per_connection:.1} bytes each, on pages of {} KiB.",
            page_size >> 10
        )?;
        if self.drops.is_empty() {
            writeln!(f, "It dropped nothing while it was measured.")?;
        }
        for (reason, count) in &self.drops {
            writeln!(f, "It dropped {count} frames while it was measured: {reason}.")?;
        }
        writeln!(f, "director: {}", self.builds.director)?;
        write!(f, "dpdk-testpmd: {}", self.builds.testpmd)
    }
}

fn row(f: &mut fmt::Formatter<'_>, name: &str, spread: Spread, digits: usize) -> fmt::Result {
    let Spread { median, min, max } = spread;
    writeln!(f, "{name:<12}{median:>10.digits$}{min:>10.digits$}{max:>10.digits$}")
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.json {
            let text = serde_json::to_string_pretty(self).map_err(|_| fmt::Error)?;
            f.write_str(&text)
        } else {
            self.text(f)
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use serde_json::json;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    fn report(arguments: &[&str], disturbance: Option<&str>) -> Report {
        let line = Line::parse_from([&["bench"], arguments].concat());
        let sample = |rate: f64| Sample { rate, share: 1.0, disturbance: None };
        let mut director = vec![sample(30e6), sample(20e6), sample(25e6)];
        director[1].disturbance = disturbance.map(str::to_owned);
        let rivals = [[40e6, 40e6, 50e6], [60e6; 3], [20e6; 3]].map(|rates| rates.map(sample).to_vec());
        let seen = Seen { active: 4096, capacity: 1_000_000, ..Seen::default() };
        let cpus = Cpus { control: 0, worker: 1 };
        Report::new(&line.options, cpus, "base pages".to_owned(), &director, &rivals, seen).unwrap()
    }

    #[test]
    fn json_has_the_keys_that_were_promised() {
        let text = report(&["--json"], None).to_string();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        let spread = |median: f64, min: f64, max: f64| json!({ "median": median, "min": min, "max": max });
        assert_eq!(value["bench"], "forward");
        assert_eq!((&value["flows"], &value["pairs"]), (&json!(4096), &json!(3)));
        assert_eq!(value["director"], spread(25e6, 20e6, 30e6));
        assert_eq!(value["rivals"]["5tswap"], spread(40e6, 40e6, 50e6));
        assert_eq!(value["rivals"]["csum"], spread(20e6, 20e6, 20e6));
        assert_eq!(value["ratio"]["5tswap"], spread(0.5, 0.5, 0.75));
        assert_eq!(value["ratio"]["macswap"], spread(0.4167, 0.3333, 0.5));
        assert_eq!(value["noisy"], json!(false));
    }

    #[test]
    fn text_shows_everybody_and_marks_noise() {
        let quiet = report(&[], None).to_string();
        assert!(quiet.starts_with("forward: 4096 established connections"), "{quiet}");
        for name in ["director", "5tswap", "macswap", "csum"] {
            assert!(quiet.lines().any(|line| line.starts_with(name)), "{quiet}");
        }
        let noisy = report(&["--noisy"], Some("other processes used 50 % of a CPU")).to_string();
        assert!(noisy.starts_with("NOISY"), "{noisy}");
        assert!(noisy.contains("other processes used 50 % of a CPU"), "{noisy}");
    }
}
