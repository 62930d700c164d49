//! Safe DPDK: EAL, ports, queues, bursts, mbufs, mempools.
//!
//! ```no_run
//! use dpdk::{Burst, Eal, Pool, PoolConfig, PortConfig};
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let eal = Eal::start(["-l", "0-1", "--no-huge", "-m", "256", "--no-pci"])?;
//!     let pool = Pool::new(&eal, "packets", &PoolConfig::default())?;
//!     let port = eal.attach("net_ring0")?.remove(0).configure(&PortConfig::new(1, &pool))?;
//!     let (port, mut rx, mut tx) = port.start()?;
//!
//!     let (mut rx, mut tx) = (rx.remove(0), tx.remove(0));
//!     let job = eal.launch(eal.worker_lcores()[0], move || {
//!         let mut burst = Burst::new();
//!         for _ in 0..1_000_000 {
//!             rx.receive(&mut burst);
//!             tx.send(&mut burst);
//!             burst.clear();
//!         }
//!     })?;
//!     job.join()?;
//!
//!     drop((port, pool));
//!     eal.stop()?;
//!     Ok(())
//! }
//! ```
//!
//! # What keeps it safe
//!
//! - EAL starts once, and stops only when nothing made in it is left: ports,
//!   queues and pools hold a share of it, and mbufs are counted by their pools
//!   at the end. Otherwise it is left running ([`StopError`] says for what).
//! - The memory of a pool stays until EAL stops, so an [`Mbuf`] needs no count
//!   and no lifetime, and may be dropped on any thread at any time.
//! - A queue is used by one thread at a time ([`RxQueue`], [`TxQueue`] are not
//!   `Sync`), and its port does not stop before the queue is dropped.
//! - Bytes of a packet that another mbuf shares are never given as `&mut`.
//! - Drivers are trusted: that an mbuf they deliver is well-formed and nobody
//!   else's is DPDK's contract, and is not checked. So are EAL's arguments and
//!   device strings, which can name drivers to load and ports to take over:
//!   they are the administrator's.
//!
//! Nothing on the path of a packet allocates or locks.

mod advice;
mod burst;
pub mod clock;
mod device;
mod eal;
mod error;
mod hash;
mod lcore;
pub mod log;
mod mbuf;
mod offload;
mod pool;
mod port;
mod queue;
mod received;
mod stats;

pub use burst::{Burst, Drain};
pub use device::{AttachError, DeviceInfo};
pub use eal::{Eal, Handle, StartError, StopError, version};
pub use error::Refusal;
pub use hash::{HashError, HashReader, HashTable, KEY_BYTES};
pub use lcore::{JobPanicked, LaunchError, Lcore, LcoreJob};
pub use mbuf::{
    Checksum, EditError, IpVersion, L4Protocol, Mbuf, OutOfRange, RxChecksums, Segments, Shared, TxOffload,
};
pub use offload::{RssTypes, RxOffloads, TxOffloads};
pub use pool::{Exhausted, HEADROOM, Pool, PoolConfig, PoolError};
pub use port::{
    Attached, ConfigureError, Configured, HasQueues, Idle, Link, Port, PortConfig, PortError, PortStopError,
    RssConfig, Started, StartedPort, State,
};
pub use queue::{RxQueue, TxQueue};
pub use received::Received;
pub use stats::Stats;
