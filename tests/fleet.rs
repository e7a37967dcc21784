// SPDX-License-Identifier: GPL-2.0-or-later

//! FLEET.md, run as it stands there: a builder that serves what it built, and machines that compile nothing, each in a
//! throwaway root, in networks of their own that reach each other and nothing else.
//!
//! What they install comes from apt's cache or from the builder. Debian's mirror is a stand-in, see tests/fleet/mirror;
//! nginx, reprepro, apt and the kernels are real.

use crate::support::{Layer, Root};

mod guide;

use guide::Guide;

const MODULE: &str = "v4l2loopback";

/// Where the builder has the key that machines trust, and one that they do not.
const KEY: &str = "/root/modules.gpg";
const WRONG_KEY: &str = "/root/stranger.gpg";

/// A builder, and machines in its network.
struct Fleet {
    builder: Root,
    machines: u8,
}

impl Fleet {
    /// A builder with Debian's mirror, in the days of the older kernel, of which it has the headers.
    fn new() -> Fleet {
        let mut builder = Root::with(Layer::Ours, &["--network", "10.77.0.1/24"]);
        forget_the_newest_kernel(&mut builder);
        builder.sh("echo 10.77.0.1 builder.example.org >>/etc/hosts; /srv/tests/fleet/mirror before $OLD $K");
        installs_from(&mut builder, "file:/var/www/html/debian");
        Fleet { builder, machines: 0 }
    }

    /// Another machine, on which the older kernel runs.
    fn machine(&mut self, layer: Layer) -> Root {
        self.machines += 1;
        let address = format!("10.77.0.{}/24", self.machines + 1);
        let network = self.builder.sh("echo -n $NETWORK");
        let release = self.builder.expand("$OLD");
        // The initramfs is nobody's: tests/boot makes one of its own, and the kernel's package is told so.
        let options = ["--network", &address, "--join", &network, "--release", &release, "--setenv", "INITRD=No"];
        let mut machine = Root::with(layer, &options);
        machine.sh("echo 10.77.0.1 builder.example.org mirror.example.org >>/etc/hosts");
        installs_from(&mut machine, "http://mirror.example.org/debian");
        machine
    }

    /// A file of the builder's comes to a machine, by whoever configures it.
    fn bring(&mut self, file: &str, machine: &mut Root, to: &str) {
        let bytes = self.builder.sh(&format!("base64 -w0 {file}"));
        machine.sh(&format!("base64 -d <<<'{bytes}' >{to}"));
    }

    fn has_another_key(&mut self) {
        self.builder.sh(&format!(
            "gpg --batch --passphrase '' --quick-generate-key stranger@example.org ed25519 sign never && \
             gpg --export stranger@example.org >{WRONG_KEY}"
        ));
    }

    /// Debian has the newest kernel.
    fn kernel_is_out(&mut self) {
        self.builder.sh("/srv/tests/fleet/mirror after");
    }
}

/// As it was before that came out.
fn forget_the_newest_kernel(root: &mut Root) {
    root.sh("apt-get -qq -y purge linux-image-$K linux-headers-$K");
}

/// All that apt knows is the mirror; and nobody is there to be asked.
fn installs_from(root: &mut Root, mirror: &str) {
    root.sh("rm -rf /etc/apt/sources.list /etc/apt/sources.list.d/*");
    root.write("/etc/apt/sources.list", &format!("deb [trusted=yes] {mirror} ./"));
    root.write("/etc/apt/apt.conf.d/99nobody", "APT::Get::Assume-Yes \"true\";");
}

/// Whether this kernel of the machine finds the module and all that it depends on.
fn finds(machine: &mut Root, kernel: &str) -> bool {
    machine.run(&format!("modprobe -n -S {kernel} {MODULE}")).code == 0
}

/// The machine has the older kernel with the module, and knows of a newer one.
#[track_caller]
fn is_held_back(machine: &mut Root) {
    machine.says(
        "apt list --upgradable 2>/dev/null | grep -o ^linux-image-amd64/; ls /lib/modules",
        "linux-image-amd64/\n$OLD\n",
    );
    assert!(finds(machine, "$OLD"));
}

/// The newest kernel loads the module, in QEMU.
#[track_caller]
fn loads(machine: &mut Root) {
    let console = machine.sh(&format!("/srv/tests/boot $K {MODULE}"));
    let (_, loaded) = console.split_once("boot: /proc/modules\n").expect("the list of loaded modules comes last");
    // O: out of tree. E: signed by a key that this kernel was not told of.
    let live = |line: &str| line.starts_with(&format!("{MODULE} ")) && line.ends_with("(OE)");
    assert!(loaded.lines().any(live), "{console}");
}

