//! Frames made where they are wanted: a template, and the client that is put into it.
//!
//! Making a frame takes a copy of a cache line and two sums of checksums, so that what is measured is the
//! director and not its generator.

use std::net::SocketAddrV4;

use crate::frame::{Frame, LENGTH};
use crate::network::{GATEWAY, Mac, PORT_MAC, SERVER_PORT, SERVICE, servers};

/// The room a frame is made in: one cache line.
#[derive(Clone, Copy)]
#[repr(align(64))]
pub struct Slot(pub [u8; 64]);

/// Control bits of TCP (RFC 9293, section 3.1).
pub mod flags {
    /// No more data from the sender.
    pub const FIN: u8 = 0x01;
    /// Opens.
    pub const SYN: u8 = 0x02;
    /// Acknowledges.
    pub const ACK: u8 = 0x10;
}

const IP: usize = 14;
const TCP: usize = IP + 20;
const DATA: usize = TCP + 20;

/// The TTL that segments are sent with.
pub const TTL: u8 = 64;

/// Where the sequence number stands.
pub const SEQUENCE: std::ops::Range<usize> = TCP + 4..TCP + 8;

/// Where the client's address and port stand: as the source of its own frames, as the destination of those
/// to it.
const SOURCE: (usize, usize) = (IP + 12, TCP);
const DESTINATION: (usize, usize) = (IP + 16, TCP + 2);

/// A frame without its client.
#[derive(Clone, Copy)]
pub struct Template {
    slot: Slot,
    /// Where the client's address and port belong.
    client: (usize, usize),
    /// The sums of both headers' words, checksums and client left out.
    ip: u32,
    tcp: u32,
}

/// What the segments of one connection carry, besides who sends them.
#[derive(Clone, Copy)]
pub struct Segment {
    /// TCP's control bits.
    pub flags: u8,
    /// The sequence number and the acknowledgment number.
    pub numbers: (u32, u32),
    /// Bytes of data, at most 6: no frame is longer than the shortest of Ethernet.
    pub data: u8,
}

impl Template {
    /// A segment from a client to the virtual service.
    #[must_use]
    pub fn to_service(segment: Segment) -> Self {
        Self::new(segment, GATEWAY.1, SOURCE, (DESTINATION, SERVICE))
    }

    /// A segment from a real server, by its place in [`servers`], to a client.
    #[must_use]
    pub fn to_client(segment: Segment, server: usize) -> Self {
        let (address, mac) = servers()[server];
        Self::new(segment, mac, DESTINATION, (SOURCE, SocketAddrV4::new(address, SERVER_PORT)))
    }

    /// What comes of a client's segment that is sent on to a real server.
    #[must_use]
    pub fn to_server(segment: Segment, server: usize) -> Self {
        let (address, mac) = servers()[server];
        let ends = (DESTINATION, SocketAddrV4::new(address, SERVER_PORT));
        Self::new(segment, GATEWAY.1, SOURCE, ends).forwarded(PORT_MAC, mac, TTL - 1)
    }

    /// What comes of a real server's segment that is sent on to the client.
    #[must_use]
    pub fn from_service(segment: Segment) -> Self {
        Self::new(segment, PORT_MAC, DESTINATION, (SOURCE, SERVICE)).forwarded(PORT_MAC, GATEWAY.1, TTL - 1)
    }

    fn new(
        segment: Segment,
        from: Mac,
        client: (usize, usize),
        (place, other): ((usize, usize), SocketAddrV4),
    ) -> Self {
        let Segment { flags, numbers: (sequence, acknowledged), data } = segment;
        let data = usize::from(data).min(LENGTH - DATA);
        let mut frame: Frame = [0; LENGTH];
        frame[0..6].copy_from_slice(&PORT_MAC);
        frame[6..12].copy_from_slice(&from);
        frame[12..14].copy_from_slice(&0x0800_u16.to_be_bytes());
        frame[IP] = 0x45;
        frame[IP + 2..IP + 4].copy_from_slice(&((DATA + data - IP) as u16).to_be_bytes());
        frame[IP + 6] = 0x40;
        frame[IP + 8] = TTL;
        frame[IP + 9] = 6;
        frame[place.0..place.0 + 4].copy_from_slice(&other.ip().octets());
        frame[place.1..place.1 + 2].copy_from_slice(&other.port().to_be_bytes());
        frame[TCP + 4..TCP + 8].copy_from_slice(&sequence.to_be_bytes());
        frame[TCP + 8..TCP + 12].copy_from_slice(&acknowledged.to_be_bytes());
        frame[TCP + 12] = 0x50;
        frame[TCP + 13] = flags;
        frame[TCP + 14..TCP + 16].copy_from_slice(&0xffff_u16.to_be_bytes());
        frame[DATA..DATA + data].fill(b'.');
        let pseudo = sum(&frame[IP + 12..TCP]) + 6 + (DATA + data - TCP) as u32;
        let mut slot = Slot([0; 64]);
        slot.0[..LENGTH].copy_from_slice(&frame);
        Self { slot, client, ip: sum(&frame[IP..TCP]), tcp: pseudo + sum(&frame[TCP..DATA + data]) }
    }

