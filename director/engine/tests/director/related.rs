//! ICMP errors about packets of connections, translated both ways.

use director_engine::service::Protocol;

use crate::lab::{BACK, CLIENT, FRONT, Lab, PORT_MACS, SERVERS, VIP, key, tcp_key};
use crate::packet::{icmp, tcp, udp};

const UDP_VIP: &str = "192.168.18.58:53";
const UDP_SERVER: &str = "192.168.2.71:5353";

fn lab() -> Lab {
    let mut lab = Lab::empty(100, 1);
    lab.serve(tcp_key(VIP), &["192.168.2.71:8080"]);
    lab.serve(key(director_engine::service::Protocol::Udp, UDP_VIP), &[UDP_SERVER]);
    lab.front(&tcp(CLIENT, VIP, "S"));
    lab.front(&udp(CLIENT, UDP_VIP));
    lab
}

/// An error from behind about a client's packet as the server got it.
fn from_server(source: &str, kind: u8, code: u8, rest: [u8; 4], quoted: &[u8]) -> Vec<u8> {
    icmp(source, "192.168.18.10", kind, code, rest, quoted, PORT_MACS[1])
}

#[test]
fn from_the_servers_side() {
    let mut lab = lab();
    let quoted = tcp(CLIENT, "192.168.2.71:8080", "S").ttl(62).bytes();
    let before = lab.entries();
    for (source, kind, code, rest, shown) in [
        ("192.168.2.71", 3, 3, [0; 4], "3/3"),
        ("192.168.2.71", 3, 13, [0; 4], "3/13"),
        ("192.168.2.1", 3, 4, [0, 0, 5, 0], "3/4 mtu 1280"),
        ("192.168.2.1", 11, 0, [0; 4], "11/0"),
        ("192.168.2.71", 4, 0, [0; 4], "4/0"),
    ] {
        assert_eq!(
            lab.one(BACK, from_server(source, kind, code, rest, &quoted)),
            format!(
                "front 192.168.18.58 > 192.168.18.10: icmp {shown} about \
                 192.168.18.10:2001 > 192.168.18.58:80 ttl 62 wrong checksum"
            )
        );
    }
    assert_eq!(lab.entries(), before, "neither state nor timer");
    let traffic = lab.traffic(tcp_key(VIP), "192.168.2.71:8080");
    assert_eq!((traffic.out_packets, traffic.out_bytes), (5, 5 * 68));
    // Of UDP, with or without a checksum.
    for (quoted, sum) in
        [(udp(CLIENT, UDP_SERVER), " wrong checksum"), (udp(CLIENT, UDP_SERVER).without_checksum(), "")]
    {
        assert_eq!(
            lab.one(BACK, from_server("192.168.2.71", 3, 3, [0; 4], &quoted.bytes())),
            format!(
                "front 192.168.18.58 > 192.168.18.10: icmp 3/3 about \
                 192.168.18.10:2001 > 192.168.18.58:53 ttl 64{sum}"
            )
        );
    }
}

#[test]
fn from_the_clients_side() {
    let mut lab = lab();
    for (quoted, server) in [
        (tcp(VIP, CLIENT, "SA").ttl(60).bytes(), "192.168.2.71:8080"),
        (udp(UDP_VIP, CLIENT).ttl(60).payload(b"odd").bytes(), "192.168.2.71:5353"),
    ] {
        for source in ["192.168.18.10", "203.0.113.77"] {
            let error = icmp(source, "192.168.18.58", 3, 4, [0, 0, 5, 120], &quoted, PORT_MACS[0]);
            assert_eq!(
                lab.one(FRONT, error),
                format!(
                    "back {source} > 192.168.2.71: icmp 3/4 mtu 1400 about \
                     {server} > 192.168.18.10:2001 ttl 60 wrong checksum"
                )
            );
        }
    }
    let traffic = lab.traffic(tcp_key(VIP), "192.168.2.71:8080");
    assert_eq!((traffic.in_packets, traffic.in_bytes), (3, 40 + 2 * 68));
}

#[test]
fn with_as_little_as_must_be_quoted() {
    let mut lab = lab();
    for length in [24, 25, 28, 29, 37, 38, 39, 40] {
        let quoted = &tcp(CLIENT, "192.168.2.71:8080", "S").length(100).bytes()[..length];
        assert_eq!(
            lab.one(BACK, from_server("192.168.2.71", 3, 1, [0; 4], quoted)),
            "front 192.168.18.58 > 192.168.18.10: icmp 3/1 about \
             192.168.18.10:2001 > 192.168.18.58:80 ttl 64",
            "{length}"
        );
    }
    for length in [0, 19, 20, 23] {
        let quoted = &tcp(CLIENT, "192.168.2.71:8080", "S").bytes()[..length];
        assert_eq!(lab.one(BACK, from_server("192.168.2.71", 3, 1, [0; 4], quoted)), "kernel", "{length}");
    }
}

