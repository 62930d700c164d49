//! Frames made where they are wanted: a template, and the client that is put into it.
//!
//! Making a frame takes a copy of a cache line and two sums of checksums, so that what is measured is the
//! director and not its generator.

use std::net::{IpAddr, SocketAddrV4};

use crate::kind::{Kind, Protocol};
use crate::network::{GATEWAY, Mac, PORT_MAC, SERVER_PORT, SERVICE, servers};

/// The room a frame is made in: two cache lines, of which most frames need the first only.
#[derive(Clone, Copy)]
#[repr(align(64))]
pub struct Slot(pub [u8; ROOM]);

const ROOM: usize = 2 * LINE;

/// Bytes of a cache line.
pub const LINE: usize = 64;

impl Slot {
    /// Room for a frame.
    pub const EMPTY: Self = Self([0; ROOM]);
}

const _: () = assert!(size_of::<Slot>() == ROOM);

/// Control bits of TCP (RFC 9293, section 3.1).
pub mod flags {
    /// No more data from the sender.
    pub const FIN: u8 = 0x01;
    /// Opens.
    pub const SYN: u8 = 0x02;
    /// Breaks off.
    pub const RST: u8 = 0x04;
    /// Acknowledges.
    pub const ACK: u8 = 0x10;
}

const IP: usize = 14;

/// The TTL that packets are sent with.
pub const TTL: u8 = 64;

/// Where the sequence number stands in a frame of TCP over IPv4.
pub const SEQUENCE: std::ops::Range<usize> = Kind::TCP.transport() + 4..Kind::TCP.transport() + 8;

/// Where an end stands, its address and its port: the source's or the destination's.
#[derive(Clone, Copy)]
struct Place {
    address: usize,
    port: usize,
}

impl Place {
    const fn source(kind: Kind) -> Self {
        Self { address: if kind.is_v6() { IP + 8 } else { IP + 12 }, port: kind.transport() }
    }

    const fn destination(kind: Kind) -> Self {
        Self { address: if kind.is_v6() { IP + 24 } else { IP + 16 }, port: kind.transport() + 2 }
    }
}

/// A frame without its client.
#[derive(Clone, Copy)]
pub struct Template {
    slot: Slot,
    kind: Kind,
    /// The frame's length in bytes.
    length: usize,
    /// Where the client's port belongs, and its address: of IPv6 the last four bytes, for those before it are the same
    /// of all.
    client: Place,
    /// Where the transport checksum belongs.
    checksum: usize,
    /// The sums of both headers' words, checksums and client left out.
    ip: u32,
    transport: u32,
}

/// What the packets of one connection carry, besides who sends them. Of UDP it is the data only.
#[derive(Clone, Copy)]
pub struct Segment {
    /// TCP's control bits.
    pub flags: u8,
    /// The sequence number and the acknowledgment number.
    pub numbers: (u32, u32),
    /// Bytes of data, at most 6: no frame is longer than the shortest of Ethernet, where it is not without data.
    pub data: u8,
}

impl Segment {
    /// The most data.
    const MOST: u8 = 6;

    /// Opens a connection.
    pub const SYN: Self = Self { flags: flags::SYN, numbers: (1000, 0), data: 0 };
    /// Acknowledges, in one that is open.
    pub const ACK: Self = Self { flags: flags::ACK, numbers: (1001, 2001), data: 0 };
    /// Breaks it off.
    pub const RST: Self = Self { flags: flags::RST, numbers: (1001, 0), data: 0 };
}

impl Template {
    /// A packet from a client to the virtual service.
    #[must_use]
    pub fn to_service(kind: Kind, segment: Segment) -> Self {
        Self::new(kind, segment, GATEWAY.1, Place::source(kind), (Place::destination(kind), SERVICE))
    }

