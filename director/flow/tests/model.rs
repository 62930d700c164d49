//! The whole table against a simple model of it, in simulated time: whatever is done in whatever order, an entry is
//! found while it lives, goes at its time, and no record is lost.
//!
//! A property test, and a fuzz target: `cargo bolero test --test model the_table_does_what_its_model_does`.
#![cfg(not(loom))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a helper of tests is a test")]

use std::collections::HashMap;
use std::convert::Infallible;

use bolero::TypeGenerator;
use director_flow::{
    Clock, Index, InsertError, Inserted, Keeper, Options, Policy, Record, SEEN_LAG, TICKS_PER_SECOND, Table,
    Tick, V4, V4End, Verdict, WorkerLocal,
};

const CAPACITY: u32 = 150;
/// Client ends and virtual addresses in play: few, so that they meet often and share chains.
const ENDS: u8 = 3;
const VIPS: u8 = 60;
const WORKERS: usize = 2;

#[derive(Clone, Copy, Debug, TypeGenerator)]
struct Key {
    #[generator(0..ENDS)]
    end: u8,
    #[generator(0..VIPS)]
    vip: u8,
}

impl Key {
    fn end(self) -> V4End {
        V4End::new(0x0a00_0000 + u32::from(self.end), 5000, 6)
    }

    fn matches(self) -> impl Fn(&Record<V4>) -> bool {
        move |record| record.end() == self.end() && record.word(0) == u64::from(self.vip)
    }
}

#[derive(Clone, Debug, TypeGenerator)]
enum Op {
    /// A packet: inserts the entry if it is not there.
    Packet {
        worker: bool,
        key: Key,
        timeout: u8,
    },
    /// A second entry of the same key.
    Another {
        worker: bool,
        key: Key,
        timeout: u8,
    },
    /// Packets of many connections of one client end.
    Many {
        worker: bool,
        from: Key,
        count: u8,
    },
    /// Many entries of one client end are removed.
    RemoveMany {
        from: Key,
        count: u8,
    },
    /// A packet with another timeout, shorter or longer.
    Update {
        worker: bool,
        key: Key,
        timeout: u32,
    },
    Kill {
        worker: bool,
        key: Key,
    },
    Remove {
        key: Key,
    },
    Alias {
        worker: bool,
        key: Key,
        second: Key,
    },
    Quiescent {
        worker: bool,
    },
    Offline {
        worker: bool,
    },
    Poll {
        ticks: u8,
        budget: u8,
    },
    /// The clock jumps ahead, up to 8 hours.
    Jump {
        ticks: u32,
    },
    /// The clock jumps back a little.
    Back {
        ticks: u8,
    },
    /// The next entries whose time is up are kept instead.
    Keep {
        times: u8,
        seconds: u8,
    },
}

/// An entry as the model knows it.
#[derive(Debug)]
struct Entry {
    key: Key,
    /// When its last packet came, whether that was noted or not.
    last: Tick,
    timeout: u32,
    live: bool,
    order: u64,
}

impl Entry {
    /// Whether it may go: its timeout is over, even if the last packet came at the very end of its tick.
    fn may_go(&self, now: Tick) -> bool {
        now.reached(self.last.plus(self.timeout * TICKS_PER_SECOND + 1))
    }

    /// Whether it must have gone: less than a second later.
    fn must_go(&self, now: Tick) -> bool {
        now.reached(self.latest_end())
    }

    fn latest_end(&self) -> Tick {
        const { assert!(SEEN_LAG + 1 < TICKS_PER_SECOND) };
        self.last.plus(self.timeout * TICKS_PER_SECOND + SEEN_LAG + 1)
    }
}

#[derive(Default)]
struct Model {
    /// By record; entries that were killed stay until they are removed.
    entries: HashMap<Index, Entry>,
    now: Tick,
    keep: u8,
    keep_seconds: u32,
    inserted: u64,
    removed: u64,
}

impl Model {
    fn newest(&self, key: Key) -> Option<Index> {
        self.entries
            .iter()
            .filter(|(_, entry)| entry.live && entry.key.end == key.end && entry.key.vip == key.vip)
            .max_by_key(|(_, entry)| entry.order)
            .map(|(&index, _)| index)
    }

