// SPDX-License-Identifier: GPL-2.0-or-later
//! Where things appear.

use super::*;

#[test]
fn places_are_made_in_empty_directories() -> io::Result<()> {
    let dir = place()?;
    let (tree, file) = (dir.path().join("tree"), dir.path().join("one"));
    fs::create_dir(&tree)?;
    fs::write(tree.join("a"), "tree")?;
    fs::write(&file, "file")?;
    own(&tree)?;
    let at = |path: &str| PathBuf::from(path);
    let view = Sandbox {
        cwd: at("/usr/src/some/where"),
        ..view(vec![
            Mount::Empty { at: at("/usr/src") },
            Mount::Dir { at: at("/usr/src/deep/er") },
            Mount::Bind { from: tree.clone(), at: at("/usr/src/some/where/tree"), writable: true },
            Mount::Bind { from: file, at: at("/usr/src/one"), writable: false },
            Mount::Link { at: at("/usr/src/links/l"), target: at("/usr/src/one") },
            Mount::Empty { at: at("/usr/src/again") },
        ])
    };
    let script = "ls -A /usr/src; stat -c %a /usr/src /usr/src/deep/er; cat tree/a /usr/src/links/l; echo x > tree/b; touch /usr/src/n /usr/src/again/n";
    let (code, text) = run(Isolation::Namespaces, &view, script)?;
    let expected = "again\ndeep\nlinks\none\nsome\n755\n755\ntreefiletouch: cannot touch '/usr/src/n': Read-only file system\ntouch: cannot touch '/usr/src/again/n': Read-only file system";
    assert_eq!((code, text.as_str()), (1, expected));
    assert_eq!(fs::read_to_string(tree.join("b"))?, "x\n");
    // Root without privileges cannot write there either.
    let root = Sandbox { user: None, ..view };
    assert_ne!(run(Isolation::Namespaces, &root, "touch /usr/src/n")?.0, 0);
    Ok(())
}

#[test]
fn nothing_is_made_outside() -> io::Result<()> {
    let dir = place()?;
    let at = |path: &str| PathBuf::from(path);
    let tree = |at| Mount::Bind { from: dir.path().into(), at, writable: true };
    let empty = Mount::Empty { at: at("/usr/src") };
    for last in [tree(at("/usr/src/t/new")), Mount::Empty { at: at("/usr/src/t/new") }] {
        let mut command = shell("exit 0");
        view(vec![empty.clone(), tree(at("/usr/src/t")), last]).confine(Isolation::Namespaces, &mut command)?;
        assert_eq!(
            command.stderr(Stdio::null()).spawn().err().map(|error| error.kind()),
            Some(io::ErrorKind::NotFound)
        );
    }
    for last in [Mount::Dir { at: at("/mnt/d") }, Mount::Link { at: at("/mnt/d"), target: at("x") }] {
        let mounts = vec![empty.clone(), tree(at("/mnt")), last];
        assert!(view(mounts).confine(Isolation::Namespaces, &mut shell("")).is_err());
    }
    assert_eq!(fs::read_dir(dir.path())?.count(), 0);
    Ok(())
}

#[test]
fn places_are_found_through_links() -> io::Result<()> {
    let dir = place()?;
    for name in ["real", "private"] {
        fs::create_dir_all(dir.path().join(name).join("sub"))?;
        fs::write(dir.path().join(name).join("sub/name"), name)?;
    }
    symlink(dir.path().join("real"), dir.path().join("link"))?;
    let (link, private) = (dir.path().join("link"), dir.path().join("private"));
    for (from, at) in [(private.clone(), link.clone()), (private.join("sub"), link.join("sub"))] {
        let view = view(vec![Mount::Bind { from, at, writable: false }]);
        let script = format!("cat {0}/link/sub/name; echo; cat {0}/real/sub/name", dir.path().display());
        assert_eq!(run(Isolation::Namespaces, &view, &script)?, (0, "private\nprivate".into()));
    }
    Ok(())
}

#[test]
fn tmp_is_private() -> io::Result<()> {
    let dir = place()?;
    let tmp = dir.path().join("tmp");
    fs::create_dir(&tmp)?;
    fs::set_permissions(&tmp, Permissions::from_mode(0o1777))?;
    let work = TempDir::new_in("/tmp")?;
    own(work.path())?;
    let view = Sandbox { tmp: Some(tmp.clone()), cwd: work.path().into(), ..view(vec![bind(work.path(), true)]) };
    let script = "echo a > /tmp/a && cat /var/tmp/a && mktemp -u | cut -c-5 && echo b > b && pwd";
    let (code, text) = run(Isolation::Namespaces, &view, script)?;
    assert_eq!((code, text), (0, format!("a\n/tmp/\n{}", work.path().display())));
    assert_eq!(fs::read_to_string(tmp.join("a"))?, "a\n");
    assert!(!Path::new("/tmp/a").exists() && work.path().join("b").exists());
    // In place, without namespaces.
    assert_eq!(run(Isolation::Landlock, &view, "dirname $(mktemp)")?, (0, tmp.display().to_string()));
    assert_ne!(run(Isolation::Landlock, &view, "echo > /tmp/dkms-rs-landlock")?.0, 0);
    Ok(())
}

