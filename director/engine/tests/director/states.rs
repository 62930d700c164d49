//! Connection states, their timers and the reuse of ports.

use director_engine::state::State::{
    self, Close, CloseWait, Established, FinWait, SynRecv, SynSent, TimeWait,
};

use crate::lab::{CLIENT, Lab, SERVERS, VIP, key, point, served, tcp_key};
use crate::packet::{tcp, udp};

/// A packet of the one connection: `c` or `s` for its sender, then its flags.
fn step(lab: &mut Lab, event: &str) -> String {
    let (who, flags) = event.split_at(1);
    match who {
        "c" => lab.front(&tcp(CLIENT, VIP, flags)),
        _ => lab.back(&tcp(SERVERS[0], CLIENT, flags)),
    }
}

/// A director of one server, its one connection taken through these events.
fn after(events: &[&str]) -> Lab {
    let mut lab = Lab::empty(100, 1);
    lab.serve(tcp_key(VIP), &SERVERS[..1]);
    for event in events {
        assert_ne!(step(&mut lab, event), "kernel", "{events:?}: {event}");
    }
    lab
}

/// How to get into a state.
const WAYS: [(State, &[&str]); 7] = [
    (SynRecv, &["cS"]),
    (Established, &["cS", "sSA", "cA"]),
    (CloseWait, &["cS", "sSA", "cA", "cFA"]),
    (FinWait, &["cS", "sSA", "cA", "sFA"]),
    (TimeWait, &["cS", "sSA", "cA", "cFA", "sFA"]),
    (Close, &["cS", "sSA", "cA", "sR"]),
    (SynSent, &["cS", "sSA", "cA", "cFA", "sS"]),
];

const SECONDS: [(State, u32); 7] = [
    (SynRecv, 60),
    (Established, 900),
    (CloseWait, 60),
    (FinWait, 120),
    (TimeWait, 120),
    (Close, 10),
    (SynSent, 120),
];

fn seconds_of(state: State) -> u32 {
    SECONDS.iter().find(|(other, _)| *other == state).unwrap().1
}

/// As recorded: client SYN, FIN, ACK, RST, server SYN, FIN, ACK, RST. Under `conn_reuse_mode` 0.
#[test]
fn the_recorded_transitions() {
    let events = ["cS", "cFA", "cA", "cR", "sSA", "sFA", "sA", "sR"];
    let recorded = [
        (SynRecv, [SynRecv, TimeWait, Established, SynRecv, SynRecv, TimeWait, Established, Close]),
        (Established, [Established, CloseWait, Established, Close, Established, FinWait, Established, Close]),
        (CloseWait, [SynRecv, CloseWait, CloseWait, Close, SynSent, TimeWait, CloseWait, Close]),
        (FinWait, [SynRecv, TimeWait, FinWait, Close, SynSent, FinWait, FinWait, Close]),
        (TimeWait, [SynRecv, TimeWait, TimeWait, Close, SynSent, TimeWait, TimeWait, TimeWait]),
        (Close, [SynRecv, Close, Close, Close, SynSent, Close, Close, Close]),
        (SynSent, [Established, SynSent, SynSent, Close, SynSent, SynSent, SynSent, SynSent]),
    ];
    for (state, expected) in recorded {
        let (_, way) = WAYS.iter().find(|(other, _)| *other == state).unwrap();
        for (event, expected) in events.into_iter().zip(expected) {
            let mut lab = after(way);
            assert_eq!(lab.entry(), (state, seconds_of(state) - 1));
            lab.sysctl(|sysctls| sysctls.conn_reuse_mode = 0);
            lab.pass(2_000);
            let outcome = step(&mut lab, event);
            assert!(outcome.contains(" > "), "every packet of an entry is forwarded: {outcome}");
            assert_eq!(lab.entry(), (expected, seconds_of(expected) - 1), "{state:?} + {event}");
            let active = u32::from(matches!(expected, SynRecv | Established | SynSent));
            assert_eq!(lab.load(tcp_key(VIP), SERVERS[0]), (active, 1 - active), "{state:?} + {event}");
        }
        // No flag that counts.
        for event in ["c-", "sPU"] {
            let mut lab = after(way);
            step(&mut lab, event);
            assert_eq!(lab.entry().0, Close, "{state:?} + {event}");
        }
    }
}

