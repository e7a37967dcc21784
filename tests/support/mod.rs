// SPDX-License-Identifier: GPL-2.0-or-later

//! A throwaway root that a test talks to.

pub mod btf;

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::OnceLock;

/// Runs in the root: a command up to each NUL on stdin; what it prints, its exit code and NULs back. `PATIENCE` is how
/// many seconds a command may take, if not ten minutes.
const AGENT: &str = r#"
printf '\0'
while IFS= read -r -d '' command; do
    timeout ${PATIENCE:-600} bash -c "$command" 2>&1 </dev/null
    printf '\0%d\0' $?
done"#;

/// Three lines that most commands say before they build.
const SIGNING: &str = "\
Sign command: /usr/lib/linux-kbuild-$SERIES/scripts/sign-file
Signing key: /var/lib/dkms/mok.key
Public certificate (MOK): /var/lib/dkms/mok.pub";

/// Where dkms 3.2.2, which Debian has, has not the words of 3.4.3 yet.
const ORIGINAL: [(&str, &str); 1] = [(
    "includes BUILD_EXCLUSIVE directives\nwhich do not match this kernel/arch/config for any modules.\n",
    "includes a BUILD_EXCLUSIVE directive\nwhich does not match this kernel/arch/config.\n",
)];

/// Deprecated features that dkms 3.2.2 does not warn of yet.
const NOT_YET_DEPRECATED: [&str; 2] = ["Deprecated feature: CLEAN ", "Deprecated feature: OBSOLETE_BY "];

/// Packages of Debian that bring modules, small enough to be built often.
pub const PACKAGES: [&str; 8] = [
    "acpi-call-dkms",
    "bbswitch-dkms",
    "ddcci-dkms",
    "dm-writeboost-dkms",
    "evdi-dkms",
    "gost-crypto-dkms",
    "tp-smapi-dkms",
    "v4l2loopback-dkms",
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layer {
    /// With dkms-rs, whose caches know the kernels; see [`Root::cold`].
    Ours,
    /// With Debian's dkms.
    Peer,
    /// With none, and without gcc, make and headers: its kernel is the older one.
    Bare,
    /// With none; below /srv/newer is a Debian 13 that has the headers of a kernel from 6.13 on.
    Newer,
}

impl Layer {
    /// What `DKMS_UNDER_TEST` chooses.
    pub fn under_test() -> Layer {
        match std::env::var("DKMS_UNDER_TEST").as_deref() {
            Ok("original") => Layer::Peer,
            Err(_) | Ok("ours") => Layer::Ours,
            Ok(other) => panic!("DKMS_UNDER_TEST is `ours` or `original`, not `{other}`"),
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Layer::Ours => "warm",
            Layer::Peer => "peer",
            Layer::Bare => "bare",
            Layer::Newer => "newer",
        }
    }
}

fn throwaway() -> Command {
    Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/throwaway"))
}

/// The releases of the kernels that every root has: an older one and the newest.
fn kernels() -> &'static [String] {
    static KERNELS: OnceLock<Vec<String>> = OnceLock::new();
    KERNELS.get_or_init(|| {
        let output = throwaway().arg("kernels").stderr(Stdio::inherit()).output().expect("tests/throwaway should run");
        assert!(output.status.success(), "{NO_ROOT}");
        let text = String::from_utf8(output.stdout).expect("releases are ASCII");
        text.lines().map(str::to_owned).collect()
    })
}

/// Makes what roots of this kind stand on, unless it is there: that takes its time, and is told of.
pub fn prepare(layer: Layer) {
    let status = throwaway().args(["prepare", layer.name()]).status().expect("tests/throwaway should run");
    assert!(status.success(), "{NO_ROOT}");
}

/// The beginning of a command in a new root, whose environment names its kernels as [`Root`] says. `options` are those
/// of `tests/throwaway run`.
pub fn in_root(layer: Layer, options: &[&str]) -> Command {
    let [old, newest] = kernels() else {
        panic!("the tests need two kernels, apt offers {:?}", kernels());
    };
    let mut command = throwaway();
    command
        .args(["run", "--layer", layer.name(), "--release", newest])
        .args(["--setenv", &format!("K={newest}")])
        .args(["--setenv", &format!("OLD={old}")])
        .args(["--setenv", &format!("A={}", std::env::consts::ARCH)])
        .args(options)
        .arg("--");
    command
}

const NO_ROOT: &str = "no throwaway root could be made: these tests need root (or sudo), overlayfs \
                       and a network; what is missing stands above this line";

/// What a command printed, both streams in their order, and its exit code.
#[derive(Debug)]
pub struct Output {
    pub text: String,
    pub code: i32,
}

