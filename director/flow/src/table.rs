//! The connection table: its parts, its making, and lookups.

use std::fmt;
use std::sync::Arc;

use ahash::RandomState;

use crate::bucket::{Bucket, Writer};
use crate::counters::{Counters, KeeperCounts, WorkerCounts};
use crate::event::Ring;
use crate::family::Family;
use crate::free::{BATCH, FreeList};
use crate::keeper::Keeper;
use crate::lookup::Lookup;
use crate::options::{CreateError, Options};
use crate::qsbr::Qsbr;
use crate::record::{Index, Record};
use crate::slab::{Mapping, PageSize, prefetch};
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

/// Where a client end has its place in the index of one table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hash {
    /// The home bucket.
    home: u32,
    /// Not 0, which means an empty slot.
    tag: u8,
}

impl Hash {
    /// Any place.
    pub const NONE: Self = Self { home: 0, tag: 1 };

    /// The upper half of a digest is scaled to the number of buckets (which need not be a power of two); the tag is
    /// from the lower half.
    #[inline(always)]
    pub(crate) fn new(digest: u64, homes: u32) -> Self {
        let tag = digest as u8;
        Hash {
            home: (((digest >> 32) * u64::from(homes)) >> 32) as u32,
            tag: tag.wrapping_add(u8::from(tag == 0)),
        }
    }

    #[inline(always)]
    pub(crate) fn tag(self) -> u8 {
        self.tag
    }

    #[inline(always)]
    pub(crate) fn home(self) -> u32 {
        self.home
    }

    /// The same home bucket with another tag.
    pub(crate) fn with_tag(self, tag: u8) -> Self {
        Hash { tag, ..self }
    }
}

/// What a look at the tags found: a candidate, if there is exactly one.
#[derive(Clone, Copy, Debug, Default)]
pub struct Probe(u32);

impl Probe {
    /// No candidate.
    pub const NONE: Self = Self(0);

    /// The only entry that it can be. None: there is none, or there may be several; [`Table::find`] knows.
    #[inline(always)]
    #[must_use]
    pub fn only(self) -> Option<Index> {
        self.0.checked_sub(1).map(Index::new)
    }

    /// Of the position of a candidate plus one; 0: none.
    #[inline(always)]
    pub(crate) fn of(number: u32) -> Self {
        Self(number)
    }

    /// The candidate's position; without one, a position beyond any table.
    #[inline(always)]
    pub(crate) fn position(self) -> u32 {
        self.0.wrapping_sub(1)
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
    pub(crate) seed: RandomState,
    pub(crate) homes: u32,
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
        let memory = |what, bytes| move |source| CreateError::memory(what, options, bytes, source);
        let buckets = Mapping::new((homes + overflow) as usize, pages, populate)
            .map_err(memory("index", (homes + overflow) as usize * size_of::<Bucket>()))?;
        let records = Mapping::new(capacity as usize, pages, populate)
            .map_err(memory("records", capacity as usize * size_of::<Record<F>>()))?;
        let links = Links::new(capacity, pages, populate)
            .map_err(memory("timeout wheel", capacity as usize * size_of::<u64>()))?;

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
        self.lookup().hash(end)
    }

