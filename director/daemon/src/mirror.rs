//! The kernel's network, mirrored: links, addresses, routes and neighbours of the twins, by rtnetlink.
//!
//! Links, addresses and routes are all read again shortly after any of them has changed. That is simple, and it is
//! right even after the kernel has lost messages. Neighbours are followed one by one.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::next_hops::NextHops;
use anyhow::{Context, Result};
use director_config::{Config, InterfaceAddress};
use director_engine::fib::{Fib, Prefix, Route};
use director_packet::{Address, Mac};
use futures_util::TryStreamExt;
use netlink_packet_route::address::AddressAttribute;
use netlink_packet_route::link::{LinkAttribute, LinkFlags};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteType, RouteVia,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::{Handle, LinkUnspec, RouteMessageBuilder};

/// The number of the routing table of local addresses (`RT_TABLE_LOCAL`).
const LOCAL_TABLE: u32 = 255;

/// An interface as the kernel shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Interface {
    pub(crate) name: String,
    pub(crate) up: bool,
    /// Whether its link carries frames.
    pub(crate) carrier: bool,
    pub(crate) mtu: u32,
    pub(crate) mac: Option<Mac>,
}

/// What one reading of the kernel found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) interfaces: HashMap<u32, Interface>,
    /// Interface, address, prefix length.
    pub(crate) addresses: Vec<(u32, IpAddr, u8)>,
}

impl Seen {
    /// The interface with a name, and its number.
    pub(crate) fn interface(&self, name: &str) -> Option<(u32, &Interface)> {
        let found = self.interfaces.iter().find(|(_, interface)| interface.name == name);
        found.map(|(number, interface)| (*number, interface))
    }
}

/// A route of the kernel's. Its interface has not been matched with a port yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KernelRoute {
    Link { interface: u32 },
    Gateway { interface: u32, gateway: Address },
    Local,
    Elsewhere,
}

/// News about a neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Neighbour {
    pub(crate) interface: u32,
    pub(crate) address: IpAddr,
    pub(crate) mac: Option<Mac>,
    /// It was asked and did not answer.
    pub(crate) failed: bool,
    /// Its address has not been confirmed for a while.
    pub(crate) stale: bool,
}

/// Reads links and addresses.
pub(crate) async fn read_interfaces(handle: &Handle) -> Result<Seen> {
    let mut seen = Seen::default();
    let mut links = handle.link().get().execute();
    while let Some(link) = links.try_next().await.context("reading the kernel's links")? {
        let flags = link.header.flags;
        let (up, carrier) = (flags.contains(LinkFlags::Up), flags.contains(LinkFlags::LowerUp));
        let mut interface = Interface { name: String::new(), up, carrier, mtu: 0, mac: None };
        for attribute in link.attributes {
            match attribute {
                LinkAttribute::IfName(name) => interface.name = name,
                LinkAttribute::Mtu(mtu) => interface.mtu = mtu,
                LinkAttribute::Address(bytes) => interface.mac = bytes.first_chunk().map(|mac| Mac(*mac)),
                _ => {}
            }
        }
        seen.interfaces.insert(link.header.index, interface);
    }
    let mut addresses = handle.address().get().execute();
    while let Some(address) = addresses.try_next().await.context("reading the kernel's addresses")? {
        // In IPv6 there is a local address only on links with two ends, and then it is the one wanted.
        let of = |kind: fn(&AddressAttribute) -> Option<IpAddr>| address.attributes.iter().find_map(kind);
        let local = of(|attribute| match attribute {
            AddressAttribute::Local(own) => Some(*own),
            _ => None,
        });
        let own = local.or_else(|| {
            of(|attribute| match attribute {
                AddressAttribute::Address(own @ IpAddr::V6(_)) => Some(*own),
                _ => None,
            })
        });
        if let Some(own) = own {
            seen.addresses.push((address.header.index, own, address.header.prefix_len));
        }
    }
    Ok(seen)
}

/// Reads the routes.
pub(crate) async fn read_routes(handle: &Handle) -> Result<Vec<(Prefix, KernelRoute)>> {
    let mut best: HashMap<Prefix, (u32, KernelRoute)> = HashMap::new();
    for family in
        [RouteMessageBuilder::<Ipv4Addr>::new().build(), RouteMessageBuilder::<Ipv6Addr>::new().build()]
    {
        let mut routes = handle.route().get(family).execute();
        while let Some(route) = routes.try_next().await.context("reading the kernel's routes")? {
            if let Some((prefix, metric, route)) = understand(&route) {
                let place = best.entry(prefix).or_insert((metric, route));
                // Of several routes to one prefix, the one with the lowest metric counts; a local one always does.
                if route == KernelRoute::Local || (place.1 != KernelRoute::Local && metric < place.0) {
                    *place = (metric, route);
                }
            }
        }
    }
    Ok(best.into_iter().map(|(prefix, (_, route))| (prefix, route)).collect())
}

