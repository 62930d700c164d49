//! Several workers at once: what is promised about all of them together.

use std::collections::HashMap;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};

use director_engine::{BURST, Control, Verdict, Worker};

use crate::lab::{BACK, Burst, FRONT, Lab, PORT_MACS, SERVERS, VIP, served, tcp_key};
use crate::packet::tcp;

/// Lets each worker do something on a thread of its own, while the control core runs.
fn together(lab: &mut Lab, each: impl Fn(&mut Worker) + Sync) {
    let Lab { control, workers, .. } = lab;
    let (start, running) = (Barrier::new(workers.len()), AtomicBool::new(true));
    let now = director_engine::Tick::from_millis(lab.milliseconds);
    std::thread::scope(|scope| {
        let threads: Vec<_> = workers
            .iter_mut()
            .map(|worker| {
                let (each, start) = (&each, &start);
                scope.spawn(move || {
                    start.wait();
                    each(worker);
                    worker.offline();
                })
            })
            .collect();
        let control_core = scope.spawn(|| {
            while running.load(Ordering::Relaxed) {
                control.poll(now, 1000);
                std::thread::yield_now();
            }
        });
        let results: Vec<_> = threads.into_iter().map(|thread| thread.join()).collect();
        running.store(false, Ordering::Relaxed);
        control_core.join().unwrap();
        results.into_iter().for_each(|result| result.unwrap());
    });
    settle(control, now);
}

fn settle(control: &mut Control, now: director_engine::Tick) {
    for _ in 0..10 {
        control.poll(now, 1_000_000);
    }
}

/// Sends one packet through a worker; where it went, by the frame.
fn send(worker: &mut Worker, lab_now: u64, port: u8, frame: Vec<u8>) -> (Verdict, Vec<u8>) {
    let mut verdicts = [Verdict::Kernel; BURST];
    let mut burst = Burst { frames: vec![frame], head: usize::MAX };
    worker.quiescent();
    let now = director_engine::Tick::from_millis(lab_now);
    worker.process(now, lab_now as u32, port, &mut burst, &mut verdicts);
    (verdicts[0], burst.frames.remove(0))
}

fn frame(client: &str, flags: &str) -> Vec<u8> {
    tcp(client, VIP, flags).frame(Default::default(), PORT_MACS[0])
}

fn server_of(frame: &[u8]) -> [u8; 4] {
    *frame[30..].first_chunk().unwrap()
}

#[test]
fn workers_with_the_same_new_connections_agree() {
    const ROUNDS: u16 = 5_000;
    let mut lab = Lab::empty(20_000, 3);
    lab.serve(tcp_key(VIP), &SERVERS);
    let seen = std::sync::Mutex::new(HashMap::<u16, Vec<[u8; 4]>>::new());
    let now = lab.milliseconds;
    together(&mut lab, |worker| {
        for port in 101..=100 + ROUNDS {
            let (verdict, out) = send(worker, now, FRONT, frame(&format!("192.168.18.10:{port}"), "S"));
            assert_eq!(verdict, Verdict::Send(BACK));
            seen.lock().unwrap().entry(port).or_default().push(server_of(&out));
        }
    });
    let mut counts = HashMap::<[u8; 4], u32>::new();
    for (port, servers) in seen.into_inner().unwrap() {
        assert!(servers.windows(2).all(|pair| pair[0] == pair[1]), "{port}: {servers:?}");
        *counts.entry(servers[0]).or_default() += 1;
    }
    assert_eq!(lab.control.active(), u64::from(ROUNDS));
    // 5,000 connections over 3 servers: exactly 1,666 or 1,667 each.
    assert!(counts.values().all(|count| (1_666..=1_667).contains(count)), "{counts:?}");
    for server in SERVERS {
        let address = *server
            .split(':')
            .next()
            .unwrap()
            .parse::<std::net::Ipv4Addr>()
            .unwrap()
            .octets()
            .as_array()
            .unwrap();
        assert_eq!(lab.load(tcp_key(VIP), server), (counts[&address], 0));
    }
    assert_eq!(lab.total(tcp_key(VIP)).connections, u64::from(ROUNDS));
    assert_eq!(lab.total(tcp_key(VIP)).in_packets, 3 * u64::from(ROUNDS));
}

/// Each worker has its own new connections: still one exact round.
#[test]
fn one_round_over_all_workers() {
    const EACH: u16 = 7_001;
    let mut lab = Lab::empty(40_000, 2);
    lab.serve(tcp_key(VIP), &SERVERS);
    let now = lab.milliseconds;
    together(&mut lab, |worker| {
        for port in 101..=100 + EACH {
            let client = format!("192.168.18.{}:{port}", 100 + worker.id());
            let (verdict, _) = send(worker, now, FRONT, frame(&client, "S"));
            assert_eq!(verdict, Verdict::Send(BACK));
        }
    });
    let loads = SERVERS.map(|server| lab.load(tcp_key(VIP), server).0);
    assert_eq!(loads.iter().sum::<u32>(), 2 * u32::from(EACH));
    assert!(loads.iter().all(|load| (4_667..=4_668).contains(load)), "{loads:?}");
}

