//! Mempools: where mbufs come from and go back to.

use std::ffi::CString;
use std::fmt;
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use dpdk_sys as sys;

use crate::burst::Burst;
use crate::eal::{Handle, Runtime};
use crate::error::Refusal;
use crate::log::Mark;
use crate::mbuf::Mbuf;

/// What a pool is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolConfig {
    /// How many mbufs; a power of two minus one takes the least memory.
    pub mbufs: u32,
    /// How many mbufs each lcore may keep for itself without asking the pool:
    /// at most 512, and at most two thirds of `mbufs`; 0 for none.
    pub cache: u32,
    /// Bytes of data one segment holds, besides the [`HEADROOM`].
    pub data_room: u16,
    /// The NUMA socket of the memory; `None` where it does not matter.
    pub socket: Option<u32>,
}

impl Default for PoolConfig {
    /// 8191 mbufs of 2048 bytes, caches of 256, on any socket.
    fn default() -> Self {
        Self { mbufs: 8191, cache: 256, data_room: 2048, socket: None }
    }
}

/// Bytes left free before the data of a new mbuf, for headers to be prepended.
pub const HEADROOM: u16 = sys::RTE_PKTMBUF_HEADROOM as u16;

/// A pool was not made.
#[derive(Debug, thiserror::Error)]
pub enum PoolError {
    /// A name that DPDK cannot hold.
    #[error("pool name {name:?}: must be 1 to {longest} bytes, none of them NUL")]
    Name {
        /// The name.
        name: String,
        /// The most bytes a name has.
        longest: usize,
    },
    /// A cache that cannot be.
    #[error(
        "pool {name}: a cache of {cache} for {mbufs} mbufs: at most {longest}, and at most two thirds of them"
    )]
    Cache {
        /// The pool.
        name: String,
        /// The size asked for.
        cache: u32,
        /// The mbufs asked for.
        mbufs: u32,
        /// The most a cache holds.
        longest: u32,
    },
    /// A size that does not fit a segment's 16 bits.
    #[error("pool {name}: a data room of {data_room} bytes: 1 to {largest}")]
    DataRoom {
        /// The pool.
        name: String,
        /// The size asked for.
        data_room: u16,
        /// The most that fits.
        largest: u16,
    },
    /// DPDK refused, mostly for want of memory.
    #[error("pool {name} of {mbufs} mbufs of {data_room} bytes: {refusal}")]
    Refused {
        /// The pool.
        name: String,
        /// The mbufs asked for.
        mbufs: u32,
        /// The data room asked for.
        data_room: u16,
        /// Why.
        refusal: Refusal,
    },
}

/// The pool has not enough mbufs free.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the pool has not enough mbufs free")]
pub struct Exhausted;

/// A pool of mbufs, shared by its clones and usable from every thread; fastest
/// on lcores, which have caches.
///
/// Its memory stays until EAL stops: mbufs outlive the handles of their pool,
/// and a name is used once.
pub struct Pool {
    pool: NonNull<sys::rte_mempool>,
    name: Arc<str>,
    config: PoolConfig,
    /// Keeps EAL, and so the pool, alive.
    runtime: Arc<Runtime>,
}

// SAFETY: `Pool::new` makes pools for many producers and many consumers, so
// that their functions may be called from all threads at once; the caches are
// per lcore, and an lcore is one thread. The rest of the fields is Send + Sync.
unsafe impl Send for Pool {}
// SAFETY: as above.
unsafe impl Sync for Pool {}

impl Pool {
    /// Makes a pool.
    ///
    /// # Errors
    /// [`PoolError`]: a name in use or too long, sizes that cannot be, or not
    /// enough memory.
    pub fn new(eal: &Handle, name: &str, config: &PoolConfig) -> Result<Self, PoolError> {
        let longest = sys::DPDK_MEMPOOL_NAMESIZE - 1;
        let c_name = CString::new(name)
            .ok()
            .filter(|c_name| (1..=longest).contains(&c_name.count_bytes()))
            .ok_or_else(|| PoolError::Name { name: name.to_owned(), longest })?;
        let PoolConfig { mbufs, cache, data_room, socket } = *config;
        let longest = sys::RTE_MEMPOOL_CACHE_MAX_SIZE;
        // DPDK flushes a cache at one and a half times its size.
        if cache > longest || u64::from(cache) * 3 > u64::from(mbufs) * 2 {
            return Err(PoolError::Cache { name: name.to_owned(), cache, mbufs, longest });
        }
        let largest = u16::MAX - HEADROOM;
        if data_room == 0 || data_room > largest {
            return Err(PoolError::DataRoom { name: name.to_owned(), data_room, largest });
        }
        let socket = socket.and_then(|socket| i32::try_from(socket).ok()).unwrap_or(sys::SOCKET_ID_ANY);

        let mark = Mark::now();
        // SAFETY: EAL runs, as `eal` shows; the name is NUL-terminated and
        // copied; the sizes were checked.
        let pool = unsafe {
            sys::rte_pktmbuf_pool_create(c_name.as_ptr(), mbufs, cache, 0, data_room + HEADROOM, socket)
        };
        let Some(pool) = NonNull::new(pool) else {
            let refusal = Refusal::from_rte_errno(&mark);
            let remedy = remedy(name, mbufs, data_room, &refusal);
            return Err(PoolError::Refused {
                name: name.to_owned(),
                mbufs,
                data_room,
                refusal: refusal.with_remedy(remedy),
            });
        };
        eal.runtime.keep_pool(name, pool);
        Ok(Self::handle(pool, name.into(), *config, Arc::clone(&eal.runtime)))
    }

