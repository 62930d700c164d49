//! A simulated director: control and workers, two ports, hosts whose MAC addresses are known, a clock.
//!
//! ```text
//! 192.168.18.0/24          front: .58, .59   back: .90          192.168.2.0/24
//! client .10, router .1 ---------- director ---------- servers .71 to .74, router .1
//! 2001:db8:18::/64         the same hosts, by ::10 and so on    2001:db8:2::/64
//! ```

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use director_engine::adjacency::Link;
use director_engine::control::Network;
use director_engine::fib::{Fib, Hop, Route};
use director_engine::limiter::IcmpLimits;
use director_engine::servers::{Load, Traffic};
use director_engine::service::{Protocol, SchedulerKind, ServerSpec, ServiceKey, ServiceSpec};
use director_engine::snapshot::{PortView, Sysctls};
use director_engine::sources::Source;
use director_engine::state::{State, Timeouts};
use director_engine::{BURST, Control, Frames, Options, Reason, Tick, Verdict, Worker};
use director_flow::locks_taken;
use director_packet::{Address, Endpoint, Mac};

use super::packet::{Packet, describe, host_of, mac_of};

pub(crate) const FRONT: u8 = 0;
pub(crate) const BACK: u8 = 1;
pub(crate) const PORT_NAMES: [&str; 2] = ["front", "back"];
pub(crate) const PORT_MACS: [Mac; 2] = [Mac([2, 0, 0, 0, 0, 0xf0]), Mac([2, 0, 0, 0, 0, 0xb0])];

pub(crate) const CLIENT: &str = "192.168.18.10:2001";
pub(crate) const VIP: &str = "192.168.18.58:80";
pub(crate) const SERVERS: [&str; 3] = ["192.168.2.71:80", "192.168.2.72:80", "192.168.2.73:80"];

pub(crate) const RR: ServiceSpec = ServiceSpec::new(SchedulerKind::RoundRobin);

/// Frames in vectors.
pub(crate) struct Burst {
    pub(crate) frames: Vec<Vec<u8>>,
    /// Only so many bytes of each lie together; the rest is elsewhere.
    pub(crate) head: usize,
}

impl Frames for Burst {
    fn count(&self) -> usize {
        self.frames.len()
    }

    fn head(&mut self, at: usize) -> &mut [u8] {
        let head = self.head.min(self.frames[at].len());
        &mut self.frames[at][..head]
    }

    fn length(&self, at: usize) -> usize {
        self.frames[at].len()
    }

    fn resize(&mut self, at: usize, length: usize) -> bool {
        if self.head < self.frames[at].len() {
            return false;
        }
        self.frames[at].resize(length, 0xee);
        true
    }

    fn prepend(&mut self, at: usize, count: usize) -> bool {
        self.frames[at].splice(..0, std::iter::repeat_n(0xee, count));
        true
    }
}

pub(crate) fn point(text: &str) -> Endpoint {
    text.parse::<SocketAddr>().unwrap().into()
}

pub(crate) fn ip(text: &str) -> Address {
    text.parse::<IpAddr>().unwrap().into()
}

pub(crate) fn key(protocol: Protocol, vip: &str) -> ServiceKey {
    ServiceKey { protocol, address: point(vip) }
}

pub(crate) fn tcp_key(vip: &str) -> ServiceKey {
    key(Protocol::Tcp, vip)
}

pub(crate) fn weight(weight: u32) -> ServerSpec {
    ServerSpec { weight, ..ServerSpec::default() }
}

pub(crate) struct Lab {
    pub(crate) control: Control,
    pub(crate) workers: Vec<Worker>,
    pub(crate) network: Network,
    pub(crate) milliseconds: u64,
    /// What the control core has sent: the port and the frame.
    pub(crate) told: Vec<(u8, Vec<u8>)>,
    /// Locks that workers took for bursts without a new connection, and for those with one.
    pub(crate) locks: [u64; 2],
}

