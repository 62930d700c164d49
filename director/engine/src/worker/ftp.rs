//! FTP: segments of control connections, and packets of data connections that are expected.

use director_flow::Clock;
use director_packet::checksum::{Delta, pseudo_header};
use director_packet::ethernet::HEADER;
use director_packet::header::{Ipv4, Ipv6};
use director_packet::ipv6;
use director_packet::tcp_flag::{FIN, SYN};
use director_packet::{Address, Change, Endpoint, TCP, tcp};
use zerocopy::FromBytes;

use super::tables::{Locals, Made, New, Whose};
use super::{Core, Frames, Lane, Moment};
use crate::entry::Entry;
use crate::ftp::control::{Control, Expected, Segment, Sent, Text};
use crate::reason::Reason;
use crate::scheduler::ServerView;
use crate::servers::Servers;
use crate::service::Forward;
use crate::state::{Direction, State};

/// Ports below are privileged: a server of the system itself may be there (RFC 2577, section 3), of the client's, or,
/// where the client connects, of the director's.
const UNPRIVILEGED: u16 = 1024;

/// A control connection, as its entry has it.
struct Ends<'a> {
    moment: &'a Moment<'a>,
    /// The number of its entry.
    control: u32,
    client: Endpoint,
    vip: Endpoint,
    server: Endpoint,
    slot: u32,
}

impl Core {
    /// Reads a segment of a control connection and changes it, where the data connection's address is the server's
    /// and where bytes have other numbers on the other side; it may become as long as an MTU allows. Returns what it
    /// is then.
    #[cold]
    pub(super) fn ftp(
        &mut self,
        moment: &Moment<'_>,
        lane: &Lane,
        entry: Entry<'_>,
        mtu: u16,
        frames: &mut impl Frames,
    ) -> Result<Lane, Reason> {
        let Lane { segment, at, .. } = *lane;
        let length = segment.length - segment.header;
        let end = HEADER + usize::from(segment.length);
        let Some(packet) = frames.head(at).get_mut(HEADER..end) else { return Err(Reason::FtpNoRoom) };
        let sum = pseudo_header(packet, TCP, length);
        let Some(transport) = packet.get_mut(usize::from(segment.header)..) else { return Ok(*lane) };
        let Some(header) = tcp::header_length(transport) else { return Ok(*lane) };
        let is_right = sum.is_some_and(|mut sum| {
            sum.add(transport);
            sum.is_right()
        });
        let sequence = tcp::sequence(transport);
        let (head, payload) = transport.split_at_mut(header);
        let state = entry.state();
        let read = Segment {
            sequence,
            // A segment that is damaged will come again.
            flags: if is_right { segment.flags } else { 0 },
            payload: if is_right { payload } else { &[] },
            acknowledged: tcp::acknowledgment(head),
            // As in the kernel, which looks at what a client says after it has changed the state, and at what a server
            // says before.
            is_heard: state == State::Established
                || state == State::FinWait && lane.direction == Direction::Out && segment.flags & FIN != 0,
        };
        let ends = Ends::of(moment, entry);
        let local = &mut self.local;
        let ftp = &moment.shared.ftp;
        // The server's segments bring an entry to ESTABLISHED, its SYN to SYNACK where the client's cannot do that.
        let may_say = matches!(state, State::Established | State::SynAck);
        if may_say && !read.payload.is_empty() && read.flags & SYN == 0 && !ftp.has_place(ends.control) {
            let by_server = lane.direction == Direction::Out;
            let begun = Control::begin(!lane.client.is_v6(), &read, by_server);
            ftp.open(ends.control, begun, by_server, || entry.clock().is_dead())?;
        }
        if lane.direction == Direction::In {
            let done = ftp.with(ends.control, |control| {
                control
                    .client_sends(&read, |expected, gone| ends.expect(local, expected, gone).map(|_| ()))?;
                if is_right && let Some(number) = read.acknowledged {
                    control.acknowledge(number);
                }
                tcp::map_acknowledgments(head, |edge, number| control.as_received(edge, number));
                Ok(())
            });
            return done.unwrap_or(Ok(())).map(|()| *lane);
        }
        let room = usize::from(mtu.saturating_sub(segment.header)).saturating_sub(header);
        let room = room.max(payload.len());
        let sent = ftp.with(ends.control, |control| {
            control.server_sends(&read, room, |expected, gone| ends.expect(local, expected, gone))
        });
        let Some(sent) = sent.transpose()? else { return Ok(*lane) };
        if sent.sequence != sequence {
            tcp::set_sequence(head, sent.sequence);
        }
        if !is_right || sent.text.is_none() && sent.head == payload.len() {
            return Ok(*lane);
        }
        tcp::set_flags(head, sent.flags);
        let payload = payload.len();
        replace(lane, end - payload, payload, &sent, frames)
    }

