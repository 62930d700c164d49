//! What the table counts.

use crate::sync::{AtomicU64, Ordering::Relaxed};

/// The table's counts at one moment, summed over all workers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Entries that are live now.
    pub active: u64,
    /// Entries that are over, but whose records cannot be reused yet.
    pub dead: u64,
    /// Entries made since the start.
    pub inserted: u64,
    /// Entries that have ended since the start.
    pub killed: u64,
    /// Records freed for reuse since the start.
    pub freed: u64,
    /// Insertions that found the entry already there.
    pub existing: u64,
    /// Insertions refused because no record or no bucket was left.
    pub table_full: u64,
    /// Insertions refused because too many entries share one client end (or one bucket).
    pub chain_full: u64,
    /// Insertions that the caller itself refused.
    pub refused: u64,
    /// Events that did not fit their ring, and made the control core look at every record.
    pub events_lost: u64,
    /// The longest chain of buckets that an insertion met.
    pub longest_chain: u64,
    /// Overflow buckets in chains now.
    pub overflow_buckets: u64,
}

/// A count that one thread increments and any thread reads: it needs no read-modify-write. Relaxed throughout: it
/// orders nothing, and an exact sum is only read when the writers are known to be done.
#[derive(Debug)]
pub(crate) struct Count(AtomicU64);

impl Default for Count {
    fn default() -> Self {
        Count(AtomicU64::new(0))
    }
}

impl Count {
    pub(crate) fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }

    pub(crate) fn at_least(&self, n: u64) {
        if n > self.get() {
            self.0.store(n, Relaxed);
        }
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A worker's counts.
#[derive(Debug, Default)]
pub(crate) struct WorkerCounts {
    pub(crate) inserted: Count,
    pub(crate) killed: Count,
    pub(crate) existing: Count,
    pub(crate) table_full: Count,
    pub(crate) chain_full: Count,
    pub(crate) refused: Count,
    pub(crate) events_lost: Count,
    pub(crate) longest_chain: Count,
    pub(crate) buckets_linked: Count,
}

/// The control core's counts.
#[derive(Debug, Default)]
pub(crate) struct KeeperCounts {
    pub(crate) killed: Count,
    pub(crate) freed: Count,
    pub(crate) buckets_unlinked: Count,
}
