//! The virtual services and their real servers, as the control core keeps them.

mod roster;
mod trash;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use director_packet::{Change, Endpoint};

use crate::directory::Directory;
use crate::estimator::{Estimator, Rates};
use crate::scheduler::dirty::Retired;
use crate::scheduler::hashing::{Member, Table};
use crate::scheduler::scale::Weighing;
use crate::scheduler::{Scheduler, ServerView, ServiceView, Turns};
use crate::servers::{Load, MAX_SERVERS, Servers, Traffic};
use crate::service::{ServerSpec, ServiceKey, ServiceSpec};
use roster::Roster;
use trash::Trash;

/// Why a change was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CatalogError {
    /// There is such a service already.
    #[error("service already exists")]
    ServiceExists,
    /// There is no such service.
    #[error("no such service")]
    NoService,
    /// The service has such a server already.
    #[error("destination already exists")]
    ServerExists,
    /// The service has no such server.
    #[error("no such destination")]
    NoServer,
    /// `lower` is above `upper`.
    #[error("the lower threshold is above the upper one")]
    Thresholds,
    /// Every slot is taken.
    #[error("there are too many real servers")]
    TooManyServers,
}

/// A real server of a service.
#[derive(Debug)]
pub struct Server {
    /// Its address and port.
    pub address: Endpoint,
    /// What an operator set.
    pub spec: ServerSpec,
    slot: u32,
    /// The weight it had last that was not 0; 0 if it was added with that and never got another.
    last_weight: u32,
    meter: Meter,
}

/// Counters as listings show them: since the last `-Z`, with their rates.
#[derive(Clone, Copy, Default, Debug)]
struct Meter {
    zero: Traffic,
    estimator: Estimator,
}

impl Meter {
    fn reset(&mut self, now: Traffic) {
        *self = Self { zero: now, estimator: Estimator::starting_at(now) };
    }
}

/// A virtual service.
#[derive(Debug)]
pub struct Service {
    /// Its key.
    pub key: ServiceKey,
    /// What an operator set.
    pub spec: ServiceSpec,
    servers: Roster,
    weights: Weighing,
    view: Arc<ServiceView>,
    /// The state of the scheduler, if it is one that has one.
    turns: Option<Arc<Turns>>,
    /// What the slots that left the service had counted, less what those that came to it had.
    moved: Traffic,
    meter: Meter,
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

/// All services.
pub struct Catalog {
    services: BTreeMap<ServiceKey, Service>,
    /// The keys of services of which workers know another state, or nothing, or that are no more.
    stale: BTreeSet<ServiceKey>,
    /// What workers are told.
    directory: Directory,
    /// By service and server.
    trash: BTreeMap<(ServiceKey, Endpoint), Trash>,
    /// The keys of what came to the trash since workers were last told.
    discarded: Vec<(ServiceKey, Endpoint)>,
    /// Services that [`Self::flush`] deleted and whose servers are yet to come to the trash, none of which has the key
    /// of a service that there is.
    flushed: BTreeMap<ServiceKey, Service>,
    /// Whether workers were given a configuration without them.
    flush_is_published: bool,
    /// Where [`Self::collect`] goes on.
    collected: Option<(ServiceKey, Endpoint)>,
    slots: Arc<Servers>,
    retired: Retired,
    free: Vec<u32>,
    next: u32,
    meter: Meter,
    /// An estimate that is under way.
    round: Option<Round>,
    /// Whether a service was given a persistence engine since this was last asked.
    pub(crate) has_new_engine: bool,
}

/// How far an estimate of all rates has come: over all slots, whose sum is the rate of all services, and then from
/// service to service.
#[derive(Default)]
struct Round {
    slot: u32,
    total: Traffic,
    total_is_done: bool,
    service: Option<ServiceKey>,
}

impl Service {
    /// Its view for workers, as of when it was last made anew, which is with each publication.
    #[must_use]
    pub fn view(&self) -> &Arc<ServiceView> {
        &self.view
    }

