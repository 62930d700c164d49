//! ipvsadm's netlink sockets, for which the kernel has nothing to do.
//!
//! ipvsadm makes a socket for each command, asks it for the family, sends the command, receives the answer and closes
//! the socket; `ipvsadm -R` does so thousands of times, in one thread and one after the other. So in a process of
//! that name a closed socket is kept and given out again, and only its number is used: requests go over the
//! connection of the process (`link`), and answers are kept here until they are received. A socket that is used for a
//! listing, or for anything but IPVS, leaves for good; the rest of the library deals with it.
//!
//! No other program is treated like this: a copy of the descriptor, or `poll`, would find an empty kernel socket.
//!
//! The lines of a file of rules need not come into force one by one. So from its second command on, ipvsadm tells the
//! director that its workers may be told later; when the program ends, it waits until they have been. In other
//! programs, and after a single command, the answer means that the next packet sees the change.

use std::cell::UnsafeCell;
use std::ffi::{CStr, c_char, c_int};
use std::sync::atomic::{
    AtomicBool, AtomicU32,
    Ordering::{Acquire, Relaxed, Release},
};

use crate::netlink;
use crate::real;
use crate::switch::{self, Route};

/// The name of the program.
const NAME: &CStr = c"ipvsadm";

/// Room for the answers to a command: the longest is the refusal of a long request, and the answer about the family
/// may come before it.
const ROOM: usize = 8192;

/// How many answers the program may not have begun to receive, at most.
const ANSWERS: usize = 8;

/// The id of this process if it is ipvsadm, else 0. It is set before the program begins, and again in the child of a
/// fork(2), which is not ipvsadm.
static PROCESS: AtomicU32 = AtomicU32::new(0);

/// Whether a command was sent before; then the next one may take effect later. Relaxed, like the next one: only one
/// thread sends.
static HAS_SENT: AtomicBool = AtomicBool::new(false);

/// Whether there may be commands that are not in force yet.
static IS_PENDING: AtomicBool = AtomicBool::new(false);

/// The socket that is given out again and again.
struct Socket {
    /// Its descriptor, or -1.
    fd: c_int,
    /// Whether the program has it open.
    is_open: bool,
    /// The type and flags it was made with.
    kind: c_int,
    port: u32,
    /// Whether it has asked for the family.
    has_asked: bool,
    answers: Answers,
}

/// Datagrams that have not been received yet, one after the other.
struct Answers {
    bytes: [u8; ROOM],
    /// The end of each of them.
    ends: [usize; ANSWERS],
    count: usize,
    /// How many of them were received already.
    received: usize,
}

impl Answers {
    fn clear(&mut self) {
        (self.count, self.received) = (0, 0);
    }

    fn end(&self, number: usize) -> usize {
        self.ends.get(number).copied().unwrap_or(0)
    }

    fn used(&self) -> usize {
        self.count.checked_sub(1).map_or(0, |last| self.end(last))
    }

    /// Adds a datagram. If there is no room it is lost, as with a socket of the kernel's.
    fn push(&mut self, datagram: &[u8]) -> Result<(), c_int> {
        if self.received == self.count {
            self.clear();
        }
        let from = self.used();
        let room = self.bytes.get_mut(from..from + datagram.len()).ok_or(libc::ENOBUFS)?;
        *self.ends.get_mut(self.count).ok_or(libc::ENOBUFS)? = from + datagram.len();
        room.copy_from_slice(datagram);
        self.count += 1;
        Ok(())
    }

    /// The next datagram.
    fn first(&self) -> Option<&[u8]> {
        let from = self.received.checked_sub(1).map_or(0, |before| self.end(before));
        if self.received < self.count { self.bytes.get(from..self.end(self.received)) } else { None }
    }
}

/// The socket, for one thread at a time; ipvsadm has only one.
struct Exclusive {
    is_taken: AtomicBool,
    socket: UnsafeCell<Socket>,
}

// SAFETY: `with` lets one thread at a time have the socket: who takes it (Acquire) comes after who has given it back
// (Release).
unsafe impl Sync for Exclusive {}

static SOCKET: Exclusive = Exclusive {
    is_taken: AtomicBool::new(false),
    socket: UnsafeCell::new(Socket {
        fd: -1,
        is_open: false,
        kind: 0,
        port: 0,
        has_asked: false,
        answers: Answers { bytes: [0; ROOM], ends: [0; ANSWERS], count: 0, received: 0 },
    }),
};

/// Calls with the socket; not in another program, nor while somebody else has it: a signal handler may interrupt
/// anything.
fn with<T>(call: impl FnOnce(&mut Socket) -> Option<T>) -> Option<T> {
    if !is_this() || SOCKET.is_taken.swap(true, Acquire) {
        return None;
    }
    // SAFETY: nobody else has it, by the exchange, until it is given back below.
    let result = call(unsafe { &mut *SOCKET.socket.get() });
    SOCKET.is_taken.store(false, Release);
    result
}

/// The same, if `fd` is the socket and the program has it open.
fn with_open<T>(fd: c_int, call: impl FnOnce(&mut Socket) -> Option<T>) -> Option<T> {
    with(|socket| if socket.is_open && socket.fd == fd { call(socket) } else { None })
}