#[test]
fn the_working_directory_may_be_closed_to_the_user() -> io::Result<()> {
    let dir = place()?;
    let closed = dir.path().join("closed");
    fs::create_dir(&closed)?;
    fs::write(closed.join("file"), "text")?;
    fs::set_permissions(&closed, Permissions::from_mode(0o700))?;
    for isolation in ALL {
        let view = Sandbox { cwd: closed.clone(), ..view(vec![]) };
        let (code, text) = run(isolation, &view, "pwd; cat file; ls .; echo $?")?;
        let closed = closed.display();
        let refused = "cat: file: Permission denied\nls: cannot access '.': Permission denied";
        assert_eq!((code, text), (0, format!("{closed}\n{refused}\n2")), "{isolation:?}");
    }
    Ok(())
}

#[test]
fn binds_elsewhere_need_namespaces() -> io::Result<()> {
    let dir = place()?;
    let elsewhere = view(vec![Mount::Bind { from: dir.path().into(), at: "/mnt".into(), writable: false }]);
    assert!(elsewhere.confine(Isolation::Landlock, &mut shell("")).is_err());
    Ok(())
}

#[test]
fn a_closed_directory_shows_only_what_is_exposed() -> io::Result<()> {
    let dir = place()?;
    let closed = dir.path().join("closed");
    let tree = closed.join("a/b/tree");
    fs::create_dir_all(&tree)?;
    fs::write(tree.join("file"), "text")?;
    fs::write(closed.join("secret"), "text")?;
    let link = dir.path().join("link");
    symlink(&tree, &link)?;
    assert_eq!(expose(&tree, &USER), [], "nothing is closed yet");
    fs::set_permissions(&closed, Permissions::from_mode(0o750))?;
    assert_eq!(expose(&tree, &User { uid: 0, gid: 0 }), [], "root is never locked out");
    for path in [&tree, &link] {
        let script = format!("cat {}/file", path.display());
        assert_ne!(run(Isolation::Namespaces, &view(vec![]), &script)?.0, 0);
        let mounts = expose(path, &USER);
        assert_eq!(mounts.len(), 3);
        assert_eq!(run(Isolation::Namespaces, &view(mounts.clone()), &script)?, (0, "text".into()));
        let (_, text) = run(Isolation::Namespaces, &view(mounts), &format!("ls {}", closed.display()))?;
        assert_eq!(text, "a");
        // One after the other does not hide the first.
        let both = [expose(path, &USER), expose(&closed.join("secret"), &USER)].concat();
        let script = format!("{script}; cat {}/secret", closed.display());
        assert_eq!(run(Isolation::Namespaces, &view(both), &script)?, (0, "texttext".into()));
    }
    std::os::unix::fs::chown(&closed, None, Some(USER.gid))?;
    assert_eq!(expose(&tree, &USER), [], "the group may pass");
    std::os::unix::fs::chown(&closed, Some(USER.uid), None)?;
    fs::set_permissions(&closed, Permissions::from_mode(0o055))?;
    assert_eq!(expose(&tree, &USER).len(), 3, "the owner may not, although others may");
    // The closed directory is the parent.
    fs::set_permissions(&closed, Permissions::from_mode(0o700))?;
    own(dir.path())?;
    fs::set_permissions(dir.path(), Permissions::from_mode(0o700))?;
    let stranger = User { uid: 4244, gid: 4244 };
    let mounts = expose(&closed, &stranger);
    assert_eq!(mounts, [Mount::Empty { at: dir.path().into() }, bind(&closed, false)]);
    Ok(())
}

#[test]
fn what_is_hidden_can_be_shown() -> io::Result<()> {
    place()?;
    for hidden in ["/run", "/dev/shm"] {
        let dir = TempDir::new_in(hidden)?;
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755))?;
        let (work, file) = (dir.path().join("work"), dir.path().join("tree/file"));
        fs::create_dir_all(&work)?;
        fs::create_dir(dir.path().join("tree"))?;
        fs::write(&file, "text")?;
        // The working directory is there, with nothing in it.
        let bare = Sandbox { cwd: dir.path().into(), ..view(vec![]) };
        assert_eq!(run(Isolation::Namespaces, &bare, "pwd; ls -A")?, (0, dir.path().display().to_string()));
        let link = work.join("link");
        symlink(dir.path().join("tree"), &link)?;
        assert!(is_hidden(&file) && is_hidden(&link) && !is_hidden(Path::new("/running/shm")));
        for path in [&file, &file.parent().unwrap_or(&file).to_owned()] {
            let view = Sandbox { cwd: work.clone(), ..view(expose(path, &USER)) };
            let (code, text) = run(Isolation::Namespaces, &view, &format!("cat {0}; touch {0}", file.display()))?;
            assert!(code != 0 && text.starts_with("texttouch: "), "{text}");
        }
    }
    Ok(())
}
