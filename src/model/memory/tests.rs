// SPDX-License-Identifier: GPL-2.0-or-later

use std::fs::{self, File, FileTimes};
use std::io;
use std::os::unix::fs::PermissionsExt;

use super::*;

/// A memory that believes the user who runs the tests, and writes below `dir`.
fn memory(dir: &Path) -> Memory {
    Memory { writer: rustix::process::geteuid().as_raw(), ..Memory::new(dir, true) }
}

fn values(value: &str) -> Values {
    let mut values = Values::default();
    values.set("MAKE", 0, value);
    values.set("PATCH", 7, "");
    values
}

/// Waits until what was written just now counts as settled.
fn settle() {
    std::thread::sleep(SETTLED + Duration::from_millis(100));
}

#[test]
fn what_a_conf_said_is_known_by_its_key_alone() -> io::Result<()> {
    let dir = tempfile::tempdir()?;
    let id = Id::new("hello", "1");
    let first = memory(dir.path());
    assert_eq!(first.values(&id, b"a"), None);
    first.remember_values(&id, b"a", &values("make a\n\tb"));
    first.remember_values(&id, b"b", &values("make b"));
    // What could be taken for the end of a value is not kept.
    first.remember_values(&id, b"c", &values("a\x1eb"));
    first.save();
    let second = memory(dir.path());
    assert_eq!(second.values(&id, b"a"), Some(values("make a\n\tb")));
    assert_eq!(second.values(&id, b"b"), Some(values("make b")));
    assert_eq!((second.values(&id, b"c"), second.values(&id, b"")), (None, None));
    assert_eq!(second.values(&Id::new("hello", "2"), b"a"), None);
    let mode = fs::metadata(dir.path().join("known/hello/1"))?.permissions().mode();
    assert_eq!(mode & 0o777, 0o644);
    second.forget(&id);
    assert_eq!(second.values(&id, b"a"), None);
    assert_eq!(fs::read_dir(dir.path().join("known"))?.count(), 0, "nothing is left of it");
    // Nothing leads out of the directory.
    second.remember_values(&Id::new("..", ".."), b"a", &values("x"));
    second.save();
    assert_eq!(fs::read_dir(dir.path())?.count(), 1);
    Ok(())
}

#[test]
fn damaged_files_and_those_of_others_say_nothing() -> io::Result<()> {
    let dir = tempfile::tempdir()?;
    let (id, file) = (Id::new("hello", "1"), dir.path().join("known/hello/1"));
    let first = memory(dir.path());
    first.remember_values(&id, b"key", &values("make"));
    first.save();
    let whole = fs::read(&file)?;
    let known = || memory(dir.path()).values(&id, b"key").is_some();
    assert!(known());
    for index in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[index] ^= 1;
        fs::write(&file, &damaged)?;
        assert!(!known(), "byte {index} is another one");
        fs::write(&file, &whole[..index])?;
        assert!(!known(), "cut off after {index}");
    }
    fs::write(&file, &whole)?;
    assert!(known());
    fs::set_permissions(&file, fs::Permissions::from_mode(0o664))?;
    assert!(!known(), "somebody else can write it");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644))?;
    let other = Memory { writer: u32::MAX, ..Memory::new(dir.path(), false) };
    assert_eq!(other.values(&id, b"key"), None);
    // One that is damaged is written anew.
    fs::write(&file, "")?;
    let again = memory(dir.path());
    again.remember_values(&id, b"key", &values("make"));
    again.save();
    assert!(known());
    Ok(())
}

#[test]
fn only_root_writes() -> io::Result<()> {
    let dir = tempfile::tempdir()?;
    let id = Id::new("hello", "1");
    let reader = Memory { writable: false, ..memory(dir.path()) };
    reader.remember_values(&id, b"key", &values("make"));
    reader.of_names(dir.path(), |_| String::new());
    reader.save();
    assert_eq!(fs::read_dir(dir.path())?.count(), 0);
    // A place where nothing can be written is no error.
    fs::write(dir.path().join("known"), "")?;
    let nowhere = memory(dir.path());
    nowhere.remember_values(&id, b"key", &values("make"));
    nowhere.save();
    assert_eq!(nowhere.values(&id, b"key"), None);
    Ok(())
}

