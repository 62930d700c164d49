//! Real servers as workers see them: a slot each, with what is shared and what each worker counts.
//!
//! A slot belongs to one server of one service from the server's creation until no connection refers
//! to it any more, so a record keeps the number of the slot.

use std::sync::atomic::{
    AtomicBool, AtomicU32, AtomicU64,
    Ordering::{Relaxed, SeqCst},
};
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwapOption;
use director_packet::Address;
use zerocopy::FromZeros;

use crate::entry::KeptWay;
use crate::scheduler::dirty::Dirty;
use crate::service::{Forward, ServerSpec};
use crate::state::{Direction, State};

/// Slots in a chunk; chunks are allocated when the control core first gives out a slot of theirs.
const CHUNK: usize = 1024;

/// The most slots.
pub const MAX_SERVERS: usize = 512 * CHUNK;

/// An array that grows by chunks and whose elements never move.
struct Chunks<T> {
    chunks: Box<[OnceLock<Box<[T]>>]>,
}

impl<T: Default> Chunks<T> {
    fn new() -> Self {
        Self { chunks: std::iter::repeat_with(OnceLock::new).take(MAX_SERVERS / CHUNK).collect() }
    }

    #[inline]
    fn get(&self, slot: u32) -> Option<&T> {
        let slot = slot as usize;
        self.chunks.get(slot / CHUNK)?.get()?.get(slot % CHUNK)
    }

    fn ensure(&self, slot: u32) {
        if let Some(chunk) = self.chunks.get(slot as usize / CHUNK) {
            chunk.get_or_init(|| std::iter::repeat_with(T::default).take(CHUNK).collect());
        }
    }
}

/// Places of servers' addresses; a power of two.
const PLACES: usize = 1 << 16;

/// The server may not be used for packets of clients: it was deleted.
const GONE: u32 = 1;
/// The server has as many connections as it may.
const OVERLOADED: u32 = 2;

/// In [`Shared::connections`], one connection in an active state; 1 is one in any other.
const ACTIVE: u64 = 1 << 32;

/// What all workers see and change of a server at once. The counts are exact, since each change is one
/// atomic addition, and both are in one word, so a connection is never in neither or in both.
///
/// What a scheduler chooses by, `connections`, `flags` and `weight`, is changed and then marked; the
/// scheduler takes the mark and then looks. That makes all four accesses `SeqCst`, so that one of the two
/// sees the other's. So are the thresholds: who changes one looks at the connections afterwards, and who counts a
/// connection looks at the thresholds afterwards. The rest is Relaxed: every field stands for itself.
#[derive(Default)]
#[repr(align(64))]
struct Shared {
    /// Active connections in the upper half, the others in the lower.
    connections: AtomicU64,
    persistent: AtomicU32,
    flags: AtomicU32,
    weight: AtomicU32,
    upper: AtomicU32,
    lower: AtomicU32,
    /// The number of its [`Forward`].
    forward: AtomicU32,
    /// Which changes the scheduler wants to hear of: [`Watch`]'s bits, or none. Stored after `place` and `marks`,
    /// so that who sees it sees them; who does not is seen by the scheduler, which looks afterwards.
    watch: AtomicU32,
    /// Where in the list of its service the server stands.
    place: AtomicU32,
    /// Where changes are marked.
    marks: ArcSwapOption<Dirty>,
    /// The way to it that was found last, as a [`KeptWay`].
    way: AtomicU64,
}

const _: () = assert!(size_of::<Shared>() == 64);

/// Which changes of a server matter to a scheduler.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub(crate) enum Watch {
    /// Whether it may be used.
    Usable = 1,
    /// That and every change of its connections.
    Connections = 3,
}

/// A server as a scheduler sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Standing {
    flags: u32,
    pub(crate) weight: u32,
    pub(crate) active: u32,
    pub(crate) inactive: u32,
}

impl Standing {
    /// That of no server.
    pub(crate) const NONE: Self = Self { flags: GONE, weight: 0, active: 0, inactive: 0 };

    /// Whether it may take a new connection.
    pub(crate) const fn is_usable(&self) -> bool {
        self.weight > 0 && self.flags == 0
    }

    /// Whether it was deleted.
    pub(crate) const fn is_gone(&self) -> bool {
        self.flags & GONE != 0
    }

