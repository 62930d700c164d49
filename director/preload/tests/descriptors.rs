//! The library in a process of its own, seen through the calls a tool makes.
//!
//! Each test runs one of the ignored tests below in a child with the library, against a director that sends back what it
//! gets.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "so tests fail")]

mod tool;

use std::ffi::{CStr, c_int};
use std::fs::File;
use std::io::{self, Read};
use std::mem::zeroed;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;
use std::thread;

use libc::{iovec, msghdr, socklen_t};

use tool::*;

// ---- the tests

#[test]
fn a_socket_stays_netlink_until_ipvs_is_asked_for() {
    succeeds("child_switches");
}

#[test]
fn copies_and_closed_descriptors_are_told_apart() {
    succeeds("child_copies");
}

#[test]
fn short_answers_come_over_one_connection() {
    succeeds("child_shares_a_connection");
}

#[test]
fn a_question_in_pieces_is_understood() {
    succeeds("child_sends_in_pieces");
}

#[test]
fn a_director_that_goes_is_an_error() {
    succeeds("child_sees_the_end");
}

#[test]
fn the_older_interface_is_not_there() {
    succeeds("child_uses_socket_options");
}

#[test]
fn the_files_are_the_directors() {
    succeeds("child_reads_files");
}

#[test]
fn without_a_director_ipvs_is_not_there() {
    let directory = tempfile::tempdir().unwrap();
    let output = in_child("test", "child_without_director", directory.path());
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}{}", String::from_utf8_lossy(&output.stdout));
    let complaints: Vec<_> = errors.lines().filter(|line| line.starts_with("director:")).collect();
    let socket = directory.path().join("ipvs.sock");
    assert_eq!(
        complaints,
        [format!("director: no answer at {}: No such file or directory", socket.display())]
    );
}

// ---- what they run

#[test]
#[ignore = "needs the library; the tests above run it"]
fn child_switches() {
    let fd = netlink_socket();
    let port = address_of(&fd).unwrap().nl_pid;
    assert_ne!(port, 0);

    // The kernel answers for its own family.
    send(&fd, &get_family("nlctrl")).unwrap();
    let (answer, from) = receive(&fd, 0).unwrap();
    assert_eq!((answer[4], from.nl_family, from.nl_pid), (16, libc::AF_NETLINK as u16, 0));

    set_nonblocking(&fd);
    set_option(&fd, libc::SOL_SOCKET, libc::SO_RCVBUF, 32_768).unwrap();
    let question = get_family("IPVS");
    send(&fd, &question).unwrap();
    wait(&fd);

    // Peeking tells the whole length; nothing is lost.
    let mut start = [0; 4];
    let flags = libc::MSG_PEEK | libc::MSG_TRUNC;
    let length = receive_into(&fd, &mut start, flags).unwrap().0;
    assert_eq!(length, question.len());
    let (echo, from) = receive(&fd, 0).unwrap();
    assert_eq!(echo, with_port(&question, port));
    assert_eq!((from.nl_family, from.nl_pid), (libc::AF_NETLINK as u16, 0));
    assert_eq!(receive(&fd, 0).unwrap_err().raw_os_error(), Some(libc::EAGAIN));

    // What the program knew of its socket is still so.
    let address = address_of(&fd).unwrap();
    assert_eq!((address.nl_family, address.nl_pid), (libc::AF_NETLINK as u16, port));
    assert_eq!(peer_of(&fd).unwrap().nl_pid, 0);
    // SAFETY: no pointers.
    let (status, flags) =
        unsafe { (libc::fcntl(fd.as_raw_fd(), libc::F_GETFL), libc::fcntl(fd.as_raw_fd(), libc::F_GETFD)) };
    assert_ne!(status & libc::O_NONBLOCK, 0);
    assert_ne!(flags & libc::FD_CLOEXEC, 0);
    assert_eq!(option(&fd, libc::SOL_SOCKET, libc::SO_DOMAIN).unwrap(), libc::AF_NETLINK);
    assert_eq!(option(&fd, libc::SOL_SOCKET, libc::SO_TYPE).unwrap(), libc::SOCK_RAW);
    assert_eq!(option(&fd, libc::SOL_SOCKET, libc::SO_PROTOCOL).unwrap(), libc::NETLINK_GENERIC);
    set_option(&fd, libc::SOL_SOCKET, libc::SO_SNDBUF, 32_768).unwrap();
    set_option(&fd, libc::SOL_NETLINK, libc::NETLINK_EXT_ACK, 1).unwrap();
    bind(&fd).unwrap();

    // The others are what they were.
    let other = netlink_socket();
    send(&other, &get_family("nlctrl")).unwrap();
    assert_eq!(receive(&other, 0).unwrap().0[4], 16);
}

