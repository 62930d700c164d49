//! The table's promises, one by one, on one thread.
#![cfg(not(loom))]
#![allow(clippy::unwrap_used, reason = "a helper of tests is a test")]

use std::collections::HashSet;
use std::convert::Infallible;
use std::sync::Arc;

use director_flow::{
    AliasError, Clock, Family, Index, InsertError, Inserted, Keeper, MAX_CHAIN, Options, Policy, Progress,
    Record, SEEN_LAG, TICKS_PER_SECOND, Table, Tick, V4, V4End, V6, V6End, Verdict, WorkerLocal,
};

const VIP: usize = 0;
const SLOTS: usize = 11;
/// Ticks that an entry may have beyond its timeout.
const LATE: u32 = SEEN_LAG + 1;

fn options(capacity: u32, workers: usize) -> Options {
    Options { seed: Some(7), ..Options::new(capacity, workers) }
}

fn table(capacity: u32, workers: usize) -> (Arc<Table<V4>>, Vec<WorkerLocal<V4>>, Keeper<V4>) {
    let (table, mut locals, keeper) = Table::create(&options(capacity, workers)).unwrap();
    locals.iter_mut().for_each(WorkerLocal::quiescent);
    (table, locals, keeper)
}

fn end(n: u32) -> V4End {
    V4End::new(0x0a00_0000 + n, (n as u16).wrapping_add(1024), 6)
}

fn same<F: Family>(end: F::End, vip: u64) -> impl Fn(&Record<F>) -> bool {
    move |record| record.end() == end && record.word(VIP) == vip
}

/// Inserts an entry with a timeout of 60 s, seen at tick 1000.
fn insert<F: Family>(
    worker: &mut WorkerLocal<F>,
    end: F::End,
    vip: u64,
) -> Result<Inserted, InsertError<Infallible>> {
    worker.insert(end, same(end, vip), |_, record| {
        record.set_word(VIP, vip);
        Ok(Clock::new(Tick(1000), 1, 60))
    })
}

fn find<F: Family>(table: &Table<F>, end: F::End, vip: u64) -> Option<Index> {
    let hash = table.hash(end);
    let found = table.find(hash, same(end, vip));
    assert_eq!(found, table.resolve(hash, table.probe(hash), same(end, vip)), "in steps as at once");
    found
}

/// Removes what is over, and writes down what was removed.
#[derive(Default)]
struct Log {
    expired: Vec<u32>,
    removed: Vec<u32>,
}

impl<F: Family> Policy<F> for Log {
    fn expired(&mut self, index: Index, _: &Record<F>, _: Clock) -> Verdict {
        self.expired.push(index.get());
        Verdict::Remove
    }

    fn removed(&mut self, index: Index, record: &Record<F>) {
        assert!(record.clock().is_dead());
        self.removed.push(index.get());
    }
}

/// Polls until there is nothing more to do at `now`; workers are quiescent in between.
fn settle<F: Family>(
    keeper: &mut Keeper<F>,
    workers: &mut [WorkerLocal<F>],
    now: Tick,
    policy: &mut impl Policy<F>,
) -> Progress {
    let mut sum = Progress::default();
    for round in 0.. {
        workers.iter_mut().for_each(WorkerLocal::quiescent);
        let progress = keeper.poll(now, 10_000, policy);
        sum.removed += progress.removed;
        sum.freed += progress.freed;
        if round > 3 && progress == Progress::default() {
            break;
        }
        assert!(round < 100_000, "the keeper never finishes");
    }
    sum
}

