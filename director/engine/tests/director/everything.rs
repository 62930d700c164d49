//! Every kind of service at once, in both families, with two workers, while everything that an operator can change is
//! changed: whatever happens, nothing is left of it in the end.

use std::num::NonZeroU32;

use bolero::TypeGenerator;
use director_engine::mark::{self, MarkRule};
use director_engine::service::{
    Engine, Forward, Persistence, Protocol, SchedulerKind, ServerSpec, ServiceKey, ServiceSpec,
};
use director_engine::snapshot::Sysctls;
use director_engine::state::State;
use director_engine::{Control, Tick, Verdict, Worker, control};
use director_packet::fragment::{MAX_FRAME, cut, v6};

use crate::lab::{BACK, FRONT, Lab, PORT_MACS, RR, point};
use crate::packet::{Packet, describe, icmp, tcp, udp};

/// The ports of the services: with `hairpin_snat`; FTP; one packet each; SIP; persistent; every port; of a mark.
const PORTS: [u16; 7] = [80, 21, 53, 5060, 443, 0, 8080];

const MARK: NonZeroU32 = NonZeroU32::MIN;

fn host(v6: bool, network: u8, host: u8) -> String {
    if v6 { format!("[2001:db8:{network}::{host}]") } else { format!("192.168.{network}.{host}") }
}

fn vip(v6: bool, port: u16) -> String {
    // The service of every port has an address of its own.
    format!("{}:{port}", host(v6, 18, if port == 0 { 59 } else { 58 }))
}

fn server(v6: bool, number: u8, port: u16) -> String {
    format!("{}:{port}", host(v6, 2, 71 + number % 3))
}

fn key(v6: bool, service: usize) -> ServiceKey {
    let protocol = if (2..4).contains(&service) { Protocol::Udp } else { Protocol::Tcp };
    match service {
        6 if v6 => ServiceKey::of_mark_v6(MARK),
        6 => ServiceKey::of_mark(MARK),
        _ => ServiceKey { protocol, address: point(&vip(v6, PORTS[service])) },
    }
}

fn spec(v6: bool, service: usize, scheduler: u8) -> ServiceSpec {
    let scheduler = SchedulerKind::ALL[usize::from(scheduler) % SchedulerKind::ALL.len()];
    let netmask = if v6 { 128 } else { u32::MAX };
    let persistence = matches!(service, 3..=5).then_some(Persistence { timeout: 30, netmask });
    ServiceSpec {
        scheduler,
        persistence,
        engine: (service == 3).then_some(Engine::Sip),
        one_packet: service == 2,
        hairpin_snat: service == 0,
        ..RR
    }
}

#[derive(Debug, TypeGenerator)]
pub(crate) struct At {
    v6: bool,
    service: u8,
    worker: bool,
    /// Below 64 it is sent in two fragments, the second first if even; below 8 one of them alone.
    split: u8,
}

#[derive(Debug, TypeGenerator)]
pub(crate) enum Step {
    Client {
        at: At,
        port: u8,
        flags: u8,
        text: u8,
        offset: u8,
    },
    Server {
        at: At,
        server: u8,
        port: u8,
        flags: u8,
        text: u8,
        offset: u8,
    },
    /// From the servers' own network, and what the servers answer.
    Near {
        at: At,
        port: u8,
        flags: u8,
    },
    ToStandIn {
        at: At,
        server: u8,
        number: u8,
        flags: u8,
    },
    /// Of a data connection.
    Data {
        v6: bool,
        worker: bool,
        port: u8,
        to: u8,
        flags: u8,
    },
    FromData {
        v6: bool,
        worker: bool,
        server: u8,
        from: u8,
        port: u8,
        flags: u8,
    },
    Error {
        at: At,
        by_client: bool,
        server: u8,
        port: u8,
    },
    Pass {
        tenths: u8,
    },
    PassLong {
        seconds: u8,
    },
    SetServer {
        at: At,
        server: u8,
        weight: u8,
        upper: u8,
        lower: u8,
        forward: u8,
    },
    Delete {
        at: At,
        server: u8,
    },
    SetService {
        at: At,
        scheduler: u8,
    },
    DeleteService {
        at: At,
    },
    Flush,
    Purge,
    Switch {
        bits: u16,
    },
    Network,
}

const SAID: [&str; 8] = [
    "",
    "PASV\r\n",
    "EPSV\r\n",
    "PORT 192,168,18,10,4,1\r\n",
    "EPRT |2|2001:db8:18::10|1026|\r\n",
    "INVITE sip:b@h SIP/2.0\r\nCall-ID: aaa@h\r\n\r\n",
    "BYE sip:b@h SIP/2.0\r\nCall-ID: bbb@h\r\n\r\n",
    "hello, hello, hello, hello",
];