/// As recorded under `secure_tcp` 3.
#[test]
fn the_transitions_of_secure_tcp() {
    use State::SynAck;
    let events = ["cS", "cFA", "cA", "cR", "sSA", "sFA", "sA", "sR"];
    let secure = |way: &[&str]| {
        let mut lab = Lab::empty(100, 1);
        lab.sysctl(|sysctls| sysctls.secure_tcp = true);
        lab.serve(tcp_key(VIP), &SERVERS[..1]);
        for event in way {
            assert!(step(&mut lab, event).contains(" > "));
        }
        lab
    };
    for (state, way, expected) in [
        (SynRecv, &["cS"][..], [SynRecv, TimeWait, SynRecv, SynRecv, SynAck, TimeWait, Established, Close]),
        (SynAck, &["cS", "sSA"], [SynAck, SynAck, SynAck, Close, SynAck, TimeWait, Established, Close]),
    ] {
        for (event, expected) in events.into_iter().zip(expected) {
            let mut lab = secure(way);
            let seconds = if state == SynAck { 120 } else { 60 };
            assert_eq!(lab.entry(), (state, seconds - 1));
            step(&mut lab, event);
            assert_eq!(lab.entry().0, expected, "{state:?} + {event}");
            let active = u32::from(matches!(expected, SynRecv | SynAck | Established));
            assert_eq!(lab.load(tcp_key(VIP), SERVERS[0]), (active, 1 - active), "{state:?} + {event}");
        }
    }
    // Once established it goes on as ever.
    let mut lab = secure(&["cS", "sSA", "cA", "sA", "cA"]);
    assert_eq!(lab.entry(), (Established, 899));
    step(&mut lab, "cFA");
    assert_eq!(lab.entry().0, CloseWait);
}

#[test]
fn an_entry_goes_when_its_time_is_up() {
    for (state, way) in WAYS {
        let mut lab = after(way);
        let seconds = u64::from(seconds_of(state));
        lab.pass(seconds * 1000);
        assert_eq!(lab.entry(), (state, 0), "never early");
        lab.pass(700);
        assert_eq!(lab.entries(), [""; 0], "{state:?}: within a second");
        assert_eq!(lab.load(tcp_key(VIP), SERVERS[0]), (0, 0));
        assert_eq!(lab.front(&tcp(CLIENT, VIP, "PA")), "kernel");
        assert_eq!(lab.back(&tcp(SERVERS[0], CLIENT, "PA")), "kernel");
    }
}

#[test]
fn every_packet_restarts_the_timer() {
    for event in ["cA", "sA", "cPA", "sPA"] {
        let mut lab = after(&["cS", "sSA", "cA"]);
        lab.pass(890_000);
        assert_eq!(lab.entry().1, 9);
        step(&mut lab, event);
        assert_eq!(lab.entry().1, 899);
        lab.pass(890_000);
        assert_eq!(lab.entry().1, 9, "{event}");
        lab.pass(11_000);
        assert_eq!(lab.entries().len(), 0);
    }
}

#[test]
fn the_one_state_of_udp() {
    let vip = "192.168.18.58:53";
    let service = key(director_engine::service::Protocol::Udp, vip);
    let mut lab = Lab::empty(100, 1);
    lab.serve(service, &["192.168.2.71:53"]);
    lab.front(&udp(CLIENT, vip));
    assert_eq!(lab.entry(), (State::Udp, 299));
    assert_eq!(lab.load(service, "192.168.2.71:53"), (0, 1));
    lab.pass(299_000);
    lab.back(&udp("192.168.2.71:53", CLIENT));
    assert_eq!(lab.entry(), (State::Udp, 299));
    lab.pass(300_700);
    assert_eq!(lab.entries().len(), 0);
    assert_eq!(lab.load(service, "192.168.2.71:53"), (0, 0));
}

/// `--set 50 40 30`, as recorded.
#[test]
fn timeouts_set_count_from_the_next_packet() {
    let mut lab = after(&["cS", "sSA", "cA"]);
    lab.timeout(Established, 50);
    lab.timeout(FinWait, 40);
    assert_eq!(lab.entry().1, 899, "the listing is unchanged");
    lab.pass(100);
    step(&mut lab, "cA");
    assert_eq!(lab.entry(), (Established, 49));
    step(&mut lab, "sFA");
    assert_eq!(lab.entry(), (FinWait, 39));
    step(&mut lab, "cFA");
    assert_eq!(lab.entry(), (TimeWait, 119), "the others are unchanged");
}

