//! Changing a packet: its bytes across segments, its length, its shape.

use dpdk_sys as sys;

use super::raw::Segment;
use super::{Mbuf, OutOfRange, Shared};
use crate::pool::{Exhausted, Pool};

/// A packet was not changed; it is as it was before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// The data, or the mbuf, has another owner.
    #[error(transparent)]
    Shared(#[from] Shared),
    /// Bytes the packet does not have.
    #[error(transparent)]
    OutOfRange(#[from] OutOfRange),
    /// The segment has no room for so many bytes.
    #[error("{wanted} bytes wanted, room for {room}")]
    NoRoom {
        /// How many bytes.
        wanted: usize,
        /// How many there is room for.
        room: usize,
    },
    /// A header length that an mbuf cannot hold, or that its first segment does
    /// not have.
    #[error("headers of {l2_len} + {l3_len} + {l4_len} bytes in a first segment of {segment}")]
    Headers {
        /// The link header's length.
        l2_len: usize,
        /// The network header's length.
        l3_len: usize,
        /// The least length of the transport header.
        l4_len: usize,
        /// Bytes in the first segment.
        segment: usize,
    },
}

impl Mbuf {
    /// Writes bytes into the packet, wherever its segments end.
    ///
    /// # Errors
    /// [`EditError::OutOfRange`] where the packet ends before,
    /// [`EditError::Shared`] where a segment concerned is shared.
    pub fn write(&mut self, offset: usize, bytes: &[u8]) -> Result<(), EditError> {
        self.check_range(offset, bytes.len())?;
        // Twice: nothing is written unless everything can be.
        self.for_range(
            offset,
            bytes.len(),
            |segment, _, _| {
                if segment.data_is_ours() { Ok(()) } else { Err(Shared) }
            },
        )?;
        let mut rest = bytes;
        self.for_range(offset, bytes.len(), |segment, start, count| {
            let (now, later) = rest.split_at(count);
            // SAFETY: the packet is borrowed mutably, and the data is ours.
            let data = unsafe { segment.bytes_mut() };
            data[start..start + count].copy_from_slice(now);
            rest = later;
            Ok::<(), Shared>(())
        })?;
        Ok(())
    }

    /// Calls `visit(segment, start, count)` for each piece of a range that was
    /// checked to be in the packet.
    fn for_range<E>(
        &self,
        offset: usize,
        wanted: usize,
        mut visit: impl FnMut(Segment, usize, usize) -> Result<(), E>,
    ) -> Result<(), E> {
        let (mut skip, mut rest) = (offset, wanted);
        for segment in self.raw_segments() {
            if rest == 0 {
                break;
            }
            let len = usize::from(segment.data_len());
            if skip >= len {
                skip -= len;
                continue;
            }
            let count = rest.min(len - skip);
            visit(segment, skip, count)?;
            skip = 0;
            rest -= count;
        }
        Ok(())
    }

    /// Bytes that can be prepended.
    #[must_use]
    pub fn headroom(&self) -> usize {
        usize::from(self.0.data_offset())
    }

    /// Bytes that can be appended to the last segment.
    #[must_use]
    pub fn tailroom(&self) -> usize {
        self.last_segment().tailroom()
    }

    /// Makes the packet longer at its end, within the last segment, and gives
    /// the new bytes, whose contents are whatever was there.
    ///
    /// # Errors
    /// [`EditError::NoRoom`] beyond the [`tailroom`](Self::tailroom),
    /// [`EditError::Shared`].
    pub fn append(&mut self, count: usize) -> Result<&mut [u8], EditError> {
        let last = self.last_segment();
        if !self.0.header_is_ours() || !last.data_is_ours() {
            return Err(Shared.into());
        }
        let room = last.tailroom();
        let no_room = EditError::NoRoom { wanted: count, room };
        let added = u16::try_from(count).ok().filter(|_| count <= room).ok_or(no_room)?;
        let len = self.0.packet_len().checked_add(u32::from(added)).ok_or(no_room)?;
        let start = usize::from(last.data_len());
        // Within the buffer, whose length has 16 bits: no overflow.
        last.set_data_len(last.data_len() + added);
        self.0.set_packet_len(len);
        // SAFETY: the packet is borrowed mutably, and the data is ours.
        Ok(&mut unsafe { last.bytes_mut() }[start..])
    }

    /// Makes the packet longer at its front, into the headroom, and gives the
    /// new bytes, whose contents are whatever was there. A request of checksum
    /// offload is taken back, since its header lengths changed.
    ///
    /// # Errors
    /// [`EditError::NoRoom`] beyond the [`headroom`](Self::headroom),
    /// [`EditError::Shared`].
    pub fn prepend(&mut self, count: usize) -> Result<&mut [u8], EditError> {
        if !self.0.data_is_ours() {
            return Err(Shared.into());
        }
        let room = self.headroom();
        let no_room = EditError::NoRoom { wanted: count, room };
        let added = u16::try_from(count).ok().filter(|_| count <= room).ok_or(no_room)?;
        let data_len = self.0.data_len().checked_add(added).ok_or(no_room)?;
        let len = self.0.packet_len().checked_add(u32::from(added)).ok_or(no_room)?;
        self.0.set_data_offset(self.0.data_offset() - added);
        self.0.set_data_len(data_len);
        self.0.set_packet_len(len);
        self.clear_tx_offload();
        // SAFETY: the packet is borrowed mutably, and the data is ours.
        Ok(&mut unsafe { self.0.bytes_mut() }[..count])
    }

    /// Takes bytes off the front, from the first segment. A request of checksum
    /// offload is taken back, since its header lengths changed.
    ///
    /// # Errors
    /// [`EditError::OutOfRange`] where the first segment has fewer,
    /// [`EditError::Shared`] where the mbuf has another owner.
    pub fn adj(&mut self, count: usize) -> Result<(), EditError> {
        let segment = usize::from(self.0.data_len());
        let removed = u16::try_from(count).ok().filter(|_| count <= segment).ok_or(OutOfRange {
            offset: 0,
            wanted: count,
            len: segment,
        })?;
        if !self.0.header_is_ours() {
            return Err(Shared.into());
        }
        self.0.set_data_offset(self.0.data_offset() + removed);
        self.0.set_data_len(self.0.data_len() - removed);
        self.0.set_packet_len(self.0.packet_len() - u32::from(removed));
        self.clear_tx_offload();
        Ok(())
    }

    /// Takes bytes off the end, freeing segments that become empty. A request
    /// of checksum offload is taken back, since its headers may be gone.
    ///
    /// # Errors
    /// [`EditError::OutOfRange`] where the packet is shorter,
    /// [`EditError::Shared`] where an mbuf concerned has another owner.
    pub fn trim(&mut self, count: usize) -> Result<(), EditError> {
        let len = self.len();
        let Some(kept) = len.checked_sub(count) else {
            return Err(OutOfRange { offset: 0, wanted: count, len }.into());
        };
        let mut left = kept;
        let mut last = self.0;
        for segment in self.raw_segments() {
            last = segment;
            if left <= usize::from(segment.data_len()) {
                break;
            }
            left -= usize::from(segment.data_len());
        }
        if !self.0.header_is_ours() || !last.header_is_ours() {
            return Err(Shared.into());
        }
        // Both are smaller than what stood there.
        last.set_data_len(left as u16);
        self.0.set_packet_len(kept as u32);
        self.cut_after(last);
        self.clear_tx_offload();
        Ok(())
    }

    /// Brings the packet into one segment, the first, freeing the others.
    ///
    /// # Errors
    /// [`EditError::NoRoom`] where it does not fit the first segment's buffer
    /// ([`Pool::copy`] into a pool of larger segments does it then),
    /// [`EditError::Shared`] where the first segment is shared.
    pub fn linearize(&mut self) -> Result<(), EditError> {
        if self.is_contiguous() {
            return Ok(());
        }
        let first = self.0;
        if !first.data_is_ours() {
            return Err(Shared.into());
        }
        let wanted = self.len() - usize::from(first.data_len());
        let room = first.tailroom();
        if wanted > room {
            return Err(EditError::NoRoom { wanted, room });
        }
        for segment in self.raw_segments().skip(1) {
            // SAFETY: two segments of a packet borrowed mutably; the first
            // one's data is ours alone, so that the buffers are two, and has
            // room for all the others (checked above).
            unsafe {
                let end = first.data_ptr().add(usize::from(first.data_len()));
                let len = segment.data_len();
                std::ptr::copy_nonoverlapping(segment.data_ptr(), end, usize::from(len));
                first.set_data_len(first.data_len() + len);
            }
        }
        self.cut_after(first);
        Ok(())
    }

    /// Adds another packet's segments to the end of this one.
    ///
    /// # Errors
    /// Gives the other packet back if either is shared, or the whole would be
    /// longer than an mbuf can say.
    pub fn chain(&mut self, tail: Self) -> Result<(), (Self, EditError)> {
        let last = self.last_segment();
        if !self.0.header_is_ours() || !last.header_is_ours() || !tail.0.header_is_ours() {
            return Err((tail, Shared.into()));
        }
        let segments = self.0.segment_count().checked_add(tail.0.segment_count());
        let len = self.0.packet_len().checked_add(tail.0.packet_len());
        let (Some(segments), Some(len)) = (segments, len) else {
            let (wanted, room) = (tail.len(), u32::MAX as usize - self.len());
            return Err((tail, EditError::NoRoom { wanted, room }));
        };
        let head = tail.0;
        // The segments belong to this packet now.
        std::mem::forget(tail);
        last.set_next(Some(head));
        self.0.set_segment_count(segments);
        self.0.set_packet_len(len);
        // Only the first segment of a packet counts for these.
        head.set_segment_count(1);
        head.set_packet_len(u32::from(head.data_len()));
        Ok(())
    }

    /// Appends bytes, in further segments of `pool` where the last one is full.
    pub(crate) fn extend(&mut self, pool: &Pool, bytes: &[u8]) -> Result<(), Exhausted> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let (now, later) = rest.split_at(rest.len().min(self.tailroom()));
            if now.is_empty() {
                self.chain(pool.alloc()?).map_err(|_| Exhausted)?;
                continue;
            }
            self.append(now.len()).map_err(|_| Exhausted)?.copy_from_slice(now);
            rest = later;
        }
        Ok(())
    }

    /// Frees the segments behind `last`.
    fn cut_after(&mut self, last: Segment) {
        let Some(rest) = last.next() else { return };
        last.set_next(None);
        let kept = self.raw_segments().count();
        // No more than there were, which had 16 bits.
        self.0.set_segment_count(kept as u16);
        // SAFETY: the rest of the chain was ours, and nothing leads to it now.
        unsafe { sys::rte_pktmbuf_free(rest.as_ptr()) }
    }
}
