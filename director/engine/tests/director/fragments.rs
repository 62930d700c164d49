//! Packets in fragments, and packets that leave in fragments because they are too long: both directions.

use director_engine::service::Protocol;
use director_engine::{BURST, Part, Tick, Verdict, Worker};
use director_packet::ethernet::HEADER;
use director_packet::fragment::{MAX_FRAME, cut};
use etherparse::defrag::IpDefragPool;
use etherparse::{NetSlice, SlicedPacket};

use crate::lab::{BACK, Burst, CLIENT, FRONT, Lab, PORT_MACS, SERVERS, VIP, key, tcp_key};
use crate::packet::{Packet, icmp, tcp, udp};

const DNS: &str = "192.168.18.58:53";
const DNS_SERVERS: [&str; 2] = ["192.168.2.71:53", "192.168.2.72:5353"];

fn lab(workers: usize) -> Lab {
    let mut lab = Lab::empty(1000, workers);
    lab.serve(tcp_key(VIP), &SERVERS);
    lab.serve(key(Protocol::Udp, DNS), &DNS_SERVERS);
    lab
}

/// What comes of a burst: each frame, each part of what became complete or was split, each ICMP error.
#[derive(Default)]
struct Outcome {
    verdicts: Vec<Verdict>,
    parts: Vec<Made>,
    replies: Vec<String>,
}

struct Made {
    frame: Vec<u8>,
    port: u8,
    verdict: Verdict,
    service: Option<String>,
    is_received: bool,
}

impl From<Part<'_>> for Made {
    fn from(part: Part<'_>) -> Self {
        let Part { frame, port, verdict, service, is_received } = part;
        let service = service.map(|service| service.to_string());
        Self { frame: frame.to_vec(), port, verdict, service, is_received }
    }
}

/// Does what a director does with a burst.
fn run(worker: &mut Worker, milliseconds: u64, port: u8, frames: Vec<Vec<u8>>) -> (Outcome, Vec<Vec<u8>>) {
    let (now, wrapped) = (Tick::from_millis(milliseconds), milliseconds as u32);
    let mut burst = Burst { frames, head: usize::MAX };
    let mut verdicts = [Verdict::Kernel; BURST];
    worker.quiescent();
    worker.process(now, wrapped, port, &mut burst, &mut verdicts);
    let mut outcome = Outcome { verdicts: verdicts[..burst.frames.len()].to_vec(), ..Outcome::default() };
    for (at, (verdict, frame)) in verdicts.iter().zip(&burst.frames).enumerate() {
        if matches!(verdict, Verdict::SendSplit(..) | Verdict::HoldSplit(..)) {
            worker.split(at, port, *verdict, frame.len(), |bytes| {
                bytes.copy_from_slice(frame);
                true
            });
            while let Some(part) = worker.next_part() {
                outcome.parts.push(part.into());
            }
        }
    }
    while worker.reassemble(now, wrapped) {
        while let Some(part) = worker.next_part() {
            outcome.parts.push(part.into());
        }
    }
    (outcome, burst.frames)
}

fn send_by(lab: &mut Lab, worker: usize, port: u8, frames: Vec<Vec<u8>>) -> Outcome {
    let mut outcome = run(&mut lab.workers[worker], lab.milliseconds, port, frames).0;
    let replies = lab.workers[worker].replies();
    outcome.replies = replies.iter().map(|reply| lab.sent(reply.port, reply.frame())).collect();
    outcome
}

fn send(lab: &mut Lab, port: u8, frames: Vec<Vec<u8>>) -> Outcome {
    send_by(lab, 0, port, frames)
}

fn frame(packet: &Packet, port: u8) -> Vec<u8> {
    packet.frame(packet.from(), PORT_MACS[usize::from(port)])
}

/// The fragments of a packet, cut at these places of its data.
fn fragments(packet: &Packet, port: u8, cuts: &[usize]) -> Vec<Vec<u8>> {
    let frame = frame(packet, port);
    let header = usize::from(frame[14] & 15) * 4;
    let mut out = Box::new([0; MAX_FRAME]);
    let ends = cuts.iter().copied().chain([frame.len() - HEADER - header]);
    std::iter::once(0)
        .chain(cuts.iter().copied())
        .zip(ends)
        .map(|(from, to)| {
            let length = cut(&frame, header, from..to, &mut out);
            out[..length].to_vec()
        })
        .collect()
}

