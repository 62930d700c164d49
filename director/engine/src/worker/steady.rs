//! The packets of established TCP connections, which nearly all are: three passes over a burst, between which
//! the caller may do something else while memory is fetched.
//!
//! The first reads each frame, hashes its client end and has the bucket fetched; the second compares tags and
//! has the record fetched; the third makes sure of the record, translates and counts. Whatever is not as simple as that — another protocol, a state
//! that changes, a way not found yet, a second entry with the same tag — is left to [`Core::general`], which
//! begins anew and knows every case; so this file decides nothing that is not decided there.

use director_flow::{Clock, Hash, Lookup, Probe, Record, SEEN_LAG, Table, V4, V4End};
use director_packet::nat::End;
use director_packet::plain::{Rewrite, Wanted};
use director_packet::tcp_flag::{ACK, FIN, RST, SYN};
use director_packet::{Endpoint4, TCP};

use super::cpu::Cpu;
use super::{BURST, Core, Frames, Moment, Verdict};
use crate::adjacency::{self, Adjacency};
use crate::entry::{self, Words};
use crate::servers::Counters;
use crate::snapshot::Local;
use crate::state::{Direction, State};

/// What the first passes know of a frame. Each field is put in where it lies: a struct that is made elsewhere
/// and copied has its fields stored one by one and read at once, for which a CPU waits.
///
/// 32 bytes, so that a frame's place in the burst is all there is to reckon.
#[derive(Clone, Copy)]
struct Glance {
    client: V4End,
    /// The word of the end that is not the client's: the virtual service, or the real server.
    other: u64,
    hash: Hash,
    probe: Probe,
    /// The length of the IPv4 packet in bytes; more than any where TCP's control bits say more than that. And
    /// [`Self::OUT`].
    size: u32,
}

const _: () = assert!(size_of::<Glance>() == 32);

impl Glance {
    /// Of a frame that is not plain.
    const NOTHING: Self = Self {
        client: V4End::from_bits(u64::MAX),
        other: 0,
        hash: Hash::NONE,
        probe: Probe::NONE,
        size: !Self::OUT,
    };

    /// Set in a size where the packet goes from the server to the client.
    const OUT: u32 = 1 << 31;
}

/// What is the same for every packet of a burst.
struct Steady<'a> {
    moment: &'a Moment<'a>,
    lookup: Lookup<'a, V4>,
    local: &'a Local,
    next_hops: adjacency::View<'a>,
    epoch: u32,
    wanted: Wanted,
    /// The clock of an established entry that was seen now.
    clock: Clock,
    counters: &'a [Counters],
}

/// Whether all frames leave by one port, and by which.
#[derive(Clone, Copy)]
struct Common {
    any: u32,
    all: u32,
}

impl Common {
    const NONE_YET: Self = Self { any: 0, all: u32::MAX };
    /// A frame that leaves by no port differs from one by any.
    const STAYS: u32 = 1 << 8;

    #[inline(always)]
    fn add(&mut self, port: u32) {
        self.any |= port;
        self.all &= port;
    }

    #[inline(always)]
    fn port(self) -> Option<u8> {
        (self.any == self.all && self.any < Self::STAYS).then_some(self.any as u8)
    }
}

/// A burst between its passes.
///
/// What is known of a frame is a hint: the last pass makes sure of all of it, so that time may pass and the
/// table may change in between.
pub struct Batch {
    glances: [Glance; BURST],
    /// How many frames there are.
    count: usize,
    /// A bit for each frame whose entry is to be searched for, if there is one.
    searched: u32,
    /// The configuration it was looked at under.
    serial: u32,
    port: u8,
}

impl Batch {
    /// Of no frame.
    #[must_use]
    pub const fn new() -> Self {
        Self { glances: [Glance::NOTHING; BURST], count: 0, searched: 0, serial: 0, port: 0 }
    }

    /// Begins a burst that came in on a port.
    #[inline]
    pub(super) fn begin(&mut self, port: u8, count: usize) {
        self.port = port;
        self.count = count.min(BURST);
    }

