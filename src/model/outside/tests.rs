// SPDX-License-Identifier: GPL-2.0-or-later
//! What counts outside of a source, and what does not.

use super::*;

#[test]
fn what_lies_outside_is_found_in_a_text() {
    let outside = Outside::new(Path::new("/var/lib/dkms"), "m");
    let paths = |text: &str| outside.paths_in(text.as_bytes()).collect::<Vec<_>>();
    assert_eq!(
        paths(
            "-include /etc/a.mk\nifneq ($(wildcard /data/b/x.h),)\nCF += -I/data/inc -L/usr/local/lib s/a/b/ a/etc/b"
        ),
        ["/etc/a.mk", "/data/b/x.h", "/data/inc", "/usr/local/lib", "/etc/b"].map(PathBuf::from)
    );
    assert_eq!(
        paths("/usr/src/a/b.mk:/usr/share/c /var/lib/d \"/usr/lib/firmware/e\" .incbin /lib/firmware/f /boot/g"),
        ["/usr/src/a/b.mk", "/usr/share/c", "/var/lib/d", "/usr/lib/firmware/e", "/lib/firmware/f", "/boot/g"]
            .map(PathBuf::from)
    );
    assert_eq!(
        paths("\tcp /usr/include/a.h /mnt/b /media/c .\ninclude /usr/lib/d.mk /lib/modules/$(V)/build"),
        ["/usr/include/a.h", "/mnt/b", "/media/c", "/usr/lib/d.mk", "/lib/modules", "/build"].map(PathBuf::from)
    );
    assert_eq!(
        paths("/var/lib/dkms/m/1/build /usr/src/../../var/lib/dkms/m /proc/version /tmp/a /var/lib/dkms/other/1/a"),
        [PathBuf::from("/var/lib/dkms/other/1/a")]
    );
}

#[test]
fn what_comes_and_goes_counts_where_it_is_a_file_that_is_named() {
    let outside = Outside::new(Path::new("/var/lib/dkms"), "m");
    for (path, file, dir) in [
        ("/data/a", true, true),
        ("/root/a", true, true),
        ("/lib/modules/6.1/a", true, false),
        ("/var/cache/a/b", true, false),
        ("/usr/bin/a", false, false),
        ("/var/lib/dpkg/status", false, false),
        ("/var/lib/dkms/other/1/source/a", true, false),
        ("/var/lib/dkms/mok.key", false, false),
        ("/var/lib/dkms/m/1/a", false, false),
        ("/run/a", false, false),
    ] {
        let path = Path::new(path);
        assert_eq!((!outside.is_passing_file(path), !outside.is_passing(path)), (file, dir), "{path:?}");
    }
}

#[test]
fn what_is_there_counts_by_what_it_holds() -> io::Result<()> {
    let dir = tempfile::tempdir()?;
    let place = dir.path().join("place");
    let tree = dir.path().join("tree");
    fs::create_dir_all(place.join("below"))?;
    fs::create_dir(&tree)?;
    let outside = Outside { unseen: &[], ..Outside::new(&tree, "m") };
    let state = |path: &Path| outside.state_of(path, &mut |_| {});
    let file = place.join("a");
    let mut last = [state(&file), state(&place)];
    for text in ["one", "two"] {
        fs::write(&file, text)?;
        let now = [state(&file), state(&place)];
        assert!(now[0] != last[0] && now[1] != last[1], "{text}");
        last = now;
    }
    rustix::fs::mknodat(rustix::fs::CWD, place.join("pipe"), rustix::fs::FileType::Fifo, 0o600.into(), 0)?;
    assert!(!state(&place.join("pipe")).is_empty(), "nobody waits for who writes to it");
    for name in ["b", "below/c"] {
        let before = state(&place);
        fs::write(place.join(name), "")?;
        assert_ne!(state(&place), before, "{name}");
    }
    // By a link, too.
    std::os::unix::fs::symlink(&tree, place.join("link"))?;
    assert_eq!(state(&place.join("link")), "something");
    Ok(())
}

#[test]
fn what_is_too_large_to_be_read_is_seen_to_change() -> io::Result<()> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("large");
    let file = fs::File::create(&path)?;
    file.set_len(LARGEST_READ + 1)?;
    let outside = Outside { unseen: &[], ..Outside::new(Path::new("/var/lib/dkms"), "m") };
    let state = || outside.state_of(&path, &mut |_| {});
    let (before, modified) = (state(), file.metadata()?.modified()?);
    std::thread::sleep(std::time::Duration::from_millis(20));
    file.set_modified(modified)?;
    assert_ne!(state(), before, "dated back");
    Ok(())
}