    /// A packet from a real server, by its place in [`servers`], to a client.
    #[must_use]
    pub fn to_client(kind: Kind, segment: Segment, server: usize) -> Self {
        let (address, mac) = servers()[server];
        let server = (Place::source(kind), SocketAddrV4::new(address, SERVER_PORT));
        Self::new(kind, segment, mac, Place::destination(kind), server)
    }

    /// What comes of a client's packet that is sent on to a real server.
    #[must_use]
    pub fn to_server(kind: Kind, segment: Segment, server: usize) -> Self {
        let (address, mac) = servers()[server];
        let server = (Place::destination(kind), SocketAddrV4::new(address, SERVER_PORT));
        Self::new(kind, segment, GATEWAY.1, Place::source(kind), server).forwarded(PORT_MAC, mac, TTL - 1)
    }

    /// What comes of a real server's packet that is sent on to the client.
    #[must_use]
    pub fn from_service(kind: Kind, segment: Segment) -> Self {
        let service = (Place::source(kind), SERVICE);
        Self::new(kind, segment, PORT_MAC, Place::destination(kind), service).forwarded(
            PORT_MAC,
            GATEWAY.1,
            TTL - 1,
        )
    }

    fn new(
        kind: Kind,
        segment: Segment,
        from: Mac,
        mut client: Place,
        (place, other): (Place, SocketAddrV4),
    ) -> Self {
        let Segment { flags, numbers: (sequence, acknowledged), data } = segment;
        let (transport, start) = (kind.transport(), kind.data());
        let end = start + usize::from(data.min(Segment::MOST));
        let mut slot = Slot::EMPTY;
        let frame = &mut slot.0;
        frame[0..6].copy_from_slice(&PORT_MAC);
        frame[6..12].copy_from_slice(&from);
        if kind.is_v6() {
            frame[12..14].copy_from_slice(&0x86dd_u16.to_be_bytes());
            frame[IP] = 0x60;
            frame[IP + 4..IP + 6].copy_from_slice(&((end - transport) as u16).to_be_bytes());
            frame[IP + 6] = kind.number();
            frame[IP + 7] = TTL;
        } else {
            frame[12..14].copy_from_slice(&0x0800_u16.to_be_bytes());
            frame[IP] = 0x45;
            frame[IP + 2..IP + 4].copy_from_slice(&((end - IP) as u16).to_be_bytes());
            frame[IP + 6] = 0x40;
            frame[IP + 8] = TTL;
            frame[IP + 9] = kind.number();
        }
        // Of the client the part that is the same of all.
        for (place, address) in
            [(client.address, std::net::Ipv4Addr::UNSPECIFIED), (place.address, *other.ip())]
        {
            match kind.address(address) {
                IpAddr::V4(address) => frame[place..place + 4].copy_from_slice(&address.octets()),
                IpAddr::V6(address) => frame[place..place + 16].copy_from_slice(&address.octets()),
            }
        }
        frame[place.port..place.port + 2].copy_from_slice(&other.port().to_be_bytes());
        let checksum = match kind.protocol {
            Protocol::Tcp => {
                frame[transport + 4..transport + 8].copy_from_slice(&sequence.to_be_bytes());
                frame[transport + 8..transport + 12].copy_from_slice(&acknowledged.to_be_bytes());
                frame[transport + 12] = 0x50;
                frame[transport + 13] = flags;
                frame[transport + 14..transport + 16].copy_from_slice(&0xffff_u16.to_be_bytes());
                transport + 16
            }
            Protocol::Udp => {
                let length = ((end - transport) as u16).to_be_bytes();
                frame[transport + 4..transport + 6].copy_from_slice(&length);
                transport + 6
            }
        };
        frame[start..end].fill(b'.');
        let addresses = Place::source(kind).address..transport;
        let pseudo = sum(&frame[addresses]) + u32::from(kind.number()) + (end - transport) as u32;
        let (ip, transport) = (sum(&frame[IP..transport]), pseudo + sum(&frame[transport..end]));
        if kind.is_v6() {
            client.address += 12;
        }
        Self { slot, kind, length: end.max(kind.length()), client, checksum, ip, transport }
    }

