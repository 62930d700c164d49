//! The recorded sequences, which stand in `recorded.txt`.

use std::collections::VecDeque;

use director_packet::Address;

use super::{Bench, request};
use crate::service::{FALLBACK, PORT, SchedulerKind, ServerSpec};
use crate::state::State;

/// `WEIGHT[/UPPER[/LOWER]]`
fn spec(text: &str) -> ServerSpec {
    let mut numbers = text.split('/').map(|number| number.parse().unwrap());
    let mut next = || numbers.next().unwrap_or_default();
    ServerSpec { weight: next(), upper: next(), lower: next(), ..ServerSpec::default() }
}

fn kind(name: &str) -> SchedulerKind {
    SchedulerKind::from_name(name).unwrap_or_else(|| panic!("no scheduler {name}"))
}

fn run(scheduler: &str, story: &str) {
    let mut names = scheduler.split(',');
    let name = kind(names.next().unwrap());
    let flags = names.map(|flag| match flag {
        "sh-fallback" | "mh-fallback" => FALLBACK,
        "sh-port" | "mh-port" => PORT,
        _ => panic!("no flag {flag}"),
    });
    let flags = flags.sum();
    let mut bench = Bench::new(name, flags);
    let mut request = request(0xc0a8_120a);
    let (mut sources, mut closing) = (false, false);
    let mut open = VecDeque::new();
    for (at, word) in story.split_whitespace().enumerate() {
        let place = || format!("{scheduler}: word {}, \"{word}\" of {story}", at + 1);
        if let Some((number, text)) = word.strip_prefix('+').and_then(|word| word.split_once('=')) {
            bench.add(number.parse().unwrap(), spec(text));
        } else if let Some((number, text)) = word.split_once(":=") {
            bench.set(number.parse().unwrap(), spec(text));
        } else if let Some(number) = word.strip_prefix('-') {
            bench.delete(number.parse().unwrap());
        } else if let Some(number) = word.strip_prefix("client=") {
            request.source = Address::V4(0xc0a8_1200 + number.parse::<u32>().unwrap());
            sources = true;
        } else if let Some(number) = word.strip_prefix("port=") {
            request.source_port = number.parse().unwrap();
        } else if let Some(name) = word.strip_prefix('=') {
            bench.reschedule(kind(name), flags);
        } else if word == "end" {
            let (slot, state) = open.pop_front().unwrap();
            bench.servers.unbind(slot, state);
        } else if word == "closing" || word == "opened" {
            closing = word == "closing";
        } else {
            let found = bench.connect(&request);
            let expected = (word != "none").then(|| word.parse().unwrap_or_else(|_| panic!("{}", place())));
            assert_eq!(found.map(|(_, number)| number), expected, "{}", place());
            request.source = Address::V4(request.source.fold() + u32::from(sources));
            if let Some((slot, _)) = found {
                let state = if closing { State::TimeWait } else { State::SynRecv };
                bench.servers.change(slot, State::SynRecv, state);
                open.push_back((slot, state));
            }
        }
    }
}

#[test]
fn as_recorded() {
    let text = include_str!("recorded.txt");
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let mut count = 0;
    for line in lines {
        let (scheduler, story) = line.split_once(':').unwrap();
        run(scheduler, story);
        count += 1;
    }
    assert!(count > 30);
}
