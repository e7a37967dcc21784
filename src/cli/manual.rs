// SPDX-License-Identifier: GPL-2.0-or-later
//! That dkms(8) tells of what there is: its list of options is made of the command line's, the rest is looked up.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use clap::{Arg, CommandFactory};

use super::arguments::{Arguments, HELP_ACTIONS};
use super::spelling::DEPRECATED;
use crate::commands::Action;
use crate::model::conf::DIRECTIVES;
use crate::model::framework::{ADDON_MODULES_DIR, NAMES};
use crate::system::directories;

const BEGIN: &str =
    ".\\\" These are from src/cli/arguments.rs; to renew them: RENEW_MANUAL=1 cargo test --lib manual\n";
const END: &str = ".\\\" Here they end.\n";

fn file(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn manual() -> String {
    file("debian/dkms.8")
}

/// The text of a section.
fn section<'a>(manual: &'a str, title: &str) -> &'a str {
    let (_, rest) = manual.split_once(&format!("\n.Sh {title}\n")).expect("the section is there");
    rest.split("\n.Sh ").next().unwrap_or(rest)
}

/// What the items of a list name by this macro.
fn items<'a>(section: &'a str, name: &str) -> BTreeSet<&'a str> {
    let begin = format!(".It {name} ");
    section.lines().filter_map(|line| line.strip_prefix(&begin)).flat_map(|names| names.split(" , ")).collect()
}

/// The options as a list in mdoc(7).
fn options() -> String {
    let mut command = Arguments::command();
    command.build();
    let shown = |option: &&Arg| !option.is_hide_set() && !option.is_positional();
    let mut text = ".Bl -tag -width Ds\n".to_owned();
    for option in command.get_arguments().filter(shown) {
        let short = option.get_short().map(|short| short.to_string());
        let long = option.get_long().map(|long| format!("-{long}"));
        let names: Vec<String> = short.into_iter().chain(long).collect();
        let _ = write!(text, ".It Fl {}", names.join(" , "));
        let value =
            option.get_value_names().filter(|_| option.get_action().takes_values()).map_or("", |names| &names[0]);
        if !value.is_empty() {
            let _ = write!(text, " Ar {value}");
        }
        text.push('\n');
        let help = option.get_long_help().or(option.get_help()).expect("help for every option").to_string();
        for paragraph in help.split("\n\n") {
            let sentence = format!("{}.", paragraph.trim_end_matches('.'));
            text.push_str(&marked_up(&sentence, value));
        }
    }
    text + ".El\n"
}

/// Prose with macros for what they are for: a line for each sentence and each macro.
fn marked_up(prose: &str, value: &str) -> String {
    let mut text = String::new();
    for word in prose.split(' ') {
        let core = word.trim_end_matches(['.', ',', ';', ':']);
        let punctuation = &word[core.len()..];
        let manual = core.strip_suffix(')').and_then(|core| core.split_once('('));
        let line = if let Some((page, section)) = manual {
            Some(format!("Xr {page} {section}"))
        } else if let Some(quoted) = core.strip_prefix('`').and_then(|core| core.strip_suffix('`')) {
            Some(format!("{} {quoted}", if Action::from_name(quoted).is_some() { "Cm" } else { "Ql" }))
        } else if core.starts_with(['/', '.']) || core.ends_with(".conf") {
            Some(format!("Pa {core}"))
        } else if core == value {
            Some(format!("Ar {core}"))
        } else if DIRECTIVES.contains(&core) {
            Some(format!("Va {core}"))
        } else {
            None
        };
        let fresh = text.is_empty() || text.ends_with('\n');
        match line {
            Some(line) => {
                let _ = write!(text, "{}.{line}", if fresh { "" } else { "\n" });
                punctuation.chars().for_each(|mark| text.extend([' ', mark]));
                text.push('\n');
            }
            None => {
                let _ = write!(text, "{}{word}", if fresh { "" } else { " " });
                if word.ends_with('.') {
                    text.push('\n');
                }
            }
        }
    }
    text
}

