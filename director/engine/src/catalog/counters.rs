//! The counters of services and servers as listings show them: since the last `-Z`, with rates.

use std::ops::Bound;

use director_packet::Endpoint;

use super::{Catalog, CatalogError, Server, Service};
use crate::estimator::{Estimator, Rates};
use crate::servers::{Load, Traffic};
use crate::service::{ServerSpec, ServiceKey};

/// Counters as listings show them: since the last `-Z`, with their rates.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Meter {
    zero: Traffic,
    estimator: Estimator,
}

impl Meter {
    /// Counters that stand at 0 when so much has been counted.
    pub(super) fn starting_at(now: Traffic) -> Self {
        Self { zero: now, estimator: Estimator::starting_at(now) }
    }
}

/// A server as listings show it.
#[derive(Clone, Copy, Debug)]
pub struct ServerRow {
    /// Its address and port.
    pub address: Endpoint,
    /// What an operator set.
    pub spec: ServerSpec,
    /// Its connections.
    pub load: Load,
    /// Its counters.
    pub traffic: Traffic,
    /// Its rates.
    pub rates: Rates,
}

/// How far an estimate of all rates has come: it goes over all slots, whose sum gives the rate of all services, and
/// then from service to service.
#[derive(Default)]
pub(super) struct Round {
    slot: u32,
    total: Traffic,
    total_is_done: bool,
    service: Option<ServiceKey>,
}

impl Catalog {
    fn traffic_of(&self, service: &Service) -> Traffic {
        let live = service.servers.iter().map(|server| server.slot);
        live.chain(self.trash_of(service.key))
            .fold(service.moved, |sum, slot| sum.plus(self.slots.traffic(slot)))
    }

    /// What passed through all services since the start or the last `-Z` of all.
    #[must_use]
    pub fn total(&self) -> (Traffic, Rates) {
        (self.total_traffic().since(self.meter.zero), self.meter.estimator.rates())
    }

    /// What passed through each worker since the start, whatever `-Z` says.
    pub fn by_worker(&self) -> impl Iterator<Item = Traffic> {
        (0..self.slots.workers()).map(|worker| self.slots.traffic_by(worker, self.next))
    }

    fn total_traffic(&self) -> Traffic {
        (0..self.next).fold(Traffic::default(), |sum, slot| sum.plus(self.slots.traffic(slot)))
    }

    /// The counters and rates of a service.
    #[must_use]
    pub fn statistics(&self, service: &Service) -> (Traffic, Rates) {
        (self.traffic_of(service).since(service.meter.zero), service.meter.estimator.rates())
    }

    /// The servers of a service, newest first.
    pub fn servers<'a>(&'a self, service: &'a Service) -> impl Iterator<Item = ServerRow> + 'a {
        service.servers.iter().map(|server| self.row(server))
    }

    /// The next server of a service after the one with this number, newest first: an interrupted listing goes on
    /// here.
    #[must_use]
    pub fn server_after(&self, service: &Service, number: Option<u64>) -> Option<(u64, ServerRow)> {
        let (number, server) = service.servers.older_than(number.unwrap_or(u64::MAX))?;
        Some((number, self.row(server)))
    }

    fn row(&self, server: &Server) -> ServerRow {
        ServerRow {
            address: server.address,
            spec: server.spec,
            load: self.slots.load(server.slot),
            traffic: self.slots.traffic(server.slot).since(server.meter.zero),
            rates: server.meter.estimator.rates(),
        }
    }

    /// Sets the counters of a service and its servers to 0 (`-Z`).
    pub fn zero(&mut self, key: ServiceKey) -> Result<(), CatalogError> {
        let gone =
            self.trash_of(key).fold(Traffic::default(), |sum, slot| sum.plus(self.slots.traffic(slot)));
        let service = self.services.get_mut(&key).ok_or(CatalogError::NoService)?;
        let mut sum = service.moved.plus(gone);
        for server in service.servers.iter_mut() {
            let traffic = self.slots.traffic(server.slot);
            server.meter = Meter::starting_at(traffic);
            sum = sum.plus(traffic);
        }
        service.meter = Meter::starting_at(sum);
        Ok(())
    }

    /// Sets all counters to 0.
    pub fn zero_all(&mut self) {
        let keys: Vec<_> = self.services.values().map(|service| service.key).collect();
        for key in keys {
            let _ = self.zero(key);
        }
        let total = self.total_traffic();
        self.meter = Meter::starting_at(total);
        // What the estimate has summed up is older than the counters it would be compared with.
        if let Some(round) = &mut self.round
            && !round.total_is_done
        {
            *round = Round::default();
        }
    }

    /// Notes that an interval of [`crate::estimator::INTERVAL`] has passed: [`Self::estimate`] has to estimate the
    /// rates again.
    pub fn begin_estimate(&mut self) {
        self.round.get_or_insert_default();
    }

    /// Goes on estimating, for about `most` servers. False: it is finished.
    pub fn estimate(&mut self, most: usize) -> bool {
        let Some(round) = &mut self.round else { return false };
        let mut left = most;
        if !round.total_is_done {
            let end = self.next.min(round.slot.saturating_add(most.try_into().unwrap_or(u32::MAX)));
            left = left.saturating_sub((end - round.slot) as usize);
            for slot in round.slot..end {
                round.total = round.total.plus(self.slots.traffic(slot));
            }
            round.slot = end;
            if end < self.next {
                return true;
            }
            round.total_is_done = true;
            self.meter.estimator.tick(round.total);
        }
        let mut service = round.service;
        while left > 0 {
            let from = service.map_or(Bound::Unbounded, Bound::Excluded);
            let Some((&key, next)) = self.services.range((from, Bound::Unbounded)).next() else {
                self.round = None;
                return false;
            };
            let sum = self.traffic_of(next);
            let Some(next) = self.services.get_mut(&key) else { break };
            next.meter.estimator.tick(sum);
            for server in next.servers.iter_mut() {
                server.meter.estimator.tick(self.slots.traffic(server.slot));
            }
            left = left.saturating_sub(1 + next.servers.len());
            service = Some(key);
        }
        if let Some(round) = &mut self.round {
            round.service = service;
        }
        true
    }
}
