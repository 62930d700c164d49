//! The socket functions, as programs call them.
//!
//! A descriptor that was handed over behaves as the netlink socket it was: addresses are netlink's, options of
//! netlink succeed, and a director that has gone is an error, neither an end of file nor a signal. Peeking (`MSG_PEEK
//! | MSG_TRUNC`), polling and dumping work with AF_UNIX as with netlink.

use std::ffi::{c_int, c_uint, c_void};
use std::sync::atomic::{AtomicBool, Ordering};

use libc::{iovec, mmsghdr, msghdr, size_t, sockaddr, sockaddr_nl, socklen_t, ssize_t};

use crate::ipvsadm;
use crate::netlink;
use crate::real::{self, fail};
use crate::switch::{self, Route};

/// `IP_VS_BASE_CTL` and what follows it: the socket options of IPVS, the interface before netlink.
const IPVS_OPTIONS: std::ops::RangeInclusive<c_int> = 1152..=1167;

/// Whether this process made a generic-netlink socket; only then does `write` look at what it writes.
/// Relaxed: who uses a descriptor learned of it from the one who made it.
static GENERIC: AtomicBool = AtomicBool::new(false);

/// socket(2).
#[unsafe(no_mangle)]
unsafe extern "C" fn socket(domain: c_int, kind: c_int, protocol: c_int) -> c_int {
    if domain == libc::AF_NETLINK && protocol == libc::NETLINK_GENERIC {
        GENERIC.store(true, Ordering::Relaxed);
        if let Some(fd) = ipvsadm::open(kind) {
            return fd;
        }
    }
    // SAFETY: the caller's arguments as they are.
    unsafe { real::socket(domain, kind, protocol) }
}

/// close(2).
#[unsafe(no_mangle)]
unsafe extern "C" fn close(fd: c_int) -> c_int {
    if ipvsadm::close(fd) {
        return 0;
    }
    // SAFETY: the caller's argument as it is.
    unsafe { real::close(fd) }
}

/// write(2).
#[unsafe(no_mangle)]
unsafe extern "C" fn write(fd: c_int, buffer: *const c_void, length: size_t) -> ssize_t {
    if !GENERIC.load(Ordering::Relaxed) {
        // SAFETY: the caller's arguments as they are.
        return unsafe { real::write(fd, buffer, length) };
    }
    let vector = iovec { iov_base: buffer.cast_mut(), iov_len: length };
    // SAFETY: the caller promises `length` readable bytes; its arguments are passed on.
    unsafe { dispatch(fd, &[vector], 0, || real::write(fd, buffer, length)) }
}

/// send(2).
#[unsafe(no_mangle)]
unsafe extern "C" fn send(fd: c_int, buffer: *const c_void, length: size_t, flags: c_int) -> ssize_t {
    let vector = iovec { iov_base: buffer.cast_mut(), iov_len: length };
    // SAFETY: the caller promises `length` readable bytes; its arguments are passed on.
    unsafe { dispatch(fd, &[vector], flags, || real::send(fd, buffer, length, flags)) }
}

/// sendto(2). The address, the kernel's of netlink, means nothing to the director.
#[unsafe(no_mangle)]
unsafe extern "C" fn sendto(
    fd: c_int,
    buffer: *const c_void,
    length: size_t,
    flags: c_int,
    to: *const sockaddr,
    to_length: socklen_t,
) -> ssize_t {
    let vector = iovec { iov_base: buffer.cast_mut(), iov_len: length };
    // SAFETY: the caller promises `length` readable bytes; its arguments are passed on.
    unsafe { dispatch(fd, &[vector], flags, || real::sendto(fd, buffer, length, flags, to, to_length)) }
}

/// sendmsg(2).
#[unsafe(no_mangle)]
unsafe extern "C" fn sendmsg(fd: c_int, message: *const msghdr, flags: c_int) -> ssize_t {
    // SAFETY: the caller promises a message whose vectors point to readable bytes, or passes null and gets
    // EFAULT; its arguments are passed on.
    unsafe { dispatch(fd, vectors(message), flags, || real::sendmsg(fd, message, flags)) }
}

