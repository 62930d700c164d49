//! The configuration file's services, timeouts and switches, brought into the control core.

use std::net::{SocketAddr, SocketAddrV4};

use anyhow::{Context, Result, bail};
use director_config::{Config, SchedulerFlag};
use director_engine::service::{
    FALLBACK, PORT, Protocol, SchedulerKind, ServerSpec, ServiceKey, ServiceSpec,
};
use director_engine::state::{State, Timeouts};
use director_engine::{Control, Options, Pages, Worker};
use director_packet::Endpoint4;

use crate::sysctls;

/// The control core and its workers, as the configuration says.
pub(crate) fn control(config: &Config, workers: usize) -> Result<(Control, Vec<Worker>)> {
    let mut options = Options::new(config.connections.capacity.get(), workers);
    options.pages = match config.connections.pages {
        director_config::Pages::Auto => Pages::Auto,
        director_config::Pages::Size4K => Pages::Base,
        director_config::Pages::Size2M => Pages::Huge2M,
        director_config::Pages::Size1G => Pages::Huge1G,
    };
    let (mut control, workers) = Control::new(&options).with_context(|| {
        format!("no memory for {} connections ([connections] capacity)", options.capacity)
    })?;
    control.set_timeouts(timeouts(config));
    control.set_sysctls(sysctls::obeyed(&config.ipvs));
    for service in &config.services {
        let key = ServiceKey {
            protocol: Protocol::from_number(service.protocol.number()).context("an unknown protocol")?,
            address: end(service.address.get())?,
        };
        let scheduler = SchedulerKind::from_name(service.scheduler.name()).context("an unknown scheduler")?;
        let flags = service.flags.iter().map(|flag| match flag {
            SchedulerFlag::ShFallback | SchedulerFlag::MhFallback => FALLBACK,
            SchedulerFlag::ShPort | SchedulerFlag::MhPort => PORT,
        });
        let flags = flags.fold(0, |all, flag| all | flag);
        control.catalog.add_service(key, ServiceSpec { scheduler, flags })?;
        for server in &service.servers {
            let spec = ServerSpec {
                weight: server.weight.get(),
                upper: server.thresholds.upper(),
                lower: server.thresholds.lower(),
            };
            control.catalog.add_server(key, end(server.address.get())?, spec)?;
        }
    }
    control.publish();
    Ok((control, workers))
}

fn end(address: SocketAddr) -> Result<Endpoint4> {
    match address {
        SocketAddr::V4(address) => Ok(Endpoint4::from(SocketAddrV4::new(*address.ip(), address.port()))),
        SocketAddr::V6(address) => bail!("{address}: services of IPv6 are not built yet"),
    }
}

fn timeouts(config: &Config) -> Timeouts {
    let given = &config.timeouts;
    let mut timeouts = Timeouts::default();
    for (state, seconds) in [
        (State::None, given.none),
        (State::Established, given.tcp),
        (State::SynSent, given.syn_sent),
        (State::SynRecv, given.syn_recv),
        (State::FinWait, given.tcpfin),
        (State::TimeWait, given.time_wait),
        (State::Close, given.close),
        (State::CloseWait, given.close_wait),
        (State::LastAck, given.last_ack),
        (State::Listen, given.listen),
        (State::SynAck, given.synack),
        (State::Udp, given.udp),
    ] {
        timeouts.set(state, seconds.get());
    }
    timeouts
}
