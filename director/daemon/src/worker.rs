//! A worker's loop: receive, decide, send. It makes no system call except to sleep, writes no log and allocates
//! nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use director_engine::{BURST, Batch, Part, Reason, Verdict, Worker};
use director_packet::plain;
use dpdk::{Burst, Mbuf, Pool, Received, RxQueue, TxQueue};

use crate::clock::Watch;
use crate::counters::{ThreadCounters, add};
use crate::paths::{Held, Outgoing, Paths};

/// How often a full transmit queue is tried again before frames are dropped.
const SEND_TRIES: usize = 4;

/// How many frames of the kernel's and the director's own may wait for room in a full transmit queue.
const OWN_WAITING: usize = 16;

/// How often in a row a queue may take nothing before those are dropped too: the device might refuse the first of
/// them for ever, and all the others with it.
const STUCK: u32 = 16;

/// How many loops without a frame pass before a worker sleeps, if it may.
const IDLE_LOOPS: u32 = 64;

/// For how many loops an empty receive queue is left out while another one is not empty.
const REST: u32 = 7;

/// How long it sleeps.
const NAP: Duration = Duration::from_micros(50);

/// Frames taken from a ring in one loop, at most.
const RING_BUDGET: usize = 64;

/// A receive queue and its port's number in the configuration.
pub(crate) struct Input {
    port: u8,
    queue: RxQueue,
    /// For how many more loops it is left out.
    rests: u32,
}

impl Input {
    pub(crate) fn new(port: u8, queue: RxQueue) -> Self {
        Self { port, queue, rests: 0 }
    }
}

/// A transmit queue, the frames that wait for it, and whether each is the director's own.
pub(crate) struct Output {
    queue: TxQueue,
    waiting: Burst,
    own: u32,
    /// How often in a row the queue has taken nothing.
    stuck: u32,
}

impl Output {
    pub(crate) fn new(queue: TxQueue) -> Self {
        Self { queue, waiting: Burst::new(), own: 0, stuck: 0 }
    }
}

/// What a worker's thread owns.
pub(crate) struct Loop {
    pub(crate) worker: Worker,
    pub(crate) inputs: Vec<Input>,
    /// By port; none where another worker sends for this one.
    pub(crate) outputs: Vec<Option<Output>>,
    pub(crate) counters: Arc<ThreadCounters>,
    pub(crate) paths: Arc<Paths>,
    /// Where ICMP errors get their buffers.
    pub(crate) pool: Pool,
    /// The configuration's number of each DPDK port.
    pub(crate) port_numbers: Arc<[usize]>,
    pub(crate) clock: Watch,
    pub(crate) sleeps: bool,
    pub(crate) stop: Arc<AtomicBool>,
}

/// A received burst, in the form that the engine takes.
struct Frames {
    received: Received<{ plain::HEADERS }>,
    /// How many bytes were added to it since it was received, modulo 2^64.
    grown: u64,
}

impl director_engine::Frames for Frames {
    #[inline]
    fn count(&self) -> usize {
        self.received.count()
    }

    #[inline]
    fn head(&mut self, at: usize) -> &mut [u8] {
        self.received.segment(at)
    }

    #[inline]
    fn length(&self, at: usize) -> usize {
        self.received.length(at)
    }

    #[inline(always)]
    fn start<const N: usize>(&mut self, at: usize) -> Option<(&mut [u8; N], usize)> {
        self.received.start(at)
    }

    fn read(&mut self, at: usize, from: usize, bytes: &mut [u8]) -> bool {
        self.received.read(at, from, bytes)
    }

    fn resize(&mut self, at: usize, length: usize) -> bool {
        let before = self.received.length(at);
        let is_done = self.received.resize(at, length);
        if is_done {
            self.grown = self.grown.wrapping_add(length as u64).wrapping_sub(before as u64);
        }
        is_done
    }

