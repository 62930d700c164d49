//! What a worker loses while ipvsadm lists much: packets a second of established connections before and meanwhile.
//!
//! The frames come as in `forward`: from a file that `net_pcap` replays for ever. Another `net_pcap` port reads a file
//! once, each frame of which opens a connection that then rests, so that there are as many to list as are wanted.
//! The worker has its CPU for itself; the control core, ipvsadm and this program share the other one.

use std::fmt;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;
use director_api::{ProcFile, Request};
use serde::Serialize;

use crate::common::{Circumstances, Common, pin, rendered};
use crate::cpus::{Cpus, FORWARDING, Moment};
use crate::director::{self, Director};
use crate::flows::{self, Random};
use crate::frame::{self, Segment};
use crate::interrupt::Interrupt;
use crate::machine;
use crate::memory::Memory;
use crate::network::{self, Mac, PORT_MAC, SERVER_PORT, SERVICE, client_end};
use crate::pcap;
use crate::spread::Spread;

/// The seed of everything random.
const SEED: u64 = 0x1157;
/// Connections whose packets are counted.
const FLOWS: u32 = 4096;
const DESCRIPTORS: u16 = 1024;
const MBUFS: u32 = FLOWS + 8192;
/// Bytes of table a connection is reckoned at when memory is reserved, and what the tables take besides.
const BYTES_PER_CONNECTION: u64 = 96;
const TABLE_OVERHEAD: u64 = 64 << 20;
/// How long it may take to open all connections.
const OPENING: Duration = Duration::from_secs(120);
/// How long packets are counted before each listing.
const BEFORE: Duration = Duration::from_secs(2);
/// The stretches of a listing in which packets are counted, to find the worst.
const STRETCH: Duration = Duration::from_millis(100);
/// How much of the time the worker must have run.
const RAN: f64 = 0.98;

/// The MAC address of the second `net_pcap` port of a process, which the driver makes up itself.
const SECOND_MAC: Mac = [0x02, b'p', b'c', b'a', b'p', 1];

/// What is listed.
const LISTINGS: [(&str, &str); 2] = [("services", "-Ln"), ("connections", "-Lnc")];

/// What is asked for.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Connections to list
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(10_000..=i64::from(flows::MOST)))]
    entries: u32,
    /// Services of ten servers to list
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=50_000))]
    services: u32,
    /// How often each is listed
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    #[command(flatten)]
    common: Common,
    /// Where `director` and `directorctl` are [default: where this program is]
    #[arg(long, value_name = "DIRECTORY")]
    binaries: Option<PathBuf>,
}

/// One listing.
struct Sample {
    /// Seconds.
    seconds: f64,
    lines: u64,
    /// Packets a second, before and meanwhile; and in the worst stretch.
    before: f64,
    meanwhile: f64,
    worst: f64,
    /// How much of the time the worker had its CPU.
    ran_before: f64,
    ran: f64,
    /// By how much the director grew at most, in KiB.
    grown: f64,
}

/// What came of one kind of listing.
#[derive(Debug, Serialize)]
struct Outcome {
    lists: &'static str,
    lines: u64,
    seconds: Spread,
    /// Packets a second.
    before: Spread,
    meanwhile: Spread,
    /// Round by round.
    ratio: Spread,
    /// The same of packets a second of the worker's CPU time: what the listing itself costs it, whoever else ran there.
    cpu_ratio: Spread,
    /// Of the worst tenth of a second to the time before.
    worst_ratio: Spread,
    grown_kib: Spread,
}

#[derive(Debug, Serialize)]
struct Report {
    bench: &'static str,
    connections: u32,
    services: u32,
    rounds: u32,
    listings: Vec<Outcome>,
    #[serde(flatten)]
    circumstances: Circumstances,
}

struct Bench<'a> {
    interrupt: &'a Interrupt,
    cpus: Cpus,
    director: Director,
    ctl: PathBuf,
    disturbances: Vec<String>,
}

