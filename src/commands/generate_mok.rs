// SPDX-License-Identifier: GPL-2.0-or-later
//! `generate_mok`: makes the key pair that modules are signed with.

use crate::commands::lock;
use crate::error::{Error, Result};
use crate::model::framework::Framework;
use crate::model::module::Target;
use crate::model::site::Site;
use crate::steps::sign;

/// Makes the pair, unless there is one.
pub fn run(site: &Site) -> Result<()> {
    // Two at a time would leave the key of one and the certificate of the other.
    let _lock = site.need_tree().and_then(|()| lock(site)).ok();
    let (framework, _) = Framework::read(&site.paths, &[("kernelver", Target::running().release)])?;
    let mut said = String::new();
    let keys = sign::keys(site, &framework, &mut said);
    site.output.block().print(said);
    keys.map(drop).map_err(|half| half.map_or(Error::silent(1), |half| Error::HalfPair(half.to_string())))
}
