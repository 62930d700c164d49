//! IPVS's generic netlink, as the director answers it: requests to changes of the catalog, and back.

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;

use director_engine::Control;
use director_engine::catalog::{CatalogError, ServerRow, Service as CatalogService};
use director_engine::estimator::Rates;
use director_engine::servers::Traffic;
use director_engine::service::{
    Engine, Forward as ForwardTo, Persistence, Protocol, SchedulerKind, ServerSpec, ServiceKey as Key,
    ServiceSpec as Spec,
};
use director_engine::sources::Source;
use director_engine::state::{State, Timeouts as StateTimeouts};
use director_ipvs::{
    Answer, Dest, DestKey, DestSpec, Errno, Family, Forward, Info, Name, Netmask, Request, Service,
    ServiceFlags, ServiceKey, ServiceSpec, Stats, Timeouts, Tunnel, TunnelKind,
};
use director_packet::{Address, Endpoint};

use crate::director::Director;

/// What `ipvsadm` shows as "IP Virtual Server version 1.2.1 (size=4096)".
const INFO: Info = Info { version: 0x01_02_01, table_size: 4096 };

/// The flags of the scheduler, which are kept and shown.
const SCHEDULER_FLAGS: u32 = ServiceFlags::SCHED1.0 | ServiceFlags::SCHED2.0 | ServiceFlags::SCHED3.0;

/// Carries a request out. Its changes are in force on return, unless they may come `later`. A listing reads from the
/// director while it goes on, not all at once.
pub(crate) fn answer(director: &Rc<Director>, request: Request, later: bool) -> Answer<'static> {
    let control = &mut director.state.borrow_mut().control;
    let answer = match request {
        Request::Nothing => Answer::Done,
        Request::GetFamily => Answer::Family,
        Request::GetInfo => Answer::Info(INFO),
        Request::GetConfig => Answer::Timeouts(timeouts(control)),
        Request::GetServices => Answer::Services(Box::new(services(director.clone()))),
        Request::GetService { service } => match find(control, &service)
            .and_then(|service| show_service(control, service).ok_or(Errno::EINVAL))
        {
            Ok(service) => Answer::Service(Box::new(service)),
            Err(errno) => Answer::Refused(errno),
        },
        Request::GetDests { service } => match known_key(&service) {
            Ok(key) => Answer::Dests(Box::new(servers(director.clone(), key))),
            Err(_) => Answer::Dests(Box::new(std::iter::empty())),
        },
        Request::GetDaemons => Answer::Daemons(Box::new(std::iter::empty())),
        change => match carry_out(control, change) {
            Ok(()) => Answer::Done,
            Err(errno) => Answer::Refused(errno),
        },
    };
    if !later {
        control.settle();
    }
    answer
}

/// All services, each as it is at the time it is listed.
fn services(director: Rc<Director>) -> impl Iterator<Item = Service> {
    let mut last = None;
    std::iter::from_fn(move || {
        let control = &director.state.borrow().control;
        control.catalog.services_after(last).find_map(|service| {
            last = Some(service.key);
            show_service(control, service)
        })
    })
}

/// All servers of a service, likewise; none if the service no longer exists.
fn servers(director: Rc<Director>, key: Key) -> impl Iterator<Item = Dest> {
    let mut last = None;
    std::iter::from_fn(move || {
        let control = &director.state.borrow().control;
        let (number, row) = control.catalog.server_after(control.catalog.service(key)?, last)?;
        last = Some(number);
        Some(show_server(&row))
    })
}

