//! A packet of an existing connection takes no lock, whatever its protocol, its service and its way through the
//! worker. The exceptions are fragments, FTP's control connections, and the one packet that establishes a persistent
//! connection. Every scenario is held to the same (`scenarios.rs`).
//!
//! The locks of `lock.rs` and the writer bits of the table's buckets are counted, in builds with debug assertions.
//! Instructions with a `lock` prefix do not count: nobody waits for a thread that is in the middle of one. The
//! packets of an established connection execute one at most twice a second, for the clock of its entry, and one with
//! each change of its state.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use director_engine::Verdict;
use director_engine::service::{
    FALLBACK, Forward, PORT, Persistence, Protocol, SchedulerKind, ServerSpec, ServiceKey, ServiceSpec,
};

use crate::lab::{BACK, FRONT, Lab, PORT_MACS, RR, SERVERS, VIP, key, point, tcp_key};
use crate::packet::{Packet, icmp, mac_of, sctp, tcp, udp};

const BURST: u16 = 32;

fn client(number: u16) -> String {
    format!("192.168.18.10:{}", 2000 + number)
}

fn add(lab: &mut Lab, key: ServiceKey, spec: ServiceSpec, server: &str, forward: Forward) {
    lab.control.catalog.add_service(key, spec).unwrap();
    let spec = ServerSpec { forward, weight: 10_000, ..ServerSpec::default() };
    lab.control.catalog.add_server(key, point(server), spec).unwrap();
    lab.control.publish();
}

fn frame(port: u8, packet: &Packet) -> Vec<u8> {
    packet.frame(packet.from(), PORT_MACS[usize::from(port)])
}

fn ether(port: u8, packet: &[u8]) -> Vec<u8> {
    let source = mac_of(IpAddr::from(*packet[12..].first_chunk::<4>().unwrap()));
    [&PORT_MACS[usize::from(port)].0[..], &source.0, &[8, 0], packet].concat()
}

/// A burst is sent on, and how many locks that took.
fn locks(lab: &mut Lab, port: u8, frames: Vec<Vec<u8>>) -> u64 {
    let before = lab.locks;
    let (verdicts, ..) = lab.process(0, port, frames);
    assert!(verdicts.iter().all(|verdict| matches!(verdict, Verdict::Send(_))), "{verdicts:?}");
    lab.locks.iter().sum::<u64>() - before.iter().sum::<u64>()
}

/// A burst that begins connections takes locks, or the count is none.
fn begin(lab: &mut Lab, port: u8, frames: Vec<Vec<u8>>) {
    let taken = locks(lab, port, frames);
    assert!(taken > 0 || cfg!(not(debug_assertions)));
}

fn go_on(lab: &mut Lab, what: &str, port: u8, frames: Vec<Vec<u8>>) {
    for milliseconds in [0, 0, 100] {
        lab.pass(milliseconds);
        assert_eq!(locks(lab, port, frames.clone()), 0, "{what}");
    }
    lab.pass(1000);
    assert_eq!(locks(lab, port, frames), 0, "{what}");
}

fn each(of: impl Fn(u16) -> Vec<u8>) -> Vec<Vec<u8>> {
    (0..BURST).map(of).collect()
}

/// The life of TCP connections with a service, both ways, and what goes on around them. `told` locks are taken when they
/// are established, and none afterwards.
fn lives(lab: &mut Lab, what: &str, vip: &str, server: &str, told: u16) {
    let forth = |flags: &'static str| each(|at| frame(FRONT, &tcp(&client(at), vip, flags)));
    let back = |flags: &'static str| each(|at| frame(BACK, &tcp(server, &client(at), flags)));
    begin(lab, FRONT, forth("S"));
    let taken = locks(lab, BACK, back("SA")) + locks(lab, FRONT, forth("A"));
    assert_eq!(taken, if cfg!(debug_assertions) { told.into() } else { 0 }, "{what}");
    go_on(lab, what, BACK, back("SA"));
    go_on(lab, what, FRONT, forth("A"));
    go_on(lab, what, BACK, back("PA"));
    // Both ways in one burst, old ticks and new.
    lab.route(|_| {});
    go_on(lab, what, FRONT, forth("PA"));
    go_on(lab, what, BACK, back("A"));
    let quoted = |at| tcp(&client(at), server, "A").bytes();
    let host = server.split(':').next().unwrap();
    let error = |at| icmp(host, "192.168.18.10", 3, 3, [0; 4], &quoted(at), PORT_MACS[1]);
    go_on(lab, what, BACK, each(error));
    go_on(lab, what, FRONT, forth("FA"));
    go_on(lab, what, BACK, back("FA"));
    go_on(lab, what, FRONT, forth("A"));
    go_on(lab, what, FRONT, forth("R"));
}

