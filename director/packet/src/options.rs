//! Options of an IPv4 header (RFC 791, section 3.1) that a router has a part in.

use crate::checksum::{Delta, Sum};

/// The length of a header without options, in bytes.
pub const LEAST: u16 = 20;

const END: u8 = 0;
const NO_OPERATION: u8 = 1;
const RECORD_ROUTE: u8 = 7;
const TIMESTAMP: u8 = 68;
const LOOSE_SOURCE_ROUTE: u8 = 131;
const COMMERCIAL_SECURITY: u8 = 134;
const STRICT_SOURCE_ROUTE: u8 = 137;
const ROUTER_ALERT: u8 = 148;

/// Where the checksum stands.
const CHECKSUM: std::ops::Range<usize> = 10..12;

/// Whether the options of a whole header are the kernel's to deal with: one asks for a way of its own or is a label of its
/// commercial security option, and the kernel knows whether it may; or one is wrong, of which the kernel tells the sender.
/// What is wrong is as Linux's `ip_options_compile` has it.
#[must_use]
pub fn are_the_kernels(header: &[u8]) -> bool {
    let mut rest = header.get(usize::from(LEAST)..).unwrap_or_default();
    let (mut has_route, mut has_times) = (false, false);
    loop {
        let length = match rest {
            [] | [END, ..] => return false,
            [NO_OPERATION, ..] => 1,
            [_, length, ..] => usize::from(*length),
            [_] => return true,
        };
        let Some((option, others)) = rest.split_at_checked(length) else { return true };
        let is_wrong = match option {
            [NO_OPERATION] => false,
            [RECORD_ROUTE, ..] => std::mem::replace(&mut has_route, true) || !has_place(option, 4, 4),
            [TIMESTAMP, ..] => std::mem::replace(&mut has_times, true) || !has_time(option),
            [LOOSE_SOURCE_ROUTE | STRICT_SOURCE_ROUTE | COMMERCIAL_SECURITY, ..] => true,
            [ROUTER_ALERT, ..] => length < 4,
            _ => length < 2,
        };
        if is_wrong {
            return true;
        }
        rest = others;
    }
}

/// Whether an option says rightly where in it there is room: at `least` from its beginning, counted from 1, where what
/// comes next has `bytes`, or nowhere.
fn has_place(option: &[u8], least: usize, bytes: usize) -> bool {
    let Some(&place) = option.get(2) else { return false };
    let place = usize::from(place);
    place >= least && (place > option.len() || place + bytes - 1 <= option.len())
}

/// Likewise of a timestamp option, of which it depends on its kind what comes next.
fn has_time(option: &[u8]) -> bool {
    let Some([_, _, place, kind]) = option.first_chunk() else { return false };
    let is_full = usize::from(*place) > option.len();
    let bytes = if matches!(kind & 0xf, 1 | 3) { 8 } else { 4 };
    // How many found no room is counted, as far as that goes.
    has_place(option, 5, bytes) && !(is_full && kind & 0xf != 3 && kind >> 4 == 0xf)
}

/// What a router that a packet passes enters into its options.
#[derive(Clone, Copy, Debug)]
pub struct Passed {
    /// The router's address (host order).
    pub address: u32,
    /// Milliseconds since midnight UT.
    pub time: u32,
}

/// Enters the passage of a router where a header records the way, or the time, if there is room: the time alone, with the
/// address, or where the address that it is asked of is one that `is_own`. What finds no room is counted. The checksum stays
/// as right or as wrong as it was. The options are in order ([`are_the_kernels`]).
pub fn enter(header: &mut [u8], passed: Passed, is_own: impl Fn(u32) -> bool) {
    let sum = |header: &[u8]| {
        let mut sum = Sum::default();
        sum.add(header);
        sum
    };
    let before = sum(header);
    let mut rest = header.get_mut(usize::from(LEAST)..).unwrap_or_default();
    while let [kind, others @ ..] = &*rest {
        let length = match (*kind, others) {
            (END, _) => {
                rest.fill(END);
                break;
            }
            (NO_OPERATION, _) => 1,
            (_, [length, ..]) if *length > 0 => usize::from(*length),
            _ => break,
        };
        let Some((option, others)) = rest.split_at_mut_checked(length) else { break };
        match option.first() {
            Some(&RECORD_ROUTE) => put(option, &passed.address.to_be_bytes()),
            Some(&TIMESTAMP) => enter_time(option, passed, &is_own),
            _ => {}
        }
        rest = others;
    }
    let delta = Delta::between(before, sum(header));
    if let Some(field) = header.get_mut(CHECKSUM).and_then(|field| field.first_chunk_mut::<2>()) {
        *field = delta.apply(*field);
    }
}

/// Puts bytes in an option where it says that there is room.
fn put(option: &mut [u8], bytes: &[u8]) {
    let Some(from) =
        option.get(2).and_then(|place| usize::from(*place).checked_sub(1)).filter(|from| *from > 2)
    else {
        return;
    };
    if let Some(room) = option.get_mut(from..from + bytes.len()) {
        room.copy_from_slice(bytes);
        // Not beyond 255: an option is shorter than 40 bytes.
        option[2] = option[2].saturating_add(bytes.len() as u8);
    }
}

