//! How many instructions the hot functions take, counted by callgrind: the same in every run, whatever else
//! the machine does. What grows by more than a fifth over what was recorded is found before anybody can
//! measure it in packets a second.
//!
//! `bench instructions` runs this program under `valgrind --tool=callgrind` once for each [`Case`]; in there
//! `bench count CASE` sets the case up and calls `counted`, outside of which callgrind counts nothing.
//! Everything random has a fixed seed, and the clock is given.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::hint::black_box;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use director_engine::{BURST, Options as TableOptions, Pages};
use director_packet::nat::End;
use director_packet::plain::{self, Rewrite, Wanted};
use director_packet::{Change, Endpoint4, Mac, TCP, Verdict, parse};
use serde::{Deserialize, Serialize};

use crate::common::{Clock, rendered};
use crate::contenders::{self, Reader, end};
use crate::engine::{self, Burst};
use crate::flows::{self, Random};
use crate::hot::{Flow, Generator, Mix, open};
use crate::interrupt::Interrupt;
use crate::kind::Kind;
use crate::machine;
use crate::network::PORT_MAC;
use crate::template::{Segment, Slot, Template};

/// What a count may exceed its bound by. Less would not do: the same source built in another directory is inlined
/// otherwise, and 262 and 290 instructions were counted for one packet.
const TOLERANCE: f64 = 0.2;

/// The hash's seed, and that of the clients.
const SEED: u64 = 0x1dea;

/// The length in bytes of the frames of which parts of the worker are counted.
const LENGTH: usize = Kind::TCP.length();

/// Connections there are, and bursts counted: each connection is met twice.
const FLOWS: u32 = 4096;
const BURSTS: usize = 2 * FLOWS as usize / BURST;

/// What callgrind is to count: as the function's name is shown there, its hash left open.
const TOGGLE: &str = "--toggle-collect=director_benches::instructions::counted*";

/// What is asked for.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Record what is counted as the new bounds
    #[arg(long)]
    renew: bool,
    /// The file of the bounds
    #[arg(long, value_name = "FILE", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/instructions.json"))]
    bounds: PathBuf,
    /// Print JSON, and nothing else, on standard output
    #[arg(long)]
    json: bool,
}

/// What is counted; each for one packet, connection or lookup of a burst of 32.
#[derive(Args, Clone, Debug)]
pub struct Count {
    /// Which
    case: Case,
}

/// Something hot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Case {
    /// A client's packet of an existing connection, through the worker.
    EstablishedClient,
    /// A server's packet of an existing connection, through the worker.
    EstablishedServer,
    /// The same, of UDP.
    EstablishedClientUdp,
    /// The same.
    EstablishedServerUdp,
    /// The same, of TCP over IPv6.
    EstablishedClientIpv6,
    /// The same.
    EstablishedServerIpv6,
    /// The same, of UDP over IPv6.
    EstablishedClientUdpIpv6,
    /// The same.
    EstablishedServerUdpIpv6,
    /// A SYN of a new client, through the worker.
    NewConnection,
    /// A lookup in the connection table with its record touched.
    Lookup,
    /// The parser of every frame, of a TCP segment.
    Parse,
    /// The reader of plain frames.
    PlainRead,
    /// The translation of a plain frame.
    PlainRewrite,
}

impl Case {
    fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }
}

/// What callgrind counts: the call of `work`, and nothing else of this program.
#[inline(never)]
fn counted(work: &mut dyn FnMut()) {
    work();
}

