//! What the weights of a service's servers have in common, for `wrr`: kept up to date one server at a time.

use std::collections::BTreeMap;

/// What `wrr` asks of the weights of all servers of a service.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Scale {
    /// The greatest common divisor of those above 0; 1 where there is none.
    pub(super) divisor: u32,
    pub(super) most: u32,
}

impl Scale {
    pub(crate) fn of(weights: impl Iterator<Item = u32>) -> Self {
        let (mut divisor, mut most) = (0, 0);
        for weight in weights {
            most = most.max(weight);
            divisor = if divisor == 1 && weight > 0 { 1 } else { greatest_common_divisor(divisor, weight) };
        }
        Self { divisor: divisor.max(1), most }
    }

    /// The level that a round begins with. Levels go down by the divisor, and the last of a round is 1.
    pub(super) fn top(self) -> u32 {
        // Where there is a weight above 0, its divisor is no greater.
        self.most.saturating_sub(self.divisor - 1)
    }
}

/// Of 0 and a number, that number.
pub(super) fn greatest_common_divisor(mut a: u32, mut b: u32) -> u32 {
    while b > 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// The weights of a service's servers: how many servers have each.
#[derive(Debug, Default)]
pub(crate) struct Weighing {
    counts: BTreeMap<u32, u32>,
    /// Their greatest common divisor; 0 where none is above 0.
    divisor: u32,
}

impl Weighing {
    /// A server of this weight comes.
    pub(crate) fn add(&mut self, weight: u32) {
        *self.counts.entry(weight).or_default() += 1;
        self.divisor = greatest_common_divisor(self.divisor, weight);
    }

    /// One goes.
    pub(crate) fn remove(&mut self, weight: u32) {
        let Some(count) = self.counts.get_mut(&weight) else { return };
        *count -= 1;
        if *count > 0 {
            return;
        }
        self.counts.remove(&weight);
        // What is left has a multiple of the divisor in common; mostly it takes few of them to show that it is the same.
        let before = std::mem::take(&mut self.divisor);
        for &weight in self.counts.keys() {
            self.divisor = greatest_common_divisor(self.divisor, weight);
            if self.divisor == before {
                break;
            }
        }
    }

    pub(crate) fn scale(&self) -> Scale {
        let most = self.counts.last_key_value().map_or(0, |(&weight, _)| weight);
        Scale { divisor: self.divisor.max(1), most }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_of_all_weights_at_once() {
        bolero::check!().with_type::<Vec<(bool, u8, u8)>>().for_each(|changes| {
            let (mut weighing, mut weights) = (Weighing::default(), Vec::new());
            for &(comes, which, factor) in changes {
                if comes {
                    // Many have something in common.
                    let weight = u32::from(which % 8) * u32::from(factor % 4 * 6);
                    weights.push(weight);
                    weighing.add(weight);
                } else if let Some(at) = usize::from(which).checked_rem(weights.len()) {
                    weighing.remove(weights.swap_remove(at));
                }
                assert_eq!(weighing.scale(), Scale::of(weights.iter().copied()), "{weights:?}");
            }
        });
    }
}
