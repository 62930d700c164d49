//! IPv6: the rest of what the engine does for IPv4 by the same code; what concerns packets is in the scenarios.

use std::net::Ipv4Addr;
use std::num::NonZeroU32;

use director_engine::fib::{Hop, Route};
use director_engine::mark::{MarkRule, Network};
use director_engine::service::{Forward, Protocol, SchedulerKind, ServerSpec, ServiceKey, ServiceSpec};
use director_engine::{Reason, Verdict};
use director_packet::fragment::{Fragment, MAX_FRAME, v6};
use etherparse::SlicedPacket;
use etherparse::defrag::IpDefragPool;

use crate::lab::{BACK, FRONT, Lab, PORT_MACS, RR, VIP as VIP_V4, ip, key, point, tcp_key};
use crate::packet::{self, Packet, tcp, udp};

const CLIENT: &str = "[2001:db8:18::10]:2001";
const VIP: &str = "[2001:db8:18::58]:80";
const SERVERS: [&str; 3] = ["[2001:db8:2::71]:80", "[2001:db8:2::72]:80", "[2001:db8:2::73]:80"];

fn serving(spec: ServiceSpec) -> Lab {
    let mut lab = Lab::empty(1000, 1);
    lab.serve_as(tcp_key(VIP), spec, &SERVERS);
    lab
}

fn frame(packet: &Packet, port: u8) -> Vec<u8> {
    packet.frame(packet.from(), PORT_MACS[usize::from(port)])
}

#[test]
fn a_server_that_does_not_answer() {
    let mut lab = serving(RR);
    lab.set_neighbour(BACK, "2001:db8:2::73", false);
    let (verdicts, frames, _) = lab.process(0, FRONT, vec![frame(&tcp(CLIENT, VIP, "S"), FRONT)]);
    let Verdict::Hold(way) = verdicts[0] else { panic!("{verdicts:?}") };
    let hop = lab.control.shared().adjacencies.hop(way).unwrap();
    assert_eq!(hop, Hop { port: BACK, address: ip("2001:db8:2::73") });
    let service = lab.workers[0].held_for(0).unwrap();
    assert_eq!(service, point(VIP));
    let mut waited = frames[0].clone();
    let (port, told) = lab.control.host_unreachable(&mut waited, service, 5_000).unwrap();
    let quoted = "[2001:db8:18::10]:2001 > [2001:db8:18::58]:80 ttl 63";
    let expected = format!("front 2001:db8:18::58 > 2001:db8:18::10: icmp 1/3 about {quoted} ttl 64");
    assert_eq!(lab.sent(port, &told), expected);
}

/// The last part of the address of the server that a packet went to.
fn server_of(outcome: &str) -> &str {
    outcome
        .split_once("> [2001:db8:2::")
        .and_then(|(_, rest)| rest.split_once(']'))
        .map_or(outcome, |(server, _)| server)
}

#[test]
fn marks_of_both_families() {
    let mut lab = Lab::empty(1000, 1);
    let mark = NonZeroU32::MIN;
    let rule = MarkRule { protocol: None, source: None, destination: None, ports: MarkRule::ANY_PORT, mark };
    lab.control.set_marks(vec![rule]);
    lab.serve_as(ServiceKey::of_mark_v6(mark), RR, &["[2001:db8:2::71]:0"]);
    assert_eq!(server_of(&lab.front(&tcp(CLIENT, VIP, "S"))), "71");
    assert_eq!(lab.front(&tcp("192.168.18.10:1", VIP_V4, "S")), "kernel", "there is none of IPv4");
    lab.serve_as(ServiceKey::of_mark(mark), RR, &["192.168.2.72:0"]);
    let outcome = lab.front(&tcp("192.168.18.10:1", VIP_V4, "S"));
    assert_eq!(outcome, "back 192.168.18.10:1 > 192.168.2.72:80 S");
    let near = Some(Network::V6(0x2001_0db8_0018 << 80, u128::MAX << 80));
    lab.control.set_marks(vec![MarkRule { source: near, ..rule }]);
    assert_eq!(server_of(&lab.front(&tcp("[2001:db8:18::10]:9", VIP, "S"))), "71");
    assert_eq!(lab.front(&tcp("[2001:db8:19::10]:9", VIP, "S")), "kernel");
}

