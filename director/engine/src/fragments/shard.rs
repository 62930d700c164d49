//! One table of incomplete packets. All its memory is allocated at the start.

use director_flow::Tick;
use director_packet::Address;
use director_packet::fragment::{MAX_PACKET, UNIT, v6};

use super::{Arrival, Key, Opening, Whole};
use crate::reason::Reason;

/// The number of packets; a power of two.
pub(super) const DATAGRAMS: usize = 512;

/// The number of pieces of memory, and the bytes of one: 2 MiB together. A fragment takes as many as it needs.
pub(super) const PIECES: usize = 4096;
pub(super) const PIECE: usize = 512;

/// The shortest header of IP, in bytes.
const LEAST_HEADER: usize = 20;

/// The words of a packet's bitmap of what has come, with a bit for each [`UNIT`] of its data.
const WORDS: usize = (MAX_PACKET + 1) / UNIT / u64::BITS as usize;

/// No index.
const NONE: u32 = u32::MAX;

/// What became of a fragment.
pub(super) enum Added {
    Kept,
    Complete(u32),
    Refused(Reason),
}

/// A piece of memory. The first piece of a fragment also describes the fragment.
#[derive(Clone, Copy)]
struct Piece {
    /// The next piece of the same fragment.
    next: u32,
    /// The first piece of another fragment of the packet.
    other: u32,
    offset: u16,
    length: u16,
    port: u8,
}

/// A packet.
#[derive(Clone, Copy)]
struct Datagram {
    key: Key,
    bucket: u32,
    /// The next packet of the same bucket.
    next: u32,
    older: u32,
    newer: u32,
    since: Tick,
    /// The first piece of the fragment that came last.
    fragments: u32,
    /// How many bytes have come.
    there: u32,
    /// The highest end of a fragment so far; the end of the whole packet where [`Self::has_end`].
    end: u32,
    has_end: bool,
    /// The longest fragment, with its header; and the longest of those with the flag "don't fragment".
    longest: u16,
    longest_unsplittable: u16,
    /// Which of the four values of the two bits of congestion notification fragments have had: a bit for each.
    congestion: u8,
    opening: Opening,
}

const EMPTY: Datagram = Datagram {
    key: Key::NONE,
    bucket: NONE,
    next: NONE,
    older: NONE,
    newer: NONE,
    since: Tick(0),
    fragments: NONE,
    there: 0,
    end: 0,
    has_end: false,
    longest: 0,
    longest_unsplittable: 0,
    congestion: 0,
    opening: Opening::NONE,
};

pub(super) struct Shard {
    /// The first packet of each bucket.
    buckets: Box<[u32]>,
    datagrams: Box<[Datagram]>,
    /// The bitmaps, [`WORDS`] for each packet.
    maps: Box<[u64]>,
    pieces: Box<[Piece]>,
    bytes: Box<[u8]>,
    free_datagrams: Vec<u32>,
    free_pieces: Vec<u32>,
    oldest: u32,
    newest: u32,
}

/// The first fragment of a packet that is incomplete.
pub(crate) struct First<'a> {
    shard: &'a Shard,
    opening: &'a Opening,
    /// What the packet's fragments have in common; in IPv6, what their headers do.
    key: Key,
    /// The first piece of one of the packet's fragments.
    fragments: u32,
}

impl First<'_> {
    /// The port it came in on.
    pub(crate) const fn port(&self) -> u8 {
        self.opening.port
    }

    /// The headers of Ethernet and of IP as they came, without the fragment header of IPv6.
    pub(crate) fn headers(&self) -> &[u8] {
        self.opening.bytes()
    }

    /// The frame, with at most so many bytes of its data.
    pub(crate) fn frame(&self, most: usize) -> Vec<u8> {
        let mut frame = self.opening.bytes().to_vec();
        if matches!(self.key.source, Address::V6(_)) {
            frame.extend(v6::first_header(self.opening.next, self.key.identification));
        }
        let mut fragment = self.fragments;
        while let Some(other) = self.shard.pieces.get(fragment as usize).filter(|piece| piece.offset != 0) {
            fragment = other.other;
        }
        let (mut piece, mut left) = (fragment, None);
        while let Some(Piece { next, length, .. }) = self.shard.pieces.get(piece as usize) {
            let there = left.unwrap_or(usize::from(*length).min(most));
            let place = piece as usize * PIECE;
            let bytes = self.shard.bytes.get(place..place + there.min(PIECE)).unwrap_or_default();
            frame.extend_from_slice(bytes);
            (piece, left) = (*next, Some(there - bytes.len()));
        }
        frame
    }
}