    fn insert(&mut self, index: Index, key: Key, timeout: u32) {
        self.inserted += 1;
        let entry = Entry { key, last: self.now, timeout, live: true, order: self.inserted };
        assert!(self.entries.insert(index, entry).is_none(), "{index:?} was given twice");
    }

    fn live(&self) -> u64 {
        self.entries.values().filter(|entry| entry.live).count() as u64
    }
}

impl Policy<V4> for Model {
    fn expired(&mut self, index: Index, _: &Record<V4>, clock: Clock) -> Verdict {
        let entry = self.entries.get_mut(&index).unwrap();
        assert!(entry.live);
        assert!(entry.may_go(self.now), "{entry:?} expired early, at {:?}", self.now);
        assert_eq!(clock.timeout(), entry.timeout);
        assert!((0..=SEEN_LAG).any(|lag| clock.seen() == entry.last.minus(lag)), "{clock:?} of {entry:?}");
        if self.keep > 0 {
            self.keep -= 1;
            entry.last = self.now;
            entry.timeout = self.keep_seconds;
            Verdict::KeepFor(self.keep_seconds)
        } else {
            entry.live = false;
            Verdict::Remove
        }
    }

    fn removed(&mut self, index: Index, record: &Record<V4>) {
        let entry = self.entries.remove(&index).expect("removed once");
        assert!(!entry.live);
        assert_eq!(record.end(), entry.key.end());
        self.removed += 1;
    }
}

struct Simulation {
    table: std::sync::Arc<Table<V4>>,
    workers: Vec<WorkerLocal<V4>>,
    keeper: Keeper<V4>,
    model: Model,
    /// The latest time that was polled for.
    latest: Tick,
}

impl Simulation {
    fn new(seed: u64) -> Self {
        let options = Options { seed: Some(seed), ..Options::new(CAPACITY, WORKERS) };
        let (table, workers, keeper) = Table::create(&options).unwrap();
        // Near the clock's wrap.
        let now = Tick(u32::MAX - 3000);
        let model = Model { now, ..Model::default() };
        let mut simulation = Simulation { table, workers, keeper, model, latest: now };
        simulation.keeper.poll(now, 1, &mut simulation.model);
        simulation
    }

    fn worker(&mut self, which: bool) -> &mut WorkerLocal<V4> {
        let worker = &mut self.workers[usize::from(which)];
        worker.online();
        worker
    }

    fn insert(&mut self, worker: bool, key: Key, timeout: u32, another: bool) {
        let now = self.model.now;
        let expected = if another { None } else { self.model.newest(key) };
        let matches = key.matches();
        let made = self.worker(worker).insert(
            key.end(),
            |record| !another && matches(record),
            |_, record| {
                assert!((0..5).all(|i| record.word(i) == 0), "a used record");
                record.set_word(0, u64::from(key.vip));
                Ok::<_, Infallible>(Clock::new(now, 3, timeout))
            },
        );
        let counters = self.table.counters();
        match made {
            Ok(Inserted::New(index)) => {
                assert_eq!(expected, None);
                self.model.insert(index, key, timeout);
            }
            Ok(Inserted::Existing(index)) => assert_eq!(expected, Some(index)),
            Err(InsertError::TableFull) => {
                assert_eq!(expected, None);
                // Up to one record in the other worker's hand.
                let used = counters.active + counters.dead;
                assert!(used >= u64::from(CAPACITY) - 1, "full with {used}");
            }
            Err(InsertError::ChainFull) => {
                assert_eq!(expected, None);
                // A slot for each, some twice while they move home, and aliases.
                assert!(self.model.entries.len() >= 22);
            }
            Err(InsertError::Refused(never)) => match never {},
        }
    }

    fn remove(&mut self, key: Key) {
        if let Some(index) = self.model.newest(key) {
            self.model.entries.get_mut(&index).unwrap().live = false;
            assert!(self.keeper.remove(index, &mut self.model));
        }
    }

    fn poll(&mut self, budget: usize) {
        let mut polls = 0;
        while self.keeper.poll(self.model.now, budget, &mut self.model).behind {
            polls += 1;
            assert!(polls < 100_000, "the keeper never finishes");
        }
    }