    /// The same server, were it neither deleted nor overloaded.
    pub(crate) const fn as_usable(self) -> Self {
        Self { flags: 0, ..self }
    }
}

/// What a connection in a state adds to [`Shared::connections`].
const fn one(state: State) -> u64 {
    if state.is_active() { ACTIVE } else { 1 }
}

impl Shared {
    /// Active connections, and the others. The end of a connection may be counted before its last change of
    /// state, by another thread, is: then one of the two is below 0 for a moment, and shown as 0.
    fn counts(&self) -> (u32, u32) {
        let word = self.connections.load(SeqCst) as i64;
        let inactive = i64::from(word as i32);
        let active = word.wrapping_sub(inactive) >> 32;
        (active.max(0) as u32, inactive.max(0) as u32)
    }

    fn total(&self) -> u32 {
        let (active, inactive) = self.counts();
        active.saturating_add(inactive)
    }

    /// Whether an overloaded server is so no longer.
    fn is_released(&self) -> bool {
        let (upper, lower) = (self.upper.load(SeqCst), self.lower.load(SeqCst));
        let total = self.total();
        let is_below = if lower > 0 { total < lower } else { u64::from(total) * 4 < u64::from(upper) * 3 };
        // Who sees one new threshold and one old one may see a lower one above the upper; without the comparison with
        // the upper one, `fill` and `release` would then call each other until the other is stored.
        upper == 0 || is_below && total < upper
    }

    /// After a connection came: the server may have all it may have.
    ///
    /// Other threads count ends and more connections at the same time. Who changes the flag looks again afterwards
    /// whether the other change is due by now. Of two changes of the flag the later sees what came before the earlier; so
    /// the last of all leaves it as the counts have it.
    fn fill(&self) {
        let upper = self.upper.load(SeqCst);
        if upper != 0 && self.total() >= upper {
            self.flags.fetch_or(OVERLOADED, SeqCst);
            self.mark(Watch::Usable);
            self.release();
        }
    }

    /// After a connection ended: see [`Self::fill`].
    fn drain(&self) {
        if self.upper.load(SeqCst) != 0 {
            self.release();
        }
    }

    /// Is overloaded no longer, if so few connections are left; see [`Self::fill`].
    fn release(&self) {
        if self.is_released() && self.flags.fetch_and(!OVERLOADED, SeqCst) & OVERLOADED != 0 {
            self.mark(Watch::Usable);
            self.fill();
        }
    }

    /// Tells the scheduler of the service that the server has changed, if it wants to know.
    fn mark(&self, what: Watch) {
        // `Usable` is a part of `Connections`.
        let bit = if what == Watch::Usable { 1 } else { 2 };
        if self.watch.load(SeqCst) & bit != 0
            && let Some(marks) = &*self.marks.load()
        {
            marks.mark(self.place.load(Relaxed));
        }
    }
}

/// What passed to and from a server.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Traffic {
    /// Connections scheduled.
    pub connections: u64,
    /// Packets from clients.
    pub in_packets: u64,
    /// Packets to clients.
    pub out_packets: u64,
    /// Bytes from clients, IP headers included.
    pub in_bytes: u64,
    /// Bytes to clients, IP headers included.
    pub out_bytes: u64,
}

impl Traffic {
    /// The sum of both.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self {
            connections: self.connections.wrapping_add(other.connections),
            in_packets: self.in_packets.wrapping_add(other.in_packets),
            out_packets: self.out_packets.wrapping_add(other.out_packets),
            in_bytes: self.in_bytes.wrapping_add(other.in_bytes),
            out_bytes: self.out_bytes.wrapping_add(other.out_bytes),
        }
    }

    /// What came since `earlier`.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Self {
        Self {
            connections: self.connections.wrapping_sub(earlier.connections),
            in_packets: self.in_packets.wrapping_sub(earlier.in_packets),
            out_packets: self.out_packets.wrapping_sub(earlier.out_packets),
            in_bytes: self.in_bytes.wrapping_sub(earlier.in_bytes),
            out_bytes: self.out_bytes.wrapping_sub(earlier.out_bytes),
        }
    }
}

