// SPDX-License-Identifier: GPL-2.0-or-later
//! What is remembered of trees, so that they need not be read again.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::tree::{Summary, Tree};
use crate::system::directories::by_age;
use crate::system::scratch;

/// How old a change must be to be sure that none came after it with the same time.
const SETTLED: Duration = Duration::from_secs(2);

/// How many trees are remembered.
const MOST_NOTES: usize = 512;

/// Remembers what trees hold, for as long as stat(2) says the same of their files. Of each tree there is one note.
#[derive(Debug, Clone)]
pub struct Notes {
    dir: Option<PathBuf>,
}

impl Notes {
    /// One that keeps its notes in `dir`, which need not exist; without, it remembers nothing.
    pub fn new(dir: Option<PathBuf>) -> Self {
        Self { dir }
    }

    /// What a tree holds, read only if it is not known. `part` says of each name whether it belongs to
    /// its part, and whether what is in the file does; of one tree always the same.
    pub fn summary(&self, tree: &Tree, part: impl Fn(&Path) -> Option<bool>) -> io::Result<Summary> {
        let Some(dir) = &self.dir else {
            return Ok(tree.summary(part)?.0);
        };
        let note = dir.join(tree.place());
        if let Some((signature, summary)) = fs::read_to_string(&note).ok().as_deref().and_then(parse) {
            if tree.signature()?.finish().0 == signature {
                return Ok(summary);
            }
        }
        let looked = SystemTime::now();
        let (summary, signature) = tree.summary(part)?;
        let (signature, changed) = signature.finish();
        if looked.duration_since(changed).is_ok_and(|age| age > SETTLED) {
            let text = [&signature, &summary.content, &summary.part].map(String::as_str);
            // Whoever cannot remember reads again.
            let kept = scratch::write(dir.parent().unwrap_or(dir), &note, text.join("\n").as_bytes());
            kept.unwrap_or_else(|error| log::info!("{error}"));
            forget_oldest(dir);
        }
        Ok(summary)
    }

    /// The digest of one file's content; of none where there is no such file.
    pub fn file(&self, file: &Path) -> io::Result<String> {
        let mut tree = Tree::default();
        match fs::canonicalize(file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            real => tree.add(&real?, "file"),
        }
        Ok(self.summary(&tree, |_| None)?.content)
    }
}

/// What a note says: a signature and what was seen then. What was cut off or has something else than digests is not
/// believed.
fn parse(note: &str) -> Option<(String, Summary)> {
    let is_digest = |line: &str| line.len() == 64 && line.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !note.lines().all(is_digest) {
        return None;
    }
    let mut lines = note.lines().map(str::to_owned);
    let found = (lines.next()?, Summary { content: lines.next()?, part: lines.next()? });
    lines.next().is_none().then_some(found)
}

fn forget_oldest(dir: &Path) {
    let notes = by_age(dir);
    for note in notes.iter().take(notes.len().saturating_sub(MOST_NOTES)) {
        let _ = fs::remove_file(note);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_are_believed_only_for_files_that_did_not_change() -> io::Result<()> {
        let dir = tempfile::tempdir()?;
        let (file, place) = (dir.path().join("f"), dir.path().join("notes"));
        fs::write(&file, "one")?;
        let notes = Notes::new(Some(place.clone()));
        let one = notes.file(&file)?;
        // Just written: nothing is remembered, for it could change again unseen.
        assert!(!place.exists());
        std::thread::sleep(SETTLED + Duration::from_millis(1100));
        assert_eq!(notes.file(&file)?, one);
        let note = fs::read_dir(&place)?.next().expect("a note")?.path();
        let text = fs::read_to_string(&note)?;
        let (signature, other) = (text.lines().next().expect("a line"), "f".repeat(64));
        fs::write(&note, text.replace(&one, &other))?;
        assert_eq!(notes.file(&file)?, other, "read from the note");
        for wrong in [
            "cut off".to_owned(),
            signature.to_owned(),
            format!("{signature}\nx{}", &other[1..]),
            format!("{other}\n{other}"),
            [signature, &other].join("\n"),
            [signature, &other, &other, &other].join("\n"),
        ] {
            fs::write(&note, &wrong)?;
            assert_eq!(notes.file(&file)?, one, "{wrong}");
            assert_eq!(fs::read_to_string(&note)?, text, "the note is right again");
        }
        fs::write(&file, "two")?;
        assert_ne!(notes.file(&file)?, one);
        assert_eq!(fs::read_dir(&place)?.count(), 1, "one note, whatever the file holds");
        Ok(())
    }
}