    fn check(&self) {
        for end in 0..ENDS {
            for vip in (0..VIPS).step_by(if cfg!(miri) { 7 } else { 1 }) {
                let key = Key { end, vip };
                let hash = self.table.hash(key.end());
                let expected = self.model.newest(key);
                assert_eq!(self.table.find(hash, key.matches()), expected);
                assert_eq!(self.table.resolve(hash, self.table.probe(hash), key.matches()), expected);
            }
        }
        for (&index, entry) in self.model.entries.iter().filter(|(_, entry)| entry.live) {
            let deadline = self.table.record(index).clock().deadline();
            assert!(
                entry.may_go(deadline) && entry.latest_end().reached(deadline),
                "{entry:?} goes at {deadline:?}"
            );
        }
        let counters = self.table.counters();
        assert_eq!((counters.active, counters.inserted), (self.model.live(), self.model.inserted));
        let mut scanned = 0;
        let rest = self.table.scan(0, CAPACITY, |index, _| {
            assert!(self.model.entries[&index].live);
            scanned += 1;
        });
        assert_eq!((rest, scanned), (None, self.model.live()));
    }

    /// After a poll: nothing whose time is up is left, provided that the clock has come further than ever before and
    /// the workers' events were published.
    fn check_expiry(&mut self) {
        if self.model.now.since(self.latest) > 0 {
            self.latest = self.model.now;
            for (index, entry) in &self.model.entries {
                assert!(
                    entry.live && !entry.must_go(self.latest),
                    "{index:?} {entry:?} left at {:?}",
                    self.latest
                );
            }
        }
    }

    fn run(&mut self, op: &Op) {
        match *op {
            Op::Packet { worker, key, timeout } => {
                let timeout = u32::from(timeout).max(1);
                self.insert(worker, key, timeout, false);
                if let Some(index) = self.model.newest(key) {
                    let (now, record) = (self.model.now, self.table.record(index));
                    let before = record.clock();
                    let after = record.touch(now).unwrap();
                    assert_eq!(after, record.clock());
                    // Written to twice a second at most, by workers whose clocks do not agree, too.
                    assert!(
                        after == before
                            || after == before.with_seen(now)
                                && now.since(before.seen()) * 2 >= TICKS_PER_SECOND
                    );
                    let entry = self.model.entries.get_mut(&index).unwrap();
                    if now.since(entry.last) > 0 {
                        entry.last = now;
                    }
                }
            }
            Op::Many { worker, from, count } => {
                for n in 0..count % if cfg!(miri) { 30 } else { 255 } {
                    let key = Key { end: from.end, vip: (from.vip + n % VIPS) % VIPS };
                    self.insert(worker, key, 1000 + u32::from(n), false);
                }
            }
            Op::RemoveMany { from, count } => {
                for n in 0..count % VIPS {
                    self.remove(Key { end: from.end, vip: (from.vip + n) % VIPS });
                }
            }
            Op::Another { worker, key, timeout } => self.insert(worker, key, u32::from(timeout).max(1), true),
            Op::Update { worker, key, timeout } => {
                let timeout = (timeout >> (timeout & 31)).clamp(1, 2_678_400);
                if let Some(index) = self.model.newest(key) {
                    let (now, record) = (self.model.now, self.table.record(index));
                    let old = record.clock();
                    record.update(old, old.with_seen(now).with_timeout(timeout)).unwrap();
                    let entry = self.model.entries.get_mut(&index).unwrap();
                    entry.last = now;
                    if timeout < std::mem::replace(&mut entry.timeout, timeout) {
                        self.worker(worker).notify(index);
                    }
                }
            }
            Op::Kill { worker, key } => {
                if let Some(index) = self.model.newest(key) {
                    assert!(self.worker(worker).kill(index));
                    self.model.entries.get_mut(&index).unwrap().live = false;
                }
            }
            Op::Remove { key } => self.remove(key),
            Op::Alias { worker, key, second } => {
                if let Some(index) = self.model.newest(key) {
                    // The alias's end would be word 0, which this test uses: put the address back.
                    let end = second.end();
                    if self.worker(worker).insert_alias(index, end).is_ok() {
                        let hash = self.table.hash(end);
                        let found =
                            self.table.find(hash, |record| std::ptr::eq(record, self.table.record(index)));
                        assert_eq!(found, Some(index));
                        // Gone for the model: it could no longer be told from its likes.
                        self.model.entries.get_mut(&index).unwrap().live = false;
                        assert!(self.keeper.remove(index, &mut self.model));
                    } else {
                        self.table.record(index).set_word(0, u64::from(key.vip));
                    }
                }
            }
            Op::Quiescent { worker } => self.workers[usize::from(worker)].quiescent(),
            Op::Offline { worker } => self.workers[usize::from(worker)].offline(),
            Op::Poll { ticks, budget } => {
                self.workers.iter_mut().for_each(WorkerLocal::quiescent);
                self.model.now = self.model.now.plus(u32::from(ticks % 8));
                self.poll(usize::from(budget).max(1));
                self.check_expiry();
            }
            Op::Jump { ticks } => {
                self.workers.iter_mut().for_each(WorkerLocal::quiescent);
                let ticks = if ticks % 4 == 0 { ticks >> (ticks & 31) } else { ticks % 16 };
                let ticks = ticks % if cfg!(miri) { 1000 } else { 300_000 };
                self.model.now = self.model.now.plus(ticks);
                self.poll(1000);
                self.check_expiry();
            }
            Op::Back { ticks } => {
                self.model.now = self.model.now.minus(u32::from(ticks));
                self.poll(1000);
            }
            Op::Keep { times, seconds } => {
                self.model.keep = times % 8;
                self.model.keep_seconds = u32::from(seconds).max(1);
            }
        }
    }

