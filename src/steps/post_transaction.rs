// SPDX-License-Identifier: GPL-2.0-or-later
//! framework.conf's `post_transaction`: a command of the administrator's, which runs after a change.

use std::process::Command;

use crate::error::{Doing, Result, cannot};
use crate::model::framework::Framework;
use crate::model::module::{Id, Target};
use crate::model::site::Site;
use crate::steps::logged::{self, Told};
use crate::system::directories;
use crate::system::lock;
use crate::system::output::Block;
use crate::system::process::plain_environment;

/// What was changed.
#[derive(Debug, Clone, Copy)]
pub struct Transaction<'a> {
    /// The action that did it.
    pub action: &'a str,
    /// The module; none where there may have been any.
    pub id: Option<&'a Id>,
    /// The kernel, of several the first.
    pub target: Option<&'a Target>,
}

impl Transaction<'_> {
    /// As the command, and whatever in framework.conf makes it, is told.
    fn variables(&self) -> Vec<(&'static str, String)> {
        let (release, arch) = match self.target {
            Some(target) => (target.release.clone(), target.arch.clone()),
            None => (String::new(), Target::running().arch),
        };
        let mut variables = vec![("kernelver", release), ("arch", arch), ("action", self.action.to_owned())];
        if let Some(id) = self.id {
            variables.extend([("module", id.name.clone()), ("module_version", id.version.clone())]);
        }
        variables
    }

    /// Runs the command, if there is one; its output goes to a log of its own. A failure is told, no more.
    pub fn end(&self, site: &Site, say: &Block) {
        if site.framework.post_transaction.is_empty() {
            return;
        }
        self.run(site, say).unwrap_or_else(|error| say.warn(error.to_string()));
    }

    fn run(&self, site: &Site, say: &Block) -> Result<()> {
        let variables = self.variables();
        let (framework, _) = Framework::read(&site.paths, &variables)?;
        let script = framework.post_transaction.as_str();
        let log = site.tree.root().join("post_transaction.log");
        let mut command = Command::new("bash");
        command.args(["-c", script]).env(lock::HELD, lock::held_by());
        plain_environment(&mut command).envs(variables);
        let description = "Executing post-transaction command";
        // What is left of an older one is not this one's; and the log is for people who look for what went wrong: it is no
        // reason to fail.
        directories::remove_any(&log).doing(cannot("clear", &log))?;
        logged::run(site, say, &log, &mut command, Told { description, text: script, names: &[] }).map(drop)
    }
}
