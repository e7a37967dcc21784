// SPDX-License-Identifier: GPL-2.0-or-later

//! A hostile package: whatever its dkms.conf, its scripts and its Makefile try, they get nowhere.

use std::collections::BTreeSet;

use crate::support::{Layer, Root};

/// What is tried, and where it has to work for the attempt to be worth something.
struct Attempt {
    name: &'static str,
    /// Bash that succeeds if the attempt does.
    script: &'static str,
    /// Whether root, outside, can do it: then the script itself is right.
    control: Control,
    /// Whether it gets through where there are no namespaces, see SECURITY.md.
    without: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Control {
    Root,
    /// Nobody can do it everywhere, or trying it would end the test.
    No,
}

const fn attempt(name: &'static str, script: &'static str) -> Attempt {
    Attempt { name, script, control: Control::Root, without: false }
}

/// One that only namespaces keep from it.
const fn seen_without(name: &'static str, script: &'static str) -> Attempt {
    Attempt { without: true, ..attempt(name, script) }
}

const fn uncontrolled(name: &'static str, script: &'static str) -> Attempt {
    Attempt { control: Control::No, ..attempt(name, script) }
}

/// `/srv/world` has the numbers of processes and sockets that are there to be found.
const ATTEMPTS: &[Attempt] = &[
    // Files of the system, and of other modules.
    attempt("write /etc/passwd", "echo '# x' >>/etc/passwd"),
    attempt("replace /etc/passwd", "cp /etc/passwd /etc/passwd.new && mv /etc/passwd.new /etc/passwd"),
    attempt("write to /etc/dkms", "echo BUILD_AS_ROOT=yes >/etc/dkms/hostile.conf && rm /etc/dkms/hostile.conf"),
    attempt("write to another module's tree", "touch /var/lib/dkms/victim/1/$K/$A/module/x"),
    attempt("register a module", "mkdir /var/lib/dkms/new && rmdir /var/lib/dkms/new"),
    attempt("write to another module's source", "echo >>/usr/src/victim-1/dkms.conf"),
    attempt("write the headers", "echo >>$(realpath /lib/modules/$K/build)/Makefile"),
    attempt("write the common headers", "echo >>$(ls -d /usr/src/linux-headers-*-common | head -n 1)/Makefile"),
    attempt(
        "write to the modules of a kernel",
        "mkdir -p /lib/modules/$K/updates/dkms && touch /lib/modules/$K/updates/dkms/x",
    ),
    attempt("write to the store of results", "mkdir /var/cache/dkms/results/x && rmdir /var/cache/dkms/results/x"),
    attempt("write to another module's compile cache", "touch /var/cache/dkms/ccache/victim/x"),
    attempt("write to the answers to probes", "mkdir /var/cache/dkms/probes/x && rmdir /var/cache/dkms/probes/x"),
    attempt("write our own make", "touch /usr/lib/dkms/sandbox/make"),
    attempt("write to /boot", "touch /boot/x"),
    attempt("write to /root", "touch /root/x"),
    attempt("write a setting of the kernel", "cat /proc/sys/kernel/core_pattern >/proc/sys/kernel/core_pattern"),
    // Secrets.
    attempt("read the key that signs", "cat /var/lib/dkms/mok.key"),
    attempt("read /etc/shadow", "cat /etc/shadow"),
    attempt("read a file of root's", "cat /root/secret"),
    attempt("read a disk", "head -c 1 $disk"),
    uncontrolled("read the memory of the kernel", "head -c 1 /dev/mem || head -c 1 /proc/kcore"),
    seen_without("read what others have cached", "ls /var/cache/dkms/ccache/victim/*"),
    // Other processes.
    seen_without("see a process of the system", "kill -0 $victim || [ -e /proc/$victim ]"),
    attempt("read the environment of root's process", "grep -z OUTSIDE_SECRET /proc/$victim/environ"),
    attempt("read the memory of root's process", ": </proc/$victim/mem"),
    attempt("read the files of root's process", "ls -l /proc/$victim/fd/1"),
    attempt("read the environment of another build", "grep -z OUTSIDE_SECRET /proc/$build/environ"),
    attempt("read the memory of another build", ": </proc/$build/mem"),
    attempt(
        "trace another build",
        "perl -e 'exit(syscall(101, 16, '$build', 0, 0) != 0)' && perl -e 'syscall(101, 17, '$build', 0, 0)'",
    ),
    attempt("trace root's process", "perl -e 'exit(syscall(101, 16, '$victim', 0, 0) != 0)'"),
    attempt("stop another build", "kill -CONT $build"),
    uncontrolled("read what process 1 has", "cat /proc/1/environ || ls /proc/1/fd/ || : </proc/1/mem"),
    uncontrolled("trace process 1", "perl -e 'exit(syscall(101, 16, 1, 0, 0) != 0)'"),
    uncontrolled("enter the namespaces of process 1", "nsenter -t 1 -m true"),
    // The network, and whoever listens on this machine.
    attempt("talk TCP", "exec 3<>/dev/tcp/127.0.0.1/$tcp"),
    attempt("talk UDP", "exec 3<>/dev/udp/127.0.0.1/$tcp"),
    uncontrolled(
        "send UDP away",
        "perl -MIO::Socket -e 'IO::Socket::INET->new(Proto => \"udp\", PeerAddr => \"192.0.2.1:53\")->send(\"x\") or exit 1'",
    ),
    attempt(
        "listen",
        "perl -MIO::Socket -e 'IO::Socket::INET->new(Listen => 1, LocalAddr => \"127.0.0.1\") or exit 1'",
    ),
    attempt("talk to an abstract socket", "perl /srv/talk @$abstract"),
    attempt("talk to a socket in /run", "perl /srv/talk /run/listens"),
    attempt("talk to a socket in /tmp", "perl /srv/talk /tmp/listens"),
    attempt("talk to a socket elsewhere", "perl /srv/talk /srv/listens"),
    attempt("talk to the kernel by netlink", "perl -MSocket -e 'socket(my $s, 16, 3, 0) or exit 1'"),
    // Privileges.
    attempt("make a device", "mknod /dev/x c 1 3 || mknod ./x c 1 3 && rm -f /dev/x ./x"),
    attempt("mount", "mount -t tmpfs x /mnt && umount /mnt"),
    attempt("be root by a setuid program", "[ $(/srv/setuid-id -u) = 0 ]"),
    uncontrolled("be root by su", "su -c true"),
    // MNT_DETACH; MS_REMOUNT and MS_BIND; a tmpfs.
    uncontrolled(
        "see what /run hides",
        "perl /srv/apart 'my $at = q(/run); syscall(166, $at, 2) == 0 && -e q(/run/listens)'",
    ),
    uncontrolled(
        "write by a user namespace",
        "perl /srv/apart 'my $at = q(/); syscall(165, 0, $at, 0, $_, 0) for 0x20, 0x1020; open my $f, q(>), q(/etc/x)'",
    ),
    attempt(
        "mount in a user namespace",
        "perl /srv/apart 'my @mount = qw(x /srv tmpfs); syscall(165, @mount, 0, 0) == 0'",
    ),
    attempt("leave a namespace", "perl -e 'exit(syscall(272, 0x20000) != 0)'"),
    // Keys, into and from what goes with the thread.
    attempt("add a key", "perl -e 'my @key = qw(user k x); exit(syscall(248, @key, 1, -1) < 0)'"),
    attempt("have a keyring", "perl -e 'exit(syscall(250, 0, -1, 1) < 0)'"),
    attempt("take a capability", "grep -q 'CapBnd:.*[1-9a-f]' /proc/self/status"),
    attempt("open the caller's terminal", ": >/dev/tty || echo >/srv/terminal"),
    attempt("use io_uring", "perl -e 'my $p = \"\\0\" x 120; exit(syscall(425, 1, $p) < 0)'"),
];

/// Says which attempts succeed, each as a line `tried PHASE: NAME`.
fn trier() -> String {
    let mut script = String::from("phase=$1\n. /srv/world\n");
    for Attempt { name, script: text, control, .. } in ATTEMPTS {
        let wanted = if *control == Control::No { "[ $phase != root ] && " } else { "" };
        script.push_str(&format!("{wanted}(\n{text}\n) >/dev/null 2>&1 </dev/null && echo \"tried $phase: {name}\"\n"));
    }
    script + "true\n"
}

/// Talks to a socket.
const TALK: &str = r#"use IO::Socket::UNIX;
my $path = $ARGV[0];
$path =~ s/^@/\0/;
for my $type (SOCK_STREAM, SOCK_DGRAM) {
    exit 0 if IO::Socket::UNIX->new(Type => $type, Peer => $path);
}
exit 1;
"#;

/// Makes a user namespace with mounts of its own, by unshare or clone3, and does there what is said.
const APART: &str = r#"my $flags = 0x10020000;
if (syscall(272, $flags) != 0) {
    my $pid = syscall(435, pack("Q11", $flags, (0) x 3, 17, (0) x 6), 88);
    exit 1 if $pid < 0;
    if ($pid) { waitpid($pid, 0); exit($? != 0) }
}
exit !eval $ARGV[0];
"#;

/// Listens everywhere, and says where.
const LISTEN: &str = r#"use IO::Socket; use IO::Socket::UNIX;
my $tcp = IO::Socket::INET->new(Listen => 9, LocalAddr => "127.0.0.1") or die;
my $port = $tcp->sockport;
my $udp = IO::Socket::INET->new(Proto => "udp", LocalAddr => "127.0.0.1:$port") or die;
# Roots have one network.
my $abstract = "dkms-attack-" . (stat "/proc/self/ns/mnt")[1];
my @paths = ("/run/listens", "/tmp/listens", "/srv/listens", "\0$abstract");
my @unix = map { IO::Socket::UNIX->new(Listen => 9, Local => $_) or die $_ } @paths;
chmod 0777, @paths[0..2];
open F, ">", "/srv/port"; print F "tcp=$port\nabstract=$abstract\n"; close F;
sleep 100000;
"#;

/// A root with a package that tries, another module, and a world to be attacked.
fn hostile(options: &[&str]) -> Root {
    let mut root = Root::with(Layer::Ours, options);
    root.sh("dkms generate_mok; echo secret >/root/secret; chmod 700 /root");
    root.quick("victim", "");
    root.sh("dkms build victim/1; mkdir -p /var/cache/dkms/{results,probes,ccache/victim} && touch /var/cache/dkms/ccache/victim/object");
    root.sh("chown -R _dkms: /var/cache/dkms/ccache/victim && chmod 700 /var/cache/dkms/ccache/victim");
    root.sh("cp /usr/bin/id /srv/setuid-id && chmod 4755 /srv/setuid-id");
    root.write("/srv/talk", TALK);
    root.write("/srv/apart", APART);
    root.write("/srv/listen", LISTEN);
    root.write("/srv/try", &trier());
    root.sh(
        "{ OUTSIDE_SECRET=1 sleep 100000 & echo victim=$!
           OUTSIDE_SECRET=1 setpriv --reuid=_dkms --regid=_dkms --clear-groups sleep 100000 & echo build=$!; } >/srv/world 2>/dev/null
         perl /srv/listen >/dev/null 2>&1 & disown -a",
    );
    root.wait_until("[ -s /srv/port ]");
    root.sh("{ cat /srv/port; echo K=$K A=$A disk=$(find /dev -type b | head -n 1); } >>/srv/world; setsid script -qc 'tty >/srv/tty; sleep 100000' /dev/null >/dev/null 2>&1 </dev/null & disown");
    root.wait_until("[ -s /srv/tty ]");
    root.sh("ln -s $(cat /srv/tty) /srv/terminal");
    root.quick(
        "hostile",
        "PRE_BUILD='try pre_build'\nMAKE='./try make'\nPOST_BUILD='try post_build'\nbash /srv/try dkms.conf >&2",
    );
    root.write("/usr/src/hostile-1/try", "#!/bin/bash\nexec bash /srv/try \"$@\"");
    root.sh("chmod +x /usr/src/hostile-1/try");
    root
}

