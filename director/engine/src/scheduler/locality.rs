//! `lblc` and `lblcr`: the server, or the set of servers, that a destination address had before.

use director_flow::{TICKS_PER_SECOND, Tick};
use director_packet::Address;

use super::hashing::golden;
use super::least::weighted;
use super::tournament::Tournament;
use crate::servers::{Servers, Standing};

/// What was not asked for this long is forgotten, and a set that did not change loses a server: the default
/// of `net.ipv4.vs.lblc_expiration` and `lblcr_expiration`, 24 hours.
const EXPIRATION: u32 = 24 * 60 * 60 * TICKS_PER_SECOND;

/// A destination address and what is known of its servers.
#[derive(Clone, Copy, Debug)]
struct Destination {
    address: Address,
    /// How many servers it has; 0: this is free.
    count: usize,
    used: Tick,
    /// When a server came to its set or left it.
    changed: Tick,
}

impl Destination {
    const FREE: Self = Self { address: Address::V4(0), count: 0, used: Tick(0), changed: Tick(0) };
}

/// How many destinations share a part of the cache by their hash.
const GROUP: usize = 8;

/// The destinations with their servers, in memory that is there from the start. A new destination that
/// finds no free place in its group takes that of the one not used for longest.
#[derive(Debug)]
struct Cache {
    destinations: Box<[Destination]>,
    /// The slots of each destination's servers, `width` places for each, the newest last.
    slots: Box<[u32]>,
    width: usize,
}

impl Cache {
    fn new(destinations: usize, width: usize) -> Self {
        let (destinations, width) = (destinations.max(1), width.max(1));
        Self {
            destinations: vec![Destination::FREE; destinations].into(),
            slots: vec![0; destinations * width].into(),
            width,
        }
    }

    /// Takes over what fits: of the same shape all at once, as workers wait meanwhile.
    fn adopt(&mut self, old: &mut Self) {
        if (self.destinations.len(), self.width) == (old.destinations.len(), old.width) {
            std::mem::swap(self, old);
            return;
        }
        for (at, destination) in old.destinations.iter().enumerate().take(self.destinations.len()) {
            let set = &old.slots[at * old.width..][..destination.count];
            // The newest stay.
            let kept = &set[set.len().saturating_sub(self.width)..];
            self.slots[at * self.width..][..kept.len()].copy_from_slice(kept);
            self.destinations[at] = Destination { count: kept.len(), ..*destination };
        }
    }

    /// Where an address can be: among a few, so that nobody has to look through all.
    fn group(&self, address: Address) -> std::ops::Range<usize> {
        let groups = self.destinations.len().div_ceil(GROUP);
        let first = golden(address.fold()) % groups * GROUP;
        first..(first + GROUP).min(self.destinations.len())
    }

    fn find(&mut self, address: Address, now: Tick) -> Option<usize> {
        let is_it = |at: &usize| {
            let known = &self.destinations[*at];
            known.count > 0 && known.address == address
        };
        let at = self.group(address).find(is_it)?;
        let known = &mut self.destinations[at];
        if now.since(known.used) >= EXPIRATION {
            known.count = 0;
            return None;
        }
        known.used = now;
        Some(at)
    }

    /// A place for an address.
    fn claim(&mut self, address: Address, now: Tick) -> usize {
        let idle = |at: &usize| {
            let known = &self.destinations[*at];
            if known.count == 0 { u32::MAX } else { now.since(known.used) }
        };
        let group = self.group(address);
        let at = group.clone().max_by_key(idle).unwrap_or(group.start);
        self.destinations[at] = Destination { address, count: 0, used: now, changed: now };
        at
    }

    fn set(&self, at: usize) -> &[u32] {
        &self.slots[at * self.width..][..self.destinations[at].count]
    }

    /// Adds a server to a set that does not have it. One that is full keeps those it has.
    fn insert(&mut self, at: usize, slot: u32, now: Tick) {
        let destination = &mut self.destinations[at];
        if destination.count < self.width {
            self.slots[at * self.width + destination.count] = slot;
            destination.count += 1;
            destination.changed = now;
        }
    }

    fn remove(&mut self, at: usize, slot: u32, now: Tick) {
        let destination = &mut self.destinations[at];
        let set = &mut self.slots[at * self.width..][..destination.count];
        if let Some(place) = set.iter().position(|&other| other == slot) {
            set.copy_within(place + 1.., place);
            destination.count -= 1;
            destination.changed = now;
        }
    }
}

/// How many slots the sets of a service may have together, 4 bytes each.
const POOL: usize = 1 << 18;

/// Room in a set for servers that were deleted, and are remembered.
const DELETED: usize = 16;

/// `lblc` and `lblcr`.
#[derive(Debug)]
pub(super) struct Locality {
    replicated: bool,
    cache: Cache,
    tournament: Tournament,
    /// Which servers have less than half as many active connections as their weight, and how many these
    /// are.
    relaxed: Box<[bool]>,
    relaxed_count: usize,
}

/// Whether a server could do with more than twice of what it has to do.
fn is_relaxed(standing: &Standing) -> bool {
    !standing.is_gone() && u64::from(standing.active) * 2 < u64::from(standing.weight)
}

impl Locality {
    /// For so many destinations; a service with one address has one.
    pub(super) fn new(replicated: bool, destinations: usize, standings: &[Standing]) -> Self {
        let relaxed: Box<[_]> = standings.iter().map(is_relaxed).collect();
        // Of few shapes, so that few changes of the list change it.
        let room = (standings.len() + DELETED).next_power_of_two();
        let width = if replicated { room.min(POOL / destinations.max(1)) } else { 1 };
        Self {
            replicated,
            cache: Cache::new(destinations, width),
            tournament: Tournament::new(standings.iter().map(weighted)),
            relaxed_count: relaxed.iter().filter(|&&relaxed| relaxed).count(),
            relaxed,
        }
    }

