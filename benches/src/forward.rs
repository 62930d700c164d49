//! How many packets a second one worker translates, of connections that exist already.
//!
//! The frames come from a file that `net_pcap` replays from memory for ever, and what is sent is dropped,
//! so that nothing but the program under test takes time. The director and `dpdk-testpmd` read the same
//! file, on the same CPU, one after the other.
//!
//! A table fills its records in the order in which connections are opened. If the replay met them in that
//! order again it would walk through memory from one end to the other, which no real traffic does and
//! every cache rewards. So the connections are opened in another random order than that of the replay: by
//! SYNs that a second `dpdk-testpmd` sends over `net_memif`. The director is configured and measured with
//! `sloppy_tcp` on, by which any replayed ACK would open its connection first. So the file has no service,
//! and `sloppy_tcp` is off (`directorctl set`) from before the service is added (`ipvsadm`) until all
//! connections are open: meanwhile a replayed ACK without one belongs to nobody and is dropped.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;
use director_api::Status;

use crate::cpus::{Cpus, Moment};
use crate::director::{self, Director};
use crate::flows::{self, Random};
use crate::frame::{self, Segment};
use crate::interrupt::Interrupt;
use crate::memory::Memory;
use crate::network::{OPENER_MAC, PORT_MAC, client_end};
use crate::pcap;
use crate::testpmd::{self, Testpmd};

mod report;

pub use report::Report;

/// The seed of everything random.
const SEED: u64 = 0x1dea;

/// Descriptors of each queue, of the director and of its rivals.
const DESCRIPTORS: u16 = 1024;

/// The mbufs of a pool besides those that hold the file: bursts, caches of the lcores.
const LOOSE_MBUFS: u32 = 8192;

/// The connections that the director has room for, at least. Much more room than connections spreads them over more
/// pages, which costs time on a machine whose pages are small; `--capacity` shows it.
const LEAST_CAPACITY: u32 = 65_536;

/// Bytes of table a connection is reckoned at when memory is reserved.
const BYTES_PER_CONNECTION: u64 = 96;
/// What the tables take besides.
const TABLE_OVERHEAD: u64 = 64 << 20;

/// How long everything runs before it is measured.
const WARM_UP: Duration = Duration::from_secs(1);
/// How long it may take to open all connections.
const OPENING: Duration = Duration::from_secs(180);
/// How often a measurement is repeated when other processes disturbed it.
const TRIES: usize = 5;

/// The modes of testpmd that the director is measured against, the one that does least last.
const RIVALS: [&str; 3] = ["5tswap", "macswap", "csum"];

/// What is asked for.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Connections; the file holds a frame of each
    #[arg(long, default_value_t = 4096, value_parser = clap::value_parser!(u32).range(1..=i64::from(flows::MOST)))]
    flows: u32,
    /// How often each program is measured
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pairs: u32,
    /// How long each measurement takes
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Print JSON, and nothing else, on standard output
    #[arg(long)]
    json: bool,
    /// Report even if other processes used the CPUs meanwhile, marked as noisy
    #[arg(long)]
    noisy: bool,
    /// Use no huge pages
    #[arg(long)]
    no_huge: bool,
    /// The CPUs to use: the control core's and the worker's
    #[arg(long, value_name = "CONTROL,WORKER", value_parser = cpus)]
    cpus: Option<Cpus>,
    /// Testpmd's forwarding modes to compare with
    #[arg(long, value_delimiter = ',', value_name = "MODE", default_values = RIVALS)]
    rivals: Vec<String>,
    /// Connections that the director has room for [default: an eighth more than the flows, at least 65,536]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=i64::from(flows::MOST)))]
    capacity: Option<u32>,
    /// Where `director` and `directorctl` are [default: where this program is]
    #[arg(long, value_name = "DIRECTORY")]
    binaries: Option<PathBuf>,
}

fn cpus(text: &str) -> Result<Cpus, String> {
    let (control, worker) = text.split_once(',').ok_or("two CPUs, for example 0,1")?;
    let cpu = |text: &str| text.parse::<u32>().map_err(|error| format!("{text}: {error}"));
    let cpus = Cpus { control: cpu(control)?, worker: cpu(worker)? };
    if cpus.control == cpus.worker { Err("two different CPUs".to_owned()) } else { Ok(cpus) }
}

