//! A bucket of the index: one cache line that holds a head, eleven 8-bit tags and eleven record positions.
//!
//! A bucket is written under its chain's writer bit, which is the one in the home bucket's head, and read by anyone at
//! any time. A slot is a tag and a position in two words, and a reader may see the one old and the other new. That is
//! harmless: a tag only selects what to look at, and what is looked at is the record, which says whose it is. A slot's
//! history is always empty, entry, empty, entry; so a reader that gets a mixture finds "not here" for a slot that was
//! being filled or emptied while it looked.

use crate::record::Index;
use crate::slab::Blank;
use crate::sync::{
    AtomicU32, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
    note_lock, relax,
};
use crate::tags::equal_tags;

/// Slots in a bucket. (Under loom two: there is less to explore, and overflow comes sooner.)
pub(crate) const SLOTS: usize = if cfg!(loom) { 2 } else { 11 };

/// Tags in the first tag word; the second has the rest.
const LOW_TAGS: usize = 8;
/// A bit for each slot.
const ALL_SLOTS: u32 = (1 << SLOTS) - 1;

/// One cache line of the index.
#[repr(C, align(64))]
pub(crate) struct Bucket {
    /// Writer bit 1 | next bucket of the chain 31 (0: none) | insertion sequence 32. The bit and the sequence are
    /// used in home buckets only. In a free overflow bucket the whole word is a link of the free list.
    head: AtomicU64,
    tags_low: AtomicU64,
    tags_high: AtomicU32,
    /// Position of the record, plus one; 0: empty.
    slots: [AtomicU32; SLOTS],
}

#[cfg(not(loom))]
const _: () = assert!(size_of::<Bucket>() == 64);

impl Blank for Bucket {
    fn blank() -> Self {
        Bucket {
            head: AtomicU64::blank(),
            tags_low: AtomicU64::blank(),
            tags_high: AtomicU32::blank(),
            slots: Blank::blank(),
        }
    }
}

/// A set of slots of one bucket, a bit for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SlotSet(u32);

impl Iterator for SlotSet {
    type Item = usize;

    #[inline]
    fn next(&mut self) -> Option<usize> {
        if self.0 == 0 {
            return None;
        }
        let slot = self.0.trailing_zeros() as usize;
        self.0 &= self.0 - 1;
        Some(slot)
    }
}

/// A value of a bucket's head.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head(u64);

const LOCKED: u64 = 1 << 63;
const NEXT_SHIFT: u32 = 32;
const NEXT_MASK: u64 = 0x7fff_ffff << NEXT_SHIFT;

impl Head {
    /// The next bucket of the chain.
    #[inline]
    pub(crate) fn next(self) -> Option<u32> {
        let next = ((self.0 & !LOCKED) >> NEXT_SHIFT) as u32;
        (next != 0).then_some(next)
    }

    pub(crate) fn sequence(self) -> u32 {
        self.0 as u32
    }

    fn with_next(self, next: Option<u32>) -> Self {
        Head(self.0 & (LOCKED | 0xffff_ffff) | u64::from(next.unwrap_or(0)) << NEXT_SHIFT)
    }

    fn counted(self) -> Self {
        Head(self.0 & !0xffff_ffff | u64::from(self.sequence().wrapping_add(1)))
    }
}

impl Bucket {
    #[inline]
    fn matching(&self, tag: u8) -> SlotSet {
        SlotSet(equal_tags(self.tags_low.load(Relaxed), self.tags_high.load(Relaxed), tag) & ALL_SLOTS)
    }

    /// The slots with this tag, which is not 0.
    #[inline]
    pub(crate) fn tagged(&self, tag: u8) -> SlotSet {
        self.matching(tag)
    }

    /// The empty slots. Only under the chain's writer bit.
    pub(crate) fn vacant(&self) -> SlotSet {
        self.matching(0)
    }

    /// Whether no slot is in use. Only under the chain's writer bit.
    pub(crate) fn is_vacant(&self) -> bool {
        self.tags_low.load(Relaxed) == 0 && self.tags_high.load(Relaxed) == 0
    }

    /// The position plus one of the only entry of the chain with this tag; 0 if there is none, or if there may be
    /// several.
    #[inline(always)]
    pub(crate) fn only(&self, tag: u8) -> u32 {
        let SlotSet(set) = self.matching(tag);
        if set.count_ones() != 1 || self.head().0 & NEXT_MASK != 0 {
            return 0;
        }
        // Acquire: as in `slot`.
        self.slots.get(set.trailing_zeros() as usize).map_or(0, |slot| slot.load(Acquire))
    }