    /// The means of lookups in bursts.
    #[inline(always)]
    #[must_use]
    pub fn lookup(&self) -> Lookup<'_, F> {
        Lookup::new(self)
    }

    #[inline]
    pub(crate) fn home(&self, hash: Hash) -> &Bucket {
        &self.buckets[hash.home as usize]
    }

    /// First pass over a burst: has the bucket fetched.
    #[inline]
    pub fn prefetch(&self, hash: Hash) {
        self.lookup().prefetch(hash);
    }

    /// Second pass over a burst: compares the tags and has the candidate's record fetched.
    #[inline(always)]
    #[must_use]
    pub fn probe(&self, hash: Hash) -> Probe {
        self.lookup().probe(hash)
    }

    /// Third pass over a burst: the entry that `matches`, the newest if there are several.
    ///
    /// `matches` sees live records only, and must compare the client end itself: a tag says little. An entry that was
    /// inserted since [`Table::probe`] may be missed where an older one matches; [`WorkerLocal::insert`] looks again.
    #[inline]
    pub fn resolve(&self, hash: Hash, probe: Probe, matches: impl Fn(&Record<F>) -> bool) -> Option<Index> {
        match probe.only() {
            Some(index) if self.record(index).clock().is_live() && matches(self.record(index)) => Some(index),
            _ => self.find(hash, matches),
        }
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

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use std::cell::Cell;
    use std::convert::Infallible;

    use super::*;
    use crate::bucket::SLOTS;
    use crate::clock::Clock;
    use crate::family::{V4, V4End};
    use crate::time::Tick;

    #[test]
    fn a_home_is_below_their_number_and_a_tag_is_not_0() {
        let homes = [1, 2, 3, 7, 166_667, u32::MAX / ENTRIES_PER_HOME, u32::MAX];
        for homes in homes {
            let mut last = 0;
            for upper in (0..=u64::from(u32::MAX)).step_by(if cfg!(miri) { 1 << 27 } else { 1 << 15 }) {
                for lower in [0, 1, 0x100, 0x8000_00ff, 0xffff_ffff] {
                    let hash = Hash::new(upper << 32 | lower, homes);
                    assert!(hash.home < homes && hash.home >= last);
                    last = hash.home;
                    assert_eq!(hash.tag(), if lower & 0xff == 0 { 1 } else { lower as u8 });
                    assert_eq!((hash.with_tag(9).home, hash.with_tag(9).tag()), (hash.home, 9));
                }
            }
            assert_eq!(Hash::new(u64::MAX, homes).home, homes - 1);
            assert_eq!(Hash::new(0, homes).home, 0);
        }
    }

    #[test]
    fn a_probe_holds_every_position() {
        assert_eq!(Probe::default().only(), None);
        for position in [0, 1, MAX_RECORDS / 2] {
            assert_eq!(Probe(position + 1).only(), Some(Index::new(position)));
        }
    }

    /// Where every end has the same home bucket.
    fn one_home() -> (Arc<Table<V4>>, WorkerLocal<V4>) {
        let options = Options { seed: Some(7), pages: crate::Pages::Base, ..Options::new(6, 1) };
        let (table, mut workers, _keeper) = Table::create(&options).unwrap();
        assert_eq!(table.homes, 1);
        let mut worker = workers.remove(0);
        worker.quiescent();
        (table, worker)
    }

    fn end(n: u32) -> V4End {
        V4End::new(n, 1024, 6)
    }

    fn insert(worker: &mut WorkerLocal<V4>, end: V4End, vip: u64) -> Index {
        let made = worker.insert(
            end,
            |_| false,
            |_, record| {
                record.set_word(0, vip);
                Ok::<_, Infallible>(Clock::new(Tick(100), 1, 60))
            },
        );
        made.unwrap().index()
    }

    /// Resolves with the probe, and gives how many records were looked at, too.
    fn resolve(table: &Table<V4>, probe: Probe, end: V4End, vip: u64) -> (Option<Index>, u32) {
        let looks = Cell::new(0);
        let found = table.resolve(table.hash(end), probe, |record| {
            looks.set(looks.get() + 1);
            record.end() == end && record.word(0) == vip
        });
        (found, looks.get())
    }

    /// Two ends with the same tag, and one with another.
    fn ends(table: &Table<V4>) -> (V4End, V4End, V4End) {
        let tag = |n| table.hash(end(n)).tag();
        let twin = (2..).find(|&n| tag(n) == tag(1)).unwrap();
        let other = (2..).find(|&n| tag(n) != tag(1)).unwrap();
        (end(1), end(twin), end(other))
    }

    #[test]
    fn the_one_candidate_is_looked_at_once() {
        let (table, mut worker) = one_home();
        let (first, twin, other) = ends(&table);
        let index = insert(&mut worker, first, 80);
        insert(&mut worker, other, 80);
        let probe = table.probe(table.hash(first));
        assert_eq!(probe.only(), Some(index));
        assert_eq!(resolve(&table, probe, first, 80), (Some(index), 1));
        // Of the same tag, and yet another's.
        assert_eq!(table.probe(table.hash(twin)).only(), Some(index));
        assert_eq!(resolve(&table, probe, twin, 80).0, None);
        assert_eq!(resolve(&table, probe, first, 81).0, None);
        assert!(worker.kill(index));
        assert_eq!(table.probe(table.hash(first)).only(), Some(index), "still has its slot");
        assert_eq!(resolve(&table, probe, first, 80), (None, 0), "the dead are not even looked at");
    }

    #[test]
    fn two_of_one_tag_are_both_found() {
        let (table, mut worker) = one_home();
        let (first, twin, _) = ends(&table);
        let of_first = insert(&mut worker, first, 80);
        let early = table.probe(table.hash(first));
        let of_twin = insert(&mut worker, twin, 80);
        let probe = table.probe(table.hash(first));
        assert_eq!(probe.only(), None, "one of two");
        assert_eq!(resolve(&table, probe, first, 80).0, Some(of_first));
        assert_eq!(resolve(&table, probe, twin, 80).0, Some(of_twin));
        // A probe from before the second came leads to either.
        assert_eq!(resolve(&table, early, first, 80), (Some(of_first), 1));
        assert_eq!(resolve(&table, early, twin, 80).0, Some(of_twin));
        // A probe from before either came.
        assert_eq!(resolve(&table, Probe::default(), twin, 80).0, Some(of_twin));
        // Of two of one end, the newest.
        let newest = insert(&mut worker, first, 80);
        assert_eq!(resolve(&table, table.probe(table.hash(first)), first, 80).0, Some(newest));
        assert!(worker.kill(newest));
        assert_eq!(resolve(&table, table.probe(table.hash(first)), first, 80).0, Some(of_first));
    }

    #[test]
    fn what_is_in_an_overflow_bucket_is_found() {
        let options = Options { seed: Some(7), pages: crate::Pages::Base, ..Options::new(100, 1) };
        let (table, mut workers, mut keeper) = Table::<V4>::create(&options).unwrap();
        let worker = &mut workers[0];
        worker.quiescent();
        let hash = table.hash(end(1));
        let alone = (2..).map(end).find(|&end| {
            let other = table.hash(end);
            other.home == hash.home && other.tag() != hash.tag()
        });
        let alone = alone.unwrap();
        let first = insert(worker, alone, 80);
        let rest: Vec<Index> = (0..SLOTS as u64).map(|vip| insert(worker, end(1), vip)).collect();
        assert_eq!(table.counters().overflow_buckets, 1);
        // The last of them is alone with its tag in neither bucket; the first is, but who knows what is behind.
        for (vip, &index) in (0..).zip(&rest) {
            assert_eq!(resolve(&table, table.probe(hash), end(1), vip).0, Some(index));
        }
        let probe = table.probe(table.hash(alone));
        assert_eq!(probe.only(), None);
        assert_eq!(resolve(&table, probe, alone, 80).0, Some(first));
        let newest = insert(worker, alone, 80);
        assert_eq!(resolve(&table, table.probe(table.hash(alone)), alone, 80).0, Some(newest));

        // The chain shrinks, and probes lead to the one again.
        let mut policy =
            (|_: Index, _: &Record<V4>, _| crate::Verdict::Remove, |_: Index, _: &Record<V4>| ());
        for index in rest.into_iter().chain([newest]) {
            assert!(keeper.remove(index, &mut policy));
        }
        assert_eq!(table.counters().overflow_buckets, 0);
        let probe = table.probe(table.hash(alone));
        assert_eq!(probe.only(), Some(first));
        assert_eq!(resolve(&table, probe, alone, 80), (Some(first), 1));
        assert_eq!(resolve(&table, table.probe(hash), end(1), 0), (None, 0));
    }
}
