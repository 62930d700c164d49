//! `rte_hash`: DPDK's hash table, with readers that take no lock, and its own reclamation (`rte_rcu_qsbr`).
//!
//! The director does not use it; its own table is measured beside it.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ffi::{CString, c_void};
use std::ptr::{self, NonNull};
use std::sync::Arc;

use dpdk_sys as sys;

use crate::eal::{Handle, Runtime};
use crate::error::Refusal;
use crate::log::Mark;

/// Bytes of a key: what DPDK's own examples make of addresses, ports and protocol of IPv4, and a length
/// that it has a comparison for.
pub const KEY_BYTES: usize = 16;

/// How many removed entries may wait for the readers.
const DEFERRED: u32 = 1 << 16;

/// A hash table was not made, or not changed.
#[derive(Debug, thiserror::Error)]
pub enum HashError {
    /// A name that DPDK cannot hold.
    #[error("hash table name {name:?}: must be 1 to {longest} bytes, none of them NUL")]
    Name {
        /// The name.
        name: String,
        /// The most bytes a name has.
        longest: usize,
    },
    /// DPDK refused, mostly for want of memory.
    #[error("hash table of {entries} entries: {refusal}")]
    Refused {
        /// The entries asked for.
        entries: u32,
        /// Why.
        refusal: Refusal,
    },
    /// There is no room for another entry.
    #[error("the hash table is full: {0}")]
    Full(Refusal),
}

/// What a table and its readers share.
struct Inner {
    hash: NonNull<sys::rte_hash>,
    qsbr: NonNull<sys::rte_rcu_qsbr>,
    layout: Layout,
    /// Keeps EAL, and so the memory, alive.
    _runtime: Arc<Runtime>,
}

// SAFETY: the table is made for one writer and any number of readers at once
// (RTE_HASH_EXTRA_FLAGS_RW_CONCURRENCY_LF), and only `HashTable`, of which there is one, writes; each reader
// has a thread number of its own in the other, whose functions are made for that.
unsafe impl Send for Inner {}
// SAFETY: as above.
unsafe impl Sync for Inner {}

impl Drop for Inner {
    fn drop(&mut self) {
        // SAFETY: the last of the table and its readers is gone, so nothing uses either any more. The table
        // goes first, since it looks at the other while it empties its queue.
        unsafe {
            sys::rte_hash_free(self.hash.as_ptr());
            dealloc(self.qsbr.as_ptr().cast(), self.layout);
        }
    }
}

/// The writer's end of a hash table from [`KEY_BYTES`] bytes to a number.
pub struct HashTable {
    inner: Arc<Inner>,
}

/// A reader's end, for one thread.
pub struct HashReader {
    inner: Arc<Inner>,
    id: u32,
    online: bool,
}

impl HashTable {
    /// Makes a table and its readers.
    ///
    /// # Errors
    /// [`HashError`]: a name in use or too long, or not enough memory.
    pub fn new(
        eal: &Handle,
        name: &str,
        entries: u32,
        readers: u32,
    ) -> Result<(Self, Vec<HashReader>), HashError> {
        let longest = sys::RTE_HASH_NAMESIZE as usize - 1;
        let c_name = CString::new(name)
            .ok()
            .filter(|c_name| (1..=longest).contains(&c_name.count_bytes()))
            .ok_or_else(|| HashError::Name { name: name.to_owned(), longest })?;
        let parameters = sys::rte_hash_parameters {
            name: c_name.as_ptr(),
            entries,
            key_len: KEY_BYTES as u32,
            socket_id: sys::SOCKET_ID_ANY,
            extra_flag: sys::RTE_HASH_EXTRA_FLAGS_RW_CONCURRENCY_LF as u8,
            ..Default::default()
        };
        let mark = Mark::now();
        // SAFETY: EAL runs, as `eal` shows; the parameters are whole, and copied with the name. No hash
        // function is named: DPDK takes its CRC.
        let hash = unsafe { sys::rte_hash_create(&raw const parameters) };
        let Some(hash) = NonNull::new(hash) else {
            return Err(HashError::Refused { entries, refusal: Refusal::from_rte_errno(&mark) });
        };
        // SAFETY: computes a size.
        let bytes = unsafe { sys::rte_rcu_qsbr_get_memsize(readers.max(1)) };
        let layout = Layout::from_size_align(bytes, 64)
            .map_err(|_| HashError::Refused { entries, refusal: Refusal::from_rte_errno(&mark) })?;
        // SAFETY: the size is not 0: the structure has a head.
        let memory = unsafe { alloc_zeroed(layout) };
        #[expect(clippy::cast_ptr_alignment, reason = "allocated with the alignment of a cache line")]
        let Some(qsbr) = NonNull::new(memory.cast::<sys::rte_rcu_qsbr>()) else {
            handle_alloc_error(layout);
        };
        // From here on, dropping it frees both.
        let inner = Arc::new(Inner { hash, qsbr, layout, _runtime: Arc::clone(&eal.runtime) });
        let mut configuration = sys::rte_hash_rcu_config {
            v: qsbr.as_ptr(),
            mode: sys::RTE_HASH_QSBR_MODE_DQ,
            dq_size: DEFERRED,
            ..Default::default()
        };
        // SAFETY: the memory is as large and as aligned as asked for, and lives as long as the table; the
        // configuration is whole, and copied.
        let status = unsafe {
            match sys::rte_rcu_qsbr_init(qsbr.as_ptr(), readers.max(1)) {
                0 => sys::rte_hash_rcu_qsbr_add(hash.as_ptr(), &raw mut configuration),
                failed => failed,
            }
        };
        if status != 0 {
            return Err(HashError::Refused { entries, refusal: Refusal::from_rte_errno(&mark) });
        }
        let mut ends = Vec::new();
        for id in 0..readers {
            // SAFETY: the number is below that of the threads there is room for.
            let status = unsafe { sys::rte_rcu_qsbr_thread_register(qsbr.as_ptr(), id) };
            if status != 0 {
                return Err(HashError::Refused { entries, refusal: Refusal::from_rte_errno(&mark) });
            }
            ends.push(HashReader { inner: Arc::clone(&inner), id, online: false });
        }
        Ok((Self { inner }, ends))
    }