    /// Makes the view anew. Marks that are no longer used go to `retired`.
    fn renew(&mut self, slots: &Servers, retired: &mut Retired) {
        let vip = self.key.address;
        let servers = self.servers.iter().map(|server| {
            let address = server.address;
            let change = Change::between(vip, effective(address, vip));
            ServerView { slot: server.slot, address, change, forward: server.spec.forward }
        });
        let servers: Arc<[ServerView]> = servers.collect();
        let scheduler = if let Some(turns) = &self.turns {
            turns.renew(servers.clone(), slots, retired);
            Scheduler::Turns(turns.clone())
        } else {
            self.servers
                .iter()
                .filter_map(|server| slots.unwatch(server.slot))
                .for_each(|marks| retired.push(marks));
            let members = self.servers.iter().map(|server| Member {
                address: server.address,
                weight: server.spec.weight,
                last_weight: server.last_weight,
            });
            let members: Vec<_> = members.collect();
            Scheduler::Table(Table::new(self.spec.scheduler, self.spec.flags, &members))
        };
        self.view = Arc::new(view(self.key, &self.spec, servers, scheduler));
    }

    /// The servers or their weights have changed.
    fn rescale(&self) {
        if let Some(turns) = &self.turns {
            turns.rescale(self.weights.scale());
        }
    }

    /// Whether it has a server of this address and port.
    #[must_use]
    pub fn has_server(&self, address: Endpoint) -> bool {
        self.servers.contains(address)
    }
}

/// Where packets to a service's own port go: port 0 of a server keeps it.
pub(crate) fn effective(server: Endpoint, vip: Endpoint) -> Endpoint {
    if server.port() == 0 { server.with_port(vip.port()) } else { server }
}

/// A service as workers see it.
fn view(
    key: ServiceKey,
    spec: &ServiceSpec,
    servers: Arc<[ServerView]>,
    scheduler: Scheduler,
) -> ServiceView {
    let ServiceSpec { persistence, engine, one_packet, hairpin_snat, .. } = *spec;
    ServiceView { key, servers, persistence, engine, one_packet, hairpin_snat, scheduler }
}

impl Catalog {
    /// No services, with the slots that workers see.
    #[must_use]
    pub fn new(slots: Arc<Servers>) -> Self {
        Self {
            services: BTreeMap::new(),
            stale: BTreeSet::new(),
            directory: Directory::default(),
            trash: BTreeMap::new(),
            discarded: Vec::new(),
            flushed: BTreeMap::new(),
            flush_is_published: false,
            collected: None,
            slots,
            retired: Retired::default(),
            free: Vec::new(),
            next: 0,
            meter: Meter::default(),
            round: None,
            has_new_engine: false,
        }
    }

    /// The services, by protocol-independent order of their keys.
    pub fn services(&self) -> impl Iterator<Item = &Service> {
        self.services.values()
    }

    /// The services behind that of a key in the same order, whether there still is one of it or not: a listing goes on
    /// here that was interrupted.
    pub fn services_after(&self, key: Option<ServiceKey>) -> impl Iterator<Item = &Service> {
        let from = key.map_or(Bound::Unbounded, Bound::Excluded);
        self.services.range((from, Bound::Unbounded)).map(|(_, service)| service)
    }

    /// A service.
    #[must_use]
    pub fn service(&self, key: ServiceKey) -> Option<&Service> {
        self.services.get(&key)
    }

    /// Adds a service.
    pub fn add_service(&mut self, key: ServiceKey, spec: ServiceSpec) -> Result<(), CatalogError> {
        if self.services.contains_key(&key) {
            return Err(CatalogError::ServiceExists);
        }
        self.has_new_engine |= spec.engine.is_some();
        let turns = Turns::of(spec.scheduler, key);
        let scheduler = match &turns {
            Some(turns) => Scheduler::Turns(turns.clone()),
            None => Scheduler::Table(Table::new(spec.scheduler, spec.flags, &[])),
        };
        let view = Arc::new(view(key, &spec, Arc::new([]), scheduler));
        if spec.hairpin_snat {
            self.slots.set_hairpins();
        }
        if let Some(before) = self.flushed.remove(&key) {
            self.discard_flushed(key, before);
        }
        let mut moved = Traffic::default();
        // Connections of deleted servers of a deleted service of this key count for this one from now on.
        for slot in self.trash_of(key) {
            moved = moved.since(self.slots.traffic(slot));
        }
        for (_, trash) in self.trash.range_mut((key, Endpoint::MIN)..=(key, Endpoint::MAX)) {
            trash.is_orphan = true;
        }
        let (servers, weights, meter) = (Roster::default(), Weighing::default(), Meter::default());
        let service = Service { key, spec, servers, weights, view, turns, moved, meter };
        self.services.insert(key, service);
        self.stale.insert(key);
        Ok(())
    }

