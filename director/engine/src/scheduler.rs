//! Schedulers: which real server a new connection goes to, in exactly the order of IPVS.
//!
//! | schedulers | how |
//! |---|---|
//! | `rr`, `wrr` | `rounds`: a walk along the list |
//! | `lc`, `wlc`, `sed`, `nq`, `fo`, `ovf` | `least`: the best of all |
//! | `lblc`, `lblcr` | `locality`: what the destination had before |
//! | `sh`, `dh`, `mh` | `hashing`, `maglev`: a table |
//!
//! Tables never change, so they are asked without ado. The others have a state that all workers change; a
//! lock makes the choice and its connection one step, so that the order is exact whichever worker asks. Only
//! new connections take it. Existing ones leave a mark (`dirty`) when they change what a choice depends on.

pub(crate) mod dirty;
pub(crate) mod hashing;
mod least;
mod locality;
mod maglev;
pub(crate) mod rounds;
pub(crate) mod scale;
#[cfg(test)]
mod tests;
mod tournament;
mod weights;

use std::sync::Arc;

use director_flow::Tick;
use director_packet::{Address, Change, Endpoint};

use crate::catalog::effective;
use crate::lock::Lock;
use crate::servers::{Servers, Standing, Watch};
use crate::service::{Engine, Forward, Persistence, SchedulerKind, ServiceKey};
use crate::state::State;
use dirty::{Dirty, Retired};
use hashing::Table;
use least::Least;
use locality::Locality;
use rounds::{RoundRobin, WeightedRoundRobin};
use scale::Scale;

/// A real server of a service, as workers see it.
#[derive(Clone, Copy, Debug)]
pub struct ServerView {
    /// Its slot.
    pub slot: u32,
    /// Its address and port; among a service's servers port 0 where it has none of its own.
    pub address: Endpoint,
    /// The translation from the virtual service to it.
    pub change: Change,
    /// How packets reach it.
    pub forward: Forward,
}

/// What a scheduler may ask of the packet that begins a connection.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    /// The client's address.
    pub source: Address,
    /// The client's port.
    pub source_port: u16,
    /// The address it wants: the VIP.
    pub destination: Address,
    /// When.
    pub now: Tick,
}

/// A virtual service, as workers see it.
#[derive(Debug)]
pub struct ServiceView {
    /// Its key.
    pub key: ServiceKey,
    /// Its servers, newest first, the order in which IPVS walks them, where the scheduler goes by a table or packets are
    /// told by their servers; else none.
    pub servers: Arc<[ServerView]>,
    /// How connections of one client are kept together, if they are.
    pub persistence: Option<Persistence>,
    /// And by what else.
    pub engine: Option<Engine>,
    /// Whether every UDP datagram is scheduled alone.
    pub one_packet: bool,
    /// Whether something stands for clients on a server's own link.
    pub hairpin_snat: bool,
    pub(crate) scheduler: Scheduler,
}

impl ServiceView {
    /// The server that a new connection in this state goes to, counted as its; none if there is none that
    /// may take it.
    #[must_use]
    pub fn schedule(&self, servers: &Servers, request: &Request, state: State) -> Option<ServerView> {
        match &self.scheduler {
            Scheduler::Table(table) => {
                let server = *table.choose(&self.servers, servers, request)?;
                servers.bind(server.slot, state);
                Some(server)
            }
            Scheduler::Turns(turns) => turns.schedule(servers, request, state),
        }
    }

    /// A server that was chosen, as a connection to `vip` sees it.
    #[must_use]
    #[inline]
    pub(crate) fn chosen(&self, servers: &Servers, server: ServerView, vip: Endpoint) -> ServerView {
        if vip == self.key.address && self.key.mark().is_none() {
            return ServerView { address: server.change.to, forward: servers.forward(server.slot), ..server };
        }
        self.towards(servers, server.slot, server.address, vip)
    }

    /// A server as connections to `vip` see it: one of the service's own port, or mark, goes to the server's port,
    /// any other keeps its own. To a persistent service of a mark every port is another.
    #[must_use]
    pub(crate) fn towards(
        &self,
        servers: &Servers,
        slot: u32,
        server: Endpoint,
        vip: Endpoint,
    ) -> ServerView {
        let is_marked = self.key.mark().is_some() && self.persistence.is_none();
        let is_own = vip.port() == self.key.address.port() || is_marked;
        let address = if is_own { effective(server, vip) } else { server.with_port(vip.port()) };
        ServerView { slot, address, change: Change::between(vip, address), forward: servers.forward(slot) }
    }
}

