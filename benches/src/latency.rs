//! How long a packet takes through the director's worker, at loads below and above its maximum.
//!
//! Frames of established connections lie in memory, as a NIC would have put them there. A generator on one core
//! puts descriptors of them into a ring at fixed times, whether or not the worker keeps up (an open loop): each
//! says when its frame was due, so that one that is late because the generator was held up counts as delayed,
//! too. The worker on the other core polls the ring as the daemon polls a queue, fetches the frames, has the
//! engine decide about them, and looks at the time-stamp counter when the burst is done.
//!
//! What is inside: waiting in the ring, the descriptor's way from core to core, the frame's way from memory, all
//! the engine does, waiting for the rest of the burst. What is not: NIC, PCIe and wire, the driver, the daemon's
//! loop, the kernel twins; the control core sleeps, as nothing is new.

use std::fmt;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;
use director_engine::BURST;
use hdrhistogram::Histogram;
use serde::Serialize;

use crate::common::{Circumstances, Clock, Common, Judge, pin, rendered};
use crate::engine::{self, Burst, Core};
use crate::flows::{self, Random};
use crate::hot::{Flow, open};
use crate::interrupt::Interrupt;
use crate::kind::Kind;
use crate::memory::Memory;
use crate::ring::{Receiver, Ring, Sender};
use crate::spread::Spread;
use crate::template::{LINE, Segment, Slot, Template};

const SEED: u64 = 0x1dea;
/// Bytes of table a connection is reckoned at when memory is reserved.
const BYTES_PER_CONNECTION: u64 = 96;

/// One of so many frames is looked at; a prime, so that it is not the same place of each burst.
const SAMPLED: u64 = 7;

/// The longest time that is told apart, in ticks of the time-stamp counter: some seconds.
const LONGEST_TICKS: u64 = 20_000_000_000;

/// How many frames are sent late when the generator was held up; those before are not sent.
const HELD_UP: u64 = 2 * BURST as u64;

/// Percentiles that are shown.
const PERCENTILES: [f64; 4] = [50.0, 99.0, 99.9, 99.99];

/// What is asked for.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Connections, met in random order
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(32..=i64::from(flows::MOST)))]
    flows: u32,
    /// Loads, in percent of the worker's own maximum
    #[arg(long, value_delimiter = ',', value_name = "PERCENT", default_values_t = [50, 90, 110], value_parser = clap::value_parser!(u32).range(1..=200))]
    loads: Vec<u32>,
    /// Frames the ring holds; a power of two
    #[arg(long, default_value_t = 1024, value_parser = ring_size)]
    ring: u32,
    /// How often the maximum is measured
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pairs: u32,
    /// How long each load lasts
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    #[command(flatten)]
    common: Common,
}

fn ring_size(text: &str) -> Result<u32, String> {
    match text.parse::<u32>() {
        Ok(size) if size.is_power_of_two() && (64..=65_536).contains(&size) => Ok(size),
        _ => Err("a power of two from 64 to 65536".to_owned()),
    }
}

/// A frame as it lies in memory.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Frame([u8; LINE]);

/// The frames as they come in: of established connections, for ever.
struct Frames {
    frames: Vec<Frame>,
    at: usize,
}

impl Frames {
    fn of(flows: &[Flow]) -> Self {
        let template = Template::to_service(Kind::TCP, Segment::ACK);
        let mut slot = Slot::EMPTY;
        let frame = |flow: &Flow| {
            template.write(&mut slot, flow.address, flow.port);
            Frame(*slot.0.first_chunk().unwrap_or(&[0; LINE]))
        };
        Self { frames: flows.iter().map(frame).collect(), at: 0 }
    }

    /// Fetches the next ones.
    #[inline]
    fn fetch(&mut self, into: &mut [Slot]) {
        for slot in into {
            slot.0[..LINE].copy_from_slice(&self.frames[self.at].0);
            self.at = if self.at + 1 == self.frames.len() { 0 } else { self.at + 1 };
        }
    }
}

/// What the generator did.
#[derive(Clone, Copy, Debug, Default)]
struct Sent {
    /// Frames that were due.
    due: u64,
    /// Frames that found no room in the ring.
    lost: u64,
    /// Frames that were not sent, since the generator itself was held up: no fault of the worker's.
    missed: u64,
}

/// How fast frames come.
#[derive(Clone, Copy, Debug)]
enum Pace {
    /// As long as there is room: never one lost.
    AsMayBe,
    /// So many a tick of the time-stamp counter, at fixed times.
    Fixed(f64),
}

