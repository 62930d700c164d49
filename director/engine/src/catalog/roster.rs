//! The servers of a service, in the order in which they came.

use std::collections::{BTreeMap, HashMap};

use director_packet::Endpoint;

use super::Server;

/// The servers by address, and by a number that rises from one to the next. No operation takes longer because there
/// are many.
#[derive(Debug, Default)]
pub(super) struct Roster {
    servers: BTreeMap<u64, Server>,
    numbers: HashMap<Endpoint, u64, ahash::RandomState>,
    next: u64,
}

impl Roster {
    pub(super) fn len(&self) -> usize {
        self.servers.len()
    }

    pub(super) fn contains(&self, address: Endpoint) -> bool {
        self.numbers.contains_key(&address)
    }

    pub(super) fn get(&self, address: Endpoint) -> Option<&Server> {
        self.servers.get(self.numbers.get(&address)?)
    }

    pub(super) fn get_mut(&mut self, address: Endpoint) -> Option<&mut Server> {
        self.servers.get_mut(self.numbers.get(&address)?)
    }

    /// The newest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Server> {
        self.servers.values().rev()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Server> {
        self.servers.values_mut().rev()
    }

    /// The newest server among those older than `number`, with its own number.
    pub(super) fn older_than(&self, number: u64) -> Option<(u64, &Server)> {
        self.servers.range(..number).next_back().map(|(number, server)| (*number, server))
    }

    /// Adds a server with an address that none of them has.
    pub(super) fn add(&mut self, server: Server) {
        self.numbers.insert(server.address, self.next);
        self.servers.insert(self.next, server);
        self.next += 1;
    }

    /// Takes a server out. Returns it with the slot of the next newer one.
    pub(super) fn remove(&mut self, address: Endpoint) -> Option<(Server, Option<u32>)> {
        let number = self.numbers.remove(&address)?;
        let server = self.servers.remove(&number)?;
        let newer = self.servers.range(number..).next().map(|(_, newer)| newer.slot);
        Some((server, newer))
    }

    pub(super) fn into_servers(self) -> impl Iterator<Item = Server> {
        self.servers.into_values().rev()
    }
}
