// SPDX-License-Identifier: GPL-2.0-or-later

//! tests/contract.md says where each statement of the contract is shown, and SECURITY.md where each promise is; here is
//! looked that this is so.

use std::fs;
use std::path::Path;

fn read(file: &str) -> Option<String> {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).ok()
}

/// The index, by its sections.
fn sections() -> Vec<String> {
    let index = read("tests/contract.md").expect("tests/contract.md");
    index.split("\n## ").skip(1).map(str::to_owned).collect()
}

/// Every second part of a text that is cut at `mark`.
fn quoted(text: &str, mark: char) -> impl Iterator<Item = &str> {
    text.split(mark).skip(1).step_by(2)
}

/// Whether there is a test function `file::name`, in tests or in src.
fn is_test(path: &str) -> bool {
    let Some((file, name)) = path.rsplit_once("::") else { return false };
    let file = file.replace("::", "/");
    ["tests", "src"].into_iter().filter_map(|place| read(&format!("{place}/{file}.rs"))).any(|text| {
        let tests = text.split("#[test]\n").skip(1).filter_map(|test| test.split_once("fn "));
        tests.into_iter().any(|(_, test)| test.starts_with(&format!("{name}(")))
    })
}

/// Whether a script has a scene of this title; one ending in three dots is the beginning of several.
fn is_scene(script: &str, title: &str) -> bool {
    let words = ["scene ", "with ", "build ", "build_c "];
    let lines = script.lines().filter_map(|line| words.iter().find_map(|word| line.trim_start().strip_prefix(word)));
    let titles = lines.filter_map(|rest| {
        let mark = rest.chars().next().filter(|mark| "'\"".contains(*mark))?;
        quoted(rest, mark).next()
    });
    titles.into_iter().any(|there| match title.strip_suffix("...") {
        Some(beginning) => there.starts_with(beginning),
        None => fits(there, title),
    })
}

/// Whether a title is the one that is there, in which a `$variable` may be anything.
fn fits(there: &str, title: &str) -> bool {
    match there.split_once('$') {
        None => there == title,
        Some((beginning, rest)) => {
            let end = rest.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || c == '_');
            title.starts_with(beginning) && title.len() > there.len() - rest.len() && title.ends_with(end)
        }
    }
}

#[test]
fn every_test_and_scene_that_the_index_names_is_there() {
    let sections = sections();
    let named = sections.iter().flat_map(|section| quoted(section, '`')).filter(|name| name.contains("::"));
    let wrong: Vec<&str> = named
        .filter(|name| match name.strip_prefix("differential::") {
            Some(rest) => {
                let (script, titles) = rest.split_once(',').unwrap_or((rest, ""));
                let script = read(&format!("tests/differential/scripts/{script}.sh"));
                !script.is_some_and(|script| quoted(titles, '"').all(|title| is_scene(&script, title)))
            }
            None => !is_test(name),
        })
        .collect();
    assert!(wrong.is_empty(), "tests/contract.md names what is not there: {wrong:#?}");
}

#[test]
fn every_test_that_security_md_names_is_there() {
    let text = read("SECURITY.md").expect("SECURITY.md");
    let named: Vec<&str> = quoted(&text, '`').filter(|name| name.contains("::") && !name.ends_with("::x")).collect();
    let wrong: Vec<&&str> = named.iter().filter(|name| !is_test(name)).collect();
    assert!(named.len() > 20 && wrong.is_empty(), "SECURITY.md names what is not there: {wrong:#?}");
    // A promise is a paragraph that begins in bold.
    let promised = text.split("\n## ").find(|section| section.starts_with("What is promised")).unwrap_or_default();
    let without: Vec<&str> = promised.split("\n\n").skip(1).filter(|promise| !promise.contains("::")).collect();
    assert!(without.is_empty(), "promises without a test: {without:#?}");
}

#[test]
fn every_section_of_the_contract_is_in_the_index_and_no_statement_without_a_test() {
    let sections = sections();
    assert_eq!(sections.len(), 16);
    for (number, section) in (1..).zip(&sections) {
        assert!(section.starts_with(&format!("{number}. ")), "the heading of section {number}: {section}");
        for statement in section.split("\n- ").skip(1) {
            let is_shown = statement.contains("::") || statement.starts_with("No test: ");
            assert!(is_shown, "section {number} has a statement without a test: {statement}");
        }
    }
}
