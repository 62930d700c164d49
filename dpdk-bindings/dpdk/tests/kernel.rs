//! Devices that stand on the kernel's: net_af_packet on a veth pair, net_tap
//! with a kernel that answers. In a network namespace made for it, by root.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::env;
use std::net::UdpSocket;
use std::process::Command;

use dpdk::{Burst, Eal, IpVersion, L4Protocol, Mbuf, Pool, PoolConfig, PortConfig, TxOffload, TxOffloads};
use support::{attach, bytes, eal, frame, pool, receive_until, start, start_configured};

const INSIDE: &str = "DPDK_TEST_NAMESPACE";

#[test]
fn frames_cross_the_kernel() {
    if env::var_os(INSIDE).is_none() {
        enter();
        return;
    }
    let eal = eal("kernel", 0);
    let pool = pool(&eal, "packets");
    packet_sockets(&eal, &pool);
    tap(&eal, &pool);
    assert_eq!(pool.in_use(), 0);
    drop(pool);
    eal.stop().unwrap();
}

/// Runs this test again, in a network namespace that goes with it.
fn enter() {
    let program = env::current_exe().unwrap();
    let mut command = Command::new("unshare");
    command
        .arg("--net")
        .arg(program)
        .args(["--exact", "frames_cross_the_kernel", "--nocapture"])
        .env(INSIDE, "1");
    if !support::is_root() {
        eprintln!("skipped: only root makes network namespaces");
        return;
    }
    assert!(command.status().unwrap().success());
}

fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split_whitespace()).status().unwrap();
    assert!(status.success(), "ip {arguments}");
}

fn packet_sockets(eal: &Eal, pool: &Pool) {
    ip("link add left type veth peer name right");
    ip("link set left up");
    ip("link set right up");
    let left = attach(eal, "net_af_packet0,iface=left");
    let right = attach(eal, "net_af_packet1,iface=right");
    assert_eq!(left.info().unwrap().interface_index, Some(index("left")));
    assert_eq!((left.mac().unwrap(), right.mac().unwrap()), (address("left"), address("right")));

    let config = PortConfig { tx_offloads: TxOffloads::MULTI_SEGMENT, ..PortConfig::new(1, pool) };
    let (left, mut left_rx, mut left_tx) = start_configured(left.configure(&config).unwrap());
    let (right, mut right_rx, right_tx) = start(right, pool);
    left.set_promiscuous(true).unwrap();
    assert!(left.promiscuous() && !right.promiscuous());

    // One of the frames comes in four segments, and goes as one.
    let small =
        Pool::new(eal, "small", &PoolConfig { mbufs: 63, cache: 0, data_room: 400, socket: None }).unwrap();
    let frames = [frame(0, 60), frame(1, 1514), frame(2, 1500), frame(3, 61)];
    let mut burst = Burst::new();
    for (number, frame) in frames.iter().enumerate() {
        let pool = if number == 2 { &small } else { pool };
        burst.push(pool.copy_from_slice(frame).unwrap()).unwrap();
    }
    assert_eq!(burst.get(2).unwrap().segment_count(), 4);
    assert_eq!(left_tx.send(&mut burst), 4);
    assert_eq!(small.in_use(), 0);
    // The kernel has packets of its own on the link.
    let ours = |frame: &&Vec<u8>| frame[12..14] == [0x88, 0xb5];
    let received =
        receive_until(&mut right_rx, |received| received.iter().filter(ours).count() == frames.len());
    assert_eq!(received.iter().filter(ours).collect::<Vec<_>>(), frames.iter().collect::<Vec<_>>());
    left_rx.receive(&mut burst);
    assert!(!burst.drain().any(|packet| ours(&&bytes(&packet))), "none came back");

    let stats = left.stats().unwrap();
    assert!(stats.tx_packets >= 4 && stats.tx_bytes >= 60 + 1514 + 1500 + 61, "{stats:?}");
    drop((left, left_rx, left_tx, right, right_rx, right_tx));
    ip("link del left");
    let error = eal.attach("net_af_packet0,iface=left").unwrap_err().to_string();
    assert!(error.contains("`ip link show left`"), "{error}");
}

