// SPDX-License-Identifier: GPL-2.0-or-later

//! The same commands to Debian's dkms and to ours: what they say, in which order and to which stream, their exit codes
//! and what they leave behind have to be the same, but for what stands in tests/differential/known.

mod compare;
mod known;
mod random;
mod side;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::{LazyLock, Mutex};
use std::thread;

use compare::Comparison;
use known::Known;
use side::{Record, Side};

use crate::same_ko;
use crate::support::{self, Layer, undump};

/// A test for each file of tests/differential/scripts, by its name.
macro_rules! scripts {
    ($($name:ident)*) => {
        const SCRIPTS: &[&str] = &[$(stringify!($name)),*];
        $(#[test] fn $name() { play(stringify!($name)); })*
    };
}

scripts! {
    add_directory
    autoinstall
    broken_trees
    conf_errors
    conf_is_bash
    exclusive
    failing_builds
    kernel_actions
    kernel_hooks
    kernels
    make
    matching
    module_scripts
    modules
    not_root
    options
    originals
    postinst
    postinst_kernels
    quoting
    rebuilding
    settings
    signing
    status
    steps
    systems
    tarballs
    touched_files
    usage
}

static KNOWN: LazyLock<Known> = LazyLock::new(Known::read);

/// A root with each of the two.
struct Pair {
    peer: Side,
    ours: Side,
    /// Whether the modules with these two sums are the same.
    same: BTreeMap<(String, String), bool>,
}

impl Pair {
    fn new() -> Pair {
        let key = support::key_pair();
        let side = |layer| {
            move || {
                let mut side = Side::new(layer);
                side.ask(&format!("prepare {key}"));
                side
            }
        };
        let (peer, ours) = both(side(Layer::Peer), side(Layer::Ours));
        Pair { peer, ours, same: BTreeMap::new() }
    }

    /// Runs a script in both.
    fn run(&mut self, name: &str, script: &str) -> Comparison {
        let Pair { peer, ours, .. } = self;
        let (mut peer, ours) = both(|| peer.run(script), || ours.run(script));
        for (peer_record, our_record) in peer.iter_mut().zip(&ours) {
            self.unite_modules(peer_record, our_record);
        }
        Comparison::new(&KNOWN, name, &peer, &ours)
    }

    /// Gives the peer's modules the sums of ours where their sections are the same.
    fn unite_modules(&mut self, peer: &mut Record, ours: &Record) {
        let sums = |record: &Record| -> BTreeMap<String, String> {
            let modules = record.state.iter().filter_map(|line| line.strip_prefix("ko ")?.split_once(' '));
            modules.map(|(sum, file)| (file.to_owned(), sum.to_owned())).collect()
        };
        let our_sums = sums(ours);
        for (file, peer_sum) in sums(peer) {
            let Some(our_sum) = our_sums.get(&file).filter(|sum| **sum != peer_sum) else { continue };
            let pair = (peer_sum.clone(), our_sum.clone());
            let same = match self.same.get(&pair) {
                Some(same) => *same,
                None => {
                    let content =
                        |side: &mut Side, sum| undump(&side.ask(&format!("od -An -v -w64 -tx1 /run/content.{sum}")));
                    same_ko::same_sections(&content(&mut self.peer, &peer_sum), &content(&mut self.ours, our_sum))
                }
            };
            self.same.insert(pair, same);
            if same {
                peer.state.remove(&format!("ko {peer_sum} {file}"));
                peer.state.insert(format!("ko {our_sum} {file}"));
            }
        }
    }
}

/// Both at the same time.
fn both<A: Send, B: Send>(a: impl FnOnce() -> A + Send, b: impl FnOnce() -> B) -> (A, B) {
    thread::scope(|scope| {
        let a = scope.spawn(a);
        let b = b();
        (a.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)), b)
    })
}

fn play(name: &str) {
    let result = Pair::new().run(name, &format!(". /srv/tests/differential/scripts/{name}.sh"));
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/differential");
    let transcript = directory.join(name);
    fs::create_dir_all(directory).and_then(|()| fs::write(&transcript, result.transcript)).expect("a transcript");
    assert!(
        result.unexplained.is_empty(),
        "\nThe peer's (-) and ours (+) differ; what stands in brackets is known:\n\n{}\nAll of it: {}",
        result.unexplained.join("\n"),
        transcript.display()
    );
    every_entry_is_used(name, result.used);
}

/// Once all scripts have run, every entry of the table has explained something.
fn every_entry_is_used(script: &str, used: BTreeSet<usize>) {
    static RUN: Mutex<(BTreeSet<String>, BTreeSet<usize>)> = Mutex::new((BTreeSet::new(), BTreeSet::new()));
    let mut run = RUN.lock().unwrap_or_else(|error| error.into_inner());
    run.0.insert(script.to_owned());
    run.1.extend(used);
    // And the random ones, which count as one script more.
    if side::is_whole() && run.0.len() == SCRIPTS.len() + 1 {
        let lines = KNOWN.unused(&run.1);
        assert!(lines.is_empty(), "tests/differential/known: no script needs the entries at the lines {lines:?}");
    }
}

#[test]
fn every_script_is_a_test() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/differential/scripts");
    let files = directory.read_dir().expect("the scripts").map(|entry| entry.expect("a file").file_name());
    let mut files: Vec<String> = files.map(|name| name.to_string_lossy().replace(".sh", "")).collect();
    files.sort();
    let mut scripts = SCRIPTS.to_vec();
    scripts.sort_unstable();
    assert_eq!(files, scripts);
}
