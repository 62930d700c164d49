//! The states of SCTP associations, from Linux 6.1's `ip_vs_proto_sctp`; none was recorded.

use director_packet::sctp::{EVENTS, Event};

use super::State::{
    None as NO, SctpClosed as CL, SctpCookie as CO, SctpCookieEchoed as CE, SctpCookieReplied as CR,
    SctpCookieSent as CS, SctpCookieWait as CW, SctpEstablished as ES, SctpInit as IN, SctpInit1 as I1,
    SctpRejected as RJ, SctpShutdownAckSent as SA, SctpShutdownReceived as SR, SctpShutdownSent as SS,
};
use super::{Direction, State};

/// In seconds: one more than the longest time that an endpoint waits before it sends again (RTO.Max, RFC 9260,
/// section 16).
pub(super) const MAX_RTO: u32 = 61;

/// SCTP's states, that of no packet yet among them.
const STATES: usize = 14;

/// The next state, by direction, event and state. The third table is for what the client sends where only its packets
/// are seen.
#[rustfmt::skip]
const NEXT: [[[State; STATES]; EVENTS]; 3] = [
    [
        //                        NO  I1  IN  CS  CR  CW  CO  CE  ES  SS  SR  SA  RJ  CL
        /* DATA */              [ES, I1, IN, CS, CR, CW, CO, CE, ES, SS, SR, SA, RJ, CL],
        /* INIT */              [I1, IN, IN, CS, CR, CW, CO, CE, ES, SS, SR, SA, IN, IN],
        /* INIT ACK */          [CW, CW, CW, CS, CR, CO, CO, CE, ES, SS, SR, SA, RJ, CL],
        /* COOKIE ECHO */       [CR, IN, IN, CR, CR, CW, CO, CE, ES, SS, SR, SA, RJ, CL],
        /* COOKIE ACK */        [ES, I1, IN, CS, CR, CW, CO, ES, ES, SS, SR, SA, RJ, CL],
        /* SHUTDOWN */          [SR, I1, IN, CS, CR, CW, CO, CE, SR, SS, SR, SA, RJ, CL],
        /* SHUTDOWN ACK */      [CL, IN, IN, CS, CR, CW, CO, CE, ES, CL, SR, CL, RJ, CL],
        /* SHUTDOWN COMPLETE */ [CL, CL, CL, CS, CR, CW, CO, CE, ES, SS, SR, CL, RJ, CL],
        /* ERROR */             [CL, I1, IN, CS, CR, CW, CO, CL, ES, SS, SR, SA, RJ, CL],
        /* ABORT */             [CL, CL, CL, CL, CL, RJ, CL, CL, CL, CL, CL, CL, CL, CL],
    ],
    [
        //                        NO  I1  IN  CS  CR  CW  CO  CE  ES  SS  SR  SA  RJ  CL
        /* DATA */              [ES, I1, IN, CS, CR, CW, CO, CE, ES, SS, SR, SA, RJ, CL],
        /* INIT */              [CW, CW, CW, CW, CW, CW, CW, CW, ES, CW, CW, CW, CW, CW],
        /* INIT ACK */          [CS, CS, CS, CS, CR, CW, CO, CE, ES, SS, SR, SA, RJ, CL],
        /* COOKIE ECHO */       [CE, CE, CE, CE, CE, CE, CE, CE, ES, SS, SR, SA, RJ, CL],
        /* COOKIE ACK */        [ES, ES, ES, ES, ES, ES, ES, ES, ES, SS, SR, SA, RJ, CL],
        /* SHUTDOWN */          [SS, SS, SS, SS, SS, SS, SS, SS, SS, SS, SR, SA, RJ, CL],
        /* SHUTDOWN ACK */      [SA, SA, SA, SA, SA, CW, CO, CE, ES, SA, SA, SA, RJ, CL],
        /* SHUTDOWN COMPLETE */ [CL, I1, IN, CS, CR, CW, CO, CE, ES, SS, SR, SA, RJ, CL],
        /* ERROR */             [CL, CL, CL, CL, CL, CW, CO, CE, ES, SS, SR, SA, RJ, CL],
        /* ABORT */             [CL, RJ, CL, CL, CL, CL, CL, CL, CL, CL, CL, CL, CL, CL],
    ],
    [
        //                        NO  I1  IN  CS  CR  CW  CO  CE  ES  SS  SR  SA  RJ  CL
        /* DATA */              [ES, I1, IN, CS, CR, ES, CO, CE, ES, SS, SR, SA, RJ, CL],
        /* INIT */              [I1, IN, IN, IN, IN, IN, CO, CE, ES, SS, SR, SA, IN, IN],
        /* INIT ACK */          [CE, CE, CE, CE, CE, CE, CO, CE, ES, SS, SR, SA, RJ, CL],
        /* COOKIE ECHO */       [ES, ES, ES, ES, ES, ES, CO, CE, ES, SS, SR, SA, RJ, CL],
        /* COOKIE ACK */        [ES, I1, IN, ES, ES, CW, ES, ES, ES, SS, SR, SA, RJ, CL],
        /* SHUTDOWN */          [SR, I1, IN, CS, CR, CW, CO, CE, SR, SS, SR, SA, RJ, CL],
        /* SHUTDOWN ACK */      [CL, IN, IN, CS, CR, CW, CO, CE, CL, CL, SR, CL, RJ, CL],
        /* SHUTDOWN COMPLETE */ [CL, CL, CL, CL, CL, CW, CO, CE, ES, SS, CL, CL, RJ, CL],
        /* ERROR */             [CL, I1, IN, CS, CR, CW, CO, CE, ES, SS, SR, SA, RJ, CL],
        /* ABORT */             [CL, CL, CL, CL, CL, RJ, CL, CL, CL, CL, CL, CL, CL, CL],
    ],
];

