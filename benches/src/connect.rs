//! New connections a second of one worker, and whole connections from the first SYN to the expiry.
//!
//! The engine runs in this process, as the daemon would run it: a worker here, and the control core with
//! its timers on the other CPU. Frames are made in place, which costs a few nanoseconds each and is part
//! of the figures. No client end comes a second time.

use std::collections::VecDeque;
use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;
use director_engine::state::State;
use director_engine::{BURST, Reason, Verdict};
use serde::Serialize;

use crate::common::{Circumstances, Clock, Common, Judge, rendered};
use crate::engine::{self, Burst, Core, Keeper};
use crate::hot::Flow;
use crate::interrupt::Interrupt;
use crate::kind::Kind;
use crate::memory::Memory;
use crate::network::CLIENT_ENDS;
use crate::spread::Spread;
use crate::template::{Segment, Template, flags};

/// Bytes of table a connection is reckoned at when memory is reserved.
const BYTES_PER_CONNECTION: u64 = 96;

/// How long after its last segment a whole connection is kept, in seconds.
const TIME_WAIT: u32 = 5;

/// The segments of a whole connection: SYN, SYN-ACK, ACK, data both ways, FIN both ways, the last ACK.
const SEGMENTS: usize = 8;

/// How many connections are opened between two segments of one connection.
const APART: u64 = 16_384;

/// What is asked for.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Room in the table; so many connections are opened by SYNs alone
    #[arg(long, default_value_t = 10_000_000, value_parser = clap::value_parser!(u32).range(1_000_000..=500_000_000))]
    entries: u32,
    /// How often a table is filled
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// How long whole connections come and go, after a time to warm up
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    #[command(flatten)]
    common: Common,
}

/// Clients that never come twice, in an order that looks random: the multiplier has no factor
/// of the number of client ends (2, 3 and 7), so the numbers repeat only after all of them.
const STEP: u64 = 2_654_435_761;
const _: () = assert!(!STEP.is_multiple_of(2) && !STEP.is_multiple_of(3) && !STEP.is_multiple_of(7));

fn client(number: u64) -> Flow {
    // Below CLIENT_ENDS, which is below 2^32.
    Flow::of((number % u64::from(CLIENT_ENDS) * STEP % u64::from(CLIENT_ENDS)) as u32)
}

/// New connections: how fast a table was filled.
#[derive(Clone, Debug)]
struct Filling {
    rate: f64,
    /// The rate of each tenth.
    tenths: Vec<f64>,
}

/// Opens connections by SYNs until the table is as full as was asked.
fn fill(core: &mut Core, entries: u64) -> Result<Filling> {
    let syn = Template::to_service(Kind::TCP, Segment::SYN);
    let mut burst = Burst::new(Kind::TCP);
    let (start, mut tenth_start) = (Instant::now(), Instant::now());
    let mut tenths = Vec::new();
    let bursts = entries / BURST as u64;
    let tenth = bursts.div_ceil(10);
    for number in 0..bursts {
        for (slot, at) in burst.slots.iter_mut().zip(number * BURST as u64..) {
            let Flow { address, port, .. } = client(at);
            syn.write(slot, address, port);
        }
        core.process(&mut burst);
        if burst.unsent() > 0 {
            bail!("a new connection was refused after {}: {}", number * BURST as u64, burst.complaint());
        }
        if (number + 1) % tenth == 0 || number + 1 == bursts {
            let done = number % tenth + 1;
            tenths.push((done * BURST as u64) as f64 / tenth_start.elapsed().as_secs_f64());
            tenth_start = Instant::now();
        }
    }
    let rate = (bursts * BURST as u64) as f64 / start.elapsed().as_secs_f64();
    core.rest();
    Ok(Filling { rate, tenths })
}

/// Sends the segments of whole connections. In each burst there are four connections at each of the eight
/// stages of their life; between two segments of one, [`APART`] others are opened.
struct Lives {
    /// Segments by stage; those of servers by server, too.
    requests: [Template; SEGMENTS],
    answers: [[Template; 4]; SEGMENTS],
    /// The connection that is opened next; from `end` on none is.
    next: u64,
    end: u64,
    /// The flows of those under way, the oldest first.
    flows: VecDeque<Flow>,
}

/// Which segments the server sends.
const IS_ANSWER: [bool; SEGMENTS] = [false, true, false, false, true, false, true, false];
/// Connections of one stage in a burst.
const TOGETHER: u64 = (BURST / SEGMENTS) as u64;
/// Connections under way.
const UNDER_WAY: u64 = APART * (SEGMENTS as u64 - 1) + TOGETHER;

