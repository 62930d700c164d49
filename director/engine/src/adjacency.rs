//! Next hops with what a frame to them needs, shared by all workers.
//!
//! The table only grows: an entry, once made for a next hop, stays at its index, so a connection can
//! keep the index, and a change of the neighbour's MAC address takes effect for all of them at once.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use director_packet::{Address, Mac};

use crate::fib::Hop;

/// The index of an entry.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Adjacency(u32);

impl Adjacency {
    /// The number that a record keeps; less than [`Adjacencies::MAX`].
    #[must_use]
    pub const fn number(self) -> u32 {
        self.0
    }

    /// The entry of a number that a record kept.
    #[must_use]
    pub const fn from_number(number: u32) -> Self {
        Self(number)
    }
}

/// What is known of a next hop.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Link {
    /// The port it is reached by.
    pub port: u8,
    /// Its MAC address, where it is known.
    pub mac: Option<Mac>,
}

/// A port as the next hops behind it need to know it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Exit {
    /// Its MAC address.
    pub mac: Mac,
    /// Its MTU in bytes; 0 where nothing may be sent on it.
    pub mtu: u16,
}

/// Set in [`Entry::key`] of an entry in use.
const USED: u64 = 1 << 63;

/// Likewise, of an IPv6 address, of which the key has the fold.
const V6: u64 = 1 << 62;

/// Likewise, when that address has been written.
const WRITTEN: u64 = 1 << 61;

/// Set in [`Entry::rest`] when the MAC address is known.
const KNOWN: u64 = 1 << 40;

/// How far from its place an entry may lie before the table counts as full.
const PROBES: usize = 64;

const MAC_BITS: u64 = 0xffff_ffff_ffff;

/// Both MAC addresses of the frames to a next hop lie as they go into the frame, so that a packet takes two
/// words as they are.
pub(crate) struct Entry {
    /// [`USED`], port in bits 39–32, address below; 0 when free. Written once, and once more with [`WRITTEN`].
    key: AtomicU64,
    /// The next hop's MAC address in the low 48 bits, above it the first two bytes of the port's.
    macs: AtomicU64,
    /// The last four bytes of the port's MAC address in the low half; above it the port, [`KNOWN`], and in bits 63–48
    /// the MTU, 0 unless a frame can be sent at once.
    rest: AtomicU64,
    /// Whether a packet was sent to it lately: 1, set by workers and cleared by the control core.
    recent: AtomicU64,
}

/// What a frame to a next hop needs at once.
#[derive(Clone, Copy)]
pub(crate) struct Hot<'a> {
    entry: &'a Entry,
    rest: u64,
}

impl Hot<'_> {
    /// The first eight bytes of the frame.
    #[inline(always)]
    pub(crate) fn first(self) -> u64 {
        self.entry.macs.load(Ordering::Relaxed)
    }

    /// The four bytes that follow.
    #[inline(always)]
    pub(crate) const fn last(self) -> u32 {
        self.rest as u32
    }

    /// How long a packet may be in bytes; 0 unless it can be sent at once.
    #[inline(always)]
    pub(crate) const fn mtu(self) -> u32 {
        (self.rest >> 48) as u32
    }

    /// The port it is reached by.
    #[inline(always)]
    pub(crate) const fn port(self) -> u8 {
        (self.rest >> 32) as u8
    }
}

impl Entry {
    #[inline(always)]
    pub(crate) fn hot(&self) -> Hot<'_> {
        // Acquire pairs with the Release of `refresh`: where there is an MTU, the addresses are there.
        Hot { entry: self, rest: self.rest.load(Ordering::Acquire) }
    }
}

/// The next hops, as a burst holds them.
#[derive(Clone, Copy)]
pub(crate) struct View<'a>(&'a [Entry]);

impl<'a> View<'a> {
    /// The next hop of a number, if there is one. It is not noted that a frame is sent to it: [`Adjacencies::link`] does that, and is to be asked
    /// now and then.
    #[inline(always)]
    pub(crate) fn get(self, number: u64) -> Option<&'a Entry> {
        self.0.get(number as usize)
    }
}

