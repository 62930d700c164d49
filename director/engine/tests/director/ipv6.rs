//! IPv6: what the engine does of IPv4, by the same code; so here is what differs, and one of each kind.
//!
//! ```text
//! 2001:db8:18::/64                 front: ::58   back: ::90        2001:db8:2::/64
//! client ::10, router ::1 ---------------- director ---------------- servers ::71 to ::73
//! ```

use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;

use director_engine::adjacency::Link;
use director_engine::fib::{Hop, Route};
use director_engine::mark::{MarkRule, Network};
use director_engine::service::{
    Forward, Persistence, Protocol, SchedulerKind, ServerSpec, ServiceKey, ServiceSpec,
};
use director_engine::{Reason, Verdict};
use director_packet::icmp::{self, MAX_ERROR};
use director_packet::{Address, Mac};
use etherparse::{NetSlice, PacketBuilder, SlicedPacket, TransportSlice};

use crate::lab::{BACK, FRONT, Lab, PORT_MACS, PORT_NAMES, RR, VIP as VIP_V4, ip, key, point, tcp_key};
use crate::packet::tcp as tcp_v4;

const CLIENT: &str = "[2001:db8:18::10]:2001";
const VIP: &str = "[2001:db8:18::58]:80";
const SERVERS: [&str; 3] = ["[2001:db8:2::71]:80", "[2001:db8:2::72]:80", "[2001:db8:2::73]:80"];

fn mac_of(address: Ipv6Addr) -> Mac {
    let [.., g, h] = address.octets();
    Mac([2, 0x60, 0, 0, g, h])
}

fn v6(text: &str) -> Ipv6Addr {
    text.parse().unwrap()
}

/// A director with the network above and no service.
pub(crate) fn lab() -> Lab {
    let mut lab = Lab::empty(1000, 1);
    lab.network.local.extend([ip("2001:db8:18::58"), ip("2001:db8:2::90"), ip("fe80::1")]);
    lab.network.ports[0].address_v6 = v6("2001:db8:18::58").into();
    lab.network.ports[1].address_v6 = v6("2001:db8:2::90").into();
    lab.route(|fib| {
        fib.insert((ip("2001:db8:18::"), 64), Route::Link { port: FRONT });
        fib.insert((ip("2001:db8:2::"), 64), Route::Link { port: BACK });
        fib.insert((ip("::"), 0), Route::Gateway { port: FRONT, gateway: ip("2001:db8:18::1") });
    });
    for (port, host) in [
        (FRONT, "2001:db8:18::1"),
        (FRONT, "2001:db8:18::10"),
        (BACK, "2001:db8:2::71"),
        (BACK, "2001:db8:2::72"),
        (BACK, "2001:db8:2::73"),
    ] {
        set_neighbour(&lab, port, host, true);
    }
    lab
}

fn set_neighbour(lab: &Lab, port: u8, host: &str, known: bool) {
    let mac = known.then(|| mac_of(v6(host)));
    let adjacencies = &lab.control.shared().adjacencies;
    let way = adjacencies.entry(Hop { port, address: ip(host) }).unwrap();
    adjacencies.set(way, mac);
    assert_eq!(adjacencies.link(way), Link { port, mac });
}

fn serving(spec: ServiceSpec) -> Lab {
    let mut lab = lab();
    add(&mut lab, tcp_key(VIP), spec, &SERVERS);
    lab
}

fn add(lab: &mut Lab, key: ServiceKey, spec: ServiceSpec, servers: &[&str]) {
    lab.control.catalog.add_service(key, spec).unwrap();
    for server in servers {
        lab.control.catalog.add_server(key, point(server), ServerSpec::default()).unwrap();
    }
    lab.control.publish();
}

#[derive(Clone, Copy)]
pub(crate) struct Packet<'a> {
    source: &'a str,
    destination: &'a str,
    /// As tcpdump has them; none: UDP.
    flags: Option<&'a str>,
    hops: u8,
    payload: usize,
}

pub(crate) fn tcp<'a>(source: &'a str, destination: &'a str, flags: &'a str) -> Packet<'a> {
    Packet { source, destination, flags: Some(flags), hops: 64, payload: 0 }
}