#[test]
fn an_entry_is_found_once_made_and_made_once() {
    let (table, mut workers, _keeper) = table(100, 2);
    assert_eq!(find(&table, end(1), 80), None);
    let Ok(Inserted::New(index)) = insert(&mut workers[0], end(1), 80) else { panic!("not made") };
    assert_eq!(find(&table, end(1), 80), Some(index));
    assert_eq!(find(&table, end(1), 81), None);
    assert_eq!(find(&table, end(2), 80), None);
    assert_eq!(insert(&mut workers[1], end(1), 80), Ok(Inserted::Existing(index)));
    let other = insert(&mut workers[1], end(1), 81).unwrap().index();
    assert_ne!(other, index);
    assert_eq!((find(&table, end(1), 80), find(&table, end(1), 81)), (Some(index), Some(other)));
    let counters = table.counters();
    assert_eq!((counters.active, counters.inserted, counters.existing), (2, 2, 1));
}

#[test]
fn make_sees_a_blank_record_with_its_end_and_may_refuse() {
    let (table, mut workers, mut keeper) = table(1, 1);
    let mut seen = None;
    let refused = workers[0].insert(
        end(1),
        |_| false,
        |index, record| {
            assert_eq!((record.end(), record.word(0), record.word(4)), (end(1), 0, 0));
            record.set_word(4, 9);
            seen = Some(index);
            Err("no server")
        },
    );
    assert_eq!(refused, Err(InsertError::Refused("no server")));
    assert_eq!(refused.unwrap_err().to_string(), "no server");
    assert_eq!(find(&table, end(1), 0), None);
    // The record was kept for the next, and is blank again.
    let made = workers[0].insert(
        end(2),
        |_| false,
        |index, record| {
            assert_eq!((Some(index), record.end(), record.word(4)), (seen, end(2), 0));
            Ok::<_, Infallible>(Clock::new(Tick(1000), 0, 1))
        },
    );
    assert_eq!(made, Ok(Inserted::New(seen.unwrap())));
    assert_eq!((table.counters().refused, table.counters().active), (1, 1));
    settle(&mut keeper, &mut workers, Tick(5000), &mut Log::default());
    assert_eq!(table.counters().active, 0);
}

#[test]
fn a_panicking_make_leaves_the_table_usable() {
    let (table, mut workers, _keeper) = table(10, 1);
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _ =
            workers[0].insert(end(1), |_| false, |_, _| -> Result<Clock, Infallible> { panic!("in make") });
    }));
    assert!(panicked.is_err());
    let made = insert(&mut workers[0], end(1), 80).unwrap().index();
    assert_eq!(find(&table, end(1), 80), Some(made));
}

#[test]
fn a_full_table_refuses_before_make_and_still_finds_the_existing() {
    let capacity = 10;
    let (table, mut workers, mut keeper) = table(capacity, 1);
    let made: HashSet<u32> =
        (0..capacity).map(|n| insert(&mut workers[0], end(n), 1).unwrap().index().get()).collect();
    assert_eq!(made, (0..capacity).collect::<HashSet<u32>>());
    let full = workers[0].insert(
        end(99),
        |_| false,
        |_, _| -> Result<Clock, Infallible> { panic!("scheduled in vain") },
    );
    assert_eq!(full, Err(InsertError::TableFull));
    assert!(matches!(insert(&mut workers[0], end(3), 1), Ok(Inserted::Existing(_))));
    for n in 0..capacity {
        assert!(find(&table, end(n), 1).is_some());
    }
    assert_eq!((table.counters().table_full, table.counters().active), (1, u64::from(capacity)));

    // One goes, one comes, in the same place.
    let gone = find(&table, end(4), 1).unwrap();
    let mut log = Log::default();
    assert!(keeper.remove(gone, &mut log) && !keeper.remove(gone, &mut log));
    assert_eq!(log.removed, [gone.get()]);
    assert_eq!(find(&table, end(4), 1), None);
    assert_eq!(insert(&mut workers[0], end(99), 1), Err(InsertError::TableFull), "no grace period yet");
    settle(&mut keeper, &mut workers, Tick(1000), &mut log);
    let generation = table.record(gone).generation();
    assert_eq!(insert(&mut workers[0], end(99), 1), Ok(Inserted::New(gone)));
    assert_eq!(table.record(gone).generation(), generation);
    assert_eq!(generation, 1);
}

