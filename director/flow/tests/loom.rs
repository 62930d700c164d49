//! The orders of memory access that the table relies on, all of them tried out (within a bound on preemptions):
//! `RUSTFLAGS="--cfg loom" cargo test -p director-flow --release --test loom`.
#![cfg(loom)]

use std::convert::Infallible;
use std::sync::Arc;

use director_flow::{
    Clock, Index, InsertError, Inserted, Keeper, Options, Record, SEEN_LAG, Table, Tick, V4, V4End, Verdict,
    WorkerLocal,
};
use loom::thread;

// The parts that are not public are compiled in here, from the same files.
#[allow(dead_code, unreachable_pub)]
#[path = "../src/event.rs"]
mod event;
#[allow(dead_code, unreachable_pub)]
#[path = "../src/free.rs"]
mod free;
#[allow(dead_code, unreachable_pub)]
#[path = "../src/qsbr.rs"]
mod qsbr;
#[allow(dead_code, unreachable_pub, unused_imports)]
#[path = "../src/sync.rs"]
mod sync;

const A: V4End = V4End::new(0x0a00_0001, 1000, 6);
const B: V4End = V4End::new(0x0a00_0002, 2000, 6);

// loom remembers only the last access to each atomic, so where one thread only reads and the other reads and then
// writes, it can miss orders in which the read comes in between if it is the reader that runs first. Hence, below, the
// thread that writes is the one that spawns the other.

/// Explores `body` with up to `preemptions` switches away from a thread that could go on.
fn explore(preemptions: usize, body: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.max_branches = 100_000;
    builder.check(body);
}

fn table(capacity: u32, workers: usize) -> (Arc<Table<V4>>, Vec<WorkerLocal<V4>>, Keeper<V4>) {
    Table::create(&Options { seed: Some(1), ..Options::new(capacity, workers) }).unwrap()
}

/// What an entry of `end` holds in its word 0 and, negated, in word 4.
fn mark(end: V4End) -> u64 {
    end.bits() ^ 0xabcd
}

fn insert(worker: &mut WorkerLocal<V4>, end: V4End) -> Result<Inserted, InsertError<Infallible>> {
    worker.insert(
        end,
        |record| record.end() == end,
        |_, record| {
            record.set_word(0, mark(end));
            record.set_word(4, !mark(end));
            Ok(Clock::new(Tick(100), 1, 60))
        },
    )
}

/// Looks `end` up; whatever is found must be whole.
fn find(table: &Table<V4>, end: V4End) -> Option<Index> {
    let found = table.find(table.hash(end), |record| record.end() == end);
    if let Some(index) = found {
        whole(table.record(index), end);
    }
    found
}

/// The same in steps.
fn resolve(table: &Table<V4>, end: V4End) -> Option<Index> {
    let hash = table.hash(end);
    let found = table.resolve(hash, table.probe(hash), |record| record.end() == end);
    if let Some(index) = found {
        whole(table.record(index), end);
    }
    found
}

fn whole(record: &Record<V4>, end: V4End) {
    assert_eq!((record.end(), record.word(0), record.word(4)), (end, mark(end), !mark(end)));
}

fn policy() -> (impl FnMut(Index, &Record<V4>, Clock) -> Verdict, impl FnMut(Index, &Record<V4>)) {
    (|_: Index, _: &Record<V4>, _: Clock| Verdict::Remove, |_: Index, _: &Record<V4>| ())
}

#[test]
fn a_lookup_beside_an_insertion_finds_all_of_it_or_nothing() {
    explore(3, || {
        let (table, mut workers, _keeper) = table(2, 2);
        let mut writer = workers.remove(0);
        let mut reader = workers.remove(0);
        let lookup = {
            let table = Arc::clone(&table);
            thread::spawn(move || {
                reader.quiescent();
                let early = resolve(&table, A);
                let late = find(&table, A);
                assert!(early.is_none() || early == late, "found, then lost");
            })
        };
        writer.quiescent();
        let made = insert(&mut writer, A).unwrap().index();
        assert_eq!(find(&table, A), Some(made));
        lookup.join().unwrap();
    });
}

