//! The connection tables of both families, as a worker uses them.

use director_flow::{AliasError, Clock, Index, InsertError, Inserted, Record, Table, V4, V6, WorkerLocal};
use director_packet::Endpoint;

use super::Moment;
use crate::entry::{self, Entry, Layout};
use crate::reason::Reason;
use crate::scheduler::ServerView;
use crate::state::Direction;

/// Whom a packet is of.
#[derive(Clone, Copy)]
pub(super) struct Whose {
    pub(super) client: Endpoint,
    /// The other end: the virtual service, or the real server.
    pub(super) other: Endpoint,
    pub(super) protocol: u8,
    pub(super) direction: Direction,
}

/// The initial contents of an entry.
pub(super) struct New {
    pub(super) server: ServerView,
    pub(super) clock: Clock,
    pub(super) stand_in: Option<Endpoint>,
}

/// What an insertion came to.
pub(super) enum Made<'a> {
    /// The entry was made.
    New(Entry<'a>),
    /// Another worker was faster with a packet of the same connection.
    Existing(Entry<'a>),
}

/// What one worker owns of the tables.
pub(super) struct Locals {
    v4: WorkerLocal<V4>,
    v6: WorkerLocal<V6>,
    /// Whether a packet of IPv6 has come since the worker last slept. Until then the table of IPv6 does not wait for
    /// this worker, which has nothing to report to it.
    is_v6_online: bool,
}

impl Locals {
    pub(super) const fn new(v4: WorkerLocal<V4>, v6: WorkerLocal<V6>) -> Self {
        Self { v4, v6, is_v6_online: false }
    }

    #[inline]
    pub(super) fn id(&self) -> usize {
        self.v4.id()
    }

    #[inline]
    pub(super) fn quiescent(&mut self) {
        self.v4.quiescent();
        if self.is_v6_online {
            self.v6.quiescent();
        }
    }

    pub(super) fn offline(&mut self) {
        self.v4.offline();
        if self.is_v6_online {
            self.v6.offline();
            self.is_v6_online = false;
        }
    }

    /// The entry of a packet.
    #[inline(always)]
    pub(super) fn find<'a>(&mut self, moment: &Moment<'a>, whose: Whose) -> Option<Entry<'a>> {
        if whose.client.is_v6() {
            return self.find_v6(moment, whose);
        }
        let index = find(moment.table, whose)?;
        Some(Entry::V4(index, moment.table.record(index)))
    }

    /// To be called before the first entry of IPv6 is looked up.
    #[inline]
    pub(super) fn begin_v6(&mut self) {
        if !self.is_v6_online {
            self.v6.online();
            self.is_v6_online = true;
        }
    }

    #[inline(never)]
    fn find_v6<'a>(&mut self, moment: &Moment<'a>, whose: Whose) -> Option<Entry<'a>> {
        self.begin_v6();
        let index = find(moment.table_v6, whose)?;
        Some(Entry::V6(index, moment.table_v6.record(index)))
    }

    /// The entry of a server's packet to what stands for a client.
    pub(super) fn find_stand_in<'a>(
        &mut self,
        moment: &Moment<'a>,
        end: Endpoint,
        server: Endpoint,
        protocol: u8,
    ) -> Option<Entry<'a>> {
        if end.is_v6() {
            self.begin_v6();
        }
        find_stand_in(moment, end, server, protocol)
    }

    /// Makes the entry of a new connection, for which [`Self::find`] found none. `make` gets its number and returns
    /// the server, the first clock, and what stands for the client, if anything does.
    pub(super) fn insert<'a>(
        &mut self,
        moment: &Moment<'a>,
        whose: Whose,
        make: impl FnOnce(u32) -> Result<New, Reason>,
    ) -> Result<Made<'a>, Reason> {
        self.insert_beside(moment, whose, whose, make)
    }

    /// As [`Self::insert`], where a packet of `same` has found no entry: there may be others of `whose`, which is a
    /// client's, and this one comes before them.
    pub(super) fn insert_beside<'a>(
        &mut self,
        moment: &Moment<'a>,
        whose: Whose,
        same: Whose,
        make: impl FnOnce(u32) -> Result<New, Reason>,
    ) -> Result<Made<'a>, Reason> {
        let of_v4 = |index| Entry::V4(index, moment.table.record(index));
        let of_v6 = |index| Entry::V6(index, moment.table_v6.record(index));
        if whose.client.is_v6() {
            let make = |index: Index| make(moment.table.capacity() + index.get());
            return Ok(made_as(insert(&mut self.v6, whose, same, make)?, of_v6));
        }
        Ok(made_as(insert(&mut self.v4, whose, same, |index| make(index.get()))?, of_v4))
    }

    /// Ends an entry. False: it had ended already.
    pub(super) fn kill(&mut self, entry: Entry<'_>) -> bool {
        match entry {
            Entry::V4(index, _) => self.v4.kill(index),
            Entry::V6(index, _) => self.v6.kill(index),
        }
    }

    /// Makes the control core look at an entry whose timeout became shorter.
    pub(super) fn notify(&mut self, entry: Entry<'_>) {
        match entry {
            Entry::V4(index, _) => self.v4.notify(index),
            Entry::V6(index, _) => self.v6.notify(index),
        }
    }
}