/// The attempts that succeeded, of all that this text tells.
fn succeeded(text: &str) -> BTreeSet<String> {
    text.lines().filter_map(|line| line.strip_prefix("tried ")).map(str::to_owned).collect()
}

#[test]
fn nothing_that_a_hostile_package_tries_succeeds() {
    let mut root = hostile(&[]);
    // Root himself can do all of it: that nobody else can is our doing.
    let control = succeeded(&root.sh("cp /etc/passwd /srv; bash /srv/try root; cp /srv/passwd /etc"));
    let wanted: BTreeSet<String> =
        ATTEMPTS.iter().filter(|it| it.control == Control::Root).map(|it| format!("root: {}", it.name)).collect();
    let missing: Vec<_> = wanted.difference(&control).collect();
    assert!(missing.is_empty(), "attempts that root could not do either: {missing:#?}");

    let said = root.sh("dkms install hostile/1 2>&1; cat /var/lib/dkms/hostile/1/$K/$A/log/make.log");
    let got_through = succeeded(&said);
    println!("figure: {} attempts, each from four places: {} got through", ATTEMPTS.len(), got_through.len());
    assert!(got_through.is_empty(), "got through: {got_through:#?}");
    assert!(said.contains("Running the post_build script... done."), "{said}");
}

#[test]
fn without_namespaces_only_what_security_md_says_is_seen() {
    let mut root = hostile(&[]);
    let without = "/tmp/no-namespaces";
    root.sh(&format!("gcc -o {without} /srv/tests/no-namespaces.c && ! {without} unshare --mount true"));
    let said =
        root.sh(&format!("{without} dkms install hostile/1 2>&1; cat /var/lib/dkms/hostile/1/$K/$A/log/make.log"));
    let phases = ["dkms.conf", "pre_build", "make", "post_build"];
    let seen = ATTEMPTS.iter().filter(|it| it.without);
    let expected = seen.flat_map(|it| phases.map(|phase| format!("{phase}: {}", it.name))).collect();
    assert_eq!(succeeded(&said), expected);
    assert!(said.contains("Running the post_build script... done."), "{said}");
}

