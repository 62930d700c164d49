//! The packets of connections on which nothing happens, which nearly all are: TCP segments of established ones, and UDP
//! datagrams. Three passes over a burst, between which the caller may do something else while memory is fetched.
//!
//! The first reads each frame, hashes its client end and has the bucket fetched; the second compares tags and
//! has the record fetched; the third makes sure of the record, translates and counts. Whatever is not as simple as that
//! — another protocol, a state that changes, a way not found yet — is left to [`Core::general`], which begins anew and
//! knows every case; so this file decides nothing that is not decided there.
//!
//! A burst is taken for one of the [kind](super::kind) of its first frame, in loops that know nothing else. Frames that
//! are not of it are looked at again, each as what it is.

use director_flow::{Clock, Hash, Lookup, Probe, Record, SEEN_LAG, Table, V4, V6};
use director_packet::nat::End;
use director_packet::plain::{Rewrite, Wanted};
use director_packet::tcp_flag::{ACK, FIN, RST, SYN};

use super::cpu::Cpu;
use super::kind::{Datagrams, DatagramsV6, EndpointOf, Kind, Segments, SegmentsV6, Which};
use super::{BURST, Core, Frames, Moment, Verdict};
use crate::adjacency;
use crate::entry::{self, Layout, Words};
use crate::servers::Counters;
use crate::snapshot::{Own, Snapshot};
use crate::state::Direction;

/// What the first passes know of a frame. Each field is put in where it lies: a struct that is made elsewhere
/// and copied has its fields stored one by one and read at once, for which a CPU waits.
#[derive(Clone, Copy)]
struct Glance<F: Layout> {
    /// The client, and the virtual service or the real server.
    ends: F::Noted,
    hash: Hash,
    probe: Probe,
    /// The length of the IP packet in bytes; more than any where TCP's control bits say more than that. And
    /// [`Self::OUT`].
    size: u32,
}

// So that a frame's place in the burst is all there is to reckon.
const _: () = assert!(size_of::<Glance<V4>>() == 32 && size_of::<Glance<V6>>() == 16);

impl<F: Layout> Glance<F> {
    /// Of a frame that is not plain. Whatever entry is found for it, its size is that of none which goes on.
    const NOTHING: Self = Self { ends: F::NOBODYS, hash: Hash::NONE, probe: Probe::NONE, size: !Self::OUT };

    /// Set in a size where the packet goes from the server to the client.
    const OUT: u32 = 1 << 31;
}

/// What is known of the frames of a burst that are of one kind, each in its place.
pub(super) struct Notes<F: Layout> {
    glances: [Glance<F>; BURST],
    /// The places, unless the burst is taken for one of this kind: then none.
    places: u32,
    /// The places of the frames whose entry is to be searched for, if there is one.
    searched: u32,
}

impl<F: Layout> Notes<F> {
    const NONE: Self = Self { glances: [Glance::NOTHING; BURST], places: 0, searched: 0 };

    #[inline(always)]
    fn seek(&mut self, lookup: Lookup<'_, F>, places: impl Iterator<Item = usize> + Clone) {
        let mut is_unclear = false;
        for at in places.clone() {
            let glance = &mut self.glances[at];
            glance.probe = lookup.probe(glance.hash);
            is_unclear |= glance.probe.only().is_none();
        }
        self.searched = 0;
        if is_unclear {
            self.prepare_search(lookup, places);
        }
    }

    #[inline]
    fn seek_places(&mut self, lookup: Lookup<'_, F>) {
        if self.places != 0 {
            self.seek(lookup, bits(self.places));
        }
    }

    /// Where a tag is not the only one of its kind: has all fetched that a search will look at.
    #[cold]
    fn prepare_search(&mut self, lookup: Lookup<'_, F>, places: impl Iterator<Item = usize>) {
        for at in places {
            let Glance { hash, probe, size, .. } = self.glances[at];
            if probe.only().is_none() && size != Glance::<F>::NOTHING.size {
                lookup.prefetch_candidates(hash);
                self.searched |= 1 << at;
            }
        }
    }

    #[inline(always)]
    fn end_search(&self, lookup: Lookup<'_, F>) {
        for at in bits(self.searched) {
            lookup.prefetch_overflow(self.glances[at].hash);
        }
    }
}

