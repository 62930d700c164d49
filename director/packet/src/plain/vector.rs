//! The same by vectors: each part of a header is compared at once, and both ends are put in order at once.

use std::arch::x86_64::{
    __m128i, _mm_and_si128, _mm_cvtsi128_si64, _mm_extract_epi64, _mm_min_epu8, _mm_or_si128, _mm_setr_epi8,
    _mm_shuffle_epi8, _mm_testz_si128, _mm_xor_si128,
};

use super::{FLAGS, HEADERS, Headers, Plain, Wanted, is_right, is_whole, u32_at, u64_at};
use crate::{Endpoint4, TCP};

#[inline(always)]
fn vector_at<const AT: usize>(headers: &Headers) -> __m128i {
    let bytes: [u8; 16] = headers[AT..].first_chunk().copied().unwrap_or_default();
    zerocopy::transmute!(bytes)
}

/// As [`super::read`].
///
/// # Safety
/// The CPU has SSE4.1. (A caller that is itself compiled for it need not promise that.)
#[target_feature(enable = "sse4.1")]
#[inline]
#[must_use]
pub fn read(headers: &Headers, total: usize, wanted: &Wanted) -> Option<Plain> {
    let start = _mm_xor_si128(vector_at::<0>(headers), zerocopy::transmute!(wanted.start));
    let start = _mm_and_si128(start, _mm_setr_epi8(-1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, -1, -1, -1, 0));
    // Of the IPv4 header "more fragments", the fragment's offset, time to live and protocol; of the third as much
    // as has to be left.
    let network = vector_at::<14>(headers);
    let network = _mm_and_si128(network, _mm_setr_epi8(0, 0, 0, 0, 0, 0, 0x3f, -1, -1, -1, 0, 0, 0, 0, 0, 0));
    let network =
        _mm_min_epu8(network, _mm_setr_epi8(-1, -1, -1, -1, -1, -1, -1, -1, 2, -1, -1, -1, -1, -1, -1, -1));
    let network =
        _mm_xor_si128(network, _mm_setr_epi8(0, 0, 0, 0, 0, 0, 0, 0, 2, TCP as i8, 0, 0, 0, 0, 0, 0));
    let differences = _mm_or_si128(start, network);
    if _mm_testz_si128(differences, differences) == 0 {
        return None;
    }
    let first = u64_at::<14>(headers);
    let length = ((first >> 16) as u16).swap_bytes();
    if !is_right(first, u64_at::<22>(headers), u32_at::<30>(headers)) || !is_whole::<HEADERS>(length, total) {
        return None;
    }
    // From both addresses and both ports, in network order, to an endpoint's word for each end.
    let order = _mm_setr_epi8(-1, -1, 9, 8, 3, 2, 1, 0, -1, -1, 11, 10, 7, 6, 5, 4);
    let ends = _mm_shuffle_epi8(vector_at::<26>(headers), order);
    Some(Plain {
        source: Endpoint4(_mm_cvtsi128_si64(ends) as u64),
        destination: Endpoint4(_mm_extract_epi64::<1>(ends) as u64),
        length,
        flags: headers[FLAGS],
    })
}
