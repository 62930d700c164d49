//! `rr` and `wrr`: one server after the other.

use super::scale::Scale;
use super::weights::Weights;
use crate::servers::{Servers, Standing};

/// A weight counts only where the server may be used.
fn weight(standing: &Standing) -> u32 {
    if standing.is_usable() { standing.weight } else { 0 }
}

/// The list with who was served last, by slot, so that it outlasts a change of the list.
#[derive(Debug)]
struct Walk {
    weights: Weights,
    last: Option<u32>,
}

impl Walk {
    fn new(standings: &[Standing]) -> Self {
        Self { weights: Weights::new(standings.iter().map(weight)), last: None }
    }

    /// Where the walk goes on: after the last served, or at the head of the list.
    fn start(&self, slots: &impl Fn(usize) -> Option<u32>, servers: &Servers) -> usize {
        let place = self.last.map(|slot| (slot, servers.place(slot)));
        match place {
            Some((slot, place)) if slots(place) == Some(slot) => place + 1,
            _ => 0,
        }
    }
}

/// `rr`: the next usable server after the last served, from the newest to the oldest and round again.
#[derive(Debug)]
pub(super) struct RoundRobin(Walk);

impl RoundRobin {
    pub(super) fn new(standings: &[Standing]) -> Self {
        Self(Walk::new(standings))
    }

    pub(super) fn update(&mut self, place: usize, standing: &Standing) {
        self.0.weights.set(place, weight(standing));
    }

    pub(super) fn adopt(&mut self, old: &Self) {
        self.0.last = old.0.last;
    }

    /// A server leaves the list: if its turn was last, it is taken to have been that of the one before
    /// it, so that the one after it is next.
    pub(super) fn forget(&mut self, slot: u32, before: Option<u32>) {
        if self.0.last == Some(slot) {
            self.0.last = before;
        }
    }

    pub(super) fn choose(
        &mut self,
        slots: &impl Fn(usize) -> Option<u32>,
        servers: &Servers,
    ) -> Option<usize> {
        let walk = &mut self.0;
        let start = walk.start(slots, servers);
        let place = walk.weights.next(start, 1).or_else(|| walk.weights.next(0, 1))?;
        walk.last = slots(place);
        Some(place)
    }
}

/// `wrr`: a walk along the list that takes the usable servers whose weight is at least the current level,
/// and at the end of the list goes one level down, from 1 to the greatest again.
#[derive(Debug)]
pub(super) struct WeightedRoundRobin {
    walk: Walk,
    scale: Scale,
    level: u32,
}

impl WeightedRoundRobin {
    pub(super) fn new(standings: &[Standing], scale: Scale) -> Self {
        Self { walk: Walk::new(standings), scale, level: scale.top() }
    }

    pub(super) fn update(&mut self, place: usize, standing: &Standing) {
        self.walk.weights.set(place, weight(standing));
    }

    pub(super) fn adopt(&mut self, old: &Self) {
        (self.walk.last, self.scale, self.level) = (old.walk.last, old.scale, old.level);
    }

    /// A server was added, changed or deleted: the walk begins at the head of the list. The level stays as
    /// far as it can, which makes the first round of a service that gets its servers one by one, one of
    /// level 1.
    pub(super) fn rescale(&mut self, scale: Scale) {
        self.walk.last = None;
        self.scale = scale;
        if self.level > scale.top() || self.level == 0 {
            self.level = scale.top();
        } else if scale.divisor > 1 {
            self.level = self.level / scale.divisor * scale.divisor + 1;
        }
    }

    /// Walks on. IPVS visits each server of each level on the way; here the servers below the level are
    /// stepped over at once, and so are the levels above all servers.
    pub(super) fn choose(
        &mut self,
        slots: &impl Fn(usize) -> Option<u32>,
        servers: &Servers,
    ) -> Option<usize> {
        let (top, divisor) = (self.scale.top(), self.scale.divisor);
        if top == 0 {
            return None;
        }
        let most = self.walk.weights.most();
        let start = self.walk.start(slots, servers);
        if most == 0 {
            // All are overloaded. Where IPVS's walk gives up depends on where it began.
            if start == 0 || self.level > divisor {
                (self.walk.last, self.level) = (None, top);
            } else {
                self.level = (top - 1) % divisor + 1;
            }
            return None;
        }
        let mut place = self.walk.weights.next(start, self.level);
        // At most: the rest of the round, from the top again, and levels that no server has.
        for _ in 0..3 {
            if place.is_some() {
                break;
            }
            let mut below = self.level.saturating_sub(divisor);
            if below > most {
                below = below.saturating_sub((below - most).div_ceil(divisor).saturating_mul(divisor));
            }
            self.level = if below == 0 { top } else { below };
            place = self.walk.weights.next(0, self.level);
        }
        self.walk.last = slots(place?);
        place
    }
}
