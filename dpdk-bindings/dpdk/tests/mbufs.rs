//! Packets in one segment and in several: every way to read and change them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use dpdk::{
    Burst, Checksum, EditError, Exhausted, HEADROOM, IpVersion, L4Protocol, Mbuf, OutOfRange, Pool,
    PoolConfig, PoolError, TxOffload,
};
use support::{bytes, eal, pool};

const ROOM: usize = 2048;

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|index| (index * 7 + index / 256) as u8).collect()
}

#[test]
fn packets_pools_and_bursts() {
    let eal = eal("mbufs", 0);
    let pool = pool(&eal, "packets");
    let idle = pool.available();
    assert_eq!((idle, pool.capacity(), pool.in_use()), (1023, 1023, 0));

    grow_and_shrink(&pool);
    segments(&pool);
    linearize(&pool);
    offloads(&pool);
    bursts(&pool);
    exhaustion(&pool);
    assert_eq!(pool.available(), idle, "every mbuf went back");
    refused_pools(&eal, &pool);

    drop(pool);
    eal.stop().unwrap();
}

fn grow_and_shrink(pool: &Pool) {
    let mut packet = pool.alloc().unwrap();
    assert!(packet.is_empty() && packet.is_contiguous() && packet.data().is_empty());
    assert_eq!((packet.headroom(), packet.tailroom()), (usize::from(HEADROOM), ROOM));
    assert_eq!(packet.port(), u16::MAX);

    packet.append(100).unwrap().copy_from_slice(&pattern(100));
    packet.prepend(14).unwrap().fill(0xee);
    assert_eq!((packet.len(), packet.data().len()), (114, 114));
    assert_eq!(packet.data()[13..15], [0xee, 0]);
    packet.adj(14).unwrap();
    packet.trim(40).unwrap();
    assert_eq!(packet.data(), &pattern(100)[..60]);
    packet.data_mut().unwrap()[0] = 0xff;
    assert_eq!(packet.data()[0], 0xff);

    // What does not fit is refused, and nothing changes.
    let room = packet.tailroom();
    assert_eq!(packet.append(room + 1).unwrap_err(), EditError::NoRoom { wanted: room + 1, room });
    assert_eq!(packet.append(usize::MAX).unwrap_err(), EditError::NoRoom { wanted: usize::MAX, room });
    let room = packet.headroom();
    assert_eq!(packet.prepend(room + 1).unwrap_err(), EditError::NoRoom { wanted: room + 1, room });
    assert_eq!(packet.prepend(1 << 16).unwrap_err(), EditError::NoRoom { wanted: 1 << 16, room });
    let shorter = |wanted| EditError::OutOfRange(OutOfRange { offset: 0, wanted, len: 60 });
    assert_eq!(packet.adj(61).unwrap_err(), shorter(61));
    assert_eq!(packet.adj(1 << 16).unwrap_err(), shorter(1 << 16));
    assert_eq!(packet.trim(61).unwrap_err(), shorter(61));
    assert_eq!(packet.len(), 60);

    // To the last byte, both ways.
    packet.append(packet.tailroom()).unwrap();
    packet.prepend(packet.headroom()).unwrap();
    assert_eq!((packet.len(), packet.headroom(), packet.tailroom()), (ROOM + usize::from(HEADROOM), 0, 0));
    packet.adj(packet.len()).unwrap();
    assert!(packet.is_empty());
}

