//! ICMP errors that quote a packet: what they quote, and their translation outside and inside.
//!
//! Of IPv4 (RFC 792) those are read that NAT translates (RFC 5508, section 4.2): destination unreachable, source quench
//! and time exceeded; of IPv6 (RFC 4443) all errors.

use zerocopy::FromBytes;

use crate::checksum::{Delta, Sum, pseudo_header};
use crate::ethernet::HEADER;
use crate::header::{Ipv4, Ipv6};
use crate::ipip::{IPIP, IPV6};
use crate::{Address, Endpoint, ICMP, ICMPV6, SCTP, TCP, UDP, ipv6, is_ipsec, options};

/// The length of an ICMP header, in bytes.
const ICMP_HEADER: usize = 8;

/// Of the transport header the two ports; RFC 792 has every ICMP error quote 8 bytes of it, the kernel asks for 4.
const QUOTED_TRANSPORT: usize = 4;

/// ICMP types that are translated: destination unreachable, source quench, time exceeded.
const TRANSLATED: [u8; 3] = [3, 4, 11];

/// Types of ICMPv6 from this one on are no errors (RFC 4443, section 2.1).
const INFORMATIONAL: u8 = 128;

/// An ICMP error that quotes a TCP segment, UDP datagram or SCTP packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Related {
    /// Where the quoting packet goes.
    pub destination: Address,
    /// Its time to live, or hop limit.
    pub ttl: u8,
    /// Its length, in bytes.
    pub length: u16,
    /// Of the quoted packet: [`TCP`], [`UDP`], [`SCTP`] or [one of IPsec](is_ipsec), which has no ports.
    pub protocol: u8,
    /// Where it came from.
    pub quoted_source: Endpoint,
    /// Where it went.
    pub quoted_destination: Endpoint,
    /// The server of the tunnel, if the quoted packet was in one (RFC 2003, RFC 2473).
    pub tunnel: Option<Address>,
    /// Where, in the frame, the ICMP header begins.
    pub icmp: usize,
    /// Where the quoted packet begins.
    pub quoted: usize,
    /// Where the quoted transport header begins.
    transport: usize,
}

/// Which end of the quoting packet the translation replaces. It is the other one of the quoted packet, which went the
/// other way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shown {
    /// Its source.
    Source,
    /// Its destination.
    Destination,
}

/// An ICMP error that is not translated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NotTranslated {
    /// Part of it lies elsewhere.
    Scattered,
    /// Its checksum is wrong.
    Checksum,
}

impl Related {
    /// Looks for one in a frame of IP whose headers, up to its IP header, were found to be in order.
    #[must_use]
    pub fn find(frame: &[u8]) -> Option<Self> {
        let packet = frame.get(HEADER..)?;
        match packet.first()? >> 4 {
            4 => Self::find_v4(packet),
            6 => Self::find_v6(packet),
            _ => None,
        }
    }

    fn find_v4(packet: &[u8]) -> Option<Self> {
        let (outer, _) = Ipv4::ref_from_prefix(packet).ok()?;
        if outer.protocol != ICMP || outer.fragment.get() & Ipv4::IS_FRAGMENT != 0 {
            return None;
        }
        let icmp = outer.header_length();
        if options::are_the_kernels(packet.get(..icmp)?) {
            return None;
        }
        let message = packet.get(icmp..usize::from(outer.length.get()).min(packet.len()))?;
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
        if inner.version_and_length >> 4 != 4 || header < 20 || !is_first {
            return None;
        }
        let ends = (Address::V4(inner.source.get()), Address::V4(inner.destination.get()));
        let this = Self::of(quoted, header, inner.protocol, ends)?;
        Some(Self {
            destination: Address::V4(outer.destination.get()),
            ttl: outer.ttl,
            length: outer.length.get(),
            tunnel,
            icmp: HEADER + icmp,
            quoted: HEADER + icmp + start,
            transport: HEADER + icmp + start + header,
            ..this
        })
    }

