//! Being told to stop: everything that was started is ended, and everything changed put back, first.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

/// How soon a signal is noticed.
const STEP: Duration = Duration::from_millis(20);

/// Whether a signal asked this process to end.
#[derive(Clone, Debug, Default)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Takes the signals that ask a process to end.
    ///
    /// # Errors
    /// The kernel refuses the handlers.
    pub fn install() -> Result<Self> {
        let interrupt = Self::default();
        for signal in [SIGHUP, SIGINT, SIGTERM] {
            signal_hook::flag::register(signal, interrupt.0.clone())?;
        }
        Ok(interrupt)
    }

    /// Fails if a signal came.
    ///
    /// # Errors
    /// A signal came.
    pub fn check(&self) -> Result<()> {
        // Relaxed: the flag carries nothing but itself.
        if self.0.load(Ordering::Relaxed) {
            bail!("interrupted");
        }
        Ok(())
    }

    /// Sleeps.
    ///
    /// # Errors
    /// A signal came meanwhile.
    pub fn sleep(&self, time: Duration) -> Result<()> {
        self.wait(time, || Ok(None::<()>)).map(|_| ())
    }

    /// Asks until there is an answer; none when `time` has passed without.
    ///
    /// # Errors
    /// Asking failed, or a signal came.
    pub fn wait<T>(&self, time: Duration, mut ask: impl FnMut() -> Result<Option<T>>) -> Result<Option<T>> {
        let end = Instant::now() + time;
        loop {
            self.check()?;
            if let Some(answer) = ask()? {
                return Ok(Some(answer));
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            std::thread::sleep(left.min(STEP));
        }
    }
}
