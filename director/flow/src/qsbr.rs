//! Reclamation by quiescent states: when may what was unlinked be reused?
//!
//! A worker reports once a burst that it holds nothing it found before. What was unlinked before a *grace period*
//! began, and every worker has reported (or is offline) since, nobody can be looking at.
//!
//! There is a number of the current period. [`Qsbr::begin`] raises it and gives the new one; a worker's report copies
//! the number to a line of its own; the period has passed when no copy is lower.
//!
//! Why that is enough, order by order:
//! - A worker's report *loads* the number with Acquire. If it read this period's number, it also sees every unlinking
//!   that came before [`Qsbr::begin`] (a Release), so what it finds afterwards is not what was unlinked.
//! - It *stores* its copy with Release, and [`Qsbr::passed`] loads it with Acquire: all the worker read from records
//!   before the report happens before they are reused.
//! - A worker that comes *online* publishes a copy and then reads buckets; the control core unlinks and then reads
//!   copies. Each must not miss the other's store: either the control core sees the worker online and waits, or the
//!   worker sees the unlinking. Such a pair of store-then-load is what a sequentially consistent fence on both sides
//!   is for, and nothing less: hence the fence in [`Qsbr::online`] and the one in [`Qsbr::begin`]. An ordinary report
//!   needs none, because the copy it replaces already holds the period back.
//! - A worker goes *offline* with a Release like a report's. A full fence follows it, so that its last reads and this
//!   store are over before it sleeps, whatever the sleep is made of.

use crate::sync::{
    AtomicU64,
    Ordering::{AcqRel, Acquire, Release, SeqCst},
    Padded, fence,
};

/// The number of a worker that is offline: later than every period.
const OFFLINE: u64 = u64::MAX;

/// A grace period that was begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grace(u64);

/// The current period and what each worker reported.
pub(crate) struct Qsbr {
    period: Padded<AtomicU64>,
    workers: Box<[Padded<AtomicU64>]>,
}

impl Qsbr {
    /// All workers start offline.
    pub(crate) fn new(workers: usize) -> Self {
        Qsbr {
            period: Padded(AtomicU64::new(1)),
            workers: (0..workers).map(|_| Padded(AtomicU64::new(OFFLINE))).collect(),
        }
    }

    /// A worker that is online reports that it holds nothing it found.
    #[inline]
    pub(crate) fn report(&self, worker: usize) {
        self.workers[worker].store(self.period.load(Acquire), Release);
    }

    pub(crate) fn online(&self, worker: usize) {
        self.report(worker);
        // Pairs with the fence of `begin`, see above.
        fence(SeqCst);
    }

    pub(crate) fn offline(&self, worker: usize) {
        self.workers[worker].store(OFFLINE, Release);
        fence(SeqCst);
    }

    /// Begins a grace period for all that the caller unlinked before.
    pub(crate) fn begin(&self) -> Grace {
        let grace = Grace(self.period.fetch_add(1, AcqRel) + 1);
        // Pairs with the fence of `online`, see above.
        fence(SeqCst);
        grace
    }

    /// Whether every worker has reported since the period began, or is offline.
    pub(crate) fn passed(&self, grace: Grace) -> bool {
        self.waiting_for(grace).next().is_none()
    }

    /// The workers that hold the period up.
    pub(crate) fn waiting_for(&self, grace: Grace) -> impl Iterator<Item = usize> {
        self.workers
            .iter()
            .enumerate()
            .filter(move |(_, seen)| seen.load(Acquire) < grace.0)
            .map(|(id, _)| id)
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;

    #[test]
    fn a_period_passes_when_all_have_reported_or_are_away() {
        let qsbr = Qsbr::new(3);
        let first = qsbr.begin();
        assert!(qsbr.passed(first), "all workers start offline");
        qsbr.online(0);
        qsbr.online(1);
        assert!(qsbr.passed(first), "who came later saw the unlinking");
        let second = qsbr.begin();
        assert_eq!(qsbr.waiting_for(second).collect::<Vec<_>>(), [0, 1]);
        qsbr.report(0);
        qsbr.online(2);
        assert_eq!(qsbr.waiting_for(second).collect::<Vec<_>>(), [1]);
        qsbr.offline(1);
        assert!(qsbr.passed(second) && qsbr.passed(first));
        let third = qsbr.begin();
        assert!(!qsbr.passed(third) && qsbr.passed(second));
    }
}