#[test]
fn confs_of_old_go_when_they_are_too_many() -> io::Result<()> {
    let dir = tempfile::tempdir()?;
    let id = Id::new("hello", "1");
    let add = |keys: std::ops::Range<usize>| {
        let memory = memory(dir.path());
        keys.for_each(|key| memory.remember_values(&id, key.to_string().as_bytes(), &values("make")));
        memory.save();
    };
    add(0..KEPT);
    add(KEPT..KEPT + 2);
    let memory = memory(dir.path());
    let known = |key: usize| memory.values(&id, key.to_string().as_bytes()).is_some();
    assert_eq!((0..KEPT + 2).filter(|&key| known(key)).count(), KEPT);
    assert!(known(KEPT) && known(KEPT + 1));
    Ok(())
}

#[test]
fn equal_files_are_read_again_when_one_looks_different() -> io::Result<()> {
    let dir = tempfile::tempdir()?;
    let (id, a, b) = (Id::new("hello", "1"), dir.path().join("a"), dir.path().join("b"));
    fs::write(&a, "module")?;
    fs::write(&b, "module")?;
    let is_same = || {
        let memory = memory(dir.path());
        let same = memory.is_same(&id, &a, &b);
        memory.save();
        (same, dir.path().join("known/hello/1").exists())
    };
    settle();
    assert_eq!(is_same(), (true, true));
    assert_eq!(is_same(), (true, true));
    // Of the same size, and as old as before: what tells is the time of the change itself.
    let times = FileTimes::new().set_modified(fs::metadata(&b)?.modified()?);
    fs::write(&b, "modulf")?;
    File::options().write(true).open(&b)?.set_times(times)?;
    assert_eq!(is_same(), (false, true));
    fs::write(&b, "module")?;
    assert_eq!(is_same(), (true, true));
    // Another file by this name.
    fs::write(dir.path().join("c"), "modulf")?;
    fs::rename(dir.path().join("c"), &b)?;
    assert!(!is_same().0);
    fs::remove_file(&b)?;
    assert!(!is_same().0);
    // A link is as good as what it leads to.
    std::os::unix::fs::symlink(&a, &b)?;
    assert!(is_same().0);
    Ok(())
}

#[test]
fn what_changed_just_now_may_change_again_without_looking_different() -> io::Result<()> {
    let dir = tempfile::tempdir()?;
    let look = look(dir.path()).ok_or(io::ErrorKind::NotFound)?;
    for (seconds, settled) in [(0, false), (1, false), (2, false), (3, true), (3600, true)] {
        assert_eq!(look.is_settled_at(look.changed + Duration::from_secs(seconds)), settled, "{seconds}");
    }
    assert!(!look.is_settled_at(look.changed - Duration::from_secs(10)), "the clock was set back");
    Ok(())
}

#[test]
fn names_are_looked_at_again_when_a_directory_looks_different() -> io::Result<()> {
    let dir = tempfile::tempdir()?;
    let (cache, top) = (dir.path().join("cache"), dir.path().join("6.1"));
    fs::create_dir_all(top.join("a/b"))?;
    let memory = memory(&cache);
    let mut asked = 0;
    let mut ask = || {
        let before = asked;
        let dirs = [top.clone(), top.join("a"), top.join("a/b")];
        memory.of_names(&top, |visited| {
            dirs.iter().for_each(|dir| visited.add(dir));
            asked += 1;
            ".xz".into()
        });
        asked > before
    };
    settle();
    assert!(ask() && !ask() && !ask());
    fs::write(top.join("a/b/new"), "")?;
    assert!(ask());
    settle();
    ask();
    assert!(!ask());
    fs::remove_file(top.join("a/b/new"))?;
    assert!(ask());
    fs::remove_dir(top.join("a/b"))?;
    assert!(ask());
    // Another place with a kernel of that name is not this one.
    fs::create_dir_all(dir.path().join("other/6.1"))?;
    assert_eq!(memory.of_names(&dir.path().join("other/6.1"), |_| String::new()), "");
    Ok(())
}
