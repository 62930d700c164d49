//! Changes between the passes over a burst: nothing that an earlier pass saw is trusted.

use director_engine::service::{Persistence, Protocol, ServiceSpec};
use director_engine::{BURST, Batch, Frames, Reason, Verdict};

use crate::lab::{BACK, Burst, CLIENT, FRONT, Lab, PORT_MACS, RR, SERVERS, VIP, key, tcp_key};
use crate::packet::{tcp, udp};

/// The verdict of a client's acknowledgment, where `between` happens after it was looked for.
fn with(lab: &mut Lab, client: &str, between: impl FnOnce(&mut Lab)) -> Verdict {
    let packet = tcp(client, VIP, "A");
    let frame = packet.frame(packet.from(), PORT_MACS[0]);
    let mut frames = Burst { frames: vec![frame.clone()], head: usize::MAX };
    let mut batch = Batch::new();
    lab.workers[0].quiescent();
    lab.workers[0].look(FRONT, &mut frames, &mut batch);
    lab.workers[0].seek(&mut batch);
    between(lab);
    let (now, milliseconds) = (lab.now(), lab.milliseconds as u32);
    lab.workers[0].quiescent();
    let mut verdicts = [Verdict::Drop(Reason::HandoffFull); BURST];
    let common = lab.workers[0].decide(now, milliseconds, &mut frames, &mut batch, &mut verdicts);
    let expected = if let Verdict::Send(port) = verdicts[0] { Some(port) } else { None };
    assert_eq!(common, expected);
    assert!(expected.is_none() || frames.frames[0] != frame, "rewritten if it is sent");
    verdicts[0]
}

/// A director with one established connection.
fn established() -> Lab {
    let mut lab = Lab::new();
    lab.front(&tcp(CLIENT, VIP, "S"));
    lab.back(&tcp(SERVERS[2], CLIENT, "SA"));
    lab.front(&tcp(CLIENT, VIP, "A"));
    lab
}

#[test]
fn nothing_happens() {
    assert_eq!(with(&mut established(), CLIENT, |_| ()), Verdict::Send(BACK));
}

#[test]
fn the_service_goes() {
    let mut lab = established();
    assert_eq!(with(&mut lab, CLIENT, |lab| lab.delete_service(VIP)), Verdict::Kernel);
}

#[test]
fn the_server_goes_and_comes_back() {
    let mut lab = established();
    let gone = with(&mut lab, CLIENT, |lab| lab.delete_server(VIP, SERVERS[2]));
    assert_eq!(gone, Verdict::Drop(Reason::ServerGone));
    let back = with(&mut lab, CLIENT, |lab| lab.add_server(VIP, SERVERS[2], Default::default()));
    assert_eq!(back, Verdict::Send(BACK));
}

#[test]
fn the_address_is_no_longer_the_directors() {
    let mut lab = established();
    let verdict = with(&mut lab, CLIENT, |lab| {
        lab.network.local.retain(|address| *address != crate::lab::ip("192.168.18.58"));
        lab.renew_network();
    });
    assert_eq!(verdict, Verdict::Kernel);
}

#[test]
fn the_entry_ends_and_its_record_becomes_anothers() {
    let mut lab = Lab::empty(1, 1);
    lab.serve(tcp_key(VIP), &SERVERS);
    lab.front(&tcp(CLIENT, VIP, "S"));
    lab.front(&tcp(CLIENT, VIP, "A"));
    let verdict = with(&mut lab, CLIENT, |lab| {
        lab.back(&tcp(SERVERS[2], CLIENT, "R"));
        lab.pass(12_000);
        assert!(lab.front(&tcp("192.168.18.11:9", VIP, "S")).starts_with("back"));
        lab.front(&tcp("192.168.18.11:9", VIP, "A"));
    });
    assert_eq!(verdict, Verdict::Kernel, "an acknowledgment of no connection");
}

#[test]
fn an_entry_is_made() {
    let mut lab = Lab::new();
    let verdict = with(&mut lab, CLIENT, |lab| {
        lab.front(&tcp(CLIENT, VIP, "S"));
        lab.front(&tcp(CLIENT, VIP, "A"));
    });
    assert_eq!(verdict, Verdict::Send(BACK));
}

