//! What holds for whatever comes.

use bolero::TypeGenerator;
use director_engine::service::{Forward, Protocol, ServerSpec, ServiceSpec};
use director_engine::state::State;
use director_engine::{Reason, Verdict};
use director_packet::{Address, Mac};

use crate::lab::{BACK, CLIENT, FRONT, Lab, PORT_MACS, RR, SERVERS, VIP, key, point, tcp_key};
use crate::packet::{Packet, icmp, tcp, udp};

pub(crate) const UDP_VIP: &str = "192.168.18.58:53";

pub(crate) fn lab() -> Lab {
    let mut lab = Lab::empty(40, 2);
    serve(&mut lab);
    lab
}

pub(crate) fn serve(lab: &mut Lab) {
    lab.serve(tcp_key(VIP), &SERVERS);
    lab.serve(key(Protocol::Udp, UDP_VIP), &["192.168.2.71:53", "192.168.2.72:53"]);
}

/// Every connection that is listed is counted with its server, and in the table, and none else.
pub(crate) fn check_counts(lab: &Lab) {
    let mut listed = 0;
    let mut counts = std::collections::HashMap::<(u8, String), (u32, u32)>::new();
    lab.each_entry(|connection| {
        listed += 1;
        let count = counts.entry((connection.protocol, connection.server.to_string())).or_default();
        if connection.state.is_active() { count.0 += 1 } else { count.1 += 1 }
    });
    assert_eq!(lab.control.active(), listed);
    let catalog = &lab.control.catalog;
    for service in catalog.services() {
        for row in catalog.servers(service) {
            let found = counts.remove(&(service.key.protocol.number(), row.address.to_string()));
            assert_eq!((row.load.active, row.load.inactive), found.unwrap_or_default(), "{}", row.address);
        }
    }
    assert!(counts.is_empty(), "{counts:?}");
}

/// After all timeouts nothing is left.
pub(crate) fn check_end(lab: &mut Lab) {
    lab.milliseconds += 901_000;
    for _ in 0..20 {
        lab.poll();
    }
    let counters = lab.control.table().counters();
    assert_eq!((counters.active, counters.dead, counters.inserted), (0, 0, counters.freed));
    check_counts(lab);
}

/// A frame to make others of.
#[derive(Debug, TypeGenerator)]
pub(crate) enum Seed {
    Syn,
    Segment,
    Reply,
    Datagram,
    Error,
    ErrorBack,
    /// About a packet in a tunnel.
    TunnelError,
    /// From the servers' own network, and back.
    NearSyn,
    NearReply,
    Nothing,
}

fn seed(seed: &Seed) -> Vec<u8> {
    let frame = |packet: Packet, port: u8| packet.frame(packet.from(), PORT_MACS[usize::from(port)]);
    match seed {
        Seed::Syn => frame(tcp(CLIENT, VIP, "S").ip_options(&[1, 1, 1, 0]), FRONT),
        Seed::Segment => frame(tcp(CLIENT, VIP, "PA").payload(b"hello"), FRONT),
        Seed::Reply => frame(tcp(SERVERS[2], CLIENT, "SA"), BACK),
        Seed::Datagram => frame(udp(CLIENT, UDP_VIP).payload(b"hello"), FRONT),
        Seed::Error => {
            let quoted = tcp(CLIENT, SERVERS[2], "S").bytes();
            icmp("192.168.2.73", "192.168.18.10", 3, 3, [0; 4], &quoted, PORT_MACS[1])
        }
        Seed::ErrorBack => {
            let quoted = udp(UDP_VIP, CLIENT).bytes();
            icmp("192.168.18.10", "192.168.18.58", 11, 0, [0; 4], &quoted, PORT_MACS[0])
        }
        Seed::TunnelError => {
            let inside = tcp(CLIENT, VIP, "A").bytes();
            let outer = [0x45, 0, 0, 20 + inside.len() as u8, 0, 0, 0x40, 0, 63, 4, 0, 0];
            let quoted = [&outer[..], &[192, 168, 2, 90, 192, 168, 2, 73], &inside].concat();
            icmp("192.168.2.1", "192.168.2.90", 3, 4, [0, 0, 5, 0], &quoted, PORT_MACS[1])
        }
        Seed::NearSyn => frame(tcp("192.168.2.74:2001", VIP, "S"), BACK),
        Seed::NearReply => frame(tcp(SERVERS[2], "192.168.2.90:61000", "SA"), BACK),
        Seed::Nothing => Vec::new(),
    }
}

/// A frame that is good but for a few bytes, or is not.
#[derive(Debug, TypeGenerator)]
pub(crate) struct Damaged {
    kind: Seed,
    changes: Vec<(u8, u8)>,
    tail: Vec<u8>,
    cut: Option<u8>,
    /// Whether the IPv4 checksum is of what is there now.
    fixed: bool,
}