    fn find_v6(packet: &[u8]) -> Option<Self> {
        let (outer, _) = Ipv6::ref_from_prefix(packet).ok()?;
        let length = u16::try_from(ipv6::HEADER + usize::from(outer.length.get())).ok()?;
        let packet = packet.get(..usize::from(length)).unwrap_or(packet);
        let upper =
            ipv6::upper(packet).filter(|upper| upper.protocol == ICMPV6 && upper.fragment.is_none())?;
        let icmp = usize::from(upper.at);
        let message = packet.get(icmp..)?;
        if *message.first()? >= INFORMATIONAL {
            return None;
        }
        let mut start = ICMP_HEADER;
        let mut quoted = message.get(start..)?;
        let mut inner = Ipv6::ref_from_prefix(quoted).ok()?.0;
        let mut above = ipv6::upper(quoted)?;
        let mut tunnel = None;
        if above.protocol == IPV6 && above.fragment.is_none_or(|fragment| fragment.offset == 0) {
            tunnel = Some(Address::V6(inner.destination.get()));
            start += usize::from(above.at);
            quoted = message.get(start..)?;
            inner = Ipv6::ref_from_prefix(quoted).ok()?.0;
            above = ipv6::upper(quoted)?;
        }
        let is_first = above.fragment.is_none_or(|fragment| fragment.offset == 0);
        if inner.version_class_flow.get() >> 28 != 6 || !is_first {
            return None;
        }
        let header = usize::from(above.at);
        let ends = (Address::V6(inner.source.get()), Address::V6(inner.destination.get()));
        let this = Self::of(quoted, header, above.protocol, ends)?;
        Some(Self {
            destination: Address::V6(outer.destination.get()),
            ttl: outer.hop_limit,
            length,
            tunnel,
            icmp: HEADER + icmp,
            quoted: HEADER + icmp + start,
            transport: HEADER + icmp + start + header,
            ..this
        })
    }

    /// What the quoted packet says; the rest is left open.
    fn of(quoted: &[u8], header: usize, protocol: u8, ends: (Address, Address)) -> Option<Self> {
        if ![TCP, UDP, SCTP].contains(&protocol) && !is_ipsec(protocol) {
            return None;
        }
        let [a, b, c, d] = *quoted.get(header..)?.first_chunk::<QUOTED_TRANSPORT>()?;
        Some(Self {
            destination: ends.0,
            ttl: 0,
            length: 0,
            protocol,
            quoted_source: Endpoint::of(ends.0, u16::from_be_bytes([a, b])),
            quoted_destination: Endpoint::of(ends.1, u16::from_be_bytes([c, d])),
            tunnel: None,
            icmp: 0,
            quoted: 0,
            transport: 0,
        })
    }

    /// The sum of the pseudo-header, if the message has one, and the whole ICMP message. None if part of it lies
    /// elsewhere.
    fn sum(&self, frame: &[u8]) -> Option<Sum> {
        let end = HEADER + usize::from(self.length);
        let message = frame.get(self.icmp..end)?;
        let mut sum = match self.destination {
            Address::V4(_) => Sum::default(),
            // No longer than the packet.
            Address::V6(_) => pseudo_header(frame.get(HEADER..)?, ICMPV6, message.len() as u16)?,
        };
        sum.add(message);
        Some(sum)
    }

    /// Whether the ICMP message is all there, and its checksum right.
    ///
    /// # Errors
    ///
    /// [`NotTranslated`] says which of both is not so.
    pub fn verify(&self, frame: &[u8]) -> Result<(), NotTranslated> {
        let sum = self.sum(frame).ok_or(NotTranslated::Scattered)?;
        if sum.is_right() { Ok(()) } else { Err(NotTranslated::Checksum) }
    }