fn segments(pool: &Pool) {
    let whole = pattern(5000);
    let mut packet = pool.copy_from_slice(&whole).unwrap();
    assert_eq!((packet.len(), packet.segment_count(), packet.is_contiguous()), (5000, 3, false));
    assert_eq!(packet.data().len(), ROOM);
    assert_eq!(packet.segments().map(<[u8]>::len).collect::<Vec<_>>(), [ROOM, ROOM, 904]);
    assert_eq!(bytes(&packet), whole);

    // Reads over every border.
    for (offset, len) in [(0, 5000), (2047, 2), (2048, 2048), (2000, 2200), (4999, 1), (5000, 0), (0, 0)] {
        let mut read = vec![0; len];
        packet.read(offset, &mut read).unwrap();
        assert_eq!(read, &whole[offset..offset + len], "{offset} {len}");
    }
    let mut byte = [7];
    let error = packet.read(5000, &mut byte).unwrap_err();
    assert_eq!(error.to_string(), "bytes 5000..5001 of a packet of 5000");
    assert!(packet.read(usize::MAX, &mut byte).is_err());
    assert_eq!(byte, [7]);

    // Writes over every border.
    let mut changed = whole.clone();
    for (offset, len) in [(2046, 4), (2040, 2100), (4990, 10)] {
        let new: Vec<u8> = (0..len).map(|index| index as u8 ^ 0xa5).collect();
        changed[offset..offset + len].copy_from_slice(&new);
        packet.write(offset, &new).unwrap();
        assert_eq!(bytes(&packet), changed);
    }
    assert!(matches!(packet.write(4999, &[0; 2]), Err(EditError::OutOfRange(_))));

    // The end may lie anywhere.
    packet.append(100).unwrap().fill(0x11);
    assert_eq!(packet.len(), 5100);
    assert_eq!(packet.segments().last().unwrap()[904..], [0x11; 100]);
    packet.trim(100).unwrap();
    packet.trim(904).unwrap();
    assert_eq!((packet.len(), packet.segment_count()), (2 * ROOM, 2));
    packet.trim(ROOM + 1).unwrap();
    assert_eq!((packet.len(), packet.segment_count(), packet.data().len()), (ROOM - 1, 1, ROOM - 1));
    assert_eq!(pool.in_use(), 1, "the other segments went back");

    // Chains.
    let mut head = pool.copy_from_slice(b"head ").unwrap();
    head.chain(pool.copy_from_slice(&pattern(3000)).unwrap()).unwrap();
    head.chain(pool.copy_from_slice(b" tail").unwrap()).unwrap();
    assert_eq!((head.len(), head.segment_count()), (3010, 4));
    assert!(bytes(&head).starts_with(b"head \0") && bytes(&head).ends_with(b" tail"));
    assert!(head.adj(6).is_err(), "the first segment has 5");

    // A copy shares nothing.
    head.set_port(3);
    let mut copy = pool.copy(&head).unwrap();
    assert_eq!((bytes(&copy), copy.port()), (bytes(&head), 3));
    copy.write(0, b"HEAD").unwrap();
    assert!(bytes(&head).starts_with(b"head") && bytes(&copy).starts_with(b"HEAD"));
    assert!(!head.is_shared() && !copy.is_shared());
}

fn linearize(pool: &Pool) {
    let mut packet = pool.copy_from_slice(&pattern(1000)).unwrap();
    packet.linearize().unwrap();
    packet.chain(pool.copy_from_slice(&pattern(500)).unwrap()).unwrap();
    packet.chain(pool.alloc().unwrap()).unwrap();
    packet.chain(pool.copy_from_slice(&pattern(548)).unwrap()).unwrap();
    let whole = bytes(&packet);
    assert_eq!((packet.segment_count(), pool.in_use()), (4, 4));
    packet.linearize().unwrap();
    assert_eq!((packet.segment_count(), packet.data(), pool.in_use()), (1, &whole[..], 1));

    packet.chain(pool.copy_from_slice(b"x").unwrap()).unwrap();
    assert_eq!(packet.linearize().unwrap_err(), EditError::NoRoom { wanted: 1, room: 0 });
    assert_eq!((packet.len(), packet.segment_count()), (2049, 2));
}

fn offloads(pool: &Pool) {
    let mut packet = pool.copy_from_slice(&pattern(60)).unwrap();
    assert_eq!(packet.rss_hash(), None);
    assert_eq!(packet.stripped_vlan(), None);
    assert_eq!(packet.rx_checksums().l4, Checksum::Unknown);
    let offload = TxOffload {
        version: IpVersion::V4,
        l2_len: 14,
        l3_len: 20,
        ipv4_checksum: true,
        l4_checksum: Some(L4Protocol::Tcp),
    };
    packet.set_tx_offload(offload).unwrap();
    packet.insert_vlan(5);
    packet.clear_tx_offload();
    // Lengths that the packet, or the field, has not.
    for (l2_len, l3_len) in [(14, 27), (usize::MAX, 20), (128, 0), (14, 512), (14, usize::MAX)] {
        let error = packet.set_tx_offload(TxOffload { l2_len, l3_len, ..offload }).unwrap_err();
        assert!(matches!(error, EditError::Headers { segment: 60, .. }), "{error}");
    }
    packet.set_tx_offload(TxOffload { l3_len: 38, l4_checksum: Some(L4Protocol::Udp), ..offload }).unwrap();
    packet.set_tx_offload(TxOffload { l3_len: 46, l4_checksum: None, ..offload }).unwrap();
}

