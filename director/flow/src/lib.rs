//! The connection table, its reclamation and the timeout wheel.
//!
//! One table is shared by all workers. A connection is one entry, found by its *client end* (address, port, protocol),
//! which appears in both directions: as the source of the client's packets and as the destination of the server's
//! replies. The pieces:
//!
//! - [`Table`]: an index of cache-line buckets over a slab of records. Lookups wait for nobody and retry nothing; they
//!   come in three steps ([`Table::prefetch`], [`Table::probe`], [`Table::resolve`]), so that a burst of packets can
//!   wait for memory once instead of once a packet.
//! - [`WorkerLocal`]: what one worker owns. It inserts (under one bucket's bit), and reports once a burst that it holds
//!   nothing it found.
//! - [`Keeper`]: what the control core owns: the timeout wheel, removal, and reuse of what was removed, after every
//!   worker has reported. Only it removes.
//! - [`Record`], [`Clock`]: an entry, and the word its life depends on.
//!
//! Nothing here knows a packet, a port or a socket; time comes in as a [`Tick`]. All that threads share is arrays of
//! atomics, so no race can be undefined behaviour; the order of every access is argued where it stands, and explored
//! with loom (`RUSTFLAGS="--cfg loom" cargo test -p director-flow --release --test loom`).
//!
//! ```
//! use director_flow::{Clock, Inserted, Index, Options, Record, Table, Tick, V4, V4End, Verdict};
//!
//! let (table, mut workers, mut keeper) = Table::<V4>::create(&Options::new(1000, 1))?;
//! let worker = &mut workers[0];
//! let client = V4End::new(0xc0a8_120a, 40_000, 6);
//! let vip = 0xc0a8_123a_0050;
//!
//! worker.quiescent();
//! let now = Tick::from_millis(5_000);
//! let same = |record: &Record<V4>| record.end() == client && record.word(0) == vip;
//! let made = worker.insert(client, same, |_, record| {
//!     record.set_word(0, vip);
//!     Ok::<_, std::convert::Infallible>(Clock::new(now, 1, 60))
//! })?;
//! assert!(matches!(made, Inserted::New(_)));
//! assert_eq!(table.find(table.hash(client), same), Some(made.index()));
//!
//! // A minute and half a second later, it is over.
//! let mut ended = 0;
//! let mut policy = (|_: Index, _: &Record<V4>, _| Verdict::Remove, |_: Index, _: &Record<V4>| ended += 1);
//! worker.quiescent();
//! keeper.poll(now, 1000, &mut policy);
//! keeper.poll(now.plus(600 + 5), 1000, &mut policy);
//! assert_eq!(table.find(table.hash(client), same), None);
//! assert_eq!((ended, table.counters().active), (1, 0));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![deny(unsafe_code)]

mod bucket;
mod clock;
mod counters;
mod event;
mod family;
mod free;
mod keeper;
mod lookup;
mod options;
mod qsbr;
mod reclaim;
mod record;
#[allow(unsafe_code)] // mapping memory, and the prefetch hint
mod slab;
mod sync;
mod table;
#[allow(unsafe_code)] // vector instructions
mod tags;
mod time;
mod wheel;
mod worker;

pub use clock::{Clock, MAX_TIMEOUT, SEEN_LAG};
pub use counters::Counters;
pub use family::{Family, V4, V4End, V6, V6End};
pub use keeper::{Keeper, Policy, Progress, Verdict};
pub use lookup::Lookup;
pub use options::{CreateError, Options};
pub use qsbr::Grace;
pub use record::{Index, Record};
pub use slab::{PageSize, Pages};
pub use sync::{locks_taken, note_lock, relax};
pub use table::{Hash, MAX_CHAIN, Probe, Table};
pub use time::{TICKS_PER_SECOND, Tick};
pub use worker::{AliasError, InsertError, Inserted, WorkerLocal};
