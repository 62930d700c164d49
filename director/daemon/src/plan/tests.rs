use std::sync::Arc;

use director_engine::Options;
use director_engine::state::State;

use super::*;

const FIRST: &str = "
[[service]]
protocol = 'tcp'
address = '192.168.18.58:80'
scheduler = 'wrr'
[[service.server]]
address = '192.168.2.71:80'
[[service.server]]
address = '192.168.2.72:80'
weight = 5
";

const SECOND: &str = "
[[service]]
protocol = 'udp'
address = '192.168.18.58:53'
scheduler = 'rr'
[[service.server]]
address = '192.168.2.71:53'
";

fn read(text: &str) -> Config {
    let port = "[[port]]\nname = 'front'\ndevice = 'net_af_packet0,iface=veth-front'\n";
    Config::parse("FILE", &format!("dpdk.lcores = '0-1'\n{port}{text}"))
        .unwrap_or_else(|errors| panic!("{errors}"))
}

/// A control core, the file it was brought to last, and its switches.
struct Running {
    control: Control,
    config: Config,
    sysctls: Sysctls,
}

impl Running {
    fn start(text: &str) -> Self {
        let (mut control, _) = Control::with_templates(&Options::new(64, 1), 64).unwrap();
        let config = read(text);
        let plan = Plan::new(None, &config, &control, &Sysctls::default()).unwrap();
        let sysctls = plan.sysctls();
        plan.apply(&mut control).unwrap();
        Self { control, config, sysctls }
    }

    /// What the file changes, in the order in which it is done.
    fn reload(&mut self, text: &str) -> Vec<String> {
        let config = read(text);
        let plan = Plan::new(Some(&self.config), &config, &self.control, &self.sysctls).unwrap();
        let lines = plan.lines();
        self.sysctls = plan.sysctls();
        plan.apply(&mut self.control).unwrap();
        self.config = config;
        lines
    }

    /// All services and servers, in any order.
    fn services(&self) -> Vec<String> {
        let catalog = &self.control.catalog;
        let services = catalog.services().flat_map(|service| {
            let of_it = catalog.servers(service).map(|row| format!("{}: {:?}", row.address, row.spec));
            let mut servers: Vec<_> = of_it.collect();
            servers.sort();
            [vec![format!("{} {:?}", service.key, service.spec)], servers].concat()
        });
        services.collect()
    }

    fn key(&self, name: &str) -> ServiceKey {
        let mut keys = self.control.catalog.services().map(|service| service.key);
        keys.find(|key| key.to_string() == name).unwrap()
    }
}

fn end(text: &str) -> Endpoint {
    text.parse::<std::net::SocketAddr>().unwrap().into()
}

#[test]
fn the_same_file_changes_nothing() {
    let both =
        format!("{FIRST}{SECOND}[ipvs]\nsloppy_tcp = true\n[timeouts]\nudp = 60\n[[mark]]\nmark = 1\n");
    let mut running = Running::start(&both);
    assert_eq!(running.services().len(), 5);
    assert_eq!(running.reload(&both), [""; 0]);
}

#[test]
fn a_reload_leads_to_where_a_start_leads() {
    let persistent =
        FIRST.replace("'wrr'", "'sh'\nflags = ['sh-port']\npersistent = 360\nnetmask = '255.255.255.0'");
    let direct = FIRST.replace("weight = 5", "forward = 'direct'\nupper_threshold = 9\nlower_threshold = 3");
    let files = [
        String::new(),
        FIRST.to_owned(),
        SECOND.to_owned(),
        format!("{SECOND}{FIRST}"),
        FIRST.replace("weight = 5", "weight = 0"),
        FIRST.replace("192.168.2.71", "192.168.2.73"),
        SECOND.replace("'rr'", "'rr'\none_packet = true"),
        format!("{persistent}{SECOND}"),
        direct,
        format!(
            "[[mark]]\nmark = 7\n{}",
            FIRST.replace("protocol = 'tcp'\naddress = '192.168.18.58:80'", "mark = 7")
        ),
        format!("[timeouts]\ntcp = 7\n[ipvs]\nnat_icmp_send = 1\ndrop_entry = 3\n{FIRST}"),
    ];
    let fresh: Vec<_> = files.iter().map(|text| Running::start(text)).collect();
    let mut running = Running::start("");
    for before in &files {
        for (after, fresh) in files.iter().zip(&fresh) {
            running.reload(before);
            running.reload(after);
            assert_eq!(running.services(), fresh.services(), "{before}\nto\n{after}");
            assert_eq!(running.sysctls, fresh.sysctls, "{before}\nto\n{after}");
            assert_eq!(running.control.sysctls(), fresh.control.sysctls());
            assert_eq!(running.control.timeouts(), fresh.control.timeouts());
            assert_eq!(running.control.marks(), fresh.control.marks());
            assert_eq!(running.reload(after), [""; 0]);
        }
    }
}

