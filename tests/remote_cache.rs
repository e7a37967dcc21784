// SPDX-License-Identifier: GPL-2.0-or-later

//! Builders that share what they compiled, by the servers that Debian has; and what no build of theirs gets to see.

use crate::support::{Layer, Root};

const PASSWORD: &str = "to-be-seen-by-nobody";

/// Where the settings with the password are.
const SETTINGS: &str = "/etc/dkms/framework.conf.d/cache.conf";

/// A root with a network of its own.
fn root() -> Root {
    Root::with(Layer::Ours, &["--network", "10.79.0.1/24"])
}

/// A package of one module, made of two objects.
fn package(root: &mut Root, name: &str) {
    let dir = format!("/usr/src/{name}-1");
    root.write(
        &format!("{dir}/dkms.conf"),
        &format!("PACKAGE_NAME={name}\nPACKAGE_VERSION=1\nBUILT_MODULE_NAME=pair\nDEST_MODULE_NAME={name}\nDEST_MODULE_LOCATION=/updates"),
    );
    root.write(&format!("{dir}/Makefile"), "obj-m := pair.o\npair-y := one.o two.o");
    root.write(
        &format!("{dir}/one.c"),
        "#include <linux/module.h>\nextern const char two[];\nconst char *one(void) { return two; }\nMODULE_LICENSE(\"GPL\");",
    );
    root.write(
        &format!("{dir}/two.c"),
        "#include <linux/types.h>\nextern const char two[];\nconst char two[] = \"two\";",
    );
}

/// Settings that share by `address`; this builder's own caches are in `caches`.
fn share(root: &mut Root, address: &str, caches: &str) {
    root.write(SETTINGS, &format!("compile_cache_remote=\"{address}\"\ncache_tree={caches}\nresult_store=no"));
    root.sh(&format!("chmod 600 {SETTINGS}"));
}

/// A root with a Redis that asks for a password, and the address of it.
fn with_redis() -> (Root, String) {
    let (mut root, port) = (root(), 6379);
    root.sh("apt-get -qq -y install redis-server >/dev/null 2>&1; dkms generate_mok");
    root.write(
        "/srv/redis.conf",
        &format!("port {port}\nbind 127.0.0.1\nsave ''\nrequirepass {PASSWORD}\ndaemonize yes\npidfile /run/redis.pid"),
    );
    root.sh("cd /srv && redis-server redis.conf");
    root.write("/usr/local/bin/redis", &format!("#!/bin/sh\nREDISCLI_AUTH={PASSWORD} exec redis-cli -p {port} \"$@\""));
    root.sh("chmod 755 /usr/local/bin/redis");
    root.wait_until("[ \"$(redis ping)\" = PONG ]");
    (root, format!("redis://:{PASSWORD}@127.0.0.1:{port}"))
}

/// Builds a package and gives the module. On one core, where nobody asks kbuild's questions beforehand: ccache is asked for
/// all of them.
fn build(root: &mut Root, name: &str) -> Vec<u8> {
    root.sh(&format!("dkms unbuild {name}/1 --all >/dev/null 2>&1; dkms build {name}/1 -j 1"));
    root.bytes(&format!("cat /var/lib/dkms/{name}/1/$K/$A/module/{name}.ko"))
}

/// How often ccache answered for a package, and how often it did not, in all that a builder did so far.
fn counts(root: &mut Root, caches: &str, name: &str) -> (u32, u32) {
    let said = root.sh(&format!("for dir in {caches}/ccache/{name}/*/; do CCACHE_DIR=$dir ccache --print-stats; done"));
    let count = |name: &str| {
        let values = said.lines().filter_map(|line| line.strip_prefix(name)?.trim().parse::<u32>().ok());
        values.sum()
    };
    (count("direct_cache_hit\t"), count("cache_miss\t"))
}

