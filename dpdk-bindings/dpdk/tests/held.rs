//! EAL does not stop under what still uses it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::sync::mpsc;

use support::{attach, bytes, eal, frame, pool, start};

#[test]
fn what_is_held_keeps_eal_running() {
    let eal = eal("held", 1);
    let pool = pool(&eal, "packets");
    let (port, rx, tx) = start(attach(&eal, "net_ring0"), &pool);
    let packet = pool.copy_from_slice(&frame(1, 3000)).unwrap();
    let (release, wait) = mpsc::channel::<()>();
    let job = eal.launch(eal.worker_lcores()[0], move || wait.recv().is_err()).unwrap();

    let error = eal.stop().unwrap_err();
    assert_eq!(
        error.to_string(),
        "EAL was left running: lcore 1 still runs a job, 1 port(s) are open, or queues of them, 2 handle(s) of pools are held"
    );

    // All of it still works, and goes as it should.
    assert_eq!(bytes(&packet), frame(1, 3000));
    drop(packet);
    assert_eq!(pool.in_use(), 0);
    drop(release);
    assert!(job.join().unwrap());
    drop((rx, tx));
    port.stop().unwrap();
}
