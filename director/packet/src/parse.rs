//! What a frame is, decided once.

use zerocopy::FromBytes;

use crate::ethernet::{self, Mac, ether_type};
use crate::header::{Ethernet, Ipv4, Ipv6, Sctp, Tcp, Udp};
use crate::sctp::{CHUNK_HEADER, Event};
use crate::tcp_flag::{RST, SYN};
use crate::{Address, Endpoint, ICMP, ICMPV6, SCTP, TCP, UDP, checksum, ipv6, is_ipsec, options};

/// A whole TCP segment, UDP datagram or SCTP packet in an IP packet, its headers checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Where it comes from.
    pub source: Endpoint,
    /// Where it goes.
    pub destination: Endpoint,
    /// The length of the IP packet in bytes.
    pub length: u16,
    /// [`TCP`], [`UDP`] or [`SCTP`].
    pub protocol: u8,
    /// TCP's control bits; 0 for UDP; the number of the [`Event`] for SCTP.
    pub flags: u8,
    /// The length of the IP header with its options or extensions, in bytes.
    pub header: u16,
    /// Time to live, or hop limit.
    pub ttl: u8,
}

impl Segment {
    /// Whether it asks for a new connection: a SYN of TCP, an INIT of SCTP.
    #[inline]
    #[must_use]
    pub const fn opens(&self) -> bool {
        match self.protocol {
            TCP => self.flags & SYN != 0,
            SCTP => self.flags == Event::Init as u8,
            _ => false,
        }
    }

    /// Whether it says that there is no such connection: a RST of TCP, an ABORT of SCTP.
    #[must_use]
    pub const fn resets(&self) -> bool {
        match self.protocol {
            TCP => self.flags & RST != 0,
            SCTP => self.flags == Event::Abort as u8,
            _ => false,
        }
    }
}

/// Why a frame is not what it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// Too short for an Ethernet header.
    Ethernet,
    /// No sane IPv4 header: version, header length or total length (RFC 1812, section 5.2.2).
    Ipv4,
    /// The checksum of the IPv4 header is wrong.
    Ipv4Checksum,
    /// No sane IPv6 header: version or length (RFC 8200, section 3).
    Ipv6,
    /// Too short for the transport header.
    Transport,
    /// The headers do not lie in the first segment of the buffer.
    Scattered,
}

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// A TCP segment, UDP datagram or SCTP packet for this port.
    Segment(Segment),
    /// A fragment of such a packet, or of one of ICMP, which may be an error about such a packet.
    Fragment {
        /// Source address.
        source: Address,
        /// Destination address.
        destination: Address,
        /// [`TCP`], [`UDP`], [`SCTP`], [`ICMP`], [`ICMPV6`] or [one of IPsec](is_ipsec); of IPv6 also that of destination
        /// options.
        protocol: u8,
    },
    /// Anything else for this port: another protocol, a broadcast, a tagged frame; a packet of which its sender may have to
    /// be told what is wrong with its options or its extension headers.
    Other,
    /// A frame for another station.
    OtherHost,
    /// No such packet as it claims to be.
    Malformed(Malformed),
}

/// Decides what a frame is: `head` is its first contiguous part, `total` its whole length, `mac` the
/// address of the port it came in on.
#[inline]
#[must_use]
pub fn parse(head: &[u8], total: usize, mac: Mac) -> Verdict {
    match plain(head, total, mac) {
        Some(segment) => Verdict::Segment(segment),
        None => rest(head, total, mac),
    }
}

/// The frame nearly every frame is: no options, no fragment, all of it in order.
#[inline]
fn plain(head: &[u8], total: usize, mac: Mac) -> Option<Segment> {
    let start: &[u8; 54] = head.first_chunk()?;
    let (ethernet, packet) = Ethernet::read_from_prefix(start).ok()?;
    let ip = packet.first_chunk::<20>()?;
    let (header, transport) = Ipv4::ref_from_prefix(packet).ok()?;
    let tcp = Tcp::ref_from_bytes(transport).ok()?;
    let length = header.length.get();
    let least = match header.protocol {
        TCP => 40,
        UDP => 28,
        _ => return None,
    };
    let fits = length >= least && usize::from(length) + ethernet::HEADER <= total;
    let whole = header.fragment.get() & Ipv4::IS_FRAGMENT == 0;
    if !(ethernet.destination == mac.0
        && ethernet.ether_type == ether_type::IPV4
        && header.version_and_length == 0x45
        && fits
        && whole
        && checksum::header_is_right(ip))
    {
        return None;
    }
    Some(Segment {
        source: Endpoint::v4(header.source.get(), tcp.source.get()),
        destination: Endpoint::v4(header.destination.get(), tcp.destination.get()),
        length,
        protocol: header.protocol,
        flags: if header.protocol == TCP { tcp.flags } else { 0 },
        header: 20,
        ttl: header.ttl,
    })
}