#[test]
fn what_one_builder_compiled_another_has_from_redis_under_the_same_name_only() {
    let (mut root, address) = with_redis();
    package(&mut root, "pair");
    package(&mut root, "other");
    share(&mut root, &address, "/srv/first");
    let made = build(&mut root, "pair");
    let (_, compiled) = counts(&mut root, "/srv/first", "pair");
    assert!(compiled >= 2, "{compiled} objects");
    let keys = "redis --scan | cut -d: -f1,2 | sort | uniq -c | sed 's/^ *//'";
    assert!(root.sh(keys).ends_with(" dkms:pair\n"));
    root.says("redis config resetstat", "OK\n");
    // Another builder.
    share(&mut root, &address, "/srv/second");
    assert!(build(&mut root, "pair") == made, "the other builder's module is another one");
    let (hits, misses) = counts(&mut root, "/srv/second", "pair");
    assert!(hits >= 2 && misses == 0, "{hits} hits, {misses} misses");
    // It had nothing to give.
    root.says("redis info commandstats | grep cmdstat_set:; true", "");
    // Settings that are closed to somebody are none of his.
    root.says("setpriv --reuid 65534 --regid 65534 --clear-groups dkms status pair 2>&1", "pair/1, $K, $A: built\n");
    // The same under another name is another package's.
    build(&mut root, "other");
    let (_, misses) = counts(&mut root, "/srv/second", "other");
    assert!(misses >= 2, "{misses} misses");
    assert!(root.sh(keys).lines().any(|line| line.ends_with(" dkms:other")));
    // What is left of it here is nothing.
    root.says("ls -A /srv/second | grep '^\\.'; true", "");
}

