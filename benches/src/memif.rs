//! How many packets a second one worker translates that come from another process and go back to it, which looks at
//! each: over DPDK's `net_memif`, a device of memory that two processes share.
//!
//! This process is the generator. It sends frames of connections in random order, has each come back, and compares
//! it from end to end with what must come back: MAC addresses, addresses, ports, TTL, both checksums. The director
//! and `dpdk-testpmd` are on the other side in turn, on the same CPU, with the same device. They are the interface's
//! client with `zero-copy`, so that they read and write the frames where these lie, and the generator, its server,
//! does all the copying. It never has more frames out than a ring holds, so that none is lost for want of room.
//!
//! Copying and checking take the generator longer than testpmd takes to forward, so a rate of both together would be
//! the generator's. Therefore the thread that forwards is left only a part of its CPU, in slices much shorter than
//! what the rings can hold: it finds full bursts whenever it runs, and what counts is packets per second of CPU time.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;
use dpdk::{Eal, Lcore, Pool, PoolConfig, Port, PortConfig, Started};
use serde_json::{Map, Value, json};

use self::brake::Brake;
use self::script::{Established, Flow, Mode, Opening};
use self::traffic::{Counts, Exchange, Script, Traffic};
use crate::common::pin;
use crate::contest::{self, Contest, DESCRIPTORS, Report, SEED, Sample, Seen, Subject};
use crate::cpus::Cpus;
use crate::director::{self, Director};
use crate::flows::{self, Random};
use crate::interrupt::Interrupt;
use crate::kind::Kind;
use crate::memory::Memory;
use crate::network::{PORT_MAC, mac_text};
use crate::spread::Spread;
use crate::testpmd::{self, Testpmd};

mod brake;
mod script;
mod traffic;

/// The binary logarithm of the descriptors of a ring of the interface.
const RING_LOG: u32 = 11;
/// The descriptors of a ring.
const RING: usize = 1 << RING_LOG;

/// The mbufs of the program that forwards: two rings, the caches of lcores, bursts.
const MBUFS: u32 = 8192;
/// The generator's.
const OWN_MBUFS: u32 = 4095;

/// How long it may take to open all connections.
const OPENING: Duration = Duration::from_secs(120);
/// How often SYNs are sent again that were not answered.
const ROUNDS: u32 = 5;
/// How long the two sides of the interface take to find each other, or to notice that the other has gone.
const LINK: Duration = Duration::from_secs(10);

/// The generator kept ahead of the other side if it had nothing to do for so much of the time.
const IDLE: f64 = 0.03;

/// What is asked for.
#[derive(Args, Clone, Debug)]
pub struct Options {
    #[command(flatten)]
    contest: contest::Options,
    /// Have servers send every second frame
    #[arg(long)]
    both: bool,
    /// How much of its CPU the thread that forwards is kept from, in percent
    #[arg(long, default_value_t = 60, value_name = "PERCENT", value_parser = clap::value_parser!(u32).range(0..=90))]
    brake: u32,
    /// Testpmd's forwarding modes to compare with
    #[arg(long, value_delimiter = ',', value_name = "MODE", default_values_t = [Mode::FiveTupleSwap, Mode::Io])]
    rivals: Vec<Mode>,
}

/// A run of the benchmark.
struct Bench<'a> {
    contest: Contest<'a>,
    options: &'a Options,
    port: Port<Started>,
    /// Where the generator runs, and what it has while it does not.
    lcore: Lcore,
    idle: Cell<Option<(Traffic, Vec<Flow>)>>,
    /// What it did in each measurement, and beside whom.
    exchanged: RefCell<Vec<(String, Exchanged)>>,
    // These go last, for what stands before is in them.
    eal: Eal,
    memory: Memory,
    directory: tempfile::TempDir,
}

/// What the generator did in a measurement.
#[derive(Clone, Copy, Debug)]
struct Exchanged {
    returned: u64,
    lost: u64,
    /// For how much of the time it had nothing to do but to wait for the other side.
    waited: f64,
}

