//! A connection table as the control core keeps it; it ends the entries whose time is up.

use std::sync::Arc;

use director_flow::{
    Clock, CreateError, Index, Keeper, Options, Policy, Progress, Record, Table, Tick, Verdict, WorkerLocal,
};

use crate::entry::{self, Layout};
use crate::ftp::{self, Ftp};
use crate::pressure::Pressure;
use crate::servers::Servers;
use crate::templates::Templates;

/// How many entries one turn looks at while those of deleted servers end.
const SCAN: u32 = 10_000;

/// What is the same for the tables of both families in one turn.
pub(crate) struct Cycle<'a> {
    pub(crate) servers: &'a Servers,
    pub(crate) templates: &'a Templates,
    pub(crate) ftp: &'a Ftp,
    pub(crate) now: Tick,
    /// Steps, at most.
    pub(crate) budget: usize,
    /// The switch of this name.
    pub(crate) drop_entry: bool,
}

/// The table of a family.
pub(crate) struct Kept<F: Layout> {
    pub(crate) table: Arc<Table<F>>,
    pub(crate) keeper: Keeper<F>,
    /// The number of its first entry among those of both tables.
    first: u32,
    /// Where the search for entries of deleted servers stands.
    purging: Option<u32>,
    /// Servers were deleted during the search: there must be another.
    purge_again: bool,
    pressure: Pressure,
}

/// Ends what is over.
struct Expiry<'a> {
    cycle: &'a Cycle<'a>,
    first: u32,
}

impl<F: Layout> Policy<F> for Expiry<'_> {
    fn expired(&mut self, index: Index, _: &Record<F>, _: Clock) -> Verdict {
        let is_held = self.cycle.ftp.holds(self.first + index.get());
        if is_held { Verdict::KeepFor(ftp::EXTENSION) } else { Verdict::Remove }
    }

    fn removed(&mut self, index: Index, record: &Record<F>) {
        self.cycle.servers.unbind(entry::slot(record), entry::state(record));
        self.cycle.templates.leave(self.first + index.get(), self.cycle.now);
        self.cycle.ftp.leave(self.first + index.get(), entry::is_ftp_control(record));
    }
}

impl<F: Layout> Kept<F> {
    /// A table, and the workers' parts of it. `first` is the number of its first entry.
    pub(crate) fn create(options: &Options, first: u32) -> Result<(Self, Vec<WorkerLocal<F>>), CreateError> {
        let (table, locals, keeper) = Table::create(options)?;
        let kept =
            Self { table, keeper, first, purging: None, purge_again: false, pressure: Pressure::default() };
        Ok((kept, locals))
    }

    /// Ends the entries of deleted servers. A search that is under way goes on instead of beginning again, or the
    /// last entries would never have their turn.
    pub(crate) fn purge(&mut self) {
        self.purge_again = self.purging.is_some_and(|at| at > 0);
        self.purging.get_or_insert(0);
    }

    /// Whether there may still be entries that [`Self::purge`] has to end.
    pub(crate) fn is_purging(&self) -> bool {
        self.purging.is_some()
    }

    /// Runs the timers and gives back what is over.
    pub(crate) fn poll(&mut self, cycle: &Cycle<'_>) -> Progress {
        let Self { table, keeper, first, purging, purge_again, pressure } = self;
        let mut expiry = Expiry { cycle, first: *first };
        if let Some(from) = *purging {
            let mut doomed = Vec::new();
            *purging = table.scan(from, SCAN, |index, record| {
                if cycle.servers.is_gone(entry::slot(record)) {
                    doomed.push(index);
                }
            });
            for index in doomed {
                keeper.remove(index, &mut expiry);
            }
            if purging.is_none() && std::mem::take(purge_again) {
                *purging = Some(0);
            }
        }
        let mut progress = keeper.poll(cycle.now, cycle.budget, &mut expiry);
        progress.behind |= purging.is_some();
        if cycle.drop_entry {
            progress.behind |= pressure.apply(table, cycle.now, cycle.budget, |index| {
                keeper.remove(index, &mut expiry);
            });
        } else {
            pressure.rest();
        }
        progress
    }
}