    /// Changes a service; another scheduler knows nothing of what the one before did.
    pub fn set_service(&mut self, key: ServiceKey, spec: ServiceSpec) -> Result<(), CatalogError> {
        let service = self.services.get_mut(&key).ok_or(CatalogError::NoService)?;
        if service.spec.scheduler != spec.scheduler {
            service.turns = Turns::of(spec.scheduler, key);
            service.rescale();
        }
        self.has_new_engine |= spec.engine.is_some();
        service.spec = spec;
        self.stale.insert(key);
        if spec.hairpin_snat {
            self.slots.set_hairpins();
        }
        Ok(())
    }

    /// Deletes a service and its servers; their connections stay.
    pub fn delete_service(&mut self, key: ServiceKey) -> Result<(), CatalogError> {
        let service = self.services.remove(&key).ok_or(CatalogError::NoService)?;
        self.stale.insert(key);
        for server in service.servers.into_servers() {
            self.discard(key, &server);
        }
        Ok(())
    }

    /// Adds a server to a service. One that was deleted and still has connections comes back with them.
    pub fn add_server(
        &mut self,
        key: ServiceKey,
        address: Endpoint,
        spec: ServerSpec,
    ) -> Result<(), CatalogError> {
        let service = self.services.get_mut(&key).ok_or(CatalogError::NoService)?;
        if spec.lower > spec.upper {
            return Err(CatalogError::Thresholds);
        }
        if service.servers.contains(address) {
            return Err(CatalogError::ServerExists);
        }
        let (slot, meter) = match self.trash.remove(&(key, address)) {
            Some(trash) if trash.is_orphan => {
                let before = self.slots.traffic(trash.slot);
                (trash.slot, Meter { zero: before, estimator: Estimator::starting_at(before) })
            }
            Some(trash) => (trash.slot, trash.meter),
            None => {
                let slot = self.free.pop().or_else(|| {
                    let fresh = (self.next as usize) < MAX_SERVERS;
                    fresh.then(|| {
                        self.next += 1;
                        self.next - 1
                    })
                });
                let slot = slot.ok_or(CatalogError::TooManyServers)?;
                self.slots.ensure(slot);
                self.slots.enter(address.address());
                // A slot that is used again has counted for another server.
                let before = self.slots.traffic(slot);
                service.moved = service.moved.since(before);
                (slot, Meter { zero: before, estimator: Estimator::starting_at(before) })
            }
        };
        self.slots.set(slot, &spec);
        service.weights.add(spec.weight);
        service.servers.add(Server { address, spec, slot, last_weight: spec.weight, meter });
        service.rescale();
        self.stale.insert(key);
        Ok(())
    }

    /// Changes a server.
    pub fn set_server(
        &mut self,
        key: ServiceKey,
        address: Endpoint,
        spec: ServerSpec,
    ) -> Result<(), CatalogError> {
        let service = self.services.get_mut(&key).ok_or(CatalogError::NoService)?;
        if spec.lower > spec.upper {
            return Err(CatalogError::Thresholds);
        }
        let server = service.servers.get_mut(address).ok_or(CatalogError::NoServer)?;
        // A weight is the slot's, and of the view's only where a table was made by it.
        if server.spec.forward != spec.forward || service.turns.is_none() {
            self.stale.insert(key);
        }
        service.weights.remove(server.spec.weight);
        service.weights.add(spec.weight);
        server.spec = spec;
        if spec.weight > 0 {
            server.last_weight = spec.weight;
        }
        self.slots.set(server.slot, &spec);
        service.rescale();
        Ok(())
    }

    /// How many servers can be added, those that were deleted and still have connections not counted.
    #[must_use]
    pub fn room(&self) -> usize {
        MAX_SERVERS - self.next as usize + self.free.len()
    }

    /// Deletes a server; its connections stay.
    pub fn delete_server(&mut self, key: ServiceKey, address: Endpoint) -> Result<u32, CatalogError> {
        let service = self.services.get_mut(&key).ok_or(CatalogError::NoService)?;
        let (server, before) = service.servers.remove(address).ok_or(CatalogError::NoServer)?;
        service.weights.remove(server.spec.weight);
        // First of all nobody may take its turn any more.
        self.slots.set_gone(server.slot);
        if let Some(turns) = &service.turns {
            turns.leave(server.slot, before);
        }
        service.rescale();
        self.stale.insert(key);
        self.discard(key, &server);
        Ok(server.slot)
    }