/// Does a case's work; how many packets, connections or lookups `counted` has seen.
///
/// # Errors
/// The director does not do what it is to be measured at.
pub fn count(Count { case }: &Count) -> Result<u64> {
    match case {
        Case::EstablishedClient => established(Kind::TCP, Mix::Clients),
        Case::EstablishedServer => established(Kind::TCP, Mix::Servers),
        Case::EstablishedClientUdp => established(Kind::UDP, Mix::Clients),
        Case::EstablishedServerUdp => established(Kind::UDP, Mix::Servers),
        Case::EstablishedClientIpv6 => established(Kind::TCP_V6, Mix::Clients),
        Case::EstablishedServerIpv6 => established(Kind::TCP_V6, Mix::Servers),
        Case::EstablishedClientUdpIpv6 => established(Kind::UDP_V6, Mix::Clients),
        Case::EstablishedServerUdpIpv6 => established(Kind::UDP_V6, Mix::Servers),
        Case::NewConnection => new_connections(),
        Case::Lookup => lookups(),
        Case::Parse => frames(|frame| match parse(frame, LENGTH, Mac(PORT_MAC)) {
            Verdict::Segment(segment) => segment.length == 40,
            _ => false,
        }),
        Case::PlainRead => {
            let wanted = Wanted::v4(Mac(PORT_MAC), TCP);
            frames(|frame| {
                frame
                    .first_chunk()
                    .and_then(|headers| plain::read(headers, LENGTH, &wanted))
                    .is_some_and(|read| read.length == 40)
            })
        }
        Case::PlainRewrite => {
            let to = Endpoint4::new(0xc612_010b, 8080);
            let change = Change::between(Endpoint4::new(0xc612_0001, 80), to);
            let rewrite = Rewrite {
                to,
                network: change.network,
                transport: change.transport,
                macs: (0x0807_0605_0403_0201, 0x0c0b_0a09),
            };
            frames(|frame| {
                let Some(headers) = frame.first_chunk_mut() else { return false };
                black_box(&rewrite).apply(headers, End::Destination);
                true
            })
        }
    }
}

/// A table that is the same in every run.
fn table(capacity: u32, workers: usize) -> TableOptions {
    TableOptions { pages: Pages::Base, seed: Some(SEED), ..TableOptions::new(capacity, workers) }
}

fn established(kind: Kind, mix: Mix) -> Result<u64> {
    let (_keeper, mut core) = engine::director_of(kind, &table(2 * FLOWS, 1), Clock::still(), &[])?;
    let mut random = Random::new(SEED);
    let numbers = flows::draw(FLOWS, &mut random);
    let flows = open(&mut core, kind, &numbers, &mut random)?;
    let mut generator = Generator::new(&flows, kind, mix);
    let mut burst = Burst::new(kind);
    let mut unsent = 0;
    for number in 0..BURSTS * 3 / 2 {
        generator.fill(&mut burst.slots);
        let mut process = || core.process_at(&mut burst, BURST, number as u64);
        // The first packet of each direction still looks for its way.
        if number < BURSTS / 2 {
            process();
        } else {
            counted(&mut process);
        }
        unsent += burst.unsent();
    }
    if unsent > 0 {
        bail!("{unsent} frames were not forwarded: {}", burst.complaint());
    }
    Ok((BURSTS * BURST) as u64)
}

fn new_connections() -> Result<u64> {
    let total = (BURSTS * BURST) as u32;
    let (mut keeper, mut core) = engine::director_of(Kind::TCP, &table(2 * total, 1), Clock::still(), &[])?;
    let numbers = flows::draw(total, &mut Random::new(SEED));
    let syn = Template::to_service(Kind::TCP, Segment::SYN);
    let mut burst = Burst::new(Kind::TCP);
    for part in numbers.chunks_exact(BURST) {
        for (slot, number) in burst.slots.iter_mut().zip(part) {
            let flow = Flow::of(*number);
            syn.write(slot, flow.address, flow.port);
        }
        counted(&mut || core.process(&mut burst));
        if burst.unsent() > 0 {
            bail!("a new connection was refused: {}", burst.complaint());
        }
        keeper.turn();
    }
    Ok(total.into())
}

