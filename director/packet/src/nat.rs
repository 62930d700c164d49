//! The translation of an address and a port, in place.

use zerocopy::FromBytes;

use crate::checksum::{Delta, pseudo_header};
use crate::ethernet::{HEADER, Mac};
use crate::header::{Ipv4, Ipv6, Sctp, Tcp, Udp};
use crate::parse::Segment;
use crate::{Endpoint, SCTP, TCP, UDP, crc32c};

/// Which end of a packet is replaced.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// Source address and port.
    Source,
    /// Destination address and port.
    Destination,
}

/// The replacement of one endpoint by another of the same family, with what it does to the checksums.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Change {
    /// What is put in.
    pub to: Endpoint,
    /// What it adds to the sum of the IPv4 header; IPv6 has none.
    pub network: Delta,
    /// What it adds to the sum of the transport: the pseudo-header and the port.
    pub transport: Delta,
}

impl Change {
    /// The replacement of `from` by `to`.
    #[inline]
    #[must_use]
    pub fn between(from: impl Into<Endpoint>, to: impl Into<Endpoint>) -> Self {
        let (from, to) = (from.into(), to.into());
        if let (Endpoint::V4(from), Endpoint::V4(to)) = (from, to) {
            let network = Delta::of_u32(from.address(), to.address());
            let transport = network.and(Delta::of_u16(from.port(), to.port()));
            return Self { to: Endpoint::V4(to), network, transport };
        }
        let address = Delta::of_address(from.address(), to.address());
        Self { to, network: Delta::NONE, transport: address.and(Delta::of_u16(from.port(), to.port())) }
    }

    /// The replacement of `to` by `from`, from what was kept of the opposite one.
    #[must_use]
    pub fn opposite(self, from: impl Into<Endpoint>) -> Self {
        Self { to: from.into(), network: self.network.opposite(), transport: self.transport.opposite() }
    }

    /// Replaces an end of the packet in `frame` and decrements its TTL or hop limit, keeping the checksums as
    /// right or as wrong as they were; a UDP checksum that was not in use is computed where the whole packet
    /// is at hand. `segment` is what [`crate::parse()`] said of this frame; of another protocol only the address is
    /// replaced.
    #[inline]
    pub fn apply(&self, frame: &mut [u8], segment: &Segment, end: End) {
        let change = Self { network: self.network.and(Delta::TTL_DECREMENT), ..*self };
        change.put(frame, segment, end, segment.ttl.wrapping_sub(1));
    }

    /// As [`Self::apply`], but the TTL stays: for showing a packet to its sender again.
    pub fn put_back(&self, frame: &mut [u8], segment: &Segment, end: End) {
        self.put(frame, segment, end, segment.ttl);
    }

    #[inline]
    fn put(&self, frame: &mut [u8], segment: &Segment, end: End, ttl: u8) {
        let header = HEADER + usize::from(segment.header);
        let Some((head, data)) = frame.split_at_mut_checked(header) else { return };
        let Some(packet) = head.get_mut(HEADER..) else { return };
        match self.to {
            Endpoint::V4(to) => {
                let Ok((ip, _)) = Ipv4::mut_from_prefix(packet) else { return };
                ip.checksum = self.network.apply(ip.checksum);
                ip.ttl = ttl;
                match end {
                    End::Source => ip.source.set(to.address()),
                    End::Destination => ip.destination.set(to.address()),
                }
            }
            Endpoint::V6(to) => {
                let Ok((ip, _)) = Ipv6::mut_from_prefix(packet) else { return };
                ip.hop_limit = ttl;
                match end {
                    End::Source => ip.source.set(to.address()),
                    End::Destination => ip.destination.set(to.address()),
                }
            }
        }
        let length = segment.length - segment.header;
        if segment.protocol == TCP {
            let Ok((tcp, _)) = Tcp::mut_from_prefix(data) else { return };
            tcp.checksum = self.transport.apply(tcp.checksum);
            match end {
                End::Source => tcp.source.set(self.to.port()),
                End::Destination => tcp.destination.set(self.to.port()),
            }
        } else if segment.protocol == SCTP {
            self.put_sctp(data, end, length);
        } else if segment.protocol == UDP {
            let Ok((udp, _)) = Udp::mut_from_prefix(data) else { return };
            match end {
                End::Source => udp.source.set(self.to.port()),
                End::Destination => udp.destination.set(self.to.port()),
            }
            if udp.checksum == [0, 0] {
                compute_udp(packet, data, length);
            } else {
                udp.checksum = self.transport.apply_udp(udp.checksum);
            }
        }
    }
}

