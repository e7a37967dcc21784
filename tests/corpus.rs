// SPDX-License-Identifier: GPL-2.0-or-later

//! Packages of Debian that bring modules, by apt and with their own maintainer scripts, on kernels of all flavours: for
//! each Debian's dkms and ours end alike and install the same modules.
//!
//! `make corpus` tries all of them, which takes some hours on two cores, and renews tests/corpus/table. What one
//! side did stands in target/corpus and is not done again, ours until the package in target/deb is another.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;

use flate2::Crc;

use crate::same_ko;
use crate::support::btf::Base;
use crate::support::{Layer, Root};

const PACKAGES: [&str; 26] = [
    "acpi-call-dkms",
    "adv-17v35x-dkms",
    "apfs-dkms",
    "bbswitch-dkms",
    "broadcom-sta-dkms",
    "dahdi-dkms",
    "ddcci-dkms",
    "dm-writeboost-dkms",
    "dpdk-kmods-dkms",
    "evdi-dkms",
    "falcosecurity-scap-dkms",
    "gost-crypto-dkms",
    "iptables-netflow-dkms",
    "jool-dkms",
    "librem-ec-acpi-dkms",
    "lttng-modules-dkms",
    "nat-rtsp-dkms",
    "nvidia-tesla-470-kernel-dkms",
    "openafs-modules-dkms",
    "openvpn-dco-dkms",
    "r8125-dkms",
    "rtpengine-kernel-dkms",
    "tp-smapi-dkms",
    "v4l2loopback-dkms",
    "xtables-addons-dkms",
    "zfs-dkms",
];

/// What `make check` has time for: one that is not meant for some kernels and one that tells whether it is, by its conf; one
/// whose modules are several, and one that is small. Two on each of the flavours.
const SAMPLE: [&str; 4] = ["bbswitch-dkms", "ddcci-dkms", "gost-crypto-dkms", "tp-smapi-dkms"];

/// These take longer than all others together: they come last.
const LONG: [&str; 3] = ["nvidia-tesla-470-kernel-dkms", "openafs-modules-dkms", "zfs-dkms"];

/// What packages need and do not depend on.
const ALSO: [(&str, &str); 1] = [("iptables-netflow-dkms", "libxtables-dev pkg-config")];

/// Where a package is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum From {
    ThisDebian,
    Debian13,
}

/// Packages on a kernel.
struct Trial {
    kernel: String,
    from: From,
    packages: Vec<&'static str>,
}

