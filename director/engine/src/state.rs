//! Connection states and their timeouts, as IPVS has them.

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
}

/// How many states there are.
pub const STATES: usize = 12;

impl State {
    /// Every state, in the order of its number.
    pub const ALL: [Self; STATES] = [
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
    ];

    /// The state of a number kept in a record; an unknown one is none.
    #[must_use]
    pub const fn from_number(number: u8) -> Self {
        if (number as usize) < STATES { Self::ALL[number as usize] } else { Self::None }
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
        }
    }

    /// Whether a connection in it counts as active (`ActiveConn`), else as inactive (`InActConn`).
    #[must_use]
    pub const fn is_active(self) -> bool {
        matches!(self, Self::Established | Self::SynRecv | Self::SynSent)
    }

    /// Whether a SYN in it starts a new connection under `conn_reuse_mode` 1.
    #[must_use]
    pub const fn is_over(self) -> bool {
        matches!(self, Self::TimeWait | Self::Close)
    }
}

/// Which way a packet goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Direction {
    /// From the client to the real server.
    In = 0,
    /// From the real server to the client.
    Out = 1,
}

/// Columns of the transition table, by the flag that counts: RST before SYN before FIN before ACK.
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

/// The state that follows, by direction, state and column; [`State::Udp`] stays what it is. Rows of TCP
/// as recorded of Linux 6.1; the rows of `LAST_ACK` and `LISTEN`, which NAT enters only through helpers,
/// as Linux has them.
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

/// The state after a packet: `flags` are TCP's control bits (0 for UDP).
#[inline]
#[must_use]
pub fn next(state: State, direction: Direction, flags: u8) -> State {
    NEXT[direction as usize][state as usize & 15][usize::from(COLUMN[usize::from(flags & 31)])]
}

/// The timeout of each state, in seconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Timeouts([u32; STATES]);

impl Default for Timeouts {
    fn default() -> Self {
        let mut timeouts = Self([0; STATES]);
        for (state, seconds) in [
            (State::None, 2),
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
        self.0[state as usize]
    }

    /// Sets the timeout of a state, at least 1 and at most [`Self::MAX`] seconds.
    pub fn set(&mut self, state: State, seconds: u32) {
        self.0[state as usize] = seconds.clamp(1, Self::MAX);
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
        assert!(State::ALL.iter().all(|state| State::from_number(*state as u8) == *state));
        assert_eq!(State::from_number(15), State::None);
    }
}