impl Lives {
    fn new() -> Self {
        let (open, close) = (flags::SYN, flags::FIN | flags::ACK);
        // Flags, sequence and acknowledgment numbers, bytes of data.
        let segments = [
            (open, (1000, 0), 0),
            (open | flags::ACK, (2000, 1001), 0),
            (flags::ACK, (1001, 2001), 0),
            (flags::ACK, (1001, 2001), 6),
            (flags::ACK, (2001, 1007), 6),
            (close, (1007, 2007), 0),
            (close, (2007, 1008), 0),
            (flags::ACK, (1008, 2008), 0),
        ]
        .map(|(flags, numbers, data)| Segment { flags, numbers, data });
        Self {
            requests: segments.map(|segment| Template::to_service(Kind::TCP, segment)),
            answers: segments
                .map(|segment| std::array::from_fn(|server| Template::to_client(Kind::TCP, segment, server))),
            next: 0,
            end: u64::MAX,
            flows: VecDeque::with_capacity(UNDER_WAY as usize + BURST),
        }
    }

    /// The next burst. False: every connection is over.
    #[inline]
    fn step(&mut self, core: &mut Core, burst: &mut Burst) -> Result<bool> {
        if self.next >= self.end.saturating_add(UNDER_WAY) {
            return Ok(false);
        }
        for number in self.next..self.next + TOGETHER {
            self.flows.push_back(client(number));
        }
        // In the beginning and in the end there are stages that no connection is at.
        let mut used = 0;
        for (stage, is_answer) in IS_ANSWER.into_iter().enumerate() {
            let Some(first) = self.next.checked_sub(stage as u64 * APART) else { break };
            if first >= self.end {
                continue;
            }
            let from = self.flows.len() - TOGETHER as usize - stage * APART as usize;
            for at in 0..TOGETHER as usize {
                let Flow { address, port, server } = self.flows[from + at];
                let template = if is_answer {
                    &self.answers[stage][usize::from(server & 3)]
                } else {
                    &self.requests[stage]
                };
                template.write(&mut burst.slots[used], address, port);
                used += 1;
            }
        }
        core.process_some(burst, used);
        if burst.unsent_of(used) > 0 {
            if burst.refused() == Some(Verdict::Drop(Reason::TableFull)) {
                bail!(
                    "the table is full after {} whole connections, each of which stays for {TIME_WAIT} s: ask for more \
                     --entries, {} times what is opened in a second",
                    self.next,
                    TIME_WAIT + 1
                );
            }
            bail!("a segment was not forwarded at connection {}: {}", self.next, burst.complaint());
        }
        if self.next < self.end {
            let newest = self.flows.len() - TOGETHER as usize;
            for at in 0..TOGETHER as usize {
                self.flows[newest + at].server = burst.server(at);
            }
        }
        if self.flows.len() > UNDER_WAY as usize {
            self.flows.drain(..TOGETHER as usize);
        }
        self.next += TOGETHER;
        Ok(true)
    }
}

/// What steady traffic of whole connections came to.
#[derive(Clone, Debug, Default)]
struct Steady {
    /// Connections a second, second by second.
    rates: Vec<f64>,
    /// Connections in the table, second by second.
    levels: Vec<u64>,
}

/// What was left when all connections should have been over.
#[derive(Clone, Debug, Default, Serialize)]
struct Left {
    /// Whole connections there were, in all.
    connections: u64,
    /// Entries made, and given back.
    inserted: u64,
    freed: u64,
    /// Entries still in the table, and connections that the servers' counters still show.
    active: u64,
    at_servers: u64,
    /// Events a worker could not tell the control core, which then searches all records.
    events_lost: u64,
    overflow_buckets: u64,
}

