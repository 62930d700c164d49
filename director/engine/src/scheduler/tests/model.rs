//! Every scheduler beside a plain model of IPVS's, which walks lists and remembers nothing but what it must.

use std::collections::HashMap;

use director_flow::Tick;
use director_packet::Address;

use super::{Bench, VIP, address};
use crate::scheduler::Request;
use crate::service::{FALLBACK, PORT, SchedulerKind, ServerSpec};
use crate::state::State;

#[derive(Clone, Copy, Default, Debug)]
struct Server {
    number: u32,
    spec: ServerSpec,
    last_weight: u32,
    overloaded: bool,
    active: u32,
    inactive: u32,
}

impl Server {
    fn usable(&self) -> bool {
        self.spec.weight > 0 && !self.overloaded
    }

    fn overhead(&self) -> u64 {
        u64::from(self.active) * 256 + u64::from(self.inactive)
    }

    /// `a / weight` of this against `b / weight` of another.
    fn less(&self, a: u64, other: &Self, b: u64) -> bool {
        a * u64::from(other.spec.weight) < b * u64::from(self.spec.weight)
    }

    fn total(&self) -> u32 {
        self.active + self.inactive
    }

    fn after_bind(&mut self) {
        self.overloaded |= self.spec.upper > 0 && self.total() >= self.spec.upper;
    }

    fn after_end(&mut self) {
        let ServerSpec { upper, lower, .. } = self.spec;
        let released = if lower > 0 { self.total() < lower } else { self.total() * 4 < upper * 3 };
        if upper == 0 || released {
            self.overloaded = false;
        }
    }
}

/// A service as the model has it: the newest server first.
struct Model {
    kind: SchedulerKind,
    flags: u32,
    list: Vec<Server>,
    /// Deleted servers, which come back with their connections.
    gone: Vec<Server>,
    /// The number of the last served, for `rr` and `wrr`.
    last: Option<u32>,
    level: i64,
    top: i64,
    step: i64,
    /// By destination: the servers, newest first, when it was used, when the set changed.
    cache: HashMap<Address, (Vec<u32>, u32, u32)>,
}

const DAY: u32 = 24 * 60 * 60 * 10;

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

fn golden(key: u32) -> usize {
    ((u64::from(key) * 0x61c8_8647) as u32 >> 24) as usize
}

impl Model {
    fn new(kind: SchedulerKind, flags: u32) -> Self {
        let (list, gone, cache) = (Vec::new(), Vec::new(), HashMap::new());
        Self { kind, flags, list, gone, last: None, level: 0, top: 0, step: 1, cache }
    }

    /// After another scheduler's time.
    fn restart(&mut self) {
        self.last = None;
        self.cache.clear();
        self.measure();
        self.level = self.top;
    }

    fn measure(&mut self) {
        let weights = || self.list.iter().map(|server| server.spec.weight);
        let step = weights().fold(0, gcd).max(1);
        self.step = step.into();
        self.top = i64::from(weights().max().unwrap_or(0)) - (self.step - 1);
    }

    fn changed(&mut self) {
        self.measure();
        if self.kind != SchedulerKind::WeightedRoundRobin {
            return;
        }
        self.last = None;
        if self.level > self.top || self.level == 0 {
            self.level = self.top;
        } else if self.step > 1 {
            self.level = self.level / self.step * self.step + 1;
        }
    }

    fn server(&mut self, number: u32) -> &mut Server {
        self.list.iter_mut().chain(&mut self.gone).find(|server| server.number == number).unwrap()
    }

    fn place(&self, number: Option<u32>) -> Option<usize> {
        self.list.iter().position(|server| Some(server.number) == number)
    }

    fn round_robin(&mut self) -> Option<usize> {
        let start = self.place(self.last).map_or(0, |place| place + 1);
        let found = (start..self.list.len()).chain(0..start).find(|&place| self.list[place].usable())?;
        self.last = Some(self.list[found].number);
        Some(found)
    }

