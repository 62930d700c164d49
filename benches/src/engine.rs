//! The director's engine in this process: a control core and a worker, with the network of the benchmarks,
//! on frames in plain memory. No device and no driver is measured, and nothing of the daemon's loop.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use director_engine::adjacency::Link;
use director_engine::control::Network;
use director_engine::fib::{Fib, Hop, Route};
use director_engine::limiter::IcmpLimits;
use director_engine::service::{Protocol, SchedulerKind, ServerSpec, ServiceKey, ServiceSpec};
use director_engine::snapshot::PortView;
use director_engine::state::{State, Timeouts};
use director_engine::{BURST, Batch, Control, Frames, Options, Tick, Verdict, Worker};
use director_packet::{Address, Endpoint, Mac};

use crate::common::{Clock, pin};
use crate::kind::{Kind, Protocol as Transport};
use crate::network::{CLIENTS, GATEWAY, PORT_ADDRESSES, PORT_MAC, SERVER_PORT, SERVICE, servers};
use crate::template::Slot;

/// The port that everything comes from and goes to.
const PORT: u8 = 0;

/// The capacity of a table that nothing comes into.
const UNUSED: u32 = 1024;

/// What the control core does in one turn, and how long it sleeps where nothing was left to do; as the
/// daemon has it.
const BUDGET: usize = 4096;
const NAP: Duration = Duration::from_micros(200);

/// A burst of frames in plain memory.
pub struct Burst {
    /// The frames.
    pub slots: [Slot; BURST],
    /// What became of them.
    pub verdicts: [Verdict; BURST],
    kind: Kind,
}

impl Burst {
    /// Nothing yet; of frames of this kind, each of the length of that.
    #[must_use]
    pub fn new(kind: Kind) -> Self {
        Self { slots: [Slot::EMPTY; BURST], verdicts: [Verdict::Kernel; BURST], kind }
    }

    /// How many of the frames are not to be sent.
    #[inline]
    #[must_use]
    pub fn unsent(&self) -> u64 {
        self.unsent_of(BURST)
    }

    /// How many of the first `count` frames are not to be sent.
    #[inline]
    #[must_use]
    pub fn unsent_of(&self, count: usize) -> u64 {
        self.verdicts[..count].iter().map(|verdict| u64::from(!matches!(verdict, Verdict::Send(PORT)))).sum()
    }

    /// What becomes of the frames that are not to be sent; for messages.
    #[must_use]
    pub fn complaint(&self) -> String {
        self.refused().map_or_else(String::new, |verdict| format!("{verdict:?}"))
    }

    /// The same as it was decided.
    #[must_use]
    pub fn refused(&self) -> Option<Verdict> {
        self.verdicts.iter().copied().find(|verdict| *verdict != Verdict::Send(PORT))
    }

    /// The place among the servers of the one that a translated frame goes to.
    #[inline]
    #[must_use]
    pub fn server(&self, at: usize) -> u8 {
        // The last byte of the destination's address.
        self.slots[at].0[self.kind.transport() - 1].wrapping_sub(11)
    }
}

struct Plain<'a> {
    slots: &'a mut [Slot],
    length: usize,
}

impl Frames for Plain<'_> {
    #[inline]
    fn count(&self) -> usize {
        self.slots.len()
    }

    #[inline]
    fn head(&mut self, at: usize) -> &mut [u8] {
        &mut self.slots[at].0[..self.length]
    }

    #[inline]
    fn length(&self, _: usize) -> usize {
        self.length
    }
}

/// A worker with its clock.
pub struct Core {
    worker: Worker,
    clock: Clock,
    batch: Batch,
}

impl Core {
    /// Has a full burst decided about, as the daemon's loop does: report, read the clock, process.
    #[inline]
    pub fn process(&mut self, burst: &mut Burst) {
        self.process_some(burst, BURST);
    }

    /// The same of the first `count` frames.
    #[inline]
    pub fn process_some(&mut self, burst: &mut Burst, count: usize) {
        let milliseconds = self.clock.milliseconds();
        self.process_at(burst, count, milliseconds);
    }

    /// The same at a time that is given, in milliseconds since the clock was calibrated.
    #[inline]
    pub fn process_at(&mut self, burst: &mut Burst, count: usize, milliseconds: u64) {
        self.worker.quiescent();
        let Burst { slots, verdicts, kind } = burst;
        let (frames, batch) =
            (&mut Plain { slots: &mut slots[..count], length: kind.length() }, &mut self.batch);
        self.worker.look(PORT, frames, batch);
        self.worker.seek(batch);
        let tick = Tick::from_millis(milliseconds);
        self.worker.decide(tick, milliseconds as u32, frames, batch, verdicts);
    }

