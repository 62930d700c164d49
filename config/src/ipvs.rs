//! `[ipvs]`: the kernel's sysctls `net.ipv4.vs.*` by their names.
//!
//! Each sysctl that the director obeys is an entry of `sysctls!` below, with the kernel's range and default; it can
//! also be set while the director runs, by [`Sysctls::set`]. All other sysctls of the kernel's IPVS are entries of
//! `FIXED`: what they control does not exist here. They read as the kernel's defaults, which is how the director
//! behaves, and can be set only to those.

use serde::Serialize;

use crate::invalid::{Bounded, Invalid, bounded};
use crate::reader::{Item, Section, suggestion};

bounded! {
    /// On or off. The kernel takes any `int` here.
    Switch(i32) in -2_147_483_648..=2_147_483_647, "(0 is off, any other on)", default 0
}

bounded! {
    /// What a SYN does to an entry whose connection is over. The kernel takes any `int`; bit 2 only matters to
    /// entries of direct routing and tunnelling.
    ConnReuseMode(i32) in -2_147_483_648..=2_147_483_647, "(0: it goes to the entry's server; any other: it is a new connection)", default 1
}

bounded! {
    /// Every how-many-th new connection is dropped: none at 0, every one below 0.
    DropRate(i32) in -2_147_483_648..=2_147_483_647, "(every Nth is dropped; 0 for none, below 0 for every one)", default 10
}

/// When the kernel defends itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Defense {
    /// 0.
    #[default]
    Never,
    /// 1 and 2: when memory is short. The kernel itself changes 1 to 2 when that begins, and back when it is over.
    /// Memory is never short for the director, whose table has a fixed size.
    WhenShort,
    /// 3.
    Always,
}

impl Bounded for Defense {
    const RANGE: std::ops::RangeInclusive<i64> = 0..=3;
    const UNIT: &'static str = "(0 never, 1 and 2 when memory is short, 3 always)";

    fn checked(value: i64) -> Option<Self> {
        match value {
            0 => Some(Self::Never),
            1 | 2 => Some(Self::WhenShort),
            3 => Some(Self::Always),
            _ => None,
        }
    }
}

impl Defense {
    /// The number as it reads back.
    #[must_use]
    pub const fn get(self) -> i32 {
        match self {
            Self::Never => 0,
            Self::WhenShort => 1,
            Self::Always => 3,
        }
    }
}

impl Serialize for Defense {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_i32(self.get())
    }
}

impl Switch {
    /// Whether it is switched on.
    #[must_use]
    pub const fn is_on(self) -> bool {
        self.get() != 0
    }
}

/// A value of a sysctl.
trait Value: Bounded {
    fn read(item: &Item<'_>) -> Option<Self> {
        item.number()
    }
}

/// `true` and `false`, or numbers as the kernel has it.
impl Value for Switch {
    fn read(item: &Item<'_>) -> Option<Self> {
        match item.as_integer() {
            Some(_) => item.number(),
            None => item.boolean().and_then(|on| Self::checked(on.into())),
        }
    }
}

impl Value for ConnReuseMode {}
impl Value for DropRate {}
impl Value for Defense {}

/// A value as it is written to a file in `/proc/sys`.
fn parse<T: Bounded>(name: &str, text: &str) -> Result<T, Invalid> {
    text.trim().parse().ok().and_then(T::checked).ok_or_else(|| {
        let range = format!("{} to {} {}", T::RANGE.start(), T::RANGE.end(), T::UNIT);
        Invalid::new(format!("`{name}` cannot be `{}`", text.escape_debug()), format!("possible: {range}"))
    })
}