/// A package whose MAKE is a script, which can be its PRE_BUILD and POST_BUILD, too.
fn with_make(root: &mut Root, name: &str, conf: &str, script: &str) {
    root.quick(name, &format!("MAKE='./make.sh'\n{conf}"));
    root.write(&format!("/usr/src/{name}-1/make.sh"), &format!("#!/bin/bash\n{script}"));
    root.sh(&format!("chmod 755 /usr/src/{name}-1/make.sh"));
}

#[test]
fn nothing_runs_on_after_a_build() {
    let mut root = Root::with(Layer::Ours, &[]);
    root.sh("dkms generate_mok; gcc -o /tmp/no-namespaces /srv/tests/no-namespaces.c");
    let stay = "setsid sleep 98761 & (trap '' TERM HUP INT; setsid bash -c '(sleep 98762; :) &' &)
perl -e 'use POSIX; exit if fork; setsid; exit if fork; close STDOUT; close STDERR; exec qw(sleep 98763)'
for i in {1..500}; do grep -qs 98763 /proc/[0-9]*/cmdline && exit 0; sleep 0.01; done; exit 9";
    let conf = "PRE_BUILD=make.sh\nPOST_BUILD=make.sh\n(setsid sleep 98764 >/dev/null 2>&1 &)";
    with_make(&mut root, "stays", conf, stay);
    for without in ["", "/tmp/no-namespaces"] {
        root.sh(&format!("{without} dkms install stays/1 --force"));
        root.says("pgrep -x sleep; pgrep -u _dkms; true", "");
    }
    // Nor after one that was killed.
    with_make(&mut root, "stays", "", "setsid sleep 98765 & sleep 98766");
    root.sh("dkms build stays/1 --force >/dev/null 2>&1 & echo $! >/srv/dkms");
    root.wait_until("pgrep -f '^sleep 98766'");
    root.sh("kill -KILL $(cat /srv/dkms)");
    root.wait_until("! pgrep -u _dkms");
}

/// Nor where the build's user has no room for another key: keys are in no namespace, and outlive who made them.
#[test]
fn keys_of_who_calls_are_out_of_reach() {
    let mut root = Root::with(Layer::Ours, &[]);
    root.sh("dkms generate_mok; gcc -o /tmp/no-namespaces /srv/tests/no-namespaces.c");
    // keyctl: 1 is JOIN, 7 CLEAR, 11 READ, 15 SET_TIMEOUT, for what should not be cleared. -3 is the session's, -4 the user's.
    root.write(
        "/srv/secret",
        "my ($ring, @key) = qw(mine user roots-secret TOPSECRET);
         syscall(250, 1, $ring) > 0 && syscall(248, @key, 9, -3) > 0 or exit 9; exec @ARGV",
    );
    root.write(
        "/srv/fill",
        "for (1..300) { my @key = (qq(user), qq(k$_), qq(x)); my $key = syscall(248, @key, 1, -4); $key > 0 or exit;
         syscall(250, 15, $key, 120); print qq(TOPSECRET room\n) }",
    );
    root.write(
        "/srv/read",
        "system(q(grep roots-secret /proc/keys)); my ($type, $name, $text) = (qq(user), qq(roots-secret), qq( ) x 9);
         my $key = syscall(249, $type, $name, 0, 0); $key > 0 && syscall(250, 11, $key, $text, 9) > 0 && print qq($text\n); exit 0",
    );
    let secret = "perl /srv/secret";
    root.sh(&format!(
        "{secret} perl /srv/read | grep -q '^[0-9a-f]* .*roots-secret' && {secret} perl /srv/read | grep TOPSECRET"
    ));
    with_make(&mut root, "keys", "PRE_BUILD=make.sh", "perl /srv/fill; perl /srv/read");
    let user = "setpriv --reuid=_dkms --regid=_dkms --clear-groups perl";
    // What keys took that were cleared is free only when the kernel has come to it.
    for fill in ["true", &format!("until {user} /srv/fill | grep -q room; do sleep 0.1; done")] {
        for without in ["", "/tmp/no-namespaces"] {
            root.sh(&format!(
                "{fill} && {secret} {without} dkms build keys/1 --force; code=$?; {user} -e 'syscall(250, 7, -4)'; exit $code"
            ));
            root.says("grep -aE 'roots-secret|TOPSECRET' /var/lib/dkms/keys/1/$K/$A/log/make.log; true", "");
        }
    }
}

