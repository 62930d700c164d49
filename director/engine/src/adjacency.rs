//! Next hops with what a frame to them needs, shared by all workers.
//!
//! The table only grows: an entry, once made for a next hop, stays at its index, so a connection can
//! keep the index, and a change of the neighbour's MAC address takes effect for all of them at once.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use director_packet::Mac;

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

/// Set in [`Entry::link`] when the MAC address is known.
const KNOWN: u64 = 1 << 63;

/// Set in [`Entry::key`] of an entry in use.
const USED: u64 = 1 << 63;

/// How far from its place an entry may lie before the table counts as full.
const PROBES: usize = 64;

struct Entry {
    /// [`USED`], port in bits 39–32, address below; 0 when free. Written once.
    key: AtomicU64,
    /// [`KNOWN`], port in bits 55–48, MAC address below.
    link: AtomicU64,
    /// Whether a packet was sent to it lately: 1, set by workers and cleared by the control core.
    recent: AtomicU64,
}

/// The table.
pub struct Adjacencies {
    entries: Box<[Entry]>,
    used: AtomicUsize,
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
        let free = || Entry { key: AtomicU64::new(0), link: AtomicU64::new(0), recent: AtomicU64::new(0) };
        Self { entries: std::iter::repeat_with(free).take(size).collect(), used: AtomicUsize::new(0) }
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

    /// The entry of a next hop, made if there is none. Any thread may ask.
    pub fn entry(&self, hop: Hop) -> Result<Adjacency, Full> {
        let key = USED | u64::from(hop.port) << 32 | u64::from(hop.address);
        let mask = self.entries.len() - 1;
        let place = (key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as usize;
        for probe in 0..PROBES.min(self.entries.len()) {
            let at = (place + probe) & mask;
            let entry = &self.entries[at];
            // The key alone is compared, and nothing else depends on it: an entry that was just made
            // has no MAC address, and that is what its zeroed link says. So Relaxed does.
            match entry.key.compare_exchange(0, key, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => {
                    self.used.fetch_add(1, Ordering::Relaxed);
                }
                Err(found) if found == key => {}
                Err(_) => continue,
            }
            // Whoever gets the entry puts the port in, lest it be used while its maker is about to.
            entry.link.fetch_or(u64::from(hop.port) << 48, Ordering::Relaxed);
            return Ok(Adjacency(at as u32));
        }
        Err(Full)
    }

    /// The next hop of an entry.
    #[must_use]
    pub fn hop(&self, adjacency: Adjacency) -> Option<Hop> {
        let key = self.entries.get(adjacency.0 as usize)?.key.load(Ordering::Relaxed);
        (key & USED != 0).then_some(Hop { port: (key >> 32) as u8, address: key as u32 })
    }

    /// What a frame to it needs; notes that one is sent.
    #[inline]
    #[must_use]
    pub fn link(&self, adjacency: Adjacency) -> Link {
        let Some(entry) = self.entries.get(adjacency.0 as usize) else {
            return Link { port: 0, mac: None };
        };
        if entry.recent.load(Ordering::Relaxed) == 0 {
            entry.recent.store(1, Ordering::Relaxed);
        }
        // One word holds all of it, so it is never half old and half new.
        let word = entry.link.load(Ordering::Relaxed);
        Link { port: (word >> 48) as u8, mac: (word & KNOWN != 0).then_some(Mac::from_word(word)) }
    }

    /// Sets what is known of a next hop's MAC address. For the control core.
    pub fn set(&self, adjacency: Adjacency, mac: Option<Mac>) {
        let (Some(entry), Some(hop)) = (self.entries.get(adjacency.0 as usize), self.hop(adjacency)) else {
            return;
        };
        let port = u64::from(hop.port) << 48;
        let word = mac.map_or(port, |mac| KNOWN | port | mac.word());
        entry.link.store(word, Ordering::Relaxed);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_found_again() {
        let table = Adjacencies::new(1000);
        let hop = Hop { port: 3, address: 0xc0a8_0247 };
        let entry = table.entry(hop).unwrap();
        assert_eq!(table.entry(hop), Ok(entry));
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
    fn a_full_table_says_so() {
        let table = Adjacencies::new(64);
        let results: Vec<_> = (0..65).map(|address| table.entry(Hop { port: 0, address })).collect();
        assert_eq!(results.iter().filter(|entry| entry.is_ok()).count(), 64);
        assert_eq!(results[64], Err(Full));
    }
}
