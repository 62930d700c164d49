//! The control core's side: it owns the configuration and hands snapshots of it to the workers, runs
//! the timers and gives back what is over.

use std::sync::Arc;

use director_flow::{
    Clock, Grace, Index, Keeper, Options, Policy, Progress, Record, Table, Tick, V4, Verdict,
};
use director_packet::ethernet::HEADER;
use director_packet::fragment;
use director_packet::icmp::{self, MAX_ERROR};
use director_packet::nat::{End, set_macs};
use director_packet::{Change, Endpoint4, Verdict as Parsed, parse};

use crate::adjacency::Adjacencies;
use crate::catalog::Catalog;
use crate::entry;
use crate::fib::Fib;
use crate::limiter::Limiter;
use crate::mark::MarkRule;
use crate::pressure::Pressure;
use crate::reason::Reason;
use crate::servers::Servers;
use crate::snapshot::{PortView, Snapshot, Sysctls};
use crate::state::{State, Timeouts};
use crate::templates::{self, Sweep, Templates};
use crate::worker::{Shared, Worker};

/// How many next hops there is room for.
const ADJACENCIES: usize = 1 << 18;

/// How many persistence templates there is room for if nobody says.
const TEMPLATES: u32 = 1_000_000;

/// In [`Control::connections`], the places of templates.
const AMONG_TEMPLATES: u32 = 1 << 31;

/// How many entries are looked at in one turn when those of deleted servers end.
const SCAN: u32 = 10_000;

/// The network as the kernel, or the configuration file, has it.
#[derive(Clone, Debug, Default)]
pub struct Network {
    /// The ports.
    pub ports: Vec<PortView>,
    /// The director's own addresses, host order.
    pub local: Vec<u32>,
    /// The routing table.
    pub fib: Arc<Fib>,
    /// `net.ipv4.ip_forward`.
    pub ip_forward: bool,
}

/// What an entry of a listing is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A connection.
    Connection,
    /// A persistence template; `assured` once a connection of it was established.
    Template {
        /// Whether one was.
        assured: bool,
    },
}

/// A connection, or a persistence template, as listings show it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Connection {
    /// Which of them.
    pub kind: Kind,
    /// The IP protocol number; 0 for a template of a firewall mark.
    pub protocol: u8,
    /// The client. Of a template, what the service looks at of its address, and port 0.
    pub client: Endpoint4,
    /// The virtual service. Of a template, port 0 if it is for all ports and 65535 if it is no longer used.
    pub service: Endpoint4,
    /// The real server.
    pub server: Endpoint4,
    /// Its state.
    pub state: State,
    /// Whole seconds until it ends if nothing comes.
    pub seconds: u32,
}

/// Ends what is over.
struct Expiry<'a> {
    servers: &'a Servers,
    templates: &'a Templates,
    now: Tick,
}

impl Policy<V4> for Expiry<'_> {
    fn expired(&mut self, _: Index, _: &Record<V4>, _: Clock) -> Verdict {
        Verdict::Remove
    }

    fn removed(&mut self, index: Index, record: &Record<V4>) {
        self.servers.unbind(entry::slot(record), entry::state(record));
        self.templates.leave(index, self.now);
    }
}

impl Connection {
    /// The name of its state, as listings show it.
    #[must_use]
    pub const fn state_name(&self) -> &'static str {
        match self.kind {
            Kind::Template { assured: true } => "ASSURED",
            _ => self.state.name(),
        }
    }
}

/// A template, as IPVS lists it.
fn template(row: &templates::Row) -> Connection {
    let service = Endpoint4::from_word(row.key.service);
    let port = |port| match service.port() {
        _ if !row.is_valid => u16::MAX,
        0 => 0,
        _ => port,
    };
    Connection {
        kind: Kind::Template { assured: row.is_assured },
        protocol: (row.key.service >> 8) as u8,
        client: Endpoint4::new(row.key.client, 0),
        service: Endpoint4::new(service.address(), port(service.port())),
        server: Endpoint4::new(row.server.address(), port(row.server.port())),
        state: State::None,
        seconds: row.seconds,
    }
}

/// The control core's state.
pub struct Control {
    /// The services. [`Self::publish`] makes a change known to the workers.
    pub catalog: Catalog,
    shared: Arc<Shared>,
    table: Arc<Table<V4>>,
    keeper: Keeper<V4>,
    timeouts: Timeouts,
    sysctls: Sysctls,
    marks: Arc<[MarkRule]>,
    network: Network,
    fib_epoch: u32,
    /// How many servers had been deleted when the configuration was last published.
    deletions: u32,
    /// How often it was published.
    serial: u32,
    /// Snapshots that a worker may still hold: dropped here, so that no worker ever frees memory.
    retired: Vec<Arc<Snapshot>>,
    /// Until when slots of deleted servers wait.
    collecting: Option<Grace>,
    /// Where the search for entries of deleted servers stands.
    purging: Option<u32>,
    pressure: Pressure,
    sweep: Sweep,
    limiter: Limiter,
    identification: u16,
}

