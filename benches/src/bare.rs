//! The least that a NAT must do to a packet of an established connection: no director, but what the director could not
//! do without.
//!
//! In bursts, as the director does it: read both ends; hash the client's and have its bucket fetched; compare tags and
//! have the record fetched; compare the connection, and put in address, port, both checksums, the time to live and both
//! MAC addresses. The table and the translation are the director's own. Nothing else is done: no header is checked, no
//! length, no MTU, and no state; nobody is counted, no clock is written, and nothing that a neighbour, a route or the
//! configuration may change is looked at. It is of TCP over IPv4 without options, and right of no other packet.

pub mod replay;

use std::convert::Infallible;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use director_engine::BURST;
use director_flow::{
    Clock, Hash, Inserted, Keeper, MAX_TIMEOUT, Options, Probe, Record, Table, Tick, V4, V4End, WorkerLocal,
};
use director_packet::nat::End;
use director_packet::plain::{Headers, Rewrite};
use director_packet::{Change, Delta, Endpoint4, TCP};

use crate::hot::Flow;
use crate::network::{GATEWAY, Mac, PORT_MAC, SERVER_PORT, SERVICE, servers};
use crate::template::Slot;

/// The words of a record: each end that is not the client's, with what replacing the other one by it adds to a
/// checksum, that of TCP beside the service, that of the header beside the server; and the server's place.
const OF_SERVICE: usize = 1;
const OF_SERVER: usize = 2;
const PLACE: usize = 3;

/// Where the clients' next hop is among the MAC addresses, which are the servers' otherwise.
const CLIENTS: usize = 4;

/// What is known of a frame between the passes.
#[derive(Clone, Copy)]
struct Seen {
    client: V4End,
    other: Endpoint4,
    hash: Hash,
    probe: Probe,
}

/// Where the frames of a burst are.
trait Frames {
    fn count(&self) -> usize;
    fn headers(&mut self, at: usize) -> Option<&mut Headers>;
}

impl Frames for [Slot; BURST] {
    #[inline(always)]
    fn count(&self) -> usize {
        BURST
    }

    #[inline(always)]
    fn headers(&mut self, at: usize) -> Option<&mut Headers> {
        self.get_mut(at)?.0.first_chunk_mut()
    }
}

/// A burst between its passes.
pub(crate) struct Batch {
    seen: [Seen; BURST],
    count: usize,
}

/// The loop and its table.
pub(crate) struct Bare {
    table: Arc<Table<V4>>,
    service: Endpoint4,
    /// Of the frames that leave, by next hop: both MAC addresses as they lie there.
    macs: [(u64, u32); CLIENTS + 1],
    // The table is theirs.
    _worker: WorkerLocal<V4>,
    _keeper: Keeper<V4>,
}

impl Bare {
    /// With connections of these clients; their records lie in the order of their addresses.
    ///
    /// # Errors
    /// There is no memory.
    pub(crate) fn new(table: &Options, flows: &[Flow]) -> Result<Self> {
        let (table, mut workers, keeper) = Table::<V4>::create(table)?;
        let mut worker = workers.pop().context("no worker")?;
        let service = Endpoint4::new(SERVICE.ip().to_bits(), SERVICE.port());
        let servers = servers();
        let mut flows = flows.to_vec();
        flows.sort_unstable_by_key(|flow| (flow.address, flow.port));
        for flow in &flows {
            worker.quiescent();
            let client = V4End::new(flow.address, flow.port, TCP);
            let place = usize::from(flow.server);
            let server = servers.get(place).context("a connection has no server")?.0;
            let server = Endpoint4::new(server.to_bits(), SERVER_PORT);
            let change = Change::between(service, server);
            let made = worker.insert(
                client,
                |record| record.end() == client,
                |_, record| {
                    record.set_word(OF_SERVICE, service.word() | u64::from(change.transport.bits()));
                    record.set_word(OF_SERVER, server.word() | u64::from(change.network.bits()));
                    record.set_word(PLACE, place as u64);
                    Ok::<_, Infallible>(Clock::new(Tick(0), 1, MAX_TIMEOUT))
                },
            )?;
            if !matches!(made, Inserted::New(_)) {
                bail!("a client has two connections");
            }
        }
        worker.offline();
        let macs = std::array::from_fn(|at| macs(servers.get(at).map_or(GATEWAY.1, |server| server.1)));
        Ok(Self { table, service, macs, _worker: worker, _keeper: keeper })
    }

    /// For a burst.
    pub(crate) fn batch(&self) -> Batch {
        let client = V4End::from_bits(0);
        let none = Seen { client, other: self.service, hash: self.table.hash(client), probe: Probe::NONE };
        Batch { seen: [none; BURST], count: 0 }
    }

    /// Translates a burst. How many frames it left as they were.
    #[inline(never)]
    pub(crate) fn process(&self, slots: &mut [Slot; BURST], batch: &mut Batch) -> u64 {
        self.look(slots, batch);
        self.seek(batch);
        self.finish(slots, batch)
    }

    /// The first pass.
    #[inline(always)]
    fn look(&self, frames: &mut impl Frames, batch: &mut Batch) {
        let lookup = self.table.lookup();
        batch.count = frames.count().min(BURST);
        for (at, seen) in batch.seen.iter_mut().enumerate().take(batch.count) {
            let Some(headers) = frames.headers(at) else { continue };
            let [source, destination] = ends(headers);
            let (client, other) =
                if destination == self.service { (source, destination) } else { (destination, source) };
            seen.client = V4End::from_bits(client.word() | u64::from(TCP) << 8);
            seen.other = other;
            seen.hash = lookup.hash(seen.client);
            lookup.prefetch(seen.hash);
        }
    }

