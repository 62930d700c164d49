//! The rings by which frames go from one thread to another. Each is bounded; what does not fit is
//! dropped and counted by the sender.

use crossbeam_queue::ArrayQueue;
use director_engine::adjacency::Adjacency;
use director_packet::Endpoint;
use dpdk::Mbuf;

/// Frames a ring holds.
const RING: usize = 1024;

/// A frame that waits for the MAC address of a next hop.
pub(crate) struct Held {
    pub(crate) mbuf: Mbuf,
    pub(crate) way: Adjacency,
    /// The virtual service that a client's packet was for.
    pub(crate) service: Option<Endpoint>,
    /// Whether it is a further part of a received one, and not a received one itself.
    pub(crate) own: bool,
}

/// A frame to be sent by the thread that owns a transmit queue.
pub(crate) struct Outgoing {
    pub(crate) mbuf: Mbuf,
    /// Whether it is the kernel's or the director's own, not a received one.
    pub(crate) own: bool,
}

/// The rings of a port.
pub(crate) struct PortPaths {
    pub(crate) has_twin: bool,
    /// From workers to the kernel twin.
    pub(crate) to_twin: ArrayQueue<Mbuf>,
    /// To each worker that sends for others, from other workers.
    pub(crate) handoff: Vec<ArrayQueue<Outgoing>>,
    /// To each worker that sends for others, from the control core: the kernel's traffic has a ring of
    /// its own, so that no flood starves it.
    pub(crate) control: Vec<ArrayQueue<Outgoing>>,
    /// Which worker sends for whom: the owner of the queue that a thread without one uses. The last
    /// is the control core's.
    pub(crate) sender: Vec<usize>,
}

fn rings(count: usize) -> Vec<ArrayQueue<Outgoing>> {
    std::iter::repeat_with(|| ArrayQueue::new(RING)).take(count).collect()
}

/// All rings.
pub(crate) struct Paths {
    pub(crate) ports: Vec<PortPaths>,
    /// From workers to the control core.
    pub(crate) held: ArrayQueue<Held>,
}

impl Paths {
    /// Rings for ports, each given by whether it has a twin and by who sends for each thread, among so
    /// many workers.
    pub(crate) fn new(ports: impl Iterator<Item = (bool, Vec<usize>)>, workers: usize) -> Self {
        let ports = ports.map(|(has_twin, sender)| PortPaths {
            has_twin,
            to_twin: ArrayQueue::new(RING),
            handoff: rings(workers),
            control: rings(workers),
            sender,
        });
        Self { ports: ports.collect(), held: ArrayQueue::new(RING) }
    }
}
