//! Services and servers as the kernel keeps them, with its refusals.

use std::net::IpAddr;

use director_api::ProcFile;
use director_ipvs::{
    Answer, Daemon, Dest, DestKey, DestSpec, Errno, Info, Malformed, Request, Service, ServiceFlags,
    ServiceKey, ServiceSpec, Stats, Timeouts,
};

const SCHEDULERS: [&str; 11] = ["rr", "wrr", "lc", "wlc", "lblc", "lblcr", "dh", "sh", "sed", "nq", "mh"];

/// The tables of IPVS.
pub(crate) struct Model {
    /// Services with their servers, newest server first.
    pub(crate) services: Vec<(Service, Vec<Dest>)>,
    pub(crate) timeouts: Timeouts,
    pub(crate) daemons: Vec<Daemon>,
}

impl Default for Model {
    fn default() -> Self {
        Self {
            services: Vec::new(),
            timeouts: Timeouts { tcp: 900, tcp_fin: 120, udp: 300 },
            daemons: Vec::new(),
        }
    }
}

impl Model {
    pub(crate) fn answer(&mut self, request: &Result<Request, Malformed>) -> Answer<'static> {
        match request {
            Ok(Request::Nothing) => Answer::Done,
            Ok(Request::GetFamily) => Answer::Family,
            Ok(Request::GetInfo) => Answer::Info(Info { version: 0x0001_0201, table_size: 4096 }),
            Ok(Request::GetConfig) => Answer::Timeouts(self.timeouts),
            Ok(Request::GetServices) => {
                let services: Vec<_> = self.services.iter().map(|(service, _)| service.clone()).collect();
                Answer::Services(Box::new(services.into_iter()))
            }
            Ok(Request::GetService { service }) => match self.find(service) {
                Ok((service, _)) => Answer::Service(Box::new(service.clone())),
                Err(errno) => Answer::Refused(errno),
            },
            Ok(Request::GetDests { service }) => {
                let dests = self.find(service).map(|(_, dests)| dests.clone()).unwrap_or_default();
                Answer::Dests(Box::new(dests.into_iter()))
            }
            Ok(Request::GetDaemons) => Answer::Daemons(Box::new(self.daemons.clone().into_iter())),
            Ok(request) => match self.change(request) {
                Ok(()) => Answer::Done,
                Err(errno) => Answer::Refused(errno),
            },
            Err(malformed) => Answer::Refused(malformed.errno()),
        }
    }

    fn find(&mut self, key: &ServiceKey) -> Result<&mut (Service, Vec<Dest>), Errno> {
        self.services.iter_mut().find(|(service, _)| service.key == *key).ok_or(Errno::ESRCH)
    }

    fn change(&mut self, request: &Request) -> Result<(), Errno> {
        match request {
            Request::NewService { service, spec } => {
                if self.find(service).is_ok() {
                    return Err(Errno::EEXIST);
                }
                let service = new_service(*service, spec, ServiceFlags::default())?;
                self.services.push((service, Vec::new()));
            }
            Request::SetService { service, spec } => {
                let (old, _) = self.find(service)?;
                let stats = old.stats;
                *old = Service { stats, ..new_service(*service, spec, old.flags)? };
            }
            Request::DelService { service } => {
                self.find(service)?;
                self.services.retain(|(old, _)| old.key != *service);
            }
            Request::NewDest { service, dest, spec } => {
                let dests = &mut self.find(service)?.1;
                spec.check(service, dest)?;
                if dests.iter().any(|old| old.key == *dest) {
                    return Err(Errno::EEXIST);
                }
                if !unicast(dest.address) {
                    return Err(Errno::EINVAL);
                }
                dests.insert(0, new_dest(*dest, *spec));
            }
            Request::SetDest { service, dest, spec } => {
                let dests = &mut self.find(service)?.1;
                spec.check(service, dest)?;
                let old = dests.iter_mut().find(|old| old.key == *dest).ok_or(Errno::ENOENT)?;
                old.spec = *spec;
            }
            Request::DelDest { service, dest } => {
                let dests = &mut self.find(service)?.1;
                let at = dests.iter().position(|old| old.key == *dest).ok_or(Errno::ENOENT)?;
                dests.remove(at);
            }
            Request::Zero { service: Some(service) } => zero(self.find(service)?),
            Request::Zero { service: None } => self.services.iter_mut().for_each(zero),
            Request::Flush => self.services.clear(),
            Request::SetConfig(change) => self.timeouts = change.apply(self.timeouts),
            Request::NewDaemon(daemon) => {
                if self.daemons.iter().any(|old| old.role == daemon.role) {
                    return Err(Errno::EEXIST);
                }
                if daemon.interface.as_str().starts_with("nosuch") {
                    return Err(Errno::ENODEV);
                }
                self.daemons.push(Daemon {
                    max_length: daemon.max_length.filter(|&length| length > 0).or(Some(1472)),
                    group: daemon.group.or(Some([224, 0, 0, 81].into())),
                    port: daemon.port.filter(|&port| port > 0).or(Some(8848)),
                    ttl: daemon.ttl.filter(|&ttl| ttl > 0).or(Some(1)),
                    ..daemon.clone()
                });
            }
            Request::DelDaemon { role } => {
                let at = self.daemons.iter().position(|old| old.role == *role).ok_or(Errno::ESRCH)?;
                self.daemons.remove(at);
            }
            other => panic!("{other:?} changes nothing"),
        }
        Ok(())
    }
}