#[test]
#[ignore = "needs the library; the tests above run it"]
fn child_copies() {
    let fd = switched();
    let port = address_of(&fd).unwrap().nl_pid;
    let number = fd.as_raw_fd();
    let copy = fd.try_clone().unwrap();
    drop(fd);

    // The number comes again, for something else.
    let mut pipe = [0; 2];
    // SAFETY: room for two descriptors.
    assert_eq!(unsafe { libc::pipe(pipe.as_mut_ptr()) }, 0);
    assert!(pipe.contains(&number), "{pipe:?} {number}");
    // SAFETY: both were just made and belong to nobody else.
    let [reader, writer] = pipe.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) });
    let question = get_family("IPVS");
    // SAFETY: the buffer and its length.
    let written = unsafe { libc::write(writer.as_raw_fd(), question.as_ptr().cast(), question.len()) };
    assert_eq!(written, question.len().cast_signed());
    let mut arrived = vec![0; question.len()];
    File::from(reader).read_exact(&mut arrived).unwrap();
    assert_eq!(arrived, question);
    assert_eq!(address_of(&writer).unwrap_err().raw_os_error(), Some(libc::ENOTSOCK));

    // The copy is the director's, here and in a child process.
    assert_eq!(address_of(&copy).unwrap().nl_pid, port);
    // SAFETY: the child only makes system calls and ends.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let same = address_of(&copy).is_ok_and(|address| address.nl_pid == port);
        // SAFETY: no pointers; it does not return.
        unsafe { libc::_exit(c_int::from(!same)) };
    }
    let mut status = 0;
    // SAFETY: room for the status.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    assert_eq!(status, 0);
    exchange(&copy, b"\x14\0\0\0 hello, director");

    // A socket put over it is itself.
    let (one, _other) = std::os::unix::net::UnixDatagram::pair().unwrap();
    // SAFETY: no pointers; `copy` stays the owner of its number.
    assert!(unsafe { libc::dup2(one.as_raw_fd(), copy.as_raw_fd()) } >= 0);
    assert_eq!(address_of(&copy).unwrap().nl_family, libc::AF_UNIX as u16);
}

#[test]
#[ignore = "needs the library; the tests above run it"]
fn child_shares_a_connection() {
    let inode = |fd: &OwnedFd| std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).unwrap();
    for sequence in 1..=3 {
        // As ipvsadm, which makes a socket for each command.
        let fd = netlink_socket();
        let own = inode(&fd);
        exchange_acknowledged(&fd, &acknowledged(get_family("IPVS"), sequence));
        exchange_acknowledged(&fd, &command(7));
        assert_eq!(inode(&fd), own, "it is the socket that it was");
        assert_eq!(kept(), [KEPT]);
    }

    // Somebody else's descriptor has the number.
    let null = File::open("/dev/null").unwrap();
    // SAFETY: no pointers; the number is the library's, which is about to notice.
    assert_eq!(unsafe { libc::dup2(null.as_raw_fd(), KEPT) }, KEPT);
    let fd = netlink_socket();
    exchange_acknowledged(&fd, &acknowledged(get_family("IPVS"), 1));
    exchange_acknowledged(&fd, &command(2));
    assert_eq!(std::fs::read_link(format!("/proc/self/fd/{KEPT}")).unwrap().as_os_str(), "/dev/null");
    assert_eq!(kept(), [KEPT, KEPT + 1]);
    // SAFETY: no pointers.
    assert_eq!(unsafe { libc::close(KEPT) }, 0);

    // A child process takes a connection of its own.
    // SAFETY: the child makes system calls, allocates, which glibc allows for, and ends.
    let child = unsafe { libc::fork() };
    let fd = netlink_socket();
    exchange_acknowledged(&fd, &acknowledged(get_family("IPVS"), 3));
    for sequence in 0..1000 {
        exchange_acknowledged(&fd, &command(sequence));
    }
    if child == 0 {
        // SAFETY: it does not return.
        unsafe { libc::_exit(0) };
    }
    let mut status = 0;
    // SAFETY: room for the status.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    assert_eq!(status, 0);

    // Threads do not hear each other's answers.
    thread::scope(|scope| {
        for number in 0..4 {
            scope.spawn(move || {
                let fd = netlink_socket();
                for sequence in 0..500 {
                    exchange_acknowledged(&fd, &acknowledged(get_family("IPVS"), number << 16 | sequence));
                    exchange_acknowledged(&fd, &command(number << 16 | sequence));
                }
            });
        }
    });

    // A listing has a connection of its own, and so has what follows on that socket.
    let own = inode(&fd);
    let mut listing = acknowledged(get_family("IPVS"), 9);
    listing[7] = 3;
    exchange(&fd, &listing);
    assert_ne!(inode(&fd), own);
    exchange(&fd, &get_family("IPVS"));

    // A director that goes is an error; the next is found.
    let fd = netlink_socket();
    exchange_acknowledged(&fd, &acknowledged(get_family("IPVS"), 9));
    assert_eq!(send(&fd, GO_AWAY).unwrap_err().raw_os_error(), Some(libc::ECONNRESET));
    exchange_acknowledged(&fd, &command(10));
}

