//! The tables that are measured beside each other, behind one interface: the director's, DPDK's `rte_hash`,
//! and concurrent maps of Rust.
//!
//! All map a client end to a connection's record of a cache line: its end, its virtual service and when it
//! was last seen. A lookup is one of a packet: the record is read, both ends are compared, and it is looked
//! whether the time of the last packet has changed.

mod floor;
mod maps;
mod own;
mod rte;

pub use floor::floor;
pub use maps::{dashmap, papaya, scc};
pub use own::{Readers, own, own_readers, own_table};
pub use rte::rte_hash;

use anyhow::Result;

/// Keys that are looked up together.
pub const BURST: usize = 32;

/// The virtual service of all connections.
const SERVICE: u64 = 0xc612_0001_0050;

/// The time at which all connections were seen last.
const NOW: u64 = 7;

/// The `number`th client end: address and port in 48 bits and the protocol, all different and in no order.
#[inline]
#[must_use]
pub fn end(number: u64) -> u64 {
    const MASK: u64 = (1 << 48) - 1;
    // Both steps can be undone: an odd factor, and a shift by half of the bits.
    let mixed = number.wrapping_mul(0x9e37_79b9_7f4b) & MASK;
    let mixed = (mixed ^ (mixed >> 24)).wrapping_mul(0xbf58_476d_1ce5) & MASK;
    (mixed ^ (mixed >> 24)) << 16 | 6 << 8
}

/// What a worker does.
pub trait Reader {
    /// Looks up a burst of client ends; how many were found, their records being right.
    fn lookup(&mut self, ends: &[u64; BURST]) -> usize;
    /// Nothing is looked up for a while.
    fn rest(&mut self) {}
}

/// What makes and ends connections.
pub trait Writer: Send {
    /// Makes connections, of these numbers.
    ///
    /// # Errors
    /// There is no room.
    fn insert(&mut self, numbers: std::ops::Range<u64>) -> Result<()>;
    /// Ends connections that were made before, of these numbers.
    ///
    /// # Errors
    /// One was not there.
    fn remove(&mut self, numbers: std::ops::Range<u64>) -> Result<()>;
    /// Nothing is changed for a while.
    fn rest(&mut self) {}
}

/// A table.
pub struct Contender {
    /// Its name.
    pub name: &'static str,
    /// For the thread that looks up.
    pub reader: Box<dyn Reader>,
    /// For the thread that changes it.
    pub writer: Box<dyn Writer>,
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn ends_are_distinct() {
        let ends: HashSet<u64> = (0..1_000_000).map(end).collect();
        assert_eq!(ends.len(), 1_000_000);
        assert!((0..1000).all(|number| end(number) & 0xffff == 0x600));
    }

    #[test]
    fn all_find_what_is_there_and_nothing_else() {
        let made = [own(10_000).unwrap(), papaya(10_000), dashmap(10_000), scc(10_000)];
        for Contender { name, mut reader, mut writer } in made {
            writer.insert(0..5000).unwrap();
            let found = |reader: &mut dyn Reader, from: u64| {
                let found = reader.lookup(&std::array::from_fn(|at| end(from + at as u64)));
                reader.rest();
                found
            };
            assert_eq!(found(&mut *reader, 4000), BURST, "{name}");
            assert_eq!(found(&mut *reader, 4984), 16, "{name}");
            writer.remove(4968..5000).unwrap();
            writer.rest();
            assert_eq!(found(&mut *reader, 4952), 16, "{name}");
            assert_eq!(found(&mut *reader, 6000), 0, "{name}");
            // A connection of the same client again, and many more than there is room for at once.
            for from in (4968..40_000).step_by(32) {
                writer.insert(from..from + 32).unwrap();
                assert_eq!(found(&mut *reader, from), BURST, "{name}");
                writer.remove(from..from + 32).unwrap();
            }
        }
    }
}
