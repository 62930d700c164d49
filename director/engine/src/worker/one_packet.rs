//! One-packet services: each datagram is scheduled alone and leaves no entry behind.
//!
//! A server's reply therefore says nothing of the service it belongs to. It is translated where the server's
//! address and port are those of one such service only.

use director_packet::{Change, Endpoint};

use super::{Core, Frames, Lane, Moment, Verdict, Way};
use crate::entry::Load;
use crate::reason::Reason;
use crate::scheduler::{Request, ServiceView};
use crate::service::Forward;
use crate::state::State;

impl Core {
    /// A client's datagram.
    pub(super) fn one_packet(
        &mut self,
        moment: &Moment<'_>,
        lane: &Lane,
        service: &ServiceView,
        frames: &mut impl Frames,
    ) -> Result<Verdict, Reason> {
        let (client, vip) = (lane.segment.source, lane.segment.destination);
        let request = Request {
            source: client.address(),
            source_port: client.port(),
            destination: vip.address(),
            now: moment.now,
        };
        let call = service.call_of(&lane.segment, frames.head(lane.at));
        let server = service.server_for(moment, vip, &request, State::Udp, None, call.as_ref())?;
        let servers = &moment.shared.servers;
        servers.count_connection(self.local.id(), server.slot);
        servers.unbind(server.slot, State::Udp);
        let load = Load {
            slot: server.slot,
            change: server.change,
            service: vip,
            forward: server.forward,
            stand_in: None,
        };
        Ok(self.carry(moment, lane, load, way_to(moment, server.address), frames))
    }

    /// A server's packet without an entry, if it is a reply to such a datagram.
    pub(super) fn one_packet_reply(
        &mut self,
        moment: &Moment<'_>,
        lane: &Lane,
        frames: &mut impl Frames,
    ) -> Option<Verdict> {
        let (service, slot) =
            moment.snapshot.one_packet_service(lane.segment.source, lane.segment.protocol)?;
        let way = way_to(moment, lane.segment.destination);
        if let Some(verdict) = self.hindered(moment, lane, &way, frames) {
            return Some(verdict);
        }
        let change = Change::between(lane.segment.source, service);
        let load = Load { slot, change, service, forward: Forward::Masquerading, stand_in: None };
        Some(self.carry(moment, lane, load, way, frames))
    }
}

/// The way to an address, kept nowhere.
fn way_to<'a>(moment: &Moment<'a>, to: Endpoint) -> Result<Way<'a>, Reason> {
    let hop = moment.snapshot.fib.hop(to.address()).ok_or(Reason::NoRoute)?;
    let adjacency = moment.shared.adjacencies.entry(hop).map_err(|_| Reason::NeighbourTableFull)?;
    Way::by(moment, adjacency)
}