#[test]
fn a_lookup_beside_an_overflow_finds_what_was_there() {
    // Buckets have two slots here: the third entry links an overflow bucket.
    explore(2, || {
        let (table, mut workers, _keeper) = table(3, 2);
        let mut writer = workers.remove(0);
        let mut reader = workers.remove(0);
        writer.quiescent();
        let first = insert(&mut writer, A).unwrap().index();
        let second = writer.insert(
            A,
            |_| false,
            |_, record| {
                record.set_word(0, mark(A));
                record.set_word(4, !mark(A));
                Ok::<_, Infallible>(Clock::new(Tick(100), 1, 60))
            },
        );
        assert!(second.is_ok());
        let lookup = {
            let table = Arc::clone(&table);
            thread::spawn(move || {
                reader.quiescent();
                let found = find(&table, B);
                let again = find(&table, B);
                assert!(found.is_none() || found == again);
                let second = resolve(&table, A);
                assert!(second.is_some() && second != Some(first), "the newest of two");
            })
        };
        insert(&mut writer, B).unwrap();
        lookup.join().unwrap();
        assert!(find(&table, B).is_some());
    });
}

#[test]
fn of_two_insertions_of_one_key_one_makes_the_entry() {
    explore(3, || {
        let (table, mut workers, _keeper) = table(3, 2);
        let mut other = workers.remove(1);
        let mut worker = workers.remove(0);
        let beside = thread::spawn(move || {
            other.quiescent();
            insert(&mut other, A).unwrap()
        });
        worker.quiescent();
        let here = insert(&mut worker, A).unwrap();
        let there = beside.join().unwrap();
        assert_eq!(here.index(), there.index());
        assert_ne!(here, there, "one new, one existing");
        assert_eq!(find(&table, A), Some(here.index()));
        assert_eq!(table.counters().active, 1);
    });
}

#[test]
fn two_insertions_at_once_get_two_records() {
    explore(3, || {
        let (table, mut workers, _keeper) = table(3, 2);
        let mut other = workers.remove(1);
        let mut worker = workers.remove(0);
        let beside = thread::spawn(move || {
            other.quiescent();
            insert(&mut other, B).unwrap().index()
        });
        worker.quiescent();
        let here = insert(&mut worker, A).unwrap().index();
        let there = beside.join().unwrap();
        assert_ne!(here, there);
        assert_eq!((find(&table, A), find(&table, B)), (Some(here), Some(there)));
    });
}

/// The keeper removes an entry and reuses its one record for another, while a reader holds what it found.
fn reuse_under_a_reader(reader: impl Fn(&mut WorkerLocal<V4>, &Table<V4>) + Copy + Send + Sync + 'static) {
    explore(3, move || {
        let (table, mut workers, mut keeper) = table(1, 2);
        let mut other = workers.remove(1);
        let mut worker = workers.remove(0);
        worker.quiescent();
        let index = insert(&mut worker, A).unwrap().index();
        worker.offline();
        let beside = {
            let table = Arc::clone(&table);
            thread::spawn(move || reader(&mut other, &table))
        };
        assert!(keeper.remove(index, &mut policy()));
        keeper.poll(Tick(100), 10, &mut policy());
        keeper.poll(Tick(100), 10, &mut policy());
        worker.quiescent();
        // If the record was freed it is written over here: the reader would see it change.
        match insert(&mut worker, B) {
            Ok(made) => assert_eq!(made, Inserted::New(index)),
            Err(error) => assert_eq!(error, InsertError::TableFull),
        }
        beside.join().unwrap();
    });
}

fn hold(table: &Table<V4>) {
    if let Some(index) = table.find(table.hash(A), |record| record.end() == A) {
        whole(table.record(index), A);
        whole(table.record(index), A);
    }
}

#[test]
fn a_record_is_not_reused_under_a_reader() {
    reuse_under_a_reader(|worker, table| {
        worker.quiescent();
        hold(table);
        worker.quiescent();
        hold(table);
    });
}

