//! ICMP errors about packets that cannot go on (RFC 792, RFC 1812).

use zerocopy::IntoBytes;
use zerocopy::byteorder::network_endian::{U16, U32};

use crate::ICMP;
use crate::checksum::checksum;
use crate::header::Ipv4;

/// The longest ICMP error: the IPv4 packet must not exceed 576 bytes (RFC 1812, section 4.3.2.3).
pub const MAX_ERROR: usize = 576;

/// Why a packet cannot go on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Error {
    /// Destination unreachable, network (type 3, code 0).
    NetworkUnreachable,
    /// Destination unreachable, host (type 3, code 1).
    HostUnreachable,
    /// Destination unreachable, port (type 3, code 3).
    PortUnreachable,
    /// Destination unreachable, fragmentation needed and DF set (type 3, code 4; RFC 1191), with the
    /// MTU of the next hop in bytes.
    FragmentationNeeded(u16),
    /// Time exceeded in transit (type 11, code 0).
    TimeExceeded,
    /// What another error says whose type and code are these, and whose type has nothing in the last two bytes.
    As {
        /// The type.
        kind: u8,
        /// The code.
        code: u8,
    },
}

impl Error {
    /// Type, code and the last two bytes of the ICMP header.
    const fn fields(self) -> (u8, u8, u16) {
        match self {
            Self::NetworkUnreachable => (3, 0, 0),
            Self::HostUnreachable => (3, 1, 0),
            Self::PortUnreachable => (3, 3, 0),
            Self::FragmentationNeeded(mtu) => (3, 4, mtu),
            Self::TimeExceeded => (11, 0, 0),
            Self::As { kind, code } => (kind, code, 0),
        }
    }
}

/// Writes the IPv4 packet that tells the sender of `packet` (an IPv4 packet, or as much of it as is at
/// hand) of an error, from the address `from` (host order), and returns its length in bytes. As Linux
/// does it, the packet is quoted as far as 576 bytes allow, and the type of service is the packet's with
/// precedence "internetwork control".
///
/// Nothing is written, and the length is 0, where no error may be sent: about a fragment other than the
/// first or a packet from an address that is no single host's (RFC 1122, section 3.2.2), or where
/// `packet` has no whole header.
#[must_use]
pub fn error(
    error: Error,
    packet: &[u8],
    from: u32,
    identification: u16,
    out: &mut [u8; MAX_ERROR],
) -> usize {
    let Ok((header, _)) = <Ipv4 as zerocopy::FromBytes>::ref_from_prefix(packet) else { return 0 };
    let source = header.source.get();
    let no_host = source == 0 || source >> 28 >= 0xe || source >> 24 == 127;
    if header.fragment.get() & 0x1fff != 0 || no_host {
        return 0;
    }
    let quoted = packet.len().min(usize::from(header.length.get())).min(MAX_ERROR - 28);
    let length = 28 + quoted;
    let (kind, code, rest) = error.fields();
    let mut ip = Ipv4 {
        version_and_length: 0x45,
        service: (header.service & 0x1e) | 0xc0,
        // At most MAX_ERROR.
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
    out[20..28].fill(0);
    out[20] = kind;
    out[21] = code;
    out[26..28].copy_from_slice(&rest.to_be_bytes());
    out[28..length].copy_from_slice(&packet[..quoted]);
    let sum = checksum(&out[20..length]);
    out[22..24].copy_from_slice(&sum);
    length
}

#[cfg(test)]
mod tests {
    use super::*;
    use etherparse::{Icmpv4Slice, Ipv4Slice, PacketBuilder};

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
        let length = error(Error::FragmentationNeeded(1000), &packet, 0xc0a8_123a, 1, &mut out);
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
        assert_eq!(error(Error::PortUnreachable, &packet, 1, 1, &mut out), MAX_ERROR);
        assert_eq!(out[28..], packet[..548]);
    }

    #[test]
    fn not_about_what_must_not_be_answered() {
        let mut out = [0; MAX_ERROR];
        let mut fragment = packet(0);
        fragment[7] = 1;
        assert_eq!(error(Error::TimeExceeded, &fragment, 1, 1, &mut out), 0);
        let mut multicast = packet(0);
        multicast[12] = 224;
        assert_eq!(error(Error::TimeExceeded, &multicast, 1, 1, &mut out), 0);
        assert_eq!(error(Error::TimeExceeded, &packet(0)[..19], 1, 1, &mut out), 0);
    }
}
