//! Names of schedulers, persistence engines and interfaces.

use std::fmt;

/// A name as IPVS's messages carry it: at most [`Name::MAX`] bytes and without a NUL.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(String);

/// Why a text is no [`Name`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Longer than the kernel's field.
    #[error("the name `{0}` is longer than {max} bytes", max = Name::MAX)]
    TooLong(String),
    /// A NUL inside, where the kernel would end it.
    #[error("the name {0:?} contains a NUL")]
    Nul(String),
}

impl Name {
    /// The longest of the kernel's names, `IP_VS_PENAME_MAXLEN`. (Those of schedulers and interfaces end
    /// one byte earlier; the decoder sees to it.)
    pub const MAX: usize = 16;

    /// Checks `text`.
    ///
    /// # Errors
    /// When it is too long or contains a NUL.
    pub fn new(text: impl Into<String>) -> Result<Self, NameError> {
        let text = text.into();
        if text.len() > Self::MAX {
            return Err(NameError::TooLong(text));
        }
        if text.contains('\0') {
            return Err(NameError::Nul(text));
        }
        Ok(Self(text))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_what_the_kernel_has_room_for() {
        assert_eq!(Name::new("wlc").unwrap().as_str(), "wlc");
        assert!(Name::new("a".repeat(16)).is_ok());
        assert!(matches!(Name::new("a".repeat(17)), Err(NameError::TooLong(_))));
        assert!(matches!(Name::new("r\0r"), Err(NameError::Nul(_))));
    }
}
