//! Packets whose transport header is cut short, or in SCTP has no chunk behind it. As in IPVS, those of a connection
//! are counted (except a server's that are dropped), restart its timer, and are forwarded if none of the missing
//! bytes would have to be translated.

use director_packet::ethernet::HEADER;
use director_packet::header::{Ipv4, Ipv6};
use director_packet::{Endpoint, SCTP, Segment, UDP, icmp, ipv6};
use zerocopy::FromBytes;

use super::{Core, Frames, Lane, Moment, Verdict, Way};
use crate::entry::Entry;
use crate::reason::Reason;
use crate::service::Forward;
use crate::state::Direction;

/// The length of SCTP's header before the first chunk, in bytes. Only this part is translated.
const SCTP_HEADER: u16 = 12;

impl Core {
    /// A packet whose headers, up to that of IP, are in order.
    #[cold]
    pub(super) fn cut_short(&mut self, moment: &Moment<'_>, at: usize, frames: &mut impl Frames) -> Verdict {
        let cut = Verdict::Drop(Reason::MalformedTransport);
        let Some((segment, has_ports)) = beginning(frames.head(at)) else { return cut };
        if moment.snapshot.is_off(segment.source.is_v6()) {
            return Verdict::Kernel;
        }
        let lane = Lane::new(moment.snapshot, at, segment);
        let entry = if has_ports { self.local.find(moment, lane.whose()) } else { None };
        let Some(entry) = entry else {
            // A packet to another address is forwarded by the kernel.
            return match lane.direction {
                Direction::In => cut,
                Direction::Out if has_ports => self.nobodys(moment, &lane, frames),
                Direction::Out => Verdict::Kernel,
            };
        };
        if lane.direction == Direction::In && moment.shared.servers.is_gone(entry.slot()) {
            if moment.snapshot.sysctls.expire_nodest_conn {
                self.local.kill(entry);
                return cut;
            }
            return Verdict::Drop(Reason::ServerGone);
        }
        let way = Way::of(moment, entry, lane.direction);
        if lane.direction == Direction::Out {
            // A kept way tells `steady` that there was an answer.
            entry.forget_way(lane.direction);
            if let Some(verdict) = self.hindered(moment, &lane, &way, frames) {
                return verdict;
            }
        }
        // UDP has only one state, whatever the datagram says.
        let is_live =
            if segment.protocol == UDP { self.advance(moment, &lane, entry) } else { touch(moment, entry) };
        let load = entry.load(lane.direction);
        let is_whole = segment.protocol == SCTP && segment.length - segment.header >= SCTP_HEADER
            || load.forward != Forward::Masquerading;
        if !is_live || !is_whole && lane.direction == Direction::Out {
            return cut;
        }
        match self.carry(moment, &lane, load, way, frames) {
            Verdict::Drop(reason) => Verdict::Drop(reason),
            verdict if is_whole => verdict,
            _ => cut,
        }
    }
}

/// Restarts an entry's timer, its state being what it is. False: the entry has just died.
pub(super) fn touch(moment: &Moment<'_>, entry: Entry<'_>) -> bool {
    let mut clock = entry.clock();
    while !clock.is_dead() {
        // Another worker's tick may be ahead of this one's.
        let seen = if moment.now.since(clock.seen()) > 0 { moment.now } else { clock.seen() };
        match entry.update(clock, clock.with_seen(seen)) {
            Ok(()) => return true,
            Err(found) => clock = found,
        }
    }
    false
}

/// What a packet says below its transport header, and whether it has ports.
pub(super) fn beginning(frame: &[u8]) -> Option<(Segment, bool)> {
    let packet = frame.get(HEADER..)?;
    let (source, destination) = icmp::ends(packet)?;
    let (protocol, header, length, ttl) = if packet.first()? >> 4 == 4 {
        let (ip, _) = Ipv4::ref_from_prefix(packet).ok()?;
        // At most 60.
        (ip.protocol, ip.header_length() as u16, ip.length.get(), ip.ttl)
    } else {
        let (ip, _) = Ipv6::ref_from_prefix(packet).ok()?;
        let length = u16::try_from(ipv6::HEADER + usize::from(ip.length.get())).ok()?;
        let upper = ipv6::upper(packet)?;
        (upper.protocol, upper.at, length, ip.hop_limit)
    };
    let data = packet.get(usize::from(header)..usize::from(length).min(packet.len()))?;
    let ports =
        data.first_chunk().map(|&[a, b, c, d]| (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])));
    let (from, to) = ports.unwrap_or_default();
    let (source, destination) = (Endpoint::of(source, from), Endpoint::of(destination, to));
    Some((Segment { source, destination, length, protocol, flags: 0, header, ttl }, ports.is_some()))
}
