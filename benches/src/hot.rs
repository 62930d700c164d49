//! What the director's own work on a packet costs: frames made in place, so that they are in the cache, of
//! connections that exist already, through the engine's worker; beside a loop that only swaps addresses and
//! ports of the same frames.
//!
//! The frames are made in bursts of 32, in the same 2 KiB, from a list of clients in random order. Both the
//! whole loop is timed and, by the time-stamp counter around each burst, what is done to the frames without
//! their making. The figures are those of the middle one of slices of 4096 packets, so that an interrupt now
//! and then costs nothing.

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use director_engine::BURST;
use serde::Serialize;

use crate::common::{Circumstances, Clock, Common, Judge, rendered};
use crate::engine::{self, Burst, Core};
use crate::flows::{self, Random};
use crate::interrupt::Interrupt;
use crate::memory::Memory;
use crate::network::client_end;
use crate::spread::Spread;
use crate::template::{Segment, Slot, Template, flags};

const SEED: u64 = 0x1dea;
/// Bytes of table a connection is reckoned at when memory is reserved.
const BYTES_PER_CONNECTION: u64 = 96;

/// Bursts in a slice, and packets.
const SLICE: usize = 128;
const PACKETS: f64 = (SLICE * BURST) as f64;

/// What is asked for.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Connections, met in random order
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(32..=i64::from(flows::MOST)))]
    flows: u32,
    /// How often each is measured
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pairs: u32,
    /// How long each measurement takes
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    #[command(flatten)]
    common: Common,
}

/// Whose packets there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Mix {
    /// Clients' only.
    Clients,
    /// Servers' only.
    Servers,
    /// Clients' and servers', in turn.
    Both,
}

/// A connection as the generator knows it: who the client is, and the place of its server.
#[derive(Clone, Copy, Default)]
pub(crate) struct Flow {
    pub(crate) address: u32,
    pub(crate) port: u16,
    pub(crate) server: u8,
}

impl Flow {
    pub(crate) fn of(number: u32) -> Self {
        let client = client_end(number);
        Self { address: (*client.ip()).into(), port: client.port(), server: 0 }
    }
}

/// Makes frames of established connections, in the order of a list, for ever.
pub(crate) struct Generator<'a> {
    flows: &'a [Flow],
    at: usize,
    request: Template,
    answers: [Template; 4],
    mix: Mix,
}

impl<'a> Generator<'a> {
    pub(crate) fn new(flows: &'a [Flow], mix: Mix) -> Self {
        let segment = Segment { flags: flags::ACK, numbers: (1001, 2001), data: 0 };
        let answers = std::array::from_fn(|server| Template::to_client(segment, server));
        Self { flows, at: 0, request: Template::to_service(segment), answers, mix }
    }

    #[inline]
    pub(crate) fn fill(&mut self, slots: &mut [Slot; BURST]) {
        if self.at + BURST > self.flows.len() {
            self.at = 0;
        }
        for (at, (slot, flow)) in slots.iter_mut().zip(&self.flows[self.at..]).enumerate() {
            let template = match self.mix {
                Mix::Servers => &self.answers[usize::from(flow.server & 3)],
                Mix::Both if at % 2 == 1 => &self.answers[usize::from(flow.server & 3)],
                Mix::Clients | Mix::Both => &self.request,
            };
            template.write(slot, flow.address, flow.port);
        }
        self.at += BURST;
    }
}

/// Opens a connection of each of `numbers`, in this order, and brings them into another.
pub(crate) fn open(core: &mut Core, numbers: &[u32], random: &mut Random) -> Result<Vec<Flow>> {
    let mut flows: Vec<Flow> = numbers.iter().map(|number| Flow::of(*number)).collect();
    let syn = Template::to_service(Segment { flags: flags::SYN, numbers: (1000, 0), data: 0 });
    let ack = Template::to_service(Segment { flags: flags::ACK, numbers: (1001, 2001), data: 0 });
    let mut burst = Burst::new();
    for template in [syn, ack] {
        // The last burst repeats some of the one before where they are no whole number of bursts.
        let last = flows.len() - BURST;
        for from in (0..flows.len()).step_by(BURST).map(|from| from.min(last)) {
            let part = &mut flows[from..from + BURST];
            for (slot, flow) in burst.slots.iter_mut().zip(part.iter()) {
                template.write(slot, flow.address, flow.port);
            }
            core.process(&mut burst);
            if burst.unsent() > 0 {
                bail!("a connection was not opened: {}", burst.complaint());
            }
            for (at, flow) in part.iter_mut().enumerate() {
                flow.server = burst.server(at);
            }
        }
    }
    core.rest();
    random.shuffle(&mut flows);
    Ok(flows)
}

