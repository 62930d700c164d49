//! Persistence templates: which server a client's connections to a service go to, and for how long.
//!
//! They are not connections and have no client end, so they have a table of their own. Its size is fixed at the
//! start. It is divided into shards with a lock each, which only new connections of persistent services take, and the
//! control core for a few templates at a time. Finding a client's template and making it are one step under the lock,
//! so two first connections of a client go to one server.
//!
//! As in the kernel, a template that runs out while it still has connections goes on for a minute, and from then on
//! for a minute at a time. This is worked out whenever the template is looked at; the control core looks at all of
//! them every second.

mod shard;

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};

use ahash::RandomState;
use director_flow::{TICKS_PER_SECOND, Tick};
use director_packet::{Address, Endpoint};

use crate::lock::{Guard, Lock};
use crate::reason::Reason;
use crate::servers::Servers;
use crate::service::EndKey;
use crate::sip::CallId;
use shard::{Life, Shard, Template};

/// The most templates there can be.
pub const MAX_TEMPLATES: u32 = 1 << 24;

const SHARD_BITS: u32 = 6;
const SHARDS: usize = 1 << SHARD_BITS;
/// The bits of a template's number that are its place in its shard. A shard can have more than its share.
const SLOT_BITS: u32 = 24;

/// In a connection's word: the template has been told that the connection is established.
const TOLD: u32 = 1 << 31;

/// How many templates are looked at under one lock.
const STRIDE: usize = 64;

/// Whose template it is: a client's (the part of its address that the service looks at), for a service or for all
/// ports of its address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Key {
    pub(crate) service: EndKey,
    /// The masked address of the client.
    pub(crate) client: Address,
}

/// A key, and the call by which a persistence engine tells several templates of the key apart.
type Wanted<'a> = (Key, Option<&'a CallId>);

/// A server that a template has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Chosen {
    pub(crate) slot: u32,
    pub(crate) address: Endpoint,
}

/// What [`Templates::join`] found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Joined {
    /// There is a template with this server, and the connection is still to be counted as the server's.
    Found(Chosen),
    /// None; this server was chosen.
    Made(Chosen),
}

/// A template as listings show it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Row {
    pub(crate) key: Key,
    pub(crate) call: Option<CallId>,
    pub(crate) server: Endpoint,
    pub(crate) is_valid: bool,
    pub(crate) is_assured: bool,
    /// Whole seconds until it ends if nothing comes.
    pub(crate) seconds: u32,
}

/// The templates of all services.
pub struct Templates {
    shards: Box<[Lock<Shard>]>,
    seed: RandomState,
    capacity: u32,
    /// How many there are. The number only limits them, hence Relaxed.
    count: AtomicU32,
    /// Whether there ever was one: existing connections ask this first. Relaxed, because it is stored before the
    /// connection that made the first template is published: a thread that found a connection with a template sees
    /// it.
    in_use: AtomicBool,
    /// By connection: the number of its template plus 1, with [`TOLD`]; or 0. Written under the template's lock, and
    /// read again under the lock before anything depends on it, hence Relaxed.
    of_connection: Box<[AtomicU32]>,
}

/// Where [`Templates::sweep`] stands.
#[derive(Debug, Default)]
pub(crate) struct Sweep {
    shard: usize,
    last: Tick,
    /// How many shards still have to be searched for templates of deleted servers.
    purging: usize,
}

impl Sweep {
    /// Ends the templates of deleted servers that have no connections.
    pub(crate) fn purge(&mut self) {
        self.purging = SHARDS;
    }
}

impl Templates {
    /// Room for so many, of a table of so many connections.
    #[must_use]
    pub(crate) fn new(capacity: u32, connections: u32) -> Self {
        let capacity = capacity.clamp(1, MAX_TEMPLATES);
        let share = capacity as usize / SHARDS;
        // Keys are spread over the shards by chance; so much room is too little once in a lifetime.
        let room = (share + 8 * share.isqrt() + 32).min(1 << SLOT_BITS);
        Self {
            shards: std::iter::repeat_with(|| Lock::new(Shard::new(room))).take(SHARDS).collect(),
            seed: RandomState::new(),
            capacity,
            count: AtomicU32::new(0),
            in_use: AtomicBool::new(false),
            of_connection: crate::servers::zeroed(connections as usize),
        }
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.count.load(Relaxed)
    }

    /// How many there can be.
    #[must_use]
    pub fn capacity(&self) -> u32 {
        self.capacity
    }

