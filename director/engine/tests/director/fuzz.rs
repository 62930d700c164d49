//! The target `frames` of `scripts/fuzz`: any frames at either port, among changes of the configuration and of time.

use std::cell::Cell;

use bolero::TypeGenerator;
use director_engine::Verdict;
use director_engine::control::{Connection, Kind};
use director_engine::snapshot::Sysctls;
use director_engine::state::Timeouts;
use director_packet::TCP;
use etherparse::{NetSlice, SlicedPacket, TransportSlice};

use crate::lab::{BACK, FRONT, Lab, PORT_MACS};
use crate::packet::{Packet, describe, tcp, udp};
use crate::properties::{Damaged, Step, check_counts, check_end, lab, restore, serve, take};

#[derive(Debug, TypeGenerator)]
enum Event {
    /// Frames come to a worker in one burst.
    Frames { worker: bool, front: bool, frames: Vec<Damaged> },
    /// One good packet, or a change.
    Step(Step),
}

/// Whether the TCP or UDP checksum of a frame is right, of a frame that has one.
fn is_right(frame: &[u8]) -> Option<bool> {
    let packet = SlicedPacket::from_ethernet(frame).ok()?;
    let Some(NetSlice::Ipv4(ip)) = packet.net else { return None };
    let header = ip.header().to_header();
    let (found, right) = match packet.transport? {
        TransportSlice::Tcp(tcp) => {
            (tcp.checksum(), tcp.to_header().calc_checksum_ipv4(&header, tcp.payload()).ok()?)
        }
        TransportSlice::Udp(udp) if udp.checksum() != 0 => {
            (udp.checksum(), udp.to_header().calc_checksum_ipv4(&header, udp.payload()).ok()?)
        }
        _ => return None,
    };
    // 0 and its complement are one number.
    Some(found == right || (found == 0xffff && right == 0))
}

fn burst(lab: &mut Lab, worker: usize, port: u8, frames: Vec<Vec<u8>>) {
    let before = frames.clone();
    let (verdicts, after, replies) = lab.process(worker, port, frames);
    for ((verdict, before), after) in verdicts.iter().zip(&before).zip(&after) {
        if let Verdict::Send(_) | Verdict::Hold(_) = verdict
            && let Some(right) = is_right(before)
        {
            assert_eq!(is_right(after), Some(right), "{before:02x?} became {after:02x?}");
        }
    }
    // What the director says itself is right.
    for (_, frame) in replies {
        describe(&frame);
    }
}

/// What the server of a connection sends comes to its client, from the address that this one knows.
fn check_reply(lab: &mut Lab, connection: &Connection) {
    let [server, client, service] =
        [connection.server, connection.client, connection.service].map(|end| end.to_string());
    let packet: Packet =
        if connection.protocol == TCP { tcp(&server, &client, "A") } else { udp(&server, &client) };
    let frame = packet.frame(packet.from(), PORT_MACS[usize::from(BACK)]);
    let (verdicts, frames, _) = lab.process(0, BACK, vec![frame]);
    assert!(matches!(verdicts[0], Verdict::Send(_) | Verdict::Hold(_)), "{verdicts:?} of {connection:?}");
    let text = describe(&frames[0]);
    assert!(text.starts_with(&format!("{service} > {client} ")), "{text} of {connection:?}");
}

thread_local! {
    /// To make one takes as long as hundreds of inputs; after each that has passed it is as new.
    static LAB: Cell<Option<Lab>> = const { Cell::new(None) };
}

#[test]
fn frames() {
    bolero::check!(name = "frames").with_type::<Vec<Event>>().for_each(|events| {
        let mut lab = LAB.take().unwrap_or_else(lab);
        for event in events {
            match event {
                Event::Frames { worker, front, frames } => {
                    let port = if *front { FRONT } else { BACK };
                    for chunk in frames.chunks(32) {
                        let frames = chunk.iter().map(Damaged::frame).collect();
                        burst(&mut lab, usize::from(*worker), port, frames);
                    }
                }
                Event::Step(step) => take(&mut lab, step),
            }
        }
        restore(&mut lab);
        check_counts(&lab);
        let mut connections = Vec::new();
        lab.each_entry(|connection| connections.push(connection));
        for connection in connections.iter().filter(|connection| connection.kind == Kind::Connection) {
            check_reply(&mut lab, connection);
        }
        check_end(&mut lab);
        lab.control.flush();
        lab.control.set_sysctls(Sysctls::default());
        lab.control.set_timeouts(Timeouts::default());
        serve(&mut lab);
        LAB.set(Some(lab));
    });
}
