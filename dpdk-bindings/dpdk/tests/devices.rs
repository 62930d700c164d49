//! Devices: what they tell of themselves, what they refuse and why, and frames
//! through files.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::fs;
use std::path::PathBuf;

use dpdk::{
    AttachError, Burst, ConfigureError, Eal, Pool, PortConfig, RssConfig, RssTypes, RxOffloads, TxOffloads,
};
use support::{attach, eal, frame, pool, receive_until, start};

#[test]
fn devices_come_tell_and_go() {
    let eal = eal("devices", 0);
    let pool = pool(&eal, "packets");
    let directory = Directory(std::env::temp_dir().join(support::prefix("devices")));
    fs::create_dir_all(&directory.0).unwrap();

    null(&eal, &pool);
    redirection(&eal, &pool);
    files(&eal, &pool, &directory);
    refused_devices(&eal);
    refused_configurations(&eal, &pool);

    drop(pool);
    eal.stop().unwrap();
}

struct Directory(PathBuf);

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn null(eal: &Eal, pool: &Pool) {
    let port = attach(eal, "net_null0,size=100");
    let info = port.info().unwrap();
    assert_eq!((info.name.as_str(), info.driver.as_str()), ("net_null0", "net_null"));
    assert_eq!((port.name(), port.driver()), ("net_null0", "net_null"));
    assert!(info.max_rx_queues >= 2 && info.max_mtu >= 1500);
    assert!(!port.link().unwrap().up, "not started");
    assert_eq!(port.descriptors(), (0, 0));

    // As many queues as asked, each of its own.
    let config = PortConfig { tx_queues: 3, ..PortConfig::new(2, pool) };
    let port = port.configure(&config).unwrap();
    assert_eq!(port.descriptors(), (1024, 1024));
    assert_eq!(port.rx_pools().first(), Some(pool));
    port.set_mac([2, 0, 0, 0, 0, 9]).unwrap();
    assert_eq!(port.mac().unwrap(), [2, 0, 0, 0, 0, 9]);
    let (port, mut rx, mut tx) = port.start().unwrap();
    assert_eq!(rx.iter().map(|queue| queue.index()).collect::<Vec<_>>(), [0, 1]);
    assert_eq!(tx.iter().map(|queue| queue.index()).collect::<Vec<_>>(), [0, 1, 2]);
    assert!(port.link().unwrap().up);

    let mut burst = Burst::new();
    assert_eq!(rx[1].receive(&mut burst), Burst::CAPACITY);
    assert!(burst.iter().all(|packet| packet.len() == 100));
    assert_eq!(rx[1].receive(&mut burst), 0, "the burst is full");
    burst.take(5);
    assert_eq!(tx[2].send(&mut burst), Burst::CAPACITY - 1);
    assert!(burst.is_empty());

    let stats = port.stats().unwrap();
    assert_eq!((stats.rx_packets, stats.tx_packets), (32, 31));
    let xstats = port.xstats().unwrap();
    assert!(xstats.contains(&("rx_good_packets".to_owned(), 32)), "{xstats:?}");
    port.reset_stats().unwrap();
    assert_eq!(port.stats().unwrap().rx_packets, 0);
    assert_eq!(pool.in_use(), 0);
}

/// net_null has a redirection table in name.
fn redirection(eal: &Eal, pool: &Pool) {
    let port = attach(eal, "net_null1");
    let info = port.info().unwrap();
    let rss = RssConfig { types: info.rss_types & (RssTypes::IPV4_TCP | RssTypes::IPV4_UDP), key: None };
    assert!(!rss.types.is_empty());
    let port = port.configure(&PortConfig { rss: Some(rss), ..PortConfig::new(2, pool) }).unwrap();
    port.set_reta(&[1, 0, 0]).unwrap();
    let table = port.reta().unwrap();
    assert_eq!(table.len(), usize::from(info.reta_size));
    assert_eq!(table[..7], [1, 0, 0, 1, 0, 0, 1]);
    assert!(port.set_reta(&[5]).is_err(), "there is no queue 5");
}

fn files(eal: &Eal, pool: &Pool, directory: &Directory) {
    let (input, output) = (directory.0.join("in.pcap"), directory.0.join("out.pcap"));
    let frames: Vec<Vec<u8>> =
        [60, 1514, 61, 4000].iter().enumerate().map(|(number, &len)| frame(number, len)).collect();
    fs::write(&input, pcap(&frames)).unwrap();

    let device = format!("net_pcap0,rx_pcap={},tx_pcap={}", input.display(), output.display());
    let (port, mut rx, mut tx) = start(attach(eal, &device), pool);
    let mut burst = Burst::new();
    while rx.receive(&mut burst) > 0 {}
    assert_eq!(burst.len(), 4);
    // The longest takes two segments, and goes out as one frame.
    assert_eq!(burst.get(3).unwrap().segment_count(), 2);
    for (packet, frame) in burst.iter().zip(&frames) {
        assert_eq!(&support::bytes(packet), frame);
    }
    assert_eq!(tx.send(&mut burst), 4);
    drop((port, rx, tx));
    assert_eq!(unpcap(&fs::read(&output).unwrap()), frames);

    // For ever from memory.
    let device = format!("net_pcap1,rx_pcap={},infinite_rx=1", input.display());
    fs::write(&input, pcap(&frames[..3])).unwrap();
    let (port, mut rx, tx) = start(attach(eal, &device), pool);
    let received = receive_until(&mut rx, |received| received.len() >= 300);
    assert!(received.len() >= 300);
    assert!(received.iter().zip(frames[..3].iter().cycle()).all(|(got, sent)| got == sent));
    drop((port, rx, tx));
    assert_eq!(pool.in_use(), 0);
}

