//! The connection table: its parts, its making, and lookups.

use std::fmt;
use std::io;
use std::sync::Arc;

use ahash::RandomState;

use crate::bucket::{Bucket, Writer};
use crate::counters::{Counters, KeeperCounts, WorkerCounts};
use crate::event::Ring;
use crate::family::Family;
use crate::free::{BATCH, FreeList};
use crate::keeper::Keeper;
use crate::qsbr::Qsbr;
use crate::record::{Index, Record};
use crate::slab::{Mapping, PageSize, Pages, prefetch};
use crate::sync::Padded;
use crate::wheel::{Links, MAX_RECORDS};
use crate::worker::WorkerLocal;

/// Buckets in a chain, at most: 88 entries that share a client end (or, rarely, only a bucket).
pub const MAX_CHAIN: usize = if cfg!(loom) { 2 } else { 8 };

/// Entries a home bucket is meant for. At 6, one chain in fifty has an overflow bucket, and the whole index takes 11.3
/// bytes an entry.
const ENTRIES_PER_HOME: u32 = 6;
/// Home buckets an overflow bucket is there for; three times what evenly spread entries need.
const HOMES_PER_OVERFLOW: u32 = 16;
/// Overflow buckets beyond that, so that small tables are not at the mercy of chance.
const MIN_OVERFLOW: u32 = if cfg!(loom) { 2 } else { 64 };

/// How to make a table.
#[derive(Clone, Debug)]
pub struct Options {
    /// Entries it can hold.
    pub capacity: u32,
    /// Workers that will use it.
    pub workers: usize,
    /// Pages for its memory.
    pub pages: Pages,
    /// Whether to touch all memory now, so that no worker has to wait for a page to be cleared later.
    pub populate: bool,
    /// Seed of the hash; random if `None`. Anything else is for tests: who knows the seed can make long chains.
    pub seed: Option<u64>,
}

impl Options {
    /// A table for this many entries and workers, with a random seed, on the best pages there are.
    #[must_use]
    pub fn new(capacity: u32, workers: usize) -> Self {
        Options { capacity, workers, pages: Pages::Auto, populate: false, seed: None }
    }
}

/// Why a table could not be made.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// The capacity is 0 or more than positions can number.
    #[error("a connection table of {capacity} entries cannot be made: the capacity must be 1 to {max}", max = MAX_RECORDS / 2)]
    Capacity {
        /// The capacity asked for.
        capacity: u32,
    },
    /// No worker, or more than there can be.
    #[error("a connection table for {workers} workers cannot be made: there must be 1 to 1024")]
    Workers {
        /// The number asked for.
        workers: usize,
    },
    /// The kernel gave no memory.
    #[error(
        "no memory for the {what} of a connection table of {capacity} entries ({mib} MiB, {pages}): {source}; \
         lower the capacity{hint}"
    )]
    Memory {
        /// The part of the table.
        what: &'static str,
        /// The capacity asked for.
        capacity: u32,
        /// Its size.
        mib: usize,
        /// The pages asked for.
        pages: &'static str,
        /// What else would help.
        hint: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
}

/// A client end's place in the index and its tag, in one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hash(u64);

impl Hash {
    /// The home bucket: the upper half of the hash, scaled to the number of buckets (so that it need not be a power of
    /// two).
    #[inline]
    fn home(self, homes: u32) -> u32 {
        (((self.0 >> 32) * u64::from(homes)) >> 32) as u32
    }

    /// The tag, from the lower half; 0 means an empty slot.
    #[inline]
    pub(crate) fn tag(self) -> u8 {
        (self.0 as u8).max(1)
    }

    /// The same home bucket with another tag.
    pub(crate) fn with_tag(self, tag: u8) -> Self {
        Hash(self.0 & !0xff | u64::from(tag))
    }
}

/// What a look at the tags found: the first candidate, and whether there may be more.
#[derive(Clone, Copy, Debug, Default)]
pub struct Probe {
    /// Position plus one; 0: none in the home bucket.
    first: u32,
    more: bool,
}

impl Probe {
    /// The first candidate in the home bucket.
    #[inline]
    #[must_use]
    pub fn first(self) -> Option<Index> {
        self.first.checked_sub(1).map(Index::new)
    }

