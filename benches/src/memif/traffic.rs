//! The generator's exchange: frames go out on a port and come back on it, each looked at from end to end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use anyhow::{Result, bail};
use dpdk::{Burst, Eal, Lcore, LcoreJob, Pool, RxQueue, TxQueue, clock};

use crate::kind::Kind;
use crate::template::{SEQUENCE, Slot};

/// The length of every frame.
pub(super) const LENGTH: usize = Kind::TCP.length();

/// Frames that are on their way at a time: as many as a ring of the interface holds, less what the other side may
/// leave unused. So none finds a ring full, whoever is the slower.
pub(super) const WINDOW: u64 = (super::RING - 2 * Burst::CAPACITY) as u64;

/// For how long nothing comes back before what is out counts as lost, in milliseconds.
const PATIENCE: u64 = 500;

/// What is sent, and what must come back for it.
pub(super) trait Script: Send + 'static {
    /// How many frames there are.
    fn count(&self) -> u64;

    /// Makes a frame. It has the low 32 bits of its number as TCP's sequence number, and so must what comes back.
    fn write(&self, number: u64, into: &mut Slot);

    /// Makes what must come back for the frame of this number, `frame` being what did.
    fn expect(&mut self, number: u64, frame: &[u8], into: &mut Slot);
}

/// What has happened so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Frames that came back and were right.
    pub(super) returned: u64,
    /// Frames that never came back.
    pub(super) lost: u64,
    /// Ticks of the clock.
    pub(super) ticks: u64,
    /// Those in which there was nothing to do but to wait for the other side.
    pub(super) waited: u64,
}

/// The counts, for those who look on.
#[derive(Default)]
struct Tally {
    counts: [AtomicU64; 4],
    stop: AtomicBool,
}

impl Tally {
    #[inline]
    fn show(&self, counts: &Counts) {
        let Counts { returned, lost, ticks, waited } = *counts;
        for (shown, count) in self.counts.iter().zip([returned, lost, ticks, waited]) {
            // Relaxed: numbers to look at.
            shown.store(count, Ordering::Relaxed);
        }
    }
}

/// The generator's queues, for as long as nothing is exchanged.
pub(super) struct Traffic {
    rx: RxQueue,
    tx: TxQueue,
    pool: Pool,
    hertz: u64,
}

/// What an exchange leaves: queues and script, and what was wrong.
pub(super) type Left<S> = (Traffic, S, Result<()>);

/// An exchange that runs. Dropped, it is stopped: it must not go on when the other side goes away, for then the
/// driver takes the memory of the rings back.
pub(super) struct Exchange<S: Script> {
    job: Option<LcoreJob<Left<S>>>,
    tally: Arc<Tally>,
}

impl<S: Script> Exchange<S> {
    /// What has happened so far.
    pub(super) fn counts(&self) -> Counts {
        let [returned, lost, ticks, waited] =
            self.tally.counts.each_ref().map(|count| count.load(Ordering::Relaxed));
        Counts { returned, lost, ticks, waited }
    }

    /// Whether it has come to its end: all was exchanged, or something was wrong.
    pub(super) fn has_ended(&self) -> bool {
        self.job.as_ref().is_none_or(LcoreJob::is_finished)
    }

    /// Ends it, and waits until everything that is out is back.
    pub(super) fn end(mut self) -> Result<Left<S>> {
        self.tally.stop.store(true, Ordering::Relaxed);
        match self.job.take() {
            Some(job) => Ok(job.join()?),
            None => bail!("the exchange has ended before"),
        }
    }
}

impl<S: Script> Drop for Exchange<S> {
    fn drop(&mut self) {
        self.tally.stop.store(true, Ordering::Relaxed);
        // What it came to is asked for with `end`.
        let _ = self.job.take().map(LcoreJob::join);
    }
}

impl Traffic {
    pub(super) fn new(rx: RxQueue, tx: TxQueue, pool: Pool, hertz: u64) -> Self {
        Self { rx, tx, pool, hertz }
    }

    /// Starts to exchange frames, on an lcore.
    pub(super) fn start<S: Script>(mut self, eal: &Eal, lcore: Lcore, mut script: S) -> Result<Exchange<S>> {
        let tally = Arc::new(Tally::default());
        let shared = tally.clone();
        let job = eal.launch(lcore, move || {
            let result = self.exchange(&mut script, &shared);
            (self, script, result)
        })?;
        Ok(Exchange { job: Some(job), tally })
    }

    fn exchange(&mut self, script: &mut impl Script, tally: &Tally) -> Result<()> {
        let (mut received, mut sending) = (Burst::new(), Burst::new());
        // What an earlier exchange has given up.
        while self.rx.receive(&mut received) > 0 {
            received.clear();
        }
        let patience = self.hertz * PATIENCE / 1000;
        // The number of the frame that is made next, and of that which comes back next.
        let (mut next, mut due) = (0, 0);
        let mut counts = Counts::default();
        let start = clock::now();
        let (mut last, mut progress) = (start, start);
        loop {
            let count = self.rx.receive(&mut received);
            for mbuf in received.iter() {
                let number = check(mbuf.data(), due, next, script)?;
                counts.lost += number - due;
                due = number + 1;
            }
            received.clear();
            counts.returned += count as u64;
            let goes_on = next < script.count() && !tally.stop.load(Ordering::Relaxed);
            if goes_on && sending.is_empty() && next - due + Burst::CAPACITY as u64 <= WINDOW {
                next = self.make(script, next, &mut sending)?;
            }
            let sent = if sending.is_empty() { 0 } else { self.tx.send(&mut sending) };
            let now = clock::now();
            if count > 0 {
                progress = now;
            } else if sent == 0 {
                counts.waited += now - last;
                if due == next && !goes_on {
                    return Ok(());
                }
                if now - progress > patience {
                    counts.lost += next - due;
                    due = next;
                    sending.clear();
                    progress = now;
                }
            }
            last = now;
            counts.ticks = now - start;
            tally.show(&counts);
        }
    }

