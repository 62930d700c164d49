//! Templates against a plain list of them, and whatever two threads do.

use std::collections::BTreeMap;

use super::shard::LEEWAY;
use super::*;
use crate::service::ServerSpec;

const CAPACITY: u32 = 100;

/// Numbers of connections.
fn indices(count: u32) -> Vec<u32> {
    (0..count).collect()
}

fn servers() -> Servers {
    let servers = Servers::new(1);
    for slot in 0..4 {
        servers.ensure(slot);
        servers.set(slot, &ServerSpec::default());
    }
    servers
}

fn key(client: u32) -> Key {
    Key { service: EndKey::new(Endpoint::v4(7, 80), 6), client: Address::V4(client) }
}

fn chosen(slot: u32) -> Chosen {
    Chosen { slot, address: Endpoint::v4(slot, 80) }
}

fn list(templates: &Templates, now: Tick, servers: &Servers) -> Vec<Row> {
    let (mut rows, mut from) = (Vec::new(), Some(0));
    while let Some(at) = from {
        from = templates.list(now, at, 100, servers, |row| rows.push(row));
    }
    rows
}

#[test]
fn two_first_connections_of_one_client_make_one_template() {
    let (servers, indices) = (servers(), indices(CAPACITY));
    for _ in 0..200 {
        let templates = Templates::new(CAPACITY, CAPACITY);
        let slots: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..2)
                .map(|thread| {
                    let (templates, servers, indices) = (&templates, &servers, &indices);
                    scope.spawn(move || {
                        let mut slots = Vec::new();
                        for client in 0..20 {
                            let connection = (Some(indices[thread * 20 + client]), false);
                            let choose = || Some(chosen(thread as u32));
                            let when = (Tick(0), 10);
                            let joined = templates.join(
                                (key(client as u32), None),
                                when,
                                connection,
                                servers,
                                |_| true,
                                choose,
                            );
                            let (Joined::Found(server) | Joined::Made(server)) = joined.unwrap();
                            slots.push(server.slot);
                        }
                        slots
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(slots[0], slots[1]);
        assert_eq!((templates.count(), list(&templates, Tick(0), &servers).len()), (20, 20));
        for index in &indices[..40] {
            templates.leave(*index, Tick(1));
        }
        templates.sweep(&mut Sweep::default(), Tick(200), &servers);
        assert_eq!(templates.count(), 0);
        assert!((0..4).all(|slot| servers.load(slot).persistent == 0));
    }
}

/// More than half of the clock's round passes before there is one.
#[test]
fn the_first_after_seven_years_ends_too() {
    let (servers, templates) = (servers(), Templates::new(CAPACITY, CAPACITY));
    let mut sweep = Sweep::default();
    let now = Tick(1 << 31).plus(100);
    for year in 0..=14 {
        templates.sweep(&mut sweep, Tick(now.0 / 14 * year), &servers);
    }
    let joined =
        templates.join((key(1), None), (now, 10), (None, false), &servers, |_| true, || Some(chosen(0)));
    assert_eq!(joined, Ok(Joined::Made(chosen(0))));
    (0..200).for_each(|ticks| templates.sweep(&mut sweep, now.plus(ticks), &servers));
    assert_eq!(templates.count(), 0);
}

#[test]
fn calls_are_told_apart() {
    let (servers, templates) = (servers(), Templates::new(CAPACITY, CAPACITY));
    let call = |name: usize| CallId::of(format!("x\r\ni: call{name}\r\n").as_bytes());
    let join = |name: usize, slot: u32, now: u32| {
        let (call, choose) = (call(name), || Some(chosen(slot)));
        templates.join((key(1), call.as_ref()), (Tick(now), 10), (None, false), &servers, |_| true, choose)
    };
    assert_eq!(join(1, 1, 0), Err(Reason::TemplatesFull), "there is no memory for calls yet");
    templates.take_calls();
    templates.take_calls();
    let mut sweep = Sweep::default();
    // Places are used again, by others.
    for round in 0..3 {
        let (now, first) = (round * 1000, round as usize * 7);
        for name in first..first + 20 {
            assert_eq!(join(name, name as u32 % 4, now), Ok(Joined::Made(chosen(name as u32 % 4))));
        }
        for name in first..first + 20 {
            assert_eq!(join(name, 9, now), Ok(Joined::Found(chosen(name as u32 % 4))));
        }
        let shown = list(&templates, Tick(now), &servers);
        let mut shown: Vec<_> = shown.iter().filter_map(|row| row.call).collect();
        shown.sort_by_key(|call| call.as_bytes().to_vec());
        let mut expected: Vec<_> = (first..first + 20).filter_map(call).collect();
        expected.sort_by_key(|call| call.as_bytes().to_vec());
        assert_eq!(shown, expected);
        templates.sweep(&mut sweep, Tick(now + 500), &servers);
        assert_eq!(templates.count(), 0);
    }
}

/// A template of the model.
#[derive(Clone, Debug)]
struct Model {
    slot: u32,
    started: u32,
    timeout: u32,
    connections: Vec<usize>,
    assured: bool,
    valid: bool,
    client: u32,
}

#[derive(Clone, Copy, Debug, bolero::TypeGenerator)]
enum Step {
    Join { client: u8, slot: u8, timeout: u8, established: bool },
    Leave(u8),
    Assure(u8),
    Pass(u8),
    Long(u16),
    Break(u8),
    Mend(u8),
}

/// Every step against a list of templates that is gone through tick by tick.
#[test]
fn as_a_plain_list() {
    let indices = indices(CAPACITY);
    bolero::check!().with_type::<Vec<Step>>().for_each(|steps| {
        let (servers, templates) = (servers(), Templates::new(8, CAPACITY));
        let mut model: Vec<Model> = Vec::new();
        let mut broken = [false; 4];
        let mut free: Vec<usize> = (0..indices.len()).rev().collect();
        let mut live: Vec<usize> = Vec::new();
        let (mut now, mut sweep) = (1_u32, Sweep::default());
        for step in steps {
            match *step {
                Step::Join { client, slot, timeout, established } => {
                    let (client, slot) = (u32::from(client % 6), u32::from(slot % 4));
                    let timeout = u32::from(timeout % 100) + 1;
                    let Some(connection) = free.pop() else { continue };
                    let at = model.iter().position(|t| t.valid && t.client == client);
                    if let Some(at) = at.filter(|&at| broken[model[at].slot as usize]) {
                        model[at].valid = false;
                    }
                    let found = model.iter().position(|t| t.valid && t.client == client);
                    let joined = templates.join(
                        (key(client), None),
                        (Tick(now), timeout),
                        (Some(indices[connection]), established),
                        &servers,
                        |slot| !broken[slot as usize],
                        || (!broken[slot as usize]).then(|| chosen(slot)),
                    );
                    let expected = match found {
                        Some(at) => {
                            model[at].started = now;
                            Ok(Joined::Found(chosen(model[at].slot)))
                        }
                        None if model.len() == 8 => Err(Reason::TemplatesFull),
                        None if broken[slot as usize] => Err(Reason::NoServer),
                        None => {
                            let (connections, assured, valid) = (Vec::new(), false, true);
                            model.push(Model {
                                slot,
                                started: now,
                                timeout,
                                connections,
                                assured,
                                valid,
                                client,
                            });
                            Ok(Joined::Made(chosen(slot)))
                        }
                    };
                    assert_eq!(joined, expected);
                    if joined.is_err() {
                        free.push(connection);
                        continue;
                    }
                    let at = found.unwrap_or(model.len() - 1);
                    model[at].connections.push(connection);
                    model[at].assured |= established;
                    live.push(connection);
                }
                Step::Leave(which) if !live.is_empty() => {
                    let connection = live.swap_remove(usize::from(which) % live.len());
                    templates.leave(indices[connection], Tick(now));
                    model.iter_mut().for_each(|t| t.connections.retain(|&c| c != connection));
                    model.retain(|t| now <= t.started + t.timeout * 10 || !t.connections.is_empty());
                    free.push(connection);
                }
                Step::Assure(which) if !live.is_empty() => {
                    let connection = live[usize::from(which) % live.len()];
                    templates.assure(indices[connection]);
                    model
                        .iter_mut()
                        .filter(|t| t.connections.contains(&connection))
                        .for_each(|t| t.assured = true);
                }
                Step::Pass(_) | Step::Long(_) => {
                    let ticks = match *step {
                        Step::Pass(ticks) => u32::from(ticks),
                        Step::Long(ticks) => u32::from(ticks % 3000),
                        _ => 0,
                    };
                    for _ in 0..ticks {
                        now += 1;
                        for template in &mut model {
                            let end = template.started + template.timeout * 10;
                            if now > end && template.connections.is_empty() {
                                template.timeout = 0;
                            } else if now > end + LEEWAY {
                                (template.started, template.timeout) = (end, 60);
                            }
                        }
                        model.retain(|t| t.timeout > 0);
                    }
                    templates.sweep(&mut sweep, Tick(now), &servers);
                }
                Step::Break(slot) => broken[usize::from(slot % 4)] = true,
                Step::Mend(slot) => broken[usize::from(slot % 4)] = false,
                Step::Leave(_) | Step::Assure(_) => {}
            }
            let shown = |client, slot, valid, assured, seconds| {
                format!("{client} {slot} {valid} {assured} {seconds}")
            };
            let mut expected: Vec<_> = model
                .iter()
                .map(|t| {
                    let left = (t.started + t.timeout * 10).saturating_sub(now + 1) / 10;
                    shown(t.client, t.slot, t.valid, t.assured, left)
                })
                .collect();
            let mut found: Vec<_> = list(&templates, Tick(now), &servers)
                .iter()
                .map(|r| {
                    shown(r.key.client.fold(), r.server.address().fold(), r.is_valid, r.is_assured, r.seconds)
                })
                .collect();
            expected.sort();
            found.sort();
            assert_eq!(found, expected);
            let mut of_slots = BTreeMap::new();
            model.iter().for_each(|t| *of_slots.entry(t.slot).or_insert(0) += 1);
            for slot in 0..4 {
                assert_eq!(servers.load(slot).persistent, of_slots.get(&slot).copied().unwrap_or(0));
            }
        }
    });
}
