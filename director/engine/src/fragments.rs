//! Fragments that wait for the rest of their packet, shared by all workers.
//!
//! A fragment has no ports, so devices steer it elsewhere than the packets of its connection. So here any worker may
//! put in any fragment; the one that puts in the last has the packet. Their bytes are copied to memory of fixed size,
//! under a lock that is held for one copy; packets are dealt to several such tables by their hash, so that workers
//! rarely want the same.
//!
//! As Linux does it: a packet is given up 30 s after its first fragment (IPv6: 60 s), whatever came since; a fragment of which all
//! is there already is a duplicate and is let go; one of which a part is there gives the whole packet up, since which
//! of the two is right nobody can tell (CVE-2018-5391 and RFC 5722 are about what follows from guessing); and so does
//! one that contradicts what is known of the packet's length. Where there is no room the oldest packet makes some; each
//! family has tables of its own, so that neither takes the other's room.

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

/// Tables of each family; a power of two.
const SHARDS: usize = 8;

/// Ticks after which a packet is given up: Linux's `net.ipv4.ipfrag_time`, 30 s, and `net.ipv6.ip6frag_time`, 60 s
/// (RFC 8200, section 4.5).
const PATIENCE: u32 = 300;
const PATIENCE_V6: u32 = 600;

/// Why fragments are given up that were taken already.
const LOSSES: [Reason; 4] =
    [Reason::FragmentTimeout, Reason::FragmentTableFull, Reason::FragmentOverlap, Reason::FragmentMalformed];

/// Ports that a fragment can have come in on.
const PORTS: usize = 256;

/// What the fragments of a packet have in common.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    source: Address,
    destination: Address,
    identification: u32,
    /// Of IPv4; 0 in IPv6, where the fragments of a packet may tell of different ones (RFC 8200, section 4.5).
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
    /// What comes behind these headers, where IPv6 has a fragment header.
    next: u8,
}

impl Opening {
    const NONE: Self =
        Self { bytes: [0; director_packet::ethernet::HEADER + MAX_HEADER], length: 0, port: 0, next: 0 };

    /// Of a frame, if it is of a packet's first fragment.
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

/// A fragment that has come.
pub(crate) struct Arrival {
    fragment: Fragment,
    opening: Opening,
    now: Tick,
}

impl Arrival {
    /// The fragment in `frame`, or in as much of it as is at hand, that came in on a port.
    pub(crate) fn new(frame: &[u8], fragment: Fragment, port: u8, now: Tick) -> Self {
        Self { fragment, opening: Opening::of(frame, &fragment, port), now }
    }
}

/// What became of a fragment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Added {
    /// It waits.
    Kept,
    /// It was the last that was missing: who put it in takes the packet.
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
    /// Of no packet.
    pub(crate) const NONE: Self = Self { shard: 0, datagram: u32::MAX };
}

/// The fragments that wait.
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

    /// Puts in a fragment. `read` copies from its data, from a place on, and says whether it could.
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

    /// Takes a complete packet. Its fragments do not wait any more.
    pub(crate) fn take(&self, ticket: Ticket, whole: &mut Whole) {
        whole.clear();
        if let Some(shard) = self.shards.get(usize::from(ticket.shard)) {
            shard.lock().take(ticket.datagram, whole);
        }
        whole.complete();
    }

    /// Gives up what has waited long enough; shows the first fragment of each packet of which that came, under the
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

    /// How many fragments were given up since this was last asked: of each port, for each reason.
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
