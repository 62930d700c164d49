//! Bursts: up to 32 mbufs, in the array that DPDK reads and writes.

use std::fmt;
use std::ptr;

use dpdk_sys as sys;

use crate::mbuf::Mbuf;

/// Up to [`CAPACITY`](Self::CAPACITY) mbufs, owned, in order. Queues fill and
/// empty it in place.
///
/// [`take`](Self::take) leaves a hole, so that the others keep their index;
/// [`slots`](Self::slots) counts holes, [`len`](Self::len) does not. Sending
/// closes them.
pub struct Burst {
    /// Of the first `slots` each is an mbuf we own, or null: a hole. What lies
    /// behind is anything, since drivers write ahead of what they return.
    mbufs: [*mut sys::rte_mbuf; Burst::CAPACITY],
    slots: u16,
    len: u16,
}

// SAFETY: a burst owns its mbufs, which are Send; the pointers are nobody else's.
unsafe impl Send for Burst {}
// SAFETY: a shared burst gives shared mbufs only, which are Sync.
unsafe impl Sync for Burst {}

impl Burst {
    /// How many mbufs a burst holds: what drivers' vector code likes.
    pub const CAPACITY: usize = 32;

    /// An empty burst.
    #[must_use]
    pub const fn new() -> Self {
        Self { mbufs: [ptr::null_mut(); Self::CAPACITY], slots: 0, len: 0 }
    }

