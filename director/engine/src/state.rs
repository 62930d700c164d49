//! Connection states and their timeouts, as IPVS has them. The transitions of SCTP are in [`sctp`].

pub mod sctp;

use director_packet::SCTP;
use director_packet::tcp_flag::{ACK, FIN, RST, SYN};

/// The state of a connection entry. The names are those of `ipvsadm -Lnc`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum State {
    /// None yet; persistence templates stay here.
    None = 0,
    /// TCP, handshake done.
    Established = 1,
    /// TCP, the server opened.
    SynSent = 2,
    /// TCP, the client opened.
    SynRecv = 3,
    /// TCP, the server closed first.
    FinWait = 4,
    /// TCP, both closed.
    TimeWait = 5,
    /// TCP, reset or closed in an unusual way.
    Close = 6,
    /// TCP, the client closed first.
    CloseWait = 7,
    /// TCP, the last acknowledgment is awaited.
    LastAck = 8,
    /// TCP, a connection that a helper expects.
    Listen = 9,
    /// TCP under `secure_tcp`: the server answered, the client has not.
    SynAck = 10,
    /// UDP has one state.
    Udp = 11,
    /// SCTP, the client's first INIT.
    SctpInit1 = SCTP_STATES + 1,
    /// SCTP, the client's next INIT.
    SctpInit = SCTP_STATES + 2,
    /// SCTP, the server has sent INIT ACK.
    SctpCookieSent = SCTP_STATES + 3,
    /// SCTP, the client has sent COOKIE ECHO.
    SctpCookieReplied = SCTP_STATES + 4,
    /// SCTP, the server has sent INIT.
    SctpCookieWait = SCTP_STATES + 5,
    /// SCTP, the client has sent INIT ACK.
    SctpCookie = SCTP_STATES + 6,
    /// SCTP, the server has sent COOKIE ECHO.
    SctpCookieEchoed = SCTP_STATES + 7,
    /// SCTP, the association is established.
    SctpEstablished = SCTP_STATES + 8,
    /// SCTP, the server has sent SHUTDOWN.
    SctpShutdownSent = SCTP_STATES + 9,
    /// SCTP, the client has sent SHUTDOWN.
    SctpShutdownReceived = SCTP_STATES + 10,
    /// SCTP, the server has sent SHUTDOWN ACK.
    SctpShutdownAckSent = SCTP_STATES + 11,
    /// SCTP, an INIT was answered by ABORT.
    SctpRejected = SCTP_STATES + 12,
    /// SCTP, the association is over.
    SctpClosed = SCTP_STATES + 13,
}

/// Added to the numbers of SCTP's states. An entry keeps states in few bits; its protocol tells TCP's and SCTP's
/// apart.
const SCTP_STATES: u8 = 16;

/// How many numbers a state can have.
const NUMBERS: usize = 32;

impl State {
    /// Every state, in the order of its number.
    pub const ALL: [Self; 25] = [
        Self::None,
        Self::Established,
        Self::SynSent,
        Self::SynRecv,
        Self::FinWait,
        Self::TimeWait,
        Self::Close,
        Self::CloseWait,
        Self::LastAck,
        Self::Listen,
        Self::SynAck,
        Self::Udp,
        Self::SctpInit1,
        Self::SctpInit,
        Self::SctpCookieSent,
        Self::SctpCookieReplied,
        Self::SctpCookieWait,
        Self::SctpCookie,
        Self::SctpCookieEchoed,
        Self::SctpEstablished,
        Self::SctpShutdownSent,
        Self::SctpShutdownReceived,
        Self::SctpShutdownAckSent,
        Self::SctpRejected,
        Self::SctpClosed,
    ];

    /// The state with a number from the record of an entry of this protocol. An unknown number gives `None`.
    #[inline]
    #[must_use]
    pub const fn of(protocol: u8, number: u8) -> Self {
        let number = if protocol == SCTP { SCTP_STATES | number } else { number };
        BY_NUMBER[number as usize % NUMBERS]
    }

    /// The number that a record keeps, of four bits.
    #[inline]
    #[must_use]
    pub const fn kept(self) -> u8 {
        self as u8 % SCTP_STATES
    }

