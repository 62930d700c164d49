//! The atomics that everything here is made of: the standard library's, or loom's under `--cfg loom`, so that the
//! model checker checks the very code that runs.

#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

#[cfg(debug_assertions)]
thread_local! {
    static LOCKS: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

/// Notes that this thread takes a lock, which others may have to wait for. Does nothing without debug assertions.
#[inline(always)]
pub fn note_lock() {
    #[cfg(debug_assertions)]
    LOCKS.with(|locks| locks.set(locks.get() + 1));
}

/// How many locks this thread has taken: the writer bits of buckets, and the engine's locks. 0 without debug
/// assertions.
#[must_use]
pub fn locks_taken() -> u64 {
    #[cfg(debug_assertions)]
    let count = LOCKS.with(std::cell::Cell::get);
    #[cfg(not(debug_assertions))]
    let count = 0;
    count
}

/// Waits a moment for another thread's short critical section.
///
/// `spins` counts the caller's attempts. If the lock is not released soon, its holder may be a thread that the kernel
/// took off this very CPU (with several workers on one CPU, as in a lab), so the CPU is offered to it.
#[inline]
pub fn relax(spins: &mut u32) {
    *spins = spins.wrapping_add(1);
    #[cfg(loom)]
    loom::thread::yield_now();
    #[cfg(not(loom))]
    if spins.is_multiple_of(512) {
        std::thread::yield_now();
    } else {
        std::hint::spin_loop();
    }
}

/// A value on cache lines of its own, so that one thread's writes do not slow down another's reads of its neighbour.
/// There are two lines, because the adjacent-line prefetcher fetches pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Padded<T>(pub(crate) T);

impl<T> std::ops::Deref for Padded<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.0
    }
}
