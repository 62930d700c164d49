//! ICMP errors about packets of connections: translated outside and inside.
//!
//! A router or a server that cannot deliver a translated packet quotes it as it saw it. Whoever sent the
//! packet must find in the quotation what it sent, or it cannot tell which connection is meant (RFC 5508,
//! section 4.2); without that no path MTU is ever discovered through the director. As IPVS does:
//! destination unreachable, source quench and time exceeded are translated, both ways; they count as
//! packets of the connection, and neither its state nor its timer learns of them.

use director_packet::checksum::{Delta, Sum, checksum};
use director_packet::ethernet::{HEADER, ether_type};
use director_packet::header::Ipv4;
use director_packet::ipip::IPIP;
use director_packet::{Address, Endpoint, ICMP, SCTP, TCP, UDP};
use zerocopy::FromBytes;

use super::tables::{Made, Whose};
use super::unknown::may_be_a_client;
use super::{Core, Frames, Moment, Verdict, Way};
use crate::entry::Entry;
use crate::reason::Reason;
use crate::state::{Direction, State};

/// The length of an ICMP header, in bytes.
const ICMP_HEADER: usize = 8;

/// Of the transport header the two ports; RFC 792 has every ICMP error quote 8 bytes of it, the kernel asks for 4.
const QUOTED_TRANSPORT: usize = 4;

/// ICMP types that are translated: destination unreachable, source quench, time exceeded.
const TRANSLATED: [u8; 3] = [3, 4, 11];

/// An ICMP error that quotes a TCP segment, UDP datagram or SCTP packet.
pub(super) struct Related {
    /// Where the quoting packet goes.
    pub(super) destination: Address,
    /// Its time to live.
    pub(super) ttl: u8,
    /// Its length, in bytes.
    pub(super) length: u16,
    /// Where, in the frame, its ICMP header begins.
    pub(super) icmp: usize,
    /// Where the quoted packet begins.
    pub(super) quoted: usize,
    /// The server of the tunnel, if the quoted packet was in one.
    tunnel: Option<Address>,
    /// Where the quoted transport header begins.
    transport: usize,
    pub(super) protocol: u8,
    pub(super) quoted_source: Endpoint,
    pub(super) quoted_destination: Endpoint,
}

impl Related {
    /// Looks for one in a frame whose headers, up to its own IPv4 header, were found to be in order.
    fn find(frame: &[u8]) -> Option<Self> {
        let packet = frame.get(HEADER..)?;
        let (outer, _) = Ipv4::ref_from_prefix(packet).ok()?;
        if outer.protocol != ICMP || outer.fragment.get() & Ipv4::IS_FRAGMENT != 0 {
            return None;
        }
        let icmp = HEADER + outer.header_length();
        let end = HEADER + usize::from(outer.length.get());
        let message = frame.get(icmp..end.min(frame.len()))?;
        if !TRANSLATED.contains(message.first()?) {
            return None;
        }
        let mut start = ICMP_HEADER;
        let (mut inner, _) = Ipv4::ref_from_prefix(message.get(start..)?).ok()?;
        let mut tunnel = None;
        if inner.protocol == IPIP && inner.fragment.get() & 0x1fff == 0 {
            tunnel = Some(Address::V4(inner.destination.get()));
            start += inner.header_length();
            inner = Ipv4::ref_from_prefix(message.get(start..)?).ok()?.0;
        }
        let quoted = message.get(start..)?;
        let header = inner.header_length();
        let is_first = inner.fragment.get() & 0x1fff == 0;
        let is_ours = [TCP, UDP, SCTP].contains(&inner.protocol);
        if inner.version_and_length >> 4 != 4 || header < 20 || !is_first || !is_ours {
            return None;
        }
        let ports = quoted.get(header..header + QUOTED_TRANSPORT)?;
        let port = |at: usize| u16::from_be_bytes([ports[at], ports[at + 1]]);
        Some(Self {
            destination: Address::V4(outer.destination.get()),
            ttl: outer.ttl,
            length: outer.length.get(),
            icmp,
            quoted: icmp + start,
            tunnel,
            transport: icmp + start + header,
            protocol: inner.protocol,
            quoted_source: Endpoint::v4(inner.source.get(), port(0)),
            quoted_destination: Endpoint::v4(inner.destination.get(), port(2)),
        })
    }

