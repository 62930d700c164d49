//! `dpdk-testpmd`: the rival, and the source of the segments that open connections.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::cpus::Cpus;
use crate::interrupt::Interrupt;
use crate::network::{self, OPENER_MAC};
use crate::program::Program;

/// What it takes to start, with a file of millions of frames to load.
const START: Duration = Duration::from_secs(120);
/// What an answer to a command takes.
const ANSWER: Duration = Duration::from_secs(10);

const PROMPT: &str = "testpmd> ";

/// What a port has counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortStats {
    /// Frames received.
    pub received: u64,
    /// Frames sent.
    pub sent: u64,
}

/// A running testpmd.
pub struct Testpmd {
    program: Program,
}

/// What all testpmds are started with.
pub struct Setup<'a> {
    /// Whose first CPU does the housekeeping and whose second forwards.
    pub cpus: &'a Cpus,
    /// The mbufs of its pool.
    pub mbufs: u32,
    /// Descriptors of each queue.
    pub descriptors: u16,
    /// Where EAL may put files.
    pub directory: &'a Path,
}

impl Testpmd {
    /// Forwards the frames of a file, for ever, in one of testpmd's modes.
    ///
    /// # Errors
    /// It does not start.
    pub fn forward(
        interrupt: &Interrupt,
        setup: &Setup<'_>,
        eal: &[String],
        device: &str,
        mode: &str,
    ) -> Result<Self> {
        let lcores = format!("0@{},1@{}", setup.cpus.control, setup.cpus.worker);
        let arguments = [format!("--forward-mode={mode}"), "--port-topology=loop".to_owned()];
        let name = format!("dpdk-testpmd in mode {mode}");
        let mut testpmd =
            Self::start(interrupt, &name, setup, &lcores, eal, &[device.to_owned()], &arguments)?;
        testpmd.program.tell("start")?;
        Ok(testpmd)
    }

    /// Sends the frames of a file once to the other side of a `net_memif` socket. It stays connected
    /// afterwards and does nothing. Both its threads share the CPU of the housekeeping.
    ///
    /// # Errors
    /// It does not start.
    pub fn feed(interrupt: &Interrupt, setup: &Setup<'_>, file: &Path, socket: &Path) -> Result<Self> {
        let cpu = setup.cpus.control;
        let memory = ["--no-pci", "--no-huge", "-m", "256", "--iova-mode=va"].map(str::to_owned);
        let devices = [
            format!("net_pcap0,rx_pcap={}", file.display()),
            format!("net_memif0,role=client,socket={},socket-abstract=no,rsize=11", socket.display()),
        ];
        let lcores = format!("0@{cpu},1@{cpu}");
        let name = "the dpdk-testpmd that opens the connections";
        let mut testpmd = Self::start(interrupt, name, setup, &lcores, &memory, &devices, &[])?;
        // Where the ring is full, the other side has no time just now: no segment is to be lost by that.
        for command in ["set fwd io retry", "set burst tx delay 10 retry 1000000", "start"] {
            testpmd.program.tell(command)?;
        }
        Ok(testpmd)
    }

    fn start(
        interrupt: &Interrupt,
        name: &str,
        setup: &Setup<'_>,
        lcores: &str,
        memory: &[String],
        devices: &[String],
        arguments: &[String],
    ) -> Result<Self> {
        // stdbuf: it would keep its answers to itself until they fill a buffer.
        let mut command = Command::new("stdbuf");
        command.args(["-oL", "dpdk-testpmd", "--lcores", lcores, "--no-telemetry"]);
        command.arg(format!("--file-prefix=bench-{}-{}", std::process::id(), setup.cpus.control));
        command.args(memory).args(devices.iter().map(|device| format!("--vdev={device}")));
        command.args(["--", "-i", "--no-flush-rx", "--no-numa", "--nb-cores=1", "--burst=32"]);
        command.args(["--mbcache=256", "--no-lsc-interrupt"]);
        command.arg(format!("--total-num-mbufs={}", setup.mbufs));
        command.arg(format!("--rxd={}", setup.descriptors)).arg(format!("--txd={}", setup.descriptors));
        command.args(arguments);
        command.env("RUNTIME_DIRECTORY", setup.directory);
        let mut program = Program::start(name, &mut command)?;
        program.hear(interrupt, START, 0, |said| said.contains(PROMPT).then_some(()))?;
        Ok(Self { program })
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.program.id()
    }

    /// What port 0 has counted, and when that was.
    ///
    /// # Errors
    /// It does not answer.
    pub fn stats(&mut self, interrupt: &Interrupt) -> Result<(PortStats, Instant)> {
        let mark = self.program.mark();
        let asked = Instant::now();
        self.program.tell("show port stats 0")?;
        let stats = self.program.hear(interrupt, ANSWER, mark, port_stats)?;
        Ok((stats, asked))
    }

    /// Stops forwarding; the process stays.
    ///
    /// # Errors
    /// It does not answer.
    pub fn rest(&mut self, interrupt: &Interrupt) -> Result<()> {
        let mark = self.program.mark();
        self.program.tell("stop")?;
        self.program.hear(interrupt, ANSWER, mark, |said| said.contains("Done.").then_some(()))
    }

    /// Ends it.
    ///
    /// # Errors
    /// It ends badly.
    pub fn quit(self) -> Result<()> {
        self.program.dismiss("quit")
    }
}

/// The server's side of the socket that [`Testpmd::feed`] connects to.
#[must_use]
pub fn opener_device(socket: &Path) -> String {
    let mac = network::mac_text(OPENER_MAC);
    format!("net_memif0,role=server,socket={},socket-abstract=no,rsize=11,mac={mac}", socket.display())
}

/// Reads the answer to `show port stats N`, once all of it is there.
fn port_stats(said: &str) -> Option<PortStats> {
    let (said, _) = said.split_once("Throughput")?;
    let value = |key: &str| -> Option<u64> {
        let (_, rest) = said.split_once(key)?;
        rest.split_whitespace().next()?.parse().ok()
    };
    Some(PortStats { received: value("RX-packets:")?, sent: value("TX-packets:")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHOWN: &str = "show port stats 0\n
  ######################## NIC statistics for port 0  ########################
  RX-packets: 169409344  RX-missed: 0          RX-bytes:  10164560640
  RX-errors: 0
  RX-nombuf:  0         
  TX-packets: 169409376  TX-errors: 0          TX-bytes:  10164562560

  Throughput (since last show)
  Rx-pps:     46062172          Rx-bps:  22109842592
  Tx-pps:     46062076          Tx-bps:  22109796624
  ############################################################################
testpmd> ";

    #[test]
    fn statistics_are_read_when_they_are_whole() {
        assert_eq!(port_stats(SHOWN), Some(PortStats { received: 169_409_344, sent: 169_409_376 }));
        let end = SHOWN.find("Throughput").unwrap();
        for length in 0..end {
            assert_eq!(port_stats(&SHOWN[..length]), None);
        }
    }

    #[test]
    fn nonsense_is_no_answer() {
        assert_eq!(port_stats("RX-packets: many TX-packets: 3 Throughput"), None);
        assert_eq!(port_stats("Bad arguments\nThroughput"), None);
    }
}
