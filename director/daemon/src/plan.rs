//! Works out what has to change in the control core so that it matches a configuration file.
//!
//! The file decides about everything it names: services, their servers, marks, and the timeouts and switches that it
//! sets. What it named when it was last read and no longer names is deleted or gets its default back. What LVS tools
//! added stays. The start is a plan, too: from no file to the first one, for a control core without services.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::net::Ipv4Addr;

use anyhow::{Result, ensure};
use director_config::{Config, Sysctls};
use director_engine::Control;
use director_engine::catalog::CatalogError;
use director_engine::mark::MarkRule;
use director_engine::service::{ServerSpec, ServiceKey, ServiceSpec, flag_names};
use director_engine::state::Timeouts;
use director_packet::Endpoint;

use crate::setup::{self, FileService};
use crate::sysctls::obeyed;

/// A change of a service or a server: what there is, and what there is to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Change {
    AddService(ServiceKey, ServiceSpec),
    SetService(ServiceKey, ServiceSpec, ServiceSpec),
    DeleteService(ServiceKey),
    AddServer(ServiceKey, Endpoint, ServerSpec),
    SetServer(ServiceKey, Endpoint, ServerSpec, ServerSpec),
    DeleteServer(ServiceKey, Endpoint),
}

/// All the changes of a reload.
pub(crate) struct Plan {
    timeouts: Timeouts,
    sysctls: Sysctls,
    marks: Vec<MarkRule>,
    /// Changes after which no service has fewer usable servers than before.
    coming: Vec<Change>,
    /// The others.
    going: Vec<Change>,
    /// The changes of settings, as text.
    settings: Vec<String>,
}

impl Plan {
    /// Compares `config` with `control`, whose switches are `sysctls`; `before` is the file that was last read.
    pub(crate) fn new(
        before: Option<&Config>,
        config: &Config,
        control: &Control,
        sysctls: &Sysctls,
    ) -> Result<Self> {
        let mut plan = Self {
            timeouts: *control.timeouts(),
            sysctls: *sysctls,
            marks: setup::marks(config)?,
            coming: Vec::new(),
            going: Vec::new(),
            settings: Vec::new(),
        };
        plan.set(before, config, control, sysctls);
        let old = before.map_or_else(|| Ok(Vec::new()), setup::services)?;
        plan.change_services(&old, &setup::services(config)?, control);
        let added = plan.coming.iter().filter(|change| matches!(change, Change::AddServer(..))).count();
        ensure!(added <= control.catalog.room(), "{}", CatalogError::TooManyServers);
        Ok(plan)
    }

    fn set(&mut self, before: Option<&Config>, config: &Config, control: &Control, sysctls: &Sysctls) {
        let names = |section, key: &str| {
            config.gives(section, key) || before.is_some_and(|before| before.gives(section, key))
        };
        for (key, seconds) in config.timeouts.values().filter(|(key, _)| names("timeouts", key)) {
            let Some(state) = setup::state(key) else { continue };
            let was = self.timeouts.of(state);
            if was != seconds.get() {
                self.timeouts.set(state, seconds.get());
                self.settings.push(format!("timeout {key}: {was} -> {seconds}"));
            }
        }
        self.sysctls.take_over(&config.ipvs, |name| names("ipvs", name));
        for ((name, was), (_, is)) in sysctls.values().zip(self.sysctls.values()) {
            if was != is {
                self.settings.push(format!("{name}: {was} -> {is}"));
            }
        }
        if self.marks != control.marks() {
            let (was, is) = (control.marks().len(), self.marks.len());
            self.settings.push(format!("firewall marks changed: rules {was} -> {is}"));
        }
    }

    fn change_services(&mut self, old: &[FileService], new: &[FileService], control: &Control) {
        let catalog = &control.catalog;
        let before: HashMap<_, _> = old.iter().map(|service| (number(service.key), service)).collect();
        for FileService { key, spec, servers } in new {
            let Some(service) = catalog.service(*key) else {
                self.coming.push(Change::AddService(*key, *spec));
                self.coming
                    .extend(servers.iter().map(|(address, spec)| Change::AddServer(*key, *address, *spec)));
                continue;
            };
            if service.spec != *spec {
                self.coming.push(Change::SetService(*key, service.spec, *spec));
            }
            let running: HashMap<_, _> =
                catalog.servers(service).map(|server| (server.address, server.spec)).collect();
            for (address, spec) in servers {
                match running.get(address) {
                    None => self.coming.push(Change::AddServer(*key, *address, *spec)),
                    Some(was) if was == spec => {}
                    Some(was) => {
                        let change = Change::SetServer(*key, *address, *was, *spec);
                        if takes_away(was, spec) { &mut self.going } else { &mut self.coming }.push(change);
                    }
                }
            }
            let named: HashSet<_> = servers.iter().map(|(address, _)| *address).collect();
            let no_more = before.get(&number(*key)).into_iter().flat_map(|service| &service.servers);
            let no_more = no_more.map(|(address, _)| *address);
            self.going.extend(
                no_more
                    .filter(|address| !named.contains(address) && running.contains_key(address))
                    .map(|address| Change::DeleteServer(*key, address)),
            );
        }
        let named: HashSet<_> = new.iter().map(|service| number(service.key)).collect();
        let no_more = old.iter().map(|service| service.key);
        let no_more = no_more.filter(|key| !named.contains(&number(*key)) && catalog.service(*key).is_some());
        self.going.extend(no_more.map(Change::DeleteService));
    }

