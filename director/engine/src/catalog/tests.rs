use director_flow::Tick;

use super::*;
use crate::estimator::Rates;
use crate::service::{Forward, Protocol, SchedulerKind};
use crate::state::{Direction, State};

const KEY: ServiceKey = ServiceKey { protocol: Protocol::Tcp, address: Endpoint::v4(1, 80) };
const SPEC: ServiceSpec = ServiceSpec::new(SchedulerKind::RoundRobin);
const A: Endpoint = Endpoint::v4(10, 8080);
const B: Endpoint = Endpoint::v4(11, 8080);

fn catalog() -> (Catalog, Arc<Servers>) {
    let slots = Arc::new(Servers::new(1));
    let mut catalog = Catalog::new(slots.clone());
    catalog.add_service(KEY, SPEC).unwrap();
    catalog.add_server(KEY, A, ServerSpec::default()).unwrap();
    (catalog, slots)
}

fn view(catalog: &mut Catalog) -> Arc<ServiceView> {
    catalog.renew();
    catalog.service(KEY).unwrap().view().clone()
}

/// The slot of the newest server.
fn newest(catalog: &Catalog) -> u32 {
    catalog.service(KEY).unwrap().slots().next().unwrap()
}

fn row(catalog: &Catalog, at: usize) -> ServerRow {
    catalog.servers(catalog.service(KEY).unwrap()).nth(at).unwrap()
}

#[test]
fn what_is_refused() {
    let (mut catalog, _) = catalog();
    let other = ServiceKey { protocol: Protocol::Udp, ..KEY };
    let spec = ServerSpec::default();
    assert_eq!(catalog.add_service(KEY, SPEC), Err(CatalogError::ServiceExists));
    assert_eq!(catalog.set_service(other, SPEC), Err(CatalogError::NoService));
    assert_eq!(catalog.delete_service(other), Err(CatalogError::NoService));
    assert_eq!(catalog.zero(other), Err(CatalogError::NoService));
    assert_eq!(catalog.add_server(other, A, spec), Err(CatalogError::NoService));
    assert_eq!(catalog.add_server(KEY, A, spec), Err(CatalogError::ServerExists));
    assert_eq!(catalog.set_server(KEY, B, spec), Err(CatalogError::NoServer));
    assert_eq!(catalog.delete_server(KEY, B), Err(CatalogError::NoServer));
    let wrong = ServerSpec { lower: 2, upper: 1, ..spec };
    assert_eq!(catalog.add_server(KEY, B, wrong), Err(CatalogError::Thresholds));
    assert_eq!(catalog.set_server(KEY, A, wrong), Err(CatalogError::Thresholds));
}

#[test]
fn a_deleted_server_comes_back_with_its_connections() {
    let (mut catalog, slots) = catalog();
    let slot = newest(&catalog);
    slots.bind(slot, State::Established);
    slots.count_connection(0, slot);
    slots.count(0, slot, Direction::In, 100);
    catalog.delete_server(KEY, A).unwrap();
    assert!(slots.is_gone(slot));
    catalog.published();
    catalog.collect(Tick(0), usize::MAX);
    catalog.collect(Tick(0), usize::MAX);
    assert_eq!(catalog.statistics(catalog.service(KEY).unwrap()).0.connections, 1);
    catalog.add_server(KEY, A, ServerSpec::default()).unwrap();
    assert!(!slots.is_gone(slot));
    assert_eq!((row(&catalog, 0).load.active, row(&catalog, 0).traffic.in_bytes), (1, 100));
    // Without connections the slot is free a grace period after the workers were told, and its next server starts at
    // 0.
    slots.unbind(slot, State::Established);
    catalog.delete_server(KEY, A).unwrap();
    catalog.collect(Tick(0), usize::MAX);
    catalog.collect(Tick(0), usize::MAX);
    catalog.published();
    catalog.collect(Tick(0), usize::MAX);
    assert!(catalog.has_trash());
    // A worker that had not been told counts one more connection.
    slots.bind(slot, State::SynRecv);
    catalog.collect(Tick(0), usize::MAX);
    slots.unbind(slot, State::SynRecv);
    catalog.collect(Tick(10), usize::MAX);
    catalog.collect(Tick(1209), usize::MAX);
    assert!(catalog.has_trash(), "it is remembered for two minutes");
    catalog.collect(Tick(1210), usize::MAX);
    assert!(!catalog.has_trash());
    catalog.add_server(KEY, B, ServerSpec::default()).unwrap();
    assert_eq!(newest(&catalog), slot);
    assert_eq!(row(&catalog, 0).traffic, Traffic::default());
    let (sum, _) = catalog.statistics(catalog.service(KEY).unwrap());
    assert_eq!((sum.connections, sum.in_bytes), (1, 100), "the service keeps what passed through it");
    assert_eq!(catalog.total().0.in_bytes, 100);
}

