// SPDX-License-Identifier: GPL-2.0-or-later

//! Builds side by side: which, in what order they are told of, and how many jobs they have.

use crate::support::{Layer, Root};

/// A build that ends when it is told to, by the name of its module or of its kernel.
const WAITS: &str = "MAKE='touch waits; until [ -e /srv/go-$module ] || [ -e /srv/go-$kernelver ]; do sleep 0.02; done'\n\
                     AUTOINSTALL=yes";

/// The builds that wait.
const WAITING: &str = "ls -d /var/lib/dkms/*/1/*/.dkms-*/build/waits 2>/dev/null | cut -d/ -f5,7";

fn root() -> Root {
    let mut root = Root::with(Layer::Ours, &[]);
    // Whatever is built is built for real.
    root.sh("dkms generate_mok; echo result_store=no >/etc/dkms/framework.conf.d/off.conf");
    root
}

/// Starts a command whose output goes to /srv/out.
fn start(root: &mut Root, command: &str) {
    root.sh(&format!("({command} >/srv/out 2>&1; echo $? >/srv/code) &"));
}

fn ends(root: &mut Root, code: i32) {
    root.wait_until("[ -s /srv/code ]");
    root.says("cat /srv/code; rm /srv/code", &format!("{code}\n"));
}

#[test]
fn modules_build_side_by_side_and_are_told_of_one_after_the_other() {
    let mut root = root();
    root.quick("first", WAITS);
    root.quick("second", WAITS);
    root.sh("dkms add first/1; dkms add second/1");

    start(&mut root, "dkms autoinstall -j 4");
    root.wait_until(&format!("[ \"$({WAITING} | wc -l)\" = 2 ]"));
    root.says(WAITING, "first/$K\nsecond/$K\n");
    const BEGINNING: &str = "\
$SIGNING

Autoinstall of module first/1 for kernel $K ($A)
Building module(s)...";
    root.says("cat /srv/out", BEGINNING);
    // The second one is done first: nothing is heard of it yet.
    root.sh("touch /srv/go-second");
    root.wait_until("[ -e /var/lib/dkms/second/1/$K/.dkms-*/result/module/second.ko ]");
    root.says("cat /srv/out; dkms status", &format!("{BEGINNING}first/1: added\nsecond/1: added\n"));
    root.sh("touch /srv/go-first");
    ends(&mut root, 0);
    root.says(
        "cat /srv/out",
        &format!(
            "{BEGINNING} done.
Signing module /var/lib/dkms/first/1/build/first.ko
Installing /lib/modules/$K/updates/dkms/first.ko
Running depmod... done.

Autoinstall of module second/1 for kernel $K ($A)
Building module(s)... done.
Signing module /var/lib/dkms/second/1/build/second.ko
Installing /lib/modules/$K/updates/dkms/second.ko
Running depmod... done.

Autoinstall on $K succeeded for module(s) first second.
"
        ),
    );
}

#[test]
fn what_builds_upon_another_module_does_not_wait_for_the_rest() {
    let mut root = root();
    root.quick("a-long", WAITS);
    root.quick("b-first", "AUTOINSTALL=yes");
    root.quick("c-second", &format!("BUILD_DEPENDS='b-first'\n{WAITS}"));
    root.sh("dkms add a-long/1; dkms add b-first/1; dkms add c-second/1");

    start(&mut root, "dkms autoinstall -j 2");
    root.wait_until(&format!("[ \"$({WAITING} | cut -d/ -f1 | xargs)\" = 'a-long c-second' ]"));
    // It is in place; depmod comes once, in the end.
    root.says("dkms status", "a-long/1: added\nb-first/1, $K, $A: built\nc-second/1: added\n");
    root.sh("touch /srv/go-c-second /srv/go-a-long");
    ends(&mut root, 0);
    root.says(
        "grep ^Auto /srv/out; dkms status; modprobe -n -S $K b-first c-second a-long",
        "\
Autoinstall of module a-long/1 for kernel $K ($A)
Autoinstall of module b-first/1 for kernel $K ($A)
Autoinstall of module c-second/1 for kernel $K ($A)
Autoinstall on $K succeeded for module(s) a-long b-first c-second.
a-long/1, $K, $A: installed
b-first/1, $K, $A: installed
c-second/1, $K, $A: installed
",
    );
    // What is there already is not waited with either.
    root.sh("rm /srv/go-*; dkms unbuild a-long/1; dkms unbuild c-second/1");
    start(&mut root, "dkms autoinstall -j 2");
    root.wait_until(&format!("[ \"$({WAITING} | cut -d/ -f1 | xargs)\" = 'a-long c-second' ]"));
    root.sh("touch /srv/go-c-second /srv/go-a-long");
    ends(&mut root, 0);
}

