//! The chain of IPv6's extension headers (RFC 8200, section 4).

use zerocopy::FromBytes;

use crate::header::Ipv6;

/// The length of the header without extensions, in bytes.
pub const HEADER: usize = 40;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
/// An authentication header (RFC 4302, section 2).
const AUTHENTICATION: u8 = 51;
/// The kind of a fragment header.
pub const FRAGMENT: u8 = 44;

/// The kind of destination options, which may also begin what is fragmented.
pub const DESTINATION_OPTIONS: u8 = 60;

/// The length of a fragment header, in bytes.
pub const FRAGMENT_HEADER: usize = 8;

/// What a fragment header says (RFC 8200, section 4.5).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FragmentHeader {
    /// Where it begins, in bytes from the IPv6 header on.
    pub at: u16,
    /// Where the place is that names it: the "next header" before it.
    pub named_at: u16,
    /// What follows it.
    pub next: u8,
    /// Where, in what can be fragmented, its data begins: bytes, a multiple of 8.
    pub offset: u16,
    /// Whether it is not the last.
    pub more: bool,
    /// What it has in common with the other fragments of its packet.
    pub identification: u32,
}

/// What lies above the headers of an IPv6 packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Upper {
    /// The protocol; of a fragment, what its header names; that of an extension header that is not for the director
    /// to pass over.
    pub protocol: u8,
    /// Where it begins, in bytes from the IPv6 header on.
    pub at: u16,
    /// The fragment header, in a fragment.
    pub fragment: Option<FragmentHeader>,
}

/// Goes along the extension headers. A fragment header on a packet that is whole (RFC 6946) is passed over as any
/// other. None: the headers are not all in `packet`.
#[must_use]
pub fn upper(packet: &[u8]) -> Option<Upper> {
    let (header, _) = Ipv6::ref_from_prefix(packet).ok()?;
    let (mut protocol, mut at, mut named_at) = (header.next, HEADER, 6);
    loop {
        let field = || packet.get(at..)?.first_chunk::<8>();
        let length = match protocol {
            // Whatever segments a routing header has left: as in IPVS the packet is one to where it is now.
            HOP_BY_HOP | DESTINATION_OPTIONS | ROUTING => (usize::from(field()?[1]) + 1) * 8,
            AUTHENTICATION => (usize::from(field()?[1]) + 2) * 4,
            FRAGMENT => {
                let [next, _, high, low, a, b, c, d] = *field()?;
                let place = u16::from_be_bytes([high, low]);
                let fragment = FragmentHeader {
                    at: u16::try_from(at).ok()?,
                    named_at: u16::try_from(named_at).ok()?,
                    next,
                    offset: place & !7,
                    more: place & 1 != 0,
                    identification: u32::from_be_bytes([a, b, c, d]),
                };
                if fragment.offset != 0 || fragment.more {
                    let at = u16::try_from(at + FRAGMENT_HEADER).ok()?;
                    return Some(Upper { protocol: next, at, fragment: Some(fragment) });
                }
                FRAGMENT_HEADER
            }
            _ => break,
        };
        protocol = field()?[0];
        named_at = at;
        at += length;
    }
    Some(Upper { protocol, at: u16::try_from(at).ok()?, fragment: None })
}

/// Options to each hop that Linux looks at before it does anything else with a packet, and how many there may be besides
/// padding (`net.ipv6.max_hbh_opts_number`).
const PAD_1: u8 = 0;
const PAD_N: u8 = 1;
const ROUTER_ALERT: u8 = 5;
const SECURITY_LABEL: u8 = 7;
const MOST_OPTIONS: usize = 8;

/// Bytes of padding in a row: no more than align what follows (RFC 8200, section 4.2).
const MOST_PADDING: usize = 7;