fn udp<'a>(source: &'a str, destination: &'a str) -> Packet<'a> {
    Packet { source, destination, flags: None, hops: 64, payload: 4 }
}

impl Packet<'_> {
    fn bytes(self) -> Vec<u8> {
        let end = |text: &str| match text.parse().unwrap() {
            std::net::SocketAddr::V6(end) => end,
            std::net::SocketAddr::V4(end) => panic!("{end} is of IPv4"),
        };
        let (from, to) = (end(self.source), end(self.destination));
        let payload: Vec<u8> = (0..self.payload).map(|at| at as u8).collect();
        let start = PacketBuilder::ipv6(from.ip().octets(), to.ip().octets(), self.hops);
        let mut packet = Vec::new();
        let Some(flags) = self.flags else {
            start.udp(from.port(), to.port()).write(&mut packet, &payload).unwrap();
            return packet;
        };
        let mut step = start.tcp(from.port(), to.port(), 1000, 512);
        for flag in flags.chars() {
            step = match flag {
                'S' => step.syn(),
                'A' => step.ack(7),
                'F' => step.fin(),
                'R' => step.rst(),
                other => panic!("no TCP flag: {other}"),
            };
        }
        step.write(&mut packet, &payload).unwrap();
        packet
    }

    pub(crate) fn frame(self, port: u8) -> Vec<u8> {
        let packet = self.bytes();
        frame(&packet, port)
    }
}

fn frame(packet: &[u8], port: u8) -> Vec<u8> {
    let source = Ipv6Addr::from(*packet[8..].first_chunk::<16>().unwrap());
    [&PORT_MACS[usize::from(port)].0[..], &mac_of(source).0, &[0x86, 0xdd], packet].concat()
}

/// What an independent parser says of a frame; the transport's checksum must be right.
fn describe(frame: &[u8]) -> String {
    let packet = SlicedPacket::from_ethernet(frame).unwrap();
    let Some(NetSlice::Ipv6(net)) = &packet.net else { panic!("not IPv6") };
    let header = net.header().to_header();
    let same = |found: u16, expected: u16| assert_eq!(found % 0xffff, expected % 0xffff, "checksum");
    let end = |address: [u8; 16], port: u16| std::net::SocketAddr::new(IpAddr::V6(address.into()), port);
    let (from, to) = (header.source, header.destination);
    let hops = if header.hop_limit == 63 { String::new() } else { format!(" hops {}", header.hop_limit) };
    match packet.transport.unwrap() {
        TransportSlice::Tcp(tcp) => {
            same(tcp.checksum(), tcp.to_header().calc_checksum_ipv6(&header, tcp.payload()).unwrap());
            let flags: String = [(tcp.syn(), 'S'), (tcp.fin(), 'F'), (tcp.rst(), 'R'), (tcp.ack(), 'A')]
                .into_iter()
                .filter_map(|(is_set, flag)| is_set.then_some(flag))
                .collect();
            let (from, to) = (end(from, tcp.source_port()), end(to, tcp.destination_port()));
            format!("{from} > {to} {flags}{hops}")
        }
        TransportSlice::Udp(udp) => {
            same(udp.checksum(), udp.to_header().calc_checksum_ipv6(&header, udp.payload()).unwrap());
            format!("{} > {} udp{hops}", end(from, udp.source_port()), end(to, udp.destination_port()))
        }
        TransportSlice::Icmpv6(icmp) => {
            same(icmp.checksum(), icmp.icmp_type().calc_checksum(from, to, icmp.payload()).unwrap());
            let mtu = u32::from_be_bytes(icmp.bytes5to8());
            let mtu = if mtu == 0 { String::new() } else { format!(" mtu {mtu}") };
            let quoted = [&[0; 12][..], &[0x86, 0xdd], icmp.payload()].concat();
            let quoted =
                SlicedPacket::from_ethernet(&quoted).map_or_else(|_| "a part".into(), |_| describe(&quoted));
            let (from, to) = (Ipv6Addr::from(from), Ipv6Addr::from(to));
            format!("{from} > {to} icmp {}/{}{mtu} about {quoted}", icmp.type_u8(), icmp.code_u8())
        }
        other => panic!("{other:?}"),
    }
}

