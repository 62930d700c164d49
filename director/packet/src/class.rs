//! What a packet for the kernel is about, so that a flood of one class leaves room for the others; and which TCP connection
//! it is of.

use zerocopy::FromBytes;

use crate::ethernet::{HEADER, ether_type};
use crate::header::{Ipv4, Ipv6, Tcp};
use crate::tcp_flag::{ACK, SYN};
use crate::{Endpoint, ICMP, ICMPV6, TCP, UDP, ipv6};

/// A class of what goes to the kernel, those before the others without which nothing else works.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Class {
    /// What a link needs: ARP, neighbour discovery, IGMP and MLD, DHCP, LLDP, LACP, and whatever has a length in place of a
    /// type, as IS-IS and spanning trees.
    Link,
    /// Routing protocols and what watches over their neighbours: BGP, OSPF, RIP, EIGRP, PIM, VRRP and CARP, BFD.
    Routing,
    /// Segments of TCP connections that exist or are said to: all but a client's first. Answers to the director's own
    /// health checks are such. Which connections do exist the packet does not say.
    Tcp,
    /// ICMP and ICMPv6, but what a link needs of it.
    Icmp,
    /// The rest.
    Other,
}

impl Class {
    /// How many there are.
    pub const COUNT: usize = 5;

    /// All of them, in the order of their numbers.
    pub const ALL: [Self; Self::COUNT] = [Self::Link, Self::Routing, Self::Tcp, Self::Icmp, Self::Other];

    /// That of a frame of which `head` is the part at hand.
    #[must_use]
    pub fn of(head: &[u8]) -> Self {
        match untagged(head) {
            // ARP (RFC 826); LACP, LLDP and 802.1X by their EtherTypes; at most 1,500 it is a length (IEEE 802.3, 3.2.6).
            Some(([0x08, 0x06] | [0x88, 0x09 | 0xcc | 0x8e] | [0..=5, _], _)) => Self::Link,
            Some((kind, packet)) => transport(kind, packet)
                .and_then(|(protocol, transport)| of_protocol(protocol, transport))
                .unwrap_or(Self::Other),
            None => Self::Other,
        }
    }
}

/// A segment of a TCP connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TcpSegment {
    /// Who sent it.
    pub source: Endpoint,
    /// To whom.
    pub destination: Endpoint,
    /// Control bits, see [`crate::tcp_flag`].
    pub flags: u8,
}

impl TcpSegment {
    /// That of a frame of which `head` is the part at hand; none in a fragment that is not the first.
    #[must_use]
    pub fn of(head: &[u8]) -> Option<Self> {
        let (kind, packet) = untagged(head)?;
        let (TCP, transport) = transport(kind, packet)? else { return None };
        let (tcp, _) = Tcp::ref_from_prefix(transport).ok()?;
        let (source, destination) = (tcp.source.get(), tcp.destination.get());
        let (source, destination) = if kind == ether_type::IPV4 {
            let (ip, _) = Ipv4::ref_from_prefix(packet).ok()?;
            (Endpoint::v4(ip.source.get(), source), Endpoint::v4(ip.destination.get(), destination))
        } else {
            let (ip, _) = Ipv6::ref_from_prefix(packet).ok()?;
            (Endpoint::v6(ip.source.get(), source), Endpoint::v6(ip.destination.get(), destination))
        };
        Some(Self { source, destination, flags: tcp.flags })
    }
}

/// The EtherType of a frame, and what is behind it.
fn untagged(head: &[u8]) -> Option<([u8; 2], &[u8])> {
    let mut rest = head.get(HEADER - 2..)?;
    // A provider's tag and a customer's (IEEE 802.1Q, 9.6).
    for _ in 0..2 {
        if let [0x81, 0x00, ..] | [0x88, 0xa8, ..] = rest {
            rest = rest.get(4..)?;
        }
    }
    rest.split_first_chunk().map(|(kind, packet)| (*kind, packet))
}