/// The table.
pub struct Adjacencies {
    entries: Box<[Entry]>,
    /// Of entries of IPv6: the halves of the address. Memory only where there are some.
    addresses: Box<[[AtomicU64; 2]]>,
    used: AtomicUsize,
    /// Where an entry lies is nobody's to choose.
    seed: ahash::RandomState,
    /// The ports, for the control core.
    exits: Mutex<Vec<Exit>>,
}

/// No room for another next hop.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no room for another next hop")]
pub struct Full;

impl Adjacencies {
    /// The most entries there can be: what fits the 20 bits that a record has for them.
    pub const MAX: usize = 1 << 20;

    /// A table for about `capacity` next hops (at most [`Self::MAX`]).
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        let size = capacity.clamp(PROBES, Self::MAX).next_power_of_two();
        let zero = || AtomicU64::new(0);
        let free = || Entry { key: zero(), macs: zero(), rest: zero(), recent: zero() };
        let entries = std::iter::repeat_with(free).take(size).collect();
        let addresses = crate::servers::zeroed(size);
        let seed = ahash::RandomState::new();
        Self { entries, addresses, used: AtomicUsize::new(0), seed, exits: Mutex::default() }
    }

    /// How many next hops are known of.
    #[must_use]
    pub fn len(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// Whether none is known of.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The key of a next hop, and where its entry may lie.
    #[inline]
    fn places(&self, hop: Hop) -> (u64, impl Iterator<Item = usize> + use<>) {
        let key = USED | u64::from(hop.port) << 32 | u64::from(hop.address.fold());
        let mask = self.entries.len() - 1;
        let place = match hop.address {
            Address::V4(_) => self.seed.hash_one(key),
            Address::V6(address) => self.seed.hash_one((key, address)),
        } as usize;
        (key, (0..PROBES.min(self.entries.len())).map(move |probe| place.wrapping_add(probe) & mask))
    }

    /// The entry of a next hop, if there is one: what is only heard of needs none.
    #[must_use]
    pub fn find(&self, hop: Hop) -> Option<Adjacency> {
        let (_, mut places) = self.places(hop);
        places.find_map(|at| {
            let way = Adjacency(at as u32);
            (self.hop(way) == Some(hop)).then_some(way)
        })
    }

    /// The entry of a next hop, made if there is none. Any thread may ask.
    pub fn entry(&self, hop: Hop) -> Result<Adjacency, Full> {
        let (key, mut places) = self.places(hop);
        let found = match hop.address {
            Address::V4(_) => places.find(|at| self.claim(*at, key)),
            Address::V6(address) => places.find(|at| self.claim_v6(*at, key | V6, address)),
        };
        found.map(|at| Adjacency(at as u32)).ok_or(Full)
    }

    /// Whether a place is that of a key of IPv4, which says all; made so where it is free.
    #[inline]
    fn claim(&self, at: usize, key: u64) -> bool {
        // The key alone is compared, and nothing else depends on it: an entry that was just made
        // has no MAC address, and that is what its zeroes say. So Relaxed does.
        match self.entries[at].claim(key) {
            Ok(_) => {
                self.used.fetch_add(1, Ordering::Relaxed);
                true
            }
            Err(found) => found == key,
        }
    }

    /// Whether a place is that of a key and an address of IPv6; made so where it is free.
    fn claim_v6(&self, at: usize, key: u64, address: u128) -> bool {
        let (entry, halves) = (&self.entries[at], &self.addresses[at]);
        let [high, low] = [(address >> 64) as u64, address as u64];
        match entry.claim(key) {
            Ok(_) => {
                halves[0].store(high, Ordering::Relaxed);
                halves[1].store(low, Ordering::Relaxed);
                // Pairs with the Acquire of whoever reads the halves.
                entry.key.store(key | WRITTEN, Ordering::Release);
                self.used.fetch_add(1, Ordering::Relaxed);
                true
            }
            Err(found) if found & !WRITTEN == key => {
                // Whoever made the entry is between the three stores above.
                while entry.key.load(Ordering::Acquire) & WRITTEN == 0 {
                    std::hint::spin_loop();
                }
                halves[0].load(Ordering::Relaxed) == high && halves[1].load(Ordering::Relaxed) == low
            }
            Err(_) => false,
        }
    }

    /// The next hop of an entry.
    #[must_use]
    pub fn hop(&self, adjacency: Adjacency) -> Option<Hop> {
        let at = adjacency.0 as usize;
        let key = self.entries.get(at)?.key.load(Ordering::Acquire);
        let address = match key & (USED | V6 | WRITTEN) {
            USED => Address::V4(key as u32),
            0 => return None,
            // Whoever has the number of an entry of IPv6 has seen its address, or written it.
            _ => {
                let [high, low] = self.addresses.get(at)?;
                let half = |half: &AtomicU64| u128::from(half.load(Ordering::Relaxed));
                Address::V6(half(high) << 64 | half(low))
            }
        };
        Some(Hop { port: (key >> 32) as u8, address })
    }

    /// The next hops, to be asked for a burst.
    #[inline(always)]
    pub(crate) fn view(&self) -> View<'_> {
        View(&self.entries)
    }

    /// What a frame to it needs; notes that one is sent.
    #[must_use]
    pub fn link(&self, adjacency: Adjacency) -> Link {
        let Some(entry) = self.entries.get(adjacency.0 as usize) else {
            return Link { port: 0, mac: None };
        };
        if entry.recent.load(Ordering::Relaxed) == 0 {
            entry.recent.store(1, Ordering::Relaxed);
        }
        let port = (entry.key.load(Ordering::Relaxed) >> 32) as u8;
        // Acquire: as in `Entry::hot`.
        let is_known = entry.rest.load(Ordering::Acquire) & KNOWN != 0;
        Link { port, mac: is_known.then(|| Mac::from_word(entry.macs.load(Ordering::Relaxed))) }
    }

    /// Sets what is known of a next hop's MAC address. For the control core.
    pub fn set(&self, adjacency: Adjacency, mac: Option<Mac>) {
        let Some(entry) = self.entries.get(adjacency.0 as usize) else { return };
        if let Ok(exits) = self.exits.lock() {
            entry.refresh(mac, &exits);
        }
    }

    /// Sets what is known of the ports. For the control core.
    pub(crate) fn set_exits(&self, exits: Vec<Exit>) {
        let Ok(mut known) = self.exits.lock() else { return };
        if *known == exits {
            return;
        }
        *known = exits;
        for entry in &self.entries {
            if entry.rest.load(Ordering::Relaxed) & KNOWN != 0 {
                let mac = Mac::from_word(entry.macs.load(Ordering::Relaxed));
                entry.refresh(Some(mac), &known);
            }
        }
    }

    /// The next hops that packets were sent to since it was last asked. For the control core.
    pub fn take_recent(&self) -> impl Iterator<Item = (Adjacency, Hop)> {
        self.entries.iter().enumerate().filter_map(|(at, entry)| {
            if entry.recent.load(Ordering::Relaxed) == 0 {
                return None;
            }
            entry.recent.store(0, Ordering::Relaxed);
            let adjacency = Adjacency(at as u32);
            Some((adjacency, self.hop(adjacency)?))
        })
    }
}

