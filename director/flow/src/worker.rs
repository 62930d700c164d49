//! A worker's part: insertions, events for the control core, and its reports.

use std::fmt;
use std::sync::Arc;

use crate::bucket::{Bucket, Writer};
use crate::clock::Clock;
use crate::counters::WorkerCounts;
use crate::event::Sender;
use crate::family::Family;
use crate::free::BATCH;
use crate::record::{Index, Record};
use crate::table::{Hash, MAX_CHAIN, Table};

/// The result of an insertion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inserted {
    /// The entry was made.
    New(Index),
    /// Another worker, or an earlier packet, had made it.
    Existing(Index),
}

impl Inserted {
    /// The entry, whoever made it.
    #[must_use]
    pub fn index(self) -> Index {
        match self {
            Inserted::New(index) | Inserted::Existing(index) => index,
        }
    }
}

/// Why an entry was not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InsertError<E> {
    /// No free record or no free bucket.
    #[error("the connection table is full")]
    TableFull,
    /// The chain of buckets has its greatest length: one client end with too many connections.
    #[error("too many connections of one client end")]
    ChainFull,
    /// The caller's `make` refused.
    #[error("{0}")]
    Refused(E),
}

/// Why an entry was not given a second key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AliasError {
    /// The entry is over.
    #[error("the connection is over")]
    Dead,
    /// It has one already.
    #[error("the connection has a second key already")]
    AlreadyAliased,
    /// No free bucket. The entry now counts as having a second key, but is not found by it.
    #[error("the connection table is full")]
    TableFull,
    /// The chain of buckets has its greatest length. The entry now counts as having a second key, but is not found by
    /// it.
    #[error("too many connections of one client end")]
    ChainFull,
}

/// A worker's own part of a table. It can be sent to the worker's thread, and is used only there.
///
/// A worker starts offline. At the top of every loop it calls [`WorkerLocal::quiescent`]; between that and
/// [`WorkerLocal::offline`] it may look up and use what it finds, until the next `quiescent`.
pub struct WorkerLocal<F: Family> {
    table: Arc<Table<F>>,
    id: usize,
    online: bool,
    sender: Sender,
    hand: Hand,
}

/// What a worker has in hand for its next insertion.
struct Hand {
    /// Free records: `records[..free]`, the next one last.
    records: [u32; BATCH],
    free: usize,
    /// A free, empty overflow bucket.
    bucket: Option<u32>,
}

/// Where there is room for a new slot, and how long the chain is.
struct Place<'a> {
    /// A bucket with an empty slot; `None`: the chain has none.
    vacant: Option<(&'a Bucket, usize)>,
    /// The chain's last bucket, unless that is the home bucket.
    tail: Option<&'a Bucket>,
    length: usize,
}

/// Which limit an insertion met.
enum NoRoom {
    Table,
    Chain,
}

impl<F: Family> WorkerLocal<F> {
    pub(crate) fn new(table: Arc<Table<F>>, id: usize) -> Self {
        let hand = Hand { records: [0; BATCH], free: 0, bucket: None };
        WorkerLocal { table, id, online: false, sender: Sender::default(), hand }
    }

    /// This worker's number, from 0.
    #[must_use]
    pub fn id(&self) -> usize {
        self.id
    }

    /// The table.
    #[inline]
    #[must_use]
    pub fn table(&self) -> &Arc<Table<F>> {
        &self.table
    }

    fn counts(&self) -> &WorkerCounts {
        &self.table.workers[self.id].counts
    }

    /// Reports that this worker holds no position and no record that it found before. To be called once a loop, at
    /// its top. What it told the control core since the last call becomes visible now. Brings the worker online if it
    /// is not.
    #[inline]
    pub fn quiescent(&mut self) {
        self.table.workers[self.id].ring.publish(&mut self.sender);
        if self.online {
            self.table.qsbr.report(self.id);
        } else {
            self.online();
        }
    }

    /// To be called before the worker sleeps or ends (dropping it does the same): reclamation no longer waits for it.
    /// It holds nothing that it found, and looks nothing up until it is online again.
    pub fn offline(&mut self) {
        self.table.workers[self.id].ring.publish(&mut self.sender);
        self.table.qsbr.offline(self.id);
        self.online = false;
    }

    /// After [`WorkerLocal::offline`]: the worker may look up again.
    pub fn online(&mut self) {
        self.table.qsbr.online(self.id);
        self.online = true;
    }

    /// Makes the control core look at an entry: to be called when its timeout was shortened.
    #[inline]
    pub fn notify(&mut self, index: Index) {
        let shared = &self.table.workers[self.id];
        if !shared.ring.push(&mut self.sender, index.get()) {
            shared.counts.events_lost.add(1);
        }
    }