#[test]
#[cfg_attr(miri, ignore = "too much for an interpreter")]
fn what_a_worker_has_in_hand_comes_back_when_it_goes() {
    let (table, mut workers, _keeper) = table(6400, 2);
    for n in 0..40 {
        insert(&mut workers[0], end(n), 1).unwrap();
    }
    workers.remove(0);
    let mut made = 0;
    while insert(&mut workers[0], end(100 + made), 1).is_ok() {
        made += 1;
    }
    assert_eq!(made, 6400 - 40);
    assert_eq!(table.counters().active, 6400);
}

#[test]
fn of_equals_the_newest_is_found_and_the_dead_are_not() {
    let (table, mut workers, mut keeper) = table(1000, 1);
    let worker = &mut workers[0];
    let mut made = Vec::new();
    // Enough of them to need overflow buckets.
    for n in 0..30 {
        let Ok(Inserted::New(index)) = worker.insert(
            end(1),
            |_| false,
            |_, record| {
                record.set_word(VIP, 80);
                record.set_word(1, n);
                Ok::<_, Infallible>(Clock::new(Tick(1000), 1, 60))
            },
        ) else {
            panic!("not made")
        };
        assert_eq!(find(&table, end(1), 80), Some(index));
        made.push(index);
    }
    // An old slot reused does not make an old entry.
    assert!(keeper.remove(made[3], &mut Log::default()));
    settle(&mut keeper, &mut workers, Tick(1000), &mut Log::default());
    let newest = insert_another(&mut workers[0]);
    assert_eq!(find(&table, end(1), 80), Some(newest));
    assert!(workers[0].kill(newest) && !workers[0].kill(newest));
    assert_eq!(find(&table, end(1), 80), Some(made[29]));
    for &index in made.iter().rev().filter(|&&index| index != made[3]) {
        assert_eq!(find(&table, end(1), 80), Some(index));
        assert!(workers[0].kill(index));
    }
    assert_eq!(find(&table, end(1), 80), None);
    assert_eq!((table.counters().active, table.counters().dead), (0, 30));
    let mut log = Log::default();
    settle(&mut keeper, &mut workers, Tick(1000), &mut log);
    assert_eq!((log.removed.len(), log.expired.len()), (30, 0));
    assert_eq!((table.counters().dead, table.counters().overflow_buckets), (0, 0));

    fn insert_another(worker: &mut WorkerLocal<V4>) -> Index {
        let made = worker.insert(
            end(1),
            |_| false,
            |_, record| {
                record.set_word(VIP, 80);
                Ok::<_, Infallible>(Clock::new(Tick(1000), 1, 60))
            },
        );
        made.unwrap().index()
    }
}

#[test]
#[cfg_attr(miri, ignore = "too much for an interpreter")]
fn one_client_end_cannot_have_more_than_a_chain() {
    let (table, mut workers, mut keeper) = table(10_000, 1);
    let limit = (SLOTS * MAX_CHAIN) as u64;
    for vip in 0..limit {
        insert(&mut workers[0], end(1), vip).unwrap();
    }
    assert_eq!(insert(&mut workers[0], end(1), limit), Err(InsertError::ChainFull));
    assert!(matches!(insert(&mut workers[0], end(1), 3), Ok(Inserted::Existing(_))));
    for vip in 0..limit {
        assert!(find(&table, end(1), vip).is_some());
    }
    let counters = table.counters();
    assert_eq!((counters.chain_full, counters.table_full, counters.longest_chain), (1, 0, MAX_CHAIN as u64));
    assert_eq!(counters.overflow_buckets, MAX_CHAIN as u64 - 1);

    // As entries go, the rest moves home, and is found all the time.
    for vip in 0..limit {
        let index = find(&table, end(1), vip).unwrap();
        assert!(keeper.remove(index, &mut Log::default()));
        for left in vip + 1..limit {
            assert!(find(&table, end(1), left).is_some(), "{left} lost when {vip} went");
        }
        settle(&mut keeper, &mut workers, Tick(1000), &mut Log::default());
        for left in vip + 1..limit {
            assert!(find(&table, end(1), left).is_some(), "{left} lost after {vip} went");
        }
        let needed = (limit - vip - 1).div_ceil(SLOTS as u64).max(1) - 1;
        assert_eq!(table.counters().overflow_buckets, needed, "with {} entries", limit - vip - 1);
    }
    assert_eq!((table.counters().active, table.counters().dead), (0, 0));
}