/// Whether all, none or some of a range of units are set in a bitmap.
#[derive(PartialEq, Eq)]
enum Covered {
    All,
    None,
    Some,
}

impl Shard {
    pub(super) fn new() -> Self {
        // The larger two are all zeros: they take no memory before they are written to.
        let none = Piece { next: NONE, other: NONE, offset: 0, length: 0, port: 0 };
        Self {
            buckets: vec![NONE; DATAGRAMS].into(),
            datagrams: vec![EMPTY; DATAGRAMS].into(),
            maps: vec![0; DATAGRAMS * WORDS].into(),
            pieces: vec![none; PIECES].into(),
            bytes: vec![0; PIECES * PIECE].into(),
            free_datagrams: (0..DATAGRAMS as u32).rev().collect(),
            free_pieces: (0..PIECES as u32).rev().collect(),
            oldest: NONE,
            newest: NONE,
        }
    }

    /// Adds a fragment. Calls `lost` for each fragment that was kept before and is given up now.
    pub(super) fn add(
        &mut self,
        key: Key,
        hash: usize,
        arrival: &Arrival,
        read: impl FnMut(usize, &mut [u8]) -> bool,
        mut lost: impl FnMut(u8, Reason),
    ) -> Added {
        let fragment = &arrival.fragment;
        let found = self.find(key, hash);
        // Nothing can follow a fragment whose length is not a multiple of a unit. Linux cuts off the rest in IPv4,
        // and drops the fragment in IPv6.
        let odd = if fragment.more { usize::from(fragment.length) % UNIT } else { 0 };
        let length = usize::from(fragment.length) - odd;
        let start = usize::from(fragment.offset);
        let end = start + length;
        let judged = match key.source {
            Address::V6(_) if odd != 0 => Err(Reason::FragmentMalformed),
            _ => self.judge(found, start, end, fragment.more),
        };
        if let Err(reason) = judged {
            // A duplicate does no harm.
            if let Some(at) = found.filter(|_| reason != Reason::FragmentDuplicate) {
                self.give_up(at, reason, &mut lost);
            }
            return Added::Refused(reason);
        }
        let at = match found {
            Some(at) => at,
            None => match self.begin(key, hash, arrival.now, &mut lost) {
                Some(at) => at,
                None => return Added::Refused(Reason::FragmentTableFull),
            },
        };
        while self.free_pieces.len() < length.div_ceil(PIECE) {
            let oldest = self.oldest;
            self.give_up(oldest, Reason::FragmentTableFull, &mut lost);
            if oldest == at || oldest == NONE {
                return Added::Refused(Reason::FragmentTableFull);
            }
        }
        let Some(first) = self.store(start, length, arrival.opening.port, read) else {
            if found.is_none() {
                self.give_up(at, Reason::FragmentMalformed, &mut lost);
            }
            return Added::Refused(Reason::ScatteredHeaders);
        };
        self.note(at, arrival, first, start, end)
    }

    /// Whether a fragment may belong to the packet `found`, or be the first to come of a packet.
    fn judge(&self, found: Option<u32>, start: usize, end: usize, more: bool) -> Result<(), Reason> {
        if start == end || end + LEAST_HEADER > MAX_PACKET {
            return Err(Reason::FragmentMalformed);
        }
        let Some(datagram) = found.and_then(|at| self.datagrams.get(at as usize)) else { return Ok(()) };
        let known = datagram.end as usize;
        let contradicts = match (more, datagram.has_end) {
            (true, true) => end > known,
            (true, false) => false,
            (false, true) => end != known,
            (false, false) => end < known,
        };
        if contradicts {
            return Err(Reason::FragmentMalformed);
        }
        match found.map(|at| self.covered(at, start, end)) {
            Some(Covered::All) => Err(Reason::FragmentDuplicate),
            Some(Covered::Some) => Err(Reason::FragmentOverlap),
            Some(Covered::None) | None => Ok(()),
        }
    }