    /// Replaces the quoted end by `to`, of the packet's family, and the end of the quoting packet that shows it, whatever
    /// it is; decrements the time to live. As in Linux the quoted checksum of TCP or UDP stays as it was:
    /// nobody can check it, where the quotation is cut off.
    pub fn translate(&self, frame: &mut [u8], shown: Shown, to: Endpoint) {
        let quoted = self.quoted;
        match (self.destination, to.address()) {
            (Address::V4(_), Address::V4(to)) => {
                let (outer_at, quoted_at) = if shown == Shown::Source { (12, 16) } else { (16, 12) };
                let old = u32_at(frame, HEADER + outer_at);
                put(frame, HEADER + outer_at, &to.to_be_bytes());
                decrement(frame, HEADER + 8);
                adjust(frame, HEADER + 10, Delta::of_u32(old, to).and(Delta::TTL_DECREMENT));
                let before = u32_at(frame, quoted + quoted_at);
                put(frame, quoted + quoted_at, &to.to_be_bytes());
                adjust(frame, quoted + 10, Delta::of_u32(before, to));
            }
            (Address::V6(_), Address::V6(to)) => {
                let (outer_at, quoted_at) = if shown == Shown::Source { (8, 24) } else { (24, 8) };
                put(frame, HEADER + outer_at, &to.to_be_bytes());
                decrement(frame, HEADER + 7);
                put(frame, quoted + quoted_at, &to.to_be_bytes());
            }
            _ => return,
        }
        if !is_ipsec(self.protocol) {
            let port_at = if shown == Shown::Source { 2 } else { 0 };
            put(frame, self.transport + port_at, &to.port().to_be_bytes());
        }
        put(frame, self.icmp + 2, &[0, 0]);
        if let Some(sum) = self.sum(frame) {
            put(frame, self.icmp + 2, &sum.checksum());
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

fn decrement(frame: &mut [u8], at: usize) {
    if let Some(hops) = frame.get_mut(at) {
        *hops = hops.wrapping_sub(1);
    }
}

/// Brings a checksum field up to date.
fn adjust(frame: &mut [u8], at: usize, delta: Delta) {
    if let Some(field) = frame.get_mut(at..).and_then(|bytes| bytes.first_chunk_mut::<2>()) {
        *field = delta.apply(*field);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::icmp::{Error, MAX_ERROR, error};
    use etherparse::{Icmpv6Slice, Ipv6Slice, PacketBuilder};

    fn packet(source: Endpoint, destination: Endpoint, tcp: bool, payload: &[u8]) -> Vec<u8> {
        let bytes = |end: Endpoint| match end.address() {
            Address::V6(address) => address.to_be_bytes(),
            Address::V4(_) => panic!("of IPv4"),
        };
        let start = PacketBuilder::ipv6(bytes(source), bytes(destination), 60);
        let mut packet = Vec::new();
        if tcp {
            start.tcp(source.port(), destination.port(), 1, 1).write(&mut packet, payload).unwrap();
        } else {
            start.udp(source.port(), destination.port()).write(&mut packet, payload).unwrap();
        }
        packet
    }

    #[test]
    fn an_error_over_ipv6_about_what_was_sent() {
        // The client's packet reached the server translated, and a router there says that it is too big.
        bolero::check!().with_type::<(u128, u128, u128, [u16; 3], bool, u8)>().cloned().for_each(
            |(client, vip, server, [a, b, c], tcp, length)| {
                let client = Endpoint::v6(client | 2 | 1 << 126, a);
                let (vip, server) = (Endpoint::v6(vip, b), Endpoint::v6(server, c));
                let payload = vec![7; usize::from(length)];
                let router = 0xfd << 120 | 9;
                let frame = |quoted: &[u8]| {
                    let mut out = [0; MAX_ERROR];
                    let what = Error::FragmentationNeeded(1280);
                    let length = error(what, quoted, Address::V6(router), 0, &mut out);
                    [&[0; HEADER][..], &out[..length]].concat()
                };
                let Address::V6(host) = client.address() else { return };
                if host >> 120 == 0xff {
                    return;
                }
                let mut told = frame(&packet(client, server, tcp, &payload));
                let related = Related::find(&told).unwrap();
                assert_eq!((related.quoted_source, related.quoted_destination), (client, server));
                assert_eq!((related.destination, related.ttl), (client.address(), 64));
                assert_eq!(related.verify(&told), Ok(()));
                related.translate(&mut told, Shown::Source, vip);
                assert_eq!(related.verify(&told), Ok(()));
                let ip = Ipv6Slice::from_slice(&told[HEADER..]).unwrap();
                let header = ip.header().to_header();
                assert_eq!(header.hop_limit, 63);
                assert_eq!(Address::V6(u128::from_be_bytes(header.source)), vip.address());
                let icmp = Icmpv6Slice::from_slice(ip.payload().payload).unwrap();
                let sum = icmp.icmp_type().calc_checksum(header.source, header.destination, icmp.payload());
                assert_eq!(icmp.checksum() % 0xffff, sum.unwrap() % 0xffff);
                assert_eq!(icmp.bytes5to8(), [0, 0, 5, 0]);
                // What the client finds quoted is what it sent, but for the checksum.
                let (found, sent) = (icmp.payload(), packet(client, vip, tcp, &payload));
                let sum = if tcp { 56..58 } else { 46..48 };
                assert_eq!(found[..sum.start], sent[..sum.start]);
                assert_eq!(found[sum.clone()], packet(client, server, tcp, &payload)[sum.clone()]);
                assert_eq!(found[sum.end..], sent[sum.end..]);
                // And one that was damaged on the way.
                told[HEADER + 41] ^= 1;
                assert_eq!(related.verify(&told), Err(NotTranslated::Checksum));
                let short = told.len() - 1;
                assert_eq!(related.verify(&told[..short]), Err(NotTranslated::Scattered));
            },
        );
    }

    #[test]
    fn what_is_none() {
        let (client, vip) = (Endpoint::v6(1 << 126, 1), Endpoint::v6(2 << 120, 2));
        let mut out = [0; MAX_ERROR];
        let length =
            error(Error::PortUnreachable, &packet(client, vip, true, &[]), vip.address(), 0, &mut out);
        let frame = [&[0; HEADER][..], &out[..length]].concat();
        assert!(Related::find(&frame).is_some());
        let lie = |at: usize, value: u8| {
            let mut frame = frame.clone();
            frame[HEADER + at] = value;
            Related::find(&frame)
        };
        assert_eq!(lie(0, 0x50), None);
        assert_eq!(lie(6, 17), None, "no ICMP");
        assert_eq!(lie(40, 128), None, "an echo request");
        assert_eq!(lie(48, 0x40), None, "it quotes no IPv6");
        assert_eq!(lie(54, 47), None, "it quotes another protocol");
        assert_eq!(Related::find(&frame[..HEADER + 48 + 40 + 3]), None, "too little of it");
    }
}