#[test]
#[cfg_attr(miri, ignore = "too much for an interpreter")]
fn overflow_buckets_run_out_as_table_full() {
    let (table, mut workers, mut keeper) = table(100_000, 1);
    let limit = (SLOTS * MAX_CHAIN) as u64;
    let mut full = 0;
    let mut ends = 0;
    while full == 0 {
        for vip in 0..limit {
            full += u64::from(insert(&mut workers[0], end(ends), vip) == Err(InsertError::TableFull));
        }
        ends += 1;
    }
    let counters = table.counters();
    assert_eq!(counters.table_full, full);
    assert!(counters.active < 100_000);
    // All of it comes back.
    let mut log = Log::default();
    settle(&mut keeper, &mut workers, Tick(9000), &mut log);
    assert_eq!(log.removed.len() as u64, counters.active);
    assert_eq!((table.counters().active, table.counters().overflow_buckets), (0, 0));
    let again = (0..ends).flat_map(|n| (0..limit).map(move |vip| (n, vip)));
    let full_again = again
        .filter(|&(n, vip)| insert(&mut workers[0], end(n), vip) == Err(InsertError::TableFull))
        .count() as u64;
    assert_eq!(full_again, full);
}

#[test]
#[cfg_attr(miri, ignore = "too much for an interpreter")]
fn a_table_can_be_filled_to_its_capacity_and_churned_there() {
    let capacity = 50_000;
    let (table, mut workers, mut keeper) = table(capacity, 1);
    for n in 0..capacity {
        assert!(insert(&mut workers[0], end(n), 1).is_ok(), "full at {n}");
    }
    let buckets = table.counters().overflow_buckets;
    // Replace all of them several times, in an order that has nothing to do with the buckets.
    let mut next = capacity;
    for round in 0..5 {
        for n in 0..capacity {
            let oldest = end(round * capacity + n);
            let index = find(&table, oldest, 1).unwrap();
            assert!(keeper.remove(index, &mut Log::default()));
            if n % 16 == 15 || n == capacity - 1 {
                workers[0].quiescent();
                keeper.poll(Tick(1000), 1000, &mut Log::default());
                workers[0].quiescent();
                keeper.poll(Tick(1000), 1000, &mut Log::default());
                while next <= round * capacity + n + capacity {
                    assert!(insert(&mut workers[0], end(next), 1).is_ok(), "full at {next}");
                    next += 1;
                }
            }
        }
    }
    assert_eq!(table.counters().active, u64::from(capacity));
    for n in next - capacity..next {
        assert!(find(&table, end(n), 1).is_some());
    }
    let churned = table.counters().overflow_buckets;
    assert!(churned <= buckets * 3 / 2, "{churned} overflow buckets after the churn, {buckets} before");
}

#[test]
fn an_entry_goes_at_its_time_and_not_before() {
    let (table, mut workers, mut keeper) = table(100, 1);
    keeper.poll(Tick(1000), 100, &mut Log::default());
    let index = insert(&mut workers[0], end(1), 1).unwrap().index();
    let mut log = Log::default();
    settle(&mut keeper, &mut workers, Tick(1000), &mut log);
    for now in (1001..1600 + LATE).step_by(if cfg!(miri) { 50 } else { 1 }) {
        settle(&mut keeper, &mut workers, Tick(now), &mut log);
        assert_eq!(find(&table, end(1), 1), Some(index), "gone at {now}");
    }
    settle(&mut keeper, &mut workers, Tick(1600 + LATE), &mut log);
    assert_eq!(find(&table, end(1), 1), None);
    assert_eq!((log.expired, log.removed), (vec![0], vec![0]));
    assert_eq!((table.counters().active, table.counters().dead, table.counters().freed), (0, 0, 1));
}