/// What becomes of a packet, with what its sender is told.
fn one(lab: &mut Lab, port: u8, frame: Vec<u8>) -> String {
    let (verdicts, frames, replies) = lab.process(0, port, vec![frame]);
    let sent = |port: u8, frame: &[u8]| {
        assert_eq!(frame[6..12], PORT_MACS[usize::from(port)].0);
        let to = Ipv6Addr::from(*frame[38..].first_chunk::<16>().unwrap());
        let via = if frame[..6] == mac_of(to).0 { "" } else { "via another " };
        format!("{} {via}{}", PORT_NAMES[usize::from(port)], describe(frame))
    };
    let mut lines = vec![match verdicts[0] {
        Verdict::Send(port) => sent(port, &frames[0]),
        Verdict::Drop(reason) => format!("drop {}", reason.name()),
        Verdict::Kernel => "kernel".into(),
        Verdict::Hold(_) => "hold".into(),
        other => panic!("{other:?}"),
    }];
    lines.extend(replies.iter().map(|(port, frame)| sent(*port, frame)));
    lines.join("; ")
}

fn front(lab: &mut Lab, packet: Packet<'_>) -> String {
    one(lab, FRONT, packet.frame(FRONT))
}

fn back(lab: &mut Lab, packet: Packet<'_>) -> String {
    one(lab, BACK, packet.frame(BACK))
}

#[test]
fn a_connection_there_and_back() {
    let mut lab = serving(RR);
    let (to, from) = (
        "back [2001:db8:18::10]:2001 > [2001:db8:2::73]:80",
        "front [2001:db8:18::58]:80 > [2001:db8:18::10]:2001",
    );
    assert_eq!(front(&mut lab, tcp(CLIENT, VIP, "S")), format!("{to} S"));
    assert_eq!(back(&mut lab, tcp(SERVERS[2], CLIENT, "SA")), format!("{from} SA"));
    assert_eq!(front(&mut lab, tcp(CLIENT, VIP, "A")), format!("{to} A"));
    assert_eq!(
        lab.entries(),
        ["14:59 ESTABLISHED [2001:db8:18::10]:2001 [2001:db8:18::58]:80 [2001:db8:2::73]:80"]
    );
    assert_eq!(
        (lab.load(tcp_key(VIP), SERVERS[2]), lab.control.active(), lab.control.active_v6()),
        ((1, 0), 0, 1)
    );
    assert_eq!(back(&mut lab, tcp(SERVERS[2], CLIENT, "FA")), format!("{from} FA"));
    assert_eq!(front(&mut lab, tcp(CLIENT, VIP, "FA")), format!("{to} FA"));
    lab.pass(119_000);
    assert_eq!(lab.control.active_v6(), 1);
    lab.pass(2_000);
    assert_eq!((lab.control.active_v6(), lab.load(tcp_key(VIP), SERVERS[2])), (0, (0, 0)));
    // Another client's, and another's after that, take turns.
    assert_eq!(
        front(&mut lab, tcp("[2001:db8:18::10]:2", VIP, "S")),
        "back [2001:db8:18::10]:2 > [2001:db8:2::72]:80 S"
    );
    let far = tcp("[2001:db8:9::9]:3", VIP, "S");
    assert_eq!(front(&mut lab, far), "back [2001:db8:9::9]:3 > [2001:db8:2::71]:80 S");
    let reply = tcp(SERVERS[0], "[2001:db8:9::9]:3", "SA");
    assert_eq!(back(&mut lab, reply), "front via another [2001:db8:18::58]:80 > [2001:db8:9::9]:3 SA");
}

#[test]
fn datagrams() {
    let mut lab = lab();
    let (vip, server) = ("[2001:db8:18::58]:53", "[2001:db8:2::71]:5353");
    add(&mut lab, key(Protocol::Udp, vip), RR, &[server]);
    let there = "back [2001:db8:18::10]:2001 > [2001:db8:2::71]:5353 udp";
    let back_again = "front [2001:db8:18::58]:53 > [2001:db8:18::10]:2001 udp";
    assert_eq!(front(&mut lab, udp(CLIENT, vip)), there);
    assert_eq!(back(&mut lab, udp(server, CLIENT)), back_again);
    // Without a checksum, which IPv6 does not know (RFC 8200, section 8.1): it leaves with one.
    let mut without = udp(CLIENT, vip).frame(FRONT);
    without[60..62].fill(0);
    assert_eq!(one(&mut lab, FRONT, without), there);
    // An extension header is seen past.
    let mut options = udp(CLIENT, vip).frame(FRONT);
    options[20] = 60;
    options.splice(54..54, [17, 0, 1, 4, 0, 0, 0, 0]);
    options[19] += 8;
    let (verdicts, frames, _) = lab.process(0, FRONT, vec![options.clone()]);
    assert_eq!(verdicts, [Verdict::Send(BACK)]);
    assert_eq!(frames[0][54..62], options[54..62]);
    assert!(describe(&frames[0]).ends_with("> [2001:db8:2::71]:5353 udp"));
}