/// Carries out a request that changes something.
fn carry_out(control: &mut Control, request: Request) -> Result<(), Errno> {
    match request {
        Request::NewService { service, spec } => {
            let key = new_key(&service)?;
            if control.catalog.service(key).is_some() {
                return Err(Errno::EEXIST);
            }
            control.catalog.add_service(key, service_spec(&spec, ServiceFlags::default())?).map_err(errno)?;
            control.note_change();
        }
        Request::SetService { service, spec } => {
            let key = known_key(&service)?;
            let before = control.catalog.service(key).ok_or(Errno::ESRCH)?.spec;
            // LVS tools do not know `hairpin_snat`, so it stays as it is.
            let new = Spec { hairpin_snat: before.hairpin_snat, ..service_spec(&spec, flags(&before))? };
            if new.one_packet && new.hairpin_snat {
                tracing::warn!("refused: one-packet scheduling of {key}, which has `hairpin_snat`");
                return Err(Errno::EINVAL);
            }
            control.catalog.set_service(key, new).map_err(errno)?;
            control.note_change();
        }
        Request::DelService { service } => {
            control.catalog.delete_service(known_key(&service)?).map_err(errno)?;
            control.note_deletion();
        }
        Request::NewDest { service, dest, spec } => {
            let key = existing(control, &service)?;
            spec.check(&service, &dest)?;
            let address = server_address(&dest);
            if has_server(control, key, address) {
                return Err(Errno::EEXIST);
            }
            if !may_be_server(control, address) {
                return Err(Errno::EINVAL);
            }
            control.catalog.add_server(key, address, server_spec(&spec, &service, &dest)?).map_err(errno)?;
            control.note_change();
        }
        Request::SetDest { service, dest, spec } => {
            let key = existing(control, &service)?;
            spec.check(&service, &dest)?;
            let address = server_address(&dest);
            if !has_server(control, key, address) {
                return Err(Errno::ENOENT);
            }
            control.catalog.set_server(key, address, server_spec(&spec, &service, &dest)?).map_err(errno)?;
            control.note_change();
        }
        Request::DelDest { service, dest } => {
            let key = existing(control, &service)?;
            let address = server_address(&dest);
            control.catalog.delete_server(key, address).map_err(errno)?;
            control.note_deletion();
        }
        Request::SetConfig(change) => {
            let new = change.apply(timeouts(control));
            let mut all: StateTimeouts = *control.timeouts();
            all.set(State::Established, new.tcp);
            all.set(State::FinWait, new.tcp_fin);
            all.set(State::Udp, new.udp);
            control.set_timeouts(all);
        }
        Request::Zero { service: None } => control.catalog.zero_all(),
        Request::Zero { service: Some(service) } => {
            control.catalog.zero(known_key(&service)?).map_err(errno)?;
        }
        Request::Flush => control.flush(),
        Request::DelDaemon { .. } => return Err(Errno::ESRCH),
        Request::NewDaemon(_) => {
            tracing::warn!("refused: there is no connection synchronisation daemon");
            return Err(Errno::EOPNOTSUPP);
        }
        _ => return Err(Errno::EINVAL),
    }
    Ok(())
}

/// The key of a service to be added. A service that is not supported is refused with a message.
fn new_key(key: &ServiceKey) -> Result<Key, Errno> {
    if let ServiceKey::Address { protocol, .. } = key
        && protocol_of(*protocol).is_none()
    {
        tracing::warn!("refused: a virtual service of IP protocol {protocol}");
        return Err(Errno::EPROTONOSUPPORT);
    }
    known_key(key)
}

fn protocol_of(number: u16) -> Option<Protocol> {
    Protocol::from_number(u8::try_from(number).ok()?)
}

/// The key of a service that may exist; one that cannot exist is not found.
fn known_key(key: &ServiceKey) -> Result<Key, Errno> {
    match *key {
        ServiceKey::Address { protocol, address, port } => {
            let protocol = protocol_of(protocol).ok_or(Errno::ESRCH)?;
            Ok(Key { protocol, address: Endpoint::of(address.into(), port) })
        }
        ServiceKey::Mark { family: Family::Inet, mark } => Ok(Key::of_mark(mark)),
        ServiceKey::Mark { family: Family::Inet6, mark } => Ok(Key::of_mark_v6(mark)),
    }
}

