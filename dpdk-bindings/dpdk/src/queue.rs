//! Queues: where a worker receives and sends. Each is owned by one worker.

use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use dpdk_sys as sys;

use crate::burst::Burst;
use crate::port::PortCore;

/// A queue that packets are received from.
///
/// It can go to another thread, but not be used by two: it is neither `Sync`
/// nor `Clone`. While it exists, its port does not stop.
pub struct RxQueue(Queue);

/// A queue that packets are sent to. As [`RxQueue`], it is one thread's.
pub struct TxQueue(Queue);

struct Queue {
    /// Apart from the port's struct, which other threads write to.
    port: u16,
    queue: u16,
    core: Arc<PortCore>,
    /// Send, but not Sync.
    not_shared: PhantomData<Cell<()>>,
}

impl RxQueue {
    /// Only for `Port::start`, once for each queue, of a started port, which
    /// has counted it.
    pub(crate) fn new(core: Arc<PortCore>, queue: u16) -> Self {
        Self(Queue::new(core, queue))
    }

    /// Adds what has arrived to the end of `burst`, as far as there is room,
    /// and tells how many packets that was. Never waits.
    ///
    /// An empty burst is best: drivers work in multiples of 4 or 8, and some
    /// deliver nothing into less room than that.
    #[inline]
    pub fn receive(&mut self, burst: &mut Burst) -> usize {
        let room = burst.room();
        // SAFETY: the port is started while its queues exist, and this queue is
        // polled by us alone (`&mut`). `room` takes that many pointers (at most
        // 32, so the cast loses nothing), and the mbufs written are ours.
        unsafe {
            let count =
                sys::rte_eth_rx_burst(self.0.port, self.0.queue, room.as_mut_ptr(), room.len() as u16);
            burst.filled(usize::from(count));
            usize::from(count)
        }
    }

    /// The number of its port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.0.port
    }

    /// Its number among the receive queues of the port.
    #[must_use]
    pub fn index(&self) -> u16 {
        self.0.queue
    }
}

impl TxQueue {
    /// As [`RxQueue::new`].
    pub(crate) fn new(core: Arc<PortCore>, queue: u16) -> Self {
        Self(Queue::new(core, queue))
    }

    /// Sends from the front of `burst` what the device takes, and tells how
    /// many packets that was. The others stay in the burst, in order, from its
    /// front; holes are closed. Never waits.
    #[inline]
    pub fn send(&mut self, burst: &mut Burst) -> usize {
        let mbufs = burst.dense();
        // SAFETY: the port is started while its queues exist, and this queue is
        // used by us alone (`&mut`). The mbufs are ours, none is null; those
        // sent belong to the driver from then on, the others stay.
        unsafe {
            let count =
                sys::rte_eth_tx_burst(self.0.port, self.0.queue, mbufs.as_mut_ptr(), mbufs.len() as u16);
            burst.gone(usize::from(count));
            usize::from(count)
        }
    }

    /// The number of its port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.0.port
    }

    /// Its number among the transmit queues of the port.
    #[must_use]
    pub fn index(&self) -> u16 {
        self.0.queue
    }
}

impl Queue {
    fn new(core: Arc<PortCore>, queue: u16) -> Self {
        Self { port: core.id(), queue, core, not_shared: PhantomData }
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.core.queue_dropped();
    }
}

impl fmt::Debug for RxQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RxQueue({}:{})", self.port(), self.index())
    }
}

impl fmt::Debug for TxQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TxQueue({}:{})", self.port(), self.index())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two impls for what is Sync: naming neither is ambiguous then, and does
    /// not compile.
    trait NotSync<Which> {
        fn holds() {}
    }
    impl<T> NotSync<()> for T {}
    impl<T: Sync> NotSync<u8> for T {}

    fn is_send<T: Send>() {}

    #[test]
    fn a_queue_is_for_one_thread_at_a_time() {
        is_send::<RxQueue>();
        is_send::<TxQueue>();
        <RxQueue as NotSync<_>>::holds();
        <TxQueue as NotSync<_>>::holds();
    }
}
