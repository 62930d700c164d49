//! The network as workers see it: from the kernel where a port has a twin, otherwise from the configuration.

use std::collections::HashMap;
use std::sync::Arc;

use anyhow::{Context, Result};
use director_config::{Config, Neighbor};
use director_engine::control::Network;
use director_engine::fib::{Fib, Hop, Prefix, Route};
use director_engine::limiter::IcmpLimits;
use director_engine::snapshot::PortView;
use director_engine::sources::Source;
use director_packet::{Address, Mac};

use crate::beside::beside;
use crate::director::{Director, State};
use crate::mirror::{self, Seen};
use crate::next_hops;
use crate::ports::PortRuntime;

impl Director {
    /// Reads the kernel's network and tells the workers.
    pub(crate) async fn read_network(&self) -> Result<()> {
        let twins: Vec<_> = self.twins().map(|(port, name)| (port, name.to_owned())).collect();
        let (own, before) = (self.static_routes(), self.state.borrow().control.network().fib.clone());
        // With a full table of the Internet's routes this takes a second, so another thread does it while the control
        // core goes on.
        let read = beside(move || read(&twins, own, before)).await;
        let (seen, fib) = read.context("the thread that reads the kernel's network")??;
        self.follow_twins(&seen);
        let network = self.network(&seen, fib);
        let mut state = self.state.borrow_mut();
        state.problems = self.interface_problems(&seen);
        state.seen = seen;
        state.control.set_network(network);
        Ok(())
    }

    /// The names of the twins, by port.
    pub(crate) fn twins(&self) -> impl Iterator<Item = (u8, &str)> {
        // A configuration has few ports.
        let numbered = self.ports.iter().enumerate().map(|(at, port)| (at as u8, port));
        numbered
            .filter(|(_, port)| port.configuration.twin)
            .map(|(at, port)| (at, port.configuration.name.as_str()))
    }

    fn static_ports(&self) -> impl Iterator<Item = (u8, &PortRuntime)> {
        // A configuration has few ports.
        let numbered = self.ports.iter().enumerate().map(|(at, port)| (at as u8, port));
        numbered.filter(|(_, port)| !port.configuration.twin)
    }

    fn static_port(&self, name: &str) -> Option<u8> {
        self.static_ports().find(|(_, port)| port.configuration.name.as_str() == name).map(|(at, _)| at)
    }

    /// The routes of ports without a twin. Of two to the same prefix, the later one counts.
    fn static_routes(&self) -> Vec<(Prefix, Route)> {
        let mut all = Vec::new();
        for (port, runtime) in self.static_ports() {
            let link = |(address, length)| ((masked(address, length), length), Route::Link { port });
            all.extend(static_addresses(runtime).map(link));
        }
        // Of several routes to one prefix the one with the lowest metric counts, so it is set last.
        let config = self.config.borrow().clone();
        let mut routes: Vec<_> = config.routes.iter().collect();
        routes.sort_by_key(|route| route.metric.unwrap_or(0));
        for (_, runtime) in self.static_ports() {
            all.extend(
                static_addresses(runtime).map(|(address, _)| ((address, bits(address)), Route::Local)),
            );
        }
        for route in routes.iter().rev() {
            let port = next_hops::route_port(&config, route).and_then(|name| self.static_port(name));
            let Some(port) = port else { continue };
            let prefix = (route.destination.address().into(), route.destination.prefix_len());
            let way = match route.gateway {
                Some(gateway) => Route::Gateway { port, gateway: gateway.into() },
                None => Route::Link { port },
            };
            all.push((prefix, way));
        }
        all
    }

