//! The director itself: its configuration for a benchmark, its service, and what it says of itself.

use std::net::SocketAddrV4;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use director_api::Status;

use crate::cpus::Cpus;
use crate::interrupt::Interrupt;
use crate::kind::{Kind, Protocol};
use crate::network::{self, CLIENTS, GATEWAY, PORT_ADDRESSES, SERVER_PORT, SERVICE};
use crate::program::Program;

/// What it takes to start, with a file of millions of frames to load.
const START: Duration = Duration::from_secs(120);

/// How long a connection is kept that was broken off, in seconds.
const CLOSE: u32 = 3;

/// The name of the port whose frames are counted.
pub const PORT: &str = "net";

/// What the director is configured with.
pub struct Setup<'a> {
    /// Where its threads run: the control core, and one worker.
    pub cpus: &'a Cpus,
    /// The mbufs of its pool.
    pub mbufs: u32,
    /// Descriptors of each queue.
    pub descriptors: u16,
    /// How many connections it has room for.
    pub capacity: u32,
    /// The connections.
    pub kind: Kind,
    /// The device that frames come from and go to.
    pub device: &'a str,
    /// The device by which connections are opened, where it is not the same.
    pub opener: Option<&'a str>,
    /// Where its sockets and EAL's files go.
    pub directory: &'a Path,
    /// EAL's arguments, besides the CPUs.
    pub eal: &'a [String],
    /// Its services, as in the file; none where [`Director::add_service`] adds one.
    pub services: &'a str,
}

/// The configuration file.
#[must_use]
pub fn configuration(setup: &Setup<'_>) -> String {
    let Setup { cpus, mbufs, descriptors, capacity, kind, device, opener, directory, eal, services } = setup;
    let (control, worker) = (cpus.control, cpus.worker);
    let addresses = PORT_ADDRESSES.map(|address| {
        let (_, length) = kind.network(address, 24);
        format!("\"{}/{length}\"", kind.address(address))
    });
    let addresses = addresses.join(", ");
    let (clients, length) = kind.network(CLIENTS.0, CLIENTS.1);
    // The other table stays empty.
    let capacity = if kind.is_v6() {
        format!("capacity = 1024\ncapacity_ipv6 = {capacity}")
    } else {
        format!("capacity = {capacity}")
    };
    let sockets = sockets(directory);
    let mut text = format!(
        "[dpdk]
lcores = \"0@{control},1@{worker}\"
mbufs = {mbufs}
eal = {eal:?}
idle = \"poll\"

[control]
directory = {sockets:?}

[[port]]
name = \"{PORT}\"
device = {device:?}
addresses = [{addresses}]
twin = false
descriptors = {descriptors}

[connections]
{capacity}

[timeouts]
close = {CLOSE}

[ipvs]
sloppy_tcp = true

[[route]]
destination = \"{clients}/{length}\"
gateway = \"{}\"
",
        kind.address(GATEWAY.0)
    );
    if let Some(opener) = opener {
        text += "\n# Connections are opened through this one, before anything is measured.";
        text += &format!("\n[[port]]\nname = \"opener\"\ndevice = {opener:?}\ntwin = false\n");
    }
    for (address, mac) in [GATEWAY].into_iter().chain(network::servers()) {
        let (address, mac) = (kind.address(address), network::mac_text(mac));
        text += &format!("\n[[neighbor]]\naddress = \"{address}\"\nmac = \"{mac}\"\n");
    }
    text + services
}

fn sockets(directory: &Path) -> PathBuf {
    directory.join("sockets")
}

/// A running director.
pub struct Director {
    program: Program,
    ctl: PathBuf,
    sockets: PathBuf,
}

impl Director {
    /// Starts `director`, of the directory `binaries`, and waits until it answers.
    ///
    /// # Errors
    /// It does not start.
    pub fn start(interrupt: &Interrupt, binaries: &Path, setup: &Setup<'_>) -> Result<Self> {
        let file = setup.directory.join("director.toml");
        std::fs::write(&file, configuration(setup))
            .with_context(|| format!("cannot write {}", file.display()))?;
        let mut command = Command::new(binaries.join("director"));
        command.arg("--config").arg(&file).env("RUNTIME_DIRECTORY", setup.directory);
        let program = Program::start("the director", &mut command)?;
        let mut director =
            Self { program, ctl: binaries.join("directorctl"), sockets: sockets(setup.directory) };
        let mut reason = String::new();
        let answered = interrupt.wait(START, || {
            if let Some(status) = director.program.ended()? {
                bail!(director.program.failed(&format!("did not start ({status})")));
            }
            Ok(director.status().map_err(|error| reason = format!("{error:#}")).ok())
        })?;
        if answered.is_none() {
            let seconds = START.as_secs();
            bail!(director.program.failed(&format!("did not answer within {seconds} s ({reason})")));
        }
        Ok(director)
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.program.id()
    }

