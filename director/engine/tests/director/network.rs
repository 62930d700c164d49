//! Routes, neighbours, ports and addresses, and their changes under running connections.

use director_engine::fib::{Hop, Route};
use director_engine::service::{Forward, ServerSpec};
use director_engine::{Reason, Verdict};
use director_packet::{Address, Mac};

use crate::lab::{BACK, CLIENT, FRONT, Lab, PORT_MACS, SERVERS, VIP, ip, tcp_key};
use crate::packet::tcp;

const TO_SERVER: &str = "back 192.168.18.10:2001 > 192.168.2.73:80 A";

fn open() -> Lab {
    let mut lab = Lab::new();
    lab.front(&tcp(CLIENT, VIP, "S"));
    assert_eq!(lab.front(&tcp(CLIENT, VIP, "A")), TO_SERVER);
    lab
}

#[test]
fn a_neighbour_that_is_not_known_yet() {
    let mut lab = Lab::new();
    lab.set_neighbour(BACK, "192.168.2.73", false);
    assert_eq!(
        lab.front(&tcp(CLIENT, VIP, "S")),
        "hold 192.168.2.73 for 192.168.18.58:80: 192.168.18.10:2001 > 192.168.2.73:80 S"
    );
    assert_eq!(lab.entries().len(), 1);
    // It answers: the next packet goes.
    lab.set_neighbour(BACK, "192.168.2.73", true);
    assert_eq!(lab.front(&tcp(CLIENT, VIP, "A")), TO_SERVER);
    // A client that is not known.
    lab.set_neighbour(FRONT, "192.168.18.10", false);
    assert_eq!(
        lab.back(&tcp(SERVERS[2], CLIENT, "SA")),
        "hold 192.168.18.10: 192.168.18.58:80 > 192.168.18.10:2001 SA"
    );
}

/// Next hops that nobody uses and that do not answer lose their places when there are many; a connection that comes back
/// finds its own again, and never another that has the place.
#[test]
fn a_connection_outlives_the_place_of_its_next_hop() {
    let mut lab = open();
    lab.back(&tcp(SERVERS[2], CLIENT, "A"));
    lab.set_neighbour(FRONT, "192.168.18.10", false);
    let shared = lab.control.shared().clone();
    let adjacencies = &shared.adjacencies;
    let hop = |at: u32| Hop { port: FRONT, address: Address::V6(u128::from(at) << 64 | 1) };
    let known = adjacencies.len();
    for at in 0..140_000 {
        adjacencies.entry(hop(at)).unwrap();
    }
    let idle_turn = |lab: &mut Lab| {
        let _used = adjacencies.take_recent().count();
        lab.control.sweep_next_hops(|_| false);
        lab.poll();
    };
    (0..8).for_each(|_| idle_turn(&mut lab));
    assert!(adjacencies.len() < known, "{} of {known}", adjacencies.len());
    assert_eq!(adjacencies.find(Hop { port: FRONT, address: ip("192.168.18.10") }), None);
    // Others have the places now, and answer.
    for at in 140_000..340_000 {
        if let Ok(way) = adjacencies.entry(hop(at)) {
            adjacencies.set(way, Some(Mac([9; 6])));
        }
    }
    assert_eq!(
        lab.back(&tcp(SERVERS[2], CLIENT, "A")),
        "hold 192.168.18.10: 192.168.18.58:80 > 192.168.18.10:2001 A"
    );
    assert_eq!(lab.front(&tcp(CLIENT, VIP, "A")), TO_SERVER);
    // Who answers stays, however many there are.
    let there = adjacencies.len();
    (0..8).for_each(|_| idle_turn(&mut lab));
    assert!(there > 150_000 && adjacencies.len() == there);
}

#[test]
fn a_neighbour_that_does_not_answer() {
    for forward in [Forward::Masquerading, Forward::DirectRouting, Forward::Tunnelling] {
        does_not_answer(forward);
    }
}

fn does_not_answer(forward: Forward) {
    let mut lab = Lab::new();
    lab.set_server(VIP, SERVERS[2], ServerSpec { forward, ..ServerSpec::default() });
    lab.set_neighbour(BACK, "192.168.2.73", false);
    for packet in [tcp(CLIENT, VIP, "S"), tcp(CLIENT, VIP, "PA").length(900)] {
        let frame = packet.frame(packet.from(), PORT_MACS[0]);
        let (verdicts, mut frames, _) = lab.process(0, FRONT, vec![frame.clone()]);
        assert!(matches!(verdicts[..], [Verdict::Hold(_)]), "{verdicts:?}");
        let service = lab.workers[0].held_for(0).unwrap();
        // The client is told, about the packet as it sent it but for the time to live.
        let (port, error) = lab.control.host_unreachable(&mut frames[0], service, 0).unwrap();
        assert_eq!(
            lab.sent(port, &error),
            "front 192.168.18.58 > 192.168.18.10: icmp 3/1 about \
             192.168.18.10:2001 > 192.168.18.58:80 ttl 63 ttl 64"
        );
        assert_eq!(error[15], 0xc0);
        let quoted = frame.len().min(14 + 548);
        assert_eq!(error[14 + 28 + 12..], frame[14 + 12..quoted], "addresses, ports, checksum, data");
    }
    assert_eq!(lab.entries().len(), 1, "the entry stays");
}