    /// The port it came in on.
    #[inline]
    #[must_use]
    pub const fn port(&self) -> u8 {
        self.port
    }

    /// How many frames there are; said so that a place below needs no check of bounds.
    #[inline(always)]
    fn count(&self) -> usize {
        self.count.min(BURST)
    }

    /// Between the passes, where a tag is not the only one of its kind: has all fetched that a search will look at.
    #[cold]
    fn prepare_search(&mut self, lookup: Lookup<'_, V4>) {
        for at in 0..self.count() {
            let Glance { hash, probe, .. } = self.glances[at];
            if probe.only().is_none() {
                lookup.prefetch_candidates(hash);
                self.searched |= 1 << at;
            }
        }
    }

    /// Forgets what was seen under another configuration.
    #[inline]
    fn keep_if(&mut self, serial: u32) {
        if self.serial != serial {
            self.glances.fill(Glance::NOTHING);
        }
    }
}

/// The numbers of the bits of a set; each is a place in a burst.
#[inline]
fn bits(mut set: u32) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let at = (set != 0).then(|| set.trailing_zeros() as usize)?;
        set &= set - 1;
        Some(at)
    })
}

const _: () = assert!(BURST == u32::BITS as usize);

impl Default for Batch {
    fn default() -> Self {
        Self::new()
    }
}

impl<'a> Steady<'a> {
    fn new(moment: &'a Moment<'a>, worker: usize) -> Self {
        let established = moment.snapshot.timeouts.of(State::Established);
        Self {
            moment,
            lookup: moment.table.lookup(),
            local: moment.snapshot.local(),
            next_hops: moment.shared.adjacencies.view(),
            epoch: moment.snapshot.fib_epoch,
            wanted: Wanted::new(moment.port.mac),
            clock: Clock::new(moment.now, State::Established as u8, established),
            counters: moment.shared.servers.counters(worker),
        }
    }
}

impl Core {
    /// The first pass.
    #[inline(always)]
    pub(super) fn look<C: Cpu>(&mut self, moment: &Moment<'_>, frames: &mut impl Frames, batch: &mut Batch) {
        let steady = Steady::new(moment, self.local.id());
        batch.serial = moment.snapshot.serial;
        if moment.snapshot.is_off(false) || !moment.snapshot.ip_forward {
            batch.glances.fill(Glance::NOTHING);
            return;
        }
        for at in 0..batch.count() {
            if steady.look::<C>(at, frames, &mut batch.glances[at]).is_none() {
                batch.glances[at] = Glance::NOTHING;
            }
        }
    }

    /// The second pass.
    #[inline(always)]
    pub(super) fn seek(table: &Table<V4>, batch: &mut Batch) {
        let lookup = table.lookup();
        let mut least = Probe::MOST;
        for at in 0..batch.count() {
            let glance = &mut batch.glances[at];
            glance.probe = lookup.probe(glance.hash);
            least = glance.probe.least(least);
        }
        batch.searched = 0;
        if least.only().is_none() {
            batch.prepare_search(lookup);
        }
    }

    /// The last pass. Returns the port by which every frame leaves, where there is one.
    #[inline(always)]
    pub(super) fn decide(
        &mut self,
        moment: &Moment<'_>,
        frames: &mut impl Frames,
        batch: &mut Batch,
        verdicts: &mut [Verdict; BURST],
    ) -> Option<u8> {
        batch.keep_if(moment.snapshot.serial);
        let steady = Steady::new(moment, self.local.id());
        for at in bits(batch.searched) {
            steady.lookup.prefetch_overflow(batch.glances[at].hash);
        }
        let mut common = Common::NONE_YET;
        #[expect(clippy::needless_range_loop, reason = "two iterators in step take more instructions")]
        for at in 0..batch.count() {
            if let Some(port) = steady.forward(at, &batch.glances[at], frames) {
                verdicts[at] = Verdict::Send(port);
                common.add(port.into());
            } else {
                verdicts[at] = self.general(moment, at, frames);
                common.add(if let Verdict::Send(port) = verdicts[at] { port.into() } else { Common::STAYS });
            }
        }
        common.port()
    }
}

