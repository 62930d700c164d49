//! What workers look services up by, kept up to date one service at a time.

use std::sync::Arc;

use director_packet::{Address, Endpoint, SCTP, TCP, UDP};

use crate::catalog::effective;
use crate::scheduler::{ServerView, ServiceView};
use crate::service::{EndKey, Forward, ServiceKey};
use crate::shards::Shards;

/// Services by what a packet tells of them. A copy costs little: it shares with the original what neither changes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Directory {
    services: Shards<EndKey, Arc<ServiceView>>,
    /// How many services there are of IPv4, and of IPv6.
    families: [u32; 2],
    /// How many services, by address, with port 0, and protocol.
    addresses: Shards<EndKey, u32>,
    /// How many services have all ports.
    any_port: u32,
    /// Whether `servers` is kept.
    lists_servers: bool,
    /// By real server whose packets are translated: how many services have it.
    servers: Shards<EndKey, u32>,
    /// The one-packet services, and those with a persistence engine, by the address of each server whose packets are
    /// translated, with the server's slot there.
    one_packet: Shards<EndKey, Arc<[(Endpoint, u32)]>>,
}

impl Directory {
    /// Whether there is no service of this family at all.
    #[inline]
    pub(crate) fn is_empty(&self, is_v6: bool) -> bool {
        self.families[usize::from(is_v6)] == 0
    }

    /// The service of a key.
    #[inline]
    pub(crate) fn service(&self, key: EndKey) -> Option<&Arc<ServiceView>> {
        self.services.get(&key)
    }

    /// Whether a service has this address, on whatever port.
    pub(crate) fn has_address(&self, address: Address, protocol: u8) -> bool {
        self.addresses.get(&EndKey::new(Endpoint::of(address, 0), protocol)).is_some()
    }

    /// Whether a service has all ports of its address.
    #[inline]
    pub(crate) fn has_any_port(&self) -> bool {
        self.any_port > 0
    }

    /// Whether this is a real server; always false unless [`Self::list_servers`] was asked for.
    pub(crate) fn has_server(&self, server: EndKey) -> bool {
        self.servers.get(&server).is_some()
    }

    /// The one-packet service, or the service with a persistence engine, that a server belongs to, and its slot
    /// there, if there is exactly one.
    pub(crate) fn one_packet(&self, server: EndKey) -> Option<(Endpoint, u32)> {
        match **self.one_packet.get(&server)? {
            [only] => Some(only),
            _ => None,
        }
    }

    /// Whether a list of all real servers is kept.
    pub(crate) fn lists_servers(&self) -> bool {
        self.lists_servers
    }

    /// Keeps a list of all real servers from now on, of those whose services' views have them; or no longer. False: it was so.
    pub(crate) fn list_servers(&mut self, wanted: bool) -> bool {
        if self.lists_servers == wanted {
            return false;
        }
        self.lists_servers = wanted;
        self.servers = Shards::default();
        if wanted {
            let services: Vec<_> = self.services.values().cloned().collect();
            services.iter().for_each(|view| self.count_servers(view, &view.servers, Shards::count));
        }
        true
    }

    /// Adds a service, in place of the one with its key if there is one.
    pub(crate) fn insert(&mut self, view: Arc<ServiceView>) {
        let key = view.key.into();
        let before = self.service(key).cloned();
        if before.is_none() {
            self.enter(&view, true);
        }
        self.change_servers(before.as_deref(), Some(&view));
        self.services.insert(key, view);
    }

    /// Takes a service out.
    pub(crate) fn remove(&mut self, key: ServiceKey) {
        if let Some(view) = self.services.remove(key.into()) {
            self.enter(&view, false);
            self.change_servers(Some(&view), None);
        }
    }

    /// Takes all services out.
    pub(crate) fn clear(&mut self) {
        *self = Self { lists_servers: self.lists_servers, ..Self::default() };
    }

    /// Counts a service, without its servers.
    fn enter(&mut self, view: &ServiceView, comes: bool) {
        let family = &mut self.families[usize::from(view.key.address.is_v6())];
        *family = if comes { *family + 1 } else { *family - 1 };
        if view.key.mark().is_some() {
            return;
        }
        let address = EndKey::new(view.key.address.with_port(0), view.key.protocol.number());
        let every_port = u32::from(view.key.address.port() == 0);
        if comes {
            self.addresses.count(address);
            self.any_port += every_port;
        } else {
            self.addresses.discount(address);
            self.any_port -= every_port;
        }
    }

