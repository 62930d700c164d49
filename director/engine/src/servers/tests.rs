use std::sync::atomic::Ordering::SeqCst;

use super::*;

fn server(spec: ServerSpec) -> Servers {
    let servers = Servers::new(2);
    servers.ensure(5000);
    servers.set(5000, &spec);
    servers
}

#[test]
fn the_recorded_thresholds() {
    // x=8 without y: at 7 and 6 still refused, at 5 accepted.
    let servers = server(ServerSpec { upper: 8, ..ServerSpec::default() });
    (0..8).for_each(|_| servers.bind(5000, State::SynRecv));
    assert!(!servers.is_usable(5000));
    for usable in [false, false, true] {
        servers.unbind(5000, State::SynRecv);
        assert_eq!(servers.is_usable(5000), usable);
    }
    // x=4, y=2: released only at 1.
    let servers = server(ServerSpec { upper: 4, lower: 2, ..ServerSpec::default() });
    (0..4).for_each(|_| servers.bind(5000, State::Udp));
    for usable in [false, false, true] {
        servers.unbind(5000, State::Udp);
        assert_eq!(servers.is_usable(5000), usable);
    }
}

/// As Linux 6.1.192 does it.
#[test]
fn new_thresholds_count_at_once() {
    let servers = server(ServerSpec { upper: 3, ..ServerSpec::default() });
    (0..3).for_each(|_| servers.bind(5000, State::SynRecv));
    let set = |upper, lower| {
        servers.set(5000, &ServerSpec { upper, lower, ..ServerSpec::default() });
        servers.is_usable(5000)
    };
    // Three of four: not below three quarters.
    assert!(!set(4, 0));
    assert!(set(5, 0));
    assert!(!set(3, 0), "as many as it may have");
    assert!(!set(8, 3), "not below the lower one");
    assert!(set(8, 4));
    assert!(set(4, 3), "between the two it stays what it was");
    assert!(!set(3, 3));
    assert!(set(0, 0));
}

/// While the two thresholds are being stored, other threads may see a lower one above the upper.
#[test]
fn a_half_set_threshold_is_borne() {
    let servers = server(ServerSpec { upper: 100, lower: 50, ..ServerSpec::default() });
    (0..10).for_each(|_| servers.bind(5000, State::SynRecv));
    servers.shared.get(5000).unwrap().upper.store(5, Relaxed);
    servers.bind(5000, State::SynRecv);
    servers.unbind(5000, State::SynRecv);
    assert!(!servers.is_usable(5000));
    servers.set(5000, &ServerSpec { upper: 5, lower: 3, ..ServerSpec::default() });
    assert!(!servers.is_usable(5000));
    (0..8).for_each(|_| servers.unbind(5000, State::SynRecv));
    assert!(servers.is_usable(5000));
}

#[test]
fn states_count_as_active_or_not() {
    let servers = server(ServerSpec::default());
    servers.bind(5000, State::SynRecv);
    servers.bind(5000, State::Udp);
    servers.change(5000, State::SynRecv, State::Established);
    assert_eq!(servers.load(5000), Load { active: 1, inactive: 1, persistent: 0 });
    servers.change(5000, State::Established, State::FinWait);
    assert_eq!(servers.load(5000), Load { active: 0, inactive: 2, persistent: 0 });
    servers.unbind(5000, State::FinWait);
    assert_eq!(servers.load(5000).inactive, 1);
}

#[test]
fn an_end_may_be_counted_before_the_last_change() {
    let servers = server(ServerSpec::default());
    servers.bind(5000, State::SynRecv);
    servers.unbind(5000, State::FinWait);
    assert_eq!(servers.load(5000), Load { active: 1, inactive: 0, persistent: 0 });
    assert!(!servers.is_idle(5000));
    servers.change(5000, State::SynRecv, State::FinWait);
    assert_eq!(servers.load(5000), Load::default());
    assert!(servers.is_idle(5000));
    // And the other way round.
    servers.bind(5000, State::Close);
    servers.unbind(5000, State::Established);
    assert_eq!(servers.load(5000), Load { active: 0, inactive: 1, persistent: 0 });
    servers.change(5000, State::Close, State::Established);
    assert!(servers.is_idle(5000));
}