    /// What a slot holds.
    ///
    /// Acquire pairs with the Release of [`Bucket::fill`]: a thread that reads a position sees the record as it was
    /// published. (A lookup then reads the clock, which ensures the same; other callers do not.)
    #[inline]
    pub(crate) fn slot(&self, slot: usize) -> Option<Index> {
        let value = self.slots.get(slot)?.load(Acquire);
        (value != 0).then(|| Index::new(value - 1))
    }

    /// The head, from any thread.
    ///
    /// Acquire pairs with the Release of [`Bucket::set_next`] and [`Writer::drop`]: a thread that follows a link sees
    /// the bucket behind it as it was when it was linked.
    #[inline]
    pub(crate) fn head(&self) -> Head {
        Head(self.head.load(Acquire))
    }

    /// Publishes an entry in an empty slot. Only under the chain's writer bit.
    ///
    /// The order of the two stores does not matter (see above). Release pairs with the Acquire of [`Bucket::slot`].
    pub(crate) fn fill(&self, slot: usize, tag: u8, index: Index) {
        self.set_tag(slot, tag);
        self.slots[slot].store(index.get() + 1, Release);
    }

    /// Empties a slot. Only under the chain's writer bit.
    ///
    /// Relaxed: the grace period decides when nobody can see the entry any more.
    pub(crate) fn clear(&self, slot: usize) {
        self.slots[slot].store(0, Relaxed);
        self.set_tag(slot, 0);
    }

    /// Load and store, not a compare-and-swap: only the holder of the writer bit writes tags.
    fn set_tag(&self, slot: usize, tag: u8) {
        if slot < LOW_TAGS {
            let shift = 8 * slot as u32;
            let tags = self.tags_low.load(Relaxed) & !(0xff << shift) | u64::from(tag) << shift;
            self.tags_low.store(tags, Relaxed);
        } else {
            let shift = 8 * (slot - LOW_TAGS) as u32;
            let tags = self.tags_high.load(Relaxed) & !(0xff << shift) | u32::from(tag) << shift;
            self.tags_high.store(tags, Relaxed);
        }
    }

    /// The tag of a slot. Only under the chain's writer bit.
    pub(crate) fn tag(&self, slot: usize) -> u8 {
        if slot < LOW_TAGS {
            (self.tags_low.load(Relaxed) >> (8 * slot)) as u8
        } else {
            (self.tags_high.load(Relaxed) >> (8 * (slot - LOW_TAGS))) as u8
        }
    }

    /// Links the next bucket of the chain. Only under the chain's writer bit, and not for the home bucket, whose head
    /// is the writer's ([`Writer::set_next`]). Release pairs with the Acquire of [`Bucket::head`].
    pub(crate) fn set_next(&self, next: Option<u32>) {
        self.head.store(Head(0).with_next(next).0, Release);
    }

    /// The word that links free overflow buckets.
    pub(crate) fn link(&self) -> &AtomicU64 {
        &self.head
    }

    /// Takes the chain's writer bit, and waits while another thread has it. Only for home buckets.
    pub(crate) fn write(&self) -> Writer<'_> {
        note_lock();
        let mut spins = 0;
        loop {
            let head = self.head.load(Relaxed);
            // Acquire pairs with the Release of `Writer::drop`: this writer sees all that the last one did.
            if head & LOCKED == 0
                && self.head.compare_exchange_weak(head, head | LOCKED, Acquire, Relaxed).is_ok()
            {
                return Writer { home: self, head: Head(head) };
            }
            relax(&mut spins);
        }
    }
}

/// Holds the writer bit of a chain; releases it when dropped.
pub(crate) struct Writer<'a> {
    home: &'a Bucket,
    /// The home bucket's head as it will be, without the bit.
    head: Head,
}

impl Writer<'_> {
    /// The number of the next insertion.
    pub(crate) fn sequence(&self) -> u32 {
        self.head.sequence()
    }

    /// Counts an insertion.
    pub(crate) fn count(&mut self) {
        self.head = self.head.counted();
    }

    /// The chain's second bucket.
    pub(crate) fn next(&self) -> Option<u32> {
        self.head.next()
    }

    /// Links the chain's second bucket; others see it when the bit is released.
    pub(crate) fn set_next(&mut self, next: Option<u32>) {
        self.head = self.head.with_next(next);
    }
}

