// SPDX-License-Identifier: GPL-2.0-or-later
//! Two builders, and what stands between them.

use super::*;
use crate::system::remote::Upstream;
use std::collections::BTreeMap;
use std::os::unix::fs::symlink;

/// One that keeps everything, and notes what is asked.
#[derive(Debug, Default, Clone)]
struct Shelves(Arc<Mutex<Kept>>);

#[derive(Debug, Default)]
struct Kept {
    things: BTreeMap<String, Vec<u8>>,
    asked: Vec<String>,
}

impl Upstream for Shelves {
    fn get(&self, owner: &str, name: &str, _: Instant) -> io::Result<Option<Vec<u8>>> {
        let mut shelves = hold(&self.0);
        shelves.asked.push(format!("get {name}"));
        Ok(shelves.things.get(&format!("{owner} {name}")).cloned())
    }

    fn put(&self, owner: &str, name: &str, bytes: &[u8], _: Instant) -> io::Result<()> {
        let mut shelves = hold(&self.0);
        shelves.asked.push(format!("put {name}"));
        shelves.things.insert(format!("{owner} {name}"), bytes.to_vec());
        Ok(())
    }
}

impl Shelves {
    fn remote(&self) -> Arc<Remote> {
        Arc::new(Remote::over("the shelves".into(), Box::new(self.clone())))
    }

    /// What was asked since it was asked last.
    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut hold(&self.0).asked)
    }
}

const OBJECT: &str = "ab0123456789abcdefghijR";
const MANIFEST: &str = "cd0123456789abcdefghijM";

/// Writes one as ccache would, in two levels.
fn write(shelf: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let dir = shelf.join(&name[..1]).join(&name[1..2]);
    fs::create_dir_all(&dir)?;
    fs::write(dir.join(&name[2..]), bytes)
}

fn begin(shelves: &Shelves, owner: &str, caches: &Path, shelf: &str) -> io::Result<Exchange> {
    let shelf = caches.join(shelf);
    fs::create_dir_all(&shelf)?;
    let begun = Exchange::begin(&shelves.remote(), caches, owner, "list".into(), &shelf)?;
    begun.ok_or_else(|| io::Error::other("nothing was begun"))
}

fn found(exchange: &Exchange, name: &str) -> Option<Vec<u8>> {
    fs::read(exchange.objects().join(&name[..2]).join(&name[2..name.len() - 1])).ok()
}

#[test]
fn what_one_builder_made_another_has_and_no_other_package() -> io::Result<()> {
    let (shelves, dir) = (Shelves::default(), tempfile::tempdir()?);
    let first = begin(&shelves, "module", dir.path(), "one")?;
    write(&dir.path().join("one"), OBJECT, b"object")?;
    write(&dir.path().join("one"), MANIFEST, b"manifest")?;
    first.give();
    let second = begin(&shelves, "module", dir.path(), "two")?;
    assert_eq!(found(&second, OBJECT).as_deref(), Some(&b"object"[..]));
    assert_eq!(found(&second, MANIFEST).as_deref(), Some(&b"manifest"[..]));
    let place = second.objects().to_owned();
    second.give();
    assert!(!place.exists());
    let other = begin(&shelves, "other", dir.path(), "three")?;
    assert_eq!((found(&other, OBJECT), found(&other, MANIFEST)), (None, None));
    Ok(())
}

#[test]
fn nothing_goes_either_way_that_is_there_already() -> io::Result<()> {
    let (shelves, dir) = (Shelves::default(), tempfile::tempdir()?);
    let shelf = dir.path().join("one");
    let first = begin(&shelves, "module", dir.path(), "one")?;
    write(&shelf, OBJECT, b"object")?;
    write(&shelf, MANIFEST, b"manifest")?;
    first.give();
    shelves.asked();
    // A manifest is looked at, for it may have become more.
    begin(&shelves, "module", dir.path(), "one")?.give();
    assert_eq!(shelves.asked(), ["get list", &format!("get {MANIFEST}"), "get list"]);
    let third = begin(&shelves, "module", dir.path(), "one")?;
    write(&shelf, MANIFEST, b"manifest, longer")?;
    third.give();
    let asked = shelves.asked();
    assert_eq!(asked[3..], [format!("put {MANIFEST}"), "get list".into(), "put list".into()]);
    // What the server lost is given again.
    hold(&shelves.0).things.remove(&format!("module {OBJECT}"));
    let fourth = begin(&shelves, "module", dir.path(), "two")?;
    write(&dir.path().join("two"), OBJECT, b"object")?;
    fourth.give();
    assert!(shelves.asked().contains(&format!("put {OBJECT}")));
    Ok(())
}

