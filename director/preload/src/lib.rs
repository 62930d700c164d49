//! Hands unmodified LVS tools the director in place of the kernel's IPVS.
//!
//! `directorctl exec` loads this library into a tool ahead of libc (`LD_PRELOAD`, see ld.so(8)). In the
//! tool's process
//!
//! - a generic-netlink socket is the kernel's until the tool asks it for the family `IPVS`; from then on, what the
//!   tool sends on it goes to the director (`switch`). Requests with a short answer go over one connection that the
//!   process keeps (`link`), and the answer is put into the socket's own receive queue. At a request for a listing, a
//!   connection takes the socket's place under the same descriptor. What has nothing to do with IPVS, such as
//!   `ethtool` or VRRP's route sockets, never notices the library;
//! - ipvsadm, which makes a socket for each command, gets the same one again and again, and the kernel has nothing to
//!   do for it (`ipvsadm`);
//! - the older socket options of IPVS answer as a kernel without IPVS does (`sockets`);
//! - `/proc/net/ip_vs`, `ip_vs_conn`, `ip_vs_stats` and `ip_vs_stats_percpu` open as the director's (`proc`).
//!
//! If no director answers, the tool fails as it does on a kernel without IPVS, and a line on standard error says
//! which socket did not answer. No request to IPVS ever reaches the kernel.
//!
//! The library keeps no list of descriptors, except for ipvsadm's. Whether a descriptor was handed over is marked in the
//! kernel: the netlink socket has a mark (`SO_MARK`), and a connection in its place is bound to an abstract address of
//! ours (`netlink::Mark`). So `close`, `dup`, `fork` and `posix_spawn` need no bookkeeping and cannot make it wrong, and
//! nothing here allocates, locks, or depends on what a signal handler has interrupted.
//!
//! After a restart of the director, the tool's next request finds it again.
//!
//! Limits: if a descriptor waits in an epoll set while a connection takes its place, it leaves that set, since it is
//! another socket then. A program that inherits such a descriptor over `exec` sees that it is an AF_UNIX socket, and so
//! does recvmmsg(2). `LD_PRELOAD` is ignored for set-user-id programs.

// `open` and `openat` are variadic in C; here they are defined, and called, with a fixed list of arguments.
// That is the same call where variadic integers travel in the same registers as named ones: in the System V
// ABI of x86-64 and in the AAPCS64 of Linux (it is not on Apple's aarch64). An argument the caller left out
// is then some register's value, passed on to a function that ignores it likewise.
#[cfg(not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"))))]
compile_error!("this library is for Linux on x86-64 and aarch64");

mod family;
mod instance;
mod ipvsadm;
mod link;
mod netlink;
mod proc;
mod real;
mod sockets;
mod switch;

/// Looks everything up while the process still has one thread and no signal handlers.
extern "C" fn load() {
    real::look_up();
    instance::remember();
    ipvsadm::recognize();
}

#[used]
// SAFETY: the dynamic linker calls the functions in this section once, after libc, which this library
// depends on, is ready; they may ignore the arguments it passes.
#[unsafe(link_section = ".init_array")]
static LOAD: extern "C" fn() = load;

/// The program ends.
extern "C" fn unload() {
    ipvsadm::finish();
}

#[used]
// SAFETY: as above; the dynamic linker, or exit(3), calls them once at the end.
#[unsafe(link_section = ".fini_array")]
static UNLOAD: extern "C" fn() = unload;