fn whole(options: &Options, judge: &mut Judge<'_>, clock: Clock) -> Result<(Steady, Left)> {
    let given = [(State::TimeWait, TIME_WAIT)];
    let (mut keeper, mut core) = engine::director(Kind::TCP, options.entries, clock, &given)?;
    let table = keeper.control.table().clone();
    let mut lives = Lives::new();
    let mut burst = Burst::new(Kind::TCP);
    let interrupt = judge.interrupt;
    let control_cpu = judge.cpus.control;
    let steady = keeper.serve(control_cpu, || {
        // Until the first have expired, and as long again.
        second_by_second(u64::from(TIME_WAIT) * 2 + 1, || {
            step(&mut lives, &mut core, &mut burst, interrupt)
        })?;
        let mut steady = Steady::default();
        judge.hear(|| {
            steady = Steady::default();
            steady.rates = second_by_second(options.seconds, || {
                let connections = step(&mut lives, &mut core, &mut burst, interrupt)?;
                steady.levels.push(table.counters().active);
                Ok(connections)
            })?;
            Ok(())
        })?;
        // The last ones live to their end.
        lives.end = lives.next;
        while lives.step(&mut core, &mut burst)? {}
        core.rest();
        let over = || Ok((table.counters().active + table.counters().dead == 0).then_some(()));
        interrupt.wait(Duration::from_secs(u64::from(TIME_WAIT) + 5), over)?;
        Ok(steady)
    })?;
    Ok((steady, left(&keeper, lives.end)))
}

/// Opens connections for a second; how many there were.
fn step(lives: &mut Lives, core: &mut Core, burst: &mut Burst, interrupt: &Interrupt) -> Result<f64> {
    interrupt.check()?;
    let (start, from) = (Instant::now(), lives.next);
    loop {
        for _ in 0..1024 {
            lives.step(core, burst)?;
        }
        let elapsed = start.elapsed();
        if elapsed >= Duration::from_secs(1) {
            return Ok((lives.next - from) as f64 / elapsed.as_secs_f64());
        }
    }
}

fn second_by_second(seconds: u64, mut step: impl FnMut() -> Result<f64>) -> Result<Vec<f64>> {
    (0..seconds).map(|_| step()).collect()
}

fn left(keeper: &Keeper, connections: u64) -> Left {
    let counters = keeper.control.table().counters();
    let catalog = &keeper.control.catalog;
    let rows = catalog.services().flat_map(|service| catalog.servers(service));
    Left {
        connections,
        inserted: counters.inserted,
        freed: counters.freed,
        active: counters.active + counters.dead,
        at_servers: rows.map(|row| u64::from(row.load.active) + u64::from(row.load.inactive)).sum(),
        events_lost: counters.events_lost,
        overflow_buckets: counters.overflow_buckets,
    }
}

/// The outcome.
#[derive(Debug, Serialize)]
struct Report {
    bench: &'static str,
    entries: u32,
    rounds: u32,
    seconds: u64,
    /// New connections a second while the table fills.
    syn: Spread,
    /// The same for each tenth of the table.
    syn_tenths: Vec<Spread>,
    /// Whole connections a second, of each second.
    whole: Spread,
    /// Packets a second that this is.
    whole_packets: Spread,
    /// Connections in the table, second by second.
    level: Spread,
    /// The mean of the last quarter's levels to that of the first.
    level_drift: f64,
    time_wait_seconds: u32,
    left: Left,
    /// Whether everything was given back.
    leak_free: bool,
    bytes_per_connection: f64,
    page_size: String,
    #[serde(flatten)]
    circumstances: Circumstances,
}

