// SPDX-License-Identifier: GPL-2.0-or-later
//! As much of a terminal as it takes to say what is on it. Also used by the tests in `tests/`.

/// A terminal of so many rows and columns, and all that scrolled out of it.
#[derive(Debug)]
pub struct Terminal {
    rows: usize,
    columns: usize,
    /// Lines that scrolled out, then those that are seen.
    lines: Vec<Vec<char>>,
    row: usize,
    column: usize,
}

impl Terminal {
    pub fn new(rows: usize, columns: usize) -> Self {
        Self { rows, columns, lines: vec![Vec::new()], row: 0, column: 0 }
    }

    /// The first of the lines that are seen.
    fn top(&self) -> usize {
        self.lines.len().saturating_sub(self.rows)
    }

    fn down(&mut self) {
        self.row += 1;
        if self.row == self.lines.len() {
            self.lines.push(Vec::new());
        }
    }

    fn put(&mut self, c: char) {
        if self.column == self.columns {
            self.column = 0;
            self.down();
        }
        let line = &mut self.lines[self.row];
        if line.len() <= self.column {
            line.resize(self.column + 1, ' ');
        }
        line[self.column] = c;
        self.column += 1;
    }

    /// What a program writes; the terminal's driver puts a carriage return before each line feed.
    pub fn write(&mut self, text: &str) {
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            match c {
                '\r' => self.column = 0,
                '\n' => {
                    self.column = 0;
                    self.down();
                }
                '\x1b' => {
                    assert_eq!(chars.next(), Some('['), "a sequence that nobody should need");
                    let mut number = String::new();
                    let end = loop {
                        match chars.next() {
                            Some(digit) if digit.is_ascii_digit() => number.push(digit),
                            end => break end,
                        }
                    };
                    self.control(end, number.parse().ok());
                }
                c => {
                    assert!(!c.is_control(), "{c:?}");
                    self.put(c);
                }
            }
        }
    }

    fn control(&mut self, end: Option<char>, number: Option<usize>) {
        match end {
            Some('K') => self.lines[self.row].truncate(self.column),
            Some('J') => {
                self.lines[self.row].truncate(self.column);
                // The rows stay.
                for line in &mut self.lines[self.row + 1..] {
                    line.clear();
                }
            }
            Some('A') => self.row = self.row.saturating_sub(number.unwrap_or(1)).max(self.top()),
            end => panic!("a sequence that nobody should need: {end:?}"),
        }
    }

    /// All lines, those that scrolled out too, without what is empty at the end.
    pub fn text(&self) -> String {
        let lines: Vec<String> = self.lines.iter().map(|line| line.iter().collect()).collect();
        let text = lines.join("\n");
        let text = text.trim_end_matches('\n');
        if text.is_empty() { String::new() } else { format!("{text}\n") }
    }

    /// Where the cursor is: lines from the first one, columns.
    pub fn cursor(&self) -> (usize, usize) {
        (self.row, self.column)
    }
}
