//! DPDK's hash table.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use dpdk::{Eal, HashError, HashTable};

fn key(number: u64) -> [u8; 16] {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&number.to_le_bytes());
    key
}

#[test]
fn keys_come_and_go() {
    let eal = Eal::start(["--no-huge", "-m", "128", "--no-pci", "-l", "0", "--no-telemetry"]).unwrap();
    assert!(matches!(HashTable::new(&eal, "", 100, 1), Err(HashError::Name { .. })));
    let (mut table, mut readers) = HashTable::new(&eal, "hash", 4096, 2).unwrap();
    for number in 0..1000 {
        table.insert(&key(number), number + 1).unwrap();
    }
    assert!(table.remove(&key(3)) && !table.remove(&key(3)));
    let keys = std::array::from_fn::<_, 32, _>(|at| key(at as u64));
    let mut values = [0; 32];
    readers[1].quiescent();
    assert_eq!(readers[1].lookup(&keys, &mut values), !(1 << 3) & 0xffff_ffff);
    assert_eq!((values[0], values[2], values[31]), (1, 3, 32));

    // Places are used again only after the reader that is online has reported.
    let mut full = None;
    for number in 1000.. {
        readers[1].quiescent();
        if let Err(error) = table.insert(&key(number), 0) {
            full = Some((number, error));
            break;
        }
        assert!(number < 20_000);
        if number >= 3000 {
            assert!(table.remove(&key(number - 2000)));
        }
        if number == 15_000 {
            break;
        }
    }
    assert!(full.is_none(), "{full:?}");
    drop((table, readers));
    eal.stop().unwrap();
}
