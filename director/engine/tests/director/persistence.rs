//! Persistent services: a client's connections go to one server for a time.

use director_engine::control::{Connection, Kind};
use director_engine::service::{Engine, Persistence, Protocol, ServerSpec, ServiceKey, ServiceSpec};

use crate::lab::{CLIENT, Lab, RR, SERVERS, VIP, key, served, tcp_key, weight};
use crate::packet::{tcp, udp};

const ALL_PORTS: &str = "192.168.18.58:0";

const fn persistent(timeout: u32) -> ServiceSpec {
    ServiceSpec { persistence: Some(Persistence { timeout, netmask: u32::MAX }), ..RR }
}

/// A director with a service on [`VIP`] that keeps clients for so many seconds.
fn lab(timeout: u32) -> Lab {
    let mut lab = Lab::empty(1000, 1);
    lab.serve_as(tcp_key(VIP), persistent(timeout), &SERVERS);
    lab
}

/// The servers that connections from these ports go to.
fn from_ports(lab: &mut Lab, host: &str, ports: std::ops::Range<u16>) -> Vec<u32> {
    ports.map(|port| served(&lab.front(&tcp(&format!("{host}:{port}"), VIP, "S")))).collect()
}

/// The templates, as `ipvsadm -Lnc` lists them, sorted.
fn templates(lab: &mut Lab) -> Vec<String> {
    let mut templates = Vec::new();
    lab.each_entry(|connection| {
        if let Connection { kind: Kind::Template { .. }, client, service, server, seconds, .. } = connection {
            let (minutes, seconds) = (seconds / 60, seconds % 60);
            let state = connection.state_name();
            templates.push(format!("{minutes:02}:{seconds:02} {state} {client} {service} {server}"));
        }
    });
    templates.sort();
    templates
}

/// The persistent connections of the servers .71, .72 and .73.
fn persist_conn(lab: &Lab, key: ServiceKey) -> Vec<u32> {
    let catalog = &lab.control.catalog;
    let mut rows: Vec<_> = catalog.servers(catalog.service(key).unwrap()).collect();
    rows.reverse();
    rows.iter().map(|row| row.load.persistent).collect()
}

#[test]
fn a_client_stays_with_its_server() {
    let mut lab = lab(360);
    assert_eq!(from_ports(&mut lab, "192.168.18.10", 1..5), [73, 73, 73, 73]);
    assert_eq!(from_ports(&mut lab, "192.168.18.11", 1..3), [72, 72]);
    assert_eq!(
        templates(&mut lab),
        [
            "05:59 NONE 192.168.18.10:0 192.168.18.58:80 192.168.2.73:80",
            "05:59 NONE 192.168.18.11:0 192.168.18.58:80 192.168.2.72:80",
        ]
    );
    assert_eq!(persist_conn(&lab, tcp_key(VIP)), [0, 1, 1]);
    assert_eq!(lab.load(tcp_key(VIP), SERVERS[2]), (4, 0), "a template is no connection");
    assert_eq!(lab.control.active(), 6);
    assert_eq!(lab.total(tcp_key(VIP)).connections, 6);
}

#[test]
fn an_established_connection_assures_the_template() {
    let mut lab = lab(360);
    lab.front(&tcp(CLIENT, VIP, "S"));
    lab.back(&tcp(SERVERS[2], CLIENT, "SA"));
    assert!(templates(&mut lab)[0].contains(" NONE "));
    lab.front(&tcp(CLIENT, VIP, "A"));
    assert!(templates(&mut lab)[0].contains(" ASSURED "));
    // And stays so.
    lab.front(&tcp(CLIENT, VIP, "R"));
    lab.pass(20_000);
    assert_eq!(lab.entries(), ["05:39 ASSURED 192.168.18.10:0 192.168.18.58:80 192.168.2.73:80"]);
}

#[test]
fn an_answer_assures_the_template_of_udp() {
    let mut lab = Lab::empty(100, 1);
    let vip = "192.168.18.58:53";
    lab.serve_as(key(Protocol::Udp, vip), persistent(60), &["192.168.2.71:53"]);
    lab.front(&udp(CLIENT, vip));
    lab.front(&udp(CLIENT, vip));
    // Refused before IPVS sees it, in the kernel.
    lab.back(&udp("192.168.2.71:53", CLIENT).length(1600));
    assert!(templates(&mut lab)[0].contains(" NONE "));
    lab.back(&udp("192.168.2.71:53", CLIENT).length(100));
    assert!(templates(&mut lab)[0].contains(" ASSURED "));
}

