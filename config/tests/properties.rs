//! What holds for any text, and for any configuration that is valid.

// A test may panic; that is how it fails.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fmt::Write;
use std::sync::LazyLock;

use bolero::{TypeGenerator, check};
use director_config::{Config, Errors};

const SHIPPED: [&str; 3] =
    [include_str!("../lvs-nat.toml"), include_str!("../nic.toml"), include_str!("../one-armed.toml")];

/// The shipped files, read.
static RUNNING: LazyLock<Vec<Config>> = LazyLock::new(|| {
    let read = |text| Config::parse("running", text).unwrap_or_else(|errors| panic!("{errors}"));
    SHIPPED.into_iter().map(read).collect()
});

/// Reads and prints a text, for a start and for a director that runs with a shipped file.
fn read(text: &str) {
    let parsed = Config::parse("any", text);
    for running in &*RUNNING {
        let again = Config::parse_again("any", text, running);
        let may_be = parsed.as_ref().is_ok_and(|config| runs_on(running, config));
        assert_eq!(again.is_ok(), may_be, "{again:?}");
        has_places(text, again);
    }
    if let Ok(config) = &parsed {
        assert!(Config::parse_again("any", text, config).is_ok_and(|again| again == *config));
    }
    has_places(text, parsed);
}

/// Whether one may become the other while a director runs: in all but what is made for that they are the same.
fn runs_on(running: &Config, config: &Config) -> bool {
    let ports = |config: &Config| {
        let mut ports = config.ports.clone();
        ports.iter_mut().filter(|port| port.twin).for_each(|port| port.addresses.clear());
        ports
    };
    let mut changed = running.clone();
    (changed.timeouts, changed.ipvs) = (config.timeouts.clone(), config.ipvs);
    (changed.marks, changed.services) = (config.marks.clone(), config.services.clone());
    changed.ports = config.ports.clone();
    changed == *config && ports(running) == ports(config)
}

/// Whatever is wrong has a place in the text, and an error says something.
fn has_places(text: &str, parsed: Result<Config, Errors>) {
    let lines = text.split('\n').count();
    let (problems, report): (Vec<_>, _) = match parsed {
        Ok(config) => (config.warnings().iter().cloned().collect(), config.warnings().to_string()),
        Err(errors) => (errors.iter().cloned().collect(), errors.to_string()),
    };
    for problem in &problems {
        assert!((1..=lines).contains(&problem.line()) && problem.column() >= 1, "{problem:?}");
        assert!(!problem.message().is_empty());
        assert!(report.contains(&format!("[any:{}:{}]", problem.line(), problem.column())), "{report}");
    }
}

#[test]
fn any_text_is_read_without_a_panic() {
    check!().with_type::<String>().for_each(|text| read(text));
}

/// The target `config` of `scripts/fuzz`. What is valid is so however it is written.
#[test]
fn any_bytes() {
    check!(name = "config").for_each(|bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes);
        read(&text);
        if let Ok(config) = Config::parse("any", &text) {
            let written = config.to_toml().unwrap();
            let again =
                Config::parse("written", &written).unwrap_or_else(|errors| panic!("{written}\n{errors}"));
            assert_eq!(config, again);
        }
    });
}

/// Something done to a shipped file: a good part of what comes out is still TOML.
#[derive(Clone, Debug, TypeGenerator)]
enum Edit {
    Remove { at: u16, length: u8 },
    Insert { at: u16, text: String },
    Character { at: u16, character: char },
    Word { at: u16, word: u8 },
    SwapLines { one: u8, other: u8 },
    RepeatLine { line: u8 },
}

const WORDS: [&str; 16] = [
    "\"",
    "'",
    "=",
    "[",
    "]",
    "[[",
    "]]",
    "\n",
    "{}",
    "[[port]]\n",
    "[[service]]\n",
    "true",
    "0",
    "-1",
    "1.5",
    "1979-05-27",
];

fn boundary(text: &str, at: usize) -> usize {
    (0..=at % (text.len() + 1)).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}

