//! Handing a generic-netlink socket over to the director.
//!
//! Requests with a short answer go over the one connection that this process keeps (`link`), and the answer is put
//! into the receive queue of the tool's socket, which stays a netlink socket and gets a mark. A request for a
//! listing, or one without an acknowledgement to mark the end of its answer, replaces the socket by a connection.

use std::ffi::{c_int, c_void};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use libc::{sa_family_t, sockaddr_nl, sockaddr_un, socklen_t};

use crate::instance::Socket;
use crate::netlink::{self, Mark};
use crate::real;
use crate::{family, ipvsadm, link};

/// Whether any socket of this process was handed over. Until then no other call has to check its descriptor.
/// Relaxed: who uses a descriptor learned of it from the one who handed it over.
static SWITCHED: AtomicBool = AtomicBool::new(false);

/// Whether any socket of this process was marked, likewise.
static MARKED: AtomicBool = AtomicBool::new(false);

/// The mark (`SO_MARK`, which netlink does not use) of a socket that asked for IPVS.
const MARK: c_int = 0x6970_7673; // "ipvs"

/// Where the bytes go that a program sends.
pub(crate) enum Route {
    /// Where they would go without this library.
    Straight,
    /// To the director, from the socket of this netlink port id.
    Director(u32),
    /// Nowhere else: they went to the director, and the answer is there.
    Answered,
    /// Nowhere: the director does not answer.
    Refused(c_int),
}

/// Decides where netlink messages sent on `fd` go, and hands `fd` over if they ask for IPVS.
pub(crate) fn route(fd: c_int, bytes: &mut [u8]) -> Route {
    if let Some(route) = ipvsadm::route(fd, bytes) {
        return route;
    }
    let asks = netlink::asks_for_ipvs(bytes) && is_generic(fd);
    if !asks && !is_marked(fd) {
        return port(fd).map_or(Route::Straight, Route::Director);
    }
    let Some(port) = netlink_port(fd) else { return Route::Straight };
    if port != 0 && netlink::wants_short_answer(bytes) {
        netlink::set_port(bytes, port);
        DELIVERED.store(port, Ordering::Relaxed);
        match answer(bytes, asks, |datagram| deliver(fd, port, datagram)) {
            Ok(()) if !asks || mark(fd) => return Route::Answered,
            Err(errno) if !asks || errno != libc::EPERM => return Route::Refused(errno),
            // A program may lack the right to send to itself, or to mark its sockets. A connection of its own needs
            // neither.
            _ => {}
        }
    }
    hand_over(fd, port)
}

/// Puts a connection in the place of `fd`, for good.
pub(crate) fn hand_over(fd: c_int, port: u32) -> Route {
    match replace(fd, port) {
        Ok(()) => {
            SWITCHED.store(true, Ordering::Relaxed);
            Route::Director(port)
        }
        Err(errno) => Route::Refused(errno),
    }
}

/// Puts a datagram into the receive queue of the netlink socket `fd`.
fn deliver(fd: c_int, port: u32, bytes: &[u8]) -> Result<(), c_int> {
    let to = netlink::address(port);
    // SAFETY: the bytes, and an address on this stack, with their lengths.
    let sent = unsafe {
        let (bytes, length) = (bytes.as_ptr().cast(), bytes.len());
        let to_length = size_of::<sockaddr_nl>() as socklen_t;
        real::sendto(fd, bytes, length, libc::MSG_DONTWAIT, (&raw const to).cast(), to_length)
    };
    match real::errno() {
        _ if sent >= 0 => Ok(()),
        // As the kernel reports for a socket that is not read.
        libc::EAGAIN => Err(libc::ENOBUFS),
        errno => Err(errno),
    }
}

/// Asks the director and delivers the answer.
pub(crate) fn answer(
    request: &[u8],
    asks: bool,
    mut deliver: impl FnMut(&[u8]) -> Result<(), c_int>,
) -> Result<(), c_int> {
    if !asks {
        return link::exchange(request, deliver);
    }
    if let Some((mut known, length)) = family::known()
        && let (Some(known), Some(done)) = (known.get_mut(..length), netlink::acknowledgement(request))
    {
        netlink::readdress(known, request);
        return deliver(known).and_then(|()| deliver(&done));
    }
    link::exchange(request, |bytes| {
        if !netlink::is_acknowledgement(bytes) {
            family::learn(bytes);
        }
        deliver(bytes)
    })
}