const ANSWERED: [&str; 8] = [
    "",
    "227 (192,168,2,71,4,1)\r\n",
    "227 (192,168,2,72,4,2)\r\n",
    "229 (|||1025|)\r\n",
    "227 (192,168,2",
    "INVITE sip:b@h SIP/2.0\r\nCall-ID: aaa@h\r\n\r\n",
    "BYE sip:b@h SIP/2.0\r\nCall-ID: ccc@h\r\n\r\n",
    "220 hello, hello, hello, hello\r\n",
];

fn flags(bits: u8) -> String {
    let all = [(1, 'F'), (2, 'S'), (4, 'R'), (8, 'P'), (16, 'A')];
    all.iter().filter(|(bit, _)| bits & bit != 0).map(|(_, name)| *name).collect()
}

fn packet(is_udp: bool, from: &str, to: &str, flags: &str) -> Packet {
    if is_udp { udp(from, to) } else { tcp(from, to, flags) }
}

fn send(lab: &mut Lab, worker: bool, port: u8, frames: Vec<Vec<u8>>) {
    let worker = usize::from(worker);
    let (verdicts, frames, _) = lab.process(worker, port, frames);
    let milliseconds = lab.milliseconds;
    obey(&mut lab.workers[worker], milliseconds, port, &verdicts, &frames);
}

/// Does what a director does with a burst that a worker has decided about. What was right stays right, but for the
/// checksum of what an ICMP error quotes.
pub(crate) fn obey(
    worker: &mut Worker,
    milliseconds: u64,
    port: u8,
    verdicts: &[Verdict],
    frames: &[Vec<u8>],
) {
    let check = |verdict: Verdict, frame: &[u8]| {
        if let Verdict::Send(_) | Verdict::Hold(_) = verdict {
            let text = describe(frame);
            assert!(!text.contains("wrong") || text.contains(" about "), "{text}");
        }
    };
    for (at, (verdict, frame)) in verdicts.iter().zip(frames).enumerate() {
        check(*verdict, frame);
        if let Verdict::SendSplit(..) | Verdict::HoldSplit(..) = verdict {
            worker.split(at, port, *verdict, frame.len(), |bytes| {
                bytes.copy_from_slice(frame);
                true
            });
            while worker.next_part().is_some() {}
        }
    }
    while worker.reassemble(Tick::from_millis(milliseconds), milliseconds as u32) {
        while let Some(part) = worker.next_part() {
            check(part.verdict, part.frame);
        }
    }
}

/// Frames that a worker gets from a port one after the other, and whether that is the second worker.
pub(crate) struct Sent {
    pub(crate) by_second: bool,
    pub(crate) port: u8,
    pub(crate) frames: Vec<Vec<u8>>,
}

impl Sent {
    fn one(at: &At, port: u8, packet: &Packet) -> Self {
        let frame = packet.frame(packet.from(), PORT_MACS[usize::from(port)]);
        let header = if packet.is_v6() { 40 } else { 20 };
        let data = frame.len() - 14 - header;
        let frames = if at.split >= 64 || data < 16 {
            vec![frame]
        } else {
            let mut out = Box::new([0; MAX_FRAME]);
            let mut parts = [0..8, 8..data].map(|part| {
                let length = if packet.is_v6() {
                    v6::cut(&frame, header, 7, part, &mut out)
                } else {
                    cut(&frame, header, part, &mut out)
                };
                out[..length].to_vec()
            });
            if at.split.is_multiple_of(2) {
                parts.reverse();
            }
            let mut parts = parts.to_vec();
            parts.truncate(if at.split < 8 { 1 } else { 2 });
            parts
        };
        Self { by_second: at.worker, port, frames }
    }

