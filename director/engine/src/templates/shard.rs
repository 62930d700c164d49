//! The templates of some of the keys, under one lock. All memory is allocated at the start.

use director_flow::{TICKS_PER_SECOND, Tick};

use super::{Chosen, Key, Wanted};
use crate::sip::CallId;

/// How long a template goes on that has connections, in seconds.
const EXTENSION: u32 = 60;

/// How many ticks a connection may stay listed after its time is up. A template whose connections end at the same
/// time as it does ends too, as in the kernel; so whether it goes on is decided this much later.
pub(super) const LEEWAY: u32 = 8;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Life {
    Free,
    /// Found by its key.
    Valid,
    /// Its server gets no more connections by it; it stays listed until its time is up.
    Invalid,
}

#[derive(Debug)]
pub(super) struct Template {
    pub(super) key: Key,
    pub(super) server: Chosen,
    /// When its timer was last started, and with how many seconds.
    pub(super) started: Tick,
    pub(super) timeout: u32,
    pub(super) connections: u32,
    pub(super) life: Life,
    pub(super) is_assured: bool,
    /// Whether it has a call: the one at its place in the shard's list.
    pub(super) has_call: bool,
    /// The next one of its bucket or of the free ones: a place plus 1, or 0.
    pub(super) next: u32,
}

impl Template {
    fn end(&self) -> Tick {
        self.started.plus(self.timeout * TICKS_PER_SECOND)
    }

    /// Takes account of the time that has passed. False: the template is over.
    pub(super) fn lives(&mut self, now: Tick) -> bool {
        let end = self.end();
        // Never too early: it may have been started near the end of a tick.
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

    pub(super) fn seconds_left(&self, now: Tick) -> u32 {
        (self.timeout * TICKS_PER_SECOND).saturating_sub(now.since(self.started) + 1) / TICKS_PER_SECOND
    }
}

/// The templates of some of the keys.
#[derive(Default)]
#[repr(align(64))]
pub(super) struct Shard {
    /// As many as there is room for from the start: it never grows.
    pub(super) templates: Vec<Template>,
    /// The calls, by the place of their template; empty before [`super::Templates::take_calls`].
    pub(super) calls: Box<[CallId]>,
    free: u32,
    /// The first template of each bucket: a place plus 1, or 0. The number of buckets is a power of two.
    pub(super) buckets: Box<[u32]>,
}

impl Shard {
    pub(super) fn new(capacity: usize) -> Self {
        let buckets = vec![0; capacity.next_power_of_two()].into_boxed_slice();
        Self { templates: Vec::with_capacity(capacity), calls: Box::default(), free: 0, buckets }
    }

    /// The call of a template.
    pub(super) fn call(&self, place: usize) -> Option<&CallId> {
        if self.templates.get(place)?.has_call { self.calls.get(place) } else { None }
    }

    pub(super) fn find(&self, bucket: usize, (key, call): Wanted<'_>) -> Option<usize> {
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
    pub(super) fn hide(&mut self, bucket: usize, place: usize) {
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

    /// The bucket of a hash.
    pub(super) fn bucket(&self, hash: u64) -> usize {
        hash as usize & (self.buckets.len() - 1)
    }

    pub(super) fn has_room(&self) -> bool {
        self.free != 0 || self.templates.len() < self.templates.capacity()
    }

    /// Adds a template. There must be room for it. Returns its place.
    pub(super) fn add(&mut self, bucket: usize, mut template: Template) -> usize {
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
    pub(super) fn free(&mut self, place: usize) {
        let free = self.free;
        let template = &mut self.templates[place];
        (template.life, template.next) = (Life::Free, free);
        self.free = place as u32 + 1;
    }
}
