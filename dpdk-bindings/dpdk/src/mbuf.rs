//! Mbufs: packets, in one segment or several, as checked byte slices.

mod edit;
mod metadata;
mod raw;

use std::fmt;
use std::marker::PhantomData;

use dpdk_sys as sys;

pub use self::edit::EditError;
pub use self::metadata::{Checksum, IpVersion, L4Protocol, RxChecksums, TxOffload};
use self::raw::Segment;

/// A packet buffer of DPDK, owned: dropped, it goes back to its pool.
///
/// Most packets lie in one segment, [`data`](Self::data); a long one may be
/// spread over several, and what needs it in one piece says
/// [`linearize`](Self::linearize).
///
/// The struct of the mbuf belongs to whoever owns the `Mbuf` (as between DPDK's
/// own functions); its *data* may be shared with another mbuf, and then no
/// `&mut` to it is given.
#[repr(transparent)]
pub struct Mbuf(Segment);

// SAFETY: an mbuf is owned by one, and pools take mbufs back from any thread.
unsafe impl Send for Mbuf {}
// SAFETY: nothing is changed through `&Mbuf`.
unsafe impl Sync for Mbuf {}

/// More was asked for than the packet has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("bytes {offset}..{end} of a packet of {len}", end = .offset.saturating_add(*.wanted))]
pub struct OutOfRange {
    /// From where.
    pub offset: usize,
    /// How many bytes.
    pub wanted: usize,
    /// The packet's length.
    pub len: usize,
}

/// The data is shared with another mbuf, and cannot be changed in place;
/// [`Pool::copy`](crate::Pool::copy) makes a copy that can.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the packet's data is shared and cannot be changed in place")]
pub struct Shared;

impl Mbuf {
    /// # Safety
    /// `raw` is null, or an initialised mbuf, the first of its packet, that
    /// nobody else owns, of a pool that stays until EAL stops.
    #[inline]
    pub(crate) unsafe fn from_raw(raw: *mut sys::rte_mbuf) -> Option<Self> {
        // SAFETY: the caller's promise.
        unsafe { Segment::new(raw) }.map(Self)
    }

    /// Gives up the ownership.
    #[inline]
    pub(crate) fn into_raw(self) -> *mut sys::rte_mbuf {
        let raw = self.0.as_ptr();
        std::mem::forget(self);
        raw
    }

    /// # Safety
    /// As [`from_raw`](Self::from_raw), with the slot as the owner.
    #[inline]
    pub(crate) unsafe fn borrow(slot: &*mut sys::rte_mbuf) -> Option<&Self> {
        // SAFETY: `Option<Mbuf>` has the layout of the pointer, None being null:
        // Mbuf and Segment are transparent around a NonNull.
        unsafe { &*std::ptr::from_ref(slot).cast::<Option<Self>>() }.as_ref()
    }

    /// # Safety
    /// As [`from_raw`](Self::from_raw), with the slot as the owner.
    #[inline]
    pub(crate) unsafe fn borrow_mut(slot: &mut *mut sys::rte_mbuf) -> Option<&mut Self> {
        // SAFETY: as in `borrow`.
        unsafe { &mut *std::ptr::from_mut(slot).cast::<Option<Self>>() }.as_mut()
    }

    /// The packet's length over all segments.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.packet_len() as usize
    }

    /// Whether the packet has no byte.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many segments the packet is spread over; at least one.
    #[inline]
    #[must_use]
    pub fn segment_count(&self) -> usize {
        usize::from(self.0.segment_count())
    }

    /// Whether the packet lies in one segment, so that [`data`](Self::data) is
    /// all of it.
    #[inline]
    #[must_use]
    pub fn is_contiguous(&self) -> bool {
        self.0.segment_count() == 1
    }

    /// The bytes of the first segment.
    #[inline]
    #[must_use]
    pub fn data(&self) -> &[u8] {
        // SAFETY: the segment is ours for as long as `self` is borrowed, and
        // nobody writes to data that is shared.
        unsafe { self.0.bytes() }
    }

    /// The bytes of the first segment, to be changed.
    ///
    /// # Errors
    /// [`Shared`] where another mbuf has the same data.
    #[inline]
    pub fn data_mut(&mut self) -> Result<&mut [u8], Shared> {
        if !self.0.data_is_ours() {
            return Err(Shared);
        }
        // SAFETY: the segment and its data are ours alone, for as long as
        // `self` is borrowed.
        Ok(unsafe { self.0.bytes_mut() })
    }

    /// Whether the data of any segment is shared with another mbuf.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.raw_segments().any(|segment| !segment.data_is_ours())
    }

    /// The bytes of each segment, in order.
    pub fn segments(&self) -> Segments<'_> {
        Segments { next: Some(self.0), packet: PhantomData }
    }

    /// Copies bytes out of the packet, wherever its segments end.
    ///
    /// # Errors
    /// [`OutOfRange`] where the packet ends before; `buffer` is then unchanged.
    pub fn read(&self, offset: usize, buffer: &mut [u8]) -> Result<(), OutOfRange> {
        self.check_range(offset, buffer.len())?;
        let mut skip = offset;
        let mut rest = buffer;
        for bytes in self.segments() {
            let Some(bytes) = bytes.get(skip..) else {
                skip -= bytes.len();
                continue;
            };
            skip = 0;
            let count = bytes.len().min(rest.len());
            let (now, later) = rest.split_at_mut(count);
            now.copy_from_slice(&bytes[..count]);
            rest = later;
            if rest.is_empty() {
                break;
            }
        }
        Ok(())
    }

    /// Asks the CPU to load the packet's first bytes, to be read a little later.
    #[inline]
    pub fn prefetch(&self) {
        prefetch(self.0.data_ptr());
    }

    /// Asks the CPU to load the mbuf's own fields, which come before its data.
    #[inline]
    pub fn prefetch_header(&self) {
        prefetch(self.0.as_ptr().cast());
    }

    fn check_range(&self, offset: usize, wanted: usize) -> Result<(), OutOfRange> {
        let len = self.len();
        if offset.checked_add(wanted).is_some_and(|end| end <= len) {
            Ok(())
        } else {
            Err(OutOfRange { offset, wanted, len })
        }
    }

    fn raw_segments(&self) -> impl Iterator<Item = Segment> + use<'_> {
        std::iter::successors(Some(self.0), |segment| segment.next())
    }

    fn last_segment(&self) -> Segment {
        self.raw_segments().last().unwrap_or(self.0)
    }
}

impl Drop for Mbuf {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: the mbuf is ours, and its pool stays until EAL stops, which it
        // does not while this mbuf is out.
        unsafe { sys::rte_pktmbuf_free(self.0.as_ptr()) }
    }
}

impl fmt::Debug for Mbuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mbuf")
            .field("len", &self.len())
            .field("segments", &self.segment_count())
            .field("port", &self.port())
            .finish_non_exhaustive()
    }
}

/// The segments of a packet.
pub struct Segments<'a> {
    next: Option<Segment>,
    packet: PhantomData<&'a Mbuf>,
}

impl<'a> Iterator for Segments<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let segment = self.next?;
        self.next = segment.next();
        // SAFETY: the packet is borrowed for 'a, so its segments stay, and
        // nobody writes to them.
        Some(unsafe { segment.bytes() })
    }
}

#[inline]
fn prefetch(address: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch reads nothing and cannot fault.
    unsafe {
        use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(address.cast());
    }
    // Elsewhere std has no stable prefetch: the load comes when it comes.
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}
