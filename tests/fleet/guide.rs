// SPDX-License-Identifier: GPL-2.0-or-later

//! Sections of FLEET.md, whose commands are run as they stand there.

use crate::support::Root;

/// All that there are: each is read by some test.
const SECTIONS: [&str; 4] = [
    "The builder",
    "The governed way: an apt repository",
    "One builds, all fetch",
    "Builders that share a compile cache",
];

pub struct Guide(Vec<Block>);

/// What is fenced by "```sh PART" and "```": commands for whoever plays the part, under a heading.
struct Block {
    heading: String,
    part: String,
    commands: String,
    was_run: bool,
}

impl Guide {
    /// Several sections as one.
    pub fn read(sections: &[&str]) -> Guide {
        let text =
            std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/FLEET.md")).expect("FLEET.md is there");
        let titles: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("## ")).collect();
        assert_eq!(titles, SECTIONS, "a section that no test reads is run by none");
        Guide(sections.iter().flat_map(|section| blocks(&text, section)).collect())
    }

    /// The commands under the heading for whoever plays the part; there have to be some.
    pub fn commands(&mut self, heading: &str, part: &str) -> String {
        let chosen = self.0.iter_mut().filter(|block| block.heading == heading && block.part == part);
        let commands: String = chosen
            .map(|block| {
                block.was_run = true;
                block.commands.as_str()
            })
            .collect();
        assert!(!commands.is_empty(), "FLEET.md has nothing for {part} under {heading}");
        format!("set -e\n{commands}")
    }

    /// Runs them, all of which have to succeed; what they print.
    #[track_caller]
    pub fn follow(&mut self, heading: &str, part: &str, root: &mut Root) -> String {
        root.sh(&self.commands(heading, part))
    }

    /// Nothing stands there that no test runs.
    #[track_caller]
    pub fn all_was_run(&self) {
        let left: Vec<&str> = self.0.iter().filter(|it| !it.was_run).map(|it| it.commands.as_str()).collect();
        assert!(left.is_empty(), "FLEET.md has what no test runs: {left:#?}");
    }
}

fn blocks(text: &str, section: &str) -> Vec<Block> {
    let (_, text) = text.split_once(&format!("\n## {section}\n")).expect("FLEET.md has the section");
    let text = text.split("\n## ").next().unwrap_or(text);
    let (mut blocks, mut heading) = (Vec::new(), String::new());
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if let Some(title) = line.strip_prefix("### ") {
            title.clone_into(&mut heading);
        } else if let Some(fence) = line.strip_prefix("```") {
            let part = fence.strip_prefix("sh ").expect("a fence says who runs the commands");
            let commands = lines.by_ref().take_while(|line| *line != "```").flat_map(|line| [line, "\n"]).collect();
            blocks.push(Block { heading: heading.clone(), part: part.to_owned(), commands, was_run: false });
        }
    }
    blocks
}