    /// How many mbufs it holds.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        usize::from(self.len)
    }

    /// How many places are in use, holes included: indices go up to here.
    #[inline]
    #[must_use]
    pub fn slots(&self) -> usize {
        usize::from(self.slots)
    }

    /// Whether it holds no mbuf.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether nothing more can be pushed.
    #[inline]
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.slots() == Self::CAPACITY && self.len == self.slots
    }

    /// Adds an mbuf at the end.
    ///
    /// # Errors
    /// Gives the mbuf back if the burst is full. (A burst with holes is closed
    /// up first; then indices change.)
    #[inline]
    pub fn push(&mut self, mbuf: Mbuf) -> Result<(), Mbuf> {
        if self.slots() == Self::CAPACITY {
            self.close_up();
        }
        match self.mbufs.get_mut(usize::from(self.slots)) {
            Some(slot) => {
                *slot = mbuf.into_raw();
                self.slots += 1;
                self.len += 1;
                Ok(())
            }
            None => Err(mbuf),
        }
    }

    /// Takes an mbuf out and leaves a hole.
    #[inline]
    pub fn take(&mut self, index: usize) -> Option<Mbuf> {
        if index >= self.slots() {
            return None;
        }
        let raw = std::mem::replace(self.mbufs.get_mut(index)?, ptr::null_mut());
        // SAFETY: the slots in use hold mbufs we own, or null; this one is null
        // from now on.
        let mbuf = unsafe { Mbuf::from_raw(raw) }?;
        self.len -= 1;
        if self.len == 0 {
            self.slots = 0;
        }
        Some(mbuf)
    }

    /// The mbuf at an index.
    #[inline]
    #[must_use]
    pub fn get(&self, index: usize) -> Option<&Mbuf> {
        let slot = self.in_use().get(index)?;
        // SAFETY: the slots in use hold mbufs we own, or null.
        unsafe { Mbuf::borrow(slot) }
    }

    /// The mbuf at an index, to be changed.
    #[inline]
    #[must_use]
    pub fn get_mut(&mut self, index: usize) -> Option<&mut Mbuf> {
        let slots = self.slots();
        let slot = self.mbufs.get_mut(..slots)?.get_mut(index)?;
        // SAFETY: as in `get`.
        unsafe { Mbuf::borrow_mut(slot) }
    }

    /// The mbufs in order; holes are skipped.
    pub fn iter(&self) -> impl Iterator<Item = &Mbuf> {
        // SAFETY: as in `get`.
        self.in_use().iter().filter_map(|slot| unsafe { Mbuf::borrow(slot) })
    }

    /// The mbufs in order, to be changed; holes are skipped.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Mbuf> {
        let slots = self.slots();
        let in_use = self.mbufs.get_mut(..slots).unwrap_or_default();
        // SAFETY: as in `get`.
        in_use.iter_mut().filter_map(|slot| unsafe { Mbuf::borrow_mut(slot) })
    }

    /// Takes all mbufs out, in order. Those not asked for are freed.
    pub fn drain(&mut self) -> Drain<'_> {
        let slots = std::mem::take(&mut self.slots);
        self.len = 0;
        Drain { burst: self, next: 0, slots: usize::from(slots) }
    }

    /// Moves what fits of `other`, from its front, to the end of this one.
    pub fn append(&mut self, other: &mut Self) {
        self.close_up();
        other.close_up();
        let count = other.slots().min(Self::CAPACITY - self.slots());
        let start = self.slots();
        // SAFETY: both ranges lie within the arrays, which are two (`&mut`).
        // The mbufs change their owner: `filled` and `gone` say so.
        unsafe {
            ptr::copy_nonoverlapping(other.mbufs.as_ptr(), self.mbufs.as_mut_ptr().add(start), count);
            self.filled(count);
            other.gone(count);
        }
    }

    /// Frees all mbufs, to each pool in one go.
    #[inline]
    pub fn clear(&mut self) {
        if self.slots == 0 {
            return;
        }
        let slots = std::mem::take(&mut self.slots);
        self.len = 0;
        // SAFETY: the slots in use hold mbufs we own, or null, which the
        // function skips; they are forgotten already.
        unsafe { sys::rte_pktmbuf_free_bulk(self.mbufs.as_mut_ptr(), u32::from(slots)) }
    }

    fn in_use(&self) -> &[*mut sys::rte_mbuf] {
        self.mbufs.get(..self.slots()).unwrap_or_default()
    }

    /// Closes the holes, keeping the order.
    #[inline]
    pub(crate) fn close_up(&mut self) {
        if self.len == self.slots {
            return;
        }
        let mut held = 0;
        for index in 0..self.slots().min(Self::CAPACITY) {
            if !self.mbufs[index].is_null() {
                self.mbufs.swap(held, index);
                held += 1;
            }
        }
        self.slots = self.len;
    }

    /// The places behind the last one in use, for DPDK to write to.
    #[inline]
    pub(crate) fn room(&mut self) -> &mut [*mut sys::rte_mbuf] {
        let slots = self.slots();
        self.mbufs.get_mut(slots..).unwrap_or_default()
    }

    /// The first `count` places of `room` hold mbufs now.
    ///
    /// # Safety
    /// They do, this burst owns them, and `count` is no more than there was room.
    #[inline]
    pub(crate) unsafe fn filled(&mut self, count: usize) {
        self.slots += count as u16;
        self.len += count as u16;
    }

    /// The mbufs, without holes, for DPDK to take from the front.
    #[inline]
    pub(crate) fn dense(&mut self) -> &mut [*mut sys::rte_mbuf] {
        self.close_up();
        let slots = self.slots();
        self.mbufs.get_mut(..slots).unwrap_or_default()
    }

    /// The first `count` mbufs are no longer ours; the others move to the front.
    ///
    /// # Safety
    /// Someone else owns them now, the burst has no holes, and holds `count`.
    #[inline]
    pub(crate) unsafe fn gone(&mut self, count: usize) {
        let slots = self.slots();
        if count < slots {
            self.mbufs.copy_within(count..slots, 0);
        }
        self.slots -= count as u16;
        self.len = self.slots;
    }
}

impl Default for Burst {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Burst {
    fn drop(&mut self) {
        self.clear();
    }
}

impl fmt::Debug for Burst {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// The mbufs of a burst, on their way out.
///
/// Leaked, it leaks the mbufs: the burst has forgotten them.
pub struct Drain<'a> {
    burst: &'a mut Burst,
    next: usize,
    slots: usize,
}

impl Iterator for Drain<'_> {
    type Item = Mbuf;

