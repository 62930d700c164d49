//! The virtual services and their real servers, as the control core keeps them.

use std::collections::BTreeMap;
use std::sync::Arc;

use director_packet::{Change, Endpoint};

use crate::estimator::{Estimator, Rates};
use crate::scheduler::dirty::Dirty;
use crate::scheduler::hashing::{Member, Table};
use crate::scheduler::{Scheduler, ServerView, ServiceView, Turns};
use crate::servers::{Load, MAX_SERVERS, Servers, Traffic};
use crate::service::{ServerSpec, ServiceKey, ServiceSpec};

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
    /// Newest first.
    servers: Vec<Server>,
    view: Arc<ServiceView>,
    /// The state of the scheduler, if it is one that has one.
    turns: Option<Arc<Turns>>,
    /// Whether the view is not of the servers as they are now.
    stale: bool,
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

/// A deleted server whose connections go on. The service that counts it is the one of its key, while
/// that one is the same.
#[derive(Debug)]
struct Trash {
    slot: u32,
    meter: Meter,
    /// Whether workers were given a configuration without the server.
    published: bool,
    /// Whether it was idle when [`Catalog::collect`] was last called. It is freed when it is so again, a
    /// grace period later: then no worker is about to bind a connection to it, or to count a change of one.
    idle: bool,
}

/// All services.
pub struct Catalog {
    services: BTreeMap<ServiceKey, Service>,
    /// By service and server.
    trash: BTreeMap<(ServiceKey, Endpoint), Trash>,
    slots: Arc<Servers>,
    /// Marks of lists that are no more, but that a worker may still hold: dropped here, so that no worker
    /// ever frees memory.
    retired: Vec<Arc<Dirty>>,
    free: Vec<u32>,
    next: u32,
    meter: Meter,
}

impl Service {
    /// Its view for workers, as of when it was last made anew, which is with each publication.
    #[must_use]
    pub fn view(&self) -> &Arc<ServiceView> {
        &self.view
    }

    /// Makes the view anew. Marks that are no longer used go to `retired`.
    fn renew(&mut self, slots: &Servers, retired: &mut Vec<Arc<Dirty>>) {
        self.stale = false;
        let vip = self.key.address;
        let servers = self.servers.iter().map(|server| {
            // Port 0 keeps the port of the service.
            let port = if server.address.port() == 0 { vip.port() } else { server.address.port() };
            let address = server.address.with_port(port);
            let change = Change::between(vip, address);
            ServerView { slot: server.slot, address, change, forward: server.spec.forward }
        });
        let servers: Arc<[ServerView]> = servers.collect();
        let scheduler = if let Some(turns) = &self.turns {
            turns.renew(servers.clone(), slots, retired);
            Scheduler::Turns(turns.clone())
        } else {
            self.servers.iter().for_each(|server| slots.unwatch(server.slot));
            let members = self.servers.iter().map(|server| Member {
                address: server.address,
                weight: server.spec.weight,
                last_weight: server.last_weight,
            });
            let members: Vec<_> = members.collect();
            Scheduler::Table(Table::new(self.spec.scheduler, self.spec.flags, &members))
        };
        let ServiceSpec { persistence, one_packet, .. } = self.spec;
        self.view = Arc::new(ServiceView { key: self.key, servers, persistence, one_packet, scheduler });
    }

    /// The servers or their weights have changed.
    fn changed(&mut self) {
        self.stale = true;
        if let Some(turns) = &self.turns {
            turns.rescale(self.servers.iter().map(|server| server.spec.weight));
        }
    }

    /// Whether it has a server of this address and port.
    #[must_use]
    pub fn has_server(&self, address: Endpoint) -> bool {
        self.find(address).is_some()
    }

    fn find(&self, address: Endpoint) -> Option<usize> {
        self.servers.iter().position(|server| server.address == address)
    }
}

impl Catalog {
    /// No services, with the slots that workers see.
    #[must_use]
    pub fn new(slots: Arc<Servers>) -> Self {
        Self {
            services: BTreeMap::new(),
            trash: BTreeMap::new(),
            slots,
            retired: Vec::new(),
            free: Vec::new(),
            next: 0,
            meter: Meter::default(),
        }
    }

