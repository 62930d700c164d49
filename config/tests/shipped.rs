//! The files that are shipped, and what a file that leaves things out means.

// A test may panic; that is how it fails.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;

use director_config::{Config, Forward, Idle, Pages, Scheduler, Seconds, Setting, Side, Sysctls};

fn shipped(name: &str) -> Config {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    let config = Config::load(&path).unwrap_or_else(|errors| panic!("{errors}"));
    assert!(config.warnings().is_empty(), "{}", config.warnings());
    config
}

#[test]
fn lvs_nat() {
    let config = shipped("lvs-nat.toml");
    assert_eq!(config.dpdk.lcores.as_str(), "0-1");
    assert_eq!(config.dpdk.mbufs.get(), 65_536);
    assert_eq!(config.dpdk.eal, ["--no-pci", "--no-huge", "-m", "512"]);
    assert_eq!(config.control.directory.as_path(), Path::new("/run/director"));
    let [front, back] = config.ports.as_slice() else { panic!("two ports") };
    assert_eq!((front.name.as_str(), back.name.as_str()), ("front", "back"));
    assert_eq!(front.device.opened_interface(), Some("veth-front"));
    assert_eq!(back.device.opened_interface(), Some("veth-back"));
    assert_eq!(front.addresses[0].to_string(), "192.168.18.58/24");
    assert_eq!(back.addresses[0].to_string(), "192.168.2.90/24");
    assert!(front.twin && back.twin);
    assert_eq!(config.port_of("192.168.2.71".parse().unwrap()), Some(back));
    assert_eq!(config.port_of("192.168.18.10".parse().unwrap()), Some(front));
    assert_eq!(config.port_of("10.0.0.1".parse().unwrap()), None);
    let [service] = config.services.as_slice() else { panic!("one service") };
    assert_eq!(service.vip.to_string(), "tcp 192.168.18.58:8888");
    assert_eq!(service.scheduler, Scheduler::Rr);
    let servers: Vec<_> = service.servers.iter().map(|server| server.address.to_string()).collect();
    assert_eq!(servers, ["192.168.2.71:9999", "192.168.2.72:9999"]);
    assert!(service.servers.iter().all(|server| server.forward == Forward::Masquerading));
    assert!(service.servers.iter().all(|server| server.weight.get() == 1));
}

#[test]
fn nic() {
    let config = shipped("nic.toml");
    assert_eq!(config.dpdk.lcores.workers().len(), 4);
    assert_eq!(config.dpdk.idle, Idle::Poll);
    assert_eq!(config.connections.pages, Pages::Size1G);
    assert_eq!(config.connections.capacity.get(), 20_000_000);
    assert_eq!(config.ports[0].device.as_str(), "0000:03:00.0");
    assert_eq!([config.ports[0].side, config.ports[1].side], [Side::Clients, Side::Servers]);
    assert_eq!(config.timeouts.syn_recv.get(), 30);
    assert!(config.ipvs.expire_nodest_conn.is_on());
    assert_eq!(config.services[0].servers[2].weight.get(), 0);
    assert!(config.services[1].vip.to_string().starts_with("udp "));
}

#[test]
fn one_armed() {
    let config = shipped("one-armed.toml");
    let [arm] = config.ports.as_slice() else { panic!("one port") };
    assert_eq!(config.port_of("198.51.100.7".parse().unwrap()), Some(arm));
    assert_eq!(config.port_of("10.0.0.71".parse().unwrap()), Some(arm));
}

/// Every file beside the sources is one of those above.
#[test]
fn no_shipped_file_goes_untested() {
    let mut found: Vec<_> = std::fs::read_dir(env!("CARGO_MANIFEST_DIR"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".toml") && name != "Cargo.toml")
        .collect();
    found.sort();
    assert_eq!(found, ["lvs-nat.toml", "nic.toml", "one-armed.toml"]);
}

const SMALLEST: &str = "
dpdk.lcores = '0-1'
port = [{ name = 'a', device = '0000:03:00.0' }]
";

