//! `[connections]`: how many connections there can be, and the memory they are kept in.

use serde::Serialize;

use crate::invalid::{Word, bounded};
use crate::reader::Section;

bounded! {
    /// How many connections can be open at once. Further ones are refused until another has ended.
    Capacity(u32) in 1..=2_147_483_647, "connections", default 1_000_000
}

bounded! {
    /// How many persistence templates there can be at once.
    Templates(u32) in 1..=16_777_216, "persistence templates", default 1_000_000
}

/// The size of the memory pages of the connection table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub enum Pages {
    /// The largest available.
    #[default]
    #[serde(rename = "auto")]
    Auto,
    /// 4 KiB, as in any program.
    #[serde(rename = "4k")]
    Size4K,
    /// 2 MiB, huge pages.
    #[serde(rename = "2m")]
    Size2M,
    /// 1 GiB, huge pages.
    #[serde(rename = "1g")]
    Size1G,
}

impl Word for Pages {
    const WORDS: &'static [(&'static str, Result<Self, &'static str>)] = &[
        ("auto", Ok(Pages::Auto)),
        ("4k", Ok(Pages::Size4K)),
        ("2m", Ok(Pages::Size2M)),
        ("1g", Ok(Pages::Size1G)),
    ];
}

/// The connection table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Connections {
    /// How many IPv4 connections it holds.
    pub capacity: Capacity,
    /// How many IPv6 connections there can be; if not given, as many as of IPv4.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capacity_ipv6: Option<Capacity>,
    /// The pages it is in.
    pub pages: Pages,
    /// How many persistence templates there can be, besides.
    pub templates: Templates,
}

impl Connections {
    pub(crate) fn read(section: Section<'_>) -> Self {
        let read = Self {
            capacity: section.number_or_default("capacity"),
            capacity_ipv6: section.get("capacity_ipv6").and_then(|item| item.number()),
            pages: section.word_or_default("pages"),
            templates: section.number_or_default("templates"),
        };
        section.finish();
        read
    }
}
