//! The one kind of lock there is in the engine.

use std::sync::{Mutex, MutexGuard, TryLockError};

/// Holds the lock until it is dropped.
pub(crate) type Guard<'a, T> = MutexGuard<'a, T>;

/// A lock for some 100 ns at a time, between workers on cores of their own and the control core.
///
/// Waiting spins, and never sleeps. After some microseconds it offers its CPU to others, because the thread that
/// holds the lock may have been taken off this very CPU by the kernel (as in a lab). A mutex that is only ever tried
/// has no waiters, so unlocking it makes no system call.
///
/// `tests/director/locks.rs` tests which packets of existing connections take a lock; builds with debug assertions
/// count them.
#[derive(Debug, Default)]
pub(crate) struct Lock<T>(Mutex<T>);

impl<T> Lock<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> Guard<'_, T> {
        director_flow::note_lock();
        let mut spins = 0_u32;
        loop {
            match self.0.try_lock() {
                Ok(guard) => return guard,
                Err(TryLockError::Poisoned(poisoned)) => return poisoned.into_inner(),
                Err(TryLockError::WouldBlock) => director_flow::relax(&mut spins),
            }
        }
    }
}