    #[inline]
    fn next(&mut self) -> Option<Mbuf> {
        while self.next < self.slots {
            let raw = self.burst.mbufs.get(self.next).copied()?;
            self.next += 1;
            // SAFETY: the slots before `self.slots` held mbufs of the burst, or
            // null; the burst forgot them, and `next` passes each once.
            if let Some(mbuf) = unsafe { Mbuf::from_raw(raw) } {
                return Some(mbuf);
            }
        }
        None
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, Some(self.slots - self.next))
    }
}

impl Drop for Drain<'_> {
    fn drop(&mut self) {
        self.by_ref().for_each(drop);
    }
}

#[cfg(test)]
mod tests {
    use std::mem::{self, ManuallyDrop};

    use super::*;
    use crate::mbuf::fake::Fake;

    fn fakes() -> Vec<Fake> {
        (0..40).map(|number| Fake::new(&[number])).collect()
    }

    fn push(burst: &mut Burst, fake: &mut Fake) -> bool {
        // The burst owns it now; the tests take all out before it is dropped.
        burst.push(ManuallyDrop::into_inner(fake.packet())).map_err(mem::forget).is_ok()
    }

    fn numbers(burst: &Burst) -> Vec<u8> {
        burst.iter().map(|packet| packet.data()[0]).collect()
    }

    #[test]
    fn holes_keep_places_until_room_is_needed() {
        let mut fakes = fakes();
        let mut burst = Burst::new();
        let pushed = fakes.iter_mut().map(|fake| push(&mut burst, fake)).filter(|&fits| fits).count();
        assert_eq!((pushed, burst.len(), burst.is_full()), (32, 32, true));

        for index in 0..30 {
            mem::forget(burst.take(index));
        }
        assert_eq!((burst.len(), burst.slots()), (2, 32));
        assert!(burst.get(0).is_none() && burst.take(40).is_none());
        burst.get_mut(30).unwrap().data_mut().unwrap()[0] = 130;
        for packet in burst.iter_mut() {
            packet.data_mut().unwrap()[0] += 1;
        }
        assert_eq!(numbers(&burst), [131, 32]);

        assert!(push(&mut burst, &mut fakes[35]));
        assert_eq!((burst.len(), burst.slots()), (3, 3));
        assert_eq!(numbers(&burst), [131, 32, 35]);
        burst.drain().for_each(mem::forget);
        assert!(burst.is_empty() && burst.slots() == 0);
    }

    #[test]
    fn a_burst_takes_what_fits_of_another() {
        let mut fakes = fakes();
        let (mut one, mut other) = (Burst::new(), Burst::new());
        for (number, fake) in fakes.iter_mut().enumerate() {
            assert!(push(if number < 20 { &mut one } else { &mut other }, fake));
        }
        mem::forget(one.take(0));
        mem::forget(other.take(1));
        one.append(&mut other);
        assert_eq!((one.len(), numbers(&one)[18..21].to_vec()), (32, vec![19, 20, 22]));
        assert_eq!(numbers(&other), [34, 35, 36, 37, 38, 39]);
        one.append(&mut other);
        assert_eq!(other.len(), 6);
        one.drain().chain(other.drain()).for_each(mem::forget);
    }

    /// As drivers do: what they write behind what they return is not ours.
    #[test]
    fn what_lies_behind_the_mbufs_is_no_ones() {
        let mut fakes = fakes();
        let mut burst = Burst::new();
        assert!(push(&mut burst, &mut fakes[0]));
        let room = burst.room();
        assert_eq!(room.len(), 31);
        room.fill(ptr::dangling_mut());
        room[0] = ManuallyDrop::into_inner(fakes[1].packet()).into_raw();
        // SAFETY: one mbuf was put into the room, and is the burst's.
        unsafe { burst.filled(1) };
        assert_eq!(numbers(&burst), [0, 1]);
        assert!(burst.get(2).is_none());

        // The first is sent, the second stays.
        assert_eq!(burst.dense().len(), 2);
        // SAFETY: nobody frees a fake but its owner, the test.
        unsafe { burst.gone(1) };
        assert_eq!(numbers(&burst), [1]);
        mem::forget(burst.take(0));
    }
}
