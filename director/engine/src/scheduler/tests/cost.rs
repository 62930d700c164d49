//! What a choice costs. `cargo test --release -p director-engine --lib -- --ignored --nocapture cost`

use std::time::Instant;

use director_packet::Address;

use super::{Bench, request};
use crate::service::SchedulerKind;
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
