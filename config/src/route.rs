//! `[[neighbor]]` and `[[route]]`: what is known of the network from the start.

use std::net::IpAddr;

use serde::Serialize;

use crate::address::{self, MacAddress, Network};
use crate::name::InterfaceName;
use crate::port::{Port, Ports};
use crate::problem::Span;
use crate::reader::{Given, Item, Section, Seen, suggestion};

/// A neighbour whose MAC address is given: without a kernel twin nobody resolves it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Neighbor {
    /// Its address; always that of one host.
    pub address: IpAddr,
    /// Its MAC address.
    pub mac: MacAddress,
    /// The port it is reached by; where not given, the one whose network it is in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<InterfaceName>,
}

/// A route. At least one of `gateway` and `port` is given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Route {
    /// The destination.
    pub destination: Network,
    /// The next hop; always the address of one host, of the destination's family.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gateway: Option<IpAddr>,
    /// The port; where not given, the one whose network the gateway is in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<InterfaceName>,
    /// The route with the smallest metric is taken if several lead to one destination.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metric: Option<u32>,
}

crate::invalid::bounded! {
    /// A route's metric, as the kernel takes it.
    Metric(u32) in 0..=4_294_967_295, "(the smaller is taken)"
}

/// The port whose network an address is in; of several, the one with the longest prefix.
pub(crate) fn port_of(ports: &[Port], address: IpAddr) -> Option<&Port> {
    let networks = ports.iter().flat_map(|port| port.addresses.iter().map(move |a| (port, a.network())));
    networks
        .filter(|(_, network)| network.contains(address))
        .max_by_key(|(_, network)| network.prefix_len())
        .map(|(port, _)| port)
}

impl Neighbor {
    pub(crate) fn read_all(document: &Section<'_>, ports: &Ports) -> Vec<Self> {
        let mut seen = Seen::default();
        let sections = document.tables("neighbor", "[[neighbor]]");
        sections.into_iter().filter_map(|section| Self::read(section, ports, &mut seen)).collect()
    }

    fn read(section: Section<'_>, ports: &Ports, seen: &mut Seen<(IpAddr, Option<String>)>) -> Option<Self> {
        let log = section.log;
        let port = Given::read(&section, "port", |item| port(item, ports));
        let address = section.require("address", "\"192.168.2.71\"").and_then(|item| {
            let address = host(&item)?;
            if port.is_absent() {
                on_link(&item, address, ports);
            }
            let key = match &port {
                Given::Right(name) => Some(name.to_string()),
                Given::Absent => port_of(&ports.list, address).map(|port| port.name.to_string()),
                Given::Wrong => return None,
            };
            seen.note((address, key), &item.span(), log, || {
                format!("the neighbour {address} is given twice")
            });
            Some(address)
        });
        let mac = section.require("mac", "\"02:00:00:00:0d:01\"").and_then(|item| item.parse());
        section.finish();
        Some(Self { address: address?, mac: mac?, port: port.value() })
    }
}

impl Route {
    pub(crate) fn read_all(document: &Section<'_>, ports: &Ports) -> Vec<Self> {
        let mut seen = Seen::default();
        let sections = document.tables("route", "[[route]]");
        sections.into_iter().filter_map(|section| Self::read(section, ports, &mut seen)).collect()
    }

    fn read(section: Section<'_>, ports: &Ports, seen: &mut Seen<(Network, u32)>) -> Option<Self> {
        let log = section.log;
        let port = Given::read(&section, "port", |item| port(item, ports));
        let gateway = Given::read(&section, "gateway", |item| {
            let gateway = host(item)?;
            if port.is_absent() {
                on_link(item, gateway, ports);
            }
            Some((gateway, item.span()))
        });
        if port.is_absent() && gateway.is_absent() {
            log.error(&section.at, "this [[route]] leads to no one", "give it a `gateway`, a `port` or both");
        }
        let metric = Given::read(&section, "metric", |item| item.number().map(Metric::get));
        let gateway = gateway.value();
        let destination = section.require("destination", "\"default\"").and_then(|item| {
            let destination = destination(&item, gateway.as_ref().map(|(gateway, _)| *gateway))?;
            same_family(&item, destination, gateway.as_ref())?;
            let metric = match metric {
                Given::Right(metric) => metric,
                Given::Absent => 0,
                Given::Wrong => return None,
            };
            seen.note((destination, metric), &item.span(), log, || {
                format!("there are two routes to {destination} with one metric")
            });
            Some(destination)
        });
        section.finish();
        Some(Self {
            destination: destination?,
            gateway: gateway.map(|(gateway, _)| gateway),
            port: port.value(),
            metric: metric.value(),
        })
    }
}

/// The name of one of the ports.
fn port(item: &Item<'_>, ports: &Ports) -> Option<InterfaceName> {
    let name: InterfaceName = item.parse()?;
    if ports.names.contains(name.as_str()) {
        return Some(name);
    }
    if ports.sound {
        let names = ports.list.iter().map(|port| port.name.as_str());
        item.error(format!("there is no port `{name}`"), suggestion(name.as_str(), "the ports", names));
    }
    None
}

/// The address of one host.
fn host(item: &Item<'_>) -> Option<IpAddr> {
    let address = item.checked(address::ip(item.string()?))?;
    item.checked(address::host(address).map(|()| address))
}

/// If no port is given, the address must be in the network of one.
fn on_link(item: &Item<'_>, address: IpAddr, ports: &Ports) {
    if ports.sound && port_of(&ports.list, address).is_none() {
        item.error(
            format!("{address} is in the network of none of the ports"),
            "say which one it is reached by: port = \"NAME\"",
        );
    }
}

fn destination(item: &Item<'_>, gateway: Option<IpAddr>) -> Option<Network> {
    match item.string()? {
        "default" if gateway.is_some_and(|gateway| gateway.is_ipv6()) => Some(Network::ALL_V6),
        "default" => Some(Network::ALL_V4),
        _ => item.parse(),
    }
}

fn same_family(item: &Item<'_>, destination: Network, gateway: Option<&(IpAddr, Span)>) -> Option<()> {
    let Some((gateway, at)) = gateway else { return Some(()) };
    if gateway.is_ipv4() == destination.address().is_ipv4() {
        return Some(());
    }
    let (wanted, example) = if gateway.is_ipv4() { ("IPv6", "2001:db8::1") } else { ("IPv4", "192.168.2.1") };
    item.log.error(
        at,
        format!("the gateway {gateway} is of the other address family than {destination}"),
        format!("give an {wanted} gateway, for example \"{example}\""),
    );
    None
}
