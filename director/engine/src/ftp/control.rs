//! One control connection: follows both streams in order, and changes the server's.
//!
//! Where a 227 names the server's address, the client is given the virtual service's in its place, so the server's
//! stream has other lengths and numbers on the client's side. The change is a function of the streams and not of how
//! they are cut into segments: what was sent once goes out the same when it is sent again.
//!
//! - Only bytes that follow what was seen are read. A segment ahead of it is dropped, so that its sender repeats it
//!   after what was lost.
//! - An address whose end is still to come is held back: the segment ends before it, and the server is told that what
//!   is held has arrived, since it may wait for that before it goes on (Nagle). If nothing of a segment is left, it
//!   goes out as a probe that the client must acknowledge.
//! - An address is then sent as a whole, with any segment that touches it, until the client has it. One change at a
//!   time is remembered: what a second one comes before is sent without it, and the server repeats the rest.
//! - A server that accepts another connection (SYN, ACK) says where both streams begin; nothing of the old ones counts
//!   any more. A client's SYN alone may be anybody's.

use std::net::{IpAddr, Ipv4Addr};

use director_packet::tcp::Edge;
use director_packet::tcp_flag::{ACK, FIN, PSH, SYN};

use super::command::{Command, Line};
use super::reply::{ADDRESS, Awaited, Found, Reply};
use crate::reason::Reason;

/// A segment of a control connection, its checksum right.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Segment<'a> {
    pub(crate) sequence: u32,
    pub(crate) flags: u8,
    pub(crate) payload: &'a [u8],
    /// How much of the other side's stream has come, by the sender's numbers, if it says so.
    pub(crate) acknowledged: Option<u32>,
    /// Whether what it says of data connections counts.
    pub(crate) is_heard: bool,
}

/// How many data connections a control connection may be waiting for; a further one takes the place of the oldest. A
/// client's `PORT` or `PASV` replaces the one before (RFC 959, section 3.2), so one is enough for most.
const WAITING: usize = 4;

/// The numbers of a stream so near the next are of the same connection: a SYN with those before is an old one, and what
/// is missing before those after was lost.
const RECENT: u32 = 1 << 20;

impl Segment<'_> {
    /// Where its payload begins in the stream.
    fn begin(&self) -> u32 {
        self.sequence.wrapping_add(u32::from(self.flags & SYN != 0))
    }
}

/// A data connection that is to come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Expected {
    /// The server connects to here.
    FromServer(IpAddr, u16),
    /// The client connects to this port of the server; the address is that of 227.
    FromClient(Option<Ipv4Addr>, u16),
}

/// Text that is put in the place of an address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Text {
    bytes: [u8; ADDRESS],
    length: u8,
}

impl Text {
    /// An address and a port as in 227.
    pub(crate) fn of(address: Ipv4Addr, port: u16) -> Self {
        let [a, b, c, d] = address.octets();
        let [high, low] = port.to_be_bytes();
        let mut text = Self { bytes: [0; ADDRESS], length: 0 };
        for (at, number) in [a, b, c, d, high, low].into_iter().enumerate() {
            if at > 0 {
                text.push(b',');
            }
            if number >= 100 {
                text.push(b'0' + number / 100);
            }
            if number >= 10 {
                text.push(b'0' + number / 10 % 10);
            }
            text.push(b'0' + number % 10);
        }
        text
    }

    fn verbatim(bytes: &[u8]) -> Self {
        let mut text = Self { bytes: [0; ADDRESS], length: 0 };
        bytes.iter().for_each(|byte| text.push(*byte));
        text
    }

    fn push(&mut self, byte: u8) {
        if let Some(place) = self.bytes.get_mut(usize::from(self.length)) {
            *place = byte;
            self.length += 1;
        }
    }

    /// The text.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.length)).unwrap_or_default()
    }
}

/// What becomes of a server's segment: the beginning of its payload, a text, the end of its payload.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Sent {
    pub(crate) sequence: u32,
    pub(crate) flags: u8,
    /// So many bytes from the payload's beginning.
    pub(crate) head: usize,
    pub(crate) text: Option<Text>,
    /// The bytes of the payload that come after.
    pub(crate) tail: (usize, usize),
}

/// A change of the server's stream.
#[derive(Clone, Copy, Debug)]
struct Edit {
    /// Where it begins, by the server's numbers, and how many of the server's bytes it replaces.
    at: u32,
    old: u32,
    new: Text,
    /// What the client's numbers are ahead of the server's by, before and after it.
    before: u32,
    after: u32,
}

