//! What the director's own work on a packet costs: frames made in place, so that they are in the cache, of
//! connections that exist already, through the engine's worker; beside a loop that only swaps addresses and
//! ports of the same frames, and one that does the least that any NAT must (`bare`).
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

use crate::bare::Bare;
use crate::common::{Circumstances, Clock, Common, Judge, rendered};
use crate::engine::{self, Burst, Core};
use crate::flows::{self, Random};
use crate::interrupt::Interrupt;
use crate::kind::Kind;
use crate::memory::Memory;
use crate::network::client_end;
use crate::spread::Spread;
use crate::template::{Segment, Slot, Template};

const SEED: u64 = 0x1dea;
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
    kind: Kind,
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
    kind: Kind,
    request: Template,
    answers: [Template; 4],
    mix: Mix,
}

impl<'a> Generator<'a> {
    pub(crate) fn new(flows: &'a [Flow], kind: Kind, mix: Mix) -> Self {
        let answers = std::array::from_fn(|server| Template::to_client(kind, Segment::ACK, server));
        Self { flows, at: 0, kind, request: Template::to_service(kind, Segment::ACK), answers, mix }
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
pub(crate) fn open(core: &mut Core, kind: Kind, numbers: &[u32], random: &mut Random) -> Result<Vec<Flow>> {
    let mut flows: Vec<Flow> = numbers.iter().map(|number| Flow::of(*number)).collect();
    let mut burst = Burst::new(kind);
    // Of UDP both are the same.
    for template in [Segment::SYN, Segment::ACK].map(|segment| Template::to_service(kind, segment)) {
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

/// All that the rival does: swaps MAC addresses, addresses and ports, of TCP and UDP, as
/// `dpdk-testpmd --forward-mode=5tswap` does.
#[inline(never)]
fn swapped(slots: &mut [Slot; BURST]) -> u64 {
    let mut left = 0;
    for Slot(frame) in slots {
        let (destination, source) = frame[..12].split_at_mut(6);
        destination.swap_with_slice(source);
        let ports = if frame[12..14] == [0x08, 0] && frame[14] == 0x45 && matches!(frame[23], 6 | 17) {
            let (source, destination) = frame[26..34].split_at_mut(4);
            source.swap_with_slice(destination);
            34
        } else if frame[12..14] == [0x86, 0xdd] && matches!(frame[20], 6 | 17) {
            let (source, destination) = frame[22..54].split_at_mut(16);
            source.swap_with_slice(destination);
            54
        } else {
            left += 1;
            continue;
        };
        let (source, destination) = frame[ports..ports + 4].split_at_mut(2);
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
    let mut burst = Burst::new(generator.kind);
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
    /// The least that a NAT must do, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    bare: Option<Figures>,
    /// The director's packets a second to the rival's, pair by pair: of the whole loop, making the frames
    /// included.
    ratio: Spread,
    /// The same without making the frames.
    ratio_own: Spread,
    /// The director's packets a second to those of the least that a NAT must do, without making the frames.
    #[serde(skip_serializing_if = "Option::is_none")]
    ratio_bare: Option<Spread>,
}

/// Who is measured.
#[derive(Clone, Copy, Debug)]
enum Who {
    Director,
    Swap,
    Bare,
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
    #[serde(flatten)]
    kind: Kind,
    frame_bytes: usize,
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
    // The director's, and the other's that has one.
    let tables = 2 * u64::from(options.flows) * options.kind.bytes_per_connection() + (64 << 20);
    let memory = Memory::get(0, tables, options.common.no_huge)?;
    let clock = Clock::calibrate();
    let (mut keeper, mut core) = engine::director(options.kind, capacity(options), clock, &[])?;
    let control_cpu = judge.cpus.control;
    let results = keeper.serve(control_cpu, || measure(options, &mut judge, clock, &mut core))?;
    let report = Report {
        bench: "hot",
        flows: options.flows,
        kind: options.kind,
        frame_bytes: options.kind.length(),
        pairs: options.pairs,
        seconds: options.seconds,
        results,
        tsc_hz: clock.hertz(),
        circumstances: judge.circumstances(memory.describe()),
    };
    rendered(&report, options.common.json)
}

/// Room for the connections.
fn capacity(options: &Options) -> u32 {
    options.flows + options.flows / 8 + 1024
}

fn measure(options: &Options, judge: &mut Judge<'_>, clock: Clock, core: &mut Core) -> Result<Vec<Compared>> {
    let mut random = Random::new(SEED);
    let numbers = flows::draw(options.flows, &mut random);
    let flows = open(core, options.kind, &numbers, &mut random)?;
    // It knows no other packets.
    let has_bare = options.kind == Kind::TCP;
    let table = director_engine::Options::new(capacity(options), 1);
    let bare = has_bare.then(|| Bare::new(&table, &flows)).transpose()?;
    let long = Duration::from_secs(options.seconds);
    let mut results = Vec::new();
    for mix in [Mix::Clients, Mix::Both] {
        let (mut director, mut swap, mut least) = (Vec::new(), Vec::new(), Vec::new());
        for pair in 0..options.pairs {
            let mut order = vec![Who::Director, Who::Swap];
            order.extend(has_bare.then_some(Who::Bare));
            // Every second time the other way round.
            if pair % 2 == 1 {
                order.reverse();
            }
            for who in order {
                let mut generator = Generator::new(&flows, options.kind, mix);
                let sample = judge.hear(|| match (who, &bare) {
                    (Who::Bare, Some(bare)) => {
                        let mut batch = bare.batch();
                        time(&mut generator, clock, long, |burst| bare.process(&mut burst.slots, &mut batch))
                    }
                    (Who::Swap | Who::Bare, _) => {
                        time(&mut generator, clock, long, |burst| swapped(&mut burst.slots))
                    }
                    (Who::Director, _) => time(&mut generator, clock, long, |burst| {
                        core.process(burst);
                        burst.unsent()
                    }),
                })?;
                core.rest();
                match who {
                    Who::Director => director.push(sample),
                    Who::Swap => swap.push(sample),
                    Who::Bare => least.push(sample),
                }
                eprintln!(
                    "{mix:?} {}: {:<8} {:6.2} M packets/s; without making them {:6.2} M/s, {:5.1} cycles",
                    pair + 1,
                    format!("{who:?}").to_lowercase(),
                    sample.rate / 1e6,
                    sample.own_rate / 1e6,
                    sample.own_cycles
                );
            }
        }
        let ratio = |under: &[Sample], value: fn(&Sample) -> f64| {
            let [over, under] =
                [&director, under].map(|samples| samples.iter().map(value).collect::<Vec<_>>());
            Spread::of_ratios(&over, &under).map(|spread| spread.rounded(4))
        };
        results.push(Compared {
            mix,
            director: Figures::of(&director)?,
            swap: Figures::of(&swap)?,
            bare: has_bare.then(|| Figures::of(&least)).transpose()?,
            ratio: ratio(&swap, |sample| sample.rate).context("nothing measured")?,
            ratio_own: ratio(&swap, |sample| sample.own_rate).context("nothing measured")?,
            ratio_bare: ratio(&least, |sample| sample.own_rate),
        });
    }
    Ok(results)
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { flows, frame_bytes, pairs, seconds, .. } = self;
        self.circumstances.warn(f)?;
        writeln!(
            f,
            "hot: {flows} established connections, met in random order; {} of {frame_bytes} bytes made in place",
            self.kind.packets()
        )?;
        writeln!(f, "each {pairs} times in turn, {seconds} s long; median (min to max)")?;
        for Compared { mix, director, swap, bare, ratio, ratio_own, ratio_bare } in &self.results {
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
            let measured = [("director", Some(director)), ("swap only", Some(swap)), ("bare", bare.as_ref())];
            for (name, figures) in measured {
                let Some(Figures { rate, rate_own, cycles_own }) = figures else { continue };
                let millions = |spread: &Spread| spread.map(|rate| rate / 1e6);
                let (rate, rate_own) = (millions(rate).text(2), millions(rate_own).text(2));
                writeln!(f, "{name:<12}{rate:>26}{rate_own:>26}{:>24}", cycles_own.text(1))?;
            }
            writeln!(f, "{:<12}{:>26}{:>26}", "to swap", ratio.text(3), ratio_own.text(3))?;
            if let Some(ratio) = ratio_bare {
                writeln!(f, "{:<12}{:>26}{:>26}", "to bare", "", ratio.text(3))?;
            }
        }
        self.circumstances.tell(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_of_both_directions_are_forwarded() {
        for kind in Kind::ALL {
            let (_, mut core) = engine::director(kind, 2000, Clock::calibrate(), &[]).unwrap();
            let mut random = Random::new(1);
            let numbers = flows::draw(1000, &mut random);
            let flows = open(&mut core, kind, &numbers, &mut random).unwrap();
            assert!((0..4).all(|server| flows.iter().filter(|flow| flow.server == server).count() >= 200));
            let mut burst = Burst::new(kind);
            let forth: [_; 4] = std::array::from_fn(|server| Template::to_server(kind, Segment::ACK, server));
            let back = Template::from_service(kind, Segment::ACK);
            let mut slot = Slot::EMPTY;
            for mix in [Mix::Clients, Mix::Servers, Mix::Both] {
                let mut generator = Generator::new(&flows, kind, mix);
                // 31 whole bursts go into a thousand.
                for from in (0..31 * BURST).step_by(BURST) {
                    generator.fill(&mut burst.slots);
                    core.process(&mut burst);
                    assert_eq!(burst.unsent(), 0, "{}", burst.complaint());
                    for (at, Slot(frame)) in burst.slots.iter().enumerate() {
                        let flow = flows[from + at];
                        let is_back = mix == Mix::Servers || mix == Mix::Both && at % 2 == 1;
                        let template = if is_back { &back } else { &forth[usize::from(flow.server)] };
                        template.write(&mut slot, flow.address, flow.port);
                        assert_eq!(frame[..kind.length()], slot.0[..kind.length()], "{kind:?} {mix:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn the_rival_swaps() {
        let flows = vec![Flow::of(70_000); BURST];
        let mut slots = [Slot::EMPTY; BURST];
        Generator::new(&flows, Kind::TCP, Mix::Clients).fill(&mut slots);
        let before = slots[5].0;
        assert_eq!(swapped(&mut slots), 0);
        let after = slots[5].0;
        assert_eq!((&after[..6], &after[6..12]), (&before[6..12], &before[..6]));
        assert_eq!((&after[26..30], &after[30..34]), (&before[30..34], &before[26..30]));
        assert_eq!((&after[34..36], &after[36..38]), (&before[36..38], &before[34..36]));
        assert_eq!(after[38..], before[38..]);
        slots[0].0[12] = 0x86;
        assert_eq!(swapped(&mut slots), 1);
    }
}
