//! Checks that need several sections at once.

use std::cmp::Reverse;
use std::net::IpAddr;

use crate::Config;
use crate::address::InterfaceAddress;
use crate::port::Port;
use crate::problem::{Log, Span};
use crate::route::port_of;
use crate::service::{Located, Vip};

/// Checks the services against the ports, neighbours and routes.
pub(crate) fn services(config: &Config, located: &[Located], log: &Log<'_>) {
    for service in located {
        if let Vip::Address { address, .. } = service.service.vip {
            let address = address.get().ip();
            broadcast(config, address, &service.at, "a service", log);
            if owner(&config.ports, address).is_none() {
                log.warning(
                    &service.at,
                    format!("{address} is among the addresses of no port"),
                    "the service waits until one has it: add it to a port's `addresses`, or later to a twin with ip addr add",
                );
            }
        }
        for (server, at) in service.service.servers.iter().zip(&service.servers_at) {
            let address = server.address.get().ip();
            broadcast(config, address, at, "a server", log);
            if let Some(port) = owner(&config.ports, address) {
                log.warning(
                    at,
                    format!("{address} is the director's own address, on the port `{}`", port.name),
                    "no packet for it leaves the director: a server is another host",
                );
            } else {
                reachable(config, address, at, log);
            }
        }
    }
}

/// The port that has this address.
fn owner(ports: &[Port], address: IpAddr) -> Option<&Port> {
    ports.iter().find(|port| port.addresses.iter().any(|own| own.address() == address))
}

fn broadcast(config: &Config, address: IpAddr, at: &Span, noun: &str, log: &Log<'_>) {
    let networks = config.ports.iter().flat_map(|port| port.addresses.iter().map(InterfaceAddress::network));
    if let Some(network) = networks.into_iter().find(|network| network.broadcast() == Some(address)) {
        log.error(
            at,
            format!("{address} is the broadcast address of the network {network}, not {noun}'s"),
            "give the unicast address of one host",
        );
    }
}

/// Without a kernel twin nobody resolves a neighbour or learns a route: the file has to give both.
fn reachable(config: &Config, server: IpAddr, at: &Span, log: &Log<'_>) {
    let (port, hop) = match next_hop(config, server) {
        Some(found) => found,
        // A kernel twin may get a route later.
        None if config.ports.iter().any(|port| port.twin) => return,
        None => {
            log.warning(
                at,
                format!("{server} is in the network of none of the ports, and no [[route]] leads to it"),
                "no port has a kernel twin to learn one from: add a [[route]], or an address to a port",
            );
            return;
        }
    };
    let known = config.neighbors.iter().any(|neighbor| {
        let by = neighbor.port.as_ref().or(port_of(&config.ports, neighbor.address).map(|port| &port.name));
        neighbor.address == hop && by == Some(&port.name)
    });
    if !port.twin && !known {
        log.warning(
            at,
            format!(
                "nobody knows the MAC address of {hop}: the port `{}` has no kernel twin to ask",
                port.name
            ),
            format!("add a [[neighbor]] with address = \"{hop}\" and its mac, or give the port a twin"),
        );
    }
}

/// The port by which packets to this address leave, and the next hop to whose MAC address they are sent.
fn next_hop(config: &Config, address: IpAddr) -> Option<(&Port, IpAddr)> {
    if let Some(port) = port_of(&config.ports, address) {
        return Some((port, address));
    }
    let routes = config.routes.iter().filter(|route| route.destination.contains(address));
    let route = routes.max_by_key(|route| (route.destination.prefix_len(), Reverse(route.metric)))?;
    let hop = route.gateway.unwrap_or(address);
    let port = match &route.port {
        Some(name) => config.port(name.as_str()),
        None => port_of(&config.ports, hop),
    };
    Some((port?, hop))
}