impl Damaged {
    pub(crate) fn frame(&self) -> Vec<u8> {
        let mut frame = seed(&self.kind);
        for (at, value) in &self.changes {
            if let Some(byte) = frame.get_mut(usize::from(*at)) {
                *byte = *value;
            }
        }
        frame.extend(&self.tail);
        if let Some(cut) = self.cut {
            frame.truncate(cut.into());
        }
        if self.fixed && frame.len() >= 34 {
            frame[24..26].fill(0);
            let end = (14 + usize::from(frame[14] & 0xf) * 4).clamp(34, frame.len());
            let sum = director_packet::checksum::checksum(&frame[14..end]);
            frame[24..26].copy_from_slice(&sum);
        }
        frame
    }
}

/// Whatever the bytes, at either port: a verdict, no panic, and no count goes wrong.
#[test]
fn any_bytes_get_a_verdict() {
    bolero::check!().with_type::<Vec<Damaged>>().for_each(|frames| {
        let mut lab = lab();
        for chunk in frames.chunks(32) {
            for port in [FRONT, BACK] {
                lab.process(0, port, chunk.iter().map(Damaged::frame).collect());
            }
        }
        // What workers ended is no longer counted.
        lab.poll();
        check_counts(&lab);
    });
}

/// The same where each server of a service has another method, or something stands for clients.
#[test]
fn any_bytes_by_every_method() {
    let methods = [Forward::Masquerading, Forward::DirectRouting, Forward::Tunnelling];
    bolero::check!().with_type::<(u8, Vec<Damaged>)>().for_each(|(first, frames)| {
        let mut lab = lab();
        let catalog = &mut lab.control.catalog;
        catalog.set_service(tcp_key(VIP), ServiceSpec { hairpin_snat: true, ..RR }).unwrap();
        for (server, at) in SERVERS.iter().zip(usize::from(*first)..) {
            let spec = ServerSpec { forward: methods[at % 3], ..ServerSpec::default() };
            catalog.set_server(tcp_key(VIP), point(server), spec).unwrap();
        }
        lab.control.publish();
        for chunk in frames.chunks(32) {
            for port in [FRONT, BACK] {
                lab.process(0, port, chunk.iter().map(Damaged::frame).collect());
            }
        }
        // What workers ended is no longer counted.
        lab.poll();
        check_counts(&lab);
        check_end(&mut lab);
    });
}

/// A step of a simulation.
#[derive(Debug, TypeGenerator)]
pub(crate) enum Step {
    Client { port: u8, flags: u8, ttl: u8, wrong: bool, length: u8 },
    Server { server: u8, port: u8, flags: u8, ttl: u8, wrong: bool, length: u8 },
    Ask { port: u8, plain: bool, length: u8 },
    Answer { server: u8, port: u8, plain: bool, length: u8 },
    Pass { tenths: u8 },
    Delete { server: u8 },
    Add { server: u8 },
    Weight { server: u8, weight: u8 },
    Switch { reuse: bool, nodest: bool, sloppy: bool },
    Timeout { seconds: u8 },
}

/// The outcome says what the checksum is; a translated packet's is what it was.
fn check_sum(outcome: &str, wrong: bool) {
    if outcome.starts_with("front ") || outcome.starts_with("back ") {
        assert_eq!(outcome.ends_with("wrong checksum"), wrong, "{outcome}");
        assert!(!outcome.ends_with("without checksum"), "{outcome}");
    }
}

fn flags(bits: u8) -> String {
    let all = [(1, 'F'), (2, 'S'), (4, 'R'), (8, 'P'), (16, 'A')];
    all.iter().filter(|(bit, _)| bits & bit != 0).map(|(_, name)| *name).collect()
}