#[test]
fn tcp_with_any_scheduler() {
    for (scheduler, port) in SchedulerKind::ALL.into_iter().zip(1000..) {
        let mut lab = Lab::empty(1000, 1);
        let vip = format!("192.168.18.58:{port}");
        let spec = ServiceSpec { flags: FALLBACK | PORT, ..ServiceSpec::new(scheduler) };
        add(&mut lab, tcp_key(&vip), spec, SERVERS[0], Forward::Masquerading);
        lives(&mut lab, scheduler.name(), &vip, SERVERS[0], 0);
    }
}

#[test]
fn tcp_of_persistent_services_and_after_changes() {
    let mut lab = Lab::empty(1000, 1);
    let spec = ServiceSpec { persistence: Some(Persistence { timeout: 300, netmask: u32::MAX }), ..RR };
    add(&mut lab, tcp_key(VIP), spec, SERVERS[0], Forward::Masquerading);
    // The template hears once that a connection is established.
    lives(&mut lab, "persistent", VIP, SERVERS[0], BURST);
    let again = each(|at| frame(FRONT, &tcp(&client(100 + at), VIP, "S")));
    begin(&mut lab, FRONT, again);
    locks(&mut lab, BACK, each(|at| frame(BACK, &tcp(SERVERS[0], &client(100 + at), "SA"))));
    locks(&mut lab, FRONT, each(|at| frame(FRONT, &tcp(&client(100 + at), VIP, "A"))));
    lab.add_server(VIP, SERVERS[1], ServerSpec::default());
    lab.set_server(VIP, SERVERS[0], ServerSpec { weight: 0, ..ServerSpec::default() });
    let acks = each(|at| frame(FRONT, &tcp(&client(100 + at), VIP, "A")));
    go_on(&mut lab, "a server added, one changed", FRONT, acks);
}

#[test]
fn datagrams_and_sctp() {
    const DNS: &str = "192.168.18.58:53";
    let mut lab = Lab::empty(1000, 1);
    add(&mut lab, key(Protocol::Udp, DNS), RR, "192.168.2.71:53", Forward::Masquerading);
    add(&mut lab, key(Protocol::Sctp, VIP), RR, SERVERS[0], Forward::Masquerading);
    let asks = each(|at| frame(FRONT, &udp(&client(at), DNS)));
    begin(&mut lab, FRONT, asks.clone());
    go_on(&mut lab, "asks", FRONT, asks);
    go_on(&mut lab, "answers", BACK, each(|at| frame(BACK, &udp("192.168.2.71:53", &client(at)))));

    let forth = |chunks: &'static str| each(|at| ether(FRONT, &sctp(&client(at), VIP, chunks)));
    let back = |chunks: &'static str| each(|at| ether(BACK, &sctp(SERVERS[0], &client(at), chunks)));
    begin(&mut lab, FRONT, forth("INIT"));
    go_on(&mut lab, "INIT-ACK", BACK, back("INIT-ACK"));
    for chunks in ["COOKIE-ECHO", "DATA", "SHUTDOWN"] {
        go_on(&mut lab, chunks, FRONT, forth(chunks));
    }
    go_on(&mut lab, "SHUTDOWN-ACK", BACK, back("SHUTDOWN-ACK"));
}