#[test]
fn a_service_created_anew_starts_at_0() {
    let (mut catalog, slots) = catalog();
    let slot = newest(&catalog);
    slots.bind(slot, State::Established);
    slots.count_connection(0, slot);
    catalog.flush();
    catalog.add_service(KEY, SPEC).unwrap();
    assert_eq!(catalog.statistics(catalog.service(KEY).unwrap()).0, Traffic::default());
    catalog.add_server(KEY, A, ServerSpec::default()).unwrap();
    // And so do its servers.
    assert_eq!(row(&catalog, 0).traffic, Traffic::default());
    slots.count_connection(0, slot);
    assert_eq!(row(&catalog, 0).traffic.connections, 1);
    assert_eq!(catalog.statistics(catalog.service(KEY).unwrap()).0.connections, 1);
    catalog.zero_all();
    assert_eq!(row(&catalog, 0).traffic, Traffic::default());
    assert_eq!(catalog.total().0, Traffic::default());
}

#[test]
fn port_0_keeps_the_port_of_the_service() {
    let (mut catalog, _) = catalog();
    let any = B.with_port(0);
    catalog.add_server(KEY, any, ServerSpec::default()).unwrap();
    catalog.set_service(KEY, ServiceSpec { one_packet: true, ..SPEC }).unwrap();
    let [server, ..] = view(&mut catalog).servers[..] else { panic!("no server") };
    assert_eq!((server.address, server.change.to), (any, B.with_port(80)));
    let service = catalog.service(KEY).unwrap();
    assert!(service.has_server(any) && !service.has_server(B.with_port(80)));
    assert_eq!(row(&catalog, 0).address, any);
}

fn numbered(number: u32) -> ServiceKey {
    ServiceKey { protocol: Protocol::Tcp, address: Endpoint::v4(number / 10 + 1, (number % 10 + 1) as u16) }
}

#[test]
fn a_change_copies_little_of_many_services() {
    let mut catalog = Catalog::new(Arc::new(Servers::new(1)));
    for number in 0..10_000 {
        catalog.add_service(numbered(number), SPEC).unwrap();
        for server in 0..10 {
            let address = Endpoint::v4(1 << 24 | number, server);
            catalog.add_server(numbered(number), address, ServerSpec::default()).unwrap();
        }
    }
    catalog.renew();
    for number in 0..100 {
        let key = numbered(number * 97);
        let before = catalog.directory.clone();
        match number % 3 {
            0 => catalog.add_server(key, A, ServerSpec::default()).unwrap(),
            1 => catalog.add_service(numbered(10_000 + number), SPEC).unwrap(),
            _ => catalog.delete_service(key).unwrap(),
        }
        assert_eq!(catalog.stale.len(), 1, "services whose views are made anew");
        let copied = catalog.renew().own_entries(&before);
        assert!(copied < 200, "{copied} of 10,000 services were copied for one change");
    }
}

#[test]
fn a_weight_needs_no_new_view() {
    let (mut catalog, slots) = catalog();
    let before = view(&mut catalog);
    let heavy = ServerSpec { weight: 7, ..ServerSpec::default() };
    catalog.set_server(KEY, A, heavy).unwrap();
    assert!(Arc::ptr_eq(&before, &view(&mut catalog)));
    assert_eq!(slots.weight(newest(&catalog)), 7);
    catalog.set_server(KEY, A, ServerSpec { forward: Forward::DirectRouting, ..heavy }).unwrap();
    assert!(!Arc::ptr_eq(&before, &view(&mut catalog)));
    catalog.set_service(KEY, ServiceSpec::new(SchedulerKind::DestinationHash)).unwrap();
    let before = view(&mut catalog);
    catalog
        .set_server(KEY, A, ServerSpec { forward: Forward::DirectRouting, ..ServerSpec::default() })
        .unwrap();
    assert!(Arc::ptr_eq(&before, &view(&mut catalog)));
    // But the tables of `sh` and `mh` are of the weights.
    catalog.set_service(KEY, ServiceSpec::new(SchedulerKind::SourceHash)).unwrap();
    let before = view(&mut catalog);
    catalog.set_server(KEY, A, ServerSpec::default()).unwrap();
    assert!(!Arc::ptr_eq(&before, &view(&mut catalog)));
}

