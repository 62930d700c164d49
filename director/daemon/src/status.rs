//! What `directorctl status` shows.

use std::sync::atomic::{AtomicU64, Ordering};

use director_api::{Connections, ControlCore, Status, Totals};
use director_config::Side;
use director_engine::service::{ServiceKey, flag_names};
use director_engine::{PageSize, Reason};

use crate::counters::{PortCounters, ThreadCounters};
use crate::director::{Director, State};
use crate::ports::PortRuntime;

/// How many services and servers are visited before other tasks have their turn.
const SERVERS_AT_ONCE: usize = 1000;

impl Director {
    /// What `directorctl status` shows. Services are added in pieces, and other tasks have their turn in between.
    pub(crate) async fn status(&self) -> Status {
        let mut status = self.status_without_services();
        let mut last = None;
        while self.add_services(&mut status.services, &mut last) {
            tokio::task::yield_now().await;
        }
        status
    }

    /// Adds the services after `last`, until there are enough servers for one turn. False: there are no more.
    fn add_services(&self, services: &mut Vec<director_api::Service>, last: &mut Option<ServiceKey>) -> bool {
        let state = self.state.borrow();
        let mut seen = 0;
        for service in state.control.catalog.services_after(*last) {
            let status = service_status(&state, service);
            seen += 1 + status.servers.len();
            services.push(status);
            *last = Some(service.key);
            if seen >= SERVERS_AT_ONCE {
                return true;
            }
        }
        false
    }

    fn status_without_services(&self) -> Status {
        let state = self.state.borrow();
        let tick = self.clock.read().0;
        let mut problems = state.problems.clone();
        for worker in state.control.stalled(tick, 50) {
            problems.push(format!("worker {worker} has not passed its loop for 5 s"));
        }
        let sum = |of: &dyn Fn(&ThreadCounters) -> u64| self.counters.iter().map(|c| of(c)).sum::<u64>();
        let drops = Reason::ALL.iter().map(|reason| {
            let dropped = |c: &ThreadCounters| c.ports().iter().map(|port| port.drops_for(*reason)).sum();
            (reason.name().to_owned(), sum(&dropped))
        });
        let ports: Vec<_> = (0..self.ports.len()).map(|at| self.port_status(&state, at)).collect();
        for port in ports.iter().filter(|port| !port.link_up) {
            problems.push(format!("port {} has no link", port.name));
        }
        let received = ports.iter().map(|port| port.rx_packets).sum();
        let sent = sum(&|c| c.ports().iter().map(|port| port.tx.read().0).sum());
        let to_twin = ports.iter().map(|port| port.to_twin).sum();
        let dropped = ports.iter().map(|port| port.drops).sum();
        let table = state.control.table();
        Status {
            version: env!("CARGO_PKG_VERSION").into(),
            uptime_seconds: self.started.elapsed().as_secs_f64(),
            forwarding: problems.is_empty(),
            problems,
            ports,
            workers: self.worker_status(),
            connections: Connections {
                active: state.control.active(),
                templates: state.control.shared().templates.count().into(),
                capacity: table.capacity().into(),
                active_ipv6: state.control.active_v6(),
                capacity_ipv6: state.control.table_v6().capacity().into(),
                bytes_per_connection: table.bytes_per_entry(),
                page_size: page_bytes(table.page_size()),
            },
            drops: drops.collect(),
            totals: Totals {
                received,
                sent,
                to_twin,
                dropped,
                // Everything is counted when it leaves, so what has not left is still here.
                held: u64::saturating_sub(received, sent + to_twin + dropped),
            },
            control: ControlCore {
                turns: state.turns.len(),
                turn_microseconds_p50: state.turns.value_at_quantile(0.5),
                turn_microseconds_p99: state.turns.value_at_quantile(0.99),
                turn_microseconds_max: state.turns.max(),
            },
            services: Vec::new(),
        }
    }

    /// Whether a port's link is up: according to the device, or to the kernel if the device is opened on a kernel
    /// interface, whose carrier DPDK does not know.
    fn has_link(state: &State, port: &PortRuntime) -> bool {
        let of_kernel =
            port.configuration.device.opened_interface().is_none_or(|name| {
                state.seen.interface(name).is_some_and(|(_, interface)| interface.carrier)
            });
        of_kernel && port.port.link().is_ok_and(|link| link.up)
    }