/// The lowest descriptor that the library takes for its own connection.
const KEPT: c_int = 100;

/// Those of this and the next few that are open.
fn kept() -> Vec<c_int> {
    let names = std::fs::read_dir("/proc/self/fd").unwrap().map(|entry| entry.unwrap().file_name());
    let numbers = names.map(|name| name.to_str().unwrap().parse::<c_int>().unwrap());
    let mut numbers: Vec<_> = numbers.filter(|number| (KEPT..KEPT + 10).contains(number)).collect();
    numbers.sort_unstable();
    numbers
}

#[test]
#[ignore = "needs the library; the tests above run it"]
fn child_sends_in_pieces() {
    let fd = netlink_socket();
    let question = get_family("IPVS");
    let (first, rest) = question.split_at(7);
    let (second, third) = rest.split_at(15);
    let mut pieces = [first, second, &[], third]
        .map(|piece| iovec { iov_base: piece.as_ptr().cast_mut().cast(), iov_len: piece.len() });
    // SAFETY: all zeros are an empty message.
    let mut message: msghdr = unsafe { zeroed() };
    message.msg_iov = pieces.as_mut_ptr();
    message.msg_iovlen = pieces.len();
    // SAFETY: the vectors point to the pieces.
    let sent = unsafe { libc::sendmsg(fd.as_raw_fd(), &raw const message, 0) };
    assert_eq!(sent, question.len().cast_signed());
    assert_eq!(receive(&fd, 0).unwrap().0, with_port(&question, address_of(&fd).unwrap().nl_pid));
    // Likewise with the other calls.
    for call in ["send", "write", "writev", "sendmmsg"] {
        let fd = netlink_socket();
        let (bytes, length) = (question.as_ptr().cast(), question.len());
        let mut vector = iovec { iov_base: question.as_ptr().cast_mut().cast(), iov_len: length };
        // SAFETY: the buffer and its length, or a vector or messages that point to it; all zeros are an
        // empty message.
        let sent = unsafe {
            match call {
                "send" => libc::send(fd.as_raw_fd(), bytes, length, 0),
                "write" => libc::write(fd.as_raw_fd(), bytes, length),
                "writev" => libc::writev(fd.as_raw_fd(), &raw const vector, 1),
                _ => {
                    let mut messages: [libc::mmsghdr; 2] = zeroed();
                    for message in &mut messages {
                        message.msg_hdr.msg_iov = &raw mut vector;
                        message.msg_hdr.msg_iovlen = 1;
                    }
                    assert_eq!(libc::sendmmsg(fd.as_raw_fd(), messages.as_mut_ptr(), 2, 0), 2);
                    assert_eq!(messages[0].msg_len, messages[1].msg_len);
                    receive(&fd, 0).unwrap();
                    messages[1].msg_len as libc::ssize_t
                }
            }
        };
        assert_eq!(sent, question.len().cast_signed(), "{call}");
        let port = address_of(&fd).unwrap().nl_pid;
        assert_eq!(receive(&fd, 0).unwrap().0, with_port(&question, port), "{call}");
    }
}

#[test]
#[ignore = "needs the library; the tests above run it"]
fn child_sees_the_end() {
    // Netlink raises no SIGPIPE: the default, which kills, must not strike.
    // SAFETY: the default action.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    let fd = switched();
    send(&fd, GO_AWAY).unwrap();
    assert_eq!(receive(&fd, 0).unwrap_err().raw_os_error(), Some(libc::ECONNRESET));
    let mut byte = 0_u8;
    // SAFETY: room for a byte.
    let received = unsafe { libc::recv(fd.as_raw_fd(), (&raw mut byte).cast(), 1, 0) };
    assert_eq!((received, io::Error::last_os_error().raw_os_error()), (-1, Some(libc::ECONNRESET)));
    // The next request goes to the next director, from the same port.
    let port = address_of(&fd).unwrap().nl_pid;
    exchange(&fd, &get_family("IPVS"));
    assert_eq!(address_of(&fd).unwrap().nl_pid, port);
    // Where there is none, that is an error.
    send(&fd, GO_AWAY).unwrap();
    assert_eq!(receive(&fd, 0).unwrap_err().raw_os_error(), Some(libc::ECONNRESET));
    std::fs::remove_file(Path::new(&std::env::var_os("DIRECTOR_DIRECTORY").unwrap()).join("ipvs.sock"))
        .unwrap();
    assert_eq!(send(&fd, GO_AWAY).unwrap_err().raw_os_error(), Some(libc::ENOENT));
}

