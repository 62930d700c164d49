//! The neighbours and routes of the configuration file: set at the start, and brought to the file when it is read again.
//!
//! Those of kernel twins are the kernel's, so `director` sees them come and go as it does those that `ip` sets. As with
//! addresses the file is the truth for what it names, and what it never named stays. Those of ports without a twin are the
//! director's own (see `network`).

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;

use anyhow::{Context, Result};
use director_config::{Config, Neighbor, Network, Route};
use netlink_packet_route::neighbour::{NeighbourMessage, NeighbourState};
use netlink_packet_route::route::RouteMessage;
use rtnetlink::{Handle, RouteMessageBuilder};

/// A neighbour or route of the file, and the name of its port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NextHop<'a> {
    Neighbor(&'a Neighbor, &'a str),
    Route(&'a Route, &'a str),
}

/// What one of them is about. Of each there is one in a file, or the later counts.
#[derive(PartialEq, Eq, Hash, Debug)]
enum Key<'a> {
    Neighbor(IpAddr, &'a str),
    Route(Network, u32),
}

/// The name of the port that a neighbour is on.
pub(crate) fn neighbor_port<'a>(config: &'a Config, neighbor: &'a Neighbor) -> Option<&'a str> {
    match &neighbor.port {
        Some(port) => Some(port.as_str()),
        None => Some(config.port_of(neighbor.address)?.name.as_str()),
    }
}

/// The name of the port that a route leads out of.
pub(crate) fn route_port<'a>(config: &'a Config, route: &'a Route) -> Option<&'a str> {
    match &route.port {
        Some(port) => Some(port.as_str()),
        None => Some(config.port_of(route.gateway?)?.name.as_str()),
    }
}

impl<'a> NextHop<'a> {
    /// Those of a file, in its order, neighbours first.
    fn all(config: &'a Config) -> Vec<Self> {
        let neighbors = config.neighbors.iter();
        let neighbors = neighbors.filter_map(|it| Some(Self::Neighbor(it, neighbor_port(config, it)?)));
        let routes = config.routes.iter();
        neighbors.chain(routes.filter_map(|it| Some(Self::Route(it, route_port(config, it)?)))).collect()
    }

    const fn port(self) -> &'a str {
        let (Self::Neighbor(_, port) | Self::Route(_, port)) = self;
        port
    }

    fn key(self) -> Key<'a> {
        match self {
            Self::Neighbor(neighbor, port) => Key::Neighbor(neighbor.address, port),
            Self::Route(route, _) => Key::Route(route.destination, metric(route)),
        }
    }

    /// Sets it in the kernel, in place of what is there.
    async fn set(self, handle: &Handle, interface: u32) -> Result<()> {
        let set = match self {
            Self::Neighbor(neighbor, _) => {
                let request = handle.neighbours().add(interface, neighbor.address);
                let request = request.state(NeighbourState::Permanent);
                request.link_layer_address(&neighbor.mac.octets()).replace().execute().await
            }
            Self::Route(route, _) => handle.route().add(message(route, interface)?).replace().execute().await,
        };
        set.with_context(|| format!("setting {self}"))
    }

    async fn delete(self, handle: &Handle, interface: u32) -> Result<()> {
        let deleted = match self {
            Self::Neighbor(neighbor, _) => {
                let message: NeighbourMessage =
                    handle.neighbours().add(interface, neighbor.address).message_mut().clone();
                handle.neighbours().del(message).execute().await
            }
            Self::Route(route, _) => handle.route().del(message(route, interface)?).execute().await,
        };
        deleted.with_context(|| format!("deleting {self}"))
    }
}

impl fmt::Display for NextHop<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Neighbor(neighbor, port) => {
                write!(f, "neighbour {} at {} on {port}", neighbor.address, neighbor.mac)
            }
            Self::Route(route, port) => {
                write!(f, "route {}", route.destination)?;
                if let Some(gateway) = route.gateway {
                    write!(f, " via {gateway}")?;
                }
                write!(f, " on {port}")?;
                route.metric.map_or(Ok(()), |metric| write!(f, " metric {metric}"))
            }
        }
    }
}

