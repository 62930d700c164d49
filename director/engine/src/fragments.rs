//! Fragments that wait for the rest of their packet, shared by all workers.
//!
//! A fragment has no ports, so devices steer it to another queue than the packets of its connection. So any worker
//! may add any fragment here, and the one that adds the last fragment gets the packet. The bytes are copied to memory
//! of fixed size, under a lock that is held for one copy. Packets are spread by their hash over several tables, each
//! with a lock of its own, so that workers rarely want the same.
//!
//! The rules are Linux's. A packet is given up 30 s (IPv6: 60 s) after its first fragment, whatever has come since. A
//! fragment whose bytes are all there already is a duplicate and is dropped. A fragment of which only a part is there
//! already gives the whole packet up, since nobody can tell which of the two is right (for what follows from
//! guessing, see CVE-2018-5391 and RFC 5722). So does a fragment that contradicts what is known of the packet's
//! length. Where there is no room, the oldest packet is given up for the new one. Each family has tables of its own,
//! so that neither takes the other's room.

mod shard;
mod whole;

use std::sync::atomic::{
    AtomicBool, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};

use director_flow::Tick;
use director_packet::Address;
use director_packet::fragment::{Fragment, MAX_HEADER};

use crate::lock::Lock;
use crate::reason::Reason;
pub(crate) use shard::First;
use shard::Shard;
pub(crate) use whole::Whole;

/// Tables for each family; a power of two.
const SHARDS: usize = 8;

/// Ticks after which a packet is given up: Linux's `net.ipv4.ipfrag_time`, 30 s, and `net.ipv6.ip6frag_time`, 60 s
/// (RFC 8200, section 4.5).
const PATIENCE: u32 = 300;
const PATIENCE_V6: u32 = 600;

/// The reasons for which fragments that were kept are given up.
const LOSSES: [Reason; 4] =
    [Reason::FragmentTimeout, Reason::FragmentTableFull, Reason::FragmentOverlap, Reason::FragmentMalformed];

/// The number of ports that a fragment can have come in on.
const PORTS: usize = 256;

/// What the fragments of a packet have in common.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    source: Address,
    destination: Address,
    identification: u32,
    /// For IPv4; 0 for IPv6, where the fragments of a packet may name different protocols (RFC 8200, section 4.5).
    protocol: u8,
}

impl Key {
    const NONE: Self =
        Self { source: Address::V4(0), destination: Address::V4(0), identification: 0, protocol: 0 };

    const fn of(fragment: &Fragment) -> Self {
        let Fragment { source, destination, identification, .. } = *fragment;
        let protocol = if matches!(source, Address::V4(_)) { fragment.protocol } else { 0 };
        Self { source, destination, identification, protocol }
    }
}

/// The beginning of a packet's first frame: the headers of Ethernet and of IP.
#[derive(Clone, Copy)]
pub(crate) struct Opening {
    bytes: [u8; director_packet::ethernet::HEADER + MAX_HEADER],
    length: u8,
    port: u8,
    /// What follows these headers in IPv6 where there is a fragment header.
    next: u8,
}

impl Opening {
    const NONE: Self =
        Self { bytes: [0; director_packet::ethernet::HEADER + MAX_HEADER], length: 0, port: 0, next: 0 };

    /// From a frame, if it has the first fragment of a packet.
    fn of(frame: &[u8], fragment: &Fragment, port: u8) -> Self {
        let length = director_packet::ethernet::HEADER + usize::from(fragment.base);
        let mut opening = Self { port, next: fragment.protocol, ..Self::NONE };
        if fragment.offset == 0
            && let (Some(from), Some(to)) = (frame.get(..length), opening.bytes.get_mut(..length))
        {
            to.copy_from_slice(from);
            opening.length = length as u8;
        }
        opening
    }

    fn bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.length)).unwrap_or_default()
    }
}

/// A fragment as it was received.
pub(crate) struct Arrival {
    fragment: Fragment,
    opening: Opening,
    now: Tick,
}

impl Arrival {
    /// Reads the fragment in `frame`, or in the part of the frame that is at hand, which came in on a port.
    pub(crate) fn new(frame: &[u8], fragment: Fragment, port: u8, now: Tick) -> Self {
        Self { fragment, opening: Opening::of(frame, &fragment, port), now }
    }
}