#[test]
fn what_is_left_to_the_kernel() {
    let mut lab = lab();
    let quoted = tcp(CLIENT, "192.168.2.71:8080", "S").bytes();
    for kind in [0, 5, 8, 12, 13] {
        assert_eq!(lab.one(BACK, from_server("192.168.2.71", kind, 0, [0; 4], &quoted)), "kernel");
    }
    for unknown in [
        tcp(CLIENT, SERVERS[1], "S"),
        tcp("192.168.18.10:7", "192.168.2.71:8080", "S"),
        udp(CLIENT, "192.168.2.71:8080"),
    ] {
        let error = from_server("192.168.2.71", 3, 3, [0; 4], &unknown.bytes());
        assert_eq!(lab.one(BACK, error), "kernel");
        // schedule_icmp is 0: an unknown flow is none of the services'.
        let error = icmp("192.168.18.10", "192.168.18.58", 3, 3, [0; 4], &unknown.bytes(), PORT_MACS[0]);
        assert_eq!(lab.one(FRONT, error), "kernel");
    }
    // Not to the client whose packet it quotes: it is translated all the same, and goes where it is to go.
    let astray = icmp("192.168.2.71", "192.168.18.11", 3, 3, [0; 4], &quoted, PORT_MACS[1]);
    assert!(lab.one(BACK, astray).starts_with("front 192.168.18.58 > 192.168.18.11: icmp 3/3 about"));
    // A later fragment is quoted: whose it is cannot be told.
    let later = tcp(CLIENT, "192.168.2.71:8080", "S").ip(|ip| ip.fragment_offset = 9.try_into().unwrap());
    assert_eq!(lab.one(BACK, from_server("192.168.2.71", 3, 3, [0; 4], &later.bytes())), "kernel");
    // Without any service all is off.
    lab.control.flush();
    assert_eq!(lab.one(BACK, from_server("192.168.2.71", 3, 3, [0; 4], &quoted)), "kernel");
}

/// `schedule_icmp`: a client's error about a connection nobody knows makes an entry without a state.
#[test]
fn an_error_may_begin_an_entry() {
    let mut lab = lab();
    lab.sysctl(|sysctls| sysctls.schedule_icmp = true);
    let client = "192.168.18.11:7";
    let error = |from: &str, quoted: &[u8]| icmp("192.168.18.11", from, 3, 3, [0; 4], quoted, PORT_MACS[0]);
    for (protocol, vip, server) in
        [(Protocol::Tcp, VIP, "192.168.2.71:8080"), (Protocol::Udp, UDP_VIP, "192.168.2.71:5353")]
    {
        let quoted = if vip == VIP { tcp(vip, client, "SA").bytes() } else { udp(vip, client).bytes() };
        assert_eq!(
            lab.one(FRONT, error("192.168.18.58", &quoted)),
            format!(
                "back 192.168.18.11 > 192.168.2.71: icmp 3/3 about {server} > {client} ttl 64 wrong checksum"
            )
        );
        // Of UDP there is but one to be shown.
        let state = if protocol == Protocol::Udp { "UDP" } else { "NONE" };
        let entry = format!("00:02 {state} {client} {vip} {server}");
        assert!(lab.entries().contains(&entry), "{:?}", lab.entries());
        let traffic = lab.traffic(key(protocol, vip), server);
        // The connection of `lab` came before it.
        assert_eq!((traffic.connections, traffic.in_packets), (2, 2));
    }
    lab.pass(3_700);
    assert!(!lab.entries().iter().any(|entry| entry.contains(client)), "3 seconds");

    // Whose error is wrong, or quotes no service, or no client; or where there is no server.
    let quoted = tcp(VIP, client, "SA").bytes();
    let mut wrong = error("192.168.18.58", &quoted);
    wrong[38] ^= 1;
    assert_eq!(lab.one(FRONT, wrong), "drop icmp_checksum");
    assert!(lab.entries().iter().any(|entry| entry.contains(client)), "as in Linux, an entry is made");
    lab.pass(3_700);
    let other = tcp("192.168.18.58:81", client, "SA").bytes();
    assert_eq!(lab.one(FRONT, error("192.168.18.58", &other)), "kernel");
    for own in ["192.168.18.59:7", "127.0.0.1:7", "224.0.0.1:7"] {
        let martian = tcp(VIP, own, "SA").bytes();
        assert_eq!(lab.one(FRONT, error("192.168.18.58", &martian)), "drop martian_source", "{own}");
    }
    lab.sysctl(|sysctls| (sysctls.drop_packet, sysctls.am_droprate) = (3, 1));
    assert_eq!(lab.one(FRONT, error("192.168.18.58", &quoted)), "drop drop_packet");
    lab.sysctl(|sysctls| sysctls.drop_packet = 0);
    lab.set_server(VIP, "192.168.2.71:8080", crate::lab::weight(0));
    assert_eq!(lab.one(FRONT, error("192.168.18.58", &quoted)), "drop no_server", "and nobody is told");
    // A server's never does.
    let from_server =
        from_server("192.168.2.71", 3, 3, [0; 4], &tcp(client, "192.168.2.71:8080", "S").bytes());
    assert_eq!(lab.one(BACK, from_server), "kernel");
}

#[test]
fn what_is_dropped() {
    let mut lab = lab();
    let quoted = tcp(CLIENT, "192.168.2.71:8080", "S").bytes();
    let mut wrong = from_server("192.168.2.71", 3, 3, [0; 4], &quoted);
    wrong[38] ^= 1;
    assert_eq!(lab.one(BACK, wrong), "drop icmp_checksum");
    let error = from_server("192.168.2.71", 3, 3, [0; 4], &quoted);
    lab.network.ports[0].mtu = 60;
    lab.renew_network();
    assert_eq!(lab.one(BACK, error.clone()), "drop too_big", "it says that it must not be cut");
    lab.network.ip_forward = false;
    lab.renew_network();
    assert_eq!(lab.one(BACK, error), "drop forwarding_off");
    assert_eq!(lab.traffic(tcp_key(VIP), "192.168.2.71:8080").out_packets, 0);
}
