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
//!
//! A datagram says nothing of the kind: the replay opens the connections of UDP, as soon as there is a service. Their
//! records are in another order all the same. Before, as many connections of TCP are opened, and broken off in a random
//! order; in that order their records become free, and are used again.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::Map;

use crate::bare::replay::Replay;
use crate::contest::{self, Contest, DESCRIPTORS, Report, SEED, Sample, Seen, Subject};
use crate::cpus::Cpus;
use crate::director::{self, Director};
use crate::flows::{self, Random};
use crate::interrupt::Interrupt;
use crate::kind::{Kind, Protocol};
use crate::memory::Memory;
use crate::network::{OPENER_MAC, PORT_MAC, client_end};
use crate::pcap;
use crate::template::{Segment, Template};
use crate::testpmd::{self, Testpmd};

/// The mbufs of a pool besides those that hold the file: bursts, caches of the lcores.
const LOOSE_MBUFS: u32 = 8192;

/// How long it may take to open all connections.
const OPENING: Duration = Duration::from_secs(180);

/// The modes of testpmd that the director is measured against, the one that does least last.
const RIVALS: [&str; 3] = ["5tswap", "macswap", "csum"];

/// The rival that is no mode of testpmd's: the least that any NAT must do. It knows TCP over IPv4 alone.
const BARE: &str = "bare";

/// What is asked for.
#[derive(Args, Clone, Debug)]
pub struct Options {
    #[command(flatten)]
    contest: contest::Options,
    /// Testpmd's forwarding modes to compare with, and `bare`: the least that any NAT must do to TCP over IPv4
    #[arg(long, value_delimiter = ',', value_name = "MODE", default_values = RIVALS)]
    rivals: Vec<String>,
    #[command(flatten)]
    kind: Kind,
}

/// A run of the benchmark.
struct Bench<'a> {
    contest: Contest<'a>,
    kind: Kind,
    memory: Memory,
    mbufs: u32,
    directory: tempfile::TempDir,
}

