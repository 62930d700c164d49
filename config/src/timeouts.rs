//! `[timeouts]`: how long a connection is kept after its last packet, by state.

use std::time::Duration;

use serde::Serialize;

use crate::invalid::bounded;
use crate::reader::Section;

bounded! {
    /// A timeout in whole seconds, from one to the 31 days `ipvsadm` takes.
    Seconds(u32) in 1..=2_678_400, "seconds"
}

impl Seconds {
    /// As a duration.
    pub fn duration(self) -> Duration {
        Duration::from_secs(self.get().into())
    }
}

/// Makes [`Timeouts`]: each key with IPVS's default in seconds.
macro_rules! timeouts {
    ($($(#[$doc:meta])* $key:ident = $default:literal),+ $(,)?) => {
        /// The timeouts by state. States that have no key of their own are set by `tcp` or `tcpfin`, as with `ipvsadm
        /// --set TCP TCPFIN UDP`.
        #[derive(Clone, Debug, PartialEq, Eq, Serialize)]
        pub struct Timeouts {
            $($(#[$doc])* pub $key: Seconds,)+
        }

        impl Default for Timeouts {
            fn default() -> Self {
                Self { $($key: const { Seconds::new($default).unwrap() },)+ }
            }
        }

        impl Timeouts {
            /// All keys and values.
            pub fn values(&self) -> impl Iterator<Item = (&'static str, Seconds)> {
                [$((stringify!($key), self.$key)),+].into_iter()
            }

            pub(crate) fn read(section: Section<'_>) -> Self {
                let mut timeouts = Self::default();
                $(if let Some(seconds) = section.get(stringify!($key)).and_then(|item| item.number()) {
                    timeouts.$key = seconds;
                })+
                section.finish();
                timeouts
            }
        }
    };
}

timeouts! {
    /// TCP, ESTABLISHED.
    tcp = 900,
    /// TCP, FIN_WAIT: the server has closed its side.
    tcpfin = 120,
    /// UDP.
    udp = 300,
    /// Neither TCP nor UDP, and TCP before its first segment.
    none = 3,
    /// TCP, SYN_SENT: the server has sent a SYN.
    syn_sent = 120,
    /// TCP, SYN_RECV: the client has sent a SYN.
    syn_recv = 60,
    /// TCP, TIME_WAIT: both sides have closed.
    time_wait = 120,
    /// TCP, CLOSE: one side has reset the connection.
    close = 10,
    /// TCP, CLOSE_WAIT: the client has closed its side.
    close_wait = 60,
    /// TCP, LAST_ACK.
    last_ack = 30,
    /// TCP, LISTEN: a data connection is expected.
    listen = 120,
    /// TCP, SYNACK: both SYNs were seen while `secure_tcp` is on.
    synack = 120,
}
