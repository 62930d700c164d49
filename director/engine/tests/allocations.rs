//! A worker never allocates and never frees: not for packets of existing connections, not for new ones, not
//! for what it refuses, not when it takes up another configuration.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

#[allow(dead_code, reason = "shared with the other tests")]
#[path = "director/lab.rs"]
mod lab;
#[allow(dead_code, reason = "shared with the other tests")]
#[path = "director/packet.rs"]
mod packet;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use director_engine::service::{Engine, FALLBACK, PORT, Persistence, Protocol, SchedulerKind, ServiceSpec};
use director_engine::{BURST, Reason, Verdict};
use director_packet::fragment::{MAX_FRAME, cut};

use lab::{BACK, Burst, FRONT, Lab, PORT_MACS, SERVERS, VIP, key, point, tcp_key};
use packet::{Packet, icmp, tcp, udp};

thread_local! {
    /// Calls of the allocator by this thread.
    static CALLS: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

fn count() {
    // Not in a thread that is ending.
    let _ = CALLS.try_with(|calls| calls.set(calls.get() + 1));
}

// SAFETY: every call is passed on to the system's allocator as it is; counting touches a thread's own cell
// without a destructor, which allocates nothing.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the contract of `alloc`, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count();
        // SAFETY: `pointer` came from `System` through this wrapper, with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as above; the caller answers for `size`.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What becomes of a burst, and how often the allocator was called for it.
fn process(lab: &mut Lab, port: u8, frames: Vec<Vec<u8>>) -> (Vec<Verdict>, u64) {
    let count = frames.len();
    let mut burst = Burst { frames, head: usize::MAX };
    let mut verdicts = [Verdict::Kernel; BURST];
    let (now, worker) = (lab.now(), &mut lab.workers[0]);
    let before = CALLS.get();
    worker.quiescent();
    worker.process(now, lab.milliseconds as u32, port, &mut burst, &mut verdicts);
    for (at, (verdict, frame)) in verdicts.iter().zip(&burst.frames).enumerate() {
        if matches!(verdict, Verdict::SendSplit(..)) {
            worker.split(at, port, *verdict, frame.len(), |bytes| {
                bytes.copy_from_slice(frame);
                true
            });
            while worker.next_part().is_some() {}
        }
    }
    while worker.reassemble(now, lab.milliseconds as u32) {
        while worker.next_part().is_some() {}
    }
    let calls = CALLS.get() - before;
    (verdicts[..count].to_vec(), calls)
}

fn frames(packets: impl Iterator<Item = Packet>, port: u8) -> Vec<Vec<u8>> {
    packets.map(|packet| packet.frame(Default::default(), PORT_MACS[usize::from(port)])).collect()
}

fn client(number: u32) -> String {
    format!("10.{}.{}.{}:{}", number >> 16 & 255, number >> 8 & 255, number & 255, 1024 + number % 60_000)
}

#[test]
fn no_allocation() {
    // The counter counts.
    let before = CALLS.get();
    drop(std::hint::black_box(Box::new(1)));
    assert_eq!(CALLS.get() - before, 2);

    let mut lab = Lab::empty(10_000, 1);
    lab.serve(tcp_key(VIP), &SERVERS);
    lab.serve(key(Protocol::Udp, "192.168.18.58:53"), &["192.168.2.71:53"]);
    lab.serve(tcp_key("192.168.18.58:81"), &[]);
    // A thread's first look at the configuration makes what the library of the snapshots keeps for it.
    process(&mut lab, FRONT, Vec::new());
    let expect = |lab: &mut Lab, what: &str, port: u8, frames: Vec<Vec<u8>>, verdict: Verdict| {
        let count = frames.len();
        let (verdicts, calls) = process(lab, port, frames);
        assert_eq!((verdicts, calls), (vec![verdict; count], 0), "{what}");
    };
    // New connections, of both protocols, until the table is full; in between time passes.
    for burst in 0..260 {
        let syns = (0..32).map(|at| tcp(&client(burst * 32 + at), VIP, "S"));
        expect(&mut lab, "new connections", FRONT, frames(syns, FRONT), Verdict::Send(BACK));
        if burst % 100 == 0 {
            lab.pass(100);
        }
    }
    let asks = (0..32).map(|at| udp(&client(at), "192.168.18.58:53").payload(b"?"));
    expect(&mut lab, "datagrams", FRONT, frames(asks, FRONT), Verdict::Send(BACK));
    // Established traffic, both ways, in new ticks and old.
    for round in 0..50 {
        let acks = (0..32).map(|at| tcp(&client(at), VIP, "A"));
        expect(&mut lab, "from clients", FRONT, frames(acks, FRONT), Verdict::Send(BACK));
        let server = |at: u32| SERVERS[2 - at as usize % 3];
        let answers = (0..32).map(|at| tcp(server(at), &client(at), "A"));
        expect(&mut lab, "from servers", BACK, frames(answers, BACK), Verdict::Send(FRONT));
        if round % 7 == 0 {
            lab.pass(100);
        }
    }
    // States that shorten the timer, and reuse.
    let resets = (0..32).map(|at| tcp(&client(at), VIP, "R"));
    expect(&mut lab, "resets", FRONT, frames(resets, FRONT), Verdict::Send(BACK));
    let again = (0..32).map(|at| tcp(&client(at), VIP, "S"));
    expect(&mut lab, "reused ports", FRONT, frames(again, FRONT), Verdict::Send(BACK));
    // What is refused, with an ICMP error for each.
    let refused = (0..32).map(|at| tcp(&client(at), "192.168.18.58:81", "S"));
    expect(&mut lab, "no server", FRONT, frames(refused, FRONT), Verdict::Drop(Reason::NoServer));
    assert_eq!(lab.workers[0].replies().len(), 32);
    let late = (0..32).map(|at| tcp(&client(at + 100), VIP, "A").ttl(1));
    expect(&mut lab, "too late", FRONT, frames(late, FRONT), Verdict::Drop(Reason::TtlExceeded));
    // Fragments: of as many packets as there is room for and more, never completed; the second halves of the last;
    // overlaps. Then what is split.
    let halves = |at: u32, which: usize| {
        let whole = udp(&client(at), "192.168.18.58:53").fragmentable().length(3_000).ip(|ip| {
            ip.identification = at as u16;
        });
        let (mut out, frame) = (Box::new([0; MAX_FRAME]), frames(std::iter::once(whole), FRONT).remove(0));
        let length = cut(&frame, 20, [0..1480, 1480..2980, 1472..2980][which].clone(), &mut out);
        out[..length].to_vec()
    };
    for burst in 0..200 {
        let firsts = (0..32).map(|at| halves(burst * 32 + at, 0)).collect();
        expect(&mut lab, "first fragments", FRONT, firsts, Verdict::Keep);
    }
    let lasts = (0..16).map(|at| halves(199 * 32 + at, 1)).collect();
    expect(&mut lab, "the last fragments", FRONT, lasts, Verdict::Keep);
    let overlaps = (16..32).map(|at| halves(199 * 32 + at, 2)).collect();
    expect(&mut lab, "overlaps", FRONT, overlaps, Verdict::Drop(Reason::FragmentOverlap));
    lab.pass(30_100);
    lab.control.take_lost_fragments(|_, _, _| ());
    let long = (0..32).map(|at| udp(&client(at), "192.168.18.58:53").fragmentable().length(3_000));
    expect(&mut lab, "too long", FRONT, frames(long, FRONT), Verdict::SendSplit(BACK, 1500));
    // ICMP errors about connections; what is the kernel's.
    let quoted = tcp(&client(201), SERVERS[2], "S").bytes();
    let address = client(201).split(':').next().unwrap().to_owned();
    let error = icmp("192.168.2.73", &address, 3, 3, [0; 4], &quoted, PORT_MACS[1]);
    expect(&mut lab, "an ICMP error", BACK, vec![error], Verdict::Send(FRONT));
    let others = (0..32).map(|at| tcp(&client(at), "192.168.18.58:22", "S"));
    expect(&mut lab, "the kernel's", FRONT, frames(others, FRONT), Verdict::Kernel);
    // Another configuration: the routes anew, a server less. The old one is the control core's to free.
    lab.route(|_| {});
    lab.delete_server(VIP, SERVERS[0]);
    let acks = (1000..1032).filter(|at| at % 3 != 2).map(|at| tcp(&client(at), VIP, "A"));
    expect(&mut lab, "after a change", FRONT, frames(acks, FRONT), Verdict::Send(BACK));
    // A full table.
    let (mut full, mut number) = (0, 20_000);
    while full < 3 {
        let syns = (0..32).map(|at| tcp(&client(number + at), VIP, "S"));
        let (verdicts, calls) = process(&mut lab, FRONT, frames(syns, FRONT));
        assert_eq!(calls, 0, "a full table");
        full += u32::from(verdicts.iter().all(|verdict| *verdict == Verdict::Drop(Reason::TableFull)));
        number += 32;
    }
}

#[test]
fn no_allocation_of_any_scheduler() {
    let mut lab = Lab::empty(100_000, 1);
    process(&mut lab, FRONT, Vec::new());
    for (scheduler, port) in SchedulerKind::ALL.into_iter().zip(1000..) {
        let vip = format!("192.168.18.58:{port}");
        let key = tcp_key(&vip);
        lab.control
            .catalog
            .add_service(key, ServiceSpec { flags: FALLBACK | PORT, ..ServiceSpec::new(scheduler) })
            .unwrap();
        for (server, weight) in SERVERS.iter().zip([10_000, 20_000, 0]) {
            lab.control.catalog.add_server(key, point(server), lab::weight(weight)).unwrap();
        }
        lab.control.publish();
        for burst in 0..20 {
            let syns = (0..32).map(|at| tcp(&client(burst * 32 + at), &vip, "S"));
            let (verdicts, calls) = process(&mut lab, FRONT, frames(syns, FRONT));
            // Where `dh` has but one server for the address, it may be the one without a weight.
            let refused = Verdict::Drop(Reason::NoServer);
            let may_be = |verdict: &Verdict| {
                *verdict == Verdict::Send(BACK)
                    || scheduler == SchedulerKind::DestinationHash && *verdict == refused
            };
            assert!(verdicts.iter().all(may_be), "{}: {verdicts:?}", scheduler.name());
            assert_eq!(calls, 0, "{}", scheduler.name());
            if burst == 10 {
                lab.set_server(&vip, SERVERS[1], lab::weight(5_000));
                lab.pass(100);
            }
        }
    }
}

#[test]
fn no_allocation_of_ftp_and_calls_of_sip() {
    const FTP: &str = "192.168.18.58:21";
    const SIP: &str = "192.168.18.58:5060";
    let mut lab = Lab::empty(10_000, 1);
    lab.serve(tcp_key(FTP), &["192.168.2.71:21"]);
    let persistence = Some(Persistence { timeout: 5, netmask: u32::MAX });
    let engine = Some(Engine::Sip);
    let spec = ServiceSpec { persistence, engine, ..ServiceSpec::new(SchedulerKind::RoundRobin) };
    let sip = key(Protocol::Udp, SIP);
    lab.control.catalog.add_service(sip, spec).unwrap();
    lab.control.catalog.add_server(sip, point(SERVERS[0]), lab::weight(1)).unwrap();
    lab.control.publish();
    process(&mut lab, FRONT, Vec::new());
    let expect = |lab: &mut Lab, port: u8, packet: &dyn Fn(String) -> Packet| {
        let mut all = frames((0..32).map(|at| packet(client(at))), port);
        // A frame lies in a buffer with room behind it.
        all.iter_mut().for_each(|frame| frame.reserve(100));
        let (verdicts, calls) = process(lab, port, all);
        assert!(verdicts.iter().all(|verdict| *verdict == Verdict::Send(1 - port)), "{verdicts:?}");
        assert_eq!(calls, 0);
    };
    let data =
        |port: u16| move |client: String| client.rsplit_once(':').unwrap().0.to_owned() + &format!(":{port}");
    expect(&mut lab, FRONT, &|client| tcp(&client, FTP, "S"));
    expect(&mut lab, BACK, &|client| tcp("192.168.2.71:21", &client, "SA"));
    let said = |client: String, text: &str, from: u32| {
        let numbers = (from, 1001);
        let packet = tcp(&client, FTP, "PA").payload(text.as_bytes());
        packet.tcp(|header| (header.sequence_number, header.acknowledgment_number) = numbers)
    };
    expect(&mut lab, FRONT, &|client| said(client, "PASV\r\nPORT 1,2,3,4,5,6\r\n", 1001));
    expect(&mut lab, FRONT, &|client| {
        let host = client.rsplit_once(':').unwrap().0.replace('.', ",");
        said(client, &format!("PORT {host},11,185\r\nPASV\r\n"), 1025)
    });
    expect(&mut lab, BACK, &|client| {
        tcp("192.168.2.71:21", &client, "PA")
            .payload(b"227 (192,168,2,71,195,80)\r\n")
            .tcp(|header| header.sequence_number = 1001)
    });
    expect(&mut lab, FRONT, &|client| tcp(&data(4001)(client), "192.168.18.58:50000", "S"));
    expect(&mut lab, BACK, &|client| tcp("192.168.2.71:20", &data(3001)(client), "S"));
    for text in ["x\r\nCall-ID: aaa@h\r\n", "x\r\ni: bbb\r\n"] {
        expect(&mut lab, FRONT, &|client| udp(&client, SIP).payload(text.as_bytes()));
    }
}

#[test]
fn no_allocation_of_templates_and_single_datagrams() {
    const ROOM: u32 = 300;
    let mut lab = Lab::with_templates(100_000, 1, ROOM);
    process(&mut lab, FRONT, Vec::new());
    let persistence = Some(Persistence { timeout: 5, netmask: u32::MAX });
    let spec = ServiceSpec { persistence, ..ServiceSpec::new(SchedulerKind::RoundRobin) };
    let one_packet = ServiceSpec { persistence: None, one_packet: true, ..spec };
    for (key, spec) in [(tcp_key(VIP), spec), (key(Protocol::Udp, "192.168.18.58:53"), one_packet)] {
        lab.control.catalog.add_service(key, spec).unwrap();
        lab.control.catalog.add_server(key, point(SERVERS[0]), lab::weight(1)).unwrap();
    }
    lab.control.publish();
    // New templates, until there is no room; those of before; and in places that have become free.
    for round in 0..3 {
        let mut made = 0;
        for burst in 0..20 {
            let from = |at: u32| format!("10.{round}.{burst}.{}:{}", at / 2 + 1, at % 2 + 1);
            let (verdicts, calls) =
                process(&mut lab, FRONT, frames((0..32).map(|at| tcp(&from(at), VIP, "S")), FRONT));
            assert_eq!(calls, 0, "templates");
            made += verdicts.iter().filter(|verdict| **verdict == Verdict::Send(BACK)).count();
        }
        assert_eq!(made, 2 * ROOM as usize);
        lab.pass(130_000);
        assert_eq!(lab.control.shared().templates.count(), 0);
    }
    let datagrams = (0..32).map(|at| udp(&client(at), "192.168.18.58:53"));
    let (verdicts, calls) = process(&mut lab, FRONT, frames(datagrams, FRONT));
    assert_eq!((calls, verdicts), (0, vec![Verdict::Send(BACK); 32]));
}