/// Sends until it is told to stop.
fn generate(sender: &mut Sender<'_>, pace: Pace, stop: &AtomicBool) -> Sent {
    let mut sent = Sent::default();
    let interval = if let Pace::Fixed(rate) = pace { rate.recip() } else { 0.0 };
    let start = dpdk::clock::now();
    // Relaxed: the flag carries nothing but itself.
    while !stop.load(Ordering::Relaxed) {
        let now = dpdk::clock::now();
        match pace {
            Pace::AsMayBe => {
                let room = sender.room().min(BURST as u64);
                for _ in 0..room {
                    sender.put(now);
                }
                sent.due += room;
            }
            Pace::Fixed(rate) => {
                let due = ((now - start) as f64 * rate) as u64;
                // No wire delivers what has piled up at once.
                let late = (due - sent.due).saturating_sub(HELD_UP);
                sent.missed += late;
                sent.due += late;
                for number in sent.due..due.min(sent.due + BURST as u64) {
                    if sender.room() == 0 {
                        sent.lost += 1;
                    } else {
                        sender.put(start + (number as f64 * interval) as u64);
                    }
                    sent.due += 1;
                }
            }
        }
        sender.publish();
    }
    sent
}

/// What the worker did.
struct Received {
    frames: u64,
    ticks: u64,
    /// Frames of a burst on average, where there were any.
    burst: f64,
    /// Ticks each sampled frame took.
    times: Histogram<u64>,
}

/// Forwards for so long.
fn forward(
    core: &mut Core,
    receiver: &mut Receiver<'_>,
    incoming: &mut Frames,
    long: Duration,
    sample: bool,
) -> Result<Received> {
    let mut burst = Burst::new(Kind::TCP);
    let mut due = [0; BURST];
    // Made before the clock starts: nothing is allocated while it runs.
    let mut times = Histogram::new_with_bounds(1, LONGEST_TICKS, 3)?;
    let (mut frames, mut next, mut bursts) = (0_u64, 0_u64, 0_u64);
    let (start, first) = (Instant::now(), dpdk::clock::now());
    while start.elapsed() < long {
        for _ in 0..1024 {
            let count = receiver.take(&mut due);
            if count == 0 {
                std::hint::spin_loop();
                continue;
            }
            incoming.fetch(&mut burst.slots[..count]);
            core.process_some(&mut burst, count);
            if burst.unsent_of(count) > 0 {
                bail!("a frame was not forwarded: {}", burst.complaint());
            }
            if sample {
                let now = dpdk::clock::now();
                while next < frames + count as u64 {
                    times.saturating_record(now.saturating_sub(due[(next - frames) as usize]).max(1));
                    next += SAMPLED;
                }
            }
            frames += count as u64;
            bursts += 1;
        }
    }
    let ticks = dpdk::clock::now() - first;
    Ok(Received { frames, ticks, burst: frames as f64 / bursts.max(1) as f64, times })
}

/// Both at once.
fn run_both(
    core: &mut Core,
    ring: &mut Ring,
    incoming: &mut Frames,
    pace: Pace,
    long: Duration,
    cpu: u32,
) -> Result<(Sent, Received)> {
    let (mut sender, mut receiver) = ring.ends();
    let stop = AtomicBool::new(false);
    let ready = Barrier::new(2);
    std::thread::scope(|scope| {
        let generating = scope.spawn(|| {
            let pinned = pin(cpu);
            ready.wait();
            pinned.map(|()| generate(&mut sender, pace, &stop))
        });
        ready.wait();
        // What the start holds up is not the worker's delay.
        let warmed = forward(core, &mut receiver, incoming, long / 10, false);
        let received =
            warmed.and_then(|_| forward(core, &mut receiver, incoming, long, matches!(pace, Pace::Fixed(_))));
        stop.store(true, Ordering::Relaxed);
        core.rest();
        match generating.join() {
            Ok(sent) => Ok((sent?, received?)),
            Err(_) => bail!("the generator panicked"),
        }
    })
}

/// One load.
#[derive(Debug, Serialize)]
struct Load {
    percent: u32,
    /// Frames a second that were due, and that the worker forwarded.
    offered: f64,
    forwarded: f64,
    /// Part of the frames that found the ring full.
    lost: f64,
    /// Part of the frames that the generator did not send in time, and so not at all.
    missed: f64,
    /// Frames that were looked at.
    samples: u64,
    /// Nanoseconds, by percentile.
    nanoseconds: Vec<Quantile>,
    mean: f64,
    max: u64,
    /// The whole distribution, for the plot.
    curve: Vec<Quantile>,
}

