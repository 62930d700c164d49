//! The library in a process called ipvsadm.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "so tests fail")]

mod tool;

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::Ordering::Relaxed;

use tool::*;

#[test]
fn ipvsadm_is_given_one_socket() {
    succeeds_as("ipvsadm", "child_is_ipvsadm");
    assert!(NOTHING_WAS_ASKED_FOR.load(Relaxed), "it waits at its end until all is in force");
}

#[test]
#[ignore = "needs the library; the tests above run it"]
fn child_is_ipvsadm() {
    let identity = |fd: &OwnedFd| {
        let number = fd.as_raw_fd();
        (number, std::fs::read_link(format!("/proc/self/fd/{number}")).unwrap())
    };
    let mut known = None;
    for sequence in 0..3 {
        let fd = netlink_socket();
        assert_eq!(*known.get_or_insert_with(|| identity(&fd)), identity(&fd), "each time the same");
        let port = address_of(&fd).unwrap().nl_pid;
        send(&fd, &acknowledged(get_family("IPVS"), sequence)).unwrap();
        // Peeking tells the whole length, and takes nothing away.
        let mut start = [0; 4];
        let peeked = receive_into(&fd, &mut start, libc::MSG_PEEK | libc::MSG_TRUNC).unwrap().0;
        let (family, from) = receive(&fd, 0).unwrap();
        assert_eq!((peeked, &start[..]), (family.len(), &family[..4]));
        assert_eq!(family, with_port(&acknowledged(get_family("IPVS"), sequence), port));
        assert_eq!((from.nl_family, from.nl_pid), (libc::AF_NETLINK as u16, 0));
        receive(&fd, 0).unwrap();
        // But for the first, a command need not be in force when it is answered. An answer that is not read does not
        // come to the next socket.
        send(&fd, &command(sequence)).unwrap();
        let (echo, _) = receive(&fd, 0).unwrap();
        let mut expected = with_port(&command(sequence), port);
        expected[7] |= if sequence > 0 { 0x80 } else { 0 };
        assert_eq!(echo, expected);
    }

    // A second one at the same time is as in any other program.
    let fd = netlink_socket();
    let other = netlink_socket();
    assert_eq!(known.clone().unwrap(), identity(&fd));
    assert_ne!(fd.as_raw_fd(), other.as_raw_fd());
    exchange_acknowledged(&other, &acknowledged(get_family("IPVS"), 5));
    drop((fd, other));

    // One that lists has a connection; one that asks for another family is the kernel's. Neither is kept.
    for family in ["IPVS", "nlctrl"] {
        let fd = netlink_socket();
        if family == "IPVS" {
            let mut listing = get_family(family);
            listing[7] = 3;
            exchange(&fd, &listing);
        } else {
            send(&fd, &get_family(family)).unwrap();
            assert_eq!(receive(&fd, 0).unwrap().0[4], 16);
        }
        let own = identity(&fd);
        drop(fd);
        assert_ne!(own.1, identity(&netlink_socket()).1);
    }

    // Where something else has the number by now, it keeps it.
    let number = netlink_socket().as_raw_fd();
    let null = File::open("/dev/null").unwrap();
    // SAFETY: no pointers; nobody else uses the number.
    assert_eq!(unsafe { libc::dup2(null.as_raw_fd(), number) }, number);
    let fd = netlink_socket();
    assert_ne!(fd.as_raw_fd(), number);
    send(&fd, &acknowledged(get_family("IPVS"), 8)).unwrap();
    assert_eq!(receive(&fd, 0).unwrap().0[4], 16);
    assert_eq!(receive(&fd, 0).unwrap().0[4], 2);
}
