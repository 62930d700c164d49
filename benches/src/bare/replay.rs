//! The same on a device: a program of its own, which the benchmark `forward` starts beside the director and testpmd.
//!
//! As in the director two bursts are on their way at a time. It is told what to do on its standard input: `stats`, and
//! it says how many frames it has sent; `quit`, and it ends, badly if it left one as it was.

use std::io::{BufRead, Write};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;
use director_flow::Options;
use director_packet::plain::{HEADERS, Headers};
use dpdk::{Eal, Pool, PoolConfig, PortConfig, Received, RxQueue, TxQueue};

use super::{Bare, Batch, Frames};
use crate::contest::SEED;
use crate::flows::{self, Random};
use crate::hot::Flow;
use crate::interrupt::Interrupt;
use crate::program::Program;

/// What it takes to start, with a file of millions of frames to load.
const START: Duration = Duration::from_secs(120);
/// What an answer takes.
const ANSWER: Duration = Duration::from_secs(10);

const READY: &str = "ready";

/// What it is started with.
#[derive(Args, Clone, Debug)]
pub struct Replay {
    /// The device
    #[arg(long)]
    pub device: String,
    /// Connections
    #[arg(long)]
    pub flows: u32,
    /// Connections that there is room for
    #[arg(long)]
    pub capacity: u32,
    /// The mbufs of its pool
    #[arg(long)]
    pub mbufs: u32,
    /// EAL's arguments
    #[arg(last = true)]
    pub eal: Vec<String>,
}

impl Replay {
    /// Starts it as a program of its own, and waits until it forwards.
    ///
    /// # Errors
    /// It does not start.
    pub fn start(&self, interrupt: &Interrupt, directory: &Path) -> Result<Replaying> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["bare", "--device", &self.device]);
        for (name, value) in [("--flows", self.flows), ("--capacity", self.capacity), ("--mbufs", self.mbufs)]
        {
            command.args([name, &value.to_string()]);
        }
        command.arg("--").args(&self.eal).env("RUNTIME_DIRECTORY", directory);
        let mut program = Program::start("the bare loop", &mut command)?;
        program.hear(interrupt, START, 0, |said| said.contains(READY).then_some(()))?;
        Ok(Replaying(program))
    }

    /// Is this program.
    ///
    /// # Errors
    /// It cannot start, or it left a frame as it was.
    pub fn run(&self) -> Result<()> {
        let eal = Eal::start(&self.eal)?;
        let lcore = *eal.worker_lcores().first().context("EAL has no lcore that forwards")?;
        let config = PoolConfig { mbufs: self.mbufs, ..PoolConfig::default() };
        let pool = Pool::new(&eal, "frames", &config)?;
        let clients = flows::draw(self.flows, &mut Random::new(SEED));
        let flows: Vec<_> = (0_u8..4)
            .cycle()
            .zip(&clients)
            .map(|(at, number)| Flow { server: at, ..Flow::of(*number) })
            .collect();
        let bare = Bare::new(&Options::new(self.capacity, 1), &flows)?;
        let port = eal.attach(&self.device)?.pop().context("the device has no port")?;
        let (_port, mut rx, mut tx) = port.configure(&PortConfig::new(1, &pool))?.start()?;
        let (rx, tx) = rx.pop().zip(tx.pop()).context("the port has no queues")?;
        let tally = Arc::new(Tally::default());
        let job = eal.launch(lcore, {
            let tally = tally.clone();
            move || forward(&bare, rx, tx, &tally)
        })?;
        say(READY)?;
        for line in std::io::stdin().lock().lines() {
            match line?.as_str() {
                "stats" => say(&format!("sent {}", tally.sent.load(Ordering::Relaxed)))?,
                _ => break,
            }
        }
        tally.stop.store(true, Ordering::Relaxed);
        match job.join()? {
            0 => Ok(()),
            left => bail!("{left} frames were left as they were"),
        }
    }
}

fn say(line: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).context("nobody listens")
}

/// What the loop and those who look on have in common.
#[derive(Default)]
struct Tally {
    sent: AtomicU64,
    stop: AtomicBool,
}

impl Frames for Received<HEADERS> {
    #[inline(always)]
    fn count(&self) -> usize {
        Self::count(self)
    }

    #[inline(always)]
    fn headers(&mut self, at: usize) -> Option<&mut Headers> {
        Some(self.start(at)?.0)
    }
}

/// The loop. How many frames it left as they were.
fn forward(bare: &Bare, mut rx: RxQueue, mut tx: TxQueue, tally: &Tally) -> u64 {
    let mut flights: [(Received<HEADERS>, Batch); 2] =
        std::array::from_fn(|_| (Received::new(), bare.batch()));
    let [mut next, mut last] = flights.each_mut();
    let (mut is_one_on_its_way, mut sent, mut left) = (false, 0, 0);
    while !tally.stop.load(Ordering::Relaxed) {
        let (count, _) = next.0.receive(&mut rx);
        if count > 0 {
            bare.look(&mut next.0, &mut next.1);
        }
        if is_one_on_its_way {
            left += bare.finish(&mut last.0, &last.1);
            sent += tx.send(last.0.open()) as u64;
            // Relaxed: a number to look at.
            tally.sent.store(sent, Ordering::Relaxed);
        }
        is_one_on_its_way = count > 0;
        if is_one_on_its_way {
            bare.seek(&mut next.1);
            std::mem::swap(&mut next, &mut last);
        }
    }
    left
}

/// The running program.
pub struct Replaying(Program);

impl Replaying {
    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.0.id()
    }

    /// How many frames it has sent, and when that was.
    ///
    /// # Errors
    /// It does not answer.
    pub fn sent(&mut self, interrupt: &Interrupt) -> Result<(u64, Instant)> {
        let mark = self.0.mark();
        let asked = Instant::now();
        self.0.tell("stats")?;
        let sent = self.0.hear(interrupt, ANSWER, mark, |said| {
            said.strip_suffix('\n')?.strip_prefix("sent ")?.parse().ok()
        })?;
        Ok((sent, asked))
    }

    /// Ends it.
    ///
    /// # Errors
    /// It left frames as they were.
    pub fn quit(self) -> Result<()> {
        self.0.dismiss("quit")
    }
}
