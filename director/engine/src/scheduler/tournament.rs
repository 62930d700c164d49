//! The least loaded of many servers, kept up to date by one change at a time.

/// How much a server has to do for what it can: `load / share`. A share of 0 is never chosen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Burden {
    pub(super) load: u64,
    pub(super) share: u32,
}

impl Burden {
    /// That of a server that is not to be chosen.
    pub(super) const NEVER: Self = Self { load: 1, share: 0 };

    /// Whether this one is less, compared without a division, as IPVS does.
    pub(super) fn is_below(self, other: Self) -> bool {
        let times = |load: u64, share: u32| u128::from(load) * u128::from(share);
        times(self.load, other.share) < times(other.load, self.share)
    }
}

/// A tree over the servers in which the lesser burden rises; of equal ones the one first in the list.
/// A change costs O(log n), the answer nothing.
#[derive(Debug)]
pub(super) struct Tournament {
    burdens: Box<[Burden]>,
    /// The node `n` has the children `2n` and `2n + 1`; the leaves are the last half, a place each.
    winners: Box<[u32]>,
}

impl Tournament {
    pub(super) fn new(burdens: impl ExactSizeIterator<Item = Burden>) -> Self {
        let leaves = burdens.len().next_power_of_two();
        let burdens = burdens.chain(std::iter::repeat(Burden::NEVER)).take(leaves).collect();
        let winners = (0..2 * leaves).map(|node| node.saturating_sub(leaves) as u32).collect();
        let mut tournament = Self { burdens, winners };
        for node in (1..leaves).rev() {
            tournament.winners[node] = tournament.winner(node);
        }
        tournament
    }

    /// Who of the two below a node wins.
    fn winner(&self, node: usize) -> u32 {
        let (left, right) = (self.winners[2 * node], self.winners[2 * node + 1]);
        let right_wins = self.burdens[right as usize].is_below(self.burdens[left as usize]);
        if right_wins { right } else { left }
    }

    /// Sets the burden at a place.
    pub(super) fn set(&mut self, place: usize, burden: Burden) {
        if std::mem::replace(&mut self.burdens[place], burden) == burden {
            return;
        }
        let mut node = (self.burdens.len() + place) / 2;
        while node > 0 {
            let winner = self.winner(node);
            let before = std::mem::replace(&mut self.winners[node], winner);
            // Above, nothing changes if neither who wins here has nor his burden.
            if before == winner && winner as usize != place {
                break;
            }
            node /= 2;
        }
    }

    /// The place with the least burden, if any is to be chosen.
    pub(super) fn least(&self) -> Option<usize> {
        let place = self.winners[1] as usize;
        (self.burdens[place].share > 0).then_some(place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_a_walk_along_the_list() {
        bolero::check!().with_type().for_each(|(count, changes): &(u8, Vec<(u8, u8, u8)>)| {
            let mut list = vec![Burden::NEVER; usize::from(*count)];
            let mut tournament = Tournament::new(list.iter().copied());
            for &(at, load, share) in changes {
                let Some(place) = usize::from(at).checked_rem(list.len()) else { continue };
                // Extremes too: a server of the greatest weight with every connection there can be.
                let load = if load == 255 { u64::from(u32::MAX) * 257 } else { load.into() };
                let share = if share == 255 { i32::MAX as u32 } else { share.into() };
                let burden = if share == 0 { Burden::NEVER } else { Burden { load, share } };
                list[place] = burden;
                tournament.set(place, burden);
                let mut least: Option<usize> = None;
                for (place, burden) in list.iter().enumerate().filter(|(_, burden)| burden.share > 0) {
                    if least.is_none_or(|least| burden.is_below(list[least])) {
                        least = Some(place);
                    }
                }
                assert_eq!(tournament.least(), least, "{list:?}");
            }
        });
    }
}