    /// Notes what a fragment, whose bytes are stored, says of its packet.
    fn note(&mut self, at: u32, arrival: &Arrival, first: u32, start: usize, end: usize) -> Added {
        let fragment = &arrival.fragment;
        self.each_word(at, start, end, |word, mask| *word |= mask);
        let Some(datagram) = self.datagrams.get_mut(at as usize) else {
            return Added::Refused(Reason::FragmentTableFull);
        };
        if let Some(piece) = self.pieces.get_mut(first as usize) {
            piece.other = datagram.fragments;
        }
        datagram.fragments = first;
        datagram.there += (end - start) as u32;
        datagram.end = datagram.end.max(end as u32);
        datagram.has_end |= !fragment.more;
        datagram.longest = datagram.longest.max(fragment.packet_length());
        if fragment.dont_fragment {
            datagram.longest_unsplittable = datagram.longest_unsplittable.max(fragment.packet_length());
        }
        datagram.congestion |= 1 << (fragment.service & 3);
        if start == 0 {
            datagram.opening = arrival.opening;
        }
        if !datagram.has_end || datagram.there < datagram.end {
            return Added::Kept;
        }
        self.unlink(at);
        Added::Complete(at)
    }

    /// Copies a complete packet and frees what it took.
    pub(super) fn take(&mut self, at: u32, whole: &mut Whole) {
        let Some(datagram) = self.datagrams.get(at as usize).copied() else { return };
        let is_unsplittable = datagram.longest_unsplittable == datagram.longest;
        whole.begin(&datagram.opening, datagram.end, datagram.longest, is_unsplittable);
        whole.note_identification(datagram.key.identification);
        whole.note_congestion(datagram.congestion);
        let mut fragment = datagram.fragments;
        while let Some(first) = self.pieces.get(fragment as usize) {
            let (start, length) = (usize::from(first.offset), usize::from(first.length));
            whole.add_part(start, start + length, first.port);
            let (mut piece, mut from) = (fragment, 0);
            while let Some(Piece { next, .. }) = self.pieces.get(piece as usize) {
                let count = PIECE.min(length - from);
                let place = piece as usize * PIECE;
                whole.put(start + from, self.bytes.get(place..place + count).unwrap_or_default());
                from += count;
                piece = *next;
            }
            fragment = first.other;
        }
        self.free(at, |_| ());
    }

