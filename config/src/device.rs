//! The device of a port: a PCI address, or the name and arguments of a virtual device.

use std::fmt;
use std::str::FromStr;

use crate::invalid::{Invalid, serialize_as_text};
use crate::reader::suggestion;

/// DPDK's drivers of virtual network devices. EAL finds the driver of a device by the beginning of its
/// name: `net_af_packet0` belongs to `net_af_packet`.
const VIRTUAL_DRIVERS: &[&str] = &[
    "net_af_packet",
    "net_af_xdp",
    "net_bonding",
    "net_failsafe",
    "net_memif",
    "net_null",
    "net_pcap",
    "net_ring",
    "net_softnic",
    "net_tap",
    "net_vdev_netvsc",
    "net_vhost",
    "net_virtio_user",
];

/// Drivers that open an existing kernel interface, named by `iface`.
const OPENS_INTERFACE: &[&str] = &["net_af_packet", "net_af_xdp"];
/// The driver that makes a kernel interface, named by `iface` (else `dtap0`, …).
const MAKES_INTERFACE: &str = "net_tap";

/// Drivers whose arguments set the number of queues, and by which argument.
const COUNTS_QUEUES: &[(&str, &str)] = &[
    ("net_af_packet", "qpairs=N"),
    ("net_af_xdp", "queue_count=N"),
    ("net_pcap", "a further rx_pcap=FILE or rx_iface=NAME"),
    ("net_vhost", "queues=N"),
    ("net_virtio_user", "queues=N"),
];

const EXAMPLES: &str =
    "for example \"0000:03:00.0\" (see dpdk-devbind.py --status) or \"net_af_packet0,iface=eth1\"";

/// A port's device. Its text is what EAL takes after `-a` or `--vdev`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    text: String,
    kind: Kind,
    /// The length of the device's name, which the text begins with; the arguments follow.
    name: usize,
}

/// How a device is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It sits on the PCI bus.
    Pci,
    /// This driver makes it.
    Virtual(&'static str),
}

impl Device {
    /// How it is found.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Its name for DPDK: `0000:03:00.0`, `net_af_packet0`.
    pub fn name(&self) -> &str {
        &self.text[..self.name]
    }

    /// Its name with its arguments.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The driver of a virtual device: `net_af_packet`.
    pub fn driver(&self) -> Option<&'static str> {
        match self.kind {
            Kind::Pci => None,
            Kind::Virtual(driver) => Some(driver),
        }
    }

    /// The arguments after the name, `key=value` or `key`.
    pub fn arguments(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        arguments(&self.text[self.name..])
    }

    /// The value of an argument.
    pub fn argument(&self, key: &str) -> Option<&str> {
        self.arguments().find(|(found, _)| *found == key).and_then(|(_, value)| value)
    }

    /// The kernel interface it sends and receives through (`net_af_packet`, `net_af_xdp`). The kernel hears those
    /// frames as well.
    pub fn opened_interface(&self) -> Option<&str> {
        self.driver().filter(|driver| OPENS_INTERFACE.contains(driver)).and_then(|_| self.argument("iface"))
    }

    /// The argument that sets the number of receive queues, for drivers that take it from the arguments.
    pub fn queues_argument(&self) -> Option<&'static str> {
        let driver = self.driver()?;
        COUNTS_QUEUES.iter().find(|(name, _)| *name == driver).map(|(_, argument)| *argument)
    }

    /// The name of the kernel interface that the device opens or makes.
    pub fn interface(&self) -> Option<&str> {
        let driver = self.driver()?;
        (OPENS_INTERFACE.contains(&driver) || driver == MAKES_INTERFACE)
            .then(|| self.argument("iface"))
            .flatten()
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

serialize_as_text!(Device);

fn arguments(text: &str) -> impl Iterator<Item = (&str, Option<&str>)> {
    text.split(',').skip(1).map(|argument| match argument.split_once('=') {
        Some((key, value)) => (key, Some(value)),
        None => (argument, None),
    })
}

impl FromStr for Device {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        if let Some(c) = text.chars().find(|c| c.is_whitespace() || c.is_control()) {
            return Err(Invalid::new(
                format!("a device is named without spaces, and this holds {c:?}"),
                EXAMPLES,
            ));
        }
        let name = text.split(',').next().unwrap_or_default();
        let rest = &text[name.len()..];
        let (name, kind) = match pci_address(name) {
            Some(address) => (address, Kind::Pci),
            None => (name.to_owned(), Kind::Virtual(virtual_driver(name)?)),
        };
        let device = Self { text: format!("{name}{rest}"), kind, name: name.len() };
        device.check_arguments()?;
        Ok(device)
    }
}

impl Device {
    fn check_arguments(&self) -> Result<(), Invalid> {
        if let Some((_, value)) = self.arguments().find(|(key, _)| key.is_empty()) {
            return Err(match value {
                Some(value) => {
                    Invalid::new(format!("the argument `={value}` has no name"), "write KEY=VALUE")
                }
                None => {
                    Invalid::new("two commas follow each other, or the last has nothing after it", EXAMPLES)
                }
            });
        }
        if let Some(driver) = self.driver().filter(|driver| OPENS_INTERFACE.contains(driver))
            && self.argument("iface").is_none_or(str::is_empty)
        {
            return Err(Invalid::new(
                format!("{driver} does not know which interface to open"),
                format!("add it, for example \"{},iface=eth1\"", self.name()),
            ));
        }
        Ok(())
    }
}

