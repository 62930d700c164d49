//! What tests of the library have in common: a director that sends back what it gets, children with the library, and the
//! calls of a tool. Each test starts its own program again with the library loaded, and runs one of its ignored tests in
//! it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "so tests fail")]
#![allow(dead_code, reason = "each program of tests uses a part of it")]

use std::ffi::{c_int, c_void};
use std::io::{self, BufRead, BufReader, Write};
use std::mem::{size_of, zeroed};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;

use libc::{iovec, msghdr, sockaddr_nl, sockaddr_un, socklen_t};

// ---- a director that sends back what it gets

/// To this it answers by closing the connection. (The length at its start makes it netlink's; the last four
/// bytes become the port id.)
pub(crate) const GO_AWAY: &[u8] = b"\x10\0\0\0 go away now";
/// Whether anybody asked it for no more than an acknowledgement.
pub(crate) static NOTHING_WAS_ASKED_FOR: AtomicBool = AtomicBool::new(false);
/// Lines of its `/proc/net/ip_vs_conn`.
pub(crate) const CONNECTIONS: usize = 300_000;
pub(crate) const LINE: &[u8] = b"TCP C0A8120A 07D1 C0A8123A 0050 C0A80247 0050 ESTABLISHED     899\n";

pub(crate) fn start_director(directory: &Path) {
    let listener = seqpacket_listener(&directory.join("ipvs.sock"));
    thread::spawn(move || {
        loop {
            // SAFETY: no address is wanted.
            let fd =
                unsafe { libc::accept(listener.as_raw_fd(), std::ptr::null_mut(), std::ptr::null_mut()) };
            assert!(fd >= 0, "{}", io::Error::last_os_error());
            // SAFETY: just made, and nobody else's.
            let client = unsafe { OwnedFd::from_raw_fd(fd) };
            thread::spawn(move || echo(&client));
        }
    });
    let listener = UnixListener::bind(directory.join("control.sock")).unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut reader = BufReader::new(stream.unwrap());
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            let mut stream = reader.into_inner();
            match line.as_str() {
                "{\"command\":\"proc\",\"file\":\"ip_vs_conn\"}\n" => {
                    let lines = LINE.repeat(1000);
                    for _ in 0..CONNECTIONS / 1000 {
                        stream.write_all(&lines).unwrap();
                    }
                }
                "{\"command\":\"proc\",\"file\":\"ip_vs\"}\n" => {
                    stream.write_all(b"the text of ip_vs\n").unwrap();
                }
                "{\"command\":\"proc\",\"file\":\"ip_vs_stats\"}\n" => {
                    stream.write_all(b"the text of ip_vs_stats\n").unwrap();
                }
                other => panic!("{other}"),
            }
        }
    });
}

pub(crate) fn echo(client: &OwnedFd) {
    let mut buffer = [0_u8; 8192];
    loop {
        // SAFETY: the buffer and its length.
        let length = unsafe { libc::recv(client.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), 0) };
        if length <= 0 || buffer.starts_with(&GO_AWAY[..12]) {
            return;
        }
        // `NLMSG_NOOP`, to be acknowledged.
        if buffer[4..8] == [1, 0, 5, 0] {
            NOTHING_WAS_ASKED_FOR.store(true, Relaxed);
        }
        // SAFETY: the buffer and as many bytes of it as came.
        let sent = unsafe {
            libc::send(client.as_raw_fd(), buffer.as_ptr().cast(), length.cast_unsigned(), libc::MSG_NOSIGNAL)
        };
        if sent < 0 {
            return;
        }
        // A request, not text, that wants an acknowledgement and is for no listing.
        if buffer[5] == 0 && buffer[6] & 4 != 0 && buffer[7] & 3 == 0 {
            let done = acknowledgement(&buffer);
            // SAFETY: the bytes and their length.
            unsafe { libc::send(client.as_raw_fd(), done.as_ptr().cast(), done.len(), libc::MSG_NOSIGNAL) };
        }
    }
}

pub(crate) fn seqpacket_listener(path: &Path) -> OwnedFd {
    // SAFETY: all zeros are a valid address; then its own fields are set.
    let mut address: sockaddr_un = unsafe { zeroed() };
    address.sun_family = libc::AF_UNIX as u16;
    for (to, from) in address.sun_path.iter_mut().zip(path.as_os_str().as_encoded_bytes()) {
        *to = from.cast_signed();
    }
    // SAFETY: the address and its length; the descriptor is nobody else's.
    unsafe {
        let fd = libc::socket(libc::AF_UNIX, libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC, 0);
        let length = size_of::<sockaddr_un>() as socklen_t;
        assert_eq!(libc::bind(fd, (&raw const address).cast(), length), 0, "{}", io::Error::last_os_error());
        assert_eq!(libc::listen(fd, 16), 0);
        OwnedFd::from_raw_fd(fd)
    }
}

