//! The control core's side: it owns the configuration, hands snapshots of it to the workers, runs the timers and
//! frees what is over.

use std::sync::Arc;

use director_flow::{Grace, Options, Pages, Progress, Table, Tick, V4, V6};
use director_packet::ethernet::{HEADER, ether_type};
use director_packet::fragment;
use director_packet::icmp::{self, MAX_ERROR};
use director_packet::ipip;
use director_packet::nat::{End, set_macs};
use director_packet::{Address, Change, Endpoint, Mac, UDP, Verdict as Parsed, parse};

use crate::adjacency::{Adjacencies, Adjacency};
use crate::catalog::Catalog;
use crate::entry::{self, Entry};
use crate::fib::Fib;
use crate::ftp::Ftp;
use crate::limiter::{IcmpLimits, Limiter};
use crate::mark::MarkRule;
use crate::reason::Reason;
use crate::servers::Servers;
use crate::sip::CallId;
use crate::snapshot::{Own, PortView, Snapshot, Sysctls};
use crate::sources::Source;
use crate::state::{State, Timeouts};
use crate::tables::{Cycle, Kept};
use crate::templates::{self, Sweep, Templates};
use crate::worker::{Shared, Worker};

/// How many deleted servers are looked at in one turn, at most: some hundred nanoseconds each.
const COLLECTED: usize = 250;

/// How many next hops there is room for.
const ADJACENCIES: usize = 1 << 18;

/// How many persistence templates there is room for by default.
const TEMPLATES: u32 = 1_000_000;

/// Where the places of connections over IPv6, and those of templates, begin in [`Control::connections`]: each kind
/// has up to 32 bits.
const AMONG_V6: u64 = 1 << 32;
const AMONG_TEMPLATES: u64 = 2 << 32;

/// The network, from the kernel or the configuration file.
#[derive(Clone, Debug, Default)]
pub struct Network {
    /// The ports.
    pub ports: Vec<PortView>,
    /// The director's own addresses.
    pub local: Vec<Address>,
    /// The routing tables.
    pub fib: Arc<Fib>,
    /// The director's own addresses by their ports, in the kernel's order.
    pub sources: Arc<[Source]>,
    /// `net.ipv4.ip_forward`.
    pub ip_forward: bool,
    /// `net.ipv6.conf.all.forwarding`.
    pub ip_forward_v6: bool,
    /// The switches for ICMP errors.
    pub icmp_limits: IcmpLimits,
}

/// What kind of entry a listing shows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A connection.
    Connection,
    /// A persistence template; `assured` once a connection of it was established.
    Template {
        /// Whether a connection of it was ever established.
        assured: bool,
    },
}

/// A connection, or a persistence template, as listings show it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Connection {
    /// Its kind.
    pub kind: Kind,
    /// The IP protocol number; 0 for a template of a firewall mark.
    pub protocol: u8,
    /// The client. For a template, the part of its address that the service looks at, and port 0.
    pub client: Endpoint,
    /// The virtual service. For a template, port 0 if it is for all ports and 65535 if it is no longer used.
    pub service: Endpoint,
    /// The real server.
    pub server: Endpoint,
    /// For a template, the call it belongs to, where a persistence engine looked for one.
    pub call: Option<CallId>,
    /// Its state.
    pub state: State,
    /// Whole seconds until it ends if no packet comes.
    pub seconds: u32,
}

impl Connection {
    /// The name of its state, as listings show it.
    #[must_use]
    pub const fn state_name(&self) -> &'static str {
        match self.kind {
            Kind::Template { assured: true } => "ASSURED",
            // The kernel has only one state for UDP.
            Kind::Connection if self.protocol == UDP => State::Udp.name(),
            _ => self.state.name(),
        }
    }
}

/// A template, as IPVS lists it.
fn template(row: &templates::Row) -> Connection {
    let service = match row.key.service.end {
        // The kernel shows the mark in place of an IPv4 address.
        Endpoint::V6(end) if row.key.service.protocol == 0 => Endpoint::v6(end.address() << 96, 0),
        end => end,
    };
    let port = |port| match service.port() {
        _ if !row.is_valid => u16::MAX,
        0 => 0,
        _ => port,
    };
    Connection {
        kind: Kind::Template { assured: row.is_assured },
        protocol: row.key.service.protocol,
        client: Endpoint::of(row.key.client, 0),
        service: service.with_port(port(service.port())),
        server: row.server.with_port(port(row.server.port())),
        call: row.call,
        state: State::None,
        seconds: row.seconds,
    }
}