    /// Looks only at the servers that `before` and `after` do not have in common.
    fn change_servers(&mut self, before: Option<&ServiceView>, after: Option<&ServiceView>) {
        if self.lists_servers {
            let (gone, new) = difference(servers(before), servers(after));
            for (view, list, count) in [
                (before, gone, Shards::discount as fn(&mut Shards<EndKey, u32>, EndKey)),
                (after, new, Shards::count),
            ] {
                if let Some(view) = view {
                    self.count_servers(view, list, count);
                }
            }
        }
        let (gone, new) = difference(one_packet_servers(before), one_packet_servers(after));
        for (view, list, comes) in [(before, gone, false), (after, new, true)] {
            let Some(view) = view else { continue };
            for server in list.iter().filter(|server| server.forward == Forward::Masquerading) {
                self.enter_one_packet(server, view.key.address, comes);
            }
        }
    }

    fn count_servers(
        &mut self,
        view: &ServiceView,
        list: &[ServerView],
        count: impl Fn(&mut Shards<EndKey, u32>, EndKey),
    ) {
        for server in list.iter().filter(|server| server.forward == Forward::Masquerading) {
            // The service of a firewall mark takes packets of any protocol.
            let every = [TCP, UDP, SCTP];
            let own = [view.key.protocol.number()];
            let protocols = if view.key.mark().is_some() { &every[..] } else { &own };
            protocols
                .iter()
                .for_each(|&protocol| count(&mut self.servers, EndKey::new(server.address, protocol)));
        }
    }

    fn enter_one_packet(&mut self, server: &ServerView, service: Endpoint, comes: bool) {
        let this = (service, server.slot);
        self.one_packet.update(EndKey::new(effective(server.address, service), UDP), |list| {
            let others = list.iter().flat_map(|list| list.iter().copied()).filter(|&entry| entry != this);
            let list: Arc<[_]> = others.chain(comes.then_some(this)).collect();
            (!list.is_empty()).then_some(list)
        });
    }

    /// How many entries this one has that `other` does not share with it.
    #[cfg(test)]
    pub(crate) fn own_entries(&self, other: &Self) -> usize {
        self.services.own(&other.services).0
            + self.addresses.own(&other.addresses).0
            + self.servers.own(&other.servers).0
            + self.one_packet.own(&other.one_packet).0
    }
}

fn servers(view: Option<&ServiceView>) -> &[ServerView] {
    view.map_or(&[], |view| &view.servers)
}

/// The servers whose datagrams, where they have no entry, are recognised by address and port alone: replies of
/// one-packet services, and datagrams that belong to a call of a persistence engine.
fn one_packet_servers(view: Option<&ServiceView>) -> &[ServerView] {
    let is = |view: &ServiceView| {
        let is_asked = view.one_packet || view.engine.is_some();
        is_asked && view.key.protocol.number() == UDP && view.key.address.port() != 0
    };
    servers(view.filter(|view| is(view)))
}

