//! What cannot change while a director runs: the devices, the threads, the memory, the sockets.

use serde::Serialize;
use toml::{Table, Value};

use crate::Config;
use crate::port::Port;
use crate::reader::Section;

/// Refuses a file that differs, in what cannot change, from the configuration that the running director was started
/// with. `document` is the file that `config` was read from.
pub(crate) fn refuse(running: &Config, config: &Config, document: &Section<'_>) {
    for (key, title, runs, wanted) in [
        ("dpdk", "[dpdk]", table(&running.dpdk), table(&config.dpdk)),
        ("control", "[control]", table(&running.control), table(&config.control)),
        ("connections", "[connections]", table(&running.connections), table(&config.connections)),
    ] {
        section(&document.table(key, title), &runs, &wanted);
    }
    // The addresses of a kernel twin belong to the kernel, which can change them at any time.
    let ports = |config: &Config| -> Vec<Port> {
        let port = |port: &Port| {
            let addresses = if port.twin { Vec::new() } else { port.addresses.clone() };
            Port { addresses, ..port.clone() }
        };
        config.ports.iter().map(port).collect()
    };
    list("port", "[[port]]", &ports(running), &ports(config), document);
}

/// Tables of which there are any number, in their order.
fn list<T: Serialize>(
    key: &'static str,
    title: &'static str,
    running: &[T],
    wanted: &[T],
    document: &Section<'_>,
) {
    let sections = document.tables(key, title);
    for ((section, runs), wanted) in sections.iter().zip(running).zip(wanted) {
        self::section(section, &table(runs), &table(wanted));
    }
    if let Some(surplus) = sections.get(running.len()) {
        surplus.log.error(
            &surplus.at,
            format!("there cannot be a further {title} while the director runs"),
            format!("it runs with {}: leave this one out, or restart the director", running.len()),
        );
    }
    if running.len() > sections.len() {
        document.log.error(
            &sections.last().map_or(0..0, |last| last.at.clone()),
            format!("no {title} can go while the director runs"),
            format!(
                "it runs with {}, and the file has {}: put back what is missing, or restart the director",
                running.len(),
                sections.len()
            ),
        );
    }
}

/// The keys of one table.
fn section(section: &Section<'_>, runs: &Table, wanted: &Table) {
    let keys = wanted.keys().chain(runs.keys().filter(|key| !wanted.contains_key(*key)));
    for key in keys.filter(|key| runs.get(*key) != wanted.get(*key)) {
        let help = match runs.get(key) {
            Some(value) => format!("it runs with {key} = {value}: put that back, or restart the director"),
            None => format!("it runs without `{key}`: leave it out, or restart the director"),
        };
        section.log.error(
            &section.place_of(key),
            format!("`{key}` of {} cannot change while the director runs", section.title),
            help,
        );
    }
}

/// A section as keys and values, including defaults. Values without a form in TOML would be left out, but a
/// configuration has none.
fn table(section: &impl Serialize) -> Table {
    match Value::try_from(section) {
        Ok(Value::Table(table)) => table,
        _ => Table::new(),
    }
}

#[cfg(test)]
mod tests {
    use crate::Config;

    const RUNNING: &str = "[dpdk]\nlcores = '0-1'\n\n[connections]\ncapacity = 1000\n\n\
        [[port]]\nname = 'front'\ndevice = 'net_af_packet0,iface=veth-front'\naddresses = ['192.168.18.58/24']\n\n\
        [[port]]\nname = 'back'\ndevice = 'net_af_packet1,iface=veth-back'\naddresses = ['192.168.2.90/24']\n\n\
        [[route]]\ndestination = 'default'\ngateway = '192.168.18.1'\n";

    fn reread(text: &str) -> Result<Config, String> {
        let running = Config::parse("FILE", RUNNING).unwrap();
        Config::parse_again("FILE", text, &running).map_err(|errors| errors.to_string())
    }

