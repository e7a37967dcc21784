// SPDX-License-Identifier: GPL-2.0-or-later

//! Commands that are killed, or that meet an error, at each of their system calls that change files: what worked works
//! still, what is told is true, and the same command again ends as if nothing had been.

use std::time::{Duration, Instant};

use crate::support::{Layer, Root, seconds_given};

/// A command and where it begins.
struct Scene {
    name: &'static str,
    /// Commands that lead there.
    before: &'static str,
    command: &'static str,
    /// Modules that are found by modprobe before, and have to be at every moment.
    resolves: &'static str,
}

/// What package `first` brings is one of the kernel's own; `second` has one that only it has.
const SCENES: &[Scene] = &[
    Scene { name: "add", before: "", command: "dkms add first/1", resolves: "" },
    Scene {
        name: "add a directory",
        before: "mv /srv/src/first-1 /tmp/here",
        command: "dkms add /tmp/here",
        resolves: "",
    },
    Scene { name: "build", before: "dkms add first/1", command: "dkms build first/1 -k $K", resolves: "nlmon" },
    Scene {
        name: "build with a compile cache",
        before: "sed -i /compile_cache/d /etc/dkms/framework.conf.d/src.conf; dkms add first/1",
        command: "dkms build first/1 -k $K",
        resolves: "nlmon",
    },
    Scene {
        name: "install",
        before: "dkms build second/1 -k $K",
        command: "dkms install second/1 -k $K",
        resolves: "nlmon",
    },
    Scene {
        name: "install over the kernel's",
        before: "dkms build first/1 -k $K",
        command: "dkms install first/1 -k $K",
        resolves: "nlmon",
    },
    Scene {
        name: "install over an older version",
        before: "dkms install first/1 -k $K; dkms build first/2 -k $K",
        command: "dkms install first/2 -k $K",
        resolves: "nlmon",
    },
    Scene {
        name: "install by force",
        before: "dkms install first/1 -k $K",
        command: "dkms install first/1 -k $K --force",
        resolves: "nlmon",
    },
    Scene {
        name: "uninstall",
        before: "dkms install second/1 -k $K",
        command: "dkms uninstall second/1 -k $K",
        resolves: "nlmon",
    },
    Scene {
        name: "uninstall over the kernel's",
        before: "dkms install first/1 -k $K",
        command: "dkms uninstall first/1 -k $K",
        resolves: "nlmon",
    },
    Scene {
        name: "remove",
        before: "dkms install first/1 -k $K",
        command: "dkms remove first/1 --all",
        resolves: "nlmon",
    },
    Scene {
        name: "autoinstall",
        before: "dkms add first/1; dkms add second/1",
        command: "dkms autoinstall -k $K",
        resolves: "nlmon",
    },
    Scene {
        name: "kernel_preinst",
        before: "dkms install first/1 -k $K; dkms install second/1 -k $K",
        command: "DEB_MAINT_PARAMS='upgrade 1' dkms kernel_preinst -k $K",
        resolves: "nlmon second",
    },
    Scene {
        name: "kernel_prerm",
        before: "dkms install first/1 -k $K; dkms install second/1 -k $K",
        command: "dkms kernel_prerm -k $K",
        resolves: "nlmon",
    },
    Scene {
        name: "prerm of an upgrade",
        before: "dkms install first/1 -k $K",
        command: "DPKG_MAINTSCRIPT_NAME=prerm /srv/prerm upgrade 2",
        resolves: "nlmon",
    },
    Scene {
        name: "common.postinst",
        before: "dkms install first/1 -k $K; DPKG_MAINTSCRIPT_NAME=prerm /srv/prerm upgrade 2",
        command: "/usr/lib/dkms/common.postinst first 2 /usr/share/first-dkms '' 1",
        resolves: "nlmon",
    },
    Scene {
        name: "ldtarball",
        before: "dkms build first/1 -k $K; dkms mktarball first/1 -k $K --archive=/srv/first.tar.gz; dkms remove first/1 --all",
        command: "dkms ldtarball /srv/first.tar.gz",
        resolves: "nlmon",
    },
];

fn root() -> Root {
    let mut root = Root::with(Layer::Ours, &[]);
    root.sh(
        "mkdir -p /srv/torture && gcc -O2 -Wall -Wextra -Werror -o /srv/torture/faults /srv/tests/torture/faults.c",
    );
    root.same_key();
    // A kernel of few modules, or depmod would take all the time.
    root.sh("cd /lib/modules/$K && find kernel -type f ! -name 'nlmon.ko*' ! -name 'dummy.ko*' -delete && find kernel -type d -empty -delete && depmod $K");
    root.quick("first", "AUTOINSTALL=yes\nDEST_MODULE_NAME=nlmon");
    root.quick("second", "AUTOINSTALL=yes");
    root.write("/etc/dkms/framework.conf.d/src.conf", "source_tree=/srv/src\ncompile_cache=no");
    root.sh(
        "mkdir /srv/src && mv /usr/src/first-1 /usr/src/second-1 /srv/src && cd /srv/src && cp -r first-1 first-2 \
         && sed -i 's/^PACKAGE_VERSION=.*/PACKAGE_VERSION=2/' first-2/dkms.conf",
    );
    // None is the kernel's, and each version is another.
    root.sh("cd /srv/src && for it in 1:first-1/first 2:first-2/first 3:second-1/second; do \
         sed -i s/author=./author=${it%%:*}/ ${it#*:}.ko; done; ! cmp first-1/first.ko first-2/first.ko");
    root.write("/srv/prerm", "#!/bin/sh\ndkms remove first/1 --all");
    root.sh("chmod +x /srv/prerm; rm -rf /tmp/*; touch /srv/empty");
    root
}

