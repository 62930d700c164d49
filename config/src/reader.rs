//! Reads the document key by key.
//!
//! serde stops at the first mistake. Here each key is asked for by name and turned into a checked value; mistakes go
//! to the [`Log`] with their place, and reading goes on. A [`Section`] remembers which keys it was asked for, so that
//! at its end every unknown key is an error.

use std::borrow::Borrow;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::str::FromStr;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::invalid::{Bounded, Invalid, Word};
use crate::problem::{Log, Span};

/// A table of the document.
pub(crate) struct Section<'d> {
    /// As a person writes it: `[dpdk]`, `[[port]]`.
    pub(crate) title: &'static str,
    /// Its header.
    pub(crate) at: Span,
    entries: Entries<'d>,
    asked: RefCell<Vec<&'static str>>,
    pub(crate) log: &'d Log<'d>,
}

#[derive(Clone, Copy)]
enum Entries<'d> {
    Given(&'d DeTable<'d>),
    Absent,
    /// The key is not a table, which has been reported.
    Mistaken,
}

impl<'d> Section<'d> {
    pub(crate) fn document(table: &'d DeTable<'d>, log: &'d Log<'d>) -> Self {
        Self::new("the file", 0..0, Entries::Given(table), log)
    }

    fn new(title: &'static str, at: Span, entries: Entries<'d>, log: &'d Log<'d>) -> Self {
        Self { title, at, entries, asked: RefCell::default(), log }
    }

    /// The value of a key, if it is given.
    pub(crate) fn get(&self, key: &'static str) -> Option<Item<'d>> {
        self.asked.borrow_mut().push(key);
        let Entries::Given(table) = self.entries else { return None };
        table.get(key).map(|value| Item { key, value, log: self.log })
    }

    /// The value of a key that must be given; `example` shows what it looks like.
    pub(crate) fn require(&self, key: &'static str, example: &str) -> Option<Item<'d>> {
        let item = self.get(key);
        if item.is_none() {
            let message = match self.entries {
                Entries::Given(_) => format!("this {} has no `{key}`", self.title),
                Entries::Absent => format!("the file has no {} with a `{key}`", self.title),
                Entries::Mistaken => return None,
            };
            self.log.error(&self.at, message, format!("for example: {key} = {example}"));
        }
        item
    }

    /// `[key]`; empty if the section is not there.
    pub(crate) fn table(&self, key: &'static str, title: &'static str) -> Section<'d> {
        let Some(item) = self.get(key) else {
            return Section::new(title, 0..0, Entries::Absent, self.log);
        };
        item.table(title).unwrap_or_else(|| Section::new(title, item.span(), Entries::Mistaken, self.log))
    }

    /// Each `[[key]]`.
    pub(crate) fn tables(&self, key: &'static str, title: &'static str) -> Vec<Section<'d>> {
        let Some(item) = self.get(key) else { return Vec::new() };
        match item.value.get_ref() {
            DeValue::Array(list) => {
                list.iter().filter_map(|value| Item { key, value, log: self.log }.table(title)).collect()
            }
            DeValue::Table(entries) => {
                let at = item.span();
                self.log.error(
                    &at,
                    format!("`{key}` is a single table here, but there can be several"),
                    format!("write {title}"),
                );
                vec![Section::new(title, at, Entries::Given(entries), self.log)]
            }
            _ => {
                item.wrong_type("a list of tables", &format!("write {title}"));
                Vec::new()
            }
        }
    }

