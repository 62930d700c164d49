//! The common frame of IPv6: no extension header lies between the IPv6 header and that of TCP or UDP.

#[cfg(target_arch = "x86_64")]
use super::vector;
use super::{Plain, Rewrite, Wanted, is_whole, put, sum_at, u64_at};
use crate::ethernet;
use crate::nat::End;
use crate::{Endpoint6, TCP, UDP, ipv6};

/// Bytes of the headers of a plain segment: Ethernet, IPv6 and TCP without options.
pub const SEGMENT: usize = 74;
/// Bytes of the headers of a plain datagram.
pub const DATAGRAM: usize = 62;

/// Where the IPv6 header begins, and its addresses; where the ports lie, TCP's control bits, and both checksums.
const IP: usize = ethernet::HEADER;
const SOURCE: usize = IP + 8;
const DESTINATION: usize = IP + 24;
const PORTS: usize = IP + ipv6::HEADER;
const FLAGS: usize = PORTS + 13;
const SEGMENT_SUM: usize = PORTS + 16;
const DATAGRAM_SUM: usize = PORTS + 6;

/// Reads a frame of `total` bytes. None: it is no plain TCP segment; [`crate::parse()`] says what it is.
#[inline(always)]
#[must_use]
pub fn read(headers: &[u8; SEGMENT], total: usize, wanted: &Wanted) -> Option<Plain<Endpoint6>> {
    if begins::<TCP>(headers, wanted) { read_segment(headers, total) } else { None }
}

/// As [`read`], of a UDP datagram. One without a checksum is none (RFC 8200, section 8.1).
#[inline(always)]
#[must_use]
pub fn read_datagram(headers: &[u8; DATAGRAM], total: usize, wanted: &Wanted) -> Option<Plain<Endpoint6>> {
    if begins::<UDP>(headers, wanted) { read_any_datagram(headers, total) } else { None }
}

/// As [`read`], by vectors, if `wanted` is of IPv6 and TCP: here it alone says what a frame is to be.
///
/// # Safety
/// The CPU has AVX2. (A caller that is itself compiled for it need not promise that.)
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
#[inline]
#[must_use]
pub fn read_vector(headers: &[u8; SEGMENT], total: usize, wanted: &Wanted) -> Option<Plain<Endpoint6>> {
    if vector::begins_v6(headers, wanted) { read_segment(headers, total) } else { None }
}

/// As [`read_datagram`], by vectors, if `wanted` is of IPv6 and UDP.
///
/// # Safety
/// As [`read_vector`].
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
#[inline]
#[must_use]
pub fn read_datagram_vector(
    headers: &[u8; DATAGRAM],
    total: usize,
    wanted: &Wanted,
) -> Option<Plain<Endpoint6>> {
    if vector::begins_v6(headers, wanted) { read_any_datagram(headers, total) } else { None }
}

/// Whether a frame has the destination's address, the type and version, the protocol, and a hop limit of which
/// something is left.
#[inline(always)]
fn begins<const PROTOCOL: u8>(headers: &[u8], wanted: &Wanted) -> bool {
    (u64_at::<0>(headers) ^ wanted.mac()) << 16 == 0
        && headers[12..14] == [0x86, 0xdd]
        && headers[IP] >> 4 == 6
        && headers[IP + 6] == PROTOCOL
        && headers[IP + 7] > 1
}

#[inline(always)]
fn read_segment(headers: &[u8; SEGMENT], total: usize) -> Option<Plain<Endpoint6>> {
    let plain = read_any::<SEGMENT>(headers, total)?;
    Some(Plain { flags: headers[FLAGS], ..plain })
}

#[inline(always)]
fn read_any_datagram(headers: &[u8; DATAGRAM], total: usize) -> Option<Plain<Endpoint6>> {
    let plain = read_any::<DATAGRAM>(headers, total)?;
    (headers[DATAGRAM_SUM..DATAGRAM_SUM + 2] != [0, 0]).then_some(plain)
}

