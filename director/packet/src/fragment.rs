//! Fragments of IP packets: what a fragment tells, and how a packet is cut. This file is about IPv4 (RFC 791,
//! sections 2.3 and 3.2).

pub mod v6;

use zerocopy::FromBytes;

use crate::checksum::checksum;
use crate::ethernet::HEADER;
use crate::header::{Ipv4, Tcp, Udp};
use crate::{Address, Endpoint, Segment, TCP, UDP};

/// The longest IP packet, in bytes. An IPv6 packet could be longer by its header.
pub const MAX_PACKET: usize = 65_535;

/// The longest frame of an IP packet, in bytes.
pub const MAX_FRAME: usize = HEADER + MAX_PACKET;

/// The longest headers that each fragment of a packet repeats, in bytes: at most 60 in IPv4; in IPv6 more than an
/// honest sender needs.
pub const MAX_HEADER: usize = 128;

/// Fragments begin at multiples of this many bytes.
pub const UNIT: usize = 8;

/// "More fragments", in [`Ipv4::fragment`].
const MORE: u16 = 0x2000;

/// The offset in [`Ipv4::fragment`].
const OFFSET: u16 = 0x1fff;

/// A fragment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fragment {
    /// Source address.
    pub source: Address,
    /// Destination address.
    pub destination: Address,
    /// What the fragments of a packet have in common besides the addresses and, in IPv4, the protocol. It has 16 bits
    /// in IPv4.
    pub identification: u32,
    /// The protocol above; in IPv6, the kind of header that its data begins with.
    pub protocol: u8,
    /// Type of service, or traffic class.
    pub service: u8,
    /// The length of its headers before the data, in bytes.
    pub header: u16,
    /// The length of the headers that the whole packet has too: in IPv6 all but the fragment header.
    pub base: u16,
    /// Where, in the data of the packet, its data begins: bytes, a multiple of [`UNIT`].
    pub offset: u16,
    /// The length of its data, in bytes.
    pub length: u16,
    /// Whether it is not the last.
    pub more: bool,
    /// Whether it has the flag "don't fragment"; in IPv6 always, in effect.
    pub dont_fragment: bool,
}

impl Fragment {
    /// Reads the headers of an IP packet. None: it is no fragment, or its headers are malformed.
    #[must_use]
    pub fn read(packet: &[u8]) -> Option<Self> {
        match packet.first()? >> 4 {
            4 => Self::read_v4(packet),
            6 => v6::read(packet),
            _ => None,
        }
    }

    fn read_v4(packet: &[u8]) -> Option<Self> {
        let (header, _) = Ipv4::ref_from_prefix(packet).ok()?;
        let length = usize::from(header.length.get()).checked_sub(header.header_length())?;
        let field = header.fragment.get();
        (field & Ipv4::IS_FRAGMENT != 0).then(|| Self {
            source: Address::V4(header.source.get()),
            destination: Address::V4(header.destination.get()),
            identification: header.identification.get().into(),
            protocol: header.protocol,
            service: header.service,
            // At most 60: four bits of words of four bytes.
            header: header.header_length() as u16,
            base: header.header_length() as u16,
            offset: (field & OFFSET) << 3,
            // No more than the length of the packet.
            length: length as u16,
            more: field & MORE != 0,
            dont_fragment: field & Ipv4::DONT_FRAGMENT != 0,
        })
    }

    /// Whether it is a first fragment of IPv6 that lacks a part of the TCP header. A first fragment must have all
    /// headers (RFC 8200, section 4.5); UDP's is not longer than the least that a fragment can have.
    #[must_use]
    pub const fn is_too_short(&self) -> bool {
        let is_v6 = matches!(self.source, Address::V6(_));
        is_v6 && self.offset == 0 && self.protocol == TCP && (self.length as usize) < size_of::<Tcp>()
    }

    /// How long it is with its header, in bytes.
    #[must_use]
    pub const fn packet_length(&self) -> u16 {
        self.header.saturating_add(self.length)
    }
}

/// The TCP segment or UDP datagram that begins in a first fragment, with the fragment's length, for
/// [`crate::Change::put_back`]. None: it is not a first fragment, or lacks a part of the transport header.
#[must_use]
pub fn beginning(packet: &[u8]) -> Option<Segment> {
    let fragment = Fragment::read(packet).filter(|fragment| fragment.offset == 0)?;
    let transport = packet.get(usize::from(fragment.header)..usize::from(fragment.packet_length()))?;
    let (source, destination, flags) = match fragment.protocol {
        TCP => Tcp::ref_from_prefix(transport)
            .map(|(tcp, _)| (tcp.source.get(), tcp.destination.get(), tcp.flags))
            .ok()?,
        UDP => Udp::ref_from_prefix(transport)
            .map(|(udp, _)| (udp.source.get(), udp.destination.get(), 0))
            .ok()?,
        _ => return None,
    };
    let (source, destination, ttl) = match (fragment.source, fragment.destination) {
        (Address::V4(from), Address::V4(to)) => {
            let (ip, _) = Ipv4::ref_from_prefix(packet).ok()?;
            (Endpoint::v4(from, source), Endpoint::v4(to, destination), ip.ttl)
        }
        _ => v6::ends(packet, source, destination)?,
    };
    Some(Segment {
        source,
        destination,
        length: fragment.packet_length(),
        protocol: fragment.protocol,
        flags,
        header: fragment.header,
        ttl,
    })
}