    /// In the end everything goes, and everything comes back.
    fn finish(mut self) {
        self.model.keep = 0;
        self.model.now = self.latest.plus(3);
        self.workers.iter_mut().for_each(WorkerLocal::offline);
        let left: Vec<Index> = self.model.entries.keys().copied().collect();
        for index in left {
            if let Some(entry) = self.model.entries.get_mut(&index).filter(|entry| entry.live) {
                entry.live = false;
                assert!(self.keeper.remove(index, &mut self.model));
            }
        }
        for _ in 0..20 {
            self.poll(1000);
        }
        assert_eq!((self.model.entries.len(), self.model.inserted), (0, self.model.removed));
        let counters = self.table.counters();
        assert_eq!((counters.active, counters.dead, counters.overflow_buckets), (0, 0, 0));
        drop(self.workers.pop());
        let worker = &mut self.workers[0];
        worker.quiescent();
        for n in 0..CAPACITY {
            let made = worker.insert(
                V4End::new(n, 1, 17),
                |_| false,
                |_, _| Ok::<_, Infallible>(Clock::new(Tick(0), 0, 1)),
            );
            assert!(made.is_ok(), "{n} records came back");
        }
    }
}

fn check((seed, ops): &(u64, Vec<Op>)) {
    let mut simulation = Simulation::new(*seed);
    for (n, op) in ops.iter().enumerate() {
        simulation.run(op);
        if n % 8 == 0 {
            simulation.check();
        }
    }
    simulation.check();
    simulation.finish();
}

#[test]
#[cfg(not(miri))]
fn the_table_does_what_its_model_does() {
    bolero::check!()
        .with_generator((bolero::produce::<u64>(), bolero::produce::<Vec<Op>>().with().len(0..1000_usize)))
        .with_iterations(100)
        .with_max_len(16_384)
        .for_each(check);
}

/// The same on a few inputs, without the runner: under Miri there are no files for it to look for.
#[test]
fn the_table_does_what_its_model_does_on_these() {
    use bolero::ValueGenerator;
    use bolero::generator::bolero_generator::driver::{Options, bytes};

    for seed in 1..=if cfg!(miri) { 1 } else { 20_u64 } {
        let mut random = seed;
        let bytes: Vec<u8> = std::iter::repeat_with(|| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 56) as u8
        })
        .take(4000)
        .collect();
        let mut driver = bytes::Driver::new(bytes, &Options::default());
        let seed = bolero::produce::<u64>().generate(&mut driver).unwrap();
        let length = if cfg!(miri) { 30..40_usize } else { 400..600 };
        let ops = bolero::produce::<Vec<Op>>().with().len(length).generate(&mut driver).unwrap();
        check(&(seed, ops));
    }
}