/// How a service chooses.
#[derive(Debug)]
pub(crate) enum Scheduler {
    /// By a table that was made for this list of servers.
    Table(Table),
    /// By what all workers know together.
    Turns(Arc<Turns>),
}

/// How many destination addresses `lblc` and `lblcr` remember for a service of a firewall mark. Any other has one,
/// its own.
const DESTINATIONS_OF_A_MARK: usize = 1024;

const fn destinations(key: ServiceKey) -> usize {
    if key.mark().is_some() { DESTINATIONS_OF_A_MARK } else { 1 }
}

/// The state of a scheduler that has one. It outlasts changes of the list of servers.
#[derive(Debug)]
pub(crate) struct Turns {
    kind: SchedulerKind,
    destinations: usize,
    inner: Lock<Inner>,
}

/// The servers and what the scheduler knows of them. Only the control core changes which they are.
#[derive(Debug)]
pub(crate) struct Inner {
    /// In the order of the list. Some are free before the newest server, so that one more moves no other; so is that of one
    /// that has left.
    places: Box<[Option<ServerView>]>,
    /// The place of the newest server, or of one newer that has left.
    newest: usize,
    marks: Arc<Dirty>,
    policy: Policy,
}

/// How many places so many servers get: with a few that are free, or a service that always loses one and gets another
/// would be listed anew each time.
const fn places(servers: usize) -> usize {
    (servers + servers / 8).next_power_of_two()
}

#[derive(Debug)]
enum Policy {
    RoundRobin(RoundRobin),
    WeightedRoundRobin(WeightedRoundRobin),
    Least(Least),
    Locality(Locality),
}

impl Policy {
    fn new(kind: SchedulerKind, destinations: usize, standings: &[Standing]) -> Self {
        match kind {
            SchedulerKind::RoundRobin => Self::RoundRobin(RoundRobin::new(standings)),
            SchedulerKind::WeightedRoundRobin => {
                let scale = Scale::of(standings.iter().map(|standing| standing.weight));
                Self::WeightedRoundRobin(WeightedRoundRobin::new(standings, scale))
            }
            SchedulerKind::LocalityLeastConnection | SchedulerKind::LocalityReplicated => {
                let replicated = kind == SchedulerKind::LocalityReplicated;
                Self::Locality(Locality::new(replicated, destinations, standings))
            }
            _ => Self::Least(Least::new(kind, standings)),
        }
    }

    fn update(&mut self, place: usize, standing: &Standing) {
        match self {
            Self::RoundRobin(policy) => policy.update(place, standing),
            Self::WeightedRoundRobin(policy) => policy.update(place, standing),
            Self::Least(policy) => policy.update(place, standing),
            Self::Locality(policy) => policy.update(place, standing),
        }
    }

    /// Takes over what does not depend on the list, from one that is not used any more.
    fn adopt(&mut self, old: &mut Self) {
        match (self, old) {
            (Self::RoundRobin(new), Self::RoundRobin(old)) => new.adopt(old),
            (Self::WeightedRoundRobin(new), Self::WeightedRoundRobin(old)) => new.adopt(old),
            (Self::Locality(new), Self::Locality(old)) => new.adopt(old),
            _ => {}
        }
    }
}

impl Inner {
    fn choose(&mut self, servers: &Servers, request: &Request) -> Option<ServerView> {
        let Self { places, marks, policy, .. } = self;
        let at = |place: usize| places.get(place).copied().flatten();
        marks.drain(|place| {
            if let Some(server) = at(place) {
                policy.update(place, &servers.standing(server.slot));
            }
        });
        let slots = |place: usize| at(place).map(|server| server.slot);
        let place = match policy {
            Policy::RoundRobin(policy) => policy.choose(&slots, servers),
            Policy::WeightedRoundRobin(policy) => policy.choose(&slots, servers),
            Policy::Least(policy) => policy.choose(),
            Policy::Locality(policy) => policy.choose(&slots, servers, request.destination, request.now),
        }?;
        at(place)
    }
}

impl Turns {
    /// The state of a scheduler that has one, of a service without servers.
    pub(crate) fn of(kind: SchedulerKind, key: ServiceKey) -> Option<Arc<Self>> {
        match kind {
            SchedulerKind::SourceHash | SchedulerKind::DestinationHash | SchedulerKind::Maglev => None,
            _ => Some(Arc::new(Self::new(kind, destinations(key)))),
        }
    }