    /// Whether there may be others: a second slot has the tag, or the bucket has overflowed.
    #[inline]
    #[must_use]
    pub fn more(self) -> bool {
        self.more
    }

    /// Whether it is certain that there is no entry.
    #[inline]
    #[must_use]
    pub fn is_miss(self) -> bool {
        self.first == 0 && !self.more
    }
}

/// What a worker shares with the control core.
pub(crate) struct WorkerShared {
    pub(crate) ring: Ring,
    pub(crate) counts: Padded<WorkerCounts>,
}

/// The connection table.
///
/// Lookups may be made by workers that are online (see [`WorkerLocal`]), and by the thread that owns the [`Keeper`].
pub struct Table<F: Family> {
    seed: RandomState,
    homes: u32,
    capacity: u32,
    /// Home buckets, then overflow buckets.
    pub(crate) buckets: Mapping<Bucket>,
    pub(crate) records: Mapping<Record<F>>,
    pub(crate) free_records: FreeList,
    pub(crate) free_buckets: FreeList,
    pub(crate) qsbr: Qsbr,
    pub(crate) workers: Box<[WorkerShared]>,
    pub(crate) keeper: Padded<KeeperCounts>,
    /// Records a worker takes from the free list at once.
    pub(crate) batch: usize,
    /// Bytes of the control core's own part.
    private_bytes: usize,
}

impl<F: Family> Table<F> {
    /// Makes a table, a handle for each worker and the control core's part.
    ///
    /// # Errors
    ///
    /// The capacity or the number of workers is out of range, or the kernel has no memory (of the pages asked for).
    #[expect(clippy::type_complexity, reason = "three things are made, and taken apart at once")]
    pub fn create(options: &Options) -> Result<(Arc<Self>, Vec<WorkerLocal<F>>, Keeper<F>), CreateError> {
        let &Options { capacity, workers, pages, populate, seed } = options;
        // Half of what positions can number: the overflow buckets must be numbered, too.
        if capacity == 0 || capacity > MAX_RECORDS / 2 {
            return Err(CreateError::Capacity { capacity });
        }
        if workers == 0 || workers > 1024 {
            return Err(CreateError::Workers { workers });
        }
        let homes = capacity.div_ceil(ENTRIES_PER_HOME);
        let overflow = homes / HOMES_PER_OVERFLOW + MIN_OVERFLOW;
        let memory = |what, bytes: usize, source| CreateError::Memory {
            what,
            capacity,
            mib: bytes.div_ceil(1 << 20),
            pages: match pages {
                Pages::Auto => "on any pages",
                Pages::Base => "on base pages",
                Pages::Huge2M => "on 2 MiB pages",
                Pages::Huge1G => "on 1 GiB pages",
            },
            hint: match pages {
                Pages::Auto | Pages::Base => "",
                Pages::Huge2M => " or reserve more pages (sysctl vm.nr_hugepages)",
                Pages::Huge1G => {
                    " or reserve more pages (/sys/kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages)"
                }
            },
            source,
        };
        let buckets = Mapping::new((homes + overflow) as usize, pages, populate)
            .map_err(|e| memory("index", (homes + overflow) as usize * size_of::<Bucket>(), e))?;
        let records = Mapping::new(capacity as usize, pages, populate)
            .map_err(|e| memory("records", capacity as usize * size_of::<Record<F>>(), e))?;
        let links = Links::new(capacity, pages, populate)
            .map_err(|e| memory("timeout wheel", capacity as usize * size_of::<u64>(), e))?;

        let events = if cfg!(loom) { 2 } else { (capacity / 32).clamp(64, 1 << 18) };
        let seed = match seed {
            Some(s) => {
                RandomState::with_seeds(s, s.rotate_left(17) ^ 0x5851_f42d, !s, s ^ 0x1405_7b7e_f767_814f)
            }
            None => RandomState::new(),
        };
        let mut table = Table {
            seed,
            homes,
            capacity,
            buckets,
            records,
            free_records: FreeList::new(0, capacity),
            free_buckets: FreeList::new(homes, overflow),
            qsbr: Qsbr::new(workers),
            workers: (0..workers)
                .map(|_| WorkerShared { ring: Ring::new(events), counts: Padded::default() })
                .collect(),
            keeper: Padded::default(),
            // What lies in the workers' caches when the table is full must not be worth mentioning.
            batch: (capacity as usize / (workers * 64)).clamp(1, BATCH),
            private_bytes: 0,
        };
        let wheel = Keeper::<F>::wheel(links);
        table.private_bytes = wheel.bytes();
        let table = Arc::new(table);
        let locals = (0..workers).map(|id| WorkerLocal::new(Arc::clone(&table), id)).collect();
        let keeper = Keeper::new(Arc::clone(&table), wheel);
        Ok((table, locals, keeper))
    }

