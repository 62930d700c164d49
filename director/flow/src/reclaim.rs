//! Removes dead entries from the index, and frees what was removed.

use crate::bucket::{Bucket, SLOTS, Writer};
use crate::family::Family;
use crate::qsbr::Grace;
use crate::record::Index;
use crate::slab::prefetch;
use crate::table::{Hash, Table};
use crate::time::Tick;
use crate::wheel::Wheel;

/// How many records are freed at once.
const BATCH: usize = 32;

/// What was unlinked, on its way to reuse.
#[derive(Default)]
struct Retired {
    /// Top of a stack of records (see [`crate::wheel::Links`]).
    records: u32,
    /// Overflow buckets.
    buckets: Vec<u32>,
    /// Slots whose entries have another slot nearer home.
    copies: Vec<Copied>,
}

impl Retired {
    fn is_empty(&self) -> bool {
        self.records == 0 && self.buckets.is_empty() && self.copies.is_empty()
    }
}

/// A slot in an overflow bucket whose entry was given another in an earlier bucket of the chain.
struct Copied {
    /// A hash that leads to the chain, with the slot's tag.
    hash: Hash,
    bucket: u32,
    index: Index,
}

/// Unlinks entries, and frees them once no worker can be using them.
///
/// What is unlinked goes through three stages: *open*, gathering until the grace period before has passed; *waiting*
/// for its own grace period; *ready* for reuse.
#[derive(Default)]
pub(crate) struct Reclaimer {
    open: Retired,
    waiting: Retired,
    ready: Retired,
    /// The grace period of what is waiting, and when it began.
    grace: Option<(Grace, Tick)>,
}

impl Reclaimer {
    pub(crate) fn grace(&self) -> Option<(Grace, Tick)> {
        self.grace
    }

    /// Whether something is left to be freed because the budget was used up.
    pub(crate) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Takes a dead entry out of the index and the wheel. Once for each.
    pub(crate) fn unlink<F: Family>(&mut self, table: &Table<F>, wheel: &mut Wheel, index: Index) {
        let record = table.record(index);
        self.unlink_slots(table, table.hash(record.end()), index);
        if record.clock().has_alias() {
            self.unlink_slots(table, table.hash(record.alias_end()), index);
        }
        wheel.disarm(index.get());
        wheel.links().retire(index.get(), &mut self.open.records);
    }

    /// Empties the slots of an entry in a chain.
    fn unlink_slots<F: Family>(&mut self, table: &Table<F>, hash: Hash, index: Index) {
        let home = table.home(hash);
        let mut writer = home.write();
        for (_, bucket) in table.chain(home, &writer) {
            for slot in bucket.tagged(hash.tag()) {
                if bucket.slot(slot) == Some(index) {
                    bucket.clear(slot);
                }
            }
        }
        self.tidy(table, home, &mut writer, hash);
    }

    /// Under the writer bit, after slots were emptied: takes overflow buckets without entries off the end of the
    /// chain, and gives an entry of the last bucket a slot nearer home if one is empty.
    ///
    /// Nothing moves: the entry keeps its old slot until every worker has reported, so that a lookup under way finds it
    /// in the one or the other. Without this, chains would grow under load and hardly shrink: new entries fill gaps
    /// wherever they are, but a bucket goes only when its last old entry does.
    fn tidy<F: Family>(&mut self, table: &Table<F>, home: &Bucket, writer: &mut Writer<'_>, hash: Hash) {
        if writer.next().is_none() {
            return;
        }
        self.trim(table, home, writer);
        let Some((Some(last), tail)) = table.chain(home, writer).last() else { return };
        let nearer = || table.chain(home, writer).take_while(|&(number, _)| number != Some(last));
        let vacant = nearer().find_map(|(_, bucket)| bucket.vacant().next().map(|slot| (bucket, slot)));
        let Some((bucket, vacant)) = vacant else { return };
        for slot in 0..SLOTS {
            let Some(index) = tail.slot(slot) else { continue };
            let tag = tail.tag(slot);
            if !nearer().any(|(_, bucket)| holds(bucket, tag, index).is_some()) {
                bucket.fill(vacant, tag, index);
                self.open.copies.push(Copied { hash: hash.with_tag(tag), bucket: last, index });
                return;
            }
        }
    }