impl Control {
    /// A table of these options, the workers for it and the control of both, with room for a million persistence
    /// templates.
    pub fn new(options: &Options) -> Result<(Self, Vec<Worker>), director_flow::CreateError> {
        Self::with_templates(options, TEMPLATES)
    }

    /// As [`Self::new`], with room for so many persistence templates, at most [`templates::MAX_TEMPLATES`].
    pub fn with_templates(
        options: &Options,
        templates: u32,
    ) -> Result<(Self, Vec<Worker>), director_flow::CreateError> {
        let servers = Arc::new(Servers::new(options.workers));
        let (table, locals, keeper) = Table::<V4>::create(options)?;
        let templates = Templates::new(templates, options.capacity);
        let shared = Arc::new(Shared::new(servers.clone(), Adjacencies::new(ADJACENCIES), templates));
        let workers = locals.into_iter().map(|local| Worker::new(shared.clone(), local)).collect();
        let control = Self {
            catalog: Catalog::new(servers),
            shared,
            table,
            keeper,
            timeouts: Timeouts::default(),
            sysctls: Sysctls::default(),
            marks: Arc::new([]),
            network: Network::default(),
            fib_epoch: entry::FIRST_EPOCH,
            deletions: 0,
            serial: 0,
            retired: Vec::new(),
            collecting: None,
            purging: None,
            pressure: Pressure::default(),
            sweep: Sweep::default(),
            limiter: Limiter::default(),
            identification: 0,
        };
        Ok((control, workers))
    }

    /// What workers share.
    #[must_use]
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// The connection table.
    #[must_use]
    pub fn table(&self) -> &Arc<Table<V4>> {
        &self.table
    }

    /// The timeouts.
    #[must_use]
    pub fn timeouts(&self) -> &Timeouts {
        &self.timeouts
    }

    /// Sets the timeouts; a running timer changes with the next packet of its connection.
    pub fn set_timeouts(&mut self, timeouts: Timeouts) {
        self.timeouts = timeouts;
        self.publish();
    }

    /// The switches.
    #[must_use]
    pub fn sysctls(&self) -> &Sysctls {
        &self.sysctls
    }

    /// Sets the switches.
    pub fn set_sysctls(&mut self, sysctls: Sysctls) {
        self.sysctls = sysctls;
        self.publish();
    }

    /// Sets which new connections have a firewall mark.
    pub fn set_marks(&mut self, rules: Vec<MarkRule>) {
        self.marks = rules.into();
        self.publish();
    }

    /// The network as it was last set.
    #[must_use]
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// Sets what is known of the network. Every connection finds its ways again where routes changed.
    pub fn set_network(&mut self, network: Network) {
        if !Arc::ptr_eq(&self.network.fib, &network.fib) {
            self.fib_epoch = entry::next_epoch(self.fib_epoch);
        }
        self.shared.adjacencies.set_exits(network.ports.iter().map(PortView::exit).collect());
        self.network = network;
        self.publish();
    }

    /// Makes the configuration known to the workers, each of which takes it up with its next burst.
    ///
    /// Where a server was deleted, every connection finds its way again, and those of that server find that it is
    /// gone: no other packet need ask.
    pub fn publish(&mut self) {
        let deletions = self.shared.servers.deletions();
        if deletions != self.deletions {
            self.deletions = deletions;
            self.fib_epoch = entry::next_epoch(self.fib_epoch);
        }
        self.catalog.renew();
        let services = self.catalog.services().map(crate::catalog::Service::view);
        let mut snapshot = Snapshot::new(
            &self.network,
            self.fib_epoch,
            self.timeouts,
            self.sysctls,
            self.marks.clone(),
            services,
        );
        self.serial = self.serial.wrapping_add(1);
        snapshot.serial = self.serial;
        let old = self.shared.snapshot.swap(Arc::new(snapshot));
        self.catalog.published();
        self.retired.push(old);
        self.retired.retain(|snapshot| Arc::strong_count(snapshot) > 1);
    }

    /// Ends the connections of deleted servers, if `expire_nodest_conn` says so. To be called after a
    /// server or a service was deleted.
    pub fn purge(&mut self) {
        if self.sysctls.expire_nodest_conn {
            self.purging = Some(0);
        }
    }