    fn prepend(&mut self, at: usize, count: usize) -> bool {
        let is_done = self.received.prepend(at, count);
        if is_done {
            self.grown = self.grown.wrapping_add(count as u64);
        }
        is_done
    }
}

/// A burst that is being dealt with.
struct Flight {
    frames: Frames,
    batch: Batch,
    bytes: u64,
}

impl Flight {
    fn new() -> Self {
        Self { frames: Frames { received: Received::new(), grown: 0 }, batch: Batch::new(), bytes: 0 }
    }
}

impl Loop {
    /// Runs until it is told to stop.
    ///
    /// Two bursts are under way at a time: while the buckets and records of one are fetched, the next is received and
    /// the one before is sent. A burst after which nothing comes is dealt with at once.
    pub(crate) fn run(mut self) {
        let mut flights = [Flight::new(), Flight::new()];
        let [mut next, mut last] = flights.each_mut();
        let mut is_one_on_its_way = false;
        let mut verdicts = [Verdict::Kernel; BURST];
        let mut idle = 0;
        while !self.stop.load(Ordering::Relaxed) {
            self.worker.quiescent();
            let mut received = 0;
            for at in 0..self.inputs.len() {
                let input = &mut self.inputs[at];
                if input.rests > 0 {
                    input.rests -= 1;
                    continue;
                }
                let count = self.receive(at, next);
                if count == 0 {
                    self.inputs[at].rests = REST;
                    continue;
                }
                received += count;
                if is_one_on_its_way {
                    self.finish(last, &mut verdicts);
                }
                self.worker.seek(&mut next.batch);
                std::mem::swap(&mut next, &mut last);
                is_one_on_its_way = true;
            }
            if received == 0 {
                if is_one_on_its_way {
                    self.finish(last, &mut verdicts);
                    is_one_on_its_way = false;
                }
                self.clock.wake();
                for input in &mut self.inputs {
                    input.rests = 0;
                }
            }
            received += self.send_for_others();
            for port in 0..self.outputs.len() {
                self.flush(port);
            }
            if received > 0 {
                idle = 0;
            } else if self.sleeps {
                idle += 1;
                if idle >= IDLE_LOOPS {
                    self.worker.offline();
                    std::thread::sleep(NAP);
                }
            }
        }
        if is_one_on_its_way {
            self.worker.quiescent();
            self.finish(last, &mut verdicts);
        }
    }

    /// Receives a burst from a queue and makes the first pass over it. Returns how many frames it has.
    #[inline]
    fn receive(&mut self, at: usize, flight: &mut Flight) -> usize {
        let input = &mut self.inputs[at];
        let (count, bytes) = flight.frames.received.receive(&mut input.queue);
        if count > 0 {
            flight.bytes = bytes;
            self.worker.look(input.port, &mut flight.frames, &mut flight.batch);
        }
        count
    }

    /// Deals with a burst after the first pass.
    #[inline]
    fn finish(&mut self, flight: &mut Flight, verdicts: &mut [Verdict; BURST]) {
        let Flight { frames, batch, bytes } = flight;
        let (port, count) = (batch.port(), frames.received.count());
        self.counters.port(port.into()).rx.add(count as u64, *bytes);
        let (tick, milliseconds) = self.clock.read();
        let common = self.worker.decide(tick, milliseconds, frames, batch, verdicts);
        let bytes = bytes.wrapping_add(std::mem::take(&mut frames.grown));
        let burst = frames.received.open();
        if common.is_none_or(|out| !self.send_all(out.into(), burst, bytes)) {
            for (at, verdict) in verdicts.iter().enumerate().take(count) {
                if let Some(mbuf) = burst.take(at) {
                    self.obey(port, at, mbuf, *verdict);
                }
            }
            while self.worker.reassemble(tick, milliseconds) {
                self.send_parts();
            }
        }
        self.send_replies();
    }