/// Writes the header of a whole packet over that of its first fragment. The packet is `length` bytes long with its
/// header.
pub fn make_whole(header: &mut [u8], length: u16, dont_fragment: bool, service: u8) {
    let Ok((ip, _)) = Ipv4::mut_from_prefix(header) else { return };
    ip.length.set(length);
    ip.fragment.set(if dont_fragment { Ipv4::DONT_FRAGMENT } else { 0 });
    ip.service = service;
    ip.checksum = [0; 2];
    let sum = checksum(header);
    if let Some(field) = header.get_mut(10..12) {
        field.copy_from_slice(&sum);
    }
}

/// The most data in bytes that a fragment with a header of this length may have under an MTU: a multiple of [`UNIT`].
#[must_use]
pub fn room(mtu: u16, header: usize) -> usize {
    (usize::from(mtu).saturating_sub(header) / UNIT * UNIT).max(UNIT)
}

/// Writes a fragment of the packet in `frame` to `out`, as a frame. The packet is whole and contiguous and has an
/// IPv4 header of `header` bytes. The fragment gets the bytes `data` of the packet's data, which begin at a multiple
/// of [`UNIT`] and end at another one or at the end. Returns the frame's length, or 0 if these conditions do not
/// hold.
///
/// The fragment has the packet's identification, time to live and type of service, but not its "don't fragment".
/// Options of IPv4 that only the first fragment may have become "no operation" in the others, as in Linux.
pub fn cut(frame: &[u8], header: usize, data: std::ops::Range<usize>, out: &mut [u8; MAX_FRAME]) -> usize {
    let start = HEADER + header;
    let whole = frame.get(HEADER..).and_then(|packet| Ipv4::ref_from_prefix(packet).ok());
    let Some(end) = whole.map(|(ip, _)| HEADER + usize::from(ip.length.get())) else { return 0 };
    let Some(bytes) = frame.get(start + data.start..(start + data.end).min(end)) else { return 0 };
    let length = start + bytes.len();
    let (Some(head), Some(place)) = (frame.get(..start), out.get_mut(..length)) else { return 0 };
    let (new_head, new_data) = place.split_at_mut(start);
    new_head.copy_from_slice(head);
    new_data.copy_from_slice(bytes);
    let new_header = &mut new_head[HEADER..];
    if data.start > 0
        && let Some(options) = new_header.get_mut(20..)
    {
        keep_copied_options(options);
    }
    let Ok((ip, _)) = Ipv4::mut_from_prefix(new_header) else { return 0 };
    // No longer than the packet.
    ip.length.set((length - HEADER) as u16);
    let more = if start + data.end < end { MORE } else { 0 };
    ip.fragment.set((data.start / UNIT) as u16 & OFFSET | more);
    ip.checksum = [0; 2];
    let sum = checksum(new_header);
    new_header[10..12].copy_from_slice(&sum);
    length
}

