//! The reasons a kernel gives for a refusal.

/// An errno that IPVS, or a director in its place, answers with.
///
/// The numbers are those of x86-64 and aarch64 Linux (`<asm-generic/errno.h>`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(i32)]
pub enum Errno {
    /// The client is not root.
    EPERM = 1,
    /// No such server, scheduler, persistence engine or netlink family.
    ENOENT = 2,
    /// No such service; no sync daemon runs.
    ESRCH = 3,
    /// The director failed inside.
    EIO = 5,
    /// Not now.
    EAGAIN = 11,
    /// No memory, or a table is full.
    ENOMEM = 12,
    /// Something else uses it.
    EBUSY = 16,
    /// There is such a service, server or daemon already.
    EEXIST = 17,
    /// No such interface.
    ENODEV = 19,
    /// An attribute is missing or makes no sense.
    EINVAL = 22,
    /// No room is left.
    ENOSPC = 28,
    /// A number outside its range: a negative weight, a lower threshold above the upper one.
    ERANGE = 34,
    /// The kernel has no IPVS.
    ENOPROTOOPT = 92,
    /// A transport protocol IPVS does not balance.
    EPROTONOSUPPORT = 93,
    /// The command or the option is not supported.
    EOPNOTSUPP = 95,
    /// The address family is neither IPv4 nor IPv6.
    EAFNOSUPPORT = 97,
    /// No buffer for the answer.
    ENOBUFS = 105,
}

impl Errno {
    /// The positive number.
    #[must_use]
    pub fn number(self) -> i32 {
        self as i32
    }
}