#[inline(always)]
fn find<F: Layout>(table: &Table<F>, whose: Whose) -> Option<Index> {
    let key = F::key(whose.client, whose.protocol);
    table.find(table.hash(key), |record| entry::matches(record, key, whose.direction, whose.other))
}

fn insert<F: Layout>(
    local: &mut WorkerLocal<F>,
    whose: Whose,
    same: Whose,
    make: impl FnOnce(Index) -> Result<New, Reason>,
) -> Result<Inserted, Reason> {
    let (key, vip) = (F::key(whose.client, whose.protocol), whose.other);
    let mut second_key = None;
    let same = |record: &Record<F>| entry::matches(record, key, same.direction, same.other);
    let make = |index: Index, record: &Record<F>| {
        let New { server, clock, stand_in } = make(index)?;
        entry::fill(record, vip, &server);
        second_key = stand_in.map(|end| F::key(end, whose.protocol));
        if let Some(end) = second_key {
            entry::put_stand_in(record, end);
        }
        Ok(clock)
    };
    let made = local.insert(key, same, make).map_err(|error| match error {
        InsertError::TableFull => Reason::TableFull,
        InsertError::ChainFull => Reason::ChainFull,
        InsertError::Refused(reason) => reason,
    })?;
    if let (Inserted::New(index), Some(end)) = (made, second_key) {
        match local.insert_alias(index, end) {
            // Another worker has ended it already; the next packet finds that out.
            Ok(()) | Err(AliasError::Dead) => {}
            Err(error) => {
                local.kill(index);
                return Err(if error == AliasError::ChainFull {
                    Reason::ChainFull
                } else {
                    Reason::TableFull
                });
            }
        }
    }
    Ok(made)
}

/// See [`Locals::find_stand_in`]. A worker must be online in the table of IPv6 before it looks there.
pub(super) fn find_stand_in<'a>(
    moment: &Moment<'a>,
    end: Endpoint,
    server: Endpoint,
    protocol: u8,
) -> Option<Entry<'a>> {
    if end.is_v6() {
        let index = find_second(moment.table_v6, end, server, protocol)?;
        return Some(Entry::V6(index, moment.table_v6.record(index)));
    }
    let index = find_second(moment.table, end, server, protocol)?;
    Some(Entry::V4(index, moment.table.record(index)))
}

fn find_second<F: Layout>(table: &Table<F>, end: Endpoint, server: Endpoint, protocol: u8) -> Option<Index> {
    let key = F::key(end, protocol);
    table.find(table.hash(key), |record| entry::matches_stand_in(record, key, server))
}

fn made_as<'a>(made: Inserted, entry: impl FnOnce(Index) -> Entry<'a>) -> Made<'a> {
    match made {
        Inserted::New(index) => Made::New(entry(index)),
        Inserted::Existing(index) => Made::Existing(entry(index)),
    }
}