impl Edit {
    fn apply(&self, text: &str) -> String {
        let mut lines: Vec<_> = text.split('\n').collect();
        let put = |at: u16, what: &str| {
            let (before, after) = text.split_at(boundary(text, at.into()));
            format!("{before}{what}{after}")
        };
        match self {
            Self::Remove { at, length } => {
                let begin = boundary(text, (*at).into());
                let end = boundary(text, (begin + usize::from(*length)).min(text.len()));
                format!("{}{}", &text[..begin], &text[end.max(begin)..])
            }
            Self::Insert { at, text } => put(*at, text),
            Self::Character { at, character } => put(*at, &character.to_string()),
            Self::Word { at, word } => put(*at, WORDS[usize::from(*word) % WORDS.len()]),
            Self::SwapLines { one, other } => {
                let count = lines.len();
                lines.swap(usize::from(*one) % count, usize::from(*other) % count);
                lines.join("\n")
            }
            Self::RepeatLine { line } => {
                let line = usize::from(*line) % lines.len();
                lines.insert(line, lines[line]);
                lines.join("\n")
            }
        }
    }
}

#[test]
fn a_spoiled_file_is_read_without_a_panic() {
    check!().with_type::<(u8, Vec<Edit>)>().for_each(|(file, edits)| {
        let text = SHIPPED[usize::from(*file) % SHIPPED.len()].to_owned();
        read(&edits.iter().fold(text, |text, edit| edit.apply(&text)));
    });
}

/// A file that is valid whatever the numbers are.
#[derive(Clone, Debug, TypeGenerator)]
struct Valid {
    workers: u8,
    mbufs: u32,
    capacity: u32,
    pages: Option<u8>,
    timeouts: [Option<u32>; 3],
    sloppy: Option<bool>,
    reuse: Option<i32>,
    ports: Vec<ValidPort>,
    services: Vec<ValidService>,
}

#[derive(Clone, Debug, TypeGenerator)]
struct ValidPort {
    device: u8,
    twin: Option<bool>,
    mtu: Option<u16>,
    queues: Option<u16>,
    mac: Option<[u8; 6]>,
    neighbor: Option<[u8; 6]>,
    route: Option<(u32, u8, Option<u32>)>,
    v6: bool,
}

#[derive(Clone, Debug, TypeGenerator)]
struct ValidService {
    udp: bool,
    port: u16,
    servers: Vec<ValidServer>,
}

#[derive(Clone, Debug, TypeGenerator)]
struct ValidServer {
    host: u8,
    weight: Option<u32>,
    thresholds: Option<(u32, u32)>,
}

