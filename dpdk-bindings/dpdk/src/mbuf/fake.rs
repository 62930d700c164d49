//! Mbufs of no pool, for tests of what needs no DPDK: Miri can run those.

use std::mem::ManuallyDrop;
use std::ptr;

use dpdk_sys as sys;

use super::Mbuf;

const HEADROOM: usize = 16;
const ROOM: usize = 128;

/// An mbuf in memory of Rust's: its struct, its buffer, and the count of an
/// external buffer. Raw pointers, since the mbuf holds pointers to them, too.
pub(crate) struct Fake {
    mbuf: *mut sys::rte_mbuf,
    buffer: *mut [u8; ROOM],
    shared_info: *mut [u64; 4],
}

impl Fake {
    pub(crate) fn new(data: &[u8]) -> Self {
        let fake = Self {
            mbuf: Box::into_raw(Box::default()),
            buffer: Box::into_raw(Box::new([0; ROOM])),
            shared_info: Box::into_raw(Box::default()),
        };
        // SAFETY: our own buffer; the copy fits, or the slicing panics.
        unsafe { (&mut (*fake.buffer))[HEADROOM..][..data.len()].copy_from_slice(data) };
        fake.set::<*mut u8>(sys::DPDK_MBUF_buf_addr, fake.buffer.cast());
        fake.set::<u16>(sys::DPDK_MBUF_buf_len, ROOM as u16);
        fake.set::<u16>(sys::DPDK_MBUF_data_off, HEADROOM as u16);
        fake.set::<u16>(sys::DPDK_MBUF_data_len, data.len() as u16);
        fake.set::<u32>(sys::DPDK_MBUF_pkt_len, data.len() as u32);
        fake.set::<u16>(sys::DPDK_MBUF_nb_segs, 1);
        fake.set_owners(1);
        fake
    }

    fn set<T>(&self, offset: usize, value: T) {
        // SAFETY: the fields of an mbuf, by their offset, as in `Segment`.
        unsafe { self.mbuf.byte_add(offset).cast::<T>().write(value) }
    }

    pub(crate) fn set_owners(&self, count: u16) {
        self.set(sys::DPDK_MBUF_refcnt, count);
    }

    pub(crate) fn make_indirect(&self) {
        self.set(sys::DPDK_MBUF_ol_flags, sys::DPDK_RTE_MBUF_F_INDIRECT);
    }

    pub(crate) fn make_external(&self, owners: u16) {
        // SAFETY: within our own array, which is larger than C's struct.
        unsafe { self.shared_info.byte_add(sys::DPDK_SHINFO_refcnt).cast::<u16>().write(owners) };
        self.set(sys::DPDK_MBUF_shinfo, self.shared_info);
        self.set(sys::DPDK_MBUF_ol_flags, sys::DPDK_RTE_MBUF_F_EXTERNAL);
    }

    pub(crate) fn make_uncounted(&self) {
        self.set(sys::DPDK_MBUF_shinfo, ptr::null_mut::<u8>());
        self.set(sys::DPDK_MBUF_ol_flags, sys::DPDK_RTE_MBUF_F_EXTERNAL);
    }

    /// The packet; it must not be dropped, having no pool to go to.
    pub(crate) fn packet(&mut self) -> ManuallyDrop<Mbuf> {
        // SAFETY: an initialised mbuf, which nobody else uses while `self` is
        // borrowed, or the test owns it alone.
        ManuallyDrop::new(unsafe { Mbuf::from_raw(self.mbuf) }.unwrap())
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        // SAFETY: made by `Box::into_raw`, freed once.
        unsafe {
            drop(Box::from_raw(self.mbuf));
            drop(Box::from_raw(self.buffer));
            drop(Box::from_raw(self.shared_info));
        }
    }
}