/// Every other frame.
#[cold]
fn rest(head: &[u8], total: usize, mac: Mac) -> Verdict {
    let Ok((ethernet, packet)) = Ethernet::ref_from_prefix(head) else {
        return Verdict::Malformed(Malformed::Ethernet);
    };
    let destination = Mac(ethernet.destination);
    if destination.is_group() {
        return Verdict::Other;
    }
    if destination != mac {
        return Verdict::OtherHost;
    }
    let (available, contiguous) = (total - ethernet::HEADER, total == head.len());
    let parsed = match ethernet.ether_type {
        ether_type::IPV4 => ipv4(packet, available, contiguous),
        ether_type::IPV6 => ipv6(packet, available, contiguous),
        _ => return Verdict::Other,
    };
    match parsed {
        Ok(verdict) => verdict,
        Err(malformed) => Verdict::Malformed(malformed),
    }
}

/// An IPv4 packet of which `packet` is the part at hand; `available` bytes are left in the frame.
fn ipv4(packet: &[u8], available: usize, contiguous: bool) -> Result<Verdict, Malformed> {
    let short = |reason| if contiguous { reason } else { Malformed::Scattered };
    let (header, _) = Ipv4::ref_from_prefix(packet).map_err(|_| short(Malformed::Ipv4))?;
    let header_length = header.header_length();
    let length = usize::from(header.length.get());
    if header.version_and_length >> 4 != 4
        || header_length < 20
        || length < header_length
        || length > available
    {
        return Err(Malformed::Ipv4);
    }
    let (whole_header, transport) = packet.split_at_checked(header_length).ok_or(short(Malformed::Ipv4))?;
    let mut sum = checksum::Sum::default();
    sum.add(whole_header);
    if !sum.is_right() {
        return Err(Malformed::Ipv4Checksum);
    }
    if header_length > usize::from(options::LEAST) && options::are_the_kernels(whole_header) {
        return Ok(Verdict::Other);
    }
    let (source, destination) = (Address::V4(header.source.get()), Address::V4(header.destination.get()));
    let protocol = header.protocol;
    let is_known = [TCP, UDP, SCTP].contains(&protocol);
    let may_be_ours = is_known || protocol == ICMP || is_ipsec(protocol);
    if header.fragment.get() & Ipv4::IS_FRAGMENT != 0 && may_be_ours {
        return Ok(Verdict::Fragment { source, destination, protocol });
    }
    if !is_known {
        return Ok(Verdict::Other);
    }
    let (source_port, destination_port, flags) = ports(protocol, transport, length - header_length)?;
    Ok(Verdict::Segment(Segment {
        source: Endpoint::of(source, source_port),
        destination: Endpoint::of(destination, destination_port),
        length: header.length.get(),
        protocol,
        flags,
        // At most 60: four bits of words of four bytes.
        header: header_length as u16,
        ttl: header.ttl,
    }))
}

/// An IPv6 packet, likewise.
fn ipv6(packet: &[u8], available: usize, contiguous: bool) -> Result<Verdict, Malformed> {
    let short = |reason| if contiguous { reason } else { Malformed::Scattered };
    let (header, _) = Ipv6::ref_from_prefix(packet).map_err(|_| short(Malformed::Ipv6))?;
    let length = ipv6::HEADER + usize::from(header.length.get());
    if header.version_class_flow.get() >> 28 != 6 || length > available {
        return Err(Malformed::Ipv6);
    }
    // What is longer than any IPv4 packet, by its header at most, no port of Ethernet has; a jumbogram (RFC 2675), of
    // length 0, is nothing that is known here.
    let Ok(whole) = u16::try_from(length) else { return Ok(Verdict::Other) };
    let at_hand = packet.get(..length).unwrap_or(packet);
    if ipv6::has_wrong_options(at_hand) {
        return Ok(Verdict::Other);
    }
    let upper = match ipv6::upper(at_hand) {
        Some(upper) => upper,
        None if contiguous => return Ok(Verdict::Other),
        None => return Err(Malformed::Scattered),
    };
    let (source, destination) = (Address::V6(header.source.get()), Address::V6(header.destination.get()));
    let ipv6::Upper { protocol, at, fragment } = upper;
    let is_known = [TCP, UDP, SCTP].contains(&protocol);
    // What is behind options only the first fragment says, or the second.
    let may_be_ours =
        is_known || [ipv6::DESTINATION_OPTIONS, ICMPV6].contains(&protocol) || is_ipsec(protocol);
    if fragment.is_some() && may_be_ours {
        return Ok(Verdict::Fragment { source, destination, protocol });
    }
    if !is_known {
        return Ok(Verdict::Other);
    }
    let start = usize::from(at);
    let Some(data) = length.checked_sub(start) else { return Ok(Verdict::Other) };
    let transport = packet.get(start..).unwrap_or_default();
    let (source_port, destination_port, flags) = ports(protocol, transport, data)?;
    Ok(Verdict::Segment(Segment {
        source: Endpoint::of(source, source_port),
        destination: Endpoint::of(destination, destination_port),
        length: whole,
        protocol,
        flags,
        header: at,
        ttl: header.hop_limit,
    }))
}

