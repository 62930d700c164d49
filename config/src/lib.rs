//! The configuration file as types.
//!
//! [`Config::load`] reads a TOML file and returns either types that hold only legal values, or [`Errors`]: everything
//! that is wrong with the file, each with its place and with what would be right. A key that nobody knows is an
//! error, wherever it is, and so is everything that the director would have to ignore.
//!
//! One module a section: [`dpdk`], [`control`], [`port`], [`route`], [`connections`], [`timeouts`],
//! [`ipvs`], [`mark`] and [`service`].

#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::io::Read;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde::Serialize;
use toml::de::DeTable;

pub mod address;
mod check;
pub mod connections;
pub mod control;
pub mod device;
pub mod dpdk;
mod fixed;
mod invalid;
pub mod ipvs;
pub mod lcores;
pub mod mark;
pub mod name;
pub mod port;
mod problem;
mod reader;
pub mod route;
pub mod service;
pub mod timeouts;

pub use address::{InterfaceAddress, MacAddress, Network};
pub use connections::{Connections, Pages};
pub use control::{Control, SocketDirectory};
pub use device::Device;
pub use dpdk::{Dpdk, Idle};
pub use invalid::Invalid;
pub use ipvs::{Defense, Setting, Sysctls};
pub use lcores::{Lcore, Lcores};
pub use mark::Mark;
pub use name::InterfaceName;
pub use port::{Port, Side};
pub use problem::{Errors, Problem, Severity, Warnings};
pub use route::{Neighbor, Route};
pub use service::{Forward, Protocol, Scheduler, SchedulerFlag, Server, Service};
pub use timeouts::{Seconds, Timeouts};

use port::Ports;
use problem::Log;
use reader::Section;

/// A file that is longer than this was given by mistake.
const LONGEST_FILE: u64 = 16 << 20;

/// A valid configuration.
///
/// Two configurations are equal if they mean the same, wherever their files say it. [`Config::to_toml`] writes one as
/// a file again.
#[derive(Clone, Debug, Serialize)]
pub struct Config {
    /// `[dpdk]`: what EAL is started with.
    pub dpdk: Dpdk,
    /// `[control]`: where the sockets live.
    pub control: Control,
    /// `[connections]`: the connection table.
    pub connections: Connections,
    /// `[timeouts]`: how long connections are kept.
    pub timeouts: Timeouts,
    /// `[ipvs]`: the kernel's sysctls.
    pub ipvs: Sysctls,
    /// `[[port]]`: at least one.
    #[serde(rename = "port")]
    pub ports: Vec<Port>,
    /// `[[neighbor]]`: static neighbours.
    #[serde(rename = "neighbor", skip_serializing_if = "Vec::is_empty")]
    pub neighbors: Vec<Neighbor>,
    /// `[[route]]`: static routes.
    #[serde(rename = "route", skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<Route>,
    /// `[[mark]]`: firewall marks of new connections.
    #[serde(rename = "mark", skip_serializing_if = "Vec::is_empty")]
    pub marks: Vec<Mark>,
    /// `[[service]]`: virtual services.
    #[serde(rename = "service", skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<Service>,
    #[serde(skip)]
    warnings: Warnings,
    /// Sections and keys of settings that the file gives, whatever their values.
    #[serde(skip)]
    given: BTreeSet<(&'static str, String)>,
    #[serde(skip)]
    file: PathBuf,
}

impl PartialEq for Config {
    fn eq(&self, other: &Self) -> bool {
        let Self {
            dpdk,
            control,
            connections,
            timeouts,
            ipvs,
            ports,
            neighbors,
            routes,
            marks,
            services,
            warnings: _,
            given: _,
            file: _,
        } = self;
        *dpdk == other.dpdk
            && *control == other.control
            && *connections == other.connections
            && *timeouts == other.timeouts
            && *ipvs == other.ipvs
            && *ports == other.ports
            && *neighbors == other.neighbors
            && *routes == other.routes
            && *marks == other.marks
            && *services == other.services
    }
}

impl Eq for Config {}

impl Config {
    /// Reads a file.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with it; or why it could not be read.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, Errors> {
        Self::load_for(path.as_ref(), None)
    }

    /// Reads a file for a director that runs with another configuration.
    ///
    /// # Errors
    ///
    /// As of [`Self::load`]; and if the director could be started with the file, every key that cannot change while
    /// it runs and that has another value.
    pub fn load_again(path: impl AsRef<Path>, running: &Self) -> Result<Self, Errors> {
        Self::load_for(path.as_ref(), Some(running))
    }

    fn load_for(path: &Path, running: Option<&Self>) -> Result<Self, Errors> {
        let name = path.display().to_string();
        // At the start it may be a shell's pipe. Nobody writes into that again, so reading it would wait for ever.
        if running.is_some() && std::fs::metadata(path).is_ok_and(|file| !file.is_file()) {
            return Err(Errors::unreadable(&name, format!("{name} is not a regular file"), None));
        }
        let mut bytes = Vec::new();
        let read =
            std::fs::File::open(path).and_then(|file| file.take(LONGEST_FILE + 1).read_to_end(&mut bytes));
        if let Err(error) = read {
            return Err(Errors::unreadable(&name, format!("cannot read {name}: {error}"), None));
        }
        if bytes.len() as u64 > LONGEST_FILE {
            let help = format!("a configuration file has at most {LONGEST_FILE} bytes");
            return Err(Errors::unreadable(&name, format!("{name} is too long"), Some(help)));
        }
        match std::str::from_utf8(&bytes) {
            Ok(text) => Ok(Self { file: path.to_owned(), ..Self::parse_for(&name, text, running)? }),
            Err(error) => {
                let at = error.valid_up_to();
                let text = String::from_utf8_lossy(&bytes);
                let log = Log::new(&name, &text);
                log.error(&(at..at + 1), "this is not UTF-8", "TOML files are UTF-8 text: save it as such");
                log.finish()
                    .and_then(|_| Err(Errors::unreadable(&name, format!("{name} is not UTF-8"), None)))
            }
        }
    }