impl Change {
    /// Replaces a port of an SCTP packet of `length` bytes. The addresses are not in its checksum.
    #[cold]
    fn put_sctp(&self, data: &mut [u8], end: End, length: u16) {
        let Ok((sctp, _)) = Sctp::mut_from_prefix(data) else { return };
        let ports = |sctp: &Sctp| {
            let ([a, b], [c, d]) = (sctp.source.to_bytes(), sctp.destination.to_bytes());
            [a, b, c, d]
        };
        let old = ports(sctp);
        match end {
            End::Source => sctp.source.set(self.to.port()),
            End::Destination => sctp.destination.set(self.to.port()),
        }
        let change = crc32c::change(old, ports(sctp), length.saturating_sub(old.len() as u16));
        sctp.checksum = (u32::from_le_bytes(sctp.checksum) ^ change).to_le_bytes();
    }
}

/// Puts in the checksum of a datagram of `length` bytes that had none, in a packet with these headers. Where part
/// of it lies elsewhere it goes on having none, which IPv4 allows (RFC 768).
#[cold]
fn compute_udp(packet: &[u8], data: &mut [u8], length: u16) {
    let Some(datagram) = data.get_mut(..usize::from(length)) else { return };
    let Some(mut sum) = pseudo_header(packet, UDP, length) else { return };
    sum.add(datagram);
    if let Ok((udp, _)) = Udp::mut_from_prefix(datagram) {
        udp.checksum = match sum.checksum() {
            [0, 0] => [0xff, 0xff],
            other => other,
        };
    }
}

