//! Handing a generic-netlink socket over to the director.

use std::ffi::{c_int, c_void};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use libc::{sockaddr_nl, sockaddr_un, socklen_t};

use crate::instance::Socket;
use crate::netlink::{self, Mark};
use crate::real;

/// Whether any socket of this process was handed over; until then no other call needs a second look.
/// Relaxed: who uses a descriptor learned of it from the one who handed it over.
static SWITCHED: AtomicBool = AtomicBool::new(false);

/// Where bytes go that a program sends.
pub(crate) enum Route {
    /// Where they went without this library.
    Straight,
    /// To the director, from the socket of this netlink port id.
    Director(u32),
    /// Nowhere: the director does not answer.
    Refused(c_int),
}

/// Decides where messages of netlink sent on `fd` go, and hands `fd` over if they ask for IPVS.
pub(crate) fn route(fd: c_int, bytes: &[u8]) -> Route {
    if netlink::asks_for_ipvs(bytes) && is_generic_netlink(fd) {
        return match hand_over(fd) {
            Ok(port) => Route::Director(port),
            Err(errno) => Route::Refused(errno),
        };
    }
    port(fd).map_or(Route::Straight, Route::Director)
}

/// The netlink port id of `fd` if it was handed over. Leaves `errno` alone.
pub(crate) fn port(fd: c_int) -> Option<u32> {
    if !SWITCHED.load(Ordering::Relaxed) {
        return None;
    }
    let errno = real::errno();
    let mut address = sockaddr_un { sun_family: 0, sun_path: [0; 108] };
    let mut length = size_of::<sockaddr_un>() as socklen_t;
    // SAFETY: the address and its length are those of a `sockaddr_un` on this stack.
    let known = unsafe { real::getsockname(fd, (&raw mut address).cast(), &raw mut length) };
    real::set_errno(errno);
    if known == 0 { Mark::port(&address, length) } else { None }
}

fn is_generic_netlink(fd: c_int) -> bool {
    let errno = real::errno();
    let is = option(fd, libc::SO_DOMAIN) == Some(libc::AF_NETLINK)
        && option(fd, libc::SO_PROTOCOL) == Some(libc::NETLINK_GENERIC);
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

/// Puts a connection to the director in the place of the netlink socket `fd`. Gives its port id.
fn hand_over(fd: c_int) -> Result<u32, c_int> {
    let port = netlink_port(fd);
    replace(fd, port)?;
    SWITCHED.store(true, Ordering::Relaxed);
    Ok(port)
}

/// Puts a new connection to the director in the place of `fd`, of which descriptor flags, status flags and
/// timeouts stay.
///
/// That is also what brings a long-lived tool together with a director that was started anew: no request
/// depends on an earlier one, so one that could not be sent can go to the next director.
pub(crate) fn replace(fd: c_int, port: u32) -> Result<(), c_int> {
    let new = Socket::Ipvs.connect(|new| mark(new, port))?;
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

/// The port id of a netlink socket. One that is not bound yet is bound, as the kernel does when it sends.
fn netlink_port(fd: c_int) -> u32 {
    let read = || {
        let mut address = netlink::address(0);
        let mut length = size_of::<sockaddr_nl>() as socklen_t;
        // SAFETY: the address and its length are those of a `sockaddr_nl` on this stack.
        let known = unsafe { real::getsockname(fd, (&raw mut address).cast(), &raw mut length) };
        if known == 0 { address.nl_pid } else { 0 }
    };
    match read() {
        0 => {
            let any = netlink::address(0);
            // SAFETY: as above. Should it fail, the port id stays 0, which the director does not mind.
            unsafe { real::bind(fd, (&raw const any).cast(), size_of::<sockaddr_nl>() as socklen_t) };
            read()
        }
        port => port,
    }
}

/// Binds a new socket to an address that tells what it is.
fn mark(new: c_int, port: u32) -> Result<(), c_int> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    for _ in 0..64 {
        // Unique among the processes of a network namespace, and among the sockets of this one. Relaxed:
        // only the sum matters. Where a pid came around again with an old socket alive, the next will do.
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        // SAFETY: no pointers.
        let pid = unsafe { libc::getpid() }.cast_unsigned();
        let (address, length) = Mark { port, nonce: u64::from(pid) << 32 | u64::from(count) }.address();
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
