//! Persistence templates: which server a client's connections to a service go to, and for how long.
//!
//! They are not connections and have no client end, so they have a table of their own. It has its size from
//! the start, is cut into shards, and each shard has a lock, which only new connections of persistent services
//! take, and the control core for a few templates at a time. Whoever has the lock finds a client's template or
//! makes it, so two first connections of a client go to one server.
//!
//! As in the kernel a template that runs out while it still has connections goes on for a minute, and with a
//! minute from then on. That is reckoned whenever it is looked at; the control core looks at all of them every
//! second.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};

use ahash::RandomState;
use director_flow::{TICKS_PER_SECOND, Tick};
use director_packet::{Address, Endpoint};

use crate::lock::{Guard, Lock};
use crate::reason::Reason;
use crate::servers::Servers;
use crate::service::EndKey;
use crate::sip::CallId;

/// The most templates there can be.
pub const MAX_TEMPLATES: u32 = 1 << 24;

/// How long a template goes on that has connections, in seconds.
const EXTENSION: u32 = 60;

/// Ticks that a connection may be listed after its time is up. A template whose connections end with it ends too, as in
/// the kernel: whether it goes on is asked this much later.
const LEEWAY: u32 = 8;

const SHARD_BITS: u32 = 6;
const SHARDS: usize = 1 << SHARD_BITS;
/// Of a template's number those of its place in its shard, which can have more than its share.
const SLOT_BITS: u32 = 24;

/// In a connection's word: the template's state has heard that the connection is established.
const TOLD: u32 = 1 << 31;

/// How many templates are looked at under one lock.
const STRIDE: usize = 64;

/// Whose template it is: a client's, as far as the service looks at its address, for a service or all ports of
/// its address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Key {
    pub(crate) service: EndKey,
    /// The masked address of the client.
    pub(crate) client: Address,
}

/// A key, and the call that a persistence engine tells apart from others of it.
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
    /// A template with this server. The connection is still to be counted as its.
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

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Life {
    Free,
    /// Found by its key.
    Valid,
    /// Its server is to get no more connections; it is listed until its time is up.
    Invalid,
}

#[derive(Debug)]
struct Template {
    key: Key,
    server: Chosen,
    /// When its timer was last started, and with how many seconds.
    started: Tick,
    timeout: u32,
    connections: u32,
    life: Life,
    is_assured: bool,
    /// Whether it is of a call: of that in its place among the shard's.
    has_call: bool,
    /// The next of its bucket, or of the free ones: a place and 1, or 0.
    next: u32,
}

impl Template {
    fn end(&self) -> Tick {
        self.started.plus(self.timeout * TICKS_PER_SECOND)
    }

    /// Lets the time pass. False: it is over.
    fn lives(&mut self, now: Tick) -> bool {
        let end = self.end();
        // Never early: the tick it was started in may have been nearly over.
        let late = now.since(end);
        if late == 0 {
            return true;
        }
        if late <= LEEWAY {
            return self.connections > 0;
        }
        let minute = EXTENSION * TICKS_PER_SECOND;
        self.started = end.plus((late - LEEWAY - 1) / minute * minute);
        self.timeout = EXTENSION;
        self.connections > 0
    }

    fn seconds_left(&self, now: Tick) -> u32 {
        (self.timeout * TICKS_PER_SECOND).saturating_sub(now.since(self.started) + 1) / TICKS_PER_SECOND
    }
}

/// The templates of some of the keys.
#[derive(Default)]
#[repr(align(64))]
struct Shard {
    /// As many as there is room for from the start: it never grows.
    templates: Vec<Template>,
    /// By place, the calls of templates that have one; none before [`Templates::take_calls`].
    calls: Box<[CallId]>,
    free: u32,
    /// The first template of each bucket: a place and 1, or 0. A power of two of them.
    buckets: Box<[u32]>,
}

impl Shard {
    fn new(capacity: usize) -> Self {
        let buckets = vec![0; capacity.next_power_of_two()].into_boxed_slice();
        Self { templates: Vec::with_capacity(capacity), calls: Box::default(), free: 0, buckets }
    }

