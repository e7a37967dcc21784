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
        builder.sh("/srv/tests/fleet/mirror before $OLD $K");
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
    let mut guide = Guide::read("The governed way: an apt repository");
    let mut fleet = Fleet::new();
    guide.follow("The builder", "builder", &mut fleet.builder);
    guide.follow("A machine", "builder", &mut fleet.builder);
    fleet.builder.sh("gpg --batch --passphrase '' --quick-generate-key stranger@example.org ed25519 sign never && \
                      gpg --export stranger@example.org >/root/stranger.gpg");
    let (key, wrong_key, keyring) = ("/root/modules.gpg", "/root/stranger.gpg", "/etc/apt/keyrings/modules.gpg");
    let [mut first, mut second, mut wrong] = [(); 3].map(|()| fleet.machine(Layer::Bare));
    let join = guide.commands("A machine", "machine");
    let upgrade = guide.commands("A new kernel", "machine");
    let leave = guide.commands("A machine that shall not have the module any more", "machine");

    // With another key nothing comes.
    fleet.bring(wrong_key, &mut wrong, keyring);
    let said = wrong.run(&join);
    assert!(said.code != 0 && said.text.contains("is not signed"), "{said:?}");
    wrong.says(&format!("apt-cache pkgnames {MODULE}-modules; ls /var/lib/apt/lists | grep builder || :"), "");

    for machine in [&mut first, &mut wrong] {
        fleet.bring(key, machine, keyring);
        assert!(!finds(machine, "$OLD"));
        machine.sh(&join);
        assert!(finds(machine, "$OLD"));
        machine.says("command -v gcc cc make dkms; ls -d /lib/modules/*/build 2>/dev/null || :", "");
    }
    fleet.bring(wrong_key, &mut wrong, keyring);

    // There is a kernel that nothing was built for.
    fleet.kernel_is_out();
    for upgrade in [&upgrade, "apt full-upgrade"] {
        first.sh(upgrade);
        is_held_back(&mut first);
    }

    // Now there are modules for it.
    guide.follow("A new kernel", "builder", &mut fleet.builder);
    fleet.bring(key, &mut second, keyring);
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
            second.says("modprobe -n -S $K videodev && dpkg --verify linux-image-$K && dpkg --audit", "");
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