/// What it tries, where it is a build and where it is root, and says of what it could do.
const HOSTILE: &str = r#"
port=$1 password=$2
(exec 3<>/dev/tcp/127.0.0.1/$port) 2>/dev/null && echo connected
env | grep -q "$password" && echo 'seen in the environment'
grep -qs "$password" /etc/dkms/framework.conf /etc/dkms/framework.conf.d/* && echo 'seen in settings'
for process in /proc/[0-9]*; do
    tr '\0' '\n' <$process/environ 2>/dev/null | grep -q "$password" && echo 'seen in an environment'
    tr '\0' '\n' <$process/cmdline 2>/dev/null | grep "$password" | grep -qv hostile && echo 'seen in a command line'
    ls -l $process/fd 2>/dev/null | grep -q 'socket:' && [ $process != /proc/$$ ] && echo 'seen a socket'
done
true
"#;

#[test]
fn a_build_reaches_no_server_sees_no_password_and_gives_in_its_own_name_only() {
    let (mut root, address) = with_redis();
    let port = address.rsplit(':').next().unwrap_or_default().to_owned();
    package(&mut root, "victim");
    package(&mut root, "hostile");
    share(&mut root, &address, "/srv/caches");
    build(&mut root, "victim");
    let digest =
        "for key in $(redis --scan --pattern 'dkms:victim:*' | sort); do echo $key; redis get $key | sha1sum; done";
    let before = root.sh(digest);
    // It knows what the victim's objects are called.
    root.sh("redis --scan --pattern 'dkms:victim:*' | cut -d: -f3 | grep -v list >/usr/src/hostile-1/names");
    root.write(
        "/usr/src/hostile-1/try",
        &format!(
            "#!/bin/bash\nset -- {port} {PASSWORD}\n{HOSTILE}
cd /srv/caches; echo here: *; touch exchange/x exchange/new 2>/dev/null && echo 'wrote what is brought'
find exchange -type f | grep . && echo 'brought what is not its own'
for name in $(cat /usr/src/hostile-1/names) list-x; do
    for shelf in ccache/hostile/* ccache/victim/*; do
        mkdir -p $shelf/${{name:0:1}}/${{name:1:1}} && echo forged >$shelf/${{name:0:1}}/${{name:1:1}}/${{name:2}}
    done 2>/dev/null
done
true"
        ),
    );
    root.sh("chmod 755 /usr/src/hostile-1/try; echo PRE_BUILD=try >>/usr/src/hostile-1/dkms.conf");
    // As root it would succeed.
    root.write("/srv/try", HOSTILE);
    let outside = root.sh(&format!("REDISCLI_AUTH={PASSWORD} bash /srv/try {port} {PASSWORD}"));
    for success in ["connected", "seen in the environment", "seen in settings", "seen a socket"] {
        assert!(outside.contains(success), "{success}: {outside}");
    }
    // Others can read it, which is told; a build sees nothing there all the same.
    root.sh(&format!("chmod 644 {SETTINGS}"));
    let said = root.sh("dkms add hostile/1 2>/dev/null; DKMS_LOG=trace dkms build hostile/1 2>&1");
    let warned: Vec<&str> = said.lines().filter(|line| line.contains("others can read it")).collect();
    let warning = "holds the password of compile_cache_remote, and others can read it: chmod 600";
    assert_eq!(warned, [format!("Warning: {SETTINGS} {warning} {SETTINGS}")]);
    let log = root.sh("cat /var/lib/dkms/hostile/1/$K/$A/log/make.log");
    let tried = log.split("# command").nth(1).unwrap_or_default();
    assert!(tried.contains("here: ccache exchange"), "{log}");
    for success in ["connected", "seen", "wrote", "brought"] {
        assert!(!tried.contains(success), "{success}: {log}");
    }
    for text in [&said, &log] {
        assert!(!text.contains(PASSWORD), "{text}");
    }
    root.unchanged(digest, &before);
    let theirs = root.sh("redis --scan | grep -v '^dkms:victim:' | cut -d: -f1,2 | sort -u");
    assert_eq!(theirs, "dkms:hostile\n");
    // What it forged was given in its own name, and is no object to ccache.
    root.says("for key in $(cat /usr/src/hostile-1/names); do redis get dkms:hostile:$key; done | grep -cx forged >/srv/forged; test $(cat /srv/forged) -ge 4 && echo yes", "yes\n");
    root.sh("rm -r /srv/caches; sed -i /PRE_BUILD/d /usr/src/hostile-1/dkms.conf");
    build(&mut root, "hostile");
}

#[test]
fn what_one_builder_compiled_another_has_by_http() {
    let (mut root, port) = (root(), 8080);
    root.sh("apt-get -qq -y install nginx >/dev/null 2>&1; dkms generate_mok");
    root.write("/srv/users", &format!("builder:{{PLAIN}}{PASSWORD}"));
    root.write(
        "/srv/nginx.conf",
        &format!(
            "user root;\nevents {{}}\nhttp {{\n  client_max_body_size 64m;\n  access_log /srv/access;\n  error_log /srv/error;\n  server {{
    listen 127.0.0.1:{port};\n    location /objects/ {{
      root /srv/http;\n      auth_basic builders;\n      auth_basic_user_file /srv/users;
      dav_methods PUT;\n      create_full_put_path on;\n    }}\n  }}\n}}"
        ),
    );
    root.sh("mkdir /srv/http && nginx -c /srv/nginx.conf");
    let address = format!("http://builder:{PASSWORD}@127.0.0.1:{port}/objects");
    package(&mut root, "pair");
    share(&mut root, &address, "/srv/first");
    let made = build(&mut root, "pair");
    share(&mut root, &address, "/srv/second");
    assert!(build(&mut root, "pair") == made, "the other builder's module is another one");
    let (hits, misses) = counts(&mut root, "/srv/second", "pair");
    assert!(hits >= 2 && misses == 0, "{hits} hits, {misses} misses");
    root.says("ls /srv/http/objects/dkms; grep -c '\"PUT .* 201 ' /srv/access | xargs test 4 -le", "pair\n");
}

#[test]
fn a_server_that_is_gone_or_hangs_or_refuses_fails_no_build_and_is_told_of_once() {
    let (mut root, address) = with_redis();
    package(&mut root, "pair");
    root.sh("dkms add pair/1");
    let host = address.rsplit('@').next().unwrap_or_default().to_owned();
    share(&mut root, &address, "/srv/caches");
    let run = |root: &mut Root, kernels: &str, expected: &str| {
        root.sh("rm -rf /srv/caches");
        let said = root.sh(&format!(
            "script -qec 'dkms build pair/1 --force {kernels}' /dev/null | tr -d '\\r' | tr '\\033' '\\n'"
        ));
        let told: Vec<&str> = said
            .lines()
            .filter_map(|line| line.split_once("The shared compile cache "))
            .map(|(_, told)| told)
            .collect();
        assert_eq!(told, [format!("redis://{host} is not used: {expected}")], "{said}");
    };
    root.sh("redis config set requirepass another");
    run(&mut root, "-k $OLD -k $K", "WRONGPASS invalid username-password pair or user is disabled.");
    root.sh("kill -STOP $(cat /run/redis.pid)");
    run(&mut root, "-k $K", "it does not answer");
    root.sh("kill -CONT $(cat /run/redis.pid); kill $(cat /run/redis.pid)");
    run(&mut root, "-k $K", "Connection refused (os error 111)");
}
