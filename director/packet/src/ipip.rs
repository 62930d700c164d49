//! IPv4 in IPv4 (RFC 2003) and IPv6 in IPv6 (RFC 2473): a packet as the data of another one.

use zerocopy::byteorder::network_endian::{U16, U32, U128};
use zerocopy::{FromBytes, IntoBytes};

use crate::checksum::checksum;
use crate::ethernet::HEADER;
use crate::header::{Ipv4, Ipv6};
use crate::{Address, ipv6};

/// The protocol number of an IPv4 packet as data.
pub const IPIP: u8 = 4;

/// The protocol number of an IPv6 packet as data.
pub const IPV6: u8 = 41;

/// How many bytes longer an IPv4 packet becomes, and an IPv6 packet.
const OVERHEAD: usize = size_of::<Ipv4>();
const OVERHEAD_V6: usize = size_of::<Ipv6>();

/// How many bytes longer a packet becomes at most.
pub const MOST: usize = OVERHEAD_V6;

/// How many bytes longer a packet to this address becomes.
#[must_use]
pub const fn overhead(to: Address) -> usize {
    if matches!(to, Address::V6(_)) { OVERHEAD_V6 } else { OVERHEAD }
}

/// The bits of congestion notification: the lowest two of the type of service (RFC 3168).
const ECN: u8 = 3;

/// Their values for "takes part" and "congestion experienced".
const CAPABLE: u8 = 2;
const EXPERIENCED: u8 = 3;

/// Wraps the packet of a frame that was made longer by [`overhead`] bytes at its front; their contents are
/// overwritten. As in Linux's IPVS, the outer header has the packet's time to live and type of service. Its
/// congestion bits are those of a packet that takes part, so that it only shows congestion on the tunnel's way (RFC
/// 3168, section 9.1.1). With `dont_fragment` an outer IPv4 header has the packet's own flag, otherwise none. An
/// outer IPv6 header has neither identification nor flow label. False: there is no packet of the addresses' family.
pub fn wrap(
    frame: &mut [u8],
    source: Address,
    destination: Address,
    identification: u16,
    dont_fragment: bool,
) -> bool {
    let overhead = overhead(destination);
    if frame.len() < overhead + HEADER {
        return false;
    }
    frame.copy_within(overhead..overhead + HEADER, 0);
    let Some((head, packet)) = frame.split_at_mut_checked(HEADER + overhead) else { return false };
    let Some(place) = head.get_mut(HEADER..) else { return false };
    match (source, destination) {
        (Address::V4(source), Address::V4(destination)) => {
            wrap_v4(place, packet, source, destination, identification, dont_fragment)
        }
        (Address::V6(source), Address::V6(destination)) => wrap_v6(place, packet, source, destination),
        _ => None,
    }
    .is_some()
}

/// The type of service of the outer packet, from that of the inner one.
const fn outer_service(inner: u8) -> u8 {
    if inner & ECN == EXPERIENCED { inner & !ECN | CAPABLE } else { inner }
}

fn wrap_v6(place: &mut [u8], packet: &[u8], source: u128, destination: u128) -> Option<()> {
    let (inner, _) =
        Ipv6::ref_from_prefix(packet).ok().filter(|(inner, _)| inner.version_class_flow.get() >> 28 == 6)?;
    let class = outer_service((inner.version_class_flow.get() >> 20) as u8);
    let outer = Ipv6 {
        version_class_flow: U32::new(6 << 28 | u32::from(class) << 20),
        length: U16::new(inner.length.get().checked_add(OVERHEAD_V6 as u16)?),
        next: IPV6,
        hop_limit: inner.hop_limit,
        source: U128::new(source),
        destination: U128::new(destination),
    };
    outer.write_to(place).ok()
}