    /// The name that listings show.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "NONE",
            Self::Established => "ESTABLISHED",
            Self::SynSent => "SYN_SENT",
            Self::SynRecv => "SYN_RECV",
            Self::FinWait => "FIN_WAIT",
            Self::TimeWait => "TIME_WAIT",
            Self::Close => "CLOSE",
            Self::CloseWait => "CLOSE_WAIT",
            Self::LastAck => "LAST_ACK",
            Self::Listen => "LISTEN",
            Self::SynAck => "SYNACK",
            Self::Udp => "UDP",
            Self::SctpInit1 => "INIT1",
            Self::SctpInit => "INIT",
            Self::SctpCookieSent => "C-SENT",
            Self::SctpCookieReplied => "C-REPLIED",
            Self::SctpCookieWait => "C-WAIT",
            Self::SctpCookie => "COOKIE",
            Self::SctpCookieEchoed => "C-ECHOED",
            Self::SctpEstablished => "ESTABLISHED",
            Self::SctpShutdownSent => "S-SENT",
            Self::SctpShutdownReceived => "S-RECEIVED",
            Self::SctpShutdownAckSent => "S-ACK-SENT",
            Self::SctpRejected => "REJECTED",
            Self::SctpClosed => "CLOSED",
        }
    }

    /// Whether a connection in this state counts as active (`ActiveConn`) and not as inactive (`InActConn`).
    #[must_use]
    pub const fn is_active(self) -> bool {
        matches!(
            self,
            Self::Established | Self::SynRecv | Self::SynSent | Self::SynAck | Self::SctpEstablished
        )
    }

    /// Whether a connection that comes to it assures its persistence template.
    #[must_use]
    pub const fn is_established(self) -> bool {
        matches!(self, Self::Established | Self::SctpEstablished)
    }

    /// Whether the connection is not established yet, so that `drop_entry` may throw it away.
    #[must_use]
    pub const fn is_opening(self) -> bool {
        matches!(self, Self::SynRecv | Self::SynAck | Self::SctpInit1 | Self::SctpInit)
    }

    /// Whether a SYN or INIT in this state starts a new connection under `conn_reuse_mode` 1.
    #[must_use]
    pub const fn is_over(self) -> bool {
        matches!(self, Self::TimeWait | Self::Close | Self::SctpClosed)
    }
}

/// The states by their numbers.
const BY_NUMBER: [State; NUMBERS] = {
    let mut states = [State::None; NUMBERS];
    let mut at = 0;
    while at < State::ALL.len() {
        states[State::ALL[at] as usize] = State::ALL[at];
        at += 1;
    }
    states
};

/// Which way a packet goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Direction {
    /// From the client to the real server.
    In = 0,
    /// From the real server to the client.
    Out = 1,
}

/// The columns of the transition table. Only one flag counts: RST before SYN before FIN before ACK.
const SYN_SEEN: usize = 0;
const FIN_SEEN: usize = 1;
const ACK_SEEN: usize = 2;
const RST_SEEN: usize = 3;
const NONE_SEEN: usize = 4;

/// The column of TCP's control bits, which decide in the order RST, SYN, FIN, ACK.
const COLUMN: [u8; 32] = {
    let mut columns = [NONE_SEEN as u8; 32];
    let mut flags = 0;
    while flags < 32 {
        let bits = flags as u8;
        columns[flags] = if bits & RST != 0 {
            RST_SEEN
        } else if bits & SYN != 0 {
            SYN_SEEN
        } else if bits & FIN != 0 {
            FIN_SEEN
        } else if bits & ACK != 0 {
            ACK_SEEN
        } else {
            NONE_SEEN
        } as u8;
        flags += 1;
    }
    columns
};