    /// The call of a template.
    fn call(&self, place: usize) -> Option<&CallId> {
        if self.templates.get(place)?.has_call { self.calls.get(place) } else { None }
    }

    fn find(&self, bucket: usize, (key, call): Wanted<'_>) -> Option<usize> {
        let mut next = self.buckets[bucket];
        while next != 0 {
            let place = next as usize - 1;
            let template = self.templates.get(place)?;
            if template.key == key && self.call(place) == call {
                return Some(place);
            }
            next = template.next;
        }
        None
    }

    /// Takes a template out of its bucket: it is found no more.
    fn hide(&mut self, bucket: usize, place: usize) {
        let after = self.templates[place].next;
        let mut next = self.buckets[bucket];
        if next as usize == place + 1 {
            self.buckets[bucket] = after;
            return;
        }
        while next != 0 {
            let template = &mut self.templates[next as usize - 1];
            if template.next as usize == place + 1 {
                template.next = after;
                return;
            }
            next = template.next;
        }
    }

    fn has_room(&self) -> bool {
        self.free != 0 || self.templates.len() < self.templates.capacity()
    }

    /// Adds a template, for which there is room. Returns its place.
    fn add(&mut self, bucket: usize, mut template: Template) -> usize {
        template.next = self.buckets[bucket];
        let place = if self.free == 0 {
            self.templates.push(template);
            self.templates.len() - 1
        } else {
            let place = self.free as usize - 1;
            self.free = self.templates[place].next;
            self.templates[place] = template;
            place
        };
        self.buckets[bucket] = place as u32 + 1;
        place
    }

    /// Frees a template that is hidden.
    fn free(&mut self, place: usize) {
        let free = self.free;
        let template = &mut self.templates[place];
        (template.life, template.next) = (Life::Free, free);
        self.free = place as u32 + 1;
    }
}

/// The templates of all services.
pub struct Templates {
    shards: Box<[Lock<Shard>]>,
    seed: RandomState,
    capacity: u32,
    /// How many there are. It bounds them and says nothing else, hence Relaxed.
    count: AtomicU32,
    /// Whether there ever was one: what existing connections ask first. Relaxed: it is stored before the
    /// connection that made the first is published, so who found one of a template sees it.
    in_use: AtomicBool,
    /// By connection: the number of its template and 1, and [`TOLD`]; or 0. Written under the template's lock,
    /// and read again under it by who acts on it, hence Relaxed.
    of_connection: Box<[AtomicU32]>,
}

/// Where [`Templates::sweep`] stands.
#[derive(Debug, Default)]
pub(crate) struct Sweep {
    shard: usize,
    last: Tick,
    /// So many shards are still to be rid of the templates of deleted servers.
    purging: usize,
}

impl Sweep {
    /// Has the templates of deleted servers end that have no connections.
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
        // Keys fall into shards by chance; this many fall short once in a lifetime.
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

    fn place_of(&self, (key, call): Wanted<'_>) -> (usize, u64) {
        let hash = self.seed.hash_one((key.service, key.client, call.map(CallId::as_bytes)));
        ((hash >> (64 - SHARD_BITS)) as usize, hash)
    }

    /// Frees a template of a shard.
    fn release(&self, shard: &mut Shard, place: usize, servers: &Servers) {
        let Template { life, server, key, .. } = shard.templates[place];
        if life == Life::Valid {
            let bucket = self.place_of((key, shard.call(place))).1 as usize & (shard.buckets.len() - 1);
            shard.hide(bucket, place);
        }
        shard.free(place);
        servers.end_template(server.slot);
        self.count.fetch_sub(1, Relaxed);
    }

    /// Takes memory for calls, as much as there can be templates; it is touched when it is used. For the control core,
    /// before a service has a persistence engine.
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

