//! A worker's way through a burst.
//!
//! Packets of established TCP connections, and of UDP, go the short way of `steady`. This file is the general way, of
//! every packet of an existing connection. What is rare lies apart: packets without an entry in `unknown`,
//! ICMP errors that are sent in `refusal`, those that are translated in `related`, fragments in `reassembly`, packets
//! that are cut short in `cut`, and packets that reach their server as they are in `untranslated`.

mod cpu;
mod cut;
mod frames;
mod ftp;
mod hairpin;
mod ipsec;
mod kind;
mod one_packet;
mod persistence;
mod reassembly;
mod refusal;
mod related;
mod steady;
mod tables;
mod unknown;
mod untranslated;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use arc_swap::ArcSwap;
use arc_swap::cache::Cache;
use director_flow::{Table, Tick, V4, V6, WorkerLocal};
use director_packet::ethernet::HEADER;
use director_packet::nat::{End, set_macs};
use director_packet::options::{self, Passed};
use director_packet::{Address, Endpoint, Segment, UDP, ipv6, parse};

use crate::adjacency::{Adjacencies, Adjacency, Link};
use crate::entry::{Entry, KeptWay, Load};
use crate::fragments::Fragments;
use crate::ftp::Ftp;
use crate::reason::Reason;
use crate::servers::Servers;
use crate::service::Forward;
use crate::snapshot::{PortView, Snapshot, Sysctls};
use crate::state::{Direction, State};
use crate::templates::Templates;

use cpu::Level;
pub use frames::{BURST, Frames, Verdict};
pub use hairpin::HAIRPIN_PORTS;
pub use reassembly::Part;
use reassembly::Reassembly;
use refusal::Refusals;
pub use refusal::Reply;
pub use steady::Batch;
use tables::{Locals, Whose};

/// "Don't fragment", in the byte of the flags of IPv4.
const DONT_FRAGMENT: u8 = 0x40;

/// A day in milliseconds.
const DAY: u32 = 24 * 60 * 60 * 1000;

/// What all workers share.
pub struct Shared {
    /// The configuration.
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    /// The real servers' slots.
    pub servers: Arc<Servers>,
    /// The next hops.
    pub adjacencies: Adjacencies,
    /// The persistence templates.
    pub templates: Templates,
    /// Fragments that wait for the rest of their packet.
    pub(crate) fragments: Fragments,
    /// Control connections of FTP.
    pub(crate) ftp: Ftp,
    /// New connections until `drop_packet` drops one.
    drop_in: AtomicU32,
    /// Counts packets that are put into tunnels, for what tells their fragments apart.
    wrapped: AtomicU32,
    /// By how much milliseconds since midnight are ahead of those that workers are given, modulo 2^32.
    midnight: AtomicU32,
}

impl Shared {
    /// Nothing configured yet.
    #[must_use]
    pub(crate) fn new(
        servers: Arc<Servers>,
        adjacencies: Adjacencies,
        templates: Templates,
        ftp: Ftp,
    ) -> Self {
        Self {
            snapshot: Arc::new(ArcSwap::from_pointee(Snapshot::default())),
            servers,
            adjacencies,
            templates,
            fragments: Fragments::new(),
            ftp,
            drop_in: AtomicU32::new(0),
            wrapped: AtomicU32::new(0),
            midnight: AtomicU32::new(0),
        }
    }

    /// The identification of another packet of the director's own; nothing else depends on it, hence Relaxed.
    fn next_identification(&self) -> u16 {
        self.wrapped.fetch_add(1, Ordering::Relaxed) as u16
    }

    /// Says what time of day it is, in milliseconds since midnight UT, at `milliseconds` of the workers' clock; nothing else
    /// depends on it, hence Relaxed.
    pub(crate) fn set_time_of_day(&self, milliseconds: u32, since_midnight: u32) {
        // A day more: a worker's clock may be a little behind, and midnight in between.
        self.midnight.store((since_midnight + DAY).wrapping_sub(milliseconds), Ordering::Relaxed);
    }

    /// The time of day, in milliseconds since midnight UT.
    fn time_of_day(&self, milliseconds: u32) -> u32 {
        milliseconds.wrapping_add(self.midnight.load(Ordering::Relaxed)) % DAY
    }