/// Runs the benchmark.
///
/// # Errors
/// A program does not run, the director does not hold or list what it should, or a CPU was used by others.
pub fn run(options: &Options, interrupt: &Interrupt) -> Result<String> {
    let Options { entries, services, rounds, common, .. } = options;
    let cpus = common.cpus.map_or_else(Cpus::choose, Ok)?;
    cpus.confine()?;
    let binaries = match &options.binaries {
        Some(directory) => directory.clone(),
        None => std::env::current_exe()?.parent().map(Path::to_owned).unwrap_or_default(),
    };
    let directory = tempfile::Builder::new().prefix("director-bench-").tempdir()?;
    let path = |name: &str| directory.path().join(name);
    let numbers = flows::draw(*entries, &mut Random::new(SEED));
    let write = |name: &str, numbers: &[u32], to| {
        let frames = numbers.iter().map(|&number| frame::from_client(Segment::Ack, client_end(number), to));
        pcap::write(&path(name), frames).context("cannot write the frames")
    };
    write("replay.pcap", &numbers[..FLOWS as usize], PORT_MAC)?;
    write("open.pcap", &numbers, SECOND_MAC)?;
    let capacity = entries + entries / 8;
    let tables = u64::from(capacity) * BYTES_PER_CONNECTION + TABLE_OVERHEAD;
    let memory = Memory::get(MBUFS, tables, common.no_huge)?;
    let setup = director::Setup {
        cpus: &cpus,
        mbufs: MBUFS,
        descriptors: DESCRIPTORS,
        capacity,
        device: &format!("net_pcap0,rx_pcap={},infinite_rx=1", path("replay.pcap").display()),
        opener: Some(&format!("net_pcap1,rx_pcap={}", path("open.pcap").display())),
        directory: directory.path(),
        eal: &memory.eal_arguments(),
        services: &configuration(*services),
    };
    let director = Director::start(interrupt, &binaries, &setup)?;
    let mut bench =
        Bench { interrupt, cpus, director, ctl: binaries.join("directorctl"), disturbances: Vec::new() };
    // What is started from now on leaves the worker's CPU alone.
    pin(cpus.control)?;
    let all_open = || {
        let active = bench.director.status()?.0.connections.active;
        Ok((active >= u64::from(*entries)).then_some(()))
    };
    if interrupt.wait(OPENING, all_open)?.is_none() {
        bail!(bench.director.failed(&format!("does not hold {entries} connections")));
    }
    let mut samples = LISTINGS.map(|_| Vec::new());
    for round in 1..=*rounds {
        for ((name, option), samples) in LISTINGS.iter().zip(&mut samples) {
            let sample = bench.list(option)?;
            let Sample { seconds, before, meanwhile, .. } = sample;
            eprintln!(
                "round {round} of {rounds}: {name} in {seconds:.2} s; {:.2} M packets/s before, {:.2} meanwhile",
                before / 1e6,
                meanwhile / 1e6
            );
            samples.push(sample);
        }
    }
    let Bench { director, disturbances, .. } = bench;
    if !disturbances.is_empty() && !common.noisy {
        bail!(
            "no report, for the CPUs were not the benchmark's alone: {}. Stop what else runs, or have it \
             reported all the same with --noisy",
            disturbances.join("; ")
        );
    }
    director.terminate()?;
    let expected = [1 + 4 + u64::from(*services) * 11, u64::from(*entries)];
    let mut listings = Vec::new();
    for (((name, _), samples), expected) in LISTINGS.iter().zip(&samples).zip(expected) {
        listings.push(outcome(name, samples, expected)?);
    }
    let report = Report {
        bench: "listing",
        connections: *entries,
        services: *services,
        rounds: *rounds,
        listings,
        circumstances: Circumstances {
            noisy: !disturbances.is_empty(),
            disturbances,
            cpu: machine::cpu(),
            cpu_flags: machine::cpu_flags(),
            kernel: machine::kernel(),
            cpus,
            memory: memory.describe(),
            build: machine::director_build(),
        },
    };
    rendered(&report, common.json)
}

