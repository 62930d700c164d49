//! Workers tell the control core to look at a record, through one bounded ring for each worker.
//!
//! An event is only a position. What to do follows from the record, so an event may be late, doubled or about a
//! record that was reused since: looking once too often does no harm. Losing an event does no harm either: the ring
//! notes it, and the control core looks at every record instead.

use crate::sync::{
    AtomicU32,
    Ordering::{Acquire, Relaxed, Release},
    Padded,
};

/// A ring between one worker and the control core.
pub(crate) struct Ring {
    slots: Box<[AtomicU32]>,
    /// Written by the worker: events published.
    tail: Padded<AtomicU32>,
    /// Written by the control core: events taken.
    head: Padded<AtomicU32>,
    /// Written by the worker: events that did not fit (wrapping).
    lost: Padded<AtomicU32>,
}

/// The worker's private end: events become visible in batches.
#[derive(Debug, Default)]
pub(crate) struct Sender {
    tail: u32,
    published: u32,
    lost: u32,
    /// The control core's `head` when last looked at.
    head: u32,
}

impl Ring {
    /// A ring of `len` events, which is brought to a power of two.
    pub(crate) fn new(len: u32) -> Self {
        let len = len.clamp(1, 1 << 24).next_power_of_two();
        Ring {
            slots: (0..len).map(|_| AtomicU32::new(0)).collect(),
            tail: Padded(AtomicU32::new(0)),
            head: Padded(AtomicU32::new(0)),
            lost: Padded(AtomicU32::new(0)),
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        size_of_val(&*self.slots)
    }

    fn slot(&self, number: u32) -> &AtomicU32 {
        &self.slots[number as usize & (self.slots.len() - 1)]
    }

    /// Queues an event, which is seen after [`Ring::publish`]. `false`: it was lost, and that is noted.
    #[inline]
    pub(crate) fn push(&self, sender: &mut Sender, event: u32) -> bool {
        let len = self.slots.len() as u32;
        if sender.tail.wrapping_sub(sender.head) == len {
            // Acquire pairs with the Release of `take`: the slot was read before it is written again.
            sender.head = self.head.load(Acquire);
            if sender.tail.wrapping_sub(sender.head) == len {
                // Release pairs with the Acquire of `lost`: a thread that learns of it sees the record that the event
                // was about.
                sender.lost = sender.lost.wrapping_add(1);
                self.lost.store(sender.lost, Release);
                return false;
            }
        }
        self.slot(sender.tail).store(event, Relaxed);
        sender.tail = sender.tail.wrapping_add(1);
        true
    }

    /// Makes queued events visible.
    #[inline]
    pub(crate) fn publish(&self, sender: &mut Sender) {
        if sender.published != sender.tail {
            // Release pairs with the Acquire of `take`: the slots, and the records the events are about.
            self.tail.store(sender.tail, Release);
            sender.published = sender.tail;
        }
    }

    /// Takes up to `out.len()` events, and returns how many. Only one thread at a time.
    pub(crate) fn take(&self, out: &mut [u32]) -> usize {
        let head = self.head.load(Relaxed);
        // Acquire pairs with the Release of `publish`.
        let waiting = self.tail.load(Acquire).wrapping_sub(head) as usize;
        let taken = waiting.min(out.len());
        for (out, number) in out[..taken].iter_mut().zip(0..) {
            *out = self.slot(head.wrapping_add(number)).load(Relaxed);
        }
        if taken > 0 {
            // Release pairs with the Acquire of `push`.
            self.head.store(head.wrapping_add(taken as u32), Release);
        }
        taken
    }

    /// How many events were lost so far (wrapping): if the number has changed, the records must be searched. It is a
    /// count and not a flag to be cleared, so that no loss between looking and clearing is missed.
    ///
    /// Acquire pairs with the Release of `push`.
    pub(crate) fn lost(&self) -> u32 {
        self.lost.load(Acquire)
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;

    #[test]
    fn events_come_in_order_once_published_and_a_full_ring_says_so() {
        let ring = Ring::new(3);
        let mut sender = Sender::default();
        let mut out = [0; 8];
        let mut next = 0;
        for round in 0..10 {
            for n in 0..4 {
                assert!(ring.push(&mut sender, round * 4 + n));
            }
            assert_eq!(ring.take(&mut out), 0, "not yet published");
            ring.publish(&mut sender);
            assert_eq!(ring.take(&mut out[..3]), 3);
            assert_eq!(ring.take(&mut out[3..]), 1);
            for &event in &out[..4] {
                assert_eq!(event, next);
                next += 1;
            }
        }
        assert_eq!(ring.lost(), 0);
        for n in 0..4 {
            assert!(ring.push(&mut sender, n));
        }
        assert!(!ring.push(&mut sender, 4));
        ring.publish(&mut sender);
        assert_eq!(ring.lost(), 1);
        assert_eq!(ring.take(&mut out), 4);
        assert!(ring.push(&mut sender, 5));
    }
}