    /// The entry of a packet that has none, if it is of a data connection that a client was told it can open.
    pub(super) fn expected_by_ftp<'a>(
        &mut self,
        moment: &Moment<'a>,
        lane: &Lane,
    ) -> Option<Result<Entry<'a>, Reason>> {
        if lane.segment.protocol != TCP || !moment.shared.ftp.has_unclaimed() || lane.client.port() == 0 {
            return None;
        }
        self.claim(moment, lane)
    }

    #[cold]
    fn claim<'a>(&mut self, moment: &Moment<'a>, lane: &Lane) -> Option<Result<Entry<'a>, Reason>> {
        let ftp = &moment.shared.ftp;
        let any_port = Whose { client: lane.client.with_port(0), ..lane.whose() };
        let found = self.local.find(moment, any_port);
        let unclaimed = found.filter(|entry| ftp.is_unclaimed(moment.number(*entry)))?;
        let server = ServerView {
            slot: unclaimed.slot(),
            address: unclaimed.server(),
            change: unclaimed.load(Direction::In).change,
            forward: Forward::Masquerading,
        };
        let adopt = |number| ftp.pass_on(moment.number(unclaimed), number);
        match listen(&mut self.local, moment, lane.whose(), &server, Servers::bind_instead, adopt) {
            Ok(Made::New(entry)) => {
                if self.local.kill(unclaimed) {
                    return Some(Ok(entry));
                }
                // Another of the client's connections was faster.
                self.local.kill(entry);
                None
            }
            Ok(Made::Existing(entry)) => Some(Ok(entry)),
            Err(reason) => Some(Err(reason)),
        }
    }
}

/// Makes the entry of a data connection that is expected, counted as its server's by `bind`, unless there is one;
/// `made` is given its number.
fn listen<'a>(
    local: &mut Locals,
    moment: &Moment<'a>,
    whose: Whose,
    server: &ServerView,
    bind: impl FnOnce(&Servers, u32, State),
    made: impl FnOnce(u32),
) -> Result<Made<'a>, Reason> {
    local.insert(moment, whose, |number| {
        bind(&moment.shared.servers, server.slot, State::Listen);
        made(number);
        let timeout = moment.snapshot.timeouts.of(State::Listen);
        let clock = Clock::new(moment.now, State::Listen.kept(), timeout);
        Ok(New { server: *server, clock, stand_in: None })
    })
}

impl<'a> Ends<'a> {
    fn of(moment: &'a Moment<'a>, entry: Entry<'_>) -> Self {
        Self {
            moment,
            control: moment.number(entry),
            client: entry.client(),
            vip: entry.service(),
            server: entry.server(),
            slot: entry.slot(),
        }
    }

    /// Expects a data connection, if it may be, in place of another that has not come. Returns what the client is to be
    /// told in place of the server's address.
    fn expect(
        &self,
        local: &mut Locals,
        expected: Expected,
        gone: Option<Expected>,
    ) -> Result<Option<Text>, Reason> {
        if let Some(gone) = gone {
            self.forget(local, gone);
        }
        let is_loose = self.moment.snapshot.sysctls.ftp_loose;
        let (client, vip) = self.between(expected);
        match expected {
            Expected::FromServer(_, port) => {
                let is_own = client.address() == self.client.address() && port >= UNPRIVILEGED;
                if is_own || is_loose && client.is_v6() == self.client.is_v6() {
                    self.open(local, client, vip, data_port(self.server))?;
                }
                Ok(None)
            }
            Expected::FromClient(address, port) => {
                let named = address.map_or(self.server.address(), Address::from);
                // A server that was told of the virtual service names it itself.
                let is_told = named == self.vip.address();
                let at = if is_told { self.server.address() } else { named };
                if !is_loose && (at != self.server.address() || port < UNPRIVILEGED) {
                    return Ok(None);
                }
                self.open(local, client, vip, Endpoint::of(at, port))?;
                Ok(match (address, self.vip.address()) {
                    (Some(_), Address::V4(vip)) if !is_told => Some(Text::of(vip.into(), port)),
                    _ => None,
                })
            }
        }
    }

    /// The client's and the virtual service's end of a data connection.
    fn between(&self, expected: Expected) -> (Endpoint, Endpoint) {
        match expected {
            Expected::FromServer(address, port) => (Endpoint::of(address.into(), port), data_port(self.vip)),
            Expected::FromClient(_, port) => (self.client.with_port(0), self.vip.with_port(port)),
        }
    }