    /// The same packet between other MAC addresses, with another TTL.
    #[must_use]
    pub fn forwarded(mut self, from: Mac, to: Mac, ttl: u8) -> Self {
        let frame = &mut self.slot.0;
        frame[0..6].copy_from_slice(&to);
        frame[6..12].copy_from_slice(&from);
        frame[if self.kind.is_v6() { IP + 7 } else { IP + 8 }] = ttl;
        self.ip = sum(&frame[IP..self.kind.transport()]);
        self
    }

    /// The same packet to another MAC address.
    #[must_use]
    pub fn sent_to(mut self, to: Mac) -> Self {
        self.slot.0[0..6].copy_from_slice(&to);
        self
    }

    /// The frame of a client, by itself.
    #[must_use]
    pub fn frame(&self, client: SocketAddrV4) -> Vec<u8> {
        let mut slot = Slot::EMPTY;
        self.write(&mut slot, client.ip().to_bits(), client.port());
        slot.0[..self.length].to_vec()
    }

    /// Makes the frame of a client, of which `address` and `port` are given in host byte order.
    #[inline]
    pub fn write(&self, into: &mut Slot, address: u32, port: u16) {
        self.fill(into, address, port, 0);
    }

    /// As [`Self::write`], with `number` as the sequence number, which the template, of TCP over IPv4, must have as 0.
    #[inline]
    pub fn write_numbered(&self, into: &mut Slot, address: u32, port: u16, number: u32) {
        self.fill(into, address, port, (number >> 16) + (number & 0xffff));
        into.0[SEQUENCE].copy_from_slice(&number.to_be_bytes());
    }