#[test]
fn each_datagram_alone() {
    let mut lab = lab();
    let (vip, servers) = ("[2001:db8:18::58]:53", ["[2001:db8:2::71]:53", "[2001:db8:2::72]:53"]);
    add(&mut lab, key(Protocol::Udp, vip), ServiceSpec { one_packet: true, ..RR }, &servers);
    for server in ["72", "71", "72"] {
        let there = format!("back [2001:db8:18::10]:2001 > [2001:db8:2::{server}]:53 udp");
        assert_eq!(front(&mut lab, udp(CLIENT, vip)), there);
    }
    let reply = "front [2001:db8:18::58]:53 > [2001:db8:18::10]:2001 udp";
    assert_eq!(back(&mut lab, udp(servers[0], CLIENT)), reply);
    assert_eq!(lab.control.active_v6(), 0);
}

#[test]
fn what_is_the_kernels() {
    let mut lab = serving(RR);
    assert_eq!(front(&mut lab, tcp(CLIENT, "[2001:db8:18::58]:81", "S")), "kernel");
    assert_eq!(front(&mut lab, tcp(CLIENT, VIP, "A")), "kernel");
    assert_eq!(front(&mut lab, tcp(CLIENT, "[2001:db8:2::71]:80", "S")), "kernel", "forwarded");
    assert_eq!(front(&mut lab, tcp("[fe80::5]:1", "[fe80::1]:179", "S")), "kernel");
    // Echo, and a neighbour's advertisement.
    for kind in [128, 129, 135, 136] {
        let mut packet = udp(CLIENT, VIP).bytes();
        (packet[6], packet[40]) = (58, kind);
        assert_eq!(one(&mut lab, FRONT, frame(&packet, FRONT)), "kernel");
    }
    lab.control.catalog.flush();
    lab.control.publish();
    assert_eq!(front(&mut lab, tcp(CLIENT, VIP, "S")), "kernel");
}

#[test]
fn senders_that_no_host_can_be() {
    let mut lab = serving(RR);
    for source in ["[::]:1", "[::1]:1", "[::ffff:10.0.0.1]:1", "[ff02::1]:1", VIP, "[2001:db8:2::90]:7"] {
        assert_eq!(front(&mut lab, tcp(source, VIP, "S")), "drop martian_source", "{source}");
    }
}

#[test]
fn clients_are_told() {
    let mut lab = serving(RR);
    let last = Packet { hops: 1, ..tcp(CLIENT, VIP, "S") };
    let about = "front 2001:db8:18::58 > 2001:db8:18::10 icmp";
    let quoted = "[2001:db8:18::10]:2001 > [2001:db8:18::58]:80";
    assert_eq!(front(&mut lab, last), format!("drop ttl_exceeded; {about} 3/0 about {quoted} S hops 1"));
    // Nothing is fragmented on the way.
    lab.network.ports[1].mtu = 1300;
    lab.renew_network();
    let long = Packet { payload: 1300, ..tcp(CLIENT, VIP, "A") };
    let told = front(&mut lab, long);
    assert_eq!(told, format!("drop too_big; {about} 2/0 mtu 1300 about a part"));
    set_neighbour(&lab, BACK, "2001:db8:2::71", false);
    lab.route(|fib| {
        fib.insert((ip("2001:db8:2::"), 64), Route::Elsewhere);
    });
    let told = front(&mut lab, tcp("[2001:db8:18::10]:3", VIP, "S"));
    let quoted = "[2001:db8:18::10]:3 > [2001:db8:18::58]:80";
    assert_eq!(told, format!("drop no_route; {about} 1/3 about {quoted} S hops 64"));
    for server in SERVERS {
        lab.control.catalog.delete_server(tcp_key(VIP), point(server)).unwrap();
    }
    lab.control.publish();
    let told = front(&mut lab, tcp("[2001:db8:18::10]:4", VIP, "S"));
    let quoted = "[2001:db8:18::10]:4 > [2001:db8:18::58]:80";
    assert_eq!(told, format!("drop no_server; {about} 1/4 about {quoted} S hops 64"));
    assert_eq!(front(&mut lab, tcp(CLIENT, VIP, "A")), "drop server_gone");
}

