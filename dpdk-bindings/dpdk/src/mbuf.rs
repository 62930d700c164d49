//! Mbufs: packets, in one segment or several, as checked byte slices.

mod edit;
#[cfg(test)]
pub(crate) mod fake;
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

    /// Where the data begins, if the first segment has `N` bytes of it and nobody else sees them; null otherwise.
    #[inline(always)]
    pub(crate) fn start<const N: usize>(&mut self) -> *mut [u8; N] {
        let segment = self.0;
        if usize::from(segment.data_len()) < N || !segment.data_is_ours() {
            return std::ptr::null_mut();
        }
        segment.data_ptr().cast()
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

/// Asks the CPU to load what lies there, to be read a little later; anything may lie there.
#[inline]
pub(crate) fn prefetch(address: *const u8) {
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

#[cfg(test)]
mod tests {
    use super::fake::Fake;
    use super::*;

    #[test]
    fn a_packet_alone_in_its_data_may_be_changed() {
        let mut fake = Fake::new(b"abc");
        let mut packet = fake.packet();
        packet.data_mut().unwrap()[0] = b'A';
        packet.append(2).unwrap().copy_from_slice(b"de");
        packet.prepend(1).unwrap()[0] = b'^';
        packet.write(2, b"BC").unwrap();
        packet.adj(1).unwrap();
        let mut read = [0; 4];
        packet.read(1, &mut read).unwrap();
        assert_eq!((packet.data(), &read, packet.is_shared()), (&b"ABCde"[..], b"BCde", false));
    }

    #[test]
    fn data_with_other_owners_is_never_lent_to_be_changed() {
        type Share = fn(&mut Fake);
        let ways: [(&str, Share); 4] = [
            ("another owner of the mbuf", |fake| fake.set_owners(2)),
            ("the data of another mbuf", |fake| fake.make_indirect()),
            ("an external buffer with another owner", |fake| fake.make_external(2)),
            ("an external buffer that no count is known of", |fake| fake.make_uncounted()),
        ];
        for (way, share) in ways {
            let mut fake = Fake::new(b"abc");
            share(&mut fake);
            let mut packet = fake.packet();
            assert!(packet.is_shared(), "{way}");
            assert_eq!(packet.data_mut().unwrap_err(), Shared, "{way}");
            assert_eq!(packet.write(0, b"x").unwrap_err(), EditError::Shared(Shared), "{way}");
            assert_eq!(packet.append(1).unwrap_err(), EditError::Shared(Shared), "{way}");
            assert_eq!(packet.prepend(1).unwrap_err(), EditError::Shared(Shared), "{way}");
            assert_eq!(packet.data(), b"abc", "{way}");
        }

        let mut fake = Fake::new(b"abc");
        fake.make_external(1);
        assert!(fake.packet().data_mut().is_ok(), "an external buffer of its own");
    }

    #[test]
    fn an_mbuf_with_another_owner_keeps_its_shape() {
        let (mut fake, mut other) = (Fake::new(b"abc"), Fake::new(b"de"));
        fake.set_owners(2);
        let mut packet = fake.packet();
        assert_eq!(packet.adj(1).unwrap_err(), EditError::Shared(Shared));
        assert_eq!(packet.trim(1).unwrap_err(), EditError::Shared(Shared));
        let tail = std::mem::ManuallyDrop::into_inner(other.packet());
        let (tail, error) = packet.chain(tail).unwrap_err();
        std::mem::forget(tail);
        assert_eq!((packet.len(), error), (3, EditError::Shared(Shared)));
    }

    #[test]
    fn requests_of_offload_end_where_the_headers_change() {
        let mut fake = Fake::new(&[0; 60]);
        let mut packet = fake.packet();
        let offload = TxOffload {
            version: IpVersion::V4,
            l2_len: 14,
            l3_len: 20,
            ipv4_checksum: true,
            l4_checksum: Some(L4Protocol::Udp),
        };
        let changes: [fn(&mut Mbuf); 3] = [
            |packet| packet.adj(1).unwrap(),
            |packet| packet.trim(1).unwrap(),
            |packet| {
                packet.prepend(1).unwrap();
            },
        ];
        for change in changes {
            packet.set_tx_offload(offload).unwrap();
            packet.insert_vlan(7);
            change(&mut packet);
            assert_eq!(packet.0.flags(), sys::DPDK_RTE_MBUF_F_TX_VLAN);
        }
        packet.set_tx_offload(offload).unwrap();
        let flags = sys::DPDK_RTE_MBUF_F_TX_VLAN
            | sys::DPDK_RTE_MBUF_F_TX_IPV4
            | sys::DPDK_RTE_MBUF_F_TX_IP_CKSUM
            | sys::DPDK_RTE_MBUF_F_TX_UDP_CKSUM;
        assert_eq!(packet.0.flags(), flags);
    }

    #[test]
    fn what_the_device_reports_is_read() {
        let mut fake = Fake::new(b"abc");
        let packet = fake.packet();
        let checksums = |ip, l4| RxChecksums { ip, l4 };
        assert_eq!(packet.rx_checksums(), checksums(Checksum::Unknown, Checksum::Unknown));
        packet.0.set_flags(sys::DPDK_RTE_MBUF_F_RX_IP_CKSUM_GOOD | sys::DPDK_RTE_MBUF_F_RX_L4_CKSUM_BAD);
        assert_eq!(packet.rx_checksums(), checksums(Checksum::Good, Checksum::Bad));
        packet.0.set_flags(sys::DPDK_RTE_MBUF_F_RX_IP_CKSUM_BAD | sys::DPDK_RTE_MBUF_F_RX_L4_CKSUM_NONE);
        assert_eq!(packet.rx_checksums(), checksums(Checksum::Bad, Checksum::Absent));
        packet.0.set_flags(sys::DPDK_RTE_MBUF_F_RX_RSS_HASH | sys::DPDK_RTE_MBUF_F_RX_VLAN_STRIPPED);
        packet.0.set_rss_hash(0xdead_beef);
        packet.0.set_vlan_tci(0x2005);
        assert_eq!((packet.rss_hash(), packet.stripped_vlan()), (Some(0xdead_beef), Some(0x2005)));
        packet.0.set_flags(0);
        assert_eq!((packet.rss_hash(), packet.stripped_vlan()), (None, None));
    }
}