    /// Ends the wait for a data connection, unless it has come.
    fn forget(&self, local: &mut Locals, expected: Expected) {
        let (client, other) = self.between(expected);
        let found = local.find(self.moment, Whose { client, other, protocol: TCP, direction: Direction::In });
        let is_waiting = |entry: &Entry<'_>| {
            let ftp = &self.moment.shared.ftp;
            entry.state() == State::Listen && ftp.is_of(self.control, self.moment.number(*entry))
        };
        if let Some(entry) = found.filter(is_waiting) {
            local.kill(entry);
        }
    }

    /// Makes the entry of a data connection, or has the one there is wait again.
    fn open(
        &self,
        local: &mut Locals,
        client: Endpoint,
        vip: Endpoint,
        server: Endpoint,
    ) -> Result<(), Reason> {
        let Self { moment, control, slot, .. } = *self;
        let whose = Whose { client, other: vip, protocol: TCP, direction: Direction::In };
        let (change, forward) = (Change::between(vip, server), Forward::Masquerading);
        let view = ServerView { slot, address: server, change, forward };
        let adopt = |number| moment.shared.ftp.adopt(control, number, client.port() == 0);
        let Made::Existing(entry) = listen(local, moment, whose, &view, Servers::bind, adopt)? else {
            return Ok(());
        };
        if entry.server() != server || !self.wait_again(local, entry) {
            local.kill(entry);
            listen(local, moment, whose, &view, Servers::bind, adopt)?;
        }
        Ok(())
    }

    /// Has an entry wait again. False: it has just ended.
    fn wait_again(&self, local: &mut Locals, entry: Entry<'_>) -> bool {
        let Moment { now, snapshot, shared, .. } = *self.moment;
        let timeout = snapshot.timeouts.of(State::Listen);
        let mut clock = entry.clock();
        while !clock.is_dead() {
            let next = clock.with_seen(now).with_state(State::Listen.kept()).with_timeout(timeout);
            match entry.update(clock, next) {
                Ok(()) => {
                    shared.servers.change(entry.slot(), State::of(TCP, clock.state()), State::Listen);
                    local.notify(entry);
                    return true;
                }
                Err(found) => clock = found,
            }
        }
        false
    }
}

/// Where a server opens data connections from, or what the client takes it for: the port below (RFC 959, section 3.2).
fn data_port(control: Endpoint) -> Endpoint {
    control.with_port(control.port().wrapping_sub(1))
}

/// Makes the payload of a frame, of so many bytes from a place on, what is to be sent.
fn replace(
    lane: &Lane,
    begin: usize,
    length: usize,
    sent: &Sent,
    frames: &mut impl Frames,
) -> Result<Lane, Reason> {
    let text = sent.text.as_ref().map_or(&[][..], Text::as_bytes);
    let tail = sent.tail.0..sent.tail.1;
    let new = sent.head + text.len() + tail.len();
    if new > length && !frames.resize(lane.at, begin + new) {
        return Err(Reason::FtpNoRoom);
    }
    let frame = frames.head(lane.at);
    let Some(payload) = frame.get_mut(begin..begin + new.max(length)) else { return Err(Reason::FtpNoRoom) };
    payload.copy_within(tail, sent.head + text.len());
    if let Some(place) = payload.get_mut(sent.head..sent.head + text.len()) {
        place.copy_from_slice(text);
    }
    let mut segment = lane.segment;
    // No longer than an MTU.
    segment.length = (begin - HEADER + new) as u16;
    let packet = frame.get_mut(HEADER..).unwrap_or_default();
    if lane.client.is_v6() {
        if let Ok((ip, _)) = Ipv6::mut_from_prefix(packet) {
            ip.length.set(segment.length.saturating_sub(ipv6::HEADER as u16));
        }
    } else if let Ok((ip, _)) = Ipv4::mut_from_prefix(packet) {
        ip.checksum = Delta::of_u16(ip.length.get(), segment.length).apply(ip.checksum);
        ip.length.set(segment.length);
    }
    let transport = HEADER + usize::from(segment.header);
    let sum = pseudo_header(frame.get(HEADER..).unwrap_or_default(), TCP, segment.length - segment.header);
    if let (Some(mut sum), Some(transport)) = (sum, frame.get_mut(transport..begin + new)) {
        transport.get_mut(16..18).unwrap_or_default().fill(0);
        sum.add(transport);
        if let Some(field) = transport.get_mut(16..18) {
            field.copy_from_slice(&sum.checksum());
        }
    }
    if new < length && !frames.resize(lane.at, begin + new) {
        return Err(Reason::FtpNoRoom);
    }
    Ok(Lane { segment, longest: segment.length, ..*lane })
}
