//! DPDK's `rte_hash`, lock-free for readers, with bulk lookups; its number is a record's place in an array.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result};
use dpdk::{Handle, HashReader, HashTable, KEY_BYTES};

use super::{BURST, Contender, NOW, Reader, SERVICE, Writer, end};

/// A connection's record: client end, virtual service, last seen.
#[repr(align(64))]
#[derive(Default)]
struct Record([AtomicU64; 3]);

/// A table with room for so many connections, of which the first `entries` stay.
///
/// # Errors
/// There is no memory.
pub fn rte_hash(eal: &Handle, name: &str, entries: u32, room: u32) -> Result<Contender> {
    let (table, mut readers) = HashTable::new(eal, name, room, 1)?;
    let reader = readers.pop().context("no reader")?;
    let records: Arc<[Record]> = std::iter::repeat_with(Record::default).take(room as usize).collect();
    Ok(Contender {
        name: "rte_hash",
        reader: Box::new(RteReader { reader, records: records.clone() }),
        writer: Box::new(RteWriter { table, records, entries: entries.into() }),
    })
}

/// Client end and virtual service: what DPDK's examples call a 5-tuple, in 16 bytes.
#[inline]
fn key(end: u64) -> [u8; KEY_BYTES] {
    let mut key = [0; KEY_BYTES];
    key[..8].copy_from_slice(&end.to_ne_bytes());
    key[8..].copy_from_slice(&SERVICE.to_ne_bytes());
    key
}

struct RteReader {
    reader: HashReader,
    records: Arc<[Record]>,
}

impl Reader for RteReader {
    #[inline]
    fn lookup(&mut self, ends: &[u64; BURST]) -> usize {
        self.reader.quiescent();
        let keys = ends.map(key);
        let mut places = [0; BURST];
        let hits = self.reader.lookup(&keys, &mut places);
        // The key was compared within; of the record only the clock is to be looked at. The records come
        // from memory side by side, since none of these loads waits for another.
        let mut found = 0;
        for (at, place) in places.iter().enumerate() {
            if hits & 1 << at != 0 {
                let Record([_, _, seen]) = &self.records[*place as usize];
                found += usize::from(seen.load(Ordering::Relaxed) == NOW);
            }
        }
        found
    }

    fn rest(&mut self) {
        self.reader.offline();
    }
}

struct RteWriter {
    table: HashTable,
    records: Arc<[Record]>,
    entries: u64,
}

impl RteWriter {
    /// The place of a connection's record. Those that come and go take turns in what lies behind the others,
    /// which is several times as many as there are of them at once.
    fn place(&self, number: u64) -> u64 {
        match number.checked_sub(self.entries) {
            Some(late) => self.entries + late % (self.records.len() as u64 - self.entries),
            None => number,
        }
    }
}

impl Writer for RteWriter {
    fn insert(&mut self, numbers: Range<u64>) -> Result<()> {
        for number in numbers {
            let (place, client) = (self.place(number), end(number));
            // Relaxed: the table publishes the place by a release of its own.
            for (word, value) in self.records[place as usize].0.iter().zip([client, SERVICE, NOW]) {
                word.store(value, Ordering::Relaxed);
            }
            self.table.insert(&key(client), place)?;
        }
        Ok(())
    }

    fn remove(&mut self, numbers: Range<u64>) -> Result<()> {
        for number in numbers {
            let is_there = self.table.remove(&key(end(number)));
            is_there.then_some(()).with_context(|| format!("connection {number} is not there"))?;
        }
        Ok(())
    }
}
