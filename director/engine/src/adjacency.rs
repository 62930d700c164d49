//! Next hops, each with what a frame to it needs; shared by all workers.
//!
//! An entry stays at its index once it is made for a next hop. So a connection can keep the index, and a new MAC
//! address of the neighbour takes effect for all its connections at once.
//!
//! When the table is half full, the entries that have not been used for a minute and whose next hop does not answer
//! are retired: lookups find them no more, every connection finds its way again, and once no worker can hold a
//! retired entry, its place is free. Places may therefore be free before an entry that is in use. Two threads that
//! add the same next hop at once may then make two entries for it; the control core updates both.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use director_packet::{Address, Mac};

use crate::fib::Hop;
use crate::lock::Lock;

/// The index of an entry.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Adjacency(u32);

impl Adjacency {
    /// The number that a record keeps: less than [`Adjacencies::MAX`].
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

/// Likewise, when nobody is to find it any more.
const RETIRED: u64 = 1 << 60;

/// Set in [`Entry::rest`] when the MAC address is known.
const KNOWN: u64 = 1 << 40;

/// In how many places an entry may lie before the table counts as full. The places are pairs of neighbours, and the
/// pairs lie far apart: in a table that is half full, as many places in a row are all taken now and then.
const PROBES: usize = 64;

/// An entry may be retired after this many rounds of [`Adjacencies::take_recent`] without a packet: a minute.
const IDLE: u64 = 5;

/// Fewer entries than this part of the table are not worth making every connection find its way again.
const WORTH: usize = 16;

const MAC_BITS: u64 = 0xffff_ffff_ffff;

/// Both MAC addresses of the frames to a next hop are stored in the order of the frame, so that a packet is given two
/// whole words.
pub(crate) struct Entry {
    /// [`USED`], port in bits 39–32, address below; 0 when free. Written once, once more with [`WRITTEN`], and with
    /// [`RETIRED`] when it goes.
    key: AtomicU64,
    /// The next hop's MAC address in the low 48 bits, above it the first two bytes of the port's.
    macs: AtomicU64,
    /// The last four bytes of the port's MAC address in the low half; above it the port, [`KNOWN`], and in bits 63–48
    /// the MTU, which is 0 unless a frame can be sent at once.
    rest: AtomicU64,
    /// Workers set it to 1 when they send a packet to the next hop; the control core counts the rounds since then in
    /// it.
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

    /// The longest packet in bytes; 0 unless it can be sent at once.
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
    /// The next hop of a number, if there is one. This does not count as a use of the entry; [`Adjacencies::link`]
    /// does, and must be called now and then for an entry that is in use.
    #[inline(always)]
    pub(crate) fn get(self, number: u64) -> Option<&'a Entry> {
        self.0.get(number as usize)
    }
}

/// The table.
pub struct Adjacencies {
    entries: Box<[Entry]>,
    /// The two halves of the address of each IPv6 entry. Takes memory only where there are such entries.
    addresses: Box<[[AtomicU64; 2]]>,
    used: AtomicUsize,
    /// Where an entry lies is nobody's to choose.
    seed: ahash::RandomState,
    /// The ports, for the control core.
    exits: Lock<Vec<Exit>>,
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
        Self { entries, addresses, used: AtomicUsize::new(0), seed, exits: Lock::default() }
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
    fn places(&self, hop: Hop) -> (u64, impl Iterator<Item = usize> + Clone + use<>) {
        let key = USED | u64::from(hop.port) << 32 | u64::from(hop.address.fold());
        let pairs = self.entries.len() / 2;
        let (key, hash) = match hop.address {
            Address::V4(_) => (key, self.seed.hash_one(key)),
            Address::V6(address) => (key | V6, self.seed.hash_one((key, address))),
        };
        // The number of pairs is a power of two, so an odd step reaches each of them.
        let (first, step) = (hash as usize, (hash >> 32) as usize | 1);
        let pair = move |probe: usize| first.wrapping_add((probe / 2).wrapping_mul(step)) & (pairs - 1);
        (key, (0..PROBES).map(move |probe| pair(probe) * 2 + probe % 2))
    }

    /// The entry of a next hop, if there is one. News about a next hop that nobody sends to makes no entry.
    #[must_use]
    pub fn find(&self, hop: Hop) -> Option<Adjacency> {
        self.find_all(hop).next()
    }

    /// The entries of a next hop: rarely more than one.
    pub fn find_all(&self, hop: Hop) -> impl Iterator<Item = Adjacency> {
        let (key, places) = self.places(hop);
        places.filter(move |at| self.is_of(*at, key, hop.address)).map(|at| Adjacency(at as u32))
    }

    /// The entry of a next hop, made if there is none. Any thread may ask.
    pub fn entry(&self, hop: Hop) -> Result<Adjacency, Full> {
        let (key, mut places) = self.places(hop);
        // Looks at all places before it takes one: places before that of an existing entry may have become free.
        let found = places.clone().find(|at| self.is_of(*at, key, hop.address));
        let found = found.or_else(|| places.find(|at| self.claim(*at, key, hop.address)));
        found.map(|at| Adjacency(at as u32)).ok_or(Full)
    }

