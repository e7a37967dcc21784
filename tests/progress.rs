// SPDX-License-Identifier: GPL-2.0-or-later

//! What a person at a terminal sees while modules are built, and what is left of it.

#[path = "../src/system/screen/emulator.rs"]
mod emulator;

use crate::support::{Layer, Root};
use emulator::Terminal;

const ROWS: usize = 10;

/// A root with two modules that take a while, the second one longer.
fn root() -> Root {
    let mut root = Root::with(Layer::Ours, &[]);
    root.sh("dkms generate_mok; echo result_store=no >/etc/dkms/framework.conf.d/off.conf");
    for (name, seconds) in [("quick", 1), ("slow", 3)] {
        root.quick(name, &format!("MAKE='sleep {seconds}'\nAUTOINSTALL=yes"));
        root.sh(&format!("dkms add {name}/1"));
    }
    root
}

/// Runs a command at a terminal of so many columns. Gives what it wrote there.
fn session(root: &mut Root, columns: usize, command: &str) -> String {
    root.sh(&format!("script -qec 'stty rows {ROWS} cols {columns}; {command}' /dev/null"))
}

/// [`session`], as it is seen: what is on the screen each time that something was written, and at last.
fn watch(root: &mut Root, columns: usize, command: &str) -> (Vec<String>, String) {
    let written = session(root, columns, command);
    let mut terminal = Terminal::new(ROWS, columns);
    let mut seen = Vec::new();
    // A frame ends with the cursor going back to its first line.
    for frame in written.split_inclusive('A') {
        terminal.write(frame);
        seen.push(terminal.text());
    }
    assert_eq!(terminal.cursor().1, 0, "the shell's prompt begins its line");
    (seen, terminal.text())
}

/// Starts a script at a terminal; /srv/out is what is written there.
fn begin(root: &mut Root, script: &str) {
    let script = root.expand(script);
    root.write("/srv/inner", &format!("stty rows {ROWS} cols 80\nexport TERM=xterm\n{script}"));
    root.sh("script -qfc 'bash /srv/inner' /dev/null >/srv/out 2>&1 & disown");
}

/// What is on the terminal of [`begin`].
fn shown(root: &mut Root) -> String {
    let mut terminal = Terminal::new(ROWS, 80);
    terminal.write(&root.sh("cat /srv/out"));
    terminal.text()
}

#[test]
fn each_job_has_a_line_while_it_runs_and_only_words_are_left() {
    let mut root = root();
    let plain = root.sh("dkms autoinstall -k $K -j 2");
    root.sh("dkms unbuild quick/1 -k $K; dkms unbuild slow/1 -k $K");
    let (seen, last) = watch(&mut root, 80, "TERM=xterm dkms autoinstall -k $K -j 2");
    assert_eq!(last, plain);
    let line = |module: &str, phase: &str| root.expand(&format!("  {module}/1 for $K: {phase}, "));
    let (quick, slow) = (line("quick", "compiling"), line("slow", "compiling"));
    let at_once = |text: &String| text.contains(&quick) && text.contains(&slow) && text.contains("0 of 2 done, about ");
    assert!(seen.iter().any(at_once), "{seen:#?}");
    assert!(seen.iter().any(|text| text.contains(&slow) && text.contains("1 of 2 done")), "{seen:#?}");
    // Nothing of it is above the words, ever.
    let strays = |text: &String| {
        let words = text.rfind("done...").max(text.rfind("Installing"));
        text.find("of 2 done").is_some_and(|lines| words > Some(lines))
    };
    assert!(!seen.iter().any(strays), "{seen:#?}");
}

#[test]
fn a_narrow_window_is_no_hindrance() {
    let mut root = root();
    let plain = root.sh("dkms build slow/1 -k $K");
    let (seen, last) = watch(&mut root, 40, "TERM=xterm NO_COLOR=1 dkms build slow/1 -k $K --force");
    // Only the terminal breaks lines.
    assert_eq!(last.replace('\n', ""), plain.replace('\n', ""));
    assert!(seen.iter().any(|text| text.contains("\n  slow/1: compiling, ")), "{seen:#?}");
}

#[test]
fn where_nothing_can_be_redrawn_there_are_words_and_dots() {
    let mut root = Root::with(Layer::Ours, &[]);
    root.sh("dkms generate_mok");
    root.quick("quick", "MAKE='sleep 3.5'");
    root.says("dkms build quick/1 | grep Building", "Building module(s)... done.\n");
    for variables in ["TERM=dumb", "TERM=", "TERM=xterm DPKG_MAINTSCRIPT_PACKAGE=quick-dkms"] {
        let written = session(&mut root, 80, &format!("{variables} dkms build quick/1 --force"));
        assert!(written.contains("Building module(s).... done.\r\n") && !written.contains('\x1b'), "{written:?}");
    }
    // One stream goes elsewhere: whoever keeps it gets words, and so does the terminal.
    let written = session(&mut root, 80, "TERM=xterm dkms build quick/1 --force 2>/dev/null");
    assert!(written.contains("Building module(s).... done.\r\n") && !written.contains('\x1b'), "{written:?}");
}

#[test]
fn a_signal_leaves_nothing_but_words() {
    let mut root = root();
    root.sh("sed -i 's/sleep 3/sleep 300/' /usr/src/slow-1/dkms.conf");
    begin(&mut root, "dkms build slow/1 -k $K & echo $! >/srv/pid\nwait $!\necho \"ended by $?\"");
    root.wait_until("grep -q compiling /srv/out");
    root.sh("kill -TERM $(cat /srv/pid)");
    root.wait_until("grep -q ended /srv/out");
    let text = shown(&mut root);
    assert!(text.contains("Building module(s)...ended by 143\n"), "{text}");
    assert!(!text.contains("compiling") && !text.contains("of 1 done"), "{text}");
}

#[test]
fn a_stop_leaves_nothing_but_words_and_the_lines_are_back_after_it() {
    let mut root = root();
    root.sh("sed -i 's|sleep 3|until [ -e /srv/go ]; do sleep 0.1; done|' /usr/src/slow-1/dkms.conf");
    begin(
        &mut root,
        "set -m\ndkms build slow/1 -k $K\necho \"stopped by $?\"\nuntil [ -e /srv/on ]; do sleep 0.1; done\n\
         fg >/dev/null\necho \"ended by $?\"",
    );
    root.wait_until("grep -q compiling /srv/out");
    root.sh("kill -TSTP $(pgrep -o -x dkms)");
    root.wait_until("grep -q 'stopped by 147' /srv/out");
    let text = shown(&mut root);
    assert!(!text.contains("compiling") && !text.contains("of 1 done"), "{text}");
    root.sh("touch /srv/on");
    root.wait_until("sed '1,/stopped by/d' /srv/out | grep -q compiling");
    root.sh("touch /srv/go");
    root.wait_until("grep -q 'ended by 0' /srv/out");
    let text = shown(&mut root);
    assert!(!text.contains("compiling") && !text.contains("of 1 done"), "{text}");
}

#[test]
fn in_the_background_of_a_shell_nothing_is_drawn_over_what_is_typed() {
    let mut root = root();
    begin(&mut root, "set -m\ndkms build slow/1 -k $K &\nwait\necho \"ended by $?\"");
    root.wait_until("grep -q 'ended by 0' /srv/out");
    let written = root.sh("cat /srv/out");
    assert!(written.contains("Building module(s)... done.\r\n") && !written.contains('\x1b'), "{written:?}");
}
