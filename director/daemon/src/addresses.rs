//! The addresses that the configuration file gives to kernel twins, when it is read again.
//!
//! They are the kernel's, so `director` sees them come and go as it does those that `ip address` sets. Here too the
//! file is the truth for what it names, and what it never named stays.

use std::collections::HashMap;
use std::net::IpAddr;

use anyhow::{Context, Result};
use director_config::{Config, InterfaceAddress};
use rtnetlink::Handle;

use crate::mirror;

/// An address of a twin.
#[derive(Clone, Debug, PartialEq, Eq)]
struct OnTwin {
    interface: u32,
    name: String,
    address: InterfaceAddress,
}

/// What has to come and to go.
#[derive(Debug, Default)]
pub(crate) struct Addresses {
    coming: Vec<OnTwin>,
    going: Vec<OnTwin>,
    /// Those of the file on twins from which one goes: with the first address of a network the kernel takes the others.
    staying: Vec<OnTwin>,
}

impl Addresses {
    /// What makes the twins' addresses those of a file; `before` is what was read last. Interfaces are given by their
    /// names, and the addresses that are `there` by interface, address and prefix length.
    pub(crate) fn new(
        before: &Config,
        config: &Config,
        interface_of: &HashMap<String, u32>,
        there: &[(u32, IpAddr, u8)],
    ) -> Result<Self> {
        let mut addresses = Self::default();
        for port in config.ports.iter().filter(|port| port.twin) {
            let name = port.name.as_str();
            let interface =
                interface_of.get(name).with_context(|| format!("kernel twin \"{name}\" is missing"))?;
            let is_there = |address: &&InterfaceAddress| {
                there.contains(&(*interface, address.address(), address.prefix_len()))
            };
            let on_twin = |address: &InterfaceAddress| OnTwin {
                interface: *interface,
                name: name.to_owned(),
                address: *address,
            };
            addresses.coming.extend(port.addresses.iter().filter(|address| !is_there(address)).map(on_twin));
            let known = before.port(name).into_iter().flat_map(|port| &port.addresses);
            let no_more = known.filter(|address| !port.addresses.contains(address));
            let gone = addresses.going.len();
            addresses.going.extend(no_more.filter(is_there).map(on_twin));
            if addresses.going.len() > gone {
                addresses.staying.extend(port.addresses.iter().map(on_twin));
            }
        }
        Ok(addresses)
    }

    /// The changes, for people.
    pub(crate) fn lines(&self) -> Vec<String> {
        let line = |of: &OnTwin, what| format!("address {} of {} {what}", of.address, of.name);
        let coming = self.coming.iter().map(|of| line(of, "added"));
        coming.chain(self.going.iter().map(|of| line(of, "deleted"))).collect()
    }

    /// Sets what comes. If one cannot be set, none is.
    pub(crate) async fn add(&self, handle: &Handle) -> Result<()> {
        for (done, of) in self.coming.iter().enumerate() {
            let set = mirror::set_address(handle, of.interface, &of.address).await;
            if let Err(error) = set {
                let (done, _) = self.coming.split_at(done);
                warn(&delete(handle, done).await);
                return Err(error)
                    .with_context(|| format!("setting address {} on \"{}\"", of.address, of.name));
            }
        }
        Ok(())
    }

    /// Takes back what came.
    pub(crate) async fn undo(&self, handle: &Handle) {
        warn(&delete(handle, &self.coming).await);
    }

    /// Deletes what goes. Says what the kernel refused.
    pub(crate) async fn delete(&self, handle: &Handle) -> Vec<String> {
        let mut refused = delete(handle, &self.going).await;
        for of in &self.staying {
            if let Err(error) = mirror::set_address(handle, of.interface, &of.address).await {
                refused.push(format!("setting address {} on \"{}\": {error:#}", of.address, of.name));
            }
        }
        refused
    }
}

/// Says which could not be deleted, and why.
async fn delete(handle: &Handle, addresses: &[OnTwin]) -> Vec<String> {
    let mut refused = Vec::new();
    for of in addresses {
        if let Err(error) = mirror::delete_address(handle, of.interface, &of.address).await {
            refused.push(format!("deleting address {} of \"{}\": {error:#}", of.address, of.name));
        }
    }
    refused
}

fn warn(refused: &[String]) {
    refused.iter().for_each(|line| tracing::warn!("{line}"));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(front: &str, back: &str) -> Config {
        let port = |name: &str, addresses: &str| {
            format!(
                "[[port]]\nname = '{name}'\ndevice = 'net_af_packet0,iface=veth-{name}'\naddresses = [{addresses}]\n"
            )
        };
        let back = port("back", back).replace("packet0", "packet1");
        let text = format!("dpdk.lcores = '0-1'\n{}{back}", port("front", front));
        Config::parse("FILE", &text).unwrap_or_else(|errors| panic!("{errors}"))
    }

    fn there(addresses: &[(u32, &str, u8)]) -> Vec<(u32, IpAddr, u8)> {
        addresses
            .iter()
            .map(|(interface, address, length)| (*interface, address.parse().unwrap(), *length))
            .collect()
    }

    #[test]
    fn what_comes_and_what_goes() {
        let twins = [("front".to_owned(), 7), ("back".to_owned(), 8)].into();
        let before = read("'10.0.0.1/24', '10.0.0.2/24'", "'10.0.1.1/24'");
        let now =
            there(&[(7, "10.0.0.1", 24), (7, "10.0.0.2", 24), (7, "10.0.0.9", 24), (8, "10.0.1.1", 24)]);
        let same = Addresses::new(&before, &before, &twins, &now).unwrap();
        assert!(same.lines().is_empty() && same.staying.is_empty());
        let after = read("'10.0.0.2/24', '2001:db8::1/64'", "'10.0.1.1/24'");
        let changes = Addresses::new(&before, &after, &twins, &now).unwrap();
        let expected = ["address 2001:db8::1/64 of front added", "address 10.0.0.1/24 of front deleted"];
        assert_eq!(changes.lines(), expected);
        assert_eq!(changes.staying.len(), 2);
        // What somebody has taken away is set again; what is gone already is no matter; another's stays.
        let now = there(&[(7, "10.0.0.9", 24), (8, "10.0.1.1", 24)]);
        let expected = ["address 10.0.0.2/24 of front added", "address 2001:db8::1/64 of front added"];
        assert_eq!(Addresses::new(&before, &after, &twins, &now).unwrap().lines(), expected);
        let missing = Addresses::new(&before, &after, &HashMap::new(), &now).unwrap_err().to_string();
        assert_eq!(missing, "kernel twin \"front\" is missing");
    }
}