    /// The same segment between other MAC addresses, with another TTL.
    #[must_use]
    pub fn forwarded(mut self, from: Mac, to: Mac, ttl: u8) -> Self {
        let frame = &mut self.slot.0;
        frame[0..6].copy_from_slice(&to);
        frame[6..12].copy_from_slice(&from);
        frame[IP + 8] = ttl;
        self.ip = sum(&frame[IP..TCP]);
        self
    }

    /// Makes the frame of a client, of which `address` and `port` are given in host byte order.
    #[inline]
    pub fn write(&self, into: &mut Slot, address: u32, port: u16) {
        self.fill(into, address, port, 0);
    }

    /// As [`Self::write`], with `number` as the sequence number, which the template must have as 0.
    #[inline]
    pub fn write_numbered(&self, into: &mut Slot, address: u32, port: u16, number: u32) {
        self.fill(into, address, port, (number >> 16) + (number & 0xffff));
        into.0[SEQUENCE].copy_from_slice(&number.to_be_bytes());
    }

    /// The frame of a client; `more` is what TCP's checksum covers besides.
    #[inline(always)]
    fn fill(&self, into: &mut Slot, address: u32, port: u16, more: u32) {
        *into = self.slot;
        let frame = &mut into.0;
        let (at_address, at_port) = self.client;
        // The places are constants below; a mask says so to the compiler.
        frame[at_address & 31..][..4].copy_from_slice(&address.to_be_bytes());
        frame[at_port & 63..][..2].copy_from_slice(&port.to_be_bytes());
        let halves = (address >> 16) + (address & 0xffff);
        frame[IP + 10..IP + 12].copy_from_slice(&checksum(self.ip + halves).to_be_bytes());
        let tcp = checksum(self.tcp + halves + u32::from(port) + more);
        frame[TCP + 16..TCP + 18].copy_from_slice(&tcp.to_be_bytes());
    }
}

/// The sum of the 16-bit words of a part; an odd byte at its end is the upper half of a word.
fn sum(part: &[u8]) -> u32 {
    part.chunks(2)
        .map(|word| u32::from(u16::from_be_bytes([word[0], word.get(1).copied().unwrap_or(0)])))
        .sum()
}

/// The Internet checksum of a sum (RFC 1071).
#[inline]
fn checksum(sum: u32) -> u16 {
    let folded = (sum & 0xffff) + (sum >> 16);
    !((folded & 0xffff) + (folded >> 16)) as u16
}

#[cfg(test)]
mod tests {
    use etherparse::{NetSlice, SlicedPacket, TransportSlice};

    use super::*;
    use crate::flows::{Random, draw};
    use crate::network::client_end;

    #[test]
    fn every_frame_is_right() {
        let segment = Segment { flags: flags::FIN | flags::ACK, numbers: (7, 0xffff_ffff), data: 5 };
        let back = Template::to_client(segment, 2);
        let forth = Template::to_service(segment);
        let server = SocketAddrV4::new(servers()[2].0, SERVER_PORT);
        let mut slot = Slot([0xee; 64]);
        for number in draw(10_000, &mut Random::new(3)) {
            let client = client_end(number);
            for (template, source, destination) in [(&forth, client, SERVICE), (&back, server, client)] {
                template.write(&mut slot, (*client.ip()).into(), client.port());
                let packet = SlicedPacket::from_ethernet(&slot.0[..LENGTH]).unwrap();
                let Some(NetSlice::Ipv4(ip)) = &packet.net else { panic!("no IPv4") };
                let header = ip.header().to_header();
                assert_eq!(header.header_checksum, header.calc_header_checksum());
                let Some(TransportSlice::Tcp(tcp)) = &packet.transport else { panic!("no TCP") };
                let segment = tcp.to_header();
                assert_eq!(Ok(segment.checksum), segment.calc_checksum_ipv4(&header, tcp.payload()));
                assert_eq!((tcp.payload(), segment.fin, segment.syn), (&b"....."[..], true, false));
                let ends =
                    [(header.source, segment.source_port), (header.destination, segment.destination_port)];
                let ends = ends.map(|(address, port)| SocketAddrV4::new(address.into(), port));
                assert_eq!(ends, [source, destination]);
            }
        }
    }
}
