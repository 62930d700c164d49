//! Which server a connection goes to, and what becomes of it when servers and services change.

use director_engine::service::{Protocol, ServerSpec};

use crate::lab::{CLIENT, Lab, RR, SERVERS, VIP, key, point, served, tcp_key, weight};
use crate::packet::{tcp, udp};

const UDP_VIP: &str = "192.168.18.58:53";

/// The servers that so many new connections go to, by the last part of their addresses. `port` is that of
/// the first.
fn serve(lab: &mut Lab, port: u16, count: u16) -> Vec<u32> {
    (port..port + count)
        .map(|port| served(&lab.front(&tcp(&format!("192.168.18.10:{port}"), VIP, "S"))))
        .collect()
}

#[test]
fn a_connection_there_and_back() {
    let mut lab = Lab::new();
    assert_eq!(lab.front(&tcp(CLIENT, VIP, "S")), "back 192.168.18.10:2001 > 192.168.2.73:80 S");
    assert_eq!(
        lab.back(&tcp("192.168.2.73:80", CLIENT, "SA")),
        "front 192.168.18.58:80 > 192.168.18.10:2001 SA"
    );
    for _ in 0..10 {
        assert_eq!(lab.front(&tcp(CLIENT, VIP, "PA")), "back 192.168.18.10:2001 > 192.168.2.73:80 PA");
    }
    assert_eq!(lab.entries(), ["14:59 ESTABLISHED 192.168.18.10:2001 192.168.18.58:80 192.168.2.73:80"]);
}

#[test]
fn ports_are_translated_too() {
    let mut lab = Lab::empty(100, 1);
    lab.serve(tcp_key("192.168.18.58:8888"), &["192.168.2.71:9999"]);
    lab.serve(key(Protocol::Udp, UDP_VIP), &["192.168.2.72:5353"]);
    assert_eq!(
        lab.front(&tcp(CLIENT, "192.168.18.58:8888", "S")),
        "back 192.168.18.10:2001 > 192.168.2.71:9999 S"
    );
    assert_eq!(
        lab.back(&tcp("192.168.2.71:9999", CLIENT, "SA")),
        "front 192.168.18.58:8888 > 192.168.18.10:2001 SA"
    );
    assert_eq!(lab.front(&udp(CLIENT, UDP_VIP)), "back 192.168.18.10:2001 > 192.168.2.72:5353 UDP");
    assert_eq!(
        lab.back(&udp("192.168.2.72:5353", CLIENT)),
        "front 192.168.18.58:53 > 192.168.18.10:2001 UDP"
    );
}

#[test]
fn newest_server_first_as_recorded() {
    let mut lab = Lab::new();
    assert_eq!(serve(&mut lab, 1, 9), [73, 72, 71, 73, 72, 71, 73, 72, 71]);
    lab.set_server(VIP, SERVERS[1], weight(0));
    assert_eq!(serve(&mut lab, 10, 4), [73, 71, 73, 71]);
    lab.add_server(VIP, "192.168.2.74:80", weight(1));
    assert_eq!(serve(&mut lab, 25, 5), [74, 73, 71, 74, 73]);
    // Weights above 0 are alike.
    lab.set_server(VIP, SERVERS[1], weight(5));
    assert_eq!(serve(&mut lab, 30, 4), [72, 71, 74, 73]);
    // A deleted one that was last served continues with its successor.
    lab.delete_server(VIP, SERVERS[2]);
    assert_eq!(serve(&mut lab, 40, 3), [72, 71, 74]);
    lab.delete_server(VIP, "192.168.2.74:80");
    assert_eq!(serve(&mut lab, 50, 3), [72, 71, 72]);
}

#[test]
fn weight_0_keeps_its_connections() {
    let mut lab = Lab::new();
    assert_eq!(serve(&mut lab, 1, 1), [73]);
    lab.set_server(VIP, SERVERS[2], weight(0));
    assert_eq!(served(&lab.front(&tcp("192.168.18.10:1", VIP, "A"))), 73);
    assert_eq!(serve(&mut lab, 2, 2), [72, 71]);
}