#[test]
fn each_new_connection_restarts_the_timer() {
    let mut lab = lab(100);
    lab.front(&tcp("192.168.18.10:1", VIP, "S"));
    lab.front(&tcp("192.168.18.10:1", VIP, "R"));
    lab.pass(50_000);
    assert!(templates(&mut lab)[0].starts_with("00:49"));
    lab.front(&tcp("192.168.18.10:2", VIP, "S"));
    assert!(templates(&mut lab)[0].starts_with("01:39"));
    // Packets of connections do not.
    lab.pass(10_000);
    lab.front(&tcp("192.168.18.10:2", VIP, "A"));
    lab.front(&tcp("192.168.18.10:2", VIP, "R"));
    assert!(templates(&mut lab)[0].starts_with("01:29"));
    lab.pass(89_000);
    assert_eq!(templates(&mut lab).len(), 1);
    lab.pass(2_000);
    assert_eq!(lab.entries(), [""; 0]);
    assert_eq!(persist_conn(&lab, tcp_key(VIP)), [0, 0, 0]);
    assert_eq!(from_ports(&mut lab, "192.168.18.10", 3..4), [72], "the client is a new one");
}

#[test]
fn a_template_with_connections_goes_on_for_a_minute_each() {
    let mut lab = lab(3);
    lab.front(&tcp(CLIENT, VIP, "S"));
    lab.pass(4_000);
    let listed = templates(&mut lab);
    assert_eq!(listed, ["00:58 NONE 192.168.18.10:0 192.168.18.58:80 192.168.2.73:80"], "as recorded");
    // The connection goes after 60 s, and its template when its own minute is over.
    lab.pass(57_500);
    assert_eq!(lab.control.active(), 0);
    assert_eq!(templates(&mut lab).len(), 1);
    lab.pass(3_000);
    assert_eq!(templates(&mut lab).len(), 0);
    // With a connection that lasts, as often as needed.
    let (client, server) = ("192.168.18.10:5", SERVERS[1]);
    lab.front(&tcp(client, VIP, "S"));
    lab.back(&tcp(server, client, "SA"));
    lab.front(&tcp(client, VIP, "A"));
    lab.pass(600_000);
    assert_eq!(templates(&mut lab).len(), 1);
    // A further connection starts the minute anew, as in the kernel.
    lab.front(&tcp("192.168.18.10:6", VIP, "S"));
    assert_eq!(templates(&mut lab), ["00:59 ASSURED 192.168.18.10:0 192.168.18.58:80 192.168.2.72:80"]);
}

#[test]
fn a_netmask_makes_a_network_one_client() {
    let mut lab = Lab::empty(100, 1);
    let persistence = Some(Persistence { timeout: 360, netmask: 0xffff_ff00 });
    lab.serve_as(tcp_key(VIP), ServiceSpec { persistence, ..RR }, &SERVERS);
    assert_eq!(from_ports(&mut lab, "192.168.18.10", 1..3), [73, 73]);
    assert_eq!(from_ports(&mut lab, "192.168.18.11", 1..3), [73, 73]);
    assert_eq!(from_ports(&mut lab, "10.1.1.1", 1..2), [72]);
    assert_eq!(
        templates(&mut lab),
        [
            "05:59 NONE 10.1.1.0:0 192.168.18.58:80 192.168.2.72:80",
            "05:59 NONE 192.168.18.0:0 192.168.18.58:80 192.168.2.73:80",
        ]
    );
}

#[test]
fn a_service_of_all_ports_has_one_template_for_them() {
    let mut lab = Lab::empty(100, 1);
    let servers = ["192.168.2.71:0", "192.168.2.72:0", "192.168.2.73:0"];
    lab.serve_as(tcp_key(ALL_PORTS), persistent(360), &servers);
    lab.serve(tcp_key(VIP), &["192.168.2.74:8080"]);
    assert_eq!(
        lab.front(&tcp(CLIENT, "192.168.18.58:443", "S")),
        "back 192.168.18.10:2001 > 192.168.2.73:443 S"
    );
    assert_eq!(
        lab.back(&tcp("192.168.2.73:443", CLIENT, "SA")),
        "front 192.168.18.58:443 > 192.168.18.10:2001 SA"
    );
    assert_eq!(
        lab.front(&tcp(CLIENT, "192.168.18.58:8443", "S")),
        "back 192.168.18.10:2001 > 192.168.2.73:8443 S"
    );
    // The service of the port itself comes first.
    assert_eq!(lab.front(&tcp(CLIENT, VIP, "S")), "back 192.168.18.10:2001 > 192.168.2.74:8080 S");
    assert_eq!(templates(&mut lab), ["05:59 NONE 192.168.18.10:0 192.168.18.58:0 192.168.2.73:0"]);
    // It has its own address and protocol only.
    assert_eq!(lab.front(&tcp(CLIENT, "192.168.18.59:443", "S")), "kernel");
    assert_eq!(lab.front(&udp(CLIENT, "192.168.18.58:443")), "kernel");
    // A segment that begins nothing is the kernel's.
    assert_eq!(lab.front(&tcp(CLIENT, "192.168.18.58:22", "A")), "kernel");
}