/// Marks a socket. False: this program may not.
fn mark(fd: c_int) -> bool {
    let (value, length) = (MARK, size_of::<c_int>() as socklen_t);
    // SAFETY: the value and its length are those of a `c_int` on this stack.
    let done = unsafe {
        real::setsockopt(fd, libc::SOL_SOCKET, libc::SO_MARK, (&raw const value).cast(), length) == 0
    };
    if done {
        MARKED.store(true, Ordering::Relaxed);
    }
    done
}

/// Whether `fd` carries the mark. Leaves `errno` alone.
fn is_marked(fd: c_int) -> bool {
    if !MARKED.load(Ordering::Relaxed) {
        return false;
    }
    let errno = real::errno();
    let is = option(fd, libc::SO_MARK) == Some(MARK);
    real::set_errno(errno);
    is
}

/// The port id of the socket to which the last answer was delivered. Relaxed: it saves a look at the mark, no more.
static DELIVERED: AtomicU32 = AtomicU32::new(0);

/// Whether what is received on `fd`, from a socket of this netlink port id, is the director's.
pub(crate) fn is_directors(fd: c_int, sender: u32) -> bool {
    // Only this process can send from one of its ports.
    let is_delivered = sender != 0 && sender == DELIVERED.load(Ordering::Relaxed);
    is_delivered || (sender != 0 && is_marked(fd)) || port(fd).is_some()
}

/// The netlink port id of `fd` if it was replaced, or is ipvsadm's. Leaves `errno` alone.
pub(crate) fn port(fd: c_int) -> Option<u32> {
    if let Some(port) = ipvsadm::port(fd) {
        return Some(port);
    }
    if !SWITCHED.load(Ordering::Relaxed) {
        return None;
    }
    name(fd).map(|mark| mark.port)
}

/// Whether `fd` is the connection that this process keeps (`link`), or that of another process; none if it is
/// neither.
pub(crate) fn link_of(fd: c_int) -> Option<bool> {
    let owner = name(fd)?.nonce >> 32;
    (owner & LINK != 0).then(|| owner == LINK | u64::from(pid()))
}

fn name(fd: c_int) -> Option<Mark> {
    let errno = real::errno();
    let mut address = sockaddr_un { sun_family: 0, sun_path: [0; 108] };
    let mut length = size_of::<sockaddr_un>() as socklen_t;
    // SAFETY: the address and its length are those of a `sockaddr_un` on this stack.
    let known = unsafe { real::getsockname(fd, (&raw mut address).cast(), &raw mut length) };
    real::set_errno(errno);
    if known == 0 { Mark::read(&address, length) } else { None }
}

/// Whether `fd` is a generic-netlink socket. Leaves `errno` alone.
pub(crate) fn is_generic(fd: c_int) -> bool {
    let errno = real::errno();
    let is = option(fd, libc::SO_PROTOCOL) == Some(libc::NETLINK_GENERIC);
    real::set_errno(errno);
    is
}

fn option(fd: c_int, name: c_int) -> Option<c_int> {
    let mut value: c_int = 0;
    let mut length = size_of::<c_int>() as socklen_t;
    // SAFETY: the value and its length are those of a `c_int` on this stack.
    let known =
        unsafe { real::getsockopt(fd, libc::SOL_SOCKET, name, (&raw mut value).cast(), &raw mut length) };
    (known == 0).then_some(value)
}