/// Finds out which program this is.
pub(crate) fn recognize() {
    unsafe extern "C" {
        /// The last part of the name that the program was called by (GNU).
        static program_invocation_short_name: *const c_char;
    }
    // SAFETY: the C library sets it before it calls anybody, to a text that stays.
    let is_it = unsafe {
        let name = program_invocation_short_name;
        !name.is_null() && CStr::from_ptr(name) == NAME
    };
    // SAFETY: the function exists for as long as the process, for the library is not unloaded.
    if is_it && unsafe { libc::pthread_atfork(None, None, Some(forget)) } == 0 {
        PROCESS.store(switch::pid(), Relaxed);
    }
}

/// To be called in a child process.
unsafe extern "C" fn forget() {
    PROCESS.store(0, Relaxed);
}

/// Whether this is the process of ipvsadm.
pub(crate) fn is_this() -> bool {
    PROCESS.load(Relaxed) != 0
}

/// A descriptor for a generic-netlink socket of this kind, if this is ipvsadm and it has none.
pub(crate) fn open(kind: c_int) -> Option<c_int> {
    with(|socket| {
        if socket.is_open {
            return None;
        }
        // The number may have been given to something else by now.
        if socket.fd < 0 || socket.kind != kind || !switch::is_generic(socket.fd) {
            // SAFETY: no pointers.
            socket.fd = unsafe { real::socket(libc::AF_NETLINK, kind, libc::NETLINK_GENERIC) };
        }
        if socket.fd < 0 {
            return None;
        }
        (socket.is_open, socket.kind, socket.has_asked) = (true, kind, false);
        // As the kernel numbers the first socket of a process.
        socket.port = PROCESS.load(Relaxed);
        socket.answers.clear();
        Some(socket.fd)
    })
}

/// To be called when the program closes a descriptor. True: it is kept for the next time.
pub(crate) fn close(fd: c_int) -> bool {
    with_open(fd, |socket| {
        socket.is_open = false;
        Some(())
    })
    .is_some()
}

/// The port id of the socket, if `fd` is it.
pub(crate) fn port(fd: c_int) -> Option<u32> {
    with_open(fd, |socket| Some(socket.port))
}

/// To be called when the program binds a descriptor to a port id, or to 0: any. False: it is not the socket.
pub(crate) fn bind(fd: c_int, port: u32) -> bool {
    with_open(fd, |socket| {
        if port != 0 {
            socket.port = port;
        }
        Some(())
    })
    .is_some()
}

/// Where a request that is sent on `fd` goes; none if that is not, or no longer, the socket.
pub(crate) fn route(fd: c_int, bytes: &mut [u8]) -> Option<Route> {
    with_open(fd, |socket| {
        let asks = netlink::asks_for_ipvs(bytes);
        socket.has_asked |= asks;
        if socket.has_asked && netlink::wants_short_answer(bytes) {
            netlink::set_port(bytes, socket.port);
            if !asks && HAS_SENT.swap(true, Relaxed) {
                netlink::set_later(bytes);
                IS_PENDING.store(true, Relaxed);
            }
            let answers = &mut socket.answers;
            return Some(match switch::answer(bytes, asks, |datagram| answers.push(datagram)) {
                Ok(()) => Route::Answered,
                Err(errno) => Route::Refused(errno),
            });
        }
        // It is no longer ours, and the program will close it.
        let port = socket.port;
        (socket.fd, socket.is_open) = (-1, false);
        if socket.has_asked {
            return Some(switch::hand_over(fd, port));
        }
        switch::bind(fd, port);
        None
    })
}

/// Lets `take` receive the next answer, which is then removed unless it was only peeked at; none if there is none.
pub(crate) fn receive<T>(fd: c_int, flags: c_int, take: impl FnOnce(&[u8]) -> T) -> Option<T> {
    with_open(fd, |socket| {
        let taken = take(socket.answers.first()?);
        if flags & libc::MSG_PEEK == 0 {
            socket.answers.received += 1;
        }
        Some(taken)
    })
}

/// To be called when the program ends: waits until all its changes are in force.
pub(crate) fn finish() {
    if IS_PENDING.swap(false, Relaxed) {
        // If the director has gone, there is nothing to wait for.
        let _ = switch::answer(&netlink::nothing(), false, |_| Ok(()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_come_in_order_and_whole() {
        let mut answers = Answers { bytes: [0; ROOM], ends: [0; ANSWERS], count: 0, received: 0 };
        assert_eq!(answers.first(), None);
        for round in 0..100 {
            answers.push(&[1; 400]).unwrap();
            answers.push(b"").unwrap();
            answers.push(&[round; 36]).unwrap();
            for expected in [&[1; 400][..], b"", &[round; 36]] {
                assert_eq!(answers.first(), Some(expected));
                answers.received += 1;
            }
            assert_eq!(answers.first(), None);
        }
        assert_eq!(answers.push(&[0; ROOM + 1]), Err(libc::ENOBUFS));
        answers.push(&[2; ROOM]).unwrap();
        assert_eq!(answers.push(&[3]), Err(libc::ENOBUFS));
        answers.clear();
        (0..ANSWERS).for_each(|_| answers.push(&[4]).unwrap());
        assert_eq!(answers.push(&[5]), Err(libc::ENOBUFS));
    }
}
