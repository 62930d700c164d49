//! What a packet looks like when it leaves, and which packets do not.

use director_packet::Mac;
use director_packet::ethernet::ether_type;

use crate::lab::{BACK, CLIENT, FRONT, Lab, PORT_MACS, SERVERS, VIP, key, served, tcp_key};
use crate::packet::{Packet, icmp, mac_of, ping, tcp, udp};

const UDP_VIP: &str = "192.168.18.58:53";
const UDP_SERVER: &str = "192.168.2.71:5353";

fn udp_lab() -> Lab {
    let mut lab = Lab::new();
    lab.serve(key(director_engine::service::Protocol::Udp, UDP_VIP), &[UDP_SERVER]);
    lab
}

fn frame(packet: &Packet, port: u8) -> Vec<u8> {
    packet.frame(packet.from(), PORT_MACS[usize::from(port)])
}

#[test]
fn checksums() {
    let mut lab = udp_lab();
    lab.front(&tcp(CLIENT, VIP, "S"));
    lab.front(&udp(CLIENT, UDP_VIP));
    let (to, from) = ("back 192.168.18.10:2001 > ", " > 192.168.18.10:2001 ");
    for length in [28, 29, 100, 101, 1499, 1500] {
        // 0 leaves computed, both ways.
        let there = udp(CLIENT, UDP_VIP).length(length);
        let back = udp(UDP_SERVER, CLIENT).length(length);
        assert_eq!(lab.front(&there), format!("{to}192.168.2.71:5353 UDP"));
        assert_eq!(lab.front(&there.clone().without_checksum()), format!("{to}192.168.2.71:5353 UDP"));
        assert_eq!(lab.back(&back), format!("front 192.168.18.58:53{from}UDP"));
        assert_eq!(lab.back(&back.clone().without_checksum()), format!("front 192.168.18.58:53{from}UDP"));
        // Wrong ones stay wrong.
        assert_eq!(lab.front(&there.wrong()), format!("{to}192.168.2.71:5353 UDP wrong checksum"));
        assert_eq!(lab.back(&back.wrong()), format!("front 192.168.18.58:53{from}UDP wrong checksum"));
    }
    for length in [40, 41, 576, 1500] {
        let there = tcp(CLIENT, VIP, "PA").length(length);
        let back = tcp(SERVERS[2], CLIENT, "PA").length(length);
        assert_eq!(lab.front(&there), format!("{to}192.168.2.73:80 PA"));
        assert_eq!(lab.back(&back), format!("front 192.168.18.58:80{from}PA"));
        assert_eq!(lab.front(&there.wrong()), format!("{to}192.168.2.73:80 PA wrong checksum"));
        assert_eq!(lab.back(&back.wrong()), format!("front 192.168.18.58:80{from}PA wrong checksum"));
    }
}

/// But for MAC addresses, TTL, checksums and the end that is translated, every byte stays.
#[test]
fn nothing_else_changes() {
    let dress = |packet: Packet| {
        packet
            .ip(|ip| {
                ip.dscp = 46.try_into().unwrap();
                ip.ecn = 1.try_into().unwrap();
                ip.identification = 0xbeef;
            })
            .tcp_options(&[2, 4, 5, 180, 1, 3, 3, 7])
            .ip_options(&[1, 1, 1, 0])
            .payload(b"GET / HTTP/1.1\r\n\r\n")
            .fragmentable()
    };
    let mut lab = Lab::new();
    lab.front(&tcp(CLIENT, VIP, "S"));
    for (port, packet, translated) in [
        (FRONT, dress(tcp(CLIENT, VIP, "SA")), dress(tcp(CLIENT, SERVERS[2], "SA"))),
        (BACK, dress(tcp(SERVERS[2], CLIENT, "SA")), dress(tcp(VIP, CLIENT, "SA"))),
    ] {
        let (verdicts, frames, _) = lab.process(0, port, vec![frame(&packet, port)]);
        assert_eq!(verdicts, [director_engine::Verdict::Send(1 - port)]);
        let out = usize::from(1 - port);
        let expected = translated.clone().ttl(63).frame(PORT_MACS[out], mac_of(translated.destination.ip()));
        assert_eq!(frames[0], expected);
    }
}