/// The control core's state.
pub struct Control {
    /// The services. [`Self::publish`] makes a change known to the workers.
    pub catalog: Catalog,
    /// Whether [`Self::settle`] has something to do.
    is_changed: bool,
    /// Whether it has to end connections of deleted servers.
    is_purging: bool,
    shared: Arc<Shared>,
    v4: Kept<V4>,
    v6: Kept<V6>,
    timeouts: Timeouts,
    sysctls: Sysctls,
    marks: Arc<[MarkRule]>,
    network: Network,
    own: Arc<Own>,
    fib_epoch: u32,
    /// How many servers had been deleted when the configuration was last published.
    deletions: u32,
    /// As many were when connections of deleted servers were last looked for.
    purged: u32,
    /// How often it was published.
    serial: u32,
    /// The next hops that were retired, and from when on no worker can have their numbers.
    retired_hops: Option<(Grace, Vec<Adjacency>)>,
    /// Snapshots that a worker may still hold. They are dropped here, so that no worker ever frees memory.
    retired: Vec<Arc<Snapshot>>,
    /// Until when the slots of deleted servers wait.
    collecting: Option<Grace>,
    sweep: Sweep,
    limiter: Limiter,
    identification: u16,
}

impl Control {
    /// Makes the tables with these options, the workers and the control of them, with room for a million persistence
    /// templates.
    pub fn new(options: &Options) -> Result<(Self, Vec<Worker>), director_flow::CreateError> {
        Self::with_templates(options, TEMPLATES)
    }

    /// As [`Self::new`], with room for so many persistence templates: at most [`templates::MAX_TEMPLATES`].
    pub fn with_templates(
        options: &Options,
        templates: u32,
    ) -> Result<(Self, Vec<Worker>), director_flow::CreateError> {
        // Memory that nobody touches costs nothing, unless it is in huge pages.
        let v6 = Options { pages: Pages::Unreserved, populate: false, ..options.clone() };
        Self::with_v6(options, &v6, templates)
    }

