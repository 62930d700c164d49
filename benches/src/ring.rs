//! A ring of descriptors between two threads, as a NIC's is one: what finds no room is lost.
//!
//! A descriptor is a word. One thread puts in, one takes out; each looks at the other's end of the ring only when
//! it seems to have reached it.

use std::sync::atomic::{AtomicU64, Ordering};

/// An end of the ring, on a line of its own and not beside the other's: CPUs fetch lines in pairs.
#[repr(align(128))]
#[derive(Default)]
struct End(AtomicU64);

/// The ring.
pub struct Ring {
    words: Box<[AtomicU64]>,
    /// How many were put in, in all.
    head: End,
    /// How many were taken out.
    tail: End,
}

/// Who puts in.
pub struct Sender<'a> {
    ring: &'a Ring,
    head: u64,
    /// The tail as it was last seen.
    tail: u64,
}

/// Who takes out.
pub struct Receiver<'a> {
    ring: &'a Ring,
    tail: u64,
    /// The head as it was last seen.
    head: u64,
}

impl Ring {
    /// A ring of so many descriptors, rounded up to a power of two.
    #[must_use]
    pub fn new(size: u32) -> Self {
        let words =
            std::iter::repeat_with(AtomicU64::default).take(size.next_power_of_two() as usize).collect();
        Self { words, head: End::default(), tail: End::default() }
    }

    /// Both ends of it, which is emptied.
    pub fn ends(&mut self) -> (Sender<'_>, Receiver<'_>) {
        *self.head.0.get_mut() = 0;
        *self.tail.0.get_mut() = 0;
        (Sender { ring: self, head: 0, tail: 0 }, Receiver { ring: self, tail: 0, head: 0 })
    }

    fn size(&self) -> u64 {
        self.words.len() as u64
    }

    #[inline]
    fn word(&self, number: u64) -> &AtomicU64 {
        &self.words[(number & (self.size() - 1)) as usize]
    }
}

impl Sender<'_> {
    /// How many there is room for.
    #[inline]
    pub fn room(&mut self) -> u64 {
        let room = self.ring.size() - (self.head - self.tail);
        if room > 0 {
            return room;
        }
        // Acquire, with the release of `Receiver::take`: a word has been read before it is overwritten.
        self.tail = self.ring.tail.0.load(Ordering::Acquire);
        self.ring.size() - (self.head - self.tail)
    }

    /// Puts one in, for which there is room; [`Self::publish`] shows it.
    #[inline]
    pub fn put(&mut self, word: u64) {
        // Relaxed: published by the head.
        self.ring.word(self.head).store(word, Ordering::Relaxed);
        self.head += 1;
    }

    /// Shows what was put in.
    #[inline]
    pub fn publish(&self) {
        // Release, with the acquire of `Receiver::take`.
        self.ring.head.0.store(self.head, Ordering::Release);
    }
}

impl Receiver<'_> {
    /// Takes as many as there are and `words` holds; how many.
    #[inline]
    pub fn take(&mut self, words: &mut [u64]) -> usize {
        if self.head - self.tail < words.len() as u64 {
            // Acquire, with the release of `Sender::publish`: the words are there.
            self.head = self.ring.head.0.load(Ordering::Acquire);
        }
        let count = (self.head - self.tail).min(words.len() as u64);
        if count == 0 {
            return 0;
        }
        for (word, number) in words.iter_mut().zip(self.tail..self.tail + count) {
            *word = self.ring.word(number).load(Ordering::Relaxed);
        }
        self.tail += count;
        // Release, with the acquire of `Sender::room`: these words have been read.
        self.ring.tail.0.store(self.tail, Ordering::Release);
        // At most the length of `words`.
        count as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_come_out_in_order() {
        const WORDS: u64 = 100_000;
        let mut ring = Ring::new(64);
        let (mut sender, mut receiver) = ring.ends();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                for number in 0..WORDS {
                    while sender.room() == 0 {
                        std::thread::yield_now();
                    }
                    sender.put(number);
                    sender.publish();
                }
            });
            let mut next = 0;
            let mut words = [0; 7];
            while next < WORDS {
                let count = receiver.take(&mut words);
                for word in &words[..count] {
                    assert_eq!(*word, next);
                    next += 1;
                }
                if count == 0 {
                    std::thread::yield_now();
                }
            }
            assert_eq!(receiver.take(&mut words), 0);
        });
    }

    #[test]
    fn a_full_ring_has_no_room() {
        let mut ring = Ring::new(4);
        let (mut sender, mut receiver) = ring.ends();
        for left in (0..4).rev() {
            sender.put(left);
            assert_eq!(sender.room(), left);
        }
        let mut words = [0; 3];
        assert_eq!(receiver.take(&mut words), 0, "nothing is shown yet");
        sender.publish();
        assert_eq!(receiver.take(&mut words), 3);
        assert_eq!(words, [3, 2, 1]);
        assert_eq!(sender.room(), 3);
    }
}
