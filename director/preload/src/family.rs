//! What the director answers about the family `IPVS`. It does not change, so a process asks only once.

use std::cell::UnsafeCell;
use std::sync::atomic::{
    AtomicUsize,
    Ordering::{Acquire, Relaxed, Release},
};

/// Room for the answer, which takes some 400 bytes.
const ROOM: usize = 512;

/// Nothing is known yet.
const UNKNOWN: usize = 0;
/// Somebody writes it.
const LEARNING: usize = usize::MAX;

/// Written once, by the thread that changed `length` from [`UNKNOWN`] to [`LEARNING`], and read only after `length`
/// holds a length.
struct Learned {
    length: AtomicUsize,
    bytes: UnsafeCell<[u8; ROOM]>,
}

// SAFETY: one thread writes `bytes`, before it stores the length with Release; others read them after they loaded
// it with Acquire.
unsafe impl Sync for Learned {}

static LEARNED: Learned = Learned { length: AtomicUsize::new(UNKNOWN), bytes: UnsafeCell::new([0; ROOM]) };

/// The answer that was given the first time, if there was one.
pub(crate) fn known() -> Option<([u8; ROOM], usize)> {
    match LEARNED.length.load(Acquire) {
        UNKNOWN | LEARNING => None,
        // SAFETY: there is a length, so nobody writes any more.
        length => Some((unsafe { *LEARNED.bytes.get() }, length)),
    }
}

/// Keeps an answer: the first only, and only if it fits.
pub(crate) fn learn(answer: &[u8]) {
    if answer.is_empty() || answer.len() > ROOM {
        return;
    }
    if LEARNED.length.compare_exchange(UNKNOWN, LEARNING, Relaxed, Relaxed).is_ok() {
        // SAFETY: nobody else writes, by the exchange, and nobody reads before the length is there.
        if let Some(bytes) = unsafe { (*LEARNED.bytes.get()).get_mut(..answer.len()) } {
            bytes.copy_from_slice(answer);
        }
        LEARNED.length.store(answer.len(), Release);
    }
}