/// The service whose connections are open, and as many as are to be listed.
fn configuration(services: u32) -> String {
    use fmt::Write;
    let mut text =
        format!("\n[[service]]\nprotocol = \"tcp\"\naddress = \"{SERVICE}\"\nscheduler = \"rr\"\n");
    for (address, _) in network::servers() {
        let _ = writeln!(text, "[[service.server]]\naddress = \"{address}:{SERVER_PORT}\"");
    }
    for number in 0..services {
        let [_, high, middle, low] = number.to_be_bytes();
        let _ = writeln!(
            text,
            "[[service]]\nprotocol = \"tcp\"\naddress = \"10.{high}.{middle}.{low}:80\"\nscheduler = \"rr\""
        );
        for server in 1..=10 {
            let _ = writeln!(text, "[[service.server]]\naddress = \"172.16.{}.{server}:80\"", number % 250);
        }
    }
    text
}

impl Bench<'_> {
    /// Counts packets for a time, and then while ipvsadm lists.
    fn list(&mut self, option: &str) -> Result<Sample> {
        let own = [self.director.id()];
        let start = Moment::now(self.cpus, &own)?;
        let from = self.packets()?;
        self.interrupt.sleep(BEFORE)?;
        let before = rate(from, self.packets()?);
        let window = start.until(&Moment::now(self.cpus, &own)?);
        let ran_before = window.forwarding;
        self.disturbances.extend(window.disturbance(FORWARDING));

        let resident = self.forget_peak()?;
        let start = Moment::now(self.cpus, &own)?;
        let mut command = Command::new(&self.ctl);
        command.arg("--directory").arg(self.director.sockets()).args(["exec", "--", "ipvsadm", option]);
        let mut tool = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let mut text = tool.stdout.take().context("no output")?;
        let first = self.packets()?;
        let began = Instant::now();
        let (mut last, mut worst) = (first, f64::INFINITY);
        let mut buffer = vec![0; 1 << 16];
        let mut lines = 0;
        loop {
            let length = text.read(&mut buffer)?;
            if length == 0 {
                break;
            }
            lines += buffer[..length].iter().filter(|&&byte| byte == b'\n').count() as u64;
            if last.1.elapsed() >= STRETCH {
                let now = self.packets()?;
                worst = worst.min(rate(last, now));
                last = now;
            }
        }
        let status = tool.wait()?;
        let seconds = began.elapsed().as_secs_f64();
        let meanwhile = rate(first, self.packets()?);
        let ran = start.until(&Moment::now(self.cpus, &own)?).forwarding;
        if ran < RAN {
            self.disturbances.push(format!("the worker ran for {:.0} % of a listing", ran * 100.0));
        }
        if !status.success() {
            bail!("ipvsadm {option}: {status}");
        }
        let grown = self.memory("VmHWM")? - resident;
        Ok(Sample { seconds, lines, before, meanwhile, worst: worst.min(meanwhile), ran_before, ran, grown })
    }

    /// The packets from clients since the start, and when that was.
    fn packets(&self) -> Result<(u64, Instant)> {
        let asked = Instant::now();
        let mut stream = UnixStream::connect(self.director.sockets().join(director_api::SOCKET))?;
        let request = serde_json::to_string(&Request::Proc { file: ProcFile::IpVsStats })?;
        stream.write_all(format!("{request}\n").as_bytes())?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        let at = asked + asked.elapsed() / 2;
        let count = text.lines().nth(2).and_then(|line| line.split_whitespace().nth(1));
        let count = count.and_then(|count| u64::from_str_radix(count, 16).ok());
        Ok((count.with_context(|| format!("no count of packets in {text:?}"))?, at))
    }

    /// What the director has in memory now, in KiB; the most is counted from here on.
    fn forget_peak(&self) -> Result<f64> {
        fs::write(format!("/proc/{}/clear_refs", self.director.id()), "5")?;
        self.memory("VmRSS")
    }

    fn memory(&self, of: &str) -> Result<f64> {
        let text = fs::read_to_string(format!("/proc/{}/status", self.director.id()))?;
        let line = text.lines().find_map(|line| line.strip_prefix(of)?.strip_prefix(':'));
        let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
        number.with_context(|| format!("no {of} of the director"))
    }
}