pub(crate) fn take(lab: &mut Lab, step: &Step) {
    let client = |port: u8| format!("192.168.18.10:{}", port % 12 + 1);
    let dress = |packet: Packet, wrong: bool, ttl: u8, length: u8| {
        let packet = packet.ttl(ttl | 2).payload(&vec![0xa5; length.into()]);
        if wrong { packet.wrong() } else { packet }
    };
    match *step {
        Step::Client { port, flags: bits, ttl, wrong, length } => {
            let packet = dress(tcp(&client(port), VIP, &flags(bits)), wrong, ttl, length);
            check_sum(&lab.front(&packet), wrong);
        }
        Step::Server { server, port, flags: bits, ttl, wrong, length } => {
            let server = SERVERS[usize::from(server) % 3];
            let packet = dress(tcp(server, &client(port), &flags(bits)), wrong, ttl, length);
            check_sum(&lab.back(&packet), wrong);
        }
        Step::Ask { port, plain, length } => {
            let packet = dress(udp(&client(port), UDP_VIP), false, 64, length);
            check_sum(&lab.front(&if plain { packet.without_checksum() } else { packet }), false);
        }
        Step::Answer { server, port, plain, length } => {
            let server = ["192.168.2.71:53", "192.168.2.72:53"][usize::from(server) % 2];
            let packet = dress(udp(server, &client(port)), false, 64, length);
            check_sum(&lab.back(&if plain { packet.without_checksum() } else { packet }), false);
        }
        Step::Pass { tenths } => lab.pass(u64::from(tenths) * 100),
        Step::Delete { server } => {
            let server = crate::lab::point(SERVERS[usize::from(server) % 3]);
            let _ = lab.control.catalog.delete_server(tcp_key(VIP), server);
            lab.control.publish();
            lab.control.purge();
        }
        Step::Add { server } => {
            let server = crate::lab::point(SERVERS[usize::from(server) % 3]);
            let _ = lab.control.catalog.add_server(tcp_key(VIP), server, crate::lab::weight(1));
            lab.control.publish();
        }
        Step::Weight { server, weight } => {
            let server = crate::lab::point(SERVERS[usize::from(server) % 3]);
            let weight = crate::lab::weight(u32::from(weight % 3));
            let _ = lab.control.catalog.set_server(tcp_key(VIP), server, weight);
        }
        Step::Switch { reuse, nodest, sloppy } => lab.sysctl(|sysctls| {
            sysctls.conn_reuse_mode = u32::from(reuse);
            sysctls.expire_nodest_conn = nodest;
            sysctls.sloppy_tcp = sloppy;
        }),
        Step::Timeout { seconds } => lab.timeout(State::Established, u32::from(seconds) + 1),
    }
}

/// Brings deleted servers back: their connections are counted, but not with a server that is listed.
pub(crate) fn restore(lab: &mut Lab) {
    for server in SERVERS {
        let _ =
            lab.control.catalog.add_server(tcp_key(VIP), crate::lab::point(server), crate::lab::weight(1));
    }
    lab.control.publish();
    lab.poll();
}

/// Whatever happens in whatever order: translated packets have the checksum they had, the counts are exact,
/// and in the end nothing is left over.
#[test]
fn any_history_ends_clean() {
    bolero::check!().with_type::<Vec<Step>>().with_iterations(300).for_each(|steps| {
        let mut lab = lab();
        for step in steps {
            take(&mut lab, step);
        }
        restore(&mut lab);
        check_counts(&lab);
        check_end(&mut lab);
    });
}

/// A whole life of a connection, whatever its ends and its content.
#[test]
fn any_connection_there_and_back() {
    bolero::check!().with_type::<(u32, u16, Vec<u8>, bool, bool)>().for_each(
        |(address, port, payload, wrong, is_tcp)| {
            let client = format!("{}:{port}", std::net::Ipv4Addr::from(*address));
            let payload = &payload[..payload.len().min(1400)];
            let mut lab = lab();
            let dress = |packet: Packet| {
                let packet = packet.payload(payload);
                if *wrong { packet.wrong() } else { packet }
            };
            let (vip, server, open, reply) = if *is_tcp {
                (VIP, SERVERS[2], tcp(&client, VIP, "S"), tcp(SERVERS[2], &client, "SA"))
            } else {
                (UDP_VIP, "192.168.2.72:53", udp(&client, UDP_VIP), udp("192.168.2.72:53", &client))
            };
            let is_host = !matches!((*address >> 24) as u8, 127 | 224..240)
                && !matches!(*address, 0 | u32::MAX)
                && !lab.network.local.contains(&Address::V4(*address));
            let frame = dress(open).frame(Mac::default(), PORT_MACS[0]);
            let (verdicts, mut frames, _) = lab.process(0, FRONT, vec![frame]);
            if !is_host {
                assert_eq!(verdicts, [Verdict::Drop(Reason::MartianSource)]);
                return;
            }
            assert_eq!(verdicts, [Verdict::Send(BACK)]);
            let note = |text: &str| format!("{text}{}", if *wrong { " wrong checksum" } else { "" });
            let kind = |flags: &'static str| if *is_tcp { flags } else { "UDP" };
            // A payload that is text is shown, too.
            let describe = |frame: &[u8]| {
                let out = crate::packet::describe(frame);
                out.split_once(" data ").map_or(out.clone(), |(out, _)| out.to_owned())
            };
            let out = describe(&frames.remove(0));
            assert_eq!(out, note(&format!("{client} > {server} {}", kind("S"))));
            let frame = dress(reply).frame(Mac::default(), PORT_MACS[1]);
            let (verdicts, frames, _) = lab.process(1, BACK, vec![frame]);
            // A client with an address on a link is asked for first.
            assert!(matches!(verdicts[0], Verdict::Send(_) | Verdict::Hold(_)), "{verdicts:?}");
            let out = describe(&frames[0]);
            assert_eq!(out, note(&format!("{vip} > {client} {}", kind("SA"))));
        },
    );
}
