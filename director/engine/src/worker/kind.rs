//! The kinds of packets that the short way knows: TCP segments and UDP datagrams, over IPv4 and IPv6.

use std::marker::PhantomData;

use director_flow::{V4, V6};
use director_packet::nat::End;
use director_packet::plain::{self, Plain, Rewrite, Wanted, v6};
use director_packet::tcp_flag::ACK;
use director_packet::{TCP, UDP};

use super::Frames;
use super::cpu::Cpu;
use crate::entry::Layout;
use crate::state::State;

/// An endpoint of a kind's packets.
pub(super) type EndpointOf<K> = <<K as Kind>::Family as Layout>::Endpoint;

/// A kind of packets.
pub(super) trait Kind {
    type Family: Layout;
    const PROTOCOL: u8;
    /// The state of an entry whose packets go the short way, and TCP's control bits that leave it there.
    const STATE: State;
    const FLAGS: u8;

    /// Reads a frame. None: it is not plain, or none of this kind.
    fn read(frames: &mut impl Frames, at: usize, wanted: &Wanted) -> Option<Plain<EndpointOf<Self>>>;

    /// Translates an end of a frame that [`Self::read`] found plain. None: its headers cannot be had any more.
    fn rewrite(
        frames: &mut impl Frames,
        at: usize,
        rewrite: &Rewrite<EndpointOf<Self>>,
        end: End,
    ) -> Option<()>;
}

/// TCP over IPv4, read as a CPU of a level can.
pub(super) struct Segments<C>(PhantomData<C>);

impl<C: Cpu> Kind for Segments<C> {
    type Family = V4;
    const PROTOCOL: u8 = TCP;
    const STATE: State = State::Established;
    const FLAGS: u8 = ACK;

    #[inline(always)]
    fn read(frames: &mut impl Frames, at: usize, wanted: &Wanted) -> Option<Plain> {
        let (headers, total) = frames.start(at)?;
        C::read(headers, total, wanted)
    }

    #[inline(always)]
    fn rewrite(frames: &mut impl Frames, at: usize, rewrite: &Rewrite, end: End) -> Option<()> {
        let (headers, _) = frames.start(at)?;
        rewrite.apply(headers, end);
        Some(())
    }
}

/// UDP over IPv4.
pub(super) struct Datagrams;

impl Kind for Datagrams {
    type Family = V4;
    const PROTOCOL: u8 = UDP;
    const STATE: State = State::Udp;
    const FLAGS: u8 = 0;

    #[inline(always)]
    fn read(frames: &mut impl Frames, at: usize, wanted: &Wanted) -> Option<Plain> {
        let (headers, total) = frames.start(at)?;
        plain::read_datagram(headers, total, wanted)
    }

    #[inline(always)]
    fn rewrite(frames: &mut impl Frames, at: usize, rewrite: &Rewrite, end: End) -> Option<()> {
        let (headers, _) = frames.start(at)?;
        rewrite.apply_to_datagram(headers, end);
        Some(())
    }
}

/// TCP over IPv6.
pub(super) struct SegmentsV6;

impl Kind for SegmentsV6 {
    type Family = V6;
    const PROTOCOL: u8 = TCP;
    const STATE: State = State::Established;
    const FLAGS: u8 = ACK;

    #[inline(always)]
    fn read(frames: &mut impl Frames, at: usize, wanted: &Wanted) -> Option<Plain<EndpointOf<Self>>> {
        let (headers, total) = frames.start(at)?;
        v6::read(headers, total, wanted)
    }

    #[inline(always)]
    fn rewrite(
        frames: &mut impl Frames,
        at: usize,
        rewrite: &Rewrite<EndpointOf<Self>>,
        end: End,
    ) -> Option<()> {
        let (headers, _) = frames.start(at)?;
        rewrite.apply(headers, end);
        Some(())
    }
}

/// UDP over IPv6.
pub(super) struct DatagramsV6;

impl Kind for DatagramsV6 {
    type Family = V6;
    const PROTOCOL: u8 = UDP;
    const STATE: State = State::Udp;
    const FLAGS: u8 = 0;

    #[inline(always)]
    fn read(frames: &mut impl Frames, at: usize, wanted: &Wanted) -> Option<Plain<EndpointOf<Self>>> {
        let (headers, total) = frames.start(at)?;
        v6::read_datagram(headers, total, wanted)
    }

    #[inline(always)]
    fn rewrite(
        frames: &mut impl Frames,
        at: usize,
        rewrite: &Rewrite<EndpointOf<Self>>,
        end: End,
    ) -> Option<()> {
        let (headers, _) = frames.start(at)?;
        rewrite.apply_to_datagram(headers, end);
        Some(())
    }
}
