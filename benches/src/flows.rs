//! Which clients connect, and in which order.

use std::collections::HashSet;

use crate::network::CLIENT_ENDS;

/// The most flows: a quarter of all client ends, so that drawing one that is new stays quick.
pub const MOST: u32 = CLIENT_ENDS / 4;

/// Numbers that look random and are the same in every run (Steele, Lea and Flood, "Fast splittable
/// pseudorandom number generators", 2014: SplitMix64).
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The sequence that begins at `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`. (The product's high half: the bias is below 2^-32 for these bounds.)
    fn below(&mut self, bound: u32) -> u32 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u32
    }

    /// Brings `items` into a random order.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            let other = self.below(last as u32 + 1) as usize;
            items.swap(last, other);
        }
    }
}

/// `count` different client ends (numbers for [`client_end`](crate::network::client_end)), drawn at random.
#[must_use]
pub fn draw(count: u32, random: &mut Random) -> Vec<u32> {
    let mut seen = HashSet::with_capacity(count as usize);
    let mut drawn = Vec::with_capacity(count as usize);
    while drawn.len() < count.min(MOST) as usize {
        let number = random.below(CLIENT_ENDS);
        if seen.insert(number) {
            drawn.push(number);
        }
    }
    drawn
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flows_are_distinct_and_the_same_every_time() {
        let first = draw(100_000, &mut Random::new(1));
        assert_eq!(first.iter().collect::<HashSet<_>>().len(), 100_000);
        assert_eq!(first, draw(100_000, &mut Random::new(1)));
        assert_ne!(first, draw(100_000, &mut Random::new(2)));
    }

    #[test]
    fn a_shuffle_keeps_all_and_hardly_any_successor() {
        let count = 100_000;
        let drawn = draw(count, &mut Random::new(1));
        let mut shuffled: Vec<u32> = (0..count).collect();
        Random::new(2).shuffle(&mut shuffled);
        let mut sorted = shuffled.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..count).collect::<Vec<_>>());
        // A random permutation has one pair of neighbours in order on average.
        let successors = shuffled.windows(2).filter(|pair| pair[1] == pair[0] + 1).count();
        assert!(successors < 10, "{successors} records would be visited right after the one before them");
        let ascending = drawn.windows(2).filter(|pair| pair[0] < pair[1]).count();
        assert!((49_000..51_000).contains(&ascending), "{ascending}");
    }
}
