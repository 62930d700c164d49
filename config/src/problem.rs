//! What is wrong with a file, where, and what would be right.
//!
//! Everything that reads the document has the same [`Log`] and goes on after a mistake, so that all mistakes of a
//! file can be corrected at once. [`Errors`] and [`Warnings`] are the result, and know how to print it.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io::IsTerminal;
use std::ops::Range;

use miette::{
    GraphicalReportHandler, GraphicalTheme, LabeledSpan, MietteError, MietteSpanContents, SourceCode,
    SourceSpan, SpanContents,
};

/// How many bytes of a long line are shown.
const SHOWN: usize = 300;

/// A place in the text: byte offsets.
pub(crate) type Span = Range<usize>;

/// Whether the file can be used all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The file is refused.
    Error,
    /// The file is used, but it probably does not do what its writer wants.
    Warning,
}

/// One thing that is wrong at one place of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    severity: Severity,
    message: String,
    help: Option<String>,
    place: Option<Place>,
}

/// The place of a value, with the line it is in.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    /// The offset in the file; problems are sorted by it.
    offset: usize,
    /// Counted from 1.
    line: usize,
    /// Counted from 1, in characters.
    column: usize,
    /// The line, with a newline at its end.
    text: String,
    /// The value in `text`.
    value: Span,
}

impl Problem {
    /// Error or warning.
    pub fn severity(&self) -> Severity {
        self.severity
    }

    /// What is wrong, in one line.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What would be right.
    pub fn help(&self) -> Option<&str> {
        self.help.as_deref()
    }

    /// The line of the value, counted from 1; 0 if the file could not be read at all.
    pub fn line(&self) -> usize {
        self.place.as_ref().map_or(0, |place| place.line)
    }

    /// The position in the line of the value's first character, counted from 1; 0 if the file could not be read at
    /// all.
    pub fn column(&self) -> usize {
        self.place.as_ref().map_or(0, |place| place.column)
    }
}

/// Everything that is wrong with a configuration file. [`Display`](fmt::Display) prints all of it: for
/// each problem the file, the line and the column, the line itself with carets under the value, and what
/// would be right.
#[derive(Clone, Debug)]
pub struct Errors(Problems);

/// The parts of a usable file that its writer probably did not mean. Printed in the same way as [`Errors`].
#[derive(Clone, Debug, Default)]
pub struct Warnings(Problems);

#[derive(Clone, Debug, Default)]
struct Problems {
    /// What the file is called.
    file: String,
    list: Vec<Problem>,
}

macro_rules! report {
    ($type:ident) => {
        impl $type {
            /// The problems in the order of the file.
            pub fn iter(&self) -> impl ExactSizeIterator<Item = &Problem> {
                self.0.list.iter()
            }

            /// How many there are.
            pub fn len(&self) -> usize {
                self.0.list.len()
            }

            /// Whether there is none.
            pub fn is_empty(&self) -> bool {
                self.0.list.is_empty()
            }

            /// All of them as text for standard error: with colours if that is a terminal and
            /// `NO_COLOR` is not set (<https://no-color.org>).
            pub fn report(&self) -> String {
                let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
                self.0.render(wanted && std::io::stderr().is_terminal())
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0.render(false))
            }
        }
    };
}
report!(Errors);
report!(Warnings);

impl std::error::Error for Errors {}

impl Errors {
    /// The file could not be read, so there is no place in it to show.
    pub(crate) fn unreadable(name: &str, reason: String, help: Option<String>) -> Self {
        let problem = Problem { severity: Severity::Error, message: reason, help, place: None };
        Self(Problems { file: name.to_owned(), list: vec![problem] })
    }
}

impl Problems {
    fn render(&self, colour: bool) -> String {
        let mut theme = if colour { GraphicalTheme::unicode() } else { GraphicalTheme::none() };
        // People and scripts look for the caret, not for a box-drawing line under the value.
        theme.characters.underline = '^';
        theme.characters.uarrow = '^';
        theme.characters.error = "error:".to_owned();
        theme.characters.warning = "warning:".to_owned();
        let handler = GraphicalReportHandler::new_themed(theme)
            .with_links(false)
            .with_context_lines(0)
            .with_wrap_lines(false);
        let mut out = String::new();
        for problem in &self.list {
            let shown = Shown { problem, file: &self.file };
            if handler.render_report(&mut out, &shown).is_err() {
                // A String takes everything; but no problem must be lost because it could not be printed.
                let (line, column) = (problem.line(), problem.column());
                out.push_str(&format!("  {}:{line}:{column}: {}\n", self.file, problem.message));
            }
            out.push('\n');
        }
        let nouns = [(Severity::Error, "error"), (Severity::Warning, "warning")];
        for (severity, noun) in nouns {
            match self.list.iter().filter(|problem| problem.severity == severity).count() {
                0 => {}
                1 => out.push_str(&format!("1 {noun} in {}\n", self.file)),
                n => out.push_str(&format!("{n} {noun}s in {}\n", self.file)),
            }
        }
        out
    }
}

