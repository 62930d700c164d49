//! ICMP errors about packets that cannot go on: of IPv4 (RFC 792, RFC 1812) and of IPv6 (RFC 4443).

use zerocopy::byteorder::network_endian::{U16, U32, U128};
use zerocopy::{FromBytes, IntoBytes};

use crate::checksum::{checksum, pseudo_header};
use crate::header::{Ipv4, Ipv6};
use crate::{Address, ICMP, ICMPV6, ipv6};

/// The longest ICMP error of IPv4: the packet must not exceed 576 bytes (RFC 1812, section 4.3.2.3).
const MAX_V4: usize = 576;

/// The longest ICMP error: that of IPv6 must not exceed the least MTU of its (RFC 4443, section 2.4 c).
pub const MAX_ERROR: usize = 1280;

/// The length of an ICMP header, in bytes.
const HEADER: usize = 8;

/// Why a packet cannot go on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Error {
    /// Destination unreachable, network (type 3, code 0); of IPv6, no route (type 1, code 0).
    NetworkUnreachable,
    /// Destination unreachable, host (type 3, code 1); of IPv6, address (type 1, code 3).
    HostUnreachable,
    /// Destination unreachable, port (type 3, code 3; of IPv6 type 1, code 4).
    PortUnreachable,
    /// Destination unreachable, fragmentation needed and DF set (type 3, code 4; RFC 1191), or packet too big
    /// (of IPv6, type 2), with the MTU of the next hop in bytes.
    FragmentationNeeded(u16),
    /// Time exceeded in transit (type 11, code 0), or hop limit exceeded (of IPv6, type 3, code 0).
    TimeExceeded,
    /// Time exceeded in reassembly (type 11, code 1; of IPv6 type 3, code 1).
    ReassemblyTimeExceeded,
    /// What another error says whose type and code are these, and whose type has nothing in the last two bytes.
    As {
        /// The type.
        kind: u8,
        /// The code.
        code: u8,
    },
}

impl Error {
    /// Its type, of ICMP or of ICMPv6.
    #[must_use]
    pub const fn kind(self, is_v6: bool) -> u8 {
        if is_v6 { self.fields_v6().0 } else { self.fields().0 }
    }

    /// Type, code and the last four bytes of the ICMP header.
    const fn fields(self) -> (u8, u8, u32) {
        match self {
            Self::NetworkUnreachable => (3, 0, 0),
            Self::HostUnreachable => (3, 1, 0),
            Self::PortUnreachable => (3, 3, 0),
            Self::FragmentationNeeded(mtu) => (3, 4, mtu as u32),
            Self::TimeExceeded => (11, 0, 0),
            Self::ReassemblyTimeExceeded => (11, 1, 0),
            Self::As { kind, code } => (kind, code, 0),
        }
    }

    /// Those of ICMPv6.
    const fn fields_v6(self) -> (u8, u8, u32) {
        match self {
            Self::NetworkUnreachable => (1, 0, 0),
            Self::HostUnreachable => (1, 3, 0),
            Self::PortUnreachable => (1, 4, 0),
            Self::FragmentationNeeded(mtu) => (2, 0, mtu as u32),
            Self::TimeExceeded => (3, 0, 0),
            Self::ReassemblyTimeExceeded => (3, 1, 0),
            Self::As { kind, code } => (kind, code, 0),
        }
    }
}

/// Writes the IP packet that tells the sender of `packet` (an IP packet, or as much of it as is at hand) of an error,
/// from the address `from` of the same family, and returns its length in bytes. As Linux does it, the packet is
/// quoted as far as 576 bytes (of IPv6: 1,280) allow, and the type of service is, of IPv4, the packet's with precedence
/// "internetwork control".
///
/// Nothing is written, and the length is 0, where no error may be sent: about a fragment other than the first, a packet
/// from an address that is no single host's (RFC 1122, section 3.2.2; RFC 4443, section 2.4 e), or where `packet` has
/// no whole header.
#[must_use]
pub fn error(
    error: Error,
    packet: &[u8],
    from: Address,
    identification: u16,
    out: &mut [u8; MAX_ERROR],
) -> usize {
    match from {
        Address::V4(from) => error_v4(error, packet, from, identification, out).unwrap_or(0),
        Address::V6(from) => error_v6(error, packet, from, out).unwrap_or(0),
    }
}