    fn worker_status(&self) -> Vec<director_api::Worker> {
        let workers = self.workers.iter().zip(&self.counters).map(|(worker, counters)| {
            let ports = counters.ports();
            let sum = |of: &dyn Fn(&PortCounters) -> u64| ports.iter().map(of).sum::<u64>();
            director_api::Worker {
                lcore: worker.lcore,
                rx_packets: sum(&|port| port.rx.read().0),
                rx_bytes: sum(&|port| port.rx.read().1),
                tx_packets: sum(&|port| port.tx.read().0),
                tx_bytes: sum(&|port| port.tx.read().1),
                drops: sum(&PortCounters::drops),
                to_twin: sum(&|port| port.to_twin.load(Ordering::Relaxed)),
                queues: worker.queues.clone(),
            }
        });
        workers.collect()
    }

    fn port_status(&self, state: &State, at: usize) -> director_api::Port {
        let port = &self.ports[at];
        let counters = || self.counters.iter().map(|counters| counters.port(at));
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let control = self.counters.last().map(|counters| counters.port(at));
        let sum = |of: &dyn Fn(&PortCounters) -> u64| counters().map(of).sum::<u64>();
        let statistics = port.port.stats().ok();
        director_api::Port {
            name: port.configuration.name.as_str().into(),
            device: port.configuration.device.as_str().into(),
            driver: port.driver.clone(),
            mac: port.mac.get().to_string(),
            link_up: Self::has_link(state, port),
            mtu: state.control.network().ports.get(at).map_or(0, |view| view.mtu.into()),
            rx_queues: port.rx_queues.into(),
            tx_queues: port.tx_queues.into(),
            side: side_name(port.configuration.side).into(),
            rss: port.rss.ends.name().into(),
            rss_types: port.rss.types.to_string(),
            rss_offered: port.rss_offered.to_string(),
            twin: state.pump.twin(at).map(|twin| twin.port.driver().to_owned()),
            rx_packets: sum(&|c| c.rx.read().0),
            rx_bytes: sum(&|c| c.rx.read().1),
            tx_packets: sum(&|c| c.tx.read().0 + c.own.read().0),
            tx_bytes: sum(&|c| c.tx.read().1 + c.own.read().1),
            drops: sum(&PortCounters::drops),
            missed: statistics.map_or(0, |statistics| statistics.rx_missed + statistics.rx_no_mbuf),
            to_twin: control.map_or(0, |control| load(&control.to_twin)),
            from_twin: control.map_or(0, |control| load(&control.from_twin)),
        }
    }
}

fn service_status(state: &State, service: &director_engine::catalog::Service) -> director_api::Service {
    let servers = state.control.catalog.servers(service).map(|server| director_api::Server {
        address: server.address.to_string(),
        weight: server.spec.weight,
        active: server.load.active.into(),
        inactive: server.load.inactive.into(),
        traffic: director_api::Traffic {
            connections: server.traffic.connections,
            in_packets: server.traffic.in_packets,
            out_packets: server.traffic.out_packets,
            in_bytes: server.traffic.in_bytes,
            out_bytes: server.traffic.out_bytes,
        },
    });
    let persistence = service.spec.persistence;
    let whole = service.key.whole_netmask();
    let netmask = persistence.map(|persistence| persistence.netmask).filter(|&mask| mask != whole);
    let is_v6 = service.key.address.is_v6();
    director_api::Service {
        protocol: service.key.protocol.name().into(),
        address: match service.key.mark() {
            Some(mark) if is_v6 => format!("{mark} IPv6"),
            Some(mark) => mark.to_string(),
            None => service.key.address.to_string(),
        },
        scheduler: service.spec.scheduler.name().into(),
        flags: flag_names(service.spec.scheduler, service.spec.flags).map(str::to_owned).collect(),
        one_packet: service.spec.one_packet,
        engine: persistence.and(service.spec.engine).map(|engine| engine.name().into()),
        persistent: persistence.map(|persistence| persistence.timeout),
        netmask: netmask.map(|mask| {
            if is_v6 { mask.to_string() } else { std::net::Ipv4Addr::from_bits(mask).to_string() }
        }),
        hairpin_snat: service.spec.hairpin_snat,
        servers: servers.collect(),
    }
}

fn side_name(side: Side) -> &'static str {
    match side {
        Side::Both => "both",
        Side::Clients => "clients",
        Side::Servers => "servers",
    }
}

/// The size in bytes of the pages that the table is on.
const fn page_bytes(size: PageSize) -> u64 {
    match size {
        PageSize::Base | PageSize::Transparent => 4096,
        PageSize::Huge2M => 2 << 20,
        PageSize::Huge1G => 1 << 30,
    }
}