/// The next state, by direction, state and column; [`State::Udp`] never changes. The rows of TCP were recorded from
/// Linux 6.1, except `LAST_ACK` and `LISTEN`, which NAT enters only through helpers; those are as in Linux's source.
const NEXT: [[[State; 5]; 16]; 2] = {
    use State::{
        Close, CloseWait, Established, FinWait, LastAck, Listen, None, SynRecv, SynSent, TimeWait, Udp,
    };
    let unused = [None; 5];
    [
        [
            //             SYN          FIN        ACK          RST        none of them
            /* NONE */
            [SynRecv, Close, Established, Close, Close],
            /* ESTABLISHED */ [Established, CloseWait, Established, Close, Close],
            /* SYN_SENT */ [Established, SynSent, SynSent, Close, Close],
            /* SYN_RECV */ [SynRecv, TimeWait, Established, SynRecv, Close],
            /* FIN_WAIT */ [SynRecv, TimeWait, FinWait, Close, Close],
            /* TIME_WAIT */ [SynRecv, TimeWait, TimeWait, Close, Close],
            /* CLOSE */ [SynRecv, Close, Close, Close, Close],
            /* CLOSE_WAIT */ [SynRecv, CloseWait, CloseWait, Close, Close],
            /* LAST_ACK */ [SynRecv, LastAck, Close, LastAck, Close],
            /* LISTEN */ [SynRecv, Listen, Listen, Listen, Close],
            /* SYNACK */ [SynRecv, TimeWait, Established, SynRecv, Close],
            /* UDP */ [Udp; 5],
            unused,
            unused,
            unused,
            unused,
        ],
        [
            /* NONE */ [SynSent, TimeWait, Established, Close, Close],
            /* ESTABLISHED */ [Established, FinWait, Established, Close, Close],
            /* SYN_SENT */ [SynSent, SynSent, SynSent, SynSent, Close],
            /* SYN_RECV */ [SynRecv, TimeWait, Established, Close, Close],
            /* FIN_WAIT */ [SynSent, FinWait, FinWait, Close, Close],
            /* TIME_WAIT */ [SynSent, TimeWait, TimeWait, TimeWait, Close],
            /* CLOSE */ [SynSent, Close, Close, Close, Close],
            /* CLOSE_WAIT */ [SynSent, TimeWait, CloseWait, Close, Close],
            /* LAST_ACK */ [SynSent, LastAck, LastAck, Close, Close],
            /* LISTEN */ [Listen, Listen, Established, Close, Close],
            /* SYNACK */ [SynRecv, TimeWait, Established, Close, Close],
            /* UDP */ [Udp; 5],
            unused,
            unused,
            unused,
            unused,
        ],
    ]
};

/// The state of a TCP or UDP connection after a packet: `flags` are TCP's control bits (0 for UDP).
#[inline]
#[must_use]
pub fn next(state: State, direction: Direction, flags: u8) -> State {
    NEXT[direction as usize][state as usize & 15][usize::from(COLUMN[usize::from(flags & 31)])]
}

/// As [`next`], under `secure_tcp`: only the server's packets establish a connection, so an ACK without a server
/// behind it does not hold an entry for a quarter of an hour.
#[inline]
#[must_use]
pub fn next_secure(state: State, direction: Direction, flags: u8) -> State {
    let column = usize::from(COLUMN[usize::from(flags & 31)]);
    match (direction, state, column) {
        (Direction::In, State::SynRecv, ACK_SEEN) => State::SynRecv,
        (Direction::In, State::SynAck, SYN_SEEN | FIN_SEEN | ACK_SEEN) => State::SynAck,
        (Direction::In, State::SynAck, RST_SEEN) => State::Close,
        (Direction::Out, State::SynRecv | State::SynAck, SYN_SEEN) => State::SynAck,
        _ => next(state, direction, flags),
    }
}

/// As [`next`], for a connection whose server answers without the director. Only the client's packets are seen, so
/// its FIN counts as the beginning of the end of both sides. (IPVS's table `INPUT_ONLY`.)
#[inline]
#[must_use]
pub fn next_one_sided(state: State, flags: u8) -> State {
    match (state, usize::from(COLUMN[usize::from(flags & 31)])) {
        (State::Established | State::FinWait, FIN_SEEN) => State::FinWait,
        (State::SynAck, RST_SEEN) => State::Close,
        _ => next(state, Direction::In, flags),
    }
}