/// Where an IP packet comes from, and where it goes.
#[must_use]
pub fn ends(packet: &[u8]) -> Option<(Address, Address)> {
    match packet.first()? >> 4 {
        4 => {
            let (header, _) = Ipv4::ref_from_prefix(packet).ok()?;
            Some((Address::V4(header.source.get()), Address::V4(header.destination.get())))
        }
        6 => {
            let (header, _) = Ipv6::ref_from_prefix(packet).ok()?;
            Some((Address::V6(header.source.get()), Address::V6(header.destination.get())))
        }
        _ => None,
    }
}

fn error_v4(
    error: Error,
    packet: &[u8],
    from: u32,
    identification: u16,
    out: &mut [u8; MAX_ERROR],
) -> Option<usize> {
    let (header, _) = Ipv4::ref_from_prefix(packet).ok()?;
    let source = header.source.get();
    let no_host = matches!(source, 0 | u32::MAX) || source >> 28 == 0xe || source >> 24 == 127;
    if header.version_and_length >> 4 != 4 || header.fragment.get() & 0x1fff != 0 || no_host {
        return None;
    }
    let quoted = packet.len().min(usize::from(header.length.get())).min(MAX_V4 - 20 - HEADER);
    let length = 20 + HEADER + quoted;
    let mut ip = Ipv4 {
        version_and_length: 0x45,
        service: (header.service & 0x1e) | 0xc0,
        // At most MAX_V4.
        length: U16::new(length as u16),
        identification: U16::new(identification),
        fragment: U16::new(0),
        ttl: 64,
        protocol: ICMP,
        checksum: [0; 2],
        source: U32::new(from),
        destination: header.source,
    };
    ip.checksum = checksum(ip.as_bytes());
    out[..20].copy_from_slice(ip.as_bytes());
    put(&mut out[20..length], error.fields(), packet.get(..quoted)?);
    let sum = checksum(&out[20..length]);
    out[22..24].copy_from_slice(&sum);
    Some(length)
}

fn error_v6(error: Error, packet: &[u8], from: u128, out: &mut [u8; MAX_ERROR]) -> Option<usize> {
    let (header, _) = Ipv6::ref_from_prefix(packet).ok()?;
    let source = header.source.get();
    // Unspecified, multicast, loopback.
    let no_host = source <= 1 || source >> 120 == 0xff;
    let is_later_part =
        || ipv6::upper(packet).and_then(|upper| upper.fragment).is_some_and(|fragment| fragment.offset != 0);
    if header.version_class_flow.get() >> 28 != 6 || no_host || is_later_part() {
        return None;
    }
    let whole = ipv6::HEADER + usize::from(header.length.get());
    let quoted = packet.len().min(whole).min(MAX_ERROR - ipv6::HEADER - HEADER);
    let message = HEADER + quoted;
    let length = ipv6::HEADER + message;
    let ip = Ipv6 {
        version_class_flow: U32::new(6 << 28),
        // At most MAX_ERROR.
        length: U16::new(message as u16),
        next: ICMPV6,
        hop_limit: 64,
        source: U128::new(from),
        destination: header.source,
    };
    let (head, rest) = out.split_at_mut(ipv6::HEADER);
    head.copy_from_slice(ip.as_bytes());
    let body = rest.get_mut(..message)?;
    put(body, error.fields_v6(), packet.get(..quoted)?);
    let mut sum = pseudo_header(head, ICMPV6, message as u16)?;
    sum.add(body);
    body[2..4].copy_from_slice(&sum.checksum());
    Some(length)
}

/// Writes an ICMP message, its checksum left 0.
fn put(message: &mut [u8], (kind, code, rest): (u8, u8, u32), quoted: &[u8]) {
    let (header, body) = message.split_at_mut(HEADER);
    header[..4].copy_from_slice(&[kind, code, 0, 0]);
    header[4..].copy_from_slice(&rest.to_be_bytes());
    body.copy_from_slice(quoted);
}

#[cfg(test)]
mod tests {
    use super::*;
    use etherparse::{Icmpv4Slice, Icmpv6Slice, Ipv4Slice, Ipv6Slice, PacketBuilder};

    const FROM: Address = Address::V4(1);

    fn packet_v6(payload: usize) -> Vec<u8> {
        let mut packet = Vec::new();
        PacketBuilder::ipv6([0x20; 16], [0xfd; 16], 64)
            .tcp(2001, 80, 1, 1)
            .syn()
            .write(&mut packet, &vec![7; payload])
            .unwrap();
        packet
    }

