//! `[control]`: where the sockets are.

use std::fmt;
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;

use serde::Serialize;

use crate::invalid::{Invalid, serialize_as_text};
use crate::reader::Section;

/// The bytes of a unix socket's path: `sun_path` of 108, less the closing NUL.
const LONGEST_SOCKET_PATH: usize = 107;
/// The bytes left for a slash and the name of a socket.
const LONGEST_SOCKET_NAME: usize = 17;

/// A directory for unix sockets: an absolute path that leaves room for the name of any of the sockets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketDirectory(String);

serialize_as_text!(SocketDirectory);

impl SocketDirectory {
    /// The directory.
    pub fn as_path(&self) -> &Path {
        Path::new(&self.0)
    }

    /// The path of a file in it.
    pub fn join(&self, name: &str) -> PathBuf {
        self.as_path().join(name)
    }
}

impl Default for SocketDirectory {
    fn default() -> Self {
        Self("/run/director".to_owned())
    }
}

impl fmt::Display for SocketDirectory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for SocketDirectory {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        const HELP: &str = "an absolute path, for example \"/run/director\"";
        let path = Path::new(text);
        let longest = LONGEST_SOCKET_PATH - LONGEST_SOCKET_NAME;
        let shown = text.escape_debug();
        if !path.is_absolute() {
            return Err(Invalid::new(format!("`{shown}` is no absolute path"), HELP));
        }
        if text.contains('\0') {
            return Err(Invalid::new(format!("`{shown}` holds a NUL"), HELP));
        }
        if path.components().any(|part| part == Component::ParentDir) {
            return Err(Invalid::new(
                format!("`{shown}` goes up again with `..`"),
                "write the path without it",
            ));
        }
        if path.parent().is_none() {
            return Err(Invalid::new("the root directory is no place for sockets", HELP));
        }
        if text.len() > longest {
            return Err(Invalid::new(
                format!("the path is {} bytes long, too long for the sockets in it", text.len()),
                format!(
                    "a unix socket's path ends at {LONGEST_SOCKET_PATH} bytes, so give at most {longest}"
                ),
            ));
        }
        Ok(Self(text.to_owned()))
    }
}

/// Where the director is controlled.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Control {
    /// The directory of the sockets.
    pub directory: SocketDirectory,
}

impl Control {
    pub(crate) fn read(section: Section<'_>) -> Self {
        let directory = section.get("directory").and_then(|item| item.parse()).unwrap_or_default();
        section.finish();
        Self { directory }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories() {
        let longest = format!("/{}", "d".repeat(89));
        for path in ["/run/director", "/tmp/a b/", longest.as_str()] {
            assert_eq!(path.parse::<SocketDirectory>().unwrap().as_path(), Path::new(path));
        }
        let too_long = format!("{longest}d");
        for (path, reason) in [
            ("", "`` is no absolute path"),
            ("run/director", "`run/director` is no absolute path"),
            ("/run/../etc", "`/run/../etc` goes up again with `..`"),
            ("/", "the root directory is no place for sockets"),
            ("/a\0b", "`/a\\0b` holds a NUL"),
            (too_long.as_str(), "the path is 91 bytes long, too long for the sockets in it"),
        ] {
            assert_eq!(path.parse::<SocketDirectory>().unwrap_err().reason, reason);
        }
    }
}