/// Where each part begins, how long its data is, its identification, flags and time to live.
fn shape(frame: &[u8]) -> (u16, u16, u16, &'static str, u8) {
    let sliced = SlicedPacket::from_ethernet(frame).unwrap();
    let Some(NetSlice::Ipv4(ip)) = sliced.net else { panic!("not IPv4") };
    let ip = ip.header().to_header();
    assert_eq!(ip.header_checksum, ip.calc_header_checksum());
    let flags = match (ip.dont_fragment, ip.more_fragments) {
        (false, true) => "more",
        (false, false) => "",
        (true, _) => "DF",
    };
    let data = ip.total_len - ip.header_len() as u16;
    (ip.fragment_offset.byte_offset(), data, ip.identification, flags, ip.time_to_live)
}

/// An independent receiver puts the parts together: the whole, in words, and its data.
fn received(lab: &Lab, parts: &[Made]) -> (String, Vec<u8>) {
    let mut pool = IpDefragPool::<(), ()>::new();
    let mut whole = None;
    for made in parts {
        let sliced = SlicedPacket::from_ethernet(&made.frame).unwrap();
        assert!(whole.is_none(), "more than the whole");
        whole = pool.process_sliced_packet(&sliced, (), ()).unwrap();
    }
    let data = whole.unwrap().payload;
    let mut frame = parts[0].frame[..HEADER + 20].to_vec();
    frame[14] = 0x45;
    frame[16..18].copy_from_slice(&(20 + data.len() as u16).to_be_bytes());
    frame[20..22].fill(0);
    frame[24..26].fill(0);
    let sum = director_packet::checksum::checksum(&frame[14..34]);
    frame[24..26].copy_from_slice(&sum);
    frame.extend(&data);
    let Verdict::Send(port) = parts[0].verdict else { panic!("{:?}", parts[0].verdict) };
    assert!(parts.iter().all(|made| made.verdict == parts[0].verdict));
    assert!(parts.iter().all(|made| made.frame[..12] == parts[0].frame[..12]));
    (lab.sent(port, &frame), data)
}

fn question(length: usize) -> Packet {
    udp(CLIENT, DNS).length(length).fragmentable().ip(|ip| ip.identification = 777)
}

fn answer(length: usize) -> Packet {
    udp(DNS_SERVERS[1], CLIENT).length(length).fragmentable().ip(|ip| ip.identification = 778)
}

const TO_SERVER: &str = "back 192.168.18.10:2001 > 192.168.2.72:5353 UDP";
const TO_CLIENT: &str = "front 192.168.18.58:53 > 192.168.18.10:2001 UDP";

#[test]
fn a_datagram_both_ways_in_any_order() {
    let mut lab = lab(1);
    let orders = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
    for (way, packet, expected) in [(FRONT, question(4_000), TO_SERVER), (BACK, answer(4_000), TO_CLIENT)] {
        let all = fragments(&packet, way, &[1480, 2960]);
        for order in orders {
            for at in &order[..2] {
                let outcome = send(&mut lab, way, vec![all[*at].clone()]);
                assert_eq!((&outcome.verdicts[..], outcome.parts.len()), (&[Verdict::Keep][..], 0));
                let again = send(&mut lab, way, vec![all[*at].clone()]);
                assert_eq!(format!("{:?}", again.verdicts), "[Drop(FragmentDuplicate)]");
            }
            let outcome = send(&mut lab, way, vec![all[order[2]].clone()]);
            assert_eq!(outcome.verdicts, [Verdict::Keep]);
            let id = if way == FRONT { 777 } else { 778 };
            let shapes: Vec<_> = outcome.parts.iter().map(|made| shape(&made.frame)).collect();
            assert_eq!(
                shapes,
                [(0, 1480, id, "more", 63), (1480, 1480, id, "more", 63), (2960, 1020, id, "", 63)]
            );
            assert!(outcome.parts.iter().all(|made| made.is_received && made.port == way));
            let (text, data) = received(&lab, &outcome.parts);
            assert_eq!(text, expected);
            assert_eq!(data[8..], packet.bytes()[28..]);
        }
    }
    assert_eq!(lab.entries(), ["04:59 UDP 192.168.18.10:2001 192.168.18.58:53 192.168.2.72:5353"]);
    let traffic = lab.traffic(key(Protocol::Udp, DNS), DNS_SERVERS[1]);
    assert_eq!((traffic.in_packets, traffic.out_packets), (6, 6), "counted as whole packets");
    assert_eq!((traffic.in_bytes, traffic.out_bytes), (24_000, 24_000));
}

