// SPDX-License-Identifier: GPL-2.0-or-later
//! How much of the machine a command may take.

use super::*;

fn limited(limits: Limits) -> Sandbox {
    Sandbox { limits, ..view(vec![]) }
}

#[test]
fn memory_of_a_process_is_limited() -> io::Result<()> {
    place()?;
    let view = limited(Limits { memory: Some(64 << 20), ..Limits::default() });
    let hog = |mib: u32| format!("perl -e 'my $x = \"x\" x ({mib} << 20); print length $x' 2>/dev/null");
    for isolation in ALL {
        assert_eq!(run(isolation, &view, &hog(8))?, (0, (8 << 20).to_string()), "{isolation:?}");
        assert_ne!(run(isolation, &view, &hog(80))?.0, 0, "{isolation:?}");
    }
    Ok(())
}

#[test]
fn processes_of_the_user_are_limited() -> io::Result<()> {
    place()?;
    let view = limited(Limits { processes: Some(40), ..Limits::default() });
    // A shell would try again for a quarter of a minute.
    let script = r#"for (1..100) { defined(my $it = fork) or last; $it or exec "sleep", "1000"; $n++ } print $n"#;
    for isolation in ALL {
        let (_, text) = run(isolation, &view, &format!("perl -e '{script}'"))?;
        let running: usize = text.parse().unwrap_or(100);
        assert!((1..40).contains(&running), "{isolation:?}: {text}");
    }
    Ok(())
}

#[test]
fn a_command_that_takes_too_long_is_ended_with_all_it_started() -> io::Result<()> {
    place()?;
    let view = limited(Limits { time: Some(Duration::from_millis(500)), ..Limits::default() });
    for (n, isolation) in ALL.into_iter().enumerate() {
        let mark = format!("{}.{n}", 60_000 + std::process::id() % 1000);
        let (code, _) = run(isolation, &view, &format!("trap '' TERM XCPU; setsid sleep {mark} & sleep {mark}"))?;
        assert_eq!((code, overstepped(code)), (152, Some(Limit::Time)), "{isolation:?}");
        assert!(!alive(&mark), "{isolation:?}");
    }
    Ok(())
}

/// On a file system of its own, which goes with the mount namespace that a shell makes for this test.
#[test]
fn a_disk_keeps_what_is_reserved() -> io::Result<()> {
    let dir = place()?;
    let words = inner(dir.path(), module_path!(), "inner_disk")?;
    let script = format!("mount -t tmpfs -o size=32m x /mnt && {}", words.join(" "));
    let output = Command::new("unshare").args(["--mount", "sh", "-c", &script]).output()?;
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
    Ok(())
}

#[test]
#[ignore = "run by a_disk_keeps_what_is_reserved"]
fn inner_disk() -> io::Result<()> {
    let mnt = Path::new("/mnt");
    own(mnt)?;
    let free = || rustix::fs::statvfs(mnt).map(|stat| stat.f_bavail * stat.f_frsize);
    let at = |at: &str, disk_reserve| {
        let mounts = vec![Mount::Bind { from: mnt.into(), at: at.into(), writable: true }];
        Sandbox { limits: Limits { disk_reserve, ..Limits::default() }, ..view(mounts) }
    };
    let view = |disk_reserve| at("/mnt", disk_reserve);
    // A writer that stops before the last megabyte, and stays.
    let script = "head -c 31M /dev/zero >/mnt/file; sleep 60000";
    for isolation in ALL {
        let (code, text) = run(isolation, &view(4 << 20), script)?;
        assert_eq!((code, overstepped(code)), (153, Some(Limit::Disk)), "{isolation:?}: {text}");
        fs::remove_file(mnt.join("file"))?;
    }
    // Who fills it is who is ended, and not who is there, too; but where it stays full, everybody is.
    let other = mnt.join("other");
    fs::create_dir(&other)?;
    own(&other)?;
    let beside = |seconds: &str| {
        let mounts = vec![Mount::Bind { from: other.clone(), at: "/srv".into(), writable: true }];
        let little = Sandbox { limits: Limits { disk_reserve: 4 << 20, ..Limits::default() }, ..self::view(mounts) };
        run(Isolation::Namespaces, &little, &format!("head -c 1M /dev/zero >/srv/file; sleep {seconds}"))
    };
    let full = std::thread::scope(|scope| {
        let innocent = scope.spawn(|| beside("2"));
        std::thread::sleep(std::time::Duration::from_millis(300));
        let (code, _) = run(Isolation::Namespaces, &view(4 << 20), script)?;
        fs::remove_file(mnt.join("file"))?;
        assert_eq!(code, 153);
        innocent.join().expect("it ended")
    })?;
    assert_eq!(full.0, 0, "{}", full.1);
    std::thread::scope(|scope| {
        let innocent = scope.spawn(|| beside("60000"));
        std::thread::sleep(std::time::Duration::from_millis(300));
        fs::write(mnt.join("file"), vec![0; (30 << 20) + (700 << 10)])?;
        assert_eq!(innocent.join().expect("it ended")?.0, 153);
        fs::remove_file(mnt.join("file"))
    })?;
    fs::remove_dir_all(&other)?;
    // What lies at its place outside is another one, with other room.
    fs::write(mnt.join("before"), vec![0; 24 << 20])?;
    for _ in 0..5 {
        assert_eq!(run(Isolation::Namespaces, &at("/srv", 16 << 20), "sleep 0.3")?.0, 0);
    }
    fs::remove_file(mnt.join("before"))?;
    // A small file system is nobody else's; and half of what is free may always be taken.
    for (reserve, taken) in [(16 << 20, "31M"), (8 << 20, "4M")] {
        fs::write(mnt.join("before"), vec![0; if taken == "4M" { 22 << 20 } else { 0 }])?;
        let script = format!("head -c {taken} /dev/zero >/mnt/file && sleep 0.5");
        assert_eq!(run(Isolation::Namespaces, &view(reserve), &script)?.0, 0, "{taken}, {} left", free()?);
        fs::remove_file(mnt.join("file"))?;
    }
    Ok(())
}

#[test]
fn shared_memory_is_little_and_goes_with_the_sandbox() -> io::Result<()> {
    place()?;
    let script = "head -c 100M /dev/zero >/dev/shm/x 2>/dev/null; stat -c %s /dev/shm/x";
    assert_eq!(run(Isolation::Namespaces, &view(vec![]), script)?, (0, (64 << 20).to_string()));
    Ok(())
}

#[test]
fn it_is_the_first_to_go_when_memory_runs_out_and_leaves_no_core() -> io::Result<()> {
    place()?;
    for isolation in ALL {
        let script = "(echo 0 >/proc/self/oom_score_adj) 2>/dev/null; cat /proc/self/oom_score_adj; ulimit -c -H";
        assert_eq!(run(isolation, &view(vec![]), script)?, (0, "1000\n0".into()), "{isolation:?}");
    }
    Ok(())
}