fn lookups() -> Result<u64> {
    let (_, contender) = contenders::own_table(&table(2 * FLOWS, 2))?;
    let (mut reader, mut writer) = (contender.reader, contender.writer);
    writer.insert(0..FLOWS.into())?;
    let mut random = Random::new(SEED);
    let mut numbers: Vec<u32> = (0..FLOWS).collect();
    random.shuffle(&mut numbers);
    let mut found = 0;
    for round in 0..BURSTS {
        let from = round * BURST % numbers.len();
        let ends = std::array::from_fn(|at| end(numbers[from + at].into()));
        let reader: &mut dyn Reader = &mut *reader;
        counted(&mut || found += reader.lookup(&ends));
    }
    if found != BURSTS * BURST {
        bail!("of {} connections looked up only {found} were found", BURSTS * BURST);
    }
    Ok((BURSTS * BURST) as u64)
}

/// Does something to clients' frames of a burst.
fn frames(mut work: impl FnMut(&mut [u8]) -> bool) -> Result<u64> {
    let flows: Vec<Flow> =
        flows::draw(FLOWS, &mut Random::new(SEED)).iter().map(|number| Flow::of(*number)).collect();
    let mut generator = Generator::new(&flows, Kind::TCP, Mix::Clients);
    let mut slots = [Slot::EMPTY; BURST];
    let mut right = 0;
    for _ in 0..BURSTS {
        generator.fill(&mut slots);
        counted(&mut || {
            for Slot(frame) in &mut slots {
                right += usize::from(work(&mut frame[..LENGTH]));
            }
        });
        black_box(&slots);
    }
    if right != BURSTS * BURST {
        bail!("of {} frames only {right} were taken", BURSTS * BURST);
    }
    Ok((BURSTS * BURST) as u64)
}

/// What was recorded.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Bounds {
    /// How what was counted was compiled.
    build: String,
    /// Instructions of each case.
    instructions: BTreeMap<String, f64>,
}

/// A case beside its bound.
#[derive(Clone, Debug, Serialize)]
struct Row {
    case: String,
    /// Instructions a packet, connection or lookup.
    instructions: f64,
    /// What was recorded.
    bound: Option<f64>,
}

impl Row {
    /// By how much of the bound it is exceeded; below 0 where it is not reached.
    fn excess(&self) -> Option<f64> {
        self.bound.map(|bound| self.instructions / bound - 1.0)
    }

    /// Without a bound nothing holds.
    fn holds(&self) -> bool {
        self.bound.is_some_and(|bound| self.instructions <= bound * (1.0 + TOLERANCE))
    }
}

/// The outcome.
#[derive(Debug, Serialize)]
struct Report {
    bench: &'static str,
    rows: Vec<Row>,
    holds: bool,
    build: String,
    /// How it was compiled when the bounds were recorded.
    bounds_build: String,
    valgrind: String,
}

