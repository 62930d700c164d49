//! Clients on a server's own link, of a service with `hairpin_snat`.
//!
//! The server would answer such a client directly, with its own address, which the client does not expect. So the
//! server is shown an address of the director's in place of the client's, with a port of its own. Its answers then
//! come to the director, which finds the entry by this end, the entry's second key, and puts both ends back.

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

/// The ports that stand for clients. They are above those that Linux uses for its own connections, and Linux must not
/// use them.
pub const HAIRPIN_PORTS: RangeInclusive<u16> = 61_000..=65_535;

/// How many ports are tried for a connection.
const TRIES: usize = 64;

/// The ports that a worker may choose: with n workers each has every n-th, so that no two workers choose the same.
/// They are taken in turn, so that a port is used again as late as possible.
pub(super) struct Ports {
    first: u16,
    step: u16,
    next: u16,
}

impl Ports {
    pub(super) fn new(worker: usize, workers: usize) -> Self {
        // Each worker is an lcore, so there are fewer of them than ports.
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

/// What stands for a client towards a server of the service, if something has to.
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

/// Replaces the client by what stands for it, or the reverse, in a packet whose other end is translated elsewhere.
pub(super) fn replace(lane: &Lane, stand_in: Endpoint, frame: &mut [u8]) {
    let segment = Segment { ttl: lane.segment.ttl.wrapping_sub(1), ..lane.segment };
    match lane.direction {
        Direction::In => Change::between(lane.client, stand_in).put_back(frame, &segment, End::Source),
        Direction::Out => Change::between(stand_in, lane.client).put_back(frame, &segment, End::Destination),
    }
}

impl Core {
    /// Whom a packet to the director is for that has no entry by its source, if it is a server's packet to what
    /// stands for a client.
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