    /// Whether the entry at a place has this key and address. The key alone identifies a next hop of IPv4.
    #[inline]
    fn is_of(&self, at: usize, key: u64, address: Address) -> bool {
        let entry = &self.entries[at];
        // For IPv4 only the key is compared, and nothing else depends on it: an entry that was just made has no MAC
        // address, which is what its zeroes mean. So Relaxed is enough.
        let found = entry.key.load(Ordering::Relaxed);
        let Address::V6(address) = address else { return found == key };
        if found & !WRITTEN != key {
            return false;
        }
        // Whoever makes the entry is between the three stores of `claim`.
        while entry.key.load(Ordering::Acquire) & WRITTEN == 0 {
            std::hint::spin_loop();
        }
        let [high, low] = &self.addresses[at];
        let half = |half: &AtomicU64| u128::from(half.load(Ordering::Relaxed));
        half(high) << 64 | half(low) == address
    }

    /// Takes a free place for a next hop. Also true if another thread took it for the same next hop meanwhile.
    fn claim(&self, at: usize, key: u64, address: Address) -> bool {
        let entry = &self.entries[at];
        if entry.key.load(Ordering::Relaxed) != 0
            || entry.key.compare_exchange(0, key, Ordering::Relaxed, Ordering::Relaxed).is_err()
        {
            return self.is_of(at, key, address);
        }
        if let Address::V6(address) = address {
            let [high, low] = &self.addresses[at];
            high.store((address >> 64) as u64, Ordering::Relaxed);
            low.store(address as u64, Ordering::Relaxed);
            // Pairs with the Acquire of whoever reads the halves.
            entry.key.store(key | WRITTEN, Ordering::Release);
        }
        self.used.fetch_add(1, Ordering::Relaxed);
        true
    }