/// The vectors of a message; none if the kernel will refuse it.
///
/// # Safety
/// `message` is null or one whose vectors outlive the result.
unsafe fn vectors<'a>(message: *const msghdr) -> &'a [iovec] {
    // SAFETY: as the caller promises.
    match unsafe { message.as_ref() } {
        Some(message) if !message.msg_iov.is_null() && message.msg_iovlen <= MAX_VECTORS => {
            // SAFETY: as the caller promises.
            unsafe { std::slice::from_raw_parts(message.msg_iov, message.msg_iovlen) }
        }
        _ => &[],
    }
}

/// writev(2).
#[unsafe(no_mangle)]
unsafe extern "C" fn writev(fd: c_int, vectors: *const iovec, count: c_int) -> ssize_t {
    let length = usize::try_from(count).unwrap_or(0);
    if !GENERIC.load(Ordering::Relaxed) || vectors.is_null() || length > MAX_VECTORS {
        // SAFETY: the caller's arguments as they are.
        return unsafe { real::writev(fd, vectors, count) };
    }
    // SAFETY: the caller promises `count` vectors that point to readable bytes; they are passed on.
    unsafe {
        let all = std::slice::from_raw_parts(vectors, length);
        dispatch(fd, all, 0, || real::writev(fd, vectors, count))
    }
}

/// sendmmsg(2). If the first message looks like netlink's, they are sent one by one, otherwise unchanged: the
/// messages on one socket are all of one kind.
#[unsafe(no_mangle)]
unsafe extern "C" fn sendmmsg(fd: c_int, messages: *mut mmsghdr, count: c_uint, flags: c_int) -> c_int {
    let length = (count as usize).min(MAX_VECTORS);
    // SAFETY: the caller promises `count` messages, or passes null and gets EFAULT; they are passed on.
    unsafe {
        let all = if messages.is_null() { &mut [] } else { std::slice::from_raw_parts_mut(messages, length) };
        let mut header = [0; netlink::HEADER];
        let looks_like_netlink = all.first().is_some_and(|first| {
            let length = gather(vectors(&raw const first.msg_hdr), &mut header);
            netlink::plausible(&header, length)
        });
        if !looks_like_netlink {
            return real::sendmmsg(fd, messages, count, flags);
        }
        let mut done = 0;
        for message in all {
            match sendmsg(fd, &raw const message.msg_hdr, flags) {
                sent @ 0.. => message.msg_len = sent as c_uint, // of a datagram, which has less than 4 GiB
                _ if done > 0 => break,
                _ => return -1,
            }
            done += 1;
        }
        done
    }
}

/// `UIO_MAXIOV`: the kernel takes no more.
const MAX_VECTORS: usize = 1024;

/// Room for what is sent to the director: its requests take some hundred bytes.
pub(crate) const MAX_REQUEST: usize = 4096;

/// Sends what `vectors` hold: to the director, or by `straight` as without this library.
///
/// # Safety
/// Every vector is null or has as many readable bytes as it says.
unsafe fn dispatch(
    fd: c_int,
    vectors: &[iovec],
    flags: c_int,
    straight: impl FnOnce() -> ssize_t,
) -> ssize_t {
    // These bytes suffice to recognise nearly everything else that programs send.
    let mut header = [0_u8; netlink::HEADER];
    // SAFETY: as the caller promises.
    let length = unsafe { gather(vectors, &mut header) };
    if !netlink::plausible(&header, length) {
        return straight();
    }
    // SAFETY: as the caller promises.
    match unsafe { consider(fd, vectors, flags) } {
        Some(sent) => sent,
        None => straight(),
    }
}

/// Sends messages of netlink to the director, if they are for it.
///
/// # Safety
/// Every vector is null or has as many readable bytes as it says.
#[cold]
#[inline(never)]
unsafe fn consider(fd: c_int, vectors: &[iovec], flags: c_int) -> Option<ssize_t> {
    let mut bytes = [0_u8; MAX_REQUEST];
    // SAFETY: as the caller promises.
    let length = unsafe { gather(vectors, &mut bytes) };
    let bytes = bytes.get_mut(..length.min(MAX_REQUEST)).unwrap_or_default();
    match switch::route(fd, bytes) {
        // It is longer than any request of IPVS's: the director will refuse it, whatever port it comes from.
        Route::Director(_) if length > MAX_REQUEST => None,
        Route::Director(port) => {
            netlink::set_port(bytes, port);
            let send = || {
                let flags = flags | libc::MSG_NOSIGNAL; // netlink never raises SIGPIPE
                // SAFETY: the bytes and their length.
                unsafe { real::send(fd, bytes.as_ptr().cast(), bytes.len(), flags) }
            };
            let sent = send();
            if sent >= 0 || !matches!(real::errno(), libc::EPIPE | libc::ECONNRESET) {
                return Some(sent);
            }
            Some(match switch::replace(fd, port) {
                Ok(()) => send(),
                Err(errno) => fail(errno),
            })
        }
        Route::Answered => Some(length.cast_signed()),
        Route::Straight => None,
        Route::Refused(errno) => Some(fail(errno)),
    }
}