/// What happens to a command; see faults.c.
const FAULTS: [&str; 7] = ["kill", "ENOSPC", "ENOSPC+", "EIO", "EROFS+", "EMFILE", "short"];

/// No command has so many calls.
const ENOUGH: usize = 100_000;

/// A scene's command in a root, to which things happen.
struct Victim {
    scene: &'static Scene,
    root: Root,
}

/// What came of a fault, at some of the calls.
struct Sweep {
    fault: &'static str,
    /// How many calls there are, as far as that is known.
    calls: usize,
    tried: usize,
    /// What should not be.
    failed: Vec<String>,
}

impl Victim {
    fn new(scene: &'static Scene) -> Victim {
        let mut victim = Victim { scene, root: root() };
        victim.root.sh(scene.before);
        let said = victim.point("prepare");
        assert!(!said.contains("PROBLEM"), "{}, undisturbed:\n{said}", scene.name);
        victim
    }

    fn point(&mut self, arguments: &str) -> String {
        let Scene { command, resolves, .. } = self.scene;
        let point = "/srv/tests/torture/point";
        self.root.sh(&format!("COMMAND=\"{command}\" RESOLVES='{resolves}' {point} {arguments}"))
    }
}

impl Sweep {
    fn new(fault: &'static str) -> Sweep {
        Sweep { fault, calls: usize::MAX, tried: 0, failed: Vec::new() }
    }

    /// Tries those calls of which `wanted` says so, until there are no more, or no time.
    fn run(&mut self, victim: &mut Victim, wanted: impl Fn(usize) -> bool, deadline: Option<Instant>) {
        let (fault, from_then_on) = self.fault.strip_suffix('+').map_or((self.fault, ""), |fault| (fault, "+"));
        for number in (1..ENOUGH).filter(|number| wanted(*number)) {
            if number > self.calls || deadline.is_some_and(|deadline| Instant::now() > deadline) {
                break;
            }
            let said = victim.point(&format!("{fault} {number}{from_then_on}"));
            let calls = said.lines().next_back().and_then(|line| line.split(' ').next()?.parse().ok());
            let calls: usize = calls.unwrap_or_else(|| panic!("the last line says how many calls there were:\n{said}"));
            if calls < number {
                self.calls = calls;
                break;
            }
            self.tried += 1;
            if said.contains("PROBLEM") {
                self.failed.push(format!("{} | {} | {number}\n{said}", victim.scene.name, self.fault));
            }
        }
    }
}

/// `make torture`: all faults at all calls, the rest of them ever finer, for as long as it is given. `SCENE` and
/// `FAULT` choose some, by commas.
#[test]
#[ignore = "takes as long as it is given: make torture"]
fn whole() {
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    let chosen = |of: &str, name: &str| variable(of).is_empty() || variable(of).split(',').any(|it| it == name);
    let deadline = Instant::now() + Duration::from_secs(seconds_given());
    let faults: Vec<&'static str> = FAULTS.into_iter().filter(|fault| chosen("FAULT", fault)).collect();
    let mut victims: Vec<(Victim, Vec<Sweep>)> = SCENES
        .iter()
        .filter(|scene| chosen("SCENE", scene.name))
        .map(|scene| (Victim::new(scene), faults.iter().map(|fault| Sweep::new(fault)).collect()))
        .collect();
    const COARSE: usize = 32;
    for step in [COARSE, 16, 8, 4, 2, 1] {
        for (victim, sweeps) in &mut victims {
            for sweep in sweeps {
                let told = sweep.failed.len();
                let new = |number| number % step == 1 % step && (step == COARSE || number % (2 * step) != 1);
                sweep.run(victim, new, Some(deadline));
                sweep.failed[told..].iter().for_each(|failure| println!("{failure}"));
            }
        }
    }
    let (mut all, mut failed) = (0, 0);
    for (victim, sweeps) in &victims {
        for sweep in sweeps {
            let (scene, failures) = (victim.scene.name, sweep.failed.len());
            let Sweep { fault, tried, .. } = sweep;
            let calls = if sweep.calls == usize::MAX { "?".into() } else { sweep.calls.to_string() };
            println!("figure: {scene:<32}{fault:<8}{tried:>6} of {calls:>5} tried {failures:>4} failed");
            (all, failed) = (all + tried, failed + failures);
        }
    }
    println!("figure: {:<40}{all:>6} {:>8} tried {failed:>4} failed", "all", "");
    assert!(all > 0 && failed == 0);
}

/// A few points of each command, early and late, and an error at some of them.
#[test]
fn kills_and_errors() {
    for (number, scene) in SCENES.iter().enumerate() {
        let mut victim = Victim::new(scene);
        // Not the same ones of each: what many commands do is tried at many places.
        let few = |powers: u32| move |call: usize| (1..=powers).any(|power| call == 3 * number % 7 + 3usize.pow(power));
        for (fault, powers) in [("kill", 4), (FAULTS[1 + number % (FAULTS.len() - 1)], 3)] {
            let mut sweep = Sweep::new(fault);
            sweep.run(&mut victim, few(powers), None);
            assert!(sweep.failed.is_empty(), "{}", sweep.failed.concat());
            assert!(sweep.tried > 0, "{} {fault}", scene.name);
        }
    }
}