#[test]
fn no_server_is_port_unreachable() {
    let refused = |vip: &str| {
        let address = vip.split(':').next().unwrap();
        format!(
            "drop no_server; front {address} > 192.168.18.10: icmp 3/3 about 192.168.18.10:2001 > {vip} ttl 64 ttl 64"
        )
    };
    let mut lab = Lab::empty(100, 1);
    lab.serve(tcp_key(VIP), &[]);
    lab.serve(key(Protocol::Udp, UDP_VIP), &[]);
    lab.serve(tcp_key("192.168.18.59:80"), &[]);
    assert_eq!(lab.front(&tcp(CLIENT, VIP, "S")), refused(VIP));
    assert_eq!(lab.front(&udp(CLIENT, UDP_VIP)), refused(UDP_VIP));
    assert_eq!(lab.front(&tcp(CLIENT, "192.168.18.59:80", "S")), refused("192.168.18.59:80"));
    // What begins no connection is the host's to answer, with a RST.
    assert_eq!(lab.front(&tcp(CLIENT, VIP, "A")), "kernel");
    lab.add_server(VIP, SERVERS[0], weight(0));
    assert_eq!(lab.front(&tcp(CLIENT, VIP, "S")), refused(VIP));
    lab.set_server(VIP, SERVERS[0], ServerSpec { upper: 1, ..ServerSpec::default() });
    assert_eq!(served(&lab.front(&tcp("192.168.18.10:1", VIP, "S"))), 71);
    assert_eq!(lab.front(&tcp(CLIENT, VIP, "S")), refused(VIP));
    assert_eq!(lab.entries().len(), 1);
    assert_eq!(lab.total(tcp_key(VIP)).connections, 1, "what was refused counts nowhere");
}

#[test]
fn the_error_quotes_the_packet_as_it_came() {
    let mut lab = Lab::empty(100, 1);
    lab.serve(tcp_key(VIP), &[]);
    let packet = tcp(CLIENT, VIP, "S").ttl(9).length(1000).ip(|ip| ip.identification = 77);
    let frame = packet.frame(Default::default(), crate::lab::PORT_MACS[0]);
    let (verdicts, _, replies) = lab.process(0, crate::lab::FRONT, vec![frame.clone()]);
    assert_eq!(verdicts, [director_engine::Verdict::Drop(director_engine::Reason::NoServer)]);
    let [(crate::lab::FRONT, reply)] = &replies[..] else { panic!("{replies:?}") };
    assert_eq!((reply[15], reply[22], reply.len()), (0xc0, 64, 14 + 576), "TOS, TTL, length");
    assert_eq!(reply[14 + 28..], frame[14..14 + 548]);
}

#[test]
fn thresholds() {
    let mut lab = Lab::empty(100, 1);
    lab.serve(tcp_key(VIP), &[]);
    lab.add_server(VIP, SERVERS[0], ServerSpec { upper: 2, ..ServerSpec::default() });
    lab.add_server(VIP, SERVERS[1], ServerSpec { upper: 3, ..ServerSpec::default() });
    assert_eq!(serve(&mut lab, 1, 5), [72, 71, 72, 71, 72]);
    assert_eq!(served(&lab.front(&tcp(CLIENT, VIP, "S"))), 0);
    // Half-open connections last 60 s.
    lab.pass(61_200);
    assert_eq!(serve(&mut lab, 100, 2), [71, 72]);
}

/// First packets of TCP: which are scheduled, in which state.
#[test]
fn what_begins_a_connection() {
    for (flags, scheduled) in [
        ("S", true),
        ("SA", true),
        ("SF", true),
        ("SFPU", true),
        ("A", false),
        ("PA", false),
        ("FA", false),
        ("R", false),
        ("SR", false),
        ("-", false),
    ] {
        let mut lab = Lab::new();
        let outcome = lab.front(&tcp(CLIENT, VIP, flags));
        if scheduled {
            assert_eq!(served(&outcome), 73, "{flags}: {outcome}");
            assert_eq!(lab.entry(), (director_engine::state::State::SynRecv, 59), "{flags}");
        } else {
            assert_eq!((outcome.as_str(), lab.entries().len()), ("kernel", 0), "{flags}");
        }
    }
}