/// As [`next_one_sided`], under `secure_tcp`: the entry of a SYN counts as inactive.
#[inline]
#[must_use]
pub fn next_one_sided_secure(state: State, flags: u8) -> State {
    let is_syn = usize::from(COLUMN[usize::from(flags & 31)]) == SYN_SEEN;
    match state {
        State::Established | State::SynSent | State::SynRecv | State::Udp => next_one_sided(state, flags),
        _ if is_syn => State::SynAck,
        _ => next_one_sided(state, flags),
    }
}

/// The timeout of each state, in seconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Timeouts([u32; NUMBERS]);

impl Default for Timeouts {
    fn default() -> Self {
        let mut timeouts = Self([1; NUMBERS]);
        for (state, seconds) in [
            // The state of entries that an ICMP error made. The kernel's table says 2 seconds, but the kernel never
            // sets it.
            (State::None, 3),
            (State::Established, 900),
            (State::SynSent, 120),
            (State::SynRecv, 60),
            (State::FinWait, 120),
            (State::TimeWait, 120),
            (State::Close, 10),
            (State::CloseWait, 60),
            (State::LastAck, 30),
            (State::Listen, 120),
            (State::SynAck, 120),
            (State::Udp, 300),
            (State::SctpInit1, 4),
            (State::SctpInit, sctp::MAX_RTO),
            (State::SctpCookieSent, sctp::MAX_RTO),
            (State::SctpCookieReplied, sctp::MAX_RTO),
            (State::SctpCookieWait, sctp::MAX_RTO),
            (State::SctpCookie, sctp::MAX_RTO),
            (State::SctpCookieEchoed, sctp::MAX_RTO),
            (State::SctpEstablished, 900),
            (State::SctpShutdownSent, sctp::MAX_RTO),
            (State::SctpShutdownReceived, sctp::MAX_RTO),
            (State::SctpShutdownAckSent, sctp::MAX_RTO),
            (State::SctpRejected, 4),
            (State::SctpClosed, sctp::MAX_RTO),
        ] {
            timeouts.set(state, seconds);
        }
        timeouts
    }
}

impl Timeouts {
    /// The longest timeout, in seconds: 31 days, as ipvsadm has it.
    pub const MAX: u32 = director_flow::MAX_TIMEOUT;

    /// The timeout of a state, in seconds.
    #[inline]
    #[must_use]
    pub fn of(&self, state: State) -> u32 {
        self.0[state as usize % NUMBERS]
    }

