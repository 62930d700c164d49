//! One segment of a packet: the fields of `struct rte_mbuf`, by offset.
//!
//! By offset because DPDK's releases wrap the fields in different unions; the
//! offsets come from the headers the crate was built with.

use std::ffi::c_void;
use std::ptr::NonNull;
use std::slice;
use std::sync::atomic::{AtomicU16, Ordering};

use dpdk_sys as sys;

/// A pointer to a live `struct rte_mbuf`.
///
/// Whoever holds one must be the owner of the packet, or borrow from it, as
/// [`Mbuf`](super::Mbuf) sees to; the getters and setters rest on that.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(super) struct Segment(NonNull<sys::rte_mbuf>);

macro_rules! fields {
    ($($getter:ident $($setter:ident)?: $type:ty = $offset:ident;)*) => {
        $(
            #[inline]
            pub(super) fn $getter(self) -> $type {
                // SAFETY: a live mbuf (the type's promise), with such a field
                // at that offset, aligned, as the C compiler laid it out.
                unsafe { self.field::<$type>(sys::$offset).read() }
            }

            $(
                #[inline]
                pub(super) fn $setter(self, value: $type) {
                    // SAFETY: as the getter; the caller owns the packet, so
                    // nobody else looks at the field now.
                    unsafe { self.field::<$type>(sys::$offset).write(value) }
                }
            )?
        )*
    };
}

impl Segment {
    /// # Safety
    /// `raw` is null or points to a live mbuf, which the caller owns or borrows.
    #[inline]
    pub(super) unsafe fn new(raw: *mut sys::rte_mbuf) -> Option<Self> {
        NonNull::new(raw).map(Self)
    }

    #[inline]
    pub(super) fn as_ptr(self) -> *mut sys::rte_mbuf {
        self.0.as_ptr()
    }

    /// # Safety
    /// There is a field of type `T` at `offset`.
    #[inline]
    unsafe fn field<T>(self, offset: usize) -> *mut T {
        // SAFETY: the field lies within the mbuf.
        unsafe { self.0.as_ptr().byte_add(offset).cast() }
    }

    fields! {
        buffer: *mut u8 = DPDK_MBUF_buf_addr;
        data_offset set_data_offset: u16 = DPDK_MBUF_data_off;
        segment_count set_segment_count: u16 = DPDK_MBUF_nb_segs;
        port set_port: u16 = DPDK_MBUF_port;
        flags set_flags: u64 = DPDK_MBUF_ol_flags;
        packet_len set_packet_len: u32 = DPDK_MBUF_pkt_len;
        data_len set_data_len: u16 = DPDK_MBUF_data_len;
        vlan_tci set_vlan_tci: u16 = DPDK_MBUF_vlan_tci;
        rss_hash set_rss_hash: u32 = DPDK_MBUF_hash;
        buffer_len: u16 = DPDK_MBUF_buf_len;
        next_ptr set_next_ptr: *mut sys::rte_mbuf = DPDK_MBUF_next;
        shared_info: *mut c_void = DPDK_MBUF_shinfo;
    }

    #[inline]
    pub(super) fn set_tx_offload(self, lengths: u64) {
        // SAFETY: as the setters above.
        unsafe { self.field::<u64>(sys::DPDK_MBUF_tx_offload).write(lengths) }
    }

    #[inline]
    pub(super) fn next(self) -> Option<Self> {
        // SAFETY: a live mbuf's next is null or the next segment of the packet.
        unsafe { Self::new(self.next_ptr()) }
    }

    pub(super) fn set_next(self, next: Option<Self>) {
        self.set_next_ptr(next.map_or(std::ptr::null_mut(), Self::as_ptr));
    }

    #[inline]
    pub(super) fn data_ptr(self) -> *mut u8 {
        // SAFETY: the data begins within the buffer, or at its end.
        unsafe { self.buffer().add(usize::from(self.data_offset())) }
    }

    /// # Safety
    /// The packet is owned or borrowed for 'a, and not written to meanwhile.
    #[inline]
    pub(super) unsafe fn bytes<'a>(self) -> &'a [u8] {
        // SAFETY: data_len bytes from there lie within the buffer: every
        // function that sets one of the three checks, DPDK's and ours. The
        // pool's memory is initialised: it came from the kernel.
        unsafe { slice::from_raw_parts(self.data_ptr(), usize::from(self.data_len())) }
    }

    /// # Safety
    /// The packet is owned or borrowed mutably for 'a, and `data_is_ours`.
    #[inline]
    pub(super) unsafe fn bytes_mut<'a>(self) -> &'a mut [u8] {
        // SAFETY: as in `bytes`.
        unsafe { slice::from_raw_parts_mut(self.data_ptr(), usize::from(self.data_len())) }
    }

    pub(super) fn tailroom(self) -> usize {
        let end = usize::from(self.data_offset()) + usize::from(self.data_len());
        usize::from(self.buffer_len()).saturating_sub(end)
    }

    /// Whether this reference to the mbuf is the only one, so that its fields
    /// may be changed.
    #[inline]
    pub(super) fn header_is_ours(self) -> bool {
        // SAFETY: the reference count of a live mbuf, which other owners of it
        // count down atomically. Acquire pairs with their release, so that what
        // they did with the mbuf came before.
        unsafe { is_one(self.field(sys::DPDK_MBUF_refcnt)) }
    }

    /// Whether nobody else can see the data, so that it may be changed.
    #[inline]
    pub(super) fn data_is_ours(self) -> bool {
        let foreign = self.flags() & (sys::DPDK_RTE_MBUF_F_INDIRECT | sys::DPDK_RTE_MBUF_F_EXTERNAL);
        // A direct mbuf counts those attached to its data among its owners.
        self.header_is_ours() && (foreign == 0 || self.external_buffer_is_ours(foreign))
    }

    /// An external buffer has a count of its own.
    #[cold]
    #[inline(never)]
    fn external_buffer_is_ours(self, foreign: u64) -> bool {
        let info = self.shared_info();
        if foreign != sys::DPDK_RTE_MBUF_F_EXTERNAL || info.is_null() {
            return false;
        }
        // SAFETY: an mbuf with an external buffer points to the buffer's
        // struct rte_mbuf_ext_shared_info, which lives as long as the buffer.
        unsafe { is_one(info.byte_add(sys::DPDK_SHINFO_refcnt).cast()) }
    }
}

/// # Safety
/// `count` points to an aligned 16-bit counter that others use atomically.
#[inline]
unsafe fn is_one(count: *mut u16) -> bool {
    // SAFETY: the caller's promise.
    unsafe { AtomicU16::from_ptr(count) }.load(Ordering::Acquire) == 1
}