/// One measurement.
#[derive(Clone, Debug)]
struct Sample {
    /// Packets a second.
    rate: f64,
    /// How much of the time the thread that forwards had its CPU.
    share: f64,
    /// Why it cannot be trusted, where it was to be reported all the same.
    disturbance: Option<String>,
}

/// What the director said of itself at the end of its measurements.
#[derive(Clone, Debug, Default)]
struct Seen {
    active: u64,
    capacity: u64,
    bytes_per_connection: f64,
    page_size: u64,
    /// Frames dropped while it was measured.
    drops: Vec<(String, u64)>,
}

/// A run of the benchmark.
struct Bench<'a> {
    options: &'a Options,
    interrupt: &'a Interrupt,
    cpus: Cpus,
    memory: Memory,
    mbufs: u32,
    capacity: u32,
    binaries: PathBuf,
    directory: tempfile::TempDir,
}

/// Runs the benchmark.
///
/// # Errors
/// A program does not run, the director does not forward, or the CPUs were used by others and that was not
/// to be overlooked.
pub fn run(options: &Options, interrupt: &Interrupt) -> Result<Report> {
    let cpus = options.cpus.map_or_else(Cpus::choose, Ok)?;
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
    let mbufs = options.flows + LOOSE_MBUFS;
    let capacity = options.capacity.unwrap_or(LEAST_CAPACITY.max(options.flows + options.flows / 8));
    let tables = u64::from(capacity) * BYTES_PER_CONNECTION + TABLE_OVERHEAD;
    let directory = tempfile::Builder::new().prefix("director-bench-").tempdir()?;
    let bench = Bench {
        options,
        interrupt,
        cpus,
        memory: Memory::get(mbufs, tables, options.no_huge)?,
        mbufs,
        capacity,
        binaries,
        directory,
    };
    bench.write_files()?;
    bench.measure()
}