/// Puts in the MAC addresses of the next hop and of the port the frame leaves by.
#[inline]
pub fn set_macs(frame: &mut [u8], destination: Mac, source: Mac) {
    if let Some(macs) = frame.first_chunk_mut::<12>() {
        let mut both = [0; 12];
        both[..6].copy_from_slice(&destination.0);
        both[6..].copy_from_slice(&source.0);
        *macs = both;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Endpoint4;
    use crate::parse::{Verdict, parse};
    use etherparse::{NetSlice, PacketBuilder, SlicedPacket, TransportSlice};

    const MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);

    fn builder(source: u32, destination: u32) -> etherparse::PacketBuilderStep<etherparse::IpHeaders> {
        PacketBuilder::ethernet2([2; 6], MAC.0).ipv4(source.to_be_bytes(), destination.to_be_bytes(), 64)
    }

    fn segment(frame: &[u8]) -> Segment {
        match parse(frame, frame.len(), MAC) {
            Verdict::Segment(segment) => segment,
            other => panic!("{other:?}"),
        }
    }

    /// Judges a frame by an independent parser: endpoints, TTL, both checksums.
    fn judge(frame: &[u8], source: Endpoint4, destination: Endpoint4, ttl: u8, right: bool) {
        let packet = SlicedPacket::from_ethernet(frame).unwrap();
        let Some(NetSlice::Ipv4(ip)) = packet.net else { panic!("not IPv4") };
        let header = ip.header().to_header();
        assert_eq!(header.header_checksum, header.calc_header_checksum());
        assert_eq!(header.time_to_live, ttl);
        assert_eq!(
            (u32::from_be_bytes(header.source), u32::from_be_bytes(header.destination)),
            (source.address(), destination.address())
        );
        let (ports, found, expected) = match packet.transport.unwrap() {
            TransportSlice::Tcp(tcp) => {
                let expected = tcp.to_header().calc_checksum_ipv4(&header, tcp.payload()).unwrap();
                ((tcp.source_port(), tcp.destination_port()), tcp.checksum(), expected)
            }
            TransportSlice::Udp(udp) => {
                let expected = udp.to_header().calc_checksum_ipv4(&header, udp.payload()).unwrap();
                ((udp.source_port(), udp.destination_port()), udp.checksum(), expected)
            }
            other => panic!("{other:?}"),
        };
        assert_eq!(ports, (source.port(), destination.port()));
        // 0 and 0xffff are the same number in one's complement; a receiver takes both.
        let same = |a: u16, b: u16| a % 0xffff == b % 0xffff;
        assert_eq!(same(found, expected), right, "checksum {found:04x}, computed {expected:04x}");
    }

    #[test]
    fn a_translation_there_and_back() {
        bolero::check!().with_type::<(u32, u16, u32, u16, u32, u16, Vec<u8>, bool)>().for_each(
            |(client, client_port, vip, vip_port, server, server_port, payload, tcp)| {
                let client = Endpoint4::new(*client, *client_port);
                let vip = Endpoint4::new(*vip, *vip_port);
                let server = Endpoint4::new(*server, *server_port);
                let payload = &payload[..payload.len().min(1400)];
                let mut frame = Vec::new();
                let start = builder(client.address(), vip.address());
                if *tcp {
                    start.tcp(client.port(), vip.port(), 1, 1).write(&mut frame, payload).unwrap();
                } else {
                    start.udp(client.port(), vip.port()).write(&mut frame, payload).unwrap();
                }
                let change = Change::between(vip, server);
                change.apply(&mut frame.clone(), &segment(&frame), End::Destination);
                let known = segment(&frame);
                change.apply(&mut frame, &known, End::Destination);
                judge(&frame, client, server, 63, true);

                let mut reply = Vec::new();
                let start = builder(server.address(), client.address());
                if *tcp {
                    start.tcp(server.port(), client.port(), 1, 1).write(&mut reply, payload).unwrap();
                } else {
                    start.udp(server.port(), client.port()).write(&mut reply, payload).unwrap();
                }
                let known = segment(&reply);
                change.opposite(vip).apply(&mut reply, &known, End::Source);
                judge(&reply, vip, client, 63, true);
            },
        );
    }

    /// As [`judge`], of IPv6.
    fn judge_v6(frame: &[u8], source: Endpoint, destination: Endpoint, hops: u8) {
        let packet = SlicedPacket::from_ethernet(frame).unwrap();
        let Some(NetSlice::Ipv6(ip)) = packet.net else { panic!("not IPv6") };
        let header = ip.header().to_header();
        assert_eq!(header.hop_limit, hops);
        let (ports, found, expected) = match packet.transport.unwrap() {
            TransportSlice::Tcp(tcp) => {
                let expected = tcp.to_header().calc_checksum_ipv6(&header, tcp.payload()).unwrap();
                ((tcp.source_port(), tcp.destination_port()), tcp.checksum(), expected)
            }
            TransportSlice::Udp(udp) => {
                let expected = udp.to_header().calc_checksum_ipv6(&header, udp.payload()).unwrap();
                ((udp.source_port(), udp.destination_port()), udp.checksum(), expected)
            }
            other => panic!("{other:?}"),
        };
        let end = |address, port| Endpoint::v6(u128::from_be_bytes(address), port);
        assert_eq!((end(header.source, ports.0), end(header.destination, ports.1)), (source, destination));
        assert_eq!(found % 0xffff, expected % 0xffff, "checksum {found:04x}, computed {expected:04x}");
    }

    #[test]
    fn a_translation_over_ipv6() {
        bolero::check!().with_type::<([u128; 3], [u16; 3], Vec<u8>, bool, bool)>().cloned().for_each(
            |([client, vip, server], [from, to, own], payload, tcp, without)| {
                let (client, vip) = (Endpoint::v6(client, from), Endpoint::v6(vip, to));
                let server = Endpoint::v6(server, own);
                let payload = &payload[..payload.len().min(1400)];
                let frame = |source: Endpoint, destination: Endpoint| {
                    let (Endpoint::V6(source), Endpoint::V6(destination)) = (source, destination) else {
                        panic!("of IPv4")
                    };
                    let start = PacketBuilder::ethernet2([2; 6], MAC.0).ipv6(
                        source.address().to_be_bytes(),
                        destination.address().to_be_bytes(),
                        64,
                    );
                    let mut frame = Vec::new();
                    if tcp {
                        start
                            .tcp(source.port(), destination.port(), 1, 1)
                            .write(&mut frame, payload)
                            .unwrap();
                    } else {
                        start.udp(source.port(), destination.port()).write(&mut frame, payload).unwrap();
                        if without {
                            frame[60..62].fill(0);
                        }
                    }
                    frame
                };
                let change = Change::between(vip, server);
                let mut there = frame(client, vip);
                let known = segment(&there);
                change.apply(&mut there, &known, End::Destination);
                judge_v6(&there, client, server, 63);
                change.opposite(vip).put_back(&mut there, &Segment { ttl: 63, ..known }, End::Destination);
                judge_v6(&there, client, vip, 63);
                let mut back = frame(server, client);
                let known = segment(&back);
                change.opposite(vip).apply(&mut back, &known, End::Source);
                judge_v6(&back, vip, client, 63);
            },
        );
    }

    #[test]
    fn a_wrong_checksum_stays_wrong() {
        let (client, vip, server) = (Endpoint4::new(1, 2), Endpoint4::new(3, 4), Endpoint4::new(5, 6));
        let mut frame = Vec::new();
        builder(1, 3).tcp(2, 4, 1, 1).write(&mut frame, b"x").unwrap();
        frame[51] ^= 0x10;
        let known = segment(&frame);
        Change::between(vip, server).apply(&mut frame, &known, End::Destination);
        judge(&frame, client, server, 63, false);
    }

    #[test]
    fn a_checksum_not_in_use_leaves_computed() {
        let (client, vip, server) = (Endpoint4::new(1, 2), Endpoint4::new(3, 4), Endpoint4::new(5, 6));
        let mut frame = Vec::new();
        builder(1, 3).udp(2, 4).write(&mut frame, b"odd").unwrap();
        frame.extend([0xaa; 9]); // padding of a short frame is none of the datagram
        frame[40..42].fill(0);
        let known = segment(&frame);
        Change::between(vip, server).apply(&mut frame, &known, End::Destination);
        assert_ne!(frame[40..42], [0, 0]);
        judge(&frame[..14 + 31], client, server, 63, true);
    }

    #[test]
    fn sctp_there_and_back() {
        bolero::check!().with_type::<(u16, u16, u16, Vec<u8>)>().for_each(
            |(client, vip, server, payload)| {
                let packet = |source: u16, destination: u16| {
                    let mut data = [source.to_be_bytes(), destination.to_be_bytes()].concat();
                    data.extend([0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 4]);
                    data.extend(&payload[..payload.len().min(1400)]);
                    let sum = crate::crc32c::of(&data).to_le_bytes();
                    data[8..12].copy_from_slice(&sum);
                    data
                };
                let frame = |source, destination, data: &[u8]| {
                    let mut frame = Vec::new();
                    builder(source, destination).write(&mut frame, etherparse::IpNumber::SCTP, data).unwrap();
                    // Padding of a short frame.
                    frame.extend([0xaa; 7]);
                    frame
                };
                let change = Change::between(Endpoint4::new(3, *vip), Endpoint4::new(5, *server));
                let mut there = frame(1, 3, &packet(*client, *vip));
                let known = segment(&there);
                change.apply(&mut there, &known, End::Destination);
                assert_eq!(there[34..there.len() - 7], packet(*client, *server));
                // A part of it is enough.
                let mut back = frame(5, 1, &packet(*server, *client));
                let known = segment(&back);
                change.opposite(Endpoint4::new(3, *vip)).apply(&mut back[..46], &known, End::Source);
                assert_eq!(back[34..back.len() - 7], packet(*vip, *client));
                assert_eq!((&back[26..30], &back[30..34]), (&[0, 0, 0, 3][..], &[0, 0, 0, 1][..]));
            },
        );
    }

    #[test]
    fn a_computed_zero_is_sent_as_ones() {
        // The payload is chosen so that the sum is 0xffff after the translation.
        let (vip, server) = (Endpoint4::new(3, 4), Endpoint4::new(5, 6));
        let mut frame = Vec::new();
        builder(1, 5).udp(2, 6).write(&mut frame, &[0, 0]).unwrap();
        let sum = [frame[40], frame[41]];
        frame.clear();
        builder(1, 3).udp(2, 4).write(&mut frame, &sum).unwrap();
        let known = segment(&frame);
        Change::between(vip, server).apply(&mut frame, &known, End::Destination);
        assert_eq!(frame[40..42], [0xff, 0xff]);
        let mut without = Vec::new();
        builder(1, 3).udp(2, 4).write(&mut without, &sum).unwrap();
        without[40..42].fill(0);
        Change::between(vip, server).apply(&mut without, &known, End::Destination);
        assert_eq!(without[40..42], [0xff, 0xff]);
    }
}