/// What is the same for every packet of a kind in a burst.
struct Steady<'a, K: Kind> {
    moment: &'a Moment<'a>,
    table: &'a Table<K::Family>,
    lookup: Lookup<'a, K::Family>,
    own: &'a Own,
    next_hops: adjacency::View<'a>,
    epoch: u32,
    wanted: Wanted,
    /// The clock of an entry that was seen now.
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
    fn add_verdict(&mut self, verdict: Verdict) {
        self.add(if let Verdict::Send(port) = verdict { port.into() } else { Self::STAYS });
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
    pub(super) segments: Notes<V4>,
    pub(super) datagrams: Notes<V4>,
    pub(super) segments_v6: Notes<V6>,
    pub(super) datagrams_v6: Notes<V6>,
    /// What all frames are taken for, since the first looks like it.
    main: Which,
    /// The places of the frames that are not of that kind.
    others: u32,
    /// How many frames there are.
    count: usize,
    /// The configuration it was looked at under.
    serial: u32,
    port: u8,
}

impl Batch {
    /// Of no frame.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            segments: Notes::NONE,
            datagrams: Notes::NONE,
            segments_v6: Notes::NONE,
            datagrams_v6: Notes::NONE,
            main: Which::Segments,
            others: 0,
            count: 0,
            serial: 0,
            port: 0,
        }
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

    /// The places of all frames.
    #[inline(always)]
    fn all(&self) -> u32 {
        ((1_u64 << self.count()) - 1) as u32
    }

    /// Forgets what was seen under another configuration.
    #[inline]
    fn keep_if<K: Kind>(&mut self, serial: u32) {
        if self.serial != serial {
            K::notes(self).glances.fill(Glance::NOTHING);
            self.others = 0;
        }
    }
}

/// Tells the compiler that a branch is rarely taken.
#[cold]
const fn rarely() {}