#[test]
fn a_change_says_what_it_is() {
    let mut running = Running::start(&format!("{FIRST}{SECOND}"));
    let third = "[[service.server]]\naddress = '192.168.2.73:80'\nupper_threshold = 8\n";
    let changed = FIRST.replace("'wrr'", "'wlc'\npersistent = 60").replace("weight = 5", "weight = 0");
    let lines = running.reload(&format!(
        "{changed}{third}[timeouts]\ntcp = 60\n[ipvs]\nsloppy_tcp = true\n[[mark]]\nmark = 1"
    ));
    let expected = [
        "timeout tcp: 900 -> 60",
        "sloppy_tcp: 0 -> 1",
        "firewall marks changed: rules 0 -> 1",
        "service tcp 192.168.18.58:80 changed: scheduler wrr -> wlc, persistent none -> 60, netmask none -> 255.255.255.255",
        "server 192.168.2.73:80 of tcp 192.168.18.58:80 added: weight 1",
        "server 192.168.2.72:80 of tcp 192.168.18.58:80 changed: weight 5 -> 0",
        "service udp 192.168.18.58:53 deleted",
    ];
    assert_eq!(lines, expected);
    let lines = running.reload("");
    let expected = [
        "timeout tcp: 60 -> 900",
        "sloppy_tcp: 1 -> 0",
        "firewall marks changed: rules 1 -> 0",
        "service tcp 192.168.18.58:80 deleted",
    ];
    assert_eq!(lines, expected);
}

/// A change that may leave a service without a server comes after the one that gives it another.
#[test]
fn what_comes_is_there_before_anything_goes() {
    let mut running = Running::start(FIRST);
    let other = FIRST.replace("192.168.2.72", "192.168.2.73").replace("71:80'", "71:80'\nweight = 0");
    let lines = running.reload(&other);
    let expected = [
        "server 192.168.2.73:80 of tcp 192.168.18.58:80 added: weight 5",
        "server 192.168.2.71:80 of tcp 192.168.18.58:80 changed: weight 1 -> 0",
        "server 192.168.2.72:80 of tcp 192.168.18.58:80 deleted",
    ];
    assert_eq!(lines, expected);
    let spec = ServerSpec::default();
    for (change, is_so) in [
        (ServerSpec { weight: 2, ..spec }, false),
        (ServerSpec { weight: 0, ..spec }, true),
        (ServerSpec { upper: 5, ..spec }, true),
    ] {
        assert_eq!(takes_away(&spec, &change), is_so, "{change:?}");
    }
    let limited = ServerSpec { upper: 5, ..spec };
    assert!(!takes_away(&limited, &spec) && !takes_away(&limited, &ServerSpec { upper: 6, ..spec }));
    assert!(takes_away(&limited, &ServerSpec { upper: 4, ..spec }));
}

#[test]
fn what_lvs_tools_made_beside_the_file_stays() {
    let mut running = Running::start(&format!("{FIRST}{SECOND}"));
    let tcp = running.key("tcp 192.168.18.58:80");
    let own = ServiceKey { address: end("192.168.18.58:443"), ..tcp };
    let catalog = &mut running.control.catalog;
    let spec = catalog.service(tcp).unwrap().spec;
    // A service, and a server of one of the file's services.
    catalog.add_service(own, spec).unwrap();
    catalog.add_server(tcp, end("192.168.2.79:80"), ServerSpec::default()).unwrap();
    let before = running.services();
    assert_eq!(running.reload(&format!("{FIRST}{SECOND}")), [""; 0]);
    assert_eq!(running.services(), before);
    // A server is deleted with its service all the same.
    assert_eq!(running.reload(SECOND), ["service tcp 192.168.18.58:80 deleted"]);
    assert!(running.control.catalog.service(own).is_some());
    // What is gone already does no harm.
    let udp = running.key("udp 192.168.18.58:53");
    running.control.catalog.delete_service(udp).unwrap();
    assert_eq!(running.reload(""), [""; 0]);
    // A service that exists already is taken over as it is.
    running.control.catalog.add_service(tcp, spec).unwrap();
    assert_eq!(running.reload(FIRST).len(), 2);
}