#[test]
fn a_module_builds_for_two_kernels_side_by_side() {
    let mut root = root();
    root.quick("quick", WAITS);
    root.sh("dkms add quick/1");

    start(&mut root, "dkms build quick/1 -k $OLD -k $K -j 4");
    root.wait_until(&format!("[ \"$({WAITING} | wc -l)\" = 2 ]"));
    root.sh("touch /srv/go-$K");
    root.wait_until("[ -e /var/lib/dkms/quick/1/$K/.dkms-*/result/module/quick.ko ]");
    root.says("cat /srv/out", "$SIGNING\n\nBuilding module(s)...");
    root.sh("touch /srv/go-$OLD");
    ends(&mut root, 0);
    root.says(
        "cat /srv/out",
        "\
$SIGNING

Building module(s)... done.
Signing module /var/lib/dkms/quick/1/build/quick.ko
$SIGNING

Building module(s)... done.
Signing module /var/lib/dkms/quick/1/build/quick.ko
",
    );
    root.says(
        "dkms status; ls /var/lib/dkms/quick/1",
        "quick/1, $OLD, $A: built\nquick/1, $K, $A: built\n$OLD\n$K\nsource\n",
    );
}

/// Whoever has a token may need the turn that whoever is first in the queue for tokens waits for.
#[test]
fn builds_that_take_turns_get_their_tokens() {
    let mut root = root();
    root.quick("quick", "");
    root.sh("echo BUILD_AS_ROOT=yes >/etc/dkms/quick.conf; dkms add quick/1");
    // More kernels than tokens.
    root.sh("mkdir /lib/modules/third && ln -s $(realpath /lib/modules/$K/build) /lib/modules/third/build");
    for _ in 0..10 {
        root.sh("timeout 120 dkms build quick/1 -k $OLD -k $K -k third -j 2 --force");
    }
}

#[test]
fn with_one_job_everything_happens_one_after_the_other() {
    let install = "dkms install quick/1 -k $OLD -k $K";
    for (setting, command) in [
        ("", format!("{install} -j 1")),
        ("", format!("parallel_jobs=1 {install}")),
        ("parallel_jobs=1", install.to_owned()),
    ] {
        let mut root = root();
        root.write("/etc/dkms/framework.conf.d/jobs.conf", setting);
        root.quick("quick", WAITS);
        root.sh("dkms add quick/1");

        start(&mut root, &command);
        root.wait_until(&format!("[ -n \"$({WAITING})\" ]"));
        root.says(&format!("sleep 0.3; {WAITING}"), "quick/$OLD\n");
        root.sh("touch /srv/go-$OLD");
        root.wait_until(&format!("[ \"$({WAITING})\" = quick/$K ]"));
        // The first kernel has its module, and all of that has been told.
        let first = "\
$SIGNING

Building module(s)... done.
Signing module /var/lib/dkms/quick/1/build/quick.ko
Installing /lib/modules/$OLD/updates/dkms/quick.ko
Running depmod... done.
$SIGNING

Building module(s)...";
        root.says("cat /srv/out; dkms status", &format!("{first}quick/1, $OLD, $A: installed\n"));
        root.sh("touch /srv/go-$K");
        ends(&mut root, 0);
        root.says(
            "cat /srv/out",
            &format!(
                "{first} done.
Signing module /var/lib/dkms/quick/1/build/quick.ko
Installing /lib/modules/$K/updates/dkms/quick.ko
Running depmod... done.
"
            ),
        );
    }
}