#[test]
fn time_to_live() {
    let mut lab = Lab::new();
    // The entry is made before the time to live is looked at.
    assert_eq!(
        lab.front(&tcp(CLIENT, VIP, "S").ttl(1)),
        "drop ttl_exceeded; front 192.168.18.58 > 192.168.18.10: icmp 11/0 about \
         192.168.18.10:2001 > 192.168.18.58:80 ttl 1 ttl 64"
    );
    assert_eq!(lab.entries(), ["00:59 SYN_RECV 192.168.18.10:2001 192.168.18.58:80 192.168.2.73:80"]);
    assert_eq!(lab.front(&tcp(CLIENT, VIP, "S").ttl(2)), "back 192.168.18.10:2001 > 192.168.2.73:80 S ttl 1");
    // A server is told from the port's own address, about the packet as it sent it.
    assert_eq!(
        lab.back(&tcp(SERVERS[2], CLIENT, "FA").ttl(1)),
        "drop ttl_exceeded; back 192.168.2.90 > 192.168.2.73: icmp 11/0 about \
         192.168.2.73:80 > 192.168.18.10:2001 ttl 1 ttl 64"
    );
    assert_eq!(lab.entry().0.name(), "SYN_RECV", "the entry learns nothing of it");
    assert_eq!(
        lab.back(&tcp(SERVERS[2], CLIENT, "SA").ttl(2)),
        "front 192.168.18.58:80 > 192.168.18.10:2001 SA ttl 1"
    );
    assert_eq!(
        lab.front(&tcp("192.168.18.11:1", VIP, "S").ttl(0)).split(';').next(),
        Some("drop ttl_exceeded")
    );
}

#[test]
fn longer_than_the_mtu() {
    let mut lab = Lab::new();
    lab.front(&tcp(CLIENT, VIP, "S"));
    lab.network.ports[1].mtu = 1000;
    lab.renew_network();
    assert_eq!(served(&lab.front(&tcp(CLIENT, VIP, "A").length(1000))), 73);
    let told = "drop too_big; front 192.168.18.58 > 192.168.18.10: icmp 3/4 mtu 1000 about \
                192.168.18.10:2001 > 192.168.18.58:80 ttl 63 ttl 64";
    // As often as there is reason to: no rate limit on what the discovery of the MTU depends on.
    for _ in 0..20 {
        assert_eq!(lab.front(&tcp(CLIENT, VIP, "A").length(1001)), told);
    }
    lab.network.ports[1].mtu = 1500;
    lab.network.ports[0].mtu = 1400;
    lab.renew_network();
    assert_eq!(
        lab.back(&tcp(SERVERS[2], CLIENT, "A").length(1401)),
        "drop too_big; back 192.168.2.90 > 192.168.2.73: icmp 3/4 mtu 1400 about \
         192.168.2.73:80 > 192.168.18.10:2001 ttl 64 ttl 64"
    );
    assert_eq!(
        lab.back(&tcp(SERVERS[2], CLIENT, "A").length(1400)),
        "front 192.168.18.58:80 > 192.168.18.10:2001 A"
    );
}

#[test]
fn udp_too_long_is_quoted_with_the_checksum_it_had() {
    let mut lab = udp_lab();
    lab.network.ports[1].mtu = 500;
    lab.renew_network();
    let packet = udp(CLIENT, UDP_VIP).length(501).without_checksum();
    let (_, _, replies) = lab.process(0, FRONT, vec![frame(&packet, FRONT)]);
    let quoted = &replies[0].1[14 + 28..];
    assert_eq!(quoted[20..], packet.bytes()[20..], "all of it, its checksum of 0 too");
    assert_eq!(quoted[8], 63);
}

#[test]
fn errors_are_limited_for_each_host() {
    let mut lab = Lab::empty(100, 1);
    lab.serve(tcp_key(VIP), &[]);
    let mut told = |milliseconds, client: &str| {
        lab.pass(milliseconds);
        (0..20).filter(|_| lab.front(&tcp(client, VIP, "S")).contains("icmp 3/3")).count()
    };
    assert_eq!(told(0, CLIENT), 6);
    assert_eq!(told(0, "192.168.18.11:1"), 6, "another host");
    assert_eq!(told(900, CLIENT), 0);
    assert_eq!(told(1_100, CLIENT), 2);
    assert_eq!(told(3_600_000, CLIENT), 6);
}

