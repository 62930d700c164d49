//! Fragments of IPv6 packets (RFC 8200, section 4.5). Only their sender makes them. They have a header of their own,
//! between the headers that routers look at and the rest.

use std::ops::Range;

use zerocopy::FromBytes;

use super::{Fragment, MAX_FRAME, MAX_HEADER};
use crate::ethernet;
use crate::header::Ipv6;
use crate::ipv6::{self, FRAGMENT, FRAGMENT_HEADER};
use crate::{Address, Endpoint};

/// The traffic class of a packet.
fn class(header: &Ipv6) -> u8 {
    (header.version_class_flow.get() >> 20) as u8
}

/// See [`Fragment::read`]. None also if the headers before the fragment header are too long to be kept.
pub(super) fn read(packet: &[u8]) -> Option<Fragment> {
    let (header, _) = Ipv6::ref_from_prefix(packet).ok()?;
    let this = ipv6::upper(packet)?.fragment?;
    let before = usize::from(this.at) + FRAGMENT_HEADER;
    let length = (ipv6::HEADER + usize::from(header.length.get())).checked_sub(before)?;
    if usize::from(this.at) > MAX_HEADER {
        return None;
    }
    Some(Fragment {
        source: Address::V6(header.source.get()),
        destination: Address::V6(header.destination.get()),
        identification: this.identification,
        protocol: this.next,
        service: class(header),
        // Both are less than MAX_HEADER and a fragment header.
        header: before as u16,
        base: this.at,
        offset: this.offset,
        // No longer than what a frame carries.
        length: u16::try_from(length).ok()?,
        more: this.more,
        dont_fragment: true,
    })
}

/// The endpoints in a first fragment, whose transport header begins at `at`.
pub(super) fn ends(packet: &[u8], from: u16, to: u16) -> Option<(Endpoint, Endpoint, u8)> {
    let (header, _) = Ipv6::ref_from_prefix(packet).ok()?;
    let (source, destination) = (header.source.get(), header.destination.get());
    Some((Endpoint::v6(source, from), Endpoint::v6(destination, to), header.hop_limit))
}

/// Turns the headers of a packet's first fragment into those of the whole packet: without the fragment header, behind
/// which a header of the kind `next` follows. The packet is `length` bytes long, including headers.
pub fn make_whole(headers: &mut [u8], next: u8, length: u16, class: u8) {
    let place = ipv6::named_at(headers, headers.len());
    if let Some(field) = place.and_then(|place| headers.get_mut(place)) {
        *field = next;
    }
    let Ok((ip, _)) = Ipv6::mut_from_prefix(headers) else { return };
    ip.length.set(length.saturating_sub(ipv6::HEADER as u16));
    let others = ip.version_class_flow.get() & !(0xff << 20);
    ip.version_class_flow.set(others | u32::from(class) << 20);
}

/// Takes the fragment header off a whole packet (RFC 6946). The packet is then shorter by [`FRAGMENT_HEADER`], and as
/// many bytes are left over at its end. False: it has none, and is unchanged.
pub fn take_off_header(packet: &mut [u8]) -> bool {
    let Some(at) = ipv6::whole_fragment_header_at(packet) else { return false };
    let Some(named) = ipv6::named_at(packet, at) else { return false };
    let Some(&next) = packet.get(at) else { return false };
    let Ok((ip, _)) = Ipv6::mut_from_prefix(packet) else { return false };
    let Some(length) = ip.length.get().checked_sub(FRAGMENT_HEADER as u16) else { return false };
    ip.length.set(length);
    if let Some(named) = packet.get_mut(named) {
        *named = next;
    }
    packet.copy_within(at + FRAGMENT_HEADER.., at);
    true
}

/// A fragment header.
fn header(next: u8, offset: u16, more: bool, identification: u32) -> [u8; FRAGMENT_HEADER] {
    let [high, low] = (offset & !7 | u16::from(more)).to_be_bytes();
    let [a, b, c, d] = identification.to_be_bytes();
    [next, 0, high, low, a, b, c, d]
}

/// The fragment header of the first of several fragments, behind which a header of the kind `next` follows.
#[must_use]
pub fn first_header(next: u8, identification: u32) -> [u8; FRAGMENT_HEADER] {
    header(next, 0, true, identification)
}

/// Writes a fragment of an IPv6 packet to `out`, as [`super::cut`] does. The packet has so many bytes of headers
/// before the place of the fragment header. Returns the frame's length, or 0 if the conditions do not hold.
pub fn cut(
    frame: &[u8],
    headers: usize,
    identification: u32,
    data: Range<usize>,
    out: &mut [u8; MAX_FRAME],
) -> usize {
    let start = ethernet::HEADER + headers;
    let whole = frame.get(ethernet::HEADER..).and_then(|packet| Ipv6::ref_from_prefix(packet).ok());
    let Some(end) = whole.map(|(ip, _)| ethernet::HEADER + ipv6::HEADER + usize::from(ip.length.get()))
    else {
        return 0;
    };
    let Some(bytes) = frame.get(start + data.start..(start + data.end).min(end)) else { return 0 };
    let length = start + FRAGMENT_HEADER + bytes.len();
    let (Some(head), Some(place)) = (frame.get(..start), out.get_mut(..length)) else { return 0 };
    let (new_head, rest) = place.split_at_mut(start);
    let Some((field, new_data)) = rest.split_at_mut_checked(FRAGMENT_HEADER) else { return 0 };
    new_head.copy_from_slice(head);
    new_data.copy_from_slice(bytes);
    let packet = &mut new_head[ethernet::HEADER..];
    let Some(named) = ipv6::named_at(packet, headers).and_then(|place| packet.get_mut(place)) else {
        return 0;
    };
    let next = std::mem::replace(named, FRAGMENT);
    // A multiple of eight, below 2^16.
    field.copy_from_slice(&header(next, data.start as u16, start + data.end < end, identification));
    let Ok((ip, _)) = Ipv6::mut_from_prefix(packet) else { return 0 };
    // No longer than the packet, and a header.
    ip.length.set((length - ethernet::HEADER - ipv6::HEADER) as u16);
    length
}