fn existing(control: &Control, key: &ServiceKey) -> Result<Key, Errno> {
    Ok(find(control, key)?.key)
}

fn find<'a>(control: &'a Control, key: &ServiceKey) -> Result<&'a CatalogService, Errno> {
    control.catalog.service(known_key(key)?).ok_or(Errno::ESRCH)
}

fn has_server(control: &Control, key: Key, address: Endpoint) -> bool {
    control.catalog.service(key).is_some_and(|service| service.has_server(address))
}

fn service_spec(spec: &ServiceSpec, before: ServiceFlags) -> Result<Spec, Errno> {
    let scheduler = SchedulerKind::from_name(spec.scheduler.as_str()).ok_or(Errno::ENOENT)?;
    let engine =
        spec.persistence_engine.as_ref().map(|name| Engine::from_name(name.as_str()).ok_or(Errno::ENOENT));
    let engine = engine.transpose()?;
    let flags = spec.flags.apply(before);
    let netmask = match spec.netmask {
        Netmask::Inet(mask) => mask.into(),
        // As in the kernel.
        Netmask::Inet6(length @ 1..=u128::BITS) => length,
        Netmask::Inet6(_) => return Err(Errno::EINVAL),
    };
    let persistence = Persistence { timeout: spec.timeout, netmask };
    let persistence = flags.contains(ServiceFlags::PERSISTENT).then_some(persistence);
    let one_packet = flags.contains(ServiceFlags::ONE_PACKET);
    let hairpin_snat = false;
    Ok(Spec { scheduler, flags: flags.0 & SCHEDULER_FLAGS, persistence, engine, one_packet, hairpin_snat })
}

// No timeout is cut off.
const _: () = assert!(director_ipvs::MAX_TIMEOUT == StateTimeouts::MAX);

/// The flags of a service, as clients set and see them.
fn flags(spec: &Spec) -> ServiceFlags {
    let persistent = if spec.persistence.is_some() { ServiceFlags::PERSISTENT.0 } else { 0 };
    let one_packet = if spec.one_packet { ServiceFlags::ONE_PACKET.0 } else { 0 };
    ServiceFlags(spec.flags | persistent | one_packet)
}

fn server_spec(spec: &DestSpec, service: &ServiceKey, dest: &DestKey) -> Result<ServerSpec, Errno> {
    let forward = match spec.forward {
        Forward::Masquerade => ForwardTo::Masquerading,
        Forward::DirectRoute => ForwardTo::DirectRouting,
        Forward::Tunnel if spec.tunnel.kind != TunnelKind::Ipip => {
            tracing::warn!("refused: a real server in a tunnel other than ipip, {:?}", spec.tunnel.kind);
            return Err(Errno::EPROTONOSUPPORT);
        }
        Forward::Tunnel if (service.family() == Family::Inet6) != dest.address.is_ipv6() => {
            tracing::warn!("refused: a real server in a tunnel of the other family, {}", dest.address);
            return Err(Errno::EAFNOSUPPORT);
        }
        Forward::Tunnel => ForwardTo::Tunnelling,
        Forward::Local | Forward::Bypass => {
            tracing::warn!("refused: a real server by the forwarding method {:?}", spec.forward);
            return Err(Errno::EINVAL);
        }
    };
    Ok(ServerSpec {
        forward,
        weight: u32::try_from(spec.weight).map_err(|_| Errno::ERANGE)?,
        upper: spec.upper_threshold,
        lower: spec.lower_threshold,
    })
}

fn server_address(key: &DestKey) -> Endpoint {
    Endpoint::of(key.address.into(), key.port)
}

