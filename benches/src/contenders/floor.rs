//! No table, but what the memory asks of any: two lines for each connection, and nothing looked up.

use std::hint::black_box;
use std::ops::Range;

use anyhow::Result;

use super::{BURST, Contender, Reader, Writer};

/// A cache line: where the second one is to a first, and what is counted of a second.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Line {
    second: u32,
    one: u32,
}

struct Floor(Box<[Line]>);

/// A place below `count`, by a number all of whose upper half is random enough.
#[inline]
fn place(number: u64, count: usize) -> usize {
    (((number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) * count as u64) >> 32) as usize
}

/// So many bytes of memory, in lines. For each connection of a burst a line is read that has nothing to do with those
/// of others, as a table's bucket; then, for each, the line that this one names, as a record.
#[must_use]
pub fn floor(bytes: u64) -> Contender {
    let count = (bytes / size_of::<Line>() as u64).clamp(1, u32::MAX.into()) as usize;
    // The count fits 32 bits, and so does a place below it.
    let line = |at: usize| Line { second: place(!(at as u64), count) as u32, one: 1 };
    let lines = (0..count).map(line).collect();
    Contender { name: "floor", reader: Box::new(Floor(lines)), writer: Box::new(Fixed) }
}

impl Reader for Floor {
    #[inline]
    fn lookup(&mut self, ends: &[u64; BURST]) -> usize {
        let lines = &*self.0;
        let mut seconds = [0; BURST];
        for (second, end) in seconds.iter_mut().zip(ends) {
            *second = lines[place(*end, lines.len())].second as usize;
        }
        // The first lines are all asked for before a second one is.
        let seconds = black_box(seconds);
        seconds.iter().map(|second| lines[*second].one as usize).sum()
    }
}

/// There is nothing to change.
struct Fixed;

impl Writer for Fixed {
    fn insert(&mut self, _: Range<u64>) -> Result<()> {
        Ok(())
    }

    fn remove(&mut self, _: Range<u64>) -> Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::super::end;
    use super::*;

    #[test]
    fn its_lines_are_spread_over_all_of_the_memory() {
        const COUNT: usize = 1000;
        assert_eq!(size_of::<Line>(), 64);
        let mut floor = floor(64 * COUNT as u64);
        assert_eq!(floor.reader.lookup(&std::array::from_fn(|at| end(at as u64))), BURST);
        let firsts: HashSet<usize> = (0..20_000).map(|number| place(end(number), COUNT)).collect();
        assert_eq!(firsts.len(), COUNT);
        // At random, a part of 1/e is nobody's second.
        let seconds: HashSet<usize> = (0..COUNT).map(|at| place(!(at as u64), COUNT)).collect();
        assert!((550..=COUNT).contains(&seconds.len()), "{}", seconds.len());
    }
}
