//! Which servers of a service have changed since the scheduler looked last.
//!
//! Connections of existing entries end and change their state on any thread, and must not wait for a
//! scheduler. They leave a mark here; the next new connection brings the scheduler's index up to date.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

/// A bit for each place in the list of servers, and above them a bit for each word of bits.
///
/// All accesses are `SeqCst`. Who marks has changed the server before, also `SeqCst`; who drains clears
/// the bits and then looks at the server. So whoever finds a bit already set may leave it: the one who
/// clears it later sees the change.
#[derive(Debug)]
pub(crate) struct Dirty {
    words: Box<[AtomicU64]>,
    summary: Box<[AtomicU64]>,
}

const BITS: usize = u64::BITS as usize;

fn set(words: &[AtomicU64], at: usize) {
    if let Some(word) = words.get(at / BITS) {
        let bit = 1 << (at % BITS);
        if word.load(SeqCst) & bit == 0 {
            word.fetch_or(bit, SeqCst);
        }
    }
}

/// Clears a word and calls for each bit that was set.
fn take(words: &[AtomicU64], at: usize, mut each: impl FnMut(usize)) {
    let Some(word) = words.get(at) else { return };
    if word.load(SeqCst) == 0 {
        return;
    }
    let mut bits = word.swap(0, SeqCst);
    while bits != 0 {
        each(at * BITS + bits.trailing_zeros() as usize);
        bits &= bits - 1;
    }
}

impl Dirty {
    /// No marks, for so many places.
    pub(crate) fn new(places: usize) -> Self {
        let words = |bits: usize| std::iter::repeat_with(AtomicU64::default).take(bits.div_ceil(BITS));
        Self { words: words(places).collect(), summary: words(places.div_ceil(BITS)).collect() }
    }

    /// Marks a place. One that is no longer in the list is passed over.
    pub(crate) fn mark(&self, place: u32) {
        let place = place as usize;
        set(&self.words, place);
        // After the word: whoever clears the bit here looks at the word afterwards.
        set(&self.summary, place / BITS);
    }

    /// Takes all marks away and calls for each; a place may be one past the end of the list.
    pub(crate) fn drain(&self, mut each: impl FnMut(usize)) {
        for at in 0..self.summary.len() {
            take(&self.summary, at, |word| take(&self.words, word, &mut each));
        }
    }
}

/// Marks that are no longer used, but that a worker may hold for a moment: kept until none does, since no worker is to
/// free memory. By address, so that the same marks are here once.
#[derive(Debug, Default)]
pub(crate) struct Retired(BTreeMap<usize, Arc<Dirty>>);

impl Retired {
    pub(crate) fn push(&mut self, marks: Arc<Dirty>) {
        self.0.insert(Arc::as_ptr(&marks).addr(), marks);
    }

    /// Frees what nobody else has.
    pub(crate) fn sweep(&mut self) {
        self.0.retain(|_, marks| Arc::strong_count(marks) > 1);
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drained(dirty: &Dirty) -> Vec<usize> {
        let mut places = Vec::new();
        dirty.drain(|place| places.push(place));
        places
    }

    #[test]
    fn each_mark_is_seen_once() {
        let dirty = Dirty::new(10_000);
        assert_eq!(drained(&dirty), []);
        for place in [9_999, 0, 63, 64, 4_096, 64, 1 << 20] {
            dirty.mark(place);
        }
        assert_eq!(drained(&dirty), [0, 63, 64, 4_096, 9_999]);
        assert_eq!(drained(&dirty), []);
        Dirty::new(0).mark(0);
    }

    #[test]
    fn no_change_is_missed() {
        const CHANGES: u64 = 20_000;
        let dirty = Dirty::new(300);
        let values: Vec<AtomicU64> = (0..300).map(|_| AtomicU64::new(0)).collect();
        let mut seen = vec![0; 300];
        std::thread::scope(|scope| {
            let writers: Vec<_> = (0..2)
                .map(|_| {
                    scope.spawn(|| {
                        for change in 0..CHANGES {
                            let place = change * 7 % 300;
                            values[place as usize].fetch_add(1, SeqCst);
                            dirty.mark(place as u32);
                        }
                    })
                })
                .collect();
            while !writers.iter().all(|writer| writer.is_finished()) {
                dirty.drain(|place| seen[place] = values[place].load(SeqCst));
            }
        });
        dirty.drain(|place| seen[place] = values[place].load(SeqCst));
        let last: Vec<u64> = values.into_iter().map(AtomicU64::into_inner).collect();
        assert_eq!(seen, last);
        assert_eq!(last.iter().sum::<u64>(), 2 * CHANGES);
    }
}
