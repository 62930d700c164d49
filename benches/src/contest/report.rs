//! What is printed: a table for people, JSON for programs.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::{Context, Result};
use serde::Serialize;
use serde_json::{Map, Value};

use super::{Contest, Sample, Samples, Seen};
use crate::cpus::Cpus;
use crate::machine;
use crate::spread::Spread;

/// What was measured.
pub struct Subject {
    /// The benchmark's name.
    pub bench: &'static str,
    /// Which frames there were.
    pub frames: String,
    /// The length of each in bytes.
    pub frame_bytes: usize,
    /// What a measurement came to.
    pub figure: fn(&Sample) -> f64,
    /// What that is, in millions.
    pub unit: &'static str,
    /// What is to be said under the figures.
    pub notes: Vec<String>,
    /// What JSON has besides.
    pub more: Map<String, Value>,
}

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
    cpus: Cpus,
    memory: String,
    builds: Builds,
    #[serde(flatten)]
    more: Map<String, Value>,
    #[serde(skip)]
    frames: String,
    #[serde(skip)]
    unit: &'static str,
    #[serde(skip)]
    notes: Vec<String>,
    #[serde(skip)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Connections {
    active: u64,
    capacity: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes_per_connection: Option<f64>,
    /// Bytes of a page of the table.
    #[serde(skip_serializing_if = "Option::is_none")]
    page_size: Option<u64>,
}

/// How what was measured was compiled.
#[derive(Debug, Serialize)]
struct Builds {
    director: String,
    testpmd: String,
}

impl Report {
    /// The report of these measurements, and of what the director said of itself.
    ///
    /// # Errors
    /// Nothing was measured.
    pub fn new(
        subject: Subject,
        contest: &Contest<'_>,
        memory: String,
        samples: &Samples,
        seen: Seen,
    ) -> Result<Self> {
        let Subject { bench, frames, frame_bytes, figure, unit, notes, more } = subject;
        let rates = |samples: &[Sample]| samples.iter().map(figure).collect::<Vec<_>>();
        let whole = |spread: Spread| spread.map(f64::round);
        let own = rates(&samples.director);
        let nothing = "nothing was measured";
        let mut of_rivals = BTreeMap::new();
        let mut ratio = BTreeMap::new();
        for (name, samples) in &samples.rivals {
            let rates = rates(samples);
            of_rivals.insert(name.clone(), whole(Spread::of(rates.iter().copied()).context(nothing)?));
            ratio.insert(name.clone(), Spread::of_ratios(&own, &rates).context(nothing)?.rounded(4));
        }
        let of_rival = samples.rivals.iter().flat_map(|(_, samples)| samples);
        let disturbances: Vec<_> =
            samples.director.iter().chain(of_rival).filter_map(|sample| sample.disturbance.clone()).collect();
        Ok(Self {
            bench,
            flows: contest.options.flows,
            pairs: contest.options.pairs,
            seconds: contest.options.seconds,
            frame_bytes,
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
            cpus: contest.cpus,
            memory,
            builds: Builds { director: machine::director_build(), testpmd: machine::testpmd_build() },
            more,
            frames,
            unit,
            notes,
            json: contest.options.common.json,
        })
    }

    fn text(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { bench, flows, frames, pairs, seconds, cpu, memory, unit, .. } = self;
        if self.noisy {
            writeln!(f, "NOISY: other processes used the CPUs meanwhile; these figures are worth little")?;
            for disturbance in &self.disturbances {
                writeln!(f, "  {disturbance}")?;
            }
            writeln!(f)?;
        }
        writeln!(
            f,
            "{bench}: {flows} established connections, met in random order; {frames} of {} bytes ({} with FCS)",
            self.frame_bytes,
            self.frame_bytes + 4,
        )?;
        writeln!(
            f,
            "each {pairs} times in turn, {seconds} s long; one core forwards: CPU {}",
            self.cpus.worker
        )?;
        writeln!(f, "{cpu}; {memory}\n")?;
        writeln!(f, "{:<12}{:>10}{:>10}{:>10}   {unit}", "", "median", "min", "max")?;
        let millions = |spread: &Spread| spread.map(|rate| rate / 1e6);
        row(f, "director", millions(&self.director), 2)?;
        for (name, spread) in &self.rivals {
            row(f, name, millions(spread), 2)?;
        }
        writeln!(f, "\n{:<12}{:>10}{:>10}{:>10}", "director to", "median", "min", "max")?;
        for (name, spread) in &self.ratio {
            row(f, name, *spread, 3)?;
        }
        if !self.notes.is_empty() {
            writeln!(f)?;
        }
        for note in &self.notes {
            writeln!(f, "{note}")?;
        }
        let Connections { active, capacity, bytes_per_connection, page_size } = &self.connections;
        write!(f, "\nThe director held {active} of {capacity} connections")?;
        if let Some((bytes, page)) = bytes_per_connection.zip(*page_size) {
            write!(f, ", {bytes:.1} bytes each, on pages of {} KiB", page >> 10)?;
        }
        writeln!(f, ".")?;
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
    use std::path::PathBuf;

    use clap::Parser;
    use serde_json::json;

    use super::*;
    use crate::contest::Options;
    use crate::interrupt::Interrupt;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    fn report(arguments: &[&str], disturbance: Option<&str>) -> Report {
        let options = Line::parse_from([&["bench"], arguments].concat()).options;
        let interrupt = Interrupt::default();
        let contest = Contest {
            options: &options,
            interrupt: &interrupt,
            cpus: Cpus { control: 0, worker: 1 },
            binaries: PathBuf::new(),
            capacity: 1_000_000,
        };
        let sample = |rate: f64| Sample { rate, share: 1.0, disturbance: None };
        let mut director = vec![sample(30e6), sample(20e6), sample(25e6)];
        director[1].disturbance = disturbance.map(str::to_owned);
        let rivals = [("5tswap", [40e6, 40e6, 50e6]), ("macswap", [60e6; 3]), ("csum", [20e6; 3])];
        let rivals = rivals.map(|(name, rates)| (name.to_owned(), rates.map(sample).to_vec())).to_vec();
        let subject = Subject {
            bench: "forward",
            frames: "TCP ACKs".to_owned(),
            frame_bytes: 60,
            figure: |sample| sample.rate,
            unit: "M packets/s",
            notes: vec!["A note.".to_owned()],
            more: Map::from_iter([("brake".to_owned(), json!(60))]),
        };
        let seen = Seen { active: 4096, capacity: 1_000_000, ..Seen::default() };
        let samples = Samples { director, rivals };
        Report::new(subject, &contest, "base pages".to_owned(), &samples, seen).unwrap()
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
        assert_eq!((&value["noisy"], &value["brake"]), (&json!(false), &json!(60)));
    }

    #[test]
    fn text_shows_everybody_and_marks_noise() {
        let quiet = report(&[], None).to_string();
        assert!(quiet.starts_with("forward: 4096 established connections"), "{quiet}");
        for name in ["director", "5tswap", "macswap", "csum", "A note."] {
            assert!(quiet.lines().any(|line| line.starts_with(name)), "{quiet}");
        }
        let noisy = report(&["--noisy"], Some("other processes used 50 % of a CPU")).to_string();
        assert!(noisy.starts_with("NOISY"), "{noisy}");
        assert!(noisy.contains("other processes used 50 % of a CPU"), "{noisy}");
    }
}