/// The kernel takes unicast addresses, but no link-local ones of IPv6.
fn may_be_server(control: &Control, server: Endpoint) -> bool {
    match server.address() {
        Address::V4(address) => {
            let is_broadcast = |source: &Source| source.is_broadcast(server.address());
            // Multicast, and the broadcast addresses 255.255.255.255 and 127.255.255.255.
            let is_group = address >> 28 == 0xe || [u32::MAX, 0x7fff_ffff].contains(&address);
            address != 0 && !is_group && !control.network().sources.iter().any(is_broadcast)
        }
        Address::V6(address) => {
            let is_mapped = address >> 32 == 0xffff;
            address != 0 && address >> 120 != 0xff && address >> 118 != 0xfe80 >> 6 && !is_mapped
        }
    }
}

fn errno(error: CatalogError) -> Errno {
    match error {
        CatalogError::ServiceExists | CatalogError::ServerExists => Errno::EEXIST,
        CatalogError::NoService => Errno::ESRCH,
        CatalogError::NoServer => Errno::ENOENT,
        CatalogError::Thresholds => Errno::ERANGE,
        CatalogError::TooManyServers => Errno::ENOMEM,
    }
}

fn timeouts(control: &Control) -> Timeouts {
    let all = control.timeouts();
    Timeouts { tcp: all.of(State::Established), tcp_fin: all.of(State::FinWait), udp: all.of(State::Udp) }
}

fn address_and_port(end: Endpoint) -> (IpAddr, u16) {
    (end.address().into(), end.port())
}

/// None only if the name of a scheduler were not valid in a message.
fn show_service(control: &Control, service: &CatalogService) -> Option<Service> {
    let key = match service.key.mark() {
        Some(mark) => ServiceKey::Mark { family: Family::of(service.key.address.address().into()), mark },
        None => {
            let (address, port) = address_and_port(service.key.address);
            ServiceKey::Address { protocol: service.key.protocol.number().into(), address, port }
        }
    };
    let (traffic, rates) = control.catalog.statistics(service);
    let whole = service.key.whole_netmask();
    let netmask = service.spec.persistence.map_or(whole, |persistence| persistence.netmask);
    Some(Service {
        key,
        scheduler: Name::new(service.spec.scheduler.name()).ok()?,
        persistence_engine: service.spec.engine.and_then(|engine| Name::new(engine.name()).ok()),
        flags: flags(&service.spec) | ServiceFlags::HASHED,
        timeout: service.spec.persistence.map_or(0, |persistence| persistence.timeout),
        netmask: if service.key.address.is_v6() {
            Netmask::Inet6(netmask)
        } else {
            Netmask::Inet(Ipv4Addr::from_bits(netmask))
        },
        stats: show_stats(&traffic, &rates),
    })
}

fn show_server(row: &ServerRow) -> Dest {
    let (address, port) = address_and_port(row.address);
    Dest {
        key: DestKey { address, port },
        spec: DestSpec {
            forward: match row.spec.forward {
                ForwardTo::Masquerading => Forward::Masquerade,
                ForwardTo::DirectRouting => Forward::DirectRoute,
                ForwardTo::Tunnelling => Forward::Tunnel,
            },
            // It was received as an i32.
            weight: i32::try_from(row.spec.weight).unwrap_or(i32::MAX),
            upper_threshold: row.spec.upper,
            lower_threshold: row.spec.lower,
            tunnel: Tunnel::default(),
        },
        active: row.load.active,
        inactive: row.load.inactive,
        persistent: row.load.persistent,
        stats: show_stats(&row.traffic, &row.rates),
    }
}

fn show_stats(traffic: &Traffic, rates: &Rates) -> Stats {
    Stats {
        connections: traffic.connections,
        in_packets: traffic.in_packets,
        out_packets: traffic.out_packets,
        in_bytes: traffic.in_bytes,
        out_bytes: traffic.out_bytes,
        connection_rate: rates.connections,
        in_packet_rate: rates.in_packets,
        out_packet_rate: rates.out_packets,
        in_byte_rate: rates.in_bytes,
        out_byte_rate: rates.out_bytes,
    }
}