    /// The walk server by server, level by level.
    fn weighted_round_robin(&mut self) -> Option<usize> {
        if self.top == 0 {
            return None;
        }
        let begin = self.place(self.last);
        let mut next = begin.map_or(0, |place| place + 1);
        let (mut wrapped, mut lowest, mut stop) = (false, false, None);
        loop {
            while let Some(server) = self.list.get(next) {
                if !server.overloaded && i64::from(server.spec.weight) >= self.level {
                    self.last = Some(server.number);
                    return Some(next);
                }
                if Some(next) == stop {
                    return None;
                }
                next += 1;
            }
            next = 0;
            self.level -= self.step;
            if self.level <= 0 {
                self.level = self.top;
                if lowest || begin.is_none() {
                    self.last = None;
                    return None;
                }
                wrapped = true;
            }
            lowest = self.level <= self.step;
            if lowest && wrapped {
                stop = begin;
            }
        }
    }

    /// The first of the list that nothing is better than.
    fn best(
        &self,
        fits: impl Fn(&Server) -> bool,
        better: impl Fn(&Server, &Server) -> bool,
    ) -> Option<usize> {
        let mut best: Option<usize> = None;
        for (place, server) in self.list.iter().enumerate().filter(|(_, server)| fits(server)) {
            if best.is_none_or(|best| better(server, &self.list[best])) {
                best = Some(place);
            }
        }
        best
    }

    fn weighted_least(&self) -> Option<usize> {
        self.best(Server::usable, |a, b| a.less(a.overhead(), b, b.overhead()))
    }

    fn shortest_delay(&self) -> Option<usize> {
        self.best(Server::usable, |a, b| a.less((a.active + 1).into(), b, (b.active + 1).into()))
    }

    fn is_overloaded(&self, server: &Server) -> bool {
        server.active > server.spec.weight
            && self.list.iter().any(|other| other.active * 2 < other.spec.weight)
    }

    fn locality(&mut self, request: &Request) -> Option<usize> {
        let now = request.now.0;
        self.cache.retain(|_, (_, used, _)| now - *used < DAY);
        let known = self.cache.get(&request.destination).cloned();
        if let Some((set, _, _)) = &known
            && let Some(place) = self.place(set.first().copied())
            && let server = &self.list[place]
            && server.spec.weight > 0
            && !self.is_overloaded(server)
        {
            self.cache.get_mut(&request.destination)?.1 = now;
            return Some(place);
        }
        if let Some(entry) = self.cache.get_mut(&request.destination) {
            entry.1 = now;
        }
        let place = self.weighted_least()?;
        self.cache.insert(request.destination, (vec![self.list[place].number], now, now));
        Some(place)
    }

    fn replicated(&mut self, request: &Request) -> Option<usize> {
        let now = request.now.0;
        self.cache.retain(|_, (_, used, _)| now - *used < DAY);
        let Some((mut set, _, mut changed)) = self.cache.remove(&request.destination) else {
            let place = self.weighted_least()?;
            self.cache.insert(request.destination, (vec![self.list[place].number], now, now));
            return Some(place);
        };
        let mut least: Option<usize> = None;
        for place in set.iter().filter_map(|&number| self.place(Some(number))) {
            let server = &self.list[place];
            let less = |other: usize| {
                let other = &self.list[other];
                server.less(server.overhead(), other, other.overhead())
            };
            if server.usable() && least.is_none_or(less) {
                least = Some(place);
            }
        }
        if set.len() > 1 && now - changed > DAY {
            let mut most: Option<Server> = None;
            for &number in &set {
                let server = *self.server(number);
                let more = |other: Server| other.less(other.overhead(), &server, server.overhead());
                if server.spec.weight > 0 && most.is_none_or(more) {
                    most = Some(server);
                }
            }
            if let Some(most) = most {
                set.retain(|&number| number != most.number);
                changed = now;
            }
        }
        let kept = least.filter(|&place| !self.is_overloaded(&self.list[place]));
        let chosen = kept.or_else(|| self.weighted_least());
        if kept.is_none()
            && let Some(place) = chosen
            && !set.contains(&self.list[place].number)
        {
            set.insert(0, self.list[place].number);
            changed = now;
        }
        self.cache.insert(request.destination, (set, now, changed));
        chosen
    }

