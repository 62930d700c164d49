//! The Internet checksum (RFC 1071) and its incremental update (RFC 1624).
//!
//! The sum is the same for both byte orders, as long as all words are read alike (RFC 1071, section 2(B)). So every
//! word is read and written here in the order it has in memory, and nothing is ever byte-swapped.

use crate::Address;

/// What changing some 16-bit words adds to the one's-complement sum over them.
///
/// `~m + m'` of RFC 1624's equation 3, folded to 16 bits, over every word that changes. Deltas add up,
/// and the delta of the opposite change is the complement.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Delta(u16);

impl Delta {
    /// The delta of a change that changes nothing.
    pub const NONE: Self = Self(0);

    /// The delta of decrementing a TTL: its word is the TTL and the protocol, in this order.
    pub const TTL_DECREMENT: Self = Self(!u16::from_ne_bytes([1, 0]));

    /// The delta of replacing a 32-bit field (an address, in host order) by another.
    #[must_use]
    pub const fn of_u32(old: u32, new: u32) -> Self {
        let (old, new) = (old.to_be_bytes(), new.to_be_bytes());
        let (old, new) = (u32::from_ne_bytes(old), u32::from_ne_bytes(new));
        Self(fold((!old) as u64 + new as u64))
    }

    /// The delta of replacing an address by another of the same family. For different families it is none.
    #[must_use]
    pub const fn of_address(old: Address, new: Address) -> Self {
        match (old, new) {
            (Address::V4(old), Address::V4(new)) => Self::of_u32(old, new),
            (Address::V6(old), Address::V6(new)) => Self::of_u128(old, new),
            _ => Self::NONE,
        }
    }

    const fn of_u128(old: u128, new: u128) -> Self {
        let mut all = Self::NONE;
        let mut shift = 0;
        while shift < u128::BITS {
            all = all.and(Self::of_u32((old >> shift) as u32, (new >> shift) as u32));
            shift += u32::BITS;
        }
        all
    }

    /// The delta of replacing a 16-bit field (a port, in host order) by another.
    #[must_use]
    pub const fn of_u16(old: u16, new: u16) -> Self {
        let (old, new) = (u16::from_ne_bytes(old.to_be_bytes()), u16::from_ne_bytes(new.to_be_bytes()));
        Self(fold((!old) as u64 + new as u64))
    }

    /// The delta of a change between these two sums of the same words.
    #[must_use]
    pub const fn between(old: Sum, new: Sum) -> Self {
        Self(fold((!fold(old.words)) as u64 + new.words))
    }

    /// Both changes together.
    #[must_use]
    #[inline]
    pub const fn and(self, other: Self) -> Self {
        let (sum, carry) = self.0.overflowing_add(other.0);
        Self(sum.wrapping_add(carry as u16))
    }

    /// The delta of the opposite change.
    #[must_use]
    pub const fn opposite(self) -> Self {
        Self(!self.0)
    }

    /// The 16 bits, to be kept in a record.
    #[must_use]
    pub const fn bits(self) -> u16 {
        self.0
    }

    /// The delta whose bits were kept.
    #[must_use]
    pub const fn from_bits(bits: u16) -> Self {
        Self(bits)
    }

    /// The checksum field after the change, from the field before it. A wrong checksum stays wrong by the same
    /// amount.
    ///
    /// RFC 1624, equation 3, is `!(!sum + delta)` in one's complement arithmetic, and that is, bit for bit, the difference
    /// with the borrow brought round.
    #[inline(always)]
    #[must_use]
    pub const fn apply(self, field: [u8; 2]) -> [u8; 2] {
        let (sum, borrow) = u16::from_ne_bytes(field).overflowing_sub(self.0);
        sum.wrapping_sub(borrow as u16).to_ne_bytes()
    }

    /// As [`Self::apply`], for UDP over a checksum that is in use: a computed 0 is sent as 0xffff, since
    /// 0 says that there is none (RFC 768).
    #[inline(always)]
    #[must_use]
    pub const fn apply_udp(self, field: [u8; 2]) -> [u8; 2] {
        let sum = u16::from_ne_bytes(self.apply(field));
        (if sum == 0 { u16::MAX } else { sum }).to_ne_bytes()
    }
}

/// Folds a sum of words to 16 bits.
const fn fold(sum: u64) -> u16 {
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    sum as u16
}

/// A one's-complement sum that is being computed. A piece after one of odd length continues where that ended.
#[derive(Clone, Copy, Default, Debug)]
pub struct Sum {
    words: u64,
    odd: bool,
}