    fn lock(&self, shard: usize) -> Guard<'_, Shard> {
        self.shards[shard % SHARDS].lock()
    }

    /// The shard of a key and call, and the hash for [`Shard::bucket`].
    fn place_of(&self, (key, call): Wanted<'_>) -> (usize, u64) {
        let hash = self.seed.hash_one((key.service, key.client, call.map(CallId::as_bytes)));
        ((hash >> (64 - SHARD_BITS)) as usize, hash)
    }

    /// Frees a template of a shard.
    fn release(&self, shard: &mut Shard, place: usize, servers: &Servers) {
        let Template { life, server, key, .. } = shard.templates[place];
        if life == Life::Valid {
            let (_, hash) = self.place_of((key, shard.call(place)));
            let bucket = shard.bucket(hash);
            shard.hide(bucket, place);
        }
        shard.free(place);
        servers.end_template(server.slot);
        self.count.fetch_sub(1, Relaxed);
    }

    /// Allocates memory for the calls of as many templates as there can be; it is touched only when used. For the
    /// control core, before a service has a persistence engine.
    pub(crate) fn take_calls(&self) {
        for number in 0..SHARDS {
            let (count, is_taken) = {
                let shard = self.lock(number);
                (shard.templates.capacity(), !shard.calls.is_empty())
            };
            if !is_taken {
                let calls = crate::servers::zeroed(count);
                self.lock(number).calls = calls;
            }
        }
    }

    /// Sends a new connection where the client's template says, and restarts the template's timer. If no template
    /// `is_usable`, it makes one for `timeout` seconds with the server that `choose` returns. `connection` is none
    /// for a datagram without an entry; a connection that is already established assures the template.
    pub(crate) fn join(
        &self,
        wanted: Wanted<'_>,
        (now, timeout): (Tick, u32),
        (connection, is_assured): (Option<u32>, bool),
        servers: &Servers,
        is_usable: impl FnOnce(u32) -> bool,
        choose: impl FnOnce() -> Option<Chosen>,
    ) -> Result<Joined, Reason> {
        let (number, hash) = self.place_of(wanted);
        let shard = &mut *self.lock(number);
        let bucket = shard.bucket(hash);
        let found = self.find_usable(shard, bucket, wanted, now, servers, is_usable);
        let place = match found {
            Some(place) => place,
            None => self.make(shard, bucket, wanted, (now, timeout), servers, choose)?,
        };
        let template = &mut shard.templates[place];
        template.is_assured |= is_assured;
        if let Some(index) = connection
            && let Some(of) = self.of_connection.get(index as usize)
        {
            template.connections += 1;
            of.store((number << SLOT_BITS | place) as u32 + 1, Relaxed);
        }
        Ok(if found.is_none() { Joined::Made(template.server) } else { Joined::Found(template.server) })
    }

    /// The place of a template for [`Self::join`], whose timer starts anew. One that is over or not usable goes.
    fn find_usable(
        &self,
        shard: &mut Shard,
        bucket: usize,
        wanted: Wanted<'_>,
        now: Tick,
        servers: &Servers,
        is_usable: impl FnOnce(u32) -> bool,
    ) -> Option<usize> {
        let place = shard.find(bucket, wanted)?;
        let template = &mut shard.templates[place];
        if !template.lives(now) {
            self.release(shard, place, servers);
            return None;
        }
        if !is_usable(template.server.slot) {
            template.life = Life::Invalid;
            shard.hide(bucket, place);
            return None;
        }
        // Another worker's tick may be ahead of this one's.
        if now.since(template.started) > 0 {
            template.started = now;
        }
        Some(place)
    }

    /// Makes a template for [`Self::join`]. Returns its place.
    fn make(
        &self,
        shard: &mut Shard,
        bucket: usize,
        (key, call): Wanted<'_>,
        (now, timeout): (Tick, u32),
        servers: &Servers,
        choose: impl FnOnce() -> Option<Chosen>,
    ) -> Result<usize, Reason> {
        let more = |count| (count < self.capacity).then_some(count + 1);
        let has_room = shard.has_room() && (call.is_none() || !shard.calls.is_empty());
        if !has_room || self.count.fetch_update(Relaxed, Relaxed, more).is_err() {
            return Err(Reason::TemplatesFull);
        }
        let Some(server) = choose() else {
            self.count.fetch_sub(1, Relaxed);
            return Err(Reason::NoServer);
        };
        servers.begin_template(server.slot);
        if !self.in_use.load(Relaxed) {
            self.in_use.store(true, Relaxed);
        }
        let template = Template {
            key,
            server,
            started: now,
            timeout,
            connections: 0,
            life: Life::Valid,
            is_assured: false,
            has_call: call.is_some(),
            next: 0,
        };
        let place = shard.add(bucket, template);
        if let (Some(call), Some(kept)) = (call, shard.calls.get_mut(place)) {
            *kept = *call;
        }
        Ok(place)
    }

    /// The template of a connection, as its word says.
    fn of(&self, connection: u32) -> Option<(&AtomicU32, u32)> {
        if !self.in_use.load(Relaxed) {
            return None;
        }
        let word = self.of_connection.get(connection as usize)?;
        let value = word.load(Relaxed);
        (value != 0).then_some((word, value))
    }

    /// Whether a connection is of a template.
    pub(crate) fn has(&self, connection: u32) -> bool {
        self.of(connection).is_some()
    }

    /// Tells the template of a connection, if it has one, that the connection is established.
    #[inline]
    pub(crate) fn assure(&self, connection: u32) {
        if let Some((word, value)) = self.of(connection)
            && value & TOLD == 0
        {
            self.tell(word, value);
        }
    }

    #[cold]
    fn tell(&self, word: &AtomicU32, value: u32) {
        let (number, place) = split(value - 1);
        let shard = &mut *self.lock(number);
        // The connection may have ended, and its template with it.
        if word.load(Relaxed) == value
            && let Some(template) = shard.templates.get_mut(place)
        {
            word.store(value | TOLD, Relaxed);
            template.is_assured = true;
        }
    }

    /// A connection has ended. For the control core.
    pub(crate) fn leave(&self, connection: u32, now: Tick) {
        let Some((word, value)) = self.of(connection) else { return };
        let (number, place) = split((value & !TOLD) - 1);
        let shard = &mut *self.lock(number);
        word.store(0, Relaxed);
        if let Some(template) = shard.templates.get_mut(place) {
            // While it has this connection it does not end.
            template.lives(now);
            template.connections -= 1;
        }
    }

    /// Frees what is over: all of it within a second, if called every tick. For the control core.
    pub(crate) fn sweep(&self, sweep: &mut Sweep, now: Tick, servers: &Servers) {
        let gone = now.since(sweep.last);
        sweep.last = now;
        if gone == 0 || !self.in_use.load(Relaxed) {
            return;
        }
        let shards = SHARDS.div_ceil(TICKS_PER_SECOND as usize) * gone as usize;
        for _ in 0..shards.min(SHARDS) {
            let number = sweep.shard;
            sweep.shard = (number + 1) % SHARDS;
            let purge = sweep.purging > 0;
            sweep.purging = sweep.purging.saturating_sub(1);
            let is_over = |template: &Template| {
                purge && template.connections == 0 && servers.is_gone(template.server.slot)
            };
            let mut from = 0;
            while let Some(next) = self.pass(number, from, now, servers, is_over, |_| {}) {
                from = next;
            }
        }
    }

    /// Goes through some templates of a shard, starting at a place: frees those whose time is up or that end for
    /// another reason, and shows the others. Returns where to go on.
    fn pass(
        &self,
        number: usize,
        from: usize,
        now: Tick,
        servers: &Servers,
        is_over: impl Fn(&Template) -> bool,
        mut each: impl FnMut(Row),
    ) -> Option<usize> {
        let shard = &mut *self.lock(number);
        let to = (from + STRIDE).min(shard.templates.len());
        for place in from..to {
            let template = &mut shard.templates[place];
            if template.life == Life::Free {
                continue;
            }
            if !template.lives(now) || is_over(template) {
                self.release(shard, place, servers);
                continue;
            }
            let (key, call) =
                (template.key, template.has_call.then(|| shard.calls.get(place).copied()).flatten());
            each(Row {
                key,
                call,
                server: template.server.address,
                is_valid: template.life == Life::Valid,
                is_assured: template.is_assured,
                seconds: template.seconds_left(now),
            });
        }
        (to < shard.templates.len()).then_some(to)
    }

    /// Lists the templates in `count` places, starting at `from`. Returns where to go on. For the control core.
    pub(crate) fn list(
        &self,
        now: Tick,
        from: u32,
        count: u32,
        servers: &Servers,
        mut each: impl FnMut(Row),
    ) -> Option<u32> {
        if !self.in_use.load(Relaxed) {
            return None;
        }
        let (mut number, mut place) = split(from);
        for _ in 0..(count as usize).div_ceil(STRIDE).max(1) {
            match self.pass(number, place, now, servers, |_| false, &mut each) {
                Some(next) => place = next,
                None => (number, place) = (number + 1, 0),
            }
            if number >= SHARDS {
                return None;
            }
        }
        Some((number << SLOT_BITS | place) as u32)
    }
}

/// The shard and the place of a template.
const fn split(number: u32) -> (usize, usize) {
    ((number >> SLOT_BITS) as usize, (number & ((1 << SLOT_BITS) - 1)) as usize)
}

#[cfg(test)]
mod tests;
