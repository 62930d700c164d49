//! Several workers ask the same service.

use super::{Bench, request};
use crate::service::SchedulerKind;
use crate::state::State;

/// How many connections each of so many servers gets when two workers ask, each so often.
fn counts(scheduler: SchedulerKind, weights: &[u32], each: usize) -> Vec<u32> {
    let mut bench = Bench::of(scheduler, weights);
    let view = bench.view();
    let servers = &bench.servers;
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for at in 0..each {
                    let server = view.schedule(servers, &request(at as u32), State::SynRecv).unwrap();
                    // A connection of another entry may come and go at any time.
                    servers.change(server.slot, State::SynRecv, State::FinWait);
                    servers.change(server.slot, State::FinWait, State::SynRecv);
                }
            });
        }
    });
    let row = |row: crate::catalog::ServerRow| row.load.active;
    let mut counts: Vec<_> =
        bench.catalog.servers(bench.catalog.service(super::KEY).unwrap()).map(row).collect();
    counts.reverse();
    counts
}

#[test]
fn exact_over_all_workers() {
    assert_eq!(counts(SchedulerKind::RoundRobin, &[1; 7], 7_000), [2_000; 7]);
    // The first round of a service that got its servers one by one is of level 1: one for each of them.
    assert_eq!(counts(SchedulerKind::WeightedRoundRobin, &[5, 3, 2], 5_000), [5_000, 3_000, 2_000]);
}

#[test]
fn nothing_is_missed() {
    // A connection may be between two states when the other worker looks, so one more or less is right.
    for (scheduler, weights, expected) in [
        (SchedulerKind::LeastConnection, [1, 5, 3], [3_000; 3]),
        (SchedulerKind::WeightedLeastConnection, [1, 5, 3], [1_000, 5_000, 3_000]),
        (SchedulerKind::ShortestExpectedDelay, [1, 5, 3], [1_000, 5_000, 3_000]),
    ] {
        let found = counts(scheduler, &weights, 4_500);
        let near = found.iter().zip(expected).all(|(&found, expected)| found.abs_diff(expected) <= 8);
        assert!(near, "{}: {found:?}", scheduler.name());
    }
}
