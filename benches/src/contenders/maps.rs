//! Concurrent maps of Rust, with the hash that the director uses.

use std::ops::Range;
use std::sync::Arc;

use ahash::RandomState;
use anyhow::{Context, Result, bail};

use super::{BURST, Contender, NOW, Reader, SERVICE, Writer, end};

/// A connection's record beside its key: virtual service, last seen, and what else there is in a cache line.
#[derive(Clone, Copy)]
struct Record([u64; 7]);

const RECORD: Record = Record([SERVICE, NOW, 0, 0, 0, 0, 0]);

impl Record {
    #[inline]
    fn is_right(&self) -> bool {
        self.0[0] == SERVICE && self.0[1] == NOW
    }
}

/// What is needed of a map.
trait Map: Send + Sync + 'static {
    fn find(&self, ends: &[u64; BURST]) -> usize;
    fn put(&self, end: u64) -> bool;
    fn take(&self, end: u64) -> bool;
}

struct Shared<M>(Arc<M>);

impl<M: Map> Reader for Shared<M> {
    #[inline]
    fn lookup(&mut self, ends: &[u64; BURST]) -> usize {
        self.0.find(ends)
    }
}

impl<M: Map> Writer for Shared<M> {
    fn insert(&mut self, numbers: Range<u64>) -> Result<()> {
        for number in numbers {
            if !self.0.put(end(number)) {
                bail!("connection {number} was there before it was made");
            }
        }
        Ok(())
    }

    fn remove(&mut self, numbers: Range<u64>) -> Result<()> {
        for number in numbers {
            self.0
                .take(end(number))
                .then_some(())
                .with_context(|| format!("connection {number} is not there"))?;
        }
        Ok(())
    }
}

fn contender<M: Map>(name: &'static str, map: M) -> Contender {
    let map = Arc::new(map);
    Contender { name, reader: Box::new(Shared(map.clone())), writer: Box::new(Shared(map)) }
}

/// A `papaya::HashMap` with room for so many.
#[must_use]
pub fn papaya(entries: u32) -> Contender {
    let map = papaya::HashMap::with_capacity_and_hasher(entries as usize, RandomState::new());
    contender("papaya", Papaya(map))
}

struct Papaya(papaya::HashMap<u64, Record, RandomState>);

impl Map for Papaya {
    #[inline]
    fn find(&self, ends: &[u64; BURST]) -> usize {
        let map = self.0.pin();
        ends.iter().filter(|end| map.get(*end).is_some_and(Record::is_right)).count()
    }

    fn put(&self, end: u64) -> bool {
        self.0.pin().insert(end, RECORD).is_none()
    }

    fn take(&self, end: u64) -> bool {
        self.0.pin().remove(&end).is_some()
    }
}

/// A `dashmap::DashMap` with room for so many.
#[must_use]
pub fn dashmap(entries: u32) -> Contender {
    let map = dashmap::DashMap::with_capacity_and_hasher(entries as usize, RandomState::new());
    contender("dashmap", Dash(map))
}

struct Dash(dashmap::DashMap<u64, Record, RandomState>);

impl Map for Dash {
    #[inline]
    fn find(&self, ends: &[u64; BURST]) -> usize {
        ends.iter().filter(|end| self.0.get(*end).is_some_and(|record| record.is_right())).count()
    }

    fn put(&self, end: u64) -> bool {
        self.0.insert(end, RECORD).is_none()
    }

    fn take(&self, end: u64) -> bool {
        self.0.remove(&end).is_some()
    }
}

/// An `scc::HashMap` with room for so many.
#[must_use]
pub fn scc(entries: u32) -> Contender {
    let map = scc::HashMap::with_capacity_and_hasher(entries as usize, RandomState::new());
    contender("scc", Scc(map))
}

struct Scc(scc::HashMap<u64, Record, RandomState>);

impl Map for Scc {
    #[inline]
    fn find(&self, ends: &[u64; BURST]) -> usize {
        let right = |end: &&u64| self.0.read_sync(*end, |_, record| record.is_right()).unwrap_or(false);
        ends.iter().filter(right).count()
    }

    fn put(&self, end: u64) -> bool {
        self.0.insert_sync(end, RECORD).is_ok()
    }

    fn take(&self, end: u64) -> bool {
        self.0.remove_sync(&end).is_some()
    }
}