/// One worker's counts of one server. Only that worker writes them, so an addition is a load and a store.
#[derive(FromZeros)]
#[repr(C, align(64))]
pub(crate) struct Counters {
    connections: AtomicU64,
    packets: [AtomicU64; 2],
    bytes: [AtomicU64; 2],
}

#[inline(always)]
fn add(counter: &AtomicU64, amount: u64) {
    counter.store(counter.load(Relaxed).wrapping_add(amount), Relaxed);
}

impl Counters {
    fn traffic(&self) -> Traffic {
        Traffic {
            connections: self.connections.load(Relaxed),
            in_packets: self.packets[Direction::In as usize].load(Relaxed),
            out_packets: self.packets[Direction::Out as usize].load(Relaxed),
            in_bytes: self.bytes[Direction::In as usize].load(Relaxed),
            out_bytes: self.bytes[Direction::Out as usize].load(Relaxed),
        }
    }

    /// Counts a packet, its length in bytes.
    #[inline(always)]
    pub(crate) fn count(&self, direction: Direction, bytes: u32) {
        add(&self.packets[direction as usize], 1);
        add(&self.bytes[direction as usize], u64::from(bytes));
    }
}

/// Zeroed memory, of which the kernel gives only the pages that are touched.
pub(crate) fn zeroed<T: FromZeros>(count: usize) -> Box<[T]> {
    <[T]>::new_box_zeroed_with_elems(count).unwrap_or_default()
}

/// The slots of all real servers.
pub struct Servers {
    shared: Chunks<Shared>,
    /// Of each worker, by slot.
    counters: Box<[Box<[Counters]>]>,
    /// How often a server was deleted.
    deletions: AtomicU32,
    /// Whether there has been a service with `hairpin_snat`.
    hairpins: AtomicBool,
    /// By [`Self::place_of`] of an address: how many slots' servers have one of this place. Only the control core
    /// writes, and a slot is entered before any worker hears of it; hence Relaxed.
    addresses: Box<[AtomicU32]>,
}

/// The connections of a server.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Load {
    /// In an active state.
    pub active: u32,
    /// In any other state.
    pub inactive: u32,
    /// Persistence templates.
    pub persistent: u32,
}

impl Servers {
    /// No servers yet, for so many workers.
    #[must_use]
    pub fn new(workers: usize) -> Self {
        let counters = std::iter::repeat_with(|| zeroed(MAX_SERVERS)).take(workers).collect();
        Self {
            shared: Chunks::new(),
            counters,
            deletions: AtomicU32::new(0),
            hairpins: AtomicBool::new(false),
            addresses: zeroed(PLACES),
        }
    }

    /// Makes a slot usable. For the control core, before any worker hears of the slot.
    pub(crate) fn ensure(&self, slot: u32) {
        self.shared.ensure(slot);
    }

    /// For how many workers they are.
    pub(crate) fn workers(&self) -> usize {
        self.counters.len()
    }

    /// There is a service with `hairpin_snat`. For the control core, before any worker hears of it; hence Relaxed.
    pub(crate) fn set_hairpins(&self) {
        self.hairpins.store(true, Relaxed);
    }

    /// Whether there can be connections of such a service: never wrong if it says no.
    pub(crate) fn may_have_hairpins(&self) -> bool {
        self.hairpins.load(Relaxed)
    }

    const fn place_of(address: Address) -> usize {
        (address.fold().wrapping_mul(0x9e37_79b1) >> (u32::BITS - PLACES.ilog2())) as usize
    }

    /// A slot is of a server with this address from now on. For the control core.
    pub(crate) fn enter(&self, address: Address) {
        if let Some(count) = self.addresses.get(Self::place_of(address)) {
            count.fetch_add(1, Relaxed);
        }
    }

    /// A slot of a server with this address is free again. For the control core.
    pub(crate) fn leave(&self, address: Address) {
        if let Some(count) = self.addresses.get(Self::place_of(address)) {
            count.fetch_sub(1, Relaxed);
        }
    }

    /// Whether a server that has connections, or may get some, can have this address: never wrong if
    /// it says no.
    pub(crate) fn may_have(&self, address: Address) -> bool {
        self.addresses.get(Self::place_of(address)).is_some_and(|count| count.load(Relaxed) != 0)
    }