/// Which of [`NEXT`] is of one-sided traffic.
const ONE_SIDED: usize = 2;

/// The state after a packet that says `event`.
#[must_use]
pub fn next(state: State, direction: Direction, event: Event) -> State {
    of(direction as usize, state, event)
}

/// As [`next`], for an association whose server answers without the director.
#[must_use]
pub fn next_one_sided(state: State, event: Event) -> State {
    of(ONE_SIDED, state, event)
}

fn of(table: usize, state: State, event: Event) -> State {
    let row = NEXT[table][event as usize];
    row.get(usize::from(state.kept())).copied().unwrap_or(NO)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_in_the_order_of_the_states() {
        let states = State::ALL.into_iter().filter(|state| *state as u8 > 15);
        for (at, state) in std::iter::once(NO).chain(states).enumerate() {
            assert_eq!(usize::from(state.kept()), at);
            // Whatever it was, DATA changes it no more.
            if state != NO {
                assert_eq!(next(state, Direction::In, Event::Data), state);
                assert_eq!(next(state, Direction::Out, Event::Data), state);
            }
        }
    }

    #[test]
    fn an_association_opens_and_closes() {
        let run = |steps: &[(Direction, Event)]| {
            let states = steps.iter().scan(NO, |state, (direction, event)| {
                *state = next(*state, *direction, *event);
                Some(*state)
            });
            states.collect::<Vec<_>>()
        };
        use Direction::{In, Out};
        use Event::{
            Abort, CookieAck, CookieEcho, Data, Init, InitAck, Shutdown, ShutdownAck, ShutdownComplete,
        };
        let opened = [(In, Init), (Out, InitAck), (In, CookieEcho), (Out, CookieAck), (In, Data)];
        assert_eq!(run(&opened), [I1, CS, CR, ES, ES]);
        let by_client = [(In, Data), (In, Shutdown), (Out, ShutdownAck), (In, ShutdownComplete)];
        assert_eq!(run(&by_client), [ES, SR, SA, CL]);
        let by_server = [(In, Data), (Out, Shutdown), (In, ShutdownAck), (Out, ShutdownComplete)];
        assert_eq!(run(&by_server), [ES, SS, CL, CL]);
        let alone = |events: &[Event]| {
            let states = events.iter().scan(NO, |state, event| {
                *state = next_one_sided(*state, *event);
                Some(*state)
            });
            states.collect::<Vec<_>>()
        };
        assert_eq!(alone(&[Init, CookieEcho, Data, Shutdown, ShutdownComplete]), [I1, ES, ES, SR, CL]);
        assert_eq!(run(&[(In, Init), (In, Init), (Out, Abort)]), [I1, IN, CL]);
        assert_eq!(run(&[(In, Init), (Out, Abort), (In, Init)]), [I1, RJ, IN]);
    }
}
