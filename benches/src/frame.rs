//! The frames of the benchmarks: TCP segments without data, from a client to the virtual service.

use std::net::{Ipv4Addr, SocketAddrV4};

use crate::network::{GATEWAY, Mac, SERVICE};

/// The shortest frame of Ethernet without its frame check sequence; "64-byte packets" with it.
pub const LENGTH: usize = 60;

/// A whole frame.
pub type Frame = [u8; LENGTH];

/// What a segment is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Segment {
    /// Opens a connection.
    Syn,
    /// Acknowledges within one.
    Ack,
}

const IP: usize = 14;
const TCP: usize = IP + 20;
const END: usize = TCP + 20;

/// A segment from `client`, sent to the port of MAC address `to`.
#[must_use]
pub fn from_client(segment: Segment, client: SocketAddrV4, to: Mac) -> Frame {
    let mut frame = [0; LENGTH];
    frame[0..6].copy_from_slice(&to);
    frame[6..12].copy_from_slice(&GATEWAY.1);
    frame[12..14].copy_from_slice(&0x0800_u16.to_be_bytes());

    // IPv4 (RFC 791): version and header length, total length, "don't fragment", TTL, protocol.
    frame[IP] = 0x45;
    frame[IP + 2..IP + 4].copy_from_slice(&((END - IP) as u16).to_be_bytes());
    frame[IP + 6] = 0x40;
    frame[IP + 8] = 64;
    frame[IP + 9] = 6;
    frame[IP + 12..IP + 16].copy_from_slice(&client.ip().octets());
    frame[IP + 16..IP + 20].copy_from_slice(&SERVICE.ip().octets());
    let checksum = checksum([&frame[IP..TCP]]);
    frame[IP + 10..IP + 12].copy_from_slice(&checksum);

    // TCP (RFC 9293, section 3.1).
    let (sequence, acknowledged, flags): (u32, u32, u8) = match segment {
        Segment::Syn => (1000, 0, 0x02),
        Segment::Ack => (1001, 2001, 0x10),
    };
    frame[TCP..TCP + 2].copy_from_slice(&client.port().to_be_bytes());
    frame[TCP + 2..TCP + 4].copy_from_slice(&SERVICE.port().to_be_bytes());
    frame[TCP + 4..TCP + 8].copy_from_slice(&sequence.to_be_bytes());
    frame[TCP + 8..TCP + 12].copy_from_slice(&acknowledged.to_be_bytes());
    frame[TCP + 12] = 0x50;
    frame[TCP + 13] = flags;
    frame[TCP + 14..TCP + 16].copy_from_slice(&0xffff_u16.to_be_bytes());
    let pseudo = pseudo_header(*client.ip(), *SERVICE.ip());
    let checksum = self::checksum([&pseudo, &frame[TCP..END]]);
    frame[TCP + 16..TCP + 18].copy_from_slice(&checksum);
    frame
}

/// What TCP's checksum covers besides the segment (RFC 9293, section 3.1).
fn pseudo_header(source: Ipv4Addr, destination: Ipv4Addr) -> [u8; 12] {
    let mut header = [0; 12];
    header[0..4].copy_from_slice(&source.octets());
    header[4..8].copy_from_slice(&destination.octets());
    header[9] = 6;
    header[10..12].copy_from_slice(&((END - TCP) as u16).to_be_bytes());
    header
}

/// The Internet checksum (RFC 1071) of parts of even length, one after the other.
fn checksum<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> [u8; 2] {
    let words = parts.into_iter().flat_map(|part| part.chunks_exact(2));
    let mut sum: u32 = words.map(|word| u32::from(u16::from_be_bytes([word[0], word[1]]))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    // At most 16 bits are left.
    (!(sum as u16)).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use etherparse::{NetSlice, SlicedPacket, TransportSlice};

    use super::*;
    use crate::flows::{Random, draw};
    use crate::network::{PORT_MAC, client_end};

    /// What etherparse reads in a frame, after it has found every length and checksum right.
    fn judge(frame: &Frame) -> (SocketAddrV4, SocketAddrV4, bool, bool) {
        let packet = SlicedPacket::from_ethernet(frame).unwrap();
        let Some(NetSlice::Ipv4(ip)) = &packet.net else { panic!("no IPv4") };
        let header = ip.header().to_header();
        assert_eq!(header.header_checksum, header.calc_header_checksum());
        assert_eq!((header.total_len, header.time_to_live, header.dont_fragment), (40, 64, true));
        let Some(TransportSlice::Tcp(tcp)) = &packet.transport else { panic!("no TCP") };
        let segment = tcp.to_header();
        assert_eq!(Ok(segment.checksum), segment.calc_checksum_ipv4(&header, tcp.payload()));
        assert_eq!(tcp.payload(), [] as [u8; 0], "padding is no data");
        (
            SocketAddrV4::new(header.source.into(), segment.source_port),
            SocketAddrV4::new(header.destination.into(), segment.destination_port),
            segment.syn,
            segment.ack,
        )
    }

    #[test]
    fn every_frame_is_right_and_of_a_flow_of_its_own() {
        let mut seen = HashSet::new();
        for number in draw(20_000, &mut Random::new(1)) {
            let client = client_end(number);
            let (source, destination, syn, ack) = judge(&from_client(Segment::Ack, client, PORT_MAC));
            assert_eq!((source, destination, syn, ack), (client, SERVICE, false, true));
            assert_eq!(judge(&from_client(Segment::Syn, client, PORT_MAC)), (client, SERVICE, true, false));
            assert!(seen.insert(source));
        }
    }

    #[test]
    fn it_goes_from_the_gateway_to_the_port() {
        let frame = from_client(Segment::Ack, client_end(0), PORT_MAC);
        let packet = SlicedPacket::from_ethernet(&frame).unwrap();
        let Some(etherparse::LinkSlice::Ethernet2(ethernet)) = packet.link else { panic!("no Ethernet") };
        assert_eq!((ethernet.destination(), ethernet.source()), (PORT_MAC, GATEWAY.1));
    }
}