    /// Whether `drop_packet` drops this new connection: every `am_droprate`-th, beginning with the first; none
    /// at a rate of 0. One counter for all workers, and nothing else depends on it, hence Relaxed.
    fn drops_one(&self, sysctls: &Sysctls) -> bool {
        let rate = sysctls.am_droprate;
        let step = |left: u32| Some(if left <= 1 { rate } else { left - 1 });
        sysctls.drop_packet == 3
            && rate != 0
            && self
                .drop_in
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, step)
                .is_ok_and(|left| left <= 1)
    }
}

/// A segment on its way.
#[derive(Clone, Copy)]
struct Lane {
    at: usize,
    segment: Segment,
    /// The length in bytes of the longest packet that it came in: its own, or that of a fragment.
    longest: u16,
    /// The end that is the client's.
    client: Endpoint,
    /// The end that is not: the virtual service, or the real server.
    other: Endpoint,
    direction: Direction,
}

impl Lane {
    /// The client's end is the source of a packet to the director and the destination of any other: a virtual
    /// service whose address is not the director's own is none (the kernel routes its packets), and a client
    /// cannot have an address of the director's.
    fn new(snapshot: &Snapshot, at: usize, segment: Segment) -> Self {
        let Segment { source, destination, .. } = segment;
        let (client, other, direction) = if snapshot.is_local(destination.address()) {
            (source, destination, Direction::In)
        } else {
            (destination, source, Direction::Out)
        };
        Self { at, segment, longest: segment.length, client, other, direction }
    }

    /// Whom it is of.
    #[inline]
    fn whose(&self) -> Whose {
        let Self { client, other, direction, .. } = *self;
        Whose { client, other, protocol: self.segment.protocol, direction }
    }

    /// The state of an entry after it.
    #[inline]
    fn next_state(&self, moment: &Moment<'_>, entry: Entry<'_>, old: State) -> State {
        let Segment { protocol, flags, .. } = self.segment;
        if entry.forward().is_one_sided() {
            return moment.snapshot.next_one_sided(old, protocol, flags);
        }
        moment.snapshot.next_state(old, self.direction, protocol, flags)
    }

    /// Whether its IPv4 header has options.
    #[inline]
    fn has_options(&self) -> bool {
        self.segment.header > options::LEAST && !self.client.is_v6()
    }

    /// Its header, of IPv4.
    fn header<'a>(&self, frame: &'a mut [u8]) -> &'a mut [u8] {
        frame.get_mut(HEADER..HEADER + usize::from(self.segment.header)).unwrap_or_default()
    }

    /// Whether it is too long for an MTU and must not be split, as no packet of IPv6 may be by a router.
    fn is_too_big(&self, mtu: u16, frames: &mut impl Frames) -> bool {
        self.longest > mtu
            && (self.client.is_v6()
                || frames.head(self.at).get(HEADER + 6).is_none_or(|flags| flags & DONT_FRAGMENT != 0))
    }
}

/// What does not change during a burst.
struct Moment<'a> {
    now: Tick,
    milliseconds: u32,
    port: &'a PortView,
    port_number: u8,
    snapshot: &'a Snapshot,
    table: &'a Table<V4>,
    table_v6: &'a Table<V6>,
    shared: &'a Shared,
}

/// A worker.
pub struct Worker {
    table: Arc<Table<V4>>,
    table_v6: Arc<Table<V6>>,
    shared: Arc<Shared>,
    snapshot: Cache<Arc<ArcSwap<Snapshot>>, Arc<Snapshot>>,
    core: Core,
    level: Level,
}

/// The part of a worker that changes while it works.
struct Core {
    local: Locals,
    refusals: Refusals,
    reassembly: Reassembly,
    /// For whom each frame that waits was.
    held: [Option<Endpoint>; BURST],
    hairpin_ports: hairpin::Ports,
}

impl Worker {
    /// A worker of what is shared, with its part of the tables.
    #[must_use]
    pub fn new(shared: Arc<Shared>, v4: WorkerLocal<V4>, v6: WorkerLocal<V6>) -> Self {
        let snapshot = Cache::new(shared.snapshot.clone());
        let (table, table_v6) = (v4.table().clone(), v6.table().clone());
        let local = Locals::new(v4, v6);
        // As many ICMP errors again for the packets that fragments of a burst complete.
        let refusals = Refusals::new(2 * BURST);
        let hairpin_ports = hairpin::Ports::new(local.id(), shared.servers.workers());
        let core =
            Core { local, refusals, reassembly: Reassembly::new(), held: [None; BURST], hairpin_ports };
        Self { table, table_v6, shared, snapshot, core, level: Level::detect() }
    }