fn new_service(key: ServiceKey, spec: &ServiceSpec, flags: ServiceFlags) -> Result<Service, Errno> {
    if !SCHEDULERS.contains(&spec.scheduler.as_str()) {
        return Err(Errno::ENOENT);
    }
    if spec.persistence_engine.as_ref().is_some_and(|engine| engine.as_str() != "sip") {
        return Err(Errno::ENOENT);
    }
    Ok(Service {
        key,
        scheduler: spec.scheduler.clone(),
        persistence_engine: spec.persistence_engine.clone(),
        flags: spec.flags.apply(flags),
        timeout: spec.timeout,
        netmask: spec.netmask,
        stats: Stats::default(),
    })
}

fn new_dest(key: DestKey, spec: DestSpec) -> Dest {
    Dest { key, spec, active: 0, inactive: 0, persistent: 0, stats: Stats::default() }
}

fn zero((service, dests): &mut (Service, Vec<Dest>)) {
    service.stats = Stats::default();
    for dest in dests {
        dest.stats = Stats::default();
    }
}

fn unicast(address: IpAddr) -> bool {
    !address.is_unspecified() && !address.is_multicast()
}

/// `/proc/net/ip_vs*` with a few lines each.
pub(crate) fn proc_file(file: ProcFile) -> &'static [u8] {
    match file {
        ProcFile::IpVs => {
            b"IP Virtual Server version 1.2.1 (size=4096)\n\
              Prot LocalAddress:Port Scheduler Flags\n  \
              -> RemoteAddress:Port Forward Weight ActiveConn InActConn\n\
              TCP  C0A8123A:0050 rr  \n  \
              -> C0A80247:0050      Masq    1      0          0         \n"
        }
        ProcFile::IpVsConn => {
            b"Pro FromIP   FPrt ToIP     TPrt DestIP   DPrt State       Expires PEName PEData\n\
              TCP C0A8120A 07D1 C0A8123A 0050 C0A80247 0050 ESTABLISHED     899\n\
              UDP C0A8120A 0BB8 C0A8123A 0035 C0A80248 0035 UDP             299\n"
        }
        ProcFile::IpVsStatsPercpu => {
            b"       Total Incoming Outgoing         Incoming         Outgoing\n\
              CPU    Conns  Packets  Packets            Bytes            Bytes\n  \
              0        6       11        D              2A8              208\n"
        }
        ProcFile::IpVsStats => {
            b"   Total Incoming Outgoing         Incoming         Outgoing\n   \
              Conns  Packets  Packets            Bytes            Bytes\n       \
              6       11        D              2A8              208\n"
        }
    }
}