#[test]
fn what_is_left_out_has_its_default() {
    let config = Config::parse("smallest", SMALLEST).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(config.dpdk.mbufs.get(), 65_536);
    assert_eq!(config.dpdk.idle, Idle::Auto);
    assert!(config.dpdk.eal.is_empty());
    assert_eq!(config.control.directory.as_path(), Path::new("/run/director"));
    assert_eq!(config.connections.capacity.get(), 1_000_000);
    assert_eq!(config.connections.pages, Pages::Auto);
    assert!(config.ports[0].twin && config.ports[0].addresses.is_empty());
    assert_eq!(config.ports[0].side, Side::Both);
    assert!(config.ports[0].mtu.is_none() && config.ports[0].mac.is_none());
    assert!(config.services.is_empty() && config.neighbors.is_empty() && config.routes.is_empty());
    // IPVS's own.
    let timeouts = &config.timeouts;
    assert_eq!([timeouts.tcp, timeouts.tcpfin, timeouts.udp].map(Seconds::get), [900, 120, 300]);
    assert_eq!([timeouts.none, timeouts.syn_sent, timeouts.syn_recv].map(Seconds::get), [3, 120, 60]);
    assert_eq!([timeouts.time_wait, timeouts.close, timeouts.close_wait].map(Seconds::get), [120, 10, 60]);
    assert_eq!([timeouts.last_ack, timeouts.listen, timeouts.synack].map(Seconds::get), [30, 120, 120]);
    let expected = [
        ("sloppy_tcp", 0),
        ("conn_reuse_mode", 1),
        ("expire_nodest_conn", 0),
        ("drop_packet", 0),
        ("am_droprate", 10),
        ("nat_icmp_send", 0),
        ("drop_entry", 0),
        ("secure_tcp", 0),
        ("schedule_icmp", 0),
        ("sloppy_sctp", 0),
        ("expire_quiescent_template", 0),
        ("ftp_loose", 0),
        ("pmtu_disc", 1),
    ];
    assert!(config.ipvs.values().eq(expected));
}

#[test]
fn switches_are_as_in_the_kernel_too() {
    let text = "sloppy_tcp = -1\nexpire_nodest_conn = true\nnat_icmp_send = 0\nconn_reuse_mode = 7\n\
        drop_packet = 2\nam_droprate = -2_147_483_648\n";
    let text = format!("{SMALLEST}\n[ipvs]\n{text}");
    let config = Config::parse("switches", &text).unwrap_or_else(|errors| panic!("{errors}"));
    let expected = [
        ("sloppy_tcp", -1),
        ("conn_reuse_mode", 7),
        ("expire_nodest_conn", 1),
        // As long as memory is not short, the kernel takes its 2 back to 1.
        ("drop_packet", 1),
        ("am_droprate", i32::MIN),
        ("nat_icmp_send", 0),
        ("drop_entry", 0),
        ("secure_tcp", 0),
        ("schedule_icmp", 0),
        ("sloppy_sctp", 0),
        ("expire_quiescent_template", 0),
        ("ftp_loose", 0),
        ("pmtu_disc", 1),
    ];
    assert!(config.ipvs.values().eq(expected), "{:?}", config.ipvs);
}

#[test]
fn sysctls_are_set_as_in_proc_sys() {
    let mut sysctls = Sysctls::default();
    for &name in Sysctls::NAMES {
        for value in [0, 1, 3] {
            sysctls.set(name, &value.to_string()).unwrap();
            assert_eq!(sysctls.get(name), Ok(Setting::Number(value)), "{name}");
        }
        let before = sysctls;
        for value in ["", "on", "1.5", "0x1", "2147483648", "-2147483649", "99999999999999999999", "1 2"] {
            let invalid = sysctls.set(name, value).unwrap_err();
            assert_eq!(invalid.reason, format!("`{name}` cannot be `{value}`"));
            assert!(invalid.help.starts_with("possible: "), "{invalid:?}");
        }
        let any = sysctls.set(name, "-7").is_ok();
        assert_eq!(any, !["drop_packet", "drop_entry", "secure_tcp"].contains(&name));
        sysctls = before;
    }
    sysctls.set("drop_packet", "2\n").unwrap();
    assert_eq!(sysctls.get("drop_packet"), Ok(Setting::Number(1)));
    let invalid = sysctls.set("drop_packet", "4").unwrap_err();
    assert_eq!(invalid.help, "possible: 0 to 3 (0 never, 1 and 2 when memory is short, 3 always)");
}