#[test]
fn sloppy_tcp() {
    use director_engine::state::State::{Close, Established};
    for (flags, state) in [
        ("A", Some((Established, 899))),
        ("PA", Some((Established, 899))),
        ("FA", Some((Close, 9))),
        ("RA", None),
    ] {
        let mut lab = Lab::new();
        lab.sysctl(|sysctls| sysctls.sloppy_tcp = true);
        let outcome = lab.front(&tcp(CLIENT, VIP, flags));
        match state {
            Some(state) => assert_eq!((served(&outcome), lab.entry()), (73, state), "{flags}"),
            None => assert_eq!((outcome.as_str(), lab.entries().len()), ("kernel", 0), "{flags}"),
        }
    }
}

#[test]
fn odd_client_ports() {
    let mut lab = Lab::new();
    assert_eq!(lab.front(&tcp("192.168.18.10:0", VIP, "S")), "back 192.168.18.10:0 > 192.168.2.73:80 S");
    assert_eq!(lab.front(&tcp(CLIENT, "192.168.18.58:0", "S")), "kernel");
    assert_eq!(
        lab.front(&tcp("192.168.18.10:65535", VIP, "S")),
        "back 192.168.18.10:65535 > 192.168.2.72:80 S"
    );
}

#[test]
fn a_deleted_server_keeps_its_connections_silent() {
    let mut lab = Lab::new();
    lab.front(&tcp(CLIENT, VIP, "S"));
    lab.back(&tcp(SERVERS[2], CLIENT, "SA"));
    lab.front(&tcp(CLIENT, VIP, "A"));
    lab.delete_server(VIP, SERVERS[2]);
    lab.pass(10_000);
    for flags in ["A", "PA", "S", "FA", "R"] {
        assert_eq!(lab.front(&tcp(CLIENT, VIP, flags)), "drop server_gone", "{flags}");
    }
    assert_eq!(lab.entry().1, 889, "the client's packets do not restart the timer");
    assert_eq!(
        lab.back(&tcp(SERVERS[2], CLIENT, "PA")),
        "front 192.168.18.58:80 > 192.168.18.10:2001 PA",
        "the server's are translated"
    );
    assert_eq!(lab.entry().1, 899, "and do");
    // Others are scheduled among those that are left.
    assert_eq!(serve(&mut lab, 1, 3), [72, 71, 72]);
    // Added again, it has its connections back, with their counts.
    lab.add_server(VIP, SERVERS[2], weight(1));
    assert_eq!(lab.load(tcp_key(VIP), SERVERS[2]), (1, 0));
    assert_eq!(lab.traffic(tcp_key(VIP), SERVERS[2]).connections, 1);
    assert_eq!(lab.front(&tcp(CLIENT, VIP, "PA")), "back 192.168.18.10:2001 > 192.168.2.73:80 PA");
}

#[test]
fn expire_nodest_conn_ends_them() {
    let mut lab = Lab::new();
    lab.sysctl(|sysctls| sysctls.expire_nodest_conn = true);
    assert_eq!(serve(&mut lab, 1, 3), [73, 72, 71]);
    lab.delete_server(VIP, SERVERS[2]);
    lab.poll();
    assert_eq!(lab.entries().len(), 2, "gone with the server");
    assert_eq!(lab.front(&tcp("192.168.18.10:1", VIP, "A")), "kernel");
    assert_eq!(serve(&mut lab, 1, 1), [72]);
    // A worker may be faster than the control core.
    lab.control.catalog.delete_server(tcp_key(VIP), point(SERVERS[1])).unwrap();
    lab.control.publish();
    assert_eq!(lab.front(&tcp("192.168.18.10:2", VIP, "A")), "kernel");
    assert_eq!(serve(&mut lab, 1, 1), [71]);
    lab.control.purge();
    lab.poll();
    assert_eq!(lab.entries().len(), 2);
    assert_eq!(lab.load(tcp_key(VIP), SERVERS[0]), (2, 0));
}