    /// The next hop of an entry.
    #[must_use]
    pub fn hop(&self, adjacency: Adjacency) -> Option<Hop> {
        let at = adjacency.0 as usize;
        let key = self.entries.get(at)?.key.load(Ordering::Acquire);
        let address = match key & (USED | V6 | WRITTEN) {
            USED => Address::V4(key as u32),
            0 => return None,
            // A thread that has the number of an IPv6 entry has read or written its address before.
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
        if entry.recent.load(Ordering::Relaxed) != 1 {
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
        entry.refresh(mac, &self.exits.lock());
    }

    /// Sets what is known of the ports. For the control core.
    pub(crate) fn set_exits(&self, exits: Vec<Exit>) {
        let mut known = self.exits.lock();
        if *known == exits {
            return;
        }
        *known = exits;
        for entry in &self.entries {
            if entry.is_known() {
                let mac = Mac::from_word(entry.macs.load(Ordering::Relaxed));
                entry.refresh(Some(mac), &known);
            }
        }
    }

    /// The next hops that packets were sent to since the last call. The iterator must be run to its end. For the
    /// control core.
    pub fn take_recent(&self) -> impl Iterator<Item = (Adjacency, Hop)> {
        self.entries.iter().enumerate().filter_map(|(at, entry)| {
            let rounds = entry.recent.load(Ordering::Relaxed);
            if entry.key.load(Ordering::Relaxed) == 0 || rounds > IDLE {
                return None;
            }
            entry.recent.store((rounds + 1).max(2), Ordering::Relaxed);
            let adjacency = Adjacency(at as u32);
            if rounds == 1 { Some((adjacency, self.hop(adjacency)?)) } else { None }
        })
    }

    /// The next hops whose MAC addresses are known. For the control core.
    pub fn known(&self) -> impl Iterator<Item = (Adjacency, Hop)> {
        let known = self.entries.iter().enumerate().filter(|(_, entry)| entry.is_known());
        known.filter_map(|(at, _)| {
            let adjacency = Adjacency(at as u32);
            Some((adjacency, self.hop(adjacency)?))
        })
    }

    /// Retires the entries that have not been used for a minute and do not answer, if the table is half full and they
    /// are a good part of it: [`Self::entry`] no longer finds them. Their places become free by [`Self::free`]. For
    /// the control core.
    pub(crate) fn retire(&self) -> Vec<Adjacency> {
        let size = self.entries.len();
        if self.len() <= size / 2 {
            return Vec::new();
        }
        let over = self.entries.iter().enumerate().filter(|(_, entry)| {
            let key = entry.key.load(Ordering::Relaxed);
            let is_whole = key & (USED | V6) == USED || key & WRITTEN != 0;
            is_whole && !entry.is_known() && entry.recent.load(Ordering::Relaxed) > IDLE
        });
        let over: Vec<_> = over.map(|(at, _)| at).collect();
        if over.len() < size / WORTH {
            return Vec::new();
        }
        for at in &over {
            self.entries[*at].key.fetch_or(RETIRED, Ordering::Relaxed);
        }
        over.into_iter().map(|at| Adjacency(at as u32)).collect()
    }

    /// Frees the place of an entry that was retired, when nobody has its number any more. For the control core.
    pub(crate) fn free(&self, adjacency: Adjacency) {
        let Some(entry) = self.entries.get(adjacency.0 as usize) else { return };
        if entry.key.load(Ordering::Relaxed) & RETIRED != 0 {
            entry.recent.store(0, Ordering::Relaxed);
            self.used.fetch_sub(1, Ordering::Relaxed);
            // The old contents are of no use to the next entry here: its link is not known yet.
            entry.key.store(0, Ordering::Relaxed);
        }
    }
}

impl Entry {
    fn is_known(&self) -> bool {
        self.rest.load(Ordering::Relaxed) & KNOWN != 0
    }

    /// Only one thread, the control core's, changes an entry that is in use.
    fn refresh(&self, mac: Option<Mac>, exits: &[Exit]) {
        let port = (self.key.load(Ordering::Relaxed) >> 32) as u8;
        let Some(mac) = mac else {
            // The address bits stay, for threads that have just read that there is a MAC address.
            self.rest.store(0, Ordering::Relaxed);
            return;
        };
        let exit = exits.get(usize::from(port)).copied().unwrap_or(Exit { mac: Mac::default(), mtu: 0 });
        let own = exit.mac.word();
        // A thread that sees an MTU sees the MAC addresses as well (Release, in `Entry::hot`). A port's address is
        // set before it is used and then stays, so the two words always belong together.
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

    /// Rounds of the control core without a packet.
    fn rest(table: &Adjacencies) {
        (0..=IDLE).for_each(|_| assert_eq!(table.take_recent().count(), 0));
    }

    fn hop(address: u32) -> Hop {
        let wide = Address::V6(u128::from(address) << 64 | 1);
        Hop { port: 1, address: if address.is_multiple_of(2) { Address::V4(address) } else { wide } }
    }

    #[test]
    fn places_of_what_is_not_used_and_does_not_answer_come_back() {
        let table = Adjacencies::new(1024);
        let all: Vec<_> = (0..600).map(|at| table.entry(hop(at)).unwrap()).collect();
        let mac = Some(Mac([2; 6]));
        (0..100).for_each(|at| table.set(all[at], mac));
        assert_eq!(table.retire(), [], "they are new");
        rest(&table);
        (100..200).for_each(|at| assert_eq!(table.link(all[at]).mac, None));
        let mut retired = table.retire();
        retired.sort_by_key(|way| way.number());
        let mut expected = all[200..].to_vec();
        expected.sort_by_key(|way| way.number());
        assert_eq!(retired, expected, "those with a MAC address and those in use stay");
        assert_eq!((table.find(hop(200)), table.find(hop(199))), (None, Some(all[199])));
        // As long as anybody may have their numbers, they say what they said.
        assert_eq!(table.hop(all[201]), Some(hop(201)));
        let again = table.entry(hop(201)).unwrap();
        assert!(!all.contains(&again));
        retired.iter().for_each(|way| table.free(*way));
        assert_eq!((table.len(), table.hop(all[300]), table.retire()), (201, None, vec![]));
        for at in 0..200 {
            assert_eq!(table.entry(hop(at)), Ok(all[at as usize]), "whatever became free before it");
        }
        assert_eq!((table.entry(hop(201)), table.len()), (Ok(again), 201));
        table.set(again, mac);
        assert_eq!(table.known().count(), 101);
        (1000..1300).for_each(|at| assert_eq!(table.link(table.entry(hop(at)).unwrap()).mac, None));
        assert_eq!(table.len(), 501);
    }

    /// However many next hops are heard of and asked for, none of which answers for long, there is room; and a number
    /// stands for the same next hop as long as anybody may have it.
    #[test]
    #[cfg_attr(miri, ignore = "too much for an interpreter")]
    fn never_full_of_what_is_gone() {
        let table = Adjacencies::new(1 << 12);
        let mut held = std::collections::HashMap::new();
        let mut retired = Vec::new();
        for round in 0_u32..60 {
            // Of these a packet goes to some in each round, and 20 answer.
            for at in 0..100 {
                let way = table.entry(hop(at)).unwrap();
                assert_eq!(*held.entry(at).or_insert(way), way, "{round}");
                let _ = table.link(way);
                table.set(way, (at < 20).then_some(Mac([at as u8; 6])));
            }
            for at in 0..300 {
                let way = table.entry(hop(1000 * (round + 1) + at)).unwrap();
                let _ = table.link(way);
                table.set(way, Some(Mac([9; 6])));
                table.set(way, None);
            }
            let _: Vec<_> = table.take_recent().collect();
            std::mem::take(&mut retired).into_iter().for_each(|way| table.free(way));
            retired = table.retire();
        }
        assert!(table.len() < 1 << 12);
        assert_eq!(table.known().count(), 20);
        assert!((0..20).all(|at| table.link(held[&at]).mac == Some(Mac([at as u8; 6]))));
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
