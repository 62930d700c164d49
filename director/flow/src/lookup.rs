//! Lookups in bursts.

use ahash::RandomState;

use crate::bucket::Bucket;
use crate::family::Family;
use crate::record::{Index, Record};
use crate::slab::{prefetch_at, prefetch_record_at};
use crate::table::{Hash, MAX_CHAIN, Probe, Table};

/// The parts of a table that a lookup needs, held for a burst: a copy of each address in memory, so that it is in a
/// register and is not read again after every store.
pub struct Lookup<'a, F: Family> {
    seed: &'a RandomState,
    homes: u32,
    buckets: &'a [Bucket],
    records: &'a [Record<F>],
}

impl<F: Family> Clone for Lookup<'_, F> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<F: Family> Copy for Lookup<'_, F> {}

impl<'a, F: Family> Lookup<'a, F> {
    #[inline(always)]
    pub(crate) fn new(table: &'a Table<F>) -> Self {
        Lookup { seed: &table.seed, homes: table.homes, buckets: &table.buckets, records: &table.records }
    }

    /// The hash of a client end, for the functions below.
    #[inline(always)]
    #[must_use]
    pub fn hash(self, end: F::End) -> Hash {
        Hash::new(F::digest(end, self.seed), self.homes)
    }

    /// First pass over a burst: prefetches the bucket.
    #[inline(always)]
    pub fn prefetch(self, hash: Hash) {
        prefetch_at(self.buckets, hash.home());
    }

    /// Second pass over a burst: compares the tags and prefetches the candidate's record.
    #[inline(always)]
    #[must_use]
    pub fn probe(self, hash: Hash) -> Probe {
        let Some(bucket) = self.buckets.get(hash.home() as usize) else { return Probe::NONE };
        let probe = Probe::of(bucket.only(hash.tag()));
        // Without a candidate this is whatever lies before the first record: a hint without effect.
        prefetch_record_at(self.records, probe.position());
        probe
    }

    /// After [`Self::probe`] of a hash that has not exactly one candidate: prefetches the candidates in its bucket,
    /// and the next bucket.
    #[inline(never)]
    pub fn prefetch_candidates(self, hash: Hash) {
        let Some(bucket) = self.buckets.get(hash.home() as usize) else { return };
        self.prefetch_tagged(bucket, hash);
        if let Some(next) = bucket.head().next() {
            prefetch_at(self.buckets, next);
        }
    }

    /// Some time later: prefetches the candidates in the further buckets, so that [`Table::find`] waits for nothing.
    #[inline(never)]
    pub fn prefetch_overflow(self, hash: Hash) {
        let at = |number: u32| self.buckets.get(number as usize);
        let mut next = at(hash.home()).and_then(|bucket| bucket.head().next());
        for _ in 0..MAX_CHAIN {
            let Some(bucket) = next.and_then(at) else { return };
            self.prefetch_tagged(bucket, hash);
            next = bucket.head().next();
        }
    }

    #[inline]
    fn prefetch_tagged(self, bucket: &Bucket, hash: Hash) {
        for index in bucket.tagged(hash.tag()).filter_map(|slot| bucket.slot(slot)) {
            prefetch_record_at(self.records, index.get());
        }
    }

    /// The record of the only candidate.
    #[inline(always)]
    #[must_use]
    pub fn candidate(self, probe: Probe) -> Option<&'a Record<F>> {
        self.records.get(probe.position() as usize)
    }

    /// The record at a position.
    #[inline(always)]
    #[must_use]
    pub fn record(self, index: Index) -> Option<&'a Record<F>> {
        self.records.get(index.at())
    }
}