/// Runs the benchmark.
///
/// # Errors
/// A program does not run, a frame came back wrong, or the CPUs were used by others and that was not to be overlooked.
pub fn run(options: &Options, interrupt: &Interrupt) -> Result<Report> {
    let contest = Contest::new(&options.contest, interrupt)?;
    let memory = Memory::get(MBUFS + OWN_MBUFS, contest.tables(Kind::TCP), options.contest.common.no_huge)?;
    let directory = tempfile::Builder::new().prefix("director-bench-").tempdir()?;
    let cpu = contest.cpus.control;
    let mut arguments = vec!["--lcores".to_owned(), format!("0@{cpu},1@{cpu}"), "--no-telemetry".to_owned()];
    arguments.extend(["lib.eal", "pmd.net.memif"].map(|part| format!("--log-level={part}:error")));
    arguments.push(format!("--file-prefix=bench-{}", std::process::id()));
    arguments.extend(memory.eal_arguments());
    let eal = Eal::start(&arguments)?;
    // EAL keeps this thread on its CPU; what is started from it is to have both.
    contest.cpus.confine()?;
    let lcore = *eal.worker_lcores().first().context("EAL has no lcore for the generator")?;
    let pool = Pool::new(&eal, "generator", &PoolConfig { mbufs: OWN_MBUFS, ..PoolConfig::default() })?;
    let socket = directory.path().join("memif");
    let device =
        format!("net_memif0,role=server,socket={},socket-abstract=no,rsize={RING_LOG}", socket.display());
    let port = eal.attach(&device)?.pop().context("the device has no port")?;
    let (port, mut rx, mut tx) = port.configure(&PortConfig::new(1, &pool))?.start()?;
    let queues = rx.pop().zip(tx.pop()).context("the port has no queues")?;
    let traffic = Traffic::new(queues.0, queues.1, pool, eal.tsc_hz());
    let clients = flows::draw(options.contest.flows, &mut Random::new(SEED));
    let idle = Cell::new(Some((traffic, script::flows(&clients))));
    let exchanged = RefCell::default();
    let bench = Bench { contest, options, port, lcore, idle, exchanged, eal, memory, directory };
    bench.measure()
}