/// `[domain:]bus:device.function` in hexadecimal, written out in full.
fn pci_address(text: &str) -> Option<String> {
    let (bus, function) = text.rsplit_once('.')?;
    let mut parts = bus.rsplit(':');
    let device = hex(parts.next()?, 2, 0x1f)?;
    let bus = hex(parts.next()?, 2, 0xff)?;
    let domain = parts.next().map_or(Some(0), |domain| hex(domain, 8, u32::MAX))?;
    let function = hex(function, 1, 7)?;
    parts.next().is_none().then(|| format!("{domain:04x}:{bus:02x}:{device:02x}.{function}"))
}

fn hex(text: &str, digits: usize, max: u32) -> Option<u32> {
    let plain = (1..=digits).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    plain.then(|| u32::from_str_radix(text, 16).ok()).flatten().filter(|value| *value <= max)
}

fn virtual_driver(name: &str) -> Result<&'static str, Invalid> {
    let known = VIRTUAL_DRIVERS.iter().filter(|driver| name.starts_with(**driver));
    if let Some(driver) = known.max_by_key(|driver| driver.len()) {
        return Ok(driver);
    }
    let stem = name.trim_end_matches(|c: char| c.is_ascii_digit());
    let looks_virtual = stem.starts_with("net") || stem.starts_with("eth_");
    Err(if looks_virtual {
        Invalid::new(
            format!("`{}` belongs to no virtual driver of DPDK", name.escape_debug()),
            suggestion(stem, "its drivers", VIRTUAL_DRIVERS.iter().copied()),
        )
    } else {
        Invalid::new(
            format!("`{}` is neither a PCI address nor a virtual device", name.escape_debug()),
            EXAMPLES,
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(text: &str) -> Device {
        text.parse().unwrap()
    }

    #[test]
    fn pci_addresses_are_written_out() {
        for (text, full) in [
            ("0000:03:00.0", "0000:03:00.0"),
            ("03:00.1", "0000:03:00.1"),
            ("0:3:1F.7", "0000:03:1f.7"),
            ("10000:03:00.0", "10000:03:00.0"),
        ] {
            assert_eq!(device(text).as_str(), full);
            assert_eq!(device(text).kind(), Kind::Pci);
        }
        let nic = device("03:00.0,rx_vec_en=1");
        assert_eq!((nic.name(), nic.as_str()), ("0000:03:00.0", "0000:03:00.0,rx_vec_en=1"));
        assert_eq!(nic.argument("rx_vec_en"), Some("1"));
        assert_eq!(nic.interface(), None);
    }

    #[test]
    fn virtual_devices() {
        let veth = device("net_af_packet0,iface=veth-front,qpairs=2,x");
        assert_eq!(veth.name(), "net_af_packet0");
        assert_eq!(veth.driver(), Some("net_af_packet"));
        assert_eq!(veth.opened_interface(), Some("veth-front"));
        assert_eq!(veth.argument("qpairs"), Some("2"));
        assert_eq!(
            veth.arguments().collect::<Vec<_>>(),
            [("iface", Some("veth-front")), ("qpairs", Some("2")), ("x", None)]
        );
        let tap = device("net_tap3,iface=t0");
        assert_eq!((tap.opened_interface(), tap.interface()), (None, Some("t0")));
        assert_eq!(device("net_pcap0,rx_pcap=a.pcap,rx_pcap=b.pcap").arguments().count(), 2);
        assert_eq!(device("net_null0").interface(), None);
    }

    #[test]
    fn what_is_no_device() {
        for (text, reason) in [
            ("", "`` is neither a PCI address nor a virtual device"),
            ("eth1", "`eth1` is neither a PCI address nor a virtual device"),
            ("0000:03:20.0", "`0000:03:20.0` is neither a PCI address nor a virtual device"),
            ("0000:03:00.8", "`0000:03:00.8` is neither a PCI address nor a virtual device"),
            ("0:0000:03:00.1", "`0:0000:03:00.1` is neither a PCI address nor a virtual device"),
            ("net_afpacket0,iface=x", "`net_afpacket0` belongs to no virtual driver of DPDK"),
            ("net_af_packet0", "net_af_packet does not know which interface to open"),
            ("net_af_xdp0,iface=", "net_af_xdp does not know which interface to open"),
            ("net_null0,", "two commas follow each other, or the last has nothing after it"),
            ("net_null0,=3", "the argument `=3` has no name"),
            ("net_null0, size=64", "a device is named without spaces, and this holds ' '"),
        ] {
            assert_eq!(text.parse::<Device>().unwrap_err().reason, reason);
        }
        assert_eq!("net_afpacket0".parse::<Device>().unwrap_err().help, "did you mean `net_af_packet`?");
    }
}
