//! The control core's share of the frames: the kernel twins' traffic, and frames that wait for a neighbour.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use director_engine::adjacency::Adjacency;
use director_engine::{Control, Reason, Tick};
use director_packet::nat::set_macs;
use director_packet::{Class, Mac};
use dpdk::{Burst, Mbuf, Pool, TxQueue};

use crate::counters::{ThreadCounters, add};
use crate::paths::{Held, Outgoing, Paths};
use crate::ports::TwinPort;

/// How many frames may wait for one next hop. (Linux lets 208 KiB wait, counted with their buffers.)
const WAITING_FOR_ONE: usize = 64;

/// Frames that may wait in all.
const WAITING: usize = 1024;

/// How many milliseconds a frame waits at most if the kernel says nothing; and the time between two searches for such
/// frames, since there may be many next hops that do not answer.
const PATIENCE: u64 = 10_000;
const LOOK: u64 = 100;

/// How many bursts are taken from a ring or a twin in one turn, at most; each class of a twin gets at least one.
const BURSTS: usize = 8;
const _: () = assert!(BURSTS >= Class::COUNT);

/// How many turns in a row a port may take nothing of what the kernel sent, or a twin nothing of what is for the
/// kernel, before the first frame is dropped: the device might refuse this one for ever, and all the others with it.
const STUCK: u32 = 50;

struct PumpPort {
    twin: Option<TwinPort>,
    tx: Option<TxQueue>,
    /// The frames that go to the twin next.
    feed: Burst,
    /// The ring of the twin that comes next. It is remembered, or only the first ring of a twin that is often full
    /// would have its turn.
    next: usize,
    /// How many times in a row the twin has taken nothing.
    refused: u32,
    /// What the kernel sent and the port has no room for. Until it has, further frames wait in the twin.
    backlog: Burst,
    /// For how many turns it has had no room.
    stuck: u32,
    mac: Mac,
}

struct Waiting {
    since: u64,
    frames: VecDeque<Held>,
}

/// The control core's part in moving frames.
pub(crate) struct Pump {
    ports: Vec<PumpPort>,
    paths: Arc<Paths>,
    counters: Arc<ThreadCounters>,
    port_numbers: Arc<[usize]>,
    pool: Pool,
    waiting: HashMap<Adjacency, Waiting>,
    held: usize,
    /// When to look again for frames that have waited too long.
    next_look: u64,
}

impl Pump {
    pub(crate) fn new(
        ports: Vec<(Option<TwinPort>, Option<TxQueue>, Mac)>,
        paths: Arc<Paths>,
        counters: Arc<ThreadCounters>,
        port_numbers: Arc<[usize]>,
        pool: Pool,
    ) -> Self {
        let ports = ports
            .into_iter()
            .map(|(twin, tx, mac)| PumpPort {
                twin,
                tx,
                feed: Burst::new(),
                next: 0,
                refused: 0,
                backlog: Burst::new(),
                stuck: 0,
                mac,
            })
            .collect();
        Self { ports, paths, counters, port_numbers, pool, waiting: HashMap::new(), held: 0, next_look: 0 }
    }

    /// Takes a turn: moves frames to and from the twins, and takes up those that wait for a neighbour. Adds to
    /// `unknown` the next hops that the kernel has to be asked for. Returns how many frames moved.
    pub(crate) fn turn(&mut self, control: &Control, now: u64, unknown: &mut Vec<Adjacency>) -> usize {
        let mut moved = 0;
        for port in 0..self.ports.len() {
            moved += self.feed_twin(port) + self.drain_twin(port, control, Tick::from_millis(now));
        }
        for _ in 0..BURSTS * Burst::CAPACITY {
            let Some(held) = self.paths.held.pop() else { break };
            moved += 1;
            self.hold(control, held, now, unknown);
        }
        moved
    }