#[test]
fn an_apt_repository_brings_modules_and_holds_kernels_back() {
    let mut guide = Guide::read(&["The builder", "The governed way: an apt repository"]);
    let mut fleet = Fleet::new();
    guide.follow("What it has", "builder", &mut fleet.builder);
    guide.follow("The repository", "builder", &mut fleet.builder);
    fleet.has_another_key();
    let keyring = "/etc/apt/keyrings/modules.gpg";
    let [mut first, mut second, mut wrong] = [(); 3].map(|()| fleet.machine(Layer::Bare));
    let join = guide.commands("A machine", "machine");
    let upgrade = guide.commands("A new kernel", "machine");
    let leave = guide.commands("A machine that shall not have the module any more", "machine");

    // With another key nothing comes.
    fleet.bring(WRONG_KEY, &mut wrong, keyring);
    let said = wrong.run(&join);
    assert!(said.code != 0 && said.text.contains("is not signed"), "{said:?}");
    wrong.says(&format!("apt-cache pkgnames {MODULE}-modules; ls /var/lib/apt/lists | grep builder || :"), "");

    for machine in [&mut first, &mut wrong] {
        fleet.bring(KEY, machine, keyring);
        assert!(!finds(machine, "$OLD"));
        machine.sh(&join);
        assert!(finds(machine, "$OLD"));
        machine.says("command -v gcc cc make dkms; ls -d /lib/modules/*/build 2>/dev/null || :", "");
    }
    fleet.bring(WRONG_KEY, &mut wrong, keyring);

    // There is a kernel that nothing was built for.
    fleet.kernel_is_out();
    for upgrade in [&upgrade, "apt full-upgrade"] {
        first.sh(upgrade);
        is_held_back(&mut first);
    }

    // Now there are modules for it.
    guide.follow("A new kernel", "builder", &mut fleet.builder);
    fleet.bring(KEY, &mut second, keyring);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            first.sh(&upgrade);
            assert!(finds(&mut first, "$K") && finds(&mut first, "$OLD"));
            // They are where the kernel's own package would have them, and go with their kernel.
            first.sh(&format!("dpkg -S $(dpkg -L {MODULE}-modules-$K | grep '/modules/[^/]*$') | grep linux-image-$K"));
            first.says("apt-get -s autoremove | grep -E '(modules|image)' || :", "");
            loads(&mut first);
        });
        scope.spawn(|| {
            // To this one kernel and modules come at once, and modules go again.
            second.sh(&join);
            assert!(finds(&mut second, "$K") && !finds(&mut second, "$OLD"));
            loads(&mut second);
            second.sh(&leave);
            assert!(!finds(&mut second, "$K"));
            // But for the drivers that no root has.
            second.says("modprobe -n -S $K videodev && ! dpkg --verify linux-image-$K | grep -v '^missing .*/kernel/' && dpkg --audit", "");
        });
        scope.spawn(|| {
            let said = wrong.sh(&upgrade);
            assert!(said.contains("signature verification"), "{said}");
            is_held_back(&mut wrong);
        });
    });

    // A later package of the same modules, for both kernels.
    fleet.builder.sh("export DEBFULLNAME=Modules DEBEMAIL=modules@example.org; \
         dkms mkbmdeb $(dkms status | sed 's/,.*//; q') --all --package-version 9 | \
         sed -n 's/^Package: //p' | xargs reprepro -b /srv/reprepro includedeb stable");
    first.sh(&upgrade);
    first.says(&format!("dpkg-query -W -f '${{Version}}\\n' {MODULE}-modules-{{$OLD,$K}}"), "9\n9\n");
    assert!(finds(&mut first, "$K") && finds(&mut first, "$OLD"));
    guide.all_was_run();
}

/// What the timer of dkms-rs-prebuilt runs.
const EVERY_HOUR: &str =
    "eval \"$(sed -n 's/^ExecStart=//p' /lib/systemd/system/dkms-prebuilt.service | sed 's/\\$\\$/$/g; s/%%/%/g')\"";

