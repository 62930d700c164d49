//! An mbuf may outlive the handles of its pool, and EAL with it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use support::{bytes, eal, frame, pool};

#[test]
fn an_mbuf_outlives_its_pool() {
    let eal = eal("held-mbuf", 0);
    let pool = pool(&eal, "packets");
    let packet = pool.copy_from_slice(&frame(1, 3000)).unwrap();
    drop(pool);
    let error = eal.stop().unwrap_err();
    assert_eq!(error.held, ["2 mbuf(s) of pool packets are held"]);
    // On another thread, too.
    std::thread::spawn(move || assert_eq!(bytes(&packet), frame(1, 3000))).join().unwrap();
}