impl Sum {
    /// Adds bytes.
    pub fn add(&mut self, bytes: &[u8]) {
        let mut bytes = bytes;
        if self.odd {
            let Some((first, rest)) = bytes.split_first() else { return };
            self.add_word(u16::from_ne_bytes([0, *first]));
            self.odd = false;
            bytes = rest;
        }
        let (chunks, rest) = bytes.as_chunks::<4>();
        for chunk in chunks {
            self.words += u64::from(u32::from_ne_bytes(*chunk));
        }
        let (pairs, last) = rest.as_chunks::<2>();
        for pair in pairs {
            self.add_word(u16::from_ne_bytes(*pair));
        }
        if let [last] = last {
            self.add_word(u16::from_ne_bytes([*last, 0]));
            self.odd = true;
        }
    }

    fn add_word(&mut self, word: u16) {
        self.words += u64::from(word);
    }

    /// The checksum field for which the sum is right (with the field itself added as 0).
    #[must_use]
    pub const fn checksum(self) -> [u8; 2] {
        (!fold(self.words)).to_ne_bytes()
    }

    /// Whether the sum of what was added, including the checksum field, is right.
    #[must_use]
    pub const fn is_right(self) -> bool {
        fold(self.words) == 0xffff
    }
}

/// The checksum of some bytes.
#[must_use]
pub fn checksum(bytes: &[u8]) -> [u8; 2] {
    let mut sum = Sum::default();
    sum.add(bytes);
    sum.checksum()
}

/// Whether the sum of an IPv4 header of 20 bytes is right.
#[must_use]
pub const fn header_is_right(header: &[u8; 20]) -> bool {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t] = *header;
    let sum = u64_of([a, b, c, d])
        + u64_of([e, f, g, h])
        + u64_of([i, j, k, l])
        + u64_of([m, n, o, p])
        + u64_of([q, r, s, t]);
    fold(sum) == 0xffff
}

const fn u64_of(bytes: [u8; 4]) -> u64 {
    u32::from_ne_bytes(bytes) as u64
}

/// The sum of the pseudo-header of a packet with this beginning: IPv4 (RFC 9293, section 3.1) or IPv6 (RFC 8200,
/// section 8.1). `length` is that of transport header and payload in bytes. None: there is no whole header.
///
/// The destination in the header is taken for the final one, as it is unless a routing header names another.
#[must_use]
pub fn pseudo_header(packet: &[u8], protocol: u8, length: u16) -> Option<Sum> {
    let mut sum = Sum::default();
    match packet.first()? >> 4 {
        4 => sum.add(packet.get(12..20)?),
        6 => sum.add(packet.get(8..40)?),
        _ => return None,
    }
    // IPv6 has more zeros here, which add nothing.
    sum.add(&[0, protocol]);
    sum.add(&length.to_be_bytes());
    Some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_rfc_1624() {
        // Section 4: HC = 0xDD2F, m = 0x5555, m' = 0x3285 gives 0x0000, where RFC 1141 gave 0xffff.
        let field = 0xdd2f_u16.to_be_bytes();
        assert_eq!(Delta::of_u16(0x5555, 0x3285).apply(field), [0, 0]);
        assert_eq!(Delta::of_u16(0x5555, 0x3285).apply_udp(field), [0xff, 0xff]);
    }

    #[test]
    fn an_update_is_the_sum_taken_anew() {
        bolero::check!().with_type::<([u8; 20], u32, u32, u16, u16)>().cloned().for_each(
            |(mut bytes, address, other, port, ttl)| {
                bytes[0..4].copy_from_slice(&address.to_be_bytes());
                bytes[4..6].copy_from_slice(&port.to_be_bytes());
                bytes[8] = bytes[8].max(1);
                bytes[10..12].fill(0);
                let before = checksum(&bytes);
                let delta =
                    Delta::of_u32(address, other).and(Delta::of_u16(port, ttl)).and(Delta::TTL_DECREMENT);
                let updated = delta.apply(before);
                bytes[0..4].copy_from_slice(&other.to_be_bytes());
                bytes[4..6].copy_from_slice(&ttl.to_be_bytes());
                bytes[8] -= 1;
                bytes[10..12].copy_from_slice(&updated);
                let mut sum = Sum::default();
                sum.add(&bytes);
                assert!(sum.is_right());
                assert!(header_is_right(&bytes));
                // and back
                bytes[10..12].copy_from_slice(&delta.opposite().apply(updated));
                bytes[0..4].copy_from_slice(&address.to_be_bytes());
                bytes[4..6].copy_from_slice(&port.to_be_bytes());
                bytes[8] += 1;
                assert!(header_is_right(&bytes));
            },
        );
    }

    #[test]
    fn pieces_of_odd_length_join() {
        bolero::check!().with_type::<(Vec<u8>, u8)>().for_each(|(bytes, at)| {
            let at = usize::from(*at).min(bytes.len());
            let mut sum = Sum::default();
            sum.add(&bytes[..at]);
            sum.add(&bytes[at..]);
            assert_eq!(sum.checksum(), checksum(bytes));
        });
    }
}