/// What a build may leave for root to take, and the exit code. None of it is taken, and nothing is followed.
const PLANTED: &[(&str, &str, i32)] = &[
    ("a link to a secret", "ln -sf /etc/shadow planted.ko", 7),
    ("a link to another module", "ln -sf /usr/src/planted-1/planted.ko planted.ko", 7),
    ("a second name for a file of root's", "ln -f /usr/src/planted-1/dkms.conf planted.ko || ln -s x planted.ko -f", 7),
    ("a pipe", "rm planted.ko; mkfifo planted.ko", 7),
    ("a device", "rm planted.ko; mknod planted.ko c 1 3 || mkfifo planted.ko", 7),
    ("a directory", "rm planted.ko; mkdir planted.ko", 7),
    ("more than can be held in memory", "truncate -s 5T planted.ko", 1),
    ("a program for everybody", "cp /bin/sh .; chmod 6777 sh; chmod 7777 .; mkdir -m 7777 d; mkfifo d/p; exit 1", 10),
    ("a log that is a link", "ln -sf /etc/passwd make.log; exit 1", 10),
    ("directories that have no end", "perl -e 'for (1..40000) { mkdir q(d); chdir q(d) }'; exit 1", 10),
    ("a name with all that is odd in it", "touch $'a\\nb\\e[2J' ' ' '*' -- '-rf'; exit 1", 10),
];

#[test]
fn root_takes_nothing_but_files_out_of_a_build() {
    let mut root = Root::with(Layer::Ours, &[]);
    root.sh("dkms generate_mok");
    let secrets = "md5sum /etc/shadow /etc/passwd /usr/src/planted-1/*; stat -c '%A %U %h' /etc/shadow /etc/passwd";
    for (what, script, code) in PLANTED {
        with_make(&mut root, "planted", "STRIP=no", script);
        let before = root.sh(secrets);
        let output = root.run("dkms install planted/1");
        assert_eq!(output.code, *code, "{what}: {output:?}");
        root.says("dkms status; find /lib/modules -name 'planted*'", "planted/1: added\n");
        // What is left of it is root's, nobody else's to write, and files, directories and links.
        root.says(
            "cd /var/lib/dkms/planted/1/build; find . ! -user root -o ! -group root -o ! -type l -perm /7022 -o ! -type f ! -type d ! -type l",
            "",
        );
        root.sh("test -f /var/lib/dkms/planted/1/build/make.log && ! test -L /var/lib/dkms/planted/1/build/make.log");
        root.unchanged(secrets, &before);
        root.says("dkms remove planted/1 --all", "Deleting module planted/1 completely from the DKMS tree.\n");
        root.says("find /var/lib/dkms /tmp -mindepth 1 ! -name 'mok.*'", "");
    }

    // Through a directory that is a link; and what is beside the modules.
    with_make(&mut root, "planted", "BUILT_MODULE_LOCATION=sub", "ln -s /usr/src/planted-1 sub");
    let output = root.run("dkms build planted/1");
    assert_eq!(output.code, 7, "{output:?}");
    with_make(&mut root, "planted", "", "ln -s /var/lib/dkms/mok.key Module.symvers");
    root.sh("dkms build planted/1 && test ! -e /var/lib/dkms/planted/1/$K/$A/module/Module.symvers");
    // A module with the setuid bit is a module.
    with_make(&mut root, "planted", "", "chmod 6777 planted.ko");
    root.sh("dkms install planted/1 --force");
    root.says("stat -c '%A %U' /lib/modules/$K/updates/dkms/planted.ko", "-rw-r--r-- root\n");
}

/// What POST_BUILD may put beside the modules, and whether that is an error.
const BESIDE: &[(&str, &str, i32)] = &[
    ("a link to a secret", "ln -s /etc/shadow stolen", 0),
    ("a directory that is a link", "ln -s /etc stolen", 0),
    ("a pipe", "mkfifo stolen", 1),
    ("another log", "rm -rf log; mkdir log; echo x >log/make.log", 0),
    ("another module", "echo x >module/planted.ko; echo y >module/second.ko", 0),
    ("a module directory that is a link", "rm -r module; ln -s /etc module", 0),
    ("as many files as one likes", "for i in {1..20000}; do : >f$i; done", 0),
    ("more than can be held in memory", "for i in {1..2000}; do truncate -s 900M f$i; done", 1),
    ("directories that have no end", "perl -e 'for (1..40000) { mkdir q(d); chdir q(d) }'", 0),
    ("a program for everybody", "cp /bin/sh tool; chmod 6777 tool", 0),
];

#[test]
fn root_takes_nothing_but_files_from_post_build() {
    let mut root = Root::with(Layer::Ours, &[]);
    root.sh("dkms generate_mok");
    for (what, script, code) in BESIDE {
        with_make(
            &mut root,
            "planted",
            "MAKE=true\nPOST_BUILD=make.sh",
            &format!("cd /var/lib/dkms/planted/1/$kernelver/$arch || exit 9\n{script}"),
        );
        let output = root.run("dkms build planted/1");
        assert_eq!(output.code, *code, "{what}: {output:?}");
        // It is built, whatever comes beside it.
        root.says("dkms status planted", "planted/1, $K, $A: built\n");
        root.says(
            "cd /var/lib/dkms/planted/1/$K/$A; find . ! -user root -o ! -type d -perm /7133 -o -perm /7022 -o ! -type f ! -type d",
            "",
        );
        root.says(
            "cd /var/lib/dkms/planted/1/$K/$A; cmp module/planted.ko /dev/null 2>&1 | grep -c EOF; ls module",
            "1\nplanted.ko\n",
        );
        root.sh(
            "cd /var/lib/dkms/planted/1; cat $K/$A/log/make.log build/make.log 2>/dev/null | grep -q '^DKMS (dkms-'",
        );
        root.sh("dkms remove planted/1 --all");
        root.says("find /var/lib/dkms /tmp -mindepth 1 ! -name 'mok.*'", "");
    }
}