impl Steady<'_> {
    /// The first pass. None: the frame is not plain.
    #[inline(always)]
    fn look<C: Cpu>(&self, at: usize, frames: &mut impl Frames, glance: &mut Glance) -> Option<()> {
        let (headers, total) = frames.headers(at)?;
        let frame = C::read(headers, total, &self.wanted)?;
        // As in `Lane::new`.
        let is_in = self.local.contains(frame.destination.address());
        let (end, other) =
            if is_in { (frame.source, frame.destination) } else { (frame.destination, frame.source) };
        let client = entry::client_end(end, TCP);
        let hash = self.lookup.hash(client);
        self.lookup.prefetch(hash);
        glance.client = client;
        glance.other = other.word();
        glance.hash = hash;
        let odd = (frame.flags & (SYN | FIN | RST | ACK)) ^ ACK;
        let direction = if is_in { 0 } else { Glance::OUT };
        glance.size = u32::from(frame.length) | u32::from(odd) << 16 | direction;
        Some(())
    }

    /// The third pass. None: the packet is to go the general way; nothing was done.
    ///
    /// Each direction has code of its own: packets that come in on one port mostly go one way.
    #[inline(always)]
    fn forward(&self, at: usize, glance: &Glance, frames: &mut impl Frames) -> Option<u8> {
        if glance.size & Glance::OUT == 0 {
            self.forward_to::<false>(at, glance, frames)
        } else {
            self.forward_to::<true>(at, glance, frames)
        }
    }

    #[inline(always)]
    fn forward_to<const OUT: bool>(
        &self,
        at: usize,
        glance: &Glance,
        frames: &mut impl Frames,
    ) -> Option<u8> {
        let direction = if OUT { Direction::Out } else { Direction::In };
        let record = match self.lookup.candidate(glance.probe) {
            Some(record) => record,
            None => self.search(glance, direction)?,
        };
        let words = Words::<OUT>(record);
        if record.end() != glance.client || !words.other_is(glance.other) {
            return None;
        }
        let way = words.way().number_under(self.epoch);
        let hop = self.next_hops.get(way)?.hot();
        let size = if OUT { glance.size & !Glance::OUT } else { glance.size };
        if size > hop.mtu() {
            return None;
        }
        // Last, since the entry learns nothing of a packet that does not go on.
        let age = self.clock.younger_by(record.clock());
        if age > u64::from(SEEN_LAG) && !self.refresh(record, age, Adjacency::from_number(way as u32)) {
            return None;
        }
        let counters = self.counters.get(words.slot() as usize)?;
        let (headers, _) = frames.headers(at)?;
        let (to, network, transport) = words.change();
        let end = if OUT { End::Source } else { End::Destination };
        Rewrite { to, network, transport, macs: (hop.first(), hop.last()) }.apply(headers, end);
        counters.count(direction, size);
        Some(hop.port())
    }

    /// The entry of a plain frame, where its tag is not the only one of its kind.
    #[inline(never)]
    fn search(&self, glance: &Glance, direction: Direction) -> Option<&Record<V4>> {
        if glance.size & !Glance::OUT > u32::from(u16::MAX) {
            return None;
        }
        let other = Endpoint4::from_word(glance.other).into();
        let found = self
            .moment
            .table
            .find(glance.hash, |record| entry::matches(record, glance.client, direction, other));
        self.lookup.record(found?)
    }

    /// Notes that an established entry was seen, and that its neighbour is in use. False: it is not established
    /// any more, or its timeout is another now.
    #[inline(never)]
    fn refresh(&self, record: &Record<V4>, age: u64, next_hop: Adjacency) -> bool {
        // A tick ahead of this one is as good as this one.
        let is_established = age <= u64::from(u32::MAX);
        if !is_established || record.touch(self.moment.now).is_err() {
            return false;
        }
        let _link = self.moment.shared.adjacencies.link(next_hop);
        true
    }
}