#[test]
fn a_host_unreachable_that_cannot_be_sent() {
    let mut lab = Lab::new();
    lab.set_neighbour(BACK, "192.168.2.73", false);
    let held = |lab: &mut Lab| {
        let frame = tcp(CLIENT, VIP, "S").frame(Mac::default(), PORT_MACS[0]);
        lab.process(0, FRONT, vec![frame]).1.remove(0)
    };
    let service = crate::lab::point(VIP);
    // The rate limit, then the client's own MAC address unknown, then no route to it.
    let mut frame = held(&mut lab);
    let told = (0..20).filter(|_| lab.control.host_unreachable(&mut frame.clone(), service, 0).is_some());
    assert_eq!(told.count(), 6);
    lab.set_neighbour(FRONT, "192.168.18.10", false);
    assert!(lab.control.host_unreachable(&mut frame, service, 60_000).is_none());
    lab.route(|fib| *fib = director_engine::fib::Fib::default());
    assert!(lab.control.host_unreachable(&mut frame, service, 120_000).is_none());
    // Nor about what is no such packet at all.
    for length in 0..frame.len() {
        assert!(lab.control.host_unreachable(&mut frame[..length], service, 180_000).is_none());
    }
}

#[test]
fn a_mac_address_changes_at_once() {
    let mut lab = open();
    let new = Mac([2, 7, 7, 7, 7, 7]);
    lab.set_mac(BACK, "192.168.2.73", Some(new));
    assert_eq!(lab.front(&tcp(CLIENT, VIP, "A")), format!("{TO_SERVER} via {new}"));
}

#[test]
fn a_route_changes_under_a_connection() {
    let mut lab = open();
    assert_eq!(lab.back(&tcp(SERVERS[2], CLIENT, "SA")), "front 192.168.18.58:80 > 192.168.18.10:2001 SA");
    lab.set_route("192.168.2.73", 32, Route::Gateway { port: BACK, gateway: ip("192.168.2.1") });
    assert_eq!(lab.front(&tcp(CLIENT, VIP, "A")), format!("{TO_SERVER} via 192.168.2.1"));
    lab.set_route("192.168.18.10", 32, Route::Gateway { port: FRONT, gateway: ip("192.168.18.1") });
    assert_eq!(
        lab.back(&tcp(SERVERS[2], CLIENT, "A")),
        "front 192.168.18.58:80 > 192.168.18.10:2001 A via 192.168.18.1"
    );
    assert_eq!(lab.front(&tcp(CLIENT, VIP, "A")), format!("{TO_SERVER} via 192.168.2.1"));
    // The server has moved to the other port.
    lab.set_neighbour(FRONT, "192.168.2.73", true);
    lab.set_route("192.168.2.73", 32, Route::Link { port: FRONT });
    assert_eq!(lab.front(&tcp(CLIENT, VIP, "A")), TO_SERVER.replace("back", "front"));
}

#[test]
fn a_route_changes_for_new_connections() {
    let mut lab = Lab::new();
    let rounds = [None, Some("192.168.2.1"), Some("192.168.2.2"), None];
    for (round, gateway) in rounds.into_iter().enumerate() {
        lab.set_route(
            "192.168.2.73",
            32,
            gateway.map_or(Route::Link { port: BACK }, |gateway| Route::Gateway {
                port: BACK,
                gateway: ip(gateway),
            }),
        );
        if let Some(gateway) = gateway {
            lab.set_neighbour(BACK, gateway, true);
        }
        // Each server twice: by a way that was found, and by one that the server kept.
        let sent: Vec<_> = (0..6)
            .map(|at| lab.front(&tcp(&format!("192.168.18.10:{}", 3000 + 10 * round + at), VIP, "S")))
            .filter(|sent| sent.contains("192.168.2.73:"))
            .collect();
        let via = gateway.map_or_else(String::new, |gateway| format!(" via {gateway}"));
        assert_eq!(sent.len(), 2);
        assert!(sent.iter().all(|sent| sent.ends_with(&format!(" S{via}"))), "{sent:?}");
    }
}

/// A way found under an old routing table is never taken, however often the table changes.
#[test]
fn many_changes_of_routes() {
    let mut lab = open();
    for round in 0..10_000_u32 {
        lab.network.fib = std::sync::Arc::new((*lab.network.fib).clone());
        lab.renew_network();
        if round.is_multiple_of(4_094) {
            let port = if (round / 4_094).is_multiple_of(2) { FRONT } else { BACK };
            lab.set_neighbour(port, "192.168.2.73", true);
            lab.set_route("192.168.2.73", 32, Route::Link { port });
            let name = crate::lab::PORT_NAMES[usize::from(port)];
            assert_eq!(lab.front(&tcp(CLIENT, VIP, "A")), TO_SERVER.replace("back", name));
        }
    }
}