    pub(super) fn update(&mut self, place: usize, standing: &Standing) {
        self.tournament.set(place, weighted(standing));
        let now = is_relaxed(standing);
        let before = std::mem::replace(&mut self.relaxed[place], now);
        self.relaxed_count = self.relaxed_count + usize::from(now) - usize::from(before);
    }

    pub(super) fn adopt(&mut self, old: &mut Self) {
        self.cache.adopt(&mut old.cache);
    }

    /// A slot becomes another server's.
    pub(super) fn forget(&mut self, slot: u32) {
        for at in 0..self.cache.destinations.len() {
            self.cache.remove(at, slot, self.cache.destinations[at].changed);
        }
    }

    /// Whether a server has more to do than it should while another has less than half of it.
    fn is_overloaded(&self, standing: &Standing) -> bool {
        standing.active > standing.weight && self.relaxed_count > 0
    }

    pub(super) fn choose(
        &mut self,
        slots: &impl Fn(usize) -> Option<u32>,
        servers: &Servers,
        destination: Address,
        now: Tick,
    ) -> Option<usize> {
        let known = self.cache.find(destination, now);
        let kept = match known {
            Some(at) if self.replicated => self.of_set(at, servers, now),
            // A server stays beyond its upper threshold, as in IPVS.
            Some(at) => self.cache.set(at).first().map(|&slot| (slot, servers.standing(slot))),
            None => None,
        };
        if let Some((slot, standing)) = kept
            && !standing.is_gone()
            && standing.weight > 0
            && !self.is_overloaded(&standing)
            && let place = servers.place(slot)
            && slots(place) == Some(slot)
        {
            return Some(place);
        }
        let place = self.tournament.least()?;
        let slot = slots(place)?;
        let at = known.unwrap_or_else(|| self.cache.claim(destination, now));
        if !self.replicated {
            self.cache.destinations[at].count = 0;
        }
        if !self.cache.set(at).contains(&slot) {
            self.cache.insert(at, slot, now);
        }
        Some(place)
    }

    /// The least loaded usable server of a set, the newest member of equal ones. A set that has not changed
    /// for long loses the one with the most to do.
    fn of_set(&mut self, at: usize, servers: &Servers, now: Tick) -> Option<(u32, Standing)> {
        let members = || self.cache.set(at).iter().rev().map(|&slot| (slot, servers.standing(slot)));
        let usable = members().filter(|(_, standing)| standing.is_usable());
        let least =
            usable.reduce(
                |least, member| {
                    if weighted(&member.1).is_below(weighted(&least.1)) { member } else { least }
                },
            );
        let is_old = now.since(self.cache.destinations[at].changed) > EXPIRATION;
        if self.cache.destinations[at].count > 1 && is_old {
            // Whether it is usable does not matter here.
            let heaviness = |standing: &Standing| weighted(&standing.as_usable());
            let weighing = members().filter(|(_, standing)| standing.weight > 0);
            let most = weighing.reduce(|most, member| {
                if heaviness(&most.1).is_below(heaviness(&member.1)) { member } else { most }
            });
            if let Some((slot, _)) = most {
                self.cache.remove(at, slot, now);
            }
        }
        least
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations_have_sets_of_their_own() {
        let mut cache = Cache::new(2, 2);
        let first = cache.claim(Address::V4(1), Tick(10));
        [7, 8, 9].iter().for_each(|&slot| cache.insert(first, slot, Tick(10)));
        assert_eq!(cache.set(first), [7, 8], "a full set keeps what it has");
        let second = cache.claim(Address::V4(2), Tick(11));
        cache.insert(second, 9, Tick(11));
        assert_eq!(
            (cache.find(Address::V4(1), Tick(12)), cache.find(Address::V4(2), Tick(11))),
            (Some(first), Some(second))
        );
        cache.remove(first, 7, Tick(12));
        assert_eq!((cache.set(first), cache.set(second)), (&[8][..], &[9][..]));
        // No place is left: the one not used for longest goes.
        assert_eq!(cache.claim(Address::V4(3), Tick(13)), second);
        assert_eq!((cache.find(Address::V4(2), Tick(13)), cache.set(second).len()), (None, 0));
    }

    #[test]
    fn a_day_without_use_and_all_is_forgotten() {
        let mut cache = Cache::new(1, 1);
        let at = cache.claim(Address::V4(1), Tick(u32::MAX - 5));
        cache.insert(at, 7, Tick(u32::MAX - 5));
        let later = Tick(u32::MAX - 5).plus(EXPIRATION - 1);
        assert_eq!(cache.find(Address::V4(1), later), Some(at));
        assert_eq!(cache.find(Address::V4(1), later.plus(EXPIRATION)), None);
    }

    #[test]
    fn a_longer_list_keeps_the_sets() {
        let mut old = Cache::new(20, 2);
        for address in 0..20 {
            let at = old.claim(Address::V4(address), Tick(1));
            old.insert(at, address, Tick(1));
            old.insert(at, address + 100, Tick(1));
        }
        let known: Vec<u32> =
            (0..20).filter(|&address| old.find(Address::V4(address), Tick(1)).is_some()).collect();
        assert!(known.len() >= 8, "{known:?}");
        for width in [1, 5, 2] {
            let mut new = Cache::new(20, width);
            new.adopt(&mut old);
            for &address in &known {
                let at = new.find(Address::V4(address), Tick(1)).unwrap();
                let set = [address, address + 100];
                assert_eq!(new.set(at), &set[2 - width.min(2)..]);
            }
        }
    }
}