/// The ports of a transport header and payload of `data` bytes, of which `transport` is the part at hand, and
/// [`Segment::flags`].
#[inline]
fn ports(protocol: u8, transport: &[u8], data: usize) -> Result<(u16, u16, u8), Malformed> {
    if protocol == TCP {
        if data < size_of::<Tcp>() {
            return Err(Malformed::Transport);
        }
        let (tcp, _) = Tcp::ref_from_prefix(transport).map_err(|_| Malformed::Scattered)?;
        Ok((tcp.source.get(), tcp.destination.get(), tcp.flags))
    } else if protocol == SCTP {
        // A packet without a chunk says nothing.
        if data < size_of::<Sctp>() + CHUNK_HEADER {
            return Err(Malformed::Transport);
        }
        let (sctp, chunks) = Sctp::ref_from_prefix(transport).map_err(|_| Malformed::Scattered)?;
        // What follows the packet is padding of the frame.
        let chunks = chunks.get(..data - size_of::<Sctp>()).unwrap_or(chunks);
        let event = Event::of_chunks(chunks).ok_or(Malformed::Scattered)?;
        Ok((sctp.source.get(), sctp.destination.get(), event as u8))
    } else {
        if data < size_of::<Udp>() {
            return Err(Malformed::Transport);
        }
        let (udp, _) = Udp::ref_from_prefix(transport).map_err(|_| Malformed::Scattered)?;
        Ok((udp.source.get(), udp.destination.get(), 0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::IpAddr;

    use crate::tcp_flag;
    use etherparse::PacketBuilder;

    const MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);
    const PEER: [u8; 6] = [2, 0, 0, 0, 0, 2];

    fn syn(payload: &[u8]) -> Vec<u8> {
        let builder = PacketBuilder::ethernet2(PEER, MAC.0)
            .ipv4([192, 168, 18, 10], [192, 168, 18, 58], 64)
            .tcp(2001, 8888, 7, 512)
            .syn();
        let mut frame = Vec::new();
        builder.write(&mut frame, payload).unwrap();
        frame
    }

    /// A datagram over IPv6 after destination options, of which this is what follows "next header".
    fn datagram_v6(options: &[u8]) -> Vec<u8> {
        let mut frame = Vec::new();
        PacketBuilder::ethernet2(PEER, MAC.0)
            .ipv6([0x20; 16], [0xfd; 16], 9)
            .udp(1, 2)
            .write(&mut frame, b"payload")
            .unwrap();
        frame[14 + 6] = 60;
        let length = 15 + 1 + options.len() as u16;
        frame[14 + 4..14 + 6].copy_from_slice(&length.to_be_bytes());
        frame.splice(14 + 40..14 + 40, [&[UDP], options].concat());
        frame
    }

    fn verdict(frame: &[u8]) -> Verdict {
        parse(frame, frame.len(), MAC)
    }

    #[test]
    fn a_segment() {
        let Verdict::Segment(segment) = verdict(&syn(b"hello")) else { panic!("not a segment") };
        assert_eq!(segment.source.to_string(), "192.168.18.10:2001");
        assert_eq!(segment.destination.to_string(), "192.168.18.58:8888");
        assert_eq!(
            (segment.protocol, segment.flags, segment.header, segment.ttl, segment.length),
            (TCP, tcp_flag::SYN, 20, 64, 45)
        );
    }

    #[test]
    fn a_short_datagram() {
        let mut frame = Vec::new();
        PacketBuilder::ethernet2(PEER, MAC.0)
            .ipv4([10, 0, 0, 1], [10, 0, 0, 2], 9)
            .udp(1, 2)
            .write(&mut frame, &[])
            .unwrap();
        let Verdict::Segment(segment) = verdict(&frame) else { panic!("not a segment") };
        assert_eq!((segment.protocol, segment.flags, segment.length), (UDP, 0, 28));
    }

    #[test]
    fn who_it_is_for() {
        let mut frame = syn(&[]);
        frame[5] = 9;
        assert_eq!(verdict(&frame), Verdict::OtherHost);
        frame[0] = 1;
        assert_eq!(verdict(&frame), Verdict::Other);
        assert_eq!(verdict(&frame[..13]), Verdict::Malformed(Malformed::Ethernet));
    }

    #[test]
    fn each_lie_has_its_name() {
        let lie = |at: usize, value: u8| {
            let mut frame = syn(&[]);
            frame[at] = value;
            // The checksum is made right again, so that it is not what is found wrong.
            frame[24..26].fill(0);
            let end = 14 + usize::from(frame[14] & 0xf).max(5) * 4;
            let sum = checksum::checksum(&frame[14..end.min(frame.len())]);
            frame[24..26].copy_from_slice(&sum);
            verdict(&frame)
        };
        assert_eq!(lie(14, 0x65), Verdict::Malformed(Malformed::Ipv4));
        assert_eq!(lie(14, 0x44), Verdict::Malformed(Malformed::Ipv4));
        assert_eq!(lie(14, 0x4f), Verdict::Malformed(Malformed::Ipv4), "options beyond the packet");
        assert_eq!(lie(17, 19), Verdict::Malformed(Malformed::Ipv4));
        assert_eq!(lie(17, 200), Verdict::Malformed(Malformed::Ipv4));
        assert_eq!(lie(17, 39), Verdict::Malformed(Malformed::Transport));
        assert_eq!(lie(12, 0x81), Verdict::Other, "a VLAN tag");
        assert_eq!(lie(23, 47), Verdict::Other, "GRE");
        assert!(matches!(lie(20, 0x20), Verdict::Fragment { protocol: TCP, .. }));
        assert!(matches!(lie(21, 0x01), Verdict::Fragment { protocol: TCP, .. }));
        let mut frame = syn(&[]);
        frame[24] ^= 1;
        assert_eq!(verdict(&frame), Verdict::Malformed(Malformed::Ipv4Checksum));
        let frame = syn(&[]);
        assert_eq!(parse(&frame[..40], frame.len(), MAC), Verdict::Malformed(Malformed::Scattered));
        assert_eq!(parse(&frame[..20], frame.len(), MAC), Verdict::Malformed(Malformed::Scattered));
    }

    #[test]
    fn an_sctp_packet() {
        let frame = |data: &[u8]| {
            let mut frame = Vec::new();
            PacketBuilder::ethernet2(PEER, MAC.0)
                .ipv4([10, 0, 0, 1], [10, 0, 0, 2], 9)
                .write(&mut frame, etherparse::IpNumber::SCTP, data)
                .unwrap();
            frame
        };
        let init = [0, 7, 0, 80, 1, 2, 3, 4, 9, 9, 9, 9, 1, 0, 0, 20];
        let whole = frame(&init);
        let Verdict::Segment(segment) = verdict(&whole) else { panic!("not a segment") };
        assert_eq!((segment.protocol, segment.flags, segment.length), (SCTP, Event::Init as u8, 36));
        assert_eq!((segment.source.port(), segment.destination.port()), (7, 80));
        assert!(segment.opens() && !segment.resets());
        // Padding of the frame is no chunk.
        let cookie = [&init[..12], &[10, 0, 0, 4]].concat();
        let mut padded = frame(&cookie);
        padded.extend([6, 0, 0, 4]);
        let Verdict::Segment(segment) = verdict(&padded) else { panic!("not a segment") };
        assert_eq!(segment.flags, Event::CookieEcho as u8);
        assert_eq!(verdict(&frame(&init[..15])), Verdict::Malformed(Malformed::Transport));
        assert_eq!(parse(&whole[..49], whole.len(), MAC), Verdict::Malformed(Malformed::Scattered));
        assert_eq!(parse(&whole[..40], whole.len(), MAC), Verdict::Malformed(Malformed::Scattered));
        let mut fragment = whole.clone();
        fragment[20] = 0x20;
        fragment[24..26].fill(0);
        let sum = checksum::checksum(&fragment[14..34]);
        fragment[24..26].copy_from_slice(&sum);
        assert!(matches!(verdict(&fragment), Verdict::Fragment { protocol: SCTP, .. }));
    }

    #[test]
    fn a_datagram_over_ipv6() {
        let frame = datagram_v6(&[0, 1, 4, 0, 0, 0, 0]);
        let Verdict::Segment(segment) = verdict(&frame) else { panic!("{:?}", verdict(&frame)) };
        assert_eq!(segment.source, Endpoint::v6(u128::from_be_bytes([0x20; 16]), 1));
        assert_eq!(segment.destination, Endpoint::v6(u128::from_be_bytes([0xfd; 16]), 2));
        assert_eq!((segment.protocol, segment.header, segment.ttl, segment.length), (UDP, 48, 9, 63));
        let lie = |at: usize, value: u8| {
            let mut frame = frame.clone();
            frame[at] = value;
            verdict(&frame)
        };
        assert_eq!(lie(14, 0x40), Verdict::Malformed(Malformed::Ipv6));
        assert_eq!(lie(19, 24), Verdict::Malformed(Malformed::Ipv6), "longer than the frame");
        assert_eq!(lie(19, 15), Verdict::Malformed(Malformed::Transport));
        assert_eq!(lie(19, 7), Verdict::Other, "half an extension header");
        assert_eq!(lie(55, 9), Verdict::Other, "options beyond the end");
        assert_eq!(lie(54, 58), Verdict::Other, "ICMPv6");
        assert_eq!(parse(&frame[..56], frame.len(), MAC), Verdict::Malformed(Malformed::Scattered));
        assert_eq!(parse(&frame[..40], frame.len(), MAC), Verdict::Malformed(Malformed::Scattered));
        let mut multicast = frame.clone();
        multicast[..2].copy_from_slice(&[0x33, 0x33]);
        assert_eq!(verdict(&multicast), Verdict::Other, "neighbour discovery, for one");
    }

    #[test]
    fn options_are_seen_past() {
        let options = etherparse::Ipv4Options::try_from(&[1_u8, 1, 1, 0][..]).unwrap();
        let header = etherparse::Ipv4Header {
            options,
            ..etherparse::Ipv4Header::new(20, 64, etherparse::IpNumber::TCP, [1; 4], [2; 4]).unwrap()
        };
        let mut frame = Vec::new();
        PacketBuilder::ethernet2(PEER, MAC.0)
            .ip(etherparse::IpHeaders::Ipv4(header, Default::default()))
            .tcp(5, 6, 0, 0)
            .write(&mut frame, &[])
            .unwrap();
        let Verdict::Segment(segment) = verdict(&frame) else {
            panic!("not a segment: {:?}", verdict(&frame))
        };
        assert_eq!((segment.header, segment.source.port(), segment.destination.port()), (24, 5, 6));
    }

    #[test]
    fn agrees_with_an_independent_parser() {
        bolero::check!().with_type::<(Vec<u8>, u16, bool)>().for_each(|(noise, cut, v6)| {
            let mut frame = if *v6 { datagram_v6(&[0, 1, 4, 0, 0, 0, 0]) } else { syn(b"payload") };
            for (at, byte) in noise.iter().enumerate() {
                let at = (at * 7 + usize::from(*byte)) % frame.len();
                frame[at] = *byte;
            }
            frame.truncate(usize::from(*cut) % (frame.len() + 1));
            if let Verdict::Segment(segment) = verdict(&frame) {
                // Strict about more than a director may be: the data offset of TCP, the length of UDP. What it
                // does not take for that reason it still shows up to there.
                let theirs = etherparse::LaxSlicedPacket::from_ethernet(&frame).unwrap();
                let (source, destination): (IpAddr, IpAddr) = match theirs.net {
                    Some(etherparse::LaxNetSlice::Ipv4(ip)) => {
                        assert_eq!(ip.header().protocol().0, segment.protocol);
                        (ip.header().source_addr().into(), ip.header().destination_addr().into())
                    }
                    Some(etherparse::LaxNetSlice::Ipv6(ip)) => {
                        (ip.header().source_addr().into(), ip.header().destination_addr().into())
                    }
                    other => panic!("not IP: {other:?}"),
                };
                assert_eq!(Address::from(source), segment.source.address());
                assert_eq!(Address::from(destination), segment.destination.address());
                let ports = match theirs.transport {
                    Some(etherparse::TransportSlice::Tcp(tcp)) => (tcp.source_port(), tcp.destination_port()),
                    Some(etherparse::TransportSlice::Udp(udp)) => (udp.source_port(), udp.destination_port()),
                    None if theirs.stop_err.is_some() || segment.protocol == SCTP => return,
                    other => panic!("not a segment: {other:?}"),
                };
                assert_eq!(ports, (segment.source.port(), segment.destination.port()));
            }
        });
    }
}