    /// The keys that are given.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &'d str> {
        let table = if let Entries::Given(table) = self.entries { Some(table) } else { None };
        table.into_iter().flat_map(|table| table.keys()).map(|key| key.get_ref().as_ref())
    }

    /// The place of a key's value; if it is not given, of the section's header.
    pub(crate) fn place_of(&self, key: &str) -> Span {
        let Entries::Given(table) = self.entries else { return self.at.clone() };
        table.get(key).map_or_else(|| self.at.clone(), Spanned::span)
    }

    /// A number, or its default.
    pub(crate) fn number_or_default<T: Bounded + Default>(&self, key: &'static str) -> T {
        self.get(key).and_then(|item| item.number()).unwrap_or_default()
    }

    /// A word, or its default.
    pub(crate) fn word_or_default<T: Word + Default>(&self, key: &'static str) -> T {
        self.get(key).and_then(|item| item.word()).unwrap_or_default()
    }

    /// Reports every key that was not asked for as an error.
    pub(crate) fn finish(self) {
        self.finish_with(|key, known| suggestion(key, "known", known.iter().copied()));
    }

    /// The same with other help: `help` gets the key and the known keys.
    pub(crate) fn finish_with(self, help: impl Fn(&str, &[&'static str]) -> String) {
        let Entries::Given(table) = self.entries else { return };
        let known = self.asked.into_inner();
        for key in table.keys().filter(|key| !known.contains(&key.get_ref().as_ref())) {
            let message = format!("{} has no key `{}`", self.title, key.get_ref().escape_debug());
            self.log.error(&key.span(), message, help(key.get_ref(), &known));
        }
    }
}

/// A value of the document, with the key it was found under.
#[derive(Clone, Copy)]
pub(crate) struct Item<'d> {
    key: &'static str,
    value: &'d Spanned<DeValue<'d>>,
    pub(crate) log: &'d Log<'d>,
}

impl<'d> Item<'d> {
    pub(crate) fn span(&self) -> Span {
        self.value.span()
    }

    /// Reports why the value is wrong.
    pub(crate) fn error(&self, reason: impl Into<String>, help: impl Into<String>) {
        self.log.error(&self.span(), reason, help);
    }

    fn wrong_type(&self, wanted: &str, help: &str) {
        let found = match self.value.get_ref() {
            DeValue::String(_) => "a string",
            DeValue::Integer(_) => "an integer",
            DeValue::Float(_) => "a floating-point number",
            DeValue::Boolean(_) => "a boolean",
            DeValue::Datetime(_) => "a date or time",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        };
        self.error(format!("`{}` takes {wanted}, and this is {found}", self.key), help);
    }

    pub(crate) fn as_str(&self) -> Option<&'d str> {
        match self.value.get_ref() {
            DeValue::String(text) => Some(text),
            _ => None,
        }
    }

    pub(crate) fn string(&self) -> Option<&'d str> {
        if self.as_str().is_none() {
            let help = match self.value.get_ref() {
                DeValue::Integer(number) => format!("write \"{number}\""),
                DeValue::Float(number) => format!("write \"{number}\""),
                DeValue::Boolean(value) => format!("write \"{value}\""),
                DeValue::Datetime(value) => format!("write \"{value}\""),
                _ => "write it as text in quotes: \"...\"".to_owned(),
            };
            self.wrong_type("a string", &help);
        }
        self.as_str()
    }

    /// The integer, if this is one; `None` inside if it does not fit in 64 bits.
    pub(crate) fn as_integer(&self) -> Option<Option<i64>> {
        match self.value.get_ref() {
            DeValue::Integer(number) => Some(i64::from_str_radix(number.as_str(), number.radix()).ok()),
            _ => None,
        }
    }

    pub(crate) fn as_bool(&self) -> Option<bool> {
        match self.value.get_ref() {
            DeValue::Boolean(value) => Some(*value),
            _ => None,
        }
    }

    pub(crate) fn boolean(&self) -> Option<bool> {
        if self.as_bool().is_none() {
            self.wrong_type("true or false", "write true or false, without quotes");
        }
        self.as_bool()
    }

    /// An integer within the range of its type.
    pub(crate) fn number<T: Bounded>(&self) -> Option<T> {
        let range = format!("{} to {} {}", T::RANGE.start(), T::RANGE.end(), T::UNIT);
        let DeValue::Integer(number) = self.value.get_ref() else {
            self.wrong_type("an integer", &format!("write a number without quotes: {range}"));
            return None;
        };
        let checked = self.as_integer().flatten().and_then(T::checked);
        if checked.is_none() {
            self.error(format!("`{}` cannot be {number}", self.key), format!("possible: {range}"));
        }
        checked
    }

    /// One of the words of its type.
    pub(crate) fn word<T: Word>(&self) -> Option<T> {
        let text = self.string()?;
        let usable = T::WORDS.iter().filter(|(_, meaning)| meaning.is_ok()).map(|(word, _)| *word);
        match T::WORDS.iter().find(|(word, _)| *word == text) {
            Some((_, Ok(value))) => return Some(*value),
            Some((word, Err(reason))) => {
                self.error(format!("`{} = \"{word}\"`: {reason}", self.key), possible("possible", usable));
            }
            None => self.error(
                format!("`{}` cannot be \"{}\"", self.key, text.escape_debug()),
                suggestion(text, "possible", usable),
            ),
        }
        None
    }

    /// A string that its type can read.
    pub(crate) fn parse<T: FromStr<Err = Invalid>>(&self) -> Option<T> {
        self.checked(self.string()?.parse())
    }

    /// The result of reading the value; if there is none, that is reported as an error.
    pub(crate) fn checked<T>(&self, result: Result<T, Invalid>) -> Option<T> {
        result.map_err(|Invalid { reason, help }| self.error(format!("`{}`: {reason}", self.key), help)).ok()
    }

    /// The elements of a list.
    pub(crate) fn list(&self, example: &str) -> Vec<Item<'d>> {
        match self.value.get_ref() {
            DeValue::Array(list) => {
                list.iter().map(|value| Item { key: self.key, value, log: self.log }).collect()
            }
            _ => {
                self.wrong_type("a list", &format!("for example: {} = {example}", self.key));
                Vec::new()
            }
        }
    }

    fn table(&self, title: &'static str) -> Option<Section<'d>> {
        match self.value.get_ref() {
            DeValue::Table(entries) => {
                Some(Section::new(title, self.span(), Entries::Given(entries), self.log))
            }
            DeValue::Array(list) if !list.is_empty() => {
                self.wrong_type("one table", &format!("write {title}, once"));
                None
            }
            _ => {
                self.wrong_type("a table", &format!("write {title}"));
                None
            }
        }
    }
}

