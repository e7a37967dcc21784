// SPDX-License-Identifier: GPL-2.0-or-later

use super::emulator::Terminal;
use super::*;

const WIDE: Size = Size { rows: 24, columns: 80 };

/// A screen and the terminal that it is seen on.
struct Seen {
    screen: Screen,
    terminal: Terminal,
    size: Size,
    start: Instant,
}

impl Seen {
    fn new(all: usize, size: Size) -> Self {
        let terminal = Terminal::new(size.rows, size.columns);
        Self { screen: Screen::new(all), terminal, size, start: Instant::now() }
    }

    fn after(&self, seconds: u64) -> Instant {
        self.start + Duration::from_secs(seconds)
    }

    fn show(&mut self, seconds: u64) {
        let frame = self.screen.frame(self.size, self.after(seconds));
        self.terminal.write(&String::from_utf8(frame).expect("text"));
    }

    fn begin(&mut self, block: usize, module: &str, phase: &'static str) {
        self.screen.task(block, module, "6.1.0-56-amd64", phase, self.start);
    }
}

#[test]
fn words_scroll_above_the_lines_and_are_all_that_is_left() {
    let mut seen = Seen::new(2, WIDE);
    seen.screen.say(b"Sign command\n");
    seen.begin(2, "b/2", "compiling");
    seen.begin(1, "a/1", "configuring");
    seen.show(0);
    assert_eq!(
        seen.terminal.text(),
        "Sign command\n  a/1 for 6.1.0-56-amd64: configuring, 0 s\n  b/2 for 6.1.0-56-amd64: compiling, 0 s\n0 of 2 done\n"
    );
    // A line of words that has begun is not seen before it ends.
    seen.screen.say(b"Building...");
    seen.screen.phase(1, "compiling");
    seen.screen.total(0, Some(Duration::from_secs(100)), seen.start);
    seen.show(61);
    assert_eq!(
        seen.terminal.text(),
        "Sign command\n  a/1 for 6.1.0-56-amd64: compiling, 1 min 01 s\n  b/2 for 6.1.0-56-amd64: compiling, 1 min 01 s\n\
         0 of 2 done, about 39 s left\n"
    );
    seen.screen.say(b" done.\n");
    seen.screen.rest(1);
    seen.screen.total(1, None, seen.after(62));
    seen.show(62);
    let lines = "  b/2 for 6.1.0-56-amd64: compiling, 1 min 02 s\n1 of 2 done\n";
    assert_eq!(seen.terminal.text(), format!("Sign command\nBuilding... done.\n{lines}"));
    assert_eq!(seen.terminal.cursor(), (2, 0));
    seen.screen.say(b"Interrupted...");
    let last = String::from_utf8(seen.screen.clear()).expect("text");
    seen.terminal.write(&last);
    assert_eq!(seen.terminal.text(), "Sign command\nBuilding... done.\nInterrupted...\n");
}

#[test]
fn a_frame_is_written_only_where_something_changed() {
    let mut seen = Seen::new(1, WIDE);
    seen.begin(0, "a/1", "compiling");
    let start = seen.start;
    assert!(!seen.screen.is_fresh(start));
    assert!(!seen.screen.frame(WIDE, start).is_empty());
    assert!(seen.screen.is_fresh(start + FRAME / 2) && !seen.screen.is_fresh(start + FRAME));
    assert!(seen.screen.frame(WIDE, start + FRAME).is_empty(), "the second is the same");
    seen.screen.say(b"no end yet");
    assert!(seen.screen.frame(WIDE, start + FRAME * 2).is_empty());
    let frame = seen.screen.frame(WIDE, start + Duration::from_secs(1));
    let text = String::from_utf8(frame).expect("text");
    assert!(text.contains("compiling, 1 s"), "{text:?}");
    assert!(!text.starts_with(CLEAR_BELOW), "what is replaced in place does not flicker");
}

#[test]
fn narrow_windows_lose_the_kernel_first() {
    for (columns, expected) in [
        (80, "  evdi/1.14.2 for 6.1.0-56-amd64: compiling, 0 s\n0 of 12 done, about 40 s left\n"),
        (40, "  evdi/1.14.2: compiling, 0 s\n0 of 12 done, about 40 s left\n"),
        (27, "  evdi/1..: compiling, 0 s\n0 of 12 done, about 40 s l\n"),
        (20, "  evdi/1.14.2: comp\n0 of 12 done, about\n"),
        (1, ""),
    ] {
        let mut seen = Seen::new(12, Size { rows: 24, columns });
        seen.begin(0, "evdi/1.14.2", "compiling");
        seen.screen.total(0, Some(Duration::from_secs(40)), seen.start);
        seen.show(0);
        assert_eq!(seen.terminal.text(), expected, "{columns}");
        assert_eq!(seen.terminal.cursor(), (0, 0), "{columns}");
    }
}

#[test]
fn a_window_of_few_rows_shows_as_much_as_it_can() {
    for rows in 1..8 {
        let mut seen = Seen::new(9, Size { rows, columns: 80 });
        for block in 0..5 {
            seen.begin(block, &format!("m{block}/1"), "compiling");
        }
        for second in 0..3 {
            seen.screen.say(format!("word {second}\n").as_bytes());
            seen.show(second);
        }
        let text = seen.terminal.text();
        let (words, lines) = text.split_at("word 0\nword 1\nword 2\n".len());
        assert_eq!(words, "word 0\nword 1\nword 2\n", "{rows}");
        let shown = rows.saturating_sub(2).min(5);
        assert_eq!(lines.lines().count(), shown + 1, "{rows}");
        let more = if shown < 5 { format!("0 of 9 done, {} more at work", 5 - shown) } else { "0 of 9 done".into() };
        assert_eq!(lines.lines().last(), Some(more.as_str()));
    }
}

#[test]
fn another_size_is_another_frame() {
    let mut seen = Seen::new(1, WIDE);
    seen.begin(0, "evdi/1.14.2", "compiling");
    seen.show(0);
    // As terminals do that break their lines anew: the cursor stays with its text.
    let mut narrow = Terminal::new(24, 30);
    narrow.write("  evdi/1.14.2 for 6.1.0-56-amd64: compiling, 0 s\n0 of 1 done\r\x1b[2A");
    let frame = seen.screen.frame(Size { rows: 24, columns: 30 }, seen.start);
    narrow.write(&String::from_utf8(frame).expect("text"));
    assert_eq!(narrow.text(), "  evdi/1.14.2: compiling, 0 s\n0 of 1 done\n");
}

#[test]
fn names_move_no_cursor() {
    let mut seen = Seen::new(1, WIDE);
    seen.begin(0, "a\x1b[2J\n/1", "compiling");
    seen.show(0);
    assert_eq!(seen.terminal.text(), "  a[2J/1 for 6.1.0-56-amd64: compiling, 0 s\n0 of 1 done\n");
}

#[test]
fn times_are_read_at_a_glance() {
    for (seconds, expected) in
        [(0, "0 s"), (59, "59 s"), (60, "1 min 00 s"), (3599, "59 min 59 s"), (7260, "2 h 01 min")]
    {
        assert_eq!(clock(Duration::from_secs(seconds)), expected);
    }
}