#[test]
fn servers_are_told() {
    let mut lab = serving(RR);
    front(&mut lab, tcp(CLIENT, VIP, "S"));
    let about = "back 2001:db8:2::90 > 2001:db8:2::73 icmp";
    let quoted = "[2001:db8:2::73]:80 > [2001:db8:18::10]:2001";
    let last = Packet { hops: 1, ..tcp(SERVERS[2], CLIENT, "SA") };
    assert_eq!(back(&mut lab, last), format!("drop ttl_exceeded; {about} 3/0 about {quoted} SA hops 1"));
    lab.network.ports[0].mtu = 1280;
    lab.renew_network();
    let long = Packet { payload: 1300, ..tcp(SERVERS[2], CLIENT, "A") };
    assert_eq!(back(&mut lab, long), format!("drop too_big; {about} 2/0 mtu 1280 about a part"));
    lab.network.ip_forward_v6 = false;
    lab.renew_network();
    assert_eq!(back(&mut lab, tcp(SERVERS[2], CLIENT, "SA")), "drop forwarding_off");
    lab.network.ip_forward_v6 = true;
    lab.network.ip_forward = false;
    lab.renew_network();
    assert!(back(&mut lab, tcp(SERVERS[2], CLIENT, "SA")).starts_with("front "), "another family's switch");
}

/// An ICMPv6 error from a host about a packet.
fn told(error: icmp::Error, from: &str, about: Packet<'_>, port: u8) -> Vec<u8> {
    let mut out = [0; MAX_ERROR];
    let length = icmp::error(error, &about.bytes(), Address::from(v6(from)), 0, &mut out);
    frame(&out[..length], port)
}

#[test]
fn errors_about_connections_are_translated() {
    let mut lab = serving(RR);
    front(&mut lab, tcp(CLIENT, VIP, "S"));
    let error = icmp::Error::FragmentationNeeded(1280);
    // The server, or a router before it, about what the client sent.
    for host in ["2001:db8:2::73", "2001:db8:77::1"] {
        let frame = told(error, host, tcp(CLIENT, SERVERS[2], "A"), BACK);
        let quoted = "[2001:db8:18::10]:2001 > [2001:db8:18::58]:80 A hops 64";
        let expected = format!("front 2001:db8:18::58 > 2001:db8:18::10 icmp 2/0 mtu 1280 about {quoted}");
        assert_eq!(one(&mut lab, BACK, frame), expected);
    }
    // A router before the client, about what the server sent.
    let frame = told(error, "2001:db8:18::1", tcp(VIP, CLIENT, "A"), FRONT);
    let quoted = "[2001:db8:2::73]:80 > [2001:db8:18::10]:2001 A hops 64";
    let expected = format!("back 2001:db8:18::1 > 2001:db8:2::73 icmp 2/0 mtu 1280 about {quoted}");
    assert_eq!(one(&mut lab, FRONT, frame.clone()), expected);
    let mut wrong = frame.clone();
    wrong[14 + 42] ^= 1;
    assert_eq!(one(&mut lab, FRONT, wrong), "drop icmp_checksum");
    // About no connection.
    let frame = told(error, "2001:db8:18::1", tcp(VIP, "[2001:db8:18::10]:5", "A"), FRONT);
    assert_eq!(one(&mut lab, FRONT, frame), "kernel");
}

