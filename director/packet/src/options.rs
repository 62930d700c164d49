//! Options of an IPv4 header (RFC 791, section 3.1) that a router has a part in.

use crate::checksum::{Delta, Sum};

/// The length of a header without options, in bytes.
pub const LEAST: u16 = 20;

const END: u8 = 0;
const NO_OPERATION: u8 = 1;
const RECORD_ROUTE: u8 = 7;
const LOOSE_SOURCE_ROUTE: u8 = 131;
const STRICT_SOURCE_ROUTE: u8 = 137;

/// Where the checksum stands.
const CHECKSUM: std::ops::Range<usize> = 10..12;

/// The place of the first option of one of these types in a whole header.
fn find(header: &[u8], types: &[u8]) -> Option<std::ops::Range<usize>> {
    let mut at = usize::from(LEAST);
    loop {
        let length = match *header.get(at)? {
            END => return None,
            NO_OPERATION => 1,
            _ => usize::from(*header.get(at + 1)?),
        };
        // One that is too short for its own length, or too long for the header, ends the list.
        header.get(at..at + length).filter(|option| !option.is_empty())?;
        if types.contains(header.get(at)?) && length > 1 {
            return Some(at..at + length);
        }
        at += length;
    }
}

/// Whether a header asks for a way of its own.
#[must_use]
pub fn is_source_routed(header: &[u8]) -> bool {
    find(header, &[LOOSE_SOURCE_ROUTE, STRICT_SOURCE_ROUTE]).is_some()
}

/// Enters an address (host order) where a header records the way, if there is room; its checksum stays as right or as
/// wrong as it was.
pub fn record_route(header: &mut [u8], address: u32) {
    let Some(place) = find(header, &[RECORD_ROUTE]) else { return };
    let sum = |header: &[u8]| {
        let mut sum = Sum::default();
        sum.add(header);
        sum
    };
    let before = sum(header);
    let Some(option) = header.get_mut(place) else { return };
    // Its type, its length, and where in it there is room, counted from 1.
    let Some(free @ 4..) = option.get(2).copied().map(usize::from) else { return };
    let Some(room) = option.get_mut(free - 1..free + 3) else { return };
    room.copy_from_slice(&address.to_be_bytes());
    // An option is shorter than 40 bytes.
    option[2] += 4;
    let delta = Delta::between(before, sum(header));
    if let Some(field) = header.get_mut(CHECKSUM).and_then(|field| field.first_chunk_mut::<2>()) {
        *field = delta.apply(*field);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A header with these options, its checksum right.
    fn header(options: &[u8]) -> Vec<u8> {
        let mut header =
            etherparse::Ipv4Header::new(0, 64, etherparse::IpNumber::TCP, [1; 4], [2; 4]).unwrap();
        header.options = etherparse::Ipv4Options::try_from(options).unwrap();
        header.header_checksum = header.calc_header_checksum();
        header.to_bytes().to_vec()
    }

    fn recorded(options: &[u8]) -> Vec<u8> {
        let mut header = header(options);
        record_route(&mut header, 0xc0a8_123a);
        let mut sum = Sum::default();
        sum.add(&header);
        assert!(sum.is_right());
        header[20..].to_vec()
    }

    #[test]
    fn an_address_is_entered_where_there_is_room() {
        assert_eq!(recorded(&[7, 7, 4, 0, 0, 0, 0, 0]), [7, 7, 8, 192, 168, 18, 58, 0]);
        assert_eq!(
            recorded(&[1, 7, 11, 8, 9, 9, 9, 9, 0, 0, 0, 0]),
            [1, 7, 11, 12, 9, 9, 9, 9, 192, 168, 18, 58]
        );
        for full in [[7, 7, 8, 1, 2, 3, 4, 0], [7, 7, 5, 0, 0, 0, 0, 0], [7, 7, 3, 0, 0, 0, 0, 0]] {
            assert_eq!(recorded(&full), full);
        }
        for none in [[1, 1, 1, 0], [7, 0, 4, 0], [0, 7, 3, 4], [7, 9, 4, 0], [7, 3, 4, 0], [7, 2, 0, 0]] {
            assert_eq!(recorded(&none), none);
        }
    }

    #[test]
    fn source_routes_are_seen() {
        assert!(is_source_routed(&header(&[131, 3, 4, 0])) && is_source_routed(&header(&[1, 137, 3, 4])));
        assert!(!is_source_routed(&header(&[7, 3, 4, 0])) && !is_source_routed(&header(&[0, 131, 3, 4])));
        assert!(!is_source_routed(&header(&[])));
    }

    #[test]
    fn any_bytes_are_borne() {
        bolero::check!().with_type::<Vec<u8>>().for_each(|bytes| {
            let mut bytes = bytes.clone();
            record_route(&mut bytes, 1);
            let _ = is_source_routed(&bytes);
        });
    }
}