/// Whether a packet has options to each hop that the kernel drops it for, and may tell its sender of (RFC 8200, section
/// 4.2), as Linux's `ip6_parse_tlv` has it. What is not in `packet` is not wrong.
#[must_use]
pub fn has_wrong_options(packet: &[u8]) -> bool {
    if packet.get(6) != Some(&HOP_BY_HOP) {
        return false;
    }
    let Some([_, length, ..]) = packet.get(HEADER..) else { return false };
    let Some(mut rest) = packet.get(HEADER + 2..HEADER + (usize::from(*length) + 1) * 8) else {
        return false;
    };
    let (mut padding, mut count) = (0, 0);
    loop {
        let length = match rest {
            [] => return false,
            [PAD_1, ..] => 1,
            [_, length, ..] => usize::from(*length) + 2,
            [_] => return true,
        };
        let Some((option, others)) = rest.split_at_checked(length) else { return true };
        if let [PAD_1] | [PAD_N, _, ..] = option {
            padding += length;
            if padding > MOST_PADDING
                || option.get(2..).is_some_and(|data| data.iter().any(|&byte| byte != 0))
            {
                return true;
            }
        } else {
            (padding, count) = (0, count + 1);
            let is_wrong = match option {
                [ROUTER_ALERT, ..] => length != 4,
                [SECURITY_LABEL, ..] => true,
                // Of those that are not known these bits say that they may be skipped.
                [kind, ..] => kind >> 6 != 0,
                [] => true,
            };
            if is_wrong || count > MOST_OPTIONS {
                return true;
            }
        }
        rest = others;
    }
}

/// Where the fragment header of a packet begins that is whole all the same (RFC 6946), in bytes from the IPv6 header on.
pub(crate) fn whole_fragment_header_at(packet: &[u8]) -> Option<usize> {
    let (mut kind, mut at) = (*packet.get(6)?, HEADER);
    loop {
        let [next, length, high, low, ..] = *packet.get(at..)?.first_chunk::<8>()?;
        at += match kind {
            HOP_BY_HOP | DESTINATION_OPTIONS | ROUTING => (usize::from(length) + 1) * 8,
            AUTHENTICATION => (usize::from(length) + 2) * 4,
            FRAGMENT if high == 0 && low & !6 == 0 => return Some(at),
            _ => return None,
        };
        kind = next;
    }
}