    fn handle(
        pool: NonNull<sys::rte_mempool>,
        name: Arc<str>,
        config: PoolConfig,
        runtime: Arc<Runtime>,
    ) -> Self {
        // Relaxed: a number for a message.
        runtime.pool_handles.fetch_add(1, Ordering::Relaxed);
        Self { pool, name, config, runtime }
    }

    pub(crate) fn as_ptr(&self) -> *mut sys::rte_mempool {
        self.pool.as_ptr()
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How many mbufs it has, free or not.
    #[must_use]
    pub fn capacity(&self) -> u32 {
        self.config.mbufs
    }

    /// Bytes of data a segment holds, besides the [`HEADROOM`].
    #[must_use]
    pub fn data_room(&self) -> u16 {
        self.config.data_room
    }

    /// How many mbufs are free. It adds up the caches of all lcores, and is an
    /// estimate while they work.
    #[must_use]
    pub fn available(&self) -> u32 {
        // SAFETY: a live pool.
        unsafe { sys::rte_mempool_avail_count(self.as_ptr()) }
    }

    /// How many mbufs are out. See [`available`](Self::available).
    #[must_use]
    pub fn in_use(&self) -> u32 {
        self.capacity().saturating_sub(self.available())
    }

    /// An empty mbuf.
    ///
    /// # Errors
    /// [`Exhausted`] where none is free.
    pub fn alloc(&self) -> Result<Mbuf, Exhausted> {
        // SAFETY: a live pool of packet mbufs. What comes back is initialised,
        // and ours alone.
        unsafe { Mbuf::from_raw(sys::rte_pktmbuf_alloc(self.as_ptr())) }.ok_or(Exhausted)
    }

    /// Adds `count` empty mbufs to the end of `burst`: all of them or none.
    ///
    /// # Errors
    /// [`Exhausted`] where fewer are free, or the burst has less room.
    pub fn alloc_burst(&self, burst: &mut Burst, count: usize) -> Result<(), Exhausted> {
        let room = burst.room();
        if count > room.len() {
            return Err(Exhausted);
        }
        // SAFETY: a live pool; `room` has `count` slots at least (checked, so
        // the cast loses nothing), which a success fills with mbufs of ours.
        unsafe {
            if sys::rte_pktmbuf_alloc_bulk(self.as_ptr(), room.as_mut_ptr(), count as u32) != 0 {
                return Err(Exhausted);
            }
            burst.filled(count);
        }
        Ok(())
    }

    /// A packet of these bytes, in as many segments as it takes.
    ///
    /// # Errors
    /// [`Exhausted`] where too few mbufs are free.
    pub fn copy_from_slice(&self, bytes: &[u8]) -> Result<Mbuf, Exhausted> {
        let mut packet = self.alloc()?;
        packet.extend(self, bytes)?;
        Ok(packet)
    }

    /// A copy of a packet in mbufs of this pool: its bytes and what the device
    /// reported about it, nothing shared.
    ///
    /// # Errors
    /// [`Exhausted`] where too few mbufs are free.
    pub fn copy(&self, packet: &Mbuf) -> Result<Mbuf, Exhausted> {
        let mut copy = self.alloc()?;
        for segment in packet.segments() {
            copy.extend(self, segment)?;
        }
        copy.copy_metadata(packet);
        Ok(copy)
    }
}

impl Clone for Pool {
    fn clone(&self) -> Self {
        Self::handle(self.pool, Arc::clone(&self.name), self.config, Arc::clone(&self.runtime))
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // Relaxed: a number for a message.
        self.runtime.pool_handles.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Two handles are equal if they are of one pool.
impl PartialEq for Pool {
    fn eq(&self, other: &Self) -> bool {
        ptr::eq(self.as_ptr(), other.as_ptr())
    }
}

impl Eq for Pool {}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("name", &self.name).field("config", &self.config).finish_non_exhaustive()
    }
}

/// Memory of an mbuf beside its data: its struct, the pool's header and
/// padding.
const OVERHEAD: u64 = 256;

fn remedy(name: &str, mbufs: u32, data_room: u16, refusal: &Refusal) -> Option<String> {
    const EEXIST: i32 = 17;
    const ENOMEM: i32 = 12;
    const ENOBUFS: i32 = 105;
    match refusal.errno() {
        Some(EEXIST) => Some(format!("a pool named {name} exists already")),
        Some(ENOMEM | ENOBUFS) => {
            let bytes = u64::from(mbufs) * (u64::from(data_room + HEADROOM) + OVERHEAD);
            let megabytes = bytes.div_ceil(1 << 20);
            Some(format!(
                "the pool takes about {megabytes} MB: reserve more huge pages \
                 (`echo {pages} > /proc/sys/vm/nr_hugepages` for 2 MB pages), raise -m or lower the mbufs",
                pages = megabytes.div_ceil(2).max(64)
            ))
        }
        _ => None,
    }
}