#[test]
fn a_build_takes_no_more_of_the_machine_than_it_may() {
    let mut root = Root::with(Layer::Ours, &[]);
    root.write("/etc/dkms/framework.conf.d/limits.conf", "build_memory=256M\nbuild_disk_reserve=8M");
    root.sh("dkms generate_mok; echo build_processes=500 >/etc/dkms/framework.conf.d/processes.conf");
    // Processes: what is too many cannot be started, and the machine goes on. (So it does should our limit fail here:
    // the machine is one that others work on, too.)
    let bomb = "f() { f & f & wait; }; f 2>/dev/null & sleep 1; exit 1";
    with_make(&mut root, "greedy", "", bomb);
    root.sh("(ulimit -u 2000; dkms build greedy/1 >/srv/out 2>&1) & for i in {1..40}; do pgrep -c -u _dkms >>/srv/most; sleep 0.02; done; wait; \
             [ $(sort -n /srv/most | tail -n 1) -le 500 ]");
    root.says("pgrep -u _dkms; true", "");
    root.sh("rm /etc/dkms/framework.conf.d/processes.conf");
    // Memory of a process; that of the sandbox's own file systems.
    with_make(&mut root, "greedy", "", "perl -e 'my $x = \"x\" x (300 << 20)' && exit 1; exit 0");
    root.sh("dkms build greedy/1");
    with_make(
        &mut root,
        "greedy",
        "",
        "head -c 65M /dev/zero >/dev/shm/x && exit 1; head -c 65M /dev/zero >/run/x && exit 1; exit 0",
    );
    root.sh("dkms build greedy/1 --force");
    // Time.
    with_make(&mut root, "greedy", "", "setsid sleep 98761 & while :; do sleep 1; done");
    root.sh("echo build_time=3s >/etc/dkms/framework.conf.d/time.conf");
    let output = root.run("dkms build greedy/1 --force");
    assert_eq!(output.code, 10, "{output:?}");
    root.sh("rm /etc/dkms/framework.conf.d/time.conf");
    root.says(
        "grep '^# Building' /var/lib/dkms/greedy/1/build/make.log; pgrep -u _dkms; true",
        "# Building module(s) was ended: it took too long, see build_time in /etc/dkms/framework.conf\n",
    );
    // All commands have it together.
    with_make(&mut root, "greedy", "PRE_BUILD=make.sh", "sleep 2; exit 0");
    root.sh("echo build_time=3s >/etc/dkms/framework.conf.d/time.conf; dkms build greedy/1 --force && exit 1; rm /etc/dkms/framework.conf.d/time.conf");
    root.says(
        "grep -c 'exit code: 0' /var/lib/dkms/greedy/1/build/make.log; grep '^# Building' /var/lib/dkms/greedy/1/build/make.log",
        "1\n# Building module(s) was ended: it took too long, see build_time in /etc/dkms/framework.conf\n",
    );
    // The disk: what it wrote is not kept.
    root.sh("dkms unbuild greedy/1 >/dev/null; mount -t tmpfs -o mode=755,size=64m x /var/lib/dkms/greedy/1");
    root.sh("ln -s /usr/src/greedy-1 /var/lib/dkms/greedy/1/source");
    with_make(&mut root, "greedy", "", "for i in {1..60}; do head -c 1M /dev/zero >f$i; done; sleep 100000");
    let output = root.run("dkms build greedy/1");
    assert_eq!(output.code, 10, "{output:?}");
    root.says(
        "cd /var/lib/dkms/greedy/1/build; ls; grep '^# Building' make.log",
        "make.log\n# Building module(s) was ended: it took the last of a disk, see build_disk_reserve in /etc/dkms/framework.conf\n",
    );
    root.sh("umount /var/lib/dkms/greedy/1");
    // And the room for names on it.
    root.sh(
        "dkms unbuild greedy/1 >/dev/null; mount -t tmpfs -o mode=755,size=2g,nr_inodes=40k x /var/lib/dkms/greedy/1",
    );
    root.sh("ln -s /usr/src/greedy-1 /var/lib/dkms/greedy/1/source");
    with_make(&mut root, "greedy", "", "for ((i = 0; ; i++)) { : >f$i || break; }; sleep 100000");
    assert_eq!(root.run("dkms build greedy/1").code, 10);
    root.says("ls /var/lib/dkms/greedy/1/build", "make.log\n");
    root.sh("umount /var/lib/dkms/greedy/1");
    // What it prints is cut off, and does not stop it.
    with_make(&mut root, "greedy", "PRE_BUILD=make.sh\nPOST_BUILD=make.sh", "head -c 100M /dev/zero; exit 0");
    root.sh("rm -rf /var/cache/dkms/results; dkms build greedy/1 --force");
    // Nor is what says so much kept for another time.
    root.says("find /var/cache/dkms -path '*/results/*' -type f", "");
    root.sh("[ $(dkms build greedy/1 --force --verbose | wc -c) -lt $((260 << 20)) ]");
    root.sh("[ $(stat -c %s /var/lib/dkms/greedy/1/$K/$A/log/make.log) -lt $((260 << 20)) ] && grep -qa 'is left out' /var/lib/dkms/greedy/1/$K/$A/log/make.log");
}

#[test]
fn a_conf_takes_no_more_of_the_machine_than_it_may() {
    let mut root = Root::with(Layer::Ours, &[]);
    root.write("/etc/dkms/framework.conf.d/limits.conf", "build_memory=256M\nbuild_processes=500\nbuild_time=3s");
    for script in [
        "while :; do :; done",
        "sleep 1000",
        "trap '' TERM; exec sleep 1000",
        "f() { f & f & wait; }; f 2>/dev/null",
        "x=x; while :; do x=$x$x; done 2>/dev/null",
        "yes",
        "yes >&2",
        "PACKAGE_NAME=$(yes)",
        "kill -STOP $$",
    ] {
        root.quick("greedy", script);
        let output = root.run("ulimit -u 2000; dkms add greedy/1 >/dev/null 2>&1; dkms status; pgrep -u _dkms");
        assert!(!output.text.contains("built") && output.code == 1, "{script}: {output:?}");
        root.sh("rm -rf /var/lib/dkms/greedy");
    }
}