    /// The frame of a client; `more` is what the transport checksum covers besides.
    #[inline(always)]
    fn fill(&self, into: &mut Slot, address: u32, port: u16, more: u32) {
        let frame = &mut into.0;
        frame[..LINE].copy_from_slice(&self.slot.0[..LINE]);
        if self.length > LINE {
            frame[LINE..].copy_from_slice(&self.slot.0[LINE..]);
        }
        // The places are even numbers, all in the first line but that of a checksum; a mask says so to the compiler.
        frame[self.client.address & 62..][..4].copy_from_slice(&address.to_be_bytes());
        frame[self.client.port & 62..][..2].copy_from_slice(&port.to_be_bytes());
        let halves = (address >> 16) + (address & 0xffff);
        if !self.kind.is_v6() {
            frame[IP + 10..IP + 12].copy_from_slice(&checksum(self.ip + halves).to_be_bytes());
        }
        let mut transport = checksum(self.transport + halves + u32::from(port) + more);
        // Of UDP 0 says that there is none (RFC 768).
        if transport == 0 && self.kind.protocol == Protocol::Udp {
            transport = !0;
        }
        frame[self.checksum & 126..][..2].copy_from_slice(&transport.to_be_bytes());
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
pub(crate) mod tests {
    use std::collections::HashSet;
    use std::net::SocketAddr;

    use etherparse::{LinkSlice, NetSlice, SlicedPacket, TransportSlice};

    use super::*;
    use crate::flows::{Random, draw};
    use crate::network::client_end;

    /// The ends, the time to live, the data and TCP's FIN and SYN that etherparse reads in a frame, after it has found
    /// every length and checksum right.
    pub(crate) fn judge(frame: &[u8]) -> ([SocketAddr; 2], u8, Vec<u8>, (bool, bool)) {
        let packet = SlicedPacket::from_ethernet(frame).unwrap();
        let transport = packet.transport.as_ref();
        let (addresses, ttl, expected): ([IpAddr; 2], _, _) = match &packet.net {
            Some(NetSlice::Ipv4(ip)) => {
                let header = ip.header().to_header();
                assert_eq!(header.header_checksum, header.calc_header_checksum());
                assert!(header.dont_fragment);
                let expected = match transport {
                    Some(TransportSlice::Tcp(tcp)) => {
                        tcp.to_header().calc_checksum_ipv4(&header, tcp.payload())
                    }
                    Some(TransportSlice::Udp(udp)) => {
                        udp.to_header().calc_checksum_ipv4(&header, udp.payload())
                    }
                    other => panic!("{other:?}"),
                };
                ([header.source.into(), header.destination.into()], header.time_to_live, expected)
            }
            Some(NetSlice::Ipv6(ip)) => {
                let header = ip.header().to_header();
                let expected = match transport {
                    Some(TransportSlice::Tcp(tcp)) => {
                        tcp.to_header().calc_checksum_ipv6(&header, tcp.payload())
                    }
                    Some(TransportSlice::Udp(udp)) => {
                        udp.to_header().calc_checksum_ipv6(&header, udp.payload())
                    }
                    other => panic!("{other:?}"),
                };
                ([header.source.into(), header.destination.into()], header.hop_limit, expected)
            }
            other => panic!("{other:?}"),
        };
        let (ports, checksum, data, bits) = match transport {
            Some(TransportSlice::Tcp(tcp)) => {
                let ports = [tcp.source_port(), tcp.destination_port()];
                (ports, tcp.checksum(), tcp.payload().to_vec(), (tcp.fin(), tcp.syn()))
            }
            Some(TransportSlice::Udp(udp)) => {
                let ports = [udp.source_port(), udp.destination_port()];
                (ports, udp.checksum(), udp.payload().to_vec(), (false, false))
            }
            other => panic!("{other:?}"),
        };
        assert_eq!(Ok(checksum), expected);
        let [source, destination] = std::array::from_fn(|at| SocketAddr::new(addresses[at], ports[at]));
        ([source, destination], ttl, data, bits)
    }

    #[test]
    fn every_frame_is_right() {
        let segment = Segment { flags: flags::FIN | flags::ACK, numbers: (7, 0xffff_ffff), data: 5 };
        let server = SocketAddrV4::new(servers()[2].0, SERVER_PORT);
        for kind in Kind::ALL {
            let frames = [
                (Template::to_service(kind, segment), [None, Some(SERVICE)], TTL),
                (Template::to_client(kind, segment, 2), [Some(server), None], TTL),
                (Template::to_server(kind, segment, 2), [None, Some(server)], TTL - 1),
                (Template::from_service(kind, segment), [Some(SERVICE), None], TTL - 1),
            ];
            let mut slot = Slot([0xee; ROOM]);
            for number in draw(10_000, &mut Random::new(3)) {
                let client = client_end(number);
                for (template, ends, ttl) in &frames {
                    template.write(&mut slot, client.ip().to_bits(), client.port());
                    assert_eq!(slot.0[..template.length], template.frame(client));
                    let ends = ends.map(|end| kind.end(end.unwrap_or(client)));
                    let fin = kind.protocol == Protocol::Tcp;
                    let expected = (ends, *ttl, b".....".to_vec(), (fin, false));
                    assert_eq!(judge(&slot.0[..template.length]), expected);
                }
            }
        }
    }

    #[test]
    fn a_frame_without_data_is_of_the_length_of_its_kind() {
        for kind in Kind::ALL {
            let mut seen = HashSet::new();
            for number in draw(10_000, &mut Random::new(1)) {
                let frame =
                    Template::to_service(kind, Segment::SYN).sent_to([7; 6]).frame(client_end(number));
                assert_eq!(frame.len(), kind.length());
                let ([source, _], _, data, bits) = judge(&frame);
                assert_eq!((data, bits), (Vec::new(), (false, kind.protocol == Protocol::Tcp)));
                assert!(seen.insert(source));
                let packet = SlicedPacket::from_ethernet(&frame).unwrap();
                let Some(LinkSlice::Ethernet2(ethernet)) = packet.link else { panic!("no Ethernet") };
                assert_eq!((ethernet.destination(), ethernet.source()), ([7; 6], GATEWAY.1));
            }
        }
    }
}
