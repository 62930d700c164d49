//! The control core's state and its tasks.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use director_config::{Config, Sysctls};
use director_engine::Control;
use director_engine::adjacency::Adjacency;
use director_engine::control::Network;
use director_engine::estimator;
use director_engine::fib::{Fib, Hop, Route};
use director_engine::snapshot::PortView;
use director_engine::sources::Source;
use director_packet::{Address, Mac};
use futures_util::StreamExt;
use hdrhistogram::Histogram;
use netlink_packet_core::{NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use rtnetlink::{Handle, MulticastGroup};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::clock::Coarse;
use crate::counters::ThreadCounters;
use crate::mirror::{self, Neighbour, Seen};
use crate::nap::Nap;
use crate::ports::PortRuntime;
use crate::pump::Pump;

/// Steps of the timers in one turn, at most.
const BUDGET: usize = 4096;

/// Servers whose rates are estimated in one turn, about.
const ESTIMATED: usize = 1000;

/// How long the control core sleeps at most when there was nothing to do. It bounds what the kernel's traffic
/// waits for its turn, so it is shorter than the event loop's own timers can be.
const NAP: Duration = Duration::from_micros(200);

/// How long the control core stays awake after a command of an LVS tool's: of many the next comes sooner, and to be
/// woken for each of them takes longer than to carry it out.
const AWAKE: Duration = Duration::from_micros(100);

/// How long changes are gathered before the kernel's network is read anew.
const GATHER: Duration = Duration::from_millis(20);

/// How often the switches of the kernel are looked at, which it does not tell of.
const LOOK: Duration = Duration::from_millis(500);

/// How often neighbours in use that have grown stale are confirmed.
const CONFIRM: Duration = Duration::from_secs(15);

/// A worker, as the control core knows it.
pub(crate) struct WorkerInfo {
    pub(crate) lcore: u32,
    pub(crate) queues: Vec<String>,
}

/// The part that changes.
pub(crate) struct State {
    pub(crate) control: Control,
    /// The switches as they are written and read; the control core has them as it obeys them.
    pub(crate) sysctls: Sysctls,
    pub(crate) pump: Pump,
    pub(crate) seen: Seen,
    stale: HashSet<(u32, IpAddr)>,
    pub(crate) problems: Vec<String>,
    /// How long each turn of the control core took, in microseconds.
    pub(crate) turns: Histogram<u64>,
}

/// A running director.
pub(crate) struct Director {
    pub(crate) config: Config,
    pub(crate) clock: Coarse,
    pub(crate) ports: Vec<PortRuntime>,
    pub(crate) workers: Vec<WorkerInfo>,
    /// The workers' counters, and last the control core's.
    pub(crate) counters: Vec<Arc<ThreadCounters>>,
    pub(crate) state: RefCell<State>,
    pub(crate) started: Instant,
    /// How many commands of LVS tools were answered.
    pub(crate) commands: Cell<u64>,
}

impl Director {
    pub(crate) fn new(
        config: Config,
        clock: Coarse,
        ports: Vec<PortRuntime>,
        workers: Vec<WorkerInfo>,
        counters: Vec<Arc<ThreadCounters>>,
        control: Control,
        pump: Pump,
    ) -> Result<Self> {
        // From a microsecond to a minute, to two digits.
        let turns = Histogram::new_with_max(60_000_000, 2)?;
        let state = State {
            control,
            sysctls: config.ipvs,
            pump,
            seen: Seen::default(),
            stale: HashSet::new(),
            problems: Vec::new(),
            turns,
        };
        let state = RefCell::new(state);
        Ok(Self {
            config,
            clock,
            ports,
            workers,
            counters,
            state,
            started: Instant::now(),
            commands: Cell::new(0),
        })
    }

    /// Runs the timers and moves the frames of the twins, for ever.
    pub(crate) async fn turn_for_ever(&self, unknown: mpsc::UnboundedSender<Adjacency>) -> Result<()> {
        let mut nap = Nap::new(NAP)?;
        let mut next_estimate = u64::from(estimator::INTERVAL) * 1000;
        let mut asked = Vec::new();
        let mut answered = 0;
        let mut awake_until = self.started;
        loop {
            let (tick, _) = self.clock.read();
            let now = self.clock.milliseconds();
            let began = Instant::now();
            let (moved, behind) = {
                let State { control, pump, turns, .. } = &mut *self.state.borrow_mut();
                let moved = pump.turn(control, now, &mut asked);
                let progress = control.poll(tick, BUDGET);
                // Milliseconds wrap, as the rate limit expects.
                control.expire_fragments(tick, now as u32, |port, frame| pump.send_made(port, frame));
                // The last counters are the control core's own.
                if let Some(own) = self.counters.last() {
                    control.take_lost_fragments(|port, reason, count| {
                        own.port(port.into()).drop_some(reason, count);
                    });
                }
                if now >= next_estimate {
                    next_estimate += u64::from(estimator::INTERVAL) * 1000;
                    control.catalog.begin_estimate();
                }
                control.catalog.estimate(ESTIMATED);
                for way in pump.overdue(now) {
                    pump.failed(way, control, now);
                }
                turns.saturating_record(began.elapsed().as_micros() as u64);
                (moved, progress.behind)
            };
            for way in asked.drain(..) {
                let _ = unknown.send(way);
            }
            if answered != self.commands.get() {
                answered = self.commands.get();
                awake_until = began + AWAKE;
            }
            let idle = moved == 0 && !behind;
            if idle && began >= awake_until {
                nap.sleep().await?;
                continue;
            }
            if idle {
                // The tool may have to run on this CPU.
                std::thread::yield_now();
            }
            tokio::task::yield_now().await;
        }
    }

    fn interface_of(&self, state: &State, port: u8) -> Option<u32> {
        let name = self.ports.get(usize::from(port))?.configuration.name.as_str();
        state.seen.interfaces.iter().find(|(_, interface)| interface.name == name).map(|(index, _)| *index)
    }

    fn port_of(&self, seen: &Seen, interface: u32) -> Option<u8> {
        let name = &seen.interfaces.get(&interface)?.name;
        let is_twin =
            |port: &PortRuntime| port.configuration.twin && port.configuration.name.as_str() == name;
        // A configuration has few ports: their number fits.
        self.ports.iter().position(is_twin).map(|at| at as u8)
    }

    /// Follows the kernel's network, for ever.
    pub(crate) async fn mirror(
        &self,
        handle: &Handle,
        mut unknown: mpsc::UnboundedReceiver<Adjacency>,
    ) -> Result<()> {
        let groups = [
            MulticastGroup::Link,
            MulticastGroup::Ipv4Ifaddr,
            MulticastGroup::Ipv4Route,
            MulticastGroup::Ipv6Ifaddr,
            MulticastGroup::Ipv6Route,
            MulticastGroup::Neigh,
        ];
        let (connection, _keep, mut messages) = rtnetlink::new_multicast_connection(&groups)?;
        tokio::task::spawn_local(connection);
        self.read_network(handle).await?;
        self.read_neighbours(handle, false).await?;
        let mut look = tokio::time::interval(LOOK);
        let mut confirm = tokio::time::interval(CONFIRM);
        // Whether the kernel has lost messages since all was read, and whether what was read last is not all.
        let (lost, mut failed) = (Cell::new(false), false);
        let take_in = |message: NetlinkMessage<RouteNetlinkMessage>| match message.payload {
            NetlinkPayload::InnerMessage(message) => self.hear(&message),
            NetlinkPayload::Overrun(_) | NetlinkPayload::Error(_) => {
                lost.set(true);
                true
            }
            _ => false,
        };
        loop {
            let changed = tokio::select! {
                message = messages.next() => {
                    let Some((message, _)) = message else {
                        anyhow::bail!("the kernel's netlink socket was closed");
                    };
                    take_in(message)
                }
                Some(way) = unknown.recv() => {
                    self.ask(handle, way).await;
                    false
                }
                _ = look.tick() => {
                    self.ask_again(handle).await;
                    let state = self.state.borrow();
                    let known = state.control.network();
                    failed || (ip_forward(), ip_forward_v6()) != (known.ip_forward, known.ip_forward_v6)
                }
                _ = confirm.tick() => {
                    self.confirm(handle).await;
                    false
                }
            };
            if changed {
                // More of it usually follows at once.
                let gather = async {
                    while let Some((message, _)) = messages.next().await {
                        take_in(message);
                    }
                };
                let _ = timeout(GATHER, gather).await;
                let read = self.read_again(handle, lost.get()).await;
                if let Err(error) = &read
                    && !failed
                {
                    tracing::warn!(
                        "{error:#}; the network stays as it was, and is read again until it can be"
                    );
                }
                failed = read.is_err();
                lost.set(failed && lost.get());
            }
        }
    }

    /// Reads the network anew, and the neighbours if messages were lost.
    async fn read_again(&self, handle: &Handle, lost: bool) -> Result<()> {
        self.read_network(handle).await?;
        if lost {
            self.read_neighbours(handle, true).await?;
        }
        Ok(())
    }

    /// Takes a message in. True: links, addresses or routes changed.
    fn hear(&self, message: &RouteNetlinkMessage) -> bool {
        let neighbour = match message {
            RouteNetlinkMessage::NewNeighbour(message) => mirror::neighbour(message, false),
            RouteNetlinkMessage::DelNeighbour(message) => mirror::neighbour(message, true),
            other => return mirror::is_change(other),
        };
        if let Some(neighbour) = neighbour {
            self.learn(neighbour);
        }
        false
    }

    fn learn(&self, neighbour: Neighbour) {
        let state = &mut *self.state.borrow_mut();
        let Some(port) = self.port_of(&state.seen, neighbour.interface) else { return };
        let hop = Hop { port, address: neighbour.address.into() };
        let known_as = (neighbour.interface, neighbour.address);
        if neighbour.stale {
            state.stale.insert(known_as);
        } else {
            state.stale.remove(&known_as);
        }
        let adjacencies = &state.control.shared().adjacencies;
        // Of those that do not answer there are as many as anybody asks for: they get no place of their own.
        if neighbour.mac.is_some() && adjacencies.entry(hop).is_err() {
            tracing::warn!("no room for neighbour {}", neighbour.address);
        }
        let ways: Vec<_> = adjacencies.find_all(hop).collect();
        for way in ways {
            state.control.shared().adjacencies.set(way, neighbour.mac);
            if let Some(mac) = neighbour.mac {
                state.pump.resolved(way, port, mac);
            } else if neighbour.failed {
                state.pump.failed(way, &mut state.control, self.clock.milliseconds());
            }
        }
    }

    /// Reads the neighbours; those that the kernel has no more are forgotten if what it said of that may have been
    /// lost.
    async fn read_neighbours(&self, handle: &Handle, may_have_lost: bool) -> Result<()> {
        let found = mirror::read_neighbours(handle).await?;
        if may_have_lost {
            self.forget_others(&found);
        }
        for neighbour in found {
            // An old failure says nothing of what waits now.
            self.learn(Neighbour { failed: false, ..neighbour });
        }
        Ok(())
    }

    /// Forgets the neighbours that were not found.
    fn forget_others(&self, found: &[Neighbour]) {
        let state = &mut *self.state.borrow_mut();
        let there: HashSet<_> = found.iter().map(|found| (found.interface, found.address)).collect();
        state.stale.retain(|known_as| there.contains(known_as));
        let adjacencies = &state.control.shared().adjacencies;
        for (way, hop) in adjacencies.known() {
            // A port without a twin has the configuration's neighbours.
            let has_twin = |port: &PortRuntime| port.configuration.twin;
            let interface = self.ports.get(usize::from(hop.port)).filter(|port| has_twin(port));
            let interface = interface.and_then(|_| self.interface_of(state, hop.port));
            if interface.is_some_and(|interface| !there.contains(&(interface, hop.address.into()))) {
                adjacencies.set(way, None);
            }
        }
    }

    async fn ask(&self, handle: &Handle, way: Adjacency) {
        let target = {
            let state = self.state.borrow();
            let hop = state.control.shared().adjacencies.hop(way);
            hop.and_then(|hop| Some((self.interface_of(&state, hop.port)?, hop.address)))
        };
        if let Some((interface, address)) = target {
            mirror::ask(handle, interface, address.into()).await;
        }
    }

    /// Looks after what frames wait for, in case a message of the kernel's was lost.
    async fn ask_again(&self, handle: &Handle) {
        let is_any_awaited = self.state.borrow().pump.awaited().next().is_some();
        if is_any_awaited && let Err(error) = self.read_neighbours(handle, false).await {
            tracing::debug!("{error:#}");
        }
    }

    /// Has the kernel confirm the neighbours in use that have grown stale: it does not see the traffic
    /// itself, and would forget them.
    async fn confirm(&self, handle: &Handle) {
        let stale: Vec<_> = {
            let state = self.state.borrow();
            let recent = state.control.shared().adjacencies.take_recent();
            recent
                .filter_map(|(way, hop)| {
                    let interface = self.interface_of(&state, hop.port)?;
                    state.stale.contains(&(interface, hop.address.into())).then_some(way)
                })
                .collect()
        };
        for way in stale {
            self.ask(handle, way).await;
        }
        let State { control, pump, .. } = &mut *self.state.borrow_mut();
        let awaited: HashSet<_> = pump.awaited().collect();
        control.sweep_next_hops(|way| awaited.contains(&way));
    }

    /// Reads the kernel's network and tells the workers.
    pub(crate) async fn read_network(&self, handle: &Handle) -> Result<()> {
        let seen = mirror::read(handle).await?;
        self.follow_mtu(&seen);
        let network = self.network(&seen);
        let mut state = self.state.borrow_mut();
        state.problems = self.problems(&seen);
        state.seen = seen;
        state.control.set_network(network);
        Ok(())
    }

    /// Sets on the devices the MTUs that were set on their twins.
    fn follow_mtu(&self, seen: &Seen) {
        for port in self.ports.iter().filter(|port| port.configuration.twin) {
            let name = port.configuration.name.as_str();
            let Some(interface) = seen.interfaces.values().find(|interface| interface.name == name) else {
                continue;
            };
            let wanted = u16::try_from(interface.mtu).unwrap_or(u16::MAX);
            if port.port.mtu().is_ok_and(|mtu| mtu != wanted)
                && let Err(error) = port.port.set_mtu(wanted)
            {
                tracing::warn!("port {name} does not take its twin's MTU of {wanted} bytes: {error}");
            }
        }
    }

    fn problems(&self, seen: &Seen) -> Vec<String> {
        let mut problems = Vec::new();
        for port in self.ports.iter().filter(|port| port.configuration.twin) {
            let name = port.configuration.name.as_str();
            match seen.interfaces.values().find(|interface| interface.name == name) {
                None => problems.push(format!("kernel twin {name} is missing")),
                Some(interface) if !interface.up => {
                    problems.push(format!("kernel twin {name} is down; `ip link set {name} up` mends it"));
                }
                Some(_) => {}
            }
        }
        problems
    }

    /// The network for the workers: the kernel's for ports with a twin, the configuration's for others.
    fn network(&self, seen: &Seen) -> Network {
        let on = |index: u32| {
            let on_it = seen.addresses.iter().filter(move |(on, _, _)| *on == index);
            on_it.map(|(_, address, _)| Address::from(*address))
        };
        let view = |port: &PortRuntime| {
            let name = port.configuration.name.as_str();
            let interface = seen.interfaces.iter().find(|(_, interface)| interface.name == name);
            let own_mtu = port.port.mtu().unwrap_or(1500);
            match interface.filter(|_| port.configuration.twin) {
                Some((index, interface)) => PortView {
                    mac: port.mac,
                    // What the device refused it cannot send.
                    mtu: u16::try_from(interface.mtu).unwrap_or(u16::MAX).min(own_mtu),
                    up: interface.up,
                    twin: true,
                    address: first_v4(on(*index)),
                    address_v6: first_v6(on(*index)),
                },
                None => PortView {
                    mac: port.mac,
                    mtu: own_mtu,
                    up: !port.configuration.twin,
                    twin: false,
                    address: first_v4(static_addresses(port).map(|(address, _)| address)),
                    address_v6: first_v6(static_addresses(port).map(|(address, _)| address)),
                },
            }
        };
        let static_ports = || self.ports.iter().enumerate().filter(|(_, port)| !port.configuration.twin);
        let mut local: Vec<_> =
            seen.addresses.iter().map(|(_, address, _)| Address::from(*address)).collect();
        let mut fib = Fib::clone(&mirror::fib(&seen.routes, |interface| self.port_of(seen, interface)));
        for (at, port) in static_ports() {
            for (address, length) in static_addresses(port) {
                local.push(address);
                fib.insert((masked(address, length), length), Route::Link { port: at as u8 });
            }
        }
        // Of several routes to one prefix the one of the lowest metric counts, so it is set last.
        let mut routes: Vec<_> = self.config.routes.iter().collect();
        routes.sort_by_key(|route| route.metric.unwrap_or(0));
        for (at, port) in static_ports() {
            static_addresses(port)
                .for_each(|(address, _)| fib.insert((address, bits(address)), Route::Local));
            for route in routes.iter().rev() {
                let on = match (&route.port, route.gateway) {
                    (Some(name), _) => name.as_str() == port.configuration.name.as_str(),
                    (None, Some(gateway)) => self
                        .config
                        .port_of(gateway)
                        .is_some_and(|owner| owner.name.as_str() == port.configuration.name.as_str()),
                    (None, None) => false,
                };
                if !on {
                    continue;
                }
                let prefix = (route.destination.address().into(), route.destination.prefix_len());
                let port = at as u8;
                let way = match route.gateway {
                    Some(gateway) => Route::Gateway { port, gateway: gateway.into() },
                    None => Route::Link { port },
                };
                fib.insert(prefix, way);
            }
        }
        let kernels = seen.addresses.iter().filter_map(|(on, address, prefix)| {
            let port = self.port_of(seen, *on)?;
            Some(Source { port, address: (*address).into(), prefix: *prefix })
        });
        let mut sources: Vec<_> = kernels.collect();
        for (at, port) in static_ports() {
            sources.extend(static_addresses(port).map(|(address, prefix)| Source {
                port: at as u8,
                address,
                prefix,
            }));
        }
        let known = self.state.borrow();
        let before = known.control.network();
        let fib = if *before.fib == fib { before.fib.clone() } else { Arc::new(fib) };
        let any_twin = self.ports.iter().any(|port| port.configuration.twin);
        Network {
            ports: self.ports.iter().map(view).collect(),
            local,
            fib,
            sources: sources.into(),
            ip_forward: !any_twin || ip_forward(),
            ip_forward_v6: !any_twin || ip_forward_v6(),
        }
    }

    /// Sets the neighbours of ports without a twin, which are the configuration's.
    pub(crate) fn set_static_neighbours(&self) {
        let state = self.state.borrow();
        for neighbor in &self.config.neighbors {
            let Some(name) = mirror::neighbor_port(&self.config, neighbor) else { continue };
            let at = self.ports.iter().position(|port| port.configuration.name.as_str() == name);
            let Some(at) = at else { continue };
            if self.ports[at].configuration.twin {
                continue;
            }
            let adjacencies = &state.control.shared().adjacencies;
            if let Ok(way) = adjacencies.entry(Hop { port: at as u8, address: neighbor.address.into() }) {
                adjacencies.set(way, Some(Mac(neighbor.mac.octets())));
            }
        }
    }
}

/// The addresses that the configuration gives a port, with the lengths of their prefixes.
fn static_addresses(port: &PortRuntime) -> impl Iterator<Item = (Address, u8)> {
    port.configuration.addresses.iter().map(|address| (address.address().into(), address.prefix_len()))
}

/// The first address of IPv4, host order; 0: none.
fn first_v4(mut addresses: impl Iterator<Item = Address>) -> u32 {
    let of_v4 = |address| if let Address::V4(address) = address { Some(address) } else { None };
    addresses.find_map(of_v4).unwrap_or(0)
}

/// The first address of IPv6, host order, that means something beyond the link, else that of the link; 0: none.
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

/// The kernel's `net.ipv4.ip_forward`.
fn ip_forward() -> bool {
    is_on("/proc/sys/net/ipv4/ip_forward")
}

/// The kernel's `net.ipv6.conf.all.forwarding`.
fn ip_forward_v6() -> bool {
    is_on("/proc/sys/net/ipv6/conf/all/forwarding")
}

fn is_on(switch: &str) -> bool {
    std::fs::read_to_string(switch).is_ok_and(|text| text.trim() != "0")
}
