//! The control core's part: it decides when an entry is over, removes it, and reuses its record once that is safe.

use std::fmt;
use std::sync::Arc;

use crate::clock::Clock;
use crate::family::Family;
use crate::qsbr::Grace;
use crate::reclaim::Reclaimer;
use crate::record::{Index, Record};
use crate::table::Table;
use crate::time::Tick;
use crate::wheel::{Links, Wheel};

/// How many records are handled at once, so that their memory is fetched together.
const BATCH: usize = 32;

/// What is to become of an entry whose time is up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is removed.
    Remove,
    /// It stays for this many seconds from now, which become its timeout.
    KeepFor(u32),
}

/// What the caller decides about entries, and learns of them.
///
/// A pair of closures is a policy, too.
pub trait Policy<F: Family> {
    /// An entry's time is up: no packet came for its timeout. (If one comes during this call, the answer is ignored.)
    fn expired(&mut self, index: Index, record: &Record<F>, clock: Clock) -> Verdict;

    /// An entry was removed, for whatever reason. Called once for every entry that was made. Its words can still be
    /// read. Workers may still be using them until the end of their present burst.
    fn removed(&mut self, index: Index, record: &Record<F>);
}

impl<F, E, R> Policy<F> for (E, R)
where
    F: Family,
    E: FnMut(Index, &Record<F>, Clock) -> Verdict,
    R: FnMut(Index, &Record<F>),
{
    fn expired(&mut self, index: Index, record: &Record<F>, clock: Clock) -> Verdict {
        self.0(index, record, clock)
    }

    fn removed(&mut self, index: Index, record: &Record<F>) {
        self.1(index, record);
    }
}

/// What one call of [`Keeper::poll`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Events of workers handled.
    pub events: usize,
    /// Records looked at because the wheel (or, after events were lost, the search of all records) said so.
    pub looked: usize,
    /// Entries removed.
    pub removed: usize,
    /// Records given back for reuse.
    pub freed: usize,
    /// The budget was not enough for everything that is due: call again soon.
    pub behind: bool,
}

/// The control core's own part of a table.
pub struct Keeper<F: Family> {
    table: Arc<Table<F>>,
    wheel: Wheel,
    reclaimer: Reclaimer,
    started: bool,
    /// Events that each worker had lost when last looked at.
    lost: Box<[u32]>,
    /// Where the search of all records is, after events were lost.
    search: Option<u32>,
    /// More events were lost during the search: another must follow.
    search_again: bool,
}

impl<F: Family> Keeper<F> {
    pub(crate) fn wheel(links: Links) -> Wheel {
        Wheel::new(links, Tick::default())
    }

    pub(crate) fn new(table: Arc<Table<F>>, wheel: Wheel) -> Self {
        Keeper {
            lost: vec![0; table.workers.len()].into_boxed_slice(),
            table,
            wheel,
            reclaimer: Reclaimer::default(),
            started: false,
            search: None,
            search_again: false,
        }
    }

    /// The table.
    #[must_use]
    pub fn table(&self) -> &Arc<Table<F>> {
        &self.table
    }

    /// Does what is due at `now`: takes the workers' events, looks at the entries whose time has come, removes those
    /// that are over, and frees what no worker can be using any more. To be called at least every tick.
    ///
    /// `budget` bounds each of these by a number of records. If time goes back, it counts as standing still.
    pub fn poll(&mut self, now: Tick, budget: usize, policy: &mut impl Policy<F>) -> Progress {
        let mut progress = Progress::default();
        if !self.started {
            // Nothing is armed before the first event, so the wheel need not turn there from 0.
            self.started = true;
            self.wheel.start(now);
        }
        self.reclaim(now, budget, &mut progress);
        self.hear(now, budget, policy, &mut progress);
        self.search(now, budget, policy, &mut progress);
        self.turn(now, budget, policy, &mut progress);
        self.reclaim(now, budget, &mut progress);
        progress
    }

    /// Removes an entry now, whatever its clock says. `false` if it was over already.
    pub fn remove(&mut self, index: Index, policy: &mut impl Policy<F>) -> bool {
        let record = self.table.record(index);
        let mut clock = record.clock();
        while clock.is_live() {
            match record.kill(clock) {
                Ok(()) => {
                    self.table.keeper.killed.add(1);
                    self.reclaimer.unlink(&self.table, &mut self.wheel, index);
                    policy.removed(index, record);
                    return true;
                }
                Err(current) => clock = current,
            }
        }
        false
    }

    /// The workers that have been holding up reclamation for at least `ticks`: each is stuck in a burst, or was not
    /// taken offline before it slept.
    #[must_use]
    pub fn stalled(&self, now: Tick, ticks: u32) -> Vec<usize> {
        match self.reclaimer.grace() {
            Some((grace, since)) if now.since(since) >= ticks => self.table.qsbr.waiting_for(grace).collect(),
            _ => Vec::new(),
        }
    }

    /// Begins a grace period for something else that workers use during a burst, such as a snapshot of the
    /// configuration: make it unreachable, call this, and free it when the period has [passed](Keeper::passed).
    #[must_use]
    pub fn grace(&self) -> Grace {
        self.table.qsbr.begin()
    }

    /// Whether every worker has reported since the period began, or is offline.
    #[must_use]
    pub fn passed(&self, grace: Grace) -> bool {
        self.table.qsbr.passed(grace)
    }