/// In one burst, two datagrams' fragments mixed with each other and with other packets.
#[test]
fn mixed_in_one_burst() {
    let mut lab = lab(1);
    let one = fragments(&question(2_900), FRONT, &[1480]);
    let other = udp("192.168.18.11:5", DNS).length(1_500).fragmentable();
    let other = fragments(&other, FRONT, &[8]);
    let syn = frame(&tcp(CLIENT, VIP, "S"), FRONT);
    let frames = vec![other[1].clone(), one[0].clone(), syn, one[1].clone(), other[0].clone()];
    let outcome = send(&mut lab, FRONT, frames);
    let keep = Verdict::Keep;
    assert_eq!(outcome.verdicts, [keep, keep, Verdict::Send(BACK), keep, keep]);
    assert_eq!(received(&lab, &outcome.parts[..2]).0, TO_SERVER);
    let second = received(&lab, &outcome.parts[2..]).0;
    assert_eq!(second, "back 192.168.18.11:5 > 192.168.2.71:53 UDP");
    assert_eq!(shape(&outcome.parts[2].frame).1, 8);
}

#[test]
fn tcp_with_eight_bytes_first() {
    let mut lab = lab(1);
    let syn = tcp(CLIENT, VIP, "S").length(600).fragmentable();
    let outcome = send(&mut lab, FRONT, fragments(&syn, FRONT, &[8]));
    assert_eq!(received(&lab, &outcome.parts).0, "back 192.168.18.10:2001 > 192.168.2.73:80 S");
    assert_eq!(lab.entries(), ["00:59 SYN_RECV 192.168.18.10:2001 192.168.18.58:80 192.168.2.73:80"]);
    let reply = tcp(SERVERS[2], CLIENT, "SA").length(100).fragmentable();
    let outcome = send(&mut lab, BACK, fragments(&reply, BACK, &[8, 16]));
    assert_eq!(received(&lab, &outcome.parts).0, "front 192.168.18.58:80 > 192.168.18.10:2001 SA");
    let ack = tcp(CLIENT, VIP, "A").length(600).fragmentable();
    send(&mut lab, FRONT, fragments(&ack, FRONT, &[400]));
    assert_eq!(lab.entries(), ["14:59 ESTABLISHED 192.168.18.10:2001 192.168.18.58:80 192.168.2.73:80"]);
}

#[test]
fn a_fragment_alone() {
    for which in [0, 1] {
        let mut lab = lab(1);
        let alone = fragments(&question(2_000), FRONT, &[1480]).remove(which);
        let outcome = send(&mut lab, FRONT, vec![alone]);
        assert_eq!((&outcome.verdicts[..], outcome.parts.len()), (&[Verdict::Keep][..], 0));
        assert_eq!(lab.entries().len(), 0);
        let lost = |lab: &Lab| {
            let mut lost = Vec::new();
            lab.control.take_lost_fragments(|port, reason, count| lost.push((port, reason.name(), count)));
            lost
        };
        lab.pass(29_900);
        assert_eq!(lost(&lab), []);
        lab.pass(200);
        assert_eq!(lost(&lab), [(FRONT, "fragment_timeout", 1)]);
        assert_eq!((lost(&lab), lab.entries().len()), (Vec::new(), 0));
    }
}

/// Whose first fragment came is told from the address that it was sent to; a server, whose packet is only passing, from
/// the director's own on that side. As often as any are told.
#[test]
fn who_waited_in_vain_is_told() {
    let mut lab = lab(1);
    let question = fragments(&question(3_000), FRONT, &[1480]).remove(0);
    let answer = fragments(&answer(3_000), BACK, &[1480]).remove(0);
    send(&mut lab, FRONT, vec![question.clone()]);
    send(&mut lab, BACK, vec![answer]);
    lab.pass(29_900);
    assert_eq!(lab.told(), [""; 0]);
    lab.pass(200);
    let quoted = lab.told.iter().find(|(port, _)| *port == FRONT).unwrap().1[HEADER + 28..].to_vec();
    assert_eq!(quoted, question[HEADER..HEADER + 548], "as it came");
    let mut told = lab.told();
    told.sort();
    assert_eq!(
        told,
        [
            "back 192.168.2.90 > 192.168.2.72: icmp 11/1 about 192.168.2.72:5353 > 192.168.18.10:2001 ttl 64 ttl 64",
            "front 192.168.18.58 > 192.168.18.10: icmp 11/1 about 192.168.18.10:2001 > 192.168.18.58:53 ttl 64 ttl 64",
        ]
    );
    for id in 0..20 {
        let packet = udp(CLIENT, DNS).length(2_000).fragmentable().ip(|ip| ip.identification = id);
        send(&mut lab, FRONT, fragments(&packet, FRONT, &[1480])[..1].to_vec());
    }
    lab.pass(40_000);
    assert_eq!(lab.told().len(), 6);
}