#[test]
fn a_record_is_not_reused_under_a_reader_that_was_away() {
    reuse_under_a_reader(|worker, table| {
        worker.online();
        hold(table);
        worker.offline();
        worker.online();
        hold(table);
        worker.offline();
    });
}

#[test]
fn a_packet_and_an_expiry_agree_on_who_was_first() {
    explore(3, || {
        let (table, mut workers, mut keeper) = table(1, 1);
        let mut worker = workers.remove(0);
        worker.quiescent();
        let index = insert(&mut worker, A).unwrap().index();
        worker.quiescent();
        let packet = {
            let table = Arc::clone(&table);
            thread::spawn(move || {
                let kept = table.record(index).touch(Tick(700)).is_ok();
                drop(worker);
                kept
            })
        };
        // Its time is up some ticks after 700; seen at 700 it is not.
        keeper.poll(Tick(701 + SEEN_LAG), 10, &mut policy());
        let kept = packet.join().unwrap();
        assert_eq!(kept, table.record(index).clock().is_live());
        assert_eq!(table.counters().active, u64::from(kept));
    });
}

#[test]
fn a_lookup_finds_an_entry_while_it_moves_home() {
    // A chain of two buckets of two slots. When one of the first bucket goes, that of the second is given its slot.
    explore(2, || {
        let (table, mut workers, mut keeper) = table(3, 2);
        let mut reader = workers.remove(1);
        let mut worker = workers.remove(0);
        worker.quiescent();
        let first = insert(&mut worker, A).unwrap().index();
        let filler = worker.insert(A, |_| false, |_, _| Ok::<_, Infallible>(Clock::new(Tick(100), 1, 60)));
        assert!(filler.is_ok());
        let moved = insert(&mut worker, B).unwrap().index();
        worker.offline();
        let beside = {
            let table = Arc::clone(&table);
            thread::spawn(move || {
                reader.quiescent();
                assert_eq!(find(&table, B), Some(moved));
                reader.quiescent();
                assert_eq!(resolve(&table, B), Some(moved));
            })
        };
        assert!(keeper.remove(first, &mut policy()));
        keeper.poll(Tick(100), 10, &mut policy());
        keeper.poll(Tick(100), 10, &mut policy());
        beside.join().unwrap();
        assert_eq!(find(&table, B), Some(moved));
        for _ in 0..3 {
            keeper.poll(Tick(100), 10, &mut policy());
        }
        assert_eq!(table.counters().overflow_buckets, 0);
        assert_eq!(find(&table, B), Some(moved));
    });
}

#[test]
fn an_alias_given_to_a_dying_entry_goes_with_it() {
    explore(3, || {
        let (table, mut workers, mut keeper) = table(2, 1);
        let mut worker = workers.remove(0);
        worker.quiescent();
        let index = insert(&mut worker, A).unwrap().index();
        let beside = thread::spawn(move || {
            let _given = worker.insert_alias(index, B);
            worker.quiescent();
            worker
        });
        assert!(keeper.remove(index, &mut policy()));
        let mut worker = beside.join().unwrap();
        worker.offline();
        for _ in 0..3 {
            keeper.poll(Tick(100), 10, &mut policy());
        }
        // The next owner of the record must not be met under the alias.
        worker.quiescent();
        assert_eq!(insert(&mut worker, A), Ok(Inserted::New(index)));
        let met = std::cell::Cell::new(0);
        let _none = table.find(table.hash(B), |_| {
            met.set(met.get() + 1);
            false
        });
        assert_eq!(met.get(), usize::from(table.hash(A) == table.hash(B)));
    });
}

#[test]
fn a_scan_beside_an_insertion_sees_all_of_it_or_nothing() {
    explore(3, || {
        let (table, mut workers, _keeper) = table(1, 1);
        let mut worker = workers.remove(0);
        let scan = {
            let table = Arc::clone(&table);
            thread::spawn(move || {
                let _rest = table.scan(0, 1, |_, record| whole(record, A));
            })
        };
        worker.quiescent();
        insert(&mut worker, A).unwrap();
        scan.join().unwrap();
        let mut seen = 0;
        let _rest = table.scan(0, 1, |_, _| seen += 1);
        assert_eq!(seen, 1);
    });
}