    /// The buckets of `sh` and `dh`, in shares.
    fn buckets(&self, shares: impl Fn(&Server) -> u32) -> Vec<usize> {
        let mut buckets = Vec::new();
        while buckets.len() < 256 && !self.list.is_empty() {
            for (place, server) in self.list.iter().enumerate() {
                (0..shares(server)).for_each(|_| buckets.push(place));
            }
        }
        buckets.truncate(256);
        buckets
    }

    /// The table of `mh`, by each server's whole preference list, as the paper has it.
    fn maglev(&self) -> Vec<usize> {
        let size = 4093;
        let divisor = self.list.iter().map(|server| server.last_weight).fold(0, gcd).max(1);
        let most = self.list.iter().map(|server| server.last_weight / divisor).max().unwrap_or(0);
        let mut shift = 0;
        while most >> shift > 63 {
            shift += 1;
        }
        let turns = |server: &Server| match server.last_weight {
            0 => 0,
            weight => ((weight / divisor) >> shift).max(1),
        };
        if self.list.iter().all(|server| turns(server) == 0) {
            return Vec::new();
        }
        let preferences: Vec<Vec<usize>> = self
            .list
            .iter()
            .map(|server| {
                let key = address(server.number).address().fold() + 80;
                let offset = hash(key, 2_654_435_761) % size;
                let skip = hash(key, 2_654_446_892) % (size - 1) + 1;
                (0..size).map(|j| ((offset + j * skip) % size) as usize).collect()
            })
            .collect();
        let mut next = vec![0; self.list.len()];
        let mut table = vec![None; size as usize];
        let mut filled = 0;
        loop {
            for (place, server) in self.list.iter().enumerate() {
                for _ in 0..turns(server) {
                    while table[preferences[place][next[place]]].is_some() {
                        next[place] += 1;
                    }
                    table[preferences[place][next[place]]] = Some(place);
                    filled += 1;
                    if filled == size {
                        return table.into_iter().flatten().collect();
                    }
                }
            }
        }
    }

    fn hashed(&self, request: &Request) -> Option<usize> {
        let port = if self.flags & PORT == 0 { 0 } else { u32::from(request.source_port) };
        let key = request.source.fold() + port;
        let (buckets, tries): (Vec<usize>, Vec<usize>) = match self.kind {
            SchedulerKind::DestinationHash => (self.buckets(|_| 1), vec![golden(request.destination.fold())]),
            SchedulerKind::SourceHash => {
                let first = golden(key);
                let more = (0..256).map(|i| ((first + i) % 256 + golden(key)) % 256);
                (
                    self.buckets(|server| server.spec.weight.max(1)),
                    std::iter::once(first).chain(more).collect(),
                )
            }
            _ => {
                let at = |key| (hash(key, 2_654_435_761) % 4093) as usize;
                let first = at(key);
                let more = (0..4093).map(|i| at(key + ((first + i) % 4093) as u32));
                (self.maglev(), std::iter::once(first).chain(more).collect())
            }
        };
        let count = if self.flags & FALLBACK == 0 { 1 } else { tries.len() };
        let mut servers = tries[..count].iter().filter_map(|&at| buckets.get(at).copied());
        servers.find(|&place| self.list[place].usable())
    }