    fn new(kind: SchedulerKind, destinations: usize) -> Self {
        let policy = Policy::new(kind, destinations, &[]);
        let inner = Inner { places: Box::default(), newest: 0, marks: Arc::new(Dirty::new(0)), policy };
        Self { kind, destinations, inner: Lock::new(inner) }
    }

    fn schedule(&self, servers: &Servers, request: &Request, state: State) -> Option<ServerView> {
        let mut inner = self.inner.lock();
        let server = inner.choose(servers, request)?;
        servers.bind(server.slot, state);
        Some(server)
    }

    /// Which changes of servers it must hear of.
    fn watch(&self) -> Watch {
        match self.kind {
            SchedulerKind::RoundRobin | SchedulerKind::WeightedRoundRobin | SchedulerKind::Failover => {
                Watch::Usable
            }
            _ => Watch::Connections,
        }
    }

    /// Goes over to another list of servers. What is no longer used goes to `retired`, to be kept until no
    /// worker holds it: none is to free it.
    pub(crate) fn renew(&self, list: &[ServerView], servers: &Servers, retired: &mut Retired) {
        let newest = places(list.len()) - list.len();
        let places: Box<[_]> =
            std::iter::repeat_n(None, newest).chain(list.iter().copied().map(Some)).collect();
        let marks = Arc::new(Dirty::new(places.len()));
        for (server, place) in list.iter().zip(newest as u32..) {
            if let Some(before) = servers.watch(server.slot, place, &marks, self.watch()) {
                retired.push(before);
            }
        }
        // From here on every change leaves a mark in the new list's, so none is missed.
        let standing = |server: &Option<ServerView>| {
            server.map_or(Standing::NONE, |server| servers.standing(server.slot))
        };
        let standings: Vec<_> = places.iter().map(standing).collect();
        let policy = Policy::new(self.kind, self.destinations, &standings);
        let mut new = Inner { places, newest, marks, policy };
        let mut inner = self.inner.lock();
        new.policy.adopt(&mut inner.policy);
        std::mem::swap(&mut *inner, &mut new);
        drop(inner);
        retired.push(new.marks);
    }

    /// A server came, the newest. False: there is no room, and all is to be made anew.
    pub(crate) fn join(&self, server: ServerView, servers: &Servers, retired: &mut Retired) -> bool {
        let inner = self.inner.lock();
        let Some(place) = inner.newest.checked_sub(1) else { return false };
        let marks = inner.marks.clone();
        drop(inner);
        if let Some(before) = servers.watch(server.slot, place as u32, &marks, self.watch()) {
            retired.push(before);
        }
        // From here on every change of it leaves a mark, so none is missed.
        let mut inner = self.inner.lock();
        inner.newest = place;
        inner.places[place] = Some(server);
        inner.policy.update(place, &servers.standing(server.slot));
        true
    }

    /// The place of a server that has left is free.
    pub(crate) fn vacate(&self, slot: u32, servers: &Servers, retired: &mut Retired) {
        let place = servers.place(slot);
        let marks = servers.unwatch(slot);
        let mut inner = self.inner.lock();
        // Those that are in use no worker can be the last to hold.
        if let Some(marks) = marks.filter(|marks| !Arc::ptr_eq(marks, &inner.marks)) {
            retired.push(marks);
        }
        if let Some(at) = inner.places.get_mut(place)
            && at.is_some_and(|server| server.slot == slot)
        {
            *at = None;
            inner.policy.update(place, &Standing::NONE);
        }
    }

    /// A server left the list; `before` is the slot of the one before it.
    pub(crate) fn leave(&self, slot: u32, before: Option<u32>) {
        if let Policy::RoundRobin(policy) = &mut self.inner.lock().policy {
            policy.forget(slot, before);
        }
    }

    /// A server was added, changed or deleted: what the weights have in common now.
    pub(crate) fn rescale(&self, scale: Scale) {
        if self.kind == SchedulerKind::WeightedRoundRobin
            && let Policy::WeightedRoundRobin(policy) = &mut self.inner.lock().policy
        {
            policy.rescale(scale);
        }
    }

    /// A slot becomes another server's.
    pub(crate) fn forget(&self, slot: u32) {
        if let Policy::Locality(policy) = &mut self.inner.lock().policy {
            policy.forget(slot);
        }
    }
}
