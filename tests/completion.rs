// SPDX-License-Identifier: GPL-2.0-or-later

//! What the shells offer: the same in all of them, and what the action can do something with.

use crate::support::{Layer, Root};

const SHELLS: [&str; 3] = ["bash", "zsh", "fish"];

fn root() -> Root {
    let mut root = Root::with(Layer::Ours, &[]);
    root.sh("apt-get -qq -y install zsh fish");
    root
}

/// Command lines and what is offered for each: words between blanks.
#[track_caller]
fn offers(root: &mut Root, lines: &[(String, &str)]) {
    let typed: String = lines.iter().map(|(line, _)| format!(" \"{line}\"")).collect();
    let below = |offered: &str| offered.split_whitespace().map(|word| format!("{word}\n")).collect::<String>();
    let offered: String = lines.iter().map(|(line, offered)| format!("# {line}\n{}", below(offered))).collect();
    for shell in SHELLS {
        root.says(&format!("mkdir -p /srv/w; cd /srv/w && /srv/tests/complete {shell}{typed}"), &offered);
    }
}

#[test]
fn every_shell_offers_what_the_action_can_do_something_with() {
    let mut root = root();
    for name in ["installed", "built", "added", "new"] {
        root.quick(name, "");
    }
    root.sh("dkms install installed/1 -k $K && dkms build installed/1 -k $OLD && dkms build built/1 -k $OLD");
    root.sh("dkms add added/1; mkdir -p /lib/modules/6.0-headless /usr/src/no-1 /srv/w/dir; touch /srv/w/dir/x.tar.gz");
    // A module whose name has a dash before a digit, of which the older version is installed.
    root.quick("two-2", "");
    root.sh("sed 's/VERSION=1/VERSION=2/' -i /usr/src/two-2-1/dkms.conf && mv /usr/src/two-2-1 /usr/src/two-2-2");
    root.quick("two-2", "");
    root.sh("dkms install two-2/1 -k $OLD && dkms build two-2/2 -k $K");

    let all = "added/1 built/1 installed/1 new/1 two-2/1 two-2/2";
    let (registered, built) = ("added/1 built/1 installed/1 two-2/1 two-2/2", "built/1 installed/1 two-2/1 two-2/2");
    let (with_headers, any) = ("$OLD $K", "6.0-headless $OLD $K");
    let mut lines = Vec::new();
    for (action, modules, kernels) in [
        ("add", "dir new/1", any),
        ("build", all, with_headers),
        ("install", all, with_headers),
        ("uninstall", "installed/1 two-2/1", with_headers),
        ("unbuild", built, with_headers),
        ("remove", registered, with_headers),
        ("status", registered, with_headers),
        ("mktarball", registered, with_headers),
        ("mkdeb", registered, with_headers),
        ("mkdsc", registered, with_headers),
        ("mkbmdeb", built, with_headers),
        ("mkrpm", registered, with_headers),
        ("plan", registered, with_headers),
        ("match", "installed two-2", with_headers),
        ("ldtarball", "dir", any),
        ("autoinstall", "", with_headers),
        ("generate_mok", "", any),
    ] {
        lines.extend([(format!("dkms {action} "), modules), (format!("dkms {action} -k "), kernels)]);
    }
    for (line, offered) in [
        // Kernels for which the module is in that state.
        ("dkms uninstall installed/1 -k ", "$K"),
        ("dkms uninstall -m two-2 --kernelver ", "$OLD"),
        ("dkms uninstall two-2/2 -k ", ""),
        ("dkms unbuild built/1 -k ", "$OLD"),
        ("dkms -m two-2 -v 2 remove -k ", "$K"),
        ("dkms install built/1 -k ", "$OLD $K"),
        ("dkms match --templatekernel ", "$OLD $K"),
        // Names and versions.
        ("dkms -m ", "added built installed new two-2"),
        ("dkms uninstall --module ", "installed two-2"),
        ("dkms install -m two-2/", "two-2/1 two-2/2"),
        ("dkms uninstall -m two-2 -v ", "1"),
        ("dkms install inst", "installed/1"),
        // The action may come last, but comes once, and so does a module.
        ("dkms -k foo -m two-2 uninst", "uninstall"),
        ("dkms install built/1 ", ""),
        ("dkms install -m built ", ""),
        // Other trees.
        ("dkms uninstall --dkmstree /nowhere ", ""),
        ("dkms uninstall --dkmstree=/nowhere ", ""),
        ("dkms install --sourcetree /nowhere ", registered),
        ("dkms build --installtree /nowhere -k ", ""),
        // Files and directories.
        ("dkms add dir/", "dir/x.tar.gz"),
        ("dkms install ./dir/", "./dir/x.tar.gz"),
        ("dkms ldtarball dir/", "dir/x.tar.gz"),
        ("dkms mktarball --archive dir/", "dir/x.tar.gz"),
        ("dkms build -c dir/", "dir/x.tar.gz"),
        ("dkms build --kernelsourcedir /lib/modules/6.0", "/lib/modules/6.0-headless"),
        // Other values.
        ("dkms build -a ", "$A"),
        ("dkms build --directive ", ""),
        ("dkms install --no", "--no-depmod"),
    ] {
        lines.push((line.to_owned(), offered));
    }
    offers(&mut root, &lines);
}

#[test]
fn every_shell_offers_all_actions_and_options_and_is_quiet_where_there_are_no_modules() {
    let mut root = root();
    let actions = root.sh("dkms --help | sed -nE '/^Actions/,/^Examples/s/^  ([a-z_]+) .*/\\1/p' | sort");
    let options = options();
    assert!(actions.contains("mktarball") && options.contains("--templatekernel"), "{actions}{options}");
    offers(&mut root, &[("dkms ".into(), &*actions), ("dkms -".into(), &*options)]);

    root.sh("rm -r /var/lib/dkms");
    let others = ["-m", "-m none -v", "uninstall -k", "match --templatekernel"];
    let lines: Vec<_> = actions.lines().chain(others).map(|words| (format!("dkms {words} "), "")).collect();
    offers(&mut root, &lines);
}

/// The options that dkms(8) lists, sorted, a line each: --help leaves out what few ask for.
fn options() -> String {
    let manual = include_str!("../debian/dkms.8");
    let (_, section) = manual.split_once("\n.Sh OPTIONS\n").expect("the section is there");
    let items =
        section.split("\n.Sh ").next().unwrap_or(section).lines().filter_map(|line| line.strip_prefix(".It Fl "));
    let names = items.flat_map(|item| item.split(" Ar ").next().unwrap_or(item).split(" , "));
    let mut options: Vec<String> = names.map(|name| format!("-{name}\n")).collect();
    options.sort_unstable();
    options.concat()
}