#[test]
fn what_one_has_built_all_fetch() {
    let mut guide = Guide::read(&["The builder", "One builds, all fetch"]);
    let mut fleet = Fleet::new();
    guide.follow("What it has", "builder", &mut fleet.builder);
    guide.follow("What is exported", "builder", &mut fleet.builder);
    fleet.has_another_key();
    let keyring = "/etc/dkms/modules.gpg";
    let [mut first, mut second, mut wrong] = [(); 3].map(|()| fleet.machine(Layer::Bare));
    let join = guide.commands("A machine that fetches", "machine");
    let upgrade = guide.commands("A kernel that comes to the machines", "machine");
    let installed = "sha256sum </lib/modules/$OLD/updates/dkms/v4l2loopback.ko*";
    let status = format!("dkms status | sed -E 's,/[0-9.]+,,' | grep {MODULE}");

    for (machine, key) in [(&mut first, KEY), (&mut second, KEY), (&mut wrong, WRONG_KEY)] {
        machine.sh("mkdir -p /etc/dkms && apt update && apt install linux-image-amd64");
        fleet.bring(key, machine, keyring);
        let said = machine.sh(&join);
        machine.says("command -v gcc cc make; ls -d /lib/modules/*/build 2>/dev/null || :", "");
        if key == KEY {
            machine.says(&status, &format!("{MODULE}, $OLD, $A: installed\n"));
            assert!(finds(machine, "$OLD"));
        } else {
            // Refused, and told why; the package is installed all the same.
            let url = machine.expand("http://builder.example.org/dkms/$OLD/$A/manifest.asc");
            assert!(said.contains(&format!("Warning: {url} was not signed by a key in {keyring}.")), "{said}");
            assert!(said.contains("could not be installed"), "{said}");
            machine.says(&status, &format!("{MODULE}: added\n"));
            assert!(!finds(machine, "$OLD"));
        }
    }
    // Nobody has signed it, for nobody has what signs: it is the same everywhere.
    assert_eq!(first.sh(installed), second.sh(installed));

    // A kernel comes before the builder has built for it: it is installed, and the module later.
    fleet.kernel_is_out();
    let said = first.sh(&upgrade);
    assert!(said.contains("is not to be had, and on_miss in framework.conf forbids to build it here"), "{said}");
    first.says("dpkg-query -W -f '${db:Status-Status}' linux-image-$K", "installed");
    assert!(!finds(&mut first, "$K") && finds(&mut first, "$OLD"));
    guide.follow("A kernel that comes to the builder", "builder", &mut fleet.builder);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            first.sh(EVERY_HOUR);
            assert!(finds(&mut first, "$K") && finds(&mut first, "$OLD"));
            first.says("dkms status --failed", "");
            loads(&mut first);
        });
        scope.spawn(|| {
            // The hook of the kernel's package fetches.
            let said = second.sh(&upgrade);
            assert!(said.contains(&second.expand("Autoinstall on $K succeeded for module(s) v4l2loopback.")), "{said}");
            loads(&mut second);
            second.sh(&format!("apt purge {MODULE}-dkms"));
            assert!(!finds(&mut second, "$K") && !finds(&mut second, "$OLD"));
            second.says("modprobe -n -S $K videodev && dpkg --audit && dkms status", "");
        });
        scope.spawn(|| {
            let said = wrong.sh(&upgrade);
            assert!(said.contains("was not signed by a key in"), "{said}");
            wrong.says("dpkg-query -W -f '${db:Status-Status}' linux-image-$K", "installed");
            assert!(!finds(&mut wrong, "$K"));
            // With the right key all is mended.
            fleet.bring(KEY, &mut wrong, keyring);
            wrong.sh(EVERY_HOUR);
            assert!(finds(&mut wrong, "$K") && finds(&mut wrong, "$OLD"));
        });
    });
    // Jobs for others: what was forgotten is built again, and exported as the same.
    let listed = "for list in /srv/www/dkms/*/*/*.asc; do gpg --quiet --decrypt $list 2>/dev/null; done | grep -vE '^(Key|SHA256|Size)'";
    let exported = fleet.builder.sh(listed);
    fleet.builder.sh("dkms unbuild $(dkms status | sed 's/,.*//; q') --all && rm -r /var/cache/dkms/results");
    guide.follow("Many builders", "builder", &mut fleet.builder);
    assert_eq!(fleet.builder.sh("dkms status | grep -c built").trim(), "2");
    fleet.builder.says(listed, &exported);
    guide.all_was_run();
}

#[test]
fn builders_share_what_they_compiled() {
    let mut guide = Guide::read(&["Builders that share a compile cache"]);
    let mut fleet = Fleet::new();
    let mut other = fleet.machine(Layer::Ours);
    forget_the_newest_kernel(&mut other);
    for builder in [&mut fleet.builder, &mut other] {
        builder.sh(&format!("dpkg -i /var/cache/apt/archives/{MODULE}-dkms_*_all.deb && rm -r /var/cache/dkms"));
    }
    fleet.builder.sh("apt update");
    let join = guide.commands("Each builder", "builder");
    let build = format!("dkms build {MODULE}/$(dkms status | sed 's,^[^/]*/,,; s/,.*//; q') -k $OLD --force");
    let misses = "for dir in /var/cache/dkms/ccache/*/*/; do CCACHE_DIR=$dir ccache --print-stats; done | sed -n 's/^cache_miss\t//p'";

    guide.follow("The server", "builder", &mut fleet.builder);
    fleet.builder.sh(&join);
    fleet.builder.sh(&build);
    let compiled: u32 = fleet.builder.sh(misses).trim().parse().expect("a number");
    let objects: u32 = guide.follow("Whether it works", "server", &mut fleet.builder).trim().parse().expect("a number");
    assert!(compiled > 0 && objects >= compiled, "{compiled} compiled, {objects} objects");

    fleet.bring("/root/cache.password", &mut other, "/root/cache.password");
    other.sh(&join);
    other.sh(&build);
    other.says(misses, "0\n");
    guide.all_was_run();
}