impl Edit {
    /// Where what it replaces ends, by the server's numbers.
    const fn end(&self) -> u32 {
        self.at.wrapping_add(self.old)
    }
}

/// Whether a number of a stream comes before another (RFC 1982).
const fn is_before(a: u32, b: u32) -> bool {
    (a.wrapping_sub(b) as i32) < 0
}

/// A part of a payload: how many bytes there are from its beginning, at `from`, to a place, if that is in it.
fn reach(from: u32, to: u32, length: usize) -> usize {
    if is_before(to, from) { 0 } else { (to.wrapping_sub(from) as usize).min(length) }
}

/// A control connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Control {
    /// What is expected next of the client's stream, once that is known.
    client: Option<u32>,
    line: Line,
    /// Likewise of the server's.
    server: Option<u32>,
    reply: Reply,
    edit: Option<Edit>,
    /// How far the client acknowledged the server's stream, by the client's numbers.
    acknowledged: Option<u32>,
    /// So many answers are awaited.
    passive: u8,
    extended: u8,
    /// Whether 227, whose addresses are those of IPv4, can be meant.
    is_v4: bool,
    /// What was expected last, the oldest first.
    expected: [Option<Expected>; WAITING],
}

impl Control {
    /// Nothing was seen yet.
    pub(crate) const fn new(is_v4: bool) -> Self {
        Self {
            client: None,
            line: Line::new(),
            server: None,
            reply: Reply::new(),
            edit: None,
            acknowledged: None,
            passive: 0,
            extended: 0,
            is_v4,
            expected: [None; WAITING],
        }
    }

    /// At a segment, of the server or of the client, that is the first with a payload: where it begins, and how much of
    /// the other stream has come, both streams begin.
    pub(crate) fn begin(is_v4: bool, segment: &Segment<'_>, is_server: bool) -> Self {
        let (own, other) = (Some(segment.begin()), segment.acknowledged);
        let (client, server) = if is_server { (other, own) } else { (own, other) };
        Self { client, server, ..Self::new(is_v4) }
    }

    /// A client's segment that was seen for the first time is read; `expect` is told of data connections, with the one
    /// that gives way to each. If it refuses one, or the segment is ahead of the stream, the segment is to be dropped,
    /// and nothing has changed.
    pub(crate) fn client_sends(
        &mut self,
        segment: &Segment<'_>,
        mut expect: impl FnMut(Expected, Option<Expected>) -> Result<(), Reason>,
    ) -> Result<(), Reason> {
        let mut next = *self;
        let mut left = WAITING;
        for byte in news(&mut next.client, segment)? {
            match next.line.push(*byte).filter(|_| segment.is_heard) {
                Some(Command::Active(address, port)) => {
                    (next.passive, next.extended) = (0, 0);
                    if let Some(rest) = left.checked_sub(1) {
                        left = rest;
                        let expected = Expected::FromServer(address, port);
                        expect(expected, next.await_one(expected))?;
                    }
                }
                Some(Command::Passive) => next.passive = next.passive.saturating_add(self.is_v4.into()),
                Some(Command::ExtendedPassive) => next.extended = next.extended.saturating_add(1),
                None => {}
            }
        }
        *self = next;
        Ok(())
    }

    /// Takes a data connection in among those that are waited for; gives the one that gives way to it.
    fn await_one(&mut self, expected: Expected) -> Option<Expected> {
        // The same again, or a place that is free: there is always one of them in front once all were used.
        let at = self.expected.iter().position(|other| *other == Some(expected));
        let at = at.or_else(|| self.expected.iter().position(Option::is_none)).unwrap_or(0);
        let gone = self.expected.get_mut(at)?.replace(expected).filter(|gone| *gone != expected);
        self.expected.get_mut(at..)?.rotate_left(1);
        gone
    }

    /// Whether a server's SYN that accepts a connection, of which the client's stream begins at `client`, is of another
    /// than this one.
    fn is_another(&self, segment: &Segment<'_>, client: u32) -> bool {
        let is_old = |next: Option<u32>, begin| next.is_none_or(|next| next.wrapping_sub(begin) <= RECENT);
        !(is_old(self.server, segment.begin()) && is_old(self.client, client))
    }

