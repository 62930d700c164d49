//! Text in columns.

/// A table: texts are aligned left, numbers right, columns are two blanks apart.
#[derive(Debug, Default)]
pub(crate) struct Table {
    rows: Vec<Vec<Cell>>,
}

/// A field of a table.
#[derive(Debug)]
pub(crate) enum Cell {
    Word(String),
    Number(String),
}

impl From<&str> for Cell {
    fn from(word: &str) -> Self {
        Self::Word(word.to_owned())
    }
}

impl From<String> for Cell {
    fn from(word: String) -> Self {
        Self::Word(word)
    }
}

impl From<u64> for Cell {
    fn from(number: u64) -> Self {
        Self::Number(number.to_string())
    }
}

impl From<u32> for Cell {
    fn from(number: u32) -> Self {
        Self::Number(number.to_string())
    }
}

impl Table {
    /// A table with this heading. A title that starts with `>` is above numbers; the sign is not shown.
    pub(crate) fn new(heading: &[&str]) -> Self {
        let heading = heading.iter().map(|title| match title.strip_prefix('>') {
            Some(title) => Cell::Number(title.to_owned()),
            None => Cell::Word((*title).to_owned()),
        });
        Self { rows: vec![heading.collect()] }
    }

    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = Cell>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// The lines, without blanks at their ends.
    pub(crate) fn render(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row: &Vec<Cell>| row.get(column));
            cells.map(|cell| cell.text().chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<_> = (0..columns).map(width).collect();
        let mut text = String::new();
        for row in &self.rows {
            let cells = row.iter().zip(&widths).map(|(cell, &width)| match cell {
                Cell::Word(word) => format!("{word:<width$}"),
                Cell::Number(number) => format!("{number:>width$}"),
            });
            text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
            text.push('\n');
        }
        text
    }
}

impl Cell {
    fn text(&self) -> &str {
        match self {
            Self::Word(text) | Self::Number(text) => text,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_stand_left_and_numbers_right() {
        let mut table = Table::new(&["Port", ">Packets", "Link"]);
        table.row(["front".into(), 7_u64.into(), "up".into()]);
        table.row(["b".into(), 123_456_789_u64.into(), "down".into()]);
        assert_eq!(table.render(), "Port     Packets  Link\nfront          7  up\nb      123456789  down\n");
    }
}