/// A header of fragments on what is whole, and behind it that of the fragments: no part is empty, or other than it was.
#[test]
fn a_whole_fragment_header_before_that_of_fragments() {
    const CLIENT_V6: &str = "[2001:db8:18::10]:1";
    const VIP_V6: &str = "[2001:db8:18::58]:80";
    for code in 0..=6 {
        let mut lab = Lab::empty(100, 1);
        lab.serve(tcp_key(VIP_V6), &["[2001:db8:2::71]:8080"]);
        lab.front(&tcp(CLIENT_V6, VIP_V6, "S"));
        let quoted = tcp(VIP_V6, CLIENT_V6, "SA").bytes();
        let error = icmp("2001:db8:18::10", "2001:db8:18::58", 1, code, [0; 4], &quoted, PORT_MACS[0]);
        let (ip, data) = error.split_at(HEADER + 40);
        let part = |from: usize, to: usize| {
            let mut frame = ip.to_vec();
            frame[HEADER + 4..HEADER + 6].copy_from_slice(&(16 + (to - from) as u16).to_be_bytes());
            frame[HEADER + 6] = 44;
            let [high, low] = (from as u16 | u16::from(to < data.len())).to_be_bytes();
            frame.extend([44, 0, 0, 0, 0, 0, 0, 1, 58, 0, high, low, 0, 0, 0, 2]);
            frame.extend(&data[from..to]);
            frame
        };
        let outcome = send(&mut lab, FRONT, vec![part(0, 40), part(40, data.len())]);
        assert_eq!(outcome.parts.len(), 2, "code {code}");
        for (made, (from, to)) in outcome.parts.iter().zip([(0, 40), (40, data.len())]) {
            assert_eq!(made.frame.len(), HEADER + 56 + to - from, "code {code}");
            SlicedPacket::from_ethernet(&made.frame).unwrap();
        }
    }
}

/// What only a service's, a server's, or ICMP's fragments are: others' are the kernel's at once.
#[test]
fn whose_fragments_are_kept() {
    let mut lab = lab(1);
    let mut verdict = |port, packet: Packet| {
        let later = fragments(&packet.length(100).fragmentable(), port, &[40]).remove(1);
        send(&mut lab, port, vec![later]).verdicts[0]
    };
    assert_eq!(verdict(FRONT, udp(CLIENT, "192.168.18.58:9")), Verdict::Keep);
    assert_eq!(verdict(FRONT, udp(CLIENT, "192.168.18.59:53")), Verdict::Kernel, "no service there");
    assert_eq!(verdict(FRONT, udp(CLIENT, "192.168.2.71:53")), Verdict::Kernel, "to a server");
    assert_eq!(verdict(BACK, udp("192.168.2.72:9", "192.168.18.11:1")), Verdict::Keep);
    assert_eq!(verdict(BACK, udp("192.168.2.80:53", CLIENT)), Verdict::Kernel, "no server");
    assert_eq!(verdict(BACK, udp("192.168.2.72:5353", "192.168.2.90:1")), Verdict::Kernel, "to the director");
    lab.delete_server(VIP, SERVERS[1]);
    lab.delete_service(VIP);
    lab.control.catalog.delete_service(key(Protocol::Udp, DNS)).unwrap();
    lab.control.publish();
    let mut verdict = |port, packet: Packet| {
        let later = fragments(&packet.length(100).fragmentable(), port, &[40]).remove(1);
        send(&mut lab, port, vec![later]).verdicts[0]
    };
    assert_eq!(verdict(FRONT, udp(CLIENT, "192.168.18.58:9")), Verdict::Kernel, "balancing is off");
    assert_eq!(verdict(BACK, udp("192.168.2.72:9", "192.168.18.11:1")), Verdict::Kernel);
}

