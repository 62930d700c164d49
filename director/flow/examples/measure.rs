//! What the table costs on this machine: `cargo run --release -p director-flow --example measure -- [ENTRIES]`.
//!
//! Lookups in bursts of 32 with the record touched, insertions, insertions by two workers at once, and removal, in
//! nanoseconds. A look, not a benchmark: nothing is compared.

use std::convert::Infallible;
use std::hint::black_box;
use std::sync::Barrier;
use std::time::Instant;

use director_flow::{
    Clock, Hash, Index, Keeper, Options, Probe, Record, Table, Tick, V4, V4End, Verdict, WorkerLocal,
};

const BURST: usize = 32;
const LOOKUPS: u64 = 20_000_000;

/// The `n`th client end: 64 bits well mixed, so that neither the index nor the records are met in order.
fn end(n: u64) -> V4End {
    let mixed = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    V4End::new((mixed >> 32) as u32, (mixed >> 16) as u16, 6)
}

fn vip(end: V4End) -> u64 {
    end.bits() ^ 0x5555
}

fn insert(worker: &mut WorkerLocal<V4>, from: u64, to: u64) -> u64 {
    let mut refused = 0;
    let table = worker.table().clone();
    let now = Tick(0);
    let mut n = from;
    while n < to {
        worker.quiescent();
        let burst = (to - n).min(BURST as u64);
        // As in the engine: the lookup that missed came before.
        let mut hashes: [Hash; BURST] = [table.hash(end(n)); BURST];
        for (i, hash) in (n..n + burst).zip(&mut hashes) {
            *hash = table.hash(end(i));
            table.prefetch(*hash);
        }
        for (i, hash) in (n..n + burst).zip(hashes) {
            let client = end(i);
            let same = |record: &Record<V4>| record.end() == client && record.word(0) == vip(client);
            if table.resolve(hash, table.probe(hash), same).is_some() {
                continue;
            }
            let made = worker.insert(client, same, |_, record| {
                record.set_word(0, vip(client));
                Ok::<_, Infallible>(Clock::new(now, 1, 60))
            });
            refused += u64::from(made.is_err());
        }
        n += burst;
    }
    refused
}

fn lookup(worker: &mut WorkerLocal<V4>, entries: u64, lookups: u64, mut random: u64) -> u64 {
    let table = worker.table().clone();
    let now = Tick(0);
    let mut hits = 0;
    let mut ends = [V4End::from_bits(0); BURST];
    let mut hashes = [table.hash(ends[0]); BURST];
    let mut probes = [Probe::default(); BURST];
    for _ in 0..lookups / BURST as u64 {
        worker.quiescent();
        for end_ in &mut ends {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            *end_ = end(((random >> 32) * entries) >> 32);
        }
        for (hash, &end) in hashes.iter_mut().zip(&ends) {
            *hash = table.hash(end);
            table.prefetch(*hash);
        }
        for (probe, &hash) in probes.iter_mut().zip(&hashes) {
            *probe = table.probe(hash);
        }
        for i in 0..BURST {
            let found = table.resolve(hashes[i], probes[i], |record| {
                record.end() == ends[i] && record.word(0) == vip(ends[i])
            });
            if let Some(index) = found {
                hits += u64::from(table.record(index).touch(now).is_ok());
            }
        }
    }
    black_box(hits)
}

fn miss(worker: &mut WorkerLocal<V4>, from: u64, to: u64) -> u64 {
    let table = worker.table().clone();
    let mut hits = 0;
    for burst in 0..(to - from) / BURST as u64 {
        worker.quiescent();
        let ends: [V4End; BURST] = std::array::from_fn(|i| end(from + burst * BURST as u64 + i as u64));
        let hashes = ends.map(|end| {
            let hash = table.hash(end);
            table.prefetch(hash);
            hash
        });
        for (hash, end) in hashes.into_iter().zip(ends) {
            let probe = table.probe(hash);
            hits += u64::from(table.resolve(hash, probe, |record| record.end() == end).is_some());
        }
    }
    black_box(hits)
}

fn one_by_one(worker: &mut WorkerLocal<V4>, entries: u64, from: u64, to: u64) -> u64 {
    let table = worker.table().clone();
    let mut random = from;
    let mut hits = 0;
    worker.quiescent();
    for _ in from..to {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let client = end(((random >> 32) * entries) >> 32);
        let found =
            table.find(table.hash(client), |record| record.end() == client && record.word(0) == vip(client));
        hits += u64::from(found.is_some());
    }
    black_box(hits)
}