    /// Gives the twin what came in for the kernel, each class in turn, so that none starves another.
    fn feed_twin(&mut self, at: usize) -> usize {
        let rings = &self.paths.ports[at].to_twin;
        let PumpPort { twin: Some(twin), feed, next, refused, .. } = &mut self.ports[at] else { return 0 };
        let counters = self.counters.port(at);
        let mut moved = 0;
        for _ in 0..BURSTS {
            if feed.is_empty() {
                rings.burst(next).for_each(|mbuf| feed.push(mbuf).unwrap_or_default());
            }
            if feed.is_empty() {
                break;
            }
            while !feed.is_empty() {
                let sent = twin.tx.send(feed);
                moved += sent;
                add(&counters.to_twin, sent as u64);
                *refused = if sent > 0 { 0 } else { *refused + 1 };
                if sent > 0 {
                    continue;
                }
                // A tap is never full: what it does not take now, it never takes.
                if !twin.is_tap && *refused <= STUCK {
                    return moved;
                }
                feed.take(0);
                counters.drop_one(Reason::TwinFull);
                *refused = 0;
            }
        }
        moved
    }

    fn drain_twin(&mut self, at: usize, control: &Control, now: Tick) -> usize {
        let mut moved = 0;
        for _ in 0..BURSTS {
            let PumpPort { twin: Some(twin), backlog, .. } = &mut self.ports[at] else { return moved };
            if backlog.is_empty() {
                twin.rx.receive(backlog);
                let is_own = |address| control.is_own(address);
                backlog.iter().for_each(|mbuf| self.paths.peers.sends(mbuf.data(), now, is_own));
            }
            let count = backlog.len();
            moved += self.pass_on(at);
            if count < Burst::CAPACITY || !self.ports[at].backlog.is_empty() {
                break;
            }
        }
        moved
    }

    /// Sends what the kernel sent, as far as there is room, or passes it to the worker that owns the transmit queue.
    /// Returns how many frames went.
    fn pass_on(&mut self, at: usize) -> usize {
        let PumpPort { tx, backlog, .. } = &mut self.ports[at];
        let count = backlog.len();
        let counters = self.counters.port(at);
        if let Some(tx) = tx {
            let mut lengths = [0; Burst::CAPACITY];
            for (length, mbuf) in lengths.iter_mut().zip(backlog.iter()) {
                *length = mbuf.len() as u64;
            }
            let sent = tx.send(backlog);
            counters.own.add(sent as u64, lengths[..sent].iter().sum());
        } else {
            let path = &self.paths.ports[at];
            let ring = &path.control[path.sender.last().copied().unwrap_or(0)];
            let mut all = std::mem::take(backlog);
            for mbuf in all.drain() {
                // Nobody else puts frames into this ring, so its room cannot shrink.
                if ring.is_full() {
                    let _ = backlog.push(mbuf);
                } else {
                    let _ = ring.push(Outgoing { mbuf, own: true });
                }
            }
        }
        let gone = count - backlog.len();
        let port = &mut self.ports[at];
        port.stuck = if gone == 0 && count > 0 { port.stuck + 1 } else { 0 };
        if port.stuck > STUCK {
            let mut all = std::mem::take(&mut port.backlog);
            for mbuf in all.drain().skip(1) {
                let _ = port.backlog.push(mbuf);
            }
            port.stuck = 0;
        }
        add(&counters.from_twin, gone as u64);
        gone
    }

    /// Sends a frame on a port, or passes it to the worker that owns the transmit queue. False: dropped.
    fn send(&mut self, at: usize, frame: Outgoing) -> bool {
        let counters = self.counters.clone();
        let Some(port) = self.ports.get_mut(at) else { return false };
        let Some(tx) = &mut port.tx else {
            let path = &self.paths.ports[at];
            let sender = path.sender.last().copied().unwrap_or(0);
            return match path.control[sender].push(frame) {
                Ok(()) => true,
                Err(frame) => self.dropped(&frame.mbuf, frame.own, Reason::HandoffFull),
            };
        };
        let (own, length) = (frame.own, frame.mbuf.len() as u64);
        let mut burst = Burst::new();
        let _ = burst.push(frame.mbuf);
        for _ in 0..4 {
            if tx.send(&mut burst) == 1 {
                let counters = counters.port(at);
                if own { &counters.own } else { &counters.tx }.add(1, length);
                return true;
            }
        }
        match burst.drain().next() {
            Some(mbuf) => self.dropped(&mbuf, own, Reason::TransmitFull),
            None => false,
        }
    }