/// Runs the benchmark.
///
/// # Errors
/// A program does not run, the director does not forward, or the CPUs were used by others and that was not
/// to be overlooked.
pub fn run(options: &Options, interrupt: &Interrupt) -> Result<Report> {
    if options.kind != Kind::TCP && options.rivals.iter().any(|rival| rival == BARE) {
        bail!("--rivals bare: it knows TCP over IPv4 alone");
    }
    let contest = Contest::new(&options.contest, interrupt)?;
    let mbufs = options.contest.flows + LOOSE_MBUFS;
    let memory = Memory::get(mbufs, contest.tables(options.kind), options.contest.common.no_huge)?;
    let directory = tempfile::Builder::new().prefix("director-bench-").tempdir()?;
    let kind = options.kind;
    let bench = Bench { contest, kind, memory, mbufs, directory };
    bench.write_files()?;
    let mut seen = Seen::default();
    let samples = bench.contest.in_turn(&options.rivals, |rival| match rival {
        None => bench.director(&mut seen),
        Some(BARE) => bench.bare(),
        Some(mode) => bench.rival(mode),
    })?;
    let subject = Subject {
        bench: "forward",
        frames: kind.packets().to_owned(),
        frame_bytes: kind.length(),
        figure: |sample| sample.rate,
        unit: "M packets/s",
        notes: Vec::new(),
        more: Map::from_iter([
            ("protocol".to_owned(), serde_json::to_value(kind.protocol)?),
            ("family".to_owned(), serde_json::to_value(kind.family)?),
        ]),
    };
    Report::new(subject, &bench.contest, bench.memory.describe(), &samples, seen)
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
        let mut clients = flows::draw(self.contest.options.flows, &mut random);
        let frames = |kind, segment, to, clients: &[u32]| -> Vec<_> {
            let template = Template::to_service(kind, segment).sent_to(to);
            clients.iter().map(|number| template.frame(client_end(*number))).collect()
        };
        let replayed = frames(self.kind, Segment::ACK, PORT_MAC, &clients);
        pcap::write(&self.path("replay.pcap"), replayed).context("cannot write the frames")?;
        random.shuffle(&mut clients);
        let mut opening = frames(self.opened(), Segment::SYN, OPENER_MAC, &clients);
        if self.opened() != self.kind {
            random.shuffle(&mut clients);
            // A RST in SYN_RECV changes nothing.
            for segment in [Segment::ACK, Segment::RST] {
                opening.extend(frames(self.opened(), segment, OPENER_MAC, &clients));
            }
        }
        pcap::write(&self.path("open.pcap"), opening).context("cannot write the frames")
    }

    /// The connections that the second testpmd opens.
    fn opened(&self) -> Kind {
        Kind { protocol: Protocol::Tcp, ..self.kind }
    }

    fn rival(&self, mode: &str) -> Result<Sample> {
        let setup = self.testpmd_setup(self.mbufs);
        let mut testpmd = Testpmd::forward(
            self.contest.interrupt,
            &setup,
            &self.memory.eal_arguments(),
            &self.device(),
            mode,
        )?;
        let own = [testpmd.id()];
        let sample = self.contest.sample(&own, 1.0, || {
            let (stats, at) = testpmd.stats(self.contest.interrupt)?;
            Ok((stats.sent, at))
        })?;
        testpmd.quit()?;
        Ok(sample)
    }

    fn bare(&self) -> Result<Sample> {
        let Cpus { control, worker } = self.contest.cpus;
        let mut eal =
            vec!["--lcores".to_owned(), format!("0@{control},1@{worker}"), "--no-telemetry".to_owned()];
        eal.push(format!("--file-prefix=bench-bare-{}", std::process::id()));
        eal.extend(self.memory.eal_arguments());
        let replay = Replay {
            device: self.device(),
            flows: self.contest.options.flows,
            capacity: self.contest.capacity,
            mbufs: self.mbufs,
            eal,
        };
        let mut running = replay.start(self.contest.interrupt, self.directory.path())?;
        let own = [running.id()];
        let sample = self.contest.sample(&own, 1.0, || running.sent(self.contest.interrupt))?;
        running.quit()?;
        Ok(sample)
    }

    fn testpmd_setup(&self, mbufs: u32) -> testpmd::Setup<'_> {
        testpmd::Setup {
            cpus: &self.contest.cpus,
            mbufs,
            descriptors: DESCRIPTORS,
            directory: self.directory.path(),
        }
    }

    fn director(&self, seen: &mut Seen) -> Result<Sample> {
        let socket = self.path("opener");
        let setup = director::Setup {
            cpus: &self.contest.cpus,
            mbufs: self.mbufs,
            descriptors: DESCRIPTORS,
            capacity: self.contest.capacity,
            kind: self.kind,
            device: &self.device(),
            opener: Some(&testpmd::opener_device(&socket)),
            directory: self.directory.path(),
            eal: &self.memory.eal_arguments(),
            services: "",
        };
        let director = Director::start(self.contest.interrupt, &self.contest.binaries, &setup)?;
        let opener = self.open_connections(&director, &socket)?;
        let own = [director.id(), opener.id()];
        let before = director.status()?.0;
        let mut last = None;
        let sample = self.contest.sample(&own, 1.0, || {
            let (status, at) = director.status()?;
            let sent = contest::port(&status)?.tx_packets;
            last = Some(status);
            Ok((sent, at))
        })?;
        if let Some(after) = last {
            *seen = self.contest.check(&director, &before, &after)?;
        }
        director.terminate()?;
        opener.quit()?;
        Ok(sample)
    }

    /// Opens every connection, in an order of its own; `sloppy_tcp` is off for that time alone.
    fn open_connections(&self, director: &Director, socket: &Path) -> Result<Testpmd> {
        director.set("sloppy_tcp", 0)?;
        director.add_service(self.opened())?;
        let early = contest::active(&director.status()?.0);
        if early > 0 {
            bail!(director.failed(&format!("opened {early} connections by the replay, in its order")));
        }
        let setup = self.testpmd_setup(LOOSE_MBUFS);
        let mut opener = Testpmd::feed(self.contest.interrupt, &setup, &self.path("open.pcap"), socket)?;
        let flows = u64::from(self.contest.options.flows);
        self.wait_for(director, flows)?;
        if self.opened() != self.kind {
            self.wait_for(director, 0)?;
            director.add_service(self.kind)?;
            self.wait_for(director, flows)?;
        }
        opener.rest(self.contest.interrupt)?;
        director.set("sloppy_tcp", 1)?;
        Ok(opener)
    }

    /// Waits until the director holds so many connections.
    fn wait_for(&self, director: &Director, connections: u64) -> Result<()> {
        let mut active = 0;
        let reached = self.contest.interrupt.wait(OPENING, || {
            active = contest::active(&director.status()?.0);
            Ok((active == connections).then_some(()))
        })?;
        reached.with_context(|| {
            let seconds = OPENING.as_secs();
            director.failed(&format!("holds {active} connections, not {connections}, after {seconds} s"))
        })
    }
}