/// An address of a route.
fn address(address: &RouteAddress) -> Option<Address> {
    match address {
        RouteAddress::Inet(address) => Some((*address).into()),
        RouteAddress::Inet6(address) => Some((*address).into()),
        _ => None,
    }
}

/// The gateway in an attribute of a route.
enum Gateway {
    None,
    /// Of either family: `RTA_VIA` can name a gateway of the other one.
    To(Address),
    /// Of another kind, such as MPLS.
    Other,
}

impl Gateway {
    fn of(attribute: &RouteAttribute) -> Self {
        match attribute {
            RouteAttribute::Gateway(given) => address(given).map_or(Self::Other, Self::To),
            RouteAttribute::Via(RouteVia::Inet(given)) => Self::To((*given).into()),
            RouteAttribute::Via(RouteVia::Inet6(given)) => Self::To((*given).into()),
            RouteAttribute::Via(_) => Self::Other,
            _ => Self::None,
        }
    }
}

/// Prefix, metric and meaning of a route of the main or the local table.
fn understand(route: &RouteMessage) -> Option<(Prefix, u32, KernelRoute)> {
    let header = &route.header;
    // What the kernel has noted about a single destination, such as the MTU of its path, is not a route.
    if header.flags.contains(RouteFlags::Cloned) {
        return None;
    }
    let mut table = u32::from(header.table);
    let mut destination = match header.address_family {
        AddressFamily::Inet => Address::V4(0),
        AddressFamily::Inet6 => Address::V6(0),
        _ => return None,
    };
    let (mut metric, mut gateway, mut interface) = (0, Gateway::None, None);
    for attribute in &route.attributes {
        match attribute {
            RouteAttribute::Table(number) => table = *number,
            RouteAttribute::Destination(given) => destination = address(given)?,
            RouteAttribute::Priority(number) => metric = *number,
            RouteAttribute::Gateway(_) | RouteAttribute::Via(_) => gateway = Gateway::of(attribute),
            RouteAttribute::Oif(number) => interface = Some(*number),
            // The first of several next hops is taken.
            RouteAttribute::MultiPath(hops) => {
                if let Some(hop) = hops.first() {
                    interface = Some(hop.interface_index);
                    let all = hop.attributes.iter().map(Gateway::of);
                    gateway = all.fold(Gateway::None, |found, other| match other {
                        Gateway::None => found,
                        other => other,
                    });
                }
            }
            _ => {}
        }
    }
    let local_table = table == LOCAL_TABLE;
    if !(local_table || table == u32::from(RouteHeader::RT_TABLE_MAIN)) {
        return None;
    }
    let meaning = match (header.kind, interface, gateway) {
        (RouteType::Local | RouteType::Anycast, _, _) => KernelRoute::Local,
        (RouteType::Unicast, Some(interface), Gateway::To(gateway)) => {
            KernelRoute::Gateway { interface, gateway }
        }
        (RouteType::Unicast, Some(interface), Gateway::None) => KernelRoute::Link { interface },
        _ => KernelRoute::Elsewhere,
    };
    Some(((destination, header.destination_prefix_length), metric, meaning))
}

/// The routing table for the workers. `port_of` returns the port whose twin an interface is.
pub(crate) fn fib(routes: &[(Prefix, KernelRoute)], port_of: impl Fn(u32) -> Option<u8>) -> Fib {
    let mut fib = Fib::default();
    for (prefix, route) in routes {
        let route = match *route {
            KernelRoute::Link { interface } => {
                port_of(interface).map_or(Route::Elsewhere, |port| Route::Link { port })
            }
            KernelRoute::Gateway { interface, gateway } => {
                port_of(interface).map_or(Route::Elsewhere, |port| Route::Gateway { port, gateway })
            }
            KernelRoute::Local => Route::Local,
            KernelRoute::Elsewhere => Route::Elsewhere,
        };
        fib.insert(*prefix, route);
    }
    fib
}

/// What a message says about a neighbour. `gone` means that it was deleted.
pub(crate) fn neighbour(message: &NeighbourMessage, gone: bool) -> Option<Neighbour> {
    let mut address = None;
    let mut mac = None;
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(own)) => {
                address = Some(IpAddr::V4(*own));
            }
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(own)) => {
                address = Some(IpAddr::V6(*own));
            }
            NeighbourAttribute::LinkLayerAddress(bytes) => mac = bytes.first_chunk().map(|mac| Mac(*mac)),
            _ => {}
        }
    }
    let state = message.header.state;
    let known = !gone
        && matches!(
            state,
            NeighbourState::Reachable
                | NeighbourState::Stale
                | NeighbourState::Delay
                | NeighbourState::Probe
                | NeighbourState::Permanent
        );
    Some(Neighbour {
        interface: message.header.ifindex,
        address: address?,
        mac: mac.filter(|_| known),
        failed: !gone && state == NeighbourState::Failed,
        stale: !gone && state == NeighbourState::Stale,
    })
}