#[test]
fn the_port_goes_down() {
    let mut lab = established();
    let verdict = with(&mut lab, CLIENT, |lab| {
        lab.network.ports[usize::from(BACK)].up = false;
        lab.renew_network();
    });
    assert_eq!(verdict, Verdict::Drop(Reason::PortDown));
}

#[test]
fn the_addresses_are_no_longer_the_directors_whatever_the_burst_is_taken_for() {
    for (first, are_taken_away) in (0..4).flat_map(|first| [(first, false), (first, true)]) {
        let mut lab = of_all_kinds();
        let mut packets = Vec::new();
        for (client, vip) in [(CLIENT, VIP), ("[2001:db8:18::10]:2001", VIP_V6)] {
            for packet in [tcp(client, vip, "S"), tcp(client, vip, "A"), udp(client, vip)] {
                lab.front(&packet);
            }
            packets.extend([tcp(client, vip, "A"), udp(client, vip)]);
        }
        packets.rotate_left(first);
        let frames = packets.iter().map(|packet| packet.frame(packet.from(), PORT_MACS[0])).collect();
        let mut frames = Burst { frames, head: usize::MAX };
        let mut batch = Batch::new();
        lab.workers[0].quiescent();
        lab.workers[0].look(FRONT, &mut frames, &mut batch);
        lab.workers[0].seek(&mut batch);
        if are_taken_away {
            lab.network.local.clear();
            lab.renew_network();
        }
        let (now, milliseconds) = (lab.now(), lab.milliseconds as u32);
        lab.workers[0].quiescent();
        let mut verdicts = [Verdict::Drop(Reason::HandoffFull); BURST];
        let common = lab.workers[0].decide(now, milliseconds, &mut frames, &mut batch, &mut verdicts);
        let expected = if are_taken_away { Verdict::Kernel } else { Verdict::Send(BACK) };
        assert_eq!(verdicts[..4], [expected; 4], "the first is {first}");
        assert_eq!(common, (!are_taken_away).then_some(BACK));
    }
}

/// The same frames without their headers at once, so that each goes the general way.
struct General(Burst);

impl Frames for General {
    fn count(&self) -> usize {
        self.0.count()
    }

    fn head(&mut self, at: usize) -> &mut [u8] {
        self.0.head(at)
    }

    fn length(&self, at: usize) -> usize {
        self.0.length(at)
    }

    fn prepend(&mut self, at: usize, count: usize) -> bool {
        self.0.prepend(at, count)
    }

    fn start<const N: usize>(&mut self, _: usize) -> Option<(&mut [u8; N], usize)> {
        None
    }
}

/// A packet of few clients and servers, so that they meet; and how much time passes after it.
#[derive(Clone, Copy, Debug, bolero::TypeGenerator)]
struct Step {
    is_v6: bool,
    is_tcp: bool,
    client: u8,
    server: u8,
    from_client: bool,
    flags: u8,
    ttl: u8,
    length: u8,
    is_wrong: bool,
    ticks: u8,
}

const VIP_V6: &str = "[2001:db8:18::58]:80";
const SERVERS_V6: [&str; 2] = ["[2001:db8:2::71]:80", "[2001:db8:2::72]:80"];