#[test]
fn a_server_that_does_not_answer() {
    let mut lab = serving(RR);
    set_neighbour(&lab, BACK, "2001:db8:2::73", false);
    let (verdicts, frames, _) = lab.process(0, FRONT, vec![tcp(CLIENT, VIP, "S").frame(FRONT)]);
    let Verdict::Hold(way) = verdicts[0] else { panic!("{verdicts:?}") };
    let hop = lab.control.shared().adjacencies.hop(way).unwrap();
    assert_eq!(hop, Hop { port: BACK, address: ip("2001:db8:2::73") });
    let service = lab.workers[0].held_for(0).unwrap();
    assert_eq!(service, point(VIP));
    let mut waited = frames[0].clone();
    let (port, told) = lab.control.host_unreachable(&mut waited, service, 5_000).unwrap();
    let quoted = "[2001:db8:18::10]:2001 > [2001:db8:18::58]:80 S";
    assert_eq!(port, FRONT);
    assert_eq!(describe(&told), format!("2001:db8:18::58 > 2001:db8:18::10 icmp 1/3 about {quoted}"));
}

fn server_of(outcome: &str) -> &str {
    outcome
        .split_once("> [2001:db8:2::")
        .and_then(|(_, rest)| rest.split_once(']'))
        .map_or(outcome, |(server, _)| server)
}

#[test]
fn a_client_is_a_prefix() {
    let persistence = Some(Persistence { timeout: 60, netmask: 64 });
    let mut lab = serving(ServiceSpec { persistence, ..RR });
    let mut go = |client: &str| server_of(&front(&mut lab, tcp(client, VIP, "S"))).to_owned();
    assert_eq!([go(CLIENT), go("[2001:db8:18::99]:1"), go("[2001:db8:9::1]:1")], ["73", "73", "72"]);
    let templates: Vec<_> = lab
        .entries()
        .into_iter()
        .filter(|entry| entry.contains("]:0 "))
        .map(|entry| entry[6..].to_owned())
        .collect();
    assert_eq!(
        templates,
        [
            "NONE [2001:db8:18::]:0 [2001:db8:18::58]:80 [2001:db8:2::73]:80",
            "NONE [2001:db8:9::]:0 [2001:db8:18::58]:80 [2001:db8:2::72]:80"
        ]
    );
}

#[test]
fn marks_of_both_families() {
    let mut lab = lab();
    let mark = NonZeroU32::MIN;
    let rule = MarkRule { protocol: None, source: None, destination: None, ports: MarkRule::ANY_PORT, mark };
    lab.control.set_marks(vec![rule]);
    add(&mut lab, ServiceKey::of_mark_v6(mark), RR, &["[2001:db8:2::71]:0"]);
    assert_eq!(server_of(&front(&mut lab, tcp(CLIENT, VIP, "S"))), "71");
    assert_eq!(lab.front(&tcp_v4("192.168.18.10:1", VIP_V4, "S")), "kernel", "there is none of IPv4");
    add(&mut lab, ServiceKey::of_mark(mark), RR, &["192.168.2.72:0"]);
    let outcome = lab.front(&tcp_v4("192.168.18.10:1", VIP_V4, "S"));
    assert_eq!(outcome, "back 192.168.18.10:1 > 192.168.2.72:80 S");
    let near = Some(Network::V6(0x2001_0db8_0018 << 80, u128::MAX << 80));
    lab.control.set_marks(vec![MarkRule { source: near, ..rule }]);
    assert_eq!(server_of(&front(&mut lab, tcp("[2001:db8:18::10]:9", VIP, "S"))), "71");
    assert_eq!(front(&mut lab, tcp("[2001:db8:19::10]:9", VIP, "S")), "kernel");
}