/// A problem in the form that miette takes. The source that it shows is the line.
#[derive(Debug)]
struct Shown<'a> {
    problem: &'a Problem,
    file: &'a str,
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.problem.message)
    }
}

impl std::error::Error for Shown<'_> {}

impl miette::Diagnostic for Shown<'_> {
    fn severity(&self) -> Option<miette::Severity> {
        Some(match self.problem.severity {
            Severity::Error => miette::Severity::Error,
            Severity::Warning => miette::Severity::Warning,
        })
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.problem.help.as_ref().map(|help| Box::new(help) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.problem.place.as_ref().map(|_| self as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let value = self.problem.place.as_ref()?.value.clone();
        Some(Box::new(std::iter::once(LabeledSpan::new_primary_with_span(None, value))))
    }
}

impl SourceCode for Shown<'_> {
    fn read_span<'a>(
        &'a self,
        _value: &SourceSpan,
        _lines_before: usize,
        _lines_after: usize,
    ) -> Result<Box<dyn SpanContents<'a> + 'a>, MietteError> {
        let place = self.problem.place.as_ref().ok_or(MietteError::OutOfBounds)?;
        let text = place.text.as_bytes();
        Ok(Box::new(MietteSpanContents::new_named(
            self.file.to_owned(),
            text,
            (0, text.len()).into(),
            place.line - 1,
            place.column - 1,
            1,
        )))
    }
}

/// Collects problems while the document is read.
pub(crate) struct Log<'t> {
    file: String,
    text: &'t str,
    /// The offsets at which lines begin, so that a place is found by bisection.
    lines: Vec<usize>,
    list: RefCell<Vec<Problem>>,
    errors: Cell<usize>,
}

impl<'t> Log<'t> {
    pub(crate) fn new(file: &str, text: &'t str) -> Self {
        let lines = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { file: file.to_owned(), text, lines, list: RefCell::default(), errors: Cell::new(0) }
    }

    /// Refuses the file: `message` at `span`; `help` is what would be right.
    pub(crate) fn error(&self, span: &Span, message: impl Into<String>, help: impl Into<String>) {
        self.errors.set(self.errors.get() + 1);
        self.push(Severity::Error, span, message.into(), help.into());
    }

    /// Does not refuse the file, but shows `message`.
    pub(crate) fn warning(&self, span: &Span, message: impl Into<String>, help: impl Into<String>) {
        self.push(Severity::Warning, span, message.into(), help.into());
    }

    /// How many errors there are up to now. If the number has not changed, what was read meanwhile is sound.
    pub(crate) fn errors(&self) -> usize {
        self.errors.get()
    }

    /// The line of an offset, counted from 1.
    pub(crate) fn line(&self, offset: usize) -> usize {
        self.lines.partition_point(|&begin| begin <= offset)
    }

    fn push(&self, severity: Severity, span: &Span, message: String, help: String) {
        let place = Some(self.place(span));
        let help = Some(help).filter(|help| !help.is_empty());
        self.list.borrow_mut().push(Problem { severity, message, help, place });
    }

    fn place(&self, span: &Span) -> Place {
        let offset = boundary_before(self.text, span.start);
        let line = self.line(offset);
        let begin = self.lines[line - 1];
        let rest = &self.text[begin..];
        let text = &rest[..rest.find('\n').unwrap_or(rest.len())];
        let text = text.strip_suffix('\r').unwrap_or(text);
        let start = (offset - begin).min(text.len());
        let column = text[..start].chars().count() + 1;
        // Of a value in several lines the first is pointed at; of a very long line a part is shown.
        let first = boundary_before(text, start.saturating_sub(SHOWN / 3));
        let last = boundary_before(text, first + SHOWN);
        let end = boundary_before(text, span.end.saturating_sub(begin).clamp(start, last.max(start)));
        // Control characters are not printed. They are replaced by something of the same length, which keeps the
        // carets in place.
        let text = text[first..last].replace(|c: char| c.is_ascii_control() && c != '\t', "?") + "\n";
        Place { offset, line, column, text, value: start - first..end - first }
    }

    /// The warnings; or the errors, if there is one.
    pub(crate) fn finish(self) -> Result<Warnings, Errors> {
        let mut list = self.list.into_inner();
        if self.errors.get() > 0 {
            list.retain(|problem| problem.severity == Severity::Error);
        }
        list.sort_by_key(|problem| problem.place.as_ref().map(|place| place.offset));
        list.dedup();
        let problems = Problems { file: self.file, list };
        if self.errors.get() == 0 { Ok(Warnings(problems)) } else { Err(Errors(problems)) }
    }
}

/// The nearest beginning of a character at or before an offset.
fn boundary_before(text: &str, offset: usize) -> usize {
    let mut offset = offset.min(text.len());
    while !text.is_char_boundary(offset) {
        offset -= 1;
    }
    offset
}