impl Step {
    fn frame(self) -> (u8, Vec<u8>) {
        let (host, port) = (10 + (self.client >> 1 & 1), 2000 + u16::from(self.client & 1));
        let (client, vip, servers) = if self.is_v6 {
            (format!("[2001:db8:18::{host}]:{port}"), VIP_V6, &SERVERS_V6[..])
        } else {
            (format!("192.168.18.{host}:{port}"), VIP, &SERVERS[..])
        };
        let server = servers[usize::from(self.server) % servers.len()];
        let (port, source, destination) =
            if self.from_client { (FRONT, &*client, vip) } else { (BACK, server, &*client) };
        // Mostly an acknowledgment, as in life.
        let flags =
            ["A", "PA", "S", "SA", "A", "FA", "A", "R", "A", "-", "A", "UA"][usize::from(self.flags) % 12];
        let packet = if self.is_tcp { tcp(source, destination, flags) } else { udp(source, destination) };
        let ttl = if self.ttl.is_multiple_of(8) { self.ttl / 8 % 3 } else { 64 };
        let length = if self.length.is_multiple_of(8) { 1600 } else { 60 + usize::from(self.length) };
        let mut packet = packet.ttl(ttl).length(length);
        if !self.is_tcp && self.flags.is_multiple_of(4) {
            packet = packet.without_checksum();
        } else if self.is_wrong {
            packet = packet.wrong();
        }
        let mac = packet.from();
        (port, packet.frame(mac, PORT_MACS[usize::from(port)]))
    }
}

/// A director with services of both protocols and families; those of UDP are persistent, so that it shows when a
/// template is told of an answer.
fn of_all_kinds() -> Lab {
    let mut lab = Lab::new();
    let persistence =
        |netmask| ServiceSpec { persistence: Some(Persistence { timeout: 300, netmask }), ..RR };
    lab.serve(tcp_key(VIP_V6), &SERVERS_V6);
    lab.serve_as(key(Protocol::Udp, VIP), persistence(u32::MAX), &SERVERS);
    lab.serve_as(key(Protocol::Udp, VIP_V6), persistence(128), &SERVERS_V6);
    lab
}

#[test]
fn the_short_way_ends_where_the_general_one_does() {
    // Bursts, whose packets come in on one port, of kinds that are mixed.
    bolero::check!().with_type::<Vec<(bool, Vec<Step>)>>().for_each(|bursts| {
        let mut labs = [of_all_kinds(), of_all_kinds()];
        for (from_client, steps) in bursts {
            let of_one_port = |step: &Step| Step { from_client: *from_client, ..*step }.frame().1;
            let frames: Vec<_> = steps.iter().take(BURST).map(of_one_port).collect();
            let port = if *from_client { FRONT } else { BACK };
            let ticks = steps.first().map_or(0, |step| step.ticks);
            let outcomes: Vec<_> = labs
                .iter_mut()
                .enumerate()
                .map(|(general, lab)| {
                    let mut burst = Burst { frames: frames.clone(), head: usize::MAX };
                    let mut verdicts = [Verdict::Drop(Reason::HandoffFull); BURST];
                    let (now, milliseconds) = (lab.now(), lab.milliseconds as u32);
                    let worker = &mut lab.workers[0];
                    worker.quiescent();
                    let common = if general == 1 {
                        let mut slow = General(burst);
                        let common = worker.process(now, milliseconds, port, &mut slow, &mut verdicts);
                        burst = slow.0;
                        common
                    } else {
                        worker.process(now, milliseconds, port, &mut burst, &mut verdicts)
                    };
                    let expected = match &verdicts[..frames.len()] {
                        [first @ Verdict::Send(port), rest @ ..]
                            if rest.iter().all(|other| other == first) =>
                        {
                            Some(*port)
                        }
                        _ => None,
                    };
                    assert_eq!(common, expected);
                    lab.pass(u64::from(ticks) * 10);
                    (verdicts, burst.frames, lab.entries())
                })
                .collect();
            assert_eq!((&outcomes[0].0, &outcomes[0].2), (&outcomes[1].0, &outcomes[1].2), "{steps:?}");
            assert!(outcomes[0].1 == outcomes[1].1, "the frames differ: {steps:?}");
        }
        let loads = labs.map(|lab| {
            [(VIP, &SERVERS[..]), (VIP_V6, &SERVERS_V6)].map(|(vip, servers)| {
                let of = |protocol| servers.iter().map(move |server| (key(protocol, vip), server));
                let of_all = of(Protocol::Tcp).chain(of(Protocol::Udp));
                of_all
                    .map(|(key, server)| (lab.load(key, server), lab.traffic(key, server)))
                    .collect::<Vec<_>>()
            })
        });
        assert_eq!(loads[0], loads[1]);
    });
}