/// How many of the jobs that logged their beginnings and ends ran at once, at most; and how many there were.
fn most_at_once(logs: &str) -> (usize, usize) {
    let mut events: Vec<(&str, &str)> = logs
        .lines()
        .filter_map(|line| line.strip_prefix("job ")?.split_once(' '))
        .map(|(what, time)| (time, what))
        .collect();
    // At the same instant an end (`-`) comes before a beginning (`begins`).
    events.sort_unstable();
    let (mut now, mut most) = (0, 0);
    for (_, what) in &events {
        if *what == "begins" {
            now += 1;
            most = most.max(now);
        } else {
            now -= 1;
        }
    }
    assert_eq!(now, 0, "{logs}");
    (most, events.len() / 2)
}

#[test]
fn all_makes_together_have_so_many_jobs() {
    let mut root = root();
    let makefile = "\
jobs := 1 2 3 4
all: $(jobs)
$(jobs):
\t@echo job begins $$(date +%s.%N); sleep 0.05; echo job - $$(date +%s.%N)
inner:
\t@make -j8 -s all
closed:
\t@env -i /usr/bin/make -j8 -s all
script:
\t@bash -c 'make --jobs=8 -s all'
.PHONY: all inner closed script $(jobs)
ifdef own
MAKEFLAGS += -j8
own:
\t@$(MAKE) -s own= all
endif";
    // Most of them want more jobs than there are.
    let packages = [
        ("a", "make"),
        ("b", "make -j8 all"),
        ("c", "\\'make\\' --jobs all"),
        ("d", "make inner"),
        ("e", "env V=1 make -j script"),
        ("f", "/usr/bin/make -j8 all"),
        ("g", "MAKEFLAGS=-j8 make all"),
        ("h", "env -i /bin/make --jobs=8 all"),
        ("i", "GNUMAKEFLAGS=-j8 /usr/bin/make inner"),
        ("j", "make closed"),
        ("k", "make own=1 own"),
    ];
    for (name, make) in packages {
        root.quick(name, &format!("MAKE=$'{make}'\nAUTOINSTALL=yes"));
        root.write(&format!("/usr/src/{name}-1/Makefile"), makefile);
        root.sh(&format!("dkms add {name}/1"));
    }
    for jobs in [1, 3] {
        root.sh(&format!("dkms autoinstall -j {jobs}"));
        let logs = root.sh("cat /var/lib/dkms/*/1/$K/$A/log/make.log");
        assert_eq!(most_at_once(&logs), (jobs, 4 * packages.len()));
        root.sh("for name in a b c d e f g h i j k; do dkms unbuild $name/1; done");
    }
    // Who closes what tokens come through, or has others, keeps nobody below from them.
    for name in ["d", "j", "k"] {
        let log = root.sh(&format!("dkms build {name}/1 -j 3 >&2; cat /var/lib/dkms/{name}/1/$K/$A/log/make.log"));
        assert_eq!(most_at_once(&log), (3, 4), "{name}");
    }
}