impl Lab {
    /// A director of one worker with a TCP service on [`VIP`] and the [`SERVERS`], added in this order.
    pub(crate) fn new() -> Self {
        let mut lab = Self::empty(1000, 1);
        lab.serve(tcp_key(VIP), &SERVERS);
        lab
    }

    /// A director without services.
    pub(crate) fn empty(capacity: u32, workers: usize) -> Self {
        Self::with_templates(capacity, workers, 1000)
    }

    /// Likewise, with room for so many persistence templates.
    pub(crate) fn with_templates(capacity: u32, workers: usize, templates: u32) -> Self {
        let options = Options { seed: Some(1), ..Options::new(capacity, workers) };
        let (control, workers) = Control::with_templates(&options, templates).unwrap();
        let mut fib = Fib::default();
        fib.insert((ip("192.168.18.0"), 24), Route::Link { port: FRONT });
        fib.insert((ip("192.168.2.0"), 24), Route::Link { port: BACK });
        fib.insert((ip("0.0.0.0"), 0), Route::Gateway { port: FRONT, gateway: ip("192.168.18.1") });
        fib.insert((ip("2001:db8:18::"), 64), Route::Link { port: FRONT });
        fib.insert((ip("2001:db8:2::"), 64), Route::Link { port: BACK });
        fib.insert((ip("::"), 0), Route::Gateway { port: FRONT, gateway: ip("2001:db8:18::1") });
        let port = |mac, address: &str, address_v6: &str| PortView {
            mac,
            mtu: 1500,
            up: true,
            twin: true,
            address: address.parse::<Ipv4Addr>().unwrap().into(),
            address_v6: address_v6.parse::<Ipv6Addr>().unwrap().into(),
        };
        let local = ["192.168.18.58", "192.168.18.59", "192.168.2.90"];
        let local_v6 = ["2001:db8:18::58", "2001:db8:18::59", "2001:db8:2::90", "fe80::1"];
        let own = [
            (FRONT, "192.168.18.58", 24),
            (BACK, "192.168.2.90", 24),
            (FRONT, "2001:db8:18::58", 64),
            (BACK, "2001:db8:2::90", 64),
        ];
        let network = Network {
            ports: vec![
                port(PORT_MACS[0], "192.168.18.58", "2001:db8:18::58"),
                port(PORT_MACS[1], "192.168.2.90", "2001:db8:2::90"),
            ],
            local: local.iter().chain(&local_v6).map(|address| ip(address)).collect(),
            fib: Arc::new(fib),
            sources: own.map(|(port, address, prefix)| Source { port, address: ip(address), prefix }).into(),
            ip_forward: true,
            ip_forward_v6: true,
            icmp_limits: IcmpLimits::default(),
        };
        let mut lab =
            Self { control, workers, network, milliseconds: 5_000, told: Vec::new(), locks: [0; 2] };
        for host in [1, 10, 11] {
            lab.set_neighbour(FRONT, &format!("192.168.18.{host}"), true);
            lab.set_neighbour(FRONT, &format!("2001:db8:18::{host}"), true);
        }
        for host in [1, 71, 72, 73, 74] {
            lab.set_neighbour(BACK, &format!("192.168.2.{host}"), true);
            lab.set_neighbour(BACK, &format!("2001:db8:2::{host}"), true);
        }
        lab.renew_network();
        lab.control.poll(lab.now(), 1000);
        lab
    }

    /// Makes a change of [`Self::network`] known.
    pub(crate) fn renew_network(&mut self) {
        self.control.set_network(self.network.clone());
    }

    /// Changes the routes.
    pub(crate) fn route(&mut self, change: impl FnOnce(&mut Fib)) {
        let mut fib = (*self.network.fib).clone();
        change(&mut fib);
        self.network.fib = Arc::new(fib);
        self.renew_network();
    }

    pub(crate) fn set_route(&mut self, prefix: &str, length: u8, route: Route) {
        self.route(|fib| {
            fib.insert((ip(prefix), length), route);
        });
    }

