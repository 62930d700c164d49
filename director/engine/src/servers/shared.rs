//! What all workers share of a server: the counts and the switches that a scheduler chooses by.

use std::sync::Arc;
use std::sync::atomic::{
    AtomicU32, AtomicU64,
    Ordering::{Relaxed, SeqCst},
};

use arc_swap::ArcSwapOption;

use crate::scheduler::dirty::Dirty;
use crate::service::ServerSpec;
use crate::state::State;

/// The server was deleted: it may not be used for packets of clients.
const GONE: u32 = 1;
/// The server has as many connections as it may.
const OVERLOADED: u32 = 2;

/// One connection in an active state, in [`Shared::connections`]; one in any other state is 1.
const ACTIVE: u64 = 1 << 32;

/// What all workers see and change of a server at once. The counts are exact, since each change is one atomic
/// addition. Both are in one word, so a connection is never in neither or in both.
///
/// A thread that changes `connections`, `flags` or `weight`, by which a scheduler chooses, sets a mark afterwards;
/// the scheduler first takes the mark and then looks. All four accesses are `SeqCst`, so that one of the two sees
/// what the other did. The same holds for the thresholds: a thread that changes one looks at the connections
/// afterwards, and a thread that counts a connection looks at the thresholds afterwards. The rest is Relaxed, since
/// no field depends on another.
#[derive(Default)]
#[repr(align(64))]
pub(super) struct Shared {
    /// Active connections in the upper half, the others in the lower.
    connections: AtomicU64,
    pub(super) persistent: AtomicU32,
    flags: AtomicU32,
    pub(super) weight: AtomicU32,
    pub(super) upper: AtomicU32,
    lower: AtomicU32,
    /// The number of its [`Forward`](crate::service::Forward).
    pub(super) forward: AtomicU32,
    /// Which changes the scheduler wants to know of: the bits of [`Watch`], or none. Stored after `place` and
    /// `marks`, so that a thread that sees it sees those too. The scheduler looks afterwards, and so sees what a
    /// thread changed that did not see it yet.
    watch: AtomicU32,
    /// The server's place in the list of its service.
    pub(super) place: AtomicU32,
    /// Where changes are marked.
    marks: ArcSwapOption<Dirty>,
    /// The way to it that was found last, as a [`KeptWay`](crate::entry::KeptWay).
    pub(super) way: AtomicU64,
}

const _: () = assert!(size_of::<Shared>() == 64);

/// Which changes of a server matter to a scheduler.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub(crate) enum Watch {
    /// Whether it may be used for a new connection.
    Usable = 1,
    /// That and every change of its connections.
    Connections = 3,
}

/// A server as a scheduler sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Standing {
    flags: u32,
    pub(crate) weight: u32,
    pub(crate) active: u32,
    pub(crate) inactive: u32,
}

impl Standing {
    /// Where there is no server.
    pub(crate) const NONE: Self = Self { flags: GONE, weight: 0, active: 0, inactive: 0 };

    /// Whether it may take a new connection.
    pub(crate) const fn is_usable(&self) -> bool {
        self.weight > 0 && self.flags == 0
    }

    /// Whether it was deleted.
    pub(crate) const fn is_gone(&self) -> bool {
        self.flags & GONE != 0
    }

    /// The same server, if it were neither deleted nor overloaded.
    pub(crate) const fn as_usable(self) -> Self {
        Self { flags: 0, ..self }
    }
}

/// What a connection in this state adds to [`Shared::connections`].
const fn one(state: State) -> u64 {
    if state.is_active() { ACTIVE } else { 1 }
}

impl Shared {
    /// Sets what an operator may change of it, and that it is not deleted; see [`super::Servers::set`].
    pub(super) fn set(&self, spec: &ServerSpec) {
        self.upper.store(spec.upper, SeqCst);
        self.lower.store(spec.lower, SeqCst);
        self.forward.store(spec.forward as u32, Relaxed);
        self.way.store(0, Relaxed);
        self.weight.store(spec.weight, SeqCst);
        self.flags.fetch_and(!GONE, SeqCst);
        self.fill();
        self.release();
        self.mark(Watch::Usable);
    }

    /// Marks it as deleted.
    pub(super) fn set_gone(&self) {
        self.flags.fetch_or(GONE, SeqCst);
        self.mark(Watch::Usable);
    }

    /// Whether it was deleted.
    #[inline]
    pub(super) fn is_gone(&self) -> bool {
        self.flags.load(Relaxed) & GONE != 0
    }

    /// Whether it may take a new connection.
    #[inline]
    pub(super) fn is_usable(&self) -> bool {
        self.weight.load(Relaxed) > 0 && self.flags.load(Relaxed) == 0
    }

