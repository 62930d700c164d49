//! Makes the control core and the file's services from the configuration.

use std::num::NonZeroU32;

use anyhow::{Context, Result};
use director_config::service::{Family, Netmask, Vip};
use director_config::{Config, Network, SchedulerFlag, Service};
use director_engine::mark::{self, MarkRule};
use director_engine::service::{
    Engine, FALLBACK, Forward, PORT, Persistence, Protocol, SchedulerKind, ServerSpec, ServiceKey,
    ServiceSpec,
};
use director_engine::state::State;
use director_engine::{Control, Options, Pages, Worker};
use director_packet::Endpoint;

use crate::plan::Plan;

/// The control core and its workers, as the configuration says.
pub(crate) fn control(config: &Config, workers: usize) -> Result<(Control, Vec<Worker>)> {
    let mut options = Options::new(config.connections.capacity.get(), workers);
    options.pages = match config.connections.pages {
        director_config::Pages::Auto => Pages::Auto,
        director_config::Pages::Size4K => Pages::Base,
        director_config::Pages::Size2M => Pages::Huge2M,
        director_config::Pages::Size1G => Pages::Huge1G,
    };
    // Memory for IPv6 is reserved only if somebody asks for it; otherwise it costs nothing until it is used.
    let v6 = match config.connections.capacity_ipv6 {
        Some(capacity) => Options { capacity: capacity.get(), ..options.clone() },
        None => Options { pages: Pages::Unreserved, ..options.clone() },
    };
    let (mut control, workers) = Control::with_v6(&options, &v6, config.connections.templates.get())
        .with_context(|| {
            format!(
                "no memory for {} connections over IPv4 and {} over IPv6 ([connections] capacity, capacity_ipv6)",
                options.capacity, v6.capacity
            )
        })?;
    let sysctls = config.ipvs;
    Plan::new(None, config, &control, &sysctls)?.apply(&mut control)?;
    Ok((control, workers))
}

/// A service of the file, in the engine's types.
pub(crate) struct FileService {
    pub(crate) key: ServiceKey,
    pub(crate) spec: ServiceSpec,
    /// In the order of the file.
    pub(crate) servers: Vec<(Endpoint, ServerSpec)>,
}

/// The services of the file, in its order.
pub(crate) fn services(config: &Config) -> Result<Vec<FileService>> {
    config.services.iter().map(service).collect()
}

fn service(service: &Service) -> Result<FileService> {
    let key = match service.vip {
        Vip::Address { protocol, address } => ServiceKey {
            protocol: Protocol::from_number(protocol.number()).context("an unknown protocol")?,
            address: address.get().into(),
        },
        Vip::Mark { mark, family } => {
            let mark = NonZeroU32::new(mark.get()).context("the mark 0")?;
            if family == Family::Ipv6 { ServiceKey::of_mark_v6(mark) } else { ServiceKey::of_mark(mark) }
        }
    };
    let scheduler = SchedulerKind::from_name(service.scheduler.name()).context("an unknown scheduler")?;
    let flags = service.flags.iter().map(|flag| match flag {
        SchedulerFlag::ShFallback | SchedulerFlag::MhFallback => FALLBACK,
        SchedulerFlag::ShPort | SchedulerFlag::MhPort => PORT,
    });
    let flags = flags.fold(0, |all, flag| all | flag);
    let persistence = service.persistent.map(|timeout| Persistence {
        timeout: timeout.get(),
        netmask: match service.netmask {
            Some(Netmask::V4(mask)) => mask.into(),
            Some(Netmask::V6(length)) => length.get().into(),
            None => key.whole_netmask(),
        },
    });
    let engine = service.persistence_engine.and_then(|engine| Engine::from_name(engine.name()));
    let (one_packet, hairpin_snat) = (service.one_packet, service.hairpin_snat);
    let servers = service.servers.iter().map(|server| {
        let spec = ServerSpec {
            forward: forward(server.forward),
            weight: server.weight.get(),
            upper: server.thresholds.upper(),
            lower: server.thresholds.lower(),
        };
        (server.address.get().into(), spec)
    });
    let spec = ServiceSpec { scheduler, flags, persistence, engine, one_packet, hairpin_snat };
    Ok(FileService { key, spec, servers: servers.collect() })
}

/// A rule for each range of ports, in the order of the file.
pub(crate) fn marks(config: &Config) -> Result<Vec<MarkRule>> {
    let any_port = [MarkRule::ANY_PORT];
    let mut rules = Vec::new();
    for rule in &config.marks {
        let mark = NonZeroU32::new(rule.mark.get()).context("the mark 0")?;
        let protocol = rule.protocol.map(director_config::Protocol::number);
        let (source, destination) =
            (rule.source.as_ref().map(network), rule.destination.as_ref().map(network));
        for &ports in rule.ports.as_ref().map_or(&any_port[..], |ports| ports.ranges()) {
            rules.push(MarkRule { protocol, source, destination, ports, mark });
        }
    }
    Ok(rules)
}

fn network(network: &Network) -> mark::Network {
    mark::Network::of((network.address().into(), network.prefix_len()))
}

fn forward(forward: director_config::Forward) -> Forward {
    match forward {
        director_config::Forward::Masquerading => Forward::Masquerading,
        director_config::Forward::Direct => Forward::DirectRouting,
        director_config::Forward::Tunnel => Forward::Tunnelling,
    }
}

/// The state to which a key of `[timeouts]` belongs.
pub(crate) fn state(key: &str) -> Option<State> {
    Some(match key {
        "none" => State::None,
        "tcp" => State::Established,
        "syn_sent" => State::SynSent,
        "syn_recv" => State::SynRecv,
        "tcpfin" => State::FinWait,
        "time_wait" => State::TimeWait,
        "close" => State::Close,
        "close_wait" => State::CloseWait,
        "last_ack" => State::LastAck,
        "listen" => State::Listen,
        "synack" => State::SynAck,
        "udp" => State::Udp,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use director_config::Timeouts;

    #[test]
    fn every_timeout_of_the_file_is_of_a_state() {
        let defaults = director_engine::state::Timeouts::default();
        for (key, seconds) in Timeouts::default().values() {
            assert_eq!(super::state(key).map(|state| defaults.of(state)), Some(seconds.get()), "{key}");
        }
    }
}