/// Copies as much of what `vectors` hold as there is room for. Returns the whole length.
///
/// # Safety
/// Every vector is null or has as many readable bytes as it says.
unsafe fn gather(vectors: &[iovec], bytes: &mut [u8]) -> usize {
    let mut length = 0_usize;
    for vector in vectors {
        let room = bytes.get_mut(length..).unwrap_or_default();
        let copied = room.len().min(vector.iov_len);
        if !vector.iov_base.is_null() {
            // SAFETY: the caller promises `iov_len` bytes and `room` has as many as are copied; it is ours.
            unsafe { std::ptr::copy_nonoverlapping(vector.iov_base.cast(), room.as_mut_ptr(), copied) };
        }
        length = length.saturating_add(vector.iov_len);
    }
    length
}

/// recv(2).
#[unsafe(no_mangle)]
unsafe extern "C" fn recv(fd: c_int, buffer: *mut c_void, length: size_t, flags: c_int) -> ssize_t {
    let vector = iovec { iov_base: buffer, iov_len: length };
    // SAFETY: the caller promises as many writable bytes.
    if let Some(received) = ipvsadm::receive(fd, flags, |answer| unsafe { scatter(answer, &[vector], flags) })
    {
        return received.0;
    }
    // SAFETY: the caller's arguments as they are.
    let received = unsafe { real::recv(fd, buffer, length, flags) };
    if received == 0 && switch::port(fd).is_some() { at_end(fd) } else { received }
}

/// recvfrom(2).
#[unsafe(no_mangle)]
unsafe extern "C" fn recvfrom(
    fd: c_int,
    buffer: *mut c_void,
    length: size_t,
    flags: c_int,
    from: *mut sockaddr,
    from_length: *mut socklen_t,
) -> ssize_t {
    // SAFETY: the caller promises a length where it promises an address.
    let room = if from.is_null() || from_length.is_null() { 0 } else { unsafe { *from_length } };
    let vector = iovec { iov_base: buffer, iov_len: length };
    // SAFETY: the caller promises as many writable bytes.
    if let Some(received) = ipvsadm::receive(fd, flags, |answer| unsafe { scatter(answer, &[vector], flags) })
    {
        if room > 0 {
            // SAFETY: the address has `room` bytes.
            unsafe { put_address(0, from, room, from_length) };
        }
        return received.0;
    }
    // SAFETY: the caller's arguments as they are.
    let received = unsafe { real::recvfrom(fd, buffer, length, flags, from, from_length) };
    // SAFETY: the address has `room` bytes.
    if received < 0 || (received > 0 && room == 0) || !switch::is_directors(fd, unsafe { sender(from, room) })
    {
        return received;
    }
    if received == 0 && at_end(fd) < 0 {
        return -1;
    }
    if room > 0 {
        // SAFETY: the address has `room` bytes.
        unsafe { put_address(0, from, room, from_length) };
    }
    received
}

/// What the fortified recvfrom of glibc is called, for a buffer of known size.
#[unsafe(no_mangle)]
unsafe extern "C" fn __recvfrom_chk(
    fd: c_int,
    buffer: *mut c_void,
    length: size_t,
    size: size_t,
    flags: c_int,
    from: *mut sockaddr,
    from_length: *mut socklen_t,
) -> ssize_t {
    if length > size {
        // SAFETY: no arguments; glibc ends the program here too.
        unsafe { libc::abort() };
    }
    // SAFETY: the caller's arguments as they are.
    unsafe { recvfrom(fd, buffer, length, flags, from, from_length) }
}