// ---- running children

pub(crate) fn succeeds(test: &str) {
    succeeds_as("test", test);
}

pub(crate) fn succeeds_as(program: &str, test: &str) {
    let directory = tempfile::tempdir().unwrap();
    start_director(directory.path());
    let output = in_child(program, test, directory.path());
    assert!(
        output.status.success() && String::from_utf8_lossy(&output.stdout).contains("1 passed"),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

pub(crate) fn in_child(program: &str, test: &str, directory: &Path) -> Output {
    Command::new(std::env::current_exe().unwrap())
        .arg0(program)
        .args(["--exact", test, "--ignored", "--nocapture"])
        .env("LD_PRELOAD", library())
        .env("DIRECTOR_DIRECTORY", directory)
        .output()
        .unwrap()
}

/// Builds the library, which cargo does not do for its tests, and gives its path.
pub(crate) fn library() -> PathBuf {
    let executable = std::env::current_exe().unwrap();
    let profile = executable.ancestors().nth(2).unwrap();
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "--package", "director-preload", "--target-dir"]);
    cargo.arg(profile.parent().unwrap());
    match profile.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => {}
        Some(name) => {
            cargo.args(["--profile", name]);
        }
    }
    assert!(cargo.status().unwrap().success(), "{cargo:?}");
    profile.join("libdirector_preload.so")
}

// ---- the calls of a tool

pub(crate) fn netlink_socket() -> OwnedFd {
    // SAFETY: no pointers; the descriptor is nobody else's.
    let fd = unsafe {
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
        let fd = libc::socket(libc::AF_NETLINK, kind, libc::NETLINK_GENERIC);
        assert!(fd >= 0, "{}", io::Error::last_os_error());
        OwnedFd::from_raw_fd(fd)
    };
    bind(&fd).unwrap();
    fd
}

/// A socket that has been handed over.
pub(crate) fn switched() -> OwnedFd {
    let fd = netlink_socket();
    exchange(&fd, &get_family("IPVS"));
    fd
}

pub(crate) fn exchange(fd: &OwnedFd, message: &[u8]) {
    send(fd, message).unwrap();
    assert_eq!(receive(fd, 0).unwrap().0, with_port(message, address_of(fd).unwrap().nl_pid));
}

/// What the director gets: the header names the socket's port id, as the kernel would know it.
pub(crate) fn with_port(message: &[u8], port: u32) -> Vec<u8> {
    let mut message = message.to_vec();
    message[12..16].copy_from_slice(&port.to_ne_bytes());
    message
}

/// `CTRL_CMD_GETFAMILY`, as libnl sends it but for the flag `NLM_F_ACK`: it has a connection of its own.
pub(crate) fn get_family(name: &str) -> Vec<u8> {
    let mut attribute = (5 + name.len() as u16).to_ne_bytes().to_vec();
    attribute.extend(2_u16.to_ne_bytes());
    attribute.extend(name.as_bytes());
    attribute.push(0);
    attribute.resize(attribute.len().next_multiple_of(4), 0);
    let mut message = (20 + attribute.len() as u32).to_ne_bytes().to_vec();
    message.extend(16_u16.to_ne_bytes());
    message.extend(1_u16.to_ne_bytes());
    message.extend([1, 0, 0, 0, 0, 0, 0, 0, 3, 1, 0, 0]);
    message.extend(attribute);
    message
}

pub(crate) fn kernel() -> sockaddr_nl {
    // SAFETY: all zeros are a valid address.
    let mut address: sockaddr_nl = unsafe { zeroed() };
    address.nl_family = libc::AF_NETLINK as u16;
    address
}

pub(crate) fn bind(fd: &OwnedFd) -> io::Result<()> {
    let address = kernel();
    // SAFETY: the address and its length.
    result(unsafe {
        libc::bind(fd.as_raw_fd(), (&raw const address).cast(), size_of::<sockaddr_nl>() as socklen_t)
    })
}

pub(crate) fn address_of(fd: &OwnedFd) -> io::Result<sockaddr_nl> {
    let mut address = kernel();
    let mut length = size_of::<sockaddr_nl>() as socklen_t;
    // SAFETY: the address and its length.
    result(unsafe { libc::getsockname(fd.as_raw_fd(), (&raw mut address).cast(), &raw mut length) })?;
    Ok(address)
}

pub(crate) fn peer_of(fd: &OwnedFd) -> io::Result<sockaddr_nl> {
    let mut address = kernel();
    let mut length = size_of::<sockaddr_nl>() as socklen_t;
    // SAFETY: the address and its length.
    result(unsafe { libc::getpeername(fd.as_raw_fd(), (&raw mut address).cast(), &raw mut length) })?;
    Ok(address)
}