    pub(crate) fn set_neighbour(&mut self, port: u8, host: &str, known: bool) {
        let mac = known.then(|| mac_of(host.parse().unwrap()));
        self.set_mac(port, host, mac);
    }

    pub(crate) fn set_mac(&mut self, port: u8, host: &str, mac: Option<Mac>) {
        let adjacencies = &self.control.shared().adjacencies;
        let way = adjacencies.entry(Hop { port, address: ip(host) }).unwrap();
        adjacencies.set(way, mac);
        assert_eq!(adjacencies.link(way), Link { port, mac });
    }

    /// Adds a service with servers of weight 1.
    pub(crate) fn serve(&mut self, key: ServiceKey, servers: &[&str]) {
        self.serve_as(key, RR, servers);
    }

    /// Likewise, one like this.
    pub(crate) fn serve_as(&mut self, key: ServiceKey, spec: ServiceSpec, servers: &[&str]) {
        self.control.catalog.add_service(key, spec).unwrap();
        for server in servers {
            self.control.catalog.add_server(key, point(server), ServerSpec::default()).unwrap();
        }
        self.control.publish();
    }

    pub(crate) fn add_server(&mut self, vip: &str, server: &str, spec: ServerSpec) {
        self.control.catalog.add_server(tcp_key(vip), point(server), spec).unwrap();
        self.control.publish();
    }

    pub(crate) fn set_server(&mut self, vip: &str, server: &str, spec: ServerSpec) {
        self.control.catalog.set_server(tcp_key(vip), point(server), spec).unwrap();
        self.control.publish();
    }

    pub(crate) fn delete_server(&mut self, vip: &str, server: &str) {
        self.control.catalog.delete_server(tcp_key(vip), point(server)).unwrap();
        self.control.publish();
        self.control.purge();
    }

    pub(crate) fn delete_service(&mut self, vip: &str) {
        self.control.catalog.delete_service(tcp_key(vip)).unwrap();
        self.control.publish();
        self.control.purge();
    }

    pub(crate) fn sysctl(&mut self, change: impl FnOnce(&mut Sysctls)) {
        let mut sysctls = *self.control.sysctls();
        change(&mut sysctls);
        self.control.set_sysctls(sysctls);
    }

    pub(crate) fn timeout(&mut self, state: State, seconds: u32) {
        let mut timeouts: Timeouts = *self.control.timeouts();
        timeouts.set(state, seconds);
        self.control.set_timeouts(timeouts);
    }

    pub(crate) fn now(&self) -> Tick {
        Tick::from_millis(self.milliseconds)
    }

    /// Time passes; the control core runs every 100 ms.
    pub(crate) fn pass(&mut self, milliseconds: u64) {
        let end = self.milliseconds + milliseconds;
        while self.milliseconds < end {
            self.milliseconds = (self.milliseconds + 100).min(end);
            self.poll();
        }
    }

    /// The control core's turn.
    pub(crate) fn poll(&mut self) {
        self.workers.iter_mut().for_each(Worker::quiescent);
        self.control.poll(self.now(), 10_000);
        let told = |port, frame: &[u8]| self.told.push((port, frame.to_vec()));
        self.control.expire_fragments(Tick::from_millis(self.milliseconds), self.milliseconds as u32, told);
    }

    /// What the control core has sent since it was last asked.
    pub(crate) fn told(&mut self) -> Vec<String> {
        let told = std::mem::take(&mut self.told);
        told.iter().map(|(port, frame)| self.sent(*port, frame)).collect()
    }

    /// What becomes of a packet that a host in front of the director sends.
    pub(crate) fn front(&mut self, packet: &Packet) -> String {
        self.one(FRONT, packet.frame(packet.from(), PORT_MACS[0]))
    }

    /// What becomes of a packet that a host behind the director sends.
    pub(crate) fn back(&mut self, packet: &Packet) -> String {
        self.one(BACK, packet.frame(packet.from(), PORT_MACS[1]))
    }