fn bursts(pool: &Pool) {
    let numbered = |number: u8| pool.copy_from_slice(&[number; 20]).unwrap();
    let numbers = |burst: &Burst| burst.iter().map(|packet| packet.data()[0]).collect::<Vec<_>>();

    let mut burst = Burst::new();
    assert!(burst.is_empty() && burst.get(0).is_none() && burst.take(0).is_none());
    for number in 0..32 {
        burst.push(numbered(number)).unwrap();
    }
    assert!(burst.is_full());
    let back: Mbuf = burst.push(numbered(32)).unwrap_err();
    assert_eq!(back.data()[0], 32);
    drop(back);

    // Holes keep the places of the others, until there is need of them.
    for index in (0..32).step_by(2) {
        assert_eq!(burst.take(index).unwrap().data()[0], index as u8);
    }
    assert_eq!((burst.len(), burst.slots(), burst.is_full()), (16, 32, false));
    assert!(burst.get(0).is_none() && burst.take(0).is_none());
    burst.get_mut(1).unwrap().data_mut().unwrap()[0] = 101;
    assert_eq!(burst.get(1).unwrap().data()[0], 101);
    assert!(burst.get(32).is_none() && burst.get_mut(32).is_none());
    burst.push(numbered(77)).unwrap();
    assert_eq!((burst.len(), burst.slots()), (17, 17));
    assert_eq!(numbers(&burst)[..2], [101, 3]);
    assert_eq!(numbers(&burst)[16], 77);

    // From one to another.
    let mut other = Burst::new();
    for number in 0..20 {
        other.push(numbered(200 + number)).unwrap();
    }
    drop(other.take(0));
    burst.append(&mut other);
    assert_eq!((burst.len(), other.len()), (32, 4));
    assert_eq!(numbers(&burst)[17..19], [201, 202]);
    assert_eq!(numbers(&other), [216, 217, 218, 219]);

    // Drained by half: the rest is freed.
    let before = pool.in_use();
    let first: Vec<u8> = burst.drain().take(3).map(|packet| packet.data()[0]).collect();
    assert_eq!(first, [101, 3, 5]);
    assert!(burst.is_empty());
    assert_eq!(pool.in_use(), before - 32);

    pool.alloc_burst(&mut burst, 30).unwrap();
    assert_eq!(pool.alloc_burst(&mut burst, 3), Err(Exhausted));
    pool.alloc_burst(&mut burst, 2).unwrap();
    assert!(burst.iter().all(Mbuf::is_empty));
    burst.iter_mut().for_each(|packet| packet.append(9).unwrap().fill(9));
    assert!(burst.iter().all(|packet| packet.data() == [9; 9]));
    burst.clear();
    assert_eq!((burst.len(), pool.in_use()), (0, 4));
    drop(other);
    assert_eq!(pool.in_use(), 0);
}

fn exhaustion(pool: &Pool) {
    let mut held: Vec<Mbuf> = Vec::new();
    while let Ok(packet) = pool.alloc() {
        held.push(packet);
        assert!(held.len() <= 1023);
    }
    // The cache of this lcore may keep a few from the pool, no more.
    assert_eq!(held.len(), 1023);
    assert_eq!((pool.available(), pool.alloc().unwrap_err()), (0, Exhausted));

    // A copy that runs out of segments leaves none behind.
    let long = pattern(5000);
    held.truncate(1021);
    assert_eq!(pool.copy_from_slice(&long).unwrap_err(), Exhausted);
    assert_eq!(pool.available(), 2);
    let mut burst = Burst::new();
    assert_eq!(pool.alloc_burst(&mut burst, 3), Err(Exhausted));
    assert!(burst.is_empty());
    held.truncate(1020);
    assert_eq!(bytes(&pool.copy_from_slice(&long).unwrap()), long);
}

fn refused_pools(eal: &dpdk::Eal, pool: &Pool) {
    let config = PoolConfig { mbufs: 63, cache: 0, ..PoolConfig::default() };
    let error = Pool::new(eal, "packets", &config).unwrap_err().to_string();
    assert!(error.contains("a pool named packets exists already"), "{error}");
    for name in ["", "a\0b", "a name of more than 25 bytes"] {
        assert!(matches!(Pool::new(eal, name, &config), Err(PoolError::Name { .. })), "{name}");
    }
    for (mbufs, cache) in [(63, 43), (8191, 513)] {
        let config = PoolConfig { mbufs, cache, ..config };
        assert!(matches!(Pool::new(eal, "cache", &config), Err(PoolError::Cache { .. })));
    }
    for data_room in [0, u16::MAX] {
        let config = PoolConfig { data_room, ..config };
        assert!(matches!(Pool::new(eal, "room", &config), Err(PoolError::DataRoom { .. })));
    }
    let huge = PoolConfig { mbufs: 1 << 20, ..config };
    let error = Pool::new(eal, "huge", &huge).unwrap_err().to_string();
    assert!(error.contains("the pool takes about 2432 MB") && error.contains("nr_hugepages"), "{error}");
    assert_eq!(pool, &pool.clone());
}