/// The numbers of the bits of a set; each is a place in a burst.
#[inline]
fn bits(mut set: u32) -> impl Iterator<Item = usize> + Clone {
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

impl Core {
    /// The first pass.
    #[inline]
    pub(super) fn look<C: Cpu>(&self, moment: &Moment<'_>, frames: &mut impl Frames, batch: &mut Batch) {
        batch.serial = moment.snapshot.serial;
        batch.main = if batch.count() == 0 { Which::Segments } else { Which::guess(frames, 0) };
        match batch.main {
            Which::Segments => C::look_as::<Segments<C>>(self, moment, frames, batch),
            Which::Datagrams => C::look_as::<Datagrams<C>>(self, moment, frames, batch),
            Which::SegmentsV6 => C::look_as::<SegmentsV6<C>>(self, moment, frames, batch),
            Which::DatagramsV6 => C::look_as::<DatagramsV6<C>>(self, moment, frames, batch),
        }
        if batch.others != 0 {
            C::look_again(self, moment, frames, batch);
        }
    }

    /// The first pass over a burst that is taken for one of a kind.
    #[inline(always)]
    pub(super) fn look_as<K: Kind>(&self, moment: &Moment<'_>, frames: &mut impl Frames, batch: &mut Batch) {
        let mut others = 0;
        if is_on::<K>(moment) {
            let steady = Steady::<K>::new(moment, self.local.id());
            for at in 0..batch.count() {
                let glance = &mut K::notes(batch).glances[at];
                if steady.look(at, frames, glance).is_none() {
                    *glance = Glance::NOTHING;
                    others |= 1 << at;
                }
            }
        } else {
            K::notes(batch).glances.fill(Glance::NOTHING);
            others = batch.all();
        }
        batch.others = others;
    }

    /// The first pass over frames that are not of the kind that the burst was taken for.
    #[inline(always)]
    pub(super) fn look_again<C: Cpu>(
        &self,
        moment: &Moment<'_>,
        frames: &mut impl Frames,
        batch: &mut Batch,
    ) {
        let mut places = [0; Which::COUNT];
        for at in bits(batch.others) {
            places[Which::guess(frames, at) as usize] |= 1 << at;
        }
        let [segments, datagrams, segments_v6, datagrams_v6] = places;
        self.look_at::<Segments<C>>(segments, moment, frames, batch);
        self.look_at::<Datagrams<C>>(datagrams, moment, frames, batch);
        self.look_at::<SegmentsV6<C>>(segments_v6, moment, frames, batch);
        self.look_at::<DatagramsV6<C>>(datagrams_v6, moment, frames, batch);
    }

    /// The first pass over some frames, which notes those that are of this kind.
    #[inline(always)]
    fn look_at<K: Kind>(
        &self,
        places: u32,
        moment: &Moment<'_>,
        frames: &mut impl Frames,
        batch: &mut Batch,
    ) {
        let notes = K::notes(batch);
        notes.places = 0;
        notes.searched = 0;
        if places == 0 || !is_on::<K>(moment) {
            return;
        }
        let steady = Steady::<K>::new(moment, self.local.id());
        for at in bits(places) {
            if steady.look(at, frames, &mut notes.glances[at]).is_some() {
                notes.places |= 1 << at;
            }
        }
    }

    /// The second pass.
    #[inline]
    pub(super) fn seek<C: Cpu>(tables: (&Table<V4>, &Table<V6>), batch: &mut Batch) {
        match batch.main {
            Which::Segments => C::seek_as::<Segments<C>>(tables, batch),
            Which::Datagrams => C::seek_as::<Datagrams<C>>(tables, batch),
            Which::SegmentsV6 => C::seek_as::<SegmentsV6<C>>(tables, batch),
            Which::DatagramsV6 => C::seek_as::<DatagramsV6<C>>(tables, batch),
        }
        if batch.others != 0 {
            let (v4, v6) = (tables.0.lookup(), tables.1.lookup());
            batch.segments.seek_places(v4);
            batch.datagrams.seek_places(v4);
            batch.segments_v6.seek_places(v6);
            batch.datagrams_v6.seek_places(v6);
        }
    }

    /// The second pass over a burst that is taken for one of a kind.
    #[inline(always)]
    pub(super) fn seek_as<K: Kind>((v4, v6): (&Table<V4>, &Table<V6>), batch: &mut Batch) {
        let count = batch.count();
        K::notes(batch).seek(K::Family::table(v4, v6).lookup(), 0..count);
    }

    /// The last pass. Returns the port by which every frame leaves, where there is one.
    #[inline]
    pub(super) fn decide<C: Cpu>(
        &mut self,
        moment: &Moment<'_>,
        frames: &mut impl Frames,
        batch: &mut Batch,
        verdicts: &mut [Verdict; BURST],
    ) -> Option<u8> {
        match batch.main {
            Which::Segments => C::decide_as::<Segments<C>>(self, moment, frames, batch, verdicts),
            Which::Datagrams => C::decide_as::<Datagrams<C>>(self, moment, frames, batch, verdicts),
            Which::SegmentsV6 => C::decide_as::<SegmentsV6<C>>(self, moment, frames, batch, verdicts),
            Which::DatagramsV6 => C::decide_as::<DatagramsV6<C>>(self, moment, frames, batch, verdicts),
        }
    }

    /// The last pass over a burst that is taken for one of a kind.
    #[inline(always)]
    pub(super) fn decide_as<C: Cpu, K: Kind>(
        &mut self,
        moment: &Moment<'_>,
        frames: &mut impl Frames,
        batch: &mut Batch,
        verdicts: &mut [Verdict; BURST],
    ) -> Option<u8> {
        batch.keep_if::<K>(moment.snapshot.serial);
        if K::Family::IS_V6 {
            self.local.begin_v6();
        }
        let steady = Steady::<K>::new(moment, self.local.id());
        K::notes(batch).end_search(steady.lookup);
        let mut common = Common::NONE_YET;
        let mut others = None;
        #[expect(clippy::needless_range_loop, reason = "two iterators in step take more instructions")]
        for at in 0..batch.count() {
            if let Some(port) = steady.forward(at, &K::notes(batch).glances[at], frames) {
                verdicts[at] = Verdict::Send(port);
                common.add(port.into());
            } else {
                verdicts[at] = self.decide_one::<C>(moment, &mut others, at, frames, batch);
                common.add_verdict(verdicts[at]);
            }
        }
        common.port()
    }

    /// The last pass over one frame that is not of the kind that the burst was taken for, or of which something is
    /// to be decided.
    #[inline(never)]
    fn decide_one<'a, C: Cpu>(
        &mut self,
        moment: &'a Moment<'a>,
        others: &mut Option<Others<'a, C>>,
        at: usize,
        frames: &mut impl Frames,
        batch: &Batch,
    ) -> Verdict {
        if batch.others & 1 << at == 0 {
            return self.general(moment, at, frames);
        }
        let id = self.local.id();
        let others = others.get_or_insert_with(|| Others::new(moment, id, batch));
        let port = C::other(self, others, at, frames, batch);
        port.map_or_else(|| self.general(moment, at, frames), Verdict::Send)
    }

    /// The last pass over a frame that is not of the kind that the burst was taken for.
    #[inline(always)]
    pub(super) fn other<C: Cpu>(
        &mut self,
        others: &Others<'_, C>,
        at: usize,
        frames: &mut impl Frames,
        batch: &Batch,
    ) -> Option<u8> {
        let is_in = |places: u32| places & 1 << at != 0;
        if is_in(batch.segments.places) {
            others.segments.forward(at, &batch.segments.glances[at], frames)
        } else if is_in(batch.datagrams.places) {
            others.datagrams.forward(at, &batch.datagrams.glances[at], frames)
        } else if is_in(batch.segments_v6.places) {
            self.local.begin_v6();
            others.segments_v6.forward(at, &batch.segments_v6.glances[at], frames)
        } else if is_in(batch.datagrams_v6.places) {
            self.local.begin_v6();
            others.datagrams_v6.forward(at, &batch.datagrams_v6.glances[at], frames)
        } else {
            None
        }
    }
}

