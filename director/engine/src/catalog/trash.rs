//! Deleted servers: their slots stay until no connection refers to them any more, and two minutes longer where their
//! counters can go on.

use std::ops::Bound;

use director_flow::{TICKS_PER_SECOND, Tick};
use director_packet::Endpoint;

use super::{Catalog, Meter, Server, Service};
use crate::servers::MAX_SERVERS;
use crate::service::ServiceKey;

/// How long a deleted server without connections is remembered: added again, it goes on counting. The kernel looks once a
/// minute, and so takes up to a minute more.
const REMEMBERED: u32 = 120 * TICKS_PER_SECOND;

/// So many are, and only while as many more servers can be added: no deleted ones are to be in the way of new ones.
const MOST_REMEMBERED: usize = MAX_SERVERS / 8;

/// A deleted server that is remembered. The service that counts it is the one of its key, while
/// that one is the same.
#[derive(Debug)]
pub(super) struct Trash {
    pub(super) slot: u32,
    pub(super) meter: Meter,
    /// Whether its service was deleted as well. Then its counters begin at 0 with the next service of that key.
    pub(super) is_orphan: bool,
    /// Whether workers have been given a configuration without the server.
    published: bool,
    /// Since when it has been idle whenever [`Catalog::collect`] looked. It is freed when it is so again, a grace period
    /// later or more: then no worker is about to bind a connection to it, or to count a change of one.
    idle: Option<Tick>,
}

impl Catalog {
    /// Deletes every service.
    pub fn flush(&mut self) {
        self.vacate();
        self.flush_vacated();
    }

    /// The first half of [`Self::flush`]: workers are told that there are no services.
    pub(crate) fn vacate(&mut self) {
        self.stale.clear();
        self.directory.clear();
    }

    /// The second half: of the services only what connections refer to is left. What takes long with many of them is
    /// left to [`Self::collect`].
    pub(crate) fn flush_vacated(&mut self) {
        for service in self.services.values() {
            service.servers.iter().for_each(|server| self.slots.set_gone(server.slot));
        }
        self.flushed.append(&mut self.services);
        self.flush_is_published = false;
    }

    /// Moves the servers of a flushed service to the trash.
    pub(super) fn discard_flushed(&mut self, key: ServiceKey, service: Service) {
        for server in service.servers.into_servers() {
            self.throw_away((key, server.address), &server, self.flush_is_published);
        }
    }

    pub(super) fn discard(&mut self, key: ServiceKey, server: &Server) {
        self.slots.set_gone(server.slot);
        self.throw_away((key, server.address), server, false);
    }

    fn throw_away(&mut self, place: (ServiceKey, Endpoint), server: &Server, published: bool) {
        let &Server { slot, meter, .. } = server;
        self.trash.insert(place, Trash { slot, meter, is_orphan: false, published, idle: None });
        if published {
            self.slots.unwatch(slot).into_iter().for_each(|marks| self.retired.push(marks));
        } else {
            self.discarded.push(place);
        }
    }

    /// Notes that the workers have been given the services as they are now.
    pub(crate) fn published(&mut self) {
        self.flush_is_published = true;
        for key in self.discarded.drain(..) {
            if let Some(trash) = self.trash.get_mut(&key) {
                trash.published = true;
                if let Some(marks) = self.slots.unwatch(trash.slot) {
                    self.retired.push(marks);
                }
            }
        }
    }

