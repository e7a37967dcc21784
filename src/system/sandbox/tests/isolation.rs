// SPDX-License-Identifier: GPL-2.0-or-later
//! What a command cannot see, reach or do.

use super::*;

#[test]
fn here_are_namespaces() {
    assert!(geteuid().is_root(), "the tests of the sandbox have to run as root");
    assert_eq!(Isolation::available(), Isolation::Namespaces);
    assert!(USER.is_available());
}

#[test]
fn only_what_is_bound_writable_can_be_written() -> io::Result<()> {
    let dir = place()?;
    for name in ["work", "seen"] {
        fs::create_dir(dir.path().join(name))?;
        own(&dir.path().join(name))?;
    }
    let (work, seen) = (dir.path().join("work"), dir.path().join("seen"));
    for isolation in BOTH {
        let view = Sandbox { cwd: work.clone(), ..view(vec![bind(&work, true), bind(&seen, false)]) };
        let script = format!("echo a > file && mkdir -p d && mv file d/f && rm d/f && echo {isolation:?} > done; pwd");
        assert_eq!(run(isolation, &view, &script)?, (0, work.display().to_string()));
        assert_eq!(fs::read_to_string(work.join("done"))?.trim(), format!("{isolation:?}"));
        // As root without privileges, too: not the modes alone protect the rest.
        for user in [Some(USER), None] {
            let view = Sandbox { user, ..view.clone() };
            for path in [&seen.join("file"), Path::new("/etc/dkms-rs-test"), &dir.path().join("file")] {
                let (code, text) = run(isolation, &view, &format!("echo > {}", path.display()))?;
                assert!(code != 0 && !path.exists(), "{isolation:?} {user:?} {}: {text}", path.display());
            }
        }
    }
    let (code, text) = run(Isolation::Namespaces, &view(vec![]), &format!("touch {}/x", seen.display()))?;
    assert!(code != 0 && text.contains("Read-only file system"), "{text}");
    Ok(())
}

#[test]
fn user_and_privileges_are_gone() -> io::Result<()> {
    place()?;
    let script =
        "id -u; id -G; grep -h -E '^(CapInh|CapPrm|CapEff|CapBnd|CapAmb|NoNewPrivs|SigBlk)' /proc/self/status; umask";
    let none = "0000000000000000";
    for isolation in ALL {
        let (code, text) = run(isolation, &view(vec![]), script)?;
        let status = format!(
            "SigBlk:\t{none}\nCapInh:\t{none}\nCapPrm:\t{none}\nCapEff:\t{none}\nCapBnd:\t{none}\nCapAmb:\t{none}\nNoNewPrivs:\t1\n0022"
        );
        assert_eq!((code, text), (0, format!("4242\n4243\n{status}")), "{isolation:?}");
        if isolation != Isolation::None {
            let root = Sandbox { user: None, ..view(vec![]) };
            let (_, text) = run(isolation, &root, script)?;
            assert!(text.starts_with("0\n") && text.ends_with(&status), "{isolation:?}: {text}");
        }
    }
    // What is to run as root without isolation keeps what root has.
    let (_, text) = run(Isolation::None, &Sandbox { user: None, ..view(vec![]) }, script)?;
    assert!(text.contains("NoNewPrivs:\t0") && !text.contains(&format!("CapEff:\t{none}")), "{text}");
    Ok(())
}

#[test]
fn no_process_is_seen_but_its_own() -> io::Result<()> {
    place()?;
    let (code, text) = run(Isolation::Namespaces, &view(vec![]), "echo /proc/[0-9]* $$")?;
    assert_eq!((code, text.as_str()), (0, "/proc/1 /proc/2 2"));
    for user in [Some(USER), None] {
        let script = "grep -h CapPrm /proc/1/status; cat /proc/1/environ; echo > /proc/1/comm";
        let (code, text) = run(Isolation::Namespaces, &Sandbox { user, ..view(vec![]) }, script)?;
        assert!(code != 0 && text.starts_with("CapPrm:\t0000000000000000\n"), "{text}");
        assert_eq!(text.matches("denied").count() + text.matches("Read-only").count(), 2, "{text}");
    }
    Ok(())
}

#[test]
fn the_session_is_its_own() -> io::Result<()> {
    place()?;
    let script = "cut -d' ' -f6 /proc/self/stat";
    let outside = String::from_utf8_lossy(&shell(script).output()?.stdout).trim().to_string();
    for isolation in ALL {
        // 0 is the session of a process that cannot be seen: ours too, where it began outside of a container.
        let (code, session) = run(isolation, &view(vec![]), script)?;
        assert!(code == 0 && session != "0" && session != outside, "{isolation:?}: {session}");
    }
    Ok(())
}