    /// What becomes of a frame, with what its sender is told.
    pub(crate) fn one(&mut self, port: u8, frame: Vec<u8>) -> String {
        let (verdicts, frames, _) = self.process(0, port, vec![frame]);
        let (now, milliseconds) = (self.now(), self.milliseconds as u32);
        let mut lines = Vec::new();
        match verdicts[0] {
            Verdict::SendSplit(..) | Verdict::HoldSplit(..) => {
                self.workers[0].split(0, port, verdicts[0], frames[0].len(), |bytes| {
                    bytes.copy_from_slice(&frames[0]);
                    true
                });
                lines.extend(self.parts());
            }
            Verdict::Keep => {}
            verdict => lines.push(self.outcome(&verdict, &frames[0])),
        }
        while self.workers[0].reassemble(now, milliseconds) {
            lines.extend(self.parts());
        }
        let replies = self.workers[0].replies().iter();
        lines.extend(replies.map(|reply| self.sent(reply.port, reply.frame())));
        if lines.is_empty() { "kept".into() } else { lines.join("; ") }
    }

    /// What becomes of the parts of a packet that the first worker put together, or split.
    fn parts(&mut self) -> Vec<String> {
        let mut parts = Vec::new();
        while let Some(part) = self.workers[0].next_part() {
            parts.push((part.verdict, part.frame.to_vec()));
        }
        let lines = parts.iter().map(|(verdict, frame)| match verdict {
            Verdict::Kernel => format!("kernel {}", describe(frame)),
            verdict => self.outcome(verdict, frame),
        });
        lines.collect()
    }

    /// What becomes of a burst that a worker gets from a port, and what the senders are told.
    pub(crate) fn burst(
        &mut self,
        worker: usize,
        port: u8,
        frames: Vec<Vec<u8>>,
    ) -> (Vec<String>, Vec<String>) {
        let (verdicts, frames, replies) = self.process(worker, port, frames);
        let outcomes = verdicts.iter().zip(&frames).map(|(verdict, frame)| self.outcome(verdict, frame));
        let replies = replies.iter().map(|(port, frame)| self.sent(*port, frame));
        (outcomes.collect(), replies.collect())
    }

    /// As [`Self::burst`], as it is.
    #[expect(clippy::type_complexity, reason = "taken apart at once")]
    pub(crate) fn process(
        &mut self,
        worker: usize,
        port: u8,
        frames: Vec<Vec<u8>>,
    ) -> (Vec<Verdict>, Vec<Vec<u8>>, Vec<(u8, Vec<u8>)>) {
        let before = frames.clone();
        let now = self.now();
        let worker = &mut self.workers[worker];
        worker.quiescent();
        let mut burst = Burst { frames, head: usize::MAX };
        // No verdict is left over from here.
        let mut verdicts = [Verdict::Drop(Reason::HandoffFull); BURST];
        let before_burst = (insertions(&self.control), locks_taken());
        worker.process(now, self.milliseconds as u32, port, &mut burst, &mut verdicts);
        let is_new = insertions(&self.control) != before_burst.0;
        self.locks[usize::from(is_new)] += locks_taken() - before_burst.1;
        let count = burst.frames.len();
        for ((verdict, after), before) in verdicts.iter().zip(&burst.frames).zip(&before) {
            assert_ne!(*verdict, Verdict::Drop(Reason::HandoffFull), "no verdict");
            if *verdict == Verdict::Kernel {
                assert_eq!(after, before, "a frame for the kernel was changed");
            }
        }
        let replies = worker.replies().iter().map(|reply| (reply.port, reply.frame().to_vec())).collect();
        (verdicts[..count].to_vec(), burst.frames, replies)
    }

