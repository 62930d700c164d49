//! What the tests share: an EAL without huge pages, and frames.

#![allow(dead_code)] // Each test binary takes what it needs.

use std::cell::RefCell;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use dpdk::{Attached, Burst, Configured, Eal, Pool, PoolConfig, Port, PortConfig, RxQueue, Started, TxQueue};

/// A file prefix of this process alone, whose directory goes with the test.
pub(crate) fn prefix(name: &str) -> String {
    let prefix = format!("test-{name}-{}", std::process::id());
    let directory = match std::env::var_os("XDG_RUNTIME_DIR") {
        Some(directory) if !is_root() => PathBuf::from(directory),
        None if !is_root() => PathBuf::from("/tmp"),
        _ => PathBuf::from("/var/run"),
    };
    LEFT_BEHIND.with(|left| left.borrow_mut().0.push(directory.join("dpdk").join(&prefix)));
    prefix
}

pub(crate) fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|user| user.uid() == 0)
}

/// EAL leaves its runtime directory behind; it goes when the test's thread ends.
#[derive(Default)]
struct LeftBehind(Vec<PathBuf>);

impl Drop for LeftBehind {
    fn drop(&mut self) {
        for directory in &self.0 {
            let _ = fs::remove_dir_all(directory);
        }
    }
}

thread_local! {
    static LEFT_BEHIND: RefCell<LeftBehind> = RefCell::default();
}

/// Arguments for an EAL of this process alone: lcore 0 and `workers` more, all
/// on one CPU, so that any machine will do.
pub(crate) fn arguments(name: &str, workers: usize) -> Vec<String> {
    let lcores: Vec<String> = (0..=workers).map(|lcore| format!("{lcore}@0")).collect();
    let (prefix, lcores) = (prefix(name), lcores.join(","));
    ["--no-huge", "-m", "64", "--no-pci", "--no-telemetry", "--file-prefix", &prefix, "--lcores", &lcores]
        .map(str::to_owned)
        .to_vec()
}

pub(crate) fn eal(name: &str, workers: usize) -> Eal {
    Eal::start(arguments(name, workers)).unwrap()
}

pub(crate) fn pool(eal: &Eal, name: &str) -> Pool {
    Pool::new(eal, name, &PoolConfig { mbufs: 1023, cache: 64, ..PoolConfig::default() }).unwrap()
}

pub(crate) fn attach(eal: &Eal, device: &str) -> Port<Attached> {
    let mut ports = eal.attach(device).unwrap();
    assert_eq!(ports.len(), 1, "{device}");
    ports.remove(0)
}

/// A port with one queue each way, started.
pub(crate) fn start(port: Port<Attached>, pool: &Pool) -> (Port<Started>, RxQueue, TxQueue) {
    start_configured(port.configure(&PortConfig::new(1, pool)).unwrap())
}

pub(crate) fn start_configured(port: Port<Configured>) -> (Port<Started>, RxQueue, TxQueue) {
    let (port, mut rx, mut tx) = port.start().unwrap();
    assert_eq!((rx.len(), tx.len()), (1, 1));
    (port, rx.remove(0), tx.remove(0))
}

/// A frame of `len` bytes that tells which one it is.
pub(crate) fn frame(number: usize, len: usize) -> Vec<u8> {
    let mut frame = vec![0x02, 0, 0, 0, 0, 1, 0x02, 0, 0, 0, 0, 2, 0x88, 0xb5];
    frame.extend((number as u32).to_be_bytes());
    frame.extend((frame.len()..len).map(|index| (index + number) as u8));
    frame
}

/// All bytes of a packet.
pub(crate) fn bytes(packet: &dpdk::Mbuf) -> Vec<u8> {
    packet.segments().flatten().copied().collect()
}

/// Receives until `wanted` holds of what came, or two seconds are over.
pub(crate) fn receive_until(rx: &mut RxQueue, mut wanted: impl FnMut(&[Vec<u8>]) -> bool) -> Vec<Vec<u8>> {
    let (mut burst, mut frames) = (Burst::new(), Vec::new());
    let end = Instant::now() + Duration::from_secs(2);
    while !wanted(&frames) && Instant::now() < end {
        rx.receive(&mut burst);
        frames.extend(burst.drain().map(|packet| bytes(&packet)));
    }
    frames
}
