//! Real servers as workers see them. Each has a slot: what all workers share, and what each worker counts.
//!
//! A slot belongs to one server of one service, from the server's creation until it is deleted, no connection refers to it
//! any more and it need not be remembered; so a record can keep the number of the slot.

mod shared;
#[cfg(test)]
mod tests;
mod traffic;

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use director_packet::Address;
use zerocopy::FromZeros;

use crate::entry::KeptWay;
use crate::scheduler::dirty::Dirty;
use crate::service::{Forward, ServerSpec};
use crate::state::{Direction, State};

use shared::Shared;
pub(crate) use shared::{Standing, Watch};
pub(crate) use traffic::Counters;
pub use traffic::Traffic;

/// Slots in a chunk. The control core allocates a chunk when it first gives out one of its slots.
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

/// The size of the filter of servers' addresses; a power of two.
const PLACES: usize = 1 << 16;

/// Zeroed memory; the kernel allocates only the pages that are touched.
pub(crate) fn zeroed<T: FromZeros>(count: usize) -> Box<[T]> {
    <[T]>::new_box_zeroed_with_elems(count).unwrap_or_default()
}

/// The slots of all real servers.
pub struct Servers {
    shared: Chunks<Shared>,
    /// For each worker, by slot.
    counters: Box<[Box<[Counters]>]>,
    /// How often a server was deleted.
    deletions: AtomicU32,
    /// Whether there has ever been a service with `hairpin_snat`.
    hairpins: AtomicBool,
    /// A filter of the servers' addresses: for each value of [`Self::place_of`], how many slots have a server with
    /// such an address. Only the control core writes, and it enters an address before any worker hears of the slot;
    /// hence Relaxed.
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

    /// How many workers there are.
    pub(crate) fn workers(&self) -> usize {
        self.counters.len()
    }

    /// Notes that there is a service with `hairpin_snat`. For the control core, before any worker hears of the
    /// service; hence Relaxed.
    pub(crate) fn set_hairpins(&self) {
        self.hairpins.store(true, Relaxed);
    }

    /// Whether there can be connections of such a service. It may say yes wrongly, but not no.
    pub(crate) fn may_have_hairpins(&self) -> bool {
        self.hairpins.load(Relaxed)
    }

    const fn place_of(address: Address) -> usize {
        (address.fold().wrapping_mul(0x9e37_79b1) >> (u32::BITS - PLACES.ilog2())) as usize
    }

    /// Enters the address of a slot's new server. For the control core.
    pub(crate) fn enter(&self, address: Address) {
        if let Some(count) = self.addresses.get(Self::place_of(address)) {
            count.fetch_add(1, Relaxed);
        }
    }

    /// Takes out the address of a slot's server, once the slot is free. For the control core.
    pub(crate) fn leave(&self, address: Address) {
        if let Some(count) = self.addresses.get(Self::place_of(address)) {
            count.fetch_sub(1, Relaxed);
        }
    }

    /// Whether this can be the address of a server that has a slot. It may say yes wrongly, but
    /// not no.
    pub(crate) fn may_have(&self, address: Address) -> bool {
        self.addresses.get(Self::place_of(address)).is_some_and(|count| count.load(Relaxed) != 0)
    }

    /// Sets what an operator may change. New thresholds apply at once to the connections that exist: from the upper
    /// one on the server is overloaded, below the lower one no longer, and in between it stays what it was.
    pub(crate) fn set(&self, slot: u32, spec: &ServerSpec) {
        if let Some(shared) = self.shared.get(slot) {
            shared.set(spec);
        }
    }

    /// Sets the server's place in the list of its service, and where its changes are marked from now on. For the
    /// control core. Returns where they were marked before, which a worker may still hold.
    pub(crate) fn watch(
        &self,
        slot: u32,
        place: u32,
        marks: &Arc<Dirty>,
        watch: Watch,
    ) -> Option<Arc<Dirty>> {
        self.shared.get(slot)?.watch(place, marks, watch)
    }

    /// Stops marking a server's changes. For the control core. Returns where they were marked before, which a worker
    /// may still hold.
    pub(crate) fn unwatch(&self, slot: u32) -> Option<Arc<Dirty>> {
        self.shared.get(slot)?.unwatch()
    }