    /// The whole ICMP message; none if part of it lies elsewhere.
    fn message<'a>(&self, frame: &'a mut [u8]) -> Option<&'a mut [u8]> {
        frame.get_mut(self.icmp..HEADER + usize::from(self.length))
    }

    /// Whether the ICMP message is all there, and its checksum right.
    pub(super) fn verify(&self, frame: &mut [u8]) -> Result<(), Reason> {
        let message = self.message(frame).ok_or(Reason::ScatteredHeaders)?;
        let mut sum = Sum::default();
        sum.add(message);
        if sum.is_right() { Ok(()) } else { Err(Reason::IcmpChecksum) }
    }

    /// Replaces the quoted end that the entry replaced, and the end of the quoting packet that shows it.
    fn translate(&self, frame: &mut [u8], direction: Direction, from: Endpoint, to: Endpoint) {
        let (Endpoint::V4(from), Endpoint::V4(to)) = (from, to) else { return };
        let address = Delta::of_u32(from.address(), to.address());
        let transport = address.and(Delta::of_u16(from.port(), to.port()));
        // The quoted packet went the other way: its source is what the answer's destination is.
        let (outer_at, quoted_at, port_at) = match direction {
            Direction::In => (16, 12, 0),
            Direction::Out => (12, 16, 2),
        };
        let quoted = self.quoted;
        let old = u32_at(frame, HEADER + outer_at);
        put(frame, HEADER + outer_at, &to.address().to_be_bytes());
        if let Some(ttl) = frame.get_mut(HEADER + 8) {
            *ttl = ttl.wrapping_sub(1);
        }
        adjust(frame, HEADER + 10, Delta::of_u32(old, to.address()).and(Delta::TTL_DECREMENT));
        put(frame, quoted + quoted_at, &to.address().to_be_bytes());
        adjust(frame, quoted + 10, address);
        put(frame, self.transport + port_at, &to.port().to_be_bytes());
        // The quoted checksum of TCP may have been cut off, that of UDP may not be in use. That of SCTP, of a packet
        // that is not all there, nobody can check.
        let at = self.transport + if self.protocol == TCP { 16 } else { 6 };
        let end = HEADER + usize::from(self.length);
        let field = frame.get_mut(at..end).and_then(|bytes| bytes.first_chunk_mut::<2>());
        match field {
            Some(field) if self.protocol == TCP => *field = transport.apply(*field),
            Some(field) if self.protocol == UDP && *field != [0, 0] => *field = transport.apply_udp(*field),
            _ => {}
        }
        if let Some(message) = self.message(frame) {
            message[2..4].fill(0);
            let sum = checksum(message);
            message[2..4].copy_from_slice(&sum);
        }
    }
}

fn u32_at(frame: &[u8], at: usize) -> u32 {
    frame.get(at..).and_then(|bytes| bytes.first_chunk::<4>()).map_or(0, |bytes| u32::from_be_bytes(*bytes))
}

fn put(frame: &mut [u8], at: usize, bytes: &[u8]) {
    if let Some(place) = frame.get_mut(at..at + bytes.len()) {
        place.copy_from_slice(bytes);
    }
}

/// Brings a checksum field up to date.
fn adjust(frame: &mut [u8], at: usize, delta: Delta) {
    if let Some(field) = frame.get_mut(at..).and_then(|bytes| bytes.first_chunk_mut::<2>()) {
        *field = delta.apply(*field);
    }
}

