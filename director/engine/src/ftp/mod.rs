//! FTP: connections to port 21 of a virtual service, and the data connections that are agreed on there.
//!
//! As IPVS's helper (`ip_vs_ftp`) does: where the client waits for the server (`PORT`, `EPRT`) the server's packets
//! from port 20 come from the virtual service's port 20; where the server waits (`PASV`, `EPSV`) the client finds the
//! virtual service's address in the answer, and its connection to the port named there goes to that server. Data
//! connections are entries as any. One whose client's port is not known yet has port 0 there, and is asked for by
//! packets without an entry, as long as there is one.
//!
//! A control connection has a place here with what must be known of both its streams ([`control`]), from the first
//! payload on, and lives on while it has data connections. A server says something only to a client that is there, so
//! that SYNs from addresses of nobody take no place; and of the places half are kept for those that a server's payload
//! asks for, since whoever can forge a SYN can forge a client's payload.

mod command;
pub(crate) mod control;
mod reply;
#[cfg(test)]
mod tests;

use std::sync::atomic::{
    AtomicBool, AtomicU32,
    Ordering::{Relaxed, SeqCst},
    fence,
};

use crate::lock::Lock;
use crate::reason::Reason;
use control::Control;

/// How many control connections there can be at once.
const CONTROLS: u32 = 1 << 15;

/// How long a control connection goes on that has data connections, in seconds, as in the kernel.
pub(crate) const EXTENSION: u32 = 60;

// An entry is known by its number, among those of both tables.

/// In an entry's word, besides the number of a place and 1: it is the control connection; its client's port is not
/// known yet.
const CONTROL: u32 = 1 << 31;
const UNCLAIMED: u32 = 1 << 30;

/// A place for a control connection.
struct Place {
    /// How many entries have it: the control connection, and data connections. At 0 the place is free.
    ///
    /// Relaxed, as [`Ftp::words`]: who acts on them has found the entry, or the lock.
    entries: AtomicU32,
    control: Lock<Seat>,
}

/// Whose place it is, by the number of its entry and 1.
struct Seat {
    owner: u32,
    control: Control,
}

/// The control connections, and which entries are theirs.
pub(crate) struct Ftp {
    places: Box<[Place]>,
    /// Has room for all of them: it never grows.
    free: Lock<Vec<u32>>,
    /// By the number of an entry: its place and what it is there, or 0. As many as there are in both tables; memory is taken when used.
    words: Box<[AtomicU32]>,
    /// Whether there ever was one.
    in_use: AtomicBool,
    /// How many entries there are whose client's port is not known yet.
    unclaimed: AtomicU32,
}

const fn place_of(word: u32) -> Option<u32> {
    (word & !(CONTROL | UNCLAIMED)).checked_sub(1)
}

impl Ftp {
    /// Room for the control connections of tables of so many entries.
    pub(crate) fn new(entries: u32) -> Self {
        let count = entries.min(CONTROLS);
        let place = || Place {
            entries: AtomicU32::new(0),
            control: Lock::new(Seat { owner: 0, control: Control::new(true) }),
        };
        Self {
            places: std::iter::repeat_with(place).take(count as usize).collect(),
            free: Lock::new((0..count).rev().collect()),
            words: crate::servers::zeroed(entries as usize),
            in_use: AtomicBool::new(false),
            unclaimed: AtomicU32::new(0),
        }
    }

    fn word(&self, entry: u32) -> u32 {
        self.words.get(entry as usize).map_or(0, |word| word.load(Relaxed))
    }

    fn set_word(&self, entry: u32, value: u32) {
        if let Some(word) = self.words.get(entry as usize) {
            word.store(value, Relaxed);
        }
    }

    /// The place of an entry, whatever it is there.
    fn place(&self, word: u32) -> Option<&Place> {
        self.places.get(place_of(word)? as usize)
    }

    /// There is a control connection, or will be.
    pub(crate) fn begin(&self) {
        if !self.in_use.load(Relaxed) {
            self.in_use.store(true, Relaxed);
        }
    }

    /// Whether a control connection has a place.
    pub(crate) fn has_place(&self, control: u32) -> bool {
        self.word(control) != 0
    }

