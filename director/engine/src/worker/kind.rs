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

/// A kind whose headers are read and translated by these functions of [`plain`].
macro_rules! kind {
    ($(#[$what:meta])* $name:ident: $family:ty, $protocol:expr, $state:expr, $flags:expr, $read:path, $apply:ident) => {
        $(#[$what])*
        pub(super) struct $name;

        impl Kind for $name {
            type Family = $family;
            const PROTOCOL: u8 = $protocol;
            const STATE: State = $state;
            const FLAGS: u8 = $flags;

            #[inline(always)]
            fn read(frames: &mut impl Frames, at: usize, wanted: &Wanted) -> Option<Plain<EndpointOf<Self>>> {
                let (headers, total) = frames.start(at)?;
                $read(headers, total, wanted)
            }

            #[inline(always)]
            fn rewrite(
                frames: &mut impl Frames,
                at: usize,
                rewrite: &Rewrite<EndpointOf<Self>>,
                end: End,
            ) -> Option<()> {
                let (headers, _) = frames.start(at)?;
                rewrite.$apply(headers, end);
                Some(())
            }
        }
    };
}

kind!(
    /// UDP over IPv4.
    Datagrams: V4, UDP, State::Udp, 0, plain::read_datagram, apply_to_datagram
);
kind!(
    /// TCP over IPv6.
    SegmentsV6: V6, TCP, State::Established, ACK, v6::read, apply
);
kind!(
    /// UDP over IPv6.
    DatagramsV6: V6, UDP, State::Udp, 0, v6::read_datagram, apply_to_datagram
);