    /// A server's segment, of which at most `room` bytes of payload can be sent, is read and changed. `expect` is
    /// told of data connections, with the one that gives way to each, and gives what the client is to be told in place
    /// of an address. If it refuses one, or the segment is ahead of the stream, the segment is to be dropped, and
    /// nothing has changed.
    pub(crate) fn server_sends(
        &mut self,
        segment: &Segment<'_>,
        room: usize,
        mut expect: impl FnMut(Expected, Option<Expected>) -> Result<Option<Text>, Reason>,
    ) -> Result<Sent, Reason> {
        let mut next = *self;
        let mut left = WAITING;
        if segment.flags & (SYN | ACK) == SYN | ACK
            && let Some(client) = segment.acknowledged
            && self.is_another(segment, client)
        {
            next = Self { expected: self.expected, ..Self::new(self.is_v4) };
            (next.client, next.server) = (Some(client), Some(segment.begin()));
        }
        let mut place = next.server;
        let fresh = news(&mut place, segment)?;
        let end = place.unwrap_or_default();
        let begin = end.wrapping_sub(fresh.len() as u32);
        let mut at = begin;
        for byte in fresh {
            if next.reply.would_begin(*byte) && !next.is_settled() {
                break;
            }
            let text = Text::verbatim(next.reply.address());
            let is_heard = segment.is_heard;
            let awaited =
                Awaited { passive: is_heard && next.passive > 0, extended: is_heard && next.extended > 0 };
            if let Some(found) = next.reply.push(*byte, awaited) {
                next.apply(found, &text, at, begin, &mut left, &mut expect)?;
            }
            at = at.wrapping_add(1);
        }
        let is_end = segment.begin().wrapping_add(segment.payload.len() as u32) == at;
        if segment.flags & FIN != 0 && is_end && next.held() > 0 {
            let text = Text::verbatim(next.reply.address());
            let found = next.reply.end_address();
            next.apply(found, &text, at, begin, &mut left, &mut expect)?;
        }
        if place.is_some() {
            next.server = Some(at);
        }
        let sent = next.send(segment, room);
        *self = next;
        Ok(sent)
    }

    /// What was `found` at a place of the server's stream, after a text, in a segment whose news begin at `news` and of
    /// which so many more data connections are expected.
    fn apply(
        &mut self,
        found: Found,
        text: &Text,
        at: u32,
        news: u32,
        left: &mut usize,
        expect: &mut impl FnMut(Expected, Option<Expected>) -> Result<Option<Text>, Reason>,
    ) -> Result<(), Reason> {
        let new = match found {
            Found::Port(port) => {
                self.extended = self.extended.saturating_sub(1);
                if let Some(rest) = left.checked_sub(1) {
                    *left = rest;
                    let expected = Expected::FromClient(None, port);
                    expect(expected, self.await_one(expected))?;
                }
                return Ok(());
            }
            Found::Address(address, port) => {
                self.passive = self.passive.saturating_sub(1);
                // There is one in a segment: another waits until the client has this one.
                let expected = Expected::FromClient(Some(address), port);
                expect(expected, self.await_one(expected))?
            }
            Found::NoAddress => None,
        };
        let old = u32::from(text.length);
        let begin = at.wrapping_sub(old);
        // What was held back is remembered as well, even if it stays as it is: the server may think it has arrived.
        let was_held = is_before(begin, news);
        if let Some(new) = new.or(was_held.then_some(*text)) {
            let before = self.shift();
            let after = before.wrapping_add(u32::from(new.length)).wrapping_sub(old);
            self.edit = Some(Edit { at: begin, old, new, before, after });
        }
        Ok(())
    }

    /// What the client's numbers of what comes next are ahead of the server's by.
    fn shift(&self) -> u32 {
        self.edit.map_or(0, |edit| edit.after)
    }

    /// Whether the client has all of the last change.
    fn is_settled(&self) -> bool {
        self.edit.is_none_or(|edit| {
            let end = edit.end().wrapping_add(edit.after);
            self.acknowledged.is_some_and(|acknowledged| !is_before(acknowledged, end))
        })
    }

    /// How many bytes of an address are held back; they are the last that were read.
    fn held(&self) -> u32 {
        self.reply.address().len() as u32
    }