    /// Makes a burst of frames.
    #[inline]
    fn make(&self, script: &impl Script, mut next: u64, burst: &mut Burst) -> Result<u64> {
        let left = script.count() - next;
        // At most a burst's capacity.
        let count = left.min(Burst::CAPACITY as u64) as usize;
        self.pool.alloc_burst(burst, count)?;
        let mut slot = Slot::EMPTY;
        for mbuf in burst.iter_mut() {
            script.write(next, &mut slot);
            mbuf.append(LENGTH)?.copy_from_slice(&slot.0[..LENGTH]);
            next += 1;
        }
        Ok(next)
    }
}

/// Looks at a frame that came back; its number.
#[inline]
fn check(frame: &[u8], due: u64, next: u64, script: &mut impl Script) -> Result<u64> {
    let number = frame.get(SEQUENCE).and_then(|bytes| bytes.first_chunk()).map(|wire| {
        // By how much it is ahead of the one that is due, modulo 2^32.
        due + u64::from(u32::from_be_bytes(*wire).wrapping_sub(due as u32))
    });
    match number {
        Some(number) if number < next => {
            let mut slot = Slot::EMPTY;
            script.expect(number, frame, &mut slot);
            if frame == &slot.0[..LENGTH] {
                return Ok(number);
            }
            bail!("frame {number} came back as\n  {}\nand not as\n  {}", hex(frame), hex(&slot.0[..LENGTH]))
        }
        _ => bail!(
            "what came back was not sent, or was back before (frames {due} to {next} are out):\n  {}",
            hex(frame)
        ),
    }
}

#[cold]
fn hex(frame: &[u8]) -> String {
    frame.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use dpdk::{PoolConfig, PortConfig};

    use super::super::script::{Established, Mode, flows};
    use super::*;
    use crate::flows::{Random, draw};
    use crate::interrupt::Interrupt;

    fn established(mode: Mode) -> Established {
        Established::new(flows(&draw(1000, &mut Random::new(1))), true, Some(mode))
    }

    /// A ring gives back what it is given. EAL starts once in a process, so all is in one test.
    #[test]
    fn what_comes_back_is_compared_with_what_was_sent() {
        let prefix = format!("--file-prefix=test-bench-{}", std::process::id());
        let arguments =
            ["--no-huge", "-m", "64", "--no-pci", "--no-telemetry", &prefix, "--lcores", "0@0,1@0"];
        let eal = Eal::start(arguments).unwrap();
        let pool = Pool::new(&eal, "packets", &PoolConfig { mbufs: 4095, ..PoolConfig::default() }).unwrap();
        let port = eal.attach("net_ring0").unwrap().remove(0);
        let (port, mut rx, mut tx) = port.configure(&PortConfig::new(1, &pool)).unwrap().start().unwrap();
        let mut traffic = Traffic::new(rx.remove(0), tx.remove(0), pool, eal.tsc_hz());
        let lcore = eal.worker_lcores()[0];

        let exchange = traffic.start(&eal, lcore, established(Mode::Io)).unwrap();
        let enough = || Ok((exchange.counts().returned > 5000).then_some(()));
        Interrupt::default().wait(Duration::from_secs(20), enough).unwrap().unwrap();
        assert!(!exchange.has_ended());
        assert_eq!(exchange.counts().lost, 0);
        let result;
        (traffic, _, result) = exchange.end().unwrap();
        result.unwrap();

        let exchange = traffic.start(&eal, lcore, established(Mode::FiveTupleSwap)).unwrap();
        let ended = || Ok(exchange.has_ended().then_some(()));
        Interrupt::default().wait(Duration::from_secs(20), ended).unwrap().unwrap();
        let (traffic, _, result) = exchange.end().unwrap();
        let error = result.unwrap_err().to_string();
        assert!(error.starts_with("frame 0 came back as\n  "), "{error}");
        drop((traffic, port));
        eal.stop().unwrap();
        let _ = std::fs::remove_dir_all(format!("/var/run/dpdk/test-bench-{}", std::process::id()));
    }

    struct Numbered;

    impl Script for Numbered {
        fn count(&self) -> u64 {
            u64::MAX
        }

        fn write(&self, number: u64, into: &mut Slot) {
            into.0[SEQUENCE].copy_from_slice(&(number as u32).to_be_bytes());
        }

        fn expect(&mut self, number: u64, _: &[u8], into: &mut Slot) {
            self.write(number, into);
        }
    }

    #[test]
    fn each_comes_back_once_and_in_order() {
        let frame = |number: u64| {
            let mut slot = Slot::EMPTY;
            Numbered.write(number, &mut slot);
            slot.0[..LENGTH].to_vec()
        };
        let turn = 1 << 32;
        for (number, due, next, is_right) in [
            (5, 5, 10, true),
            (9, 5, 10, true),
            (10, 5, 10, false),
            (4, 5, 10, false),
            (turn + 1, turn - 3, turn + 2, true),
            (turn - 4, turn - 3, turn + 2, false),
        ] {
            let result = check(&frame(number), due, next, &mut Numbered);
            assert_eq!(result.ok(), is_right.then_some(number), "{number}");
        }
        assert!(check(&frame(5)[..LENGTH - 1], 5, 10, &mut Numbered).is_err());
        assert!(check(&[], 5, 10, &mut Numbered).is_err());
        let mut wrong = frame(5);
        wrong[0] = 1;
        assert!(check(&wrong, 5, 10, &mut Numbered).is_err());
    }
}
