//! Clients on the servers' own link: how many there can be at once, and whose ports they get.

use director_engine::HAIRPIN_PORTS;
use director_engine::service::{ServerSpec, ServiceSpec};

use crate::lab::{BACK, Lab, PORT_MACS, RR, VIP, point, tcp_key};
use crate::packet::tcp;

const SERVER: &str = "192.168.2.72:80";

fn lab(workers: usize) -> Lab {
    let mut lab = Lab::empty(20_000, workers);
    let catalog = &mut lab.control.catalog;
    catalog.add_service(tcp_key(VIP), ServiceSpec { hairpin_snat: true, ..RR }).unwrap();
    catalog.add_server(tcp_key(VIP), point(SERVER), ServerSpec::default()).unwrap();
    lab.control.publish();
    lab
}

fn client(number: u16) -> String {
    format!("192.168.2.71:{}", 1_000 + number)
}

/// The port that stands for a client.
fn port_in(outcome: &str) -> Option<u16> {
    outcome.strip_prefix("back 192.168.2.90:")?.split(' ').next()?.parse().ok()
}

#[test]
fn as_many_at_once_as_there_are_ports() {
    let mut lab = lab(1);
    let all = HAIRPIN_PORTS.count() as u16;
    let mut seen: Vec<_> =
        (0..all).map(|number| port_in(&lab.back(&tcp(&client(number), VIP, "S"))).unwrap()).collect();
    seen.sort_unstable();
    assert!(seen.into_iter().eq(HAIRPIN_PORTS));
    assert_eq!(lab.back(&tcp(&client(all), VIP, "S")), "drop hairpin_ports_full");
    // Nothing of it is left behind.
    assert_eq!(lab.load(tcp_key(VIP), SERVER), (u32::from(all), 0));
    assert_eq!(lab.control.active(), u64::from(all));
    // Those that ended make room.
    lab.pass(62_000);
    assert_eq!(lab.load(tcp_key(VIP), SERVER), (0, 0));
    assert!(port_in(&lab.back(&tcp(&client(all), VIP, "S"))).is_some());
}

#[test]
fn another_server_s_port_may_have_the_same() {
    let mut lab = lab(1);
    lab.add_server(VIP, "192.168.2.73:80", ServerSpec::default());
    let first = lab.back(&tcp(&client(0), VIP, "S"));
    assert_eq!(first, "back 192.168.2.90:61000 > 192.168.2.73:80 S");
    for number in 1..HAIRPIN_PORTS.count() as u16 {
        assert!(port_in(&lab.back(&tcp(&client(number), VIP, "S"))).is_some());
    }
    // All round. 61001 is in use too, but towards the other server.
    assert_eq!(
        lab.back(&tcp(&client(9_000), VIP, "S")),
        "back 192.168.2.90:61001 > 192.168.2.73:80 S",
        "61000 is in use towards .73, whose turn it is"
    );
    for (server, to) in [("192.168.2.73:80", 0), ("192.168.2.73:80", 9_000)] {
        let port = if to == 0 { 61_000 } else { 61_001 };
        let answer = lab.back(&tcp(server, &format!("192.168.2.90:{port}"), "SA"));
        assert_eq!(answer, format!("back {VIP} > {} SA", client(to)));
    }
}

#[test]
fn workers_do_not_take_each_others_ports() {
    let mut lab = lab(2);
    let mut ports = Vec::new();
    for number in 0..20 {
        let worker = usize::from(number % 2);
        let packet = tcp(&client(number), VIP, "S");
        let frame = packet.frame(packet.from(), PORT_MACS[usize::from(BACK)]);
        let port = port_in(&lab.burst(worker, BACK, vec![frame]).0[0]).unwrap();
        assert_eq!(usize::from(port - HAIRPIN_PORTS.start()) % 2, worker);
        ports.push(port);
        // Whoever gets the answer finds the entry.
        let answer = tcp(SERVER, &format!("192.168.2.90:{port}"), "SA");
        let frame = answer.frame(answer.from(), PORT_MACS[usize::from(BACK)]);
        let back = lab.burst(1 - worker, BACK, vec![frame]).0.remove(0);
        assert_eq!(back, format!("back {VIP} > {} SA", client(number)));
    }
    ports.sort_unstable();
    ports.dedup();
    assert_eq!(ports.len(), 20);
}