/// Replaces the options that must not be copied into each fragment by "no operation".
fn keep_copied_options(options: &mut [u8]) {
    const END: u8 = 0;
    const NO_OPERATION: u8 = 1;
    const COPIED: u8 = 0x80;
    let mut rest = options;
    while let [kind, after @ ..] = &*rest {
        let length = match *kind {
            END => return,
            NO_OPERATION => 1,
            _ => usize::from(*after.first().unwrap_or(&0)),
        };
        if length == 0 || length > rest.len() {
            return;
        }
        let (option, others) = rest.split_at_mut(length);
        if option[0] & COPIED == 0 {
            option.fill(NO_OPERATION);
        }
        rest = others;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use etherparse::defrag::{IpDefragPayloadVec, IpDefragPool};
    use etherparse::{IpHeaders, IpNumber, Ipv4Header, Ipv4Options, PacketBuilder, SlicedPacket};

    fn packet(payload: usize, options: &[u8]) -> Vec<u8> {
        let mut ip = Ipv4Header::new(0, 9, IpNumber::UDP, [10, 0, 0, 1], [10, 0, 0, 2]).unwrap();
        ip.options = Ipv4Options::try_from(options).unwrap();
        ip.identification = 0x1234;
        ip.dont_fragment = false;
        let payload: Vec<u8> = (0..payload).map(|at| (at * 7 + at / 251) as u8).collect();
        let mut frame = Vec::new();
        PacketBuilder::ethernet2([2; 6], [4; 6])
            .ip(IpHeaders::Ipv4(ip, Default::default()))
            .udp(5, 6)
            .write(&mut frame, &payload)
            .unwrap();
        frame
    }

    fn fragments(frame: &[u8], header: usize, mtu: u16) -> Vec<Vec<u8>> {
        let mut out = Box::new([0; MAX_FRAME]);
        let (most, data) = (room(mtu, header), frame.len() - HEADER - header);
        let starts = (0..data).step_by(most);
        let one = |from: usize| {
            let length = cut(frame, header, from..from + most, &mut out);
            out[..length].to_vec()
        };
        starts.map(one).collect()
    }

    /// An independent parser reassembles what was cut.
    #[test]
    #[cfg_attr(miri, ignore = "too much for an interpreter")]
    fn fragments_make_up_the_packet() {
        bolero::check!().with_type::<(u16, u16, u8)>().cloned().for_each(|(length, mtu, options)| {
            let (length, mtu) = (usize::from(length) % 9_000, mtu % 2_000);
            let options = vec![1; usize::from(options % 11) * 4];
            let frame = packet(length, &options);
            let header = 20 + options.len();
            let mut pool = IpDefragPool::<(), ()>::new();
            let mut whole = None;
            for fragment in fragments(&frame, header, mtu) {
                assert!(fragment.len() <= HEADER + usize::from(mtu).max(header + UNIT));
                let sliced = SlicedPacket::from_ethernet(&fragment).unwrap();
                let Some(etherparse::NetSlice::Ipv4(ip)) = &sliced.net else { panic!("not IPv4") };
                let ip = ip.header().to_header();
                assert_eq!(ip.header_checksum, ip.calc_header_checksum());
                assert_eq!((ip.identification, ip.time_to_live, ip.dont_fragment), (0x1234, 9, false));
                if ip.is_fragmenting_payload() {
                    assert!(Fragment::read(&fragment[HEADER..]).is_some());
                    whole = pool.process_sliced_packet(&sliced, (), ()).unwrap();
                } else {
                    assert_eq!(Fragment::read(&fragment[HEADER..]), None);
                    assert_eq!(fragment, frame);
                    return;
                }
            }
            let IpDefragPayloadVec { payload, .. } = whole.unwrap();
            assert_eq!(payload, frame[HEADER + header..]);
        });
    }

    #[test]
    fn options_of_the_first_fragment_only() {
        // Record route (7) is not copied, loose source route (131) is; then "no operation" and the end.
        let options = [7, 7, 4, 0, 0, 0, 0, 131, 3, 4, 1, 0];
        let all = fragments(&packet(100, &options), 32, 72);
        assert_eq!(all.len(), 3);
        assert_eq!(all[0][34..46], options);
        assert_eq!(all[1][34..46], [1, 1, 1, 1, 1, 1, 1, 131, 3, 4, 1, 0]);
        for broken in [[7, 0, 9, 9], [7, 1, 9, 9], [131, 9, 0, 0], [1, 1, 1, 7]] {
            let all = fragments(&packet(100, &broken), 24, 60);
            assert_eq!(all.len(), 4, "{broken:?}");
        }
    }

    #[test]
    fn what_a_fragment_says() {
        let frame = packet(3_000, &[]);
        let all = fragments(&frame, 20, 1500);
        let read = |at: usize| Fragment::read(&all[at][HEADER..]).unwrap();
        assert_eq!((read(0).offset, read(0).length, read(0).more), (0, 1480, true));
        assert_eq!((read(1).offset, read(1).length, read(1).more), (1480, 1480, true));
        assert_eq!((read(2).offset, read(2).length, read(2).more), (2960, 48, false));
        assert_eq!((read(2).packet_length(), read(2).identification, read(2).protocol), (68, 0x1234, 17));
        assert_eq!(Fragment::read(&all[0][HEADER..HEADER + 19]), None);
    }

    #[test]
    fn what_cannot_be_cut() {
        let frame = packet(100, &[]);
        let mut out = Box::new([0; MAX_FRAME]);
        assert_eq!(cut(&frame[..30], 20, 0..8, &mut out), 0);
        assert_eq!(cut(&frame, 20, 200..208, &mut out), 0);
        assert_eq!(cut(&[], 20, 0..8, &mut out), 0);
    }

    #[test]
    fn what_begins_in_a_first_fragment() {
        let frame = packet(3_000, &[1; 4]);
        let all = fragments(&frame, 24, 1500);
        let segment = beginning(&all[0][HEADER..]).unwrap();
        assert_eq!((segment.source.to_string(), segment.destination.port()), ("10.0.0.1:5".into(), 6));
        assert_eq!((segment.length, segment.header, segment.ttl), (1496, 24, 9));
        assert_eq!(beginning(&all[1][HEADER..]), None);
        assert_eq!(beginning(&frame[HEADER..]), None);
        let mut tcp = all[0].clone();
        tcp[23] = TCP;
        assert!(beginning(&tcp[HEADER..]).is_some());
        tcp[16..18].copy_from_slice(&43_u16.to_be_bytes());
        assert_eq!(beginning(&tcp[HEADER..]), None, "the transport header is cut short");
    }

    #[test]
    fn a_first_fragment_becomes_the_whole() {
        let frame = packet(3_000, &[]);
        let mut first = fragments(&frame, 20, 1500).remove(0);
        make_whole(&mut first[HEADER..HEADER + 20], 3_028, false, frame[15]);
        assert_eq!(first[..34], frame[..34]);
        make_whole(&mut first[..3], 1, true, 0);
    }
}