/// Runs the benchmark.
///
/// # Errors
/// There is no memory, a segment was not forwarded, something was leaked, or the CPUs were used by others.
pub fn run(options: &Options, interrupt: &Interrupt) -> Result<String> {
    let mut judge = Judge::new(&options.common, interrupt)?;
    let tables = u64::from(options.entries) * BYTES_PER_CONNECTION + (64 << 20);
    let memory = Memory::get(0, tables, options.common.no_huge)?;
    let clock = Clock::calibrate();
    let mut fillings = Vec::new();
    let (mut bytes_per_connection, mut page_size) = (0.0, String::new());
    // A few records more than are filled: each worker has some in hand.
    let target = u64::from(options.entries) - 64;
    for round in 0..options.rounds {
        let control_cpu = judge.cpus.control;
        let filling = judge.hear(|| {
            let (mut keeper, mut core) = engine::director(Kind::TCP, options.entries, clock, &[])?;
            bytes_per_connection = keeper.control.table().bytes_per_entry();
            page_size = keeper.control.table().page_size().to_string();
            keeper.serve(control_cpu, || fill(&mut core, target))
        })?;
        eprintln!("round {}: {:5.2} M new connections/s", round + 1, filling.rate / 1e6);
        fillings.push(filling);
    }
    let (steady, left) = whole(options, &mut judge, clock)?;
    let nothing = "nothing was measured";
    let whole = Spread::of(steady.rates.iter().copied()).context(nothing)?;
    let quarter = steady.levels.len().div_ceil(4);
    let mean = |levels: &[u64]| levels.iter().sum::<u64>() as f64 / levels.len() as f64;
    let level_drift = mean(&steady.levels[steady.levels.len() - quarter..]) / mean(&steady.levels[..quarter]);
    let leak_free = left.active == 0
        && left.at_servers == 0
        && left.inserted == left.freed
        && left.inserted == left.connections
        && left.overflow_buckets == 0;
    if !leak_free {
        bail!("not everything was given back: {left:?}");
    }
    let tenths = (0..10).filter_map(|tenth| {
        Spread::of(fillings.iter().filter_map(|filling| filling.tenths.get(tenth).copied()))
    });
    let report = Report {
        bench: "connect",
        entries: options.entries,
        rounds: options.rounds,
        seconds: options.seconds,
        syn: Spread::of(fillings.iter().map(|filling| filling.rate)).context(nothing)?.rounded(0),
        syn_tenths: tenths.map(|spread| spread.rounded(0)).collect(),
        whole: whole.rounded(0),
        whole_packets: whole.map(|rate| rate * SEGMENTS as f64).rounded(0),
        level: Spread::of(steady.levels.iter().map(|level| *level as f64)).context(nothing)?,
        level_drift: (level_drift * 1e4).round() / 1e4,
        time_wait_seconds: TIME_WAIT,
        left,
        leak_free,
        bytes_per_connection,
        page_size,
        circumstances: judge.circumstances(memory.describe()),
    };
    rendered(&report, options.common.json)
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { entries, rounds, seconds, left, .. } = self;
        let millions = |spread: Spread| spread.map(|value| value / 1e6);
        self.circumstances.warn(f)?;
        writeln!(f, "connect: one worker and the control core; no client end comes twice\n")?;
        writeln!(f, "SYNs alone, until {entries} connections are open; {rounds} times")?;
        writeln!(f, "  {} M new connections/s, median (min to max)", millions(self.syn).text(2))?;
        let tenths: Vec<_> =
            self.syn_tenths.iter().map(|spread| format!("{:.2}", spread.median / 1e6)).collect();
        writeln!(f, "  by tenths of the table: {}", tenths.join(" "))?;
        writeln!(
            f,
            "\nWhole connections of {SEGMENTS} segments, kept in TIME_WAIT for {} s, for {seconds} s",
            self.time_wait_seconds
        )?;
        writeln!(f, "  {} M connections/s, by seconds", millions(self.whole).text(3))?;
        writeln!(f, "  {} M packets/s", millions(self.whole_packets).text(2))?;
        writeln!(
            f,
            "  {} M in the table; the last quarter to the first: {:.3}",
            millions(self.level).text(2),
            self.level_drift
        )?;
        writeln!(
            f,
            "  of {} connections {} entries were made and {} given back; left: {}",
            left.connections, left.inserted, left.freed, left.active
        )?;
        writeln!(f, "\n{:.1} bytes a connection, on {}", self.bytes_per_connection, self.page_size)?;
        self.circumstances.tell(f)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_client_comes_twice() {
        let mut seen = HashSet::new();
        assert!((0..200_000).all(|number| {
            let Flow { address, port, .. } = client(number);
            seen.insert((address, port))
        }));
    }

    #[test]
    fn a_table_that_is_too_small_is_said_to_be() {
        let (_keeper, mut core) = engine::director(Kind::TCP, 2_000, Clock::calibrate(), &[]).unwrap();
        let (mut lives, mut burst) = (Lives::new(), Burst::new(Kind::TCP));
        let mut steps = std::iter::repeat_with(|| lives.step(&mut core, &mut burst)).take(4_000);
        let error = steps.find_map(Result::err).unwrap().to_string();
        assert!(error.starts_with("the table is full after "), "{error}");
    }

    #[test]
    fn a_whole_connection_ends_in_time_wait() {
        let (keeper, mut core) = engine::director(Kind::TCP, 200_000, Clock::calibrate(), &[]).unwrap();
        let mut lives = Lives::new();
        let mut burst = Burst::new(Kind::TCP);
        while lives.next < UNDER_WAY {
            assert!(lives.step(&mut core, &mut burst).unwrap());
        }
        lives.end = lives.next;
        while lives.step(&mut core, &mut burst).unwrap() {}
        let mut states = Vec::new();
        keeper.control.connections(director_engine::Tick(0), 0, u32::MAX, |connection| {
            states.push(connection.state);
        });
        assert_eq!(states.len() as u64, lives.end);
        assert!(states.iter().all(|state| *state == State::TimeWait));
    }
}
