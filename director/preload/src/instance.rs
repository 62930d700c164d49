//! The director that this process talks to: its directory, and connections to the sockets in it.

use std::ffi::{CStr, c_int};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use libc::{sa_family_t, sockaddr_un, socklen_t};

use crate::real;

/// The names are those of `director_api`; this library depends on nothing but libc.
const DIRECTORY_VARIABLE: &CStr = c"DIRECTOR_DIRECTORY";
const DEFAULT_DIRECTORY: &[u8] = b"/run/director";

/// How long a director may take to accept a connection or to send what it was asked for.
const PATIENCE: libc::timeval = libc::timeval { tv_sec: 10, tv_usec: 0 };

/// Room for a path in a socket's address, its NUL included.
const PATH_MAX: usize = 108;

/// A socket of the instance.
#[derive(Clone, Copy)]
pub(crate) enum Socket {
    /// Speaks IPVS's netlink messages, one a datagram.
    Ipvs,
    /// Answers a line of text with a stream.
    Control,
}

/// The directory as of the start of the process: a tool may clear its environment later.
static DIRECTORY: OnceLock<Directory> = OnceLock::new();

struct Directory {
    bytes: [u8; PATH_MAX],
    length: usize,
}

/// Notes the directory of the environment.
pub(crate) fn remember() {
    directory();
}

fn directory() -> &'static [u8] {
    let directory = DIRECTORY.get_or_init(|| {
        // SAFETY: the name ends in a NUL; the text is read at once, in the process's first moments.
        let value = unsafe {
            let value = libc::getenv(DIRECTORY_VARIABLE.as_ptr());
            if value.is_null() { DEFAULT_DIRECTORY } else { CStr::from_ptr(value).to_bytes() }
        };
        let value = if value.is_empty() { DEFAULT_DIRECTORY } else { value };
        let mut bytes = [0; PATH_MAX];
        for (to, from) in bytes.iter_mut().zip(value) {
            *to = *from;
        }
        Directory { bytes, length: value.len() }
    });
    // A directory that does not fit leaves no room for a file name either; see `Socket::address`.
    directory.bytes.get(..directory.length).unwrap_or(&directory.bytes)
}

impl Socket {
    fn name(self) -> &'static [u8] {
        match self {
            Self::Ipvs => b"/ipvs.sock",
            Self::Control => b"/control.sock",
        }
    }

    fn address(self) -> Result<(sockaddr_un, socklen_t), c_int> {
        let (directory, name) = (directory(), self.name());
        let mut address = sockaddr_un { sun_family: libc::AF_UNIX as sa_family_t, sun_path: [0; PATH_MAX] };
        let length = directory.len() + name.len();
        if length >= PATH_MAX {
            return Err(libc::ENAMETOOLONG);
        }
        for (to, from) in address.sun_path.iter_mut().zip(directory.iter().chain(name)) {
            *to = from.cast_signed();
        }
        Ok((address, (size_of::<sa_family_t>() + length + 1) as socklen_t))
    }

    /// Connects. `prepare` is given the new descriptor first. The descriptor is closed on `exec`.
    ///
    /// On failure it returns the errno, and has written a message to standard error.
    pub(crate) fn connect(self, prepare: impl FnOnce(c_int) -> Result<(), c_int>) -> Result<c_int, c_int> {
        let kind = match self {
            Self::Ipvs => libc::SOCK_SEQPACKET,
            Self::Control => libc::SOCK_STREAM,
        };
        let connected = self.address().and_then(|(address, length)| {
            // SAFETY: no pointers.
            let fd = unsafe { real::socket(libc::AF_UNIX, kind | libc::SOCK_CLOEXEC, 0) };
            if fd < 0 {
                return Err(real::errno());
            }
            // SAFETY: the address and its length are those of a `sockaddr_un` on this stack; connect(2)
            // waits no longer than SO_SNDTIMEO for a place in the listener's queue.
            let connected = prepare(fd).and_then(|()| unsafe {
                set_patience(fd, libc::SO_SNDTIMEO, &PATIENCE);
                match real::connect(fd, (&raw const address).cast(), length) {
                    0 => Ok(fd),
                    _ => Err(real::errno()),
                }
            });
            connected.inspect_err(|_| {
                // SAFETY: the descriptor is ours and nobody else knows it.
                unsafe { libc::close(fd) };
            })
        });
        connected.inspect_err(|&errno| complain(self, b"no answer", errno))
    }
}

/// Lets reads of `fd` fail with EAGAIN when nothing comes for long.
pub(crate) fn limit_reads(fd: c_int) {
    set_patience(fd, libc::SO_RCVTIMEO, &PATIENCE);
}

fn set_patience(fd: c_int, option: c_int, patience: &libc::timeval) {
    // SAFETY: the value is a `timeval` and its length is given. A kernel that refuses it leaves the socket
    // without a limit, which is no reason to refuse service.
    unsafe {
        real::setsockopt(
            fd,
            libc::SOL_SOCKET,
            option,
            (&raw const *patience).cast(),
            size_of::<libc::timeval>() as socklen_t,
        );
    }
}

/// Writes to standard error, once in the life of the process, that a socket is of no use, and why.
pub(crate) fn complain(socket: Socket, what: &[u8], errno: c_int) {
    static SAID: AtomicBool = AtomicBool::new(false);
    // Relaxed: nothing else is published with it.
    if SAID.swap(true, Ordering::Relaxed) {
        return;
    }
    let mut reason = [0; 128];
    // SAFETY: the buffer and its length are given; the result ends in a NUL within it.
    unsafe { libc::strerror_r(errno, reason.as_mut_ptr(), reason.len()) };
    let reason = reason.map(i8::cast_unsigned);
    let reason = reason.split(|&byte| byte == 0).next().unwrap_or_default();
    let parts = [b"director: ".as_slice(), what, b" at ", directory(), socket.name(), b": ", reason, b"\n"];
    let parts =
        parts.map(|part| libc::iovec { iov_base: part.as_ptr().cast_mut().cast(), iov_len: part.len() });
    // SAFETY: every part points to its bytes, which writev(2) only reads. One call, one line; if standard
    // error is closed, there is no one to tell.
    unsafe { real::writev(libc::STDERR_FILENO, parts.as_ptr(), parts.len() as c_int) };
}