#[test]
fn what_others_wrote_does_nothing_at_a_terminal() {
    let mut root = Root::with(Layer::Ours, &[]);
    root.sh("dkms generate_mok");
    // The title is changed, the screen cleared, an answer put into the keyboard; once as C1.
    let evil = r"\033]0;title\007\033[2J\033[6n\r\0302\0233c";
    let conf =
        format!("printf '{evil}\\n' >&2\nPRE_BUILD=\"missing$(printf '{evil}')\"\nPATCH=\"$(printf '{evil}').patch\"");
    root.quick("evil", &conf);
    let calm = |text: &str| !text.contains('\x1b') && !text.contains('\x07') && !text.contains('\u{9b}');
    for command in [
        "dkms add evil/1",
        "dkms build evil/1",
        "dkms build --verbose evil/1",
        "dkms install evil/1",
        "dkms status",
        "dkms remove evil/1 --all",
    ] {
        let written = root.sh(&format!("TERM=dumb script -qc '{command}' /dev/null; true"));
        assert!(calm(&written), "{command}: {written:?}");
        // Somebody reads what a pipe brought.
        root.sh("dkms add evil/1 >/dev/null 2>&1; true");
        let written = root.sh(&format!("{command} 2>&1; true"));
        assert!(calm(&written), "{command}: {written:?}");
        root.sh("dkms add evil/1 >/dev/null 2>&1; true");
    }
    // What runs at length, and what fails; drawn anew and not.
    for (exit, term) in [(0, "dumb"), (1, "dumb"), (0, "xterm"), (1, "xterm")] {
        with_make(&mut root, "evil", "", &format!("printf '{evil}\\n'; printf '{evil}\\n' >&2; exit {exit}"));
        let written = root.sh(&format!("TERM={term} script -qc 'dkms build evil/1 --force --verbose' /dev/null; true"));
        assert!(written.contains("^[]0;title^G^[[2J^[[6n^M"), "{written:?}");
        assert!(
            !written.contains("\x1b]") && !written.contains("\x1b[2J") && !written.contains("\x1b[6n"),
            "{written:?}"
        );
    }
    // A tarball's names, and a tree's.
    root.sh("mkdir -p /root/t/x && cp /usr/src/evil-1/* /root/t/x && mkfifo /root/t/x/$'\\e[2J' && tar -cf /root/t.tar -C /root/t x");
    let written = root.sh("TERM=dumb script -qc 'dkms ldtarball /root/t.tar' /dev/null; true");
    assert!(calm(&written) && written.contains("is a pipe"), "{written:?}");
    root.sh("mkdir -p $'/var/lib/dkms/\\e[2J/1' && ln -s /usr/src/evil-1 $'/var/lib/dkms/\\e[2J/1/source'");
    let written = root.sh("TERM=dumb script -qc 'dkms status' /dev/null");
    assert!(calm(&written) && written.contains("^[[2J/1: added"), "{written:?}");
    root.says("dkms status | grep -F '[2J/1'", "^[[2J/1: added\n");
    // At login, what failed by such a name.
    let name = r"x$'\e]0;title\a'";
    root.sh(&format!(
        "mkdir /usr/src/{name}-1; cd /usr/src/{name}-1; echo no >no; cp -r . /srv/named
         printf 'PACKAGE_NAME=%q\nPACKAGE_VERSION=1\nBUILT_MODULE_NAME=x\nDEST_MODULE_LOCATION=/updates\nMAKE=false\nAUTOINSTALL=yes\n' {name} >dkms.conf
         dkms add {name}/1; /etc/kernel/postinst.d/dkms $K; true"
    ));
    let written = root.sh("/etc/update-motd.d/95-dkms");
    assert!(calm(&written) && written.contains("x^[]0;title^G/1"), "{written:?}");
}

#[test]
fn a_patch_writes_to_its_build_only_and_shows_nothing() {
    let new = |name: &str, mode: &str, text: &str| {
        format!(
            "diff --git a/{name} b/{name}\nnew file mode {mode}\n--- /dev/null\n+++ b/{name}\n@@ -0,0 +1 @@\n+{text}\n\\ No newline at end of file\n"
        )
    };
    let mut root = Root::with(Layer::Ours, &[]);
    // A patch that would be applied, and tell what is in it.
    let secret = new("what only root reads", "100644", "x");
    root.write("/root/secret", &secret);
    root.sh("dkms generate_mok; chmod 700 /root; mkdir /srv/open && chmod 777 /srv/open; touch /srv/before");
    for (number, (patch, more)) in [
        // Through a link that it makes, or that came with the source, or by its name.
        (new("way", "120000", "/srv/open") + &new("way/evil", "100644", "x"), ""),
        (new("way/evil", "100644", "x"), "ln -s /srv/open way"),
        (new("way/evil", "100644", "x"), "ln -s /etc way"),
        (new("../evil", "100644", "x"), ""),
        ("--- /dev/null\n+++ x/../../../../../../srv/open/evil\n@@ -0,0 +1 @@\n+x\n".to_owned(), ""),
        // It is not root who reads it.
        (String::new(), "ln -sf /root/secret patches/it.patch"),
        (String::new(), "ln -sf /root/secret /srv/open/it.patch; rm -r patches; ln -s /srv/open patches"),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("patched{number}");
        root.quick(&name, "PATCH=it.patch");
        root.write(&format!("/usr/src/{name}-1/patches/it.patch"), &patch);
        root.sh(&format!("cd /usr/src/{name}-1; {more}"));
        let said = root.sh(&format!("dkms build {name}/1 2>&1; cat /var/lib/dkms/{name}/1/build/make.log 2>&1; true"));
        // What leads to a place of others is not even tried.
        let refused = more.contains("/srv/open") && said.contains("/srv/open can be changed by others than root")
            || more.contains("/root/secret")
                && said.contains("Patch it.patch as specified in dkms.conf cannot be\nfound");
        assert!(refused || said.contains("Applying patch it.patch...(bad exit status"), "{said}");
        assert!(!said.contains("what only root reads"), "{said}");
        root.says(
            "ls /srv/open | grep -vx it.patch; find /etc /root /usr/src /var/lib/dkms/.[!.]* -newer /srv/before -name '*evil*' 2>/dev/null; true",
            "",
        );
    }
}

#[test]
fn one_build_does_not_disturb_another() {
    let mut root = Root::with(Layer::Ours, &[]);
    root.sh("dkms generate_mok; gcc -o /tmp/no-namespaces /srv/tests/no-namespaces.c");
    // It takes all job tokens and gives back too many, ends whomever it can, and traces him.
    let disturb = "for fd in /proc/self/fd/*; do fd=${fd##*/}; [ $fd -gt 2 ] || continue
    (exec timeout 1 cat <&$fd >/dev/null) 2>/dev/null; (exec timeout 1 yes + >&$fd) 2>/dev/null; done
touch /tmp/started; for i in {1..20}; do kill -9 $(pgrep -f sleep) -1 2>/dev/null; sleep 0.1; done; exit 0";
    with_make(&mut root, "evil", "AUTOINSTALL=yes\nPRE_BUILD=make.sh", disturb);
    for n in 1..4 {
        with_make(
            &mut root,
            &format!("good{n}"),
            "AUTOINSTALL=yes",
            "sleep 2; echo all: >Makefile; for i in {1..40}; do echo all: j$i; echo \"j$i:; @true\"; done >>Makefile; make -j4",
        );
    }
    root.sh("for m in evil good1 good2 good3; do dkms add $m/1; done");
    for alone in ["", "/tmp/no-namespaces "] {
        root.run(&format!("{alone}dkms autoinstall -j 3"));
        root.says("dkms status 'good*' | grep -c installed; rm -rf /var/cache/dkms/results", "3\n");
        root.sh("for n in 1 2 3; do dkms unbuild good$n/1 --all; done");
    }
}