#[test]
fn a_server_more_or_less_of_many_leaves_the_view_as_it_is() {
    let (mut catalog, slots) = catalog();
    for port in 0..100 {
        catalog.add_server(KEY, Endpoint::v4(20, port), ServerSpec::default()).unwrap();
    }
    let before = view(&mut catalog);
    let request = crate::scheduler::Request {
        source: Endpoint::v4(7, 7).address(),
        source_port: 7,
        destination: KEY.address.address(),
        now: director_flow::Tick(0),
    };
    let next = || before.schedule(&slots, &request, State::SynRecv).unwrap().address;
    assert_eq!([next(), next()], [99, 98].map(|port| Endpoint::v4(20, port)));
    catalog.add_server(KEY, B, ServerSpec::default()).unwrap();
    for port in [97, 95] {
        catalog.delete_server(KEY, Endpoint::v4(20, port)).unwrap();
    }
    assert!(Arc::ptr_eq(&before, &view(&mut catalog)));
    let mut turns = vec![96];
    turns.extend((0..95).rev());
    for port in turns {
        assert_eq!(next(), Endpoint::v4(20, port));
    }
    assert_eq!([next(), next(), next()], [A, B, Endpoint::v4(20, 99)]);
    // One that left and comes again is the newest, more than there is room for are listed anew.
    catalog.add_server(KEY, Endpoint::v4(20, 97), ServerSpec::default()).unwrap();
    assert!(Arc::ptr_eq(&before, &view(&mut catalog)));
    for port in 100..200 {
        catalog.add_server(KEY, Endpoint::v4(20, port), ServerSpec::default()).unwrap();
    }
    assert!(!Arc::ptr_eq(&before, &view(&mut catalog)));
    let all: std::collections::HashSet<_> = (0..201).map(|_| next()).collect();
    assert_eq!(all.len(), 201);
}

#[test]
fn what_is_no_longer_used_is_freed() {
    let (mut catalog, _) = catalog();
    for weight in 0..100 {
        let spec = ServerSpec { weight, ..ServerSpec::default() };
        catalog.add_server(KEY, B, spec).unwrap();
        catalog.renew();
        catalog.set_server(KEY, A, spec).unwrap();
        catalog.delete_server(KEY, B).unwrap();
        catalog.renew();
        catalog.published();
        catalog.retired.sweep();
        assert_eq!(catalog.retired.len(), 0);
    }
}

#[test]
fn a_listing_in_pieces_is_borne_by_changes() {
    let (mut catalog, _) = catalog();
    let servers: Vec<_> = (0..10).map(|port| Endpoint::v4(20, port)).collect();
    for &server in &servers {
        catalog.add_server(KEY, server, ServerSpec::default()).unwrap();
    }
    let mut listed = Vec::new();
    let mut at = None;
    while let Some((number, row)) = catalog.server_after(catalog.service(KEY).unwrap(), at) {
        at = Some(number);
        listed.push(row.address);
        if listed.len() == 3 {
            // A server that was listed and is deleted, one that is added, and one that is deleted before it was
            // listed.
            for gone in [servers[7], servers[2]] {
                catalog.delete_server(KEY, gone).unwrap();
            }
            catalog.add_server(KEY, B, ServerSpec::default()).unwrap();
        }
    }
    let rest = [6, 5, 4, 3, 1, 0].map(|at| servers[at]);
    assert_eq!(listed[..3], [servers[9], servers[8], servers[7]]);
    assert_eq!((&listed[3..9], &listed[9..]), (&rest[..], &[A][..]));

    let keys = [1, 2, 3].map(numbered);
    keys.iter().for_each(|&key| catalog.add_service(key, SPEC).unwrap());
    catalog.delete_service(keys[1]).unwrap();
    let after: Vec<_> = catalog.services_after(Some(keys[1])).map(|service| service.key).collect();
    assert_eq!(after[..2], [keys[2], KEY]);
    assert_eq!(catalog.services_after(None).count(), catalog.services().count());
}

#[test]
fn counters_set_to_0_during_an_estimate() {
    let (mut catalog, slots) = catalog();
    catalog.add_server(KEY, B, ServerSpec::default()).unwrap();
    slots.count(0, 0, Direction::In, 1000);
    catalog.begin_estimate();
    assert!(catalog.estimate(1));
    slots.count(0, 0, Direction::In, 1000);
    catalog.zero_all();
    while catalog.estimate(1) {}
    assert_eq!(catalog.total().1, Rates::default());
}

#[test]
fn newest_first() {
    let (mut catalog, _) = catalog();
    catalog.add_server(KEY, B, ServerSpec { weight: 0, ..ServerSpec::default() }).unwrap();
    assert_eq!((row(&catalog, 0).address, row(&catalog, 1).address), (B, A));
    assert_eq!(row(&catalog, 0).spec.weight, 0);
}