impl Entry {
    /// Gives a free entry this key; else tells the one it has. Reads first: that takes the cache line from nobody.
    #[inline]
    fn claim(&self, key: u64) -> Result<u64, u64> {
        match self.key.load(Ordering::Relaxed) {
            0 => self.key.compare_exchange(0, key, Ordering::Relaxed, Ordering::Relaxed),
            found => Err(found),
        }
    }

    /// Only one thread, the control core's, changes an entry that is in use.
    fn refresh(&self, mac: Option<Mac>, exits: &[Exit]) {
        let port = (self.key.load(Ordering::Relaxed) >> 32) as u8;
        let Some(mac) = mac else {
            // What was the address stays for those who saw that there is one.
            self.rest.store(0, Ordering::Relaxed);
            return;
        };
        let exit = exits.get(usize::from(port)).copied().unwrap_or(Exit { mac: Mac::default(), mtu: 0 });
        let own = exit.mac.word();
        // Who sees an MTU sees the addresses (Release, in `Entry::hot`); and a port's address is set before it is
        // used and stays, so that the two words always fit together.
        self.macs.store(mac.word() & MAC_BITS | own << 48, Ordering::Relaxed);
        let rest = KNOWN | u64::from(port) << 32 | u64::from(exit.mtu) << 48 | (own >> 16 & 0xffff_ffff);
        self.rest.store(rest, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_found_again() {
        let table = Adjacencies::new(1000);
        let hop = Hop { port: 3, address: Address::V4(0xc0a8_0247) };
        let entry = table.entry(hop).unwrap();
        assert_eq!(table.entry(hop), Ok(entry));
        let never_used = Hop { port: 4, ..hop };
        assert_eq!((table.find(hop), table.find(never_used), table.len()), (Some(entry), None, 1));
        assert_ne!(table.entry(Hop { port: 2, ..hop }), Ok(entry));
        assert_eq!(table.hop(entry), Some(hop));
        assert_eq!(table.link(entry), Link { port: 3, mac: None });
        let mac = Mac([2, 4, 6, 8, 10, 0xfe]);
        table.set(entry, Some(mac));
        assert_eq!(table.link(entry), Link { port: 3, mac: Some(mac) });
        assert_eq!(table.take_recent().collect::<Vec<_>>(), [(entry, hop)]);
        assert_eq!(table.take_recent().count(), 0);
        table.set(entry, None);
        assert_eq!(table.link(entry).mac, None);
        assert_eq!(table.len(), 2);
    }

    #[test]
    fn addresses_of_ipv6_with_one_fold() {
        let table = Adjacencies::new(1000);
        let hop = |address| Hop { port: 3, address };
        let all = [
            hop(Address::V4(7)),
            hop(Address::V6(7)),
            hop(Address::V6(7 << 96)),
            hop(Address::V6(7 << 64)),
            Hop { port: 2, address: Address::V6(7) },
        ];
        let entries = all.map(|hop| table.entry(hop).unwrap());
        assert_eq!(all.map(|hop| table.entry(hop).unwrap()), entries);
        assert_eq!(entries.map(|entry| table.hop(entry).unwrap()), all);
        assert_eq!(table.len(), 5);
    }

    #[test]
    fn two_threads_make_one_entry() {
        let table = Adjacencies::new(1 << 14);
        let entries =
            || (0..4000_u128).map(|low| table.entry(Hop { port: 1, address: Address::V6(1 << 64 | low) }));
        let (one, other) = std::thread::scope(|scope| {
            let other = scope.spawn(|| entries().collect::<Vec<_>>());
            (entries().collect::<Vec<_>>(), other.join().unwrap())
        });
        assert_eq!(one, other);
        assert_eq!(table.len(), 4000);
    }

    #[test]
    fn what_a_frame_begins_with() {
        let table = Adjacencies::new(1000);
        let (mac, own) = (Mac([2, 4, 6, 8, 10, 0xfe]), Mac([0xf2, 3, 5, 7, 9, 11]));
        let exits = |mtu| vec![Exit { mac: own, mtu: 9000 }, Exit { mac: own, mtu }];
        table.set_exits(exits(1500));
        let entry = table.entry(Hop { port: 1, address: Address::V4(7) }).unwrap();
        assert_eq!(table.view().get(entry.number().into()).unwrap().hot().mtu(), 0, "unknown");
        table.set(entry, Some(mac));
        let begins = |entry: Adjacency| {
            let hot = table.view().get(entry.number().into()).unwrap().hot();
            let mut bytes = [0; 12];
            bytes[..8].copy_from_slice(&hot.first().to_le_bytes());
            bytes[8..].copy_from_slice(&hot.last().to_le_bytes());
            (bytes, hot.mtu(), hot.port())
        };
        let bytes = [2, 4, 6, 8, 10, 0xfe, 0xf2, 3, 5, 7, 9, 11];
        assert_eq!(begins(entry), (bytes, 1500, 1));
        table.set_exits(exits(0));
        assert_eq!(begins(entry), (bytes, 0, 1), "the port is down");
        assert_eq!(table.link(entry), Link { port: 1, mac: Some(mac) });
        table.set_exits(exits(1280));
        assert_eq!(begins(entry), (bytes, 1280, 1));
        table.set(entry, None);
        assert_eq!(table.view().get(entry.number().into()).unwrap().hot().mtu(), 0);
    }

    #[test]
    fn a_full_table_says_so() {
        let table = Adjacencies::new(64);
        let results: Vec<_> =
            (0..65).map(|address| table.entry(Hop { port: 0, address: Address::V4(address) })).collect();
        assert_eq!(results.iter().filter(|entry| entry.is_ok()).count(), 64);
        assert_eq!(results[64], Err(Full));
    }
}