    /// Its number, from 0.
    #[must_use]
    pub fn id(&self) -> usize {
        self.core.local.id()
    }

    /// To be called at the top of every loop: nothing of the last burst is held any more.
    #[inline]
    pub fn quiescent(&mut self) {
        self.core.local.quiescent();
    }

    /// To be called before it sleeps: the others need not wait for it.
    pub fn offline(&mut self) {
        self.core.local.offline();
    }

    /// The configuration it works by now.
    pub fn snapshot(&mut self) -> &Arc<Snapshot> {
        self.snapshot.load()
    }

    /// The ICMP errors of the last burst.
    #[must_use]
    pub fn replies(&self) -> &[Reply] {
        self.core.refusals.replies()
    }

    /// The virtual service that a frame of the last burst was for that is to wait ([`Verdict::Hold`]); none for
    /// a server's.
    #[must_use]
    pub fn held_for(&self, at: usize) -> Option<Endpoint> {
        self.core.held.get(at).copied().flatten()
    }

    /// Looks at a burst that came in on a port, the first of three passes; the buckets are fetched meanwhile.
    #[inline]
    pub fn look(&mut self, port: u8, frames: &mut impl Frames, batch: &mut Batch) {
        batch.begin(port, frames.count());
        let Self { table, table_v6, shared, snapshot, core, level } = self;
        let tables = (&**table, &**table_v6);
        if let Some(moment) = Moment::of(Tick(0), 0, port, snapshot.load(), tables, shared) {
            level.look(core, &moment, frames, batch);
        }
    }

    /// Looks for the entries of a burst, the second pass; the records are fetched meanwhile.
    #[inline]
    pub fn seek(&mut self, batch: &mut Batch) {
        self.level.seek((&self.table, &self.table_v6), batch);
    }

    /// Decides about a burst that was looked at, at `now`, which is `milliseconds` of any clock. `verdicts` are
    /// filled for each frame; frames that are to be sent or to wait are rewritten. Returns the port by which
    /// every frame of the burst leaves, where there is one.
    ///
    /// To be called between [`Self::quiescent`] and [`Self::offline`]: it holds what it finds.
    #[inline]
    pub fn decide(
        &mut self,
        now: Tick,
        milliseconds: u32,
        frames: &mut impl Frames,
        batch: &mut Batch,
        verdicts: &mut [Verdict; BURST],
    ) -> Option<u8> {
        let Self { table, table_v6, shared, snapshot, core, level } = self;
        core.refusals.clear();
        let tables = (&**table, &**table_v6);
        let Some(moment) = Moment::of(now, milliseconds, batch.port(), snapshot.load(), tables, shared)
        else {
            verdicts.fill(Verdict::Drop(Reason::PortDown));
            return None;
        };
        level.decide(core, &moment, frames, batch, verdicts)
    }

    /// The three passes in a row.
    pub fn process(
        &mut self,
        now: Tick,
        milliseconds: u32,
        port: u8,
        frames: &mut impl Frames,
        verdicts: &mut [Verdict; BURST],
    ) -> Option<u8> {
        let mut batch = Batch::new();
        self.look(port, frames, &mut batch);
        self.seek(&mut batch);
        self.decide(now, milliseconds, frames, &mut batch, verdicts)
    }
}

impl<'a> Moment<'a> {
    #[inline]
    fn of(
        now: Tick,
        milliseconds: u32,
        port_number: u8,
        snapshot: &'a Snapshot,
        (table, table_v6): (&'a Table<V4>, &'a Table<V6>),
        shared: &'a Shared,
    ) -> Option<Self> {
        let port = snapshot.ports.get(usize::from(port_number))?;
        Some(Self { now, milliseconds, port, port_number, snapshot, table, table_v6, shared })
    }
}

