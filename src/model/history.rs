// SPDX-License-Identifier: GPL-2.0-or-later
//! How long builds took: what takes longest is begun first, and people are told how long it will take.
//!
//! A file that may be deleted at any time. What cannot be read of it is forgotten.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::model::module::{Id, Target};
use crate::system::scratch;

/// The file's first line: the number is that of its format.
const HEAD: &str = "dkms-rs build times 1";

/// More builds than these are not remembered.
const MOST: usize = 2000;

/// No build takes a week: a record that says so is damaged.
const LONGEST: u64 = 7 * 24 * 3600 * 1000;

/// What is remembered, oldest first.
#[derive(Debug, Default)]
pub struct History {
    file: PathBuf,
    records: Vec<Record>,
    changed: bool,
}

#[derive(Debug, PartialEq, Eq)]
struct Record {
    milliseconds: u64,
    /// Of the kernel: `6.1`.
    series: String,
    id: Id,
}

impl History {
    /// What is known below the directory of caches.
    pub fn load(caches: &Path) -> Self {
        let file = caches.join("build-times");
        let text = fs::read(&file).unwrap_or_default();
        Self { records: parse(&String::from_utf8_lossy(&text)), file, changed: false }
    }

    /// How long a build took lately: of this version for this series of kernels, else of what is nearest to it.
    pub fn time(&self, id: &Id, target: &Target) -> Option<Duration> {
        let series = series(&target.release);
        let alike = |record: &&Record| {
            let (version, kernel) = (record.id.version == id.version, record.series == series);
            (record.id.name == id.name).then_some((version, kernel))
        };
        // Of those that are equally near the last one is the latest.
        let nearest = self.records.iter().filter(|record| alike(record).is_some()).max_by_key(|record| alike(record));
        nearest.map(|record| Duration::from_millis(record.milliseconds))
    }

    /// Remembers a build. One that found most of itself in the compile cache says little of the next, so longer ones before
    /// it count for a while.
    pub fn note(&mut self, id: &Id, target: &Target, took: Duration) {
        let series = series(&target.release);
        let is_same = |record: &Record| record.id == *id && record.series == series;
        let before = self.records.iter().position(is_same).map_or(0, |place| self.records.remove(place).milliseconds);
        let took = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        let milliseconds = took.max(before - before / 4);
        self.records.push(Record { milliseconds, series: series.to_owned(), id: id.clone() });
        self.changed = true;
    }

    /// Writes down what is new, in one step.
    pub fn save(&self) -> io::Result<()> {
        let Some(dir) = self.file.parent().filter(|_| self.changed) else { return Ok(()) };
        let surplus = self.records.len().saturating_sub(MOST);
        let mut text = format!("{HEAD}\n");
        for Record { milliseconds, series, id } in &self.records[surplus..] {
            text.push_str(&format!("{milliseconds} {series} {}/{}\n", id.name, id.version));
        }
        scratch::write(dir, &self.file, text.as_bytes())
    }
}

fn parse(text: &str) -> Vec<Record> {
    let Some(lines) = text.strip_prefix(HEAD) else { return Vec::new() };
    let record = |line: &str| {
        let mut fields = line.splitn(3, ' ');
        let milliseconds = fields.next()?.parse().ok().filter(|time| *time <= LONGEST)?;
        let series = fields.next()?.to_owned();
        let (name, version) = fields.next()?.split_once('/')?;
        let id = Id::new(name, version);
        id.is_sane().then_some(Record { milliseconds, series, id })
    };
    lines.lines().filter_map(record).collect()
}

/// The first two numbers of a release: within a series builds take the same time.
fn series(release: &str) -> &str {
    let end = release.match_indices(['.', '-']).nth(1).map_or(release.len(), |(at, _)| at);
    &release[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(release: &str) -> Target {
        Target::named(release, "x86_64", 0).expect("a kernel")
    }

    #[test]
    fn what_is_nearest_counts() {
        let dir = tempfile::tempdir().expect("a directory");
        let caches = dir.path().join("not/yet");
        let mut history = History::load(&caches);
        let note = |history: &mut History, version: &str, release: &str, seconds| {
            history.note(&Id::new("a", version), &target(release), Duration::from_secs(seconds));
        };
        note(&mut history, "1", "6.1.0-54-amd64", 9);
        note(&mut history, "1", "6.1.0-55-amd64", 2);
        note(&mut history, "1", "6.12.9-amd64", 3);
        note(&mut history, "2", "6.12.9-amd64", 4);
        history.save().expect("written");
        let history = History::load(&caches);
        for (name, version, release, expected) in [
            ("a", "1", "6.1.0-99-amd64", Some(6750)),
            ("a", "1", "6.12.0-1-amd64", Some(3000)),
            ("a", "1", "7.0", Some(3000)),
            ("a", "2", "6.1.0-54-amd64", Some(4000)),
            ("a", "3", "6.1.0-54-amd64", Some(6750)),
            ("a", "3", "5.10", Some(4000)),
            ("b", "1", "6.1.0-54-amd64", None),
        ] {
            let time = history.time(&Id::new(name, version), &target(release));
            assert_eq!(time, expected.map(Duration::from_millis), "{name} {version} {release}");
        }
        assert_eq!(fs::read_dir(&caches).expect("there").count(), 1, "nothing is left beside it");
    }

    #[test]
    fn damage_is_forgotten() {
        let good = format!("{HEAD}\n5 6.1 a b/1\n");
        for (text, expected) in [
            (good.as_str(), 1),
            ("5 6.1 a/1\n", 0),
            ("dkms-rs build times 2\n5 6.1 a/1\n", 0),
            (&format!("{HEAD}\n5 6.1\n6.1 5 a/1\n-5 6.1 a/1\n5 6.1 a/\n5 6.1 a/../..\n7 6.1 a/1\n\0"), 1),
            (&format!("{HEAD}\n{LONGEST} 6.1 a/1\n{} 6.1 b/1\n{} 6.1 c/1\n", LONGEST + 1, u64::MAX), 1),
            ("", 0),
        ] {
            assert_eq!(parse(text).len(), expected, "{text:?}");
        }
    }

    #[test]
    fn old_records_go() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut history = History::load(dir.path());
        for n in 0..MOST + 5 {
            history.note(&Id::new(format!("m{n}"), "1"), &target("6.1"), Duration::from_secs(1));
        }
        history.save().expect("written");
        let history = History::load(dir.path());
        assert_eq!(history.records.len(), MOST);
        assert_eq!(history.records[0].id.name, "m5");
    }
}
