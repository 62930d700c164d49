//! Workers and the keeper at once on one small table, as fast as they can, for about a second.
#![cfg(not(loom))]

use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use director_flow::{
    Clock, Index, InsertError, Options, Record, Table, Tick, V4, V4End, Verdict, WorkerLocal,
};

const CAPACITY: u32 = 500;
/// More than fit, so that the table is full much of the time; of few client ends, so that chains are long.
const ENDS: u64 = 60;
const VIPS: u64 = 20;
const WORKERS: usize = 3;

struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 32) * n) >> 32
    }
}

fn end(n: u64) -> V4End {
    V4End::new(0x0a00_0000 + n as u32, 4000, 17)
}

/// What the last word of a record must be.
fn seal(record: &Record<V4>) -> u64 {
    record.end().bits() ^ record.word(0).rotate_left(9) ^ record.word(1).rotate_left(18) ^ 0x5ea1
}

#[derive(Default)]
struct Tally {
    made: u64,
    found: u64,
    full: u64,
}

fn work(worker: &mut WorkerLocal<V4>, seed: u64, clock: &AtomicU32, stop: impl Fn() -> bool) -> Tally {
    let table = worker.table().clone();
    let mut random = Random(seed);
    let mut tally = Tally::default();
    let mut held = Vec::new();
    while !stop() {
        worker.quiescent();
        held.clear();
        let now = Tick(clock.load(Relaxed));
        for _ in 0..32 {
            let (end, vip) = (end(random.below(ENDS)), random.below(VIPS));
            let same = |record: &Record<V4>| record.end() == end && record.word(0) == vip;
            let hash = table.hash(end);
            let found = table.resolve(hash, table.probe(hash), same).or_else(|| {
                let unique = random.below(u64::MAX >> 32);
                let made = worker.insert(end, same, |_, record| {
                    record.set_word(0, vip);
                    record.set_word(1, unique);
                    record.set_word(4, seal(record));
                    Ok::<_, Infallible>(Clock::new(now, 1, 2))
                });
                match made {
                    Ok(made) => {
                        tally.made += u64::from(matches!(made, director_flow::Inserted::New(_)));
                        Some(made.index())
                    }
                    Err(InsertError::TableFull | InsertError::ChainFull) => {
                        tally.full += 1;
                        None
                    }
                    Err(InsertError::Refused(never)) => match never {},
                }
            });
            let Some(index) = found else { continue };
            tally.found += 1;
            let record = table.record(index);
            assert_eq!((record.end(), record.word(0), record.word(4)), (end, vip, seal(record)));
            held.push((index, end, record.word(1), record.generation()));
            match random.below(16) {
                0 => {
                    worker.kill(index);
                }
                1 => {
                    let clock = record.clock();
                    if record.update(clock, clock.with_seen(now).with_timeout(1)).is_ok() {
                        worker.notify(index);
                    }
                }
                _ => {
                    let _dead_or_seen = record.touch(now);
                }
            }
        }
        // Whatever became of them, none was reused meanwhile.
        for &(index, end, unique, generation) in &held {
            let record = table.record(index);
            assert_eq!((record.end(), record.word(1), record.generation()), (end, unique, generation));
        }
        if random.below(64) == 0 {
            worker.offline();
            std::thread::yield_now();
        }
    }
    worker.offline();
    tally
}

#[test]
fn nothing_is_lost_or_shared_under_load() {
    let options = Options { seed: Some(3), ..Options::new(CAPACITY, WORKERS) };
    let (table, workers, mut keeper) = Table::<V4>::create(&options).unwrap();
    let clock = AtomicU32::new(u32::MAX - 100);
    let done = AtomicBool::new(false);
    let removed = AtomicU64::new(0);
    let start = Instant::now();
    let bursts = if cfg!(miri) { 6 } else { usize::MAX };

    let made = std::thread::scope(|scope| {
        let handles: Vec<_> = workers
            .into_iter()
            .zip(1..)
            .map(|(mut worker, seed)| {
                let clock = &clock;
                scope.spawn(move || {
                    let rounds = std::cell::Cell::new(0);
                    work(&mut worker, seed, clock, || {
                        rounds.set(rounds.get() + 1);
                        rounds.get() > bursts || start.elapsed() > Duration::from_millis(1000)
                    })
                })
            })
            .collect();
        let keep = scope.spawn(|| {
            let mut policy = (
                |_: Index, _: &Record<V4>, _: Clock| Verdict::Remove,
                |_: Index, record: &Record<V4>| {
                    assert_eq!(record.word(4), seal(record));
                    assert!(record.clock().is_dead());
                    removed.fetch_add(1, Relaxed);
                },
            );
            let mut random = Random(99);
            while !done.load(Relaxed) {
                if random.below(200) == 0 {
                    clock.fetch_add(1, Relaxed);
                }
                keeper.poll(Tick(clock.load(Relaxed)), 64, &mut policy);
                let mut seen = 0;
                let _rest = table.scan(0, CAPACITY, |_, record| {
                    assert_eq!(record.word(4), seal(record));
                    seen += 1;
                });
                assert!(seen <= CAPACITY);
            }
            // All are away now: everything goes.
            for _ in 0..100 {
                let now = Tick(clock.fetch_add(1, Relaxed));
                while keeper.poll(now, 1000, &mut policy).behind {}
            }
        });
        let tallies: Vec<Tally> = handles.into_iter().map(|handle| handle.join().unwrap()).collect();
        done.store(true, Relaxed);
        keep.join().unwrap();
        for tally in &tallies {
            assert!(tally.found > 0 && tally.made > 0);
            assert!(cfg!(miri) || tally.full > 0, "the table was never full");
        }
        tallies.iter().map(|tally| tally.made).sum::<u64>()
    });
    let counters = table.counters();
    assert_eq!((counters.inserted, removed.load(Relaxed)), (made, made));
    assert_eq!((counters.active, counters.dead, counters.overflow_buckets), (0, 0, 0));
    assert!(cfg!(miri) || counters.longest_chain > 1);
}