#[test]
fn every_machine_is_called_the_same() -> io::Result<()> {
    let said = run(Isolation::Namespaces, &view(vec![]), "uname -n; cat /proc/sys/kernel/hostname")?;
    assert_eq!(said, (0, "localhost\nlocalhost".into()));
    assert_ne!(rustix::system::uname().nodename(), c"localhost", "the machine itself, or this shows nothing");
    Ok(())
}

#[test]
fn no_network() -> io::Result<()> {
    place()?;
    let (_, text) = run(Isolation::Namespaces, &view(vec![]), "tail -n +3 /proc/net/dev | cut -d: -f1")?;
    assert_eq!(text, "lo");
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    let script = format!("exec 3<>/dev/tcp/127.0.0.1/{}", listener.local_addr()?.port());
    assert!(shell(&script).status()?.success());
    for isolation in ALL {
        let (code, text) = run(isolation, &view(vec![]), &script)?;
        assert!(code != 0 && text.contains("Permission denied"), "{isolation:?}: {text}");
    }
    // What is to run as root without isolation keeps it.
    let root = Sandbox { user: None, ..view(vec![]) };
    assert_eq!(run(Isolation::None, &root, &script)?, (0, String::new()));
    Ok(())
}

#[test]
fn no_socket_can_be_made_but_a_pair() -> io::Result<()> {
    place()?;
    let script = |call: &str| format!("perl -MSocket -e '{call} or exit 1' 2>/dev/null");
    let pair = script("socketpair(my $a, my $b, AF_UNIX, SOCK_STREAM, 0)");
    for isolation in ALL {
        for family in ["AF_UNIX", "AF_INET", "AF_INET6", "16", "17", "38", "40"] {
            let (code, text) =
                run(isolation, &view(vec![]), &script(&format!("socket(my $s, {family}, SOCK_DGRAM, 0)")))?;
            assert_eq!(code, 1, "{isolation:?} {family}: {text}");
        }
        assert_eq!(run(isolation, &view(vec![]), &pair)?, (0, String::new()), "{isolation:?}");
    }
    assert!(shell(&script("socket(my $s, AF_UNIX, SOCK_DGRAM, 0)")).status()?.success());
    Ok(())
}

#[test]
fn calls_that_no_build_needs_are_refused() -> io::Result<()> {
    place()?;
    let calls = [
        libc::SYS_add_key,
        libc::SYS_request_key,
        libc::SYS_keyctl,
        libc::SYS_unshare,
        libc::SYS_setns,
        libc::SYS_mount,
        libc::SYS_umount2,
        libc::SYS_move_mount,
        libc::SYS_fsopen,
        libc::SYS_mount_setattr,
        libc::SYS_open_by_handle_at,
        libc::SYS_io_uring_setup,
        libc::SYS_mq_open,
        libc::SYS_bpf,
        libc::SYS_perf_event_open,
        libc::SYS_userfaultfd,
        libc::SYS_fanotify_init,
        #[cfg(target_arch = "x86_64")]
        libc::SYS_shmget,
    ];
    let calls = calls.map(|call| call.to_string()).join(", ");
    let script =
        format!("perl -MErrno -e 'for ({calls}) {{ syscall($_, -1, 0, 0, 0, 0); print qq($_ ) unless $!{{EACCES}} }}'");
    for isolation in ALL {
        assert_eq!(run(isolation, &view(vec![]), &script)?, (0, String::new()), "{isolation:?}");
    }
    let outside = shell(&script).output()?;
    assert_eq!(String::from_utf8_lossy(&outside.stdout).trim(), calls.replace(',', ""));
    Ok(())
}

#[test]
fn no_namespace_can_be_made() -> io::Result<()> {
    place()?;
    // As much as fork(2) by itself; a child that there is after all ends at once.
    let clone = |flags: i32| {
        format!(
            "perl -e 'my $r = syscall({}, {flags} | 17, 0, 0, 0, 0); exit !$r if $r >= 0; print $! + 0'",
            libc::SYS_clone
        )
    };
    let clone3 = format!("perl -e 'syscall({}, 0, 0); print $! + 0'", libc::SYS_clone3);
    for isolation in ALL {
        for flag in
            [libc::CLONE_NEWUSER, libc::CLONE_NEWNS, libc::CLONE_NEWNET, libc::CLONE_NEWUSER | libc::CLONE_NEWPID]
        {
            let refused = (0, libc::EACCES.to_string());
            assert_eq!(run(isolation, &view(vec![]), &clone(flag))?, refused, "{isolation:?} {flag:x}");
        }
        assert_eq!(run(isolation, &view(vec![]), &clone(0))?, (0, String::new()), "{isolation:?}");
        assert_eq!(run(isolation, &view(vec![]), &clone3)?, (0, libc::ENOSYS.to_string()), "{isolation:?}");
    }
    assert!(shell(&clone(libc::CLONE_NEWNS)).output()?.stdout.is_empty());
    Ok(())
}

