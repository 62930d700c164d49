//! What a worker loses while ipvsadm lists much: packets a second of established connections meanwhile, and before and
//! after.
//!
//! The frames come as in `forward`: from a file that `net_pcap` replays for ever. Another `net_pcap` port reads a file
//! once, each frame of which opens a connection that then rests, so that there are as many to list as are wanted.
//! The worker has its CPU for itself, and nobody asks who uses the other one: the control core, ipvsadm and this program
//! share it.

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

use crate::common::{Circumstances, Common, TRIES, pin, rendered};
use crate::cpus::{Cpus, Moment, Window};
use crate::director::{self, Director};
use crate::flows::{self, Random};
use crate::interrupt::Interrupt;
use crate::kind::Kind;
use crate::machine;
use crate::memory::Memory;
use crate::network::{self, Mac, PORT_MAC, SERVER_PORT, SERVICE, client_end};
use crate::pcap;
use crate::spread::Spread;
use crate::template::{Segment, Template};

/// The seed of everything random.
const SEED: u64 = 0x1157;
/// Connections whose packets are counted.
const FLOWS: u32 = 4096;
const DESCRIPTORS: u16 = 1024;
const MBUFS: u32 = FLOWS + 8192;
/// What the tables take besides the connections.
const TABLE_OVERHEAD: u64 = 64 << 20;
/// How long it may take to open all connections.
const OPENING: Duration = Duration::from_secs(120);
/// How long packets are counted before each listing, and after.
const AROUND: Duration = Duration::from_secs(1);
/// The stretches of a listing in which packets are counted, to find the worst.
const STRETCH: Duration = Duration::from_millis(100);

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
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
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
    /// Packets a second, before and after, and meanwhile; and in the worst stretch.
    around: f64,
    meanwhile: f64,
    worst: f64,
    /// How much of the time the worker had its CPU.
    ran_around: f64,
    ran: f64,
    /// By how much the director grew at most, in KiB.
    grown: f64,
}

/// What came of a time in which nothing was listed.
struct Counted {
    rate: f64,
    window: Window,
}

/// What came of one kind of listing.
#[derive(Debug, Serialize)]
struct Outcome {
    lists: &'static str,
    lines: u64,
    seconds: Spread,
    /// Packets a second.
    around: Spread,
    meanwhile: Spread,
    /// Round by round.
    ratio: Spread,
    /// The same of packets a second of the worker's CPU time: what the listing itself costs it, whoever else ran there.
    cpu_ratio: Spread,
    /// Of the worst tenth of a second to the time before and after.
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
    noisy: bool,
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
        let ack = Template::to_service(Kind::TCP, Segment::ACK).sent_to(to);
        let frames = numbers.iter().map(|number| ack.frame(client_end(*number)));
        pcap::write(&path(name), frames).context("cannot write the frames")
    };
    write("replay.pcap", &numbers[..FLOWS as usize], PORT_MAC)?;
    write("open.pcap", &numbers, SECOND_MAC)?;
    let capacity = entries + entries / 8;
    let tables = u64::from(capacity) * Kind::TCP.bytes_per_connection() + TABLE_OVERHEAD;
    let memory = Memory::get(MBUFS, tables, common.no_huge)?;
    let setup = director::Setup {
        cpus: &cpus,
        mbufs: MBUFS,
        descriptors: DESCRIPTORS,
        capacity,
        kind: Kind::TCP,
        device: &format!("net_pcap0,rx_pcap={},infinite_rx=1", path("replay.pcap").display()),
        opener: Some(&format!("net_pcap1,rx_pcap={}", path("open.pcap").display())),
        directory: directory.path(),
        eal: &memory.eal_arguments(),
        services: &configuration(*services),
    };
    let director = Director::start(interrupt, &binaries, &setup)?;
    let ctl = binaries.join("directorctl");
    let mut bench = Bench { interrupt, cpus, director, ctl, noisy: common.noisy, disturbances: Vec::new() };
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
            let Sample { seconds, around, meanwhile, .. } = sample;
            eprintln!(
                "round {round} of {rounds}: {name} in {seconds:.2} s; {:.2} M packets/s before and after, {:.2} meanwhile",
                around / 1e6,
                meanwhile / 1e6
            );
            samples.push(sample);
        }
    }
    let Bench { director, disturbances, .. } = bench;
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
    /// Counts packets for a time, while ipvsadm lists, and for a time again; anew where that was disturbed.
    fn list(&mut self, option: &str) -> Result<Sample> {
        let mut reasons = String::new();
        for _ in 0..TRIES {
            let (sample, disturbances) = self.list_once(option)?;
            reasons = disturbances.join("; ");
            if reasons.is_empty() || self.noisy {
                self.disturbances.extend(disturbances);
                return Ok(sample);
            }
            eprintln!("measured again: {reasons}");
        }
        bail!(
            "no report, for CPU {} was not the worker's alone, {TRIES} times in a row: {reasons}. Stop what else runs, \
             or have it reported all the same with --noisy",
            self.cpus.worker
        )
    }

    fn list_once(&self, option: &str) -> Result<(Sample, Vec<String>)> {
        let before = self.count()?;
        let own = [self.director.id()];
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
        let window = start.until(&Moment::now(self.cpus, &own)?);
        if !status.success() {
            bail!("ipvsadm {option}: {status}");
        }
        let grown = self.memory("VmHWM")? - resident;
        let after = self.count()?;
        let sample = Sample {
            seconds,
            lines,
            around: f64::midpoint(before.rate, after.rate),
            meanwhile,
            worst: worst.min(meanwhile),
            ran_around: f64::midpoint(before.window.forwarding, after.window.forwarding),
            ran: window.forwarding,
            grown,
        };
        let windows = [before.window, window, after.window];
        Ok((sample, windows.iter().filter_map(Window::disturbance_of_worker).collect()))
    }

    /// Counts packets while nothing is listed.
    fn count(&self) -> Result<Counted> {
        let own = [self.director.id()];
        let start = Moment::now(self.cpus, &own)?;
        let from = self.packets()?;
        self.interrupt.sleep(AROUND)?;
        let rate = rate(from, self.packets()?);
        Ok(Counted { rate, window: start.until(&Moment::now(self.cpus, &own)?) })
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
        around: spread(&|sample| sample.around)?.rounded(0),
        meanwhile: spread(&|sample| sample.meanwhile)?.rounded(0),
        ratio: spread(&|sample| sample.meanwhile / sample.around)?.rounded(4),
        cpu_ratio: spread(&|sample| sample.meanwhile / sample.ran / (sample.around / sample.ran_around))?
            .rounded(4),
        worst_ratio: spread(&|sample| sample.worst / sample.around)?.rounded(4),
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
                ("M packets/s before and after", millions(listing.around), 2),
                ("M packets/s meanwhile", millions(listing.meanwhile), 2),
                ("meanwhile to that", listing.ratio, 3),
                ("the same by the worker's CPU time", listing.cpu_ratio, 3),
                ("worst tenth of a second to it", listing.worst_ratio, 3),
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
        let sample = |around: f64, meanwhile: f64| Sample {
            seconds: 1.0,
            lines: 11,
            around,
            meanwhile,
            worst: meanwhile / 2.0,
            ran_around: 1.0,
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