/// More than are looked at in one turn; in each turn another server is deleted.
#[test]
fn expire_nodest_conn_ends_the_last_of_many_among_other_deletions() {
    let mut lab = Lab::empty(25_000, 1);
    lab.serve(tcp_key(VIP), &SERVERS[..1]);
    lab.sysctl(|sysctls| sysctls.expire_nodest_conn = true);
    for port in 1..=21_000 {
        lab.front(&tcp(&format!("192.168.18.10:{port}"), VIP, "S"));
    }
    lab.delete_server(VIP, SERVERS[0]);
    for _ in 0..5 {
        lab.add_server(VIP, SERVERS[1], weight(1));
        lab.delete_server(VIP, SERVERS[1]);
        lab.poll();
    }
    assert_eq!(lab.control.active(), 0);
}

#[test]
fn under_expire_nodest_conn_a_syn_leaves_a_quiesced_server() {
    let mut lab = Lab::new();
    lab.front(&tcp(CLIENT, VIP, "S"));
    lab.back(&tcp(SERVERS[2], CLIENT, "SA"));
    lab.front(&tcp(CLIENT, VIP, "A"));
    lab.set_server(VIP, SERVERS[2], weight(0));
    assert_eq!(served(&lab.front(&tcp(CLIENT, VIP, "S"))), 73);
    lab.sysctl(|sysctls| sysctls.expire_nodest_conn = true);
    assert_eq!(served(&lab.front(&tcp(CLIENT, VIP, "A"))), 73);
    assert_eq!(served(&lab.front(&tcp(CLIENT, VIP, "S"))), 72);
}

#[test]
fn deleting_the_last_service_switches_off() {
    let mut lab = Lab::new();
    lab.serve(tcp_key("192.168.18.58:81"), &[]);
    lab.front(&tcp(CLIENT, VIP, "S"));
    lab.delete_service(VIP);
    // With any service left, the servers of the deleted one are deleted servers.
    assert_eq!(lab.front(&tcp(CLIENT, VIP, "A")), "drop server_gone");
    assert_eq!(lab.back(&tcp(SERVERS[2], CLIENT, "SA")), "front 192.168.18.58:80 > 192.168.18.10:2001 SA");
    lab.delete_service("192.168.18.58:81");
    assert_eq!(lab.front(&tcp(CLIENT, VIP, "A")), "kernel");
    assert_eq!(lab.front(&tcp(CLIENT, VIP, "S")), "kernel");
    assert_eq!(lab.back(&tcp(SERVERS[2], CLIENT, "SA")), "kernel");
    assert_eq!(lab.entries().len(), 1, "still listed");
    // The same service with the same servers: its connections go on.
    lab.serve(tcp_key(VIP), &SERVERS);
    assert_eq!(lab.front(&tcp(CLIENT, VIP, "A")), "back 192.168.18.10:2001 > 192.168.2.73:80 A");
}

#[test]
fn an_address_that_is_not_the_directors_is_not_balanced() {
    let mut lab = Lab::new();
    lab.serve(tcp_key("192.168.18.60:80"), &SERVERS);
    assert_eq!(lab.front(&tcp(CLIENT, "192.168.18.60:80", "S")), "kernel");
    // Nor is one that is no longer; the server's packets are translated all the same.
    lab.front(&tcp(CLIENT, VIP, "S"));
    lab.network.local.retain(|address| *address != crate::lab::ip("192.168.18.58"));
    lab.renew_network();
    assert_eq!(lab.front(&tcp(CLIENT, VIP, "A")), "kernel");
    assert_eq!(lab.back(&tcp(SERVERS[2], CLIENT, "SA")), "front 192.168.18.58:80 > 192.168.18.10:2001 SA");
}

#[test]
fn two_services_on_one_server_the_newest_connection_gets_the_reply() {
    let mut lab = Lab::empty(100, 1);
    let other = "192.168.18.59:80";
    lab.serve(tcp_key(VIP), &SERVERS[..1]);
    lab.serve(tcp_key(other), &SERVERS[..1]);
    for (first, second) in [(VIP, other), (other, VIP)] {
        let client = if first == VIP { CLIENT } else { "192.168.18.11:7" };
        for vip in [first, second] {
            lab.front(&tcp(client, vip, "S"));
            let reply = lab.back(&tcp(SERVERS[0], client, "SA"));
            assert_eq!(reply, format!("front {vip} > {client} SA"));
        }
        // The client's packets are told apart.
        for vip in [first, second] {
            assert_eq!(lab.front(&tcp(client, vip, "A")), format!("back {client} > {} A", SERVERS[0]));
        }
    }
    assert_eq!(lab.entries().len(), 4);
}