/// Where the place is that names what comes behind the headers that end at `end`: the "next header" of the last of them.
pub(crate) fn named_at(packet: &[u8], end: usize) -> Option<usize> {
    let (mut kind, mut named_at, mut at) = (packet.get(6)?, 6, HEADER);
    while at < end {
        let [next, length, ..] = packet.get(at..)?.first_chunk::<8>()?;
        let length = match *kind {
            FRAGMENT => FRAGMENT_HEADER,
            AUTHENTICATION => (usize::from(*length) + 2) * 4,
            _ => (usize::from(*length) + 1) * 8,
        };
        (kind, named_at, at) = (next, at, at + length);
    }
    (at == end).then_some(named_at)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A packet with these extension headers, each its kind and its bytes after "next header".
    fn packet(extensions: &[(u8, &[u8])], protocol: u8, data: &[u8]) -> Vec<u8> {
        let mut kinds = extensions.iter().map(|(kind, _)| *kind).chain([protocol]);
        let mut packet = vec![0x60, 0, 0, 0, 0, 0, kinds.next().unwrap(), 64];
        packet.extend([0xfd; 32]);
        for ((_, bytes), next) in extensions.iter().zip(kinds) {
            packet.push(next);
            packet.extend(*bytes);
        }
        packet.extend(data);
        let length = (packet.len() - HEADER) as u16;
        packet[4..6].copy_from_slice(&length.to_be_bytes());
        packet
    }

    const OPTIONS: &[u8] = &[0, 1, 4, 0, 0, 0, 0];

    #[test]
    fn nothing_in_between() {
        let packet = packet(&[], 6, &[1; 20]);
        assert_eq!(upper(&packet), Some(Upper { protocol: 6, at: 40, fragment: None }));
        assert_eq!(upper(&packet[..39]), None);
    }

    #[test]
    fn all_kinds() {
        let long = [&[1, 1, 12][..], &[0; 12]].concat();
        let chain: [(u8, &[u8]); 4] =
            [(0, OPTIONS), (60, &long), (43, &[0, 0, 0, 0, 0, 0, 0]), (60, OPTIONS)];
        let packet = packet(&chain, 17, &[1; 8]);
        assert_eq!(upper(&packet), Some(Upper { protocol: 17, at: 40 + 8 + 16 + 8 + 8, fragment: None }));
        for cut in 40..72 {
            assert!(upper(&packet[..cut]).is_none_or(|upper| usize::from(upper.at) > cut), "{cut}");
        }
    }

    #[test]
    fn an_authentication_header_counts_in_words_of_four_bytes() {
        let (short, long) = ([&[1][..], &[7; 10]].concat(), [&[4][..], &[7; 22]].concat());
        for (authentication, length) in [(short, 12), (long, 24)] {
            let before: [(u8, &[u8]); 2] = [(51, &authentication), (60, OPTIONS)];
            let packet = packet(&before, 6, &[1; 20]);
            let at = 40 + length + 8;
            assert_eq!(upper(&packet), Some(Upper { protocol: 6, at: at as u16, fragment: None }));
            assert_eq!(named_at(&packet, at), Some(40 + length));
        }
    }

    #[test]
    fn fragments() {
        let first = packet(&[(0, OPTIONS), (44, &[0, 0, 1, 0, 0, 0, 9])], 17, &[1; 8]);
        let fragment =
            FragmentHeader { at: 48, named_at: 40, next: 17, offset: 0, more: true, identification: 9 };
        assert_eq!(upper(&first), Some(Upper { protocol: 17, at: 56, fragment: Some(fragment) }));
        let last = packet(&[(44, &[0, 1, 0x40, 0, 0, 0, 9])], 17, &[1; 8]);
        let fragment =
            FragmentHeader { at: 40, named_at: 6, next: 17, offset: 320, more: false, identification: 9 };
        assert_eq!(upper(&last), Some(Upper { protocol: 17, at: 48, fragment: Some(fragment) }));
        // One that is the whole packet.
        let atomic = packet(&[(44, &[0, 0, 0, 0, 0, 0, 9])], 6, &[1; 20]);
        assert_eq!(upper(&atomic), Some(Upper { protocol: 6, at: 48, fragment: None }));
    }

    #[test]
    fn options_to_each_hop() {
        let judged = |options: &[u8]| {
            let length = [(options.len() / 8) as u8];
            has_wrong_options(&packet(&[(0, &[&length, options].concat())], 6, &[1; 20]))
        };
        let right: [&[u8]; 6] = [
            &[0; 6],
            &[1, 4, 0, 0, 0, 0],
            &[5, 2, 0, 0, 1, 0],
            &[0x3e, 4, 9, 9, 9, 9],
            &[0x31, 0, 0x31, 0, 0x31, 0],
            &[1, 4, 0, 0, 0, 0, 0x3e, 0, 1, 4, 0, 0, 0, 0],
        ];
        let wrong: [&[u8]; 10] = [
            &[1, 4, 0, 0, 1, 0],
            &[1, 5, 0, 0, 0, 0],
            &[0, 0, 0, 0, 0, 9],
            &[5, 1, 0, 0, 0, 0],
            &[7, 4, 9, 9, 9, 9],
            &[0xc2, 4, 0, 1, 0, 0],
            &[0x7e, 4, 9, 9, 9, 9],
            &[0xbe, 4, 9, 9, 9, 9],
            &[0; 14],
            &[0x3e, 0, 0x3e, 0, 0x3e, 0, 0x3e, 0, 0x3e, 0, 0x3e, 0, 0x3e, 0, 0x3e, 0, 0x3e, 0, 1, 2, 0, 0],
        ];
        for (all, is_wrong) in [(&right[..], false), (&wrong[..], true)] {
            all.iter().for_each(|options| assert_eq!(judged(options), is_wrong, "{options:?}"));
        }
        // What a packet does not begin with is not every hop's.
        assert!(!has_wrong_options(&packet(&[(60, &[0, 0xc2, 4, 0, 1, 0, 0])], 6, &[1; 20])));
        assert!(!has_wrong_options(&packet(&[(0, &[0, 0xc2, 4, 0, 1, 0, 0])], 6, &[])[..47]));
    }

    #[test]
    fn a_chain_without_end() {
        let many = [(60, OPTIONS); 40];
        let upper = upper(&packet(&many, 6, &[1; 20])).unwrap();
        assert_eq!((upper.protocol, upper.at), (6, 40 + 40 * 8));
        // As long as packets are.
        let many = vec![(60, OPTIONS); 9_000];
        assert_eq!(super::upper(&packet(&many, 6, &[1; 20])), None);
        bolero::check!().with_type::<Vec<u8>>().for_each(|bytes| {
            let mut packet = vec![0x60];
            packet.extend(bytes);
            let _ = super::upper(&packet);
        });
    }
}