/// A deleted server with connections is one still, and for two minutes after; then it is none.
#[test]
fn fragments_of_a_deleted_server() {
    let mut lab = lab(1);
    let asked = frame(&question(100), FRONT);
    send(&mut lab, FRONT, vec![asked]);
    lab.control.catalog.delete_server(key(Protocol::Udp, DNS), crate::lab::point(DNS_SERVERS[1])).unwrap();
    lab.delete_server(VIP, SERVERS[1]);
    lab.pass(1_000);
    let outcome = send(&mut lab, BACK, fragments(&answer(3_000), BACK, &[1480]));
    assert_eq!(received(&lab, &outcome.parts).0, TO_CLIENT);
    lab.pass(440_000);
    let outcome = send(&mut lab, BACK, fragments(&answer(3_000), BACK, &[1480]));
    assert_eq!(outcome.verdicts, [Verdict::Kernel; 2]);
}

/// What is no connection's after all goes to the kernel as it came.
#[test]
fn given_back_to_the_kernel() {
    let mut lab = lab(1);
    let syn = tcp(CLIENT, "192.168.18.58:22", "S").length(100).fragmentable();
    let ack = tcp(CLIENT, VIP, "A").length(100).fragmentable();
    let unknown = udp("192.168.2.72:9", "192.168.18.11:1").length(100).fragmentable();
    for (port, packet) in [(FRONT, syn), (FRONT, ack), (BACK, unknown)] {
        let all = fragments(&packet, port, &[16, 48]);
        let outcome = send(&mut lab, port, vec![all[2].clone(), all[0].clone(), all[1].clone()]);
        assert_eq!(outcome.verdicts, [Verdict::Keep; 3]);
        assert!(outcome.parts.iter().all(|made| made.verdict == Verdict::Kernel && made.port == port));
        assert_eq!(outcome.parts.into_iter().map(|made| made.frame).collect::<Vec<_>>(), all);
    }
    assert_eq!(lab.entries().len(), 0);
}

#[test]
fn what_is_refused_is_told_about_the_whole() {
    let mut lab = lab(1);
    lab.serve(key(Protocol::Udp, "192.168.18.59:53"), &[]);
    let packet = udp(CLIENT, "192.168.18.59:53").length(3_000).fragmentable();
    let outcome = send(&mut lab, FRONT, fragments(&packet, FRONT, &[1480]));
    assert_eq!(
        outcome.replies,
        [
            "front 192.168.18.59 > 192.168.18.10: icmp 3/3 about 192.168.18.10:2001 > 192.168.18.59:53 ttl 64 ttl 64"
        ]
    );
    let dropped: Vec<_> = outcome.parts.iter().map(|made| (made.verdict, made.is_received)).collect();
    assert_eq!(format!("{dropped:?}"), "[(Drop(NoServer), true), (Drop(NoServer), true)]");
    assert_eq!(lab.entries().len(), 0);
    let outcome = send(&mut lab, FRONT, fragments(&question(3_000).ttl(1), FRONT, &[1480]));
    assert_eq!(
        outcome.replies,
        [
            "front 192.168.18.58 > 192.168.18.10: icmp 11/0 about 192.168.18.10:2001 > 192.168.18.58:53 ttl 1 ttl 64"
        ]
    );
    assert_eq!(lab.entries().len(), 1, "the entry was made");
    let outcome = send(&mut lab, BACK, fragments(&answer(3_000).ttl(1), BACK, &[1480]));
    assert_eq!(
        outcome.replies,
        [
            "back 192.168.2.90 > 192.168.2.72: icmp 11/0 about 192.168.2.72:5353 > 192.168.18.10:2001 ttl 1 ttl 64"
        ]
    );
    // Too short for its header, now that it is whole.
    let short = tcp(CLIENT, VIP, "S").fragmentable();
    let mut cut_short = fragments(&short, FRONT, &[8]);
    cut_short[1].truncate(34 + 8);
    cut_short[1][16..18].copy_from_slice(&28_u16.to_be_bytes());
    cut_short[1][24..26].fill(0);
    let sum = director_packet::checksum::checksum(&cut_short[1][14..34]);
    cut_short[1][24..26].copy_from_slice(&sum);
    let outcome = send(&mut lab, FRONT, cut_short);
    assert_eq!(format!("{:?}", outcome.parts[1].verdict), "Drop(MalformedTransport)");
}

