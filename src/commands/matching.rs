// SPDX-License-Identifier: GPL-2.0-or-later
//! `match`: installs for one kernel what is installed for another.

use crate::commands::{Invocation, lock};
use crate::error::{Error, Result};
use crate::model::kernel::Kernel;
use crate::model::module::{Id, Target};
use crate::model::site::Site;
use crate::model::tree::State;
use crate::plan::Plan;
use crate::request::{Announced, Goal, Modules, Request};
use crate::{report, run};

/// `match`
pub fn run(site: &Site, invocation: &Invocation) -> Result<()> {
    site.need_root()?;
    let usage = |text: &str, code| Err(Error::Usage { text: text.into(), code });
    let (Some(template), Some(target)) = (&invocation.template, invocation.targets.first()) else {
        return usage(
            "Invalid number of parameters passed.\nUsage: match --templatekernel=<kernel-version> -k \
             <kernel-version>\n   or: match --templatekernel=<kernel-version> -k <kernel-version> <module>",
            1,
        );
    };
    if *template == target.release {
        return usage("The templatekernel and the specified kernel version are the same.", 2);
    }
    let _lock = lock(site)?;
    if let Some(name) = invocation.name.as_ref().filter(|name| !site.tree.modules().contains(name)) {
        return usage(&format!("The module: {name} is not located in the DKMS tree."), 3);
    }
    let template = Target::new(template, &target.arch);
    let say = site.output.block();
    say.say(format!("\nMatching modules in kernel: {target}\nto the configuration of kernel: {template}"));
    let modules = installed(site, invocation, &template);
    if modules.is_empty() {
        say.say("\nThere is nothing to be done for this match.");
        return Ok(());
    }
    let options = &invocation.options;
    Kernel::new(site, target, options.headers.as_deref(), options.config.as_deref()).need_headers()?;
    let request = Request {
        goal: Goal::Installed,
        modules: Modules::Named(modules),
        targets: vec![target.clone()],
        announced: Announced::Matching,
        options: options.clone(),
    };
    let plan = Plan::make(site, &request, &say)?;
    drop(say);
    report::last_failure(&run::run(site, &request, &plan)?)
}

/// What is installed for the kernel that is the pattern, and was named if anything was.
fn installed(site: &Site, invocation: &Invocation, template: &Target) -> Vec<Id> {
    let named = |said: &Option<String>, is: &str| said.as_deref().is_none_or(|said| said.is_empty() || said == is);
    let wanted = |id: &Id| named(&invocation.name, &id.name) && named(&invocation.version, &id.version);
    let mut modules = site.tree.all();
    modules.retain(|id| wanted(id) && site.tree.state(id, template) == State::Installed);
    modules
}
