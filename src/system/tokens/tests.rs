// SPDX-License-Identifier: GPL-2.0-or-later

use super::*;
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A Makefile whose `count` targets write a line when they start and one when they end.
fn makefile(dir: &Path, count: usize, seconds: &str) -> io::Result<()> {
    let targets: Vec<String> = (0..count).map(|n| format!("t{n}")).collect();
    let text = format!(
        ".PHONY: all {0}\nall: {0}\n{0}:\n\t@echo + >> $(LOG); sleep {seconds}; echo - >> $(LOG)\n",
        targets.join(" ")
    );
    std::fs::write(dir.join("Makefile"), text)
}

fn make(dir: &Path, log: &Path) -> Command {
    let mut command = Command::new("make");
    command.arg("-C").arg(dir).env("LOG", log).stdout(Stdio::null());
    command
}

/// The most recipes that ran at once, and how many ran at all.
fn most(log: &Path) -> io::Result<(usize, usize)> {
    let text = std::fs::read_to_string(log)?;
    let (mut now, mut most, mut all) = (0, 0, 0);
    for line in text.lines() {
        match line {
            "+" => {
                now += 1;
                all += 1;
                most = most.max(now);
            }
            _ => now -= 1,
        }
    }
    assert_eq!(now, 0);
    Ok((most, all))
}

/// What is in the pool, when nothing runs.
fn free(pool: &Pool) -> usize {
    let state = pool.owner.0.state();
    assert!(state.jobs.is_empty() && state.waiting.is_empty());
    state.free
}

fn fed(pool: &Pool) -> Vec<usize> {
    pool.owner.0.state().jobs.iter().map(|job| job.fed).collect()
}

fn wait_until(what: impl Fn() -> bool) {
    for _ in 0..4000 {
        if what() {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("it did not come about within 20 seconds");
}

#[test]
fn one_make_gets_all_tokens_and_no_more() -> io::Result<()> {
    let dir = tempfile::tempdir()?;
    makefile(dir.path(), 12, "0.1")?;
    for jobs in [1, 3] {
        let log = dir.path().join(format!("log{jobs}"));
        let pool = Pool::new(jobs, None);
        let token = pool.start(Duration::ZERO)?;
        let mut command = make(dir.path(), &log);
        token.configure(&mut command);
        assert!(command.status()?.success());
        drop(token);
        assert_eq!(most(&log)?, (jobs, 12));
        assert_eq!(free(&pool), jobs);
    }
    Ok(())
}

#[test]
fn many_makes_share() -> io::Result<()> {
    let dir = tempfile::tempdir()?;
    makefile(dir.path(), 8, "0.03")?;
    let log = dir.path().join("log");
    let pool = Pool::new(4, None);
    std::thread::scope(|scope| {
        for _ in 0..10 {
            scope.spawn(|| -> io::Result<()> {
                let token = pool.start(Duration::ZERO)?;
                let mut command = make(dir.path(), &log);
                token.configure(&mut command);
                assert!(command.status()?.success());
                Ok(())
            });
        }
    });
    let (most, all) = most(&log)?;
    assert_eq!(all, 80);
    assert!(most <= 4, "{most} at once");
    assert!(most > 1, "none shared");
    assert_eq!(free(&pool), 4);
    Ok(())
}

#[test]
fn who_waits_is_served_in_order_from_idle_tokens() -> io::Result<()> {
    let pool = Pool::new(3, None);
    let first = pool.start(Duration::ZERO)?;
    assert_eq!(fed(&pool), [2]);
    // Both come out of the first job's pipe.
    let (second, third) = (pool.start(Duration::ZERO)?, pool.start(Duration::ZERO)?);
    assert_eq!(fed(&pool), [0, 0, 0]);
    let order = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let start = |n: usize| {
            let (pool, order) = (&pool, &order);
            scope.spawn(move || {
                let token = pool.start(Duration::ZERO);
                assert_eq!(order.fetch_add(1, Ordering::SeqCst), n);
                drop(token);
            });
            wait_until(|| pool.owner.0.state().waiting.len() == n + 1);
        };
        start(0);
        start(1);
        start(2);
        drop(second);
    });
    drop((first, third));
    assert_eq!(free(&pool), 3);
    Ok(())
}