fn tap(eal: &Eal, pool: &Pool) {
    let port = attach(eal, "net_tap0,iface=twin,mac=02:00:00:00:00:aa");
    assert_eq!(port.driver(), "net_tap");
    assert_eq!(port.info().unwrap().interface_index, Some(index("twin")));
    let offloads = TxOffloads::IPV4_CHECKSUM | TxOffloads::UDP_CHECKSUM;
    // It fills its receive queue with mbufs at once.
    let config = PortConfig { tx_offloads: offloads, rx_descriptors: 128, ..PortConfig::new(1, pool) };
    let port = port.configure(&config).unwrap();
    assert_eq!(port.descriptors(), (128, 1024));
    let (port, mut rx, mut tx) = start_configured(port);
    assert_eq!(port.mac().unwrap(), [2, 0, 0, 0, 0, 0xaa]);
    assert_eq!(address("twin"), [2, 0, 0, 0, 0, 0xaa]);
    port.set_mtu(1400).unwrap();
    assert_eq!(port.mtu().unwrap(), 1400);
    assert!(link("twin").contains(" mtu 1400 "));
    ip("address add 10.9.0.1/24 dev twin");
    ip("link set twin up");

    // The kernel answers who has 10.9.0.1.
    let mut burst = Burst::new();
    let mut request = vec![0xff; 6];
    request.extend([2, 0, 0, 0, 0, 0xbb, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
    request.extend([2, 0, 0, 0, 0, 0xbb, 10, 9, 0, 2, 0, 0, 0, 0, 0, 0, 10, 9, 0, 1]);
    burst.push(pool.copy_from_slice(&request).unwrap()).unwrap();
    assert_eq!(tx.send(&mut burst), 1);
    let reply: &[u8] = &[8, 6, 0, 1, 8, 0, 6, 4, 0, 2, 2, 0, 0, 0, 0, 0xaa, 10, 9, 0, 1];
    let is_reply = |frame: &Vec<u8>| frame.get(12..32) == Some(reply);
    let received = receive_until(&mut rx, |received| received.iter().any(is_reply));
    assert!(received.iter().any(is_reply), "{received:?}");

    // A datagram whose checksums the device computes reaches a socket.
    let socket = UdpSocket::bind("10.9.0.1:7").unwrap();
    socket.set_read_timeout(Some(std::time::Duration::from_secs(2))).unwrap();
    burst.push(datagram(pool, b"to the kernel")).unwrap();
    assert_eq!(tx.send(&mut burst), 1);
    let mut buffer = [0; 100];
    let (len, from) = socket.recv_from(&mut buffer).unwrap();
    assert_eq!((&buffer[..len], from.to_string().as_str()), (&b"to the kernel"[..], "10.9.0.2:9"));
    // And the answer comes out, addressed to the sender.
    socket.send_to(b"back", from).unwrap();
    let is_answer = |frame: &Vec<u8>| frame.get(42..46) == Some(b"back");
    let received = receive_until(&mut rx, |received| received.iter().any(is_answer));
    assert!(received.iter().any(is_answer), "{received:?}");

    // With its last queue the interface goes.
    drop((port, rx));
    assert!(exists("twin"));
    drop(tx);
    assert!(!exists("twin"));
}

/// UDP from 10.9.0.2:9 to 10.9.0.1:7, its checksums for the device to compute.
fn datagram(pool: &Pool, payload: &[u8]) -> Mbuf {
    let len = payload.len() as u8 + 8;
    let mut frame = vec![2, 0, 0, 0, 0, 0xaa, 2, 0, 0, 0, 0, 0xbb, 8, 0];
    frame.extend([0x45, 0, 0, len + 20, 0, 0, 0, 0, 64, 17, 0, 0, 10, 9, 0, 2, 10, 9, 0, 1]);
    // The sum of the pseudo header stands in the checksum field.
    let pseudo = [0x0a09, 2, 0x0a09, 1, 17, u32::from(len)].iter().sum::<u32>() as u16;
    frame.extend([0, 9, 0, 7, 0, len]);
    frame.extend(pseudo.to_be_bytes());
    frame.extend(payload);
    let mut packet = pool.copy_from_slice(&frame).unwrap();
    packet
        .set_tx_offload(TxOffload {
            version: IpVersion::V4,
            l2_len: 14,
            l3_len: 20,
            ipv4_checksum: true,
            l4_checksum: Some(L4Protocol::Udp),
        })
        .unwrap();
    assert_eq!(bytes(&packet), frame);
    packet
}

/// What `ip` says of an interface.
fn link(name: &str) -> String {
    let output = Command::new("ip").args(["-o", "link", "show", name]).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

fn exists(name: &str) -> bool {
    !link(name).is_empty()
}

fn index(name: &str) -> u32 {
    link(name).split(':').next().unwrap().parse().unwrap()
}

fn address(name: &str) -> [u8; 6] {
    let link = link(name);
    let text = link.split_once("link/ether ").unwrap().1.split(' ').next().unwrap();
    let bytes: Vec<u8> = text.split(':').map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect();
    bytes.try_into().unwrap()
}
