//! Weights in the order of the list, with the question the rounds ask: who is next?

/// The weights of the servers that may be used; the others' are 0. A tree of maxima over them finds the next
/// one of a certain weight in O(log n).
#[derive(Debug)]
pub(super) struct Weights {
    /// The node `n` has the children `2n` and `2n + 1`; the leaves are the last half.
    nodes: Box<[u32]>,
    leaves: usize,
}

impl Weights {
    pub(super) fn new(weights: impl ExactSizeIterator<Item = u32>) -> Self {
        let leaves = weights.len().next_power_of_two();
        let mut nodes = vec![0; 2 * leaves].into_boxed_slice();
        nodes[leaves..].iter_mut().zip(weights).for_each(|(leaf, weight)| *leaf = weight);
        for node in (1..leaves).rev() {
            nodes[node] = nodes[2 * node].max(nodes[2 * node + 1]);
        }
        Self { nodes, leaves }
    }

    /// Sets the weight at a place.
    pub(super) fn set(&mut self, place: usize, weight: u32) {
        let mut node = self.leaves + place;
        self.nodes[node] = weight;
        while node > 1 {
            node /= 2;
            let most = self.nodes[2 * node].max(self.nodes[2 * node + 1]);
            if std::mem::replace(&mut self.nodes[node], most) == most {
                break;
            }
        }
    }

    /// The greatest weight.
    pub(super) fn most(&self) -> u32 {
        self.nodes[1]
    }

    /// The first place from `from` on whose weight is at least `least`, which is above 0.
    pub(super) fn next(&self, from: usize, least: u32) -> Option<usize> {
        if from >= self.leaves {
            return None;
        }
        let mut node = self.leaves + from;
        while self.nodes[node] < least {
            // Up until there is something to the right, and there.
            while node % 2 == 1 {
                node /= 2;
            }
            if node == 0 {
                return None;
            }
            node += 1;
        }
        while node < self.leaves {
            node = 2 * node + usize::from(self.nodes[2 * node] < least);
        }
        Some(node - self.leaves)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_a_search_through_the_list() {
        bolero::check!().with_type().for_each(|(list, changes): &(Vec<u8>, Vec<(u8, u8)>)| {
            let mut list: Vec<u32> = list.iter().map(|&weight| weight.into()).collect();
            let mut weights = Weights::new(list.iter().copied());
            for &(at, weight) in changes {
                if let Some(place) = usize::from(at).checked_rem(list.len()) {
                    list[place] = weight.into();
                    weights.set(place, weight.into());
                }
                assert_eq!(weights.most(), list.iter().copied().max().unwrap_or(0));
                let (from, least) = (usize::from(at), u32::from(weight).max(1));
                let expected = (from..list.len()).find(|&place| list[place] >= least);
                assert_eq!(weights.next(from, least), expected, "{list:?} from {from}, {least}");
            }
        });
    }
}