/// Whether its packets were noted or not.
#[test]
fn an_entry_goes_within_a_second_after_its_timeout_since_its_last_packet() {
    let second = if cfg!(miri) { 3 } else { 2 * TICKS_PER_SECOND };
    for packets in [1, 2, 3, 5, 7] {
        for ticks in 0..second {
            let (table, mut workers, mut keeper) = table(10, 1);
            let start = Tick(u32::MAX - 300);
            let mut log = Log::default();
            keeper.poll(start, 100, &mut log);
            let made = workers[0].insert(
                end(1),
                |_| false,
                |_, record| {
                    record.set_word(VIP, 1);
                    Ok::<_, Infallible>(Clock::new(start, 1, 30))
                },
            );
            let index = made.unwrap().index();
            let mut last = start;
            // Packets come that far apart.
            for n in 1..=packets {
                settle(&mut keeper, &mut workers, start.plus(n * ticks), &mut log);
                last = start.plus(n * ticks);
                table.record(index).touch(last).unwrap();
            }
            // The last may have come when its tick was nearly over.
            let over = last.plus(30 * TICKS_PER_SECOND);
            settle(&mut keeper, &mut workers, over, &mut log);
            assert_eq!(find(&table, end(1), 1), Some(index), "early: {packets} packets, {ticks} ticks apart");
            let mut late = 0;
            while find(&table, end(1), 1).is_some() {
                late += 1;
                settle(&mut keeper, &mut workers, over.plus(late), &mut log);
            }
            assert!(late < TICKS_PER_SECOND, "{late} ticks late: {packets} packets, {ticks} ticks apart");
            assert_eq!(log.removed, [index.get()]);
        }
    }
}

#[test]
fn a_packet_keeps_an_entry_and_a_shorter_timeout_counts_at_once() {
    let (table, mut workers, mut keeper) = table(100, 1);
    let kept = insert(&mut workers[0], end(1), 1).unwrap().index();
    let shortened = insert(&mut workers[0], end(2), 1).unwrap().index();
    let mut log = Log::default();
    settle(&mut keeper, &mut workers, Tick(1000), &mut log);
    table.record(kept).touch(Tick(1500)).unwrap();
    let clock = table.record(shortened).clock();
    let close = clock.with_seen(Tick(1100)).with_timeout(10).with_state(4);
    table.record(shortened).update(clock, close).unwrap();
    workers[0].notify(shortened);
    settle(&mut keeper, &mut workers, Tick(1199 + LATE), &mut log);
    assert!(log.removed.is_empty());
    settle(&mut keeper, &mut workers, Tick(1200 + LATE), &mut log);
    assert_eq!(log.removed, [shortened.get()]);
    settle(&mut keeper, &mut workers, Tick(2099 + LATE), &mut log);
    assert_eq!(find(&table, end(1), 1), Some(kept));
    settle(&mut keeper, &mut workers, Tick(2100 + LATE), &mut log);
    assert_eq!(log.removed, [shortened.get(), kept.get()]);
}