    /// Has a new connection go where the client's template says, whose timer starts anew; makes one for `timeout`
    /// seconds if there is none that `is_usable`, with the server that `choose` gives. `connection` is none for a
    /// datagram that is none; an established one assures the template.
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
        let (key, call) = wanted;
        let shard = &mut *self.lock(number);
        let bucket = hash as usize & (shard.buckets.len() - 1);
        let mut found = None;
        if let Some(place) = shard.find(bucket, wanted) {
            let template = &mut shard.templates[place];
            if !template.lives(now) {
                self.release(shard, place, servers);
            } else if !is_usable(template.server.slot) {
                template.life = Life::Invalid;
                shard.hide(bucket, place);
            } else {
                // Another worker's tick may be ahead of this one's.
                if now.since(template.started) > 0 {
                    template.started = now;
                }
                found = Some(place);
            }
        }
        let is_new = found.is_none();
        let place = match found {
            Some(place) => place,
            None => {
                let more = |count| (count < self.capacity).then_some(count + 1);
                let has_room = shard.has_room() && (call.is_none() || !shard.calls.is_empty());
                let counted = has_room && self.count.fetch_update(Relaxed, Relaxed, more).is_ok();
                if !counted {
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
                place
            }
        };
        let template = &mut shard.templates[place];
        template.is_assured |= is_assured;
        if let Some(index) = connection
            && let Some(of) = self.of_connection.get(index as usize)
        {
            template.connections += 1;
            of.store((number << SLOT_BITS | place) as u32 + 1, Relaxed);
        }
        Ok(if is_new { Joined::Made(template.server) } else { Joined::Found(template.server) })
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

    /// A connection is established: its template, if it has one, shows it.
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

    /// Frees what is over, all of it within a second of being called every tick. For the control core.
    pub(crate) fn sweep(&self, sweep: &mut Sweep, now: Tick, servers: &Servers) {
        let gone = now.since(sweep.last);
        if gone == 0 || !self.in_use.load(Relaxed) {
            return;
        }
        sweep.last = now;
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

    /// Goes through some templates of a shard from a place on: frees what is over, by its time or for another reason,
    /// shows the others. Returns where to go on.
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

    /// Lists templates: of `count` places from `from` on. Returns where to go on. For the control core.
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
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::service::ServerSpec;

    const CAPACITY: u32 = 100;

    /// Numbers of connections.
    fn indices(count: u32) -> Vec<u32> {
        (0..count).collect()
    }

    fn servers() -> Servers {
        let servers = Servers::new(1);
        for slot in 0..4 {
            servers.ensure(slot);
            servers.set(slot, &ServerSpec::default());
        }
        servers
    }

    fn key(client: u32) -> Key {
        Key { service: EndKey::new(Endpoint::v4(7, 80), 6), client: Address::V4(client) }
    }

    fn chosen(slot: u32) -> Chosen {
        Chosen { slot, address: Endpoint::v4(slot, 80) }
    }

    fn list(templates: &Templates, now: Tick, servers: &Servers) -> Vec<Row> {
        let (mut rows, mut from) = (Vec::new(), Some(0));
        while let Some(at) = from {
            from = templates.list(now, at, 100, servers, |row| rows.push(row));
        }
        rows
    }

    #[test]
    fn two_first_connections_of_one_client_make_one_template() {
        let (servers, indices) = (servers(), indices(CAPACITY));
        for _ in 0..200 {
            let templates = Templates::new(CAPACITY, CAPACITY);
            let slots: Vec<_> = std::thread::scope(|scope| {
                let threads: Vec<_> = (0..2)
                    .map(|thread| {
                        let (templates, servers, indices) = (&templates, &servers, &indices);
                        scope.spawn(move || {
                            let mut slots = Vec::new();
                            for client in 0..20 {
                                let connection = (Some(indices[thread * 20 + client]), false);
                                let choose = || Some(chosen(thread as u32));
                                let when = (Tick(0), 10);
                                let joined = templates.join(
                                    (key(client as u32), None),
                                    when,
                                    connection,
                                    servers,
                                    |_| true,
                                    choose,
                                );
                                let (Joined::Found(server) | Joined::Made(server)) = joined.unwrap();
                                slots.push(server.slot);
                            }
                            slots
                        })
                    })
                    .collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).collect()
            });
            assert_eq!(slots[0], slots[1]);
            assert_eq!((templates.count(), list(&templates, Tick(0), &servers).len()), (20, 20));
            for index in &indices[..40] {
                templates.leave(*index, Tick(1));
            }
            templates.sweep(&mut Sweep::default(), Tick(200), &servers);
            assert_eq!(templates.count(), 0);
            assert!((0..4).all(|slot| servers.load(slot).persistent == 0));
        }
    }

    #[test]
    fn calls_are_told_apart() {
        let (servers, templates) = (servers(), Templates::new(CAPACITY, CAPACITY));
        let call = |name: usize| CallId::of(format!("x\r\ni: call{name}\r\n").as_bytes());
        let join = |name: usize, slot: u32, now: u32| {
            let (call, choose) = (call(name), || Some(chosen(slot)));
            templates.join(
                (key(1), call.as_ref()),
                (Tick(now), 10),
                (None, false),
                &servers,
                |_| true,
                choose,
            )
        };
        assert_eq!(join(1, 1, 0), Err(Reason::TemplatesFull), "there is no memory for calls yet");
        templates.take_calls();
        templates.take_calls();
        let mut sweep = Sweep::default();
        // Places are used again, by others.
        for round in 0..3 {
            let (now, first) = (round * 1000, round as usize * 7);
            for name in first..first + 20 {
                assert_eq!(join(name, name as u32 % 4, now), Ok(Joined::Made(chosen(name as u32 % 4))));
            }
            for name in first..first + 20 {
                assert_eq!(join(name, 9, now), Ok(Joined::Found(chosen(name as u32 % 4))));
            }
            let shown = list(&templates, Tick(now), &servers);
            let mut shown: Vec<_> = shown.iter().filter_map(|row| row.call).collect();
            shown.sort_by_key(|call| call.as_bytes().to_vec());
            let mut expected: Vec<_> = (first..first + 20).filter_map(call).collect();
            expected.sort_by_key(|call| call.as_bytes().to_vec());
            assert_eq!(shown, expected);
            templates.sweep(&mut sweep, Tick(now + 500), &servers);
            assert_eq!(templates.count(), 0);
        }
    }

    /// A template of the model.
    #[derive(Clone, Debug)]
    struct Model {
        slot: u32,
        started: u32,
        timeout: u32,
        connections: Vec<usize>,
        assured: bool,
        valid: bool,
        client: u32,
    }

    #[derive(Clone, Copy, Debug, bolero::TypeGenerator)]
    enum Step {
        Join { client: u8, slot: u8, timeout: u8, established: bool },
        Leave(u8),
        Assure(u8),
        Pass(u8),
        Long(u16),
        Break(u8),
        Mend(u8),
    }

    /// Every step against a list of templates that is gone through tick by tick.
    #[test]
    fn as_a_plain_list() {
        let indices = indices(CAPACITY);
        bolero::check!().with_type::<Vec<Step>>().for_each(|steps| {
            let (servers, templates) = (servers(), Templates::new(8, CAPACITY));
            let mut model: Vec<Model> = Vec::new();
            let mut broken = [false; 4];
            let mut free: Vec<usize> = (0..indices.len()).rev().collect();
            let mut live: Vec<usize> = Vec::new();
            let (mut now, mut sweep) = (1_u32, Sweep::default());
            for step in steps {
                match *step {
                    Step::Join { client, slot, timeout, established } => {
                        let (client, slot) = (u32::from(client % 6), u32::from(slot % 4));
                        let timeout = u32::from(timeout % 100) + 1;
                        let Some(connection) = free.pop() else { continue };
                        let at = model.iter().position(|t| t.valid && t.client == client);
                        if let Some(at) = at.filter(|&at| broken[model[at].slot as usize]) {
                            model[at].valid = false;
                        }
                        let found = model.iter().position(|t| t.valid && t.client == client);
                        let joined = templates.join(
                            (key(client), None),
                            (Tick(now), timeout),
                            (Some(indices[connection]), established),
                            &servers,
                            |slot| !broken[slot as usize],
                            || (!broken[slot as usize]).then(|| chosen(slot)),
                        );
                        let expected = match found {
                            Some(at) => {
                                model[at].started = now;
                                Ok(Joined::Found(chosen(model[at].slot)))
                            }
                            None if model.len() == 8 => Err(Reason::TemplatesFull),
                            None if broken[slot as usize] => Err(Reason::NoServer),
                            None => {
                                let (connections, assured, valid) = (Vec::new(), false, true);
                                model.push(Model {
                                    slot,
                                    started: now,
                                    timeout,
                                    connections,
                                    assured,
                                    valid,
                                    client,
                                });
                                Ok(Joined::Made(chosen(slot)))
                            }
                        };
                        assert_eq!(joined, expected);
                        if joined.is_err() {
                            free.push(connection);
                            continue;
                        }
                        let at = found.unwrap_or(model.len() - 1);
                        model[at].connections.push(connection);
                        model[at].assured |= established;
                        live.push(connection);
                    }
                    Step::Leave(which) if !live.is_empty() => {
                        let connection = live.swap_remove(usize::from(which) % live.len());
                        templates.leave(indices[connection], Tick(now));
                        model.iter_mut().for_each(|t| t.connections.retain(|&c| c != connection));
                        model.retain(|t| now <= t.started + t.timeout * 10 || !t.connections.is_empty());
                        free.push(connection);
                    }
                    Step::Assure(which) if !live.is_empty() => {
                        let connection = live[usize::from(which) % live.len()];
                        templates.assure(indices[connection]);
                        model
                            .iter_mut()
                            .filter(|t| t.connections.contains(&connection))
                            .for_each(|t| t.assured = true);
                    }
                    Step::Pass(_) | Step::Long(_) => {
                        let ticks = match *step {
                            Step::Pass(ticks) => u32::from(ticks),
                            Step::Long(ticks) => u32::from(ticks % 3000),
                            _ => 0,
                        };
                        for _ in 0..ticks {
                            now += 1;
                            for template in &mut model {
                                let end = template.started + template.timeout * 10;
                                if now > end && template.connections.is_empty() {
                                    template.timeout = 0;
                                } else if now > end + LEEWAY {
                                    (template.started, template.timeout) = (end, 60);
                                }
                            }
                            model.retain(|t| t.timeout > 0);
                        }
                        templates.sweep(&mut sweep, Tick(now), &servers);
                    }
                    Step::Break(slot) => broken[usize::from(slot % 4)] = true,
                    Step::Mend(slot) => broken[usize::from(slot % 4)] = false,
                    Step::Leave(_) | Step::Assure(_) => {}
                }
                let shown = |client, slot, valid, assured, seconds| {
                    format!("{client} {slot} {valid} {assured} {seconds}")
                };
                let mut expected: Vec<_> = model
                    .iter()
                    .map(|t| {
                        let left = (t.started + t.timeout * 10).saturating_sub(now + 1) / 10;
                        shown(t.client, t.slot, t.valid, t.assured, left)
                    })
                    .collect();
                let mut found: Vec<_> = list(&templates, Tick(now), &servers)
                    .iter()
                    .map(|r| {
                        shown(
                            r.key.client.fold(),
                            r.server.address().fold(),
                            r.is_valid,
                            r.is_assured,
                            r.seconds,
                        )
                    })
                    .collect();
                expected.sort();
                found.sort();
                assert_eq!(found, expected);
                let mut of_slots = BTreeMap::new();
                model.iter().for_each(|t| *of_slots.entry(t.slot).or_insert(0) += 1);
                for slot in 0..4 {
                    assert_eq!(servers.load(slot).persistent, of_slots.get(&slot).copied().unwrap_or(0));
                }
            }
        });
    }
}
