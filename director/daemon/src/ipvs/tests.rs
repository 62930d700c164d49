use director_engine::Options;
use director_ipvs::FlagChange;

use super::*;

#[test]
fn a_service_with_hairpin_snat_is_not_one_packet_scheduled() {
    let (mut control, _workers) = Control::with_templates(&Options::new(16, 1), 16).unwrap();
    let key = Key { protocol: Protocol::Udp, address: Endpoint::v4(1, 53) };
    let before = Spec { hairpin_snat: true, ..Spec::new(SchedulerKind::RoundRobin) };
    control.catalog.add_service(key, before).unwrap();
    let mut edit = |scheduler: &str, flags: ServiceFlags| {
        let service = ServiceKey::Address { protocol: 17, address: IpAddr::from([0, 0, 0, 1]), port: 53 };
        let spec = ServiceSpec {
            scheduler: Name::new(scheduler).unwrap(),
            persistence_engine: None,
            flags: FlagChange { flags, mask: ServiceFlags(u32::MAX) },
            timeout: 0,
            netmask: Netmask::Inet(Ipv4Addr::BROADCAST),
        };
        let done = carry_out(&mut control, Request::SetService { service, spec });
        (done, control.catalog.service(key).unwrap().spec)
    };
    assert_eq!(edit("wrr", ServiceFlags::ONE_PACKET), (Err(Errno::EINVAL), before));
    // Another change leaves it as it is.
    let after = Spec { scheduler: SchedulerKind::WeightedRoundRobin, ..before };
    assert_eq!(edit("wrr", ServiceFlags::default()), (Ok(()), after));
}