    /// Sets what an operator may change. New thresholds count at once, by the connections that there are: with as
    /// many as the upper one the server is overloaded, below the lower one no longer, and between them as before.
    pub(crate) fn set(&self, slot: u32, spec: &ServerSpec) {
        let Some(shared) = self.shared.get(slot) else { return };
        shared.upper.store(spec.upper, SeqCst);
        shared.lower.store(spec.lower, SeqCst);
        shared.forward.store(spec.forward as u32, Relaxed);
        shared.way.store(0, Relaxed);
        shared.weight.store(spec.weight, SeqCst);
        shared.flags.fetch_and(!GONE, SeqCst);
        shared.fill();
        shared.release();
        shared.mark(Watch::Usable);
    }

    /// Says where in the list of its service a server stands, and where its changes are marked from now
    /// on. For the control core; returns where they were marked before, which a worker may still hold.
    pub(crate) fn watch(
        &self,
        slot: u32,
        place: u32,
        marks: &Arc<Dirty>,
        watch: Watch,
    ) -> Option<Arc<Dirty>> {
        let shared = self.shared.get(slot)?;
        shared.place.store(place, Relaxed);
        let before = shared.marks.swap(Some(marks.clone()));
        shared.watch.store(watch as u32, SeqCst);
        before
    }

    /// Nobody wants to hear of a server's changes any more. For the control core; returns where they were marked
    /// before, which a worker may still hold.
    pub(crate) fn unwatch(&self, slot: u32) -> Option<Arc<Dirty>> {
        let shared = self.shared.get(slot)?;
        // Who was not watched has no marks, and to swap what workers may hold takes longer than to look.
        (shared.watch.swap(0, SeqCst) != 0).then(|| shared.marks.swap(None)).flatten()
    }

    /// Where in the list of its service a server stands, or stood: whoever asks must look.
    pub(crate) fn place(&self, slot: u32) -> usize {
        self.shared.get(slot).map_or(0, |shared| shared.place.load(Relaxed) as usize)
    }

    /// What a scheduler chooses by.
    pub(crate) fn standing(&self, slot: u32) -> Standing {
        self.shared.get(slot).map_or(Standing::NONE, |shared| {
            let (active, inactive) = shared.counts();
            let (flags, weight) = (shared.flags.load(SeqCst), shared.weight.load(SeqCst));
            Standing { flags, weight, active, inactive }
        })
    }

    /// Marks a server as deleted: its clients' packets are dropped from now on.
    pub(crate) fn set_gone(&self, slot: u32) {
        if let Some(shared) = self.shared.get(slot) {
            shared.flags.fetch_or(GONE, SeqCst);
            shared.mark(Watch::Usable);
            self.deletions.fetch_add(1, Relaxed);
        }
    }

    /// How often a server was deleted, modulo 2^32. For the control core.
    pub(crate) fn deletions(&self) -> u32 {
        self.deletions.load(Relaxed)
    }

    /// Whether a server was deleted.
    #[inline]
    #[must_use]
    pub fn is_gone(&self, slot: u32) -> bool {
        self.shared.get(slot).is_none_or(|shared| shared.flags.load(Relaxed) & GONE != 0)
    }

    /// Whether a server may take a new connection.
    #[inline]
    #[must_use]
    pub fn is_usable(&self, slot: u32) -> bool {
        self.shared
            .get(slot)
            .is_some_and(|shared| shared.weight.load(Relaxed) > 0 && shared.flags.load(Relaxed) == 0)
    }

    /// The way to a server that was kept last.
    #[inline]
    pub(crate) fn way(&self, slot: u32) -> KeptWay {
        self.shared.get(slot).map_or(KeptWay::NONE, |shared| KeptWay(shared.way.load(Relaxed)))
    }

    /// Keeps a way that was found to the server of a slot.
    pub(crate) fn keep_way(&self, slot: u32, way: KeptWay) {
        if let Some(shared) = self.shared.get(slot) {
            shared.way.store(way.0, Relaxed);
        }
    }

    /// The weight of a server.
    #[must_use]
    pub(crate) fn weight(&self, slot: u32) -> u32 {
        self.shared.get(slot).map_or(0, |shared| shared.weight.load(Relaxed))
    }