    /// Goes offline: nothing waits for it.
    pub fn rest(&mut self) {
        self.worker.offline();
    }
}

/// The control core.
pub struct Keeper {
    /// The engine's.
    pub control: Control,
    clock: Clock,
}

/// A director of one worker with a service for packets of a kind, with room for so many connections and other
/// timeouts than IPVS's where these are given, in seconds.
///
/// # Errors
/// There is no memory.
pub fn director(kind: Kind, capacity: u32, clock: Clock, given: &[(State, u32)]) -> Result<(Keeper, Core)> {
    director_of(kind, &Options::new(capacity, 1), clock, given)
}

/// The same with a table of these options, which are for one worker.
///
/// # Errors
/// There is no memory.
pub fn director_of(
    kind: Kind,
    table: &Options,
    clock: Clock,
    given: &[(State, u32)],
) -> Result<(Keeper, Core)> {
    let other = Options { capacity: UNUSED, ..table.clone() };
    let (v4, v6) = if kind.is_v6() { (&other, table) } else { (table, &other) };
    let (mut control, mut workers) = Control::with_v6(v4, v6, UNUSED).context("no connection table")?;
    let host = |address: Ipv4Addr| Address::from(kind.address(address));
    let mut fib = Fib::default();
    let mut insert = |(address, length), route| {
        let (network, length) = kind.network(address, length);
        fib.insert((network.into(), length), route);
    };
    for address in PORT_ADDRESSES {
        insert((address, 24), Route::Link { port: PORT });
    }
    insert(CLIENTS, Route::Gateway { port: PORT, gateway: host(GATEWAY.0) });
    let (address, address_v6) = match host(PORT_ADDRESSES[0]) {
        Address::V4(address) => (address, 0),
        Address::V6(address) => (0, address),
    };
    let port = PortView { mac: Mac(PORT_MAC), mtu: 1500, up: true, twin: false, address, address_v6 };
    control.set_network(Network {
        sources: Arc::default(),
        ports: vec![port],
        local: PORT_ADDRESSES.map(host).to_vec(),
        fib: Arc::new(fib),
        ip_forward: true,
        ip_forward_v6: true,
        icmp_limits: IcmpLimits::default(),
    });
    for (address, mac) in [GATEWAY].into_iter().chain(servers()) {
        let adjacencies = &control.shared().adjacencies;
        let way = adjacencies.entry(Hop { port: PORT, address: host(address) })?;
        adjacencies.set(way, Some(Mac(mac)));
        if adjacencies.link(way) != (Link { port: PORT, mac: Some(Mac(mac)) }) {
            bail!("the director does not know where {address} is");
        }
    }
    let endpoint = |address: Ipv4Addr, port| Endpoint::of(host(address), port);
    let protocol = match kind.protocol {
        Transport::Tcp => Protocol::Tcp,
        Transport::Udp => Protocol::Udp,
    };
    let key = ServiceKey { protocol, address: endpoint(*SERVICE.ip(), SERVICE.port()) };
    let spec = ServiceSpec::new(SchedulerKind::RoundRobin);
    control.catalog.add_service(key, spec)?;
    for (address, _) in servers() {
        control.catalog.add_server(key, endpoint(address, SERVER_PORT), ServerSpec::default())?;
    }
    let mut timeouts = Timeouts::default();
    for (state, seconds) in given {
        timeouts.set(*state, *seconds);
    }
    control.set_timeouts(timeouts);
    let worker = workers.pop().context("no worker was made")?;
    let mut keeper = Keeper { control, clock };
    // Its clock begins where that of the workers does.
    keeper.turn();
    Ok((keeper, Core { worker, clock, batch: Batch::new() }))
}

impl Keeper {
    /// One turn of the control core. False: there is nothing left to do just now.
    pub fn turn(&mut self) -> bool {
        let now = Tick::from_millis(self.clock.milliseconds());
        self.control.poll(now, BUDGET).behind
    }

    /// Runs the control core on a CPU of its own while `work` is done here.
    ///
    /// # Errors
    /// `work` failed, or there is no such CPU.
    pub fn serve<T>(&mut self, cpu: u32, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let serving = scope.spawn(|| {
                pin(cpu)?;
                // Relaxed: the flag carries nothing but itself.
                while !stop.load(Ordering::Relaxed) {
                    if !self.turn() {
                        std::thread::sleep(NAP);
                    }
                }
                Ok(())
            });
            let done = work();
            stop.store(true, Ordering::Relaxed);
            match serving.join() {
                Ok(served) => served.and(done),
                Err(_) => bail!("the control core panicked"),
            }
        })
    }
}