#[test]
fn every_entry_is_heard_of_though_the_ring_is_short() {
    // Rings have two places here.
    explore(2, || {
        let (table, mut workers, mut keeper) = table(3, 1);
        let mut worker = workers.remove(0);
        let beside = thread::spawn(move || {
            worker.quiescent();
            for end in [A, B, V4End::new(3, 3, 3)] {
                insert(&mut worker, end).unwrap();
            }
            worker.quiescent();
        });
        keeper.poll(Tick(100), 10, &mut policy());
        beside.join().unwrap();
        for _ in 0..3 {
            keeper.poll(Tick(100), 10, &mut policy());
        }
        for _ in 0..4 {
            keeper.poll(Tick(701 + SEEN_LAG), 10, &mut policy());
        }
        assert_eq!((table.counters().inserted, table.counters().active, table.counters().dead), (3, 0, 0));
    });
}

#[test]
fn the_free_list_gives_nothing_twice() {
    use loom::sync::atomic::AtomicU64;

    explore(4, || {
        struct Shared {
            list: free::FreeList,
            links: [AtomicU64; 3],
        }
        impl Shared {
            fn take(&self, out: &mut [u32]) -> usize {
                self.list.take(out, |position| &self.links[position as usize])
            }
            fn give(&self, positions: &[u32]) {
                self.list.give(positions, |position| &self.links[position as usize]);
            }
        }
        let shared = Arc::new(Shared {
            list: free::FreeList::new(0, 3),
            links: std::array::from_fn(|_| AtomicU64::new(u64::MAX)),
        });
        let mut all = [0; 3];
        assert_eq!(shared.take(&mut all), 3);
        shared.give(&all);
        // One takes two and gives the first back: for another that was about to take it, the top of the stack is what
        // it was, but what lies under it is gone.
        let other = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                let mut mine = [0; 2];
                let taken = shared.take(&mut mine[..1]);
                assert_eq!(taken, 1);
                let taken = shared.take(&mut mine[1..]);
                assert_eq!(taken, 1);
                // In use: its link is anything now.
                shared.links[mine[1] as usize].store(1, loom::sync::atomic::Ordering::Relaxed);
                shared.give(&mine[..1]);
                mine[1]
            })
        };
        let mut one = [0];
        assert_eq!(shared.take(&mut one), 1);
        let kept = other.join().unwrap();
        let mut rest = [0; 3];
        let left = shared.take(&mut rest);
        let mut held: Vec<u32> = rest[..left].to_vec();
        held.extend([one[0], kept]);
        held.sort_unstable();
        assert_eq!(held, [0, 1, 2]);
    });
}

#[test]
fn what_is_freed_is_seen_by_who_takes_it() {
    use loom::sync::atomic::{AtomicU64, Ordering::Relaxed};

    struct Shared {
        list: free::FreeList,
        links: [AtomicU64; 3],
        content: [AtomicU64; 3],
    }
    explore(4, || {
        let shared = Arc::new(Shared {
            list: free::FreeList::new(0, 3),
            // Links left over from an earlier life: each says that the same position comes next.
            links: [1, 2, 3].map(AtomicU64::new),
            content: [7, 7, 7].map(AtomicU64::new),
        });
        let mut all = [0; 3];
        assert_eq!(shared.list.take(&mut all, |position| &shared.links[position as usize]), 3);
        let take = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                let mut taken = Vec::new();
                for _ in 0..2 {
                    let mut out = [0; 2];
                    let count = shared.list.take(&mut out, |position| &shared.links[position as usize]);
                    for &position in &out[..count] {
                        assert_eq!(shared.content[position as usize].load(Relaxed), 0);
                        assert!(!taken.contains(&position), "given twice");
                        taken.push(position);
                    }
                }
            })
        };
        for positions in [&[0][..], &[1, 2][..]] {
            for &position in positions {
                shared.content[position as usize].store(0, Relaxed);
            }
            shared.list.give(positions, |position| &shared.links[position as usize]);
        }
        take.join().unwrap();
    });
}