/// A root of its own in which commands run one after the other; gone with the value.
///
/// Commands, and the texts expected of them, may name `$K`, the newest kernel, which has an image
/// and which uname(2) calls the running one; `$OLD`, another kernel, which has headers only; `$A`,
/// the architecture. In texts `$J` is the number of processors, `$SIGNING` stands for the lines on
/// the key and `$SERIES` for `6.1`.
#[derive(Debug)]
pub struct Root {
    pub layer: Layer,
    agent: Child,
    commands: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    /// What was said lately, for a test that fails.
    transcript: VecDeque<String>,
}

impl Root {
    /// With the dkms that is under test.
    pub fn new() -> Root {
        Root::with(Layer::under_test(), &[])
    }

    /// With dkms-rs that has built nothing yet.
    pub fn cold() -> Root {
        let mut root = Root::with(Layer::Ours, &[]);
        root.sh("rm -r /var/cache/dkms");
        root
    }

    /// `options` are those of `tests/throwaway run`.
    pub fn with(layer: Layer, options: &[&str]) -> Root {
        let mut agent = in_root(layer, options)
            .args(["bash", "-c", AGENT])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("tests/throwaway should run");
        let commands = agent.stdin.take();
        let answers = BufReader::new(agent.stdout.take().expect("stdout is a pipe"));
        let mut root = Root { layer, agent, commands, answers, transcript: VecDeque::new() };
        root.read_to_nul();
        root
    }

