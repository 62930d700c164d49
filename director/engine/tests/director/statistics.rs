//! What is counted: connections, packets and bytes of services and servers, as IPVS counts them.

use director_engine::servers::Traffic;

use crate::lab::{CLIENT, Lab, SERVERS, VIP, tcp_key};
use crate::packet::tcp;

#[test]
fn as_ipvs_counts() {
    let mut lab = Lab::new();
    lab.front(&tcp(CLIENT, VIP, "S"));
    let bare = Traffic { connections: 1, in_packets: 1, in_bytes: 40, ..Traffic::default() };
    assert_eq!(lab.traffic(tcp_key(VIP), SERVERS[2]), bare, "a bare SYN is 40 bytes");
    lab.back(&tcp(SERVERS[2], CLIENT, "SA").length(60));
    lab.front(&tcp(CLIENT, VIP, "S"));
    lab.front(&tcp(CLIENT, VIP, "PA").length(1000));
    let whole = Traffic { connections: 1, in_packets: 3, in_bytes: 1080, out_packets: 1, out_bytes: 60 };
    assert_eq!(lab.traffic(tcp_key(VIP), SERVERS[2]), whole);
    // What is refused on its way to the server has been counted, as IPVS does it; what is refused on its
    // way from the server, or finds no entry, has not.
    lab.front(&tcp(CLIENT, VIP, "A").ttl(1));
    lab.back(&tcp(SERVERS[2], CLIENT, "A").ttl(1));
    lab.back(&tcp(SERVERS[1], CLIENT, "A"));
    let whole = Traffic { in_packets: 4, in_bytes: 1120, ..whole };
    assert_eq!(lab.traffic(tcp_key(VIP), SERVERS[2]), whole);
    assert_eq!(lab.total(tcp_key(VIP)), whole);
    assert_eq!(lab.control.catalog.total().0, whole);
    assert_eq!(lab.traffic(tcp_key(VIP), SERVERS[1]), Traffic::default());
}

#[test]
fn zero_is_zero_at_once() {
    let mut lab = Lab::new();
    lab.serve(tcp_key("192.168.18.59:80"), &SERVERS[..1]);
    lab.front(&tcp(CLIENT, VIP, "S"));
    lab.front(&tcp(CLIENT, "192.168.18.59:80", "S"));
    lab.control.catalog.zero(tcp_key(VIP)).unwrap();
    assert_eq!(lab.total(tcp_key(VIP)), Traffic::default());
    assert_eq!(lab.traffic(tcp_key(VIP), SERVERS[2]), Traffic::default());
    assert_eq!(lab.total(tcp_key("192.168.18.59:80")).connections, 1);
    assert_eq!(lab.control.catalog.total().0.connections, 2);
    lab.front(&tcp(CLIENT, VIP, "A"));
    assert_eq!(lab.total(tcp_key(VIP)).in_packets, 1);
    lab.control.catalog.zero_all();
    assert_eq!(lab.total(tcp_key("192.168.18.59:80")), Traffic::default());
    assert_eq!(lab.control.catalog.total().0, Traffic::default());
    assert_eq!(lab.load(tcp_key(VIP), SERVERS[2]), (1, 0), "connections are no counter");
}

#[test]
fn counters_outlive_the_connections_of_a_deleted_server_by_two_minutes() {
    let mut lab = Lab::new();
    lab.front(&tcp(CLIENT, VIP, "S"));
    lab.delete_server(VIP, SERVERS[2]);
    lab.pass(1_000);
    lab.add_server(VIP, SERVERS[2], crate::lab::weight(1));
    assert_eq!(lab.traffic(tcp_key(VIP), SERVERS[2]).connections, 1);
    lab.delete_server(VIP, SERVERS[2]);
    lab.pass(170_000);
    lab.add_server(VIP, SERVERS[2], crate::lab::weight(1));
    assert_eq!(lab.traffic(tcp_key(VIP), SERVERS[2]).connections, 1);
    lab.delete_server(VIP, SERVERS[2]);
    lab.pass(122_000);
    lab.add_server(VIP, SERVERS[2], crate::lab::weight(1));
    assert_eq!(lab.traffic(tcp_key(VIP), SERVERS[2]), Traffic::default());
    assert_eq!(lab.total(tcp_key(VIP)).connections, 1, "the service has seen it");
}

#[test]
fn a_slot_used_again_belongs_to_its_server_alone() {
    let mut lab = Lab::new();
    // Many more servers, one after the other, than would be without reuse; each with a connection.
    for round in 0..20_u32 {
        lab.delete_server(VIP, SERVERS[2]);
        lab.pass(182_000);
        lab.add_server(VIP, SERVERS[2], crate::lab::weight(1));
        lab.set_server(VIP, SERVERS[0], crate::lab::weight(0));
        lab.set_server(VIP, SERVERS[1], crate::lab::weight(0));
        assert_eq!(
            crate::lab::served(&lab.front(&tcp(&format!("192.168.18.10:{}", 100 + round), VIP, "S"))),
            73
        );
        assert_eq!(lab.load(tcp_key(VIP), SERVERS[2]), (1, 0));
        assert_eq!(lab.traffic(tcp_key(VIP), SERVERS[2]).in_packets, 1);
    }
    let slots: Vec<_> = lab.control.catalog.service(tcp_key(VIP)).unwrap().slots().collect();
    assert!(slots.iter().all(|slot| *slot < 8), "{slots:?}");
    assert_eq!(lab.total(tcp_key(VIP)).connections, 20);
}

#[test]
fn rates_follow() {
    let mut lab = Lab::new();
    for interval in 0..6 {
        for n in 0..20 {
            lab.front(&tcp(&format!("192.168.18.10:{}", 1 + interval * 20 + n), VIP, "S"));
        }
        lab.control.catalog.begin_estimate();
        while lab.control.catalog.estimate(1) {}
    }
    let catalog = &lab.control.catalog;
    let service = catalog.service(tcp_key(VIP)).unwrap();
    assert_eq!(catalog.statistics(service).1.connections, 8);
    assert_eq!(catalog.total().1.in_packets, 8);
    lab.control.catalog.zero(tcp_key(VIP)).unwrap();
    let catalog = &lab.control.catalog;
    assert_eq!(catalog.statistics(catalog.service(tcp_key(VIP)).unwrap()).1.connections, 0);
}
