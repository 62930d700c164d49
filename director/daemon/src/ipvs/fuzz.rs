//! The target `messages` of `scripts/fuzz`: any bytes on the socket that LVS tools talk to.

use director_engine::Options;

use super::*;

/// Carries a request out, and gives the answer as it is sent.
fn serve(control: &mut Control, message: &director_ipvs::Message<'_>) -> Vec<Vec<u8>> {
    let answer = match message.request.clone() {
        Err(malformed) => Answer::Refused(malformed.errno()),
        Ok(Request::GetServices) => {
            let services: Vec<_> =
                control.catalog.services().filter_map(|service| show_service(control, service)).collect();
            Answer::Services(Box::new(services.into_iter()))
        }
        Ok(Request::GetDests { service }) => {
            let rows: Vec<_> = find(control, &service)
                .map(|service| control.catalog.servers(service).map(|row| show_server(&row)).collect())
                .unwrap_or_default();
            Answer::Dests(Box::new(rows.into_iter()))
        }
        Ok(request) => match carry_out(control, request) {
            Ok(()) => Answer::Done,
            Err(errno) => Answer::Refused(errno),
        },
    };
    message.answer(answer).collect()
}

/// Workers are told exactly what the catalog has.
fn check(control: &Control, worker: &mut director_engine::Worker) {
    let snapshot = worker.snapshot().clone();
    let catalog = &control.catalog;
    for is_v6 in [false, true] {
        let none = catalog.services().all(|service| service.key.address.is_v6() != is_v6);
        assert_eq!(snapshot.is_off(is_v6), none);
    }
    let mut servers = 0;
    for service in catalog.services() {
        servers += catalog.servers(service).count();
        let view = service.view();
        let (spec, count) = (service.spec, catalog.servers(service).count());
        let has_table = matches!(
            spec.scheduler,
            SchedulerKind::SourceHash | SchedulerKind::DestinationHash | SchedulerKind::Maglev
        );
        let is_listed = has_table || spec.one_packet || spec.engine.is_some();
        assert_eq!(view.servers.len(), if is_listed { count } else { 0 });
        if service.key.mark().is_none() {
            let client = Address::V4(1);
            let found = snapshot.service(client, service.key.address, service.key.protocol.number());
            assert!(found.is_some_and(|found| std::sync::Arc::ptr_eq(found, view)), "{}", service.key);
        }
        assert!(show_service(control, service).is_some(), "{} cannot be listed", service.key);
    }
    assert_eq!(catalog.server_count(), servers);
}

#[test]
fn messages() {
    bolero::check!(name = "messages").for_each(|bytes: &[u8]| {
        let (mut control, mut workers) = Control::with_templates(&Options::new(16, 1), 16).unwrap();
        for message in director_ipvs::Messages::new(bytes) {
            let Ok(message) = message else { break };
            for datagram in serve(&mut control, &message) {
                // Whoever asked can read the answer.
                assert!(director_ipvs::Messages::new(&datagram).all(|answer| answer.is_ok()));
            }
            if !message.header.later() {
                control.settle();
                check(&control, &mut workers[0]);
            }
        }
        control.settle();
        check(&control, &mut workers[0]);
    });
}