impl Valid {
    fn text(&self) -> String {
        let mut out = String::new();
        let w = &mut out;
        let mut line = |line: String| writeln!(w, "{line}").unwrap();
        line(format!("[dpdk]\nlcores = '0-{}'", 1 + self.workers % 100));
        line(format!("mbufs = {}", 1024 + self.mbufs % 16_000_000));
        line(format!("[connections]\ncapacity = {}", 1 + self.capacity % 2_147_483_647));
        if let Some(pages) = self.pages {
            line(format!("pages = '{}'", ["auto", "4k", "2m", "1g"][usize::from(pages % 4)]));
        }
        line("[timeouts]".to_owned());
        for (key, seconds) in ["tcp", "close", "synack"].iter().zip(self.timeouts) {
            if let Some(seconds) = seconds {
                line(format!("{key} = {}", 1 + seconds % 2_678_400));
            }
        }
        line("[ipvs]".to_owned());
        if let Some(sloppy) = self.sloppy {
            line(format!("sloppy_tcp = {sloppy}"));
        }
        if let Some(reuse) = self.reuse {
            line(format!("conn_reuse_mode = {reuse}"));
        }
        for index in 0..self.ports.len().clamp(1, 200) {
            line(format!("[[port]]\nname = 'port{index}'"));
            let Some(port) = self.ports.get(index) else {
                line("device = '03:00.0'".to_owned());
                break;
            };
            line(match port.device % 4 {
                0 => format!("device = '{index:02x}:00.0,key={index}'"),
                1 => format!("device = 'net_af_packet{index},iface=veth{index}'"),
                2 => format!("device = 'net_null{index}'"),
                _ => format!("device = 'net_tap{index},iface=tap{index},flag'"),
            });
            let second = if port.v6 { format!(", '2001:db8:{index}::1/64'") } else { String::new() };
            line(format!("addresses = ['10.{index}.0.1/16'{second}]"));
            if let Some(twin) = port.twin {
                line(format!("twin = {twin}"));
            }
            if let Some(mtu) = port.mtu {
                line(format!("mtu = {}", 1280 + mtu % 8000));
            }
            // The queues of an af_packet device are among its arguments.
            if let Some(queues) = port.queues.filter(|_| port.device % 4 != 1) {
                line(format!("rx_queues = {}", 1 + queues % 1024));
            }
            if let Some([.., a, b]) = port.mac {
                line(format!("mac = '02:{index:02x}:00:00:{a:02x}:{b:02X}'"));
            }
        }
        for (index, port) in self.ports.iter().take(200).enumerate() {
            if let Some([_, _, a, b, c, d]) = port.neighbor {
                line(format!(
                    "[[neighbor]]\naddress = '10.{index}.1.2'\nmac = '06:00:{a:02x}:{b:02x}:{c:02x}:{d:02x}'"
                ));
            }
            if let Some((destination, length, metric)) = port.route {
                let length = u32::from(length % 33);
                let masked = destination & u32::MAX.checked_shl(32 - length).unwrap_or(0);
                let metric = metric.unwrap_or(0).wrapping_mul(256).wrapping_add(index as u32);
                line(format!(
                    "[[route]]\ndestination = '{}/{length}'",
                    std::net::Ipv4Addr::from_bits(masked)
                ));
                line(format!("gateway = '10.{index}.0.2'\nport = 'port{index}'\nmetric = {metric}"));
            }
        }
        for (index, service) in self.services.iter().take(200).enumerate() {
            let protocol = if service.udp { "udp" } else { "tcp" };
            let port = service.port.max(1);
            line(format!("[[service]]\nprotocol = '{protocol}'\naddress = '198.51.100.{index}:{port}'"));
            line(match port % 4 {
                0 => "scheduler = 'wlc'".to_owned(),
                1 => "scheduler = 'sh'\nflags = ['sh-port', 'sh-fallback', 'sh-port']\npersistent = 360"
                    .to_owned(),
                2 => "scheduler = 'mh'\nflags = ['mh-port']\npersistent = 1\nnetmask = '255.255.0.255'"
                    .to_owned(),
                _ if service.udp => "scheduler = 'rr'\npersistent = 7\npersistence_engine = 'sip'".to_owned(),
                _ => "scheduler = 'rr'\nflags = []".to_owned(),
            });
            for (number, ValidServer { host, weight, thresholds }) in
                service.servers.iter().take(1000).enumerate()
            {
                line(format!(
                    "[[service.server]]\naddress = '10.0.{host}.{}:{}'",
                    1 + number % 250,
                    1 + number
                ));
                if let Some(weight) = weight {
                    line(format!("weight = {}", weight & 0x7fff_ffff));
                }
                if let Some((one, other)) = thresholds {
                    let (one, other) = (one & 0x7fff_ffff, other & 0x7fff_ffff);
                    line(format!(
                        "upper_threshold = {}\nlower_threshold = {}",
                        one.max(other),
                        one.min(other)
                    ));
                }
            }
        }
        out
    }
}

#[test]
fn a_valid_configuration_survives_being_written() {
    check!().with_type::<Valid>().for_each(|valid| {
        let text = valid.text();
        let config = Config::parse("valid", &text).unwrap_or_else(|errors| panic!("{text}\n{errors}"));
        let written = config.to_toml().unwrap();
        let again = Config::parse("written", &written).unwrap_or_else(|errors| panic!("{written}\n{errors}"));
        assert_eq!(config, again);
        assert_eq!(written, again.to_toml().unwrap());
    });
}

#[test]
fn the_shipped_files_survive_being_written() {
    for text in SHIPPED {
        let config = Config::parse("shipped", text).unwrap_or_else(|errors| panic!("{errors}"));
        let written = config.to_toml().unwrap();
        assert_eq!(config, Config::parse("written", &written).unwrap_or_else(|errors| panic!("{errors}")));
    }
}

/// The empty text is a file with everything missing.
#[test]
fn the_empty_text() {
    assert_eq!(Config::parse("empty", "").unwrap_err().len(), 2);
}
