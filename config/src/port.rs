//! `[[port]]`: a device, the name of its kernel twin and the addresses on it.

use std::net::IpAddr;

use serde::Serialize;

use crate::address::{InterfaceAddress, MacAddress};
use crate::device::Device;
use crate::invalid::{Word, bounded};
use crate::name::InterfaceName;
use crate::problem::Span;
use crate::reader::{Section, Seen};

bounded! {
    /// The largest IP packet that a port sends, in bytes; RFC 791 requires at least 68.
    Mtu(u16) in 68..=9600, "bytes"
}

bounded! {
    /// How many receive queues.
    Queues(u16) in 1..=1024, "queues"
}

bounded! {
    /// How many packets a queue holds.
    Descriptors(u16) in 32..=32_768, "descriptors"
}

/// The smallest MTU with which Linux keeps IPv6 on an interface (RFC 8200, section 5).
const IPV6_MTU: u16 = 1280;

/// Who is on the other side of a port. This does not change what happens to a packet, only which worker a device
/// gives it to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// Clients and servers, or unknown.
    #[default]
    Both,
    /// Clients.
    Clients,
    /// Real servers.
    Servers,
}

impl Word for Side {
    const WORDS: &'static [(&'static str, Result<Self, &'static str>)] =
        &[("both", Ok(Side::Both)), ("clients", Ok(Side::Clients)), ("servers", Ok(Side::Servers))];
}

/// A DPDK port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Port {
    /// Its name, and its kernel twin's.
    pub name: InterfaceName,
    /// What drives it.
    pub device: Device,
    /// The addresses the director sets on the twin.
    pub addresses: Vec<InterfaceAddress>,
    /// Whether it has a kernel twin.
    pub twin: bool,
    /// Who is on the other side of it.
    pub side: Side,
    /// The MTU it starts with; the device's own if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtu: Option<Mtu>,
    /// The number of receive queues; one for each worker if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rx_queues: Option<Queues>,
    /// Descriptors of each queue; the driver's own choice if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub descriptors: Option<Descriptors>,
    /// The MAC address of the port and its twin; the device's own if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mac: Option<MacAddress>,
}

/// The ports of the document, with what the other sections are checked against.
pub(crate) struct Ports {
    pub(crate) list: Vec<Port>,
    pub(crate) names: Seen<String>,
    /// There was no error in any of them, so a port that is not here does not exist.
    pub(crate) sound: bool,
}

/// What no two ports may have in common.
#[derive(Default)]
struct Taken {
    devices: Seen<String>,
    interfaces: Seen<String>,
    addresses: Seen<IpAddr>,
    macs: Seen<MacAddress>,
}

impl Ports {
    pub(crate) fn read(document: &Section<'_>) -> Self {
        let log = document.log;
        let before = log.errors();
        let sections = document.tables("port", "[[port]]");
        if sections.is_empty() && log.errors() == before {
            log.error(
                &document.at,
                "the file has no [[port]]",
                "add at least one, with a `name`, a `device` and its `addresses`",
            );
        }
        let mut taken = Taken::default();
        let mut names = Seen::default();
        let mut interfaces = Vec::new();
        let list: Vec<Port> = sections
            .into_iter()
            .filter_map(|section| Port::read(section, &mut names, &mut taken, &mut interfaces))
            .collect();
        for (interface, at) in interfaces {
            if list.iter().any(|port| port.twin && port.name == *interface) {
                log.error(
                    &at,
                    format!("the device takes the kernel interface `{interface}`, and a port's twin needs that name"),
                    format!("rename the port, or the interface: ip link set {interface} name veth-{interface}"),
                );
            }
        }
        Self { list, names, sound: log.errors() == before }
    }
}

impl Port {
    fn read(
        section: Section<'_>,
        names: &mut Seen<String>,
        taken: &mut Taken,
        interfaces: &mut Vec<(String, Span)>,
    ) -> Option<Self> {
        let log = section.log;

        let name = section.require("name", "\"front\"").and_then(|item| {
            let name: InterfaceName = item.parse()?;
            names.note(name.to_string(), &item.span(), log, || format!("there are two ports `{name}`"));
            Some(name)
        });

        let example = "\"net_af_packet0,iface=veth-front\"";
        let device = section.require("device", example).and_then(|item| {
            let device: Device = item.parse()?;
            let at = item.span();
            taken.devices.note(device.name().to_owned(), &at, log, || {
                format!("there are two ports on the device {}", device.name())
            });
            if let Some(interface) = device.interface() {
                taken.interfaces.note(interface.to_owned(), &at, log, || {
                    format!("two ports would share the interface `{interface}`")
                });
                interfaces.push((interface.to_owned(), at));
            }
            Some(device)
        });

        let given =
            section.get("addresses").map(|item| item.list("[\"192.168.18.58/24\"]")).unwrap_or_default();
        let addresses: Vec<InterfaceAddress> = given
            .iter()
            .filter_map(|item| {
                let address: InterfaceAddress = item.parse()?;
                let ip = address.address();
                taken.addresses.note(ip, &item.span(), log, || format!("the address {ip} is given twice"));
                Some(address)
            })
            .collect();

        let twin = section.get("twin").and_then(|item| item.boolean()).unwrap_or(true);
        let side = section.word_or_default("side");
        let mtu = section.get("mtu").and_then(|item| {
            let mtu: Mtu = item.number()?;
            if mtu.get() < IPV6_MTU && addresses.iter().any(|address| address.address().is_ipv6()) {
                item.error(
                    format!("IPv6 needs an `mtu` of {IPV6_MTU}, and this port has an IPv6 address"),
                    format!("give at least {IPV6_MTU}, or leave out the IPv6 addresses"),
                );
            }
            Some(mtu)
        });
        let rx_queues = section.get("rx_queues").and_then(|item| {
            let queues = item.number();
            if let Some(argument) = device.as_ref().and_then(Device::queues_argument) {
                item.error(
                    "this device has as many `rx_queues` as its arguments say",
                    format!("leave it out; in `device`, add {argument}"),
                );
            }
            queues
        });
        let descriptors = section.get("descriptors").and_then(|item| item.number());
        let mac = section.get("mac").and_then(|item| {
            let mac: MacAddress = item.parse()?;
            taken.macs.note(mac, &item.span(), log, || format!("two ports would have the MAC address {mac}"));
            Some(mac)
        });
        section.finish();
        Some(Self { name: name?, device: device?, addresses, twin, side, mtu, rx_queues, descriptors, mac })
    }
}