/// The protocol of a packet of IP and what is at hand of it: nothing in a fragment that is not the first.
fn transport(kind: [u8; 2], packet: &[u8]) -> Option<(u8, &[u8])> {
    let (protocol, at, is_first) = match kind {
        ether_type::IPV4 => {
            let (header, _) = Ipv4::ref_from_prefix(packet).ok()?;
            (header.protocol, header.header_length(), header.fragment.get() & Ipv4::OFFSET == 0)
        }
        ether_type::IPV6 => {
            let upper = ipv6::upper(packet)?;
            let is_first = upper.fragment.is_none_or(|fragment| fragment.offset == 0);
            (upper.protocol, upper.at.into(), is_first)
        }
        _ => return None,
    };
    Some((protocol, if is_first { packet.get(at..)? } else { &[] }))
}

/// `transport` is empty in a fragment that is not the first.
fn of_protocol(protocol: u8, transport: &[u8]) -> Option<Class> {
    /// Assigned numbers of IP protocols.
    const IGMP: u8 = 2;
    const EIGRP: u8 = 88;
    const OSPF: u8 = 89;
    const PIM: u8 = 103;
    const VRRP: u8 = 112;
    match protocol {
        TCP => of_tcp(transport),
        UDP => of_udp(transport),
        IGMP => Some(Class::Link),
        EIGRP | OSPF | PIM | VRRP => Some(Class::Routing),
        // MLD (RFC 2710, RFC 3810) and neighbour discovery (RFC 4861).
        ICMPV6 if matches!(transport, [130..=137 | 143, ..]) => Some(Class::Link),
        ICMP | ICMPV6 => Some(Class::Icmp),
        _ => None,
    }
}

fn of_tcp(transport: &[u8]) -> Option<Class> {
    const BGP: u16 = 179;
    let (header, _) = Tcp::ref_from_prefix(transport).ok()?;
    if header.source.get() == BGP || header.destination.get() == BGP {
        return Some(Class::Routing);
    }
    (header.flags & (SYN | ACK) != SYN).then_some(Class::Tcp)
}