#[test]
fn its_options_are_those_of_the_command_line() {
    let manual = manual();
    let (before, rest) = manual.split_once(BEGIN).expect("the mark where options begin");
    let (told, after) = rest.split_once(END).expect("the mark where they end");
    let options = options();
    if std::env::var_os("RENEW_MANUAL").is_some() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("debian/dkms.8");
        std::fs::write(path, [before, BEGIN, &options, END, after].concat()).expect("written");
        return;
    }
    assert!(told == options, "debian/dkms.8 is out of date; to renew it: RENEW_MANUAL=1 cargo test --lib manual");
    // And what is taken but not offered.
    let ignored = Arguments::command();
    let ignored = ignored.get_arguments().filter(|it| it.is_hide_set()).filter_map(Arg::get_long);
    for option in ignored.chain(DEPRECATED.map(|option| option.trim_start_matches('-'))) {
        assert!(after.contains(&format!(".Fl -{option}")), "{option}");
    }
}

#[test]
fn help_is_short_and_names_every_action_and_so_does_the_manual() {
    let manual = manual();
    let told = items(section(&manual, "ACTIONS"), "Cm");
    let names = Action::ALL.map(Action::name);
    assert_eq!(told, BTreeSet::from(names));
    let helped: BTreeSet<&str> = HELP_ACTIONS.split([' ', ',', '\n']).collect();
    assert_eq!(names.iter().find(|name| !helped.contains(*name)), None);
    let help = Arguments::command().render_help().to_string();
    assert!(help.lines().count() <= 70 && help.lines().all(|line| line.len() <= 100), "{help}");
}

#[test]
fn it_has_every_key_of_framework_conf() {
    let known: BTreeSet<&str> = NAMES.iter().copied().filter(|name| *name != ADDON_MODULES_DIR).collect();
    let conf = file("etc/dkms/framework.conf");
    let set = conf.lines().filter_map(|line| line.trim_start_matches(['#', ' ']).split_once('='));
    let is_name = |name: &&str| name.chars().all(|c| c.is_ascii_lowercase() || c == '_');
    assert_eq!(set.map(|(name, _)| name).filter(is_name).collect::<BTreeSet<_>>(), known);
    assert_eq!(items(section(&manual(), "FRAMEWORK.CONF"), "Va"), known);
}

#[test]
fn it_has_every_directive_of_dkms_conf() {
    let manual = manual();
    let section = section(&manual, "DKMS.CONF");
    let named = section.lines().filter_map(|line| line.strip_prefix(".It Va ").or(line.strip_prefix(".Va ")));
    let named: BTreeSet<&str> = named
        .flat_map(str::split_whitespace)
        .map(|name| name.trim_end_matches("[]"))
        .filter(|name| name.len() > 1)
        .filter(|name| DIRECTIVES.contains(name) || !name.contains(|c: char| c.is_ascii_lowercase()))
        .collect();
    let is = |name: &str, directive: &str| match name.strip_suffix('*') {
        Some(start) => directive.starts_with(start),
        None => directive == name,
    };
    for directive in DIRECTIVES {
        assert!(named.iter().any(|name| is(name, directive)), "{directive} is not in the manual");
    }
    for name in named {
        assert!(DIRECTIVES.iter().any(|directive| is(name, directive)), "{name} is no directive");
    }
}

#[test]
fn it_has_every_exit_code() {
    let mut codes = BTreeSet::from(["0".to_owned()]);
    let mut add = |rest: &str| {
        let code = rest.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
        codes.extend(Some(code.to_owned()).filter(|code| !code.is_empty()));
    };
    // Types do not tell: an error may carry its code.
    [file("src/error.rs"), file("src/error/tarball.rs")].concat().split(" => ").skip(1).for_each(&mut add);
    for path in directories::find(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut |_| true) {
        let source = std::fs::read_to_string(path).expect("read");
        source.split(" code: ").skip(1).for_each(&mut add);
    }
    let manual = manual();
    let told = section(&manual, "EXIT STATUS").lines().filter_map(|line| line.strip_prefix(".It ")).map(str::to_owned);
    assert_eq!(told.collect::<BTreeSet<_>>(), codes);
}