    /// The workers' events. Each is only a reason to look at a record.
    fn hear(&mut self, now: Tick, budget: usize, policy: &mut impl Policy<F>, progress: &mut Progress) {
        let workers = self.table.workers.len();
        for id in 0..workers {
            let mut left = budget.div_ceil(workers);
            while left > 0 {
                let mut batch = [0; BATCH];
                let taken = self.table.workers[id].ring.take(&mut batch[..left.min(BATCH)]);
                if taken == 0 {
                    break;
                }
                left -= taken;
                progress.events += taken;
                self.look(&batch[..taken], now, policy, progress);
            }
            progress.behind |= left == 0;
            let lost = self.table.workers[id].ring.lost();
            if std::mem::replace(&mut self.lost[id], lost) != lost {
                // A search that is under way may have passed the records of these events already. It goes on all the
                // same, or the last records would never have their turn.
                self.search_again = true;
            }
        }
    }

    /// After events were lost: looks at all records, as if an event had come for each.
    fn search(&mut self, now: Tick, budget: usize, policy: &mut impl Policy<F>, progress: &mut Progress) {
        let from = match self.search {
            Some(from) => from,
            None if self.search_again => {
                self.search_again = false;
                0
            }
            None => return,
        };
        let used = self.table.free_records.used();
        let end = from.saturating_add(u32::try_from(budget).unwrap_or(u32::MAX)).min(used);
        let mut at = from;
        while at < end {
            let mut batch = [0; BATCH];
            let count = BATCH.min((end - at) as usize);
            for (slot, position) in batch.iter_mut().zip(at..) {
                *slot = position;
            }
            self.look(&batch[..count], now, policy, progress);
            progress.looked += count;
            at += count as u32;
        }
        self.search = (end < used).then_some(end);
        progress.behind |= self.search.is_some() || self.search_again;
    }

    /// Lets the wheel turn up to `now`, then further ahead.
    fn turn(&mut self, now: Tick, budget: usize, policy: &mut impl Policy<F>, progress: &mut Progress) {
        let mut left = budget;
        let mut batch = [0; BATCH];
        while left > 0 {
            let room = &mut batch[..left.min(BATCH)];
            let mut taken = self.wheel.due(now, room);
            if taken == 0 {
                if self.wheel.is_behind(now) {
                    break;
                }
                taken = self.wheel.ahead(room);
            }
            if taken == 0 {
                break;
            }
            left -= taken;
            progress.looked += taken;
            self.look(&batch[..taken], now, policy, progress);
        }
        progress.behind |= self.wheel.is_behind(now);
    }

    /// Looks at records: removes the entries that are over, and arms the wheel for the others.
    fn look(&mut self, batch: &[u32], now: Tick, policy: &mut impl Policy<F>, progress: &mut Progress) {
        let table = &*self.table;
        for &position in batch {
            table.prefetch_record(Index::new(position));
            self.wheel.links().prefetch(position);
        }
        // The buckets of the entries that will be unlinked. The decision may be different when it is made: this is
        // only a prefetch.
        for &position in batch {
            let record = table.record(Index::new(position));
            let clock = record.clock();
            if clock.is_dead() || clock.is_live() && now.reached(clock.deadline()) {
                table.prefetch(table.hash(record.end()));
            }
        }
        for &position in batch {
            let index = Index::new(position);
            if self.wheel.links().is_retired(position) {
                continue;
            }
            match judge(table, index, now, policy) {
                Judgement::None => self.wheel.disarm(position),
                Judgement::Over => {
                    self.reclaimer.unlink(table, &mut self.wheel, index);
                    policy.removed(index, table.record(index));
                    progress.removed += 1;
                }
                Judgement::Until(deadline) => self.wheel.arm(position, deadline),
            }
        }
    }

    fn reclaim(&mut self, now: Tick, budget: usize, progress: &mut Progress) {
        let left = budget.saturating_sub(progress.freed);
        progress.freed += self.reclaimer.advance(&self.table, &mut self.wheel, now, left);
        progress.behind |= self.reclaimer.has_ready();
    }
}

/// What became of a record that was looked at.
enum Judgement {
    /// It holds no entry.
    None,
    /// Its entry is dead and has to be unlinked.
    Over,
    /// Its entry has to be looked at then.
    Until(Tick),
}

/// Decides what to do with a record; asks the policy if the entry's time is up.
fn judge<F: Family>(table: &Table<F>, index: Index, now: Tick, policy: &mut impl Policy<F>) -> Judgement {
    let record = table.record(index);
    let mut clock = record.clock();
    loop {
        if clock.is_free() {
            return Judgement::None;
        }
        if clock.is_dead() {
            return Judgement::Over;
        }
        if !now.reached(clock.deadline()) {
            return Judgement::Until(clock.deadline());
        }
        // Either answer holds only if no packet came meanwhile.
        let changed = match policy.expired(index, record, clock) {
            Verdict::Remove => record.kill(clock).map(|()| {
                table.keeper.killed.add(1);
                Judgement::Over
            }),
            Verdict::KeepFor(seconds) => {
                let kept = clock.with_seen(now).with_timeout(seconds);
                record.update(clock, kept).map(|()| Judgement::Until(kept.deadline()))
            }
        };
        match changed {
            Ok(judgement) => return judgement,
            Err(current) => clock = current,
        }
    }
}

impl<F: Family> fmt::Debug for Keeper<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keeper").field("table", &self.table).finish_non_exhaustive()
    }
}