    /// What a scheduler chooses by.
    pub(super) fn standing(&self) -> Standing {
        let (active, inactive) = self.counts();
        let (flags, weight) = (self.flags.load(SeqCst), self.weight.load(SeqCst));
        Standing { flags, weight, active, inactive }
    }

    /// From now on marks changes in `marks`, at `place`. Returns where they were marked before.
    pub(super) fn watch(&self, place: u32, marks: &Arc<Dirty>, watch: Watch) -> Option<Arc<Dirty>> {
        self.place.store(place, Relaxed);
        let before = self.marks.swap(Some(marks.clone()));
        self.watch.store(watch as u32, SeqCst);
        before
    }

    /// No longer marks changes. Returns where they were marked before.
    pub(super) fn unwatch(&self) -> Option<Arc<Dirty>> {
        // Without a watcher there are no marks, and swapping what workers may hold takes longer than looking.
        if self.watch.swap(0, SeqCst) == 0 { None } else { self.marks.swap(None) }
    }

    /// Counts a connection, without looking at the thresholds.
    pub(super) fn add(&self, state: State) {
        self.connections.fetch_add(one(state), SeqCst);
        self.mark(Watch::Connections);
    }

    /// Counts the end of a connection.
    pub(super) fn remove(&self, state: State) {
        self.connections.fetch_sub(one(state), SeqCst);
        self.drain();
        self.mark(Watch::Connections);
    }

    /// Moves a connection between the two counts: from that of one state to that of the other.
    #[inline]
    pub(super) fn change(&self, from: State, to: State) {
        self.connections.fetch_add(one(to).wrapping_sub(one(from)), SeqCst);
        self.mark(Watch::Connections);
    }

    /// Whether it has neither connections nor templates, and no change of a connection is still to be counted.
    pub(super) fn is_idle(&self) -> bool {
        self.connections.load(Relaxed) == 0 && self.persistent.load(Relaxed) == 0
    }

    /// Active connections, and the others. The end of a connection may be counted before its last change of state,
    /// which another thread counts. Then one of the two is below 0 for a moment, and is shown as 0.
    pub(super) fn counts(&self) -> (u32, u32) {
        let word = self.connections.load(SeqCst) as i64;
        let inactive = i64::from(word as i32);
        let active = word.wrapping_sub(inactive) >> 32;
        (active.max(0) as u32, inactive.max(0) as u32)
    }

    fn total(&self) -> u32 {
        let (active, inactive) = self.counts();
        active.saturating_add(inactive)
    }

    /// Whether a server that was overloaded is so no longer.
    fn is_released(&self) -> bool {
        let (upper, lower) = (self.upper.load(SeqCst), self.lower.load(SeqCst));
        let total = self.total();
        let is_below = if lower > 0 { total < lower } else { u64::from(total) * 4 < u64::from(upper) * 3 };
        // A thread that sees one new threshold and one old one may see a lower one above the upper. Without the
        // comparison with the upper one, `fill` and `release` would then call each other until the other threshold is
        // stored.
        upper == 0 || is_below && total < upper
    }

    /// To be called after a connection was added: the server may have reached its upper threshold.
    ///
    /// Other threads add and remove connections at the same time. So a thread that changes the flag looks again
    /// afterwards whether the opposite change has become due. Of two changes of the flag, the later one sees what was
    /// counted before the earlier one; so the last one leaves the flag as the counts require.
    pub(super) fn fill(&self) {
        let upper = self.upper.load(SeqCst);
        if upper != 0 && self.total() >= upper {
            self.flags.fetch_or(OVERLOADED, SeqCst);
            self.mark(Watch::Usable);
            self.release();
        }
    }

    /// To be called after a connection was removed: see [`Self::fill`].
    fn drain(&self) {
        if self.upper.load(SeqCst) != 0 {
            self.release();
        }
    }

    /// Clears the flag if few enough connections are left; see [`Self::fill`].
    fn release(&self) {
        if self.is_released() && self.flags.fetch_and(!OVERLOADED, SeqCst) & OVERLOADED != 0 {
            self.mark(Watch::Usable);
            self.fill();
        }
    }

    /// Tells the scheduler of the service that the server has changed, if it wants to know.
    fn mark(&self, what: Watch) {
        // `Usable` is a part of `Connections`.
        let bit = if what == Watch::Usable { 1 } else { 2 };
        if self.watch.load(SeqCst) & bit != 0
            && let Some(marks) = &*self.marks.load()
        {
            marks.mark(self.place.load(Relaxed));
        }
    }
}