#[test]
#[ignore = "needs the library; the tests above run it"]
fn child_uses_socket_options() {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    for name in 1152..=1167 {
        let mut value = [0_u8; 64];
        let mut length = value.len() as socklen_t;
        // SAFETY: the buffer and its length.
        let (get, set) = unsafe {
            let get = libc::getsockopt(
                socket.as_raw_fd(),
                libc::IPPROTO_IP,
                name,
                value.as_mut_ptr().cast(),
                &raw mut length,
            );
            assert_eq!(io::Error::last_os_error().raw_os_error(), Some(libc::ENOPROTOOPT));
            let set = libc::setsockopt(socket.as_raw_fd(), libc::IPPROTO_IP, name, value.as_ptr().cast(), 64);
            (get, set)
        };
        assert_eq!((get, set), (-1, -1));
        assert_eq!(io::Error::last_os_error().raw_os_error(), Some(libc::ENOPROTOOPT));
    }
    // Others work.
    socket.set_ttl(7).unwrap();
    assert_eq!(socket.ttl().unwrap(), 7);
}

#[test]
#[ignore = "needs the library; the tests above run it"]
fn child_reads_files() {
    // Through `open64`, as Rust's library does.
    assert_eq!(std::fs::read_to_string("/proc/net/ip_vs").unwrap(), "the text of ip_vs\n");
    assert_eq!(std::fs::read_to_string("/proc/self/net/ip_vs_stats").unwrap(), "the text of ip_vs_stats\n");
    let refused = File::options().write(true).open("/proc/net/ip_vs").unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(libc::EACCES));
    assert!(std::fs::read_to_string("/proc/net/tcp").unwrap().contains("local_address"));

    type Open = unsafe extern "C" fn(*const libc::c_char, c_int, ...) -> c_int;
    type OpenAt = unsafe extern "C" fn(c_int, *const libc::c_char, c_int, ...) -> c_int;
    let path = c"/proc/net/ip_vs".as_ptr();
    // SAFETY: a path that ends in a NUL.
    let opened = unsafe {
        let (open, open64): (Open, Open) = (libc::open, libc::open64);
        let (openat, openat64): (OpenAt, OpenAt) = (libc::openat, libc::openat64);
        [
            open(path, libc::O_RDONLY),
            open64(path, libc::O_RDONLY | libc::O_CLOEXEC),
            openat(libc::AT_FDCWD, path, libc::O_RDONLY),
            openat64(libc::AT_FDCWD, path, libc::O_RDONLY | libc::O_CLOEXEC),
        ]
    };
    for (fd, close_on_exec) in opened.into_iter().zip([0, libc::FD_CLOEXEC].repeat(2)) {
        assert!(fd >= 0, "{}", io::Error::last_os_error());
        // SAFETY: no pointers; the descriptor was just opened and belongs to nobody else.
        let (flags, mut file) = unsafe { (libc::fcntl(fd, libc::F_GETFD), File::from_raw_fd(fd)) };
        assert_eq!(flags, close_on_exec);
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "the text of ip_vs\n");
    }

    // As ipvsadm does; the connections of this director are very many.
    let before = most_memory();
    let (mut lines, mut buffer) = (0, [0; 256]);
    // SAFETY: texts that end in a NUL, a stream that is open, a buffer with its size.
    unsafe {
        let stream = libc::fopen(c"/proc/net/ip_vs_conn".as_ptr(), c"r".as_ptr());
        assert!(!stream.is_null(), "{}", io::Error::last_os_error());
        while !libc::fgets(buffer.as_mut_ptr(), buffer.len() as c_int, stream).is_null() {
            let line = CStr::from_ptr(buffer.as_ptr());
            assert!(line.to_bytes().starts_with(b"TCP "), "{line:?}");
            lines += 1;
        }
        libc::fclose(stream);
    }
    assert_eq!(lines, CONNECTIONS);
    let grown = most_memory() - before;
    assert!(grown < 8 << 10, "{grown} KiB for {} KiB of text", (CONNECTIONS * LINE.len()) >> 10);
}

#[test]
#[ignore = "needs the library; the tests above run it"]
fn child_without_director() {
    for _ in 0..2 {
        let fd = netlink_socket();
        assert_eq!(send(&fd, &get_family("IPVS")).unwrap_err().raw_os_error(), Some(libc::ENOENT));
        // It stays what it was.
        send(&fd, &get_family("nlctrl")).unwrap();
        assert_eq!(receive(&fd, 0).unwrap().0[4], 16);
        assert_eq!(option(&fd, libc::SOL_SOCKET, libc::SO_DOMAIN).unwrap(), libc::AF_NETLINK);
    }
    let missing = File::open("/proc/net/ip_vs").unwrap_err();
    assert_eq!(missing.raw_os_error(), Some(libc::ENOENT));
}