/// A key that may be left out: given and right, given and wrong (which has been reported), or not given.
pub(crate) enum Given<T> {
    Right(T),
    Wrong,
    Absent,
}

impl<T> Given<T> {
    pub(crate) fn read<'d>(
        section: &Section<'d>,
        key: &'static str,
        read: impl FnOnce(&Item<'d>) -> Option<T>,
    ) -> Self {
        match section.get(key).map(|item| read(&item)) {
            Some(Some(value)) => Self::Right(value),
            Some(None) => Self::Wrong,
            None => Self::Absent,
        }
    }

    pub(crate) fn is_absent(&self) -> bool {
        matches!(self, Self::Absent)
    }

    pub(crate) fn value(self) -> Option<T> {
        match self {
            Self::Right(value) => Some(value),
            Self::Wrong | Self::Absent => None,
        }
    }
}

/// Keys that must not be given twice, with the place of the first one.
pub(crate) struct Seen<K>(BTreeMap<K, Span>);

impl<K> Default for Seen<K> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<K: Ord> Seen<K> {
    /// Notes a key. It is an error if the key was noted before; `message` says what is there twice.
    pub(crate) fn note(&mut self, key: K, at: &Span, log: &Log<'_>, message: impl FnOnce() -> String) {
        match self.0.get(&key) {
            Some(first) => {
                let line = log.line(first.start);
                log.error(at, format!("{}: line {line} has it already", message()), "remove one of the two");
            }
            None => {
                self.0.insert(key, at.clone());
            }
        }
    }

    /// Whether a key was noted.
    pub(crate) fn contains<Q: Ord + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.0.contains_key(key)
    }
}

/// If there are at most so many words, all are shown even if one of them is near.
const FEW: usize = 4;

fn possible<'a>(adjective: &str, words: impl Iterator<Item = &'a str>) -> String {
    let words: Vec<_> = words.map(|word| format!("`{word}`")).collect();
    match words.as_slice() {
        [only] => format!("{adjective} is {only}"),
        _ => format!("{adjective} are {}", words.join(", ")),
    }
}

/// The nearest of the known words, or all of them if none is near.
pub(crate) fn suggestion<'a>(
    word: &str,
    adjective: &str,
    known: impl Iterator<Item = &'a str> + Clone,
) -> String {
    let lower = word.to_lowercase();
    let near = known
        .clone()
        // Nothing is near a text of this length, and comparing would take memory for each pair of letters.
        .filter(|candidate| lower.len() <= 2 * candidate.len())
        .map(|candidate| (strsim::damerau_levenshtein(&lower, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= candidate.len().max(3) / 3)
        .min_by_key(|(distance, _)| *distance);
    match near {
        Some((_, candidate)) if !(2..=FEW).contains(&known.clone().count()) => {
            format!("did you mean `{candidate}`?")
        }
        Some((_, candidate)) => format!("did you mean `{candidate}`? {}", possible(adjective, known)),
        None => possible(adjective, known),
    }
}