#[test]
fn a_verdict_of_keep_restarts_the_timer_and_a_packet_makes_it_void() {
    let (table, mut workers, mut keeper) = table(100, 1);
    let index = insert(&mut workers[0], end(1), 1).unwrap().index();
    let mut asked = 0;
    let mut keep = (
        |_: Index, record: &Record<V4>, _: Clock| {
            asked += 1;
            if asked == 1 {
                // A packet comes while the policy is being asked.
                record.touch(Tick(1300)).unwrap();
                Verdict::Remove
            } else {
                Verdict::KeepFor(30)
            }
        },
        |_: Index, _: &Record<V4>| panic!("removed"),
    );
    settle(&mut keeper, &mut workers, Tick(1600 + LATE), &mut keep);
    let now = 1900 + LATE;
    settle(&mut keeper, &mut workers, Tick(now), &mut keep);
    assert_eq!(asked, 2);
    let clock = table.record(index).clock();
    assert_eq!((clock.seen(), clock.timeout(), clock.state()), (Tick(now), 30, 1));
    let mut log = Log::default();
    settle(&mut keeper, &mut workers, Tick(now + 299 + LATE), &mut log);
    assert!(log.removed.is_empty());
    settle(&mut keeper, &mut workers, Tick(now + 300 + LATE), &mut log);
    assert_eq!(log.removed, [index.get()]);
}

#[test]
fn a_stalled_worker_holds_up_reuse_and_is_named() {
    let (table, mut workers, mut keeper) = table(2, 2);
    let index = insert(&mut workers[0], end(1), 1).unwrap().index();
    let mut log = Log::default();
    assert!(keeper.remove(index, &mut log));
    keeper.poll(Tick(1000), 100, &mut log);
    workers[0].quiescent();
    assert!(keeper.stalled(Tick(1000), 1).is_empty());
    for now in 1001..1050 {
        keeper.poll(Tick(now), 100, &mut log);
        workers[0].quiescent();
        assert_eq!(keeper.stalled(Tick(now), 1), [1]);
        assert_eq!((table.counters().dead, table.counters().freed), (1, 0));
    }
    workers[1].offline();
    keeper.poll(Tick(1050), 100, &mut log);
    assert!(keeper.stalled(Tick(1050), 1).is_empty());
    assert_eq!((table.counters().dead, table.counters().freed), (0, 1));

    let grace = keeper.grace();
    assert!(!keeper.passed(grace));
    workers[0].quiescent();
    assert!(keeper.passed(grace));
}

#[test]
fn lost_events_lose_no_entry() {
    let (table, mut workers, mut keeper) = table(if cfg!(miri) { 400 } else { 20_000 }, 1);
    let entries = if cfg!(miri) { 300 } else { 15_000 };
    for n in 0..entries {
        insert(&mut workers[0], end(n), 1).unwrap();
    }
    assert!(table.counters().events_lost > 0);
    // Some are killed, some shortened, and nobody hears of it either.
    for n in 0..100 {
        let index = find(&table, end(n), 1).unwrap();
        assert!(workers[0].kill(index));
        let index = find(&table, end(100 + n), 1).unwrap();
        let clock = table.record(index).clock();
        table.record(index).update(clock, clock.with_timeout(10)).unwrap();
        workers[0].notify(index);
    }
    let mut log = Log::default();
    settle(&mut keeper, &mut workers, Tick(1000), &mut log);
    assert_eq!(log.removed.len(), 100);
    settle(&mut keeper, &mut workers, Tick(1100 + LATE), &mut log);
    assert_eq!(log.removed.len(), 200);
    settle(&mut keeper, &mut workers, Tick(1600 + LATE), &mut log);
    assert_eq!((log.removed.len() as u32, table.counters().active), (entries, 0));
    assert_eq!(log.removed.iter().collect::<HashSet<_>>().len() as u32, entries, "each once");
}

#[test]
#[cfg_attr(miri, ignore = "too much for an interpreter")]
fn a_small_budget_gets_there_in_the_end() {
    let (table, mut workers, mut keeper) = table(2000, 1);
    for n in 0..500 {
        insert(&mut workers[0], end(n), 1).unwrap();
    }
    let mut removed = 0;
    let mut policy =
        (|_: Index, _: &Record<V4>, _: Clock| Verdict::Remove, |_: Index, _: &Record<V4>| removed += 1);
    let mut polls = 0;
    workers[0].quiescent();
    while table.counters().freed < 500 {
        workers[0].quiescent();
        let progress = keeper.poll(Tick(1600 + LATE), 3, &mut policy);
        assert!(progress.events <= 3 && progress.looked <= 6 && progress.freed <= 3);
        polls += 1;
        assert!(polls < 2000);
    }
    assert_eq!(removed, 500);
}

