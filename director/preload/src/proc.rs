//! The files of IPVS under `/proc/net`.
//!
//! Opening one of them gives the reading end of a connection to the director, which writes the text into it: a
//! listing of a million connections takes no memory here. It reads like the file, except for `lseek`.

use std::ffi::{CStr, c_char, c_int};

use libc::{FILE, mode_t};

use crate::instance::{Socket, complain, limit_reads};
use crate::real::{self, fail};

/// The directories that show the calling process's network namespace.
const DIRECTORIES: [&[u8]; 3] = [b"/proc/net/", b"/proc/self/net/", b"/proc/thread-self/net/"];

/// A file, and the line that asks the director for it (`director_api::Request::Proc`).
const FILES: [(&[u8], &[u8]); 4] = [
    (b"ip_vs", b"{\"command\":\"proc\",\"file\":\"ip_vs\"}\n"),
    (b"ip_vs_conn", b"{\"command\":\"proc\",\"file\":\"ip_vs_conn\"}\n"),
    (b"ip_vs_stats", b"{\"command\":\"proc\",\"file\":\"ip_vs_stats\"}\n"),
    (b"ip_vs_stats_percpu", b"{\"command\":\"proc\",\"file\":\"ip_vs_stats_percpu\"}\n"),
];

/// The request for the file with this path; none for all other paths.
fn request(path: &[u8]) -> Option<&'static [u8]> {
    let name = DIRECTORIES.iter().find_map(|directory| path.strip_prefix(*directory))?;
    FILES.iter().find(|(file, _)| *file == name).map(|(_, request)| *request)
}

/// As [`request`], for a C string.
///
/// # Safety
/// `path` is null or ends in a NUL.
unsafe fn request_of(path: *const c_char) -> Option<&'static [u8]> {
    if path.is_null() {
        return None;
    }
    // SAFETY: as the caller promises.
    request(unsafe { CStr::from_ptr(path) }.to_bytes())
}

/// Asks the director. The text can be read from the descriptor.
fn fetch(request: &[u8], flags: c_int) -> Result<c_int, c_int> {
    if flags & libc::O_ACCMODE != libc::O_RDONLY {
        return Err(libc::EACCES);
    }
    let fd = Socket::Control.connect(|_| Ok(())).map_err(|errno| match errno {
        // As with a file of root's and another user.
        libc::EACCES | libc::EPERM => libc::EACCES,
        // As on a kernel without IPVS.
        _ => libc::ENOENT,
    })?;
    ask(fd, request)
        .and_then(|()| {
            // SAFETY: no pointers; the descriptor is ours until it is returned.
            match flags & libc::O_CLOEXEC == 0 && unsafe { libc::fcntl(fd, libc::F_SETFD, 0) } < 0 {
                true => Err(real::errno()),
                false => Ok(fd),
            }
        })
        .inspect_err(|_| {
            // SAFETY: nobody else knows the descriptor.
            unsafe { libc::close(fd) };
        })
}

fn ask(fd: c_int, request: &[u8]) -> Result<(), c_int> {
    limit_reads(fd);
    let mut first = 0_u8;
    // SAFETY: the request's bytes and one byte on this stack, with their lengths.
    let (sent, received) = unsafe {
        let sent = real::send(fd, request.as_ptr().cast(), request.len(), libc::MSG_NOSIGNAL);
        libc::shutdown(fd, libc::SHUT_WR);
        (sent, real::recv(fd, (&raw mut first).cast(), 1, libc::MSG_PEEK))
    };
    if sent != request.len().cast_signed() || received < 0 {
        let errno = real::errno();
        complain(Socket::Control, b"no answer", errno);
        return Err(libc::EIO);
    }
    // A file begins with its heading; JSON is no file but `director_api::Answer::Error`.
    if received == 0 || first == b'{' {
        complain(Socket::Control, b"refused", libc::EIO);
        return Err(libc::EIO);
    }
    Ok(())
}

fn open_file(request: &[u8], flags: c_int) -> c_int {
    fetch(request, flags).unwrap_or_else(fail)
}

/// open(2).
#[unsafe(no_mangle)]
unsafe extern "C" fn open(path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    // SAFETY: the caller promises a path; its arguments are passed on.
    unsafe {
        match request_of(path) {
            Some(request) => open_file(request, flags),
            None => real::open(path, flags, mode),
        }
    }
}

/// open(2) with large files.
#[unsafe(no_mangle)]
unsafe extern "C" fn open64(path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    // SAFETY: the caller promises a path; its arguments are passed on.
    unsafe {
        match request_of(path) {
            Some(request) => open_file(request, flags),
            None => real::open64(path, flags, mode),
        }
    }
}