/// All that the rival does: swaps MAC addresses, addresses and ports, of TCP and UDP over IPv4, as
/// `dpdk-testpmd --forward-mode=5tswap` does.
#[inline(never)]
fn swap(slots: &mut [Slot; BURST]) -> u64 {
    let mut left = 0;
    for Slot(frame) in slots {
        let (destination, source) = frame[..12].split_at_mut(6);
        destination.swap_with_slice(source);
        if frame[12..14] != [0x08, 0] || frame[14] != 0x45 || !matches!(frame[23], 6 | 17) {
            left += 1;
            continue;
        }
        let (source, destination) = frame[26..34].split_at_mut(4);
        source.swap_with_slice(destination);
        let (source, destination) = frame[34..38].split_at_mut(2);
        source.swap_with_slice(destination);
    }
    left
}

/// What one measurement came to, in packets a second and cycles a packet.
#[derive(Clone, Copy)]
struct Sample {
    rate: f64,
    own_rate: f64,
    own_cycles: f64,
}

/// Makes frames and does `work` to them for so long, and returns the figures of the middle slice.
fn time(
    generator: &mut Generator<'_>,
    clock: Clock,
    long: Duration,
    mut work: impl FnMut(&mut Burst) -> u64,
) -> Result<Sample> {
    let mut burst = Burst::new();
    let mut left = 0;
    // Ticks a packet of each slice: whole, and without making the frames.
    let (mut whole, mut own) = (Vec::with_capacity(1 << 18), Vec::with_capacity(1 << 18));
    let start = Instant::now();
    while start.elapsed() < long {
        let mut spent = 0;
        let slice = dpdk::clock::now();
        for _ in 0..SLICE {
            generator.fill(&mut burst.slots);
            let begin = dpdk::clock::now();
            left += work(&mut burst);
            spent += dpdk::clock::now() - begin;
        }
        whole.push((dpdk::clock::now() - slice) as f64 / PACKETS);
        own.push(spent as f64 / PACKETS);
        if left > 0 {
            bail!("{left} frames were not forwarded: {}", burst.complaint());
        }
    }
    let middle = |values: Vec<f64>| Some(Spread::of(values)?.median);
    let (whole_cycles, own_cycles) = middle(whole).zip(middle(own)).context("nothing was measured")?;
    Ok(Sample { rate: clock.hertz() / whole_cycles, own_rate: clock.hertz() / own_cycles, own_cycles })
}

/// What the director and the rival did with one mix of packets.
#[derive(Debug, Serialize)]
struct Compared {
    mix: Mix,
    director: Figures,
    swap: Figures,
    /// The director's packets a second to the rival's, pair by pair: of the whole loop, making the frames
    /// included.
    ratio: Spread,
    /// The same without making the frames.
    ratio_own: Spread,
}

#[derive(Debug, Serialize)]
struct Figures {
    /// Packets a second of the whole loop.
    rate: Spread,
    /// Packets a second without the time to make them.
    rate_own: Spread,
    /// Ticks of the time-stamp counter a packet, without making it.
    cycles_own: Spread,
}

impl Figures {
    fn of(samples: &[Sample]) -> Result<Self> {
        let spread =
            |value: fn(&Sample) -> f64| Spread::of(samples.iter().map(value)).context("nothing measured");
        Ok(Self {
            rate: spread(|sample| sample.rate)?.rounded(0),
            rate_own: spread(|sample| sample.own_rate)?.rounded(0),
            cycles_own: spread(|sample| sample.own_cycles)?.rounded(1),
        })
    }
}

/// The outcome.
#[derive(Debug, Serialize)]
struct Report {
    bench: &'static str,
    flows: u32,
    pairs: u32,
    seconds: u64,
    results: Vec<Compared>,
    /// Ticks of the time-stamp counter in a second.
    tsc_hz: f64,
    #[serde(flatten)]
    circumstances: Circumstances,
}

/// Runs the benchmark.
///
/// # Errors
/// There is no memory, the director does not forward, or the CPUs were used by others.
pub fn run(options: &Options, interrupt: &Interrupt) -> Result<String> {
    let mut judge = Judge::new(&options.common, interrupt)?;
    let tables = u64::from(options.flows) * BYTES_PER_CONNECTION + (64 << 20);
    let memory = Memory::get(0, tables, options.common.no_huge)?;
    let clock = Clock::calibrate();
    let (mut keeper, mut core) = engine::director(options.flows + options.flows / 8 + 1024, clock, &[])?;
    let control_cpu = judge.cpus.control;
    let results = keeper.serve(control_cpu, || measure(options, &mut judge, clock, &mut core))?;
    let report = Report {
        bench: "hot",
        flows: options.flows,
        pairs: options.pairs,
        seconds: options.seconds,
        results,
        tsc_hz: clock.hertz(),
        circumstances: judge.circumstances(memory.describe()),
    };
    rendered(&report, options.common.json)
}

