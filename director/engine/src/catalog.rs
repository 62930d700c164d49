//! The virtual services and their real servers, as the control core keeps them.

mod counters;
mod roster;
#[cfg(test)]
mod tests;
mod trash;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use director_packet::{Change, Endpoint};

use crate::directory::Directory;
use crate::scheduler::dirty::Retired;
use crate::scheduler::hashing::{Member, Table};
use crate::scheduler::scale::Weighing;
use crate::scheduler::{Scheduler, ServerView, ServiceView, Turns};
use crate::servers::{MAX_SERVERS, Servers, Traffic};
use crate::service::{SchedulerKind, ServerSpec, ServiceKey, ServiceSpec};
use counters::{Meter, Round};
use roster::Roster;
use trash::Trash;

pub use counters::ServerRow;

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

/// A change of a service's list of servers.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// A server of this address came.
    Join(Endpoint),
    /// That of a slot left.
    Leave(u32),
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
    /// What workers have not heard of yet: everything, or else these.
    is_new: bool,
    steps: Vec<Step>,
    /// The state of the scheduler, if it is one that has one.
    turns: Option<Arc<Turns>>,
    /// What the slots that left the service had counted, minus what those that joined it had.
    moved: Traffic,
    meter: Meter,
}

/// All services.
pub struct Catalog {
    services: BTreeMap<ServiceKey, Service>,
    /// The keys of services that have changed, come or gone since workers were last told.
    stale: BTreeSet<ServiceKey>,
    /// What workers are told.
    directory: Directory,
    /// By service and server.
    trash: BTreeMap<(ServiceKey, Endpoint), Trash>,
    /// The keys of what was added to the trash since workers were last told.
    discarded: Vec<(ServiceKey, Endpoint)>,
    /// Services that [`Self::flush`] deleted and whose servers have not been moved to the trash yet. None of them has
    /// the key of a service that exists.
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
    /// The estimate that is under way.
    round: Option<Round>,
    /// Whether a service was given a persistence engine since the last query.
    pub(crate) has_new_engine: bool,
}

impl Service {
    /// Its view for workers, as of the last publication.
    #[must_use]
    pub fn view(&self) -> &Arc<ServiceView> {
        &self.view
    }

    /// The slots of its servers, newest first.
    pub fn slots(&self) -> impl Iterator<Item = u32> {
        self.servers.iter().map(|server| server.slot)
    }

    fn server_view(&self, server: &Server) -> ServerView {
        let (vip, address) = (self.key.address, server.address);
        let change = Change::between(vip, effective(address, vip));
        ServerView { slot: server.slot, address, change, forward: server.spec.forward }
    }

    /// Brings what workers know up to date. True: the view was made anew. Marks that are no longer used go to `retired`.
    fn renew(&mut self, slots: &Servers, retired: &mut Retired, lists_servers: bool) -> bool {
        let steps = std::mem::take(&mut self.steps);
        let is_listed =
            self.turns.is_none() || lists_servers || self.spec.one_packet || self.spec.engine.is_some();
        if !std::mem::take(&mut self.is_new) && !is_listed && self.follow(&steps, slots, retired) {
            return false;
        }
        self.renew_all(slots, retired, is_listed);
        true
    }

    /// Has the scheduler go along with changes of the list. False: it cannot, or they are too many.
    fn follow(&self, steps: &[Step], slots: &Servers, retired: &mut Retired) -> bool {
        let Some(turns) = &self.turns else { return false };
        steps.len() <= self.servers.len()
            && steps.iter().all(|step| match *step {
                Step::Leave(slot) => {
                    turns.vacate(slot, slots, retired);
                    true
                }
                // It may have left again.
                Step::Join(address) => self
                    .servers
                    .get(address)
                    .is_none_or(|server| turns.join(self.server_view(server), slots, retired)),
            })
    }