    /// Under the writer bit: takes empty overflow buckets off the end of a chain.
    fn trim<F: Family>(&mut self, table: &Table<F>, home: &Bucket, writer: &mut Writer<'_>) {
        loop {
            let (mut before, mut last) = (None, None);
            for item in table.chain(home, writer) {
                before = last.replace(item);
            }
            let (Some((Some(number), tail)), Some((before, previous))) = (last, before) else { return };
            if !tail.is_vacant() {
                return;
            }
            match before {
                Some(_) => previous.set_next(None),
                None => writer.set_next(None),
            }
            table.keeper.buckets_unlinked.add(1);
            self.open.buckets.push(number);
        }
    }

    /// Empties the old slot of an entry that was given a nearer one, a grace period ago.
    fn drop_copy<F: Family>(&mut self, table: &Table<F>, copy: &Copied) {
        let home = table.home(copy.hash);
        let tag = copy.hash.tag();
        let mut writer = home.write();
        // The entry may have been removed since, with all its slots, and the bucket after it. Neither can be in use
        // again, because their own grace period ends later.
        let mut nearer = false;
        for (number, bucket) in table.chain(home, &writer) {
            let slot = holds(bucket, tag, copy.index);
            if number != Some(copy.bucket) {
                nearer |= slot.is_some();
                continue;
            }
            if let (true, Some(slot)) = (nearer, slot) {
                bucket.clear(slot);
            }
            break;
        }
        self.tidy(table, home, &mut writer, copy.hash);
    }

    /// Moves what was unlinked towards reuse. Frees up to `budget` records and returns how many.
    pub(crate) fn advance<F: Family>(
        &mut self,
        table: &Table<F>,
        wheel: &mut Wheel,
        now: Tick,
        budget: usize,
    ) -> usize {
        let mut freed = self.free(table, wheel, budget);
        if let Some((grace, _)) = self.grace {
            if self.has_ready() || !table.qsbr.passed(grace) {
                return freed;
            }
            self.grace = None;
            self.ready = std::mem::take(&mut self.waiting);
            for copy in std::mem::take(&mut self.ready.copies) {
                self.drop_copy(table, &copy);
            }
            freed += self.free(table, wheel, budget - freed);
        }
        if !self.open.is_empty() {
            // Everything in `open` was unlinked before this.
            self.waiting = std::mem::take(&mut self.open);
            self.grace = Some((table.qsbr.begin(), now));
        }
        freed
    }

    /// Gives back what is ready for reuse.
    fn free<F: Family>(&mut self, table: &Table<F>, wheel: &mut Wheel, budget: usize) -> usize {
        table.free_buckets.give(&self.ready.buckets, |number| table.buckets[number as usize].link());
        self.ready.buckets.clear();
        let mut freed = 0;
        while freed < budget && self.ready.records != 0 {
            let mut batch = [0; BATCH];
            let mut count = 0;
            while count < BATCH.min(budget - freed)
                && let Some(position) = wheel.links().pop_retired(&mut self.ready.records)
            {
                prefetch(table.record(Index::new(position)));
                batch[count] = position;
                count += 1;
            }
            for &position in &batch[..count] {
                table.record(Index::new(position)).retire();
            }
            table.free_records.give(&batch[..count], |position| table.record(Index::new(position)).link());
            table.keeper.freed.add(count as u64);
            freed += count;
        }
        freed
    }
}

/// The slot in which a bucket holds an entry under a tag.
fn holds(bucket: &Bucket, tag: u8, index: Index) -> Option<usize> {
    bucket.tagged(tag).find(|&slot| bucket.slot(slot) == Some(index))
}
