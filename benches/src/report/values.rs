//! What stands in the results: numbers, spreads, and which packets they are of.

use anyhow::{Context, Result};
use serde_json::Value;

use crate::spread::Spread;

/// The packets that a result is of: the family, and the protocol.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Kind {
    is_v6: bool,
    is_udp: bool,
}

impl Kind {
    pub(super) fn read(value: &Value) -> Self {
        Self { is_v6: value["family"] == "6", is_udp: value["protocol"] == "udp" }
    }

    /// As words.
    pub(super) fn words(&self) -> String {
        format!("{} over IPv{}", if self.is_udp { "UDP" } else { "TCP" }, if self.is_v6 { 6 } else { 4 })
    }

    /// As part of a file's name; nothing for what there is most of.
    pub(super) fn name(&self) -> &str {
        match (self.is_udp, self.is_v6) {
            (false, false) => "",
            (true, false) => "udp-",
            (false, true) => "tcp6-",
            (true, true) => "udp6-",
        }
    }
}

/// A number of a result; where it is missing the result is of another version.
pub(super) fn number(value: &Value) -> Result<f64> {
    value.as_f64().context("a result lacks a number: it is of another version of the benchmarks")
}

pub(super) fn spread(value: &Value) -> Result<Spread> {
    Ok(Spread { median: number(&value["median"])?, min: number(&value["min"])?, max: number(&value["max"])? })
}

pub(super) fn millions(value: &Value) -> Result<String> {
    Ok(spread(value)?.map(|rate| rate / 1e6).text(2))
}

pub(super) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("unknown")
}

/// The number with commas between thousands.
pub(super) fn grouped(value: &Value) -> String {
    let digits = value.as_u64().unwrap_or_default().to_string();
    let mut grouped = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn thousands_are_grouped() {
        for (value, text) in [(0, "0"), (999, "999"), (4096, "4,096"), (1_000_000, "1,000,000")] {
            assert_eq!(grouped(&json!(value)), text);
        }
    }
}