#[test]
fn untranslated_and_hairpins() {
    for forward in [Forward::DirectRouting, Forward::Tunnelling] {
        let mut lab = Lab::empty(1000, 1);
        add(&mut lab, tcp_key(VIP), RR, SERVERS[0], forward);
        begin(&mut lab, FRONT, each(|at| frame(FRONT, &tcp(&client(at), VIP, "S"))));
        for flags in ["A", "PA", "FA", "A", "R"] {
            let frames = each(|at| frame(FRONT, &tcp(&client(at), VIP, flags)));
            go_on(&mut lab, "not translated", FRONT, frames);
        }
    }
    let mut lab = Lab::empty(20_000, 1);
    add(&mut lab, tcp_key(VIP), ServiceSpec { hairpin_snat: true, ..RR }, SERVERS[1], Forward::Masquerading);
    let neighbour = |at: u16| format!("192.168.2.71:{}", 1000 + at);
    begin(&mut lab, BACK, each(|at| frame(BACK, &tcp(&neighbour(at), VIP, "S"))));
    let answer = |at: u16| tcp(SERVERS[1], &format!("192.168.2.90:{}", 61_000 + at), "SA");
    go_on(&mut lab, "answers to a hairpin", BACK, each(|at| frame(BACK, &answer(at))));
    go_on(&mut lab, "hairpins", BACK, each(|at| frame(BACK, &tcp(&neighbour(at), VIP, "A"))));
}

#[test]
fn ipv6() {
    const VIP: &str = "[2001:db8:18::58]:80";
    const SERVER: &str = "[2001:db8:2::71]:80";
    let mut lab = Lab::empty(1000, 1);
    add(&mut lab, tcp_key(VIP), RR, SERVER, Forward::Masquerading);
    let client = |at: u16| format!("[2001:db8:18::10]:{}", 2000 + at);
    let forth = |flags: &'static str| each(|at| frame(FRONT, &tcp(&client(at), VIP, flags)));
    let back = |flags: &'static str| each(|at| frame(BACK, &tcp(SERVER, &client(at), flags)));
    begin(&mut lab, FRONT, forth("S"));
    go_on(&mut lab, "IPv6", BACK, back("SA"));
    go_on(&mut lab, "IPv6", FRONT, forth("A"));
    go_on(&mut lab, "IPv6", BACK, back("FA"));
    go_on(&mut lab, "IPv6", FRONT, forth("FA"));
}

/// The exceptions: both streams of FTP's control connection are followed, and fragments are put together, under a lock.
#[test]
fn ftp_s_control_connection_and_fragments_do() {
    const FTP: &str = "192.168.18.58:21";
    let mut lab = Lab::empty(1000, 1);
    add(&mut lab, tcp_key(FTP), RR, "192.168.2.71:21", Forward::Masquerading);
    add(&mut lab, key(Protocol::Udp, VIP), RR, SERVERS[0], Forward::Masquerading);
    begin(&mut lab, FRONT, vec![frame(FRONT, &tcp(&client(0), FTP, "S"))]);
    go_on(&mut lab, "no payload yet", BACK, vec![frame(BACK, &tcp("192.168.2.71:21", &client(0), "SA"))]);
    go_on(&mut lab, "no payload yet", FRONT, vec![frame(FRONT, &tcp(&client(0), FTP, "A"))]);
    begin(&mut lab, BACK, vec![frame(BACK, &tcp("192.168.2.71:21", &client(0), "PA").payload(b"220 \r\n"))]);
    let part = udp(&client(0), VIP).fragmentable().ip(|header| header.more_fragments = true);
    let before = lab.locks;
    lab.front(&part);
    assert!(lab.locks != before || cfg!(not(debug_assertions)));
}

/// A lock that is none of `lock.rs` would not be counted.
#[test]
fn there_is_no_other_lock_in_the_engine() {
    fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                sources(&path, found);
            } else {
                found.push(path);
            }
        }
    }
    let engine = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for crates in ["src", "../flow/src", "../packet/src"] {
        sources(&engine.join(crates), &mut files);
    }
    files.retain(|file| {
        let text = std::fs::read_to_string(file).unwrap();
        ["Mutex", "RwLock", "Condvar", "parking_lot"].iter().any(|word| text.contains(word))
    });
    assert_eq!(files, [engine.join("src/lock.rs")]);
}