#[test]
fn what_lvs_tools_changed_of_the_files_is_as_the_file_says() {
    let mut running = Running::start(FIRST);
    let tcp = running.key("tcp 192.168.18.58:80");
    let catalog = &mut running.control.catalog;
    let spec = catalog.service(tcp).unwrap().spec;
    catalog.set_service(tcp, ServiceSpec { one_packet: true, ..spec }).unwrap();
    catalog.delete_server(tcp, end("192.168.2.71:80")).unwrap();
    catalog
        .set_server(tcp, end("192.168.2.72:80"), ServerSpec { weight: 9, ..ServerSpec::default() })
        .unwrap();
    let lines = running.reload(FIRST);
    let expected = [
        "service tcp 192.168.18.58:80 changed: one_packet true -> false",
        "server 192.168.2.71:80 of tcp 192.168.18.58:80 added: weight 1",
        "server 192.168.2.72:80 of tcp 192.168.18.58:80 changed: weight 9 -> 5",
    ];
    assert_eq!(lines, expected);
}

#[test]
fn settings_that_the_file_does_not_give_stay() {
    let mut running = Running::start("[timeouts]\ntcp = 900\n[ipvs]\nsloppy_tcp = 0");
    let mut timeouts = *running.control.timeouts();
    timeouts.set(State::Established, 7);
    timeouts.set(State::Udp, 7);
    running.control.set_timeouts(timeouts);
    running.sysctls.set("sloppy_tcp", "1").unwrap();
    running.sysctls.set("drop_packet", "3").unwrap();
    let lines = running.reload("[timeouts]\ntcp = 900\n[ipvs]\nsloppy_tcp = 0");
    assert_eq!(lines, ["timeout tcp: 7 -> 900", "sloppy_tcp: 1 -> 0"]);
    assert_eq!(running.control.timeouts().of(State::Udp), 7);
    assert_eq!(running.control.sysctls().drop_packet, 3);
    assert_eq!(running.reload("[timeouts]\nudp = 300"), ["timeout udp: 7 -> 300"]);
}

/// The scheduler's turn is kept as well.
#[test]
fn a_service_that_stays_is_not_touched() {
    let mut running = Running::start(&format!("{FIRST}{SECOND}"));
    let view = |running: &Running| {
        let service = running.control.catalog.service(running.key("udp 192.168.18.58:53")).unwrap();
        service.view().clone()
    };
    let before = view(&running);
    running.reload(&format!("[ipvs]\nsloppy_tcp = true\n{SECOND}"));
    assert!(Arc::ptr_eq(&before, &view(&running)));
}

/// A server keeps its counters and its connections.
#[test]
fn who_is_changed_is_the_same_server() {
    let mut running = Running::start(FIRST);
    let slots = |running: &Running| {
        let service = running.control.catalog.service(running.key("tcp 192.168.18.58:80")).unwrap();
        let addresses = running.control.catalog.servers(service).map(|row| row.address);
        let mut slots: Vec<_> = addresses.zip(service.slots()).collect();
        slots.sort_unstable();
        slots
    };
    let (before, room) = (slots(&running), running.control.catalog.room());
    running.reload(&FIRST.replace("weight = 5", "weight = 0\nupper_threshold = 3\nforward = 'direct'"));
    assert_eq!(slots(&running), before);
    running.reload(&FIRST.replace("'wrr'", "'sed'"));
    assert_eq!(slots(&running), before);
    assert_eq!(running.control.catalog.room(), room);
    running.reload(&format!("{FIRST}{SECOND}"));
    assert_eq!(running.control.catalog.room(), room - 1);
}
