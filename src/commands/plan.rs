// SPDX-License-Identifier: GPL-2.0-or-later
//! `plan`: what is to be built, as jobs for whatever runs jobs on many machines; and one such job, for `build --from-plan`.

use std::fs;
use std::io::Read;
use std::path::Path;

use serde_json::{Value, json};

use crate::commands::{Invocation, need_added};
use crate::error::{Doing, Error, Result};
use crate::model::conf::Conf;
use crate::model::inputs::{self, Inputs, Recipe};
use crate::model::kernel::Kernel;
use crate::model::module::{Id, Target};
use crate::model::options::Options;
use crate::model::site::Site;
use crate::model::store::Store;
use crate::model::tree::State;
use crate::plan::{read_conf, wanted};
use crate::run::build_environment;
use crate::system::directories::names;

/// A build that is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// The module.
    pub id: Id,
    /// The kernel.
    pub target: Target,
    /// Of what it will make, see [`Inputs`]; `None` where no key can be had.
    pub key: Option<String>,
}

/// `plan`: the jobs, a line each, or as one object.
pub fn run(site: &Site, invocation: &Invocation) -> Result<()> {
    let jobs = jobs(site, invocation)?;
    let say = site.output.block();
    if invocation.json {
        let jobs: Vec<Value> = jobs.iter().map(Job::to_json).collect();
        say.say(json!({ "jobs": jobs }).to_string());
    } else {
        for Job { id, target, .. } in &jobs {
            say.say(format!("{id}, {}, {}: to be built", target.release, target.arch));
        }
    }
    Ok(())
}

/// What is not built: of the module that was named, or of all that are installed by themselves, for the kernels that were
/// named, or for all that have headers.
fn jobs(site: &Site, invocation: &Invocation) -> Result<Vec<Job>> {
    let named = invocation.name.as_ref().map(|_| invocation.id("plan")).transpose()?;
    if let Some(id) = &named {
        need_added(site, id)?;
    }
    let targets = match invocation.targets.as_slice() {
        [] => with_headers(site),
        said => said.to_vec(),
    };
    let options = &invocation.options;
    let environment = build_environment(&site.framework.build_environment, &site.output.block())?;
    let notes = inputs::notes(site);
    let store = Store::of(site);
    let mut jobs = Vec::new();
    for target in targets {
        let kernel = Kernel::new(site, &target, options.headers.as_deref(), options.config.as_deref());
        let modules: Vec<(Id, Option<Conf>)> = match &named {
            Some(id) => vec![(id.clone(), Some(read_conf(site, options, id, &kernel)?))],
            None => wanted(site, options, &target),
        };
        let mut inputs = None;
        for (id, conf) in modules {
            let Some(conf) = conf.filter(|conf| conf.problems.is_empty() && conf.included(&kernel).is_some()) else {
                continue;
            };
            if site.tree.state(&id, &target) >= State::Built {
                continue;
            }
            kernel.need_headers()?;
            let inputs = inputs.get_or_insert_with(|| Inputs::of(&kernel, &notes).ok());
            let recipe = Recipe { site, options, id: &id, kernel: &kernel, conf: &conf, environment: &environment };
            let key = inputs.as_ref().filter(|_| !site.builds_as_root(&id)).and_then(|it| it.key(&recipe).ok());
            let kept = store.as_ref().zip(key.as_ref()).is_some_and(|(store, key)| store.get(key).is_some());
            if !kept {
                jobs.push(Job { id, target: target.clone(), key });
            }
        }
    }
    Ok(jobs)
}

/// The kernels that something can be built for.
fn with_headers(site: &Site) -> Vec<Target> {
    let arch = Target::running().arch;
    let targets = names(&site.framework.install_tree).into_iter().map(|release| Target::new(release, &arch));
    targets.filter(|target| Kernel::new(site, target, None, None).has_headers()).collect()
}

impl Job {
    fn to_json(&self) -> Value {
        let Self { id, target, key } = self;
        json!({
            "module": id.name, "version": id.version, "kernel": target.release, "arch": target.arch, "key": key,
        })
    }

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

    /// Refuses a job that would make something else here than where it was planned.
    ///
    /// # Errors
    /// Another key.
    pub fn check(&self, site: &Site, options: &Options) -> Result<()> {
        let invocation = Invocation {
            name: Some(self.id.name.clone()),
            version: Some(self.id.version.clone()),
            targets: vec![self.target.clone()],
            options: options.clone(),
            ..Invocation::new(crate::commands::Action::Plan)
        };
        match jobs(site, &invocation)?.pop() {
            Some(here) if self.key.is_some() && here.key != self.key => {
                Err(Error::OtherJob { id: self.id.to_string(), kernel: self.target.to_string() })
            }
            _ => Ok(()),
        }
    }
}
