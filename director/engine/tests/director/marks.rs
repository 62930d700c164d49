//! Services of firewall marks.

use std::num::NonZeroU32;

use director_engine::mark::{MarkRule, Network};
use director_engine::service::{Persistence, SchedulerKind, ServerSpec, ServiceKey, ServiceSpec};

use crate::lab::{CLIENT, Lab, RR, SERVERS, VIP, point, served, tcp_key};
use crate::packet::{tcp, udp};

const ANY: MarkRule = MarkRule {
    protocol: None,
    source: None,
    destination: None,
    ports: MarkRule::ANY_PORT,
    mark: NonZeroU32::MIN,
};

fn network(address: &str, mask: u32) -> Option<Network> {
    let address: std::net::Ipv4Addr = address.parse().unwrap();
    Some(Network::V4(address.into(), mask))
}

fn mark(mark: u32) -> NonZeroU32 {
    NonZeroU32::new(mark).unwrap()
}

fn serve(lab: &mut Lab, number: u32, spec: ServiceSpec, servers: &[&str]) -> ServiceKey {
    let key = ServiceKey::of_mark(mark(number));
    lab.control.catalog.add_service(key, spec).unwrap();
    for server in servers {
        lab.control.catalog.add_server(key, point(server), ServerSpec::default()).unwrap();
    }
    lab.control.publish();
    key
}

/// A service of mark 1 for the ports 80 to 443 of .58.
fn lab(spec: ServiceSpec, servers: &[&str]) -> (Lab, ServiceKey) {
    let mut lab = Lab::empty(100, 1);
    let destination = network("192.168.18.58", u32::MAX);
    lab.control.set_marks(vec![MarkRule { destination, ports: (80, 443), ..ANY }]);
    let key = serve(&mut lab, 1, spec, servers);
    (lab, key)
}

#[test]
fn port_0_of_a_server_keeps_the_port() {
    let (mut lab, key) = lab(RR, &["192.168.2.71:0", "192.168.2.72:8080"]);
    assert_eq!(lab.front(&tcp("192.168.18.10:1", VIP, "S")), "back 192.168.18.10:1 > 192.168.2.72:8080 S");
    assert_eq!(
        lab.front(&tcp("192.168.18.10:2", "192.168.18.58:443", "S")),
        "back 192.168.18.10:2 > 192.168.2.71:443 S"
    );
    assert_eq!(
        lab.back(&tcp("192.168.2.71:443", "192.168.18.10:2", "SA")),
        "front 192.168.18.58:443 > 192.168.18.10:2 SA"
    );
    // Any protocol has the mark.
    assert!(lab.front(&udp(CLIENT, VIP)).starts_with("back 192.168.18.10:2001 > 192.168.2.72:8080"));
    assert_eq!(lab.total(key).connections, 3);
    assert_eq!(lab.load(key, "192.168.2.72:8080"), (1, 1));
    assert_eq!(
        lab.entries(),
        [
            "00:59 SYN_RECV 192.168.18.10:1 192.168.18.58:80 192.168.2.72:8080",
            "00:59 SYN_RECV 192.168.18.10:2 192.168.18.58:443 192.168.2.71:443",
            "04:59 UDP 192.168.18.10:2001 192.168.18.58:80 192.168.2.72:8080",
        ]
    );
    // What has no mark has no service.
    assert_eq!(lab.front(&tcp(CLIENT, "192.168.18.58:444", "S")), "kernel");
    assert_eq!(lab.front(&tcp(CLIENT, "192.168.18.59:80", "S")), "kernel");
    assert_eq!(lab.front(&tcp(CLIENT, "192.168.18.58:443", "A")), "kernel");
}

#[test]
fn a_mark_comes_before_an_address_if_it_has_a_service() {
    let (mut lab, key) = lab(RR, &["192.168.2.71:0"]);
    lab.serve(tcp_key(VIP), &SERVERS[2..]);
    assert_eq!(served(&lab.front(&tcp("192.168.18.10:1", VIP, "S"))), 71);
    lab.control.catalog.delete_service(key).unwrap();
    lab.control.publish();
    assert_eq!(served(&lab.front(&tcp("192.168.18.10:2", VIP, "S"))), 73);
    // Rules are for new connections: this one goes on, though its server is gone.
    assert_eq!(lab.front(&tcp("192.168.18.10:1", VIP, "A")), "drop server_gone");
}

#[test]
fn the_first_rule_that_matches_counts() {
    let mut lab = Lab::empty(100, 1);
    let near = network("192.168.18.0", 0xffff_ff00);
    lab.control.set_marks(vec![
        MarkRule { source: near, protocol: Some(6), mark: mark(2), ..ANY },
        MarkRule { mark: mark(3), ..ANY },
    ]);
    serve(&mut lab, 2, RR, &["192.168.2.72:0"]);
    serve(&mut lab, 3, RR, &["192.168.2.73:0"]);
    assert_eq!(served(&lab.front(&tcp(CLIENT, VIP, "S"))), 72);
    assert_eq!(served(&lab.front(&tcp("10.1.1.1:1", VIP, "S"))), 73);
    assert_eq!(served(&lab.front(&udp(CLIENT, VIP))), 73);
}

#[test]
fn a_persistent_one_has_one_template_for_all_it_marks() {
    let persistence = Some(Persistence { timeout: 360, netmask: u32::MAX });
    let (mut lab, _) = lab(ServiceSpec { persistence, ..RR }, &["192.168.2.71:0", "192.168.2.72:8080"]);
    // Of a persistent one the server's port is not asked, as in the kernel.
    assert_eq!(lab.front(&tcp("192.168.18.10:1", VIP, "S")), "back 192.168.18.10:1 > 192.168.2.72:80 S");
    assert_eq!(
        lab.front(&tcp("192.168.18.10:2", "192.168.18.58:443", "S")),
        "back 192.168.18.10:2 > 192.168.2.72:443 S"
    );
    assert!(
        lab.entries().contains(&"05:59 NONE 192.168.18.10:0 0.0.0.1:0 192.168.2.72:0".to_owned()),
        "{:?}",
        lab.entries()
    );
}

#[test]
fn lblc_remembers_each_address() {
    let mut lab = Lab::empty(100, 1);
    lab.control.set_marks(vec![ANY]);
    let lblc = ServiceSpec::new(SchedulerKind::LocalityLeastConnection);
    serve(&mut lab, 1, lblc, &["192.168.2.71:0", "192.168.2.72:0"]);
    let mut to = |port: u16, vip: &str| served(&lab.front(&tcp(&format!("192.168.18.10:{port}"), vip, "S")));
    let (first, second) = (to(1, "192.168.18.58:80"), to(2, "192.168.18.59:80"));
    assert_ne!(first, second);
    assert_eq!([to(3, "192.168.18.58:80"), to(4, "192.168.18.59:80")], [first, second]);
}

#[test]
fn marks_do_not_make_an_address_local() {
    let (mut lab, _) = lab(RR, &["192.168.2.71:0"]);
    lab.control.set_marks(vec![ANY]);
    assert_eq!(lab.front(&tcp(CLIENT, "10.9.9.9:80", "S")), "kernel");
}