/// What people put before the machine's make, and what diversions leave of it.
#[test]
fn a_make_that_is_a_script_is_what_it_was() {
    let mut root = root();
    let makefile = "jobs := 1 2 3 4\nall: $(jobs)\n$(jobs):\n\t@echo job begins $$(date +%s.%N); sleep 0.05; \
                    echo job - $$(date +%s.%N)\n.PHONY: all $(jobs)";
    root.quick("quick", "MAKE='make -j8 all'");
    root.write("/usr/src/quick-1/Makefile", makefile);
    root.sh("dkms add quick/1");
    for (place, script) in [
        ("/usr/local/bin/make", "exec /usr/bin/make -j8 \"$@\""),
        (
            "/usr/local/bin/make",
            "self=$(cd \"$(dirname \"$0\")\" && pwd)\nPATH=$(echo $PATH | tr : '\\n' | grep -vx $self | paste -sd:)\nexec make \"$@\"",
        ),
        (
            "/usr/local/bin/make",
            "IFS=:; for dir in $PATH; do [ $dir/make -ef \"$0\" ] || [ ! -x $dir/make ] || exec $dir/make \"$@\"; done",
        ),
        ("/usr/bin/make", "exec \"$0.distrib\" -j8 \"$@\""),
        ("/usr/bin/make", "exec /usr/bin/gmake -j8 \"$@\""),
    ] {
        if place == "/usr/bin/make" {
            root.sh(
                "mv /usr/bin/make /usr/bin/make.distrib; rm -f /usr/bin/gmake; cp /usr/bin/make.distrib /usr/bin/gmake",
            );
        }
        root.write(place, &format!("#!/bin/bash\n{script}"));
        root.sh(&format!("chmod 755 {place}"));
        // Also where there are no namespaces it ends.
        for as_root in ["", "BUILD_AS_ROOT=yes"] {
            root.sh(&format!("echo {as_root} >/etc/dkms/quick.conf; timeout 60 dkms build quick/1 -k $K -j 2 --force"));
            let logs = root.sh("cat /var/lib/dkms/quick/1/$K/$A/log/make.log");
            let (most, jobs) = most_at_once(&logs);
            assert!(jobs == 4 && (most == 2 || !as_root.is_empty()), "{script}: {most}");
        }
        root.sh(&format!("rm {place}; [ ! -e /usr/bin/make.distrib ] || mv /usr/bin/make.distrib /usr/bin/make"));
    }
}

#[test]
fn modules_that_build_upon_others_wait_for_those_alone() {
    let mut root = root();
    // In the order of their names they could not be built.
    let needs = |module: &str| {
        format!(
            "MAKE='[ -e /lib/modules/$kernelver/updates/dkms/{module}.ko -a -e /var/lib/dkms/{module}/1/$kernelver/$arch/module ]'\n\
             BUILD_DEPENDS={module}\nAUTOINSTALL=yes"
        )
    };
    root.quick("alone", WAITS);
    root.quick("first", &needs("middle"));
    root.quick("middle", &needs("quick"));
    root.quick("quick", WAITS);
    root.sh("for name in alone first middle quick; do dkms add $name/1; done");

    start(&mut root, "dkms autoinstall -j 4");
    root.wait_until(&format!("[ \"$({WAITING} | wc -l)\" = 2 ]"));
    root.says(WAITING, "alone/$K\nquick/$K\n");
    root.sh("touch /srv/go-$K");
    ends(&mut root, 0);
    root.says(
        "grep -E '^Autoinstall' /srv/out",
        "\
Autoinstall of module alone/1 for kernel $K ($A)
Autoinstall of module quick/1 for kernel $K ($A)
Autoinstall of module middle/1 for kernel $K ($A)
Autoinstall of module first/1 for kernel $K ($A)
Autoinstall on $K succeeded for module(s) alone quick middle first.
",
    );

    // Where one of them fails, those who wait for it do, too; the others do not.
    root.sh("for name in alone first middle quick; do dkms unbuild $name/1; done");
    root.quick("quick", "MAKE=false\nAUTOINSTALL=yes");
    root.fails(
        "dkms autoinstall -j 4",
        11,
        "\
$SIGNING

Autoinstall of module alone/1 for kernel $K ($A)
Building module(s)... done.
Signing module /var/lib/dkms/alone/1/build/alone.ko
Installing /lib/modules/$K/updates/dkms/alone.ko
Running depmod... done.

Autoinstall of module quick/1 for kernel $K ($A)
Building module(s)...(bad exit status: 1)
Failed command:
false

Error! Bad return status for module build on kernel: $K ($A)
Consult /var/lib/dkms/quick/1/build/make.log for more information.

Autoinstall on $K succeeded for module(s) alone.
Autoinstall on $K failed for module(s) quick(10).
first/1 autoinstall failed due to missing dependencies: middle.
middle/1 autoinstall failed due to missing dependencies: quick.

Error! One or more modules failed to install during autoinstall.
Refer to previous errors for more information.
",
    );
    root.says("dkms status", "alone/1, $K, $A: installed\nfirst/1: added\nmiddle/1: added\nquick/1: added\n");
    root.fails(
        "dkms build first/1",
        13,
        "\
$SIGNING


Error! Aborting build of module first/1 for kernel $K ($A) due to missing BUILD_DEPENDS: middle.
You may override by specifying --force.
",
    );
}