#[test]
fn a_place_is_kept_for_who_comes_later() -> io::Result<()> {
    let pool = Pool::new(2, None);
    let running = pool.start(Duration::ZERO)?;
    let urgent = pool.queue(Duration::from_secs(2));
    assert_eq!(fed(&pool), [0], "what lies idle is his");
    let other = pool.queue(Duration::from_secs(1));
    std::thread::scope(|scope| {
        let other = scope.spawn(|| other.start());
        std::thread::sleep(Duration::from_millis(50));
        assert!(!other.is_finished(), "it took the place of a more urgent one");
        let urgent = urgent.start()?;
        assert!(!other.is_finished());
        drop(running);
        let other = other.join().expect("it does not panic")?;
        // Whoever does not want his place any more keeps nobody.
        drop(pool.queue(Duration::MAX));
        assert_eq!(fed(&pool), [0, 0]);
        drop(urgent);
        assert_eq!(fed(&pool), [1]);
        drop(other);
        assert_eq!(free(&pool), 2);
        Ok(())
    })
}

#[test]
fn a_killed_make_takes_nothing_with_it() -> io::Result<()> {
    let dir = tempfile::tempdir()?;
    makefile(dir.path(), 8, "1000")?;
    let log = dir.path().join("log");
    let pool = Pool::new(4, None);
    let token = pool.start(Duration::ZERO)?;
    let mut command = make(dir.path(), &log);
    token.configure(&mut command);
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    let mut child = command.spawn()?;
    wait_until(|| std::fs::read_to_string(&log).is_ok_and(|text| text.lines().count() == 4));
    let group = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process_group(group, rustix::process::Signal::KILL)?;
    child.wait()?;
    drop(token);
    assert_eq!(free(&pool), 4);
    Ok(())
}

#[test]
fn a_make_that_drains_or_floods_starves_nobody() -> io::Result<()> {
    // MAKEFLAGS ends in "=READ,WRITE".
    let ends = "ends=${MAKEFLAGS##*=}; r=${ends%,*}; w=${ends#*,};";
    let drain = format!("{ends} head -c 3 <&$r > /dev/null; echo done; exec cat <&$r");
    let flood = format!("{ends} yes <&- >&$w 2>/dev/null & sleep 0.3; echo done; wait");
    for (script, floods) in [(drain, false), (flood, true)] {
        let pool = Pool::new(4, None);
        let hostile = pool.start(Duration::ZERO)?;
        let mut command = Command::new("bash");
        command.args(["-c", &script]).stdout(Stdio::piped());
        hostile.configure(&mut command);
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut child = command.spawn()?;
        let mut text = [0; 5];
        child.stdout.as_mut().map(|pipe| pipe.read_exact(&mut text)).transpose()?;
        // The pool does not block, and gives no more than it has.
        for _ in 0..20 {
            pool.owner.0.state().balance();
            assert!(fed(&pool).iter().sum::<usize>() + pool.owner.0.state().free <= 3);
        }
        if floods {
            // What it did not take is had back, and what others leave idle is found beside its heap.
            let mut others = (0..3).map(|_| pool.start(Duration::ZERO)).collect::<io::Result<Vec<_>>>()?;
            others.truncate(1);
            others.push(pool.start(Duration::ZERO)?);
        }
        let group = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process_group(group, rustix::process::Signal::KILL)?;
        child.wait()?;
        drop(hostile);
        assert_eq!(free(&pool), 4, "{script}");
        let tokens = (0..4).map(|_| pool.start(Duration::ZERO)).collect::<io::Result<Vec<_>>>()?;
        assert_eq!(pool.owner.0.state().free, 0);
        drop(tokens);
    }
    Ok(())
}

#[test]
fn a_flooded_pipe_lends_nothing_twice() -> io::Result<()> {
    let pool = Pool::new(4, None);
    let job = pool.start(Duration::ZERO)?;
    let ends = job.ends.as_ref().expect("there is a limit");
    rustix::io::write(&ends[0][1], &[b'+'; 1000])?;
    let mut lent = Vec::new();
    let once = || {
        let first = std::cell::Cell::new(true);
        move || first.replace(false)
    };
    while let Some(another) = job.another(&once()) {
        lent.push(another);
    }
    assert_eq!(lent.len(), 3);
    drop(lent);
    drop(job);
    assert_eq!(free(&pool), 4);
    Ok(())
}

#[test]
fn an_idle_token_goes_where_it_is_used() -> io::Result<()> {
    let dir = tempfile::tempdir()?;
    makefile(dir.path(), 4, "1000")?;
    let log = dir.path().join("log");
    let pool = Pool::new(4, None);
    // A job that uses nothing but its own token, like one that links.
    let idle = pool.start(Duration::ZERO)?;
    let token = pool.start(Duration::ZERO)?;
    let mut command = make(dir.path(), &log);
    token.configure(&mut command);
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    let mut child = command.spawn()?;
    wait_until(|| std::fs::read_to_string(&log).is_ok_and(|text| text.lines().count() == 3));
    assert_eq!(fed(&pool), [0, 2]);
    let group = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process_group(group, rustix::process::Signal::KILL)?;
    child.wait()?;
    drop((idle, token));
    assert_eq!(free(&pool), 4);
    Ok(())
}

