//! A connection's record: one cache line for IPv4, two for IPv6.

use std::fmt;
use std::marker::PhantomData;

use crate::clock::Clock;
use crate::family::Family;
use crate::slab::Blank;
use crate::sync::{
    AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
};
use crate::time::Tick;

/// The position of a record in its table.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
pub struct Index(u32);

impl Index {
    pub(crate) const fn new(position: u32) -> Self {
        Index(position)
    }

    /// The position as a number, below the table's capacity.
    #[inline]
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }

    pub(crate) const fn at(self) -> usize {
        self.0 as usize
    }
}

/// A connection's record: its client end, its clock, and [`Family::USER_WORDS`] words of the caller's.
///
/// Records are never moved, and never unmapped while the table lives. A worker may read one it found until its next
/// quiescent report; only then can it become another connection's.
///
/// Words: the client end (`END_WORDS`), the clock, book-keeping (insertion sequence 32 | generation 8), the caller's.
#[repr(C, align(64))]
pub struct Record<F: Family> {
    words: F::Words,
    family: PhantomData<F>,
}

impl<F: Family> Blank for Record<F> {
    fn blank() -> Self {
        Record { words: F::Words::blank(), family: PhantomData }
    }
}

impl<F: Family> Record<F> {
    #[inline]
    fn all(&self) -> &[AtomicU64] {
        self.words.as_ref()
    }

    #[inline]
    fn clock_word(&self) -> &AtomicU64 {
        &self.all()[F::END_WORDS]
    }

    #[inline]
    fn book(&self) -> &AtomicU64 {
        &self.all()[F::END_WORDS + 1]
    }

    #[inline]
    fn user(&self) -> &[AtomicU64] {
        &self.all()[F::END_WORDS + 2..]
    }

    /// The client end, as given to the insertion.
    #[inline]
    #[must_use]
    pub fn end(&self) -> F::End {
        F::load(self.all())
    }

    /// Whether this is the client end.
    #[inline(always)]
    #[must_use]
    pub fn is_of(&self, end: F::End) -> bool {
        F::is(self.all(), end)
    }

    /// The caller's word `i`, which must be below [`Family::USER_WORDS`].
    ///
    /// A relaxed load: words stored while the entry was made are seen by everyone who found the entry; a later store is
    /// seen some time later.
    #[inline]
    #[must_use]
    pub fn word(&self, i: usize) -> u64 {
        self.user()[i].load(Relaxed)
    }

    /// Stores the caller's word `i` (relaxed).
    #[inline]
    pub fn set_word(&self, i: usize, value: u64) {
        self.user()[i].store(value, Relaxed);
    }

    /// When the entry was last seen, its state, its timeout, and whether it is dead.
    #[inline]
    #[must_use]
    pub fn clock(&self) -> Clock {
        // Acquire pairs with the Release of `begin`: a thread that sees a live clock without having found the entry
        // through its bucket (the control core, in a scan) sees the words that the entry was made with.
        Clock::from_bits(self.clock_word().load(Acquire))
    }

    /// Replaces the clock if it still is `old`.
    ///
    /// # Errors
    ///
    /// The present clock, if it is not `old`, or if the entry is dead (then the entry no longer exists: a miss).
    #[inline]
    pub fn update(&self, old: Clock, new: Clock) -> Result<(), Clock> {
        if old.is_dead() {
            return Err(self.clock());
        }
        self.swap_clock(old, old.succeeded_by(new))
    }

    /// Notes that a packet was seen at `now`. Writes only if none was noted for half a second, so that the cache line
    /// of a busy connection stays clean.
    ///
    /// # Errors
    ///
    /// The clock, if the entry is dead (then it no longer exists: a miss).
    #[inline]
    pub fn touch(&self, now: Tick) -> Result<Clock, Clock> {
        let mut clock = self.clock();
        loop {
            if !clock.is_live() {
                return Err(clock);
            }
            if !clock.is_stale(now) {
                return Ok(clock);
            }
            let seen = clock.with_seen(now);
            match self.swap_clock(clock, seen) {
                Ok(()) => return Ok(seen),
                Err(current) => clock = current,
            }
        }
    }

