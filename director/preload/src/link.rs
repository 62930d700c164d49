//! The connection over which this process's short requests go, kept from one to the next.
//!
//! `ipvsadm -R` opens a socket for each line; a connection for each of them would take most of the time. Whoever
//! takes the connection out of [`KEPT`] has it alone, and puts it back when it has nothing more to say.
//! Before each use, but for ipvsadm's, it is looked at: a program that closes all its descriptors closes this one too
//! and may have something else under its number, and a child process must not speak on its parent's.

use std::ffi::c_int;
use std::sync::atomic::{
    AtomicI32, AtomicU32,
    Ordering::{Acquire, Relaxed, Release},
};

use crate::instance::{Socket, limit_reads};
use crate::ipvsadm;
use crate::netlink;
use crate::real;
use crate::sockets::MAX_REQUEST;
use crate::switch;

/// The descriptor, or -1. Acquire and Release: who takes it comes after who put it there.
static KEPT: AtomicI32 = AtomicI32::new(-1);

/// Its descriptor is at least this where the process may have so many, so that the program's own are numbered as they
/// would be without this library.
const LOWEST: c_int = 100;

/// The longest answer: a refusal, which has the request in it.
const MAX_ANSWER: usize = MAX_REQUEST + 64;

/// How often an answer is looked for before the process sleeps until it is there: for some 200 µs. To sleep and to be
/// woken takes longer than the director does, if it is awake, and it has its other work between two answers.
const LOOKS: u32 = 300;

/// After an answer that was not there in time so many are slept for: the director is not awake.
const SLEPT_FOR: u32 = 4;

/// Sends a request and has each datagram of its answer delivered, up to the acknowledgement that it asks for.
///
/// A datagram that cannot be delivered is lost, as one is that finds a netlink socket full.
pub(crate) fn exchange(
    request: &[u8],
    mut deliver: impl FnMut(&[u8]) -> Result<(), c_int>,
) -> Result<(), c_int> {
    let mut fd = match take() {
        Some(fd) => fd,
        None => connect()?,
    };
    let mut sent = send(fd, request);
    if sent == Err(libc::EPIPE) {
        // That director has gone; no request depends on an earlier one, so this can go to the next.
        close(fd);
        fd = connect()?;
        sent = send(fd, request);
    }
    let mut converse = || {
        sent?;
        let mut buffer = [0; MAX_ANSWER];
        let mut outcome = Ok(());
        loop {
            let length = receive(fd, &mut buffer)?;
            let answer = buffer.get(..length).ok_or(libc::EMSGSIZE)?;
            outcome = outcome.and(deliver(answer));
            if netlink::is_acknowledgement(answer) {
                return Ok(outcome);
            }
        }
    };
    match converse() {
        Ok(outcome) => {
            keep(fd);
            outcome
        }
        Err(errno) => {
            close(fd);
            Err(errno)
        }
    }
}

fn take() -> Option<c_int> {
    let fd = KEPT.swap(-1, Acquire);
    if fd < 0 {
        return None;
    }
    // ipvsadm closes what it has opened and nothing else, and a child process of its own is not ipvsadm.
    if ipvsadm::is_this() {
        return Some(fd);
    }
    match switch::link_of(fd) {
        // Another process's: this one's descriptor of it is of no use.
        Some(false) => {}
        Some(true) => return Some(fd),
        // Something else by now, and the program's.
        None => return None,
    }
    close(fd);
    None
}

/// Puts a connection back; where another thread has put one there meanwhile, one is enough.
fn keep(fd: c_int) {
    if KEPT.compare_exchange(-1, fd, Release, Relaxed).is_err() {
        close(fd);
    }
}

fn connect() -> Result<c_int, c_int> {
    let fd = Socket::Ipvs.connect(switch::name_link)?;
    // SAFETY: no pointers; the descriptor is ours.
    let moved = unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, LOWEST) };
    limit_reads(fd);
    if moved < 0 {
        // So few descriptors may this process have.
        return Ok(fd);
    }
    close(fd);
    Ok(moved)
}

fn send(fd: c_int, request: &[u8]) -> Result<(), c_int> {
    loop {
        // SAFETY: the bytes and their length.
        let sent = unsafe { real::send(fd, request.as_ptr().cast(), request.len(), libc::MSG_NOSIGNAL) };
        match real::errno() {
            _ if sent >= 0 => return Ok(()),
            libc::EINTR => {}
            errno => return Err(errno),
        }
    }
}

/// The next datagram's length, which is 0 for none.
fn receive(fd: c_int, buffer: &mut [u8; MAX_ANSWER]) -> Result<usize, c_int> {
    /// Answers yet to be slept for. Relaxed: it is but a guess.
    static SLEEP: AtomicU32 = AtomicU32::new(0);
    let mut receive = |flags| {
        // SAFETY: the buffer and its length. With MSG_TRUNC a datagram that is longer says so.
        match unsafe { real::recv(fd, buffer.as_mut_ptr().cast(), buffer.len(), flags | libc::MSG_TRUNC) } {
            0 => Err(libc::ECONNRESET),
            received => usize::try_from(received).map_err(|_| real::errno()),
        }
    };
    let to_sleep_for = SLEEP.load(Relaxed);
    if to_sleep_for > 0 {
        SLEEP.store(to_sleep_for - 1, Relaxed);
    } else {
        for _ in 0..LOOKS {
            match receive(libc::MSG_DONTWAIT) {
                // The director may have to run on this CPU.
                // SAFETY: no arguments.
                Err(libc::EAGAIN) => drop(unsafe { libc::sched_yield() }),
                other => return other,
            }
        }
        SLEEP.store(SLEPT_FOR, Relaxed);
    }
    loop {
        match receive(0) {
            Err(libc::EINTR) => {}
            Err(libc::EAGAIN) => return Err(libc::ETIMEDOUT),
            other => return other,
        }
    }
}

fn close(fd: c_int) {
    // SAFETY: the descriptor is ours.
    unsafe { libc::close(fd) };
}