fn of_udp(transport: &[u8]) -> Option<Class> {
    let [_, _, high, low, ..] = transport else { return None };
    match u16::from_be_bytes([*high, *low]) {
        // DHCP (RFC 2131, section 4.1; RFC 8415, section 7.2).
        67 | 68 | 546 | 547 => Some(Class::Link),
        // RIP and RIPng (RFC 2453, RFC 2080); BFD (RFC 5881, RFC 5883, RFC 7130).
        520 | 521 | 3784 | 3785 | 4784 | 6784 => Some(Class::Routing),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: [u8; 2], packet: &[u8]) -> Vec<u8> {
        [&[2; 12], &kind[..], packet].concat()
    }

    fn v4(protocol: u8, fragment: u16, transport: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x46, 0, 0, 0, 0, 0];
        packet.extend(fragment.to_be_bytes());
        packet.extend([64, protocol]);
        // Two addresses, a checksum and an option.
        packet.extend([7; 14]);
        packet.extend(transport);
        frame(ether_type::IPV4, &packet)
    }

    fn v6(protocol: u8, transport: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x60, 0, 0, 0, 0, 0, 0, 255];
        packet.extend([0xfd; 32]);
        // With a router alert before it, as MLD has.
        packet.extend([protocol, 0, 5, 2, 0, 0, 1, 0]);
        packet.extend(transport);
        frame(ether_type::IPV6, &packet)
    }

    fn ports(source: u16, destination: u16, flags: u8) -> Vec<u8> {
        let mut transport = [source.to_be_bytes(), destination.to_be_bytes()].concat();
        transport.extend([0, 0, 0, 0, 0, 0, 0, 0, 0x50, flags, 0, 0, 0, 0, 0, 0]);
        transport
    }

    #[test]
    fn what_is_no_ip() {
        for (kind, class) in [
            ([0x08, 0x06], Class::Link),
            ([0x88, 0xcc], Class::Link),
            ([0x88, 0x09], Class::Link),
            ([0x00, 0x26], Class::Link),
            ([0x88, 0x47], Class::Other),
        ] {
            assert_eq!(Class::of(&frame(kind, &[0; 46])), class, "{kind:x?}");
        }
    }

    #[test]
    fn protocols_of_both_families() {
        for (protocol, transport, class) in [
            (89, vec![], Class::Routing),
            (112, vec![], Class::Routing),
            (103, vec![], Class::Routing),
            (2, vec![], Class::Link),
            (47, vec![0; 20], Class::Other),
            (TCP, ports(179, 40000, ACK), Class::Routing),
            (TCP, ports(40000, 179, SYN), Class::Routing),
            (TCP, ports(40000, 80, SYN), Class::Other),
            (TCP, ports(80, 40000, SYN | ACK), Class::Tcp),
            (TCP, ports(40000, 22, ACK), Class::Tcp),
            (UDP, ports(50000, 3784, 0), Class::Routing),
            (UDP, ports(3784, 50000, 0), Class::Other),
            (UDP, ports(67, 68, 0), Class::Link),
            (UDP, ports(53, 5353, 0), Class::Other),
        ] {
            assert_eq!(Class::of(&v4(protocol, 0, &transport)), class, "{protocol} {transport:?}");
            assert_eq!(Class::of(&v6(protocol, &transport)), class, "{protocol} {transport:?}");
        }
        assert_eq!(Class::of(&v4(ICMP, 0, &[8, 0])), Class::Icmp);
        assert_eq!(Class::of(&v4(ICMP, 0, &[135, 0])), Class::Icmp);
        for (kind, class) in [(128, Class::Icmp), (1, Class::Icmp), (135, Class::Link), (143, Class::Link)] {
            assert_eq!(Class::of(&v6(ICMPV6, &[kind, 0])), class, "{kind}");
        }
    }

    #[test]
    fn a_fragment_that_is_not_the_first_has_no_ports() {
        // The bytes where the ports would be are data.
        assert_eq!(Class::of(&v4(TCP, 100, &ports(179, 179, ACK))), Class::Other);
        assert_eq!(Class::of(&v4(TCP, 0x2000, &ports(179, 179, ACK))), Class::Routing);
        assert_eq!(Class::of(&v4(89, 100, &[])), Class::Routing);
    }

    #[test]
    fn ends_of_a_segment() {
        let tcp = ports(40000, 22, ACK);
        let both = |address: Endpoint| (address.with_port(40000), address.with_port(22));
        for (frame, (source, destination)) in [
            (v4(TCP, 0, &tcp), both(Endpoint::v4(0x0707_0707, 0))),
            (v6(TCP, &tcp), both(Endpoint::v6(u128::from_be_bytes([0xfd; 16]), 0))),
        ] {
            let segment = TcpSegment { source, destination, flags: ACK };
            assert_eq!(TcpSegment::of(&frame), Some(segment));
        }
        for frame in [v4(TCP, 100, &tcp), v4(UDP, 0, &tcp), v4(TCP, 0, &tcp[..19]), frame([0x08, 0x06], &tcp)]
        {
            assert_eq!(TcpSegment::of(&frame), None);
        }
    }

    #[test]
    fn tagged_frames() {
        let tagged = |tags: &[[u8; 4]]| {
            let mut frame = frame([0x08, 0x06], &[0; 28]);
            frame.splice(12..12, tags.concat());
            Class::of(&frame)
        };
        let (provider, customer) = ([0x88, 0xa8, 0, 1], [0x81, 0, 0, 5]);
        assert_eq!(tagged(&[customer]), Class::Link);
        assert_eq!(tagged(&[provider, customer]), Class::Link);
        assert_eq!(tagged(&[customer; 3]), Class::Other);
    }

    #[test]
    fn no_part_of_a_frame_is_too_short() {
        for whole in [v4(TCP, 0, &ports(1, 2, SYN)), v6(ICMPV6, &[135, 0]), frame([0x81, 0], &[0, 5, 0x81])] {
            for length in 0..whole.len() {
                let _ = Class::of(&whole[..length]);
                let _ = TcpSegment::of(&whole[..length]);
            }
        }
        assert_eq!(Class::of(&[]), Class::Other);
    }

    #[test]
    fn they_are_numbered_in_order() {
        assert!(Class::ALL.iter().enumerate().all(|(at, class)| at == *class as usize));
    }
}