    /// The network for the workers.
    fn network(&self, seen: &Seen, fib: Arc<Fib>) -> Network {
        let on = |index: u32| {
            let on_it = seen.addresses.iter().filter(move |(on, _, _)| *on == index);
            on_it.map(|(_, address, _)| Address::from(*address))
        };
        let view = |port: &PortRuntime| {
            let name = port.configuration.name.as_str();
            let (can_send, own_mtu) = self.device(port, seen);
            match seen.interface(name).filter(|_| port.configuration.twin) {
                Some((index, interface)) => PortView {
                    mac: port.mac.get(),
                    // The device cannot send with an MTU that it refused.
                    mtu: u16::try_from(interface.mtu).unwrap_or(u16::MAX).min(own_mtu),
                    up: interface.up && can_send,
                    twin: true,
                    address: first_v4(on(index)),
                    address_v6: first_v6(on(index)),
                },
                None => PortView {
                    mac: port.mac.get(),
                    mtu: own_mtu,
                    up: !port.configuration.twin && can_send,
                    twin: false,
                    address: first_v4(static_addresses(port).map(|(address, _)| address)),
                    address_v6: first_v6(static_addresses(port).map(|(address, _)| address)),
                },
            }
        };
        let mut local: Vec<_> =
            seen.addresses.iter().map(|(_, address, _)| Address::from(*address)).collect();
        local.extend(
            self.static_ports().flat_map(|(_, port)| static_addresses(port)).map(|(address, _)| address),
        );
        let kernels = seen.addresses.iter().filter_map(|(on, address, prefix)| {
            let port = self.port_of(seen, *on)?;
            Some(Source { port, address: (*address).into(), prefix: *prefix })
        });
        let mut sources: Vec<_> = kernels.collect();
        for (port, runtime) in self.static_ports() {
            let source = |(address, prefix)| Source { port, address, prefix };
            sources.extend(static_addresses(runtime).map(source));
        }
        let known = self.state.borrow();
        let before = known.control.network();
        let any_twin = self.ports.iter().any(|port| port.configuration.twin);
        Network {
            ports: self.ports.iter().map(view).collect(),
            local,
            fib,
            sources: sources.into(),
            ip_forward: !any_twin || ip_forward(before),
            ip_forward_v6: !any_twin || ip_forward_v6(before),
            icmp_limits: if any_twin { icmp_limits(before) } else { IcmpLimits::default() },
        }
    }

    /// Sets the neighbours of ports without a twin, which come from the configuration. Those of the configuration
    /// `before` that are no longer in it are forgotten.
    pub(crate) fn set_static_neighbours(&self, before: Option<&Config>, config: &Config) {
        let State { control, pump, .. } = &mut *self.state.borrow_mut();
        let adjacencies = &control.shared().adjacencies;
        let hop = |config, neighbor: &Neighbor| {
            let port = self.static_port(next_hops::neighbor_port(config, neighbor)?)?;
            Some(Hop { port, address: neighbor.address.into() })
        };
        let hops = |config| {
            let of = move |neighbor| Some((hop(config, neighbor)?, Mac(neighbor.mac.octets())));
            config.neighbors.iter().filter_map(of).collect::<HashMap<_, _>>()
        };
        let (before, now) = (before.map(hops).unwrap_or_default(), hops(config));
        for gone in before.keys().filter(|hop| !now.contains_key(hop)) {
            adjacencies.find_all(*gone).for_each(|way| adjacencies.set(way, None));
        }
        for (hop, mac) in now {
            if adjacencies.entry(hop).is_err() {
                tracing::warn!("no room for neighbour {}", std::net::IpAddr::from(hop.address));
            }
            for way in adjacencies.find_all(hop) {
                adjacencies.set(way, Some(mac));
                pump.resolved(way, hop.port, mac);
            }
        }
    }
}

/// Reads the kernel's network over a connection of its own, and makes the routing table with these routes added. If
/// it is equal to the present one, the present one is returned.
fn read(twins: &[(u8, String)], own: Vec<(Prefix, Route)>, before: Arc<Fib>) -> Result<(Seen, Arc<Fib>)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let (seen, routes) = runtime.block_on(async {
        let (connection, handle, _) = rtnetlink::new_connection()?;
        tokio::spawn(connection);
        anyhow::Ok((mirror::read_interfaces(&handle).await?, mirror::read_routes(&handle).await?))
    })?;
    let port_of: HashMap<u32, u8> =
        twins.iter().filter_map(|(port, name)| Some((seen.interface(name)?.0, *port))).collect();
    let mut fib = mirror::fib(&routes, |interface| port_of.get(&interface).copied());
    own.into_iter().for_each(|(prefix, route)| fib.insert(prefix, route));
    if *before == fib {
        return Ok((seen, before));
    }
    fib.prepare();
    Ok((seen, Arc::new(fib)))
}

/// The addresses that the configuration gives a port, with the lengths of their prefixes.
fn static_addresses(port: &PortRuntime) -> impl Iterator<Item = (Address, u8)> {
    port.configuration.addresses.iter().map(|address| (address.address().into(), address.prefix_len()))
}