#[test]
fn a_sysctl_without_an_effect_reads_as_its_default_and_takes_no_other() {
    let mut sysctls = Sysctls::default();
    for (name, value, others) in [
        ("conntrack", Setting::Number(0), &["1", "", "zero", "0 0"][..]),
        ("snat_reroute", Setting::Number(1), &["0"]),
        ("amemthresh", Setting::Number(1024), &["1023"]),
        ("sync_threshold", Setting::Text("3 50"), &["3", "5 2", "3 50 1"]),
    ] {
        assert_eq!(sysctls.get(name), Ok(value));
        let default = match value {
            Setting::Number(number) => format!(" {number}\n"),
            Setting::Text(text) => text.replace(' ', "\t"),
        };
        sysctls.set(name, &default).unwrap();
        for other in others {
            let invalid = sysctls.set(name, other).unwrap_err();
            assert_eq!(invalid.reason, format!("`{name}` has no effect here"), "{other}");
            assert!(invalid.help.starts_with("only the default "), "{}", invalid.help);
        }
    }
    assert_eq!(sysctls, Sysctls::default());
    let names: Vec<_> = sysctls.settings().map(|(name, _)| name).collect();
    assert!(names.contains(&"sync_version") && names.contains(&"drop_packet"));
    assert!(names.iter().all(|name| sysctls.get(name).is_ok()));
}

#[test]
fn a_sysctl_that_is_none_is_refused_by_name() {
    let mut sysctls = Sysctls::default();
    for (name, reason, help) in [
        (
            "sync_qlen_max",
            "`sync_qlen_max` has no effect here",
            "leave it out: the kernel computes its default",
        ),
        ("slopy_tcp", "there is no sysctl `slopy_tcp`", "did you mean `sloppy_tcp`?"),
        ("drop_entrys", "there is no sysctl `drop_entrys`", "did you mean `drop_entry`?"),
    ] {
        for invalid in [sysctls.set(name, "0").unwrap_err(), sysctls.get(name).unwrap_err()] {
            assert_eq!((invalid.reason.as_str(), invalid.help.as_str()), (reason, help));
        }
    }
    let invalid = sysctls.get("").unwrap_err();
    assert_eq!(invalid.reason, "there is no sysctl ``");
    assert_eq!(sysctls, Sysctls::default());
}

#[test]
fn a_file_that_cannot_be_read() {
    let error = Config::load("/nonexistent/director.toml").unwrap_err();
    assert_eq!(error.len(), 1);
    let text = error.to_string();
    assert!(text.contains("cannot read /nonexistent/director.toml: No such file or directory"), "{text}");
    assert!(Config::load("/").unwrap_err().to_string().contains("cannot read /: Is a directory"));
    assert!(Config::load("/dev/zero").unwrap_err().to_string().contains("/dev/zero is too long"));
}

#[test]
fn a_file_that_is_no_text() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("latin1.toml");
    std::fs::write(&path, b"# caf\xe9\n").unwrap();
    let errors = Config::load(&path).unwrap_err();
    let problem = errors.iter().next().unwrap();
    assert_eq!((problem.line(), problem.column(), problem.message()), (1, 6, "this is not UTF-8"));
}

#[test]
fn a_long_line_is_shown_in_part() {
    let text = format!("{SMALLEST}\n[ipvs]\n{}sloppy_tcp = 'ä{}'", " ".repeat(70_000), "ä".repeat(70_000));
    let errors = Config::parse("long", &text).unwrap_err();
    let problem = errors.iter().next().unwrap();
    assert_eq!((problem.line(), problem.column()), (6, 70_014));
    let report = errors.to_string();
    assert!(report.contains("[long:6:70014]") && report.contains("^^^^") && report.len() < 1_500, "{report}");
}

#[test]
fn nothing_a_terminal_obeys_is_printed() {
    let report = Config::parse("escape", "a = '\u{1b}[31m'\r\nb\u{7} = 1").unwrap_err().to_string();
    assert!(report.chars().all(|c| c == '\n' || !c.is_control()), "{report:?}");
}
