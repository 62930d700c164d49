//! Packets without an entry: new connections, and what is not the fast path's.

use director_flow::{Clock, Index, InsertError, Inserted, Record, V4, V4End};
use director_packet::tcp_flag::{RST, SYN};
use director_packet::{Malformed, Segment, TCP, icmp};

use super::{Core, Frames, Lane, Moment, Verdict, Way};
use crate::entry;
use crate::reason::Reason;
use crate::scheduler::{Request, ServiceView};
use crate::service::Protocol;
use crate::snapshot::Snapshot;
use crate::state::{self, Direction, State};

impl Core {
    /// A packet without an entry.
    pub(super) fn without_entry(
        &mut self,
        moment: &Moment<'_>,
        lane: &Lane,
        frames: &mut impl Frames,
    ) -> Verdict {
        match lane.direction {
            Direction::In => self.schedule(moment, lane, frames),
            Direction::Out => self.not_ours(moment, lane, frames),
        }
    }

    /// A client's packet of an entry whose server was deleted.
    #[cold]
    pub(super) fn server_gone(
        &mut self,
        moment: &Moment<'_>,
        lane: &Lane,
        index: Index,
        frames: &mut impl Frames,
    ) -> Verdict {
        if moment.snapshot.sysctls.expire_nodest_conn {
            self.local.kill(index);
            return self.schedule(moment, lane, frames);
        }
        Verdict::Drop(Reason::ServerGone)
    }

    /// A server's packet, or anybody's, that belongs to no connection.
    fn not_ours(&mut self, moment: &Moment<'_>, lane: &Lane, frames: &mut impl Frames) -> Verdict {
        let Segment { source, protocol, flags, .. } = lane.segment;
        let snapshot = moment.snapshot;
        let asked = snapshot.sysctls.nat_icmp_send && snapshot.ip_forward;
        let is_reset = protocol == TCP && flags & RST != 0;
        if !asked || is_reset || !snapshot.has_server(source, protocol) {
            return Verdict::Kernel;
        }
        self.reply(moment, icmp::Error::PortUnreachable, frames.head(lane.at), moment.port.address);
        Verdict::Drop(Reason::NoConnection)
    }

    /// A packet to the director without an entry: a new connection, where a service wants it.
    #[inline(never)]
    pub(super) fn schedule(&mut self, moment: &Moment<'_>, lane: &Lane, frames: &mut impl Frames) -> Verdict {
        let Segment { source, destination, protocol, flags, .. } = lane.segment;
        let snapshot = moment.snapshot;
        let Some(service) = snapshot.service(destination, protocol) else { return Verdict::Kernel };
        if !begins(snapshot, protocol, flags) {
            return Verdict::Kernel;
        }
        if snapshot.is_local(source.address()) || !may_be_a_host(source.address()) {
            return Verdict::Drop(Reason::MartianSource);
        }
        let sysctls = &snapshot.sysctls;
        if sysctls.drop_packet == 3 && moment.shared.drops_one(sysctls.am_droprate) {
            return Verdict::Drop(Reason::DropPacket);
        }
        let index = match self.insert(moment, service, lane.client, flags) {
            Ok(Inserted::New(index)) => {
                let slot = entry::slot(moment.table.record(index));
                moment.shared.servers.count_connection(self.local.id(), slot);
                index
            }
            // Another worker was faster with a packet of the same connection.
            Ok(Inserted::Existing(index)) => {
                self.advance(moment, lane, index, moment.table.record(index));
                index
            }
            Err(reason) => {
                if reason == Reason::NoServer {
                    let head = frames.head(lane.at);
                    self.reply(moment, icmp::Error::PortUnreachable, head, destination.address());
                }
                return Verdict::Drop(reason);
            }
        };
        let record = moment.table.record(index);
        self.forward(moment, lane, record, Way::of(moment, record, Direction::In), frames)
    }

    fn insert(
        &mut self,
        moment: &Moment<'_>,
        service: &ServiceView,
        client: V4End,
        flags: u8,
    ) -> Result<Inserted, Reason> {
        let servers = &moment.shared.servers;
        let vip = service.key.address;
        let same = |record: &Record<V4>| entry::matches(record, client, Direction::In, vip);
        let request = Request {
            source: client.addr(),
            source_port: client.port(),
            destination: vip.address(),
            now: moment.now,
        };
        let make = |_: Index, record: &Record<V4>| {
            let state = match service.key.protocol {
                Protocol::Tcp => state::next(State::None, Direction::In, flags),
                Protocol::Udp => State::Udp,
            };
            let server = service.schedule(servers, &request, state).ok_or(Reason::NoServer)?;
            entry::fill(record, service, &server);
            Ok(Clock::new(moment.now, state as u8, moment.snapshot.timeouts.of(state)))
        };
        self.local.insert(client, same, make).map_err(|error| match error {
            InsertError::TableFull => Reason::TableFull,
            InsertError::ChainFull => Reason::ChainFull,
            InsertError::Refused(reason) => reason,
        })
    }

    /// What becomes of a frame that is no whole TCP segment or UDP datagram for the port.
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
                return self.related(moment, at, frames).unwrap_or(Verdict::Kernel);
            }
            director_packet::Verdict::OtherHost => Reason::OtherHost,
            director_packet::Verdict::Fragment { destination, protocol, .. } => {
                let snapshot = moment.snapshot;
                if !snapshot.is_local(destination) || !snapshot.has_service_on(destination, protocol) {
                    return Verdict::Kernel;
                }
                Reason::Fragment
            }
            director_packet::Verdict::Malformed(malformed) => match malformed {
                Malformed::Ethernet => Reason::MalformedEthernet,
                Malformed::Ipv4 => Reason::MalformedIpv4,
                Malformed::Ipv4Checksum => Reason::Ipv4Checksum,
                Malformed::Transport => Reason::MalformedTransport,
                Malformed::Scattered => Reason::ScatteredHeaders,
            },
        };
        Verdict::Drop(reason)
    }
}

/// Whether a SYN on this entry begins a new connection: where the old one is over, unless
/// `conn_reuse_mode` is 0; or, under `expire_nodest_conn`, where its server is to get no new one.
#[cold]
pub(super) fn is_new(moment: &Moment<'_>, record: &Record<V4>) -> bool {
    let sysctls = &moment.snapshot.sysctls;
    let is_over = State::from_number(record.clock().state()).is_over();
    sysctls.conn_reuse_mode != 0 && is_over
        || sysctls.expire_nodest_conn && moment.shared.servers.weight(entry::slot(record)) == 0
}

/// Whether a packet may begin a connection.
fn begins(snapshot: &Snapshot, protocol: u8, flags: u8) -> bool {
    protocol != TCP || (flags & RST == 0 && (flags & SYN != 0 || snapshot.sysctls.sloppy_tcp))
}

/// Whether an address can be a host's: not "this network", loopback, multicast or above.
const fn may_be_a_host(address: u32) -> bool {
    let first = address >> 24;
    first != 0 && first != 127 && first < 224
}