    /// How packets of a server's new connections reach it.
    pub(crate) fn forward(&self, slot: u32) -> Forward {
        let number = self.shared.get(slot).map_or(0, |shared| shared.forward.load(Relaxed));
        Forward::from_number(number as u8)
    }

    /// Counts a new connection of a server.
    pub(crate) fn bind(&self, slot: u32, state: State) {
        if let Some(shared) = self.shared.get(slot) {
            shared.connections.fetch_add(one(state), SeqCst);
            shared.fill();
            shared.mark(Watch::Connections);
        }
    }

    /// Counts a connection of a server that takes the place of another one of its, whose end is counted soon: as far as
    /// thresholds go there is none more.
    pub(crate) fn bind_instead(&self, slot: u32, state: State) {
        if let Some(shared) = self.shared.get(slot) {
            shared.connections.fetch_add(one(state), SeqCst);
            shared.mark(Watch::Connections);
        }
    }

    /// Counts the end of a connection of a server.
    pub(crate) fn unbind(&self, slot: u32, state: State) {
        if let Some(shared) = self.shared.get(slot) {
            shared.connections.fetch_sub(one(state), SeqCst);
            shared.drain();
            shared.mark(Watch::Connections);
        }
    }

    /// Counts a change of a connection's state.
    #[inline]
    pub(crate) fn change(&self, slot: u32, from: State, to: State) {
        if from.is_active() != to.is_active()
            && let Some(shared) = self.shared.get(slot)
        {
            shared.connections.fetch_add(one(to).wrapping_sub(one(from)), SeqCst);
            shared.mark(Watch::Connections);
        }
    }

    /// Counts a persistence template of a server. Relaxed: nothing is chosen by it.
    pub(crate) fn begin_template(&self, slot: u32) {
        if let Some(shared) = self.shared.get(slot) {
            shared.persistent.fetch_add(1, Relaxed);
        }
    }

    /// Counts the end of one.
    pub(crate) fn end_template(&self, slot: u32) {
        if let Some(shared) = self.shared.get(slot) {
            shared.persistent.fetch_sub(1, Relaxed);
        }
    }

    /// The connections of a server.
    #[must_use]
    pub fn load(&self, slot: u32) -> Load {
        self.shared.get(slot).map_or_else(Load::default, |shared| {
            let (active, inactive) = shared.counts();
            Load { active, inactive, persistent: shared.persistent.load(Relaxed) }
        })
    }

    /// Whether no connection refers to a server, nor is any change of one still to be counted.
    pub(crate) fn is_idle(&self, slot: u32) -> bool {
        self.shared.get(slot).is_none_or(|shared| {
            shared.connections.load(Relaxed) == 0 && shared.persistent.load(Relaxed) == 0
        })
    }

    /// A worker's counts, by slot. For the worker itself only.
    #[inline]
    pub(crate) fn counters(&self, worker: usize) -> &[Counters] {
        self.counters.get(worker).map_or(&[], |counters| counters)
    }

    /// Counts a packet, its length in bytes, unless the server was deleted. For the worker itself only.
    #[inline]
    pub(crate) fn count(&self, worker: usize, slot: u32, direction: Direction, bytes: u16) {
        if !self.is_gone(slot) {
            self.count_known(worker, slot, direction, bytes);
        }
    }

    /// As [`Self::count`], of a server that was found not to be deleted.
    #[inline]
    pub(crate) fn count_known(&self, worker: usize, slot: u32, direction: Direction, bytes: u16) {
        if let Some(counters) = self.counters(worker).get(slot as usize) {
            counters.count(direction, bytes.into());
        }
    }

    /// Counts a scheduled connection. For the worker itself only.
    pub(crate) fn count_connection(&self, worker: usize, slot: u32) {
        if let Some(counters) = self.counters(worker).get(slot as usize) {
            add(&counters.connections, 1);
        }
    }

    /// What passed to and from a server since its slot was first used, over all workers.
    #[must_use]
    pub fn traffic(&self, slot: u32) -> Traffic {
        let counters = self.counters.iter().filter_map(|counters| counters.get(slot as usize));
        counters.fold(Traffic::default(), |sum, counters| sum.plus(counters.traffic()))
    }