#[inline(always)]
fn read_any<const LEAST: usize>(headers: &[u8; LEAST], total: usize) -> Option<Plain<Endpoint6>> {
    let length = u16::from_be_bytes([headers[IP + 4], headers[IP + 5]]).checked_add(ipv6::HEADER as u16)?;
    if !is_whole::<LEAST>(length, total) {
        return None;
    }
    let (source, destination) = ends(headers);
    Some(Plain { source, destination, length, flags: 0 })
}

/// Source and destination of a frame that was found plain.
#[inline(always)]
#[must_use]
pub fn ends(headers: &[u8]) -> (Endpoint6, Endpoint6) {
    let end = |address: usize, port: usize| {
        let address = headers[address..].first_chunk().map_or(0, |bytes| u128::from_be_bytes(*bytes));
        Endpoint6::new(address, u16::from_be_bytes([headers[port], headers[port + 1]]))
    };
    (end(SOURCE, PORTS), end(DESTINATION, PORTS + 2))
}

impl Rewrite<Endpoint6> {
    /// Translates the end of a frame that [`read`] found plain, decrements its hop limit, which is not 0, and puts in
    /// the MAC addresses. The checksum stays as right or wrong as it was.
    #[inline(always)]
    pub fn apply(&self, headers: &mut [u8; SEGMENT], end: End) {
        let sum = self.transport.apply(sum_at(headers, SEGMENT_SUM));
        put(headers, SEGMENT_SUM, &sum);
        self.apply_all_but_the_sum(headers, end);
    }

    /// As [`Self::apply`], of one that [`read_datagram`] found plain.
    #[inline(always)]
    pub fn apply_to_datagram(&self, headers: &mut [u8; DATAGRAM], end: End) {
        let sum = self.transport.apply_udp(sum_at(headers, DATAGRAM_SUM));
        put(headers, DATAGRAM_SUM, &sum);
        self.apply_all_but_the_sum(headers, end);
    }

    #[inline(always)]
    fn apply_all_but_the_sum<const LEAST: usize>(&self, headers: &mut [u8; LEAST], end: End) {
        put(headers, 0, &self.macs.0.to_le_bytes());
        put(headers, 8, &self.macs.1.to_le_bytes());
        let (address, port) = match end {
            End::Source => (SOURCE, PORTS),
            End::Destination => (DESTINATION, PORTS + 2),
        };
        put(headers, address, &self.to.address().to_be_bytes());
        put(headers, port, &self.to.port().to_be_bytes());
        headers[IP + 7] = headers[IP + 7].wrapping_sub(1);
    }
}

#[cfg(test)]
#[allow(unsafe_code)]
mod tests {
    use super::*;
    use crate::checksum::Delta;
    use crate::nat::{Change, set_macs};
    use crate::parse::{Segment, Verdict, parse};
    use crate::{Endpoint, Mac};
    use etherparse::PacketBuilder;

