//! What a choice costs. `cargo test --release -p director-engine --lib -- --ignored --nocapture cost`

use std::time::Instant;

use director_packet::Address;

use super::{Bench, request};
use crate::service::{SchedulerKind, ServerSpec};
use crate::state::State;

/// Nanoseconds for a new connection and the changes of another one.
fn cost(scheduler: SchedulerKind, count: usize) -> u128 {
    const CONNECTIONS: usize = 200_000;
    // Weights unlike each other, so that shares and comparisons are not trivial.
    let weights: Vec<u32> = (0..count as u32).map(|number| number % 97 + 1).collect();
    let mut bench = Bench::of(scheduler, &weights);
    let view = bench.view();
    let mut open = std::collections::VecDeque::new();
    let start = Instant::now();
    for number in 0..CONNECTIONS {
        let mut request = request(number as u32 * 0x9e37);
        request.destination = Address::V4(number as u32 % 7);
        let Some(server) = view.schedule(&bench.servers, &request, State::SynRecv) else { continue };
        open.push_back(server.slot);
        if open.len() > 20_000
            && let Some(slot) = open.pop_front()
        {
            bench.servers.change(slot, State::SynRecv, State::TimeWait);
            bench.servers.unbind(slot, State::TimeWait);
        }
    }
    start.elapsed().as_nanos() / CONNECTIONS as u128
}

#[test]
#[ignore = "a measurement"]
fn cost_by_the_number_of_servers() {
    println!("{:>9} {:>8} {:>8} {:>8}  ns a connection", "scheduler", 10, 1_000, 10_000);
    for kind in SchedulerKind::ALL {
        let [few, many, most] = [10, 1_000, 10_000].map(|count| cost(kind, count));
        println!("{:>9} {few:>8} {many:>8} {most:>8}", kind.name());
    }
}

/// Microseconds until workers know of one server more, of one less and of another weight, by the control core's work.
fn cost_of_changes(scheduler: SchedulerKind, count: u32) -> [f64; 3] {
    const ROUNDS: u32 = 50;
    let mut bench = Bench::of(scheduler, &vec![1; count as usize]);
    bench.view();
    let mut spent = [0.0; 3];
    for _ in 0..ROUNDS {
        for (at, spent) in spent.iter_mut().enumerate() {
            let start = Instant::now();
            match at {
                0 => bench.add(count + 1, ServerSpec::default()),
                1 => bench.set(count + 1, ServerSpec { weight: 2, ..ServerSpec::default() }),
                _ => bench.delete(count + 1),
            }
            bench.view();
            bench.catalog.published();
            *spent += start.elapsed().as_secs_f64() * 1e6 / f64::from(ROUNDS);
        }
    }
    spent
}

#[test]
#[ignore = "a measurement"]
fn cost_of_a_change_by_the_number_of_servers() {
    println!("{:>9} {:>8}  us to add a server, to change its weight, to delete it", "scheduler", "servers");
    for kind in SchedulerKind::ALL {
        for count in [10, 1_000, 10_000] {
            let [add, set, delete] = cost_of_changes(kind, count);
            println!("{:>9} {count:>8} {add:>9.1} {set:>9.1} {delete:>9.1}", kind.name());
        }
    }
}

/// Nanoseconds for a new connection of `lblcr`, of a destination whose set has all servers.
fn cost_of_a_full_set(count: usize) -> u128 {
    const CONNECTIONS: u128 = 2_000;
    let mut bench = Bench::of(SchedulerKind::LocalityReplicated, &vec![2; count]);
    let view = bench.view();
    // Each server gets three connections, with which it is overloaded while another has none.
    let connect = || view.schedule(&bench.servers, &request(7), State::Established).unwrap();
    (0..4 * count).for_each(|_| _ = connect());
    let start = Instant::now();
    (0..CONNECTIONS).for_each(|_| _ = connect());
    start.elapsed().as_nanos() / CONNECTIONS
}

#[test]
#[ignore = "a measurement"]
fn cost_of_a_full_set_by_the_number_of_servers() {
    for count in [10, 1_000, 10_000] {
        println!("{count} servers in a set of lblcr: {} ns a connection", cost_of_a_full_set(count));
    }
}
