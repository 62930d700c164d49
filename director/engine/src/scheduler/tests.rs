//! Schedulers as a whole: through the catalog that the operator changes, with real counts.

mod cost;
mod model;
mod recorded;
mod threads;

use std::sync::Arc;

use director_flow::Tick;
use director_packet::{Address, Endpoint};

use super::{Request, ServiceView};
use crate::catalog::Catalog;
use crate::servers::Servers;
use crate::service::{Protocol, SchedulerKind, ServerSpec, ServiceKey, ServiceSpec};
use crate::state::State;

const VIP: Endpoint = Endpoint::v4(0xc0a8_123a, 80);
const KEY: ServiceKey = ServiceKey { protocol: Protocol::Tcp, address: VIP };

/// A service, its servers by a number each.
struct Bench {
    catalog: Catalog,
    servers: Arc<Servers>,
    scheduler: SchedulerKind,
}

/// The address of a server of this number.
const fn address(number: u32) -> Endpoint {
    Endpoint::v4(0xc0a8_0200 + number, 80)
}

fn request(source: u32) -> Request {
    Request { source: Address::V4(source), source_port: 2001, destination: VIP.address(), now: Tick(0) }
}

impl Bench {
    fn new(scheduler: SchedulerKind, flags: u32) -> Self {
        let servers = Arc::new(Servers::new(1));
        let mut catalog = Catalog::new(servers.clone());
        catalog.add_service(KEY, ServiceSpec { flags, ..ServiceSpec::new(scheduler) }).unwrap();
        Self { catalog, servers, scheduler }
    }

    /// With servers of these weights, numbered from 1 on, added in this order.
    fn of(scheduler: SchedulerKind, weights: &[u32]) -> Self {
        let mut bench = Self::new(scheduler, 0);
        for (&weight, number) in weights.iter().zip(1..) {
            bench.add(number, ServerSpec { weight, ..ServerSpec::default() });
        }
        bench
    }

    fn add(&mut self, number: u32, spec: ServerSpec) {
        self.catalog.add_server(KEY, address(number), spec).unwrap();
    }

    fn set(&mut self, number: u32, spec: ServerSpec) {
        self.catalog.set_server(KEY, address(number), spec).unwrap();
    }

    fn delete(&mut self, number: u32) {
        self.catalog.delete_server(KEY, address(number)).unwrap();
    }

    fn reschedule(&mut self, scheduler: SchedulerKind, flags: u32) {
        self.scheduler = scheduler;
        self.catalog.set_service(KEY, ServiceSpec { flags, ..ServiceSpec::new(scheduler) }).unwrap();
    }

    /// What workers see.
    fn view(&mut self) -> Arc<ServiceView> {
        self.catalog.renew();
        self.catalog.service(KEY).unwrap().view().clone()
    }

    /// A new half-open connection: the slot and the number of its server.
    fn connect(&mut self, request: &Request) -> Option<(u32, u32)> {
        let server = self.view().schedule(&self.servers, request, State::SynRecv)?;
        Some((server.slot, server.address.address().fold() - address(0).address().fold()))
    }
}