    /// Compare-and-swap on the clock. Release: the control core that acts on a changed clock (an entry killed, a
    /// timeout shortened) sees what the worker wrote before. Acquire: the control core's kill sees all of it.
    #[inline]
    fn swap_clock(&self, old: Clock, new: Clock) -> Result<(), Clock> {
        self.clock_word()
            .compare_exchange(old.bits(), new.bits(), AcqRel, Acquire)
            .map(|_| ())
            .map_err(Clock::from_bits)
    }

    /// Marks the entry dead if its clock still is `old`, which is live.
    pub(crate) fn kill(&self, old: Clock) -> Result<(), Clock> {
        self.swap_clock(old, old.dead())
    }

    /// Marks the entry as having a second key if its clock still is `old`, which is live.
    pub(crate) fn set_alias(&self, old: Clock) -> Result<(), Clock> {
        self.swap_clock(old, old.aliased())
    }

    /// Stores the end of an alias in the first of the caller's words. For a caller that wants it to be there from the
    /// beginning, before [`crate::WorkerLocal::insert_alias`] stores it.
    pub fn store_alias_end(&self, end: F::End) {
        F::store(end, self.user());
    }

    /// The end of the alias of an entry that has one.
    #[must_use]
    pub fn alias_end(&self) -> F::End {
        F::load(self.user())
    }

    /// How often this record was reused, modulo 256; distinguishes two entries in the same place.
    #[must_use]
    pub fn generation(&self) -> u8 {
        (self.book().load(Relaxed) >> 32) as u8
    }

    /// The insertion's number in its bucket; of two entries of one client end, the newer has the higher (wrapping).
    #[inline]
    #[must_use]
    pub fn sequence(&self) -> u32 {
        self.book().load(Relaxed) as u32
    }

    /// Whether this entry was inserted after `other`, which is in the same bucket.
    #[inline]
    pub(crate) fn is_newer_than(&self, other: &Self) -> bool {
        self.sequence().wrapping_sub(other.sequence()) as i32 > 0
    }

    /// Prepares a free record for its next entry. Only the worker that took it from the free list calls this.
    pub(crate) fn prepare(&self, end: F::End, sequence: u32) {
        F::store(end, self.all());
        let generation = self.book().load(Relaxed) & !0xffff_ffff;
        self.book().store(generation | u64::from(sequence), Relaxed);
        for word in self.user() {
            word.store(0, Relaxed);
        }
    }

    /// Starts the entry's life. Release pairs with the Acquire of [`Record::clock`].
    pub(crate) fn begin(&self, clock: Clock) {
        self.clock_word().store(clock.bits(), Release);
    }

    /// Ends the entry's life for good. Only the control core calls this, when no worker can hold the record any more.
    /// The record's next owner gets what it writes through the free list.
    pub(crate) fn retire(&self) {
        self.clock_word().store(Clock::FREE.bits(), Relaxed);
        let book = self.book().load(Relaxed);
        self.book().store(book.wrapping_add(1 << 32) & 0xff_ffff_ffff, Relaxed);
    }

    /// A word of the last cache line.
    #[inline]
    pub(crate) fn last_word(&self) -> &AtomicU64 {
        &self.all()[F::WORDS - 1]
    }

    /// The word that links free records.
    pub(crate) fn link(&self) -> &AtomicU64 {
        &self.all()[0]
    }
}