impl Bench<'_> {
    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The device of the program that forwards.
    fn device(&self) -> String {
        let (socket, mac) = (self.path("memif"), mac_text(PORT_MAC));
        format!(
            "net_memif0,role=client,socket={},socket-abstract=no,rsize={RING_LOG},mac={mac},zero-copy=yes",
            socket.display()
        )
    }

    /// EAL's arguments of the program that forwards. Zero-copy wants its memory in one file.
    fn eal_arguments(&self) -> Vec<String> {
        let mut arguments = self.memory.eal_arguments();
        arguments.push("--single-file-segments".to_owned());
        arguments
    }

    fn measure(&self) -> Result<Report> {
        let names: Vec<_> = self.options.rivals.iter().map(Mode::to_string).collect();
        let mut seen = Seen::default();
        let samples = self.contest.in_turn(&names, |rival| match rival {
            None => self.director(&mut seen),
            Some(rival) => {
                let mode = self.options.rivals.iter().find(|mode| mode.to_string() == rival);
                self.rival(*mode.context("an unknown mode")?)
            }
        })?;
        let direction = if self.options.both { " of clients and servers in turn" } else { "" };
        let (notes, more) = self.told()?;
        let subject = Subject {
            bench: "memif",
            frames: format!("{}{direction}", Kind::TCP.packets()),
            frame_bytes: Kind::TCP.length(),
            figure: |sample| sample.rate / sample.share,
            unit: "M packets a second of CPU time",
            notes,
            more,
        };
        Report::new(subject, &self.contest, self.memory.describe(), &samples, seen)
    }

    /// What the generator has to say: in words, and for JSON.
    fn told(&self) -> Result<(Vec<String>, Map<String, Value>)> {
        let mut by_name: BTreeMap<String, Vec<Exchanged>> = BTreeMap::new();
        for (name, exchanged) in self.exchanged.borrow().iter() {
            by_name.entry(name.clone()).or_default().push(*exchanged);
        }
        let Cpus { control, .. } = self.contest.cpus;
        let mut notes = vec![
            format!(
                "The thread that forwards was left {} % of its CPU, so that the generator, which shares CPU {control} \
                 with the control core, kept ahead of it.",
                100 - self.options.brake
            ),
            "Every frame that came back was compared from end to end; none was wrong.".to_owned(),
        ];
        let mut of_generator = Map::new();
        for (name, exchanged) in by_name {
            let sum = |of: fn(&Exchanged) -> u64| exchanged.iter().map(of).sum::<u64>();
            let (returned, lost) = (sum(|one| one.returned), sum(|one| one.lost));
            let waited =
                Spread::of(exchanged.iter().map(|one| one.waited)).context("nothing was exchanged")?;
            let limit = if waited.min < IDLE { ": it was the limit itself; raise --brake" } else { "" };
            notes.push(format!(
                "  {name:<10} {returned} came back, {lost} were lost; the generator waited for {:.0} % of the time \
                 or more{limit}",
                waited.min * 100.0
            ));
            of_generator.insert(
                name,
                json!({ "returned": returned, "wrong": 0, "lost": lost, "waited": waited.rounded(4) }),
            );
        }
        let more = [
            ("both_directions", json!(self.options.both)),
            ("left_of_cpu", json!(f64::from(100 - self.options.brake) / 100.0)),
            ("generator", json!(of_generator)),
        ];
        Ok((notes, more.map(|(key, value)| (key.to_owned(), value)).into_iter().collect()))
    }

    fn rival(&self, mode: Mode) -> Result<Sample> {
        let setup = testpmd::Setup {
            cpus: &self.contest.cpus,
            mbufs: MBUFS,
            descriptors: DESCRIPTORS,
            directory: self.directory.path(),
        };
        let (interrupt, device) = (self.contest.interrupt, self.device());
        self.contest.cpus.confine()?;
        let testpmd = Testpmd::forward(interrupt, &setup, &self.eal_arguments(), &device, &mode.to_string())?;
        self.wait_for_link(true)?;
        let sample = self.sample(testpmd.id(), Some(mode))?;
        testpmd.quit()?;
        self.wait_for_link(false)?;
        Ok(sample)
    }

    fn director(&self, seen: &mut Seen) -> Result<Sample> {
        let setup = director::Setup {
            cpus: &self.contest.cpus,
            mbufs: MBUFS,
            descriptors: DESCRIPTORS,
            capacity: self.contest.capacity,
            kind: Kind::TCP,
            device: &self.device(),
            opener: None,
            directory: self.directory.path(),
            eal: &self.eal_arguments(),
            services: "",
        };
        self.contest.cpus.confine()?;
        let director = Director::start(self.contest.interrupt, &self.contest.binaries, &setup)?;
        self.wait_for_link(true)?;
        director.set("sloppy_tcp", 0)?;
        director.add_service(Kind::TCP)?;
        self.open_connections().with_context(|| director.failed("was sent SYNs"))?;
        let before = director.status()?.0;
        let sample = self.sample(director.id(), None).with_context(|| director.failed("was measured"))?;
        *seen = self.contest.check(&director, &before, &director.status()?.0)?;
        director.terminate()?;
        self.wait_for_link(false)?;
        Ok(sample)
    }

    fn wait_for_link(&self, up: bool) -> Result<()> {
        let found = self.contest.interrupt.wait(LINK, || Ok((self.port.link()?.up == up).then_some(())))?;
        found.with_context(|| {
            format!("the interface's link is not {} after {LINK:?}", if up { "up" } else { "down" })
        })
    }

    /// What the generator has while it does not run.
    fn take(&self) -> Result<(Traffic, Vec<Flow>)> {
        self.idle.take().context("the generator was lost")
    }

    /// Opens every connection, in an order of its own, and learns which server each has.
    fn open_connections(&self) -> Result<()> {
        let mut order: Vec<u32> = (0..self.options.contest.flows).collect();
        Random::new(SEED + 1).shuffle(&mut order);
        for _ in 0..ROUNDS {
            let (traffic, flows) = self.take()?;
            let exchange = traffic.start(&self.eal, self.lcore, Opening::new(flows, order))?;
            self.contest.interrupt.wait(OPENING, || Ok(exchange.has_ended().then_some(())))?;
            let (traffic, script, result) = exchange.end()?;
            result?;
            let (flows, left) = script.end();
            self.idle.set(Some((traffic, flows)));
            order = left;
            if order.is_empty() {
                return Ok(());
            }
        }
        bail!("{} of {} SYNs never came back", order.len(), self.options.contest.flows)
    }

    fn sample(&self, program: u32, mode: Option<Mode>) -> Result<Sample> {
        pin(self.contest.cpus.control)?;
        let (traffic, flows) = self.take()?;
        let part = f64::from(self.options.brake) / 100.0;
        let exchange =
            traffic.start(&self.eal, self.lcore, Established::new(flows, self.options.both, mode))?;
        let brake = (part > 0.0).then(|| Brake::start(self.contest.cpus.worker, part)).transpose()?;
        let mut marks = Vec::new();
        // Each slice costs a little more than itself.
        let given = if brake.is_some() { (1.0 - part) * 0.8 } else { 1.0 };
        let sample = self.contest.sample(&[program], given, || counted(&exchange, &mut marks));
        drop(brake);
        let (traffic, script, result) = exchange.end()?;
        result?;
        self.idle.set(Some((traffic, script.end())));
        if let [.., before, after] = marks[..] {
            let (waited, ticks) = (after.waited - before.waited, after.ticks - before.ticks);
            let (returned, lost) = (after.returned - before.returned, after.lost);
            let exchanged = Exchanged { returned, lost, waited: waited as f64 / ticks as f64 };
            let name = mode.map_or("director".to_owned(), |mode| mode.to_string());
            self.exchanged.borrow_mut().push((name, exchanged));
        }
        sample
    }
}

/// What an exchange has come to.
fn counted<S: Script>(exchange: &Exchange<S>, marks: &mut Vec<Counts>) -> Result<(u64, Instant)> {
    if exchange.has_ended() {
        bail!("the exchange has ended");
    }
    let counts = exchange.counts();
    marks.push(counts);
    Ok((counts.returned, Instant::now()))
}