    /// Entries the table can hold. (A few fewer when it is full, as each worker may have some 32 free records in hand.)
    #[must_use]
    pub fn capacity(&self) -> u32 {
        self.capacity
    }

    /// All memory of the table and its wheel, divided by the capacity.
    #[must_use]
    pub fn bytes_per_entry(&self) -> f64 {
        let rings: usize = self.workers.iter().map(|worker| worker.ring.bytes()).sum();
        let workers = size_of_val(&*self.workers);
        let bytes = size_of_val(&*self.buckets)
            + size_of_val(&*self.records)
            + self.private_bytes
            + rings
            + workers
            + size_of::<Self>();
        bytes as f64 / f64::from(self.capacity)
    }

    /// The smallest pages any part of the table is on.
    #[must_use]
    pub fn page_size(&self) -> PageSize {
        self.buckets.page_size().min(self.records.page_size())
    }

    /// The hash of a client end, for the functions below.
    #[inline]
    #[must_use]
    pub fn hash(&self, end: F::End) -> Hash {
        Hash(F::digest(end, &self.seed))
    }

    #[inline]
    pub(crate) fn home(&self, hash: Hash) -> &Bucket {
        &self.buckets[hash.home(self.homes) as usize]
    }

    /// First pass over a burst: has the bucket fetched.
    #[inline]
    pub fn prefetch(&self, hash: Hash) {
        prefetch(self.home(hash));
    }

    /// Second pass over a burst: compares the tags and has the candidates' records fetched.
    #[inline]
    #[must_use]
    pub fn probe(&self, hash: Hash) -> Probe {
        let bucket = self.home(hash);
        let overflow = bucket.head().next();
        let mut slots = bucket.tagged(hash.tag());
        let mut more = false;
        if let Some(next) = overflow {
            prefetch(&self.buckets[next as usize]);
            more = true;
        }
        let mut first = 0;
        if let Some(slot) = slots.next() {
            if let Some(index) = bucket.slot(slot) {
                first = index.get() + 1;
                self.prefetch_record(index);
            }
            if !slots.is_empty() {
                more = true;
                self.prefetch_slots(bucket, slots);
            }
        }
        Probe { first, more }
    }

    #[cold]
    fn prefetch_slots(&self, bucket: &Bucket, slots: crate::bucket::SlotSet) {
        slots.filter_map(|slot| bucket.slot(slot)).for_each(|index| self.prefetch_record(index));
    }

    /// Third pass over a burst: the entry that `matches`, the newest if there are several.
    ///
    /// `matches` sees live records only, and must compare the client end itself: a record's tag says little.
    #[inline]
    pub fn resolve(&self, hash: Hash, probe: Probe, matches: impl Fn(&Record<F>) -> bool) -> Option<Index> {
        if probe.more {
            return self.find(hash, matches);
        }
        let index = probe.first()?;
        let record = self.record(index);
        (record.clock().is_live() && matches(record)).then_some(index)
    }

    /// The three passes at once: the entry that `matches`, the newest if there are several.
    ///
    /// Waits for nobody. An entry inserted before the call began is found; one inserted meanwhile may be.
    pub fn find(&self, hash: Hash, matches: impl Fn(&Record<F>) -> bool) -> Option<Index> {
        let mut newest: Option<Index> = None;
        let mut bucket = self.home(hash);
        // A chain is never longer; what bounds the loop is that, not the good behaviour of those who change it.
        for _ in 0..MAX_CHAIN {
            let next = bucket.head().next();
            for index in bucket.tagged(hash.tag()).filter_map(|slot| bucket.slot(slot)) {
                let record = self.record(index);
                if record.clock().is_live()
                    && matches(record)
                    && newest.is_none_or(|newest| record.is_newer_than(self.record(newest)))
                {
                    newest = Some(index);
                }
            }
            match next {
                Some(next) => bucket = &self.buckets[next as usize],
                None => break,
            }
        }
        newest
    }

