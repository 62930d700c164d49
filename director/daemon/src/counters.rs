//! What each worker, and the control core, counts; summed when it is read.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use director_engine::Reason;

/// One thread's counts about one port. Only that thread writes them, so an addition is a load and a store. Nothing
/// else depends on their order: all accesses are Relaxed.
#[derive(Default)]
#[repr(align(64))]
pub(crate) struct PortCounters {
    /// Packets received on the port.
    pub(crate) rx: Traffic,
    /// Received packets that were sent on the port.
    pub(crate) tx: Traffic,
    /// The kernel's packets, and the director's own, sent on the port.
    pub(crate) own: Traffic,
    /// Packets received on the port that were given to its twin.
    pub(crate) to_twin: AtomicU64,
    /// Packets of the port's twin that were sent on the port.
    pub(crate) from_twin: AtomicU64,
    /// Packets received on the port that were dropped.
    drops: Drops,
}

/// Dropped packets by reason.
struct Drops([AtomicU64; Reason::ALL.len()]);

impl Default for Drops {
    fn default() -> Self {
        Self(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

/// Packets and bytes.
#[derive(Default)]
pub(crate) struct Traffic {
    packets: AtomicU64,
    bytes: AtomicU64,
}

impl Traffic {
    pub(crate) fn add(&self, packets: u64, bytes: u64) {
        add(&self.packets, packets);
        add(&self.bytes, bytes);
    }

    pub(crate) fn read(&self) -> (u64, u64) {
        (self.packets.load(Relaxed), self.bytes.load(Relaxed))
    }
}

/// Adds to a counter that only this thread writes.
pub(crate) fn add(counter: &AtomicU64, amount: u64) {
    counter.store(counter.load(Relaxed).wrapping_add(amount), Relaxed);
}

impl PortCounters {
    pub(crate) fn drop_one(&self, reason: Reason) {
        self.drop_some(reason, 1);
    }

    pub(crate) fn drop_some(&self, reason: Reason, count: u64) {
        add(&self.drops.0[reason as usize], count);
    }

    pub(crate) fn drops_for(&self, reason: Reason) -> u64 {
        self.drops.0[reason as usize].load(Relaxed)
    }

    pub(crate) fn drops(&self) -> u64 {
        self.drops.0.iter().map(|counter| counter.load(Relaxed)).sum()
    }
}

/// The counts of one thread.
pub(crate) struct ThreadCounters {
    ports: Box<[PortCounters]>,
}

impl ThreadCounters {
    pub(crate) fn new(ports: usize) -> Self {
        Self { ports: std::iter::repeat_with(PortCounters::default).take(ports).collect() }
    }

    /// The counts of a port. What was received on no known port counts for the first.
    pub(crate) fn port(&self, port: usize) -> &PortCounters {
        self.ports.get(port).unwrap_or(&self.ports[0])
    }

    pub(crate) fn ports(&self) -> &[PortCounters] {
        &self.ports
    }
}