    /// As [`Self::with_templates`], with options of their own for connections over IPv6.
    pub fn with_v6(
        v4: &Options,
        v6: &Options,
        templates: u32,
    ) -> Result<(Self, Vec<Worker>), director_flow::CreateError> {
        let servers = Arc::new(Servers::new(v4.workers));
        let (v4, locals) = Kept::create(v4, 0)?;
        let first = v4.table.capacity();
        let (v6, locals_v6) = Kept::create(&Options { workers: locals.len(), ..v6.clone() }, first)?;
        let entries = first + v6.table.capacity();
        let (templates, adjacencies) = (Templates::new(templates, entries), Adjacencies::new(ADJACENCIES));
        let shared = Arc::new(Shared::new(servers.clone(), adjacencies, templates, Ftp::new(entries)));
        let locals = locals.into_iter().zip(locals_v6);
        let workers = locals.map(|(v4, v6)| Worker::new(shared.clone(), v4, v6)).collect();
        let control = Self {
            catalog: Catalog::new(servers),
            is_changed: false,
            is_purging: false,
            shared,
            v4,
            v6,
            timeouts: Timeouts::default(),
            sysctls: Sysctls::default(),
            marks: Arc::new([]),
            network: Network::default(),
            own: Arc::default(),
            fib_epoch: entry::FIRST_EPOCH,
            deletions: 0,
            purged: 0,
            serial: 0,
            retired_hops: None,
            retired: Vec::new(),
            collecting: None,
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

    /// The connection table of IPv4.
    #[must_use]
    pub fn table(&self) -> &Arc<Table<V4>> {
        &self.v4.table
    }

    /// The connection table of IPv6.
    #[must_use]
    pub fn table_v6(&self) -> &Arc<Table<V6>> {
        &self.v6.table
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
        self.catalog.list_servers(sysctls.nat_icmp_send);
        self.publish();
    }

    /// Sets the rules that give new connections firewall marks.
    pub fn set_marks(&mut self, rules: Vec<MarkRule>) {
        self.marks = rules.into();
        self.publish();
    }

    /// The rules that give new connections firewall marks.
    #[must_use]
    pub fn marks(&self) -> &[MarkRule] {
        &self.marks
    }

    /// Sets timeouts, switches and marks together. Workers see them with the next publication.
    pub fn prepare(&mut self, timeouts: Timeouts, sysctls: Sysctls, marks: Vec<MarkRule>) {
        (self.timeouts, self.sysctls, self.marks) = (timeouts, sysctls, marks.into());
        self.catalog.list_servers(sysctls.nat_icmp_send);
    }

    /// The network as it was last set.
    #[must_use]
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// Whether an address is one of the director's own.
    #[must_use]
    pub fn is_own(&self, address: Address) -> bool {
        self.own.contains(address)
    }

    /// Sets what is known of the network. Where routes changed, every connection finds its ways again.
    pub fn set_network(&mut self, network: Network) {
        if !Arc::ptr_eq(&self.network.fib, &network.fib) {
            self.fib_epoch = entry::next_epoch(self.fib_epoch);
            network.fib.prepare();
        }
        self.shared.adjacencies.set_exits(network.ports.iter().map(PortView::exit).collect());
        self.own = Arc::new(Own::new(&network.local, network.fib.local()));
        self.network = network;
        self.publish();
    }

    /// Notes that services were changed; [`Self::settle`] must follow. This is for many changes in a row, which are
    /// published together.
    pub fn note_change(&mut self) {
        self.is_changed = true;
    }

    /// As [`Self::note_change`], where a service or a server was deleted.
    pub fn note_deletion(&mut self) {
        self.is_changed = true;
        self.is_purging = true;
    }

    /// Whether there is something to settle.
    #[must_use]
    pub fn is_changed(&self) -> bool {
        self.is_changed || self.is_purging
    }

    /// Publishes what was changed since the last call.
    pub fn settle(&mut self) {
        if self.is_changed {
            self.publish();
        }
        if std::mem::take(&mut self.is_purging) {
            self.purge();
        }
    }

    /// Makes the configuration known to the workers, each of which takes it up with its next burst.
    ///
    /// Where a server was deleted, every connection finds its ways again. Those of that server notice then that it is
    /// gone, so no other packet has to ask.
    pub fn publish(&mut self) {
        self.is_changed = false;
        let deletions = self.shared.servers.deletions();
        if deletions != self.deletions {
            self.deletions = deletions;
            self.fib_epoch = entry::next_epoch(self.fib_epoch);
        }
        if std::mem::take(&mut self.catalog.has_new_engine) {
            self.shared.templates.take_calls();
        }
        let directory = self.catalog.renew().clone();
        let mut snapshot = Snapshot::new(
            &self.network,
            self.own.clone(),
            self.fib_epoch,
            self.timeouts,
            self.sysctls,
            self.marks.clone(),
            directory,
        );
        self.serial = self.serial.wrapping_add(1);
        snapshot.serial = self.serial;
        let old = self.shared.snapshot.swap(Arc::new(snapshot));
        self.catalog.published();
        self.retired.push(old);
        self.retired.retain(|snapshot| Arc::strong_count(snapshot) > 1);
    }

    /// Deletes every service, at the same moment for every packet: one that still finds a service finds all of its
    /// servers.
    pub fn flush(&mut self) {
        self.catalog.vacate();
        self.publish();
        // Without services nothing asks for a server. The next publication, with the next service, makes every
        // connection find its ways again.
        self.catalog.flush_vacated();
        self.catalog.published();
        self.purge();
    }

    /// Ends the connections of deleted servers, if `expire_nodest_conn` says so: also of those that were deleted before
    /// it did, but no sooner than another is. To be called after a server or a service was deleted.
    pub fn purge(&mut self) {
        let deletions = self.shared.servers.deletions();
        if std::mem::replace(&mut self.purged, deletions) != deletions && self.sysctls.expire_nodest_conn {
            self.v4.purge();
            self.v6.purge();
            self.sweep.purge();
        }
    }

    /// Runs the timers and frees what is over, in about `budget` steps at most. To be called every 100 ms or more
    /// often.
    pub fn poll(&mut self, now: Tick, budget: usize) -> Progress {
        self.retired.retain(|snapshot| Arc::strong_count(snapshot) > 1);
        let Shared { servers, templates, ftp, .. } = &*self.shared;
        let cycle = Cycle { servers, templates, ftp, now, budget, drop_entry: self.sysctls.drop_entry };
        let mut progress = self.v4.poll(&cycle);
        progress.behind |= self.v6.poll(&cycle).behind;
        if self.v4.is_purging() || self.v6.is_purging() {
            // Templates end once their connections have ended.
            self.sweep.purge();
        }
        templates.sweep(&mut self.sweep, now, servers);
        if self.collecting.is_none_or(|grace| self.v4.keeper.passed(grace)) {
            self.catalog.collect(now, budget.min(COLLECTED));
            self.collecting = self.catalog.has_trash().then(|| self.v4.keeper.grace());
        }
        progress
    }

    /// Says what time of day it is, in milliseconds since midnight UT, at `milliseconds` of the clock that workers are given.
    /// To be called every second or more often: packets may ask for it.
    pub fn set_time_of_day(&self, milliseconds: u32, since_midnight: u32) {
        self.shared.set_time_of_day(milliseconds, since_midnight);
    }

    /// Gives up packets of which fragments are missing for too long. Who sent the first fragment of one is told, back
    /// the way it came, as often as the rate limit allows: `send` is given the port and the frame. To be called as
    /// often as [`Self::poll`]; `milliseconds` are of any clock.
    pub fn expire_fragments(&mut self, now: Tick, milliseconds: u32, mut send: impl FnMut(u8, &[u8])) {
        let Self { shared, network, own, limiter, identification, .. } = self;
        shared.fragments.expire(now, |first| {
            let port = network.ports.get(usize::from(first.port()));
            let (Some(port), Some((_, header))) = (port, first.headers().split_first_chunk::<HEADER>())
            else {
                return;
            };
            let Some((source, destination)) = icmp::ends(header) else { return };
            let is_to_us = own.contains(destination);
            let from = if is_to_us { destination } else { port.address_for(Endpoint::of(destination, 0)) };
            let error = icmp::Error::ReassemblyTimeExceeded;
            let is_allowed = |limiter: &mut Limiter| {
                limiter.allows(&network.icmp_limits, &network.fib, error, source, milliseconds)
            };
            if from.is_unspecified() || !is_allowed(limiter) {
                return;
            }
            let frame = first.frame(MAX_ERROR);
            let (Some(back), Some(packet)) =
                (frame.get(6..12).and_then(<[u8]>::first_chunk), frame.get(HEADER..))
            else {
                return;
            };
            *identification = identification.wrapping_add(1);
            if let Some(frame) = error_frame(error, packet, from, *identification, Mac(*back), port.mac) {
                send(first.port(), &frame);
            }
        });
    }

    /// Frees the places of next hops that nobody has used for a minute and that do not answer, once half of the
    /// places are taken. To be called after each [`Adjacencies::take_recent`], every 15 s: the places that one call
    /// retires are freed by the next. `is_awaited` says whether a frame waits for a next hop.
    pub fn sweep_next_hops(&mut self, is_awaited: impl Fn(Adjacency) -> bool) {
        let adjacencies = &self.shared.adjacencies;
        if let Some((grace, retired)) = &mut self.retired_hops {
            if self.v4.keeper.passed(*grace) {
                retired.retain(|way| {
                    is_awaited(*way) || {
                        adjacencies.free(*way);
                        false
                    }
                });
            }
            if retired.is_empty() {
                self.retired_hops = None;
            }
            return;
        }
        let retired = adjacencies.retire();
        if !retired.is_empty() {
            // No connection keeps a way to any of them any longer, and none finds a new one.
            self.fib_epoch = entry::next_epoch(self.fib_epoch);
            self.publish();
            self.retired_hops = Some((self.v4.keeper.grace(), retired));
        }
    }

    /// The fragments that were kept ([`crate::Verdict::Keep`]) and have been given up since the last call: the port
    /// they came in on, the reason, and how many.
    pub fn take_lost_fragments(&self, each: impl FnMut(u8, Reason, u64)) {
        self.shared.fragments.take_losses(each);
    }

    /// The workers that have kept others waiting for so many ticks.
    #[must_use]
    pub fn stalled(&self, now: Tick, ticks: u32) -> Vec<usize> {
        self.v4.keeper.stalled(now, ticks)
    }

    /// Tells a client that its packet did not reach the next hop. `frame` is the packet as it waited, translated;
    /// `service` is the virtual service it was for. Returns the port and the frame to send, if the client may be told
    /// and the way to it is known.
    pub fn host_unreachable(
        &mut self,
        frame: &mut [u8],
        service: Endpoint,
        milliseconds: u32,
    ) -> Option<(u8, Vec<u8>)> {
        let frame = ipip::unwrapped(frame);
        let mac = Mac(*frame.first_chunk()?);
        // The first buffer of a packet in several is enough.
        let segment = match parse(frame, usize::MAX, mac) {
            Parsed::Segment(segment) => segment,
            Parsed::Fragment { .. } => fragment::beginning(frame.get(HEADER..)?)?,
            _ => return None,
        };
        let client = segment.source.address();
        let hop = self.network.fib.hop(client)?;
        let link = self.shared.adjacencies.link(self.shared.adjacencies.entry(hop).ok()?);
        let port = self.network.ports.get(usize::from(link.port))?;
        let (error, Network { icmp_limits, fib, .. }) = (icmp::Error::HostUnreachable, &self.network);
        if !self.limiter.allows(icmp_limits, fib, error, client, milliseconds) {
            return None;
        }
        Change::between(segment.destination, service).put_back(frame, &segment, End::Destination);
        self.identification = self.identification.wrapping_add(1);
        let packet = frame.get(HEADER..)?;
        let frame = error_frame(error, packet, service.address(), self.identification, link.mac?, port.mac)?;
        Some((link.port, frame))
    }

    /// Lists connections, then persistence templates: those in `count` places, starting at `from`. Returns where to
    /// go on.
    pub fn connections(
        &self,
        now: Tick,
        from: u64,
        count: u32,
        mut each: impl FnMut(Connection),
    ) -> Option<u64> {
        // The rest of the number is the place in one table.
        let place = from as u32;
        if from >= AMONG_TEMPLATES {
            let Shared { servers, templates, .. } = &*self.shared;
            let each = |row| each(template(&row));
            let next = templates.list(now, place, count, servers, each);
            return next.map(|next| AMONG_TEMPLATES + u64::from(next));
        }
        let mut show = |entry: Entry<'_>| {
            let clock = entry.clock();
            each(Connection {
                kind: Kind::Connection,
                protocol: entry.protocol(),
                client: entry.client(),
                service: entry.service(),
                server: entry.server(),
                call: None,
                state: State::of(entry.protocol(), clock.state()),
                seconds: clock.seconds_left(now),
            });
        };
        if from < AMONG_V6 {
            let each = |index, record: &_| show(Entry::V4(index, record));
            return self.v4.table.scan(place, count, each).map(u64::from).or(Some(AMONG_V6));
        }
        let each = |index, record: &_| show(Entry::V6(index, record));
        let next = self.v6.table.scan(place, count, each).map(|next| AMONG_V6 + u64::from(next));
        next.or((self.shared.templates.count() > 0).then_some(AMONG_TEMPLATES))
    }

    /// How many connections over IPv6 there are.
    #[must_use]
    pub fn active_v6(&self) -> u64 {
        self.v6.table.counters().active
    }

    /// How many connections over IPv4 there are, without persistence templates.
    #[must_use]
    pub fn active(&self) -> u64 {
        self.v4.table.counters().active
    }
}

/// The frame of an ICMP error about an IP packet, if one may be sent about it.
fn error_frame(
    error: icmp::Error,
    packet: &[u8],
    from: Address,
    identification: u16,
    to_mac: Mac,
    from_mac: Mac,
) -> Option<Vec<u8>> {
    let mut body = [0; MAX_ERROR];
    let length = icmp::error(error, packet, from, identification, &mut body);
    if length == 0 {
        return None;
    }
    let mut frame = vec![0; HEADER];
    set_macs(&mut frame, to_mac, from_mac);
    frame[12..14].copy_from_slice(&ether_type::of(body[0]));
    frame.extend(&body[..length]);
    Some(frame)
}
