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
use director_engine::estimator;
use director_engine::fib::Hop;
use futures_util::{Stream, StreamExt};
use hdrhistogram::Histogram;
use netlink_packet_core::{NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use rtnetlink::{Handle, MulticastGroup};
use tokio::sync::{Notify, mpsc};
use tokio::time::timeout;

use crate::clock::{self, Coarse, every};
use crate::counters::ThreadCounters;
use crate::gathering::Gathering;
use crate::mirror::{self, Neighbour, Seen};
use crate::nap::Nap;
use crate::network;
use crate::ports::PortRuntime;
use crate::pump::Pump;

/// Steps of the timers in one turn, at most.
const BUDGET: usize = 4096;

/// About how many servers' rates are estimated in one turn.
const ESTIMATED: usize = 1000;

/// How long the control core sleeps at most when there was nothing to do. The kernel's traffic may wait for so long,
/// so it is shorter than the event loop's own timers can be.
const NAP: Duration = Duration::from_micros(200);

/// How long the control core stays awake after a command of an LVS tool. If there are many, the next one comes sooner
/// than this, and waking up for each takes longer than carrying it out.
const AWAKE: Duration = Duration::from_micros(100);

/// How long changes are gathered before the kernel's network is read anew.
const GATHER: Duration = Duration::from_millis(20);

/// How often the kernel's switches are read: the kernel does not report their changes.
const LOOK: Duration = Duration::from_millis(500);

/// How often neighbours in use that have grown stale are confirmed.
const CONFIRM: Duration = Duration::from_secs(15);

/// A worker, as the control core knows it.
pub(crate) struct WorkerInfo {
    pub(crate) lcore: u32,
    pub(crate) queues: Vec<String>,
}

/// The part of the director that changes.
pub(crate) struct State {
    pub(crate) control: Control,
    /// The switches as they are written and read back. The control core has them in the form in which it uses them.
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
    /// The configuration that was read last.
    pub(crate) config: RefCell<Arc<Config>>,
    /// Held while the file is read again.
    pub(crate) reloading: tokio::sync::Mutex<()>,
    /// Notified when next hops of the file have changed that the kernel does not know.
    pub(crate) rerouted: Notify,
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
        // From a microsecond to a minute, with two significant digits.
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
            config: RefCell::new(Arc::new(config)),
            reloading: tokio::sync::Mutex::new(()),
            rerouted: Notify::new(),
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
        let mut gathering = Gathering::default();
        loop {
            let (tick, _) = self.clock.read();
            let now = self.clock.milliseconds();
            let began = Instant::now();
            let (moved, behind) = {
                let State { control, pump, turns, .. } = &mut *self.state.borrow_mut();
                let moved = pump.turn(control, now, &mut asked);
                let progress = control.poll(tick, BUDGET);
                control.set_time_of_day(now as u32, clock::since_midnight());
                // Milliseconds wrap, as the rate limit expects.
                control.expire_fragments(tick, now as u32, |port, frame| pump.send_made(port, frame));
                // The last counters are the control core's own.
                if let Some(own) = self.counters.last() {
                    control.take_lost_fragments(|port, reason, count| {
                        own.port(port.into()).drop_some(reason, count);
                    });
                }
                if now >= next_estimate {
                    // Ticks that were missed while the process was stopped are left out.
                    next_estimate = now.max(next_estimate + u64::from(estimator::INTERVAL) * 1000);
                    control.catalog.begin_estimate();
                }
                control.catalog.estimate(ESTIMATED);
                gathering.turn(control, Instant::now());
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
        state.seen.interface(name).map(|(index, _)| index)
    }

    pub(crate) fn port_of(&self, seen: &Seen, interface: u32) -> Option<u8> {
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
        let mut look = every(LOOK);
        let mut confirm = every(CONFIRM);
        // The last reading failed; everything is to be read again, for this or another reason.
        let (mut failed, mut is_behind) = (false, true);
        // Nothing was heard before this socket was open.
        let lost = Cell::new(true);
        loop {
            let changed = tokio::select! {
                message = messages.next() => {
                    let Some((message, _)) = message else {
                        anyhow::bail!("the kernel's netlink socket was closed");
                    };
                    self.take_in(message, &lost)
                }
                Some(way) = unknown.recv() => {
                    self.ask(handle, way).await;
                    false
                }
                _ = look.tick() => {
                    self.ask_again(handle).await;
                    let state = self.state.borrow();
                    let known = state.control.network();
                    // Without twins the kernel's switches do not count.
                    is_behind || self.twins().next().is_some() && network::is_switched(known)
                }
                () = self.rerouted.notified() => true,
                _ = confirm.tick() => {
                    self.confirm(handle).await;
                    false
                }
            };
            if !changed {
                continue;
            }
            let read;
            (read, is_behind) = self.read_again(handle, &mut messages, &mut unknown, &lost).await;
            if let Err(error) = &read
                && !failed
            {
                tracing::warn!("{error:#}; the network stays as it was, and is read again until it can be");
            }
            failed = read.is_err();
            is_behind |= failed;
        }
    }

    /// Reads the kernel's network, and its neighbours if messages were `lost`. Also returns whether anything changed
    /// meanwhile.
    async fn read_again<A>(
        &self,
        handle: &Handle,
        messages: &mut (impl Stream<Item = (NetlinkMessage<RouteNetlinkMessage>, A)> + Unpin),
        unknown: &mut mpsc::UnboundedReceiver<Adjacency>,
        lost: &Cell<bool>,
    ) -> (Result<()>, bool) {
        // Other changes usually follow at once.
        let gather = async {
            while let Some((message, _)) = messages.next().await {
                self.take_in(message, lost);
            }
        };
        let _ = timeout(GATHER, gather).await;
        let reading = self.read_network();
        tokio::pin!(reading);
        let mut is_behind = false;
        let mut read = loop {
            tokio::select! {
                read = &mut reading => break read,
                // Changes that come meanwhile are read a little later.
                Some((message, _)) = messages.next() => is_behind |= self.take_in(message, lost),
                Some(way) = unknown.recv() => self.ask(handle, way).await,
            }
        };
        // Messages about neighbours are newer than this reading of them, so they wait until it is done.
        if read.is_ok() && lost.get() {
            read = self.read_neighbours(handle, true).await;
            lost.set(read.is_err());
        }
        (read, is_behind)
    }

    /// Takes in what came on the netlink socket, and notes if the kernel has `lost` messages. True: links, addresses
    /// or routes may have changed.
    fn take_in(&self, message: NetlinkMessage<RouteNetlinkMessage>, lost: &Cell<bool>) -> bool {
        match message.payload {
            NetlinkPayload::InnerMessage(message) => self.hear(&message),
            NetlinkPayload::Overrun(_) | NetlinkPayload::Error(_) => {
                lost.set(true);
                true
            }
            _ => false,
        }
    }

    /// Takes in a message. True: links, addresses or routes changed.
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
        // There are as many unanswering neighbours as anybody asks for, so they get no entry of their own.
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

    /// Reads the neighbours. If messages about them may have been lost, those that the kernel no longer has are
    /// forgotten.
    async fn read_neighbours(&self, handle: &Handle, may_have_lost: bool) -> Result<()> {
        let found = mirror::read_neighbours(handle).await?;
        if may_have_lost {
            self.forget_others(&found);
        }
        for neighbour in found {
            // An old failure says nothing about what waits now.
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

    /// Asks again for the next hops that frames wait for, in case a message from the kernel was lost.
    async fn ask_again(&self, handle: &Handle) {
        let is_any_awaited = self.state.borrow().pump.awaited().next().is_some();
        if is_any_awaited && let Err(error) = self.read_neighbours(handle, false).await {
            tracing::debug!("{error:#}");
        }
    }

    /// Makes the kernel confirm the neighbours in use that have become stale: it does not see the traffic itself, and
    /// would forget them.
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
}