#[test]
fn what_is_the_kernels() {
    let mut lab = Lab::new();
    assert_eq!(lab.front(&tcp(CLIENT, "192.168.18.58:81", "S")), "kernel", "no service's port");
    assert_eq!(lab.front(&udp(CLIENT, VIP)), "kernel", "no service's protocol");
    assert_eq!(lab.front(&tcp(CLIENT, "192.168.18.59:80", "S")), "kernel", "no service's address");
    assert_eq!(lab.front(&tcp(CLIENT, "192.168.18.255:80", "S")), "kernel", "the subnet's broadcast");
    assert_eq!(lab.one(FRONT, ping("192.168.18.10", "192.168.18.58", PORT_MACS[0])), "kernel");
    let syn = frame(&tcp(CLIENT, VIP, "S"), FRONT);
    let with = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut frame = syn.clone();
        change(&mut frame);
        frame
    };
    // Broadcasts and multicasts, ARP, a VLAN tag, other protocols over IPv4.
    assert_eq!(lab.one(FRONT, with(&|frame| frame[..6].fill(0xff))), "kernel");
    assert_eq!(lab.one(FRONT, with(&|frame| frame[0] |= 1)), "kernel");
    assert_eq!(lab.one(FRONT, with(&|frame| frame[12..14].copy_from_slice(&[8, 6]))), "kernel");
    let tagged = with(&|frame| {
        frame.splice(12..12, [0x81, 0, 0, 5]);
    });
    assert_eq!(lab.one(FRONT, tagged), "kernel");
    for protocol in [0, 2, 4, 41, 47, 50, 255] {
        let packet = tcp(CLIENT, VIP, "S").ip(|ip| ip.protocol = protocol.into());
        assert_eq!(lab.one(FRONT, raw(&packet, &[0; 20])), "kernel", "protocol {protocol}");
    }
    assert_eq!(lab.entries().len(), 0);
}

/// The frame of a packet whose transport part is just bytes.
fn raw(packet: &Packet, transport: &[u8]) -> Vec<u8> {
    let mut header = None;
    let _ = packet.clone().ip(|ip| {
        ip.set_payload_len(transport.len()).unwrap();
        ip.header_checksum = ip.calc_header_checksum();
        header = Some(ip.to_bytes());
    });
    let mut frame = PORT_MACS[0].0.to_vec();
    frame.extend(packet.from().0);
    frame.extend(ether_type::IPV4);
    frame.extend(header.unwrap());
    frame.extend(transport);
    frame
}

/// Changes a byte and makes the IPv4 checksum right again, so that it is not what is found wrong.
fn lie(packet: &Packet, at: usize, value: u8) -> Vec<u8> {
    let mut frame = frame(packet, FRONT);
    frame[at] = value;
    frame[24..26].fill(0);
    let end = (14 + usize::from(frame[14] & 0xf).max(5) * 4).min(frame.len());
    let sum = director_packet::checksum::checksum(&frame[14..end]);
    frame[24..26].copy_from_slice(&sum);
    frame
}

#[test]
fn malformed_each_with_its_reason() {
    let syn = tcp(CLIENT, VIP, "S");
    let whole = frame(&syn, FRONT);
    let mut sum = whole.clone();
    sum[25] ^= 1;
    let mut other = whole.clone();
    other[5] ^= 1;
    let cases: [(&str, Vec<u8>, &str); 15] = [
        ("nothing", Vec::new(), "malformed_ethernet"),
        ("half an Ethernet header", whole[..13].to_vec(), "malformed_ethernet"),
        ("no IPv4 header", whole[..14].to_vec(), "malformed_ipv4"),
        ("half an IPv4 header", whole[..30].to_vec(), "malformed_ipv4"),
        ("shorter than it says", whole[..53].to_vec(), "malformed_ipv4"),
        ("version 6", lie(&syn, 14, 0x65), "malformed_ipv4"),
        ("header of 16 bytes", lie(&syn, 14, 0x44), "malformed_ipv4"),
        ("options beyond its end", lie(&syn, 14, 0x4f), "malformed_ipv4"),
        ("length below the header", lie(&syn, 17, 19), "malformed_ipv4"),
        ("checksum", sum, "ipv4_checksum"),
        ("TCP of 12 bytes", raw(&syn, &[0; 12]), "malformed_transport"),
        ("TCP of 3 bytes", raw(&syn, &[0; 3]), "malformed_transport"),
        ("TCP of no bytes", raw(&syn, &[]), "malformed_transport"),
        ("UDP of 4 bytes", raw(&udp(CLIENT, VIP), &[0; 4]), "malformed_transport"),
        ("another station's", other, "other_host"),
    ];
    let mut lab = udp_lab();
    for (what, frame, reason) in cases {
        assert_eq!(lab.one(FRONT, frame), format!("drop {reason}"), "{what}");
    }
    assert_eq!(lab.entries().len(), 0);
}

