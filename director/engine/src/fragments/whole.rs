//! A packet that was put together, and the parts in which it is sent again.

use director_packet::ethernet::HEADER;
use director_packet::fragment::{self, MAX_FRAME, MAX_PACKET, UNIT, v6};
use director_packet::ipip;
use director_packet::ipv6::FRAGMENT_HEADER;

use super::Opening;
use crate::reason::Reason;

/// "Congestion experienced", of the two lowest bits of the type of service (RFC 3168).
const EXPERIENCED: u8 = 3;

/// How many bytes can be added at the front of a packet.
const HEADROOM: usize = ipip::MOST;

/// A fragment that was received.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Received {
    /// The range of the packet's data that it had.
    pub(crate) start: usize,
    pub(crate) end: usize,
    /// The port it came in on.
    pub(crate) port: u8,
}

/// Room for one packet. A worker has one.
pub(crate) struct Whole {
    memory: Box<[u8]>,
    /// Where the frame begins in it, and the length of the frame.
    start: usize,
    length: usize,
    /// The length of the headers: in IPv4 the IP header, in IPv6 those that each fragment has.
    header: usize,
    /// In IPv6: the protocol behind these headers, and the identification that the fragments share.
    next: u8,
    identification: u32,
    /// The identification of the last packet that was put into another. It may begin anywhere.
    wrapped: u32,
    /// The length of its data.
    data: usize,
    /// Has room for the largest possible number of fragments: it never grows.
    parts: Vec<Received>,
    longest: u16,
    port: u8,
    is_unsplittable: bool,
    congestion: u8,
    fault: Option<Reason>,
    /// The next part, and how much of it has been sent.
    at: usize,
    sent: usize,
    /// Room for one fragment that is to be sent.
    out: Box<[u8; MAX_FRAME]>,
}

impl Whole {
    pub(crate) fn new() -> Self {
        Self {
            memory: vec![0; HEADROOM + MAX_FRAME].into(),
            start: HEADROOM,
            length: 0,
            header: 0,
            next: 0,
            identification: 0,
            wrapped: ahash::RandomState::new().hash_one(0) as u32,
            data: 0,
            parts: Vec::with_capacity(MAX_PACKET / UNIT + 1),
            longest: 0,
            port: 0,
            is_unsplittable: false,
            congestion: 0,
            fault: None,
            at: 0,
            sent: 0,
            out: Box::new([0; MAX_FRAME]),
        }
    }

    /// The frame.
    pub(crate) fn frame(&mut self) -> &mut [u8] {
        self.memory.get_mut(self.start..self.start + self.length).unwrap_or_default()
    }

    /// The length of the frame.
    pub(crate) const fn length(&self) -> usize {
        self.length
    }

    /// Makes the frame longer at its front, for another header before that of the packet. It will be cut where it was
    /// cut before; the last part gets the rest. False: there is no room.
    pub(crate) fn prepend(&mut self, bytes: usize) -> bool {
        let Some(start) = self.start.checked_sub(bytes).filter(|_| self.length + bytes <= MAX_FRAME) else {
            return false;
        };
        (self.start, self.length) = (start, self.length + bytes);
        if let Some(last) = self.parts.last_mut() {
            last.end += self.header;
        }
        self.header = bytes;
        // In IPv6 the outer packet gets an identification of its own, distinct from those of the director's other
        // packets.
        self.wrapped = self.wrapped.wrapping_add(1);
        self.identification = self.wrapped;
        true
    }

    /// The memory for a frame of this length, from its front.
    fn room(&mut self, from: usize, to: usize) -> Option<&mut [u8]> {
        self.memory.get_mut(self.start..)?.get_mut(from..to)
    }

    /// Takes up an IPv4 frame that is no fragment, `length` bytes long, which came in on a port. False: it cannot be
    /// read.
    pub(crate) fn load(&mut self, port: u8, length: usize, read: impl FnOnce(&mut [u8]) -> bool) -> bool {
        self.clear();
        self.port = port;
        // There is a part, to be dropped, even if the frame cannot be read.
        self.add_part(0, 0, port);
        let Some(frame) = self.room(0, length).filter(|frame| frame.len() > HEADER + 3) else {
            return false;
        };
        if !read(frame) {
            return false;
        }
        let total = usize::from(u16::from_be_bytes([frame[HEADER + 2], frame[HEADER + 3]]));
        let header = usize::from(frame[HEADER] & 0x0f) * 4;
        self.header = header;
        self.length = length.min(HEADER + total);
        let data = self.length.saturating_sub(HEADER + self.header);
        self.parts.clear();
        self.add_part(0, data, port);
        true
    }