#[test]
fn the_servers_own_address_is_plainly_routed() {
    let mut lab = Lab::new();
    assert_eq!(lab.front(&tcp(CLIENT, SERVERS[2], "S")), "kernel");
    assert_eq!(lab.back(&tcp(SERVERS[2], CLIENT, "SA")), "kernel");
    // But if that client end has an entry to it, the reply is translated.
    lab.front(&tcp(CLIENT, VIP, "S"));
    assert_eq!(lab.front(&tcp(CLIENT, SERVERS[2], "A")), "kernel");
    assert_eq!(lab.back(&tcp(SERVERS[2], CLIENT, "A")), "front 192.168.18.58:80 > 192.168.18.10:2001 A");
}

#[test]
fn a_server_that_is_its_own_client_meets_itself() {
    let mut lab = Lab::empty(100, 1);
    lab.serve(tcp_key(VIP), &SERVERS[..1]);
    assert_eq!(lab.back(&tcp("192.168.2.71:40001", VIP, "S")), "back 192.168.2.71:40001 > 192.168.2.71:80 S");
}

#[test]
fn servers_packets_without_an_entry_are_the_kernels() {
    let mut lab = Lab::new();
    lab.front(&tcp(CLIENT, VIP, "S"));
    assert_eq!(lab.back(&tcp(SERVERS[0], CLIENT, "SA")), "kernel", "not the server of this connection");
    assert_eq!(lab.back(&tcp("192.168.2.73:81", CLIENT, "SA")), "kernel", "a wrong port");
    assert_eq!(lab.back(&tcp(SERVERS[2], "192.168.18.10:2002", "SA")), "kernel", "another client end");
    assert_eq!(lab.back(&udp(SERVERS[2], CLIENT)), "kernel", "another protocol");
    assert_eq!(lab.back(&tcp(SERVERS[2], "192.168.2.90:22", "S")), "kernel", "to the director itself");
    assert_eq!(lab.back(&tcp("192.168.2.71:5000", "8.8.8.8:443", "S")), "kernel", "its own connections");
}

#[test]
fn an_edited_service_keeps_its_connections() {
    let mut lab = Lab::new();
    assert_eq!(serve(&mut lab, 1, 2), [73, 72]);
    let edited = director_engine::service::ServiceSpec { flags: 8, ..RR };
    lab.control.catalog.set_service(tcp_key(VIP), edited).unwrap();
    lab.control.publish();
    assert_eq!(served(&lab.front(&tcp("192.168.18.10:1", VIP, "A"))), 73);
    assert_eq!(serve(&mut lab, 3, 1), [71], "and its round");
}

#[test]
fn packets_of_one_burst_are_one_connection() {
    let mut lab = Lab::new();
    lab.serve(key(Protocol::Udp, UDP_VIP), &["192.168.2.71:53", "192.168.2.72:53"]);
    let packets = [
        udp(CLIENT, UDP_VIP),
        udp(CLIENT, UDP_VIP),
        tcp(CLIENT, VIP, "S"),
        tcp(CLIENT, VIP, "S"),
        tcp(CLIENT, VIP, "A"),
        tcp("192.168.18.10:9", VIP, "A"),
    ];
    let frames = packets.iter().map(|packet| packet.frame(Default::default(), crate::lab::PORT_MACS[0]));
    let (outcomes, _) = lab.burst(0, crate::lab::FRONT, frames.collect());
    assert_eq!(
        outcomes,
        [
            "back 192.168.18.10:2001 > 192.168.2.72:53 UDP",
            "back 192.168.18.10:2001 > 192.168.2.72:53 UDP",
            "back 192.168.18.10:2001 > 192.168.2.73:80 S",
            "back 192.168.18.10:2001 > 192.168.2.73:80 S",
            "back 192.168.18.10:2001 > 192.168.2.73:80 A",
            "kernel",
        ]
    );
    assert_eq!(lab.entries().len(), 2);
}
