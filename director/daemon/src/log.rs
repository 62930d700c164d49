//! The log, on standard error. A thread of its own writes it: its reader may be slow, stuck or gone, and its disk may
//! be full, and none of that must keep the director from its work.

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use tracing_subscriber::EnvFilter;

/// How many lines may wait for the thread.
const LINES: usize = 1024;

/// How long the director waits for the last lines to be written when it ends.
const PATIENCE: Duration = Duration::from_secs(1);

/// While it lives, what is logged is written.
pub(crate) struct Log(Queue);

/// The way to the thread. What is written to it in one call is a line.
#[derive(Clone)]
struct Queue {
    entries: SyncSender<Entry>,
    /// How many lines there was no room for. Nothing depends on the count, hence Relaxed.
    lost: Arc<AtomicU64>,
}

enum Entry {
    Line(Vec<u8>),
    /// Dropped when everything before it has been written.
    End(#[expect(dead_code, reason = "to be dropped")] SyncSender<()>),
}

impl Log {
    /// Starts the log, once. `DIRECTOR_LOG` selects what is logged.
    pub(crate) fn start() -> io::Result<Self> {
        let (queue, entries) = Queue::new(LINES);
        let lost = queue.lost.clone();
        thread::Builder::new().name("log".into()).spawn(move || write(&entries, &lost, &mut io::stderr()))?;
        let filter = EnvFilter::try_from_env("DIRECTOR_LOG")
            .unwrap_or_else(|_| EnvFilter::new("info,netlink_packet_route=error"));
        let lines = queue.clone();
        tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_ansi(io::stderr().is_terminal())
            .with_writer(move || lines.clone())
            .init();
        Ok(Self(queue))
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        let (end, ended) = sync_channel(0);
        if self.0.entries.try_send(Entry::End(end)).is_ok() {
            // An error means that everything was written or that it takes too long.
            let _ = ended.recv_timeout(PATIENCE);
        }
    }
}

impl Queue {
    fn new(lines: usize) -> (Self, Receiver<Entry>) {
        let (entries, taken) = sync_channel(lines);
        (Self { entries, lost: Arc::default() }, taken)
    }
}

impl Write for Queue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.entries.try_send(Entry::Line(line.to_vec())).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn write(entries: &Receiver<Entry>, lost: &AtomicU64, to: &mut impl Write) {
    for entry in entries {
        let Entry::Line(line) = entry else { continue };
        // What cannot be written is lost: there is nobody to tell.
        let _ = to.write_all(&line);
        let lost = lost.swap(0, Ordering::Relaxed);
        if lost > 0 {
            let _ = writeln!(to, "{lost} lines of the log were lost: they came faster than they were taken");
        }
    }
}

/// Writes a line to standard error without the log, if that is possible.
pub(crate) fn tell(text: &str) {
    let _ = io::stderr().write_all(text.as_bytes());
}

/// What net_tap reports at each start if the kernel lacks the multiq qdisc and the flower classifier. A twin needs
/// neither.
const HARMLESS: [&str; 3] = ["multiq qdisc", "Specified qdisc kind is unknown", "Disabling rte flow support"];

/// Passes on DPDK's log.
pub(crate) fn take_dpdks(record: &dpdk::log::Record<'_>) {
    use dpdk::log::Level;
    let message = record.message;
    if HARMLESS.iter().any(|harmless| message.contains(harmless)) {
        tracing::debug!(target: "dpdk", "{message}");
        return;
    }
    match record.level {
        Level::Emergency | Level::Alert | Level::Critical | Level::Error => {
            tracing::error!(target: "dpdk", "{message}");
        }
        Level::Warning => tracing::warn!(target: "dpdk", "{message}"),
        Level::Notice | Level::Info => tracing::debug!(target: "dpdk", "{message}"),
        Level::Debug => tracing::trace!(target: "dpdk", "{message}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_that_nobody_takes_keeps_nobody_waiting() {
        let (mut queue, entries) = Queue::new(2);
        for line in 1..=5 {
            queue.write_all(format!("line {line}\n").as_bytes()).unwrap();
        }
        let lost = queue.lost.clone();
        drop(queue);
        let mut written = Vec::new();
        write(&entries, &lost, &mut written);
        let written = String::from_utf8(written).unwrap();
        assert!(written.starts_with("line 1\n3 lines of the log were lost"), "{written}");
        assert!(written.ends_with("\nline 2\n"), "{written}");
    }

    #[test]
    fn a_log_that_cannot_be_written_ends_nobody() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::StorageFull.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let (queue, entries) = Queue::new(4);
        let thread = thread::spawn(move || write(&entries, &AtomicU64::new(0), &mut Full));
        queue.clone().write_all(b"line").unwrap();
        drop(Log(queue));
        thread.join().unwrap();
    }
}
