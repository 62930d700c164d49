//! `[ipvs]`: the kernel's sysctls `net.ipv4.vs.*` by their names.
//!
//! A sysctl the director obeys is one entry of `sysctls!` below. Any other the kernel knows is an entry of
//! `NOT_YET`: it may be given with the kernel's default, which is what the director does, and no other.

use serde::Serialize;

use crate::invalid::bounded;
use crate::reader::{Item, Section, suggestion};

bounded! {
    /// What becomes of a SYN that hits an entry: 0 the entry stays, otherwise a closed one gives way; the
    /// kernel's bits are 1 and 2.
    ConnReuseMode(u32) in 0..=3, "(bits: 1 for a new connection, 2 for FIN_WAIT too)", default 1
}

bounded! {
    /// When the kernel defends itself: 0 never, 1 and 2 when memory is short, 3 always.
    Defense(u32) in 0..=3, "(0 never, 1 and 2 when memory is short, 3 always)", default 0
}

bounded! {
    /// Each how-manieth SYN is dropped; 0 for none.
    DropRate(u32) in 0..=2_147_483_647, "(every Nth is dropped)", default 10
}

/// A value of a sysctl.
trait Value: Sized {
    fn read(item: &Item<'_>) -> Option<Self>;
}

/// `true` and `false`, or 1 and 0 as the kernel has it.
impl Value for bool {
    fn read(item: &Item<'_>) -> Option<Self> {
        match item.as_integer() {
            None => item.boolean(),
            Some(Some(0)) => Some(false),
            Some(Some(1)) => Some(true),
            Some(_) => {
                item.error(format!("`{}` is neither on nor off", item.key()), "write true or 1, false or 0");
                None
            }
        }
    }
}

impl<T: crate::invalid::Bounded> Value for T {
    fn read(item: &Item<'_>) -> Option<Self> {
        item.number()
    }
}

/// Makes [`Sysctls`]: each name with its type and the kernel's default.
macro_rules! sysctls {
    ($($(#[$doc:meta])* $name:ident: $type:ty = $default:expr),+ $(,)?) => {
        /// The sysctls the director obeys.
        #[derive(Clone, Debug, PartialEq, Eq, Serialize)]
        pub struct Sysctls {
            $($(#[$doc])* pub $name: $type,)+
        }

        impl Default for Sysctls {
            fn default() -> Self {
                Self { $($name: $default,)+ }
            }
        }

        impl Sysctls {
            /// The names of those the director obeys.
            pub const NAMES: &'static [&'static str] = &[$(stringify!($name)),+];

            pub(crate) fn read(section: Section<'_>) -> Self {
                let mut sysctls = Self::default();
                $(if let Some(value) = section.get(stringify!($name)).and_then(|item| Value::read(&item)) {
                    sysctls.$name = value;
                })+
                not_yet(section);
                sysctls
            }
        }
    };
}

sysctls! {
    /// A TCP connection may begin with an ACK.
    sloppy_tcp: bool = false,
    /// What becomes of a SYN that hits an entry.
    conn_reuse_mode: ConnReuseMode = ConnReuseMode::default(),
    /// The connections of a server go with it, at once.
    expire_nodest_conn: bool = false,
    /// SYNs are dropped under attack.
    drop_packet: Defense = Defense::default(),
    /// Of the SYNs that `drop_packet` looks at, every Nth is dropped.
    am_droprate: DropRate = DropRate::default(),
    /// A server's packet that belongs to no connection is answered with an ICMP error.
    nat_icmp_send: bool = false,
}

/// The kernel's default of a sysctl that the director does not obey yet.
#[derive(Clone, Copy)]
enum Fixed {
    Number(i64),
    /// Two numbers in one string.
    Text(&'static str),
    /// The kernel computes it, so there is nothing to compare with.
    Computed,
}

/// The sysctls of Linux 6.1 that the director does not obey yet.
const NOT_YET: &[(&str, Fixed)] = &[
    ("amemthresh", Fixed::Number(1024)),
    ("backup_only", Fixed::Number(0)),
    ("cache_bypass", Fixed::Number(0)),
    ("conntrack", Fixed::Number(0)),
    ("drop_entry", Fixed::Number(0)),
    ("expire_quiescent_template", Fixed::Number(0)),
    ("ignore_tunneled", Fixed::Number(0)),
    ("pmtu_disc", Fixed::Number(1)),
    ("run_estimation", Fixed::Number(1)),
    ("schedule_icmp", Fixed::Number(0)),
    ("secure_tcp", Fixed::Number(0)),
    ("sloppy_sctp", Fixed::Number(0)),
    ("snat_reroute", Fixed::Number(1)),
    ("sync_persist_mode", Fixed::Number(0)),
    ("sync_ports", Fixed::Number(1)),
    ("sync_qlen_max", Fixed::Computed),
    ("sync_refresh_period", Fixed::Number(0)),
    ("sync_retries", Fixed::Number(0)),
    ("sync_sock_size", Fixed::Number(0)),
    ("sync_threshold", Fixed::Text("3 50")),
    ("sync_version", Fixed::Number(1)),
];

impl Fixed {
    fn is(self, item: &Item<'_>) -> bool {
        match self {
            Self::Number(number) => {
                item.as_integer() == Some(Some(number)) || item.as_bool().map(i64::from) == Some(number)
            }
            Self::Text(text) => {
                item.as_str().is_some_and(|given| given.split_whitespace().eq(text.split_whitespace()))
            }
            Self::Computed => false,
        }
    }

    fn only(self) -> String {
        match self {
            Self::Number(number) => format!("only the default {number}, or leave it out"),
            Self::Text(text) => format!("only the default \"{text}\", or leave it out"),
            Self::Computed => "leave it out: the kernel computes its default".to_owned(),
        }
    }
}

/// Refuses what is left of the section: known names at another value than the kernel's default, and
/// unknown names.
fn not_yet(section: Section<'_>) {
    for &(name, fixed) in NOT_YET {
        if let Some(item) = section.get(name).filter(|item| !fixed.is(item)) {
            item.error(format!("`{name}` is not supported yet"), fixed.only());
        }
    }
    section.finish_with(|key, known| match key.strip_prefix("net.ipv4.vs.") {
        Some(name) if known.contains(&name) => format!("write `{name}`"),
        None if key == "net" => "write what follows net.ipv4.vs. alone".to_owned(),
        _ => suggestion(key, "known", known.iter().copied()),
    });
}