    /// The new switches.
    pub(crate) fn sysctls(&self) -> Sysctls {
        self.sysctls
    }

    /// The changes, as text.
    pub(crate) fn lines(&self) -> Vec<String> {
        let changes = self.coming.iter().chain(&self.going).map(Change::to_string);
        self.settings.iter().cloned().chain(changes).collect()
    }

    /// Carries the plan out. Workers first see everything that is added or changed, then everything that is deleted:
    /// a service whose servers are replaced is never without one.
    pub(crate) fn apply(self, control: &mut Control) -> Result<(), CatalogError> {
        control.prepare(self.timeouts, obeyed(&self.sysctls), self.marks);
        for change in self.coming {
            change.apply(control)?;
        }
        control.publish();
        if self.going.is_empty() {
            return Ok(());
        }
        for change in self.going {
            change.apply(control)?;
        }
        control.publish();
        control.purge();
        Ok(())
    }
}

/// A key as something to look up.
fn number(key: ServiceKey) -> (u8, Endpoint) {
    (key.protocol.number(), key.address)
}

/// Whether a change may put a server out of use that was in use before.
fn takes_away(was: &ServerSpec, is: &ServerSpec) -> bool {
    is.weight < was.weight || is.upper != 0 && (was.upper == 0 || is.upper < was.upper)
}

impl Change {
    fn apply(self, control: &mut Control) -> Result<(), CatalogError> {
        let catalog = &mut control.catalog;
        match self {
            Self::AddService(key, spec) => catalog.add_service(key, spec),
            Self::SetService(key, _, spec) => catalog.set_service(key, spec),
            Self::DeleteService(key) => catalog.delete_service(key),
            Self::AddServer(key, address, spec) => catalog.add_server(key, address, spec),
            Self::SetServer(key, address, _, spec) => catalog.set_server(key, address, spec),
            Self::DeleteServer(key, address) => catalog.delete_server(key, address).map(|_| ()),
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AddService(key, spec) => write!(f, "service {key} added: {}", spec.scheduler.name()),
            Self::SetService(key, was, is) => {
                let differences = differences(service_properties(*key, was), service_properties(*key, is));
                write!(f, "service {key} changed: {differences}")
            }
            Self::DeleteService(key) => write!(f, "service {key} deleted"),
            Self::AddServer(key, address, spec) => {
                write!(f, "server {address} of {key} added: weight {}", spec.weight)
            }
            Self::SetServer(key, address, was, is) => {
                let differences = differences(server_properties(was), server_properties(is));
                write!(f, "server {address} of {key} changed: {differences}")
            }
            Self::DeleteServer(key, address) => write!(f, "server {address} of {key} deleted"),
        }
    }
}

/// A key of the file, and its value as `ipvsadm -L` shows it.
type Property = (&'static str, String);

fn service_properties(key: ServiceKey, spec: &ServiceSpec) -> [Property; 7] {
    let none = || "none".to_owned();
    let netmask = |netmask: u32| {
        if key.address.is_v6() { netmask.to_string() } else { Ipv4Addr::from_bits(netmask).to_string() }
    };
    let flags: Vec<_> = flag_names(spec.scheduler, spec.flags).collect();
    [
        ("scheduler", spec.scheduler.name().to_owned()),
        ("flags", if flags.is_empty() { none() } else { flags.join(",") }),
        ("persistent", spec.persistence.map_or_else(none, |persistence| persistence.timeout.to_string())),
        ("netmask", spec.persistence.map_or_else(none, |persistence| netmask(persistence.netmask))),
        ("persistence_engine", spec.engine.map_or_else(none, |engine| engine.name().to_owned())),
        ("one_packet", spec.one_packet.to_string()),
        ("hairpin_snat", spec.hairpin_snat.to_string()),
    ]
}

fn server_properties(spec: &ServerSpec) -> [Property; 4] {
    [
        ("forward", spec.forward.name().to_owned()),
        ("weight", spec.weight.to_string()),
        ("upper_threshold", spec.upper.to_string()),
        ("lower_threshold", spec.lower.to_string()),
    ]
}

fn differences<const N: usize>(was: [Property; N], is: [Property; N]) -> String {
    let pairs = was.into_iter().zip(is).filter(|(was, is)| was != is);
    let shown: Vec<_> = pairs.map(|((key, was), (_, is))| format!("{key} {was} -> {is}")).collect();
    shown.join(", ")
}

#[cfg(test)]
mod tests;