    fn connect(&mut self, request: &Request) -> Option<u32> {
        let heavier = |a: &Server, b: &Server| a.spec.weight > b.spec.weight;
        let place = match self.kind {
            SchedulerKind::RoundRobin => self.round_robin(),
            SchedulerKind::WeightedRoundRobin => self.weighted_round_robin(),
            SchedulerKind::LeastConnection => self.best(Server::usable, |a, b| a.overhead() < b.overhead()),
            SchedulerKind::WeightedLeastConnection => self.weighted_least(),
            SchedulerKind::ShortestExpectedDelay => self.shortest_delay(),
            SchedulerKind::NeverQueue => {
                let idle = self.list.iter().position(|server| server.usable() && server.active == 0);
                idle.or_else(|| self.shortest_delay())
            }
            SchedulerKind::Failover => self.best(Server::usable, heavier),
            SchedulerKind::Overflow => {
                self.best(|server| server.usable() && server.active <= server.spec.weight, heavier)
            }
            SchedulerKind::LocalityLeastConnection => self.locality(request),
            SchedulerKind::LocalityReplicated => self.replicated(request),
            _ => self.hashed(request),
        }?;
        let server = &mut self.list[place];
        server.active += 1;
        server.after_bind();
        Some(server.number)
    }

    fn add(&mut self, number: u32, spec: ServerSpec) {
        let at = self.gone.iter().position(|server| server.number == number);
        let mut server = at.map_or(Server { number, ..Server::default() }, |at| self.gone.remove(at));
        server.last_weight = 0;
        self.list.insert(0, server);
        self.set(number, spec);
    }

    fn set(&mut self, number: u32, spec: ServerSpec) {
        let server = self.server(number);
        server.spec = spec;
        server.after_bind();
        server.after_end();
        if spec.weight > 0 {
            server.last_weight = spec.weight;
        }
        self.changed();
    }

    fn delete(&mut self, number: u32) {
        let place = self.place(Some(number)).unwrap();
        let server = self.list.remove(place);
        self.gone.push(server);
        if self.last == Some(number) {
            self.last = place.checked_sub(1).map(|before| self.list[before].number);
        }
        self.changed();
    }
}

/// The kernel's hash, by the standard library's hasher of the same kind: a key other than 0 is not to be had
/// there, so this is the definition written out once more, in steps.
fn hash(word: u32, key: u64) -> u32 {
    let text = b"somepseudorandomlygeneratedbytes";
    let mut v: Vec<u64> =
        text.chunks(8).map(|part| u64::from_be_bytes(part.try_into().unwrap()) ^ key).collect();
    let mix = |v: &mut Vec<u64>, a: usize, b: usize, turn: u32| {
        v[a] = v[a].wrapping_add(v[b]);
        v[b] = v[b].rotate_left(turn) ^ v[a];
    };
    let sip = |v: &mut Vec<u64>| {
        mix(v, 0, 1, 13);
        v[0] = v[0].rotate_left(32);
        mix(v, 2, 3, 16);
        mix(v, 0, 3, 21);
        mix(v, 2, 1, 17);
        v[2] = v[2].rotate_left(32);
    };
    let block = 0x0400_0000_0000_0000 | u64::from(word);
    v[3] ^= block;
    sip(&mut v);
    v[0] ^= block;
    v[2] ^= 0xff;
    (0..3).for_each(|_| sip(&mut v));
    v.into_iter().fold(0, |sum, word| sum ^ word) as u32
}

fn spec(weight: u8, upper: u8) -> ServerSpec {
    let weight = if weight.is_multiple_of(5) { 0 } else { u32::from(weight % 12) };
    let upper = if upper < 128 { 0 } else { u32::from(upper % 8) };
    let lower = if upper == 0 { 0 } else { upper / 2 };
    ServerSpec { weight, upper, lower, ..ServerSpec::default() }
}

/// Flags, the weights of the first servers, and what happens.
type Story = (u8, Vec<u8>, Vec<(u8, u8, u8)>);