impl Moment<'_> {
    /// A number that an entry alone has, whichever table it is in.
    #[inline]
    fn number(&self, entry: Entry<'_>) -> u32 {
        let before = if matches!(entry, Entry::V6(..)) { self.table.capacity() } else { 0 };
        before + entry.index().get()
    }
}

impl Core {
    /// The way of every frame.
    #[inline(never)]
    fn general(&mut self, moment: &Moment<'_>, at: usize, frames: &mut impl Frames) -> Verdict {
        let length = frames.length(at);
        let mut parsed = parse(frames.head(at), length, moment.port.mac);
        // One, as the kernel's reassembly does. Further ones are passed over.
        if let director_packet::Verdict::Segment(segment) = parsed
            && segment.source.is_v6()
            && usize::from(segment.header) > ipv6::HEADER
            && self.take_off_fragment_header(moment, at, frames)
        {
            let length = frames.length(at);
            parsed = parse(frames.head(at), length, moment.port.mac);
        }
        let director_packet::Verdict::Segment(segment) = parsed else {
            return self.not_a_segment(moment, at, parsed, frames);
        };
        if moment.snapshot.is_off(segment.source.is_v6()) {
            return Verdict::Kernel;
        }
        self.segment(moment, &Lane::new(moment.snapshot, at, segment), frames)
    }

    /// The way of every segment.
    #[inline(always)]
    fn segment(&mut self, moment: &Moment<'_>, lane: &Lane, frames: &mut impl Frames) -> Verdict {
        match self.local.find(moment, lane.whose()) {
            Some(entry) => self.hit(moment, lane, entry, frames),
            None => self.without_entry(moment, lane, frames),
        }
    }

    /// A packet of an existing entry.
    fn hit(
        &mut self,
        moment: &Moment<'_>,
        lane: &Lane,
        entry: Entry<'_>,
        frames: &mut impl Frames,
    ) -> Verdict {
        if lane.direction == Direction::In {
            if lane.segment.opens() && unknown::is_new(moment, entry) {
                self.local.kill(entry);
                return self.schedule(moment, lane, frames);
            }
            if moment.shared.servers.is_gone(entry.slot()) {
                // Before its way is found anew: `steady` takes a way for a sign that the server is there.
                return self.server_gone(moment, lane, entry, frames);
            }
        }
        let way = Way::of(moment, entry, lane.direction);
        if lane.direction == Direction::Out
            && let Some(verdict) = self.hindered(moment, lane, &way, frames)
        {
            // `steady` takes a way for a sign that the template, below, was told.
            entry.forget_way(lane.direction);
            return verdict;
        }
        if lane.direction == Direction::Out && lane.segment.protocol == UDP {
            moment.shared.templates.assure(moment.number(entry));
        }
        if !self.advance(moment, lane, entry) {
            return self.without_entry(moment, lane, frames);
        }
        self.forward(moment, lane, entry, way, frames)
    }

    /// What keeps a server's packet from being forwarded, as the kernel looks at it before IPVS does: the
    /// switch, the route, the time to live, the MTU towards the client. The entry learns nothing of such a
    /// packet.
    #[inline]
    fn hindered(
        &mut self,
        moment: &Moment<'_>,
        lane: &Lane,
        way: &Result<Way<'_>, Reason>,
        frames: &mut impl Frames,
    ) -> Option<Verdict> {
        if !moment.snapshot.forwards(lane.client) {
            return Some(Verdict::Drop(Reason::ForwardingOff));
        }
        let mtu = match way {
            Ok(way) => way.out.mtu,
            Err(reason) => return Some(self.no_way_out(moment, lane, *reason, frames)),
        };
        if lane.segment.ttl <= 1 || lane.is_too_big(mtu, frames) {
            return Some(self.refuse_server(moment, lane, mtu, frames));
        }
        None
    }

    /// Moves the entry's state and restarts its timer. False: the entry has just died.
    #[inline]
    fn advance(&mut self, moment: &Moment<'_>, lane: &Lane, entry: Entry<'_>) -> bool {
        let clock = entry.clock();
        let old = State::of(lane.segment.protocol, clock.state());
        let state = lane.next_state(moment, entry, old);
        let timeout = moment.snapshot.timeouts.of(state);
        if clock.is_live()
            && !clock.is_stale(moment.now)
            && clock.state() == state.kept()
            && clock.timeout() == timeout
        {
            return true;
        }
        self.restart(moment, lane, entry)
    }

