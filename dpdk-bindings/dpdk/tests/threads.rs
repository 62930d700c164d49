//! Mbufs, bursts and queues that go from thread to thread, lcores or not.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use dpdk::{Burst, Mbuf, PortConfig};
use support::{attach, bytes, eal, frame, pool};

const ROUNDS: usize = 2000;

#[test]
fn packets_go_from_thread_to_thread() {
    let eal = eal("threads", 3);
    let pool = pool(&eal, "packets");
    let workers = eal.worker_lcores();

    // Two queues each way; receive and transmit side with other workers.
    let port = attach(&eal, "net_ring0").configure(&PortConfig::new(2, &pool)).unwrap();
    let (port, rx, tx) = port.start().unwrap();

    // A worker makes packets and sends them on both queues.
    let source = pool.clone();
    let sender = eal
        .launch(workers[0], move || {
            let (mut tx, mut burst, mut made) = (tx, Burst::new(), 0);
            while made < ROUNDS {
                match source.copy_from_slice(&frame(made, 60 + made % 3000)) {
                    Ok(packet) => {
                        burst.push(packet).unwrap();
                        made += 1;
                    }
                    Err(_) => thread::yield_now(),
                }
                if burst.is_full() || made == ROUNDS {
                    while !burst.is_empty() {
                        if tx[made % 2].send(&mut burst) == 0 {
                            thread::yield_now();
                        }
                    }
                }
            }
        })
        .unwrap();

    // Two receive, and hand on, one to another lcore's pile and one to a plain
    // thread, packet by packet and in bursts.
    let (packets, packet_pile) = mpsc::channel::<Mbuf>();
    let (full, burst_pile) = mpsc::channel::<Burst>();
    let (stop, stopped) = mpsc::channel::<()>();
    let mut queues = rx.into_iter();
    let mut first = queues.next().unwrap();
    let receiver = eal
        .launch(workers[1], move || {
            let mut burst = Burst::new();
            while stopped.try_recv() != Err(mpsc::TryRecvError::Disconnected) {
                if first.receive(&mut burst) == 0 {
                    thread::yield_now();
                }
                burst.drain().for_each(|packet| packets.send(packet).unwrap());
            }
        })
        .unwrap();
    let mut second = queues.next().unwrap();
    let (stop_second, second_stopped) = mpsc::channel::<()>();
    let other = eal
        .launch(workers[2], move || {
            while second_stopped.try_recv() != Err(mpsc::TryRecvError::Disconnected) {
                let mut burst = Burst::new();
                if second.receive(&mut burst) > 0 {
                    full.send(burst).unwrap();
                } else {
                    thread::yield_now();
                }
            }
        })
        .unwrap();
    let from_bursts = thread::spawn(move || {
        let mut seen = Vec::new();
        for mut burst in burst_pile {
            seen.extend(burst.drain().map(|packet| number(&packet)));
        }
        seen
    });
    let from_packets =
        thread::spawn(move || packet_pile.iter().map(|packet| number(&packet)).collect::<Vec<_>>());

    sender.join().unwrap();
    // What is underway arrives, then the receivers are told to end.
    let end = Instant::now() + Duration::from_secs(10);
    while pool.in_use() > 0 && Instant::now() < end {
        thread::yield_now();
    }
    drop((stop, stop_second));
    receiver.join().unwrap();
    other.join().unwrap();
    let mut seen = from_bursts.join().unwrap();
    seen.extend(from_packets.join().unwrap());
    seen.sort_unstable();
    assert_eq!(seen, (0..ROUNDS).collect::<Vec<_>>());
    port.stop().unwrap();
    assert_eq!(pool.in_use(), 0);

    // A job nobody waits for frees what it had, on its lcore.
    let held = pool.copy_from_slice(&frame(1, 60)).unwrap();
    drop(eal.launch(workers[0], move || held).unwrap());
    while pool.in_use() > 0 {
        thread::yield_now();
    }
    drop(pool);
    let last = loop {
        match eal.launch(workers[0], || ()) {
            Ok(job) => break job,
            Err(_) => thread::yield_now(),
        }
    };
    last.join().unwrap();
    eal.stop().unwrap();
}

/// Which packet it is, whole.
fn number(packet: &Mbuf) -> usize {
    let bytes = bytes(packet);
    let number = u32::from_be_bytes(bytes[14..18].try_into().unwrap()) as usize;
    assert_eq!(bytes, frame(number, 60 + number % 3000));
    number
}