/// What became of a fragment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Added {
    /// It waits.
    Kept,
    /// It was the last one missing. The thread that added it takes the packet.
    Complete(Ticket),
    /// It is dropped.
    Refused(Reason),
}

/// A complete packet, to be taken once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Ticket {
    shard: u8,
    datagram: u32,
}

impl Ticket {
    /// A ticket for no packet.
    pub(crate) const NONE: Self = Self { shard: 0, datagram: u32::MAX };
}

/// The fragments that wait, of all packets.
pub(crate) struct Fragments {
    shards: Box<[Lock<Shard>]>,
    seed: ahash::RandomState,
    /// How many fragments were given up, by port and by [`LOSSES`]. Nothing depends on these counts, hence Relaxed.
    lost: Box<[[AtomicU64; LOSSES.len()]]>,
    /// Whether any count has changed since they were last taken.
    is_any_lost: AtomicBool,
}

impl Fragments {
    /// None yet, with memory for some.
    pub(crate) fn new() -> Self {
        Self {
            shards: std::iter::repeat_with(|| Lock::new(Shard::new())).take(2 * SHARDS).collect(),
            seed: ahash::RandomState::new(),
            lost: std::iter::repeat_with(Default::default).take(PORTS).collect(),
            is_any_lost: AtomicBool::new(false),
        }
    }

    /// Adds a fragment. `read` copies from its data, starting at an offset, and says whether it could.
    pub(crate) fn add(&self, arrival: &Arrival, read: impl FnMut(usize, &mut [u8]) -> bool) -> Added {
        let key = Key::of(&arrival.fragment);
        let hash = self.seed.hash_one(key);
        let before = if matches!(key.source, Address::V4(_)) { 0 } else { SHARDS };
        let at = before + (hash >> 32) as usize % SHARDS;
        let Some(shard) = self.shards.get(at) else { return Added::Refused(Reason::FragmentTableFull) };
        match shard.lock().add(key, hash as usize, arrival, read, |port, reason| self.lose(port, reason)) {
            shard::Added::Kept => Added::Kept,
            shard::Added::Complete(datagram) => Added::Complete(Ticket { shard: at as u8, datagram }),
            shard::Added::Refused(reason) => Added::Refused(reason),
        }
    }

    /// Takes a complete packet out; its fragments do not wait any more.
    pub(crate) fn take(&self, ticket: Ticket, whole: &mut Whole) {
        whole.clear();
        if let Some(shard) = self.shards.get(usize::from(ticket.shard)) {
            shard.lock().take(ticket.datagram, whole);
        }
        whole.complete();
    }

    /// Gives up the packets that have waited for too long. Shows the first fragment of each, if it came, under the
    /// lock of its table.
    pub(crate) fn expire(&self, now: Tick, mut first: impl FnMut(First<'_>)) {
        for (at, shard) in self.shards.iter().enumerate() {
            let patience = if at < SHARDS { PATIENCE } else { PATIENCE_V6 };
            shard.lock().expire(now, patience, |port, reason| self.lose(port, reason), &mut first);
        }
    }

    fn lose(&self, port: u8, reason: Reason) {
        let kind = LOSSES.iter().position(|loss| *loss == reason);
        let count = kind.and_then(|kind| self.lost.get(usize::from(port))?.get(kind));
        if let Some(count) = count {
            count.fetch_add(1, Relaxed);
            // Pairs with the Acquire of `take_losses`, which then sees the count.
            self.is_any_lost.store(true, Release);
        }
    }

    /// How many fragments were given up since the last call, by port and reason.
    pub(crate) fn take_losses(&self, mut each: impl FnMut(u8, Reason, u64)) {
        if !self.is_any_lost.swap(false, Acquire) {
            return;
        }
        for (port, counts) in (0..=u8::MAX).zip(&self.lost) {
            for (reason, count) in LOSSES.iter().zip(counts) {
                if count.load(Relaxed) != 0 {
                    each(port, *reason, count.swap(0, Relaxed));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