    fn outcome(&self, verdict: &Verdict, frame: &[u8]) -> String {
        match verdict {
            Verdict::Kernel => "kernel".into(),
            Verdict::Keep => "kept".into(),
            Verdict::SendSplit(_, mtu) | Verdict::HoldSplit(_, mtu) => format!("in parts of {mtu}"),
            Verdict::Drop(reason) => format!("drop {}", reason.name()),
            Verdict::Send(port) => self.sent(*port, frame),
            Verdict::Hold(way) => {
                let hop = self.control.shared().adjacencies.hop(*way).unwrap();
                let service = self.workers[0].held_for(0);
                let whose = service.map_or_else(String::new, |service| format!(" for {service}"));
                format!("hold {}{whose}: {}", hop.address, describe(frame))
            }
        }
    }

    /// A frame as it leaves by a port, its MAC addresses judged by the addresses inside.
    pub(crate) fn sent(&self, port: u8, frame: &[u8]) -> String {
        let name = PORT_NAMES[usize::from(port)];
        assert_eq!(frame[6..12], PORT_MACS[usize::from(port)].0, "the source MAC address");
        let destination: IpAddr = match frame[14] >> 4 {
            4 => Ipv4Addr::from(*frame[30..].first_chunk::<4>().unwrap()).into(),
            _ => Ipv6Addr::from(*frame[38..].first_chunk::<16>().unwrap()).into(),
        };
        let to = Mac(*frame.first_chunk().unwrap());
        let via = match host_of(to) {
            Some(_) if to == mac_of(destination) => String::new(),
            Some(host) => format!(" via {host}"),
            None => format!(" via {to}"),
        };
        format!("{name} {}{via}", describe(frame))
    }

    /// The connections, as `ipvsadm -Lnc` lists them, sorted.
    pub(crate) fn entries(&mut self) -> Vec<String> {
        let mut entries = Vec::new();
        self.each_entry(|connection| {
            entries.push(format!(
                "{:02}:{:02} {} {} {} {}",
                connection.seconds / 60,
                connection.seconds % 60,
                connection.state_name(),
                connection.client,
                connection.service,
                connection.server
            ));
        });
        entries.sort();
        entries
    }

    pub(crate) fn each_entry(&self, mut each: impl FnMut(director_engine::control::Connection)) {
        let mut from = Some(0);
        while let Some(at) = from {
            from = self.control.connections(self.now(), at, 100, &mut each);
        }
    }

    /// The state and the seconds left of the one connection there is.
    pub(crate) fn entry(&mut self) -> (State, u32) {
        let mut found = Vec::new();
        self.each_entry(|connection| found.push((connection.state, connection.seconds)));
        assert_eq!(found.len(), 1, "{:?}", self.entries());
        found[0]
    }

    /// Active and inactive connections of a server.
    pub(crate) fn load(&self, key: ServiceKey, server: &str) -> (u32, u32) {
        let catalog = &self.control.catalog;
        let row =
            catalog.servers(catalog.service(key).unwrap()).find(|row| row.address == point(server)).unwrap();
        let Load { active, inactive, .. } = row.load;
        (active, inactive)
    }

    /// The counters of a server.
    pub(crate) fn traffic(&self, key: ServiceKey, server: &str) -> Traffic {
        let catalog = &self.control.catalog;
        let row = catalog.servers(catalog.service(key).unwrap()).find(|row| row.address == point(server));
        row.unwrap().traffic
    }

    /// The counters of a service.
    pub(crate) fn total(&self, key: ServiceKey) -> Traffic {
        let catalog = &self.control.catalog;
        catalog.statistics(catalog.service(key).unwrap()).0
    }
}

/// How often an entry was to be made, whatever became of it.
fn insertions(control: &Control) -> u64 {
    [control.table().counters(), control.table_v6().counters()]
        .map(|counts| {
            counts.inserted + counts.existing + counts.refused + counts.table_full + counts.chain_full
        })
        .iter()
        .sum()
}

/// The last part of the address of the server that a client's packet went to; 0 if it went to none.
pub(crate) fn served(outcome: &str) -> u32 {
    let Some((_, rest)) = outcome.split_once("> 192.168.2.") else { return 0 };
    rest.split(':').next().unwrap().parse().unwrap()
}