#[test]
fn longer_than_the_mtu_without_df() {
    let mut lab = lab(1);
    lab.network.ports[1].mtu = 1000;
    lab.network.ports[0].mtu = 576;
    lab.renew_network();
    for (port, packet, expected, sizes) in [
        (FRONT, question(1_500), TO_SERVER, vec![976, 504]),
        (BACK, answer(1_500), TO_CLIENT, vec![552, 552, 376]),
    ] {
        let outcome = send(&mut lab, port, vec![frame(&packet, port)]);
        assert!(matches!(outcome.verdicts[0], Verdict::SendSplit(..)));
        let shapes: Vec<_> = outcome.parts.iter().map(|made| shape(&made.frame)).collect();
        assert_eq!(shapes.iter().map(|shape| shape.1).collect::<Vec<_>>(), sizes);
        assert!(shapes.iter().all(|shape| shape.4 == 63));
        let received_ones: Vec<_> = outcome.parts.iter().map(|made| made.is_received).collect();
        assert_eq!(received_ones, (0..sizes.len()).map(|at| at == 0).collect::<Vec<_>>(), "counted once");
        let (text, data) = received(&lab, &outcome.parts);
        assert_eq!(text, expected);
        assert_eq!(data[8..], packet.bytes()[28..]);
        assert_eq!(outcome.replies, [""; 0]);
    }
    // As long as the MTU: in one piece.
    let outcome = send(&mut lab, FRONT, vec![frame(&question(1_000), FRONT)]);
    assert_eq!(outcome.verdicts, [Verdict::Send(BACK)]);
    // A whole TCP connection's packets too, established or not.
    for flags in ["S", "A", "A"] {
        let segment = tcp(CLIENT, VIP, flags).length(1_400).fragmentable();
        let outcome = send(&mut lab, FRONT, vec![frame(&segment, FRONT)]);
        assert_eq!(
            received(&lab, &outcome.parts).0,
            format!("back 192.168.18.10:2001 > 192.168.2.73:80 {flags}")
        );
    }
}

#[test]
fn fragments_longer_than_the_mtu_of_the_way_on() {
    let mut lab = lab(1);
    lab.network.ports[1].mtu = 1000;
    lab.renew_network();
    // Each part is cut further where it must be.
    let outcome = send(&mut lab, FRONT, fragments(&question(3_000), FRONT, &[800, 2_280]));
    let shapes: Vec<_> = outcome.parts.iter().map(|made| shape(&made.frame)).collect();
    assert_eq!(
        shapes.iter().map(|shape| (shape.0, shape.1)).collect::<Vec<_>>(),
        [(0, 800), (800, 976), (1776, 504), (2280, 700)]
    );
    assert_eq!(
        outcome.parts.iter().map(|made| made.is_received).collect::<Vec<_>>(),
        [true, true, false, true]
    );
    assert_eq!(received(&lab, &outcome.parts).0, TO_SERVER);
    // With "don't fragment" on the longest: it is told.
    let with_df = |mut frame: Vec<u8>| {
        frame[20] |= 0x40;
        frame[24..26].fill(0);
        let sum = director_packet::checksum::checksum(&frame[14..34]);
        frame[24..26].copy_from_slice(&sum);
        frame
    };
    let all = fragments(&question(3_000), FRONT, &[800, 2_280]);
    let outcome = send(&mut lab, FRONT, all.into_iter().map(with_df).collect());
    assert_eq!(
        outcome.replies,
        [
            "front 192.168.18.58 > 192.168.18.10: icmp 3/4 mtu 1000 about 192.168.18.10:2001 > 192.168.18.58:53 ttl 63 ttl 64"
        ]
    );
    assert!(outcome.parts.iter().all(|made| format!("{:?}", made.verdict) == "Drop(TooBig)"));
    // All that fit go out, and without that flag.
    let all = fragments(&question(3_000), FRONT, &[960, 1920, 2880]);
    let outcome = send(&mut lab, FRONT, all.into_iter().map(with_df).collect());
    assert_eq!(
        outcome.parts.iter().map(|made| shape(&made.frame).3).collect::<Vec<_>>(),
        ["more", "more", "more", ""]
    );
    assert_eq!(received(&lab, &outcome.parts).0, TO_SERVER);
}