#[cfg(test)]
mod tests {
    use super::super::{UNIT, beginning, room};
    use super::*;
    use etherparse::defrag::{IpDefragPayloadVec, IpDefragPool};
    use etherparse::{PacketBuilder, SlicedPacket};

    const ID: u32 = 0x1234_5678;

    /// A datagram behind hop-by-hop options, and the length of the headers before it.
    fn packet(payload: usize, options: bool) -> (Vec<u8>, usize) {
        let payload: Vec<u8> = (0..payload).map(|at| (at * 7 + at / 251) as u8).collect();
        let mut frame = Vec::new();
        PacketBuilder::ethernet2([2; 6], [4; 6])
            .ipv6([0x20; 16], [0xfd; 16], 9)
            .udp(5, 6)
            .write(&mut frame, &payload)
            .unwrap();
        if !options {
            return (frame, 40);
        }
        frame[20] = 0;
        frame.splice(54..54, [17, 0, 1, 4, 0, 0, 0, 0]);
        let length = (frame.len() - 54) as u16;
        frame[18..20].copy_from_slice(&length.to_be_bytes());
        (frame, 48)
    }

    fn fragments(frame: &[u8], headers: usize, mtu: u16) -> Vec<Vec<u8>> {
        let mut out = Box::new([0; MAX_FRAME]);
        let (most, data) = (room(mtu, headers + FRAGMENT_HEADER), frame.len() - 14 - headers);
        let one = |from: usize| {
            let length = cut(frame, headers, ID, from..from + most, &mut out);
            out[..length].to_vec()
        };
        (0..data).step_by(most).map(one).collect()
    }

    /// An independent parser reassembles what was cut.
    #[test]
    #[cfg_attr(miri, ignore = "too much for an interpreter")]
    fn fragments_make_up_the_packet() {
        bolero::check!().with_type::<(u16, u16, bool)>().cloned().for_each(|(length, mtu, options)| {
            let (frame, headers) = packet(2_000 + usize::from(length) % 9_000, options);
            let mtu = 1_280 + mtu % 700;
            let mut pool = IpDefragPool::<(), ()>::new();
            let mut whole = None;
            for fragment in fragments(&frame, headers, mtu) {
                assert!(fragment.len() <= 14 + usize::from(mtu));
                let sliced = SlicedPacket::from_ethernet(&fragment).unwrap();
                let read = Fragment::read(&fragment[14..]).unwrap();
                assert_eq!((read.identification, read.protocol, usize::from(read.base)), (ID, 17, headers));
                assert_eq!(usize::from(read.packet_length()) + 14, fragment.len());
                whole = pool.process_sliced_packet(&sliced, (), ()).unwrap();
            }
            let IpDefragPayloadVec { payload, .. } = whole.unwrap();
            assert_eq!(payload, frame[14 + headers..]);
        });
    }

    #[test]
    fn a_first_fragment_becomes_the_whole() {
        let (frame, headers) = packet(3_000, true);
        let first = fragments(&frame, headers, 1_500).remove(0);
        let mut begin = first[..14 + headers].to_vec();
        make_whole(&mut begin[14..], 17, (frame.len() - 14) as u16, 0);
        assert_eq!(begin, frame[..14 + headers]);
        make_whole(&mut begin[14..], 17, 3_000, 0xa7);
        assert_eq!(begin[14..16], [0x6a, 0x70]);
        make_whole(&mut begin[..3], 1, 1, 0);
    }

    #[test]
    fn what_a_fragment_says() {
        let (frame, headers) = packet(3_000, false);
        let all = fragments(&frame, headers, 1_500);
        let read = |at: usize| Fragment::read(&all[at][14..]).unwrap();
        assert_eq!((read(0).offset, read(0).length, read(0).more), (0, 1_448, true));
        assert_eq!((read(2).offset, read(2).length, read(2).more), (2_896, 112, false));
        assert_eq!(Fragment::read(&frame[14..]), None);
        let segment = beginning(&all[0][14..]).unwrap();
        assert_eq!((segment.source.port(), segment.destination.port()), (5, 6));
        assert_eq!((segment.length, segment.header, segment.ttl), (1_496, 48, 9));
        assert_eq!(beginning(&all[1][14..]), None);
        // The headers are longer than what is kept.
        let mut long = all[0].clone();
        long[20] = 60;
        long.splice(54..54, [&[44, 16, 1, 134][..], &[0; 132]].concat());
        assert_eq!(Fragment::read(&long[14..]), None);
    }

    #[test]
    fn what_cannot_be_cut() {
        let (frame, headers) = packet(100, false);
        let mut out = Box::new([0; MAX_FRAME]);
        assert_eq!(cut(&frame[..50], headers, ID, 0..UNIT, &mut out), 0);
        assert_eq!(cut(&frame, headers, ID, 200..208, &mut out), 0);
        assert_eq!(cut(&[], headers, ID, 0..UNIT, &mut out), 0);
    }
}