/// recvmsg(2).
#[unsafe(no_mangle)]
unsafe extern "C" fn recvmsg(fd: c_int, message: *mut msghdr, flags: c_int) -> ssize_t {
    // SAFETY: the caller promises a message, or passes null and gets EFAULT.
    let (from, room) = unsafe { message.as_ref() }.map_or((std::ptr::null_mut(), 0), |message| {
        (message.msg_name.cast::<sockaddr>(), message.msg_namelen)
    });
    let room = if from.is_null() { 0 } else { room };
    // SAFETY: the caller promises vectors of as many writable bytes as they say.
    let answered = ipvsadm::receive(fd, flags, |answer| unsafe { scatter(answer, vectors(message), flags) });
    if let Some((received, flags)) = answered
        && !message.is_null()
    {
        // SAFETY: the caller promises a message; its address has `room` bytes.
        unsafe {
            (*message).msg_flags = flags;
            (*message).msg_controllen = 0;
            if room > 0 {
                put_address(0, from, room, &raw mut (*message).msg_namelen);
            }
        }
        return received;
    }
    // SAFETY: the caller's arguments as they are.
    let received = unsafe { real::recvmsg(fd, message, flags) };
    // SAFETY: the kernel has accepted the message, so it is one; its address has `room` bytes.
    if received < 0 || (received > 0 && room == 0) || !switch::is_directors(fd, unsafe { sender(from, room) })
    {
        return received;
    }
    if received == 0 && at_end(fd) < 0 {
        return -1;
    }
    if room > 0 {
        // SAFETY: the kernel has accepted the message, so it is one; its address has `room` bytes.
        unsafe { put_address(0, from, room, &raw mut (*message).msg_namelen) };
    }
    received
}

/// Copies as much of a datagram into `vectors` as there is room for. Returns what a receiving function returns, and
/// the flags of the message.
///
/// # Safety
/// Every vector is null or has as many writable bytes as it says.
unsafe fn scatter(datagram: &[u8], vectors: &[iovec], flags: c_int) -> (ssize_t, c_int) {
    let mut rest = datagram;
    for vector in vectors.iter().filter(|vector| !vector.iov_base.is_null()) {
        let (bytes, left) = rest.split_at(rest.len().min(vector.iov_len));
        // SAFETY: the caller promises `iov_len` bytes, and no more are copied; the datagram is ours.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), vector.iov_base.cast(), bytes.len()) };
        rest = left;
    }
    let copied = if flags & libc::MSG_TRUNC != 0 { datagram.len() } else { datagram.len() - rest.len() };
    (copied.cast_signed(), if rest.is_empty() { 0 } else { libc::MSG_TRUNC })
}

/// The port id in an address, if it is one of netlink's; 0 is the kernel's.
///
/// # Safety
/// `from` has `room` bytes.
unsafe fn sender(from: *const sockaddr, room: socklen_t) -> u32 {
    if (room as usize) < size_of::<sockaddr_nl>() {
        return 0;
    }
    // SAFETY: there is room for one, as the caller promises.
    let address = unsafe { from.cast::<sockaddr_nl>().read_unaligned() };
    if address.nl_family == libc::AF_NETLINK as libc::sa_family_t { address.nl_pid } else { 0 }
}

/// 0 bytes came: either there was no room to read into, or the director has gone. Netlink has no end, and libnl would
/// take it for success.
fn at_end(fd: c_int) -> ssize_t {
    let errno = real::errno();
    let mut byte = 0_u8;
    let flags = libc::MSG_PEEK | libc::MSG_TRUNC | libc::MSG_DONTWAIT;
    // SAFETY: one byte on this stack.
    let left = unsafe { real::recv(fd, (&raw mut byte).cast(), 1, flags) };
    if left == 0 {
        return fail(libc::ECONNRESET);
    }
    real::set_errno(errno);
    0
}

/// Writes a netlink address as the kernel does: as much as fits, and the whole length.
///
/// # Safety
/// `to` has `room` bytes and `length` is valid.
unsafe fn put_address(port: u32, to: *mut sockaddr, room: socklen_t, length: *mut socklen_t) {
    let address = netlink::address(port);
    let size = size_of::<sockaddr_nl>();
    // SAFETY: as the caller promises; no more than the address and no more than there is room.
    unsafe {
        std::ptr::copy_nonoverlapping(
            (&raw const address).cast::<u8>(),
            to.cast::<u8>(),
            size.min(room as usize),
        );
        *length = size as socklen_t;
    }
}