#[test]
fn while_the_neighbour_is_not_known() {
    let mut lab = lab(1);
    lab.set_neighbour(BACK, "192.168.2.72", false);
    let outcome = send(&mut lab, FRONT, fragments(&question(2_900), FRONT, &[1480]));
    assert_eq!(outcome.parts.len(), 2);
    for made in &outcome.parts {
        assert!(matches!(made.verdict, Verdict::Hold(_)));
        assert_eq!(made.service.as_deref(), Some(DNS));
    }
    // If it never is, the client is told, about the first.
    let service = crate::lab::point(DNS);
    let told = |lab: &mut Lab, at: usize| {
        lab.control.host_unreachable(&mut outcome.parts[at].frame.clone(), service, 0)
    };
    let (port, error) = told(&mut lab, 0).unwrap();
    assert_eq!(
        lab.sent(port, &error),
        "front 192.168.18.58 > 192.168.18.10: icmp 3/1 about 192.168.18.10:2001 > 192.168.18.58:53 ttl 63 ttl 64"
    );
    assert_eq!(error[HEADER + 28 + 20..][..500], question(2_900).bytes()[20..][..500], "as it was sent");
    assert!(told(&mut lab, 1).is_none());
    lab.network.ports[1].mtu = 1000;
    lab.renew_network();
    let outcome = send(&mut lab, FRONT, vec![frame(&question(1_400), FRONT)]);
    assert!(matches!(outcome.verdicts[0], Verdict::HoldSplit(_, 1000)));
    assert_eq!(outcome.parts.len(), 2);
    assert!(outcome.parts.iter().all(|made| matches!(made.verdict, Verdict::Hold(_))));
    assert!(outcome.parts.iter().all(|made| made.service.as_deref() == Some(DNS)));
}

#[test]
fn fragments_that_two_workers_get() {
    let mut lab = lab(2);
    let all = fragments(&question(4_000), FRONT, &[1480, 2960]);
    for (worker, at) in [(1, 2), (0, 0)] {
        assert_eq!(send_by(&mut lab, worker, FRONT, vec![all[at].clone()]).verdicts, [Verdict::Keep]);
    }
    let outcome = send_by(&mut lab, 1, FRONT, vec![all[1].clone()]);
    assert_eq!(received(&lab, &outcome.parts).0, TO_SERVER);
    // By another port too: the first fragment says by which it came in.
    let all = fragments(&question(2_900), FRONT, &[1480]);
    let mut strayed = all[1].clone();
    strayed[..6].copy_from_slice(&PORT_MACS[1].0);
    send_by(&mut lab, 0, BACK, vec![strayed]);
    let outcome = send_by(&mut lab, 1, FRONT, vec![all[0].clone()]);
    assert_eq!(received(&lab, &outcome.parts).0, TO_SERVER);
    assert_eq!(outcome.parts.iter().map(|made| made.port).collect::<Vec<_>>(), [FRONT, BACK]);
}

#[test]
fn an_overlap_gives_the_packet_up() {
    let mut lab = lab(1);
    let all = fragments(&question(3_000), FRONT, &[1480]);
    let overlapping = fragments(&question(3_000), FRONT, &[1472, 2_000]).remove(1);
    send(&mut lab, FRONT, vec![all[0].clone()]);
    let outcome = send(&mut lab, FRONT, vec![overlapping]);
    assert_eq!(format!("{:?}", outcome.verdicts), "[Drop(FragmentOverlap)]");
    let mut lost = Vec::new();
    lab.control.take_lost_fragments(|port, reason, count| lost.push((port, reason.name(), count)));
    assert_eq!(lost, [(FRONT, "fragment_overlap", 1)]);
    assert_eq!(send(&mut lab, FRONT, vec![all[1].clone()]).parts.len(), 0);
}

#[test]
fn a_datagram_without_checksum_and_one_with_options() {
    let mut lab = lab(1);
    let outcome = send(&mut lab, FRONT, fragments(&question(3_000).without_checksum(), FRONT, &[1480]));
    assert_eq!(received(&lab, &outcome.parts).0, TO_SERVER, "it has one now, over all of it");
    // Record route is for the first fragment; loose source route would be for all.
    let options = [7, 7, 4, 0, 0, 0, 0, 1];
    let packet = udp(CLIENT, DNS).ip_options(&options).length(3_000).fragmentable();
    let outcome = send(&mut lab, FRONT, fragments(&packet, FRONT, &[1464]));
    assert_eq!(outcome.parts[0].frame[34..42], [7, 7, 8, 192, 168, 18, 58, 1]);
    assert_eq!(outcome.parts[1].frame[34..42], [1; 8]);
    assert_eq!(shape(&outcome.parts[1].frame).0, 1464);
}

/// A fragment without the options that are not to be in each.
fn without_options(mut frame: Vec<u8>) -> Vec<u8> {
    let header = usize::from(frame[14] & 15) * 4;
    frame.drain(HEADER + 20..HEADER + header);
    frame[14] = 0x45;
    let length = frame.len() - HEADER;
    frame[16..18].copy_from_slice(&(length as u16).to_be_bytes());
    frame[24..26].fill(0);
    let sum = director_packet::checksum::checksum(&frame[14..34]);
    frame[24..26].copy_from_slice(&sum);
    frame
}

