//! One-packet services: each UDP datagram is scheduled alone.

use director_engine::service::{Persistence, Protocol, ServerSpec, ServiceKey, ServiceSpec};

use crate::lab::{CLIENT, Lab, RR, key, point, served, weight};
use crate::packet::udp;

const VIP: &str = "192.168.18.58:53";
const SERVERS: [&str; 3] = ["192.168.2.71:5353", "192.168.2.72:5353", "192.168.2.73:5353"];

const OPS: ServiceSpec = ServiceSpec { one_packet: true, ..RR };

fn serve(lab: &mut Lab, vip: &str, spec: ServiceSpec, servers: &[&str]) -> ServiceKey {
    let key = key(Protocol::Udp, vip);
    lab.control.catalog.add_service(key, spec).unwrap();
    for server in servers {
        lab.control.catalog.add_server(key, point(server), ServerSpec::default()).unwrap();
    }
    lab.control.publish();
    key
}

fn lab() -> (Lab, ServiceKey) {
    let mut lab = Lab::empty(100, 1);
    let key = serve(&mut lab, VIP, OPS, &SERVERS);
    (lab, key)
}

#[test]
fn each_datagram_takes_its_turn() {
    let (mut lab, key) = lab();
    let servers: Vec<_> = (0..7).map(|_| served(&lab.front(&udp(CLIENT, VIP)))).collect();
    assert_eq!(servers, [73, 72, 71, 73, 72, 71, 73]);
    assert_eq!(lab.front(&udp(CLIENT, VIP)), "back 192.168.18.10:2001 > 192.168.2.72:5353 UDP");
    assert_eq!(lab.entries(), [""; 0]);
    let total = lab.total(key);
    assert_eq!((total.connections, total.in_packets, total.out_packets), (8, 8, 0));
    assert_eq!(lab.load(key, SERVERS[0]), (0, 0));
}

#[test]
fn a_reply_comes_from_the_service() {
    let (mut lab, key) = lab();
    for server in SERVERS {
        assert_eq!(lab.back(&udp(server, CLIENT)), "front 192.168.18.58:53 > 192.168.18.10:2001 UDP");
    }
    assert_eq!(lab.total(key).out_packets, 3);
    // From another port it is the server's own affair.
    assert_eq!(lab.back(&udp("192.168.2.71:5354", CLIENT)), "kernel");
    // What the kernel would not forward is not forwarded.
    let old = udp(SERVERS[0], CLIENT).ttl(1);
    assert!(lab.back(&old).starts_with("drop ttl_exceeded"));
    lab.network.ip_forward = false;
    lab.renew_network();
    assert_eq!(lab.back(&udp(SERVERS[0], CLIENT)), "drop forwarding_off");
}

#[test]
fn a_server_of_two_such_services_cannot_be_told_apart() {
    let (mut lab, key) = lab();
    let second = serve(&mut lab, "192.168.18.58:54", OPS, &SERVERS[..1]);
    assert_eq!(lab.back(&udp(SERVERS[0], CLIENT)), "kernel");
    assert!(lab.back(&udp(SERVERS[1], CLIENT)).starts_with("front 192.168.18.58:53 >"));
    lab.control.catalog.delete_service(key).unwrap();
    lab.control.publish();
    assert!(lab.back(&udp(SERVERS[0], CLIENT)).starts_with("front 192.168.18.58:54 >"));
    assert_eq!(lab.back(&udp(SERVERS[1], CLIENT)), "kernel");
    lab.control.catalog.set_service(second, RR).unwrap();
    lab.control.publish();
    assert_eq!(lab.back(&udp(SERVERS[0], CLIENT)), "kernel");
}

#[test]
fn an_entry_from_before_goes_on() {
    let mut lab = Lab::empty(100, 1);
    let key = serve(&mut lab, VIP, RR, &SERVERS);
    assert_eq!(served(&lab.front(&udp(CLIENT, VIP))), 73);
    lab.control.catalog.set_service(key, OPS).unwrap();
    lab.control.publish();
    assert_eq!(served(&lab.front(&udp(CLIENT, VIP))), 73);
    assert_eq!(served(&lab.front(&udp("192.168.18.10:2002", VIP))), 72);
    assert_eq!(lab.entries().len(), 1);
}

#[test]
fn without_a_server_the_client_is_told() {
    let mut lab = Lab::empty(100, 1);
    serve(&mut lab, VIP, OPS, &[]);
    assert!(lab.front(&udp(CLIENT, VIP)).starts_with("drop no_server; front "));
}

#[test]
fn what_cannot_go_on_is_refused_as_of_a_connection() {
    let (mut lab, _) = lab();
    let old = udp(CLIENT, VIP).ttl(1);
    assert!(lab.front(&old).starts_with("drop ttl_exceeded; front "));
    lab.set_neighbour(super::lab::BACK, "192.168.2.72", false);
    assert!(lab.front(&udp(CLIENT, VIP)).starts_with("hold 192.168.2.72 for 192.168.18.58:53: "));
}

#[test]
fn a_persistent_one_keeps_to_the_template() {
    let mut lab = Lab::empty(100, 1);
    let persistence = Some(Persistence { timeout: 60, netmask: u32::MAX });
    let key = serve(&mut lab, VIP, ServiceSpec { persistence, ..OPS }, &SERVERS);
    let servers: Vec<_> = (0..3).map(|_| served(&lab.front(&udp(CLIENT, VIP)))).collect();
    assert_eq!(servers, [73, 73, 73]);
    assert_eq!(lab.entries(), ["00:59 NONE 192.168.18.10:0 192.168.18.58:53 192.168.2.73:5353"]);
    // Without connections nothing keeps it for longer.
    lab.pass(62_000);
    assert_eq!(lab.entries(), [""; 0]);
    lab.control.catalog.set_server(key, point(SERVERS[1]), weight(0)).unwrap();
    lab.control.publish();
    assert_eq!(served(&lab.front(&udp(CLIENT, VIP))), 71);
}
