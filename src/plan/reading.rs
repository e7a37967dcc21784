// SPDX-License-Identifier: GPL-2.0-or-later
//! Reading the dkms.conf files of registered modules, as many at once as are needed.

use std::collections::HashMap;
use std::path::PathBuf;

use super::{Step, Verdict, judge, remarks_on};
use crate::error::Result;
use crate::model::conf::{Conf, Question};
use crate::model::kernel::Kernel;
use crate::model::module::{Id, Target};
use crate::model::options::Options;
use crate::model::site::Site;
use crate::request::Request;

/// A dkms.conf read for one kernel, or why it could not be.
pub struct Reading {
    pub kernel: Kernel,
    pub conf: Result<Conf>,
}

impl Reading {
    /// Reads those of several modules, each for a kernel, in their order.
    pub fn all(site: &Site, options: &Options, wanted: &[(Id, Target)]) -> Vec<Self> {
        let mut kernels = HashMap::new();
        for (_, target) in wanted {
            let new = || Kernel::new(site, target, options.headers.as_deref(), options.config.as_deref());
            kernels.entry(target).or_insert_with(new);
        }
        let questions: Vec<Question> =
            wanted.iter().map(|(id, target)| question(site, options, id, &kernels[target])).collect();
        let read = |(conf, (_, target)): (_, &(Id, Target))| Self { kernel: kernels[target].clone(), conf };
        Question::answer_all(&questions).into_iter().zip(wanted).map(read).collect()
    }

    /// The same for one kernel.
    pub fn all_for(site: &Site, options: &Options, ids: &[Id], target: &Target) -> Vec<Self> {
        let wanted: Vec<(Id, Target)> = ids.iter().map(|id| (id.clone(), target.clone())).collect();
        Self::all(site, options, &wanted)
    }

    /// Goes through what can be known without building.
    pub fn into_step(self, site: &Site, request: &Request, id: &Id) -> Step {
        let file = conf_file(site, &request.options, id);
        let mut remarks = Vec::new();
        let (conf, verdict) = match self.conf {
            Ok(conf) => {
                remarks = remarks_on(&conf, &file.to_string_lossy(), &request.options.action);
                let verdict =
                    judge(site, request, id, &self.kernel, &conf, &mut remarks).unwrap_or_else(Verdict::Refused);
                (Some(conf), verdict)
            }
            Err(error) => (None, Verdict::Refused(error)),
        };
        Step { conf, remarks, ..Step::new(request, id, self.kernel, verdict) }
    }
}

/// The dkms.conf that speaks for a registered module.
fn conf_file(site: &Site, options: &Options, id: &Id) -> PathBuf {
    options.conf.clone().unwrap_or_else(|| site.tree.source_link(id).join("dkms.conf"))
}

/// What is asked of a registered module's dkms.conf for one kernel.
pub fn question<'a>(site: &'a Site, options: &'a Options, id: &'a Id, kernel: &'a Kernel) -> Question<'a> {
    Question {
        site,
        kernel,
        id: Some(id),
        file: conf_file(site, options, id),
        directives: &options.directives,
        action: &options.action,
        force: options.force,
    }
}

/// Reads the dkms.conf of a registered module for one kernel.
pub fn read_conf(site: &Site, options: &Options, id: &Id, kernel: &Kernel) -> Result<Conf> {
    question(site, options, id, kernel).answer()
}