    #[test]
    fn what_may_change() {
        let same = reread(RUNNING).unwrap();
        assert_eq!(same, Config::parse("FILE", RUNNING).unwrap());
        // The same value written differently is no change.
        reread(&RUNNING.replace("capacity = 1000", "capacity = 1_000 # as ever\npages = 'auto'")).unwrap();
        let more = format!(
            "{RUNNING}[timeouts]\ntcp = 60\n[ipvs]\nsloppy_tcp = true\n[[mark]]\nmark = 1\n\
             [[service]]\nprotocol = 'tcp'\naddress = '192.168.18.58:80'\nscheduler = 'rr'"
        );
        assert_eq!(reread(&more).unwrap().services.len(), 1);
        reread(&RUNNING.replace("['192.168.18.58/24']", "['192.168.18.58/24', '192.168.18.59/24']")).unwrap();
        reread(&RUNNING.replace("192.168.18.1'", "192.168.18.2'")).unwrap();
        assert_eq!(reread(RUNNING.split("[[route]]").next().unwrap()).unwrap().routes, []);
        let neighbor = "[[neighbor]]\naddress = '192.168.2.71'\nmac = '02:00:00:00:0d:01'\n";
        assert_eq!(reread(&format!("{RUNNING}{neighbor}")).unwrap().neighbors.len(), 1);
    }

    #[test]
    fn the_addresses_of_a_port_without_a_twin() {
        let alone = RUNNING.replace("veth-front'", "veth-front'\ntwin = false");
        let running = Config::parse("FILE", &alone).unwrap();
        let changed = alone.replace("192.168.18.58/24", "192.168.18.59/24");
        let errors = Config::parse_again("FILE", &changed, &running).unwrap_err().to_string();
        assert!(errors.contains("`addresses` of [[port]] cannot change"), "{errors}");
        assert!(errors.contains("it runs with addresses = [\"192.168.18.58/24\"]"), "{errors}");
    }

    #[test]
    fn what_may_not() {
        for (from, to, place, message) in [
            ("'0-1'", "'0-2'", "2:10", "`lcores` of [dpdk]"),
            ("capacity = 1000", "capacity = 2000", "5:12", "`capacity` of [connections]"),
            ("capacity = 1000", "", "4:1", "`capacity` of [connections]"),
            (
                "capacity = 1000",
                "capacity = 1000\ncapacity_ipv6 = 7",
                "6:17",
                "`capacity_ipv6` of [connections]",
            ),
            ("[connections]\ncapacity = 1000", "", "1:1", "`capacity` of [connections]"),
            ("lcores = '0-1'", "lcores = '0-1'\neal = ['--no-huge']", "3:7", "`eal` of [dpdk]"),
            ("[dpdk]", "[control]\ndirectory = '/run/other'\n[dpdk]", "2:13", "`directory` of [control]"),
            ("name = 'back'", "name = 'rear'", "13:8", "`name` of [[port]]"),
            ("veth-back'", "veth-back'\nmtu = 1400", "15:7", "`mtu` of [[port]]"),
        ] {
            let errors = reread(&RUNNING.replace(from, to)).unwrap_err();
            let expected = format!("error: {message} cannot change while the director runs");
            assert!(errors.contains(&expected) && errors.contains("1 error in FILE"), "{to}: {errors}");
            assert!(errors.contains(&format!("[FILE:{place}]")), "{to}: {place}: {errors}");
        }
    }

    #[test]
    fn what_may_neither_come_nor_go() {
        let further = "[[port]]\nname = 'third'\ndevice = '0000:03:00.0'\n";
        let errors = reread(&format!("{RUNNING}{further}")).unwrap_err();
        assert!(errors.contains("there cannot be a further [[port]]"), "{errors}");
        let (fewer, _) = RUNNING.rsplit_once("[[port]]").unwrap();
        let errors = reread(fewer).unwrap_err();
        assert!(errors.contains("no [[port]] can go"), "{errors}");
    }

    #[test]
    fn a_file_that_is_wrong_says_that_alone() {
        let wrong = RUNNING.replace("'0-1'", "'0-2'").replace("capacity = 1000", "capacity = -1");
        let errors = reread(&wrong).unwrap_err();
        assert!(errors.contains("`capacity` cannot be -1") && errors.contains("1 error in FILE"), "{errors}");
    }

    #[test]
    fn what_the_file_gives() {
        let text = format!("{RUNNING}[timeouts]\ntcp = 900\n[ipvs]\nsloppy_tcp = 0");
        let config = Config::parse("FILE", &text).unwrap();
        assert!(config.gives("timeouts", "tcp") && config.gives("ipvs", "sloppy_tcp"));
        assert!(!config.gives("timeouts", "udp") && !config.gives("ipvs", "tcp"));
    }
}
