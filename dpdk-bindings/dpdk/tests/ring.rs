//! Frames through net_ring, a device that receives what it sends, and a port
//! through all its states.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use dpdk::{Burst, PortConfig, PortStopError};
use support::{attach, bytes, eal, frame, pool, start};

#[test]
fn frames_go_round_a_ring() {
    let eal = eal("ring", 1);
    let pool = pool(&eal, "ring");
    let idle = pool.available();
    let (port, mut rx, mut tx) = start(attach(&eal, "net_ring0"), &pool);

    // One thread.
    let mut burst = Burst::new();
    assert_eq!(rx.receive(&mut burst), 0);
    for number in 0..Burst::CAPACITY {
        burst.push(pool.copy_from_slice(&frame(number, 60 + number)).unwrap()).unwrap();
    }
    assert_eq!(tx.send(&mut burst), Burst::CAPACITY);
    assert!(burst.is_empty());
    assert_eq!(rx.receive(&mut burst), Burst::CAPACITY);
    for (number, packet) in burst.iter().enumerate() {
        assert_eq!(packet.data(), frame(number, 60 + number));
    }
    burst.clear();
    assert_eq!(pool.available(), idle);

    // A frame in several segments stays one.
    let long = frame(7, 7000);
    burst.push(pool.copy_from_slice(&long).unwrap()).unwrap();
    assert_eq!(burst.get(0).unwrap().segment_count(), 4);
    tx.send(&mut burst);
    rx.receive(&mut burst);
    let packet = burst.take(0).unwrap();
    assert_eq!(packet.len(), 7000);
    assert_eq!(bytes(&packet), long);
    drop(packet);

    // Holes are closed on the way out.
    for number in 0..6 {
        burst.push(pool.copy_from_slice(&frame(number, 60)).unwrap()).unwrap();
    }
    drop(burst.take(0));
    drop(burst.take(3));
    assert_eq!((burst.len(), burst.slots()), (4, 6));
    assert_eq!(tx.send(&mut burst), 4);
    rx.receive(&mut burst);
    let numbers: Vec<u8> = burst.iter().map(|packet| packet.data()[17]).collect();
    assert_eq!(numbers, [1, 2, 4, 5]);
    burst.clear();

    // What the ring (1024 places) does not take stays, in order.
    let mut sent = 0;
    let left = loop {
        while let Ok(packet) = pool.copy_from_slice(&frame(sent + burst.len(), 60)) {
            if burst.push(packet).is_err() {
                break;
            }
        }
        match tx.send(&mut burst) {
            0 => break burst.len(),
            count => sent += count,
        }
        assert!(sent < 4096);
    };
    if left > 0 {
        assert_eq!(burst.get(0).unwrap().data(), frame(sent, 60));
    }
    burst.clear();
    while rx.receive(&mut burst) > 0 {
        burst.clear();
    }
    assert_eq!(pool.available(), idle);

    // The queues go to a worker, which forwards and gives them back.
    let worker = eal.worker_lcores()[0];
    let own = pool.clone();
    let job = eal
        .launch(worker, move || {
            let mut burst = Burst::new();
            own.alloc_burst(&mut burst, 8).unwrap();
            for (number, packet) in burst.iter_mut().enumerate() {
                packet.append(60).unwrap().copy_from_slice(&frame(number, 60));
            }
            for _ in 0..1000 {
                assert_eq!(tx.send(&mut burst), 8);
                assert_eq!(rx.receive(&mut burst), 8);
                for packet in burst.iter_mut() {
                    packet.data_mut().unwrap()[6] ^= 0x40;
                }
            }
            assert!(burst.iter().enumerate().all(|(number, packet)| packet.data() == frame(number, 60)));
            (rx, tx)
        })
        .unwrap();

    // Meanwhile the port does not stop.
    let port = match port.stop().unwrap_err() {
        PortStopError::QueuesInUse { port, queues } => {
            assert_eq!(queues, 2);
            port
        }
        other => panic!("{other}"),
    };
    let (rx, tx) = job.join().unwrap();
    assert_eq!((rx.index(), tx.index(), rx.port()), (0, 0, port.id()));
    drop(rx);
    let error = port.stop().unwrap_err();
    assert_eq!(error.to_string(), "port net_ring0: 1 queue(s) are still in use");
    let PortStopError::QueuesInUse { port, .. } = error else { panic!("{error}") };
    drop(tx);

    // Stopped, configured anew, started again.
    let port = port.stop().unwrap();
    assert_eq!(port.name(), "net_ring0");
    let port = port.configure(&PortConfig::new(1, &pool)).unwrap();
    let (port, mut rx, mut tx) = support::start_configured(port);
    burst.push(pool.copy_from_slice(&frame(1, 60)).unwrap()).unwrap();
    assert_eq!((tx.send(&mut burst), rx.receive(&mut burst)), (1, 1));
    burst.clear();
    let stats = port.stats().unwrap();
    assert!(stats.rx_packets >= 1 && stats.tx_packets >= 1, "{stats:?}");

    // A port that is dropped first closes with its last queue, wherever that
    // is; then its device is gone and can come again.
    drop((port, tx));
    let error = eal.attach("net_ring0").unwrap_err();
    assert_eq!(error.to_string(), "device net_ring0 is in use: it was attached before");
    let job = eal.launch(worker, move || drop(rx)).unwrap();
    job.join().unwrap();
    let port = attach(&eal, "net_ring0");

    drop((port, pool));
    eal.stop().unwrap();
}
