//! The ICMP errors that tell a sender why its packet was not forwarded.

use director_packet::checksum::Delta;
use director_packet::ethernet::{HEADER, ether_type};
use director_packet::icmp::{self, MAX_ERROR};
use director_packet::nat::set_macs;
use director_packet::{Address, Mac};

use super::{Core, Frames, Lane, Moment, Verdict, Way};
use crate::limiter::Limiter;
use crate::reason::Reason;
use crate::snapshot::Snapshot;
use crate::state::Direction;

/// The least MTU of a link for IPv6, in bytes.
pub(super) const LEAST_V6: u16 = 1280;

/// An ICMP error to be sent, a whole frame.
pub struct Reply {
    /// The port it leaves by.
    pub port: u8,
    length: usize,
    bytes: [u8; HEADER + MAX_ERROR],
}

impl Reply {
    /// The frame.
    #[must_use]
    pub fn frame(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// Where an ICMP error goes: the port, and the MAC addresses of its frame.
struct Back {
    port: u8,
    to: Mac,
    from: Mac,
}

/// The ICMP errors of a burst.
pub(super) struct Refusals {
    limiter: Limiter,
    /// Has room for all of them from the start: it never grows.
    replies: Vec<Reply>,
    identification: u16,
}

impl Refusals {
    pub(super) fn new(most: usize) -> Self {
        Self { limiter: Limiter::default(), replies: Vec::with_capacity(most), identification: 0 }
    }

    pub(super) fn replies(&self) -> &[Reply] {
        &self.replies
    }

    #[inline]
    pub(super) fn clear(&mut self) {
        self.replies.clear();
    }
}

impl Core {
    /// Drops a packet. A client is told if there is no server or no way to it; a server, of a packet of no connection.
    #[cold]
    pub(super) fn refuse(
        &mut self,
        moment: &Moment<'_>,
        lane: &Lane,
        reason: Reason,
        frames: &mut impl Frames,
    ) -> Verdict {
        let error = match reason {
            Reason::NoServer | Reason::NoConnection => icmp::Error::PortUnreachable,
            Reason::NoRoute if lane.direction == Direction::In => icmp::Error::HostUnreachable,
            _ => return Verdict::Drop(reason),
        };
        self.reply(moment, error, frames.head(lane.at), lane.segment.destination.address());
        Verdict::Drop(reason)
    }

    /// Refuses a client's packet whose time to live has ended or that is longer than `mtu`. The error comes from the
    /// virtual service and quotes the packet as the client knows it. About a packet that is too long it shows the
    /// time to live decremented, as the kernel does.
    #[cold]
    pub(super) fn refuse_client(
        &mut self,
        moment: &Moment<'_>,
        lane: &Lane,
        mtu: u16,
        frames: &mut impl Frames,
    ) -> Verdict {
        let from = lane.segment.destination.address();
        let head = frames.head(lane.at);
        if lane.segment.ttl <= 1 {
            self.reply(moment, icmp::Error::TimeExceeded, head, from);
            return Verdict::Drop(Reason::TtlExceeded);
        }
        decrement_ttl(head);
        // Nobody makes IPv6 packets shorter than what every link takes (RFC 8200, section 5); a tunnel may have less
        // room.
        if !lane.client.is_v6() || mtu >= LEAST_V6 {
            self.reply(moment, icmp::Error::FragmentationNeeded(mtu), head, from);
        }
        Verdict::Drop(Reason::TooBig)
    }

    /// The same for a server's packet: the error comes from the port's own address and quotes the packet as it came.
    #[cold]
    pub(super) fn refuse_server(
        &mut self,
        moment: &Moment<'_>,
        lane: &Lane,
        mtu: u16,
        frames: &mut impl Frames,
    ) -> Verdict {
        let (error, reason) = if lane.segment.ttl <= 1 {
            (icmp::Error::TimeExceeded, Reason::TtlExceeded)
        } else {
            (icmp::Error::FragmentationNeeded(mtu), Reason::TooBig)
        };
        self.reply(moment, error, frames.head(lane.at), moment.port.address_for(lane.client));
        Verdict::Drop(reason)
    }

    /// Refuses a server's packet without a way to the client. Without a route the server is told so: "network
    /// unreachable", or in IPv4 "host unreachable" if it is a route that says so.
    #[cold]
    pub(super) fn no_way_out(
        &mut self,
        moment: &Moment<'_>,
        lane: &Lane,
        reason: Reason,
        frames: &mut impl Frames,
    ) -> Verdict {
        if reason == Reason::NoRoute {
            let error = match moment.snapshot.fib.route(lane.segment.destination.address()) {
                Some(_) if !lane.client.is_v6() => icmp::Error::HostUnreachable,
                _ => icmp::Error::NetworkUnreachable,
            };
            self.reply(moment, error, frames.head(lane.at), moment.port.address_for(lane.client));
        }
        Verdict::Drop(reason)
    }

    /// Sends an error to the sender of a frame, from an address of the director's, back the way the frame came and as
    /// often as the rate limit allows.
    pub(super) fn reply(&mut self, moment: &Moment<'_>, error: icmp::Error, frame: &[u8], from: Address) {
        let Some((header, packet)) = frame.split_first_chunk::<HEADER>() else { return };
        let [.., a, b, c, d, e, f, _, _] = *header;
        let back = Back { port: moment.port_number, to: Mac([a, b, c, d, e, f]), from: moment.port.mac };
        self.answer(moment, error, packet, from, &back);
    }

    /// Sends an error to the sender of an IP packet by a way to it, likewise; not if the MAC address of the next hop
    /// is unknown.
    pub(super) fn reply_by(
        &mut self,
        moment: &Moment<'_>,
        error: icmp::Error,
        packet: &[u8],
        from: Address,
        way: &Way<'_>,
    ) {
        let Some(to) = way.link.mac.filter(|_| way.out.up) else { return };
        self.answer(moment, error, packet, from, &Back { port: way.link.port, to, from: way.out.mac });
    }

    fn answer(&mut self, moment: &Moment<'_>, error: icmp::Error, packet: &[u8], from: Address, back: &Back) {
        let Refusals { limiter, replies, identification } = &mut self.refusals;
        let Some((source, _)) = icmp::ends(packet) else { return };
        // As in Linux, a sender to whom no route leads is not told.
        let has_way = moment.snapshot.fib.hop(source).is_some();
        if from.is_unspecified() || !has_way || replies.len() == replies.capacity() {
            return;
        }
        let Snapshot { icmp_limits, fib, .. } = moment.snapshot;
        if !limiter.allows(icmp_limits, fib, error, source, moment.milliseconds) {
            return;
        }
        let mut body = [0; MAX_ERROR];
        *identification = identification.wrapping_add(1);
        let length = icmp::error(error, packet, from, *identification, &mut body);
        if length == 0 {
            return;
        }
        let mut bytes = [0; HEADER + MAX_ERROR];
        set_macs(&mut bytes, back.to, back.from);
        bytes[12..14].copy_from_slice(&ether_type::of(body[0]));
        bytes[HEADER..].copy_from_slice(&body);
        replies.push(Reply { port: back.port, length: HEADER + length, bytes });
    }
}

/// Decrements the time to live, or the hop limit, of a packet that is not translated.
pub(super) fn decrement_ttl(frame: &mut [u8]) {
    let Some(ip) = frame.get_mut(HEADER..).and_then(|packet| packet.first_chunk_mut::<20>()) else { return };
    if ip[0] >> 4 == 6 {
        ip[7] = ip[7].wrapping_sub(1);
        return;
    }
    ip[8] = ip[8].wrapping_sub(1);
    [ip[10], ip[11]] = Delta::TTL_DECREMENT.apply([ip[10], ip[11]]);
}