    /// The services, by protocol-independent order of their keys.
    pub fn services(&self) -> impl Iterator<Item = &Service> {
        self.services.values()
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
        let turns = Turns::of(spec.scheduler, key);
        let scheduler = match &turns {
            Some(turns) => Scheduler::Turns(turns.clone()),
            None => Scheduler::Table(Table::new(spec.scheduler, spec.flags, &[])),
        };
        let ServiceSpec { persistence, one_packet, .. } = spec;
        let view = Arc::new(ServiceView { key, servers: Arc::new([]), persistence, one_packet, scheduler });
        let mut moved = Traffic::default();
        // Connections of deleted servers of a deleted service of this key count for this one from now on.
        for slot in self.trash_of(key) {
            moved = moved.since(self.slots.traffic(slot));
        }
        let (servers, meter) = (Vec::new(), Meter::default());
        let service = Service { key, spec, servers, view, turns, stale: false, moved, meter };
        self.services.insert(key, service);
        Ok(())
    }

    /// Changes a service; another scheduler knows nothing of what the one before did.
    pub fn set_service(&mut self, key: ServiceKey, spec: ServiceSpec) -> Result<(), CatalogError> {
        let service = self.services.get_mut(&key).ok_or(CatalogError::NoService)?;
        if service.spec.scheduler != spec.scheduler {
            service.turns = Turns::of(spec.scheduler, key);
            service.changed();
        }
        service.spec = spec;
        service.stale = true;
        Ok(())
    }

    /// Deletes a service and its servers; their connections stay.
    pub fn delete_service(&mut self, key: ServiceKey) -> Result<(), CatalogError> {
        let service = self.services.remove(&key).ok_or(CatalogError::NoService)?;
        for server in service.servers {
            self.discard(key, &server);
        }
        Ok(())
    }

    /// Deletes every service.
    pub fn flush(&mut self) {
        for service in std::mem::take(&mut self.services).into_values() {
            for server in service.servers {
                self.discard(service.key, &server);
            }
        }
    }