/// With sendto(2), to the kernel.
pub(crate) fn send(fd: &OwnedFd, message: &[u8]) -> io::Result<()> {
    let to = kernel();
    // SAFETY: the message and the address with their lengths.
    let sent = unsafe {
        libc::sendto(
            fd.as_raw_fd(),
            message.as_ptr().cast(),
            message.len(),
            0,
            (&raw const to).cast(),
            size_of::<sockaddr_nl>() as socklen_t,
        )
    };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

pub(crate) fn receive(fd: &OwnedFd, flags: c_int) -> io::Result<(Vec<u8>, sockaddr_nl)> {
    let mut buffer = vec![0; 8192];
    let (length, from) = receive_into(fd, &mut buffer, flags)?;
    buffer.truncate(length);
    Ok((buffer, from))
}

/// With recvmsg(2).
pub(crate) fn receive_into(
    fd: &OwnedFd,
    buffer: &mut [u8],
    flags: c_int,
) -> io::Result<(usize, sockaddr_nl)> {
    let mut from = kernel();
    from.nl_pid = u32::MAX;
    let mut vector = iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: all zeros are an empty message.
    let mut message: msghdr = unsafe { zeroed() };
    message.msg_name = (&raw mut from).cast();
    message.msg_namelen = size_of::<sockaddr_nl>() as socklen_t;
    message.msg_iov = &raw mut vector;
    message.msg_iovlen = 1;
    // SAFETY: the message's pointers and lengths are those of the buffer and the address.
    let length = unsafe { libc::recvmsg(fd.as_raw_fd(), &raw mut message, flags) };
    if length < 0 {
        return Err(io::Error::last_os_error());
    }
    assert_eq!(message.msg_namelen as usize, size_of::<sockaddr_nl>());
    Ok((length.cast_unsigned(), from))
}

pub(crate) fn wait(fd: &OwnedFd) {
    let mut poll = libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one entry.
    assert_eq!(unsafe { libc::poll(&raw mut poll, 1, 10_000) }, 1);
}

pub(crate) fn set_nonblocking(fd: &OwnedFd) {
    // SAFETY: no pointers.
    assert_eq!(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) }, 0);
}

pub(crate) fn option(fd: &OwnedFd, level: c_int, name: c_int) -> io::Result<c_int> {
    let mut value: c_int = -1;
    let mut length = size_of::<c_int>() as socklen_t;
    let pointer: *mut c_void = (&raw mut value).cast();
    // SAFETY: the value and its length.
    result(unsafe { libc::getsockopt(fd.as_raw_fd(), level, name, pointer, &raw mut length) })?;
    Ok(value)
}

pub(crate) fn set_option(fd: &OwnedFd, level: c_int, name: c_int, value: c_int) -> io::Result<()> {
    let length = size_of::<c_int>() as socklen_t;
    // SAFETY: the value and its length.
    result(unsafe { libc::setsockopt(fd.as_raw_fd(), level, name, (&raw const value).cast(), length) })
}

pub(crate) fn result(returned: c_int) -> io::Result<()> {
    if returned < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The most memory this process has used, in KiB.
pub(crate) fn most_memory() -> i64 {
    // SAFETY: all zeros are a valid value, and room for it.
    unsafe {
        let mut usage: libc::rusage = zeroed();
        assert_eq!(libc::getrusage(libc::RUSAGE_SELF, &raw mut usage), 0);
        usage.ru_maxrss
    }
}

/// A request to the family of a number as ids are, to be acknowledged.
pub(crate) fn command(sequence: u32) -> Vec<u8> {
    acknowledged(b"\x18\0\0\0\x1b\0\x01\0--------command.".into(), sequence)
}

/// The request, to be acknowledged (`NLM_F_ACK`), with a sequence number.
pub(crate) fn acknowledged(mut request: Vec<u8>, sequence: u32) -> Vec<u8> {
    request[6] |= 4;
    request[8..12].copy_from_slice(&sequence.to_ne_bytes());
    request
}

/// Sends a request and hears both its answer and the acknowledgement, from the kernel as it seems.
pub(crate) fn exchange_acknowledged(fd: &OwnedFd, message: &[u8]) {
    let port = address_of(fd).unwrap().nl_pid;
    let message = with_port(message, port);
    send(fd, &message).unwrap();
    wait(fd);
    let (answer, from) = receive(fd, 0).unwrap();
    assert_eq!((answer, from.nl_family, from.nl_pid), (message.clone(), libc::AF_NETLINK as u16, 0));
    let (done, from) = receive(fd, 0).unwrap();
    assert_eq!((done, from.nl_pid), (acknowledgement(&message), 0));
}

/// As the director acknowledges.
pub(crate) fn acknowledgement(request: &[u8]) -> Vec<u8> {
    let mut message = request[..16].to_vec();
    message[..8].copy_from_slice(b"\x24\0\0\0\x02\0\0\x01");
    message.extend([0; 4]);
    message.extend(&request[..16]);
    message
}