fn wrap_v4(
    place: &mut [u8],
    packet: &[u8],
    source: u32,
    destination: u32,
    identification: u16,
    dont_fragment: bool,
) -> Option<()> {
    let (inner, _) = Ipv4::ref_from_prefix(packet).ok()?;
    let flag = if dont_fragment { inner.fragment.get() & Ipv4::DONT_FRAGMENT } else { 0 };
    let mut outer = Ipv4 {
        version_and_length: 0x45,
        service: outer_service(inner.service),
        length: U16::new(inner.length.get().checked_add(OVERHEAD as u16)?),
        identification: U16::new(identification),
        fragment: U16::new(flag),
        ttl: inner.ttl,
        protocol: IPIP,
        checksum: [0; 2],
        source: U32::new(source),
        destination: U32::new(destination),
    };
    outer.checksum = checksum(outer.as_bytes());
    outer.write_to(place).ok()
}

/// The frame of the packet inside this frame's packet, with this frame's MAC addresses; the frame itself if there is
/// no packet inside.
#[must_use]
pub fn unwrapped(frame: &mut [u8]) -> &mut [u8] {
    let Some(at) = frame.get(HEADER..).and_then(inner_at) else { return frame };
    frame.copy_within(..HEADER, at);
    &mut frame[at..]
}