    /// Reads a text. `name` is what errors call the file.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with it. If it is not TOML, only that.
    pub fn parse(name: &str, text: &str) -> Result<Self, Errors> {
        Self::parse_for(name, text, None)
    }

    /// Reads a text for a director that runs with another configuration, as [`Self::load_again`] does.
    ///
    /// # Errors
    ///
    /// Likewise.
    pub fn parse_again(name: &str, text: &str, running: &Self) -> Result<Self, Errors> {
        Self::parse_for(name, text, Some(running))
    }

    fn parse_for(name: &str, text: &str, running: Option<&Self>) -> Result<Self, Errors> {
        let log = Log::new(name, text);
        let config = document(text, &log).and_then(|table| {
            let config = Self::read(Section::document(&table, &log))?;
            if let Some(running) = running.filter(|_| log.errors() == 0) {
                fixed::refuse(running, &config, &Section::document(&table, &log));
            }
            Some(config)
        });
        let warnings = log.finish()?;
        match config {
            Some(config) => Ok(Self { warnings, ..config }),
            // Unreachable, as long as nothing is left out without an error.
            None => Err(Errors::unreadable(name, format!("{name} holds no configuration"), None)),
        }
    }

    fn read(document: Section<'_>) -> Option<Self> {
        let log = document.log;
        let dpdk = Dpdk::read(document.table("dpdk", "[dpdk]"));
        let control = Control::read(document.table("control", "[control]"));
        let ports = Ports::read(&document);
        let neighbors = Neighbor::read_all(&document, &ports);
        let routes = Route::read_all(&document, &ports);
        let connections = Connections::read(document.table("connections", "[connections]"));
        let (timeouts, ipvs) = (document.table("timeouts", "[timeouts]"), document.table("ipvs", "[ipvs]"));
        let keys = |of, section: &Section<'_>| section.keys().map(move |key| (of, key.to_owned())).collect();
        let mut given: BTreeSet<_> = keys("timeouts", &timeouts);
        given.append(&mut keys("ipvs", &ipvs));
        let (timeouts, ipvs) = (Timeouts::read(timeouts), Sysctls::read(ipvs));
        let marks = Mark::read_all(&document);
        let located = Service::read_all(&document);
        document.finish();
        if log.errors() > 0 {
            return None;
        }
        let services = located.iter().map(|located| located.service.clone()).collect();
        let warnings = Warnings::default();
        let config = Self {
            dpdk: dpdk?,
            control,
            connections,
            timeouts,
            ipvs,
            ports: ports.list,
            neighbors,
            routes,
            marks,
            services,
            warnings,
            given,
            file: PathBuf::new(),
        };
        check::services(&config, &located, log);
        Some(config)
    }

    /// Parts of the file that probably do not do what its writer wants.
    pub fn warnings(&self) -> &Warnings {
        &self.warnings
    }

    /// The file that it was [loaded](Self::load) from; empty if it was not.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Whether the file sets a key of `[timeouts]` or `[ipvs]`, even to its default.
    pub fn gives(&self, section: &'static str, key: &str) -> bool {
        self.given.contains(&(section, key.to_owned()))
    }

    /// The port of this name.
    pub fn port(&self, name: &str) -> Option<&Port> {
        self.ports.iter().find(|port| port.name == *name)
    }

    /// The port whose network an address is in; of several, the one with the longest prefix.
    pub fn port_of(&self, address: IpAddr) -> Option<&Port> {
        route::port_of(&self.ports, address)
    }

    /// The configuration as a file with every value written out; [`Config::parse`] reads it back.
    ///
    /// # Errors
    ///
    /// None is known: every value has a form in TOML.
    pub fn to_toml(&self) -> Result<String, toml::ser::Error> {
        toml::to_string(self)
    }
}

/// The TOML of a text. A key that is there twice is an error, but does not stop the reading: the first one is used.
fn document<'t>(text: &'t str, log: &Log<'t>) -> Option<DeTable<'t>> {
    let (table, errors) = DeTable::parse_recoverable(text);
    let (twice, unreadable): (Vec<_>, Vec<_>) =
        errors.into_iter().partition(|error| error.message() == "duplicate key");
    for error in &unreadable {
        let help = match error.message() {
            message if UNQUOTED.iter().any(|begin| message.starts_with(begin)) => {
                "text stands in quotes: name = \"front\""
            }
            _ => "the format is explained at https://toml.io",
        };
        log.error(&error.span().unwrap_or(0..0), format!("this is no TOML: {}", error.message()), help);
    }
    if !unreadable.is_empty() {
        return None;
    }
    for error in &twice {
        let at = error.span().unwrap_or(0..0);
        let key = text.get(at.clone()).unwrap_or_default();
        log.error(&at, format!("`{key}` is given twice"), "remove one of the two");
    }
    Some(table.into_inner())
}

/// How the parser's message begins when it meets text without quotes.
const UNQUOTED: [&str; 2] = ["string values must be quoted", "invalid boolean"];
