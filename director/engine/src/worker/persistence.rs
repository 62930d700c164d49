//! New connections of persistent services go where the client's template says.

use director_packet::ethernet::HEADER;
use director_packet::{Address, Endpoint, Segment, UDP};

use super::Moment;
use crate::reason::Reason;
use crate::scheduler::{Request, ServerView, ServiceView};
use crate::service::{EndKey, Persistence};
use crate::sip::CallId;
use crate::snapshot::FTP;
use crate::state::State;
use crate::templates::{Chosen, Joined, Key};

/// The length of a UDP header, in bytes.
const UDP_HEADER: usize = 8;

impl ServiceView {
    /// The server of a new connection in this state from `request` to `vip`, counted as its connection. In a
    /// persistent service it is the server that the client has already. `connection` is none for a datagram without
    /// an entry, `call` for one without a Call-ID.
    pub(super) fn server_for(
        &self,
        moment: &Moment<'_>,
        vip: Endpoint,
        request: &Request,
        state: State,
        connection: Option<u32>,
        call: Option<&CallId>,
    ) -> Result<ServerView, Reason> {
        let servers = &moment.shared.servers;
        let Some(persistence) = self.persistence else {
            // A service of port 0 is that of every port only if it is persistent.
            if self.key.address.port() == 0 && vip.port() != 0 && self.key.mark().is_none() {
                return Err(Reason::NoServer);
            }
            let server = self.schedule(servers, request, state).ok_or(Reason::NoServer)?;
            return Ok(self.chosen(servers, server, vip));
        };
        if self.engine.is_some() && call.is_none() {
            return Err(Reason::NoCallId);
        }
        let quiescent_expires = moment.snapshot.sysctls.expire_quiescent_template;
        let is_usable = |slot| {
            let refused = servers.is_gone(slot) || quiescent_expires && servers.weight(slot) == 0;
            !refused
        };
        let choose = || {
            let server = self.schedule(servers, request, state)?;
            Some(Chosen { slot: server.slot, address: server.address })
        };
        let joined = moment.shared.templates.join(
            (self.template_of(persistence, vip, request.source), call),
            (moment.now, persistence.timeout),
            (connection, state.is_established()),
            servers,
            is_usable,
            choose,
        )?;
        let server = match joined {
            Joined::Made(server) => server,
            Joined::Found(server) => {
                servers.bind(server.slot, state);
                server
            }
        };
        Ok(self.towards(servers, server.slot, server.address, vip))
    }

    /// Ties what `server` sends to a client to the client's template, which is made again if it names another server.
    /// Counts nothing.
    pub(super) fn join_by_server(
        &self,
        moment: &Moment<'_>,
        (slot, server): (u32, Endpoint),
        client: Address,
        connection: Option<u32>,
        call: Option<&CallId>,
    ) -> Result<(), Reason> {
        let Some(persistence) = self.persistence else { return Ok(()) };
        moment.shared.templates.join(
            (self.template_of(persistence, self.key.address, client), call),
            (moment.now, persistence.timeout),
            (connection, true),
            &moment.shared.servers,
            |chosen| chosen == slot,
            || Some(Chosen { slot, address: server }),
        )?;
        Ok(())
    }

    /// The Call-ID of a segment's datagram, if the service wants to know.
    pub(super) fn call_of(&self, segment: &Segment, frame: &[u8]) -> Option<CallId> {
        if self.engine.is_none() || segment.protocol != UDP {
            return None;
        }
        let end = HEADER + usize::from(segment.length);
        let message = HEADER + usize::from(segment.header) + UDP_HEADER;
        CallId::of(frame.get(message..end.min(frame.len()))?)
    }

    /// A service of one port has templates for that port. A service of all ports has templates for all, and so has
    /// one of FTP, whose clients come to other ports too.
    fn template_of(&self, persistence: Persistence, vip: Endpoint, source: Address) -> Key {
        let client = persistence.masked(source);
        if self.key.mark().is_some() {
            return Key { service: self.key.into(), client };
        }
        let own = self.key.address.port();
        let port = if vip.port() == own && own != FTP { own } else { 0 };
        Key { service: EndKey::new(vip.with_port(port), self.key.protocol.number()), client }
    }
}