    /// The second pass.
    #[inline(always)]
    fn seek(&self, batch: &mut Batch) {
        let lookup = self.table.lookup();
        let mut is_unclear = false;
        for seen in batch.seen.iter_mut().take(batch.count) {
            seen.probe = lookup.probe(seen.hash);
            is_unclear |= seen.probe.only().is_none();
        }
        if is_unclear {
            self.prefetch_candidates(batch);
        }
    }

    /// The last pass. How many frames it left as they were.
    #[inline(always)]
    fn finish(&self, frames: &mut impl Frames, batch: &Batch) -> u64 {
        let mut left = 0;
        for (at, seen) in batch.seen.iter().enumerate().take(batch.count) {
            left += u64::from(self.forward(frames, at, seen).is_none());
        }
        left
    }

    /// Where tags are not the only ones of their kind.
    #[cold]
    fn prefetch_candidates(&self, batch: &Batch) {
        let ambiguous = || batch.seen.iter().take(batch.count).filter(|seen| seen.probe.only().is_none());
        for seen in ambiguous() {
            self.table.lookup().prefetch_candidates(seen.hash);
        }
        for seen in ambiguous() {
            self.table.lookup().prefetch_overflow(seen.hash);
        }
    }

    #[inline(always)]
    fn forward(&self, frames: &mut impl Frames, at: usize, seen: &Seen) -> Option<()> {
        let record = match self.table.lookup().candidate(seen.probe) {
            Some(record) => record,
            None => self.search(seen)?,
        };
        let (service, server) = (record.word(OF_SERVICE), record.word(OF_SERVER));
        let (network, transport) = (Delta::from_bits(server as u16), Delta::from_bits(service as u16));
        let headers = frames.headers(at)?;
        if record.end() != seen.client {
            return None;
        }
        if seen.other == Endpoint4::from_word(service) {
            let macs = *self.macs.get(record.word(PLACE) as usize)?;
            let to = Endpoint4::from_word(server);
            Rewrite { to, network, transport, macs }.apply(headers, End::Destination);
        } else if seen.other == Endpoint4::from_word(server) {
            let (network, transport) = (network.opposite(), transport.opposite());
            let to = Endpoint4::from_word(service);
            Rewrite { to, network, transport, macs: self.macs[CLIENTS] }.apply(headers, End::Source);
        } else {
            return None;
        }
        Some(())
    }

    #[inline(never)]
    fn search(&self, seen: &Seen) -> Option<&Record<V4>> {
        let index = self.table.find(seen.hash, |record| record.end() == seen.client)?;
        self.table.lookup().record(index)
    }
}

/// The source and the destination of a frame of TCP over IPv4.
#[inline(always)]
fn ends(frame: &Headers) -> [Endpoint4; 2] {
    let address = |at: usize| u32::from_be_bytes([frame[at], frame[at + 1], frame[at + 2], frame[at + 3]]);
    let port = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
    [Endpoint4::new(address(26), port(34)), Endpoint4::new(address(30), port(36))]
}

/// The MAC addresses of a frame that goes to `to`: its first eight bytes and the next four.
fn macs(to: Mac) -> (u64, u32) {
    let mut bytes = [0; 12];
    bytes[..6].copy_from_slice(&to);
    bytes[6..].copy_from_slice(&PORT_MAC);
    let [first @ .., a, b, c, d] = bytes;
    (u64::from_le_bytes(first), u32::from_le_bytes([a, b, c, d]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hot::{Generator, Mix};
    use crate::kind::Kind;
    use crate::template::{Segment, Template};

    #[test]
    fn it_translates_as_the_director_does() {
        let mut flows: Vec<Flow> = (0..3200).map(|number| Flow::of(number * 77_777)).collect();
        for (at, flow) in flows.iter_mut().enumerate() {
            flow.server = (at % 4) as u8;
        }
        let bare = Bare::new(&Options::new(3200, 1), &flows).unwrap();
        let forth: [_; 4] =
            std::array::from_fn(|server| Template::to_server(Kind::TCP, Segment::ACK, server));
        let back = Template::from_service(Kind::TCP, Segment::ACK);
        let (mut slots, mut slot) = ([Slot::EMPTY; BURST], Slot::EMPTY);
        let mut batch = bare.batch();
        let mut generator = Generator::new(&flows, Kind::TCP, Mix::Both);
        for flows in flows.chunks_exact(BURST) {
            generator.fill(&mut slots);
            assert_eq!(bare.process(&mut slots, &mut batch), 0);
            for (at, (Slot(frame), flow)) in slots.iter().zip(flows).enumerate() {
                let template = if at % 2 == 1 { &back } else { &forth[usize::from(flow.server)] };
                template.write(&mut slot, flow.address, flow.port);
                assert_eq!(frame, &slot.0);
            }
        }
        // A client without a connection.
        Generator::new(&[Flow::of(1); BURST], Kind::TCP, Mix::Clients).fill(&mut slots);
        assert_eq!(bare.process(&mut slots, &mut batch), BURST as u64);
    }
}