    /// The part of [`Self::advance`] that writes. Each step from a state to a state is one
    /// compare-and-exchange that succeeded, and is counted once: so the counts of the server are exact,
    /// however many workers have packets of this entry.
    #[inline(never)]
    fn restart(&mut self, moment: &Moment<'_>, lane: &Lane, entry: Entry<'_>) -> bool {
        let mut clock = entry.clock();
        loop {
            if clock.is_dead() {
                return false;
            }
            let old = State::of(lane.segment.protocol, clock.state());
            let new = lane.next_state(moment, entry, old);
            let timeout = moment.snapshot.timeouts.of(new);
            // Another worker's tick may be ahead of this one's.
            let seen = if moment.now.since(clock.seen()) > 0 { moment.now } else { clock.seen() };
            let next = clock.with_seen(seen).with_state(new.kept()).with_timeout(timeout);
            match entry.update(clock, next) {
                Ok(()) => {
                    moment.shared.servers.change(entry.slot(), old, new);
                    if new.is_established() && old != new {
                        moment.shared.templates.assure(moment.number(entry));
                    }
                    // The wheel looks at the entry no later than its old timeout after it was last seen; a
                    // shorter one it must be told of.
                    if timeout < clock.timeout() {
                        self.local.notify(entry);
                    }
                    return true;
                }
                Err(found) => clock = found,
            }
        }
    }

    /// Counts a packet of an entry, translates it and sends it on its way.
    #[inline]
    fn forward(
        &mut self,
        moment: &Moment<'_>,
        lane: &Lane,
        entry: Entry<'_>,
        way: Result<Way<'_>, Reason>,
        frames: &mut impl Frames,
    ) -> Verdict {
        let load = entry.load(lane.direction);
        if entry.is_ftp_control()
            && let Ok(way) = &way
        {
            return match self.ftp(moment, lane, entry, way.out.mtu, frames) {
                Ok(lane) => self.carry(moment, &lane, load, Ok(*way), frames),
                Err(reason) => Verdict::Drop(reason),
            };
        }
        self.carry(moment, lane, load, way, frames)
    }

    /// Counts a packet, translates it and sends it on its way.
    #[inline]
    fn carry(
        &mut self,
        moment: &Moment<'_>,
        lane: &Lane,
        load: Load,
        way: Result<Way<'_>, Reason>,
        frames: &mut impl Frames,
    ) -> Verdict {
        let Lane { segment, direction, .. } = lane;
        let (servers, worker) = (&moment.shared.servers, self.local.id());
        match direction {
            // To a deleted server none comes as far as here.
            Direction::In => servers.count_known(worker, load.slot, Direction::In, segment.length),
            Direction::Out => servers.count(worker, load.slot, Direction::Out, segment.length),
        }
        if load.forward.is_one_sided() && moment.snapshot.ends_here(load.change.to.address()) {
            // The director serves itself.
            return Verdict::Kernel;
        }
        let way = match way {
            Ok(way) => way,
            Err(reason) => {
                return self.telling(moment, &load, |core| core.refuse(moment, lane, reason, frames));
            }
        };
        let room = untranslated::room(load.forward, load.change.to.address(), way.out.mtu);
        let end = match direction {
            Direction::In => {
                let may_be_split = load.forward == Forward::Tunnelling
                    && !moment.snapshot.sysctls.pmtu_disc
                    && !lane.client.is_v6();
                if segment.ttl <= 1 || !may_be_split && lane.is_too_big(room, frames) {
                    return self
                        .telling(moment, &load, |core| core.refuse_client(moment, lane, room, frames));
                }
                End::Destination
            }
            Direction::Out => End::Source,
        };
        if lane.has_options() {
            enter(moment, lane, load.service, way.out, frames.head(lane.at));
        }
        if load.forward == Forward::Masquerading {
            load.change.apply(frames.head(lane.at), segment, end);
            if let Some(stand_in) = load.stand_in {
                hairpin::replace(lane, stand_in, frames.head(lane.at));
            }
        } else {
            let server = load.change.to.address();
            let was_split = lane.longest != segment.length;
            let prepared =
                untranslated::prepare(moment, load.forward, server, &way, lane.at, was_split, frames);
            if let Err(reason) = prepared {
                return Verdict::Drop(reason);
            }
        }
        // A client that something stands for cannot be told: what waits does not say who it is.
        let may_be_told = *direction == Direction::In && load.stand_in.is_none();
        self.held[lane.at] = may_be_told.then_some(load.service);
        let verdict = way.take(frames.head(lane.at));
        if lane.longest > room { verdict.split(way.out.mtu) } else { verdict }
    }
}