    /// What a step sends; none is what an operator does, or time.
    pub(crate) fn of(step: &Step) -> Option<Self> {
        let client = |v6: bool, port: u8| format!("{}:{}", host(v6, 18, 10), 1025 + u16::from(port % 6));
        let vip_of = |at: &At| {
            let port = PORTS[service_of(at)];
            if port == 0 { vip(at.v6, 0).replace(":0", ":7") } else { vip(at.v6, port) }
        };
        let is_udp = |at: &At| (2..4).contains(&service_of(at));
        let number = |packet: Packet, is_udp: bool, offset: u8| {
            if is_udp {
                return packet;
            }
            packet.tcp(|header| {
                header.sequence_number = 1000 + u32::from(offset % 64);
                header.acknowledgment_number = 1000 + u32::from(offset);
            })
        };
        Some(match step {
            Step::Client { at, port, flags: bits, text, offset } => {
                let packet = packet(is_udp(at), &client(at.v6, *port), &vip_of(at), &flags(*bits));
                let packet = packet.payload(SAID[usize::from(text % 8)].as_bytes());
                Self::one(at, FRONT, &number(packet, is_udp(at), *offset))
            }
            Step::Server { at, server: number_of, port, flags: bits, text, offset } => {
                let from = server(at.v6, *number_of, port_of(at));
                let packet = packet(is_udp(at), &from, &client(at.v6, *port), &flags(*bits));
                let packet = packet.payload(ANSWERED[usize::from(text % 8)].as_bytes());
                Self::one(at, BACK, &number(packet, is_udp(at), *offset))
            }
            Step::Near { at, port, flags: bits } => {
                let from = format!("{}:{}", host(at.v6, 2, 74), 1025 + u16::from(port % 4));
                Self::one(at, BACK, &packet(is_udp(at), &from, &vip_of(at), &flags(*bits)))
            }
            Step::ToStandIn { at, server: number_of, number, flags: bits } => {
                let to = format!("{}:{}", host(at.v6, 2, 90), 61_000 + u16::from(number % 8));
                let from = server(at.v6, *number_of, port_of(at));
                Self::one(at, BACK, &packet(is_udp(at), &from, &to, &flags(*bits)))
            }
            Step::Data { v6, worker, port, to, flags: bits } => {
                let to = vip(*v6, [20, 1025, 1026][usize::from(to % 3)]);
                let at = At { v6: *v6, service: 1, worker: *worker, split: 255 };
                Self::one(&at, FRONT, &tcp(&client(*v6, *port), &to, &flags(*bits)))
            }
            Step::FromData { v6, worker, server: number_of, from, port, flags: bits } => {
                let from = server(*v6, *number_of, [20, 1025, 1026][usize::from(from % 3)]);
                let at = At { v6: *v6, service: 1, worker: *worker, split: 255 };
                Self::one(&at, BACK, &tcp(&from, &client(*v6, *port), &flags(*bits)))
            }
            Step::Error { at, by_client, server: number_of, port } => {
                let (client, kind) = (client(at.v6, *port), if at.v6 { 1 } else { 3 });
                let bare = |end: &str| point(end).address();
                let text = |end: &str| std::net::IpAddr::from(bare(end)).to_string();
                let (from, to, quoted) = if *by_client {
                    (client.clone(), vip_of(at), packet(is_udp(at), &vip_of(at), &client, "A"))
                } else {
                    let server = server(at.v6, *number_of, port_of(at));
                    (server.clone(), client.clone(), packet(is_udp(at), &client, &server, "A"))
                };
                let port = if *by_client { FRONT } else { BACK };
                let to_mac = PORT_MACS[usize::from(port)];
                let frame = icmp(&text(&from), &text(&to), kind, 1, [0; 4], &quoted.bytes(), to_mac);
                Self { by_second: at.worker, port, frames: vec![frame] }
            }
            _ => return None,
        })
    }
}

fn service_of(at: &At) -> usize {
    usize::from(at.service) % PORTS.len()
}

/// What is asked for on every port is asked for on one.
fn port_of(at: &At) -> u16 {
    if service_of(at) == 5 { 7 } else { PORTS[service_of(at)] }
}

fn take(lab: &mut Lab, step: &Step) {
    match step {
        Step::Pass { tenths } => lab.pass(u64::from(*tenths) * 100),
        Step::PassLong { seconds } => {
            lab.milliseconds += u64::from(*seconds) * 1000;
            (0..3).for_each(|_| lab.poll());
        }
        _ => match Sent::of(step) {
            Some(Sent { by_second, port, frames }) => send(lab, by_second, port, frames),
            None => change(&mut lab.control, &lab.network, step),
        },
    }
}