/// Makes apt know all of Debian, and as `trixie` all of Debian 13.
const ALL_LISTS: &str = r#"
. /etc/os-release
rm -f /etc/apt/sources.list.d/*
components='main contrib non-free non-free-firmware'
cat >/etc/apt/sources.list <<EOT
deb http://deb.debian.org/debian $VERSION_CODENAME $components
deb http://deb.debian.org/debian-security $VERSION_CODENAME-security $components
EOT
echo "deb http://deb.debian.org/debian trixie $components" >/etc/trixie.list
mkdir -p /var/lib/trixie/partial
cat >/usr/local/bin/trixie <<'EOT'
#!/bin/sh
exec apt-get -o Dir::Etc::SourceList=/etc/trixie.list -o Dir::Etc::SourceParts=/dev/null \
    -o Dir::State::Lists=/var/lib/trixie -o APT::Sandbox::User=root "$@"
EOT
chmod 755 /usr/local/bin/trixie
apt-get -qq update && trixie -qq update"#;

/// A root with this kernel and no other, which runs.
fn root_with(layer: Layer, lists: &str, kernel: &str) -> Root {
    let mut root = Root::with(layer, &["--release", kernel, "--setenv", "PATIENCE=7200"]);
    root.sh(lists);
    // Nobody boots it.
    root.write("/usr/sbin/update-initramfs", "#!/bin/sh\n");
    root.sh("apt-get -qq -y purge 'linux-headers-*' 'linux-image-*'");
    root.sh(&format!("apt-get -qq -y install linux-image-{kernel} linux-headers-{kernel}"));
    root.says("ls /lib/modules", &format!("{kernel}\n"));
    root.same_key();
    // A package whose module does not build is not configured, as ever.
    root.write("/etc/dkms/framework.conf.d/original.conf", "on_failure=original");
    // Several threads of pahole's write the same types now in one way and now in another, and not always as many.
    let pahole = include_str!("../debian/pahole").replace("exec pahole", "exec /usr/bin/pahole");
    root.write("/usr/local/sbin/pahole", &pahole);
    root.sh("[ -x /usr/bin/pahole ] && chmod 755 /usr/local/sbin/pahole || rm /usr/local/sbin/pahole");
    // Debian 13's declares that it breaks a package of Debian 12, with which it works.
    root.sh("sed -i '/^Package: dkms$/,/^$/{/^Breaks:/d}' /var/lib/dpkg/status");
    root
}

/// What came of a package, in lines that are the same for the same.
fn attempt(root: &mut Root, base: Base, kernel: &str, package: &str, from: From) -> String {
    if let Some((_, also)) = ALSO.iter().find(|(name, _)| *name == package) {
        root.sh(&format!("apt-get -qq -y install {also}"));
    }
    let said = root.run(&match from {
        From::ThisDebian => format!("apt-get -qq -y install {package}"),
        From::Debian13 => {
            format!("cd /tmp && trixie -qq download {package} && dpkg --force-depends -i {package}_*.deb")
        }
    });
    let mut lines = root.run(&format!("dpkg-query -W -f '${{db:Status-Status}} ${{Version}}\\n' {package} 2>&1")).text;
    if said.text.contains("BUILD_EXCLUSIVE") {
        lines.push_str("excluded\n");
    }
    for line in said.text.lines().filter(|line| line.contains("script subprocess returned error exit status")) {
        let _ = writeln!(lines, "{}", line.trim());
    }
    lines.push_str(&root.sh("dkms status"));
    let installed = format!("/lib/modules/{kernel}/updates");
    for file in root.sh(&format!("find {installed} -type f 2>/dev/null | LC_ALL=C sort")).lines() {
        let module = root.bytes(&format!("xz -dcf {file}"));
        let _ = writeln!(lines, "module {file}\n{}", same_ko::summary(&module, base).join("\n"));
    }
    root.run(&format!("apt-get -qq -y purge {package} || dpkg --purge --force-all {package}"));
    let left = root.sh(
        "dkms status; ls /var/lib/dkms; find /lib/modules /usr/src -path '*/updates/*.ko*' -o -path '/usr/src/*.ko'",
    );
    for line in left.lines().filter(|line| !line.starts_with("mok.")) {
        let _ = writeln!(lines, "left over: {line}");
    }
    lines
}

/// In a few words.
fn verdict(lines: &str) -> String {
    let modules = lines.lines().filter(|line| line.starts_with("module ")).count();
    let failed = lines.lines().find_map(|line| line.split_once("script subprocess returned error exit status "));
    match (modules, failed) {
        (0, Some((_, code))) => format!("fails with {code}"),
        (0, None) if lines.contains("excluded") => "excluded".to_owned(),
        (0, None) => "no modules".to_owned(),
        (1, _) => "1 module".to_owned(),
        (count, _) => format!("{count} modules"),
    }
}

/// What a side did, on disk.
struct Notes {
    layer: Layer,
    /// What its roots need to find the packages.
    lists: &'static str,
    directory: PathBuf,
}

impl Notes {
    fn new(layer: Layer) -> Notes {
        let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("target");
        let name = match layer {
            Layer::Peer | Layer::Bare | Layer::Newer => layer.name().to_owned(),
            Layer::Ours => {
                let mut sum = Crc::new();
                let packages = fs::read_dir(target.join("deb")).expect("`make deb` was run");
                for package in packages.map(|entry| entry.expect("a file").path()) {
                    if package.extension().is_some_and(|it| it == "deb") {
                        sum.update(&fs::read(package).expect("the package"));
                    }
                }
                format!("ours-{:08x}", sum.sum())
            }
        };
        Notes { layer, lists: ALL_LISTS, directory: target.join("corpus").join(name) }
    }

    fn file(&self, trial: &Trial, package: &str) -> PathBuf {
        self.directory.join(format!("{}-{:?}", trial.kernel, trial.from)).join(package)
    }

    /// What came of a package, if it was tried.
    fn read(&self, trial: &Trial, package: &str) -> Option<String> {
        fs::read_to_string(self.file(trial, package)).ok()
    }

    /// Does what was not done yet, of those that take long or of the others.
    fn take(&self, trial: &Trial, long: bool) {
        let mut root = None;
        for package in trial.packages.iter().filter(|package| LONG.contains(package) == long) {
            let file = self.file(trial, package);
            if file.exists() {
                continue;
            }
            let (root, base) = root.get_or_insert_with(|| {
                let mut root = root_with(self.layer, self.lists, &trial.kernel);
                let vmlinux = root.bytes("{ cat /lib/modules/*/build/vmlinux 2>/dev/null || :; }");
                (root, same_ko::base_of(&vmlinux))
            });
            let lines = attempt(root, *base, &trial.kernel, package, trial.from);
            println!("{}: {package} on {}: {}", self.layer.name(), trial.kernel, verdict(&lines));
            fs::create_dir_all(file.parent().expect("a directory")).expect("a place for notes");
            fs::write(file, lines).expect("a note");
        }
    }
}