/// The offset of the packet inside a packet. The data of a later fragment may be anything.
fn inner_at(packet: &[u8]) -> Option<usize> {
    let (at, least) = match packet.first()? >> 4 {
        4 => {
            let (outer, _) = Ipv4::ref_from_prefix(packet).ok()?;
            let is_it = outer.protocol == IPIP && outer.fragment.get() & 0x1fff == 0;
            (is_it.then_some(OVERHEAD)?, size_of::<Ipv4>())
        }
        6 => {
            let upper = ipv6::upper(packet)?;
            let is_first = upper.fragment.is_none_or(|fragment| fragment.offset == 0);
            ((upper.protocol == IPV6 && is_first).then_some(usize::from(upper.at))?, size_of::<Ipv6>())
        }
        _ => return None,
    };
    (packet.len() >= at + least).then_some(at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use etherparse::{Ipv4Slice, PacketBuilder};

    fn frame(service: u8, dont_fragment: bool) -> Vec<u8> {
        let mut ip =
            etherparse::Ipv4Header::new(0, 9, etherparse::IpNumber::UDP, [10, 0, 0, 1], [10, 0, 0, 2])
                .unwrap();
        ip.dont_fragment = dont_fragment;
        let mut frame = Vec::new();
        PacketBuilder::ethernet2([2; 6], [4; 6])
            .ip(etherparse::IpHeaders::Ipv4(ip, Default::default()))
            .udp(5, 6)
            .write(&mut frame, b"hello")
            .unwrap();
        frame[15] = service;
        frame[24..26].fill(0);
        let sum = checksum(&frame[14..34]);
        frame[24..26].copy_from_slice(&sum);
        frame
    }

    fn wrapped(frame: &[u8], dont_fragment: bool) -> Vec<u8> {
        let mut out = [&[0xee; OVERHEAD][..], frame].concat();
        assert!(wrap(&mut out, Address::V4(0xc0a8_025a), Address::V4(0xc0a8_0247), 7, dont_fragment));
        out
    }

    fn frame_v6(class: u8) -> Vec<u8> {
        let mut frame = Vec::new();
        PacketBuilder::ethernet2([2; 6], [4; 6])
            .ipv6([0x20; 16], [0xfd; 16], 9)
            .udp(5, 6)
            .write(&mut frame, b"hello")
            .unwrap();
        frame[14..18].copy_from_slice(&(6 << 28 | u32::from(class) << 20 | 0xabcde).to_be_bytes());
        frame
    }

    #[test]
    fn a_packet_of_ipv6_in_another() {
        for (inner, outer) in [(0, 0), (0x28, 0x28), (1, 1), (2, 2), (3, 2), (0xbb, 0xba)] {
            let inside = frame_v6(inner);
            let mut out = [&[0xee; OVERHEAD_V6][..], &inside].concat();
            assert!(wrap(&mut out, Address::V6(1 << 96), Address::V6(2 << 96), 7, true));
            let header = etherparse::Ipv6Slice::from_slice(&out[14..]).unwrap().header().to_header();
            assert_eq!((header.next_header.0, header.hop_limit, header.flow_label.value()), (41, 9, 0));
            assert_eq!(
                (header.source, header.destination),
                ((1_u128 << 96).to_be_bytes(), (2_u128 << 96).to_be_bytes())
            );
            assert_eq!(u16::from_be_bytes([out[14], out[15]]) >> 4 & 0xff, outer);
            assert_eq!(usize::from(header.payload_length), inside.len() - 14);
            assert_eq!((&out[..14], &out[54..]), (&inside[..14], &inside[14..]));
            assert_eq!(unwrapped(&mut out), inside);
        }
        let mut other = frame_v6(0);
        assert_eq!(unwrapped(&mut other), frame_v6(0));
        // The families differ.
        let mut out = [&[0; OVERHEAD][..], &frame(0, true)].concat();
        assert!(!wrap(&mut out, Address::V6(1), Address::V4(2), 7, true));
        let mut out = [&[0; OVERHEAD_V6][..], &frame(0, true)].concat();
        assert!(!wrap(&mut out, Address::V6(1), Address::V6(2), 7, true));
    }

    #[test]
    fn a_packet_in_a_packet() {
        let inside = frame(0x28, false);
        let mut out = wrapped(&inside, true);
        let outer = Ipv4Slice::from_slice(&out[14..]).unwrap();
        let header = outer.header().to_header();
        assert_eq!(header.header_checksum, header.calc_header_checksum());
        assert_eq!((header.source, header.destination), ([192, 168, 2, 90], [192, 168, 2, 71]));
        assert_eq!((header.time_to_live, header.identification, header.dont_fragment), (9, 7, false));
        assert_eq!((header.protocol.0, out[15]), (4, 0x28));
        assert_eq!(outer.payload().payload, &inside[14..]);
        assert_eq!(out[..14], inside[..14]);
        assert_eq!(unwrapped(&mut out), inside);
        let mut other = inside.clone();
        assert_eq!(unwrapped(&mut other), inside);
    }

    #[test]
    fn what_must_not_be_cut() {
        let header = |frame: &[u8]| Ipv4Slice::from_slice(&frame[14..]).unwrap().header().to_header();
        let outer = header(&wrapped(&frame(0, true), true));
        assert_eq!((outer.dont_fragment, outer.identification), (true, 7));
        let outer = header(&wrapped(&frame(0, true), false));
        assert_eq!((outer.dont_fragment, outer.identification), (false, 7));
    }

    #[test]
    fn congestion_is_told_of_inside_only() {
        for (inner, outer) in [(0, 0), (1, 1), (2, 2), (3, 2), (0xbb, 0xba)] {
            let out = wrapped(&frame(inner, true), true);
            assert_eq!((out[15], out[35]), (outer, inner));
        }
    }

    #[test]
    fn where_there_is_no_packet() {
        for length in 0..54 {
            let (from, to) = (Address::V4(1), Address::V4(2));
            assert!(!wrap(&mut vec![0x45; length], from, to, 3, true) || length == 54);
            let (from, to) = (Address::V6(1), Address::V6(2));
            assert!(!wrap(&mut vec![0x65; length], from, to, 3, true));
            let _ = unwrapped(&mut vec![4; length]);
            let _ = unwrapped(&mut vec![41 | 0x40; length]);
        }
        let mut long = [&[0; OVERHEAD][..], &frame(0, true)].concat();
        long[36..38].fill(0xff);
        assert!(!wrap(&mut long, Address::V4(1), Address::V4(2), 3, true));
    }
}