    /// What is sent of a segment of the server's stream, of which at most `room` bytes can be.
    fn send(&self, segment: &Segment<'_>, room: usize) -> Sent {
        let Segment { flags, payload, .. } = *segment;
        let (from, length) = (segment.begin(), payload.len());
        let end = from.wrapping_add(length as u32);
        // What was not read, and what is held back, stays.
        let limit = match self.server {
            Some(read) if is_before(read.wrapping_sub(self.held()), end) => read.wrapping_sub(self.held()),
            _ => end,
        };
        let mut sent = match self.edit.filter(|edit| self.is_touched(edit, segment)) {
            Some(edit) => {
                let tail = reach(from, edit.end(), length);
                Sent {
                    sequence: self.as_sent_on(if is_before(from, edit.at) { from } else { edit.at }),
                    flags,
                    head: reach(from, edit.at, length),
                    text: Some(edit.new),
                    tail: (tail, reach(from, limit, length).max(tail)),
                }
            }
            None => {
                let first = if is_before(limit, from) { limit } else { from };
                let sequence = self.as_sent_on(first).wrapping_sub(u32::from(flags & SYN != 0));
                Sent { sequence, flags, head: reach(from, limit, length), text: None, tail: (0, 0) }
            }
        };
        if sent.cut(room, length) {
            sent.flags &= !(FIN | PSH);
            if sent.head == 0 && sent.text.is_none() {
                // Nothing is left: a probe, which the client must acknowledge, so that the server hears how far it is.
                sent.sequence = sent.sequence.wrapping_sub(1);
            }
        }
        sent
    }

    /// Whether a segment carries the text of an edit.
    fn is_touched(&self, edit: &Edit, segment: &Segment<'_>) -> bool {
        let from = segment.begin();
        let end = from.wrapping_add(segment.payload.len() as u32);
        let (is_empty, is_last) = (segment.payload.is_empty(), segment.flags & FIN != 0);
        let overlaps = !is_empty && is_before(edit.at, end) && is_before(from, edit.end());
        // What was held back is carried by what comes after it, since the server does not send it again.
        let follows = from == edit.end() && (!is_empty || is_last);
        overlaps || follows && !self.is_settled()
    }

    /// By the client's numbers, what is this of the server's stream by the server's.
    fn as_sent_on(&self, number: u32) -> u32 {
        match self.edit {
            Some(edit) if is_before(number, edit.at) => number.wrapping_add(edit.before),
            Some(edit) if is_before(number, edit.end()) => edit.at.wrapping_add(edit.before),
            _ => number.wrapping_add(self.shift()),
        }
    }

    /// The client has acknowledged so much of the server's stream, by its own numbers.
    pub(crate) fn acknowledge(&mut self, number: u32) {
        if self.acknowledged.is_none_or(|before| is_before(before, number)) {
            self.acknowledged = Some(number);
        }
    }

    /// By the server's numbers, what is this of its stream by the client's.
    pub(crate) fn as_received(&self, edge: Edge, number: u32) -> u32 {
        if let Some(next) = self.server
            && self.held() > 0
            && edge == Edge::End
            && number == next.wrapping_sub(self.held()).wrapping_add(self.shift())
        {
            return next;
        }
        let Some(edit) = self.edit else { return number };
        let after = edit.end();
        if !is_before(number, after.wrapping_add(edit.after)) {
            number.wrapping_sub(edit.after)
        } else if !is_before(edit.at.wrapping_add(edit.before), number) {
            number.wrapping_sub(edit.before)
        } else if edge == Edge::End {
            edit.at
        } else {
            after
        }
    }
}

impl Sent {
    /// Leaves out what there is no room for. True: something of the payload, of `length` bytes, is left out.
    fn cut(&mut self, room: usize, length: usize) -> bool {
        let text = self.text.map_or(0, |text| usize::from(text.length));
        if self.head > room || self.head + text > room {
            self.head = self.head.min(room);
            (self.text, self.tail) = (None, (0, 0));
            return true;
        }
        let (from, to) = self.tail;
        self.tail.1 = to.min(from + (room - self.head - text));
        match self.text {
            Some(_) => self.tail.1 < length,
            None => self.head < length,
        }
    }
}

/// What of a segment is new in the stream of which `next` is expected; `next` goes on to its end.
fn news<'a>(next: &mut Option<u32>, segment: &Segment<'a>) -> Result<&'a [u8], Reason> {
    let Segment { flags, payload, .. } = *segment;
    if payload.is_empty() || flags & SYN != 0 {
        return Ok(&[]);
    }
    // Where nothing is known it begins here.
    let mut expected = next.unwrap_or(segment.begin());
    if is_before(expected, segment.begin()) {
        if segment.begin().wrapping_sub(expected) <= RECENT {
            return Err(Reason::FtpOutOfOrder);
        }
        // So much is never on its way: nobody would repeat it.
        expected = segment.begin();
    }
    let fresh = payload.get(expected.wrapping_sub(segment.begin()) as usize..).unwrap_or_default();
    *next = Some(expected.wrapping_add(fresh.len() as u32));
    Ok(fresh)
}
