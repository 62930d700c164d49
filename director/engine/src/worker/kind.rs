//! The kinds of packets that the short way knows: TCP segments and UDP datagrams, over IPv4 and IPv6.

use std::marker::PhantomData;

use director_flow::{Family, V4, V4End, V6, V6End};
use director_packet::nat::End;
use director_packet::plain::{Headers, Plain, Rewrite, Wanted, v6};
use director_packet::tcp_flag::ACK;
use director_packet::{Endpoint4, Endpoint6, Mac, TCP, UDP};

use super::Frames;
use super::cpu::Cpu;
use super::steady::{Batch, Notes};
use crate::entry::Layout;
use crate::state::State;

/// An endpoint of a kind's packets.
pub(super) type EndpointOf<K> = <<K as Kind>::Family as Layout>::Endpoint;

/// The client of a kind's packets, and the end that is not the client's.
pub(super) type EndsOf<K> = (<<K as Kind>::Family as Family>::End, EndpointOf<K>);

/// The kinds, each the place of its type.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Which {
    Segments,
    Datagrams,
    SegmentsV6,
    DatagramsV6,
}

impl Which {
    pub(super) const COUNT: usize = 4;

    /// What a frame is, if it is of any kind at all.
    #[inline(always)]
    pub(super) fn guess(frames: &mut impl Frames, at: usize) -> Self {
        let Some((start, _)) = frames.start::<24>(at) else { return Self::Segments };
        let is_v6 = start[12] == 0x86;
        match (is_v6, start[if is_v6 { 20 } else { 23 }]) {
            (false, UDP) => Self::Datagrams,
            (false, _) => Self::Segments,
            (true, UDP) => Self::DatagramsV6,
            (true, _) => Self::SegmentsV6,
        }
    }
}

/// A kind of packets.
pub(super) trait Kind {
    type Family: Layout;
    const PROTOCOL: u8;
    /// The state of an entry whose packets go the short way, and TCP's control bits that leave it there.
    const STATE: State;
    const FLAGS: u8;

    /// What a plain frame that comes in on a port with this address begins with.
    fn wanted(mac: Mac) -> Wanted;

    /// What is noted of a burst's frames that are of this kind.
    fn notes(batch: &mut Batch) -> &mut Notes<Self::Family>;

    /// The headers of a plain frame.
    type Headers;

    /// The headers of a frame, if they are at hand, and its length.
    fn headers(frames: &mut impl Frames, at: usize) -> Option<(&mut Self::Headers, usize)>;

    /// Reads a frame. None: it is not plain, or none of this kind.
    fn read(headers: &Self::Headers, total: usize, wanted: &Wanted) -> Option<Plain<EndpointOf<Self>>>;

    /// Both ends of a frame that [`Self::read`] found plain, of which this was noted.
    fn ends<const OUT: bool>(noted: <Self::Family as Layout>::Noted, headers: &Self::Headers)
    -> EndsOf<Self>;

    /// Translates an end of such a frame.
    fn rewrite(headers: &mut Self::Headers, rewrite: &Rewrite<EndpointOf<Self>>, end: End);
}

/// Both ends as they were noted.
#[inline(always)]
fn noted<const OUT: bool>(noted: (V4End, Endpoint4), _: &Headers, _: u8) -> (V4End, Endpoint4) {
    noted
}

/// Both ends from the frame.
#[inline(always)]
fn read_again<const OUT: bool>((): (), headers: &[u8], protocol: u8) -> (V6End, Endpoint6) {
    let (source, destination) = v6::ends(headers);
    let (client, other) = if OUT { (destination, source) } else { (source, destination) };
    (V6::client_end(client, protocol), other)
}

/// A kind, read as a CPU of a level can; its headers, the field of a batch that is its, where its ends are found again,
/// and what reads and translates it.
macro_rules! kind {
    ($(#[$what:meta])* $name:ident: $family:ty, $wanted:path, $protocol:expr, $state:expr, $flags:expr,
     $headers:ty, $notes:ident, $ends:ident, $read:ident, $apply:ident) => {
        $(#[$what])*
        pub(super) struct $name<C>(PhantomData<C>);

        impl<C: Cpu> Kind for $name<C> {
            type Family = $family;
            type Headers = $headers;
            const PROTOCOL: u8 = $protocol;
            const STATE: State = $state;
            const FLAGS: u8 = $flags;

            #[inline(always)]
            fn wanted(mac: Mac) -> Wanted {
                $wanted(mac, $protocol)
            }

            #[inline(always)]
            fn notes(batch: &mut Batch) -> &mut Notes<$family> {
                &mut batch.$notes
            }

            #[inline(always)]
            fn headers(frames: &mut impl Frames, at: usize) -> Option<(&mut $headers, usize)> {
                frames.start(at)
            }

            #[inline(always)]
            fn read(headers: &$headers, total: usize, wanted: &Wanted) -> Option<Plain<EndpointOf<Self>>> {
                C::$read(headers, total, wanted)
            }

            #[inline(always)]
            fn ends<const OUT: bool>(
                noted: <$family as Layout>::Noted,
                headers: &$headers,
            ) -> EndsOf<Self> {
                $ends::<OUT>(noted, headers, $protocol)
            }

            #[inline(always)]
            fn rewrite(headers: &mut $headers, rewrite: &Rewrite<EndpointOf<Self>>, end: End) {
                rewrite.$apply(headers, end);
            }
        }
    };
}

kind!(
    /// TCP over IPv4.
    Segments: V4, Wanted::v4, TCP, State::Established, ACK,
    Headers, segments, noted, read, apply
);
kind!(
    /// UDP over IPv4.
    Datagrams: V4, Wanted::v4, UDP, State::Udp, 0,
    Headers, datagrams, noted, read_datagram, apply_to_datagram
);
kind!(
    /// TCP over IPv6.
    SegmentsV6: V6, Wanted::v6, TCP, State::Established, ACK,
    [u8; v6::SEGMENT], segments_v6, read_again, read_v6, apply
);
kind!(
    /// UDP over IPv6.
    DatagramsV6: V6, Wanted::v6, UDP, State::Udp, 0,
    [u8; v6::DATAGRAM], datagrams_v6, read_again, read_datagram_v6, apply_to_datagram
);