    /// Where its sockets are.
    #[must_use]
    pub fn sockets(&self) -> &Path {
        &self.sockets
    }

    /// What `directorctl status --json` says, and when it was asked.
    ///
    /// # Errors
    /// It does not answer, or with something else.
    pub fn status(&self) -> Result<(Status, Instant)> {
        let asked = Instant::now();
        let output = self.ctl(&["status", "--json"])?;
        // While it does not forward yet, the status is 1, and the answer is there all the same.
        let status = serde_json::from_slice(&output.stdout).with_context(|| {
            format!("directorctl status --json: {}", String::from_utf8_lossy(&output.stderr).trim())
        })?;
        Ok((status, asked))
    }

    /// Sets one of its sysctls, by `directorctl set`.
    ///
    /// # Errors
    /// It refuses.
    pub fn set(&self, name: &str, value: i32) -> Result<()> {
        self.command(&["set", name, &value.to_string()])
    }

    /// Adds the virtual service of a kind and its servers, by ipvsadm.
    ///
    /// # Errors
    /// It refuses.
    pub fn add_service(&self, kind: Kind) -> Result<()> {
        let service = kind.end(SERVICE).to_string();
        let protocol = match kind.protocol {
            Protocol::Tcp => "-t",
            Protocol::Udp => "-u",
        };
        self.command(&["exec", "--", "ipvsadm", "-A", protocol, &service, "-s", "rr"])?;
        for (address, _) in network::servers() {
            let server = kind.end(SocketAddrV4::new(address, SERVER_PORT)).to_string();
            self.command(&["exec", "--", "ipvsadm", "-a", protocol, &service, "-r", &server, "-m"])?;
        }
        Ok(())
    }

    fn command(&self, arguments: &[&str]) -> Result<()> {
        let output = self.ctl(arguments)?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            bail!("directorctl {} ({}): {}", arguments.join(" "), output.status, said.trim());
        }
        Ok(())
    }

    fn ctl(&self, arguments: &[&str]) -> Result<Output> {
        let mut command = Command::new(&self.ctl);
        command.arg("--directory").arg(&self.sockets).args(arguments);
        command.output().with_context(|| format!("cannot run {}", self.ctl.display()))
    }

    /// A message with the last it said.
    #[must_use]
    pub fn failed(&self, how: &str) -> String {
        self.program.failed(how)
    }

    /// Ends it.
    ///
    /// # Errors
    /// It ends badly.
    pub fn terminate(self) -> Result<()> {
        self.program.terminate()
    }
}

#[cfg(test)]
mod tests {
    use director_config::Config;

    use super::*;
    use crate::testpmd;

    #[test]
    fn the_configuration_is_valid_and_needs_no_kernel_twin() {
        let mut setup = Setup {
            cpus: &Cpus { control: 2, worker: 5 },
            mbufs: 20_000,
            descriptors: 1024,
            capacity: 1_000_000,
            kind: Kind::TCP,
            device: "net_pcap0,rx_pcap=/tmp/x/frames.pcap,infinite_rx=1",
            opener: Some(&testpmd::opener_device(Path::new("/tmp/x/opener"))),
            directory: Path::new("/tmp/x"),
            eal: &["--no-huge", "-m", "200"].map(str::to_owned),
            services: "",
        };
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("director.toml");
        for kind in Kind::ALL {
            setup.kind = kind;
            std::fs::write(&file, configuration(&setup)).unwrap();
            let config = Config::load(&file).unwrap_or_else(|errors| panic!("{}", errors.report()));
            assert!(config.warnings().is_empty(), "{}", config.warnings().report());
            assert_eq!(config.dpdk.eal, ["--no-huge", "-m", "200"]);
            assert_eq!(config.control.directory.as_path(), Path::new("/tmp/x/sockets"));
            assert_eq!(config.neighbors.len(), 5);
            assert!(config.ipvs.sloppy_tcp.is_on());
            assert!(config.services.is_empty(), "what is replayed would open a connection");
        }
    }
}