#[test]
fn headers_that_do_not_lie_together() {
    use director_engine::{BURST, Verdict};
    let mut lab = Lab::new();
    let frame = frame(&tcp(CLIENT, VIP, "S").length(500), FRONT);
    for (head, expected) in [
        (0, "malformed_ethernet"),
        (20, "scattered_headers"),
        (40, "scattered_headers"),
        (53, "scattered_headers"),
        (54, "sent"),
        (200, "sent"),
    ] {
        let mut verdicts = [Verdict::Kernel; BURST];
        let mut burst = crate::lab::Burst { frames: vec![frame.clone()], head };
        let (now, worker) = (lab.now(), &mut lab.workers[0]);
        worker.quiescent();
        worker.process(now, 0, FRONT, &mut burst, &mut verdicts);
        match verdicts[0] {
            Verdict::Drop(reason) => assert_eq!(reason.name(), expected, "{head}"),
            // The rest of the packet is where it was; the checksum is right over all of it.
            Verdict::Send(BACK) => {
                assert_eq!(expected, "sent", "{head}");
                assert_eq!(lab.sent(BACK, &burst.frames[0]), "back 192.168.18.10:2001 > 192.168.2.73:80 S");
            }
            other => panic!("{head}: {other:?}"),
        }
    }
}

#[test]
fn padding_is_carried_along() {
    let mut lab = Lab::new();
    let mut padded = frame(&tcp(CLIENT, VIP, "S"), FRONT);
    padded.extend([0; 6]);
    assert_eq!(lab.one(FRONT, padded), "back 192.168.18.10:2001 > 192.168.2.73:80 S");
}

#[test]
fn fragments_to_a_service() {
    let mut lab = Lab::new();
    let first = |packet: Packet| packet.ip(|ip| ip.more_fragments = true).fragmentable();
    let later = |packet: Packet| packet.ip(|ip| ip.fragment_offset = 100.try_into().unwrap()).fragmentable();
    for fragment in [first, later] {
        let to_service = raw(&fragment(tcp(CLIENT, VIP, "S")), &[0; 24]);
        assert_eq!(lab.one(FRONT, to_service), "kept");
        let to_no_service = raw(&fragment(udp(CLIENT, "192.168.18.58:80")), &[0; 24]);
        assert_eq!(lab.one(FRONT, to_no_service), "kernel", "no UDP service there");
        let through = raw(&fragment(tcp(CLIENT, SERVERS[0], "S")), &[0; 24]);
        assert_eq!(lab.one(FRONT, through), "kernel");
    }
    lab.network.local.clear();
    lab.renew_network();
    assert_eq!(lab.one(FRONT, raw(&first(tcp(CLIENT, VIP, "S")), &[0; 24])), "kernel", "not our address");
}

#[test]
fn sources_no_host_has() {
    let mut lab = udp_lab();
    for source in
        ["192.168.18.58:9", "192.168.2.90:9", "0.0.0.0:9", "127.0.0.1:9", "224.0.0.1:9", "255.255.255.255:9"]
    {
        assert_eq!(lab.front(&tcp(source, VIP, "S")), "drop martian_source", "{source}");
        assert_eq!(lab.front(&udp(source, UDP_VIP)), "drop martian_source", "{source}");
        assert_eq!(lab.front(&tcp(source, VIP, "A")), "kernel", "{source}: what begins no connection");
    }
    assert_eq!(lab.entries().len(), 0);
    assert_eq!(lab.total(tcp_key(VIP)).connections, 0);
}

#[test]
fn no_error_about_what_must_not_be_answered() {
    let mut lab = Lab::new();
    lab.front(&tcp(CLIENT, VIP, "S"));
    // A port without an address of its own has nothing to answer from.
    lab.network.ports[1].address = 0;
    lab.renew_network();
    assert_eq!(lab.back(&tcp(SERVERS[2], CLIENT, "SA").ttl(1)), "drop ttl_exceeded");
    // An ICMP error is not answered, whatever is wrong with it.
    let quoted = tcp(CLIENT, SERVERS[2], "S").bytes();
    let mut error = icmp("192.168.2.73", "192.168.18.10", 3, 3, [0; 4], &quoted, PORT_MACS[1]);
    error[22] = 1;
    error[24..26].fill(0);
    let sum = director_packet::checksum::checksum(&error[14..34]);
    error[24..26].copy_from_slice(&sum);
    assert_eq!(lab.one(BACK, error), "drop ttl_exceeded");
}

#[test]
fn the_frame_of_an_error_goes_back_to_its_sender() {
    let mut lab = Lab::empty(100, 1);
    lab.serve(tcp_key(VIP), &[]);
    // The client is behind a router: that is whom the frame came from.
    let router = Mac([2, 9, 9, 9, 9, 9]);
    let syn = tcp("203.0.113.5:1000", VIP, "S").frame(router, PORT_MACS[0]);
    assert_eq!(
        lab.one(FRONT, syn),
        format!(
            "drop no_server; front 192.168.18.58 > 203.0.113.5: icmp 3/3 about \
             203.0.113.5:1000 > 192.168.18.58:80 ttl 64 ttl 64 via {router}"
        )
    );
}
