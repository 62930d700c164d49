//! Several workers ask the same service.

use std::collections::{BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};

use super::{Bench, request};
use crate::service::{SchedulerKind, ServerSpec};
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

#[test]
fn nothing_is_missed_while_servers_come_and_go() {
    let mut bench = Bench::of(SchedulerKind::LeastConnection, &[1; 5]);
    let (view, servers) = (bench.view(), bench.servers.clone());
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut open = VecDeque::new();
            while !stop.load(Ordering::Relaxed) {
                open.push_back(view.schedule(&servers, &request(1), State::SynRecv).unwrap().slot);
                if open.len() > 20 {
                    let slot = open.pop_front().unwrap();
                    servers.change(slot, State::SynRecv, State::TimeWait);
                    servers.unbind(slot, State::TimeWait);
                }
            }
            open.into_iter().for_each(|slot| servers.unbind(slot, State::SynRecv));
        });
        for round in 0..1000 {
            let number = 6 + round % 3;
            bench.add(number, ServerSpec::default());
            bench.view();
            bench.delete(number);
            bench.view();
            bench.catalog.published();
        }
        stop.store(true, Ordering::Relaxed);
    });
    // None has a connection any more, and the scheduler knows it of all.
    let chosen: BTreeSet<_> = (0..5).map(|_| bench.connect(&request(1)).unwrap().1).collect();
    assert_eq!(chosen, (1..=5).collect());
}