    /// What workers are to be told, brought up to date: so many steps as services have changed since.
    pub(crate) fn renew(&mut self) -> &Directory {
        for key in std::mem::take(&mut self.stale) {
            match self.services.get_mut(&key) {
                Some(service) => {
                    service.renew(&self.slots, &mut self.retired);
                    self.directory.insert(service.view.clone());
                }
                None => self.directory.remove(key),
            }
        }
        self.retired.sweep();
        &self.directory
    }

    /// Whether workers are told which servers there are, of whatever service.
    pub(crate) fn list_servers(&mut self, wanted: bool) {
        self.directory.list_servers(wanted);
    }

    /// How many real servers all services have.
    #[must_use]
    pub fn server_count(&self) -> usize {
        self.services.values().map(|service| service.servers.len()).sum()
    }

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

    /// The next server of a service behind the one that this has given the number of, newest first: a listing goes on
    /// here that was interrupted.
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
            server.meter.reset(traffic);
            sum = sum.plus(traffic);
        }
        service.meter.reset(sum);
        Ok(())
    }

    /// Sets all counters to 0.
    pub fn zero_all(&mut self) {
        let keys: Vec<_> = self.services.values().map(|service| service.key).collect();
        for key in keys {
            let _ = self.zero(key);
        }
        let total = self.total_traffic();
        self.meter.reset(total);
        // What it has summed up is older than the counters that it would be compared with.
        if let Some(round) = &mut self.round
            && !round.total_is_done
        {
            *round = Round::default();
        }
    }

    /// An interval of [`crate::estimator::INTERVAL`] has passed: the rates are to be estimated anew, by
    /// [`Self::estimate`].
    pub fn begin_estimate(&mut self) {
        self.round.get_or_insert_default();
    }

    /// Goes on with estimating, for about `most` servers. False: it is done.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::{Forward, Protocol, SchedulerKind};
    use crate::state::{Direction, State};

    const KEY: ServiceKey = ServiceKey { protocol: Protocol::Tcp, address: Endpoint::v4(1, 80) };
    const SPEC: ServiceSpec = ServiceSpec::new(SchedulerKind::RoundRobin);
    const A: Endpoint = Endpoint::v4(10, 8080);
    const B: Endpoint = Endpoint::v4(11, 8080);

    fn catalog() -> (Catalog, Arc<Servers>) {
        let slots = Arc::new(Servers::new(1));
        let mut catalog = Catalog::new(slots.clone());
        catalog.add_service(KEY, SPEC).unwrap();
        catalog.add_server(KEY, A, ServerSpec::default()).unwrap();
        (catalog, slots)
    }

    fn view(catalog: &mut Catalog) -> Arc<ServiceView> {
        catalog.renew();
        catalog.service(KEY).unwrap().view().clone()
    }

    fn row(catalog: &Catalog, at: usize) -> ServerRow {
        catalog.servers(catalog.service(KEY).unwrap()).nth(at).unwrap()
    }

    #[test]
    fn what_is_refused() {
        let (mut catalog, _) = catalog();
        let other = ServiceKey { protocol: Protocol::Udp, ..KEY };
        let spec = ServerSpec::default();
        assert_eq!(catalog.add_service(KEY, SPEC), Err(CatalogError::ServiceExists));
        assert_eq!(catalog.set_service(other, SPEC), Err(CatalogError::NoService));
        assert_eq!(catalog.delete_service(other), Err(CatalogError::NoService));
        assert_eq!(catalog.zero(other), Err(CatalogError::NoService));
        assert_eq!(catalog.add_server(other, A, spec), Err(CatalogError::NoService));
        assert_eq!(catalog.add_server(KEY, A, spec), Err(CatalogError::ServerExists));
        assert_eq!(catalog.set_server(KEY, B, spec), Err(CatalogError::NoServer));
        assert_eq!(catalog.delete_server(KEY, B), Err(CatalogError::NoServer));
        let wrong = ServerSpec { lower: 2, upper: 1, ..spec };
        assert_eq!(catalog.add_server(KEY, B, wrong), Err(CatalogError::Thresholds));
        assert_eq!(catalog.set_server(KEY, A, wrong), Err(CatalogError::Thresholds));
    }

    #[test]
    fn a_deleted_server_comes_back_with_its_connections() {
        let (mut catalog, slots) = catalog();
        let slot = view(&mut catalog).servers[0].slot;
        slots.bind(slot, State::Established);
        slots.count_connection(0, slot);
        slots.count(0, slot, Direction::In, 100);
        catalog.delete_server(KEY, A).unwrap();
        assert!(slots.is_gone(slot));
        catalog.published();
        catalog.collect(usize::MAX);
        catalog.collect(usize::MAX);
        assert_eq!(catalog.statistics(catalog.service(KEY).unwrap()).0.connections, 1);
        catalog.add_server(KEY, A, ServerSpec::default()).unwrap();
        assert!(!slots.is_gone(slot));
        assert_eq!((row(&catalog, 0).load.active, row(&catalog, 0).traffic.in_bytes), (1, 100));
        // Without connections the slot is free a grace period after the workers were told, and its next
        // server starts at 0.
        slots.unbind(slot, State::Established);
        catalog.delete_server(KEY, A).unwrap();
        catalog.collect(usize::MAX);
        catalog.collect(usize::MAX);
        catalog.published();
        catalog.collect(usize::MAX);
        assert!(catalog.has_trash());
        // A worker that had not heard binds one more.
        slots.bind(slot, State::SynRecv);
        catalog.collect(usize::MAX);
        slots.unbind(slot, State::SynRecv);
        catalog.collect(usize::MAX);
        assert!(catalog.has_trash());
        catalog.collect(usize::MAX);
        assert!(!catalog.has_trash());
        catalog.add_server(KEY, B, ServerSpec::default()).unwrap();
        assert_eq!(view(&mut catalog).servers[0].slot, slot);
        assert_eq!(row(&catalog, 0).traffic, Traffic::default());
        let (sum, _) = catalog.statistics(catalog.service(KEY).unwrap());
        assert_eq!((sum.connections, sum.in_bytes), (1, 100), "the service keeps what passed through it");
        assert_eq!(catalog.total().0.in_bytes, 100);
    }

    #[test]
    fn a_service_created_anew_starts_at_0() {
        let (mut catalog, slots) = catalog();
        let slot = view(&mut catalog).servers[0].slot;
        slots.bind(slot, State::Established);
        slots.count_connection(0, slot);
        catalog.flush();
        catalog.add_service(KEY, SPEC).unwrap();
        assert_eq!(catalog.statistics(catalog.service(KEY).unwrap()).0, Traffic::default());
        catalog.add_server(KEY, A, ServerSpec::default()).unwrap();
        // And so do its servers.
        assert_eq!(row(&catalog, 0).traffic, Traffic::default());
        slots.count_connection(0, slot);
        assert_eq!(row(&catalog, 0).traffic.connections, 1);
        assert_eq!(catalog.statistics(catalog.service(KEY).unwrap()).0.connections, 1);
        catalog.zero_all();
        assert_eq!(row(&catalog, 0).traffic, Traffic::default());
        assert_eq!(catalog.total().0, Traffic::default());
    }

    #[test]
    fn port_0_keeps_the_port_of_the_service() {
        let (mut catalog, _) = catalog();
        let any = B.with_port(0);
        catalog.add_server(KEY, any, ServerSpec::default()).unwrap();
        let [server, ..] = view(&mut catalog).servers[..] else { panic!("no server") };
        assert_eq!((server.address, server.change.to), (any, B.with_port(80)));
        let service = catalog.service(KEY).unwrap();
        assert!(service.has_server(any) && !service.has_server(B.with_port(80)));
        assert_eq!(row(&catalog, 0).address, any);
    }

    fn numbered(number: u32) -> ServiceKey {
        ServiceKey {
            protocol: Protocol::Tcp,
            address: Endpoint::v4(number / 10 + 1, (number % 10 + 1) as u16),
        }
    }

    #[test]
    fn a_change_copies_little_of_many_services() {
        let mut catalog = Catalog::new(Arc::new(Servers::new(1)));
        for number in 0..10_000 {
            catalog.add_service(numbered(number), SPEC).unwrap();
            for server in 0..10 {
                let address = Endpoint::v4(1 << 24 | number, server);
                catalog.add_server(numbered(number), address, ServerSpec::default()).unwrap();
            }
        }
        catalog.renew();
        for number in 0..100 {
            let key = numbered(number * 97);
            let before = catalog.directory.clone();
            match number % 3 {
                0 => catalog.add_server(key, A, ServerSpec::default()).unwrap(),
                1 => catalog.add_service(numbered(10_000 + number), SPEC).unwrap(),
                _ => catalog.delete_service(key).unwrap(),
            }
            assert_eq!(catalog.stale.len(), 1, "services whose views are made anew");
            let copied = catalog.renew().own_entries(&before);
            assert!((1..200).contains(&copied), "{copied} of 10,000 services were copied for one change");
        }
    }

    #[test]
    fn a_weight_needs_no_new_view() {
        let (mut catalog, slots) = catalog();
        let before = view(&mut catalog);
        let heavy = ServerSpec { weight: 7, ..ServerSpec::default() };
        catalog.set_server(KEY, A, heavy).unwrap();
        assert!(Arc::ptr_eq(&before, &view(&mut catalog)));
        assert_eq!(slots.weight(before.servers[0].slot), 7);
        catalog.set_server(KEY, A, ServerSpec { forward: Forward::DirectRouting, ..heavy }).unwrap();
        let before = view(&mut catalog);
        assert_eq!(before.servers[0].forward, Forward::DirectRouting);
        // But the table of a scheduler that has one is of the weights.
        catalog.set_service(KEY, ServiceSpec::new(SchedulerKind::SourceHash)).unwrap();
        let before = view(&mut catalog);
        catalog.set_server(KEY, A, ServerSpec::default()).unwrap();
        assert!(!Arc::ptr_eq(&before, &view(&mut catalog)));
    }

    #[test]
    fn what_is_no_longer_used_is_freed() {
        let (mut catalog, _) = catalog();
        for weight in 0..100 {
            let spec = ServerSpec { weight, ..ServerSpec::default() };
            catalog.add_server(KEY, B, spec).unwrap();
            catalog.renew();
            catalog.set_server(KEY, A, spec).unwrap();
            catalog.delete_server(KEY, B).unwrap();
            catalog.renew();
            catalog.published();
            catalog.retired.sweep();
            assert_eq!(catalog.retired.len(), 0);
        }
    }

    #[test]
    fn a_listing_in_pieces_is_borne_by_changes() {
        let (mut catalog, _) = catalog();
        let servers: Vec<_> = (0..10).map(|port| Endpoint::v4(20, port)).collect();
        for &server in &servers {
            catalog.add_server(KEY, server, ServerSpec::default()).unwrap();
        }
        let mut listed = Vec::new();
        let mut at = None;
        while let Some((number, row)) = catalog.server_after(catalog.service(KEY).unwrap(), at) {
            at = Some(number);
            listed.push(row.address);
            if listed.len() == 3 {
                // What was listed and goes, what comes, what goes before it was listed.
                for gone in [servers[7], servers[2]] {
                    catalog.delete_server(KEY, gone).unwrap();
                }
                catalog.add_server(KEY, B, ServerSpec::default()).unwrap();
            }
        }
        let rest = [6, 5, 4, 3, 1, 0].map(|at| servers[at]);
        assert_eq!(listed[..3], [servers[9], servers[8], servers[7]]);
        assert_eq!((&listed[3..9], &listed[9..]), (&rest[..], &[A][..]));

        let keys = [1, 2, 3].map(numbered);
        keys.iter().for_each(|&key| catalog.add_service(key, SPEC).unwrap());
        catalog.delete_service(keys[1]).unwrap();
        let after: Vec<_> = catalog.services_after(Some(keys[1])).map(|service| service.key).collect();
        assert_eq!(after[..2], [keys[2], KEY]);
        assert_eq!(catalog.services_after(None).count(), catalog.services().count());
    }

    #[test]
    fn counters_set_to_0_during_an_estimate() {
        let (mut catalog, slots) = catalog();
        catalog.add_server(KEY, B, ServerSpec::default()).unwrap();
        slots.count(0, 0, Direction::In, 1000);
        catalog.begin_estimate();
        assert!(catalog.estimate(1));
        slots.count(0, 0, Direction::In, 1000);
        catalog.zero_all();
        while catalog.estimate(1) {}
        assert_eq!(catalog.total().1, Rates::default());
    }

    #[test]
    fn newest_first() {
        let (mut catalog, _) = catalog();
        catalog.add_server(KEY, B, ServerSpec { weight: 0, ..ServerSpec::default() }).unwrap();
        assert_eq!((row(&catalog, 0).address, row(&catalog, 1).address), (B, A));
        assert_eq!(row(&catalog, 0).spec.weight, 0);
    }
}
