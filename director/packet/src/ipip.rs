//! IPv4 in IPv4 (RFC 2003): a packet in another one's data.

use zerocopy::byteorder::network_endian::{U16, U32};
use zerocopy::{FromBytes, IntoBytes};

use crate::checksum::checksum;
use crate::ethernet::HEADER;
use crate::header::Ipv4;

/// The protocol number of a packet in the data.
pub const IPIP: u8 = 4;

/// How much longer a packet becomes, in bytes.
pub const OVERHEAD: usize = size_of::<Ipv4>();

/// The lowest two bits of the type of service (RFC 3168).
const ECN: u8 = 3;

/// One that takes part in telling of congestion, and one that does tell.
const CAPABLE: u8 = 2;
const EXPERIENCED: u8 = 3;

/// Wraps the packet of a frame that was made longer by [`OVERHEAD`] bytes at its front: what stands in these is
/// lost. As Linux's IPVS does it, time to live and type of service are the packet's; of its marks of congestion the
/// outer header says that it is capable, so that only what comes after counts (RFC 3168, section 9.1.1). With
/// `dont_fragment` the outer header has the packet's own flag, else none. False: there is no packet.
pub fn wrap(
    frame: &mut [u8],
    source: u32,
    destination: u32,
    identification: u16,
    dont_fragment: bool,
) -> bool {
    if frame.len() < OVERHEAD + HEADER {
        return false;
    }
    frame.copy_within(OVERHEAD..OVERHEAD + HEADER, 0);
    let Some((head, packet)) = frame.split_at_mut_checked(HEADER + OVERHEAD) else { return false };
    let Ok((inner, _)) = Ipv4::ref_from_prefix(packet) else { return false };
    let ecn = if inner.service & ECN == EXPERIENCED { CAPABLE } else { inner.service & ECN };
    let flag = if dont_fragment { inner.fragment.get() & Ipv4::DONT_FRAGMENT } else { 0 };
    let Some(length) = inner.length.get().checked_add(OVERHEAD as u16) else { return false };
    let mut outer = Ipv4 {
        version_and_length: 0x45,
        service: inner.service & !ECN | ecn,
        length: U16::new(length),
        // Always one of its own, as the kernel does: a packet that was put together is cut even with the flag.
        identification: U16::new(identification),
        fragment: U16::new(flag),
        ttl: inner.ttl,
        protocol: IPIP,
        checksum: [0; 2],
        source: U32::new(source),
        destination: U32::new(destination),
    };
    outer.checksum = checksum(outer.as_bytes());
    head[HEADER..].copy_from_slice(outer.as_bytes());
    true
}

/// The frame of the packet that is in the data of this frame's packet, with this frame's MAC addresses; the frame
/// itself if it is no such packet.
#[must_use]
pub fn unwrapped(frame: &mut [u8]) -> &mut [u8] {
    let packet = frame.get(HEADER..).and_then(|packet| Ipv4::ref_from_prefix(packet).ok());
    // In a later fragment lies anything.
    let is_wrapped = packet.is_some_and(|(outer, rest)| {
        outer.protocol == IPIP && outer.fragment.get() & 0x1fff == 0 && rest.len() >= size_of::<Ipv4>()
    });
    if !is_wrapped {
        return frame;
    }
    frame.copy_within(..HEADER, OVERHEAD);
    &mut frame[OVERHEAD..]
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
        assert!(wrap(&mut out, 0xc0a8_025a, 0xc0a8_0247, 7, dont_fragment));
        out
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
            assert!(!wrap(&mut vec![0x45; length], 1, 2, 3, true) || length == 54);
            let _ = unwrapped(&mut vec![4; length]);
        }
        let mut long = [&[0; OVERHEAD][..], &frame(0, true)].concat();
        long[36..38].fill(0xff);
        assert!(!wrap(&mut long, 1, 2, 3, true));
    }
}