    /// What a worker has counted of all servers with slots below `end`, ever.
    pub(crate) fn traffic_by(&self, worker: usize, end: u32) -> Traffic {
        let counters = self.counters(worker).iter().take(end as usize);
        counters.fold(Traffic::default(), |sum, counters| sum.plus(counters.traffic()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(spec: ServerSpec) -> Servers {
        let servers = Servers::new(2);
        servers.ensure(5000);
        servers.set(5000, &spec);
        servers
    }

    #[test]
    fn the_recorded_thresholds() {
        // x=8 without y: at 7 and 6 still refused, at 5 accepted.
        let servers = server(ServerSpec { upper: 8, ..ServerSpec::default() });
        (0..8).for_each(|_| servers.bind(5000, State::SynRecv));
        assert!(!servers.is_usable(5000));
        for usable in [false, false, true] {
            servers.unbind(5000, State::SynRecv);
            assert_eq!(servers.is_usable(5000), usable);
        }
        // x=4, y=2: released only at 1.
        let servers = server(ServerSpec { upper: 4, lower: 2, ..ServerSpec::default() });
        (0..4).for_each(|_| servers.bind(5000, State::Udp));
        for usable in [false, false, true] {
            servers.unbind(5000, State::Udp);
            assert_eq!(servers.is_usable(5000), usable);
        }
    }

    /// As Linux 6.1.192 does it.
    #[test]
    fn new_thresholds_count_at_once() {
        let servers = server(ServerSpec { upper: 3, ..ServerSpec::default() });
        (0..3).for_each(|_| servers.bind(5000, State::SynRecv));
        let set = |upper, lower| {
            servers.set(5000, &ServerSpec { upper, lower, ..ServerSpec::default() });
            servers.is_usable(5000)
        };
        // Three of four: not below three quarters.
        assert!(!set(4, 0));
        assert!(set(5, 0));
        assert!(!set(3, 0), "as many as it may have");
        assert!(!set(8, 3), "not below the lower one");
        assert!(set(8, 4));
        assert!(set(4, 3), "between the two it stays what it was");
        assert!(!set(3, 3));
        assert!(set(0, 0));
    }

    /// Between the stores of the two thresholds other threads may see a lower one above the upper.
    #[test]
    fn a_half_set_threshold_is_borne() {
        let servers = server(ServerSpec { upper: 100, lower: 50, ..ServerSpec::default() });
        (0..10).for_each(|_| servers.bind(5000, State::SynRecv));
        servers.shared.get(5000).unwrap().upper.store(5, Relaxed);
        servers.bind(5000, State::SynRecv);
        servers.unbind(5000, State::SynRecv);
        assert!(!servers.is_usable(5000));
        servers.set(5000, &ServerSpec { upper: 5, lower: 3, ..ServerSpec::default() });
        assert!(!servers.is_usable(5000));
        (0..8).for_each(|_| servers.unbind(5000, State::SynRecv));
        assert!(servers.is_usable(5000));
    }

    #[test]
    fn states_count_as_active_or_not() {
        let servers = server(ServerSpec::default());
        servers.bind(5000, State::SynRecv);
        servers.bind(5000, State::Udp);
        servers.change(5000, State::SynRecv, State::Established);
        assert_eq!(servers.load(5000), Load { active: 1, inactive: 1, persistent: 0 });
        servers.change(5000, State::Established, State::FinWait);
        assert_eq!(servers.load(5000), Load { active: 0, inactive: 2, persistent: 0 });
        servers.unbind(5000, State::FinWait);
        assert_eq!(servers.load(5000).inactive, 1);
    }

    #[test]
    fn an_end_may_be_counted_before_the_last_change() {
        let servers = server(ServerSpec::default());
        servers.bind(5000, State::SynRecv);
        servers.unbind(5000, State::FinWait);
        assert_eq!(servers.load(5000), Load { active: 1, inactive: 0, persistent: 0 });
        assert!(!servers.is_idle(5000));
        servers.change(5000, State::SynRecv, State::FinWait);
        assert_eq!(servers.load(5000), Load::default());
        assert!(servers.is_idle(5000));
        // And the other way round.
        servers.bind(5000, State::Close);
        servers.unbind(5000, State::Established);
        assert_eq!(servers.load(5000), Load { active: 0, inactive: 1, persistent: 0 });
        servers.change(5000, State::Close, State::Established);
        assert!(servers.is_idle(5000));
    }

    #[test]
    fn an_overload_never_outlasts_its_connections() {
        let servers = server(ServerSpec { upper: 2, ..ServerSpec::default() });
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    for _ in 0..20_000 {
                        servers.bind(5000, State::SynRecv);
                        servers.change(5000, State::SynRecv, State::TimeWait);
                        servers.unbind(5000, State::TimeWait);
                    }
                });
            }
        });
        assert!(servers.is_idle(5000) && servers.is_usable(5000));
    }

    /// Of three two end and one comes, while two more come: whoever is first, the server then has all the four that it may
    /// have.
    #[test]
    fn an_end_does_not_hide_that_others_came() {
        const ROUNDS: u32 = if cfg!(miri) { 100 } else { 100_000 };
        let servers = server(ServerSpec { upper: 4, ..ServerSpec::default() });
        (0..4).for_each(|_| servers.bind(5000, State::Udp));
        servers.unbind(5000, State::Udp);
        let (begun, ended) = (AtomicU32::new(0), AtomicU32::new(0));
        let wait_for = |counter: &AtomicU32, round| {
            while counter.load(SeqCst) != round {
                std::thread::yield_now();
            }
        };
        let mut welcome = 0;
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for round in 1..=ROUNDS {
                    wait_for(&begun, round);
                    (0..2).for_each(|_| servers.unbind(5000, State::Udp));
                    servers.bind(5000, State::Udp);
                    ended.store(round, SeqCst);
                }
            });
            for round in 1..=ROUNDS {
                begun.store(round, SeqCst);
                (0..2).for_each(|_| servers.bind(5000, State::Udp));
                wait_for(&ended, round);
                welcome += u32::from(servers.is_usable(5000));
                servers.unbind(5000, State::Udp);
            }
        });
        assert_eq!(welcome, 0, "times one more was");
    }

    /// Thresholds change while connections come and go: the last of all leaves the flag as both have it.
    #[test]
    fn thresholds_change_among_connections() {
        const ROUNDS: u32 = if cfg!(miri) { 50 } else { 20_000 };
        let servers = server(ServerSpec::default());
        let done = std::sync::Barrier::new(3);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    for round in 0..ROUNDS {
                        (0..5).for_each(|_| servers.bind(5000, State::Udp));
                        (0..if round % 2 == 0 { 2 } else { 4 })
                            .for_each(|_| servers.unbind(5000, State::Udp));
                        done.wait();
                        done.wait();
                        (0..if round % 2 == 0 { 3 } else { 1 })
                            .for_each(|_| servers.unbind(5000, State::Udp));
                        done.wait();
                    }
                });
            }
            for round in 0..ROUNDS {
                let upper = [4, 9, 0, 6, 2][round as usize % 5];
                servers.set(5000, &ServerSpec { upper, lower: upper / 2, ..ServerSpec::default() });
                done.wait();
                let total = servers.load(5000).inactive;
                assert_eq!(total, if round % 2 == 0 { 6 } else { 2 });
                if upper != 0 && total >= upper {
                    assert!(!servers.is_usable(5000), "{total} of {upper}");
                }
                if upper == 0 || total < upper / 2 {
                    assert!(servers.is_usable(5000), "{total} of {upper}");
                }
                done.wait();
                done.wait();
            }
        });
    }

    #[test]
    fn workers_counts_add_up() {
        let servers = server(ServerSpec::default());
        servers.count_connection(0, 5000);
        servers.count(0, 5000, Direction::In, 40);
        servers.count(1, 5000, Direction::Out, 60);
        let traffic = servers.traffic(5000);
        assert_eq!((traffic.connections, traffic.in_packets, traffic.in_bytes), (1, 1, 40));
        assert_eq!((traffic.out_packets, traffic.out_bytes), (1, 60));
        let of_one = |worker| servers.traffic_by(worker, 5001);
        assert_eq!((of_one(0).in_bytes, of_one(0).out_bytes, of_one(1).out_bytes), (40, 0, 60));
        assert_eq!(servers.traffic_by(0, 5000), Traffic::default());
        assert_eq!(servers.traffic(7_000_000), Traffic::default());
        assert!(servers.is_gone(7_000_000));
    }
}