/// `--set 1 120 300`, one more request, 3 s idle: gone, though the timer ran for 900 s.
#[test]
fn a_shortened_timer_ends_in_time() {
    let mut lab = after(&["cS", "sSA", "cA"]);
    lab.pass(5_000);
    lab.timeout(Established, 1);
    lab.pass(3_000);
    assert_eq!(lab.entries().len(), 1, "a running timer changes with a packet only");
    step(&mut lab, "cPA");
    step(&mut lab, "sPA");
    lab.pass(1_700);
    assert_eq!(lab.entries().len(), 0);
    assert_eq!(lab.front(&tcp(CLIENT, VIP, "PA")), "kernel");
    // A longer one is as good.
    let mut lab = after(&["cS", "sSA", "cA"]);
    lab.timeout(Established, 2000);
    step(&mut lab, "cA");
    assert_eq!(lab.entry().1, 1999);
    lab.pass(1_999_000);
    assert_eq!(lab.entries().len(), 1);
}

#[test]
fn a_state_that_shortens_the_time_counts_from_then() {
    let mut lab = after(&["cS", "sSA", "cA"]);
    lab.pass(100_000);
    step(&mut lab, "cR");
    assert_eq!(lab.entry(), (Close, 9));
    lab.pass(10_700);
    assert_eq!(lab.entries().len(), 0);
}

/// A SYN on an existing entry, three servers: the entry was of 73; what is new goes to 72.
#[test]
fn reuse_of_a_port_as_recorded() {
    for mode in [0, 1, 2, 3, 7, u32::MAX] {
        for (state, way) in WAYS {
            let mut lab = Lab::new();
            lab.sysctl(|sysctls| sysctls.conn_reuse_mode = mode);
            for event in way {
                match event.split_at(1) {
                    ("c", flags) => lab.front(&tcp(CLIENT, VIP, flags)),
                    (_, flags) => lab.back(&tcp(SERVERS[2], CLIENT, flags)),
                };
            }
            assert_eq!(lab.entry().0, state);
            let server = served(&lab.front(&tcp(CLIENT, VIP, "S")));
            let is_new = mode != 0 && matches!(state, TimeWait | Close);
            assert_eq!(server, if is_new { 72 } else { 73 }, "{state:?} under {mode}");
            let expected = if matches!(state, Established | SynSent) { Established } else { SynRecv };
            assert_eq!(lab.entry().0, expected, "{state:?} under {mode}");
            lab.pass(100);
            let total = lab.load(tcp_key(VIP), SERVERS[2]).0 + lab.load(tcp_key(VIP), SERVERS[1]).0;
            assert_eq!(total, 1);
            let (left, right) = (lab.load(tcp_key(VIP), SERVERS[2]), lab.load(tcp_key(VIP), SERVERS[1]));
            assert_eq!((left.1, right.1), (0, 0), "the old connection has left its server");
        }
    }
}

#[test]
fn reuse_leaves_a_server_of_weight_0() {
    let mut lab = after(&["cS", "sSA", "cA", "sR"]);
    lab.control.catalog.set_server(tcp_key(VIP), point(SERVERS[0]), crate::lab::weight(0)).unwrap();
    lab.add_server(VIP, SERVERS[1], crate::lab::weight(1));
    assert_eq!(served(&lab.front(&tcp(CLIENT, VIP, "S"))), 72);
    assert_eq!(served(&lab.front(&tcp(CLIENT, VIP, "A"))), 72);
    assert_eq!(lab.back(&tcp(SERVERS[0], CLIENT, "A")), "kernel", "the old connection is over");
}

#[test]
fn a_port_reused_again_and_again() {
    let mut lab = Lab::new();
    for round in 0..500 {
        let server = served(&lab.front(&tcp(CLIENT, VIP, "S")));
        assert_eq!(server, 73 - round % 3);
        let server = SERVERS[server as usize - 71];
        lab.back(&tcp(server, CLIENT, "SA"));
        lab.front(&tcp(CLIENT, VIP, "A"));
        lab.back(&tcp(server, CLIENT, "R"));
        if round % 10 == 9 {
            lab.poll();
        }
    }
    lab.pass(11_000);
    assert_eq!(lab.entries().len(), 0);
    for server in SERVERS {
        assert_eq!(lab.load(tcp_key(VIP), server), (0, 0));
    }
    assert_eq!(lab.control.table().counters().dead, 0);
}