/// getsockname(2).
#[unsafe(no_mangle)]
unsafe extern "C" fn getsockname(fd: c_int, address: *mut sockaddr, length: *mut socklen_t) -> c_int {
    match switch::port(fd) {
        // SAFETY: the caller promises a length and as many bytes.
        Some(port) if !address.is_null() && !length.is_null() => unsafe {
            put_address(port, address, *length, length);
            0
        },
        // SAFETY: the caller's arguments as they are.
        _ => unsafe { real::getsockname(fd, address, length) },
    }
}

/// getpeername(2): the peer of a netlink socket is the kernel.
#[unsafe(no_mangle)]
unsafe extern "C" fn getpeername(fd: c_int, address: *mut sockaddr, length: *mut socklen_t) -> c_int {
    match switch::port(fd) {
        // SAFETY: the caller promises a length and as many bytes.
        Some(_) if !address.is_null() && !length.is_null() => unsafe {
            put_address(0, address, *length, length);
            0
        },
        // SAFETY: the caller's arguments as they are.
        _ => unsafe { real::getpeername(fd, address, length) },
    }
}

/// bind(2): a socket that was handed over has its port id.
#[unsafe(no_mangle)]
unsafe extern "C" fn bind(fd: c_int, address: *const sockaddr, length: socklen_t) -> c_int {
    // SAFETY: the caller promises an address of `length` bytes.
    if ipvsadm::bind(fd, unsafe { sender(address, if address.is_null() { 0 } else { length }) }) {
        return 0;
    }
    if switch::port(fd).is_some() {
        return 0;
    }
    // SAFETY: the caller's arguments as they are.
    unsafe { real::bind(fd, address, length) }
}

/// connect(2): a socket that was handed over is connected to what answers in the kernel's place.
#[unsafe(no_mangle)]
unsafe extern "C" fn connect(fd: c_int, address: *const sockaddr, length: socklen_t) -> c_int {
    if switch::port(fd).is_some() {
        return 0;
    }
    // SAFETY: the caller's arguments as they are.
    unsafe { real::connect(fd, address, length) }
}

/// setsockopt(2).
#[unsafe(no_mangle)]
unsafe extern "C" fn setsockopt(
    fd: c_int,
    level: c_int,
    name: c_int,
    value: *const c_void,
    length: socklen_t,
) -> c_int {
    if level == libc::IPPROTO_IP && IPVS_OPTIONS.contains(&name) {
        return fail(libc::ENOPROTOOPT);
    }
    // Memberships, extended acknowledgements and the like: the director does not use them.
    if level == libc::SOL_NETLINK && switch::port(fd).is_some() {
        return 0;
    }
    let is_of_queue = level == libc::SOL_SOCKET && [libc::SO_SNDBUF, libc::SO_RCVBUF].contains(&name);
    if is_of_queue && ipvsadm::port(fd).is_some() {
        return 0;
    }
    // SAFETY: the caller's arguments as they are.
    unsafe { real::setsockopt(fd, level, name, value, length) }
}

/// getsockopt(2).
#[unsafe(no_mangle)]
unsafe extern "C" fn getsockopt(
    fd: c_int,
    level: c_int,
    name: c_int,
    value: *mut c_void,
    length: *mut socklen_t,
) -> c_int {
    if level == libc::IPPROTO_IP && IPVS_OPTIONS.contains(&name) {
        return fail(libc::ENOPROTOOPT);
    }
    let answer = match (level, name) {
        (libc::SOL_SOCKET, libc::SO_DOMAIN) => libc::AF_NETLINK,
        (libc::SOL_SOCKET, libc::SO_TYPE) => libc::SOCK_RAW,
        (libc::SOL_SOCKET, libc::SO_PROTOCOL) => libc::NETLINK_GENERIC,
        (libc::SOL_NETLINK, _) => 0,
        // SAFETY: the caller's arguments as they are.
        _ => return unsafe { real::getsockopt(fd, level, name, value, length) },
    };
    if switch::port(fd).is_none() || value.is_null() || length.is_null() {
        // SAFETY: the caller's arguments as they are.
        return unsafe { real::getsockopt(fd, level, name, value, length) };
    }
    // SAFETY: the caller promises a length and as many bytes; no more are written.
    unsafe {
        let size = size_of::<c_int>().min(*length as usize);
        std::ptr::copy_nonoverlapping((&raw const answer).cast::<u8>(), value.cast::<u8>(), size);
        *length = size as socklen_t;
    }
    0
}