/// Workers that open, close and reuse the same few ports while the control core unlinks: the counts come out
/// exact, and nothing is left over.
#[test]
fn a_storm_over_a_few_ports() {
    let mut lab = Lab::empty(500, 3);
    lab.serve(tcp_key(VIP), &SERVERS);
    let now = lab.milliseconds;
    together(&mut lab, |worker| {
        for round in 0..20_000_u32 {
            let client = format!("192.168.18.10:{}", round % 7 + 1);
            let flags = ["S", "A", "R", "FA", "S", "-"][(round as usize * 5 + worker.id()) % 6];
            let (verdict, out) = send(worker, now, FRONT, frame(&client, flags));
            match verdict {
                Verdict::Send(BACK) => {
                    let server = std::net::Ipv4Addr::from(server_of(&out));
                    let reply = ["SA", "FA", "R", "A"][(round as usize + worker.id()) % 4];
                    let reply = tcp(&format!("{server}:80"), &client, reply);
                    let (verdict, _) = send(worker, now, BACK, reply.frame(Default::default(), PORT_MACS[1]));
                    // Another worker may have ended the connection in between.
                    assert!(matches!(verdict, Verdict::Send(FRONT) | Verdict::Kernel), "{verdict:?}");
                }
                Verdict::Kernel => assert_ne!(flags, "S"),
                // Dead entries wait for the control core.
                Verdict::Drop(reason) => {
                    assert!(["chain_full", "table_full"].contains(&reason.name()), "{reason:?}");
                }
                other => panic!("{other:?}"),
            }
        }
    });
    let mut listed = 0;
    let mut counted = HashMap::<_, (u32, u32)>::new();
    lab.each_entry(|connection| {
        listed += 1;
        let count = counted.entry(connection.server.to_string()).or_default();
        if connection.state.is_active() { count.0 += 1 } else { count.1 += 1 }
    });
    assert!(listed <= 7);
    assert_eq!(lab.control.active(), listed);
    for server in SERVERS {
        assert_eq!(lab.load(tcp_key(VIP), server), counted.get(server).copied().unwrap_or_default());
    }
    lab.pass(901_000);
    let counters = lab.control.table().counters();
    assert_eq!((counters.active, counters.dead), (0, 0));
    for server in SERVERS {
        assert_eq!(lab.load(tcp_key(VIP), server), (0, 0));
    }
}

/// Services, servers, routes and neighbours change under traffic.
#[test]
fn changes_under_traffic() {
    let mut lab = Lab::empty(5_000, 2);
    lab.serve(tcp_key(VIP), &SERVERS);
    let now = lab.milliseconds;
    let Lab { control, workers, network, .. } = &mut lab;
    let running = AtomicBool::new(true);
    std::thread::scope(|scope| {
        for worker in workers.iter_mut() {
            let running = &running;
            scope.spawn(move || {
                let mut round = 0_u32;
                while running.load(Ordering::Relaxed) {
                    round += 1;
                    let client = format!("192.168.18.10:{}", round % 900 + 1);
                    let flags = ["S", "A", "R"][round as usize % 3];
                    match send(worker, now, FRONT, frame(&client, flags)).0 {
                        Verdict::Send(BACK) | Verdict::Kernel => {}
                        Verdict::Drop(reason) => assert!(
                            ["server_gone", "no_server", "chain_full", "table_full"].contains(&reason.name()),
                            "{reason:?}"
                        ),
                        other => panic!("{other:?}"),
                    }
                }
                worker.offline();
            });
        }
        let tick = director_engine::Tick::from_millis(now);
        for round in 0..600_usize {
            let server = crate::lab::point(SERVERS[round % 3]);
            control.set_sysctls(director_engine::snapshot::Sysctls {
                expire_nodest_conn: round % 5 == 0,
                ..*control.sysctls()
            });
            control.catalog.delete_server(tcp_key(VIP), server).unwrap();
            control.publish();
            control.purge();
            for _ in 0..5 {
                control.poll(tick, 1000);
                std::thread::yield_now();
            }
            network.fib = std::sync::Arc::new((*network.fib).clone());
            control.set_network(network.clone());
            control.catalog.add_server(tcp_key(VIP), server, crate::lab::weight(1)).unwrap();
            control.publish();
            control.poll(tick, 1000);
        }
        running.store(false, Ordering::Relaxed);
    });
    let now = lab.now();
    settle(&mut lab.control, now);
    let mut listed = HashMap::<_, u32>::new();
    lab.each_entry(|connection| *listed.entry(connection.server.to_string()).or_default() += 1);
    for server in SERVERS {
        let (active, inactive) = lab.load(tcp_key(VIP), server);
        assert_eq!(active + inactive, listed.get(server).copied().unwrap_or_default(), "{server}");
    }
    lab.pass(901_000);
    assert_eq!(lab.control.active(), 0);
    for server in SERVERS {
        assert_eq!(lab.load(tcp_key(VIP), server), (0, 0), "{server}");
    }
    assert_ne!(served(&lab.front(&tcp("192.168.18.10:1", VIP, "S"))), 0);
}
