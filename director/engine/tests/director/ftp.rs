//! FTP, beyond what the scenarios tell: whatever comes in whatever order, and several workers.

use bolero::TypeGenerator;
use director_engine::state::State;

use crate::lab::{BACK, FRONT, Lab, PORT_MACS, point, tcp_key, weight};
use crate::packet::{mac_of, tcp};

const FTP: &str = "192.168.18.58:21";
const SERVERS: [&str; 2] = ["192.168.2.71:21", "192.168.2.72:21"];

const SAID: [&str; 8] = [
    "PASV\r\n",
    "EPSV\r\n",
    "PORT 192,168,18,10,0,1\r\n",
    "PORT 192,168,18,10,4,1\r\nPORT 192,168,18,10,4,2\r\n",
    "EPRT |1|192.168.18.10|1026|\r\n",
    "EPRT |2|::1|1026|\r\n",
    "PAS",
    "V\r\n",
];

const ANSWERED: [&str; 8] = [
    "227 (192,168,2,71,4,1)\r\n",
    "227 (192,168,2,72,4,2)\r\n",
    "229 (|||1025|)\r\n",
    "227 (192,168,2",
    ",71,4,2)\r\n",
    "227 1,2\r\n227 (192,168,2,71,4,1)\r\n",
    "220 hello\r\n",
    ")\r\n",
];

#[derive(Debug, TypeGenerator)]
enum Step {
    Said { port: u8, flags: u8, offset: u8, text: u8, ack: u8, worker: bool },
    Answered { server: bool, port: u8, flags: u8, offset: u8, text: u8, worker: bool },
    Data { port: u8, to: u8, flags: u8 },
    FromServer { server: bool, from: u8, port: u8, flags: u8 },
    Pass { seconds: u8 },
    Delete { server: bool },
    Add { server: bool },
    Loose(bool),
}

fn flags(bits: u8) -> String {
    let all = [(1, 'F'), (2, 'S'), (4, 'R'), (8, 'P'), (16, 'A')];
    all.iter().filter(|(bit, _)| bits & bit != 0).map(|(_, name)| *name).collect()
}

fn take(lab: &mut Lab, step: &Step) {
    let server_of = |server: bool| SERVERS[usize::from(server)];
    let send = |lab: &mut Lab, worker: bool, port: u8, packet: crate::packet::Packet| {
        let frame = packet.frame(mac_of(*packet.source.ip()), PORT_MACS[usize::from(port)]);
        let (outcomes, _) = lab.burst(worker.into(), port, vec![frame]);
        // What was right stays right.
        assert!(!outcomes[0].contains("wrong"), "{outcomes:?}");
    };
    match *step {
        Step::Said { port, flags: bits, offset, text, ack, worker } => {
            let packet = tcp(&format!("192.168.18.10:{}", 2001 + u16::from(port % 2)), FTP, &flags(bits));
            let packet = packet.payload(SAID[usize::from(text % 8)].as_bytes()).tcp(|header| {
                header.sequence_number = 1000 + u32::from(offset % 64);
                header.acknowledgment_number = 1000 + u32::from(ack);
            });
            send(lab, worker, FRONT, packet);
        }
        Step::Answered { server, port, flags: bits, offset, text, worker } => {
            let client = format!("192.168.18.10:{}", 2001 + u16::from(port % 2));
            let packet = tcp(server_of(server), &client, &flags(bits));
            let text = ANSWERED[usize::from(text % 8)].as_bytes();
            let packet = packet.payload(text);
            send(
                lab,
                worker,
                BACK,
                packet.tcp(|header| header.sequence_number = 1000 + u32::from(offset % 64)),
            );
        }
        Step::Data { port, to, flags: bits } => {
            let to = [20, 1025, 1026][usize::from(to % 3)];
            let from = format!("192.168.18.10:{}", 1025 + u16::from(port % 3));
            send(lab, false, FRONT, tcp(&from, &format!("192.168.18.58:{to}"), &flags(bits)));
        }
        Step::FromServer { server, from, port, flags: bits } => {
            let from = [20, 1025, 1026][usize::from(from % 3)];
            let from = server_of(server).replace(":21", &format!(":{from}"));
            let to = format!("192.168.18.10:{}", 1025 + u16::from(port % 3));
            send(lab, true, BACK, tcp(&from, &to, &flags(bits)));
        }
        Step::Pass { seconds } => {
            lab.milliseconds += u64::from(seconds) * 1000;
            (0..3).for_each(|_| lab.poll());
        }
        Step::Delete { server } => {
            let _ = lab.control.catalog.delete_server(tcp_key(FTP), point(server_of(server)));
            lab.control.publish();
            lab.control.purge();
        }
        Step::Add { server } => {
            let _ = lab.control.catalog.add_server(tcp_key(FTP), point(server_of(server)), weight(1));
            lab.control.publish();
        }
        Step::Loose(is_loose) => lab.sysctl(|sysctls| sysctls.ftp_loose = is_loose),
    }
}

/// No panic, no wrong checksum; what is listed is counted; in the end nothing is left over.
#[test]
fn any_history_ends_clean() {
    bolero::check!().with_type::<(Vec<Step>, Vec<Step>)>().with_iterations(200).for_each(|(first, then)| {
        let mut lab = Lab::empty(40, 2);
        lab.serve(tcp_key(FTP), &SERVERS);
        // One that is open: what comes first is mostly about it.
        let client = "192.168.18.10:2001";
        lab.front(&tcp(client, FTP, "S"));
        lab.back(&tcp(SERVERS[1], client, "SA"));
        lab.front(&tcp(client, FTP, "A").tcp(|header| header.sequence_number = 1001));
        for step in first.iter().chain(then) {
            take(&mut lab, step);
        }
        for server in SERVERS {
            let _ = lab.control.catalog.add_server(tcp_key(FTP), point(server), weight(1));
        }
        lab.control.publish();
        lab.poll();
        let (mut active, mut inactive) = (0, 0);
        lab.each_entry(|connection| {
            *if connection.state.is_active() { &mut active } else { &mut inactive } += 1;
        });
        let sum = |lab: &Lab| {
            let loads = SERVERS.map(|server| lab.load(tcp_key(FTP), server));
            (loads[0].0 + loads[1].0, loads[0].1 + loads[1].1)
        };
        assert_eq!(sum(&lab), (active, inactive));
        // A control connection outlives its data connections by a minute.
        for _ in 0..2 {
            lab.milliseconds += 901_000;
            (0..20).for_each(|_| lab.poll());
        }
        assert_eq!((lab.entries().len(), sum(&lab)), (0, (0, 0)));
        let counters = lab.control.table().counters();
        assert_eq!((counters.active, counters.dead), (0, 0));
    });
}

/// Every place that a control connection had can be had again.
#[test]
fn places_come_back() {
    let mut lab = Lab::empty(100, 1);
    lab.serve(tcp_key(FTP), &SERVERS);
    for round in 0..4 {
        for port in 1..=100 {
            let outcome = lab.front(&tcp(&format!("192.168.18.10:{}", 1000 * (round + 1) + port), FTP, "S"));
            assert!(outcome.starts_with("back "), "{round} {port}: {outcome}");
        }
        lab.timeout(State::SynRecv, 1);
        lab.pass(70_000);
    }
}
