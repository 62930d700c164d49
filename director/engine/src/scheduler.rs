//! Schedulers: which real server a new connection goes to.

use std::sync::atomic::{AtomicU64, Ordering};

use director_packet::{Change, Endpoint4};

use crate::servers::Servers;
use crate::service::{SchedulerKind, ServiceKey};

/// A real server of a service, as workers see it.
#[derive(Clone, Copy, Debug)]
pub struct ServerView {
    /// Its slot.
    pub slot: u32,
    /// Its address and port.
    pub address: Endpoint4,
    /// The translation from the virtual service to it.
    pub change: Change,
}

/// A virtual service, as workers see it.
#[derive(Debug)]
pub struct ServiceView {
    /// Its key.
    pub key: ServiceKey,
    /// How new connections are spread.
    pub scheduler: SchedulerKind,
    /// Its servers, newest first, the order in which IPVS walks them.
    pub servers: Vec<ServerView>,
    /// Where the round stands; kept when the service changes.
    pub turn: std::sync::Arc<Turn>,
}

/// No server was served yet: the round begins with the newest.
const NOBODY: u32 = u32::MAX;

/// Whose turn it was last: the slot of the server in the upper half of the word, and in the lower where
/// it stood in the list, to find it without a search.
#[derive(Debug)]
pub struct Turn(AtomicU64);

impl Default for Turn {
    fn default() -> Self {
        Self(AtomicU64::new(u64::from(NOBODY) << 32))
    }
}

impl Turn {
    fn slot_and_place(word: u64) -> (u32, usize) {
        ((word >> 32) as u32, (word & 0xffff_ffff) as usize)
    }

    /// Begins the round anew, as a change of the scheduler does.
    pub(crate) fn reset(&self) {
        self.0.store(u64::from(NOBODY) << 32, Ordering::Relaxed);
    }

    /// A server leaves the list: if its turn was last, it is taken to have been that of the one before
    /// it, so that the one after it is next.
    pub(crate) fn forget(&self, slot: u32, before: Option<u32>) {
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |word| {
            (Self::slot_and_place(word).0 == slot).then(|| u64::from(before.unwrap_or(NOBODY)) << 32)
        });
    }

    /// Takes the next turn among servers that are usable.
    ///
    /// One word says whose turn it was, and it changes by compare-and-exchange alone: no two connections
    /// get the same turn and none is left out, whichever worker asks. Nothing else is published by it,
    /// hence Relaxed.
    fn next<'a>(&self, list: &'a [ServerView], servers: &Servers) -> Option<&'a ServerView> {
        let mut word = self.0.load(Ordering::Relaxed);
        loop {
            let (slot, hint) = Self::slot_and_place(word);
            let last = match list.get(hint) {
                Some(server) if server.slot == slot => Some(hint),
                _ => list.iter().position(|server| server.slot == slot),
            };
            let start = last.map_or(0, |last| last + 1);
            let (before, after) = list.split_at(start.min(list.len()));
            let (place, server) = (start..)
                .zip(after)
                .chain((0..).zip(before))
                .find(|(_, server)| servers.is_usable(server.slot))?;
            let taken = u64::from(server.slot) << 32 | place as u64;
            match self.0.compare_exchange_weak(word, taken, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Some(server),
                Err(found) => word = found,
            }
        }
    }
}

impl ServiceView {
    /// The server that a new connection goes to; none if there is none that may take it.
    #[must_use]
    pub fn schedule(&self, servers: &Servers) -> Option<&ServerView> {
        match self.scheduler {
            SchedulerKind::RoundRobin => self.turn.next(&self.servers, servers),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::{Protocol, ServerSpec};

    fn service(slots: &[u32], weights: &[u32]) -> (ServiceView, Servers) {
        let vip = Endpoint4::new(1, 80);
        let servers = Servers::new(1);
        let list = slots.iter().zip(weights).map(|(&slot, &weight)| {
            servers.ensure(slot);
            servers.set(slot, &ServerSpec { weight, ..ServerSpec::default() });
            let address = Endpoint4::new(slot, 80);
            ServerView { slot, address, change: Change::between(vip, address) }
        });
        let view = ServiceView {
            key: ServiceKey { protocol: Protocol::Tcp, address: vip },
            scheduler: SchedulerKind::RoundRobin,
            servers: list.collect(),
            turn: Default::default(),
        };
        (view, servers)
    }

    fn serve(view: &ServiceView, servers: &Servers, times: usize) -> Vec<u32> {
        (0..times).filter_map(|_| Some(view.schedule(servers)?.slot)).collect()
    }

    #[test]
    fn newest_first_and_weight_0_skipped() {
        let (view, servers) = service(&[73, 72, 71], &[1, 1, 1]);
        assert_eq!(serve(&view, &servers, 5), [73, 72, 71, 73, 72]);
        servers.set(71, &ServerSpec { weight: 0, ..ServerSpec::default() });
        assert_eq!(serve(&view, &servers, 3), [73, 72, 73]);
        servers.set(72, &ServerSpec { weight: 0, ..ServerSpec::default() });
        servers.set_gone(73);
        assert_eq!(serve(&view, &servers, 3), []);
    }

    #[test]
    fn a_change_of_the_list_keeps_the_round() {
        let (mut view, servers) = service(&[73, 72, 71], &[1, 1, 1]);
        assert_eq!(serve(&view, &servers, 2), [73, 72]);
        // The last served leaves: 71 is next all the same.
        view.turn.forget(72, Some(73));
        view.servers.remove(1);
        assert_eq!(serve(&view, &servers, 2), [71, 73]);
        // A new one comes in at the head.
        let (other, more) = service(&[74, 73, 71], &[1, 1, 1]);
        view.servers = other.servers;
        assert_eq!(serve(&view, &more, 3), [71, 74, 73]);
        view.turn.reset();
        assert_eq!(serve(&view, &more, 1), [74]);
    }

    #[test]
    fn exact_over_all_workers() {
        let (view, servers) = service(&[1, 2, 3, 4, 5, 6, 7], &[1; 7]);
        let each = 10_001;
        let counts = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..2).map(|_| scope.spawn(|| serve(&view, &servers, each))).collect();
            let mut counts = [0; 8];
            for slot in threads.into_iter().flat_map(|thread| thread.join().unwrap()) {
                counts[slot as usize] += 1;
            }
            counts
        });
        let total = 2 * each;
        assert!(
            counts[1..].iter().all(|&count| count == total / 7 || count == total.div_ceil(7)),
            "{counts:?}"
        );
    }
}
