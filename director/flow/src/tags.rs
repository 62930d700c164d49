//! The comparison of a bucket's tags, by the vector instructions every x86-64 has.

/// A bit for each of the eight tags in `low`, and above them of the four in `high`, that is the wanted one.
#[inline(always)]
pub(crate) fn equal_tags(low: u64, high: u32, tag: u8) -> u32 {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: SSE2 is part of x86-64; the instructions touch no memory.
    unsafe {
        use std::arch::x86_64::{_mm_cmpeq_epi8, _mm_movemask_epi8, _mm_set_epi64x, _mm_set1_epi8};
        let tags = _mm_set_epi64x(i64::from(high), low as i64);
        // The upper four bytes of the vector are no tags.
        _mm_movemask_epi8(_mm_cmpeq_epi8(tags, _mm_set1_epi8(tag as i8))) as u32 & 0xfff
    }
    #[cfg(not(target_arch = "x86_64"))]
    equal_tags_one_by_one(low, high, tag)
}

/// The same on other processors.
#[cfg(any(test, not(target_arch = "x86_64")))]
fn equal_tags_one_by_one(low: u64, high: u32, tag: u8) -> u32 {
    let tags = low.to_le_bytes().into_iter().chain(high.to_le_bytes());
    tags.zip(0..).fold(0, |set, (found, slot)| set | u32::from(found == tag) << slot)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The tags in the order of their slots, and what is to be found among them.
    fn assert_equal_tags(tags: [u8; 12], wanted: u8) {
        let mut expected = 0;
        for (slot, &tag) in tags.iter().enumerate() {
            if tag == wanted {
                expected |= 1 << slot;
            }
        }
        let low = (0..8).fold(0, |low, slot| low | u64::from(tags[slot]) << (8 * slot));
        let high = (8..12).fold(0, |high, slot| high | u32::from(tags[slot]) << (8 * (slot - 8)));
        assert_eq!(equal_tags(low, high, wanted), expected, "{wanted} in {tags:?}");
        assert_eq!(equal_tags_one_by_one(low, high, wanted), expected, "{wanted} in {tags:?}");
    }

    #[test]
    fn every_tag_is_told_from_every_other_in_every_slot() {
        let step = if cfg!(miri) { 51 } else { 1 };
        for tag in (0..=255).step_by(step) {
            for wanted in (0..=255).step_by(step) {
                for slot in 0..12 {
                    // Among its like, and alone among tags that differ in one bit.
                    let mut tags = [tag; 12];
                    tags[slot] = wanted;
                    assert_equal_tags(tags, wanted);
                    assert_equal_tags(tags, tag);
                    let mut tags = std::array::from_fn(|slot| wanted ^ 1 << (slot % 8));
                    tags[slot] = tag;
                    assert_equal_tags(tags, wanted);
                }
            }
        }
    }

    #[test]
    fn every_set_of_slots_is_found() {
        for set in (0..1_u32 << 12).step_by(if cfg!(miri) { 61 } else { 1 }) {
            for (wanted, other) in [(0, 1), (1, 0), (127, 128), (128, 127), (255, 0), (0, 255), (128, 0)] {
                let tags = std::array::from_fn(|slot| if set >> slot & 1 == 1 { wanted } else { other });
                assert_equal_tags(tags, wanted);
            }
        }
    }
}