/// A route's metric as the kernel has it: of IPv6 it makes 1,024 of 0 (`IP6_RT_PRIO_USER`), and takes a 0 that is to be
/// deleted for any.
fn metric(route: &Route) -> u32 {
    match route.metric.unwrap_or(0) {
        0 if route.destination.address().is_ipv6() => 1024,
        metric => metric,
    }
}

fn message(route: &Route, interface: u32) -> Result<RouteMessage> {
    let (destination, length) = (route.destination.address(), route.destination.prefix_len());
    let mut message = RouteMessageBuilder::<IpAddr>::new().destination_prefix(destination, length)?;
    if let Some(gateway) = route.gateway {
        message = message.gateway(gateway)?;
    }
    Ok(message.output_interface(interface).priority(metric(route)).build())
}

/// What brings neighbours and routes to a file.
pub(crate) struct NextHops<'a> {
    /// All of the file, and what the file that was read before had of the same.
    coming: Vec<(NextHop<'a>, Option<NextHop<'a>>)>,
    /// What that file had and this one has not.
    going: Vec<NextHop<'a>>,
    twins: HashMap<&'a str, u32>,
}

impl<'a> NextHops<'a> {
    /// `before` is what was read last, if anything was. Interfaces are given by their names.
    pub(crate) fn new(
        before: Option<&'a Config>,
        config: &'a Config,
        interface_of: &HashMap<String, u32>,
    ) -> Self {
        let old = before.map(NextHop::all).unwrap_or_default();
        let old_of: HashMap<_, _> = old.iter().map(|hop| (hop.key(), *hop)).collect();
        let coming: Vec<_> =
            NextHop::all(config).into_iter().map(|hop| (hop, old_of.get(&hop.key()).copied())).collect();
        let named: HashMap<_, _> = coming.iter().map(|(hop, _)| (hop.key(), ())).collect();
        let going = old.iter().filter(|hop| !named.contains_key(&hop.key())).copied().collect();
        let twins = config.ports.iter().filter(|port| port.twin).map(|port| port.name.as_str());
        let twins = twins.filter_map(|name| Some((name, *interface_of.get(name)?))).collect();
        Self { coming, going, twins }
    }

    /// The kernel interface that one is on; none where it is the director's own.
    fn interface(&self, hop: NextHop<'_>) -> Option<u32> {
        self.twins.get(hop.port()).copied()
    }

    /// The changes, for people.
    pub(crate) fn lines(&self) -> Vec<String> {
        let coming = self.coming.iter().filter_map(|(hop, was)| match was {
            None => Some(format!("{hop} added")),
            Some(was) if was == hop => None,
            Some(was) => Some(format!("{was} changed: {hop}")),
        });
        coming.chain(self.going.iter().map(|hop| format!("{hop} deleted"))).collect()
    }

    /// Sets in the kernel what comes. If one cannot be set, all is as before. What is the same is set, too, as somebody may
    /// have deleted it; but that its twin is down is no reason to refuse a file. Says which of those could not be set.
    pub(crate) async fn add(&self, handle: &Handle) -> Result<Vec<String>> {
        let mut missing = Vec::new();
        for (done, (hop, was)) in self.coming.iter().enumerate() {
            let Some(interface) = self.interface(*hop) else { continue };
            match hop.set(handle, interface).await {
                Err(error) if *was == Some(*hop) => missing.push(format!("{error:#}")),
                Err(error) => {
                    self.undo_first(done, handle).await;
                    return Err(error);
                }
                Ok(()) => {}
            }
        }
        Ok(missing)
    }

    /// Takes back what came.
    pub(crate) async fn undo(&self, handle: &Handle) {
        self.undo_first(self.coming.len(), handle).await;
    }

    async fn undo_first(&self, count: usize, handle: &Handle) {
        for (hop, was) in self.coming.iter().take(count).filter(|(hop, was)| Some(hop) != was.as_ref()) {
            let back = was.and_then(|was| Some((was, self.interface(was)?)));
            let undone = match (back, self.interface(*hop)) {
                (Some((was, interface)), _) => was.set(handle, interface).await,
                (None, Some(interface)) => hop.delete(handle, interface).await,
                (None, None) => Ok(()),
            };
            undone.unwrap_or_else(|error| tracing::warn!("{error:#}"));
        }
    }

