//! The same by vectors: all of a frame's start is compared at once, and both ends of IPv4 are put in order at once.

use std::arch::x86_64::{
    __m128i, _mm_cvtsi128_si64, _mm_extract_epi64, _mm_setr_epi8, _mm_shuffle_epi8, _mm256_lddqu_si256,
    _mm256_min_epu8, _mm256_testz_si256, _mm256_xor_si256,
};

use super::{
    DATAGRAM_HEADERS, DATAGRAM_SUM, FLAGS, HEADERS, Headers, Plain, Start, Wanted, is_right, is_whole,
    u32_at, u64_at,
};
use crate::Endpoint4;

/// What is compared of a frame's start, and what of it is taken for no more than 2: the time to live.
struct Mask {
    bits: Start,
    most: Start,
}

impl Mask {
    /// The destination's address and the type, which all have; then these bytes of the IP header, and the place of its
    /// time to live.
    const fn new<const N: usize>(bytes: [(usize, u8); N], time_to_live: usize) -> Self {
        let mut bits = [0; 32];
        let mut at = 0;
        while at < 14 {
            bits[at] = if at < 6 || at >= 12 { 0xff } else { 0 };
            at += 1;
        }
        let mut next = 0;
        while next < N {
            bits[bytes[next].0] = bytes[next].1;
            next += 1;
        }
        let mut most = [0xff; 32];
        most[time_to_live] = 2;
        Self { bits, most }
    }
}

/// Version and header length; "more fragments" and the fragment's offset; time to live and protocol.
static V4: Mask = Mask::new([(14, 0xff), (20, 0x3f), (21, 0xff), (22, 0xff), (23, 0xff)], 22);
/// Version; protocol and hop limit.
static V6: Mask = Mask::new([(14, 0xf0), (20, 0xff), (21, 0xff)], 21);

#[target_feature(enable = "avx2")]
#[inline]
fn begins(headers: &[u8], wanted: &Wanted, mask: &Mask) -> bool {
    let Some(start) = headers.first_chunk::<{ size_of::<Start>() }>() else { return false };
    // The compiler does not look into this load: of any other it takes what else is read of these bytes out of the vector,
    // which takes more instructions than to read it again.
    #[allow(unsafe_code)]
    // SAFETY: all 32 bytes are there; they need not be aligned.
    let start = unsafe { _mm256_lddqu_si256(start.as_ptr().cast()) };
    let capped = _mm256_min_epu8(start, zerocopy::transmute!(mask.most));
    let differences = _mm256_xor_si256(capped, zerocopy::transmute!(wanted.start));
    _mm256_testz_si256(differences, zerocopy::transmute!(mask.bits)) != 0
}

/// Whether a frame begins like a plain one of IPv6.
#[target_feature(enable = "avx2")]
#[inline]
pub(super) fn begins_v6(headers: &[u8], wanted: &Wanted) -> bool {
    begins(headers, wanted, &V6)
}

/// As [`super::read`], if `wanted` is of TCP: here it alone says of which protocol a frame is to be.
///
/// # Safety
/// The CPU has AVX2. (A caller that is itself compiled for it need not promise that.)
#[target_feature(enable = "avx2")]
#[inline]
#[must_use]
pub fn read(headers: &Headers, total: usize, wanted: &Wanted) -> Option<Plain> {
    let plain = read_any::<HEADERS>(headers, total, wanted)?;
    Some(Plain { flags: headers[FLAGS], ..plain })
}

/// As [`super::read_datagram`], if `wanted` is of UDP.
///
/// # Safety
/// As [`read`].
#[target_feature(enable = "avx2")]
#[inline]
#[must_use]
pub fn read_datagram(headers: &Headers, total: usize, wanted: &Wanted) -> Option<Plain> {
    let plain = read_any::<DATAGRAM_HEADERS>(headers, total, wanted)?;
    (headers[DATAGRAM_SUM..DATAGRAM_SUM + 2] != [0, 0]).then_some(plain)
}

#[target_feature(enable = "avx2")]
#[inline]
fn read_any<const LEAST: usize>(headers: &Headers, total: usize, wanted: &Wanted) -> Option<Plain> {
    if !begins(headers, wanted, &V4) {
        return None;
    }
    let (first, second, last) = (u64_at::<14>(headers), u64_at::<22>(headers), u32_at::<30>(headers));
    let length = ((first >> 16) as u16).swap_bytes();
    if !is_right(first, second, last) || !is_whole::<LEAST>(length, total) {
        return None;
    }
    let ends: [u8; 16] = headers[26..].first_chunk().copied().unwrap_or_default();
    let ends: __m128i = zerocopy::transmute!(ends);
    // From both addresses and both ports, in network order, to an endpoint's word for each end.
    let order = _mm_setr_epi8(-1, -1, 9, 8, 3, 2, 1, 0, -1, -1, 11, 10, 7, 6, 5, 4);
    let ends = _mm_shuffle_epi8(ends, order);
    Some(Plain {
        source: Endpoint4(_mm_cvtsi128_si64(ends) as u64),
        destination: Endpoint4(_mm_extract_epi64::<1>(ends) as u64),
        length,
        flags: 0,
    })
}