    /// The next part: the packet is cut where it was cut before, and a part that is longer than the MTU (in bytes) is
    /// cut further. Returns the frame, the port it came in on, and whether it is the first part of what one frame
    /// brought.
    pub(crate) fn next_part(&mut self, mtu: u16) -> Option<(&[u8], u8, bool)> {
        let part = *self.parts.get(self.at)?;
        let from = part.start + self.sent;
        let frame = self.memory.get(self.start..self.start + self.length).unwrap_or_default();
        let is_v6 = frame.get(HEADER).is_some_and(|first| first >> 4 == 6);
        let header = if is_v6 { self.header + FRAGMENT_HEADER } else { self.header };
        let is_short = header + (part.end - from) <= usize::from(mtu);
        let to = if is_short { part.end } else { part.end.min(from + fragment::room(mtu, header)) };
        let is_first = self.sent == 0;
        (self.at, self.sent) = if to == part.end { (self.at + 1, 0) } else { (self.at, to - part.start) };
        let length = if is_v6 {
            v6::cut(frame, self.header, self.identification, from..to, &mut self.out)
        } else {
            fragment::cut(frame, self.header, from..to, &mut self.out)
        };
        Some((self.out.get(..length).unwrap_or_default(), part.port, is_first))
    }

    /// What is wrong with it, if anything is.
    pub(crate) const fn fault(&self) -> Option<Reason> {
        self.fault
    }

    /// The port its first fragment came in on.
    pub(crate) const fn port(&self) -> u8 {
        self.port
    }

    /// The length of its longest fragment, headers included.
    pub(crate) const fn longest(&self) -> u16 {
        self.longest
    }

    pub(super) fn clear(&mut self) {
        (self.start, self.length) = (HEADROOM, 0);
        self.parts.clear();
        self.fault = None;
        (self.at, self.sent) = (0, 0);
    }

    /// For a packet that begins like this and has so many bytes of data.
    pub(super) fn begin(&mut self, opening: &Opening, data: u32, longest: u16, is_unsplittable: bool) {
        let bytes = opening.bytes();
        self.header = bytes.len().saturating_sub(HEADER);
        self.data = data as usize;
        self.port = opening.port;
        self.next = opening.next;
        self.longest = longest;
        self.is_unsplittable = is_unsplittable;
        if self.header + self.data > MAX_PACKET {
            self.fault = Some(Reason::FragmentMalformed);
            self.data = MAX_PACKET - self.header;
        }
        if let Some(place) = self.room(0, bytes.len()) {
            place.copy_from_slice(bytes);
        }
    }

    /// What the fragments have in common in IPv6; they get it again when they leave.
    pub(super) const fn note_identification(&mut self, identification: u32) {
        self.identification = identification;
    }

    /// Congestion as routers on the way signalled it in the fragments, by Linux's reading of RFC 3168, section 5.3:
    /// if all fragments take part and one signals it, the packet does. Fragments that take part and fragments that do
    /// not cannot belong to one packet.
    pub(super) fn note_congestion(&mut self, values: u8) {
        if values & 1 != 0 && values != 1 {
            self.fault = Some(Reason::FragmentMalformed);
        }
        self.congestion = if values & 1 << EXPERIENCED != 0 { EXPERIENCED } else { 0 };
    }

    pub(super) fn add_part(&mut self, start: usize, end: usize, port: u8) {
        if self.parts.len() < self.parts.capacity() {
            self.parts.push(Received { start, end, port });
        }
    }

    /// Copies data to its place in the packet.
    pub(super) fn put(&mut self, at: usize, bytes: &[u8]) {
        let from = HEADER + self.header + at;
        if let Some(place) = self.room(from, from + bytes.len()) {
            place.copy_from_slice(bytes);
        }
    }

    /// All is there.
    pub(super) fn complete(&mut self) {
        self.parts.sort_unstable_by_key(|part| part.start);
        self.length = HEADER + self.header + self.data;
        // At most the longest packet: see `begin`.
        let length = (self.header + self.data) as u16;
        let (congestion, is_unsplittable, next) = (self.congestion, self.is_unsplittable, self.next);
        match self.room(HEADER, HEADER + self.header) {
            Some(headers @ [0x60..=0x6f, ..]) => {
                let class = headers.first_chunk().map_or(0, |[high, low]| high << 4 | low >> 4);
                v6::make_whole(headers, next, length, class | congestion);
            }
            Some(header) => {
                let service = header.get(1).map_or(0, |service| service | congestion);
                fragment::make_whole(header, length, is_unsplittable, service);
            }
            None => {}
        }
    }
}