impl Core {
    /// Translates an ICMP error about a packet of a connection. None: the frame is something else.
    #[cold]
    pub(super) fn related(
        &mut self,
        moment: &Moment<'_>,
        at: usize,
        frames: &mut impl Frames,
    ) -> Option<Verdict> {
        let frame = frames.head(at);
        let header = frame.first_chunk::<HEADER>()?;
        let is_ours = header[..6] == moment.port.mac.0 && header[12..] == ether_type::IPV4;
        if moment.snapshot.is_off() || !is_ours {
            return None;
        }
        let related = Related::find(frame)?;
        if let Some(server) = related.tunnel {
            return self.tunnel_error(moment, &related, server, frame);
        }
        // A client's error quotes what the virtual service sent it; a server's, what the client sent.
        let (direction, client, other) = if moment.snapshot.is_local(related.destination) {
            (Direction::In, related.quoted_destination, related.quoted_source)
        } else {
            (Direction::Out, related.quoted_source, related.quoted_destination)
        };
        let whose = Whose { client, other, protocol: related.protocol, direction };
        let entry = match self.local.find(moment, whose) {
            Some(entry) => entry,
            None => match self.schedule_related(moment, &related, whose, frame)? {
                Ok(entry) => entry,
                Err(reason) => return Some(Verdict::Drop(reason)),
            },
        };
        if direction == Direction::Out && related.destination != client.address() {
            return None;
        }
        if entry.stand_in().is_some() {
            return None;
        }
        self.held[at] = None;
        if entry.forward().is_one_sided() {
            return Some(self.pass_related(moment, at, &related, entry, frames));
        }
        Some(self.forward_related(moment, &related, direction, entry, frame))
    }

    /// Under `schedule_icmp`, a client's error about a connection that is not known makes an entry of it. None: it is
    /// the kernel's, as without.
    fn schedule_related<'a>(
        &mut self,
        moment: &Moment<'a>,
        related: &Related,
        whose: Whose,
        frame: &mut [u8],
    ) -> Option<Result<Entry<'a>, Reason>> {
        let snapshot = moment.snapshot;
        if !snapshot.sysctls.schedule_icmp || whose.direction == Direction::Out {
            return None;
        }
        let client = whose.client.address();
        let service = snapshot.service(client, whose.other, related.protocol)?;
        if let Err(reason) = related.verify(frame) {
            return Some(Err(reason));
        }
        if !may_be_a_client(snapshot, client) {
            return Some(Err(Reason::MartianSource));
        }
        if moment.shared.drops_one(&snapshot.sysctls) {
            return Some(Err(Reason::DropPacket));
        }
        // About an ICMP error no ICMP error is sent: where there is no server nobody is told.
        let made = self.insert(moment, service, whose, State::None, None);
        Some(made.map(|(Made::New(entry) | Made::Existing(entry))| entry))
    }

    fn forward_related(
        &mut self,
        moment: &Moment<'_>,
        related: &Related,
        direction: Direction,
        entry: Entry<'_>,
        frame: &mut [u8],
    ) -> Verdict {
        if direction == Direction::Out && !moment.snapshot.forwards(entry.client()) {
            return Verdict::Drop(Reason::ForwardingOff);
        }
        if let Err(reason) = related.verify(frame) {
            return Verdict::Drop(reason);
        }
        let way = match Way::of(moment, entry, direction) {
            Ok(way) => way,
            Err(reason) => return Verdict::Drop(reason),
        };
        // About an ICMP error no ICMP error is sent (RFC 1122, section 3.2.2).
        if related.ttl <= 1 {
            return Verdict::Drop(Reason::TtlExceeded);
        }
        if related.length > way.out.mtu {
            return Verdict::Drop(Reason::TooBig);
        }
        moment.shared.servers.count(self.local.id(), entry.slot(), direction, related.length);
        let (service, server) = (entry.service(), entry.server());
        match direction {
            Direction::In => related.translate(frame, direction, service, server),
            Direction::Out => related.translate(frame, direction, server, service),
        }
        way.take(frame)
    }
}