/// Tries all on both sides; gives the rows of the table, and those that differ.
fn compare(trials: &[Trial], sides: &[Notes; 2]) -> (Vec<String>, Vec<String>) {
    let mut rows = Vec::new();
    let mut differences = Vec::new();
    for trial in trials {
        for package in &trial.packages {
            let [peer, ours] = sides.each_ref().map(|side| side.read(trial, package).expect("tried just now"));
            let version = ours.lines().next().and_then(|line| line.split_once(' ')).map_or("", |(_, version)| version);
            let mut verdicts = verdict(&ours);
            if peer != ours {
                verdicts = format!("DIFFERS: {} of the original's, {verdicts} of ours", verdict(&peer));
                let [peer, ours] = sides.each_ref().map(|side| side.file(trial, package));
                differences.push(format!("{} {}", peer.display(), ours.display()));
            }
            rows.push(format!("{package:<30}{version:<36}{:<28}{verdicts}", trial.kernel));
        }
    }
    (rows, differences)
}

/// Runs both sides at the same time.
fn run(sides: &[Notes; 2], trials: &[Trial]) {
    thread::scope(|scope| {
        for side in sides {
            scope.spawn(move || {
                for long in [false, true] {
                    trials.iter().for_each(|trial| side.take(trial, long));
                }
            });
        }
    });
}

/// `6.1.0-56-amd64` and `cloud` is `6.1.0-56-cloud-amd64`.
fn flavour(kernel: &str, flavour: &str) -> String {
    let (abi, arch) = kernel.rsplit_once('-').expect("a release ends with the architecture");
    format!("{abi}-{flavour}-{arch}")
}

fn flavours(kernel: &str) -> [String; 3] {
    [kernel.to_owned(), flavour(kernel, "cloud"), flavour(kernel, "rt")]
}

#[test]
#[ignore = "takes some hours: make corpus"]
fn whole() {
    let sides = [Layer::Peer, Layer::Ours].map(Notes::new);
    let mut root = Root::with(Layer::Ours, &[]);
    root.sh(ALL_LISTS);
    let [newest, another] = ["echo $K", "cat /etc/throwaway-btf-kernel"].map(|it| root.sh(it).trim().to_owned());
    let oldest = root.sh("/srv/tests/releases $(cut -d. -f1,2 <<<$K) $(dpkg --print-architecture) | head -n 1");
    let offered: Vec<&str> = PACKAGES
        .into_iter()
        .filter(|package| root.run(&format!("cd /tmp && trixie -qq --print-uris download {package}")).code == 0)
        .collect();
    drop(root);

    let trial = |kernel, from, packages: &[&'static str]| Trial { kernel, from, packages: packages.to_vec() };
    let mut trials: Vec<Trial> = Vec::new();
    trials.extend(flavours(&newest).map(|kernel| trial(kernel, From::ThisDebian, &PACKAGES)));
    trials.push(trial(another.clone(), From::ThisDebian, &PACKAGES));
    trials.extend(flavours(&another).map(|kernel| trial(kernel, From::Debian13, &offered)));
    run(&sides, &trials);
    // Some are too old for the newest kernel.
    let fails = |package: &str| sides[0].read(&trials[0], package).is_some_and(|it| verdict(&it).starts_with("fails"));
    let old: Vec<&str> = PACKAGES.into_iter().filter(|package| fails(package)).collect();
    let more = flavours(oldest.trim()).map(|kernel| trial(kernel, From::ThisDebian, &old));
    run(&sides, &more);
    trials.extend(more);

    let (rows, differences) = compare(&trials, &sides);
    let table = format!(
        "# What came of each package on each kernel, made by `make corpus`: how many modules were installed. Debian's dkms\n\
         # 3.2.2 and ours ended alike, and their modules are the same section by section, where nothing else is said.\n\n\
         {}\n",
        rows.join("\n")
    );
    let place = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    fs::create_dir_all(&place).expect("a place for the table");
    fs::write(place.join("table"), table).expect("the table");
    assert!(differences.is_empty(), "Debian's and ours differ:\n{}", differences.join("\n"));
}

#[test]
fn sample() {
    // Not what another run noted: that is not a test.
    let scratch = tempfile::tempdir().expect("a place for notes");
    // And nothing that the roots have not at hand.
    let sides = [Layer::Peer, Layer::Ours].map(|layer| {
        let directory = scratch.path().join(layer.name());
        Notes { layer, lists: "", directory }
    });
    let newest = Root::with(Layer::Ours, &[]).sh("echo $K");
    let trials: Vec<Trial> = flavours(newest.trim())
        .into_iter()
        .skip(1)
        .zip(SAMPLE.chunks(2))
        .map(|(kernel, packages)| Trial { kernel, from: From::ThisDebian, packages: packages.to_vec() })
        .collect();
    run(&sides, &trials);
    let (rows, differences) = compare(&trials, &sides);
    println!("{}", rows.join("\n"));
    assert!(differences.is_empty(), "{}", rows.join("\n"));
}