#[test]
fn what_a_package_writes_in_good_faith_stays_in_its_sandbox() {
    let mut root = Root::with(Layer::Ours, &[]);
    root.sh("dkms generate_mok");
    let write = "set -e\necho x >/usr/src/faithful-1/generated.h\necho x >/tmp/faithful\necho x >/var/tmp/faithful\necho x >/dev/shm/faithful
echo x >$(readlink ../source)/more.h\necho x >/var/lib/dkms/faithful/1/build/own.h\ntest -e /usr/src/faithful-1/more.h";
    with_make(&mut root, "faithful", "PRE_BUILD=make.sh", write);
    root.sh("dkms add faithful/1");
    let all = "find /bin/ /boot /etc /home /lib/ /opt /root /usr /var/lib -path /var/lib/dkms/faithful -prune -o \
               -printf '%p %M %U %G %T@\\n' | grep -vE '/modules/[^ /]*( |/updates|/modules\\.)|^/var/lib/dkms '";
    // Too much for a test to hold.
    root.sh(&format!("({all}) | LC_ALL=C sort >/srv/before; [ $(wc -l </srv/before) -gt 10000 ]"));
    root.sh("dkms install faithful/1");
    root.says(&format!("({all}) | LC_ALL=C sort | diff /srv/before - | head -n 20"), "");
    root.says(
        "dkms status; find /usr/src/faithful-1 -type f -printf '%f\\n' | sort",
        "faithful/1, $K, $A: installed\ndkms.conf\nfaithful.ko\nmake.sh\n",
    );
}

/// What a build, or a source, may have of directories, links and files so that nobody comes to their end.
const ENDLESS: &[(&str, &str)] = &[
    (
        "two ways on from each of 40 directories",
        "for i in {0..39}; do mkdir $i; ln -s ../$((i + 1)) $i/a; ln -s ../$((i + 1)) $i/b; done; mkdir 40",
    ),
    ("more directories than a stack holds", "perl -e 'for (1..5000) { mkdir q(d); chdir q(d) }'"),
    ("a link to what is never read to its end", "ln -s /proc/kmsg x.c"),
    (
        "variables that have each other in them, over and over",
        "perl -e 'for my $name (q(A)..q(C)) { print qq($name =), (map { q( ) . q($(A)$(B)$(C)) x 30 . qq(/$_) } 1..8), qq(\\n) } \
         print q(include $(A)/x)' >a.mk",
    ),
    ("more than fits into memory", "truncate -s 20G x.c"),
    ("a pipe where kbuild notes what it read", "mkfifo .x.cmd"),
    ("more than fits into memory where kbuild notes what it read", "ln -s /dev/zero .x.cmd"),
    (
        "more notes of kbuild's than anybody reads, under names that are longer than paths should be",
        "perl -e 'my $d = q(d) x 250; for (1..15) { mkdir $d; chdir $d } open my $f, q(>), q(f); \
         for (1..100000) { $_ % 60000 or do { unlink q(f); open $f, q(>), q(f) }; link q(f), qq(.$_.cmd) }'",
    ),
    ("a million questions in one line", "perl -e 'print q(__has_include ) x 1100000' >x.h"),
    ("a million blobs in one line", "perl -e 'print q(incbin ) x 2000000' >x.c"),
];

#[test]
fn what_has_no_end_keeps_root_from_nothing() {
    let mut root = Root::with(Layer::Ours, &[]);
    root.sh("dkms generate_mok");
    let ended = |root: &mut Root, what: &str, command: &str| {
        let output = root.run(&format!("ulimit -n 20000; timeout 60 {command}"));
        // timeout(1) says 124, and 128 and more of who died by a signal.
        assert!(output.code < 124, "{what}: {command}: {output:?}");
    };
    for (what, script) in ENDLESS {
        with_make(&mut root, "endless", "MAKE=true\nPRE_BUILD=make.sh", script);
        ended(&mut root, what, "dkms build endless/1 --force");
        root.sh("dkms remove endless/1 --all; rm -r /usr/src/endless-1");
        root.says("find /var/lib/dkms /tmp -mindepth 1 ! -name 'mok.*'", "");
    }
    // The same in a source, from which builds are made, and of which plans know.
    for (what, script) in &ENDLESS[..4] {
        root.quick("endless", "AUTOINSTALL=yes");
        root.sh(&format!("cd /usr/src/endless-1 && {script}"));
        root.run("dkms add endless/1");
        ended(&mut root, what, "dkms plan");
        ended(&mut root, what, "dkms build endless/1");
        root.run("dkms remove endless/1 --all");
        root.sh("rm -r /usr/src/endless-1");
    }
}

#[test]
fn a_link_that_a_build_makes_says_nothing_of_what_is_closed() {
    let mut root = Root::with(Layer::Ours, &[]);
    root.sh(
        "dkms generate_mok; chmod 700 /root; echo x >/root/there; echo .incbin >/root/opaque; mkdir -m 700 /root/place",
    );
    root.sh("umask 077; echo x >/srv/there; echo .incbin >/srv/opaque; mkdir /srv/place");
    root.sh("echo x >/srv/open; chmod 644 /srv/open");
    // What a build can see of it: whether its compilers are the ones that ask the cache.
    let script = "[ \"$1\" != pre ] || exec ln -s $(cat target) x.c\n\
                  [ -e /usr/lib/ccache/.dkms-settings ] && echo it is shared || echo it is apart";
    with_make(&mut root, "peeping", "PRE_BUILD='make.sh pre'", script);
    let mut seen = |target: &str| {
        root.sh(&format!("echo {target} >/usr/src/peeping-1/target; dkms build peeping/1 --force"));
        root.sh("grep '^it is' /var/lib/dkms/peeping/1/$K/$A/log/make.log")
    };
    assert_eq!(seen("/srv/open"), "it is shared\n");
    for place in ["/root", "/srv"] {
        for name in ["there", "opaque", "nothing", "place", "place/nothing"] {
            assert_eq!(seen(&format!("{place}/{name}")), "it is apart\n", "{place}/{name}");
        }
    }
}