/// Whether packets of a kind are translated at all.
#[inline(always)]
fn is_on<K: Kind>(moment: &Moment<'_>) -> bool {
    let Snapshot { ip_forward, ip_forward_v6, .. } = *moment.snapshot;
    !moment.snapshot.is_off(K::Family::IS_V6) && if K::Family::IS_V6 { ip_forward_v6 } else { ip_forward }
}

/// What is the same for every packet of all kinds in a burst.
pub(super) struct Others<'a, C: Cpu> {
    segments: Steady<'a, Segments<C>>,
    datagrams: Steady<'a, Datagrams<C>>,
    segments_v6: Steady<'a, SegmentsV6<C>>,
    datagrams_v6: Steady<'a, DatagramsV6<C>>,
}

impl<'a, C: Cpu> Others<'a, C> {
    fn new(moment: &'a Moment<'a>, worker: usize, batch: &Batch) -> Self {
        let others = Self {
            segments: Steady::new(moment, worker),
            datagrams: Steady::new(moment, worker),
            segments_v6: Steady::new(moment, worker),
            datagrams_v6: Steady::new(moment, worker),
        };
        batch.segments.end_search(others.segments.lookup);
        batch.datagrams.end_search(others.datagrams.lookup);
        batch.segments_v6.end_search(others.segments_v6.lookup);
        batch.datagrams_v6.end_search(others.datagrams_v6.lookup);
        others
    }
}

impl<'a, K: Kind> Steady<'a, K> {
    #[inline(always)]
    fn new(moment: &'a Moment<'a>, worker: usize) -> Self {
        let table = K::Family::table(moment.table, moment.table_v6);
        Self {
            moment,
            table,
            lookup: table.lookup(),
            own: moment.snapshot.own(),
            next_hops: moment.shared.adjacencies.view(),
            epoch: moment.snapshot.fib_epoch,
            wanted: K::wanted(moment.port.mac),
            clock: Clock::new(moment.now, K::STATE.kept(), moment.snapshot.timeouts.of(K::STATE)),
            counters: moment.shared.servers.counters(worker),
        }
    }

    /// The first pass. None: the frame is not plain, or none of this kind.
    #[inline(always)]
    fn look(&self, at: usize, frames: &mut impl Frames, glance: &mut Glance<K::Family>) -> Option<()> {
        let (headers, total) = K::headers(frames, at)?;
        let frame = K::read(headers, total, &self.wanted)?;
        // As in `Lane::new`.
        let is_in = K::Family::is_own(self.own, frame.destination);
        let (end, other) =
            if is_in { (frame.source, frame.destination) } else { (frame.destination, frame.source) };
        let ends = K::Family::note(end, other, K::PROTOCOL);
        let (client, _) =
            if is_in { K::ends::<false>(ends, headers) } else { K::ends::<true>(ends, headers) };
        let hash = self.lookup.hash(client);
        self.lookup.prefetch(hash);
        glance.ends = ends;
        glance.hash = hash;
        let direction = if is_in { 0 } else { Glance::<K::Family>::OUT };
        glance.size = u32::from(frame.length) | direction;
        if frame.flags & (SYN | FIN | RST | ACK) != K::FLAGS {
            rarely();
            glance.size |= 1 << 16;
        }
        Some(())
    }

