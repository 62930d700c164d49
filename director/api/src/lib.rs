//! The messages of the director's control socket.
//!
//! The socket is a unix stream socket, [`SOCKET`] in the directory of the instance. A client sends one
//! [`Request`] as a line of JSON and reads the answer until the end of the stream: one [`Answer`] as
//! JSON, or, for [`Request::Proc`], the text of the file as it is.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The control socket's name in the directory of an instance.
pub const SOCKET: &str = "control.sock";

/// The name of the socket that speaks IPVS's generic netlink, in the same directory.
pub const IPVS_SOCKET: &str = "ipvs.sock";

/// The directory of an instance whose configuration names none.
pub const DEFAULT_DIRECTORY: &str = "/run/director";

/// The environment variable that names the directory of an instance to its clients.
pub const DIRECTORY_VARIABLE: &str = "DIRECTOR_DIRECTORY";

/// What a client asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case")]
pub enum Request {
    /// The whole state, as [`Answer::Status`].
    Status,
    /// A file that the kernel's IPVS would show under `/proc/net`, in its format.
    Proc {
        /// Which one.
        file: ProcFile,
    },
    /// The kernel's IPVS sysctls, as far as the director has them, as [`Answer::Sysctls`].
    Get {
        /// Which one, without `net.ipv4.vs.`; none: all of them.
        name: Option<String>,
    },
    /// Sets a sysctl. The answer is the value that it then has, as [`Answer::Sysctls`].
    Set {
        /// Which one, without `net.ipv4.vs.`.
        name: String,
        /// The value, written as in `/proc/sys`.
        value: String,
    },
    /// The configuration file is read again, and the director brought to it. The answer is [`Answer::Reloaded`], or
    /// [`Answer::WrongFile`], and then nothing has changed.
    Reload,
}

/// A file of IPVS under `/proc/net`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProcFile {
    /// `/proc/net/ip_vs`: services and their servers.
    IpVs,
    /// `/proc/net/ip_vs_conn`: connections.
    IpVsConn,
    /// `/proc/net/ip_vs_stats`: totals.
    IpVsStats,
    /// `/proc/net/ip_vs_stats_percpu`: the same, and those of each worker.
    IpVsStatsPercpu,
}

/// What the director answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// The request could not be carried out, and why.
    Error(String),
    /// The answer to [`Request::Status`].
    Status(Box<Status>),
    /// Sysctls by their names: the answer to [`Request::Get`] and [`Request::Set`].
    Sysctls(BTreeMap<String, Sysctl>),
    /// The answer to [`Request::Reload`].
    Reloaded(Reloaded),
    /// What is wrong with the configuration file, as the director's start prints it.
    WrongFile(String),
}

/// What reading the configuration file again has changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reloaded {
    /// The file, as the director was given it.
    pub file: String,
    /// The changes, a line each; none if the director was as the file says.
    pub changes: Vec<String>,
    /// What is not as the file says, since the kernel refused it, and why, a line each; the rest is.
    pub missing: Vec<String>,
    /// What the file probably does not mean, as the director's start prints it; empty if there is nothing.
    pub warnings: String,
}

/// The value of a sysctl.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Sysctl {
    /// A single number, as in most of them.
    Number(i32),
    /// Several numbers in one text.
    Text(String),
}

impl std::fmt::Display for Sysctl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Text(text) => text.fmt(f),
        }
    }
}

/// The state of a running director.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Status {
    /// The director's version.
    pub version: String,
    /// Seconds since its start.
    pub uptime_seconds: f64,
    /// Whether every worker runs and every port is up.
    pub forwarding: bool,
    /// Why it does not forward, if it does not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<String>,
    /// The ports, in the order of the configuration.
    pub ports: Vec<Port>,
    /// The workers, by lcore.
    pub workers: Vec<Worker>,
    /// The connection table.
    pub connections: Connections,
    /// Packets dropped, by reason; every reason is listed.
    pub drops: BTreeMap<String, u64>,
    /// The control core's loop.
    pub control: ControlCore,
    /// Where the received packets went.
    pub totals: Totals,
    /// The virtual services.
    pub services: Vec<Service>,
}

