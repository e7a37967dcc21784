// SPDX-License-Identifier: GPL-2.0-or-later
//! `generate_mok`: makes the key pair that modules are signed with.

use crate::error::{Error, Result};
use crate::model::framework::Framework;
use crate::model::module::Target;
use crate::model::site::Site;
use crate::steps::sign;

/// Makes the pair, unless there is one.
pub fn run(site: &Site) -> Result<()> {
    let (framework, _) = Framework::read(&site.paths, &Target::running().release)?;
    let mut said = String::new();
    let keys = sign::keys(site, &framework, &mut said);
    site.output.block().print(said);
    keys.map(drop).ok_or(Error::silent(1))
}
