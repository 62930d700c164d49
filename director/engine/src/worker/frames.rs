//! What a worker is given and what it answers: the frames of a burst, and a verdict on each.

use crate::adjacency::Adjacency;
use crate::reason::Reason;

/// Frames in a burst, at most.
pub const BURST: usize = 32;

/// The frames of a burst, wherever they lie.
pub trait Frames {
    /// How many there are, at most [`BURST`].
    fn count(&self) -> usize;
    /// The first contiguous part of a frame, which begins with its Ethernet header. Empty if it cannot be had.
    fn head(&mut self, at: usize) -> &mut [u8];
    /// The length of a whole frame in bytes.
    fn length(&self, at: usize) -> usize;
    /// The first bytes of a frame, and the length of the whole frame in bytes. None if they are not at hand:
    /// [`Self::head`] is called then.
    #[inline(always)]
    fn start<const N: usize>(&mut self, at: usize) -> Option<(&mut [u8; N], usize)> {
        let length = self.length(at);
        Some((self.head(at).first_chunk_mut()?, length))
    }
    /// Copies the bytes of a frame that begin at an offset, wherever they lie. False: they cannot be had.
    fn read(&mut self, at: usize, from: usize, bytes: &mut [u8]) -> bool {
        let found = self.head(at).get(from..from + bytes.len());
        found.map(|found| bytes.copy_from_slice(found)).is_some()
    }
    /// The length in bytes of the longest packet in which the frame's packet, of `length` bytes, was received: the
    /// packet itself, or a fragment of it.
    fn longest(&self, _at: usize, length: u16) -> u16 {
        length
    }
    /// Makes a contiguous frame longer or shorter at its end; new bytes may have any value. False: it cannot be done,
    /// and the frame is unchanged.
    fn resize(&mut self, _at: usize, _length: usize) -> bool {
        false
    }
    /// Makes a frame longer by `count` bytes at its front; they may have any value. False: likewise.
    fn prepend(&mut self, _at: usize, _count: usize) -> bool {
        false
    }
}

/// What becomes of a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It leaves by this port; it is ready.
    Send(u8),
    /// It goes to the kernel, through the twin of the port it came in on.
    Kernel,
    /// It is translated, and has to wait for the MAC address of this next hop; see
    /// [`Worker::held_for`](super::Worker::held_for).
    Hold(Adjacency),
    /// As [`Self::Send`], but in fragments of at most so many bytes (see [`director_packet::fragment`]): the packet is
    /// longer than the MTU of the way on, and may be split.
    SendSplit(u8, u16),
    /// As [`Self::Hold`], in fragments as with [`Self::SendSplit`].
    HoldSplit(Adjacency, u16),
    /// It was copied and kept, and the caller has nothing more to do with it; see
    /// [`Worker::reassemble`](super::Worker::reassemble).
    Keep,
    /// It is dropped.
    Drop(Reason),
}

impl Verdict {
    /// The same, for a packet that is longer than the MTU of the way on.
    pub(super) const fn split(self, mtu: u16) -> Self {
        match self {
            Self::Send(port) => Self::SendSplit(port, mtu),
            Self::Hold(way) => Self::HoldSplit(way, mtu),
            other => other,
        }
    }
}