    /// Gives a control connection a place, at the first payload of its client or of its server. [`Self::leave`] takes it
    /// back; `is_over` says whether the entry has ended meanwhile.
    pub(crate) fn open(
        &self,
        control: u32,
        begun: Control,
        by_server: bool,
        is_over: impl FnOnce() -> bool,
    ) -> Result<(), Reason> {
        let number = {
            let mut free = self.free.lock();
            let kept = if by_server { 0 } else { self.places.len() / 2 };
            if free.len() > kept { free.pop() } else { None }
        };
        let number = number.ok_or(Reason::FtpFull)?;
        let (Some(place), Some(word)) = (self.places.get(number as usize), self.words.get(control as usize))
        else {
            return Err(Reason::FtpFull);
        };
        place.entries.store(1, Relaxed);
        {
            let mut seat = place.control.lock();
            *seat = Seat { owner: control + 1, control: begun };
            if word.compare_exchange(0, CONTROL | (number + 1), Relaxed, Relaxed).is_err() {
                // Another worker was faster.
                seat.owner = 0;
                self.free.lock().push(number);
                return Ok(());
            }
        }
        // Pairs with the fence of `leave`: either this sees that the entry has ended, or that sees the word.
        fence(SeqCst);
        if is_over() {
            self.leave(control, true);
        }
        Ok(())
    }

    /// What is known of a control connection, for one packet. None: it has ended.
    pub(crate) fn with<T>(&self, control: u32, act: impl FnOnce(&mut Control) -> T) -> Option<T> {
        let word = self.word(control);
        let mut seat = self.place(word)?.control.lock();
        // The entry may have ended, and its place be another's.
        (word & CONTROL != 0 && seat.owner == control + 1).then(|| act(&mut seat.control))
    }

    /// `data` is a new entry of this control connection; its client's port may be unknown.
    pub(crate) fn adopt(&self, control: u32, data: u32, is_unclaimed: bool) {
        self.join(self.word(control) & !CONTROL, data, if is_unclaimed { UNCLAIMED } else { 0 });
        self.unclaimed.fetch_add(is_unclaimed.into(), Relaxed);
    }

    /// The client's port of `unclaimed` is known, and `data` is its entry.
    pub(crate) fn pass_on(&self, unclaimed: u32, data: u32) {
        self.join(self.word(unclaimed) & !UNCLAIMED, data, 0);
    }

    fn join(&self, word: u32, data: u32, mark: u32) {
        let more = |entries: u32| (entries > 0).then_some(entries + 1);
        let joined = self.place(word).is_some_and(|place| {
            // Unless the last of them has just ended.
            place.entries.fetch_update(Relaxed, Relaxed, more).is_ok()
        });
        self.set_word(data, if joined { word | mark } else { mark });
    }

    /// Whether this is an entry whose client's port is not known yet.
    pub(crate) fn is_unclaimed(&self, entry: u32) -> bool {
        self.word(entry) & UNCLAIMED != 0
    }

    /// Whether an entry is that of a data connection.
    pub(crate) fn is_data(&self, entry: u32) -> bool {
        let word = if self.in_use.load(Relaxed) { self.word(entry) } else { 0 };
        word != 0 && word & CONTROL == 0
    }

    /// Whether a packet without an entry may be of one whose client's port is not known yet.
    pub(crate) fn has_unclaimed(&self) -> bool {
        self.unclaimed.load(Relaxed) > 0
    }

    /// Whether an entry is that of a control connection with data connections.
    pub(crate) fn holds(&self, entry: u32) -> bool {
        let word = if self.in_use.load(Relaxed) { self.word(entry) } else { 0 };
        word & CONTROL != 0 && self.place(word).is_some_and(|place| place.entries.load(Relaxed) > 1)
    }

    /// Whether an entry is that of a data connection of this control connection.
    pub(crate) fn is_of(&self, control: u32, data: u32) -> bool {
        let (control, data) = (self.word(control), self.word(data));
        place_of(data).is_some() && data & CONTROL == 0 && place_of(data) == place_of(control)
    }

    /// An entry has ended. `is_control` says whether it was that of a control connection, with a place or without.
    pub(crate) fn leave(&self, entry: u32, is_control: bool) {
        if !self.in_use.load(Relaxed) {
            return;
        }
        if is_control {
            // See `open`. Any other entry has had its word from the beginning, so who sees it ended sees that.
            fence(SeqCst);
        }
        let word = self
            .words
            .get(entry as usize)
            .map_or(0, |word| if word.load(Relaxed) == 0 { 0 } else { word.swap(0, Relaxed) });
        if word == 0 {
            return;
        }
        if word & UNCLAIMED != 0 {
            self.unclaimed.fetch_sub(1, Relaxed);
        }
        if let (Some(place), Some(number)) = (self.place(word), place_of(word)) {
            if word & CONTROL != 0 {
                place.control.lock().owner = 0;
            }
            if place.entries.fetch_sub(1, Relaxed) == 1 {
                self.free.lock().push(number);
            }
        }
    }
}