#[test]
fn no_device_is_there_but_those_that_every_program_may_need() -> io::Result<()> {
    place()?;
    let outside = shell("ls -A /dev").output()?;
    assert!(String::from_utf8_lossy(&outside.stdout).lines().count() > 14);
    let (_, text) = run(Isolation::Namespaces, &view(vec![]), "ls -A /dev | grep -vx mqueue; touch /dev/x")?;
    let all = "fd full null ptmx pts random shm stderr stdin stdout tty urandom zero".replace(' ', "\n");
    assert_eq!(text, all + "\ntouch: cannot touch '/dev/x': Read-only file system");
    // They work, and so does a terminal of its own.
    let script =
        "head -c 4 /dev/urandom | wc -c; echo x > /dev/full || script -qc 'echo y > /dev/tty' /dev/null | tr -d '\\r'";
    let (code, text) = run(Isolation::Namespaces, &view(vec![]), script)?;
    assert!(code == 0 && text.starts_with("4\n") && text.ends_with("\ny"), "{text}");
    Ok(())
}

#[test]
fn sockets_and_shared_memory_of_the_system_are_out_of_sight() -> io::Result<()> {
    place()?;
    let (_, text) = run(
        Isolation::Namespaces,
        &view(vec![]),
        "ls -A /run /dev/shm; echo a > /dev/shm/of-a-build && cat /dev/shm/of-a-build; touch /run/a",
    )?;
    assert!(text.starts_with("/dev/shm:\n\n/run:\na\ntouch: "), "{text}");
    assert!(!Path::new("/dev/shm/of-a-build").exists());
    Ok(())
}

#[test]
fn a_setuid_program_gives_nothing() -> io::Result<()> {
    let dir = place()?;
    let program = dir.path().join("id");
    assert!(Command::new("cp").arg("/usr/bin/id").arg(&program).status()?.success());
    fs::set_permissions(&program, Permissions::from_mode(0o4755))?;
    let script = format!("{} -u", program.display());
    let plain = shell(&script).output()?;
    assert_eq!(plain.stdout, b"0\n");
    for isolation in ALL {
        for mounts in [vec![], vec![bind(dir.path(), true)]] {
            assert_eq!(run(isolation, &view(mounts), &script)?, (0, "4242".into()), "{isolation:?}");
        }
    }
    Ok(())
}

#[test]
fn other_descriptors_stay_outside() -> io::Result<()> {
    place()?;
    // Not close-on-exec, and of a number that nobody else uses.
    let stray = rustix::io::dup(rustix::stdio::stdin())?;
    let high = rustix::io::fcntl_dupfd_cloexec(&stray, 700)?;
    rustix::io::fcntl_setfd(&high, rustix::io::FdFlags::empty())?;
    let script = "[ -e /proc/$$/fd/700 ]";
    assert!(shell(script).status()?.success());
    for isolation in ALL {
        assert_eq!(run(isolation, &view(vec![]), script)?.0, 1, "{isolation:?}");
    }
    Ok(())
}

/// In a chroot whose root is no mount point, on a system whose mounts are shared with other namespaces, as
/// systemd has them: nothing may show outside.
#[test]
fn it_works_in_a_chroot() -> io::Result<()> {
    let dir = place()?;
    let root = dir.path().join("root");
    for name in ["usr", "proc", "dev", "etc", "tmp", "run", "var/tmp"] {
        fs::create_dir_all(root.join(name))?;
    }
    for name in ["bin", "lib", "lib64", "sbin"] {
        symlink(format!("usr/{name}"), root.join(name))?;
    }
    fs::write(root.join("etc/name"), "chroot")?;
    let words = inner(&root, module_path!(), "inner_chroot")?;
    let script = format!(
        "set -e; cd {0}; mount --rbind /usr usr; mount --rbind /dev dev; mount -t proc proc proc; \
         cat /proc/self/mountinfo > ../before; chroot . /tests {1}; cat /proc/self/mountinfo | cmp - ../before",
        root.display(),
        words[1..].join(" ")
    );
    let output = Command::new("unshare").args(["--mount", "--propagation", "shared", "sh", "-c", &script]).output()?;
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
    Ok(())
}

