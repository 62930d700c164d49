//! The connection for this process's short requests, which is kept from one request to the next.
//!
//! `ipvsadm -R` opens a socket for each line; a connection for each of them would take most of the time. A thread
//! that takes the connection out of [`KEPT`] has it alone, and puts it back when it is done. Before each use, except
//! ipvsadm's, the descriptor is checked: a program that closes all its descriptors closes this one too and may have
//! something else under its number, and a child process must not use its parent's.

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

/// The descriptor, or -1. Acquire and Release: the thread that takes it comes after the one that put it there.
static KEPT: AtomicI32 = AtomicI32::new(-1);

/// The descriptor's number is at least this if the process may have so many, so that the program's own descriptors
/// have the numbers they would have without this library.
const LOWEST: c_int = 100;

/// The longest answer: a refusal, which contains the request.
const MAX_ANSWER: usize = MAX_REQUEST + 64;

/// How often the process looks for an answer before it sleeps until the answer comes: for some 200 µs. Going to sleep
/// and waking up takes longer than the director does if it is awake; it has other work between two answers.
const LOOKS: u32 = 300;

/// After an answer that did not come in time, the process sleeps for this many answers at once: the director is not
/// awake.
const SLEPT_FOR: u32 = 4;

/// Sends a request, and delivers each datagram of its answer, up to the acknowledgement that it asks for.
///
/// A datagram that cannot be delivered is lost, as with a netlink socket that is full.
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
        // That director has gone. No request depends on an earlier one, so this one can go to the next director.
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
    // ipvsadm closes only what it has opened, and a child process of ipvsadm does not count as ipvsadm.
    if ipvsadm::is_this() {
        return Some(fd);
    }
    match switch::link_of(fd) {
        // It belongs to another process; this process has no use for its copy.
        Some(false) => {}
        Some(true) => return Some(fd),
        // The number has been given to something else, which is the program's.
        None => return None,
    }
    close(fd);
    None
}

/// Puts a connection back. If another thread has put one there meanwhile, one is enough.
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

/// The length of the next datagram, or 0 if there is none.
fn receive(fd: c_int, buffer: &mut [u8; MAX_ANSWER]) -> Result<usize, c_int> {
    /// For how many more answers the process sleeps at once. Relaxed: it is only a guess.
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