#[test]
fn who_else_is_installed_there_does_not_count() {
    let outside = Outside::new(Path::new("/var/lib/dkms"), "m");
    for dir in ["/usr/src", "/usr/share", "/var", "/var/lib", "/etc", "/usr/local", "/usr/share/doc"] {
        assert!(is_shared(Path::new(dir)), "{dir}");
        assert!(["directory", "nothing"].contains(&&*outside.state_of(Path::new(dir), &mut |_| {})), "{dir}");
    }
    for dir in ["/usr/local/include", "/opt/sdk", "/etc/sdk", "/data/sdk/include"] {
        assert!(!is_shared(Path::new(dir)), "{dir}");
    }
    // A path whose end is a variable's.
    let paths = outside.paths_in(b"/usr/src/linux-headers-$(V) /var/lib/$(X) /usr/src/$(V)");
    let states: Vec<_> = paths.map(|path| outside.state_of(&path, &mut |_| {})).collect();
    assert_eq!(states, ["nothing", "directory", "directory"]);
}

#[test]
fn what_included_files_name_counts_too() -> io::Result<()> {
    let dir = tempfile::tempdir_in("/tmp")?;
    let at = |name: &str| dir.path().join(name);
    let named = |name: &str| at(name).display().to_string();
    fs::write(at("a.mk"), format!("include {}\n", named("b.mk")))?;
    fs::write(at("b.mk"), format!("include {} {}\n", named("a.mk"), named("c.mk")))?;
    let follow = |name: &str| {
        let mut outside = Outside { unseen: &[], ..Outside::new(Path::new("/var/lib/dkms"), "m") };
        outside.add(named(name).as_bytes());
        outside.digest()
    };
    let before = follow("a.mk");
    fs::write(at("c.mk"), "X := 1\n")?;
    assert_ne!(follow("a.mk"), before);
    let before = follow("a.mk");
    fs::write(at("unnamed.mk"), "")?;
    assert_eq!(follow("a.mk"), before);
    // By a variable that an included file sets.
    fs::write(at("b.mk"), format!("DIR = {}\ninclude $(DIR)/d.mk\n", dir.path().display()))?;
    let before = follow("a.mk");
    fs::write(at("d.mk"), "X := 1\n")?;
    assert_ne!(follow("a.mk"), before);
    Ok(())
}

#[test]
fn what_comes_to_a_pattern_counts() -> io::Result<()> {
    let dir = tempfile::tempdir_in("/tmp")?;
    let at = |name: &str| dir.path().join(name);
    let digest = |pattern: &str| {
        let mut outside = Outside { unseen: &[], ..Outside::new(Path::new("/var/lib/dkms"), "m") };
        outside.add(format!("include $(wildcard {}/{pattern})", dir.path().display()).as_bytes());
        outside.digest()
    };
    fs::create_dir(at("sub"))?;
    for (pattern, name, is_seen) in [
        ("*.mk", "a.mk", true),
        ("*.mk", "b.c", false),
        ("s*/?.mk", "sub/a.mk", true),
        ("s*/?.mk", "sub/ab.mk", false),
        ("[a-c].in", "b.in", true),
    ] {
        let before = digest(pattern);
        fs::write(at(name), "one")?;
        let there = digest(pattern);
        fs::write(at(name), "two")?;
        // The directory before the first sign is named, too, where it is nobody else's.
        assert!(!is_seen || before != there && there != digest(pattern), "{pattern} {name}");
    }
    // Kernels come and go.
    let outside = Outside::new(Path::new("/var/lib/dkms"), "m");
    let pattern = Path::new("/usr/*/");
    assert!(outside.matches(pattern).is_empty(), "{:?}", outside.matches(pattern));
    Ok(())
}

#[test]
fn what_programs_may_read_counts_where_it_is_a_file() -> io::Result<()> {
    let dir = tempfile::tempdir_in("/tmp")?;
    let at = |name: &str| dir.path().join(name);
    fs::create_dir(at("dir"))?;
    let mut outside = Outside { unseen: &[], ..Outside::new(Path::new("/var/lib/dkms"), "m") };
    outside.add_files(format!("fopen(\"{}\"); // as in {}", at("a").display(), at("dir").display()).as_bytes());
    let before = outside.digest();
    fs::write(at("dir/b"), "")?;
    assert_eq!(outside.digest(), before);
    fs::write(at("a"), "")?;
    assert_ne!(outside.digest(), before);
    Ok(())
}