#[test]
fn tokens_reach_a_sandbox() -> io::Result<()> {
    use crate::system::sandbox::{Isolation, Mount, Sandbox, User};
    assert!(rustix::process::geteuid().is_root(), "the tests of the sandbox have to run as root");
    let dir = tempfile::Builder::new().permissions(std::os::unix::fs::PermissionsExt::from_mode(0o755)).tempdir()?;
    let work = dir.path().join("work");
    std::fs::create_dir(&work)?;
    std::os::unix::fs::chown(&work, Some(4242), Some(4242))?;
    makefile(dir.path(), 6, "0.1")?;
    for isolation in [Isolation::Namespaces, Isolation::Landlock] {
        let log = work.join(format!("{isolation:?}"));
        let pool = Pool::new(2, None);
        let token = pool.start(Duration::ZERO)?;
        let mut command = make(dir.path(), &log);
        let mounts = vec![Mount::Bind { from: work.clone(), at: work.clone(), writable: true }];
        let user = Some(User { uid: 4242, gid: 4242 });
        Sandbox { user, mounts, cwd: "/".into(), ..Sandbox::default() }.confine(isolation, &mut command)?;
        token.configure(&mut command);
        assert!(command.status()?.success());
        drop(token);
        assert_eq!((most(&log)?, free(&pool)), ((2, 6), 2), "{isolation:?}");
    }
    Ok(())
}

#[test]
fn without_a_limit_memory_is_one() -> io::Result<()> {
    let dir = tempfile::tempdir()?;
    std::fs::create_dir(dir.path().join("proc"))?;
    for (mebibytes, jobs) in [(100, 1), (3000, 5), (64 << 10, 128)] {
        std::fs::write(dir.path().join("proc/meminfo"), format!("MemAvailable: {} kB\n", mebibytes * 1024))?;
        let pool = Pool::new(0, Some(Gauge::new(&crate::system::paths::Paths::new(dir.path()))));
        assert_eq!(pool.at_most(), jobs);
    }
    Ok(())
}

#[test]
fn without_a_limit_nobody_waits() -> io::Result<()> {
    let dir = tempfile::tempdir()?;
    makefile(dir.path(), 6, "0.5")?;
    let log = dir.path().join("log");
    let pool = Pool::new(0, None);
    let _others = (0..100).map(|_| pool.start(Duration::ZERO)).collect::<io::Result<Vec<_>>>()?;
    let token = pool.start(Duration::ZERO)?;
    let mut command = make(dir.path(), &log);
    token.configure(&mut command);
    assert!(command.status()?.success());
    assert_eq!(most(&log)?, (6, 6));
    Ok(())
}

#[test]
fn memory_decides_how_many_tokens_are_out() -> io::Result<()> {
    let dir = tempfile::tempdir()?;
    std::fs::create_dir(dir.path().join("proc"))?;
    let available = |mebibytes: u64| {
        let new = dir.path().join("new");
        std::fs::write(&new, format!("MemAvailable: {} kB\n", mebibytes * 1024))?;
        std::fs::rename(new, dir.path().join("proc/meminfo"))
    };
    available(600)?;
    let pool = Pool::new(4, Some(Gauge::new(&crate::system::paths::Paths::new(dir.path()))));
    assert_eq!(free(&pool), 1);
    let job = pool.start(Duration::ZERO)?;
    assert_eq!(fed(&pool), [0]);
    available(8000)?;
    wait_until(|| fed(&pool) == [3]);
    available(0)?;
    wait_until(|| fed(&pool) == [0]);
    drop(job);
    assert_eq!(free(&pool), 1, "one job runs whatever there is");
    let _one = pool.start(Duration::ZERO)?;
    available(1100)?;
    // It runs, and there is room for one more, and another one when that has shown what it needs.
    wait_until(|| fed(&pool) == [1]);
    let read = |pool: &Pool| pool.owner.0.state().jobs[0].pipe.as_mut().map(|pipe| pipe.read.read(&mut [0]));
    assert!(matches!(read(&pool), Some(Ok(1))));
    std::thread::sleep(SHOWN / 2);
    assert_eq!(fed(&pool), [1]);
    wait_until(|| fed(&pool) == [2]);
    Ok(())
}