    fn dropped(&self, mbuf: &Mbuf, own: bool, reason: Reason) -> bool {
        if !own {
            self.received_on(mbuf).drop_one(reason);
        }
        false
    }

    /// The counters of the port that a frame came in on.
    fn received_on(&self, mbuf: &Mbuf) -> &crate::counters::PortCounters {
        let port = self.port_numbers.get(usize::from(mbuf.port())).copied().unwrap_or(0);
        self.counters.port(port)
    }

    fn hold(&mut self, control: &Control, held: Held, now: u64, unknown: &mut Vec<Adjacency>) {
        let way = held.way;
        let link = control.shared().adjacencies.link(way);
        if let Some(mac) = link.mac {
            self.release(held, link.port, mac);
            return;
        }
        let full = self.held >= WAITING;
        let waiting = self.waiting.entry(way).or_insert_with(|| {
            unknown.push(way);
            Waiting { since: now, frames: VecDeque::new() }
        });
        if full || waiting.frames.len() >= WAITING_FOR_ONE {
            self.dropped(&held.mbuf, held.own, Reason::NeighbourQueueFull);
        } else {
            waiting.frames.push_back(held);
            self.held += 1;
        }
    }

    fn release(&mut self, mut held: Held, port: u8, mac: Mac) {
        let source = self.ports.get(usize::from(port)).map_or_else(Mac::default, |port| port.mac);
        if let Ok(frame) = held.mbuf.data_mut() {
            set_macs(frame, mac, source);
        }
        self.send(port.into(), Outgoing { mbuf: held.mbuf, own: held.own });
    }

    /// To be called when the MAC address of a next hop is known: sends what waited for it.
    pub(crate) fn resolved(&mut self, way: Adjacency, port: u8, mac: Mac) {
        if let Some(waiting) = self.waiting.remove(&way) {
            self.held -= waiting.frames.len();
            for held in waiting.frames {
                self.release(held, port, mac);
            }
        }
    }

    /// To be called when a next hop does not answer: drops what waited for it, and tells the clients.
    pub(crate) fn failed(&mut self, way: Adjacency, control: &mut Control, now: u64) {
        let Some(waiting) = self.waiting.remove(&way) else { return };
        self.held -= waiting.frames.len();
        for mut held in waiting.frames {
            self.dropped(&held.mbuf, held.own, Reason::NeighbourUnreachable);
            let (Some(service), Ok(frame)) = (held.service, held.mbuf.data_mut()) else { continue };
            // Milliseconds wrap; the rate limit allows for that.
            let Some((port, frame)) = control.host_unreachable(frame, service, now as u32) else { continue };
            self.send_made(port, &frame);
        }
    }

    /// Sets the MAC address that a port has from now on.
    pub(crate) fn set_mac(&mut self, at: usize, mac: Mac) {
        if let Some(port) = self.ports.get_mut(at) {
            port.mac = mac;
        }
    }

    /// Sends a frame of the director's own on a port.
    pub(crate) fn send_made(&mut self, port: u8, frame: &[u8]) {
        if let Ok(mbuf) = self.pool.copy_from_slice(frame) {
            self.send(port.into(), Outgoing { mbuf, own: true });
        }
    }

    /// The next hops that frames have waited for too long. Searched every [`LOOK`].
    pub(crate) fn overdue(&mut self, now: u64) -> Vec<Adjacency> {
        if now < self.next_look {
            return Vec::new();
        }
        self.next_look = now + LOOK;
        let late = self.waiting.iter().filter(|(_, waiting)| now.saturating_sub(waiting.since) > PATIENCE);
        late.map(|(way, _)| *way).collect()
    }

    /// The next hops that frames wait for.
    pub(crate) fn awaited(&self) -> impl Iterator<Item = Adjacency> {
        self.waiting.keys().copied()
    }

    /// The port itself handles its twin's driver and statistics; this only tells whether there is a twin.
    pub(crate) fn twin(&self, at: usize) -> Option<&TwinPort> {
        self.ports.get(at)?.twin.as_ref()
    }
}