fn rate((before, from): (u64, Instant), (after, to): (u64, Instant)) -> f64 {
    after.saturating_sub(before) as f64 / to.duration_since(from).as_secs_f64()
}

fn outcome(lists: &'static str, samples: &[Sample], expected: u64) -> Result<Outcome> {
    let nothing = "nothing was measured";
    let spread = |of: &dyn Fn(&Sample) -> f64| Spread::of(samples.iter().map(of)).context(nothing);
    let lines = samples.iter().map(|sample| sample.lines).min().context(nothing)?;
    if lines < expected {
        bail!("{lines} lines of {lists} were listed, not {expected} and a heading");
    }
    Ok(Outcome {
        lists,
        lines,
        seconds: spread(&|sample| sample.seconds)?.rounded(3),
        before: spread(&|sample| sample.before)?.rounded(0),
        meanwhile: spread(&|sample| sample.meanwhile)?.rounded(0),
        ratio: spread(&|sample| sample.meanwhile / sample.before)?.rounded(4),
        cpu_ratio: spread(&|sample| sample.meanwhile / sample.ran / (sample.before / sample.ran_before))?
            .rounded(4),
        worst_ratio: spread(&|sample| sample.worst / sample.before)?.rounded(4),
        grown_kib: spread(&|sample| sample.grown)?.rounded(0),
    })
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.circumstances.warn(f)?;
        let Self { connections, services, rounds, .. } = self;
        writeln!(
            f,
            "listing: {connections} connections, {services} services of ten servers, {rounds} rounds"
        )?;
        writeln!(f, "{:<44}{:>10}{:>10}{:>10}", "", "median", "min", "max")?;
        for listing in &self.listings {
            writeln!(f, "{} ({} lines)", listing.lists, listing.lines)?;
            let millions = |spread: Spread| spread.map(|rate| rate / 1e6);
            for (text, spread, digits) in [
                ("listed in, s", listing.seconds, 2),
                ("M packets/s before", millions(listing.before), 2),
                ("M packets/s meanwhile", millions(listing.meanwhile), 2),
                ("meanwhile to before", listing.ratio, 3),
                ("the same by the worker's CPU time", listing.cpu_ratio, 3),
                ("worst tenth of a second to before", listing.worst_ratio, 3),
                ("the director grew by, KiB", listing.grown_kib, 0),
            ] {
                let Spread { median, min, max } = spread;
                writeln!(f, "  {text:<42}{median:>10.digits$}{min:>10.digits$}{max:>10.digits$}")?;
            }
        }
        self.circumstances.tell(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ratio_is_of_each_round() {
        let sample = |before: f64, meanwhile: f64| Sample {
            seconds: 1.0,
            lines: 11,
            before,
            meanwhile,
            worst: meanwhile / 2.0,
            ran_before: 1.0,
            ran: 0.5,
            grown: 4.0,
        };
        let samples = [sample(10e6, 10e6), sample(20e6, 19e6), sample(40e6, 39e6)];
        let outcome = outcome("services", &samples, 11).unwrap();
        let Spread { median, min, max } = outcome.ratio;
        assert_eq!((median, min, max), (0.975, 0.95, 1.0));
        assert_eq!((outcome.worst_ratio.min, outcome.cpu_ratio.median), (0.475, 1.95));
        assert!(super::outcome("services", &samples, 12).is_err());
    }
}