#[test]
fn scanning_gives_the_live_in_slices() {
    let (table, mut workers, mut keeper) = table(100, 1);
    assert_eq!(table.scan(0, 10, |_, _| panic!("an empty table")), None);
    for n in 0..25 {
        insert(&mut workers[0], end(n), 1).unwrap();
    }
    assert!(workers[0].kill(find(&table, end(3), 1).unwrap()));
    assert!(keeper.remove(find(&table, end(4), 1).unwrap(), &mut Log::default()));
    let mut seen = HashSet::new();
    let mut from = 0;
    let mut slices = 0;
    while let Some(next) = table.scan(from, 10, |index, record| assert!(seen.insert((index, record.end())))) {
        assert_eq!(next, from + 10);
        from = next;
        slices += 1;
    }
    assert_eq!((slices, seen.len()), (2, 23));
    assert!(seen.iter().all(|&(index, client)| find(&table, client, 1) == Some(index)));
}

#[test]
fn an_alias_finds_its_entry_and_goes_with_it() {
    let (table, mut workers, mut keeper) = table(100, 1);
    let (client, second) = (end(1), V4End::new(0xc0a8_025a, 61_000, 6));
    let make = |worker: &mut WorkerLocal<V4>| {
        let made = worker.insert(
            client,
            |_| false,
            |_, record| {
                record.set_word(1, 80);
                Ok::<_, Infallible>(Clock::new(Tick(1000), 1, 60))
            },
        );
        made.unwrap().index()
    };
    let index = make(&mut workers[0]);
    assert_eq!(workers[0].insert_alias(index, second), Ok(()));
    assert_eq!(workers[0].insert_alias(index, second), Err(AliasError::AlreadyAliased));
    assert_eq!(table.record(index).word(0), second.bits());
    let by = |key: V4End| {
        table.find(table.hash(key), |record| {
            (record.end() == key || record.clock().has_alias() && record.word(0) == key.bits())
                && record.word(1) == 80
        })
    };
    assert_eq!((by(client), by(second)), (Some(index), Some(index)));
    table.record(index).touch(Tick(1001)).unwrap();
    let clock = table.record(index).clock();
    table.record(index).update(clock, Clock::new(Tick(1002), 2, 30)).unwrap();
    assert!(table.record(index).clock().has_alias());
    assert_eq!(by(second), Some(index));
    assert_eq!(table.counters().active, 1);

    assert!(workers[0].kill(index));
    assert_eq!((by(client), by(second)), (None, None));
    assert_eq!(workers[0].insert_alias(index, second), Err(AliasError::Dead));
    settle(&mut keeper, &mut workers, Tick(1010), &mut Log::default());
    // The same record again: neither key leads to it by itself.
    let again = make(&mut workers[0]);
    assert_eq!(again, index);
    assert!(!table.record(again).clock().has_alias());
    let met = std::cell::Cell::new(0);
    let _none = table.find(table.hash(second), |_| {
        met.set(met.get() + 1);
        false
    });
    assert_eq!(met.get(), 0);
}

