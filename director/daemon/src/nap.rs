//! Naps of the control core that are shorter than its event loop's own timers, and during which it still hears its
//! sockets.

use std::io;
use std::time::Duration;

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime,
};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;

/// A clock for sleeping until its next tick. The kernel's timer is read like a pipe.
pub(crate) struct Nap(Receiver);

impl Nap {
    /// It ticks every `period`.
    pub(crate) fn new(period: Duration) -> io::Result<Self> {
        let timer =
            timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
        let period = period.try_into().map_err(io::Error::other)?;
        let times = Itimerspec { it_interval: period, it_value: period };
        timerfd_settime(&timer, TimerfdTimerFlags::empty(), &times)?;
        Ok(Self(Receiver::from_owned_fd_unchecked(timer)?))
    }

    /// Sleeps until the next tick. If a tick has passed since the last call, it returns at once.
    pub(crate) async fn sleep(&mut self) -> io::Result<()> {
        let mut count = [0; 8];
        self.0.read_exact(&mut count).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn it_ticks_while_others_run() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut nap = Nap::new(Duration::from_millis(2)).unwrap();
            let began = Instant::now();
            let other = async {
                for _ in 0..1000 {
                    tokio::task::yield_now().await;
                }
            };
            let naps = async {
                for _ in 0..10 {
                    nap.sleep().await.unwrap();
                }
            };
            tokio::join!(other, naps);
            assert!(began.elapsed() >= Duration::from_millis(18), "{:?}", began.elapsed());
        });
    }
}
