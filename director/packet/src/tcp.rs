//! A TCP header with its options, changed in place: sequence numbers, acknowledgments, and the blocks of a selective
//! acknowledgment (RFC 2018).
//!
//! For streams whose length changes on the way: after a change, the numbers on the two sides differ.

use crate::checksum::{Delta, Sum};
use crate::tcp_flag::ACK;

/// The length of a header without options, in bytes.
const LEAST: usize = 20;

/// The option of a selective acknowledgment.
const SACK: u8 = 5;

/// The offset of the checksum.
const CHECKSUM: std::ops::Range<usize> = 16..18;

/// What a number of the other side's stream stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Edge {
    /// Everything before it has come: an acknowledgment, or the end of a block that has come.
    End,
    /// Something has come from here on: the beginning of a block.
    Start,
}

/// The length in bytes of the header that `segment` begins with; none if it is malformed.
#[must_use]
pub fn header_length(segment: &[u8]) -> Option<usize> {
    let length = usize::from(segment.get(12)? >> 4) * 4;
    (LEAST..=segment.len()).contains(&length).then_some(length)
}

/// The sequence number of a segment; 0 if it has none.
#[must_use]
pub fn sequence(segment: &[u8]) -> u32 {
    number(segment, 4)
}

/// The acknowledgment of a segment, if it has one.
#[must_use]
pub fn acknowledgment(segment: &[u8]) -> Option<u32> {
    (*segment.get(13)? & ACK != 0).then(|| number(segment, 8))
}

/// Replaces the sequence number of the segment with this header, keeping its checksum as right or as wrong as it was.
pub fn set_sequence(header: &mut [u8], sequence: u32) {
    change(header, |header| put(header, 4, sequence));
}

/// Replaces the control bits of the segment with this header; its checksum likewise.
pub fn set_flags(header: &mut [u8], flags: u8) {
    change(header, |header| {
        if let Some(place) = header.get_mut(13) {
            *place = flags;
        }
    });
}

/// Replaces each number of the other side's stream in this header, including those in options, by `map` of it; its
/// checksum likewise. A block that ends before it begins is left as it is: the receiver must ignore it.
pub fn map_acknowledgments(header: &mut [u8], map: impl Fn(Edge, u32) -> u32) {
    let Some(acknowledged) = acknowledgment(header) else { return };
    change(header, |header| {
        put(header, 8, map(Edge::End, acknowledged));
        let mut at = LEAST;
        while let Some(&kind) = header.get(at) {
            let length = match kind {
                0 => return,
                1 => 1,
                _ => match header.get(at + 1) {
                    Some(&length) if length >= 2 => usize::from(length),
                    _ => return,
                },
            };
            if kind == SACK {
                let blocks = (length - 2) / 8;
                for block in (0..blocks).map(|block| at + 2 + 8 * block) {
                    if block + 8 <= header.len() {
                        put(header, block, map(Edge::Start, number(header, block)));
                        put(header, block + 4, map(Edge::End, number(header, block + 4)));
                    }
                }
            }
            at += length;
        }
    });
}

fn number(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(|bytes| bytes.first_chunk()).map_or(0, |bytes| u32::from_be_bytes(*bytes))
}

fn put(bytes: &mut [u8], at: usize, number: u32) {
    if let Some(place) = bytes.get_mut(at..at + 4) {
        place.copy_from_slice(&number.to_be_bytes());
    }
}

/// Changes a header and brings its checksum up to date.
fn change(header: &mut [u8], change: impl FnOnce(&mut [u8])) {
    let sum = |header: &[u8]| {
        let mut sum = Sum::default();
        sum.add(header);
        sum
    };
    let before = sum(header);
    change(header);
    let delta = Delta::between(before, sum(header));
    if let Some(field) = header.get_mut(CHECKSUM).and_then(|field| field.first_chunk_mut::<2>()) {
        *field = delta.apply(*field);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checksum::pseudo_header;
    use etherparse::TcpHeader;

    fn is_right(segment: &[u8]) -> bool {
        let packet = [&[0x45; 1][..], &[0; 14], &[1, 0, 0, 0, 2]].concat();
        let mut sum = pseudo_header(&packet, crate::TCP, segment.len() as u16).unwrap();
        sum.add(segment);
        sum.is_right()
    }

    /// A segment with these options, whose checksum is right.
    fn segment(options: &[u8]) -> Vec<u8> {
        let mut header = TcpHeader::new(21, 2001, 1000, 512);
        header.ack = true;
        header.acknowledgment_number = 7000;
        header.options = etherparse::TcpOptions::try_from_slice(options).unwrap();
        header.checksum = header.calc_checksum_ipv4_raw([0, 0, 0, 1], [0, 0, 0, 2], b"odd").unwrap();
        let mut bytes = header.to_bytes().to_vec();
        bytes.extend(b"odd");
        assert!(is_right(&bytes));
        bytes
    }

    #[test]
    fn numbers_are_read_and_set() {
        let mut bytes = segment(&[]);
        assert_eq!((sequence(&bytes), acknowledgment(&bytes)), (1000, Some(7000)));
        set_sequence(&mut bytes[..20], 0xffff_fff0);
        set_flags(&mut bytes[..20], 0);
        assert_eq!((sequence(&bytes), acknowledgment(&bytes)), (0xffff_fff0, None));
        assert!(is_right(&bytes));
    }

    #[test]
    fn a_selective_acknowledgment_is_mapped_wherever_it_stands() {
        for nops in 0..4 {
            let mut options = vec![1; nops];
            options.extend([5, 18]);
            options.extend([8000_u32, 8100, 8200, 8300].iter().flat_map(|number| number.to_be_bytes()));
            let mut bytes = segment(&options);
            let header = header_length(&bytes).unwrap();
            map_acknowledgments(&mut bytes[..header], |edge, number| {
                number - if edge == Edge::Start { 1 } else { 2 }
            });
            assert_eq!(acknowledgment(&bytes), Some(6998));
            let blocks: Vec<u32> = (0..4).map(|at| number(&bytes, 20 + nops + 2 + 4 * at)).collect();
            assert_eq!(blocks, [7999, 8098, 8199, 8298]);
            assert!(is_right(&bytes), "{nops}");
        }
    }

    #[test]
    fn any_bytes_are_borne() {
        bolero::check!().with_type::<Vec<u8>>().for_each(|bytes| {
            let mut bytes = bytes.clone();
            if let Some(length) = header_length(&bytes) {
                map_acknowledgments(&mut bytes[..length], |_, number| number.wrapping_add(1));
                set_sequence(&mut bytes[..length], 1);
            }
        });
    }
}