    /// Marks an entry dead, so that no lookup finds it any more; the control core removes it. `true` if it was live.
    pub fn kill(&mut self, index: Index) -> bool {
        let record = self.table.record(index);
        let mut clock = record.clock();
        while clock.is_live() {
            match record.kill(clock) {
                Ok(()) => {
                    self.counts().killed.add(1);
                    self.notify(index);
                    return true;
                }
                Err(current) => clock = current,
            }
        }
        false
    }

    /// Makes an entry for `end` unless there is one that is the `same`.
    ///
    /// All of it happens under the bucket's writer bit, so that of two workers with the same packet one makes the entry
    /// and the other gets it: first `same` is asked about the live entries that may be of this client end (it must
    /// compare the end itself; of several the newest is taken); only if none is, `make` is called with the record: its
    /// [`Record::end`] is set, the caller's words are 0. `make` fills them, decides whatever is to be decided once for
    /// a new connection, and gives the first clock. A record and a place in the index are secured before, so that
    /// nothing is decided for an entry that cannot be. `make` must be short: lookups do not wait for it, insertions
    /// into the same bucket do.
    ///
    /// # Errors
    ///
    /// [`InsertError`]: the table or the chain is full, or `make` refused.
    pub fn insert<E>(
        &mut self,
        end: F::End,
        mut same: impl FnMut(&Record<F>) -> bool,
        make: impl FnOnce(Index, &Record<F>) -> Result<Clock, E>,
    ) -> Result<Inserted, InsertError<E>> {
        debug_assert!(self.online, "an insertion by a worker that is offline");
        let table = &*self.table;
        let counts = &table.workers[self.id].counts;
        let hash = table.hash(end);
        let home = table.home(hash);
        let free = self.hand.record(table);

        let mut writer = home.write();
        let (existing, place) = survey(table, counts, home, &writer, hash, &mut same);
        if let Some(index) = existing {
            drop(writer);
            counts.existing.add(1);
            return Ok(Inserted::Existing(index));
        }
        let room = self.hand.room(table, &place);
        let (Some(index), Ok(())) = (free, &room) else {
            drop(writer);
            return Err(if matches!(room, Err(NoRoom::Chain)) {
                counts.chain_full.add(1);
                InsertError::ChainFull
            } else {
                counts.table_full.add(1);
                InsertError::TableFull
            });
        };
        let record = table.record(index);
        record.prepare(end, writer.sequence());
        let clock = match make(index, record) {
            Ok(clock) => clock,
            Err(refusal) => {
                drop(writer);
                counts.refused.add(1);
                return Err(InsertError::Refused(refusal));
            }
        };
        self.hand.free -= 1;
        // The entry lives from here on. When the control core goes through all records, it may see the entry before
        // it has a slot, and may even end it; but to take the slot away it must wait for the writer bit, and then
        // there is a slot.
        record.begin(Clock::FREE.succeeded_by(clock));
        self.hand.publish(table, counts, &place, &mut writer, hash, index);
        writer.count();
        drop(writer);
        counts.inserted.add(1);
        self.hand.prefetch(table);
        self.notify(index);
        Ok(Inserted::New(index))
    }

    /// Gives a live entry a second key: it is found by `end`, too, from now on. For an entry whose client end is
    /// replaced on the way to the server.
    ///
    /// `end` is stored in the first of the caller's words (one for IPv4, three for IPv6), which must not be written
    /// afterwards. A thread that finds the entry must compare both ends. An entry can get a second key only once, and
    /// only the worker that made the entry should do it.
    ///
    /// # Errors
    ///
    /// [`AliasError`]: the entry is over, or has a second key, or there is no room.
    pub fn insert_alias(&mut self, index: Index, end: F::End) -> Result<(), AliasError> {
        debug_assert!(self.online, "an insertion by a worker that is offline");
        let table = &*self.table;
        let counts = &table.workers[self.id].counts;
        let record = table.record(index);
        let mut clock = record.clock();
        loop {
            if !clock.is_live() {
                return Err(AliasError::Dead);
            }
            if clock.has_alias() {
                return Err(AliasError::AlreadyAliased);
            }
            // Stored first: a thread that sees the flag (the control core, when it unlinks) sees the end.
            record.store_alias_end(end);
            match record.set_alias(clock) {
                Ok(()) => break,
                Err(current) => clock = current,
            }
        }
        let hash = table.hash(end);
        let home = table.home(hash);
        let mut writer = home.write();
        // The entry may have died since. Its death comes before the control core's search for this slot, which takes
        // this bit: either the search comes later and finds the slot, or it came before and its death is seen here.
        if !record.clock().is_live() {
            return Err(AliasError::Dead);
        }
        let (_, place) = survey(table, counts, home, &writer, hash, &mut |_| false);
        match self.hand.room(table, &place) {
            Ok(()) => {
                self.hand.publish(table, counts, &place, &mut writer, hash, index);
                Ok(())
            }
            Err(NoRoom::Chain) => {
                counts.chain_full.add(1);
                Err(AliasError::ChainFull)
            }
            Err(NoRoom::Table) => {
                counts.table_full.add(1);
                Err(AliasError::TableFull)
            }
        }
    }
}

