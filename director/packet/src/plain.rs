//! The common frame, dealt with at once: a TCP segment or UDP datagram in an IP packet without options or extension
//! headers, whole, whose time to live is not at its end.
//!
//! [`crate::parse()`] says what any frame is, and [`Change::apply`](crate::Change::apply) translates any
//! segment. What is here does the same for nearly all frames in a fraction of the instructions: a few words
//! are read, compared under masks, and put together; or, where the CPU has what it takes, a few vectors. IPv6 has
//! its own in [`v6`].

pub mod v6;
#[cfg(target_arch = "x86_64")]
mod vector;

use crate::checksum::Delta;
use crate::ethernet;
use crate::nat::End;
use crate::{Endpoint4, Mac, TCP, UDP};

#[cfg(target_arch = "x86_64")]
pub use vector::{read as read_vector, read_datagram as read_datagram_vector};

/// Bytes of the headers of such a frame: Ethernet, IPv4 and TCP, each without options. A shorter datagram, which
/// Ethernet would have padded, is left to [`crate::parse()`].
pub const HEADERS: usize = 54;

/// The headers of a frame, if they are those of a plain one.
pub type Headers = [u8; HEADERS];

/// What is read of a plain frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Plain<E = Endpoint4> {
    /// Where it comes from.
    pub source: E,
    /// Where it goes.
    pub destination: E,
    /// The length of the IP packet in bytes.
    pub length: u16,
    /// TCP's control bits; 0 for UDP.
    pub flags: u8,
}

/// What a plain frame of a kind that comes in on a port begins with.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// The first bytes, of which some count: the port's address, the type, version and header length, that it is no
    /// fragment, the protocol. Of a time to live, which is 2 here, there may be more.
    start: Start,
}

type Start = [u8; 32];

impl Wanted {
    /// Of IPv4 with this protocol, to a port with this address.
    #[inline]
    #[must_use]
    pub fn v4(mac: Mac, protocol: u8) -> Self {
        Self::new(mac, [(12, 0x08), (14, 0x45), (22, 2), (23, protocol)])
    }

    /// The same of IPv6.
    #[inline]
    #[must_use]
    pub fn v6(mac: Mac, protocol: u8) -> Self {
        Self::new(mac, [(12, 0x86), (13, 0xdd), (14, 0x60), (20, protocol), (21, 2)])
    }

    /// With these bytes besides the address.
    #[inline(always)]
    fn new<const N: usize>(mac: Mac, bytes: [(usize, u8); N]) -> Self {
        let mut start = [0; 32];
        start[..6].copy_from_slice(&mac.0);
        for (at, byte) in bytes {
            start[at] = byte;
        }
        Self { start }
    }

    #[inline(always)]
    fn mac(&self) -> u64 {
        u64_at::<0>(&self.start) << 16 >> 16
    }
}

