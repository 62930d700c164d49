//! Servers' datagrams without an entry: replies of one-packet services, which schedule each datagram alone and leave
//! no entry behind, and what a server itself begins to send in a call that a persistence engine knows.
//!
//! Such a datagram does not tell which service it belongs to. It is translated only if the server's address and port
//! are those of exactly one such service.

use director_flow::Clock;
use director_packet::{Change, UDP};

use super::tables::{Made, New, Whose};
use super::{Core, Frames, Lane, Moment, Verdict, Way};
use crate::entry::{Entry, Load};
use crate::reason::Reason;
use crate::scheduler::{Request, ServiceView};
use crate::service::Forward;
use crate::sip::CallId;
use crate::state::{Direction, State};

impl Core {
    /// A client's datagram to a one-packet service.
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
        Ok(self.carry(moment, lane, load, Way::to(moment, server.address.address()), frames))
    }

    /// A server's packet without an entry, if it is a reply to such a datagram or belongs to a call.
    pub(super) fn one_packet_reply(
        &mut self,
        moment: &Moment<'_>,
        lane: &Lane,
        frames: &mut impl Frames,
    ) -> Option<Verdict> {
        let (view, slot) = moment.snapshot.one_packet_service(lane.segment.source, lane.segment.protocol)?;
        let call = view.call_of(&lane.segment, frames.head(lane.at));
        let is_of_calls = view.engine.is_some() && view.persistence.is_some();
        if is_of_calls && call.is_none() {
            return None;
        }
        let way = Way::to(moment, lane.segment.destination.address());
        if let Some(verdict) = self.hindered(moment, lane, &way, frames) {
            return Some(verdict);
        }
        let service = view.key.address;
        if view.engine.is_some() {
            match self.begun_by_server(moment, lane, view, slot, call.as_ref()) {
                Ok(Some(entry)) => return Some(self.hit(moment, lane, entry, frames)),
                Ok(None) => {}
                Err(reason) => return Some(Verdict::Drop(reason)),
            }
        }
        let change = Change::between(lane.segment.source, service);
        let load = Load { slot, change, service, forward: Forward::Masquerading, stand_in: None };
        Some(self.carry(moment, lane, load, way, frames))
    }
}

impl Core {
    /// Makes the entry for what a server itself begins to send, and updates the call's template, which names this
    /// server from now on. None: the service leaves no entries.
    fn begun_by_server<'a>(
        &mut self,
        moment: &Moment<'a>,
        lane: &Lane,
        view: &ServiceView,
        slot: u32,
        call: Option<&CallId>,
    ) -> Result<Option<Entry<'a>>, Reason> {
        let (vip, server, client) = (view.key.address, lane.segment.source, lane.segment.destination);
        let servers = &moment.shared.servers;
        let join = |number| view.join_by_server(moment, (slot, server), client.address(), number, call);
        if view.one_packet {
            join(None)?;
            servers.count_connection(self.local.id(), slot);
            return Ok(None);
        }
        let whose = Whose { client, other: vip, protocol: UDP, direction: Direction::In };
        // The client may have an entry to another server, which stays.
        let made = self.local.insert_beside(moment, whose, lane.whose(), |number| {
            join(Some(number))?;
            servers.bind(slot, State::Udp);
            let timeout = moment.snapshot.timeouts.of(State::Udp);
            let clock = Clock::new(moment.now, State::Udp.kept(), timeout);
            Ok(New { server: view.towards(servers, slot, server, vip), clock, stand_in: None })
        })?;
        Ok(match made {
            Made::New(entry) => {
                servers.count_connection(self.local.id(), slot);
                Some(entry)
            }
            // Another worker has just made it. The next datagram finds what has become of it.
            Made::Existing(_) => None,
        })
    }
}