fn check(scheduler: SchedulerKind) {
    let input = bolero::check!().with_type();
    input.for_each(|(flags, start, steps): &Story| {
        let flags = u32::from(*flags) << 3 & (FALLBACK | PORT);
        let mut bench = Bench::new(scheduler, flags);
        let mut model = Model::new(scheduler, flags);
        for (&weight, number) in start.iter().zip(1..=6) {
            bench.add(number, spec(weight, 0));
            model.add(number, spec(weight, 0));
        }
        let mut request = Request {
            source: Address::V4(0xc0a8_120a),
            source_port: 1,
            destination: VIP.address(),
            now: Tick(1),
        };
        // Slot, server, whether it is active.
        let mut open: Vec<(u32, u32, bool)> = Vec::new();
        for &(step, a, b) in steps {
            let number = u32::from(a % 8) + 1;
            let listed = model.place(Some(number)).is_some();
            let picked = usize::from(a).checked_rem(open.len());
            match step % 16 {
                8 | 9 => {
                    if let Some((slot, number, active)) = picked.map(|at| &mut open[at]) {
                        let states = [State::FinWait, State::Established];
                        let (from, to) = (states[usize::from(*active)], states[usize::from(!*active)]);
                        bench.servers.change(*slot, from, to);
                        let server = model.server(*number);
                        let (less, more) = if *active {
                            (&mut server.active, &mut server.inactive)
                        } else {
                            (&mut server.inactive, &mut server.active)
                        };
                        *less -= 1;
                        *more += 1;
                        *active = !*active;
                    }
                }
                10 | 11 => {
                    if let Some((slot, number, active)) = picked.map(|at| open.swap_remove(at)) {
                        bench.servers.unbind(slot, if active { State::Established } else { State::Close });
                        let server = model.server(number);
                        *(if active { &mut server.active } else { &mut server.inactive }) -= 1;
                        server.after_end();
                    }
                }
                12 if listed => {
                    bench.set(number, spec(b, a));
                    model.set(number, spec(b, a));
                }
                13 if listed => {
                    bench.delete(number);
                    model.delete(number);
                }
                12 | 13 => {
                    bench.add(number, spec(b, a));
                    model.add(number, spec(b, a));
                }
                14 if a < 40 => {
                    let flags = u32::from(b) & (FALLBACK | PORT);
                    bench.reschedule(scheduler, flags);
                    model.flags = flags;
                }
                14 if a < 60 => {
                    // There and back: it knows nothing any more.
                    bench.reschedule(SchedulerKind::ALL[usize::from(b) % 13], flags);
                    bench.view();
                    let away = bench.scheduler;
                    bench.reschedule(scheduler, flags);
                    model.flags = flags;
                    if away != scheduler {
                        model.restart();
                    }
                }
                15 => request.now = request.now.plus(u32::from(a) * 36_000 / 8),
                _ => {
                    request.source = Address::V4(0xc0a8_1200 + u32::from(a));
                    request.source_port = b.into();
                    let found = bench.connect(&request);
                    assert_eq!(found.map(|(_, number)| number), model.connect(&request), "{request:?}");
                    open.extend(found.map(|(slot, number)| (slot, number, true)));
                }
            }
        }
        for server in bench.catalog.servers(bench.catalog.service(super::KEY).unwrap()) {
            let number = server.address.address().fold() - address(0).address().fold();
            let expected = model.server(number);
            assert_eq!((server.load.active, server.load.inactive), (expected.active, expected.inactive));
        }
    });
}

macro_rules! as_the_model {
    ($($name:ident: $kind:ident;)+) => {$(
        #[test]
        fn $name() {
            check(SchedulerKind::$kind);
        }
    )+};
}
as_the_model! {
    rr: RoundRobin;
    wrr: WeightedRoundRobin;
    lc: LeastConnection;
    wlc: WeightedLeastConnection;
    lblc: LocalityLeastConnection;
    lblcr: LocalityReplicated;
    dh: DestinationHash;
    sh: SourceHash;
    sed: ShortestExpectedDelay;
    nq: NeverQueue;
    fo: Failover;
    ovf: Overflow;
    mh: Maglev;
}