#[test]
fn the_ring_brings_each_event_once_in_order_with_what_it_is_about() {
    use loom::sync::atomic::{AtomicU32, Ordering::Relaxed};

    explore(4, || {
        let ring = Arc::new(event::Ring::new(2));
        let about: Arc<[AtomicU32; 4]> = Arc::new(std::array::from_fn(|_| AtomicU32::new(0)));
        let worker = {
            let (ring, about) = (Arc::clone(&ring), Arc::clone(&about));
            thread::spawn(move || {
                let mut sender = event::Sender::default();
                let mut lost = 0;
                for event in 0..4 {
                    about[event as usize].store(event + 1, Relaxed);
                    lost += u32::from(!ring.push(&mut sender, event));
                    ring.publish(&mut sender);
                }
                lost
            })
        };
        let mut heard = Vec::new();
        let mut searched = false;
        let mut listen = || {
            let mut out = [9; 3];
            let taken = ring.take(&mut out);
            for &event in &out[..taken] {
                assert_eq!(about[event as usize].load(Relaxed), event + 1);
                assert!(heard.last().is_none_or(|&last| last < event));
                heard.push(event);
            }
            searched |= ring.lost() > 0;
        };
        listen();
        listen();
        let lost = worker.join().unwrap();
        listen();
        assert_eq!(searched, lost > 0);
        assert_eq!(heard.len() as u32 + lost, 4);
    });
}

#[test]
fn a_lost_event_is_noted_after_what_it_is_about() {
    use loom::sync::atomic::{AtomicU32, Ordering::Relaxed};

    explore(4, || {
        let ring = Arc::new(event::Ring::new(1));
        let about = Arc::new([AtomicU32::new(0), AtomicU32::new(0)]);
        let mut sender = event::Sender::default();
        assert!(ring.push(&mut sender, 9));
        let worker = {
            let (ring, about) = (Arc::clone(&ring), Arc::clone(&about));
            thread::spawn(move || {
                for (event, about) in (0..).zip(about.iter()) {
                    about.store(1, Relaxed);
                    assert!(!ring.push(&mut sender, event));
                }
            })
        };
        let search = || about.iter().filter(|about| about.load(Relaxed) == 1).count();
        let lost = ring.lost();
        assert!(search() >= lost as usize, "noted before it happened");
        worker.join().unwrap();
        assert_eq!(ring.lost(), 2);
    });
}

/// Memory that is not atomic: loom reports a use and a change of it that nothing puts in an order. (It cannot let an
/// atomic load return what is stored later; a missing Release after the last use would not show otherwise.)
struct Content(loom::cell::UnsafeCell<()>);

// SAFETY: a `()` is never read or written, only reported to loom as being so.
unsafe impl Sync for Content {}
// SAFETY: as above.
unsafe impl Send for Content {}

#[test]
fn a_grace_period_separates_use_from_reuse() {
    use loom::sync::atomic::{AtomicU32, Ordering::Relaxed};

    // One link to one thing. The worker uses what the link leads to; the other takes it out of sight, waits for the
    // grace period, and then destroys it. The link is relaxed: it is the reports that keep them apart.
    for away in [false, true] {
        explore(4, move || {
            let qsbr = Arc::new(qsbr::Qsbr::new(1));
            let linked = Arc::new(AtomicU32::new(1));
            let content = Arc::new(Content(loom::cell::UnsafeCell::new(())));
            if !away {
                qsbr.online(0);
            }
            let worker = {
                let (qsbr, linked, content) = (Arc::clone(&qsbr), Arc::clone(&linked), Arc::clone(&content));
                thread::spawn(move || {
                    for _ in 0..2 {
                        if away {
                            qsbr.online(0);
                        } else {
                            qsbr.report(0);
                        }
                        if linked.load(Relaxed) == 1 {
                            content.0.with(|_| ());
                        }
                        if away {
                            qsbr.offline(0);
                        }
                    }
                })
            };
            linked.store(0, Relaxed);
            let grace = qsbr.begin();
            if qsbr.passed(grace) {
                content.0.with_mut(|_| ());
            }
            worker.join().unwrap();
        });
    }
}
