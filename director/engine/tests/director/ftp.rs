//! FTP, beyond what the scenarios tell: whatever comes in whatever order, and several workers.

use bolero::TypeGenerator;
use director_engine::state::State;

use crate::lab::{BACK, FRONT, Lab, PORT_MACS, point, tcp_key, weight};
use crate::packet::tcp;

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
        let frame = packet.frame(packet.from(), PORT_MACS[usize::from(port)]);
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

/// A control connection of a client, greeted by its server.
fn greeted(lab: &mut Lab, client: &str) -> String {
    let outcome = lab.front(&tcp(client, FTP, "S"));
    let server = SERVERS.into_iter().find(|server| outcome.contains(server)).unwrap();
    lab.back(&tcp(server, client, "SA"));
    lab.front(&tcp(client, FTP, "A").tcp(|header| header.sequence_number = 1001));
    let greeting = tcp(server, client, "PA").payload(b"220 hello\r\n");
    lab.back(&greeting.tcp(|header| (header.sequence_number, header.acknowledgment_number) = (1001, 1001)))
}

/// What a client says on a control connection that was greeted, as its first.
fn say(lab: &mut Lab, client: &str, text: &str) -> String {
    lab.front(&tcp(client, FTP, "PA").payload(text.as_bytes()).tcp(|header| {
        header.sequence_number = 1001;
        header.acknowledgment_number = 1012;
    }))
}

/// Every place that a control connection had can be had again.
#[test]
fn places_come_back() {
    let mut lab = Lab::empty(100, 1);
    lab.serve(tcp_key(FTP), &SERVERS);
    lab.timeout(State::Established, 1);
    for round in 0..6 {
        for port in 1..=100 {
            let outcome = greeted(&mut lab, &format!("192.168.18.10:{}", 1000 * (round + 1) + port));
            assert!(outcome.starts_with("front "), "{round} {port}: {outcome}");
        }
        lab.pass(70_000);
    }
}

/// Connections that are begun and no more take no place, so there is one for whoever goes on.
#[test]
fn a_flood_takes_no_places() {
    let mut lab = Lab::empty(100_000, 1);
    lab.serve(tcp_key(FTP), &SERVERS);
    for host in 0..40_000_u32 {
        let client = format!("10.0.{}.{}:{}", host / 200 % 200, 1 + host % 200, 1024 + host / 40_000);
        let outcome = lab.front(&tcp(&client, FTP, "S"));
        assert!(outcome.starts_with("back "), "{host}: {outcome}");
    }
    assert!(greeted(&mut lab, "192.168.18.10:2001").starts_with("front "));
    say(&mut lab, "192.168.18.10:2001", "PORT 192,168,18,10,4,1\r\n");
    assert_eq!(lab.entries().iter().filter(|entry| entry.contains("LISTEN")).count(), 1);
}

/// However many commands a client sends at once, or one after the other, a few data connections are awaited.
#[test]
fn a_few_are_awaited() {
    let mut lab = Lab::empty(1000, 1);
    lab.serve(tcp_key(FTP), &SERVERS);
    let client = "192.168.18.10:2001";
    greeted(&mut lab, client);
    let commands = |ports: std::ops::Range<u32>| {
        ports.map(|port| format!("PORT 192,168,18,10,4,{port}\r\n")).collect::<String>()
    };
    let waiting = |lab: &mut Lab| -> Vec<_> {
        lab.poll();
        let entries = lab.entries().into_iter().filter(|entry| entry.contains("LISTEN"));
        entries.map(|entry| entry.split(' ').nth(2).unwrap().to_string()).collect()
    };
    let first = commands(1..60);
    say(&mut lab, client, &first);
    let port = |port: u32| format!("192.168.18.10:{}", 1024 + port);
    assert_eq!(waiting(&mut lab), [1, 2, 3, 4].map(port));
    // The server connects to the second, which then is no longer awaited, and stays.
    let server = "192.168.2.72:20";
    lab.back(&tcp(server, &port(2), "S"));
    lab.front(&tcp(&port(2), "192.168.18.58:20", "SA"));
    lab.back(&tcp(server, &port(2), "A").tcp(|header| header.sequence_number = 1001));
    let more = tcp(client, FTP, "PA").payload(commands(60..63).as_bytes());
    lab.front(&more.tcp(|header| header.sequence_number = 1001 + first.len() as u32));
    assert_eq!(waiting(&mut lab), [4, 60, 61, 62].map(port));
    assert!(lab.entries().iter().any(|entry| entry.contains(&format!("ESTABLISHED {}", port(2)))));
    // The entries that gave way are counted no more.
    assert_eq!(lab.load(tcp_key(FTP), SERVERS[1]), (2, 4));
}
