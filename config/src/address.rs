//! IP networks and MAC addresses.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use crate::invalid::{Invalid, serialize_as_text};

/// An address of an interface, with the prefix length of its network: `192.168.18.58/24`.
///
/// It is an address that a host can have: not multicast, unspecified or loopback, nor the first or last of an IPv4
/// network that has more than two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InterfaceAddress {
    address: IpAddr,
    prefix: u8,
}

/// A network: an address whose bits after the prefix are all 0, and the length of the prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

/// A MAC address of one station (IEEE 802: the group bit is 0), not all zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MacAddress([u8; 6]);

serialize_as_text!(InterfaceAddress, Network, MacAddress);

impl InterfaceAddress {
    /// The address itself.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// The length of the prefix in bits.
    pub fn prefix_len(&self) -> u8 {
        self.prefix
    }

    /// The network it is in.
    pub fn network(&self) -> Network {
        Network::around(self.address, self.prefix)
    }
}

impl fmt::Display for InterfaceAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl FromStr for InterfaceAddress {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let (address, prefix) = parts(text, |address| match address {
            IpAddr::V4(_) => 24,
            IpAddr::V6(_) => 64,
        })?;
        host(address)?;
        let network = Network::around(address, prefix);
        let place = match Some(address) {
            Some(a) if Some(a) == network.broadcast() => Some("broadcast"),
            Some(a) if network.broadcast().is_some() && a == network.address => Some("own"),
            _ => None,
        };
        if let Some(place) = place {
            return Err(Invalid::new(
                format!("{address} is the {place} address of the network {network}"),
                "give the address of a host in it",
            ));
        }
        Ok(Self { address, prefix })
    }
}

impl Network {
    /// All of IPv4, what `default` means.
    pub const ALL_V4: Self = Self { address: IpAddr::V4(Ipv4Addr::UNSPECIFIED), prefix: 0 };
    /// All of IPv6.
    pub const ALL_V6: Self = Self { address: IpAddr::V6(Ipv6Addr::UNSPECIFIED), prefix: 0 };

    /// The network of `prefix` bits around an address. More bits than the address has mean all of them.
    fn around(address: IpAddr, prefix: u8) -> Self {
        match address {
            IpAddr::V4(v4) => {
                let prefix = prefix.min(32);
                let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
                Self { address: Ipv4Addr::from_bits(v4.to_bits() & mask).into(), prefix }
            }
            IpAddr::V6(v6) => {
                let prefix = prefix.min(128);
                let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
                Self { address: Ipv6Addr::from_bits(v6.to_bits() & mask).into(), prefix }
            }
        }
    }

    /// Its first address.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// The length of the prefix in bits.
    pub fn prefix_len(&self) -> u8 {
        self.prefix
    }