    /// Sets the timeout of a state, at least 1 and at most [`Self::MAX`] seconds.
    pub fn set(&mut self, state: State, seconds: u32) {
        self.0[state as usize % NUMBERS] = seconds.clamp(1, Self::MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use State::{Close, CloseWait, Established, FinWait, SynRecv, SynSent, TimeWait};

    /// The recorded table: state, then client SYN FIN ACK RST, then server SYN FIN ACK RST.
    const RECORDED: [(State, [State; 4], [State; 4]); 7] = [
        (SynRecv, [SynRecv, TimeWait, Established, SynRecv], [SynRecv, TimeWait, Established, Close]),
        (
            Established,
            [Established, CloseWait, Established, Close],
            [Established, FinWait, Established, Close],
        ),
        (CloseWait, [SynRecv, CloseWait, CloseWait, Close], [SynSent, TimeWait, CloseWait, Close]),
        (FinWait, [SynRecv, TimeWait, FinWait, Close], [SynSent, FinWait, FinWait, Close]),
        (TimeWait, [SynRecv, TimeWait, TimeWait, Close], [SynSent, TimeWait, TimeWait, TimeWait]),
        (Close, [SynRecv, Close, Close, Close], [SynSent, Close, Close, Close]),
        (SynSent, [Established, SynSent, SynSent, Close], [SynSent, SynSent, SynSent, SynSent]),
    ];

    #[test]
    fn the_recorded_transitions() {
        for (state, client, server) in RECORDED {
            for (flag, at) in [(SYN, 0), (FIN, 1), (ACK, 2), (RST, 3)] {
                assert_eq!(next(state, Direction::In, flag), client[at], "{state:?} + client {flag:#x}");
                assert_eq!(next(state, Direction::Out, flag), server[at], "{state:?} + server {flag:#x}");
            }
            assert_eq!(next(state, Direction::In, 0), Close);
            assert_eq!(next(state, Direction::Out, 0x28), Close);
        }
    }

    /// As recorded: client SYN FIN ACK RST, then server SYN FIN ACK RST. The other states are as without it.
    #[test]
    fn the_recorded_transitions_of_secure_tcp() {
        use State::SynAck;
        let recorded = [
            (SynRecv, [SynRecv, TimeWait, SynRecv, SynRecv], [SynAck, TimeWait, Established, Close]),
            (SynAck, [SynAck, SynAck, SynAck, Close], [SynAck, TimeWait, Established, Close]),
        ];
        for (state, client, server) in recorded {
            for (at, flag) in [SYN, FIN, ACK, RST].into_iter().enumerate() {
                assert_eq!(
                    next_secure(state, Direction::In, flag),
                    client[at],
                    "{state:?} + client {flag:#x}"
                );
                assert_eq!(
                    next_secure(state, Direction::Out, flag),
                    server[at],
                    "{state:?} + server {flag:#x}"
                );
            }
        }
        for state in State::ALL.into_iter().take(12).filter(|state| !matches!(state, SynRecv | SynAck)) {
            for (direction, flags) in [Direction::In, Direction::Out]
                .into_iter()
                .flat_map(|direction| (0..32).map(move |flags| (direction, flags)))
            {
                assert_eq!(next_secure(state, direction, flags), next(state, direction, flags));
            }
        }
    }

    /// As recorded: only a client's FIN differs. Nothing was recorded under `secure_tcp`: that is as in Linux's
    /// source.
    #[test]
    fn the_states_of_one_sided_traffic() {
        for state in State::ALL.into_iter().take(12) {
            for flags in 0..32 {
                let (usual, one_sided) = (next(state, Direction::In, flags), next_one_sided(state, flags));
                match (state, usize::from(COLUMN[usize::from(flags)])) {
                    (Established | State::FinWait, FIN_SEEN) => assert_eq!(one_sided, State::FinWait),
                    (State::SynAck, RST_SEEN) => assert_eq!(one_sided, Close),
                    _ => assert_eq!(one_sided, usual, "{state:?} + {flags:#x}"),
                }
                if flags & (SYN | RST) != SYN {
                    assert_eq!(next_one_sided_secure(state, flags), one_sided, "{state:?} + {flags:#x}");
                }
            }
        }
        let syn = |state| next_one_sided_secure(state, SYN);
        assert_eq!([State::None, TimeWait, Close].map(syn), [State::SynAck; 3]);
        assert_eq!([Established, SynSent, SynRecv].map(syn), [Established, Established, SynRecv]);
    }

    #[test]
    fn which_flag_counts() {
        assert_eq!(next(State::None, Direction::In, SYN | ACK), SynRecv);
        assert_eq!(next(State::None, Direction::In, SYN | FIN), SynRecv);
        assert_eq!(next(State::None, Direction::In, FIN | ACK), Close, "sloppy_tcp");
        assert_eq!(next(Established, Direction::In, RST | SYN | FIN | ACK), Close);
        assert_eq!(next(Established, Direction::Out, FIN | ACK), FinWait);
    }

    #[test]
    fn udp_stays_udp() {
        assert_eq!(next(State::Udp, Direction::In, 0), State::Udp);
        assert_eq!(next(State::Udp, Direction::Out, 0), State::Udp);
    }

    #[test]
    fn numbers_are_kept() {
        for state in State::ALL {
            let protocol = if state as u8 > SCTP_STATES { SCTP } else { director_packet::TCP };
            assert_eq!(State::of(protocol, state.kept()), state);
            assert!(state.kept() < 16);
        }
        assert_eq!(State::of(SCTP, State::None.kept()), State::None);
        for unknown in [12, 15, 31, 255] {
            assert_eq!(
                State::of(director_packet::UDP, unknown % 16 + 12 * u8::from(unknown % 16 < 12)),
                State::None
            );
        }
    }
}
