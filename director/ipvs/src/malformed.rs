//! What can be wrong with a request.

use crate::Errno;

/// Why a message is no request IPVS would take; [`Malformed::errno`] is what the client is told, the text
/// is for the log. Offsets are bytes from the start of the message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Neither the controller nor IPVS.
    #[error("no generic netlink family has the id {0:#x}")]
    UnknownFamily(u16),
    /// `CTRL_CMD_GETFAMILY` for another family.
    #[error("no generic netlink family `{0}` here, only IPVS")]
    UnknownFamilyName(String),
    /// `CTRL_CMD_GETFAMILY` without saying which.
    #[error("CTRL_CMD_GETFAMILY with neither a family's name nor its id")]
    NoFamilyGiven,
    /// Shorter than a generic-netlink message.
    #[error("{0} bytes are too short for a generic netlink message")]
    Short(usize),
    /// No such command.
    #[error("unknown command {command} of the family {family:#x}")]
    UnknownCommand {
        /// The family's id.
        family: u16,
        /// The command's number.
        command: u8,
    },
    /// The command cannot be a dump.
    #[error("{0} cannot be a dump")]
    NoDump(&'static str),
    /// The command is a dump only.
    #[error("{0} works as a dump only")]
    DumpOnly(&'static str),
    /// An attribute the command needs.
    #[error("{nest} at byte {offset} lacks {attribute}{}", hint(*.leftover))]
    Missing {
        /// What lacks it: a nested attribute or the message.
        nest: &'static str,
        /// Where that starts.
        offset: usize,
        /// The attribute's name.
        attribute: &'static str,
        /// Bytes at the end of the nest that form no attribute.
        leftover: usize,
    },
    /// An attribute of a wrong length.
    #[error("{attribute} at byte {offset} has {length} bytes; {rule}")]
    Length {
        /// The attribute's name.
        attribute: &'static str,
        /// Where it starts.
        offset: usize,
        /// Bytes of its value.
        length: usize,
        /// What would be right.
        rule: &'static str,
        /// What the kernel answers: ERANGE on the outer level, EINVAL in a nest.
        errno: Errno,
    },
    /// An attribute that should be a text.
    #[error("{attribute} at byte {offset} is no text that ends in a NUL")]
    Text {
        /// The attribute's name.
        attribute: &'static str,
        /// Where it starts.
        offset: usize,
    },
    /// An attribute whose value makes no sense.
    #[error("{attribute} at byte {offset} is {value}; {rule}")]
    Value {
        /// The attribute's name.
        attribute: &'static str,
        /// Where it starts.
        offset: usize,
        /// What was given.
        value: String,
        /// What would be right.
        rule: &'static str,
        /// EINVAL, or EAFNOSUPPORT for an address family.
        errno: Errno,
    },
}

impl Malformed {
    /// What the client is told.
    #[must_use]
    pub fn errno(&self) -> Errno {
        match self {
            Self::UnknownFamily(_) | Self::UnknownFamilyName(_) => Errno::ENOENT,
            Self::UnknownCommand { .. } | Self::NoDump(_) | Self::DumpOnly(_) => Errno::EOPNOTSUPP,
            Self::NoFamilyGiven | Self::Short(_) | Self::Missing { .. } | Self::Text { .. } => Errno::EINVAL,
            Self::Length { errno, .. } | Self::Value { errno, .. } => *errno,
        }
    }
}

/// A hint for the log: an attribute that claims more bytes than there are is skipped, as the kernel does,
/// and then missed.
fn hint(bytes: usize) -> String {
    match bytes {
        0 => String::new(),
        n => format!(" (its last {n} bytes form no attribute)"),
    }
}