    /// The third pass. None: the packet is to go the general way; nothing was done.
    ///
    /// Each direction has code of its own: packets that come in on one port mostly go one way.
    #[inline(always)]
    fn forward(&self, at: usize, glance: &Glance<K::Family>, frames: &mut impl Frames) -> Option<u8> {
        if glance.size & Glance::<K::Family>::OUT == 0 {
            self.forward_to::<false>(at, glance, frames)
        } else {
            self.forward_to::<true>(at, glance, frames)
        }
    }

    #[inline(always)]
    fn forward_to<const OUT: bool>(
        &self,
        at: usize,
        glance: &Glance<K::Family>,
        frames: &mut impl Frames,
    ) -> Option<u8> {
        let direction = if OUT { Direction::Out } else { Direction::In };
        let record = match self.lookup.candidate(glance.probe) {
            Some(record) => record,
            None => search::<K, OUT>(self.table, at, glance, frames)?,
        };
        let words = Words::<K::Family, OUT>(record);
        // First, since what is read behind it is of the entry that lives by this clock.
        let clock = record.clock();
        let (headers, _) = K::headers(frames, at)?;
        let (client, other) = K::ends::<OUT>(glance.ends, headers);
        if !record.is_of(client) || !words.other_is(other) {
            return None;
        }
        let kept = words.way();
        let way = kept.number_under(self.epoch);
        let hop = self.next_hops.get(way)?.hot();
        let size = if OUT { glance.size & !Glance::<K::Family>::OUT } else { glance.size };
        if size > hop.mtu() {
            return None;
        }
        // Last, since the entry learns nothing of a packet that does not go on.
        let age = self.clock.younger_by(clock);
        if age > u64::from(SEEN_LAG) && !refresh(self.moment, self.epoch, record, age) {
            return None;
        }
        let counters = self.counters.get(words.slot_beside(kept) as usize)?;
        let (to, network, transport): (EndpointOf<K>, _, _) = words.change();
        let end = if OUT { End::Source } else { End::Destination };
        K::rewrite(headers, &Rewrite { to, network, transport, macs: (hop.first(), hop.last()) }, end);
        counters.count(direction, size);
        Some(hop.port())
    }
}

// Neither of the two below is given a `Steady`: its parts are in registers as long as nobody asks for its address.

/// The entry of a plain frame, where its tag is not the only one of its kind.
#[inline(never)]
fn search<'a, K: Kind, const OUT: bool>(
    table: &'a Table<K::Family>,
    at: usize,
    glance: &Glance<K::Family>,
    frames: &mut impl Frames,
) -> Option<&'a Record<K::Family>> {
    if glance.size & !Glance::<K::Family>::OUT > u32::from(u16::MAX) {
        return None;
    }
    let (headers, _) = K::headers(frames, at)?;
    let (client, other) = K::ends::<OUT>(glance.ends, headers);
    let direction = if OUT { Direction::Out } else { Direction::In };
    let found = table.find(glance.hash, |record| entry::matches(record, client, direction, other.into()));
    table.lookup().record(found?)
}

/// Notes that an entry was seen, and that its neighbours are in use: of a question and its answer only the former
/// may ever come here. False: its state is another, or its timeout is another now.
#[inline(never)]
fn refresh<F: Layout>(moment: &Moment<'_>, epoch: u32, record: &Record<F>, age: u64) -> bool {
    // A tick ahead of this one is as good as this one.
    let is_as_ever = age <= u64::from(u32::MAX);
    if !is_as_ever || record.touch(moment.now).is_err() {
        return false;
    }
    let ways = [Words::<F, false>(record).way(), Words::<F, true>(record).way()];
    for next_hop in ways.into_iter().filter_map(|way| way.under(epoch)) {
        let _link = moment.shared.adjacencies.link(next_hop);
    }
    true
}
