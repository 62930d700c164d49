//! The codec of IPVS's generic-netlink messages, from the side of the kernel.
//!
//! A director that the unmodified `ipvsadm` and `keepalived` can drive has to speak as the kernel's IPVS does. This
//! crate knows what these messages look like and which of them are valid; it knows neither sockets nor what a service
//! does. Bytes come in and [`Request`]s come out; [`Answer`]s go in and datagrams come out.
//!
//! ```
//! use director_ipvs::{Answer, Errno, Info, Messages, Request};
//!
//! fn serve(datagram: &[u8]) -> Vec<Vec<u8>> {
//!     let mut out = Vec::new();
//!     for message in Messages::new(datagram) {
//!         let Ok(message) = message else { break }; // no netlink message; the kernel stays silent too
//!         let answer = match &message.request {
//!             Ok(Request::Nothing) => Answer::Done,
//!             Ok(Request::GetFamily) => Answer::Family,
//!             Ok(Request::GetInfo) => Answer::Info(Info { version: 0x0001_0201, table_size: 4096 }),
//!             Ok(_) => Answer::Refused(Errno::EOPNOTSUPP),
//!             Err(malformed) => Answer::Refused(malformed.errno()),
//!         };
//!         out.extend(message.answer(answer));
//!     }
//!     out
//! }
//! # assert!(serve(b"noise").is_empty());
//! ```
//!
//! References: RFC 3549 for netlink's framing, `<linux/netlink.h>`, `<linux/genetlink.h>` and
//! `<linux/ip_vs.h>` for the numbers; which attribute a command needs and which errno tells that it is
//! missing follow what Linux 6.1 answers.

mod attribute;
mod config;
mod daemon;
mod dest;
mod errno;
mod malformed;
mod message;
mod name;
mod reply;
mod request;
mod service;
mod stats;
#[cfg(test)]
mod tests;
mod uapi;
mod writer;

pub mod client;

pub use config::{Info, MAX_TIMEOUT, TimeoutChange, Timeouts};
pub use daemon::{Daemon, DaemonRole};
pub use dest::{Dest, DestKey, DestSpec, Forward, Tunnel, TunnelKind};
pub use errno::Errno;
pub use malformed::Malformed;
pub use message::{FramingError, Header, Message, Messages};
pub use name::{Name, NameError};
pub use reply::{Answer, DATAGRAM_SIZE, Datagrams};
pub use request::Request;
pub use service::{Family, FlagChange, Netmask, Service, ServiceFlags, ServiceKey, ServiceSpec};
pub use stats::Stats;
pub use uapi::{FAMILY_ID, FAMILY_NAME};