    /// Gives up packets that came so many ticks ago. Shows the first fragment of each, if it came.
    pub(super) fn expire(
        &mut self,
        now: Tick,
        patience: u32,
        mut lost: impl FnMut(u8, Reason),
        mut first: impl FnMut(First<'_>),
    ) {
        while let Some(datagram) = self.datagrams.get(self.oldest as usize)
            && now.since(datagram.since) >= patience
        {
            if datagram.opening.length > 0 {
                let Datagram { ref opening, key, fragments, .. } = *datagram;
                first(First { shard: self, opening, key, fragments });
            }
            self.give_up(self.oldest, Reason::FragmentTimeout, &mut lost);
        }
    }

    /// How many packets and pieces of memory are free.
    #[cfg(test)]
    pub(super) fn room(&self) -> (usize, usize) {
        (self.free_datagrams.len(), self.free_pieces.len())
    }

    fn find(&self, key: Key, hash: usize) -> Option<u32> {
        let mut at = *self.buckets.get(hash % DATAGRAMS)?;
        while let Some(datagram) = self.datagrams.get(at as usize) {
            if datagram.key == key {
                return Some(at);
            }
            at = datagram.next;
        }
        None
    }

    /// A new packet, of which nothing has come yet. None if all places are taken by complete packets.
    fn begin(&mut self, key: Key, hash: usize, now: Tick, lost: &mut impl FnMut(u8, Reason)) -> Option<u32> {
        if self.free_datagrams.is_empty() {
            self.give_up(self.oldest, Reason::FragmentTableFull, lost);
        }
        let at = self.free_datagrams.pop()?;
        let bucket = (hash % DATAGRAMS) as u32;
        let next = std::mem::replace(self.buckets.get_mut(bucket as usize)?, at);
        let older = std::mem::replace(&mut self.newest, at);
        match self.datagrams.get_mut(older as usize) {
            Some(before) => before.newer = at,
            None => self.oldest = at,
        }
        *self.datagrams.get_mut(at as usize)? = Datagram { key, bucket, next, older, since: now, ..EMPTY };
        self.map(at).fill(0);
        Some(at)
    }

    /// Copies the data of a fragment to pieces of memory; enough of them must be free. None if it cannot be read.
    fn store(
        &mut self,
        start: usize,
        length: usize,
        port: u8,
        mut read: impl FnMut(usize, &mut [u8]) -> bool,
    ) -> Option<u32> {
        let mut first = NONE;
        // From the end, so that the next piece is known to each.
        for at in (0..length.div_ceil(PIECE)).rev() {
            let piece = self.free_pieces.pop()?;
            let from = at * PIECE;
            let place = piece as usize * PIECE;
            let count = PIECE.min(length - from);
            if let Some(said) = self.pieces.get_mut(piece as usize) {
                // Both are less than 2^16, as in an IPv4 packet.
                *said = Piece { next: first, other: NONE, offset: start as u16, length: length as u16, port };
            }
            first = piece;
            if !self.bytes.get_mut(place..place + count).is_some_and(|bytes| read(from, bytes)) {
                self.free_chain(first);
                return None;
            }
        }
        Some(first)
    }

    /// Drops an incomplete packet, and calls `lost` for each of its fragments.
    fn give_up(&mut self, at: u32, reason: Reason, lost: &mut impl FnMut(u8, Reason)) {
        if at == NONE {
            return;
        }
        self.unlink(at);
        self.free(at, |port| lost(port, reason));
    }

    /// Takes a packet out of its bucket and out of the list by age.
    fn unlink(&mut self, at: u32) {
        let Some(datagram) = self.datagrams.get(at as usize).copied() else { return };
        let Datagram { bucket, next, older, newer, .. } = datagram;
        let Some(first) = self.buckets.get_mut(bucket as usize) else { return };
        if *first == at {
            *first = next;
        } else {
            let mut before = *first;
            while let Some(datagram) = self.datagrams.get_mut(before as usize) {
                if datagram.next == at {
                    datagram.next = next;
                    break;
                }
                before = datagram.next;
            }
        }
        match self.datagrams.get_mut(newer as usize) {
            Some(after) => after.older = older,
            None => self.newest = older,
        }
        match self.datagrams.get_mut(older as usize) {
            Some(before) => before.newer = newer,
            None => self.oldest = newer,
        }
    }

    /// Frees the memory that a packet took.
    fn free(&mut self, at: u32, mut each: impl FnMut(u8)) {
        let Some(datagram) = self.datagrams.get_mut(at as usize) else { return };
        let mut fragment = std::mem::replace(&mut datagram.fragments, NONE);
        datagram.next = NONE;
        while let Some(Piece { other, port, .. }) = self.pieces.get(fragment as usize).copied() {
            each(port);
            self.free_chain(fragment);
            fragment = other;
        }
        self.free_datagrams.push(at);
    }

    fn free_chain(&mut self, first: u32) {
        let mut piece = first;
        while let Some(Piece { next, .. }) = self.pieces.get(piece as usize) {
            self.free_pieces.push(piece);
            piece = *next;
        }
    }

    fn map(&mut self, at: u32) -> &mut [u64] {
        let from = at as usize * WORDS;
        self.maps.get_mut(from..from + WORDS).unwrap_or_default()
    }

    /// Shows the words of a packet's bitmap for its bytes `start..end`, each with those of the bits that are set.
    fn each_word(&mut self, at: u32, start: usize, end: usize, mut each: impl FnMut(&mut u64, u64)) {
        for (word, mask) in masks(start, end) {
            if let Some(word) = self.map(at).get_mut(word) {
                each(word, mask);
            }
        }
    }

    fn covered(&self, at: u32, start: usize, end: usize) -> Covered {
        let (mut all, mut none) = (true, true);
        for (word, mask) in masks(start, end) {
            let there = self.maps.get(at as usize * WORDS + word).map_or(0, |word| word & mask);
            all &= there == mask;
            none &= there == 0;
        }
        match (all, none) {
            (true, _) => Covered::All,
            (_, true) => Covered::None,
            _ => Covered::Some,
        }
    }
}

/// The words of a bitmap for the bytes `start..end`, each with its bits.
fn masks(start: usize, end: usize) -> impl Iterator<Item = (usize, u64)> {
    const BITS: usize = u64::BITS as usize;
    let (first, last) = (start / UNIT, end.div_ceil(UNIT));
    (first / BITS..last.div_ceil(BITS)).map(move |word| {
        let (low, high) = (first.saturating_sub(word * BITS), (last - word * BITS).min(BITS));
        let above = u64::MAX.checked_shl(high as u32).unwrap_or(0);
        (word, u64::MAX << low & !above)
    })
}
