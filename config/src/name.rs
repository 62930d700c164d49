//! Names of kernel interfaces.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;

use crate::invalid::{Invalid, serialize_as_text};

/// The longest name in bytes: Linux's `IFNAMSIZ` without the closing NUL.
const LONGEST: usize = 15;

/// A name that the kernel accepts for an interface (`dev_valid_name` in net/core/dev.c): 1 to 15 bytes, without
/// slash, colon or white space, and not `.` or `..`; nor `all` or `default` (`sysctl_dev_name_is_allowed` in
/// include/net/ip.h). Three more things are excluded here: `%`, which the kernel replaces by a number; a dash at the
/// beginning, which every tool takes for an option; and the separators of the arguments of DPDK's devices, because
/// the twin is such a device.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InterfaceName(String);

serialize_as_text!(InterfaceName);

impl InterfaceName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for InterfaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Borrow<str> for InterfaceName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl PartialEq<str> for InterfaceName {
    fn eq(&self, other: &str) -> bool {
        self.0 == other
    }
}

impl FromStr for InterfaceName {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let help = format!("a name of 1 to {LONGEST} bytes, for example \"front\"");
        let refuse = |reason: String| Err(Invalid::new(reason, help.clone()));
        let shown = text.escape_debug();
        if text.is_empty() {
            return refuse("an interface needs a name".to_owned());
        }
        if text.len() > LONGEST {
            return refuse(format!("`{shown}` is {} bytes long", text.len()));
        }
        if text == "." || text == ".." {
            return refuse(format!("`{text}` is a directory, not a name"));
        }
        if text == "all" || text == "default" {
            return refuse(format!("`{text}` is what the kernel's sysctls call all interfaces, or new ones"));
        }
        if text.starts_with('-') {
            return refuse(format!("`{shown}` begins with a dash"));
        }
        let bad = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '/' | ':' | '%');
        if let Some(c) = text.chars().find(|c| bad(*c)) {
            return refuse(format!("`{shown}` holds {c:?}, which no interface's name may"));
        }
        if let Some(c) = text.chars().find(|c| matches!(c, ',' | '=' | '[')) {
            return refuse(format!(
                "`{shown}` holds {c:?}, which DPDK takes for its own in a device's arguments"
            ));
        }
        Ok(Self(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_kernel_takes() {
        for name in ["front", "eth0", "enp3s0f1np1", "a", "123456789012345", "vlan.10", "b_0-1"] {
            assert_eq!(name.parse::<InterfaceName>().unwrap().as_str(), name);
        }
    }

    #[test]
    fn names_it_does_not_take() {
        for (name, reason) in [
            ("", "an interface needs a name"),
            ("1234567890123456", "`1234567890123456` is 16 bytes long"),
            ("ääääääää", "`ääääääää` is 16 bytes long"),
            (".", "`.` is a directory, not a name"),
            ("..", "`..` is a directory, not a name"),
            ("all", "`all` is what the kernel's sysctls call all interfaces, or new ones"),
            ("default", "`default` is what the kernel's sysctls call all interfaces, or new ones"),
            ("-a", "`-a` begins with a dash"),
            ("a/b", "`a/b` holds '/', which no interface's name may"),
            ("a b", "`a b` holds ' ', which no interface's name may"),
            ("a\tb", "`a\\tb` holds '\\t', which no interface's name may"),
            ("a:0", "`a:0` holds ':', which no interface's name may"),
            ("eth%d", "`eth%d` holds '%', which no interface's name may"),
            ("a,b", "`a,b` holds ',', which DPDK takes for its own in a device's arguments"),
            ("a=b", "`a=b` holds '=', which DPDK takes for its own in a device's arguments"),
            ("a[b", "`a[b` holds '[', which DPDK takes for its own in a device's arguments"),
            ("a\0", "`a\\0` holds '\\0', which no interface's name may"),
        ] {
            assert_eq!(name.parse::<InterfaceName>().unwrap_err().reason, reason);
        }
    }
}