#[test]
fn only_objects_are_given_and_no_link_is_followed() -> io::Result<()> {
    let (shelves, dir) = (Shelves::default(), tempfile::tempdir()?);
    let shelf = dir.path().join("one");
    let exchange = begin(&shelves, "module", dir.path(), "one")?;
    fs::write(dir.path().join("secret"), "secret")?;
    let name = |letter: &str| format!("ab{}R", letter.repeat(20));
    write(&shelf, &name("0"), b"object")?;
    let at = |name: &str| shelf.join("a/b").join(name);
    symlink(dir.path().join("secret"), at(&name("1")[2..]))?;
    fs::create_dir(at(&name("2")[2..]))?;
    fs::create_dir_all(dir.path().join("elsewhere/b"))?;
    fs::write(dir.path().join("elsewhere/b").join(&name("3")[2..]), "secret")?;
    symlink(dir.path().join("elsewhere"), shelf.join("c"))?;
    for other in ["stats", "CACHEDIR.TAG", "listR", &format!("{}X", "0".repeat(20)), &format!("{}-R", "0".repeat(20))] {
        fs::write(at(other), "not this")?;
    }
    exchange.give();
    let kept: Vec<String> = hold(&shelves.0).things.keys().cloned().collect();
    assert_eq!(kept, [format!("module {}", name("0")), "module list".to_owned()]);
    Ok(())
}

#[test]
fn a_list_of_anything_brings_objects_only() -> io::Result<()> {
    let (shelves, dir) = (Shelves::default(), tempfile::tempdir()?);
    let many = "0\n".repeat(100_000);
    let list = format!(
        "../../etc/passwdR\n\nR\n\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}R\nlist\n{many}{OBJECT}\n"
    );
    hold(&shelves.0).things.insert("module list".into(), [list.as_bytes(), b"\xff\0\n"].concat());
    hold(&shelves.0).things.insert(format!("module {OBJECT}"), b"object".to_vec());
    let exchange = begin(&shelves, "module", dir.path(), "one")?;
    assert_eq!(found(&exchange, OBJECT).as_deref(), Some(&b"object"[..]));
    assert_eq!(shelves.asked(), ["get list", &format!("get {OBJECT}")]);
    Ok(())
}

/// One that never answers, and how often it was asked.
#[derive(Debug, Default, Clone)]
struct Silence(Arc<Mutex<u32>>);

impl Upstream for Silence {
    fn get(&self, _: &str, _: &str, _: Instant) -> io::Result<Option<Vec<u8>>> {
        *hold(&self.0) += 1;
        loop {
            thread::park();
        }
    }

    fn put(&self, _: &str, _: &str, _: &[u8], _: Instant) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn one_that_hangs_is_waited_for_once() -> io::Result<()> {
    let dir = tempfile::tempdir()?;
    let silence = Silence::default();
    let remote = Arc::new(Remote::over("silence".into(), Box::new(silence.clone())));
    let begin = || Exchange::begin(&remote, dir.path(), "module", "list".into(), dir.path());
    for _ in 0..5 {
        assert!(begin()?.is_none());
    }
    assert_eq!(*hold(&silence.0), 1);
    assert_eq!(remote.why_not().as_deref(), Some("silence is not used: it does not answer"));
    assert_eq!(fs::read_dir(dir.path())?.count(), 0, "something is left");
    Ok(())
}

#[test]
fn a_list_begins_with_what_was_used_last_and_has_an_end() {
    let names = |range: std::ops::Range<u32>| range.map(|number| format!("{number:020}R")).collect::<Vec<_>>();
    let merge = |used: &[String], before: &[String]| merged(used.iter(), before);
    assert_eq!(merge(&names(2..4), &names(0..3)), [names(2..4), names(0..2)].concat().join("\n") + "\n");
    let full = merge(&names(0..10), &names(5..100_000));
    assert_eq!(full.lines().count(), MOST_NAMES);
    assert!(full.starts_with(&names(0..10)[0]));
}