#[test]
fn hashes_are_of_the_address_folded() {
    // 0x2001db8 ^ 0x180000 ^ 0 ^ 0x10, as if it were an address of IPv4.
    let spec = |scheduler| ServiceSpec { scheduler, ..RR };
    for scheduler in [SchedulerKind::SourceHash, SchedulerKind::DestinationHash, SchedulerKind::Maglev] {
        let (mut six, mut four) = (serving(spec(scheduler)), lab());
        let fold = |text: &str| std::net::Ipv4Addr::from(ip(text).fold());
        let vip = fold("2001:db8:18::58");
        four.network.local.push(ip(&vip.to_string()));
        four.renew_network();
        // The table of `mh` is filled by the servers' addresses.
        let servers = ["71", "72", "73"].map(|server| fold(&format!("2001:db8:2::{server}")));
        let list = servers.map(|server| format!("{server}:80"));
        add(&mut four, tcp_key(&format!("{vip}:80")), spec(scheduler), &list.each_ref().map(|end| &**end));
        for server in servers {
            four.route(|fib| {
                fib.insert((ip(&server.to_string()), 32), Route::Link { port: BACK });
            });
            four.set_neighbour(BACK, &server.to_string(), true);
        }
        for host in 1..200 {
            let client = format!("2001:db8:18:{host:x}::{host}");
            let outcome = front(&mut six, tcp(&format!("[{client}]:7"), VIP, "S"));
            let expected: usize = server_of(&outcome).parse::<usize>().unwrap() - 71;
            let packet = tcp_v4(&format!("{}:7", fold(&client)), &format!("{vip}:80"), "S");
            assert!(
                four.front(&packet).contains(&format!("> {} S", list[expected])),
                "{scheduler:?} {client}"
            );
        }
    }
}

#[test]
fn a_full_table_is_its_own() {
    let mut lab = serving(RR);
    let mut refused = 0;
    for host in 0..1100 {
        let client = format!("[2001:db8:18::1:{host:x}]:1");
        refused += usize::from(front(&mut lab, tcp(&client, VIP, "S")).starts_with("drop table_full"));
    }
    assert_eq!((refused, lab.control.active_v6(), lab.control.active()), (100, 1000, 0));
    lab.serve(tcp_key(VIP_V4), &["192.168.2.71:80"]);
    assert!(lab.front(&tcp_v4("192.168.18.10:1", VIP_V4, "S")).starts_with("back "));
    lab.pass(62_000);
    assert_eq!(lab.control.active_v6(), 0);
    assert!(front(&mut lab, tcp(CLIENT, VIP, "S")).starts_with("back "));
}

#[test]
fn any_bytes() {
    let base = [
        tcp(CLIENT, VIP, "S").frame(FRONT),
        tcp(SERVERS[2], CLIENT, "SA").frame(BACK),
        udp(CLIENT, VIP).frame(FRONT),
        told(icmp::Error::TimeExceeded, "2001:db8:2::73", tcp(CLIENT, SERVERS[2], "A"), BACK),
    ];
    bolero::check!().with_type::<(u8, Vec<(u8, u8)>, u8)>().for_each(|(which, changes, cut)| {
        let mut lab = serving(RR);
        front(&mut lab, tcp(CLIENT, VIP, "S"));
        let which = usize::from(*which) % base.len();
        let mut frame = base[which].clone();
        for (at, value) in changes {
            let at = 12 + usize::from(*at) % (frame.len() - 12);
            frame[at] = *value;
        }
        frame.truncate(frame.len() - usize::from(*cut % 16));
        let (verdicts, frames, _) = lab.process(0, which as u8 % 2, vec![frame]);
        if let (Verdict::Send(_), Ok(packet)) = (verdicts[0], SlicedPacket::from_ethernet(&frames[0])) {
            assert!(packet.net.is_some());
        }
        assert_ne!(verdicts[0], Verdict::Drop(Reason::OtherHost));
    });
}

#[test]
fn direct_routing() {
    let mut lab = lab();
    lab.control.catalog.add_service(tcp_key(VIP), RR).unwrap();
    let spec = ServerSpec { forward: Forward::DirectRouting, ..ServerSpec::default() };
    lab.control.catalog.add_server(tcp_key(VIP), point(SERVERS[0]), spec).unwrap();
    lab.control.publish();
    let (verdicts, frames, _) = lab.process(0, FRONT, vec![tcp(CLIENT, VIP, "S").frame(FRONT)]);
    assert_eq!(verdicts, [Verdict::Send(BACK)]);
    assert_eq!(frames[0][..6], mac_of(v6("2001:db8:2::71")).0);
    assert_eq!(describe(&frames[0]), "[2001:db8:18::10]:2001 > [2001:db8:18::58]:80 S");
    lab.network.ports[1].mtu = 1280;
    lab.renew_network();
    let long = Packet { payload: 1300, ..tcp(CLIENT, VIP, "A") };
    let about = "front 2001:db8:18::58 > 2001:db8:18::10 icmp 2/0 mtu 1280 about a part";
    assert_eq!(front(&mut lab, long), format!("drop too_big; {about}"));
}
