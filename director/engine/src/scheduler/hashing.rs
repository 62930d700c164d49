//! `sh`, `dh` and `mh`: tables in which a hash of the packet's addresses finds the server.
//!
//! A table is made by the control core whenever the list of servers changes, and never changes itself, so
//! workers use it without asking anybody.

use super::{Request, ServerView, maglev};
use crate::servers::Servers;
use crate::service::{FALLBACK, PORT, SchedulerKind};

/// The buckets of `sh` and `dh`.
const BUCKETS: usize = 256;

/// What a table is made from, of each server in the order of the list.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Member {
    /// Its address and port, as it was added; port 0 stays 0.
    pub(crate) address: director_packet::Endpoint,
    pub(crate) weight: u32,
    /// The weight it had last that was not 0; 0 if it was added with that and never got another.
    pub(crate) last_weight: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Hash {
    Source,
    Destination,
    Maglev,
}

/// Buckets with the places of servers in the list.
#[derive(Debug)]
pub(crate) struct Table {
    hash: Hash,
    flags: u32,
    /// Empty where there is no server.
    buckets: Box<[u32]>,
}

/// The first 8 bits of a product with the golden ratio, by which sources and destinations are spread.
pub(super) const fn golden(key: u32) -> usize {
    (key.wrapping_mul(0x61c8_8647) >> 24) as usize
}

/// Gives each server of a list in turn as many buckets as it has shares.
fn deal(shares: &[u32]) -> Box<[u32]> {
    let round = shares.iter().zip(0..).flat_map(|(&share, place)| {
        let share = (share.max(1) as usize).min(BUCKETS);
        std::iter::repeat_n(place, share)
    });
    round.cycle().take(BUCKETS).collect()
}

impl Table {
    /// The table of a scheduler that has one.
    pub(crate) fn new(kind: SchedulerKind, flags: u32, members: &[Member]) -> Self {
        let (hash, buckets) = match kind {
            SchedulerKind::SourceHash => {
                let weights: Vec<_> = members.iter().map(|member| member.weight).collect();
                (Hash::Source, deal(&weights))
            }
            SchedulerKind::Maglev => (Hash::Maglev, maglev::populate(members)),
            _ => (Hash::Destination, deal(&vec![1; members.len()])),
        };
        Self { hash, flags, buckets }
    }

    /// The server of a packet, if it is usable; under the flag of fallback another one, if any is.
    pub(super) fn choose<'a>(
        &self,
        list: &'a [ServerView],
        servers: &Servers,
        request: &Request,
    ) -> Option<&'a ServerView> {
        let server = |bucket: usize| list.get(*self.buckets.get(bucket)? as usize);
        let usable = |server: &&ServerView| servers.is_usable(server.slot);
        let port = if self.flags & PORT != 0 { u32::from(request.source_port) } else { 0 };
        let source = request.source.fold().wrapping_add(port);
        let first = match self.hash {
            Hash::Source => golden(source),
            Hash::Destination => golden(request.destination.fold()),
            Hash::Maglev => maglev::bucket(source),
        };
        let found = server(first)?;
        if usable(&found) {
            return Some(found);
        }
        if self.flags & FALLBACK == 0 {
            return None;
        }
        match self.hash {
            Hash::Source => (0..BUCKETS)
                .filter_map(|offset| server(((first + offset) % BUCKETS + golden(source)) % BUCKETS))
                .find(usable),
            Hash::Maglev => (0..maglev::SIZE)
                .filter_map(|offset| {
                    let offset = ((first + offset) % maglev::SIZE) as u32;
                    server(maglev::bucket(source.wrapping_add(offset)))
                })
                .find(usable),
            Hash::Destination => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_by_weight_the_list_over_and_over() {
        assert_eq!(deal(&[]).len(), 0);
        let buckets = deal(&[2, 0, 3]);
        assert_eq!(buckets[..14], [0, 0, 1, 2, 2, 2, 0, 0, 1, 2, 2, 2, 0, 0]);
        assert_eq!(buckets.len(), 256);
        let greedy = deal(&[1, i32::MAX as u32, 5]);
        assert_eq!((greedy[0], greedy[1], greedy[255]), (0, 1, 1));
    }
}