fn measure(options: &Options, judge: &mut Judge<'_>, clock: Clock, core: &mut Core) -> Result<Vec<Compared>> {
    let mut random = Random::new(SEED);
    let numbers = flows::draw(options.flows, &mut random);
    let flows = open(core, &numbers, &mut random)?;
    let long = Duration::from_secs(options.seconds);
    let mut results = Vec::new();
    for mix in [Mix::Clients, Mix::Both] {
        let (mut director, mut rival) = (Vec::new(), Vec::new());
        for pair in 0..options.pairs {
            for turn in 0..2 {
                let mut generator = Generator::new(&flows, mix);
                // Every second time the other way round.
                let (name, sample) = if turn == pair % 2 {
                    let sample = judge.hear(|| {
                        time(&mut generator, clock, long, |burst| {
                            core.process(burst);
                            burst.unsent()
                        })
                    })?;
                    core.rest();
                    director.push(sample);
                    ("director", sample)
                } else {
                    let sample =
                        judge.hear(|| time(&mut generator, clock, long, |burst| swap(&mut burst.slots)))?;
                    rival.push(sample);
                    ("swap", sample)
                };
                eprintln!(
                    "{mix:?} {}: {name:<8} {:6.2} M packets/s; without making them {:6.2} M/s, {:5.1} cycles",
                    pair + 1,
                    sample.rate / 1e6,
                    sample.own_rate / 1e6,
                    sample.own_cycles
                );
            }
        }
        let ratio = |value: fn(&Sample) -> f64| {
            let [over, under] =
                [&director, &rival].map(|samples| samples.iter().map(value).collect::<Vec<_>>());
            Spread::of_ratios(&over, &under).map(|spread| spread.rounded(4))
        };
        results.push(Compared {
            mix,
            director: Figures::of(&director)?,
            swap: Figures::of(&rival)?,
            ratio: ratio(|sample| sample.rate).context("nothing measured")?,
            ratio_own: ratio(|sample| sample.own_rate).context("nothing measured")?,
        });
    }
    Ok(results)
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { flows, pairs, seconds, .. } = self;
        self.circumstances.warn(f)?;
        writeln!(
            f,
            "hot: {flows} established connections, met in random order; TCP ACKs of 60 bytes made in place"
        )?;
        writeln!(f, "each {pairs} times in turn, {seconds} s long; median (min to max)")?;
        for Compared { mix, director, swap, ratio, ratio_own } in &self.results {
            let whose = match mix {
                Mix::Clients => "Packets of clients",
                Mix::Servers => "Packets of servers",
                Mix::Both => "Packets of clients and servers in turn",
            };
            writeln!(
                f,
                "\n{whose}\n{:<12}{:>26}{:>26}{:>24}",
                "", "M/s, making included", "M/s without", "cycles without"
            )?;
            for (name, Figures { rate, rate_own, cycles_own }) in
                [("director", director), ("swap only", swap)]
            {
                let millions = |spread: &Spread| spread.map(|rate| rate / 1e6);
                let (rate, rate_own) = (millions(rate).text(2), millions(rate_own).text(2));
                writeln!(f, "{name:<12}{rate:>26}{rate_own:>26}{:>24}", cycles_own.text(1))?;
            }
            writeln!(f, "{:<12}{:>26}{:>26}", "ratio", ratio.text(3), ratio_own.text(3))?;
        }
        self.circumstances.tell(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::{SERVICE, servers};

    #[test]
    fn frames_of_both_directions_are_forwarded() {
        let (_, mut core) = engine::director(2000, Clock::calibrate(), &[]).unwrap();
        let mut random = Random::new(1);
        let numbers = flows::draw(1000, &mut random);
        let flows = open(&mut core, &numbers, &mut random).unwrap();
        assert!((0..4).all(|server| flows.iter().filter(|flow| flow.server == server).count() >= 200));
        let mut burst = Burst::new();
        for mix in [Mix::Clients, Mix::Servers, Mix::Both] {
            let mut generator = Generator::new(&flows, mix);
            for _ in 0..100 {
                generator.fill(&mut burst.slots);
                core.process(&mut burst);
                assert_eq!(burst.unsent(), 0, "{}", burst.complaint());
                let is_back = |at: usize| mix == Mix::Servers || mix == Mix::Both && at % 2 == 1;
                for (at, Slot(frame)) in burst.slots.iter().enumerate() {
                    let server = &frame[30..34];
                    if is_back(at) {
                        assert_eq!(frame[26..30], SERVICE.ip().octets());
                    } else {
                        assert!(servers().iter().any(|(address, _)| address.octets() == *server));
                    }
                }
            }
        }
    }

    #[test]
    fn the_rival_swaps() {
        let flows = vec![Flow::of(70_000); BURST];
        let mut slots = [Slot([0; 64]); BURST];
        Generator::new(&flows, Mix::Clients).fill(&mut slots);
        let before = slots[5].0;
        assert_eq!(swap(&mut slots), 0);
        let after = slots[5].0;
        assert_eq!((&after[..6], &after[6..12]), (&before[6..12], &before[..6]));
        assert_eq!((&after[26..30], &after[30..34]), (&before[30..34], &before[26..30]));
        assert_eq!((&after[34..36], &after[36..38]), (&before[36..38], &before[34..36]));
        assert_eq!(after[38..], before[38..]);
        slots[0].0[12] = 0x86;
        assert_eq!(swap(&mut slots), 1);
    }
}
