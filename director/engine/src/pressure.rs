//! `drop_entry`: under attack, random entries of connections that are not established yet are deleted.

use director_flow::{Index, TICKS_PER_SECOND, Table, Tick};

use crate::entry::{self, Layout};

/// One in this many records is looked at each second, as in the kernel.
const ONE_IN: u64 = 32;

/// When which records are looked at.
#[derive(Default)]
pub(crate) struct Pressure {
    random: ahash::RandomState,
    drawn: u64,
    /// When records were last looked at. None while the switch is off.
    last: Option<Tick>,
    /// The records still to be looked at, multiplied by the ticks of [`ONE_IN`] seconds.
    owed: u64,
}

impl Pressure {
    /// The switch is off.
    pub(crate) fn rest(&mut self) {
        self.last = None;
        self.owed = 0;
    }

    /// Looks at as many random records as are due at `now`, at most `budget`, and names the entries to be deleted.
    /// True: more are due.
    pub(crate) fn apply<F: Layout>(
        &mut self,
        table: &Table<F>,
        now: Tick,
        budget: usize,
        mut doom: impl FnMut(Index),
    ) -> bool {
        const WHOLE: u64 = ONE_IN * TICKS_PER_SECOND as u64;
        let used = used(table);
        let ticks = now.since(self.last.replace(now).unwrap_or(now));
        // What was not done within a second is not made up for.
        let most = u64::from(used) * u64::from(TICKS_PER_SECOND);
        self.owed = (self.owed + u64::from(used) * u64::from(ticks)).min(most.max(WHOLE));
        let due = (self.owed / WHOLE).min(budget as u64);
        self.owed -= due * WHOLE;
        if used == 0 {
            return false;
        }
        for _ in 0..due {
            self.drawn = self.drawn.wrapping_add(1);
            let position = self.random.hash_one(self.drawn) % u64::from(used);
            table.scan(position as u32, 1, |index, record| {
                if entry::state(record).is_opening() {
                    doom(index);
                }
            });
        }
        self.owed >= WHOLE
    }
}

/// How many records were ever in use: a scan goes on at each of these positions.
fn used<F: Layout>(table: &Table<F>) -> u32 {
    let (mut low, mut high) = (0, table.capacity());
    while low < high {
        let middle = low + (high - low) / 2;
        if table.scan(middle, 0, |_, _| {}).is_some() {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}

#[cfg(test)]
mod tests {
    use super::*;
    use director_flow::{Clock, Options, Record, V4, V4End};

    #[test]
    fn how_many_records_are_in_use() {
        let (table, mut workers, _) = Table::<V4>::create(&Options::new(5000, 1)).unwrap();
        assert_eq!(used(&table), 0);
        workers[0].quiescent();
        for port in 0..1000 {
            let make = |_, _: &Record<V4>| Ok::<_, ()>(Clock::new(Tick(0), 0, 1));
            workers[0].insert(V4End::new(1, port, 6), |_| false, make).unwrap();
        }
        // Workers take records by the batch.
        assert!((1000..1100).contains(&used(&table)), "{}", used(&table));
    }
}
