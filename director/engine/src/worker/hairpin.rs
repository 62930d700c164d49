//! Clients on a server's own link, of a service with `hairpin_snat`.
//!
//! The server would answer such a client directly, with its own address, and the client would not know what that is.
//! So towards the server an address of the director's stands for the client, with a port of its own: the answers come
//! to the director, which finds the entry by this end, its second key, and puts both ends back.

use std::ops::RangeInclusive;

use director_packet::Endpoint;
use director_packet::nat::End;
use director_packet::{Change, Segment};

use super::tables::{Whose, find_stand_in};
use super::{Core, Frames, Lane, Moment, Verdict};
use crate::reason::Reason;
use crate::scheduler::{ServerView, ServiceView};
use crate::service::Forward;
use crate::sources;
use crate::state::Direction;

/// The ports that stand for clients: above those that Linux gives to connections of its own, and not for it to give.
pub const HAIRPIN_PORTS: RangeInclusive<u16> = 61_000..=65_535;

/// How many ports are tried for a connection.
const TRIES: usize = 64;

/// The ports that a worker may choose: of n workers each has every n-th, so that no two choose one at a time. They are
/// taken in turn, so that one is used again as late as can be.
pub(super) struct Ports {
    first: u16,
    step: u16,
    next: u16,
}

impl Ports {
    pub(super) fn new(worker: usize, workers: usize) -> Self {
        // There are fewer workers than ports: an lcore each.
        let first = HAIRPIN_PORTS.start() + worker as u16;
        Self { first, step: workers.max(1) as u16, next: first }
    }

    fn take(&mut self) -> u16 {
        let port = self.next;
        let next = port.checked_add(self.step);
        self.next = next.filter(|next| HAIRPIN_PORTS.contains(next)).unwrap_or(self.first);
        port
    }
}

/// What stands for a client towards a server of a service, where something is to.
pub(super) fn stand_in(
    ports: &mut Ports,
    moment: &Moment<'_>,
    service: &ServiceView,
    server: &ServerView,
    whose: Whose,
) -> Result<Option<Endpoint>, Reason> {
    let (fib, to) = (&moment.snapshot.fib, server.address);
    let is_asked = service.hairpin_snat && server.forward == Forward::Masquerading;
    if !is_asked || !fib.share_a_link(whose.client.address(), to.address()) {
        return Ok(None);
    }
    let hop = fib.hop(to.address()).ok_or(Reason::NoRoute)?;
    let own = sources::towards(&moment.snapshot.sources, hop, to.address()).ok_or(Reason::NoRoute)?;
    let mut ends = std::iter::repeat_with(|| Endpoint::of(own, ports.take())).take(TRIES);
    let free = ends.find(|&end| find_stand_in(moment, end, to, whose.protocol).is_none());
    free.map(Some).ok_or(Reason::HairpinPortsFull)
}

/// Puts what stands for the client in its place, or the client back, in a packet that is translated otherwise.
pub(super) fn replace(lane: &Lane, stand_in: Endpoint, frame: &mut [u8]) {
    let segment = Segment { ttl: lane.segment.ttl.wrapping_sub(1), ..lane.segment };
    match lane.direction {
        Direction::In => Change::between(lane.client, stand_in).put_back(frame, &segment, End::Source),
        Direction::Out => Change::between(stand_in, lane.client).put_back(frame, &segment, End::Destination),
    }
}

impl Core {
    /// A packet to the director that has no entry by its source: a server's to what stands for a client. None: it is
    /// none.
    pub(super) fn hairpin_reply(
        &mut self,
        moment: &Moment<'_>,
        lane: &Lane,
        frames: &mut impl Frames,
    ) -> Option<Verdict> {
        let Segment { source, destination, protocol, .. } = lane.segment;
        if !moment.shared.servers.may_have_hairpins() || !HAIRPIN_PORTS.contains(&destination.port()) {
            return None;
        }
        let entry = self.local.find_stand_in(moment, destination, source, protocol)?;
        let lane = Lane { client: entry.client(), other: source, direction: Direction::Out, ..*lane };
        Some(self.hit(moment, &lane, entry, frames))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_worker_has_ports_of_its_own() {
        let mut all = Vec::new();
        for worker in 0..3 {
            let mut ports = Ports::new(worker, 3);
            let first = ports.take();
            let mut own = vec![first];
            own.extend(std::iter::repeat_with(|| ports.take()).take_while(|&port| port != first));
            all.extend(own);
        }
        all.sort_unstable();
        assert!(all.into_iter().eq(HAIRPIN_PORTS), "each once, and none else");
    }
}