    /// Enters a key, or gives it another number.
    ///
    /// # Errors
    /// [`HashError::Full`]: no room, or too many keys of one bucket, or the readers are behind.
    pub fn insert(&mut self, key: &[u8; KEY_BYTES], value: u64) -> Result<(), HashError> {
        let mark = Mark::now();
        // SAFETY: `&mut self` is the one writer; the key is as long as the table's are; the value is kept as
        // a number and never followed.
        let status = unsafe {
            let value = ptr::without_provenance_mut(value as usize);
            sys::rte_hash_add_key_data(self.inner.hash.as_ptr(), key.as_ptr().cast(), value)
        };
        if status < 0 { Err(HashError::Full(Refusal::new(status, &mark))) } else { Ok(()) }
    }

    /// Takes a key out; false if it was not there. Its place is used again when every reader has reported.
    pub fn remove(&mut self, key: &[u8; KEY_BYTES]) -> bool {
        // SAFETY: `&mut self` is the one writer; the key is as long as the table's are.
        unsafe { sys::rte_hash_del_key(self.inner.hash.as_ptr(), key.as_ptr().cast()) >= 0 }
    }
}

impl HashReader {
    /// Reports that nothing found before is held any more. The table reuses what was removed only when
    /// every reader that is online has.
    #[inline]
    pub fn quiescent(&mut self) {
        let qsbr = self.inner.qsbr.as_ptr();
        // SAFETY: this reader's number is registered, and no other thread reports for it.
        unsafe {
            if self.online {
                sys::rte_rcu_qsbr_quiescent(qsbr, self.id);
            } else {
                sys::rte_rcu_qsbr_thread_online(qsbr, self.id);
            }
        }
        self.online = true;
    }

    /// Before it sleeps: the table does not wait for it.
    pub fn offline(&mut self) {
        if self.online {
            // SAFETY: as in `quiescent`.
            unsafe { sys::rte_rcu_qsbr_thread_offline(self.inner.qsbr.as_ptr(), self.id) };
        }
        self.online = false;
    }

    /// Looks up `N` keys at once, at most 64. Bit `i` of the answer: key `i` is there, and `values[i]` is
    /// its number.
    #[inline]
    pub fn lookup<const N: usize>(&mut self, keys: &[[u8; KEY_BYTES]; N], values: &mut [u64; N]) -> u64 {
        const { assert!(N >= 1 && N <= sys::RTE_HASH_LOOKUP_BULK_MAX as usize) };
        const { assert!(size_of::<u64>() == size_of::<*mut c_void>()) };
        if !self.online {
            self.quiescent();
        }
        let mut pointers: [*const c_void; N] = std::array::from_fn(|at| keys[at].as_ptr().cast());
        let mut hits = 0;
        // SAFETY: `N` pointers to keys of the table's length, and room for `N` values of a pointer's size;
        // lookups go on beside the writer's changes, and this reader is online. Values of keys that are not
        // there are left as they are.
        unsafe {
            sys::rte_hash_lookup_bulk_data(
                self.inner.hash.as_ptr(),
                pointers.as_mut_ptr(),
                N as u32,
                &raw mut hits,
                values.as_mut_ptr().cast(),
            );
        }
        hits
    }
}

impl Drop for HashReader {
    fn drop(&mut self) {
        self.offline();
    }
}
