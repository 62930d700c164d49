//! Kernel interfaces that a port's device depends on: its twin, whose settings the device takes over, and the
//! interface that the device is opened on.

use director_packet::Mac;

use crate::director::Director;
use crate::mirror::{Interface, Seen};
use crate::ports::PortRuntime;

impl Director {
    /// Sets on the devices the MTUs and the MAC addresses that were set on their twins.
    pub(crate) fn follow_twins(&self, seen: &Seen) {
        for (at, port) in self.ports.iter().enumerate().filter(|(_, port)| port.configuration.twin) {
            let name = port.configuration.name.as_str();
            let Some((_, twin)) = seen.interface(name) else { continue };
            let wanted = u16::try_from(twin.mtu).unwrap_or(u16::MAX);
            if port.port.mtu().is_ok_and(|mtu| mtu != wanted)
                && let Err(error) = port.port.set_mtu(wanted)
            {
                tracing::warn!("port {name} does not take its twin's MTU of {wanted} bytes: {error}");
            }
            if let Some(mac) = twin.mac.filter(|mac| *mac != port.mac.get()) {
                self.follow_mac(at, port, mac);
            }
        }
    }

    fn follow_mac(&self, at: usize, port: &PortRuntime, mac: Mac) {
        if let Err(error) = port.port.set_mac(mac.0) {
            let name = port.configuration.name.as_str();
            tracing::warn!("port {name} does not take its twin's MAC address {mac}: {error}");
            return;
        }
        port.mac.set(mac);
        self.state.borrow_mut().pump.set_mac(at, mac);
    }

    /// Whether a port's device can send, and its MTU, as far as the kernel knows.
    pub(crate) fn device(&self, port: &PortRuntime, seen: &Seen) -> (bool, u16) {
        let mtu = port.port.mtu().unwrap_or(1500);
        match opened(port, seen) {
            // The driver silently drops what is longer than the interface takes.
            Opened::Is(interface) => {
                (interface.up, u16::try_from(interface.mtu).unwrap_or(u16::MAX).min(mtu))
            }
            Opened::Gone(_) => (false, mtu),
            Opened::None => (true, mtu),
        }
    }

    /// What stops the director from forwarding.
    pub(crate) fn interface_problems(&self, seen: &Seen) -> Vec<String> {
        let mut problems = Vec::new();
        for port in &self.ports {
            let name = port.configuration.name.as_str();
            match opened(port, seen) {
                Opened::Is(interface) if !interface.up => {
                    let opened = &interface.name;
                    problems.push(format!(
                        "port {name} is opened on {opened}, which is down; `ip link set {opened} up` mends it"
                    ));
                }
                Opened::Gone(opened) => problems.push(format!(
                    "port {name} is opened on {opened}, which was deleted or renamed; have it again and restart the director"
                )),
                Opened::Is(_) | Opened::None => {}
            }
            if !port.configuration.twin {
                continue;
            }
            let Some((_, twin)) = seen.interface(name) else {
                problems.push(format!("kernel twin {name} is missing; restart the director"));
                continue;
            };
            if !twin.up {
                problems.push(format!("kernel twin {name} is down; `ip link set {name} up` mends it"));
            }
            let own = port.mac.get();
            if let Some(mac) = twin.mac.filter(|mac| *mac != own) {
                problems.push(format!(
                    "kernel twin {name} has the MAC address {mac}, which its port does not take; \
                     `ip link set {name} address {own}` mends it"
                ));
            }
        }
        problems
    }
}

/// The kernel interface that a port's device is opened on.
enum Opened<'a> {
    /// The device is not opened on a kernel interface.
    None,
    Is(&'a Interface),
    /// It was deleted, and an interface of the same name is another one that the device does not know. Or it was
    /// renamed: then the rule that keeps the kernel from hearing it no longer applies.
    Gone(&'a str),
}

fn opened<'a>(port: &'a PortRuntime, seen: &'a Seen) -> Opened<'a> {
    let Some(name) = port.configuration.device.opened_interface() else { return Opened::None };
    match seen.interface(name) {
        Some((number, interface)) if number == port.opened.get().unwrap_or(number) => {
            port.opened.set(Some(number));
            Opened::Is(interface)
        }
        _ => {
            // And it stays so, since no interface has this number.
            port.opened.set(Some(0));
            Opened::Gone(name)
        }
    }
}