    fn discard(&mut self, key: ServiceKey, server: &Server) {
        self.slots.set_gone(server.slot);
        self.trash.insert(
            (key, server.address),
            Trash { slot: server.slot, meter: server.meter, published: false, idle: false },
        );
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
        if service.find(address).is_some() {
            return Err(CatalogError::ServerExists);
        }
        let (slot, meter) = match self.trash.remove(&(key, address)) {
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
        service.servers.insert(0, Server { address, spec, slot, last_weight: spec.weight, meter });
        service.changed();
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
        let at = service.find(address).ok_or(CatalogError::NoServer)?;
        if let Some(server) = service.servers.get_mut(at) {
            server.spec = spec;
            if spec.weight > 0 {
                server.last_weight = spec.weight;
            }
            self.slots.set(server.slot, &spec);
        }
        service.changed();
        Ok(())
    }

    /// Deletes a server; its connections stay.
    pub fn delete_server(&mut self, key: ServiceKey, address: Endpoint) -> Result<u32, CatalogError> {
        let service = self.services.get_mut(&key).ok_or(CatalogError::NoService)?;
        let at = service.find(address).ok_or(CatalogError::NoServer)?;
        let server = service.servers.remove(at);
        let before = at.checked_sub(1).and_then(|at| service.servers.get(at)).map(|server| server.slot);
        // First of all nobody may take its turn any more.
        self.slots.set_gone(server.slot);
        if let Some(turns) = &service.turns {
            turns.leave(server.slot, before);
        }
        service.changed();
        self.discard(key, &server);
        Ok(server.slot)
    }

    /// Makes the views of services that have changed anew.
    pub(crate) fn renew(&mut self) {
        for service in self.services.values_mut().filter(|service| service.stale) {
            service.renew(&self.slots, &mut self.retired);
        }
        // A worker that is marking holds one for a moment.
        self.retired.retain(|marks| Arc::strong_count(marks) > 1);
    }

    /// The workers were given the services as they are now.
    pub(crate) fn published(&mut self) {
        self.trash.values_mut().for_each(|trash| trash.published = true);
    }

    /// Frees the slots of deleted servers that no connection refers to. To be called now and then, with a
    /// grace period of the workers between two calls.
    pub fn collect(&mut self) {
        let (slots, free, services) = (&self.slots, &mut self.free, &mut self.services);
        self.trash.retain(|key, trash| {
            let was_idle = std::mem::replace(&mut trash.idle, trash.published && slots.is_idle(trash.slot));
            if !(was_idle && trash.idle) {
                return true;
            }
            if let Some(service) = services.get_mut(&key.0) {
                service.moved = service.moved.plus(slots.traffic(trash.slot));
                if let Some(turns) = &service.turns {
                    turns.forget(trash.slot);
                }
            }
            slots.leave(key.1.address());
            free.push(trash.slot);
            false
        });
    }

    /// Whether slots of deleted servers are still kept.
    #[must_use]
    pub fn has_trash(&self) -> bool {
        !self.trash.is_empty()
    }

    /// How many real servers all services have.
    #[must_use]
    pub fn server_count(&self) -> usize {
        self.services.values().map(|service| service.servers.len()).sum()
    }

    /// The slots of the deleted servers of a service.
    fn trash_of(&self, key: ServiceKey) -> impl Iterator<Item = u32> {
        self.trash.range((key, Endpoint::MIN)..=(key, Endpoint::MAX)).map(|(_, trash)| trash.slot)
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
        service.servers.iter().map(|server| ServerRow {
            address: server.address,
            spec: server.spec,
            load: self.slots.load(server.slot),
            traffic: self.slots.traffic(server.slot).since(server.meter.zero),
            rates: server.meter.estimator.rates(),
        })
    }

    /// Sets the counters of a service and its servers to 0 (`-Z`).
    pub fn zero(&mut self, key: ServiceKey) -> Result<(), CatalogError> {
        let service = self.services.get(&key).ok_or(CatalogError::NoService)?;
        let sum = self.traffic_of(service);
        let Some(service) = self.services.get_mut(&key) else { return Err(CatalogError::NoService) };
        service.meter.reset(sum);
        for server in &mut service.servers {
            server.meter.reset(self.slots.traffic(server.slot));
        }
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
    }

    /// An interval of [`crate::estimator::INTERVAL`] has passed: the rates are estimated anew.
    pub fn estimate(&mut self) {
        let sums: Vec<_> = self.services.values().map(|service| self.traffic_of(service)).collect();
        for (service, sum) in self.services.values_mut().zip(sums) {
            service.meter.estimator.tick(sum);
            for server in &mut service.servers {
                server.meter.estimator.tick(self.slots.traffic(server.slot));
            }
        }
        let total = self.total_traffic();
        self.meter.estimator.tick(total);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::{Protocol, SchedulerKind};
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
        catalog.collect();
        catalog.collect();
        assert_eq!(catalog.statistics(catalog.service(KEY).unwrap()).0.connections, 1);
        catalog.add_server(KEY, A, ServerSpec::default()).unwrap();
        assert!(!slots.is_gone(slot));
        assert_eq!((row(&catalog, 0).load.active, row(&catalog, 0).traffic.in_bytes), (1, 100));
        // Without connections the slot is free a grace period after the workers were told, and its next
        // server starts at 0.
        slots.unbind(slot, State::Established);
        catalog.delete_server(KEY, A).unwrap();
        catalog.collect();
        catalog.collect();
        catalog.published();
        catalog.collect();
        assert!(catalog.has_trash());
        // A worker that had not heard binds one more.
        slots.bind(slot, State::SynRecv);
        catalog.collect();
        slots.unbind(slot, State::SynRecv);
        catalog.collect();
        assert!(catalog.has_trash());
        catalog.collect();
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
        assert_eq!(row(&catalog, 0).traffic.connections, 1);
        slots.count_connection(0, slot);
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
        assert_eq!(view(&mut catalog).servers[0].address, B.with_port(80));
        let service = catalog.service(KEY).unwrap();
        assert!(service.has_server(any) && !service.has_server(B.with_port(80)));
        assert_eq!(row(&catalog, 0).address, any);
    }

    #[test]
    fn newest_first() {
        let (mut catalog, _) = catalog();
        catalog.add_server(KEY, B, ServerSpec { weight: 0, ..ServerSpec::default() }).unwrap();
        assert_eq!((row(&catalog, 0).address, row(&catalog, 1).address), (B, A));
        assert_eq!(row(&catalog, 0).spec.weight, 0);
    }
}