/// Two lists without their common beginning and end.
fn difference<'a>(
    mut before: &'a [ServerView],
    mut after: &'a [ServerView],
) -> (&'a [ServerView], &'a [ServerView]) {
    let same = |one: &ServerView, other: &ServerView| {
        (one.slot, one.address, one.forward) == (other.slot, other.address, other.forward)
    };
    while let ([one, before_rest @ ..], [other, after_rest @ ..]) = (before, after)
        && same(one, other)
    {
        (before, after) = (before_rest, after_rest);
    }
    while let ([before_rest @ .., one], [after_rest @ .., other]) = (before, after)
        && same(one, other)
    {
        (before, after) = (before_rest, after_rest);
    }
    (before, after)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::catalog::Catalog;
    use crate::servers::Servers;
    use crate::service::{Engine, Protocol, SchedulerKind, ServerSpec, ServiceSpec};

    const RR: ServiceSpec = ServiceSpec::new(SchedulerKind::RoundRobin);

    /// Few keys, so that they meet: two addresses, ports 0 to 2, UDP or TCP, and a mark.
    fn key(byte: u8) -> ServiceKey {
        match byte % 13 {
            12 => ServiceKey::of_mark(std::num::NonZeroU32::MIN),
            byte => ServiceKey {
                protocol: if byte < 6 { Protocol::Udp } else { Protocol::Tcp },
                address: Endpoint::v4((byte / 3 % 2 + 1).into(), (byte % 3).into()),
            },
        }
    }

    fn server(byte: u8) -> Endpoint {
        Endpoint::v4(100 + u32::from(byte % 3), (byte / 3 % 3).into())
    }

    fn masqueraded(view: &ServiceView) -> impl Iterator<Item = &ServerView> {
        view.servers.iter().filter(|server| server.forward == Forward::Masquerading)
    }

    /// Works out from all services at once what the directory keeps up to date step by step.
    fn check(directory: &Directory, catalog: &Catalog, lists_servers: bool) {
        let views: Vec<_> = catalog.services().map(|service| service.view().clone()).collect();
        let addressed = || views.iter().filter(|view| view.key.mark().is_none());
        let mut one_packet: HashMap<_, Vec<_>> = HashMap::new();
        let asks = |view: &&Arc<ServiceView>| view.one_packet || view.engine.is_some();
        for view in addressed().filter(asks).filter(|view| view.key.address.port() != 0) {
            for server in masqueraded(view).filter(|_| view.key.protocol == Protocol::Udp) {
                let end = effective(server.address, view.key.address);
                one_packet.entry(end).or_default().push((view.key.address, server.slot));
            }
        }
        for is_v6 in [false, true] {
            let none = views.iter().all(|view| view.key.address.is_v6() != is_v6);
            assert_eq!(directory.is_empty(is_v6), none);
        }
        assert_eq!(directory.has_any_port(), addressed().any(|view| view.key.address.port() == 0));
        assert!(views.iter().all(|view| Arc::ptr_eq(directory.service(view.key.into()).unwrap(), view)));
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            for address in 1..=2 {
                let of = |view: &&Arc<ServiceView>| {
                    (view.key.address.address(), view.key.protocol) == (Address::V4(address), protocol)
                };
                assert_eq!(
                    directory.has_address(Address::V4(address), protocol.number()),
                    addressed().any(|view| of(&view))
                );
            }
            for address in (0..9).map(server).chain((0..27).map(|byte| Endpoint::v4(100 + byte / 9, 0))) {
                let has = |view: &Arc<ServiceView>| {
                    let of = view.key.mark().is_some() || view.key.protocol == protocol;
                    of && masqueraded(view).any(|server| server.address == address)
                };
                let listed = directory.has_server(EndKey::new(address, protocol.number()));
                assert_eq!(listed, lists_servers && views.iter().any(has));
                let only = match one_packet.get(&address).map_or(&[][..], |list| list) {
                    [only] if protocol == Protocol::Udp => Some(*only),
                    _ => None,
                };
                if protocol == Protocol::Udp {
                    assert_eq!(directory.one_packet(EndKey::new(address, protocol.number())), only);
                }
            }
        }
    }

    #[test]
    fn it_knows_what_the_services_say() {
        bolero::check!().with_type::<Vec<(u8, u8, u8, bool)>>().for_each(|changes| {
            let mut catalog = Catalog::new(Arc::new(Servers::new(1)));
            let mut lists_servers = false;
            for &(what, of, to, tells) in changes {
                let (of, to) = (key(of), server(to));
                let forward = if what >= 192 { Forward::DirectRouting } else { Forward::Masquerading };
                let server_spec = ServerSpec { forward, ..ServerSpec::default() };
                let is_udp = of.protocol == Protocol::Udp;
                let engine = (what % 16 >= 8).then_some(Engine::Sip);
                let spec = ServiceSpec { one_packet: what >= 128 && is_udp, engine, ..RR };
                // What is refused changes nothing.
                let _ = match what % 8 {
                    0 | 1 => catalog.add_service(of, spec),
                    2 | 3 => catalog.add_server(of, to, server_spec),
                    4 => catalog.set_server(of, to, server_spec),
                    5 => catalog.delete_server(of, to).map(drop),
                    6 if what >= 128 => catalog.set_service(of, spec),
                    6 => catalog.delete_service(of),
                    _ => {
                        lists_servers ^= true;
                        catalog.list_servers(lists_servers);
                        if what == 255 {
                            catalog.flush();
                        }
                        Ok(())
                    }
                };
                // Several changes at once, too.
                if tells {
                    let directory = catalog.renew().clone();
                    check(&directory, &catalog, lists_servers);
                }
            }
        });
    }
}