#[test]
#[ignore = "run by it_works_in_a_chroot"]
fn inner_chroot() -> io::Result<()> {
    let before = fs::read_to_string("/proc/self/mountinfo")?;
    assert!(!before.lines().any(|line| line.split(' ').nth(4) == Some("/")), "the chroot is a mount point: {before}");
    assert!(before.contains("shared:"), "{before}");
    assert_eq!(Isolation::available(), Isolation::Namespaces);
    let place = Mount::Bind { from: "/etc".into(), at: "/run/etc".into(), writable: true };
    let script = "cat /etc/name; echo; ls /; echo /proc/[0-9]*; echo > /etc/x; ls /run; ls /../..; exit 4";
    let (code, text) = run(Isolation::Namespaces, &view(vec![place]), script)?;
    let list = "bin\ndev\netc\nlib\nlib64\nproc\nrun\nsbin\ntests\ntmp\nusr\nvar";
    let expected =
        format!("chroot\n{list}\n/proc/1 /proc/2\n/bin/bash: line 1: /etc/x: Read-only file system\netc\n{list}");
    assert_eq!((code, text), (4, expected));
    assert_eq!(fs::read_to_string("/proc/self/mountinfo")?, before);
    Ok(())
}

/// A caller who is not root keeps his user, and has a user namespace instead of privileges.
#[test]
fn it_works_without_root() -> io::Result<()> {
    let dir = place()?;
    let words = inner(dir.path(), module_path!(), "inner_user")?;
    let work = dir.path().join("work");
    fs::create_dir(&work)?;
    own(&work)?;
    let output = Command::new("setpriv")
        .args(["--reuid=4242", "--regid=4243", "--clear-groups"])
        .args(words)
        .env("WORK", &work)
        .current_dir("/")
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
    Ok(())
}

#[test]
#[ignore = "run by it_works_without_root"]
fn inner_user() -> io::Result<()> {
    assert_eq!(geteuid().as_raw(), 4242);
    assert_eq!(Isolation::available(), Isolation::Namespaces);
    let work = PathBuf::from(std::env::var_os("WORK").unwrap_or_default());
    let other = User { uid: 1, gid: 1 };
    for isolation in BOTH {
        let view = Sandbox { user: Some(other), cwd: work.clone(), ..view(vec![bind(&work, true)]) };
        let script = "id -u; id -g; echo a > a; grep -h CapEff /proc/self/status; echo > ../b; exit 6";
        let (code, text) = run(isolation, &view, script)?;
        assert_eq!(code, 6, "{text}");
        assert!(text.starts_with("4242\n4243\nCapEff:\t0000000000000000\n"), "{isolation:?}: {text}");
    }
    let (_, text) = run(
        Isolation::Namespaces,
        &view(vec![]),
        "echo /proc/[0-9]*; tail -n +3 /proc/net/dev | cut -d: -f1; touch /etc/x",
    )?;
    assert!(text.starts_with("/proc/1 /proc/2\n    lo\ntouch: "), "{text}");
    Ok(())
}

/// Root of a user namespace in which nobody else exists, as in rootless containers: no change of user, but a view.
#[test]
fn it_works_where_root_is_the_only_user() -> io::Result<()> {
    let dir = place()?;
    let words = inner(dir.path(), module_path!(), "inner_only_user")?;
    let output = Command::new("unshare").args(["--user", "--map-root-user"]).args(words).current_dir("/").output()?;
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
    Ok(())
}

#[test]
#[ignore = "run by it_works_where_root_is_the_only_user"]
fn inner_only_user() -> io::Result<()> {
    assert!(geteuid().is_root() && !USER.is_available() && !USER.is_available());
    assert_eq!(Isolation::available(), Isolation::Namespaces);
    let script = "id -u; grep -h CapEff /proc/self/status; touch /etc/x";
    for isolation in BOTH {
        let (code, text) = run(isolation, &Sandbox { user: None, ..view(vec![]) }, script)?;
        assert!(code != 0 && text.starts_with("0\nCapEff:\t0000000000000000\ntouch: "), "{isolation:?}: {text}");
        assert!(run(isolation, &view(vec![]), script).is_err());
    }
    Ok(())
}
