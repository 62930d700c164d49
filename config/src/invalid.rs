//! Checked values: the reason why one is refused, and the macros that make the small types.

use std::ops::RangeInclusive;

/// Why a text or a number is not a value of a type, and what would be one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Invalid {
    /// What is wrong with it. Begins with the value in backquotes if there is one.
    pub reason: String,
    /// What would be right.
    pub help: String,
}

impl Invalid {
    pub(crate) fn new(reason: impl Into<String>, help: impl Into<String>) -> Self {
        Self { reason: reason.into(), help: help.into() }
    }
}

/// An integer that lies in a range; the type is made by [`bounded!`].
pub(crate) trait Bounded: Sized {
    /// Every legal value.
    const RANGE: RangeInclusive<i64>;
    /// What is counted, in the plural.
    const UNIT: &'static str;

    fn checked(value: i64) -> Option<Self>;
}

/// Makes an integer type that cannot hold a value outside its range.
macro_rules! bounded {
    ($(#[$doc:meta])* $name:ident($int:ty) in $low:literal..=$high:literal, $unit:literal $(, default $default:literal)?) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
        pub struct $name($int);

        impl $name {
            /// The smallest value.
            pub const MIN: Self = Self($low);
            /// The largest value.
            pub const MAX: Self = Self($high);

            /// The value, if it lies within the range.
            pub const fn new(value: $int) -> Option<Self> {
                // The bounds may be those of the integer itself.
                #[allow(unused_comparisons, clippy::manual_range_contains, clippy::absurd_extreme_comparisons)]
                if value >= $low && value <= $high { Some(Self(value)) } else { None }
            }

            /// The number.
            pub const fn get(self) -> $int {
                self.0
            }
        }

        $(
            impl Default for $name {
                fn default() -> Self {
                    const { assert!($low <= $default && $default <= $high) }
                    Self($default)
                }
            }
        )?

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                std::fmt::Display::fmt(&self.0, f)
            }
        }

        impl $crate::invalid::Bounded for $name {
            const RANGE: std::ops::RangeInclusive<i64> = $low..=$high;
            const UNIT: &'static str = $unit;

            fn checked(value: i64) -> Option<Self> {
                <$int>::try_from(value).ok().and_then(Self::new)
            }
        }
    };
}
pub(crate) use bounded;

/// A word from a short list; the type says what each word means.
pub(crate) trait Word: Copy + 'static {
    /// All known words. Those that are refused carry the reason.
    const WORDS: &'static [(&'static str, Result<Self, &'static str>)];
}

/// Serializes a type as the text of its `Display`, which its `FromStr` reads back.
macro_rules! serialize_as_text {
    ($($name:ty),+) => {$(
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
    )+};
}
pub(crate) use serialize_as_text;