    const MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);

    fn frame(protocol: u8) -> Vec<u8> {
        let mut frame = Vec::new();
        let start = PacketBuilder::ethernet2([2; 6], MAC.0).ipv6([0x20; 16], [0xfd; 16], 64);
        if protocol == TCP {
            start.tcp(40000, 8888, 1, 1).ack(7).write(&mut frame, b"data").unwrap();
        } else {
            start.udp(40000, 8888).write(&mut frame, b"data").unwrap();
        }
        frame
    }

    fn plain(frame: &[u8], protocol: u8) -> Option<Plain<Endpoint6>> {
        let wanted = Wanted::v6(MAC, protocol);
        let read = if protocol == TCP {
            read(frame.first_chunk()?, frame.len(), &wanted)
        } else {
            read_datagram(frame.first_chunk()?, frame.len(), &wanted)
        };
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") {
            // SAFETY: the CPU has what the functions are compiled for.
            let vector = unsafe {
                if protocol == TCP {
                    read_vector(frame.first_chunk()?, frame.len(), &wanted)
                } else {
                    read_datagram_vector(frame.first_chunk()?, frame.len(), &wanted)
                }
            };
            assert_eq!(vector, read, "{frame:02x?}");
        }
        read
    }

    #[test]
    fn each_field_counts() {
        for protocol in [TCP, UDP] {
            let original = frame(protocol);
            // The MAC address, the type, the version, the length, the protocol, the hop limit.
            for at in [0, 5, 12, 13, IP, IP + 4, IP + 5, IP + 6, IP + 7] {
                for bits in 0..=u8::MAX {
                    let mut frame = original.clone();
                    frame[at] ^= bits;
                    let is_plain = match parse(&frame, frame.len(), MAC) {
                        Verdict::Segment(Segment { protocol: found, header, ttl, source, .. }) => {
                            found == protocol && header == 40 && ttl > 1 && source.is_v6()
                        }
                        _ => false,
                    };
                    assert_eq!(plain(&frame, protocol).is_some(), is_plain, "bits {bits:#x} of byte {at}");
                }
            }
        }
    }

    #[test]
    fn agrees_with_the_parser_of_every_frame() {
        let originals = [TCP, UDP].map(|protocol| (protocol, frame(protocol)));
        bolero::check!().with_type::<(bool, Vec<(u8, u8)>, u8)>().for_each(|(is_tcp, changes, cut)| {
            let (protocol, original) = &originals[usize::from(!is_tcp)];
            let mut frame = original.clone();
            for (at, value) in changes {
                let at = usize::from(*at) % frame.len();
                frame[at] = *value;
            }
            frame.truncate(frame.len() - usize::from(*cut % 8));
            let sum = if *is_tcp { SEGMENT_SUM } else { DATAGRAM_SUM };
            let expected = match parse(&frame, frame.len(), MAC) {
                Verdict::Segment(Segment {
                    source: Endpoint::V6(source),
                    destination: Endpoint::V6(destination),
                    length,
                    protocol: found,
                    flags,
                    header: 40,
                    ttl: 2..,
                }) if found == *protocol && (*is_tcp || frame[sum..sum + 2] != [0, 0]) => {
                    Some(Plain { source, destination, length, flags })
                }
                _ => None,
            };
            assert_eq!(plain(&frame, *protocol), expected, "{frame:02x?}");
        });
        assert!(originals.iter().all(|(protocol, frame)| plain(frame, *protocol).is_some()));
    }

    #[test]
    fn translates_as_the_translation_of_every_segment_does() {
        bolero::check!().with_type::<(u128, u16, u128, u16, u8, u16, bool, bool)>().cloned().for_each(
            |(old, old_port, new, new_port, hops, sum, source, is_tcp)| {
                let (protocol, sum_at) = if is_tcp { (TCP, SEGMENT_SUM) } else { (UDP, DATAGRAM_SUM) };
                let mut fast = frame(protocol);
                fast[IP + 7] = hops.max(2);
                fast[sum_at..sum_at + 2].copy_from_slice(&sum.max(1).to_be_bytes());
                let Verdict::Segment(segment) = parse(&fast, fast.len(), MAC) else { panic!("no segment") };
                let end = if source { End::Source } else { End::Destination };
                let to = Endpoint6::new(new, new_port);
                let change = Change::between(Endpoint6::new(old, old_port), to);
                let mut slow = fast.clone();
                change.apply(&mut slow, &segment, end);
                set_macs(&mut slow, Mac([1, 2, 3, 4, 5, 6]), Mac([7, 8, 9, 10, 11, 12]));
                let rewrite = Rewrite {
                    to,
                    network: Delta::NONE,
                    transport: change.transport,
                    macs: (0x0807_0605_0403_0201, 0x0c0b_0a09),
                };
                if is_tcp {
                    rewrite.apply(fast.first_chunk_mut().unwrap(), end);
                } else {
                    rewrite.apply_to_datagram(fast.first_chunk_mut().unwrap(), end);
                    assert_ne!(fast[sum_at..sum_at + 2], [0, 0], "that says there is none");
                }
                // 0 and 0xffff are the same number in one's complement.
                for frame in [&mut slow, &mut fast] {
                    if frame[sum_at..sum_at + 2] == [0xff, 0xff] {
                        frame[sum_at..sum_at + 2].fill(0);
                    }
                }
                assert_eq!(fast, slow);
            },
        );
    }
}
