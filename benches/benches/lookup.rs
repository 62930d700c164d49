//! A lookup as the director's table grows, by criterion: `cargo bench -p director-benches`. It compares with the run
//! before, and plots the curve to `target/criterion/lookup/report/lines.svg`. Of larger tables, and beside a rival, on
//! huge pages: `scripts/bench curve`.

use std::hint::black_box;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use director_benches::contenders::{self, BURST, end};

/// Connections; the largest table takes 84 MB.
const SIZES: [u32; 4] = [1_000, 10_000, 100_000, 1_000_000];

fn lookup(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("lookup");
    group.throughput(Throughput::Elements(BURST as u64));
    for size in SIZES {
        let Ok(mut table) = contenders::own(size + size / 8) else {
            eprintln!("no memory for {size} connections");
            break;
        };
        if let Err(error) = table.writer.insert(0..size.into()) {
            eprintln!("{error}");
            break;
        }
        table.writer.rest();
        let mut random = 1_u64;
        let mut draw = || {
            // Knuth's generator (TAOCP 3.3.4); its upper half, below the size.
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            end(((random >> 32) * u64::from(size)) >> 32)
        };
        group.bench_function(BenchmarkId::from_parameter(size), |bencher| {
            bencher.iter_batched(
                || std::array::from_fn(|_| draw()),
                |ends| {
                    let found = table.reader.lookup(black_box(&ends));
                    assert_eq!(found, BURST);
                },
                BatchSize::SmallInput,
            );
        });
        table.reader.rest();
    }
    group.finish();
}

criterion_group!(curves, lookup);
criterion_main!(curves);