    /// Frees the slots of deleted servers that no connection refers to and that need not be remembered, of `most` at a
    /// time. To be called now and then, with a grace period of the workers between two calls.
    pub fn collect(&mut self, now: Tick, most: usize) {
        let mut left = most;
        while left > 0 {
            let Some((key, service)) = self.flushed.pop_first() else { break };
            left = left.saturating_sub(1 + service.servers.len());
            self.discard_flushed(key, service);
        }
        let most = left;
        let from = self.collected.map_or(Bound::Unbounded, Bound::Excluded);
        let due: Vec<_> =
            self.trash.range((from, Bound::Unbounded)).map(|(key, _)| *key).take(most).collect();
        // A pass that has reached the end starts again with the next call.
        self.collected = due.last().copied().filter(|_| due.len() == most);
        for key in due {
            let Some(trash) = self.trash.get_mut(&key) else { continue };
            if !(trash.published && self.slots.is_idle(trash.slot)) {
                trash.idle = None;
                continue;
            }
            let Some(since) = trash.idle else {
                trash.idle = Some(now);
                continue;
            };
            let slot = trash.slot;
            let goes_on = !trash.is_orphan && self.services.contains_key(&key.0);
            let is_recent = now.since(since) < REMEMBERED;
            let has_room = self.trash.len() <= MOST_REMEMBERED && self.room() >= MOST_REMEMBERED;
            if goes_on && is_recent && has_room {
                continue;
            }
            self.trash.remove(&key);
            if let Some(service) = self.services.get_mut(&key.0) {
                service.moved = service.moved.plus(self.slots.traffic(slot));
                if let Some(turns) = &service.turns {
                    turns.forget(slot);
                }
            }
            self.slots.leave(key.1.address());
            self.free.push(slot);
        }
    }

    /// Whether slots of deleted servers are still kept.
    #[must_use]
    pub fn has_trash(&self) -> bool {
        !self.trash.is_empty() || !self.flushed.is_empty()
    }

    /// The slots of the deleted servers of a service.
    pub(super) fn trash_of(&self, key: ServiceKey) -> impl Iterator<Item = u32> {
        self.trash.range((key, Endpoint::MIN)..=(key, Endpoint::MAX)).map(|(_, trash)| trash.slot)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::servers::Servers;
    use crate::service::{Protocol, SchedulerKind, ServerSpec, ServiceSpec};
    use crate::state::State;

    const SERVICES: u16 = 300;
    const SERVERS: u16 = 10;

    fn key(number: u16) -> ServiceKey {
        ServiceKey { protocol: Protocol::Tcp, address: Endpoint::v4(1, number) }
    }

    fn add(catalog: &mut Catalog, services: u16) {
        for number in 0..services {
            catalog.add_service(key(number), ServiceSpec::new(SchedulerKind::RoundRobin)).unwrap();
            for server in 0..SERVERS {
                catalog.add_server(key(number), Endpoint::v4(2, server), ServerSpec::default()).unwrap();
            }
        }
        catalog.renew();
        catalog.published();
    }

    #[test]
    fn a_flush_of_many_is_done_in_steps() {
        let slots = Arc::new(Servers::new(1));
        let mut catalog = Catalog::new(slots.clone());
        add(&mut catalog, SERVICES);
        let used = catalog.next;
        // A connection is left of the first server.
        let first = catalog.services[&key(0)].slots().next().unwrap();
        slots.bind(first, State::Established);
        catalog.flush();
        assert!((0..used).all(|slot| slots.is_gone(slot)));
        let directory = catalog.renew();
        assert!(directory.is_empty(false) && directory.is_empty(true));
        assert!(catalog.services().next().is_none());
        catalog.published();
        // Some come again at once and find what is left of them, whether it has come to the trash yet or not.
        catalog.collect(Tick(0), 100);
        add(&mut catalog, 50);
        assert_eq!(catalog.next, used, "their old slots");
        assert_eq!(catalog.services[&key(0)].slots().next(), Some(first));
        // Nothing is forgotten in a second flush, and all is given back but the slot with a connection.
        catalog.flush();
        catalog.renew();
        catalog.published();
        let mut steps = 0;
        while catalog.trash.len() + catalog.flushed.len() > 1 {
            catalog.collect(Tick(0), 100);
            steps += 1;
        }
        assert!((60..200).contains(&steps), "{steps} steps");
        assert_eq!(catalog.free.len(), used as usize - 1);
        slots.unbind(first, State::Established);
        // The pass that is under way, and two more.
        (0..3).for_each(|_| catalog.collect(Tick(0), 100));
        assert!(!catalog.has_trash());
        catalog.flush();
        assert!(!catalog.has_trash());
    }
}