/// openat(2). The paths of interest are absolute, so the directory does not matter.
#[unsafe(no_mangle)]
unsafe extern "C" fn openat(directory: c_int, path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    // SAFETY: the caller promises a path; its arguments are passed on.
    unsafe {
        match request_of(path) {
            Some(request) => open_file(request, flags),
            None => real::openat(directory, path, flags, mode),
        }
    }
}

/// openat(2) with large files.
#[unsafe(no_mangle)]
unsafe extern "C" fn openat64(directory: c_int, path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    // SAFETY: the caller promises a path; its arguments are passed on.
    unsafe {
        match request_of(path) {
            Some(request) => open_file(request, flags),
            None => real::openat64(directory, path, flags, mode),
        }
    }
}

/// What glibc's fortified headers call for an open(2) without a mode.
#[unsafe(no_mangle)]
unsafe extern "C" fn __open_2(path: *const c_char, flags: c_int) -> c_int {
    // SAFETY: the caller promises a path; its arguments are passed on.
    unsafe {
        match request_of(path) {
            Some(request) => open_file(request, flags),
            None => real::__open_2(path, flags),
        }
    }
}

/// Likewise, with large files.
#[unsafe(no_mangle)]
unsafe extern "C" fn __open64_2(path: *const c_char, flags: c_int) -> c_int {
    // SAFETY: the caller promises a path; its arguments are passed on.
    unsafe {
        match request_of(path) {
            Some(request) => open_file(request, flags),
            None => real::__open64_2(path, flags),
        }
    }
}

/// Likewise, for openat(2).
#[unsafe(no_mangle)]
unsafe extern "C" fn __openat_2(directory: c_int, path: *const c_char, flags: c_int) -> c_int {
    // SAFETY: the caller promises a path; its arguments are passed on.
    unsafe {
        match request_of(path) {
            Some(request) => open_file(request, flags),
            None => real::__openat_2(directory, path, flags),
        }
    }
}

/// Likewise, for openat(2) with large files.
#[unsafe(no_mangle)]
unsafe extern "C" fn __openat64_2(directory: c_int, path: *const c_char, flags: c_int) -> c_int {
    // SAFETY: the caller promises a path; its arguments are passed on.
    unsafe {
        match request_of(path) {
            Some(request) => open_file(request, flags),
            None => real::__openat64_2(directory, path, flags),
        }
    }
}

/// fopen(3).
#[unsafe(no_mangle)]
unsafe extern "C" fn fopen(path: *const c_char, mode: *const c_char) -> *mut FILE {
    // SAFETY: the caller promises a path and a mode; its arguments are passed on.
    unsafe {
        match request_of(path) {
            Some(request) => open_stream(request, mode),
            None => real::fopen(path, mode),
        }
    }
}

/// fopen(3) with large files.
#[unsafe(no_mangle)]
unsafe extern "C" fn fopen64(path: *const c_char, mode: *const c_char) -> *mut FILE {
    // SAFETY: the caller promises a path and a mode; its arguments are passed on.
    unsafe {
        match request_of(path) {
            Some(request) => open_stream(request, mode),
            None => real::fopen64(path, mode),
        }
    }
}

/// # Safety
/// `mode` is null or ends in a NUL.
unsafe fn open_stream(request: &[u8], mode: *const c_char) -> *mut FILE {
    if mode.is_null() {
        return fail(libc::EINVAL);
    }
    // SAFETY: as the caller promises.
    let letters = unsafe { CStr::from_ptr(mode) }.to_bytes();
    let access = match letters.first() {
        Some(b'r') if !letters.contains(&b'+') => libc::O_RDONLY,
        _ => libc::O_RDWR,
    };
    let close_on_exec = if letters.contains(&b'e') { libc::O_CLOEXEC } else { 0 };
    match fetch(request, access | close_on_exec) {
        Err(errno) => fail(errno),
        Ok(fd) => {
            // SAFETY: the descriptor is ours and goes to the stream, or is closed where there is none.
            unsafe {
                let stream = libc::fdopen(fd, c"r".as_ptr());
                if stream.is_null() {
                    let errno = real::errno();
                    libc::close(fd);
                    return fail(errno);
                }
                stream
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_of_ipvs_and_no_other() {
        assert_eq!(request(b"/proc/net/ip_vs"), Some(FILES[0].1));
        assert_eq!(request(b"/proc/self/net/ip_vs_conn"), Some(FILES[1].1));
        assert_eq!(request(b"/proc/thread-self/net/ip_vs_stats"), Some(FILES[2].1));
        assert_eq!(request(b"/proc/net/ip_vs_stats_percpu"), Some(FILES[3].1));
        for other in [
            "/proc/net/ip_vs_conn_sync",
            "/proc/net/",
            "/proc/net/tcp",
            "ip_vs",
            "/etc/ip_vs",
            "/proc/net/ip_vs/",
        ] {
            assert_eq!(request(other.as_bytes()), None, "{other}");
        }
    }
}