#[test]
#[cfg_attr(miri, ignore = "too much for an interpreter")]
fn aliases_of_one_chain_are_bounded_too() {
    let (table, mut workers, mut keeper) = table(1000, 1);
    let second = end(500);
    let limit = SLOTS * MAX_CHAIN;
    for n in 0..limit as u32 {
        let index = insert(&mut workers[0], end(n), 7).unwrap().index();
        assert_eq!(workers[0].insert_alias(index, second), Ok(()), "{n}");
    }
    let index = insert(&mut workers[0], end(400), 7).unwrap().index();
    assert_eq!(workers[0].insert_alias(index, second), Err(AliasError::ChainFull));
    settle(&mut keeper, &mut workers, Tick(2000), &mut Log::default());
    assert_eq!(
        (table.counters().active, table.counters().dead, table.counters().overflow_buckets),
        (0, 0, 0)
    );
}

#[test]
fn ipv6_is_the_same_with_a_larger_record() {
    let (table, mut workers, mut keeper) = Table::<V6>::create(&options(1000, 1)).unwrap();
    workers[0].quiescent();
    let client = |n: u16| V6End::new(0x2001_0db8 << 96 | u128::from(n), 1024 + n, 6);
    let entries = if cfg!(miri) { 50 } else { 500 };
    for n in 0..entries {
        let made = workers[0].insert(client(n), same(client(n), 80), |_, record| {
            record.set_word(VIP, 80);
            record.set_word(10, u64::from(n));
            Ok::<_, Infallible>(Clock::new(Tick(1000), 1, 60))
        });
        assert!(matches!(made, Ok(Inserted::New(_))));
    }
    for n in 0..entries {
        let index = find(&table, client(n), 80).unwrap();
        assert_eq!(table.record(index).word(10), u64::from(n));
        assert_eq!(insert(&mut workers[0], client(n), 80), Ok(Inserted::Existing(index)));
    }
    assert_eq!(find(&table, client(entries), 80), None);
    let index = find(&table, client(7), 80).unwrap();
    let second = V6End::new(1, 2, 17);
    assert_eq!(workers[0].insert_alias(index, second), Ok(()));
    assert_eq!(table.find(table.hash(second), |record| record.end() == client(7)), Some(index));
    let mut log = Log::default();
    settle(&mut keeper, &mut workers, Tick(1599 + LATE), &mut log);
    assert!(log.removed.is_empty());
    settle(&mut keeper, &mut workers, Tick(1600 + LATE), &mut log);
    assert_eq!(log.removed.len(), usize::from(entries));
    assert_eq!((table.counters().active, table.counters().dead), (0, 0));
}

#[test]
#[cfg_attr(miri, ignore = "too much for an interpreter")]
fn a_connection_takes_84_bytes_at_most() {
    for capacity in [1_000_000, 10_000_000, 100_000_000] {
        // Only addresses are taken, but some machines refuse even so many of them.
        let Ok((table, workers, _keeper)) = Table::<V4>::create(&Options::new(capacity, 2)) else {
            assert_eq!(capacity, 100_000_000);
            continue;
        };
        let bytes = table.bytes_per_entry();
        assert!((80.0..=84.0).contains(&bytes), "{bytes} bytes at a capacity of {capacity}");
        assert_eq!(workers.len(), 2);
    }
}

#[test]
#[cfg_attr(miri, ignore = "too much for an interpreter")]
fn senseless_sizes_are_refused_with_a_reason() {
    let error =
        |capacity, workers| Table::<V4>::create(&Options::new(capacity, workers)).unwrap_err().to_string();
    assert_eq!(
        error(0, 1),
        "a connection table of 0 entries cannot be made: the capacity must be 1 to 1073741823"
    );
    assert!(error(u32::MAX, 1).contains("4294967295 entries"));
    assert_eq!(error(1, 0), "a connection table for 0 workers cannot be made: there must be 1 to 1024");
    let options = Options { pages: director_flow::Pages::Huge1G, ..Options::new(1_000_000_000, 1) };
    let error = Table::<V4>::create(&options).unwrap_err().to_string();
    assert!(
        error.starts_with("no memory for the index of a connection table of 1000000000 entries"),
        "{error}"
    );
    assert!(error.contains("on 1 GiB pages") && error.contains("hugepages-1048576kB"), "{error}");
}
