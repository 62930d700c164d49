//! The addresses of services and servers, with their ports.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use crate::address::host;
use crate::invalid::{Invalid, serialize_as_text};

/// The address of a host and the port of a virtual service; port 0 means all ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceAddress(SocketAddr);

/// The address of a host and the port of a real server; port 0 means the port that the client wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerAddress(SocketAddr);

serialize_as_text!(ServiceAddress, ServerAddress);

macro_rules! endpoint {
    ($type:ident, $example:literal) => {
        impl $type {
            /// Address and port.
            pub fn get(self) -> SocketAddr {
                self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $type {
            type Err = Invalid;

            fn from_str(text: &str) -> Result<Self, Invalid> {
                endpoint(text, $example).map(Self)
            }
        }
    };
}

endpoint!(ServiceAddress, "192.168.18.58:8888");
endpoint!(ServerAddress, "192.168.2.71:9999");

fn endpoint(text: &str, example: &str) -> Result<SocketAddr, Invalid> {
    let address: SocketAddr = text.parse().map_err(|_| {
        let shown = text.escape_debug();
        let help = match text.parse() {
            Ok(IpAddr::V4(v4)) => format!("add the port, for example \"{v4}:80\""),
            Ok(IpAddr::V6(v6)) => format!("add the port, for example \"[{v6}]:80\""),
            Err(_) => format!("for example \"{example}\" or \"[2001:db8::58]:80\""),
        };
        Invalid::new(format!("`{shown}` is no address with a port"), help)
    })?;
    host(address.ip())?;
    Ok(address)
}

/// Refuses port 0 where it would mean nothing.
pub(super) fn zero_port(reason: &str, example: &str) -> Invalid {
    Invalid::new(reason, format!("give a port from 1 to 65535, for example \"{example}\""))
}