/// Makes [`Sysctls`]: each name with its type and the kernel's default.
macro_rules! sysctls {
    ($($(#[$doc:meta])* $name:ident: $type:ty = $default:expr),+ $(,)?) => {
        /// The sysctls the director obeys.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
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

            /// All names and values.
            pub fn values(&self) -> impl Iterator<Item = (&'static str, i32)> {
                [$((stringify!($name), self.$name.get())),+].into_iter()
            }

            /// Sets one to a value written as in `/proc/sys`: an integer.
            ///
            /// # Errors
            ///
            /// There is none of this name, or the value is outside its range.
            pub fn set(&mut self, name: &str, value: &str) -> Result<(), Invalid> {
                match name {
                    $(stringify!($name) => self.$name = parse(name, value)?,)+
                    _ => set_fixed(name, value)?,
                }
                Ok(())
            }

            /// Takes over the values of those names of another set that are `wanted`.
            pub fn take_over(&mut self, from: &Self, wanted: impl Fn(&str) -> bool) {
                $(if wanted(stringify!($name)) {
                    self.$name = from.$name;
                })+
            }

            pub(crate) fn read(section: Section<'_>) -> Self {
                let mut sysctls = Self::default();
                $(if let Some(value) = section.get(stringify!($name)).and_then(|item| Value::read(&item)) {
                    sysctls.$name = value;
                })+
                read_fixed(section);
                sysctls
            }
        }
    };
}

sysctls! {
    /// A TCP connection may begin with an ACK.
    sloppy_tcp: Switch = Switch::default(),
    /// What a SYN does to an entry whose connection is over.
    conn_reuse_mode: ConnReuseMode = ConnReuseMode::default(),
    /// The connections of a server end when it is deleted.
    expire_nodest_conn: Switch = Switch::default(),
    /// New connections are dropped under attack.
    drop_packet: Defense = Defense::default(),
    /// Every Nth of the new connections that `drop_packet` looks at is dropped.
    am_droprate: DropRate = DropRate::default(),
    /// A server's packet that belongs to no connection is answered with an ICMP error.
    nat_icmp_send: Switch = Switch::default(),
    /// Entries of connections that are not established yet are deleted under attack.
    drop_entry: Defense = Defense::default(),
    /// Only the server's packets establish TCP connections under attack.
    secure_tcp: Defense = Defense::default(),
    /// An ICMP error to a virtual service about an unknown connection makes an entry.
    schedule_icmp: Switch = Switch::default(),
    /// An SCTP association may begin with any packet.
    sloppy_sctp: Switch = Switch::default(),
    /// A persistence template whose server has the weight 0 is no longer used.
    expire_quiescent_template: Switch = Switch::default(),
    /// FTP's data connections may lead to other hosts than those of the control connection, and to privileged ports.
    /// IPVS has no such sysctl, since it never checks; the name is that of `nf_conntrack_ftp`'s parameter, `loose`.
    ftp_loose: Switch = Switch::default(),
    /// A tunnel's packets must not be split if the client's packets must not.
    pmtu_disc: Switch = const { Switch::new(1).unwrap() },
}

/// The value of a sysctl as it reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setting {
    /// A single number, as in most of them.
    Number(i32),
    /// Several numbers in one text.
    Text(&'static str),
}

impl Sysctls {
    /// Every sysctl that has a value here: those that the director obeys, and the others with the kernel's defaults.
    pub fn settings(&self) -> impl Iterator<Item = (&'static str, Setting)> {
        let obeyed = self.values().map(|(name, value)| (name, Setting::Number(value)));
        obeyed.chain(FIXED.iter().filter_map(|(name, fixed)| Some((*name, fixed.setting()?))))
    }

    /// The value of one.
    ///
    /// # Errors
    ///
    /// There is no sysctl with this name, or none that could have a value here.
    pub fn get(&self, name: &str) -> Result<Setting, Invalid> {
        let found = self.settings().find(|(found, _)| *found == name);
        found.map(|(_, setting)| setting).ok_or_else(|| match fixed(name) {
            Some(fixed) => fixed.refused(name),
            None => unknown(name),
        })
    }
}

/// The error about a name that is not a sysctl.
fn unknown(name: &str) -> Invalid {
    let names = FIXED.iter().map(|(name, _)| *name);
    Invalid::new(
        format!("there is no sysctl `{}`", name.escape_debug()),
        suggestion(name, "possible", Sysctls::NAMES.iter().copied().chain(names)),
    )
}

/// The only value of a sysctl that has no effect here.
#[derive(Clone, Copy)]
enum Fixed {
    Number(i32),
    /// Two numbers in one string.
    Text(&'static str),
    /// The kernel computes it from its memory.
    Computed,
}

/// The sysctls of Linux 6.1 for what the director does not have, with the kernel's defaults.
const FIXED: &[(&str, Fixed)] = &[
    // Memory is never short here.
    ("amemthresh", Fixed::Number(1024)),
    ("backup_only", Fixed::Number(0)),
    // Only for transparent proxies that run on the director itself.
    ("cache_bypass", Fixed::Number(0)),
    ("conntrack", Fixed::Number(0)),
    ("ignore_tunneled", Fixed::Number(0)),
    // Seconds.
    ("lblc_expiration", Fixed::Number(86_400)),
    ("lblcr_expiration", Fixed::Number(86_400)),
    ("run_estimation", Fixed::Number(1)),
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

fn fixed(name: &str) -> Option<Fixed> {
    FIXED.iter().find(|(fixed, _)| *fixed == name).map(|(_, fixed)| *fixed)
}

/// "Sets" one that has no effect here, as in `/proc/sys`.
fn set_fixed(name: &str, value: &str) -> Result<(), Invalid> {
    let fixed = fixed(name).ok_or_else(|| unknown(name))?;
    if fixed.reads(value) { Ok(()) } else { Err(fixed.refused(name)) }
}

impl Fixed {
    const fn setting(self) -> Option<Setting> {
        match self {
            Self::Number(number) => Some(Setting::Number(number)),
            Self::Text(text) => Some(Setting::Text(text)),
            Self::Computed => None,
        }
    }

    /// Whether a value written as in `/proc/sys` is this one.
    fn reads(self, value: &str) -> bool {
        match self {
            Self::Number(number) => value.trim().parse() == Ok(number),
            Self::Text(text) => value.split_whitespace().eq(text.split_whitespace()),
            Self::Computed => false,
        }
    }

    fn is(self, item: &Item<'_>) -> bool {
        match self {
            Self::Number(number) => {
                let number = i64::from(number);
                item.as_integer() == Some(Some(number)) || item.as_bool().map(i64::from) == Some(number)
            }
            Self::Text(_) => item.as_str().is_some_and(|given| self.reads(given)),
            Self::Computed => false,
        }
    }

    fn refused(self, name: &str) -> Invalid {
        let help = match self {
            Self::Number(number) => format!("only the default {number}, or leave it out"),
            Self::Text(text) => format!("only the default \"{text}\", or leave it out"),
            Self::Computed => "leave it out: the kernel computes its default".to_owned(),
        };
        Invalid::new(format!("`{name}` has no effect here"), help)
    }
}

/// Refuses the rest of the section: known names with other values than the kernel's defaults, and unknown names.
fn read_fixed(section: Section<'_>) {
    for &(name, fixed) in FIXED {
        if let Some(item) = section.get(name).filter(|item| !fixed.is(item)) {
            let Invalid { reason, help } = fixed.refused(name);
            item.error(reason, help);
        }
    }
    section.finish_with(|key, known| match key.strip_prefix("net.ipv4.vs.") {
        Some(name) if known.contains(&name) => format!("write `{name}`"),
        None if key == "net" => "write what follows net.ipv4.vs. alone".to_owned(),
        _ => suggestion(key, "known", known.iter().copied()),
    });
}