    /// The record at a position.
    #[inline]
    #[must_use]
    pub fn record(&self, index: Index) -> &Record<F> {
        &self.records[index.at()]
    }

    /// Has a record fetched (of two lines: the first, with client end and clock, and the second).
    #[inline]
    pub fn prefetch_record(&self, index: Index) {
        if let Some(record) = self.records.get(index.at()) {
            prefetch(record);
            if F::WORDS > 8 {
                prefetch(record.last_word());
            }
        }
    }

    /// Calls `each` for the live entries among the records `from..from + n`; gives where to go on, until the end.
    ///
    /// Stops nobody. On the thread of the [`Keeper`] every entry given stays what it is during the call; on another
    /// thread one may end and its record be reused while it is looked at ([`Record::generation`] tells).
    pub fn scan(&self, from: u32, n: u32, mut each: impl FnMut(Index, &Record<F>)) -> Option<u32> {
        let used = self.free_records.used();
        let end = from.saturating_add(n).min(used);
        for position in from..end {
            let index = Index::new(position);
            let record = self.record(index);
            if record.clock().is_live() {
                each(index, record);
            }
        }
        (end < used).then_some(end)
    }

    /// What the table counts. `active` is exact when no worker is in the middle of a burst.
    #[must_use]
    pub fn counters(&self) -> Counters {
        let mut sum = Counters {
            killed: self.keeper.killed.get(),
            freed: self.keeper.freed.get(),
            ..Counters::default()
        };
        let mut linked = 0;
        for worker in &self.workers {
            let counts = &worker.counts;
            sum.killed += counts.killed.get();
            sum.inserted += counts.inserted.get();
            sum.existing += counts.existing.get();
            sum.table_full += counts.table_full.get();
            sum.chain_full += counts.chain_full.get();
            sum.refused += counts.refused.get();
            sum.events_lost += counts.events_lost.get();
            sum.longest_chain = sum.longest_chain.max(counts.longest_chain.get());
            linked += counts.buckets_linked.get();
        }
        // An entry may be counted as killed by one worker before its maker's count is seen.
        sum.active = sum.inserted.saturating_sub(sum.killed);
        sum.dead = sum.killed.saturating_sub(sum.freed);
        sum.overflow_buckets = linked.saturating_sub(self.keeper.buckets_unlinked.get());
        sum
    }

    /// Goes through the buckets of a chain under its writer bit; `each` gets a bucket's number (`None`: home).
    pub(crate) fn chain<'a>(&'a self, home: &'a Bucket, writer: &Writer<'_>) -> Chain<'a, F> {
        Chain { table: self, next: Some(None), second: writer.next(), home }
    }
}

/// The buckets of a chain, in order: `(None, home)`, then `(Some(number), overflow bucket)`.
pub(crate) struct Chain<'a, F: Family> {
    table: &'a Table<F>,
    next: Option<Option<u32>>,
    second: Option<u32>,
    home: &'a Bucket,
}

impl<'a, F: Family> Iterator for Chain<'a, F> {
    type Item = (Option<u32>, &'a Bucket);

    fn next(&mut self) -> Option<Self::Item> {
        match self.next? {
            None => {
                self.next = self.second.map(Some);
                Some((None, self.home))
            }
            Some(number) => {
                let bucket = &self.table.buckets[number as usize];
                self.next = bucket.head().next().map(Some);
                Some((Some(number), bucket))
            }
        }
    }
}

impl<F: Family> fmt::Debug for Table<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Table")
            .field("capacity", &self.capacity)
            .field("homes", &self.homes)
            .field("page_size", &self.page_size())
            .field("counters", &self.counters())
            .finish_non_exhaustive()
    }
}
