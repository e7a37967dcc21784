// SPDX-License-Identifier: GPL-2.0-or-later
//! How a command starts and ends, and its streams.

use std::io::Read;

use super::*;

#[test]
fn nothing_outlives_the_command() -> io::Result<()> {
    place()?;
    for (n, isolation) in ALL.into_iter().enumerate() {
        let mark = format!("{}.{n}", 90_000 + std::process::id() % 1000);
        let script = format!(
            "sleep {mark} & setsid sleep {mark} & (trap '' TERM HUP; (setsid sh -c 'sleep {mark}; :' &) &); sleep 0.3; exit 5"
        );
        let start = Instant::now();
        assert_eq!(run(isolation, &view(vec![]), &script)?.0, 5);
        assert!(!alive(&mark), "{isolation:?}");
        assert!(start.elapsed() < Duration::from_secs(60));
    }
    Ok(())
}

#[test]
fn stop_ends_everything() -> io::Result<()> {
    place()?;
    for (n, isolation) in ALL.into_iter().enumerate() {
        let mark = format!("{}.{n}", 80_000 + std::process::id() % 1000);
        let mut command = shell(&format!("trap '' TERM; setsid sleep {mark} & sleep {mark}; sleep {mark}"));
        view(vec![]).confine(isolation, &mut command)?;
        let mut child = command.spawn()?;
        assert!(wait_until(|| alive(&mark)));
        stop(&child)?;
        assert_eq!(child.wait()?.signal(), Some(libc::SIGTERM));
        assert!(!alive(&mark), "{isolation:?}");
    }
    Ok(())
}

#[test]
fn it_ends_with_its_caller() -> io::Result<()> {
    let dir = place()?;
    let words = inner(dir.path(), module_path!(), "inner_caller")?;
    for isolation in ALL {
        let mark = format!("{}.{}", 70_000 + std::process::id() % 1000, isolation as u8);
        let mut caller = Command::new(&words[0])
            .args(&words[1..])
            .env("MARK", &mark)
            .env("ISOLATION", format!("{isolation:?}"))
            .stdout(Stdio::null())
            .spawn()?;
        assert!(wait_until(|| alive(&mark)), "{isolation:?} did not start");
        caller.kill()?;
        caller.wait()?;
        assert!(wait_until(|| !alive(&mark)), "{isolation:?} outlived its caller");
    }
    Ok(())
}

#[test]
#[ignore = "run by it_ends_with_its_caller"]
fn inner_caller() -> io::Result<()> {
    let wanted = std::env::var("ISOLATION").unwrap_or_default();
    let mark = std::env::var("MARK").unwrap_or_default();
    let isolation = ALL.into_iter().find(|isolation| format!("{isolation:?}") == wanted);
    let mut command = shell(&format!("setsid sleep {mark} & sleep {mark}; :"));
    view(vec![]).confine(isolation.unwrap_or(Isolation::None), &mut command)?;
    command.status().map(drop)
}

#[test]
fn exit_codes_and_signals_pass() -> io::Result<()> {
    place()?;
    for isolation in ALL {
        for (script, code) in [
            ("exit 0", 0),
            ("exit 7", 7),
            ("exit 255", 255),
            ("kill -TERM $$", 143),
            ("kill -9 $$", 137),
            ("kill -SEGV $$", 139),
            ("kill -USR1 $$; exit 3", 138),
        ] {
            assert_eq!(run(isolation, &view(vec![]), script)?.0, code, "{isolation:?}: {script}");
        }
    }
    Ok(())
}

#[test]
fn what_cannot_start_is_an_error_of_spawn() -> io::Result<()> {
    place()?;
    for isolation in ALL {
        let mut command = Command::new("/nonexistent/program");
        view(vec![]).confine(isolation, &mut command)?;
        assert_eq!(command.spawn().err().map(|error| error.kind()), Some(io::ErrorKind::NotFound), "{isolation:?}");
        let mut command = shell("exit 0");
        Sandbox { cwd: "/nonexistent".into(), ..view(vec![]) }.confine(isolation, &mut command)?;
        let error = command.stderr(Stdio::null()).spawn().err();
        assert_eq!(error.map(|error| error.kind()), Some(io::ErrorKind::NotFound), "{isolation:?}");
    }
    let missing = view(vec![bind(Path::new("/nonexistent"), false)]);
    assert!(missing.confine(Isolation::Namespaces, &mut shell("")).is_err());
    let relative = view(vec![bind(Path::new("etc"), false)]);
    assert!(relative.confine(Isolation::Namespaces, &mut shell("")).is_err());
    Ok(())
}