impl Bench<'_> {
    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The device that all programs read from and write to.
    fn device(&self) -> String {
        format!("net_pcap0,rx_pcap={},infinite_rx=1", self.path("replay.pcap").display())
    }

    fn write_files(&self) -> Result<()> {
        let mut random = Random::new(SEED);
        let mut clients = flows::draw(self.options.flows, &mut random);
        let frames = |segment, to| move |number: &u32| frame::from_client(segment, client_end(*number), to);
        pcap::write(&self.path("replay.pcap"), clients.iter().map(frames(Segment::Ack, PORT_MAC)))
            .context("cannot write the frames")?;
        random.shuffle(&mut clients);
        pcap::write(&self.path("open.pcap"), clients.iter().map(frames(Segment::Syn, OPENER_MAC)))
            .context("cannot write the frames")
    }

    /// The director and its rivals, in turn; every second time the other way round.
    fn measure(&self) -> Result<Report> {
        let mut seen = Seen::default();
        let mut director = Vec::new();
        let mut rivals = vec![Vec::new(); self.options.rivals.len()];
        for pair in 0..self.options.pairs {
            let mut order: Vec<Option<usize>> =
                std::iter::once(None).chain((0..rivals.len()).map(Some)).collect();
            if pair % 2 == 1 {
                order.reverse();
            }
            for turn in order {
                let (name, sample) = match turn {
                    None => ("director", self.director(&mut seen)?),
                    Some(at) => (self.options.rivals[at].as_str(), self.rival(&self.options.rivals[at])?),
                };
                let (rate, running) = (sample.rate / 1e6, sample.rate / sample.share / 1e6);
                let (pair, pairs) = (pair + 1, self.options.pairs);
                eprintln!(
                    "pair {pair} of {pairs}: {name:<10} {rate:6.2} M packets/s, {running:6.2} M a second of CPU time"
                );
                match turn {
                    None => director.push(sample),
                    Some(at) => rivals[at].push(sample),
                }
            }
        }
        let memory = self.memory.describe();
        Report::new(self.options, self.cpus, memory, &director, &rivals, seen)
    }

    fn rival(&self, mode: &str) -> Result<Sample> {
        let setup = self.testpmd_setup(self.mbufs);
        let mut testpmd = Testpmd::forward(self.interrupt, &setup, &self.memory, &self.device(), mode)?;
        let own = [testpmd.id()];
        let sample = self.sample(&own, || {
            let (stats, at) = testpmd.stats(self.interrupt)?;
            Ok((stats.sent, at))
        })?;
        testpmd.quit()?;
        Ok(sample)
    }

    fn testpmd_setup(&self, mbufs: u32) -> testpmd::Setup<'_> {
        testpmd::Setup { cpus: &self.cpus, mbufs, descriptors: DESCRIPTORS, directory: self.directory.path() }
    }

    fn director(&self, seen: &mut Seen) -> Result<Sample> {
        let socket = self.path("opener");
        let setup = director::Setup {
            cpus: &self.cpus,
            mbufs: self.mbufs,
            descriptors: DESCRIPTORS,
            capacity: self.capacity,
            device: &self.device(),
            opener: &testpmd::opener_device(&socket),
            directory: self.directory.path(),
        };
        let director = Director::start(self.interrupt, &self.binaries, &setup, &self.memory)?;
        let opener = self.open_connections(&director, &socket)?;
        let own = [director.id(), opener.id()];
        let before = director.status()?.0;
        let mut last = None;
        let sample = self.sample(&own, || {
            let (status, at) = director.status()?;
            let sent = port(&status)?.tx_packets;
            last = Some(status);
            Ok((sent, at))
        })?;
        if let Some(after) = last {
            *seen = self.check(&director, &before, &after)?;
        }
        director.terminate()?;
        opener.quit()?;
        Ok(sample)
    }

    /// Opens every connection, in an order of its own; `sloppy_tcp` is off for that time alone.
    fn open_connections(&self, director: &Director, socket: &Path) -> Result<Testpmd> {
        director.set("sloppy_tcp", 0)?;
        director.add_service()?;
        let early = director.status()?.0.connections.active;
        if early > 0 {
            bail!(director.failed(&format!("opened {early} connections by the replay, in its order")));
        }
        let setup = self.testpmd_setup(LOOSE_MBUFS);
        let mut opener = Testpmd::feed(self.interrupt, &setup, &self.path("open.pcap"), socket)?;
        let flows = u64::from(self.options.flows);
        let open = self.interrupt.wait(OPENING, || {
            let active = director.status()?.0.connections.active;
            Ok((active >= flows).then_some(active))
        })?;
        match open {
            None => {
                let (status, _) = director.status()?;
                let active = status.connections.active;
                bail!(director.failed(&format!(
                    "holds {active} connections, not {flows}, after {} s",
                    OPENING.as_secs()
                )))
            }
            Some(active) if active > flows => {
                bail!(director.failed(&format!("holds {active} connections where {flows} were opened")))
            }
            Some(_) => opener.rest(self.interrupt)?,
        }
        director.set("sloppy_tcp", 1)?;
        Ok(opener)
    }

    /// The rate at which a counter grows; after a time to warm up, over the time that was asked for, and
    /// again where that was disturbed.
    fn sample(&self, own: &[u32], mut counter: impl FnMut() -> Result<(u64, Instant)>) -> Result<Sample> {
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
            disturbance = window.disturbance();
            match &disturbance {
                Some(reason) if !self.options.noisy => eprintln!("measured again: {reason}"),
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
    fn check(&self, director: &Director, before: &Status, after: &Status) -> Result<Seen> {
        let flows = u64::from(self.options.flows);
        if !after.forwarding {
            bail!(director.failed(&format!("does not forward: {}", after.problems.join("; "))));
        }
        if after.connections.active != flows {
            let active = after.connections.active;
            bail!(
                director.failed(&format!("holds {active} connections, not {flows}, after it was measured"))
            );
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
        Ok(Seen {
            active: connections.active,
            capacity: connections.capacity,
            bytes_per_connection: connections.bytes_per_connection,
            page_size: connections.page_size,
            drops,
        })
    }
}

/// The port that is measured.
fn port(status: &Status) -> Result<&director_api::Port> {
    let port = status.ports.iter().find(|port| port.name == director::PORT);
    port.with_context(|| format!("directorctl status shows no port {}", director::PORT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_different_cpus() {
        assert_eq!(cpus("3,1"), Ok(Cpus { control: 3, worker: 1 }));
        for wrong in ["3", "3,", "3,3", "a,b", "-1,2"] {
            assert!(cpus(wrong).is_err(), "{wrong}");
        }
    }
}