/// The first IPv4 address, host order; 0: none.
fn first_v4(mut addresses: impl Iterator<Item = Address>) -> u32 {
    let of_v4 = |address| if let Address::V4(address) = address { Some(address) } else { None };
    addresses.find_map(of_v4).unwrap_or(0)
}

/// The first IPv6 address, host order, that is valid beyond the link, or else the first of the link; 0: none.
fn first_v6(addresses: impl Iterator<Item = Address>) -> u128 {
    let of_v6 = |address| if let Address::V6(address) = address { Some(address) } else { None };
    // fe80::/10 (RFC 4291, section 2.5.6).
    addresses.filter_map(of_v6).min_by_key(|address| address >> 118 == 0xfe80 >> 6).unwrap_or(0)
}

/// How many bits an address has.
const fn bits(address: Address) -> u8 {
    match address {
        Address::V4(_) => 32,
        Address::V6(_) => 128,
    }
}

/// The first of a prefix's addresses.
fn masked(address: Address, length: u8) -> Address {
    let others = u32::from(bits(address).saturating_sub(length));
    match address {
        Address::V4(address) => Address::V4(address & u32::MAX.checked_shl(others).unwrap_or(0)),
        Address::V6(address) => Address::V6(address & u128::MAX.checked_shl(others).unwrap_or(0)),
    }
}

/// Whether one of the kernel's switches has changed.
pub(crate) fn is_switched(known: &Network) -> bool {
    (ip_forward(known), ip_forward_v6(known)) != (known.ip_forward, known.ip_forward_v6)
        || icmp_limits(known) != known.icmp_limits
}

/// The kernel's `net.ipv4.ip_forward`; if it cannot be read just now, the last value.
fn ip_forward(before: &Network) -> bool {
    is_on("/proc/sys/net/ipv4/ip_forward").unwrap_or(before.ip_forward)
}

/// The kernel's `net.ipv6.conf.all.forwarding`, likewise.
fn ip_forward_v6(before: &Network) -> bool {
    is_on("/proc/sys/net/ipv6/conf/all/forwarding").unwrap_or(before.ip_forward_v6)
}

fn is_on(switch: &str) -> Option<bool> {
    read_switch(switch, |text| Some(text != "0"))
}

/// The kernel's switches for ICMP errors, likewise. Those for all hosts together only its first network namespace has.
fn icmp_limits(before: &Network) -> IcmpLimits {
    let number = |switch| read_switch(switch, |text| text.parse().ok());
    let before = &before.icmp_limits;
    IcmpLimits {
        interval: number("/proc/sys/net/ipv4/icmp_ratelimit").unwrap_or(before.interval),
        types: read_switch("/proc/sys/net/ipv4/icmp_ratemask", signed_mask).unwrap_or(before.types),
        interval_v6: number("/proc/sys/net/ipv6/icmp/ratelimit").unwrap_or(before.interval_v6),
        types_v6: read_switch("/proc/sys/net/ipv6/icmp/ratemask", ranges).unwrap_or(before.types_v6),
        per_second: number("/proc/sys/net/ipv4/icmp_msgs_per_sec").unwrap_or(before.per_second),
        at_once: number("/proc/sys/net/ipv4/icmp_msgs_burst").unwrap_or(before.at_once),
    }
}

fn read_switch<T>(switch: &str, parse: impl FnOnce(&str) -> Option<T>) -> Option<T> {
    parse(std::fs::read_to_string(switch).ok()?.trim())
}

/// 32 bits, which the kernel writes as a signed number.
fn signed_mask(text: &str) -> Option<u32> {
    text.parse().ok().map(i32::cast_unsigned)
}

/// The bits that are set, below 128, of a list like `0-1,3-127`.
fn ranges(text: &str) -> Option<u128> {
    let mut mask = 0;
    for range in text.split(',').filter(|range| !range.is_empty()) {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last) = (first.parse::<u8>().ok()?, last.parse::<u8>().ok()?.min(127));
        mask |= (first..=last).fold(0, |bits, bit| bits | 1_u128 << bit);
    }
    Some(mask)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_as_the_kernel_writes_them() {
        assert_eq!(signed_mask("6168"), Some(IcmpLimits::default().types));
        assert_eq!(signed_mask("-1"), Some(u32::MAX));
        assert_eq!(ranges("0-1,3-127"), Some(IcmpLimits::default().types_v6));
        assert_eq!(ranges("1,3-4,200-255"), Some(0b1_1010));
        assert_eq!((ranges(""), ranges("x")), (Some(0), None));
    }
}