/// Nor does a script or a patch that is one.
#[test]
fn a_script_or_a_patch_that_a_build_makes_a_link_says_nothing_of_what_is_closed() {
    let mut root = Root::with(Layer::Ours, &[]);
    root.sh("dkms generate_mok; chmod 700 /root; printf '#!/bin/sh\\n' >/root/there; chmod 755 /root/there");
    for conf in ["POST_BUILD=post", "PATCH=it.patch"] {
        with_make(&mut root, "peeping", conf, "ln -sf $(cat target) post");
        root.sh("cd /usr/src/peeping-1; touch post; mkdir -p patches; dkms status | grep -q . || dkms add peeping/1");
        let mut said = |target: &str| {
            root.sh(&format!("cd /usr/src/peeping-1; echo {target} >target; ln -sfn {target} patches/it.patch"));
            let output = root.run("dkms build peeping/1 --force");
            (output.code, output.text)
        };
        assert_eq!(said("/root/there"), said("/root/nothing"), "{conf}");
    }
}

/// A module's conf is not read by the bash that reads another's: it could answer for that.
#[test]
fn one_conf_does_not_answer_for_another() {
    let mut root = Root::with(Layer::Ours, &[]);
    root.sh("dkms generate_mok");
    for name in ["evil", "good"] {
        root.quick(name, "AUTOINSTALL=yes\nPACKAGE_MAINTAINER=$(echo one)");
        root.sh(&format!("dkms add {name}/1"));
    }
    // The end of its own answer, and what is the answer to the next question: to the pipe of all answers.
    root.write(
        "/usr/src/evil-1/forge",
        r#"printf '\0000\0\0'
for it in PACKAGE_NAME=good PACKAGE_VERSION=1 BUILT_MODULE_NAME=good DEST_MODULE_LOCATION=/updates AUTOINSTALL=yes 'MAKE=echo forged'; do
    printf '%s\0000\0%s\0' ${it%%=*} "${it#*=}"
done
printf '\0001\0\0'"#,
    );
    root.sh("echo \"CLEAN='\\$(bash /usr/src/evil-1/forge >&3)'\" >>/usr/src/evil-1/dkms.conf");
    root.run("dkms autoinstall -k $K");
    root.says(
        "dkms status good; grep -h '^# command' /var/lib/dkms/good/1/$K/$A/log/make.log",
        "good/1, $K, $A: installed\n# command: true\n",
    );
}

/// What its last script was shown stands in the tree where it has no view of its own.
#[test]
fn what_a_build_that_was_cut_off_left_in_the_tree_is_not_installed() {
    let mut root = Root::with(Layer::Ours, &[]);
    root.sh("dkms generate_mok; gcc -o /tmp/no-namespaces /srv/tests/no-namespaces.c; echo secret >/root/secret");
    let post = "[ \"$1\" = post ] || exit 0\n[ -e /srv/go ] && exit\ncd /var/lib/dkms/evil/1/*/*/module && ln -sf /root/secret evil.ko* && touch /tmp/ready; sleep 60";
    with_make(&mut root, "evil", "AUTOINSTALL=yes\nPOST_BUILD='make.sh post'", post);
    root.sh("dkms add evil/1; /tmp/no-namespaces dkms build evil/1 -k $K >/srv/said 2>&1 & echo $! >/srv/pid");
    root.wait_until("[ -L /var/lib/dkms/evil/1/$K/$A/module/evil.ko ]");
    root.sh("kill $(cat /srv/pid); tail --pid=$(cat /srv/pid) -f /dev/null; touch /srv/go");
    root.says("dkms status evil", "evil/1: added\n");
    root.says(
        "cp -a /var/lib/dkms/evil /srv; dkms unbuild evil/1 -k $K >/dev/null; ls /var/lib/dkms/evil/1",
        "build\nsource\n",
    );
    root.sh("rm -r /var/lib/dkms/evil; cp -a /srv/evil /var/lib/dkms; dkms autoinstall -k $K");
    root.says(
        "dkms status evil; stat -c %F /lib/modules/$K/updates/dkms/evil.ko*",
        "evil/1, $K, $A: installed\nregular file\n",
    );
}

#[test]
fn a_build_keeps_no_more_in_its_cache_than_it_may() {
    let mut root = Root::with(Layer::Ours, &[]);
    // As we take it, and not ccache.
    root.write("/etc/dkms/framework.conf.d/size.conf", "compile_cache_size=5242880");
    root.sh("dkms generate_mok");
    // Inodes are a part of a disk, too.
    with_make(&mut root, "junk", "", "cd /var/cache/dkms/ccache/junk/* && for i in {1..4000}; do : >$i; done");
    root.sh("dkms build junk/1 --force; [ $(find /var/cache/dkms | wc -l) -lt 2000 ]");
    for code in [0, 1] {
        let junk = format!("cd /var/cache/dkms/ccache/junk/* && head -c 60M /dev/zero >junk && exit {code}; exit 9");
        with_make(&mut root, "junk", "", &junk);
        let output = root.run("dkms build junk/1 --force");
        assert_eq!(output.code, code * 10, "{output:?}");
        root.sh("grep -q 'exit code: 9' /var/lib/dkms/junk/1/build/make.log && exit 1; [ $(du -sm /var/cache/dkms | cut -f 1) -lt 20 ]");
    }
}

#[test]
fn a_log_is_found_whatever_lies_beside_it() {
    let mut root = Root::with(Layer::Ours, &[]);
    root.sh("dkms generate_mok");
    // No path leads to what is at the end: it would be too long.
    let script = "echo this is why; perl -e 'my $d = q(d) x 200; for (1..40) { mkdir $d; chdir $d } system(qw(mkfifo p)) == 0 or die'; exit 1";
    with_make(&mut root, "long", "", script);
    let output = root.run("dkms build long/1");
    let log = "/var/lib/dkms/long/1/build/make.log";
    assert!(output.code == 10 && output.text.contains(log), "{output:?}");
    root.says(
        &format!("grep -x 'this is why' {log}; find /var/lib/dkms/long -type p -o ! -user root"),
        "this is why\n",
    );
}