    /// Runs the timers and gives back what is over, at most about `budget` steps of it. To be called
    /// every 100 ms or more often.
    pub fn poll(&mut self, now: Tick, budget: usize) -> Progress {
        self.retired.retain(|snapshot| Arc::strong_count(snapshot) > 1);
        let Shared { servers, templates, .. } = &*self.shared;
        let mut expiry = Expiry { servers, templates, now };
        if let Some(from) = self.purging {
            let mut doomed = Vec::new();
            self.purging = self.table.scan(from, SCAN, |index, record| {
                if self.shared.servers.is_gone(entry::slot(record)) {
                    doomed.push(index);
                }
            });
            for index in doomed {
                self.keeper.remove(index, &mut expiry);
            }
        }
        let mut progress = self.keeper.poll(now, budget, &mut expiry);
        self.shared.fragments.expire(now);
        progress.behind |= self.purging.is_some();
        templates.sweep(&mut self.sweep, now, servers);
        if self.sysctls.drop_entry {
            let Self { pressure, keeper, table, .. } = self;
            progress.behind |= pressure.apply(table, now, budget, |index| {
                keeper.remove(index, &mut expiry);
            });
        } else {
            self.pressure.rest();
        }
        if self.collecting.is_none_or(|grace| self.keeper.passed(grace)) {
            self.catalog.collect();
            self.collecting = self.catalog.has_trash().then(|| self.keeper.grace());
        }
        progress
    }

    /// The fragments that were taken ([`crate::Verdict::Keep`]) and given up since this was last asked: the port they
    /// came in on, why, and how many.
    pub fn take_lost_fragments(&self, each: impl FnMut(u8, Reason, u64)) {
        self.shared.fragments.take_losses(each);
    }

    /// Workers that have kept others waiting for so many ticks.
    #[must_use]
    pub fn stalled(&self, now: Tick, ticks: u32) -> Vec<usize> {
        self.keeper.stalled(now, ticks)
    }

    /// Tells a client that its packet did not reach the next hop: `frame` is the packet as it waited,
    /// translated, `service` the virtual service that it was for. Returns the frame to send and its
    /// port, where the client may be told and the way to it is known.
    pub fn host_unreachable(
        &mut self,
        frame: &mut [u8],
        service: Endpoint4,
        milliseconds: u32,
    ) -> Option<(u8, Vec<u8>)> {
        let mac = director_packet::Mac(*frame.first_chunk()?);
        // Of a packet in several buffers this is the first; that is enough.
        let segment = match parse(frame, usize::MAX, mac) {
            Parsed::Segment(segment) => segment,
            Parsed::Fragment { .. } => fragment::beginning(frame.get(HEADER..)?)?,
            _ => return None,
        };
        let client = segment.source.address();
        let hop = self.network.fib.hop(client)?;
        let link = self.shared.adjacencies.link(self.shared.adjacencies.entry(hop).ok()?);
        let port = self.network.ports.get(usize::from(link.port))?;
        if !self.limiter.allows(client, milliseconds) {
            return None;
        }
        Change::between(segment.destination, service).put_back(frame, &segment, End::Destination);
        let mut body = [0; MAX_ERROR];
        self.identification = self.identification.wrapping_add(1);
        let packet = frame.get(HEADER..)?;
        let error = icmp::Error::HostUnreachable;
        let length = icmp::error(error, packet, service.address(), self.identification, &mut body);
        if length == 0 {
            return None;
        }
        let mut out = vec![0; HEADER];
        set_macs(&mut out, link.mac?, port.mac);
        out[12..14].copy_from_slice(&director_packet::ethernet::ether_type::IPV4);
        out.extend(&body[..length]);
        Some((link.port, out))
    }

    /// Lists connections, then persistence templates: those of `count` places from `from` on. Returns where to go
    /// on.
    pub fn connections(
        &self,
        now: Tick,
        from: u32,
        count: u32,
        mut each: impl FnMut(Connection),
    ) -> Option<u32> {
        if from >= AMONG_TEMPLATES {
            let Shared { servers, templates, .. } = &*self.shared;
            let each = |row| each(template(&row));
            let next = templates.list(now, from - AMONG_TEMPLATES, count, servers, each);
            return next.map(|next| next + AMONG_TEMPLATES);
        }
        let next = self.table.scan(from, count, |_, record| {
            let clock = record.clock();
            each(Connection {
                kind: Kind::Connection,
                protocol: record.end().protocol(),
                client: entry::client(record),
                service: entry::service(record),
                server: entry::server(record),
                state: State::of(record.end().protocol(), clock.state()),
                seconds: clock.seconds_left(now),
            });
        });
        next.or((self.shared.templates.count() > 0).then_some(AMONG_TEMPLATES))
    }

    /// How many connections there are, persistence templates not counted.
    #[must_use]
    pub fn active(&self) -> u64 {
        self.table.counters().active
    }
}