/// Runs `run` on slices of the work and prints the median and the best of them: other loads of the machine disturb some.
fn timed(what: &str, total: u64, mut run: impl FnMut(u64, u64) -> u64) -> u64 {
    let slice = (total / 100).clamp(1, 200_000) / BURST as u64 * BURST as u64;
    let slice = slice.max(BURST as u64);
    let mut times = Vec::new();
    let mut sum = 0;
    let mut from = 0;
    while from < total {
        let to = (from + slice).min(total);
        let start = Instant::now();
        sum += run(from, to);
        times.push(start.elapsed().as_nanos() as f64 / (to - from) as f64);
        from = to;
    }
    times.sort_by(f64::total_cmp);
    let (best, median) = (times[times.len() / 50], times[times.len() / 2]);
    println!("{what:<36} {median:7.1} ns {:7.2} M/s   (best {best:7.1} ns)", 1e3 / median);
    sum
}

/// Two workers at once; gives operations a second, of both together and of the first alone just before.
fn together(
    what: &str,
    total: u64,
    workers: &mut [WorkerLocal<V4>],
    run: impl Fn(&mut WorkerLocal<V4>, u64) + Sync,
) {
    let (first, second) = workers.split_at_mut(1);
    // By the time the thread was on a CPU: on a machine that others use, too, each would get a part of one only.
    let clock = || rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    let rate = |worker: &mut WorkerLocal<V4>, part| {
        let start = clock();
        run(worker, part);
        let end = clock();
        let seconds = (end.tv_sec - start.tv_sec) as f64 + (end.tv_nsec - start.tv_nsec) as f64 / 1e9;
        total as f64 / seconds / 1e6
    };
    let alone = rate(&mut first[0], 0);
    let barrier = Barrier::new(2);
    let both = std::thread::scope(|scope| {
        let other = scope.spawn(|| {
            barrier.wait();
            rate(&mut first[0], 1)
        });
        barrier.wait();
        let here = rate(&mut second[0], 2);
        other.join().map_or(0.0, |there| here + there)
    });
    println!("{what:<36} one {alone:7.2} M/s, two {both:7.2} M/s, {:.2} times", both / alone);
}

fn clear(keeper: &mut Keeper<V4>, now: &mut Tick) {
    let mut policy = (|_: Index, _: &Record<V4>, _| Verdict::Remove, |_: Index, _: &Record<V4>| ());
    while keeper.table().counters().active + keeper.table().counters().dead > 0 {
        if !keeper.poll(*now, 100_000, &mut policy).behind {
            *now = now.plus(1);
        }
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let entries: u64 = std::env::args().nth(1).map_or(Ok(10_000_000), |n| n.parse())?;
    let capacity = u32::try_from(entries)?;

    let (table, mut workers, mut keeper) = Table::<V4>::create(&Options::new(capacity, 2))?;
    println!("{entries} entries on {}, {:.1} bytes each", table.page_size(), table.bytes_per_entry());
    let mut policy = (|_: Index, _: &Record<V4>, _| Verdict::Remove, |_: Index, _: &Record<V4>| ());
    let mut now = Tick(0);

    timed("insert, memory untouched", entries, |from, to| insert(&mut workers[0], from, to));
    println!("  {:?}", table.counters());
    let hits = timed("lookup and touch, bursts of 32", LOOKUPS, |from, to| {
        lookup(&mut workers[0], entries, to - from, from)
    });
    println!("  hits {hits} of {LOOKUPS}");
    timed("  of this, making up the ends", LOOKUPS, |from, to| {
        let mut random = from;
        let mut sum = 0;
        for _ in from..to {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            sum ^= end(((random >> 32) * entries) >> 32).bits();
        }
        black_box(sum) & 1
    });
    timed("miss, bursts of 32", LOOKUPS, |from, to| miss(&mut workers[0], entries + from, entries + to));
    timed("lookup, one by one", LOOKUPS / 4, |from, to| one_by_one(&mut workers[0], entries, from, to));
    together("lookups by two workers", LOOKUPS, &mut workers, |worker, seed| {
        lookup(worker, entries, LOOKUPS, seed);
        worker.offline();
    });

    timed("hearing of all (events were lost)", entries, |from, to| {
        keeper.poll(now, (to - from) as usize, &mut policy).looked as u64
    });
    now = now.plus(700);
    let mut removed = 0;
    timed("removal of all", entries, |_, to| {
        while removed < to {
            let progress = keeper.poll(now, 2048, &mut policy);
            removed += progress.removed as u64;
            if !progress.behind {
                now = now.plus(1);
            }
        }
        0
    });
    clear(&mut keeper, &mut now);
    println!("  {:?}", table.counters());
    timed("insert, memory warm", entries, |from, to| insert(&mut workers[0], from, to));
    workers[0].offline();
    now = now.plus(700);
    clear(&mut keeper, &mut now);
    let third = entries / 3;
    together("insert, memory warm", third, &mut workers, |worker, part| {
        insert(worker, part * third, (part + 1) * third);
        worker.offline();
    });
    println!("  {:?}", table.counters());
    Ok(())
}