#[test]
fn hashes_are_of_the_address_folded() {
    // 0x2001db8 ^ 0x180000 ^ 0 ^ 0x10, as if it were an address of IPv4.
    let spec = |scheduler| ServiceSpec { scheduler, ..RR };
    for scheduler in [SchedulerKind::SourceHash, SchedulerKind::DestinationHash, SchedulerKind::Maglev] {
        let (mut six, mut four) = (serving(spec(scheduler)), Lab::empty(1000, 1));
        let fold = |text: &str| Ipv4Addr::from(ip(text).fold());
        let vip = fold("2001:db8:18::58");
        four.network.local.push(ip(&vip.to_string()));
        four.renew_network();
        // The table of `mh` is filled by the servers' addresses.
        let servers = ["71", "72", "73"].map(|server| fold(&format!("2001:db8:2::{server}")));
        let list = servers.map(|server| format!("{server}:80"));
        four.serve_as(tcp_key(&format!("{vip}:80")), spec(scheduler), &list.each_ref().map(|end| &**end));
        for server in servers {
            four.route(|fib| {
                fib.insert((ip(&server.to_string()), 32), Route::Link { port: BACK });
            });
            four.set_neighbour(BACK, &server.to_string(), true);
        }
        for host in 1..200 {
            let client = format!("2001:db8:18:{host:x}::{host}");
            let outcome = six.front(&tcp(&format!("[{client}]:7"), VIP, "S"));
            let expected: usize = server_of(&outcome).parse::<usize>().unwrap() - 71;
            let packet = tcp(&format!("{}:7", fold(&client)), &format!("{vip}:80"), "S");
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
        refused += usize::from(lab.front(&tcp(&client, VIP, "S")).starts_with("drop table_full"));
    }
    assert_eq!((refused, lab.control.active_v6(), lab.control.active()), (100, 1000, 0));
    lab.serve(tcp_key(VIP_V4), &["192.168.2.71:80"]);
    assert!(lab.front(&tcp("192.168.18.10:1", VIP_V4, "S")).starts_with("back "));
    lab.pass(62_000);
    assert_eq!(lab.control.active_v6(), 0);
    assert!(lab.front(&tcp(CLIENT, VIP, "S")).starts_with("back "));
}

/// A fragmented datagram in a tunnel: the outer packet is in fragments, with an identification of its own.
#[test]
fn fragments_in_a_tunnel() {
    let mut lab = Lab::empty(1000, 1);
    let (vip, server) = (key(Protocol::Udp, VIP), point(SERVERS[0]));
    lab.control.catalog.add_service(vip, RR).unwrap();
    let spec = ServerSpec { forward: Forward::Tunnelling, ..ServerSpec::default() };
    lab.control.catalog.add_server(vip, server, spec).unwrap();
    lab.control.publish();
    let datagram = frame(&udp(CLIENT, VIP).length(4000), FRONT);
    let mut out = Box::new([0; MAX_FRAME]);
    let mut identifications = Vec::new();
    for round in 0..2 {
        let part = |from: usize, to: usize, out: &mut [u8; MAX_FRAME]| {
            let length = v6::cut(&datagram, 40, 7, from..to, out);
            out[..length].to_vec()
        };
        // The longest fit exactly.
        let frames = [(0, 1408), (2816, 3960), (1408, 2816)].map(|(from, to)| part(from, to, &mut out));
        lab.process(0, FRONT, frames.into());
        let (now, milliseconds) = (lab.now(), lab.milliseconds as u32);
        assert!(lab.workers[0].reassemble(now, milliseconds));
        let mut pool = IpDefragPool::<(), ()>::new();
        let mut whole = None;
        while let Some(part) = lab.workers[0].next_part() {
            assert!(part.verdict == Verdict::Send(BACK) && part.frame.len() <= 14 + 1500);
            let read = Fragment::read(&part.frame[14..]).unwrap();
            assert_eq!((read.destination, read.protocol), (ip("2001:db8:2::71"), 41));
            identifications.push(read.identification);
            let sliced = SlicedPacket::from_ethernet(part.frame).unwrap();
            whole = pool.process_sliced_packet(&sliced, (), ()).unwrap();
        }
        let inside = whole.unwrap().payload;
        assert_eq!((inside.len(), inside[7]), (4000, 63));
        assert_eq!(inside[8..], datagram[14 + 8..], "{round}");
    }
    identifications.dedup();
    assert_eq!(identifications.len(), 2);
}

#[test]
fn any_bytes() {
    let error = packet::icmp(
        "2001:db8:2::73",
        "2001:db8:18::10",
        3,
        0,
        [0; 4],
        &tcp(CLIENT, SERVERS[2], "A").bytes(),
        PORT_MACS[1],
    );
    let base = [
        frame(&tcp(CLIENT, VIP, "S"), FRONT),
        frame(&tcp(SERVERS[2], CLIENT, "SA"), BACK),
        frame(&udp(CLIENT, VIP), FRONT),
        error,
    ];
    bolero::check!().with_type::<(u8, Vec<(u8, u8)>, u8)>().for_each(|(which, changes, cut)| {
        let mut lab = serving(RR);
        lab.front(&tcp(CLIENT, VIP, "S"));
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