/// Under the writer bit: the newest live entry that is the `same`, and a place for a new slot.
fn survey<'a, F: Family>(
    table: &'a Table<F>,
    counts: &WorkerCounts,
    home: &'a Bucket,
    writer: &Writer<'_>,
    hash: Hash,
    same: &mut impl FnMut(&Record<F>) -> bool,
) -> (Option<Index>, Place<'a>) {
    let mut newest: Option<Index> = None;
    let mut place = Place { vacant: None, tail: None, length: 0 };
    for (number, bucket) in table.chain(home, writer) {
        place.length += 1;
        place.tail = number.map(|_| bucket);
        if place.vacant.is_none() {
            place.vacant = bucket.vacant().next().map(|slot| (bucket, slot));
        }
        for index in bucket.tagged(hash.tag()).filter_map(|slot| bucket.slot(slot)) {
            let record = table.record(index);
            if record.clock().is_live()
                && same(record)
                && newest.is_none_or(|newest| record.is_newer_than(table.record(newest)))
            {
                newest = Some(index);
            }
        }
    }
    counts.longest_chain.at_least(place.length as u64);
    (newest, place)
}

impl Hand {
    /// The next free record, which stays in hand until it is used.
    fn record<F: Family>(&mut self, table: &Table<F>) -> Option<Index> {
        if self.free == 0 {
            let batch = &mut self.records[..table.batch];
            self.free = table.free_records.take(batch, |position| table.record(Index::new(position)).link());
            // They are used in the order in which they were taken: fresh ones upwards, which the prefetcher likes.
            batch[..self.free].reverse();
        }
        self.records[..self.free].last().copied().map(Index::new)
    }

    /// Prefetches the record of the next insertion.
    fn prefetch<F: Family>(&self, table: &Table<F>) {
        if let Some(&next) = self.records[..self.free].last() {
            table.prefetch_record(Index::new(next));
        }
    }

    /// Makes sure that there is a slot: in the chain, or in an overflow bucket in hand.
    fn room<F: Family>(&mut self, table: &Table<F>, place: &Place<'_>) -> Result<(), NoRoom> {
        if place.vacant.is_some() {
            return Ok(());
        }
        if place.length >= MAX_CHAIN {
            return Err(NoRoom::Chain);
        }
        if self.bucket.is_none() {
            let mut out = [0];
            let taken = table.free_buckets.take(&mut out, |number| table.buckets[number as usize].link());
            self.bucket = (taken == 1).then_some(out[0]);
        }
        self.bucket.map(|_| ()).ok_or(NoRoom::Table)
    }

    /// Under the writer bit: puts an entry into the place found for it, or into the overflow bucket in hand, which
    /// becomes the chain's last.
    fn publish<F: Family>(
        &mut self,
        table: &Table<F>,
        counts: &WorkerCounts,
        place: &Place<'_>,
        writer: &mut Writer<'_>,
        hash: Hash,
        index: Index,
    ) {
        if let Some((bucket, slot)) = place.vacant {
            bucket.fill(slot, hash.tag(), index);
        } else if let Some(number) = self.bucket.take() {
            let bucket = &table.buckets[number as usize];
            // The free list's link stood there.
            bucket.set_next(None);
            bucket.fill(0, hash.tag(), index);
            match place.tail {
                Some(tail) => tail.set_next(Some(number)),
                None => writer.set_next(Some(number)),
            }
            counts.buckets_linked.add(1);
            counts.longest_chain.at_least(place.length as u64 + 1);
        }
    }
}

impl<F: Family> Drop for WorkerLocal<F> {
    fn drop(&mut self) {
        self.offline();
        let table = &*self.table;
        let records = &self.hand.records[..self.hand.free];
        table.free_records.give(records, |position| table.record(Index::new(position)).link());
        if let Some(number) = self.hand.bucket {
            table.free_buckets.give(&[number], |number| table.buckets[number as usize].link());
        }
    }
}

impl<F: Family> fmt::Debug for WorkerLocal<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkerLocal")
            .field("id", &self.id)
            .field("online", &self.online)
            .finish_non_exhaustive()
    }
}