#[test]
fn no_route() {
    let mut lab = Lab::new();
    lab.network.fib = std::sync::Arc::default();
    lab.set_route("192.168.18.0", 24, Route::Link { port: FRONT });
    // To the server: the client is told at once, and the entry stays.
    assert_eq!(
        lab.front(&tcp(CLIENT, VIP, "S")),
        "drop no_route; front 192.168.18.58 > 192.168.18.10: icmp 3/1 about \
         192.168.18.10:2001 > 192.168.18.58:80 ttl 64 ttl 64"
    );
    assert_eq!(lab.entries().len(), 1);
    for route in [Route::Local, Route::Elsewhere] {
        lab.set_route("192.168.2.0", 24, route);
        assert!(lab.front(&tcp(CLIENT, VIP, "S")).starts_with("drop no_route; "));
    }
    lab.set_route("192.168.2.0", 24, Route::Link { port: BACK });
    assert_eq!(lab.front(&tcp(CLIENT, VIP, "A")), TO_SERVER);
    // To the client: the packet learns that before the entry learns of the packet.
    lab.set_route("192.168.18.0", 24, Route::Elsewhere);
    let before = lab.entries();
    let told = |code| {
        format!(
            "drop no_route; back 192.168.2.90 > 192.168.2.73: icmp 3/{code} about \
             192.168.2.73:80 > 192.168.18.10:2001 ttl 64 ttl 64"
        )
    };
    assert_eq!(lab.back(&tcp(SERVERS[2], CLIENT, "FA")), told(1));
    lab.network.fib = std::sync::Arc::default();
    lab.set_route("192.168.2.0", 24, Route::Link { port: BACK });
    assert_eq!(lab.back(&tcp(SERVERS[2], CLIENT, "FA")), told(0), "and no default route either");
    // Nobody is told whom no route leads to.
    lab.network.fib = std::sync::Arc::default();
    lab.renew_network();
    assert_eq!(lab.back(&tcp(SERVERS[2], CLIENT, "FA")), "drop no_route");
    assert_eq!(lab.entries(), before);
}

#[test]
fn ip_forward_off() {
    let mut lab = open();
    lab.network.ip_forward = false;
    lab.renew_network();
    assert_eq!(lab.front(&tcp(CLIENT, VIP, "A")), TO_SERVER, "to the server it still works");
    let before = lab.entries();
    assert_eq!(lab.back(&tcp(SERVERS[2], CLIENT, "FA")), "drop forwarding_off");
    assert_eq!(lab.entries(), before);
    assert_eq!(lab.back(&tcp(SERVERS[1], CLIENT, "FA")), "kernel", "whatever it does with it");
}

#[test]
fn a_port_that_is_down() {
    let mut lab = open();
    lab.network.ports[1].up = false;
    lab.renew_network();
    assert_eq!(lab.front(&tcp(CLIENT, VIP, "A")), "drop port_down");
    // A port that is not in the configuration (yet).
    let frame = tcp(CLIENT, VIP, "A").frame(Mac::default(), PORT_MACS[0]);
    let (verdicts, _, _) = lab.process(0, 7, vec![frame.clone(), frame]);
    assert_eq!(verdicts, [Verdict::Drop(Reason::PortDown); 2]);
}

#[test]
fn one_port_for_both_sides() {
    let mut lab = Lab::empty(100, 1);
    lab.set_neighbour(FRONT, "192.168.18.71", true);
    lab.serve(tcp_key(VIP), &["192.168.18.71:80"]);
    assert_eq!(lab.front(&tcp(CLIENT, VIP, "S")), "front 192.168.18.10:2001 > 192.168.18.71:80 S");
    assert_eq!(
        lab.front(&tcp("192.168.18.71:80", CLIENT, "SA")),
        "front 192.168.18.58:80 > 192.168.18.10:2001 SA"
    );
}

#[test]
fn a_client_behind_a_router() {
    let mut lab = Lab::new();
    let client = "203.0.113.5:1000";
    assert_eq!(lab.front(&tcp(client, VIP, "S")), "back 203.0.113.5:1000 > 192.168.2.73:80 S");
    assert_eq!(
        lab.back(&tcp(SERVERS[2], client, "SA")),
        "front 192.168.18.58:80 > 203.0.113.5:1000 SA via 192.168.18.1"
    );
}

#[test]
fn addresses_come_and_go() {
    let mut lab = Lab::new();
    let vip = "10.9.8.7:80";
    lab.serve(tcp_key(vip), &SERVERS[..1]);
    assert_eq!(lab.front(&tcp(CLIENT, vip, "S")), "kernel");
    lab.network.local.push(ip("10.9.8.7"));
    lab.renew_network();
    assert_eq!(lab.front(&tcp(CLIENT, vip, "S")), "back 192.168.18.10:2001 > 192.168.2.71:80 S");
}