    /// The server's place in the list of its service. It may be out of date, so the caller must check it.
    pub(crate) fn place(&self, slot: u32) -> usize {
        self.shared.get(slot).map_or(0, |shared| shared.place.load(Relaxed) as usize)
    }

    /// What a scheduler chooses by.
    pub(crate) fn standing(&self, slot: u32) -> Standing {
        self.shared.get(slot).map_or(Standing::NONE, Shared::standing)
    }

    /// Marks a server as deleted: its clients' packets are dropped from now on.
    pub(crate) fn set_gone(&self, slot: u32) {
        if let Some(shared) = self.shared.get(slot) {
            shared.set_gone();
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
        self.shared.get(slot).is_none_or(Shared::is_gone)
    }

    /// Whether a server may take a new connection.
    #[inline]
    #[must_use]
    pub fn is_usable(&self, slot: u32) -> bool {
        self.shared.get(slot).is_some_and(Shared::is_usable)
    }

    /// The way to a server that was kept last.
    #[inline]
    pub(crate) fn way(&self, slot: u32) -> KeptWay {
        self.shared.get(slot).map_or(KeptWay::NONE, |shared| KeptWay(shared.way.load(Relaxed)))
    }

    /// Keeps a way that was found to a server.
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
            shared.add(state);
            shared.fill();
        }
    }

    /// Counts a connection that replaces another one of the same server, whose end is counted soon. For the thresholds
    /// the server has no more connections than before.
    pub(crate) fn bind_instead(&self, slot: u32, state: State) {
        if let Some(shared) = self.shared.get(slot) {
            shared.add(state);
        }
    }

    /// Counts the end of a connection of a server.
    pub(crate) fn unbind(&self, slot: u32, state: State) {
        if let Some(shared) = self.shared.get(slot) {
            shared.remove(state);
        }
    }

    /// Counts a change of a connection's state.
    #[inline]
    pub(crate) fn change(&self, slot: u32, from: State, to: State) {
        if from.is_active() != to.is_active()
            && let Some(shared) = self.shared.get(slot)
        {
            shared.change(from, to);
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

    /// Whether no connection refers to a server, and no change of one is still to be counted.
    pub(crate) fn is_idle(&self, slot: u32) -> bool {
        self.shared.get(slot).is_none_or(Shared::is_idle)
    }

    /// A worker's counts, by slot. For the worker itself only.
    #[inline]
    pub(crate) fn counters(&self, worker: usize) -> &[Counters] {
        self.counters.get(worker).map_or(&[], |counters| counters)
    }

    /// Counts a packet of so many bytes, unless the server was deleted. For the worker itself only.
    #[inline]
    pub(crate) fn count(&self, worker: usize, slot: u32, direction: Direction, bytes: u16) {
        if !self.is_gone(slot) {
            self.count_known(worker, slot, direction, bytes);
        }
    }

    /// As [`Self::count`], for a server that is known not to be deleted.
    #[inline]
    pub(crate) fn count_known(&self, worker: usize, slot: u32, direction: Direction, bytes: u16) {
        if let Some(counters) = self.counters(worker).get(slot as usize) {
            counters.count(direction, bytes.into());
        }
    }

    /// Counts a scheduled connection. For the worker itself only.
    pub(crate) fn count_connection(&self, worker: usize, slot: u32) {
        if let Some(counters) = self.counters(worker).get(slot as usize) {
            counters.count_connection();
        }
    }

    /// What passed to and from a server since its slot was first used, summed over all workers.
    #[must_use]
    pub fn traffic(&self, slot: u32) -> Traffic {
        let of_workers = self.counters.iter().filter_map(|counters| counters.get(slot as usize));
        of_workers.fold(Traffic::default(), |sum, counters| sum.plus(counters.traffic()))
    }

    /// What a worker has counted of all servers with slots below `end`, ever.
    pub(crate) fn traffic_by(&self, worker: usize, end: u32) -> Traffic {
        let counters = self.counters(worker).iter().take(end as usize);
        counters.fold(Traffic::default(), |sum, counters| sum.plus(counters.traffic()))
    }
}