    fn read_to_nul(&mut self) -> String {
        let mut bytes = Vec::new();
        self.answers.read_until(0, &mut bytes).expect("the root should answer");
        assert_eq!(bytes.pop(), Some(0), "{NO_ROOT}");
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Runs a command of bash.
    pub fn run(&mut self, command: &str) -> Output {
        let pipe = self.commands.as_mut().expect("open until the drop");
        write!(pipe, "{command}\0").expect("the root should listen");
        pipe.flush().expect("the root should listen");
        let mut text = self.read_to_nul();
        if self.layer == Layer::Peer {
            // It prints a dot every three seconds.
            while text.contains("....") {
                text = text.replace("....", "...");
            }
        }
        let code = self.read_to_nul().parse().expect("a number");
        if self.transcript.len() == 20 {
            self.transcript.pop_front();
        }
        self.transcript.push_back(format!("# {command}\n{text}[exit code {code}]\n"));
        Output { text, code }
    }

    /// Runs a command that has to succeed, and returns what it printed.
    #[track_caller]
    pub fn sh(&mut self, command: &str) -> String {
        let output = self.run(command);
        assert!(output.code == 0, "`{command}` should succeed\n{}", self.history());
        output.text
    }

    /// Runs a command that has to succeed and to print exactly this.
    #[track_caller]
    pub fn says(&mut self, command: &str, expected: &str) {
        self.fails(command, 0, expected);
    }

    /// Runs a command that has to end with this exit code and to print exactly this.
    #[track_caller]
    pub fn fails(&mut self, command: &str, code: i32, expected: &str) {
        let output = self.run(command);
        let expected = self.expand(expected);
        assert!(
            output.text == expected && output.code == code,
            "`{command}` should print this and end with {code}:\n{expected}---\n{}",
            self.history()
        );
    }

    /// The bytes that a command prints; it has to succeed.
    #[track_caller]
    pub fn bytes(&mut self, command: &str) -> Vec<u8> {
        let dump = self.sh(&format!("set -o pipefail; {command} | od -An -v -w64 -tx1"));
        // It is long, and says nothing to a reader.
        self.transcript.pop_back();
        undump(&dump)
    }

    /// Signs with [`key_pair`].
    #[track_caller]
    pub fn same_key(&mut self) {
        self.sh(&format!("base64 -d <<<'{}' | tar -x -C /var/lib/dkms", key_pair()));
        // It is long, and says nothing to a reader.
        self.transcript.pop_back();
    }

    /// Puts one of tests/modules into /usr/src.
    #[track_caller]
    pub fn source(&mut self, name: &str) {
        self.sh(&format!("cp -r /srv/tests/modules/{name} /usr/src/"));
    }

    /// Writes a file of the root, and the directory it is in.
    #[track_caller]
    pub fn write(&mut self, path: &str, text: &str) {
        self.sh(&format!("mkdir -p $(dirname -- {path}) && cat >{path} <<'END OF FILE'\n{text}\nEND OF FILE"));
    }

    /// Puts a package of one module, NAME/1, into /usr/src, which is built in no time: its directory has the module
    /// in it, one of the kernel's own. `conf` comes after the usual directives.
    #[track_caller]
    pub fn quick(&mut self, name: &str, conf: &str) {
        self.write(
            &format!("/usr/src/{name}-1/dkms.conf"),
            &format!(
                "PACKAGE_NAME={name}\nPACKAGE_VERSION=1\nBUILT_MODULE_NAME={name}\n\
                 DEST_MODULE_LOCATION=/updates\nMAKE=true\n{conf}"
            ),
        );
        self.sh(&format!("xz -dcf /lib/modules/$K/kernel/drivers/net/nlmon.ko* >/usr/src/{name}-1/{name}.ko"));
    }

    /// Makes /root/AT.deb of what lies in /root/AT: version `number` of a package, with maintainer scripts as dh_dkms makes
    /// them for the module `id`.
    #[track_caller]
    pub fn pack(&mut self, at: &str, package: &str, number: &str, id: &str) {
        let (name, version) = id.split_once('/').expect("NAME/VERSION");
        let debian = format!("/root/{at}/DEBIAN");
        self.write(
            &format!("{debian}/control"),
            &format!(
                "Package: {package}\nVersion: {number}\nArchitecture: all\nMaintainer: nobody\nDepends: dkms\nDescription: a module"
            ),
        );
        self.write(
            &format!("{debian}/postinst"),
            &format!(
                "#!/bin/sh\nset -e\ncase $1 in\nconfigure)\n    \
                 /usr/lib/dkms/common.postinst {name} {version} /usr/share/{package} \"\" $2\nesac"
            ),
        );
        self.write(
            &format!("{debian}/prerm"),
            &format!(
                "#!/bin/sh\nset -e\ncase $1 in\nremove|upgrade|deconfigure)\n    \
                 if [ \"$(dkms status -m {name} -v {version})\" ]; then\n        dkms remove -m {name} -v {version} --all\n    fi\nesac"
            ),
        );
        self.sh(&format!("chmod 755 {debian}/p* && dpkg-deb --build /root/{at} /root/{at}.deb"));
    }

    /// Runs a command again and again until it succeeds, for a minute at most.
    #[track_caller]
    pub fn wait_until(&mut self, command: &str) {
        self.sh(&format!("for i in {{1..3000}}; do {command} && exit; sleep 0.02; done; exit 1"));
    }

    /// Runs a command that has to print what it printed before, in whatever order.
    #[track_caller]
    pub fn unchanged(&mut self, command: &str, before: &str) {
        let after = self.sh(command);
        let missing: Vec<&str> = before.lines().filter(|line| !after.lines().any(|other| other == *line)).collect();
        let new: Vec<&str> = after.lines().filter(|line| !before.lines().any(|other| other == *line)).collect();
        assert!(
            missing.is_empty() && new.is_empty(),
            "`{command}` should print what it did before; now missing: {missing:#?}, now there: {new:#?}\n{}",
            self.history()
        );
    }

    /// Literal text, with the names of this root put in, as the dkms in it says it.
    pub fn expand(&self, text: &str) -> String {
        let [old, newest] = kernels() else {
            unreachable!("checked when the root was made");
        };
        let series: String = newest.split_inclusive('.').take(2).collect();
        let mut text = text
            .replace("$SIGNING", SIGNING)
            .replace("$SERIES", series.trim_end_matches('.'))
            .replace("$OLD", old)
            .replace("$K", newest)
            .replace("$A", std::env::consts::ARCH)
            .replace("$J", &std::thread::available_parallelism().map_or(1, |jobs| jobs.get()).to_string());
        if self.layer == Layer::Peer {
            for (ours, original) in ORIGINAL {
                text = text.replace(ours, original);
            }
            text = text
                .split_inclusive('\n')
                .filter(|line| !NOT_YET_DEPRECATED.iter().any(|it| line.starts_with(it)))
                .collect();
        }
        text
    }

    fn history(&self) -> String {
        let mut text = "The last commands in this root:\n".to_owned();
        for said in &self.transcript {
            let _ = write!(text, "{said}");
        }
        text
    }
}

/// As often as there is time for.
pub const MANY: usize = 1_000_000_000;

/// How many seconds a test has that goes on for as long as it is given.
pub fn seconds_given() -> u64 {
    std::env::var("SECONDS_GIVEN").ok().and_then(|seconds| seconds.parse().ok()).unwrap_or(600)
}

/// A key and its certificate, to be signed with in every root of a run, or modules would differ: both in a tar archive,
/// in base64.
pub fn key_pair() -> &'static str {
    static PAIR: OnceLock<String> = OnceLock::new();
    PAIR.get_or_init(|| {
        let mut root = Root::with(Layer::Ours, &[]);
        root.sh("dkms generate_mok");
        root.sh("tar -c -C /var/lib/dkms mok.key mok.pub | base64 -w0")
    })
}

/// The bytes that `od -An -v -tx1` dumped.
pub fn undump(dump: &str) -> Vec<u8> {
    let bytes: Result<_, _> = dump.split_whitespace().map(|byte| u8::from_str_radix(byte, 16)).collect();
    bytes.expect("od prints bytes")
}

impl Drop for Root {
    fn drop(&mut self) {
        // The agent ends with its input, and the root with the agent.
        drop(self.commands.take());
        let _ = self.answers.read_to_end(&mut Vec::new());
        let _ = self.agent.wait();
    }
}