    /// Whether an address lies in it.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.address.is_ipv4() == address.is_ipv4() && Self::around(address, self.prefix) == *self
    }

    /// The broadcast address: the last of an IPv4 network of more than two addresses (RFC 919; RFC 3021 for networks
    /// of two).
    pub fn broadcast(&self) -> Option<IpAddr> {
        match self.address {
            IpAddr::V4(v4) if self.prefix <= 30 => {
                Some(Ipv4Addr::from_bits(v4.to_bits() | (u32::MAX >> self.prefix)).into())
            }
            _ => None,
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl FromStr for Network {
    type Err = Invalid;

    /// `10.0.0.0/8`, or a single address for the network that has only this one.
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let (address, prefix) = match text.parse::<IpAddr>() {
            Ok(IpAddr::V4(v4)) => (IpAddr::V4(v4), 32),
            Ok(IpAddr::V6(v6)) => (IpAddr::V6(v6), 128),
            Err(_) => parts(text, |address| if address.is_ipv4() { 24 } else { 64 })?,
        };
        let network = Self::around(address, prefix);
        if network.address != address {
            return Err(Invalid::new(
                format!("{address}/{prefix} has bits set after its prefix"),
                format!("the network is {network}; a single host is {address}"),
            ));
        }
        Ok(network)
    }
}

/// `ADDRESS/LENGTH`. `usual` is the length to propose if none is given.
fn parts(text: &str, usual: impl FnOnce(IpAddr) -> u8) -> Result<(IpAddr, u8), Invalid> {
    let Some((address, length)) = text.split_once('/') else {
        let address = ip(text)?;
        return Err(Invalid::new(
            format!("{address} has no prefix length"),
            format!("write \"{address}/{}\", or the length that is right for its network", usual(address)),
        ));
    };
    let address = ip(address)?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    let prefix = Some(length).filter(|length| length.bytes().all(|byte| byte.is_ascii_digit()));
    match prefix.and_then(|length| length.parse().ok()) {
        Some(prefix) if prefix <= most => Ok((address, prefix)),
        _ => Err(Invalid::new(
            format!("`/{}` is no prefix length of {address}", length.escape_debug()),
            format!("possible: /0 to /{most}"),
        )),
    }
}

/// An IPv4 or IPv6 address.
pub(crate) fn ip(text: &str) -> Result<IpAddr, Invalid> {
    text.parse().map_err(|_| {
        Invalid::new(
            format!("`{}` is no IP address", text.escape_debug()),
            "for example 192.168.2.71 or 2001:db8::71",
        )
    })
}

/// An address one host can have.
pub(crate) fn host(address: IpAddr) -> Result<(), Invalid> {
    let kind = match address {
        IpAddr::V4(v4) if v4.octets()[0] == 0 => "unspecified (0.0.0.0/8)",
        IpAddr::V4(v4) if v4.is_broadcast() => "the broadcast address",
        IpAddr::V6(v6) if v6.is_unspecified() => "unspecified",
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => "an IPv4 address in IPv6's clothes",
        _ if address.is_multicast() => "multicast",
        _ if address.is_loopback() => "loopback, which never leaves a host",
        _ => return Ok(()),
    };
    let help = match address.to_canonical() {
        v4 if v4 != address => format!("write {v4}"),
        _ => "give the unicast address of one host".to_owned(),
    };
    Err(Invalid::new(format!("{address} is {kind}"), help))
}

impl MacAddress {
    /// The address of one station, or `None` if it is a group address or all zeros.
    pub fn new(octets: [u8; 6]) -> Option<Self> {
        (octets[0] & 1 == 0 && octets != [0; 6]).then_some(Self(octets))
    }

    /// The octets in the order they are sent.
    pub fn octets(&self) -> [u8; 6] {
        self.0
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl FromStr for MacAddress {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let mut octets = [0; 6];
        let mut parts = text.split(':');
        let complete = octets.iter_mut().all(|octet| {
            let part = parts
                .next()
                .filter(|part| part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_hexdigit()));
            let value = part.and_then(|part| u8::from_str_radix(part, 16).ok());
            value.map(|value| *octet = value).is_some()
        });
        if !complete || parts.next().is_some() {
            return Err(Invalid::new(
                format!("`{}` is no MAC address", text.escape_debug()),
                "six octets in hexadecimal, for example \"02:00:00:00:0d:01\"",
            ));
        }
        Self::new(octets).ok_or_else(|| {
            let kind = if octets == [0; 6] { "all zeros" } else { "the address of a group" };
            Invalid::new(
                format!("{text} is {kind}"),
                "give the address of one station: its first octet is even, for example \"02:00:00:00:0d:01\"",
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason<T: FromStr<Err = Invalid> + fmt::Debug>(text: &str) -> String {
        text.parse::<T>().unwrap_err().reason
    }

    #[test]
    fn interface_addresses() {
        for text in
            ["192.168.18.58/24", "10.0.0.1/31", "10.0.0.0/31", "10.1.1.1/32", "2001:db8::1/64", "10.1.1.1/0"]
        {
            assert_eq!(text.parse::<InterfaceAddress>().unwrap().to_string(), text);
        }
        assert_eq!(reason::<InterfaceAddress>("192.168.18.58"), "192.168.18.58 has no prefix length");
        assert_eq!(
            reason::<InterfaceAddress>("192.168.18.58/33"),
            "`/33` is no prefix length of 192.168.18.58"
        );
        assert_eq!(
            reason::<InterfaceAddress>("192.168.18.58/+3"),
            "`/+3` is no prefix length of 192.168.18.58"
        );
        assert_eq!(reason::<InterfaceAddress>("192.168.18.58/"), "`/` is no prefix length of 192.168.18.58");
        assert_eq!(reason::<InterfaceAddress>("192.168.18.258/24"), "`192.168.18.258` is no IP address");
        assert_eq!(
            reason::<InterfaceAddress>("192.168.18.255/24"),
            "192.168.18.255 is the broadcast address of the network 192.168.18.0/24"
        );
        assert_eq!(
            reason::<InterfaceAddress>("192.168.18.0/24"),
            "192.168.18.0 is the own address of the network 192.168.18.0/24"
        );
        assert_eq!(reason::<InterfaceAddress>("224.0.0.1/24"), "224.0.0.1 is multicast");
        assert_eq!(reason::<InterfaceAddress>("ff02::1/64"), "ff02::1 is multicast");
        assert_eq!(
            reason::<InterfaceAddress>("127.0.0.1/8"),
            "127.0.0.1 is loopback, which never leaves a host"
        );
        assert_eq!(reason::<InterfaceAddress>("0.0.0.0/0"), "0.0.0.0 is unspecified (0.0.0.0/8)");
        let mapped = "::ffff:192.0.2.1/96".parse::<InterfaceAddress>().unwrap_err();
        assert_eq!(mapped.help, "write 192.0.2.1");
    }

    #[test]
    fn networks() {
        let network: Network = "192.168.2.0/24".parse().unwrap();
        assert!(network.contains("192.168.2.71".parse().unwrap()));
        assert!(!network.contains("192.168.3.71".parse().unwrap()));
        assert!(!network.contains("::ffff:192.168.2.71".parse().unwrap()));
        assert_eq!(network.broadcast(), Some("192.168.2.255".parse().unwrap()));
        assert_eq!("10.0.0.0/31".parse::<Network>().unwrap().broadcast(), None);
        assert_eq!("10.0.0.7".parse::<Network>().unwrap().to_string(), "10.0.0.7/32");
        assert_eq!("0.0.0.0/0".parse::<Network>().unwrap(), Network::ALL_V4);
        assert_eq!("::/0".parse::<Network>().unwrap(), Network::ALL_V6);
        let refused = "192.168.2.71/24".parse::<Network>().unwrap_err();
        assert_eq!(refused.reason, "192.168.2.71/24 has bits set after its prefix");
        assert_eq!(refused.help, "the network is 192.168.2.0/24; a single host is 192.168.2.71");
    }

    #[test]
    fn mac_addresses() {
        assert_eq!("02:00:00:00:0D:01".parse::<MacAddress>().unwrap().to_string(), "02:00:00:00:0d:01");
        for text in [
            "",
            "02:00:00:00:0d",
            "02:00:00:00:0d:01:02",
            "2:0:0:0:d:1",
            "02-00-00-00-0d-01",
            "+2:00:00:00:0d:01",
        ] {
            assert_eq!(reason::<MacAddress>(text), format!("`{text}` is no MAC address"));
        }
        assert_eq!(reason::<MacAddress>("00:00:00:00:00:00"), "00:00:00:00:00:00 is all zeros");
        assert_eq!(reason::<MacAddress>("01:00:5e:00:00:01"), "01:00:5e:00:00:01 is the address of a group");
        assert_eq!(reason::<MacAddress>("ff:ff:ff:ff:ff:ff"), "ff:ff:ff:ff:ff:ff is the address of a group");
    }
}