    /// Deletes from the kernel what goes; so does what came to a port without a twin, where the kernel has nothing in its
    /// place.
    pub(crate) async fn delete(&self, handle: &Handle) {
        let left = self.coming.iter().filter(|(hop, _)| self.interface(*hop).is_none());
        for hop in self.going.iter().chain(left.filter_map(|(_, was)| was.as_ref())) {
            let Some(interface) = self.interface(*hop) else { continue };
            // It is no matter if somebody else was faster.
            hop.delete(handle, interface).await.unwrap_or_else(|error| tracing::debug!("{error:#}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(links: &str) -> Config {
        let ports = "dpdk.lcores = '0-1'\n[[port]]\nname = 'front'\ndevice = 'net_af_packet0,iface=veth-front'\n\
            addresses = ['10.0.0.1/24']\n[[port]]\nname = 'back'\ndevice = 'net_null0'\ntwin = false\n\
            addresses = ['10.0.1.1/24']\n";
        Config::parse("FILE", &format!("{ports}{links}")).unwrap_or_else(|errors| panic!("{errors}"))
    }

    fn neighbor(address: &str, mac: &str) -> String {
        format!("[[neighbor]]\naddress = '{address}'\nmac = '02:00:00:00:0d:{mac}'\n")
    }

    fn route(destination: &str, gateway: &str) -> String {
        format!("[[route]]\ndestination = '{destination}'\ngateway = '{gateway}'\n")
    }

    #[test]
    fn what_comes_changes_and_goes() {
        let twins = [("front".to_owned(), 7), ("veth-front".to_owned(), 3)].into();
        let before = read(&[neighbor("10.0.0.9", "01"), route("default", "10.0.0.9")].concat());
        let start = NextHops::new(None, &before, &twins);
        assert_eq!(
            start.lines(),
            [
                "neighbour 10.0.0.9 at 02:00:00:00:0d:01 on front added",
                "route 0.0.0.0/0 via 10.0.0.9 on front added"
            ]
        );
        assert!(NextHops::new(Some(&before), &before, &twins).lines().is_empty());
        let links = [
            neighbor("10.0.0.9", "02"),
            neighbor("10.0.1.9", "03"),
            route("10.9.0.0/16", "10.0.1.9") + "metric = 5\n",
        ];
        let after = read(&links.concat());
        let changes = NextHops::new(Some(&before), &after, &twins);
        assert_eq!(
            changes.lines(),
            [
                "neighbour 10.0.0.9 at 02:00:00:00:0d:01 on front changed: neighbour 10.0.0.9 at 02:00:00:00:0d:02 on front",
                "neighbour 10.0.1.9 at 02:00:00:00:0d:03 on back added",
                "route 10.9.0.0/16 via 10.0.1.9 on back metric 5 added",
                "route 0.0.0.0/0 via 10.0.0.9 on front deleted",
            ]
        );
        // What is on a port without a twin the kernel does not know.
        let interfaces: Vec<_> = changes.coming.iter().map(|(hop, _)| changes.interface(*hop)).collect();
        assert_eq!(interfaces, [Some(7), None, None]);
    }

    #[test]
    fn a_route_of_ipv6_has_the_kernels_metric_where_it_has_none() {
        let twins = [("front".to_owned(), 7)].into();
        let route = |metric: &str| {
            read(&format!("[[route]]\ndestination = '2001:db8::/32'\nport = 'front'\n{metric}"))
        };
        let (before, after) = (route(""), route("metric = 1024\n"));
        assert!(NextHops::new(Some(&before), &after, &twins).going.is_empty());
        let after = route("metric = 50\n");
        let changes = NextHops::new(Some(&before), &after, &twins);
        assert_eq!(changes.going.len(), 1);
        let NextHop::Route(gone, _) = changes.going[0] else { panic!("no route") };
        assert_eq!(metric(gone), 1024);
    }
}