/// A port and what passed it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Port {
    /// The name from the configuration, which its kernel twin has as well.
    pub name: String,
    /// The device as configured.
    pub device: String,
    /// The DPDK driver.
    pub driver: String,
    /// The MAC address.
    pub mac: String,
    /// Whether the link is up.
    pub link_up: bool,
    /// The MTU in bytes.
    pub mtu: u32,
    /// Receive queues.
    pub rx_queues: u32,
    /// Transmit queues.
    pub tx_queues: u32,
    /// Who is on the other side, from the configuration: `clients`, `servers`, `both`.
    #[serde(default)]
    pub side: String,
    /// By which end of a packet the device chooses the receive queue: `source`, `destination`, `both`, or `none`
    /// where it does not choose.
    #[serde(default)]
    pub rss: String,
    /// Which packets it looks at, and what in them, in DPDK's words.
    #[serde(default)]
    pub rss_types: String,
    /// What the device could choose by, in the same words.
    #[serde(default)]
    pub rss_offered: String,
    /// The driver of the kernel twin, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub twin: Option<String>,
    /// Packets received from the device.
    pub rx_packets: u64,
    /// Bytes received, without the frame check sequence.
    pub rx_bytes: u64,
    /// Packets handed to the device, the kernel's and the director's own among them.
    pub tx_packets: u64,
    /// Bytes handed to the device.
    pub tx_bytes: u64,
    /// Packets received here that were dropped.
    pub drops: u64,
    /// Packets that the device itself lost for lack of buffers or speed, before the director saw them.
    pub missed: u64,
    /// Packets given to the kernel twin.
    pub to_twin: u64,
    /// Packets the kernel sent out through its twin.
    pub from_twin: u64,
}

/// A worker and what it did.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Worker {
    /// Its lcore.
    pub lcore: u32,
    /// Packets it received.
    pub rx_packets: u64,
    /// Bytes it received.
    pub rx_bytes: u64,
    /// Packets it sent on, those that other workers received and handed to it among them.
    pub tx_packets: u64,
    /// Bytes sent on.
    pub tx_bytes: u64,
    /// Packets it received that were dropped.
    pub drops: u64,
    /// Packets it received that went to a kernel twin.
    pub to_twin: u64,
    /// The queues it polls, `port:queue`.
    pub queues: Vec<String>,
}

/// The connection table.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Connections {
    /// Entries of connections over IPv4 in use, without persistence templates.
    pub active: u64,
    /// Persistence templates in use, including those that ended within the last second.
    #[serde(default)]
    pub templates: u64,
    /// How many entries there can be.
    pub capacity: u64,
    /// The same for IPv6, which has a table of its own.
    #[serde(default)]
    pub active_ipv6: u64,
    /// How many of them there can be.
    #[serde(default)]
    pub capacity_ipv6: u64,
    /// The memory of an entry: index, record and timer, for a full table.
    pub bytes_per_connection: f64,
    /// The size in bytes of the pages that the table is on (4096, 2 MiB or 1 GiB).
    pub page_size: u64,
}

/// The control core's loop: how long it took to serve the timers, the twins and the neighbours once.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ControlCore {
    /// How many turns there were since the start.
    pub turns: u64,
    /// The median of a turn.
    pub turn_microseconds_p50: u64,
    /// The time that 99 of 100 turns did not exceed.
    pub turn_microseconds_p99: u64,
    /// The longest turn.
    pub turn_microseconds_max: u64,
}

/// `received = sent + to_twin + dropped + held`, always.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Totals {
    /// Packets received on all ports.
    pub received: u64,
    /// Of these, sent on.
    pub sent: u64,
    /// Of these, given to a kernel twin.
    pub to_twin: u64,
    /// Of these, dropped for a reason.
    pub dropped: u64,
    /// Of these, in the director now: waiting for a neighbour or in a ring.
    pub held: u64,
}

/// A virtual service.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Service {
    /// `tcp`, `udp`, …; `fwm` for a firewall mark.
    pub protocol: String,
    /// `ADDRESS:PORT`, or the mark.
    pub address: String,
    /// The scheduler's name.
    pub scheduler: String,
    /// Its flags, by ipvsadm's names.
    #[serde(default)]
    pub flags: Vec<String>,
    /// Whether every UDP datagram is scheduled alone.
    #[serde(default)]
    pub one_packet: bool,
    /// How many seconds a client keeps its server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub persistent: Option<u32>,
    /// The part of a client's address that counts for that, if it is not all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub netmask: Option<String>,
    /// Its persistence engine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine: Option<String>,
    /// Whether an address of the director's stands for clients on the servers' own network.
    #[serde(default)]
    pub hairpin_snat: bool,
    /// Its real servers, newest first, the order of scheduling.
    pub servers: Vec<Server>,
}

/// A real server of a service.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Server {
    /// `ADDRESS:PORT`.
    pub address: String,
    /// Its weight; 0: no new connections.
    pub weight: u32,
    /// Connections in an active state.
    pub active: u64,
    /// Connections in any other state.
    pub inactive: u64,
    /// What `ipvsadm --stats` shows of it.
    #[serde(default)]
    pub traffic: Traffic,
}

/// Traffic since the start or since `ipvsadm -Z`; bytes are those of IP packets.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Traffic {
    /// Connections scheduled.
    pub connections: u64,
    /// Packets from clients.
    pub in_packets: u64,
    /// Packets to clients.
    pub out_packets: u64,
    /// Bytes from clients.
    pub in_bytes: u64,
    /// Bytes to clients.
    pub out_bytes: u64,
}