#[test]
fn the_modules_of_a_package_are_finished_side_by_side_and_told_of_in_order() {
    let mut root = root();
    let names: Vec<String> = (0..20).map(|n| format!("m{n}")).collect();
    root.sh("mkdir /usr/src/many-1; xz -dcf /lib/modules/$K/kernel/drivers/net/nlmon.ko* >/srv/module");
    let mut conf = "PACKAGE_NAME=many\nPACKAGE_VERSION=1\nMAKE=true\n".to_owned();
    for (n, name) in names.iter().enumerate() {
        conf.push_str(&format!("BUILT_MODULE_NAME[{n}]={name}\nDEST_MODULE_LOCATION[{n}]=/updates\n"));
        root.sh(&format!("cp /srv/module /usr/src/many-1/{name}.ko"));
    }
    root.write("/usr/src/many-1/dkms.conf", &conf);
    // It waits until another one runs beside it, and refuses one module.
    root.write(
        "/srv/sign",
        "#!/bin/bash
case $4 in */m7.ko) echo no; exit 1 ;; esac
mkdir /srv/running.${4##*/}
for i in {1..600}; do
    [ ! -e /srv/met ] || break
    [ $(ls -d /srv/running.* | wc -l) = 1 ] && sleep .1 || touch /srv/met
done
/usr/lib/linux-kbuild-*/scripts/sign-file \"$@\"
code=$?
rmdir /srv/running.${4##*/}
exit $code",
    );
    root.sh("chmod 755 /srv/sign; echo sign_file=/srv/sign >/etc/dkms/framework.conf.d/sign.conf; dkms add many/1");
    root.sh("mkdir -p /lib/modules/$OLD/kernel; touch /lib/modules/$OLD/kernel/some.ko.xz");
    let words: String = names
        .iter()
        .map(|name| {
            let told = format!("/var/lib/dkms/many/1/build/{name}.ko");
            let refused = format!("Warning: Failed to sign module '{told}'!\nno\n");
            format!("Signing module {told}\n{}", if name == "m7" { refused.as_str() } else { "" })
        })
        .collect();
    let key = "Signing key: /var/lib/dkms/mok.key\nPublic certificate (MOK): /var/lib/dkms/mok.pub";
    root.says(
        "dkms build many/1 -k $OLD -j 2",
        &format!("Sign command: /srv/sign\n{key}\n\nBuilding module(s)... done.\n{words}"),
    );
    root.says("ls /srv/met", "/srv/met\n");
    root.says(
        "cd /var/lib/dkms/many/1/$OLD/$A/module && ls | wc -l && xz -dk *.xz && modinfo -F signer *.ko | grep -c DKMS; \
         readelf -S *.ko | grep -c '[.]debug_info'; for m in *.ko; do cmp -s $m m7.ko || echo $m; done | wc -l",
        "20\n19\n0\n19\n",
    );
}

#[test]
fn what_took_longest_goes_first_and_is_told_of_in_its_turn() {
    let mut root = root();
    let names = ["first", "long", "second", "short"];
    for name in names {
        root.quick(name, WAITS);
        root.sh(&format!("dkms add {name}/1"));
    }
    root.write(
        "/var/cache/dkms/build-times",
        "dkms-rs build times 1\n2000 6.1 first/1\n9000 6.1 long/1\nnonsense\n3000 6.1 second/1\n1000 6.1 short/1",
    );
    start(&mut root, "dkms autoinstall -k $K -j 2");
    root.wait_until(&format!("[ $({WAITING} | wc -l) = 2 ]"));
    root.says(WAITING, "long/$K\nsecond/$K\n");
    // The next one's sources are copied already, and it waits for a token.
    root.wait_until("[ -e /var/lib/dkms/first/1/$K/.dkms-*/source/dkms.conf ]");
    root.says(WAITING, "long/$K\nsecond/$K\n");
    root.sh("touch /srv/go-second");
    root.wait_until(&format!("{WAITING} | grep -q first"));
    root.sh("touch /srv/go-$K");
    ends(&mut root, 0);
    root.says(
        "sed -n 's/^Autoinstall of module \\([a-z]*\\).*/\\1/p' /srv/out",
        &names.map(|name| format!("{name}\n")).concat(),
    );
    // All are remembered anew, in the order in which they ended.
    root.says(
        "head -n1 /var/cache/dkms/build-times; cut -d' ' -f2- /var/cache/dkms/build-times | sed 1d | sort; stat -c %U:%a /var/cache/dkms",
        "dkms-rs build times 1\n6.1 first/1\n6.1 long/1\n6.1 second/1\n6.1 short/1\nroot:755\n",
    );
    // It may be damaged, or gone.
    root.sh("dkms unbuild long/1 -k $K; echo damage >/var/cache/dkms/build-times; dkms build long/1 -k $K");
    root.says("cut -d' ' -f2- /var/cache/dkms/build-times", "build times 1\n6.1 long/1\n");
    root.sh(
        "dkms unbuild long/1 -k $K; rm -r /var/cache/dkms; dkms build long/1 -k $K; ls /var/cache/dkms/build-times",
    );
}

#[test]
fn kernels_that_are_alike_are_not_built_for_at_the_same_time() {
    let mut root = root();
    root.quick("first", WAITS);
    // The first two and the last two have the same version of Linux, as after a respin.
    root.sh("dkms add first/1; cp -r $(readlink -f /lib/modules/$OLD/build) /usr/src/other
         echo '#define LINUX_VERSION_CODE 1' >/usr/src/other/include/generated/uapi/linux/version.h
         for n in 1 2 3 4; do cp -r /lib/modules/$OLD /lib/modules/6.1.0-$n-x; done
         for n in 3 4; do ln -sfn /usr/src/other /lib/modules/6.1.0-$n-x/build; done");
    for order in ["1 2 3 4", "1 3 2 4"] {
        let kernels: String = order.split(' ').map(|n| format!(" -k 6.1.0-{n}-x")).collect();
        root.sh("rm -f /srv/go-*; dkms remove first/1 --all && dkms add first/1");
        start(&mut root, &format!("dkms build first/1 -j 2{kernels}"));
        root.wait_until(&format!("[ $({WAITING} | wc -l) = 2 ]"));
        root.says(WAITING, "first/6.1.0-1-x\nfirst/6.1.0-3-x\n");
        root.sh("touch /srv/go-6.1.0-1-x /srv/go-6.1.0-3-x");
        root.wait_until(&format!("{WAITING} | grep -q 2-x && {WAITING} | grep -q 4-x"));
        root.sh("touch /srv/go-first");
        // It is the newest kernel's module that all of them get.
        root.wait_until("[ -s /srv/code ]");
        root.sh("rm /srv/code");
    }
}