    /// Sends a whole burst on a port of this worker's if nothing waits there. False: nothing was done.
    #[inline]
    fn send_all(&mut self, port: usize, burst: &mut Burst, bytes: u64) -> bool {
        let Some(Some(output)) = self.outputs.get_mut(port) else { return false };
        if !output.waiting.is_empty() {
            return false;
        }
        let count = burst.len();
        let sent = output.queue.send(burst);
        let tx = &self.counters.port(port).tx;
        if sent == count {
            tx.add(count as u64, bytes);
            return true;
        }
        self.send_rest(port, burst, sent, bytes);
        true
    }

    /// The queue took `sent` packets of a burst of `bytes`; the rest waits as any packet does.
    #[cold]
    fn send_rest(&mut self, port: usize, burst: &mut Burst, sent: usize, bytes: u64) {
        let left: u64 = burst.iter().map(|mbuf| mbuf.len() as u64).sum();
        self.counters.port(port).tx.add(sent as u64, bytes - left);
        for mbuf in burst.drain() {
            self.send(port, Outgoing { mbuf, own: false });
        }
    }

    #[inline]
    fn obey(&mut self, port: u8, at: usize, mbuf: Mbuf, verdict: Verdict) {
        match verdict {
            Verdict::Send(out) => self.send(out.into(), Outgoing { mbuf, own: false }),
            Verdict::Kernel => self.give_to_twin(port, mbuf),
            Verdict::Hold(way) => {
                let service = self.worker.held_for(at);
                self.hold(port, Held { mbuf, way, service, own: false });
            }
            Verdict::SendSplit(..) | Verdict::HoldSplit(..) => {
                self.worker.split(at, port, verdict, mbuf.len(), |bytes| mbuf.read(0, bytes).is_ok());
                self.send_parts();
            }
            Verdict::Keep => {}
            Verdict::Drop(reason) => self.counters.port(port.into()).drop_one(reason),
        }
    }

    fn hold(&self, port: u8, held: Held) {
        let own = held.own;
        if self.paths.held.push(held).is_err() && !own {
            self.counters.port(port.into()).drop_one(Reason::NeighbourQueueFull);
        }
    }

    /// Sends the parts of the packet that the engine has put together or is to split. Each part stands for a received
    /// frame, which is done with, or is a further part of one.
    #[cold]
    fn send_parts(&mut self) {
        while let Some(part) = self.worker.next_part() {
            let Part { port, verdict, service, is_received, frame } = part;
            let made = match verdict {
                Verdict::Drop(reason) => Err(reason),
                _ if frame.is_empty() => Err(Reason::FragmentMalformed),
                _ => self.pool.copy_from_slice(frame).map_err(|_| Reason::NoBuffer),
            };
            let own = !is_received;
            match (made, verdict) {
                (Ok(mut mbuf), verdict) => {
                    let device = self.port_numbers.iter().position(|number| *number == usize::from(port));
                    // DPDK's port numbers have 16 bits.
                    mbuf.set_port(device.unwrap_or(0) as u16);
                    match verdict {
                        Verdict::Send(out) => self.send(out.into(), Outgoing { mbuf, own }),
                        Verdict::Hold(way) => self.hold(port, Held { mbuf, way, service, own }),
                        _ => self.give_to_twin(port, mbuf),
                    }
                }
                (Err(reason), _) if is_received => self.counters.port(port.into()).drop_one(reason),
                (Err(_), _) => {}
            }
        }
    }

    fn give_to_twin(&self, port: u8, mbuf: Mbuf) {
        let (now, _) = self.clock.last();
        let counters = self.counters.port(port.into());
        let path = &self.paths.ports[usize::from(port)];
        if !path.has_twin {
            counters.drop_one(Reason::NoTwin);
            return;
        }
        match path.to_twin.push(self.paths.peers.class(mbuf.data(), now), mbuf) {
            Ok(()) => add(&counters.to_twin, 1),
            Err(reason) => counters.drop_one(reason),
        }
    }