/// Part of the frames, in percent, that took so long at most.
#[derive(Clone, Copy, Debug, Serialize)]
struct Quantile {
    percent: f64,
    nanoseconds: u64,
}

impl Load {
    fn of(percent: u32, clock: Clock, sent: Sent, received: &Received) -> Self {
        let per_tick = 1e9 / clock.hertz();
        let histogram = &received.times;
        let nanoseconds = |ticks: u64| (ticks as f64 * per_tick).round() as u64;
        let at = |percent: f64| Quantile {
            percent,
            nanoseconds: nanoseconds(histogram.value_at_percentile(percent)),
        };
        // Two points for each halving of what is left.
        let curve = (0..44).map(|half| at(100.0 - 100.0 * 0.5_f64.powf(f64::from(half) / 2.0)));
        let seconds = received.ticks as f64 / clock.hertz();
        let part = |count: u64| (count as f64 / sent.due.max(1) as f64 * 1e6).round() / 1e6;
        Self {
            percent,
            offered: 0.0,
            forwarded: (received.frames as f64 / seconds).round(),
            lost: part(sent.lost),
            missed: part(sent.missed),
            samples: histogram.len(),
            nanoseconds: PERCENTILES.map(at).into(),
            mean: (histogram.mean() * per_tick).round(),
            max: nanoseconds(histogram.max()),
            curve: curve.take_while(|quantile| quantile.percent <= 99.9999).collect(),
        }
    }
}

/// The outcome.
#[derive(Debug, Serialize)]
struct Report {
    bench: &'static str,
    flows: u32,
    ring: u32,
    pairs: u32,
    seconds: u64,
    /// Frames a second that the worker forwards when the ring is never empty.
    maximum: Spread,
    /// How long a full ring takes to be emptied at that rate, in nanoseconds: no frame waits longer, but for
    /// what holds up the worker itself.
    ring_nanoseconds: f64,
    loads: Vec<Load>,
    #[serde(flatten)]
    circumstances: Circumstances,
}