#[test]
fn ftp_keeps_control_and_data_together() {
    let mut lab = Lab::empty(100, 1);
    lab.serve_as(tcp_key("192.168.18.58:21"), persistent(360), &["192.168.2.71:21", "192.168.2.72:21"]);
    assert_eq!(served(&lab.front(&tcp(CLIENT, "192.168.18.58:21", "S"))), 72);
    assert_eq!(
        lab.front(&tcp("192.168.18.10:2002", "192.168.18.58:50000", "S")),
        "back 192.168.18.10:2002 > 192.168.2.72:50000 S"
    );
    assert_eq!(lab.front(&tcp("192.168.18.10:2002", "192.168.18.58:1023", "S")), "kernel");
    assert_eq!(templates(&mut lab), ["05:59 NONE 192.168.18.10:0 192.168.18.58:0 192.168.2.72:0"]);
}

#[test]
fn a_template_wins_over_the_weight_0() {
    let mut lab = lab(360);
    assert_eq!(from_ports(&mut lab, "192.168.18.10", 1..2), [73]);
    lab.set_server(VIP, SERVERS[2], weight(0));
    assert_eq!(from_ports(&mut lab, "192.168.18.10", 2..3), [73]);
    lab.sysctl(|sysctls| sysctls.expire_quiescent_template = true);
    assert_eq!(from_ports(&mut lab, "192.168.18.10", 3..5), [72, 72]);
    assert_eq!(
        templates(&mut lab),
        [
            "05:59 NONE 192.168.18.10:0 192.168.18.58:65535 192.168.2.73:65535",
            "05:59 NONE 192.168.18.10:0 192.168.18.58:80 192.168.2.72:80",
        ]
    );
    assert_eq!(persist_conn(&lab, tcp_key(VIP)), [0, 1, 1]);
}

#[test]
fn a_template_wins_over_an_overload() {
    let mut lab = lab(360);
    let full = ServerSpec { upper: 1, ..weight(1) };
    lab.set_server(VIP, SERVERS[2], full);
    assert_eq!(from_ports(&mut lab, "192.168.18.10", 1..4), [73, 73, 73]);
}

#[test]
fn a_deleted_server_ends_its_templates() {
    let mut lab = lab(360);
    assert_eq!(from_ports(&mut lab, "192.168.18.10", 1..2), [73]);
    lab.delete_server(VIP, SERVERS[2]);
    assert_eq!(from_ports(&mut lab, "192.168.18.10", 2..4), [72, 72]);
    let old = "05:59 NONE 192.168.18.10:0 192.168.18.58:65535 192.168.2.73:65535";
    assert_eq!(templates(&mut lab)[0], old);
    // The server comes back with the template, which is used no more.
    lab.add_server(VIP, SERVERS[2], weight(1));
    assert_eq!(from_ports(&mut lab, "192.168.18.10", 4..5), [72]);
    assert_eq!(persist_conn(&lab, tcp_key(VIP)), [0, 1, 1]);
    // Its time ends all the same: the connections of it have gone, and then the minute they gave it.
    lab.pass(422_000);
    assert_eq!(lab.entries(), [""; 0]);
    assert_eq!(persist_conn(&lab, tcp_key(VIP)), [0, 0, 0]);
}

#[test]
fn templates_outlive_their_service() {
    let mut lab = lab(360);
    assert_eq!(from_ports(&mut lab, "192.168.18.10", 1..2), [73]);
    assert_eq!(from_ports(&mut lab, "192.168.18.11", 1..2), [72]);
    lab.control.flush();
    lab.pass(100_000);
    assert_eq!(templates(&mut lab).len(), 2);
    lab.serve_as(tcp_key(VIP), persistent(360), &SERVERS);
    assert_eq!(persist_conn(&lab, tcp_key(VIP)), [0, 1, 1]);
    assert_eq!(from_ports(&mut lab, "192.168.18.11", 2..3), [72]);
    assert_eq!(from_ports(&mut lab, "192.168.18.10", 2..3), [73]);
}

