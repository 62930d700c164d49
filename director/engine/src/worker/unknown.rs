//! Packets without an entry: new connections, and what the fast path leaves to the kernel.

use director_flow::Clock;
use director_packet::tcp_flag::SYN;
use director_packet::{Address, Malformed, SCTP, Segment, TCP, UDP, icmp};

use super::hairpin;
use super::refusal::decrement_ttl;
use super::tables::{Made, New, Whose};
use super::{Core, Frames, Lane, Moment, Verdict, Way};
use crate::entry::Entry;
use crate::reason::Reason;
use crate::scheduler::{Request, ServerView, ServiceView};
use crate::sip::CallId;
use crate::snapshot::{FTP, FTP_DATA, Snapshot};
use crate::state::{Direction, State};

impl Core {
    /// A packet without an entry.
    pub(super) fn without_entry(
        &mut self,
        moment: &Moment<'_>,
        lane: &Lane,
        frames: &mut impl Frames,
    ) -> Verdict {
        match lane.direction {
            Direction::In => {
                if let Some(verdict) = self.hairpin_reply(moment, lane, frames) {
                    return verdict;
                }
                match self.expected_by_ftp(moment, lane) {
                    Some(Ok(entry)) => self.hit(moment, lane, entry, frames),
                    Some(Err(reason)) => self.refuse(moment, lane, reason, frames),
                    None => self.schedule(moment, lane, frames),
                }
            }
            Direction::Out => self.not_ours(moment, lane, frames),
        }
    }

    /// A client's packet of an entry whose server was deleted.
    #[cold]
    pub(super) fn server_gone(
        &mut self,
        moment: &Moment<'_>,
        lane: &Lane,
        entry: Entry<'_>,
        frames: &mut impl Frames,
    ) -> Verdict {
        if moment.snapshot.sysctls.expire_nodest_conn {
            self.local.kill(entry);
            return self.schedule(moment, lane, frames);
        }
        Verdict::Drop(Reason::ServerGone)
    }

    /// A server's packet, or anybody's, that belongs to no connection.
    fn not_ours(&mut self, moment: &Moment<'_>, lane: &Lane, frames: &mut impl Frames) -> Verdict {
        if let Some(verdict) = self.one_packet_reply(moment, lane, frames) {
            return verdict;
        }
        self.nobodys(moment, lane, frames)
    }

    /// The same, when it belongs to no one-packet service either.
    pub(super) fn nobodys(&mut self, moment: &Moment<'_>, lane: &Lane, frames: &mut impl Frames) -> Verdict {
        let snapshot = moment.snapshot;
        // What is not forwarded the kernel's IPVS does not see.
        let is_seen = snapshot.forwards(lane.client) && lane.segment.ttl > 1;
        if !is_seen || !is_stray(snapshot, &lane.segment) {
            return Verdict::Kernel;
        }
        let head = frames.head(lane.at);
        decrement_ttl(head);
        self.reply(moment, icmp::Error::PortUnreachable, head, moment.port.address_for(lane.client));
        Verdict::Drop(Reason::NoConnection)
    }

    /// A packet to the director without an entry: a new connection, if a service wants it.
    #[inline(never)]
    pub(super) fn schedule(&mut self, moment: &Moment<'_>, lane: &Lane, frames: &mut impl Frames) -> Verdict {
        let Segment { source, destination, protocol, flags, .. } = lane.segment;
        let snapshot = moment.snapshot;
        let Some(service) = snapshot.service(source.address(), destination, protocol) else {
            return Verdict::Kernel;
        };
        if is_stray(snapshot, &lane.segment) {
            return self.refuse(moment, lane, Reason::NoConnection, frames);
        }
        if !begins(snapshot, &lane.segment) {
            return Verdict::Kernel;
        }
        if !may_be_a_client(snapshot, source.address()) {
            return Verdict::Drop(Reason::MartianSource);
        }
        if moment.shared.drops_one(&snapshot.sysctls) {
            return Verdict::Drop(Reason::DropPacket);
        }
        if source.port() == FTP_DATA {
            return Verdict::Kernel;
        }
        if service.one_packet && protocol == UDP {
            let sent = self.one_packet(moment, lane, service, frames);
            return sent.unwrap_or_else(|reason| self.refuse(moment, lane, reason, frames));
        }
        let first = snapshot.next_state(State::None, Direction::In, protocol, flags);
        let call = service.call_of(&lane.segment, frames.head(lane.at));
        let (entry, way) = match self.insert(moment, service, lane.whose(), first, call.as_ref()) {
            Ok(Made::New(entry)) => (entry, Way::of_new(moment, entry)),
            Ok(Made::Existing(entry)) => {
                self.advance(moment, lane, entry);
                (entry, Way::of(moment, entry, Direction::In))
            }
            // What may be FTP's data need not be: if there is no server, it is left to the kernel.
            Err(Reason::NoServer) if service.key.address.port() == FTP && destination.port() != FTP => {
                return Verdict::Kernel;
            }
            Err(reason) => return self.refuse(moment, lane, reason, frames),
        };
        self.forward(moment, lane, entry, way, frames)
    }

