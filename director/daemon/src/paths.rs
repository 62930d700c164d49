//! The rings through which threads pass frames to each other. Each is bounded; the sender drops and counts what does
//! not fit.

use crossbeam_queue::ArrayQueue;
use director_engine::Reason;
use director_engine::adjacency::Adjacency;
use director_packet::{Class, Endpoint};
use dpdk::{Burst, Mbuf};

use crate::peers::Peers;

/// Frames a ring holds.
const RING: usize = 1024;

/// A frame that waits for the MAC address of a next hop.
pub(crate) struct Held {
    pub(crate) mbuf: Mbuf,
    pub(crate) way: Adjacency,
    /// The virtual service that a client's packet was for.
    pub(crate) service: Option<Endpoint>,
    /// Whether it is a further part of a received frame, and not a received frame itself.
    pub(crate) own: bool,
}

/// A frame to be sent by the thread that owns a transmit queue.
pub(crate) struct Outgoing {
    pub(crate) mbuf: Mbuf,
    /// Whether it comes from the kernel or the director itself, and was not received.
    pub(crate) own: bool,
}

/// The rings to a kernel twin, one for each class of its traffic: a flood fills only the ring of its own class.
pub(crate) struct TwinRings<T = Mbuf>([ArrayQueue<T>; Class::COUNT]);

impl<T> TwinRings<T> {
    fn new() -> Self {
        Self(std::array::from_fn(|_| ArrayQueue::new(RING)))
    }

    /// Puts a frame into the ring of its class.
    ///
    /// # Errors
    /// That one is full.
    pub(crate) fn push(&self, class: Class, frame: T) -> Result<(), Reason> {
        self.0[class as usize].push(frame).map_err(|_| match class {
            Class::Link => Reason::TwinLinkFull,
            Class::Routing => Reason::TwinRoutingFull,
            Class::Tcp => Reason::TwinTcpFull,
            Class::Icmp => Reason::TwinIcmpFull,
            Class::Other => Reason::TwinOtherFull,
        })
    }

    /// Takes a burst of frames from the first ring that has any, starting with the ring `next`. `next` is then the
    /// one after it.
    pub(crate) fn burst(&self, next: &mut usize) -> impl Iterator<Item = T> {
        let from = *next;
        let mut rings = (from..from + Class::COUNT).map(|at| at % Class::COUNT);
        let at = rings.find(|at| !self.0[*at].is_empty()).unwrap_or(from % Class::COUNT);
        *next = at + 1;
        std::iter::from_fn(move || self.0[at].pop()).take(Burst::CAPACITY)
    }
}

/// The rings of a port.
pub(crate) struct PortPaths {
    pub(crate) has_twin: bool,
    /// From workers to the kernel twin.
    pub(crate) to_twin: TwinRings,
    /// To each worker that sends for others, from other workers.
    pub(crate) handoff: Vec<ArrayQueue<Outgoing>>,
    /// To each worker that sends for others, from the control core. The kernel's traffic has a ring of its own, so
    /// that no flood starves it.
    pub(crate) control: Vec<ArrayQueue<Outgoing>>,
    /// Which worker sends for each thread that has no queue of its own; the last one is the control core.
    pub(crate) sender: Vec<usize>,
}

fn rings(count: usize) -> Vec<ArrayQueue<Outgoing>> {
    std::iter::repeat_with(|| ArrayQueue::new(RING)).take(count).collect()
}

/// All rings.
pub(crate) struct Paths {
    pub(crate) ports: Vec<PortPaths>,
    /// By which workers tell what goes to a twin.
    pub(crate) peers: Peers,
    /// From workers to the control core.
    pub(crate) held: ArrayQueue<Held>,
}

impl Paths {
    /// Rings for ports among so many workers. Each port is given by whether it has a twin and by who sends for each
    /// thread.
    pub(crate) fn new(ports: impl Iterator<Item = (bool, Vec<usize>)>, workers: usize) -> Self {
        let ports = ports.map(|(has_twin, sender)| PortPaths {
            has_twin,
            to_twin: TwinRings::new(),
            handoff: rings(workers),
            control: rings(workers),
            sender,
        });
        Self { ports: ports.collect(), peers: Peers::new(), held: ArrayQueue::new(RING) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_one_class_leaves_room_for_the_others() {
        let rings = TwinRings::new();
        let flood = (0..2 * RING).map(|_| rings.push(Class::Other, Class::Other));
        assert_eq!(flood.filter(|pushed| *pushed == Err(Reason::TwinOtherFull)).count(), RING);
        for class in [Class::Tcp, Class::Link, Class::Tcp] {
            assert_eq!(rings.push(class, class), Ok(()));
        }
        let mut next = 0;
        let mut burst = || rings.burst(&mut next).collect::<Vec<_>>();
        assert_eq!(burst(), [Class::Link]);
        assert_eq!(burst(), [Class::Tcp; 2]);
        assert_eq!(burst(), [Class::Other; Burst::CAPACITY]);
        assert_eq!(rings.push(Class::Icmp, Class::Icmp), Ok(()));
        assert_eq!(burst(), [Class::Icmp]);
        assert_eq!(burst(), [Class::Other; Burst::CAPACITY]);
    }

    #[test]
    fn each_class_has_a_reason_of_its_own() {
        let rings = TwinRings::new();
        let of = |class| (0..=RING).find_map(|_| rings.push(class, ()).err()).map(Reason::name);
        let names = ["link", "routing", "tcp", "icmp", "other"].map(|class| format!("twin_{class}_full"));
        assert_eq!(
            Class::ALL.map(|class| of(class).unwrap_or_default()),
            names.each_ref().map(String::as_str)
        );
        assert_eq!(rings.burst(&mut 0).count(), Burst::CAPACITY);
    }

    #[test]
    fn empty_rings_have_nothing() {
        assert_eq!(TwinRings::<()>::new().burst(&mut 3).count(), 0);
    }
}