#[test]
fn an_overload_never_outlasts_its_connections() {
    let servers = server(ServerSpec { upper: 2, ..ServerSpec::default() });
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..20_000 {
                    servers.bind(5000, State::SynRecv);
                    servers.change(5000, State::SynRecv, State::TimeWait);
                    servers.unbind(5000, State::TimeWait);
                }
            });
        }
    });
    assert!(servers.is_idle(5000) && servers.is_usable(5000));
}

/// Two of three connections end and one begins, while another thread adds two: in whatever order, the server then has
/// all the four that it may have.
#[test]
fn an_end_does_not_hide_that_others_came() {
    const ROUNDS: u32 = if cfg!(miri) { 100 } else { 100_000 };
    let servers = server(ServerSpec { upper: 4, ..ServerSpec::default() });
    (0..4).for_each(|_| servers.bind(5000, State::Udp));
    servers.unbind(5000, State::Udp);
    let (begun, ended) = (AtomicU32::new(0), AtomicU32::new(0));
    let wait_for = |counter: &AtomicU32, round| {
        while counter.load(SeqCst) != round {
            std::thread::yield_now();
        }
    };
    let mut welcome = 0;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for round in 1..=ROUNDS {
                wait_for(&begun, round);
                (0..2).for_each(|_| servers.unbind(5000, State::Udp));
                servers.bind(5000, State::Udp);
                ended.store(round, SeqCst);
            }
        });
        for round in 1..=ROUNDS {
            begun.store(round, SeqCst);
            (0..2).for_each(|_| servers.bind(5000, State::Udp));
            wait_for(&ended, round);
            welcome += u32::from(servers.is_usable(5000));
            servers.unbind(5000, State::Udp);
        }
    });
    assert_eq!(welcome, 0, "times one more was");
}

/// Thresholds change while connections come and go: in the end the flag is as both require.
#[test]
fn thresholds_change_among_connections() {
    const ROUNDS: u32 = if cfg!(miri) { 50 } else { 20_000 };
    let servers = server(ServerSpec::default());
    let done = std::sync::Barrier::new(3);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for round in 0..ROUNDS {
                    (0..5).for_each(|_| servers.bind(5000, State::Udp));
                    (0..if round % 2 == 0 { 2 } else { 4 }).for_each(|_| servers.unbind(5000, State::Udp));
                    done.wait();
                    done.wait();
                    (0..if round % 2 == 0 { 3 } else { 1 }).for_each(|_| servers.unbind(5000, State::Udp));
                    done.wait();
                }
            });
        }
        for round in 0..ROUNDS {
            let upper = [4, 9, 0, 6, 2][round as usize % 5];
            servers.set(5000, &ServerSpec { upper, lower: upper / 2, ..ServerSpec::default() });
            done.wait();
            let total = servers.load(5000).inactive;
            assert_eq!(total, if round % 2 == 0 { 6 } else { 2 });
            if upper != 0 && total >= upper {
                assert!(!servers.is_usable(5000), "{total} of {upper}");
            }
            if upper == 0 || total < upper / 2 {
                assert!(servers.is_usable(5000), "{total} of {upper}");
            }
            done.wait();
            done.wait();
        }
    });
}

#[test]
fn workers_counts_add_up() {
    let servers = server(ServerSpec::default());
    servers.count_connection(0, 5000);
    servers.count(0, 5000, Direction::In, 40);
    servers.count(1, 5000, Direction::Out, 60);
    let traffic = servers.traffic(5000);
    assert_eq!((traffic.connections, traffic.in_packets, traffic.in_bytes), (1, 1, 40));
    assert_eq!((traffic.out_packets, traffic.out_bytes), (1, 60));
    assert_eq!(servers.traffic(7_000_000), Traffic::default());
    assert!(servers.is_gone(7_000_000));
}
