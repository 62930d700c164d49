//! The shared list of free positions: a mark up to which positions were ever used, and a stack of those that were
//! freed.
//!
//! The links of the stack are in the free things themselves, so they take no memory. The head carries a number that
//! changes with every removal. A worker that is about to take a position is therefore not misled if others take that
//! position and put it back meanwhile (ABA).

use crate::sync::{
    AtomicU32, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
    Padded, relax,
};

/// Positions a worker takes from the list at once, at most.
pub(crate) const BATCH: usize = 32;

/// Free positions `base..base + limit` of something that has a word to link them by.
pub(crate) struct FreeList {
    /// Removal count 32 | top of the stack 32, as offset from `base` plus one (0: empty).
    head: Padded<AtomicU64>,
    /// Offsets from here on were never used.
    fresh: Padded<AtomicU32>,
    base: u32,
    limit: u32,
}

impl FreeList {
    pub(crate) fn new(base: u32, limit: u32) -> Self {
        FreeList { head: Padded(AtomicU64::new(0)), fresh: Padded(AtomicU32::new(0)), base, limit }
    }

    /// How many positions were ever used: those from `base` on.
    ///
    /// Acquire, so that a caller that learned of an entry by other means does not see a mark below it.
    pub(crate) fn used(&self) -> u32 {
        self.fresh.load(Acquire)
    }

    /// Takes up to `out.len()` positions, preferring those already used, and returns how many; 0: there are none.
    pub(crate) fn take<'a>(&self, out: &mut [u32], link: impl Fn(u32) -> &'a AtomicU64) -> usize {
        let taken = self.take_used(out, link);
        if taken > 0 { taken } else { self.take_fresh(out) }
    }

    fn take_used<'a>(&self, out: &mut [u32], link: impl Fn(u32) -> &'a AtomicU64) -> usize {
        let mut spins = 0;
        loop {
            // Acquire pairs with the Release of `give`: the links behind the head are seen. (The head is changed by
            // read-modify-writes only, so this holds for every `give` whose positions are still on the stack.)
            let head = self.head.load(Acquire);
            let mut next = head & 0xffff_ffff;
            let mut taken = 0;
            // While this walks, others may take these very positions and overwrite the links. Then the walk reads
            // nonsense, and may leave the list; but then the head has changed as well, and the swap below fails.
            while taken < out.len() && next != 0 && next <= u64::from(self.limit) {
                let position = self.base + (next as u32 - 1);
                out[taken] = position;
                taken += 1;
                next = link(position).load(Relaxed);
            }
            if taken == 0 {
                return 0;
            }
            if next <= u64::from(self.limit) {
                let removals = (head >> 32).wrapping_add(1) << 32;
                // Relaxed: if the head is unchanged, everything loaded since is right.
                if self.head.compare_exchange(head, removals | next, Relaxed, Relaxed).is_ok() {
                    return taken;
                }
            }
            relax(&mut spins);
        }
    }

    fn take_fresh(&self, out: &mut [u32]) -> usize {
        let mut fresh = self.fresh.load(Relaxed);
        loop {
            let count = (self.limit - fresh).min(out.len() as u32);
            if count == 0 {
                return 0;
            }
            // Release pairs with the Acquire of `used`.
            match self.fresh.compare_exchange_weak(fresh, fresh + count, Release, Relaxed) {
                Ok(_) => {
                    for (out, offset) in out.iter_mut().zip(fresh..fresh + count) {
                        *out = self.base + offset;
                    }
                    return count as usize;
                }
                Err(current) => fresh = current,
            }
        }
    }

    /// Frees positions, all with one swap. Until then they are the caller's.
    pub(crate) fn give<'a>(&self, positions: &[u32], link: impl Fn(u32) -> &'a AtomicU64) {
        let (Some(&first), Some(&last)) = (positions.first(), positions.last()) else { return };
        let number = |position: u32| u64::from(position - self.base) + 1;
        for pair in positions.windows(2) {
            link(pair[0]).store(number(pair[1]), Relaxed);
        }
        let mut head = self.head.load(Relaxed);
        loop {
            link(last).store(head & 0xffff_ffff, Relaxed);
            let new = head & !0xffff_ffff | number(first);
            // Release pairs with the Acquire of `take_used`: the links, and whatever the caller wrote before.
            match self.head.compare_exchange_weak(head, new, Release, Relaxed) {
                Ok(_) => return,
                Err(current) => head = current,
            }
        }
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;

    #[test]
    fn used_positions_come_first_and_none_twice() {
        let links: Vec<AtomicU64> = (0..100).map(|_| AtomicU64::new(u64::MAX)).collect();
        let link = |position: u32| &links[position as usize - 50];
        let list = FreeList::new(50, 100);
        let mut out = [0; 40];
        assert_eq!(list.take(&mut out, link), 40);
        assert_eq!(out.to_vec(), (50..90).collect::<Vec<u32>>());
        list.give(&[60, 55, 89], link);
        list.give(&[50], link);
        list.give(&[], link);
        assert_eq!(list.take(&mut out[..2], link), 2);
        assert_eq!(out[..2], [50, 60]);
        assert_eq!(list.take(&mut out, link), 2);
        assert_eq!(out[..2], [55, 89]);
        assert_eq!(list.used(), 40);
        assert_eq!(list.take(&mut out, link), 40);
        assert_eq!(list.take(&mut out, link), 20);
        assert_eq!(out[19], 149);
        assert_eq!((list.take(&mut out, link), list.used()), (0, 100));
    }
}