/// Later fragments get room for all options, "no operation" in their place: what fitted may not fit any more.
#[test]
fn options_of_the_first_fragment_make_the_others_longer() {
    let options = [[7, 39].as_slice(), &[4], &[0; 36], &[1]].concat();
    let packet = udp(CLIENT, DNS).ip_options(&options).length(4_000).fragmentable();
    for known in [true, false] {
        let mut lab = lab(1);
        lab.set_neighbour(BACK, "192.168.2.72", known);
        let mut all = fragments(&packet, FRONT, &[1440, 1440 + 1480]);
        for later in &mut all[1..] {
            *later = without_options(std::mem::take(later));
        }
        let lengths: Vec<_> = all.iter().map(|frame| frame.len() - HEADER).collect();
        assert_eq!(lengths, [1500, 1500, 1040]);
        let outcome = send(&mut lab, FRONT, all);
        let shapes = outcome.parts.iter().map(|made| shape(&made.frame));
        let lengths: Vec<_> = shapes.map(|shape| (shape.0, 60 + shape.1)).collect();
        assert_eq!(lengths, [(0, 1500), (1440, 1500), (2880, 100), (2920, 1080)]);
        if known {
            assert_eq!(received(&lab, &outcome.parts).0, TO_SERVER);
        } else {
            assert!(outcome.parts.iter().all(|made| matches!(made.verdict, Verdict::Hold(_))));
        }
    }
}

/// A last part that fits exactly stays one, whatever the MTU is a multiple of.
#[test]
fn a_last_part_as_long_as_the_mtu() {
    let mut lab = lab(1);
    lab.network.ports[1].mtu = 1_003;
    lab.renew_network();
    let outcome = send(&mut lab, FRONT, fragments(&question(20 + 800 + 983), FRONT, &[800]));
    let shapes = outcome.parts.iter().map(|made| shape(&made.frame));
    assert_eq!(shapes.map(|shape| shape.1).collect::<Vec<_>>(), [800, 983]);
}

/// However a packet is cut and whichever way it goes, what an independent receiver puts together is what the same
/// packet in one piece becomes.
#[test]
fn the_same_as_in_one_piece() {
    // Not used any more after a panic.
    let mut lab = std::panic::AssertUnwindSafe(lab(1));
    lab.network.ports.iter_mut().for_each(|port| port.mtu = 9_000);
    lab.renew_network();
    bolero::check!().with_type::<(u16, Vec<u16>, bool, bool, u16)>().for_each(
        |(length, cuts, is_reply, is_tcp, mtu)| {
            let lab: &mut Lab = &mut lab;
            let port = if *is_reply { BACK } else { FRONT };
            let length = 80 + usize::from(*length) % 8_000;
            let packet = match (is_tcp, is_reply) {
                (true, false) => tcp(CLIENT, VIP, "S"),
                (true, true) => tcp(SERVERS[2], CLIENT, "SA"),
                (false, false) => question(length),
                (false, true) => answer(length),
            };
            let packet = packet.length(length).fragmentable();
            // So that there is an entry.
            let first = if *is_tcp { tcp(CLIENT, VIP, "S") } else { question(60) };
            send(lab, FRONT, vec![frame(&first, FRONT)]);
            let (single, frames) =
                run(&mut lab.workers[0], lab.milliseconds, port, vec![frame(&packet, port)]);
            assert!(matches!(single.verdicts[0], Verdict::Send(_)));
            let mut cuts: Vec<_> = cuts.iter().take(BURST - 2).map(|cut| usize::from(*cut) / 8 * 8).collect();
            cuts.push(16);
            cuts.retain(|cut| *cut > 0 && *cut < length - 20);
            cuts.sort_unstable();
            cuts.dedup();
            let out = usize::from(port == FRONT);
            lab.network.ports[out].mtu = 68 + mtu % 3_000;
            lab.renew_network();
            let outcome = send(lab, port, fragments(&packet, port, &cuts));
            lab.network.ports[out].mtu = 9_000;
            lab.renew_network();
            let (text, data) = received(lab, &outcome.parts);
            assert_eq!(text, lab.sent(if *is_reply { FRONT } else { BACK }, &frames[0]));
            assert_eq!(data, frames[0][34..]);
            assert!(
                outcome.parts.iter().all(|made| made.frame.len() <= HEADER + 68 + usize::from(mtu % 3_000))
            );
            assert_eq!(outcome.parts.iter().filter(|made| made.is_received).count(), cuts.len() + 1);
        },
    );
}