impl Drop for Writer<'_> {
    fn drop(&mut self) {
        // Release pairs with the Acquire of `Bucket::write` and `Bucket::head`.
        self.home.head.store(self.head.0, Release);
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;

    #[test]
    fn tags_select_exactly_their_slots() {
        let bucket = Bucket::blank();
        // Neighbouring values, so that a comparison that lets bytes influence each other would show.
        let tags = [1, 2, 1, 255, 128, 127, 1, 129, 1, 254, 2];
        for (slot, &tag) in tags.iter().enumerate() {
            assert_eq!(bucket.vacant().count(), SLOTS - slot);
            bucket.fill(slot, tag, Index::new(100 + slot as u32));
        }
        assert_eq!(bucket.vacant().next(), None);
        for wanted in 1..=255 {
            let expected: Vec<usize> = (0..SLOTS).filter(|&slot| tags[slot] == wanted).collect();
            let mut found: Vec<usize> = bucket.tagged(wanted).collect();
            found.sort_unstable();
            assert_eq!(found, expected, "tag {wanted}");
        }
        for (slot, tag) in tags.iter().enumerate() {
            assert_eq!((bucket.tag(slot), bucket.slot(slot)), (*tag, Some(Index::new(100 + slot as u32))));
        }
        bucket.clear(9);
        assert_eq!(bucket.vacant().collect::<Vec<_>>(), [9]);
        assert_eq!((bucket.tag(9), bucket.slot(9)), (0, None));
        for slot in 0..SLOTS {
            assert!(!bucket.is_vacant());
            bucket.clear(slot);
        }
        assert!(bucket.is_vacant());
    }

    #[test]
    fn the_only_entry_with_a_tag_is_so_in_its_whole_chain() {
        let bucket = Bucket::blank();
        assert_eq!(bucket.only(7), 0);
        for slot in 0..SLOTS {
            // Position 0 is a position, too.
            bucket.fill(slot, 7, Index::new(slot as u32));
            assert_eq!((bucket.only(7), bucket.only(8)), (slot as u32 + 1, 0));
            // While another has the bit and counts, it still is.
            let mut writer = bucket.write();
            writer.count();
            assert_eq!(bucket.only(7), slot as u32 + 1);
            drop(writer);
            assert_eq!(bucket.only(7), slot as u32 + 1);

            let other = (slot + 1) % SLOTS;
            bucket.fill(other, 7, Index::new(99));
            assert_eq!(bucket.only(7), 0, "one of two");
            bucket.fill(other, 8, Index::new(99));
            assert_eq!((bucket.only(7), bucket.only(8)), (slot as u32 + 1, 100));
            bucket.clear(other);

            for next in [1, 0x7fff_ffff] {
                bucket.write().set_next(Some(next));
                assert_eq!(bucket.only(7), 0, "there may be another in the next bucket");
            }
            bucket.write().set_next(None);
            assert_eq!(bucket.only(7), slot as u32 + 1);
            bucket.clear(slot);
            assert_eq!(bucket.only(7), 0);
        }
    }

    #[test]
    fn a_slot_half_filled_or_half_emptied_is_no_entry() {
        let bucket = Bucket::blank();
        bucket.set_tag(3, 7);
        assert_eq!((bucket.only(7), bucket.slot(3)), (0, None));
        bucket.fill(3, 7, Index::new(5));
        bucket.slots[3].store(0, Relaxed);
        assert_eq!((bucket.only(7), bucket.slot(3)), (0, None));
    }

    #[test]
    fn the_writer_keeps_sequence_and_link_apart() {
        let bucket = Bucket::blank();
        for n in 0..5 {
            let mut writer = bucket.write();
            assert_eq!((writer.sequence(), writer.next()), (n, (n > 2).then_some(0x7fff_ffff)));
            writer.count();
            if n == 2 {
                writer.set_next(Some(0x7fff_ffff));
            }
        }
        assert_eq!((bucket.head().sequence(), bucket.head().next()), (5, Some(0x7fff_ffff)));
        bucket.write().set_next(None);
        assert_eq!((bucket.head().sequence(), bucket.head().next()), (5, None));
    }

    #[test]
    fn the_sequence_wraps_without_touching_the_link() {
        let bucket = Bucket::blank();
        bucket.head.store(5 << NEXT_SHIFT | 0xffff_ffff, Relaxed);
        bucket.write().count();
        assert_eq!((bucket.head().sequence(), bucket.head().next()), (0, Some(5)));
    }
}