    /// Sends a frame on a port, or passes it to the worker that does.
    #[inline]
    fn send(&mut self, port: usize, frame: Outgoing) {
        match self.outputs.get_mut(port) {
            Some(Some(output)) => {
                let place = output.waiting.slots();
                output.own |= u32::from(frame.own) << place;
                if output.waiting.push(frame.mbuf).is_ok() && output.waiting.is_full() {
                    self.flush(port);
                }
            }
            Some(None) => self.hand_off(port, frame),
            None => self.dropped(&frame.mbuf, frame.own, Reason::NoRoute),
        }
    }

    #[cold]
    fn hand_off(&self, port: usize, frame: Outgoing) {
        let path = &self.paths.ports[port];
        let owner = path.sender[self.worker.id()];
        if let Err(frame) = path.handoff[owner].push(frame) {
            self.dropped(&frame.mbuf, frame.own, Reason::HandoffFull);
        }
    }

    /// Counts a frame that is dropped on its way out, for the port it was received on.
    #[cold]
    fn dropped(&self, mbuf: &Mbuf, own: bool, reason: Reason) {
        if !own {
            let port = self.port_numbers.get(usize::from(mbuf.port())).copied().unwrap_or(0);
            self.counters.port(port).drop_one(reason);
        }
    }

    /// Sends what waits for a port.
    fn flush(&mut self, port: usize) {
        let Some(Some(output)) = self.outputs.get_mut(port) else { return };
        if output.waiting.is_empty() {
            return;
        }
        let counters = self.counters.port(port);
        let mut own = std::mem::take(&mut output.own);
        let mut tries = SEND_TRIES;
        let mut lengths = [0; BURST];
        for (length, mbuf) in lengths.iter_mut().zip(output.waiting.iter()) {
            *length = mbuf.len() as u64;
        }
        let mut from = 0;
        loop {
            let sent = output.queue.send(&mut output.waiting);
            for length in &lengths[from..from + sent] {
                let traffic = if own & 1 == 0 { &counters.tx } else { &counters.own };
                traffic.add(1, *length);
                own >>= 1;
            }
            from += sent;
            tries -= 1;
            if output.waiting.is_empty() || tries == 0 {
                break;
            }
        }
        if output.waiting.is_empty() {
            output.stuck = 0;
            return;
        }
        output.stuck = if from == 0 { output.stuck + 1 } else { 0 };
        // Received frames are dropped. The others are few, and are sent first the next time.
        let keep = if output.stuck < STUCK { OWN_WAITING } else { 0 };
        let mut rest = std::mem::take(&mut output.waiting);
        for mbuf in rest.drain() {
            let place = output.waiting.slots();
            if own & 1 == 0 {
                let port = self.port_numbers.get(usize::from(mbuf.port())).copied().unwrap_or(0);
                self.counters.port(port).drop_one(Reason::TransmitFull);
            } else if place < keep && output.waiting.push(mbuf).is_ok() {
                output.own |= 1 << place;
            }
            own >>= 1;
        }
    }

    /// Sends what other threads have for this worker's transmit queues; the control core's frames first.
    fn send_for_others(&mut self) -> usize {
        let me = self.worker.id();
        if self.paths.ports.iter().all(|path| path.control[me].is_empty() && path.handoff[me].is_empty()) {
            return 0;
        }
        let paths = self.paths.clone();
        let mut sent = 0;
        for (port, path) in paths.ports.iter().enumerate() {
            for ring in [&path.control[me], &path.handoff[me]] {
                for _ in 0..RING_BUDGET {
                    let Some(frame) = ring.pop() else { break };
                    self.send(port, frame);
                    sent += 1;
                }
            }
        }
        sent
    }

    /// Sends the ICMP errors of the last burst.
    fn send_replies(&mut self) {
        for at in 0..self.worker.replies().len() {
            let reply = &self.worker.replies()[at];
            let port = usize::from(reply.port);
            if let Ok(mbuf) = self.pool.copy_from_slice(reply.frame()) {
                self.send(port, Outgoing { mbuf, own: true });
            }
        }
    }
}