    /// Makes the entry of a new connection in this state, and counts the connection.
    pub(super) fn insert<'a>(
        &mut self,
        moment: &Moment<'a>,
        service: &ServiceView,
        whose: Whose,
        state: State,
        call: Option<&CallId>,
    ) -> Result<Made<'a>, Reason> {
        let request = Request {
            source: whose.client.address(),
            source_port: whose.client.port(),
            destination: whose.other.address(),
            now: moment.now,
        };
        let ports = &mut self.hairpin_ports;
        let made = self.local.insert(moment, whose, |number| {
            let is_ftp = whose.other.port() == FTP && whose.protocol == TCP;
            let server = service.server_for(moment, whose.other, &request, state, Some(number), call)?;
            let state = settle(moment, &server, state);
            let clock = Clock::new(moment.now, state.kept(), moment.snapshot.timeouts.of(state));
            if is_ftp {
                moment.shared.ftp.begin();
                return Ok(New { server, clock, stand_in: None });
            }
            match hairpin::stand_in(ports, moment, service, &server, whose) {
                Ok(stand_in) => Ok(New { server, clock, stand_in }),
                Err(reason) => {
                    moment.shared.servers.unbind(server.slot, state);
                    moment.shared.templates.leave(number, moment.now);
                    Err(reason)
                }
            }
        })?;
        if let Made::New(entry) = made {
            moment.shared.servers.count_connection(self.local.id(), entry.slot());
        }
        Ok(made)
    }

    /// Decides about a frame that is no whole TCP segment, UDP datagram or SCTP packet for the port.
    #[cold]
    pub(super) fn not_a_segment(
        &mut self,
        moment: &Moment<'_>,
        at: usize,
        parsed: director_packet::Verdict,
        frames: &mut impl Frames,
    ) -> Verdict {
        let reason = match parsed {
            director_packet::Verdict::Segment(_) => return Verdict::Kernel,
            director_packet::Verdict::Other => {
                let found = self.related(moment, at, frames);
                return found.or_else(|| self.ipsec(moment, at, frames)).unwrap_or(Verdict::Kernel);
            }
            director_packet::Verdict::OtherHost => Reason::OtherHost,
            director_packet::Verdict::Fragment { .. } => return self.fragment(moment, at, frames),
            director_packet::Verdict::Malformed(malformed) => match malformed {
                Malformed::Ethernet => Reason::MalformedEthernet,
                Malformed::Ipv4 => Reason::MalformedIpv4,
                Malformed::Ipv6 => Reason::MalformedIpv6,
                Malformed::Ipv4Checksum => Reason::Ipv4Checksum,
                Malformed::Transport => return self.cut_short(moment, at, frames),
                Malformed::Scattered => Reason::ScatteredHeaders,
            },
        };
        Verdict::Drop(reason)
    }
}

/// Whether `nat_icmp_send` has a server be told of its packet, which is of no connection.
fn is_stray(snapshot: &Snapshot, segment: &Segment) -> bool {
    let &Segment { source, protocol, .. } = segment;
    snapshot.sysctls.nat_icmp_send && !segment.resets() && snapshot.has_server(source, protocol)
}

/// Whether a SYN or INIT on this entry begins a new connection: where the old one is over, unless
/// `conn_reuse_mode` is 0 (under its bit 2, where it may be over) or the connection is of a persistence template; or,
/// under `expire_nodest_conn`, where its server is to get no new one. FTP's data connections are as they were announced.
#[cold]
pub(super) fn is_new(moment: &Moment<'_>, entry: Entry<'_>) -> bool {
    let sysctls = &moment.snapshot.sysctls;
    let state = entry.state();
    // Where nobody sees the server close, only the client's FIN tells.
    let may_be_over = state == State::FinWait && entry.forward().is_one_sided();
    let is_over =
        sysctls.conn_reuse_mode != 0 && state.is_over() || sysctls.conn_reuse_mode & 2 != 0 && may_be_over;
    let number = moment.number(entry);
    is_over && !moment.shared.templates.has(number) && !moment.shared.ftp.is_data(number)
        || sysctls.expire_nodest_conn && moment.shared.servers.weight(entry.slot()) == 0
}

/// The state of a new connection once its server is known; it was counted in `state`.
fn settle(moment: &Moment<'_>, server: &ServerView, state: State) -> State {
    if state != State::SynRecv || !server.forward.is_one_sided() {
        return state;
    }
    let new = moment.snapshot.next_one_sided(State::None, TCP, SYN);
    moment.shared.servers.change(server.slot, state, new);
    new
}

/// Whether a packet may begin a connection.
fn begins(snapshot: &Snapshot, segment: &Segment) -> bool {
    let sloppy = match segment.protocol {
        TCP => snapshot.sysctls.sloppy_tcp,
        SCTP => snapshot.sysctls.sloppy_sctp,
        _ => true,
    };
    !segment.resets() && (sloppy || segment.opens())
}

/// Whether an address can be a client's, as in Linux since 5.3. In IPv4 it is none of the director's, nor 0.0.0.0,
/// loopback, multicast or the limited broadcast address; any other address of 0.0.0.0/8 and 240.0.0.0/4 is allowed.
/// In IPv6 it is neither loopback nor multicast; the director's own addresses are allowed.
pub(super) fn may_be_a_client(snapshot: &Snapshot, address: Address) -> bool {
    match address {
        Address::V4(host) => {
            !matches!(host, 0 | u32::MAX)
                && host >> 24 != 127
                && host >> 28 != 0xe
                && !snapshot.is_local(Address::V4(host))
        }
        Address::V6(host) => host != 1 && host >> 120 != 0xff,
    }
}
