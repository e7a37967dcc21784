// SPDX-License-Identifier: GPL-2.0-or-later
//! Builds that are not made because their result can be had: from the store, or from another place.

use std::time::Duration;

use super::known::Identity;
use super::{Shared, finish};
use crate::error::{Error, Result};
use crate::model::conf::Module;
use crate::model::framework::OnMiss;
use crate::model::store::Made;
use crate::steps::Work;
use crate::steps::fetch::{Miss, Wanted};

/// How long what a place does not have is not asked for again.
const ASK_AGAIN: Duration = Duration::from_secs(15);

/// Whether it has every module that is wanted.
fn is_complete(made: &Made, work: &Work) -> bool {
    let has = |module: &Module| made.files.contains_key(&finish::place(module));
    work.conf.included(work.kernel).is_some_and(|modules| modules.into_iter().all(has))
}

impl Shared<'_> {
    /// What was made of the same before, here or elsewhere. Who asks for a build by force, or wants to see it, gets one.
    pub(super) fn had(&self, identity: &Identity, work: &Work) -> Result<Option<Made>> {
        let wanted = !work.options.force && !self.site.framework.verbose;
        // There is nothing to be seen or forced where nothing can be built.
        if !wanted && work.kernel.has_headers() {
            return Ok(None);
        }
        let kept = identity.key.as_ref().and_then(|key| self.store(work.id)?.get(key));
        match kept.filter(|made| is_complete(made, work)) {
            Some(made) => Ok(Some(made)),
            None => self.fetched(identity, work),
        }
    }

    /// What another place has; what becomes of a module that none has is `on_miss` of framework.conf.
    fn fetched(&self, identity: &Identity, work: &Work) -> Result<Option<Made>> {
        let Work { id, kernel, say, .. } = *work;
        let Some(places) = self.known.places.as_ref().filter(|_| work.options.are_everyday()) else { return Ok(None) };
        let (target, store) = (&kernel.target, self.store(id));
        let origin = self.known.origin(work, identity);
        let wanted = Wanted { key: identity.key.as_ref(), origin: origin.as_ref(), target };
        say.begin(&id.to_string(), &target.release, "fetching");
        let mut no_older = Duration::MAX;
        loop {
            let Miss { why, may_come } = match places.fetch(wanted, store, no_older, say) {
                Ok(made) if is_complete(&made, work) => return Ok(Some(made)),
                Ok(_) => Miss {
                    why: format!("what is there of {id} lacks modules that its dkms.conf names"),
                    may_come: false,
                },
                Err(miss) => miss,
            };
            let (instead, left, code) = match self.site.framework.on_miss {
                OnMiss::Build if kernel.has_headers() => {
                    say.complain(format!("dkms: {id} for kernel {target} is built here: {why}\n"));
                    return Ok(None);
                }
                OnMiss::Build => ("there are no headers to build it with", Duration::ZERO, 21),
                OnMiss::Fail => ("on_miss in framework.conf forbids to build it here", Duration::ZERO, 10),
                // At boot there is no network yet, and would be none for as long as that took.
                OnMiss::Wait(_) if !may_come => {
                    ("on_miss in framework.conf waits only for who answers", Duration::ZERO, 10)
                }
                OnMiss::Wait(limit) => {
                    ("it was waited for as long as on_miss_wait in framework.conf says", places.left(limit), 10)
                }
            };
            if left.is_zero() {
                let (id, kernel, release) = (id.to_string(), target.to_string(), target.release.clone());
                return Err(Error::NotPrebuilt { id, kernel, release, instead, why, code });
            }
            if no_older == Duration::MAX {
                let minutes = (left.as_secs_f64() / 60.0).ceil();
                say.complain(format!("dkms: waiting up to {minutes} min for {id} for kernel {target}: {why}\n"));
            }
            no_older = ASK_AGAIN.min(left);
            std::thread::sleep(no_older);
        }
    }
}