    #[test]
    fn quotes_a_packet_of_ipv6() {
        let packet = packet_v6(0);
        for (what, fields) in [
            (Error::HostUnreachable, (1, 3, [0; 4])),
            (Error::PortUnreachable, (1, 4, [0; 4])),
            (Error::FragmentationNeeded(1280), (2, 0, [0, 0, 5, 0])),
            (Error::TimeExceeded, (3, 0, [0; 4])),
            (Error::ReassemblyTimeExceeded, (3, 1, [0; 4])),
        ] {
            let mut out = [0; MAX_ERROR];
            let length = error(what, &packet, Address::V6(0xfd << 120 | 1), 1, &mut out);
            let ip = Ipv6Slice::from_slice(&out[..length]).unwrap();
            let header = ip.header().to_header();
            assert_eq!((header.destination, header.hop_limit), ([0x20; 16], 64));
            assert_eq!(u128::from_be_bytes(header.source), 0xfd << 120 | 1);
            let icmp = Icmpv6Slice::from_slice(ip.payload().payload).unwrap();
            assert_eq!((icmp.type_u8(), icmp.code_u8(), icmp.bytes5to8()), fields);
            let sum = icmp.icmp_type().calc_checksum(header.source, header.destination, icmp.payload());
            assert_eq!(icmp.checksum(), sum.unwrap());
            assert_eq!(icmp.payload(), packet);
        }
    }

    fn packet(payload: usize) -> Vec<u8> {
        let mut packet = Vec::new();
        PacketBuilder::ipv4([192, 168, 18, 10], [192, 168, 18, 58], 64)
            .tcp(2001, 80, 1, 1)
            .syn()
            .write(&mut packet, &vec![7; payload])
            .unwrap();
        packet
    }

    #[test]
    fn quotes_the_packet() {
        let packet = packet(0);
        let mut out = [0; MAX_ERROR];
        let length = error(Error::FragmentationNeeded(1000), &packet, Address::V4(0xc0a8_123a), 1, &mut out);
        let ip = Ipv4Slice::from_slice(&out[..length]).unwrap();
        let header = ip.header().to_header();
        assert_eq!(header.header_checksum, header.calc_header_checksum());
        assert_eq!((header.source, header.destination), ([192, 168, 18, 58], [192, 168, 18, 10]));
        assert_eq!((header.time_to_live, out[1]), (64, 0xc0));
        let icmp = Icmpv4Slice::from_slice(ip.payload().payload).unwrap();
        assert_eq!((icmp.type_u8(), icmp.code_u8(), icmp.bytes5to8()), (3, 4, [0, 0, 3, 232]));
        let message = icmp.icmp_type();
        assert_eq!(icmp.checksum(), message.calc_checksum(icmp.payload()));
        assert_eq!(icmp.payload(), packet);
    }

    #[test]
    fn never_longer_than_it_may_be() {
        let packet = packet(1400);
        let mut out = [0; MAX_ERROR];
        assert_eq!(error(Error::PortUnreachable, &packet, FROM, 1, &mut out), MAX_V4);
        assert_eq!(out[28..MAX_V4], packet[..548]);
        let packet = packet_v6(1400);
        assert_eq!(error(Error::PortUnreachable, &packet, Address::V6(1), 1, &mut out), MAX_ERROR);
        assert_eq!(out[48..], packet[..1232]);
    }

    #[test]
    fn not_about_what_must_not_be_answered() {
        let mut out = [0; MAX_ERROR];
        let mut fragment = packet(0);
        fragment[7] = 1;
        assert_eq!(error(Error::TimeExceeded, &fragment, FROM, 1, &mut out), 0);
        for source in [[224, 0, 0, 1], [255; 4], [0; 4], [127, 0, 0, 1]] {
            let mut nobodys = packet(0);
            nobodys[12..16].copy_from_slice(&source);
            assert_eq!(error(Error::TimeExceeded, &nobodys, FROM, 1, &mut out), 0, "{source:?}");
        }
        let mut reserved = packet(0);
        reserved[12] = 240;
        assert_ne!(error(Error::TimeExceeded, &reserved, FROM, 1, &mut out), 0);
        assert_eq!(error(Error::TimeExceeded, &packet(0)[..19], FROM, 1, &mut out), 0);
        let six = Address::V6(1);
        assert_eq!(error(Error::TimeExceeded, &packet(0), six, 1, &mut out), 0);
        assert_eq!(error(Error::TimeExceeded, &packet_v6(0)[..39], six, 1, &mut out), 0);
        let mut multicast = packet_v6(0);
        multicast[8] = 0xff;
        assert_eq!(error(Error::TimeExceeded, &multicast, six, 1, &mut out), 0);
    }
}
