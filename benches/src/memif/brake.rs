//! Keeping a CPU from another thread for a part of the time, in slices much shorter than the scheduler's.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::common::pin;

/// How long a slice and the pause after it are together.
const PERIOD: Duration = Duration::from_micros(200);

/// A thread that takes slices of a CPU's time. It ends when this is dropped.
pub(super) struct Brake {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Brake {
    /// Takes `part` of the time of a CPU, by a thread of real-time priority.
    ///
    /// # Errors
    /// The kernel grants no such priority.
    pub(super) fn start(cpu: u32, part: f64) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let (tell, told) = mpsc::channel();
        let stopped = stop.clone();
        let thread = thread::spawn(move || {
            let pinned = pin(cpu);
            let is_pinned = pinned.is_ok();
            // Nobody waits for it any more: `stop` is set.
            let _ = tell.send(pinned.map(|()| rustix::thread::gettid()));
            while is_pinned && !stopped.load(Ordering::Relaxed) {
                let start = Instant::now();
                while start.elapsed() < PERIOD.mul_f64(part) {
                    std::hint::spin_loop();
                }
                thread::sleep(PERIOD.mul_f64(1.0 - part));
            }
        });
        let brake = Self { stop, thread: Some(thread) };
        let id = told.recv().context("the thread has ended")??;
        let id = id.as_raw_nonzero().to_string();
        let output =
            Command::new("chrt").args(["--fifo", "--pid", "1", &id]).output().context("cannot run chrt")?;
        if !output.status.success() {
            bail!(
                "no real-time priority, without which there is only --brake 0: {}",
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        Ok(brake)
    }
}

impl Drop for Brake {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // It cannot have failed: it does nothing that can.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}
