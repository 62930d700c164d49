//! A received burst whose packets' first bytes are at hand.

use crate::burst::Burst;
use crate::queue::RxQueue;

/// A burst as it was received, with the first `N` bytes of each packet at hand: each mbuf was looked at once, so
/// that those who look at the bytes several times need not.
pub struct Received<const N: usize> {
    burst: Burst,
    /// Where a packet's data begins, if `N` bytes of it lie there and nobody else sees them; null otherwise, and where
    /// there is no packet.
    data: [*mut [u8; N]; Burst::CAPACITY],
    lengths: [u32; Burst::CAPACITY],
    known: usize,
}

// SAFETY: as `Burst`; the pointers lead into its mbufs.
unsafe impl<const N: usize> Send for Received<N> {}

impl<const N: usize> Received<N> {
    /// Nothing received yet.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            burst: Burst::new(),
            data: [std::ptr::null_mut(); Burst::CAPACITY],
            lengths: [0; Burst::CAPACITY],
            known: 0,
        }
    }

    /// Receives a burst; what was left of the last one is freed. Returns how many packets it has and their bytes.
    #[inline]
    pub fn receive(&mut self, queue: &mut RxQueue) -> (usize, u64) {
        self.forget();
        self.burst.clear();
        let count = queue.receive(&mut self.burst);
        self.known = count;
        let mut bytes = 0;
        for (at, mbuf) in (0..Burst::CAPACITY).zip(self.burst.iter_mut()) {
            let (length, data) = (mbuf.len() as u32, mbuf.start());
            // The first bytes are looked at next; a device, or another process, has just written them.
            crate::mbuf::prefetch(data.cast());
            self.data[at] = data;
            self.lengths[at] = length;
            bytes += u64::from(length);
        }
        (count, bytes)
    }

    /// How many packets were received, those that were taken out since among them.
    #[inline]
    #[must_use]
    pub fn count(&self) -> usize {
        self.known
    }

    /// A packet's whole length in bytes; 0 if there is none.
    #[inline]
    #[must_use]
    pub fn length(&self, at: usize) -> usize {
        if at < self.known { self.lengths[at] as usize } else { 0 }
    }

    /// The first `M` bytes of a packet and its whole length. None where the first segment is shorter, or than `N`, or
    /// its data is another's as well. Beyond `N` its mbuf is asked.
    #[inline(always)]
    pub fn start<const M: usize>(&mut self, at: usize) -> Option<(&mut [u8; M], usize)> {
        if M > N && self.burst.get(at)?.data().len() < M {
            return None;
        }
        // SAFETY: the pointer is null, or what `receive` found: the first bytes of an mbuf's data, not shared, of which
        // there are `N`, and if `M` is more `M`, as was just seen of the same mbuf, since there are no holes yet. It is
        // still in the burst: `open` alone gives the burst away, and forgets the pointers; `prepend` forgets the one that
        // it moves, and `resize` one of which less than `N` bytes are left; what `segment` gives is the same bytes,
        // borrowed from `self` as these are.
        let data = unsafe { self.data.get(at)?.cast::<[u8; M]>().as_mut() }?;
        Some((data, *self.lengths.get(at)? as usize))
    }

    /// The first segment of a packet; empty where there is none, or its data is another's as well.
    #[inline]
    pub fn segment(&mut self, at: usize) -> &mut [u8] {
        self.burst.get_mut(at).and_then(|mbuf| mbuf.data_mut().ok()).unwrap_or_default()
    }

    /// Makes a packet longer at its front, into its headroom; what stands there is whatever was there. False: there
    /// is no room, or its data is another's as well. [`Self::start`] does not give this packet from now on.
    pub fn prepend(&mut self, at: usize, count: usize) -> bool {
        let Some(mbuf) = self.burst.get_mut(at).filter(|_| at < self.known) else { return false };
        if mbuf.prepend(count).is_err() {
            return false;
        }
        self.data[at] = std::ptr::null_mut();
        self.lengths[at] = mbuf.len() as u32;
        true
    }

    /// Copies bytes of a packet, from a place on, wherever its segments end. False: it has not as many.
    pub fn read(&self, at: usize, from: usize, bytes: &mut [u8]) -> bool {
        self.burst.get(at).is_some_and(|mbuf| mbuf.read(from, bytes).is_ok())
    }

    /// Makes a packet of one segment longer or shorter at its end; what is new may be anything. False: it has several,
    /// or no room, or its data is another's as well; it is as it was.
    pub fn resize(&mut self, at: usize, length: usize) -> bool {
        let Some(known) = self.lengths.get_mut(at).filter(|_| at < self.known) else { return false };
        let Some(mbuf) = self.burst.get_mut(at).filter(|mbuf| mbuf.is_contiguous()) else { return false };
        let (before, is_done) = (
            mbuf.len(),
            match length.checked_sub(mbuf.len()) {
                Some(more) => mbuf.append(more).is_ok(),
                None => mbuf.trim(mbuf.len() - length).is_ok(),
            },
        );
        if is_done {
            *known = length as u32;
        }
        // The first bytes are no longer all there.
        if length < N
            && length < before
            && let Some(data) = self.data.get_mut(at)
        {
            *data = std::ptr::null_mut();
        }
        is_done
    }

    /// The burst, for taking packets out or sending them. [`Self::start`] gives nothing from now on.
    #[inline]
    pub fn open(&mut self) -> &mut Burst {
        self.forget();
        &mut self.burst
    }

    /// Forgets what is known of the packets.
    #[inline]
    fn forget(&mut self) {
        if self.known > 0 {
            self.known = 0;
            self.data.fill(std::ptr::null_mut());
        }
    }
}

impl<const N: usize> Default for Received<N> {
    fn default() -> Self {
        Self::new()
    }
}
