// SPDX-License-Identifier: GPL-2.0-or-later
//! `plan`: what is to be built, as jobs for whatever runs jobs on many machines; and one such job, for `build --from-plan`.

use std::fs;
use std::io::Read;
use std::path::Path;

use serde_json::{Value, json};

use crate::commands::{Invocation, need_added};
use crate::error::{Doing, Error, Result};
use crate::model::kernel::Kernel;
use crate::model::module::{Id, Target};
use crate::model::site::Site;
use crate::plan::{Plan, Step, Verdict};
use crate::request::{Announced, Goal, Modules, Request};
use crate::run;
use crate::system::directories::names;
use crate::system::output::Block;

/// `plan`: the builds that an installation would begin with, of the module that was named or of all that want to be
/// installed by themselves, for the kernels that were named or for all that have headers; a line each, or one object.
pub fn run(site: &Site, invocation: &Invocation) -> Result<()> {
    let modules = match &invocation.name {
        Some(_) => {
            let id = invocation.id("plan")?;
            need_added(site, &id)?;
            Modules::Named(vec![id])
        }
        None => Modules::Automatic,
    };
    let targets = match invocation.targets.as_slice() {
        [] => with_headers(site),
        said => said.to_vec(),
    };
    let options = invocation.options.clone();
    let request = Request { goal: Goal::Installed, modules, targets, announced: Announced::Not, options };
    let say = site.output.block();
    let plan = Plan::make(site, &request, &say)?;
    let jobs = run::missing(site, &request, &plan.steps)?;
    if invocation.json {
        let jobs: Vec<Value> = jobs.iter().map(|(step, key)| to_json(step, key.as_deref())).collect();
        say.say(json!({ "jobs": jobs }).to_string());
    } else {
        for Step { id, kernel, .. } in jobs.iter().map(|(step, _)| *step) {
            say.say(format!("{id}, {}, {}: to be built", kernel.target.release, kernel.target.arch));
        }
    }
    tell_refused(plan, &say)?;
    // Half a plan is none, and who reads it may not see that it is half.
    if site.output.is_lost() { Err(Error::silent(1)) } else { Ok(()) }
}

/// What cannot be built, but for what is not meant for its kernel; the last of it is the error.
fn tell_refused(plan: Plan, say: &Block) -> Result<()> {
    let mut ended = Ok(());
    for Step { verdict, remarks, .. } in plan.steps {
        match verdict {
            Verdict::Refused(Error::Excluded { .. }) => {}
            Verdict::Refused(error) => {
                say.complain(remarks);
                say.error(&error);
                ended = Err(error.said());
            }
            _ => {}
        }
    }
    ended
}

/// The kernels that something can be built for.
fn with_headers(site: &Site) -> Vec<Target> {
    let arch = Target::running().arch;
    let targets = names(&site.framework.install_tree).into_iter().map(|release| Target::new(release, &arch));
    targets.filter(|target| Kernel::new(site, target, None, None).has_headers()).collect()
}

fn to_json(Step { id, kernel, .. }: &Step, key: Option<&str>) -> Value {
    let Target { release, arch } = &kernel.target;
    json!({ "module": id.name, "version": id.version, "kernel": release, "arch": arch, "key": key })
}

/// A build that is to be done, as a plan has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// The module.
    pub id: Id,
    /// The kernel.
    pub target: Target,
    /// Of what it will make; `None` where no key can be had.
    pub key: Option<String>,
}

impl Job {
    /// From a file that holds one; `-` is standard input.
    ///
    /// # Errors
    /// What is no job.
    pub fn read(file: &Path) -> Result<Self> {
        let text = if file == Path::new("-") {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).map(|_| text).doing(|| "Cannot read standard input".into())?
        } else {
            fs::read_to_string(file).doing(|| format!("Cannot read {}", file.display()))?
        };
        let none = |why: String| Error::Usage { text: format!("{} holds no job: {why}.", file.display()), code: 1 };
        let job: Value = serde_json::from_str(&text).map_err(|error| none(error.to_string()))?;
        let word = |name: &str| {
            let word = job.get(name).and_then(Value::as_str).map(str::to_owned);
            word.ok_or_else(|| none(format!("\"{name}\" is missing")))
        };
        let id = Id::new(word("module")?, word("version")?);
        if !id.is_sane() {
            return Err(Error::BadName(id.to_string()));
        }
        let target = Target::named(word("kernel")?, word("arch")?, 0)?;
        Ok(Self { id, target, key: word("key").ok() })
    }
}