#[test]
fn a_failing_step_is_named() -> io::Result<()> {
    let dir = place()?;
    let log = dir.path().join("log");
    let mut command = shell("exit 0");
    let at = PathBuf::from("/etc/nothing/here");
    view(vec![Mount::Bind { from: dir.path().into(), at, writable: false }])
        .confine(Isolation::Namespaces, &mut command)?;
    assert!(command.stderr(fs::File::create(&log)?).spawn().is_err());
    assert_eq!(fs::read_to_string(&log)?, "dkms: sandbox: mount /etc/nothing/here: error 2\n");
    Ok(())
}

#[test]
fn streams_and_devices_work() -> io::Result<()> {
    place()?;
    for isolation in ALL {
        let mut command =
            shell("echo a > /dev/stderr; echo b > /dev/stdout; cat /dev/stdin > /dev/null; : < /dev/zero");
        view(vec![]).confine(isolation, &mut command)?;
        let output =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?.wait_with_output()?;
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(
            (text.trim(), output.stdout.as_slice(), output.status.code()),
            ("a", &b"b\n"[..], Some(0)),
            "{isolation:?}"
        );
    }
    Ok(())
}

#[test]
fn closed_streams_do_no_harm() -> io::Result<()> {
    place()?;
    for isolation in ALL {
        let mut command = shell("[ ! -e /proc/$$/fd/0 ] && [ ! -e /proc/$$/fd/2 ] && echo fine");
        sys::before_exec(command.stdin(Stdio::inherit()).stdout(Stdio::piped()), || {
            for stream in [0, 2] {
                // Closes one of the child's own streams.
                sys::close_one(stream);
            }
            Ok(())
        });
        view(vec![]).confine(isolation, &mut command)?;
        let output = command.spawn()?.wait_with_output()?;
        assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(0), &b"fine\n"[..]), "{isolation:?}");
    }
    Ok(())
}

#[test]
fn the_output_ends_with_the_command() -> io::Result<()> {
    place()?;
    for isolation in ALL {
        let mut command = shell("echo a; exec > /dev/null; sleep 60000");
        view(vec![]).confine(isolation, &mut command)?;
        let mut child = command.stdout(Stdio::piped()).spawn()?;
        let mut text = String::new();
        // Neither the guard nor process 1 holds the pipe.
        child.stdout.take().map(|mut pipe| pipe.read_to_string(&mut text)).transpose()?;
        assert_eq!(text, "a\n", "{isolation:?}");
        stop(&child)?;
        child.wait()?;
    }
    Ok(())
}

#[test]
fn many_at_once() -> io::Result<()> {
    let dir = place()?;
    let before = fs::read_to_string("/proc/self/mountinfo")?;
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|n| {
                let own_dir = dir.path().join(n.to_string());
                scope.spawn(move || -> io::Result<()> {
                    fs::create_dir(&own_dir)?;
                    own(&own_dir)?;
                    let place = Mount::Bind { from: own_dir, at: "/mnt".into(), writable: true };
                    let view = Sandbox { cwd: "/mnt".into(), ..view(vec![place]) };
                    for round in 0..6 {
                        let (code, text) = run(
                            Isolation::Namespaces,
                            &view,
                            &format!("echo {round} >> log; cat log | wc -l; exit {n}"),
                        )?;
                        assert_eq!((code, text), (n, (round + 1).to_string()));
                    }
                    Ok(())
                })
            })
            .collect();
        threads.into_iter().try_for_each(|thread| thread.join().unwrap_or_else(|_| Err(io::Error::other("panicked"))))
    })?;
    assert_eq!(fs::read_to_string("/proc/self/mountinfo")?, before);
    Ok(())
}

#[test]
fn a_large_environment_passes() -> io::Result<()> {
    place()?;
    for isolation in ALL {
        let mut command = shell("echo ${#V0} ${#V9}");
        for n in 0..10 {
            command.env(format!("V{n}"), "x".repeat(100_000));
        }
        view(vec![]).confine(isolation, &mut command)?;
        assert_eq!(command.output()?.stdout, b"100000 100000\n", "{isolation:?}");
    }
    Ok(())
}

#[test]
fn a_command_can_be_run_twice() -> io::Result<()> {
    let dir = place()?;
    let mut command = shell("cat /mnt/file");
    fs::write(dir.path().join("file"), "text")?;
    let place = Mount::Bind { from: dir.path().into(), at: "/mnt".into(), writable: false };
    view(vec![place]).confine(Isolation::Namespaces, &mut command)?;
    for _ in 0..2 {
        assert_eq!(command.output()?.stdout, b"text");
    }
    Ok(())
}