/// Puts a new connection to the director in the place of `fd`, and keeps the descriptor flags, status flags and
/// timeouts.
///
/// In this way a long-running tool also reaches a director that was restarted: no request depends on an earlier one,
/// so one that could not be sent can go to the next director.
pub(crate) fn replace(fd: c_int, port: u32) -> Result<(), c_int> {
    let new = Socket::Ipvs.connect(|new| give_name(new, port, pid().into()))?;
    for timeout in [libc::SO_RCVTIMEO, libc::SO_SNDTIMEO] {
        copy_timeout(fd, new, timeout);
    }
    // SAFETY: no pointers. The descriptor `new` is ours; `fd` is the program's, which just now sends on it.
    // dup3(2) replaces it in one step, so that no other thread finds it closed.
    unsafe {
        let status = libc::fcntl(fd, libc::F_GETFL);
        if status >= 0 && status & libc::O_NONBLOCK != 0 {
            libc::fcntl(new, libc::F_SETFL, libc::O_NONBLOCK);
        }
        let flags = libc::fcntl(fd, libc::F_GETFD);
        let close_on_exec = if flags & libc::FD_CLOEXEC != 0 { libc::O_CLOEXEC } else { 0 };
        let replaced = libc::dup3(new, fd, close_on_exec);
        let errno = real::errno();
        libc::close(new);
        if replaced < 0 { Err(errno) } else { Ok(()) }
    }
}

/// The port id of a netlink socket; none if it is no netlink socket. A socket that is not bound yet is bound, as by
/// the kernel when it sends.
fn netlink_port(fd: c_int) -> Option<u32> {
    let read = || {
        let mut address = netlink::address(0);
        address.nl_family = 0;
        let mut length = size_of::<sockaddr_nl>() as socklen_t;
        // SAFETY: the address and its length are those of a `sockaddr_nl` on this stack.
        let known = unsafe { real::getsockname(fd, (&raw mut address).cast(), &raw mut length) };
        let is = known == 0 && address.nl_family == libc::AF_NETLINK as sa_family_t;
        is.then_some(address.nl_pid)
    };
    match read()? {
        0 => {
            // If it fails, the port id stays 0, which the director accepts.
            bind(fd, 0);
            read()
        }
        port => Some(port),
    }
}

/// Binds a netlink socket to a port id, or to 0: any.
pub(crate) fn bind(fd: c_int, port: u32) {
    let address = netlink::address(port);
    // SAFETY: the address and its length are those of a `sockaddr_nl` on this stack.
    unsafe { real::bind(fd, (&raw const address).cast(), size_of::<sockaddr_nl>() as socklen_t) };
}

/// The upper half of the nonce in the address of the connection that a process keeps; the lower half is the process's
/// id.
const LINK: u64 = 1 << 31;

/// Names a new socket as the connection that this process keeps.
pub(crate) fn name_link(new: c_int) -> Result<(), c_int> {
    give_name(new, 0, LINK | u64::from(pid()))
}

/// This process's id.
pub(crate) fn pid() -> u32 {
    // SAFETY: no arguments.
    unsafe { libc::getpid() }.cast_unsigned()
}

/// Binds a new socket to an address that tells what it is for.
fn give_name(new: c_int, port: u32, owner: u64) -> Result<(), c_int> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    for _ in 0..64 {
        // Unique among the processes of a network namespace and among the sockets of this process. Relaxed: only the
        // sum matters. If a pid is used again while an old socket is open, the next number will do.
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let (address, length) = Mark { port, nonce: owner << 32 | u64::from(count) }.address();
        // SAFETY: the address and its length are those of a `sockaddr_un` on this stack.
        if unsafe { real::bind(new, (&raw const address).cast(), length) } == 0 {
            return Ok(());
        }
        if real::errno() != libc::EADDRINUSE {
            return Err(real::errno());
        }
    }
    Err(libc::EADDRINUSE)
}

fn copy_timeout(from: c_int, to: c_int, name: c_int) {
    let mut value = libc::timeval { tv_sec: 0, tv_usec: 0 };
    let mut length = size_of::<libc::timeval>() as socklen_t;
    let pointer: *mut c_void = (&raw mut value).cast();
    // SAFETY: the value and its length are those of a `timeval` on this stack.
    unsafe {
        if real::getsockopt(from, libc::SOL_SOCKET, name, pointer, &raw mut length) == 0 {
            real::setsockopt(to, libc::SOL_SOCKET, name, pointer, length);
        }
    }
}