#[inline(always)]
fn u32_at<const AT: usize>(headers: &[u8]) -> u32 {
    headers[AT..].first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

#[inline(always)]
fn u64_at<const AT: usize>(headers: &[u8]) -> u64 {
    headers[AT..].first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

/// Whether the sum of a header, not all of which is 0, is that of a right one; it lies in these words, in the order
/// in which they lie.
#[inline(always)]
const fn is_right(first: u64, second: u64, last: u32) -> bool {
    let (sum, carry) = first.overflowing_add(second);
    let (sum, carry) = sum.overflowing_add(last as u64 + carry as u64);
    // A one's complement sum of 16 bits is the remainder of a division by 65535, of which 2^16, 2^32 and 2^64 are
    // all 1 more than a multiple: so the words may be added as they are. What is a multiple of an odd number is
    // found by a multiplication (Granlund and Montgomery 1994, section 9).
    sum.wrapping_add(carry as u64).wrapping_mul(INVERSE) <= u64::MAX / 0xffff
}

/// The inverse of 65535 among the numbers of 64 bits: -(2^16 + 1)(2^32 + 1), since 1 - 2^64 is a product of these.
const INVERSE: u64 = 0x0001_0001_0001_0001_u64.wrapping_neg();
const _: () = assert!(INVERSE.wrapping_mul(0xffff) == 1);

/// Whether a packet of this length has all its headers, which are `LEAST` bytes of a frame, and is whole in one of
/// `total` bytes, which has these at least.
#[inline(always)]
const fn is_whole<const LEAST: usize>(length: u16, total: usize) -> bool {
    (length as usize).wrapping_sub(LEAST - ethernet::HEADER) <= total.wrapping_sub(LEAST)
}

/// Reads a frame of `total` bytes, [`HEADERS`] at least. None: it is no plain TCP segment; [`crate::parse()`] says
/// what it is.
#[inline(always)]
#[must_use]
pub fn read(headers: &Headers, total: usize, wanted: &Wanted) -> Option<Plain> {
    let plain = read_any::<TCP, HEADERS>(headers, total, wanted)?;
    Some(Plain { flags: headers[FLAGS], ..plain })
}

/// As [`read`], of a UDP datagram with a checksum.
#[inline(always)]
#[must_use]
pub fn read_datagram(headers: &Headers, total: usize, wanted: &Wanted) -> Option<Plain> {
    let plain = read_any::<UDP, DATAGRAM_HEADERS>(headers, total, wanted)?;
    (headers[DATAGRAM_SUM..DATAGRAM_SUM + 2] != [0, 0]).then_some(plain)
}

/// Bytes of the headers of a datagram, as [`HEADERS`].
const DATAGRAM_HEADERS: usize = 42;

/// Where the checksums of TCP and UDP lie.
const SEGMENT_SUM: usize = 50;
const DATAGRAM_SUM: usize = 40;

#[inline(always)]
fn read_any<const PROTOCOL: u8, const LEAST: usize>(
    headers: &Headers,
    total: usize,
    wanted: &Wanted,
) -> Option<Plain> {
    // The destination's address; then the type, version and header length; then "more fragments" and the
    // fragment's offset.
    if (u64_at::<0>(headers) ^ wanted.mac()) << 16 != 0
        || u32_at::<12>(headers) & 0x00ff_ffff != u32::from_le_bytes([0x08, 0x00, 0x45, 0])
        || u32_at::<18>(headers) & u32::from_le_bytes([0, 0, 0x3f, 0xff]) != 0
    {
        return None;
    }
    let (first, second, last) = (u64_at::<14>(headers), u64_at::<22>(headers), u32_at::<30>(headers));
    // Time to live, of which more than 1 is left, and protocol: of those above the least, as many as there are.
    if (second as u16).wrapping_sub(u16::from_le_bytes([2, PROTOCOL])) > u16::from(u8::MAX) - 2 {
        return None;
    }
    let length = ((first >> 16) as u16).swap_bytes();
    if !is_right(first, second, last) || !is_whole::<LEAST>(length, total) {
        return None;
    }
    let ports = u32_at::<34>(headers).swap_bytes();
    let source = u64::from(((second >> 32) as u32).swap_bytes()) << 32 | u64::from(ports & 0xffff_0000);
    let destination = u64::from(last.swap_bytes()) << 32 | u64::from(ports << 16);
    Some(Plain { source: Endpoint4(source), destination: Endpoint4(destination), length, flags: 0 })
}

/// Where TCP's control bits lie.
const FLAGS: usize = 47;

/// What replaces an end of a plain frame on its way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rewrite<E = Endpoint4> {
    /// The endpoint that is put in.
    pub to: E,
    /// What it adds to the sum of the IPv4 header; the time to live is reckoned apart. IPv6 has none.
    pub network: Delta,
    /// What it adds to the sum of the TCP segment or UDP datagram.
    pub transport: Delta,
    /// Both MAC addresses, the next hop's and that of the port it leaves by, as they lie in the frame: the
    /// first eight bytes and the last four.
    pub macs: (u64, u32),
}

#[inline(always)]
fn put(headers: &mut [u8], at: usize, bytes: &[u8]) {
    headers[at..at + bytes.len()].copy_from_slice(bytes);
}

/// The checksum that lies at a place.
#[inline(always)]
fn sum_at(headers: &[u8], at: usize) -> [u8; 2] {
    [headers[at], headers[at + 1]]
}

impl Rewrite {
    /// Translates the end of a frame that [`read`] found plain, decrements its time to live, which is not 0,
    /// and puts in the MAC addresses. Checksums stay as right or wrong as they were.
    #[inline(always)]
    pub fn apply(&self, headers: &mut Headers, end: End) {
        let sum = self.transport.apply(sum_at(headers, SEGMENT_SUM));
        self.apply_with::<SEGMENT_SUM>(headers, end, sum);
    }

    /// As [`Self::apply`], of one that [`read_datagram`] found plain.
    #[inline(always)]
    pub fn apply_to_datagram(&self, headers: &mut Headers, end: End) {
        let sum = self.transport.apply_udp(sum_at(headers, DATAGRAM_SUM));
        self.apply_with::<DATAGRAM_SUM>(headers, end, sum);
    }

    #[inline(always)]
    fn apply_with<const SUM: usize>(&self, headers: &mut Headers, end: End, sum: [u8; 2]) {
        put(headers, 0, &self.macs.0.to_le_bytes());
        put(headers, 8, &self.macs.1.to_le_bytes());
        let (address, port) = (self.to.address().to_be_bytes(), self.to.port().to_be_bytes());
        let (address_at, port_at) = match end {
            End::Source => (26, 34),
            End::Destination => (30, 36),
        };
        put(headers, address_at, &address);
        put(headers, port_at, &port);
        let network = Delta::TTL_DECREMENT.apply(self.network.apply(sum_at(headers, 24)));
        headers[22] = headers[22].wrapping_sub(1);
        put(headers, 24, &network);
        put(headers, SUM, &sum);
    }
}

#[cfg(test)]
#[allow(unsafe_code)]
mod tests {
    use super::*;
    use crate::nat::{Change, set_macs};
    use crate::parse::{Segment, Verdict, parse};
    use crate::tcp_flag::ACK;
    use crate::{Endpoint, Mac, UDP};
    use etherparse::PacketBuilder;

    const MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);

    fn frame(payload: &[u8]) -> Vec<u8> {
        let mut frame = Vec::new();
        PacketBuilder::ethernet2([2; 6], MAC.0)
            .ipv4([10, 0, 0, 1], [192, 168, 18, 58], 64)
            .tcp(40000, 8888, 1, 1)
            .ack(7)
            .write(&mut frame, payload)
            .unwrap();
        frame
    }

    fn plain(frame: &[u8]) -> Option<Plain> {
        let read = read(frame.first_chunk()?, frame.len(), &Wanted::v4(MAC, TCP));
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") {
            // SAFETY: the CPU has what the function is compiled for.
            let vector = unsafe { read_vector(frame.first_chunk()?, frame.len(), &Wanted::v4(MAC, TCP)) };
            assert_eq!(vector, read, "{frame:02x?}");
        }
        read
    }

    fn plain_datagram(frame: &[u8]) -> Option<Plain> {
        let wanted = Wanted::v4(MAC, UDP);
        let read = read_datagram(frame.first_chunk()?, frame.len(), &wanted);
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") {
            // SAFETY: the CPU has what the function is compiled for.
            let vector = unsafe { read_datagram_vector(frame.first_chunk()?, frame.len(), &wanted) };
            assert_eq!(vector, read, "{frame:02x?}");
        }
        read
    }

    /// What the parser of every frame says, as far as it is a plain one.
    fn expected(frame: &[u8], is_of: u8) -> Option<Plain> {
        let Verdict::Segment(segment) = parse(frame, frame.len(), MAC) else { return None };
        let Segment { source, destination, length, protocol, flags, header, ttl } = segment;
        let (Endpoint::V4(source), Endpoint::V4(destination)) = (source, destination) else { return None };
        let is_plain = protocol == is_of && header == 20 && ttl > 1;
        is_plain.then_some(Plain { source, destination, length, flags })
    }

    fn datagram() -> Vec<u8> {
        let mut frame = Vec::new();
        PacketBuilder::ethernet2([2; 6], MAC.0)
            .ipv4([10, 0, 0, 1], [192, 168, 18, 58], 64)
            .udp(40000, 53)
            .write(&mut frame, b"more than enough")
            .unwrap();
        frame
    }

    /// Puts in the right checksum of the IPv4 header.
    fn mend_header(frame: &mut [u8]) {
        frame[24..26].fill(0);
        let sum = crate::checksum::checksum(&frame[14..34]);
        frame[24..26].copy_from_slice(&sum);
    }

    /// A frame with bytes of it changed, its header mended if that is asked for.
    fn changed(original: &[u8], changes: &[(u8, u8)], mend: bool) -> Vec<u8> {
        let mut frame = original.to_vec();
        for (at, value) in changes {
            let at = usize::from(*at) % frame.len();
            frame[at] = *value;
        }
        if mend {
            mend_header(&mut frame);
        }
        frame
    }

    #[test]
    fn datagrams_agree_with_the_parser_of_every_frame() {
        let original = datagram();
        bolero::check!().with_type::<(Vec<(u8, u8)>, bool, u8, bool)>().for_each(
            |(changes, mend, cut, has_sum)| {
                let mut frame = changed(&original, changes, *mend);
                if !*has_sum {
                    frame[40..42].fill(0);
                }
                frame.truncate(frame.len() - usize::from(*cut % 8));
                let read = plain_datagram(&frame);
                let expected =
                    expected(&frame, UDP).filter(|_| frame.len() >= HEADERS && frame[40..42] != [0, 0]);
                assert_eq!(read, expected, "{frame:02x?}");
            },
        );
    }

    #[test]
    fn what_is_read() {
        let frame = frame(b"x");
        let read = plain(&frame).unwrap();
        assert_eq!(read.source, Endpoint4::new(0x0a00_0001, 40000));
        assert_eq!(read.destination, Endpoint4::new(0xc0a8_123a, 8888));
        assert_eq!((read.length, read.flags), (41, ACK));
    }

    #[test]
    fn agrees_with_the_parser_of_every_frame() {
        let original = frame(b"payload");
        bolero::check!().with_type::<(Vec<(u8, u8)>, bool, u8)>().for_each(|(changes, mend, cut)| {
            let mut frame = changed(&original, changes, *mend);
            frame.truncate(frame.len() - usize::from(*cut % 8));
            assert_eq!(plain(&frame), expected(&frame, TCP), "{frame:02x?}");
        });
    }

    #[test]
    fn each_field_counts() {
        let original = frame(b"");
        assert_eq!(plain(&original[..53]), None);
        for at in [0, 5, 12, 13, 14, 20, 21, 22, 23, 24, 25] {
            for bit in 0..=255 {
                let mut frame = original.clone();
                frame[at] ^= bit;
                if matches!(at, 14 | 20..24) {
                    mend_header(&mut frame);
                }
                assert_eq!(plain(&frame), expected(&frame, TCP), "bits {bit:#x} of byte {at}");
            }
        }
        let mut datagram = original;
        datagram[23] = UDP;
        mend_header(&mut datagram);
        assert_eq!(plain(&datagram), None);
    }

    #[test]
    fn translates_as_the_translation_of_every_segment_does() {
        let (segment, datagram) = (frame(b"some payload"), datagram());
        bolero::check!().with_type::<(u32, u16, u32, u16, u8, u16, u16, bool, bool)>().cloned().for_each(
            |(old, old_port, new, new_port, ttl, sum, transport_sum, source, is_tcp)| {
                let (original, protocol, sum_at) =
                    if is_tcp { (&segment, TCP, SEGMENT_SUM) } else { (&datagram, UDP, DATAGRAM_SUM) };
                let mut frame = original.clone();
                frame[22] = ttl.max(1);
                frame[24..26].copy_from_slice(&sum.to_be_bytes());
                frame[sum_at..sum_at + 2].copy_from_slice(&transport_sum.max(1).to_be_bytes());
                let end = if source { End::Source } else { End::Destination };
                let to = Endpoint4::new(new, new_port);
                let change = Change::between(Endpoint4::new(old, old_port), to);
                let known = Segment {
                    source: Endpoint::v4(0, 0),
                    destination: Endpoint::v4(0, 0),
                    length: (original.len() - 14) as u16,
                    protocol,
                    flags: ACK,
                    header: 20,
                    ttl: frame[22],
                };
                let mut slow = frame.clone();
                change.apply(&mut slow, &known, end);
                set_macs(&mut slow, Mac([1, 2, 3, 4, 5, 6]), Mac([7, 8, 9, 10, 11, 12]));
                let rewrite = Rewrite {
                    to,
                    network: change.network,
                    transport: change.transport,
                    macs: (0x0807_0605_0403_0201, 0x0c0b_0a09),
                };
                let headers = frame.first_chunk_mut().unwrap();
                if is_tcp {
                    rewrite.apply(headers, end);
                } else {
                    rewrite.apply_to_datagram(headers, end);
                    assert_ne!(frame[40..42], [0, 0], "that says there is none");
                }
                // 0 and 0xffff are the same number in one's complement.
                for at in [24, sum_at] {
                    for frame in [&mut slow, &mut frame] {
                        if frame[at..at + 2] == [0xff, 0xff] {
                            frame[at..at + 2].fill(0);
                        }
                    }
                }
                assert_eq!(frame, slow);
            },
        );
    }
}