impl<F: Family> fmt::Debug for Record<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record")
            .field("end", &self.end())
            .field("clock", &self.clock())
            .field("sequence", &self.sequence())
            .field("words", &self.user())
            .finish()
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;
    use crate::clock::SEEN_LAG;
    use crate::family::{V4, V4End, V6};

    const END: V4End = V4End::new(0x0a00_0001, 1234, 6);

    #[test]
    fn a_record_is_whole_cache_lines() {
        assert_eq!((size_of::<Record<V4>>(), align_of::<Record<V4>>()), (64, 64));
        assert_eq!((size_of::<Record<V6>>(), align_of::<Record<V6>>()), (128, 64));
        assert_eq!((V4::USER_WORDS, V6::USER_WORDS), (5, 11));
    }

    #[test]
    fn the_callers_words_are_its_own() {
        let record = Record::<V4>::blank();
        record.prepare(END, 9);
        record.begin(Clock::new(Tick(5), 1, 60));
        for i in 0..V4::USER_WORDS {
            assert_eq!(record.word(i), 0);
            record.set_word(i, u64::MAX - i as u64);
        }
        assert_eq!((record.word(4), record.word(3)), (u64::MAX - 4, u64::MAX - 3));
        assert_eq!((record.end(), record.sequence(), record.generation()), (END, 9, 0));
        assert_eq!(record.clock(), Clock::new(Tick(5), 1, 60));
    }

    #[test]
    fn a_dead_entry_stays_dead() {
        let record = Record::<V4>::blank();
        record.prepare(END, 0);
        let clock = Clock::new(Tick(5), 1, 60);
        record.begin(clock);
        assert_eq!(record.touch(Tick(5 + SEEN_LAG)), Ok(clock));
        assert_eq!(record.touch(Tick(4)), Ok(clock), "a worker's tick may be behind");
        let seen = clock.with_seen(Tick(6 + SEEN_LAG));
        assert_eq!(record.touch(Tick(6 + SEEN_LAG)), Ok(seen));
        assert_eq!(record.kill(clock), Err(seen), "a packet came in between");
        assert_eq!(record.kill(seen), Ok(()));
        assert_eq!(record.touch(Tick(50)), Err(seen.dead()));
        assert_eq!(record.update(seen, seen.with_state(2)), Err(seen.dead()));
        assert_eq!(record.update(record.clock(), clock), Err(seen.dead()));
        assert_eq!(record.clock(), seen.dead());
    }

    #[test]
    fn a_busy_record_is_written_to_twice_a_second_at_most() {
        let record = Record::<V4>::blank();
        record.prepare(END, 0);
        // Across the wrap, by two workers of which one is a tick behind.
        let start = Tick(u32::MAX - 40);
        record.begin(Clock::new(start, 1, 60));
        let mut writes = 0;
        for ticks in 0..100 {
            for now in [start.plus(ticks), start.plus(ticks).minus(1), start.plus(ticks)] {
                let before = record.clock();
                let after = record.touch(now).unwrap();
                assert_eq!(after, record.clock());
                assert!(after == before || after == before.with_seen(now));
                writes += u32::from(after != before);
                // Neither forgotten for long, nor earlier than it was.
                assert!(now.since(after.seen()) <= SEEN_LAG && before.seen().since(after.seen()) == 0);
            }
        }
        assert_eq!(writes, 19, "in ten seconds");
    }

    #[test]
    fn reuse_counts_generations_and_clears_the_words() {
        let record = Record::<V4>::blank();
        for n in 0..300_u32 {
            record.prepare(END, n);
            assert_eq!(u32::from(record.generation()), n % 256);
            assert_eq!((record.word(0), record.sequence()), (0, n));
            record.begin(Clock::new(Tick(n), 0, 1));
            record.set_word(0, 1);
            record.retire();
            assert!(!record.clock().is_live());
        }
    }

    #[test]
    fn newer_survives_the_wrap() {
        let (old, new) = (Record::<V4>::blank(), Record::<V4>::blank());
        old.prepare(END, u32::MAX);
        new.prepare(END, 0);
        assert!(new.is_newer_than(&old) && !old.is_newer_than(&new) && !new.is_newer_than(&new));
    }
}
