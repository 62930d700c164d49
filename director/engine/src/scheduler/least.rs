//! `lc`, `wlc`, `sed`, `nq`, `fo`, `ovf`: the best of all servers, the newest of equal ones.

use super::tournament::{Burden, Tournament};
use crate::servers::Standing;
use crate::service::SchedulerKind;

/// What a server's connections weigh: an active one as much as 256 others.
fn overhead(standing: &Standing) -> u64 {
    u64::from(standing.active) * 256 + u64::from(standing.inactive)
}

/// The burden of a server by `wlc`.
pub(super) fn weighted(standing: &Standing) -> Burden {
    if standing.is_usable() {
        Burden { load: overhead(standing), share: standing.weight }
    } else {
        Burden::NEVER
    }
}

/// What `lc` and its like call the burden of a server.
fn burden(kind: SchedulerKind, standing: &Standing) -> Burden {
    let Standing { weight, active, .. } = *standing;
    let delay = Burden { load: u64::from(active) + 1, share: weight };
    // The heavier, the less.
    let lightness = Burden { load: u64::from(u32::MAX - weight), share: 1 };
    match kind {
        _ if !standing.is_usable() => Burden::NEVER,
        SchedulerKind::LeastConnection => Burden { load: overhead(standing), share: 1 },
        SchedulerKind::ShortestExpectedDelay => delay,
        SchedulerKind::NeverQueue if active == 0 => Burden { load: 0, share: 1 },
        SchedulerKind::NeverQueue => delay,
        SchedulerKind::Failover => lightness,
        SchedulerKind::Overflow if active <= weight => lightness,
        SchedulerKind::Overflow => Burden::NEVER,
        _ => weighted(standing),
    }
}

/// All servers of a service by their burden.
#[derive(Debug)]
pub(super) struct Least {
    kind: SchedulerKind,
    tournament: Tournament,
}

impl Least {
    pub(super) fn new(kind: SchedulerKind, standings: &[Standing]) -> Self {
        let burdens = standings.iter().map(|standing| burden(kind, standing));
        Self { kind, tournament: Tournament::new(burdens) }
    }

    pub(super) fn update(&mut self, place: usize, standing: &Standing) {
        self.tournament.set(place, burden(self.kind, standing));
    }

    pub(super) fn choose(&self) -> Option<usize> {
        self.tournament.least()
    }
}