/// libpcap's file format, of Ethernet frames.
fn pcap(frames: &[Vec<u8>]) -> Vec<u8> {
    let mut file = Vec::new();
    for word in [0xa1b2_c3d4_u32, 2 | 4 << 16, 0, 0, 65535, 1] {
        file.extend(word.to_ne_bytes());
    }
    for frame in frames {
        for word in [0, 0, frame.len() as u32, frame.len() as u32] {
            file.extend(word.to_ne_bytes());
        }
        file.extend(frame);
    }
    file
}

fn unpcap(file: &[u8]) -> Vec<Vec<u8>> {
    let (mut rest, mut frames) = (&file[24..], Vec::new());
    while !rest.is_empty() {
        let len = u32::from_ne_bytes(rest[8..12].try_into().unwrap()) as usize;
        frames.push(rest[16..16 + len].to_vec());
        rest = &rest[16 + len..];
    }
    frames
}

fn refused_devices(eal: &Eal) {
    for (device, reason, remedy) in [
        ("net_af_packet0,iface=nowhere0", "No such device", "`ip link show nowhere0`"),
        ("net_pcap0,rx_pcap=/nowhere/x.pcap", "Couldn't open /nowhere/x.pcap", "does not exist"),
        ("net_nope0", "failed to parse device", "no driver takes a device named net_nope0"),
        ("eth0", "failed to parse device", "no driver takes a device named eth0"),
        ("net_null0,frobnicate=1", "Driver cannot attach", "look up the arguments of net_null0"),
        ("ffff:ff:1f.7", "", "dpdk-devbind.py"),
    ] {
        let error = eal.attach(device).unwrap_err().to_string();
        assert!(error.starts_with(&format!("device {device} cannot be attached: ")), "{error}");
        assert!(error.contains(reason), "{error}");
        // Who is not root has another remedy.
        assert!(error.contains(remedy) || !support::is_root(), "{error}");
    }
    for device in ["", " ", ",iface=lo", "net_null0\0"] {
        assert!(matches!(eal.attach(device), Err(AttachError::Name { .. })), "{device:?}");
    }

    let port = attach(eal, "net_null0");
    let error = eal.attach("net_null0,size=9").unwrap_err();
    assert_eq!(error.to_string(), "device net_null0,size=9 is in use: it was attached before");
    drop(port);
    drop(attach(eal, "net_null0"));
}

fn refused_configurations(eal: &Eal, pool: &Pool) {
    let fine = PortConfig::new(1, pool);
    let two_pools = vec![pool.clone(), pool.clone()];
    let rss = |types, key| Some(RssConfig { types, key });
    for (device, config, expected) in [
        (
            "net_ring0",
            PortConfig { rx_queues: 17, ..fine.clone() },
            "port net_ring0 (net_ring): 17 receive queues asked, but it has 1 to 16",
        ),
        (
            "net_ring0",
            PortConfig { tx_queues: 0, ..fine.clone() },
            "port net_ring0 (net_ring): 0 transmit queues asked, but it has 1 to 16",
        ),
        (
            "net_null0",
            PortConfig { mtu: Some(40), ..fine.clone() },
            "port net_null0 (net_null): an MTU of 40 asked, but it takes 46 to 65535",
        ),
        (
            "net_ring0",
            PortConfig { rx_offloads: RxOffloads::IPV4_CHECKSUM | RxOffloads::SCATTER, ..fine.clone() },
            "port net_ring0 (net_ring): receive offload ipv4-checksum asked, but it has scatter",
        ),
        (
            "net_ring0",
            PortConfig { tx_offloads: TxOffloads::TCP_CHECKSUM, ..fine.clone() },
            "port net_ring0 (net_ring): transmit offload tcp-checksum asked, but it has multi-segment",
        ),
        (
            "net_ring0",
            PortConfig { rss: rss(RssTypes::IPV4_TCP | RssTypes::L4_SRC_ONLY, None), ..fine.clone() },
            "port net_ring0 (net_ring): RSS on ipv4-tcp l4-src-only asked, but it can hash none",
        ),
        (
            "net_null0",
            PortConfig { rss: rss(RssTypes::IPV4, Some(vec![])), ..fine.clone() },
            "port net_null0 (net_null): an RSS key of 0 bytes given, but it takes 1 to 255",
        ),
        (
            "net_ring0",
            PortConfig { rx_pools: two_pools, ..fine.clone() },
            "port net_ring0: 2 pools for 1 receive queues: one for all, or one each",
        ),
        (
            "net_ring0",
            PortConfig { rx_pools: vec![], ..fine.clone() },
            "port net_ring0: 0 pools for 1 receive queues: one for all, or one each",
        ),
    ] {
        let error: ConfigureError = attach(eal, device).configure(&config).unwrap_err();
        assert_eq!(error.to_string(), expected);
    }
    // Refused, the port was closed: it can come again.
    drop(start(attach(eal, "net_ring0"), pool));
}