#[test]
fn an_edit_applies_to_new_clients() {
    let mut lab = lab(360);
    assert_eq!(from_ports(&mut lab, "192.168.18.10", 1..2), [73]);
    lab.control.catalog.set_service(tcp_key(VIP), persistent(20)).unwrap();
    lab.control.publish();
    assert_eq!(from_ports(&mut lab, "192.168.18.10", 2..3), [73]);
    assert_eq!(from_ports(&mut lab, "192.168.18.11", 2..3), [72]);
    assert_eq!(
        templates(&mut lab),
        [
            "00:19 NONE 192.168.18.11:0 192.168.18.58:80 192.168.2.72:80",
            "05:59 NONE 192.168.18.10:0 192.168.18.58:80 192.168.2.73:80",
        ]
    );
    // Without persistence nobody asks the templates.
    lab.control.catalog.set_service(tcp_key(VIP), RR).unwrap();
    lab.control.publish();
    assert_eq!(from_ports(&mut lab, "192.168.18.10", 3..6), [71, 73, 72]);
}

#[test]
fn without_a_server_there_is_no_template() {
    let mut lab = Lab::empty(100, 1);
    lab.serve_as(tcp_key(VIP), persistent(360), &[]);
    assert!(lab.front(&tcp(CLIENT, VIP, "S")).starts_with("drop no_server; front "));
    assert_eq!(lab.entries(), [""; 0]);
}

#[test]
fn there_is_room_for_so_many() {
    let mut lab = Lab::with_templates(100, 1, 2);
    lab.serve_as(tcp_key(VIP), persistent(10), &SERVERS);
    for host in 1..=2 {
        assert_eq!(lab.front(&tcp(&format!("10.1.1.{host}:1"), VIP, "S")).split(' ').next(), Some("back"));
    }
    assert_eq!(lab.front(&tcp("10.1.1.3:1", VIP, "S")), "drop templates_full");
    assert_eq!(lab.load(tcp_key(VIP), SERVERS[0]), (0, 0));
    // Those who have one go on.
    assert_ne!(lab.front(&tcp("10.1.1.1:2", VIP, "S")), "drop templates_full");
    lab.pass(75_000);
    assert_eq!(served(&lab.front(&tcp("10.1.1.3:1", VIP, "S"))), 71);
}

/// What a server sends of its own belongs to a call; where there is no room for the call's template it is dropped, and
/// is no connection.
#[test]
fn a_call_of_a_server_without_room_for_it() {
    let mut lab = Lab::with_templates(1000, 1, 1);
    let (key, server) = (key(Protocol::Udp, "192.168.18.58:5060"), "192.168.2.71:5060");
    lab.serve_as(key, ServiceSpec { engine: Some(Engine::Sip), ..persistent(60) }, &[server]);
    let mut say = |client: &str, call: &str| {
        let text = format!("INVITE sip:b@h SIP/2.0\r\nCall-ID: {call}\r\n\r\n");
        let outcome = lab.back(&udp(server, client).payload(text.as_bytes()));
        (outcome, lab.total(key).connections)
    };
    assert_eq!(say("192.168.18.10:1", "a@h"), ("front 192.168.18.58:5060 > 192.168.18.10:1 UDP".into(), 1));
    assert_eq!(say("192.168.18.10:2", "b@h"), ("drop templates_full".into(), 1));
    assert_eq!(lab.control.active(), 1);
}

#[test]
fn without_persistence_a_service_of_all_ports_has_port_0() {
    let mut lab = Lab::empty(1000, 1);
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        let spec = ServiceSpec { one_packet: protocol == Protocol::Udp, ..RR };
        lab.serve_as(key(protocol, ALL_PORTS), spec, &["192.168.2.71:0"]);
    }
    let refused = |packet: &str| {
        format!("drop no_server; front 192.168.18.58 > 192.168.18.10: icmp 3/3 about {packet}")
    };
    let refusals = [lab.front(&tcp(CLIENT, VIP, "S")), lab.front(&udp(CLIENT, VIP))];
    for refusal in refusals {
        assert!(refusal.starts_with(&refused("192.168.18.10:")), "{refusal}");
    }
    // As without: what begins no connection is the kernel's.
    assert_eq!(lab.front(&tcp(CLIENT, VIP, "A")), "kernel");
    assert_eq!(served(&lab.front(&tcp(CLIENT, ALL_PORTS, "S"))), 71);
    assert_eq!(lab.entries().len(), 1);
}