/// Where an entry's packets go next.
#[derive(Clone, Copy)]
struct Way<'a> {
    adjacency: Adjacency,
    link: Link,
    out: &'a PortView,
}

impl<'a> Way<'a> {
    #[inline]
    fn of(moment: &Moment<'a>, entry: Entry<'_>, direction: Direction) -> Result<Self, Reason> {
        let adjacency = match entry.way(direction, moment.snapshot.fib_epoch) {
            Some(adjacency) => adjacency,
            None => find_way(moment, entry, direction)?,
        };
        Self::by(moment, adjacency)
    }

    /// That of a new entry to the server that was chosen for it, which is often the server's last one still.
    #[inline]
    fn of_new(moment: &Moment<'a>, entry: Entry<'_>) -> Result<Self, Reason> {
        let (servers, epoch) = (&moment.shared.servers, moment.snapshot.fib_epoch);
        if let Some(adjacency) = servers.way(entry.slot()).under(epoch) {
            entry.set_way(Direction::In, epoch, adjacency);
            return Self::by(moment, adjacency);
        }
        let way = Self::of(moment, entry, Direction::In)?;
        servers.keep_way(entry.slot(), KeptWay::new(epoch, way.adjacency));
        Ok(way)
    }

    /// That to an address, kept nowhere.
    fn to(moment: &Moment<'a>, address: Address) -> Result<Self, Reason> {
        let hop = moment.snapshot.fib.hop(address).ok_or(Reason::NoRoute)?;
        let adjacency = moment.shared.adjacencies.entry(hop).map_err(|_| Reason::NeighbourTableFull)?;
        Self::by(moment, adjacency)
    }

    #[inline]
    fn by(moment: &Moment<'a>, adjacency: Adjacency) -> Result<Self, Reason> {
        let link = moment.shared.adjacencies.link(adjacency);
        let out = moment.snapshot.ports.get(usize::from(link.port)).ok_or(Reason::NoRoute)?;
        Ok(Self { adjacency, link, out })
    }

    /// Sends a translated frame this way.
    #[inline]
    fn take(&self, frame: &mut [u8]) -> Verdict {
        match self.link.mac {
            Some(mac) if self.out.up => {
                set_macs(frame, mac, self.out.mac);
                Verdict::Send(self.link.port)
            }
            Some(_) => Verdict::Drop(Reason::PortDown),
            None => Verdict::Hold(self.adjacency),
        }
    }
}

/// Enters the director into the way, or the times, that a packet records: as the virtual service that the client knows, and
/// as the kernel would for a server's packet, which it takes for one that is routed.
#[cold]
fn enter(moment: &Moment<'_>, lane: &Lane, service: Endpoint, out: &PortView, frame: &mut [u8]) {
    let address = match lane.direction {
        Direction::In => service.address(),
        Direction::Out => out.address_for(lane.client),
    };
    if let Address::V4(address) = address {
        let passed = Passed { address, time: moment.shared.time_of_day(moment.milliseconds) };
        options::enter(lane.header(frame), passed, |own| moment.snapshot.is_local(Address::V4(own)));
    }
}

/// Asks the routing table, and keeps the answer with the entry.
#[cold]
fn find_way(moment: &Moment<'_>, entry: Entry<'_>, direction: Direction) -> Result<Adjacency, Reason> {
    let to = match direction {
        Direction::In => entry.server(),
        Direction::Out => entry.client(),
    };
    let hop = moment.snapshot.fib.hop(to.address()).ok_or(Reason::NoRoute)?;
    let way = moment.shared.adjacencies.entry(hop).map_err(|_| Reason::NeighbourTableFull)?;
    // Packets of a deleted server are not counted, which `steady` does.
    if !moment.shared.servers.is_gone(entry.slot()) {
        entry.set_way(direction, moment.snapshot.fib_epoch, way);
    }
    Ok(way)
}