/// See [`enter`]; of a timestamp option.
fn enter_time(option: &mut [u8], passed: Passed, is_own: impl Fn(u32) -> bool) {
    let Some(&[_, _, place, kind]) = option.first_chunk() else { return };
    let ([a, b, c, d], [e, f, g, h]) = (passed.address.to_be_bytes(), passed.time.to_be_bytes());
    let is_full = usize::from(place) > option.len();
    match kind & 0xf {
        3 if is_full => {}
        // Not 15, which is wrong.
        _ if is_full => option[3] = option[3].saturating_add(0x10),
        0 => put(option, &[e, f, g, h]),
        1 => put(option, &[a, b, c, d, e, f, g, h]),
        3 => {
            let asked =
                option.get(usize::from(place.saturating_sub(1))..).and_then(|asked| asked.first_chunk());
            let Some(&[a, b, c, d]) = asked else { return };
            if is_own(u32::from_be_bytes([a, b, c, d])) {
                put(option, &[a, b, c, d, e, f, g, h]);
            }
        }
        _ => {}
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
        enter(&mut header, Passed { address: 0xc0a8_123a, time: 0x0102_0304 }, |own| own == 0x0909_0909);
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
        for none in [[1, 1, 1, 0], [7, 0, 4, 0], [7, 9, 4, 0], [7, 3, 4, 0], [7, 2, 0, 0], [148, 4, 0, 0]] {
            assert_eq!(recorded(&none), none);
        }
        assert_eq!(recorded(&[0, 7, 3, 4]), [0; 4], "behind the end");
    }

    #[test]
    fn the_time_is_entered_where_there_is_room() {
        assert_eq!(recorded(&[68, 8, 5, 0, 0, 0, 0, 0]), [68, 8, 9, 0, 1, 2, 3, 4]);
        assert_eq!(
            recorded(&[68, 12, 5, 1, 0, 0, 0, 0, 0, 0, 0, 0]),
            [68, 12, 13, 1, 192, 168, 18, 58, 1, 2, 3, 4]
        );
        assert_eq!(
            recorded(&[68, 12, 5, 3, 9, 9, 9, 9, 0, 0, 0, 0]),
            [68, 12, 13, 3, 9, 9, 9, 9, 1, 2, 3, 4]
        );
        let of_another = [68, 12, 5, 3, 9, 9, 9, 8, 0, 0, 0, 0];
        assert_eq!(recorded(&of_another), of_another);
        for (full, counted) in [(0x00, 0x10), (0xe1, 0xf1), (0x03, 0x03)] {
            assert_eq!(recorded(&[68, 4, 5, full]), [68, 4, 5, counted]);
        }
        let both = [7, 7, 4, 0, 0, 0, 0, 68, 8, 5, 0, 0, 0, 0, 0, 1];
        assert_eq!(recorded(&both), [7, 7, 8, 192, 168, 18, 58, 68, 8, 9, 0, 1, 2, 3, 4, 1]);
    }

    #[test]
    fn what_is_the_kernel_s() {
        let right: [&[u8]; 13] = [
            &[],
            &[7, 3, 4, 0],
            &[7, 7, 4, 0, 0, 0, 0, 0],
            &[0, 131, 3, 4],
            &[0, 7, 1, 1],
            &[1, 1, 1, 1],
            &[130, 2, 1, 1],
            &[148, 4, 0, 0],
            &[68, 8, 5, 0, 0, 0, 0, 0],
            &[68, 12, 5, 1, 0, 0, 0, 0, 0, 0, 0, 0],
            &[68, 12, 13, 0xe1, 0, 0, 0, 0, 0, 0, 0, 0],
            &[68, 4, 5, 0xf3],
            &[68, 8, 5, 9, 0, 0, 0, 0],
        ];
        let wrong: [&[u8]; 17] = [
            &[131, 3, 4, 0],
            &[1, 137, 3, 4],
            &[134, 4, 0, 0],
            &[1, 1, 1, 7],
            &[7, 0, 4, 0],
            &[9, 1, 1, 1],
            &[7, 9, 4, 0],
            &[7, 2, 1, 1],
            &[7, 7, 3, 0, 0, 0, 0, 0],
            &[7, 7, 5, 0, 0, 0, 0, 0],
            &[7, 3, 4, 7, 3, 4, 1, 1],
            &[148, 3, 0, 0],
            &[68, 3, 5, 0],
            &[68, 8, 4, 0, 0, 0, 0, 0],
            &[68, 8, 6, 0, 0, 0, 0, 0],
            &[68, 8, 5, 1, 0, 0, 0, 0],
            &[68, 8, 9, 0xf0, 0, 0, 0, 0],
        ];
        for (all, kernels) in [(&right[..], false), (&wrong[..], true)] {
            all.iter()
                .for_each(|options| assert_eq!(are_the_kernels(&header(options)), kernels, "{options:?}"));
        }
    }

    #[test]
    fn any_bytes_are_borne() {
        bolero::check!().with_type::<Vec<u8>>().for_each(|bytes| {
            let mut bytes = bytes.clone();
            enter(&mut bytes, Passed { address: 1, time: 2 }, |own| own % 2 == 0);
            let _ = are_the_kernels(&bytes);
        });
    }
}