/// Reads all neighbours.
pub(crate) async fn read_neighbours(handle: &Handle) -> Result<Vec<Neighbour>> {
    let mut found = Vec::new();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let mut neighbours = handle.neighbours().get().set_address_family(family).execute();
        while let Some(message) = neighbours.try_next().await.context("reading the kernel's neighbours")? {
            found.extend(neighbour(&message, false));
        }
    }
    Ok(found)
}

/// Makes the kernel look up a neighbour's MAC address, or confirm it.
pub(crate) async fn ask(handle: &Handle, interface: u32, address: IpAddr) {
    let request = handle
        .neighbours()
        .add(interface, address)
        .state(NeighbourState::None)
        .flags(NeighbourFlags::Use)
        .replace();
    if let Err(error) = request.execute().await {
        tracing::debug!("asking the kernel for neighbour {address}: {error}");
    }
}

/// Whether a message says that links, addresses or routes changed.
pub(crate) fn is_change(message: &RouteNetlinkMessage) -> bool {
    use RouteNetlinkMessage as Message;
    matches!(
        message,
        Message::NewLink(_)
            | Message::DelLink(_)
            | Message::NewAddress(_)
            | Message::DelAddress(_)
            | Message::NewRoute(_)
            | Message::DelRoute(_)
    )
}

/// Sets on the twins what the configuration says: addresses, MTU, state, routes, neighbours.
pub(crate) async fn set_up(
    handle: &Handle,
    config: &Config,
    interface_of: &HashMap<String, u32>,
) -> Result<()> {
    for port in config.ports.iter().filter(|port| port.twin) {
        let name = port.name.as_str();
        let index = *interface_of.get(name).with_context(|| format!("kernel twin \"{name}\" is missing"))?;
        // If the first of several addresses is deleted, as by a reload, the others stay, and the routes with them.
        let promote = format!("/proc/sys/net/ipv4/conf/{name}/promote_secondaries");
        std::fs::write(&promote, "1").with_context(|| format!("writing 1 to {promote}"))?;
        for address in &port.addresses {
            set_address(handle, index, address)
                .await
                .with_context(|| format!("setting address {} on \"{name}\"", address.address()))?;
        }
        let mut change = LinkUnspec::new_with_index(index).up();
        if let Some(mtu) = port.mtu {
            change = change.mtu(u32::from(mtu.get()));
        }
        handle
            .link()
            .set(change.build())
            .execute()
            .await
            .with_context(|| format!("bringing kernel twin \"{name}\" up"))?;
    }
    // At the start there is nothing that was the same before, so none of it is missing.
    NextHops::new(None, config, interface_of).add(handle).await.map(drop)
}

/// Sets an address on an interface, whether or not it is there already.
pub(crate) async fn set_address(handle: &Handle, interface: u32, address: &InterfaceAddress) -> Result<()> {
    let message = handle.address().add(interface, address.address(), address.prefix_len());
    Ok(message.replace().execute().await?)
}

/// Takes an address from an interface.
pub(crate) async fn delete_address(
    handle: &Handle,
    interface: u32,
    address: &InterfaceAddress,
) -> Result<()> {
    let message =
        handle.address().add(interface, address.address(), address.prefix_len()).message_mut().clone();
    Ok(handle.address().del(message).execute().await?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use netlink_packet_route::route::RouteNextHop;

    const ROUTER: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);

    fn meaning(attributes: &[RouteAttribute]) -> KernelRoute {
        let builder = RouteMessageBuilder::<Ipv4Addr>::new();
        let mut route = builder.destination_prefix(Ipv4Addr::new(10, 0, 0, 0), 8).build();
        route.attributes.extend_from_slice(attributes);
        let (prefix, _, meaning) = understand(&route).unwrap();
        assert_eq!(prefix, (Address::V4(10 << 24), 8));
        meaning
    }

    fn hop(attributes: Vec<RouteAttribute>) -> RouteNextHop {
        let mut hop = RouteNextHop::default();
        (hop.interface_index, hop.attributes) = (7, attributes);
        hop
    }

    #[test]
    fn next_hops_of_any_family() {
        let via = || RouteAttribute::Via(RouteVia::Inet6(ROUTER));
        let own = || RouteAttribute::Gateway(RouteAddress::Inet(Ipv4Addr::new(192, 168, 2, 1)));
        let other = || RouteAttribute::Via(RouteVia::Packet(vec![1, 2]));
        let to = |gateway: Address| KernelRoute::Gateway { interface: 7, gateway };
        let expected = [
            (vec![], KernelRoute::Link { interface: 7 }),
            (vec![own()], to(Address::V4(0xc0a8_0201))),
            (vec![via()], to(ROUTER.into())),
            (vec![other()], KernelRoute::Elsewhere),
        ];
        for (attributes, expected) in expected {
            assert_eq!(meaning(&[&attributes[..], &[RouteAttribute::Oif(7)]].concat()), expected);
            let first = hop(attributes);
            assert_eq!(meaning(&[RouteAttribute::MultiPath(vec![first, hop(vec![])])]), expected);
        }
    }
}