/// What an operator does by a step.
pub(crate) fn change(control: &mut Control, network: &control::Network, step: &Step) {
    match step {
        Step::SetServer { at, server: number_of, weight, upper, lower, forward } => {
            let (key, address) = (key(at.v6, service_of(at)), server(at.v6, *number_of, port_of(at)));
            let forward = match forward {
                0..200 => Forward::Masquerading,
                200..230 => Forward::DirectRouting,
                _ => Forward::Tunnelling,
            };
            let upper = u32::from(upper % 4);
            let spec = ServerSpec {
                forward,
                weight: u32::from(weight % 3),
                upper,
                lower: u32::from(*lower).min(upper),
            };
            if control.catalog.set_server(key, point(&address), spec).is_err() {
                let _ = control.catalog.add_server(key, point(&address), spec);
            }
            control.publish();
        }
        Step::Delete { at, server: number_of } => {
            let address = server(at.v6, *number_of, port_of(at));
            let _ = control.catalog.delete_server(key(at.v6, service_of(at)), point(&address));
            control.publish();
            control.purge();
        }
        Step::SetService { at, scheduler } => {
            let (key, spec) = (key(at.v6, service_of(at)), spec(at.v6, service_of(at), *scheduler));
            if control.catalog.set_service(key, spec).is_err() {
                let _ = control.catalog.add_service(key, spec);
            }
            control.publish();
        }
        Step::DeleteService { at } => {
            let _ = control.catalog.delete_service(key(at.v6, service_of(at)));
            control.publish();
            control.purge();
        }
        Step::Flush => control.flush(),
        Step::Purge => control.purge(),
        Step::Switch { bits } => {
            let bit = |number: u16| bits >> number & 1 != 0;
            control.set_sysctls(Sysctls {
                sloppy_tcp: bit(0),
                conn_reuse_mode: u32::from(bits >> 1 & 3),
                expire_nodest_conn: bit(3),
                nat_icmp_send: bit(4),
                drop_entry: bit(5),
                secure_tcp: bit(6),
                schedule_icmp: bit(7),
                expire_quiescent_template: bit(8),
                ftp_loose: bit(9),
                pmtu_disc: bit(10),
                ..*control.sysctls()
            });
        }
        Step::Network => control.set_network(network.clone()),
        _ => {}
    }
}

pub(crate) fn serve(lab: &mut Lab) {
    for v6 in [false, true] {
        for (service, port) in PORTS.iter().enumerate() {
            let _ = lab.control.catalog.add_service(key(v6, service), spec(v6, service, service as u8));
            for number in 0..3 {
                let port = if *port == 0 { 7 } else { *port };
                let address = point(&server(v6, number, port));
                let known = ServerSpec::default();
                let _ = lab.control.catalog.add_server(key(v6, service), address, known);
            }
        }
    }
    lab.control.publish();
}

pub(crate) fn lab() -> Lab {
    let mut lab = Lab::empty(60, 2);
    let rule = |destination| MarkRule {
        protocol: None,
        source: None,
        destination: Some(destination),
        ports: (8080, 8080),
        mark: MARK,
    };
    lab.control.set_marks(vec![rule(mark::Network::V4(0, 0)), rule(mark::Network::V6(0, 0))]);
    lab.timeout(State::Established, 100);
    lab.timeout(State::Udp, 100);
    serve(&mut lab);
    lab
}

/// All that has a timeout is over.
fn drain(lab: &mut Lab) {
    for _ in 0..6 {
        lab.milliseconds += 150_000;
        (0..20).for_each(|_| lab.poll());
    }
}

/// No server is taken for overloaded: where there is one with a weight it gets the next connection.
fn takes_one_more(lab: &mut Lab, v6: bool) {
    let key = key(v6, 0);
    if lab.control.catalog.set_service(key, RR).is_err() {
        return;
    }
    lab.control.publish();
    let catalog = &lab.control.catalog;
    let is_any = catalog.servers(catalog.service(key).unwrap()).any(|row| row.spec.weight > 0);
    let outcome = lab.front(&tcp(&format!("{}:9", host(v6, 18, 11)), &vip(v6, PORTS[0]), "S"));
    assert_eq!(outcome.contains("no_server"), !is_any, "{outcome}");
}

/// Once all is over.
pub(crate) fn nothing_is_left(lab: &mut Lab) {
    drain(lab);
    assert_eq!(lab.entries(), Vec::<String>::new());
    for counters in [lab.control.table().counters(), lab.control.table_v6().counters()] {
        assert_eq!((counters.active, counters.dead), (0, 0));
    }
    assert_eq!(lab.control.shared().templates.count(), 0);
    for service in lab.control.catalog.services() {
        for row in lab.control.catalog.servers(service) {
            let load = row.load;
            assert_eq!((load.active, load.inactive, load.persistent), (0, 0, 0), "{}", service.key);
        }
    }
    for v6 in [false, true] {
        takes_one_more(lab, v6);
    }
    drain(lab);
    lab.control.flush();
    (0..20).for_each(|_| lab.poll());
    assert!(!lab.control.catalog.has_trash(), "a deleted server counts connections that are no more");
}

#[test]
fn nothing_is_left_of_any_history() {
    bolero::check!().with_type::<Vec<Step>>().with_iterations(100).for_each(|steps| {
        let mut lab = lab();
        for step in steps {
            take(&mut lab, step);
        }
        nothing_is_left(&mut lab);
    });
}