/// Counts every case and compares with the bounds, or records them.
///
/// # Errors
/// There is no valgrind, a case does not run, or it takes more instructions than its bound allows.
pub fn run(options: &Options, interrupt: &Interrupt) -> Result<String> {
    let Options { renew, bounds: file, json } = options;
    let valgrind = Command::new("valgrind").arg("--version").output();
    let valgrind = valgrind.context("there is no valgrind; scripts/install installs it")?;
    let valgrind = String::from_utf8_lossy(&valgrind.stdout).trim().to_owned();
    let recorded: Bounds = match fs::read_to_string(file) {
        Ok(text) => {
            serde_json::from_str(&text).with_context(|| format!("{} holds no bounds", file.display()))?
        }
        Err(_) if *renew => Bounds::default(),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", file.display())),
    };
    let directory = tempfile::Builder::new().prefix("director-bench-").tempdir()?;
    let mut rows = Vec::new();
    for case in Case::value_variants() {
        interrupt.check()?;
        let name = case.name();
        let path = directory.path().join(&name);
        let output = Command::new("valgrind")
            .args(["--quiet", "--tool=callgrind", TOGGLE])
            .arg(format!("--callgrind-out-file={}", path.display()))
            .arg(std::env::current_exe()?)
            .args(["count", &name])
            // Another's preloaded library is not to be counted, nor its allocator tuned.
            .env_remove("LD_PRELOAD")
            .env_remove("GLIBC_TUNABLES")
            .output()?;
        if !output.status.success() {
            bail!("{name} does not run under valgrind: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        let times: u64 =
            String::from_utf8_lossy(&output.stdout).trim().parse().context("how often it ran")?;
        let text = fs::read_to_string(&path).context("callgrind wrote nothing")?;
        let total = total(&text).with_context(|| format!("callgrind counted nothing of {name}"))?;
        let instructions = (total as f64 / times as f64 * 10.0).round() / 10.0;
        eprintln!("{name:<28}{instructions:>10.1} instructions");
        rows.push(Row { bound: recorded.instructions.get(&name).copied(), case: name, instructions });
    }
    if *renew {
        let instructions = rows.iter().map(|row| (row.case.clone(), row.instructions)).collect();
        let bounds = Bounds { build: machine::director_build(), instructions };
        fs::write(file, serde_json::to_string_pretty(&bounds)? + "\n")
            .with_context(|| format!("cannot write {}", file.display()))?;
    }
    let report = Report {
        bench: "instructions",
        holds: *renew || rows.iter().all(Row::holds),
        rows,
        build: machine::director_build(),
        bounds_build: recorded.build,
        valgrind,
    };
    let holds = report.holds;
    let text = rendered(&report, *json)?;
    if !holds {
        println!("{text}");
        bail!(
            "a hot function takes over {:.0} % more instructions than its bound in {}, or has none. Where that \
             is meant to be so, record new bounds: scripts/bench instructions --renew",
            TOLERANCE * 100.0,
            file.display()
        );
    }
    Ok(text)
}

/// All that callgrind counted, of its output file.
fn total(text: &str) -> Option<u64> {
    let line =
        text.lines().find_map(|line| line.strip_prefix("totals:").or(line.strip_prefix("summary:")))?;
    line.split_whitespace().next()?.parse().ok().filter(|total| *total > 0)
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "instructions: by callgrind ({}); bursts of {BURST}, {FLOWS} connections\n",
            self.valgrind
        )?;
        writeln!(f, "{:<28}{:>10}{:>10}{:>10}", "one", "counted", "bound", "change")?;
        for row in &self.rows {
            let bound = row.bound.map_or_else(|| "none".to_owned(), |bound| format!("{bound:.1}"));
            let change = row.excess().map_or_else(String::new, |excess| format!("{:+.1} %", excess * 100.0));
            let mark = if row.holds() { "" } else { "  EXCEEDED" };
            writeln!(f, "{:<28}{:>10.1}{bound:>10}{change:>10}{mark}", row.case, row.instructions)?;
        }
        write!(f, "\n{}", self.build)?;
        if !self.bounds_build.is_empty() && self.bounds_build != self.build {
            write!(f, "\nthe bounds were recorded with another build: {}", self.bounds_build)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_does_its_work() {
        for case in Case::value_variants() {
            assert_eq!(count(&Count { case: *case }).unwrap(), 2 * u64::from(FLOWS), "{case:?}");
        }
    }

    #[test]
    fn callgrind_says_how_many() {
        assert_eq!(total("version: 1\nevents: Ir\n\nfn=(1) main\n1 5\n\ntotals: 1234\n"), Some(1234));
        assert_eq!(total("events: Ir\nsummary: 77\n"), Some(77));
        assert_eq!(total("events: Ir\ntotals: 0\n"), None);
        assert_eq!(total(""), None);
    }

    #[test]
    fn a_fifth_more_is_too_much() {
        let row = |instructions, bound| Row { case: "x".to_owned(), instructions, bound };
        assert!(row(119.9, Some(100.0)).holds());
        assert!(row(1.0, Some(100.0)).holds());
        assert!(!row(120.2, Some(100.0)).holds());
        assert!(!row(1.0, None).holds());
    }
}