/// Runs the benchmark.
///
/// # Errors
/// There is no memory, the generator is too slow for the worker, or the CPUs were used by others.
pub fn run(options: &Options, interrupt: &Interrupt) -> Result<String> {
    let Options { flows: count, loads, pairs, seconds, common, .. } = options;
    let mut judge = Judge::new(common, interrupt)?;
    let tables = u64::from(*count) * BYTES_PER_CONNECTION + (64 << 20);
    let memory = Memory::get(0, tables, common.no_huge)?;
    let clock = Clock::calibrate();
    let (mut keeper, mut core) = engine::director(Kind::TCP, count + count / 8 + 1024, clock, &[])?;
    let mut random = Random::new(SEED);
    let numbers = flows::draw(*count, &mut random);
    let cpu = judge.cpus.control;
    let flows = keeper.serve(cpu, || open(&mut core, Kind::TCP, &numbers, &mut random))?;
    let mut frames = Frames::of(&flows);
    let mut ring = Ring::new(options.ring);
    let mut rates = Vec::new();
    for pair in 0..*pairs {
        let long = Duration::from_secs(2);
        let (_, received) =
            judge.hear(|| run_both(&mut core, &mut ring, &mut frames, Pace::AsMayBe, long, cpu))?;
        let rate = received.frames as f64 / received.ticks as f64 * clock.hertz();
        eprintln!("maximum {}: {:6.2} M packets/s, in bursts of {:.1}", pair + 1, rate / 1e6, received.burst);
        // A burst is full as long as the generator is ahead.
        if received.burst < 0.9 * BURST as f64 && !common.noisy {
            bail!("the generator is slower than the worker, so that its maximum cannot be told");
        }
        rates.push(rate);
    }
    let maximum = Spread::of(rates).context("nothing was measured")?;
    let mut measured = Vec::new();
    for percent in loads {
        let offered = maximum.median * f64::from(*percent) / 100.0;
        let pace = Pace::Fixed(offered / clock.hertz());
        let long = Duration::from_secs(*seconds);
        let (sent, received) = judge.hear(|| run_both(&mut core, &mut ring, &mut frames, pace, long, cpu))?;
        let load = Load { offered: offered.round(), ..Load::of(*percent, clock, sent, &received) };
        let Some(median) = load.nanoseconds.first() else { bail!("nothing was measured") };
        eprintln!(
            "{percent:>3} %: {:6.2} M packets/s, median {} ns",
            load.forwarded / 1e6,
            median.nanoseconds
        );
        measured.push(load);
    }
    let report = Report {
        bench: "latency",
        flows: *count,
        ring: options.ring,
        pairs: *pairs,
        seconds: *seconds,
        ring_nanoseconds: (f64::from(options.ring) / maximum.median * 1e9).round(),
        maximum: maximum.rounded(0),
        loads: measured,
        circumstances: judge.circumstances(memory.describe()),
    };
    rendered(&report, common.json)
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { flows, ring, seconds, maximum, ring_nanoseconds, .. } = self;
        self.circumstances.warn(f)?;
        writeln!(
            f,
            "latency: {flows} established connections, met in random order; a ring of {ring} frames"
        )?;
        writeln!(f, "from when a frame was due to when its burst was done; {seconds} s each\n")?;
        writeln!(f, "the worker's own maximum: {} M packets/s", maximum.map(|rate| rate / 1e6).text(2))?;
        writeln!(f, "a full ring at that rate: {:.1} us\n", ring_nanoseconds / 1e3)?;
        writeln!(
            f,
            "{:>6}{:>10}{:>10}{:>9}{:>9}{:>10}{:>10}{:>10}{:>10}{:>10}",
            "load", "offered", "sent M/s", "lost", "missed", "p50 us", "p99", "p99.9", "p99.99", "max"
        )?;
        for load in &self.loads {
            write!(
                f,
                "{:>4} %{:>10.2}{:>10.2}{:>7.2} %{:>7.2} %",
                load.percent,
                load.offered / 1e6,
                load.forwarded / 1e6,
                load.lost * 100.0,
                load.missed * 100.0
            )?;
            for Quantile { nanoseconds, .. } in &load.nanoseconds {
                write!(f, "{:>10.2}", *nanoseconds as f64 / 1e3)?;
            }
            writeln!(f, "{:>10.1}", load.max as f64 / 1e3)?;
        }
        writeln!(f, "\nlost found the ring full; missed were not sent, the generator having been held up")?;
        self.circumstances.tell(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_due_is_forwarded() {
        let (_keeper, mut core) = engine::director(Kind::TCP, 2000, Clock::calibrate(), &[]).unwrap();
        let mut random = Random::new(1);
        let flows = open(&mut core, Kind::TCP, &flows::draw(1000, &mut random), &mut random).unwrap();
        let mut ring = Ring::new(64);
        let (mut sender, mut receiver) = ring.ends();
        let mut frames = Frames::of(&flows);
        let due = dpdk::clock::now();
        for _ in 0..64 {
            sender.put(due);
        }
        sender.publish();
        let time = Duration::from_millis(1);
        let received = forward(&mut core, &mut receiver, &mut frames, time, true).unwrap();
        assert_eq!((received.frames, received.times.len()), (64, 10));
        assert!(received.times.min() > 1 && received.times.max() < LONGEST_TICKS);
    }

    #[test]
    fn an_open_loop_loses_what_finds_no_room() {
        let mut ring = Ring::new(64);
        let (mut sender, _) = ring.ends();
        let stop = AtomicBool::new(false);
        let sent = std::thread::scope(|scope| {
            let generating = scope.spawn(|| generate(&mut sender, Pace::Fixed(0.001), &stop));
            std::thread::sleep(Duration::from_millis(20));
            stop.store(true, Ordering::Relaxed);
            generating.join().unwrap()
        });
        assert_eq!(sent.due - sent.lost - sent.missed, 64, "{sent:?}");
        assert!(sent.lost > 1000, "{sent:?}");
    }

    #[test]
    fn quantiles_are_those_of_the_times() {
        let clock = Clock::calibrate();
        let ticks = clock.hertz() / 1e6;
        let mut times = Histogram::new_with_bounds(1, LONGEST_TICKS, 3).unwrap();
        for number in 1..=1000 {
            times.record((f64::from(number) * ticks) as u64).unwrap();
        }
        let received = Received { frames: 1000, ticks: clock.hertz() as u64, burst: 1.0, times };
        let load = Load::of(50, clock, Sent { due: 1000, lost: 10, missed: 0 }, &received);
        assert_eq!((load.samples, load.lost), (1000, 0.01));
        assert!((load.nanoseconds[0].nanoseconds as f64 / 500e3 - 1.0).abs() < 0.01, "{load:?}");
        assert!((load.nanoseconds[1].nanoseconds as f64 / 990e3 - 1.0).abs() < 0.01, "{load:?}");
        assert!(load.curve.windows(2).all(|pair| pair[0].nanoseconds <= pair[1].nanoseconds));
    }
}