    fn renew_all(&mut self, slots: &Servers, retired: &mut Retired, is_listed: bool) {
        let servers: Vec<_> = self.servers.iter().map(|server| self.server_view(server)).collect();
        let scheduler = if let Some(turns) = &self.turns {
            turns.renew(&servers, slots, retired);
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
        let servers = if is_listed { servers.into() } else { Arc::new([]) as Arc<[_]> };
        self.view = Arc::new(view(self.key, &self.spec, servers, scheduler));
    }

    /// Takes account of a change of the servers or their weights.
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

/// Where packets to a service's own port go; a server with port 0 keeps the packet's port.
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

    /// The services after the one with a key, in the same order, whether or not that one still exists: an interrupted
    /// listing goes on here.
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
        // From now on, connections of deleted servers of an earlier service with this key count for this one.
        for slot in self.trash_of(key) {
            moved = moved.since(self.slots.traffic(slot));
        }
        for (_, trash) in self.trash.range_mut((key, Endpoint::MIN)..=(key, Endpoint::MAX)) {
            trash.is_orphan = true;
        }
        let (servers, weights, meter) = (Roster::default(), Weighing::default(), Meter::default());
        let (is_new, steps) = (true, Vec::new());
        let service = Service { key, spec, servers, weights, view, is_new, steps, turns, moved, meter };
        self.services.insert(key, service);
        self.stale.insert(key);
        Ok(())
    }

    /// Changes a service. A new scheduler knows nothing of what the one before it did.
    pub fn set_service(&mut self, key: ServiceKey, spec: ServiceSpec) -> Result<(), CatalogError> {
        let service = self.services.get_mut(&key).ok_or(CatalogError::NoService)?;
        if service.spec.scheduler != spec.scheduler {
            service.turns = Turns::of(spec.scheduler, key);
            service.rescale();
        }
        self.has_new_engine |= spec.engine.is_some();
        service.spec = spec;
        service.is_new = true;
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

    /// Adds a server to a service. One that was deleted and is remembered comes back with its connections and counters.
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
                (trash.slot, Meter::starting_at(before))
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
                // A slot that is used again starts with what it counted for another server.
                let before = self.slots.traffic(slot);
                service.moved = service.moved.since(before);
                (slot, Meter::starting_at(before))
            }
        };
        self.slots.set(slot, &spec);
        service.weights.add(spec.weight);
        service.servers.add(Server { address, spec, slot, last_weight: spec.weight, meter });
        service.steps.push(Step::Join(address));
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
        let has_table = matches!(service.spec.scheduler, SchedulerKind::SourceHash | SchedulerKind::Maglev);
        if server.spec.forward != spec.forward || has_table {
            service.is_new = true;
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

    /// How many servers can be added, the slots of those that were deleted and are remembered not counted.
    #[must_use]
    pub fn room(&self) -> usize {
        MAX_SERVERS - self.next as usize + self.free.len()
    }

    /// Deletes a server; its connections stay.
    pub fn delete_server(&mut self, key: ServiceKey, address: Endpoint) -> Result<u32, CatalogError> {
        let service = self.services.get_mut(&key).ok_or(CatalogError::NoService)?;
        let (server, before) = service.servers.remove(address).ok_or(CatalogError::NoServer)?;
        service.weights.remove(server.spec.weight);
        // First: nobody may choose it any more.
        self.slots.set_gone(server.slot);
        if let Some(turns) = &service.turns {
            turns.leave(server.slot, before);
        }
        service.steps.push(Step::Leave(server.slot));
        service.rescale();
        self.stale.insert(key);
        self.discard(key, &server);
        Ok(server.slot)
    }

    /// What workers are to be told, brought up to date: so many steps as services have changed since, or as their lists
    /// have.
    pub(crate) fn renew(&mut self) -> &Directory {
        for key in std::mem::take(&mut self.stale) {
            match self.services.get_mut(&key) {
                Some(service) => {
                    if service.renew(&self.slots, &mut self.retired, self.directory.lists_servers()) {
                        self.directory.insert(service.view.clone());
                    }
                }
                None => self.directory.remove(key),
            }
        }
        self.retired.sweep();
        &self.directory
    }

    /// Whether workers are given a list of all servers.
    pub(crate) fn list_servers(&mut self, wanted: bool) {
        if self.directory.list_servers(wanted) {
            // Their views have lists of servers, or have none any more.
            self.services.values_mut().for_each(|service| service.is_new = true);
            self.stale.extend(self.services.keys());
        }
    }

    /// How many real servers all services have.
    #[must_use]
    pub fn server_count(&self) -> usize {
        self.services.values().map(|service| service.servers.len()).sum()
    }
}
